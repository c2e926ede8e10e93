package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Period is a length of time in calendar units.
type Period struct {
	Months, Days int
	Duration     time.Duration
}

// Approx returns the period with months of 30 days.
func (p Period) Approx() time.Duration {
	return time.Duration(p.Months*30+p.Days)*24*time.Hour + p.Duration
}

// String returns the period as ParsePeriod reads it.
func (p Period) String() string {
	var b strings.Builder
	if p.Months != 0 {
		fmt.Fprintf(&b, "%dmo", p.Months)
	}
	if p.Days != 0 {
		fmt.Fprintf(&b, "%dd", p.Days)
	}
	if p.Duration != 0 {
		s := p.Duration.String()
		s = strings.TrimSuffix(s, "0s")
		s = strings.TrimSuffix(s, "0m")
		b.WriteString(s)
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

func parsePeriod(s string) (Period, error) {
	var p Period
	rest := s
	if rest == "" {
		return p, errors.New("an empty period")
	}
	for rest != "" {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		j := i
		for j < len(rest) && rest[j] >= 'a' && rest[j] <= 'z' {
			j++
		}
		if i == 0 || i > 9 {
			return Period{}, fmt.Errorf("%q is not a period", s)
		}
		n := 0
		for _, c := range rest[:i] {
			n = n*10 + int(c-'0')
		}
		switch rest[i:j] {
		case "s":
			p.Duration += time.Duration(n) * time.Second
		case "m":
			p.Duration += time.Duration(n) * time.Minute
		case "h":
			p.Duration += time.Duration(n) * time.Hour
		case "d":
			p.Days += n
		case "w":
			p.Days += 7 * n
		case "mo":
			p.Months += n
		case "q":
			p.Months += 3 * n
		case "y":
			p.Months += 12 * n
		default:
			return Period{}, fmt.Errorf("%q is not a period", s)
		}
		rest = rest[j:]
	}
	return p, nil
}

// A Recurrence says when something is due.
type Recurrence struct {
	text  string
	every Period
}

// Interval returns the longest time between two occurrences.
func (r Recurrence) Interval() time.Duration { return r.every.Approx() }

// String returns the recurrence as it was written.
func (r Recurrence) String() string { return r.text }

func parseRecurrence(s string) (Recurrence, error) {
	text, _, _ := strings.Cut(strings.TrimPrefix(s, "every "), " at ")
	p, err := parsePeriod(text)
	if err != nil {
		return Recurrence{}, err
	}
	return Recurrence{s, p}, nil
}
