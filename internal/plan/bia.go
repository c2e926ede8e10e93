package plan

import (
	"fmt"
	"time"
)

// An Analysis is what follows from an impact analysis: pure arithmetic on what the company
// said about its harm. Declared objectives are compared with it, and never replaced by it.
type Analysis struct {
	// Tolerable is the longest outage before the harm exceeds what the company can bear: its
	// maximum tolerable outage. Zero if the analysis never exceeds it.
	Tolerable time.Duration
	At        ImpactAt // the step that exceeds it
	// RTO is the longest outage that the analysis looked at and found bearable, in peaks too.
	// Zero if it found none: then every outage below Tolerable is a guess.
	RTO time.Duration
	// RPO is the oldest recovered data that the analysis found bearable, and TolerableLoss the
	// age from which on it is not.
	RPO, TolerableLoss time.Duration
	// Peak is the peak that tightened RTO; "" for none.
	Peak string
	// Why is the arithmetic in a sentence.
	Why string
}

// Analyse derives from an impact analysis what an outage may last and how much data may be
// lost.
func (b BIA) Analyse() Analysis {
	var a Analysis
	a.RTO, a.At, a.Tolerable = bearable(b.Impact, b.Bearable())
	a.RPO, _, a.TolerableLoss = bearable(b.LossImpact, b.Bearable())
	for _, name := range sorted(b.Peaks) {
		if rto, ok := b.Peaks[name].RTO.Duration(); ok && (a.RTO == 0 || rto < a.RTO) {
			a.RTO, a.Peak = rto, name
		}
	}
	switch {
	case a.Tolerable == 0:
		a.Why = fmt.Sprintf("no step of the analysis exceeds impact %d, which is what the company can bear", b.Bearable())
	default:
		a.Why = fmt.Sprintf("impact %d from %s on, and %d is what the company can bear", a.At.Level, a.At.After, b.Bearable())
	}
	if a.Peak != "" {
		a.Why += fmt.Sprintf("; during %q it must be back within %s", a.Peak, period(a.RTO))
	}
	return a
}

// bearable returns the longest time in m whose impact can be borne, as can all before it, and
// the first step that cannot.
func bearable(m map[string]Impact, most int) (longest time.Duration, exceeds ImpactAt, at time.Duration) {
	for _, x := range ImpactOverTime(m) {
		if x.Level > most {
			return longest, x, x.After.Approx()
		}
		longest = x.After.Approx()
	}
	return longest, ImpactAt{}, 0
}

// Harm returns the impact of an outage of some length, and what it costs until then: each
// step costs by the hour from its own time on. The level of an outage that is shorter than the
// first step is 0.
func (b BIA) Harm(outage time.Duration) (Impact, int) {
	var now Impact
	cost := 0.0
	steps := ImpactOverTime(b.Impact)
	for i, x := range steps {
		from := x.After.Approx()
		if from > outage {
			break
		}
		now = x.Impact
		to := outage
		if i+1 < len(steps) {
			to = min(to, steps[i+1].After.Approx())
		}
		cost += float64(x.Cost) * (to - from).Hours()
	}
	return now, int(cost + 0.5)
}

// TierFor returns the loosest tier of a scheme that an analysis allows: back before the outage
// is more than the company can bear, and with data that is young enough. Labels are
// not compared, only their numbers. False if no tier is strict enough, or if the analysis
// demands nothing.
func (p *Plan) TierFor(a Analysis, scheme string) (string, bool) {
	best, longest := "", time.Duration(0)
	for _, id := range sorted(p.Tiers) {
		t := p.Tiers[id]
		rto, ok := t.RTO.Duration()
		if t.SchemeOf() != scheme || !ok || a.Tolerable == 0 {
			continue
		}
		if rto >= a.Tolerable || a.RTO > 0 && rto > a.RTO {
			continue
		}
		if rpo, ok := t.RPO.Duration(); a.TolerableLoss > 0 && t.RPO.None == "" && (!ok || rpo >= a.TolerableLoss || a.RPO > 0 && rpo > a.RPO) {
			continue
		}
		if best == "" || rto > longest {
			best, longest = id, rto
		}
	}
	return best, best != ""
}
