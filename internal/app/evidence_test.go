package app

import (
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
)

// An auditor who verifies an honest pack finds nothing wrong with it: what is called
// proved names the facts on which it rests, after drills and after a recovery.
func TestPostureNamesItsFacts(t *testing.T) {
	c := newCompany(t, false, nil)
	ctx := t.Context()
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	d, job, err := a.Drills.Start(ctx, drill.Request{Store: "uploads", By: "founder-a", Pick: "latest", Goal: holdfast.L4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Jobs.Wait(ctx, job); err != nil {
		t.Fatal(err)
	}
	if d, err = a.Drills.Get(ctx, d.ID); err != nil || d.State != drill.StatePassed {
		t.Fatalf("drill: %s %s %v", d.State, d.Error, err)
	}
	c.lose()
	run := c.recovered(a)
	trusted, err := ReadTrusted(c.w.Key(KeyTrusted))
	if err != nil {
		t.Fatal(err)
	}
	pack, err := a.Evidence(ctx, api.Export{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	o, err := a.Overview(ctx)
	if err != nil {
		t.Fatal(err)
	}
	proved := 0
	for _, p := range postures(o, nil) {
		if p.Posture == holdfast.PostureProved {
			proved++
		}
	}
	if proved == 0 {
		t.Errorf("nothing is proved after drill %s and recovery %s", d.ID, run.ID)
	}
	for _, f := range evidence.VerifyBytes(pack, trusted).Findings {
		if f.Severity == holdfast.SeverityError {
			t.Errorf("%s: %s: %s", f.Code, f.Subject, f.Message)
		}
	}
}
