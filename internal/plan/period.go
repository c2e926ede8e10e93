package plan

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/calendar"
)

// Periods and recurrences are the calendar's: one package does all arithmetic with
// wall clocks and months.
type (
	Period     = calendar.Period
	Recurrence = calendar.Recurrence
)

// otherUnits are the spellings of units that people use elsewhere.
var otherUnits = map[string]string{
	"s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"h": "h", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
	"d": "d", "day": "d", "days": "d", "w": "w", "wk": "w", "week": "w", "weeks": "w",
	"mo": "mo", "mth": "mo", "month": "mo", "months": "mo", "q": "q", "quarter": "q", "quarters": "q",
	"y": "y", "yr": "y", "yrs": "y", "year": "y", "years": "y",
}

// often are the words for recurrences that stand for a period.
var often = map[string]string{
	"hourly": "1h", "daily": "1d", "nightly": "1d", "weekly": "1w", "monthly": "1mo", "quarterly": "1q", "yearly": "1y", "annually": "1y",
}

// smaller says how many of the next exact unit a unit is, for fractions.
var smaller = map[string]struct {
	unit  string
	times float64
}{"m": {"s", 60}, "h": {"m", 60}, "d": {"h", 24}, "w": {"d", 7}, "y": {"mo", 12}}

var (
	isoPeriod    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[Pp]([^Tt]*)(?:[Tt](.*))?$`) })
	spelledParts = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^\s*(?:and\s+|,\s*)?([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)`)
	})
)

// nearPeriod returns the period that was most probably meant by a text that is none: other
// names of units, spaces, capitals, fractions, and the notation of ISO 8601. "" if nothing
// is near.
func nearPeriod(s string) string {
	if len(s) > maxID {
		return ""
	}
	if m := isoPeriod().FindStringSubmatch(s); m != nil {
		days := spelled(m[1], map[string]string{"y": "y", "m": "mo", "w": "w", "d": "d"})
		clock := spelled(m[2], map[string]string{"h": "h", "m": "m", "s": "s"})
		if m[1] != "" && days == "" || m[2] != "" && clock == "" {
			return ""
		}
		return valid(days + clock)
	}
	return valid(spelled(s, otherUnits))
}

// spelled writes numbers with spelled units as a period; "" if anything else is among them.
func spelled(s string, units map[string]string) string {
	var out strings.Builder
	for rest := s; strings.TrimSpace(rest) != ""; {
		m := spelledParts().FindStringSubmatch(rest)
		if m == nil {
			return ""
		}
		rest = rest[len(m[0]):]
		unit, known := units[strings.ToLower(m[2])]
		n, err := strconv.ParseFloat(m[1], 64)
		if !known || err != nil {
			return ""
		}
		if n != float64(int64(n)) {
			less, ok := smaller[unit]
			if n *= less.times; !ok || n != float64(int64(n)) {
				return ""
			}
			unit = less.unit
		}
		fmt.Fprintf(&out, "%d%s", int64(n), unit)
	}
	return out.String()
}

// valid is s if it is a period, and "" otherwise.
func valid(s string) string {
	if _, err := calendar.ParsePeriod(s); err != nil {
		return ""
	}
	return s
}

// meantRecurrence is the hint for a text that is no recurrence.
func meantRecurrence(s, otherwise string) string {
	if p, ok := often[strings.ToLower(strings.TrimSpace(s))]; ok {
		return fmt.Sprintf("did you mean %q?", p)
	}
	return meantPeriod(s, otherwise)
}

// meantPeriod is the hint for a text that is no period: what was meant, if that can be told.
func meantPeriod(s, otherwise string) string {
	if p := nearPeriod(s); p != "" {
		return fmt.Sprintf("did you mean %q?", p)
	}
	return otherwise
}
