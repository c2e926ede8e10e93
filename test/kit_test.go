package test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/internal/notify/notifytest"
)

// A kitSet is what "kit prepare --json" prints.
type kitSet struct {
	Set    string
	Plan   string
	Shares []struct{ File, Holder, Recipient string }
	Sheets []string
}

// withKit gives a plan a recovery kit of three holders, two of them outside, of whom two open it.
func (w workspace) withKit(t *testing.T) kitSet {
	t.Helper()
	var k kitSet
	hf(t, "kit", "prepare", "--to", filepath.Join(w.root, "shares"), "--needed", "2", "--holder", "founder-a", "--outside", "notary", "--outside", "auditor", "--json").want(t, 0).object(t, &k)
	keys, kit, ok := strings.Cut(k.Plan, "recovery_kit:")
	if !ok || len(k.Shares) != 3 || len(k.Sheets) != 3 {
		t.Fatalf("%+v", k)
	}
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "people:\n", "people:\n  notary: {name: A Notary, email: notary@example.com, phone: \"+46 1\"}\n  auditor: {name: An Auditor, email: auditor@example.com}\n", 1)
		s = strings.Replace(s, "\nkeys:\n", "\n"+keys, 1)
		return s + "\nrecovery_kit:" + kit
	})
	return k
}

// The recovery kit: two of three people open it, with us and without us; fewer, others and
// a machine that holds what they hold do not.
func TestRecoveryKit(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "kit", "show").refuses(t, 2, "no recovery kit", "kit prepare")
	hf(t, "kit", "prepare", "--to", filepath.Join(w.root, "x"), "--needed", "2", "--holder", "a", "--holder", "b").refuses(t, 2, "nobody outside", "--outside")
	k := w.withKit(t)
	for name, b := range treeOf(t, filepath.Join(w.root, "shares")) {
		if strings.Contains(b, "AGE-SECRET-KEY") {
			t.Errorf("%s holds the whole key", name)
		}
		if strings.HasSuffix(name, ".html") && !strings.Contains(b, "Any 2 of the 3 of you open it together") {
			t.Errorf("%s does not say what its holder has", name)
		}
	}
	w.run(t, "check").want(t, 0)
	w.run(t, "location", "init", "--all").want(t, 0)
	if e := w.run(t, "kit", "show").want(t, 0); !strings.Contains(e.out, "HF-K8") {
		t.Errorf("nobody says that no kit was made: %v", e)
	}
	var made struct{ File, Readme string }
	w.run(t, "kit", "make", "--to", filepath.Join(w.root, "stick"), "--json").want(t, 0).object(t, &made)
	if e := w.run(t, "kit", "show").want(t, 0); strings.Contains(e.out, "HF-K") {
		t.Errorf("a fresh kit is at fault: %v", e)
	}
	open := func(name string, args ...string) ending {
		return hf(t, append([]string{"kit", "open", made.File, "--to", filepath.Join(w.root, name)}, args...)...)
	}
	closed := func(name string) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(w.root, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	open("one", k.Shares[1].File).refuses(t, 1, "set "+k.Set+": 1 of the 2 shares that are needed", "ask another holder of set "+k.Set)
	closed("one")
	open("twice", k.Shares[1].File, k.Shares[1].File).refuses(t, 1, "given twice", "set")
	// Shares of another key: they fit together, and do not fit here.
	var other kitSet
	hf(t, "kit", "prepare", "--to", filepath.Join(w.root, "other"), "--needed", "2", "--holder", "a", "--outside", "b", "--json").want(t, 0).object(t, &other)
	open("foreign", other.Shares[0].File, other.Shares[1].File).refuses(t, 1, "sealed to another", "README")
	open("half-foreign", k.Shares[0].File, other.Shares[1].File).refuses(t, 1, "of set", "set")
	closed("foreign")
	text, err := os.ReadFile(k.Shares[2].File)
	if err != nil {
		t.Fatal(err)
	}
	slip := strings.TrimRight(string(text), "\n")
	last := len(slip) - 1
	bad := filepath.Join(w.root, "bad.txt")
	write(t, bad, slip[:last]+map[bool]string{true: "1", false: "0"}[slip[last] == '0'], 0o600)
	open("damaged", k.Shares[0].File, bad).refuses(t, 1, "group 20: a letter is wrong", "compare group 20")
	closed("damaged")
	whole, err := os.ReadFile(made.File)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(w.root, "cut.age")
	write(t, cut, string(whole[:len(whole)-100]), 0o600)
	hf(t, "kit", "open", cut, k.Shares[0].File, k.Shares[1].File, "--to", filepath.Join(w.root, "cut")).refuses(t, 1, "damaged", "another holder's copy")
	closed("cut")

	open("kit", k.Shares[0].File, k.Shares[2].File).want(t, 0)
	got := treeOf(t, filepath.Join(w.root, "kit"))
	if got["plan.yaml"] != treeOf(t, w.dir)["plan.yaml"] {
		t.Error("the plan in the kit is another")
	}
	for name, says := range map[string]string{"plan.html": "Whom to call", "contacts.txt": `(?s)A Notary\n  phone: \+46 1`, "locations.txt": w.offsite, "program.txt": "sha256 [0-9a-f]{64}", "README.txt": "does not read backups", "checkpoint.txt": "holdfast"} {
		if !regexp.MustCompile(says).MatchString(got[name]) {
			t.Errorf("%s does not say %q", name, says)
		}
	}
	if strings.Contains(got["plan.html"], "offline confirm") {
		t.Error("the page asks for a code that it does not have")
	}
	t.Run("without Holdfast", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), "python3", "../tools/decode/join.py", k.Shares[1].File, k.Shares[2].File).Output()
		if err != nil {
			t.Fatal(err)
		}
		id, err := age.ParseX25519Identity(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := age.Decrypt(bytes.NewReader(whole), id)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		tar := exec.CommandContext(t.Context(), "tar", "xf", "-")
		tar.Dir, tar.Stdin = dir, bytes.NewReader(archive)
		if out, err := tar.CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
		sums := exec.CommandContext(t.Context(), "sha256sum", "--strict", "-c", "MANIFEST.sha256")
		sums.Dir = dir
		if out, err := sums.CombinedOutput(); err != nil {
			t.Errorf("sha256sum: %v: %s", err, out)
		}
		tree(got).unchanged(t, dir)
	})
	t.Run("the server cannot satisfy the quorum", func(t *testing.T) {
		lies := func(name string) string { return filepath.Join(w.dir, "keys", name) }
		copyFile := func(from, to string) {
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			write(t, to, string(b), 0o600)
		}
		copyFile(k.Shares[0].File, lies("mine.txt"))
		if e := w.run(t, "kit", "show").want(t, 0); !strings.Contains(e.out, "warning HF-K9: 1 of the 2 shares") {
			t.Errorf("a share on the server: %v", e)
		}
		copyFile(k.Shares[1].File, lies("the-notary's.txt"))
		if e := w.run(t, "kit", "show").want(t, 3); !strings.Contains(e.out, "error HF-K9: the server opens the recovery kit alone") {
			t.Errorf("a quorum on the server: %v", e)
		}
		if e := w.run(t, "status"); e.status != 3 || !strings.Contains(e.out, "HF-K9") {
			t.Errorf("status does not say it: %v", e)
		}
		w.run(t, "kit", "make", "--to", filepath.Join(w.root, "again")).refuses(t, 4, "the server opens the recovery kit alone", "delete it here")
		for _, name := range []string{"mine.txt", "the-notary's.txt"} {
			if err := os.Remove(lies(name)); err != nil {
				t.Fatal(err)
			}
		}
		// The whole key, under whatever name.
		hf(t, "key", "join", "--to", filepath.Join(w.dir, "notes"), k.Shares[0].File, k.Shares[1].File).want(t, 0)
		if e := w.run(t, "kit", "show").want(t, 3); !strings.Contains(e.out, "its whole key lies in") {
			t.Errorf("the key on the server: %v", e)
		}
		if err := os.Remove(filepath.Join(w.dir, "notes")); err != nil {
			t.Fatal(err)
		}
	})
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 5m", "every: 4m", 1) })
	if e := w.run(t, "kit", "show").want(t, 0); !strings.Contains(e.out, "holds another plan") {
		t.Errorf("a kit of another plan counts: %v", e)
	}
}

// Nobody of the company has said for long that they are there: the holders of the kit are
// told. Nothing else happens, and whoever is there ends it.
func TestCheckInIsMissed(t *testing.T) {
	t.Parallel()
	sink := notifytest.Start(t, notifytest.Options{TLS: "starttls", Password: mailPassword})
	w := told(t, sink, "  gather: 1s\n")
	k := w.withKit(t)
	w.run(t, "kit", "make", "--to", filepath.Join(w.root, "stick")).want(t, 0)
	w.run(t, "review", "list").want(t, 0)
	later(t, 60*24*time.Hour)
	s := serve(t, w.dir)
	toNotary := func() string {
		all := ""
		for _, l := range letters(t, sink) {
			if strings.Contains(l.to, "notary@example.com") {
				all += l.subject + "\n" + l.text
			}
		}
		return all
	}
	until(t, "the trustees to be told", func() bool { return strings.Contains(toNotary(), "nobody of the company has said since") })
	said := toNotary()
	for _, want := range []string{"call the other holders", "This message opens nothing", "auditor"} {
		if !strings.Contains(strings.Join(strings.Fields(said), " "), want) {
			t.Errorf("the message does not say %q:\n%s", want, said)
		}
	}
	for _, sh := range k.Shares {
		b, err := os.ReadFile(sh.File)
		if err != nil {
			t.Fatal(err)
		}
		if _, groups, _ := strings.Cut(string(b), "\n\n"); strings.Contains(said, strings.Fields(groups)[3]) {
			t.Error("a share is in the message")
		}
	}
	w.run(t, "review", "done", "recovery_kit.check_in", "--by", "notary", "--note", "x").want(t, 4)
	w.run(t, "review", "done", "recovery_kit.check_in", "--by", "founder-a", "--note", "I am here").want(t, 0)
	if e := w.run(t, "review", "show", "recovery_kit.check_in"); strings.Contains(e.out, "overdue") {
		t.Errorf("it goes on: %v", e)
	}
	s.stop(t)
}
