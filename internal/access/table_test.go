package access

import (
	"strings"
	"testing"
)

// The table, written a second time and another way: a cell that changes by a slip of the
// hand changes here too, or not at all. A cell that is changed on purpose is a decision
// about who may do what.
func TestTableIsWhatWasDecided(t *testing.T) {
	const decided = `
              view document run respond restore configure delete approve export audit people self
viewer        x    .        .   .       .       .         .      .       .      .     .      x
operator      x    x        x   .       .       x         .      .       .      .     .      x
responder     x    x        x   x       x       .         .      .       .      .     .      x
approver      x    x        .   .       .       .         .      x       .      .     .      x
administrator x    x        x   .       .       x         x      .       .      x     x      x
auditor       x    x        .   .       .       .         .      .       x      x     .      x
`
	lines := strings.Split(strings.TrimSpace(decided), "\n")
	actions := strings.Fields(lines[0])
	if len(actions) != len(Actions) || len(lines)-1 != len(Roles) || len(table) != len(Roles) {
		t.Fatalf("%d actions and %d roles were decided, the table has %d and %d", len(actions), len(lines)-1, len(Actions), len(table))
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, a := range actions {
			if got, want := Role(cells[0]).Allows(Action(a)), cells[i+1] == "x"; got != want {
				t.Errorf("%s may %s: %t, decided was %t", cells[0], a, got, want)
			}
		}
	}
}
