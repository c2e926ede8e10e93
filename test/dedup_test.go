package test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packsAt are the packs at a place, in order.
func packsAt(t *testing.T, location string) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(treeOf(t, location))), func(name string) bool { return !strings.HasPrefix(name, "packs/") || strings.Count(name, "/") != 2 })
}

// The key that names chunks is changed on demand and by the plan. The next backup stores all
// anew, once, and says why; what was there before stays as good as it was, and no count of
// the vault is disturbed.
func TestChunkNamesChange(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	const anew = "all content was stored anew, once: the key that names chunks is in use since"
	backUp := func(hours string, told bool) (added int) {
		t.Helper()
		before := len(packsAt(t, w.near))
		if e := w.at(t, hours, "backup", "uploads").want(t, 0); strings.Contains(e.out, anew) != told {
			t.Fatalf("after %s hours, anew %t: %v", hours, told, e)
		}
		return len(packsAt(t, w.near)) - before
	}
	first := backUp("0", false)
	if again := backUp("1", false); again >= first {
		t.Fatalf("%d packs, and then %d", first, again)
	}
	old := treeOf(t, w.near)
	was := treeOf(t, w.dir)["keys/dedup.key"]
	if out := w.at(t, "2", "key", "rotate", "--dedup").want(t, 0).out; !strings.Contains(out, "uploads: named by one key since") || treeOf(t, w.dir)["keys/dedup.key"] != was {
		t.Fatalf("a look: %s", out)
	}
	w.run(t, "key", "rotate", "--dedup", "--store", "nothing", "--apply").refuses(t, 2, "not in the plan", "store list")
	w.run(t, "key", "rotate", "--store", "uploads").refuses(t, 2, "--dedup", "add --dedup")
	w.at(t, "2", "key", "rotate", "--dedup", "--store", "uploads", "--apply").want(t, 0)
	if got := backUp("3", true); got < first {
		t.Errorf("%d packs were put at first, and %d for the new key", first, got)
	}
	if again := backUp("4", false); again >= first {
		t.Errorf("%d packs were put a second time", again)
	}
	now := treeOf(t, w.near)
	for name, b := range old {
		if b != "dir" && now[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
	for i, id := range listed(t, w.near) {
		w.run(t, "restore", "uploads", "--snapshot", id, "--location", []string{"near", "offsite"}[i%2], "--to", filepath.Join(w.root, "back", id)).want(t, 0)
		treeOf(t, w.uploads).unchanged(t, filepath.Join(w.root, "back", id))
	}
	w.at(t, "5", "verify", "--all").want(t, 0)
	w.at(t, "5", "prune").want(t, 0)

	// By the plan: overdue is what the newest snapshot says of itself, and the next backup
	// mends it without being told.
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, "repository:\n", "repository:\n  dedup_epoch: 30d\n", 1)
	})
	overdue := func(hours string) bool { return strings.Contains(w.at(t, hours, "status").out, "HF-K11") }
	if overdue("24") {
		t.Error("overdue in its time")
	}
	if !overdue("768") { // 32 days
		t.Error("32 days later it is not overdue")
	}
	if got := backUp("769", true); got < first {
		t.Errorf("the epoch ended, and %d packs were put", got)
	}
	if overdue("770") {
		t.Error("overdue after the change")
	}
}

// An agent changes its key on its own machine, and the chain goes on at a place that it can
// only write to.
func TestAgentsChunkNamesChange(t *testing.T) {
	t.Parallel()
	s := splitDuties(t)
	made := func() (anew string) {
		t.Helper()
		var out struct{ Made []struct{ Anew string } }
		s.host.run(t, "agent", "source", "--once", "--json").want(t, 0).object(t, &out)
		return out.Made[0].Anew
	}
	for range 2 {
		if anew := made(); anew != "" {
			t.Fatalf("anew without a change: %q", anew)
		}
	}
	s.host.run(t, "key", "rotate", "--dedup", "--apply").want(t, 0)
	if anew := made(); !strings.Contains(anew, "the key that names chunks") {
		t.Errorf("the agent says %q", anew)
	}
	if anew := made(); anew != "" {
		t.Errorf("a second time: %s", anew)
	}
	serve(t, s.server.dir)
	until(t, "receipts", func() bool { return len(treeOf(t, filepath.Join(s.disk, "receipts", "uploads"))) == 4+1 })
	s.server.run(t, "verify", "--all").want(t, 0)
	for _, id := range listed(t, s.disk) {
		to := filepath.Join(s.server.root, "back", id)
		s.server.run(t, "restore", "uploads", "--snapshot", id, "--to", to).want(t, 0)
		treeOf(t, s.host.uploads).unchanged(t, to)
	}
	var previous []string
	for _, name := range slices.Sorted(maps.Keys(treeOf(t, s.disk))) {
		if strings.HasPrefix(name, "snapshots/uploads/") {
			previous = append(previous, treeOf(t, s.disk)[name])
		}
	}
	for i, m := range previous {
		if starts := strings.Contains(m, `"previous":""`); starts != (i == 0) {
			t.Errorf("snapshot %d of %d begins a chain: %t", i+1, len(previous), starts)
		}
	}
}
