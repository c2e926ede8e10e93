package drill

import (
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/repo/repotest"
)

// A writer that seals to others than the drill's key is found by the next drill, whatever
// point that one restores: what it said of its recipients is not asked.
func TestWhatWasWrittenLastIsOpened(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 1000)
		r.snapshot("near")
		d := r.drill(Request{Goal: holdfast.L2, Pick: "oldest", Location: "near"})
		if !strings.HasPrefix(outcome(d, holdfast.L2, CheckNewest), "passed") {
			t.Fatalf("%s: %s", d.State, outcome(d, holdfast.L2, CheckNewest))
		}
		r.write("a", 2000)
		last := r.sealedTo(repotest.NewKeys(t).Recipients(), "near")
		d = r.drill(Request{Goal: holdfast.L2, Pick: "oldest", Location: "near"})
		if got := outcome(d, holdfast.L2, CheckNewest); d.State != StateFailed || !strings.HasPrefix(got, "failed") || !strings.Contains(got, last.ID) {
			t.Errorf("%s: %s", d.State, got)
		}
	})
}
