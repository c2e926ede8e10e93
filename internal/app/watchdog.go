package app

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/source"
)

// watchdogEvery is how often somebody looks whether the copies are made as planned.
const watchdogEvery = 5 * time.Second

// A trouble is something wrong with the copies of a store, as the state shows it now.
type trouble struct {
	kind, store, location string
	title, detail         string
	since                 time.Time
	custody               string            // of a trouble with a key: the key and who holds it
	severity              incident.Severity // of a trouble with a key
	sure                  bool              // whoever it is about says so: it need not last to be one
}

func (t trouble) key() string {
	if t.custody != "" {
		return t.kind + ":" + t.custody
	}
	if t.location == "" {
		return t.kind + ":" + t.store
	}
	return t.kind + ":" + t.store + ":" + t.location
}

// watchdog turns what is wrong with copies into signals, and back. What it raised and
// does not see any more is cleared, also when another process had raised it.
func (a *App) watchdog(ctx context.Context) {
	pause := a.pauses(ctx)
	var raised map[string]bool
	seen := map[string]time.Time{} // since when each trouble is seen, by our looks
	for pause(watchdogEvery) {
		now, err := a.troubles(ctx)
		if err == nil {
			settle(now, seen, a.opt.Clock())
			raised, err = a.raise(ctx, now, raised)
		}
		if err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("copies not watched", "err", err)
		}
	}
}

// confirm is how long a trouble must last before it is one: a run that failed because
// the store was just lost, a log that catches up after a restart.
var confirm = map[string]time.Duration{incident.KindBackupFailed: 10 * time.Second, incident.KindBackupStale: 30 * time.Second}

// logGap: what lies in the gap cannot be brought back from there any more. A new base is
// asked for in the same transaction.
func (a *App) logGap(ctx context.Context, tx *db.Tx, store string, f source.Frontier) error {
	return a.signal(ctx, tx, gapTrouble(store, f, f.At))
}

func gapTrouble(store string, f source.Frontier, at time.Time) trouble {
	return trouble{kind: incident.KindLogGap, store: store, location: f.Place, since: at, title: fmt.Sprintf("Log of %s has a gap at %s", store, f.Place),
		detail: f.Gap + "; a new base backup is being made, and instants in the gap are not offered"}
}

// backupFailed: an attempt failed. The first one may fail because the store is just
// being lost, and the watchdog looks at it a moment later.
func (a *App) backupFailed(ctx context.Context, tx *db.Tx, store string, attempt int, why string) error {
	if attempt < 2 {
		return nil
	}
	return a.signal(ctx, tx, trouble{kind: incident.KindBackupFailed, store: store, since: a.opt.Clock(), title: "Backup of " + store + " failed", detail: why})
}

// signal raises one trouble, for the watchdog to clear.
func (a *App) signal(ctx context.Context, tx *db.Tx, t trouble) error {
	_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "backup", Dedup: t.key(), Store: t.store, Title: t.title, Kind: t.kind, Severity: t.severity, Began: t.since, At: a.opt.Clock(), Detail: t.detail})
	if err == nil {
		tx.AfterCommit(func() { a.hooked.Store(t.key(), true) })
	}
	return err
}

// settle takes out of now what is not confirmed yet.
func settle(now map[string]trouble, seen map[string]time.Time, at time.Time) {
	for key := range seen {
		if _, ok := now[key]; !ok {
			delete(seen, key)
		}
	}
	for key, t := range now {
		if _, ok := seen[key]; !ok {
			seen[key] = at
		}
		if at.Sub(seen[key]) < confirm[t.kind] && !t.sure {
			delete(now, key)
		}
	}
}

// raise signals what is new and clears what is over. The first time it clears
// everything that is not wrong now.
//
// A crash in between costs nothing: the next process looks at everything again.
func (a *App) raise(ctx context.Context, now map[string]trouble, raised map[string]bool) (map[string]bool, error) {
	over := map[string]bool{}
	if raised == nil {
		ss, err := a.Custody.Standings(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range ss {
			over[trouble{kind: incident.KindKeyOverdue, custody: custodyOf(s)}.key()] = true
		}
		for id := range a.Plan().Stores { // those that a supplier protects, too
			for _, kind := range []string{incident.KindBackupFailed, incident.KindBackupMissed, incident.KindBackupStale, incident.KindDemoted} {
				over[trouble{kind: kind, store: id}.key()] = true
			}
		}
		for _, p := range a.policies() {
			for _, l := range p.Locations {
				over[trouble{kind: incident.KindLogGap, store: p.Store, location: l}.key()] = true
			}
		}
	}
	for key := range raised {
		over[key] = true
	}
	a.hooked.Range(func(key, _ any) bool {
		over[key.(string)] = true
		return true
	})
	next := map[string]bool{}
	var fresh []trouble
	for key, t := range now {
		delete(over, key)
		next[key] = true
		if !raised[key] {
			fresh = append(fresh, t)
		}
	}
	if len(fresh) == 0 && len(over) == 0 {
		return next, nil
	}
	err := a.DB.Tx(ctx, func(tx *db.Tx) error {
		at := a.opt.Clock()
		for _, t := range fresh {
			if err := a.signal(ctx, tx, t); err != nil {
				return err
			}
		}
		for key := range over {
			if err := a.Incidents.Clear(ctx, tx, key, "over: "+key, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return raised, err
	}
	for key := range over {
		a.hooked.Delete(key)
	}
	return next, nil
}

// troubles looks at the state. A store that does not answer is another incident, and
// the reason for these; so nothing is said about its copies meanwhile.
func (a *App) troubles(ctx context.Context) (map[string]trouble, error) {
	out := map[string]trouble{}
	add := func(t trouble) { out[t.key()] = t }
	fronts, err := a.Backups.AllFrontiers(ctx)
	if err != nil {
		return nil, err
	}
	held, err := a.Backups.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range a.policies() {
		for _, l := range p.Locations {
			at := backup.Spot{Store: p.Store, Location: l}
			if f := fronts[at]; f.Gap != "" && !held[at].Newest.After(f.GapAt) {
				add(gapTrouble(p.Store, f.Frontier, f.GapAt))
			}
		}
		pr, ok, err := a.Backups.Probe(ctx, p.Store)
		if err != nil {
			return nil, err
		}
		if !ok || !pr.OK {
			continue
		}
		for _, look := range []func(context.Context, backup.Policy) (trouble, bool, error){a.failedRun, a.missedRun, a.demoted} {
			t, ok, err := look(ctx, p)
			if err != nil {
				return nil, err
			}
			if ok {
				add(t)
			}
		}
		if t, ok := a.staleLog(p, fronts); ok {
			add(t)
		}
	}
	for _, look := range []func(context.Context) ([]trouble, error){a.delegatedTroubles, a.keysOverdue} {
		ts, err := look(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range ts {
			add(t)
		}
	}
	return out, nil
}

// failedRun: the newest attempt of a backup failed.
func (a *App) failedRun(ctx context.Context, p backup.Policy) (trouble, bool, error) {
	newest := func(kind string) (ledger.Fact, bool, error) {
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: kind, Subject: "stores." + p.Store, Limit: 1, Newest: true})
		if err != nil || len(fs) == 0 {
			return ledger.Fact{}, false, err
		}
		return fs[0], true, nil
	}
	failed, ok, err := newest(backup.FactFailed)
	if err != nil || !ok {
		return trouble{}, false, err
	}
	if good, ok, err := newest(backup.FactSnapshot); err != nil || ok && good.Index > failed.Index {
		return trouble{}, false, err
	}
	var data struct{ Error string }
	if err := decodeFact(failed, &data); err != nil {
		return trouble{}, false, err
	}
	return trouble{kind: incident.KindBackupFailed, store: p.Store, since: failed.At, title: "Backup of " + p.Store + " failed", detail: data.Error}, true, nil
}

// missedRun: a slot was not used, and no backup came since, or only just.
func (a *App) missedRun(ctx context.Context, p backup.Policy) (trouble, bool, error) {
	now := a.opt.Clock()
	every := a.Plan().Backups[a.Plan().Stores[p.Store].Protect].Every.Interval()
	slots, err := a.Jobs.Slots(ctx, backupSchedule(p.Store), now.Add(-missedFor*every), now)
	if err != nil {
		return trouble{}, false, err
	}
	var last job.Slot
	for _, s := range slots {
		if s.State == job.SlotMissed {
			last = s
		}
	}
	if last.State != job.SlotMissed {
		return trouble{}, false, nil
	}
	// A late run mends it, and does not hide it.
	snaps, err := a.Ledger.Find(ctx, ledger.Query{Type: backup.FactSnapshot, Subject: "stores." + p.Store, From: last.Due, Limit: 1})
	if err != nil || len(snaps) > 0 && now.Sub(snaps[0].At) > lateShown {
		return trouble{}, false, err
	}
	return trouble{kind: incident.KindBackupMissed, store: p.Store, since: last.Due, title: "Backup of " + p.Store + " did not happen",
		detail: fmt.Sprintf("it was due at %s and not done by %s: %s", last.Due.UTC().Format(time.RFC3339), last.Deadline.UTC().Format(time.RFC3339), last.Note)}, true, nil
}

// missedFor is how many intervals back a slot that was not used is looked for, and
// lateShown how long it stays one after a late run.
const (
	missedFor = 3
	lateShown = 30 * time.Second
)

// staleLog: nothing newer arrives at any location, though the store answers.
func (a *App) staleLog(p backup.Policy, fronts map[backup.Spot]backup.Frontier) (trouble, bool) {
	b := a.Plan().Backups[a.Plan().Stores[p.Store].Protect]
	if !p.Log || b.Log == nil {
		return trouble{}, false
	}
	var newest time.Time
	var why string
	for _, l := range p.Locations {
		f := fronts[backup.Spot{Store: p.Store, Location: l}]
		for _, t := range []time.Time{f.CaughtUp, f.LastCommit} {
			if t.After(newest) {
				newest = t
			}
		}
		if f.Err != "" {
			why = "; " + l + ": " + f.Err
		}
	}
	limit := b.Log.MaxLag.Approx() + watchdogEvery
	if newest.IsZero() || a.opt.Clock().Sub(newest) <= limit {
		return trouble{}, false
	}
	return trouble{kind: incident.KindBackupStale, store: p.Store, since: newest, title: "Copies of " + p.Store + " hold nothing new",
		detail: fmt.Sprintf("the store answers, and no location holds anything later than %s; the plan allows %s%s", newest.UTC().Format(time.RFC3339), b.Log.MaxLag, why)}, true
}
