package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
)

// reconcile learns from the locations which snapshots they hold: after a crash,
// or when the state was lost, the locations know more than the database. Then it
// sees to it that every location gets what it misses, and every copy its receipt:
// the crash may have been before that was asked for, or a location away for longer
// than anybody tried.
//
// A copy that was complete once and is not at its location any more is not made
// again here: it may have been removed on purpose, and drills find it if not.
func (m *Module) reconcile(ctx context.Context, w *job.Work) error {
	var a storeArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	p, err := m.policy(a.Store)
	if err != nil {
		return job.Permanent(err)
	}
	places, away, err := m.places(ctx, p)
	if err != nil {
		return err
	}
	var known copyRows
	if err := m.cfg.DB.View(ctx, func(tx *db.Tx) (err error) {
		known, err = m.copyRows(ctx, tx, a.Store)
		return err
	}); err != nil {
		return err
	}
	var found []foundCopy
	held := map[string]bool{} // snapshots that some location within reach lists
	for _, pl := range places {
		ids, err := pl.Repo.SnapshotIDs(ctx, a.Store)
		if err != nil {
			away[pl.Name] = err // the others do not suffer for it
			continue
		}
		for _, id := range ids {
			held[id] = true
			if s := known[id][pl.Name].state; s == "complete" || s == stateRemoved {
				continue
			}
			man, err := pl.Repo.Manifest(ctx, a.Store, id)
			if err == nil {
				err = man.Verify(m.cfg.Writer(a.Store))
			}
			if err != nil {
				// What is not ours, or cannot be read, is not a backup of ours.
				m.cfg.Log.Warn("snapshot passed over", "store", a.Store, "location", pl.Name, "err", err)
				continue
			}
			found = append(found, foundCopy{man, pl.Name})
		}
	}
	if len(away) == len(p.Locations) {
		return fmt.Errorf("store %q: no location can be listed: %w", a.Store, errors.Join(slices.Collect(maps.Values(away))...))
	}
	return w.Done(ctx, nil, func(tx *db.Tx) error {
		known, err := m.copyRows(ctx, tx, a.Store)
		if err != nil {
			return err
		}
		for _, f := range found {
			if known[f.man.ID][f.location].state == "complete" {
				continue // a copy job was faster
			}
			if err := m.record(ctx, tx, a.Store, f.man, 0); err != nil {
				return err
			}
			if err := m.setCopy(ctx, tx, copyArgs{a.Store, f.man.ID, f.location}, "complete", "found at the location"); err != nil {
				return err
			}
			known.set(f.man.ID, f.location, copyRow{state: "complete"})
		}
		for _, id := range slices.Sorted(maps.Keys(known)) {
			for _, location := range p.Locations {
				if err := m.settleCopy(ctx, tx, p, copyArgs{a.Store, id, location}, known[id][location], away[location], held[id]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

type foundCopy struct {
	man      *repo.Manifest
	location string
}

// settleCopy asks for what one copy still needs: its content, or its receipt.
func (m *Module) settleCopy(ctx context.Context, tx *db.Tx, p Policy, a copyArgs, row copyRow, away error, held bool) error {
	kind := KindReceive
	var turn time.Time // of a location with a cycle
	switch {
	case row.state == "complete" && row.received != 0, row.state == stateRemoved:
		return nil
	case row.state == "complete":
	case !held && away == nil:
		return nil // nobody within reach has it, and the location does not either
	default:
		kind = KindCopy
		var err error
		if turn, err = m.turn(ctx, tx, p, a.Location); err != nil {
			return err
		}
		if !turn.IsZero() {
			turn = turn.Add(p.Every / 2)
		}
		if row.state == "" {
			detail := "not at the location"
			if away != nil {
				detail = away.Error()
			}
			if err := m.setCopy(ctx, tx, a, stateMissing, detail); err != nil {
				return err
			}
		}
	}
	_, err := m.cfg.Jobs.Enqueue(ctx, tx, copyJob(kind, a, turn))
	return err
}

// copyRow is what the state knows of one copy; copyRows is indexed by snapshot and
// location.
type copyRow struct {
	state    string
	received int64
}

type copyRows map[string]map[string]copyRow

func (c copyRows) set(snapshot, location string, r copyRow) {
	if c[snapshot] == nil {
		c[snapshot] = map[string]copyRow{}
	}
	c[snapshot][location] = r
}

func (m *Module) copyRows(ctx context.Context, tx *db.Tx, store string) (copyRows, error) {
	rows, err := tx.Query(ctx, `SELECT snapshot, location, state, received FROM backup_copies WHERE store = ?`, store)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := copyRows{}
	for rows.Next() {
		var snapshot, location string
		var r copyRow
		if err := rows.Scan(&snapshot, &location, &r.state, &r.received); err != nil {
			return nil, err
		}
		out.set(snapshot, location, r)
	}
	return out, rows.Err()
}
