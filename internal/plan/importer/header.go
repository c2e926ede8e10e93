package importer

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

var (
	reOrgSuffix = regexp.MustCompile(`((?:\p{Lu}[\p{L}\p{N}&'’-]*\.?\s+|&\s+|(?:and|of|van|de|der|und)\s+){1,5}(?:GmbH & Co\. KG|GmbH|AG|KGaA|KG|e\.V\.|eG|Ltd\.?|Limited|Inc\.?|LLC|LLP|plc|PLC|AB|Oyj?|SAS|SARL|B\.V\.|BV|N\.V\.|NV|ASA?|A/S|ApS|S\.A\.|SA|S\.p\.A\.|S\.L\.|Pty|Trust))(?:[\s,;:)("”]|$)`)
	rePolicy    = regexp.MustCompile(`(?i)polic|plan\b|standard|handbook|procedure|continuity|recovery|response|backup|emergenc|preparedness|disaster|outage|downtime|concept|directive|runbook|guideline|annex`)
	reVersion   = regexp.MustCompile(`(?i)\b(?:version:?|rev\.|revision:?)\s+v?(\d+(?:\.\d+)*)\b`)
	reDateISO   = regexp.MustCompile(`\b(\d{4}-\d{2}-\d{2})\b`)
	reDateDots  = regexp.MustCompile(`\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b`)
	reDateWords = regexp.MustCompile(`(?i)\b(\d{1,2})(?:st|nd|rd|th)?\s+(january|february|march|april|may|june|july|august|september|october|november|december),?\s+(\d{4})\b`)
	reDateUS    = regexp.MustCompile(`(?i)\b(january|february|march|april|may|june|july|august|september|october|november|december)\s+(\d{1,2})(?:st|nd|rd|th)?,\s+(\d{4})\b`)

	reOwner     = regexp.MustCompile(`(?i)^(?:(?:policy|plan|document|handbook|process|directive|standard|concept|page|procedure)\s+)?(?:owner|responsible(?: for this document)?)(?: is|:)\s+@?(.+)$|(?:owned by|belongs to) (?:the )?((?-i:[A-Z])[\w-]*(?: (?:of )?(?-i:[A-Z])[\w-]*){0,4})`)
	reApprover  = regexp.MustCompile(`(?i)\b(?:approve[dr](?: by)?:|approved by|released by:?|adopted by:?|authori[sz]ed by:?|signed off by)\s*(?:the )?([^.,;]+)`)
	reLabel     = regexp.MustCompile(`(?i)^(?:classification|label|confidentiality):\s*(.+)$`)
	reUpdated   = regexp.MustCompile(`(?i)\b(?:last (?:updated|changed|revised|reviewed|modified)|updated(?: on)?)\b|^(?:date|status|as of)(?: is)?:`)
	reEffective = regexp.MustCompile(`(?i)\b(?:effective|in force|valid (?:from|since)|applies from)\b`)
	reCompany   = regexp.MustCompile(`(?i)^(?:organi[sz]ation|company|institution|entity|firm):\s*(.+)$`)
	reStamp     = regexp.MustCompile(`^Plan .*sha256:[0-9a-f]{8,}`)
)

// dateIn returns the first day that a text names, as 2026-01-15, or "".
func dateIn(s string) string {
	if m := reDateISO.FindString(s); m != "" {
		if _, err := time.Parse(time.DateOnly, m); err == nil {
			return m
		}
	}
	if m := reDateDots.FindStringSubmatch(s); m != nil {
		if t, err := time.Parse("2.1.2006", strings.TrimLeft(m[1], "0")+"."+strings.TrimLeft(m[2], "0")+"."+m[3]); err == nil {
			return t.Format(time.DateOnly)
		}
	}
	day, month, year := "", "", ""
	if m := reDateWords.FindStringSubmatch(s); m != nil {
		day, month, year = m[1], m[2], m[3]
	} else if m := reDateUS.FindStringSubmatch(s); m != nil {
		day, month, year = m[2], m[1], m[3]
	} else {
		return ""
	}
	t, err := time.Parse("2 January 2006", fmt.Sprintf("%s %s %s", strings.TrimLeft(day, "0"), strings.ToUpper(month[:1])+strings.ToLower(month[1:]), year))
	if err != nil {
		return ""
	}
	return t.Format(time.DateOnly)
}

const checkControl = "document control: compared with the history of the plan"

// header reads the document's own control data: title, version, owner, days.
func (r *reader) header() {
	r.organisation()
	for _, s := range r.doc.sentences {
		if reStamp.MatchString(s.text) || strings.HasPrefix(s.text, "This document is generated from the plan") {
			s.meta, s.covered = true, true
			continue
		}
		if s.row {
			continue
		}
		early := s.line <= early
		if m := reVersion.FindStringSubmatch(s.text); m != nil && early {
			r.note([]string{"plan", "version"}, m[1], "", checkControl, s.src())
		}
		if m := reOwner.FindStringSubmatch(strings.TrimRight(s.text, ".")); m != nil && early {
			name, _, _ := strings.Cut(m[1]+m[2], ", deputy ")
			if id := ownerID(name); id != "" {
				r.note([]string{"plan", "owner"}, id, "", checkControl, s.src())
			}
		}
		if m := reApprover.FindStringSubmatch(s.text); m != nil && early && !strings.Contains(s.lower, "not approved") {
			who, _, _ := strings.Cut(m[1], " on ")
			who, _, _ = strings.Cut(who, " each ")
			if id := ownerID(who); id != "" {
				r.note([]string{"plan", "approvers", "1"}, id, "", checkControl, s.src())
			}
		}
		if m := reLabel.FindStringSubmatch(strings.TrimRight(s.text, ".")); m != nil {
			r.note([]string{"plan", "label"}, strings.TrimSpace(m[1]), "", checkControl, s.src())
		}
		if m := reCompany.FindStringSubmatch(s.text); m != nil {
			r.note([]string{"org", "name"}, companyName(m[1]), "", checkControl, s.src())
		}
		if day := dateIn(s.text); day != "" && early {
			switch {
			case reUpdated.MatchString(s.text):
				r.note([]string{"plan", "updated"}, day, "", checkControl, s.src())
			case reEffective.MatchString(s.text):
				r.note([]string{"plan", "effective"}, day, "", checkControl, s.src())
			}
		}
	}
}

// reNoCompany is a title that names the document and not its company.
var reNoCompany = regexp.MustCompile(`(?i)^(?:annex|appendix|schedule|exhibit|section|part|chapter|information|it|ict|internal|confidential|how|what|why|when|our|your)\b`)

// companyName takes the full stop off a name that does not end with one.
func companyName(s string) string {
	s = strings.Trim(strings.TrimSpace(s), ",:-–")
	if m := reOrgSuffix.FindStringSubmatch(s); m == nil || !strings.HasSuffix(m[1], ".") || !strings.HasSuffix(s, m[1]) {
		s = strings.TrimSuffix(s, ".")
	}
	if strings.HasSuffix(s, " Ltd.") {
		s = strings.TrimSuffix(s, ".") // its full stop may be that of the sentence
	}
	return s
}

// organisation finds whose policy it is: where it says so, in its title, in a sentence.
func (r *reader) organisation() {
	note := func(name string, line int, text string) bool {
		name = companyName(name)
		if name == "" || len(name) > 80 || reNoCompany.MatchString(name) || !startsUpper(name) {
			return false
		}
		return r.note([]string{"org", "name"}, name, "", checkControl, source{line: line, text: text})
	}
	for _, s := range r.doc.sentences {
		if m := reCompany.FindStringSubmatch(s.text); m != nil && s.line <= early {
			return // the rule of control data reads it
		}
	}
	if len(r.doc.headings) > 0 {
		h := r.doc.headings[0]
		if m := reOrgSuffix.FindStringSubmatch(h.text); m != nil && note(m[1], h.line, h.text) {
			return
		}
		before, after, ok := strings.Cut(h.text, ":")
		if ok && rePolicy.MatchString(after) && !rePolicy.MatchString(before) && note(before, h.line, h.text) {
			return
		}
		for _, word := range []string{" at ", " of ", " for ", ", "} {
			if i := strings.LastIndex(h.text, word); i >= 0 && rePolicy.MatchString(h.text[:i]) && !rePolicy.MatchString(h.text[i:]) && note(h.text[i+len(word):], h.line, h.text) {
				return
			}
		}
		if len(r.doc.headings) > 1 && !rePolicy.MatchString(h.text) && rePolicy.MatchString(r.doc.headings[1].text) && r.doc.headings[1].line <= h.line+2 && note(h.text, h.line, h.text) {
			return
		}
	}
	for _, s := range r.doc.sentences {
		if m := reOrgSuffix.FindStringSubmatch(s.text); m != nil && !s.row && !reVendor.MatchString(m[1]) && !reProvides.MatchString(s.text) && note(m[1], s.line, s.text) {
			return
		}
	}
	if m := reTheHouse.FindStringSubmatch(r.title()); m != nil {
		h := r.doc.headings[0]
		note(m[1], h.line, h.text)
	}
}

// reProvides is a sentence about what others do for the organisation.
var reProvides = regexp.MustCompile(`\b(?:provided|hosted|supplied|operated|delivered) by\b|\bguarantees?\b|\b[Ss]uppliers?\b|\bvendors?\b`)

// reTheHouse is a title that tells about a house: "How the City Museum keeps …".
var reTheHouse = regexp.MustCompile(`^(?:How|What|Why) (?:the )?(\p{Lu}[\p{L}’'-]+(?: \p{Lu}[\p{L}’'-]+)+) `)

func (r *reader) title() string {
	if len(r.doc.headings) == 0 {
		return ""
	}
	return r.doc.headings[0].text
}

func startsUpper(s string) bool {
	c, _ := utf8.DecodeRuneInString(s)
	return unicode.IsUpper(c) || unicode.IsDigit(c)
}

// words of an office, by which a name of a person and a role are told apart.
var reOffice = regexp.MustCompile(`(?i)\b(chief|officer|head|director|manager|lead|owner|commander|group|committee|team|board|engineer|engineering|founder|co-founder|co-founders|management|security|executive|operations|compliance|operator|supervisor|administrator|c[a-z]o|ciso|dpo|department|desk|support|infrastructure|coordinator|principal|president|treasurer)\b`)

// rePerson is a name: two or three words with capitals.
var rePerson = regexp.MustCompile(`^(?:(?:Dr|Mr|Ms|Mrs|Prof)\.?\s+)*(\p{Lu}[\p{L}'’-]+(?:\s+(?:(?:van|von|de|der|den|la|di|da|af|zu|al|el) )*\p{Lu}[\p{L}'’.-]*){0,2})$`)

// ownerID makes the id of a role or person; "" for what is neither.
func ownerID(s string) string {
	s = strings.Trim(strings.TrimSpace(strings.TrimPrefix(s, "the ")), ".,;:@")
	if s == "" || len(strings.Fields(s)) > 6 {
		return ""
	}
	if id := idInBrackets(s); id != "" {
		return id
	}
	if reOffice.MatchString(s) {
		return roleID(s)
	}
	if m := rePerson.FindStringSubmatch(s); m != nil {
		return slug(m[1])
	}
	if slugged := roleID(s); strings.Contains(s, "_") {
		return slugged
	}
	return ""
}

// personID makes the id of somebody who holds a role.
func personID(s string) (id, name string) {
	s = strings.Trim(strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(s, "the "), "The ")), ".,;:")
	if s == "" || len(strings.Fields(s)) > 6 || !strings.ContainsAny(s[:1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !reOffice.MatchString(s) && !strings.Contains(s, "(") && len(strings.Fields(s)) > 1 {
		return "", ""
	}
	if id := idInBrackets(s); id != "" {
		before, _, _ := strings.Cut(s, " (")
		return id, before
	}
	if m := rePerson.FindStringSubmatch(s); m != nil {
		return slug(m[1]), s
	}
	return slug(s), s
}

var reBrackets = regexp.MustCompile(`\(([A-Za-z0-9][A-Za-z0-9_.:/-]*)\)$`)

// idInBrackets is how a rendered plan names people: Anna Berg (anna).
func idInBrackets(s string) string {
	if m := reBrackets.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}
