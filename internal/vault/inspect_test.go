package vault

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// holds makes the vault hold a plan that encrypts to these keys.
func (r *rig) holds(to []seal.Recipient) {
	r.t.Helper()
	var names []string
	keys := ""
	for i, rc := range to {
		names = append(names, fmt.Sprintf("k%d", i))
		keys += fmt.Sprintf("  k%d: {recipient: %q, holders: [ana]}\n", i, rc)
	}
	a := strings.Index(planText, "  a: {recipient")
	line, _, _ := strings.Cut(planText[a:], "\n")
	r.declare("", "", line+"\n", keys, "encrypt_to: [a]", "encrypt_to: ["+strings.Join(names, ", ")+"]")
	if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) error { return r.m.hold(r.t.Context(), tx, r.plan, "test") }); err != nil {
		r.t.Fatal(err)
	}
}

// found is what reading all of a location back names, as "code object".
func (r *rig) found(location string) (out []string) {
	r.t.Helper()
	v, err := r.m.verifyAt(r.t.Context(), location, true, func(holdfast.Progress) {})
	if err != nil || v.Err != "" {
		r.t.Fatal(err, v.Err)
	}
	for _, d := range v.Damage {
		if d.Hint == "" {
			r.t.Errorf("%+v has no hint", d)
		}
		out = append(out, d.Code+" "+d.Object)
	}
	slices.Sort(out)
	return out
}

// Whatever somebody lays into a location is named, under whatever name, and what is ours
// is not: each kind of object is there.
func TestWhatIsForeignIsNamed(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		m := r.days(2)[0]
		near, err := r.place(ctx, "near")
		if err != nil {
			t.Fatal(err)
		}
		if err := near.PutAnchor(ctx, "ledger-000000000007", []byte("origin\n7\nhash\n\n\u2014 origin c2ln\n")); err != nil {
			t.Fatal(err)
		}
		if err := near.PutNamed(ctx, "db", "1", "00000002.history", []byte("named"), r.keys.LogKeys()); err != nil {
			t.Fatal(err)
		}
		fresh, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		w := repo.Rewrap{At: near, Scope: "db", Identities: []seal.Identity{r.keys.Identity}, Recipients: []seal.Recipient{fresh.Recipient()}, AllowOne: true, Signer: r.keys.Signer, Now: r.now()}
		if _, err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Remove(ctx, repo.Removal{Scope: "db", Place: "near", At: r.now(), Vault: "vault", Snapshots: []repo.Removed{{Snapshot: m.ID, Manifest: m.Hash(), Previous: m.Previous, Why: "test"}}}, r.vault); err != nil {
			t.Fatal(err)
		}
		r.gone["near "+m.ID] = true
		r.prune(PruneRequest{Apply: true}) // publishes tombstones
		kinds := map[string]bool{}
		for _, n := range r.places["near"].Names() {
			kind, _, _ := strings.Cut(n, "/")
			kinds[kind] = true
		}
		for _, k := range []string{"packs", "snapshots", "receipts", "logs", "anchors", "tombstones", "keys"} {
			if !kinds[k] {
				t.Errorf("no object of %s is there", k)
			}
		}
		if got := r.found("near"); len(got) > 0 {
			t.Fatalf("of our own objects are named %q", got)
		}
		var pack string
		for _, n := range r.places["near"].Names() {
			if strings.HasPrefix(n, "packs/") {
				pack = n
			}
		}
		whole := r.places["near"].Bytes(pack)
		id := strings.Repeat("ab", 16)
		plain := []byte("name,card\nAda,4111111111111111\n")
		var want []string
		for name, b := range map[string][]byte{
			"customers.csv": plain, "packs/ab/" + id: plain, "packs/" + id: plain, "packs/cd/cd" + id[2:]: whole, "logs/db/1/dump.sql": plain,
			"logs/gone/1/00000001/0000000000000000-0000000000000005": plain, "snapshots/gone/20260301T140500Z-0a1b2c3d": plain, "receipts/gone/20260301T140500Z-0a1b2c3d": plain,
			"tombstones/garbage/20260301T140500Z-0a1b2c3d": plain, "tombstones/removed/db/20260301T140500Z-0a1b2c3d": plain, "tombstones/x": plain,
			"repairs/01/customers.csv": plain, "repairs/01/packs/ab/" + id: plain, "anchors/ledger-000000000008": plain, "holds/x": plain,
		} {
			r.places["near"].Set(name, b)
			want = append(want, CodeForeign+" "+name)
		}
		slices.Sort(want)
		if got := r.found("near"); !slices.Equal(got, want) {
			t.Errorf("named are\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := r.found("far"); len(got) > 0 {
			t.Errorf("where nobody did anything are named %q", got)
		}
	})
}

// What is sealed to other keys than the plan of its time says is named; what was right
// when it was written stays right.
func TestWhatIsWronglySealedIsNamed(t *testing.T) {
	r := oneRig(t)
	if err := r.d.Tx(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), `DELETE FROM vault_plans`) // its key is none
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.holds(r.keys.Recipients())
	r.days(1)
	if got := r.found("near"); len(got) > 0 {
		t.Fatalf("named are %q", got)
	}
	before := r.keys
	next := repotest.NewKeys(t)
	r.keys.Identity, r.keys.Spare = next.Identity, next.Spare
	r.holds(r.keys.Recipients())
	if got := r.found("near"); len(got) > 0 {
		t.Errorf("after a rotation are named %q", got)
	}
	r.days(2)
	if got := r.found("near"); len(got) > 0 {
		t.Errorf("what is sealed to the new keys: named are %q", got)
	}
	// A writer that never heard of it.
	next = r.keys
	r.keys = before
	m := r.days(1)[0]
	r.keys = next
	if got := r.found("near"); !slices.Contains(got, CodeSealed+" "+m.Object()) {
		t.Errorf("a snapshot sealed to the keys before is not named: %q", got)
	}
	// A writer with keys that no plan ever named.
	r.pass(time.Hour)
	r.keys.Identity = repotest.NewKeys(t).Identity
	m = r.backup(20_000)
	r.keys = next
	got := r.found("near")
	for _, ref := range m.Packs {
		if !slices.Contains(got, CodeSealed+" packs/"+ref.ID[:2]+"/"+ref.ID) {
			t.Errorf("pack %s is not named: %q", ref.ID, got)
		}
	}
}
