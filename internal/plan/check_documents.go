package plan

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// documents looks at the plan as a document: its versions, reviews, signatures, what
// it cites, and its words.
func (l *linter) documents() {
	l.head()
	l.editions()
	l.signatures()
	l.citations()
	l.duties()
	l.statements()
	p := l.p
	for _, id := range sorted(p.Measures) {
		l.attested("measures."+id, p.Measures[id])
	}
	for _, id := range sorted(p.Plan.Commitments) {
		l.attested("plan.commitments."+id, p.Plan.Commitments[id])
	}
	for _, id := range sorted(p.Org.Certified) {
		l.attested("org.certified."+id, p.Org.Certified[id])
	}
	for _, id := range sorted(p.Facilities) {
		for _, name := range sorted(p.Facilities[id].Attested) {
			l.attested("facilities."+id+".attested."+name, p.Facilities[id].Attested[name])
		}
	}
	l.addresses()
}

// head looks for what a document is controlled by. A plan with a title or a label is one:
// who holds it must see which edition it is, whose, and for whom.
func (l *linter) head() {
	m := l.p.Plan
	if m.Title == "" && m.Label == "" {
		return
	}
	var missing []string
	for _, f := range []struct {
		key   string
		there bool
	}{{"title", m.Title != ""}, {"version", m.Version != ""}, {"review", !m.Review.Every.IsZero()}, {"owner", m.Owner != ""}, {"approvers", len(m.Approvers) > 0}, {"label", m.Label != ""}, {"controls", len(m.Controls) > 0 || len(l.p.Controls) > 0}} {
		if !f.there {
			missing = append(missing, f.key)
		}
	}
	if len(missing) > 0 {
		l.fail(codeHead, "plan", "add "+strings.Join(missing, ", "), "the plan is a document, and its head lacks %s", several(missing))
	}
}

// editions compares the version that the plan names with its history, and the history
// with the review that it promises.
func (l *linter) editions() {
	m := l.p.Plan
	every := m.Review.Every
	if every.IsZero() && (m.Review.Stated != "" || len(m.History) > 0 || !m.Updated.IsZero()) {
		l.warn(codeVague, "plan.review", "add \"every: 1y\"", "the plan does not say how often it is reviewed")
	}
	if len(m.History) == 0 {
		if !m.Updated.IsZero() && !every.IsZero() {
			l.dated("plan.updated", "the plan", m.Updated, every)
		}
		return
	}
	last := len(m.History) - 1
	if newest := m.History[last]; m.Version != "" && newest.Version != m.Version {
		l.warn(codeVersion, "plan.version", fmt.Sprintf("write version: %q, or add the edition that is missing", newest.Version), "the plan says that it is version %s, and its history ends with %s of %s", m.Version, newest.Version, newest.On)
	}
	if !m.Updated.IsZero() && m.History[last].On.before(m.Updated) {
		l.warn(codeVersion, "plan.updated", "add the edition that is missing to the history", "the plan was changed on %s, and its history ends on %s", m.Updated, m.History[last].On)
	}
	approved := -1
	for i, e := range m.History {
		if len(e.ApprovedBy) == 0 {
			continue
		}
		if approved >= 0 && !every.IsZero() {
			if due := l.later(m.History[approved].On, every); due.before(e.On) {
				l.warn(codeLapsed, fmt.Sprintf("plan.history[%d]", i), "nothing mends the past; say in the next review why it happened",
					"version %s was approved on %s; after version %s of %s the next approval was due on %s, %s earlier",
					e.Version, e.On, m.History[approved].Version, m.History[approved].On, due, days(l.daysBetween(due, e.On)))
			}
		}
		for j := approved + 1; j < i; j++ {
			// An edition between two approvals that waited for the second one.
			if gap := l.daysBetween(m.History[j].On, e.On); approved >= 0 && gap > unapprovedDays {
				l.warn(codeLapsed, fmt.Sprintf("plan.history[%d]", j), "approve a change before it is in force", "version %s of %s was approved by nobody for %s, until version %s of %s",
					m.History[j].Version, m.History[j].On, days(gap), e.Version, e.On)
			}
		}
		approved = i
	}
	switch {
	case approved < 0:
		l.warn(codeUnsigned, "plan.history", "have it approved, and add \"approved_by:\" to the edition", "no edition of the plan was approved by anybody")
	case approved < last:
		l.warn(codeLapsed, fmt.Sprintf("plan.history[%d]", last), "have it approved", "version %s of %s is approved by nobody: version %s of %s is the last that was", m.History[last].Version, m.History[last].On, m.History[approved].Version, m.History[approved].On)
	}
	from := last
	if approved >= 0 {
		from = approved
	}
	if !every.IsZero() {
		l.dated(fmt.Sprintf("plan.history[%d].on", from), "the plan", m.History[from].On, every)
	}
}

// unapprovedDays is how long an edition may wait for its approval before that is worth
// a word.
const unapprovedDays = 31

// later returns the day a period after a day, in calendar units.
func (l *linter) later(d Date, p Period) Date {
	y, m, day := p.AddTo(d.Begin(l.p.Location()), 1, l.p.Location()).In(l.p.Location()).Date()
	return Date{y, m, day}
}

// dated reports something whose review is overdue.
func (l *linter) dated(path, what string, last Date, every Period) {
	due := l.later(last, every)
	if !l.past(due) {
		return
	}
	l.warn(codeLapsed, path, "look at it, and record that: a review that changes nothing is one, too", "the review of %s is overdue since %s, %s ago: the last was on %s, %s ago",
		what, due, l.daysSince(due), last, l.daysSince(last))
}

// signatures compares those that the document carries with those who must approve it.
func (l *linter) signatures() {
	m := l.p.Plan
	if len(m.Signatures) == 0 {
		return
	}
	signed := 0
	var empty, roles []string
	for _, role := range sorted(m.Signatures) {
		roles = append(roles, role)
		if m.Signatures[role].Signed() {
			signed++
		} else {
			empty = append(empty, role)
		}
	}
	if len(empty) > 0 {
		l.warn(codeUnsigned, "plan.signatures", "have it signed, and write by and on at each", "the plan is not in force: %d of %d signed, and %s did not", signed, len(roles), several(empty))
	}
	var strangers []string
	for _, a := range m.Approvers {
		if !slices.Contains(roles, a) && !slices.ContainsFunc(roles, func(r string) bool {
			return l.p.Person(r, false) != "" && l.p.Person(r, false) == l.p.Person(a, false) || m.Signatures[r].By == a
		}) {
			strangers = append(strangers, a)
		}
	}
	if len(strangers) > 0 {
		l.warn(codeUnsigned, "plan.approvers", "let approvers and signatures name the same", "%s must approve the plan, and its signatures are asked of %s", several(strangers), several(roles))
	}
}

// citations looks at the documents that the plan cites.
func (l *linter) citations() {
	p := l.p
	for _, id := range sorted(p.Documents) {
		d, path := p.Documents[id], "documents."+id
		same := func(a string) bool {
			return a != "" && strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(d.Title))
		}
		switch {
		case d.Self || same(p.Plan.Title):
			l.warn(codeCited, path, "cite another document, or none", "the plan cites itself as %q", d.Title)
		case d.Missing != "":
			l.warn(codeCited, path+".missing", "add the document, or take the reference out", "the plan refers to %q, which is not there: %s", d.Title, d.Missing)
		case !d.Review.Every.IsZero() && !d.Updated.IsZero():
			if due := l.later(d.Updated, d.Review.Every); l.past(due) {
				l.warn(codeCited, path+".updated", "cite the present edition, or have it reviewed", "%q is of %s, and its review is overdue since %s, %s ago", d.Title, d.Updated, due, l.daysSince(due))
			}
		case d.Path == "" && d.URL == "" && d.Version == "" && d.Updated.IsZero() && !d.External:
			l.report(codeCited, holdfast.SeverityNote, path, "add its path or url, and the version that is meant", "nobody can find the document %q by what the plan says of it", d.Title)
		}
	}
}

// Attached looks whether the documents that a plan cites by a path are there. It is
// apart from Check, which asks nothing but the plan.
func Attached(p *Plan, now time.Time, approved ...Waiver) []holdfast.Finding {
	l := &linter{p: p, now: now}
	for _, id := range sorted(p.Documents) {
		d, path := p.Documents[id], "documents."+id
		if d.Path == "" || d.Missing != "" || d.Self { // which Check says
			continue
		}
		if info, err := os.Stat(d.Path); err != nil || !info.Mode().IsRegular() {
			l.warn(codeCited, path+".path", "put the document there, or correct the path", "the plan cites %q, and there is no such file: %s", d.Title, d.Path)
		}
	}
	slices.Concat(p.Waivers(), approved).Apply(l.findings, now)
	return l.findings
}

// duties looks at what somebody does again and again.
func (l *linter) duties() {
	p := l.p
	for _, id := range sorted(p.Reviews) {
		d, path := p.Reviews[id], "reviews."+id
		every := d.Every.Interval()
		if every == 0 && len(d.After) == 0 || d.Stated != "" && every == 0 && recurring(vagueWords(d.Stated)) {
			l.warn(codeVague, path, "add \"every: 1y\"", "%s does not say how often it is done%s", path, inWords(d.Stated))
		}
		if len(d.By) == 0 {
			l.warn(codeVague, path, "add \"by:\" with roles or people", "%s does not say who does it", path)
		}
		l.vagueEvents(path, d.After)
		if every > 0 && !d.LastDone.IsZero() {
			due := d.LastDone.Begin(p.Location()).Add(every + d.Grace.Approx())
			if late := l.now.Sub(due); late > 0 {
				l.warn(codeLapsed, path+".last_done", "do it, and record that", "%s was done last on %s, %s ago, and is due %s", path, d.LastDone, l.daysSince(d.LastDone), d.Every)
			}
		}
	}
	for _, id := range sorted(p.Exercises) {
		e, path := p.Exercises[id], "exercises."+id
		if e.Every.Interval() == 0 && len(e.After) == 0 {
			l.warn(codeVague, path, "add \"every: 1y\"", "%s is declared, and not how often%s", path, inWords(e.Stated))
		}
		l.vagueEvents(path, e.After)
	}
	for _, id := range l.services {
		if r := p.Services[id].Redundancy; r != nil && r.How != "" && r.TestEvery.Interval() == 0 && (r.Stated != "" || len(p.Exercises) > 0) {
			l.warn(codeVague, "services."+id+".redundancy", "add \"test_every: 1q\"", "the failover of %q is declared, and not how often it is tried%s", id, inWords(r.Stated))
		}
	}
	for _, id := range sorted(p.Drills) {
		l.vagueEvents("drills."+id, p.Drills[id].After)
	}
	l.vagueEvents("plan.review", p.Plan.Review.After)
	for _, id := range sorted(p.Metrics) {
		m, path := p.Metrics[id], "metrics."+id
		var missing []string
		for _, f := range []struct {
			name  string
			there bool
		}{{"owner", m.Owner != ""}, {"formula", m.Formula != ""}, {"to", len(m.To) > 0}} {
			if !f.there {
				missing = append(missing, f.name)
			}
		}
		if len(missing) > 0 {
			l.warn(codeVague, path, "add "+strings.Join(missing, ", "), "the metric %q lacks its %s", id, strings.Join(missing, ", "))
		}
	}
	if in := p.Incidents; in != nil {
		if in.Updates != nil {
			l.objective("incidents.updates.every", in.Updates.Every)
		}
		if in.Review != nil {
			l.objective("incidents.review.due", in.Review.Due)
		}
		for _, id := range sorted(in.Escalation) {
			l.objective("incidents.escalation."+id+".after", in.Escalation[id].After)
		}
	}
}

func inWords(stated string) string {
	if stated == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", stated)
}

// vagueEvents reports events that begin with a word that nobody can decide.
func (l *linter) vagueEvents(path string, events []string) {
	for i, e := range events {
		words := vagueWords(strings.ReplaceAll(e, "-", " "))
		if len(words) == 0 || !strings.HasPrefix(e, words[0]) || l.bound(e) {
			continue // "engine-major" is a version, not a judgement
		}
		l.report(codeVague, holdfast.SeverityNote, fmt.Sprintf("%s.after[%d]", path, i), fmt.Sprintf("say under definitions what %q means", e), "nobody can decide when %q has happened: %s", e, several(words))
	}
}

// bound reports whether the plan defines a word or phrase.
func (l *linter) bound(phrase string) bool {
	_, defined := l.p.Definitions[phrase]
	return defined
}

// statements looks at the policy's own sentences: each needs something that checks it,
// and each vague word a number.
func (l *linter) statements() {
	p := l.p
	for _, id := range sorted(p.Statements) {
		s, path := p.Statements[id], "statements."+id
		words := vagueWords(s.Stated)
		words = slices.DeleteFunc(words, l.bound)
		switch {
		case len(words) > 0 && s.Bound.IsZero():
			l.warn(codeVague, path, "bind it to a number: \"bound: 90d\", or define the word under definitions", "%q has words without a number: %s", s.Stated, several(words))
			continue
		case !s.Bound.IsZero() && s.BoundBy == "":
			l.report(codeVague, holdfast.SeverityNote, path, "add \"bound_by:\"", "nobody is named who bound %q to %s", s.Stated, s.Bound)
		}
		if len(s.By) == 0 && s.Bound.IsZero() {
			l.warn(codeUnchecked, path, "add \"by:\" with a drill, exercise, review, metric or measure", "nothing checks %q", s.Stated)
		}
	}
}

// The words that policies use in place of numbers. Each is matched at the beginning of
// a word, so that "timely" also stands for "in a timely manner".
var vague = regexp.MustCompile(`(?i)\b(periodic(ally)?|regular(ly)?|frequent(ly)?|occasional(ly)?|routine(ly)?|timely|promptly|swiftly|quickly|soon|as needed|as required|as appropriate|where appropriate|when appropriate|appropriate(ly)?|where feasible|where possible|when warranted|if warranted|significant|major|material|sustained|severe|exceptional(ly)?|adequate(ly)?|sufficient(ly)?|reasonable|near[- ]zero|minimal|high[- ]change|highly available|strong)\b`)

// oftenWords are the vague words that stand in place of a period.
var oftenWords = regexp.MustCompile(`(?i)^(periodic|regular|frequent|occasional|routine)`)

// vagueWords returns the words of a sentence that stand in place of a number, each
// once, in order.
func vagueWords(s string) []string {
	var out []string
	for _, w := range vague.FindAllString(s, -1) {
		if w = strings.ToLower(w); !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

func recurring(words []string) bool { return slices.ContainsFunc(words, oftenWords.MatchString) }

// addresses looks for contacts whose domain resembles the company's own and is not:
// the message goes to somebody else.
func (l *linter) addresses() {
	p := l.p
	if len(p.Org.Domains) == 0 {
		return
	}
	look := func(path, address string) {
		_, domain, ok := strings.Cut(strings.TrimPrefix(address, "mailto:"), "@")
		if !ok || slices.Contains(p.Org.Domains, strings.ToLower(domain)) {
			return
		}
		for _, own := range p.Org.Domains {
			name, _, _ := strings.Cut(own, ".")
			if theirs, _, _ := strings.Cut(strings.ToLower(domain), "."); distance(theirs, strings.ToLower(name)) <= max(1, len(name)/4) {
				l.warn(codeUnclear, path, "correct it, or add the domain to org.domains", "%q is spelled unlike the company's own domain %q: a message would reach somebody else", address, own)
				return
			}
		}
	}
	for _, id := range sorted(p.Org.Contacts) {
		look("org.contacts."+id, p.Org.Contacts[id])
	}
	for _, id := range sorted(p.People) {
		look("people."+id+".email", p.People[id].Email)
	}
	if in := p.Incidents; in != nil {
		for _, id := range sorted(in.Channels) {
			look("incidents.channels."+id, in.Channels[id])
		}
	}
}
