package app

import (
	"os"
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
	"holdfast/internal/source"
)

// A recovery proves the time of the stores that it brought back. It proves that of a
// service only if all of it was gone, or if even less was too much.
func TestRecoveryProves(t *testing.T) {
	p, err := plan.Parse("plan.yaml", plan.Template(plan.Values{RTO: "10m", RPO: "30s"}))
	if err != nil {
		t.Fatal(err)
	}
	gone := time.Date(2026, time.November, 22, 3, 0, 0, 0, time.UTC)
	inc := incident.Incident{ID: 4, OccurredAt: gone, DetectedAt: gone.Add(6 * time.Second)}
	restored := func(store string, until time.Time, fetch time.Duration) recovery.Done {
		return recovery.Done{Step: recovery.Step{ID: "restore-" + store, Kind: recovery.StepRestore, Store: store, Location: "offsite"}, State: recovery.StateDone,
			Started: gone.Add(10 * time.Second), Finished: gone.Add(10*time.Second + fetch), Outcome: recovery.Outcome{DataUntil: until, Fetch: fetch}}
	}
	run := func(usable time.Duration, steps ...recovery.Done) recovery.Run {
		check := recovery.Done{Step: recovery.Step{ID: "check-api", Kind: recovery.StepCheck, Service: "api"}, State: recovery.StateDone, Finished: gone.Add(usable)}
		for _, s := range steps {
			check.After = append(check.After, s.ID)
		}
		return recovery.Run{Activated: gone.Add(9 * time.Second), Plan: recovery.Plan{Predictions: []recovery.Prediction{{Service: "api"}}}, Steps: append(steps, check)}
	}
	db, uploads := restored("db", gone.Add(time.Second), time.Second), restored("uploads", gone.Add(-10*time.Second), 2*time.Second)
	find := func(ps []objective.Proof, store, service string) (objective.Proof, bool) {
		i := slices.IndexFunc(ps, func(x objective.Proof) bool { return x.Store == store && x.Service == service })
		if i < 0 {
			return objective.Proof{}, false
		}
		return ps[i], true
	}

	whole := recoveryProofs(p, run(20*time.Second, db, uploads), inc)
	if x, ok := find(whole, "", "api"); !ok || x.Parts.Sum() != 20*time.Second || x.DataAge != 12*time.Second {
		t.Errorf("api: %t %+v", ok, x)
	}
	if x, ok := find(whole, "db", ""); !ok || x.Parts.Sum() != 11*time.Second || !x.Parts.Proven() || x.DataAge != time.Second {
		t.Errorf("db was there at %v at the latest: %+v", probeEvery, x)
	}
	part := recoveryProofs(p, run(20*time.Second, uploads), inc)
	if _, ok := find(part, "", "api"); ok {
		t.Error("a recovery of the uploads alone proves the time of the whole api")
	}
	if _, ok := find(part, "uploads", ""); !ok {
		t.Error("the recovery of uploads is no proof of it")
	}
	if x, ok := find(recoveryProofs(p, run(time.Hour, uploads), inc), "", "api"); !ok || x.Parts.Sum() != time.Hour {
		t.Error("a missed recovery time is left out")
	}
}

// An idle database loses nothing: its last commit says nothing of what is missing.
func TestDataAgeOfAnIdleStore(t *testing.T) {
	at := time.Date(2026, time.November, 22, 3, 0, 0, 0, time.UTC)
	d := drill.Drill{Target: holdfast.Target{Kind: holdfast.TargetTime, Time: at}, Report: source.Report{DataUntil: at.Add(-5 * time.Hour), Complete: at}}
	if age, ok := d.DataAge(); !ok || age != 0 {
		t.Errorf("%v, %t", age, ok)
	}
	d.Report.Complete = time.Time{}
	if age, ok := d.DataAge(); !ok || age != 5*time.Hour {
		t.Errorf("a folder of five hours ago: %v, %t", age, ok)
	}
}

// Right after a backup the overview knows of it, and it notices a location that goes
// away and comes back, whether or not anything is written meanwhile.
func TestSurveyFollows(t *testing.T) {
	c := newCompany(t, false, nil)
	a := c.start()
	exposure := func(location string) objective.Exposure {
		t.Helper()
		o, err := a.Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range o.Stores {
			for _, e := range s.Exposures {
				if s.ID == "uploads" && e.Location == location {
					return e
				}
			}
		}
		t.Fatalf("uploads at %s is not in the overview", location)
		return objective.Exposure{}
	}
	if e := exposure("near"); e.State != objective.LossEverything {
		t.Fatalf("before any backup: %+v", e)
	}
	c.backup(a, "uploads", "near", "offsite")
	if err := a.lookAgain(t.Context(), "near"); err != nil {
		t.Fatal(err)
	}
	if e := exposure("near"); e.State != objective.LossBounded {
		t.Errorf("after the backup: %+v", e)
	}
	if err := os.Rename(c.place("near"), c.place("elsewhere")); err != nil {
		t.Fatal(err)
	}
	a.lookAt(t.Context(), "near", []string{})
	if e := exposure("near"); e.State != objective.LossUnknown || e.Reachable {
		t.Errorf("away: %+v", e)
	}
	if err := os.Rename(c.place("elsewhere"), c.place("near")); err != nil {
		t.Fatal(err)
	}
	a.lookAt(t.Context(), "near", []string{})
	if e := exposure("near"); e.State != objective.LossBounded {
		t.Errorf("back again: %+v", e)
	}
}
