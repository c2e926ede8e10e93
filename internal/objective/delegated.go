package objective

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// A Delegation is what is known of the copies that a supplier makes of a store. Its grade is
// the best that it has reached and holds now: claimed is the supplier's word, also where it
// is asked for it; proved is a restore that we tried and measured ourselves.
type Delegation struct {
	To       string         `json:"to"` // who is responsible
	Says     string         `json:"says,omitempty"`
	Grade    holdfast.Grade `json:"grade"`
	Why      string         `json:"why"`
	Probed   bool           `json:"probed"` // the plan has the supplier asked
	Seen     time.Time      `json:"seen,omitzero"`
	Until    time.Time      `json:"until,omitzero"` // the newest point, as the supplier says
	Age      Seconds        `json:"age_seconds,omitempty"`
	Allowed  Seconds        `json:"allowed_seconds,omitempty"` // how old that may be
	Points   int            `json:"points,omitempty"`
	Error    string         `json:"error,omitempty"`
	Tested   time.Time      `json:"tested,omitzero"` // our last restore that ended
	TestedBy string         `json:"tested_by,omitempty"`
}

// testedFor is how long a restore by a supplier proves something, in intervals of its
// schedule: one that is late by a whole interval has ended.
const testedFor = 2

// testTerm is how long a test of what a supplier protects lasts.
func testTerm(d *plan.Delegated) Term {
	every, ok := d.Tests()
	if !ok {
		return Term{Fresh: plan.DefaultFreshFor}
	}
	return Term{Fresh: testedFor * every.Interval(), Interval: every.Interval()}
}

// unheard is how many intervals old the last answer of a supplier may be.
const unheard = 3

// elsewhere judges a store that only somebody else protects. Their word is no proof, also
// where a number stands beside it; what they say of their newest copy can only show that
// a promise is broken; and a restore of our own can prove.
func (c *clockwork) elsewhere(st *StoreOverview, d *plan.Delegated) {
	v := &Delegation{To: d.To, Says: d.Says, Grade: holdfast.Claimed, Why: fmt.Sprintf("%q protects it, and claims so", d.To)}
	st.Delegated = v
	rpo, rto := st.RPO, st.RTO // as our own tests show them
	claim(&st.RPO, d.To, d.RPO)
	claim(&st.RTO, d.To, d.RTO)
	every, probed := d.Probes()
	if v.Probed = probed; probed {
		c.asked(st, v, every.Interval())
	} else {
		v.Why += "; nobody asks how fresh its copies are"
	}
	if x := c.newestDrill(st.ID); x != nil {
		v.Tested, v.TestedBy = x.At, x.source()
		age := holdfast.FormatDuration(c.now.Sub(x.At))
		switch {
		case x.Outcome != holdfast.Passed:
			v.Why += fmt.Sprintf("; our own restore from there failed %s ago (%s)", age, x.source())
			for _, o := range []*ObjectiveState{&st.RPO, &st.RTO} {
				if o.Posture != holdfast.PostureNA {
					o.Posture, o.Grade, o.Why = holdfast.PostureFailed, holdfast.Proved, fmt.Sprintf("%s failed %s ago%s", x.source(), age, colon(x.Note))
				}
			}
		case c.now.Sub(x.At) > c.term(st.ID).Fresh || c.ended(x) != "":
			v.Why += fmt.Sprintf("; our own restore from there is %s old, and proves nothing any more", age)
		default:
			v.Grade, v.Why = holdfast.Proved, fmt.Sprintf("%q protects it; we restored from there %s ago (%s)", d.To, age, x.source())
			tested(&st.RPO, rpo)
			tested(&st.RTO, rto)
			if v.Error != "" {
				v.Why += "; " + v.Error
			}
		}
	}
	st.Unprotected = v.Why
	st.LastGood = v.Until
	st.Posture = Worst(st.RTO.Posture, st.RPO.Posture)
}

// lossElsewhere is what a scenario costs of a store that a supplier protects: what the
// supplier last said of its newest copy, unless the scenario takes the supplier, too.
func (c *clockwork) lossElsewhere(id string, d *plan.Delegated, sc Scenario, target, limit time.Duration) Loss {
	l := Loss{Scenario: sc.ID, State: LossUnknown}
	f, ok := c.f.Delegated[id]
	switch {
	case slices.Contains(sc.LostSuppliers, d.To):
		l.State, l.Why = LossEverything, fmt.Sprintf("%q protects it, and is lost too", d.To)
	case !ok || f.Seen.IsZero():
		l.Why = fmt.Sprintf("%q protects it, and has not said how fresh its copies are", d.To)
	case f.Points == 0:
		l.State, l.Why = LossEverything, fmt.Sprintf("%q protects it, and names no recovery point", d.To)
	default:
		l.State, l.Newest, l.Location, l.Age = LossBounded, f.Until, d.To, Seconds(max(0, c.now.Sub(f.Until)))
		l.Why = fmt.Sprintf("%q says that it gives back everything until %s ago", d.To, l.Age)
	}
	l.Verdict = verdictOf(l, target, limit)
	return l
}

// tested lets what our own restore shows speak instead of a claim, unless something is
// broken right now. What it could not measure stays claimed.
func tested(st *ObjectiveState, own ObjectiveState) {
	if st.Posture == holdfast.PostureNA || own.Posture == holdfast.PostureUnknown || st.Posture == holdfast.PostureFailed && st.Grade != holdfast.Claimed {
		return
	}
	*st = own
}

// asked judges by what the supplier says of its newest copy.
func (c *clockwork) asked(st *StoreOverview, v *Delegation, every time.Duration) {
	f, ok := c.f.Delegated[st.ID]
	v.Seen, v.Until, v.Points = f.Seen, f.Until, f.Points
	allowed := c.p.OldestAllowed(st.ID)
	v.Allowed = Seconds(allowed)
	unknown := func(format string, args ...any) {
		v.Error = fmt.Sprintf(format, args...)
		v.Why += "; " + v.Error
		if st.RPO.Posture == holdfast.PostureClaimed {
			st.RPO.Posture, st.RPO.Grade, st.RPO.Why = holdfast.PostureUnknown, "", v.Error
		}
	}
	message, _ := holdfast.Heard(f.Error)
	switch {
	case !ok || f.Seen.IsZero():
		unknown("it has not answered yet how fresh its copies are%s", colon(message))
		return
	case f.Points == 0:
		v.Error = "it names no recovery point"
	default:
		v.Age = Seconds(max(0, c.now.Sub(f.Until)))
		v.Why += fmt.Sprintf("; its newest copy is %s old, as it says", v.Age)
		if allowed > 0 && v.Age > Seconds(allowed) {
			v.Error = fmt.Sprintf("its newest copy is %s old, and %s is allowed", v.Age, Seconds(allowed))
		}
	}
	if v.Error != "" {
		v.Why += "; " + v.Error
		if st.RPO.Posture != holdfast.PostureNA && st.RPO.Limit > 0 {
			// No claim of a supplier stands against its own word.
			st.RPO.Posture, st.RPO.Grade, st.RPO.Why = holdfast.PostureFailed, holdfast.Proved, fmt.Sprintf("%q: %s", v.To, v.Error)
		}
		return
	}
	if c.now.Sub(f.Seen) > unheard*every {
		unknown("it last answered %s ago%s", holdfast.FormatDuration(c.now.Sub(f.Seen)), colon(message))
	}
}
