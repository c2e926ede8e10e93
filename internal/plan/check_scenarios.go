package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// lost reports whether a location is gone in a scenario. A name without a kind is a
// location; "region:eu-1" takes everything in that region.
func (p *Plan) lost(sc Scenario, name string) bool {
	loc := p.Locations[name]
	return slices.ContainsFunc(sc.Lose, func(item string) bool {
		kind, what, ok := strings.Cut(item, ":")
		if !ok {
			return item == name
		}
		switch kind {
		case "location":
			return what == name
		case "region":
			return what == loc.Region
		case "provider":
			return what == loc.Provider || what == loc.Supplier
		case "supplier":
			return what == loc.Supplier || what == loc.Provider || loc.Facility != "" && p.Facilities[loc.Facility].Supplier == what
		case "account":
			return what == loc.Account
		case "domain", "host":
			return what == loc.DomainOr()
		case "site", "facility":
			return what == loc.Facility || what == loc.DomainOr()
		case "credential":
			return what == loc.Credential
		}
		return false
	})
}

// scenarios compares, for each scenario and store, what the copies that survive it
// give back with the RPO that holds then.
func (l *linter) scenarios() {
	p := l.p
	gone := map[string]map[string]bool{} // scenario, location
	var losing []string
	for _, sc := range sorted(p.Scenarios) {
		gone[sc] = map[string]bool{}
		for _, loc := range l.locations {
			gone[sc][loc] = p.lost(p.Scenarios[sc], loc)
		}
		if len(p.Scenarios[sc].Lose) > 0 {
			losing = append(losing, sc)
		}
	}
	type what struct{ backup, scenario string }
	told := map[what]time.Duration{} // the strictest RPO that a backup was judged by
	for _, sc := range losing {
		for _, id := range l.stores {
			s := p.Stores[id]
			b, ok := p.Backups[s.Protect]
			if !ok || len(b.Copies) == 0 || !s.Kind.Protected() || b.Log != nil && s.Kind != KindPostgres {
				continue
			}
			best, bestAt := loss{}, ""
			for _, name := range b.Copies.Names() {
				if _, declared := p.Locations[name]; !declared || gone[sc][name] {
					continue
				}
				if x := worstLoss(b, name); bestAt == "" || x.total < best.total {
					best, bestAt = x, name
				}
			}
			key := what{s.Protect, sc}
			if bestAt == "" {
				if told[key] == 0 {
					l.fail(codeSurvivors, "backups."+s.Protect+".copies", fmt.Sprintf("add a location that %q does not take", sc), "in the scenario %q (%s lost) no copy of %q survives", sc, strings.Join(p.Scenarios[sc].Lose, ", "), id)
					told[key] = 1
				}
				continue
			}
			declared := l.then(id, sc)
			rpo, bound := declared.Duration()
			if !bound || best.total <= rpo || told[key] != 0 && told[key] <= rpo {
				continue
			}
			told[key] = rpo
			l.fail(codeSchedule, "backups."+s.Protect+".copies."+bestAt, l.scenarioHint(b, bestAt, rpo),
				"in the scenario %q (%s lost) %q may lose %s with what is left in %q, and its RPO is then %s (%s)",
				sc, strings.Join(p.Scenarios[sc].Lose, ", "), id, sum(best), bestAt, declared.Objective, declared.Selector)
		}
	}
	l.keysLeft(losing, gone)
	for _, sc := range sorted(p.Scenarios) {
		x, path := p.Scenarios[sc], "scenarios."+sc
		l.objective(path+".rto", x.RTO)
		l.objective(path+".rpo", x.RPO)
		if r, ok := p.Runbooks[x.Runbook]; ok {
			if rto, bound := x.RTO.Duration(); bound {
				l.fitsIn(x.Runbook, r, path, fmt.Sprintf("in the scenario %q everything", sc), rto)
			}
			for _, sev := range l.severitiesOf(sc) {
				if rto, bound := p.Severities[sev].RTO.Duration(); bound {
					l.fitsIn(x.Runbook, r, "severities."+sev+".rto", fmt.Sprintf("in the scenario %q, of severity %q, everything", sc, sev), rto)
				}
			}
		}
	}
}

// keysLeft looks for scenarios that leave copies, and no key to open them: the keys are
// kept where the loss is, or their holders are lost with it.
func (l *linter) keysLeft(losing []string, gone map[string]map[string]bool) {
	p := l.p
	for _, sc := range losing {
		if !slices.ContainsFunc(l.locations, func(id string) bool { return !gone[sc][id] }) {
			continue
		}
		var losses []Loss
		for _, item := range p.Scenarios[sc].Lose {
			if x, err := p.ParseLoss(item); err == nil { // else undeclared, which is reported
				losses = append(losses, x)
			}
		}
		fallen := p.Falls(losses...).Keys
		var why []string
		for _, key := range p.Repository.EncryptTo {
			if fallen[key] == "" {
				why = nil
				break
			}
			why = append(why, fmt.Sprintf("%q: %s", key, fallen[key]))
		}
		if len(why) > 0 {
			l.fail(codeKeys, "repository.encrypt_to", fmt.Sprintf("keep one key where %q does not reach, or with somebody else", sc),
				"in the scenario %q (%s lost) copies survive and no key is left that opens them: %s", sc, strings.Join(p.Scenarios[sc].Lose, ", "), strings.Join(why, "; "))
		}
	}
}

// severitiesOf returns the severities that an incident of a scenario has.
func (l *linter) severitiesOf(scenario string) []string {
	var out []string
	for _, id := range sorted(l.p.Severities) {
		if l.p.Scenarios[scenario].Severity == id || slices.Contains(l.p.Severities[id].Scenarios, scenario) {
			out = append(out, id)
		}
	}
	return out
}

// then returns the RPO of a store that counts in a scenario: what holds for it
// then, or what the policy promises for an incident of that severity, whichever number
// is shorter. Their labels are not compared.
func (l *linter) then(id, scenario string) Declared {
	p := l.p
	all := p.ObjectivesOf(id, MetricRPO, scenario)
	for _, sev := range l.severitiesOf(scenario) {
		if o := p.Severities[sev].RPO; !o.IsZero() {
			all = append(all, Declared{Objective: o, Metric: MetricRPO, Selector: "severities." + sev, Path: "severities." + sev + ".rpo"})
		}
	}
	counts, _ := Strictest(all)
	return counts
}

func (l *linter) scenarioHint(b Backup, location string, rpo time.Duration) string {
	if every := b.Copies[location].Every.Approx(); every > 0 {
		if room := rpo - worstLoss(b, location).total + every; room > 0 {
			return fmt.Sprintf("bring %q up to date every %s or at once, or declare a looser rpo for this scenario", location, edit(max(room/2, time.Second)))
		}
	}
	return "back up more often or ship the log, or declare a looser rpo for this scenario"
}

// rehearsals looks for tests that are to show several losses which they do not
// rehearse.
func (l *linter) rehearsals() {
	p := l.p
	really := map[string]bool{} // scenarios in which something is restored or switched off
	for _, d := range p.Drills {
		for _, sc := range d.Scenarios {
			really[sc] = true
		}
	}
	for _, e := range p.Exercises {
		if e.Kind == Technical || e.Kind == Failover {
			for _, sc := range e.Scenarios {
				really[sc] = true
			}
		}
	}
	for _, id := range sorted(p.Exercises) {
		e, path := p.Exercises[id], "exercises."+id
		if (e.Kind == Tabletop || e.Kind == CallTree) && len(e.Confirms) > 0 {
			l.warn(codeOneTest, path+".confirms", "let a drill or a technical exercise confirm it", "%q is to confirm %s, and a %s measures nothing", id, several(e.Confirms), e.Kind)
		}
	}
	for _, id := range sorted(p.Drills) {
		d := p.Drills[id]
		for i, sc := range d.Scenarios {
			if d.From != "" && p.lost(p.Scenarios[sc], d.From) {
				l.fail(codeOneTest, fmt.Sprintf("drills.%s.scenarios[%d]", id, i), "restore from a location that survives it, or take the scenario out", "the drill restores from %q, which is lost in %q: it shows nothing about that loss", d.From, sc)
			}
		}
		const many = 3 // losses for which one restore is to stand
		if len(d.Of) == 1 && len(d.Scenarios) >= many {
			l.warn(codeOneTest, "drills."+id+".scenarios", "name the losses that this restore really rehearses, and add a drill or failover exercise for the others",
				"one restore of %q is to show what happens in %s", d.Of[0], several(d.Scenarios))
		}
	}
	promised := 0
	var unseen, losses []string
	for _, id := range sorted(p.Severities) {
		s := p.Severities[id]
		if _, ok := s.RTO.Duration(); !ok || len(s.Scenarios) == 0 {
			continue
		}
		promised++
		if !slices.ContainsFunc(s.Scenarios, func(sc string) bool { return really[sc] }) {
			unseen = append(unseen, id)
			losses = append(losses, s.Scenarios...)
		}
	}
	if promised > 1 && len(unseen) > 0 {
		l.warn(codeOneTest, "severities."+unseen[0], fmt.Sprintf("name what a drill or a technical or failover exercise rehearses, for example \"scenarios: [%s]\", and add what is missing", losses[0]),
			"the limits of %s are to hold, and nothing rehearses %s: no restore of another loss shows it", several(unseen), several(uniq(losses)))
	}
}

// stages looks for staged objectives whose total depends on how they are read: a stage
// that does not say where it begins may follow the one before, or the first one, or
// begin together with it.
func (l *linter) stages(path string, o Objective) {
	if len(o.Stages) < 2 {
		return
	}
	unclear := ""
	var inRow, after, together time.Duration
	first := o.Stages[0].Max.Approx()
	for i, st := range o.Stages {
		if i > 0 && st.From == "" {
			unclear = st.ID
		}
		inRow += st.Max.Approx()
		if i > 0 {
			after = max(after, first+st.Max.Approx())
		}
		together = max(together, st.Max.Approx())
	}
	if unclear == "" {
		return
	}
	var readings []string
	for _, d := range slices.Compact([]time.Duration{inRow, after, together}) {
		readings = append(readings, exact(d))
	}
	l.warn(codeStages, path, fmt.Sprintf("add \"from:\" to the stage %q: a clock, or the stage at whose end it begins", unclear),
		"the last stage ends after %s, depending on whether each begins at the end of the one before, of the first one, or at once: the plan does not say which", strings.Join(readings, " or "))
}
