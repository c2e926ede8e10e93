package plan

import "slices"

// A Runbook is a recovery as data.
type Runbook struct {
	// Detect is how long it takes to notice that it is needed.
	Detect Period `yaml:"detect"`
	// Steps are in the order of the file; what must come first says "after".
	Steps Steps  `yaml:"steps" plan:"required"`
	Text  string `yaml:"text"` // when it is for, and what it does
	// Scenarios are the losses that it answers.
	Scenarios []string `yaml:"scenarios"`
	// Author wrote it; knowledge is proven when somebody else carries it out.
	Author string `yaml:"author"`
}

// Steps are an ordered map from id to step.
type Steps []Step

// Get returns the step with the given id.
func (s Steps) Get(id string) (Step, bool) {
	for _, st := range s {
		if st.ID == id {
			return st, true
		}
	}
	return Step{}, false
}

// A Step is one unit of a runbook. It has exactly one of Restore, Start, Check,
// Human, Approve and Run.
type Step struct {
	ID      string   `yaml:"-"`
	Restore string   `yaml:"restore"` // a store
	Start   string   `yaml:"start"`   // a store whose engine is started
	Check   string   `yaml:"check"`   // a service whose probe, or a store whose invariants, must pass
	Human   string   `yaml:"human"`   // a role that does what Text says
	Approve []string `yaml:"approve"` // roles, each a different person
	Run     []string `yaml:"run"`     // argv; no shell

	Text  string   `yaml:"text"`  // what a person reads
	After []string `yaml:"after"` // the steps that must have ended before it starts
	// Est is how long the step is expected to take, or "measured" where drills tell.
	Est Estimate `yaml:"est"`
	// Uses names the credentials that it needs.
	Uses []string `yaml:"uses"`
}

// The kinds of step, as [Step.Kind] returns them.
const (
	StepRestore = "restore"
	StepStart   = "start"
	StepCheck   = "check"
	StepHuman   = "human"
	StepApprove = "approve"
	StepRun     = "run"
)

// Kind returns what the step does and to what.
func (s Step) Kind() (kind, of string) {
	switch {
	case s.Restore != "":
		return StepRestore, s.Restore
	case s.Start != "":
		return StepStart, s.Start
	case s.Check != "":
		return StepCheck, s.Check
	case s.Human != "":
		return StepHuman, s.Human
	case len(s.Approve) > 0:
		return StepApprove, ""
	case len(s.Run) > 0:
		return StepRun, ""
	}
	return "", ""
}

func (s Step) kinds() (kinds []string) {
	for _, k := range []struct {
		name string
		set  bool
	}{{StepRestore, s.Restore != ""}, {StepStart, s.Start != ""}, {StepCheck, s.Check != ""}, {StepHuman, s.Human != ""}, {StepApprove, len(s.Approve) > 0}, {StepRun, len(s.Run) > 0}} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

// Activation says what starts a recovery.
type Activation struct {
	// Automatic are the events that start it without a person: "store-lost".
	Automatic []Event `yaml:"automatic"`
	// By are the roles that may start it.
	By []string `yaml:"by"`
	// ConfirmAfter is how long a loss must last before it starts by itself, so that a
	// restart of the database is not taken for its end.
	//
	// Defaults to 0: at once.
	ConfirmAfter Period `yaml:"confirm_after"`
	// When are CEL expressions over what is known of an incident, any of which makes
	// Holdfast propose to start: see [NewCondition].
	When []string `yaml:"when" plan:"cel"`
	// Mode says what a true condition does.
	//
	// Defaults to "propose".
	Mode Mode `yaml:"mode"`
	// DeputyAfter is how long the first of By has to decide before the next is asked.
	DeputyAfter Period `yaml:"deputy_after"`
	// Stated is what the policy says, in its own words.
	Stated string `yaml:"stated"`
}

// A Mode says what a true condition of an activation does.
type Mode string

// The modes.
const (
	ModePropose   Mode = "propose"   // somebody is asked
	ModeImmediate Mode = "immediate" // the recovery starts
	ModeScheduled Mode = "scheduled" // a day is set and announced
)

func (Mode) words() []string {
	return []string{string(ModePropose), string(ModeImmediate), string(ModeScheduled)}
}

// An Event is something that can start a recovery by itself.
type Event string

// EventStoreLost is the loss of a store: it does not answer, and its data is gone.
const EventStoreLost Event = "store-lost"

func (Event) words() []string { return []string{string(EventStoreLost)} }

// Automatically reports whether e starts a recovery without a person.
func (a Activation) Automatically(e Event) bool { return slices.Contains(a.Automatic, e) }
