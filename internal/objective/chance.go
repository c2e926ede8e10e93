package objective

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/planner"
	"holdfast/internal/sequence"
)

// enough is how many measurements a percentile needs: with fewer it would be an accident, and
// the longest is said instead.
const enough = 20

// A Chance is how long a recovery takes if its parts take now this, now that long: as long
// as they took in one of the drills and recoveries that measured them. What was never measured
// takes what the plan estimates, every time.
type Chance struct {
	Seed     uint64   `json:"seed"`
	Runs     int      `json:"runs"`
	Samples  int      `json:"samples"` // measurements of the part that has fewest, of those that have any
	Fixed    []string `json:"fixed"`   // parts that were never measured
	Total    Spread   `json:"total"`
	Services []Spread `json:"services"`
	Why      string   `json:"why"`
}

// A Spread is how long one thing takes.
type Spread struct {
	ID      string  `json:"id"`
	Longest Seconds `json:"longest_seconds"`
	// P50, P90 and P95 are not there if there are too few measurements for them.
	P50 *Seconds `json:"p50_seconds,omitempty"`
	P90 *Seconds `json:"p90_seconds,omitempty"`
	P95 *Seconds `json:"p95_seconds,omitempty"`
	// Within is the share of runs inside the RTO; nil if nothing is promised or there are too few
	// measurements.
	Within *float64 `json:"within_rto,omitempty"`
}

// sample is one measured restore.
type sample struct{ fetch, rest time.Duration }

// samples are the measured restores of a store.
func (s *simulator) samples(store string) []sample {
	var out []sample
	for _, x := range s.byStore[store] {
		parts := restoreParts(x.Parts)
		if x.Outcome != holdfast.Passed || len(parts) == 0 || x.At.After(s.now) {
			continue
		}
		var m sample
		for _, p := range parts {
			if p.Name == "fetch" {
				m.fetch += p.Duration
			} else {
				m.rest += p.Duration
			}
		}
		out = append(out, m)
	}
	return out
}

// chance plays the plan again and again. The order of the steps stays as it was decided: nobody
// knows beforehand how long a step will take.
func (s *simulator) chance(out *Simulation, in planner.Input, pl planner.Plan, q Question) (*Chance, error) {
	t, err := in.Timing(pl)
	if err != nil {
		return nil, err
	}
	c := &Chance{Seed: q.Seed, Runs: q.Runs, Fixed: []string{}, Services: []Spread{}}
	measured := map[int][]sample{} // by task
	place := map[string]int{}
	for n, i := range t.Steps {
		step := pl.Steps[i]
		place[step.ID] = n
		if step.Kind == planner.StepRestore {
			measured[n] = s.samples(step.Store)
		}
		switch k := len(measured[n]); {
		case k > 0 && (c.Samples == 0 || k < c.Samples):
			c.Samples = k
		case k == 0 && step.Estimate > 0:
			c.Fixed = append(c.Fixed, step.ID)
		}
	}
	begin := time.Duration(0)
	for _, b := range out.Timeline {
		if b.Kind == "detect" || b.Kind == "decide" {
			begin = b.End.Duration()
			c.Fixed = append(c.Fixed, b.ID)
		}
	}
	offset := begin // from the clock of the RTOs
	for _, v := range out.Services {
		if pr := slices.IndexFunc(pl.Predictions, func(x planner.Prediction) bool { return x.Service == v.ID }); v.State == FateBack && pr >= 0 {
			offset = v.Outage.Duration() - pl.Predictions[pr].Time
		}
	}
	random := rand.New(rand.NewPCG(q.Seed, 0))
	totals := make([]time.Duration, 0, q.Runs)
	ends := make([][]time.Duration, len(pl.Predictions))
	drawn := make([]sequence.Times, len(t.Steps))
	for range q.Runs {
		for n := range t.Steps {
			drawn[n] = t.Order.Times(n)
			if ms := measured[n]; len(ms) > 0 {
				m := ms[random.IntN(len(ms))]
				drawn[n] = sequence.Times{Transfer: m.fetch, Machine: m.rest}
			}
		}
		slots := t.Order.Play(func(n int) sequence.Times { return drawn[n] })
		totals = append(totals, begin+sequence.Length(slots))
		for k, pr := range pl.Predictions {
			if pr.Blocked != "" {
				continue
			}
			var end time.Duration
			for _, id := range pr.Steps {
				end = max(end, slots[place[id]].End)
			}
			ends[k] = append(ends[k], offset+end)
		}
	}
	c.Total = spread("", totals, c.Samples, 0)
	for k, pr := range pl.Predictions {
		if len(ends[k]) > 0 {
			rto, _ := s.promises(pr.Service, out.Scenario)
			c.Services = append(c.Services, spread(pr.Service, ends[k], c.Samples, rto.Limit.Duration()))
		}
	}
	switch {
	case c.Samples == 0:
		c.Why = "nothing was measured: every run takes what the plan estimates"
	case c.Samples < enough:
		c.Why = fmt.Sprintf("%d runs, seed %d; only %d measurements of a restore are too few for percentiles (%d are needed): the longest run is shown", c.Runs, c.Seed, c.Samples, enough)
	default:
		c.Why = fmt.Sprintf("%d runs, seed %d, at least %d measurements of each restore", c.Runs, c.Seed, c.Samples)
	}
	if len(c.Fixed) > 0 && c.Samples > 0 {
		c.Why += "; what was never measured takes its estimate every time, so the spread is wider than this"
	}
	return c, nil
}

// spread sorts ds.
func spread(id string, ds []time.Duration, samples int, limit time.Duration) Spread {
	slices.Sort(ds)
	out := Spread{ID: id, Longest: Seconds(ds[len(ds)-1])}
	if samples < enough {
		return out
	}
	at := func(percent int) *Seconds {
		// The smallest value that so many percent of the runs do not exceed.
		x := Seconds(ds[(percent*len(ds)+99)/100-1])
		return &x
	}
	out.P50, out.P90, out.P95 = at(50), at(90), at(95)
	if limit > 0 {
		n, _ := slices.BinarySearch(ds, limit+1)
		share := float64(n) / float64(len(ds))
		out.Within = &share
	}
	return out
}
