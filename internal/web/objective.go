package web

import (
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/objective"
)

// FromObjective turns the computed overview into the first page. It decides no
// verdict and drops none. The caller adds what the computation does not know: the
// plan's name, work, incidents, drills, what a location holds in numbers, and the
// recovery windows with the holes between them.
func FromObjective(o objective.Overview) Overview {
	v := Overview{Organisation: o.Organisation, PlanDigest: o.PlanDigest, Findings: o.Findings}
	fire := fireOf(o.Scenarios)
	for _, l := range o.Locations {
		v.Answers = append(v.Answers, answerFrom(l, o.Stores, slices.Contains(fire, l.ID)))
	}
	v.Back, v.BackService = slowest(o.Services)
	for _, s := range o.Services {
		v.Services = append(v.Services, serviceFrom(s, o))
		v.Graph.Nodes = append(v.Graph.Nodes, Node{ID: s.ID, Kind: "service", Posture: s.Posture})
		for _, need := range s.Needs {
			v.Graph.Edges = append(v.Graph.Edges, Edge{From: s.ID, To: need})
		}
		for _, need := range s.Wants {
			v.Graph.Edges = append(v.Graph.Edges, Edge{From: s.ID, To: need, Soft: true})
		}
	}
	for _, s := range o.Stores {
		v.Stores = append(v.Stores, storeFrom(s, o))
		v.Graph.Nodes = append(v.Graph.Nodes, Node{ID: s.ID, Kind: s.Kind, Posture: s.Posture})
		for _, d := range s.DrillNames {
			if !slices.Contains(v.Drills, d) {
				v.Drills = append(v.Drills, d)
			}
		}
	}
	slices.Sort(v.Drills)
	return v
}

// fireOf names the locations that stand on this host: they burn with it.
func fireOf(scenarios []objective.Scenario) []string {
	for _, sc := range scenarios {
		if sc.ID == objective.ScenarioHost {
			return sc.LostLocations
		}
	}
	return nil
}

// answerFrom says what one location alone gives back. A store that is not declared
// to be there is lost with it, unless the plan promises nothing for its data.
func answerFrom(l objective.LocationOverview, stores []objective.StoreOverview, burns bool) Answer {
	a := Answer{Location: l.ID, Where: l.Domain, Reachable: l.Reachable, Seen: l.Answered, Why: l.Why, Burns: burns}
	for _, s := range stores {
		loss := Loss{All: true, Store: s.ID, Note: "the plan sends no copy here"}
		declared := false
		for _, e := range s.Exposures {
			if e.Location != l.ID {
				continue
			}
			declared = true
			loss = Loss{Store: s.ID, Span: e.Age.Duration(), Known: e.State == objective.LossBounded, All: e.State == objective.LossEverything}
			if !loss.Known && l.Reachable { // else the location's own reason says it for all
				loss.Note = e.Why
			}
		}
		if !declared && s.RPO.Posture == holdfast.PostureNA {
			continue
		}
		a.Losses = append(a.Losses, loss)
	}
	for i, loss := range a.Losses {
		if i == 0 || lossRank(loss).worse(lossRank(a.Loss)) {
			a.Loss = loss
		}
	}
	if len(a.Losses) == 0 {
		a.Loss = Loss{Note: "no store is protected"}
	}
	return a
}

// slowest is the longest of the predicted outages. If one has no number at all, the
// sum of the others is only a lower bound.
func slowest(services []objective.ServiceOverview) (Measure, string) {
	var m Measure
	name, lower := "", false
	for _, s := range services {
		p := predictionMeasure(s.Outage)
		if !p.Known || p.AtLeast {
			lower = true
		}
		if name == "" || p.Known && (!m.Known || p.Value > m.Value) {
			m, name = p, s.ID
		}
	}
	m.AtLeast = m.Known && lower
	return m, name
}

func predictionMeasure(p objective.Prediction) Measure {
	m := Measure{Value: p.Total.Duration(), Known: p.Total > 0, Basis: holdfast.Estimated, AtLeast: p.State == objective.TimeUnknown}
	if p.State == objective.TimeProven {
		m.Basis = holdfast.Measured
	} else {
		m.Note = p.Why
	}
	return m
}

func lossOf(l objective.Loss) Loss {
	x := Loss{Span: l.Age.Duration(), Known: l.State == objective.LossBounded, All: l.State == objective.LossEverything}
	if !x.Known {
		x.Note = l.Why
	}
	return x
}

// exposed puts the loss of this host, which is what the whole page speaks of,
// beside the objective. A loss of another place that would cost more than is
// promised is said with it.
func exposed(o objective.ObjectiveState, losses []objective.Loss, scenarios []objective.Scenario) Promise {
	p := Promise{Objective: o.Limit.Duration()}
	if p.Objective == 0 {
		p.Stated = nameOr(o.Why, o.Declared)
	}
	var here Loss
	for i, l := range losses {
		switch x := lossOf(l); {
		case i > 0 && l.Scenario != objective.ScenarioSource && l.Scenario != objective.ScenarioHost:
			continue
		case i == 0 || lossRank(x).worse(lossRank(here)):
			here = x
		}
		p.Missed = p.Missed || l.Verdict == objective.Over
	}
	p.Everything = here.All
	p.Now = Measure{Value: here.Span, Known: here.Known, Basis: holdfast.Measured, Note: here.Note}
	if !here.Known {
		return p
	}
	for _, l := range losses {
		x := lossOf(l)
		if !lossRank(x).worse(lossRank(here)) || l.Verdict != objective.Over && l.Verdict != objective.CannotSay {
			continue
		}
		words := "not known"
		if x.All {
			words = "everything"
		} else if x.Known {
			words = brief(x.Span)
		}
		for _, sc := range scenarios {
			if sc.ID == l.Scenario {
				p.Now.Note = words + ", if we lose " + sc.Title
			}
		}
	}
	return p
}

func outage(o objective.ObjectiveState, pr objective.Prediction) Promise {
	p := Promise{Now: predictionMeasure(pr), Objective: o.Limit.Duration(), Missed: pr.Verdict == objective.Over}
	if p.Objective == 0 {
		p.Stated = nameOr(o.Why, o.Declared)
	}
	return p
}

func serviceFrom(s objective.ServiceOverview, o objective.Overview) Service {
	v := Service{ID: s.ID, Tier: s.Tier, Owner: s.Owner, Kind: "service", Posture: s.Posture, Why: reason(s.Posture, s.RPO, s.RTO),
		RPO: exposed(s.RPO, s.Losses, o.Scenarios), RTO: outage(s.RTO, s.Outage), Rung: holdfast.RungNone}
	// A service is as proven as the least proven of its stores, unless all of it has
	// really been recovered since.
	first := true
	for _, st := range o.Stores {
		if !slices.Contains(s.Stores, st.ID) {
			continue
		}
		at, id, rung := time.Time{}, "", holdfast.RungNone
		if d := st.LastDrill; d != nil {
			at, id, rung = d.At, d.ID, d.Rung
		}
		if first || rung < v.Rung || rung == v.Rung && at.Before(v.LastProof) {
			v.LastProof, v.LastDrill, v.Rung = at, id, rung
		}
		first = false
	}
	if s.Recovered != "" && (v.Rung == holdfast.RungNone || s.RecoveredAt.After(v.LastProof)) {
		v.LastProof, v.LastDrill, v.Incident = s.RecoveredAt, "", s.Recovered
	}
	return v
}

// reason is the sentence of the objective that made the posture.
func reason(p holdfast.Posture, states ...objective.ObjectiveState) string {
	for _, s := range states {
		if s.Posture == p {
			return s.Why
		}
	}
	return ""
}

func storeFrom(s objective.StoreOverview, o objective.Overview) Store {
	v := Store{ID: s.ID, Kind: s.Kind, Tier: s.Tier, Posture: s.Posture, Why: nameOr(s.Unprotected, reason(s.Posture, s.RPO, s.RTO)),
		RPO: exposed(s.RPO, s.Losses, o.Scenarios), RTO: outage(s.RTO, s.Restore), Services: s.UsedBy, Left: s.Required.Duration(), LeftBy: s.RequiredBy}
	for _, x := range s.Restore.Parts {
		v.Restore = append(v.Restore, holdfast.Part{Name: x.Name, Duration: x.Time.Duration(), Basis: x.Basis})
	}
	for _, e := range s.Exposures {
		p := Place{Location: e.Location, Where: e.Domain, Reachable: e.Reachable, Receipt: e.Received}
		if e.State == objective.LossBounded {
			p.Frontier = e.Newest
		} else {
			p.Note = e.Why
		}
		p.Unknown = e.State == objective.LossUnknown
		v.Places = append(v.Places, p)
	}
	return v
}
