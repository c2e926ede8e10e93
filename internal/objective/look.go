package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// Look answers: if it burned down at f.Now, what would be lost, and how long would it take?
func Look(p *plan.Plan, f Facts) Overview {
	o := Overview{
		At: f.Now, Organisation: p.Org.Name, PlanDigest: p.Digest(), Scenarios: Scenarios(p),
		Services: make([]ServiceOverview, 0, len(p.Services)), Stores: make([]StoreOverview, 0, len(p.Stores)), Locations: []LocationOverview{}, Order: [][]string{},
	}
	order, err := p.RecoveryOrder()
	if err != nil {
		o.Findings = append(o.Findings, holdfast.Finding{Code: "HF-L23", Severity: holdfast.SeverityError, Subject: "services", Message: err.Error(), Hint: holdfast.Hint(err)})
	} else if len(order) > 0 {
		o.Order = order
	}
	wave := map[string]int{}
	for i, ids := range order {
		for _, id := range ids {
			wave[id] = i + 1
		}
	}
	stores, k := map[string]*StoreOverview{}, know(p, f)
	clock := newClockwork(k)
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		o.Stores = append(o.Stores, lookStore(clock, id, o.Scenarios))
	}
	for i := range o.Stores {
		stores[o.Stores[i].ID] = &o.Stores[i]
	}
	services := slices.Sorted(maps.Keys(p.Services))
	slices.SortStableFunc(services, func(a, b string) int { return wave[a] - wave[b] })
	for _, id := range services {
		s := lookService(clock, id, o.Scenarios, stores)
		s.Wave = wave[id]
		o.Services = append(o.Services, s)
	}
	for _, s := range o.Stores {
		o.Findings = append(o.Findings, lateCopies(p, s)...)
	}
	o.Locations = k.lookLocations(o.Stores)
	for _, l := range o.Locations {
		if !l.Reachable {
			o.Findings = append(o.Findings, holdfast.Finding{Code: "HF-O01", Severity: holdfast.SeverityError, Subject: "locations." + l.ID, Message: fmt.Sprintf("location %q %s", l.ID, l.Why),
				Hint: "look whether its disk, machine or network is there: copies catch up by themselves once it is; if it is gone for good, put another one in its place in the plan"})
		}
		if f, ok := l.Space.finding(l.ID, f.Now); ok {
			o.Findings = append(o.Findings, f)
		}
	}

	var postures []holdfast.Posture
	for _, s := range o.Services {
		postures = append(postures, s.Posture)
	}
	for _, s := range o.Stores {
		postures = append(postures, s.Posture)
	}
	o.Coverage = k.coverage(&o)
	o.Posture = Worst(postures...)
	o.Findings = append(o.Findings, proposals(p, Weigh(p, f, o))...)
	o.Sentence = o.sentence()
	return o
}

func (k *known) lookLocations(stores []StoreOverview) []LocationOverview {
	out := []LocationOverview{}
	holds := map[string]int{}
	for _, s := range stores {
		for _, e := range s.Exposures {
			if e.State == LossBounded {
				holds[e.Location]++
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.p.Locations)) {
		loc := k.location(id)
		l := LocationOverview{ID: id, Domain: k.p.Locations[id].DomainOr(), Reachable: loc.Reachable, Seen: loc.Seen, Answered: loc.Answered, Stores: holds[id]}
		if !loc.Reachable {
			l.Why = "does not answer" + since(loc.Answered, k.now) + colon(loc.Err)
		}
		l.Space = foresee(loc, k.now)
		out = append(out, l)
	}
	return out
}

func lookStore(c *clockwork, id string, scenarios []Scenario) StoreOverview {
	p, f := c.p, c.f
	s := p.Stores[id]
	st := StoreOverview{
		ID: id, Kind: string(s.Kind), Tier: s.Tier, Owner: s.Owner, Backup: s.Protect,
		UsedBy: append([]string{}, c.consumers.All(id)...), DrillNames: append([]string{}, c.drills[id]...),
		Exposures: []Exposure{}, Losses: []Loss{}, NextDrill: f.NextDrill[id],
	}
	b, protected := p.Backups[s.Protect]
	if !protected {
		st.Unprotected = "the plan names no backup for it"
	}
	for _, loc := range b.Copies.Names() {
		e := Expose(c.copies[[2]string{id, loc}], c.location(loc), p.Locations[loc].DomainOr(), f.Now)
		st.Exposures = append(st.Exposures, e)
		if e.State == LossBounded && st.LastGood.Before(e.Newest) {
			st.LastGood = e.Newest
		}
	}
	rto, rpo, from := p.ObjectiveOf(id)
	st.Losses = losses(p, s.Tier, rpo, scenarios, func(sc Scenario, target, limit time.Duration) Loss {
		if s.Elsewhere() {
			return c.lossElsewhere(id, s.Delegated, sc, target, limit)
		}
		return LossIn(sc, st.Exposures, target, limit)
	})

	term := c.term(id)
	st.RPO = Assess(rpo, from, c.recoveryPoints(id), term, f.Now)
	if !s.Elsewhere() {
		live(&st.RPO, st.Losses)
	}

	limit, by := c.required(id)
	st.Required, st.RequiredBy = Seconds(limit), by
	st.Restore = c.predictStore(id, limit)
	st.RTO = Assess(rto, from, c.outages(c.byStore[id]), term, f.Now)
	st.RTO.Clock = string(p.RTOClock())
	compose(&st.RTO, st.Restore, c.drillState([]string{id}))

	c.history(&st.RPO, id, plan.MetricRPO, Prediction{})
	c.history(&st.RTO, id, plan.MetricRTO, st.Restore)
	st.LastDrill = c.lastDrill(id)
	st.Posture = Worst(st.RTO.Posture, st.RPO.Posture)
	switch d := s.Delegated; {
	case protected:
	case d != nil:
		c.elsewhere(&st, d)
	case s.NotProtected != "":
		st.Posture = holdfast.PostureExcepted
		for _, o := range []*ObjectiveState{&st.RTO, &st.RPO} {
			if o.Posture != holdfast.PostureNA {
				o.Posture, o.Why = holdfast.PostureExcepted, "nothing protects it: "+s.NotProtected
			}
		}
		st.Unprotected = "the plan says: " + s.NotProtected
	default:
		st.Posture = holdfast.PostureFailed
		if w, ok := c.waivers.Of(plan.CodeUnprotected, "stores."+id, f.Now); ok {
			st.Unprotected += fmt.Sprintf("; excepted by %q until %s: %s", w.ID, w.Day, w.Why)
			st.RTO.except(w)
			st.RPO.except(w)
			st.Posture = Worst(st.RTO.Posture, st.RPO.Posture, holdfast.PostureExcepted)
		}
	}
	if c.except("stores."+id, &st.RTO, &st.RPO) && protected {
		st.Posture = Worst(st.RTO.Posture, st.RPO.Posture)
	}
	return st
}

// claim judges an objective that somebody else keeps by what they promise.
func claim(st *ObjectiveState, by string, promise plan.Objective) {
	if st.Posture == holdfast.PostureNA || st.Limit == 0 {
		return
	}
	limit, bound := promise.Duration()
	switch {
	case !bound:
		st.Posture, st.Why = holdfast.PostureUnknown, fmt.Sprintf("%q protects it and promises nothing in numbers", by)
	case Seconds(limit) > st.Limit:
		st.Posture, st.Grade, st.Why = holdfast.PostureFailed, holdfast.Claimed, fmt.Sprintf("%q promises %s, and %s is promised here", by, Seconds(limit), st.Limit)
	default:
		st.Posture, st.Grade, st.Why = holdfast.PostureClaimed, holdfast.Claimed, fmt.Sprintf("%q claims %s of %s", by, Seconds(limit), st.Limit)
	}
}

// losses asks for the loss in each scenario, with the objective that holds in it.
func losses(p *plan.Plan, tier string, rpo plan.Objective, scenarios []Scenario, of func(Scenario, time.Duration, time.Duration) Loss) []Loss {
	out := []Loss{}
	for _, sc := range scenarios {
		o := rpo
		if name, own := strings.CutPrefix(sc.ID, "plan:"); own {
			if wider := p.Tiers[tier].Scenarios[name].RPO; !wider.IsZero() {
				o = wider
			}
		}
		limit, _ := o.Duration()
		out = append(out, of(sc, o.Target.Approx(), limit))
	}
	return out
}

// live lets what is exposed right now overrule older proof: an objective that is
// missed at this moment is not kept, whatever a drill showed last week.
func live(st *ObjectiveState, losses []Loss) {
	if st.Posture == holdfast.PostureNA || st.Limit == 0 || len(losses) == 0 {
		return
	}
	for _, now := range losses {
		// The loss of this host is the case that the first page speaks of. What the plan
		// says about other places has its own scenarios.
		words := map[string]string{ScenarioSource: "right now ", ScenarioHost: "if this host burned down now, "}[now.Scenario]
		if words == "" {
			continue
		}
		switch now.Verdict {
		case Over:
			st.Posture = holdfast.PostureFailed
			if now.State == LossBounded {
				st.Why = fmt.Sprintf("%s%s of data would be lost, promised %s", words, now.Age, st.promise())
			} else {
				st.Why = words + "everything would be lost: " + now.Why
			}
			return
		case CannotSay:
			if badness[st.Posture] < badness[holdfast.PostureUnknown] {
				st.Posture = holdfast.PostureUnknown
				st.Why = words + "nobody can say what would be lost: " + now.Why
			}
		}
	}
}

// compose lets a prediction speak where no real recovery has measured the outage. It
// proves only if every part was measured, and it fails as soon as the parts that are
// known are too long.
func compose(st *ObjectiveState, pr Prediction, drills holdfast.Posture) {
	if st.Posture == holdfast.PostureNA || st.Limit == 0 {
		return
	}
	takes := pr.Text()
	if pr.Counted != pr.Total {
		counted := pr
		counted.Total = pr.Counted
		takes = fmt.Sprintf("%s from %s", counted.Text(), st.Clock)
	}
	if pr.Counted > st.Limit {
		st.Posture = holdfast.PostureFailed
		st.Why = fmt.Sprintf("it would take %s, promised %s", takes, st.promise())
		return
	}
	if st.N > 0 || st.Posture == holdfast.PostureFailed {
		return
	}
	switch drills {
	case holdfast.PostureFailed, holdfast.PostureOverdue:
		st.Posture = drills
		st.Why = map[holdfast.Posture]string{holdfast.PostureFailed: "the last drill failed", holdfast.PostureOverdue: "the last drill is too long ago"}[drills]
	case holdfast.PostureUnknown:
		st.Posture, st.Why = holdfast.PostureUnknown, "no drill has measured the restore; it would take "+takes
	default:
		if pr.State != TimeProven {
			st.Posture, st.Why = holdfast.PostureUnknown, "it would take "+takes+" of "+st.promise()+"; "+pr.Why
			return
		}
		st.Posture, st.Grade = drills, holdfast.Proved
		st.Why = fmt.Sprintf("it would take %s of %s; %s", takes, st.promise(), pr.Why)
	}
}

// drillState is the worst state of the drills of some stores: proved, due, overdue,
// failed, or unknown where there was none.
func (k *known) drillState(stores []string) holdfast.Posture {
	worst := holdfast.PostureProved
	for _, id := range stores {
		var newest *Proof
		for _, x := range k.byStore[id] {
			if outcome, _ := settled(k.p, *x); outcome == holdfast.NotProven || x.At.After(k.now) {
				continue
			}
			if newest == nil || x.At.After(newest.At) {
				newest = x
			}
		}
		state := holdfast.PostureUnknown
		if newest != nil {
			term, age := k.term(id), k.now.Sub(newest.At)
			switch {
			case newest.Outcome == holdfast.Failed:
				state = holdfast.PostureFailed
			case age > term.Fresh || k.ended(newest) != "":
				state = holdfast.PostureOverdue
			case term.Interval > 0 && age > term.Interval:
				state = holdfast.PostureDue
			default:
				state = holdfast.PostureProved
			}
		}
		worst = Worst(worst, state)
	}
	return worst
}

// newestDrill is the last drill of a store that has ended; nil if there is none.
func (k *known) newestDrill(store string) (newest *Proof) {
	for _, x := range k.byStore[store] {
		if x.Kind == ProofDrill && !x.At.After(k.now) && (newest == nil || x.At.After(newest.At)) {
			newest = x
		}
	}
	return newest
}

func (k *known) lastDrill(store string) *DrillView {
	newest := k.newestDrill(store)
	if newest == nil {
		return nil
	}
	goal := holdfast.RungNone
	if _, ok := k.p.Drills[newest.Name]; ok {
		goal = k.p.DrillRung(newest.Name, store)
	}
	return &DrillView{
		ID: newest.ID, Name: newest.Name, Store: store, Location: newest.Location, At: newest.At, Outcome: newest.Outcome,
		Rung: newest.Rung, Goal: goal, Restore: Seconds(newest.Parts.Sum()), DataAge: Seconds(newest.DataAge),
	}
}

func lookService(c *clockwork, id string, scenarios []Scenario, stores map[string]*StoreOverview) ServiceOverview {
	p, f := c.p, c.f
	s := p.Services[id]
	v := ServiceOverview{
		ID: id, Tier: s.Tier, Owner: s.Owner,
		Needs: append([]string{}, p.HardNeeds(id)...), Stores: append([]string{}, c.storesOf(id)...),
	}
	for _, need := range slices.Sorted(maps.Keys(s.Needs)) {
		if s.Needs[need] == plan.Soft {
			v.Wants = append(v.Wants, need)
		}
	}
	rto, rpo, from := p.ObjectiveOf(id)
	term := Term{Fresh: plan.DefaultFreshFor}
	var points []Measurement
	for i, store := range v.Stores {
		t := c.term(store)
		if i == 0 || t.Fresh < term.Fresh {
			term.Fresh = t.Fresh
		}
		if t.Interval > 0 && (term.Interval == 0 || t.Interval < term.Interval) {
			term.Interval = t.Interval
		}
	}

	v.Outage = c.predictService(id)
	v.RTO = Assess(rto, from, c.outages(c.byService[id]), term, f.Now)
	v.RTO.Clock = string(p.RTOClock())
	compose(&v.RTO, v.Outage, c.drillState(v.Stores))

	i := 0
	v.Losses = losses(p, s.Tier, rpo, scenarios, func(sc Scenario, target, limit time.Duration) Loss {
		l := Loss{Scenario: sc.ID, State: LossBounded, Why: "it holds no data of its own, and neither does what it needs"}
		for n, store := range v.Stores {
			theirs := stores[store].Losses[i]
			theirs.Why = store + ": " + theirs.Why
			if n == 0 || worseLoss(theirs, l) {
				l = theirs
			}
		}
		i++
		l.Verdict = verdictOf(l, target, limit)
		return l
	})

	// A service's data is as well proven as the least proven of its stores.
	// A real recovery that measured it stands for all stores at once.
	for _, x := range c.byService[id] {
		if x.Kind == ProofIncident {
			points = append(points, Measurement{x.At, x.DataAge, x.DataAgeKnown, x.Outcome, x.source(), x.Note, c.ended(x)})
			if x.Outcome == holdfast.Passed && !x.At.After(f.Now) && x.At.After(v.RecoveredAt) {
				v.Recovered, v.RecoveredAt = x.ID, x.At
			}
		}
	}
	v.RPO = Assess(rpo, from, points, term, f.Now)
	recovered := v.RPO.Posture == holdfast.PostureProved || v.RPO.Posture == holdfast.PostureDue
	if v.RPO.Posture != holdfast.PostureNA && v.RPO.Limit > 0 {
		for n, store := range v.Stores {
			theirs := stores[store].RPO
			if recovered && theirs.N == 0 && theirs.Posture == holdfast.PostureUnknown {
				continue
			}
			if n == 0 && len(points) == 0 || badness[theirs.Posture] > badness[v.RPO.Posture] {
				declared, target, limit := v.RPO.Declared, v.RPO.Target, v.RPO.Limit
				v.RPO = theirs
				v.RPO.Values, v.RPO.History = nil, nil
				v.RPO.Declared, v.RPO.Target, v.RPO.Limit, v.RPO.From = declared, target, limit, from
				v.RPO.Why = store + ": " + theirs.Why
				if theirs.Posture == holdfast.PostureNA {
					v.RPO.Posture = holdfast.PostureUnknown
				}
			}
		}
		live(&v.RPO, v.Losses)
	}
	c.history(&v.RPO, id, plan.MetricRPO, Prediction{})
	c.history(&v.RTO, id, plan.MetricRTO, v.Outage)
	v.RTO.Stages = c.stages(id, rto)
	late(&v.RTO)
	c.except("services."+id, &v.RTO, &v.RPO)
	v.Posture = Worst(v.RTO.Posture, v.RPO.Posture)
	return v
}

// stages judges the newest recovery of a service stage by stage, by the plan of its time.
func (k *known) stages(service string, rto plan.Objective) []StageState {
	var newest *Proof
	for _, x := range k.byService[service] {
		if x.Kind == ProofIncident && !x.At.After(k.now) && (newest == nil || x.At.After(newest.At)) {
			newest = x
		}
	}
	if newest == nil {
		return Stages(rto, k.p.RTOClock(), Instants{})
	}
	p := k.inForce(newest.At)
	then, _, _ := p.ObjectiveOf(service)
	at := newest.Ends
	at.Now = at.Usable + k.now.Sub(newest.At)
	return Stages(then, p.RTOClock(), at)
}

// late lets a stage that was missed speak for the whole objective. The others keep their own
// verdicts: what came in time is said beside it.
func late(st *ObjectiveState) {
	if st.Posture == holdfast.PostureNA || st.Posture == holdfast.PostureFailed {
		return
	}
	var all []string
	missed := false
	for _, x := range st.Stages {
		missed = missed || x.Verdict == Over
		all = append(all, x.Text())
	}
	if missed {
		st.Posture, st.Grade, st.Why = holdfast.PostureFailed, holdfast.Proved, "a stage of the newest recovery was missed: "+strings.Join(all, "; ")
	}
}

// sentence is the answer in one line, for the loss of this host.
func (o *Overview) sentence() string {
	const host = 1 // Scenarios puts it second
	var everything, unknown []string
	var worst *Loss
	worstStore := ""
	for i := range o.Stores {
		s := &o.Stores[i]
		switch l := &s.Losses[host]; l.State {
		case LossEverything:
			everything = append(everything, s.ID)
		case LossUnknown:
			unknown = append(unknown, s.ID)
		default:
			if worst == nil || l.Age > worst.Age {
				worst, worstStore = l, s.ID
			}
		}
	}
	var clauses []string
	if len(everything) > 0 {
		clauses = append(clauses, "all of "+list(everything)+" would be lost")
	}
	if len(unknown) > 0 {
		clauses = append(clauses, "nobody can say what would be lost of "+list(unknown))
	}
	if worst != nil {
		clauses = append(clauses, fmt.Sprintf("%s of %s would be lost", worst.Age, worstStore))
	}
	if len(o.Stores) == 0 {
		clauses = append(clauses, "the plan names no data")
	}
	var slowest *ServiceOverview
	for i := range o.Services {
		if s := &o.Services[i]; slowest == nil || s.Outage.Total > slowest.Outage.Total {
			slowest = s
		}
	}
	if slowest != nil {
		if slowest.Outage.Text() == "unknown" {
			clauses = append(clauses, "nobody can say how long it would take")
		} else {
			clauses = append(clauses, fmt.Sprintf("%s would be back after %s", slowest.ID, slowest.Outage.Text()))
		}
	}
	return "If this host burned down now: " + strings.Join(clauses, ", ") + "."
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
