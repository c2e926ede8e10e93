package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/source"
)

const (
	checkObjects = "objects exist and are authentic"
	checkFresh   = "fresh by observed time"
	checkChain   = "snapshot chain"
	checkRead    = "all bytes read back"
)

func TestDrillClimbsToItsGoal(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 300_000)
		r.snapshot("near")
		r.write("b", 200_000)
		last := r.snapshot("near")
		for goal := holdfast.L0; goal <= holdfast.L5; goal++ {
			r.pass(time.Second)
			planned := r.plan(Request{Goal: goal, Pick: "latest", By: "ada", Reason: "test"})
			if fs := r.facts("drill.planned"); len(fs) != int(goal)+1 || r.hooks.boxes != max(0, int(goal)-3) {
				t.Fatalf("not on record before anything happened: %d facts, %d sandboxes", len(fs), r.hooks.boxes)
			}
			d := r.finish(planned.ID)
			if d.State != StatePassed || d.Rung != goal || d.Location != "near" || d.Error != "" || d.Attempt != 1 {
				t.Errorf("goal %s: %+v", goal, d)
			}
			if (goal >= holdfast.L3) != (d.Report.Snapshot == last.ID) || (goal >= holdfast.L3) != (d.Parts != nil) {
				t.Errorf("goal %s: %+v, %s", goal, d.Report, d.Parts)
			}
			fs := r.facts("drill.passed")
			if len(fs) != int(goal)+1 || d.Fact != fs[goal].Index {
				t.Errorf("goal %s: %d facts, drill says %d", goal, len(fs), d.Fact)
			}
			var f Drill
			if err := json.Unmarshal(fs[goal].Data, &f); err != nil || f.ID != d.ID || f.Seed != d.Seed || len(f.Checks) != len(d.Checks) {
				t.Errorf("%+v, %v", f, err)
			}
		}
		if last, ok, err := r.m.LastPassed(t.Context(), "db"); err != nil || !ok || last.Goal != holdfast.L5 {
			t.Errorf("%+v, %t, %v", last, ok, err)
		}
		if at, err := r.m.LastRead(t.Context(), "near", "db"); err != nil || at.IsZero() {
			t.Errorf("%s, %v", at, err)
		}
		if len(*r.failed) != 0 {
			t.Errorf("%v", *r.failed)
		}
		if d := r.drill(Request{Goal: holdfast.L7}); d.State != StateShort || !strings.Contains(outcome(d, holdfast.L7, holdfast.L7.Proves()), "one store alone") {
			t.Errorf("one store proved several: %+v", d)
		}
		for _, goal := range []holdfast.Rung{holdfast.RungNone, 9} {
			if _, _, err := r.m.Start(t.Context(), Request{Store: "db", Goal: goal}); !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("goal %d: %v", goal, err)
			}
		}
	})
}

func TestTheRightRungFindsTheDamage(t *testing.T) {
	newest := func(ms []*repo.Manifest) *repo.Manifest { return ms[len(ms)-1] }
	flip := func(m *repotest.Memory, name string) {
		b := m.Bytes(name)
		b[len(b)/2] ^= 1
		m.Set(name, b)
	}
	pack := func(m *repo.Manifest) string {
		return "packs/" + m.Packs[0].ID[:2] + "/" + m.Packs[0].ID
	}
	tests := []struct {
		name  string
		harm  func(r rig, m *repotest.Memory, ms []*repo.Manifest)
		rung  holdfast.Rung // that fails first
		check string
		says  string
	}{
		{"pack is missing", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { m.Set(pack(newest(ms)), nil) }, holdfast.L0, checkObjects, "is missing"},
		{"old pack is missing", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { m.Set(pack(ms[0]), nil) }, holdfast.L0, checkObjects, "is missing"},
		{"pack is short", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) {
			m.Set(pack(newest(ms)), m.Bytes(pack(newest(ms)))[1:])
		}, holdfast.L0, checkObjects, "bytes of"},
		{"manifest is altered", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) {
			n := ms[1].Object()
			m.Set(n, []byte(strings.Replace(string(m.Bytes(n)), `"kind":"files"`, `"kind":"filet"`, 1)))
		}, holdfast.L0, checkObjects, ms1},
		{"manifest is no manifest", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { m.Set(ms[1].Object(), []byte("x")) }, holdfast.L0, checkObjects, ms1},
		{"receipt is altered", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) {
			m.Set("receipts/db/"+newest(ms).ID, []byte("x"))
		}, holdfast.L0, checkObjects, "receipt"},
		{"old backup", func(r rig, _ *repotest.Memory, _ []*repo.Manifest) {
			r.hooks.sub.FreshFor = func(string) time.Duration { return time.Hour }
			r.pass(2 * time.Hour)
		}, holdfast.L0, checkFresh, "promised 1h"},
		{"middle of the chain is gone", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { m.Set(ms[1].Object(), nil) }, holdfast.L1, checkChain, "names a predecessor"},
		{"end of the chain is gone", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { m.Set(newest(ms).Object(), nil) }, holdfast.L1, checkChain, "was countersigned here"},
		{"byte is flipped", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { flip(m, pack(newest(ms))) }, holdfast.L2, checkRead, "packs/"},
		{"byte of an old pack is flipped", func(_ rig, m *repotest.Memory, ms []*repo.Manifest) { flip(m, pack(ms[0])) }, holdfast.L2, checkRead, "packs/"},
	}
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 300_000)
		ms := []*repo.Manifest{r.snapshot("near")}
		for range 2 {
			r.write("a", 300_000)
			ms = append(ms, r.snapshot("near"))
		}
		whole := r.places["near"]
		for _, tt := range tests {
			r.pass(time.Minute)
			r.hooks.sub.FreshFor = nil
			r.places["near"] = whole.Clone()
			tt.harm(r, r.places["near"], ms)
			failed := len(*r.failed)
			facts := len(r.facts("drill.failed"))
			d := r.drill(Request{Goal: holdfast.L2, Pick: "latest", Location: "near"})
			says := tt.says
			if says == ms1 {
				says = ms[1].ID
			}
			if d.State != StateFailed || d.Rung != tt.rung-1 || !strings.HasPrefix(outcome(d, tt.rung, tt.check), "failed: ") || !strings.Contains(outcome(d, tt.rung, tt.check), says) {
				t.Errorf("%s: reached %s (%s), %s: %s", tt.name, d.Rung, d.Error, tt.check, outcome(d, tt.rung, tt.check))
			}
			for r := holdfast.L0; r < tt.rung; r++ {
				for _, c := range d.Checks {
					if c.Rung == r && c.Outcome != holdfast.Passed {
						t.Errorf("%s: %s fails too: %+v", tt.name, r, c)
					}
				}
			}
			if len(*r.failed) != failed+1 || len(r.facts("drill.failed")) != facts+1 {
				t.Errorf("%s: heard %d times, %d facts", tt.name, len(*r.failed)-failed, len(r.facts("drill.failed"))-facts)
			}
			if at, err := r.m.LastRead(t.Context(), "near", "db"); tt.rung == holdfast.L2 && (err != nil || !at.IsZero()) {
				t.Errorf("%s: read back at %s, %v", tt.name, at, err)
			}
			// What was read back whole in one drill is not read again by the next;
			// each case begins with nothing read.
			if err := r.d.Tx(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(t.Context(), "DELETE FROM drill_reads"); return err }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

const ms1 = "the second snapshot"

func TestForgedReceiptIsNotFresh(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		m := r.snapshot("near")
		// The agent that writes the backups countersigns them itself.
		r.places["near"].Set("receipts/db/"+m.ID, nil)
		p, err := r.place(t.Context(), "near")
		if err != nil {
			t.Fatal(err)
		}
		rc := repo.Receipt{Scope: "db", Snapshot: m.ID, Manifest: m.Hash(), Place: "near", Received: r.now(), Vault: r.vault.Name()}
		if err := p.PutReceipt(t.Context(), rc, r.keys.Signer); err != nil {
			t.Fatal(err)
		}
		if d := r.drill(Request{Goal: holdfast.L0}); d.State != StateShort || !strings.HasPrefix(outcome(d, holdfast.L0, checkFresh), "not proven") {
			t.Errorf("%s: %s", d.State, outcome(d, holdfast.L0, checkFresh))
		}
	})
}

func TestBudgetLeavesTheRestNotProven(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		var ms []*repo.Manifest
		for range 3 {
			r.write("a", 400_000)
			ms = append(ms, r.snapshot("near"))
		}
		r.hooks.budget = 1 // one snapshot a drill
		r = r.start()
		var total, size int64
		for _, m := range ms {
			for _, p := range m.Packs {
				total += p.Size
			}
		}
		for _, p := range ms[2].Packs {
			size += p.Size
		}
		d := r.drill(Request{Goal: holdfast.L2})
		want := float64(total-size) / float64(total)
		if d.State != StateShort || len(r.facts("drill.short")) != 1 || d.Rung != holdfast.L1 || math.Abs(d.Unread-want) > 1e-9 || !strings.HasPrefix(outcome(d, holdfast.L2, checkRead), fmt.Sprintf("not proven: %.1f %%", 100*want)) {
			t.Errorf("%s at %s, unread %f, want %f: %s", d.State, d.Rung, d.Unread, want, outcome(d, holdfast.L2, checkRead))
		}
		if at, err := r.m.LastRead(t.Context(), "near", "db"); err != nil || !at.IsZero() {
			t.Errorf("read back at %s, %v", at, err)
		}
		// The next drills read what is left, until all is read.
		if d := r.drill(Request{Goal: holdfast.L2}); d.Unread >= want || d.Unread == 0 {
			t.Errorf("unread %f", d.Unread)
		}
		if d := r.drill(Request{Goal: holdfast.L2}); d.State != StatePassed || d.Unread != 0 {
			t.Errorf("%s, unread %f: %s", d.State, d.Unread, outcome(d, holdfast.L2, checkRead))
		}
		// And it does not last for ever.
		r.pass(31 * 24 * time.Hour)
		if d := r.drill(Request{Goal: holdfast.L2}); d.State != StateShort || d.Unread == 0 {
			t.Errorf("%s, unread %f: %s", d.State, d.Unread, outcome(d, holdfast.L2, checkRead))
		}
	})
}

func TestNothingToDrill(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		_, _, err := r.m.Start(t.Context(), Request{Store: "db", Goal: holdfast.L3})
		if err == nil || !strings.Contains(holdfast.Hint(err), "holdfast backup db") {
			t.Errorf("%v", err)
		}
		if ds, err := r.m.List(t.Context(), "db"); err != nil || len(ds) != 0 {
			t.Errorf("%v, %v", ds, err)
		}
		// Its backups vanish between the draw and the drill.
		r.write("a", 10)
		r.snapshot("near")
		d := r.plan(Request{Goal: holdfast.L2})
		r.places["near"] = repotest.NewMemory()
		repotest.Init(t.Context(), t, r.places["near"], "test-repository")
		d = r.finish(d.ID)
		if d.State != StateFailed || d.Rung != holdfast.RungNone || !strings.HasPrefix(outcome(d, holdfast.L2, checkRead), "not proven") {
			t.Errorf("%s at %s: %s", d.State, d.Rung, outcome(d, holdfast.L2, checkRead))
		}
	})
}

func TestLocationOutOfReachDoesNotKeepTheOthersFromBeingDrilled(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 10)
		r.snapshot("near", "offsite")
		r.hooks.sub.Locations = []string{"near", "offsite"}
		r.away["near"] = errors.New("not mounted")
		if d := r.drill(Request{Goal: holdfast.L3}); d.State != StatePassed || d.Location != "offsite" {
			t.Errorf("%+v", d)
		}
		r.hooks.windows = errors.New("connection reset")
		if _, _, err := r.m.Start(t.Context(), Request{Store: "db", Goal: holdfast.L3}); err == nil || !strings.Contains(err.Error(), "not mounted") || !strings.Contains(err.Error(), "connection reset") {
			t.Errorf("not every location is named: %v", err)
		}
		// One that goes away after the draw is a failed drill, and says so.
		r.hooks.windows = nil
		d := r.plan(Request{Goal: holdfast.L3})
		r.away["offsite"] = errors.New("gone now")
		if d = r.finish(d.ID); d.State != StateFailed || !strings.Contains(d.Error, "gone now") || len(*r.failed) != 1 {
			t.Errorf("%+v", d)
		}
	})
}

func TestFailedDrillIsSettledWithItsFact(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		for _, tt := range []struct {
			name string
			set  func(h *hooks)
			says string
		}{
			{"restore fails", func(h *hooks) {
				h.restore = func(context.Context, source.Request) error { return errors.New("the engine did not start") }
			}, "did not start"},
			{"integrity check fails", func(h *hooks) {
				h.checks = func(context.Context) []holdfast.Check {
					return []holdfast.Check{{Rung: holdfast.L5, Name: "amcheck", Outcome: holdfast.Failed, Detail: strings.Repeat("index is broken ", 1<<17)}}
				}
			}, ""},
			{"sandbox is left behind", func(h *hooks) { h.box = errors.New("a process is still there") }, "left something behind"},
		} {
			*r.hooks = hooks{sub: r.hooks.sub, budget: r.hooks.budget}
			tt.set(r.hooks)
			n := len(*r.failed)
			d := r.drill(Request{Goal: holdfast.L5})
			if d.State != StateFailed || !strings.Contains(d.Error, tt.says) || d.Finished.IsZero() || d.Attempt != 1 {
				t.Errorf("%s: %s, %q, attempt %d", tt.name, d.State, d.Error, d.Attempt)
			}
			fs := r.facts("drill.failed")
			if len(fs) != n+1 || fs[n].Index != d.Fact || len(*r.failed) != n+1 || (*r.failed)[n].ID != d.ID {
				t.Errorf("%s: %d facts, heard %d times", tt.name, len(fs), len(*r.failed))
			}
		}
		if _, ok, err := r.m.LastPassed(t.Context(), "db"); ok || err != nil {
			t.Errorf("a failed drill counts as passed, %v", err)
		}
	})
}

// A process that dies in the middle of a drill leaves it to the next one; a drill
// that kills whoever runs it ends as failed.
func TestKilledDrillGoesOnOrFails(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		for deaths := 0; deaths <= drillAttempts; deaths++ {
			d := r.plan(Request{Goal: holdfast.L3})
			begun := 0
			for n := range deaths {
				r.die(&begun)
				if got := r.get(d.ID); begun != n+1 || got.State != StateRunning || got.Attempt != n+1 {
					t.Fatalf("death %d: begun %d times, %s, attempt %d", n+1, begun, got.State, got.Attempt)
				}
				r = r.start()
			}
			r.hooks.restore = nil
			got := r.finish(d.ID)
			if want := map[bool]string{true: StatePassed, false: StateFailed}[deaths < drillAttempts]; got.State != want {
				t.Errorf("after %d deaths: %s, %q", deaths, got.State, got.Error)
			}
			if got.State == StateFailed && (!strings.Contains(got.Error, "begun 3 times") || len(*r.failed) != 1 || len(r.facts("drill.failed")) != 1) {
				t.Errorf("%q, heard %d times", got.Error, len(*r.failed))
			}
		}
	})
}

// die runs the next drill and ends in the middle of it as a killed process does:
// the job stays claimed.
func (r rig) die(begun *int) {
	r.t.Helper()
	ctx := r.t.Context()
	r.hooks.restore = func(context.Context, source.Request) error { *begun++; panic("killed") }
	if ran, err := r.jobs.RunOnce(ctx); err != nil || !ran {
		r.t.Fatal(ran, err)
	}
	// What the engine wrote after the panic did not happen.
	if err := r.d.Tx(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE job_jobs SET state = 'running', owner = 'here', lease_until = ?, attempt = 1, error = '' WHERE state = 'waiting'", r.now().Add(time.Minute))
		if err == nil && n != 1 {
			err = fmt.Errorf("%d jobs were claimed", n)
		}
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
}

func TestDrillThatPanicsFails(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		r.hooks.restore = func(context.Context, source.Request) error { panic("a mistake of ours") }
		if d := r.drill(Request{Goal: holdfast.L3}); d.State != StateFailed || d.Attempt != drillAttempts || len(*r.failed) != 1 {
			t.Errorf("%+v", d)
		}
	})
}

// A stop of the server makes commands fail in the sandbox. That is no finding.
func TestStopIsNoFailedDrill(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		d := r.plan(Request{Goal: holdfast.L5})
		ctx, stop := context.WithCancel(t.Context())
		r.hooks.checks = func(ctx context.Context) []holdfast.Check {
			stop()
			<-ctx.Done()
			return []holdfast.Check{{Rung: holdfast.L5, Name: "amcheck", Outcome: holdfast.Failed, Detail: "signal: killed"}}
		}
		if _, err := r.jobs.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		if got := r.get(d.ID); got.State != StateRunning || len(*r.failed) != 0 || len(r.facts("drill.failed")) != 0 {
			t.Errorf("%s, heard %d times", got.State, len(*r.failed))
		}
		r.hooks.checks = nil
		r = r.start()
		if got := r.finish(d.ID); got.State != StatePassed || got.Attempt != 2 {
			t.Errorf("%+v", got)
		}
	})
}

func TestCancelledDrillFails(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		cancel := func() {
			js, err := r.jobs.List(t.Context(), job.Filter{Kind: KindRun, Limit: 1})
			if err == nil {
				err = r.jobs.Cancel(t.Context(), js[0].ID)
			}
			if err != nil {
				t.Error(err)
			}
		}
		// While it runs.
		r.hooks.restore = func(ctx context.Context, _ source.Request) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		if d := r.drill(Request{Goal: holdfast.L3}); d.State != StateFailed || !strings.Contains(d.Error, "cancelled") {
			t.Errorf("%s: %q", d.State, d.Error)
		}
		// While it waits: the next look settles it.
		r.hooks.restore = nil
		d := r.plan(Request{Goal: holdfast.L3})
		cancel()
		if err := r.m.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.get(d.ID); got.State != StateFailed || !strings.Contains(got.Error, "cancelled") || len(*r.failed) != 2 || got.Fact < 0 {
			t.Errorf("%s: %q, heard %d times", got.State, got.Error, len(*r.failed))
		}
		// And leaves those alone that are in hand.
		d = r.plan(Request{Goal: holdfast.L3})
		if err := r.m.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.finish(d.ID); got.State != StatePassed {
			t.Errorf("%+v", got)
		}
	})
}

// If the failure cannot be told, the drill is not recorded either, and comes again.
func TestFailureThatNobodyCouldHearIsTriedAgain(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		r.hooks.box, r.hooks.refuse = errors.New("left"), errors.New("no incident")
		d := r.plan(Request{Goal: holdfast.L3})
		for range 2 {
			if _, err := r.jobs.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.pass(time.Hour)
		}
		if got := r.get(d.ID); got.Ended() || len(r.facts("drill.failed")) != 0 {
			t.Errorf("%+v", got)
		}
		r.hooks.refuse = nil
		if got := r.finish(d.ID); got.State != StateFailed || len(*r.failed) != 1 || len(r.facts("drill.failed")) != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestOwnerConfirmsWhatAwaitsIt(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		ok := func(any, time.Time) (bool, error) { return true, nil }
		confirm := func(id, person string) (d Drill, err error) {
			err = r.d.Tx(t.Context(), func(tx *db.Tx) error {
				d, err = r.m.Confirm(t.Context(), tx, id, person, "the invoices are there")
				return err
			})
			return d, err
		}
		invariants := map[string][]Invariant{
			"none":           nil,
			"broken":         {{Name: "orders", Holds: func(any, time.Time) (bool, error) { return false, nil }}},
			"cannot judge":   {{Name: "orders", Holds: func(any, time.Time) (bool, error) { return false, errors.New("last is unknown") }}},
			"holds and not":  {{Name: "orders", Holds: ok}, {Name: "users", Holds: func(any, time.Time) (bool, error) { return false, nil }}},
			"holds and what": {{Name: "orders", Holds: ok}, {Name: "users", Holds: func(any, time.Time) (bool, error) { return true, errors.New("?") }}},
		}
		for name, inv := range invariants {
			r.hooks.sub.Invariants = inv
			d := r.drill(Request{Goal: holdfast.L6})
			want := StateShort // what cannot be judged is not proven, and did not fail
			if slices.ContainsFunc(d.Checks, func(c holdfast.Check) bool { return c.Outcome == holdfast.Failed }) {
				want = StateFailed
			}
			if d.State != want || d.Awaits() || d.Rung != holdfast.L5 {
				t.Errorf("%s: %s at %s, awaits %t", name, d.State, d.Rung, d.Awaits())
			}
			if _, err := confirm(d.ID, "ada"); !errors.Is(err, holdfast.ErrRefused) {
				t.Errorf("%s: confirmed: %v", name, err)
			}
		}
		r.hooks.sub.Invariants = []Invariant{{Name: "orders", Question: "count", Holds: ok}, {Name: "ratio", Question: "nan", Holds: ok}, {Name: "text", Question: "long", Holds: ok}}
		r.hooks.value = func(q string) (any, error) {
			return map[string]any{"count": int64(7), "nan": math.NaN(), "long": strings.Repeat("é", 1<<20)}[q], nil
		}
		d := r.drill(Request{Goal: holdfast.L6})
		if d.State != StatePassed || !d.Awaits() || d.Rung != holdfast.L5 || d.Answers["ratio"] != "NaN" || d.Answers["orders"] != float64(7) {
			t.Fatalf("%s at %s: %v, %q", d.State, d.Rung, d.Answers["ratio"], d.Error)
		}
		if _, err := confirm(d.ID, "bob"); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(holdfast.Hint(err), "ada") {
			t.Errorf("another than the owner confirmed: %v", err)
		}
		if got := r.get(d.ID); got.Rung != holdfast.L5 || len(r.facts("drill.confirmed")) != 0 {
			t.Errorf("%+v", got)
		}
		got, err := confirm(d.ID, "ada")
		if err != nil || got.Rung != holdfast.L6 || got.Awaits() || !reflect.DeepEqual(r.get(d.ID).Checks, got.Checks) || r.get(d.ID).Fact != d.Fact {
			t.Errorf("%+v, %v", got, err)
		}
		if c := got.Checks[len(got.Checks)-1]; c.Grade != holdfast.Attested || !strings.HasPrefix(c.Detail, "ada: ") {
			t.Errorf("%+v", c)
		}
		if fs := r.facts("drill.confirmed"); len(fs) != 1 || fs[0].Actor != "ada" {
			t.Errorf("%+v", fs)
		}
		if _, err := confirm(d.ID, "ada"); !errors.Is(err, holdfast.ErrRefused) {
			t.Errorf("confirmed twice: %v", err)
		}
		if _, err := confirm("nothing", "ada"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestScheduledDrillsEndWithTheirSlotAndAreNotPlannedTwice(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		enqueue := func() (id int64) {
			if err := r.d.Tx(t.Context(), func(tx *db.Tx) (err error) {
				id, err = r.jobs.Enqueue(t.Context(), tx, job.Insert{Kind: KindScheduled, Args: ScheduledArgs{"weekly"}, MaxAttempts: 2})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return id
		}
		slot := enqueue()
		// The process ends while it waits for the drill.
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := r.jobs.RunOnce(ctx); done <- err }()
		var ds []Drill
		for len(ds) == 0 {
			var err error
			if ds, err = r.m.List(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r = r.start()
		d := r.finishBeside(ds[0].ID, slot)
		if d.State != StatePassed || d.Name != "weekly" || d.Slot != slot {
			t.Errorf("%+v", d)
		}
		if ds, err := r.m.List(t.Context(), "db"); err != nil || len(ds) != 1 {
			t.Errorf("%d drills, %v", len(ds), err)
		}
		if j, err := r.jobs.Get(t.Context(), slot); err != nil || j.State != job.Done {
			t.Errorf("%+v, %v", j, err)
		}

		// No location is within reach: asked again, then on record as failed.
		r.away["near"] = errors.New("not mounted")
		slot = enqueue()
		for range 2 {
			if _, err := r.jobs.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.pass(time.Hour)
		}
		j, err := r.jobs.Get(t.Context(), slot)
		if err != nil || j.State != job.Failed {
			t.Errorf("%+v, %v", j, err)
		}
		ds, err = r.m.List(t.Context(), "db")
		if err != nil || len(ds) != 2 || ds[0].State != StateFailed || !strings.Contains(ds[0].Error, "not mounted") || len(*r.failed) != 1 || len(r.facts("drill.failed")) != 1 {
			t.Errorf("%d drills, heard %d times, %v", len(ds), len(*r.failed), err)
		}
	})
}

// finishBeside runs a drill while the job that waits for it runs too.
func (r rig) finishBeside(id string, slot int64) Drill {
	r.t.Helper()
	if err := r.jobs.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	defer r.jobs.Stop(r.t.Context())
	if _, err := r.jobs.Wait(r.t.Context(), slot); err != nil {
		r.t.Fatal(err)
	}
	return r.get(id)
}

// One damaged manifest fails the drill, and does not hide what can still be restored.
func TestDamageOfOneSnapshotDoesNotHideTheOthers(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 100)
		old := r.snapshot("near")
		r.write("a", 100)
		last := r.snapshot("near")
		r.places["near"].Set(old.Object(), []byte("x"))
		d := r.drill(Request{Goal: holdfast.L3, Pick: "latest"})
		if d.State != StateFailed || d.Error != "" || d.Report.Snapshot != last.ID || !strings.HasPrefix(outcome(d, holdfast.L0, checkObjects), "failed") {
			t.Errorf("%s, %q, %+v", d.State, d.Error, d.Report)
		}
	})
}
