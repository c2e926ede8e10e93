package drill

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source"
)

func TestVerdicts(t *testing.T) {
	promise := holdfast.Objective{RTO: time.Minute, RPO: 10 * time.Second}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	back := func(took, age time.Duration) Drill {
		return Drill{Target: holdfast.Target{Kind: holdfast.TargetTime, Time: at}, Parts: holdfast.Parts{{Name: "fetch", Duration: took, Basis: holdfast.Measured}},
			Report: source.Report{Reached: "there", DataUntil: at.Add(-age)}}
	}
	latest := back(time.Second, 0)
	latest.Target = holdfast.Target{Kind: holdfast.TargetLatest}
	for name, tt := range map[string]struct {
		d        Drill
		rto, rpo holdfast.Outcome
		missed   bool
		says     string
	}{
		"kept":            {back(time.Minute, 10*time.Second), holdfast.Passed, holdfast.Passed, false, "1m of 1m"},
		"too slow":        {back(time.Minute+time.Second, 0), holdfast.Failed, holdfast.Passed, true, "1m 1s of 1m"},
		"too old":         {back(time.Second, 11*time.Second), holdfast.Passed, holdfast.Failed, true, "11s of 10s"},
		"newest state":    {latest, holdfast.Passed, holdfast.NotProven, false, "no instant"},
		"nothing is back": {Drill{}, holdfast.NotProven, holdfast.NotProven, false, "nothing came back"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.d.Verdicts = tt.d.verdicts(promise)
			v := tt.d.Verdicts
			if len(v) != 2 || v[0].Outcome != tt.rto || v[1].Outcome != tt.rpo || tt.d.Missed() != tt.missed {
				t.Fatalf("%v, missed %t", v, tt.d.Missed())
			}
			if said := v[0].String() + v[1].String(); !strings.Contains(said, tt.says) {
				t.Errorf("nobody reads %q in %q", tt.says, said)
			}
		})
	}
	if v := back(time.Hour, time.Hour).verdicts(holdfast.Objective{}); v != nil {
		t.Errorf("no promise is made, and it is judged: %v", v)
	}
}
