package test

import (
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/notify/notifytest"
	"holdfast/internal/seal"
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
		t.Run("COM-09 the log of who was told what, when and by which channel is what arrived", func(t *testing.T) {
			type sent struct {
				ID, State, Person, Channel, Subject string
				Settled                             time.Time
			}
			var all []sent
			until(t, "every message to be handed over", func() bool {
				w.run(t, "message", "list", "--json").want(t, 0).object(t, &all)
				return !slices.ContainsFunc(all, func(m sent) bool { return m.State == "waiting" })
			})
			arrived := map[string]letter{}
			for _, l := range letters(t, sink) {
				arrived[l.id] = l
			}
			handed := 0
			for _, m := range all {
				l, came := arrived["<"+m.ID+"@example.com>"]
				if came != (m.State == "handed") {
					t.Errorf("%s is %s on record; it came: %t", m.ID, m.State, came)
				}
				if !came {
					continue
				}
				if handed++; l.to != m.Person+"@example.com" || l.subject != m.Subject || m.Channel != "mail" || m.Settled.IsZero() {
					t.Errorf("on record %+v, arrived %+v", m, l)
				}
			}
			if handed != len(arrived) {
				t.Errorf("%d arrived, %d on record", len(arrived), handed)
			}
		})
		for path, text := range treeOf(t, filepath.Join(w.dir, "state")) {
			if strings.Contains(text, mailPassword) {
				t.Errorf("%s holds the password", path)
			}
		}
		if strings.Contains(s.err.String(), mailPassword) {
			t.Error("the log holds the password")
		}
	})
	t.Run("MON-10 the server is killed, and somebody outside notices", func(t *testing.T) {
		t.Parallel()
		sink := notifytest.Start(t, notifytest.Options{TLS: "tls", Password: mailPassword})
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		beat := fmt.Sprintf("http://127.0.0.1:%d/", port)
		elsewhere := place(t)
		secret := filepath.Join(elsewhere, "secret")
		write(t, secret, strings.Repeat("heartbeat ", 4), 0o600)
		w := told(t, sink, fmt.Sprintf("  heartbeat: {webhook: {url: %q, private: true, secret_file: %q}, every: 1s}\n", beat, secret))
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "from: \"Holdfast", "tls: tls, from: \"Holdfast", 1) })
		copied := filepath.Join(elsewhere, "plan.yaml")
		write(t, copied, treeOf(t, w.dir)["plan.yaml"], 0o600)
		watch := &daemon{args: []string{"watch", "--plan", copied, "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--within", "6s"}}
		server := &daemon{args: []string{"--dir", w.dir, "serve", "--listen", "127.0.0.1:0"}}
		silent := func() map[string][]letter { return lettersOn(letters(t, sink), "is silent") }
		heard := func() bool {
			return strings.Contains(treeOf(t, elsewhere)["watch.json"], `"any":true`) || len(silent()) > 0
		}

		server.start(t)
		t.Cleanup(func() { server.end(t, syscall.SIGTERM) })
		watch.start(t)
		t.Cleanup(func() { watch.end(t, syscall.SIGTERM) })
		until(t, "the watch to listen", func() bool { return strings.Contains(watch.out.String(), "heartbeats at") })
		res, err := http.Post(beat, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden || heard() && len(silent()) > 0 {
			t.Errorf("a heartbeat that nobody signed was answered with %s", res.Status)
		}

		server.end(t, syscall.SIGKILL)
		began := time.Now()
		both := func(of map[string][]letter) bool { return len(of["founder-a"]) > 0 && len(of["founder-b"]) > 0 }
		until(t, "both people to be told", func() bool { return both(silent()) })
		t.Logf("told %s after the kill", time.Since(began).Round(time.Second))

		// The watch is killed too: the same silence is not told twice.
		watch.end(t, syscall.SIGKILL)
		watch.start(t)
		server.start(t)
		until(t, "the news that it is heard again", func() bool { return both(lettersOn(letters(t, sink), "heard again")) })
		for to, ls := range silent() {
			if len(ls) != 1 || !strings.Contains(ls[0].subject, "URGENT") {
				t.Errorf("%s was told %d times: %+v", to, len(ls), ls)
			}
		}
		if strings.Contains(watch.out.String(), mailPassword) || strings.Contains(watch.out.String(), "heartbeat heartbeat") {
			t.Error("a secret is in the log of the watch")
		}
	})
	t.Run("a receiver of events gets each fact that it asked for, signed, and again on request", func(t *testing.T) {
		t.Parallel()
		const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		key, err := seal.ParseHookSecret(secretText)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got := map[string][]string{} // ids by type
		receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil || key.Verify(r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), b, time.Now()) != nil {
				t.Errorf("a request that does not verify: %v %s", err, b)
			}
			var e struct {
				Type string
				Data struct{ Type, Subject string }
			}
			if err := json.Unmarshal(b, &e); err != nil || e.Type != e.Data.Type || e.Data.Subject == "" {
				t.Errorf("%v: %s", err, b)
			}
			mu.Lock()
			defer mu.Unlock()
			got[e.Type] = append(got[e.Type], r.Header.Get("webhook-id"))
		}))
		defer receiver.Close()
		w := filesOnly(t)
		secret := filepath.Join(w.root, "hook")
		write(t, secret, secretText, 0o600)
		edit(t, w.plan(), func(s string) string {
			return s + fmt.Sprintf("messages:\n  channels:\n    desk: {kind: webhook, webhook: {url: %q, private: true, secret_file: %q}, events: [\"backup.snap*\", plan.in-force]}\n", receiver.URL+"/in", secret)
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		count := func(kind string) int {
			mu.Lock()
			defer mu.Unlock()
			return len(got[kind])
		}
		until(t, "both facts", func() bool { return count("plan.in-force") > 0 && count("backup.snapshot") > 0 })
		mu.Lock()
		id := got["plan.in-force"][0]
		if len(got) != 2 {
			t.Errorf("more than was asked for: %v", got)
		}
		mu.Unlock()
		w.run(t, "message", "resend", id, "--by", "founder-a").want(t, 0)
		until(t, "it to come again", func() bool { return count("plan.in-force") == 2 })
		mu.Lock()
		defer mu.Unlock()
		if again := got["plan.in-force"][1]; again != id {
			t.Errorf("it came again as %s, and was %s", again, id)
		}
	})
}
