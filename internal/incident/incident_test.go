package incident

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
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A rig is the module on real parts. What the plan and the world say is set by
// the test.
type rig struct {
	t   testing.TB
	d   *db.DB
	log *ledger.Log
	m   *Module

	now       *atomic.Int64
	commander string
	impact    map[string]Impact
	usable    func(store string, since time.Time) (bool, string, error)
	opened    func(ctx context.Context, tx *db.Tx, i Incident) error
}

func newRig(t testing.TB, d *db.DB) *rig {
	t.Helper()
	key, err := seal.GenerateSigningKey("ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.NoteSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, d: d, now: new(atomic.Int64), commander: "ada", impact: map[string]Impact{
		"db":    {Services: []string{"api", "web"}, Severity: SEV2},
		"files": {Services: []string{"web"}, Severity: SEV1},
		"logs":  {Services: []string{"reports"}, Severity: SEV3},
	}}
	r.now.Store(db.Micros(noon))
	if r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	r.m = New(Config{DB: d, Ledger: r.log, Clock: r.clock,
		Impact: func(store string) Impact {
			im := r.impact[store]
			im.Commander = r.commander
			return im
		},
		Usable: func(_ context.Context, store string, since time.Time) (bool, string, error) {
			if r.usable == nil {
				return true, "", nil
			}
			return r.usable(store, since)
		},
		Opened: func(ctx context.Context, tx *db.Tx, i Incident) error {
			if r.opened == nil {
				return nil
			}
			return r.opened(ctx, tx, i)
		},
	})
	return r
}

func (r *rig) clock() time.Time     { return db.Time(r.now.Load()) }
func (r *rig) pass(d time.Duration) { r.now.Add(d.Microseconds()) }
func (r *rig) ctx() context.Context { return r.t.Context() }
func lost(store string) Signal {
	return Signal{Source: "probe", Dedup: "lost:" + store, Store: store, Title: store + " is lost"}
}
func (r *rig) get(id int64) (i Incident) {
	r.t.Helper()
	i, err := r.m.Get(r.ctx(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) signal(s Signal) (i Incident) {
	r.t.Helper()
	if err := r.d.Tx(r.ctx(), func(tx *db.Tx) (err error) {
		i, err = r.m.Signal(r.ctx(), tx, s)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) clear(dedup string) {
	r.t.Helper()
	if err := r.d.Tx(r.ctx(), func(tx *db.Tx) error { return r.m.Clear(r.ctx(), tx, dedup, "it answers again", r.clock()) }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) move(id int64, mv Move) (i Incident, err error) {
	if mv.Actor == "" {
		mv.Actor = "ada"
	}
	err = r.d.Tx(r.ctx(), func(tx *db.Tx) error {
		i, err = r.m.Advance(r.ctx(), tx, id, mv)
		return err
	})
	return i, err
}

// to brings an incident to a phase, meeting every guard.
func (r *rig) to(id int64, to Phase) Incident {
	r.t.Helper()
	i, err := r.move(id, Move{To: to, Activation: "ada: it is lost", Recovery: "r1", Outcome: "nothing changes, for a reason"})
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) facts() []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.ctx(), ledger.Query{})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

func (r *rig) events(id int64) []Event {
	r.t.Helper()
	es, err := r.m.Events(r.ctx(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return es
}

func each(t *testing.T, f func(t *testing.T, r *rig)) {
	dbtest.Each(t, []db.Module{ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) { f(t, newRig(t, d)) })
}

// What each step forward asks for, and that it is refused without.
func TestEveryTransition(t *testing.T) {
	full := Move{Activation: "ada: it is lost", Recovery: "r1", Outcome: "learned"}
	without := func(f func(*Move)) Move { mv := full; f(&mv); return mv }
	// allowed says what Advance does with every guard met.
	allowed := func(from, to Phase) string {
		f, g := slices.Index(Phases, from), slices.Index(Phases, to)
		switch {
		case from == Closed:
			return "refused"
		case f == g:
			return "stays"
		case f < g:
			return "moves"
		case to == Assessment && (from == Containment || from == Recovery):
			return "moves"
		}
		return "refused"
	}
	guards := []struct {
		phase  Phase
		name   string
		mv     Move
		broken func(r *rig)
	}{
		{Containment, "nobody commands", full, func(r *rig) { r.commander = "" }},
		{Containment, "activation is not decided", without(func(m *Move) { m.Activation = "" }), nil},
		{Recovery, "no approach", without(func(m *Move) { m.Recovery = "" }), nil},
		{Review, "store is not back", full, func(r *rig) {
			r.usable = func(string, time.Time) (bool, string, error) { return false, "no new backup", nil }
		}},
		{Closed, "no review", without(func(m *Move) { m.Outcome = " \n" }), nil},
	}
	each(t, func(t *testing.T, r *rig) {
		n := 0
		fresh := func(at Phase) Incident {
			n++
			// Each incident is about a store of its own, so that none joins another.
			i := r.signal(lost(fmt.Sprint("store", n)))
			if at != Detection {
				i = r.to(i.ID, at)
			}
			return i
		}
		for _, from := range Phases {
			for _, to := range Phases {
				i := fresh(from)
				events := len(r.events(i.ID))
				mv := full
				mv.To = to
				got, err := r.move(i.ID, mv)
				want := allowed(from, to)
				after := r.get(i.ID)
				switch {
				case want == "refused" && (!errors.Is(err, ErrGuard) || !errors.Is(err, holdfast.ErrRefused) || after.Phase != from || len(r.events(i.ID)) != events):
					t.Errorf("%s to %s is allowed: %v, %s", from, to, err, after.Phase)
				case want == "stays" && (err != nil || after.Phase != from || len(r.events(i.ID)) != events):
					t.Errorf("%s to itself: %v, %s", from, err, after.Phase)
				case want == "moves" && (err != nil || after.Phase != to || fmt.Sprint(got) != fmt.Sprint(after)):
					t.Errorf("%s to %s: %v\n%+v\n%+v", from, to, err, got, after)
				case want == "moves":
					steps := max(1, slices.Index(Phases, to)-slices.Index(Phases, from))
					if e := r.events(i.ID); len(e) != events+steps || e[len(e)-1].Type != "phase" {
						t.Errorf("%s to %s: %d events, want %d more than %d", from, to, len(e), steps, events)
					}
				}
			}
			if _, err := r.move(fresh(from).ID, Move{To: "limbo"}); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
				t.Errorf("a phase that does not exist: %v", err)
			}
		}
		// Each guard holds, alone and on the way to the end; nothing is written.
		for _, g := range guards {
			before := Phases[slices.Index(Phases, g.phase)-1]
			for _, from := range []Phase{before, Detection} {
				commander := r.commander
				if g.broken != nil && g.phase == Containment {
					g.broken(r) // the incident itself has no commander
				}
				i := fresh(from)
				if g.broken != nil {
					g.broken(r)
				}
				g.mv.To = g.phase
				if from == Detection {
					g.mv.To = Closed
				}
				facts := len(r.facts())
				// The caller commits all the same: nothing may have been written.
				err := r.d.Tx(r.ctx(), func(tx *db.Tx) error {
					mv := g.mv
					mv.Actor = "ada"
					got, err := r.m.Advance(r.ctx(), tx, i.ID, mv)
					if !errors.Is(err, ErrGuard) || got.Phase != from {
						t.Errorf("%s, from %s: %v, %s", g.name, from, err, got.Phase)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if after := r.get(i.ID); fmt.Sprint(after) != fmt.Sprint(i) || len(r.facts()) != facts {
					t.Errorf("%s, from %s: something was written: %+v", g.name, from, after)
				}
				r.commander, r.usable = commander, nil
			}
		}
	})
}

func TestGuardOfRecoveryAsksForEveryStoreSinceContainment(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		i := r.signal(lost("db"))
		r.signal(lost("files"))
		r.pass(time.Minute)
		contained := r.clock()
		r.to(i.ID, Recovery)
		r.pass(time.Hour)
		asked := map[string]time.Time{}
		r.usable = func(store string, since time.Time) (bool, string, error) {
			asked[store] = since
			return store != "files", "no complete backup since the recovery yet", nil
		}
		_, err := r.move(i.ID, Move{To: Review})
		if !errors.Is(err, ErrGuard) || !strings.Contains(err.Error(), `store "files": no complete backup`) || !strings.Contains(holdfast.Hint(err), "holdfast backup files") {
			t.Error(err, holdfast.Hint(err))
		}
		if len(asked) != 2 || !asked["db"].Equal(contained) {
			t.Errorf("asked for %v, want since %s", asked, contained)
		}
		boom := errors.New("location is away")
		r.usable = func(string, time.Time) (bool, string, error) { return false, "", boom }
		if _, err := r.move(i.ID, Move{To: Review}); !errors.Is(err, boom) || errors.Is(err, ErrGuard) {
			t.Errorf("not knowing is not refusing: %v", err)
		}
	})
}

func TestCommanderThatThePlanNamesLaterCounts(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.commander = ""
		i := r.signal(lost("db"))
		if _, err := r.move(i.ID, Move{To: Containment, Activation: "x"}); !errors.Is(err, ErrGuard) {
			t.Error(err)
		}
		r.commander = "bob"
		if i, err := r.move(i.ID, Move{To: Containment, Activation: "x"}); err != nil || i.Commander != "bob" || r.get(i.ID).Commander != "bob" {
			t.Errorf("%+v, %v", i, err)
		}
	})
}

func TestSignalsJoinOpenAndComeBack(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		s := lost("db")
		s.Began = noon.Add(-10 * time.Second)
		i := r.signal(s)
		if i.Phase != Detection || i.Severity != SEV2 || fmt.Sprint(i.Services, i.Stores) != "[api web] [db]" || !i.OccurredAt.Equal(s.Began) || !i.DetectedAt.Equal(noon) || i.Commander != "ada" {
			t.Errorf("%+v", i)
		}
		// The same thing, noticed again: counted, and nobody is told twice.
		events := len(r.events(i.ID))
		if j := r.signal(s); j.ID != i.ID || len(r.events(i.ID)) != events {
			t.Errorf("noticed again: %s, %d events", j.Name(), len(r.events(i.ID)))
		}
		// A store with a common service joins; the worse severity and the earlier beginning hold.
		f := lost("files")
		f.Began = noon.Add(-time.Minute)
		j := r.signal(f)
		if j.ID != i.ID || j.Severity != SEV1 || fmt.Sprint(j.Stores) != "[db files]" || !j.OccurredAt.Equal(f.Began) {
			t.Errorf("a store of the same service: %+v", j)
		}
		if es := r.events(i.ID); es[len(es)-1].Type != "signal" {
			t.Errorf("%+v", es)
		}
		// A milder one does not soothe it, nor one of which the plan says nothing.
		r.impact["db2"] = Impact{Services: []string{"api"}, Severity: SEV4}
		r.impact["db3"] = Impact{Services: []string{"api"}}
		r.signal(lost("db2"))
		if j := r.signal(lost("db3")); j.ID != i.ID || j.Severity != SEV1 {
			t.Errorf("%+v", j)
		}
		// Another service is another incident.
		if k := r.signal(lost("logs")); k.ID == i.ID {
			t.Error("a store of no common service joined")
		}

		// It ends, and comes back while people still work: one incident, and the log says so.
		r.clear("lost:db")
		r.clear("lost:db")
		if es := r.events(i.ID); es[len(es)-1].Text != "it answers again" || es[len(es)-2].Text == "it answers again" {
			t.Errorf("cleared twice: %+v", es[len(es)-2:])
		}
		again := s
		again.Detail = "another cable"
		if j := r.signal(again); j.ID != i.ID {
			t.Errorf("came back as %s", j.Name())
		}
		if es := r.events(i.ID); es[len(es)-1].Text != "db is lost again: another cable" {
			t.Errorf("%+v", es[len(es)-1])
		}

		// In review it was over: what comes back is new, even for the same store.
		r.clear("lost:db")
		r.to(i.ID, Review)
		n := r.signal(s)
		if n.ID == i.ID || n.Phase != Detection {
			t.Errorf("joined an incident in review: %s, %s", n.Name(), n.Phase)
		}
		// What never ended still belongs to the old one.
		if j := r.signal(f); j.ID != i.ID {
			t.Errorf("what still fires opened %s", j.Name())
		}
		// And after the end everything is new.
		r.to(i.ID, Closed)
		if j := r.signal(f); j.ID == i.ID || j.ID != n.ID {
			t.Errorf("after the end: %s, want %s, which covers its service", j.Name(), n.Name())
		}
		if open, err := r.m.List(r.ctx(), true); err != nil || len(open) != 2 {
			t.Errorf("%d open, %v", len(open), err)
		}
		if all, err := r.m.List(r.ctx(), false); err != nil || len(all) != 3 || all[0].ID < all[2].ID {
			t.Errorf("%d in all, %v", len(all), err)
		}
	})
}

func TestSignalWithoutAKeyIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		err := r.d.Tx(r.ctx(), func(tx *db.Tx) error { _, err := r.m.Signal(r.ctx(), tx, Signal{Source: "x"}); return err })
		if !errors.Is(err, holdfast.ErrUsage) {
			t.Error(err)
		}
	})
}

func TestSignalReturnsWhatOpeningMadeOfIt(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.opened = func(ctx context.Context, tx *db.Tx, i Incident) error {
			_, err := r.m.Advance(ctx, tx, i.ID, Move{To: Assessment, Actor: "holdfast"})
			return err
		}
		if i := r.signal(lost("db")); i.Phase != Assessment || i.AcknowledgedAt.IsZero() {
			t.Errorf("%+v", i)
		}
	})
}

func TestFalseAlarmEndsEarlyAndOnlyThen(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		i := r.signal(lost("db"))
		early := Move{To: Closed, Early: "a cable was loose"}
		if _, err := r.move(i.ID, early); !errors.Is(err, ErrGuard) || !strings.Contains(err.Error(), "lost:db") {
			t.Errorf("ended while it fires: %v", err)
		}
		r.clear("lost:db")
		if _, err := r.move(i.ID, Move{To: Review, Early: "x"}); !errors.Is(err, ErrGuard) {
			t.Error(err)
		}
		i, err := r.move(i.ID, early)
		if err != nil || i.Phase != Closed || i.Outcome != early.Early || i.ClosedAt.IsZero() || !i.ContainedAt.IsZero() {
			t.Errorf("%+v, %v", i, err)
		}
		if es := r.events(i.ID); es[len(es)-1].Text != "phase closed: ended early: a cable was loose" {
			t.Errorf("%+v", es)
		}
		j := r.signal(lost("logs"))
		r.to(j.ID, Recovery)
		r.clear("lost:logs")
		if _, err := r.move(j.ID, early); !errors.Is(err, ErrGuard) {
			t.Errorf("a recovery was called a false alarm: %v", err)
		}
	})
}

func ordered(i Incident) error {
	ts := []time.Time{i.OccurredAt, i.DetectedAt, i.AcknowledgedAt, i.AssessedAt, i.ContainedAt, i.RecoveredAt, i.ClosedAt}
	var last time.Time
	for k, t := range ts {
		if t.IsZero() {
			continue
		}
		if t.Before(last) {
			return fmt.Errorf("time %d, %s, is before %s", k, t, last)
		}
		last = t
	}
	return nil
}

// Whatever the clock does and however an incident wanders, its times are ordered.
func TestTimesAreOrderedWhateverTheClockDoes(t *testing.T) {
	d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables())
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, d)
		jump := func() {
			r.now.Store(db.Micros(noon.Add(time.Duration(rapid.IntRange(-3600, 3600).Draw(rt, "now")) * time.Second)))
		}
		jump()
		n++
		s := lost(fmt.Sprint("own", n))
		s.At = r.clock()
		s.Began = noon.Add(time.Duration(rapid.IntRange(-7200, 3600).Draw(rt, "began")) * time.Second)
		i := r.signal(s)
		for range rapid.IntRange(1, 12).Draw(rt, "moves") {
			jump()
			to := rapid.SampledFrom(Phases).Draw(rt, "to")
			_, err := r.move(i.ID, Move{To: to, Activation: "a", Recovery: "r", Outcome: "o"})
			if err != nil && !errors.Is(err, ErrGuard) {
				rt.Fatal(err)
			}
			now := r.get(i.ID)
			if err := ordered(now); err != nil {
				rt.Fatalf("after a move to %s (%s): %v", to, now.Phase, err)
			}
			// And a time is there exactly if its phase was reached.
			at := slices.Index(Phases, now.Phase)
			for k, x := range []time.Time{now.AcknowledgedAt, now.AssessedAt, now.ContainedAt, now.RecoveredAt, now.ClosedAt} {
				if x.IsZero() == (at > k) {
					rt.Fatalf("in %s, time %d is %s", now.Phase, k, x)
				}
			}
		}
	})
}

func TestConcurrentSignalsOpenOneIncident(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		const many = 12
		var opened atomic.Int64
		r.opened = func(_ context.Context, tx *db.Tx, _ Incident) error {
			tx.AfterCommit(func() { opened.Add(1) })
			return nil
		}
		ids := make([]int64, many)
		var wg sync.WaitGroup
		for n := range many {
			wg.Go(func() {
				s := lost("db")
				s.Dedup = fmt.Sprint("k", n%6) // some of them the very same signal
				err := r.d.Tx(r.ctx(), func(tx *db.Tx) error {
					i, err := r.m.Signal(r.ctx(), tx, s)
					ids[n] = i.ID
					return err
				})
				if err != nil {
					t.Errorf("signal %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("incidents %v", ids)
				break
			}
		}
		if all, err := r.m.List(r.ctx(), false); err != nil || len(all) != 1 || opened.Load() != 1 {
			t.Errorf("%d incidents, opened %d times, %v", len(all), opened.Load(), err)
		}
		for k, e := range r.events(ids[0]) {
			if e.Seq != int64(k+1) {
				t.Errorf("event %d has number %d", k+1, e.Seq)
			}
		}
	})
}

func TestConcurrentMovesPassOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		i := r.signal(lost("db"))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := r.move(i.ID, Move{To: Assessment}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if es := r.events(i.ID); len(es) != 2 {
			t.Errorf("%d events", len(es))
		}
	})
}

// Every line of the log is a fact, with the same words, and a fact that cannot be
// written takes the line with it.
func TestEveryEventIsAFact(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		i := r.signal(lost("db"))
		r.signal(lost("files"))
		r.clear("lost:db")
		r.to(i.ID, Recovery)
		if err := r.d.Tx(r.ctx(), func(tx *db.Tx) error {
			return r.m.Note(r.ctx(), tx, i.ID, "bob", "note", "the fan\x00 \xff is loud", map[string]int{"rpm": 9})
		}); err != nil {
			t.Fatal(err)
		}
		r.to(i.ID, Closed)
		es, fs := r.events(i.ID), r.facts()
		slices.SortFunc(fs, func(a, b ledger.Fact) int { return int(a.Index - b.Index) })
		if len(es) != 9 || len(fs) != len(es) {
			t.Fatalf("%d events, %d facts", len(es), len(fs))
		}
		for k, e := range es {
			var data struct {
				Incident int64
				Text     string
				Payload  json.RawMessage
			}
			if err := json.Unmarshal(fs[k].Data, &data); err != nil {
				t.Fatal(err)
			}
			if fs[k].Type != "incident."+e.Type || fs[k].Subject != "incidents."+i.Name() || fs[k].Actor != e.Actor || !fs[k].At.Equal(e.At) ||
				data.Incident != i.ID || data.Text != e.Text || string(data.Payload) != string(e.Payload) {
				t.Errorf("event %+v\nfact %+v", e, fs[k])
			}
		}
		if es[6].Type != "note" || es[6].Actor != "bob" || string(es[6].Payload) != `{"rpm":9}` || !strings.HasPrefix(es[6].Text, "the fan") {
			t.Errorf("%+v", es[6])
		}

		before := len(fs)
		boom := errors.New("boom")
		err := r.d.Tx(r.ctx(), func(tx *db.Tx) error {
			if _, err := r.m.Signal(r.ctx(), tx, lost("logs")); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) || len(r.facts()) != before {
			t.Errorf("%v, %d facts after a rollback, want %d", err, len(r.facts()), before)
		}
		if open, err := r.m.List(r.ctx(), true); err != nil || len(open) != 0 {
			t.Errorf("left open by a rollback: %v, %v", open, err)
		}
		// Without its fact nothing happens: an actor that the ledger refuses.
		j := r.signal(lost("logs"))
		if _, err := r.move(j.ID, Move{To: Assessment, Actor: strings.Repeat("x", ledger.MaxText+1)}); err == nil {
			t.Error("moved without a fact")
		}
		if r.get(j.ID).Phase != Detection || len(r.events(j.ID)) != 1 {
			t.Error("the phase was written without its fact")
		}
	})
}

func TestIncidentThatDoesNotExist(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		if _, err := r.m.Get(r.ctx(), 77); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if _, err := r.move(77, Move{To: Closed}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if err := r.d.Tx(r.ctx(), func(tx *db.Tx) error { return r.m.Clear(r.ctx(), tx, "never", "", noon) }); err != nil {
			t.Errorf("what never fired cannot be cleared, and that is no error: %v", err)
		}
	})
}
