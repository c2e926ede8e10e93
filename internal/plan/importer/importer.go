// Package importer proposes a plan from a written policy.
//
// It reads Markdown, HTML or plain text by rules, without a network and without guessing:
// a value is taken only where a rule knows the form of its sentence or table. Each
// value keeps the line and the words that it was read from. What no rule reads is
// listed, sentence by sentence, so that nobody takes silence for coverage.
//
// The proposal is a skeleton. It always loads with the plan's strict reader, and what
// a policy does not say (addresses, keys, connection strings) stands in it as TODO. A
// person completes it, and then "holdfast check" judges it.
//
// # What it does not do
//
//   - It does not understand. A value in a form of words that no rule knows is listed
//     as unread. So is a sentence that denies ("backups are not encrypted"), as far as
//     a rule knows the denial; one in other words may be read as its opposite: the
//     source line stands beside every value for that reason.
//   - It reads English, and no PDF, Word or image.
//   - It never reads a second document, not even one that the first one names.
//
// # Invariants
//
//   - Import is a pure function of name, text and day.
//   - Every sentence of the text is either the source of a value, or listed.
//   - Plan loads with plan.Parse.
package importer

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/plan"
	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// Limits of a policy.
const (
	MaxBytes     = 1 << 20 // of the text; a long policy has some 200 kB
	MaxSentences = 20_000
	MaxValues    = 5_000 // more is a table that is no policy
	maxLine      = 20_000
)

// A Value is something that the policy says and the plan can hold.
type Value struct {
	Path   string `json:"path"`  // of the plan: "tiers.critical.rto"
	Value  string `json:"value"` // as the plan writes it: "4h"
	Line   int    `json:"line"`
	Source string `json:"source"` // the words that it was read from
	Stated string `json:"stated,omitempty"`
	Check  string `json:"check"` // what will check it once the plan is in force

	path []string
}

// A Sentence is a part of the policy from which no value was read.
type Sentence struct {
	Line int    `json:"line"`
	Text string `json:"text"`
	// Normative is true for what demands something: shall, must, is done.
	Normative bool   `json:"normative"`
	Why       string `json:"why"` // why it has no check
}

// A Vague is a word that demands something without saying how much.
type Vague struct {
	Line int    `json:"line"`
	Word string `json:"word"`
	Text string `json:"text"`
}

// A Proposal is what was read from a policy.
type Proposal struct {
	Name      string             `json:"document"`
	Plan      []byte             `json:"-"`
	Values    []Value            `json:"values"`
	Uncovered []Sentence         `json:"uncovered"` // no value was read from these
	Unread    []Sentence         `json:"unread"`    // a number or a cycle stands in these, and no rule knows what for
	Vague     []Vague            `json:"vague"`
	Findings  []holdfast.Finding `json:"findings"` // contradictions within the document
	Sentences int                `json:"sentences"`
	Covered   int                `json:"covered"`
	Todos     int                `json:"todos"`
	// Rendered says that the document was rendered from a plan, which it carries.
	Rendered bool      `json:"rendered"`
	Carried  []Carried `json:"carried,omitempty"` // what was changed in the text, and is in Plan now
}

// Import reads a policy. name stands in findings; today decides which reviews have
// lapsed. A text that cannot be a policy is a usage error.
func Import(name string, text []byte, today time.Time) (*Proposal, error) {
	if err := readable(name, text); err != nil {
		return nil, err
	}
	if p, ok, err := rendered(name, string(text), today); ok {
		return p, err
	}
	d := newDocument(name, text)
	if d.overflow {
		return nil, holdfast.WithHint(fmt.Errorf("%q has more than %d sentences: %w", name, MaxSentences, holdfast.ErrUsage), "import its parts one by one")
	}
	r := &reader{doc: d, today: today, draft: newDraft(name)}
	r.read()
	p := r.proposal()
	if err := r.write(p); err != nil {
		return nil, fmt.Errorf("import %s: the proposal does not load: %w", name, err)
	}
	p.Todos = bytes.Count(p.Plan, []byte("TODO"))
	return p, nil
}

// write makes the plan. The strict reader has the last word: a value that it refuses
// is taken out and listed as unread, so that the rest is not lost with it.
func (r *reader) write(p *Proposal) error {
	const tries = 20
	var err error
	for range tries {
		p.Plan = r.draft.yaml(p)
		if _, err = plan.Parse("plan.yaml", p.Plan); err == nil {
			return nil
		}
		dropped := false
		kept := func(v Value) bool {
			return slices.ContainsFunc(r.draft.values, func(w Value) bool { return w.Line == v.Line && w.Source == v.Source })
		}
		for _, f := range plan.FindingsOf(err) {
			for _, v := range r.draft.drop(f.Subject, f.Line, p.Plan) {
				dropped = true
				x := Sentence{Line: v.Line, Text: v.Source, Normative: true, Why: "the plan does not take it: " + f.Message}
				p.Unread = append(p.Unread, x)
				for _, s := range r.doc.sentences {
					if s.covered && s.line == v.Line && clip(s.text) == v.Source && !kept(v) {
						s.covered = false
						p.Covered--
						x.Text = s.text
						p.Uncovered = append(p.Uncovered, x)
					}
				}
			}
		}
		if !dropped {
			return err
		}
		p.Values = r.draft.values
	}
	return err
}

// readable refuses what is no text.
func readable(name string, text []byte) error {
	refuse := func(hint, format string, args ...any) error {
		return holdfast.WithHint(fmt.Errorf("%q "+format+": %w", append(append([]any{name}, args...), holdfast.ErrUsage)...), "%s", hint)
	}
	switch {
	case len(text) > MaxBytes:
		return refuse("a policy is a document of some pages: import its text without pictures, or part by part", "is larger than %d MiB", MaxBytes>>20)
	case bytes.HasPrefix(text, []byte("%PDF")), bytes.HasPrefix(text, []byte("PK\x03\x04")), bytes.HasPrefix(text, []byte("\xd0\xcf\x11\xe0")), bytes.HasPrefix(text, []byte("{\\rtf")):
		return refuse("save it as Markdown or plain text, for example with \"pandoc -t gfm\"", "is no text, but a document of a word processor or a PDF")
	case bytes.IndexByte(text, 0) >= 0:
		return refuse("save it as Markdown or plain text, in UTF-8", "is no text: it holds zero bytes")
	case !utf8.Valid(text):
		return refuse("save the file as UTF-8", "is not valid UTF-8")
	case len(bytes.TrimSpace(text)) == 0:
		return refuse("name the file that holds the policy", "is empty")
	}
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) > maxLine {
			return refuse("save it with line breaks between paragraphs", "has a line of more than %d bytes", maxLine)
		}
	}
	return nil
}

// A reader applies the rules to a document.
type reader struct {
	doc      *document
	today    time.Time
	draft    *draft
	findings []holdfast.Finding
	unread   map[*sentence]string

	untimed     []*sentence // tests without a frequency
	history     []edition
	signatures  []signature
	lastService string
	lastWhere   []string // what the last promise was about
	lastPromise *sentence
	lastBackup  string // what the last schedule was about
	lastCopy    *sentence
	clauseOf    map[string]string // numbers of clauses to the backups that they are about
	leader      string            // the role that the last sentence named
	leaderIn    *sentence
}

// source is where a value was read.
type source struct {
	line int
	text string
	of   *sentence // nil for a row or a heading
}

func (s *sentence) src() source { return source{s.line, s.text, s} }

// note takes a value. Its sentence then counts as covered.
func (r *reader) note(path []string, value, stated, check string, src source) bool {
	if src.of != nil {
		src.of.covered = true
	}
	return r.draft.set(path, value, stated, check, src)
}

// find records something that the document contradicts itself in.
func (r *reader) find(code string, severity holdfast.FindingSeverity, line int, subject, hint, format string, args ...any) {
	r.findings = append(r.findings, holdfast.Finding{Code: code, Severity: severity, File: r.doc.name, Line: line, Column: 1, Subject: subject,
		Message: fmt.Sprintf(format, args...), Hint: hint})
}

// read applies every rule, those that know most first.
func (r *reader) read() {
	r.unread, r.clauseOf = map[*sentence]string{}, map[string]string{}
	r.header()
	r.tables()
	for _, s := range r.doc.sentences {
		if s.meta || s.derived {
			continue
		}
		if denied(s.lower) {
			r.skip(s, "the sentence says what is not done")
			continue
		}
		for _, rule := range rules {
			rule(r, s)
		}
	}
	r.frameworks()
	r.complete()
	r.tensions()
}

// proposal collects what was read and what was not.
func (r *reader) proposal() *Proposal {
	p := &Proposal{Name: r.doc.name, Values: r.draft.values, Findings: r.findings, Uncovered: []Sentence{}, Unread: []Sentence{}, Vague: []Vague{}}
	if p.Values == nil {
		p.Values = []Value{}
	}
	p.Findings = append(p.Findings, r.draft.conflicts(r.doc.name)...)
	holdfast.SortFindings(p.Findings)
	if p.Findings == nil {
		p.Findings = []holdfast.Finding{}
	}
	for _, s := range r.doc.sentences {
		p.Sentences++
		for _, w := range vagueIn(s) {
			p.Vague = append(p.Vague, Vague{s.line, w, s.text})
		}
		if s.covered {
			p.Covered++
			continue
		}
		x := Sentence{Line: s.line, Text: s.text, Normative: normative(s.lower), Why: "no rule reads a value from it"}
		if why, ok := r.unread[s]; ok {
			x.Why = why
		}
		p.Uncovered = append(p.Uncovered, x)
		if len(s.amounts()) > 0 || len(s.cycles()) > 0 {
			p.Unread = append(p.Unread, x)
		}
	}
	return p
}

var reDenied = regexp.MustCompile(`(?:\b(?:not|never|no longer|neither|hardly ever)|n['’]t) (?:yet |currently |be |been |being |always )*(?:backed up|back up|kept|keep|retain(?:ed)?|encrypt(?:ed)?|cop(?:y|ied)|test(?:ed)?|replicat(?:ed)?|taken|made|held|archived?|restored?|reviewed?|rehearsed?|exercised?|monitored?|promised?|guaranteed?)\b|\b(?:no|without) (?:backups?|cop(?:y|ies)|restore tests?|tests?|drills?|exercises?|reviews?|encryption|objectives?|rto|rpo) (?:is|are|has|have|was|were)\b`)

// denied reports whether a sentence says what is not done. A limit is no denial: "must
// not be kept for longer than 30 days".
func denied(lower string) bool {
	at := reDenied.FindStringIndex(lower)
	if at == nil {
		return false
	}
	after := strings.TrimSpace(lower[at[1]:])
	return !slices.ContainsFunc([]string{"longer", "for longer", "for more", "more than", "beyond", "later", "less", "for less", "unless", "only"}, func(w string) bool { return strings.HasPrefix(after, w) })
}

// demands are words of a sentence that asks for something or states how it is done.
var demands = []string{" shall ", " must ", " will ", " is ", " are ", " has to ", " have to ", " may not ", " should ", " requires ", " required", " mandatory"}

func normative(lower string) bool {
	return slices.ContainsFunc(demands, func(w string) bool { return strings.Contains(" "+lower+" ", w) })
}
