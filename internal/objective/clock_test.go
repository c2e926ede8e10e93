package objective

import (
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// The same recovery is measured from where the plan in force says that RTOs begin; what
// was judged earlier keeps the definition of its time.
func TestOutageIsCountedFromTheDefinition(t *testing.T) {
	part := func(name string, d time.Duration) holdfast.Part {
		return holdfast.Part{Name: name, Duration: d, Basis: holdfast.Measured}
	}
	x := Proof{Kind: ProofIncident, Outcome: holdfast.Passed, Parts: holdfast.Parts{part("detect", 10*time.Minute), part("decide", 20*time.Minute), part("fetch", time.Hour)}}
	for clock, want := range map[plan.Clock]time.Duration{plan.ClockDisruption: 90 * time.Minute, plan.ClockDetection: 80 * time.Minute, plan.ClockDeclaration: time.Hour} {
		if got := x.outage(clock); got != want {
			t.Errorf("from %s: %s, want %s", clock, got, want)
		}
	}
	// What people decide in the middle of it is part of the recovery.
	x.Ends = Instants{Detected: 10 * time.Minute, Declared: 15 * time.Minute, Usable: 90 * time.Minute}
	if got := x.outage(plan.ClockDeclaration); got != 75*time.Minute {
		t.Errorf("from the declaration: %s", got)
	}

	w := work{}
	w.add(PartTime{Name: "detect", Time: Seconds(10 * time.Minute), Basis: holdfast.Measured})
	w.add(PartTime{Name: "decide", Time: Seconds(20 * time.Minute), Basis: holdfast.Measured})
	all := w.then(work{total: time.Hour})
	for clock, want := range map[plan.Clock]Verdict{plan.ClockDisruption: Over, plan.ClockDetection: Over, plan.ClockDeclaration: Within} {
		pr := all.prediction(w.before(clock), 0, time.Hour)
		if pr.Verdict != want || pr.Total != Seconds(90*time.Minute) {
			t.Errorf("from %s: %+v, want %s", clock, pr, want)
		}
	}
}
