package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/calendar"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

// domainPlan is the domain of the vault's signature over a plan that it holds.
const domainPlan = "vault-plan"

// CodePending is the finding that a plan waits for signatures.
const CodePending = "HF-V7"

// held returns the plan that the vault holds; nil before the first.
func (m *Module) held(ctx context.Context, tx *db.Tx) (*plan.Plan, error) {
	rows, err := tx.Query(ctx, `SELECT source, proof FROM vault_plans ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	var source, proof string
	if err := rows.Scan(&source, &proof); err != nil {
		return nil, err
	}
	// Who can write to the state, and has not the vault's key, cannot shorten anything.
	sig, err := base64.StdEncoding.DecodeString(proof)
	if err != nil || m.cfg.Key.Public().Verify(domainPlan, []byte(source), sig) != nil {
		return nil, holdfast.WithHint(fmt.Errorf("the plan that the vault holds is not signed by the vault: the state was changed"),
			"nothing is deleted; find out who writes to the state, and bring it back from a backup")
	}
	return plan.Parse(m.cfg.Plan().Dir()+"/plan.yaml", []byte(source))
}

// Held returns the plan by which the vault keeps and deletes; nil if it holds none yet.
// One that the vault did not sign is an error: somebody else wrote it.
func (m *Module) Held(ctx context.Context) (p *plan.Plan, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		p, err = m.held(ctx, tx)
		return err
	})
	return p, err
}

// hold makes p the plan that the vault holds.
func (m *Module) hold(ctx context.Context, tx *db.Tx, p *plan.Plan, why string) error {
	src := p.Source()
	_, err := tx.Exec(ctx, `INSERT INTO vault_plans (digest, source, adopted, seq, proof) VALUES (?, ?, ?, (SELECT COALESCE(MAX(seq), 0) + 1 FROM vault_plans), ?)
		ON CONFLICT (digest) DO UPDATE SET adopted = excluded.adopted, seq = excluded.seq, proof = excluded.proof`,
		p.Digest(), string(src), db.Micros(m.cfg.Clock()), base64.StdEncoding.EncodeToString(m.cfg.Key.Sign(domainPlan, src)))
	if err != nil {
		return err
	}
	return m.fact(ctx, tx, FactPlan, "plan", "holdfast", map[string]any{"digest": p.Digest(), "version": p.Plan.Version, "why": why})
}

// Adopt compares the plan in force with the one that the vault holds, and takes it if
// it weakens nothing. If it does, people are asked to sign, and until they have, the
// vault goes on by the one that it holds: the finding says so.
func (m *Module) Adopt(ctx context.Context) (findings []holdfast.Finding, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		findings, err = m.adopt(ctx, tx)
		return err
	})
	return findings, err
}

func (m *Module) adopt(ctx context.Context, tx *db.Tx) ([]holdfast.Finding, error) {
	now := m.proposed()
	held, err := m.held(ctx, tx)
	switch {
	case err != nil:
		return nil, err
	case held == nil:
		return nil, m.hold(ctx, tx, now, "the first")
	case held.Digest() == now.Digest():
		return nil, nil
	}
	acts := asks(held, now, m.cfg.Clock())
	if from := begins(now); m.cfg.Clock().Before(from) {
		return []holdfast.Finding{{Code: CodePending, Severity: holdfast.SeverityNote, Subject: "plan.effective",
			Message: fmt.Sprintf("the plan of version %q is in force from %s; until then the one before it is", now.Plan.Version, now.Plan.Effective),
			Hint:    "wait for the day; what it weakens is asked for then"}}, nil
	}
	if len(acts) == 0 {
		return nil, m.hold(ctx, tx, now, "it weakens nothing")
	}
	if m.cfg.Kept != nil && !HasSigners(held) {
		kept, err := m.cfg.Kept(ctx, tx)
		if err != nil {
			return nil, err
		}
		if !kept {
			return nil, m.hold(ctx, tx, now, "nothing is kept yet that it could weaken")
		}
	}
	var requests []string
	var waits []holdfast.Finding
	for _, act := range acts {
		r, err := m.lastFor(ctx, tx, act)
		if err != nil {
			return nil, err
		}
		if r.State != StateRejected { // who said no is not asked again at once
			if r, err = m.ask(ctx, tx, held, act, asksItself); err != nil {
				return nil, err
			}
		}
		requests = append(requests, r.ID)
		if _, why := m.ready(ctx, tx, held, r.ID, act); why != nil {
			waits = append(waits, pending(held, act, r))
		}
	}
	if len(waits) > 0 { // one that is signed for alone is not used up
		return waits, nil
	}
	for i, act := range acts {
		if err := m.take(ctx, tx, held, requests[i], act); err != nil {
			return nil, err
		}
	}
	return nil, m.hold(ctx, tx, now, "signed for: request "+strings.Join(requests, ", "))
}

// pending says that a plan waits for an act to be signed, and what ends that.
func pending(held *plan.Plan, act Act, r Request) holdfast.Finding {
	f := holdfast.Finding{Code: CodePending, Severity: holdfast.SeverityWarning, Subject: "plan",
		Message: fmt.Sprintf("the plan before goes on, since the new one needs approval: %s", strings.Join(act.Does, "; ")),
		Hint:    fmt.Sprintf("\"holdfast approve %s\" shows what to sign, and who may; or take the change back", r.ID)}
	why := cannot(held, act, asksItself)
	switch {
	case r.State == StateRejected:
		f.Hint = "it was rejected: take the change back, or write it anew"
	case why == nil:
	case held.Approval(act.Kind).Fallback != nil:
		f.Hint = fmt.Sprintf("nobody who may sign has a key, so it is in force at %s unless somebody stops it: \"holdfast approve %s --by NAME --reject\"", utc(r.NotBefore), r.ID)
	default:
		f.Message += ". " + holdfast.Sentence(why)
		f.Hint = "take the change back first; then give those who approve a key (people.NAME.ssh), or declare \"org: {team: small}\", which are in force at once while nobody can sign; then make the change again"
		if len(able(held, act.Kind)) > 0 {
			f.Hint = holdfast.Hint(why)
		}
	}
	return f
}

func (m *Module) proposed() *plan.Plan {
	if m.cfg.Proposed != nil {
		return m.cfg.Proposed()
	}
	return m.cfg.Plan()
}

// begins returns the instant from which a plan wants to be in force.
func begins(p *plan.Plan) time.Time {
	if p.Plan.Effective.IsZero() {
		return time.Time{}
	}
	return p.Plan.Effective.Begin(p.Location())
}

// asks returns the acts that people must sign before a plan takes the place of the one
// that is held; none if nobody need sign. A held plan that says who approves changes of
// encryption wants an act of its own for those, and one that says who approves changes
// wants one for every change.
func asks(held, next *plan.Plan, now time.Time) (acts []Act) {
	weak := Act{Kind: plan.ActWeaken, Subject: "plan", Plan: next.Digest()}
	secret := Act{Kind: plan.ActEncryption, Subject: "plan", Plan: next.Digest()}
	_, apart := held.Approvals[plan.ActEncryption]
	for _, c := range weaker(held, next, now) {
		if apart && c.Encryption() {
			secret.Does = append(secret.Does, c.String())
			continue
		}
		weak.Does = append(weak.Does, c.String())
	}
	for _, a := range []Act{weak, secret} {
		if len(a.Does) > 0 {
			acts = append(acts, a)
		}
	}
	if _, declared := held.Approvals[plan.ActChange]; declared && len(acts) == 0 && HasSigners(held) {
		all := Act{Kind: plan.ActChange, Subject: "plan", Plan: next.Digest()}
		for _, c := range plan.Diff(held, next) {
			all.Does = append(all.Does, c.String())
		}
		if len(all.Does) > 0 {
			acts = append(acts, all)
		}
	}
	return acts
}

// InForce returns which of the plan that is held and the one that is proposed is in
// force, and why the proposed one waits if it is not: it needs signatures, or its day
// has not come. It does what Adopt would do and takes it back, so nothing is written.
//
// Where nobody can sign, a weaker plan waits too: for the delay of a small team, or until
// the people who approve have keys.
func (m *Module) InForce(ctx context.Context) (in *plan.Plan, waiting []holdfast.Finding, err error) {
	takenBack := errors.New("taken back")
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		in, waiting = m.proposed(), nil
		held, err := m.held(ctx, tx)
		if err != nil {
			return err
		}
		findings, err := m.adopt(ctx, tx)
		if err != nil {
			return err
		}
		if held != nil && len(findings) > 0 {
			in, waiting = held, findings
		}
		return takenBack
	})
	if errors.Is(err, takenBack) {
		err = nil
	}
	return in, waiting, err
}

// terms are the terms of a store under a plan.
func terms(p *plan.Plan, store string, now time.Time) (Terms, error) {
	b, err := storeNamed(p, store)
	if err != nil {
		return Terms{}, err
	}
	own, ownMost := b.Kept()
	least, most := p.Kept(store)
	class := fmt.Sprintf(" by the class %q", p.Stores[store].Class)
	t := Terms{Keep: least, Max: most, Rolls: b.Log != nil && p.Stores[store].Kind == plan.KindPostgres, Zone: p.Location()}
	if least != own {
		t.KeepBy = class
	}
	if most != ownMost {
		t.MaxBy = class
	}
	if b.Retention != nil && b.Retention.History != nil {
		h := b.Retention.History
		for _, s := range []Span{{"hour", h.Hourly}, {"day", h.Daily}, {"week", h.Weekly}, {"month", h.Monthly}, {"year", h.Yearly}} {
			if s.Keep != (calendar.Period{}) {
				t.History = append(t.History, s)
			}
		}
	}
	for _, id := range p.HoldsOn(store) {
		if h := p.Holds[id]; p.Held(h, now) {
			t.Holds = append(t.Holds, fmt.Sprintf("%s (%s)", id, h.Why))
		}
	}
	return t, nil
}

// Weaker says in words what a new plan would keep, hold, prove or ask less than the old
// one, and what it changes about who can read and who may sign. It is pure.
//
// A plan in which nobody can sign yet gets its first signers without a signature:
// there is nobody to give it. That is recorded as every plan is. A hold that has ended
// may be taken out.
func Weaker(old, new *plan.Plan, now time.Time) []string {
	var out []string
	for _, c := range weaker(old, new, now) {
		out = append(out, c.String())
	}
	return out
}

func weaker(old, new *plan.Plan, now time.Time) []plan.Change {
	return slices.DeleteFunc(plan.Weakens(plan.Diff(old, new)), func(c plan.Change) bool {
		if c.Signing() && !HasSigners(old) {
			return true
		}
		id, ok := strings.CutPrefix(c.Path, "holds.")
		if !ok {
			return false
		}
		h, declared := old.Holds[id]
		return declared && !old.Held(h, now) && (h.From.IsZero() || !now.Before(h.From.Begin(old.Location())))
	})
}

// HasSigners reports whether anybody who approves weaker plans has a key to sign with.
func HasSigners(p *plan.Plan) bool { return len(able(p, plan.ActWeaken)) > 0 }

// rule is an approval in one line: who, how many, and what a small team does instead.
func rule(p *plan.Plan, act string) string {
	a := p.Approval(act)
	var who []string
	for _, r := range a.Roles {
		var names []string
		for _, n := range []string{p.Person(r, false), p.Person(r, true)} {
			if n != "" {
				names = append(names, n)
			}
		}
		who = append(who, strings.Join(names, " or "))
	}
	slices.Sort(who)
	s := fmt.Sprintf("%d of %s sign", a.People, strings.Join(who, ", "))
	if a.RequesterCounts {
		s += ", who asks may be one"
	}
	if f := a.Fallback; f != nil {
		s += fmt.Sprintf(", or one and %s pass, with a review within %s", f.Delay, f.ReviewWithin)
	}
	return s
}

// lastFor returns the newest request for an act that has not expired, if any.
func (m *Module) lastFor(ctx context.Context, tx *db.Tx, a Act) (Request, error) {
	all, err := m.requests(ctx, tx)
	if err != nil {
		return Request{}, err
	}
	for _, r := range all {
		if r.Act.same(a.normal()) && m.cfg.Clock().Before(r.Expires) {
			return r, nil
		}
	}
	return Request{}, nil
}
