package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A clauseSeen is one clause as "controls --json" prints it.
type clauseSeen struct {
	ID, Posture, Why string
	Parts            []struct{ By, Posture string }
	Grades           map[string]int
}

// clauses is how each clause stands some days from now; the counts must be those of the list.
func (w workspace) clauses(t *testing.T, days, status int) map[string]clauseSeen {
	t.Helper()
	var m struct {
		Counts   map[string]map[string]int
		Controls []clauseSeen
	}
	w.on(t, days, "controls", "--json").want(t, status).object(t, &m)
	out, counted := map[string]clauseSeen{}, map[string]map[string]int{}
	for _, c := range m.Controls {
		framework, _, _ := strings.Cut(c.ID, "/")
		if counted[framework] == nil {
			counted[framework] = map[string]int{}
		}
		counted[framework][c.Posture]++
		out[c.ID] = c
		if c.Why == "" {
			t.Errorf("%s has no reason", c.ID)
		}
	}
	for framework, counts := range m.Counts {
		for posture, n := range counts {
			if counted[framework][posture] != n {
				t.Errorf("%s: %d %s are counted, and %d listed", framework, n, posture, counted[framework][posture])
			}
		}
	}
	return out
}

func TestClauseRows(t *testing.T) {
	t.Parallel()
	w, keys := vaultWorkspace(t)
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "  \"iso27001/A.8.13\": [uploads-drill]\n", `  "iso27001/A.8.13": [uploads-drill]
  "own/waived": [uploads-drill]
  "own/said": [uploads-drill, "measure:apart"]
  "own/looked": ["review:backups"]
  "own/neglected": ["review:never"]
  "own/undrilled": [other-drill]
  "hipaa/164.308(a)(7)": [uploads-drill]
`, 1)
		s = strings.Replace(s, "\ndrills:\n", "\ndrills:\n  other-drill: {of: [other], every: 1w, fresh_for: 10d}\n", 1)
		s = strings.Replace(s, "\nstores:\n", "\nstores:\n  other: {kind: files, tier: support, owner: technical_lead, class: internal, files: {path: \""+w.uploads+"\"}, protect: folder, recover: {to: recovered/other}}\n", 1)
		return s + `
frameworks:
  iso27001: {edition: "2022", clauses: ["A.8.13", "A.5.30", "A.7.4"], none: {"A.7.4": "no premises of our own"}}
  hipaa: {edition: "2013", when: [health]}
  own: {own: {waived: "w", said: "s", looked: "l", neglected: "n", undrilled: "u", nothing: "nothing stands for it"}}
reviews:
  backups: {every: 1mo, grace: 1w, by: [technical_lead], text: "what the backups did"}
  never: {every: 1mo, grace: 1w, by: [technical_lead], text: "what nobody looks at"}
measures:
  apart: {stated: "The copies are kept apart."}
`
	})
	w.run(t, "backup", "uploads").want(t, 0)
	w.run(t, "drill", "uploads").want(t, 0)
	w.owed(t, 0)
	w.does(t, 0, "reviews.backups", "founder-b", keys["founder-b"], 0)
	w.excepts(t, keys, "HF-L50", "controls.own/waived")
	is := func(t *testing.T, days int, want map[string]string) {
		t.Helper()
		got := w.clauses(t, days, 3)
		if len(got) != 11 {
			t.Fatalf("%d clauses: %+v", len(got), got)
		}
		for id, posture := range want {
			if got[id].Posture != posture {
				t.Errorf("in %d days %s is %s, want %s: %s", days, id, got[id].Posture, posture, got[id].Why)
			}
		}
	}
	t.Run("MON-11 each posture of a clause is reached", func(t *testing.T) {
		const sure = "not applicable"
		is(t, 0, map[string]string{
			"iso27001/A.8.13": "proved", "own/waived": "proved", "own/said": "claimed", "own/looked": "claimed", "own/neglected": "unknown", "own/undrilled": "unknown",
			"hipaa/164.308(a)(7)": sure, "iso27001/A.7.4": sure, "iso27001/A.5.30": "unknown", "own/nothing": "unknown",
		})
		// The drill is weekly, and its proof lasts ten days. What nobody ever did is no better.
		is(t, 8, map[string]string{"iso27001/A.8.13": "due", "own/waived": "due", "own/said": "due", "own/undrilled": "due"})
		is(t, 11, map[string]string{"iso27001/A.8.13": "overdue", "own/waived": "excepted", "own/said": "overdue", "own/undrilled": "overdue", "own/looked": "claimed"})
		is(t, 33, map[string]string{"own/looked": "due", "own/neglected": "due"})
		is(t, 45, map[string]string{"own/looked": "overdue", "own/neglected": "overdue"})
		// The exception ends, and what it waived is back.
		is(t, 190, map[string]string{"own/waived": "overdue", "hipaa/164.308(a)(7)": sure})
		// A byte of each pack is wrong, and the next drill finds it.
		for _, place := range []string{w.near, w.offsite} {
			packs, err := filepath.Glob(filepath.Join(place, "packs", "*", "*"))
			if err != nil || len(packs) == 0 {
				packs, err = filepath.Glob(filepath.Join(place, "packs", "*"))
			}
			if err != nil || len(packs) == 0 {
				t.Fatalf("%v: no pack in %v", err, place)
			}
			for _, p := range packs {
				b, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)/2] ^= 1
				if err := os.WriteFile(p, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.run(t, "drill", "uploads").want(t, 3)
		is(t, 0, map[string]string{"iso27001/A.8.13": "failed", "own/said": "failed", "own/waived": "excepted"})
	})
	t.Run("EVD-15 the grades of each clause are counted apart", func(t *testing.T) {
		got := w.clauses(t, 0, 3)
		for id, want := range map[string][3]int{"own/said": {1, 0, 1}, "own/looked": {0, 1, 0}, "own/nothing": {0, 0, 0}} {
			if g := got[id].Grades; g["proved"] != want[0] || g["attested"] != want[1] || g["claimed"] != want[2] {
				t.Errorf("%s: %v, want %v", id, g, want)
			}
		}
	})
	t.Run("EVD-13 rules of the health sector apply when health data comes", func(t *testing.T) {
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "  uploads:\n    kind: files\n", "  uploads:\n    contains: [health]\n    kind: files\n", 1)
		})
		if c := w.clauses(t, 0, 3)["hipaa/164.308(a)(7)"]; c.Posture != "failed" {
			t.Errorf("%+v", c)
		}
	})
}
