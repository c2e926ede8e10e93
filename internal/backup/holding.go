package backup

import (
	"context"
	"time"

	"holdfast/internal/db"
)

// A Holding is how much one location holds of one store, counted and not listed:
// what a page of many stores needs.
type Holding struct {
	Snapshots int       // complete
	Waiting   int       // of them without a receipt
	Stored    int64     // bytes that they added
	Newest    time.Time // instant that the newest complete one stands for
	Received  time.Time // the vault's time on the newest receipt; zero: none
}

// A Spot is one store in one location.
type Spot struct{ Store, Location string }

// Holdings returns what every location holds of every store.
func (m *Module) Holdings(ctx context.Context) (map[Spot]Holding, error) {
	var out map[Spot]Holding
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = map[Spot]Holding{}
		rows, err := tx.Query(ctx, `SELECT c.store, c.location, COUNT(*), SUM(CASE WHEN c.received = 0 THEN 1 ELSE 0 END), CAST(SUM(s.stored) AS BIGINT), MAX(s.created), MAX(c.received)
			FROM backup_copies c JOIN backup_snapshots s ON s.store = c.store AND s.id = c.snapshot
			WHERE c.state = 'complete' GROUP BY c.store, c.location`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var at Spot
			var h Holding
			var newest, received int64
			if err := rows.Scan(&at.Store, &at.Location, &h.Snapshots, &h.Waiting, &h.Stored, &newest, &received); err != nil {
				return err
			}
			h.Newest, h.Received = db.Time(newest), db.Time(received)
			out[at] = h
		}
		return rows.Err()
	})
	return out, err
}

// AllFrontiers says how far every log has come, as Frontiers does for one store.
func (m *Module) AllFrontiers(ctx context.Context) (map[Spot]Frontier, error) {
	var out map[Spot]Frontier
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = map[Spot]Frontier{}
		rows, err := tx.Query(ctx, `SELECT store, `+frontierColumns+` FROM backup_frontiers WHERE location <> ''`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var store string
			f, err := scanFrontier(rows.Scan, &store)
			if err != nil {
				return err
			}
			out[Spot{store, f.Place}] = f
		}
		return rows.Err()
	})
	return out, err
}

const frontierColumns = `location, lineage, timeline, position, last_commit, caught_up, at, error, gap, gap_at`

// scanFrontier reads one row: what comes first, then frontierColumns.
func scanFrontier(scan func(...any) error, first ...any) (f Frontier, err error) {
	var timeline, position, commit, caught, at, gapAt int64
	if err := scan(append(first, &f.Place, &f.Lineage, &timeline, &position, &commit, &caught, &at, &f.Err, &f.Gap, &gapAt)...); err != nil {
		return f, err
	}
	f.Timeline, f.Position = uint32(timeline), uint64(position)
	f.LastCommit, f.CaughtUp, f.At, f.GapAt = db.Time(commit), db.Time(caught), db.Time(at), db.Time(gapAt)
	return f, nil
}
