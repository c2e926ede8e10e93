package objective

import (
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// work is a stretch of a recovery whose time is the sum of its parts.
type work struct {
	total   time.Duration
	parts   []PartTime
	path    []string
	missing map[string]bool // what has no number, anywhere in it
	guessed bool            // something in it, also beside the path, is not measured
}

func (w *work) add(x PartTime) {
	w.total += x.Time.Duration()
	w.parts = append(w.parts, x)
	if x.Basis != holdfast.Measured {
		w.guessed = true
	}
}

func (w *work) lack(what string) {
	if w.missing == nil {
		w.missing = map[string]bool{}
	}
	w.missing[what] = true
}

// then returns w followed by x.
func (w work) then(x work) work {
	out := work{total: w.total + x.total, parts: slices.Concat(w.parts, x.parts), path: slices.Concat(w.path, x.path)}
	out.taint(w)
	out.taint(x)
	return out
}

// taint takes over what is not known of x, without its time: x happens beside w and
// is shorter, but only as far as is known.
func (w *work) taint(x work) {
	w.guessed = w.guessed || x.guessed
	for m := range x.missing {
		w.lack(m)
	}
}

// longest returns the work that takes longest, tainted by all others.
func longest(ws []work) work {
	var most work
	for _, w := range ws {
		if w.total > most.total {
			most = w
		}
	}
	out := work{total: most.total, parts: slices.Clone(most.parts), path: slices.Clone(most.path)}
	for _, w := range ws {
		out.taint(w)
	}
	return out
}

// clockwork predicts recovery times from a plan and measured times. Everything that is
// asked for more than once is found by an index or kept.
type clockwork struct {
	*known
	works   map[string]work // of services
	bases   map[string]work // what comes before them
	demands map[string]demand
	running map[string]bool // guards against a circle of needs
}

func newClockwork(k *known) *clockwork {
	return &clockwork{known: k, works: map[string]work{}, bases: map[string]work{}, demands: map[string]demand{}, running: map[string]bool{}}
}

// measured returns the slowest fresh measurement of the restore of a store, and where
// none is fresh the newest, which counts as an estimate.
func (c *clockwork) measured(store string) (holdfast.Parts, holdfast.Basis, bool) {
	var worst, newest *Proof
	term := c.term(store)
	for _, x := range c.byStore[store] {
		if x.Outcome != holdfast.Passed || len(restoreParts(x.Parts)) == 0 || x.At.After(c.now) {
			continue
		}
		if newest == nil || x.At.After(newest.At) {
			newest = x
		}
		if c.now.Sub(x.At) <= term.Fresh && c.ended(x) == "" && (worst == nil || restoreParts(x.Parts).Sum() > restoreParts(worst.Parts).Sum()) {
			worst = x
		}
	}
	switch {
	case worst != nil:
		return restoreParts(worst.Parts), holdfast.Measured, true
	case newest != nil:
		return restoreParts(newest.Parts), holdfast.Estimated, true
	}
	return nil, "", false
}

// restoreParts are the parts that a drill can measure.
func restoreParts(parts holdfast.Parts) holdfast.Parts {
	var out holdfast.Parts
	for _, x := range parts {
		switch x.Name {
		case "provision", "fetch", "replay", "verify":
			if x.Basis != holdfast.NotApplicable {
				out = append(out, x)
			}
		}
	}
	return out
}

// weaker returns the weaker of two bases.
func weaker(a, b holdfast.Basis) holdfast.Basis {
	rank := map[holdfast.Basis]int{holdfast.NotApplicable: 0, holdfast.Measured: 1, holdfast.AttestedBasis: 2, holdfast.Estimated: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// restore is the work of bringing one store back. With only "verify" or without it,
// where a runbook has a step of its own for that.
func (c *clockwork) restore(store, name string, est plan.Estimate, keep func(part string) bool) work {
	w := work{path: []string{name}}
	if parts, basis, ok := c.measured(store); ok {
		for _, x := range parts {
			if keep(x.Name) {
				w.add(PartTime{x.Name, Seconds(x.Duration), weaker(x.Basis, basis), []string{store}})
			}
		}
		return w
	}
	if !est.Period.IsZero() && !est.Measured {
		part := "fetch"
		if !keep(part) {
			part = "verify"
		}
		w.add(PartTime{part, Seconds(est.Period.Approx()), holdfast.Estimated, []string{name}})
		return w
	}
	w.guessed = true
	w.lack(name)
	return w
}

func every(string) bool              { return true }
func withoutVerify(part string) bool { return part != "verify" }
func onlyVerify(part string) bool    { return part == "verify" }

// store is the work of one store alone.
func (c *clockwork) store(id string) work { return c.restore(id, id, c.estimates[id], every) }

// runbook is the work of one runbook after base: the steps on the critical path. A
// restore needs nothing but what the runbook says, so it begins at once; every other
// step also waits for base.
func (c *clockwork) runbook(id string, base work) work {
	r := c.p.Runbooks[id]
	restored := map[string]bool{} // steps that come after a restore
	checks := map[string]bool{}   // stores that have a step for their checks
	for _, st := range r.Steps {
		if kind, of := st.Kind(); kind == plan.StepCheck {
			checks[of] = true
		}
	}
	after := func(st plan.Step) bool {
		for _, a := range st.After {
			before, _ := r.Steps.Get(a)
			if before.Restore != "" || restored[a] {
				return true
			}
		}
		return false
	}
	for range r.Steps { // as often as the longest chain is long
		for _, st := range r.Steps {
			if after(st) {
				restored[st.ID] = true
			}
		}
	}
	of := map[string]work{}
	for _, st := range r.Steps {
		of[st.ID] = c.step(st, restored[st.ID], checks)
	}
	const first = "\x00" // no step has this id
	whole := plan.Runbook{Steps: plan.Steps{{ID: first}}}
	of[first] = base
	for _, st := range r.Steps {
		if st.Restore == "" {
			st.After = append(slices.Clone(st.After), first)
		}
		whole.Steps = append(whole.Steps, st)
	}
	path, _ := whole.CriticalPath(func(st plan.Step) time.Duration { return of[st.ID].total })
	var w work
	for _, id := range path {
		w = w.then(of[id])
	}
	for _, x := range of {
		w.taint(x)
	}
	return w
}

func (c *clockwork) step(st plan.Step, afterRestore bool, checks map[string]bool) work {
	kind, of := st.Kind()
	_, isStore := c.p.Stores[of]
	switch {
	case kind == plan.StepRestore && checks[of]:
		return c.restore(of, st.ID, st.Est, withoutVerify)
	case kind == plan.StepRestore:
		return c.restore(of, st.ID, st.Est, every)
	case kind == plan.StepCheck && isStore:
		return c.restore(of, st.ID, st.Est, onlyVerify)
	}
	part := map[string]string{plan.StepCheck: "verify", plan.StepStart: "provision", plan.StepRun: "provision", plan.StepHuman: "decide", plan.StepApprove: "decide"}[kind]
	if afterRestore && part != "verify" {
		part = "hand over"
	}
	w := work{path: []string{st.ID}}
	if st.Est.Period.IsZero() {
		w.guessed = true
		w.lack(st.ID)
		return w
	}
	w.add(PartTime{part, Seconds(st.Estimated()), holdfast.Estimated, []string{st.ID}})
	return w
}

// base is what must be back before a service's own runbook begins.
func (c *clockwork) base(id string) work {
	if w, ok := c.bases[id]; ok {
		return w
	}
	s := c.p.Services[id]
	r, has := c.p.Runbooks[s.Runbook]
	var needs []work
	for _, need := range c.p.HardNeeds(id) {
		other, service := c.p.Services[need]
		switch {
		case service && has && other.Runbook == s.Runbook:
			// One runbook brings both back: what it waits for counts, the steps count once.
			if !c.running[need] {
				c.running[need] = true
				needs = append(needs, c.base(need))
				delete(c.running, need)
			}
		case service:
			needs = append(needs, c.service(need))
		case has && slices.ContainsFunc(r.Steps, func(st plan.Step) bool { return st.Restore == need }):
			// A step of the runbook.
		default:
			needs = append(needs, c.store(need))
		}
	}
	w := longest(needs)
	c.bases[id] = w
	return w
}

// service is the work of one service, from the decision to usable.
func (c *clockwork) service(id string) work {
	if w, ok := c.works[id]; ok {
		return w
	}
	if c.running[id] {
		var w work
		w.lack("a way out of the circle of needs at " + id)
		return w
	}
	c.running[id] = true
	w := c.base(id)
	if runbook := c.p.Services[id].Runbook; runbook != "" {
		w = c.runbook(runbook, w)
	}
	delete(c.running, id)
	c.works[id] = w
	return w
}

// start is the time until a recovery begins: to notice and to decide. Real
// recoveries measure it; else it is what the plan estimates.
func (c *clockwork) start(nodes []string, runbook string) work {
	var w work
	w.path = nil
	slowest := func(part string) (time.Duration, bool) {
		var most time.Duration
		found := false
		look := func(x *Proof) {
			if x.Kind != ProofIncident || x.At.After(c.now) {
				return
			}
			if x.Store != "" && c.now.Sub(x.At) > c.term(x.Store).Fresh || x.Store == "" && c.now.Sub(x.At) > plan.DefaultFreshFor {
				return
			}
			for _, p := range x.Parts {
				if p.Name == part && p.Basis == holdfast.Measured {
					most, found = max(most, p.Duration), true
				}
			}
		}
		for _, id := range nodes {
			for _, x := range c.byStore[id] {
				look(x)
			}
			for _, x := range c.byService[id] {
				look(x)
			}
		}
		return most, found
	}
	r, has := c.p.Runbooks[runbook]
	if d, ok := slowest("detect"); ok {
		w.add(PartTime{"detect", Seconds(d), holdfast.Measured, nil})
	} else if has && !r.Detect.IsZero() {
		w.add(PartTime{"detect", Seconds(r.Detect.Approx()), holdfast.Estimated, nil})
	} else {
		w.guessed = true
		w.lack("detect")
	}
	decides := slices.ContainsFunc(r.Steps, func(st plan.Step) bool {
		kind, _ := st.Kind()
		return len(st.After) == 0 && (kind == plan.StepHuman || kind == plan.StepApprove)
	})
	if d, ok := slowest("decide"); ok {
		if !decides {
			w.add(PartTime{"decide", Seconds(d), holdfast.Measured, nil})
		}
	} else if c.p.Activation.Automatically(plan.EventStoreLost) {
		w.add(PartTime{"decide", Seconds(c.p.Activation.ConfirmAfter.Approx()), holdfast.Estimated, nil})
	} else if !decides {
		w.guessed = true
		w.lack("decide")
	}
	return w
}

// PredictService says how long a service would be away if everything that it needs
// were lost at now.
func PredictService(p *plan.Plan, id string, proofs []Proof, now time.Time) Prediction {
	return newClockwork(know(p, Facts{Now: now, Proofs: proofs})).predictService(id)
}

func (c *clockwork) predictService(id string) Prediction {
	begin := c.start(append([]string{id}, c.storesOf(id)...), runbookOf(c.p, id))
	rto, _, _ := c.p.ObjectiveOf(id)
	limit, _ := rto.Duration()
	return begin.then(c.service(id)).prediction(begin.before(c.p.RTOClock()), rto.Target.Approx(), limit)
}

// runbookOf returns the runbook that tells how a service's recovery begins: its own,
// or that of what it needs.
func runbookOf(p *plan.Plan, id string) string {
	if r := p.Services[id].Runbook; r != "" {
		return r
	}
	for _, need := range allNeeds(p, id) {
		if r := p.Services[need].Runbook; r != "" {
			return r
		}
	}
	return ""
}

// allNeeds returns everything that a node cannot run without, nearest first.
func allNeeds(p *plan.Plan, id string) []string {
	seen := map[string]bool{id: true}
	var out []string
	for queue := []string{id}; len(queue) > 0; queue = queue[1:] {
		for _, need := range p.HardNeeds(queue[0]) {
			if !seen[need] {
				seen[need] = true
				out = append(out, need)
				queue = append(queue, need)
			}
		}
	}
	return out
}

// PredictStore says how long a store would be away if it were lost at now, and
// compares it with limit.
func PredictStore(p *plan.Plan, id string, limit time.Duration, proofs []Proof, now time.Time) Prediction {
	return newClockwork(know(p, Facts{Now: now, Proofs: proofs})).predictStore(id, limit)
}

func (c *clockwork) predictStore(id string, limit time.Duration) Prediction {
	runbook, services := "", c.consumers.All(id)
	for _, s := range services {
		if runbook = c.p.Services[s].Runbook; runbook != "" {
			break
		}
	}
	begin := c.start(append([]string{id}, services...), runbook)
	return begin.then(c.store(id)).prediction(begin.before(c.p.RTOClock()), 0, limit)
}

// before is how much of the beginning of a recovery lies before the clock of RTOs starts.
func (w work) before(clock plan.Clock) time.Duration {
	switch clock {
	case plan.ClockDeclaration:
		return w.total
	case plan.ClockDetection:
		for _, x := range w.parts {
			if x.Name == "detect" {
				return x.Time.Duration()
			}
		}
	}
	return 0
}

// prediction shows w in the order in which people tell a recovery. What lies before the
// clock of RTOs does not count towards the verdict.
func (w work) prediction(before, target, limit time.Duration) Prediction {
	out := Prediction{Total: Seconds(w.total), Counted: Seconds(w.total - before), Path: append([]string{}, w.path...), Missing: slices.Sorted(maps.Keys(w.missing)), Parts: []PartTime{}}
	for _, name := range holdfast.PartNames {
		sum := PartTime{Name: name, Basis: holdfast.NotApplicable}
		found := false
		for _, x := range w.parts {
			if x.Name != name {
				continue
			}
			found = true
			sum.Time += x.Time
			sum.Basis = weaker(sum.Basis, x.Basis)
			for _, of := range x.Of {
				if !slices.Contains(sum.Of, of) {
					sum.Of = append(sum.Of, of)
				}
			}
		}
		if found {
			out.Parts = append(out.Parts, sum)
		}
	}
	switch {
	case len(out.Missing) > 0:
		out.State = TimeUnknown
		out.Why = "no number for " + list(out.Missing)
	case w.guessed:
		out.State = TimeEstimated
		var guessed []string
		for _, x := range out.Parts {
			if x.Basis != holdfast.Measured {
				guessed = append(guessed, x.Name)
			}
		}
		out.Why = list(guessed) + " not measured, or not lately"
		if len(guessed) == 0 {
			out.Why = "what happens side by side with it is not all measured"
		}
	default:
		out.State = TimeProven
		out.Why = "every part was measured"
	}
	out.Verdict = Judge(w.total-before, target, limit)
	if limit > 0 && out.State == TimeUnknown && out.Verdict != Over {
		out.Verdict = CannotSay
	}
	return out
}

// Required returns the recovery time that the consumers of a store leave it, and
// which of them leaves least. 0 if none of them promises anything.
func Required(p *plan.Plan, store string, proofs []Proof, now time.Time) (time.Duration, string) {
	return newClockwork(know(p, Facts{Now: now, Proofs: proofs})).required(store)
}

// demand is until when a node must be back.
type demand struct {
	limit time.Duration
	by    string
	ok    bool
}

func (d *demand) tighten(limit time.Duration, by string) {
	if !d.ok || limit < d.limit {
		*d = demand{limit, by, true}
	}
}

func (c *clockwork) required(store string) (time.Duration, string) {
	d := c.demand(store)
	if d.by == store {
		return d.limit, "its own tier"
	}
	return d.limit, d.by
}

func (c *clockwork) demand(id string) demand {
	if d, ok := c.demands[id]; ok || c.running[id] {
		return d
	}
	c.running[id] = true
	var d demand
	if rto := c.p.Promise(id).RTO; rto > 0 {
		d.tighten(rto, id)
	}
	for _, consumer := range c.consumers[id] {
		theirs := c.demand(consumer)
		if !theirs.ok {
			continue
		}
		runbook := c.p.Services[consumer].Runbook
		var after time.Duration
		switch {
		case runbook == "":
		case c.p.Services[id].Runbook == runbook: // the steps count for both at once
		default:
			after = c.after(runbook, id)
		}
		d.tighten(theirs.limit-after, theirs.by)
	}
	delete(c.running, id)
	c.demands[id] = d
	return d
}

// after is the time that a runbook needs once a node is back: what follows the steps
// that restore it; or, for what the whole runbook waits for, the longest chain that
// begins with anything but a restore.
func (c *clockwork) after(runbook, node string) time.Duration {
	r := c.p.Runbooks[runbook]
	checks := map[string]bool{}
	for _, st := range r.Steps {
		if kind, of := st.Kind(); kind == plan.StepCheck {
			checks[of] = true
		}
	}
	of := func(st plan.Step) time.Duration { return c.step(st, false, checks).total }
	tails := r.Tails(of)
	var most time.Duration = -1
	for _, st := range r.Steps {
		if st.Restore == node {
			most = max(most, tails[st.ID])
		}
	}
	if most >= 0 {
		return most
	}
	for _, st := range r.Steps {
		if st.Restore == "" {
			most = max(most, of(st)+tails[st.ID])
		}
	}
	return max(most, 0)
}
