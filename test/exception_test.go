package test

import (
	"slices"
	"strings"
	"testing"
)

// standingOf is the posture of a store and of its two objectives some days from now.
func (w workspace) standingOf(t *testing.T, days int, store string) (posture, rto, rpo, why string) {
	t.Helper()
	var v struct {
		Stores []struct {
			ID, Posture string
			RTO, RPO    struct{ Posture, Why string }
		}
	}
	w.on(t, days, "status", "--json").object(t, &v)
	for _, s := range v.Stores {
		if s.ID == store {
			return s.Posture, s.RTO.Posture, s.RPO.Posture, s.RTO.Why
		}
	}
	t.Fatalf("no store %q", store)
	return "", "", "", ""
}

// found are the findings of a check with a code about something, by severity.
func (w workspace) found(t *testing.T, days int, code, subject string, args ...string) (severity, message string) {
	t.Helper()
	var v struct {
		Findings []struct{ Code, Severity, Subject, Message string }
	}
	w.on(t, days, append([]string{"check", "--json"}, args...)...).object(t, &v)
	for _, f := range v.Findings {
		if f.Code == code && f.Subject == subject {
			return f.Severity, f.Message
		}
	}
	return "", ""
}

// covered is how far an item is protected some days from now.
func (w workspace) covered(t *testing.T, days int, id string) string {
	t.Helper()
	var c struct{ Items []struct{ ID, State string } }
	w.on(t, days, "status", "--coverage", "--json").object(t, &c)
	i := slices.IndexFunc(c.Items, func(x struct{ ID, State string }) bool { return x.ID == id })
	if i < 0 {
		t.Fatalf("%s is not in the inventory: %+v", id, c)
	}
	return c.Items[i].State
}

// An exception that people sign while the system runs counts wherever one of the plan does,
// for what it names and for nothing else, and is over on its day.
func TestApprovedExceptionsCountEverywhere(t *testing.T) {
	t.Parallel()
	const bare = "stores.bare"
	w, keys := vaultWorkspace(t)
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, "\nstores:\n", "\nstores:\n  bare: {kind: files, tier: critical, owner: technical_lead, class: internal, files: {path: \""+w.uploads+"/none\"}}\n", 1)
	})
	w.run(t, "backup", "uploads").want(t, 0)
	before := func(days int) {
		t.Helper()
		if severity, _ := w.found(t, days, "HF-L11", bare); severity != "error" {
			t.Errorf("check: %q", severity)
		}
		if s := w.covered(t, days, "bare"); s != "uncovered" {
			t.Errorf("coverage: %q", s)
		}
		if posture, rto, rpo, _ := w.standingOf(t, days, "bare"); posture != "failed" || rpo != "failed" || rto == "excepted" {
			t.Errorf("posture %s, rto %s, rpo %s", posture, rto, rpo)
		}
		if _, rto, _, why := w.standingOf(t, days, "uploads"); rto != "unknown" || strings.Contains(why, "exception") {
			t.Errorf("rto of uploads: %s: %s", rto, why)
		}
	}
	before(0)
	w.excepts(t, keys, "HF-L11", bare)
	w.excepts(t, keys, "HF-O04", "stores.uploads.rto")

	if severity, message := w.found(t, 0, "HF-L11", bare); severity != "note" || !strings.Contains(message, "EX-0001") {
		t.Errorf("check: %s: %s", severity, message)
	}
	for _, alone := range [][]string{{"--plan-only"}, {w.plan()}} {
		if severity, _ := w.found(t, 0, "HF-L11", bare, alone...); severity != "error" {
			t.Errorf("the plan alone, %q: %s", alone, severity)
		}
	}
	if s := w.covered(t, 0, "bare"); s != "excepted" {
		t.Errorf("coverage: %q", s)
	}
	if posture, rto, rpo, _ := w.standingOf(t, 0, "bare"); posture != "excepted" || rto != "excepted" || rpo != "excepted" {
		t.Errorf("posture %s, rto %s, rpo %s", posture, rto, rpo)
	}
	// Of uploads only the one objective, with what it would be.
	if _, rto, rpo, why := w.standingOf(t, 0, "uploads"); rto != "excepted" || rpo == "excepted" || !strings.Contains(why, "EX-0002") || !strings.Contains(why, "without it unknown: ") {
		t.Errorf("rto %s: %s; rpo %s", rto, why, rpo)
	}
	if e := w.run(t, "explain", "stores.uploads.rto"); !strings.Contains(strings.Join(strings.Fields(e.out), " "), "exception EX-0002 until") {
		t.Errorf("%v", e)
	}
	// The same through the server that runs.
	s := serve(t, w.dir)
	if severity, _ := w.found(t, 0, "HF-L11", bare); severity != "note" {
		t.Errorf("check beside the server: %s", severity)
	}
	s.stop(t)
	// The day comes, and everything is as before.
	before(190)
}
