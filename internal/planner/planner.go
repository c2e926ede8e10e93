// Package planner decides the order of a recovery, and nothing else.
//
// What is lost, what each location can give, what needs what, who is there and how
// long it took before go in; an immutable, explained [Plan] comes out. The executor of
// package recovery obeys it on the bad day, and a simulation shows the same plan
// before: there is one planner, so that what is foreseen is what will be done.
//
// # Invariants
//
//   - Make is pure: the same input gives the same plan, whatever the order of what is
//     in it, and the input is left alone.
//   - A step stands after all that it follows, and follows only what it needs, what its
//     runbook says, and nothing else: independent stores come back at the same time.
//   - A service is usable only after every lost store that it needs is back.
//   - Steps of a runbook that several services share are done once.
//
// # What the times mean
//
// They count from the activation. People do one step at a time, and restores that read
// from one location at the same time share it in equal parts; package sequence does
// that arithmetic. Protection that follows a recovery, and the levels of service that its
// stages ask for, are no part of its time: nobody knows before how long a level takes.
package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// A Kind says what a step does.
type Kind string

// The kinds of step.
const (
	StepRestore Kind = "restore" // bring one store back at its production address
	StepCheck   Kind = "check"   // probe one service until it is usable
	StepProtect Kind = "protect" // a backup of the recovered store is complete again
	StepHuman   Kind = "human"   // a person does something and says so
	StepLevel   Kind = "level"   // measure one service until a stage's level of service holds
	// StepOutside is something that is not ours to bring back: it is waited for. Only
	// simulations have it.
	StepOutside Kind = "outside"
)

// A Step is one unit of a plan.
type Step struct {
	ID       string          `json:"id"`
	Kind     Kind            `json:"kind"`
	Title    string          `json:"title"`
	Store    string          `json:"store,omitempty"`
	Service  string          `json:"service,omitempty"`
	Role     string          `json:"role,omitempty"`  // for human steps
	Stage    string          `json:"stage,omitempty"` // of a step that measures a level
	Level    string          `json:"level,omitempty"` // that must hold: "99.5%"
	Location string          `json:"location,omitempty"`
	Target   holdfast.Target `json:"target,omitzero"`
	After    []string        `json:"after,omitempty"`
	Estimate time.Duration   `json:"estimate_ns"`
	Basis    holdfast.Basis  `json:"basis"`
	Why      string          `json:"why"`

	// By are the people whom the plan counts on, and Held says what the step waits for
	// longest: a step, or a person who is busy with one.
	By   []string `json:"by,omitempty"`
	Held string   `json:"held,omitempty"`
	// Begin and End are predicted, from the activation.
	Begin time.Duration `json:"begin_ns"`
	End   time.Duration `json:"end_ns"`
	// Blocked is why the step can never be done; its times mean nothing then.
	Blocked string `json:"blocked,omitempty"`
}

// A Prediction is what the plan expects for one service.
type Prediction struct {
	Service string        `json:"service"`
	Time    time.Duration `json:"time_ns"` // from activation to usable
	Loss    time.Duration `json:"loss_ns"` // age of the data at the disruption
	RTO     time.Duration `json:"rto_ns"`
	RPO     time.Duration `json:"rpo_ns"`
	// Steps are those whose ends it waits for: its check and what its runbook asks for.
	Steps []string `json:"steps"`
	// Blocked is why the service does not come back; Time means nothing then.
	Blocked string `json:"blocked,omitempty"`
}

// A Choice is something that the planner decided and people may decide otherwise.
type Choice struct {
	Of      string   `json:"of"` // "stores.db", "roles.technical_lead"
	What    string   `json:"what"`
	Chosen  string   `json:"chosen"` // "" if nothing can be chosen: somebody must find a way
	Options []string `json:"options,omitempty"`
}

// A Plan is an order of recovery, decided once. A plan is never changed: a new
// situation makes a new plan that names the old one as its parent.
type Plan struct {
	Parent      string        `json:"parent,omitempty"`
	Made        time.Time     `json:"made"`
	Disruption  time.Time     `json:"disruption"`
	Lost        []string      `json:"lost"`
	Steps       []Step        `json:"steps"` // a topological order
	Critical    []string      `json:"critical_path"`
	Time        time.Duration `json:"time_ns"` // predicted, from activation to the end of what people wait for
	Predictions []Prediction  `json:"predictions"`
	Blocked     []string      `json:"blocked,omitempty"` // stores that are lost too and cannot come back from anywhere now
	Down        []string      `json:"down,omitempty"`    // services that stay down because of them
	Choices     []Choice      `json:"choices,omitempty"`
	Notes       []string      `json:"notes"` // what was decided and why, in sentences
}

// Digest identifies the plan by its content.
func (p Plan) Digest() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain data
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Step returns the step with an id.
func (p Plan) Step(id string) (Step, bool) {
	for _, s := range p.Steps {
		if s.ID == id {
			return s, true
		}
	}
	return Step{}, false
}

// An Input is everything that a plan depends on. The planner asks for nothing else.
type Input struct {
	Now        time.Time
	Disruption time.Time
	Parent     string
	Lost       []string             // stores that have to come back
	Down       []string             // services that stopped although their stores are there
	Stores     map[string]Store     // all stores of the plan in force
	Services   map[string]Service   // all services
	Runbooks   map[string][]RunStep // the steps that the services' runbooks name
	Outside    map[string]Outside   // lost suppliers and facilities that services need, by id
	Away       map[string]string    // locations that are out of reach, and why
	// People are those who can take each role now, the first choice first. A role that is
	// not in it is taken by whoever is there, and never a bottleneck.
	People map[string][]string
	// Deciders are the roles that may take a loss: those that may activate the plan.
	Deciders []string
	// Missing says for each role, and for each credential that a step uses, why nobody has it.
	Missing map[string]string
	// Anyhow asks for a plan of all that is lost, even of what cannot come back: its steps are
	// blocked in it. A real recovery leaves that out instead.
	Anyhow bool
}

// A Store is what the planner knows of a data store.
type Store struct {
	Offers   []Offer       // what each location within reach can give
	Estimate time.Duration // measured restore time, or a guess
	// Fetch is the part of Estimate in which data comes from the location. Restores that
	// fetch from one location at the same time share it.
	Fetch time.Duration
	Basis holdfast.Basis
	// Locked is why nothing of it can be read, whatever the locations hold.
	Locked string
}

// An Offer is the newest state of a store that one location can give back alone.
type Offer struct {
	Location string
	Until    time.Time // instant of the newest data
	Received bool      // the vault has countersigned it
	// Hole is why it ends there although newer data was written: log that is missing. ""
	// if it is all that is known. Base says that not even a part of the log is left.
	Hole string
	Base bool
}

// lapse is what taking an offer with a hole loses. It is an upper bound: nobody knows what
// was committed later.
func (o Offer) lapse(disruption time.Time) string {
	return fmt.Sprintf("%s; what was committed after %s is lost, up to %s of it", o.Hole, o.Until.UTC().Format(instant), holdfast.FormatDuration(max(0, disruption.Sub(o.Until)).Round(time.Second)))
}

// target is what a restore from the offer aims at. "Latest" would be refused, since it is
// not there.
func (o Offer) target() holdfast.Target {
	switch {
	case o.Hole == "":
		return holdfast.Target{Kind: holdfast.TargetLatest}
	case o.Base:
		return holdfast.Target{Kind: holdfast.TargetImmediate}
	}
	return holdfast.Target{Kind: holdfast.TargetTime, Time: o.Until}
}

// A Service is what users depend on.
type Service struct {
	Needs    []string // ids of stores, services and what is outside, hard edges only
	RTO, RPO time.Duration
	Checked  bool // the plan declares a probe
	// Window is how long the probe is asked before the service counts as back; 0: once.
	Window  time.Duration
	Runbook string // in Input.Runbooks; "" for none
	Levels  []Level
}

// A Level is the share of a service that must be there for one stage of its recovery.
type Level struct {
	Stage string
	Share string // "99.5%"
	First bool   // the stage is the first: it does not wait for what people do after the check
}

// An Outside is something that is not ours to bring back, or that others take the place of.
type Outside struct {
	Title    string
	Estimate time.Duration // until it is there again
	Blocked  string        // why it does not come back
	Why      string
}

// A RunStep is one step of a runbook as it is written down.
type RunStep struct {
	ID       string
	After    []string // ids of steps of the same runbook
	Title    string
	Restore  string   // a store that it brings back, starts or checks
	Check    string   // a service that it checks
	Roles    []string // who does it, each a different person; for neither of the above
	Uses     []string // credentials
	Estimate time.Duration
}

// A Blocked error names a store that cannot come back from anywhere.
type Blocked struct {
	Store  string
	Away   map[string]string
	Locked string // why what the locations hold cannot be read
}

func (e *Blocked) Error() string {
	if e.Locked != "" {
		return fmt.Sprintf("store %q cannot be recovered: %s", e.Store, e.Locked)
	}
	why := make([]string, 0, len(e.Away))
	for _, l := range slices.Sorted(maps.Keys(e.Away)) {
		why = append(why, fmt.Sprintf("location %q: %s", l, e.Away[l]))
	}
	if len(why) == 0 {
		why = append(why, "no location holds a complete backup of it")
	} else {
		why = append(why, "no location within reach holds a complete backup of it")
	}
	return fmt.Sprintf("store %q cannot be recovered from any location: %s", e.Store, strings.Join(why, "; "))
}
