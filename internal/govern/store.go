package govern

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// Limits of one query.
const (
	MaxDuties = 50000 // open ones
	MaxClosed = 1000  // that are listed
	MaxItems  = 50000
)

func bit(open bool) int {
	if open {
		return 1
	}
	return 0
}

func (m *Module) duties(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Duty, error) {
	return db.Collect(func(rows *sql.Rows) (d Duty, err error) {
		var body string
		if err := rows.Scan(&body); err != nil {
			return d, err
		}
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			return d, fmt.Errorf("stored duty: %w", err)
		}
		return d, nil
	})(tx.Query(ctx, `SELECT body FROM govern_duties `+where, args...))
}

// unfinished returns what has no outcome yet.
func (m *Module) unfinished(ctx context.Context, tx *db.Tx) ([]Duty, error) {
	return m.duties(ctx, tx, `WHERE open = 1 ORDER BY due, id LIMIT ?`, MaxDuties)
}

// last returns the newest duty of a name that was done.
func (m *Module) last(ctx context.Context, tx *db.Tx, name string) (Duty, bool, error) {
	ds, err := m.duties(ctx, tx, `WHERE name = ? AND open = 0 ORDER BY due DESC LIMIT ?`, name, MaxClosed)
	if err != nil {
		return Duty{}, false, err
	}
	i := slices.IndexFunc(ds, func(d Duty) bool { return d.Outcome == Done })
	if i < 0 {
		return Duty{}, false, nil
	}
	return ds[i], true, nil
}

// find returns a duty by its id, or the open one by its name.
func (m *Module) find(ctx context.Context, tx *db.Tx, id string) (Duty, error) {
	ds, err := m.duties(ctx, tx, `WHERE id = ? OR name = ? AND open = 1 ORDER BY open DESC, due LIMIT 2`, id, id)
	if err != nil {
		return Duty{}, err
	}
	if len(ds) == 0 {
		return Duty{}, holdfast.WithHint(fmt.Errorf("no duty %q: %w", id, holdfast.ErrUsage), "\"holdfast review list --all\" lists them")
	}
	return ds[0], nil
}

func (m *Module) save(ctx context.Context, tx *db.Tx, d Duty) error {
	d.State = ""
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO govern_duties (id, name, open, due, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET open = excluded.open, due = excluded.due, body = excluded.body`, d.ID, d.Name, bit(d.Outcome == ""), db.Micros(d.Due), string(b))
	return err
}

// newID names a duty after the day on which it is expected. A second one of that day has
// a number.
func (m *Module) newID(ctx context.Context, tx *db.Tx, name string, due time.Time) (string, error) {
	base := name + "@" + due.UTC().Format(time.DateOnly)
	for n := 1; ; n++ {
		id := base
		if n > 1 {
			id = fmt.Sprintf("%s.%d", base, n)
		}
		var there int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM govern_duties WHERE id = ?`, id).Scan(&there); err != nil {
			return "", err
		}
		if there == 0 {
			return id, nil
		}
	}
}

// An item is a risk, an exception or a store that is live.
func put(ctx context.Context, tx *db.Tx, kind, id string, open bool, at time.Time, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO govern_items (kind, id, open, at, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (kind, id) DO UPDATE SET open = excluded.open, body = excluded.body`, kind, id, bit(open), db.Micros(at), string(b))
	return err
}

// items reads those of one kind, in the order of their ids.
func items[T any](ctx context.Context, tx *db.Tx, kind string) ([]T, error) {
	return db.Collect(func(rows *sql.Rows) (v T, err error) {
		var body string
		if err := rows.Scan(&body); err != nil {
			return v, err
		}
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			return v, fmt.Errorf("stored %s: %w", kind, err)
		}
		return v, nil
	})(tx.Query(ctx, `SELECT body FROM govern_items WHERE kind = ? ORDER BY id LIMIT ?`, kind, MaxItems))
}

// remembered reads what was remembered of earlier looks.
func (m *Module) remembered(ctx context.Context, tx *db.Tx) (map[string]string, error) {
	rows, err := tx.Query(ctx, `SELECT what, value FROM govern_seen`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		out[k] = v
	}
	return out, rows.Err()
}

func (m *Module) remember(ctx context.Context, tx *db.Tx, what, value string) error {
	_, err := tx.Exec(ctx, `INSERT INTO govern_seen (what, value, at) VALUES (?, ?, ?) ON CONFLICT (what) DO UPDATE SET value = excluded.value, at = excluded.at`,
		what, value, db.Micros(m.cfg.Clock()))
	return err
}

// List returns the open duties, most urgent first, and with all the newest of those
// that have an outcome. It settles first, so that what it says is of now.
func (m *Module) List(ctx context.Context, all bool) (ds []Duty, err error) {
	if err := m.Settle(ctx); err != nil {
		return nil, err
	}
	return m.Open(ctx, all)
}

// Open is List without looking at anything: what was known at the last look, judged by
// the time of now.
func (m *Module) Open(ctx context.Context, all bool) (ds []Duty, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		if ds, err = m.unfinished(ctx, tx); err != nil || !all {
			return err
		}
		closed, err := m.duties(ctx, tx, `WHERE open = 0 ORDER BY due DESC, id LIMIT ?`, MaxClosed)
		ds = append(ds, closed...)
		return err
	})
	if ds == nil {
		ds = []Duty{} // of JSON: nothing is a list too
	}
	now := m.cfg.Clock()
	for i := range ds {
		ds[i].State = ds[i].StateAt(now)
	}
	order := []string{Overdue, Due, Expected, Done, Missed, Withdrawn}
	slices.SortStableFunc(ds, func(a, b Duty) int { return slices.Index(order, a.State) - slices.Index(order, b.State) })
	return ds, err
}

// Get returns one duty.
func (m *Module) Get(ctx context.Context, id string) (d Duty, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		d, err = m.find(ctx, tx, id)
		return err
	})
	d.State = d.StateAt(m.cfg.Clock())
	return d, err
}

func list(names []string) string { return strings.Join(names, ", ") }
