package plan

// A Pick says which recovery point a drill restores.
type Pick string

// The picks.
const (
	PickRandom Pick = "random"
	PickLatest Pick = "latest"
	PickOldest Pick = "oldest"
)

func (Pick) words() []string {
	return []string{string(PickRandom), string(PickLatest), string(PickOldest)}
}

// A Drill restores stores in a sandbox, checks them and measures the time.
type Drill struct {
	Of    []string   `yaml:"of" plan:"required"`    // the stores that are restored
	Every Recurrence `yaml:"every" plan:"required"` // how often
	// Pick says which recovery point is restored.
	//
	// Defaults to "random".
	Pick Pick `yaml:"pick"`
	// Rung is how high the drill must climb to count, 0 to 8.
	//
	// Defaults to 6 for postgres and 3 for files: see [Plan.DrillRung].
	Rung *int `yaml:"rung"`
	// FreshFor is how long the proof lasts.
	//
	// Defaults to 35 days.
	FreshFor Period `yaml:"fresh_for"`
	// After are the events after which it is due again: "schema-change",
	// "engine-major", "key-rotation", "change".
	After []string `yaml:"after"`
	// Scenarios are the losses that it rehearses.
	Scenarios []string `yaml:"scenarios"`
	// Operator is the role or person who does it. Knowledge is proven when it is not
	// the one who wrote the runbook.
	Operator string `yaml:"operator"`
	// From names the only location that it may restore from.
	From string `yaml:"from"`
	// Stated is what the policy says, in its own words.
	Stated string `yaml:"stated"`
}

// An ExerciseKind says what is rehearsed.
type ExerciseKind string

// The kinds of exercise.
const (
	Tabletop  ExerciseKind = "tabletop"  // people talk a loss through
	CallTree  ExerciseKind = "call-tree" // is everybody reached, and how soon?
	Technical ExerciseKind = "technical" // systems are really restored
	Failover  ExerciseKind = "failover"  // a part is switched off
)

func (ExerciseKind) words() []string {
	return []string{string(Tabletop), string(CallTree), string(Technical), string(Failover)}
}

// An Exercise is a rehearsal of people.
type Exercise struct {
	Kind  ExerciseKind `yaml:"kind" plan:"required"` // what is rehearsed, and how
	Every Recurrence   `yaml:"every"`                // how often
	After []string     `yaml:"after"`                // events after which it is due again
	// Scenarios are the losses that it rehearses, Severities how bad.
	Scenarios  []string `yaml:"scenarios"`
	Severities []string `yaml:"severities"` // the severities that it rehearses
	Of         []string `yaml:"of"`         // the services, stores or suppliers that it is about
	// RemovePerson names who does not take part, so that the others must do without.
	RemovePerson []string `yaml:"remove_person"`
	// Unannounced means that nobody is told before.
	Unannounced bool   `yaml:"unannounced"`
	Lead        string `yaml:"lead"` // a role or person
	// Covers are what is looked at, in the policy's words.
	Covers []string `yaml:"covers"`
	// Confirms are the objectives that it is meant to show: "rto", "rpo".
	Confirms []string `yaml:"confirms"`
	// FreshFor is how long it counts.
	FreshFor Period `yaml:"fresh_for"`
	// Stated is what the policy says, in its own words; without Every, that it says
	// nothing about how often.
	Stated string `yaml:"stated"`
}
