package app

import (
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

// A control is as good as the weakest of what stands for it, and what no machine
// measured never makes it proved.
func TestControlsAreAsGoodAsTheirWeakestProof(t *testing.T) {
	p, err := plan.Parse("plan.yaml", []byte(`apiVersion: holdfast/v1
plan: {id: x}
stores: {db: {kind: files, files: {path: /srv}, protect: daily}, old: {kind: files, files: {path: /old}, protect: daily}}
backups: {daily: {every: 1d, copies: [near]}}
drills: {db-drill: {of: [db], every: 1w}, old-drill: {of: [old], every: 1w}}
exercises: {table: {kind: tabletop, every: 1y}}
measures: {passwords: strong}
controls:
  x/1: [db-drill]
  x/2: [db-drill, table]
  x/3: [passwords]
  x/4: ["drill:db-drill", "measure:passwords"]
  x/5: [old-drill, db-drill]
  x/6: [nowhere]
`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	o := objective.Overview{At: now, Stores: []objective.StoreOverview{{ID: "db", LastDrill: &objective.DrillView{ID: "d1", At: now.Add(-time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L3}}, {ID: "old"}}}
	want := map[string]holdfast.Posture{"1": holdfast.PostureProved, "2": holdfast.PostureUnknown, "3": holdfast.PostureClaimed, "4": holdfast.PostureClaimed,
		"5": holdfast.PostureUnknown, "6": holdfast.PostureUnknown}
	var a App
	a.force.Store(&inForce{plan: p})
	got := a.controls(o, "", nil)
	if len(got) != len(want) {
		t.Fatalf("%d controls", len(got))
	}
	for _, c := range got {
		if c.Posture != want[c.ID] || c.Detail == "" {
			t.Errorf("x/%s is %s (%s), want %s", c.ID, c.Posture, c.Detail, want[c.ID])
		}
	}
}
