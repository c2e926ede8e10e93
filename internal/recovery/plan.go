package recovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// A Kind says what a step does.
type Kind string

// The kinds of step.
const (
	StepRestore Kind = "restore" // bring one store back at its production address
	StepCheck   Kind = "check"   // probe one service until it is usable
	StepProtect Kind = "protect" // a backup of the recovered store is complete again
	StepHuman   Kind = "human"   // a person does something and says so
)

// A Step is one unit of a plan.
type Step struct {
	ID       string          `json:"id"`
	Kind     Kind            `json:"kind"`
	Title    string          `json:"title"`
	Store    string          `json:"store,omitempty"`
	Service  string          `json:"service,omitempty"`
	Role     string          `json:"role,omitempty"` // for human steps
	Location string          `json:"location,omitempty"`
	Target   holdfast.Target `json:"target,omitzero"`
	After    []string        `json:"after,omitempty"`
	Estimate time.Duration   `json:"estimate_ns"`
	Basis    holdfast.Basis  `json:"basis"`
	Why      string          `json:"why"`
}

// A Prediction is what the plan expects for one service.
type Prediction struct {
	Service string        `json:"service"`
	Time    time.Duration `json:"time_ns"` // from activation to usable
	Loss    time.Duration `json:"loss_ns"` // age of the data at the disruption
	RTO     time.Duration `json:"rto_ns"`
	RPO     time.Duration `json:"rpo_ns"`
}

// A Plan is an order of recovery, decided once. A plan is never changed: a new
// situation makes a new plan that names the old one as its parent.
type Plan struct {
	Parent      string        `json:"parent,omitempty"`
	Made        time.Time     `json:"made"`
	Disruption  time.Time     `json:"disruption"`
	Lost        []string      `json:"lost"`
	Steps       []Step        `json:"steps"` // a topological order
	Critical    []string      `json:"critical_path"`
	Time        time.Duration `json:"time_ns"` // predicted, from activation to the last usable service
	Predictions []Prediction  `json:"predictions"`
	Notes       []string      `json:"notes"` // what was decided and why, in sentences
}

// Digest identifies the plan by its content.
func (p Plan) Digest() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain data
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// An Input is everything that a plan depends on. The planner asks for nothing else.
type Input struct {
	Now        time.Time
	Disruption time.Time
	Parent     string
	Lost       []string           // stores that have to come back
	Stores     map[string]Store   // all stores of the plan in force
	Services   map[string]Service // all services
	Away       map[string]string  // locations that are out of reach, and why
}

// A Store is what the planner knows of a data store.
type Store struct {
	Offers   []Offer       // what each location within reach can give
	Estimate time.Duration // measured restore time, or a guess
	Basis    holdfast.Basis
}

// An Offer is the newest state of a store that one location can give back alone.
type Offer struct {
	Location string
	Until    time.Time // instant of the newest data
	Received bool      // the vault has countersigned it
}

// A Service is what users depend on.
type Service struct {
	Needs    []string // ids of stores and services, hard edges only
	RTO, RPO time.Duration
	Checked  bool   // the plan declares a probe
	Human    []Step // steps of the runbook that people do, in order, after the service is usable
}

// A Blocked error names a store that cannot come back from anywhere.
type Blocked struct {
	Store string
	Away  map[string]string
}

func (e *Blocked) Error() string {
	why := make([]string, 0, len(e.Away))
	for _, l := range slices.Sorted(maps.Keys(e.Away)) {
		why = append(why, fmt.Sprintf("location %q: %s", l, e.Away[l]))
	}
	if len(why) == 0 {
		why = append(why, "no location holds a complete backup of it")
	} else {
		why = append(why, "no location within reach holds a complete backup of it")
	}
	return fmt.Sprintf("store %q cannot be recovered from any location: %s", e.Store, strings.Join(why, "; "))
}

// Make decides the order of a recovery. It is pure: the same input gives the
// same plan. Steps depend on what they need and on nothing else, so independent
// stores come back at the same time.
func Make(in Input) (Plan, error) {
	// A store that was reported twice still comes back once.
	p := Plan{Parent: in.Parent, Made: in.Now.UTC(), Disruption: in.Disruption.UTC(), Lost: slices.Compact(slices.Sorted(slices.Values(in.Lost)))}
	if len(p.Lost) == 0 {
		return Plan{}, fmt.Errorf("nothing is lost, so there is nothing to recover: %w", holdfast.ErrUsage)
	}
	for _, l := range slices.Sorted(maps.Keys(in.Away)) {
		p.Notes = append(p.Notes, fmt.Sprintf("location %q is out of reach: %s", l, in.Away[l]))
	}
	loss := map[string]time.Duration{}
	for _, id := range p.Lost {
		st, ok := in.Stores[id]
		if !ok {
			return Plan{}, fmt.Errorf("store %q is not in the plan in force", id)
		}
		offer, why, ok := choose(st.Offers)
		if !ok {
			return Plan{}, holdfast.WithHint(&Blocked{id, in.Away}, "mend a location, or bring one that was kept offline, then activate the plan again")
		}
		loss[id] = max(0, in.Disruption.Sub(offer.Until))
		p.Notes = append(p.Notes, fmt.Sprintf("store %q comes from %q: %s", id, offer.Location, why))
		p.Steps = append(p.Steps,
			Step{ID: "restore-" + id, Kind: StepRestore, Title: "Restore " + id + " from " + offer.Location, Store: id, Location: offer.Location,
				Target: holdfast.Target{Kind: holdfast.TargetLatest}, Estimate: st.Estimate, Basis: st.Basis, Why: why},
			Step{ID: "protect-" + id, Kind: StepProtect, Title: "Back " + id + " up again", Store: id, After: []string{"restore-" + id},
				Basis: holdfast.Estimated, Why: "a recovered store without a backup is the next disaster"})
	}
	order, err := affected(in)
	if err != nil {
		return Plan{}, err
	}
	for _, id := range order {
		p.Steps = append(p.Steps, serviceSteps(in, id)...)
	}
	p.Steps = append(p.Steps, humanSteps(in, order)...)
	if p.Steps, err = sorted(p.Steps); err != nil {
		return Plan{}, err
	}
	finish := p.schedule()
	for _, id := range order {
		s := in.Services[id]
		pr := Prediction{Service: id, RTO: s.RTO, RPO: s.RPO, Time: finish["check-"+id]}
		for _, st := range storesOf(in, id, map[string]bool{}) {
			pr.Loss = max(pr.Loss, loss[st])
		}
		p.Predictions = append(p.Predictions, pr)
	}
	return p, nil
}

// choose takes the offer with the newest data; a countersigned one wins over one
// that is not, and the name decides between equals so that the plan is stable.
func choose(offers []Offer) (Offer, string, bool) {
	if len(offers) == 0 {
		return Offer{}, "", false
	}
	o := slices.Clone(offers)
	slices.SortFunc(o, func(a, b Offer) int {
		if a.Received != b.Received {
			if a.Received {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(a.Location, b.Location))
	})
	locations, newest := map[string]bool{}, o[0]
	for _, x := range o {
		locations[x.Location] = true
		// A restore takes all that its location has: only others can be newer.
		if x.Location != o[0].Location && x.Until.After(newest.Until) {
			newest = x
		}
	}
	const instant = "2006-01-02 15:04:05.0Z"
	why := fmt.Sprintf("its data there reaches %s", o[0].Until.UTC().Format(instant))
	switch {
	case len(locations) == 1:
		why += ", the only location within reach"
	case newest.Location != o[0].Location:
		// People may want to choose otherwise, so they must hear of it.
		why += fmt.Sprintf(", the newest that the vault has countersigned; %q claims %s without a receipt", newest.Location, newest.Until.UTC().Format(instant))
	default:
		why += fmt.Sprintf(", the newest of %d locations within reach", len(locations))
	}
	if !o[0].Received {
		why += " (without a vault receipt)"
	}
	return o[0], why, true
}

// affected lists the services that need a lost store, directly or not, each
// after the services that it needs.
func affected(in Input) ([]string, error) {
	var order []string
	state := map[string]int{} // 1 being visited, 2 affected, 3 not
	var visit func(id string, path []string) (bool, error)
	visit = func(id string, path []string) (bool, error) {
		if slices.Contains(in.Lost, id) {
			return true, nil
		}
		svc, ok := in.Services[id]
		if !ok {
			return false, nil
		}
		switch state[id] {
		case 1:
			circle := append(path[slices.Index(path, id):len(path):len(path)], id)
			return false, fmt.Errorf("services need each other in a circle: %s", strings.Join(circle, " needs "))
		case 2, 3:
			return state[id] == 2, nil
		}
		state[id] = 1
		hit := false
		for _, n := range slices.Sorted(slices.Values(svc.Needs)) {
			h, err := visit(n, append(path, id))
			if err != nil {
				return false, err
			}
			hit = hit || h
		}
		state[id] = 3
		if hit {
			state[id] = 2
			order = append(order, id)
		}
		return hit, nil
	}
	for _, id := range slices.Sorted(maps.Keys(in.Services)) {
		if _, err := visit(id, nil); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func serviceSteps(in Input, id string) []Step {
	s := Step{ID: "check-" + id, Kind: StepCheck, Title: "Check that " + id + " is usable", Service: id, Basis: holdfast.Estimated, Estimate: 5 * time.Second,
		Why: "its probe decides, not the end of the restore"}
	if !in.Services[id].Checked {
		s.Why = "the plan declares no probe for it: it counts as usable when what it needs is back"
		s.Estimate = 0
	}
	for _, n := range slices.Sorted(slices.Values(in.Services[id].Needs)) {
		if slices.Contains(in.Lost, n) {
			s.After = append(s.After, "restore-"+n)
		} else if _, ok := in.Services[n]; ok && len(storesOf(in, n, map[string]bool{})) > 0 {
			s.After = append(s.After, "check-"+n)
		}
	}
	return []Step{s}
}

func humanSteps(in Input, order []string) []Step {
	var out []Step
	taken := map[string]bool{}
	for _, id := range in.Lost {
		taken["restore-"+id], taken["protect-"+id] = true, true
	}
	for _, id := range order {
		taken["check-"+id] = true
	}
	for _, id := range order {
		last := "check-" + id
		for _, h := range in.Services[id].Human {
			h.Kind, h.Service, h.After = StepHuman, id, []string{last}
			// "a-b" of service "c" and "b" of service "c-a" would be one id. No id
			// of a plan holds a tilde, and within a service step ids differ.
			if name := id + "-" + h.ID; taken[name] {
				h.ID = id + "~" + h.ID
			} else {
				h.ID = name
			}
			taken[h.ID] = true
			last = h.ID
			out = append(out, h)
		}
	}
	return out
}

// storesOf lists the lost stores that a service needs, directly or not.
func storesOf(in Input, id string, seen map[string]bool) []string {
	if seen[id] {
		return nil
	}
	seen[id] = true
	if slices.Contains(in.Lost, id) {
		return []string{id}
	}
	var out []string
	for _, n := range in.Services[id].Needs {
		out = append(out, storesOf(in, n, seen)...)
	}
	return out
}

// sorted puts every step after those that it follows.
func sorted(steps []Step) ([]Step, error) {
	var out []Step
	placed := map[string]bool{}
	for len(out) < len(steps) {
		n := len(out)
		for _, s := range steps {
			if !placed[s.ID] && !slices.ContainsFunc(s.After, func(a string) bool { return !placed[a] }) {
				placed[s.ID] = true
				out = append(out, s)
			}
		}
		if n == len(out) {
			return nil, fmt.Errorf("the steps of the recovery wait for each other")
		}
	}
	return out, nil
}

// schedule computes when each step ends if all that can run does, the longest
// path to the last usable service, and the predicted time. Where no service needs
// what is lost, the last store that is back ends it.
func (p *Plan) schedule() map[string]time.Duration {
	finish, via := map[string]time.Duration{}, map[string]string{}
	var check, restore string
	for _, s := range p.Steps {
		var start time.Duration
		for _, a := range s.After {
			if finish[a] >= start {
				start, via[s.ID] = finish[a], a
			}
		}
		finish[s.ID] = start + s.Estimate
		if s.Kind == StepCheck && (check == "" || finish[s.ID] > finish[check]) {
			check = s.ID
		}
		if s.Kind == StepRestore && (restore == "" || finish[s.ID] > finish[restore]) {
			restore = s.ID
		}
	}
	last := cmp.Or(check, restore)
	p.Time = finish[last]
	for id := last; id != ""; id = via[id] {
		p.Critical = append([]string{id}, p.Critical...)
	}
	return finish
}
