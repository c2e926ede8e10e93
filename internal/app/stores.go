package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/job"
	flow "holdfast/internal/pace"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
	"holdfast/internal/source/postgres"
)

// An adapter is a store with its adapter.
type adapter struct {
	store source.Store
	err   error // why it could not be opened
}

// probeEvery and lostAfter say how a store's loss is noticed: this many looks in
// a row, this far apart, without an answer.
const (
	probeEvery = 2 * time.Second
	lostAfter  = 3
)

// freshSlack is what a snapshot may be late before it counts as missing.
const freshSlack = 2

// openStores opens the stores of a plan. Adapters of before whose settings are the same
// stay: a log that flows goes on flowing.
func (a *App) openStores(p *plan.Plan, before *inForce) map[string]adapter {
	out := map[string]adapter{}
	for id, st := range p.Stores {
		if before != nil && before.stores[id].err == nil && sameAdapter(before.plan.Stores[id], st) &&
			(before.plan.Backups[before.plan.Stores[id].Protect].Log == nil) == (p.Backups[st.Protect].Log == nil) {
			out[id] = before.stores[id]
			continue
		}
		opt := a.opt
		opt.Offline = opt.Offline || st.Agent != nil // we only bring it back
		opened, err := OpenStore(p, id, filepath.Join(opt.Workspace.spool(), id), opt)
		out[id] = adapter{opened, err}
	}
	return out
}

// sameAdapter reports whether two stores are opened in the same way.
func sameAdapter(a, b plan.Store) bool {
	return a.Kind == b.Kind && (a.Agent == nil) == (b.Agent == nil) && reflect.DeepEqual(a.Postgres, b.Postgres) && reflect.DeepEqual(a.Files, b.Files)
}

// OpenStore makes the adapter of one store of a plan.
func OpenStore(p *plan.Plan, id, spool string, opt Options) (source.Store, error) {
	st, ok := p.Stores[id]
	if !ok {
		return nil, holdfast.WithHint(fmt.Errorf("store %q is not in the plan: %w", id, holdfast.ErrUsage),
			"the plan's stores are %s", strings.Join(slices.Sorted(maps.Keys(p.Stores)), ", "))
	}
	switch st.Kind {
	case plan.KindPostgres:
		dsn, err := postgresDSN(p, st.Postgres)
		if err != nil && opt.Offline {
			dsn, err = st.Postgres.DSN, nil
		}
		if err != nil {
			return nil, fmt.Errorf("store %q: %w", id, err)
		}
		inbox, timeout := "", time.Duration(0)
		if x := st.Postgres.Archive; x != nil {
			inbox, timeout = p.Resolve(x.Inbox), x.Timeout.Approx()
		}
		return postgres.Open(postgres.StoreConfig{
			Config: postgres.Config{Store: id, ConnString: dsn, Slot: st.Postgres.Slot, SpoolDir: spool, Inbox: inbox, ArchiveTimeout: timeout, UnboundedSlot: st.Postgres.AcceptUnboundedSlot,
				MaxRate: int64(st.Postgres.ReadMBPerSecond) * 1_000_000, Clock: opt.Clock, Log: opt.Log},
			BinDir:     p.Resolve(st.Postgres.BinDir),
			Durability: string(st.Postgres.Durability),
			NoLog:      p.Backups[st.Protect].Log == nil,
		})
	case plan.KindFiles:
		return files.Open(files.Config{Store: id, Path: p.Resolve(st.Files.Path), Exclude: st.Files.Exclude, OneFileSystem: st.Files.OneFileSystem, Pace: flow.PerSecond(int64(st.Files.ReadMBPerSecond) * 1_000_000), Clock: opt.Clock})
	default:
		return nil, holdfast.WithHint(fmt.Errorf("store %q is declared, not protected by this version: it cannot back up stores of kind %q yet", id, st.Kind),
			"export it into a folder and protect that as kind files, or let somebody else protect it (delegated)")
	}
}

// postgresDSN joins the connection string with the password from its file.
func postgresDSN(p *plan.Plan, st *plan.PostgresStore) (string, error) {
	if st.PasswordFile == "" {
		return st.DSN, nil
	}
	path := p.Resolve(st.PasswordFile)
	pw, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing%w", path, silent{err})
	}
	if err != nil {
		return "", holdfast.WithHint(fmt.Errorf("password file: %w", err), "write the password alone into %s and chmod 600 it", path)
	}
	return postgres.WithPassword(st.DSN, pw)
}

// source satisfies the modules' need for adapters.
func (a *App) source(id string) (source.Store, error) {
	ad, ok := a.force.Load().stores[id]
	if !ok {
		return nil, fmt.Errorf("store %q is not in the plan in force", id)
	}
	return ad.store, ad.err
}

// policies are what the plan in force says about each protected store.
func (a *App) policies() []backup.Policy {
	var out []backup.Policy
	for _, id := range slices.Sorted(maps.Keys(a.Plan().Stores)) {
		st := a.Plan().Stores[id]
		b, ok := a.Plan().Backups[st.Protect]
		if !ok {
			continue
		}
		cycle := map[string]time.Duration{}
		for name, c := range b.Copies {
			if !c.Every.IsZero() {
				cycle[name] = c.Every.Approx()
			}
		}
		out = append(out, backup.Policy{Store: id, Kind: string(st.Kind), Locations: b.Copies.Names(), Log: b.Log != nil && st.Kind == plan.KindPostgres,
			Every: b.Every.Interval(), Cycle: cycle, Probe: probeEvery, Failures: lostAfter, Agent: st.Agent != nil})
	}
	return out
}

// schedules are the plan's recurring work. Each slot is written down before its
// time, so that work that does not happen is a fact.
func (a *App) schedules() []job.Schedule {
	var out []job.Schedule
	loc := a.Plan().Location()
	for _, p := range a.policies() {
		if p.Agent {
			out = append(out, arrivals(p.Store))
			continue
		}
		b := a.Plan().Backups[a.Plan().Stores[p.Store].Protect]
		every := b.Every
		out = append(out, job.Schedule{Name: backupSchedule(p.Store), Kind: backup.KindSnapshot, Args: backup.SnapshotJob(p.Store, backup.ReasonScheduled).Args,
			Every: every, Location: loc, Deadline: every.Interval(), Missed: job.MissedOnce, Queue: "backup",
			Key: backup.SnapshotJob(p.Store, "").Key})
	}
	for _, id := range slices.Sorted(maps.Keys(a.Plan().Drills)) {
		d := a.Plan().Drills[id]
		out = append(out, job.Schedule{Name: drillSchedule(id), Kind: drill.KindScheduled, Args: drill.ScheduledArgs{Drill: id}, Queue: "drill-slots",
			Every: d.Every, Location: loc, Deadline: d.Every.Interval(), Missed: job.MissedOnce})
	}
	return slices.Concat(out, delegatedSchedules(a.Plan()), challengeSchedules(a.Plan()))
}

// subject is a store as a drill sees it.
func (a *App) subject(id string) (drill.Subject, error) {
	st, ok := a.Plan().Stores[id]
	if !ok {
		return drill.Subject{}, holdfast.WithHint(fmt.Errorf("store %q is not in the plan: %w", id, holdfast.ErrUsage),
			"the plan's stores are %s", strings.Join(slices.Sorted(maps.Keys(a.Plan().Stores)), ", "))
	}
	var sub drill.Subject
	if st.Elsewhere() {
		var err error
		if sub, err = a.foreignSubject(id); err != nil {
			return sub, err
		}
	} else {
		src, err := a.source(id)
		if err != nil {
			return drill.Subject{}, err
		}
		b := a.Plan().Backups[st.Protect]
		sub = drill.Subject{Kind: string(st.Kind), Owner: a.Plan().Person(st.Owner, false), Locations: b.Copies.Names(), Restorer: src, Promise: a.Plan().Promise(id), FreshFor: func(location string) time.Duration {
			return freshSlack*b.Every.Interval() + b.Copies[location].Every.Approx()
		}}
	}
	last, _, err := a.Drills.LastPassed(context.Background(), id)
	if err != nil {
		return sub, err
	}
	for _, name := range slices.Sorted(maps.Keys(st.Invariants)) {
		inv := st.Invariants[name]
		exp, err := plan.NewExpectation(inv.Expect)
		if err != nil {
			return sub, fmt.Errorf("invariant %q of %q: %w", name, id, err)
		}
		sub.Invariants = append(sub.Invariants, drill.Invariant{Name: name, Question: inv.SQL, Holds: func(value any, target time.Time) (bool, error) {
			return exp.Eval(value, last.Answers[name], target)
		}})
	}
	return sub, nil
}

// identities opens the runner's read key and records what for.
func (a *App) identities(ctx context.Context, purpose string) ([]seal.Identity, error) {
	id, err := ReadIdentity(a.opt.Workspace.Key(KeyRunner))
	if err != nil {
		return nil, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		return a.fact(ctx, tx, factKeyUsed, "keys."+KeyRunner, map[string]any{"purpose": purpose, "fingerprint": id.Recipient().Fingerprint()})
	})
	if err != nil {
		return nil, err // a key is not used without a record of it
	}
	return []seal.Identity{id}, nil
}

// recipients are the keys that every backup is sealed to.
func (a *App) recipients() ([]seal.Recipient, bool, error) {
	p := a.Plan()
	to, err := recipientsOf(p)
	return to, p.Repository.AllowOneRecipient, err
}

// recipientsOf are the keys that a plan seals to, at least two unless it permits one. A key
// that cannot be read is an error: a backup that leaves out one of those who were to read
// it is found on the bad day.
func recipientsOf(p *plan.Plan) (out []seal.Recipient, err error) {
	for _, id := range p.Repository.EncryptTo {
		to, err := seal.ParseRecipient(p.Keys[id].Recipient)
		if err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("key %q: %w", id, err), "write what \"holdfast key create\" printed into keys.%s.recipient", id)
		}
		if !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	if len(out) < 2 && !(len(out) == 1 && p.Repository.AllowOneRecipient) {
		return nil, holdfast.WithHint(fmt.Errorf("repository.encrypt_to: %w", repo.ErrRecipients),
			"add a second key with another holder; a plan that accepts that its loss is the loss of all backups says \"allow_one_recipient: true\"")
	}
	if err := seal.CheckRecipients(out); errors.Is(err, seal.ErrMixed) {
		return nil, holdfast.WithHint(fmt.Errorf("repository.encrypt_to: %w: %s would open to a quantum computer what the others do not", err, strings.Join(p.ClassicKeys(), ", ")),
			"make those post-quantum, too, in one run of \"holdfast key rotate\" with a --replace for each, or none of them")
	} else if err != nil {
		return nil, fmt.Errorf("repository.encrypt_to: %w", err)
	}
	return out, nil
}

// CheckRecipients reports whether backups can be made for the keys of a plan.
func CheckRecipients(p *plan.Plan) error {
	_, err := recipientsOf(p)
	return err
}

// boxes is where this workspace's sandboxes are: on a path that the unprivileged
// account of the engines can walk. The name is the workspace's own, so that what
// a killed process left can be told from another workspace's.
func (a *App) boxes() string {
	h := seal.Hash([]byte(a.opt.Workspace.Dir))
	return filepath.Join(os.TempDir(), "holdfast-drills-"+hex.EncodeToString(h[:6]))
}

// Engines of a killed server die with it, but not in the same instant: its sandboxes
// are removed again while something is still written there, this many times.
const (
	clearTries = 50
	clearEvery = 100 * time.Millisecond
)

// clearBoxes removes what a killed server left of its sandboxes.
func (a *App) clearBoxes(ctx context.Context) {
	var err error
	for range clearTries {
		if err = os.RemoveAll(a.boxes()); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(clearEvery):
		}
	}
	a.opt.Log.Warn("old sandboxes not removed", "err", err)
}

// box makes the sandbox of a drill.
func (a *App) box(ctx context.Context) (drill.Box, error) {
	if err := os.MkdirAll(a.boxes(), 0o755); err != nil {
		return nil, err
	}
	return sandbox.New(ctx, sandbox.Config{Parent: a.boxes(), Log: a.opt.Log})
}
