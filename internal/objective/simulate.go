package objective

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/planner"
)

// A Question is what to simulate.
type Question struct {
	Losses []plan.Loss
	// Scenario is the plan's scenario whose objectives hold. Without it, it is the one that
	// loses exactly these things, if there is one.
	Scenario string
	// Observed says that the facts were looked at. Without it the plan alone answers: copies
	// are as old as its schedules allow, restores take what its runbooks estimate.
	Observed bool
	// Runs is how often chance is played with Seed; 0 leaves it out.
	Runs int
	Seed uint64
}

// MaxRuns bounds how often chance is played.
const MaxRuns = 100_000

// QuestionOf reads what is lost as people name it: "region:eu-1", and the names of the plan's
// scenarios.
func QuestionOf(p *plan.Plan, lose []string, scenario string) (Question, error) {
	q := Question{Scenario: scenario}
	if scenario != "" {
		sc, ok := p.Scenarios[scenario]
		if !ok {
			return q, holdfast.WithHint(fmt.Errorf("scenario %q is not in the plan: %w", scenario, holdfast.ErrUsage), "%s", plan.Nearest(scenario, slices.Sorted(maps.Keys(p.Scenarios))))
		}
		lose = append(slices.Clone(sc.Lose), lose...)
	}
	for _, w := range lose {
		l, err := p.ParseLoss(w)
		if err != nil {
			return q, err
		}
		q.Losses = append(q.Losses, l)
	}
	return q, nil
}

// A Simulation is what would happen if some things were lost at one instant. Times count
// from the disruption.
type Simulation struct {
	At       time.Time `json:"at"`
	Lost     []string  `json:"lost"` // "region:eu-1"
	Scenario string    `json:"scenario,omitempty"`
	Observed bool      `json:"observed"` // false: from the plan alone
	Sentence string    `json:"sentence"`
	Missed   bool      `json:"missed"` // an objective would be missed, or something would have no way back
	Clock    string    `json:"rto_clock"`

	Fallen      []Fallen    `json:"fallen"`      // what is gone, with the reason
	Services    []Fate      `json:"services"`    // in the order in which they are back; those that never stop come last
	Stores      []StoreFate `json:"stores"`      // all, by id
	Total       Seconds     `json:"total"`       // until the last that can come back is back
	State       TimeState   `json:"total_state"` // how well Total is known
	Timeline    []Bar       `json:"timeline"`    // in the order of time
	Critical    []string    `json:"critical"`    // the bars that decide Total
	People      []Duty      `json:"people"`      // who is needed
	Choices     []Choice    `json:"choices"`     // what a person must decide
	Assumptions []string    `json:"assumptions"` // what the numbers rest on
	Notes       []string    `json:"notes"`       // what was decided and why
	Chance      *Chance     `json:"chance,omitempty"`
}

// Fallen is one thing that is gone.
type Fallen struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Why  string `json:"why"`
}

// Choice is something that a person decides, or must find a way for.
type Choice = planner.Choice

// A FateState says what becomes of a service or store.
type FateState string

// The fates.
const (
	FateRuns  FateState = "runs"  // it never stops
	FateBack  FateState = "back"  // it comes back
	FateNever FateState = "never" // nothing that is left brings it back
)

// A Promise is an objective that counts in a simulation, with its place.
type Promise struct {
	Declared string  `json:"declared"`
	Target   Seconds `json:"target_seconds,omitempty"`
	Limit    Seconds `json:"limit_seconds,omitempty"`
	From     string  `json:"from,omitempty"` // path in the plan and line
}

// A Fate is what becomes of one service.
type Fate struct {
	ID      string    `json:"id"`
	Tier    string    `json:"tier"`
	State   FateState `json:"state"`
	Outage  Seconds   `json:"outage_seconds"` // from the plan's clock until usable, for FateBack
	Known   TimeState `json:"outage_state"`
	Missing []string  `json:"missing,omitempty"` // what has no number: Outage is a lower bound
	RTO     Promise   `json:"rto"`
	InTime  Verdict   `json:"rto_verdict"`
	Loss    Loss      `json:"loss"`
	RPO     Promise   `json:"rpo"`
	// Stages judge each stage of an RTO in stages by itself.
	Stages []StageState `json:"stages,omitempty"`
	// Harm is the impact that the outage has reached by the service's impact analysis, 0 to 5, and Cost
	// what it has cost until then, in the company's currency.
	Harm int `json:"impact"`
	Cost int `json:"cost"`
	// MTD is the maximum tolerable downtime, and Harmed that the outage is longer.
	MTD    Seconds `json:"mtd_seconds,omitempty"`
	Harmed bool    `json:"beyond_mtd"`
	Why    string  `json:"why"`
}

// Text writes the outage: "45m", "about 45m", "at least 45m", "never", "none".
func (f Fate) Text() string {
	switch f.State {
	case FateRuns:
		return "none"
	case FateNever:
		return "never"
	}
	return Prediction{State: f.Known, Total: f.Outage}.Text()
}

// A StoreFate is what becomes of one store, and what is left of its copies.
type StoreFate struct {
	Fate
	// Copies are the locations that still give it back, the newest data first.
	Copies []Survivor `json:"copies"`
	// Bare is why it would not come back any more if it were lost too; "" if it would.
	Bare string `json:"bare,omitempty"`
	// Unprotected says that nothing brings it back, whatever else is lost: that is no
	// consequence of this loss.
	Unprotected bool `json:"unprotected,omitempty"`
}

// A Survivor is one location that is left.
type Survivor struct {
	Location string  `json:"location"`
	Age      Seconds `json:"loss_seconds"`
	Why      string  `json:"why"`
}

// A Bar is one stretch of the time line.
type Bar struct {
	ID      string         `json:"id"`
	Kind    string         `json:"kind"` // detect, decide, or a kind of step
	Title   string         `json:"title"`
	Begin   Seconds        `json:"begin_seconds"`
	End     Seconds        `json:"end_seconds"`
	By      []string       `json:"by,omitempty"`
	Basis   holdfast.Basis `json:"basis"`
	Held    string         `json:"held,omitempty"` // what it waited for
	Blocked string         `json:"blocked,omitempty"`
	NoTime  bool           `json:"no_time,omitempty"` // it has no number: it takes longer than shown
}

// A Duty is one person whom the recovery needs.
type Duty struct {
	Person string   `json:"person"`
	Steps  []string `json:"steps"`
	Busy   Seconds  `json:"busy_seconds"`
}

// Simulate says what would happen if the things in q were lost at f.Now. It computes the plan
// that a real recovery would follow, with the same planner.
func Simulate(p *plan.Plan, f Facts, q Question) (Simulation, error) {
	if q.Runs < 0 || q.Runs > MaxRuns {
		return Simulation{}, fmt.Errorf("%d runs: at most %d: %w", q.Runs, MaxRuns, holdfast.ErrUsage)
	}
	if len(q.Losses) == 0 {
		return Simulation{}, holdfast.WithHint(fmt.Errorf("nothing is lost, so there is nothing to simulate: %w", holdfast.ErrUsage), "name what is lost, for example --lose host:this-host")
	}
	return newSimulator(p, f, q.Observed).run(q)
}

// simulator holds what does not depend on what is lost.
type simulator struct {
	*clockwork
	observed  bool
	base      planner.Input
	exposures map[string][]Exposure
	restores  map[string]restoring
	starts    map[string]work // of services, until the recovery begins
	scenarios map[string]string
	bare      map[string]bool // stores that nothing brings back even if nothing is lost
	circles   [][]string      // services that need each other
}

// restoring is how long the restore of a store takes.
type restoring struct {
	work
	fetch time.Duration
	basis holdfast.Basis
}

func newSimulator(p *plan.Plan, f Facts, observed bool) *simulator {
	s := &simulator{clockwork: newClockwork(know(p, f)), observed: observed, base: planner.Declared(p), exposures: map[string][]Exposure{},
		restores: map[string]restoring{}, starts: map[string]work{}, scenarios: map[string]string{}, bare: map[string]bool{}}
	s.base.Now, s.base.Disruption, s.base.Anyhow = f.Now, f.Now, true
	s.circles = circlesOf(s.base.Services)
	for _, group := range s.circles {
		for _, id := range group {
			x := s.base.Services[id]
			x.Needs = slices.DeleteFunc(slices.Clone(x.Needs), func(n string) bool { return slices.Contains(group, n) })
			s.base.Services[id] = x
		}
	}
	extra := s.extras()
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		s.exposures[id] = s.expose(id)
		s.bare[id] = !slices.ContainsFunc(s.exposures[id], func(e Exposure) bool { return e.State == LossBounded })
		r := restoring{work: s.store(id), basis: holdfast.Measured}
		st := p.Stores[id]
		if d := st.Delegated; d != nil && st.Protect == "" {
			r.work = work{guessed: true}
			if rto, ok := d.RTO.Duration(); ok {
				r.add(PartTime{"fetch", Seconds(rto), holdfast.Estimated, []string{id}})
			} else {
				r.lack("restore of " + id + " by " + d.To)
			}
		}
		for _, x := range r.parts {
			if x.Name == "fetch" {
				r.fetch += x.Time.Duration()
			}
			r.basis = weaker(r.basis, x.Basis)
		}
		if len(r.parts) == 0 {
			r.basis = holdfast.Estimated
		}
		x := extra[id]
		r.total += x.start
		if _, _, measured := s.measured(id); !measured {
			r.total += x.check
		}
		s.restores[id] = r
	}
	for id := range p.Services {
		s.starts[id] = s.start(append([]string{id}, s.storesOf(id)...), runbookOf(p, id))
	}
	for id, sc := range p.Scenarios {
		if key, ok := s.losses(sc.Lose); ok && len(sc.Lose) > 0 {
			s.scenarios[key] = id
		}
	}
	return s
}

// losses is a list of losses in one order.
func (s *simulator) losses(words []string) (string, bool) {
	var out []string
	for _, w := range words {
		l, err := s.p.ParseLoss(w)
		if err != nil {
			return "", false
		}
		out = append(out, l.String())
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ","), true
}

// extras are the estimates of runbook steps that start or check a store: the planner counts them
// with its restore.
func (s *simulator) extras() map[string]struct{ start, check time.Duration } {
	out := map[string]struct{ start, check time.Duration }{}
	for _, r := range s.p.Runbooks {
		for _, st := range r.Steps {
			kind, of := st.Kind()
			if _, store := s.p.Stores[of]; !store {
				continue
			}
			x := out[of]
			switch kind {
			case plan.StepStart:
				x.start = max(x.start, st.Estimated())
			case plan.StepCheck:
				x.check = max(x.check, st.Estimated())
			}
			out[of] = x
		}
	}
	return out
}

// expose says what each location gives back of a store: as observed, or as the plan promises.
func (s *simulator) expose(id string) []Exposure {
	st := s.p.Stores[id]
	b, protected := s.p.Backups[st.Protect]
	out := []Exposure{}
	for _, loc := range b.Copies.Names() {
		if s.observed {
			out = append(out, Expose(s.copies[[2]string{id, loc}], s.location(loc), s.p.Locations[loc].DomainOr(), s.now))
			continue
		}
		age, sum := b.WorstLoss(loc)
		out = append(out, Exposure{Location: loc, State: LossBounded, Age: Seconds(age), Newest: s.now.Add(-age), Reachable: true, Received: s.now,
			Why: fmt.Sprintf("%q gives back everything until %s ago, if the plan is kept: %s", loc, Seconds(age), cmp.Or(sum, "at once"))})
	}
	if d := st.Delegated; d != nil && !protected {
		e := Exposure{Location: d.To, State: LossUnknown, Why: fmt.Sprintf("%q keeps copies and promises nothing in numbers", d.To)}
		if rpo, ok := d.RPO.Duration(); ok {
			e = Exposure{Location: d.To, State: LossBounded, Age: Seconds(rpo), Newest: s.now.Add(-rpo), Why: fmt.Sprintf("%q claims to give back everything until %s ago", d.To, Seconds(rpo))}
		}
		out = append(out, e)
	}
	return out
}

// run simulates one loss.
func (s *simulator) run(q Question) (Simulation, error) {
	out := Simulation{At: s.now, Observed: q.Observed, Clock: string(s.p.RTOClock()), Scenario: q.Scenario, State: TimeProven, Lost: []string{}, Fallen: []Fallen{}, Services: []Fate{}, Stores: []StoreFate{},
		Timeline: []Bar{}, Critical: []string{}, People: []Duty{}, Choices: []Choice{}, Assumptions: []string{}, Notes: []string{}}
	for _, l := range q.Losses {
		if !slices.Contains(out.Lost, l.String()) {
			out.Lost = append(out.Lost, l.String())
		}
	}
	if key, ok := s.losses(out.Lost); ok && out.Scenario == "" {
		out.Scenario = s.scenarios[key]
	}
	fallen := s.p.Falls(q.Losses...)
	out.Fallen = listed(fallen)
	in := s.input(fallen)
	var pl planner.Plan
	if len(in.Lost) > 0 || len(in.Down) > 0 || len(in.Outside) > 0 {
		var err error
		if pl, err = planner.Make(in); err != nil {
			return out, err
		}
	}
	s.fates(&out, in, pl, fallen)
	s.assume(&out, fallen)
	if q.Runs > 0 && len(pl.Steps) > 0 {
		c, err := s.chance(&out, in, pl, q)
		if err != nil {
			return out, err
		}
		out.Chance = c
	}
	out.Sentence = out.sentence()
	return out, nil
}

func listed(f plan.Fallen) []Fallen {
	out := []Fallen{}
	for _, k := range []struct {
		kind string
		ids  map[string]string
	}{{"facility", f.Facilities}, {"supplier", f.Suppliers}, {"location", f.Locations}, {"store", f.Stores}, {"service", f.Services}, {"person", f.People}, {"credential", f.Credentials}, {"key", f.Keys}} {
		for _, id := range slices.Sorted(maps.Keys(k.ids)) {
			out = append(out, Fallen{k.kind, id, k.ids[id]})
		}
	}
	if f.ControlPlane != "" {
		out = append(out, Fallen{plan.LossControlPlane, "", f.ControlPlane})
	}
	return out
}

// locked is why no backup can be read any more; "" if one can.
func (s *simulator) locked(f plan.Fallen) string {
	var gone []string
	for _, id := range s.p.Repository.EncryptTo {
		if f.Keys[id] == "" {
			return ""
		}
		gone = append(gone, fmt.Sprintf("%s (%s)", id, f.Keys[id]))
	}
	if len(gone) == 0 {
		return ""
	}
	return "no key that opens the backups is left: " + strings.Join(gone, "; ")
}

// input is what the planner is asked.
func (s *simulator) input(f plan.Fallen) planner.Input {
	in := s.base
	in.Stores, in.People, in.Missing, in.Away, in.Outside = map[string]planner.Store{}, map[string][]string{}, map[string]string{}, map[string]string{}, map[string]planner.Outside{}
	in.Services = maps.Clone(s.base.Services)
	in.Lost, in.Down = slices.Sorted(maps.Keys(f.Stores)), slices.Sorted(maps.Keys(f.Services))
	for id, why := range f.Locations {
		in.Away[id] = why
	}
	locked := s.locked(f)
	for _, id := range in.Lost {
		r := s.restores[id]
		st := planner.Store{Estimate: r.total, Fetch: r.fetch, Basis: r.basis, Locked: locked}
		if s.p.Stores[id].Delegated != nil && s.p.Stores[id].Protect == "" {
			st.Locked = "" // its supplier has keys of its own
		}
		for _, e := range s.left(id, f) {
			if e.State == LossBounded {
				st.Offers = append(st.Offers, planner.Offer{Location: e.Location, Until: e.Newest, Received: !e.Received.IsZero()})
			}
		}
		in.Stores[id] = st
	}
	for role, who := range s.base.People {
		in.People[role] = slices.DeleteFunc(slices.Clone(who), func(person string) bool { return f.People[person] != "" })
		if len(in.People[role]) == 0 {
			in.Missing[role] = "the plan names nobody who exists"
			if len(who) > 0 {
				in.Missing[role] = strings.Join(who, " and ") + " lost"
			}
		}
	}
	for id, why := range f.Credentials {
		in.Missing[id] = why
	}
	gone := func(id string) bool {
		return f.Suppliers[id] != "" || f.Facilities[id] != "" || f.Services[id] != "" || f.Stores[id] != ""
	}
	for id, svc := range s.p.Services {
		if len(svc.AnyOf) == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(svc.Needs)), func(n string) bool { return f.Suppliers[n] != "" || f.Facilities[n] != "" }) {
			continue
		}
		x := in.Services[id]
		x.Needs = slices.Clone(x.Needs)
		for _, o := range s.p.Outside(id, gone) {
			if gone(o) {
				x.Needs = append(x.Needs, o)
				in.Outside[o] = s.outside(o, f)
			}
		}
		for _, any := range svc.AnyOf {
			left := slices.DeleteFunc(slices.Clone(any.Of), gone)
			if any.Need == plan.Soft || len(left) >= max(1, any.AtLeast) {
				continue
			}
			for _, o := range any.Of {
				if f.Services[o] != "" || f.Stores[o] != "" {
					x.Needs = append(x.Needs, o)
				}
			}
		}
		in.Services[id] = x
	}
	s.close(&in)
	return in
}

// close lets the services of a circle wait for the circle itself, if what is lost reaches it.
func (s *simulator) close(in *planner.Input) {
	hit := map[string]bool{}
	for _, id := range slices.Concat(in.Lost, in.Down) {
		hit[id] = true
		for _, c := range s.consumers.All(id) {
			hit[c] = true
		}
	}
	for id, x := range in.Services {
		if slices.ContainsFunc(x.Needs, func(n string) bool { _, ok := in.Outside[n]; return ok }) {
			hit[id] = true
			for _, c := range s.consumers.All(id) {
				hit[c] = true
			}
		}
	}
	for _, group := range s.circles {
		if !slices.ContainsFunc(group, func(id string) bool { return hit[id] }) {
			continue
		}
		name := "circle " + strings.Join(append(slices.Clone(group), group[0]), " -> ")
		in.Outside[name] = planner.Outside{Title: "Break the " + name, Blocked: fmt.Sprintf("%s need each other: none of them can be recovered first, until somebody has a way around", list(group))}
		for _, id := range group {
			x := in.Services[id]
			x.Needs = append(slices.Clone(x.Needs), name)
			in.Services[id] = x
		}
	}
}

// left are the exposures of a store in what is left.
func (s *simulator) left(store string, f plan.Fallen) []Exposure {
	return slices.DeleteFunc(slices.Clone(s.exposures[store]), func(e Exposure) bool { return f.Locations[e.Location] != "" || f.Suppliers[e.Location] != "" })
}

// outside is how a lost supplier or facility comes back, or what takes its place.
func (s *simulator) outside(id string, f plan.Fallen) planner.Outside {
	x := planner.Outside{Title: "Wait for " + id}
	sup, supplier := s.p.Suppliers[id]
	if !supplier {
		x.Blocked = fmt.Sprintf("facility %q is gone, and the plan names nothing that takes its place", id)
		return x
	}
	others := slices.DeleteFunc(slices.Clone(sup.Alternatives), func(a string) bool { return f.Suppliers[a] != "" })
	if r, ok := s.p.Runbooks[sup.Contingency]; ok {
		_, x.Estimate = r.CriticalPath(plan.Step.Estimated)
		x.Title = "Contingency for " + id
		x.Why = fmt.Sprintf("runbook %q is the plan's way without supplier %q", sup.Contingency, id)
		if len(others) > 0 {
			x.Title += ": " + strings.Join(others, " or ")
		}
		return x
	}
	if rto, ok := sup.RTO.Duration(); ok {
		x.Estimate, x.Why = rto, fmt.Sprintf("supplier %q claims to be back within %s", id, Seconds(rto))
		return x
	}
	x.Blocked = fmt.Sprintf("supplier %q is gone: it promises nothing in numbers, and the plan has no contingency", id)
	return x
}
