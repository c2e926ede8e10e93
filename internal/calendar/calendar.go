// Package calendar does all arithmetic with wall clocks, months and recurring times.
//
// A day is not 24 hours and a month is not 30 days: clocks jump, by thirty
// minutes in Lord Howe, by two hours in Troll, by a whole day when Samoa crossed
// the date line. Everything in Holdfast that says "at 03:00" or "in a month" asks
// here, so that one rule holds everywhere.
//
// # The rule (RFC 5545, section 3.3.5)
//
//   - A local time that does not exist, because the clock jumped over it, means
//     the instant that it would have been had the clock not jumped: the offset
//     before the gap is used, so that 02:30 becomes 03:30.
//   - A local time that happens twice means the first of the two.
//
// Package time resolves both differently from zone to zone, so time.Date is used
// here for UTC only. Transitions come from Time.ZoneBounds and may have any size.
//
// # Invariants
//
//   - Nothing here reads the clock.
//   - Adding months clamps to the last day: 31 January plus one month is the end
//     of February.
//   - Slots of a recurrence depend on the recurrence and the zone alone, never on
//     when the program started.
package calendar

import (
	"time"
)

// horizon is how far a local time can lie from the UTC time of the same digits,
// with a day to spare: offsets are below 16 hours.
const horizon = 40 * time.Hour

// maxTransitions bounds the walk over the zone periods within two horizons. No
// zone has had more than three changes in four days.
const maxTransitions = 32

// Wall returns the instant at which clocks in loc show the given time, by the
// package's rule for gaps and folds. Fields outside their ranges are normalised
// as time.Date does: 30 February is 1 or 2 March.
func Wall(y int, m time.Month, d, hh, mm, ss int, loc *time.Location) time.Time {
	return resolve(time.Date(y, m, d, hh, mm, ss, 0, time.UTC), loc)
}

// A wall time is held as a time.Time in UTC whose digits are the clock's.

// wallOf returns the digits that clocks in loc show at t.
func wallOf(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// A zone is a stretch of instants with one offset. A zero end is open. Its
// neighbour may have the same offset.
type zone struct {
	start, end time.Time
	offset     time.Duration
}

// zonesAround returns the zones that overlap [t-horizon, t+horizon], in order.
func zonesAround(t time.Time, loc *time.Location) []zone {
	var zones []zone
	at, last := t.Add(-horizon), t.Add(horizon)
	for range maxTransitions {
		_, offset := at.In(loc).Zone()
		end := zoneEnd(at, loc)
		zones = append(zones, zone{at, end, time.Duration(offset) * time.Second})
		if end.IsZero() || end.After(last) {
			break
		}
		at = end
	}
	return zones
}

// zoneEnd returns an instant after t until which the offset at t holds, or zero.
//
// After a zone's last tabulated change, Time.ZoneBounds ends every zone with the
// year, and takes the year for 365 days: on 31 December of a leap year it reports
// an end that is not after t. The offset then holds to the end of the UTC year.
func zoneEnd(t time.Time, loc *time.Location) time.Time {
	_, end := t.In(loc).ZoneBounds()
	if end.IsZero() || end.After(t) {
		return end
	}
	return time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
}

// contains reports whether the instant lies in the zone.
func (z zone) contains(t time.Time) bool {
	return !t.Before(z.start) && (z.end.IsZero() || t.Before(z.end))
}

// instants returns every instant at which clocks in loc show w: none in a gap,
// two in a fold, in order.
func instants(w time.Time, zones []zone) []time.Time {
	var found []time.Time
	for _, z := range zones {
		if t := w.Add(-z.offset); z.contains(t) {
			found = append(found, t)
		}
	}
	return found
}

// resolve applies the package's rule to the wall time w.
func resolve(w time.Time, loc *time.Location) time.Time {
	zones := zonesAround(w, loc)
	if found := instants(w, zones); len(found) > 0 {
		return found[0].In(loc)
	}
	// A gap: the first zone whose clock, had it run on, would have shown w after
	// the zone's end.
	for _, z := range zones {
		if t := w.Add(-z.offset); !z.end.IsZero() && !t.Before(z.end) && !t.Before(z.start) {
			// The zone after it must begin past w, or w would have been found there.
			if _, next := z.end.In(loc).Zone(); w.Before(z.end.Add(time.Duration(next) * time.Second)) {
				return t.In(loc)
			}
		}
	}
	// Not reached for any zone in the database: w is found or lies in a gap.
	return w.Add(-zones[0].offset).In(loc)
}

// addMonths moves a wall time by whole months and clamps the day to the month's last.
func addMonths(w time.Time, months int) time.Time {
	y, m, d := w.Date()
	first := time.Date(y, m+time.Month(months), 1, w.Hour(), w.Minute(), w.Second(), w.Nanosecond(), time.UTC)
	return first.AddDate(0, 0, min(d, daysIn(first.Year(), first.Month()))-1)
}

// daysIn returns the length of a month.
func daysIn(y int, m time.Month) int {
	return time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
