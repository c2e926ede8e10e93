package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/controls"
)

// A ControlState is what stands for one control of the plan, now.
type ControlState struct {
	ID        string           `json:"id"`        // as the plan writes it: "iso27001/A.8.13"
	Framework string           `json:"framework"` // "" if the plan names none
	Clause    string           `json:"clause"`
	Name      string           `json:"name,omitempty"` // of the control; "" if no set knows it
	Posture   holdfast.Posture `json:"posture"`
	Why       string           `json:"why"` // each thing that stands for it, and how much of each grade there is
	Parts     []ControlPart    `json:"parts"`
	// Grades counts the evidence by how good it is: proved, attested, claimed.
	Grades  map[holdfast.Grade]int `json:"grades"`
	Sources []string               `json:"evidence,omitempty"` // what it rests on: "drill d12", "reviews.alerts@2026-11-22"
}

// A ControlPart is one thing that stands for a control.
type ControlPart struct {
	By      string           `json:"by"` // as the plan names it
	Posture holdfast.Posture `json:"posture"`
	Why     string           `json:"why"`
}

// Controls says for each clause of each framework what stands for it: those that the plan
// maps, those of its tables, and the company's own. The weakest thing decides: a control is
// proved only if a machine measured all of them, and claimed where the word of a person or
// the plan's own words are among them. The grades are counted each by itself.
//
// What nobody did is unknown, then due, and overdue when its time is over: a word, a drill,
// or one that never was. A clause for which nothing stands is unknown. A framework whose
// data nobody holds, and a clause that the plan gives a reason for leaving out, do not apply.
// An exception makes what is missed excepted until its day, and says what it would be.
func Controls(p *plan.Plan, f Facts) []ControlState {
	k := know(p, f)
	said := map[string]Attestation{} // the newest of each; f.Attested is oldest first
	for _, a := range f.Attested {
		if !a.At.After(f.Now) {
			said[a.Ref] = a
		}
	}
	var out []ControlState
	for _, cl := range clauses(p) {
		c := control{known: k, said: said, found: grades{}, ControlState: ControlState{
			ID: cl.id, Framework: cl.framework, Clause: cl.clause, Name: cl.name, Posture: holdfast.PostureProved, Parts: []ControlPart{}}}
		c.judge(cl)
		c.Grades = map[holdfast.Grade]int{holdfast.Proved: c.found[holdfast.Proved], holdfast.Attested: c.found[holdfast.Attested], holdfast.Claimed: c.found[holdfast.Claimed]}
		out = append(out, c.ControlState)
	}
	return out
}

// A clause is one control with what is mapped to it.
type clause struct {
	id, framework, clause, name string
	mapped                      []string // keys of the plan's controls: several for a family such as CC6.x
	none                        string   // why it does not apply
}

// clauses lists the controls that the plan maps, those of the tables of its frameworks, and
// the company's own, in the order of their ids, each once however it is spelled.
func clauses(p *plan.Plan) []clause {
	var out []clause
	sets := map[string]*controls.Set{}
	of := func(framework string) *controls.Set {
		s, ok := sets[framework]
		if !ok {
			s = p.ControlSet(framework)
			sets[framework] = s
		}
		return s
	}
	known := map[string]bool{}      // by framework and the set's spelling
	mapped := map[string][]string{} // controls of the plan, the same
	spelled := func(framework, ref string) (id, name string) {
		if s := of(framework); s != nil {
			if c, ok := s.Find(ref); ok {
				return framework + "/" + c.ID, c.Name
			}
		}
		return framework + "/" + ref, ""
	}
	add := func(id, framework, ref string) {
		key, name := spelled(framework, ref)
		if known[key] {
			return
		}
		known[key] = true
		c := clause{id: id, framework: framework, clause: ref, name: name, mapped: mapped[key]}
		if s := of(framework); s != nil && name == "" && len(c.mapped) == 0 {
			for _, member := range s.Family(ref) {
				c.mapped = append(c.mapped, mapped[framework+"/"+member.ID]...)
			}
		}
		f := p.Frameworks[framework]
		switch why, left := f.None[ref]; {
		case !p.Marked(f.When):
			c.none = fmt.Sprintf("%s applies where there is data marked %s, and no store holds any", framework, list(words(f.When)))
		case left:
			c.none = "the plan says: " + why
		}
		out = append(out, c)
	}
	cut := func(id string) (framework, ref string) {
		framework, ref, ok := strings.Cut(id, "/")
		if !ok {
			return "", id
		}
		return framework, ref
	}
	ids := slices.Sorted(maps.Keys(p.Controls))
	for _, id := range ids {
		key, _ := spelled(cut(id))
		mapped[key] = append(mapped[key], id)
	}
	for _, id := range ids {
		framework, ref := cut(id)
		add(id, framework, ref)
	}
	for framework, f := range p.Frameworks {
		for _, ref := range slices.Concat(f.Clauses, slices.Sorted(maps.Keys(f.None)), slices.Sorted(maps.Keys(f.Own))) {
			add(framework+"/"+ref, framework, ref)
		}
	}
	slices.SortFunc(out, func(a, b clause) int { return strings.Compare(a.id, b.id) })
	return out
}

func words[T ~string](s []T) []string {
	out := make([]string, len(s))
	for i, x := range s {
		out[i] = string(x)
	}
	return out
}

// control builds the state of one.
type control struct {
	ControlState
	*known
	said  map[string]Attestation
	found grades
}

func (c *control) judge(cl clause) {
	if cl.none != "" {
		c.Posture, c.Why = holdfast.PostureNA, "not applicable: "+cl.none
		return
	}
	seen := map[string]bool{}
	for _, id := range cl.mapped {
		for _, by := range c.p.Controls[id] {
			if !seen[by] {
				seen[by] = true
				c.part(by)
			}
		}
	}
	if len(c.Parts) == 0 {
		c.note("", holdfast.PostureUnknown, "nothing stands for it")
	}
	var why []string
	for _, x := range c.Parts {
		c.Posture = Worst(c.Posture, x.Posture)
		why = append(why, x.Why)
	}
	c.Why = strings.Join(why, "; ") + "; evidence: " + c.found.String()
	if !waivable[c.Posture] {
		return
	}
	for _, subject := range []string{"controls." + c.ID, "frameworks." + c.Framework + ".clauses"} {
		if w, ok := c.waivers.Of(plan.CodeUnproved, subject, c.now); ok {
			c.Posture, c.Why = holdfast.PostureExcepted, fmt.Sprintf("%s; without it %s: %s", w, c.Posture, c.Why)
			return
		}
	}
}

// part judges one thing that stands for the control.
func (c *control) part(by string) {
	switch kind, name := c.p.Proof(by); kind {
	case "":
		c.note(by, holdfast.PostureUnknown, "%s is not in the plan", by)
	case "drill":
		for _, store := range c.p.Drills[name].Of {
			c.drilled(by, name, store)
		}
	case "metric":
		c.measured(by, name)
	default:
		c.attested(by, kind, name)
	}
}

func (c *control) note(by string, p holdfast.Posture, format string, args ...any) {
	c.Parts = append(c.Parts, ControlPart{by, p, fmt.Sprintf(format, args...)})
}

func (c *control) drilled(by, name, store string) {
	state, text := c.drill(name, store)
	if waivable[state] {
		// Whoever bears the risk of a store that nothing protects or drills has said so.
		for _, rule := range []string{plan.CodeUndrilled, plan.CodeUnprotected} {
			if w, ok := c.waivers.Of(rule, "stores."+store, c.now); ok {
				c.note(by, holdfast.PostureExcepted, "%s; without it %s: %s", w, state, text)
				return
			}
		}
	}
	c.note(by, state, "%s", text)
}

// drill judges a store of a drill by its newest drill.
func (c *control) drill(name, store string) (holdfast.Posture, string) {
	of := c.p.Drills[name]
	newest := c.newestDrill(store)
	if newest == nil {
		since := c.declaredSince(name, store)
		switch waited := c.now.Sub(since); {
		case !since.IsZero() && waited > of.Fresh():
			return holdfast.PostureOverdue, fmt.Sprintf("%s was never drilled, and the plan asks for it since %s", store, since.UTC().Format(time.DateOnly))
		case !since.IsZero() && of.Every.Interval() > 0 && waited > of.Every.Interval():
			return holdfast.PostureDue, fmt.Sprintf("%s was never drilled, and its first drill is due", store)
		}
		return holdfast.PostureUnknown, store + " was never drilled"
	}
	c.found[holdfast.Proved]++
	c.Sources = append(c.Sources, newest.source())
	outcome, why := settled(c.p, *newest)
	age, every := c.now.Sub(newest.At), of.Every.Interval()
	switch ended := c.ended(newest); {
	case outcome == holdfast.Failed:
		return holdfast.PostureFailed, fmt.Sprintf("%s of %s: %s%s", newest.source(), store, outcome, colon(why))
	case outcome != holdfast.Passed:
		return holdfast.PostureUnknown, fmt.Sprintf("%s of %s proved nothing%s", newest.source(), store, colon(why))
	case ended != "":
		return holdfast.PostureOverdue, fmt.Sprintf("the proof ended by a change: %s of %s, and %s", newest.source(), store, ended)
	case age > of.Fresh():
		return holdfast.PostureOverdue, fmt.Sprintf("%s of %s is %s old", newest.source(), store, holdfast.FormatDuration(age))
	case every > 0 && age > every:
		return holdfast.PostureDue, fmt.Sprintf("%s of %s reached %s and is %s old; the next is due", newest.source(), store, newest.Rung, holdfast.FormatDuration(age))
	}
	return holdfast.PostureProved, fmt.Sprintf("%s of %s reached %s", newest.source(), store, newest.Rung)
}

// declaredSince is the instant from which on the plans in force ask for a drill of a store
// without a break; zero if nobody noted it.
func (k *known) declaredSince(drill, store string) (since time.Time) {
	for _, v := range slices.Backward(k.f.Versions) {
		if v.From.After(k.now) {
			continue
		}
		if !slices.Contains(v.Plan.Drills[drill].Of, store) {
			break
		}
		since = v.From
	}
	return since
}

// A Figure is the newest value of a metric.
type Figure struct {
	Metric  string
	ID      string // "backup-success@2026-12-01T00:00Z"; "" if no period has ended yet
	Posture holdfast.Posture
	Text    string
}

func (c *control) measured(by, name string) {
	all := c.f.Figures
	i := slices.IndexFunc(all, func(f Figure) bool { return f.Metric == name })
	if i < 0 {
		c.note(by, holdfast.PostureUnknown, "metric %s: nothing is on record", name)
		return
	}
	if all[i].ID != "" {
		c.found[holdfast.Proved]++
		c.Sources = append(c.Sources, all[i].ID)
	}
	c.note(by, all[i].Posture, "metric %s: %s", name, all[i].Text)
}

// An Owed is what people owe next of something that stands for controls.
type Owed struct {
	Ref  string    // "review:alerts"
	Due  time.Time // when it is due
	Late time.Time // from here on it is overdue: its grace is over, or the one before was missed
}

func (c *control) attested(by, kind, name string) {
	a, there := c.said[kind+":"+name]
	every, grace := duty(c.p, kind, name)
	var due, late time.Time // zero: never
	text := fmt.Sprintf("%s %s: nothing is on record", kind, name)
	if there {
		c.found[holdfast.Attested]++
		c.Sources = append(c.Sources, a.ID)
		text = fmt.Sprintf("%s %s: attested by %s on %s", kind, name, list(a.By), a.At.UTC().Format(time.DateOnly))
		if every.Interval() > 0 {
			due = a.At.Add(every.Interval())
			late = grace.AddTo(due, 1, c.p.Location())
		}
	}
	if i := slices.IndexFunc(c.f.Owed, func(o Owed) bool { return o.Ref == kind+":"+name }); i >= 0 {
		due, late = c.f.Owed[i].Due, c.f.Owed[i].Late
	}
	switch {
	case !late.IsZero() && !c.now.Before(late):
		c.note(by, holdfast.PostureOverdue, "%s, and owed since %s", text, due.UTC().Format(time.DateOnly))
	case !due.IsZero() && !c.now.Before(due):
		c.note(by, holdfast.PostureDue, "%s, and due since %s", text, due.UTC().Format(time.DateOnly))
	case there:
		c.note(by, holdfast.PostureClaimed, "%s", text)
	case kind == "measure" || kind == "statement":
		c.found[holdfast.Claimed]++
		c.note(by, holdfast.PostureClaimed, "%s %s: stated in the plan, and shown by nothing here", kind, name)
	case !due.IsZero():
		c.note(by, holdfast.PostureUnknown, "%s, and it is due on %s", text, due.UTC().Format(time.DateOnly))
	default:
		c.note(by, holdfast.PostureUnknown, "%s", text)
	}
}

// duty is how often people attest something, and how late that may be.
func duty(p *plan.Plan, kind, name string) (every plan.Recurrence, grace plan.Period) {
	switch kind {
	case "review":
		return p.Reviews[name].Every, p.Reviews[name].Grace
	case "exercise":
		return p.Exercises[name].Every, grace
	case "measure":
		return p.Measures[name].Every, grace
	}
	return every, grace
}
