package plan

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// approved reports whether those who must have approved e: somebody else than the
// requester, and where the plan has an approval for exceptions of its risk, whom that
// names. A small team's fallback lets one other person be enough.
func (p *Plan) approved(e Exception) bool {
	a, ruled := p.Approvals[ActException+string(e.Risk)]
	requester := p.Person(e.By, false)
	var who []string
	for _, by := range e.ApprovedBy {
		person := p.Person(by, false)
		if person != "" && (person != requester || ruled && a.RequesterCounts) && !slices.Contains(who, person) {
			who = append(who, person)
		}
	}
	if !ruled || a.Fallback != nil || len(who) == 0 {
		return len(who) > 0
	}
	choices := make([][]string, 0, len(a.Roles))
	for _, role := range a.Roles {
		var can []string
		for _, person := range who {
			if person == p.Person(role, false) || person == p.Person(role, true) {
				can = append(can, person)
			}
		}
		choices = append(choices, can)
	}
	return match(choices) >= max(len(a.Roles), a.People) || len(a.Roles) == 0 && len(who) >= a.People
}

// except waives findings, and looks at the exceptions themselves.
func (l *linter) except() {
	p := l.p
	used := slices.Concat(p.Waivers(), l.waivers).Apply(l.findings, l.now)
	routed := slices.ContainsFunc(sorted(p.Approvals), func(act string) bool { return strings.HasPrefix(act, ActException) })
	for _, id := range sorted(p.Exceptions) {
		e, path := p.Exceptions[id], "exceptions."+id
		w := p.waiver(id, e)
		switch {
		case !p.approved(e) && len(e.ApprovedBy) > 0 && routed:
			l.fail(codeException, path, fmt.Sprintf("have it approved as approvals.%s%s demands", ActException, e.Risk), "the exception %q of %s is not approved by all who must for its risk: %s", e.Rule, e.Of, strings.Join(e.ApprovedBy, ", "))
		case !p.approved(e):
			l.fail(codeException, path, "have somebody else than the requester approve it, under approved_by", "the exception %q of %s is approved by nobody but its requester", e.Rule, e.Of)
		case l.now.Before(w.From):
			l.warn(codeException, path+".from", "wait for the day, or move it", "the exception %q of %s begins on %s", e.Rule, e.Of, e.From)
		case !l.now.Before(w.Until):
			l.fail(codeException, path+".until", "mend what it waives, or approve a new end", "the exception %q of %s ended on %s", e.Rule, e.Of, e.Until)
		case !used[id] && e.Rule != CodeSinglePoint: // a simulation finds more of them than check does
			l.report(codeException, holdfast.SeverityNote, path, "remove it", "the exception %q of %s waives nothing", e.Rule, e.Of)
		}
		if !routed {
			continue
		}
		var missing []string
		for _, f := range []struct {
			name  string
			there bool
		}{{"risk", e.Risk != ""}, {"impact", e.Impact != ""}, {"compensating", e.Compensating != ""}, {"remedy", e.Remedy != ""}} {
			if !f.there {
				missing = append(missing, f.name)
			}
		}
		if len(missing) > 0 {
			l.warn(codeException, path, "add "+strings.Join(missing, ", "), "the exception %q of %s lacks its %s", e.Rule, e.Of, strings.Join(missing, ", "))
		}
	}
}
