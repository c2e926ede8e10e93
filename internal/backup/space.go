package backup

import (
	"context"
	"time"

	"holdfast/internal/db"
)

// A Space is how much room a location had at one instant.
type Space struct {
	At          time.Time
	Total, Free int64 // bytes
}

// spaceKept is for how long the room of each day is remembered: more than any trend needs.
const spaceKept = 90 * day

const day = 24 * time.Hour

// NoteSpace writes down how much room a location has; the first look of each day of UTC
// counts. A crash before it ends costs one look, and the next one is written.
func (m *Module) NoteSpace(ctx context.Context, location string, s Space) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO backup_space (location, day, at, total, free) VALUES (?, ?, ?, ?, ?) ON CONFLICT (location, day) DO NOTHING`,
			location, s.At.Unix()/int64(day/time.Second), db.Micros(s.At), s.Total, s.Free); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM backup_space WHERE location = ? AND at < ?`, location, db.Micros(s.At.Add(-spaceKept)))
		return err
	})
}

// Spaces returns what was noted of every location until now, oldest first.
func (m *Module) Spaces(ctx context.Context, now time.Time) (map[string][]Space, error) {
	var out map[string][]Space
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = map[string][]Space{}
		rows, err := tx.Query(ctx, `SELECT location, at, total, free FROM backup_space WHERE at <= ? ORDER BY location, at`, db.Micros(now))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var location string
			var s Space
			var at int64
			if err := rows.Scan(&location, &at, &s.Total, &s.Free); err != nil {
				return err
			}
			s.At = db.Time(at)
			out[location] = append(out[location], s)
		}
		return rows.Err()
	})
	return out, err
}

// Added returns how many bytes the snapshots since an instant added to each location. Logs
// are not counted.
func (m *Module) Added(ctx context.Context, since, now time.Time) (map[string]int64, error) {
	var out map[string]int64
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = map[string]int64{}
		rows, err := tx.Query(ctx, `SELECT c.location, CAST(SUM(s.stored) AS BIGINT) FROM backup_copies c JOIN backup_snapshots s ON s.store = c.store AND s.id = c.snapshot
			WHERE c.state = 'complete' AND s.finished > ? AND s.finished <= ? GROUP BY c.location`, db.Micros(since), db.Micros(now))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var location string
			var n int64
			if err := rows.Scan(&location, &n); err != nil {
				return err
			}
			out[location] = n
		}
		return rows.Err()
	})
	return out, err
}
