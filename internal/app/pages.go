package app

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/job"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/web"
)

// pages gives the web pages what they show. It translates and decides nothing.
type pages struct{ a *App }

// Overview is the first page.
func (p pages) Overview(ctx context.Context, _ time.Time) (web.Overview, error) {
	o, err := p.a.Overview(ctx)
	if err != nil {
		return web.Overview{}, err
	}
	v := web.Overview{Organisation: o.Organisation, Plan: p.a.Plan.Plan.ID + " " + p.a.Plan.Plan.Version, PlanDigest: o.PlanDigest, Findings: o.Findings,
		Drills: slices.Sorted(maps.Keys(p.a.Plan.Drills))}
	for _, l := range o.Locations {
		v.Answers = append(v.Answers, p.answer(o, l))
	}
	for _, s := range o.Services {
		v.Services = append(v.Services, service(o, s))
		if m := measure(s.Outage); m.Known && m.Value >= v.Back.Value {
			v.Back, v.BackService = m, s.ID
		}
	}
	if v.Stores, err = p.stores(ctx, o); err != nil {
		return v, err
	}
	v.Graph = p.graph(o)
	if v.Work, err = p.work(ctx); err != nil {
		return v, err
	}
	is, err := p.a.Incidents.List(ctx, true)
	for _, i := range is {
		v.Incidents = append(v.Incidents, incidentLine(i))
	}
	return v, err
}

// answer says what happens if one location alone survives.
func (p pages) answer(o objective.Overview, l objective.LocationOverview) web.Answer {
	pl := p.a.Plan.Locations[l.ID]
	a := web.Answer{Location: l.ID, Where: strings.Join(nonEmpty(pl.Provider, pl.Region, pl.Domain), ", "), Reachable: l.Reachable, Seen: l.Seen}
	for _, s := range o.Stores {
		for _, e := range s.Exposures {
			if e.Location != l.ID {
				continue
			}
			loss := web.Loss{Span: e.Age.Duration(), Known: e.State == objective.LossBounded || e.State == objective.LossEverything, All: e.State == objective.LossEverything, Store: s.ID, Note: e.Why}
			a.Losses = append(a.Losses, loss)
			if len(a.Losses) == 1 || worse(loss, a.Loss) {
				a.Loss = loss
			}
		}
	}
	return a
}

// worse orders losses: everything, then unknown, then the longer one.
func worse(a, b web.Loss) bool {
	rank := func(l web.Loss) int {
		switch {
		case l.All:
			return 2
		case !l.Known:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Span, b.Span)) > 0
}

func nonEmpty(ss ...string) []string {
	return slices.DeleteFunc(ss, func(s string) bool { return s == "" })
}

func measure(pr objective.Prediction) web.Measure {
	m := web.Measure{Value: pr.Total.Duration(), Known: pr.State != objective.TimeUnknown || pr.Total > 0, AtLeast: pr.State == objective.TimeUnknown, Basis: holdfast.Estimated, Note: pr.Why}
	if pr.State == objective.TimeProven {
		m.Basis = holdfast.Measured
	}
	return m
}

// promise puts an objective beside what is the case.
func promise(s objective.ObjectiveState, now web.Measure) web.Promise {
	p := web.Promise{Now: now, Objective: s.Limit.Duration()}
	p.Missed = p.Objective > 0 && now.Known && now.Value > p.Objective
	if p.Objective == 0 {
		p.Stated = s.Declared
	}
	return p
}

// exposureNow is what the loss of the source alone would cost: the mildest case.
func exposureNow(ls []objective.Loss) web.Measure {
	if len(ls) == 0 {
		return web.Measure{}
	}
	l := ls[0]
	return web.Measure{Value: l.Age.Duration(), Known: l.State == objective.LossBounded, Basis: holdfast.Measured, Note: l.Why}
}

func service(o objective.Overview, s objective.ServiceOverview) web.Service {
	v := web.Service{ID: s.ID, Tier: s.Tier, Owner: s.Owner, Kind: "service", RPO: promise(s.RPO, exposureNow(s.Losses)), RTO: promise(s.RTO, measure(s.Outage)),
		Rung: holdfast.RungNone, Posture: s.Posture, Why: s.RTO.Why}
	if s.RPO.Posture == s.Posture && s.RTO.Posture != s.Posture {
		v.Why = s.RPO.Why
	}
	for _, st := range o.Stores {
		if d := st.LastDrill; d != nil && slices.Contains(s.Stores, st.ID) && d.At.After(v.LastProof) {
			v.LastProof, v.LastDrill, v.Rung = d.At, d.ID, d.Rung
		}
	}
	return v
}

func (p pages) stores(ctx context.Context, o objective.Overview) ([]web.Store, error) {
	var out []web.Store
	for _, s := range o.Stores {
		v, err := p.store(ctx, o, s)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (p pages) store(ctx context.Context, o objective.Overview, s objective.StoreOverview) (web.Store, error) {
	v := web.Store{ID: s.ID, Kind: s.Kind, Tier: s.Tier, Posture: s.Posture, Why: s.RPO.Why, RPO: promise(s.RPO, exposureNow(s.Losses)), Services: s.UsedBy, Detail: s.Unprotected}
	copies, err := p.a.Backups.Copies(ctx, s.ID)
	if err != nil {
		return v, err
	}
	p.a.survey.mu.Lock()
	seen := p.a.survey.seen
	p.a.survey.mu.Unlock()
	for _, e := range s.Exposures {
		pl := p.a.Plan.Locations[e.Location]
		place := web.Place{Location: e.Location, Where: strings.Join(nonEmpty(pl.Provider, pl.Region, pl.Domain), ", "), Reachable: e.Reachable, Frontier: e.Newest, Receipt: e.Received,
			Windows: seen[e.Location].windows[s.ID]}
		if !e.Reachable {
			place.Note = e.Why
		}
		for _, c := range copies {
			if c.Location != e.Location || c.State != "complete" {
				continue
			}
			place.Snapshots++
			place.Bytes += c.Stored
			if c.Received.IsZero() {
				place.Waiting++
			}
		}
		v.Places = append(v.Places, place)
	}
	return v, nil
}

// graph is what depends on what, with the posture of each.
func (p pages) graph(o objective.Overview) web.Graph {
	var g web.Graph
	for _, s := range o.Services {
		g.Nodes = append(g.Nodes, web.Node{ID: s.ID, Kind: "service", Posture: s.Posture, Note: string(s.Posture)})
		needs := p.a.Plan.Services[s.ID].Needs
		for _, n := range slices.Sorted(maps.Keys(needs)) {
			g.Edges = append(g.Edges, web.Edge{From: s.ID, To: n, Soft: needs[n] == plan.Soft})
		}
	}
	for _, s := range o.Stores {
		g.Nodes = append(g.Nodes, web.Node{ID: s.ID, Kind: s.Kind, Posture: s.Posture, Note: string(s.Posture)})
	}
	return g
}

// work is what runs now.
func (p pages) work(ctx context.Context) ([]web.Work, error) {
	jobs, err := p.a.Jobs.List(ctx, job.Filter{State: job.Running, Limit: 50})
	if err != nil {
		return nil, err
	}
	var out []web.Work
	for _, j := range jobs {
		kind, rest, _ := strings.Cut(j.Kind, ".")
		if rest == "reconcile" || j.Kind == drill.KindScheduled {
			continue
		}
		_, subject, _ := strings.Cut(j.Key, ":")
		w := web.Work{Kind: kind, Subject: subject, Started: j.StartedAt}
		if err := decodeProgress(j, &w.Progress); err != nil {
			return nil, err
		}
		switch kind {
		case "drill":
			w.Href = "/drills/" + subject
		case "recovery":
			if run, _, ok := strings.Cut(subject, ":"); ok {
				w.Href = "/recoveries/" + run
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// Store is one store's page.
func (p pages) Store(ctx context.Context, id string, _ time.Time) (web.Store, error) {
	o, err := p.a.Overview(ctx)
	if err != nil {
		return web.Store{}, err
	}
	for _, s := range o.Stores {
		if s.ID != id {
			continue
		}
		v, err := p.store(ctx, o, s)
		if err != nil {
			return v, err
		}
		ds, err := p.a.Drills.List(ctx, id)
		for _, d := range ds[:min(len(ds), 20)] {
			v.Drills = append(v.Drills, drillLine(d))
		}
		return v, err
	}
	return web.Store{}, web.ErrNotFound
}

// Drills lists drills, newest first, with the slots that did not happen.
func (p pages) Drills(ctx context.Context, now time.Time) ([]web.DrillLine, error) {
	ds, err := p.a.Drills.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []web.DrillLine
	for _, d := range ds {
		out = append(out, drillLine(d))
	}
	for name, d := range p.a.Plan.Drills {
		slots, err := p.a.Jobs.Slots(ctx, drillSchedule(name), now.AddDate(0, -3, 0), now.AddDate(0, 3, 0))
		if err != nil {
			return nil, err
		}
		expected := false
		for _, s := range slots {
			l := web.DrillLine{Name: name, Subject: strings.Join(d.Of, ", "), At: s.Due, State: web.RunMissed, Rung: holdfast.RungNone, Goal: p.a.Plan.DrillRung(name, d.Of[0]), Why: s.Note}
			if s.State == job.SlotExpected && !expected {
				expected, l.State = true, web.RunExpected
			} else if s.State != job.SlotMissed {
				continue
			}
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b web.DrillLine) int { return b.At.Compare(a.At) })
	return out, nil
}

func drillLine(d drill.Drill) web.DrillLine {
	l := web.DrillLine{ID: d.ID, Name: cmp.Or(d.Name, d.Store), Subject: d.Store, Location: d.Location, At: d.Started, Rung: d.Rung, Goal: d.Goal, Why: d.Error}
	if l.At.IsZero() {
		l.At = d.Planned
	}
	switch d.State {
	case drill.StatePlanned:
		l.State = web.RunWaiting
	case drill.StateRunning:
		l.State = web.RunRunning
	case drill.StatePassed:
		l.State, l.Took = web.RunDone, d.Finished.Sub(d.Started)
		if d.Awaits() {
			l.Why = "the owner has not confirmed it"
		}
	case drill.StateShort:
		l.State, l.Took = web.RunDone, d.Finished.Sub(d.Started)
		for _, c := range d.Checks {
			if l.Why == "" && c.Outcome == holdfast.NotProven {
				l.Why = "not proven: " + c.Name
			}
		}
	case drill.StateFailed:
		l.State, l.Took = web.RunFailed, d.Finished.Sub(d.Started)
		for _, c := range d.Checks {
			if l.Why == "" && c.Outcome == holdfast.Failed {
				l.Why = c.Name + ": " + c.Detail
			}
		}
	}
	return l
}
