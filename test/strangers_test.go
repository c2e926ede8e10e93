package test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A writer in other hands seals the newest snapshot to keys of its own. Whatever is asked
// for the newest state says so, names the newest snapshot that opens, and gives nothing
// older for it; that snapshot comes back when it is named.
func TestNewestSnapshotIsSealedToStrangers(t *testing.T) {
	t.Parallel()
	w, _ := vaultWorkspace(t)
	w.backup(t)
	good := treeOf(t, w.uploads)
	last := listed(t, w.near)
	open := last[len(last)-1]
	poison := w.misled(t, newRecipient(t), newRecipient(t))
	write(t, filepath.Join(w.uploads, "newer.txt"), "what nobody sees", 0o600)
	poison.backup(t)

	says := func(e ending, status int) {
		t.Helper()
		e.refuses(t, status, "to no key of the plan", "--snapshot "+open)
	}
	to := filepath.Join(w.root, "back")
	says(w.run(t, "restore", "uploads", "--to", to, "--latest"), 1)
	says(w.run(t, "restore", "uploads", "--to", to, "--path", "a.txt"), 1)
	says(w.run(t, "ls", "uploads"), 1)
	says(w.run(t, "export", "uploads", "--to", filepath.Join(w.root, "out.tar")), 1)
	says(w.run(t, "mount", "uploads", filepath.Join(w.root, "mnt")), 1)
	if len(treeOf(t, w.root)) == 0 || len(treeOf(t, to)) > 0 {
		t.Errorf("something came back: %v", treeOf(t, to))
	}
	if e := w.run(t, "points", "uploads").want(t, 3); strings.Count(e.out, "is sealed to hf:") != 2 {
		t.Errorf("each location holds one that no key of the plan opens: %v", e)
	}
	if e := w.run(t, "drill", "uploads", "--pick", "latest"); e.status == 0 || !strings.Contains(e.out+e.errout, "is sealed to hf:") {
		t.Errorf("a drill of the newest: %v", e)
	}
	w.run(t, "restore", "uploads", "--to", to, "--snapshot", open).want(t, 0)
	good.unchanged(t, to)
}
