package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Metric of an objective: what is promised.
const (
	MetricRTO = "rto"
	MetricRPO = "rpo"
)

// A Declared is one objective that applies to a service or store, with where it
// stands. Several can apply at once: see [Plan.ObjectivesOf].
type Declared struct {
	Objective
	Metric string // "rto" or "rpo"
	// Selector says by what it applies: "tiers.critical", "services.api",
	// "customers.acme", "obligations.gdpr", "scenarios.site-lost", and for a value of a
	// scenario "tiers.critical.scenarios.site-lost".
	Selector string
	Path     string // where it stands in the plan
	// Replaced is the path of the value that stands in for it; empty if it counts.
	Replaced string
}

// ObjectivesOf returns every objective of a metric that is declared for a service or
// store, in the order tier, own, customers, obligations, then the values for the given
// scenario ("" for the ordinary loss). A tier's value for a scenario replaces its
// ordinary one, and an own value that does not apply ({none: …}) replaces the tier's;
// those are marked. Severities apply to incidents, not to services: see
// [Plan.Severities].
func (p *Plan) ObjectivesOf(node, metric, scenario string) []Declared {
	var out []Declared
	add := func(selector string, o Objective) int {
		if o.IsZero() {
			return -1
		}
		out = append(out, Declared{Objective: o, Metric: metric, Selector: selector, Path: selector + "." + metric})
		return len(out) - 1
	}
	one := func(rto, rpo Objective) Objective {
		if metric == MetricRPO {
			return rpo
		}
		return rto
	}
	in := func(selector string, ordinary int, m map[string]TierScenario) {
		sc, ok := m[scenario]
		if !ok || scenario == "" {
			return
		}
		if i := add(selector+".scenarios."+scenario, one(sc.RTO, sc.RPO)); i >= 0 && ordinary >= 0 {
			out[ordinary].Replaced = out[i].Path
		}
	}
	tier, path, own, scenarios, ok := p.declaration(node)
	if !ok {
		return nil
	}
	t, known := p.Tiers[tier]
	first := len(out)
	if known {
		at := "tiers." + tier
		in(at, add(at, one(t.RTO, t.RPO)), t.Scenarios)
	}
	tiers := len(out)
	mine := add(path, one(own[0], own[1]))
	in(path, mine, scenarios)
	if mine >= 0 && out[mine].None != "" {
		for i := first; i < tiers; i++ {
			out[i].Replaced = out[mine].Path
		}
	}
	for _, at := range p.terms[node] {
		section, id, _ := cut(at)
		if section == "customers" {
			add(at, one(p.Customers[id].RTO, p.Customers[id].RPO))
		} else {
			add(at, one(p.Obligations[id].RTO, p.Obligations[id].RPO))
		}
	}
	if sc, ok := p.Scenarios[scenario]; ok {
		add("scenarios."+scenario, one(sc.RTO, sc.RPO))
	}
	return out
}

func cut(path string) (section, id string, ok bool) {
	for i := range path {
		if path[i] == '.' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// declaration returns what a service or store says about its objectives itself.
func (p *Plan) declaration(node string) (tier, path string, own [2]Objective, scenarios map[string]TierScenario, ok bool) {
	if s, found := p.Services[node]; found {
		return s.Tier, "services." + node, [2]Objective{s.RTO, s.RPO}, s.Scenarios, true
	}
	if s, found := p.Stores[node]; found {
		return s.Tier, "stores." + node, [2]Objective{s.RTO, s.RPO}, s.Scenarios, true
	}
	return
}

// Strictest returns the objective that counts among those declared: the shortest
// number that nothing replaces, else the first that has none. Labels are never
// compared.
func Strictest(all []Declared) (Declared, bool) {
	best, found := Declared{}, false
	for _, o := range all {
		if o.Replaced != "" {
			continue
		}
		d, bound := o.Duration()
		shortest, has := best.Duration()
		if !found || bound && (!has || d < shortest) {
			best, found = o, true
		}
	}
	return best, found
}

// ObjectiveOf returns the objectives in force for a service or store, and says where
// they come from: the strictest of its tier's, its own and its customers'. A node
// without any has none.
func (p *Plan) ObjectiveOf(node string) (rto, rpo Objective, why string) {
	tier, path, own, _, ok := p.declaration(node)
	if !ok {
		return rto, rpo, fmt.Sprintf("%q is not declared", node)
	}
	if t, known := p.Tiers[tier]; known && own[0].IsZero() && own[1].IsZero() && len(p.terms[node]) == 0 {
		pos := p.Position("tiers." + tier)
		return t.RTO, t.RPO, fmt.Sprintf("tier %q, %s:%d", tier, pos.File, pos.Line)
	}
	r, hasRTO := Strictest(p.ObjectivesOf(node, MetricRTO, ""))
	q, hasRPO := Strictest(p.ObjectivesOf(node, MetricRPO, ""))
	switch _, declared := p.Tiers[tier]; {
	case hasRTO && hasRPO && r.Selector != q.Selector:
		return r.Objective, q.Objective, fmt.Sprintf("rto by %s, rpo by %s", p.origin(r), p.origin(q))
	case hasRTO:
		return r.Objective, q.Objective, p.origin(r)
	case hasRPO:
		return r.Objective, q.Objective, p.origin(q)
	case tier == "":
		return rto, rpo, fmt.Sprintf("%s has no tier", path)
	case !declared:
		return rto, rpo, fmt.Sprintf("the tier %q of %s is not declared", tier, path)
	default:
		pos := p.Position("tiers." + tier)
		return rto, rpo, fmt.Sprintf("tier %q, %s:%d", tier, pos.File, pos.Line)
	}
}

// origin says where an objective comes from: tier "critical", plan.yaml:30.
func (p *Plan) origin(o Declared) string {
	section, id, _ := cut(o.Selector)
	pos := p.Position(o.Selector)
	return fmt.Sprintf("%s %q, %s:%d", singular[section], id, pos.File, pos.Line)
}

var singular = map[string]string{"tiers": "tier", "services": "service", "stores": "store", "customers": "customer",
	"obligations": "obligation", "scenarios": "scenario", "severities": "severity"}

// ObjectiveIn returns the objectives in force for a service or store in a scenario.
func (p *Plan) ObjectiveIn(node, scenario string) (rto, rpo Declared) {
	rto, _ = Strictest(p.ObjectivesOf(node, MetricRTO, scenario))
	rpo, _ = Strictest(p.ObjectivesOf(node, MetricRPO, scenario))
	return rto, rpo
}

// index notes once which terms apply to which services and stores.
func (p *Plan) index() {
	p.terms = map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(p.Customers)) {
		for _, node := range p.Customers[id].Services {
			p.terms[node] = append(p.terms[node], "customers."+id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Obligations)) {
		o := p.Obligations[id]
		if o.RTO.IsZero() && o.RPO.IsZero() {
			continue
		}
		nodes := o.Of
		if len(nodes) == 0 {
			nodes = p.Nodes()
		}
		for _, node := range nodes {
			if len(o.When) > 0 && !p.marked(node, o.When) {
				continue
			}
			p.terms[node] = append(p.terms[node], "obligations."+id)
		}
	}
}

// marked reports whether a store, or one that a service cannot run without, holds data
// with one of the markers.
func (p *Plan) marked(node string, markers []Marker) bool {
	has := func(store string) bool {
		return slices.ContainsFunc(p.Stores[store].Contains, func(m Marker) bool { return slices.Contains(markers, m) })
	}
	if _, ok := p.Stores[node]; ok {
		return has(node)
	}
	return slices.ContainsFunc(p.StoresOf(node), has)
}

// Marked reports whether any store of the plan holds data with one of the markers; no
// marker at all is always there.
func (p *Plan) Marked(markers []Marker) bool {
	if len(markers) == 0 {
		return true
	}
	for id := range p.Stores {
		if p.marked(id, markers) {
			return true
		}
	}
	return false
}

// Held reports whether a hold is in force at now.
func (p *Plan) Held(h Hold, now time.Time) bool {
	loc := p.Location()
	if !h.From.IsZero() && now.Before(h.From.Begin(loc)) {
		return false
	}
	return h.Until.IsZero() || now.Before(Date{h.Until.Year, h.Until.Month, h.Until.Day + 1}.Begin(loc))
}
