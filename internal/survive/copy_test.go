package survive

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

const copyPassphrase = "correct horse battery staple"

func madeCopy(t *testing.T) (file []byte, s Statement, key seal.SigningKey) {
	t.Helper()
	key, err := seal.GenerateSigningKey("acme/evidence")
	if err != nil {
		t.Fatal(err)
	}
	l, err := seal.Lock([]byte("<p>the plan</p>"), copyPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	s = Statement{Copy: "oc-20261122-5f3a9c", Person: "mia", Plan: "acme", Version: "1.0 <b>\n", Digest: "sha256:00", Made: time.Unix(1e9, 0).UTC()}.Of(l)
	if file, err = WriteCopy(s, s.Sign(key), key.Public(), l); err != nil {
		t.Fatal(err)
	}
	return file, s, key
}

// What is written is read again; what was changed is told, whatever it was.
func TestCopyFile(t *testing.T) {
	file, s, key := madeCopy(t)
	c, err := ParseCopy(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.Statement.Version != "1.0__b__" || c.Statement.Copy != s.Copy || !c.Statement.Made.Equal(s.Made) {
		t.Errorf("read back: %+v", c.Statement)
	}
	if found := c.Verify(key.Public()); len(found) > 0 {
		t.Errorf("a whole copy: %v", found)
	}
	if got, err := c.Locked.Open(copyPassphrase); err != nil || string(got) != "<p>the plan</p>" {
		t.Errorf("opened: %q, %v", got, err)
	}
	if _, err := ParseCopy(bytes.ReplaceAll(file, []byte("\n"), []byte("\r\n"))); err != nil {
		t.Errorf("after a mail program: %v", err)
	}
	other, err := seal.GenerateSigningKey("acme/evidence")
	if err != nil {
		t.Fatal(err)
	}
	if found := c.Verify(other.Public()); len(found) != 1 || found[0].Code != codeCopyUnsigned {
		t.Errorf("a stranger's key: %v", found)
	}
	for name, change := range map[string][2]string{
		"person": {"person: mia", "person: eve"}, "digest": {"digest: sha256:00", "digest: sha256:01"}, "rounds": {"rounds: 600000", "rounds: 1"},
	} {
		c, err := ParseCopy([]byte(strings.Replace(string(file), change[0], change[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if found := c.Verify(key.Public()); len(found) == 0 {
			t.Errorf("another %s is not told", name)
		}
	}
	for _, cut := range []string{statementBegins, statementEnds, signatureBegins, sealedEnds, "rounds: ", "code: ", "holdfast offline copy 1"} {
		if _, err := ParseCopy([]byte(strings.Replace(string(file), "\n"+cut, "\n", 1))); err == nil {
			t.Errorf("a copy without %q is read", cut)
		}
	}
}

// The page runs one script, which it names by its hash, and loads nothing.
func TestCopyPageStandsAlone(t *testing.T) {
	file, _, _ := madeCopy(t)
	if n := bytes.Count(file, []byte("<script")); n != 1 {
		t.Errorf("%d scripts", n)
	}
	for _, not := range []string{"http://", "https://", "src=", "href=", "<link", "url(", "import(", "fetch(", "eval("} {
		if bytes.Contains(file, []byte(not)) {
			t.Errorf("the page has %s", not)
		}
	}
	if bytes.Contains(file, []byte("<b>")) {
		t.Error("a value became markup")
	}
}

// The statement verifies with openssl alone, as docs/format/offline.md says.
func TestCopySignatureWithOpenSSL(t *testing.T) {
	file, _, key := madeCopy(t)
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", `
cat > copy.html
{ printf 'holdfast/1 offline-copy\n'; sed -n '/^-----BEGIN HOLDFAST STATEMENT/,/^-----END HOLDFAST STATEMENT/p' copy.html | grep -v '^-----'; } > signed
sed -n '/^-----BEGIN HOLDFAST SIGNATURE/,/^-----END HOLDFAST SIGNATURE/p' copy.html | grep -v '^-----' | openssl base64 -d -A > sig
printf '%s' "$PEM" > key.pem
openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile sig`)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, bytes.NewReader(file), append(cmd.Environ(), "PEM="+string(key.Public().PEM()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func FuzzCopyFile(f *testing.F) {
	f.Add([]byte("\n" + statementBegins + "\nholdfast offline copy 1\n" + statementEnds + "\n"))
	f.Add([]byte(statementBegins + "\nholdfast offline copy 1\ncopy: a\nperson: b\nplan: c\nversion: d\ndigest: e\nmade: 2026-11-22T10:15:30Z\nrounds: 1\ncode: " + strings.Repeat("00", 32) + "\nsealed: f\n" + statementEnds + "\n" +
		signatureBegins + "\nAAAA\n" + signatureEnds + "\n" + sealedBegins + "\nAAAA\n" + sealedEnds + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCopy(b)
		if err != nil {
			return
		}
		if c.Text != c.Statement.Text() {
			t.Errorf("a statement that is read is written otherwise: %q", c.Text)
		}
		if found := c.Verify(); len(found) == 0 {
			t.Error("what nobody signed is verified")
		}
	})
}

// Who holds what, from the first plan to a departure.
func TestCopiesHeld(t *testing.T) { eachRig(t, copiesHeld) }

func copiesHeld(t *testing.T, r rig) {
	ctx := t.Context()
	people := []Entitled{{"mia", 90 * 24 * time.Hour}, {"jon", 90 * 24 * time.Hour}, {"eva", 0}}
	var left []string
	plan := "sha256:one"
	state := func() string {
		cs, err := r.m.Copies(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range r.m.CopiesHeld(cs, people, func(who string) bool { return slices.Contains(left, who) }, plan, "1") {
			out = append(out, h.Person+" "+h.State)
		}
		return strings.Join(out, ", ")
	}
	want := func(w string) {
		t.Helper()
		if got := state(); got != w {
			t.Errorf("%s, want %s", got, w)
		}
	}
	made := func(id, person string) {
		t.Helper()
		if err := r.m.RecordCopy(ctx, Copy{ID: id, Person: person, Plan: plan, Version: "1", Made: r.now(), Hash: CopyCodeHash("abcd-" + id)}); err != nil {
			t.Fatal(err)
		}
	}
	confirm := func(id, code, by string) error {
		_, err := r.m.ConfirmCopy(ctx, id, code, by)
		return err
	}
	want("jon none, mia none")
	made("1", "mia")
	want("jon none, mia made")
	if err := confirm("1", "abcd-2", "mia"); !errors.Is(err, holdfast.ErrRefused) {
		t.Errorf("a wrong code: %v", err)
	}
	if err := confirm("1", "abcd-1", "jon"); !errors.Is(err, holdfast.ErrRefused) {
		t.Errorf("somebody else: %v", err)
	}
	want("jon none, mia made")
	if err := confirm("1", " ABCD 1", "mia"); err != nil {
		t.Fatal(err)
	}
	want("jon none, mia current")
	plan = "sha256:two"
	want("jon none, mia stale")
	made("2", "mia")
	want("jon none, mia stale")
	if err := confirm("2", "abcd-2", "mia"); err != nil {
		t.Fatal(err)
	}
	want("jon none, mia current")
	plan = "sha256:one" // taken back: the first copy counts again
	want("jon none, mia current")
	// Nobody asks it of eva. She may have one all the same, and it ages with the plan only.
	made("3", "eva")
	want("eva made, jon none, mia current")
	if err := confirm("3", "abcd-3", "eva"); err != nil {
		t.Fatal(err)
	}
	want("eva current, jon none, mia current")
	r.pass(91 * 24 * time.Hour)
	want("eva current, jon none, mia stale")
	plan = "sha256:three"
	want("eva stale, jon none, mia stale")
	plan = "sha256:one"
	left = []string{"mia", "eva"}
	want("eva left, jon none, mia left")
	if _, err := r.m.EndCopy(ctx, "3", "jon", "shredded"); err != nil {
		t.Fatal(err)
	}
	want("jon none, mia left")
	for _, id := range []string{"1", "2"} {
		if _, err := r.m.EndCopy(ctx, id, "jon", "shredded"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.m.EndCopy(ctx, id, "jon", "shredded"); !errors.Is(err, holdfast.ErrRefused) {
			t.Errorf("ended twice: %v", err)
		}
		if err := confirm(id, "abcd-"+id, "mia"); !errors.Is(err, holdfast.ErrRefused) || !regexp.MustCompile("shredded").MatchString(err.Error()) {
			t.Errorf("one that ended: %v", err)
		}
	}
	want("jon none")
	if err := confirm("9", "x", "mia"); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("one that was never made: %v", err)
	}
}
