package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// ErrNotFound is a drill that does not exist.
var ErrNotFound = errors.New("no such drill")

// MaxDrills bounds what List returns.
const MaxDrills = 1000

func (m *Module) save(ctx context.Context, tx *db.Tx, d Drill) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE drill_drills SET state = ?, started = ?, finished = ?, rung = ?, result = ?, fact = ? WHERE id = ?`,
		d.State, db.Micros(d.Started), db.Micros(d.Finished), int64(d.Rung), string(b), d.Fact, d.ID)
	return err
}

func (m *Module) get(ctx context.Context, tx *db.Tx, id string) (Drill, error) {
	ds, err := m.query(ctx, tx, `WHERE id = ?`, id)
	if err != nil {
		return Drill{}, err
	}
	if len(ds) == 0 {
		return Drill{}, holdfast.WithHint(fmt.Errorf("drill %q: %w", id, ErrNotFound), "\"holdfast drill list\" lists the drills")
	}
	return ds[0], nil
}

func (m *Module) query(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Drill, error) {
	rows, err := tx.Query(ctx, `SELECT result FROM drill_drills `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Drill
	for rows.Next() {
		var b string
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		var d Drill
		if err := json.Unmarshal([]byte(b), &d); err != nil {
			return nil, fmt.Errorf("stored drill: %w", err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// Get returns one drill.
func (m *Module) Get(ctx context.Context, id string) (d Drill, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		d, err = m.get(ctx, tx, id)
		return err
	})
	return d, err
}

// List returns the drills of a store, or of all with "", newest first.
func (m *Module) List(ctx context.Context, store string) (ds []Drill, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		if store == "" {
			ds, err = m.query(ctx, tx, `ORDER BY planned DESC, id DESC LIMIT ?`, MaxDrills)
		} else {
			ds, err = m.query(ctx, tx, `WHERE store = ? ORDER BY planned DESC, id DESC LIMIT ?`, store, MaxDrills)
		}
		return err
	})
	return ds, err
}

// LastPassed returns the newest drill of a store that passed.
func (m *Module) LastPassed(ctx context.Context, store string) (d Drill, ok bool, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ds, err := m.query(ctx, tx, `WHERE store = ? AND state = ? ORDER BY planned DESC, id DESC LIMIT 1`, store, StatePassed)
		if err == nil && len(ds) == 1 {
			d, ok = ds[0], true
		}
		return err
	})
	return d, ok, err
}

// LastRead is when a drill last read all of a store back at a location; zero if
// none did, or if one has found damage since.
func (m *Module) LastRead(ctx context.Context, location, store string) (time.Time, error) {
	ds, err := m.List(ctx, store)
	if err != nil {
		return time.Time{}, err
	}
	return LastReads(ds)[Read{store, location}], nil
}

// A Read names a store at a location.
type Read struct{ Store, Location string }

// LastReads is when each store was last read back whole at each location, as
// LastRead says it. The drills are the newest first.
func LastReads(ds []Drill) map[Read]time.Time {
	out := map[Read]time.Time{}
	for _, d := range ds {
		at := Read{d.Store, d.Location}
		if _, known := out[at]; known {
			continue
		}
		switch {
		case slices.ContainsFunc(d.Checks, func(c holdfast.Check) bool { return c.Rung == holdfast.L2 && c.Outcome == holdfast.Failed }):
			out[at] = time.Time{}
		case d.Unread == 0 && d.passedRung(holdfast.L2):
			out[at] = d.Finished
		}
	}
	return out
}

// passedRung reports whether every check of a rung passed, and there was one.
func (d Drill) passedRung(r holdfast.Rung) bool {
	n := 0
	for _, c := range d.Checks {
		if c.Rung == r {
			if c.Outcome != holdfast.Passed {
				return false
			}
			n++
		}
	}
	return n > 0
}

// readSince returns the packs of a location that were read back since then.
func (m *Module) readSince(ctx context.Context, location string, since time.Time) (map[string]bool, error) {
	out := map[string]bool{}
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		clear(out)
		rows, err := tx.Query(ctx, `SELECT pack FROM drill_reads WHERE location = ? AND at >= ?`, location, db.Micros(since))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p string
			if err := rows.Scan(&p); err != nil {
				return err
			}
			out[p] = true
		}
		return rows.Err()
	})
	return out, err
}
