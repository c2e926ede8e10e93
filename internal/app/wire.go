package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/message"
	"holdfast/internal/plan"
	"holdfast/internal/planner"
	"holdfast/internal/recovery"
	"holdfast/internal/source/postgres"
	"holdfast/internal/survive"
	"holdfast/internal/vault"
)

// workers is how many jobs one process runs at once. Jobs wait on disks and
// networks more than they compute.
const workers = 8

// Rung L2 of drills: every stored byte of a store is read back within this time,
// at most this much in one drill.
const (
	readWithin = 30 * 24 * time.Hour
	readBudget = 64 << 30
)

// kindActivate is the job that decides about a recovery after a loss was confirmed.
const kindActivate = "recovery.activate"

// kindAvailability is the kind of incident that a recovery answers.
const kindAvailability = "availability"

// kindReview is the job that leads an incident out of recovery.
const kindReview = "incident.review"

type activateArgs struct {
	By       string `json:"by,omitempty"`
	Why      string `json:"why,omitempty"` // what of the plan starts it, where nobody does
	Incident int64  `json:"incident"`
}

// snapshotJob is backup.SnapshotJob, named here because hands need it too.
func snapshotJob(store, reason string) job.Insert { return backup.SnapshotJob(store, reason) }

// wire makes the modules and joins them.
func (a *App) wire() {
	only := a.opt.Work.Jobs
	if a.opt.Work.Asked && only == nil {
		only = []string{}
	}
	a.Jobs = job.New(a.DB, job.Config{Owner: owner(a.opt.Workspace), Workers: workers, Program: holdfast.Version, Only: only, Clock: a.opt.Clock, Log: a.opt.Log})
	a.Backups = backup.New(backup.Config{
		DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Policies: a.policies, Source: a.source, Place: a.Places.Open, Line: a.Places.Line, May: a.mayHold, Recipients: a.recipients,
		Writer: a.writerOf, Signer: a.Keys.Source, Naming: func(store string) (backup.Naming, error) {
			return naming(a.opt.Workspace, a.Plan(), store, a.opt.Clock())
		}, Vault: a.Keys.Vault, CacheDir: a.opt.Workspace.cache(),
		Lost: a.storeLost, Found: a.storeFound, Gap: a.logGap, Failed: a.backupFailed, Foreign: a.foreign, Outside: a.outsideLook, Clock: a.opt.Clock, Log: a.opt.Log,
	})
	a.Drills = drill.New(drill.Config{
		DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Subject: a.subject, Place: a.Places.Open, Line: a.Places.Line, Identities: a.identities, Trusted: a.trusted,
		Box: a.box, Outside: a.outside, Failed: a.drillFailed, Passed: a.drillPassed, Vault: a.vaultKeys, Declared: a.declared, Period: a.quarter, ReadWithin: readWithin, ReadBudget: readBudget, Clock: a.opt.Clock,
	})
	a.Vault = vault.New(vault.Config{
		DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Plan: a.Plan, Kept: a.anythingKept, Proposed: func() *plan.Plan { return a.force.Load().proposed }, Place: a.Places.Open, Copies: a.remembered, Removed: a.Backups.Forget, Damaged: a.damaged, Overdue: a.overdue, Vetoed: a.vetoed,
		Proven: a.provenSnapshot, Anchors: a.thinAnchors, Log: postgres.LogNeed, Key: a.Keys.Vault, Trusted: a.trusted, Within: readWithin, Seen: a.opt.Workspace.seen(), Clock: a.opt.Clock, Apart: a.opt.Follows, Logger: a.opt.Log,
	})
	a.Recoveries = recovery.New(recovery.Config{
		DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Hands: hands{a}, Usable: a.servicesUsable, Finished: a.recoveryFinished, Clock: a.opt.Clock,
	})
	a.Incidents = incident.New(incident.Config{
		DB: a.DB, Ledger: facts{a}, Impact: a.impact, Usable: a.backAndWhole, Opened: a.incidentOpened, Clock: a.opt.Clock,
	})
	a.Duties = govern.New(govern.Config{DB: a.DB, Ledger: facts{a}, Plan: a.Plan, Observe: a.governed, Results: a.results, Count: a.counted, Clock: a.opt.Clock})
	a.Custody = survive.New(survive.Config{DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Facts: a.Ledger, Keys: a.custodians, Clock: a.opt.Clock})
	a.Access = a.access()
	a.Messages = message.New(message.Config{DB: a.DB, Jobs: a.Jobs, Ledger: facts{a}, Channel: a.channel, Receiver: a.receiver, Clock: a.opt.Clock})
	a.Calls = a.calls()
	a.Jobs.Handle(kindReview, a.review, job.HandlerOptions{Timeout: time.Minute, MaxAttempts: 10000, Backoff: func(int) time.Duration { return 5 * time.Second }})
	a.Jobs.Handle(kindActivate, a.activate, job.HandlerOptions{Timeout: 10 * time.Minute, MaxAttempts: 10000, Backoff: func(n int) time.Duration { return min(time.Duration(n)*time.Second, 10*time.Second) }})
}

// storeLost: a store stopped answering. It is a signal, and a signal that is not
// covered yet opens an incident.
func (a *App) storeLost(ctx context.Context, tx *db.Tx, l backup.Loss) error {
	inc, err := a.Incidents.Signal(ctx, tx, incident.Signal{
		Source: "probe", Dedup: "store-lost:" + l.Store, Store: l.Store, Title: "Store " + l.Store + " is lost", Kind: kindAvailability, Began: l.LastOK, At: l.DetectedAt, Detail: l.Error,
	})
	if err != nil || !a.Plan().Activation.Automatically(plan.EventStoreLost) {
		return err
	}
	in := a.activation(inc.ID, "")
	in.RunAt = l.DetectedAt.Add(a.Plan().Activation.ConfirmAfter.Approx())
	_, err = a.Jobs.Enqueue(ctx, tx, in)
	return err
}

func (a *App) storeFound(ctx context.Context, tx *db.Tx, store string, at time.Time) error {
	return a.Incidents.Clear(ctx, tx, "store-lost:"+store, "store "+store+" answers again", at)
}

// incidentOpened acknowledges at once what the machine answers itself.
func (a *App) incidentOpened(ctx context.Context, tx *db.Tx, inc incident.Incident) error {
	if !a.Plan().Activation.Automatically(plan.EventStoreLost) || inc.Kind != kindAvailability {
		return nil
	}
	_, err := a.Incidents.Advance(ctx, tx, inc.ID, incident.Move{To: incident.Assessment, Actor: "holdfast", Reason: "the plan lets the machine answer the loss of a store"})
	return err
}

// activate decides about a recovery: the loss was confirmed by time, so what is
// still lost is planned and carried out. A plan that cannot be made, because no
// location is within reach, is tried again until one is; the incident says so.
func (a *App) activate(ctx context.Context, w *job.Work) error {
	var args activateArgs
	if err := w.Decode(&args); err != nil {
		return job.Permanent(err)
	}
	inc, err := a.Incidents.Get(ctx, args.Incident)
	if err != nil {
		return job.Permanent(err)
	}
	lost, settling, err := a.stillLost(ctx, inc)
	if err != nil {
		return err
	}
	if settling != "" {
		return fmt.Errorf("store %q was brought back and does not answer: waiting to know whether it is lost again", settling)
	}
	if wavering, err := a.wavering(ctx); err != nil {
		return err
	} else if wavering != "" && len(lost) > 0 {
		// One plan for the whole loss is better than one for each store.
		return fmt.Errorf("store %q fails its probes too: waiting to know whether it is lost", wavering)
	}
	if !inc.Open() || len(lost) == 0 {
		return w.Done(ctx, nil, func(tx *db.Tx) error {
			return a.Incidents.Note(ctx, tx, inc.ID, "holdfast", "note", "nothing is lost any more: no recovery is needed", nil)
		})
	}
	in, err := a.recoveryInput(ctx, inc, lost)
	if err != nil {
		return err
	}
	p, err := planner.Make(in)
	if err != nil {
		var blocked *planner.Blocked
		if errors.As(err, &blocked) && w.Job().Attempt == 1 {
			if nerr := a.DB.Tx(ctx, func(tx *db.Tx) error {
				return a.Incidents.Note(ctx, tx, inc.ID, "holdfast", "note", "no recovery is possible yet: "+err.Error(), nil)
			}); nerr != nil {
				return errors.Join(err, nerr)
			}
		}
		return err
	}
	run := fmt.Sprintf("%s-%s", inc.Name(), p.Digest()[:8])
	return w.Done(ctx, run, func(tx *db.Tx) error {
		if err := a.begin(ctx, tx, inc, run, p, args); err != nil || len(p.Blocked) == 0 {
			return err
		}
		// The rest comes when a location is within reach again.
		again := a.activation(inc.ID, args.By)
		again.Args = args
		_, err := a.Jobs.Enqueue(ctx, tx, again)
		return err
	})
}

// activation is the job that plans and begins the recovery of an incident.
func (a *App) activation(incident int64, by string) job.Insert {
	return job.Insert{Kind: kindActivate, Key: fmt.Sprintf("%s:%d", kindActivate, incident), Args: activateArgs{Incident: incident, By: by}, Queue: "recovery", Priority: 10}
}

// begin activates a plan and moves the incident along with it.
func (a *App) begin(ctx context.Context, tx *db.Tx, inc incident.Incident, run string, p recovery.Plan, args activateArgs) error {
	by, actor := args.By, args.By
	if by == "" {
		by, actor = "holdfast, as "+cmp.Or(args.Why, "activation.automatic")+" of the plan allows", "holdfast"
	}
	for _, mv := range []incident.Move{
		{To: incident.Containment, Actor: actor, Activation: by, Reason: "lost: " + strings.Join(p.Lost, ", ")},
		{To: incident.Recovery, Actor: actor, Recovery: run, Reason: "recovery " + run},
	} {
		if slices.Index(incident.Phases, inc.Phase) >= slices.Index(incident.Phases, mv.To) {
			continue
		}
		var err error
		if inc, err = a.Incidents.Advance(ctx, tx, inc.ID, mv); err != nil {
			return err
		}
	}
	if err := a.Incidents.Note(ctx, tx, inc.ID, "holdfast", "plan", strings.Join(p.Notes, "; "), nil); err != nil {
		return err
	}
	return a.Recoveries.Activate(ctx, tx, run, inc.ID, p, actor)
}

// stillLost lists the stores of an incident that are lost now and that no running
// recovery brings back. settling is one that a recovery has just brought back and that
// does not answer: whether that is the same loss is known a little later.
func (a *App) stillLost(ctx context.Context, inc incident.Incident) (lost []string, settling string, err error) {
	runs, err := a.Recoveries.List(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, s := range inc.Stores {
		p, ok, err := a.Backups.Probe(ctx, s)
		if err != nil {
			return nil, "", err
		}
		if !ok || !p.Lost {
			continue
		}
		switch answeredBy(runs, s, p) {
		case nothing:
			lost = append(lost, s)
		case unsettled:
			settling = s
		}
	}
	return lost, settling, nil
}

// What the recoveries that go on have to do with the loss of a store.
type answer int

const (
	nothing   answer = iota // they do not bring it back
	unsettled               // one did, just now: it may not answer yet, or be lost again
	restoring               // one will
)

// answeredBy says how the recoveries that go on answer a loss. One that has the store
// back does not answer what happens to it later: if the store answered since and is lost
// now, or does not answer long after, it is another loss. A store can answer, and be lost
// again, before the step that brought it back is written down as done.
func answeredBy(runs []recovery.Run, store string, p backup.Probe) (best answer) {
	for _, r := range runs {
		if r.State != recovery.StateRunning || !slices.Contains(r.Plan.Lost, store) {
			continue
		}
		this := restoring
		for _, s := range r.Steps {
			if s.Kind != recovery.StepRestore || s.Store != store || s.State != recovery.StateDone {
				continue
			}
			if this = unsettled; p.LastOK.After(s.Finished) || !p.At.Before(s.Finished.Add(answersWithin)) {
				this = nothing
			}
		}
		best = max(best, this)
	}
	return best
}

// answersWithin is how long a store that came back may take to answer.
const answersWithin = 30 * time.Second

// backAndWhole lets an incident out of recovery when a store is back and protected
// again, and nothing of its recovery is left to do, for machines or for people.
func (a *App) backAndWhole(ctx context.Context, store string, since time.Time) (ok bool, why string, err error) {
	runs, err := a.Recoveries.List(ctx)
	if err != nil {
		return false, "", err
	}
	for _, r := range runs {
		if r.State != recovery.StateRunning || !slices.Contains(r.Plan.Lost, store) {
			continue
		}
		for _, s := range r.Steps {
			if s.State == recovery.StateAwaiting {
				return false, fmt.Sprintf("recovery %s waits for %s to do step %q (\"holdfast recover confirm\" says that it is done)", r.ID, s.Role, s.ID), nil
			}
		}
		return false, fmt.Sprintf("recovery %s still runs", r.ID), nil
	}
	return a.protectedSince(ctx, store, since)
}

// wavering names a store that failed its last probe and is not yet lost; "" if
// there is none. It is one or the other a few seconds later.
func (a *App) wavering(ctx context.Context) (string, error) {
	for _, p := range a.policies() {
		pr, ok, err := a.Backups.Probe(ctx, p.Store)
		if err != nil {
			return "", err
		}
		if ok && !pr.OK && !pr.Lost && !pr.LastOK.IsZero() {
			return p.Store, nil
		}
	}
	return "", nil
}

// recoveryInput gathers what the planner asks for.
func (a *App) recoveryInput(ctx context.Context, inc incident.Incident, lost []string) (planner.Input, error) {
	in := planner.Declared(a.Plan())
	in.Now, in.Disruption, in.Parent, in.Lost = a.opt.Clock(), inc.OccurredAt, inc.Recovery, lost
	for _, id := range lost {
		st, err := a.offers(ctx, id, in.Away)
		if err != nil {
			return in, err
		}
		in.Stores[id] = st
	}
	return in, nil
}

// offers asks each location what it can give back of a store.
func (a *App) offers(ctx context.Context, id string, away map[string]string) (planner.Store, error) {
	out := planner.Store{Basis: holdfast.Estimated, Estimate: time.Minute}
	if d, ok, err := a.Drills.LastPassed(ctx, id); err != nil {
		return out, err
	} else if ok && d.Parts != nil {
		out.Basis, out.Estimate = holdfast.Measured, d.Parts.Sum()
		for _, part := range d.Parts {
			if part.Name == "fetch" {
				out.Fetch = part.Duration
			}
		}
	}
	src, err := a.source(id)
	if err != nil {
		return out, err
	}
	for _, l := range a.Plan().Backups[a.Plan().Stores[id].Protect].Copies.Names() {
		r, err := a.Places.Open(ctx, l)
		if err != nil {
			away[l] = err.Error()
			continue
		}
		ws, err := src.Windows(ctx, r)
		if err != nil {
			away[l] = err.Error()
			continue
		}
		// A receipt that cannot be read costs its own snapshot's, not the location.
		receipts, err := r.Receipts(ctx, id)
		if err != nil {
			a.opt.Log.Warn("receipts not all read", "location", l, "store", id, "err", err)
		}
		for _, w := range ws {
			received := false
			for _, rc := range receipts {
				received = received || rc.Snapshot == w.Snapshot && rc.Verify(a.vaultKeys()...) == nil
			}
			out.Offers = append(out.Offers, planner.Offer{Location: l, Until: w.To, Received: received, Hole: w.Hole, Base: !w.To.After(w.NewestAt)})
		}
	}
	return out, nil
}

func (a *App) servicesUsable(ctx context.Context, tx *db.Tx, r recovery.Run) error {
	return a.Incidents.Note(ctx, tx, r.Incident, "holdfast", "recovery", "every service of the recovery is usable; its stores are being backed up again", nil)
}

// recoveryFinished leads the incident out of recovery, if everything that it is
// about is back and protected. If not, it stays, and says why.
func (a *App) recoveryFinished(ctx context.Context, tx *db.Tx, r recovery.Run) error {
	if r.State == recovery.StateFailed {
		return a.Incidents.Note(ctx, tx, r.Incident, "holdfast", "recovery", "recovery "+r.ID+" failed", nil)
	}
	_, err := a.Jobs.Enqueue(ctx, tx, job.Insert{Kind: kindReview, Key: fmt.Sprintf("%s:%d", kindReview, r.Incident), Args: activateArgs{Incident: r.Incident}})
	return err
}

// review moves an incident on once its guards allow it. What they miss is asked
// again: the job ends when the incident has moved.
func (a *App) review(ctx context.Context, w *job.Work) error {
	var args activateArgs
	if err := w.Decode(&args); err != nil {
		return job.Permanent(err)
	}
	return w.Done(ctx, nil, func(tx *db.Tx) error {
		_, err := a.Incidents.Advance(ctx, tx, args.Incident, incident.Move{To: incident.Review, Actor: "holdfast", Reason: "everything is back, checked and backed up again"})
		return err
	})
}

// drillFailed: a backup that does not restore is an incident before it is needed.
func (a *App) drillFailed(ctx context.Context, tx *db.Tx, d drill.Drill) error {
	detail := d.Error
	for _, c := range d.Checks {
		if detail == "" && c.Outcome == holdfast.Failed {
			detail = c.Name + ": " + c.Detail
		}
	}
	_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "drill", Dedup: "drill-failed:" + d.Store, Store: d.Store,
		Title: "Drill of " + d.Store + " failed", Kind: "recovery-drill", At: d.Finished, Detail: fmt.Sprintf("%s (drill %s)", detail, d.ID)})
	return err
}

// drillPassed: what failed before holds now. People still end the incident.
//
// A drill that proves that a promise cannot be kept is a signal, too, however well all
// came back.
func (a *App) drillPassed(ctx context.Context, tx *db.Tx, d drill.Drill) error {
	missed := "drill-missed:" + d.Store
	if d.Missed() {
		var why []string
		for _, v := range d.Verdicts {
			why = append(why, v.String())
		}
		if _, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "drill", Dedup: missed, Store: d.Store, Title: "Drill of " + d.Store + " missed its objective", Kind: "recovery-drill",
			At: d.Finished, Detail: fmt.Sprintf("%s (drill %s)", strings.Join(why, "; "), d.ID)}); err != nil {
			return err
		}
	} else if err := a.Incidents.Clear(ctx, tx, missed, "drill "+d.ID+" of "+d.Store+" kept its objectives", d.Finished); err != nil {
		return err
	}
	return a.Incidents.Clear(ctx, tx, "drill-failed:"+d.Store, "drill "+d.ID+" of "+d.Store+" passed", d.Finished)
}

// declared is a drill of the plan.
func (a *App) declared(name string) (drill.Declared, error) {
	for id, st := range a.Plan().Stores {
		if st.Elsewhere() && name == delegatedTest(id) {
			return drill.Declared{Stores: []string{id}, Pick: string(plan.PickRandom), Goal: holdfast.L0}, nil
		}
	}
	d, ok := a.Plan().Drills[name]
	if !ok {
		return drill.Declared{}, holdfast.WithHint(fmt.Errorf("drill %q is not in the plan: %w", name, holdfast.ErrUsage),
			"the plan's drills are %s", strings.Join(slices.Sorted(maps.Keys(a.Plan().Drills)), ", "))
	}
	out := drill.Declared{Stores: d.Of, Pick: string(d.PickOr()), Goal: holdfast.L8, From: d.From}
	for _, s := range d.Of {
		out.Goal = min(out.Goal, a.Plan().DrillRung(name, s))
	}
	return out, nil
}

// impact judges what the loss of a store means: the tighter the time to recover,
// the louder the call.
func (a *App) impact(store string) incident.Impact {
	im := incident.Impact{Severity: incident.SEV3, Commander: a.Plan().Person("incident_commander", false)}
	if store == "" {
		return im
	}
	im.Services = a.Plan().ServicesOf(store)
	switch rto := a.Plan().Promise(store).RTO; {
	case rto > 0 && rto <= 4*time.Hour:
		im.Severity = incident.SEV1
	case rto > 0 && rto <= 24*time.Hour:
		im.Severity = incident.SEV2
	}
	return im
}
