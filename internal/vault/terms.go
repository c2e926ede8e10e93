package vault

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
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
	now := m.cfg.Plan()
	held, err := m.held(ctx, tx)
	switch {
	case err != nil:
		return nil, err
	case held == nil:
		return nil, m.hold(ctx, tx, now, "the first")
	case held.Digest() == now.Digest():
		return nil, nil
	}
	weaker := Weaker(held, now, m.cfg.Clock())
	if len(weaker) == 0 {
		return nil, m.hold(ctx, tx, now, "it weakens nothing")
	}
	act := Act{Kind: plan.ActWeaken, Subject: "plan", Plan: now.Digest(), Does: weaker}
	r, err := m.lastFor(ctx, tx, act)
	if err != nil {
		return nil, err
	}
	if r.State != StateRejected { // who said no is not asked again at once
		if r, err = m.ask(ctx, tx, held, act, "holdfast"); err != nil {
			return nil, err
		}
	}
	if err := m.take(ctx, tx, held, r.ID, act); err == nil {
		return nil, m.hold(ctx, tx, now, "signed for: request "+r.ID)
	}
	return []holdfast.Finding{{Code: CodePending, Severity: holdfast.SeverityWarning, Subject: "plan",
		Message: fmt.Sprintf("the vault goes on by the plan that it holds, since the new one weakens it: %s", strings.Join(weaker, "; ")),
		Hint:    fmt.Sprintf("\"holdfast approve %s\" shows what to sign, and who may; or take the change back", r.ID)}}, nil
}

// terms are the terms of a store under a plan.
func terms(p *plan.Plan, store string, now time.Time) (Terms, error) {
	b, err := storeNamed(p, store)
	if err != nil {
		return Terms{}, err
	}
	least, most := b.Kept()
	t := Terms{Keep: least, Max: most, Rolls: b.Log != nil && p.Stores[store].Kind == plan.KindPostgres, Zone: p.Location()}
	if b.Retention != nil && b.Retention.History != nil {
		h := b.Retention.History
		for _, s := range []Span{{"hour", h.Hourly}, {"day", h.Daily}, {"week", h.Weekly}, {"month", h.Monthly}, {"year", h.Yearly}} {
			if s.Keep != (calendar.Period{}) {
				t.History = append(t.History, s)
			}
		}
	}
	for _, id := range p.HoldsOn(store) {
		if h := p.Holds[id]; holds(h, now, p.Location()) {
			t.Holds = append(t.Holds, fmt.Sprintf("%s (%s)", id, h.Why))
		}
	}
	return t, nil
}

// holds reports whether a hold is in force.
func holds(h plan.Hold, now time.Time, zone *time.Location) bool {
	return (h.From.IsZero() || !now.Before(h.From.Begin(zone))) && (h.Until.IsZero() || now.Before(h.Until.Begin(zone)))
}

// Weaker says in words what a new plan would keep, hold or ask less than the old one,
// and what it changes about who can read and who may sign. It is pure.
//
// A plan in which nobody can sign yet gets its first signers without a signature:
// there is nobody to give it. That is recorded as every plan is.
func Weaker(old, new *plan.Plan, now time.Time) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, id := range slices.Sorted(maps.Keys(old.Stores)) {
		was, err := terms(old, id, now)
		if err != nil {
			continue // nothing protected it
		}
		is, err := terms(new, id, now)
		if err != nil {
			say("store %s is no longer protected", id)
			continue
		}
		weakerTerms(id, was, is, say)
		a, _ := storeNamed(old, id)
		b, _ := storeNamed(new, id)
		for _, l := range a.Copies.Names() {
			if _, ok := b.Copies[l]; !ok {
				say("store %s has no copy at %s any more", id, l)
			}
		}
	}
	for _, r := range old.EncryptTo() {
		if !slices.Contains(new.EncryptTo(), r) {
			say("the key %s can read no new backup", r)
		}
	}
	for _, r := range new.EncryptTo() {
		if !slices.Contains(old.EncryptTo(), r) {
			say("the key %s can read new backups", r)
		}
	}
	if new.Repository.AllowOneRecipient && !old.Repository.AllowOneRecipient {
		say("one key alone may read the backups")
	}
	return append(out, weakerSigning(old, new)...)
}

func weakerTerms(id string, was, is Terms, say func(string, ...any)) {
	switch {
	case is.Keep.IsZero():
	case was.Keep.IsZero():
		say("store %s: copies are kept %s and were kept for ever", id, is.Keep)
	case is.Keep.Approx() < was.Keep.Approx():
		say("store %s: copies are kept %s and were kept %s", id, is.Keep, was.Keep)
	}
	if !is.Max.IsZero() && (was.Max.IsZero() || is.Max.Approx() < was.Max.Approx()) {
		say("store %s: copies are kept at most %s", id, is.Max)
	}
	for _, s := range was.History {
		i := slices.IndexFunc(is.History, func(o Span) bool { return o.Name == s.Name })
		if i < 0 {
			say("store %s: no copy of each %s is kept any more", id, s.Name)
		} else if is.History[i].Keep.Approx() < s.Keep.Approx() {
			say("store %s: the copy of each %s is kept %s and was kept %s", id, s.Name, is.History[i].Keep, s.Keep)
		}
	}
	for _, h := range was.Holds {
		if !slices.Contains(is.Holds, h) {
			say("store %s: the hold %s is released", id, h)
		}
	}
}

// weakerSigning says what changes about who may sign.
func weakerSigning(old, new *plan.Plan) []string {
	if len(signers(old)) == 0 {
		return nil
	}
	var out []string
	for _, act := range []string{plan.ActDelete, plan.ActWeaken} {
		if was, is := rule(old, act), rule(new, act); was != is {
			out = append(out, fmt.Sprintf("%s: %s; it was: %s", act, is, was))
		}
	}
	was, is := signers(old), signers(new)
	for _, k := range slices.Sorted(maps.Keys(is)) {
		if was[k] == "" {
			out = append(out, fmt.Sprintf("the key %s of %s may sign", short(k), is[k]))
		} else if was[k] != is[k] {
			out = append(out, fmt.Sprintf("the key %s of %s is that of %s", short(k), was[k], is[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(was)) {
		if is[k] == "" {
			out = append(out, fmt.Sprintf("the key %s of %s may not sign any more", short(k), was[k]))
		}
	}
	return out
}

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

// signers are the people's keys that may sign, by key.
func signers(p *plan.Plan) map[string]string {
	out := map[string]string{}
	for id, person := range p.People {
		for _, key := range person.SSH {
			f := strings.Fields(key)
			if len(f) >= 2 {
				out[f[0]+" "+f[1]] = id
			}
		}
	}
	return out
}

func short(key string) string {
	if len(key) > 12 {
		return "…" + key[len(key)-12:]
	}
	return key
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
