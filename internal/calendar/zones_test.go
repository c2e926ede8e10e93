package calendar

import (
	"archive/zip"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// allZones loads every distinct zone of the Go distribution, so that the tests
// do not depend on what the machine has installed.
var allZones = sync.OnceValues(func() (map[string]*time.Location, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	r, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	zones, seen := map[string]*time.Location{}, map[string]bool{}
	for _, f := range r.File {
		if f.FileInfo().IsDir() {
			continue
		}
		rc, err := f.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(rc)
		rc.Close()
		if err != nil {
			return nil, err
		}
		if seen[string(b)] {
			continue
		}
		seen[string(b)] = true
		if zones[f.Name], err = time.LoadLocationFromTZData(f.Name, b); err != nil {
			return nil, err
		}
	}
	return zones, nil
})

func eachZone(t *testing.T, f func(t *testing.T, loc *time.Location)) {
	t.Helper()
	zones, err := allZones()
	if err != nil {
		t.Fatalf("the tests need the time zones of the Go distribution: %v", err)
	}
	if len(zones) < 300 {
		t.Fatalf("only %d zones found", len(zones))
	}
	for name, loc := range zones {
		t.Run(name, func(t *testing.T) { f(t, loc) })
	}
}

func zoneNamed(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("the tests need time zones: %v", err)
	}
	return loc
}

// transitions lists the instants in [from, to) at which the offset changes.
func transitions(loc *time.Location, from, to time.Time) []time.Time {
	var found []time.Time
	for at := from; ; {
		end := zoneEnd(at, loc)
		if end.IsZero() || !end.Before(to) {
			return found
		}
		if offsetAt(end.Add(-time.Nanosecond), loc) != offsetAt(end, loc) {
			found = append(found, end)
		}
		at = end
	}
}

func offsetAt(t time.Time, loc *time.Location) time.Duration {
	_, o := t.In(loc).Zone()
	return time.Duration(o) * time.Second
}

// shows reports whether clocks in loc show the digits of w at t. It asks the
// clock itself, not this package.
func shows(t, w time.Time, loc *time.Location) bool {
	local := t.In(loc)
	return local.Year() == w.Year() && local.YearDay() == w.YearDay() &&
		local.Hour() == w.Hour() && local.Minute() == w.Minute() && local.Second() == w.Second()
}

// naiveWall looks at every instant, step by step.
func naiveWall(w time.Time, loc *time.Location, step time.Duration) time.Time {
	first, last := w.Add(-28*time.Hour), w.Add(28*time.Hour)
	for t := first; t.Before(last); t = t.Add(step) {
		if shows(t, w, loc) {
			return t
		}
	}
	// In a gap: the last instant before the clock passed w without showing it.
	for t := first; t.Before(last); t = t.Add(step) {
		if wallOf(t, loc).Before(w) && wallOf(t.Add(step), loc).After(w) {
			return w.Add(-offsetAt(t, loc))
		}
	}
	return time.Time{}
}

func TestWallInEveryZone(t *testing.T) {
	const step = 15 * time.Minute // every offset of these years is a multiple of it
	from, to := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	sizes := map[time.Duration]bool{}
	eachZone(t, func(t *testing.T, loc *time.Location) {
		for _, tr := range transitions(loc, from, to) {
			before, after := wallOf(tr.Add(-time.Nanosecond), loc).Add(time.Nanosecond), wallOf(tr, loc)
			sizes[after.Sub(before)] = true
			low, high := before, after
			if high.Before(low) {
				low, high = high, low
			}
			for w := low.Add(-2 * step); !w.After(high.Add(2 * step)); w = w.Add(step) {
				got := Wall(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), loc)
				if want := naiveWall(w, loc, step); !got.Equal(want) {
					t.Fatalf("%s: got %s, want %s", w.Format(time.DateTime), got, want.In(loc))
				}
			}
		}
	})
	for _, size := range []time.Duration{30 * time.Minute, -30 * time.Minute, time.Hour, -time.Hour, 2 * time.Hour, -2 * time.Hour, -3 * time.Hour} {
		if !sizes[size] {
			t.Errorf("no change by %s was tested", size)
		}
	}
}

// The last day of a leap year, where Time.ZoneBounds reports an end in the past.
func TestWallAtTheEndOfLeapYears(t *testing.T) {
	eachZone(t, func(t *testing.T, loc *time.Location) {
		for _, y := range []int{2028, 2036, 2040, 2096, 2400} {
			for at := time.Date(y, 12, 29, 0, 0, 0, 0, time.UTC); at.Before(time.Date(y+1, 1, 3, 0, 0, 0, 0, time.UTC)); at = at.Add(3 * time.Hour) {
				w := wallOf(at, loc)
				if got := resolve(w, loc); !got.Equal(at) {
					t.Fatalf("%s: got %s, want %s", w.Format(time.DateTime), got, at.In(loc))
				}
				if end := zoneEnd(at, loc); !end.IsZero() && !end.After(at) {
					t.Fatalf("zone at %s ends at %s", at, end)
				}
			}
		}
	})
}

func TestWallKnownCases(t *testing.T) {
	tests := []struct{ zone, wall, want string }{
		{"America/Chicago", "2026-03-08 02:30", "2026-03-08T08:30:00Z"},     // gap: 03:30 CDT
		{"America/Chicago", "2026-11-01 01:30", "2026-11-01T06:30:00Z"},     // fold: first, CDT
		{"Europe/Stockholm", "2026-03-29 02:30", "2026-03-29T01:30:00Z"},    // gap: 03:30 CEST
		{"Europe/Stockholm", "2026-10-25 02:30", "2026-10-25T00:30:00Z"},    // fold: first, CEST
		{"Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:45:00Z"}, // gap of 30 minutes: 02:45
		{"Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04T14:45:00Z"}, // fold of 30 minutes
		{"Antarctica/Troll", "2026-03-29 02:30", "2026-03-29T02:30:00Z"},    // gap of 2 hours: 04:30
		{"Antarctica/Troll", "2026-10-25 01:30", "2026-10-24T23:30:00Z"},    // fold of 2 hours
		{"Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00:00Z"},        // a day that never was
		{"UTC", "2026-03-29 02:30", "2026-03-29T02:30:00Z"},
	}
	for _, tt := range tests {
		w, err := time.Parse("2006-01-02 15:04", tt.wall)
		if err != nil {
			t.Fatal(err)
		}
		got := Wall(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), 0, zoneNamed(t, tt.zone))
		if s := got.UTC().Format(time.RFC3339); s != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.zone, tt.wall, s, tt.want)
		}
	}
}

// Historical zones have offsets with seconds and odd changes. Wherever a wall
// time exists, Wall shows it and nothing earlier does.
func TestWallThroughHistory(t *testing.T) {
	eachZone(t, func(t *testing.T, loc *time.Location) {
		all := transitions(loc, time.Date(1850, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
		offsets := []time.Duration{}
		for _, tr := range all {
			offsets = append(offsets, offsetAt(tr, loc), offsetAt(tr.Add(-1), loc))
		}
		slices.Sort(offsets)
		offsets = slices.Compact(offsets)
		for _, tr := range all {
			for _, o := range []time.Duration{offsetAt(tr, loc), offsetAt(tr.Add(-1), loc)} {
				for _, d := range []time.Duration{-time.Second, 0, time.Second, 599 * time.Second} {
					w := tr.UTC().Add(o + d)
					var want time.Time
					for _, o := range offsets {
						if c := w.Add(-o); shows(c, w, loc) && (want.IsZero() || c.Before(want)) {
							want = c
						}
					}
					got := resolve(w, loc)
					if want.IsZero() { // a gap: shifted on by the size of the jump
						want = w.Add(-offsetAt(tr.Add(-1), loc))
					}
					if !got.Equal(want) {
						t.Fatalf("%s: got %s, want %s", w.Format(time.DateTime), got, want.In(loc))
					}
				}
			}
		}
	})
}

// Every recurrence agrees with a model that resolves each date by itself.
func TestSlotsInEveryZone(t *testing.T) {
	from, to := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	daily, err := ParseRecurrence("every 1d at 00:30,02:15,03:00")
	if err != nil {
		t.Fatal(err)
	}
	quarter, err := ParseRecurrence("*/15 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	eachZone(t, func(t *testing.T, loc *time.Location) {
		for _, tr := range transitions(loc, from, to) {
			start, end := tr.Add(-50*time.Hour), tr.Add(50*time.Hour)
			var want []time.Time
			for d := tr.AddDate(0, 0, -5); d.Before(tr.AddDate(0, 0, 5)); d = d.AddDate(0, 0, 1) {
				for _, m := range []int{30, 2*60 + 15, 3 * 60} {
					at := Wall(d.Year(), d.Month(), d.Day(), 0, m, 0, loc)
					if !at.Before(start) && at.Before(end) {
						want = append(want, at)
					}
				}
			}
			slices.SortFunc(want, time.Time.Compare)
			want = slices.CompactFunc(want, time.Time.Equal)
			got := daily.Slots(start, end, loc, 1000)
			if !slices.EqualFunc(got, want, time.Time.Equal) {
				t.Fatalf("around %s:\ngot  %v\nwant %v", tr, got, want)
			}
			// "All the time" has no hole at any change of the clock: offsets are
			// multiples of a quarter hour, so the slots stay evenly spaced.
			even := quarter.Slots(tr.Add(-4*time.Hour), tr.Add(4*time.Hour), loc, 1000)
			for i := 1; i < len(even); i++ {
				if d := even[i].Sub(even[i-1]); d != 15*time.Minute {
					t.Fatalf("around %s: %s between %s and %s", tr, d, even[i-1], even[i])
				}
			}
			if len(even) != 32 {
				t.Fatalf("around %s: %d quarter hours in 8 hours", tr, len(even))
			}
		}
	})
}

func TestMoved(t *testing.T) {
	loc := zoneNamed(t, "Europe/Stockholm")
	from := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(1, 0, 0)
	for _, tt := range []struct{ text, wall, slot string }{
		{"every 1d at 02:30", "2027-03-28 02:30", "2027-03-28 03:30"},
		{"every 1d at 01:30,02:00", "2027-03-28 02:00", "2027-03-28 03:00"},
		{"30 2 * * *", "2027-03-28 02:30", "2027-03-28 03:30"},
		{"every 1w on sun at 02:59", "2027-03-28 02:59", "2027-03-28 03:59"},
		{"every 1w on mon at 02:59", "", ""},
		{"every 1d at 03:00", "", ""},
		{"every 1d at 01:59", "", ""},
		{"every 15m", "", ""},
		{"*/5 * * * *", "", ""},
		{"every 1mo on 15 at 02:30", "", ""},
	} {
		r, err := ParseRecurrence(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		wall, slot, moved := r.Moved(from, to, loc)
		if moved != (tt.wall != "") {
			t.Errorf("%s: moved %t", tt.text, moved)
			continue
		}
		const form = "2006-01-02 15:04"
		if moved && (wall.Format(form) != tt.wall || slot.Format(form) != tt.slot) {
			t.Errorf("%s: %s becomes %s, want %s and %s", tt.text, wall.Format(form), slot.Format(form), tt.wall, tt.slot)
		}
		if _, _, moved := r.Moved(from, to, time.UTC); moved {
			t.Errorf("%s: moved in UTC", tt.text)
		}
	}
}
