package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// Expose says what one location alone gives back of one store at the instant now. A
// nil copy is one that nothing is known about.
func Expose(c *Copy, loc LocationFact, domain string, now time.Time) Exposure {
	e := Exposure{Location: loc.Location, Domain: domain, State: LossUnknown, Reachable: loc.Reachable}
	switch {
	case !loc.Reachable:
		e.Why = fmt.Sprintf("%q does not answer%s%s", loc.Location, since(loc.Answered, now), colon(loc.Err))
		return e
	case c == nil:
		e.Why = fmt.Sprintf("nothing is known about %q", loc.Location)
		return e
	case c.Err != "":
		e.Why = fmt.Sprintf("%q could not be looked at: %s", loc.Location, c.Err)
		return e
	}
	e.Received, e.Verified = c.Received, c.Verified
	for _, w := range c.Windows {
		if e.Newest.Before(w.To) {
			e.Newest = w.To
		}
		if e.Oldest.IsZero() || w.From.Before(e.Oldest) {
			e.Oldest = w.From
		}
		if e.Base.Before(w.From) {
			e.Base = w.From
		}
	}
	switch {
	case c.Damage != "":
		e.State, e.Newest = LossEverything, time.Time{}
		e.Why = fmt.Sprintf("the copy in %q is damaged: %s", loc.Location, c.Damage)
		return e
	case len(c.Windows) == 0:
		e.State = LossEverything
		e.Why = fmt.Sprintf("%q holds no complete snapshot", loc.Location)
		return e
	case c.Received.IsZero():
		e.Newest = time.Time{}
		e.Why = fmt.Sprintf("no snapshot in %q is countersigned by the vault yet", loc.Location)
		return e
	}
	note := ""
	if f := c.Frontier; f != nil {
		switch {
		case f.Gap != "":
			note = "; the log has a gap: " + f.Gap
		case !continues(c.Windows, f):
			note = "; the log stream continues no snapshot that is there"
		default:
			// Everything up to the last commit is there; and everything up to the instant at
			// which there was nothing newer, which keeps an idle store from looking old.
			e.Streaming = f.Err == ""
			for _, t := range []time.Time{f.LastCommit, f.CaughtUp} {
				if e.Newest.Before(t) {
					e.Newest = t
				}
			}
			if f.Err != "" {
				note = "; the log stream has stopped: " + f.Err
			}
		}
	}
	if e.Newest.After(now) {
		// A clock elsewhere runs ahead. What it says about the future is not known here.
		e.Newest = now
	}
	e.State = LossBounded
	e.Age = Seconds(now.Sub(e.Newest))
	e.Why = fmt.Sprintf("%q gives back everything until %s ago%s", loc.Location, e.Age, note)
	return e
}

// continues reports whether the log stream carries on from one of the windows.
func continues(windows []holdfast.Window, f *Frontier) bool {
	return slices.ContainsFunc(windows, func(w holdfast.Window) bool {
		return w.Lineage == f.Lineage && w.Timeline <= f.Timeline
	})
}

func since(t, now time.Time) string {
	if t.IsZero() || t.After(now) {
		return ""
	}
	return fmt.Sprintf(", and last did %s ago", holdfast.FormatDuration(now.Sub(t)))
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// Scenarios returns the losses to look at: the data alone, this host with the
// locations on it, each other failure domain together with the data, and the plan's
// own.
func Scenarios(p *plan.Plan) []Scenario {
	domains := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(p.Locations)) {
		d := p.Locations[id].DomainOr()
		domains[d] = append(domains[d], id)
	}
	here := domains[plan.HostDomain]
	out := []Scenario{
		{ID: ScenarioSource, Title: "the data alone", LostLocations: []string{}},
		{ID: ScenarioHost, Title: "this host" + and(here), LostLocations: append([]string{}, here...)},
	}
	for _, d := range slices.Sorted(maps.Keys(domains)) {
		if d != plan.HostDomain {
			out = append(out, Scenario{ID: "domain:" + d, Title: "the data" + and(domains[d]), LostLocations: domains[d]})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Scenarios)) {
		lose := p.Scenarios[id].Lose
		if len(lose) == 0 {
			continue
		}
		var losses []plan.Loss
		for _, w := range lose {
			if l, err := p.ParseLoss(w); err == nil { // what the plan does not know takes nothing along
				losses = append(losses, l)
			}
		}
		fallen := p.Falls(losses...)
		out = append(out, Scenario{ID: "plan:" + id, Title: id + " (the data" + and(lose) + ")",
			LostLocations: append([]string{}, slices.Sorted(maps.Keys(fallen.Locations))...), LostSuppliers: slices.Sorted(maps.Keys(fallen.Suppliers))})
	}
	return out
}

func and(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " and " + strings.Join(ids, ", ")
}

// LossIn says what would be lost in a scenario: what the best of the surviving
// locations does not give back. A location that could not be looked at is no
// survivor to count on, and no proof of total loss either.
func LossIn(sc Scenario, exposures []Exposure, target, limit time.Duration) Loss {
	l := Loss{Scenario: sc.ID, State: LossEverything}
	var reasons []string
	for _, e := range exposures {
		if slices.Contains(sc.LostLocations, e.Location) {
			continue
		}
		switch e.State {
		case LossBounded:
			if l.State != LossBounded || e.Age < l.Age {
				l.State, l.Age, l.Newest, l.Location, l.Why = LossBounded, e.Age, e.Newest, e.Location, e.Why
			}
		case LossUnknown:
			if l.State == LossEverything {
				l.State = LossUnknown
			}
			reasons = append(reasons, e.Why)
		default:
			reasons = append(reasons, e.Why)
		}
	}
	if l.State != LossBounded {
		l.Why = strings.Join(reasons, "; ")
		if l.Why == "" {
			l.Why = "no location is left"
		}
	}
	l.Verdict = verdictOf(l, target, limit)
	return l
}

func verdictOf(l Loss, target, limit time.Duration) Verdict {
	switch {
	case limit <= 0:
		return NoVerdict
	case l.State == LossBounded:
		return Judge(l.Age.Duration(), target, limit)
	case l.State == LossEverything:
		return Over
	}
	return CannotSay
}

// Judge compares a measured value with a target and a limit. A target of 0 is the limit.
func Judge(value, target, limit time.Duration) Verdict {
	switch {
	case limit <= 0:
		return NoVerdict
	case value > limit:
		return Over
	case target > 0 && value > target:
		return InsideLimit
	}
	return Within
}

// worseLoss reports whether a is worse than b.
func worseLoss(a, b Loss) bool {
	rank := map[LossState]int{LossBounded: 0, LossUnknown: 1, LossEverything: 2}
	if rank[a.State] != rank[b.State] {
		return rank[a.State] > rank[b.State]
	}
	return a.Age > b.Age
}
