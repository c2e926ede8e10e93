package objective

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// A control is as good as the weakest of what stands for it; what no machine measured
// never makes it proved, and the word of a person is attested, until it is too old.
func TestControlsAreAsGoodAsTheirWeakestProof(t *testing.T) {
	p, err := plan.Parse("plan.yaml", []byte(`apiVersion: holdfast/v1
plan: {id: x}
stores: {db: {kind: files, files: {path: /srv}, protect: daily}, old: {kind: files, files: {path: /old}, protect: daily}}
backups: {daily: {every: 1d, copies: [near]}}
drills: {db-drill: {of: [db], every: 1w}, old-drill: {of: [old], every: 1w}}
exercises: {table: {kind: tabletop, every: 1y}, fire: {kind: tabletop, every: 1y}}
reviews: {alerts: {every: 1w, grace: 1d}, jobs: {every: 1w, grace: 1w}}
measures: {passwords: strong}
controls:
  x/1: [db-drill]
  x/2: [db-drill, table]
  x/3: [passwords]
  x/4: ["drill:db-drill", "measure:passwords"]
  x/5: [old-drill, db-drill]
  x/6: [nowhere]
  x/7: [db-drill, fire]
  x/8: [alerts]
  x/9: [jobs]
  iso27001/A.8.13: [db-drill]
`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	said := func(ref string, days int) Attestation {
		return Attestation{Ref: ref, ID: ref + "@", At: now.AddDate(0, 0, -days), By: []string{"ana"}}
	}
	f := Facts{Now: now, Proofs: []Proof{{Kind: ProofDrill, ID: "d1", Name: "db-drill", Store: "db", At: now.Add(-time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L3}}, Attested: []Attestation{said("exercise:fire", 30), said("review:alerts", 20), said("review:alerts", 9), said("review:jobs", 9), said("exercise:table", -1)}}
	want := map[string]struct {
		posture holdfast.Posture
		words   string
		rests   int
	}{
		"x/1":             {holdfast.PostureProved, "reached L3; evidence: 1 proved by a machine, 0 attested by a person, 0 claimed", 1},
		"x/2":             {holdfast.PostureUnknown, "exercise table: nothing is on record", 1},
		"x/3":             {holdfast.PostureClaimed, "0 attested by a person, 1 claimed", 0},
		"x/4":             {holdfast.PostureClaimed, "stated in the plan", 1},
		"x/5":             {holdfast.PostureUnknown, "old was never drilled", 1},
		"x/6":             {holdfast.PostureUnknown, "nowhere is not in the plan", 0},
		"x/7":             {holdfast.PostureClaimed, "exercise fire: attested by ana on 2026-10-23; evidence: 1 proved by a machine, 1 attested by a person, 0 claimed", 2},
		"x/8":             {holdfast.PostureOverdue, "attested by ana on 2026-11-13, and owed since 2026-11-20", 1},
		"x/9":             {holdfast.PostureDue, "review jobs: attested by ana on 2026-11-13, and due since 2026-11-20", 1},
		"iso27001/A.8.13": {holdfast.PostureProved, "reached L3", 1},
	}
	got := Controls(p, f)
	if len(got) != len(want) {
		t.Fatalf("%d controls", len(got))
	}
	for _, c := range got {
		w := want[c.ID]
		if c.Posture != w.posture || !strings.Contains(c.Why, w.words) || len(c.Sources) != w.rests {
			t.Errorf("%s is %s (%s) by %q, want %+v", c.ID, c.Posture, c.Why, c.Sources, w)
		}
		if named := strings.HasPrefix(c.ID, "iso27001"); named != (c.Name != "") {
			t.Errorf("%s is called %q", c.ID, c.Name)
		}
	}
}
