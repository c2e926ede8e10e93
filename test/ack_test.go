package test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/notify/notifytest"
)

// A link in a message answers a call: by a press of the button, once, in time, and in the
// name of whom it was sent to. A program that only follows links answers nothing.
func TestAnswerByLink(t *testing.T) {
	t.Parallel()
	sink := notifytest.Start(t, notifytest.Options{TLS: "starttls", Password: mailPassword})
	w := told(t, sink, "  ack_within: 1d\n  gather: 1s\n  link: \"https://holdfast.example.com:8443\"\n")
	w.run(t, "backup", "uploads").want(t, 0)
	w.breakCopies(t)
	s := serve(t, w.dir)
	w.run(t, "backup", "uploads")
	const failed = "Backup of uploads failed"
	link := regexp.MustCompile(`https://holdfast\.example\.com:8443(/ack/\S+)`)
	until(t, "the mail", func() bool { return len(lettersOn(letters(t, sink), failed)["founder-b"]) > 0 })
	m := link.FindStringSubmatch(lettersOn(letters(t, sink), failed)["founder-b"][0].text)
	if m == nil {
		t.Fatal("the mail holds no link")
	}
	ask := func(method, path string, form url.Values) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, s.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	type call struct {
		ID              int
		State, By, Note string
	}
	calls := func() (cs []call) {
		t.Helper()
		w.run(t, "oncall", "list", "--json").want(t, 0).object(t, &cs)
		return cs
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} {
		if status, _ := ask(method, m[1], nil); status != http.StatusOK {
			t.Errorf("%s: %d", method, status)
		}
	}
	if cs := calls(); len(cs) != 1 || cs[0].State != "open" {
		t.Fatalf("looking at the link answered: %+v", cs)
	}
	for _, forged := range []string{"/ack/x", m[1] + "x", m[1][:len(m[1])-1]} {
		if status, _ := ask(http.MethodPost, forged, url.Values{}); status != http.StatusNotFound {
			t.Errorf("%s: %d", forged, status)
		}
	}
	if status, page := ask(http.MethodPost, m[1], url.Values{"note": {"on my way"}}); status != http.StatusOK || !strings.Contains(page, "It is recorded") {
		t.Fatalf("%d %s", status, page)
	}
	if cs := calls(); len(cs) != 1 || cs[0].State != "answered" || cs[0].By != "founder-b" || !strings.Contains(cs[0].Note, "on my way (by the link") {
		t.Errorf("%+v", cs)
	}
	if status, page := ask(http.MethodPost, m[1], url.Values{}); status != http.StatusForbidden || !strings.Contains(page, "was used") {
		t.Errorf("used twice: %d %s", status, page)
	}
	s.stop(t)

	// The next day it offers nothing any more.
	later(t, 40*time.Hour)
	s = serve(t, w.dir)
	if _, page := ask(http.MethodGet, m[1], nil); !strings.Contains(page, "was used") || strings.Contains(page, "<button") {
		t.Errorf("a link that was used offers its button: %s", page)
	}
}

// What reaches nobody stands in the status and in what is scraped.
func TestUndeliveredIsShown(t *testing.T) {
	t.Parallel()
	sink := notifytest.Start(t, notifytest.Options{TLS: "starttls", Password: mailPassword})
	w := told(t, sink, "  gather: 1s\n")
	w.run(t, "backup", "uploads").want(t, 0)
	edit(t, w.plan(), func(s string) string {
		return regexp.MustCompile(`port: \d+, user`).ReplaceAllString(s, "port: 1, user")
	})
	w.breakCopies(t)
	s := serve(t, w.dir)
	w.run(t, "backup", "uploads")
	until(t, "a message that waits", func() bool {
		var ms []struct{ State string }
		w.run(t, "message", "list", "--state", "waiting", "--json").object(t, &ms)
		return len(ms) > 0
	})
	if e := w.run(t, "status"); strings.Contains(e.out, "HF-M1") {
		t.Errorf("told at once: %v", e)
	}
	s.stop(t)
	later(t, time.Hour)
	s = serve(t, w.dir)
	if e := w.run(t, "status").want(t, 3); !strings.Contains(e.out, "HF-M1") || !strings.Contains(e.out, "undelivered") {
		t.Errorf("%v", e)
	}
	res, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !regexp.MustCompile(`(?m)^holdfast_messages_waiting [1-9]`).Match(b) || !strings.Contains(string(b), "holdfast_messages_urgent_undelivered_timestamp_seconds ") {
		t.Errorf("%v %s", err, b)
	}
}
