// Package test holds what is proved from outside, on real parts.
package test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/plan"
)

var update = flag.Bool("update", false, "write the examples anew")

// The example is what "holdfast init" writes, so that whoever reads it in the
// repository reads the plan that he will get.
func TestExampleIsTheTemplate(t *testing.T) {
	t.Parallel()
	const path = "../examples/small-company.yaml"
	want := plan.Template(plan.Values{})
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the template gives: go test ./test -run Example -update writes it anew", path)
	}
}

// profiles are the examples that are written after five real policies, each with the
// store that is its folder.
var profiles = map[string]string{
	"care-practice": "documents", "compliance-ai": "uploads", "volunteer-vms": "content",
	"industrial-remote-access": "uploads", "two-person-ai": "objects",
}

// Every example can be read, and begins with a comment that says whose it is.
func TestExamplesAreRead(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(all) != len(profiles)+1 {
		t.Fatalf("%d examples: %v", len(all), err)
	}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("# ")) {
			t.Errorf("%s does not say what it is", path)
		}
		if _, err := plan.Load(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Every profile runs: a workspace is made from it with keys of its own, and its real
// database and folder are backed up. Two are drilled as well: restored, started and
// asked; a drill takes too long for all.
func TestExamplesRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("restores five databases")
	}
	c := shared.get(t)
	c.sql(t, "CREATE TABLE IF NOT EXISTS public.examples (n int)")
	for name, folder := range profiles {
		t.Run(name, func(t *testing.T) {
			root := place(t)
			w := workspace{root: root, dir: filepath.Join(root, "acme"), uploads: filepath.Join(root, "uploads")}
			write(t, filepath.Join(w.uploads, "a.txt"), "hello\n", 0o644)
			secret := filepath.Join(root, "db-password")
			write(t, secret, password+"\n", 0o600)
			example, err := filepath.Abs("../examples/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			hf(t, "init", w.dir, "--from", example, "--dsn", c.dsn(), "--uploads", w.uploads).want(t, 0)
			slot := c.slot(t, w)
			edit(t, w.plan(), func(s string) string {
				return strings.Replace(s, "postgres: {dsn:", "postgres: {password_file: "+secret+", slot: "+slot+", dsn:", 1)
			})
			w.run(t, "location", "init", "--all").want(t, 0)
			w.run(t, "backup", folder).want(t, 0)
			w.run(t, "backup", "db").want(t, 0)
			if name == "volunteer-vms" || name == "two-person-ai" {
				w.run(t, "drill", "db").want(t, 4) // the owner's word is missing
			}
		})
	}
}

// The example is clean: a stranger who checks it sees what a plan without a finding
// looks like. It says that its keys are nobody's; what init writes says no such thing.
func TestExampleKeepsItsPromises(t *testing.T) {
	t.Parallel()
	const path, nobodys = "../examples/small-company.yaml", "THESE TWO ARE NOBODY'S"
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if e := hf(t, "check", abs).want(t, 0); !strings.Contains(e.out, "nothing found") {
		t.Errorf("the example has findings:\n%s", e.out)
	}
	example, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(example, []byte(nobodys)) {
		t.Errorf("the example does not say whose its keys are: %v", err)
	}
	keys := regexp.MustCompile(`recipient: "(age1[a-z0-9]+)"`)
	for _, from := range [][]string{nil, {"--from", abs}} {
		w := workspace{dir: filepath.Join(place(t), "acme")}
		hf(t, append([]string{"init", w.dir}, from...)...).want(t, 0)
		got, err := os.ReadFile(w.plan())
		if err != nil || len(from) == 0 && bytes.Contains(got, []byte(nobodys)) {
			t.Errorf("init %v: %v", from, err)
		}
		for _, key := range keys.FindAllSubmatch(example, -1) {
			if bytes.Contains(got, key[1]) {
				t.Errorf("init %v leaves %s in the plan, which nobody can open", from, key[1])
			}
		}
	}
}
