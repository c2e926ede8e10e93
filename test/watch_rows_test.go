package test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watches are the findings of looks that nobody did.
func (w workspace) watches(t *testing.T) (out []string) {
	t.Helper()
	var o struct{ Findings []finding }
	w.run(t, "status", "--json").object(t, &o)
	for _, f := range o.Findings {
		if f.Code == "HF-G5" {
			out = append(out, f.Message)
		}
	}
	return out
}

func TestWatchRows(t *testing.T) {
	t.Parallel()
	t.Run("BKP-22 two days without a look leave two findings, and a good day an automatic all-clear", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "uploads-drill: {of: [uploads], every: 1w", "uploads-drill: {of: [uploads], every: 1y", 1)
			return s + "reviews:\n  daily: {every: 1d, by: [technical_lead], all_clear: true, text: \"look at the jobs of the day\"}\n"
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		s := serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		s.stop(t)
		if d := w.owed(t, 0)["reviews.daily"]; d.State != "expected" && d.State != "due" {
			t.Fatalf("nothing is expected ahead: %+v", d)
		}
		// Nobody runs anything and nobody looks, for two days and a little.
		later(t, 48*time.Hour+10*time.Minute)
		s = serve(t, w.dir)
		until(t, "two findings", func() bool { return len(w.watches(t)) == 2 })
		var all []duty
		w.run(t, "review", "list", "--all", "--json").object(t, &all)
		missed := ""
		for _, d := range all {
			if d.Name == "reviews.daily" && d.State == "missed" {
				missed = d.ID
			}
			if d.Name == "reviews.daily" && d.State == "done" {
				t.Errorf("a machine that was away gave an all-clear: %+v", d)
			}
		}
		// Somebody accounts for the day, and then for the other; only who was to look may.
		w.run(t, "review", "done", missed, "--by", "founder-b").want(t, 4)
		w.run(t, "review", "done", missed, "--by", "founder-b", "--note", "the server was down").want(t, 0)
		until(t, "one finding", func() bool { return len(w.watches(t)) == 1 })
		w.run(t, "review", "done", "reviews.daily", "--by", "founder-b", "--note", "backups were missed, none is lost").want(t, 0)
		if left := w.watches(t); len(left) != 0 {
			t.Errorf("%q", left)
		}
		w.run(t, "backup", "uploads").want(t, 0)
		s.stop(t)
	})
	t.Run("BKP-23 a failure ends with a cause, and not before a good run of the same item", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0)
		w.owed(t, 0)
		mend := w.breakCopies(t)
		w.run(t, "backup", "uploads").want(t, 1)
		const name = "failure.stores.uploads"
		d, ok := w.owed(t, 0)[name]
		if !ok || !strings.Contains(d.Cause, "failed at") {
			t.Fatalf("a failure is not tracked: %+v", d)
		}
		done := func(note string, status int, says string) {
			t.Helper()
			if e := w.run(t, "review", "done", name, "--by", "founder-b", "--note", note).want(t, status); !strings.Contains(e.errout, says) {
				t.Errorf("it does not say %q: %v", says, e)
			}
		}
		done("the disk was full", 4, "no good run")
		mend()
		done("the disk was full", 4, "no good run") // mended is not shown yet
		w.run(t, "backup", "uploads").want(t, 0)
		done("", 4, "ends with a cause")
		// It fails again before anybody ended it: the good run of before does not count.
		mend = w.breakCopies(t)
		w.run(t, "backup", "uploads").want(t, 1)
		done("the disk was full", 4, "no good run")
		mend()
		w.run(t, "backup", "uploads").want(t, 0)
		done("the disk was full; alerts at 80 % now", 0, "")
		if _, open := w.owed(t, 0)[name]; open {
			t.Error("it is still open")
		}
	})
	t.Run("MON-08 results are signed off by the named role, and a missing sign-off is flagged", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			return s + "reviews:\n  results: {every: 1w, by: [incident_commander], of: results, text: \"sign off jobs, tests and incidents\"}\n"
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0)
		w.owed(t, 0)
		d := w.owed(t, 7)["reviews.results"]
		if d.State != "overdue" || len(d.Items) != 4 {
			t.Fatalf("%+v", d)
		}
		for i, part := range []string{"period ", "jobs: ", "tests: ", "incidents: "} {
			if !strings.HasPrefix(d.Items[i], part) {
				t.Errorf("item %d is %q", i, d.Items[i])
			}
		}
		if e := w.on(t, 7, "status").want(t, 3); !strings.Contains(e.out, "HF-G5") {
			t.Errorf("a missing sign-off is no finding: %v", e)
		}
		w.on(t, 7, "review", "done", "reviews.results", "--by", "founder-c").want(t, 4)
		w.on(t, 7, "review", "done", "reviews.results", "--by", "founder-a", "--note", "read").want(t, 0)
		if e := w.on(t, 7, "status"); strings.Contains(e.out, "HF-G5") {
			t.Errorf("%v", e)
		}
		if e := w.on(t, 15, "status").want(t, 3); !strings.Contains(e.out, "HF-G5") {
			t.Errorf("the next one is not flagged: %v", e)
		}
	})
	t.Run("PER-04 each key person shows again and again that their administrator access works", func(t *testing.T) {
		t.Parallel()
		w := peopled(t)
		edit(t, w.plan(), func(s string) string {
			for _, p := range []string{"A", "B"} {
				s = strings.Replace(s, `{name: "Founder `+p+`"`, `{access_check: 30d, name: "Founder `+p+`"`, 1)
			}
			return s
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		s := serve(t, w.dir)
		a := newVisitor(t, "founder-a", s.url)
		a.enrol(s.firstLink(t))
		b := newVisitor(t, "founder-b", s.url)
		b.enrol(w.link(t, "invite", "founder-b", "--role", "administrator"))
		s.stop(t)
		checks := func() map[string]string {
			out := map[string]string{}
			for name, d := range w.owed(t, 0) {
				if who, ok := strings.CutPrefix(name, "access."); ok {
					out[who] = d.State
				}
			}
			return out
		}
		if c := checks(); c["founder-a"] != "expected" || c["founder-b"] != "expected" {
			t.Fatalf("%v", c)
		}
		// A month later one logs in with the second factor; the other tries and has none.
		const ahead = 29 * 24 * time.Hour
		later(t, ahead)
		s = serve(t, w.dir)
		a.base, a.ahead, b.base, b.ahead = s.url, ahead, s.url, ahead
		if c := checks(); c["founder-a"] != "due" || c["founder-b"] != "due" {
			t.Errorf("%v", c)
		}
		a.logIn(secretPhrase, a.code())
		b.logIn(secretPhrase, "000000")
		b.logIn(secretPhrase, b.codes[0]) // a recovery code shows nothing of the second factor
		until(t, "the one who showed it", func() bool { return checks()["founder-a"] == "expected" })
		w.run(t, "review", "done", "access.founder-b", "--by", "founder-b", "--note", "it works").want(t, 4)
		s.stop(t)
		later(t, 31*24*time.Hour)
		if c := checks(); c["founder-b"] != "overdue" || c["founder-a"] != "expected" {
			t.Errorf("%v", c)
		}
		if e := w.run(t, "status").want(t, 3); !strings.Contains(e.out, "your own administrator access") {
			t.Errorf("the failure is no finding: %v", e)
		}
	})
}

func TestReportRows(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	t.Run("EVD-10 outputs lists all seven, each generated and dated", func(t *testing.T) {
		type output struct {
			Name, File, Digest, By string
			Generated              time.Time
		}
		var os []output
		w.run(t, "outputs", "--json").want(t, 3).object(t, &os)
		if len(os) != 7 || !os[0].Generated.IsZero() {
			t.Fatalf("%+v", os)
		}
		dir := filepath.Join(w.root, "out")
		w.run(t, "outputs", "--out", dir, "--by", "nobody").want(t, 4)
		began := time.Now().Add(-time.Second)
		w.run(t, "outputs", "--out", dir, "--by", "founder-a").want(t, 0)
		w.run(t, "outputs", "--out", dir, "--by", "founder-a").want(t, 4)
		w.run(t, "outputs", "--json").want(t, 0).object(t, &os)
		files := treeOf(t, dir)
		for _, o := range os {
			if h := sha256.Sum256([]byte(files[o.File])); o.Generated.Before(began) || o.By != "founder-a" || o.Digest != fmt.Sprintf("sha256:%x", h) {
				t.Errorf("%+v; the file has %x", o, h)
			}
		}
		for file, says := range map[string]string{"configuration.json": `"store": "uploads"`, "job-records.csv": "stores.uploads,backup.snapshot", "encryption.json": "AES-256-GCM", "access.json": `"people"`,
			"restore-tests.json": `"generated"`, "objectives.json": `"generated"`, "policy.md": "uploads"} {
			if !strings.Contains(files[file], says) {
				t.Errorf("%s does not hold %q:\n%.500s", file, says, files[file])
			}
		}
	})
	t.Run("MON-09 what drills measured is a series against the promise", func(t *testing.T) {
		for range 3 {
			w.run(t, "drill", "uploads")
		}
		var drills []struct {
			ID    string
			State string
			Parts []struct {
				Duration int64 `json:"duration_ns"`
			}
		}
		w.run(t, "drill", "list", "--json").object(t, &drills)
		var ss []struct {
			Item, Metric, Declared string
			Limit                  float64 `json:"limit_seconds"`
			Trends                 map[string]string
			Points                 []struct {
				At      time.Time
				Source  string
				Value   float64 `json:"value_seconds"`
				Limit   float64 `json:"limit_seconds"`
				Verdict string
			}
		}
		w.run(t, "trend", "stores.uploads", "--json").object(t, &ss)
		seen := map[string]bool{}
		for _, s := range ss {
			seen[s.Metric] = true
			if s.Item != "stores.uploads" || len(s.Points) != 3 || s.Limit == 0 {
				t.Errorf("%+v, of %d drills", s, len(drills))
				continue
			}
			for i, p := range s.Points {
				if p.Limit != s.Limit || p.Verdict == "" || !strings.HasPrefix(p.Source, "drill ") || i > 0 && p.At.Before(s.Points[i-1].At) {
					t.Errorf("%+v", p)
				}
			}
			if s.Trends["drill"] == "" {
				t.Errorf("no trend: %+v", s)
			}
		}
		if !seen["rto"] || !seen["rpo"] {
			t.Errorf("%+v", ss)
		}
	})
}
