package app

import (
	"context"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/objective"
)

// Simulate answers what would happen if some things were lost, from the plan and everything observed.
func (a *App) Simulate(ctx context.Context, r api.Simulation) (objective.Simulation, error) {
	q, err := objective.QuestionOf(a.Plan(), r.Lose, r.Scenario)
	if err != nil {
		return objective.Simulation{}, err
	}
	f, err := a.observedAt(ctx, r.At)
	if err != nil {
		return objective.Simulation{}, err
	}
	q.Observed, q.Runs, q.Seed = true, r.Runs, r.Seed
	return objective.Simulate(a.Plan(), f, q)
}

// Enumerate answers it for every single thing and every pair.
func (a *App) Enumerate(ctx context.Context, at time.Time) (objective.Enumeration, error) {
	f, err := a.observedAt(ctx, at)
	if err != nil {
		return objective.Enumeration{}, err
	}
	return objective.Enumerate(a.Plan(), f, true)
}

// Explain says why something is as it is, down to facts and lines of the plan.
func (a *App) Explain(ctx context.Context, selector string) (objective.Explanation, error) {
	f, err := a.observed(ctx)
	if err != nil {
		return objective.Explanation{}, err
	}
	return objective.Explain(a.Plan(), f, true, selector)
}

// observedAt is what is known, moved to another instant; zero is now.
func (a *App) observedAt(ctx context.Context, at time.Time) (objective.Facts, error) {
	f, err := a.observed(ctx)
	if err != nil || at.IsZero() {
		return f, err
	}
	return f.MovedTo(at), nil
}

// Controls says what stands for each clause of the frameworks of the plan in force.
func (a *App) Controls(ctx context.Context) ([]objective.ControlState, error) {
	f, err := a.observed(ctx)
	if err != nil {
		return nil, err
	}
	if cs := objective.Controls(a.Plan(), f); cs != nil {
		return cs, nil
	}
	return []objective.ControlState{}, nil
}

// Objectives lists what the plan in force promises, and how each promise stands.
func (a *App) Objectives(ctx context.Context) ([]objective.Declared, error) {
	p := a.Plan()
	f, err := a.observed(ctx)
	if err != nil {
		return nil, err
	}
	o := objective.Look(p, f)
	return objective.Promises(p, &o), nil
}
