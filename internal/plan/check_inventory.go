package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// inventory looks at what every service and store must say about itself, and at what
// nothing reaches.
func (l *linter) inventory() {
	p := l.p
	for _, id := range l.services {
		s, path := p.Services[id], "services."+id
		l.level(path, s.Level)
		l.owner(path, s.Owner, s.Production())
		if s.Production() && l.silent(id, s.Tier, MetricRTO) {
			l.fail(codeProduction, path, "give it a tier, or an rto of its own", "%q promises no RTO%s", id, production(s.Environment))
		}
	}
	for _, id := range l.stores {
		s, path := p.Stores[id], "stores."+id
		l.owner(path, s.Owner, s.Production())
		if !s.Production() {
			continue
		}
		if l.silent(id, s.Tier, MetricRPO) {
			l.fail(codeProduction, path, "give it a tier, or an rpo of its own", "%q promises no RPO%s", id, production(s.Environment))
		}
		if s.Class == "" {
			l.fail(codeClass, path, "add \"class: confidential\", or your own word for it, and \"contains: [personal]\" or what else is special", "%q is not classified: nobody can say who may see a copy of it", id)
		}
	}
	l.orphans()
	l.exclusions()
	l.singlePoints()
	l.serviceKinds()
}

// silent reports whether nothing is declared for an objective. A tier that is not
// declared is reported as that.
func (l *linter) silent(id, tier, metric string) bool {
	if _, declared := l.p.Tiers[tier]; tier != "" && !declared {
		return false
	}
	return len(l.p.ObjectivesOf(id, metric, "")) == 0
}

// production says why the rules for production apply to something with another name.
func production(environment string) string {
	if environment == "" || environment == "production" {
		return ", and the rules for production apply: it has live data"
	}
	return fmt.Sprintf(", and the rules for production apply: it is called %s and has live data", environment)
}

func (l *linter) owner(path, owner string, production bool) {
	if owner != "" {
		return
	}
	severity := holdfast.SeverityWarning
	if production {
		severity = holdfast.SeverityError
	}
	l.report(codeProduction, severity, path, "add \"owner:\" with a role or a person", "%s has no owner: nobody answers for it", path)
}

// orphans reports what nothing uses. A store that no service needs is protected for
// nobody, or a need was forgotten, and then it is recovered too late.
func (l *linter) orphans() {
	p := l.p
	used := map[string]map[string]bool{}
	use := func(section string, ids ...string) {
		if used[section] == nil {
			used[section] = map[string]bool{}
		}
		for _, id := range ids {
			used[section][id] = true
		}
	}
	for _, s := range p.Services {
		for id := range s.Needs {
			use("nodes", id)
		}
		for _, any := range s.AnyOf {
			use("nodes", any.Of...)
		}
		use("tiers", s.Tier)
		use("runbooks", s.Runbook)
	}
	for _, s := range p.Stores {
		use("nodes", s.On)
		use("tiers", s.Tier)
		use("backups", s.Protect)
		if s.Delegated != nil {
			use("nodes", s.Delegated.To)
		}
	}
	for _, x := range p.Suppliers {
		use("runbooks", x.Contingency)
		use("nodes", x.Alternatives...)
		if x.Exit != nil {
			use("runbooks", x.Exit.Runbook)
		}
	}
	for _, f := range p.Facilities {
		use("nodes", f.Supplier)
	}
	for _, sc := range p.Scenarios {
		use("runbooks", sc.Runbook)
	}
	for _, b := range p.Backups {
		use("locations", b.Copies.Names()...)
	}
	for _, loc := range p.Locations {
		use("nodes", loc.Supplier, loc.Facility, loc.Provider)
	}
	use("keys", p.Repository.EncryptTo...)
	if kit := p.RecoveryKit; kit != nil {
		use("keys", kit.Key)
	}
	for _, scope := range p.Plan.Scope {
		use("scope", scope.Of...)
	}
	for _, id := range l.stores {
		if !used["nodes"][id] {
			l.warn(codeOrphan, "stores."+id, fmt.Sprintf("add \"needs: {%s: hard}\" to the service that writes to it, or remove it", id),
				"no service needs %q: nothing says when it must be back, or for whom", id)
		}
	}
	note := func(section, what string, ids []string, uses map[string]bool) {
		for _, id := range ids {
			if !uses[id] {
				l.report(codeOrphan, holdfast.SeverityNote, section+"."+id, "use it, or remove it", "nothing uses the %s %q", what, id)
			}
		}
	}
	note("locations", "location", l.locations, used["locations"])
	note("backups", "backup", sorted(p.Backups), used["backups"])
	note("keys", "key", sorted(p.Keys), used["keys"])
	note("suppliers", "supplier", l.suppliers, used["nodes"])
	for _, id := range sorted(p.Runbooks) {
		if !used["runbooks"][id] && len(p.Runbooks[id].Scenarios) == 0 {
			l.report(codeOrphan, holdfast.SeverityNote, "runbooks."+id, "name it by a service or scenario, or remove it", "nothing uses the runbook %q", id)
		}
	}
	for _, part := range p.Plan.Scope {
		if len(part.Of) == 0 {
			return // in words, which nobody can compare
		}
	}
	if len(used["scope"]) == 0 {
		return
	}
	for id, x := range p.Exclusions {
		use("scope", id, x.What)
	}
	for _, id := range l.nodes {
		if !used["scope"][id] {
			l.warn(codeOrphan, l.section(id)+"."+id, "name it in a part of plan.scope, or exclude it by its name with a reason", "%q lies outside the scope that the plan declares", id)
		}
	}
}

// section returns the part of the plan that declares a node.
func (l *linter) section(node string) string {
	if _, ok := l.p.Services[node]; ok {
		return "services"
	}
	if _, ok := l.p.Stores[node]; ok {
		return "stores"
	}
	if _, ok := l.p.Suppliers[node]; ok {
		return "suppliers"
	}
	return "facilities"
}

// exclusions looks at what the plan leaves out: each needs somebody who bears it.
func (l *linter) exclusions() {
	p := l.p
	excluded := map[string]string{}
	for _, id := range sorted(p.Exclusions) {
		x, path := p.Exclusions[id], "exclusions."+id
		if strings.TrimSpace(x.Why) == "" {
			l.fail(codeExclusion, path+".why", "write why it does not apply, or cover it", "%q is left out without a reason", id)
		}
		if x.AcceptedBy == "" {
			l.warn(codeExclusion, path, "add \"accepted_by:\" with a role or a person", "%q is left out, and nobody has accepted that", id)
		}
		if !x.Until.IsZero() && l.past(x.Until) {
			l.warn(codeLapsed, path+".until", "look at it again, and write the next day", "the exclusion %q was to be looked at again by %s, %s ago", id, x.Until, l.daysSince(x.Until))
		}
		for _, h := range x.Hazards {
			excluded[h] = id
		}
	}
	for _, id := range sorted(p.Scenarios) {
		for _, h := range p.Scenarios[id].Hazards {
			if x, ok := excluded[h]; ok {
				l.warn(codeExclusion, "exclusions."+x+".hazards", "take it out of one of the two", "%q is left out by %q, and the scenario %q plans for it", h, x, id)
			}
		}
	}
}

// singlePoints lists what several services cannot run without, where nothing is
// doubled and no reason is given. Stores are not among them: their answer to a failure
// is the backup, which has rules of its own.
func (l *linter) singlePoints() {
	p := l.p
	needed := map[string][]string{}
	for _, id := range l.services {
		for node, need := range p.Services[id].Needs {
			if need == Hard {
				needed[node] = append(needed[node], id)
			}
		}
		for _, any := range p.Services[id].AnyOf {
			if any.Need != Soft && max(any.AtLeast, 1) == len(any.Of) {
				for _, node := range any.Of {
					needed[node] = append(needed[node], id)
				}
			}
		}
	}
	const least = 2 // services that fall together
	for _, id := range sorted(needed) {
		if len(needed[id]) < least {
			continue
		}
		s, service := p.Services[id]
		x, supplier := p.Suppliers[id]
		_, facility := p.Facilities[id]
		switch {
		case service && s.Redundancy == nil:
			l.report(codeSingle, holdfast.SeverityNote, "services."+id, "add \"redundancy: {how: …}\", or {none: \"why it is not feasible\"}",
				"%q is a single point of failure: without it %s stand still", id, several(needed[id]))
		case supplier && len(x.Alternatives) == 0 && x.Contingency == "" && x.Mitigation == "":
			l.report(codeSingle, holdfast.SeverityNote, "suppliers."+id, "add alternatives, a contingency, or \"mitigation:\" with the reason why there is none",
				"%q is a single point of failure: without it %s stand still", id, several(needed[id]))
		case facility && p.Facilities[id].None == "":
			l.report(codeSingle, holdfast.SeverityNote, "facilities."+id, "name a second facility by any_of",
				"%q is a single point of failure: without it %s stand still", id, several(needed[id]))
		}
	}
}

// serviceKinds looks at what a service of each kind must have. A service without a kind
// has no such rule.
func (l *linter) serviceKinds() {
	p := l.p
	for _, id := range l.services {
		s, path := p.Services[id], "services."+id
		if !s.Production() {
			continue
		}
		switch s.Kind {
		case ServiceAPI, ServiceWeb, ServiceWorker, ServiceHost:
			if s.Runbook == "" && !l.keepsCode(s) {
				l.warn(codeKind, path+".kind", `add "runbook:", or a need of the store that holds its code (kind git) or image (kind vm)`,
					"nothing says what the %s %q is rebuilt from", s.Kind, id)
			}
		case ServiceInference, ServiceNetwork:
			if s.Redundancy == nil && len(s.AnyOf) == 0 {
				l.warn(codeKind, path+".kind", `add "any_of: {provider: {of: […]}}", "redundancy: {how: …}", or {none: "why there is none"}`,
					"nothing stands in for the %s %q, and no reason says why", s.Kind, id)
			}
		}
	}
}

// keepsCode reports whether a service needs a store from which it can be built.
func (l *linter) keepsCode(s Service) bool {
	for need := range s.Needs {
		switch l.p.Stores[need].Kind {
		case KindGit, KindVM:
			return true
		}
	}
	return false
}

// several names things, at most five of them.
func several(ids []string) string {
	ids = slices.Sorted(slices.Values(ids))
	const most = 5
	if len(ids) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
	}
	if len(ids) > 1 {
		return strings.Join(ids[:len(ids)-1], ", ") + " and " + ids[len(ids)-1]
	}
	return strings.Join(ids, "")
}

// past reports whether a day is over, in the plan's time zone.
func (l *linter) past(d Date) bool { return l.since(d) > 0 }

// since returns how long a day is over; negative while it is not.
func (l *linter) since(d Date) time.Duration {
	return l.now.Sub(Date{d.Year, d.Month, d.Day + 1}.Begin(l.p.Location()))
}

// daysSince writes how long ago a day was, in days.
func (l *linter) daysSince(d Date) string { return days(l.daysBetween(d, l.today())) }

// today is the day of now in the plan's time zone.
func (l *linter) today() Date {
	y, m, d := l.now.In(l.p.Location()).Date()
	return Date{y, m, d}
}

// daysBetween counts the days from one day to another.
func (l *linter) daysBetween(from, to Date) int {
	begin := func(d Date) time.Time { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) }
	return int(begin(to).Sub(begin(from)) / (24 * time.Hour))
}

func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
