package objective

import (
	"maps"
	"slices"
	"time"

	"holdfast/internal/plan"
)

// known is a plan and the facts about it, found by what they are about. A company has
// thousands of stores, and the first page asks all of them at once.
type known struct {
	p         *plan.Plan
	f         Facts
	now       time.Time
	consumers plan.Consumers
	byStore   map[string][]*Proof
	byService map[string][]*Proof
	copies    map[[2]string]*Copy // by store and location
	locations map[string]LocationFact
	drills    map[string][]string // by store, in order
	estimates map[string]plan.Estimate
	terms     map[string]Term
	closures  map[string][]string      // stores of services
	intervals map[string]time.Duration // by the text of a recurrence
	waivers   plan.Waivers             // of the plan, and approved since
}

func know(p *plan.Plan, f Facts) *known {
	k := &known{p: p, f: f, now: f.Now, consumers: p.Consumers(), byStore: map[string][]*Proof{}, byService: map[string][]*Proof{}, copies: map[[2]string]*Copy{},
		locations: map[string]LocationFact{}, drills: map[string][]string{}, estimates: map[string]plan.Estimate{}, terms: map[string]Term{}, closures: map[string][]string{}, intervals: map[string]time.Duration{}, waivers: slices.Concat(p.Waivers(), f.Waivers)}
	for i := range f.Proofs {
		x := &f.Proofs[i]
		if x.Store != "" {
			k.byStore[x.Store] = append(k.byStore[x.Store], x)
		}
		if x.Service != "" {
			k.byService[x.Service] = append(k.byService[x.Service], x)
		}
	}
	for i := range f.Copies {
		k.copies[[2]string{f.Copies[i].Store, f.Copies[i].Location}] = &f.Copies[i]
	}
	for _, l := range slices.Backward(f.Locations) {
		k.locations[l.Location] = l
	}
	for _, id := range slices.Sorted(maps.Keys(p.Drills)) {
		for _, store := range p.Drills[id].Of {
			if ds := k.drills[store]; len(ds) == 0 || ds[len(ds)-1] != id {
				k.drills[store] = append(ds, id)
			}
		}
	}
	// The longest estimate that a runbook declares for a store's restore.
	for _, id := range slices.Sorted(maps.Keys(p.Runbooks)) {
		for _, st := range p.Runbooks[id].Steps {
			if st.Restore != "" && st.Estimated() > k.estimates[st.Restore].Period.Approx() {
				k.estimates[st.Restore] = st.Est
			}
		}
	}
	return k
}

func (k *known) location(id string) LocationFact {
	if l, ok := k.locations[id]; ok {
		return l
	}
	return LocationFact{Location: id, Err: "nobody has looked yet"}
}

// term says how long the proof of a store lasts: the shortest that its drills declare.
func (k *known) term(store string) Term {
	if t, ok := k.terms[store]; ok {
		return t
	}
	t := Term{}
	for _, id := range k.drills[store] {
		d := k.p.Drills[id]
		if t.Fresh == 0 || d.Fresh() < t.Fresh {
			t.Fresh = d.Fresh()
		}
		every, ok := k.intervals[d.Every.String()]
		if !ok {
			every = d.Every.Interval()
			k.intervals[d.Every.String()] = every
		}
		if t.Interval == 0 || every < t.Interval {
			t.Interval = every
		}
	}
	if d := k.p.Stores[store].Delegated; t.Fresh == 0 && k.p.Stores[store].Elsewhere() {
		t = testTerm(d)
	}
	if t.Fresh == 0 {
		t.Fresh = plan.DefaultFreshFor
	}
	k.terms[store] = t
	return t
}

func (k *known) storesOf(service string) []string {
	if s, ok := k.closures[service]; ok {
		return s
	}
	s := k.p.StoresOf(service)
	k.closures[service] = s
	return s
}
