package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/objective"
	"holdfast/internal/recovery"
)

// A survey is what was last seen at the locations. Listing a location takes
// time, so it is done now and then and not for each look at the page; how far a
// log is since then is known from its frontier.
type survey struct {
	mu    sync.Mutex
	at    time.Time
	seen  map[string]located // by location
	nudge chan struct{}
}

// located is what one location answered.
type located struct {
	at      time.Time
	err     error
	windows map[string][]holdfast.Window // by store
	errs    map[string]error             // by store
}

// surveyEvery is how often the locations are asked what they hold.
const surveyEvery = time.Minute

func (s *survey) run(ctx context.Context, a *App) {
	wake, stop := a.DB.Listen(surveyChannel)
	defer stop()
	for {
		a.lookAround(ctx)
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(surveyEvery):
		}
	}
}

// surveyChannel tells that a location may hold more than was seen.
const surveyChannel = "survey"

// lookAround asks every location what it can bring back.
func (a *App) lookAround(ctx context.Context) {
	seen := map[string]located{}
	for name := range a.Plan.Locations {
		l := located{at: a.opt.Clock(), windows: map[string][]holdfast.Window{}, errs: map[string]error{}}
		r, err := a.Places.Open(ctx, name)
		l.err = err
		for id, ad := range a.stores {
			if err != nil || ad.err != nil {
				continue
			}
			if l.windows[id], l.errs[id] = ad.store.Windows(ctx, r); l.errs[id] != nil {
				a.opt.Log.Warn("location not surveyed", "location", name, "store", id, "err", l.errs[id])
			}
		}
		seen[name] = l
	}
	if ctx.Err() != nil {
		return // what we saw while stopping says nothing
	}
	a.survey.mu.Lock()
	defer a.survey.mu.Unlock()
	a.survey.at, a.survey.seen = a.opt.Clock(), seen
}

// Overview answers the first question, from the plan and everything observed.
func (a *App) Overview(ctx context.Context) (objective.Overview, error) {
	f, err := a.observed(ctx)
	if err != nil {
		return objective.Overview{}, err
	}
	return objective.Look(a.Plan, f), nil
}

// observed gathers what is known.
func (a *App) observed(ctx context.Context) (objective.Facts, error) {
	f := objective.Facts{Now: a.opt.Clock(), NextDrill: map[string]time.Time{}}
	a.survey.mu.Lock()
	surveyed, seen := !a.survey.at.IsZero(), a.survey.seen
	a.survey.mu.Unlock()
	if !surveyed { // the first question may come before the first survey
		a.lookAround(ctx)
		a.survey.mu.Lock()
		seen = a.survey.seen
		a.survey.mu.Unlock()
	}
	for name := range a.Plan.Locations {
		l := seen[name]
		lf := objective.LocationFact{Location: name, Reachable: l.err == nil && !l.at.IsZero(), Seen: l.at}
		if l.err != nil {
			lf.Err = l.err.Error()
		}
		f.Locations = append(f.Locations, lf)
	}
	for _, p := range a.policies() {
		cs, err := a.copyFacts(ctx, p, seen)
		if err != nil {
			return f, err
		}
		f.Copies = append(f.Copies, cs...)
	}
	if err := a.proofs(ctx, &f); err != nil {
		return f, err
	}
	return f, a.nextDrills(ctx, &f)
}

// copyFacts joins what a location was seen to hold with the vault's receipts and
// the log's frontier.
func (a *App) copyFacts(ctx context.Context, p backup.Policy, seen map[string]located) ([]objective.Copy, error) {
	copies, err := a.Backups.Copies(ctx, p.Store)
	if err != nil {
		return nil, err
	}
	fronts, err := a.Backups.Frontiers(ctx, p.Store)
	if err != nil {
		return nil, err
	}
	var out []objective.Copy
	for _, name := range p.Locations {
		l := seen[name]
		c := objective.Copy{Store: p.Store, Location: name, Windows: slices.Clone(l.windows[p.Store])}
		if err := errors.Join(l.err, l.errs[p.Store]); err != nil {
			c.Err = err.Error()
		}
		for _, cp := range copies {
			if cp.Location == name && cp.Received.After(c.Received) {
				c.Received = cp.Received
			}
		}
		for _, fr := range fronts {
			if fr.Place != name {
				continue
			}
			c.Frontier = &objective.Frontier{Lineage: fr.Lineage, Timeline: fr.Timeline, CaughtUp: fr.CaughtUp, LastCommit: fr.LastCommit, At: fr.At, Err: fr.Err}
			if fr.Gap != "" && !mended(copies, name, fr.GapAt) {
				c.Frontier.Gap = fr.Gap
			}
		}
		if c.Verified, err = a.Drills.LastRead(ctx, name, p.Store); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// mended reports whether a base that began after the gap is complete there.
func mended(copies []backup.Copy, location string, gap time.Time) bool {
	return slices.ContainsFunc(copies, func(c backup.Copy) bool {
		return c.Location == location && c.State == "complete" && c.Created.After(gap)
	})
}

// proofs are the finished drills and recoveries.
func (a *App) proofs(ctx context.Context, f *objective.Facts) error {
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return err
	}
	for _, d := range ds {
		if !d.Ended() {
			continue
		}
		p := objective.Proof{Kind: objective.ProofDrill, ID: d.ID, Name: d.Name, Store: d.Store, At: d.Finished, Outcome: holdfast.Passed, Rung: d.Rung,
			Parts: d.Parts, Location: d.Location, Snapshot: d.Report.Snapshot, Note: d.Error}
		switch d.State {
		case drill.StateFailed:
			p.Outcome = holdfast.Failed
		case drill.StateShort:
			p.Outcome = holdfast.NotProven
		}
		if d.Target.Kind == holdfast.TargetTime && !d.Report.DataUntil.IsZero() {
			p.DataAge, p.DataAgeKnown = max(0, d.Target.Time.Sub(d.Report.DataUntil)), true
		}
		f.Proofs = append(f.Proofs, p)
	}
	rs, err := a.Recoveries.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range rs {
		ps, err := a.recoveryProofs(ctx, r)
		if err != nil {
			return err
		}
		f.Proofs = append(f.Proofs, ps...)
	}
	return nil
}

// recoveryProofs are what a real recovery proved, service by service.
func (a *App) recoveryProofs(ctx context.Context, r recovery.Run) ([]objective.Proof, error) {
	if r.Incident == 0 {
		return nil, nil
	}
	inc, err := a.Incidents.Get(ctx, r.Incident)
	if err != nil {
		return nil, err
	}
	var out []objective.Proof
	for _, pr := range r.Plan.Predictions {
		at := r.UsableAt(pr.Service)
		if at.IsZero() {
			continue
		}
		p := objective.Proof{Kind: objective.ProofIncident, ID: inc.Name(), Service: pr.Service, At: at, Outcome: holdfast.Passed, Rung: holdfast.L4,
			Parts: r.Parts(pr.Service, inc.OccurredAt, inc.DetectedAt)}
		for _, s := range r.Steps {
			if s.Kind == recovery.StepRestore && !s.Outcome.DataUntil.IsZero() {
				p.DataAge, p.DataAgeKnown = max(p.DataAge, inc.OccurredAt.Sub(s.Outcome.DataUntil)), true
				p.Location = s.Location
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// nextDrills reads from the slots when each store is drilled next.
func (a *App) nextDrills(ctx context.Context, f *objective.Facts) error {
	for name, d := range a.Plan.Drills {
		slots, err := a.Jobs.Slots(ctx, drillSchedule(name), f.Now, f.Now.AddDate(1, 0, 0))
		if err != nil {
			return err
		}
		for _, s := range slots {
			for _, st := range d.Of {
				if old := f.NextDrill[st]; old.IsZero() || s.Due.Before(old) {
					f.NextDrill[st] = s.Due
				}
			}
		}
	}
	return nil
}

// Points is what is known of a store's recovery points, asked of the locations now.
func (a *App) Points(ctx context.Context, store string) (api.Points, error) {
	out := api.Points{Store: store}
	ws, away, err := Windows(ctx, a.Plan, store, a.opt)
	if err != nil {
		return out, err
	}
	out.Windows, out.Away = ws, away
	if out.Copies, err = a.Backups.Copies(ctx, store); err != nil {
		return out, err
	}
	out.Frontiers, err = a.Backups.Frontiers(ctx, store)
	return out, err
}

// Backup enqueues a backup of a store.
func (a *App) Backup(ctx context.Context, store, reason string) (id int64, err error) {
	if !slices.ContainsFunc(a.policies(), func(p backup.Policy) bool { return p.Store == store }) {
		return 0, holdfast.WithHint(fmt.Errorf("store %q is not in the plan, or nothing protects it: %w", store, holdfast.ErrUsage),
			"the protected stores are %s", strings.Join(a.protected(), ", "))
	}
	if reason == "" {
		reason = "asked for"
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		id, err = a.Jobs.Enqueue(ctx, tx, snapshotJob(store, reason))
		return err
	})
	return id, err
}

func (a *App) protected() []string {
	var out []string
	for _, p := range a.policies() {
		out = append(out, p.Store)
	}
	return out
}

// person refuses names that the plan does not know.
func (a *App) person(by string) error {
	if _, ok := a.Plan.People[by]; !ok {
		return holdfast.WithHint(fmt.Errorf("%q is not a person of the plan: %w", by, holdfast.ErrRefused), "the plan's people stand under \"people\"")
	}
	return nil
}

// ConfirmDrill records the owner's word on a drill.
func (a *App) ConfirmDrill(ctx context.Context, id, by, note string) (d drill.Drill, err error) {
	if err := a.person(by); err != nil {
		return d, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		d, err = a.Drills.Confirm(ctx, tx, id, by, note)
		return err
	})
	return d, err
}

// ConfirmStep records that a person did a step of a recovery.
func (a *App) ConfirmStep(ctx context.Context, run, step, by, note string) (r recovery.Run, err error) {
	if err := a.person(by); err != nil {
		return r, err
	}
	if err := a.DB.Tx(ctx, func(tx *db.Tx) error { return a.Recoveries.Confirm(ctx, tx, run, step, by, note) }); err != nil {
		return r, err
	}
	return a.Recoveries.Get(ctx, run)
}

// CloseIncident ends an incident with its review.
func (a *App) CloseIncident(ctx context.Context, id int64, by, outcome string) (inc incident.Incident, err error) {
	if err := a.person(by); err != nil {
		return inc, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		if inc, err = a.Incidents.Advance(ctx, tx, id, incident.Move{To: incident.Closed, Actor: by, Outcome: outcome, Reason: outcome}); err != nil {
			return err
		}
		return nil
	})
	return inc, err
}

// Recover lets a person activate the recovery of an incident.
func (a *App) Recover(ctx context.Context, id int64, by, reason string) (jobID int64, err error) {
	if err := a.mayActivate(by); err != nil {
		return 0, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.Incidents.Note(ctx, tx, id, by, "plan", "recovery activated: "+reason, nil); err != nil {
			return err
		}
		jobID, err = a.Jobs.Enqueue(ctx, tx, job.Insert{Kind: kindActivate, Key: fmt.Sprintf("%s:%d", kindActivate, id), Args: activateArgs{Incident: id, By: by}, Queue: "recovery", Priority: 10})
		return err
	})
	return jobID, err
}

// mayActivate refuses who does not hold a role that may activate the plan.
func (a *App) mayActivate(by string) error {
	if err := a.person(by); err != nil {
		return err
	}
	for _, role := range a.Plan.Activation.By {
		r := a.Plan.Roles[role]
		if r.Holder == by || r.Deputy == by {
			return nil
		}
	}
	return holdfast.WithHint(fmt.Errorf("%q may not activate the plan: %w", by, holdfast.ErrRefused), "activation.by of the plan names the roles that may: %s", strings.Join(a.Plan.Activation.By, ", "))
}
