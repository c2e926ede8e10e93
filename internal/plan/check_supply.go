package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// supply looks at what is in the hands of others.
func (l *linter) supply() {
	l.switched = map[string]bool{}
	for _, s := range l.p.Services {
		for _, any := range s.AnyOf {
			for _, id := range any.Of {
				l.switched[id] = l.switched[id] || any.TestEvery.Interval() > 0
			}
		}
	}
	dependents := l.dependents()
	for _, id := range l.suppliers {
		l.guarantee(id, dependents[id])
		l.register(id)
	}
	l.delegated()
	l.concentration()
	l.residency()
	l.approvedPlaces()
}

// dependents returns, by supplier, the services and stores that need it: a service by
// a hard need, a store that runs on it.
func (l *linter) dependents() map[string][]string {
	p := l.p
	out := map[string][]string{}
	add := func(supplier, node string) {
		if _, ok := p.Suppliers[supplier]; ok && !slices.Contains(out[supplier], node) {
			out[supplier] = append(out[supplier], node)
		}
	}
	for _, id := range l.services {
		for node, need := range p.Services[id].Needs {
			if need == Hard {
				add(node, id)
				add(p.Facilities[node].Supplier, id)
			}
		}
	}
	for _, id := range l.stores {
		add(p.Stores[id].On, id)
		add(p.Facilities[p.Stores[id].On].Supplier, id)
	}
	return out
}

// guarantee compares what a supplier promises with what depends on it.
func (l *linter) guarantee(id string, nodes []string) {
	x, path := l.p.Suppliers[id], "suppliers."+id
	strictest, rto := "", time.Duration(0)
	for _, node := range nodes {
		if d := l.promise(node).RTO; d > 0 && (rto == 0 || d < rto) {
			strictest, rto = node, d
		}
	}
	tested := len(x.Alternatives) > 0 && x.TestEvery.Interval() > 0 || x.Contingency != "" && (x.TestEvery.Interval() > 0 || l.rehearsed(x.Contingency, id))
	tested = tested || l.switched[id]
	answered := tested || x.Mitigation != ""
	theirs, bound := x.RTO.Duration()
	const way = "agree on an rto, or name a contingency or alternatives with test_every, or say by mitigation what makes up for it"
	switch {
	case rto > 0 && !bound && !answered:
		said := "its guarantee is unknown"
		if x.RTO.Stated != "" {
			said = fmt.Sprintf("it guarantees %q, which is no number", x.RTO.Stated)
		}
		untested := ""
		if x.Contingency != "" || len(x.Alternatives) > 0 {
			untested = ", and its contingency is not tested"
		}
		l.warn(codeSupplier, path, way, "%q must be back within %s and rests on %q: %s%s", strictest, period(rto), id, said, untested)
	case rto > 0 && bound && theirs > rto && !answered:
		l.fail(codeSupplier, path+".rto", way, "%q must be back within %s and rests on %q, which guarantees %s", strictest, period(rto), id, period(theirs))
	case (x.Criticality == "high" || x.Criticality == "critical") && x.Contingency == "" && len(x.Alternatives) == 0 && x.Mitigation == "":
		l.warn(codeSupplier, path, "add \"contingency:\" with a runbook, or alternatives", "%q is rated %s, and nothing says what is done when it fails", id, x.Criticality)
	case (x.Contingency != "" || len(x.Alternatives) > 0) && !tested:
		l.warn(codeSupplier, path, "add \"test_every: 1y\"", "the contingency for %q is never tried", id)
	}
	for _, alt := range x.Alternatives {
		if alt == id {
			l.fail(codeConcentration, path+".alternatives", "name another supplier", "%q is its own alternative", id)
		}
	}
	for _, name := range sorted(x.Evidence) {
		l.attested(path+".evidence."+name, x.Evidence[name])
	}
	if x.Exit != nil && !x.Exit.Notice.IsZero() && x.Exit.Takes.Approx() > x.Exit.Notice.Approx() {
		l.warn(codeSupplier, path+".exit", "ask for a longer notice, or prepare to leave faster", "leaving %q takes %s, and it may end with %s notice", id, x.Exit.Takes, x.Exit.Notice)
	}
}

// rehearsed reports whether an exercise is about a supplier, or a drill or exercise
// about the scenarios of a runbook.
func (l *linter) rehearsed(runbook, supplier string) bool {
	for _, e := range l.p.Exercises {
		if slices.Contains(e.Of, supplier) || l.shares(e.Scenarios, l.p.Runbooks[runbook].Scenarios) {
			return true
		}
	}
	return false
}

func (l *linter) shares(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// responsibilities are what must be clear between a company and a supplier once it says
// who does any of them.
var responsibilities = []string{"backup", "redundancy", "restore"}

// register looks for what must be known about a supplier before it fails.
func (l *linter) register(id string) {
	x, path := l.p.Suppliers[id], "suppliers."+id
	for _, part := range sorted(x.Responsible) {
		if x.Responsible[part] != PartyUs && len(x.Evidence) == 0 {
			l.warn(codeClaimed, path+".responsible."+part, "add \"evidence:\" with what it has shown, such as a certificate with its end, or see to it yourself", "that %q sees to the %s is claimed: it has shown nothing", id, part)
		}
	}
	important := x.Criticality == "high" || x.Criticality == "critical"
	var missing []string
	for _, f := range []struct {
		name  string
		there bool
	}{{"provides", x.Provides != ""}, {"owner", x.Owner != ""}, {"contacts", len(x.Contacts) > 0}, {"contract", x.Contract != ""}, {"rto", !x.RTO.IsZero()}, {"regions", len(x.Regions) > 0}, {"holds", x.Holds != nil},
		{"review", !x.Review.Every.IsZero()}} {
		if important && !f.there {
			missing = append(missing, f.name)
		}
	}
	for _, part := range responsibilities {
		if _, said := x.Responsible[part]; len(x.Responsible) > 0 && !said {
			missing = append(missing, "responsible."+part)
		}
	}
	if len(missing) > 0 {
		l.warn(codeRegister, path, "add "+strings.Join(missing, ", "), "the register of suppliers lacks, for %q: %s", id, strings.Join(missing, ", "))
	}
}

// delegated looks at stores that somebody else protects: what they say is claimed
// until a restore of our own has shown it.
func (l *linter) delegated() {
	p := l.p
	for _, id := range l.stores {
		d, path := p.Stores[id].Delegated, "stores."+id+".delegated"
		if d == nil {
			continue
		}
		promise := l.promise(id)
		rpo, bound := d.RPO.Duration()
		l.asked(path, id, d)
		switch {
		case p.Stores[id].Protect != "" && p.Stores[id].Kind.Protected():
			continue // what others do comes on top of our own
		case promise.RPO > 0 && bound && rpo > promise.RPO:
			l.fail(codeClaimed, path+".rpo", "protect it yourself as well, or declare a looser rpo", "%q may lose %s, and %q promises only %s", id, period(promise.RPO), d.To, period(rpo))
		case promise.RPO > 0 && !bound:
			l.warn(codeClaimed, path, fmt.Sprintf("ask %s for an rpo in numbers, or protect it yourself as well", d.To),
				"%q may lose %s; %q is to protect it, and says nothing in numbers", id, period(promise.RPO), d.To)
		case d.TestEvery.Interval() == 0:
			l.warn(codeClaimed, path, "add \"adapter:\" and \"test_every:\" to restore from the supplier's copy, or protect it yourself as well",
				"that %q can be got back is claimed by %q, and nobody has tried", id, d.To)
		}
		if p.Suppliers[d.To].Responsible["backup"] == PartyUs {
			l.fail(codeClaimed, path+".to", "protect it yourself, or correct who is responsible", "%q leaves its backup to %q, and suppliers.%s.responsible says that backup is ours", id, d.To, d.To)
		}
	}
}

// asked looks whether what the plan wants to know of a supplier can be found out.
func (l *linter) asked(path, id string, d *Delegated) {
	if len(d.Adapter) == 0 {
		for _, f := range []struct {
			name string
			said bool
		}{{"probe_every", !d.ProbeEvery.IsZero()}, {"test_every", !d.TestEvery.IsZero()}, {"newest", d.Newest != ""}} {
			if f.said {
				l.warn(codeClaimed, path+"."+f.name, "name the program that asks the supplier: \"adapter: [./ask-supplier]\"; docs/format/adapter.md is its contract",
					"nothing can ask %q about %q, so %s stays undone", d.To, id, f.name)
			}
		}
		return
	}
	every, _ := d.Probes()
	if limit := d.oldest(l.promise(id).RPO); limit > 0 && l.interval(every) > limit {
		l.warn(codeClaimed, path+".probe_every", fmt.Sprintf("ask at least every %s", edit(limit)), "%q is asked every %s how fresh its copies are, and %s may be lost: it would be noticed too late",
			d.To, period(l.interval(every)), period(limit))
	}
	if d.Newest == "" && l.promise(id).RPO > 0 && !d.TestEvery.IsZero() && l.p.Stores[id].Kind == KindPostgres {
		l.warn(codeClaimed, path, "add \"newest:\" with a statement such as select max(created) from orders", "a restore by %q is tried, and nothing measures how much of %q it loses", d.To, id)
	}
}

// concentration looks for a store and all its copies, or alternatives, with one
// supplier: its failure, its bill or its login ends both.
func (l *linter) concentration() {
	p := l.p
	of := func(loc Location) string {
		switch {
		case loc.Supplier != "":
			return loc.Supplier
		case loc.Provider != "":
			return loc.Provider
		}
		return p.Facilities[loc.Facility].Supplier
	}
	for _, id := range l.stores {
		s := p.Stores[id]
		on := s.On
		if f, ok := p.Facilities[on]; ok {
			on = f.Supplier
		}
		b, ok := p.Backups[s.Protect]
		if on == "" || !ok {
			continue
		}
		all := len(b.Copies) > 0
		for name := range b.Copies {
			all = all && of(p.Locations[name]) == on
		}
		if all {
			l.fail(codeConcentration, "stores."+id+".on", "put one copy with another supplier", "%q and every copy of it are with %q", id, on)
		}
	}
	for _, id := range l.services {
		for _, name := range sorted(p.Services[id].AnyOf) {
			any := p.Services[id].AnyOf[name]
			if shared := l.sharedNeed(any.Of); shared != "" && len(any.Of) > 1 {
				l.warn(codeConcentration, "services."+id+".any_of."+name, "let one of them rest on another supplier", "%s stand in for each other, and all of them need %q", several(any.Of), shared)
			}
			if any.TestEvery.Interval() == 0 {
				l.warn(codeSupplier, "services."+id+".any_of."+name, "add \"test_every: 1q\"", "that %s can stand in for each other is never tried", several(any.Of))
			}
		}
	}
}

// sharedNeed returns a supplier that all of the nodes cannot run without, or "".
func (l *linter) sharedNeed(nodes []string) string {
	var common []string
	for i, node := range nodes {
		var mine []string
		for need, strength := range l.p.Services[node].Needs {
			if _, ok := l.p.Suppliers[need]; ok && strength == Hard {
				mine = append(mine, need)
			}
		}
		if on := l.p.Stores[node].On; on != "" {
			mine = append(mine, on)
		}
		if i == 0 {
			common = mine
		} else {
			common = slices.DeleteFunc(common, func(s string) bool { return !slices.Contains(mine, s) })
		}
	}
	slices.Sort(common)
	if len(common) == 0 {
		return ""
	}
	return common[0]
}

// residency looks for data and copies where they may not lie.
func (l *linter) residency() {
	p := l.p
	for _, rule := range sorted(p.Residency) {
		r := p.Residency[rule]
		allowed := func(path, what, region, jurisdiction string) {
			check := func(field, is string, may []string) {
				if len(may) == 0 || slices.Contains(may, is) {
					return
				}
				if is == "" {
					l.warn(codeResidency, path, fmt.Sprintf("add \"%s:\"", field), "the plan does not say in which %s %s lies, and %q allows only %s", field, what, rule, strings.Join(may, ", "))
					return
				}
				l.fail(codeResidency, path, fmt.Sprintf("move it, or change residency.%s", rule), "%s is in %s %q, and %q allows only %s", what, field, is, rule, strings.Join(may, ", "))
			}
			check("region", region, r.Regions)
			check("jurisdiction", jurisdiction, r.Jurisdictions)
		}
		seen := map[string]bool{}
		for _, id := range l.stores {
			if len(r.Of) > 0 && !slices.Contains(r.Of, id) || len(r.When) > 0 && !p.marked(id, r.When) {
				continue
			}
			s := p.Stores[id]
			if len(r.Regions) > 0 && s.Region != "" && !slices.Contains(r.Regions, s.Region) {
				l.fail(codeResidency, "stores."+id+".region", fmt.Sprintf("move it, or change residency.%s", rule), "%q is in region %q, and %q allows only %s", id, s.Region, rule, strings.Join(r.Regions, ", "))
			}
			for _, name := range p.Backups[s.Protect].Copies.Names() {
				if loc, ok := p.Locations[name]; ok && !seen[name] {
					seen[name] = true
					allowed("locations."+name, fmt.Sprintf("the location %q, with copies of %q,", name, id), loc.Region, loc.Jurisdiction)
				}
			}
			for _, j := range p.Suppliers[s.On].Jurisdictions {
				if len(r.Jurisdictions) > 0 && !slices.Contains(r.Jurisdictions, j) && !seen[s.On] {
					seen[s.On] = true
					l.fail(codeResidency, "suppliers."+s.On+".jurisdictions", fmt.Sprintf("choose another supplier, or change residency.%s", rule), "%q runs on %q in jurisdiction %q, and %q allows only %s", id, s.On, j, rule, strings.Join(r.Jurisdictions, ", "))
				}
			}
		}
	}
}

// Unapproved says why a location is not one of the approved places; "" if it is, or if
// the plan limits none.
func (p *Plan) Unapproved(location string) string {
	a, loc := p.Repository.Approved, p.Locations[location]
	if a == nil {
		return ""
	}
	kinds := make([]string, len(a.Kinds))
	for i, k := range a.Kinds {
		kinds[i] = string(k)
	}
	for _, x := range []struct {
		what, is string
		may      []string
	}{{"name", location, a.Locations}, {"kind", string(loc.Kind), kinds}, {"provider", loc.Provider, a.Providers}, {"region", loc.Region, a.Regions}, {"jurisdiction", loc.Jurisdiction, a.Jurisdictions}} {
		if len(x.may) > 0 && !slices.Contains(x.may, x.is) {
			return fmt.Sprintf("the %s of %q is %q, and approved are %s", x.what, location, x.is, strings.Join(x.may, ", "))
		}
	}
	return ""
}

// approvedPlaces refuses backups that go where nobody allowed them to go.
func (l *linter) approvedPlaces() {
	a := l.p.Repository.Approved
	if a == nil {
		return
	}
	for _, id := range l.locations {
		if why := l.p.Unapproved(id); why != "" {
			l.fail(codePlace, "locations."+id, "use an approved place, or have this one approved under repository.approved", "%s", why)
		}
	}
	if !a.Until.IsZero() && l.past(a.Until) {
		l.warn(codeLapsed, "repository.approved.until", "look at the places again, and write the next day: no new backup goes anywhere until then", "the approved places were to be looked at again by %s, %s ago", a.Until, l.daysSince(a.Until))
	}
}

// attested looks at something that a person or supplier vouches for.
func (l *linter) attested(path string, a Attestation) {
	if a.Ask != "" {
		l.warn(codeUnclear, path, "ask, and write down the answer in place of \"ask\"", "%q is not clear: %s", a.Stated, a.Ask)
	}
	if !a.Until.IsZero() && l.past(a.Until) {
		l.warn(codeLapsed, path+".until", "have it shown again, and write the new day", "%q was shown until %s, which is %s ago", a.Stated, a.Until, l.daysSince(a.Until))
	}
	if vague := vagueWords(a.Stated); len(vague) > 0 && a.Every.Interval() == 0 && a.Until.IsZero() && recurring(vague) {
		l.report(codeVague, holdfast.SeverityNote, path, "add \"every:\" with a period", "%q does not say how often: %s", a.Stated, several(vague))
	}
}
