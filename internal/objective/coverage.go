package objective

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// A CoverageState says how far an item of the inventory is protected.
type CoverageState string

// The states of coverage. Every item has exactly one.
const (
	Covered     CoverageState = "covered"      // every location of the plan gives it back
	PartCovered CoverageState = "part covered" // some do, or some of its data is
	Delegated   CoverageState = "delegated"    // somebody else protects it, and claims so
	Excepted    CoverageState = "excepted"     // the plan, or an approved exception, says why nothing does
	Uncovered   CoverageState = "uncovered"
)

// CoverageStates are all of them, best first.
var CoverageStates = []CoverageState{Covered, PartCovered, Delegated, Excepted, Uncovered}

// A CoverageItem is one service or store with its coverage.
type CoverageItem struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"` // "service" or "store"
	State    CoverageState `json:"state"`
	Why      string        `json:"why"`
	LastGood time.Time     `json:"last_good,omitzero"` // newest point to which it comes back
	// Grade is, of what somebody else protects, whether that is claimed, or proved by a
	// restore of our own.
	Grade holdfast.Grade `json:"grade,omitempty"`
}

// A Coverage is the inventory with what protects it. The counts add up to Total.
type Coverage struct {
	Total  int                   `json:"total"`
	Counts map[CoverageState]int `json:"counts"`
	Items  []CoverageItem        `json:"items"`
}

// coverage says of every store and service how far it is protected.
func (k *known) coverage(o *Overview) Coverage {
	c := Coverage{Counts: map[CoverageState]int{}, Items: []CoverageItem{}}
	for _, s := range CoverageStates {
		c.Counts[s] = 0
	}
	stores := map[string]CoverageItem{}
	add := func(x CoverageItem) {
		c.Total++
		c.Counts[x.State]++
		c.Items = append(c.Items, x)
	}
	for i := range o.Stores {
		x := k.storeCoverage(&o.Stores[i])
		stores[x.ID] = x
		add(x)
	}
	for _, s := range o.Services {
		add(serviceCoverage(s, stores))
	}
	slices.SortStableFunc(c.Items, func(a, b CoverageItem) int {
		return slices.Index(CoverageStates, b.State) - slices.Index(CoverageStates, a.State)
	})
	return c
}

func (k *known) storeCoverage(s *StoreOverview) CoverageItem {
	st := k.p.Stores[s.ID]
	x := CoverageItem{ID: s.ID, Kind: "store", State: Uncovered, LastGood: s.LastGood}
	_, protected := k.p.Backups[st.Protect]
	w, waived := k.waivers.Of(plan.CodeUnprotected, "stores."+s.ID, k.now)
	switch {
	case !protected && st.Delegated != nil:
		x.State, x.Why, x.Grade = Delegated, s.Delegated.Why, s.Delegated.Grade
	case !protected && waived:
		x.State, x.Why = Excepted, w.String()
	case !protected && st.NotProtected != "":
		x.State, x.Why = Excepted, "the plan says: "+st.NotProtected
	case !protected:
		x.Why = s.Unprotected
	case !st.Kind.Protected():
		x.Why = fmt.Sprintf("stores of kind %s are declared, and this version does not protect them", st.Kind)
	default:
		var good, bad []string
		for _, e := range s.Exposures {
			if e.State == LossBounded {
				good = append(good, e.Location)
			} else {
				bad = append(bad, e.Why)
			}
		}
		switch {
		case len(good) > 0 && len(bad) == 0:
			x.State, x.Why = Covered, "comes back from "+list(good)
		case len(good) > 0:
			x.State, x.Why = PartCovered, "comes back from "+list(good)+" only: "+strings.Join(bad, "; ")
		default:
			x.Why = strings.Join(bad, "; ")
			if x.Why == "" {
				x.Why = fmt.Sprintf("its backup %q goes nowhere", st.Protect)
			}
			if waived {
				x.State, x.Why = Excepted, w.String()+"; without it: "+x.Why
			}
		}
	}
	return x
}

// serviceCoverage is that of the data that a service cannot run without.
func serviceCoverage(s ServiceOverview, stores map[string]CoverageItem) CoverageItem {
	x := CoverageItem{ID: s.ID, Kind: "service", State: Covered, Why: "it holds no data, and neither does what it needs"}
	by := map[CoverageState][]string{}
	for i, id := range s.Stores {
		st := stores[id]
		by[st.State] = append(by[st.State], id)
		if i == 0 || st.LastGood.Before(x.LastGood) {
			x.LastGood = st.LastGood // all of them come back to here
		}
	}
	if len(s.Stores) == 0 {
		return x
	}
	var words []string
	for _, state := range CoverageStates {
		if ids := by[state]; len(ids) > 0 {
			x.State = state
			words = append(words, list(ids)+" "+string(state))
		}
	}
	x.Why = strings.Join(words, "; ")
	// What protects a part of a service's data does not protect the service.
	if x.State == Uncovered && len(by[Uncovered]) < len(s.Stores) {
		x.State = PartCovered
	}
	return x
}

// Only keeps some items.
func (c Coverage) Only(ids []string) Coverage {
	out := Coverage{Counts: map[CoverageState]int{}, Items: []CoverageItem{}}
	for _, s := range CoverageStates {
		out.Counts[s] = 0
	}
	for _, x := range c.Items {
		if slices.Contains(ids, x.ID) {
			out.Total++
			out.Counts[x.State]++
			out.Items = append(out.Items, x)
		}
	}
	return out
}
