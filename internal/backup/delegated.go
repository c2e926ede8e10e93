package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/source/foreign"
)

// KindLook asks a supplier which recovery points of a store it has.
const KindLook = "delegated.look"

// Fact types about what a supplier protects.
const (
	FactSeen   = "delegated.seen"   // the supplier's recovery points, as it says
	FactUnseen = "delegated.unseen" // it could not be asked
)

// maxKept bounds how many points of one answer are remembered: the newest.
const maxKept = 500

// A Delegated is what is known of the copies of a store that a supplier makes. All of it
// is the supplier's word, but for At and Seen.
type Delegated struct {
	Store    string          `json:"store"`
	At       time.Time       `json:"at"`                 // of the last look
	Seen     time.Time       `json:"seen,omitzero"`      // of the last look that was answered
	Failures int             `json:"failures,omitempty"` // looks in a row that were not
	Error    string          `json:"error,omitempty"`
	Points   []foreign.Point `json:"points"` // oldest first
	Count    int             `json:"count"`
}

// Until is the newest instant that the supplier gives back; zero if there is none.
func (d Delegated) Until() (t time.Time) {
	for _, p := range d.Points {
		if p.Until.After(t) {
			t = p.Until
		}
	}
	return t
}

// LookArgs are the arguments of KindLook.
type LookArgs struct {
	Store string `json:"store"`
}

// LookJob is the job that asks about a store now.
func LookJob(store string) job.Insert {
	return job.Insert{Kind: KindLook, Key: KindLook + ":" + store, Args: LookArgs{store}, Queue: "delegated"}
}

// look asks a supplier once. That it does not answer is a fact, too, and a slot that
// failed; the next slot asks again.
//
// A crash before the commit costs the look, and the job is given out again; between the
// commit and the end of the job it is looked once more.
func (m *Module) look(ctx context.Context, w *job.Work) error {
	var a LookArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	points, err := m.ask(ctx, a.Store)
	if ctx.Err() != nil {
		return ctx.Err() // we are stopping: that says nothing of the supplier
	}
	now := m.cfg.Clock().UTC()
	note := func(tx *db.Tx) error {
		d, _, rerr := delegated(ctx, tx, a.Store)
		if rerr != nil {
			return rerr
		}
		d.Store, d.At = a.Store, now
		kind := FactSeen
		if err != nil {
			kind, d.Failures, d.Error = FactUnseen, d.Failures+1, holdfast.Tell(err).Error()
		} else {
			d.Seen, d.Failures, d.Error, d.Count = now, 0, "", len(points)
			d.Points = append([]foreign.Point{}, points[max(0, len(points)-maxKept):]...)
		}
		data := map[string]any{"at": now, "count": d.Count, "until": d.Until(), "error": d.Error}
		if len(d.Points) > 0 && err == nil {
			data["newest"] = d.Points[len(d.Points)-1]
		}
		if ferr := m.fact(ctx, tx, kind, a.Store, data); ferr != nil {
			return ferr
		}
		return m.setDelegated(ctx, tx, d)
	}
	if err == nil {
		return w.Done(ctx, nil, note)
	}
	m.cfg.Log.Warn("supplier not asked", "store", a.Store, "err", err, "hint", holdfast.Hint(err))
	if nerr := m.cfg.DB.Tx(ctx, note); nerr != nil {
		return errors.Join(err, nerr)
	}
	return job.Permanent(holdfast.Tell(err))
}

func (m *Module) ask(ctx context.Context, store string) (_ []foreign.Point, err error) {
	if m.cfg.Foreign == nil {
		return nil, errors.New("nobody can be asked here")
	}
	a, err := m.cfg.Foreign(store)
	if err != nil {
		return nil, err
	}
	box, release, err := m.cfg.Outside(ctx)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	defer func() {
		if cerr := release(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	return a.List(ctx, box)
}

func delegated(ctx context.Context, tx *db.Tx, store string) (Delegated, bool, error) {
	ds, err := allDelegated(ctx, tx, `WHERE store = ?`, store)
	if err != nil || len(ds) == 0 {
		return Delegated{}, false, err
	}
	return ds[0], true, nil
}

// AllDelegated returns what is known of each store that a supplier was asked about.
func (m *Module) AllDelegated(ctx context.Context) (out map[string]Delegated, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = map[string]Delegated{}
		ds, err := allDelegated(ctx, tx, `ORDER BY store`)
		for _, d := range ds {
			out[d.Store] = d
		}
		return err
	})
	return out, err
}

func allDelegated(ctx context.Context, tx *db.Tx, where string, args ...any) (out []Delegated, err error) {
	rows, err := tx.Query(ctx, `SELECT store, at, seen, failures, error, points FROM backup_delegated `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d Delegated
		var at, seen int64
		var points string
		if err := rows.Scan(&d.Store, &at, &seen, &d.Failures, &d.Error, &points); err != nil {
			return nil, err
		}
		d.At, d.Seen = db.Time(at), db.Time(seen)
		if err := json.Unmarshal([]byte(points), &d.Points); err != nil {
			return nil, fmt.Errorf("stored points of %q: %w", d.Store, err)
		}
		d.Count = len(d.Points)
		out = append(out, d)
	}
	return out, rows.Err()
}

func (m *Module) setDelegated(ctx context.Context, tx *db.Tx, d Delegated) error {
	points, err := json.Marshal(d.Points)
	if err != nil {
		return err
	}
	if d.Points == nil {
		points = []byte("[]")
	}
	_, err = tx.Exec(ctx, `INSERT INTO backup_delegated (store, at, seen, failures, error, points) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (store) DO UPDATE SET at = excluded.at, seen = excluded.seen, failures = excluded.failures, error = excluded.error, points = excluded.points`,
		d.Store, db.Micros(d.At), db.Micros(d.Seen), d.Failures, db.Text(d.Error), string(points))
	return err
}
