package plan

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// team looks at whether there are people enough, apart enough, and prepared.
func (l *linter) team() {
	l.approvals()
	l.chains()
	l.apart()
	l.readersWhoSign()
	l.skills()
	l.credentials()
	l.offline()
	l.unfilled()
}

// persons returns who can stand for any of the roles or people: holders and deputies.
func (l *linter) persons(actors []string) []string {
	var out []string
	for _, a := range actors {
		for _, deputy := range []bool{false, true} {
			if who := l.p.Person(a, deputy); who != "" && !slices.Contains(out, who) {
				out = append(out, who)
			}
		}
	}
	slices.Sort(out)
	return out
}

// holders returns who holds the roles, without deputies.
func (l *linter) holders(actors []string) []string {
	var out []string
	for _, a := range actors {
		if who := l.p.Person(a, false); who != "" && !slices.Contains(out, who) {
			out = append(out, who)
		}
	}
	slices.Sort(out)
	return out
}

// approvals looks for acts that there are not enough people to agree to, also when one
// of them is the person who asks.
func (l *linter) approvals() {
	p := l.p
	for _, act := range sorted(p.Approvals) {
		a := p.Approval(act)
		path := "approvals." + act
		roles := a.Roles
		people := l.persons(roles)
		if len(roles) == 0 {
			people = sorted(p.People)
		}
		if len(people) == 0 {
			continue // undeclared, which is reported
		}
		seats := func(without string) int {
			if len(roles) == 0 {
				n := len(people)
				if slices.Contains(people, without) {
					n--
				}
				return n
			}
			choices := make([][]string, 0, len(roles))
			for _, r := range roles {
				choices = append(choices, slices.DeleteFunc(l.persons([]string{r}), func(w string) bool { return w == without }))
			}
			return match(choices)
		}
		if a.Fallback != nil {
			if by := a.Fallback.ReviewBy; by != "" && len(l.persons([]string{by})) == 0 {
				l.fail(codeUndeclared, path+".fallback.review_by", "name a role or person", "the role or person %q is not declared", by)
			}
			continue // one person is enough, after a delay and with a look afterwards
		}
		if n := seats(""); n < a.People {
			l.fail(codeApproval, path, "name fewer roles, give them to more people, or add \"fallback: {delay: 1d, review_within: 7d}\"",
				"%q needs %d different people, and %s are held by %d: %s", act, a.People, several(orPeople(roles)), n, strings.Join(people, ", "))
			continue
		}
		if a.RequesterCounts {
			continue
		}
		var stuck []string
		for _, who := range sorted(p.People) {
			if seats(who) < a.People {
				stuck = append(stuck, who)
			}
		}
		if len(stuck) > 0 && len(stuck) == len(p.People) { // else somebody further away can ask
			l.warn(codeApproval, path, "add \"requester_counts: true\", a deputy who is somebody else, or \"fallback: {delay: 1d, review_within: 7d}\"",
				"%q needs %d people besides the one who asks, and whoever of %s asks, that leaves %d", act, a.People, several(stuck), seats(stuck[0]))
		}
	}
}

func orPeople(roles []string) []string {
	if len(roles) == 0 {
		return []string{"all people"}
	}
	return roles
}

// chains looks for escalations and approvals that come back to the person who is there
// already.
func (l *linter) chains() {
	p := l.p
	if oc := p.OnCall; oc != nil {
		first := l.holders(oc.Primary)
		second := l.holders(oc.Secondary)
		end := l.holders(oc.EscalateTo)
		switch {
		case len(first) == 1 && len(second) == 1 && first[0] == second[0]:
			l.warn(codeChain, "oncall.secondary", "name somebody else", "primary and secondary on call are both %q", first[0])
		case len(second) == 0 && len(first) > 0:
			l.warn(codeChain, "oncall", "add \"secondary:\"", "when the primary on call does not answer, nobody else is called first")
		}
		if len(first)+len(second) > 0 && len(end) > 0 && inside(end, slices.Concat(first, second)) && len(uniq(slices.Concat(first, second))) == 1 {
			l.warn(codeChain, "oncall.escalate_to", "name somebody else", "the call ends with %q, who did not answer before", end[0])
		}
		if oc.AckWithin.IsZero() {
			l.warn(codeVague, "oncall", "add \"ack_within: 15m\"", "nothing says how long the primary on call has to answer")
		}
		if len(oc.EscalateTo) == 0 {
			l.warn(codeChain, "oncall", "add \"escalate_to:\" with a role that decides", "when nobody on call answers, nobody is told")
		}
	}
	if in := p.Incidents; in != nil {
		commander, has := in.Roles["commander"]
		lead := l.holders([]string{commander})
		for _, id := range sorted(in.Escalation) {
			e := in.Escalation[id]
			end := l.holders(e.To)
			if has && len(lead) == 1 && len(end) > 0 && inside(end, lead) {
				l.warn(codeChain, "incidents.escalation."+id+".to", "name somebody who is not in command, or say that there is nobody above", "%q escalates to %s, which is %q, who commands the incident already", id, several(e.To), lead[0])
			}
		}
	}
	if a := p.Activation.By; len(a) > 1 && len(l.persons(sorted(p.Roles))) > 1 {
		if who := l.persons(a); len(who) == 1 {
			l.warn(codeChain, "activation.by", "add a role with another person", "%s may start a recovery, and all of them are %q", several(a), who[0])
		}
	}
	if owner := p.Person(p.Plan.Owner, false); owner != "" && len(p.Plan.Approvers) > 0 {
		if who := l.holders(p.Plan.Approvers); len(who) == 1 && who[0] == owner {
			l.warn(codeChain, "plan.approvers", "name an approver who is not the owner", "%q owns the plan and is the only one who approves it", owner)
		}
	}
}

func inside(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

func uniq(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }

// apart looks for duties in one hand that the plan keeps apart, and for people who hold
// many.
func (l *linter) apart() {
	p := l.p
	holds := map[string][]string{}
	for _, id := range sorted(p.Roles) {
		r := p.Roles[id]
		holds[r.Holder] = append(holds[r.Holder], id)
		for i, other := range r.ApartFrom {
			o, ok := p.Roles[other]
			if ok && o.Holder == r.Holder {
				l.fail(codeChain, fmt.Sprintf("roles.%s.apart_from[%d]", id, i), "give one of the two to somebody else", "%q and %q must be held apart, and %q holds both", id, other, r.Holder)
			}
		}
	}
	if in := p.Incidents; in != nil {
		for _, place := range sorted(in.Roles) {
			if who := p.Person(in.Roles[place], false); who != "" {
				holds[who] = append(holds[who], place+" in incidents")
			}
		}
	}
	if oc := p.OnCall; oc != nil {
		for _, who := range l.holders(oc.Primary) {
			holds[who] = append(holds[who], "on call")
		}
	}
	const many = 3 // duties of one person
	for _, who := range sorted(holds) {
		if _, known := p.People[who]; known && len(holds[who]) >= many {
			l.report(codeOverload, holdfast.SeverityNote, "people."+who, "give one to somebody else, or see in an exercise that it works", "%q has %d duties at once: %s", who, len(holds[who]), several(holds[who]))
		}
	}
}

// readersWhoSign looks for people who open the backups and also have a say in what becomes
// of them: each of them can take the data, and help to destroy what is left of it.
//
// That who agrees to deletions signs is no overlap: it is how they agree. Somebody is one of
// them where the plan names them for it, or has a key of theirs; until then nobody can sign.
// Who holds only a share of a key does not open anything alone.
func (l *linter) readersWhoSign() {
	p := l.p
	opens := map[string][]string{}
	for _, id := range p.Repository.EncryptTo {
		for _, who := range uniq(p.Keys[id].Holders) {
			opens[who] = append(opens[who], id)
		}
	}
	may := func(act, who string) bool {
		roles := p.Approval(act).Roles
		return len(roles) == 0 || slices.Contains(l.persons(roles), who)
	}
	_, named := p.Approvals[ActDelete]
	severity, weighed := holdfast.SeverityWarning, ""
	if p.Org.Team == TeamSmall {
		severity, weighed = holdfast.SeverityNote, "; in a team that is declared small it is allowed, and scored as a weakness"
	}
	for _, who := range sorted(opens) {
		person, known := p.People[who]
		signs := len(person.SSH) > 0
		if !known {
			continue // reported
		}
		var also []string
		if signs && (may(ActWeaken, who) || may(ActEncryption, who) || may(ActDelete, who)) {
			also = append(also, "has a key that signs for what guards the backups")
		}
		if (named || signs) && may(ActDelete, who) {
			also = append(also, "is one of those who agree to deletions")
		}
		if len(also) > 0 {
			l.report(codeChain, severity, "people."+who, fmt.Sprintf("let somebody who signs for nothing hold %s, or let somebody else agree to deletions", strings.Join(opens[who], " and ")),
				"%q can open every backup with %s, and %s%s", who, strings.Join(opens[who], " and "), strings.Join(also, " and "), weighed)
		}
	}
}

// skills counts who can carry out each runbook, where the plan says who can.
func (l *linter) skills() {
	p := l.p
	can := map[string][]string{}
	declared := false
	for _, id := range sorted(p.People) {
		for _, r := range p.People[id].Can {
			declared = true
			can[r] = append(can[r], id)
		}
	}
	if !declared {
		return
	}
	critical := map[string]bool{}
	for id := range l.users {
		critical[id] = true
	}
	for _, sc := range p.Scenarios {
		critical[sc.Runbook] = true
	}
	for _, id := range sorted(p.Runbooks) {
		if !critical[id] {
			continue
		}
		path := "runbooks." + id
		switch who := can[id]; len(who) {
		case 0:
			l.warn(codeBusFactor, path, fmt.Sprintf("add \"can: [%s]\" to two people who have done it", id), "nobody can carry out the runbook %q", id)
		case 1:
			l.warn(codeBusFactor, path, fmt.Sprintf("let somebody else carry it out in an exercise, and add \"can: [%s]\"", id), "only %q can carry out the runbook %q", who[0], id)
		}
	}
}

// credentials looks at what people need on the bad day.
func (l *linter) credentials() {
	p := l.p
	opens := map[string][]string{} // who can open something, by any credential
	for _, c := range p.Credentials {
		if c.For != "" {
			opens[c.For] = append(opens[c.For], c.Holders...)
		}
	}
	for _, id := range sorted(p.Credentials) {
		c, path := p.Credentials[id], "credentials."+id
		need := max(c.MinHolders, 1)
		switch n := len(uniq(c.Holders)); {
		case n < need:
			l.fail(codeBusFactor, path+".holders", fmt.Sprintf("give it to %d people", need), "%q must be held by %d, and is held by %d", id, need, n)
		case n == 1 && len(uniq(opens[c.For])) < 2: // nobody else has a credential of their own
			l.warn(codeBusFactor, path+".holders", "give it to a second person", "only %q holds the credential %q", c.Holders[0], id)
		}
		if c.TestEvery.Interval() == 0 {
			l.warn(codeStale, path, "add \"test_every: 90d\"", "nobody tries whether the credential %q still works", id)
		}
	}
	for _, id := range sorted(p.Runbooks) {
		for _, st := range p.Runbooks[id].Steps {
			for i, use := range st.Uses {
				c, ok := p.Credentials[use]
				if !ok || st.Human == "" {
					continue
				}
				if who := l.persons([]string{st.Human}); len(who) > 0 && !slices.ContainsFunc(who, func(w string) bool { return slices.Contains(c.Holders, w) }) {
					l.fail(codeBusFactor, fmt.Sprintf("runbooks.%s.steps.%s.uses[%d]", id, st.ID, i), fmt.Sprintf("give %q to one of %s", use, strings.Join(who, ", ")),
						"the step %q is done by %q and needs %q, which none of them holds", st.ID, st.Human, use)
				}
			}
		}
	}
}

// offline looks at the copies of the plan that people have when nothing works, where
// the plan speaks of them.
func (l *linter) offline() {
	p := l.p
	spoken := false
	for _, x := range p.People {
		spoken = spoken || !x.OfflineCopy.IsZero()
	}
	if !spoken {
		return
	}
	for _, who := range l.persons(p.Activation.By) {
		if p.People[who].OfflineCopy.IsZero() {
			l.warn(codeStale, "people."+who, "add \"offline_copy: 90d\"", "%q may start a recovery, and has no copy of the plan for when nothing works", who)
		}
	}
}

// unfilled looks for duties that an incident needs and nobody has.
func (l *linter) unfilled() {
	p := l.p
	if len(p.Roles) == 0 && len(p.Stores) > 0 {
		l.fail(codeUnfilled, "roles", "add \"roles: {incident_commander: {holder: …, deputy: …}}\"", "no role is declared: nobody leads, recovers or speaks for the company")
		return
	}
	if p.Incidents == nil {
		return
	}
	does := map[string]string{"commander": "who leads", "technical": "who leads the technical work", "communication": "who speaks for the company"}
	var missing, add []string
	for _, place := range []string{"commander", "technical", "communication"} {
		who, ok := p.Incidents.Roles[place]
		if !ok {
			missing, add = append(missing, does[place]), append(add, place+": role")
		} else if len(l.holders([]string{who})) == 0 {
			l.fail(codeUnfilled, "incidents.roles."+place, "declare the role with a holder", "in an incident, %s is %q, which nobody holds", does[place], who)
		}
	}
	if len(missing) > 0 {
		l.warn(codeUnfilled, "incidents", "add \"roles: {"+strings.Join(add, ", ")+"}\"", "the plan does not say, for an incident, %s", strings.Join(missing, ", "))
	}
}
