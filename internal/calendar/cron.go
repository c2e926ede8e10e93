package calendar

import (
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// Fields of a cron line as the library counts them; it puts seconds first.
const (
	cronMinute = 1
	cronHour   = 2
	cronDay    = 3
	cronMonth  = 4
	cronDOW    = 5
	cronFields = 6
)

// parseCron reads five cron fields, or a tag such as @daily. The library only
// says which minutes, hours and dates match; what the clock makes of them is
// decided in this package. It returns why it cannot.
func parseCron(text string) (Recurrence, string) {
	given := len(strings.Fields(text))
	if given != 5 && !strings.HasPrefix(text, "@") {
		return Recurrence{}, "is neither \"every …\" nor five cron fields"
	}
	segs, err := gronx.Segments(text)
	if err != nil || len(segs) != cronFields || segs[0] != "0" {
		return Recurrence{}, "is not a cron line of five fields"
	}
	minutes, why := matches(segs, cronMinute, 0, 59)
	hours, why2 := matches(segs, cronHour, 0, 23)
	if why+why2 != "" {
		return Recurrence{}, why + why2
	}
	r := Recurrence{text: text, always: segs[cronHour] == "*", span: 9}
	for _, h := range hours {
		for _, m := range minutes {
			r.times = append(r.times, time.Duration(h)*time.Hour+time.Duration(m)*time.Minute)
		}
	}
	days := append([]string{"0", "*", "*"}, segs[cronDay], segs[cronMonth], segs[cronDOW])
	// The library notices a bad value only when its turn comes, so every day of
	// a leap year is asked once.
	for d := range 366 {
		if err := checkDay(segs, time.Date(2024, 1, 1+d, 0, 0, 0, 0, time.UTC)); err != nil {
			return Recurrence{}, err.Error()
		}
	}
	r.day = func(date time.Time) bool {
		due, err := newCron(date).SegmentsDue(days)
		return err == nil && due
	}
	if _, ok := r.nextWall(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
		return Recurrence{}, "never happens"
	}
	return r, ""
}

// newCron returns the library's checker for one date. It is made anew each time
// because it keeps the date inside, and a Recurrence is used concurrently.
func newCron(at time.Time) *gronx.Gronx {
	g := gronx.New()
	g.C.SetRef(at)
	return g
}

// matches lists the values of one time field that a cron line names.
func matches(segs []string, field, low, high int) (values []int, why string) {
	for v := low; v <= high; v++ {
		at := time.Date(2024, 1, 1, 0, v, 0, 0, time.UTC)
		if field == cronHour {
			at = time.Date(2024, 1, 1, v, 0, 0, 0, time.UTC)
		}
		due, err := newCron(at).C.CheckDue(segs[field], field)
		if err != nil {
			return nil, badField(segs[field])
		}
		if due {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil, badField(segs[field])
	}
	return values, ""
}

func checkDay(segs []string, date time.Time) error {
	g := newCron(date)
	for _, field := range []int{cronDay, cronMonth, cronDOW} {
		if segs[field] == "" {
			return fmt.Errorf("%s", badField(segs[field]))
		}
		if _, err := g.C.CheckDue(segs[field], field); err != nil {
			return fmt.Errorf("%s", badField(segs[field]))
		}
	}
	return nil
}

func badField(s string) string {
	return fmt.Sprintf("cron field %q is not understood", strings.ToLower(s))
}
