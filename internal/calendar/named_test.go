package calendar

import (
	"errors"
	"testing"
	"time"

	"holdfast"
)

func TestNamed(t *testing.T) {
	stockholm, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		t.Fatal(err)
	}
	// In Asuncion 1 October 2017 had no midnight: clocks went from 23:59 to 01:00.
	asuncion, err := time.LoadLocation("America/Asuncion")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		loc      *time.Location
		from, to string
	}{
		{"2026", time.UTC, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"2026-Q1", stockholm, "2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"},
		{"2026-q4", stockholm, "2026-10-01T00:00:00+02:00", "2027-01-01T00:00:00+01:00"},
		{"2026-12", stockholm, "2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"},
		{"2024-02", time.UTC, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"2017-10", asuncion, "2017-10-01T01:00:00-03:00", "2017-11-01T00:00:00-03:00"},
	} {
		from, to, err := Named(c.name, c.loc)
		if err != nil || from.Format(time.RFC3339) != c.from || to.Format(time.RFC3339) != c.to {
			t.Errorf("%s: %s to %s, %v, want %s to %s", c.name, from.Format(time.RFC3339), to.Format(time.RFC3339), err, c.from, c.to)
		}
	}
	for _, name := range []string{"", "26", "2026-Q5", "2026-13", "2026-1", "2026-00", "2026-11-01", " 2026", "2026-Q", "last quarter", "２０２６"} {
		if _, _, err := Named(name, time.UTC); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
