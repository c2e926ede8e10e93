package calendar

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// A Recurrence is a set of instants that repeats, as people write it:
//
//	every 15m                       exact steps, counted from 1970 in UTC
//	every 1d at 03:00               every day; without "at", midnight
//	every 1d at 03:00,15:00
//	every 1w on mon,thu at 03:00    without "on", Monday
//	every 1mo on 15 at 03:00        without "on", the first; 29 to 31 clamp
//	every 1mo on last at 23:30
//	every 1q, every 1y              January, April, … and January
//	30 2 * * mon-fri                cron, five fields, or @daily and its like
//
// Days, weeks and months go by the wall clock of the zone that the caller gives.
// With a count above one they are counted from 1 January 1970, weeks from its
// Monday, so that the slots do not depend on when the plan came into force.
//
// A slot in a gap of the clock moves behind it, one in a fold happens once. Cron
// with "*" for the hour is the exception: it means "all the time", so it fires
// through both hours of a fold.
//
// The zero Recurrence never happens.
type Recurrence struct {
	text string
	step time.Duration // exact steps; the fields below are then unused

	day    func(date time.Time) bool // does the rule hold on this date (digits in UTC)?
	times  []time.Duration           // of the day, ascending
	always bool                      // cron with "*" for the hour
	span   int                       // years after which the pattern has shown all its gaps
}

// Limits of a recurrence.
const (
	maxStepDays   = 3660
	maxStepMonths = 120
	maxTimes      = 24 * 60
	minStep       = time.Second
)

// ParseRecurrence reads a recurrence.
func ParseRecurrence(s string) (Recurrence, error) {
	text := strings.ToLower(strings.Join(strings.Fields(s), " "))
	bad := func(why string) (Recurrence, error) {
		return Recurrence{}, holdfast.WithHint(fmt.Errorf("schedule %q: %s: %w", clip(s), why, holdfast.ErrUsage),
			`write for example "every 15m", "every 1d at 03:00", "every 1w on mon at 03:00", "every 1mo on 15 at 03:00" or cron, "30 2 * * *"`)
	}
	if len(s) > maxPeriodText {
		return bad("is too long")
	}
	rest, every := strings.CutPrefix(text, "every ")
	if !every {
		if text == "" {
			return bad("is empty")
		}
		r, why := parseCron(text)
		if why != "" {
			return bad(why)
		}
		return r, nil
	}
	rest, at, hasAt := strings.Cut(rest, " at ")
	length, on, hasOn := strings.Cut(rest, " on ")
	p, err := ParsePeriod(length)
	if err != nil {
		return bad(fmt.Sprintf("%q is not a period", length))
	}
	r := Recurrence{text: text, times: []time.Duration{0}}
	if p.Duration > 0 {
		switch {
		case p.Months > 0 || p.Days > 0:
			return bad("days and months do not mix with hours")
		case hasAt || hasOn:
			return bad(`"at" and "on" need days, weeks or months`)
		case p.Duration < minStep:
			return bad("is shorter than a second")
		}
		r.step, r.times = p.Duration, nil
		return r, nil
	}
	if hasAt {
		if r.times, err = parseTimes(at); err != nil {
			return bad(err.Error())
		}
	}
	if why := r.setDays(p, length, on, hasOn); why != "" {
		return bad(why)
	}
	return r, nil
}

// setDays chooses the rule for the date. It returns why it cannot.
func (r *Recurrence) setDays(p Period, length, on string, hasOn bool) string {
	switch {
	case p.Months > 0 && p.Days > 0:
		return "months do not mix with days"
	case p.Months == 0 && p.Days == 0:
		return "the step has no length"
	case p.Months > maxStepMonths || p.Days > maxStepDays:
		return "the step is too long"
	case p.Months > 0:
		day := 1
		if on == "last" {
			day = 31
		} else if hasOn {
			n, err := strconv.Atoi(on)
			if err != nil || n < 1 || n > 31 {
				return fmt.Sprintf(`day %q is not "last" or 1 to 31`, on)
			}
			day = n
		}
		r.span = 9 + 2*p.Months/12
		r.day = func(d time.Time) bool {
			months := d.Year()*12 + int(d.Month()) - 1 - 1970*12
			return mod(months, p.Months) == 0 && d.Day() == min(day, daysIn(d.Year(), d.Month()))
		}
	case strings.HasSuffix(length, "w"):
		days, err := parseWeekdays(on, hasOn)
		if err != nil {
			return err.Error()
		}
		r.span = 1 + p.Days/100
		r.day = func(d time.Time) bool {
			// 1 January 1970 was a Thursday; its week began three days before.
			return days[d.Weekday()] && mod(floorDiv(dayNumber(d)+3, 7), p.Days/7) == 0
		}
	default:
		if hasOn {
			return `"on" needs weeks or months`
		}
		r.span = 1 + p.Days/100
		r.day = func(d time.Time) bool { return mod(dayNumber(d), p.Days) == 0 }
	}
	return ""
}

func parseTimes(s string) ([]time.Duration, error) {
	var times []time.Duration
	for part := range strings.SplitSeq(s, ",") {
		t, err := time.Parse("15:04", strings.TrimSpace(part))
		if err != nil || len(strings.TrimSpace(part)) != len("15:04") {
			return nil, fmt.Errorf("time %q is not like 03:00", part)
		}
		if len(times) == maxTimes {
			return nil, fmt.Errorf("more than %d times", maxTimes)
		}
		times = append(times, time.Duration(t.Hour())*time.Hour+time.Duration(t.Minute())*time.Minute)
	}
	slices.Sort(times)
	return slices.Compact(times), nil
}

func parseWeekdays(s string, given bool) (days [7]bool, err error) {
	if !given {
		days[time.Monday] = true
		return days, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		found := false
		for d := time.Sunday; d <= time.Saturday; d++ {
			name := strings.ToLower(d.String())
			if part == name || part == name[:3] {
				days[d], found = true, true
			}
		}
		if !found {
			return days, fmt.Errorf("%q is not a day of the week", part)
		}
	}
	return days, nil
}

func dayNumber(d time.Time) int { return floorDiv(int(d.Unix()), 24*60*60) }

func floorDiv(a, b int) int {
	if q := a / b; a%b >= 0 {
		return q
	} else {
		return q - 1
	}
}

func mod(a, b int) int { return a - b*floorDiv(a, b) }

// String returns the text, lower case with single spaces.
func (r Recurrence) String() string { return r.text }

// IsZero reports whether the recurrence was never set.
func (r Recurrence) IsZero() bool { return r.text == "" }

// MarshalText and UnmarshalText make a recurrence a scalar in YAML and JSON.
func (r Recurrence) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText is ParseRecurrence; empty text is the zero Recurrence.
func (r *Recurrence) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*r = Recurrence{}
		return nil
	}
	*r, err = ParseRecurrence(string(b))
	return err
}

// Next returns the first slot after the given instant, or false if there is none
// within some forty years.
func (r Recurrence) Next(after time.Time, loc *time.Location) (time.Time, bool) {
	if r.step > 0 {
		return nextStep(after, r.step).In(loc), true
	}
	if r.day == nil {
		return time.Time{}, false
	}
	// Slots are listed by wall time, and around a change of the clock their
	// instants come in another order. A wall time w happens no earlier than
	// w minus the largest offset near it, and no later than w minus the smallest.
	low, _ := offsetsAround(after, loc)
	w, ok := r.nextWall(after.UTC().Add(low).Add(-time.Nanosecond))
	var best time.Time
	for ; ok; w, ok = r.nextWall(w) {
		if !best.IsZero() {
			if _, high := offsetsAround(best, loc); w.Add(-high).After(best) {
				break
			}
		}
		for _, t := range r.slotsOf(w, loc) {
			if t.After(after) && (best.IsZero() || t.Before(best)) {
				best = t
			}
		}
	}
	if best.IsZero() {
		return time.Time{}, false
	}
	return best.In(loc), true
}

// slotsOf returns the instants of the slot with wall time w.
func (r Recurrence) slotsOf(w time.Time, loc *time.Location) []time.Time {
	if r.always {
		if found := instants(w, zonesAround(w, loc)); len(found) > 0 {
			return found
		}
	}
	return []time.Time{resolve(w, loc)}
}

// Moved returns the first wall time of the rule in [from, to) that no clock in loc
// shows, because the clock is put forward over it, and the instant that stands in for
// it. The wall time has its digits in UTC.
func (r Recurrence) Moved(from, to time.Time, loc *time.Location) (wall, slot time.Time, moved bool) {
	if r.day == nil || r.always {
		return wall, slot, false
	}
	for at := from; at.Before(to); {
		end := zoneEnd(at, loc)
		if end.IsZero() || !end.Before(to) {
			break
		}
		_, before := end.Add(-time.Nanosecond).In(loc).Zone()
		_, after := end.In(loc).Zone()
		begins := end.UTC().Add(time.Duration(before) * time.Second)
		w, ok := r.nextWall(begins.Add(-time.Nanosecond))
		if ok && w.Before(end.UTC().Add(time.Duration(after)*time.Second)) {
			return w, resolve(w, loc), true
		}
		at = end
	}
	return wall, slot, false
}

// offsetsAround returns the smallest and the largest offset near t.
func offsetsAround(t time.Time, loc *time.Location) (low, high time.Duration) {
	zones := zonesAround(t, loc)
	low, high = zones[0].offset, zones[0].offset
	for _, z := range zones[1:] {
		low, high = min(low, z.offset), max(high, z.offset)
	}
	return low, high
}

// maxSearchDays bounds the search for a date: the rarest rules are a leap day
// around a century without one, and a leap day on one day of the week.
const maxSearchDays = 41 * 366

// nextWall returns the first wall time of the rule after w.
func (r Recurrence) nextWall(w time.Time) (time.Time, bool) {
	date := time.Date(w.Year(), w.Month(), w.Day(), 0, 0, 0, 0, time.UTC)
	for range maxSearchDays {
		if r.day(date) {
			for _, at := range r.times {
				if t := date.Add(at); t.After(w) {
					return t, true
				}
			}
		}
		date = date.AddDate(0, 0, 1)
	}
	return time.Time{}, false
}

// nextStep returns the first multiple of step since 1970 after t.
func nextStep(t time.Time, step time.Duration) time.Time {
	// Seconds and nanoseconds apart: UnixNano ends in 2262. Whole seconds come
	// first, then the rest below one step, which never overflows.
	sec, nsec := t.Unix(), int64(t.Nanosecond())
	if step%time.Second == 0 {
		n := int64(step / time.Second)
		return time.Unix((int64(floorDiv(int(sec), int(n)))+1)*n, 0)
	}
	at := time.Duration(sec)*time.Second + time.Duration(nsec)
	return time.Unix(0, (int64(floorDiv(int(at), int(step)))+1)*int64(step))
}

// Slots returns the slots in [from, to), at most max of them.
func (r Recurrence) Slots(from, to time.Time, loc *time.Location, max int) []time.Time {
	var slots []time.Time
	at := from.Add(-time.Nanosecond)
	for len(slots) < max {
		next, ok := r.Next(at, loc)
		if !ok || !next.Before(to) {
			break
		}
		slots = append(slots, next)
		at = next
	}
	return slots
}

// Interval returns the longest time between two neighbouring slots, by the
// calendar: a day counts 24 hours, although the clock's change makes one day of
// the year longer. It is 0 for a recurrence that happens less than twice.
func (r Recurrence) Interval() time.Duration {
	if r.step > 0 || r.day == nil {
		return r.step
	}
	// The pattern is walked from a date chosen so that the walk holds leap years.
	var longest time.Duration
	var last time.Time
	date := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for end := date.AddDate(r.span, 0, 0); date.Before(end); date = date.AddDate(0, 0, 1) {
		if !r.day(date) {
			continue
		}
		for _, at := range r.times {
			t := date.Add(at)
			if !last.IsZero() {
				longest = max(longest, t.Sub(last))
			}
			last = t
		}
	}
	return longest
}
