package vault

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/db"
)

// In a company of two, who asks is one of the two: both sign, and nobody acts alone.
// Where the plan says in so many words that others sign, that is refused with the
// reason, at once and not when the second signature is missing.
func TestCompanyOfTwo(t *testing.T) {
	two := []string{"approvers: [ana, ben, cid]", "approvers: [ana, ben]"}
	eachRig(t, func(t *testing.T, r *rig) {
		r.fresh("", two...)
		q := ask(t, r, deletion, "ana")
		if !strings.Contains(q.Rule, "who asks may be one") {
			t.Errorf("the rule is %q", q.Rule)
		}
		if _, err := r.sign(q, "ana", "ana"); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, r.take(q, deletion), "has 1 signatures")
		_, err := r.sign(q, "ana", "ana")
		refusedWith(t, err, "signed already")
		_, err = r.sign(q, "eve", "eve")
		refusedWith(t, err, "may not sign")
		if q, err = r.sign(q, "ben", "ben"); err != nil || q.State != StateApproved {
			t.Fatal(q.State, err)
		}
		if err := r.take(q, deletion); err != nil {
			t.Fatal(err)
		}
	})
	eachRig(t, func(t *testing.T, r *rig) {
		r.fresh("approvals: {delete: {roles: [ana, ben]}}\n", two...)
		_, err := r.m.Ask(t.Context(), deletion, "ana")
		refusedWith(t, err, `besides who asks, and without "ana" only ben can sign`)
		if rs, err := r.m.Requests(t.Context()); err != nil || len(rs) != 0 {
			t.Errorf("a request that nobody can fulfil is open: %v, %v", rs, err)
		}
		ask(t, r, deletion, "eve") // somebody who does not sign may ask
	})
	eachRig(t, func(t *testing.T, r *rig) {
		r.fresh("", append(two, `ben: {name: Ben, ssh: {key: "SSH-ben"}}`, "ben: {name: Ben}")...)
		_, err := r.m.Ask(t.Context(), deletion, "eve")
		refusedWith(t, err, "needs 2 people, and only ana can sign")
	})
}

// Without a key in the plan nobody can sign, and a weaker plan is not in force for that:
// it waits for keys, or in a small team for a day.
func TestWeakeningWaitsWhereNobodyCanSign(t *testing.T) {
	var keyless []string
	for _, p := range []string{"ana: {name: Ana", "ben: {name: Ben", "cid: {name: Cid", "eve: {name: Eve"} {
		id, _, _ := strings.Cut(p, ":")
		keyless = append(keyless, p+", ssh: {key: \"SSH-"+id+"\"}}", p+"}")
	}
	weaker := append(keyless[:len(keyless):len(keyless)], "keep: 30d", "keep: 7d")
	inForce := func(t *testing.T, r *rig, weak bool, hint string) {
		t.Helper()
		in, waiting, err := r.m.InForce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.m.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(in.Source()), "keep: 7d"); got != weak {
			t.Errorf("the weaker plan is in force: %t", got)
		}
		if weak != (len(waiting) == 0) || !weak && !strings.Contains(waiting[0].Hint, hint) {
			t.Errorf("waits for %+v", waiting)
		}
	}
	eachRig(t, func(t *testing.T, r *rig) {
		r.fresh("", keyless...)
		r.declare("", "", weaker...)
		inForce(t, r, false, "people.NAME.ssh")
		r.pass(30 * 24 * time.Hour)
		inForce(t, r, false, "people.NAME.ssh")
		// The first keys need no signature; from then on the weaker plan does.
		r.declare("", "")
		if fs, err := r.m.Adopt(t.Context()); err != nil || len(fs) != 0 {
			t.Fatal(fs, err)
		}
		r.declare("", "", "keep: 30d", "keep: 7d")
		inForce(t, r, false, "shows what to sign")
	})
	eachRig(t, func(t *testing.T, r *rig) {
		r.fresh("org: {team: small}\n", keyless...)
		r.declare("org: {team: small}\n", "", weaker...)
		inForce(t, r, false, "unless somebody stops it")
		r.pass(23 * time.Hour)
		inForce(t, r, false, "unless somebody stops it")
		rs, err := r.m.Requests(t.Context())
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		if _, err := r.m.Reject(t.Context(), rs[0].ID, "ben", "no"); err != nil {
			t.Fatal(err)
		}
		r.pass(2 * time.Hour)
		inForce(t, r, false, "it was rejected")

		r.declare("org: {team: small}\n", "", append(keyless[:len(keyless):len(keyless)], "keep: 30d", "keep: 7d", "name: Eve", "name: Eva")...)
		inForce(t, r, false, "unless somebody stops it")
		r.pass(25 * time.Hour)
		inForce(t, r, true, "")
		rs, err = r.m.Requests(t.Context())
		if err != nil || len(rs) != 2 || rs[0].State != StateUsed || rs[0].ReviewBy.IsZero() {
			t.Fatalf("nobody is asked to look at it afterwards: %+v, %v", rs, err)
		}
		if _, err := r.m.Review(t.Context(), rs[0].ID, "ben", "looked at it"); err != nil {
			t.Error(err)
		}
		// A deletion needs a key all the same.
		_, err = r.m.Ask(t.Context(), deletion, "ana")
		refusedWith(t, err, "nobody who may sign for it has a key")
	})
}

// fresh begins with another plan: the vault held nothing before.
func (r *rig) fresh(team string, edits ...string) {
	r.t.Helper()
	if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(r.t.Context(), `DELETE FROM vault_plans`)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	r.declare(team, "", edits...)
	if fs, err := r.m.Adopt(r.t.Context()); err != nil || len(fs) != 0 {
		r.t.Fatal(fs, err)
	}
}
