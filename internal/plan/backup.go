package plan

import (
	"maps"
	"slices"
)

// A Backup is a policy of protection that stores share.
type Backup struct {
	// Every is how often a snapshot (for postgres: a base backup) is made.
	Every Recurrence `yaml:"every" plan:"required"`
	// Log ships the transaction log between the snapshots.
	Log *LogPolicy `yaml:"log"`
	// Copies are the locations that hold every snapshot and log. Each is complete alone.
	Copies Copies `yaml:"copies" plan:"required"`
	// Keep is how long a snapshot is kept, counted from its receipt.
	Keep Period `yaml:"keep"`
	// Takes is how long one snapshot is expected to take, until it is complete in a
	// location. It counts into the loss.
	Takes Period `yaml:"takes"`
	// Retention bounds Keep: what law, contract or privacy demands.
	Retention *Retention `yaml:"retention"`
	// Stated is what the policy says about the schedule, in its own words.
	Stated string `yaml:"stated"`
	// Floor is the rarest that the policy allows at all, whatever a tier needs. It is
	// no schedule.
	Floor Period `yaml:"floor"`
}

// Retention says how long backups are kept. A hold beats Max, and Max beats Min only
// by a decision.
type Retention struct {
	// Min is how long a snapshot is kept at least.
	Min Period `yaml:"min"`
	// Max is how long a snapshot is kept at most.
	Max Period `yaml:"max"`
	// Exact is both.
	Exact Period `yaml:"exact"`
	// History keeps fewer snapshots for longer: the last of each hour, day, week, month
	// or year, each for its time.
	History *History `yaml:"history"`
	// Decision is who let Max win where law demands longer, and why.
	Decision string `yaml:"decision"`
	// Why justifies a time that is shorter or longer than the standard of the policy.
	Why string `yaml:"why"`
	// Stated is what the policy says, in its own words.
	Stated string `yaml:"stated"`
}

// History keeps the last snapshot of each span, each for its time.
type History struct {
	Hourly  Period `yaml:"hourly"`  // how long the last snapshot of each hour is kept
	Daily   Period `yaml:"daily"`   // how long the last snapshot of each day is kept
	Weekly  Period `yaml:"weekly"`  // how long the last snapshot of each week is kept
	Monthly Period `yaml:"monthly"` // how long the last snapshot of each month is kept
	Yearly  Period `yaml:"yearly"`  // how long the last snapshot of each year is kept
}

// Kept returns how long every snapshot of the backup is kept, at least and at most. A
// zero period is no bound. What then holds for a store, [Plan.Kept] says.
func (b Backup) Kept() (least, most Period) {
	r := b.Retention
	if r == nil {
		return b.Keep, Period{}
	}
	if !r.Exact.IsZero() {
		return r.Exact, r.Exact
	}
	least, most = b.Keep, r.Max
	if least.IsZero() || r.Min.Approx() > least.Approx() {
		least = r.Min
	}
	return least, most
}

// A Hold keeps the backups of stores from being deleted until somebody releases it.
type Hold struct {
	Of    []string `yaml:"of" plan:"required"`  // stores
	Why   string   `yaml:"why" plan:"required"` // the case
	By    string   `yaml:"by" plan:"required"`  // who asked
	From  Date     `yaml:"from"`                // the first day on which it holds
	Until Date     `yaml:"until"`               // without it, until it is taken out of the plan
}

// HoldsOn returns the holds on a store, in order, whatever their dates.
func (p *Plan) HoldsOn(store string) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(p.Holds)) {
		if slices.Contains(p.Holds[id].Of, store) {
			out = append(out, id)
		}
	}
	return out
}

// A LogPolicy says how the transaction log is shipped.
type LogPolicy struct {
	// MaxLag is the longest time from a commit until it is durable in a location.
	MaxLag Period `yaml:"max_lag" plan:"required"`
}

// Copies are the locations of a backup: a list of names, or a map from name to policy.
type Copies map[string]Copy

// A Copy is what one location gets.
type Copy struct {
	// Every is how often the location is brought up to date.
	//
	// Defaults to at once.
	Every Period `yaml:"every"`
}

// Names returns the locations in order.
func (c Copies) Names() []string { return slices.Sorted(maps.Keys(c)) }
