package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// people looks for duties that end with one person, and approvals that nobody can give.
func (l *linter) people() {
	p := l.p
	for _, id := range sorted(p.Roles) {
		r, path := p.Roles[id], "roles."+id
		switch {
		case r.Deputy == "":
			l.warn(codeDeputy, path, fmt.Sprintf("add \"deputy: %s\"", l.somebodyElse(r.Holder)), "the role %q has no deputy: nobody acts when %q is away", id, r.Holder)
		case r.Deputy == r.Holder:
			l.warn(codeDeputy, path+".deputy", fmt.Sprintf("write deputy: %s", l.somebodyElse(r.Holder)), "%q is their own deputy in the role %q", r.Holder, id)
		}
	}
	if len(p.Roles) > 0 {
		involved := map[string]bool{}
		for _, r := range p.Roles {
			involved[r.Holder] = true
			if r.Deputy != "" {
				involved[r.Deputy] = true
			}
		}
		if len(involved) == 1 {
			only := sorted(involved)[0]
			l.warn(codeBusFactor, "roles", "give somebody else at least one role, or make them deputy", "every role ends with %q: without that person no recovery is led", only)
		}
	}
	l.distinct("plan.approvers", p.Plan.Approvers, "the approval of the plan")
	for _, id := range sorted(p.Runbooks) {
		for _, st := range p.Runbooks[id].Steps {
			l.distinct("runbooks."+id+".steps."+st.ID+".approve", st.Approve, fmt.Sprintf("the step %q", st.ID))
		}
	}
	if len(p.Activation.By) == 0 && len(p.Activation.Automatic) == 0 && len(p.Stores) > 0 {
		l.fail(codeApproval, "activation", "add \"activation: {by: [role]}\"", "nobody may start a recovery")
	}
	if len(p.Activation.By) == 0 && len(p.Activation.Automatic) > 0 {
		l.warn(codeApproval, "activation", "add \"by: [role]\"", "a recovery starts only by itself: no person may start one")
	}
}

func (l *linter) somebodyElse(holder string) string {
	for _, id := range sorted(l.p.People) {
		if id != holder {
			return id
		}
	}
	return "another-person"
}

// distinct reports an approval by several roles that there are not enough people
// for: each role must be filled by a person of its own.
func (l *linter) distinct(path string, roles []string, what string) {
	if len(roles) < 2 {
		return
	}
	choices := make([][]string, 0, len(roles))
	var everybody []string
	for _, id := range roles {
		var who []string
		for _, person := range []string{l.p.Person(id, false), l.p.Person(id, true)} {
			if person != "" && !slices.Contains(who, person) {
				who = append(who, person)
			}
		}
		if len(who) == 0 {
			return // undeclared, which is reported
		}
		for _, w := range who {
			if !slices.Contains(everybody, w) {
				everybody = append(everybody, w)
			}
		}
		choices = append(choices, who)
	}
	if n := match(choices); n < len(roles) {
		slices.Sort(everybody)
		l.fail(codeApproval, path, "name fewer roles, or give them to more people", "%s needs %d different people, and %s are held by %d: %s",
			what, len(roles), strings.Join(roles, ", "), n, strings.Join(everybody, ", "))
	}
}

// match returns how many of the seats can be filled at once, each by a person of its
// own among its choices.
func match(choices [][]string) int {
	seatOf := map[string]int{}
	var fill func(seat int, tried map[string]bool) bool
	fill = func(seat int, tried map[string]bool) bool {
		for _, person := range choices[seat] {
			if tried[person] {
				continue
			}
			tried[person] = true
			if other, taken := seatOf[person]; !taken || fill(other, tried) {
				seatOf[person] = seat
				return true
			}
		}
		return false
	}
	n := 0
	for seat := range choices {
		if fill(seat, map[string]bool{}) {
			n++
		}
	}
	return n
}

// drills looks for proof that ends before the next one comes, and for stores that
// nothing proves.
func (l *linter) drills() {
	p := l.p
	for _, id := range sorted(p.Drills) {
		d, path := p.Drills[id], "drills."+id
		l.minute(path+".fresh_for", d.FreshFor)
		every, fresh := l.interval(d.Every), d.Fresh()
		switch {
		case every == time.Minute:
			l.warn(codeMinute, path+".every", "write 1mo for a month, or 60s if a minute is meant", "every 1m is once a minute, not once a month")
		case every > fresh:
			l.fail(codeFreshness, path, fmt.Sprintf("drill every %s or more often, or let the proof last longer", edit(fresh*4/5)),
				"the drill runs every %s and its proof lasts %s: for %s nothing is proven", period(every), period(fresh), period(every-fresh))
		case every == fresh:
			l.warn(codeFreshness, path, fmt.Sprintf("write fresh_for: %s or longer", edit(fresh*5/4)), "the drill runs every %s and its proof lasts just as long: one late run leaves nothing proven", period(every))
		}
		if len(d.Of) == 0 {
			l.fail(CodeUndrilled, path+".of", "name at least one store", "the drill %q restores nothing", id)
		}
		for i, store := range d.Of {
			if p.Stores[store].Kind != KindFiles {
				continue
			}
			if r := p.DrillRung(id, store); r > 3 {
				l.warn(codeFreshness, fmt.Sprintf("%s.of[%d]", path, i), "write rung: 3 for folders", "%q is a folder, which has no engine to start: rung %d cannot be reached", store, r)
			}
		}
	}
	for _, id := range l.stores {
		if p.Stores[id].Protect != "" && p.Stores[id].Kind.Protected() && len(l.drilled[id]) == 0 {
			l.warn(CodeUndrilled, "stores."+id, fmt.Sprintf("add a drill: {of: [%s], every: 1mo, fresh_for: 35d}", id), "no drill restores %q: that its backups work is a hope", id)
		}
	}
}

// invariants looks for questions whose answer proves nothing.
func (l *linter) invariants() {
	for _, id := range l.stores {
		s := l.p.Stores[id]
		for _, inv := range sorted(s.Invariants) {
			path := "stores." + id + ".invariants." + inv + ".expect"
			if s.Kind == KindFiles {
				l.fail(codeZero, "stores."+id+".invariants."+inv, "move it to a database store", "a folder answers no SQL")
				continue
			}
			e, err := s.Invariants[inv].Expectation()
			if err != nil {
				l.expression(path, "write an expression over value, last and target that is true or false, such as value > 0", "the expectation", err)
				continue
			}
			l.endless(path, s.Invariants[inv].Expect, expectEnv)
			if e.needsDouble(l.now) {
				l.warn(codeZero, path, "write double(value) and double(last) where they are multiplied or added", "%q cannot be evaluated when the answer is a whole number, such as a count: nothing would be proven", e)
				continue
			}
			if empty, yes := e.passesOnNothing(l.now); yes {
				l.warn(codeZero, path, "demand something of the answer, such as value > 0 or double(value) >= 0.98 * double(last)", "%q passes when the answer is %s: an empty database would pass", e, empty)
			}
		}
		needs6 := false
		for _, d := range l.drilled[id] {
			needs6 = needs6 || l.p.DrillRung(d, id) >= 6
		}
		if s.Kind == KindPostgres && len(s.Invariants) == 0 && needs6 {
			l.warn(codeZero, "stores."+id, "add invariants: {orders: {sql: \"select count(*) from orders\", expect: \"value > 0\"}}", "%q has no invariants: a drill can show that the engine starts, not that the data is there", id)
		}
	}
}

// expression reports what is wrong with an expression, at its place in the text.
func (l *linter) expression(path, hint, what string, err error) {
	pos, message := l.p.ExpressionAt(path, err)
	l.findings = append(l.findings, holdfast.Finding{
		Code: codeZero, Severity: holdfast.SeverityError, File: pos.File, Line: pos.Line, Column: pos.Column,
		Subject: path, Message: what + " cannot be understood: " + message, Hint: hint,
	})
}

// conditions looks at the expressions that start a recovery.
func (l *linter) conditions() {
	for i, text := range l.p.Activation.When {
		if _, err := NewCondition(text); err != nil {
			l.expression(fmt.Sprintf("activation.when[%d]", i), "write an expression over incident, stores and services, such as stores[\"db\"] == \"lost\"", "the condition", err)
			continue
		}
		l.mentioned(fmt.Sprintf("activation.when[%d]", i), text)
		l.endless(fmt.Sprintf("activation.when[%d]", i), text, conditionEnv)
	}
}

// runbooks looks at each way back.
func (l *linter) runbooks() {
	p := l.p
	for _, id := range sorted(p.Runbooks) {
		r, path := p.Runbooks[id], "runbooks."+id
		var steps []string
		for _, st := range r.Steps {
			steps = append(steps, st.ID)
		}
		known := r.byID()
		after := func(step string) []string {
			return slices.DeleteFunc(slices.Clone(known[step].After), func(a string) bool { _, ok := known[a]; return !ok })
		}
		if _, cycle := waves(steps, after); cycle != nil {
			l.fail(codeCycle, path+".steps."+cycle[0]+".after", fmt.Sprintf("remove %q from the after of %q", cycle[1], cycle[0]),
				"the steps wait for each other in a circle: %s; none of them ever begins", strings.Join(cycle, " -> "))
		}
		if len(r.Steps) == 0 {
			l.fail(codeUnrecovered, path+".steps", "add steps, at least one restore", "the runbook %q has no steps", id)
		}
		for _, st := range r.Steps {
			kind, of := st.Kind()
			switch {
			case st.Est.IsZero():
				l.warn(codeEstimate, path+".steps."+st.ID, "add \"est: 10m\" (or \"est: measured\" for a restore); people and approvals take time too",
					"the step %q has no estimate, so the recovery time is not known", st.ID)
			case st.Est.Measured && kind != StepRestore && kind != StepStart && kind != StepCheck:
				l.warn(codeEstimate, path+".steps."+st.ID+".est", "write how long it is expected to take, such as 10m", "the step %q is not part of a drill, so nothing measures it", st.ID)
			}
			if s, ok := p.Stores[of]; ok && (kind == StepRestore || kind == StepStart) {
				switch {
				case s.Recover == nil:
					l.warn(codeUnrecovered, path+".steps."+st.ID, fmt.Sprintf("add \"recover: {to: …}\" to stores.%s", of), "the step %q restores %q, and the plan does not say to where", st.ID, of)
				case s.Kind == KindPostgres && s.Recover.Start == nil:
					l.warn(codeUnrecovered, "stores."+of+".recover", "add \"start: {port: 5433}\"", "a recovered %q is not started: the plan names no port", of)
				}
			}
		}
		l.fits(id, r)
	}
	l.everyStore()
}

// fits compares the estimates of a runbook with the RTO of each service that uses it.
func (l *linter) fits(id string, r Runbook) {
	told := map[time.Duration]bool{} // one finding for each limit: a thousand services may share a runbook
	for _, service := range l.users[id] {
		if rto := l.promise(service).RTO; rto > 0 && !told[rto] {
			told[rto] = true
			l.fitsIn(id, r, "runbooks."+id, fmt.Sprintf("%q", service), rto)
		}
	}
}

// fitsIn compares the estimates of a runbook with the time in which what it recovers
// must be back.
func (l *linter) fitsIn(id string, r Runbook, at, what string, rto time.Duration) {
	path, work := r.CriticalPath(Step.Estimated)
	detect := r.Detect.Approx()
	if l.p.RTOClock() != ClockDisruption {
		detect = 0 // the clock starts when it is over
	}
	total := detect + work
	measured := 0
	for _, st := range r.Steps {
		if kind, _ := st.Kind(); st.Est.Measured && (kind == StepRestore || kind == StepStart || kind == StepCheck) {
			measured++
		}
	}
	var parts []string
	if detect > 0 {
		parts = append(parts, period(detect)+" to detect")
	}
	for _, step := range path {
		if st, _ := r.Steps.Get(step); st.Estimated() > 0 {
			parts = append(parts, period(st.Estimated())+" "+step)
		}
	}
	arithmetic := strings.Join(parts, " + ") + " = " + exact(total)
	switch {
	case total > rto:
		l.fail(codeSteps, at, fmt.Sprintf("shorten steps, let some run side by side, or declare an rto above %s", edit(total)),
			"%s must be back within %s, and its steps alone take longer: %s", what, period(rto), arithmetic)
	case total == rto && measured > 0:
		l.fail(codeSteps, at, fmt.Sprintf("shorten steps, or declare an rto above %s", edit(total)),
			"%s must be back within %s, and the steps leave no time for the restore: %s", what, period(rto), arithmetic)
	case measured > 0 && rto-total < rto/4:
		l.warn(codeSteps, at, "shorten the steps, or measure by a drill that the restore fits", "%s must be back within %s; the steps take %s, which leaves %s for the restore", what, period(rto), arithmetic, period(rto-total))
	}
}

// everyStore reports a store that a service's runbooks never bring back.
func (l *linter) everyStore() {
	p := l.p
	for _, service := range l.services {
		r, ok := p.Runbooks[p.Services[service].Runbook]
		if !ok {
			continue
		}
		for _, store := range p.HardNeeds(service) {
			if _, is := p.Stores[store]; !is {
				continue
			}
			if !slices.ContainsFunc(r.Steps, func(st Step) bool { return st.Restore == store }) {
				l.warn(codeUnrecovered, "services."+service+".runbook", fmt.Sprintf("add the step restore-%s: {restore: %s, est: measured} to the runbook %q", store, store, p.Services[service].Runbook),
					"%q cannot run without %q, and its runbook %q never restores it", service, store, p.Services[service].Runbook)
			}
		}
	}
}
