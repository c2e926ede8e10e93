package render

import (
	"strconv"
	"strings"
	"time"

	"holdfast/internal/calendar"
	"holdfast/internal/plan"
)

// Words for periods, recurrences and objectives. The importer reads each of them
// back to the value that it was written from.

// period returns "1 day 2 hours", or "".
func period(p plan.Period) string {
	if p.IsZero() {
		return ""
	}
	var parts []string
	add := func(n int64, unit string) {
		if n == 1 {
			parts = append(parts, "1 "+unit)
		} else if n != 0 {
			parts = append(parts, strconv.FormatInt(n, 10)+" "+unit+"s")
		}
	}
	add(int64(p.Months/12), "year")
	add(int64(p.Months%12), "month")
	add(int64(p.Days), "day")
	d := p.Duration
	add(int64(d/time.Hour), "hour")
	add(int64(d%time.Hour/time.Minute), "minute")
	add(int64(d%time.Minute/time.Second), "second")
	add(int64(d%time.Second/time.Millisecond), "millisecond")
	return strings.Join(parts, " ")
}

// periodOr returns the period in words, or what stands for none.
func periodOr(p plan.Period, none string) string {
	if s := period(p); s != "" {
		return s
	}
	return none
}

// every returns "every year" or "every 3 months".
func every(words string) string {
	if one, ok := strings.CutPrefix(words, "1 "); ok && !strings.Contains(one, " ") {
		words = one
	}
	return "every " + words
}

// recurrence returns "every day at 02:00", or "".
func (w *writer) recurrence(r plan.Recurrence) string {
	text := r.String()
	if text == "" {
		return ""
	}
	rest, plain := strings.CutPrefix(text, "every ")
	if !plain {
		return "by the timetable " + w.code(text)
	}
	length, _, _ := strings.Cut(rest, " ")
	tail := strings.TrimPrefix(rest, length)
	p, err := calendar.ParsePeriod(length)
	if err != nil {
		return w.code(text) // the calendar has read it; only its words are missing here
	}
	words := period(p)
	// Weeks and quarters are days and months to the calendar, and other slots.
	for unit, word := range map[string]string{"w": "week", "q": "quarter"} {
		if n, err := strconv.Atoi(strings.TrimSuffix(length, unit)); err == nil && strings.HasSuffix(length, unit) {
			words = plural(n, word)
		}
	}
	if tail == "" {
		return every(words)
	}
	return every(words) + " " + w.text(tail)
}

// objective returns a promise in words: the number, the policy's own words beside
// it, or plainly that there is none.
func (w *writer) objective(o plan.Objective) string {
	limit := func(target, most plan.Period) string {
		if target.IsZero() {
			return period(most)
		}
		return period(target) + ", at most " + period(most)
	}
	text := ""
	switch {
	case o.None != "":
		return "not applicable: " + w.text(o.None)
	case o.Unbound():
		return w.quoted(o.Stated) + " (not bound to a number, so it cannot be tested)"
	case len(o.Stages) > 0:
		var parts []string
		for _, st := range o.Stages {
			part := w.text(st.ID) + ": " + limit(st.Target, st.Max)
			if st.From != "" {
				part += " from " + w.text(st.From)
			}
			parts = append(parts, part)
		}
		text = "in stages: " + strings.Join(parts, "; ")
	case !o.Max.IsZero():
		text = limit(o.Target, o.Max)
	default:
		return "not declared"
	}
	if o.Stated != "" {
		text += " (declared as " + w.quoted(o.Stated) + ")"
	}
	return text
}

// plural returns "1 store" or "2 stores".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// estimate returns how long a step takes, in words.
func (w *writer) estimate(e plan.Estimate) string {
	switch {
	case e.Measured:
		return "as measured"
	case e.Period.IsZero():
		return "not declared"
	}
	return period(e.Period)
}
