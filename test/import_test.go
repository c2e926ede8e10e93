package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPolicyAndPlan(t *testing.T) {
	t.Parallel()
	t.Run("POL-15 the document from the plan, and the plan from the document", func(t *testing.T) {
		examples, err := filepath.Glob("../examples/*.yaml")
		if err != nil || len(examples) != 6 {
			t.Fatalf("%v, %v", examples, err)
		}
		dir := place(t)
		read := func(path string) string {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		for _, e := range examples {
			path, err := filepath.Abs(e)
			if err != nil {
				t.Fatal(err)
			}
			policy, back := filepath.Join(dir, filepath.Base(e)+".md"), filepath.Join(dir, filepath.Base(e))
			hf(t, "render", path, "-o", policy).want(t, 0)
			hf(t, "import", policy, "-o", back).want(t, 0)
			if read(back) != read(path) {
				t.Errorf("%s comes back otherwise", e)
			}
			if out := hf(t, "plan", "diff", path, back).want(t, 0).out; !strings.Contains(out, "both plans mean the same") {
				t.Errorf("%s: %s", e, out)
			}
			again := policy + ".again"
			hf(t, "render", back, "-o", again).want(t, 0)
			if read(again) != read(policy) {
				t.Errorf("%s: the document of the plan that came back is another one", e)
			}
		}
		// The document is where the change begins.
		policy, back := filepath.Join(dir, "small-company.yaml.md"), filepath.Join(dir, "changed.yaml")
		text := read(policy)
		if !strings.Contains(text, "| critical | 4 hours |") {
			t.Fatal("the document has no such row")
		}
		write(t, policy, strings.Replace(text, "| critical | 4 hours |", "| critical | 2 hours |", 1), 0o600)
		if out := hf(t, "import", policy, "-o", back).want(t, 0).out; !strings.Contains(out, "tiers.critical.rto is 2h, was 4h") {
			t.Errorf("import does not say what it carried: %s", out)
		}
		if out := hf(t, "plan", "diff", filepath.Join(dir, "small-company.yaml"), back).want(t, 0).out; !strings.Contains(out, "stronger  tiers.critical.rto") || !strings.Contains(out, "0 weaker, 1 stronger, 0 changed") {
			t.Errorf("the plan changed otherwise: %s", out)
		}
		// What the plan cannot follow is said, with its line.
		write(t, policy, strings.Replace(text, "\n## 2. ", "\nEverybody must be kind.\n\n## 2. ", 1), 0o600)
		if out := hf(t, "import", policy, "-o", filepath.Join(dir, "kind.yaml")).want(t, 3).out; !strings.Contains(out, "HF-I28") || !strings.Contains(out, "Everybody must be kind") {
			t.Errorf("a sentence that the plan does not hold is not named: %s", out)
		}
		// A policy that was written by hand is a beginning as well.
		byHand := filepath.Join(dir, "hand.md")
		write(t, byHand, "# Example Ltd: Recovery policy\n\n<table><tr><th>System</th><th>RTO</th><th>RPO</th></tr><tr><td>Web shop</td><td>4 hours</td><td>15 minutes</td></tr></table>\n\nThe database is backed up every 12 hours; backups are kept for 30 days.\n", 0o600)
		hf(t, "import", byHand, "-o", filepath.Join(dir, "hand.yaml")).want(t, 0)
		plan := read(filepath.Join(dir, "hand.yaml"))
		for _, want := range []string{"web-shop:", "rto: 4h", "rpo: 15m", "every: 12h", "keep: 30d", "name: \"Example Ltd\"", "# line 3:", "# line 5:"} {
			if !strings.Contains(strings.ReplaceAll(plan, "name: Example Ltd", "name: \"Example Ltd\""), want) {
				t.Errorf("the proposal lacks %q:\n%s", want, plan)
			}
		}
	})
}
