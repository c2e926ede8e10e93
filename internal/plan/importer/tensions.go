package importer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/calendar"
	"holdfast/internal/plan/controls"
	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// Codes of what a document contradicts itself in: HF-I and the number of the tension
// in the requirement catalogue.
const (
	codeTwice = "HF-I0" // two values for one thing
	code      = "HF-I%d"
)

// An edition is a line of the document's own history.
type edition struct {
	line                      int
	version, date, what, whom string
}

// A signature is a line of the document's block of signatures.
type signature struct {
	line   int
	role   string
	signed bool
}

// tension records one, by its number.
func (r *reader) tension(n int, severity holdfast.FindingSeverity, line int, subject, hint, format string, args ...any) {
	r.find(fmt.Sprintf(code, n), severity, line, subject, hint, format, args...)
}

const (
	isError   = holdfast.SeverityError
	isWarning = holdfast.SeverityWarning
	isNote    = holdfast.SeverityNote
)

// tensions looks for promises that the document itself does not keep.
func (r *reader) tensions() {
	r.promises()
	r.stagesAndTests()
	r.control()
	r.clauses()
	r.words()
	r.chains()
	r.trust()
}

// approx is the length of a value; zero for words.
func approx(value string) time.Duration {
	value, _, _ = strings.Cut(value, "..")
	value, _, _ = strings.Cut(value, " ")
	p, err := calendar.ParsePeriod(value)
	if err != nil {
		return 0
	}
	return p.Approx()
}

// each calls fn for the values whose path begins and ends so.
func (r *reader) each(prefix, suffix string, fn func(v Value)) {
	for _, v := range r.draft.values {
		if strings.HasPrefix(v.Path, prefix) && strings.HasSuffix(v.Path, suffix) {
			fn(v)
		}
	}
}

// sentence returns the first sentence that matches.
func (r *reader) sentence(re *regexp.Regexp) *sentence {
	i := slices.IndexFunc(r.doc.sentences, func(s *sentence) bool { return re.MatchString(s.lower) })
	if i < 0 {
		return nil
	}
	return r.doc.sentences[i]
}

// promises compares schedules with what is promised.
func (r *reader) promises() {
	var rpos, rtos []Value
	for _, v := range r.draft.values {
		switch {
		case strings.HasSuffix(v.Path, ".rpo"):
			rpos = append(rpos, v)
		case strings.HasSuffix(v.Path, ".rto"):
			rtos = append(rtos, v)
		}
	}
	strictest := Value{}
	for _, v := range rpos {
		if d := approx(v.Value); d > 0 && (strictest.Path == "" || d < approx(strictest.Value)) {
			strictest = v
		}
	}
	r.each("backups.", ".copies.offsite.every", func(c Value) {
		for _, v := range rpos {
			if d := approx(v.Value); d > 0 && approx(c.Value) > d {
				r.tension(1, isError, c.Line, c.Path, "copy as often as the loss of the place allows, or promise more loss for it",
					"copies leave the place every %s, and line %d promises a loss of at most %s: with the place gone, up to %s are lost", c.Value, v.Line, v.Value, c.Value)
				return
			}
		}
	})
	if strictest.Path != "" {
		r.each("backups.", ".every", func(b Value) {
			id := b.path[1]
			if strings.Contains(b.Path, ".copies.") {
				return
			}
			if _, log := r.draft.get("backups", id, "log", "max_lag"); log {
				return
			}
			for _, v := range rpos {
				if step := approx(b.Value); step > 0 && step == approx(v.Value) {
					r.tension(2, isWarning, b.Line, "backups."+id, "make it more often, or promise the interval plus the time that a backup and its upload take",
						"a backup every %s loses more than the %s of line %d at worst: the interval, and the time until the backup is complete elsewhere", b.Value, v.Value, v.Line)
					return
				}
			}
		})
		r.each("backups.", ".floor", func(f Value) {
			if approx(f.Value) > approx(strictest.Value) {
				r.tension(14, isError, f.Line, f.Path, "say that the frequency follows from the objective, and that this is only a floor",
					"backups are demanded every %s at least, and line %d promises a loss of at most %s", f.Value, strictest.Line, strictest.Value)
			}
		})
	}
	for _, v := range append(rtos, rpos...) {
		if lo, hi, ok := strings.Cut(v.Value, ".."); ok {
			r.tension(4, isNote, v.Line, v.Path, "the proposal aims at the lower and is limited by the upper; say so", "a maximum is given as a range, %s to %s", lo, hi)
		}
	}
	if len(rtos)+len(rpos) == 0 {
		if s := r.sentence(regexp.MustCompile(`recovery (?:time|point)|\brto\b|\brpo\b|recover|restor`)); s != nil {
			r.tension(22, isWarning, s.line, "objectives", "agree on a number for each tier, or say that none is promised", "the document speaks of recovery and promises it in no number")
		}
	}
	// A worse severity with a longer RTO is no mistake, but nobody expects it.
	rank := map[string]int{"low": 1, "minor": 1, "sev3": 1, "medium": 2, "moderate": 2, "sev2": 2, "high": 3, "major": 3, "sev1": 3, "critical": 4}
	for _, a := range rtos {
		for _, b := range rtos {
			ida, idb := a.path, b.path
			if ida[0] == "severities" && idb[0] == "severities" && rank[ida[1]]-rank[idb[1]] == 1 && rank[idb[1]] > 0 && approx(a.Value) > approx(b.Value) {
				r.tension(17, isWarning, a.Line, "severities."+ida[1], "labels carry no order here; say what the scheme means", "%s is worse than %s and has the longer RTO, %s instead of %s", ida[1], idb[1], a.Value, b.Value)
			}
		}
	}
}

var (
	reFurther  = regexp.MustCompile(`\b(?:further|another|additional)\b`)
	reFailover = regexp.MustCompile(`\b(failover|restor\w*|recovery|backup)s?(?: \w+)? test`)
	reFigure   = regexp.MustCompile(`\b(?:figure|diagram|flow ?chart|chart|picture|annex|appendix)\b(?: (?:[a-z]\b|\d+))?(?: below| above| overleaf)?|shown below`)
	rePatches  = regexp.MustCompile(`patch\w* .*(?:on release|immediately|as soon as)`)
	reOptOut   = regexp.MustCompile(`opt out|opt-out|refuse|decline|postpone`)
	reDuties   = regexp.MustCompile(`(?:at once|immediately).*(?:start|activat|invok)|(?:start|activat|invok)\w* (?:at once|immediately)`)
)

// stagesAndTests looks at windows that add up and at tests without a frequency.
func (r *reader) stagesAndTests() {
	sums := map[string][]*sentence{}
	for _, s := range r.doc.sentences {
		if reFurther.MatchString(s.lower) && len(s.amounts()) > 0 && !s.row && !strings.Contains(s.lower, "paged") && !reBackup.MatchString(s.lower) {
			sums[s.heading()] = append(sums[s.heading()], s)
		}
	}
	for _, v := range r.draft.values {
		if !strings.HasSuffix(v.Path, ".rto") {
			continue
		}
		for head, ss := range sums {
			if len(ss) < 2 || !slices.ContainsFunc(r.doc.sentences, func(s *sentence) bool { return s.line == v.Line && s.heading() == head }) {
				continue
			}
			_, hi, ok := strings.Cut(v.Value, "..")
			if !ok {
				hi = v.Value
			}
			total := approx(hi)
			least := total
			for i, s := range ss {
				total += approx(s.amounts()[0].value)
				if i > 0 {
					least += approx(s.amounts()[0].value)
				}
			}
			r.tension(3, isWarning, ss[0].line, v.Path, "say for each window where it begins: at the outage, or at the end of the one before",
				"the windows can be read as %d or %d hours in total", int(least.Hours()), int(total.Hours()))
		}
	}
	for _, h := range r.doc.headings {
		m := reFailover.FindStringSubmatch(strings.ToLower(h.text))
		if m == nil {
			continue
		}
		said := slices.ContainsFunc(r.doc.sentences, func(s *sentence) bool {
			return s.heading() == h.text && len(s.cycles()) > 0 && (strings.Contains(s.lower, m[1]) || strings.Contains(s.lower, "test"))
		})
		if !said {
			r.tension(5, isWarning, h.line, h.text, "say how often, and what counts as passed", "%s testing is named in a heading, and nothing says how often it is done", m[1])
		}
	}
	for _, s := range r.untimed {
		if len(r.draft.below("drills"))+len(r.draft.below("exercises")) == 0 {
			r.tension(5, isWarning, s.line, "drills", "say how often, and what counts as passed", "a test is named, and nothing says how often it is done")
			break
		}
	}
	if s := r.sentence(reFigure); s != nil && !slices.ContainsFunc(r.doc.lines, func(l textLine) bool { return strings.Contains(l.text, "![") || strings.Contains(l.text, "<img") }) &&
		!slices.ContainsFunc(r.doc.headings, func(h heading) bool { return reFigure.MatchString(strings.ToLower(h.text)) }) {
		r.tension(6, isWarning, s.line, "documents", "add it, or take the reference out", "referenced flow missing: the text refers to %q, and the document holds none", reFigure.FindString(s.lower))
	}
	if a, b := r.sentence(rePatches), r.sentence(reOptOut); a != nil && b != nil && strings.Contains(b.lower, "update") {
		r.tension(7, isWarning, b.line, "customers", "file what a customer declined as an exception with an end", "line %d applies patches on release, and line %d lets a customer decline any update", a.line, b.line)
	}
}

// control compares the document's control data with each other.
func (r *reader) control() {
	version, hasVersion := r.draft.get("plan", "version")
	cadence := 365 * 24 * time.Hour
	word := "1y"
	if v, ok := r.draft.get("plan", "review", "every"); ok && approx(v.Value) > 0 {
		cadence, word = approx(v.Value), v.Value
	}
	day := func(s string) (time.Time, bool) {
		t, err := time.Parse(time.DateOnly, s)
		return t, err == nil
	}
	lapsed := func(line int, subject string, at time.Time, what string) {
		if due := at.Add(cadence); due.Before(r.today) {
			r.tension(8, isWarning, line, subject, "review it, and note the day and who approved it", "%s on %s, %d days ago; the next review was due on %s (every %s)",
				what, at.Format(time.DateOnly), int(r.today.Sub(at).Hours()/24), due.Format(time.DateOnly), word)
		}
	}
	if v, ok := r.draft.get("plan", "updated"); ok {
		if at, ok := day(v.Value); ok {
			lapsed(v.Line, "plan.updated", at, "last updated")
		}
	}
	if n := len(r.history); n > 0 {
		last := r.history[n-1]
		if hasVersion && last.version != version.Value {
			r.tension(9, isError, version.Line, "plan.version", "make both say the same", "the header says version %s, and the history on line %d ends with %s", version.Value, last.line, last.version)
		}
		if at, ok := day(last.date); ok {
			lapsed(last.line, "plan.history", at, "the last version is of the history's last line,")
		}
		for i, e := range r.history {
			from, ok := day(e.date)
			if e.whom != "" || !ok || i+1 == n || !strings.Contains(strings.ToLower(e.what), "updat") {
				continue
			}
			for _, later := range r.history[i+1:] {
				if to, ok := day(later.date); ok && later.whom != "" {
					if gap := to.Sub(from); gap > cadence {
						r.tension(10, isWarning, e.line, "plan.history", "approve a change before it is in force", "version %s of %s was approved by nobody until version %s on %s, %d days later",
							e.version, e.date, later.version, later.date, int(gap.Hours()/24))
					}
					break
				}
			}
		}
	}
	if n := len(r.signatures); n > 0 {
		signed := 0
		var roles []string
		for _, s := range r.signatures {
			roles = append(roles, s.role)
			if s.signed {
				signed++
			}
		}
		if signed < n {
			r.tension(11, isWarning, r.signatures[0].line, "plan.signatures", "collect the dated signatures, or declare one set of approvers", "not in force: %d of %d signed (%s)", signed, n, strings.Join(roles, ", "))
		}
		if v, ok := r.draft.get("plan", "approvers", "1"); ok && !slices.ContainsFunc(roles, func(s string) bool { return roleID(s) == v.Value }) {
			r.tension(11, isWarning, v.Line, "plan.approvers", "declare one set of approvers", "the header is approved by %s, and the signatures are those of %s", v.Value, strings.Join(roles, ", "))
		}
	}
	if len(r.doc.headings) > 0 {
		title := slug(r.doc.headings[0].text)
		for _, s := range r.doc.sentences {
			if s.item && regexpReferences.MatchString(strings.ToLower(s.heading())) && title != "" {
				own := slug(strings.TrimSuffix(s.text, "."))
				if own == title || strings.Contains(title, own) || strings.HasPrefix(title, "backup") && own == "backup-policy" {
					r.tension(16, isNote, s.line, "documents", "take it out of its own references", "the document cites itself: %q", s.text)
				}
			}
		}
	}
}

var regexpReferences = regexp.MustCompile(`reference|related|see also`)

// clauses compares the clauses that the text cites with those of its own table, and
// with what they are about.
func (r *reader) clauses() {
	listed, table := map[string]bool{}, false
	for _, t := range r.doc.rows {
		if t.head(hFrame) && t.head(hControl) {
			table = true
			for _, st := range standards {
				if st.clause != nil {
					for _, c := range st.clause.FindAllString(t.sentence.text, -1) {
						listed[c] = true
					}
				}
			}
		}
	}
	if table {
		for _, s := range r.doc.sentences {
			var missing []string
			for _, st := range standards {
				if st.clause == nil || s.row {
					continue
				}
				for _, c := range st.clause.FindAllString(s.text, -1) {
					if !listed[c] && !slices.Contains(missing, c) {
						missing = append(missing, c)
					}
				}
			}
			if len(missing) > 0 {
				r.tension(12, isWarning, s.line, "controls", "add them to the table, or take them out of the text", "%s cited here and missing from the document's table of alignment", strings.Join(missing, ", ")+pluralIs(len(missing)))
			}
		}
	}
	for _, id := range r.draft.below("controls") {
		name, clause, _ := strings.Cut(id, "/")
		set, ok := controls.Of(name)
		if !ok {
			continue
		}
		c, known := set.Find(clause)
		v, _ := r.draft.get("controls", id)
		switch {
		case !known:
			continue
		case name == "iec62443" && !c.Fits([]controls.Topic{controls.Backup, controls.Recovery}):
			var better []string
			for _, b := range set.About([]controls.Topic{controls.Backup, controls.Recovery}) {
				better = append(better, b.ID)
			}
			if len(better) > 2 {
				better = better[:2]
			}
			r.tension(13, isWarning, v.Line, "controls."+id, "map backup and recovery to "+strings.Join(better, " and "), "%s is about %s, not about backup or recovery", c.ID, c.Name)
		}
	}
	if table && listed["CC7.5"] && !listed["A1.2"] && !listed["A1.3"] {
		r.tension(13, isNote, r.line("controls", "soc2/CC7.5"), "controls.soc2", "add A1.2 and A1.3", "A1.2 (recovery infrastructure) and A1.3 (its test) are not among the mapped criteria")
	}
}

func (r *reader) line(path ...string) int {
	v, ok := r.draft.get(path...)
	if !ok {
		return 1
	}
	return v.Line
}

func pluralIs(n int) string {
	if n == 1 {
		return " is"
	}
	return " are"
}

var (
	reSalted    = regexp.MustCompile(`encrypted .*\bsalts?\b`)
	reEncrypted = regexp.MustCompile(`\bencrypted\b|\bencryption\b`)
	reDelegate  = regexp.MustCompile(`(?:provider|host\w*|supplier|vendor)\b.*\b(?:is|are) responsible|responsib\w+ (?:of|lies with|rests with) (?:the |our )?(?:hosting |cloud )?(?:provider|supplier|vendor)`)
	reTruncated = regexp.MustCompile(`cabl\w+ (?:is|are) truncated|truncated cabl`)
	reUnnatural = regexp.MustCompile(`litigation|sale of|cessation|theft|attack`)
)

// words looks at sentences that say something else than they mean.
func (r *reader) words() {
	if s := r.sentence(reSalted); s != nil {
		r.tension(23, isWarning, s.line, "measures", "say which hash is used, and that it is salted", "“encrypted with salts” mixes encryption with hashing")
	}
	if s := r.sentence(reEncrypted); s != nil {
		if _, ok := r.draft.get("repository", "stated"); !ok {
			r.tension(23, isNote, s.line, "repository.stated", "name the cipher and where the keys are", "encryption is demanded, and no cipher is named")
		}
	}
	if s := r.sentence(reDelegate); s != nil {
		r.tension(15, isWarning, s.line, "stores", "keep a copy of your own, or declare it as delegated: what a supplier says is claimed, not proved", "protection rests on what a supplier says")
	}
	if s := r.sentence(reTruncated); s != nil {
		r.tension(26, isNote, s.line, "facilities", "ask what is meant", "“truncated” says nothing clear about cabling")
	}
	for _, h := range r.doc.headings {
		if strings.Contains(strings.ToLower(h.text), "natural disaster") {
			for _, s := range r.doc.sentences {
				if s.heading() == h.text && reUnnatural.MatchString(s.lower) {
					r.tension(26, isNote, h.line, "hazards", "call the heading what stands below it", "hazards that are no natural disasters stand below %q", h.text)
					break
				}
			}
		}
	}
}

var (
	reForecast   = regexp.MustCompile(`expected (?:duration|to (?:last|exceed))|expect\w* .*exceed`)
	reLeadership = regexp.MustCompile(`\bleadership\b|executive management|senior management`)
	reRegion     = regexp.MustCompile(`(?:region|availability zone|site) (?:is |or .* )?(?:lost|fails)|loss of (?:a |the )?(?:region|site)`)
	reReplicated = regexp.MustCompile(`backups? (?:is|are) (?:replicated|copied|mirrored)`)
	reLogAway    = regexp.MustCompile(`(?:\bwal\b|transaction logs?|logs) (?:is|are) (?:also )?(?:replicated|copied|mirrored|shipped)`)
)

// chains looks at who decides, and at what is said to be shown by which test.
func (r *reader) chains() {
	if s := r.sentence(reForecast); s != nil && regexp.MustCompile(`activat|declar|invok|start`).MatchString(s.lower) {
		r.tension(20, isNote, s.line, "activation.when", "let incidents carry an estimate that is renewed", "activation depends on a forecast of how long it will last")
	}
	if v, ok := r.draft.get("roles", "incident_commander", "holder"); ok && slices.Contains([]string{"ceo", "chief-executive-officer", "managing-director"}, v.Value) {
		for _, s := range r.doc.sentences {
			if reLeadership.MatchString(s.lower) && reEscalate.MatchString(s.lower) {
				r.tension(21, isWarning, s.line, "roles.incident_commander", "name somebody else for one of the two", "incidents are escalated to leadership, and the incident commander is the %s: the chain ends in one person", v.Value)
				break
			}
		}
	}
	if s := r.sentence(reDuties); s != nil && len(r.draft.below("activation")) == 0 && len(r.draft.below("roles")) == 0 {
		r.tension(24, isWarning, s.line, "activation.by", "name who may start it, who leads it and who speaks for it", "the plan must start at once, and nobody is named who may start it")
	}
	if a, b := r.sentence(reRegion), r.sentence(reReplicated); a != nil && b != nil && r.sentence(reLogAway) == nil && r.sentence(regexp.MustCompile(`\bwal\b|point-in-time|transaction log`)) != nil {
		r.tension(18, isWarning, b.line, "backups.database", "say where the transaction log goes, and how far it may be behind there", "backups go to another region, and nothing says that the transaction log does: the loss of a region costs what came after the last backup")
	}
	if n := len(r.draft.below("severities")) + len(r.draft.below("scenarios")); n > 1 {
		r.each("drills.", ".every", func(v Value) {
			if s := r.sentence(regexp.MustCompile(`confirm|validat|demonstrat|prove`)); s != nil && approx(v.Value) >= 360*24*time.Hour && strings.Contains(s.lower, "rto") {
				r.tension(19, isWarning, v.Line, v.Path, "rehearse each loss that has a promise of its own", "one test every %s is to show what is promised for %d kinds of loss", v.Value, n)
			}
		})
	}
}

var reSite = regexp.MustCompile(`\b(?:www\.)?([a-z0-9-]{4,}(?:\.[a-z0-9-]+)*\.[a-z]{2,})\b`)

// trust looks at addresses and at rights.
func (r *reader) trust() {
	if s := r.sentence(regexp.MustCompile(`each .*full administrat\w+|full admin\w* (?:rights|access)`)); s != nil {
		r.tension(27, isNote, s.line, "roles", "lock copies for a time that nobody can shorten, and delay what destroys", "everybody has full rights: one captured session reaches everything, backups too")
	}
	for _, s := range r.doc.sentences {
		m := reMail.FindStringSubmatch(s.text)
		if m == nil {
			continue
		}
		for _, other := range r.doc.sentences {
			for _, w := range reSite.FindAllStringSubmatch(reMail.ReplaceAllString(other.lower, ""), -1) {
				mail, site := strings.ToLower(m[1]), strings.TrimPrefix(w[1], "www.")
				if mail != site && strings.Map(letters, mail) != "" && (strings.Map(letters, mail) == strings.Map(letters, site) || near(strings.Map(letters, mail), strings.Map(letters, site))) {
					r.tension(25, isWarning, s.line, "org.contacts", "send a test message and wait for its answer", "the contact is at %s, and line %d spells the organisation's own domain %s", mail, other.line, site)
					return
				}
			}
		}
	}
}

func letters(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
		return c
	}
	return -1
}

// near reports whether two words differ by one or two letters.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 2 || len(a) < 8 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < len(a)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return len(a)-i-j <= 2
}
