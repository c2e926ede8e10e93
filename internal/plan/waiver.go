package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// CodeMissed is what an exception names that waives an objective: one that is missed,
// overdue or not proven. No rule finds it: it is the objective's posture in a running system.
const CodeMissed = "HF-O04"

// A Waiver is an exception to which those who must have agreed: one of the plan, or one that
// people signed while the system runs. It holds from From until before Until, and then what it
// waived is back.
type Waiver struct {
	ID   string
	Rule string // the code of what it waives
	Of   string // what it is about, with all that lies below: "stores.queue" is also "stores.queue.rpo"
	Why  string
	From time.Time // zero: it has begun
	// Until is the instant from which on it waives nothing, and Day that end as people wrote it.
	Until time.Time
	Day   string
}

// String names the waiver with its end and its reason.
func (w Waiver) String() string {
	return fmt.Sprintf("exception %s until %s: %s", w.ID, w.Day, w.Why)
}

// covers reports whether a finding about subject is what w is about.
func (w Waiver) covers(rule, subject string) bool {
	return w.Rule == rule && (w.Of == subject || strings.HasPrefix(subject, w.Of+"."))
}

// holds reports whether w is in force at now.
func (w Waiver) holds(now time.Time) bool { return !now.Before(w.From) && now.Before(w.Until) }

// Waivers are some of them.
type Waivers []Waiver

// Of returns the first that waives a finding of a rule about a subject at an instant.
func (ws Waivers) Of(rule, subject string, now time.Time) (Waiver, bool) {
	i := slices.IndexFunc(ws, func(w Waiver) bool { return w.covers(rule, subject) && w.holds(now) })
	if i < 0 {
		return Waiver{}, false
	}
	return ws[i], true
}

// Apply makes notes of the findings that are waived at an instant, and names the waiver in
// each. It returns the ids of the waivers that did so.
func (ws Waivers) Apply(findings []holdfast.Finding, now time.Time) (used map[string]bool) {
	used = map[string]bool{}
	rules := map[string]Waivers{} // a plan may have tens of thousands of findings
	for _, w := range ws {
		rules[w.Rule] = append(rules[w.Rule], w)
	}
	for i := range findings {
		f := &findings[i]
		if w, ok := rules[f.Code].Of(f.Code, f.Subject, now); ok {
			f.Severity = holdfast.SeverityNote
			f.Message += fmt.Sprintf("; excepted by %q until %s: %s", w.ID, w.Day, w.Why)
			used[w.ID] = true
		}
	}
	return used
}

// Waivers are the exceptions of the plan to which those who must have agreed, in the order
// of their ids, also those that have not begun or have ended.
func (p *Plan) Waivers() (out Waivers) {
	for _, id := range sorted(p.Exceptions) {
		if e := p.Exceptions[id]; p.approved(e) {
			out = append(out, p.waiver(id, e))
		}
	}
	return out
}

func (p *Plan) waiver(id string, e Exception) Waiver {
	w := Waiver{ID: id, Rule: e.Rule, Of: e.Of, Why: e.Why, Until: Date{e.Until.Year, e.Until.Month, e.Until.Day + 1}.Begin(p.Location()), Day: e.Until.String()}
	if !e.From.IsZero() {
		w.From = e.From.Begin(p.Location())
	}
	return w
}
