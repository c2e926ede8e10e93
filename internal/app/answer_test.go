package app

import (
	"testing"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/recovery"
)

// A loss is answered by the recovery that brings the store back, until it was back. One
// that answered and was lost again before the step that brought it back was written down
// looks like one that does not answer yet, for as long as that may take.
func TestWhichRecoveryAnswersALoss(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 22, 10, 0, s, 0, time.UTC) }
	const running = recovery.StateRunning
	run := func(state string, lost string, finished int) recovery.Run {
		r := recovery.Run{State: state, Plan: recovery.Plan{Lost: []string{lost}}}
		s := recovery.Done{Step: recovery.Step{Kind: recovery.StepRestore, Store: "db"}, State: running}
		if finished > 0 {
			s.State, s.Finished = recovery.StateDone, at(finished)
		}
		r.Steps = append(r.Steps, s)
		return r
	}
	for _, c := range []struct {
		what string
		runs []recovery.Run
		p    backup.Probe
		want answer
	}{
		{"no recovery", nil, backup.Probe{At: at(9)}, nothing},
		{"one that has ended", []recovery.Run{run(recovery.StateDone, "db", 5)}, backup.Probe{At: at(9)}, nothing},
		{"one of another store", []recovery.Run{run(running, "files", 5)}, backup.Probe{At: at(9)}, nothing},
		{"one that restores", []recovery.Run{run(running, "db", 0)}, backup.Probe{At: at(50)}, restoring},
		{"back, and it has not answered yet", []recovery.Run{run(running, "db", 5)}, backup.Probe{LastOK: at(1), At: at(9)}, unsettled},
		{"it answered before the step was written down", []recovery.Run{run(running, "db", 5)}, backup.Probe{LastOK: at(4), At: at(9)}, unsettled},
		{"the same, and the time to answer is over", []recovery.Run{run(running, "db", 5)}, backup.Probe{LastOK: at(4), At: at(35)}, nothing},
		{"it answered, and is lost again", []recovery.Run{run(running, "db", 5)}, backup.Probe{LastOK: at(6), At: at(9)}, nothing},
		{"lost again, and a second one restores", []recovery.Run{run(running, "db", 5), run(running, "db", 0)}, backup.Probe{LastOK: at(6), At: at(9)}, restoring},
	} {
		if got := answeredBy(c.runs, "db", c.p); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
