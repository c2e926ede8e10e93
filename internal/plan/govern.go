package plan

import "strings"

// Meta identifies the plan.
type Meta struct {
	ID        string   `yaml:"id" plan:"required"` // names the plan for good: evidence and documents cite it
	Title     string   `yaml:"title"`              // of the document that is rendered from the plan
	Version   string   `yaml:"version"`            // as the company counts them; quote it
	Owner     string   `yaml:"owner"`              // a role or a person
	Approvers []string `yaml:"approvers"`          // roles or people
	Review    Review   `yaml:"review"`             // how often the plan is looked at, and after what
	// Label is who may read it: "internal", "public", ….
	Label string `yaml:"label"`
	// Controls are the control ids that the head of the document cites, such as "BR-07" or
	// "soc2/CC7.5". A table under frameworks lists each.
	Controls []string `yaml:"controls"`
	// Effective is the day from which it is in force. An approved plan waits for it.
	Effective Date `yaml:"effective"`
	// Updated is when its text was last changed, and History what was done to it, in
	// order.
	Updated Date      `yaml:"updated"`
	History []Edition `yaml:"history"` // the editions of the plan, oldest first
	// Signatures are those that the document itself carries, by role.
	Signatures map[string]Signature `yaml:"signatures"`
	// Clock is where an RTO begins.
	//
	// Defaults to "disruption".
	Clock Clock `yaml:"rto_clock"`
	// Scope says what the plan covers, in the policy's words.
	Scope map[string]Scope `yaml:"scope"`
	// Goals are what the company wants from it, Commitments what its management
	// promises.
	Goals       []string               `yaml:"goals"`
	Commitments map[string]Attestation `yaml:"commitments"` // what the company's management promises, by a name of its own
}

// Review says how often something is looked at.
type Review struct {
	Every Period   `yaml:"every"` // the longest time between two looks
	After []string `yaml:"after"` // "change", "exercise", "incident"
	// By names the roles or people who look, together.
	By []string `yaml:"by"`
	// Stated is what the policy says, in its own words.
	Stated string `yaml:"stated"`
}

// An Edition is one line of a document's history.
type Edition struct {
	Version    string   `yaml:"version" plan:"required"` // as it stands on the document, quoted
	On         Date     `yaml:"on" plan:"required"`      // the day of this edition
	What       string   `yaml:"what"`                    // "created", "updated", …
	By         string   `yaml:"by"`                      // who wrote it
	ApprovedBy []string `yaml:"approved_by"`             // empty: this version was not approved
}

// A Signature is one that a document carries. An empty one says that it is missing.
type Signature struct {
	By string `yaml:"by"` // a role or person
	On Date   `yaml:"on"` // the day on which it was signed
	// None says that the place for it is empty.
	None string `yaml:"none"`
}

// Signed reports whether somebody signed.
func (s Signature) Signed() bool { return s.By != "" && !s.On.IsZero() }

// A Clock is where an RTO begins.
type Clock string

// The clocks.
const (
	ClockDisruption  Clock = "disruption"  // users are affected
	ClockDetection   Clock = "detection"   // somebody or something notices
	ClockDeclaration Clock = "declaration" // somebody decides to recover
)

func (Clock) words() []string {
	return []string{string(ClockDisruption), string(ClockDetection), string(ClockDeclaration)}
}

// RTOClock returns where RTOs of the plan begin.
func (p *Plan) RTOClock() Clock {
	if p.Plan.Clock == "" {
		return ClockDisruption
	}
	return p.Plan.Clock
}

// A Scope is a part of what the plan covers.
type Scope struct {
	Text string   `yaml:"text" plan:"short"` // what is covered, in the policy's words
	Of   []string `yaml:"of"`                // services, stores, suppliers, facilities, roles
}

// Org is the company.
type Org struct {
	Name string `yaml:"name"` // of the company, as documents print it

	// Timezone is the IANA name in which wall-clock times of the plan are read.
	//
	// Defaults to UTC.
	Timezone string `yaml:"timezone"`

	// Team says whether there are people enough for the rules of large companies. A
	// small team may let one person do what needs two, after a delay and with a review.
	//
	// Defaults to "ordinary".
	Team Team `yaml:"team"`
	// Domains are the company's own, for addresses that look like its own and are not.
	Domains []string `yaml:"domains"`
	// Contacts are how it is reached, by a name of their own.
	Contacts map[string]string `yaml:"contacts"`
	// Certified says which certificates it has, and which not yet.
	Certified map[string]Attestation `yaml:"certified"`
}

// A Team is how many people a company has for its rules.
type Team string

// The teams.
const (
	TeamOrdinary Team = "ordinary"
	TeamSmall    Team = "small"
)

func (Team) words() []string { return []string{string(TeamOrdinary), string(TeamSmall)} }

// A Definition is the company's own meaning of a word.
type Definition struct {
	Means string `yaml:"means" plan:"short"` // what the term means in this plan
	From  string `yaml:"from"`               // the document that it comes from
}

// An Exclusion is something that the plan does not cover.
type Exclusion struct {
	Why        string `yaml:"why" plan:"required"` // the reason
	What       string `yaml:"what"`                // what is left out
	AcceptedBy string `yaml:"accepted_by"`         // a role or person
	On         Date   `yaml:"on"`                  // the day on which it was accepted
	// Until is when it is looked at again.
	Until Date `yaml:"until"`
	// Hazards are those that are excluded.
	Hazards []string `yaml:"hazards"`
}

// A Duty is something that somebody does again and again: a review, a daily look.
type Duty struct {
	Of string `yaml:"of"` // what it is about
	// Every is how often; without it only After counts.
	Every Recurrence `yaml:"every"`
	After []string   `yaml:"after"` // events after which it is due again
	By    []string   `yaml:"by"`    // roles or people, together
	// Grace is how late it may be before it is overdue.
	Grace Period `yaml:"grace"`
	// LastDone is when the policy itself says that it was done last. What is done from
	// now on is recorded, not declared.
	LastDone Date   `yaml:"last_done"`
	Text     string `yaml:"text"` // what is to be done, in the policy's words
	// Stated is what the policy says, in its own words; without Every, that it says
	// nothing about how often.
	Stated string `yaml:"stated"`
	// AllClear makes it a look at the results of work, which the machine does itself where
	// all that was expected was done in time and nothing failed: it records an all-clear.
	// Otherwise, and while no server runs, somebody of By looks. Each time that nobody
	// looked is a finding of its own.
	AllClear bool `yaml:"all_clear"`
	// Compares are the documents that the running configuration is compared with.
	Compares []string `yaml:"compares"`
}

// Looks reports whether the duty is a look at the results of work. Of "results" is one that
// only people do.
func (d Duty) Looks() bool { return d.AllClear || d.Of == "results" }

// A Metric is a number that is reported.
type Metric struct {
	Owner string     `yaml:"owner"`                 // the role or person who answers for it
	Every Recurrence `yaml:"every" plan:"required"` // how often it is measured
	// Formula is a CEL expression over [Counts], or the name of a number that Holdfast
	// computes: see [Formulas].
	Formula string   `yaml:"formula"`
	Target  string   `yaml:"target"` // ">= 99%"
	To      []string `yaml:"to"`     // who reads it
	Text    string   `yaml:"text"`   // what it means, in words
}

// A Risk is an entry of the register.
type Risk struct {
	Event  string `yaml:"event" plan:"required"` // what may happen
	Hazard string `yaml:"hazard"`                // the hazard behind it
	// Likelihood and Impact are from 1, hardly, to 5.
	Likelihood int       `yaml:"likelihood"`
	Impact     int       `yaml:"impact"` // how much it harms, from 1, hardly, to 5
	Treat      Treatment `yaml:"treat"`  // what is done about it
	// By names what mitigates it: drills, exercises, runbooks, measures.
	By    []string `yaml:"by"`
	Owner string   `yaml:"owner"` // the role or person who answers for it
	Due   Date     `yaml:"due"`   // the day by which it is treated
	// AcceptedBy is who bears it, where Treat is "accept".
	AcceptedBy []string   `yaml:"accepted_by"`
	Review     Recurrence `yaml:"review"` // how often it is looked at
	Of         []string   `yaml:"of"`     // services, stores, suppliers
	Text       string     `yaml:"text"`   // what else there is to say
}

// A Treatment is what is done about a risk.
type Treatment string

// The treatments.
const (
	Mitigate Treatment = "mitigate"
	Accept   Treatment = "accept"
	Transfer Treatment = "transfer"
	Avoid    Treatment = "avoid"
)

func (Treatment) words() []string {
	return []string{string(Mitigate), string(Accept), string(Transfer), string(Avoid)}
}

// A Statement is a sentence of the policy, or a vague word in one.
type Statement struct {
	Stated string `yaml:"stated" plan:"short"` // the words of the policy
	// Bound is the number that the words stand for here, BoundBy who chose it.
	Bound   Period `yaml:"bound"`
	BoundBy string `yaml:"bound_by"` // the role or person who chose the number
	// Clause is where it stands in the policy.
	Clause string `yaml:"clause"`
	// By names what checks it: drills, exercises, reviews, metrics, measures, findings.
	By []string `yaml:"by"`
	// Controls are the clauses of standards that it cites.
	Controls []string `yaml:"controls"`
	// Approval names the approval that a change of it needs.
	Approval string `yaml:"approval"`
	// Public is true for what stands in the public edition too.
	Public bool `yaml:"public"`
}

// A Document is something that the policy cites.
type Document struct {
	Title string `yaml:"title" plan:"short"` // as it is cited
	Path  string `yaml:"path" plan:"path"`   // the file, where it is at hand
	URL   string `yaml:"url"`                // where it can be read
	// Version and Updated are those that are cited.
	Version string `yaml:"version"`
	Updated Date   `yaml:"updated"` // the day of the edition that is cited
	// Review is how often it is looked at.
	Review Review `yaml:"review"`
	// Missing says that the policy refers to it and it is not there.
	Missing string `yaml:"missing"`
	// Self is true for this policy, cited under another title.
	Self bool `yaml:"self"`
	// External is true for laws and standards.
	External bool `yaml:"external"`
}

// Proof returns what a reference in "controls" means: "drill", "exercise", "review",
// "metric", "measure", "runbook" or "statement", and its id. A reference that names no
// kind ("db-drill") is the first of these that the plan declares; one to nothing is "".
func (p *Plan) Proof(ref string) (kind, id string) {
	is := func(kind, id string) (declared bool) {
		switch kind {
		case "drill":
			_, declared = p.Drills[id]
		case "exercise":
			_, declared = p.Exercises[id]
		case "review":
			_, declared = p.Reviews[id]
		case "metric":
			_, declared = p.Metrics[id]
		case "measure":
			_, declared = p.Measures[id]
		case "runbook":
			_, declared = p.Runbooks[id]
		case "statement":
			_, declared = p.Statements[id]
		}
		return declared
	}
	if kind, id, ok := strings.Cut(ref, ":"); ok && is(kind, id) {
		return kind, id
	}
	for _, kind := range []string{"drill", "exercise", "review", "metric", "measure", "runbook", "statement"} {
		if is(kind, ref) {
			return kind, ref
		}
	}
	return "", ref
}

// A Framework is a standard that the company maps itself to.
type Framework struct {
	Edition string `yaml:"edition" plan:"short"` // "2022", "rev5"
	Title   string `yaml:"title"`                // the full name of the standard
	// Clauses are those that the policy's table of alignment lists.
	Clauses []string `yaml:"clauses"`
	// Cited are those that its text cites.
	Cited []string `yaml:"cited"`
	// None are clauses that do not apply, each with the reason.
	None map[string]string `yaml:"none"`
	// When names the markers of data to which it applies: HIPAA only where health data is.
	When []Marker `yaml:"when"`
	// Status is how far the company is: "certified", "in preparation", ….
	Status string `yaml:"status"`
	// Own are the company's own control ids, with what they mean.
	Own map[string]string `yaml:"own"`
}

// An Exception is an approved waiver of one finding, with an end.
type Exception struct {
	Rule       string   `yaml:"rule" plan:"required"`  // the code of the finding, e.g. "HF-L11"
	Of         string   `yaml:"of" plan:"required"`    // what it is about, e.g. "stores.queue"
	Why        string   `yaml:"why" plan:"required"`   // the reason
	By         string   `yaml:"by" plan:"required"`    // who asked
	ApprovedBy []string `yaml:"approved_by"`           // who agreed; never who asked
	From       Date     `yaml:"from"`                  // the first day on which it holds
	Until      Date     `yaml:"until" plan:"required"` // the day on which it ends
	// Risk is how much is at stake; it decides who must approve: see [Plan.Approval].
	Risk ExceptionRisk `yaml:"risk"`
	// Impact is what it costs if it goes wrong, Compensating what makes up for it until
	// then, Remedy how it ends.
	Impact       string `yaml:"impact"`
	Compensating string `yaml:"compensating"` // what makes up for it until then
	Remedy       string `yaml:"remedy"`       // how it ends
}

// ExceptionRisk is how much is at stake.
type ExceptionRisk string

func (ExceptionRisk) words() []string { return []string{"low", "medium", "high", "critical"} }
