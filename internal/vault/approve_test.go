package vault

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

func ask(t *testing.T, r *rig, a Act, by string) Request {
	t.Helper()
	q, err := r.m.Ask(t.Context(), a, by)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func refusedWith(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), words) || holdfast.Hint(err) == "" {
		t.Errorf("want a refusal that says %q with a hint: %v", words, err)
	}
}

var deletion = Act{Kind: plan.ActDelete, Subject: "stores.db", Does: []string{"delete snapshot x"}}

// Two people sign one text. Whatever else is offered is refused with its reason, and
// is a fact.
func TestTwoPeopleSign(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		q := ask(t, r, deletion, "ana")
		if again := ask(t, r, deletion, "ana"); again.ID != q.ID {
			t.Error("the same act got two requests")
		}
		refusedWith(t, r.take(q, deletion), "has 0 signatures")
		for _, tt := range []struct{ by, key, words string }{
			{"ana", "ana", "somebody else must agree"}, // who asks
			{"ben", "stranger", "by no key"},
			{"ben", "cid", "by no key"},
			{"eve", "eve", "may not sign"}, // a person, and no approver
			{"nobody", "ben", "not a person"},
		} {
			_, err := r.sign(q, tt.by, tt.key)
			refusedWith(t, err, tt.words)
		}
		changed := q
		changed.Text = strings.Replace(q.Text, "snapshot x", "snapshot y", 1)
		_, err := r.sign(changed, "ben", "ben")
		refusedWith(t, err, "over another text")
		if _, err := r.sign(q, "ben", "ben"); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, r.take(q, deletion), "has 1 signatures")
		_, err = r.sign(q, "ben", "ben")
		refusedWith(t, err, "signed already")
		if q, err = r.sign(q, "cid", "cid"); err != nil || q.State != StateApproved {
			t.Fatal(q.State, err)
		}
		other := deletion
		other.Does = []string{"delete snapshot y"}
		refusedWith(t, r.take(q, other), "another act")
		if err := r.take(q, deletion); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, r.take(q, deletion), "carried out") // replay
		if n := ask(t, r, deletion, "ana"); n.ID == q.ID || n.Text == q.Text {
			t.Error("a used request was given again")
		}
		if n := r.facts(FactRefused); n != 7 {
			t.Errorf("%d refusals are on record, want 7", n)
		}
		if r.facts(FactSigned) != 2 || r.facts(FactUsed) != 1 || r.facts(FactAsked) != 2 {
			t.Error("what happened is not on record")
		}
	})
}

// Two names with one key are one person, whatever the plan says.
func TestOneKeyIsOnePerson(t *testing.T) {
	r := oneRig(t, "SSH-cid", "SSH-ben")
	q := ask(t, r, deletion, "ana")
	if _, err := r.sign(q, "ben", "ben"); err != nil {
		t.Fatal(err)
	}
	_, err := r.sign(q, "cid", "ben")
	refusedWith(t, err, "in another name")
	refusedWith(t, r.take(q, deletion), "has 1 signatures")
}

// Signatures are for the text that people read. Who changes in the state what the act is
// has signatures for another text.
func TestActIsWhatWasSigned(t *testing.T) {
	r := oneRig(t)
	q := ask(t, r, deletion, "ana")
	for _, p := range []string{"ben", "cid"} {
		var err error
		if q, err = r.sign(q, p, p); err != nil {
			t.Fatal(err)
		}
	}
	worse := deletion
	worse.Does = []string{"delete snapshot y"}
	q.Act = worse
	if err := r.d.Tx(t.Context(), func(tx *db.Tx) error { return r.m.save(t.Context(), tx, q) }); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, r.take(q, worse), "another act")
}

// Requests end; they can be stopped by anybody; and who changes what is stored gains
// nothing, because signatures are checked again.
func TestRequestsEnd(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		q := ask(t, r, deletion, "ana")
		for _, p := range []string{"ben", "cid"} {
			if _, err := r.sign(q, p, p); err != nil {
				t.Fatal(err)
			}
		}
		r.pass(expires)
		refusedWith(t, r.take(q, deletion), "expired")
		_, err := r.sign(q, "ben", "ben")
		refusedWith(t, err, "expired")
		q = ask(t, r, deletion, "ana")
		if _, err := r.m.Reject(t.Context(), q.ID, "eve", "no"); err != nil {
			t.Fatal(err)
		}
		_, err = r.sign(q, "ben", "ben")
		refusedWith(t, err, "rejected")
		q = ask(t, r, deletion, "ana")
		if q, err = r.sign(q, "ben", "ben"); err != nil {
			t.Fatal(err)
		}
		forged := q
		forged.State, forged.Signatures = StateApproved, append(q.Signatures, Signature{By: "cid", Key: q.Signatures[0].Key, At: r.now(), Text: q.Signatures[0].Text})
		if err := r.d.Tx(t.Context(), func(tx *db.Tx) error { return r.m.save(t.Context(), tx, forged) }); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, r.take(q, deletion), "by no key")
	})
}

// In a declared small team one person and a day do, and somebody looks afterwards.
func TestSmallTeam(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		r.declare("org: {team: small}\n", "")
		// The rule itself is weakened by that: the old one must be kept first.
		fs, err := r.m.Adopt(t.Context())
		if err != nil || len(fs) != 1 || fs[0].Code != CodePending {
			t.Fatal(fs, err)
		}
		rs, err := r.m.Requests(t.Context())
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		for _, p := range []string{"ana", "ben"} {
			if _, err := r.sign(rs[0], p, p); err != nil {
				t.Fatal(err)
			}
		}
		if fs, err := r.m.Adopt(t.Context()); err != nil || len(fs) != 0 {
			t.Fatal(fs, err)
		}
		q := ask(t, r, deletion, "ana")
		if q, err = r.sign(q, "ana", "ana"); err != nil || q.State != StateApproved {
			t.Fatal(q.State, err)
		}
		refusedWith(t, r.take(q, deletion), "waits until")
		r.pass(24*time.Hour + time.Second)
		if err := r.take(q, deletion); err != nil {
			t.Fatal(err)
		}
		if _, err := r.m.Review(t.Context(), q.ID, "ana", "fine"); !errors.Is(err, holdfast.ErrRefused) {
			t.Error("who signed reviewed it:", err)
		}
		if q, err = r.m.Review(t.Context(), q.ID, "ben", "looked at it"); err != nil || q.Reviewed == "" || q.ReviewBy.IsZero() {
			t.Error(q, err)
		}
	})
}

// A plan that keeps less, or lets others sign, is not held until it was signed for,
// whatever the server has in force.
func TestWeakeningWaits(t *testing.T) {
	for name, edit := range map[string][]string{
		"shorter":        {"keep: 30d", "keep: 7d"},
		"a maximum":      {"keep: 30d", "keep: 30d, retention: {max: 60d}"},
		"one copy less":  {"copies: [near, far]", "copies: [near]"},
		"another signer": {"eve: {name: Eve, ssh: {key: \"SSH-eve\"}}", "eve: {name: Eve, ssh: {key: \"SSH-stranger\"}}"},
		"fewer approve":  {"approvers: [ana, ben, cid]", "approvers: [ana, ben, eve]"},
		"no protection":  {", protect: daily", ""},
	} {
		t.Run(name, func(t *testing.T) {
			eachRig(t, func(t *testing.T, r *rig) {
				before := r.plan.Digest()
				r.declare("", "", edit...)
				for range 2 {
					fs, err := r.m.Adopt(t.Context())
					if err != nil || len(fs) != 1 || fs[0].Code != CodePending || fs[0].Hint == "" {
						t.Fatal(fs, err)
					}
				}
				if err := r.d.View(t.Context(), func(tx *db.Tx) error {
					held, err := r.m.held(t.Context(), tx)
					if err == nil && held.Digest() != before {
						t.Error("the weaker plan is held")
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
	for name, edit := range map[string][]string{"longer": {"keep: 30d", "keep: 60d"}, "nothing that matters": {"name: Eve", "name: Eva"}} {
		t.Run(name, func(t *testing.T) {
			eachRig(t, func(t *testing.T, r *rig) {
				r.declare("", "", edit...)
				if fs, err := r.m.Adopt(t.Context()); err != nil || len(fs) != 0 || r.facts(FactPlan) != 2 {
					t.Error(fs, err)
				}
			})
		})
	}
}

// Who can write to the state, and has not the vault's key, shortens nothing.
func TestHeldPlanIsSigned(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		if err := r.d.Tx(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE vault_plans SET source = ?`, strings.Replace(string(r.plan.Source()), "keep: 30d", "keep: 1d", 1))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.m.Look(t.Context(), PruneRequest{}); err == nil || !strings.Contains(err.Error(), "the state was changed") {
			t.Errorf("a changed plan is believed: %v", err)
		}
	})
}
