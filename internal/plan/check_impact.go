package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// impact compares what is promised with what others demand: the impact analysis,
// contracts, laws, and the scales that the company itself made.
func (l *linter) impact() {
	for _, id := range l.services {
		if b := l.p.Services[id].BIA; b != nil {
			l.analysis(id, *b)
		}
	}
	for _, id := range l.nodes {
		l.demands(id)
	}
	l.keeping()
	l.classes()
	l.severities()
	l.floors()
	l.risks()
	l.unapproved()
}

// analysis compares a service's impact analysis with its promises. The longest outage
// that can be borne is the one before the harm exceeds what the company can bear.
func (l *linter) analysis(id string, b BIA) {
	p, path := l.p, "services."+id+".bia"
	promise := l.promise(id)
	because := func(at ImpactAt) string {
		text := fmt.Sprintf("impact %d from %s on, and %d is what the company can bear", at.Level, at.After, b.Bearable())
		if at.Text != "" {
			text += " (" + at.Text + ")"
		}
		return text
	}
	a := b.Analyse()
	if at, most := a.At, a.Tolerable; most > 0 {
		switch {
		case promise.RTO >= most:
			l.fail(codeImpact, path+".impact", fmt.Sprintf("declare an rto below %s, or correct the analysis", edit(most)),
				"%q promises to be back within %s; by its own impact analysis that is too late: %s", id, period(promise.RTO), because(at))
		case promise.RTO == 0:
			l.warn(codeImpact, path+".impact", fmt.Sprintf("declare an rto below %s", edit(most)), "%q promises no RTO in numbers; its impact analysis demands one below %s: %s", id, at.After, because(at))
		}
		mtd := p.Services[id].MTD
		if mtd.IsZero() {
			mtd = p.Tiers[p.Services[id].Tier].MTD
		}
		if mtd.Approx() > most {
			l.warn(codeImpact, path+".impact", fmt.Sprintf("write an mtd of %s or shorter, or correct the analysis", edit(most)), "the maximum tolerable downtime of %q is %s; by its impact analysis it is shorter: %s", id, mtd, because(at))
		}
	}
	if most := a.TolerableLoss; most > 0 && promise.RPO >= most {
		_, at, _ := bearable(b.LossImpact, b.Bearable())
		l.fail(codeImpact, path+".loss_impact", fmt.Sprintf("declare an rpo below %s, or correct the analysis", edit(most)),
			"%q may lose %s of data; by its own impact analysis that is too much: %s", id, period(promise.RPO), because(at))
	}
	for _, name := range sorted(b.Peaks) {
		if rto, ok := b.Peaks[name].RTO.Duration(); ok && promise.RTO > rto {
			l.fail(codeImpact, path+".peaks."+name, fmt.Sprintf("declare an rto of %s or shorter: a disaster does not wait for the peak to pass", edit(rto)),
				"%q promises %s, and during %q it must be back within %s", id, period(promise.RTO), name, period(rto))
		}
	}
	if b.On.IsZero() || b.By == "" {
		l.report(codeImpact, holdfast.SeverityNote, path, "add \"by:\" and \"on:\"", "nobody can say who made the impact analysis of %q, and when", id)
	} else if every := p.Plan.Review.Every; !every.IsZero() {
		l.dated(path+".on", fmt.Sprintf("the impact analysis of %q", id), b.On, every)
	}
}

// demands compares what a service or store declares itself with what contracts and
// laws demand of it: the company promised one thing and signed another.
func (l *linter) demands(id string) {
	p := l.p
	if len(p.terms[id]) == 0 {
		return
	}
	for _, metric := range []string{MetricRTO, MetricRPO} {
		var mine, theirs []Declared
		for _, o := range p.ObjectivesOf(id, metric, "") {
			if section, _, _ := cut(o.Selector); section == "customers" || section == "obligations" {
				theirs = append(theirs, o)
			} else {
				mine = append(mine, o)
			}
		}
		declared, ok := Strictest(mine)
		ours, bound := declared.Duration()
		for _, o := range theirs {
			limit, has := o.Duration()
			if !has {
				if o.Unbound() {
					l.objective(o.Path, o.Objective)
				}
				continue
			}
			section, name, _ := cut(o.Selector)
			switch {
			case bound && limit < ours:
				l.fail(codeTerms, o.Path, fmt.Sprintf("tighten %s to %s, or change the terms", declared.Path, edit(limit)),
					"%s %q demands an %s of %s for %q, which declares %s (%s)", singular[section], name, metric, period(limit), id, period(ours), declared.Selector)
			case !ok || !bound:
				l.warn(codeTerms, o.Path, fmt.Sprintf("declare an %s of %s or shorter for %q", metric, edit(limit), id),
					"%s %q demands an %s of %s for %q, which declares none in numbers", singular[section], name, metric, period(limit), id)
			}
		}
	}
}

// keeping compares how long backups are kept with how long they must and may be.
func (l *linter) keeping() {
	p := l.p
	for _, id := range l.stores {
		b, ok := p.Backups[p.Stores[id].Protect]
		if !ok {
			continue
		}
		least, most := p.Kept(id)
		at := "backups." + p.Stores[id].Protect
		short := func(path, who string, want Period) {
			if !want.IsZero() && least.Approx() < want.Approx() {
				l.fail(codeTerms, path, fmt.Sprintf("write %s.keep: %s or longer", at, want), "%s demands that %q is kept for %s, and its backup %q keeps %s", who, id, want, p.Stores[id].Protect, orNothing(least))
			}
		}
		for _, name := range sorted(p.Obligations) {
			o, path := p.Obligations[name], "obligations."+name
			if len(o.Of) > 0 && !slices.Contains(o.Of, id) || len(o.When) > 0 && !p.marked(id, o.When) {
				continue
			}
			short(path+".keep_min", fmt.Sprintf("obligation %q", name), o.KeepMin)
			if !o.KeepMax.IsZero() && (most.IsZero() || most.Approx() > o.KeepMax.Approx()) && (b.Retention == nil || b.Retention.Decision == "") && len(p.HoldsOn(id)) == 0 {
				kept := most
				if kept.IsZero() {
					kept = least
				}
				if kept.Approx() > o.KeepMax.Approx() {
					l.fail(codeTerms, path+".keep_max", fmt.Sprintf("write %s.retention: {max: %s}, or say who decided by retention.decision", at, o.KeepMax),
						"obligation %q allows %q to be kept for %s, and its backup %q keeps %s", name, id, o.KeepMax, p.Stores[id].Protect, kept)
				}
			}
		}
		for _, name := range sorted(p.Customers) {
			if c := p.Customers[name]; slices.Contains(c.Services, id) {
				short("customers."+name+".keep", fmt.Sprintf("customer %q", name), c.Keep)
			}
		}
	}
	for _, name := range sorted(p.Customers) {
		for _, of := range sorted(p.Customers[name].OptOuts) {
			o, path := p.Customers[name].OptOuts[of], "customers."+name+".opt_outs."+of
			switch {
			case o.By == "" || o.Until.IsZero():
				l.warn(codeException, path, "add \"by:\" with who accepted the risk, and \"until:\"", "customer %q declined %q, without end or without anybody who bears the risk", name, o.Of)
			case l.past(o.Until):
				l.warn(codeException, path+".until", "apply it, or have it declined again", "that customer %q declined %q ended on %s", name, o.Of, o.Until)
			}
		}
	}
}

func orNothing(p Period) string {
	if p.IsZero() {
		return "it for no declared time"
	}
	return p.String()
}

// severities looks at each scale of incidents alone. A label says nothing about
// strictness, so the order is the company's own.
func (l *linter) severities() {
	p := l.p
	schemes := map[string][]string{}
	for _, id := range sorted(p.Severities) {
		s := p.Severities[id]
		schemes[s.SchemeOf()] = append(schemes[s.SchemeOf()], id)
		l.objective("severities."+id+".rto", s.RTO)
		l.objective("severities."+id+".rpo", s.RPO)
		l.objective("severities."+id+".update_every", s.UpdateEvery)
	}
	for _, scheme := range sorted(schemes) {
		worst, longest, shortest := "", time.Duration(0), time.Duration(0)
		longestAt := ""
		rank := -1
		ordered := 0
		for _, id := range schemes[scheme] {
			rto, ok := p.Severities[id].RTO.Duration()
			if !ok {
				continue
			}
			if r, has := p.Rank(scheme, id); has {
				ordered++
				if rank < 0 || r < rank {
					worst, rank = id, r
				}
			}
			if rto > longest {
				longest, longestAt = rto, id
			}
			if shortest == 0 || rto < shortest {
				shortest = rto
			}
		}
		path := "severities." + longestAt
		switch {
		case longest <= shortest || len(schemes[scheme]) < 2: // one limit for all, or nothing to compare
		case ordered == 0:
			l.report(codeScheme, holdfast.SeverityNote, path, fmt.Sprintf("add \"schemes: {%s: {kind: severity, order: [worst, …]}}\"", scheme),
				"the scale %q has no order: nobody can say which of %s is worst", scheme, several(schemes[scheme]))
		case worst == longestAt:
			l.warn(codeScheme, path+".rto", "check that it is meant: the limits say how long a repair takes, not how bad the outage is; give tiers the limits that users feel",
				"the worst severity of the scale %q, %q, has the longest RTO: %s", scheme, worst, period(longest))
		}
	}
}

// floors compares the rarest schedule that the policy allows with what tiers need.
func (l *linter) floors() {
	p := l.p
	strictest := map[string]string{}
	for _, id := range l.stores {
		by := p.Stores[id].Protect
		floor := p.Backups[by].Floor.Approx()
		rpo := l.promise(id).RPO
		if floor == 0 || rpo == 0 || floor <= rpo {
			continue
		}
		if have, ok := strictest[by]; !ok || rpo < l.promise(have).RPO {
			strictest[by] = id
		}
	}
	for _, by := range sorted(strictest) {
		id := strictest[by]
		rpo := l.promise(id).RPO
		l.warn(codeFloor, "backups."+by+".floor", fmt.Sprintf("say in the policy that the objective decides and %s is only the rarest that is allowed at all, or write a floor of %s", p.Backups[by].Floor, edit(rpo)),
			"the policy allows a backup every %s, and %q may lose only %s", p.Backups[by].Floor, id, period(rpo))
	}
}

// risks looks at the register: a risk without an answer is only known.
func (l *linter) risks() {
	p := l.p
	assessed := map[string]bool{}
	for _, id := range sorted(p.Risks) {
		r, path := p.Risks[id], "risks."+id
		assessed[r.Hazard] = true
		switch {
		case r.Treat == "":
			l.warn(CodeTreatment, path, "add \"treat: mitigate\", accept, transfer or avoid", "nothing says what is done about the risk %q", id)
		case r.Treat == Mitigate && len(r.By) == 0:
			l.warn(CodeTreatment, path, "add \"by:\" with the drills, exercises, runbooks or measures that mitigate it", "the risk %q is to be mitigated, and nothing says by what", id)
		case r.Treat == Accept && len(r.AcceptedBy) == 0:
			l.warn(CodeTreatment, path, "add \"accepted_by:\"", "the risk %q is accepted by nobody", id)
		}
		if r.Likelihood == 0 || r.Impact == 0 || r.Owner == "" {
			l.warn(CodeTreatment, path, "add likelihood and impact from 1 to 5, and an owner", "the risk %q is not assessed: it lacks likelihood, impact or owner", id)
		}
		if !r.Due.IsZero() && l.past(r.Due) {
			l.warn(codeLapsed, path+".due", "finish the treatment, and write when it was, or a new day", "the treatment of the risk %q was due on %s, %s ago", id, r.Due, l.daysSince(r.Due))
		}
	}
	if len(p.Risks) == 0 {
		return
	}
	excluded := map[string]bool{}
	for _, x := range p.Exclusions {
		for _, h := range x.Hazards {
			excluded[h] = true
		}
	}
	for _, id := range sorted(p.Hazards) {
		if h := p.Hazards[id]; !assessed[id] && !excluded[id] && h.None == "" && !l.heading(id) {
			l.warn(CodeTreatment, "hazards."+id, fmt.Sprintf("add a risk with \"hazard: %s\", or exclude it with a reason", id), "the hazard %q is assessed by no risk", id)
		}
	}
	l.ownRisks()
}

// heading reports whether a hazard only groups others.
func (l *linter) heading(id string) bool {
	for _, h := range l.p.Hazards {
		if h.Under == id {
			return true
		}
	}
	return false
}

// ownRisks names risks that the plan itself makes and its register lacks.
func (l *linter) ownRisks() {
	p := l.p
	about := map[string]bool{}
	for _, r := range p.Risks {
		for _, of := range r.Of {
			about[of] = true
		}
	}
	missing := func(path, id, what string) {
		if !about[id] {
			l.report(CodeTreatment, holdfast.SeverityNote, path, fmt.Sprintf("add a risk with \"of: [%s]\"", id), "the register holds no risk about %q: %s", id, what)
		}
	}
	for _, id := range p.Few() {
		missing("people."+id, id, fmt.Sprintf("with %d people, the loss of one is a risk of its own", len(p.People)))
	}
	for _, id := range l.stores {
		if s := p.Stores[id]; s.Production() && (s.Protect == "" || !s.Kind.Protected()) && s.NotProtected == "" && s.Delegated == nil {
			missing("stores."+id, id, "no backup covers it")
		}
	}
}

// Few returns the people of a team so small that the loss of one is a risk of its own,
// except those whom a risk of the plan is about.
func (p *Plan) Few() (out []string) {
	const few = 2
	if len(p.People) > few {
		return nil
	}
	for _, id := range sorted(p.People) {
		about := false
		for _, r := range p.Risks {
			about = about || slices.Contains(r.Of, id)
		}
		if !about {
			out = append(out, id)
		}
	}
	return out
}

// unapproved reports objectives that lack the approval which the plan demands for them.
func (l *linter) unapproved() {
	p := l.p
	a, ok := p.Approvals[ActObjectives]
	if !ok {
		return
	}
	need := p.Approval(ActObjectives).People
	if a.People == 0 {
		need = len(a.Roles)
	}
	look := func(path string, rto, rpo Objective) {
		var lacking []string
		agreed := need
		for _, o := range []struct {
			name string
			Objective
		}{{"rto", rto}, {"rpo", rpo}} {
			if o.IsZero() || o.None != "" {
				continue
			}
			who := map[string]bool{}
			for _, by := range o.ApprovedBy() {
				if person := p.Person(by, false); person != "" {
					who[person] = true
				}
			}
			if len(who) < need {
				lacking = append(lacking, o.name+" "+o.String())
				agreed = min(agreed, len(who))
			}
		}
		if len(lacking) > 0 {
			l.warn(codeUnapproved, path, "add \"approved_by:\" with different people, and \"approved_on:\", to each", "declared, not approved: %s; %d of %d people agreed", strings.Join(lacking, " and "), agreed, need)
		}
	}
	for _, id := range sorted(p.Tiers) {
		look("tiers."+id, p.Tiers[id].RTO, p.Tiers[id].RPO)
	}
	for _, id := range sorted(p.Severities) {
		look("severities."+id, p.Severities[id].RTO, p.Severities[id].RPO)
	}
	for _, id := range l.services {
		look("services."+id, p.Services[id].RTO, p.Services[id].RPO)
	}
	for _, id := range l.stores {
		look("stores."+id, p.Stores[id].RTO, p.Stores[id].RPO)
	}
}
