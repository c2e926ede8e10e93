package objective

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/planner"
)

// fates reads from the planner's plan what becomes of each service and store.
func (s *simulator) fates(out *Simulation, in planner.Input, pl planner.Plan, f plan.Fallen) {
	predicted := map[string]planner.Prediction{}
	for _, x := range pl.Predictions {
		predicted[x.Service] = x
	}
	begin, detect := s.beginning(out, pl, in)
	clock := time.Duration(0) // of the RTOs, from the disruption
	switch s.p.RTOClock() {
	case plan.ClockDetection:
		clock = detect
	case plan.ClockDeclaration:
		clock = begin
	}
	missing := s.missing(in, pl)
	steps := map[string]planner.Step{}
	for _, x := range pl.Steps {
		steps[x.ID] = x
	}
	s.bars(out, pl, begin, missing)
	losses := map[string]Loss{}
	for _, id := range slices.Sorted(maps.Keys(s.p.Stores)) {
		st := s.storeFate(id, out.Scenario, in, f, steps, begin-clock)
		losses[id] = st.Loss
		out.Stores = append(out.Stores, st)
		out.Missed = out.Missed || st.InTime == Over || st.Loss.Verdict == Over || st.Bare != ""
	}
	for _, id := range slices.Sorted(maps.Keys(s.p.Services)) {
		v := Fate{ID: id, Tier: s.p.Services[id].Tier, State: FateRuns, Known: TimeProven, InTime: NoVerdict, Why: "nothing that it cannot run without is lost"}
		v.RTO, v.RPO = s.promises(id, out.Scenario)
		v.Loss = Loss{State: LossBounded, Verdict: NoVerdict, Why: "none of its data is lost"}
		if pr, hit := predicted[id]; hit {
			s.back(&v, pr, steps, missing, begin-clock)
			s.harm(&v, out.Scenario, Instants{Detected: detect, Declared: begin, Usable: begin + steps["check-"+id].End, Whole: begin + pr.Time, Foreseen: true})
			v.Loss = s.lossOf(id, f, losses)
			v.Loss.Verdict = verdictOf(v.Loss, v.RPO.Target.Duration(), v.RPO.Limit.Duration())
			out.Missed = out.Missed || v.InTime == Over || v.Loss.Verdict == Over
			out.State = worseTime(out.State, v.Known)
		}
		out.Services = append(out.Services, v)
	}
	rank := map[FateState]int{FateBack: 0, FateNever: 1, FateRuns: 2}
	slices.SortStableFunc(out.Services, func(a, b Fate) int {
		return cmp.Or(cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(a.Outage, b.Outage))
	})
	out.Total = Seconds(begin + pl.Time)
	if len(pl.Steps) == 0 {
		out.Total, out.State = 0, TimeProven
	}
	out.Choices = append(out.Choices, pl.Choices...)
	out.Notes = append(out.Notes, pl.Notes...)
	out.People = duties(out.Timeline)
}

// worseTime returns what is known less well.
func worseTime(a, b TimeState) TimeState {
	rank := map[TimeState]int{TimeProven: 0, TimeEstimated: 1, TimeUnknown: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// beginning is how long it takes until the recovery begins, and of that until it is noticed: the
// slowest of what stopped, because it is one incident.
func (s *simulator) beginning(out *Simulation, pl planner.Plan, in planner.Input) (begin, detect time.Duration) {
	parts := map[string]PartTime{}
	take := func(w work) {
		for _, x := range w.parts {
			if old, ok := parts[x.Name]; !ok || x.Time > old.Time {
				parts[x.Name] = x
			}
		}
	}
	for _, x := range pl.Predictions {
		take(s.starts[x.Service])
	}
	if len(pl.Predictions) == 0 {
		for _, id := range in.Lost {
			take(s.start([]string{id}, ""))
		}
	}
	for _, name := range []string{"detect", "decide"} {
		if x, ok := parts[name]; ok {
			if name == "detect" {
				detect = x.Time.Duration()
			}
			title := map[string]string{"detect": "Notice that it is lost", "decide": "Decide to recover"}[name]
			out.Timeline = append(out.Timeline, Bar{ID: name, Kind: name, Title: title, Begin: Seconds(begin), End: Seconds(begin) + x.Time, Basis: x.Basis})
			begin += x.Time.Duration()
		}
	}
	return begin, detect
}

// missing says for each step of a plan what in it has no number.
func (s *simulator) missing(in planner.Input, pl planner.Plan) map[string][]string {
	out := map[string][]string{}
	for _, x := range pl.Steps {
		switch {
		case x.Kind == planner.StepRestore:
			for _, m := range slices.Sorted(maps.Keys(s.restores[x.Store].missing)) {
				out[x.ID] = append(out[x.ID], "restore of "+m)
			}
		case (x.Kind == planner.StepHuman || x.Kind == planner.StepOutside) && x.Estimate == 0 && x.Blocked == "":
			out[x.ID] = []string{x.ID}
		}
	}
	return out
}

// bars is the time line, and out.Critical what decides its length.
func (s *simulator) bars(out *Simulation, pl planner.Plan, begin time.Duration, missing map[string][]string) {
	for _, x := range out.Timeline {
		out.Critical = append(out.Critical, x.ID)
	}
	out.Critical = append(out.Critical, pl.Critical...)
	var bars []Bar
	for _, x := range pl.Steps {
		if x.Kind == planner.StepProtect || x.Kind == planner.StepLevel {
			continue
		}
		b := Bar{ID: x.ID, Kind: string(x.Kind), Title: x.Title, Basis: x.Basis, By: x.By, Held: x.Held, Blocked: x.Blocked, NoTime: len(missing[x.ID]) > 0}
		if x.Blocked == "" {
			b.Begin, b.End = Seconds(begin+x.Begin), Seconds(begin+x.End)
		}
		bars = append(bars, b)
	}
	slices.SortStableFunc(bars, func(a, b Bar) int {
		return cmp.Or(cmp.Compare(min(1, len(a.Blocked)), min(1, len(b.Blocked))), cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	out.Timeline = append(out.Timeline, bars...)
}

// back is when a service is usable again.
func (s *simulator) back(v *Fate, pr planner.Prediction, steps map[string]planner.Step, missing map[string][]string, begin time.Duration) {
	start := s.starts[v.ID]
	lack := map[string]bool{}
	guessed := start.guessed
	for m := range start.missing {
		lack[m] = true
	}
	seen := map[string]bool{}
	queue := slices.Clone(pr.Steps)
	for ; len(queue) > 0; queue = queue[1:] {
		id := queue[0]
		if seen[id] {
			continue
		}
		seen[id] = true
		for _, m := range missing[id] {
			lack[m] = true
		}
		if x := steps[id]; x.Basis != holdfast.Measured && x.Estimate > 0 {
			guessed = true
		}
		queue = append(queue, steps[id].After...)
	}
	v.Missing = slices.Sorted(maps.Keys(lack))
	switch {
	case len(v.Missing) > 0:
		v.Known = TimeUnknown
	case guessed:
		v.Known = TimeEstimated
	}
	if pr.Blocked != "" {
		v.State, v.Why, v.Known = FateNever, pr.Blocked, TimeUnknown
		if v.InTime = NoVerdict; v.RTO.Limit > 0 {
			v.InTime = Over
		}
		return
	}
	v.State, v.Outage = FateBack, Seconds(begin+pr.Time)
	v.InTime = Judge(v.Outage.Duration(), v.RTO.Target.Duration(), v.RTO.Limit.Duration())
	if v.Known == TimeUnknown && v.InTime != Over && v.RTO.Limit > 0 {
		v.InTime = CannotSay
	}
	v.Why = "back after " + v.Text()
	if held := steps["check-"+v.ID].Held; held != "" {
		v.Why += ", last after " + held
	}
	if len(v.Missing) > 0 {
		v.Why += "; no number for " + list(v.Missing)
	}
}

// harm is what an outage does by the impact analysis of the service, and how it stands stage by stage.
func (s *simulator) harm(v *Fate, scenario string, at Instants) {
	svc := s.p.Services[v.ID]
	mtd := svc.MTD
	if mtd.IsZero() {
		mtd = s.p.Tiers[svc.Tier].MTD
	}
	if sc := s.p.Tiers[svc.Tier].Scenarios[scenario].MTD; scenario != "" && !sc.IsZero() {
		mtd = sc
	}
	v.MTD = Seconds(mtd.Approx())
	if svc.BIA != nil {
		if a := svc.BIA.Analyse(); a.Tolerable > 0 && (v.MTD == 0 || Seconds(a.Tolerable) < v.MTD) {
			v.MTD = Seconds(a.Tolerable)
		}
		if v.State == FateBack {
			harm, cost := svc.BIA.Harm(at.Whole)
			v.Harm, v.Cost = harm.Level, cost
		} else {
			v.Harm = plan.MaxImpact
		}
	}
	v.Harmed = v.MTD > 0 && (v.State == FateNever || at.Whole > v.MTD.Duration())
	rto, _ := s.p.ObjectiveIn(v.ID, scenario)
	if v.State == FateNever {
		at = Instants{}
	}
	v.Stages = Stages(rto.Objective, s.p.RTOClock(), at)
}

// promises are the objectives of a service or store that hold in a scenario.
func (s *simulator) promises(id, scenario string) (rto, rpo Promise) {
	r, q := s.p.ObjectiveIn(id, scenario)
	return s.promise(r), s.promise(q)
}

func (s *simulator) promise(d plan.Declared) Promise {
	limit, _ := d.Duration()
	out := Promise{Declared: d.Objective.String(), Target: Seconds(d.Target.Approx()), Limit: Seconds(limit)}
	if d.Path != "" {
		pos := s.p.Position(d.Path)
		out.From = fmt.Sprintf("%s, %s:%d", d.Path, pos.File, pos.Line)
	}
	return out
}

// storeFate is what becomes of one store, and what is left of its copies.
func (s *simulator) storeFate(id, scenario string, in planner.Input, f plan.Fallen, steps map[string]planner.Step, begin time.Duration) StoreFate {
	v := StoreFate{Fate: Fate{ID: id, Tier: s.p.Stores[id].Tier, State: FateRuns, Known: TimeProven, InTime: NoVerdict, Why: "it is not lost"}, Copies: []Survivor{}}
	v.RTO, v.RPO = s.promises(id, scenario)
	v.Loss = Loss{State: LossBounded, Verdict: NoVerdict, Why: "none of it is lost"}
	left := s.left(id, f)
	for _, e := range left {
		if e.State == LossBounded {
			v.Copies = append(v.Copies, Survivor{e.Location, e.Age, e.Why})
		}
	}
	slices.SortStableFunc(v.Copies, func(a, b Survivor) int { return cmp.Compare(a.Age, b.Age) })
	locked := s.locked(f)
	if f.Stores[id] == "" {
		switch {
		case s.bare[id]:
			v.Unprotected = true
		case locked != "" && len(v.Copies) > 0:
			v.Bare = locked
		case len(v.Copies) == 0:
			v.Bare = "no location that is left gives it back"
		}
		return v
	}
	v.Why = f.Stores[id]
	v.Loss = LossIn(Scenario{ID: scenario}, left, v.RPO.Target.Duration(), v.RPO.Limit.Duration())
	if in.Stores[id].Locked != "" {
		v.Loss = Loss{State: LossEverything, Why: locked}
		v.Loss.Verdict = verdictOf(v.Loss, v.RPO.Target.Duration(), v.RPO.Limit.Duration())
	}
	x := steps["restore-"+id]
	r := s.restores[id]
	v.Missing = slices.Sorted(maps.Keys(r.missing))
	switch {
	case len(v.Missing) > 0:
		v.Known = TimeUnknown
	case r.basis != holdfast.Measured:
		v.Known = TimeEstimated
	}
	if x.Blocked != "" {
		v.State, v.Known, v.Why = FateNever, TimeUnknown, x.Blocked
		if v.RTO.Limit > 0 {
			v.InTime = Over
		}
		return v
	}
	v.State, v.Outage = FateBack, Seconds(begin+x.End)
	v.InTime = Judge(v.Outage.Duration(), v.RTO.Target.Duration(), v.RTO.Limit.Duration())
	if v.Known == TimeUnknown && v.InTime != Over && v.RTO.Limit > 0 {
		v.InTime = CannotSay
	}
	return v
}

// lossOf is the worst loss of the stores that a service cannot run without.
func (s *simulator) lossOf(service string, f plan.Fallen, losses map[string]Loss) Loss {
	out := Loss{State: LossBounded, Why: "none of its data is lost"}
	for _, id := range s.storesOf(service) {
		if f.Stores[id] == "" {
			continue
		}
		l := losses[id]
		l.Why = id + ": " + l.Why
		if out.Location == "" && out.State == LossBounded && out.Age == 0 || worseLoss(l, out) {
			out = l
		}
	}
	return out
}

// duties are what people do of a time line, the busiest first.
func duties(bars []Bar) []Duty {
	by := map[string]*Duty{}
	for _, b := range bars {
		for _, p := range b.By {
			if by[p] == nil {
				by[p] = &Duty{Person: p}
			}
			by[p].Steps = append(by[p].Steps, b.ID)
			by[p].Busy += b.End - b.Begin
		}
	}
	out := []Duty{}
	for _, p := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[p])
	}
	slices.SortStableFunc(out, func(a, b Duty) int { return -cmp.Compare(a.Busy, b.Busy) })
	return out
}

// assume says what the numbers rest on.
func (s *simulator) assume(out *Simulation, f plan.Fallen) {
	say := func(format string, args ...any) {
		out.Assumptions = append(out.Assumptions, fmt.Sprintf(format, args...))
	}
	if !out.Observed {
		say("nothing was looked at: copies are as old as the plan's schedules allow, and restores take what its runbooks estimate")
	}
	if f.ControlPlane != "" {
		say("Holdfast itself is lost too (%s): it comes back from one location and one key, and that time is not in these numbers", f.ControlPlane)
	}
	var guessed, unseen []string
	for _, st := range out.Stores {
		if st.State == FateBack && s.restores[st.ID].basis != holdfast.Measured {
			guessed = append(guessed, st.ID)
		}
		for _, e := range s.left(st.ID, f) {
			if e.State == LossUnknown && !slices.Contains(unseen, e.Why) {
				unseen = append(unseen, e.Why)
			}
		}
	}
	if len(guessed) > 0 && out.Observed {
		say("the restore of %s was not measured lately: the plan's estimate counts", list(guessed))
	}
	for _, why := range unseen {
		say("what nobody knows does not count as there: %s", why)
	}
	if len(out.People) > 0 {
		say("everybody who is not lost can be reached at once, works without a pause, and does one step at a time")
	}
	if len(f.Stores) > 1 {
		say("restores that read from one location share it in equal parts")
	}
	if len(f.Keys) < len(s.p.Keys) && len(f.Stores) > 0 {
		say("the private keys are not kept where something is lost")
	}
	var unable []string
	for id := range s.p.Runbooks {
		var can, left []string
		for who, x := range s.p.People {
			if slices.Contains(x.Can, id) {
				can = append(can, who)
				if f.People[who] == "" {
					left = append(left, who)
				}
			}
		}
		if len(can) > 0 && len(left) == 0 {
			unable = append(unable, id)
		}
	}
	if slices.Sort(unable); len(unable) > 0 {
		say("nobody who is left has shown that they can carry out %s", list(unable))
	}
}

// sentence is the answer in one line.
func (out *Simulation) sentence() string {
	stopped, never, missed, bare := 0, []string{}, []string{}, []string{}
	var worst Loss
	for _, v := range out.Services {
		if v.State != FateRuns {
			stopped++
		}
		if v.State == FateNever {
			never = append(never, v.ID)
		}
		if v.InTime == Over {
			missed = append(missed, v.ID+" (RTO)")
		}
		if v.Loss.Verdict == Over {
			missed = append(missed, v.ID+" (RPO)")
		}
	}
	for _, v := range out.Stores {
		if v.State != FateRuns && worseLoss(v.Loss, worst) {
			worst = v.Loss
		}
		if v.State == FateNever && !slices.Contains(never, v.ID) {
			never = append(never, v.ID)
		}
		if v.Bare != "" {
			bare = append(bare, v.ID)
		}
		if v.InTime == Over {
			missed = append(missed, v.ID+" (RTO)")
		}
		if v.Loss.Verdict == Over {
			missed = append(missed, v.ID+" (RPO)")
		}
	}
	var clauses []string
	if stopped == 0 && out.Total == 0 {
		clauses = append(clauses, "nothing would stop")
	} else {
		clauses = append(clauses, fmt.Sprintf("%d of %d services would stop", stopped, len(out.Services)))
		if out.Total > 0 {
			clauses = append(clauses, "the last that can come back would be back after "+Prediction{State: out.State, Total: out.Total}.Text())
		}
	}
	if worst.State == LossBounded && worst.Age > 0 {
		clauses = append(clauses, worst.Age.String()+" of data would be lost")
	}
	if len(never) > 0 {
		clauses = append(clauses, list(never)+" would never come back")
	}
	if len(bare) > 0 {
		clauses = append(clauses, list(bare)+" would have no way back any more")
	}
	if len(missed) > 0 {
		clauses = append(clauses, "missed: "+strings.Join(missed, ", "))
	}
	return "If " + strings.Join(out.Lost, " and ") + " were lost: " + strings.Join(clauses, "; ") + "."
}
