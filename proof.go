package holdfast

import (
	"fmt"
	"time"
)

// A Grade says who stands behind a fact. Grades are never merged: a claim does
// not become a proof by being repeated.
type Grade string

// The evidence grades.
const (
	Proved   Grade = "proved"   // a machine measured it
	Attested Grade = "attested" // a person vouched for it
	Claimed  Grade = "claimed"  // a supplier says so
)

// A Posture is the state of an objective, a control or a clause. It is computed
// when asked for and never stored as truth.
type Posture string

// The postures. PostureUnknown is a state of its own: it is never green.
const (
	PostureProved   Posture = "proved"
	PostureDue      Posture = "due"     // proof exists, the next one is due now
	PostureOverdue  Posture = "overdue" // proof is older than the plan allows
	PostureFailed   Posture = "failed"
	PostureExcepted Posture = "excepted"
	PostureClaimed  Posture = "claimed"
	PostureNA       Posture = "not applicable"
	PostureUnknown  Posture = "unknown"
)

// A Rung is one step of the proof ladder. A drill names the highest rung that it
// climbed without a gap; a rung that was not climbed is not proven, never passed.
type Rung int

// The ladder.
const (
	RungNone Rung = -1 // nothing proven
	L0       Rung = 0  // fresh by observed time; objects exist and authenticate
	L1       Rung = 1  // structure and chains are whole
	L2       Rung = 2  // all bytes read back within N days
	L3       Rung = 3  // restored, content equal to the manifest
	L4       Rung = 4  // the engine started and the declared target was reached, timed
	L5       Rung = 5  // the engine's own integrity checks and the security controls hold
	L6       Rung = 6  // the owner's invariants, canary and probe hold; the owner confirms
	L7       Rung = 7  // several stores in dependency order, to one logical moment
	L8       Rung = 8  // cold start: empty machine, one location, one key
)

var rungNames = [...]string{
	"fresh and authentic", "structure and chains whole", "all bytes read back", "restored, content equal",
	"engine started, target reached", "integrity and security checks hold", "owner's invariants hold and are confirmed",
	"several stores to one moment", "cold start",
}

// String returns "L4", or "none".
func (r Rung) String() string {
	if r < L0 || r > L8 {
		return "none"
	}
	return fmt.Sprintf("L%d", int(r))
}

// Proves says in words what the rung proves.
func (r Rung) Proves() string {
	if r < L0 || r > L8 {
		return "nothing proven"
	}
	return rungNames[r]
}

// An Outcome is how one check ended. A check that could not run is not proven;
// it never counts as passed.
type Outcome string

// The outcomes.
const (
	Passed    Outcome = "passed"
	Failed    Outcome = "failed"
	NotProven Outcome = "not proven"
)

// A Check is one thing that a drill or a recovery looked at.
type Check struct {
	Rung     Rung          `json:"rung"`
	Name     string        `json:"name"`
	Outcome  Outcome       `json:"outcome"`
	Grade    Grade         `json:"grade"`
	Detail   string        `json:"detail"` // what was seen: counts, values, the engine's own words
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// HighestRung returns the highest rung whose checks, and those of every rung
// below it, all passed. A rung without a check stops the climb.
func HighestRung(checks []Check) Rung {
	top := RungNone
	for r := L0; r <= L8; r++ {
		n := 0
		for _, c := range checks {
			if c.Rung != r {
				continue
			}
			if c.Outcome != Passed {
				return top
			}
			n++
		}
		if n == 0 {
			return top
		}
		top = r
	}
	return top
}
