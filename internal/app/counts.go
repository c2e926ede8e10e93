package app

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/ledger"
	"holdfast/internal/objective"
)

// counted counts what the metrics of a plan are made of, by the names of plan.Counts. The
// slots are those of the evidence pack of the period: derived from the plans that were in
// force, so that work which no scheduler wrote down is missed and not left out.
func (a *App) counted(ctx context.Context, from, until time.Time) (govern.Counted, error) {
	now := a.opt.Clock()
	c := govern.Counted{Counts: map[string]float64{}, Until: map[string]time.Time{}}
	for _, what := range []string{"backups", "drills"} {
		for _, state := range []string{"expected", "done", "failed", "missed", "open"} {
			c.Counts[what+"."+state] = 0
		}
	}
	plans, err := a.plansInForce(ctx)
	if err != nil {
		return c, err
	}
	reported, err := a.slots(ctx, from, until)
	if err != nil {
		return c, err
	}
	slots, err := evidence.SlotsOf(plans, reported, from, until, now)
	if err != nil {
		return c, err
	}
	spoiled, err := a.spoiled(ctx, from)
	if err != nil {
		return c, err
	}
	sections := map[string]string{"stores": "backups", "drills": "drills"}
	for _, s := range slots {
		section, _, _ := strings.Cut(s.Schedule, ".")
		what, ok := sections[section]
		if !ok {
			continue
		}
		c.Counts[what+".expected"]++
		switch {
		case s.State == evidence.Done && !spoiled[s.Fact]:
			c.Counts[what+".done"]++
		case s.State == evidence.Done || s.State == evidence.Failed:
			c.Counts[what+".failed"]++
		case s.State == evidence.Missed || s.State == evidence.Missing:
			c.Counts[what+".missed"]++
		default:
			c.Counts[what+".open"]++
			if s.Deadline.After(c.Until[what]) {
				c.Until[what] = s.Deadline
			}
		}
	}
	if err := a.countIncidents(ctx, c.Counts, from, until); err != nil {
		return c, err
	}
	if err := a.countExceptions(ctx, c.Counts, from, until); err != nil {
		return c, err
	}
	return c, a.countStores(ctx, c.Counts, from, until)
}

// spoiled are the facts that tell of work which ended without what was wanted of it: a
// copy that is not whole, a drill that did not pass.
func (a *App) spoiled(ctx context.Context, from time.Time) (map[int64]bool, error) {
	out := map[int64]bool{}
	for _, kind := range []string{backup.FactSnapshot, "drill." + drill.StateFailed, "drill." + drill.StateShort} {
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: kind, From: from})
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			if kind != backup.FactSnapshot {
				out[f.Index] = true
				continue
			}
			var made backup.SnapshotFact
			if err := decodeFact(f, &made); err != nil {
				return nil, err
			}
			out[f.Index] = made.Incomplete != ""
		}
	}
	return out, nil
}

func (a *App) countIncidents(ctx context.Context, counts map[string]float64, from, until time.Time) error {
	is, err := a.Incidents.List(ctx, false)
	if err != nil {
		return err
	}
	if len(is) == incident.MaxIncidents {
		return nil // there are more than can be counted: then nobody knows how many
	}
	counts["incidents.opened"], counts["incidents.backup"], counts["incidents.closed"] = 0, 0, 0
	about := []string{incident.KindBackupFailed, incident.KindBackupMissed, incident.KindBackupStale, incident.KindLogGap}
	for _, i := range is {
		if inPeriod(i.DetectedAt, from, until) {
			counts["incidents.opened"]++
			if slices.Contains(about, i.Kind) {
				counts["incidents.backup"]++
			}
		}
		if !i.ClosedAt.IsZero() && inPeriod(i.ClosedAt, from, until) {
			counts["incidents.closed"]++
		}
	}
	return nil
}

func (a *App) countExceptions(ctx context.Context, counts map[string]float64, from, until time.Time) error {
	es, err := a.Duties.Exceptions(ctx)
	if err != nil {
		return err
	}
	for _, what := range []string{"listed", "approved", "open", "ended"} {
		counts["exceptions."+what] = 0
	}
	for _, e := range es {
		if !e.Asked.Before(until) || !e.Until.After(from) {
			continue
		}
		counts["exceptions.listed"]++
		approved := !e.Approved.IsZero() && e.Approved.Before(until)
		if e.InPlan { // it says who approved it, and not when
			_, approved = a.Plan().Waivers().Of(e.Rule, e.Of, until.Add(-time.Nanosecond))
		}
		switch {
		case e.Until.Before(until):
			counts["exceptions.ended"]++
		case approved:
			counts["exceptions.approved"]++
		default:
			counts["exceptions.open"]++
		}
	}
	return nil
}

func (a *App) countStores(ctx context.Context, counts map[string]float64, from, until time.Time) error {
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return err
	}
	newest := map[string]time.Time{}
	for _, d := range ds {
		if d.State == drill.StatePassed && d.Finished.Before(until) && d.Finished.After(newest[d.Store]) {
			newest[d.Store] = d.Finished
		}
	}
	counts["stores.all"], counts["stores.copied"], counts["stores.drilled"] = 0, 0, 0
	oldest, known := 0.0, true
	for id, s := range a.Plan().Stores {
		if s.NotProtected != "" {
			continue
		}
		counts["stores.all"]++
		made, err := a.Ledger.Find(ctx, ledger.Query{Type: backup.FactSnapshot, Subject: "stores." + id, Limit: 1})
		if err != nil {
			return err
		}
		if len(made) > 0 && made[0].At.Before(until) {
			counts["stores.copied"]++
		}
		at, drilled := newest[id]
		if drilled && !at.Before(from) {
			counts["stores.drilled"]++
		}
		known = known && drilled
		oldest = max(oldest, until.Sub(at).Hours()/24)
	}
	if known && counts["stores.all"] > 0 {
		counts["stores.oldest_proof_days"] = math.Round(oldest*10) / 10
	}
	return nil
}

// Metrics are the values of the plan's metrics, of one or of all.
func (a *App) Metrics(ctx context.Context, name string) ([]govern.Metric, error) {
	return a.Duties.Metrics(ctx, name)
}

// metricFindings is what status says of metrics: those that are overdue, and those whose
// newest value misses the target or is none.
func (a *App) metricFindings(ctx context.Context) ([]holdfast.Finding, error) {
	all, err := a.Duties.KnownMetrics(ctx)
	if err != nil {
		return nil, err
	}
	var out []holdfast.Finding
	newest := map[string]govern.Metric{}
	for _, x := range all {
		switch {
		case x.State == govern.MetricLate:
			out = append(out, holdfast.Finding{Code: codeUncomputed, Severity: holdfast.SeverityError, Subject: "metrics." + x.Name,
				Message: fmt.Sprintf("overdue since %s: the metric %q of %s has no value for the period from %s", x.Until.Format(time.DateOnly), x.Name, orNobody(x.Owner), x.From.Format(time.DateOnly)),
				Hint:    "\"holdfast serve\" computes it; \"holdfast metric list\" does, too, where no server runs"})
		case x.State != govern.MetricOpen:
			newest[x.Name] = x
		}
	}
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		x := newest[name]
		if _, asked := a.Plan().Metrics[name]; !asked {
			continue
		}
		f := holdfast.Finding{Code: codeUntargeted, Severity: holdfast.SeverityWarning, Subject: "metrics." + name, Hint: fmt.Sprintf("\"holdfast metric show %s\" shows what it was computed from", name)}
		switch {
		case x.Value == nil:
			f.Code, f.Message = codeUncomputed, fmt.Sprintf("the metric %q is unknown for the period to %s: %s", name, x.Until.Format(time.DateOnly), x.Why)
		case x.Met != nil && !*x.Met:
			f.Message = fmt.Sprintf("the metric %q was %s in the period to %s, and its target is %s", name, number(*x.Value), x.Until.Format(time.DateOnly), x.Target)
		default:
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

func orNobody(who string) string {
	if who == "" {
		return "nobody"
	}
	return who
}

func number(v float64) string { return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) }

// figures are the newest values of the metrics, for the controls that they stand for.
func (a *App) figures(ctx context.Context) ([]objective.Figure, error) {
	all, err := a.Duties.KnownMetrics(ctx)
	if err != nil {
		return nil, err
	}
	newest := map[string]objective.Figure{}
	for _, x := range all {
		f := objective.Figure{Metric: x.Name, ID: x.ID, Text: fmt.Sprintf("(n %s) in the period to %s", number(x.N), x.Until.Format(time.DateOnly))}
		if x.Value != nil {
			f.Text = number(*x.Value) + " " + f.Text
		}
		switch {
		case x.State == govern.MetricOpen:
			if newest[x.Name].ID != "" {
				continue
			}
			f.ID, f.Posture, f.Text = "", holdfast.PostureUnknown, "its first period ends "+x.Until.Format(time.DateOnly)
		case x.State == govern.MetricLate:
			f.ID, f.Posture, f.Text = "", holdfast.PostureOverdue, "no value since "+x.Until.Format(time.DateOnly)
		case x.Value == nil:
			f.Posture, f.Text = holdfast.PostureUnknown, x.Why
		case x.Met != nil && !*x.Met:
			f.Posture, f.Text = holdfast.PostureFailed, f.Text+", target "+x.Target
		default:
			f.Posture = holdfast.PostureProved
		}
		newest[x.Name] = f
	}
	return slices.Collect(maps.Values(newest)), nil
}

// restOnMetrics finds the fact of each value.
func (a *App) restOnMetrics(ctx context.Context, rests map[string][]int64) error {
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: govern.FactMetricRecorded, Limit: maxAttested, Newest: true})
	if err != nil {
		return err
	}
	for _, f := range fs {
		var of struct {
			ID string `json:"id"`
		}
		if err := decodeFact(f, &of); err != nil {
			return err
		}
		rests[of.ID] = []int64{f.Index}
	}
	return nil
}

func (a *App) metricRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "metrics", Query: "every value of every metric that the plan asked for, by the end of its period, whether or not it was computed",
		Columns: []string{"metric", "owner", "recipients", "every", "from", "until", "formula", "expression", "counts", "n", "value", "target", "state", "recorded", "fact", "why"}}
	all, err := a.Duties.KnownMetrics(ctx)
	if err != nil {
		return p, err
	}
	rests := map[string][]int64{}
	if err := a.restOnMetrics(ctx, rests); err != nil {
		return p, err
	}
	for _, x := range all {
		if !inPeriod(x.Until, from, to) {
			continue
		}
		value, fact, counts := "", "", []string{}
		if x.Value != nil {
			value = number(*x.Value)
		}
		if r := rests[x.ID]; len(r) > 0 {
			fact = strconv.FormatInt(r[0], 10)
		}
		for _, name := range slices.Sorted(maps.Keys(x.Counts)) {
			counts = append(counts, name+"="+number(x.Counts[name]))
		}
		p.Rows = append(p.Rows, []string{x.Name, x.Owner, strings.Join(x.Recipients, " "), x.Every, stamp(x.From), stamp(x.Until), x.Formula, x.Expression, strings.Join(counts, " "), number(x.N),
			value, x.Target, x.State, stamp(x.Recorded), fact, x.Why})
	}
	return p, nil
}
