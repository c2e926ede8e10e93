package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// strengthAt is what the encryption document says of the backups of uploads at a location.
func (w workspace) strengthAt(t *testing.T, location string) string {
	t.Helper()
	var e struct {
		Lines []struct{ Subject, What, Value string }
	}
	w.run(t, "encryption", "--json").want(t, 0).object(t, &e)
	for _, l := range e.Lines {
		if l.Subject == "stores.uploads" && l.What == "sealed at "+location {
			return l.Value
		}
	}
	t.Fatalf("nothing is said of %s: %+v", location, e)
	return ""
}

const (
	classic     = "X25519"
	postQuantum = "ML-KEM-768 and X25519"
)

// newQuantumKey makes a post-quantum read key and returns its file and its public half.
func (w workspace) newQuantumKey(t *testing.T, name string) (file, recipient string) {
	t.Helper()
	file = filepath.Join(w.root, name)
	return file, strings.TrimSpace(hf(t, "key", "create", "--post-quantum", file).want(t, 0).out)
}

// The keys of a new workspace are post-quantum: all that reads, writes and prints keys takes
// them, and so does the decoder that shares no code with us.
func TestPostQuantumKeys(t *testing.T) {
	t.Parallel()
	w := filesOnly(t, "--post-quantum")
	var c struct {
		Strength map[string]string
	}
	w.run(t, "check", "--json").want(t, 0).object(t, &c)
	if c.Strength["uploads"] != postQuantum {
		t.Errorf("check says %v", c.Strength)
	}
	w.run(t, "location", "init", "--all").want(t, 0)
	snapshot := w.copied(t)
	w.run(t, "drill", "uploads-drill").want(t, 0)
	for _, at := range []string{"near", "offsite"} {
		if got := w.strengthAt(t, at); got != "newest "+postQuantum {
			t.Errorf("at %s: %q", at, got)
		}
	}
	// Two of three shares, one of them typed, bring the key back, with us and without.
	recovery := filepath.Join(w.dir, "keys", "recovery.age")
	var split struct {
		Shares []struct{ File, Recipient string }
	}
	hf(t, "key", "split", recovery, "--to", filepath.Join(w.root, "shares"), "--needed", "2", "--holder", "a", "--holder", "b", "--holder", "c", "--json").want(t, 0).object(t, &split)
	back := filepath.Join(w.root, "back.age")
	hf(t, "key", "join", "--to", back, split.Shares[0].File, split.Shares[2].File).want(t, 0)
	out, err := exec.CommandContext(t.Context(), "python3", "../tools/decode/join.py", split.Shares[1].File, split.Shares[2].File).Output()
	if err != nil || !strings.Contains(treeOf(t, w.dir)["keys/recovery.age"], strings.TrimSpace(string(out))) {
		t.Errorf("join.py: %v", err)
	}
	var sheet struct{ Sheet string }
	hf(t, "key", "sheet", recovery, "--json").want(t, 0).object(t, &sheet)
	paper := filepath.Join(w.root, "paper")
	write(t, paper, sheet.Sheet, 0o600)
	hf(t, "key", "join", "--to", filepath.Join(w.root, "paper.age"), paper).want(t, 0)
	if !w.opens(t, snapshot, back) || !w.opens(t, snapshot, filepath.Join(w.root, "paper.age")) {
		t.Error("a key that came back does not open")
	}
	to := filepath.Join(w.root, "decoded")
	if out, err := exec.CommandContext(t.Context(), "python3", "../tools/decode/decode.py", "--identity", back, w.offsite, "restore", "uploads/"+snapshot, to).CombinedOutput(); err != nil {
		t.Fatalf("decode.py: %v: %s", err, out)
	}
	treeOf(t, w.uploads).unchanged(t, to)
	stranger, _ := w.newQuantumKey(t, "stranger.age")
	if w.opens(t, snapshot, stranger) {
		t.Error("a stranger's key opens it")
	}
}

// One classic key beside post-quantum ones would lower all of them: nothing is made so. All
// of them change in one step, and what was made before is said to be as strong as it is.
func TestStrengthsAreNotMixed(t *testing.T) {
	t.Parallel()
	w, signers := vaultWorkspace(t)
	first := w.copied(t)
	a, ra := w.newQuantumKey(t, "a.age")
	_, rb := w.newQuantumKey(t, "b.age")
	before := treeOf(t, w.dir)["plan.yaml"]
	w.run(t, "key", "rotate", "--replace", "key-a="+ra, "--apply").refuses(t, 2, "post-quantum and classic recipients are not mixed", "--replace for each")
	if treeOf(t, w.dir)["plan.yaml"] != before {
		t.Error("a plan that cannot be carried out was written")
	}
	// By hand it can be written; it is refused before anything is made.
	mixed := copied(t, w)
	edit(t, mixed.plan(), func(s string) string { return strings.Replace(s, w.recipientOf(t, "runner.age"), ra, 1) })
	if e := mixed.run(t, "check").want(t, 3); !strings.Contains(e.out, "HF-L14") || !strings.Contains(e.out, "key-b would open everything to a quantum computer") || !strings.Contains(e.out, "not post-quantum, since key-b") {
		t.Errorf("check says: %v", e)
	}
	if got := w.strengthAt(t, "near"); got != "newest "+classic {
		t.Errorf("before: %q", got)
	}
	w.run(t, "key", "rotate", "--replace", "key-a="+ra, "--replace", "key-b="+rb, "--apply").want(t, 0)
	w.agree(t, signers)
	w.run(t, "key", "rotate", "--apply").want(t, 0)
	if got := w.strengthAt(t, "near"); got != "newest "+postQuantum+"; oldest "+classic {
		t.Errorf("after: %q", got)
	}
	if w.opens(t, first, a) {
		t.Error("the new key opens what was made before it")
	}
	w.run(t, "key", "rotate", "--rewrap", "--apply").want(t, 0)
	if !w.opens(t, first, a) {
		t.Error("rewrapped, it does not open for the new key")
	}
	if got := w.strengthAt(t, "near"); !strings.HasSuffix(got, "oldest "+classic) {
		t.Errorf("rewrapping made an old backup stronger: %q", got)
	}
}

// A plan that mixes makes no backup, and says how to go on.
func TestMixedPlanIsRefused(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	_, ra := w.newQuantumKey(t, "a.age")
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, w.recipientOf(t, "runner.age"), ra, 1) })
	w.run(t, "location", "init", "--all").want(t, 0)
	before := treeOf(t, w.near)
	if e := w.run(t, "backup", "uploads").want(t, 1); !strings.Contains(e.errout, "not mixed: key-b would open to a quantum computer what the others do not") {
		t.Errorf("the refusal does not say why: %v", e)
	}
	before.unchanged(t, w.near)
}
