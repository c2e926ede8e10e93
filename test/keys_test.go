package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyUses are the facts about uses of read keys, from an evidence pack.
func (w workspace) keyUses(t *testing.T) []string {
	t.Helper()
	return w.factsOf(t, "key.used")
}

// A keyState is one line of "key list --json".
type keyState struct {
	Key, Holder, Posture, Challenge string
	Share                           bool
}

func (w workspace) keyState(t *testing.T, status int, key, holder string) keyState {
	t.Helper()
	var k struct{ Holders []keyState }
	w.run(t, "key", "list", "--json").want(t, status).object(t, &k)
	for _, h := range k.Holders {
		if h.Key == key && h.Holder == holder {
			return h
		}
	}
	t.Fatalf("%s of %s is not listed: %+v", holder, key, k)
	return keyState{}
}

func TestCustody(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	recovery := filepath.Join(w.dir, "keys", "recovery.age")
	shares := filepath.Join(w.root, "shares")
	var split struct {
		Set    string
		Shares []struct{ File, Holder, Recipient string }
	}
	hf(t, "key", "split", recovery, "--to", shares, "--needed", "2", "--holder", "founder-a", "--holder", "founder-b", "--holder", "notary", "--json").want(t, 0).object(t, &split)
	if len(split.Shares) != 3 {
		t.Fatalf("%+v", split)
	}
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "people:\n", "people:\n  notary: {name: A Notary, email: n@example.com, phone: \"+46 1\"}\n", 1)
		held := ""
		for _, sh := range split.Shares {
			held += fmt.Sprintf("%s: %s, ", sh.Holder, sh.Recipient)
		}
		return strings.Replace(s, "holders: [founder-b], offline: true}", "offline: true, challenge: every 1d, challenge_within: 1h, shares: {needed: 2, holders: {"+strings.TrimRight(held, ", ")+"}}}", 1)
	})
	w.run(t, "check").want(t, 0)
	if err := os.Remove(recovery); err != nil {
		t.Fatal(err)
	}
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)

	t.Run("holders show that their shares open", func(t *testing.T) {
		s := serve(t, w.dir)
		if s := w.keyState(t, 0, "key-b", "notary"); s.Posture != "unknown" || !s.Share {
			t.Errorf("a holder who was never asked: %+v", s)
		}
		out := filepath.Join(w.root, "ask")
		var asked struct {
			Challenges []struct{ ID, Holder string }
			Files      map[string]string
		}
		w.run(t, "key", "challenge", "ask", "key-b", "--to", out, "--json").want(t, 0).object(t, &asked)
		if len(asked.Challenges) != 3 {
			t.Fatalf("%+v", asked)
		}
		answers := map[string]string{}
		for i, c := range asked.Challenges {
			other := split.Shares[(i+1)%3].File
			hf(t, "key", "challenge", "answer", asked.Files[c.ID], "--key", other).refuses(t, 1, "does not open challenge", "--key FILE")
			var a struct{ Answer string }
			hf(t, "key", "challenge", "answer", asked.Files[c.ID], "--key", split.Shares[i].File, "--json").want(t, 0).object(t, &a)
			answers[c.Holder] = a.Answer
		}
		accept := func(id, answer, by string) ending {
			return w.run(t, append(append([]string{"key", "challenge", "accept", id}, strings.Fields(answer)...), "--by", by)...)
		}
		// Another's answer, somebody unknown, and a slip of the pen are refused.
		accept(asked.Challenges[0].ID, answers["founder-b"], "founder-a").refuses(t, 4, "it is not the answer", "asks again")
		accept(asked.Challenges[0].ID, answers["founder-a"], "stranger").refuses(t, 4, "not a person of the plan", "people")
		accept(asked.Challenges[0].ID, "00001 "+answers["founder-a"][6:], "founder-a").refuses(t, 1, "group 1", "type the groups")
		for _, c := range asked.Challenges[:2] {
			accept(c.ID, strings.ToLower(answers[c.Holder]), c.Holder).want(t, 0)
			if s := w.keyState(t, 0, "key-b", c.Holder); s.Posture != "proved" {
				t.Errorf("after the answer: %+v", s)
			}
		}
		// Asked again, one of them lets it pass: overdue, a finding, and the status says so.
		s.stop(t)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "challenge_within: 1h", "challenge_within: 1s", 1) })
		serve(t, w.dir)
		w.run(t, "key", "challenge", "ask", "key-b", "--holder", "founder-b", "--to", out, "--json").want(t, 0).object(t, &asked)
		late := asked.Challenges[0].ID
		until(t, "the challenge to be overdue", func() bool { return w.run(t, "key", "list").status == 3 })
		if s := w.keyState(t, 3, "key-b", "founder-b"); s.Posture != "overdue" {
			t.Errorf("who did not answer: %+v", s)
		}
		if e := w.run(t, "status"); !strings.Contains(e.out, "HF-K1") || !strings.Contains(e.out, "founder-b") {
			t.Errorf("the status does not say that a key may be lost: %v", e)
		}
		// It is an incident, one, and is over with a later answer.
		const title = "founder-b did not show that their share of the key key-b opens"
		until(t, "an incident", func() bool { return strings.Contains(w.run(t, "incident", "list").out, title) })
		var is []struct {
			ID                    int64
			Title, Kind, Severity string
		}
		w.run(t, "incident", "list", "--json").want(t, 0).object(t, &is)
		is = slices.DeleteFunc(is, func(i struct {
			ID                    int64
			Title, Kind, Severity string
		}) bool {
			return i.Title != title
		})
		if len(is) != 1 || is[0].Kind != "key-overdue" || is[0].Severity != "SEV1" {
			t.Fatalf("incidents of an overdue challenge: %+v", is)
		}
		var a struct{ Answer string }
		hf(t, "key", "challenge", "answer", asked.Files[late], "--key", split.Shares[1].File, "--json").want(t, 0).object(t, &a)
		accept(late, a.Answer, "founder-b").refuses(t, 4, "it was due on", "asks again")
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "challenge_within: 1s", "challenge_within: 1h", 1) })
		until(t, "the longer time to be in force", func() bool {
			w.run(t, "key", "challenge", "ask", "key-b", "--holder", "founder-b", "--to", out, "--json").want(t, 0).object(t, &asked)
			id := asked.Challenges[0].ID
			hf(t, "key", "challenge", "answer", asked.Files[id], "--key", split.Shares[1].File, "--json").want(t, 0).object(t, &a)
			return accept(id, a.Answer, "founder-b").status == 0
		})
		until(t, "the incident to say that it is over", func() bool {
			return strings.Contains(w.run(t, "incident", "show", fmt.Sprint(is[0].ID)).out, "over: key-overdue:key-b:founder-b")
		})
	})
	t.Run("ENC-12 every use of a read key is recorded", func(t *testing.T) {
		before := len(w.keyUses(t))
		to := filepath.Join(w.root, "for-nothing")
		w.run(t, "restore", "uploads", "--to", to, "--purpose", "").refuses(t, 2, "needs --purpose", "incident")
		if left := treeOf(t, to); len(left) > 0 {
			t.Error("something came back without a purpose")
		}
		w.run(t, "restore", "uploads", "--to", filepath.Join(w.root, "one"), "--purpose", "ticket 381").want(t, 0)
		serve(t, w.dir)
		w.run(t, "restore", "uploads", "--to", filepath.Join(w.root, "two"), "--purpose", "ticket 382").want(t, 0)
		w.run(t, "drill", "uploads-drill").want(t, 0)
		var uses []string
		until(t, "the uses to be in the ledger", func() bool { uses = w.keyUses(t); return len(uses) >= before+3 })
		all := strings.Join(uses, "\n")
		for _, want := range []string{`ticket 381`, `ticket 382`, `drill`, `stores.uploads`, `hf:[0-9a-f]{16}`} {
			if !regexp.MustCompile(want).MatchString(all) {
				t.Errorf("no use with %s: %s", want, all)
			}
		}
		if strings.Contains(all, "AGE-SECRET-KEY") {
			t.Error("the key itself is in the ledger")
		}
	})
	t.Run("ENC-05 the host and its keys are gone", func(t *testing.T) {
		want := treeOf(t, w.uploads)
		var sheet struct{ Sheet string }
		hf(t, "key", "sheet", split.Shares[2].File, "--json").want(t, 0).object(t, &sheet)
		plan, err := os.ReadFile(w.plan())
		if err != nil {
			t.Fatal(err)
		}
		id := regexp.MustCompile(`(?m)^  id: (.*)\n  encrypt_to`).FindStringSubmatch(string(plan))
		for _, gone := range []string{w.dir, w.uploads, w.near} {
			if err := os.RemoveAll(gone); err != nil {
				t.Fatal(err)
			}
		}
		// What is left: one location, one share on a stick, and one on paper that
		// somebody types in, in small letters and with the letter O for the digit.
		_, groups, _ := strings.Cut(sheet.Sheet, "\n\n")
		typed := filepath.Join(w.root, "typed")
		write(t, typed, strings.NewReplacer("0", "o", "1", "l").Replace(strings.ToLower(groups)), 0o600)
		fresh := filepath.Join(w.root, "fresh")
		key := filepath.Join(w.root, "back.age")
		hf(t, "key", "join", "--to", key, typed).refuses(t, 1, "set "+split.Set+": 1 of the 2 shares that are needed", "ask another holder of set "+split.Set)
		if _, err := os.Lstat(key); err == nil {
			t.Error("a key was written from one share")
		}
		hf(t, "key", "join", "--to", key, typed, split.Shares[0].File).want(t, 0)
		text := fmt.Sprintf("apiVersion: holdfast/v1\nplan: {id: last}\nrepository: {id: %s}\nlocations: {offsite: {kind: dir, path: %q}}\n"+
			"stores: {uploads: {kind: files, files: {path: /nowhere}, protect: all}}\nbackups: {all: {every: every 1d, copies: [offsite]}}\n", id[1], w.offsite)
		write(t, filepath.Join(fresh, "plan.yaml"), text, 0o600)
		began := time.Now()
		out := filepath.Join(w.root, "again")
		e := hf(t, "--dir", fresh, "restore", "uploads", "--to", out, "--key", key, "--purpose", "everything is lost", "--json").want(t, 0)
		want.unchanged(t, out)
		var rep map[string]json.RawMessage
		e.object(t, &rep)
		if len(rep["fetch_ns"]) == 0 {
			t.Errorf("no time is recorded: %s", e.out)
		}
		t.Logf("back from two shares and one location in %s", time.Since(began).Round(time.Millisecond))
	})
}

// Keys are replaced three times, by the plan alone; what was made before and after each
// reads with the keys of its time, and with no others.
func TestRotation(t *testing.T) {
	t.Parallel()
	t.Run("ENC-04 older backups stay readable after rotation", func(t *testing.T) {
		w, signers := vaultWorkspace(t)
		pair := []string{filepath.Join(w.dir, "keys", "runner.age"), filepath.Join(w.dir, "keys", "recovery.age")}
		type epoch struct {
			keys     []string
			snapshot string
			content  tree
		}
		var epochs []epoch
		newest := regexp.MustCompile(`snapshot (\S+Z-[0-9a-f]{8})`)
		for i := range 4 {
			if i > 0 { // the content stays as it is but for one file
				next := []string{filepath.Join(w.root, fmt.Sprintf("a%d.age", i)), filepath.Join(w.root, fmt.Sprintf("b%d.age", i))}
				for n, file := range next {
					was, err := os.ReadFile(pair[n])
					if err != nil {
						t.Fatal(err)
					}
					old := regexp.MustCompile(`age1[0-9a-z]+`).FindString(string(was))
					recipient := strings.TrimSpace(hf(t, "key", "create", file).want(t, 0).out)
					edit(t, w.plan(), func(s string) string { return strings.ReplaceAll(s, old, recipient) })
				}
				pair = next
				w.agree(t, signers)
			}
			write(t, filepath.Join(w.uploads, fmt.Sprintf("new-%d.txt", i)), "content\n", 0o644)
			e := w.run(t, "backup", "uploads").want(t, 0)
			m := newest.FindStringSubmatch(e.out)
			if m == nil {
				t.Fatalf("no snapshot is named: %v", e)
			}
			epochs = append(epochs, epoch{pair, m[1], treeOf(t, w.uploads)})
		}
		restore := func(e epoch, key, to string) ending {
			return w.run(t, "restore", "uploads", "--snapshot", e.snapshot, "--key", key, "--to", filepath.Join(w.root, to))
		}
		for i, e := range epochs {
			for n, key := range e.keys {
				to := fmt.Sprintf("back-%d-%d", i, n)
				restore(e, key, to).want(t, 0)
				e.content.unchanged(t, filepath.Join(w.root, to))
			}
			// A key that was taken out reads nothing that is made after it, and a new one
			// nothing that was made before.
			other := epochs[(i+1)%len(epochs)]
			restore(e, other.keys[0], fmt.Sprintf("no-%d", i)).refuses(t, 1, "no key that was given opens", "--key FILE")
		}
	})
}
