package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A standing is what "status --json" says of the plan.
type standing struct {
	PlanDigest string `json:"plan_digest"`
	Findings   []finding
	Stores     []struct {
		ID        string
		LastGood  string `json:"last_good"`
		Exposures []struct{ Location, State string }
	}
}

func (w workspace) standing(t *testing.T) (s standing) {
	t.Helper()
	w.run(t, "status", "--json").object(t, &s)
	return s
}

// says returns the message and the hint of a finding of the running server; "" if
// there is none.
func (s standing) says(code string) string {
	for _, f := range s.Findings {
		if f.Code == code {
			return f.Message + " " + f.Hint
		}
	}
	return ""
}

// A plan that is written while the server runs takes effect without a restart, as far
// as it may: what is stronger at once, what is weaker when it is signed for.
func TestPlanTakesEffectWithoutRestart(t *testing.T) {
	t.Parallel()
	w, keys := vaultWorkspace(t)
	s := serve(t, w.dir)
	process := s.cmd.Process.Pid
	first := w.standing(t)
	if first.PlanDigest == "" || first.says("HF-V7") != "" {
		t.Fatalf("the first plan waits: %+v", first.Findings)
	}
	inForce := func(what string, than string) standing {
		t.Helper()
		var now standing
		until(t, what, func() bool {
			now = w.standing(t)
			return now.PlanDigest != than && now.says("HF-V7") == ""
		})
		return now
	}

	// Another store, and another place for copies: both are used at once.
	letters := filepath.Join(w.root, "letters")
	write(t, filepath.Join(letters, "a.txt"), "dear\n", 0o644)
	third := filepath.Join(w.root, "third")
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "  uploads:\n    kind: files", "  letters:\n    kind: files\n    tier: critical\n    owner: technical_lead\n    class: confidential\n    files: {path: "+letters+"}\n    protect: folder\n  uploads:\n    kind: files", 1)
		s = strings.Replace(s, "\nlocations:\n", "\nlocations:\n  third: {kind: dir, path: "+third+", domain: third-disk}\n", 1)
		return strings.Replace(s, "copies: [near, offsite]", "copies: [near, offsite, third]", 1)
	})
	second := inForce("a plan with more in it to be in force", first.PlanDigest)
	w.run(t, "location", "init", "third").want(t, 0)
	w.run(t, "backup", "letters").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	until(t, "both stores to lie in the new place", func() bool {
		held := 0
		for _, st := range w.standing(t).Stores {
			for _, e := range st.Exposures {
				if e.Location == "third" && e.State == "bounded" {
					held++
				}
			}
		}
		return held == 2
	})
	if _, err := os.Stat(filepath.Join(third, "snapshots", "letters")); err != nil {
		t.Error(err)
	}

	// A plan that cannot be read changes nothing, and it is said where it is wrong.
	good, err := os.ReadFile(w.plan())
	if err != nil {
		t.Fatal(err)
	}
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, "tiers:\n", "tiers:\n  ctirical: {rto: 4h, rpoo: 1h}\n", 1)
	})
	until(t, "the broken plan to be seen", func() bool { return strings.Contains(w.standing(t).says("HF-V10"), "rpoo") })
	if now := w.standing(t); now.PlanDigest != second.PlanDigest {
		t.Error("a plan that cannot be read is in force")
	}
	// Nor does one that this server cannot become.
	write(t, w.plan(), strings.Replace(string(good), "repository:\n  id: ", "repository:\n  id: other-", 1), 0o600)
	until(t, "the other repository to be seen", func() bool { return strings.Contains(w.standing(t).says("HF-V11"), "other-") })
	write(t, w.plan(), string(good), 0o600)
	until(t, "the plan to be right again", func() bool {
		now := w.standing(t)
		return now.says("HF-V10")+now.says("HF-V11") == "" && now.PlanDigest == second.PlanDigest
	})

	// What is weaker waits for people, and is in force as soon as they have signed.
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 1w", "every: 1mo", 1) })
	until(t, "the weaker plan to wait", func() bool { return strings.Contains(w.standing(t).says("HF-V7"), "proved more rarely") })
	if now := w.standing(t); now.PlanDigest != second.PlanDigest {
		t.Fatal("a weaker plan is in force unsigned")
	}
	id := w.waitingFor(t)
	w.sign(t, id, "ana", keys["ana"], "", 4)
	w.sign(t, id, "ben", keys["ben"], "", 0)
	signed := inForce("the plan that is signed for", second.PlanDigest)

	// A store that goes, with the signatures of people, is not looked after any more.
	edit(t, w.plan(), func(s string) string {
		i := strings.Index(s, "  letters:\n")
		return s[:i] + s[strings.Index(s, "  uploads:\n    kind: files"):]
	})
	until(t, "the plan without a store to wait", func() bool { return strings.Contains(w.standing(t).says("HF-V7"), "letters") })
	id = w.waitingFor(t)
	w.sign(t, id, "ana", keys["ana"], "", 4)
	w.sign(t, id, "ben", keys["ben"], "", 0)
	if last := inForce("the plan without the store", signed.PlanDigest); len(last.Stores) != 1 {
		t.Errorf("%+v", last.Stores)
	}
	w.run(t, "backup", "letters").refuses(t, 2, "letters.*not in the plan", "uploads")

	if s.cmd.Process.Pid != process {
		t.Fatal("the server was restarted")
	}
	s.stop(t)
}
