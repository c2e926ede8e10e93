package vault

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/calendar"
)

// Terms say how long the copies of one store are kept. They come from the plan that
// the vault holds.
type Terms struct {
	// Keep is how long a copy is kept at least, from its receipt. Zero keeps for ever:
	// a plan that says nothing must not delete anything.
	Keep calendar.Period
	// Max is when a copy must be gone, from its receipt. Zero: no such time.
	Max calendar.Period
	// KeepBy and MaxBy say whose words they are if not the backup's: " by the class …".
	KeepBy, MaxBy string
	// History keeps the last copy of each span, each for its time.
	History []Span
	// Rolls says that the store has a log: the copy before the window carries the log
	// through it.
	Rolls bool
	Holds []string       // cases that forbid deletion
	Zone  *time.Location // where days and months begin
}

// A Span is one step of the history.
type Span struct {
	Name string // hour, day, week, month, year
	Keep calendar.Period
}

// A Point is one snapshot of a store at one location, as the vault sees it.
type Point struct {
	Snapshot string `json:"snapshot"`
	// Received is the vault's earliest receipt of it anywhere, if it has one here too:
	// a location that got its copy late does not keep it longer. Zero: none.
	Received time.Time `json:"received,omitzero"`
	Created  time.Time `json:"created"` // the writer's claim; no term is counted from it
	Bytes    int64     `json:"bytes"`
	Files    int64     `json:"files"`
	Proven   bool      `json:"proven,omitempty"` // a drill restored it, and it is the last of which that is true
}

// A Decision says what becomes of one snapshot, and why.
type Decision struct {
	Point
	Keep bool `json:"keep"`
	// Must says that the policy demands the deletion, and does not only allow it.
	Must bool `json:"must,omitempty"`
	// Over says that the snapshot is past the maximum, also where it stays.
	Over bool   `json:"over,omitempty"`
	Why  string `json:"why"`
	// Until is when the term ends; zero while something other than time keeps it.
	Until time.Time `json:"until,omitzero"`
	// Log says how much of the store's log the snapshot needs: "on" for all from here
	// on, "end" for as much as makes it whole.
	Log string `json:"log,omitempty"`
}

// What a kept snapshot needs of a log.
const (
	logOn  = "on"
	logEnd = "end"
)

// Decide says of every snapshot of a store at one location what is kept, what goes,
// and why. It is pure, and the order of what it is given does not matter.
//
// Nothing goes without a receipt, under a hold, as the newest, as the last that was
// proven, or as the base that carries the log through the window: these beat the
// maximum too, since the last good copy must outlive a policy's mistake. The
// maximum beats keep and history.
func Decide(t Terms, points []Point, now time.Time) []Decision {
	if t.Zone == nil {
		t.Zone = time.UTC
	}
	out := make([]Decision, len(points))
	for i, p := range points {
		out[i] = Decision{Point: p}
	}
	slices.SortFunc(out, func(a, b Decision) int {
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.Snapshot, b.Snapshot))
	})
	spans := t.kept(out, now)
	newest, carrier := len(out)-1, -1
	for i, d := range out {
		if t.Rolls && !t.Keep.IsZero() && !d.Received.IsZero() && !now.Before(t.Keep.AddTo(d.Received, 1, t.Zone)) {
			carrier = i // the last one whose term is over
		}
	}
	for i := range out {
		d := &out[i]
		if t.Rolls {
			d.Log = logOn
		}
		if !t.Keep.IsZero() && !d.Received.IsZero() {
			d.Until = t.Keep.AddTo(d.Received, 1, t.Zone)
		}
		d.Over = !t.Max.IsZero() && !d.Received.IsZero() && !now.Before(t.Max.AddTo(d.Received, 1, t.Zone))
		keep := func(why string, timed bool) {
			d.Keep, d.Why = true, why
			if d.Over {
				d.Why += fmt.Sprintf(", although it is past the maximum of %s%s", t.Max, t.MaxBy)
			}
			if !timed {
				d.Until = time.Time{}
			}
		}
		switch {
		case d.Received.IsZero():
			keep("the vault has given no receipt for it", false)
		case len(t.Holds) > 0:
			keep(fmt.Sprintf("held: %s", t.Holds[0]), false)
		case i == newest:
			keep("it is the newest", false)
		case d.Proven:
			keep("it is the last that a drill proved", false)
		case t.Keep.IsZero() && !d.Over:
			keep("the plan says no time", false)
		case i == carrier:
			keep(fmt.Sprintf("it carries the log through the last %s", t.Keep), false)
		case d.Over:
			d.Must, d.Why, d.Log = true, fmt.Sprintf("received %s, kept at most %s%s", day(d.Received, t.Zone), t.Max, t.MaxBy), ""
		case now.Before(d.Until):
			keep(fmt.Sprintf("kept %s from its receipt%s", t.Keep, t.KeepBy), true)
		case spans[i].Name != "":
			keep(fmt.Sprintf("the last of its %s, kept %s", spans[i].Name, spans[i].Keep), true)
			d.Until = spans[i].Keep.AddTo(d.Received, 1, t.Zone)
			if t.Rolls {
				d.Log = logEnd
			}
		default:
			d.Why, d.Log = fmt.Sprintf("received %s, kept %s%s", day(d.Received, t.Zone), t.Keep, t.KeepBy), ""
		}
	}
	return out
}

// kept finds the span of the history that keeps each snapshot longest: sorted by
// receipt, the last one of each span of the calendar.
func (t Terms) kept(sorted []Decision, now time.Time) []Span {
	out := make([]Span, len(sorted))
	for _, s := range t.History {
		for i, d := range sorted {
			if d.Received.IsZero() || i+1 < len(sorted) && s.same(d.Received, sorted[i+1].Received, t.Zone) {
				continue // another one of the span came later
			}
			if until := s.Keep.AddTo(d.Received, 1, t.Zone); now.Before(until) && (out[i].Name == "" || until.After(out[i].Keep.AddTo(d.Received, 1, t.Zone))) {
				out[i] = s
			}
		}
	}
	return out
}

// same reports whether two instants lie in one span of the calendar.
func (s Span) same(a, b time.Time, zone *time.Location) bool {
	a, b = a.In(zone), b.In(zone)
	switch s.Name {
	case "hour":
		return a.Format("2006-01-02T15Z07") == b.Format("2006-01-02T15Z07")
	case "day":
		return a.Format(time.DateOnly) == b.Format(time.DateOnly)
	case "week":
		ay, aw := a.ISOWeek()
		by, bw := b.ISOWeek()
		return ay == by && aw == bw
	case "month":
		return a.Format("2006-01") == b.Format("2006-01")
	default:
		return a.Year() == b.Year()
	}
}

func day(t time.Time, zone *time.Location) string { return t.In(zone).Format("2006-01-02 15:04") }
