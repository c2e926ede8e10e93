package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Check looks for promises of p that cannot be kept, contradict each other, cannot
// be measured or rest on one person, place or key. Every finding says where, why
// with the numbers, and which edit is a way out. The result is sorted, worst first.
//
// It asks nothing and nobody: what it says follows from the plan and now alone.
//
// A finding with an exception in force becomes a note that names it: one of the plan, or one
// of those that were approved since. An exception that has ended, or that its requester
// approved, does not count.
func Check(p *Plan, now time.Time, approved ...Waiver) []holdfast.Finding {
	l := newLinter(p, now)
	l.waivers = approved
	l.references()
	l.identities()
	l.inventory()
	l.objectives()
	l.schedules()
	l.scenarios()
	l.dependencies()
	l.impact()
	l.copies()
	l.keys()
	l.kit()
	l.supply()
	l.people()
	l.team()
	l.drills()
	l.rehearsals()
	l.invariants()
	l.conditions()
	l.figures()
	l.clocks()
	l.runbooks()
	l.documents()
	l.controls()
	l.except()
	holdfast.SortFindings(l.findings)
	return l.findings
}

// A linter holds one plan and what several rules ask of it, worked out once: a plan
// may have tens of thousands of services and stores, and no rule may look at all of
// them for each of them.
type linter struct {
	p        *Plan
	now      time.Time
	waivers  Waivers // approved since, beside those of the plan
	findings []holdfast.Finding
	unknown  int // ids that are not declared, so far

	services, stores, nodes, locations, suppliers []string // ids, in order

	promises map[string]holdfast.Objective // of services and stores
	users    map[string][]string           // services by their runbook, in order
	drilled  map[string][]string           // drills by store, in order
	tails    map[string]map[string]time.Duration
	switched map[string]bool // suppliers whose stand-ins are tried

	intervals map[string]time.Duration // by the text of the recurrence
}

func newLinter(p *Plan, now time.Time) *linter {
	l := &linter{p: p, now: now,
		services: sorted(p.Services), stores: sorted(p.Stores), nodes: p.Nodes(), locations: sorted(p.Locations), suppliers: sorted(p.Suppliers),
		promises: map[string]holdfast.Objective{}, users: map[string][]string{}, drilled: map[string][]string{}, tails: map[string]map[string]time.Duration{}, intervals: map[string]time.Duration{},
	}
	for _, id := range l.nodes {
		l.promises[id] = p.Promise(id)
	}
	for _, id := range l.services {
		if r := p.Services[id].Runbook; r != "" {
			l.users[r] = append(l.users[r], id)
		}
	}
	for _, id := range sorted(p.Drills) {
		for _, store := range p.Drills[id].Of {
			l.drilled[store] = append(l.drilled[store], id)
		}
	}
	return l
}

// interval returns how far apart the slots of a recurrence are. Working it out looks at
// years of slots, and thousands of drills have the same one.
func (l *linter) interval(r Recurrence) time.Duration {
	d, ok := l.intervals[r.String()]
	if !ok {
		d = r.Interval()
		l.intervals[r.String()] = d
	}
	return d
}

// promise returns what a service or store promises, in numbers.
func (l *linter) promise(node string) holdfast.Objective { return l.promises[node] }

// report adds a finding about path. The message and hint are complete sentences
// without a full stop.
func (l *linter) report(code string, severity holdfast.FindingSeverity, path, hint, format string, args ...any) {
	pos := l.p.Position(path)
	l.findings = append(l.findings, holdfast.Finding{
		Code: code, Severity: severity, File: pos.File, Line: pos.Line, Column: pos.Column,
		Subject: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

func (l *linter) fail(code, path, hint, format string, args ...any) {
	l.report(code, holdfast.SeverityError, path, hint, format, args...)
}

func (l *linter) warn(code, path, hint, format string, args ...any) {
	l.report(code, holdfast.SeverityWarning, path, hint, format, args...)
}

// sorted returns the keys of a map in order, so that findings come in order too.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// period writes a duration as people write it in a plan.
func period(d time.Duration) string { return holdfast.FormatDuration(d) }

// edit writes a duration as the plan takes it.
func edit(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return strings.ReplaceAll(holdfast.FormatDuration(d.Round(time.Second)), " ", "")
}
