package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// at runs the product on the workspace with its clock moved by so many hours. Unlike
// later it may be used side by side with other tests.
func (w workspace) at(t *testing.T, hours string, args ...string) ending {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"--dir", w.dir}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=", "HOLDFAST_PURPOSE=test", "HOLDFAST_CLOCK="+hours+"h")
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	_ = cmd.Run() // its status is what it ended with
	return ending{status: cmd.ProcessState.ExitCode(), out: out.String(), errout: clockSaid.ReplaceAllString(errout.String(), "")}
}

// newKey makes a read key and returns its file and its public half.
func (w workspace) newKey(t *testing.T, name string) (file, recipient string) {
	t.Helper()
	file = filepath.Join(w.root, name)
	return file, strings.TrimSpace(hf(t, "key", "create", file).want(t, 0).out)
}

// recipientOf is the public half of a key of the workspace.
func (w workspace) recipientOf(t *testing.T, role string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "keys", role))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`age1[0-9a-z]+`).FindString(string(b))
}

var clockSaid = regexp.MustCompile(`(?m)^holdfast: the clock is moved .*\n`)

var snapshotNamed = regexp.MustCompile(`snapshot (\S+Z-[0-9a-f]{8})`)

// copied copies the folder and returns the snapshot's name.
func (w workspace) copied(t *testing.T) string {
	t.Helper()
	e := w.run(t, "backup", "uploads").want(t, 0)
	m := snapshotNamed.FindStringSubmatch(e.out)
	if m == nil {
		t.Fatalf("no snapshot is named: %v", e)
	}
	return m[1]
}

// agree lets two approvers sign for all that the plan as it is written weakens.
func (w workspace) agree(t *testing.T, keys map[string]string) {
	t.Helper()
	w.run(t, "key", "rotate", "--apply").want(t, 4) // which asks for them
	for _, r := range w.requests(t, "open") {
		w.sign(t, r.ID, "ana", keys["ana"], "", 4)
		w.sign(t, r.ID, "ben", keys["ben"], "", 0)
	}
}

// opens reports whether a key brings a snapshot back.
func (w workspace) opens(t *testing.T, snapshot, key string) bool {
	t.Helper()
	e := w.run(t, "restore", "uploads", "--snapshot", snapshot, "--key", key, "--to", filepath.Join(t.TempDir(), "back"))
	if e.status != 0 && !strings.Contains(e.errout, "no key that was given opens") {
		t.Fatalf("the restore ends otherwise: %v", e)
	}
	return e.status == 0
}

// Who can read the backups changes only when those agree whom the plan names for it, and
// until then backups go on for the keys before.
func TestRecipientsChangeBySignature(t *testing.T) {
	t.Parallel()
	t.Run("ENC-10 cryptographic settings wait for both approvers", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "\nroles:\n", "\nroles:\n  security_officer: {holder: ana, deputy: eve}\n  policy_owner: {holder: ben, deputy: founder-b}\n", 1)
			return s + "\napprovals:\n  change-encryption: {roles: [security_officer, policy_owner]}\n"
		})
		w.copied(t)
		file, recipient := w.newKey(t, "next.age")
		old := w.recipientOf(t, "runner.age")
		// Two changes at once, each with people of its own: who may weaken a schedule may not
		// change who reads.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(strings.ReplaceAll(s, old, recipient), "every: 1w", "every: 1mo", 1)
		})
		backedUp := func() string { write(t, filepath.Join(w.uploads, "more.txt"), recipient, 0o600); return w.copied(t) }
		pending := func(signed string) {
			t.Helper()
			snapshot := backedUp()
			if w.opens(t, snapshot, file) || !w.opens(t, snapshot, filepath.Join(w.dir, "keys", "runner.age")) {
				t.Fatalf("%s signed, and the new key is in use", signed)
			}
		}
		_, waits := w.inForce(t)
		if !strings.Contains(waits, "holdfast approve") {
			t.Fatalf("nothing is asked for: %q", waits)
		}
		pending("nobody")
		if e := w.run(t, "key", "rotate", "--rewrap", "--apply").want(t, 4); !strings.Contains(e.errout, "are not in force") || !strings.Contains(e.errout, "hint: \"holdfast approve") {
			t.Errorf("a rotation to keys that wait is refused otherwise: %v", e)
		}
		asked := w.requests(t, "open")
		if len(asked) != 2 || !strings.Contains(asked["change-encryption"].Text, "keys.key-a.recipient") || strings.Contains(asked["weaken-plan"].Text, "keys.") {
			t.Fatalf("asked for: %+v", asked)
		}
		secret, weak := asked["change-encryption"].ID, asked["weaken-plan"].ID
		w.sign(t, secret, "founder-a", keys["founder-a"], "", 4) // approves plans, and not this
		w.sign(t, secret, "ana", keys["ana"], "", 4)
		pending("one of two")
		w.sign(t, secret, "ben", keys["ben"], "", 0)
		pending("both, and nobody for the drills,")
		w.sign(t, weak, "ana", keys["ana"], "", 4)
		w.sign(t, weak, "founder-a", keys["founder-a"], "", 0)
		if _, waits := w.inForce(t); waits != "" {
			t.Fatalf("all have signed, and it waits: %s", waits)
		}
		if snapshot := backedUp(); !w.opens(t, snapshot, file) || w.opens(t, snapshot, filepath.Join(w.dir, "keys", "runner.age")) {
			t.Error("all have signed, and backups go on for the old key")
		}
		if facts := w.factsOf(t, "approval.used"); len(facts) != 2 || !strings.Contains(facts[0]+facts[1], "change-encryption") {
			t.Errorf("what was signed for is no fact: %v", facts)
		}
	})
	t.Run("a small team has one, a day, and a review", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "\norg:\n", "\norg:\n  team: small\n", 1) })
		w.copied(t)
		file, recipient := w.newKey(t, "next.age")
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(strings.Replace(s, "keys:\n", "keys:\n  third: {recipient: "+recipient+", holders: [eve]}\n", 1), "encrypt_to: [", "encrypt_to: [third, ", 1)
		})
		w.inForce(t)
		id := w.requests(t, "open")["weaken-plan"].ID
		w.sign(t, id, "ana", keys["ana"], "", 0)
		if w.opens(t, w.copied(t), file) {
			t.Fatal("one person alone gave a key to everything at once")
		}
		w.at(t, "25", "prune", "--json")
		if e := w.at(t, "25", "backup", "uploads"); e.status != 0 || !w.opens(t, snapshotNamed.FindStringSubmatch(e.out)[1], file) {
			t.Fatalf("a day passed, and the plan still waits: %v", e)
		}
		w.at(t, "26", "approve", id, "--by", "ana", "--review", "--note", "I looked").refuses(t, 4, "signed it", "somebody else")
		w.at(t, "26", "approve", id, "--by", "ben", "--review", "--note", "the key belongs to Eve").want(t, 0)
	})
}

// A rotated is one store at one location as "key rotate --json" tells.
type rotated struct {
	Store, Location, Error   string
	Fresh                    bool
	Objects, Readable, Given int
	Stuck                    int
}

func (w workspace) rotate(t *testing.T, status int, args ...string) map[string]rotated {
	t.Helper()
	var v struct{ Places []rotated }
	w.run(t, append([]string{"key", "rotate", "--json"}, args...)...).want(t, status).object(t, &v)
	out := map[string]rotated{}
	for _, r := range v.Places {
		out[r.Location] = r
	}
	return out
}

// Keys are replaced three times. Then the last one is given the keys of all that was written
// before, and reads it alone, location by location; the keys before are not needed any more.
func TestRotateThreeTimesAndRewrap(t *testing.T) {
	t.Parallel()
	t.Run("ENC-04 a retired key is not needed after rewrapping", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		old := []string{filepath.Join(w.dir, "keys", "runner.age")}
		oldest, content := w.copied(t), treeOf(t, w.uploads)
		var newest string
		for i := range 3 {
			file, recipient := w.newKey(t, fmt.Sprintf("generation-%d.age", i))
			_, other := w.newKey(t, fmt.Sprintf("second-%d.age", i))
			before := treeOf(t, w.dir)["plan.yaml"]
			w.run(t, "key", "rotate", "--replace", "key-a="+recipient).want(t, 0)
			if treeOf(t, w.dir)["plan.yaml"] != before {
				t.Fatal("a look changed the plan")
			}
			w.run(t, "key", "rotate", "--replace", "key-a="+recipient, "--apply").want(t, 0)
			w.run(t, "key", "rotate", "--replace", "key-b="+other, "--apply").want(t, 0)
			w.agree(t, keys)
			objects := treeOf(t, w.near)
			if got := w.rotate(t, 0); got["near"].Fresh || got["near"].Readable != 0 || got["near"].Objects == 0 {
				t.Fatalf("before anything was done: %+v", got)
			}
			objects.unchanged(t, w.near)
			if got := w.rotate(t, 0, "--apply"); !got["near"].Fresh || !got["offsite"].Fresh || got["near"].Given != 0 {
				t.Fatalf("after a backup: %+v", got)
			}
			newest = listed(t, w.near)[i+1]
			old = append(old, file)
		}
		last := old[len(old)-1]
		if !w.opens(t, newest, last) || w.opens(t, oldest, last) || !w.opens(t, oldest, old[0]) {
			t.Fatal("a key reads what is not of its time")
		}
		// One location does not answer: it is named, and the other one is done all the same.
		away := w.offsite + ".away"
		if err := os.Rename(w.offsite, away); err != nil {
			t.Fatal(err)
		}
		var given []string
		for _, f := range old[:len(old)-1] {
			given = append(given, "--key", f)
		}
		rewrap := append([]string{"--rewrap", "--purpose", "ticket 77", "--apply"}, given...)
		w.run(t, append(append([]string{"key", "rotate"}, rewrap...), "--purpose", "")...).refuses(t, 2, "needs --purpose", "recorded")
		got := w.rotate(t, 3, rewrap...)
		if near := got["near"]; got["offsite"].Error == "" || near.Error != "" || near.Given == 0 || near.Given+near.Readable != near.Objects || near.Stuck != 0 {
			t.Fatalf("%+v", got)
		}
		if err := os.Rename(away, w.offsite); err != nil {
			t.Fatal(err)
		}
		if got := w.rotate(t, 0, rewrap...); got["near"].Given != 0 || got["offsite"].Given == 0 {
			t.Fatalf("the second run does not go on where the first one ended: %+v", got)
		}
		for _, gone := range old[:len(old)-1] {
			if err := os.Remove(gone); err != nil {
				t.Fatal(err)
			}
		}
		for _, location := range []string{"near", "offsite"} {
			for _, snapshot := range []string{oldest, newest} {
				to := filepath.Join(t.TempDir(), "back")
				w.run(t, "restore", "uploads", "--snapshot", snapshot, "--location", location, "--key", last, "--to", to).want(t, 0)
				content.unchanged(t, to)
			}
		}
		facts := strings.Join(w.factsOf(t, "key.rewrapped"), "\n")
		if !strings.Contains(facts, "ticket 77") || !strings.Contains(facts, "offsite") {
			t.Errorf("what was given to whom is no fact: %s", facts)
		}
		w.copied(t) // takes up what commands have noted
		if uses := strings.Join(w.keyUses(t), "\n"); !strings.Contains(uses, "rewrap: ticket 77") {
			t.Errorf("the use of the old keys is not recorded: %s", uses)
		}
	})
}

// A life is one line of "key list --register --json".
type life struct {
	Key, Fingerprint, State, Stored string
	Custodians                      []string
	Overdue                         bool
	Destroyed_by                    string
}

func TestKeyRegister(t *testing.T) {
	t.Parallel()
	t.Run("ENC-03 the life of each key is told, and a late rotation is a finding", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "holders: [founder-a]}", "holders: [founder-a], stored: \"the runner's disk\", rotate_every: 30d}", 1)
		})
		w.copied(t)
		register := func(hours string, status int) (out []life) {
			t.Helper()
			var v struct{ Register []life }
			e := w.at(t, hours, "key", "list", "key-a", "--json").want(t, status)
			e.object(t, &v)
			return v.Register
		}
		first := register("0", 0)
		if len(first) != 1 || first[0].State != "in use" || first[0].Stored != "the runner's disk" || len(first[0].Custodians) != 1 || first[0].Overdue {
			t.Fatalf("%+v", first)
		}
		if late := register("721", 3); !late[0].Overdue {
			t.Errorf("a month and an hour later: %+v", late)
		}
		if e := w.at(t, "721", "status"); !strings.Contains(e.out, "HF-K3") || !strings.Contains(e.out, "was to be replaced by") {
			t.Errorf("the status does not say that a rotation is overdue: %v", e)
		}
		old := first[0].Fingerprint
		w.run(t, "key", "destroyed", old, "--by", "founder-a", "--how", "wiped").refuses(t, 4, "backups are made for the key", "rotate --replace key-a")
		_, recipient := w.newKey(t, "next.age")
		w.run(t, "key", "rotate", "--replace", "key-a="+recipient, "--apply").want(t, 0)
		w.agree(t, keys)
		w.copied(t)
		now := register("719", 0)
		if len(now) != 2 || now[0].State != "retired" || now[1].State != "in use" || now[0].Fingerprint != old {
			t.Fatalf("after a rotation: %+v", now)
		}
		w.run(t, "key", "destroyed", old, "--by", "stranger", "--how", "wiped").refuses(t, 4, "not a person", "people")
		w.run(t, "key", "destroyed", old, "--by", "founder-a", "--how", "wiped").want(t, 0)
		w.run(t, "key", "destroyed", old, "--by", "founder-a", "--how", "wiped").refuses(t, 4, "as destroyed already", "by whom")
		if now := register("0", 0); now[0].State != "destroyed" || now[0].Destroyed_by != "founder-a" {
			t.Errorf("%+v", now)
		}
		facts := strings.Join(w.factsOf(t, "key.registered"), "\n")
		for _, want := range []string{"created", "custodians", "in use", "storage", "rotation", "replaces " + old} {
			if !strings.Contains(facts, want) {
				t.Errorf("no fact says %q: %s", want, facts)
			}
		}
		if len(w.factsOf(t, "key.destroyed")) != 1 {
			t.Error("that a key was destroyed is no fact")
		}
	})
}

// A request is what "approve --json" lists.
type request struct {
	ID, State, Text string
	Act             struct{ Kind string }
}

// requests are those in a state, by what they are for.
func (w workspace) requests(t *testing.T, state string) map[string]request {
	t.Helper()
	var rs []request
	w.run(t, "approve", "--json").want(t, 0).object(t, &rs)
	out := map[string]request{}
	for _, r := range rs {
		if r.State == state {
			out[r.Act.Kind] = r
		}
	}
	return out
}

// pack is what an evidence pack of everything until now holds.
func (w workspace) pack(t *testing.T) tree {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "pack.zip")
	w.run(t, "evidence", "export", "--from", "2020-01-01", "--out", file).want(t, 0)
	unzipTo(t, file, dir)
	return treeOf(t, dir)
}

// factsOf are the facts of a kind, from an evidence pack.
func (w workspace) factsOf(t *testing.T, kind string) (out []string) {
	t.Helper()
	for _, line := range strings.Split(w.pack(t)["log.ndjson"], "\n") {
		if strings.Contains(line, `"`+kind+`"`) {
			out = append(out, line)
		}
	}
	return out
}
