package app

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

// Names of schedules. Evidence derives the expected slots from the plan by the
// same names, so that a scheduler that was dead cannot hide what it left out.
func backupSchedule(store string) string { return "stores." + store }
func drillSchedule(drill string) string  { return "drills." + drill }

// ReadTrusted reads the public keys that a verifier holds.
func ReadTrusted(path string) (evidence.Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return evidence.Keys{}, holdfast.WithHint(err, "name the file with the keys that you hold: --keys FILE")
	}
	return evidence.ParseKeys(string(b))
}

// origin names the ledger of an installation.
func origin(p *plan.Plan) string { return originOf(p.Repository.ID) }

func originOf(repositoryID string) string { return "holdfast/" + repositoryID }

// Evidence builds a pack for a period.
func (a *App) Evidence(ctx context.Context, e api.Export) ([]byte, error) {
	o, err := a.Overview(ctx)
	if err != nil {
		return nil, err
	}
	approved, err := a.approved(ctx)
	if err != nil {
		return nil, err
	}
	in := evidence.Input{Company: a.Plan().Org.Name, Framework: e.Framework, From: e.From, To: e.To, Made: a.opt.Clock(), Log: a.Ledger,
		Findings: slices.Concat(plan.Check(a.Plan(), a.opt.Clock(), approved...), o.Findings)}
	if in.Plans, err = a.plansInForce(ctx); err != nil {
		return nil, err
	}
	if in.Slots, err = a.slots(ctx, e.From, e.To); err != nil {
		return nil, err
	}
	for _, population := range []func(context.Context, time.Time, time.Time) (evidence.Population, error){a.backupRows, a.drillRows, a.incidentRows, a.metricRows, a.coverRows, a.encryptionRows, a.runRows} {
		p, err := population(ctx, e.From, e.To)
		if err != nil {
			return nil, err
		}
		in.Populations = append(in.Populations, p)
	}
	rests, err := a.restsOn(ctx)
	if err != nil {
		return nil, err
	}
	in.Posture = postures(o, rests)
	f, err := a.observed(ctx)
	if err != nil {
		return nil, err
	}
	in.Controls = a.controls(f, e.Framework, rests)
	return evidence.Build(ctx, in, evidence.Signing{Evidence: a.Keys.Evidence, Log: a.Keys.Log.Public(), Origin: origin(a.Plan())})
}

// plansInForce are the versions of the plan, each from when it was in force.
func (a *App) plansInForce(ctx context.Context) ([]evidence.Plan, error) {
	facts, err := a.Ledger.Find(ctx, ledger.Query{Type: factPlan, Limit: maxPlans})
	if err != nil {
		return nil, err
	}
	var out []evidence.Plan
	for _, f := range facts {
		var v planFact
		if err := decodeFact(f, &v); err != nil {
			return nil, err
		}
		out = append(out, evidence.Plan{Text: []byte(v.Text), Digest: v.Digest, From: f.At})
	}
	return out, nil
}

// maxPlans bounds the versions of the plan in one pack.
const maxPlans = 1000

// slots are the expected pieces of work with what came of them.
func (a *App) slots(ctx context.Context, from, to time.Time) ([]evidence.Slot, error) {
	states := map[string]evidence.State{job.SlotExpected: evidence.Expected, job.SlotStarted: evidence.Started, job.SlotDone: evidence.Done, job.SlotFailed: evidence.Failed, job.SlotMissed: evidence.Missed}
	ends, err := a.slotFacts(ctx, from)
	if err != nil {
		return nil, err
	}
	var out []evidence.Slot
	plans, err := a.plansInForce(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{} // what the plan in force does not ask for any more was done all the same, or not
	for _, sch := range a.schedules() {
		names[sch.Name] = true
	}
	for _, v := range plans {
		p, err := plan.Parse("plan.yaml", v.Text)
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", v.Digest, err)
		}
		for _, sch := range delegatedSchedules(p) {
			names[sch.Name] = true
		}
		for id := range p.Stores {
			names[backupSchedule(id)] = true
		}
		for id := range p.Drills {
			names[drillSchedule(id)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ss, err := a.Jobs.Slots(ctx, name, from, to)
		if err != nil {
			return nil, err
		}
		for _, s := range ss {
			slot := evidence.Slot{Schedule: s.Schedule, Due: s.Due, Deadline: s.Deadline, State: states[s.State], Finished: s.Finished, Fact: -1, Note: s.Note}
			if i, ok := ends[s.Job]; ok && s.Job != 0 {
				slot.Fact = i
			}
			out = append(out, slot)
		}
	}
	return out, nil
}

// slotFacts finds, for each scheduled job, the fact that tells how its work ended.
func (a *App) slotFacts(ctx context.Context, from time.Time) (map[int64]int64, error) {
	ends := map[int64]int64{}
	for _, kind := range []string{backup.FactFailed, backup.FactSnapshot, "drill." + drill.StatePassed, "drill." + drill.StateShort, "drill." + drill.StateFailed} { // of several drills of one slot the worst tells
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: kind, From: from})
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			var of struct {
				Job  int64 `json:"job"`
				Slot int64 `json:"slot_job"`
			}
			if err := decodeFact(f, &of); err != nil {
				return nil, err
			}
			if id := max(of.Job, of.Slot); id != 0 {
				ends[id] = f.Index
			}
		}
	}
	return ends, nil
}

func (a *App) backupRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "backups", Query: "every snapshot of every store in every location of the plan, by the instant it stands for",
		Columns: []string{"store", "snapshot", "kind", "created", "location", "state", "received", "bytes", "files", "detail", "line"}}
	for _, pol := range a.policies() {
		cs, err := a.Backups.Copies(ctx, pol.Store)
		if err != nil {
			return p, err
		}
		for _, c := range cs {
			if inPeriod(c.Created, from, to) {
				p.Rows = append(p.Rows, []string{c.Store, c.Snapshot, c.Kind, stamp(c.Created), c.Location, c.State, stamp(c.Received), strconv.FormatInt(c.Bytes, 10), strconv.FormatInt(c.Files, 10), c.Detail, c.Line})
			}
		}
		if len(cs) == backup.MaxCopies {
			p.Excluded = append(p.Excluded, fmt.Sprintf("store %s: only the newest %d copies", pol.Store, backup.MaxCopies))
		}
	}
	return p, nil
}

func (a *App) drillRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "drills", Query: "every drill that was planned, whether or not it ended, by the time of planning",
		Columns: []string{"drill", "name", "store", "location", "pick", "seed", "target", "planned", "finished", "state", "rung", "goal", "restore_seconds", "unread_fraction", "fact", "error"}}
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return p, err
	}
	if len(ds) == drill.MaxDrills {
		p.Excluded = append(p.Excluded, fmt.Sprintf("only the newest %d drills", drill.MaxDrills))
	}
	for _, d := range slices.Backward(ds) {
		if inPeriod(d.Planned, from, to) {
			p.Rows = append(p.Rows, []string{d.ID, d.Name, d.Store, d.Location, d.Pick, strconv.FormatUint(d.Seed, 10), d.Target.String(), stamp(d.Planned), stamp(d.Finished), d.State,
				d.Rung.String(), d.Goal.String(), fmt.Sprintf("%.3f", d.Parts.Sum().Seconds()), fmt.Sprintf("%.4f", d.Unread), strconv.FormatInt(d.Fact, 10), d.Error})
		}
	}
	return p, nil
}

func (a *App) incidentRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "incidents", Query: "every incident, by the time of detection",
		Columns: []string{"incident", "severity", "title", "occurred", "detected", "recovered", "closed", "phase", "recovery", "outcome"}}
	is, err := a.Incidents.List(ctx, false)
	if err != nil {
		return p, err
	}
	if len(is) == incident.MaxIncidents {
		p.Excluded = append(p.Excluded, fmt.Sprintf("only the newest %d incidents", incident.MaxIncidents))
	}
	for _, i := range slices.Backward(is) {
		if inPeriod(i.DetectedAt, from, to) {
			p.Rows = append(p.Rows, []string{i.Name(), string(i.Severity), i.Title, stamp(i.OccurredAt), stamp(i.DetectedAt), stamp(i.RecoveredAt), stamp(i.ClosedAt), string(i.Phase), i.Recovery, i.Outcome})
		}
	}
	return p, nil
}

func inPeriod(t, from, to time.Time) bool { return !t.Before(from) && t.Before(to) }

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// restsOn finds the facts behind each measurement, by the name that the overview
// gives it as its source.
func (a *App) restsOn(ctx context.Context) (map[string][]int64, error) {
	rests := map[string][]int64{}
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		if d.Fact >= 0 {
			rests[fmt.Sprintf("%s %s", objective.ProofDrill, d.ID)] = []int64{d.Fact}
		}
	}
	if err := a.restOnMetrics(ctx, rests); err != nil {
		return nil, err
	}
	done, err := a.Ledger.Find(ctx, ledger.Query{Type: govern.FactDone, Limit: maxAttested, Newest: true})
	if err != nil {
		return nil, err
	}
	for _, f := range done {
		var of struct{ Duty string }
		if err := decodeFact(f, &of); err != nil {
			return nil, err
		}
		rests[of.Duty] = []int64{f.Index}
	}
	rs, err := a.Recoveries.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rs {
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: "recovery.*", Subject: "recoveries." + r.ID})
		if err != nil {
			return nil, err
		}
		source := fmt.Sprintf("%s %s", objective.ProofIncident, incident.Incident{ID: r.Incident}.Name())
		for _, f := range fs {
			rests[source] = append(rests[source], f.Index)
		}
	}
	return rests, nil
}

// postures flattens an overview for the pack.
func postures(o objective.Overview, rests map[string][]int64) []evidence.Posture {
	var out []evidence.Posture
	add := func(subject, what string, s objective.ObjectiveState, parts []int64) {
		facts := rests[s.Source]
		if s.Source == "" {
			facts = parts // no single measurement: a sum of what drills measured
		}
		out = append(out, evidence.Posture{Subject: subject, What: what, Posture: s.Posture, Grade: s.Grade, Since: s.LatestAt, Detail: s.Why, Facts: facts})
	}
	drilled := map[string][]int64{} // by store
	for _, s := range o.Stores {
		if s.LastDrill != nil {
			drilled[s.ID] = rests[fmt.Sprintf("%s %s", objective.ProofDrill, s.LastDrill.ID)]
		}
	}
	for _, s := range o.Services {
		var parts []int64
		for _, st := range s.Stores {
			parts = append(parts, drilled[st]...)
		}
		add("services."+s.ID, "rto", s.RTO, parts)
		add("services."+s.ID, "rpo", s.RPO, parts)
	}
	for _, s := range o.Stores {
		add("stores."+s.ID, "rto", s.RTO, drilled[s.ID])
		add("stores."+s.ID, "rpo", s.RPO, drilled[s.ID])
	}
	return out
}

// controls says for each clause of the plan's frameworks what stands for it now, with the facts that it
// rests on.
func (a *App) controls(f objective.Facts, framework string, rests map[string][]int64) []evidence.Control {
	var out []evidence.Control
	for _, s := range objective.Controls(a.Plan(), f) {
		if framework != "" && s.Framework != framework {
			continue
		}
		c := evidence.Control{Framework: s.Framework, ID: s.Clause, Title: s.Name, By: a.Plan().Controls[s.ID], Posture: s.Posture, Detail: s.Why}
		for _, source := range s.Sources {
			c.Facts = append(c.Facts, rests[source]...)
		}
		out = append(out, c)
	}
	return out
}
