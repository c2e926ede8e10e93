package plan

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/calendar"
)

// An Estimate is how long a step is expected to take: a period, or "measured".
type Estimate struct {
	Period   Period
	Measured bool
}

// IsZero reports whether nothing is declared.
func (e Estimate) IsZero() bool { return e == Estimate{} }

// Duration returns the estimate; what drills measure counts as nothing.
func (e Estimate) Duration() time.Duration { return e.Period.Approx() }

// String returns the estimate as the plan declares it.
func (e Estimate) String() string {
	if e.Measured {
		return "measured"
	}
	if e.Period.IsZero() {
		return ""
	}
	return e.Period.String()
}

// A Date is a day, "2026-10-01", in the plan's time zone.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// ParseDate reads "2026-10-01".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a day such as 2026-10-01", s)
	}
	return Date{t.Year(), t.Month(), t.Day()}, nil
}

// IsZero reports whether no day is declared.
func (d Date) IsZero() bool { return d == Date{} }

// before reports whether d is an earlier day than other.
func (d Date) before(other Date) bool {
	return cmp.Or(cmp.Compare(d.Year, other.Year), cmp.Compare(d.Month, other.Month), cmp.Compare(d.Day, other.Day)) < 0
}

// String returns "2026-10-01", or "".
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day)
}

// Begin returns the first instant of the day in loc.
func (d Date) Begin(loc *time.Location) time.Time {
	return calendar.Wall(d.Year, d.Month, d.Day, 0, 0, 0, loc)
}

// A SyntaxError says that a plan cannot be read. It carries every complaint.
type SyntaxError struct {
	Findings []holdfast.Finding
}

// Error shows the first complaint and how many there are.
func (e *SyntaxError) Error() string {
	var b strings.Builder
	if len(e.Findings) == 0 {
		return "the plan cannot be read"
	}
	f := e.Findings[0]
	if f.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	}
	b.WriteString(f.Message)
	if n := len(e.Findings) - 1; n > 0 {
		fmt.Fprintf(&b, " (and %d more)", n)
	}
	return b.String()
}

// Is makes a plan that cannot be read a usage error.
func (e *SyntaxError) Is(target error) bool { return target == holdfast.ErrUsage }

// hinted returns e with the hint of its first complaint.
func (e *SyntaxError) hinted() error {
	if len(e.Findings) == 0 || e.Findings[0].Hint == "" {
		return e
	}
	return holdfast.WithHint(e, "%s", e.Findings[0].Hint)
}

// FindingsOf returns the findings of a SyntaxError in err's chain.
func FindingsOf(err error) []holdfast.Finding {
	if e, ok := errors.AsType[*SyntaxError](err); ok {
		return e.Findings
	}
	return nil
}
