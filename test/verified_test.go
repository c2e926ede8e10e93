package test

import (
	"os"
	"path/filepath"
	"testing"
)

// What a location lists is no proof: a copy of which somebody knows that it is damaged
// saves nothing, until it is whole again.
func TestDamagedCopiesDoNotCount(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	type loss struct{ Scenario, State, Verdict, Why string }
	look := func() map[string]loss {
		var v struct {
			Stores []struct{ Losses []loss }
		}
		w.run(t, "status", "--json").object(t, &v)
		out := map[string]loss{}
		for _, l := range v.Stores[0].Losses {
			out[l.Scenario] = l
		}
		return out
	}
	t.Run("OBJ-09 only copies that are whole count", func(t *testing.T) {
		if now := look(); now["source"].Verdict != "within" || now["host"].Verdict != "within" {
			t.Fatalf("both copies are whole: %+v", now)
		}
		// The location lists its snapshot as before.
		packs := filepath.Join(w.offsite, "packs")
		if err := os.Rename(packs, packs+".away"); err != nil {
			t.Fatal(err)
		}
		w.run(t, "verify", "--all").want(t, 3)
		now := look()
		if now["source"].Verdict != "within" || !contains(now["source"].Why, `^"near"`) {
			t.Errorf("near is whole: %+v", now["source"])
		}
		if x := now["host"]; x.State != "everything" || x.Verdict != "over" || !contains(x.Why, `"offsite" is damaged: packs/.* is missing`) {
			t.Errorf("of offsite it is known that its packs are gone: %+v", x)
		}
		w.run(t, "status").want(t, 3)
		if err := os.Rename(packs+".away", packs); err != nil {
			t.Fatal(err)
		}
		w.run(t, "verify", "--all").want(t, 0)
		if now := look(); now["host"].Verdict != "within" {
			t.Errorf("offsite is whole again: %+v", now["host"])
		}
	})
}
