package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
func (p pages) Drill(ctx context.Context, id string, _ time.Time) (web.Drill, error) {
	d, err := p.a.Drills.Get(ctx, id)
	if errors.Is(err, drill.ErrNotFound) {
		return web.Drill{}, web.ErrNotFound
	}
	if err != nil {
		return web.Drill{}, err
	}
	v := web.Drill{DrillLine: drillLine(d), Finished: d.Finished, Reason: d.Reason + " by " + d.By, Target: d.Target, Reached: d.Report.Reached,
		TargetReached: passed(d, holdfast.L4), Pick: d.Pick, Seed: strconv.FormatUint(d.Seed, 10), Snapshot: d.Report.Snapshot, Checks: d.Checks, Parts: d.Parts,
		RTO: web.Promise{Objective: p.a.Plan.Promise(d.Store).RTO}, Isolation: d.Isolation, Error: d.Error, Recorded: d.Fact >= 0, Ledger: d.Fact, Plan: p.a.Plan.Digest()}
	if d.Target.Kind == holdfast.TargetTime && !d.Report.DataUntil.IsZero() {
		v.DataAge = web.Measure{Value: max(0, d.Target.Time.Sub(d.Report.DataUntil)), Known: true, Basis: holdfast.Measured}
	}
	if len(d.Parts) > 0 {
		v.RTO.Now = web.Measure{Value: d.Parts.Sum(), Known: true, AtLeast: true, Basis: holdfast.Measured, Note: "restore in the sandbox; detection, decision and hand over are not in it"}
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

func incidentLine(i incident.Incident) web.StoryLine {
	return web.StoryLine{Kind: "incident", ID: strconv.FormatInt(i.ID, 10), Title: i.Name() + ": " + i.Title, Severity: string(i.Severity), Phase: string(i.Phase), Open: i.Open(), Started: i.DetectedAt, Ended: i.ClosedAt}
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
	n, err := strconv.ParseInt(id, 10, 64)
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
		{Label: "Commander", Value: i.Commander}, {Label: "Services", Value: strings.Join(i.Services, ", ")}, {Label: "Stores", Value: strings.Join(i.Stores, ", ")},
		{Label: "Declared by", Value: i.DeclaredBy}, {Label: "Plan activated", Value: i.Activation},
	}}
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
		v.Promises = append(v.Promises, web.NamedGap{Name: pr.Service + " usable again", Promise: web.Promise{
			Now: web.Measure{Value: took, Known: true, Basis: holdfast.Measured}, Objective: pr.RTO, Missed: pr.RTO > 0 && took > pr.RTO}})
		v.Parts = r.Parts(pr.Service, i.OccurredAt, i.DetectedAt)
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
	v := web.Story{StoryLine: recoveryLine(r), Summary: strings.Join(r.Plan.Notes, "; "), Facts: []web.Fact{
		{Label: "Predicted", Value: holdfast.FormatDuration(r.Plan.Time)}, {Label: "Critical path", Value: strings.Join(r.Plan.Critical, ", ")}}}
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
	for _, s := range r.Steps {
		st := web.Step{ID: s.ID, Title: s.Title, State: s.State, Detail: s.Detail, Started: s.Started, Ended: s.Finished, Progress: running[recovery.KindStep+":"+r.ID+":"+s.ID]}
		if w, ok := words[s.State]; ok {
			st.State = w
		}
		v.Steps = append(v.Steps, st)
	}
	return v, nil
}

// StartDrill starts a drill of the plan, or of a store.
func (p pages) StartDrill(ctx context.Context, name string, _ time.Time) (string, error) {
	req := drill.Request{Store: name, By: "web page", Reason: "asked for"}
	if d, err := p.a.declared(name); err == nil {
		req.Name, req.Store, req.Pick, req.Goal = name, d.Stores[0], d.Pick, d.Goal
	} else {
		req.Goal = p.a.Plan.DrillRung("", name)
	}
	d, _, err := p.a.Drills.Start(ctx, req)
	if err != nil {
		return "", &web.PublicError{Message: "The drill did not start: " + err.Error(), Hint: holdfast.Hint(err), Err: err}
	}
	return d.ID, nil
}

// BackUp starts a backup.
func (p pages) BackUp(ctx context.Context, store string, _ time.Time) error {
	if _, err := p.a.Backup(ctx, store, "asked for on the web page"); err != nil {
		return &web.PublicError{Message: "The backup did not start: " + err.Error(), Hint: holdfast.Hint(err), Err: err}
	}
	return nil
}
