package backup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
)

// ReasonScheduled is that of backups that the plan's schedule asks for. Only they leave
// out a location whose turn has not come: whoever asks for a backup now gets it
// everywhere.
const ReasonScheduled = "scheduled"

// A location may have a cycle of its own ([Policy.Cycle]): it is brought up to date once
// in that time, with all that was made meanwhile, so that the chain of snapshots is whole
// there as everywhere. The log of a store goes to it at once all the same.

// turn is when a location is brought up to date next: a cycle after the newest snapshot
// that is complete there. Zero is at once. The snapshot of that time goes there first and
// brings the others with it; where none comes, they go half an interval later.
func (m *Module) turn(ctx context.Context, tx *db.Tx, p Policy, location string) (time.Time, error) {
	cycle := p.Cycle[location]
	if cycle <= 0 {
		return time.Time{}, nil
	}
	var newest int64
	err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(s.created), 0) FROM backup_snapshots s JOIN backup_copies c ON c.store = s.store AND c.snapshot = s.id
		WHERE s.store = ? AND c.location = ? AND c.state = 'complete'`, p.Store, location).Scan(&newest)
	if err != nil || newest == 0 {
		return time.Time{}, err
	}
	return db.Time(newest).Add(cycle), nil
}

// bringUp asks for what a location with a cycle was left out of, now that its turn has
// come with a new snapshot.
func (m *Module) bringUp(ctx context.Context, tx *db.Tx, p Policy, location string) error {
	if p.Cycle[location] <= 0 {
		return nil
	}
	known, err := m.copyRows(ctx, tx, p.Store)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if known[id][location].state != stateMissing {
			continue
		}
		if _, err := m.cfg.Jobs.Enqueue(ctx, tx, copyJob(KindCopy, copyArgs{p.Store, id, location}, m.cfg.Clock())); err != nil {
			return err
		}
	}
	return nil
}

// copyJob is the job of a kind for one copy.
func copyJob(kind string, a copyArgs, at time.Time) job.Insert {
	return job.Insert{Kind: kind, Key: kind + ":" + a.Store + ":" + a.Snapshot + ":" + a.Location, Args: a, RunAt: at}
}

// inTurn takes the places out whose turn comes later, and notes them among those that are
// away. A turn that comes before the next backup is now: half an interval is the doubt of
// two clocks and of work that took its time. If it is nobody's turn, all get it.
func (m *Module) inTurn(ctx context.Context, p Policy, places []repo.Place, away map[string]error) ([]repo.Place, error) {
	now := m.cfg.Clock()
	later := map[string]error{}
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		clear(later)
		for _, pl := range places {
			at, err := m.turn(ctx, tx, p, pl.Name)
			if err != nil {
				return err
			}
			if at.After(now.Add(p.Every / 2)) {
				later[pl.Name] = fmt.Errorf("it is brought up to date every %s, next at %s", holdfast.FormatDuration(p.Cycle[pl.Name]), at.UTC().Format(time.RFC3339))
			}
		}
		return nil
	})
	if err != nil || len(later) == len(places) {
		return places, err
	}
	var out []repo.Place
	for _, pl := range places {
		if why, ok := later[pl.Name]; ok {
			away[pl.Name] = why
			continue
		}
		out = append(out, pl)
	}
	return out, nil
}
