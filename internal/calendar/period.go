package calendar

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// A Period is a length of time as people write it: "15m", "90d", "1mo", "1h30m".
//
// Months and days are calendar lengths, the rest is exact: "1d" is the same
// clock time tomorrow, "24h" is 24 hours later. The parts are never negative.
type Period struct {
	Months   int
	Days     int
	Duration time.Duration
}

// maxYears bounds the calendar part of a period.
const maxYears = 1000

// maxPeriodText bounds the text of a period or a recurrence.
const maxPeriodText = 200

// units, longest first: a period names each at most once, in this order.
var units = []struct {
	name string
	days int // 0 for months and for exact units
	mon  int
	dur  time.Duration
}{
	{"y", 0, 12, 0}, {"q", 0, 3, 0}, {"mo", 0, 1, 0}, {"w", 7, 0, 0}, {"d", 1, 0, 0},
	{"h", 0, 0, time.Hour}, {"m", 0, 0, time.Minute}, {"s", 0, 0, time.Second}, {"ms", 0, 0, time.Millisecond},
}

// ParsePeriod reads a period: whole numbers with the units y, q, mo, w, d, h, m,
// s and ms, longest first, each once, without spaces. Signs, fractions, unknown
// units and the empty text are refused.
func ParsePeriod(s string) (Period, error) {
	var p Period
	bad := func(why string) (Period, error) {
		return Period{}, holdfast.WithHint(fmt.Errorf("period %q: %s: %w", clip(s), why, holdfast.ErrUsage),
			`write a number and a unit (ms, s, m, h, d, w, mo, q, y), for example "15m", "90d", "1mo" or "1h30m"`)
	}
	if s == "" {
		return bad("is empty")
	}
	if len(s) > maxPeriodText {
		return bad("is too long")
	}
	next := 0 // units before this one may not come any more
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		letters := len(rest[digits:]) - len(strings.TrimLeft(rest[digits:], "abcdefghijklmnopqrstuvwxyz"))
		if digits == 0 || letters == 0 {
			return bad("a number with a unit is expected")
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return bad("the number is too large")
		}
		name := rest[digits : digits+letters]
		i := 0
		for i < len(units) && units[i].name != name {
			i++
		}
		if i == len(units) {
			return bad(fmt.Sprintf("unit %q is not known", name))
		}
		if i < next {
			return bad("units come longest first, each once")
		}
		next = i + 1
		u := units[i]
		// Checked by division, so that nothing overflows.
		if u.mon > 0 && n > maxYears*12/int64(u.mon) ||
			u.days > 0 && n > maxYears*366/int64(u.days) ||
			u.dur > 0 && n > (math.MaxInt64-int64(p.Duration))/int64(u.dur) {
			return bad("is longer than can be kept")
		}
		p.Months += int(n) * u.mon
		p.Days += int(n) * u.days
		p.Duration += time.Duration(n) * u.dur
		rest = rest[digits+letters:]
	}
	return p, nil
}

func clip(s string) string {
	if len(s) > maxPeriodText {
		return s[:maxPeriodText] + "…"
	}
	return s
}

// String writes the period so that ParsePeriod reads it back. Less than a
// millisecond is not written.
func (p Period) String() string {
	var b strings.Builder
	part := func(n int64, unit string) {
		if n != 0 {
			fmt.Fprintf(&b, "%d%s", n, unit)
		}
	}
	part(int64(p.Months/12), "y")
	part(int64(p.Months%12), "mo")
	part(int64(p.Days), "d")
	d := p.Duration
	part(int64(d/time.Hour), "h")
	part(int64(d%time.Hour/time.Minute), "m")
	part(int64(d%time.Minute/time.Second), "s")
	part(int64(d%time.Second/time.Millisecond), "ms")
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// IsZero reports whether the period has no length.
func (p Period) IsZero() bool { return p == Period{} }

// Approx returns the period's mean length: a month is a twelfth of 365.2425 days.
// It is for comparing and showing, never for finding an instant.
func (p Period) Approx() time.Duration {
	const day = 24 * time.Hour
	const month = time.Duration(365.2425 * float64(day) / 12)
	f := float64(p.Months)*float64(month) + float64(p.Days)*float64(day) + float64(p.Duration)
	if f >= math.MaxInt64 {
		return math.MaxInt64 // some 292 years
	}
	return time.Duration(p.Months)*month + time.Duration(p.Days)*day + p.Duration
}

// AddTo returns the instant n periods after t, or before it if n is negative.
// Months and days move the wall clock in loc, from t in one step, so that the
// second month after 31 January is 31 March; then the exact part is added.
func (p Period) AddTo(t time.Time, n int, loc *time.Location) time.Time {
	if (p.Months != 0 || p.Days != 0) && n != 0 {
		w := addMonths(wallOf(t, loc), p.Months*n)
		t = resolve(w.AddDate(0, 0, p.Days*n), loc)
	}
	return t.Add(p.Duration * time.Duration(n)).In(loc)
}

// MarshalText and UnmarshalText make a period a scalar in YAML and JSON.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePeriod.
func (p *Period) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePeriod(string(b))
	return err
}
