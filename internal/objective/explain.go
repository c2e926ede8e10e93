package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
)

// An Explanation says why one value, verdict or order is what it is, down to facts and lines
// of the plan.
type Explanation struct {
	Of      string   `json:"of"` // the selector
	Answer  string   `json:"answer"`
	Posture string   `json:"posture,omitempty"`
	Reasons []Reason `json:"reasons"`
}

// A Reason is one line of an explanation. Those that follow with a greater depth are its own reasons.
type Reason struct {
	Depth int    `json:"depth"`
	Text  string `json:"text"`
	Plan  string `json:"plan,omitempty"` // where it stands: file:line
	Fact  string `json:"fact,omitempty"` // what was observed: "drill 12", "location near"
}

// explaining builds an explanation.
type explaining struct {
	*clockwork
	o        Overview
	observed bool
	out      Explanation
	depth    int
}

// Explain says why what a selector names is as it is. Selectors are paths: services.api.rto,
// stores.db.rpo, services.api.order, services.api.bia, stores.db.exposure, services.api; what the evidence
// for controls.iso27001/A.8.13, statements.s-4 or drills.db-drill is; objectives.tiers.critical.rto,
// a promise with all that it counts for; activation, what starts a recovery; and the code of a finding with its
// subject, as in "HF-L2 stores.db".
func Explain(p *plan.Plan, f Facts, observed bool, selector string) (Explanation, error) {
	e := &explaining{clockwork: newClockwork(know(p, f)), o: Look(p, f), observed: observed, out: Explanation{Of: selector, Reasons: []Reason{}}}
	if code, subject, is := strings.Cut(selector, " "); is || strings.HasPrefix(strings.ToUpper(selector), "HF-") {
		return e.out, e.finding(code, strings.TrimSpace(subject))
	}
	if section, id, _ := strings.Cut(selector, "."); slices.Contains([]string{"controls", "statements", "drills"}, section) {
		return e.out, e.trace(section, id)
	}
	if selector == "activation" {
		e.activation()
		return e.out, nil
	}
	if promise, is := strings.CutPrefix(selector, "objectives."); is {
		return e.out, e.promise(promise)
	}
	parts := strings.Split(selector, ".")
	bad := func(what, word string, known []string) (Explanation, error) {
		return e.out, holdfast.WithHint(fmt.Errorf("%q cannot be explained: %s: %w", selector, what, holdfast.ErrUsage), "%s", plan.Nearest(word, known))
	}
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "services" && parts[0] != "stores" {
		return e.out, holdfast.WithHint(fmt.Errorf("%q cannot be explained: %w", selector, holdfast.ErrUsage),
			"name a path such as services.NAME.rto, stores.NAME.rpo, services.NAME.order, objectives.services.NAME.rto, controls.NAME, statements.NAME, drills.NAME, activation, or a finding as in \"HF-L2 stores.NAME\"")
	}
	id := parts[1]
	ask := map[string]func(string){"rto": e.rto, "rpo": e.rpo, "order": e.order, "exposure": e.exposure}
	if parts[0] == "services" {
		if _, ok := p.Services[id]; !ok {
			return bad(fmt.Sprintf("the plan has no service %q", id), id, slices.Sorted(maps.Keys(p.Services)))
		}
		ask["bia"] = e.bia
		delete(ask, "exposure")
	} else if _, ok := p.Stores[id]; !ok {
		return bad(fmt.Sprintf("the plan has no store %q", id), id, slices.Sorted(maps.Keys(p.Stores)))
	}
	if !observed {
		e.say("nothing was looked at: the plan alone is explained")
	}
	if len(parts) == 3 {
		why, ok := ask[parts[2]]
		if !ok {
			return bad(fmt.Sprintf("%s have no %q", parts[0], parts[2]), parts[2], slices.Sorted(maps.Keys(ask)))
		}
		why(id)
		e.unseen()
		return e.out, nil
	}
	for _, what := range []string{"rto", "rpo", "order", "exposure", "bia"} {
		if why, ok := ask[what]; ok && (what != "bia" || p.Services[id].BIA != nil) {
			e.say("%s", what)
			e.depth++
			why(id)
			e.depth--
		}
	}
	e.out.Answer, e.out.Posture = "", e.postureOf(id)
	e.unseen()
	return e.out, nil
}

// unseen takes the posture out of an answer that nothing was looked at for.
func (e *explaining) unseen() {
	if !e.observed {
		e.out.Posture = ""
	}
}

func (e *explaining) say(format string, args ...any) {
	e.out.Reasons = append(e.out.Reasons, Reason{Depth: e.depth, Text: fmt.Sprintf(format, args...)})
}

// at says it with the line of the plan that it rests on.
func (e *explaining) at(path, format string, args ...any) {
	pos := e.p.Position(path)
	e.out.Reasons = append(e.out.Reasons, Reason{Depth: e.depth, Text: fmt.Sprintf(format, args...), Plan: fmt.Sprintf("%s:%d", pos.File, pos.Line)})
}

// seen says it with the fact that it rests on.
func (e *explaining) seen(fact, format string, args ...any) {
	e.out.Reasons = append(e.out.Reasons, Reason{Depth: e.depth, Text: fmt.Sprintf(format, args...), Fact: fact})
}

func (e *explaining) under(f func()) {
	e.depth++
	f()
	e.depth--
}

func (e *explaining) serviceOf(id string) *ServiceOverview {
	if i := slices.IndexFunc(e.o.Services, func(s ServiceOverview) bool { return s.ID == id }); i >= 0 {
		return &e.o.Services[i]
	}
	return nil
}

func (e *explaining) storeOf(id string) *StoreOverview {
	if i := slices.IndexFunc(e.o.Stores, func(s StoreOverview) bool { return s.ID == id }); i >= 0 {
		return &e.o.Stores[i]
	}
	return nil
}

func (e *explaining) postureOf(id string) string {
	if s := e.serviceOf(id); s != nil {
		return string(s.Posture)
	}
	return string(e.storeOf(id).Posture)
}

// objective begins the explanation of one objective: its answer, and where it is declared.
func (e *explaining) objective(id, metric string, st ObjectiveState) {
	e.out.Answer, e.out.Posture = st.Declared, string(st.Posture)
	if e.observed {
		e.say("%s: %s", st.Posture, st.Why)
	}
	all := e.p.ObjectivesOf(id, metric, "")
	best, _ := plan.Strictest(all)
	e.say("declared: %s", st.Declared)
	e.under(func() {
		if len(all) == 0 {
			e.say("nothing declares it: %s", st.From)
		}
		for _, o := range all {
			switch {
			case o.Replaced != "":
				e.at(o.Path, "%s says %s, which %s replaces", o.Selector, o.Objective, o.Replaced)
			case o.Path == best.Path:
				e.at(o.Path, "%s says %s, and that counts", o.Selector, o.Objective)
			default:
				e.at(o.Path, "%s says %s; the strictest counts", o.Selector, o.Objective)
			}
			if o.Terms != nil && len(o.Terms.ApprovedBy) > 0 {
				e.under(func() {
					e.at(o.Path, "approved by %s on %s", strings.Join(o.Terms.ApprovedBy, " and "), o.Terms.ApprovedOn)
				})
			}
		}
		if metric == plan.MetricRTO {
			if e.p.Plan.Clock == "" {
				e.say("its time begins with the %s: the plan defines nothing else", e.p.RTOClock())
			} else {
				e.at("plan.rto_clock", "its time begins with the %s, by the plan's definition", e.p.RTOClock())
			}
		}
	})
}

// measuredValues tells what was measured, newest first, each judged by the plan of its time.
func (e *explaining) measuredValues(st ObjectiveState) {
	for _, v := range st.Values {
		if !e.observed {
			break
		}
		if v.From == "declared" || v.From == "composed" {
			continue
		}
		if v.N == 0 {
			e.say("%s: never measured", v.From)
			continue
		}
		text := fmt.Sprintf("%s: %d measured, the latest %s (%s ago), the worst %s", v.From, v.N, v.Latest, v.Age, v.Worst)
		if v.Trend != "" {
			text += ", " + v.Trend
		}
		if v.Note != "" {
			text += "; " + v.Note
		}
		e.seen(v.Source, "%s", text)
	}
	e.under(func() {
		for _, j := range st.History {
			text := fmt.Sprintf("%s measured %s on %s", j.Source, j.Value, j.At.UTC().Format("2006-01-02 15:04Z"))
			if j.Limit > 0 {
				text += fmt.Sprintf(": %s of %s", j.Verdict, j.Limit)
			}
			e.seen(j.Source, "%s, by plan %s", text, version(j))
		}
	})
}

func version(j Judged) string {
	digest := strings.TrimPrefix(j.Digest, "sha256:")
	digest = digest[:min(12, len(digest))]
	if j.Version == "" {
		return digest
	}
	return fmt.Sprintf("%q (%s)", j.Version, digest)
}

func (e *explaining) rto(id string) {
	var st ObjectiveState
	var pr Prediction
	if s := e.serviceOf(id); s != nil {
		st, pr = s.RTO, s.Outage
	} else {
		s := e.storeOf(id)
		st, pr = s.RTO, s.Restore
		defer func() {
			if s.RequiredBy != "" {
				e.say("its consumers leave it %s; %s leaves least", s.Required, s.RequiredBy)
			}
		}()
	}
	e.objective(id, plan.MetricRTO, st)
	e.say("it would take %s: %s", pr.Text(), pr.Why)
	e.under(func() {
		for _, x := range pr.Parts {
			text := fmt.Sprintf("%s %s, %s", x.Name, x.Time, x.Basis)
			if len(x.Of) == 0 {
				e.say("%s", text)
				continue
			}
			e.say("%s", text)
			e.under(func() { e.sources(id, x) })
		}
		if len(pr.Path) > 0 {
			e.say("the longest chain is %s", strings.Join(pr.Path, ", then "))
		}
		for _, m := range pr.Missing {
			e.say("no number for %s", m)
		}
	})
	for _, x := range st.Stages {
		e.say("stage %s", x.Text())
	}
	e.measuredValues(st)
	for _, store := range e.dataOf(id) {
		if !e.observed {
			break
		}
		if d := e.lastDrill(store); d != nil {
			e.seen("drill "+d.ID, "the last drill of %s %s at %s on %s: restored in %s; a proof lasts %s", store, d.Outcome, d.Rung, d.At.UTC().Format("2006-01-02 15:04Z"), d.Restore, Seconds(e.term(store).Fresh))
		} else {
			e.say("no drill has restored %s", store)
		}
	}
}

// dataOf are the stores behind a service, or the store itself.
func (e *explaining) dataOf(id string) []string {
	if _, ok := e.p.Stores[id]; ok {
		return []string{id}
	}
	return e.storesOf(id)
}

// sources tells where the time of one part comes from: the drill that measured it, or the step
// that estimates it.
func (e *explaining) sources(id string, x PartTime) {
	for _, of := range x.Of {
		if _, store := e.p.Stores[of]; store {
			if parts, basis, ok := e.clockwork.measured(of); ok {
				for _, proof := range e.byStore[of] {
					if restoreParts(proof.Parts).Sum() == parts.Sum() && len(proof.Parts) > 0 {
						e.seen(proof.source(), "%s, %s: %s restored %s on %s", of, basis, proof.source(), of, proof.At.UTC().Format("2006-01-02 15:04Z"))
						break
					}
				}
				continue
			}
		}
		for _, name := range slices.Sorted(maps.Keys(e.p.Runbooks)) {
			if st, ok := e.p.Runbooks[name].Steps.Get(of); ok && (e.p.Services[id].Runbook == name || slices.ContainsFunc(allNeeds(e.p, id), func(n string) bool { return e.p.Services[n].Runbook == name })) {
				e.at("runbooks."+name+".steps."+of, "step %q of runbook %q: %s", of, name, st.Est)
			}
		}
	}
}

func (e *explaining) rpo(id string) {
	s := e.serviceOf(id)
	if s == nil {
		st := e.storeOf(id)
		e.objective(id, plan.MetricRPO, st.RPO)
		e.losses(id, st.Losses)
		e.exposure(id)
		e.out.Answer, e.out.Posture = st.RPO.Declared, string(st.RPO.Posture)
		e.measuredValues(st.RPO)
		return
	}
	e.objective(id, plan.MetricRPO, s.RPO)
	e.losses(id, s.Losses)
	e.measuredValues(s.RPO)
	for _, store := range s.Stores {
		e.say("it cannot run without %s", store)
		e.under(func() { e.exposure(store) })
	}
	e.out.Answer, e.out.Posture = s.RPO.Declared, string(s.RPO.Posture)
}

func (e *explaining) losses(id string, ls []Loss) {
	if !e.observed {
		return
	}
	e.say("what would be lost now:")
	e.under(func() {
		for i, l := range ls {
			e.say("%s: %s, %s; %s", e.o.Scenarios[i].Title, l.Text(), l.Verdict, l.Why)
		}
	})
}

// exposure tells what each location gives back of a store, and the schedule behind it.
func (e *explaining) exposure(id string) {
	st := e.storeOf(id)
	e.out.Answer, e.out.Posture = "nothing is known", string(st.Posture)
	for _, l := range st.Losses {
		if l.Scenario == ScenarioHost && e.observed {
			e.out.Answer = l.Text() + " would be lost with this host"
		}
	}
	if st.Unprotected != "" {
		e.at("stores."+id, "%s", st.Unprotected)
	}
	for _, x := range st.Exposures {
		if e.observed {
			e.seen("location "+x.Location, "%s", x.Why)
		} else {
			e.at("locations."+x.Location, "%q holds copies of it", x.Location)
		}
		e.under(func() {
			b := e.p.Backups[st.Backup]
			age, sum := b.WorstLoss(x.Location)
			e.at("backups."+st.Backup, "by the schedule it may be %s old: %s", Seconds(age), sum)
			if !x.Received.IsZero() {
				e.seen("receipt", "the vault countersigned the newest snapshot on %s", x.Received.UTC().Format("2006-01-02 15:04:05Z"))
			}
			if !x.Verified.IsZero() {
				e.seen("read", "bytes were last read back on %s", x.Verified.UTC().Format("2006-01-02 15:04:05Z"))
			}
		})
	}
}

// order tells why a service or store comes back when it does.
func (e *explaining) order(id string) {
	wave := 0
	for i, ids := range e.o.Order {
		if slices.Contains(ids, id) {
			wave = i + 1
		}
	}
	e.out.Answer, e.out.Posture = fmt.Sprintf("wave %d of %d", wave, len(e.o.Order)), ""
	if wave == 0 {
		e.out.Answer = "no order can be given"
		for _, f := range e.o.Findings {
			e.say("%s", f.Message)
		}
		return
	}
	needs := e.p.HardNeeds(id)
	if len(needs) == 0 {
		e.say("it needs nothing, so it begins at once")
	}
	for _, n := range needs {
		e.at("services."+id+".needs."+n, "it cannot run without %s, which is in wave %d", n, slices.IndexFunc(e.o.Order, func(ids []string) bool { return slices.Contains(ids, n) })+1)
	}
	if by := e.consumers[id]; len(by) > 0 {
		e.say("%s waits for it", list(by))
	}
	if r := e.p.Services[id].Runbook; r != "" {
		e.at("services."+id+".runbook", "runbook %q brings it back", r)
	}
	e.say("\"holdfast simulate --lose host:this-host\" shows the whole order with times")
}

// bia tells what follows from the impact analysis of a service.
func (e *explaining) bia(id string) {
	s := e.p.Services[id]
	if s.BIA == nil {
		e.out.Answer = "no impact analysis"
		e.at("services."+id, "the plan has no impact analysis of %s", id)
		return
	}
	a := s.BIA.Analyse()
	path := "services." + id + ".bia"
	e.out.Answer = "no outage that was looked at is more than the company can bear"
	if a.Tolerable > 0 {
		e.out.Answer = fmt.Sprintf("at most %s", Seconds(a.Tolerable))
	}
	e.at(path+".impact", "%s", a.Why)
	e.under(func() {
		for _, x := range plan.ImpactOverTime(s.BIA.Impact) {
			_, cost := s.BIA.Harm(x.After.Approx())
			text := fmt.Sprintf("after %s: impact %d", x.After, x.Level)
			if cost > 0 || x.Cost > 0 {
				text += fmt.Sprintf(", cost %d until then", cost)
			}
			if x.Text != "" {
				text += ": " + x.Text
			}
			e.at(path+".impact."+x.After.String(), "%s", text)
		}
	})
	rto, _, from := e.p.ObjectiveOf(id)
	if a.RTO > 0 {
		e.at(path, "derived rto: %s; declared: %s (%s)", Seconds(a.RTO), rto, from)
	}
	if a.TolerableLoss > 0 {
		e.at(path+".loss_impact", "data may be at most %s old; derived rpo: %s", Seconds(a.TolerableLoss), Seconds(a.RPO))
	}
	scheme := plan.DefaultTiers
	if t, ok := e.p.Tiers[s.Tier]; ok {
		scheme = t.SchemeOf()
	}
	if tier, ok := e.p.TierFor(a, scheme); ok {
		e.at("tiers."+tier, "derived tier of the scheme %q: %s; declared: %s", scheme, tier, s.Tier)
	} else if a.Tolerable > 0 {
		e.say("no tier of the scheme %q is strict enough", scheme)
	}
}

// finding tells what a finding means and where it stands.
func (e *explaining) finding(code, subject string) error {
	rule, known := plan.RuleOf(code)
	if !known && !strings.HasPrefix(strings.ToUpper(code), "HF-O") {
		return holdfast.WithHint(fmt.Errorf("no finding has the code %q: %w", code, holdfast.ErrUsage), "%s", plan.NearestRule(code))
	}
	e.out.Answer = rule.Meaning
	if known {
		code = rule.Code
		e.say("%s", rule.Why)
		e.say("%s", rule.Out)
	}
	n := 0
	var others []string
	for _, f := range append(plan.Check(e.p, e.now, e.f.Waivers...), e.o.Findings...) {
		if f.Code != strings.ToUpper(code) {
			continue
		}
		// People name the store that they worry about, also where the backup is at fault.
		about := f.Subject == subject || strings.HasPrefix(f.Subject, subject+".") || strings.Contains(f.Message, fmt.Sprintf("%q", subject[strings.LastIndex(subject, ".")+1:]))
		if subject != "" && !about {
			others = append(others, f.Subject)
			continue
		}
		n++
		r := Reason{Text: fmt.Sprintf("%s: %s: %s", f.Severity, f.Subject, f.Message)}
		if f.File != "" {
			r.Plan = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		e.out.Reasons = append(e.out.Reasons, r)
		if f.Hint != "" {
			e.under(func() { e.say("%s", f.Hint) })
		}
	}
	switch {
	case n == 0 && len(others) > 0:
		return holdfast.WithHint(fmt.Errorf("%s finds nothing about %q: %w", code, subject, holdfast.ErrUsage), "%s", plan.Nearest(subject, others))
	case n == 0:
		e.say("nothing of this kind is found now")
	}
	return nil
}
