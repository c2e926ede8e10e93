package app

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
	"holdfast/internal/web"
)

// pages gives the web pages what they show. It translates and decides nothing:
// what is computed comes from package objective through web.FromObjective, and the
// rest is read from the modules.
type pages struct {
	a    *App
	pace *pace
}

// Overview is the first page.
func (p pages) Overview(ctx context.Context, _ time.Time) (web.Overview, error) {
	o, err := p.a.Overview(ctx)
	if err != nil {
		return web.Overview{}, err
	}
	v := web.FromObjective(o)
	v.Plan = p.a.Plan().Plan.ID + " " + p.a.Plan().Plan.Version
	if v.Findings, err = p.findings(ctx, o); err != nil {
		return v, err
	}
	for i := range v.Answers {
		v.Answers[i].Where = p.where(v.Answers[i].Location)
	}
	if err := p.detail(ctx, o, v.Stores); err != nil {
		return v, err
	}
	if v.Work, err = p.work(ctx, o.At); err != nil {
		return v, err
	}
	is, err := p.a.Incidents.List(ctx, true)
	for _, i := range is {
		v.Incidents = append(v.Incidents, incidentLine(i))
	}
	return v, err
}

// Policy is the plan in force as the document that people read.
func (p pages) Policy() render.Document { return render.Make(p.a.Plan(), render.Options{}) }

// findings are what keeps the answer from being given, and what the plan itself
// promises and cannot keep.
func (p pages) findings(ctx context.Context, o objective.Overview) ([]holdfast.Finding, error) {
	out := slices.Clone(o.Findings)
	approved, err := p.a.approved(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range plan.Check(p.a.Plan(), o.At, approved...) {
		if !slices.ContainsFunc(out, func(x holdfast.Finding) bool { return x.Code == f.Code && x.Subject == f.Subject }) {
			out = append(out, f)
		}
	}
	rank := map[holdfast.FindingSeverity]int{holdfast.SeverityError: 0, holdfast.SeverityWarning: 1}
	slices.SortStableFunc(out, func(a, b holdfast.Finding) int {
		of := func(s holdfast.FindingSeverity) int {
			if n, ok := rank[s]; ok {
				return n
			}
			return len(rank)
		}
		return of(a.Severity) - of(b.Severity)
	})
	return out, nil
}

// where is what a person calls a location's place.
func (p pages) where(location string) string {
	l := p.a.Plan().Locations[location]
	return strings.Join(slices.DeleteFunc([]string{l.Provider, l.Region, l.Domain}, func(s string) bool { return s == "" }), ", ")
}

// detail adds to stores what their locations hold in numbers, and the windows.
func (p pages) detail(ctx context.Context, o objective.Overview, stores []web.Store) error {
	held, err := p.a.Backups.Holdings(ctx)
	if err != nil {
		return err
	}
	seen := p.a.survey.all()
	for _, s := range o.Stores {
		i := slices.IndexFunc(stores, func(v web.Store) bool { return v.ID == s.ID })
		if i < 0 {
			continue
		}
		for n, e := range s.Exposures {
			pl := &stores[i].Places[n]
			h := held[backup.Spot{Store: s.ID, Location: e.Location}]
			pl.Where, pl.Snapshots, pl.Waiting, pl.Bytes = p.where(e.Location), h.Snapshots, h.Waiting, h.Stored
			pl.Windows = slices.Clone(seen[e.Location].stores[s.ID].windows)
			// The windows are from the last look; the log has gone on since.
			if last := len(pl.Windows) - 1; e.Streaming && last >= 0 && pl.Windows[last].To.Before(e.Newest) {
				pl.Windows[last].To = e.Newest
			}
		}
	}
	return nil
}

// work is what runs now.
func (p pages) work(ctx context.Context, now time.Time) ([]web.Work, error) {
	jobs, err := p.a.Jobs.List(ctx, job.Filter{State: job.Running, Limit: 50})
	if err != nil {
		return nil, err
	}
	var out []web.Work
	for _, j := range jobs {
		w, ok := workOf(j)
		if !ok {
			continue
		}
		if err := decodeProgress(j, &w.Progress); err != nil {
			return nil, err
		}
		w.Rate, w.Left = p.pace.of(j, w.Progress, now)
		out = append(out, w)
	}
	p.pace.forget(jobs)
	return out, nil
}

// workOf names a job for people; false for what only keeps the books.
func workOf(j job.Job) (web.Work, bool) {
	w := web.Work{Started: j.StartedAt}
	_, subject, _ := strings.Cut(j.Key, ":")
	parts := strings.Split(subject, ":")
	w.Subject = parts[0]
	switch j.Kind {
	case backup.KindSnapshot:
		w.Kind, w.Href = "backup of", "/store/"+parts[0]
	case backup.KindCopy, backup.KindReceive:
		w.Kind, w.Href = map[string]string{backup.KindCopy: "copy of", backup.KindReceive: "check and receipt of"}[j.Kind], "/store/"+parts[0]
		if len(parts) == 3 {
			w.Subject = parts[0] + " at " + parts[2]
		}
	case drill.KindRun:
		w.Kind, w.Href = "drill", "/drills/"+parts[0]
	case "recovery.step", "recovery.restore":
		w.Kind, w.Href = "recovery", "/recoveries/"+parts[0]
		if len(parts) > 1 {
			w.Subject = parts[1]
		}
	default:
		return w, false
	}
	return w, true
}

// Store is one store's page.
func (p pages) Store(ctx context.Context, id string, now time.Time) (web.Store, error) {
	o, err := p.a.Overview(ctx)
	if err != nil {
		return web.Store{}, err
	}
	all := web.FromObjective(o).Stores
	i := slices.IndexFunc(all, func(s web.Store) bool { return s.ID == id })
	if i < 0 {
		return web.Store{}, web.ErrNotFound
	}
	if err := p.detail(ctx, o, all[i:i+1]); err != nil {
		return all[i], err
	}
	v := all[i]
	found, err := p.findings(ctx, o)
	if err != nil {
		return v, err
	}
	for _, f := range found {
		if f.Subject == "stores."+id || strings.HasPrefix(f.Subject, "stores."+id+".") {
			v.Findings = append(v.Findings, f)
		}
	}
	if v.Failures, err = p.failures(ctx, id); err != nil {
		return v, err
	}
	ds, err := p.a.Drills.List(ctx, id)
	if err != nil {
		return v, err
	}
	if due := o.Stores[i].NextDrill; !due.IsZero() {
		v.Drills = append(v.Drills, web.DrillLine{Name: "next drill", Subject: id, State: web.RunExpected, At: due, Rung: holdfast.RungNone})
	}
	for _, d := range ds[:min(len(ds), 20)] {
		v.Drills = append(v.Drills, drillLine(d))
	}
	return v, err
}

// failures are the work on a store that fails now.
func (p pages) failures(ctx context.Context, store string) ([]web.Failure, error) {
	var out []web.Failure
	pr, ok, err := p.a.Backups.Probe(ctx, store)
	if err != nil {
		return nil, err
	}
	if ok && !pr.OK {
		out = append(out, web.Failure{What: "the store does not answer", Error: pr.Error, At: pr.At})
	}
	jobs, err := p.a.Jobs.List(ctx, job.Filter{Kind: backup.KindSnapshot, Key: backup.KindSnapshot + ":" + store, Limit: 1})
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.Error == "" || j.State == job.Done {
			continue
		}
		f := web.Failure{What: "the last backup failed", Error: j.Error, At: cmp.Or(j.FinishedAt, j.StartedAt)}
		if j.State == job.Waiting {
			f.Next = j.RunAt
		}
		out = append(out, f)
	}
	return out, nil
}

// Drills lists drills, newest first, with the slots that did not happen.
func (p pages) Drills(ctx context.Context, now time.Time) ([]web.DrillLine, error) {
	ds, err := p.a.Drills.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []web.DrillLine
	for _, d := range ds {
		out = append(out, drillLine(d))
	}
	for _, name := range slices.Sorted(maps.Keys(p.a.Plan().Drills)) {
		d := p.a.Plan().Drills[name]
		slots, err := p.a.Jobs.Slots(ctx, drillSchedule(name), now.AddDate(0, -3, 0), now.AddDate(0, 3, 0))
		if err != nil {
			return nil, err
		}
		expected := false
		for _, s := range slots {
			l := web.DrillLine{Name: name, Subject: strings.Join(d.Of, ", "), At: s.Due, State: web.RunMissed, Rung: holdfast.RungNone, Goal: p.a.Plan().DrillRung(name, d.Of[0]), Why: s.Note}
			if s.State == job.SlotExpected && !expected {
				expected, l.State = true, web.RunExpected
			} else if s.State != job.SlotMissed {
				continue
			}
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b web.DrillLine) int { return b.At.Compare(a.At) })
	return out, nil
}

func drillLine(d drill.Drill) web.DrillLine {
	l := web.DrillLine{ID: d.ID, Name: cmp.Or(d.Name, d.Store), Subject: d.Store, Location: d.Location, At: d.Started, Rung: d.Rung, Goal: d.Goal, Why: d.Error}
	if l.At.IsZero() {
		l.At = d.Planned
	}
	switch d.State {
	case drill.StatePlanned:
		l.State = web.RunWaiting
	case drill.StateRunning:
		l.State = web.RunRunning
	case drill.StatePassed:
		l.State, l.Took = web.RunDone, d.Finished.Sub(d.Started)
		if d.Awaits() {
			l.Why = "the owner has not confirmed it"
		}
	case drill.StateShort:
		l.State, l.Took = web.RunDone, d.Finished.Sub(d.Started)
		for _, c := range d.Checks {
			if l.Why == "" && c.Outcome == holdfast.NotProven {
				l.Why = "not proven: " + c.Name
			}
		}
	case drill.StateFailed:
		l.State, l.Took = web.RunFailed, d.Finished.Sub(d.Started)
		for _, c := range d.Checks {
			if l.Why == "" && c.Outcome == holdfast.Failed {
				l.Why = c.Name + ": " + c.Detail
			}
		}
	}
	return l
}

// A pace says how fast running work goes, from the first look at its stage to the
// newest. It is only for people who wait, and forgotten with the process.
type pace struct {
	mu    sync.Mutex
	first map[int64]paceMark // by job
}

type paceMark struct {
	stage string
	done  int64
	at    time.Time
}

// soonest is how long we look before we say how fast something goes.
const soonest = 2 * time.Second

// of returns the units done each second, and how long the rest of the stage takes
// at that rate; zeros while nobody can say.
func (c *pace) of(j job.Job, p holdfast.Progress, now time.Time) (rate float64, left time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.first[j.ID]
	if !ok || m.stage != p.Stage || p.Done < m.done {
		if c.first == nil {
			c.first = map[int64]paceMark{}
		}
		m = paceMark{p.Stage, p.Done, now}
		c.first[j.ID] = m
	}
	took, done := now.Sub(m.at), p.Done-m.done
	if took < soonest { // the whole job, which began with earlier stages: rather too slow than too fast
		took, done = now.Sub(j.StartedAt), p.Done
	}
	if took < soonest || done <= 0 {
		return 0, 0
	}
	rate = float64(done) / took.Seconds()
	if p.Total > p.Done {
		left = time.Duration(float64(p.Total-p.Done) / rate * float64(time.Second))
	}
	return rate, left
}

// forget drops the jobs that no longer run.
func (c *pace) forget(running []job.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.first, func(id int64, _ paceMark) bool {
		return !slices.ContainsFunc(running, func(j job.Job) bool { return j.ID == id })
	})
}

// StartDrill starts a drill of the plan, or of a store.
func (p pages) StartDrill(ctx context.Context, name string, _ time.Time) (string, error) {
	req := drill.Request{By: "web page", Reason: "asked for"}
	stores := []string{name}
	if d, err := p.a.declared(name); err == nil {
		req.Name, req.Pick, req.Goal, stores = name, d.Pick, d.Goal, d.Stores
	} else {
		req.Goal = p.a.Plan().DrillRung("", name)
	}
	first := ""
	for _, req.Store = range stores {
		d, _, err := p.a.Drills.Start(ctx, req)
		if err != nil {
			return "", public("The drill of "+req.Store+" did not start", err)
		}
		first = cmp.Or(first, d.ID)
	}
	return first, nil
}

// BackUp starts a backup.
func (p pages) BackUp(ctx context.Context, store string, _ time.Time) error {
	if _, err := p.a.Backup(ctx, store, "asked for on the web page"); err != nil {
		return public("The backup did not start", err)
	}
	return nil
}

// public shows a refusal to the browser: its words are meant for people. Any other
// error stays in the log.
func public(what string, err error) error {
	if !errors.Is(err, holdfast.ErrUsage) && !errors.Is(err, holdfast.ErrRefused) && holdfast.Hint(err) == "" {
		return err
	}
	return &web.PublicError{Message: what + ": " + err.Error(), Hint: holdfast.Hint(err), Err: err}
}

func incidentLine(i incident.Incident) web.StoryLine {
	return web.StoryLine{Kind: "incident", ID: i.Name(), Title: i.Name() + ": " + i.Title, Severity: string(i.Severity), Phase: string(i.Phase), Open: i.Open(), Started: i.DetectedAt, Ended: i.ClosedAt}
}
