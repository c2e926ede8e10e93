package web

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast"
)

// A clock is how a page speaks of time: the instant it was made for and the zone
// its reader lives in.
type clock struct {
	Now  time.Time
	Zone *time.Location
}

// machine is the form that a <time> element carries.
func (c clock) machine(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// full is a whole instant with its zone.
func (c clock) full(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.In(c.Zone).Format("2006-01-02 15:04:05 MST")
}

// short leaves out what the reader knows: the date when it is today.
func (c clock) short(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	t, now := t.In(c.Zone), c.Now.In(c.Zone)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2 Jan 15:04")
}

// ago says how long ago t was, or how far ahead it is.
func (c clock) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := c.Now.Sub(t)
	switch {
	case d < -time.Second:
		return "in " + coarse(-d)
	case d < time.Second:
		return "now"
	default:
		return coarse(d) + " ago"
	}
}

// coarse is a distance in time: one unit from a minute on, rounded down.
func coarse(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return brief(d.Truncate(100 * time.Millisecond))
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 10*time.Hour:
		return pair(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d d", d/day)
	}
}

// brief is a duration in two units at most, rounded to the smaller one: "4.2 s",
// "12 min 10 s", "1 h 12 min", "3 d".
func brief(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "−" + brief(-d)
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d.Round(100*time.Millisecond) < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', 1, 64), ".0") + " s"
	}
	switch s, m, h := d.Round(time.Second), d.Round(time.Minute), d.Round(time.Hour); {
	case s < time.Minute:
		return fmt.Sprintf("%d s", s/time.Second)
	case s < time.Hour:
		return pair(s/time.Minute, "min", s%time.Minute/time.Second, "s")
	case m < day:
		return pair(m/time.Hour, "h", m%time.Hour/time.Minute, "min")
	case h < 7*day:
		return pair(h/day, "d", h%day/time.Hour, "h")
	default:
		return fmt.Sprintf("%d d", d/day)
	}
}

func pair(a time.Duration, au string, b time.Duration, bu string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, au)
	}
	return fmt.Sprintf("%d %s %d %s", a, au, b, bu)
}

// spoken is a duration as one says it, for the sentence at the top. It rounds up:
// a promise about the bad day must not sound better than it is.
func spoken(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0:
		return "nothing"
	case d < time.Second:
		return "second"
	case d < 2*time.Minute:
		return count(ceil(d, time.Second), "second")
	case d < 2*time.Hour:
		return count(ceil(d, time.Minute), "minute")
	case d < 2*day:
		m := ceil(d, time.Minute)
		if m%60 == 0 {
			return count(m/60, "hour")
		}
		return count(m/60, "hour") + " " + count(m%60, "minute")
	default:
		h := ceil(d, time.Hour)
		if h%24 == 0 {
			return count(h/24, "day")
		}
		return count(h/24, "day") + " " + count(h%24, "hour")
	}
}

func ceil(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size is a number of bytes for people.
func size(n int64) string {
	const k = 1000
	if n < k {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= k && unit < 4 {
		f /= k
		unit++
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[unit])
}

// amount is how far a piece of work is, in its own unit.
func amount(p holdfast.Progress) string {
	show := func(n int64) string {
		if p.Unit == "bytes" {
			return size(n)
		}
		return strconv.FormatInt(n, 10)
	}
	unit := ""
	if p.Unit != "bytes" && p.Unit != "" {
		unit = " " + p.Unit
	}
	switch {
	case p.Total > 0:
		return show(p.Done) + " of " + show(p.Total) + unit
	case p.Done > 0:
		return show(p.Done) + unit
	default:
		return ""
	}
}

// pacing is how far a piece of work is, how fast it goes and how long it will take.
func pacing(p holdfast.Progress, rate float64, left time.Duration) string {
	out := amount(p)
	if out == "" {
		return ""
	}
	if rate > 0 && p.Unit == "bytes" {
		out += ", " + size(int64(rate)) + "/s"
	}
	if left > 0 {
		out += ", about " + coarse(left) + " left"
	}
	return out
}

// tierWords names a tier.
func tierWords(tier string) string {
	if tier == "" {
		return ""
	}
	return "tier " + tier
}

// kindWords names a kind of store as people do.
func kindWords(kind string) string {
	switch kind {
	case "postgres":
		return "PostgreSQL"
	case "mysql":
		return "MySQL"
	case "sqlite":
		return "SQLite"
	case "files":
		return "folder"
	}
	return kind
}

// plainError cuts a chain of errors to its last links, which say what is wrong. The
// whole is empty if nothing was cut.
func plainError(s string) (last, whole string) {
	const (
		short = 140 // bytes that are shown as they are
		tail  = 80  // of a longer one
	)
	if len(s) <= short && !strings.Contains(s, "\n") {
		return sentenceCase(s), ""
	}
	line, _, _ := strings.Cut(s, "\n")
	links := strings.Split(line, ": ")
	last = links[len(links)-1]
	for i := len(links) - 2; i >= 0 && len(links[i])+2+len(last) <= tail; i-- {
		last = links[i] + ": " + last
	}
	return sentenceCase(shorten(last, 2*short)), s
}

// A tone is a colour with a meaning. It is never the only carrier of the meaning.
type tone string

const (
	good  tone = "good"
	warn  tone = "warn"
	bad   tone = "bad"
	plain tone = "plain"
	live  tone = "live"
)

// A badge is a tone with its word and icon.
type badge struct {
	Tone tone
	Icon string
	Text string
}

func postureBadge(p holdfast.Posture) badge {
	switch p {
	case holdfast.PostureProved:
		return badge{good, "check", "proved"}
	case holdfast.PostureDue:
		return badge{warn, "clock", "proof due"}
	case holdfast.PostureOverdue:
		return badge{bad, "clock", "proof overdue"}
	case holdfast.PostureFailed:
		return badge{bad, "cross", "failed"}
	case holdfast.PostureExcepted:
		return badge{plain, "flag", "excepted"}
	case holdfast.PostureClaimed:
		return badge{warn, "quote", "only claimed"}
	case holdfast.PostureNA:
		return badge{plain, "dash", "not applicable"}
	default:
		return badge{warn, "question", "unknown"}
	}
}

func outcomeBadge(o holdfast.Outcome) badge {
	switch o {
	case holdfast.Passed:
		return badge{good, "check", "passed"}
	case holdfast.Failed:
		return badge{bad, "cross", "failed"}
	default:
		return badge{plain, "question", "not proven"}
	}
}

func gradeBadge(g holdfast.Grade) badge {
	switch g {
	case holdfast.Proved:
		return badge{plain, "gauge", "measured"}
	case holdfast.Attested:
		return badge{plain, "person", "attested"}
	case holdfast.Claimed:
		return badge{warn, "quote", "claimed"}
	default:
		return badge{plain, "question", "no grade"}
	}
}

// gradeWords says who stands behind a check, and how long it took.
func gradeWords(c holdfast.Check) string {
	if c.Duration <= 0 {
		return gradeBadge(c.Grade).Text
	}
	return gradeBadge(c.Grade).Text + ", " + brief(c.Duration)
}

func runBadge(l DrillLine) badge {
	switch l.State {
	case RunRunning:
		return badge{live, "spin", "running"}
	case RunWaiting:
		return badge{plain, "clock", "waiting"}
	case RunExpected:
		return badge{plain, "clock", "planned"}
	case RunDue:
		return badge{warn, "clock", "due"}
	case RunMissed:
		return badge{bad, "cross", "did not happen"}
	case RunFailed:
		return badge{bad, "cross", "failed"}
	case RunDone:
		switch {
		case l.Missed:
			return badge{bad, "alert", "objective missed"}
		case l.Rung < l.Goal:
			return badge{warn, "alert", "short of " + l.Goal.String()}
		default:
			return badge{good, "check", "passed"}
		}
	default:
		return badge{warn, "question", "unknown"}
	}
}

func stepBadge(state string) badge {
	switch state {
	case "done":
		return badge{good, "check", "done"}
	case "running":
		return badge{live, "spin", "running"}
	case "failed":
		return badge{bad, "cross", "failed"}
	case "skipped":
		return badge{plain, "dash", "skipped"}
	case "needs a person":
		return badge{warn, "person", "needs a person"}
	case "waiting":
		return badge{plain, "clock", "waiting"}
	default:
		return badge{warn, "question", state}
	}
}

func storyBadge(l StoryLine) badge {
	switch {
	case !l.Open && l.Kind == "recovery" && l.Phase == "failed":
		return badge{bad, "cross", "failed"}
	case !l.Open && l.Kind == "recovery":
		return badge{good, "check", nameOr(l.Phase, "done")}
	case !l.Open:
		return badge{plain, "check", "closed"}
	case l.Kind == "recovery":
		return badge{live, "spin", l.Phase}
	case l.Phase == "review":
		return badge{warn, "person", l.Phase}
	default:
		return badge{bad, "alert", l.Phase}
	}
}

func severityBadge(s holdfast.FindingSeverity) badge {
	switch s {
	case holdfast.SeverityError:
		return badge{bad, "cross", "error"}
	case holdfast.SeverityWarning:
		return badge{warn, "alert", "warning"}
	default:
		return badge{plain, "note", "note"}
	}
}

// promiseTone says how a promise looks: missed is bad, four fifths used is a
// warning, an unknown value is a warning too.
func promiseTone(p Promise) tone {
	switch {
	case p.Missed, p.Everything && p.Objective > 0:
		return bad
	case p.Objective <= 0:
		return plain
	case !p.Now.Known:
		return warn
	case p.Now.Value*5 > p.Objective*4:
		return warn
	default:
		return good
	}
}

// permille is part of whole, between 0 and 1000; anything above nothing shows.
func permille(part, whole time.Duration) int {
	if whole <= 0 || part <= 0 {
		return 0
	}
	n := int(float64(part) / float64(whole) * 1000)
	return min(max(n, 6), 1000)
}

func storePath(id string) templ.SafeURL { return templ.SafeURL("/store/" + url.PathEscape(id)) }
func drillPath(id string) templ.SafeURL { return templ.SafeURL("/drills/" + url.PathEscape(id)) }
func storyPath(l StoryLine) templ.SafeURL {
	if l.Kind == "recovery" {
		return templ.SafeURL("/recoveries/" + url.PathEscape(l.ID))
	}
	return templ.SafeURL("/incidents/" + url.PathEscape(l.ID))
}

// ownPath keeps a link inside this site: a path, no scheme and no host.
func ownPath(href string) (templ.SafeURL, bool) {
	if !strings.HasPrefix(href, "/") || strings.HasPrefix(href, "//") || strings.Contains(href, "\\") {
		return "", false
	}
	return templ.SafeURL(href), true
}

func stepTime(c clock, x Step) string {
	s := "from " + c.short(x.Started)
	if !x.Ended.IsZero() {
		s += ", took " + brief(x.Ended.Sub(x.Started))
	}
	return s
}

// anchor makes an element id of an id that may hold anything.
func anchor(prefix, id string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, r := range id {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "_%x", r)
		}
	}
	return b.String()
}
