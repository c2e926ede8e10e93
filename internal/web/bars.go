package web

import (
	"fmt"
	"strconv"
	"time"

	"holdfast"
)

// Bars are SVG with a width of barW units, stretched to the room there is: the
// security policy forbids inline styles, and attributes of a drawing are none.
const barW = 1000

// A segment is one coloured piece of a bar.
type segment struct {
	X, W  int
	Class string
	Title string
}

// windowBar draws the recovery windows of one place between from and now. What
// is not covered stays empty, as between two nightly copies; where a window ended
// for a reason that should not be, the stretch up to the next is drawn as a hole.
func windowBar(ws []holdfast.Window, from, now time.Time) []segment {
	const least = 7 // a window of one instant must still be seen
	whole := now.Sub(from)
	if whole <= 0 {
		return nil
	}
	x := func(t time.Time) int {
		switch {
		case t.Before(from):
			return 0
		case t.After(now):
			return barW
		}
		return int(float64(t.Sub(from)) / float64(whole) * barW)
	}
	var out []segment
	var last time.Time
	drawn := 0 // right edge of what stands there already
	for i, w := range ws {
		if i > 0 && ws[i-1].Hole != "" && w.From.After(last) {
			a, b := x(last), x(w.From)
			if b > a {
				out = append(out, segment{X: a, W: b - a, Class: "hole", Title: "no way back to any instant in here"})
			}
		}
		a, b := x(w.From), x(w.To)
		if b-a < least {
			a = max(min(a, barW-least), 0)
			b = a + least
		}
		out = append(out, segment{X: a, W: b - a, Class: "window"})
		drawn = max(drawn, b)
		if w.To.After(last) {
			last = w.To
		}
	}
	if len(ws) > 0 && now.After(last) {
		if a := max(x(last), drawn); a < barW-1 {
			out = append(out, segment{X: a, W: barW - a, Class: "exposed", Title: "newer than anything there"})
		}
	}
	return out
}

// oldest is where a time bar begins: the first window of any place, with a little
// room before it.
func oldest(places []Place, now time.Time) time.Time {
	first := now.Add(-time.Hour)
	found := false
	for _, p := range places {
		if len(p.Windows) > 0 && (!found || p.Windows[0].From.Before(first)) {
			first, found = p.Windows[0].From, true
		}
	}
	return first.Add(-now.Sub(first) / 50)
}

// marks are evenly spread instants under a time bar.
func marks(c clock, from time.Time) []string {
	const n = 4
	step := c.Now.Sub(from) / n
	layout := "2 Jan"
	if step < 36*time.Hour {
		layout = "2 Jan 15:04"
	}
	if step < 3*time.Hour {
		layout = "15:04"
	}
	if step < 2*time.Minute {
		layout = "15:04:05"
	}
	var out []string
	for i := range n {
		out = append(out, from.Add(time.Duration(i)*step).In(c.Zone).Format(layout))
	}
	return append(out, "now")
}

// A holeLine is one stretch between two windows, in words.
type holeLine struct {
	From, To time.Time
	Why      string
}

func holes(ws []holdfast.Window) []holeLine {
	var out []holeLine
	for i := 1; i < len(ws); i++ {
		if ws[i-1].Hole != "" && ws[i].From.After(ws[i-1].To) {
			out = append(out, holeLine{ws[i-1].To, ws[i].From, ws[i-1].Hole})
		}
	}
	return out
}

// windowsWords counts the windows and the holes between them.
func windowsWords(ws []holdfast.Window) string {
	out := count(int64(len(ws)), "window")
	switch n := len(holes(ws)); n {
	case 0:
		return out + ", in words"
	default:
		return out + " and " + count(int64(n), "hole") + ", in words"
	}
}

// A ganttRow is one stretch of a timeline with its bar.
type ganttRow struct {
	Stretch
	X, W int
	Took time.Duration
	Open bool
}

// gantt lays the stretches over the time from the first start to the last end.
func gantt(ts []Stretch, now time.Time) (rows []ganttRow, whole time.Duration) {
	if len(ts) == 0 {
		return nil, 0
	}
	first, last := ts[0].Start, ts[0].Start
	end := func(s Stretch) time.Time {
		if s.End.IsZero() {
			return now
		}
		return s.End
	}
	for _, s := range ts {
		if s.Start.Before(first) {
			first = s.Start
		}
		if e := end(s); e.After(last) {
			last = e
		}
	}
	whole = last.Sub(first)
	for _, s := range ts {
		r := ganttRow{Stretch: s, Took: end(s).Sub(s.Start), Open: s.End.IsZero()}
		if whole > 0 {
			r.X = int(float64(s.Start.Sub(first)) / float64(whole) * barW)
			r.W = max(int(float64(r.Took)/float64(whole)*barW), 4)
			r.X = min(r.X, barW-r.W)
		} else {
			r.W = barW
		}
		rows = append(rows, r)
	}
	return rows, whole
}

// A partsBar is a recovery time in parts beside its objective.
type partsBar struct {
	Segments []segment
	Goal     int // where the objective stands, -1 when there is none
	Whole    time.Duration
}

// partClass gives the parts of a recovery a colour each, by their place in the order.
func partClass(name string) string {
	for i, n := range holdfast.PartNames {
		if n == name {
			return fmt.Sprintf("part%d", i)
		}
	}
	return "part0"
}

// partLook fades a part that nobody measured.
func partLook(p holdfast.Part) string {
	if p.Basis != holdfast.Measured {
		return partClass(p.Name) + " guess"
	}
	return partClass(p.Name)
}

func partsOf(ps holdfast.Parts, objective time.Duration) partsBar {
	if objective > 4*ps.Sum() { // beside it the parts could not be told apart
		objective = 0
	}
	b := partsBar{Goal: -1, Whole: max(ps.Sum(), objective+objective/25)} // room behind the line
	if b.Whole <= 0 {
		return b
	}
	if objective > 0 {
		b.Goal = int(float64(objective) / float64(b.Whole) * barW)
	}
	at := time.Duration(0)
	for _, p := range ps {
		a, z := int(float64(at)/float64(b.Whole)*barW), int(float64(at+p.Duration)/float64(b.Whole)*barW)
		at += p.Duration
		if z > a {
			b.Segments = append(b.Segments, segment{X: a, W: z - a, Class: partLook(p), Title: p.Name + " " + brief(p.Duration) + ", " + string(p.Basis)})
		}
	}
	return b
}

// A rungRow is one step of the ladder with the checks that stand on it.
type rungRow struct {
	Rung    holdfast.Rung
	Outcome holdfast.Outcome
	Climbed bool // this rung and all below it passed
	Goal    bool
	Checks  []holdfast.Check
}

// ladder lists every rung, from the top down. A rung without a check is not
// proven, and so is one above a rung that did not pass.
func ladder(d Drill) []rungRow {
	var rows []rungRow
	for r := holdfast.L8; r >= holdfast.L0; r-- {
		row := rungRow{Rung: r, Outcome: holdfast.NotProven, Climbed: r <= d.Rung, Goal: r == d.Goal}
		passed := 0
		for _, c := range d.Checks {
			if c.Rung != r {
				continue
			}
			row.Checks = append(row.Checks, c)
			switch c.Outcome {
			case holdfast.Failed:
				row.Outcome = holdfast.Failed
			case holdfast.Passed:
				passed++
			}
		}
		if passed > 0 && passed == len(row.Checks) {
			row.Outcome = holdfast.Passed
		}
		rows = append(rows, row)
	}
	return rows
}

// rungFields are the nine fields of a ladder lying down. What a drill that has
// ended did not reach of its goal stands out; before its end that is no lack.
func rungFields(d DrillLine) []segment {
	var out []segment
	for r := holdfast.L0; r <= holdfast.L8; r++ {
		class := "rung-open"
		switch {
		case r <= d.Rung:
			class = "rung-done"
		case r <= d.Goal && ended(d.State):
			class = "rung-goal"
		case r <= d.Goal:
			class = "rung-ahead"
		}
		out = append(out, segment{X: int(r) * 11, W: 10, Class: class})
	}
	return out
}

func ended(s RunState) bool { return s == RunDone || s == RunFailed || s == RunMissed }

// rungWords says how far a drill climbed.
func rungWords(d DrillLine) string {
	switch {
	case !ended(d.State):
		return "goal " + d.Goal.String()
	case d.Rung <= holdfast.RungNone:
		return "nothing proven, goal " + d.Goal.String()
	default:
		return d.Rung.String() + " of " + d.Goal.String()
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// stretchClass is the colour of a bar of the timeline.
func stretchClass(r ganttRow) string {
	switch {
	case r.Outcome == holdfast.Failed:
		return "failed"
	case r.Open:
		return "open"
	case r.Outcome == holdfast.Passed:
		return "passed"
	default:
		return "timed"
	}
}

func lasted(l StoryLine, now time.Time) string {
	if l.Ended.IsZero() {
		return brief(now.Sub(l.Started)) + " so far"
	}
	return brief(l.Ended.Sub(l.Started))
}

// drillSentence says what a drill showed, and no more than that.
func drillSentence(d Drill) string {
	from := ""
	if d.Location != "" {
		from = " from " + d.Location
	}
	switch d.State {
	case RunRunning:
		return d.Subject + from + ", running for " + brief(d.Took)
	case RunWaiting, RunExpected, RunDue:
		return d.Subject + from + ", not started"
	case RunMissed:
		return d.Subject + " was due and was not restored"
	}
	if d.Rung <= holdfast.RungNone {
		return d.Subject + from + " in " + brief(d.Took) + ": nothing is proven"
	}
	return d.Subject + from + " in " + brief(d.Took) + ": proven up to " + d.Rung.String() + ", " + d.Rung.Proves()
}
