package calendar

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"

	"pgregory.net/rapid"
)

func TestParsePeriod(t *testing.T) {
	good := map[string]Period{
		"15m": {Duration: 15 * time.Minute}, "1mo": {Months: 1}, "90d": {Days: 90}, "1h30m": {Duration: 90 * time.Minute},
		"2w": {Days: 14}, "1q": {Months: 3}, "7y": {Months: 84}, "1y2mo3d4h5m6s7ms": {14, 3, 4*time.Hour + 5*time.Minute + 6*time.Second + 7*time.Millisecond},
		"0s": {}, "720h": {Duration: 720 * time.Hour}, "500ms": {Duration: 500 * time.Millisecond},
	}
	for s, want := range good {
		if got, err := ParsePeriod(s); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "13am", "NaN", "-1h", "+1h", "1", "h", "1 h", "1.5h", "1h1h", "1m1h", "1M", "1H", "99999999999999999999h",
		"9999999999h", "2000y", "1e3s", "٣d", "1mo ", "inf", strings.Repeat("1h", 200)} {
		if got, err := ParsePeriod(s); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%q: got %+v, %v, want a usage error with a hint", s, got, err)
		}
	}
}

func periods() *rapid.Generator[Period] {
	return rapid.Custom(func(t *rapid.T) Period {
		return Period{
			Months:   rapid.IntRange(0, 200).Draw(t, "months"),
			Days:     rapid.IntRange(0, 4000).Draw(t, "days"),
			Duration: time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "ms")) * time.Millisecond,
		}
	})
}

func TestPeriodRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := periods().Draw(t, "period")
		if got, err := ParsePeriod(p.String()); err != nil || got != p {
			t.Fatalf("%+v is written %q and read %+v, %v", p, p, got, err)
		}
	})
}

func FuzzParsePeriod(f *testing.F) {
	f.Add("1h30m")
	f.Add("1y2mo3d")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeriod(s)
		if err != nil {
			return
		}
		if p.Months < 0 || p.Days < 0 || p.Duration < 0 || p.Approx() < 0 {
			t.Fatalf("%q is negative: %+v", s, p)
		}
		if again, err := ParsePeriod(p.String()); err != nil || again != p {
			t.Fatalf("%q: %+v is written %q", s, p, p)
		}
	})
}

func TestAddTo(t *testing.T) {
	stockholm := zoneNamed(t, "Europe/Stockholm")
	tests := []struct {
		from, period string
		n            int
		want         string
	}{
		{"2026-01-31T12:00:00+01:00", "1mo", 1, "2026-02-28T12:00:00+01:00"},
		{"2024-01-31T12:00:00+01:00", "1mo", 1, "2024-02-29T12:00:00+01:00"},
		{"2026-01-31T12:00:00+01:00", "1mo", 2, "2026-03-31T12:00:00+02:00"}, // counted from the start, not from 28 February
		{"2026-03-31T12:00:00+02:00", "1mo", -1, "2026-02-28T12:00:00+01:00"},
		{"2024-02-29T12:00:00+01:00", "1y", 1, "2025-02-28T12:00:00+01:00"},
		{"2026-03-28T09:00:00+01:00", "1d", 1, "2026-03-29T09:00:00+02:00"},      // the clock time stays
		{"2026-03-28T09:00:00+01:00", "1w", 1, "2026-04-04T09:00:00+02:00"},      //
		{"2026-03-28T09:00:00+01:00", "24h", 1, "2026-03-29T10:00:00+02:00"},     // exact hours move it
		{"2026-03-28T09:00:00+01:00", "72h", 1, "2026-03-31T10:00:00+02:00"},     //
		{"2026-03-28T02:30:00+01:00", "1d", 1, "2026-03-29T03:30:00+02:00"},      // gap
		{"2026-10-24T02:30:00+02:00", "1d", 1, "2026-10-25T02:30:00+02:00"},      // fold
		{"2026-10-25T02:30:00+01:00", "1d", 0, "2026-10-25T02:30:00+01:00"},      // nothing added, nothing moved
		{"2026-12-31T23:59:59.5+01:00", "1mo", 2, "2027-02-28T23:59:59.5+01:00"}, //
	}
	for _, tt := range tests {
		from, err := time.Parse(time.RFC3339, tt.from)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePeriod(tt.period)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.AddTo(from, tt.n, stockholm).Format(time.RFC3339Nano); got != tt.want {
			t.Errorf("%s + %d × %s: got %s, want %s", tt.from, tt.n, tt.period, got, tt.want)
		}
	}
}

func TestMonthsClamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.IntRange(1990, 2090).Draw(t, "year")
		m := time.Month(rapid.IntRange(1, 12).Draw(t, "month"))
		d := rapid.IntRange(1, daysIn(y, m)).Draw(t, "day")
		n := rapid.IntRange(-500, 500).Draw(t, "n")
		got := Period{Months: 1}.AddTo(time.Date(y, m, d, 12, 0, 0, 0, time.UTC), n, time.UTC)
		months := y*12 + int(m) - 1 + n
		if got.Year()*12+int(got.Month())-1 != months {
			t.Fatalf("%d-%d-%d + %d months = %s", y, m, d, n, got)
		}
		if got.Day() != d && (got.Day() > d || got.AddDate(0, 0, 1).Day() != 1) {
			t.Fatalf("%d-%d-%d + %d months = %s", y, m, d, n, got)
		}
	})
}

func TestApprox(t *testing.T) {
	for s, want := range map[string]time.Duration{"1d": 24 * time.Hour, "1mo": 2629746 * time.Second, "1y": 31556952 * time.Second, "0s": 0} {
		p, err := ParsePeriod(s)
		if err != nil || p.Approx() != want {
			t.Errorf("%s: %s, %v", s, p.Approx(), err)
		}
	}
	if got := (Period{Months: 12000}).Approx(); got <= 0 {
		t.Errorf("a thousand years: %s", got)
	}
}

func TestRecurrences(t *testing.T) {
	stockholm := zoneNamed(t, "Europe/Stockholm")
	tests := []struct {
		text, after string
		want        []string
	}{
		{"every 15m", "2026-03-01T10:01:00Z", []string{"2026-03-01T10:15:00Z", "2026-03-01T10:30:00Z"}},
		{"every 15m", "2026-03-01T10:15:00Z", []string{"2026-03-01T10:30:00Z"}}, // strictly after
		{"every 500ms", "2026-03-01T10:15:00Z", nil},
		{"every 1500ms", "1969-12-31T23:59:59Z", []string{"1970-01-01T00:00:00Z", "1970-01-01T00:00:01.5Z"}},
		{"every 1d at 03:00", "2026-03-28T02:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"}},
		{"every 1d at 02:30", "2026-10-24T10:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"every 1d", "2026-06-01T00:00:00Z", []string{"2026-06-01T22:00:00Z"}},
		{"every 1d at 03:00,15:00", "2026-06-01T00:00:00Z", []string{"2026-06-01T01:00:00Z", "2026-06-01T13:00:00Z", "2026-06-02T01:00:00Z"}},
		{"every 1w on mon at 03:00", "2026-06-01T12:00:00Z", []string{"2026-06-08T01:00:00Z", "2026-06-15T01:00:00Z"}},
		{"Every  1w on Monday, thu at 03:00", "2026-06-01T12:00:00Z", []string{"2026-06-04T01:00:00Z", "2026-06-08T01:00:00Z"}},
		{"every 2w on mon at 03:00", "2026-06-01T12:00:00Z", []string{"2026-06-15T01:00:00Z", "2026-06-29T01:00:00Z"}},
		{"every 1mo", "2026-06-02T12:00:00Z", []string{"2026-06-30T22:00:00Z", "2026-07-31T22:00:00Z"}},
		{"every 1mo on 31 at 12:00", "2026-01-31T12:00:00Z", []string{"2026-02-28T11:00:00Z", "2026-03-31T10:00:00Z"}},
		{"every 1mo on last at 12:00", "2028-01-31T12:00:00Z", []string{"2028-02-29T11:00:00Z"}},
		{"every 1q at 12:00", "2026-01-31T12:00:00Z", []string{"2026-04-01T10:00:00Z", "2026-07-01T10:00:00Z"}},
		{"every 1y", "2026-01-31T12:00:00Z", []string{"2026-12-31T23:00:00Z"}},
		{"30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}},
		{"30 * * * *", "2026-10-25T00:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
		{"0 3 * * MON-FRI", "2026-06-05T12:00:00Z", []string{"2026-06-08T01:00:00Z"}},
		{"0 3 13 * 5", "2026-06-01T12:00:00Z", []string{"2026-06-05T01:00:00Z", "2026-06-12T01:00:00Z", "2026-06-13T01:00:00Z"}},
		{"0 12 29 2 *", "2026-06-01T12:00:00Z", []string{"2028-02-29T11:00:00Z", "2032-02-29T11:00:00Z"}},
		{"@daily", "2026-06-01T12:00:00Z", []string{"2026-06-01T22:00:00Z"}},
	}
	for _, tt := range tests {
		r, err := ParseRecurrence(tt.text)
		if tt.want == nil {
			if err == nil {
				t.Errorf("%q was accepted", tt.text)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		at, err := time.Parse(time.RFC3339, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			next, ok := r.Next(at, stockholm)
			if got := next.UTC().Format(time.RFC3339Nano); !ok || got != want {
				t.Errorf("%q after %s: got %s, want %s", tt.text, at, got, want)
			}
			at = next
		}
		if again, err := ParseRecurrence(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q is written %q: %v", tt.text, r, err)
		}
	}
}

func TestBadRecurrences(t *testing.T) {
	for _, s := range []string{"", "every", "every ", "every day", "every 0s", "every 0d", "every 1d12h", "every 15m at 03:00", "every 1d at 3:00",
		"every 1d at 25:00", "every 1d at", "every 1d at ", "every 1d at 03:00,", "every 1d on mon", "every 1w on someday", "every 1mo on 0", "every 1mo on 32",
		"every 1mo on mon", "every 1w at 03:00 on mon", "every -1d", "every 11y", "every 1mo1d", "1d", "* * * *", "* * * * * *", "0 0 0 * * *", "60 * * * *", "0,99 * * * *",
		"* 24 * * *", "0 0 31 2 *", "0 0 30 2 *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "x * * * *", "0 0 1,77 * *", "@sometimes", "*/0 * * * *", strings.Repeat("1", 500)} {
		if r, err := ParseRecurrence(s); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%q was read as %q, %v, want a usage error with a hint", s, r, err)
		}
	}
	if _, ok := (Recurrence{}).Next(time.Unix(0, 0), time.UTC); ok {
		t.Error("the zero recurrence happens")
	}
}

func TestInterval(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"every 15m": 15 * time.Minute, "every 1d at 03:00": day, "every 1d at 03:00,15:00": 12 * time.Hour, "every 1w on mon,thu": 4 * day,
		"every 1mo": 31 * day, "every 1mo on 31": 31 * day, "every 1q": 92 * day, "every 1y": 366 * day, "every 3d": 3 * day, "every 10y": 3653 * day,
		"*/5 9-17 * * 1-5": 2*day + 15*time.Hour + 5*time.Minute, "0 12 29 2 *": 1461 * day, "* * * * *": time.Minute,
	} {
		r, err := ParseRecurrence(s)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := r.Interval(); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// Next from any instant is the first slot after it, whatever the order in which
// the question is asked.
func TestNextAgreesWithSlots(t *testing.T) {
	zones := []string{"Europe/Stockholm", "America/Chicago", "Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Apia", "UTC"}
	texts := []string{"every 1d at 02:15", "every 2w on sun at 02:30", "every 1mo on last at 02:45", "every 7h", "30 1,2,3 * * 0", "*/30 * * * *"}
	rapid.Check(t, func(t *rapid.T) {
		loc := zoneNamed2(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		r, err := ParseRecurrence(rapid.SampledFrom(texts).Draw(t, "text"))
		if err != nil {
			t.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1.3e9, 2.0e9).Draw(t, "from"), 0)
		slots := r.Slots(from, from.AddDate(0, 3, 0), loc, 60)
		if !slices.IsSortedFunc(slots, time.Time.Compare) {
			t.Fatalf("not in order: %v", slots)
		}
		for i := 1; i < len(slots); i++ {
			at := slots[i-1].Add(time.Duration(rapid.Int64Range(0, int64(slots[i].Sub(slots[i-1]))-1).Draw(t, "into")))
			if next, ok := r.Next(at, loc); !ok || !next.Equal(slots[i]) {
				t.Fatalf("%s after %s: %s, want %s", r, at, next, slots[i])
			}
		}
	})
}

func zoneNamed2(t *rapid.T, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestSlotsAreBounded(t *testing.T) {
	r, err := ParseRecurrence("every 1s")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	slots := r.Slots(from, from.AddDate(1, 0, 0), time.UTC, 10)
	if len(slots) != 10 || !slots[0].Equal(from) {
		t.Errorf("%d slots from %v, want 10 beginning with from itself", len(slots), slots)
	}
	if got := r.Slots(from, from.Add(3*time.Second), time.UTC, 10); len(got) != 3 {
		t.Errorf("%d slots in 3 seconds, want 3: the end is not included", len(got))
	}
}

func TestTextForms(t *testing.T) {
	var r Recurrence
	if err := r.UnmarshalText([]byte("every 1d at 03:00")); err != nil || r.IsZero() {
		t.Error(err)
	}
	if err := r.UnmarshalText(nil); err != nil || !r.IsZero() {
		t.Error(err)
	}
	var p Period
	if err := p.UnmarshalText([]byte("1mo")); err != nil || p.Months != 1 || p.IsZero() {
		t.Error(err)
	}
}
