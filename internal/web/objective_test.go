package web

import (
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/objective"
)

func seconds(n int) objective.Seconds { return objective.Seconds(time.Duration(n) * time.Second) }

func computed() objective.Overview {
	rpo := objective.ObjectiveState{Limit: seconds(300), Posture: holdfast.PostureProved}
	bounded := func(loc string, age int) objective.Exposure {
		return objective.Exposure{Location: loc, State: objective.LossBounded, Age: seconds(age), Newest: before(time.Duration(age) * time.Second), Reachable: true, Received: before(time.Minute)}
	}
	return objective.Overview{
		Organisation: "Example AB",
		Scenarios:    []objective.Scenario{{ID: "source", Title: "the data alone"}, {ID: "host", Title: "this host and near", LostLocations: []string{"near"}}},
		Locations:    []objective.LocationOverview{{ID: "near", Domain: "host", Reachable: true}, {ID: "offsite", Domain: "cloud-b", Reachable: true}, {ID: "tape", Domain: "vault"}},
		Services: []objective.ServiceOverview{{ID: "shop", Needs: []string{"db", "uploads"}, Wants: []string{"cache"}, Stores: []string{"db", "uploads"}, Posture: holdfast.PostureFailed,
			RPO:    objective.ObjectiveState{Limit: seconds(300), Posture: holdfast.PostureFailed, Why: "uploads is too old"},
			Losses: []objective.Loss{{Scenario: "source", State: objective.LossBounded, Age: seconds(60)}, {Scenario: "host", State: objective.LossBounded, Age: seconds(900), Verdict: objective.Over}},
			Outage: objective.Prediction{State: objective.TimeEstimated, Total: seconds(1200), Why: "detect is estimated"}, RTO: objective.ObjectiveState{Limit: seconds(3600)}}},
		Stores: []objective.StoreOverview{
			{ID: "db", Kind: "postgres", Posture: holdfast.PostureProved, RPO: rpo, Exposures: []objective.Exposure{bounded("near", 1), bounded("offsite", 4)}, DrillNames: []string{"monthly"},
				LastDrill: &objective.DrillView{ID: "7", Name: "monthly", At: before(time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L6, Goal: holdfast.L6}},
			{ID: "uploads", Kind: "files", Posture: holdfast.PostureFailed, RPO: rpo, Exposures: []objective.Exposure{bounded("near", 60), bounded("offsite", 900), {Location: "tape", State: objective.LossUnknown, Why: "does not answer"}}, DrillNames: []string{"monthly"}, NextDrill: before(time.Minute)},
			{ID: "cache", Kind: "files", Posture: holdfast.PostureNA, RPO: objective.ObjectiveState{Posture: holdfast.PostureNA}},
		},
	}
}

func TestFromObjective(t *testing.T) {
	v := FromObjective(computed())
	answers := map[string]Answer{}
	for _, a := range v.Answers {
		answers[a.Location] = a
	}
	if a := answers["near"]; !a.Burns || a.Loss.Span != time.Minute || len(a.Losses) != 2 {
		t.Errorf("near: %+v", a)
	}
	if a := answers["offsite"]; a.Burns || a.Loss.Span != 15*time.Minute || a.Loss.Store != "uploads" {
		t.Errorf("offsite: %+v", a)
	}
	if a := answers["tape"]; !a.Loss.All || a.Loss.Store != "db" {
		t.Errorf("tape holds no db, so all of it is lost there: %+v", a)
	}
	s := v.Services[0]
	if s.RPO.Now.Value != 15*time.Minute || !s.RPO.Missed || s.Why != "uploads is too old" || s.RPO.Now.Note != "" {
		t.Errorf("service RPO: %+v, %s", s.RPO, s.Why)
	}
	if s.RTO.Now.Basis == holdfast.Measured || s.RTO.Now.Value != 20*time.Minute {
		t.Errorf("an estimate is shown as measured: %+v", s.RTO)
	}
	if s.Rung != holdfast.RungNone || s.LastDrill != "" {
		t.Errorf("uploads was never drilled, and shop is shown as proven up to %s", s.Rung)
	}
	if v.Back.Value != 20*time.Minute || v.Back.AtLeast || v.BackService != "shop" {
		t.Errorf("back: %+v %s", v.Back, v.BackService)
	}
	if len(v.Drills) != 1 || len(v.Graph.Nodes) != 4 || len(v.Graph.Edges) != 3 || !v.Graph.Edges[2].Soft {
		t.Errorf("drills %v, %d nodes, %d edges", v.Drills, len(v.Graph.Nodes), len(v.Graph.Edges))
	}
	tape := v.Stores[1].Places[2]
	if !tape.Unknown || !tape.Frontier.IsZero() || tape.Note == "" {
		t.Errorf("what could not be looked at: %+v", tape)
	}
	// A service whose outage has no number makes the longest time a lower bound.
	o := computed()
	o.Services = append(o.Services, objective.ServiceOverview{ID: "billing", Outage: objective.Prediction{State: objective.TimeUnknown, Why: "never restored"}})
	if v := FromObjective(o); !v.Back.AtLeast || v.BackService != "shop" {
		t.Errorf("back: %+v %s", v.Back, v.BackService)
	}
	o.Services = o.Services[1:]
	if v := FromObjective(o); v.Back.Known || v.Back.Note != "never restored" {
		t.Errorf("back: %+v", v.Back)
	}
	// Losing everything is said, not shown as an unknown value.
	o.Services[0].Losses = []objective.Loss{{Scenario: "host", State: objective.LossEverything, Verdict: objective.Over, Why: "no location is left"}}
	if v := FromObjective(o); !v.Services[0].RPO.Everything || !v.Services[0].RPO.Missed {
		t.Errorf("RPO: %+v", v.Services[0].RPO)
	}

	// The row speaks of this host, as the sentence does; what another loss would cost
	// beyond the promise is said with it.
	o = computed()
	o.Scenarios = append(o.Scenarios, objective.Scenario{ID: "domain:cloud-b", Title: "the data and offsite"})
	o.Services[0].Losses = []objective.Loss{{Scenario: "source", State: objective.LossBounded, Age: seconds(1)}, {Scenario: "host", State: objective.LossBounded, Age: seconds(4)}, {Scenario: "domain:cloud-b", State: objective.LossUnknown, Verdict: objective.CannotSay}}
	if p := FromObjective(o).Services[0].RPO; p.Now.Value != 4*time.Second || p.Missed || p.Now.Note != "not known, if we lose the data and offsite" {
		t.Errorf("RPO: %+v", p)
	}
	// A real recovery proves what no drill has.
	o.Services[0].Recovered, o.Services[0].RecoveredAt = "INC-4", before(time.Hour)
	if s := FromObjective(o).Services[0]; s.Incident != "INC-4" || !s.LastProof.Equal(before(time.Hour)) {
		t.Errorf("proof: %+v", s)
	}
}
