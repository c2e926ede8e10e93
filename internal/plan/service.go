package plan

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/calendar"
)

// Need says how strongly a service depends on something.
type Need string

// The needs. A service cannot run without a hard need; without a soft one it is poorer.
const (
	Hard Need = "hard"
	Soft Need = "soft"
)

func (Need) words() []string { return []string{string(Hard), string(Soft)} }

// A ServiceKind says what a service is built of.
type ServiceKind string

// The kinds of service.
const (
	ServiceAPI       ServiceKind = "api"
	ServiceWeb       ServiceKind = "web"
	ServiceWorker    ServiceKind = "worker"
	ServiceHost      ServiceKind = "host" // a machine that others run on
	ServiceInference ServiceKind = "inference"
	ServiceNetwork   ServiceKind = "network"
	ServiceProcess   ServiceKind = "process" // what people do
)

func (ServiceKind) words() []string {
	return []string{string(ServiceAPI), string(ServiceWeb), string(ServiceWorker), string(ServiceHost), string(ServiceInference), string(ServiceNetwork), string(ServiceProcess)}
}

// A Service is what users depend on.
type Service struct {
	Text string `yaml:"text"` // what it is, for people who do not know it
	// Kind is what it is built of. Each kind has rules of its own for what must be kept
	// so that it comes back.
	Kind  ServiceKind `yaml:"kind"`
	Tier  string      `yaml:"tier"`  // gives it the objectives that it does not state itself
	Owner string      `yaml:"owner"` // a role or a person
	// Needs are the services, stores, suppliers, facilities, people and roles that it
	// depends on: "hard" or "soft".
	Needs map[string]Need `yaml:"needs"`
	// AnyOf are needs of which some suffice, by a name of their own.
	AnyOf   map[string]AnyOf `yaml:"any_of"`
	Runbook string           `yaml:"runbook"` // the steps that bring it back
	Probe   *Probe           `yaml:"probe"`   // tells whether it is usable

	// RTO and RPO are the service's own objectives. With those of its tier and of
	// customers the strictest counts; one that does not apply ({none: …}) replaces
	// the tier's.
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"` // the oldest acceptable recovered data, instead of the tier's
	// MTD is the maximum tolerable downtime of this service.
	//
	// Defaults to the tier's.
	MTD Period `yaml:"mtd"`
	// Scenarios replace the objectives for a wider loss.
	Scenarios map[string]TierScenario `yaml:"scenarios"`
	// Level is the share of requests that must succeed before it counts as back, in
	// the policy's words or as a share: "99.9%".
	Level string `yaml:"level"`

	// BIA is the business impact analysis.
	BIA *BIA `yaml:"bia"`
	// Redundancy says what keeps it running when a part fails.
	Redundancy *Redundancy `yaml:"redundancy"`

	// Environment is where it runs: "production", "staging", …
	Environment string `yaml:"environment"`
	// LiveData says whether it processes, stores or transmits live data of the company
	// or of customers. Whatever does is production, whatever it is called.
	//
	// Defaults to true.
	LiveData *bool    `yaml:"live_data"`
	Data     *DataUse `yaml:"data"` // whose data it handles, and how
	// Regions are where it runs.
	Regions []string `yaml:"regions"`
}

// Production reports whether the rules for production apply.
func (s Service) Production() bool { return s.LiveData == nil || *s.LiveData }

// AnyOf are needs of which some suffice.
type AnyOf struct {
	Of []string `yaml:"of" plan:"required"` // the services and stores, each of which does
	// AtLeast is how many of them are needed.
	//
	// Defaults to 1.
	AtLeast int  `yaml:"at_least"`
	Need    Need `yaml:"need"` // defaults to "hard"
	// TestEvery is how often switching between them is tried.
	TestEvery Recurrence `yaml:"test_every"`
}

// Redundancy says what keeps a service running when a part of it fails.
type Redundancy struct {
	// How says what is doubled, in the policy's words.
	How string `yaml:"how" plan:"short"`
	// None is why nothing is: a single point of failure with its reason.
	None string `yaml:"none"`
	// TestEvery is how often the failover is tried.
	TestEvery Recurrence `yaml:"test_every"`
	// Stated keeps a failover test that the policy names without saying how often.
	Stated string `yaml:"stated"`
}

// A BIA is a business impact analysis: what an outage does to the company as it
// goes on.
type BIA struct {
	// Impact is the harm by how long the outage has lasted: {1h: {level: 1}, 4h: {level: 3}}.
	Impact map[string]Impact `yaml:"impact" plan:"required"`
	// Tolerable is the highest level that the company can bear.
	//
	// Defaults to 3.
	Tolerable int `yaml:"tolerable"`
	// LossImpact is the harm by how old the recovered data is, in the same form.
	LossImpact map[string]Impact `yaml:"loss_impact"`
	// Peaks are the times at which an outage costs more.
	Peaks map[string]Peak `yaml:"peaks"`
	// Obligations are what would be broken.
	Obligations []string `yaml:"obligations"`
	// By is who made the analysis, and On when.
	By string `yaml:"by"`
	On Date   `yaml:"on"` // the day of the analysis
}

// DefaultTolerable is the highest level of impact that a company can bear where its
// analysis does not say.
const DefaultTolerable = 3

// Bearable returns the highest level of impact that the company can bear.
func (b BIA) Bearable() int {
	if b.Tolerable > 0 {
		return b.Tolerable
	}
	return DefaultTolerable
}

// An Impact is the harm of an outage that has lasted for some time.
type Impact struct {
	// Level is how bad it is: 0 for nothing, 1 hardly, 2 a nuisance, 3 serious, 4 more
	// than the company can bear for long, 5 its end.
	Level int    `yaml:"level" plan:"required"`
	Text  string `yaml:"text"` // what happens
	// Cost is what each hour costs from here on, in the company's currency.
	Cost int `yaml:"cost"`
}

// MaxImpact is the highest level of impact.
const MaxImpact = 5

// An ImpactAt is an impact with the time at which it begins.
type ImpactAt struct {
	After Period
	Impact
}

// ImpactOverTime returns an impact map in the order of time.
func ImpactOverTime(m map[string]Impact) []ImpactAt {
	out := make([]ImpactAt, 0, len(m))
	for after, i := range m {
		p, err := calendar.ParsePeriod(after)
		if err != nil {
			continue // Parse has refused it
		}
		out = append(out, ImpactAt{p, i})
	}
	slices.SortFunc(out, func(a, b ImpactAt) int { return cmp.Compare(a.After.Approx(), b.After.Approx()) })
	return out
}

// A Peak is a time at which an outage costs more than usually.
type Peak struct {
	// When it begins, such as "1mo on last at 08:00".
	When Recurrence `yaml:"when"`
	// For is how long it lasts.
	For  Period `yaml:"for"`
	Text string `yaml:"text"` // why an outage costs more then
	// RTO is what must hold then.
	RTO Objective `yaml:"rto"`
}

// DataUse says whose data something handles, and how.
type DataUse struct {
	Company  []DataAct `yaml:"company"`  // what is done with the company's own data
	Customer []DataAct `yaml:"customer"` // what is done with customers' data
	// As is the part that the company plays in data protection.
	As DataPart `yaml:"as"`
}

// A DataAct is what is done with data.
type DataAct string

func (DataAct) words() []string { return []string{"create", "receive", "store", "transmit"} }

// A DataPart is the company's part in data protection law.
type DataPart string

// The parts.
const (
	Controller DataPart = "controller" // decides what the data is for
	Processor  DataPart = "processor"  // handles it for somebody else
)

func (DataPart) words() []string { return []string{string(Controller), string(Processor), "both"} }

// A Probe tells whether a service is usable, seen from outside. It is a URL or a
// command, not both.
type Probe struct {
	URL     string   `yaml:"url"`     // the http or https address that is asked
	Command []string `yaml:"command"` // argv; no shell
	// Status is the HTTP status that counts as usable.
	//
	// Defaults to 200.
	Status int `yaml:"status"`
	// Timeout ends one attempt.
	//
	// Defaults to 10s.
	Timeout Period `yaml:"timeout"`
	// Window is how long a level of service must hold, and Every how often the probe
	// asks meanwhile: the share of the questions that are answered well is the level.
	// Window holds at least one question and at most 100,000.
	//
	// Default to 1m and 1s.
	Window Period `yaml:"window"`
	Every  Period `yaml:"every"` // the time between two questions while a level is measured
}

// Where a probe does not say how a level of service is measured, it asks this often for
// this long. MaxQuestions bounds what one window holds.
const (
	DefaultWindow = time.Minute
	DefaultEvery  = time.Second
	MaxQuestions  = 100_000
)

// Questions returns how many times the probe asks to measure a level of service, and the
// pause between the beginnings of two questions.
func (p Probe) Questions() (n int, every time.Duration) {
	window, every := p.Window.Approx(), p.Every.Approx()
	if window <= 0 {
		window = DefaultWindow
	}
	if every <= 0 {
		every = DefaultEvery
	}
	return int(min(window/every, MaxQuestions+1)), every
}
