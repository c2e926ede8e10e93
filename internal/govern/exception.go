package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

// Facts about exceptions.
const (
	FactException = "exception.asked"
	FactAgreed    = "exception.signed"
	FactDenied    = "exception.refused" // a signature that does not count
	FactApproved  = "exception.approved"
)

// MaxException is the longest that an exception may last, and the default of one that
// names no end is none: it must.
const MaxException = 366 * 24 * time.Hour

// States of an exception.
const (
	ExceptionOpen     = "open" // it waits for those who must agree
	ExceptionApproved = "approved"
	ExceptionEnded    = "ended"
)

// An Exception is a waiver of one finding, of which somebody bears the risk, with an end.
// Those of the plan are listed beside those that were asked for while the system runs.
type Exception struct {
	ID           string      `json:"id"`
	Rule         string      `json:"rule"` // the code of the finding
	Of           string      `json:"of"`   // what it is about
	Why          string      `json:"why"`
	Risk         string      `json:"risk"`
	Impact       string      `json:"impact,omitempty"`
	Compensating string      `json:"compensating,omitempty"`
	Remedy       string      `json:"remedy,omitempty"`
	By           string      `json:"by"` // who asked
	Asked        time.Time   `json:"asked,omitzero"`
	Until        time.Time   `json:"until"`
	Roles        []string    `json:"roles"`  // who agree
	People       int         `json:"people"` // how many of them
	Signatures   []Signature `json:"signatures"`
	Approved     time.Time   `json:"approved,omitzero"`
	InPlan       bool        `json:"in_plan"`
	State        string      `json:"state"` // computed
}

const kindException = "exception"

// StateAt is the state at an instant.
func (e Exception) StateAt(now time.Time) string {
	switch {
	case !now.Before(e.Until):
		return ExceptionEnded
	case !e.Approved.IsZero():
		return ExceptionApproved
	}
	return ExceptionOpen
}

// Text is what a person signs: all of it.
func (e Exception) Text(repository string) string {
	var b strings.Builder
	b.WriteString("holdfast exception 1\n")
	for _, l := range [][2]string{{"exception", e.ID}, {"repository", repository}, {"rule", e.Rule}, {"of", e.Of}, {"why", e.Why}, {"risk", e.Risk}, {"impact", e.Impact},
		{"compensating", e.Compensating}, {"remedy", e.Remedy}, {"asked", e.Asked.UTC().Format(time.RFC3339) + " by " + e.By}, {"until", e.Until.UTC().Format(time.RFC3339)}} {
		fmt.Fprintf(&b, "%s: %s\n", l[0], oneLine(l[1]))
	}
	return b.String()
}

// who says who must agree to an exception: as the plan's approvals name it, else one of
// the approvers other than who asks, and two where much is at stake.
func (e Exception) who(p *plan.Plan) (roles []string, people int, requester bool) {
	a, ruled := p.Approvals[plan.ActException+e.Risk]
	if ruled {
		people = p.Approval(plan.ActException + e.Risk).People
		if a.Fallback != nil || p.Org.Team == plan.TeamSmall {
			people = 1 // a small team: one other person
		}
		return a.Roles, people, a.RequesterCounts
	}
	people = 1
	if (e.Risk == "high" || e.Risk == "critical") && p.Org.Team != plan.TeamSmall {
		people = 2
	}
	return p.Plan.Approvers, people, false
}

// AskException asks for a waiver. Nothing is waived until those who must have agreed.
func (m *Module) AskException(ctx context.Context, e Exception) (Exception, error) {
	p, now := m.cfg.Plan(), m.cfg.Clock().UTC().Truncate(time.Second)
	bad := func(hint, format string, args ...any) (Exception, error) {
		return e, holdfast.WithHint(fmt.Errorf(format+": %w", append(args, holdfast.ErrUsage)...), "%s", hint)
	}
	if e.Risk == "" {
		e.Risk = "medium"
	}
	_, person := p.People[e.By]
	switch {
	case !knownRule(e.Rule):
		return bad("the code stands beside each finding; docs/findings.md lists them", "%q is no code of a finding", e.Rule)
	case e.Of == "" || e.Why == "":
		return bad("give --of and --why", "an exception says what it is about, and why")
	case !person:
		return bad("give --by with a name under \"people\" of the plan", "%q is not a person of the plan in force", e.By)
	case !slices.Contains([]string{"low", "medium", "high", "critical"}, e.Risk):
		return bad("it is low, medium, high or critical", "%q is no risk", e.Risk)
	case !e.Until.After(now):
		return bad("give --until with a day in the future", "an exception has an end")
	case e.Until.Sub(now) > MaxException:
		return bad("ask for a shorter one, and ask again when it ends", "an exception lasts a year at most")
	}
	for _, f := range []*string{&e.Why, &e.Impact, &e.Compensating, &e.Remedy, &e.Of} {
		*f = oneLine(*f)
	}
	e.Asked, e.Signatures, e.Approved, e.InPlan = now, []Signature{}, time.Time{}, false
	e.Roles, e.People, _ = e.who(p)
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		all, err := items[Exception](ctx, tx, kindException)
		if err != nil {
			return err
		}
		for _, x := range all {
			if x.Rule == e.Rule && x.Of == e.Of && x.Why == e.Why && x.Until.Equal(e.Until) && x.By == e.By && x.StateAt(now) != ExceptionEnded {
				e = x
				return nil
			}
		}
		e.ID = fmt.Sprintf("EX-%04d", len(all)+1)
		if err := put(ctx, tx, kindException, e.ID, true, now, e); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactException, e.Of, e.By, e)
	})
	e.State = e.StateAt(now)
	return e, err
}

// ApproveException adds a person's signature. An approval needs a key: a word is none.
func (m *Module) ApproveException(ctx context.Context, id string, w Word) (e Exception, err error) {
	p, now := m.cfg.Plan(), m.cfg.Clock().UTC().Truncate(time.Second)
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		if e, err = exceptionOf(ctx, tx, id); err != nil {
			return err
		}
		roles, people, requester := e.who(p)
		var key string
		switch state := e.StateAt(now); {
		case state != ExceptionOpen:
			refused = refuse("ask for another one", "%s is %s", id, state)
		case w.By == e.By && !requester:
			refused = refuse("who may: "+list(roles), "%q asked for it, and somebody else must agree", w.By)
		case !slices.ContainsFunc(roles, func(r string) bool { return holds(p, r, w.By) }):
			refused = refuse("who may: "+list(roles), "%q may not agree to an exception of this risk (%s)", w.By, e.Risk)
		default:
			key, refused = verify(p, w.By, e.Text(p.Repository.ID), w.Signature, true, e.Signatures)
		}
		if refused != nil {
			return m.fact(ctx, tx, FactDenied, e.Of, oneLine(w.By), map[string]any{"exception": id, "error": holdfast.Sentence(refused)})
		}
		e.Signatures = append(e.Signatures, Signature{By: w.By, At: now, On: now, Note: oneLine(w.Note), Key: key, Signature: string(w.Signature)})
		e.Roles, e.People = roles, people
		if err := m.fact(ctx, tx, FactAgreed, e.Of, w.By, map[string]any{"exception": id, "key": key, "signature": string(w.Signature)}); err != nil {
			return err
		}
		if enough(p, roles, people, signers(e.Signatures)) {
			e.Approved = now
			if err := m.fact(ctx, tx, FactApproved, e.Of, w.By, map[string]any{"exception": id, "rule": e.Rule, "by": signers(e.Signatures), "until": e.Until}); err != nil {
				return err
			}
		}
		return put(ctx, tx, kindException, e.ID, e.Approved.IsZero(), e.Asked, e)
	})
	if err == nil {
		err = refused
	}
	e.State = e.StateAt(now)
	return e, err
}

func exceptionOf(ctx context.Context, tx *db.Tx, id string) (Exception, error) {
	all, err := items[Exception](ctx, tx, kindException)
	if err != nil {
		return Exception{}, err
	}
	i := slices.IndexFunc(all, func(e Exception) bool { return e.ID == id })
	if i < 0 {
		return Exception{}, holdfast.WithHint(fmt.Errorf("no exception %q: %w", id, holdfast.ErrUsage), "\"holdfast exception list\" lists them; one that stands in the plan is approved there")
	}
	return all[i], nil
}

// Exceptions lists those that were asked for and those of the plan.
func (m *Module) Exceptions(ctx context.Context) (out []Exception, err error) {
	p, now := m.cfg.Plan(), m.cfg.Clock()
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out, err = items[Exception](ctx, tx, kindException)
		return err
	})
	for i := range out {
		out[i].State = out[i].StateAt(now)
	}
	for _, id := range sorted(p.Exceptions) {
		x := p.Exceptions[id]
		e := Exception{ID: id, Rule: x.Rule, Of: x.Of, Why: x.Why, Risk: string(x.Risk), Impact: x.Impact, Compensating: x.Compensating, Remedy: x.Remedy, By: x.By, Roles: x.ApprovedBy, People: len(x.ApprovedBy),
			Signatures: []Signature{}, Until: lastOf(x.Until, p.Location()), InPlan: true, State: ExceptionOpen}
		if !now.Before(e.Until) {
			e.State = ExceptionEnded
		} else if slices.ContainsFunc(p.Waivers(), func(w plan.Waiver) bool { return w.ID == id && !now.Before(w.From) }) {
			e.State = ExceptionApproved
		}
		out = append(out, e)
	}
	if out == nil {
		out = []Exception{}
	}
	return out, err
}

// lastOf is the end of a day.
func lastOf(d plan.Date, loc *time.Location) time.Time {
	return plan.Date{Year: d.Year, Month: d.Month, Day: d.Day + 1}.Begin(loc)
}

// ExceptionText returns what a person signs.
func (m *Module) ExceptionText(ctx context.Context, id string) (text string, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		e, err := exceptionOf(ctx, tx, id)
		text = e.Text(m.cfg.Plan().Repository.ID)
		return err
	})
	return text, err
}

// A waiver says which exception is in force for a finding, in words; "" if none.
type waiver func(rule, subject string, now time.Time) string

// waivers reads the exceptions, of the plan and those asked for.
func (m *Module) waivers(ctx context.Context, tx *db.Tx) (waiver, error) {
	p := m.cfg.Plan()
	all, err := items[Exception](ctx, tx, kindException)
	if err != nil {
		return nil, err
	}
	in := slices.Concat(Approved(all), p.Waivers())
	return func(rule, subject string, now time.Time) string {
		if w, ok := in.Of(rule, subject, now); ok {
			return w.String()
		}
		return ""
	}, nil
}

// Approved are the exceptions of some to which those who must have agreed while the system
// ran, with their ends: whoever looks at them by their day needs no other list.
func Approved(all []Exception) (out plan.Waivers) {
	for _, e := range all {
		if !e.InPlan && !e.Approved.IsZero() {
			out = append(out, plan.Waiver{ID: e.ID, Rule: e.Rule, Of: e.Of, Why: e.Why, From: e.Approved, Until: e.Until, Day: e.Until.UTC().Format(time.DateOnly)})
		}
	}
	return out
}

func knownRule(code string) bool {
	_, ok := plan.RuleOf(code)
	return ok || code == CodeFound || code == plan.CodeMissed || slices.ContainsFunc(elements, func(e element) bool { return e.rule == code })
}
