package govern

import (
	"context"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// An Analysed is one impact analysis, as it goes into a review by management.
type Analysed struct {
	Service   string `json:"service"`
	By        string `json:"by,omitempty"`
	On        string `json:"on,omitempty"`
	Tolerable string `json:"tolerable,omitempty"` // the longest outage that the company can bear
	Why       string `json:"why"`
	Risk      string `json:"risk,omitempty"` // its entry in the register
}

// A Tested says how many stores of a tier were proved by a drill in a period.
type Tested struct {
	Tier     string   `json:"tier"` // "" for stores without one
	Stores   int      `json:"stores"`
	Tested   int      `json:"tested"`
	Percent  float64  `json:"percent"`
	Untested []string `json:"untested"` // by name
}

// A Pack is what a review by management looks at, gathered by nobody's hand.
type Pack struct {
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	Plan       string      `json:"plan_digest"`
	Tests      []Tested    `json:"tests"`
	Duties     []Duty      `json:"duties"` // overdue, due, and what was missed in the period
	Analyses   []Analysed  `json:"analyses"`
	Risks      []Risk      `json:"risks"`
	Exceptions []Exception `json:"exceptions"`
}

// Pack gathers a review for the time since from.
func (m *Module) Pack(ctx context.Context, from time.Time) (Pack, error) {
	out := Pack{From: from.UTC(), To: m.cfg.Clock().UTC(), Plan: m.cfg.Plan().Digest(), Duties: []Duty{}, Analyses: []Analysed{}}
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return out, err
	}
	ds, err := m.List(ctx, true)
	if err != nil {
		return out, err
	}
	for _, d := range ds {
		if d.State == Overdue || d.State == Due || d.State == Missed && !d.Due.Before(from) {
			out.Duties = append(out.Duties, d)
		}
	}
	if out.Exceptions, err = m.Exceptions(ctx); err != nil {
		return out, err
	}
	if err := m.cfg.DB.View(ctx, func(tx *db.Tx) (err error) {
		out.Risks, err = m.register(ctx, tx)
		return err
	}); err != nil {
		return out, err
	}
	p := m.cfg.Plan()
	for _, id := range sorted(p.Services) {
		b := p.Services[id].BIA
		if b == nil {
			continue
		}
		a := b.Analyse()
		x := Analysed{Service: id, By: b.By, Why: a.Why}
		if !b.On.IsZero() {
			x.On = b.On.String()
		}
		if a.Tolerable > 0 {
			x.Tolerable = holdfast.FormatDuration(a.Tolerable)
		}
		if i := slices.IndexFunc(out.Risks, func(r Risk) bool { return r.Link == "services."+id+".bia" }); i >= 0 {
			x.Risk = out.Risks[i].ID
		}
		out.Analyses = append(out.Analyses, x)
	}
	out.Tests = m.tested(obs, from)
	return out, nil
}

// tested counts, tier by tier, the stores that a drill proved since from (INT-19). A store
// that the plan says needs no protection is not counted.
func (m *Module) tested(obs Observed, from time.Time) []Tested {
	p := m.cfg.Plan()
	byTier := map[string]*Tested{}
	for _, id := range sorted(p.Stores) {
		st := p.Stores[id]
		if st.NotProtected != "" {
			continue
		}
		t := byTier[st.Tier]
		if t == nil {
			t = &Tested{Tier: st.Tier, Untested: []string{}}
			byTier[st.Tier] = t
		}
		t.Stores++
		if slices.ContainsFunc(obs.Drills, func(d Drilled) bool { return d.Passed && d.Store == id && !d.At.Before(from) }) {
			t.Tested++
		} else {
			t.Untested = append(t.Untested, id)
		}
	}
	out := []Tested{}
	for _, tier := range sorted(byTier) {
		t := *byTier[tier]
		t.Percent = 100 * float64(t.Tested) / float64(t.Stores)
		out = append(out, t)
	}
	return out
}
