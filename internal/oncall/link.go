package oncall

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/seal"
)

// Limits of links.
const (
	// LinkValid is how long a link in a message answers.
	LinkValid = 24 * time.Hour
	// linkKept is how long a link that ended is still told from one that never was.
	linkKept = 30 * 24 * time.Hour
)

// A Link answers the calls of one message for the person to whom it was sent. Whoever
// holds it can do that and nothing else. It answers once, and looking at it changes
// nothing: programs that read mail follow links.
//
// The secret has 256 random bits and the state keeps its hash, so nobody makes one up; the
// text of the message holds it until that is deleted.
type Link struct {
	Person  string
	Expires time.Time
	Used    time.Time // zero: not yet
	Calls   []Call
}

// newLink makes a link for what one message asks an answer for; "" for nothing.
func (m *Module) newLink(ctx context.Context, tx *db.Tx, person string, cs []Call, now time.Time) (string, error) {
	var ids []int64
	for _, c := range cs {
		if !c.Notice && !c.isNews() {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 || m.cfg.Link == nil || m.cfg.Link("") == "" {
		return "", nil
	}
	b, err := json.Marshal(ids)
	if err != nil {
		return "", err
	}
	secret := seal.Token()
	if _, err := tx.Exec(ctx, "INSERT INTO oncall_links (hash, person, calls, expires, used_at) VALUES (?, ?, ?, ?, 0)", seal.TokenHash(secret), person, string(b), now.Add(LinkValid)); err != nil {
		return "", err
	}
	return m.cfg.Link(secret), nil
}

// Link shows what a link answers.
func (m *Module) Link(ctx context.Context, secret string) (l Link, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		l, err = m.link(ctx, tx, secret)
		return err
	})
	return l, err
}

func (m *Module) link(ctx context.Context, tx *db.Tx, secret string) (l Link, err error) {
	type row struct {
		Link
		ids string
	}
	rows, err := db.Collect(func(r *sql.Rows) (x row, err error) {
		var expires, used int64
		err = r.Scan(&x.Person, &x.ids, &expires, &used)
		x.Expires, x.Used = db.Time(expires), db.Time(used)
		return x, err
	})(tx.Query(ctx, "SELECT person, calls, expires, used_at FROM oncall_links WHERE hash = ?", seal.TokenHash(secret)))
	if err != nil {
		return l, err
	}
	if len(rows) == 0 {
		return l, holdfast.WithHint(fmt.Errorf("nobody sent such a link: %w", ErrNotFound), "copy all of it from the message; \"holdfast oncall ack\" answers, too")
	}
	var ids []int64
	if err := json.Unmarshal([]byte(rows[0].ids), &ids); err != nil {
		return l, err
	}
	l = rows[0].Link
	for _, id := range ids {
		c, err := m.get(ctx, tx, id)
		if err != nil {
			return l, err
		}
		l.Calls = append(l.Calls, c)
	}
	return l, nil
}

// UseLink ends a link and returns whose word it is, and about which calls. The caller
// answers them. A link that was used, or whose time is over, answers nothing.
//
// A crash between its end and the answers leaves calls that are not answered: the next
// person is called, which is the safe side.
func (m *Module) UseLink(ctx context.Context, secret string) (l Link, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if l, err = m.link(ctx, tx, secret); err != nil {
			return err
		}
		now := m.cfg.Clock()
		otherwise := "answer with \"holdfast oncall ack\", or log in"
		switch {
		case !l.Used.IsZero():
			return holdfast.WithHint(fmt.Errorf("this link was used at %s: %w", l.Used.UTC().Format(time.RFC3339), holdfast.ErrRefused), "%s", otherwise)
		case !now.Before(l.Expires):
			return holdfast.WithHint(fmt.Errorf("this link ended at %s: %w", l.Expires.UTC().Format(time.RFC3339), holdfast.ErrRefused), "%s", otherwise)
		}
		_, err := tx.Exec(ctx, "UPDATE oncall_links SET used_at = ? WHERE hash = ?", now, seal.TokenHash(secret))
		return err
	})
	return l, err
}

// PruneLinks deletes links that ended long ago, and returns how many.
func (m *Module) PruneLinks(ctx context.Context) (n int64, err error) {
	err = m.cfg.DB.TxReadCommitted(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM oncall_links WHERE expires < ?", m.cfg.Clock().Add(-linkKept))
		return err
	})
	return n, err
}

// linked is what a message says of its link.
func linked(link string) string {
	if link == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nOr open this and press the button; it answers once, for you, within %s:\n\n    %s\n", holdfast.FormatDuration(LinkValid), link)
	return b.String()
}
