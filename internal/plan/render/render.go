// Package render writes the plan as the policy document that people read.
//
// The document is a pure function of the plan: it reads no clock, no state and no
// file, so that the same plan gives the same bytes everywhere. It is written as
// Markdown; HTML and the form for paper are made from that Markdown, cleaned, in
// one file that needs nothing else.
//
// # Editions
//
// The internal edition says everything that the plan declares. What no section has
// words for stands in its annex as path and value, so that a new field of the plan
// can be unexplained but never missing.
//
// The public edition says only what a section writes for the public, which leaves
// out people, addresses, phone numbers, paths, connection strings, commands, keys
// and contacts. Ids and free text that stay are searched for every withheld value,
// and for what looks like an address, a number or a path; what is found is replaced
// by [Withheld]. A name that stands only in free text and nowhere else in the plan
// cannot be recognised: a person reads the public edition before it is published.
//
// # Invariants
//
//   - A value of the plan is text. None of its characters becomes markup, a link
//     or a control character of the document.
//   - Every section names the version and the digest of the plan.
//   - What is not declared is said to be not declared. No section is left out for
//     being empty.
//   - Words of the policy (stated) stand beside the number that they are bound to,
//     and words without a number are said to be untestable.
package render

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
)

// An Edition says for whom the document is written.
type Edition string

// The editions.
const (
	Internal Edition = "internal"
	Public   Edition = "public"
)

// ParseEdition reads the name of an edition; "" is Internal.
func ParseEdition(s string) (Edition, error) {
	switch Edition(s) {
	case "":
		return Internal, nil
	case Internal, Public:
		return Edition(s), nil
	}
	return "", holdfast.WithHint(fmt.Errorf("there is no edition %q: %w", s, holdfast.ErrUsage), "the editions are internal and public")
}

// Options say which document is written. The zero Options give the internal edition
// in the general style.
type Options struct {
	Edition Edition
	Style   Style
}

// A Document is a rendered policy.
type Document struct {
	Title    string    // "Continuity policy of Example Ltd"
	Stamp    string    // which plan, version and digest it was made from
	Preface  string    // in place of the one of a policy
	Edition  Edition   // never empty
	Style    Style     // never empty
	Sections []Section // in the order of the style
}

// A Section is one part of the document.
type Section struct {
	ID     string // stable across styles, such as "objectives"
	Number int    // from 1
	Title  string // in the words of the style
	Body   string // Markdown, without the heading; ends with the stamp
}

// Withheld stands in the public edition where a value must not be told.
const Withheld = "[withheld]"

// Make renders p.
func Make(p *plan.Plan, opt Options) Document {
	if opt.Edition == "" {
		opt.Edition = Internal
	}
	if opt.Style == "" {
		opt.Style = StyleGeneral
	}
	w := &writer{plan: p, public: opt.Edition == Public}
	if w.public {
		w.secrets = secretsOf(p)
	}
	d := Document{
		Title:   "Continuity policy" + prefixed(" of ", w.text(p.Org.Name)),
		Stamp:   w.stamp(),
		Edition: opt.Edition,
		Style:   opt.Style,
	}
	for _, ref := range opt.Style.order() {
		s := sections[ref.id]
		if w.public && s.internal {
			continue
		}
		w.b.Reset()
		s.write(w)
		title := ref.title
		if title == "" {
			title = s.title
		}
		d.Sections = append(d.Sections, Section{ID: ref.id, Number: len(d.Sections) + 1, Title: title, Body: w.body() + "\n*" + d.Stamp + "*\n"})
	}
	return d
}

// stamp names the plan that a text was made from.
func (w *writer) stamp() string {
	version := "without a version"
	if v := w.plan.Plan.Version; v != "" {
		version = "version " + w.text(v)
	}
	return fmt.Sprintf("Plan %s, %s, %s", w.text(w.plan.Plan.ID), version, shortDigest(w.plan.Digest()))
}

// shortDigest keeps enough of a digest to tell two plans apart; the whole one stands
// in the section on document control.
func shortDigest(s string) string {
	const most = len("sha256:") + 16
	if len(s) <= most {
		return s
	}
	return s[:most]
}

// Markdown returns the document as one Markdown text.
func (d Document) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", d.Title, d.preface())
	for _, s := range d.Sections {
		fmt.Fprintf(&b, "\n## %d. %s\n\n%s", s.Number, s.Title, s.Body)
	}
	return b.String()
}

// preface says what the reader holds.
func (d Document) preface() string {
	if d.Preface != "" {
		return d.Stamp + ". " + d.Preface
	}
	edition := "Internal edition: it names people and systems, and is not for publication."
	if d.Edition == Public {
		edition = "Public edition: people, contacts, addresses and technical access are left out."
	}
	return fmt.Sprintf("%s. %s\n\nThis document is generated from the plan. To change it, change the plan: what is written here by hand is lost with the next edition.", d.Stamp, edition)
}

// Section returns the section with the given id.
func (d Document) Section(id string) (Section, bool) {
	i := slices.IndexFunc(d.Sections, func(s Section) bool { return s.ID == id })
	if i < 0 {
		return Section{}, false
	}
	return d.Sections[i], true
}

// prefixed returns before and s, or nothing when s is empty.
func prefixed(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}
