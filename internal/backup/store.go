package backup

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/source"
)

// A Copy is one snapshot at one location.
type Copy struct {
	Store    string            `json:"store"`
	Snapshot string            `json:"snapshot"`
	Kind     string            `json:"kind"`
	Location string            `json:"location"`
	State    string            `json:"state"` // complete, missing, removed
	Detail   string            `json:"detail,omitempty"`
	Created  time.Time         `json:"created"`
	Received time.Time         `json:"received,omitzero"` // zero: the vault has not countersigned it
	Bytes    int64             `json:"bytes"`
	Stored   int64             `json:"stored"`
	Files    int64             `json:"files"`
	Labels   map[string]string `json:"labels,omitempty"`
	Line     string            `json:"line,omitempty"` // how it travelled there; empty: an agent brought it, or it was found
}

// MaxCopies bounds what one query of copies returns.
const MaxCopies = 10000

// Copies lists the copies of a store, oldest snapshot first.
func (m *Module) Copies(ctx context.Context, store string) ([]Copy, error) {
	var out []Copy
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT s.id, s.kind, s.created, s.bytes, s.stored, s.files, s.labels, c.location, c.state, c.detail, c.received, c.line
			FROM backup_snapshots s JOIN backup_copies c ON c.store = s.store AND c.snapshot = s.id
			WHERE s.store = ? AND c.state <> 'removed' ORDER BY s.created DESC, s.id DESC, c.location DESC LIMIT ?`, store, MaxCopies)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c := Copy{Store: store}
			var created, received int64
			var labels string
			if err := rows.Scan(&c.Snapshot, &c.Kind, &created, &c.Bytes, &c.Stored, &c.Files, &labels, &c.Location, &c.State, &c.Detail, &received, &c.Line); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(labels), &c.Labels); err != nil {
				return err
			}
			c.Created, c.Received = db.Time(created), db.Time(received)
			out = append(out, c)
		}
		return rows.Err()
	})
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out, err
}

// Frontiers says how far the log of a store has come at each location, with the
// instant since which it is known to have a gap.
func (m *Module) Frontiers(ctx context.Context, store string) ([]Frontier, error) {
	var out []Frontier
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT `+frontierColumns+` FROM backup_frontiers WHERE store = ? AND location <> '' ORDER BY location`, store)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			f, err := scanFrontier(rows.Scan)
			if err != nil {
				return err
			}
			out = append(out, f)
		}
		return rows.Err()
	})
	return out, err
}

// AtSource says how far the log of a store was seen here, whether or not any location has
// it: the last commit that the store made, and until when that was its last. It protects
// nothing, since it is on the machine that may burn; it says what a recovery did not bring
// back. ok is false where no log was ever followed.
func (m *Module) AtSource(ctx context.Context, store string) (f Frontier, ok bool, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ok = false
		f, err = scanFrontier(tx.QueryRow(ctx, `SELECT `+frontierColumns+` FROM backup_frontiers WHERE store = ? AND location = ''`, store).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		ok = err == nil
		return err
	})
	return f, ok, err
}

// A Frontier is a source.Frontier with what the module remembers of its gaps.
type Frontier struct {
	source.Frontier
	GapAt time.Time `json:"gap_at,omitzero"` // a base begun after this instant mends the gap
}

// A Probe is the last look at a store.
type Probe struct {
	OK       bool      `json:"ok"`
	At       time.Time `json:"at"`
	LastOK   time.Time `json:"last_ok,omitzero"`
	Failures int       `json:"failures"`
	Lost     bool      `json:"lost"`
	Error    string    `json:"error,omitempty"`
}

// Probe returns the last look at a store; ok is false before the first one.
func (m *Module) Probe(ctx context.Context, store string) (p Probe, ok bool, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		p, ok, err = probe(ctx, tx, store)
		return err
	})
	return p, ok, err
}

func probe(ctx context.Context, tx *db.Tx, store string) (p Probe, ok bool, err error) {
	rows, err := tx.Query(ctx, `SELECT ok, at, last_ok, failures, lost, error FROM backup_probes WHERE store = ?`, store)
	if err != nil {
		return p, false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return p, false, rows.Err()
	}
	var okInt, lost, at, lastOK int64
	if err := rows.Scan(&okInt, &at, &lastOK, &p.Failures, &lost, &p.Error); err != nil {
		return p, false, err
	}
	p.OK, p.Lost, p.At, p.LastOK = okInt == 1, lost == 1, db.Time(at), db.Time(lastOK)
	return p, true, rows.Err()
}

func (m *Module) setProbe(ctx context.Context, tx *db.Tx, store string, p Probe) error {
	_, err := tx.Exec(ctx, `INSERT INTO backup_probes (store, ok, at, last_ok, failures, lost, error) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (store) DO UPDATE SET ok = excluded.ok, at = excluded.at, last_ok = excluded.last_ok, failures = excluded.failures,
		lost = excluded.lost, error = excluded.error`,
		store, flag(p.OK), db.Micros(p.At), db.Micros(p.LastOK), p.Failures, flag(p.Lost), db.Text(p.Error))
	return err
}

// record writes a snapshot down; a snapshot that is known stays as it is.
func (m *Module) record(ctx context.Context, tx *db.Tx, store string, man *repo.Manifest, stored int64) error {
	labels, err := json.Marshal(man.Labels)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO backup_snapshots (store, id, kind, manifest, created, finished, bytes, stored, files, labels)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (store, id) DO NOTHING`,
		store, man.ID, man.Kind, man.Hash(), db.Micros(man.Created), db.Micros(m.cfg.Clock()), man.Bytes, stored, man.Files, string(labels))
	return err
}

func (m *Module) setCopy(ctx context.Context, tx *db.Tx, a copyArgs, state, detail string) error {
	_, err := tx.Exec(ctx, `INSERT INTO backup_copies (store, snapshot, location, state, detail, received) VALUES (?, ?, ?, ?, ?, 0)
		ON CONFLICT (store, snapshot, location) DO UPDATE SET state = excluded.state, detail = excluded.detail`,
		a.Store, a.Snapshot, a.Location, state, db.Text(detail))
	return err
}

// line is how a location was last reached.
func (m *Module) line(name string) location.Line {
	if m.cfg.Line == nil {
		return location.Line{}
	}
	return m.cfg.Line(name)
}

// setLine notes how a copy travelled to its location.
func (m *Module) setLine(ctx context.Context, tx *db.Tx, a copyArgs, l location.Line) error {
	if l.Protocol == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE backup_copies SET line = ? WHERE store = ? AND snapshot = ? AND location = ?`, db.Text(l.String()), a.Store, a.Snapshot, a.Location)
	return err
}

// stateRemoved is the state of a copy that the vault took out of a location: it is
// neither asked for again nor counted.
const stateRemoved = "removed"

// stateMissing is that of a copy that a location does not have yet.
const stateMissing = "missing"

// Forget notes that the vault removed copies.
func (m *Module) Forget(ctx context.Context, tx *db.Tx, store, location string, snapshots []string) error {
	for _, id := range snapshots {
		if err := m.setCopy(ctx, tx, copyArgs{store, id, location}, stateRemoved, ""); err != nil {
			return err
		}
	}
	return nil
}

// isRemoved reports whether the vault removed a copy.
func (m *Module) isRemoved(ctx context.Context, a copyArgs) (gone bool, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM backup_copies WHERE store = ? AND snapshot = ? AND location = ? AND state = ?`, a.Store, a.Snapshot, a.Location, stateRemoved).Scan(&n)
		gone = n > 0
		return err
	})
	return gone, err
}

// gapSince reports whether a gap opened at a location after the given instant.
func (m *Module) gapSince(ctx context.Context, tx *db.Tx, store string, since time.Time) (bool, error) {
	var n int
	err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM backup_frontiers WHERE store = ? AND gap <> '' AND gap_at >= ?`, store, db.Micros(since)).Scan(&n)
	return n > 0, err
}

// setFrontier writes a frontier down and reports whether a gap is new. A gap
// stays until a base that began after it is complete at the location.
func (m *Module) setFrontier(ctx context.Context, tx *db.Tx, store string, f source.Frontier) (newGap bool, err error) {
	f.Err, f.Gap = db.Text(f.Err), db.Text(f.Gap)
	var gapAt int64
	if f.Gap != "" {
		var old string
		err := tx.QueryRow(ctx, `SELECT gap, gap_at FROM backup_frontiers WHERE store = ? AND location = ?`, store, f.Place).Scan(&old, &gapAt)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
		if old != f.Gap {
			newGap, gapAt = true, db.Micros(f.At)
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO backup_frontiers (store, location, lineage, timeline, position, last_commit, caught_up, at, error, gap, gap_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (store, location) DO UPDATE SET
		lineage = CASE WHEN excluded.position = 0 THEN backup_frontiers.lineage ELSE excluded.lineage END,
		timeline = CASE WHEN excluded.position = 0 THEN backup_frontiers.timeline ELSE excluded.timeline END,
		position = CASE WHEN excluded.position = 0 THEN backup_frontiers.position ELSE excluded.position END,
		last_commit = CASE WHEN excluded.last_commit = 0 THEN backup_frontiers.last_commit ELSE excluded.last_commit END,
		caught_up = CASE WHEN excluded.caught_up = 0 THEN backup_frontiers.caught_up ELSE excluded.caught_up END,
		at = excluded.at, error = excluded.error,
		gap = CASE WHEN excluded.gap = '' THEN backup_frontiers.gap ELSE excluded.gap END,
		gap_at = CASE WHEN excluded.gap = '' THEN backup_frontiers.gap_at ELSE excluded.gap_at END`,
		store, f.Place, f.Lineage, int64(f.Timeline), int64(f.Position), db.Micros(f.LastCommit), db.Micros(f.CaughtUp), db.Micros(f.At), f.Err, f.Gap, gapAt)
	return newGap, err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
