package govern

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/calendar"
	"holdfast/internal/plan"
)

// yearly is how often objectives, coverage and the register are looked at where the
// plan says nothing else.
const yearly = "every 1y"

// A want is what the plan asks for again and again, or once by a day.
type want struct {
	name    string
	kind    Kind
	subject string
	what    string
	every   string    // a recurrence; "" for once
	day     plan.Date // for once: by when
	last    plan.Date // that it was done, as the plan itself says
	grace   plan.Period
	by      []string
	people  int
	keyed   bool
	items   []string
	after   []string // events after which it is due again
	looks   bool     // somebody looks at the results of work
	clears  bool     // and the machine may, where nothing failed
}

// checkInWithin is how long people have to say that they are there, where the plan does not.
var checkInWithin = func() plan.Period {
	p, err := calendar.ParsePeriod("7d")
	if err != nil {
		panic(err) // a constant
	}
	return p
}()

// either is a role that one of several roles or people can stand for.
const either = " or "

// next returns when a recurrence comes after an instant. One that is a plain period
// ("every 1y") counts from the instant; another follows the calendar ("every 1mo on 15").
func next(every string, from time.Time, loc *time.Location) (time.Time, bool) {
	r, err := calendar.ParseRecurrence(every)
	if err != nil {
		return time.Time{}, false // the plan was read with it
	}
	if p, err := calendar.ParsePeriod(strings.TrimPrefix(r.String(), "every ")); err == nil {
		return p.AddTo(from, 1, loc), true
	}
	return r.Next(from, loc)
}

// wanted lists what a plan asks for. It depends on the plan alone.
func wanted(p *plan.Plan) []want {
	var out []want
	add := func(w want) {
		w.by = slices.DeleteFunc(slices.Clone(w.by), func(s string) bool { return s == "" })
		if len(w.by) == 0 {
			w.by = fallbackRoles(p)
		}
		out = append(out, w)
	}
	review := func(name, what string, r plan.Review, last plan.Date, by ...string) {
		if r.Every.IsZero() && len(r.After) == 0 {
			return
		}
		if len(r.By) > 0 {
			by = r.By
		}
		w := want{name: name, kind: Review, subject: name, what: what, last: last, by: by, after: r.After}
		if !r.Every.IsZero() {
			w.every = "every " + r.Every.String()
		}
		add(w)
	}
	review("plan", "review the plan", p.Plan.Review, approved(p), p.Plan.Owner)
	for _, id := range sorted(p.Reviews) {
		d := p.Reviews[id]
		what := d.Text
		if what == "" {
			what = "review " + or(d.Of, id)
		}
		add(want{name: "reviews." + id, kind: Review, subject: "reviews." + id, what: what, every: d.Every.String(), last: d.LastDone, grace: d.Grace, by: d.By, after: d.After, looks: d.Looks(), clears: d.AllClear})
	}
	for _, id := range sorted(p.Documents) {
		d := p.Documents[id]
		review("documents."+id, fmt.Sprintf("review the document %q", d.Title), d.Review, d.Updated)
	}
	for _, id := range sorted(p.Suppliers) {
		s := p.Suppliers[id]
		review("suppliers."+id, "review the supplier "+or(s.Name, id), s.Review, plan.Date{}, s.Owner)
	}
	for _, id := range sorted(p.Exercises) {
		e := p.Exercises[id]
		add(want{name: "exercises." + id, kind: Exercise, subject: "exercises." + id, what: fmt.Sprintf("hold the exercise %q (%s)", id, e.Kind), every: e.Every.String(), by: []string{e.Lead}, after: e.After})
	}
	for _, id := range sorted(p.Credentials) {
		if c := p.Credentials[id]; !c.TestEvery.IsZero() {
			add(want{name: "credentials." + id, kind: Exercise, subject: "credentials." + id, what: fmt.Sprintf("show that the credential %q works", id), every: c.TestEvery.String(), by: []string{strings.Join(c.Holders, either)}})
		}
	}
	for _, id := range sorted(p.Services) {
		if r := p.Services[id].Redundancy; r != nil && !r.TestEvery.IsZero() {
			add(want{name: "failover." + id, kind: Exercise, subject: "services." + id, what: fmt.Sprintf("try the failover of %q", id), every: r.TestEvery.String(), by: []string{p.Services[id].Owner}})
		}
	}
	for _, id := range sorted(p.Measures) {
		if a := p.Measures[id]; !a.Every.IsZero() {
			add(want{name: "measures." + id, kind: Attestation, subject: "measures." + id, what: "attest: " + a.Stated, every: a.Every.String(), last: a.From, by: []string{a.By}})
		}
	}
	for _, id := range sorted(p.Risks) {
		r := p.Risks[id]
		w := want{name: "risks." + id, kind: RiskReview, subject: "risks." + id, what: fmt.Sprintf("assess the risk %q again: %s", id, r.Event), every: r.Review.String(), by: []string{r.Owner}, items: riskItems(r)}
		add(w)
		if !r.Due.IsZero() {
			add(want{name: "treatment." + id, kind: RiskReview, subject: "risks." + id, what: fmt.Sprintf("%s the risk %q: %s", r.Treat, id, r.Event), day: r.Due, by: []string{r.Owner}, items: riskItems(r)})
		}
	}
	for _, id := range sorted(p.People) {
		if every := p.People[id].OfflineCopy; !every.IsZero() {
			add(want{name: "offline." + id, kind: OfflineCopy, subject: "people." + id, what: "hold an offline copy of the plan in force, and show that it opens", every: "every " + every.String(), by: []string{id}})
		}
	}
	if kit := p.RecoveryKit; kit != nil && kit.CheckIn != nil {
		w := want{name: "recovery_kit.check_in", kind: Review, subject: "recovery_kit", what: "say that you are there; else the holders of the recovery kit are told", every: kit.CheckIn.Every.String(), grace: kit.CheckIn.Within, by: []string{strings.Join(kit.CheckIn.By, either)}}
		if w.grace.IsZero() {
			w.grace = checkInWithin
		}
		add(w)
	}
	for _, id := range sorted(p.People) {
		if every := p.People[id].AccessCheck; !every.IsZero() {
			add(want{name: "access." + id, kind: AccessCheck, subject: "people." + id, what: "show that your own administrator access works: log in with your second factor", every: "every " + every.String(), by: []string{id}})
		}
	}
	for _, w := range registers(p) {
		add(w)
	}
	for _, w := range approvals(p) {
		add(w)
	}
	for _, id := range sorted(p.Stores) {
		add(coverage(p, id))
	}
	return out
}

// fallbackRoles are asked where the plan names nobody.
func fallbackRoles(p *plan.Plan) []string {
	if p.Plan.Owner != "" {
		return []string{p.Plan.Owner}
	}
	if len(p.Plan.Approvers) > 0 {
		return []string{strings.Join(p.Plan.Approvers, either)}
	}
	return []string{strings.Join(sorted(p.People), either)}
}

// approved is the day on which the plan says that it was approved last.
func approved(p *plan.Plan) plan.Date {
	for _, e := range slices.Backward(p.Plan.History) {
		if len(e.ApprovedBy) > 0 {
			return e.On
		}
	}
	return p.Plan.Updated
}

func riskItems(r plan.Risk) []string {
	out := []string{fmt.Sprintf("likelihood %d, impact %d, %s", r.Likelihood, r.Impact, or(string(r.Treat), "no treatment"))}
	if len(r.By) > 0 {
		out = append(out, "by "+list(r.By))
	}
	return out
}

// registers ask each owner whether what stands in the register in their name is right
// (INV-10).
func registers(p *plan.Plan) []want {
	owned := map[string][]string{}
	for _, id := range sorted(p.Services) {
		if s := p.Services[id]; s.Owner != "" {
			owned[s.Owner] = append(owned[s.Owner], fmt.Sprintf("services.%s: tier %s", id, or(s.Tier, "none")))
		}
	}
	for _, id := range sorted(p.Stores) {
		if s := p.Stores[id]; s.Owner != "" {
			text := fmt.Sprintf("stores.%s: tier %s, class %s", id, or(s.Tier, "none"), or(s.Class, "none"))
			for _, m := range s.Contains {
				text += ", " + string(m)
			}
			owned[s.Owner] = append(owned[s.Owner], text)
		}
	}
	var out []want
	for _, owner := range sorted(owned) {
		out = append(out, want{name: "register." + owner, kind: Attestation, subject: "register." + owner, what: "attest that all that " + owner + " owns is listed and rightly classified", every: yearly, by: []string{owner}, items: owned[owner]})
	}
	return out
}

// approvals ask for the agreement to the objectives of each service and store: its owner
// and those who govern, as different people (OBJ-05, OBJ-06).
func approvals(p *plan.Plan) []want {
	var out []want
	add := func(path, node, owner string) {
		items := objectives(p, node)
		if len(items) == 0 {
			return
		}
		w := want{name: "objectives." + path, kind: Objective, subject: path, what: "review and approve the objectives of " + path, every: yearly, keyed: true, people: 2, items: items}
		a, ruled := p.Approvals[plan.ActObjectives]
		switch {
		case ruled && len(a.Roles) > 0:
			w.by, w.people = a.Roles, max(p.Approval(plan.ActObjectives).People, 1)
			if owner != "" && !slices.Contains(w.by, owner) && w.people <= 1 {
				w.by, w.people = append([]string{owner}, w.by...), 2
			}
		case len(p.Plan.Approvers) > 0:
			w.by = []string{or(owner, p.Plan.Owner), strings.Join(p.Plan.Approvers, either)}
		default:
			w.by = []string{or(owner, p.Plan.Owner), strings.Join(sorted(p.People), either)}
		}
		out = append(out, w)
	}
	for _, id := range sorted(p.Services) {
		add("services."+id, id, p.Services[id].Owner)
	}
	for _, id := range sorted(p.Stores) {
		add("stores."+id, id, p.Stores[id].Owner)
	}
	return out
}

// objectives are the values that hold for a service or store, as they are approved.
func objectives(p *plan.Plan, node string) []string {
	var out []string
	for _, metric := range []string{plan.MetricRTO, plan.MetricRPO} {
		if o, ok := plan.Strictest(p.ObjectivesOf(node, metric, "")); ok {
			out = append(out, fmt.Sprintf("%s %s (%s)", metric, o.Objective, o.Selector))
		}
	}
	return out
}

// actCoverage is the act of the plan that says who looks at coverage together.
const actCoverage = "coverage"

// coverage asks an owner and compliance together whether a store is protected as it
// should be (BKP-14).
func coverage(p *plan.Plan, id string) want {
	s := p.Stores[id]
	w := want{name: "coverage.stores." + id, kind: Coverage, subject: "stores." + id, what: fmt.Sprintf("look together at what protects the store %q", id), every: yearly, people: 2,
		by: []string{or(s.Owner, p.Plan.Owner), compliance(p)}, after: []string{"retention-change", "onboarding", "production-launch"}}
	b, ok := p.Backups[s.Protect]
	switch {
	case ok:
		least, _ := p.Kept(id)
		w.items = []string{fmt.Sprintf("backup %q, %s", s.Protect, b.Every), "kept for " + least.String(), "at " + list(b.Copies.Names())}
	case s.Delegated != nil:
		w.items = []string{"protected by " + s.Delegated.To}
	case s.NotProtected != "":
		w.items = []string{"not protected: " + s.NotProtected}
	default:
		w.items = []string{"nothing protects it"}
	}
	return w
}

// compliance is who looks at coverage beside the owner: whom the plan names for the act,
// a role that is named so, or an approver of the plan.
func compliance(p *plan.Plan) string {
	if a := p.Approvals[actCoverage]; len(a.Roles) > 0 {
		return strings.Join(a.Roles, either)
	}
	for _, id := range sorted(p.Roles) {
		if strings.HasPrefix(id, "compliance") {
			return id
		}
	}
	if len(p.Plan.Approvers) > 0 {
		return strings.Join(p.Plan.Approvers, either)
	}
	return strings.Join(sorted(p.People), either)
}

// person is who is asked first for a role.
func person(p *plan.Plan, roles []string) string {
	for _, r := range roles {
		for one := range strings.SplitSeq(r, either) {
			if who := p.Person(one, false); who != "" {
				return who
			}
		}
	}
	return ""
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// declaredBy are the people who approved every objective of a node, as the plan says.
func declaredBy(p *plan.Plan, node string) []string {
	var all []string
	first := true
	for _, metric := range []string{plan.MetricRTO, plan.MetricRPO} {
		o, ok := plan.Strictest(p.ObjectivesOf(node, metric, ""))
		if !ok || o.None != "" {
			continue
		}
		var who []string
		for _, by := range o.ApprovedBy() {
			if person := p.Person(by, false); person != "" && !slices.Contains(who, person) {
				who = append(who, person)
			}
		}
		if first {
			all, first = who, false
		} else {
			all = slices.DeleteFunc(all, func(x string) bool { return !slices.Contains(who, x) })
		}
	}
	return all
}
