package postgres

import (
	"strings"
	"testing"
	"time"
)

func TestRunway(t *testing.T) {
	var r runway
	at := time.Unix(1_800_000_000, 0)
	if got := r.look(false, 100, 1e9, 1e9, at); got != "" {
		t.Errorf("no stall: %q", got)
	}
	if got := r.look(true, 0, 1e9, 1e9, at); got != "" {
		t.Errorf("a stall that has just begun: %q", got)
	}
	got := r.look(true, 10_000_000, 3_600_000_000, 7_200_000_000, at.Add(10*time.Second)) // a MB each second
	for _, want := range []string{"3600.0 MB an hour", "full in about 1.0 hours", "about 2.0 hours later"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
	if again := r.look(true, 90_000_000, 1, 1, at.Add(11*time.Second)); again != got {
		t.Errorf("a second later: %q", again)
	}
	if got := r.look(true, 40_000_000, 0, -1, at.Add(40*time.Second)); !strings.Contains(got, "about 0.0 hours") || !strings.Contains(got, "without a bound") {
		t.Errorf("at the end: %q", got)
	}
	r.look(false, 0, 0, 0, at)
	r.look(true, 5, 1e9, 1e9, at)
	if got := r.look(true, 5, 1e9, 1e9, at.Add(time.Minute)); !strings.Contains(got, "nothing is written") {
		t.Errorf("an idle database: %q", got)
	}
}
