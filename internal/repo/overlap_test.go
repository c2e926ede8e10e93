package repo

import (
	"fmt"
	"testing"
)

// Of several facts with one position the newest stays.
func TestOlderFacts(t *testing.T) {
	fact := func(scope string, tli, lsn, at int) logFact {
		f, ok := parseLogFact(NamedInfo{scope, "7301", fmt.Sprintf("quiet-%08x-%016x-%016x", tli, lsn, at), 900})
		if !ok {
			t.Fatal("a fact is not read")
		}
		return f
	}
	facts := []logFact{fact("db", 1, 100, 30), fact("db", 1, 100, 10), fact("db", 1, 100, 20), fact("db", 1, 200, 5), fact("db", 2, 100, 1), fact("other", 1, 100, 1)}
	var got []string
	for _, l := range olderFacts(facts) {
		got = append(got, l.Name)
	}
	want := []string{
		"logs/db/7301/quiet-00000001-0000000000000064-000000000000000a",
		"logs/db/7301/quiet-00000001-0000000000000064-0000000000000014",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("superfluous are %v, want %v", got, want)
	}
	for _, name := range []string{"00000002.history", "quiet-1-2-3", "quiet-00000001-ffffffffffffffff-0000000000000001"} {
		if _, ok := parseLogFact(NamedInfo{"db", "7301", name, 1}); ok {
			t.Errorf("%q is taken for a fact", name)
		}
	}
}
