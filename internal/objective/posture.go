package objective

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// badness orders the postures, worst last, for what is shown of a whole.
var badness = map[holdfast.Posture]int{
	holdfast.PostureNA: 0, holdfast.PostureProved: 1, holdfast.PostureExcepted: 2, holdfast.PostureClaimed: 3,
	holdfast.PostureDue: 4, holdfast.PostureUnknown: 5, holdfast.PostureOverdue: 6, holdfast.PostureFailed: 7,
}

// Worst returns the worst posture. Of nothing, it is unknown.
func Worst(ps ...holdfast.Posture) holdfast.Posture {
	if len(ps) == 0 {
		return holdfast.PostureUnknown
	}
	return slices.MaxFunc(ps, func(a, b holdfast.Posture) int { return cmp.Compare(badness[a], badness[b]) })
}

// A Measurement is one value that counts towards an objective.
type Measurement struct {
	At      time.Time
	Value   time.Duration
	Known   bool // the value was measured
	Outcome holdfast.Outcome
	Source  string // "drill 12", "incident 3"
	Why     string // for what failed or is not proven
	Ended   string // what changed since, so that it proves nothing any more; "" if it holds
}

// Term says how long a proof lasts and how often a new one is expected.
type Term struct {
	Fresh    time.Duration // after this, the proof has ended
	Interval time.Duration // after this, the next one is due; 0: never
}

// Assess computes the posture of one objective from its measurements. It stores
// nothing: the same measurements give another posture when they are older.
func Assess(o plan.Objective, from string, ms []Measurement, term Term, now time.Time) ObjectiveState {
	st := ObjectiveState{Declared: o.String(), Words: o.Stated, From: from, Target: Seconds(o.Target.Approx()), Posture: holdfast.PostureUnknown}
	limit, bound := o.Duration()
	st.Limit = Seconds(limit)

	ms = slices.DeleteFunc(slices.Clone(ms), func(m Measurement) bool { return m.At.After(now) })
	slices.SortStableFunc(ms, func(a, b Measurement) int { return a.At.Compare(b.At) })
	var judged *Measurement // the newest that passed or failed
	attempts, lack := 0, "" // later ones that proved nothing, and what the last of them lacked
	for i := range ms {
		m := &ms[i]
		if m.Outcome == holdfast.NotProven {
			attempts++
			lack = m.Why
			continue
		}
		judged, attempts, lack = m, 0, ""
		if !m.Known {
			continue
		}
		st.N++
		st.Latest, st.LatestAt, st.Source = Seconds(m.Value), m.At, m.Source
		if now.Sub(m.At) <= term.Fresh && m.Ended == "" {
			st.Worst = max(st.Worst, Seconds(m.Value))
		}
	}
	if st.N > 0 {
		st.Age = Seconds(now.Sub(st.LatestAt))
	}
	switch {
	case o.None != "":
		st.Posture, st.Why = holdfast.PostureNA, "not applicable: "+o.None
		return st
	case o.IsZero():
		st.Posture, st.Why = holdfast.PostureNA, "the plan promises nothing here"
		return st
	case !bound:
		st.Why = "the plan gives words and no number, so nobody can say"
		return st
	case judged == nil:
		st.Why = "never proven" + tried(attempts, lack)
		return st
	}
	age := now.Sub(judged.At)
	st.Ends = judged.At.Add(term.Fresh)
	switch {
	case judged.Outcome == holdfast.Failed:
		st.Posture = holdfast.PostureFailed
		st.Why = fmt.Sprintf("%s failed %s ago%s", judged.Source, holdfast.FormatDuration(age), colon(judged.Why))
	case !judged.Known:
		st.Why = fmt.Sprintf("%s passed %s ago and did not measure this", judged.Source, holdfast.FormatDuration(age))
	case judged.Value > limit:
		st.Posture, st.Grade = holdfast.PostureFailed, holdfast.Proved
		st.Why = fmt.Sprintf("%s measured %s, promised %s", judged.Source, holdfast.FormatDuration(judged.Value), st.promise())
	case judged.Ended != "":
		st.Posture, st.Grade, st.Ends = holdfast.PostureOverdue, holdfast.Proved, judged.At
		st.Why = fmt.Sprintf("the proof ended by a change: %s measured %s, %s ago, and %s", judged.Source, holdfast.FormatDuration(judged.Value), holdfast.FormatDuration(age), judged.Ended)
	case age > term.Fresh:
		st.Posture, st.Grade = holdfast.PostureOverdue, holdfast.Proved
		st.Why = fmt.Sprintf("the proof ended: %s measured %s, %s ago, and a proof lasts %s", judged.Source, holdfast.FormatDuration(judged.Value), holdfast.FormatDuration(age), holdfast.FormatDuration(term.Fresh))
	case term.Interval > 0 && age > term.Interval:
		st.Posture, st.Grade = holdfast.PostureDue, holdfast.Proved
		st.Why = fmt.Sprintf("%s measured %s of %s, %s ago; the next is due", judged.Source, holdfast.FormatDuration(judged.Value), st.promise(), holdfast.FormatDuration(age))
	default:
		st.Posture, st.Grade = holdfast.PostureProved, holdfast.Proved
		st.Why = fmt.Sprintf("%s measured %s of %s, %s ago", judged.Source, holdfast.FormatDuration(judged.Value), st.promise(), holdfast.FormatDuration(age))
	}
	st.Why += tried(attempts, lack)
	return st
}

func tried(n int, lack string) string {
	switch {
	case n == 0:
		return ""
	case n == 1 && lack != "":
		return "; the last attempt was not enough: " + lack
	case n == 1:
		return "; the last attempt proved nothing"
	case lack != "":
		return fmt.Sprintf("; the last %d attempts were not enough: %s", n, lack)
	}
	return fmt.Sprintf("; the last %d attempts proved nothing", n)
}

// settled returns how a proof ended for its store: a drill that passed what it tried
// and did not climb to the rung that the plan asks for has not proven it.
func settled(p *plan.Plan, x Proof) (holdfast.Outcome, string) {
	if x.Outcome != holdfast.Passed || x.Kind != ProofDrill {
		return x.Outcome, x.Note
	}
	if _, ok := p.Drills[x.Name]; !ok {
		return x.Outcome, x.Note
	}
	if goal := p.DrillRung(x.Name, x.Store); x.Rung < goal {
		return holdfast.NotProven, fmt.Sprintf("it reached %s, and the plan asks for %s", x.Rung, goal)
	}
	return x.Outcome, x.Note
}

// outage is how long a recovery took from where RTOs begin.
func (x Proof) outage(clock plan.Clock) time.Duration {
	var before time.Duration
	for _, part := range x.Parts {
		if part.Name == "detect" && clock != plan.ClockDisruption || part.Name == "decide" && clock == plan.ClockDeclaration {
			before += part.Duration
		}
	}
	// What people decide in the middle of a recovery is part of it.
	if x.Ends.Declared > 0 && clock == plan.ClockDeclaration {
		before = min(before, x.Ends.Declared)
	}
	return max(0, x.Parts.Sum()-before)
}

// source names a proof for people.
func (x Proof) source() string { return strings.TrimSpace(string(x.Kind) + " " + x.ID) }

// recoveryPoints are the measurements of a store's RPO.
func (k *known) recoveryPoints(store string) []Measurement {
	var out []Measurement
	for _, x := range k.byStore[store] {
		outcome, why := settled(k.p, *x)
		out = append(out, Measurement{x.At, x.DataAge, x.DataAgeKnown, outcome, x.source(), why, k.ended(x)})
	}
	return out
}

// outages are the measurements of a whole outage, from where the RTOs of the plan in
// force begin. Only a real recovery has one: a drill in a sandbox has no detection and no
// decision.
func (k *known) outages(proofs []*Proof) []Measurement {
	var out []Measurement
	for _, x := range proofs {
		if x.Kind == ProofIncident {
			out = append(out, Measurement{x.At, x.outage(k.p.RTOClock()), x.Parts.Proven(), x.Outcome, x.source(), x.Note, k.ended(x)})
		}
	}
	return out
}
