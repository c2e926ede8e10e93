package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A back is when a service is back, by the estimates of the plan.
type back struct {
	at  time.Duration // after the loss
	via string        // the service that had to be back just before; "" for none
}

// chainsOfRecovery adds up, along the hard needs, what the runbooks of services take one
// after the other: a service whose own steps fit may still come too late, because it can
// begin only when what it needs is back. Services that share a runbook come back by one
// run of it. What drills measure counts as nothing, so the sum is a lower bound.
//
// In a circle, which is reported, there is no order.
func (l *linter) chainsOfRecovery(order [][]string) {
	p := l.p
	work := map[string]time.Duration{}
	for id, r := range p.Runbooks {
		_, work[id] = r.CriticalPath(Step.Estimated)
	}
	when := map[string]back{}
	for _, wave := range order {
		for _, id := range wave {
			if s, ok := p.Services[id]; ok {
				when[id] = l.backAt(id, s, when, work[s.Runbook])
				l.late(id, when, work)
			}
		}
	}
}

// backAt works out when a service is back, given when what it needs is.
func (l *linter) backAt(id string, s Service, when map[string]back, own time.Duration) back {
	p := l.p
	first := back{at: p.Runbooks[s.Runbook].Detect.Approx()}
	var same back // a need that comes back by the same run
	for _, need := range p.HardNeeds(id) {
		before, ok := when[need]
		switch {
		case !ok: // a store, which a step restores
		case p.Services[need].Runbook == s.Runbook && s.Runbook != "":
			if before.at > same.at {
				same = before
			}
		case before.at > first.at:
			first = back{before.at, need}
		}
	}
	if first.at += own; same.at > first.at {
		return same
	}
	return first
}

// late reports a service that comes back too late because of what comes before it.
func (l *linter) late(id string, when map[string]back, work map[string]time.Duration) {
	p := l.p
	rto, b := l.promise(id).RTO, when[id]
	mine := p.Runbooks[p.Services[id].Runbook]
	if rto == 0 || b.via == "" || b.at <= rto || mine.Detect.Approx()+work[p.Services[id].Runbook] > rto {
		return // in time, or too late by its own steps alone, which is reported
	}
	var chain []string
	for x := id; x != ""; x = when[x].via {
		r := p.Services[x].Runbook
		chain = append(chain, fmt.Sprintf("%s for %q", period(work[r]), x))
		if d := p.Runbooks[r].Detect.Approx(); when[x].via == "" && d > 0 {
			chain = append(chain, period(d)+" to detect")
		}
	}
	slices.Reverse(chain)
	l.fail(codeSteps, "services."+id+".needs."+b.via, fmt.Sprintf("shorten what comes before, let %q begin without it, or declare an rto above %s", id, edit(b.at)),
		"%q must be back within %s, and what it needs must be back before: %s = %s", id, period(rto), strings.Join(chain, " + "), exact(b.at))
}
