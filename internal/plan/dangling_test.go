package plan

import (
	"strings"
	"testing"
)

// What others depend on cannot be taken out of a plan; what nobody needs can, and a fault
// that was there before is not held against a change of something else.
func TestDangling(t *testing.T) {
	parsed := func(text string) *Plan {
		t.Helper()
		p, err := Parse("plan.yaml", []byte(text))
		if err != nil {
			t.Fatal(FindingsOf(err))
		}
		return p
	}
	text := clean()
	i := strings.Index(text, "  uploads:\n    kind: files")
	j := strings.Index(text, "# Two keys with two holders")
	without := text[:i] + text[j:]
	gone := Dangling(parsed(text), parsed(without))
	said := ""
	for _, f := range gone {
		said += f.Subject + ": " + f.Message + "\n"
	}
	if !strings.Contains(said, "services.api.needs.uploads") || !strings.Contains(said, "runbooks.rebuild") {
		t.Errorf("what depends on it is not named:\n%s", said)
	}
	if more := Dangling(parsed(without), parsed(strings.Replace(without, "rto: 4h", "rto: 5h", 1))); len(more) != 0 {
		t.Errorf("an old fault is held against another change: %+v", more)
	}
	if none := Dangling(parsed(text), parsed(text)); len(none) != 0 {
		t.Errorf("%+v", none)
	}
}
