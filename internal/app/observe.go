package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/ledger"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
	"holdfast/internal/vault"
)

// Overview answers the first question, from the plan and everything observed.
func (a *App) Overview(ctx context.Context) (objective.Overview, error) {
	f, err := a.observed(ctx)
	if err != nil {
		return objective.Overview{}, err
	}
	o := objective.Look(a.Plan(), f)
	k, err := a.KeyHolders(ctx)
	if err != nil {
		return o, err
	}
	duties, err := a.dutyFindings(ctx)
	if err != nil {
		return o, err
	}
	copies, err := a.OfflineCopies(ctx)
	if err != nil {
		return o, err
	}
	demoted, err := a.demotedFindings(ctx)
	if err != nil {
		return o, err
	}
	duties = append(duties, demoted...)
	uncovered, err := a.coverFindings(ctx)
	duties = append(duties, uncovered...)
	// What is wrong with keys, with offline copies, or with the plan itself, nobody waives.
	o.Findings = slices.Concat(o.Findings, duties)
	slices.Concat(a.Plan().Waivers(), f.Waivers).Apply(o.Findings, f.Now)
	o.Findings = slices.Concat(o.Findings, k.Findings, copies.Findings, a.force.Load().waiting, a.rehearsing())
	return o, err
}

// observed gathers what is known.
func (a *App) observed(ctx context.Context) (objective.Facts, error) {
	seen := a.look(ctx)
	f := objective.Facts{Now: a.opt.Clock(), NextDrill: map[string]time.Time{}}
	rooms, err := a.Backups.Spaces(ctx, f.Now)
	if err != nil {
		return f, err
	}
	added, err := a.Backups.Added(ctx, f.Now.AddDate(0, 0, -1), f.Now)
	if err != nil {
		return f, err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		l := seen[name]
		lf := objective.LocationFact{Location: name, Reachable: l.err == nil && !l.at.IsZero(), Seen: l.at, Answered: l.answered}
		if l.err != nil {
			lf.Err = l.err.Error()
		}
		lf.Room, lf.Untold, lf.Added = objective.Room(l.room), l.untold, added[name]
		for _, r := range rooms[name] {
			lf.Rooms = append(lf.Rooms, objective.Room(r))
		}
		f.Locations = append(f.Locations, lf)
	}
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return f, err
	}
	if f.Delegated, err = a.delegatedFacts(ctx); err != nil {
		return f, err
	}
	if f.Copies, err = a.copyFacts(ctx, seen, ds); err != nil {
		return f, err
	}
	for _, d := range ds {
		if d.Ended() {
			f.Proofs = append(f.Proofs, drillProof(d))
		}
	}
	if f.Attested, err = a.attested(ctx); err != nil {
		return f, err
	}
	if err := a.answering(ctx, &f); err != nil {
		return f, err
	}
	if f.Owed, err = a.owed(ctx); err != nil {
		return f, err
	}
	if f.Figures, err = a.figures(ctx); err != nil {
		return f, err
	}
	rs, err := a.Recoveries.List(ctx)
	if err != nil {
		return f, err
	}
	for _, r := range rs {
		if r.Incident == 0 {
			continue
		}
		inc, err := a.Incidents.Get(ctx, r.Incident)
		if err != nil {
			return f, err
		}
		f.Proofs = append(f.Proofs, recoveryProofs(a.Plan(), r, inc)...)
	}
	if f.Versions, err = a.versions(ctx); err != nil {
		return f, err
	}
	if f.Waivers, err = a.approved(ctx); err != nil {
		return f, err
	}
	return f, a.nextDrills(ctx, &f)
}

// maxAttested bounds how many words of people are looked at, the newest.
const maxAttested = 10000

// attested are what people say that they did, as a plan's controls name it. They come from
// the ledger: whoever asks what is owed asks for all that is observed, and so for these.
func (a *App) attested(ctx context.Context) ([]objective.Attestation, error) {
	done, err := a.Ledger.Find(ctx, ledger.Query{Type: govern.FactDone, Limit: maxAttested, Newest: true})
	if err != nil {
		return nil, err
	}
	var out []objective.Attestation
	for _, f := range done {
		section, id, ok := strings.Cut(f.Subject, ".")
		if !ok {
			continue
		}
		var data struct {
			Duty string
			By   []string
			On   time.Time
		}
		if err := decodeFact(f, &data); err != nil {
			return nil, err
		}
		out = append(out, objective.Attestation{Ref: strings.TrimSuffix(section, "s") + ":" + id, ID: data.Duty, At: data.On, By: data.By})
	}
	slices.SortStableFunc(out, func(x, y objective.Attestation) int { return x.At.Compare(y.At) })
	return out, nil
}

// owed is what people owe next of what a plan's controls name, as the last look left it.
func (a *App) owed(ctx context.Context) (out []objective.Owed, err error) {
	open, err := a.Duties.Open(ctx, false)
	for _, d := range open {
		section, id, ok := strings.Cut(d.Name, ".")
		if !ok || !slices.Contains([]string{"reviews", "exercises", "measures"}, section) {
			continue
		}
		o := objective.Owed{Ref: strings.TrimSuffix(section, "s") + ":" + id, Due: d.Due, Late: d.Late}
		if !d.Since.IsZero() { // the one before was missed: this one is late already
			o.Due, o.Late = d.Since, d.Since
		}
		out = append(out, o)
	}
	return out, err
}

// maxVersions bounds how far back verdicts are given by the plan of their time.
const maxVersions = 100

// versions are the plans that were in force, oldest first. One that this version of Holdfast
// cannot read any more judges nothing; the fact of it stays in the ledger.
func (a *App) versions(ctx context.Context) ([]objective.Version, error) {
	facts, err := a.Ledger.Find(ctx, ledger.Query{Type: factPlan, Limit: maxVersions, Newest: true})
	if err != nil {
		return nil, err
	}
	var out []objective.Version
	for _, f := range slices.Backward(facts) {
		var v planFact
		if err := decodeFact(f, &v); err != nil {
			return nil, err
		}
		p := a.Plan()
		if v.Digest != p.Digest() {
			known, ok := a.old.Load(v.Digest)
			if !ok {
				parsed, err := plan.Parse(a.opt.Workspace.Plan(), []byte(v.Text))
				if err != nil {
					a.opt.Log.Warn("an old plan cannot be read", "digest", v.Digest, "err", err)
					continue
				}
				known, _ = a.old.LoadOrStore(v.Digest, parsed)
			}
			p = known.(*plan.Plan)
		}
		out = append(out, objective.Version{From: f.At, Plan: p})
	}
	return out, nil
}

// copyFacts joins what the locations were seen to hold with the vault's receipts
// and the logs' frontiers.
func (a *App) copyFacts(ctx context.Context, seen map[string]located, ds []drill.Drill) ([]objective.Copy, error) {
	held, err := a.Backups.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	fronts, err := a.Backups.AllFrontiers(ctx)
	if err != nil {
		return nil, err
	}
	read := drill.LastReads(ds)
	known, err := a.Vault.Damaged(ctx)
	if err != nil {
		return nil, err
	}
	damaged := map[backup.Spot][]vault.Damage{}
	for _, d := range known {
		at := backup.Spot{Store: d.Store, Location: d.Location}
		damaged[at] = append(damaged[at], d)
	}
	var out []objective.Copy
	for _, p := range a.policies() {
		for _, name := range p.Locations {
			at := backup.Spot{Store: p.Store, Location: name}
			h, v := held[at], seen[name].stores[p.Store]
			c := objective.Copy{Store: p.Store, Location: name, Windows: slices.Clone(v.windows), Received: h.Received, Verified: read[drill.Read(at)]}
			switch {
			case a.force.Load().stores[p.Store].err != nil:
				c.Err = a.force.Load().stores[p.Store].err.Error()
			case v.err != nil:
				c.Err = v.err.Error()
			}
			if fr, ok := fronts[at]; ok {
				c.Frontier = &objective.Frontier{Lineage: fr.Lineage, Timeline: fr.Timeline, CaughtUp: fr.CaughtUp, LastCommit: fr.LastCommit, At: fr.At, Err: fr.Err}
				// A base that began after the gap mends it.
				if fr.Gap != "" && !h.Newest.After(fr.GapAt) {
					c.Frontier.Gap = fr.Gap
				}
			}
			for _, d := range damaged[at] {
				harm(&c, d)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// harm takes from a copy what a known damage makes useless. A window counts only as long as
// its newest base is whole, since a recovery begins there; and behind a damaged piece of log
// nothing comes back that a newer base does not hold.
func harm(c *objective.Copy, d vault.Damage) {
	had := len(c.Windows)
	if strings.HasPrefix(d.Object, "logs/") {
		for i, w := range c.Windows {
			if !w.NewestAt.IsZero() && w.NewestAt.Before(d.Found) && w.To.After(w.NewestAt) {
				c.Windows[i].To = w.NewestAt
			}
		}
		if f := c.Frontier; f != nil && f.Gap == "" && !slices.ContainsFunc(c.Windows, func(w holdfast.Window) bool { return w.NewestAt.After(d.Found) }) {
			f.Gap = fmt.Sprintf("%s is %s", d.Object, d.What)
		}
		return
	}
	c.Windows = slices.DeleteFunc(c.Windows, func(w holdfast.Window) bool { return slices.Contains(d.Snapshots, cmp.Or(w.Newest, w.Snapshot)) })
	if had > 0 && len(c.Windows) == 0 {
		c.Damage = fmt.Sprintf("%s is %s, found %s", d.Object, d.What, d.Found.UTC().Format(time.RFC3339))
	}
}

// drillProof is what a finished drill proved.
func drillProof(d drill.Drill) objective.Proof {
	p := objective.Proof{Kind: objective.ProofDrill, ID: d.ID, Name: d.Name, Store: d.Store, At: d.Finished, Outcome: holdfast.Passed, Rung: d.Rung,
		Parts: d.Parts, Location: d.Location, Snapshot: d.Report.Snapshot, Note: d.Error}
	switch d.State {
	case drill.StateFailed:
		p.Outcome = holdfast.Failed
	case drill.StateShort:
		p.Outcome = holdfast.NotProven
	}
	p.DataAge, p.DataAgeKnown = d.DataAge()
	return p
}

// seenLately is how long before its loss a store's last commit must have been seen, so
// that nothing was committed in between that nobody knows of.
const seenLately = probeEvery + 3*time.Second

// lossAge is how much data a recovery did not bring back: from the last commit that came
// back to the last that was seen at the store.
//
// Where the store was not followed up to its end, it is how much that can be at most: the
// store was still there at its last probe, and gone at the next one. The earlier instant
// is the one that recovery times count from; here it would flatter.
func lossAge(inc incident.Incident, o recovery.Outcome) time.Duration {
	gone := inc.OccurredAt.Add(probeEvery)
	if inc.DetectedAt.Before(gone) {
		gone = inc.DetectedAt
	}
	seen := o.SourceSeen
	if o.SourceCommit.After(seen) {
		seen = o.SourceCommit
	}
	if o.Lost != nil && gone.Sub(seen) <= seenLately {
		return *o.Lost
	}
	return max(0, gone.Sub(o.DataUntil))
}

// recoveryProofs are what a real recovery proved, store by store and service by
// service. A service of which only some stores were lost has not shown how it comes
// back without all of them, unless even that was too slow or lost too much.
func recoveryProofs(pl *plan.Plan, r recovery.Run, inc incident.Incident) []objective.Proof {
	var out []objective.Proof
	lost := map[string]recovery.Done{}
	for _, s := range r.Steps {
		if s.Kind != recovery.StepRestore || s.State != recovery.StateDone {
			continue
		}
		lost[s.Store] = s
		p := objective.Proof{Kind: objective.ProofIncident, ID: inc.Name(), Store: s.Store, At: s.Finished, Outcome: holdfast.Passed, Rung: holdfast.L3,
			Parts: storeParts(r, s, inc), Location: s.Outcome.Location, Snapshot: s.Outcome.Snapshot}
		if s.Outcome.Replay > 0 {
			p.Rung = holdfast.L4
		}
		if !s.Outcome.DataUntil.IsZero() {
			p.DataAge, p.DataAgeKnown = lossAge(inc, s.Outcome), true
		}
		out = append(out, p)
	}
	for _, pr := range r.Plan.Predictions {
		at := r.UsableAt(pr.Service)
		if at.IsZero() {
			continue
		}
		p := objective.Proof{Kind: objective.ProofIncident, ID: inc.Name(), Service: pr.Service, At: at, Outcome: holdfast.Passed, Rung: holdfast.L4,
			Parts: r.Parts(pr.Service, inc.OccurredAt, inc.DetectedAt), Ends: ends(r, pr.Service, at, inc)}
		for _, s := range r.Steps {
			if l, ok := lost[s.Store]; ok && l.ID == s.ID && !s.Outcome.DataUntil.IsZero() {
				p.DataAge, p.DataAgeKnown, p.Location = max(p.DataAge, lossAge(inc, s.Outcome)), true, s.Location
			}
		}
		whole := !slices.ContainsFunc(pl.StoresOf(pr.Service), func(store string) bool { _, ok := lost[store]; return !ok })
		promise := pl.Promise(pr.Service)
		missed := promise.RTO > 0 && p.Parts.Sum() > promise.RTO || promise.RPO > 0 && p.DataAge > promise.RPO
		if !whole && !missed {
			continue
		}
		out = append(out, p)
	}
	return out
}

// ends are the instants of a recovery, from the disruption. Those that are not reached yet are not known.
func ends(r recovery.Run, service string, usable time.Time, inc incident.Incident) objective.Instants {
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return max(0, t.Sub(inc.OccurredAt))
	}
	out := objective.Instants{Detected: since(inc.DetectedAt), Declared: since(r.Activated), Usable: since(usable), Whole: since(usable)}
	for _, s := range r.Steps {
		if s.Kind != recovery.StepHuman {
			continue
		}
		if s.Finished.IsZero() {
			out.Whole = 0
			break
		}
		out.Whole = max(out.Whole, since(s.Finished))
	}
	if r.State == recovery.StateDone {
		out.Normal = since(r.Finished)
	}
	for stage, l := range r.Levels(service) {
		if out.Levels == nil {
			out.Levels = map[string]objective.LevelSeen{}
		}
		out.Levels[stage] = objective.LevelSeen{At: since(l.At), Seen: l.Detail}
	}
	return out
}

// storeParts splits the time until one store was back. What it waited for its turn
// is hand over: it is no work on the store, and another recovery need not wait.
func storeParts(r recovery.Run, s recovery.Done, inc incident.Incident) holdfast.Parts {
	o := s.Outcome
	part := func(name string, d time.Duration) holdfast.Part {
		if d <= 0 { // a folder has no log to replay
			return holdfast.Part{Name: name, Basis: holdfast.NotApplicable}
		}
		return holdfast.Part{Name: name, Duration: d, Basis: holdfast.Measured}
	}
	parts := holdfast.Parts{
		{Name: "detect", Duration: max(0, inc.DetectedAt.Sub(inc.OccurredAt)), Basis: holdfast.Measured}, {Name: "decide", Duration: max(0, r.Activated.Sub(inc.DetectedAt)), Basis: holdfast.Measured},
		{Name: "provision", Duration: o.Provision, Basis: holdfast.Measured}, {Name: "fetch", Duration: o.Fetch, Basis: holdfast.Measured},
		part("replay", o.Replay), part("verify", o.Verify),
	}
	return append(parts, holdfast.Part{Name: "hand over", Duration: max(0, s.Finished.Sub(inc.OccurredAt)-parts.Sum()), Basis: holdfast.Measured})
}

// nextDrills reads from the slots when each store is drilled next.
func (a *App) nextDrills(ctx context.Context, f *objective.Facts) error {
	next := func(schedule string, of ...string) error {
		slots, err := a.Jobs.Slots(ctx, schedule, f.Now, f.Now.AddDate(1, 0, 0))
		for _, s := range slots {
			for _, st := range of {
				if old := f.NextDrill[st]; old.IsZero() || s.Due.Before(old) {
					f.NextDrill[st] = s.Due
				}
			}
		}
		return err
	}
	for name, d := range a.Plan().Drills {
		if err := next(drillSchedule(name), d.Of...); err != nil {
			return err
		}
	}
	for id, st := range a.Plan().Stores {
		if _, tested := st.Delegated.Tests(); !tested {
			continue
		}
		if err := next(delegatedTest(id)+".test_every", id); err != nil {
			return err
		}
	}
	return nil
}
