// Package app puts the parts of Holdfast together. It is the only place that
// knows them all: modules declare what they need of each other as small
// interfaces, and app satisfies them.
//
// It holds no rules of its own. What happens when a store is lost, for example,
// is told in wire.go as a sequence of calls; when each is allowed is decided by
// the module that is called.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/durable"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/message"
	"holdfast/internal/oncall"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
	"holdfast/internal/vault"
)

// Options of a running Holdfast.
type Options struct {
	Workspace Workspace
	// State is where the state is kept: empty for the SQLite file of the
	// workspace, or a PostgreSQL connection string.
	State string
	Work  Work
	// Offline opens stores only to bring them back: no password is needed.
	Offline bool
	Clock   func() time.Time
	// Rehearsal says what moves the clock, if it is not the machine's. It is noted in
	// the ledger and found by status.
	Rehearsal string
	Follows   bool // the clock is set from outside while the process runs
	Log       *slog.Logger
}

// Work is what a process does of its own accord. The zero Work is everything: a
// server. A command that only asks, or does one thing, must not begin other work,
// declare a store lost or hold a replication slot that nobody will read.
type Work struct {
	Asked bool     // only what follows
	Jobs  []string // kinds of jobs to run
	Logs  bool     // follow the logs of stores
}

// App is one running Holdfast: everything on one workspace, in one process.
type App struct {
	opt    Options
	Keys   Keys
	Places *Places

	kitSeen atomic.Pointer[kitLook] // what was last found of the kit's key on this server

	DB         *db.DB
	Jobs       *job.Engine
	Ledger     *ledger.Log
	Backups    *backup.Module
	Drills     *drill.Module
	Recoveries *recovery.Module
	Incidents  *incident.Module
	Custody    *survive.Module
	Vault      *vault.Module
	Duties     *govern.Module
	Access     *access.Module
	Messages   *message.Module
	Calls      *oncall.Module

	force   atomic.Pointer[inForce]
	opened  string        // how the plan looked on disk when it was read first
	carried *inForce      // what runs fits this one; of Start and then watchPlan
	signed  chan struct{} // somebody signed, and a plan may wait for it

	hooked   sync.Map // keys of troubles that are signalled, for the watchdog to clear
	survey   survey
	lint     atomic.Value // looked
	around   atomic.Pointer[lookAround]
	settings settings // what locations were last heard to say of themselves
	old      sync.Map // plans that were in force, by digest; what is in it is never changed
	// compared holds the locations whose anchors the ledger was compared with.
	compared sync.Map
	stepped  stepped
	lock     *durable.FileLock // on the workspace
	hold     *db.Hold          // on the state
	wg       sync.WaitGroup
	cancel   context.CancelFunc
}

// Plan is the plan in force. It changes while the server runs, so what asks twice may
// get two answers: whoever needs one plan keeps it.
func (a *App) Plan() *plan.Plan { return a.force.Load().plan }

// trusted are the keys whose manifests and receipts are ours.
func (a *App) trusted() []seal.VerifyKey { return trustedBy(a.Plan(), a.Keys) }

func trustedBy(p *plan.Plan, k Keys) []seal.VerifyKey {
	return append(agentKeys(p), k.Source.Public(), k.Vault.Public())
}

// vaultKeys are the keys whose receipts count.
func (a *App) vaultKeys() []seal.VerifyKey { return []seal.VerifyKey{a.Keys.Vault.Public()} }

// tables lists the modules that keep state, in the order of their migrations.
func tables() []db.Module {
	return []db.Module{job.Module, ledger.Tables(), backup.Tables(), drill.Tables(), recovery.Tables(), incident.Tables(), vault.Tables(), govern.Tables(), access.Tables(), message.Tables(), oncall.Tables()}
}

// Open takes the state for this process and puts the parts together. Nothing
// runs until Start. A second process on the same workspace is refused.
func Open(ctx context.Context, opt Options) (_ *App, err error) {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	a := &App{opt: opt, signed: make(chan struct{}, 1)}
	a.survey.anew = make(chan struct{}, 1)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	a.opened = lookOf(opt.Workspace.Plan())
	written, err := plan.Load(opt.Workspace.Plan())
	if err != nil {
		return nil, err
	}
	a.force.Store(&inForce{plan: written, proposed: written})
	if err := os.MkdirAll(opt.Workspace.State(), 0o700); err != nil {
		return nil, unwritable(opt.Workspace, err)
	}
	if a.lock, err = durable.Lock(opt.Workspace.lock()); errors.Is(err, durable.ErrLocked) {
		return nil, holdfast.WithHint(fmt.Errorf("another holdfast works on this state: %w", err),
			"use it through its socket (the commands do so by themselves), or stop it first")
	} else if err != nil {
		return nil, unwritable(opt.Workspace, err)
	}
	if a.Keys, err = opt.Workspace.LoadKeys(); err != nil {
		return nil, err
	}
	if err := a.openState(ctx); err != nil {
		return nil, err
	}
	next, err := a.settlePlan(ctx, written)
	if err != nil {
		next = inForce{plan: written, proposed: written}
	}
	next.stores = a.openStores(next.plan, nil)
	a.force.Store(&next)
	a.Places = NewPlaces(next.plan, trustedBy(next.plan, a.Keys)...)
	a.Places.waived = a.placeWaived
	a.wire()
	return a, a.Access.Load(ctx)
}

// unwritable says that the state cannot be used, and what a person can do about it.
func unwritable(w Workspace, err error) error {
	return holdfast.WithHint(fmt.Errorf("state: %w", err),
		"free space on the disk of %s, and see that its owner may write there; \"restore\" and \"points\" work without the state", w.State())
}

func (a *App) openState(ctx context.Context) (err error) {
	dsn := a.opt.State
	said := func(err error) error { return fmt.Errorf("state: %w", err) }
	if dsn == "" {
		dsn = "sqlite:" + a.opt.Workspace.Database()
		said = func(err error) error { return unwritable(a.opt.Workspace, err) }
	}
	if a.DB, err = db.Open(ctx, dsn); err != nil {
		return said(err)
	}
	if a.hold, err = a.DB.Hold(ctx, owner(a.opt.Workspace)); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := a.DB.Migrate(ctx, tables()...); err != nil {
		return said(err)
	}
	signer, err := seal.NoteSigner(a.Keys.Log)
	if err != nil {
		return err
	}
	if a.Ledger, err = ledger.Open(a.DB, ledger.Config{Origin: origin(a.Plan()), Signer: signer, Clock: a.opt.Clock}); err != nil {
		return err
	}
	if _, err := a.Ledger.Size(ctx); err != nil {
		return holdfast.WithHint(fmt.Errorf("state: %w", err), "it belongs to a workspace with another repository id: give each workspace a state of its own")
	}
	return nil
}

// owner names a workspace in states that others see too.
func owner(w Workspace) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + ":" + w.Dir
}

// Evicted is closed when another process has taken the state. The caller then stops.
func (a *App) Evicted() <-chan struct{} { return a.hold.Lost() }

// Start takes up the work: for a server, jobs left by an earlier process,
// schedules, logs and watches.
func (a *App) Start(ctx context.Context) error {
	ctx, a.cancel = context.WithCancel(ctx)
	if err := a.extendsAnchors(ctx); err != nil {
		return err
	}
	if work := a.opt.Work; work.Asked {
		return a.startAsked(ctx, work)
	}
	if err := a.noteRehearsal(ctx); err != nil {
		return err
	}
	_ = a.adoptPlan(ctx) // it is in the log, and protection goes on by the plan before
	a.warn(nil)
	err := a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.notePlan(ctx, tx); err != nil {
			return err
		}
		return a.Jobs.SetSchedules(ctx, tx, append(a.schedules(), a.vaultSchedules()...))
	})
	if err != nil {
		return err
	}
	a.clearBoxes(ctx)
	if err := a.Drills.Settle(ctx); err != nil {
		return err
	}
	if err := a.Jobs.Start(ctx); err != nil {
		return err
	}
	if err := a.Backups.Start(ctx); err != nil {
		return err
	}
	if err := a.lookNow(ctx); err != nil {
		return err
	}
	a.carried = a.force.Load()
	a.wg.Go(func() { a.watchPlan(ctx) })
	a.wg.Go(func() { a.survey.run(ctx, a) })
	a.wg.Go(func() { a.anchor(ctx) })
	a.wg.Go(func() { a.watchdog(ctx) })
	a.wg.Go(func() { a.keepKeyUses(ctx) })
	a.wg.Go(func() { a.watchClock(ctx) })
	a.wg.Go(func() { a.watchSteps(ctx) })
	a.wg.Go(func() { a.settleDuties(ctx) })
	a.wg.Go(func() { a.weighActivations(ctx) })
	a.wg.Go(func() { a.settleCalls(ctx) })
	a.wg.Go(func() { a.beat(ctx) })
	a.wg.Go(func() { a.tendAccess(ctx) })
	a.wg.Go(func() { a.sweep(ctx) })
	return nil
}

func (a *App) startAsked(ctx context.Context, work Work) error {
	if len(work.Jobs) == 0 {
		return nil
	}
	if err := a.noteRehearsal(ctx); err != nil {
		return err
	}
	// Also where no server ever runs: what a plan promised before is not taken back unsigned.
	_ = a.adoptPlan(ctx) // it is in the log, and what was asked for is done by the plan before
	if err := a.takeKeyUses(ctx); err != nil {
		a.opt.Log.Warn("uses of keys not taken into the ledger", "err", err)
	}
	if err := a.DB.Tx(ctx, func(tx *db.Tx) error { return a.notePlan(ctx, tx) }); err != nil {
		return err
	}
	if work.Logs {
		if err := a.Backups.Follow(ctx); err != nil {
			return err
		}
	}
	return a.Jobs.Start(ctx)
}

// Stop ends the work in good order: what runs is interrupted and goes on after
// the next start.
func (a *App) Stop() error {
	if a.cancel != nil {
		a.cancel()
		a.Backups.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err := a.Jobs.Stop(ctx); err != nil {
			a.opt.Log.Warn("jobs did not stop", "err", err)
		}
		a.wg.Wait()
	}
	return a.close()
}

// stopWithin is how long running jobs get to notice that we stop.
const stopWithin = 30 * time.Second

func (a *App) close() error {
	var errs []error
	if a.hold != nil {
		a.hold.Release()
		a.hold = nil
	}
	if a.DB != nil {
		errs = append(errs, a.DB.Close())
		a.DB = nil
	}
	if a.lock != nil {
		_ = os.Remove(a.boxes()) // it stays while a sandbox is in it; there may be none
		errs = append(errs, a.lock.Unlock())
		a.lock = nil
	}
	return errors.Join(errs...)
}

// notePlan records the plan that is in force from now on, once for each version, and what
// is new about its keys.
func (a *App) notePlan(ctx context.Context, tx *db.Tx) error {
	if err := a.Custody.Register(ctx, tx); err != nil {
		return err
	}
	last, err := a.Ledger.FindTx(ctx, tx, ledger.Query{Type: factPlan, Limit: 1, Newest: true})
	if err != nil {
		return err
	}
	if len(last) == 1 && last[0].Plan == a.Plan().Digest() {
		return nil
	}
	return a.fact(ctx, tx, factPlan, "plan", planFact{a.Plan().Plan.ID, a.Plan().Plan.Version, a.Plan().Digest(), string(a.Plan().Source())})
}

const factPlan = "plan.in-force"

// A planFact keeps the exact text: a verdict of last year is judged by the plan of
// last year.
type planFact struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Text    string `json:"text"`
}

func decodeFact(f ledger.Fact, v any) error {
	if err := json.Unmarshal(f.Data, v); err != nil {
		return fmt.Errorf("fact %d, %s: %w", f.Index, f.Type, err)
	}
	return nil
}

// facts stamps every fact with the plan in force.
type facts struct{ a *App }

// Append satisfies the Ledger interface of every module.
func (f facts) Append(ctx context.Context, tx *db.Tx, fact ledger.Fact) (int64, error) {
	fact.Plan = f.a.Plan().Digest()
	switch fact.Type {
	case backup.FactReceipt, backup.FactCopied:
		f.a.DB.Notify(ctx, tx, surveyChannel)
	}
	index, err := f.a.Ledger.Append(ctx, tx, fact)
	if err != nil {
		return 0, err
	}
	return index, errors.Join(f.a.announce(ctx, tx, index, fact), f.a.remind(ctx, tx, fact))
}

// fact appends a fact of the app's own.
func (a *App) fact(ctx context.Context, tx *db.Tx, kind, subject string, data any) error {
	return a.factBy(ctx, tx, kind, subject, "holdfast", data)
}

// factBy is the same for what a person did.
func (a *App) factBy(ctx context.Context, tx *db.Tx, kind, subject, by string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = facts{a}.Append(ctx, tx, ledger.Fact{Type: kind, Subject: subject, Actor: by, At: a.opt.Clock().UTC(), Data: b})
	return err
}
