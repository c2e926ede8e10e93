package render

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
)

// impact shows what an outage does to the company as it goes on.
func (w *writer) impact() {
	p := w.plan
	w.para("The impact of an outage over time justifies the objectives. Where the two disagree, checking the plan says so. Levels go from 0, nothing, to %d, the end of the company.", plan.MaxImpact)
	if w.public {
		return
	}
	any := false
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		b := p.Services[id].BIA
		if b == nil {
			continue
		}
		any = true
		w.head("%s", w.text(id))
		rto, rpo, _ := p.ObjectiveOf(id)
		who := ""
		if b.By != "" || !b.On.IsZero() {
			who = fmt.Sprintf(" By %s, %s.", w.or(w.who(b.By)), w.or(b.On.String()))
		}
		w.para("More than level %d cannot be borne. In force: RTO %s; RPO %s.%s", b.Bearable(), w.objective(rto), w.objective(rpo), who)
		w.overTime("Outage", b.Impact, b.Bearable())
		if len(b.LossImpact) > 0 {
			w.overTime("Data loss", b.LossImpact, b.Bearable())
		}
	}
	if !any {
		w.para("The plan declares no impact analysis.")
	}
}

// overTime writes an impact map in the order of time.
func (w *writer) overTime(what string, m map[string]plan.Impact, bearable int) {
	var rows [][]string
	for _, i := range plan.ImpactOverTime(m) {
		cost := ""
		if i.Cost > 0 {
			cost = strconv.Itoa(i.Cost) + " an hour"
		}
		level := strconv.Itoa(i.Level)
		if i.Level > bearable {
			level += ", more than can be borne"
		}
		rows = append(rows, []string{period(i.After), level, w.text(i.Text), cost})
	}
	w.table("", []string{what + " of", "Level", "What happens", "Cost"}, rows)
}

// guarantee is what a supplier promises, or plainly that it is unknown.
func (w *writer) guarantee(o plan.Objective) string {
	if o.IsZero() {
		return "unknown"
	}
	return w.objective(o)
}

func (w *writer) suppliers() {
	if w.public {
		w.para("Suppliers are assessed for what they guarantee against what depends on them.")
		return
	}
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Suppliers)) {
		s := p.Suppliers[id]
		contingency := w.text(s.Contingency)
		if contingency == "" {
			contingency = "none"
		}
		rows = append(rows, []string{w.text(id), w.text(s.Name), w.text(s.Provides), w.text(string(s.Criticality)), w.guarantee(s.RTO), w.guarantee(s.RPO), contingency})
	}
	w.table("The plan declares no supplier.", []string{"Supplier", "Name", "Provides", "Criticality", "Guarantees back within", "Guarantees losing at most", "When it fails"}, rows)
	if len(rows) > 0 {
		w.para("What a supplier guarantees is claimed, not proved.")
	}
	w.rest("suppliers", "")
}

// exercises are the rehearsals of people.
func (w *writer) exercises() {
	p := w.plan
	if len(p.Exercises) == 0 {
		return
	}
	w.head("Exercises")
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Exercises)) {
		e := p.Exercises[id]
		every := w.recurrence(e.Every)
		if every == "" {
			every = "not declared"
		}
		row := []string{w.text(id), w.text(string(e.Kind)), every, w.texts(e.After), "", ""}
		if !w.public {
			row[4], row[5] = w.texts(e.Scenarios), w.texts(e.Covers)
		}
		rows = append(rows, row)
	}
	w.table("", []string{"Exercise", "Kind", "How often", "Also after", "Scenarios", "Covers"}, rows)
}

func (w *writer) communication() {
	p := w.plan
	w.para("Who is told, how and by when belongs to the incident: every message that is due is recorded before it is sent, and one that was not sent is shown as missing.")
	if in := p.Incidents; in != nil && in.Updates != nil && !in.Updates.Every.IsZero() {
		w.para("Those affected are told how it stands every %s.", w.objective(in.Updates.Every))
	}
	if w.public {
		return
	}
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Obligations)) {
		o := p.Obligations[id]
		rows = append(rows, []string{w.text(id), w.text(o.Law), period(o.NotifyWithin), w.text(o.Clock), w.text(o.Authority)})
	}
	if len(rows) > 0 {
		w.head("Obligations and their clocks")
		w.table("", []string{"Obligation", "Law", "Told within", "Counted from", "Authority"}, rows)
	}
	w.rest("communication", "The plan declares no other obligation.")
}

// duties are the reviews, and the numbers that are reported.
func (w *writer) duties() {
	p := w.plan
	if w.public {
		return
	}
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Reviews)) {
		d := p.Reviews[id]
		every := w.recurrence(d.Every)
		if every == "" {
			every = "not declared"
		}
		rows = append(rows, []string{w.text(id), w.text(d.Of), every, w.texts(d.After), w.whos(d.By)})
	}
	if len(rows) > 0 {
		w.head("Regular reviews")
		w.table("", []string{"Review", "Of", "How often", "Also after", "By"}, rows)
	}
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Metrics)) {
		m := p.Metrics[id]
		rows = append(rows, []string{w.text(id), w.recurrence(m.Every), w.who(m.Owner), w.text(m.Target), w.whos(m.To)})
	}
	if len(rows) > 0 {
		w.head("Metrics")
		w.table("", []string{"Metric", "Frequency", "Owner", "Target", "Read by"}, rows)
	}
}

func (w *writer) risks() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Risks)) {
		r := p.Risks[id]
		size := ""
		if r.Likelihood > 0 || r.Impact > 0 {
			size = fmt.Sprintf("%d × %d", r.Likelihood, r.Impact)
		}
		by := w.texts(r.By)
		if by == "" && r.Treat == plan.Mitigate {
			by = "nothing"
		}
		rows = append(rows, []string{w.text(id), w.text(r.Event), size, strings.TrimSpace(w.text(string(r.Treat)) + prefixed(" by ", by)), w.who(r.Owner)})
	}
	w.table("The plan declares no risk.", []string{"Risk", "Event", "Likelihood × impact", "Treatment", "Owner"}, rows)
	w.rest("risks", "")
}

func (w *writer) onCall() {
	oc := w.plan.OnCall
	if oc == nil {
		w.para("The plan declares no rota.")
	} else {
		w.para("First called: %s. Second: %s.", w.orNobody(w.whos(oc.Primary)), w.orNobody(w.whos(oc.Secondary)))
		if !oc.AckWithin.IsZero() {
			w.para("Who is called answers within %s.", period(oc.AckWithin))
		}
	}
	w.rest("people", "")
}
