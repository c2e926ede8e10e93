package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/calendar"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

// Facts about metrics.
const (
	FactMetricExpected  = "metric.expected"  // a value was written down as due, ahead of its time
	FactMetricRecorded  = "metric.recorded"  // the period is over, and this is its value, or why there is none
	FactMetricWithdrawn = "metric.withdrawn" // the plan does not ask for it any more
)

// States of a value.
const (
	MetricOpen     = "open"     // its period is not over
	MetricLate     = "late"     // the period is over, and nobody has computed it
	MetricRecorded = "recorded" // with a value
	MetricUnknown  = "unknown"  // computed, and there is no value
)

// MetricGrace is how long after the end of a period its value may take before it is
// overdue. What of the period can still be met does not count.
const MetricGrace = 24 * time.Hour

const kindMetric = "metric"

// maxPeriods bounds the periods of one metric that one look computes, after a long time
// in which nobody looked. The next look goes on.
const maxPeriods = 100

// A Counted is what was counted in a period.
type Counted struct {
	Counts map[string]float64 // by the names of plan.Counts; what nobody knows is not there
	// Until is when the last slot that can still be met ends; zero: all have ended.
	Until map[string]time.Time // by the part of the name before its dot: "backups"
}

// A Metric is one value of a metric of the plan: for one period.
type Metric struct {
	ID         string             `json:"id"` // "backup-success@2026-12-01", after the end of the period
	Name       string             `json:"name"`
	Owner      string             `json:"owner"`
	Every      string             `json:"every"`
	Formula    string             `json:"formula"`    // as the plan writes it
	Expression string             `json:"expression"` // what is computed
	Target     string             `json:"target,omitempty"`
	Recipients []string           `json:"recipients"`
	From       time.Time          `json:"from"`
	Until      time.Time          `json:"until"`            // not in the period
	Value      *float64           `json:"value,omitempty"`  // of an open one: so far
	N          float64            `json:"n"`                // the largest count that the formula reads
	Counts     map[string]float64 `json:"counts,omitempty"` // that it reads
	Why        string             `json:"why,omitempty"`    // there is no value
	Waits      time.Time          `json:"waits,omitzero"`   // the period is over, and what can still be met ends then
	Recorded   time.Time          `json:"recorded,omitzero"`
	Plan       string             `json:"plan,omitempty"` // digest of the plan in force when it was computed
	State      string             `json:"state"`          // computed
	Met        *bool              `json:"met,omitempty"`  // computed; absent without a target or a value
}

// StateAt is the state at an instant.
func (x Metric) StateAt(now time.Time) string {
	due := x.Until
	if x.Waits.After(due) {
		due = x.Waits
	}
	switch {
	case x.Recorded.IsZero() && now.Before(due.Add(MetricGrace)):
		return MetricOpen
	case x.Recorded.IsZero():
		return MetricLate
	case x.Value == nil:
		return MetricUnknown
	}
	return MetricRecorded
}

// judged fills in what is computed from the others.
func (x Metric) judged(now time.Time) Metric {
	x.State = x.StateAt(now)
	if g, err := plan.ParseGoal(x.Target); err == nil && x.Value != nil {
		met := g.Met(*x.Value)
		x.Met = &met
	}
	return x
}

// declared takes over what the plan in force says of it.
func (x *Metric) declared(p *plan.Plan) {
	m := p.Metrics[x.Name]
	x.Owner, x.Every, x.Formula, x.Target, x.Recipients, x.Plan = m.Owner, m.Every.String(), m.Formula, m.Target, append([]string{}, m.To...), p.Digest()
}

// compute fills in the value. An error of the formula is no error of the program: the
// value is unknown, and it says why.
func (x *Metric) compute(c Counted) {
	x.Value, x.N, x.Why, x.Counts = nil, 0, "", nil
	f, err := plan.NewFormula(x.Formula)
	if err != nil {
		x.Why = err.Error()
		return
	}
	x.Expression, x.Counts = f.String(), map[string]float64{}
	for _, name := range f.Names() {
		if v, ok := c.Counts[name]; ok {
			x.Counts[name] = v
		}
	}
	v, n, err := f.Value(c.Counts)
	x.N = n
	if err != nil {
		x.Why = err.Error()
		return
	}
	x.Value = &v
}

// waits says until when a formula waits for what can still be met.
func waits(formula string, c Counted) (until time.Time) {
	f, err := plan.NewFormula(formula)
	if err != nil {
		return until
	}
	for _, name := range f.Names() {
		part, _, _ := strings.Cut(name, ".")
		if t := c.Until[part]; t.After(until) {
			until = t
		}
	}
	return until
}

// SettleMetrics computes the value of each metric whose period is over, and writes down
// the next one ahead of its time. A period whose backups or drills can still be met waits
// for them, for one more period at most.
//
// A crash before a commit leaves everything as it was, and the next look computes the
// same from the same facts. Two servers may look at once: the second finds the value
// recorded.
func (m *Module) SettleMetrics(ctx context.Context) error {
	p, now := m.cfg.Plan(), m.cfg.Clock().UTC().Truncate(time.Microsecond)
	all, err := m.stored(ctx)
	if err != nil {
		return err
	}
	open := map[string]Metric{}
	for _, x := range all {
		if x.Recorded.IsZero() {
			open[x.Name] = x
		}
	}
	for _, name := range sorted(open) {
		if _, asked := p.Metrics[name]; !asked {
			if err := m.withdrawMetric(ctx, open[name]); err != nil {
				return err
			}
		}
	}
	for _, name := range sorted(p.Metrics) {
		x, there := open[name]
		if there && x.Every != p.Metrics[name].Every.String() && now.Before(x.Until) {
			if err := m.withdrawMetric(ctx, x); err != nil {
				return err
			}
			there = false
		}
		if !there {
			from := now
			for _, old := range all { // what was recorded last, before a crash or a pause, is gone on from
				if old.Name == name && !old.Recorded.IsZero() {
					from = old.Until
				}
			}
			if !x.From.IsZero() { // it is asked for more often, or less
				from = x.From
			}
			if x, there, err = m.expectMetric(ctx, p, name, from); err != nil || !there {
				if err != nil {
					return err
				}
				continue
			}
		}
		for range maxPeriods {
			next, done, err := m.settleMetric(ctx, p, x, now)
			if err != nil {
				return fmt.Errorf("metric %q: %w", name, err)
			}
			if !done {
				break
			}
			x = next
		}
	}
	return nil
}

// settleMetric records one value if its period is over, and returns the next one.
func (m *Module) settleMetric(ctx context.Context, p *plan.Plan, x Metric, now time.Time) (next Metric, done bool, err error) {
	if now.Before(x.Until) {
		return x, false, nil
	}
	c, err := m.cfg.Count(ctx, x.From, x.Until)
	if err != nil {
		return x, false, err
	}
	latest, ok := comes(x.Every, x.Until, p.Location())
	if until := waits(p.Metrics[x.Name].Formula, c); now.Before(until) && (!ok || now.Before(latest)) {
		if x.Waits.Equal(until) {
			return x, false, nil
		}
		x.Waits = until
		return x, false, m.cfg.DB.Tx(ctx, func(tx *db.Tx) error { return put(ctx, tx, kindMetric, x.ID, true, x.Until, x) })
	}
	x.declared(p)
	x.compute(c)
	x.Recorded, x.Waits = now, time.Time{}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		var open int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM govern_items WHERE kind = ? AND id = ? AND open = 1`, kindMetric, x.ID).Scan(&open); err != nil || open == 0 {
			return err // another server was first
		}
		if err := put(ctx, tx, kindMetric, x.ID, false, x.Until, x); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactMetricRecorded, "metrics."+x.Name, "holdfast", x)
	})
	if err != nil {
		return x, false, err
	}
	next, done, err = m.expectMetric(ctx, p, x.Name, x.Until)
	return next, done, err
}

// expectMetric writes down that a value is due for the period after an instant. It
// returns false for a recurrence that never comes.
func (m *Module) expectMetric(ctx context.Context, p *plan.Plan, name string, from time.Time) (Metric, bool, error) {
	x := Metric{Name: name, From: from.UTC()}
	x.declared(p)
	until, ok := comes(x.Every, from, p.Location())
	if !ok {
		return x, false, nil
	}
	x.Until = until.UTC()
	x.ID = fmt.Sprintf("%s@%s", name, x.Until.Format("2006-01-02T15:04Z"))
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		var there int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM govern_items WHERE kind = ? AND id = ?`, kindMetric, x.ID).Scan(&there); err != nil || there > 0 {
			return err
		}
		if err := put(ctx, tx, kindMetric, x.ID, true, x.Until, x); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactMetricExpected, "metrics."+name, "holdfast", x)
	})
	return x, true, err
}

func (m *Module) withdrawMetric(ctx context.Context, x Metric) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM govern_items WHERE kind = ? AND id = ? AND open = 1`, kindMetric, x.ID); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactMetricWithdrawn, "metrics."+x.Name, "holdfast", x)
	})
}

// comes is when a recurrence comes next: a month ends with the calendar's.
func comes(every string, from time.Time, loc *time.Location) (time.Time, bool) {
	r, err := calendar.ParseRecurrence(every)
	if err != nil {
		return time.Time{}, false // the plan was read with it
	}
	return r.Next(from, loc)
}

func (m *Module) stored(ctx context.Context) (out []Metric, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out, err = items[Metric](ctx, tx, kindMetric)
		return err
	})
	slices.SortStableFunc(out, func(a, b Metric) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Until.Compare(b.Until)
	})
	return out, err
}

// KnownMetrics returns the values as the last look left them, by name and then oldest
// first. It computes nothing.
func (m *Module) KnownMetrics(ctx context.Context) ([]Metric, error) {
	all, err := m.stored(ctx)
	now := m.cfg.Clock()
	out := []Metric{}
	for _, x := range all {
		out = append(out, x.judged(now))
	}
	return out, err
}

// Metrics settles first, and gives those that are open their value so far. Of a metric
// with a name only its own values are returned.
func (m *Module) Metrics(ctx context.Context, name string) ([]Metric, error) {
	p := m.cfg.Plan()
	if _, there := p.Metrics[name]; name != "" && !there {
		return nil, holdfast.WithHint(fmt.Errorf("the plan in force has no metric %q: %w", name, holdfast.ErrUsage), "%s", plan.Nearest(name, sorted(p.Metrics)))
	}
	if err := m.SettleMetrics(ctx); err != nil {
		return nil, err
	}
	all, err := m.stored(ctx)
	if err != nil {
		return nil, err
	}
	now := m.cfg.Clock()
	out := []Metric{}
	for _, x := range all {
		if name != "" && x.Name != name {
			continue
		}
		if x.Recorded.IsZero() {
			end := x.Until
			if now.Before(end) {
				end = now
			}
			c, err := m.cfg.Count(ctx, x.From, end)
			if err != nil {
				return nil, err
			}
			x.declared(p)
			x.compute(c)
		}
		out = append(out, x.judged(now))
	}
	return out, nil
}
