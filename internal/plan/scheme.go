package plan

import "slices"

// A SchemeKind says what a scheme measures.
type SchemeKind string

// The kinds of scheme.
const (
	SchemeTier     SchemeKind = "tier"     // how important something is
	SchemeSeverity SchemeKind = "severity" // how bad an incident is
)

func (SchemeKind) words() []string { return []string{string(SchemeTier), string(SchemeSeverity)} }

// The schemes of tiers and severities that name none.
const (
	DefaultTiers      = "tiers"
	DefaultSeverities = "severities"
)

// A Scheme is a named scale. The same word in two schemes means two things, and a
// label alone says nothing about strictness: one company's worst severity has its
// longest RTO.
type Scheme struct {
	Kind SchemeKind `yaml:"kind" plan:"required"` // what its levels grade
	// Means says what the scale is for.
	Means string `yaml:"means"`
	// Order lists its labels, most important or worst first.
	Order []string `yaml:"order"`
}

// SchemeOf returns the scheme that a tier belongs to.
func (t Tier) SchemeOf() string { return or(t.Scheme, DefaultTiers) }

// SchemeOf returns the scheme that a severity belongs to.
func (s Severity) SchemeOf() string { return or(s.Scheme, DefaultSeverities) }

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Rank returns the place of a label in its scheme, 0 for the most important or worst,
// and whether the scheme orders it. Ranks of two schemes are never compared.
func (p *Plan) Rank(scheme, label string) (int, bool) {
	i := slices.Index(p.Schemes[scheme].Order, label)
	return i, i >= 0
}

// A Scenario is something that can be lost.
type Scenario struct {
	// Text says what happens.
	Text string `yaml:"text"`
	// Hazards are what can cause it.
	Hazards []string `yaml:"hazards"`
	// DetectionDelay is how late the loss may be noticed. Backups must be kept
	// longer than that.
	DetectionDelay Period `yaml:"detection_delay"`
	// Lose names what is gone in this scenario: locations, or anything else by kind
	// and name: "region:eu-1", "supplier:hosting", "person:cto". See [Losses].
	Lose []string `yaml:"lose"`
	// RTO and RPO are the objectives of every service and store in this scenario, for
	// a policy that sorts its objectives by what happened.
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"` // the oldest acceptable recovered data after this loss
	// Severity is how bad such an incident is.
	Severity string `yaml:"severity"`
	// Runbook is the way back.
	Runbook string `yaml:"runbook"`
}

// Losses are the kinds of things that a scenario can lose, as in "region:eu-1". A
// name without a kind is a location.
var Losses = []string{"host", "site", "region", "provider", "account", "person", "credential", "key", "location",
	"service", "store", "supplier", "facility", "domain", "control-plane"}

// A Hazard is something that can happen.
type Hazard struct {
	Title string `yaml:"title" plan:"short"` // what it is called
	// Under names the hazard that this one is a kind of.
	Under string `yaml:"under"`
	// None is why it does not apply.
	None string `yaml:"none"`
}

// Hazards are those that every plan knows without declaring them.
var Hazards = map[string]Hazard{
	"natural-disaster": {Title: "Natural disaster"},
	"fire":             {Title: "Fire"},
	"flood":            {Title: "Flood"},
	"trade-stop":       {Title: "Sudden cessation of trade"},
	"company-sale":     {Title: "Sale of the company"},
	"hardware":         {Title: "Hardware failure"},
	"software":         {Title: "Software failure"},
	"attack":           {Title: "Malicious attack"},
	"data-breach":      {Title: "Data breach"},
	"data-theft":       {Title: "Data theft"},
	"litigation":       {Title: "Litigation"},
}

// Hazard returns a hazard of the plan, or one that every plan knows.
func (p *Plan) Hazard(id string) (Hazard, bool) {
	if h, ok := p.Hazards[id]; ok {
		return h, true
	}
	h, ok := Hazards[id]
	return h, ok
}

// A Tier holds the objectives that services and stores share.
type Tier struct {
	// Scheme is the scale that the tier belongs to.
	//
	// Defaults to "tiers".
	Scheme string    `yaml:"scheme"`
	Text   string    `yaml:"text"` // what belongs here, in the policy's words
	RTO    Objective `yaml:"rto"`  // longest acceptable outage
	RPO    Objective `yaml:"rpo"`  // oldest acceptable recovered data
	// MTD is the maximum tolerable downtime: after it the company is harmed for good.
	MTD Period `yaml:"mtd"`
	// Scenarios replace the objectives for a wider loss.
	Scenarios map[string]TierScenario `yaml:"scenarios"`
}

// A TierScenario replaces a tier's, service's or store's objectives in one scenario.
type TierScenario struct {
	RTO Objective `yaml:"rto"` // the longest acceptable outage after this loss
	RPO Objective `yaml:"rpo"` // the oldest acceptable recovered data after this loss
	MTD Period    `yaml:"mtd"` // the outage after which the company is harmed for good
}

// A Severity says how bad an incident is and what is promised then.
type Severity struct {
	// Scheme is the scale that the severity belongs to.
	//
	// Defaults to "severities".
	Scheme string    `yaml:"scheme"`
	Text   string    `yaml:"text"` // an example, in the policy's words
	RTO    Objective `yaml:"rto"`  // the longest acceptable outage in an incident of this severity
	RPO    Objective `yaml:"rpo"`  // the oldest acceptable recovered data in such an incident
	// Scenarios are the losses that have this severity.
	Scenarios []string `yaml:"scenarios"`
	// Notify names the roles, people or channels that are told.
	Notify []string `yaml:"notify"`
	// UpdateEvery is how often those affected are told how it stands.
	UpdateEvery Objective `yaml:"update_every"`
	// AckWithin is how long whoever is on call has to answer.
	AckWithin Period `yaml:"ack_within"`
	// ActivatesPlan makes an incident of this severity start the recovery.
	ActivatesPlan bool `yaml:"activates_plan"`
}
