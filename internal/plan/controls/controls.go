// Package controls knows the clauses of standards that a continuity plan is asked
// about: their numbers, what each is about, and what it wants, in our own words.
//
// A plan maps controls to what proves them. The mapping is written by people, often
// copied, and sometimes wrong: backup is filed under a control about denial of
// service because the number is near. This package tells a control that does not
// exist from one that does, and one whose intent fits from one whose intent does not.
//
// # What it is not
//
// It is not the text of any standard, and satisfies no licence to read one. Names and
// intents are short paraphrases; an auditor judges by the standard. Whether a control
// is satisfied is decided elsewhere, from evidence.
//
// # Invariants
//
//   - Nothing here changes after it was first asked for; it may be used concurrently.
//   - The sets cost nothing until one is asked for.
package controls

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// A Topic is what a control is about, or what a piece of evidence shows. A mapping is
// doubtful when the two share no topic.
type Topic string

// The topics.
const (
	Backup         Topic = "backup"
	Restore        Topic = "restore"
	Recovery       Topic = "recovery"
	Continuity     Topic = "continuity planning"
	Impact         Topic = "business impact"
	Redundancy     Topic = "redundancy"
	Sites          Topic = "alternate sites"
	Exercise       Topic = "exercises"
	Training       Topic = "training"
	Incident       Topic = "incident response"
	Policy         Topic = "policies and reviews"
	Risk           Topic = "risk"
	Supplier       Topic = "suppliers"
	Access         Topic = "access"
	Cryptography   Topic = "cryptography"
	Monitoring     Topic = "monitoring"
	Records        Topic = "records and retention"
	Change         Topic = "change"
	Assets         Topic = "assets and classification"
	Communication  Topic = "communication"
	Availability   Topic = "denial of service"
	Resources      Topic = "resource management"
	Integrity      Topic = "integrity"
	Physical       Topic = "physical protection"
	People         Topic = "people"
	Development    Topic = "development"
	Network        Topic = "networks"
	Privacy        Topic = "privacy"
	Organisation   Topic = "organisation and leadership"
	Vulnerability  Topic = "vulnerabilities"
	Administration Topic = "administration of systems"
)

// A Control is one clause of a set.
type Control struct {
	ID     string // as the set counts it: "A.8.13", "SR 7.3", "164.308(a)(7)(ii)(A)"
	Name   string // what it is about, in a few words of ours
	Intent string // what it wants; empty for controls far from continuity
	About  []Topic
}

// Fits reports whether something that shows any of the topics can speak for c.
func (c Control) Fits(shows []Topic) bool {
	return slices.ContainsFunc(c.About, func(t Topic) bool { return slices.Contains(shows, t) })
}

// A Set is one standard, or the own controls of a company.
type Set struct {
	ID       string // "iso27001"
	Name     string // "ISO/IEC 27001:2022"
	Editions []string
	Controls []Control

	byID map[string]int
}

// New makes a set of a company's own. Controls with the same id, written in whatever
// way, are one: the first stays.
func New(id, name string, list []Control) *Set {
	s := &Set{ID: id, Name: name, byID: make(map[string]int, len(list))}
	for _, c := range list {
		if _, again := s.byID[fold(c.ID)]; !again {
			s.byID[fold(c.ID)] = len(s.Controls)
			s.Controls = append(s.Controls, c)
		}
	}
	return s
}

// fold makes one spelling of an id: people write SR7.1, SR 7.1 and sr-7.1, and
// 164.308.a.7 for 164.308(a)(7).
func fold(id string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(id) {
		switch r {
		case ' ', '-', '_', '§', ')':
		case '(':
			b.WriteByte('.')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Find returns the control with an id. Spaces, dashes and case do not matter, and
// neither does the "A." of ISO's annex.
func (s *Set) Find(id string) (Control, bool) {
	for _, k := range []string{fold(id), "a." + fold(id)} {
		if i, ok := s.byID[k]; ok {
			return s.Controls[i], true
		}
	}
	return Control{}, false
}

// Family reports whether id stands for a whole family, such as "CC6.x", and returns it.
func (s *Set) Family(id string) []Control {
	stem, ok := strings.CutSuffix(fold(id), ".x")
	if !ok || stem == "" {
		return nil
	}
	var out []Control
	for _, c := range s.Controls {
		if strings.HasPrefix(fold(c.ID), stem+".") {
			out = append(out, c)
		}
	}
	return out
}

// About returns the controls whose first topics are among those given, best first: the
// earlier a topic stands in a control, the more the control is about it.
func (s *Set) About(shows []Topic) []Control {
	rank := func(c Control) int {
		return slices.IndexFunc(c.About, func(t Topic) bool { return slices.Contains(shows, t) })
	}
	var out []Control
	for _, c := range s.Controls {
		if rank(c) >= 0 {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Control) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// Nearest returns up to three controls whose ids look like id, nearest first.
func (s *Set) Nearest(id string) []Control {
	type near struct {
		c Control
		d int
	}
	want := fold(id)
	limit := max(2, len(want)/3)
	var all []near
	for _, c := range s.Controls {
		d := distance(want, fold(c.ID))
		if without, ok := strings.CutPrefix(fold(c.ID), "a."); ok {
			d = min(d, distance(want, without))
		}
		if d <= limit {
			all = append(all, near{c, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.d, b.d) })
	var out []Control
	for _, n := range all[:min(3, len(all))] {
		out = append(out, n.c)
	}
	return out
}

// maxID bounds the ids that are compared, in bytes.
const maxID = 64

// distance counts the edits between two short ids.
func distance(a, b string) int {
	if len(a) > maxID || len(b) > maxID {
		return maxID
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost++
			}
			corner = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// sets are the shipped sets by id.
var sets = sync.OnceValue(func() map[string]*Set {
	out := map[string]*Set{}
	for _, s := range []struct {
		id, name string
		editions []string
		list     []Control
	}{
		{"iso27001", "ISO/IEC 27001:2022", []string{"2022"}, iso27001()},
		{"soc2", "SOC 2 trust services criteria", []string{"2017", "2022"}, soc2()},
		{"nist80053", "NIST SP 800-53, contingency planning", []string{"rev5", "5"}, nist80053()},
		{"hipaa", "HIPAA Security Rule, 45 CFR 164", []string{"2013"}, hipaa()},
		{"iec62443", "IEC 62443-3-3", []string{"2013"}, iec62443()},
	} {
		set := New(s.id, s.name, s.list)
		set.Editions = s.editions
		out[s.id] = set
	}
	return out
})

// aliases are other ways to write the ids of the shipped sets.
var aliases = map[string]string{
	"iso27001": "iso27001", "iso27001:2022": "iso27001", "isoiec27001": "iso27001", "iso": "iso27001",
	"soc2": "soc2", "tsc": "soc2",
	"nist80053": "nist80053", "nistsp80053": "nist80053", "nist": "nist80053",
	"hipaa": "hipaa", "164.308": "hipaa",
	"iec62443": "iec62443", "iec6244333": "iec62443",
}

// Of returns the shipped set with an id, in whatever way it is written
// ("iec62443_3_3", "NIST-800-53").
func Of(id string) (*Set, bool) {
	s, ok := sets()[aliases[fold(id)]]
	if !ok {
		s, ok = sets()[aliases[strings.ReplaceAll(fold(id), ".", "")]]
	}
	return s, ok
}

// Sets returns the ids of the shipped sets.
func Sets() []string {
	var out []string
	for id := range sets() {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
