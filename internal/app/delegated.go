package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source/foreign"
	"holdfast/internal/source/postgres"
)

// delegatedTest names, as a drill, the tests of what a supplier protects.
func delegatedTest(store string) string { return "stores." + store + ".delegated" }

// delegatedSchedules ask the suppliers of a plan, and try what they protect. They are named
// by their place in the plan, as package evidence derives them.
func delegatedSchedules(p *plan.Plan) (out []job.Schedule) {
	loc := p.Location()
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		d := p.Stores[id].Delegated
		if every, ok := d.Probes(); ok {
			out = append(out, job.Schedule{Name: delegatedTest(id) + ".probe_every", Kind: backup.KindLook, Args: backup.LookArgs{Store: id}, Key: backup.LookJob(id).Key, Queue: "delegated",
				Every: every, Location: loc, Deadline: every.Interval(), Missed: job.MissedOnce})
		}
		if every, ok := d.Tests(); ok {
			out = append(out, job.Schedule{Name: delegatedTest(id) + ".test_every", Kind: drill.KindScheduled, Args: drill.ScheduledArgs{Drill: delegatedTest(id)}, Queue: "drill-slots",
				Every: every, Location: loc, Deadline: every.Interval(), Missed: job.MissedOnce})
		}
	}
	return out
}

// lookNow asks every supplier of the plan in force that was never asked: nobody waits for
// the first slot.
func (a *App) lookNow(ctx context.Context) error {
	known, err := a.Backups.AllDelegated(ctx)
	if err != nil {
		return err
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		for id, st := range a.Plan().Stores {
			if _, asked := st.Delegated.Probes(); asked && known[id].At.IsZero() {
				if _, err := a.Jobs.Enqueue(ctx, tx, backup.LookJob(id)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Adapter opens the adapter that a plan names for a store.
func Adapter(p *plan.Plan, id string, clock func() time.Time) (*foreign.Adapter, error) {
	d := p.Stores[id].Delegated
	if d == nil || len(d.Adapter) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("the plan names no adapter for %q: %w", id, holdfast.ErrUsage), "add stores.%s.delegated.adapter", id)
	}
	a := &foreign.Adapter{Argv: slices.Clone(d.Adapter), Store: id, Kind: string(p.Stores[id].Kind), Secrets: map[string]string{}, Clock: clock}
	if strings.Contains(a.Argv[0], "/") {
		a.Argv[0] = p.Resolve(a.Argv[0])
	}
	for name, path := range d.Secrets {
		text, err := ReadSecret(p.Resolve(path))
		if err != nil {
			return nil, fmt.Errorf("stores.%s.delegated.secrets.%s: %w", id, name, err)
		}
		a.Secrets[name] = text
	}
	return a, nil
}

// ReadSecret reads a file with a secret, which only its owner may be able to read.
func ReadSecret(path string) (string, error) {
	text, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing%w", path, silent{err})
	}
	return text, holdfast.WithHint(err, "write the secret alone into %s and chmod 600 it", path)
}

// Outside makes a sandbox in which an adapter reaches its supplier.
func Outside(ctx context.Context, parent string) (*sandbox.Sandbox, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	return sandbox.New(ctx, sandbox.Config{Parent: parent, Network: true})
}

// foreign opens the adapter of a store of the plan in force.
func (a *App) foreign(id string) (*foreign.Adapter, error) { return Adapter(a.Plan(), id, a.opt.Clock) }

func (a *App) outside(ctx context.Context) (drill.Box, error) { return Outside(ctx, a.boxes()) }

func (a *App) outsideLook(ctx context.Context) (foreign.Box, func() error, error) {
	box, err := Outside(ctx, a.boxes())
	if err != nil {
		return nil, nil, err
	}
	return box, box.Close, nil
}

// foreignSubject is a store that a supplier protects, as a drill sees it.
func (a *App) foreignSubject(id string) (drill.Subject, error) {
	p := a.Plan()
	st := p.Stores[id]
	ad, err := a.foreign(id)
	if err != nil {
		return drill.Subject{}, err
	}
	f := &drill.Foreign{Adapter: ad, Supplier: st.Delegated.To, Within: st.Delegated.RestoreWithin.Approx(), Oldest: p.OldestAllowed(id), Newest: st.Delegated.Newest}
	if st.Kind == plan.KindPostgres {
		f.Open = func(ctx context.Context, dsn, password string, since time.Time) (drill.Engine, error) {
			production := ""
			if st.Postgres != nil {
				production = st.Postgres.DSN
			}
			return postgres.OpenCopy(ctx, dsn, password, production, a.opt.Clock().Sub(since))
		}
	}
	return drill.Subject{Kind: string(st.Kind), Owner: p.Person(st.Owner, false), Promise: p.Promise(id), Foreign: f}, nil
}

// delegatedFacts are what suppliers said, for the objectives.
func (a *App) delegatedFacts(ctx context.Context) (map[string]objective.DelegatedFact, error) {
	known, err := a.Backups.AllDelegated(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]objective.DelegatedFact{}
	for id, st := range a.Plan().Stores {
		d, ok := known[id]
		if _, asked := st.Delegated.Probes(); !asked || !ok {
			continue
		}
		out[id] = objective.DelegatedFact{At: d.At, Seen: d.Seen, Error: d.Error, Points: d.Count, Until: d.Until()}
	}
	return out, nil
}

// unseen is how many looks in a row must fail before nobody knows any more: a supplier's
// address does not answer now and then.
const unseen = 2

// delegatedTroubles are suppliers whose copies are older than the plan allows, or who do
// not say how old they are.
func (a *App) delegatedTroubles(ctx context.Context) (out []trouble, err error) {
	known, err := a.Backups.AllDelegated(ctx)
	if err != nil {
		return nil, err
	}
	now := a.opt.Clock()
	for _, id := range slices.Sorted(maps.Keys(a.Plan().Stores)) {
		st := a.Plan().Stores[id]
		d, ok := known[id]
		every, asked := st.Delegated.Probes()
		if !asked || !ok {
			continue
		}
		fresh := now.Sub(d.Seen) <= every.Interval() // else it may just not have been asked yet
		limit, until, to := a.Plan().OldestAllowed(id), d.Until(), st.Delegated.To
		if d.Failures >= unseen {
			message, _ := holdfast.Heard(d.Error)
			out = append(out, trouble{kind: incident.KindBackupFailed, store: id, since: d.At, title: fmt.Sprintf("Nobody knows how fresh the copies of %s at %s are", id, to),
				detail: fmt.Sprintf("%d looks in a row were not answered: %s", d.Failures, message)})
		}
		switch {
		case d.Seen.IsZero():
		case d.Count == 0:
			out = append(out, trouble{kind: incident.KindBackupStale, store: id, sure: fresh, since: d.Seen, title: fmt.Sprintf("%s has no recovery point of %s", to, id), detail: "the supplier answers, and names none"})
		case limit > 0 && now.Sub(until) > limit:
			out = append(out, trouble{kind: incident.KindBackupStale, store: id, sure: fresh, since: until.Add(limit), title: fmt.Sprintf("Copies of %s at %s hold nothing new", id, to),
				detail: fmt.Sprintf("the newest point that %s names is of %s, %s ago; the plan allows %s; it was last asked %s", to, until.UTC().Format(time.RFC3339), holdfast.FormatDuration(now.Sub(until)), holdfast.FormatDuration(limit), d.Seen.UTC().Format(time.RFC3339))})
		}
	}
	return out, nil
}
