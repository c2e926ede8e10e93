package plan

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAnalyse(t *testing.T) {
	p, err := Parse("plan.yaml", []byte(`apiVersion: holdfast/v1
plan: {id: x}
tiers:
  gold: {rto: 1h, rpo: 5m}
  silver: {rto: 4h, rpo: 1h}
  bronze: {rto: 2d, rpo: 1d}
  other: {scheme: network, rto: 2h, rpo: 1m}
services:
  shop:
    tier: bronze
    bia:
      tolerable: 3
      impact: {1h: {level: 1, cost: 10}, 4h: {level: 3, cost: 100}, 1d: {level: 5, cost: 1000}}
      loss_impact: {1h: {level: 2}, 1d: {level: 4}}
  till:
    bia:
      impact: {4h: {level: 2}, 1d: {level: 4}}
      peaks: {saturday: {when: "1w on sat at 08:00", rto: 1h}}
  blog: {bia: {impact: {1w: {level: 1}}}}
  pump: {bia: {impact: {10m: {level: 5}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct {
		tolerable, rto, rpo time.Duration
		tier                string
	}{
		"shop": {24 * time.Hour, 4 * time.Hour, time.Hour, "silver"},
		"till": {24 * time.Hour, time.Hour, 0, "gold"},
		"blog": {0, 7 * 24 * time.Hour, 0, ""},
		"pump": {10 * time.Minute, 0, 0, ""},
	} {
		a := p.Services[id].BIA.Analyse()
		tier, _ := p.TierFor(a, DefaultTiers)
		if a.Tolerable != want.tolerable || a.RTO != want.rto || a.RPO != want.rpo || tier != want.tier {
			t.Errorf("%s: %+v, tier %q; want %+v", id, a, tier, want)
		}
	}
	shop := p.Services["shop"].BIA
	for outage, want := range map[time.Duration][2]int{
		time.Minute: {0, 0}, time.Hour: {1, 0}, 2 * time.Hour: {1, 10}, 4 * time.Hour: {3, 30}, 30 * time.Hour: {5, 30 + 2000 + 6000},
	} {
		if x, cost := shop.Harm(outage); x.Level != want[0] || cost != want[1] {
			t.Errorf("after %s: level %d, cost %d; want %v", outage, x.Level, cost, want)
		}
	}
}

// More harm never allows a longer outage, and the derived numbers are below what cannot be
// borne; the cost is what adding up minute by minute gives.
func TestAnalysisAgainstMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := BIA{Impact: map[string]Impact{}, Tolerable: rapid.IntRange(1, 4).Draw(t, "tolerable")}
		level := 0
		type step struct{ at, level, cost int }
		var steps []step
		for i := range rapid.IntRange(1, 5).Draw(t, "steps") {
			level = min(MaxImpact, level+rapid.IntRange(0, 2).Draw(t, "more"))
			at, cost := (i+1)*rapid.IntRange(30, 60).Draw(t, "at"), 60*rapid.IntRange(0, 9).Draw(t, "cost")
			if len(steps) > 0 && at <= steps[len(steps)-1].at {
				continue
			}
			steps = append(steps, step{at, level, cost})
			b.Impact[fmt.Sprintf("%dm", at)] = Impact{Level: level, Cost: cost}
		}
		outage := rapid.IntRange(0, 400).Draw(t, "outage")
		wantLevel, wantCost := 0, 0
		for minute := range outage {
			now := 0
			for _, s := range steps {
				if s.at <= minute {
					now = s.cost / 60
				}
			}
			wantCost += now
		}
		for _, s := range steps {
			if s.at <= outage {
				wantLevel = s.level
			}
		}
		if x, cost := b.Harm(time.Duration(outage) * time.Minute); x.Level != wantLevel || cost != wantCost {
			t.Fatalf("after %dm: level %d, cost %d; want %d and %d: %v", outage, x.Level, cost, wantLevel, wantCost, steps)
		}
		a := b.Analyse()
		if x, _ := b.Harm(a.RTO); a.RTO > 0 && (x.Level > b.Bearable() || a.Tolerable > 0 && a.RTO >= a.Tolerable) {
			t.Fatalf("an outage of %s has level %d: %+v", a.RTO, x.Level, a)
		}
		if a.Tolerable > 0 {
			if x, _ := b.Harm(a.Tolerable); x.Level <= b.Bearable() {
				t.Fatalf("%s can be borne: %+v", a.Tolerable, a)
			}
			if x, _ := b.Harm(a.Tolerable - 1); x.Level > b.Bearable() {
				t.Fatalf("less than %s cannot be borne: %+v", a.Tolerable, a)
			}
		}
		worse := BIA{Impact: map[string]Impact{}, Tolerable: b.Tolerable}
		for k, x := range b.Impact {
			x.Level = min(MaxImpact, x.Level+1)
			worse.Impact[k] = x
		}
		if w := worse.Analyse(); w.RTO > a.RTO || a.Tolerable > 0 && w.Tolerable > a.Tolerable {
			t.Fatalf("more harm allows more: %+v, %+v", a, w)
		}
	})
}
