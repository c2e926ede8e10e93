package objective

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/planner"
)

// MaxLosable bounds how many things Enumerate combines: all pairs of so many are 4,950.
const MaxLosable = 100

// An Enumeration is what every single loss and every pair of losses would do, worst first.
type Enumeration struct {
	Sentence string   `json:"sentence"`
	Observed bool     `json:"observed"`
	Things   []string `json:"things"` // what can be lost
	Singles  int      `json:"singles"`
	Pairs    int      `json:"pairs"`
	Missed   bool     `json:"missed"` // a single loss would miss an objective, or leave something without a way back
	Cases    []Case   `json:"cases"`
	// Points are the single points of failure.
	Points []Point `json:"single_points_of_failure"`
	// Circles are services that need each other to come back: none can be first.
	Circles     [][]string `json:"recovery_circles"`
	Assumptions []string   `json:"assumptions"`
}

// A Case is one loss of an enumeration.
type Case struct {
	Lost     []string  `json:"lost"`
	Never    []string  `json:"never"`  // services and stores that would not come back
	Bare     []string  `json:"bare"`   // stores that run on and would have no way back
	Missed   []string  `json:"missed"` // objectives: "api rto"
	Stopped  int       `json:"stopped"`
	Total    Seconds   `json:"total_seconds"`
	State    TimeState `json:"total_state"`
	Sentence string    `json:"sentence"`
	// Adds says that a pair is worse than each of its halves alone.
	Adds bool `json:"adds"`
}

// A Point is a single point of failure: a thing whose loss alone stops several services, or
// leaves something without a way back.
type Point struct {
	Lost      string   `json:"lost"`
	Subject   string   `json:"subject"` // in the plan: "stores.db"
	Stops     []string `json:"stops"`   // services
	Never     []string `json:"never"`   // what would not come back
	Rationale string   `json:"rationale,omitempty"`
	Closed    bool     `json:"closed"` // the plan says why it is borne
}

// Enumerate simulates the loss of each thing that the plan knows, and of each pair of them.
func Enumerate(p *plan.Plan, f Facts, observed bool) (Enumeration, error) {
	things := p.Losable()
	out := Enumeration{Observed: observed, Things: []string{}, Cases: []Case{}, Points: []Point{}, Circles: [][]string{}, Assumptions: []string{}}
	if len(things) > MaxLosable {
		return out, holdfast.WithHint(fmt.Errorf("the plan knows %d things that can be lost, and the pairs of at most %d are looked at: %w", len(things), MaxLosable, holdfast.ErrUsage),
			"name what is lost: \"holdfast simulate --lose KIND:NAME\"")
	}
	s := newSimulator(p, f, observed)
	out.Circles = append(out.Circles, s.circles...)
	single := make([]Case, len(things))
	for i, l := range things {
		sim, err := s.run(Question{Losses: []plan.Loss{l}, Observed: observed})
		if err != nil {
			return out, err
		}
		out.Things = append(out.Things, l.String())
		single[i] = caseOf(sim)
		out.Cases = append(out.Cases, single[i])
		out.Missed = out.Missed || sim.Missed
		s.point(&out, l, sim)
	}
	out.Singles = len(things)
	for i := range things {
		for j := range i {
			sim, err := s.run(Question{Losses: []plan.Loss{things[j], things[i]}, Observed: observed})
			if err != nil {
				return out, err
			}
			c := caseOf(sim)
			c.Adds = worseCase(c, single[i]) < 0 && worseCase(c, single[j]) < 0
			out.Cases = append(out.Cases, c)
			out.Pairs++
		}
	}
	for _, kind := range []string{"service", "store"} {
		for _, id := range losableNodes(p, kind) {
			l := plan.Loss{Kind: kind, Name: id}
			sim, err := s.run(Question{Losses: []plan.Loss{l}, Observed: observed})
			if err != nil {
				return out, err
			}
			s.point(&out, l, sim)
		}
	}
	slices.SortStableFunc(out.Cases, worseCase)
	slices.SortStableFunc(out.Points, func(a, b Point) int {
		return cmp.Or(cmp.Compare(btoi(a.Closed), btoi(b.Closed)), -cmp.Compare(len(a.Never), len(b.Never)), -cmp.Compare(len(a.Stops), len(b.Stops)), cmp.Compare(a.Lost, b.Lost))
	})
	if !observed {
		out.Assumptions = append(out.Assumptions, "nothing was looked at: copies are as old as the plan's schedules allow, and restores take what its runbooks estimate")
	}
	out.Sentence = out.sentence()
	return out, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func losableNodes(p *plan.Plan, kind string) []string {
	if kind == "store" {
		return slices.Sorted(maps.Keys(p.Stores))
	}
	return slices.Sorted(maps.Keys(p.Services))
}

// caseOf keeps of a simulation what an enumeration shows.
func caseOf(sim Simulation) Case {
	c := Case{Lost: sim.Lost, Never: []string{}, Bare: []string{}, Missed: []string{}, Total: sim.Total, State: sim.State, Sentence: sim.Sentence}
	note := func(v Fate) {
		if v.State == FateNever {
			c.Never = append(c.Never, v.ID)
		}
		if v.InTime == Over {
			c.Missed = append(c.Missed, v.ID+" rto")
		}
		if v.Loss.Verdict == Over {
			c.Missed = append(c.Missed, v.ID+" rpo")
		}
	}
	for _, v := range sim.Services {
		if v.State != FateRuns {
			c.Stopped++
		}
		note(v)
	}
	for _, v := range sim.Stores {
		note(v.Fate)
		if v.Bare != "" {
			c.Bare = append(c.Bare, v.ID)
		}
	}
	return c
}

// worseCase orders cases, the worst first: what never comes back, what has no way back
// any more, what misses its objective, what stops, how long it takes; then fewer things
// lost, and by name.
func worseCase(a, b Case) int {
	return cmp.Or(-cmp.Compare(len(a.Never), len(b.Never)), -cmp.Compare(len(a.Bare), len(b.Bare)), -cmp.Compare(len(a.Missed), len(b.Missed)),
		-cmp.Compare(a.Stopped, b.Stopped), -cmp.Compare(a.Total, b.Total))
}

// point adds a single loss to the single points of failure if it is one.
func (s *simulator) point(out *Enumeration, l plan.Loss, sim Simulation) {
	x := Point{Lost: l.String(), Subject: subjectOf(s.p, l), Stops: []string{}, Never: []string{}}
	for _, v := range sim.Services {
		// A service stops with itself; what matters is who else does.
		if v.State != FateRuns && (l.Kind != "service" || v.ID != l.Name) {
			x.Stops = append(x.Stops, v.ID)
		}
		if v.State == FateNever {
			x.Never = append(x.Never, v.ID)
		}
	}
	for _, v := range sim.Stores {
		if v.State == FateNever && !s.bare[v.ID] || v.Bare != "" {
			x.Never = append(x.Never, v.ID)
		}
	}
	slices.Sort(x.Stops)
	need := 2
	if l.Kind == "service" {
		need = 1
	}
	if len(x.Stops) < need && len(x.Never) == 0 {
		return
	}
	if l.Kind == "service" && s.p.Services[l.Name].Redundancy != nil {
		r := s.p.Services[l.Name].Redundancy
		if r.How != "" {
			return // the plan doubles it
		}
		x.Rationale, x.Closed = r.None, r.None != ""
	}
	if w, ok := s.waivers.Of(plan.CodeSinglePoint, x.Subject, s.now); ok {
		x.Rationale, x.Closed = fmt.Sprintf("%s (exception %q until %s)", w.Why, w.ID, w.Day), true
	}
	out.Points = append(out.Points, x)
}

// subjectOf is where a loss stands in the plan.
func subjectOf(p *plan.Plan, l plan.Loss) string {
	section := map[string]string{"person": "people", "key": "keys", "location": "locations", "service": "services", "store": "stores", "supplier": "suppliers",
		"facility": "facilities", "credential": "credentials"}[l.Kind]
	if section == "" {
		return l.String()
	}
	return section + "." + l.Name
}

func (e Enumeration) sentence() string {
	never, missed := 0, 0
	for _, c := range e.Cases {
		if len(c.Lost) == 1 && len(c.Never)+len(c.Bare) > 0 {
			never++
		}
		if len(c.Lost) == 1 && len(c.Missed) > 0 {
			missed++
		}
	}
	open := 0
	for _, x := range e.Points {
		if !x.Closed {
			open++
		}
	}
	return fmt.Sprintf("Of %d things that can be lost, %d take something along for good, and %d miss an objective; %d single points of failure are open.", e.Singles, never, missed, open)
}

// circlesOf returns the services that need each other, each group in order.
func circlesOf(services map[string]planner.Service) [][]string {
	// Tarjan's strongly connected components, without recursion beyond the services.
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	var out [][]string
	var visit func(id string)
	visit = func(id string) {
		index[id] = len(index) + 1
		low[id] = index[id]
		stack, on[id] = append(stack, id), true
		self := false
		for _, n := range services[id].Needs {
			if _, ok := services[n]; !ok {
				continue
			}
			self = self || n == id
			if index[n] == 0 {
				visit(n)
				low[id] = min(low[id], low[n])
			} else if on[n] {
				low[id] = min(low[id], index[n])
			}
		}
		if low[id] != index[id] {
			return
		}
		var group []string
		for {
			last := stack[len(stack)-1]
			stack, on[last] = stack[:len(stack)-1], false
			group = append(group, last)
			if last == id {
				break
			}
		}
		if slices.Sort(group); len(group) > 1 || self {
			out = append(out, group)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(services)) {
		if index[id] == 0 {
			visit(id)
		}
	}
	slices.SortFunc(out, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return out
}
