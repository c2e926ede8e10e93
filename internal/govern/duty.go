package govern

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// A Kind says what sort of duty it is.
type Kind string

// The kinds of duty.
const (
	Review      Kind = "review"      // somebody looks at something again
	Attestation Kind = "attestation" // an owner says that the register is right
	Objective   Kind = "objective"   // the objectives of a service or store are approved
	Coverage    Kind = "coverage"    // owner and compliance look at what protects a store
	RiskReview  Kind = "risk"        // a risk is assessed again
	RestoreTest Kind = "restore-test"
	Schedule    Kind = "schedule" // the schedule is confirmed after a change
	Exercise    Kind = "exercise"
	Action      Kind = "action" // what a failure taught is mended
	OfflineCopy Kind = "offline-copy"
	Failure     Kind = "failure"      // a backup failed: its cause, and a good run after it
	AccessCheck Kind = "access-check" // a person shows that their own administrator access works
	Handover    Kind = "handover"     // what rested on somebody who has left gets somebody else
	Keeping     Kind = "keeping"      // somebody decides about copies that stay past their maximum
)

// States of a duty. Only the outcomes are stored; the others follow from the time.
const (
	Expected  = "expected"  // its time is not near
	Due       = "due"       // its time is near or has come
	Overdue   = "overdue"   // its time and its grace are over
	Done      = "done"      // with proof
	Missed    = "missed"    // the next one came due first
	Withdrawn = "withdrawn" // the plan asks for it no more
)

// A Duty is one thing that somebody owes.
type Duty struct {
	ID      string `json:"id"`   // the name and the day on which it was first expected
	Name    string `json:"name"` // "reviews.alerts": the same thing again has the same one
	Kind    Kind   `json:"kind"`
	Subject string `json:"subject"` // "stores.db", "plan"
	What    string `json:"what"`    // in words
	Cause   string `json:"cause"`
	Owner   string `json:"owner"` // the person who is asked first
	// By are the roles or people who must sign, each a person of its own.
	By     []string `json:"by"`
	People int      `json:"people"` // how many different people
	// Keyed is true for what approves: a word without a signature does not count.
	Keyed bool     `json:"keyed"`
	Items []string `json:"items,omitempty"` // what is looked at
	Every string   `json:"every,omitempty"`
	// Watch is true for a look at the results of work: each time that nobody did it is a
	// finding of its own.
	Watch bool `json:"watch,omitempty"`
	// After is from when on it counts: when it was done last, or when Event came.
	After time.Time `json:"after"`
	// Event is true if something happened that it is due for: what was done before that
	// does not count.
	Event   bool      `json:"event"`
	Written time.Time `json:"written"`
	Due     time.Time `json:"due"`
	Late    time.Time `json:"late"` // from here on it is overdue
	// Since is the first time in a row that was missed.
	Since      time.Time   `json:"missed_since,omitzero"`
	Reminded   time.Time   `json:"reminded,omitzero"`
	Noted      time.Time   `json:"noted,omitzero"` // that it is overdue
	Plan       string      `json:"plan"`           // in force when it was written
	Signatures []Signature `json:"signatures"`
	Outcome    string      `json:"outcome,omitempty"`
	Closed     time.Time   `json:"closed,omitzero"`
	DoneOn     time.Time   `json:"done_on,omitzero"` // when it was done, which may be before it was recorded
	Proof      string      `json:"proof,omitempty"`
	// State is computed for whoever asks, and not stored.
	State string `json:"state"`
}

// A Signature is one person's part of a duty.
type Signature struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	On   time.Time `json:"on"` // when it was done
	Note string    `json:"note,omitempty"`
	// Key is the public half with which the text was verified. Empty: the person has
	// none in the plan, and this is their word.
	Key       string `json:"key,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// Lead is how long before its time a duty turns due and who owes it is reminded: a
// quarter of its period, at most this.
const Lead = 30 * 24 * time.Hour

// ByDrill reports whether only a drill closes it.
func (d Duty) ByDrill() bool { return d.Kind == RestoreTest }

// EndsWith says what closes a duty that no word closes; "" for one that people sign.
func (d Duty) EndsWith() string {
	switch d.Kind {
	case RestoreTest:
		return "a drill that passes"
	case OfflineCopy:
		return "the code of a copy of the plan in force"
	case Handover:
		return "a plan in force that does not rest on them"
	case AccessCheck:
		return "a log-in of theirs as administrator, with their second factor"
	}
	return ""
}

// StateAt is the state at an instant.
func (d Duty) StateAt(now time.Time) string {
	switch {
	case d.Outcome != "":
		return d.Outcome
	case !d.Since.IsZero() || !now.Before(d.Late):
		return Overdue
	case !now.Before(d.remindAt()):
		return Due
	}
	return Expected
}

func (d Duty) remindAt() time.Time {
	return d.Due.Add(-min(Lead, d.Due.Sub(d.After)/4))
}

// Namespace is that of the SSH signatures of people over a duty:
//
//	ssh-keygen -Y sign -n holdfast-duty -f KEY FILE
const Namespace = "holdfast-duty"

// Text is what a person signs for a duty: all of it, so that nobody can sign for one
// thing and have another done.
func (d Duty) Text(repository, by, note string, on time.Time) string {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s: %s\n", key, oneLine(value)) }
	b.WriteString("holdfast duty 1\n")
	line("duty", d.ID)
	line("repository", repository)
	line("what", d.What)
	for _, i := range d.Items {
		line("item", i)
	}
	line("cause", d.Cause)
	line("by", by)
	if on.IsZero() {
		line("done", "when it is recorded")
	} else {
		line("done", on.UTC().Format(time.RFC3339))
	}
	line("note", note)
	return b.String()
}

// maxLine bounds one line of what is signed, and of what is stored.
const maxLine = 500

// oneLine makes one line of text: control characters are blanks, and what is cut off
// is named by its hash, so that another end is another text.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, s)
	if len(s) > maxLine {
		h := seal.Hash([]byte(s))
		s = strings.ToValidUTF8(s[:maxLine-40], "") + fmt.Sprintf("… (hash %x)", h[:8])
	}
	return s
}

// holds reports whether a person holds a role, or is its deputy, or is meant by name; of
// several roles ("a or b"), one of them.
func holds(p *plan.Plan, role, person string) bool {
	for one := range strings.SplitSeq(role, either) {
		if person != "" && (p.Person(one, false) == person || p.Person(one, true) == person) {
			return true
		}
	}
	return false
}

// enough reports whether the people together can stand for all roles, each for one, and
// are as many as asked for.
func enough(p *plan.Plan, roles []string, people int, who []string) bool {
	if len(who) < max(people, 1) {
		return false
	}
	taken := map[string]bool{}
	var fill func(i int) bool
	fill = func(i int) bool {
		if i == len(roles) {
			return true
		}
		for _, w := range who {
			if !taken[w] && holds(p, roles[i], w) {
				taken[w] = true
				if fill(i + 1) {
					return true
				}
				delete(taken, w)
			}
		}
		return false
	}
	if people > 0 && people < len(roles) {
		// "2 of owner, chair, lead": as many different people as asked, each with one of
		// the roles.
		n := 0
		for _, w := range who {
			if slices.ContainsFunc(roles, func(r string) bool { return holds(p, r, w) }) {
				n++
			}
		}
		return n >= people
	}
	return fill(0)
}

// refuse is a refusal with its way out; the caller records it.
func refuse(hint, format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf(format+": %w", append(args, holdfast.ErrRefused)...), "%s", hint)
}

// verify finds the person's key that signed text. With no signature it is the person's
// word, which counts only where no key is needed and the plan has none for them.
func verify(p *plan.Plan, by, text string, armoured []byte, keyed bool, others []Signature) (key string, err error) {
	person, ok := p.People[by]
	if !ok {
		return "", refuse("the people stand under \"people\" of the plan", "%q is not a person of the plan in force", by)
	}
	if slices.ContainsFunc(others, func(s Signature) bool { return s.By == by }) {
		return "", refuse("another person signs next", "%q has signed already", by)
	}
	if len(person.SSH) == 0 {
		if keyed || len(armoured) > 0 {
			return "", refuse(fmt.Sprintf("add people.%s.ssh to the plan", by), "%q has no key in the plan in force", by)
		}
		return "", nil
	}
	if len(armoured) == 0 {
		return "", refuse(fmt.Sprintf("print the text with --text, sign it with \"ssh-keygen -Y sign -n %s -f KEY FILE\", and give it with --signature", Namespace), "%q has a key in the plan, and signs with it", by)
	}
	for _, k := range person.SSH {
		if seal.VerifySSHKey(k, Namespace, []byte(text), armoured) != nil {
			continue
		}
		if slices.ContainsFunc(others, func(s Signature) bool { return sameKey(s.Key, k) }) {
			return "", refuse("each person has a key of their own", "the key of %q has signed already, in another name", by)
		}
		return k, nil
	}
	return "", refuse(fmt.Sprintf("print the text again with the same --by, --on and --note, and sign exactly that with \"ssh-keygen -Y sign -n %s -f KEY FILE\"", Namespace),
		"the signature is by no key of %q, or over another text", by)
}

func sameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) > 1 && len(y) > 1 && x[1] == y[1]
}

// signers are the people of signatures.
func signers(ss []Signature) (who []string) {
	for _, s := range ss {
		who = append(who, s.By)
	}
	return who
}
