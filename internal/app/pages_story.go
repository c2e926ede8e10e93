package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/recovery"
	"holdfast/internal/web"
)

// decodeProgress reads how far a job says it is; a job may have said nothing, or
// something of its own.
func decodeProgress(j job.Job, p *holdfast.Progress) error {
	if len(j.Progress) == 0 {
		return nil
	}
	return json.Unmarshal(j.Progress, p)
}

// Drill is one drill's page.
func (p pages) Drill(ctx context.Context, id string, now time.Time) (web.Drill, error) {
	d, err := p.a.Drills.Get(ctx, id)
	if errors.Is(err, drill.ErrNotFound) {
		return web.Drill{}, web.ErrNotFound
	}
	if err != nil {
		return web.Drill{}, err
	}
	v := web.Drill{DrillLine: drillLine(d), Finished: d.Finished, Reason: d.Reason + " by " + d.By, Target: d.Target, Reached: d.Report.Reached,
		TargetReached: passed(d, holdfast.L4), Pick: d.Pick, Seed: strconv.FormatUint(d.Seed, 10), Snapshot: d.Report.Snapshot, Checks: d.Checks, Parts: d.Parts,
		RTO: web.Promise{Objective: p.a.Plan().Promise(d.Store).RTO}, Isolation: d.Isolation, Error: d.Error, Recorded: d.Fact >= 0, Ledger: d.Fact, Plan: p.a.Plan().Digest()}
	if age, ok := d.DataAge(); ok {
		v.DataAge = web.Measure{Value: age, Known: true, Basis: holdfast.Measured}
	}
	if len(d.Parts) > 0 {
		v.RTO.Now = web.Measure{Value: d.Parts.Sum(), Known: true, AtLeast: true, Basis: holdfast.Measured}
		v.RTO.Missed = v.RTO.Objective > 0 && v.RTO.Now.Value > v.RTO.Objective // a lower bound that is too long is too long
	}
	if d.Report.Snapshot != "" {
		if t, err := time.Parse("20060102T150405Z", d.Report.Snapshot[:min(16, len(d.Report.Snapshot))]); err == nil {
			v.SnapshotTime = t
		}
	}
	if !d.Started.IsZero() && d.Finished.IsZero() {
		v.Took = now.Sub(d.Started)
	}
	v.Timeline = timeline(d)
	if d.State == drill.StateRunning {
		jobs, err := p.a.Jobs.List(ctx, job.Filter{Kind: drill.KindRun, Key: drill.KindRun + ":" + id, Limit: 1})
		if err != nil {
			return v, err
		}
		for _, j := range jobs {
			if err := decodeProgress(j, &v.Progress); err != nil {
				return v, err
			}
			v.Rate, v.Left = p.pace.of(j, v.Progress, now)
		}
	}
	return v, nil
}

func passed(d drill.Drill, r holdfast.Rung) bool {
	n := 0
	for _, c := range d.Checks {
		if c.Rung == r && c.Outcome != holdfast.Passed {
			return false
		}
		if c.Rung == r {
			n++
		}
	}
	return n > 0
}

// timeline lays the measured parts end to end: they happen one after another.
func timeline(d drill.Drill) []web.Stretch {
	if d.Started.IsZero() || len(d.Parts) == 0 {
		return nil
	}
	before := d.Finished.Sub(d.Started) - d.Parts.Sum() // objects, chains and reading back come first
	at := d.Started.Add(max(0, before))
	out := []web.Stretch{{Name: "read back", Start: d.Started, End: at, Outcome: holdfast.Passed}}
	for _, p := range d.Parts {
		out = append(out, web.Stretch{Name: p.Name, Start: at, End: at.Add(p.Duration), Outcome: holdfast.Passed})
		at = at.Add(p.Duration)
	}
	return out
}

// Incidents lists incidents, newest first.
func (p pages) Incidents(ctx context.Context, _ time.Time) ([]web.StoryLine, error) {
	is, err := p.a.Incidents.List(ctx, false)
	var out []web.StoryLine
	for _, i := range is {
		out = append(out, incidentLine(i))
	}
	return out, err
}

// Incident is one incident's page.
func (p pages) Incident(ctx context.Context, id string, _ time.Time) (web.Story, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "INC-"), 10, 64)
	if err != nil {
		return web.Story{}, web.ErrNotFound
	}
	i, err := p.a.Incidents.Get(ctx, n)
	if errors.Is(err, incident.ErrNotFound) {
		return web.Story{}, web.ErrNotFound
	}
	if err != nil {
		return web.Story{}, err
	}
	v := web.Story{StoryLine: incidentLine(i), Summary: i.Outcome, Facts: []web.Fact{
		{Label: "Commander", Value: cmp.Or(i.Commander, "nobody yet")}, {Label: "Services", Value: cmp.Or(strings.Join(i.Services, ", "), "none")}, {Label: "Stores", Value: strings.Join(i.Stores, ", ")},
		{Label: "Declared by", Value: i.DeclaredBy}, {Label: "Plan activated by", Value: cmp.Or(i.Activation, "not activated")},
	}}
	if i.OccurredAt.Before(i.DetectedAt) {
		v.Facts = append(v.Facts, web.Fact{Label: "Last seen well", Value: holdfast.FormatDuration(i.DetectedAt.Sub(i.OccurredAt).Round(100*time.Millisecond)) + " before it was noticed"})
	}
	if i.Recovery != "" {
		v.Links = append(v.Links, web.Link{Text: "Recovery " + i.Recovery, Href: "/recoveries/" + i.Recovery})
		r, err := p.a.Recoveries.Get(ctx, i.Recovery)
		if err != nil && !errors.Is(err, recovery.ErrNotFound) {
			return v, err
		}
		p.outcome(&v, r, i)
	}
	events, err := p.a.Incidents.Events(ctx, n)
	for _, e := range events {
		v.Events = append(v.Events, web.Event{At: e.At, Actor: e.Actor, Text: e.Text})
	}
	return v, err
}

// outcome puts what a recovery measured beside the objectives.
func (p pages) outcome(v *web.Story, r recovery.Run, i incident.Incident) {
	for _, pr := range r.Plan.Predictions {
		at := r.UsableAt(pr.Service)
		if at.IsZero() {
			continue
		}
		took := at.Sub(i.OccurredAt)
		rto := web.Promise{Now: web.Measure{Value: took, Known: true, Basis: holdfast.Measured}, Objective: pr.RTO, Missed: pr.RTO > 0 && took > pr.RTO}
		v.Promises = append(v.Promises, web.NamedGap{Name: pr.Service + " was usable again after", Promise: rto})
		if v.Parts == nil || pr.RTO > 0 && (v.RTO.Objective == 0 || float64(took)/float64(pr.RTO) > float64(v.RTO.Now.Value)/float64(v.RTO.Objective)) { // the one that is nearest to its promise
			v.Parts, v.PartsOf, v.RTO = r.Parts(pr.Service, i.OccurredAt, i.DetectedAt), pr.Service, rto
		}
	}
	for _, s := range r.Steps {
		if s.Kind != recovery.StepRestore || s.State != recovery.StateDone || s.Outcome.DataUntil.IsZero() {
			continue
		}
		age, rpo := lossAge(i, s.Outcome), p.a.Plan().Promise(s.Store).RPO
		v.Promises = append(v.Promises, web.NamedGap{Name: "Data of " + s.Store + " lost, at most", Promise: web.Promise{
			Now: web.Measure{Value: age, Known: true, Basis: holdfast.Measured}, Objective: rpo, Missed: rpo > 0 && age > rpo}})
	}
}

func recoveryLine(r recovery.Run) web.StoryLine {
	return web.StoryLine{Kind: "recovery", ID: r.ID, Title: "Recovery of " + strings.Join(r.Plan.Lost, ", "), Phase: r.State, Open: r.State == recovery.StateRunning, Started: r.Activated, Ended: r.Finished}
}

// Recoveries lists recoveries, newest first.
func (p pages) Recoveries(ctx context.Context, _ time.Time) ([]web.StoryLine, error) {
	rs, err := p.a.Recoveries.List(ctx)
	var out []web.StoryLine
	for _, r := range rs {
		out = append(out, recoveryLine(r))
	}
	return out, err
}

// Recovery is one recovery's page.
func (p pages) Recovery(ctx context.Context, id string, _ time.Time) (web.Story, error) {
	r, err := p.a.Recoveries.Get(ctx, id)
	if errors.Is(err, recovery.ErrNotFound) {
		return web.Story{}, web.ErrNotFound
	}
	if err != nil {
		return web.Story{}, err
	}
	v := web.Story{StoryLine: recoveryLine(r), Notes: r.Plan.Notes}
	v.Facts = append(v.Facts, web.Fact{Label: "Predicted", Value: holdfast.FormatDuration(r.Plan.Time)})
	if !r.Finished.IsZero() {
		v.Facts = append(v.Facts, web.Fact{Label: "Took, from activation to the end", Value: holdfast.FormatDuration(r.Finished.Sub(r.Activated).Round(100 * time.Millisecond))})
	}
	v.Facts = append(v.Facts, web.Fact{Label: "What decides the time", Value: strings.Join(titles(r, r.Plan.Critical), ", then ")})
	if r.Incident != 0 {
		v.Links = append(v.Links, web.Link{Text: fmt.Sprintf("Incident INC-%d", r.Incident), Href: fmt.Sprintf("/incidents/%d", r.Incident)})
		i, err := p.a.Incidents.Get(ctx, r.Incident)
		if err != nil {
			return v, err
		}
		p.outcome(&v, r, i)
	}
	running := map[string]holdfast.Progress{}
	jobs, err := p.a.Jobs.List(ctx, job.Filter{Kind: recovery.KindStep, State: job.Running, Limit: 100})
	if err != nil {
		return v, err
	}
	for _, j := range jobs {
		var pr holdfast.Progress
		if err := decodeProgress(j, &pr); err != nil {
			return v, err
		}
		running[j.Key] = pr
	}
	words := map[string]string{recovery.StateReady: "waiting", recovery.StateAwaiting: "needs a person"}
	for _, s := range inOrder(r.Steps) {
		st := web.Step{ID: s.ID, Title: s.Title, State: s.State, Detail: s.Detail, Started: s.Started, Ended: s.Finished, Progress: running[recovery.KindStep+":"+r.ID+":"+s.ID]}
		if w, ok := words[s.State]; ok {
			st.State = w
		}
		v.Steps = append(v.Steps, st)
	}
	return v, nil
}

// titles names steps as people see them.
func titles(r recovery.Run, ids []string) []string {
	out := slices.Clone(ids)
	for i, id := range ids {
		for _, s := range r.Steps {
			if s.ID == id && s.Title != "" {
				out[i] = s.Title
			}
		}
	}
	return out
}

// inOrder puts the steps that began first, in that order, before those that wait.
func inOrder(steps []recovery.Done) []recovery.Done {
	out := slices.Clone(steps)
	slices.SortStableFunc(out, func(a, b recovery.Done) int {
		switch {
		case a.Started.IsZero() != b.Started.IsZero():
			if a.Started.IsZero() {
				return 1
			}
			return -1
		default:
			return a.Started.Compare(b.Started)
		}
	})
	return out
}
