package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

// copies is what "offline list" says.
type copies struct {
	People []struct {
		Person, State, Why string
		Due                time.Time
		Holds, Waits       *struct {
			Copy, Version string
			Sealed        string
			Plan          string `json:"plan_digest"`
		}
	}
}

func (w workspace) copies(t *testing.T, status int) map[string]string {
	t.Helper()
	var c copies
	w.run(t, "offline", "list", "--json").want(t, status).object(t, &c)
	out := map[string]string{}
	for _, p := range c.People {
		out[p.Person] = p.State
	}
	return out
}

// An offlineCopy is one that was made, with what opens it.
type offlineCopy struct{ file, passphraseFile, passphrase, id, sealed, page, code string }

// offline makes a copy for a person, and opens it without a browser.
func (w workspace) offline(t *testing.T, person string) (c offlineCopy) {
	t.Helper()
	dir := t.TempDir()
	c.file, c.passphraseFile = filepath.Join(dir, "copy.html"), filepath.Join(dir, "passphrase")
	var made struct{ Statement struct{ Copy, Sealed string } }
	w.run(t, "offline", "make", "--person", person, "--to", c.file, "--new-passphrase", c.passphraseFile, "--json").want(t, 0).object(t, &made)
	c.id, c.sealed = made.Statement.Copy, made.Statement.Sealed
	b, err := os.ReadFile(c.passphraseFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	c.passphrase = lines[len(lines)-1]
	opened := filepath.Join(dir, "plan.html")
	hf(t, "offline", "open", c.file, "--to", opened, "--passphrase-file", c.passphraseFile).want(t, 0)
	if b, err = os.ReadFile(opened); err != nil {
		t.Fatal(err)
	}
	c.page = string(b)
	if m := regexp.MustCompile(`id="code">([^<]+)<`).FindStringSubmatch(c.page); m != nil {
		c.code = m[1]
	}
	return c
}

// keyPeople gives both founders numbers and offline copies, and the plan suppliers.
func keyPeople(s string) string {
	s = strings.Replace(s, `founder-a: {name: "Founder A"}`, `founder-a: {name: "Founder A", phone: "+46701740605", offline_copy: 90d}`, 1)
	s = strings.Replace(s, `founder-b: {name: "Founder B"}`, `founder-b: {name: "Founder B", email: "b@acme.example", offline_copy: 90d}`, 1)
	return s + `
suppliers:
  hosting: {name: "Hosting AB", provides: "machines", owner: founder-a, contacts: {emergency: "+4680000001"}, review: {every: 1y}}
  names: {name: "Names AB", provides: "domain names", contacts: {emergency: "+4680000002"}}
obligations:
  breach: {law: "GDPR 33", authority: "Data protection authority, +4686576100", notify_within: 72h, clock: awareness}
`
}

// The plan for the day on which nothing works: each key person has a file that opens in a
// browser with the network off, or with openssl; who holds which version is known.
func TestOfflineCopies(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	edit(t, w.plan(), keyPeople)
	if got := w.copies(t, 3); got["founder-a"] != "none" || got["founder-b"] != "none" {
		t.Errorf("before any copy was made: %v", got)
	}
	// The passphrase comes from a file or the terminal, and never from an argument.
	w.run(t, "offline", "make", "--person", "founder-a").refuses(t, 2, "the passphrase is missing", "--passphrase-file")
	w.run(t, "offline", "make", "--person", "stranger", "--passphrase-file", "/nowhere").refuses(t, 4, "not a person of the plan", "people")
	weak := filepath.Join(w.root, "weak")
	write(t, weak, "too short\n", 0o600)
	w.run(t, "offline", "make", "--person", "founder-a", "--to", weak+".html", "--passphrase-file", weak).refuses(t, 1, "needs 15", "five words")
	if _, err := os.Lstat(weak + ".html"); err == nil {
		t.Error("a refused copy was written")
	}
	w.run(t, "review", "done", "suppliers.hosting", "--by", "founder-a", "--note", "called them").want(t, 0)

	a, b := w.offline(t, "founder-a"), w.offline(t, "founder-b")
	browser := webtest.Chromium(t)
	t.Run("PER-01 a copy for each key person opens with no network and no server", func(t *testing.T) {
		for _, c := range []offlineCopy{a, b} {
			text := openInBrowser(t, browserOf(t, browser, c.file), c)
			for _, want := range []string{"Founder A", "+46701740605", "b@acme.example", "Whom to call", "Hosting AB", "emergency: +4680000001", "+4680000002", "Data protection authority, +4686576100", "72 hours",
				"In which order", "uploads", w.offsite, "key-b", "How", "holdfast key join", "holdfast restore uploads", "apiVersion: holdfast/v1"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s does not say %q", c.id, want)
				}
			}
			if strings.Contains(text, "AGE-SECRET-KEY-1Q") || strings.Contains(text, c.passphrase) {
				t.Error("a secret is in the copy")
			}
		}
		sealed, err := os.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"+46701740605", "Hosting AB", a.code, a.passphrase} {
			if strings.Contains(string(sealed), secret) {
				t.Errorf("%q can be read in the file without the passphrase", secret)
			}
		}
	})
	t.Run("SUP-12 supplier contacts with the day on which they were looked at", func(t *testing.T) {
		today := time.Now().UTC().Format(time.DateOnly)
		rows := regexp.MustCompile(`(?s)<tr>.*?</tr>`).FindAllString(a.page, -1)
		for name, want := range map[string]string{"Hosting AB": today, "Names AB": "never"} {
			found := false
			for _, r := range rows {
				found = found || strings.Contains(r, name) && strings.Contains(r, "emergency") && strings.Contains(r, "<td>"+want+"</td>")
			}
			if !found {
				t.Errorf("no row with the contact of %s, looked at %s", name, want)
			}
		}
	})
	t.Run("PER-03 encrypted, printable, explains itself, and can be verified", func(t *testing.T) {
		offlineOnPaper(t, browserOf(t, browser, a.file), a)
		offlineVerified(t, w, a)
	})
	t.Run("PER-02 which version each person holds, and stale ones", func(t *testing.T) { offlineVersions(t, w, a, b) })
}

// offlineVersions follows two people through a change of the plan and a departure.
func offlineVersions(t *testing.T, w workspace, a, b offlineCopy) {
	if got := w.copies(t, 3); got["founder-a"] != "made" || got["founder-b"] != "made" {
		t.Errorf("made and never opened: %v", got)
	}
	w.run(t, "offline", "confirm", a.id, "aaaa-bbbb-cccc-dddd-eeee", "--by", "founder-a").refuses(t, 4, "not its code", "first lines")
	w.run(t, "offline", "confirm", b.id, b.code, "--by", "founder-a").refuses(t, 4, "founder-b's", "the copy that you hold")
	w.run(t, "offline", "confirm", a.id, strings.ToUpper(a.code), "--by", "founder-a").want(t, 0)

	// The other one says it on the page.
	s := serve(t, w.dir)
	v := webtest.OpenFor(t, webtest.Chromium(t), s.url, 2*killWithin)
	webtest.Do(t, v, chromedp.EmulateViewport(1440, 900), webtest.Scheme("light"), chromedp.Navigate(s.url+"/offline"), chromedp.WaitVisible(chromedp.CSS("#code")))
	webtest.Look(t, v, "offline")
	for id, value := range map[string]string{"#person": "founder-b", "#copy": b.id, "#code": b.code} {
		webtest.Do(t, v, chromedp.SetValue(chromedp.CSS(id), value))
	}
	webtest.Do(t, v, chromedp.Click(chromedp.CSS("main form button[type=submit]")), chromedp.WaitVisible(chromedp.CSS(".notice")))
	if got := w.copies(t, 0); got["founder-a"] != "current" || got["founder-b"] != "current" {
		t.Errorf("after both have opened theirs: %v", got)
	}

	// The plan changes: both are stale until they confirm a new one.
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, `version: "1.0"`, `version: "1.1"`, 1) })
	until(t, "both to be stale", func() bool {
		got := w.run(t, "offline", "list")
		return strings.Count(got.out, "stale") >= 2 && strings.Contains(got.out, "founder-a owes it by")
	})
	if e := w.run(t, "status"); !strings.Contains(e.out, "HF-K4") || !strings.Contains(e.out, "founder-b") {
		t.Errorf("the status does not say that a copy is stale: %v", e)
	}
	if e := w.run(t, "review", "list"); !contains(e.out, `offline.founder-a +founder-a`) {
		t.Errorf("nobody owes a new copy: %v", e)
	}
	w.run(t, "review", "done", "offline.founder-a", "--by", "founder-a").refuses(t, 4, "closed by the code", "review show")
	fresh := w.offline(t, "founder-a")
	if !strings.Contains(fresh.page, "version 1.1") {
		t.Error("the new copy is of the old plan")
	}
	w.run(t, "offline", "confirm", a.id, a.code, "--by", "founder-a").want(t, 0) // the old one, again
	if got := w.copies(t, 3); got["founder-a"] != "stale" {
		t.Errorf("an old copy that was opened again counts as %s", got["founder-a"])
	}
	w.run(t, "offline", "confirm", fresh.id, fresh.code, "--by", "founder-a").want(t, 0)
	if got := w.copies(t, 3); got["founder-a"] != "current" || got["founder-b"] != "stale" {
		t.Errorf("after one has a new copy: %v", got)
	}
	s.stop(t)

	// Nobody brings a new one in time: it is overdue, and again once the first one's
	// period is over.
	later(t, 8*24*time.Hour)
	if e := w.run(t, "review", "list"); e.status != 3 || !contains(e.out, `overdue .*offline.founder-b`) {
		t.Errorf("a week later: %v", e)
	}
	later(t, 91*24*time.Hour)
	if got := w.copies(t, 3); got["founder-a"] != "stale" {
		t.Errorf("opened 91 days ago, to be renewed every 90: %s", got["founder-a"])
	}
}

// offlineVerified tells a copy that was changed, or signed by somebody else, and opens
// it with openssl as the file says.
func offlineVerified(t *testing.T, w workspace, a offlineCopy) {
	keys := filepath.Join(w.dir, "keys", "trusted.keys")
	e := hf(t, "offline", "verify", a.file, "--keys", keys).want(t, 0)
	if !strings.Contains(e.out, a.sealed) {
		t.Errorf("the digest is not printed: %v", e)
	}
	var listed copies
	w.run(t, "offline", "list", "--json").object(t, &listed)
	if len(listed.People) == 0 || listed.People[0].Waits == nil || listed.People[0].Waits.Sealed != a.sealed {
		t.Errorf("the digest is not the recorded one: %+v", listed.People)
	}
	whole, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(w.root, "changed.html")
	write(t, changed, regexp.MustCompile(`(?m)^(U2FsdGVk.{20}).`).ReplaceAllStringFunc(string(whole), func(s string) string {
		if strings.HasSuffix(s, "A") {
			return s[:len(s)-1] + "B"
		}
		return s[:len(s)-1] + "A"
	}), 0o600)
	if e := hf(t, "offline", "verify", changed, "--keys", keys).want(t, 3); !strings.Contains(e.out, "HF-K6") {
		t.Errorf("a changed copy: %v", e)
	}
	hf(t, "offline", "open", changed, "--to", changed+".out", "--passphrase-file", a.passphraseFile).refuses(t, 1, "damaged", "whole")
	stranger := filesOnly(t)
	if e := stranger.run(t, "offline", "verify", a.file).want(t, 3); !strings.Contains(e.out, "HF-K7") {
		t.Errorf("signed by somebody else: %v", e)
	}
	command := regexp.MustCompile(`(?m)^<pre>(sed -n .*)</pre>$`).FindStringSubmatch(string(whole))
	if command == nil {
		t.Fatal("the file does not say how it opens without a browser")
	}
	line := strings.NewReplacer("&#39;", "'", "&gt;", ">", "FILE", a.file).Replace(command[1])
	line = strings.Replace(line, "-md sha256", "-md sha256 -pass file:"+a.passphraseFile+".only", 1) // as a person types it
	write(t, a.passphraseFile+".only", a.passphrase+"\n", 0o600)
	sh := exec.Command("sh", "-c", line)
	sh.Dir = t.TempDir()
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	if b, err := os.ReadFile(filepath.Join(sh.Dir, "plan.html")); err != nil || string(b) != a.page {
		t.Errorf("openssl gives something else: %v", err)
	}
}
