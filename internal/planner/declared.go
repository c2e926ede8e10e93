package planner

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// Declared is the part of an input that the plan in force says: what needs what, what
// is promised, what the runbooks ask for, and who holds which role. The caller adds what
// is lost and what is observed.
func Declared(p *plan.Plan) Input {
	in := Input{Stores: map[string]Store{}, Services: map[string]Service{}, Runbooks: map[string][]RunStep{}, Away: map[string]string{}, People: map[string][]string{}, Missing: map[string]string{}}
	owner := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		svc, promise := p.Services[id], p.Promise(id)
		in.Services[id] = Service{Needs: p.HardNeeds(id), RTO: promise.RTO, RPO: promise.RPO, Checked: svc.Probe != nil, Runbook: svc.Runbook, Window: window(svc), Levels: levels(p, id)}
		if owner[svc.Runbook] == "" {
			owner[svc.Runbook] = svc.Owner
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Runbooks)) {
		steps := []RunStep{}
		for _, st := range p.Runbooks[id].Steps {
			rs := runStep(p, st, owner[id])
			steps = append(steps, rs)
			for _, role := range rs.Roles {
				in.People[role] = people(p, role)
			}
		}
		in.Runbooks[id] = steps
	}
	in.Deciders = p.Activation.By
	for _, role := range in.Deciders {
		in.People[role] = people(p, role)
	}
	return in
}

// window is how long the probe of a service is asked until its own level of service is measured.
func window(s plan.Service) time.Duration {
	if _, share := plan.Share(s.Level); s.Probe == nil || !share {
		return 0
	}
	n, every := s.Probe.Questions()
	return time.Duration(n) * every
}

// levels are what the stages of a service's RTO ask of its probe.
func levels(p *plan.Plan, service string) []Level {
	if p.Services[service].Probe == nil {
		return nil
	}
	rto, _, _ := p.ObjectiveOf(service)
	var out []Level
	for i, st := range rto.Stages {
		if _, ok := plan.Share(st.Level); ok {
			out = append(out, Level{Stage: st.ID, Share: st.Level, First: i == 0})
		}
	}
	return out
}

// runStep reads one step of a runbook. What a program would do is done by whoever owns the
// service: the recovery runs no programs by itself.
func runStep(p *plan.Plan, st plan.Step, owner string) RunStep {
	rs := RunStep{ID: st.ID, After: st.After, Title: cmp.Or(st.Text, st.ID), Estimate: st.Estimated(), Uses: st.Uses}
	switch kind, of := st.Kind(); kind {
	case plan.StepRestore, plan.StepStart:
		rs.Restore = of
	case plan.StepCheck:
		if _, store := p.Stores[of]; store {
			rs.Restore = of // a restore ends with the store's own checks
		} else {
			rs.Check = of
		}
	case plan.StepHuman:
		rs.Roles = []string{of}
	case plan.StepApprove:
		rs.Roles, rs.Title = st.Approve, "Approve: "+cmp.Or(st.Text, st.ID)
	case plan.StepRun:
		rs.Title = "Run: " + strings.Join(st.Run, " ")
		if owner != "" {
			rs.Roles = []string{owner}
		}
	}
	return rs
}

// people are those who can take a role, the first choice first.
func people(p *plan.Plan, role string) []string {
	var out []string
	for _, deputy := range []bool{false, true} {
		if who := p.Person(role, deputy); who != "" && !slices.Contains(out, who) {
			out = append(out, who)
		}
	}
	return out
}
