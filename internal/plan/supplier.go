package plan

// Criticality says how much depends on a supplier.
type Criticality string

func (Criticality) words() []string { return []string{"low", "medium", "high", "critical"} }

// A Supplier is a company that services or stores depend on.
type Supplier struct {
	Name        string      `yaml:"name"`        // as contracts print it
	Provides    string      `yaml:"provides"`    // what it does for the company
	Criticality Criticality `yaml:"criticality"` // how much depends on it
	Owner       string      `yaml:"owner"`       // who looks after it here
	// Contacts are how it is reached in an emergency, by a name of their own.
	Contacts map[string]string `yaml:"contacts"`
	Contract string            `yaml:"contract"` // a document
	// RTO and RPO are what it guarantees. Write {stated: "…"} for words without a
	// number; without them its guarantee is unknown.
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"` // the oldest data that it promises to give back
	// Regions and Jurisdictions are where it keeps or handles data.
	Regions       []string `yaml:"regions"`
	Jurisdictions []string `yaml:"jurisdictions"` // whose law holds for it
	// Holds marks the data that it has.
	Holds []Marker `yaml:"holds"`
	// Responsible says who does what: {backup: supplier, restore: us, redundancy: both}.
	Responsible map[string]Party `yaml:"responsible"`
	// Contingency is the runbook for when it fails, Alternatives the suppliers that can
	// take its place.
	Contingency  string     `yaml:"contingency"`
	Alternatives []string   `yaml:"alternatives"` // who could take its place
	TestEvery    Recurrence `yaml:"test_every"`   // how often the contingency is tried
	// Review is how often its continuity is assessed.
	Review Review `yaml:"review"`
	// Mitigation is why a weaker guarantee is borne, or what makes up for it.
	Mitigation string `yaml:"mitigation"`
	// Exit is how we leave it.
	Exit *SupplierExit `yaml:"exit"`
	// Evidence is what it has shown: certificates, reports.
	Evidence map[string]Attestation `yaml:"evidence"`
	// Subprocessor is true for one that handles customers' personal data.
	Subprocessor bool `yaml:"subprocessor"`
	// Probe tells whether it works, seen from here.
	Probe *Probe `yaml:"probe"`
}

// A Party is who is responsible.
type Party string

// The parties.
const (
	PartyUs       Party = "us"
	PartySupplier Party = "supplier"
	PartyBoth     Party = "both"
)

func (Party) words() []string {
	return []string{string(PartyUs), string(PartySupplier), string(PartyBoth)}
}

// SupplierExit is how we leave a supplier.
type SupplierExit struct {
	Notice  Period `yaml:"notice"`  // that it must give us
	Takes   Period `yaml:"takes"`   // that moving away takes
	Runbook string `yaml:"runbook"` // the way
	Text    string `yaml:"text"`    // how the company leaves it, in words
}

// A Grade says how good evidence is. Grades are never merged.
type Grade string

// The grades.
const (
	GradeProved   Grade = "proved"   // a machine measured it
	GradeAttested Grade = "attested" // a person vouched
	GradeClaimed  Grade = "claimed"  // a supplier says so
)

func (Grade) words() []string {
	return []string{string(GradeProved), string(GradeAttested), string(GradeClaimed)}
}

// An Attestation is something that somebody says and no machine measures.
type Attestation struct {
	// Stated is what is said, in its own words.
	Stated string `yaml:"stated" plan:"short"`
	// Grade is how good the evidence is.
	//
	// Defaults to "claimed" for suppliers and facilities, and to "attested" elsewhere.
	Grade Grade  `yaml:"grade"`
	By    string `yaml:"by"` // who vouches
	// Document names what shows it.
	Document string `yaml:"document"`
	From     Date   `yaml:"from"`  // the first day for which it holds
	Until    Date   `yaml:"until"` // when it must be shown again
	// Every is how often it must be shown again.
	Every Recurrence `yaml:"every"`
	// Ask is what is unclear about it.
	Ask string `yaml:"ask"`
	// None is why it does not apply.
	None string `yaml:"none"`
}

// A Facility is a building that matters.
type Facility struct {
	Name     string `yaml:"name"`     // what it is called
	Supplier string `yaml:"supplier"` // who runs it
	Region   string `yaml:"region"`   // where it stands
	Owner    string `yaml:"owner"`    // the role or person who answers for it
	// Attested are its controls: guarding, power, fire suppression, ….
	Attested map[string]Attestation `yaml:"attested"`
	// None is why there is no such building.
	None string `yaml:"none"`
}

// A Customer is somebody with terms of their own.
type Customer struct {
	Name     string   `yaml:"name"`                     // as contracts print it
	Services []string `yaml:"services" plan:"required"` // services and stores that the terms are about
	Contract string   `yaml:"contract"`                 // a document
	// RTO and RPO are what the contract promises.
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"` // the oldest recovered data that the contract allows
	// Keep is how long the customer's data must be kept, at least.
	Keep Period `yaml:"keep"`
	// Notice is how long before a change the customer is told, NotifyWithin how soon
	// after an incident.
	Notice       Period `yaml:"notice"`
	NotifyWithin Period `yaml:"notify_within"` // how soon after an incident the customer is told
	// Consent is what the customer must agree to, in the contract's words.
	Consent string `yaml:"consent"`
	// OptOuts are what the customer has declined, each with its end.
	OptOuts map[string]OptOut `yaml:"opt_outs"`
	// Contacts are how the customer is reached, by a name of their own.
	Contacts map[string]string `yaml:"contacts"`
	From     Date              `yaml:"from"`  // the first day of the terms
	Until    Date              `yaml:"until"` // the day on which they end
}

// An OptOut is an update or rule that a customer declined, at its own risk.
type OptOut struct {
	Of    string `yaml:"of" plan:"required"` // the update or rule that is declined
	By    string `yaml:"by"`                 // who declined it
	Until Date   `yaml:"until"`              // the day on which it ends
}

// An Obligation is what a law, a regulation or a contract demands.
type Obligation struct {
	Law    string `yaml:"law" plan:"required"` // its name and clause
	Stated string `yaml:"stated"`              // its words
	// Of names the services and stores that it is about; without it, all.
	Of []string `yaml:"of"`
	// When names the markers of data to which it applies: health rules only where
	// health data is.
	When []Marker  `yaml:"when"`
	RTO  Objective `yaml:"rto"` // the longest outage that it allows
	RPO  Objective `yaml:"rpo"` // the oldest recovered data that it allows
	// KeepMin and KeepMax are how long data must, and may, be kept.
	KeepMin Period `yaml:"keep_min"`
	KeepMax Period `yaml:"keep_max"` // how long data may be kept at most
	// NotifyWithin is how soon the authority is told, counted from Clock.
	NotifyWithin Period `yaml:"notify_within"`
	// Clock is where the time begins: "awareness", "detection", "classification".
	Clock     string `yaml:"clock"`
	Authority string `yaml:"authority"` // who is told
}

// Residency says where data may lie, and who may hold it.
type Residency struct {
	// Of names the stores that it is about; without it, all.
	Of []string `yaml:"of"`
	// When names the markers of data to which it applies.
	When []Marker `yaml:"when"`
	// Jurisdictions and Regions are the only ones allowed. An empty list allows all.
	Jurisdictions []string `yaml:"jurisdictions"`
	Regions       []string `yaml:"regions"` // the only ones allowed; an empty list allows all
	Why           string   `yaml:"why"`     // the reason
}

// Exit says what customers get when the company ends.
type Exit struct {
	On    []string `yaml:"on"`    // the hazards that bring it about
	Gives []string `yaml:"gives"` // source code, specification, data
	// Within is how soon.
	Within Objective `yaml:"within"`
	Escrow string    `yaml:"escrow"` // who keeps it until then
	Stated string    `yaml:"stated"` // the words of the policy
}
