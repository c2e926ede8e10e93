package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/planner"
	"holdfast/internal/seal"
)

// A clock that tests set.
type clock struct{ us atomic.Int64 }

func (c *clock) now() time.Time          { return db.Time(c.us.Load()) }
func (c *clock) advance(d time.Duration) { c.us.Add(d.Microseconds()) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// hands record what they were asked to do and in what order.
type hands struct {
	c *clock

	mu      sync.Mutex
	log     []string
	restore func(ctx context.Context, s Step, progress func(holdfast.Progress)) error // nil: succeeds
	usable  func(service string) (string, error)
	level   func(service string) (string, error)
	protect func(store string) error
}

func (h *hands) did(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *hands) done() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.log, " ")
}

func (h *hands) Restore(ctx context.Context, run string, s Step, progress func(holdfast.Progress)) (Outcome, error) {
	h.did("restore:%s@%s", s.Store, s.Location)
	if h.restore != nil {
		if err := h.restore(ctx, s, progress); err != nil {
			return Outcome{}, err
		}
	}
	h.c.advance(10 * time.Second)
	return Outcome{Snapshot: "x", Location: s.Location, Reached: "reached", DataUntil: noon, Provision: time.Second, Fetch: 4 * time.Second, Replay: 3 * time.Second, Verify: time.Second}, nil
}

func (h *hands) Usable(_ context.Context, service string) (string, error) {
	h.did("check:%s", service)
	if h.usable != nil {
		return h.usable(service)
	}
	return "200", nil
}

func (h *hands) Level(_ context.Context, service, level string) (string, error) {
	h.did("level:%s@%s", service, level)
	if h.level != nil {
		return h.level(service)
	}
	return "100 of 100", nil
}

func (h *hands) Protected(_ context.Context, store string, since time.Time) (string, error) {
	h.did("protect:%s", store)
	if since.IsZero() {
		return "", errors.New("asked for a backup since no time")
	}
	if h.protect != nil {
		return "", h.protect(store)
	}
	return "backed up", nil
}

// A rig is a recovery module on real parts, with hands that record.
type rig struct {
	t      *testing.T
	d      *db.DB
	c      *clock
	h      *hands
	log    *ledger.Log
	jobs   *job.Engine
	m      *Module
	events *[]string // what the incident heard
}

func eachRig(t *testing.T, f func(t *testing.T, r rig)) {
	dbtest.Each(t, []db.Module{job.Module, ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) {
		c := &clock{}
		c.us.Store(db.Micros(noon))
		key, err := seal.GenerateSigningKey("ledger")
		if err != nil {
			t.Fatal(err)
		}
		signer, err := seal.NoteSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		log, err := ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: c.now})
		if err != nil {
			t.Fatal(err)
		}
		r := rig{t: t, d: d, c: c, h: &hands{c: c}, log: log, events: new([]string)}
		f(t, r.start())
	})
}

// start makes engine and module, as a process does that begins on this state.
func (r rig) start() rig {
	r.t.Helper()
	var mu sync.Mutex
	heard := func(what string) func(context.Context, *db.Tx, Run) error {
		return func(_ context.Context, tx *db.Tx, run Run) error {
			tx.AfterCommit(func() {
				mu.Lock()
				defer mu.Unlock()
				*r.events = append(*r.events, what+" "+run.State)
			})
			return nil
		}
	}
	r.jobs = job.New(r.d, job.Config{Owner: "here", Clock: r.c.now, Lease: time.Minute})
	r.m = New(Config{DB: r.d, Jobs: r.jobs, Ledger: r.log, Hands: r.h, Usable: heard("usable"), Finished: heard("finished"), Clock: r.c.now})
	if err := r.jobs.TakeBack(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r
}

func (r rig) activate(id string, p Plan) {
	r.t.Helper()
	if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) error { return r.m.Activate(r.t.Context(), tx, id, 7, p, "ada") }); err != nil {
		r.t.Fatal(err)
	}
}

func (r rig) run(id string) Run {
	r.t.Helper()
	run, err := r.m.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

// once runs one due job.
func (r rig) once() bool {
	r.t.Helper()
	ran, err := r.jobs.RunOnce(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return ran
}

// all runs jobs, and lets time pass where none is due, until nothing is left.
func (r rig) all() {
	r.t.Helper()
	for range 1000 {
		if r.once() {
			continue
		}
		js, err := r.jobs.List(r.t.Context(), job.Filter{State: job.Waiting})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(js) == 0 {
			return
		}
		r.c.advance(time.Second)
	}
	r.t.Fatal("the jobs do not end")
}

func (r rig) facts(kind string) []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

func states(run Run) string {
	var out []string
	for _, s := range run.Steps {
		out = append(out, s.ID+"="+s.State)
	}
	return strings.Join(out, " ")
}

// plan makes a plan for db and files, api on db, web on api and files, and a
// person who tells the customers of web.
func testPlan(t *testing.T) Plan {
	t.Helper()
	p, err := planner.Make(planner.Input{Now: noon, Disruption: noon.Add(-time.Minute), Lost: []string{"db", "files"},
		Stores: map[string]planner.Store{
			"db":    {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute, Basis: holdfast.Measured},
			"files": {Offers: []planner.Offer{{Location: "offsite", Until: noon, Received: true}}, Estimate: 2 * time.Minute, Basis: holdfast.Measured},
		},
		Services: map[string]planner.Service{
			"api": {Needs: []string{"db"}, Checked: true},
			"web": {Needs: []string{"api", "files"}, Checked: true, Runbook: "book"},
		},
		Runbooks: map[string][]planner.RunStep{"book": {{ID: "check", Check: "web"}, {ID: "tell", After: []string{"check"}, Title: "Tell the customers", Roles: []string{"communications"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunCarriesEachStepOutOnceAndInOrder(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		p := testPlan(t)
		r.activate("r1", p)
		r.all()
		run := r.run("r1")
		if got := run.Plan.Digest(); got != p.Digest() {
			t.Errorf("the stored plan is another: %s, %s", got, p.Digest())
		}
		did := strings.Fields(r.h.done())
		for _, what := range did {
			if n := strings.Count(r.h.done(), what); n != 1 {
				t.Errorf("%s was done %d times", what, n)
			}
		}
		at := func(s string) int { return slices.Index(did, s) }
		if len(did) != 6 || at("restore:db@near") > at("check:api") || at("check:api") > at("check:web") || at("restore:files@offsite") > at("check:web") {
			t.Errorf("done: %v", did)
		}
		// The machine's part is over; a person is awaited, and until then the run goes on.
		if run.State != StateRunning || states(run) != "restore-db=done protect-db=done restore-files=done protect-files=done check-api=done check-web=done book-tell=awaiting" {
			t.Fatalf("%s: %s", run.State, states(run))
		}
		if len(*r.events) != 1 || (*r.events)[0] != "usable running" {
			t.Errorf("the incident heard %v", *r.events)
		}
		r.c.advance(time.Hour)
		confirm := func(step, person string) error {
			return r.d.Tx(t.Context(), func(tx *db.Tx) error { return r.m.Confirm(t.Context(), tx, "r1", step, person, "mailed") })
		}
		if err := confirm("check-web", "bob"); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("a person confirmed a machine's step: %v", err)
		}
		if err := confirm("nothing", "bob"); !errors.Is(err, holdfast.ErrUsage) {
			t.Error(err)
		}
		if err := confirm("book-tell", "bob"); err != nil {
			t.Fatal(err)
		}
		if err := confirm("book-tell", "bob"); !errors.Is(err, holdfast.ErrRefused) {
			t.Errorf("confirmed twice: %v", err)
		}
		run = r.run("r1")
		s := run.step("book-tell")
		if run.State != StateDone || s.Actor != "bob" || s.Detail != "mailed" || s.Finished.Sub(s.Started) != time.Hour {
			t.Errorf("%s: %+v", run.State, s)
		}
		if got := fmt.Sprint(*r.events); got != "[usable running finished done]" {
			t.Errorf("the incident heard %s", got)
		}
		if a, s, d := r.facts("recovery.activated"), r.facts("recovery.step"), r.facts("recovery.done"); len(a) != 1 || a[0].Actor != "ada" || len(s) != 7 || len(d) != 1 || s[6].Actor != "bob" {
			t.Errorf("facts: %d activated, %d steps, %d done", len(a), len(s), len(d))
		}
	})
}

func TestConfirmWaitsForItsTurn(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.activate("r1", testPlan(t))
		err := r.d.Tx(t.Context(), func(tx *db.Tx) error { return r.m.Confirm(t.Context(), tx, "r1", "book-tell", "bob", "") })
		if !errors.Is(err, holdfast.ErrRefused) {
			t.Errorf("confirmed before it was awaited: %v", err)
		}
		if _, err := r.m.Get(t.Context(), "r2"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestActivationIsThereWithItsFactOrNotAtAll(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		boom := errors.New("boom")
		err := r.d.Tx(t.Context(), func(tx *db.Tx) error {
			if err := r.m.Activate(t.Context(), tx, "r1", 7, testPlan(t), "ada"); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if runs, err := r.m.List(t.Context()); err != nil || len(runs) != 0 || r.once() || len(r.facts("")) != 0 {
			t.Errorf("left behind: %v, %v, %v", runs, r.facts(""), err)
		}
	})
}

// The process dies at every step in turn, in the middle of what the step does. The
// next one, with the same owner, goes on there and nowhere else.
func TestRunSurvivesARestartAtEveryStep(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		type killed struct{}
		for n := range 6 {
			r.h.log = nil
			id := fmt.Sprintf("r%d", n)
			r.activate(id, testPlan(t))
			calls := 0
			kill := func() {
				if calls++; calls == n+1 {
					panic(killed{})
				}
			}
			r.h.restore = func(context.Context, Step, func(holdfast.Progress)) error { kill(); return nil }
			r.h.usable = func(string) (string, error) { kill(); return "ok", nil }
			r.h.protect = func(string) error { kill(); return nil }
			// The engine turns a panic into an error, so the death is played one
			// level below: the job is claimed and its worker gone.
			died := r.dieIn(func() bool { return calls == n+1 })
			r = r.start()
			r.all()
			run := r.run(id)
			if !died || run.step("book-tell").State != StateAwaiting {
				t.Errorf("killed in call %d (%t): %s", n+1, died, states(run))
			}
			want := 7 // six steps, one of them twice
			if did := strings.Fields(r.h.done()); len(did) != want {
				t.Errorf("killed in call %d: %d calls, want %d: %v", n+1, len(did), want, did)
			}
			if len(run.Steps) != 7 {
				t.Errorf("%d steps", len(run.Steps))
			}
		}
		// Steps are settled once, whatever was begun twice.
		if got := len(r.facts("recovery.step")); got != 6*6 {
			t.Errorf("%d steps were settled, want %d", got, 6*6)
		}
	})
}

// dieIn runs jobs until one dies, and leaves it claimed as a killed process does:
// its outcome is never written.
func (r rig) dieIn(dead func() bool) bool {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	for range 100 {
		if err := r.jobs.Tick(ctx); err != nil {
			r.t.Fatal(err)
		}
		// What a claim in another life left: running, ours, with a lease.
		before, err := r.jobs.List(ctx, job.Filter{State: job.Running})
		if err != nil || len(before) != 0 {
			r.t.Fatal(err, before)
		}
		if !r.once() {
			return false
		}
		if !dead() {
			continue
		}
		// Undo what the engine wrote after the panic: the process had no time for it.
		if err := r.d.Tx(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE job_jobs SET state = 'running', owner = 'here', lease_until = ?, error = '' WHERE state = 'waiting' AND attempt > 0", r.c.now().Add(time.Minute))
			return err
		}); err != nil {
			r.t.Fatal(err)
		}
		return true
	}
	return false
}

func TestRestoreThatFailsThreeTimesFailsTheRun(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.h.restore = func(_ context.Context, s Step, _ func(holdfast.Progress)) error {
			if s.Store == "db" {
				return errors.New("object \"packs/9e\x00\xff\" is missing")
			}
			return nil
		}
		r.activate("r1", testPlan(t))
		r.all()
		run := r.run("r1")
		if n := strings.Count(r.h.done(), "restore:db"); n != restoreTries {
			t.Errorf("the restore was begun %d times", n)
		}
		if run.State != StateFailed || run.Finished.IsZero() || run.step("restore-db").State != StateFailed || !strings.Contains(run.step("restore-db").Detail, "is missing") {
			t.Errorf("%s: %+v", run.State, run.step("restore-db"))
		}
		if run.step("check-api").State != StateWaiting {
			t.Errorf("a step began that follows the failed one: %s", states(run))
		}
		if got := fmt.Sprint(*r.events); got != "[finished failed]" {
			t.Errorf("the incident heard %s", got)
		}
		if s, f := r.facts("recovery.step-failed"), r.facts("recovery.failed"); len(s) != restoreTries || len(f) != 1 || !strings.Contains(string(s[2].Data), `"final":true`) {
			t.Errorf("%d failed steps, %d failed runs", len(s), len(f))
		}
	})
}

func TestTwoRestoresThatFailEndTheRunOnce(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		var both sync.WaitGroup // neither ends before both have begun
		both.Add(2)
		r.h.restore = func(context.Context, Step, func(holdfast.Progress)) error {
			both.Done()
			both.Wait()
			return fmt.Errorf("place is gone: %w", holdfast.ErrRefused)
		}
		r.activate("r1", testPlan(t))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { r.once() })
		}
		wg.Wait()
		run := r.run("r1")
		if run.step("restore-db").State != StateFailed || run.step("restore-files").State != StateFailed {
			t.Error(states(run))
		}
		if got := fmt.Sprint(*r.events); got != "[finished failed]" || len(r.facts("recovery.failed")) != 1 {
			t.Errorf("the incident heard %s", got)
		}
	})
}

// A stop of the server in the last attempt is no failure.
func TestStopInTheLastAttemptDoesNotFailTheRun(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		fails := 0
		r.h.restore = func(ctx context.Context, s Step, _ func(holdfast.Progress)) error {
			if fails++; fails < restoreTries {
				return errors.New("connection reset")
			}
			return nil
		}
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		for fails < restoreTries-1 {
			if !r.once() {
				r.c.advance(time.Second)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		r.h.restore = func(ctx context.Context, _ Step, _ func(holdfast.Progress)) error {
			stop()
			<-ctx.Done()
			return ctx.Err()
		}
		for ctx.Err() == nil {
			if _, err := r.jobs.RunOnce(ctx); err != nil && ctx.Err() == nil {
				t.Fatal(err)
			}
			r.c.advance(time.Second)
		}
		if n := len(r.facts("recovery.step-failed")); n != restoreTries-1 {
			t.Errorf("%d failures on record, want %d: the stop is none", n, restoreTries-1)
		}
		r.h.restore = nil
		r = r.start()
		r.all()
		if run := r.run("r1"); run.State != StateDone {
			t.Errorf("%s: %s", run.State, states(run))
		}
	})
}

func TestCancelledStepFailsTheRun(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		r.h.restore = func(ctx context.Context, _ Step, _ func(holdfast.Progress)) error {
			js, err := r.jobs.List(t.Context(), job.Filter{Kind: KindRestore})
			if err != nil || len(js) != 1 {
				t.Errorf("%v, %v", js, err)
				return err
			}
			if err := r.jobs.Cancel(t.Context(), js[0].ID); err != nil {
				t.Error(err)
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
		r.once()
		if run := r.run("r1"); run.State != StateFailed || !strings.Contains(run.step("restore-db").Detail, "cancelled") || len(r.facts("recovery.failed")) != 1 {
			t.Errorf("%s: %s", run.State, states(run))
		}
	})
}

func TestCheckIsRepeatedUntilTheServiceIsUsable(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		looks := 0
		r.h.usable = func(string) (string, error) {
			if looks++; looks < 5 {
				return "", errors.New("status 502\x00\xe2\x82")
			}
			return "status 200\x00 \xe2\x82", nil // what a truncated answer may look like
		}
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		r.once()
		for looks == 0 {
			if !r.once() {
				r.c.advance(time.Second)
			}
		}
		if s := r.run("r1").step("check-api"); s.State != StateRunning || !strings.Contains(s.Detail, "status 502") {
			t.Errorf("nobody can see what is waited for: %+v", s)
		}
		r.all()
		run := r.run("r1")
		if s := run.step("check-api"); run.State != StateDone || !strings.HasPrefix(s.Detail, "status 200") || looks != 5 {
			t.Errorf("%s after %d looks: %+v", run.State, looks, s)
		}
		if n := len(r.facts("recovery.step-failed")); n != 0 {
			t.Errorf("%d looks stand in the ledger as failures", n)
		}
	})
}

// A run goes on until the level that a stage asks for holds, and says what is missing meanwhile.
func TestLevelIsMeasuredUntilItHolds(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		looks := 0
		r.h.level = func(string) (string, error) {
			if looks++; looks < 3 {
				return "", errors.New("97 of 100")
			}
			return "100 of 100", nil
		}
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}, Checked: true, Levels: []planner.Level{{Stage: "normal", Share: "100%"}}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		for looks == 0 {
			if !r.once() {
				r.c.advance(time.Second)
			}
		}
		if l := r.run("r1").Levels("api")["normal"]; r.run("r1").State != StateRunning || !l.At.IsZero() || l.Detail != "97 of 100" {
			t.Errorf("%+v", l)
		}
		r.all()
		run := r.run("r1")
		if l := run.Levels("api")["normal"]; run.State != StateDone || l.At.IsZero() || l.Detail != "100 of 100" || looks != 3 || len(run.Levels("web")) != 0 {
			t.Errorf("%s after %d looks: %+v", run.State, looks, l)
		}
	})
}

func TestServiceThatNeverBecomesUsableFailsTheRun(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.h.usable = func(string) (string, error) { return "", errors.New("status 502") }
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		for range 10 {
			r.once()
			r.c.advance(time.Second)
		}
		// A day has passed.
		if err := r.d.Tx(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), "UPDATE job_jobs SET attempt = ? WHERE state = 'waiting'", maxLooks-1)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r.all()
		if run := r.run("r1"); run.State != StateFailed || run.step("check-api").State != StateFailed || len(*r.events) == 0 {
			t.Errorf("%s: %s, the incident heard %v", run.State, states(run), *r.events)
		}
	})
}

func TestProgressIsWrittenSparingly(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		var seen []string
		r.h.restore = func(_ context.Context, _ Step, progress func(holdfast.Progress)) error {
			for i := range 100 {
				progress(holdfast.Progress{Stage: "fetch", Done: int64(i)})
				js, err := r.jobs.List(t.Context(), job.Filter{Kind: KindRestore})
				if err != nil {
					return err
				}
				if s := string(js[0].Progress); len(seen) == 0 || seen[len(seen)-1] != s {
					seen = append(seen, s)
				}
				r.c.advance(progressEvery / 10)
			}
			return nil
		}
		r.once()
		if len(seen) != 10 {
			t.Errorf("100 reports were written %d times: %v", len(seen), seen)
		}
	})
}

// Whatever the clocks say, the parts span disruption to usable exactly.
func TestPartsSumToTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instant := func(label string) time.Time {
			return noon.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(t, label)) * time.Second)
		}
		span := func(label string) time.Duration {
			return time.Duration(rapid.IntRange(-60, 3600).Draw(t, label)) * time.Second
		}
		run := Run{Activated: instant("activated")}
		check := Done{Step: Step{ID: "check-api", Kind: StepCheck}, Finished: instant("usable")}
		for i := range rapid.IntRange(0, 3).Draw(t, "restores") {
			id := fmt.Sprintf("restore-s%d", i)
			check.After = append(check.After, id)
			run.Steps = append(run.Steps, Done{Step: Step{ID: id, Kind: StepRestore}, Started: instant("started"), Finished: instant("finished"),
				Outcome: Outcome{Provision: span("provision"), Fetch: span("fetch"), Replay: span("replay"), Verify: span("verify")}})
		}
		run.Steps = append(run.Steps, check)
		disruption := instant("disruption")
		parts := run.Parts("api", disruption, instant("detected"))
		if want := max(0, check.Finished.Sub(disruption)); parts.Sum() != want {
			t.Fatalf("%s are %s, the whole is %s", parts, parts.Sum(), want)
		}
		for i, p := range parts {
			if p.Name != holdfast.PartNames[i] || p.Duration < 0 {
				t.Fatalf("part %d: %+v", i, p)
			}
		}
	})
	if p := (Run{}).Parts("api", noon, noon); p != nil {
		t.Errorf("a service that is not usable has parts: %s", p)
	}
}

func TestPartsOfARealRun(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		p, err := planner.Make(planner.Input{Now: noon, Disruption: noon, Lost: []string{"db"},
			Stores:   map[string]planner.Store{"db": {Offers: []planner.Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
			Services: map[string]planner.Service{"api": {Needs: []string{"db"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.activate("r1", p)
		r.all()
		run := r.run("r1")
		got := run.Parts("api", noon.Add(-time.Minute), noon.Add(-20*time.Second)).String()
		if want := "detect 40s, decide 20s, provision 1.0s, fetch 4.0s, replay 3.0s, verify 1.0s, hand over 1.0s"; got != want {
			t.Errorf("%s\nwant:\n%s", got, want)
		}
		var f struct{ Outcome Outcome }
		if err := json.Unmarshal(r.facts("recovery.step")[0].Data, &f); err != nil || f.Outcome.Fetch != 4*time.Second {
			t.Errorf("%+v, %v", f, err)
		}
	})
}
