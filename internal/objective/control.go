package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/controls"
)

// A ControlState is what stands for one control of the plan, now.
type ControlState struct {
	ID      string // as the plan writes it: "iso27001/A.8.13"
	Name    string // of the control; "" if no set of the catalogue has it
	Posture holdfast.Posture
	Why     string   // each thing that stands for it, and how much of each grade there is
	Sources []string // what it rests on: "drill d12", "reviews.alerts@2026-11-22"
}

// Controls says for each mapped control what stands for it. The weakest thing decides:
// a control is proved only if a machine measured all of them, and claimed where the word
// of a person or the plan's own words are among them. The grades stand in Why, each by
// itself. What nobody did is unknown, and a word that is older than its duty allows is
// overdue.
func Controls(p *plan.Plan, o Overview, f Facts) []ControlState {
	last := map[string]StoreOverview{}
	for _, s := range o.Stores {
		last[s.ID] = s
	}
	said := map[string]Attestation{} // the newest of each; f.Attested is oldest first
	for _, a := range f.Attested {
		if !a.At.After(o.At) {
			said[a.Ref] = a
		}
	}
	var out []ControlState
	for _, id := range slices.Sorted(maps.Keys(p.Controls)) {
		c := control{ControlState: ControlState{ID: id, Posture: holdfast.PostureProved}, found: grades{}}
		fw, ref, _ := strings.Cut(id, "/")
		if set, ok := controls.Of(fw); ok {
			if known, ok := set.Find(ref); ok {
				c.Name = known.Name
			}
		}
		for _, by := range p.Controls[id] {
			switch kind, name := p.Proof(by); kind {
			case "":
				c.note(holdfast.PostureUnknown, "%s is not in the plan", by)
			case "drill":
				for _, store := range p.Drills[name].Of {
					c.drilled(o, store, last[store].LastDrill, p.Drills[name])
				}
			case "metric":
				c.measured(name, f.Figures)
			default:
				a, ok := said[kind+":"+name]
				c.attested(p, o, kind, name, a, ok)
			}
		}
		if len(c.why) == 0 {
			c.note(holdfast.PostureUnknown, "nothing stands for it")
		}
		c.Why = strings.Join(c.why, "; ") + "; evidence: " + c.found.String()
		out = append(out, c.ControlState)
	}
	return out
}

// control builds the state of one.
type control struct {
	ControlState
	why   []string
	found grades
}

func (c *control) note(p holdfast.Posture, format string, args ...any) {
	c.Posture, c.why = Worst(c.Posture, p), append(c.why, fmt.Sprintf(format, args...))
}

func (c *control) drilled(o Overview, store string, d *DrillView, of plan.Drill) {
	if d == nil {
		c.note(holdfast.PostureUnknown, "%s was never drilled", store)
		return
	}
	c.found[holdfast.Proved]++
	c.Sources = append(c.Sources, fmt.Sprintf("%s %s", ProofDrill, d.ID))
	switch age := o.At.Sub(d.At); {
	case d.Outcome != holdfast.Passed:
		c.note(holdfast.PostureFailed, "drill %s of %s: %s", d.ID, store, d.Outcome)
	case age > of.Fresh():
		c.note(holdfast.PostureOverdue, "drill %s of %s is %s old", d.ID, store, holdfast.FormatDuration(age))
	default:
		c.note(holdfast.PostureProved, "drill %s of %s reached %s", d.ID, store, d.Rung)
	}
}

// A Figure is the newest value of a metric.
type Figure struct {
	Metric  string
	ID      string // "backup-success@2026-12-01T00:00Z"; "" if no period has ended yet
	Posture holdfast.Posture
	Text    string
}

func (c *control) measured(name string, all []Figure) {
	i := slices.IndexFunc(all, func(f Figure) bool { return f.Metric == name })
	if i < 0 {
		c.note(holdfast.PostureUnknown, "metric %s: nothing is on record", name)
		return
	}
	if all[i].ID != "" {
		c.found[holdfast.Proved]++
		c.Sources = append(c.Sources, all[i].ID)
	}
	c.note(all[i].Posture, "metric %s: %s", name, all[i].Text)
}

func (c *control) attested(p *plan.Plan, o Overview, kind, name string, a Attestation, there bool) {
	states := kind == "measure" || kind == "statement"
	switch {
	case !there && states:
		c.found[holdfast.Claimed]++
		c.note(holdfast.PostureClaimed, "%s %s: stated in the plan, and shown by nothing here", kind, name)
		return
	case !there:
		c.note(holdfast.PostureUnknown, "%s %s: nothing is on record", kind, name)
		return
	}
	c.found[holdfast.Attested]++
	c.Sources = append(c.Sources, a.ID)
	text := fmt.Sprintf("%s %s: attested by %s on %s", kind, name, list(a.By), a.At.UTC().Format("2006-01-02"))
	every, grace := duty(p, kind, name)
	until := grace.AddTo(a.At.Add(every.Interval()), 1, p.Location())
	if every.Interval() > 0 && o.At.After(until) {
		c.note(holdfast.PostureOverdue, "%s, and again since %s", text, until.UTC().Format("2006-01-02"))
		return
	}
	c.note(holdfast.PostureClaimed, "%s", text)
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
