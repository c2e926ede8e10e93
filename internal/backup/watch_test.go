package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/source"
)

func (r rig) look(err error) Probe {
	r.t.Helper()
	r.src.probe = err
	r.pass(time.Second)
	if err := r.m.Look(r.t.Context(), *r.policy); err != nil {
		r.t.Fatal(err)
	}
	p, ok, err := r.m.Probe(r.t.Context(), "db")
	if err != nil || !ok {
		r.t.Fatal(ok, err)
	}
	return p
}

var errDown = errors.New("connection refused\x00\xff")

func TestStoreIsLostAfterFailuresInARowAndFoundByOneAnswer(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		if _, ok, err := r.m.Probe(t.Context(), "db"); ok || err != nil {
			t.Errorf("looked at before the first look: %v", err)
		}
		// What never answered is a mistake in the plan, not a disaster.
		for range 10 {
			if p := r.look(errDown); p.Lost {
				t.Fatalf("lost before it ever answered: %+v", p)
			}
		}
		seen := r.look(nil)
		if !seen.OK || seen.Failures != 0 || !seen.LastOK.Equal(r.now()) || seen.Error != "" {
			t.Errorf("%+v", seen)
		}
		r.look(errDown)
		r.look(errDown)
		r.look(nil) // in a row means in a row
		last := r.now()
		for n := range 2 {
			if p := r.look(errDown); p.Lost || p.Failures != n+1 || !p.LastOK.Equal(last) || !strings.HasPrefix(p.Error, "connection refused") {
				t.Errorf("failure %d: %+v", n+1, p)
			}
		}
		if len(*r.heard) != 0 || len(r.facts(FactLost)) != 0 {
			t.Errorf("heard %v", *r.heard)
		}
		for range 5 {
			if p := r.look(errDown); !p.Lost {
				t.Errorf("not lost: %+v", p)
			}
		}
		if len(*r.heard) != 1 || !strings.HasPrefix((*r.heard)[0], "lost db, last seen "+last.Format("15:04:05")) || len(r.facts(FactLost)) != 1 {
			t.Errorf("heard %v, %d facts", *r.heard, len(r.facts(FactLost)))
		}
		// A new process knows that it is lost.
		r = r.start()
		r.look(errDown)
		if p := r.look(nil); p.Lost || p.Failures != 0 {
			t.Errorf("%+v", p)
		}
		r.look(nil)
		if len(*r.heard) != 2 || (*r.heard)[1] != "found db" || len(r.facts(FactFound)) != 1 || len(r.facts(FactLost)) != 1 {
			t.Errorf("heard %v", *r.heard)
		}
	})
}

func TestLossThatNobodyCouldHearIsToldAgain(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.look(nil)
		r.src.probe, *r.refuse = errDown, errors.New("no incident")
		for range 4 {
			if err := r.m.Look(t.Context(), *r.policy); err != nil && !errors.Is(err, *r.refuse) {
				t.Fatal(err)
			}
		}
		if p, _, err := r.m.Probe(t.Context(), "db"); err != nil || p.Lost || len(r.facts(FactLost)) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		*r.refuse = nil
		if p := r.look(errDown); !p.Lost || len(*r.heard) != 1 || len(r.facts(FactLost)) != 1 {
			t.Errorf("%+v, heard %v", p, *r.heard)
		}
	})
}

// A look that ends because we are stopping says nothing about the store.
func TestStopIsNoLoss(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.look(nil)
		r.policy.Failures = 1
		ctx, stop := context.WithCancel(t.Context())
		stop()
		r.src.probe = context.Canceled
		if err := r.m.Look(ctx, *r.policy); err != nil {
			t.Fatal(err)
		}
		if p, _, err := r.m.Probe(t.Context(), "db"); err != nil || !p.OK || len(*r.heard) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func (r rig) report(f source.Frontier) {
	r.t.Helper()
	f.At = r.now()
	r.m.report(r.t.Context(), "db", f)
}

func (r rig) frontier(place string) Frontier {
	r.t.Helper()
	fs, err := r.m.Frontiers(r.t.Context(), "db")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range fs {
		if f.Place == place {
			return f
		}
	}
	return Frontier{}
}

func TestGapIsReportedOnceAndMended(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 1, Position: 100, CaughtUp: r.now()})
		if r.waiting(KindSnapshot) != 0 {
			t.Error("a healthy frontier asks for a base")
		}
		r.pass(time.Minute)
		opened := r.now()
		const gap = "log from 0/64 to 0/C8 on timeline 1 is missing\xff"
		for range 3 {
			r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 1, Position: 200, Gap: gap})
			r.pass(time.Second)
		}
		r.report(source.Frontier{Place: "", Position: 300, Gap: "of the spool"}) // protects nothing, so it counts nothing
		if n := len(r.facts(FactGap)); n != 1 || r.waiting(KindSnapshot) != 1 {
			t.Errorf("%d facts, %d bases asked for", n, r.waiting(KindSnapshot))
		}
		r.pass(time.Minute)
		r.due()
		cs := r.copies()
		if !cs[len(cs)-1].Created.After(r.frontier("near").GapAt) || !r.frontier("near").GapAt.Equal(opened) {
			t.Errorf("base of %s, gap of %s", cs[len(cs)-1].Created, r.frontier("near").GapAt)
		}
		// The stream goes on naming the gap that is mended: no other base.
		r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 1, Position: 300, Gap: gap})
		if n := len(r.facts(FactGap)); n != 1 || r.waiting(KindSnapshot) != 0 {
			t.Errorf("%d facts, %d bases asked for", n, r.waiting(KindSnapshot))
		}
		// Another one does, and one at another place.
		r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 1, Position: 400, Gap: "another"})
		r.report(source.Frontier{Place: "offsite", Lineage: "7", Timeline: 1, Position: 400, Gap: gap})
		if n := len(r.facts(FactGap)); n != 3 || r.waiting(KindSnapshot) != 1 {
			t.Errorf("%d facts, %d bases asked for", n, r.waiting(KindSnapshot))
		}
	})
}

// The base that is being made when a gap opens began before it and does not mend it.
func TestGapDuringABaseAsksForAnother(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.src.shoot = func(context.Context, *repo.Writer) error {
			r.src.shoot = nil
			r.pass(time.Minute)
			r.report(source.Frontier{Place: "near", Position: 200, Gap: "the slot was lost"})
			r.pass(time.Minute)
			return nil
		}
		r.enqueue(SnapshotJob("db", "scheduled"))
		r.once()
		if r.waiting(KindSnapshot) != 1 {
			t.Fatal("nobody mends the gap")
		}
		r.pass(time.Minute)
		r.due()
		cs := r.copies()
		if len(r.table()) != 2 || !cs[len(cs)-1].Created.After(r.frontier("near").GapAt) {
			t.Errorf("%v, gap of %s", r.table(), r.frontier("near").GapAt)
		}
		// A clock that comes back from the future makes one base more, not many.
		r.pass(-24 * time.Hour)
		r.enqueue(SnapshotJob("db", "scheduled"))
		r.due()
		if n := len(r.table()); n != 4 || r.waiting(KindSnapshot) != 0 {
			t.Errorf("%d bases, %d more asked for", n, r.waiting(KindSnapshot))
		}
	})
}

func TestFrontierKeepsWhatAnErrorDoesNotKnow(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		caught := r.now()
		r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 2, Position: 1<<63 - 1, CaughtUp: caught, LastCommit: caught.Add(-time.Second)})
		r.pass(time.Minute)
		r.report(source.Frontier{Place: "near", Err: "connection reset\x00"})
		f := r.frontier("near")
		if f.Lineage != "7" || f.Timeline != 2 || f.Position != 1<<63-1 || !f.CaughtUp.Equal(caught) || f.LastCommit.IsZero() || !strings.HasPrefix(f.Err, "connection reset") || !f.At.Equal(r.now()) {
			t.Errorf("%+v", f)
		}
		r.report(source.Frontier{Place: "near", Lineage: "7", Timeline: 2, Position: 1<<63 - 1, CaughtUp: r.now()})
		if f := r.frontier("near"); f.Err != "" || !f.CaughtUp.Equal(r.now()) {
			t.Errorf("%+v", f)
		}
	})
}

// streamer is a folder that pretends to have a log: it reports once per round.
type streamer struct {
	*store
	rounds chan []string
	report source.Frontier
}

func (s *streamer) Stream(ctx context.Context, cfg source.StreamConfig) error {
	var names []string
	for _, p := range cfg.Places {
		if p.Repo != nil {
			names = append(names, p.Name)
		}
	}
	cfg.Report(s.report)
	select {
	case s.rounds <- names:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestStartFollowsWatchesAndReconcilesUntilStop(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		s := &streamer{store: r.src, rounds: make(chan []string), report: source.Frontier{Place: "near", Position: 5, At: r.now(), CaughtUp: r.now()}}
		r.m.cfg.Source = func(string) (source.Store, error) { return s, nil }
		r.policy.Log = true // and no interval for the probe: the default holds
		r.away["offsite"] = errAway
		if err := r.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if names := <-s.rounds; fmt.Sprint(names) != "[near]" {
			t.Errorf("followed to %v", names)
		}
		r.m.Stop()
		if f := r.frontier("near"); f.Position != 5 {
			t.Errorf("%+v", f)
		}
		if f := r.frontier("offsite"); f.Err != errAway.Error() {
			t.Errorf("%+v", f)
		}
		if r.waiting(KindReconcile) != 1 {
			t.Error("the locations were not asked")
		}
		r.m.Stop()
	})
}
