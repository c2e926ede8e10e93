package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// An Answering is an incident that people and machines answer now.
type Answering struct {
	Name      string // "INC-3"
	Severity  string
	Kind      string // "availability", "retention-veto"
	Began     time.Time
	Services  []string
	Activated bool // its recovery was started
}

// The states of stores and services that conditions know.
const (
	StateOK      = "ok"
	StateLost    = "lost"    // of a store: its probes fail, and the loss is recorded
	StateDown    = "down"    // of a service: a store that it cannot run without is lost
	StateUnknown = "unknown" // nobody has looked
)

// A Weighing is what one condition of the plan's activation says of one incident, now.
type Weighing struct {
	Condition int    // its place under activation.when, from 0
	Text      string // the expression
	Incident  string
	Activated bool
	Holds     bool
	Err       string // why it cannot be told; then it neither holds nor fails
	Known     plan.Known
}

// Text says what was found, with what it rests on.
func (w Weighing) String() string {
	return fmt.Sprintf("%s for %s: %s", w.Text, w.Incident, w.answer())
}

func (w Weighing) answer() string {
	known := []string{"severity " + w.Known.Severity, "kind " + w.Known.Kind, "age " + holdfast.FormatDuration(w.Known.Age)}
	if w.Known.ExpectedDuration > 0 {
		known = append(known, "expected duration "+holdfast.FormatDuration(w.Known.ExpectedDuration))
	} else {
		known = append(known, "no expected duration")
	}
	for _, states := range []map[string]string{w.Known.Stores, w.Known.Services} {
		for _, id := range slices.Sorted(maps.Keys(states)) {
			if states[id] != StateOK {
				known = append(known, id+" "+states[id])
			}
		}
	}
	text := " (" + strings.Join(known, ", ") + ")"
	switch {
	case w.Err != "":
		return "cannot be told: " + w.Err + text
	case w.Holds:
		return "holds" + text
	}
	return "does not hold" + text
}

// Weigh asks each condition of the plan's activation of each incident that is answered: a
// pure function, which starts nothing. The expected duration of an incident is its age and
// the longest that a service of it would still take if its recovery began now; there is none
// where a part of that has no number, and a condition that asks for it cannot be told then.
func Weigh(p *plan.Plan, f Facts, o Overview) []Weighing {
	if len(f.Answering) == 0 || len(p.Activation.When) == 0 {
		return nil
	}
	stores, services := map[string]string{}, map[string]string{}
	for id := range p.Stores {
		stores[id] = StateUnknown
		if s, ok := f.States[id]; ok {
			stores[id] = s
		}
	}
	outages := map[string]Prediction{}
	for _, s := range o.Services {
		outages[s.ID] = s.Outage
		services[s.ID] = StateOK
		for _, id := range s.Stores {
			switch {
			case stores[id] == StateLost:
				services[s.ID] = StateDown
			case stores[id] != StateOK && services[s.ID] != StateDown:
				services[s.ID] = StateUnknown
			}
		}
	}
	var out []Weighing
	for i, text := range p.Activation.When {
		condition, err := plan.NewCondition(text)
		for _, inc := range f.Answering {
			age := max(0, f.Now.Sub(inc.Began))
			w := Weighing{Condition: i, Text: text, Incident: inc.Name, Activated: inc.Activated,
				Known: plan.Known{Severity: inc.Severity, Kind: inc.Kind, Age: age, ExpectedDuration: expected(inc.Services, outages, age), Stores: stores, Services: services}}
			if err == nil {
				var told error
				if w.Holds, told = condition.Holds(w.Known); told != nil {
					w.Err = strings.TrimPrefix(told.Error(), text+" cannot be told: ")
				}
			} else {
				w.Err = err.Error()
			}
			out = append(out, w)
		}
	}
	return out
}

// expected is how long the longest outage of some services will have been, if what is done
// about it begins now; 0 if a part of what is to be done has no number. To detect and to
// decide is over by then: that took as long as the incident is old.
func expected(services []string, outages map[string]Prediction, age time.Duration) (longest time.Duration) {
	over := []string{"detect", "decide"}
	for _, id := range services {
		pr := outages[id]
		rest := pr.Total.Duration()
		for _, part := range pr.Parts {
			if slices.Contains(over, part.Name) {
				rest -= part.Time.Duration()
			}
		}
		if slices.ContainsFunc(pr.Missing, func(part string) bool { return !slices.Contains(over, part) }) {
			return 0
		}
		longest = max(longest, age+rest)
	}
	return longest
}

// The codes of conditions: one holds and nobody has decided, or one cannot be told.
const (
	codeActivate = "HF-O05"
	codeUntold   = "HF-O06"
)

// proposals finds the incidents for which a condition holds, or cannot be told, and that
// nobody has answered with a recovery. What cannot be told is said: it must not look as if
// nothing called for one.
func proposals(p *plan.Plan, ws []Weighing) (out []holdfast.Finding) {
	for _, w := range ws {
		path := fmt.Sprintf("activation.when[%d]", w.Condition)
		if w.Activated || !w.Holds && w.Err == "" {
			continue
		}
		pos := p.Position(path)
		f := holdfast.Finding{Code: codeActivate, Severity: holdfast.SeverityError, Subject: "incidents." + w.Incident, File: pos.File, Line: pos.Line, Column: pos.Column,
			Message: "the plan proposes a recovery: " + w.String(), Hint: fmt.Sprintf("\"holdfast recover activate %s --by PERSON\" starts it; who may: %s", w.Incident, nobody(p.Activation.By))}
		if w.Err != "" {
			f.Code, f.Severity, f.Message = codeUntold, holdfast.SeverityWarning, "nobody is told whether to recover: "+w.String()
			f.Hint = fmt.Sprintf("decide yourselves; \"holdfast explain activation\" says what a condition knows. To start it: holdfast recover activate %s --by PERSON", w.Incident)
		}
		out = append(out, f)
	}
	return out
}

func nobody(roles []string) string {
	if len(roles) == 0 {
		return "the plan names nobody"
	}
	return list(roles)
}

// activation explains what starts a recovery, and what each condition says of each incident.
func (e *explaining) activation() {
	a := e.p.Activation
	e.out.Answer = fmt.Sprintf("%d conditions", len(a.When))
	if len(a.When) == 1 {
		e.out.Answer = "1 condition"
	}
	if len(a.Automatic) > 0 {
		e.at("activation.automatic", "it starts by itself on %s", list(words(a.Automatic)))
	}
	for i, text := range a.When {
		e.at(fmt.Sprintf("activation.when[%d]", i), "if %s: %s", text, map[plan.Mode]string{
			"": "it is proposed", plan.ModePropose: "it is proposed", plan.ModeImmediate: "it starts", plan.ModeScheduled: "it is proposed; people set the day"}[a.Mode])
		e.under(func() {
			for _, w := range Weigh(e.p, e.f, e.o) {
				if w.Condition == i {
					e.seen("incident "+w.Incident, "%s: %s", w.Incident, w.answer())
				}
			}
			if e.observed && len(e.f.Answering) == 0 {
				e.say("no incident is open, so it is asked of none")
			}
		})
	}
	if len(a.By) > 0 {
		e.at("activation.by", "who may start it: %s", list(a.By))
	}
	e.say("a condition knows:")
	e.under(func() {
		e.say("incident.severity, as text: %s for example", "\"SEV1\"")
		e.say("incident.age, a duration since it began")
		e.say("incident.expected_duration, its age and what the longest recovery of its services would still take; absent where a part of that has no number")
		e.say("stores[\"NAME\"]: %s, %s or %s", StateOK, StateLost, StateUnknown)
		e.say("services[\"NAME\"]: %s, %s or %s", StateOK, StateDown, StateUnknown)
		e.say("it is given up after %d steps; what cannot be told is a finding (%s), and starts nothing", plan.MaxSteps, codeUntold)
	})
}
