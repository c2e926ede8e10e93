package drill

import (
	"fmt"
	"strings"
	"time"

	"holdfast"
)

// A Verdict holds what a drill measured against what the plan promises for its store.
//
// A drill has no detection, no decision and no hand over, and a sandbox is not
// production: a time within the RTO is a lower bound and no proof of it. A time beyond
// the RTO is proof enough that it cannot be kept.
type Verdict struct {
	Of       string           `json:"of"` // "rto" or "rpo"
	Promised time.Duration    `json:"promised_ns"`
	Measured time.Duration    `json:"measured_ns"`
	Outcome  holdfast.Outcome `json:"outcome"`
	Why      string           `json:"why"`
}

// String is the verdict in a sentence.
func (v Verdict) String() string {
	return fmt.Sprintf("%s %s: %s", strings.ToUpper(v.Of), v.Outcome, v.Why)
}

// Missed reports whether the drill shows that a promise cannot be kept.
func (d Drill) Missed() bool {
	for _, v := range d.Verdicts {
		if v.Outcome == holdfast.Failed {
			return true
		}
	}
	return false
}

// DataAge is how much a restore to the drill's instant would have lost at that instant;
// ok is false where it asked for no instant, or nothing came back.
func (d Drill) DataAge() (age time.Duration, ok bool) {
	if d.Target.Kind != holdfast.TargetTime || d.Report.Until().IsZero() {
		return 0, false
	}
	return max(0, d.Target.Time.Sub(d.Report.Until())), true
}

// verdicts judges a drill whose climb has ended. A promise that is not made is not judged.
func (d Drill) verdicts(promise holdfast.Objective) []Verdict {
	back := d.Report.Reached != ""
	var out []Verdict
	if promise.RTO > 0 {
		v := Verdict{Of: "rto", Promised: promise.RTO, Measured: d.Parts.Sum(), Outcome: holdfast.NotProven, Why: "nothing came back"}
		if back {
			v.judge("the restore alone took %s of %s (%s); detection, decision and hand over are not in it", holdfast.FormatDuration(v.Measured), holdfast.FormatDuration(promise.RTO), d.Parts)
		}
		out = append(out, v)
	}
	if promise.RPO > 0 {
		v := Verdict{Of: "rpo", Promised: promise.RPO, Outcome: holdfast.NotProven, Why: "the newest state was asked for, and no instant"}
		if age, ok := d.DataAge(); ok {
			v.Measured = age
			v.judge("of the instant that was asked for %s of %s are missing", holdfast.FormatDuration(age), holdfast.FormatDuration(promise.RPO))
		} else if !back {
			v.Why = "nothing came back"
		}
		out = append(out, v)
	}
	return out
}

func (v *Verdict) judge(format string, args ...any) {
	v.Outcome, v.Why = holdfast.Passed, fmt.Sprintf(format, args...)
	if v.Measured > v.Promised {
		v.Outcome = holdfast.Failed
	}
}
