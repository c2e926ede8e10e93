package evidence

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"holdfast"
)

// fileOSCAL holds the states of the controls for programs of auditors: OSCAL
// assessment results (NIST, version 1.2.1). It is written and never read: what
// counts is the log.
const (
	fileOSCAL    = "assessment-results.json"
	oscalVersion = "1.2.1"
	// oscalNS is the namespace of our own properties.
	oscalNS = "https://holdfast.invalid/ns/oscal"
)

// The parts of OSCAL that a pack has use for, in the words of its JSON schema.
type (
	oscalDocument struct {
		Results oscalAssessment `json:"assessment-results"`
	}
	oscalAssessment struct {
		UUID     string        `json:"uuid"`
		Metadata oscalMetadata `json:"metadata"`
		ImportAP oscalHref     `json:"import-ap"`
		Results  []oscalResult `json:"results"`
	}
	oscalMetadata struct {
		Title        string    `json:"title"`
		LastModified time.Time `json:"last-modified"`
		Version      string    `json:"version"`
		OSCAL        string    `json:"oscal-version"`
	}
	oscalHref struct {
		Href        string `json:"href"`
		Description string `json:"description,omitempty"`
		Remarks     string `json:"remarks,omitempty"`
	}
	oscalProp struct {
		Name  string `json:"name"`
		NS    string `json:"ns"`
		Value string `json:"value"`
	}
	oscalResult struct {
		UUID         string             `json:"uuid"`
		Title        string             `json:"title"`
		Description  string             `json:"description"`
		Start        time.Time          `json:"start"`
		End          time.Time          `json:"end"`
		Reviewed     oscalReviewed      `json:"reviewed-controls"`
		Observations []oscalObservation `json:"observations,omitempty"`
		Findings     []oscalFinding     `json:"findings,omitempty"`
	}
	oscalReviewed struct {
		Selections []oscalSelection `json:"control-selections"`
	}
	oscalSelection struct {
		Include []oscalControl `json:"include-controls"`
	}
	oscalControl struct {
		ID string `json:"control-id"`
	}
	oscalObservation struct {
		UUID        string      `json:"uuid"`
		Description string      `json:"description"`
		Methods     []string    `json:"methods"`
		Collected   time.Time   `json:"collected"`
		Evidence    []oscalHref `json:"relevant-evidence,omitempty"`
	}
	oscalFinding struct {
		UUID        string        `json:"uuid"`
		Title       string        `json:"title"`
		Description string        `json:"description"`
		Props       []oscalProp   `json:"props"`
		Target      oscalTarget   `json:"target"`
		Related     []oscalRelate `json:"related-observations,omitempty"`
	}
	oscalTarget struct {
		Type   string      `json:"type"`
		ID     string      `json:"target-id"`
		Status oscalStatus `json:"status"`
	}
	oscalStatus struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
	}
	oscalRelate struct {
		UUID string `json:"observation-uuid"`
	}
)

// oscal writes the controls as OSCAL assessment results, one result to a framework.
// The ids come from the content, so that the same pack is the same bytes and a
// program that compares two packs sees what changed. Satisfied is only what is
// proved by facts: attested, claimed and unknown are not, and the finding says which
// it is.
func (b *builder) oscal() ([]byte, error) {
	root := fmt.Sprintf("%s/%s/%s/%s/%d", b.info.Origin, b.info.Framework, stamp(b.info.From), stamp(b.info.To), b.info.Size)
	id := func(parts ...string) string {
		return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.Join(append([]string{oscalNS, root}, parts...), "\x00"))).String()
	}
	doc := oscalAssessment{
		UUID: id("pack"),
		Metadata: oscalMetadata{Title: "Holdfast assessment results of " + b.info.Company, LastModified: b.info.Made,
			Version: fmt.Sprint(b.info.Size), OSCAL: oscalVersion},
		ImportAP: oscalHref{Href: filePlan, Remarks: "The assessment plan is the plan of the pack: what it expects is in slots.csv."},
	}
	of := map[string][]Control{}
	for _, c := range b.in.Controls {
		of[c.Framework] = append(of[c.Framework], c)
	}
	if len(of) == 0 {
		return nil, nil // the plan maps no control, and OSCAL knows no empty results
	}
	at := map[int64]time.Time{}
	for _, f := range b.facts {
		at[f.Index] = f.At
	}
	for _, framework := range slices.Sorted(maps.Keys(of)) {
		r := oscalResult{UUID: id(framework), Title: framework, Start: b.info.From, End: b.info.To,
			Description: fmt.Sprintf("State of the controls of %s that the plan maps, computed at %s from the facts of the log.", framework, stamp(b.info.Made)),
			Reviewed:    oscalReviewed{Selections: make([]oscalSelection, 1)}}
		reviewed := &r.Reviewed.Selections[0].Include
		for _, c := range of[framework] {
			*reviewed = append(*reviewed, oscalControl{oscalToken(c.ID)})
			r.Findings = append(r.Findings, c.oscal(framework, id))
			if len(c.Facts) == 0 {
				continue
			}
			last := &r.Findings[len(r.Findings)-1]
			o := oscalObservation{UUID: id(framework, c.ID, "observation"), Methods: []string{"TEST"},
				Description: fmt.Sprintf("What %s rests on: %s.", c.ID, indexes(c.Facts))}
			for _, n := range c.Facts {
				if at[n].After(o.Collected) {
					o.Collected = utc(at[n])
				}
				o.Evidence = append(o.Evidence, oscalHref{Href: fileLog, Description: fmt.Sprintf("fact %d", n)})
			}
			if o.Collected.IsZero() { // before the first fact whose text is in the pack
				o.Collected = b.info.Made
			}
			last.Related = []oscalRelate{{o.UUID}}
			r.Observations = append(r.Observations, o)
		}
		doc.Results = append(doc.Results, r)
	}
	raw, err := json.MarshalIndent(oscalDocument{doc}, "", "  ")
	return append(raw, '\n'), err
}

func (c Control) oscal(framework string, id func(...string) string) oscalFinding {
	state, reason := "not-satisfied", "other"
	switch p := known(c.Posture); {
	case p == holdfast.PostureProved && len(c.Facts) > 0:
		state, reason = "satisfied", "pass"
	case p == holdfast.PostureFailed || p == holdfast.PostureOverdue:
		reason = "fail"
	}
	text := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	f := oscalFinding{UUID: id(framework, c.ID, "finding"), Title: text(c.Title, c.ID), Description: text(c.Detail, "Posture: "+string(known(c.Posture))+"."),
		Props:  []oscalProp{{"control", oscalNS, c.ID}, {"posture", oscalNS, string(known(c.Posture))}},
		Target: oscalTarget{Type: "objective-id", ID: oscalToken(c.ID), Status: oscalStatus{state, reason}}}
	for _, by := range c.By {
		f.Props = append(f.Props, oscalProp{"shown-by", oscalNS, by})
	}
	return f
}

var (
	notInToken = regexp.MustCompile(`[^\p{L}\p{N}.\-_]+`)
	tokenStart = regexp.MustCompile(`^[\p{L}_]`)
)

// oscalToken writes an id of a control as OSCAL takes it: a letter or "_" first, then
// letters, digits, ".", "-" and "_". So "164.308(a)(7)" is "_164.308-a-7". The id as
// the framework writes it is the property "control".
func oscalToken(id string) string {
	token := strings.Trim(notInToken.ReplaceAllString(id, "-"), "-")
	if !tokenStart.MatchString(token) {
		token = "_" + token
	}
	return token
}
