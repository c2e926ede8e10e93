package planner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// checkTime is what one look at a service's probe is counted as.
const checkTime = 5 * time.Second

// Make decides the order of a recovery. A store that cannot come back from anywhere holds up only
// the services that need it; if none can, the error is a *[Blocked], unless the input asks for a
// plan anyhow.
func Make(in Input) (Plan, error) {
	// A store that was reported twice still comes back once.
	p := Plan{Parent: in.Parent, Made: in.Now.UTC(), Disruption: in.Disruption.UTC(), Lost: slices.Compact(slices.Sorted(slices.Values(in.Lost)))}
	if len(p.Lost) == 0 && len(in.Down) == 0 && len(in.Outside) == 0 {
		return Plan{}, fmt.Errorf("nothing is lost, so there is nothing to recover: %w", holdfast.ErrUsage)
	}
	for _, l := range slices.Sorted(maps.Keys(in.Away)) {
		p.Notes = append(p.Notes, fmt.Sprintf("location %q is out of reach: %s", l, in.Away[l]))
	}
	if !in.Anyhow {
		var err error
		if in, err = possible(in, &p); err != nil {
			return Plan{}, err
		}
	}
	m, err := newMaking(in, p.Lost)
	if err != nil {
		return Plan{}, err
	}
	for _, id := range p.Lost {
		st, ok := in.Stores[id]
		if !ok {
			return Plan{}, fmt.Errorf("store %q is not in the plan in force", id)
		}
		restore := Step{ID: "restore-" + id, Kind: StepRestore, Store: id, Target: holdfast.Target{Kind: holdfast.TargetLatest}, Estimate: st.Estimate, Basis: st.Basis}
		offer, why, ok := choose(st.Offers)
		if ok && st.Locked == "" {
			m.loss[id] = max(0, in.Disruption.Sub(offer.Until))
			p.Notes = append(p.Notes, fmt.Sprintf("store %q comes from %q: %s", id, offer.Location, why))
			restore.Title, restore.Location, restore.Why = "Restore "+id+" from "+offer.Location, offer.Location, why
			restore.Target = offer.target()
			if c, ok := newer(id, offer, st.Offers); ok {
				p.Choices = append(p.Choices, c)
			}
			if offer.Hole != "" {
				c := Choice{Of: "stores." + id, What: offer.lapse(in.Disruption), Chosen: offer.Location, Options: []string{offer.Location, "wait for another location"}}
				p.Choices = append(p.Choices, c)
				restore.After = []string{m.takeLoss(id, c.What)}
			}
		} else {
			blocked := &Blocked{id, in.Away, st.Locked}
			restore.Title, restore.Blocked, restore.Why = "Restore "+id, blocked.Error(), "nothing that is left brings it back"
			p.Choices = append(p.Choices, Choice{Of: "stores." + id, What: blocked.Error()})
		}
		m.add(restore)
		m.add(Step{ID: "protect-" + id, Kind: StepProtect, Title: "Back " + id + " up again", Store: id, After: []string{"restore-" + id},
			Basis: holdfast.Estimated, Why: "a recovered store without a backup is the next disaster"})
	}
	m.services()
	m.outsides()
	m.runbooks()
	m.levels()
	if p.Steps, err = sorted(m.steps); err != nil {
		// Runbooks that contradict the needs must not keep a recovery from beginning.
		p.Notes = append(p.Notes, fmt.Sprintf("the runbooks cannot be followed as they are written (%s): people do their steps when the services are back", err))
		m.loosen()
		if p.Steps, err = sorted(m.steps); err != nil {
			return Plan{}, err
		}
	}
	return p, m.finish(&p)
}

// takeLossFor is how long a person is expected to look for more before a loss is taken.
const takeLossFor = 5 * time.Minute

// takeLoss adds the step in which a person takes the loss of a store whose log is missing.
// Nothing is restored before: who finds another location, or mends this one, ends the
// recovery and starts another.
func (m *making) takeLoss(store, what string) (id string) {
	id = "take-loss-" + store
	m.ids[id] = true
	role := "whoever leads the recovery"
	if len(m.in.Deciders) > 0 {
		role = m.in.Deciders[0]
		m.people[id] = RunStep{ID: id, Roles: m.in.Deciders[:1], Estimate: takeLossFor}
	}
	m.add(Step{ID: id, Kind: StepHuman, Title: "Take the loss of " + store + ": " + what, Store: store, Role: role, Estimate: takeLossFor, Basis: holdfast.Estimated,
		Why: "the newest state of " + store + " cannot be brought back"})
	return id
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
	locations := map[string]bool{}
	for _, x := range o {
		locations[x.Location] = true
	}
	newest := newestElsewhere(o[0], o)
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

const instant = "2006-01-02 15:04:05.0Z"

// newestElsewhere returns the newest offer of another location that is newer than the chosen
// one; the chosen one if there is none. A restore takes all that its location has:
// only others can be newer.
func newestElsewhere(chosen Offer, offers []Offer) Offer {
	newest := chosen
	for _, x := range offers {
		if x.Location != chosen.Location && (x.Until.After(newest.Until) || x.Until.Equal(newest.Until) && newest.Location != chosen.Location && x.Location < newest.Location) {
			newest = x
		}
	}
	return newest
}

// newer is the choice between what is countersigned and what claims to be newer.
func newer(store string, chosen Offer, offers []Offer) (Choice, bool) {
	o := newestElsewhere(chosen, offers)
	if o.Location == chosen.Location {
		return Choice{}, false
	}
	return Choice{Of: "stores." + store, What: fmt.Sprintf("%q holds data of %s, which the vault has countersigned; %q claims %s without a receipt: it may be what an intruder wrote",
		chosen.Location, chosen.Until.UTC().Format(instant), o.Location, o.Until.UTC().Format(instant)), Chosen: chosen.Location, Options: []string{chosen.Location, o.Location}}, true
}

// making is a plan that is being made.
type making struct {
	in     Input
	lost   map[string]bool
	order  []string            // affected services, each after those that it needs
	hit    map[string]bool     // the same as a set
	needs  map[string][]string // lost stores of each affected service, through others too
	loss   map[string]time.Duration
	steps  []Step
	index  map[string]int             // of the steps
	ids    map[string]bool            // that are taken
	people map[string]RunStep         // the runbook step behind each human step
	of     map[string][]string        // for each service the human steps of its runbook
	fetch  map[string][]string        // for each restore the human steps that its runbook puts before it
	nodes  map[[2]string][]string     // runbook and step to the steps that stand for it
	below  map[string]map[string]bool // for each runbook the steps that follow a check of a service
}

func newMaking(in Input, lost []string) (*making, error) {
	m := &making{in: in, lost: map[string]bool{}, hit: map[string]bool{}, needs: map[string][]string{}, loss: map[string]time.Duration{}, index: map[string]int{}, ids: map[string]bool{},
		people: map[string]RunStep{}, of: map[string][]string{}, fetch: map[string][]string{}, nodes: map[[2]string][]string{}, below: map[string]map[string]bool{}}
	for _, id := range lost {
		m.lost[id] = true
		m.ids["restore-"+id], m.ids["protect-"+id] = true, true
	}
	if err := m.affected(); err != nil {
		return nil, err
	}
	for _, id := range m.order {
		m.hit[id], m.ids["check-"+id] = true, true
		for _, n := range in.Services[id].Needs {
			if m.lost[n] {
				m.needs[id] = append(m.needs[id], n)
			}
			m.needs[id] = append(m.needs[id], m.needs[n]...)
		}
		slices.Sort(m.needs[id])
		m.needs[id] = slices.Compact(m.needs[id])
	}
	return m, nil
}

// affected lists the services that are down or need a lost store or such a service, each
// after the services that it needs.
func (m *making) affected() error {
	down := map[string]bool{}
	for _, id := range m.in.Down {
		if _, ok := m.in.Services[id]; !ok {
			return fmt.Errorf("service %q is not in the plan in force", id)
		}
		down[id] = true
	}
	state := map[string]int{} // 1 being visited, 2 affected, 3 not
	var visit func(id string, path []string) (bool, error)
	visit = func(id string, path []string) (bool, error) {
		if _, outside := m.in.Outside[id]; outside || m.lost[id] {
			return true, nil
		}
		svc, ok := m.in.Services[id]
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
		hit := down[id]
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
			m.order = append(m.order, id)
		}
		return hit, nil
	}
	for _, id := range slices.Sorted(maps.Keys(m.in.Services)) {
		if _, err := visit(id, nil); err != nil {
			return err
		}
	}
	return nil
}

// services adds the check of each affected service.
func (m *making) services() {
	for _, id := range m.order {
		s := Step{ID: "check-" + id, Kind: StepCheck, Title: "Check that " + id + " is usable", Service: id, Basis: holdfast.Estimated, Estimate: checkTime + m.in.Services[id].Window,
			Why: "its probe decides, not the end of the restore"}
		if !m.in.Services[id].Checked {
			s.Why = "the plan declares no probe for it: it counts as usable when what it needs is back and people have done what its runbook puts before"
			s.Estimate = 0
		}
		for _, n := range slices.Sorted(slices.Values(m.in.Services[id].Needs)) {
			if m.lost[n] {
				s.After = append(s.After, "restore-"+n)
			} else if m.hit[n] {
				s.After = append(s.After, "check-"+n)
			} else if _, ok := m.in.Outside[n]; ok {
				s.After = append(s.After, "outside-"+n)
			}
		}
		m.add(s)
	}
}

// levels adds the measurement of each level of service that a stage asks for. The first
// stage is reached when the service is usable and its level holds; later ones are looked at when people
// have done what the runbook asks for, so that a level which held before does not count.
func (m *making) levels() {
	for _, id := range m.order {
		for _, l := range m.in.Services[id].Levels {
			s := Step{ID: "level~" + id + "~" + l.Stage, Kind: StepLevel, Title: fmt.Sprintf("Measure that %s of %s is there", l.Share, id), Service: id, Stage: l.Stage, Level: l.Share,
				After: []string{"check-" + id}, Basis: holdfast.Estimated, Why: fmt.Sprintf("the stage %q asks for it, and its probe is asked over a whole window", l.Stage)}
			if !l.First {
				s.After = append(s.After, m.of[id]...)
			}
			slices.Sort(s.After)
			m.add(s)
		}
	}
}

// outsides adds what others bring back, if a service waits for it.
func (m *making) outsides() {
	needed := map[string]bool{}
	for _, id := range m.order {
		for _, n := range m.in.Services[id].Needs {
			needed[n] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.in.Outside)) {
		if x := m.in.Outside[id]; needed[id] {
			m.ids["outside-"+id] = true
			m.add(Step{ID: "outside-" + id, Kind: StepOutside, Title: x.Title, Estimate: x.Estimate, Basis: holdfast.Estimated, Blocked: x.Blocked, Why: x.Why})
		}
	}
}

func (m *making) add(s Step) {
	m.index[s.ID] = len(m.steps)
	m.steps = append(m.steps, s)
}

// loosen lets people do their steps one after another once the first service of their runbook is
// back, and nothing wait for them.
func (m *making) loosen() {
	human := map[string]bool{}
	last := map[string]string{}
	for i, s := range m.steps {
		if s.Kind == StepHuman {
			human[s.ID] = true
			m.steps[i].After = []string{cmp.Or(last[s.Service], "check-"+s.Service)}
			last[s.Service] = s.ID
		}
	}
	for i, s := range m.steps {
		if s.Kind == StepHuman {
			continue
		}
		m.steps[i].After = slices.DeleteFunc(s.After, func(a string) bool {
			return human[a] || s.Kind == StepCheck && strings.HasPrefix(a, "check-") && !slices.Contains(m.in.Services[s.Service].Needs, strings.TrimPrefix(a, "check-")) ||
				s.Kind == StepCheck && strings.HasPrefix(a, "restore-") && !slices.Contains(m.in.Services[s.Service].Needs, strings.TrimPrefix(a, "restore-"))
		})
	}
}

// runbooks adds what people do, in the order that the runbooks of the affected services give.
func (m *making) runbooks() {
	groups := map[string][]string{}
	var names []string
	for _, id := range m.order {
		if r := m.in.Services[id].Runbook; r != "" && m.in.Runbooks[r] != nil {
			if groups[r] == nil {
				names = append(names, r)
			}
			groups[r] = append(groups[r], id)
		}
	}
	for _, r := range names {
		m.runbook(r, groups[r])
	}
	// A restore waits for what its runbook puts before it, if that does not wait for the
	// restore by another way.
	for _, id := range slices.Sorted(maps.Keys(m.fetch)) {
		i := m.index["restore-"+id]
		for _, a := range m.fetch[id] {
			if m.reaches(a, "restore-"+id) {
				m.steps[i].Why += fmt.Sprintf("; step %q of its runbook waits for it by another way, so it does not wait for that step", a)
				continue
			}
			m.steps[i].After = append(m.steps[i].After, a)
		}
	}
	for i := range m.steps {
		slices.Sort(m.steps[i].After)
		m.steps[i].After = slices.Compact(m.steps[i].After)
	}
}

// reaches reports whether a step waits for another one, directly or not.
func (m *making) reaches(from, to string) bool {
	seen := map[string]bool{}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			return true
		}
		if !seen[queue[0]] {
			seen[queue[0]] = true
			queue = append(queue, m.steps[m.index[queue[0]]].After...)
		}
	}
	return false
}

// runbook adds the steps of one runbook, for the services that it brings back.
func (m *making) runbook(name string, services []string) {
	book := m.in.Runbooks[name]
	restores, checked := map[string]bool{}, map[string]bool{}
	for _, rs := range book {
		restores[rs.Restore] = true
		if m.hit[rs.Check] {
			checked[rs.Check] = true
		}
	}
	// What the services need from elsewhere comes before everything but restores.
	var base []string
	for _, id := range services {
		for _, n := range m.in.Services[id].Needs {
			switch {
			case m.lost[n] && !restores[n]:
				base = append(base, "restore-"+n)
			case m.hit[n] && !slices.Contains(services, n) && !m.needsAny(n, services):
				base = append(base, "check-"+n)
			}
			if _, ok := m.in.Outside[n]; ok {
				base = append(base, "outside-"+n)
			}
		}
	}
	slices.Sort(base)
	base = slices.Compact(base)
	m.below[name] = after(book, func(rs RunStep) bool { return m.hit[rs.Check] })
	for _, rs := range book {
		if rs.Restore != "" || rs.Check != "" {
			continue
		}
		id := name + "-" + rs.ID
		if m.ids[id] {
			// "a-b" of runbook "c" and "b" of runbook "c-a" would be one id. No id of a plan
			// holds a tilde, and within a runbook step ids differ.
			id = name + "~" + rs.ID
		}
		m.ids[id], m.people[id] = true, rs
		m.nodes[[2]string{name, rs.ID}] = []string{id}
		m.add(Step{ID: id, Kind: StepHuman, Title: cmp.Or(rs.Title, rs.ID), Service: services[0], Role: strings.Join(rs.Roles, ", "),
			Estimate: rs.Estimate, Basis: holdfast.Estimated, After: slices.Clone(base), Why: fmt.Sprintf("runbook %q asks for it", name)})
		for _, s := range services {
			m.of[s] = append(m.of[s], id)
		}
	}
	for _, rs := range book {
		before := m.before(name, book, rs)
		switch {
		case rs.Restore != "":
			if m.lost[rs.Restore] {
				for _, a := range before {
					if a != "restore-"+rs.Restore && m.people[a].ID != "" {
						m.fetch[rs.Restore] = append(m.fetch[rs.Restore], a)
					}
				}
			}
		case rs.Check != "":
			if i, ok := m.index["check-"+rs.Check]; ok && slices.Contains(services, rs.Check) {
				m.steps[i].Estimate = max(m.steps[i].Estimate, rs.Estimate)
				m.steps[i].After = append(m.steps[i].After, without(before, "check-"+rs.Check)...)
			}
		default:
			i := m.index[m.nodes[[2]string{name, rs.ID}][0]]
			m.steps[i].After = append(m.steps[i].After, before...)
		}
	}
	// A service that no step of its runbook checks, and that has no probe to say it, is
	// usable when people have done what the runbook asks before the others are checked.
	for _, id := range services {
		if checked[id] || m.in.Services[id].Checked {
			continue
		}
		i := m.index["check-"+id]
		for _, rs := range book {
			if node := m.nodes[[2]string{name, rs.ID}]; node != nil && !m.below[name][rs.ID] {
				m.steps[i].After = append(m.steps[i].After, node...)
			}
		}
	}
}

// needsAny reports whether a service needs one of some others, directly or not.
func (m *making) needsAny(id string, others []string) bool {
	seen := map[string]bool{}
	for queue := []string{id}; len(queue) > 0; queue = queue[1:] {
		for _, n := range m.in.Services[queue[0]].Needs {
			if slices.Contains(others, n) {
				return true
			}
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return false
}

// before returns the steps of the plan that a runbook's step follows: those that stand for
// what it names, and through what happens elsewhere or not at all, for what that names.
func (m *making) before(name string, book []RunStep, rs RunStep) []string {
	byID := map[string]RunStep{}
	for _, x := range book {
		byID[x.ID] = x
	}
	var out []string
	seen := map[string]bool{}
	for queue := slices.Clone(rs.After); len(queue) > 0; queue = queue[1:] {
		x, ok := byID[queue[0]]
		if !ok || seen[x.ID] {
			continue
		}
		seen[x.ID] = true
		switch node := m.nodes[[2]string{name, x.ID}]; {
		case node != nil:
			out = append(out, node...)
			continue
		case m.lost[x.Restore]:
			out = append(out, "restore-"+x.Restore)
		case m.hit[x.Check]:
			out = append(out, "check-"+x.Check)
		}
		queue = append(queue, x.After...)
	}
	return out
}

// after returns the steps of a runbook that follow one that is asked for, directly or not.
func after(book []RunStep, is func(RunStep) bool) map[string]bool {
	begin, out := map[string]bool{}, map[string]bool{}
	for _, rs := range book {
		begin[rs.ID] = is(rs)
	}
	for range book { // as often as the longest chain is long
		for _, rs := range book {
			for _, a := range rs.After {
				if begin[a] || out[a] {
					out[rs.ID] = true
				}
			}
		}
	}
	return out
}

func without(ids []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(x string) bool { return x == id })
}
