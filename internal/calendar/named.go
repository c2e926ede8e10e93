package calendar

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

var spanName = regexp.MustCompile(`^([0-9]{4})(?:-(?:Q([1-4])|(0[1-9]|1[0-2])))?$`)

// Named returns the bounds of a year ("2026"), a quarter ("2026-Q4") or a month
// ("2026-11") on the wall clock of loc: the first instant of it, and the first after it.
func Named(name string, loc *time.Location) (from, to time.Time, err error) {
	m := spanName.FindStringSubmatch(strings.ToUpper(name))
	if m == nil {
		return from, to, holdfast.WithHint(fmt.Errorf("period %q is not known: %w", clip(name), holdfast.ErrUsage), "write a month (2026-11), a quarter (2026-Q4) or a year (2026)")
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // the expression lets only digits through
		return n
	}
	first, months := time.January, 12
	switch {
	case m[2] != "":
		first, months = time.Month(3*number(m[2])-2), 3
	case m[3] != "":
		first, months = time.Month(number(m[3])), 1
	}
	begin := time.Date(number(m[1]), first, 1, 0, 0, 0, 0, time.UTC)
	return resolve(begin, loc), resolve(addMonths(begin, months), loc), nil
}
