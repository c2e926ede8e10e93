package test

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/notify/notifytest"
)

const mailPassword = "the long password of the mail account"

// told makes a workspace with one folder whose people are reached by a mail server. The
// person responsible for the folder is founder-b, and then founder-a.
func told(t *testing.T, s *notifytest.Sink, more string) workspace {
	t.Helper()
	w := filesOnly(t)
	secret := filepath.Join(w.root, "mail-password")
	write(t, secret, mailPassword+"\n", 0o600)
	edit(t, w.plan(), func(text string) string {
		for _, p := range []string{"a", "b"} {
			text = strings.Replace(text, `{name: "Founder `+strings.ToUpper(p)+`"}`, `{name: "Founder `+strings.ToUpper(p)+`", email: founder-`+p+`@example.com}`, 1)
		}
		return text + fmt.Sprintf(`
messages:
  channels:
    mail: {kind: mail, mail: {host: 127.0.0.1, port: %d, user: holdfast, password_file: %q, from: "Holdfast <holdfast@example.com>", ca_file: %q}}
%s`, s.Port, secret, s.CAFile, more)
	})
	w.run(t, "location", "init", "--all").want(t, 0)
	return w
}

// A letter is a mail as its reader sees it.
type letter struct {
	to, id, subject, text string
}

func letters(t *testing.T, s *notifytest.Sink) (out []letter) {
	t.Helper()
	for _, m := range s.Mails() {
		if m.User != "holdfast" || !m.TLS {
			t.Errorf("a mail came without log-in or encryption: %s", m.Raw)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Body)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, letter{strings.Join(m.To, ","), m.Header.Get("Message-ID"), m.Header.Get("Subject"), string(b)})
	}
	return out
}

// lettersOn are the letters whose text or subject holds an expression, by receiver.
func lettersOn(ls []letter, re string) map[string][]letter {
	out := map[string][]letter{}
	for _, l := range ls {
		if regexp.MustCompile(re).MatchString(l.subject + "\n" + l.text) {
			to, _, _ := strings.Cut(l.to, "@")
			out[to] = append(out[to], l)
		}
	}
	return out
}

// breakCopies makes every location refuse what is new, and returns how to mend them.
func (w workspace) breakCopies(t *testing.T) (mend func()) {
	t.Helper()
	for _, dir := range []string{w.near, w.offsite} {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "no folder", 0o600)
	}
	return func() {
		for _, dir := range []string{w.near, w.offsite} {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	t.Run("MON-02 a failure is told to who is responsible, and to the next when nobody answers", func(t *testing.T) {
		t.Parallel()
		sink := notifytest.Start(t, notifytest.Options{TLS: "starttls", Password: mailPassword})
		w := told(t, sink, "  ack_within: 30m\n  gather: 2s\n")
		w.run(t, "backup", "uploads").want(t, 0)
		mend := w.breakCopies(t)
		const failed = "Backup of uploads (failed|did not happen)"
		began := time.Now()
		s := serve(t, w.dir)
		w.run(t, "backup", "uploads")
		until(t, "the first mail", func() bool { return len(lettersOn(letters(t, sink), failed)["founder-b"]) > 0 })
		t.Logf("told %s after the failure", time.Since(began).Round(time.Second))
		if n := len(lettersOn(letters(t, sink), failed)["founder-a"]); n != 0 {
			t.Errorf("the second person was told at once, %d times", n)
		}
		s.stop(t)

		// Half an hour later nobody has answered.
		later(t, 31*time.Minute)
		s = serve(t, w.dir)
		until(t, "the mail to the next person", func() bool { return len(lettersOn(letters(t, sink), failed)["founder-a"]) > 0 })
		l := lettersOn(letters(t, sink), failed)["founder-a"][0]
		if !strings.Contains(l.text, "called before and no answer: founder-b") || !strings.Contains(l.text, "oncall ack CALL-") {
			t.Errorf("the mail does not say what happened before and what to do: %s", l.text)
		}
		w.run(t, "oncall", "ack", "--all", "--by", "founder-c").want(t, 4)
		w.run(t, "oncall", "ack", "--all", "--by", "founder-a", "--note", "on it").want(t, 0)
		var calls []struct {
			ID        int
			State, By string
			Told      []string
		}
		w.run(t, "oncall", "list", "--json").want(t, 0).object(t, &calls)
		for _, c := range calls {
			if c.State != "answered" || c.By != "founder-a" {
				t.Errorf("%+v", c)
			}
		}
		s.stop(t)
		was := len(lettersOn(letters(t, sink), failed)["founder-b"])

		// Somebody sees to it: an hour later nobody else is called for that, and when it is
		// mended, both are told.
		later(t, 95*time.Minute)
		mend()
		s = serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		until(t, "the news that it is over", func() bool {
			over := lettersOn(letters(t, sink), `CALL-\d+ is over`)
			return len(over["founder-a"]) > 0 && len(over["founder-b"]) > 0
		})
		for _, l := range lettersOn(letters(t, sink), failed)["founder-b"][was:] {
			if strings.Contains(l.text, "CALL-1: ") {
				t.Errorf("called again after the answer: %s", l.text)
			}
		}

		// What was sent is what is recorded, and no secret is anywhere.
		var sent []struct{ ID, State, Person string }
		until(t, "every message to be handed over", func() bool {
			w.run(t, "message", "list", "--json").want(t, 0).object(t, &sent)
			return !slices.ContainsFunc(sent, func(m struct{ ID, State, Person string }) bool { return m.State == "waiting" })
		})
		ids := map[string]bool{}
		for _, l := range letters(t, sink) {
			ids[l.id] = true
		}
		for _, m := range sent {
			if m.State == "handed" && !ids["<"+m.ID+"@example.com>"] || m.State == "failed" {
				t.Errorf("the record says %s of %s, and the mail server does not", m.State, m.ID)
			}
		}
		if len(ids) > len(sent) {
			t.Errorf("%d mails, %d on record", len(ids), len(sent))
		}
		for path, text := range treeOf(t, filepath.Join(w.dir, "state")) {
			if strings.Contains(text, mailPassword) {
				t.Errorf("%s holds the password", path)
			}
		}
		if strings.Contains(s.err.String(), mailPassword) {
			t.Error("the log holds the password")
		}
	})
}
