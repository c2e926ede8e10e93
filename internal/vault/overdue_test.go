package vault

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// The class of the data decides over what is stored already: its minimum keeps, its
// maximum deletes, a hold beats it, and somebody answers for what a lock keeps.
func TestClassDecides(t *testing.T) {
	r := oneRig(t)
	points := []Point{{Snapshot: "old", Received: noon}, {Snapshot: "new", Received: noon.Add(24 * time.Hour)}}
	now := noon.Add(40 * 24 * time.Hour)
	for _, tt := range []struct{ name, class, hold, lock, why, told string }{
		{"no bound", "{text: c}", "", "", "kept 30d", ""},
		{"minimum", "{keep_min: 60d}", "", "", `kept 60d from its receipt by the class "c"`, ""},
		{"maximum", "{keep_max: 5d, owner: ana}", "", "", `kept at most 5d by the class "c"`, ""},
		{"both", "{keep_min: 35d, keep_max: 39d}", "", "", `kept at most 39d by the class "c"`, ""},
		{"hold", "{keep_max: 5d, owner: ana}", "holds:\n  case-7: {of: [db], why: a claim, by: ben}\n", "", `held: case-7 (a claim), although it is past the maximum of 5d by the class "c"`, "past the maximum of 5d by the class \"c\" stay copies of \"db\" at \"far\" (2): held: case-7 (a claim); owner: ana"},
		{"lock", "{keep_max: 5d, owner: ana}", "", "60d", `kept at most 5d by the class "c"`, "(1)"},
		{"lock that ended", "{keep_max: 5d, owner: ana}", "", "20d", `kept at most 5d by the class "c"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edits := []string{"keys:\n", "classes:\n  c: " + tt.class + "\nkeys:\n"}
			if tt.lock != "" {
				edits = append(edits, "far: {kind: dir, path: /far, domain: far}", "far: {kind: s3, s3: {endpoint: \"https://127.0.0.1:1\", bucket: far, lock: "+tt.lock+"}, domain: far}")
			}
			r.declare("", tt.hold, edits...)
			s := r.plan.Stores["db"]
			s.Class = "c"
			r.plan.Stores["db"] = s
			terms, err := terms(r.plan, "db", now)
			if err != nil {
				t.Fatal(err)
			}
			shelf := Shelf{Store: "db", Location: "far", Decided: Decide(terms, points, now)}
			if why := shelf.Decided[0].Why; !strings.Contains(why, tt.why) {
				t.Errorf("%q, want %q", why, tt.why)
			}
			told := ""
			for _, f := range overdue(r.plan, terms, shelf, now) {
				told += f.Message
			}
			if (told == "") != (tt.told == "") || !strings.Contains(told, tt.told) {
				t.Errorf("told %q, want %q", told, tt.told)
			}
		})
	}
}

// Where backup and class contradict each other, the class wins.
func TestClassBeatsItsBackup(t *testing.T) {
	for _, tt := range []struct{ backup, class, least, most string }{
		{"keep: 30d", "", "30d", ""},
		{"keep: 30d", "keep_min: 60d", "60d", ""},
		{"keep: 30d", "keep_max: 10d", "10d", "10d"},
		{"retention: {exact: 10d}", "keep_min: 60d", "60d", "60d"},
		{"retention: {max: 90d}", "keep_min: 60d, keep_max: 80d", "", "80d"},
		{"keep: 20d, retention: {max: 90d}", "keep_min: 30d, keep_max: 1y", "30d", "90d"},
	} {
		p, err := plan.Parse("/plan.yaml", []byte("apiVersion: holdfast/v1\nplan: {id: p}\nstores:\n  db: {kind: files, class: c, files: {path: /x}, protect: b}\nclasses: {c: {"+tt.class+"}}\nbackups:\n  b: {every: 1d, copies: [near], "+tt.backup+"}\n"))
		if err != nil {
			t.Fatal(plan.FindingsOf(err))
		}
		least, most := p.Kept("db")
		words := func(p plan.Period) string {
			if p.IsZero() {
				return ""
			}
			return p.String()
		}
		if words(least) != tt.least || words(most) != tt.most {
			t.Errorf("%s with %s keeps %s to %s, want %s to %s", tt.backup, tt.class, least, most, tt.least, tt.most)
		}
	}
}
