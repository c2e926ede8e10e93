package render

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// A Style is the order and the words of a kind of policy document. Every style says
// everything; they differ in what comes first and how it is called.
type Style string

// The styles. Each but the first follows the habit of one kind of company.
const (
	StyleGeneral    Style = "general"
	StyleISO        Style = "iso"        // a management system: objectives, then clause by clause
	StyleSOC2       Style = "soc2"       // response first: phases, roles, escalation
	StyleMSP        Style = "msp"        // hosting for customers: hazards, triggers, procedure
	StyleIndustrial Style = "industrial" // a controlled document with tiers, metrics, history and signatures
	StyleStartup    Style = "startup"    // a few people: severities, strategy, who activates
)

// Styles are the names that ParseStyle knows.
func Styles() []Style {
	return []Style{StyleGeneral, StyleISO, StyleSOC2, StyleMSP, StyleIndustrial, StyleStartup}
}

// letters are the short names of the styles.
var letters = map[string]Style{"a": StyleISO, "b": StyleSOC2, "c": StyleMSP, "d": StyleIndustrial, "e": StyleStartup}

// ParseStyle reads the name of a style, or its letter A to E; "" is the general one.
func ParseStyle(s string) (Style, error) {
	name := strings.ToLower(s)
	if name == "" {
		return StyleGeneral, nil
	}
	if st, ok := letters[name]; ok {
		return st, nil
	}
	if slices.Contains(Styles(), Style(name)) {
		return Style(name), nil
	}
	return "", holdfast.WithHint(fmt.Errorf("there is no style %q: %w", s, holdfast.ErrUsage),
		"the styles are general, iso (A), soc2 (B), msp (C), industrial (D) and startup (E)")
}

// A ref is a section in a style, under the style's own title.
type ref struct{ id, title string }

// generalOrder is every section, in the order of the general style.
var generalOrder = []string{"control", "purpose", "scope", "definitions", "roles", "objectives", "impact", "inventory", "backup", "retention", "encryption", "locations",
	"tests", "recovery", "activation", "incidents", "communication", "suppliers", "facilities", "customers", "people", "risks", "exceptions", "reviews", "measures", "frameworks", "references", "history", "annex"}

// leading is what a style puts before the rest, which follows in the general order.
var leading = map[Style][]ref{
	StyleISO: {{"scope", "Scope and context"}, {"impact", "Business impact analysis"}, {"objectives", "Service recovery objectives"}, {"inventory", "Dependencies"}, {"backup", "Backup and restoration"},
		{"encryption", ""}, {"locations", "Redundancy and separate locations"}, {"suppliers", "Supplier continuity"}, {"roles", "Response roles"}, {"people", "Training and competence"}, {"tests", "Exercises and restoration evidence"},
		{"incidents", "Incident life cycle"}, {"communication", "Customer communication"}, {"risks", "Risk treatment"}, {"reviews", "Management review"}, {"frameworks", "Annex A mapping"}},
	StyleSOC2: {{"purpose", "Priorities"}, {"incidents", "Incident response phases"}, {"roles", "Response team"}, {"communication", "Escalation and communication"}, {"activation", "Declaring a disaster"},
		{"objectives", "Recovery commitments"}, {"backup", "Backup and disaster recovery"}, {"retention", "Data retention"}, {"suppliers", "Third-party monitoring and contingency"}, {"locations", "Redundancy of critical services"},
		{"history", "Change management"}, {"risks", "Risk register"}, {"frameworks", "Trust services criteria"}},
	StyleMSP: {{"control", "About this plan"}, {"risks", "Hazards"}, {"facilities", "Hosting facility"}, {"activation", "Triggers"}, {"objectives", "Interruption and loss"}, {"recovery", "Procedure for total failure"},
		{"backup", "Backup schedule"}, {"retention", ""}, {"locations", "Off-site copies"}, {"tests", "Testing"}, {"encryption", "Hardening and encryption"}, {"customers", "Agreements and exit"}, {"communication", "Talking to clients"}},
	StyleIndustrial: {{"control", "Document control"}, {"purpose", ""}, {"scope", ""}, {"roles", "Responsibilities"}, {"backup", "Backup policy"}, {"encryption", "Storage, encryption and access"}, {"retention", ""}, {"locations", "Approved locations"},
		{"tests", "Restore testing"}, {"objectives", "Recovery objectives by tier"}, {"recovery", "Procedures"}, {"reviews", "Reviews and metrics"}, {"exceptions", "Exceptions"}, {"frameworks", "Framework alignment"}, {"definitions", ""}, {"history", "Revision history and signatures"}},
	StyleStartup: {{"purpose", ""}, {"scope", "Scope and exclusions"}, {"objectives", "Severities and objectives"}, {"locations", "Strategy: where the data is"}, {"backup", "Strategy: how it is copied"}, {"suppliers", "Strategy: providers"},
		{"activation", "Activation and authority"}, {"roles", "The team"}, {"recovery", "Rebuild"}, {"communication", ""}, {"tests", "Tests"}, {"frameworks", "Controls"}, {"reviews", "Review"}},
}

// order returns every section once.
func (s Style) order() []ref {
	refs := slices.Clone(leading[s])
	for _, id := range generalOrder {
		if !slices.ContainsFunc(refs, func(r ref) bool { return r.id == id }) {
			refs = append(refs, ref{id: id})
		}
	}
	return refs
}
