package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// Namespace is that of the SSH signatures of people over a request:
//
//	ssh-keygen -Y sign -n holdfast-approval -f KEY FILE
const Namespace = "holdfast-approval"

// Limits of requests.
const (
	expires     = 7 * 24 * time.Hour // after it was asked
	MaxRequests = 1000               // that are listed
	maxDoes     = 200                // lines of one act
	maxLine     = 500                // bytes of one line
)

// States of a request.
const (
	StateOpen     = "open"
	StateApproved = "approved" // signed for, and not done yet
	StateUsed     = "used"
	StateRejected = "rejected"
	StateExpired  = "expired"
)

// An Act is what people are asked to sign. All of it is in the text: nobody can
// sign for one thing and have another done.
type Act struct {
	Kind    string   `json:"kind"`           // plan.ActDelete, plan.ActWeaken
	Subject string   `json:"subject"`        // "stores.db", "plan"
	Plan    string   `json:"plan,omitempty"` // digest of the plan that would be held
	Does    []string `json:"does"`           // line by line
}

// normal is the act as it is signed: at most maxDoes lines, each of them one line of
// text. What is cut off is named by its hash, so that another end is another act.
func (a Act) normal() Act {
	out := a
	out.Does = nil
	for _, l := range a.Does {
		l = strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f || c == 0x2028 || c == 0x2029 {
				return ' '
			}
			return c
		}, l)
		if len(l) > maxLine {
			h := seal.Hash([]byte(l))
			l = strings.ToValidUTF8(l[:maxLine-40], "") + fmt.Sprintf("… (hash %x)", h[:8])
		}
		out.Does = append(out.Does, l)
	}
	if n := len(out.Does) - maxDoes; n > 0 {
		h := seal.Hash([]byte(strings.Join(out.Does, "\n")))
		out.Does = append(out.Does[:maxDoes:maxDoes], fmt.Sprintf("and %d more; all lines have the hash %x", n, h))
	}
	return out
}

func (a Act) same(b Act) bool {
	return a.Kind == b.Kind && a.Subject == b.Subject && a.Plan == b.Plan && slices.Equal(a.Does, b.Does)
}

// A Signature is one person's agreement.
type Signature struct {
	By   string    `json:"by"`
	Key  string    `json:"key"` // the public half with which it was verified
	At   time.Time `json:"at"`
	Text string    `json:"signature"`
}

// A Request is an act that waits for people.
type Request struct {
	ID      string    `json:"id"` // random: no signature fits two requests
	Act     Act       `json:"act"`
	Text    string    `json:"text"` // what is signed, byte for byte
	Asked   string    `json:"asked_by"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"`
	// Rule says in words who signs.
	Rule       string      `json:"rule"`
	Signatures []Signature `json:"signatures"`
	// NotBefore is when the act may be done: at once, or after the delay of a small
	// team.
	NotBefore time.Time `json:"not_before,omitzero"`
	// ReviewBy is until when somebody looks at what one person alone did.
	ReviewBy time.Time `json:"review_by,omitzero"`
	Reviewed string    `json:"reviewed,omitempty"` // by whom, and what they found
	Used     time.Time `json:"used,omitzero"`
}

// text is the canonical text of a request.
func (r Request) text(repository string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "holdfast approval 1\nrequest: %s\nrepository: %s\nact: %s\nsubject: %s\n", r.ID, repository, r.Act.Kind, r.Act.Subject)
	if r.Act.Plan != "" {
		fmt.Fprintf(&b, "plan: %s\n", r.Act.Plan)
	}
	for _, d := range r.Act.Does {
		fmt.Fprintf(&b, "does: %s\n", d)
	}
	fmt.Fprintf(&b, "asked: %s by %s\nexpires: %s\n", r.At.UTC().Format(time.RFC3339), r.Asked, r.Expires.UTC().Format(time.RFC3339))
	return b.String()
}

// ErrNotFound marks a request that does not exist.
var ErrNotFound = fmt.Errorf("no such request: %w", holdfast.ErrUsage)

// Ask opens a request for an act, by the rules of the plan that the vault holds. An
// open or approved one for the same act is returned as it is.
func (m *Module) Ask(ctx context.Context, a Act, by string) (r Request, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		held, err := m.heldOrAdopt(ctx, tx)
		if err != nil {
			return err
		}
		r, err = m.ask(ctx, tx, held, a, by)
		return err
	})
	return r, err
}

func (m *Module) heldOrAdopt(ctx context.Context, tx *db.Tx) (*plan.Plan, error) {
	held, err := m.held(ctx, tx)
	if held == nil && err == nil {
		if _, err := m.adopt(ctx, tx); err != nil {
			return nil, err
		}
		return m.held(ctx, tx)
	}
	return held, err
}

func (m *Module) ask(ctx context.Context, tx *db.Tx, held *plan.Plan, a Act, by string) (Request, error) {
	a = a.normal()
	if a.Kind == "" || a.Subject == "" || by == "" || len(a.Does) == 0 {
		return Request{}, fmt.Errorf("a request needs an act, what it is about, what it does and who asks: %w", holdfast.ErrUsage)
	}
	if f := (Act{Does: []string{a.Kind, a.Subject, by, a.Plan}}).normal(); !slices.Equal(f.Does, []string{a.Kind, a.Subject, by, a.Plan}) {
		return Request{}, fmt.Errorf("a name in a request is too long or has control characters: %w", holdfast.ErrUsage)
	}
	if why := cannot(held, a, by); why != nil && by != asksItself {
		return Request{}, why
	}
	all, err := m.requests(ctx, tx)
	if err != nil {
		return Request{}, err
	}
	for _, r := range all {
		if r.waits() && m.cfg.Clock().Before(r.Expires) && r.Act.same(a) {
			return r, nil
		}
	}
	var id [8]byte
	rand.Read(id[:]) // never fails: the runtime ends the program instead
	now := m.cfg.Clock().UTC().Truncate(time.Second)
	r := Request{ID: hex.EncodeToString(id[:]), Act: a, Asked: by, At: now, Expires: now.Add(expires), State: StateOpen, Rule: rule(held, a.Kind)}
	m.settle(held, &r)
	if f := held.Approval(a.Kind).Fallback; f != nil {
		r.Expires = f.Delay.AddTo(r.Expires, 1, held.Location())
	}
	r.Text = r.text(held.Repository.ID)
	if err := m.save(ctx, tx, r); err != nil {
		return r, err
	}
	return r, m.fact(ctx, tx, FactAsked, r.Act.Subject, by, map[string]any{"request": r.ID, "act": a, "expires": r.Expires, "rule": r.Rule})
}

// refuse is a refusal with its way out; the caller records it.
func refuse(hint, format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf(format+": %w", append(args, holdfast.ErrRefused)...), "%s", hint)
}

// Sign adds a person's signature over the text of a request. Whatever is wrong with
// it is refused with the reason, and is a fact.
func (m *Module) Sign(ctx context.Context, id, by string, armoured []byte) (r Request, err error) {
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		held, err := m.heldOrAdopt(ctx, tx)
		if err != nil {
			return err
		}
		if r, err = m.request(ctx, tx, id); err != nil {
			return err
		}
		key, why := m.mayNotSign(held, r, by, armoured)
		if why != nil {
			refused = why
			return m.fact(ctx, tx, FactRefused, r.Act.Subject, by, map[string]any{"request": id, "error": holdfast.Sentence(why)})
		}
		r.Signatures = append(r.Signatures, Signature{By: by, Key: key, At: m.cfg.Clock().UTC(), Text: string(armoured)})
		m.settle(held, &r)
		if err := m.save(ctx, tx, r); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactSigned, r.Act.Subject, by, map[string]any{"request": id, "key": key, "state": r.State, "not_before": r.NotBefore})
	})
	if err == nil {
		err = refused
	}
	return r, err
}

// asksItself is who asks for a plan that is written to be in force.
const asksItself = "holdfast"

// maySign reports whether a person's signature counts under an approval.
func maySign(held *plan.Plan, a plan.Approval, by string) bool {
	return by != "" && slices.ContainsFunc(a.Roles, func(role string) bool { return held.Person(role, false) == by || held.Person(role, true) == by })
}

// able are the people who may sign for an act and have a key to do it with.
func able(held *plan.Plan, act string) (out []string) {
	a := held.Approval(act)
	for _, id := range slices.Sorted(maps.Keys(held.People)) {
		if len(held.People[id].SSH) > 0 && maySign(held, a, id) {
			out = append(out, id)
		}
	}
	return out
}

// cannot says why an act can never get the signatures that it needs, however many
// people agree; nil if it can.
func cannot(held *plan.Plan, act Act, asked string) error {
	a := held.Approval(act.Kind)
	can := able(held, act.Kind)
	if len(can) == 0 {
		return refuse("add people.NAME.ssh to the plan: a plan in which nobody who approves can sign takes its first keys without a signature",
			"%s needs signatures, and nobody who may sign for it has a key in the plan that the vault holds (who may: %s)", act.Kind, rule(held, act.Kind))
	}
	if a.Fallback != nil {
		return nil
	}
	others := can
	if !a.RequesterCounts {
		others = slices.DeleteFunc(slices.Clone(can), func(id string) bool { return id == asked })
	}
	if len(others) >= a.People {
		return nil
	}
	hint := fmt.Sprintf("give a key (people.NAME.ssh) to more of those who may sign; or approvals.%s with \"fallback: {delay: 1d, review_within: 7d}\"", act.Kind)
	if len(can) >= a.People {
		return refuse(fmt.Sprintf("let somebody ask who does not sign; or add \"requester_counts: true\" to approvals.%s, so that whoever asks is one of the %d", act.Kind, a.People),
			"%s needs %d people besides who asks, and without %q only %s can sign", act.Kind, a.People, asked, people(others))
	}
	return refuse(hint, "%s needs %d people, and only %s can sign", act.Kind, a.People, people(others))
}

func people(ids []string) string {
	if len(ids) == 0 {
		return "nobody"
	}
	return strings.Join(ids, " and ")
}

// mayNotSign says why a signature does not count; nil with the key that it is by.
func (m *Module) mayNotSign(held *plan.Plan, r Request, by string, armoured []byte) (key string, why error) {
	if err := m.live(r); err != nil {
		return "", err
	}
	person, ok := held.People[by]
	if !ok {
		return "", refuse("the people stand under \"people\" of the plan that the vault holds", "%q is not a person of the plan that the vault holds", by)
	}
	a := held.Approval(r.Act.Kind)
	if !maySign(held, a, by) {
		return "", refuse("who may: "+r.Rule, "%q may not sign for %q", by, r.Act.Kind)
	}
	if by == r.Asked && !a.RequesterCounts && a.Fallback == nil {
		return "", refuse("who may: "+r.Rule, "%q asked for it, and somebody else must agree", by)
	}
	if slices.ContainsFunc(r.Signatures, func(s Signature) bool { return s.By == by }) {
		return "", refuse("another person signs next: "+r.Rule, "%q has signed already", by)
	}
	if len(person.SSH) == 0 {
		return "", refuse(fmt.Sprintf("add people.%s.ssh to the plan", by), "%q has no key in the plan that the vault holds", by)
	}
	for _, k := range person.SSH {
		if seal.VerifySSHKey(k, Namespace, []byte(r.Text), armoured) == nil {
			if slices.ContainsFunc(r.Signatures, func(s Signature) bool { return sameKey(s.Key, k) }) {
				return "", refuse("each person has a key of their own", "the key of %q has signed already, in another name", by)
			}
			return k, nil
		}
	}
	return "", refuse(fmt.Sprintf("\"holdfast approve %s --text\" prints the text; sign exactly that with \"ssh-keygen -Y sign -n %s -f KEY FILE\"", r.ID, Namespace),
		"the signature is by no key of %q, or over another text", by)
}

func sameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) > 1 && len(y) > 1 && x[1] == y[1]
}

// live refuses what has ended.
func (m *Module) live(r Request) error {
	again := "ask again: each request is signed anew"
	switch {
	case r.State == StateUsed:
		return refuse(again, "request %s was carried out %s", r.ID, utc(r.Used))
	case r.State == StateRejected:
		return refuse(again, "request %s was rejected", r.ID)
	case r.State == StateExpired, !m.cfg.Clock().Before(r.Expires):
		return refuse(again, "request %s expired %s", r.ID, utc(r.Expires))
	}
	return nil
}

// settle sees whether the signatures are enough, and from when on.
func (m *Module) settle(held *plan.Plan, r *Request) {
	a := held.Approval(r.Act.Kind)
	r.State, r.NotBefore, r.ReviewBy = StateOpen, time.Time{}, time.Time{}
	n := len(r.Signatures)
	switch {
	case n == 0 && a.Fallback != nil && r.Act.Subject == "plan" && len(able(held, r.Act.Kind)) == 0:
		// A small team without keys: a plan waits, so that it can be stopped, and is looked
		// at afterwards. What deletes always needs a key.
		r.State = StateApproved
		r.NotBefore = a.Fallback.Delay.AddTo(r.At, 1, held.Location())
		r.ReviewBy = a.Fallback.ReviewWithin.AddTo(r.NotBefore, 1, held.Location())
	case n == 0:
	case n >= max(a.People, 1):
		r.State, r.NotBefore = StateApproved, r.Signatures[n-1].At
	case a.Fallback != nil:
		r.State = StateApproved
		r.NotBefore = a.Fallback.Delay.AddTo(r.Signatures[0].At, 1, held.Location())
		r.ReviewBy = a.Fallback.ReviewWithin.AddTo(r.NotBefore, 1, held.Location())
	}
}

// Take uses a request up, for exactly this act, in the transaction that begins it.
// It verifies every signature again by the plan that the vault holds now. A crash
// afterwards leaves the request used and the act undone: it is asked for again, and
// never done twice.
func (m *Module) Take(ctx context.Context, tx *db.Tx, id string, a Act) error {
	held, err := m.heldOrAdopt(ctx, tx)
	if err != nil {
		return err
	}
	return m.take(ctx, tx, held, id, a)
}

func (m *Module) take(ctx context.Context, tx *db.Tx, held *plan.Plan, id string, a Act) error {
	r, err := m.ready(ctx, tx, held, id, a)
	if err != nil {
		return err
	}
	r.State, r.Used = StateUsed, m.cfg.Clock().UTC()
	if err := m.save(ctx, tx, r); err != nil {
		return err
	}
	var by []string
	for _, s := range r.Signatures {
		by = append(by, s.By)
	}
	return m.fact(ctx, tx, FactUsed, a.Subject, "holdfast", map[string]any{"request": id, "act": r.Act, "signed_by": by, "review_by": r.ReviewBy})
}

// ready returns a request that may be used up now for exactly this act, or says why it
// may not.
func (m *Module) ready(ctx context.Context, tx *db.Tx, held *plan.Plan, id string, a Act) (Request, error) {
	r, err := m.request(ctx, tx, id)
	if err != nil {
		return Request{}, err
	}
	if err := m.live(r); err != nil {
		return Request{}, err
	}
	if !r.Act.same(a.normal()) || r.Text != r.text(held.Repository.ID) {
		return Request{}, refuse("ask for it as it is now", "request %s is for another act than this one", id)
	}
	signatures := r.Signatures
	r.Signatures = nil
	for _, s := range signatures {
		if _, why := m.mayNotSign(held, r, s.By, []byte(s.Text)); why != nil {
			return Request{}, why
		}
		r.Signatures = append(r.Signatures, s)
	}
	m.settle(held, &r)
	if r.State != StateApproved {
		return Request{}, refuse(fmt.Sprintf("\"holdfast approve %s\" shows what to sign; who may: %s", id, r.Rule), "request %s has %d signatures, and needs more", id, len(signatures))
	}
	if now := m.cfg.Clock(); now.Before(r.NotBefore) {
		return Request{}, refuse(fmt.Sprintf("wait, or have a second person sign; \"holdfast approve %s --reject\" stops it", id), "request %s was signed by %s and waits until %s", id, []string{"nobody", "one person"}[min(len(r.Signatures), 1)], utc(r.NotBefore))
	}
	return r, nil
}

// Reject ends a request. Anybody of the plan may: it keeps, and deletes nothing.
func (m *Module) Reject(ctx context.Context, id, by, why string) (r Request, err error) {
	return m.note(ctx, id, by, why, FactRejected, func(held *plan.Plan, r *Request) error {
		if err := m.live(*r); err != nil {
			return err
		}
		r.State = StateRejected
		return nil
	})
}

// Review records that somebody else looked at what one person did after a delay.
func (m *Module) Review(ctx context.Context, id, by, what string) (Request, error) {
	return m.note(ctx, id, by, what, FactReviewed, func(held *plan.Plan, r *Request) error {
		switch {
		case r.State != StateUsed || r.ReviewBy.IsZero():
			return refuse("\"holdfast approve\" lists what waits", "request %s needs no review", r.ID)
		case slices.ContainsFunc(r.Signatures, func(s Signature) bool { return s.By == by }) && len(held.People) > 1:
			return refuse("somebody else looks at it", "%q signed it", by)
		}
		r.Reviewed = by + ": " + what
		return nil
	})
}

func (m *Module) note(ctx context.Context, id, by, what, kind string, do func(held *plan.Plan, r *Request) error) (r Request, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		held, err := m.heldOrAdopt(ctx, tx)
		if err != nil {
			return err
		}
		if _, ok := held.People[by]; !ok {
			return refuse("the people stand under \"people\" of the plan", "%q is not a person of the plan", by)
		}
		if r, err = m.request(ctx, tx, id); err != nil {
			return err
		}
		if err := do(held, &r); err != nil {
			return err
		}
		if err := m.save(ctx, tx, r); err != nil {
			return err
		}
		return m.fact(ctx, tx, kind, r.Act.Subject, by, map[string]any{"request": id, "why": what})
	})
	return r, err
}

// Requests lists the newest requests, first those that wait.
func (m *Module) Requests(ctx context.Context) (rs []Request, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		rs, err = m.requests(ctx, tx)
		return err
	})
	now := m.cfg.Clock()
	for i := range rs {
		if rs[i].waits() && !now.Before(rs[i].Expires) {
			rs[i].State = StateExpired
		}
	}
	slices.SortStableFunc(rs, func(a, b Request) int {
		switch {
		case a.waits() && !b.waits():
			return -1
		case b.waits() && !a.waits():
			return 1
		}
		return 0
	})
	return rs, err
}

func (r Request) waits() bool { return r.State == StateOpen || r.State == StateApproved }

func (m *Module) requests(ctx context.Context, tx *db.Tx) ([]Request, error) {
	rows, err := tx.Query(ctx, `SELECT body FROM vault_requests ORDER BY asked DESC, id LIMIT ?`, MaxRequests)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Request
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		var r Request
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return nil, fmt.Errorf("stored request: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (m *Module) request(ctx context.Context, tx *db.Tx, id string) (Request, error) {
	all, err := m.requests(ctx, tx)
	if err != nil {
		return Request{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return Request{}, holdfast.WithHint(fmt.Errorf("request %q: %w", id, ErrNotFound), "\"holdfast approve\" lists the requests")
}

func (m *Module) save(ctx context.Context, tx *db.Tx, r Request) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO vault_requests (id, state, asked, body) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body`,
		r.ID, r.State, db.Micros(r.At), string(b))
	return err
}
