package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/db"
)

// ErrNotFound is a run that does not exist.
var ErrNotFound = errors.New("no such recovery")

// MaxRuns bounds what List returns.
const MaxRuns = 1000

// set writes where a step stands. What is done stays done.
func (m *Module) set(ctx context.Context, tx *db.Tx, run, step, state, detail string) error {
	_, err := tx.Exec(ctx, `UPDATE recovery_steps SET state = ?, detail = ? WHERE run = ? AND id = ? AND state <> ?`, state, db.Text(detail), run, step, StateDone)
	return err
}

func (m *Module) started(ctx context.Context, tx *db.Tx, run, step string) error {
	_, err := tx.Exec(ctx, `UPDATE recovery_steps SET started = ? WHERE run = ? AND id = ?`, db.Micros(m.cfg.Clock()), run, step)
	return err
}

func (m *Module) get(ctx context.Context, tx *db.Tx, id string) (Run, error) {
	rs, err := m.query(ctx, tx, `WHERE id = ?`, id)
	if err != nil {
		return Run{}, err
	}
	if len(rs) == 0 {
		return Run{}, holdfast.WithHint(fmt.Errorf("recovery %q: %w", id, ErrNotFound), "\"holdfast recover list\" lists the recoveries")
	}
	return rs[0], nil
}

func (m *Module) query(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Run, error) {
	rows, err := tx.Query(ctx, `SELECT id, incident, plan, state, activated, finished FROM recovery_runs `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Run
	for rows.Next() {
		var r Run
		var plan string
		var activated, finished int64
		if err := rows.Scan(&r.ID, &r.Incident, &plan, &r.State, &activated, &finished); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(plan), &r.Plan); err != nil {
			return nil, fmt.Errorf("recovery %s: stored plan: %w", r.ID, err)
		}
		r.Activated, r.Finished = db.Time(activated), db.Time(finished)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	for i := range out {
		if err := m.steps(ctx, tx, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m *Module) steps(ctx context.Context, tx *db.Tx, r *Run) error {
	rows, err := tx.Query(ctx, `SELECT id, state, started, finished, actor, detail, outcome FROM recovery_steps WHERE run = ? ORDER BY position`, r.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	declared := map[string]Step{}
	for _, s := range r.Plan.Steps {
		declared[s.ID] = s
	}
	for rows.Next() {
		var d Done
		var id, outcome string
		var started, finished int64
		if err := rows.Scan(&id, &d.State, &started, &finished, &d.Actor, &d.Detail, &outcome); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(outcome), &d.Outcome); err != nil {
			return err
		}
		d.Step, d.Started, d.Finished = declared[id], db.Time(started), db.Time(finished)
		r.Steps = append(r.Steps, d)
	}
	return rows.Err()
}

// Get returns one run with its steps.
func (m *Module) Get(ctx context.Context, id string) (r Run, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		r, err = m.get(ctx, tx, id)
		return err
	})
	return r, err
}

// List returns the runs, newest first.
func (m *Module) List(ctx context.Context) (rs []Run, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		rs, err = m.query(ctx, tx, `ORDER BY activated DESC, id DESC LIMIT ?`, MaxRuns)
		return err
	})
	return rs, err
}
