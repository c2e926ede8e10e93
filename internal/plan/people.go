package plan

import (
	"fmt"
	"strings"
)

// A Person is somebody with a name and a way to be reached.
type Person struct {
	Name  string `yaml:"name"`  // as people write it
	Email string `yaml:"email"` // where messages reach the person
	Phone string `yaml:"phone"` // in quotes, with the country's code
	// SSH holds public keys that sign the person's approvals, by a name of their own.
	SSH map[string]string `yaml:"ssh"`
	// Timezone is the IANA name of where the person usually is.
	//
	// Defaults to the company's.
	Timezone string `yaml:"timezone"`
	// Can names the runbooks that the person can carry out alone.
	Can []string `yaml:"can"`
	// OfflineCopy is how often the person's printed or stored copy of the plan is renewed.
	OfflineCopy Period `yaml:"offline_copy"`
	// AccessCheck is how often the person shows that their own administrator access works,
	// by logging in with their second factor.
	AccessCheck Period `yaml:"access_check"`
}

// A Role is a duty that somebody holds and somebody else can take over.
type Role struct {
	Holder string   `yaml:"holder" plan:"required"` // the person who has it
	Deputy string   `yaml:"deputy"`                 // another person, who takes it when the holder is away
	May    []string `yaml:"may"`                    // "activate-plan", "close-incident", …
	// Duties are what the role does, in the policy's words.
	Duties []string `yaml:"duties"`
	// ApartFrom names roles that the same person must not hold.
	ApartFrom []string `yaml:"apart_from"`
}

// OnCall says who is called.
type OnCall struct {
	Primary   []string `yaml:"primary"`   // people, in turn
	Secondary []string `yaml:"secondary"` // people, in turn
	// Shift is how long one turn lasts.
	Shift Period `yaml:"shift"`
	// AckWithin is how long the primary has to answer before the secondary is called.
	AckWithin Period `yaml:"ack_within"`
	// EscalateTo names the roles or people who are called when the secondary does not
	// answer either.
	EscalateTo []string `yaml:"escalate_to"`
	// EscalateAfter is how long the secondary has to answer.
	//
	// Defaults to AckWithin.
	EscalateAfter Period `yaml:"escalate_after"`
	// Training is what somebody has learned before the first turn.
	Training []string `yaml:"training"`
}

// A Credential is something that people need on the bad day.
type Credential struct {
	For     string   `yaml:"for"`     // what it opens: a supplier, a location, a service
	Holders []string `yaml:"holders"` // people
	// MinHolders is how many people must hold it.
	//
	// Defaults to 1.
	MinHolders int  `yaml:"min_holders"`
	MFA        bool `yaml:"mfa"`     // a second factor is needed
	Offline    bool `yaml:"offline"` // it works without the internet
	// TestEvery is how often its holders show that it works.
	TestEvery Recurrence `yaml:"test_every"`
}

// The acts that Holdfast asks an approval for.
const (
	ActChange = "change-plan" // a plan that weakens nothing
	ActWeaken = "weaken-plan" // a plan that weakens something: see [Diff]
	// ActEncryption is a plan that changes who can read the backups, or what guards them on
	// their way: see [Change.Encryption]. A plan that names nobody for it asks those of
	// ActWeaken.
	ActEncryption = "change-encryption"
	ActDelete     = "delete"     // deletion before its time, release of a hold
	ActObjectives = "objectives" // a value of an objective
	ActWriteBack  = "write-back" // rows that a mistake took, into production
	ActException  = "exception-" // and the risk: exception-low, exception-medium, …
)

// An Approval says who agrees to an act.
type Approval struct {
	// Roles are whose agreement is needed, one person for each.
	Roles []string `yaml:"roles"`
	// People is how many different people must agree.
	//
	// Defaults to the number of Roles.
	People int `yaml:"people"`
	// RequesterCounts lets the person who asks be one of them.
	RequesterCounts bool `yaml:"requester_counts"`
	// Fallback is the way of a team that is too small for this.
	Fallback *Fallback `yaml:"fallback"`
}

// String says in one line who agrees: "2 of ceo, cto, or one person after 1d, with a
// review within 7d".
func (a Approval) String() string {
	s := fmt.Sprintf("%d of %s", a.People, strings.Join(a.Roles, ", "))
	if len(a.Roles) == 0 {
		s = fmt.Sprintf("%d people", a.People)
	}
	if f := a.Fallback; f != nil {
		s += fmt.Sprintf(", or one person after %s, with a review within %s", f.Delay, f.ReviewWithin)
	}
	return s
}

// A Fallback replaces a second person by time and a look afterwards.
type Fallback struct {
	// Delay is how long the act waits, so that it can be stopped.
	Delay Period `yaml:"delay" plan:"required"`
	// ReviewWithin is how long somebody else has to look at it afterwards.
	ReviewWithin Period `yaml:"review_within" plan:"required"`
	// ReviewBy names the role or person who looks.
	ReviewBy string `yaml:"review_by"`
}

// The fallback of a team that is declared small and names none.
var (
	defaultDelay  = Period{Days: 1}
	defaultReview = Period{Days: 7}
)

// onlyTwo reports whether two people and no third hold the given roles.
func (p *Plan) onlyTwo(roles []string) bool {
	who := map[string]bool{}
	for _, r := range roles {
		for _, deputy := range []bool{false, true} {
			if id := p.Person(r, deputy); id != "" {
				who[id] = true
			}
		}
	}
	return len(who) == 2
}

// Approval returns what an act needs. An act that the plan does not name needs two of
// the plan's approvers, other than who asks; in a team that is declared small, one
// person is enough after a delay, with a review afterwards. Weakening what protects
// counts as deletion. Where only two people can approve at all, who asks is one of the
// two: both sign, and nobody acts alone.
func (p *Plan) Approval(act string) Approval {
	a, ok := p.Approvals[act]
	if !ok {
		a = Approval{Roles: p.Plan.Approvers, People: 2}
		switch act {
		case ActChange:
			a.People = 1
		case ActWeaken, ActEncryption, ActDelete:
			a.RequesterCounts = p.onlyTwo(a.Roles)
		}
		if act == ActDelete || act == ActEncryption {
			if w, ok := p.Approvals[ActWeaken]; ok {
				a = w
			}
		}
	}
	if a.People == 0 {
		a.People = len(a.Roles)
	}
	if a.Fallback == nil && p.Org.Team == TeamSmall && a.People > 1 {
		a.Fallback = &Fallback{Delay: defaultDelay, ReviewWithin: defaultReview}
	}
	return a
}
