package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

const (
	// FactLocked says that objects of a location are locked for longer.
	FactLocked = "vault.locked"
	// CodeLock is the finding that a lock could not be renewed.
	CodeLock = "HF-V9"
	// lockSlack is how much a lock may fall short before it is renewed: renewing all
	// of them each night for the sake of a day would be one request for each pack.
	lockSlack = 3 * 24 * time.Hour
	maxLocks  = 50_000 // in one run; the rest follows in the next
)

// errNoLocks means that the plan promises a lock where there can be none.
var errNoLocks = errors.New("the location cannot lock objects")

// renew locks what kept snapshots use for as long as if it were written with the
// newest of them: a lock counts from the writing of an object, and an old pack that
// today's snapshot uses would be free to delete.
//
// A crash loses the note of what was renewed; renewing it again does no harm. What could
// not be renewed is tried again the next night, and told until it is.
func (m *Module) renew(ctx context.Context, held *plan.Plan, name string, pl place, rep *Report) error {
	l := held.Locations[name]
	if l.S3 == nil || l.S3.Lock.IsZero() {
		return nil
	}
	need := map[string]time.Time{}
	var failed error
	for _, s := range rep.Shelves {
		if s.Location != name {
			continue
		}
		var longest time.Time
		for _, d := range s.Decided {
			if !d.Keep || d.Received.IsZero() {
				continue
			}
			until := l.S3.Lock.AddTo(d.Received, 1, held.Location())
			for _, object := range s.manifests[d.Snapshot].packs {
				if until.After(need[object]) {
					need[object] = until
				}
			}
			if until.After(longest) {
				longest = until
			}
		}
		// What a key epoch gives is worth as much as what it opens. Which snapshots need
		// it, nobody says: it stays as long as any of them.
		epochs, err := pl.at.Epochs(ctx, s.Store)
		if err != nil {
			failed = err // the packs are worth it all the same
		}
		for _, object := range epochs {
			need[object] = longest
		}
	}
	// The whole copy of a damaged object is as much in use as the object was.
	repairs, err := pl.at.Repairs(ctx)
	if err != nil {
		failed = err
	}
	for object, of := range repairs {
		if until, used := need[of]; used {
			need[object] = until
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	locked, err := m.locked(ctx, name)
	if err != nil {
		return err
	}
	done := map[string]time.Time{}
	for _, object := range slices.Sorted(maps.Keys(need)) {
		if need[object].Sub(locked[object]) <= lockSlack || !need[object].After(rep.At) {
			continue
		}
		able, err := pl.at.Extend(ctx, object, need[object])
		if ctx.Err() != nil {
			failed = ctx.Err()
			break
		}
		if !able {
			failed = errNoLocks
			break
		}
		if err != nil {
			failed = err
			continue // the others are worth it
		}
		if done[object] = need[object]; len(done) >= maxLocks {
			break
		}
	}
	if failed != nil {
		rep.Findings = append(rep.Findings, holdfast.Finding{Code: CodeLock, Severity: holdfast.SeverityError, Subject: "locations." + name,
			Message: fmt.Sprintf("the lock of objects that are in use was not renewed: %v", failed), Hint: "the credentials need the right to lock objects (s3:PutObjectRetention, s3:GetObjectRetention)"})
	}
	if len(done) == 0 && failed == nil {
		return nil
	}
	return m.cfg.DB.Tx(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		for object, until := range done {
			if _, err := tx.Exec(ctx, `INSERT INTO vault_locks (location, object, until) VALUES (?, ?, ?) ON CONFLICT (location, object) DO UPDATE SET until = excluded.until`,
				name, object, db.Micros(until)); err != nil {
				return err
			}
		}
		for object := range locked {
			if need[object].IsZero() {
				if _, err := tx.Exec(ctx, `DELETE FROM vault_locks WHERE location = ? AND object = ?`, name, object); err != nil {
					return err
				}
			}
		}
		data := map[string]any{"objects": len(done)}
		if failed != nil {
			data["error"] = failed.Error()
		}
		return m.fact(ctx, tx, FactLocked, "locations."+name, "holdfast", data)
	})
}

// locked is until when objects of a location were locked at last.
func (m *Module) locked(ctx context.Context, name string) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		clear(out)
		rows, err := tx.Query(ctx, `SELECT object, until FROM vault_locks WHERE location = ?`, name)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var object string
			var until int64
			if err := rows.Scan(&object, &until); err != nil {
				return err
			}
			out[object] = db.Time(until)
		}
		return rows.Err()
	})
	return out, err
}
