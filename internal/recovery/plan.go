package recovery

import "holdfast/internal/planner"

// What the planner decides is what the executor obeys: the same words.
type (
	Plan       = planner.Plan
	Step       = planner.Step
	Kind       = planner.Kind
	Prediction = planner.Prediction
)

// The kinds of step that the executor carries out.
const (
	StepRestore = planner.StepRestore
	StepCheck   = planner.StepCheck
	StepProtect = planner.StepProtect
	StepHuman   = planner.StepHuman
	StepLevel   = planner.StepLevel
)
