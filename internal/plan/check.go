package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Check looks for promises of p that cannot be kept, contradict each other, cannot
// be measured or rest on one person, place or key. Every finding says where, why
// with the numbers, and which edit is a way out. The result is sorted, worst first.
//
// A finding with an exception in force becomes a note that names it. An exception
// that has ended, or that its requester approved, does not count.
func Check(p *Plan, now time.Time) []holdfast.Finding {
	l := &linter{p: p, now: now}
	l.references()
	l.identities()
	l.objectives()
	l.schedules()
	l.dependencies()
	l.copies()
	l.keys()
	l.people()
	l.drills()
	l.invariants()
	l.conditions()
	l.clocks()
	l.runbooks()
	l.except()
	holdfast.SortFindings(l.findings)
	return l.findings
}

type linter struct {
	p        *Plan
	now      time.Time
	findings []holdfast.Finding
}

// report adds a finding about path. The message and hint are complete sentences
// without a full stop.
func (l *linter) report(code string, severity holdfast.FindingSeverity, path, hint, format string, args ...any) {
	pos := l.p.Position(path)
	l.findings = append(l.findings, holdfast.Finding{
		Code: code, Severity: severity, File: pos.File, Line: pos.Line, Column: pos.Column,
		Subject: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

func (l *linter) fail(code, path, hint, format string, args ...any) {
	l.report(code, holdfast.SeverityError, path, hint, format, args...)
}

func (l *linter) warn(code, path, hint, format string, args ...any) {
	l.report(code, holdfast.SeverityWarning, path, hint, format, args...)
}

// sorted returns the keys of a map in order, so that findings come in order too.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// period writes a duration as people write it in a plan.
func period(d time.Duration) string { return holdfast.FormatDuration(d) }

// edit writes a duration as the plan takes it.
func edit(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return strings.ReplaceAll(holdfast.FormatDuration(d.Round(time.Second)), " ", "")
}

// references reports every id that is used and not declared.
func (l *linter) references() {
	p := l.p
	services, stores := sorted(p.Services), sorted(p.Stores)
	people, roles := sorted(p.People), sorted(p.Roles)
	nodes := p.Nodes()
	actors := append(slices.Clone(roles), people...)
	slices.Sort(actors)
	needed := slices.Concat(nodes, sorted(p.Suppliers), sorted(p.Facilities))
	slices.Sort(needed)
	proofs := p.proofs()
	need := func(path, what, id string, known []string) {
		if _, found := slices.BinarySearch(known, id); found || id == "" { // known is sorted: there may be many
			return
		}
		l.fail(codeUndeclared, path, suggest(id, known), "%s %q is not declared", what, id)
	}
	index := func(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

	need("plan.owner", "the owner", p.Plan.Owner, actors)
	for i, id := range p.Plan.Approvers {
		need(index("plan.approvers", i), "the approver", id, actors)
	}
	for _, id := range roles {
		r := p.Roles[id]
		need("roles."+id+".holder", "the person", r.Holder, people)
		need("roles."+id+".deputy", "the person", r.Deputy, people)
	}
	for _, id := range sorted(p.Scenarios) {
		for i, loc := range p.Scenarios[id].Lose {
			if !strings.Contains(loc, ":") { // a kind and a name may be anything
				need(index("scenarios."+id+".lose", i), "the location", loc, sorted(p.Locations))
			}
		}
	}
	for _, id := range sorted(p.Tiers) {
		for _, sc := range sorted(p.Tiers[id].Scenarios) {
			need("tiers."+id+".scenarios."+sc, "the scenario", sc, sorted(p.Scenarios))
		}
	}
	for _, id := range services {
		s, path := p.Services[id], "services."+id
		need(path+".tier", "the tier", s.Tier, sorted(p.Tiers))
		need(path+".owner", "the owner", s.Owner, actors)
		need(path+".runbook", "the runbook", s.Runbook, sorted(p.Runbooks))
		for _, n := range sorted(s.Needs) {
			if _, actor := slices.BinarySearch(actors, n); !actor {
				need(path+".needs."+n, "the service or store", n, needed)
			}
		}
	}
	for _, id := range stores {
		s, path := p.Stores[id], "stores."+id
		need(path+".tier", "the tier", s.Tier, sorted(p.Tiers))
		need(path+".owner", "the owner", s.Owner, actors)
		need(path+".protect", "the backup", s.Protect, sorted(p.Backups))
		for _, inv := range sorted(s.Invariants) {
			need(path+".invariants."+inv+".confirmed_by", "the role or person", s.Invariants[inv].ConfirmedBy, actors)
		}
	}
	for _, id := range sorted(p.Keys) {
		for i, holder := range p.Keys[id].Holders {
			need(index("keys."+id+".holders", i), "the person", holder, people)
		}
	}
	for i, id := range p.Repository.EncryptTo {
		need(index("repository.encrypt_to", i), "the key", id, sorted(p.Keys))
	}
	for _, id := range sorted(p.Backups) {
		for _, loc := range p.Backups[id].Copies.Names() {
			need("backups."+id+".copies."+loc, "the location", loc, sorted(p.Locations))
		}
	}
	for _, id := range sorted(p.Drills) {
		for i, store := range p.Drills[id].Of {
			need(index("drills."+id+".of", i), "the store", store, stores)
		}
	}
	for _, id := range sorted(p.Runbooks) {
		var steps []string
		for _, st := range p.Runbooks[id].Steps {
			steps = append(steps, st.ID)
		}
		slices.Sort(steps)
		for _, st := range p.Runbooks[id].Steps {
			path := "runbooks." + id + ".steps." + st.ID
			need(path+".restore", "the store", st.Restore, stores)
			need(path+".start", "the store", st.Start, stores)
			need(path+".check", "the service or store", st.Check, nodes)
			need(path+".human", "the role or person", st.Human, actors)
			for i, role := range st.Approve {
				need(index(path+".approve", i), "the role or person", role, actors)
			}
			for i, after := range st.After {
				need(index(path+".after", i), "the step", after, steps)
			}
		}
	}
	for i, id := range p.Activation.By {
		need(index("activation.by", i), "the role or person", id, actors)
	}
	for _, clause := range sorted(p.Controls) {
		for i, id := range p.Controls[clause] {
			need(index("controls."+clause, i), "the drill", id, proofs)
		}
	}
	for _, id := range sorted(p.Exceptions) {
		e := p.Exceptions[id]
		need("exceptions."+id+".by", "the role or person", e.By, actors)
		for i, by := range e.ApprovedBy {
			need(index("exceptions."+id+".approved_by", i), "the role or person", by, actors)
		}
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
		{"services", sorted(l.p.Services)}, {"stores", sorted(l.p.Stores)}, {"people", sorted(l.p.People)},
		{"roles", sorted(l.p.Roles)}, {"locations", sorted(l.p.Locations)}, {"keys", sorted(l.p.Keys)},
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

// Excepted returns the exception that waives a finding at now. One that nobody but
// its requester approved, that has not begun or has ended, waives nothing.
func (p *Plan) Excepted(code, subject string, now time.Time) (id string, e Exception, ok bool) {
	for _, id := range sorted(p.Exceptions) {
		e := p.Exceptions[id]
		if e.Rule == code && (e.Of == subject || strings.HasPrefix(subject, e.Of+".")) && p.approved(e) && !p.early(e, now) && !p.ended(e, now) {
			return id, e, true
		}
	}
	return "", Exception{}, false
}

// approved reports whether somebody else than the requester approved e.
func (p *Plan) approved(e Exception) bool {
	return slices.ContainsFunc(e.ApprovedBy, func(by string) bool {
		person := p.Person(by, false)
		return person != "" && person != p.Person(e.By, false)
	})
}

func (p *Plan) early(e Exception, now time.Time) bool {
	return !e.From.IsZero() && now.Before(e.From.Begin(p.Location()))
}

func (p *Plan) ended(e Exception, now time.Time) bool {
	return !now.Before(Date{e.Until.Year, e.Until.Month, e.Until.Day + 1}.Begin(p.Location()))
}

// except turns findings with an exception in force into notes.
func (l *linter) except() {
	p := l.p
	used := map[string]bool{}
	for i := range l.findings {
		f := &l.findings[i]
		if id, e, ok := p.Excepted(f.Code, f.Subject, l.now); ok {
			f.Severity = holdfast.SeverityNote
			f.Message += fmt.Sprintf("; excepted by %q until %s: %s", id, e.Until, e.Why)
			used[id] = true
		}
	}
	for _, id := range sorted(p.Exceptions) {
		e, path := p.Exceptions[id], "exceptions."+id
		switch {
		case !p.approved(e):
			l.fail(codeException, path, "have somebody else than the requester approve it, under approved_by", "the exception %q of %s is approved by nobody but its requester", e.Rule, e.Of)
		case p.early(e, l.now):
			l.warn(codeException, path+".from", "wait for the day, or move it", "the exception %q of %s begins on %s", e.Rule, e.Of, e.From)
		case p.ended(e, l.now):
			l.fail(codeException, path+".until", "mend what it waives, or approve a new end", "the exception %q of %s ended on %s", e.Rule, e.Of, e.Until)
		case !used[id]:
			l.report(codeException, holdfast.SeverityNote, path, "remove it", "the exception %q of %s waives nothing", e.Rule, e.Of)
		}
	}
}
