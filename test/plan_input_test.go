package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// peak runs the binary and returns its exit status and the most memory that it used.
func peak(t *testing.T, args ...string) (status int, bytes int64) {
	t.Helper()
	// The kernel counts to a child what its parent held when it began, and this process
	// holds more than the product may. So a small one starts it.
	const small = `import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)`
	cmd := exec.Command("python3", append([]string{"-c", small, binary}, args...)...)
	cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	if _, err := fmt.Sscan(string(out), &status, &kib); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return status, kib << 10
}

// A plan of 10,000 services and 10,000 stores is checked, and hostile files of any size
// are refused, in half a gigabyte.
func TestPlansOfAnySizeFitIntoMemory(t *testing.T) {
	t.Parallel()
	const most = 500 << 20
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var big bytes.Buffer
	fmt.Fprintln(&big, "apiVersion: holdfast/v1\nplan: {id: big}\ntiers: {a: {rto: 4h, rpo: 1d, mtd: 2d}}\nbackups: {daily: {every: 12h, copies: [near], keep: 30d}}\nlocations: {near: {kind: dir, path: near}}\nservices:")
	for i := range 10_000 {
		fmt.Fprintf(&big, "  svc-%d: {tier: a, owner: o, needs: {st-%d: hard, st-%d: soft}, runbook: r}\n", i, i, (i+1)%10_000)
	}
	fmt.Fprintln(&big, "stores:")
	for i := range 10_000 {
		fmt.Fprintf(&big, "  st-%d: {kind: files, tier: a, class: internal, files: {path: /srv/%d}, protect: daily}\n", i, i)
	}
	hole := filepath.Join(dir, "hole.yaml")
	if err := os.WriteFile(hole, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(hole, 100<<20); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path   string
		status int
	}{
		{file("big.yaml", big.Bytes()), 3},
		{hole, 2},
		{file("commas.yaml", []byte("plan: ["+strings.Repeat("a,", 8<<20-10)+"]")), 2},
		{file("deep.yaml", []byte("plan: "+strings.Repeat("[", 1<<20))), 2},
	} {
		if status, n := peak(t, "check", tt.path, "--json"); status != tt.status || n > most {
			t.Errorf("%s: status %d with %d MiB, want %d with at most %d", filepath.Base(tt.path), status, n>>20, tt.status, most>>20)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	t.Run("what is left out, with its reason", func(t *testing.T) {
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			return s + "\nexclusions:\n  facility-loss: {what: \"the loss of an office\", why: \"no office and no hall of our own\", accepted_by: founder-a}\n"
		})
		w.run(t, "check", "--json").want(t, 0)
		if out := w.run(t, "render").want(t, 0).out; !strings.Contains(out, "no office and no hall of our own") || !strings.Contains(out, "the loss of an office") {
			t.Error("the document does not say what is left out, and why")
		}
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, `why: "no office and no hall of our own"`, `why: ""`, 1)
		})
		if out := w.run(t, "check").want(t, 3).out; !strings.Contains(out, "left out without a reason") {
			t.Errorf("a blank reason is not refused: %s", out)
		}
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, `, why: ""`, ``, 1) })
		if out := w.run(t, "check").want(t, 2).out; !strings.Contains(out, "why") {
			t.Errorf("a missing reason is not named: %s", out)
		}
	})
}
