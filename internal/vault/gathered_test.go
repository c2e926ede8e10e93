package vault

import (
	"fmt"
	"testing"

	"holdfast"
	"holdfast/internal/repo"
)

// Short pieces of log that go because a longer one holds them are no loss; the longer
// one is.
func TestGatheredLogIsNoLoss(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.days(2)
		r.m.cfg.Log = func(*repo.Manifest) (repo.LogNeed, bool) { return repo.LogNeed{Lineage: "a", Timeline: 1}, true }
		near, err := r.place(ctx, "near")
		if err != nil {
			t.Fatal(err)
		}
		put := func(from, to uint64) string {
			t.Helper()
			if err := near.PutLog(ctx, repo.LogPiece{Scope: "db", Lineage: "a", Timeline: 1, Start: from, End: to, LastRecord: to, Created: r.now()}, make([]byte, to-from), r.keys.LogKeys()); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("logs/db/a/00000001/%016x-%016x", from, to)
		}
		damage := func() (n int) {
			t.Helper()
			v, err := r.m.verifyAt(ctx, "near", true, func(holdfast.Progress) {})
			if err != nil {
				t.Fatal(err)
			}
			return len(v.Damage)
		}
		var short []string
		for i := range uint64(4) {
			short = append(short, put(i*100, i*100+100))
		}
		if n := damage(); n != 0 {
			t.Fatalf("%d objects are damaged", n)
		}
		long := put(0, 400)
		for _, name := range short {
			r.places["near"].Set(name, nil)
		}
		if n := damage(); n != 0 {
			t.Errorf("short pieces within a longer one went, and %d objects are said to be damaged", n)
		}
		put(0, 300)
		r.places["near"].Set(long, nil)
		if n := damage(); n != 1 {
			t.Errorf("a hundred bytes of log are gone, and %d objects are said to be damaged", n)
		}
	})
}
