package test

import (
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMetricRows(t *testing.T) {
	t.Parallel()
	t.Run("EVD-14 what a person attested stands as attested in the pack, as in explain", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, `"iso27001/A.8.13": [uploads-drill]`, `"iso27001/A.8.13": ["review:backups", "review:never"]`, 1) + `
reviews:
  backups: {every: 1q, by: [technical_lead], text: "what the backups did"}
  never: {every: 1q, by: [technical_lead], text: "what nobody looks at"}
`
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0) // takes the plan into force
		w.owed(t, 0)
		w.run(t, "review", "done", "reviews.backups", "--by", "founder-b", "--note", "all well").want(t, 0)
		pack := filepath.Join(w.root, "e.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		controls := unzip(t, pack)["controls.csv"]
		for _, want := range []string{"unknown", "review backups: attested by founder-b on ", "review never: nothing is on record", "0 proved by a machine, 1 attested by a person, 0 claimed"} {
			if !strings.Contains(controls, want) {
				t.Errorf("the pack lacks %q:\n%s", want, controls)
			}
		}
		var x struct{ Posture string }
		w.run(t, "explain", "controls.iso27001/A.8.13", "--json").want(t, 0).object(t, &x)
		if x.Posture != "unknown" {
			t.Errorf("explain calls it %q", x.Posture)
		}
	})
	t.Run("MON-15 a metric is data: formula, frequency, owner and recipients", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			s = regexp.MustCompile(`uploads-drill: \{of: \[uploads\], every: 1w`).ReplaceAllString(s, "uploads-drill: {of: [uploads], every: 1d")
			return strings.Replace(s, `"iso27001/A.8.13": [uploads-drill]`, `"iso27001/A.8.13": ["metric:backup-success"]`, 1) + `
metrics:
  backup-success: {owner: technical_lead, every: 1mo, formula: backup-success, target: ">= 99%", to: [incident_commander]}
  restore-success: {owner: technical_lead, every: 1q, formula: restore-success, target: "100%", to: [incident_commander]}
  backup-incidents: {owner: technical_lead, every: 1q, formula: backup-incidents, to: [incident_commander]}
  exceptions: {owner: technical_lead, every: 1q, formula: exceptions, to: [founder-a]}
`
		})
		w.run(t, "backup", "uploads").want(t, 0) // takes the plan into force
		w.excepts(t, keys, "HF-L11", "stores.uploads")
		type value struct {
			ID, Name, Owner, Formula, State, Why string
			Recipients                           []string
			From, Until                          time.Time
			Value                                *float64
			N                                    float64
			Counts                               map[string]float64
			Met                                  *bool
		}
		metrics := func(days int) (all []value, of map[string][]value) {
			t.Helper()
			w.on(t, days, "metric", "list", "--json").object(t, &all)
			of = map[string][]value{}
			for _, v := range all {
				of[v.Name] = append(of[v.Name], v)
			}
			return all, of
		}
		if e := w.run(t, "metric", "list", "--json").want(t, 0); !strings.Contains(e.out, "restore-success") {
			t.Fatalf("%v", e)
		}
		if all, _ := metrics(0); len(all) != 4 || all[0].State != "open" || all[0].Until.Before(time.Now()) {
			t.Fatalf("nothing is expected ahead: %+v", all)
		}
		s := serve(t, w.dir) // writes down what it expects
		until(t, "the schedules", func() bool {
			return w.run(t, "status", "--json").status != 1
		})
		s.stop(t)
		// On two days somebody runs the server, and on all others nobody does.
		for i, d := range []int{1, 3} {
			later(t, time.Duration(d)*24*time.Hour)
			s := serve(t, w.dir)
			until(t, "a backup in time", func() bool {
				_, of := metrics(d)
				done := 0.0
				for _, v := range of["backup-success"] {
					done += v.Counts["backups.done"]
				}
				return done == float64(i+1)
			})
			s.stop(t)
			clocks.Delete(t.Name())
		}
		// A quarter is over, and nobody computed anything: status says so.
		if e := w.on(t, 190, "status"); !strings.Contains(e.out, "HF-G3") {
			t.Errorf("an overdue metric is no finding: %v", e)
		}
		_, of := metrics(190)
		ended := func(name string) (out []value) {
			for _, v := range of[name] {
				if v.State != "open" {
					out = append(out, v)
				}
			}
			return out
		}
		t.Run("MON-03 the backup success rate counts the runs that were missed", func(t *testing.T) {
			months, done := ended("backup-success"), 0.0
			if len(months) < 6 {
				t.Fatalf("%d months in 190 days", len(months))
			}
			for i, m := range months {
				done += m.Counts["backups.done"]
				days := math.Round(m.Until.Sub(m.From).Hours() / 24)
				if i > 0 && m.Counts["backups.expected"] != days {
					t.Errorf("%s: %v backups were expected in %v days", m.ID, m.Counts["backups.expected"], days)
				}
				if m.Counts["backups.expected"] == 0 {
					continue // it came into force on the last day of a month
				}
				if want := 100 * m.Counts["backups.done"] / m.Counts["backups.expected"]; m.Value == nil || *m.Value != want || m.N != m.Counts["backups.expected"] || m.Met == nil || *m.Met {
					t.Errorf("%s: %+v, want %v", m.ID, m, want)
				}
			}
			if done != 2 {
				t.Errorf("%v done, on two days", done)
			}
		})
		t.Run("MON-04 restore success counts the drills that were missed", func(t *testing.T) {
			quarters, done, expected := ended("restore-success"), 0.0, 0.0
			for _, q := range quarters {
				done, expected = done+q.Counts["drills.done"], expected+q.N
				if q.Value == nil || *q.Value != 100*q.Counts["drills.done"]/q.N || *q.Met {
					t.Errorf("%+v", q)
				}
			}
			if len(quarters) < 2 || done > 2 || expected < 90 {
				t.Errorf("%v of %v in %d quarters", done, expected, len(quarters))
			}
		})
		t.Run("MON-05 the number of backup incidents is that of the incidents", func(t *testing.T) {
			var is []struct {
				Kind       string
				DetectedAt time.Time `json:"detected_at"`
			}
			w.on(t, 190, "incident", "list", "--json").object(t, &is)
			for _, q := range ended("backup-incidents") {
				want := 0.0
				for _, i := range is {
					if (strings.HasPrefix(i.Kind, "backup-") || i.Kind == "log-gap") && !i.DetectedAt.Before(q.From) && i.DetectedAt.Before(q.Until) {
						want++
					}
				}
				if q.Value == nil || *q.Value != want {
					t.Errorf("%+v, of %v incidents", q, want)
				}
			}
		})
		t.Run("MON-06 the number of exceptions is that of the register", func(t *testing.T) {
			var es []struct{ ID string }
			w.on(t, 190, "exception", "list", "--json").object(t, &es)
			if first := ended("exceptions")[0]; len(es) != 1 || *first.Value != 1 || first.Counts["exceptions.listed"] != 1 || first.Recipients[0] != "founder-a" || first.Owner != "technical_lead" {
				t.Errorf("%+v, the register has %d", first, len(es))
			}
		})
		if e := w.on(t, 190, "status"); strings.Contains(e.out, "HF-G3") || !strings.Contains(e.out, "HF-G4") {
			t.Errorf("the missed target is no finding: %v", e)
		}
		pack := filepath.Join(w.root, "m.zip")
		w.on(t, 190, "evidence", "export", "--from", "2020-01-01", "--out", pack).want(t, 0) // until now, by the clock of then
		files := unzip(t, pack)
		if rows := strings.Count(files["populations/metrics.csv"], "backup-success,technical_lead,incident_commander,"); rows != len(ended("backup-success")) {
			t.Errorf("%d months in the population:\n%s", rows, files["populations/metrics.csv"])
		}
		if c := files["controls.csv"]; !strings.Contains(c, "metric backup-success: 0 (n ") || !strings.Contains(c, "failed") {
			t.Errorf("the control does not rest on the metric:\n%s", c)
		}
		// A fifth is a line of the plan.
		edit(t, w.plan(), func(s string) string {
			return s + "  not-restored: {owner: technical_lead, every: 1mo, formula: \"drills.expected - drills.done\", target: \"< 3\", to: [founder-b]}\n"
		})
		w.on(t, 191, "backup", "uploads").want(t, 0)
		if _, of := metrics(191); len(of["not-restored"]) != 1 || of["not-restored"][0].Value == nil || of["not-restored"][0].State != "open" {
			t.Errorf("%+v", of["not-restored"])
		}
		w.on(t, 222, "metric", "show", "not-restored").want(t, 3)
		if _, of := metrics(222); len(of["not-restored"]) < 2 || of["not-restored"][0].State != "recorded" || *of["not-restored"][0].Value < 3 && *of["not-restored"][1].Value < 3 {
			t.Errorf("%+v", of["not-restored"])
		}
	})
}
