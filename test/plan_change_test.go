package test

import (
	"strings"
	"testing"
)

// inForce serves the workspace once and returns the digest of the plan in force, and
// what is said of a plan that waits.
func (w workspace) inForce(t *testing.T) (digest, waits string) {
	t.Helper()
	s := serve(t, w.dir)
	defer s.stop(t)
	var v struct {
		PlanDigest string `json:"plan_digest"`
		Findings   []finding
	}
	w.run(t, "status", "--json").object(t, &v)
	for _, f := range v.Findings {
		if f.Code == "HF-V7" {
			waits = f.Message + " " + f.Hint
		}
	}
	return v.PlanDigest, waits
}

// An edit of the plan that weakens it does not take effect until the people of the plan
// before it have signed for it.
func TestWeakeningTakesNoEffectUnsigned(t *testing.T) {
	t.Parallel()
	w, keys := vaultWorkspace(t)
	before, waits := w.inForce(t)
	if before == "" || waits != "" {
		t.Fatalf("the first plan waits: %s", waits)
	}

	// What is stronger is in force at once.
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "rto: 4h", "rto: 3h", 1) })
	stronger, waits := w.inForce(t)
	if stronger == before || waits != "" {
		t.Fatalf("a stronger plan waits: %s", waits)
	}

	// What is weaker is not, and it is said what and why.
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 1w", "every: 1mo", 1) })
	digest, waits := w.inForce(t)
	if digest != stronger || !strings.Contains(waits, "drills.uploads-drill.every") || !strings.Contains(waits, "proved more rarely") || !strings.Contains(waits, "holdfast approve") {
		t.Fatalf("in force is %s, want %s: %q", digest, stronger, waits)
	}
	id := w.waitingFor(t)
	w.sign(t, id, "ben", keys["ana"], "", 4) // somebody else's key
	w.sign(t, id, "ana", keys["ana"], "", 4) // one of two
	if digest, _ := w.inForce(t); digest != stronger {
		t.Fatal("one person weakened the plan alone")
	}
	w.sign(t, id, "ben", keys["ben"], "", 0)
	digest, waits = w.inForce(t)
	if digest == stronger || waits != "" {
		t.Fatalf("signed for by two, and in force is still %s: %s", digest, waits)
	}

	// Nothing is won by taking the signers out of the plan.
	edit(t, w.plan(), func(s string) string {
		return strings.ReplaceAll(strings.Replace(s, "every: 1mo", "every: 1y", 1), "ssh: {own:", "email: \"x\" } #")
	})
	if now, waits := w.inForce(t); now != digest || !strings.Contains(waits, "who can sign is not who it was") {
		t.Fatalf("in force is %s, want %s: %q", now, digest, waits)
	}
}

// A plan with a day of its own is in force from that day.
func TestPlanWaitsForItsDay(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	before, _ := w.inForce(t)
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, "  version: \"1.0\"", "  effective: \"2099-01-01\"\n  version: \"2.0\"", 1)
	})
	digest, waits := w.inForce(t)
	if digest != before || !strings.Contains(waits, "in force from 2099-01-01") {
		t.Fatalf("in force is %s, want %s: %q", digest, before, waits)
	}
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "2099-01-01", "2020-01-01", 1) })
	if digest, waits := w.inForce(t); digest == before || waits != "" {
		t.Fatalf("its day has come, and the plan waits: %s", waits)
	}
}
