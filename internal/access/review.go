package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/ledger"
)

// A ReviewItem asks somebody whether a person keeps their access.
type ReviewItem struct {
	ID       int64     `json:"id"`
	Opened   time.Time `json:"opened"`
	Due      time.Time `json:"due"`
	Person   string    `json:"person"`
	Roles    []Role    `json:"roles"` // as they were
	Reviewer string    `json:"reviewer,omitempty"`
	Decision string    `json:"decision,omitempty"` // keep, remove
	Note     string    `json:"note,omitempty"`
	Decided  time.Time `json:"decided,omitzero"`
}

// The decisions of a review.
const (
	Keep   = "keep"
	Remove = "remove"
)

func scanReview(r *sql.Rows) (i ReviewItem, err error) {
	var roles string
	var opened, due, decided int64
	if err := r.Scan(&i.ID, &opened, &due, &i.Person, &roles, &i.Reviewer, &i.Decision, &i.Note, &decided); err != nil {
		return i, err
	}
	i.Opened, i.Due, i.Decided = db.Time(opened), db.Time(due), db.Time(decided)
	return i, json.Unmarshal([]byte(roles), &i.Roles)
}

func (m *Module) reviewItems(ctx context.Context, tx *db.Tx, where string, args ...any) ([]ReviewItem, error) {
	return db.Collect(scanReview)(tx.Query(ctx, `SELECT id, opened, due, person, roles, reviewer, decision, note, decided FROM access_reviews `+where, args...))
}

// OpenReview asks about everybody who has access. Whoever is asked about already is not
// asked about twice.
func (m *Module) OpenReview(ctx context.Context, by string) (items []ReviewItem, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		items, err = m.openReview(ctx, tx, by)
		return err
	})
	return items, err
}

func (m *Module) openReview(ctx context.Context, tx *db.Tx, by string) ([]ReviewItem, error) {
	now := m.now()
	ps, err := m.people(ctx, tx, `WHERE state <> 'left' AND id NOT IN (SELECT person FROM access_reviews WHERE decision = '') ORDER BY id`)
	if err != nil || len(ps) == 0 {
		return nil, err
	}
	for _, p := range ps {
		roles, err := json.Marshal(p.Roles)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO access_reviews (opened, due, person, roles, reviewer, decision, note, decided) VALUES (?, ?, ?, ?, '', '', '', 0)`, now, now.Add(DecideWithin), p.ID, string(roles)); err != nil {
			return nil, err
		}
	}
	if err := m.fact(ctx, tx, FactReview, "people", by, map[string]any{"what": "opened", "people": len(ps)}); err != nil {
		return nil, err
	}
	return m.reviewItems(ctx, tx, `WHERE decision = '' ORDER BY person`)
}

// Decide says whether a person keeps their access. Removed access ends at once.
func (m *Module) Decide(ctx context.Context, id int64, decision, note, by string) (d Departure, err error) {
	if decision != Keep && decision != Remove {
		return d, wrong("keep or remove", "%q is no decision", decision)
	}
	var person string
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		is, err := m.reviewItems(ctx, tx, `WHERE id = ?`, id)
		if err != nil {
			return err
		}
		if len(is) == 0 || is[0].Decision != "" {
			return wrong("\"holdfast access list\" shows what waits", "review %d waits for no decision", id)
		}
		person = is[0].Person
		if by == person {
			return refuse("let somebody else decide", "%s cannot decide about their own access", by)
		}
		if err := m.mayDecide(ctx, tx, by); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE access_reviews SET reviewer = ?, decision = ?, note = ?, decided = ? WHERE id = ?`, by, decision, clip(note, 1000), m.now(), id); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactReview, "people."+person, by, map[string]string{"what": decision, "note": clip(note, 1000)})
	})
	if err != nil || decision == Keep {
		return d, err
	}
	// A crash here leaves a decision that is not carried out: Tend does it.
	return m.Leave(ctx, person, by, "access review")
}

// Tend does what is due: it ends emergencies that are over, carries out decisions,
// opens reviews, and forgets what has expired. A server calls it once a minute.
func (m *Module) Tend(ctx context.Context) error {
	if !m.Known() {
		return nil
	}
	now := m.now()
	var gone []ReviewItem
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		over, err := m.grants(ctx, tx, `WHERE state = 'given' AND until <= ? LIMIT 1000`, now)
		if err != nil {
			return err
		}
		for _, g := range over {
			g.State = GrantEnded
			if _, err := m.saveGrant(ctx, tx, g, "holdfast", "its time is over"); err != nil {
				return err
			}
		}
		for _, q := range []string{`DELETE FROM access_sessions WHERE expires <= ?`, `DELETE FROM access_links WHERE expires <= ?`, `DELETE FROM access_ceremonies WHERE expires <= ?`, `DELETE FROM access_tokens WHERE expires <= ?`} {
			if _, err := tx.Exec(ctx, q, now); err != nil {
				return err
			}
		}
		if gone, err = m.reviewItems(ctx, tx, `WHERE decision = 'remove' AND person IN (SELECT id FROM access_people WHERE state <> 'left' AND created < access_reviews.decided)`); err != nil {
			return err
		}
		every := m.cfg.ReviewEvery()
		if every == 0 {
			return nil
		}
		var last int64
		if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(opened), 0) FROM access_reviews`).Scan(&last); err != nil {
			return err
		}
		if last == 0 { // the first one is due a period after the first person came
			if err := tx.QueryRow(ctx, `SELECT COALESCE(MIN(created), 0) FROM access_people`).Scan(&last); err != nil {
				return err
			}
		}
		if now.Sub(db.Time(last)) < every {
			return nil
		}
		_, err = m.openReview(ctx, tx, "holdfast")
		return err
	})
	for _, i := range gone {
		if _, lerr := m.Leave(ctx, i.Person, i.Reviewer, "access review"); lerr != nil && err == nil {
			err = lerr
		}
	}
	return err
}

// Log returns what people did, newest first.
func (m *Module) Log(ctx context.Context, person string, limit int) ([]ledger.Fact, error) {
	q := ledger.Query{Type: "access.*", Newest: true, Limit: limit}
	facts, err := m.cfg.Facts.Find(ctx, q)
	if person == "" || err != nil {
		return facts, err
	}
	var out []ledger.Fact
	for _, f := range facts {
		if f.Actor == person || f.Subject == "people."+person {
			out = append(out, f)
		}
	}
	return out, nil
}
