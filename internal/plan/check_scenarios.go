package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
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
			_, declared := p.ObjectiveIn(id, sc)
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
	for _, sc := range sorted(p.Scenarios) {
		x, path := p.Scenarios[sc], "scenarios."+sc
		l.objective(path+".rto", x.RTO)
		l.objective(path+".rpo", x.RPO)
		if r, ok := p.Runbooks[x.Runbook]; ok {
			if rto, bound := x.RTO.Duration(); bound {
				l.fitsIn(x.Runbook, r, path, fmt.Sprintf("in the scenario %q everything", sc), rto)
			}
		}
	}
}

func (l *linter) scenarioHint(b Backup, location string, rpo time.Duration) string {
	if every := b.Copies[location].Every.Approx(); every > 0 {
		if room := rpo - worstLoss(b, location).total + every; room > 0 {
			return fmt.Sprintf("bring %q up to date every %s or at once, or declare a looser rpo for this scenario", location, edit(max(room/2, time.Second)))
		}
	}
	return "back up more often or ship the log, or declare a looser rpo for this scenario"
}

// rehearsals looks for one test that is to show several losses which it does not
// rehearse.
func (l *linter) rehearsals() {
	p := l.p
	own := map[string]int{} // how many drills and exercises rehearse a scenario
	for _, d := range p.Drills {
		for _, sc := range d.Scenarios {
			own[sc]++
		}
	}
	for _, e := range p.Exercises {
		for _, sc := range e.Scenarios {
			own[sc]++
		}
	}
	for _, id := range sorted(p.Exercises) {
		e := p.Exercises[id]
		if len(e.Confirms) == 0 {
			continue
		}
		claims := slices.Concat(e.Severities, e.Scenarios)
		const pair = 2
		if len(claims) < pair {
			continue
		}
		var alone []string
		for _, sev := range e.Severities {
			rehearsed := false
			for _, sc := range p.Severities[sev].Scenarios {
				rehearsed = rehearsed || own[sc] > 0 && !slices.Contains(e.Scenarios, sc) || own[sc] > 1
			}
			if !rehearsed {
				alone = append(alone, sev)
			}
		}
		for _, sc := range e.Scenarios {
			if own[sc] < pair {
				alone = append(alone, sc)
			}
		}
		if len(alone) >= pair {
			l.warn(codeOneTest, "exercises."+id, "rehearse each loss by a drill or exercise of its own (scenarios: […]), or say which of them it covers", "%q is to confirm %s for %s, and it is the only rehearsal of %s",
				id, several(e.Confirms), several(claims), several(alone))
		}
	}
}

// stages looks for staged objectives whose total depends on how they are read.
func (l *linter) stages(path string, o Objective) {
	unclear := ""
	inRow, apart := time.Duration(0), time.Duration(0)
	for i, st := range o.Stages {
		if i > 0 && st.From == "" {
			unclear = st.ID
		}
		inRow += st.Max.Approx()
		apart = max(apart, st.Max.Approx())
	}
	if unclear == "" {
		return
	}
	l.report(codeStages, holdfast.SeverityWarning, path, fmt.Sprintf("add \"from:\" to the stage %q: a clock, or the stage at whose end it begins", unclear),
		"the stages end after %s if each begins at the end of the one before, and after %s if all begin together: the plan does not say which", period(inRow), period(apart))
}
