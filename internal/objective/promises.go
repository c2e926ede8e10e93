package objective

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
)

// A Form says how an objective is declared.
type Form string

// The forms of an objective.
const (
	FormExact  Form = "exact"          // one number
	FormRange  Form = "range"          // a target and a limit
	FormStaged Form = "staged"         // stages with limits of their own
	FormWorded Form = "worded"         // words, and the number that they are bound to
	FormWords  Form = "unbound"        // words and no number: nobody can test it
	FormNone   Form = "not applicable" // with the reason
)

// A Declared is one RTO or RPO as a plan declares it, in the plan's own vocabulary.
type Declared struct {
	Selector string `json:"selector"` // "tiers.critical", "customers.acme", "tiers.critical.scenarios.fire"
	// Kind is what it is attached to: tier, severity, scenario, service, store, customer or
	// obligation. Scheme is the scale that a tier or severity belongs to: a label of one
	// scale says nothing about a label of another.
	Kind     string     `json:"kind"`
	Label    string     `json:"label"`
	Scheme   string     `json:"scheme,omitempty"`
	Scenario string     `json:"scenario,omitempty"` // it holds in this loss alone
	Metric   string     `json:"metric"`             // rto or rpo
	Declared string     `json:"declared"`
	Words    string     `json:"words,omitempty"` // the policy's own
	Form     Form       `json:"form"`
	Target   Seconds    `json:"target_seconds,omitempty"`
	Limit    Seconds    `json:"limit_seconds,omitempty"` // 0: no number
	Reason   string     `json:"reason,omitempty"`        // why it does not apply
	Stages   []StageOf  `json:"stages,omitempty"`
	Clock    string     `json:"rto_clock,omitempty"` // where an RTO begins
	Approved []string   `json:"approved_by,omitempty"`
	Bound    string     `json:"bound_by,omitempty"` // who chose the number for the words
	File     string     `json:"file"`
	Line     int        `json:"line"`
	Holds    []Standing `json:"holds_for"` // services and stores for which this one counts
}

// A StageOf is one stage as it is declared.
type StageOf struct {
	ID     string  `json:"id"`
	Target Seconds `json:"target_seconds,omitempty"`
	Limit  Seconds `json:"limit_seconds"`
	From   string  `json:"from"` // a clock, or the stage at whose end it begins
	Level  string  `json:"level,omitempty"`
}

// A Standing is a service or store for which a promise counts, and how it stands there.
type Standing struct {
	ID      string           `json:"id"`
	Posture holdfast.Posture `json:"posture,omitempty"` // "" if nothing was observed
	Why     string           `json:"why,omitempty"`
}

// Promises lists every RTO and RPO that a plan declares. With an overview, each says how
// it stands for what it counts for; nil is the plan alone.
func Promises(p *plan.Plan, o *Overview) []Declared {
	out := []Declared{}
	add := func(selector, kind, label, scheme, scenario string, rto, rpo plan.Objective) {
		for _, x := range []struct {
			metric string
			plan.Objective
		}{{plan.MetricRTO, rto}, {plan.MetricRPO, rpo}} {
			if !x.IsZero() {
				out = append(out, promiseOf(p, Declared{Selector: selector, Kind: kind, Label: label, Scheme: scheme, Scenario: scenario, Metric: x.metric}, x.Objective))
			}
		}
	}
	within := func(selector, kind, label, scheme string, m map[string]plan.TierScenario) {
		for _, sc := range slices.Sorted(maps.Keys(m)) {
			add(selector+".scenarios."+sc, kind, label, scheme, sc, m[sc].RTO, m[sc].RPO)
		}
	}
	for _, id := range ranked(p, slices.Collect(maps.Keys(p.Tiers)), func(id string) string { return p.Tiers[id].SchemeOf() }) {
		t := p.Tiers[id]
		add("tiers."+id, "tier", id, t.SchemeOf(), "", t.RTO, t.RPO)
		within("tiers."+id, "tier", id, t.SchemeOf(), t.Scenarios)
	}
	for _, id := range ranked(p, slices.Collect(maps.Keys(p.Severities)), func(id string) string { return p.Severities[id].SchemeOf() }) {
		s := p.Severities[id]
		add("severities."+id, "severity", id, s.SchemeOf(), "", s.RTO, s.RPO)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Scenarios)) {
		add("scenarios."+id, "scenario", id, "", id, p.Scenarios[id].RTO, p.Scenarios[id].RPO)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[id]
		add("services."+id, "service", id, "", "", s.RTO, s.RPO)
		within("services."+id, "service", id, "", s.Scenarios)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		s := p.Stores[id]
		add("stores."+id, "store", id, "", "", s.RTO, s.RPO)
		within("stores."+id, "store", id, "", s.Scenarios)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Customers)) {
		add("customers."+id, "customer", id, "", "", p.Customers[id].RTO, p.Customers[id].RPO)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Obligations)) {
		add("obligations."+id, "obligation", id, "", "", p.Obligations[id].RTO, p.Obligations[id].RPO)
	}
	stand(p, o, out)
	return out
}

// ranked are labels scale by scale, each in the company's own order; what a scale does not
// rank comes after, in the order of the alphabet. Two scales are never compared.
func ranked(p *plan.Plan, labels []string, scheme func(string) string) []string {
	return slices.SortedFunc(slices.Values(labels), func(a, b string) int {
		if x, y := scheme(a), scheme(b); x != y {
			return cmp.Compare(x, y)
		}
		x, known := p.Rank(scheme(a), a)
		y, other := p.Rank(scheme(b), b)
		switch {
		case known && other:
			return cmp.Compare(x, y)
		case known:
			return -1
		case other:
			return 1
		}
		return cmp.Compare(a, b)
	})
}

func promiseOf(p *plan.Plan, x Declared, o plan.Objective) Declared {
	x.Declared, x.Words, x.Target, x.Reason, x.Approved = o.String(), o.Stated, Seconds(o.Target.Approx()), o.None, o.ApprovedBy()
	limit, bound := o.Duration()
	x.Limit = Seconds(limit)
	if o.Terms != nil {
		x.Bound = o.Terms.BoundBy
	}
	if x.Metric == plan.MetricRTO {
		x.Clock = string(p.RTOClock())
	}
	pos := p.Position(x.Selector + "." + x.Metric)
	if pos.Line == 0 {
		pos = p.Position(x.Selector)
	}
	x.File, x.Line = pos.File, pos.Line
	x.Holds = []Standing{}
	switch {
	case o.None != "":
		x.Form = FormNone
	case len(o.Stages) > 0:
		x.Form = FormStaged
	case !bound:
		x.Form = FormWords
	case o.Stated != "":
		x.Form = FormWorded
	case x.Target > 0 && x.Target != x.Limit:
		x.Form = FormRange
	default:
		x.Form = FormExact
	}
	for i, st := range o.Stages {
		from := st.From
		switch {
		case from == "" && i == 0:
			from = string(p.RTOClock())
		case from == "":
			from = o.Stages[i-1].ID
		}
		x.Stages = append(x.Stages, StageOf{ID: st.ID, Target: Seconds(st.Target.Approx()), Limit: Seconds(st.Max.Approx()), From: from, Level: st.Level})
	}
	return x
}

// stand says for each promise what it counts for, and how it stands there.
func stand(p *plan.Plan, o *Overview, all []Declared) {
	at := map[string]int{}
	for i, x := range all {
		at[x.Selector+"."+x.Metric] = i
	}
	seen := map[string]ObjectiveState{}
	if o != nil {
		for _, s := range o.Services {
			seen[s.ID+".rto"], seen[s.ID+".rpo"] = s.RTO, s.RPO
		}
		for _, s := range o.Stores {
			seen[s.ID+".rto"], seen[s.ID+".rpo"] = s.RTO, s.RPO
		}
	}
	nodes := append(slices.Sorted(maps.Keys(p.Services)), slices.Sorted(maps.Keys(p.Stores))...)
	for _, id := range nodes {
		for _, metric := range []string{plan.MetricRTO, plan.MetricRPO} {
			best, ok := plan.Strictest(p.ObjectivesOf(id, metric, ""))
			if i, known := at[best.Selector+"."+metric]; ok && known {
				st := seen[id+"."+metric]
				all[i].Holds = append(all[i].Holds, Standing{id, st.Posture, st.Why})
			}
		}
	}
}

// Text writes the promise in one line, in the plan's vocabulary.
func (x Declared) Text() string {
	switch x.Form {
	case FormWords:
		return x.Declared + ": nobody can test it"
	case FormStaged:
		var parts []string
		for _, st := range x.Stages {
			limit := st.Limit.String()
			if st.Target > 0 {
				limit = st.Target.String() + " to " + limit
			}
			text := st.ID + " within " + limit + " of " + st.From
			if st.Level != "" {
				text += ", at " + st.Level
			}
			parts = append(parts, text)
		}
		text := strings.Join(parts, "; ")
		if x.Words != "" {
			text += " (\"" + x.Words + "\")"
		}
		return text
	}
	return x.Declared
}

// promise writes the limit with the words that it is bound to, so that a verdict cites both.
func (st ObjectiveState) promise() string {
	if st.Words == "" {
		return st.Limit.String()
	}
	return st.Limit.String() + " (\"" + st.Words + "\")"
}
