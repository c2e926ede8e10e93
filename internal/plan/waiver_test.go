package plan

import (
	"testing"
	"time"

	"holdfast"
)

// A waiver holds from its first instant until before its last, for its rule, for what it
// names and for what lies below that, and never for a name that only begins the same.
func TestWaiverCoversItsSubjectInItsTime(t *testing.T) {
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	end := begin.AddDate(0, 1, 0)
	ws := Waivers{{ID: "EX-1", Rule: "HF-L11", Of: "stores.db", Why: "rebuilt", From: begin, Until: end, Day: "2026-12-01"}}
	for _, tt := range []struct {
		rule, subject string
		at            time.Time
		want          bool
	}{
		{"HF-L11", "stores.db", begin, true},
		{"HF-L11", "stores.db.rpo", end.Add(-1), true},
		{"HF-L11", "stores.db", begin.Add(-1), false},
		{"HF-L11", "stores.db", end, false},
		{"HF-L2", "stores.db", begin, false},
		{"HF-L11", "stores.db2", begin, false},
		{"HF-L11", "stores", begin, false},
	} {
		if _, got := ws.Of(tt.rule, tt.subject, tt.at); got != tt.want {
			t.Errorf("%s of %s at %s: %t", tt.rule, tt.subject, tt.at, got)
		}
		fs := []holdfast.Finding{{Code: tt.rule, Subject: tt.subject, Severity: holdfast.SeverityError}}
		used := ws.Apply(fs, tt.at)
		if noted := fs[0].Severity == holdfast.SeverityNote; noted != tt.want || used["EX-1"] != tt.want {
			t.Errorf("%s of %s at %s is %+v", tt.rule, tt.subject, tt.at, fs[0])
		}
	}
}
