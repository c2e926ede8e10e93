// Package recovery brings back what was lost, in the order that the
// dependencies demand.
//
// Planner and executor are apart. Package planner decides: an immutable, explained
// plan. The executor only obeys it: it runs the steps as durable jobs, waits for
// people, times everything and survives its own restart.
//
// # Invariants
//
//   - A step starts only when all that it follows are done.
//   - A step runs at least once and is settled exactly once. A step that restores
//     finds out first what an earlier attempt left behind.
//   - A run is done only when every lost store is back, checked and backed up
//     again, and every level of service that a stage asks for was measured.
//   - A plan is never edited. A different situation makes a new plan.
//
// What it does not do: it decides neither the order (package planner) nor that
// something is lost (package incident), and it never overwrites what it finds at a
// store's address; that is moved aside.
package recovery

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "recovery", Migrations: sub}
}

// KindStep is the job that carries one step out, and KindRestore the one of a
// step that restores: it is tried a few times with growing pauses, where checks
// and waits are looked at every second.
const (
	KindStep    = "recovery.step"
	KindRestore = "recovery.restore"
)

// States of runs and steps.
const (
	StateWaiting  = "waiting"  // for other steps
	StateReady    = "ready"    // its job is enqueued
	StateRunning  = "running"  // being carried out
	StateAwaiting = "awaiting" // for a person
	StateDone     = "done"
	StateFailed   = "failed"
)

// A Run is one plan being carried out.
type Run struct {
	ID        string    `json:"id"`
	Incident  int64     `json:"incident"`
	Plan      Plan      `json:"plan"`
	State     string    `json:"state"`
	Activated time.Time `json:"activated"`
	Finished  time.Time `json:"finished,omitzero"`
	Steps     []Done    `json:"steps"`
}

// Done is a step with what became of it.
type Done struct {
	Step
	State    string    `json:"state"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Actor    string    `json:"actor,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Outcome  Outcome   `json:"outcome,omitzero"`
}

// An Outcome is what a restore step measured.
type Outcome struct {
	Snapshot  string    `json:"snapshot,omitempty"`
	Location  string    `json:"location,omitempty"`
	Reached   string    `json:"reached,omitempty"`
	DataUntil time.Time `json:"data_until,omitzero"`
	// SourceCommit is the last commit that was seen at the store before it was lost, wherever it
	// got to, and SourceSeen until when it was seen to be the last. Zero: nobody followed it.
	// Lost is from the last commit that came back to that one: the RPO reached.
	SourceCommit time.Time        `json:"source_commit,omitzero"`
	SourceSeen   time.Time        `json:"source_seen,omitzero"`
	Lost         *time.Duration   `json:"lost_ns,omitempty"`
	Provision    time.Duration    `json:"provision_ns,omitempty"`
	Fetch        time.Duration    `json:"fetch_ns,omitempty"`
	Replay       time.Duration    `json:"replay_ns,omitempty"`
	Verify       time.Duration    `json:"verify_ns,omitempty"`
	Bytes        int64            `json:"bytes,omitempty"`
	Checks       []holdfast.Check `json:"checks,omitempty"`
	Address      string           `json:"address,omitempty"`
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Hands does what a plan says. Each method may be called again after a crash in
// the middle of an earlier call for the same step.
type Hands interface {
	// Restore brings a store back at its production address.
	Restore(ctx context.Context, run string, s Step, progress func(holdfast.Progress)) (Outcome, error)
	// Usable asks whether a service is usable now, and says what it saw.
	Usable(ctx context.Context, service string) (detail string, err error)
	// Level measures how much of a service is there, over the window that its probe
	// declares; the error says what is missing to the level.
	Level(ctx context.Context, service, level string) (detail string, err error)
	// Protected asks whether a backup of a store made since then is complete; the
	// error says what is missing. It sees to it that one is being made.
	Protected(ctx context.Context, store string, since time.Time) (detail string, err error)
}

// Config is what the package stands on.
type Config struct {
	DB     *db.DB
	Jobs   *job.Engine
	Ledger Ledger
	Hands  Hands
	// Usable is called in the transaction in which the last service of a run
	// became usable, Finished in the one that ends the run.
	Usable   func(ctx context.Context, tx *db.Tx, r Run) error
	Finished func(ctx context.Context, tx *db.Tx, r Run) error
	Clock    func() time.Time
}

// A Module carries recoveries out.
type Module struct{ cfg Config }

// retryEvery is how long a check or a protect step waits before it looks again.
// maxLooks bounds it: a service that is not usable after about a day is failed.
// Looking changes nothing; a restore is begun again restoreTries times at most,
// and waits in between, because a location may be away for a moment.
const (
	retryEvery   = time.Second
	maxLooks     = 86400
	restoreTries = 3
	stepTimeout  = 48 * time.Hour
)

// New registers the step handlers.
func New(cfg Config) *Module {
	m := &Module{cfg: cfg}
	cfg.Jobs.Handle(KindStep, m.step, job.HandlerOptions{Timeout: stepTimeout, MaxAttempts: maxLooks, Backoff: func(int) time.Duration { return retryEvery }})
	cfg.Jobs.Handle(KindRestore, m.step, job.HandlerOptions{Timeout: stepTimeout, MaxAttempts: restoreTries, Item: job.About(func(a stepArgs) string { return "recoveries." + a.Run })})
	return m
}

type stepArgs struct {
	Run  string `json:"run"`
	Step string `json:"step"`
}

// Activate writes the plan down and makes its first steps ready, in the caller's
// transaction. actor is who activated it.
func (m *Module) Activate(ctx context.Context, tx *db.Tx, id string, incident int64, p Plan, actor string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	now := m.cfg.Clock()
	if _, err := tx.Exec(ctx, `INSERT INTO recovery_runs (id, incident, plan, state, activated, finished) VALUES (?, ?, ?, ?, ?, 0)`,
		id, incident, string(b), StateRunning, db.Micros(now)); err != nil {
		return err
	}
	for i, s := range p.Steps {
		if _, err := tx.Exec(ctx, `INSERT INTO recovery_steps (run, id, position, state, started, finished, actor, detail, outcome) VALUES (?, ?, ?, ?, 0, 0, '', '', '{}')`,
			id, s.ID, i, StateWaiting); err != nil {
			return err
		}
	}
	if err := m.fact(ctx, tx, "recovery.activated", id, actor, p); err != nil {
		return err
	}
	return m.advance(ctx, tx, id)
}

// advance makes ready what can start, and ends the run when all is done.
func (m *Module) advance(ctx context.Context, tx *db.Tx, run string) error {
	r, err := m.get(ctx, tx, run)
	if err != nil || r.State != StateRunning {
		return err
	}
	states := map[string]string{}
	for _, s := range r.Steps {
		states[s.ID] = s.State
	}
	open := 0
	for _, s := range r.Steps {
		if s.State != StateDone {
			open++
		}
		if s.State != StateWaiting || slices.ContainsFunc(s.After, func(a string) bool { return states[a] != StateDone }) {
			continue
		}
		if s.Kind == StepHuman {
			// Its clock runs from here: how long people take is measured too.
			if err := m.started(ctx, tx, run, s.ID); err != nil {
				return err
			}
			if err := m.set(ctx, tx, run, s.ID, StateAwaiting, "waiting for "+s.Role); err != nil {
				return err
			}
			continue
		}
		in := job.Insert{Kind: KindStep, Key: KindStep + ":" + run + ":" + s.ID, Args: stepArgs{run, s.ID}, Queue: "recovery", Priority: 10}
		if s.Kind == StepRestore {
			in.Kind = KindRestore
		}
		if _, err := m.cfg.Jobs.Enqueue(ctx, tx, in); err != nil {
			return err
		}
		if err := m.set(ctx, tx, run, s.ID, StateReady, ""); err != nil {
			return err
		}
	}
	if open > 0 {
		return nil
	}
	return m.finish(ctx, tx, r, StateDone)
}

// finish ends a run that goes on. The caller has seen that it does.
func (m *Module) finish(ctx context.Context, tx *db.Tx, r Run, state string) error {
	r.State, r.Finished = state, m.cfg.Clock()
	if _, err := tx.Exec(ctx, `UPDATE recovery_runs SET state = ?, finished = ? WHERE id = ?`, state, db.Micros(r.Finished), r.ID); err != nil {
		return err
	}
	if err := m.fact(ctx, tx, "recovery."+state, r.ID, "holdfast", map[string]any{"seconds": r.Finished.Sub(r.Activated).Seconds(), "incident": r.Incident}); err != nil {
		return err
	}
	return m.cfg.Finished(ctx, tx, r)
}

// step carries one step out.
//
// A crash before Done leaves the step running; the job engine gives it out again
// and Hands finds what the first attempt left. A crash after Done's commit is no
// crash at all: the following steps were made ready in the same transaction.
func (m *Module) step(ctx context.Context, w *job.Work) error {
	var a stepArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	r, s, err := m.begin(ctx, a)
	if err != nil {
		return err
	}
	var out Outcome
	var detail string
	switch s.Kind {
	case StepRestore:
		out, err = m.cfg.Hands.Restore(ctx, a.Run, s.Step, m.progress(ctx, w))
		detail = out.Reached
	case StepCheck:
		detail, err = m.cfg.Hands.Usable(ctx, s.Service)
	case StepLevel:
		detail, err = m.cfg.Hands.Level(ctx, s.Service, s.Level)
	case StepProtect:
		detail, err = m.cfg.Hands.Protected(ctx, s.Store, r.step("restore-"+s.Store).Finished)
	default:
		err = fmt.Errorf("step %q has kind %q: %w", s.ID, s.Kind, errImpossible)
	}
	if err != nil {
		return m.stumbled(ctx, w, a, s, err)
	}
	return w.Done(ctx, out, func(tx *db.Tx) error {
		return m.settle(ctx, tx, a, "holdfast", detail, out)
	})
}

// A failedStep is the result of a step that is not tried again.
type failedStep struct {
	Failed string `json:"failed"`
}

// Short says why.
func (f failedStep) Short() string { return f.Failed }

// stumbled records why a step did not end, so that a person can see it while it
// is tried again, and fails the run when it is not.
//
// An attempt that was interrupted, because the server stops or another worker has
// the step, did not fail: nothing is recorded, and the step goes on there. The end
// of a run is settled with the job, so that a worker that lost the step without
// knowing it cannot end what another is carrying out.
func (m *Module) stumbled(ctx context.Context, w *job.Work, a stepArgs, s Done, err error) error {
	cancelled := errors.Is(context.Cause(ctx), job.ErrCancelled)
	if errors.Is(ctx.Err(), context.Canceled) && !cancelled {
		return err
	}
	final := cancelled || w.Job().Attempt >= w.Job().MaxAttempts || errors.Is(err, holdfast.ErrRefused) || errors.Is(err, errImpossible)
	if cancelled {
		err = fmt.Errorf("%w: %w", job.ErrCancelled, err)
	}
	ctx = context.WithoutCancel(ctx)
	record := func(tx *db.Tx) error {
		r, rerr := m.get(ctx, tx, a.Run)
		if rerr != nil {
			return rerr
		}
		over := r.State != StateRunning // another step has ended the run meanwhile
		state := StateRunning
		if final || over {
			state = StateFailed
		}
		if serr := m.set(ctx, tx, a.Run, a.Step, state, err.Error()); serr != nil {
			return serr
		}
		if over {
			return nil
		}
		if s.Kind == StepRestore || final {
			if ferr := m.fact(ctx, tx, "recovery.step-failed", a.Run, "holdfast", map[string]any{"step": a.Step, "error": db.Text(err.Error()), "final": final}); ferr != nil {
				return ferr
			}
		}
		if !final {
			return nil
		}
		if r, rerr = m.get(ctx, tx, a.Run); rerr != nil {
			return rerr
		}
		return m.finish(ctx, tx, r, StateFailed)
	}
	if final {
		return w.Done(ctx, failedStep{db.Text(err.Error())}, record)
	}
	return errors.Join(err, m.cfg.DB.Tx(ctx, record))
}

// errImpossible marks a step that no attempt can carry out.
var errImpossible = errors.New("no machine can do it")

// progressEvery bounds how often progress is written down: the database is not a
// progress bar, and a restore may report every file.
const progressEvery = 500 * time.Millisecond

func (m *Module) progress(ctx context.Context, w *job.Work) func(holdfast.Progress) {
	var mu sync.Mutex
	var last time.Time
	return func(p holdfast.Progress) {
		mu.Lock()
		defer mu.Unlock()
		now := m.cfg.Clock()
		if d := now.Sub(last); d >= 0 && d < progressEvery {
			return
		}
		last = now
		_ = w.Progress(ctx, p) // a restore does not fail because nobody could be told how far it is
	}
}

func (m *Module) begin(ctx context.Context, a stepArgs) (r Run, s Done, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if r, err = m.get(ctx, tx, a.Run); err != nil {
			return err
		}
		if s = r.step(a.Step); s.ID == "" {
			return job.Permanent(fmt.Errorf("recovery %s has no step %q", a.Run, a.Step))
		}
		if r.State != StateRunning {
			return job.Permanent(fmt.Errorf("recovery %s is %s", a.Run, r.State))
		}
		if s.State == StateDone {
			return job.Permanent(fmt.Errorf("step %q of recovery %s is done", a.Step, a.Run))
		}
		if s.Started.IsZero() {
			if err := m.started(ctx, tx, a.Run, a.Step); err != nil {
				return err
			}
		}
		return m.set(ctx, tx, a.Run, a.Step, StateRunning, s.Detail)
	})
	return r, s, err
}

// settle ends a step and makes ready what follows it.
func (m *Module) settle(ctx context.Context, tx *db.Tx, a stepArgs, actor, detail string, out Outcome) error {
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE recovery_steps SET state = ?, finished = ?, actor = ?, detail = ?, outcome = ? WHERE run = ? AND id = ?`,
		StateDone, db.Micros(m.cfg.Clock()), actor, db.Text(detail), string(b), a.Run, a.Step); err != nil {
		return err
	}
	if err := m.fact(ctx, tx, "recovery.step", a.Run, actor, map[string]any{"step": a.Step, "detail": db.Text(detail), "outcome": out}); err != nil {
		return err
	}
	r, err := m.get(ctx, tx, a.Run)
	if err != nil {
		return err
	}
	if s := r.step(a.Step); s.Kind == StepCheck && r.servicesUsable() {
		if err := m.cfg.Usable(ctx, tx, r); err != nil {
			return err
		}
	}
	return m.advance(ctx, tx, a.Run)
}

// Confirm records that a person did a human step.
func (m *Module) Confirm(ctx context.Context, tx *db.Tx, run, step, person, note string) error {
	r, err := m.get(ctx, tx, run)
	if err != nil {
		return err
	}
	s := r.step(step)
	switch {
	case s.ID == "" || s.Kind != StepHuman:
		return fmt.Errorf("recovery %s has no step %q for a person: %w", run, step, holdfast.ErrUsage)
	case s.State != StateAwaiting:
		return fmt.Errorf("step %q is %s, not awaiting anybody: %w", step, s.State, holdfast.ErrRefused)
	}
	return m.settle(ctx, tx, stepArgs{run, step}, person, note, Outcome{})
}

func (r Run) step(id string) Done {
	for _, s := range r.Steps {
		if s.ID == id {
			return s
		}
	}
	return Done{}
}

func (r Run) servicesUsable() bool {
	for _, s := range r.Steps {
		if s.Kind == StepCheck && s.State != StateDone {
			return false
		}
	}
	return true
}

// A Level is what is known of the level of service that one stage asks for.
type Level struct {
	At     time.Time // when it was measured to hold; zero: it was not yet
	Detail string    // the last measurement, in words; "" for none
}

// Levels are the levels that a run measures of a service, by stage.
func (r Run) Levels(service string) map[string]Level {
	out := map[string]Level{}
	for _, s := range r.Steps {
		if s.Kind == StepLevel && s.Service == service {
			out[s.Stage] = Level{s.Finished, s.Detail}
		}
	}
	return out
}

// UsableAt returns when the service became usable; zero if it has not.
func (r Run) UsableAt(service string) time.Time {
	return r.step("check-" + service).Finished
}

// Parts splits the time from the disruption to the moment at which the service
// was usable. detected is when somebody knew. The parts always add up to the
// whole: what no restore step accounts for is hand over.
func (r Run) Parts(service string, disruption, detected time.Time) holdfast.Parts {
	usable := r.UsableAt(service)
	if usable.IsZero() {
		return nil
	}
	var slow Done // the restore that the service waited for longest
	for _, id := range r.needs("check-"+service, map[string]bool{}) {
		if s := r.step(id); s.Kind == StepRestore && s.Finished.After(slow.Finished) {
			slow = s
		}
	}
	// The clocks of a disruption, a detection and a restore need not agree: no
	// part is longer than what is left of the whole.
	left := max(0, usable.Sub(disruption))
	p := func(name string, d time.Duration) holdfast.Part {
		d = min(max(0, d), left)
		left -= d
		return holdfast.Part{Name: name, Duration: d, Basis: holdfast.Measured}
	}
	o := slow.Outcome
	parts := holdfast.Parts{
		p("detect", detected.Sub(disruption)), p("decide", r.Activated.Sub(detected)),
		p("provision", slow.Started.Sub(r.Activated)+o.Provision), p("fetch", o.Fetch), p("replay", o.Replay), p("verify", o.Verify),
	}
	return append(parts, p("hand over", left))
}

// needs lists the steps that a step follows, directly or not.
func (r Run) needs(id string, seen map[string]bool) []string {
	var out []string
	for _, a := range r.step(id).After {
		if !seen[a] {
			seen[a] = true
			out = append(append(out, a), r.needs(a, seen)...)
		}
	}
	return out
}

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, run, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "recoveries." + run, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}
