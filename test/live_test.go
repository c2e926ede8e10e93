package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
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
	// Nor one that deletes what a service needs.
	write(t, w.plan(), regexp.MustCompile(`(?ms)^  uploads:\n    kind: files.*?^$`).ReplaceAllString(string(good), ""), 0o600)
	until(t, "the deletion of what is needed to be refused", func() bool { return strings.Contains(w.standing(t).says("HF-V12"), `"uploads" is not declared`) })
	write(t, w.plan(), string(good), 0o600)
	until(t, "the plan to be right again", func() bool {
		now := w.standing(t)
		return now.says("HF-V10")+now.says("HF-V11")+now.says("HF-V12") == "" && now.PlanDigest == second.PlanDigest
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

// keyed gives the people of the first plan SSH keys, and returns the files.
func (w workspace) keyed(t *testing.T, people ...string) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, p := range people {
		keys[p] = filepath.Join(w.root, "ssh-"+p)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", p, "-f", keys[p]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		pub, err := os.ReadFile(keys[p] + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		edit(t, w.plan(), func(s string) string {
			return regexp.MustCompile(`(?m)^  `+p+`: \{name: ("[^"]*")\}$`).ReplaceAllString(s, "  "+p+": {name: $1, ssh: {own: \""+strings.TrimSpace(string(pub))+"\"}}")
		})
	}
	return keys
}

// A company of two needs both to delete early, whoever of them asks; and it is told at
// once where its plan wants a third.
func TestCompanyOfTwoDeletes(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	keys := w.keyed(t, "founder-a", "founder-b")
	w.run(t, "location", "init", "--all").want(t, 0)
	s := serve(t, w.dir)
	for range 3 {
		w.backup(t)
	}
	gone := listed(t, w.near)[0]
	ask := []string{"--store", "uploads", "--snapshot", gone, "--by", "founder-a", "--reason", "a customer's file", "--apply"}
	apply := append([]string{"prune"}, ask...)
	id := w.prune(t, 4, ask...).Request.ID
	w.sign(t, id, "founder-a", keys["founder-a"], "", 4)
	w.run(t, apply...).want(t, 4)
	w.sign(t, id, "founder-a", keys["founder-a"], "", 4) // twice is not two
	w.sign(t, id, "founder-b", keys["founder-b"], "", 0)
	w.run(t, apply...).want(t, 0)
	if now := listed(t, w.near); slices.Contains(now, gone) {
		t.Errorf("both signed, and %s is still there: %v", gone, now)
	}
	// A plan that says in so many words that who asks does not sign is weaker nowhere, so
	// it is in force at once; and then nobody can fulfil it.
	edit(t, w.plan(), func(s string) string { return s + "\napprovals: {delete: {roles: [founder-a, founder-b]}}\n" })
	next := listed(t, w.near)[0]
	until(t, "the request to be refused", func() bool {
		return strings.Contains(w.run(t, "prune", "--store", "uploads", "--snapshot", next, "--by", "founder-a", "--reason", "again").errout, "besides")
	})
	w.run(t, "prune", "--store", "uploads", "--snapshot", next, "--by", "founder-a", "--reason", "again").refuses(t, 4, "besides who asks.*only founder-b can sign", "requester_counts")
	s.stop(t)
}

// The plan that init writes has no key of anybody. From the first backup on it is no
// draft: what is weaker waits.
func TestWeakeningWithoutKeysWaits(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	rarer := func(s string) string { return strings.Replace(s, "every: 1w", "every: 2w", 1) }
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "fresh_for: 10d", "fresh_for: 90d", 1) })
	w.inForce(t)
	draft, _ := w.inForce(t)
	edit(t, w.plan(), rarer)
	first, waits := w.inForce(t)
	if first == draft || waits != "" {
		t.Fatalf("a plan by which nothing is kept yet waits: %s", waits)
	}
	w.backup(t)
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 2w", "every: 3w", 1) })
	if now, waits := w.inForce(t); now != first || !strings.Contains(waits, "proved more rarely") || !strings.Contains(waits, "people.NAME.ssh") {
		t.Fatalf("in force is %s, want %s: %q", now, first, waits)
	}
	// It says so to a command without a server too.
	if e := w.run(t, "backup", "uploads").want(t, 0); !strings.Contains(e.errout, "proved more rarely") {
		t.Errorf("nobody is told that the plan waits: %v", e)
	}
	// The way out that it names: take it back, declare the team small, change it again, and
	// a day later it is in force, to be looked at.
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(strings.Replace(s, "every: 3w", "every: 2w", 1), "\norg:\n", "\norg:\n  team: small\n", 1)
	})
	small, waits := w.inForce(t)
	if small == first || waits != "" {
		t.Fatalf("the way out is none: %s", waits)
	}
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 2w", "every: 3w", 1) })
	if now, waits := w.inForce(t); now != small || !strings.Contains(waits, "unless somebody stops it") {
		t.Fatalf("in force is %s, want %s: %q", now, small, waits)
	}
	for _, hours := range []string{"13", "25"} {
		w.at(t, hours, "prune", "--json")
	}
	var rs []struct {
		State    string
		ReviewBy time.Time `json:"review_by"`
	}
	w.at(t, "26", "approve", "--json").want(t, 0).object(t, &rs)
	used := slices.IndexFunc(rs, func(r struct {
		State    string
		ReviewBy time.Time `json:"review_by"`
	}) bool {
		return r.State == "used"
	})
	if used < 0 || rs[used].ReviewBy.IsZero() {
		t.Fatalf("a day has passed, and nobody is asked to look at it: %+v", rs)
	}
	if _, waits := w.inForce(t); waits != "" {
		t.Errorf("a day has passed, and it waits: %s", waits)
	}
}
