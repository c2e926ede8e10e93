package plan

import (
	"fmt"
	"slices"
	"strings"
)

// known are the ids that a reference may name, each list sorted.
type known struct {
	people, roles, actors     []string // actors are roles and people
	tiers, backups, runbooks  []string
	scenarios, hazards        []string
	needed                    []string // services, stores, suppliers and facilities
	rests                     []string // needed and actors
	documents, credentials    []string
	severities, terms, proofs []string
	schemes, approvals, told  []string
}

func (l *linter) known() known {
	p := l.p
	k := known{people: sorted(p.People), roles: sorted(p.Roles), tiers: sorted(p.Tiers), backups: sorted(p.Backups), runbooks: sorted(p.Runbooks),
		scenarios: sorted(p.Scenarios), documents: sorted(p.Documents), credentials: sorted(p.Credentials), severities: sorted(p.Severities),
		schemes: sorted(p.Schemes), approvals: sorted(p.Approvals), proofs: p.proofs()}
	join := func(lists ...[]string) []string {
		all := slices.Concat(lists...)
		slices.Sort(all)
		return all
	}
	k.actors = join(k.roles, k.people)
	k.needed = join(l.nodes, l.suppliers, sorted(p.Facilities))
	k.rests = join(k.needed, k.actors)
	k.hazards = join(sorted(p.Hazards), sorted(Hazards))
	k.terms = join(sorted(p.Obligations), sorted(p.Customers), k.documents)
	if p.Incidents != nil {
		k.told = sorted(p.Incidents.Channels)
	}
	k.told = join(k.told, k.actors)
	return k
}

// maxSuggestions is how many unknown ids of one plan are compared with all that are
// known. A generated plan can have thousands, and nobody reads the hints of all.
const maxSuggestions = 100

// need reports an id that is not among those known.
func (l *linter) need(path, what, id string, known []string) {
	if _, found := slices.BinarySearch(known, id); found || id == "" {
		return
	}
	hint := "correct the name, or declare it"
	if l.unknown++; l.unknown <= maxSuggestions {
		hint = suggest(id, known)
	}
	l.fail(codeUndeclared, path, hint, "%s %q is not declared", what, id)
}

func (l *linter) needAll(path, what string, ids, known []string) {
	for i, id := range ids {
		l.need(fmt.Sprintf("%s[%d]", path, i), what, id, known)
	}
}

const (
	actor = "the role or person"
	node  = "the service or store"
)

// references reports every id that is used and not declared.
func (l *linter) references() {
	k := l.known()
	l.peopleReferences(k)
	l.nodeReferences(k)
	l.protectionReferences(k)
	l.recoveryReferences(k)
	l.governReferences(k)
	l.objectiveReferences(k)
	l.messageReferences()
}

func (l *linter) peopleReferences(k known) {
	p := l.p
	l.need("plan.owner", "the owner", p.Plan.Owner, k.actors)
	l.needAll("plan.approvers", "the approver", p.Plan.Approvers, k.actors)
	l.needAll("plan.review.by", actor, p.Plan.Review.By, k.actors)
	for _, id := range sorted(p.Plan.Scope) {
		l.needAll("plan.scope."+id+".of", "the item", p.Plan.Scope[id].Of, k.rests)
	}
	for _, id := range k.roles {
		r, path := p.Roles[id], "roles."+id
		l.need(path+".holder", "the person", r.Holder, k.people)
		l.need(path+".deputy", "the person", r.Deputy, k.people)
		l.needAll(path+".apart_from", "the role", r.ApartFrom, k.roles)
	}
	for _, id := range k.people {
		l.needAll("people."+id+".can", "the runbook", p.People[id].Can, k.runbooks)
	}
	if oc := p.OnCall; oc != nil {
		l.needAll("oncall.primary", actor, oc.Primary, k.actors)
		l.needAll("oncall.secondary", actor, oc.Secondary, k.actors)
		l.needAll("oncall.escalate_to", actor, oc.EscalateTo, k.actors)
	}
	for _, act := range k.approvals {
		l.needAll("approvals."+act+".roles", actor, p.Approvals[act].Roles, k.actors)
	}
	for _, id := range sorted(p.Classes) {
		l.need("classes."+id+".owner", actor, p.Classes[id].Owner, k.actors)
	}
	if len(p.Classes) > 0 {
		for _, id := range l.stores {
			l.need("stores."+id+".class", "the class", p.Stores[id].Class, sorted(p.Classes))
		}
	}
	for _, id := range k.credentials {
		l.needAll("credentials."+id+".holders", "the person", p.Credentials[id].Holders, k.people)
	}
	for _, id := range sorted(p.Exclusions) {
		l.need("exclusions."+id+".accepted_by", actor, p.Exclusions[id].AcceptedBy, k.actors)
		l.needAll("exclusions."+id+".hazards", "the hazard", p.Exclusions[id].Hazards, k.hazards)
	}
	if in := p.Incidents; in != nil {
		for _, id := range sorted(in.Roles) {
			l.need("incidents.roles."+id, actor, in.Roles[id], k.actors)
		}
		for _, id := range sorted(in.Escalation) {
			l.needAll("incidents.escalation."+id+".to", "the role, person or channel", in.Escalation[id].To, k.told)
		}
	}
}

func (l *linter) nodeReferences(k known) {
	p := l.p
	for _, id := range l.services {
		s, path := p.Services[id], "services."+id
		l.need(path+".tier", "the tier", s.Tier, k.tiers)
		l.need(path+".owner", "the owner", s.Owner, k.actors)
		l.need(path+".runbook", "the runbook", s.Runbook, k.runbooks)
		for _, n := range sorted(s.Needs) {
			if _, is := slices.BinarySearch(k.actors, n); !is {
				l.need(path+".needs."+n, node, n, k.needed)
			}
		}
		for _, name := range sorted(s.AnyOf) {
			l.needAll(path+".any_of."+name+".of", node, s.AnyOf[name].Of, k.rests)
		}
		for _, sc := range sorted(s.Scenarios) {
			l.need(path+".scenarios."+sc, "the scenario", sc, k.scenarios)
		}
	}
	for _, id := range l.stores {
		s, path := p.Stores[id], "stores."+id
		l.need(path+".tier", "the tier", s.Tier, k.tiers)
		l.need(path+".owner", "the owner", s.Owner, k.actors)
		l.need(path+".protect", "the backup", s.Protect, k.backups)
		l.need(path+".on", "the supplier, facility, service or store", s.On, k.needed)
		for _, inv := range sorted(s.Invariants) {
			l.need(path+".invariants."+inv+".confirmed_by", actor, s.Invariants[inv].ConfirmedBy, k.actors)
		}
		for _, sc := range sorted(s.Scenarios) {
			l.need(path+".scenarios."+sc, "the scenario", sc, k.scenarios)
		}
		if s.Delegated != nil {
			l.need(path+".delegated.to", "the supplier", s.Delegated.To, l.suppliers)
			l.need(path+".delegated.document", "the document", s.Delegated.Document, k.documents)
		}
	}
	for _, id := range l.suppliers {
		x, path := p.Suppliers[id], "suppliers."+id
		l.need(path+".owner", "the owner", x.Owner, k.actors)
		l.need(path+".contract", "the document", x.Contract, k.documents)
		l.need(path+".contingency", "the runbook", x.Contingency, k.runbooks)
		l.needAll(path+".alternatives", "the supplier", x.Alternatives, l.suppliers)
	}
	for _, id := range sorted(p.Facilities) {
		l.need("facilities."+id+".supplier", "the supplier", p.Facilities[id].Supplier, l.suppliers)
		l.need("facilities."+id+".owner", "the owner", p.Facilities[id].Owner, k.actors)
	}
	for _, id := range sorted(p.Customers) {
		l.needAll("customers."+id+".services", node, p.Customers[id].Services, l.nodes)
		l.need("customers."+id+".contract", "the document", p.Customers[id].Contract, k.documents)
	}
	for _, id := range sorted(p.Obligations) {
		l.needAll("obligations."+id+".of", node, p.Obligations[id].Of, l.nodes)
	}
	for _, id := range sorted(p.Residency) {
		l.needAll("residency."+id+".of", "the store", p.Residency[id].Of, l.stores)
	}
}

func (l *linter) protectionReferences(k known) {
	p := l.p
	for _, id := range sorted(p.Keys) {
		l.needAll("keys."+id+".holders", "the person", p.Keys[id].Holders, k.people)
		if s := p.Keys[id].Shares; s != nil {
			for _, holder := range sorted(s.Holders) {
				l.need("keys."+id+".shares.holders."+holder, "the person", holder, k.people)
			}
		}
	}
	if kit := p.RecoveryKit; kit != nil {
		l.need("recovery_kit.key", "the key", kit.Key, sorted(p.Keys))
		l.needAll("recovery_kit.outside", "the person", kit.Outside, k.people)
		if kit.CheckIn != nil {
			l.needAll("recovery_kit.check_in.by", actor, kit.CheckIn.By, k.actors)
		}
	}
	l.needAll("repository.encrypt_to", "the key", p.Repository.EncryptTo, sorted(p.Keys))
	if a := p.Repository.Approved; a != nil {
		l.needAll("repository.approved.locations", "the location", a.Locations, l.locations)
		l.need("repository.approved.by", actor, a.By, k.actors)
	}
	for _, id := range l.locations {
		loc, path := p.Locations[id], "locations."+id
		l.need(path+".supplier", "the supplier", loc.Supplier, l.suppliers)
		l.need(path+".facility", "the facility", loc.Facility, sorted(p.Facilities))
		l.need(path+".owner", "the owner", loc.Owner, k.actors)
	}
	for _, id := range k.backups {
		for _, loc := range p.Backups[id].Copies.Names() {
			l.need("backups."+id+".copies."+loc, "the location", loc, l.locations)
		}
	}
	for _, id := range sorted(p.Holds) {
		l.needAll("holds."+id+".of", "the store", p.Holds[id].Of, l.stores)
		l.need("holds."+id+".by", actor, p.Holds[id].By, k.actors)
	}
	for _, id := range sorted(p.Drills) {
		d, path := p.Drills[id], "drills."+id
		l.needAll(path+".of", "the store", d.Of, l.stores)
		l.needAll(path+".scenarios", "the scenario", d.Scenarios, k.scenarios)
		l.need(path+".operator", actor, d.Operator, k.actors)
		l.need(path+".from", "the location", d.From, l.locations)
	}
	for _, id := range sorted(p.Exercises) {
		e, path := p.Exercises[id], "exercises."+id
		l.needAll(path+".scenarios", "the scenario", e.Scenarios, k.scenarios)
		l.needAll(path+".severities", "the severity", e.Severities, k.severities)
		l.needAll(path+".of", "the service, store or supplier", e.Of, k.rests)
		l.needAll(path+".remove_person", actor, e.RemovePerson, k.actors)
		l.need(path+".lead", actor, e.Lead, k.actors)
	}
}

func (l *linter) recoveryReferences(k known) {
	p := l.p
	for _, id := range k.scenarios {
		sc, path := p.Scenarios[id], "scenarios."+id
		for i, lose := range sc.Lose {
			if !strings.Contains(lose, ":") && !slices.Contains(Losses, lose) { // a kind and a name may be anything
				l.need(fmt.Sprintf("%s.lose[%d]", path, i), "the location", lose, l.locations)
			}
		}
		l.needAll(path+".hazards", "the hazard", sc.Hazards, k.hazards)
		l.need(path+".severity", "the severity", sc.Severity, k.severities)
		l.need(path+".runbook", "the runbook", sc.Runbook, k.runbooks)
	}
	for _, id := range k.tiers {
		l.need("tiers."+id+".scheme", "the scheme", p.Tiers[id].Scheme, append(slices.Clone(k.schemes), DefaultTiers))
		for _, sc := range sorted(p.Tiers[id].Scenarios) {
			l.need("tiers."+id+".scenarios."+sc, "the scenario", sc, k.scenarios)
		}
	}
	for _, id := range k.severities {
		l.needAll("severities."+id+".scenarios", "the scenario", p.Severities[id].Scenarios, k.scenarios)
		l.needAll("severities."+id+".notify", "the role, person or channel", p.Severities[id].Notify, k.told)
	}
	for _, id := range k.runbooks {
		r, path := p.Runbooks[id], "runbooks."+id
		l.needAll(path+".scenarios", "the scenario", r.Scenarios, k.scenarios)
		l.need(path+".author", actor, r.Author, k.actors)
		var steps []string
		for _, st := range r.Steps {
			steps = append(steps, st.ID)
		}
		slices.Sort(steps)
		for _, st := range r.Steps {
			path := path + ".steps." + st.ID
			l.need(path+".restore", "the store", st.Restore, l.stores)
			l.need(path+".start", "the store", st.Start, l.stores)
			l.need(path+".check", node, st.Check, l.nodes)
			l.need(path+".human", actor, st.Human, k.actors)
			l.needAll(path+".approve", actor, st.Approve, k.actors)
			l.needAll(path+".after", "the step", st.After, steps)
			l.needAll(path+".uses", "the credential", st.Uses, k.credentials)
		}
	}
	l.needAll("activation.by", actor, p.Activation.By, k.actors)
}

func (l *linter) governReferences(k known) {
	p := l.p
	for _, id := range sorted(p.Hazards) {
		l.need("hazards."+id+".under", "the hazard", p.Hazards[id].Under, k.hazards)
	}
	for _, id := range sorted(p.Reviews) {
		l.needAll("reviews."+id+".by", actor, p.Reviews[id].By, k.actors)
	}
	for _, id := range sorted(p.Metrics) {
		l.need("metrics."+id+".owner", "the owner", p.Metrics[id].Owner, k.actors)
	}
	for _, id := range sorted(p.Risks) {
		r, path := p.Risks[id], "risks."+id
		l.need(path+".hazard", "the hazard", r.Hazard, k.hazards)
		l.needAll(path+".by", "what mitigates it,", r.By, k.proofs)
		l.need(path+".owner", "the owner", r.Owner, k.actors)
		l.needAll(path+".accepted_by", actor, r.AcceptedBy, k.actors)
		l.needAll(path+".of", "the item", r.Of, k.rests)
	}
	for _, clause := range sorted(p.Controls) {
		l.needAll("controls."+clause, "the proof", p.Controls[clause], k.proofs)
	}
	for _, id := range sorted(p.Exceptions) {
		e := p.Exceptions[id]
		l.need("exceptions."+id+".by", actor, e.By, k.actors)
		l.needAll("exceptions."+id+".approved_by", actor, e.ApprovedBy, k.actors)
		if _, ok := RuleOf(e.Rule); !ok && strings.HasPrefix(e.Rule, "HF-L") {
			l.fail(codeUndeclared, "exceptions."+id+".rule", NearestRule(e.Rule), "the rule %q does not exist", e.Rule)
		}
	}
	for _, id := range sorted(p.Statements) {
		l.need("statements."+id+".approval", "the approval", p.Statements[id].Approval, k.approvals)
	}
}

// objectiveReferences looks at what objectives say of who agreed to them.
func (l *linter) objectiveReferences(k known) {
	p := l.p
	look := func(path string, objectives ...Objective) {
		for i, o := range objectives {
			if o.Terms == nil {
				continue
			}
			at := path + "." + []string{MetricRTO, MetricRPO}[i]
			l.needAll(at+".approved_by", actor, o.Terms.ApprovedBy, k.actors)
			l.need(at+".bound_by", actor, o.Terms.BoundBy, k.actors)
			l.needAll(at+".satisfies", "the obligation or customer", o.Terms.Satisfies, k.terms)
		}
	}
	for _, id := range k.tiers {
		look("tiers."+id, p.Tiers[id].RTO, p.Tiers[id].RPO)
	}
	for _, id := range l.services {
		look("services."+id, p.Services[id].RTO, p.Services[id].RPO)
	}
	for _, id := range l.stores {
		look("stores."+id, p.Stores[id].RTO, p.Stores[id].RPO)
	}
}

// proofs returns the ids that can prove a control, in order. A kind before an id
// ("metric:backup-success") says what is meant where one id stands for two things.
func (p *Plan) proofs() []string {
	var out []string
	for kind, ids := range map[string][]string{"drill": sorted(p.Drills), "exercise": sorted(p.Exercises), "review": sorted(p.Reviews),
		"metric": sorted(p.Metrics), "measure": sorted(p.Measures), "runbook": sorted(p.Runbooks), "statement": sorted(p.Statements)} {
		for _, id := range ids {
			out = append(out, id, kind+":"+id)
		}
	}
	slices.Sort(out)
	return out
}

// identities reports one id for two things: findings, facts and commands name
// things by id alone.
func (l *linter) identities() {
	first := map[string]string{}
	for _, kind := range []struct {
		section string
		ids     []string
	}{
		{"services", l.services}, {"stores", l.stores}, {"suppliers", l.suppliers}, {"facilities", sorted(l.p.Facilities)}, {"people", sorted(l.p.People)},
		{"roles", sorted(l.p.Roles)}, {"locations", l.locations}, {"keys", sorted(l.p.Keys)},
	} {
		for _, id := range kind.ids {
			path := kind.section + "." + id
			if other, ok := first[id]; ok {
				l.fail(codeTwice, path, fmt.Sprintf("rename one of them, for example to %q", id+"-"+strings.TrimSuffix(kind.section, "s")),
					"%q names two things, %s and %s", id, other, path)
				continue
			}
			first[id] = path
		}
	}
}
