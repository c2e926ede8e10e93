package importer

import (
	"slices"
	"strings"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// rules read values from one sentence each. They are tried on every sentence, in this
// order; a sentence may be read by several.
var rules = []func(*reader, *sentence){
	(*reader).objectives, (*reader).cycles, (*reader).retention, (*reader).people, (*reader).clocks,
	(*reader).encryption, (*reader).places, (*reader).activation, (*reader).suppliers, (*reader).contacts,
}

var (
	reRTO = regexp.MustCompile(`\brtos?\b|recovery time(?: objectives?)?`)
	reRPO = regexp.MustCompile(`\brpos?\b|recovery point(?: objectives?)?`)
	reMTD = regexp.MustCompile(`\b(?:mtd|mtpd|mao)s?\b|maximum (?:tolerable|acceptable) (?:downtime|outage|period of disruption)`)

	reWeakRTO = regexp.MustCompile(`\b(?:restored|recovered|recover|back|resumed?|available again|operational|down|offline|can wait|unavailable|interruption|outage|downtime)\b`)
	reWeakRPO = regexp.MustCompile(`\b(?:data loss|loss of data|los(?:e|es|ing)|data may be)\b`)
	reLimit   = regexp.MustCompile(`\b(?:within|in|at most|no more than|maximum|exceed|up to|longer than|more than|less than|under|for|lasts|wait|be|is)\b`)

	reNoObjective = regexp.MustCompile(`notif|inform|\btold\b|\btell|acknowledg|answers|\bkept\b|\bkeep|retain|retention|backed up|escalat|review|every |freshness|rolled back`)
	reWordValue   = regexp.MustCompile(`^[\s:=]*(?:is|of|are|–|-|at)?\s*"?“?(near[- ]zero|a few minutes|minutes|seconds|hours|immediate(?:ly)?|as soon as possible|best effort|minimal|none|n/a|not applicable|stateless)\b`)
)

// A mark is a word of a sentence that names a promise.
type mark struct {
	start, end int
	metric     string
	weak       bool
}

func marksIn(lower string) []mark {
	var out []mark
	add := func(re *regexp.Regexp, metric string, weak bool) {
		for _, m := range re.FindAllStringIndex(lower, -1) {
			if !slices.ContainsFunc(out, func(x mark) bool { return m[0] < x.end && x.start < m[1] }) {
				out = append(out, mark{m[0], m[1], metric, weak})
			}
		}
	}
	add(reMTD, "mtd", false)
	add(reRTO, "rto", false)
	add(reRPO, "rpo", false)
	add(reWeakRPO, "rpo", true)
	add(reWeakRTO, "rto", true)
	slices.SortFunc(out, func(a, b mark) int { return a.start - b.start })
	return out
}

// objectives reads "the RTO is 4 hours", "back within 8 hours", "lose at most 1 hour".
func (r *reader) objectives(s *sentence) {
	marks := marksIn(s.lower)
	if len(marks) == 0 || s.row || strings.HasPrefix(s.lower, "in force:") { // computed, in a rendered plan
		return
	}
	strong := slices.ContainsFunc(marks, func(m mark) bool { return !m.weak })
	if !strong && (reNoObjective.MatchString(s.lower) || reTesting.MatchString(s.lower)) || strong && reMeans.MatchString(s.lower) {
		return
	}
	if strong {
		marks = slices.DeleteFunc(marks, func(m mark) bool { return m.weak && !nearLimit(s, m) })
	}
	amounts := s.amounts()
	where, ok := r.selector(s)
	if !ok {
		return
	}
	if strings.Contains(s.lower, "respectively") && len(marks) == len(amounts) {
		for i, m := range marks {
			r.promise(where, m.metric, amounts[i].objective(), s)
		}
		return
	}
	used := map[int]bool{}
	for i, m := range marks {
		limit := len(s.lower)
		if i+1 < len(marks) {
			limit = marks[i+1].start
		}
		done := false
		for j, a := range amounts {
			if used[j] || a.start < m.end || a.start >= limit {
				continue
			}
			between := s.lower[m.end:a.start]
			if m.weak && (!reLimit.MatchString(between) || len(between) > 60 || strings.Contains(between, ";")) {
				break
			}
			used[j], done = true, true
			r.promise(where, m.metric, a.objective(), s)
			break
		}
		if !done && !m.weak {
			for j, a := range amounts { // "a 4-hour RTO"
				if !used[j] && a.end <= m.start && m.start-a.end <= 3 {
					used[j], done = true, true
					r.promise(where, m.metric, a.objective(), s)
				}
			}
		}
		if done || m.weak {
			continue
		}
		if w := reWordValue.FindStringSubmatch(s.lower[m.end:limit]); w != nil {
			r.promise(where, m.metric, wordValue(w[1]), s)
		}
	}
}

// nearLimit reports whether a weak word stands before an amount that limits it.
func nearLimit(s *sentence, m mark) bool {
	for _, a := range s.amounts() {
		if a.start >= m.end && a.start-m.end < 40 && reLimit.MatchString(s.lower[m.end:a.start]) {
			return true
		}
	}
	return false
}

// wordValue is what words without a number promise.
func wordValue(w string) string {
	switch w {
	case "none", "n/a", "not applicable", "stateless":
		return "none"
	}
	return `"` + strings.ReplaceAll(w, "near-zero", "near zero") + `"`
}

func (r *reader) promise(where []string, metric, value string, s *sentence) {
	stated := s.text
	if strings.HasPrefix(value, `"`) {
		stated = ""
	}
	if metric == "mtd" {
		if where[0] != "tiers" || strings.HasPrefix(value, `"`) || value == "none" {
			return
		}
		value, _, _ = strings.Cut(value, "..")
	}
	r.note(append(slices.Clone(where), metric), value, stated, "objective "+strings.ToUpper(metric)+": judged from verified copies and drills", s.src())
}

var (
	reScheme   = regexp.MustCompile(`\b(?:(tier|priority|level|class|severity)[ -]?(\d|one|two|three|four|[a-e])\b|(sev|p)-?(\d)\b|(critical|high|medium|low|support|billing|network|core|essential|important|standard|important|major|minor)[ -](tier|severity|priority|incidents?|services?|systems?|applications?))`)
	reLevel    = regexp.MustCompile(`\d|critical|high|medium|low|tier|gold|silver|bronze|core|essential|important|standard|support|billing|network|major|minor|class|level|priority|online|production`)
	reSevWord  = regexp.MustCompile(`severit|\bsev|incident`)
	reScenario = regexp.MustCompile(`\b(total failure|(?:loss|failure) of (?:a |the |an )?(?:region|site|building|data cent(?:re|er)|availability zone|provider|database)|(?:region|site|building|data cent(?:re|er)) (?:loss|failure|is lost)|ransomware|error or misconfiguration|misconfiguration)`)
	reSubject  = regexp.MustCompile(`^(?:for |in |if )?(?:the |our |its |all )?([a-z][a-z0-9-]*(?: [a-z0-9-]+){0,3}?)(?:,)? (?:we promise|we aim|we accept|can|has|have|must|shall|may|needs?|will|is|are)\b`)
	reMeans    = regexp.MustCompile(`\b(?:means|is defined as|stands for|definition)\b|: the longest|: the oldest`)
	generics   = regexp.MustCompile(`^(?:we|it|they|this|these|everything|services?|systems?|data|backups?|one|all|our|each|a|an|the|there|what|who|recovery|rto|rpo|absolute maximum|interruption|which|that|you|in a|if|when|people|impact|in an)\b`)
	schemeHead = regexp.MustCompile(`severit|tier|priorit|\bclass`)
)

// selector says for what a sentence promises something. What follows a semicolon is
// about what stands before it, unless it names something itself.
func (r *reader) selector(s *sentence) ([]string, bool) {
	where, ok := r.ownSelector(s)
	if (s.continues || s.before != nil && s.before == r.lastPromise) && ok && len(r.lastWhere) > 0 && where[0] == "tiers" && where[1] == "default" {
		where = r.lastWhere
	}
	r.lastWhere, r.lastPromise = where, s
	return where, ok
}

func (r *reader) ownSelector(s *sentence) ([]string, bool) {
	if m := reScheme.FindStringSubmatch(s.lower); m != nil {
		switch {
		case m[1] != "":
			scheme := "tiers"
			if m[1] == "severity" {
				scheme = "severities"
			}
			return []string{scheme, slug(m[1] + "-" + m[2])}, true
		case m[3] != "":
			return []string{"severities", slug(m[3] + m[4])}, true
		}
		scheme := "tiers"
		if m[6] == "severity" || strings.HasPrefix(m[6], "incident") {
			scheme = "severities"
		}
		return []string{scheme, slug(m[5])}, true
	}
	scheme := "tiers"
	if reSevWord.MatchString(strings.ToLower(strings.Join(s.under, " "))) {
		scheme = "severities"
	}
	if l := strings.ToLower(s.label); l != "" && s.item && len(marksIn(l)) == 0 && slug(l) != "" && len(strings.Fields(l)) <= 5 {
		if scheme == "tiers" && !reLevel.MatchString(l) {
			scheme = "services"
		}
		return []string{scheme, slug(l)}, true
	}
	if n := len(s.under); n >= 2 && schemeHead.MatchString(strings.ToLower(s.under[n-2])) {
		return []string{scheme, slug(s.under[n-1])}, slug(s.under[n-1]) != ""
	}
	for _, text := range append([]string{s.lower}, strings.ToLower(s.heading())) {
		if m := reScenario.FindString(text); m != "" {
			return []string{"scenarios", slug(strings.NewReplacer("loss of a ", "", "loss of the ", "", "failure of the ", "").Replace(m))}, true
		}
	}
	if m := reSubject.FindStringSubmatch(s.lower); m != nil && !generics.MatchString(m[1]) {
		r.lastService = slug(m[1])
		return []string{"services", r.lastService}, true
	}
	if r.lastService != "" && strings.HasPrefix(s.lower, "its ") {
		return []string{"services", r.lastService}, true
	}
	return []string{"tiers", "default"}, true
}

// what a backup is about.
var backupOf = []struct {
	id string
	re *regexp.Regexp
}{
	{"log", regexp.MustCompile(`transaction logs?|log files of the database|database logs?|\bwal\b|write-ahead|log shipping|redo logs?|log backups?`)},
	{"machines", regexp.MustCompile(`virtual machines?|\bvms?\b|guest|whole[- ]server|server images?|machine images?|\bimages\b`)},
	{"objects", regexp.MustCompile(`object stor|buckets?|\bblobs?\b`)},
	{"code", regexp.MustCompile(`source code|\bcode\b|repositor|\bgit\b`)},
	{"database", regexp.MustCompile(`databases?|postgres\w*|mysql|mariadb|sql server|\bdumps?\b|dumped`)},
	{"files", regexp.MustCompile(`\bfiles?\b|file shares?|uploads?|documents\b|photos|attachments|\bshares\b`)},
}

var (
	reBackup    = regexp.MustCompile(`back(?:ed|ing)?[- ]?ups?|snapshots?|\bdump|copied|copies|\bcopy\b|archiv|shipped|shipping|captured|imaged|replicat|mirror`)
	reOffsite   = regexp.MustCompile(`off-?site|second (?:copy|region|site|location)|(?:other|another) (?:region|site|building)|remote (?:copy|site)|cross-region`)
	rePrimary   = regexp.MustCompile(`backed up|\btaken\b|dumped|captured|imaged|snapshots? (?:is|are)`)
	reTesting   = regexp.MustCompile(`\btest(?:ed|s|ing)?\b|\bdrills?\b|\brehears|\btrial|\brestores\b|sample restore|technical restore`)
	reExercise  = regexp.MustCompile(`tabletop|table-top|walk-?through|exercis|rehears|call[- ]tree|failover test|full (?:\w+ )?(?:recovery|dr) test|full restore of everything|fire drill|whole plan`)
	reReview    = regexp.MustCompile(`\breview|\blook\b|assess|attest|\bconfirm their|audited|\brevis`)
	reUpdates   = regexp.MustCompile(`\bupdates?\b|informed|\btold\b|\bstatus page`)
	reReport    = regexp.MustCompile(`\breport|metric|measured`)
	reIncrement = regexp.MustCompile(`incremental|differential`)
	reTraining  = regexp.MustCompile(`\btrain|onboard|penetration`)
)

// cycles reads how often something is done, by what is done.
func (r *reader) cycles(s *sentence) {
	cs := s.cycles()
	if len(cs) == 0 || s.row {
		r.tests(s)
		return
	}
	for i, c := range cs {
		from, to := 0, len(s.lower)
		if i > 0 {
			from = cs[i-1].end
		}
		if i+1 < len(cs) {
			to = cs[i+1].start
		}
		if len(s.lower) != len(s.text) {
			from, to = 0, len(s.lower) // rare letters; offsets would not fit
		}
		r.cycle(s, c, s.lower[from:to], s.lower[from:min(to, max(from, c.end))])
	}
	r.events(s)
}

// cycle reads one frequency. chunk is the part of the sentence that belongs to it,
// before the part of that which precedes it.
func (r *reader) cycle(s *sentence, c cycle, chunk, before string) {
	whole := s.lower
	switch {
	case reKeep.MatchString(whole) && len(s.amounts()) > 0 && !rePrimary.MatchString(whole):
		// "nightly backups 60 days" says how long, not how often.
	case reIncrement.MatchString(before) && !strings.Contains(before, "full"):
		r.skip(s, "an increment between full backups has no place in the plan: every snapshot stores only what is new")
	case reTraining.MatchString(chunk) && !reBackup.MatchString(chunk) && !reReview.MatchString(chunk):
		r.skip(s, "training and penetration tests have no place in the plan yet")
	case reExercise.MatchString(chunk) || reExercise.MatchString(whole) && reTesting.MatchString(chunk):
		r.note([]string{"exercises", exerciseID(whole), "every"}, c.every, s.text, "exercise: due by its day, recorded with who took part", s.src())
		if strings.Contains(whole, "restore") && strings.Contains(whole, "tabletop") {
			r.note([]string{"drills", "restore-test", "every"}, c.every, s.text, checkDrill, s.src())
		}
	case reReview.MatchString(chunk) && !strings.Contains(chunk, "backed up"):
		r.review(s, c)
	case reTesting.MatchString(chunk) || strings.Contains(chunk, "restore") && !strings.Contains(chunk, "backed up"):
		r.note([]string{"drills", "restore-test", "every"}, c.every, s.text, checkDrill, s.src())
	case reUpdates.MatchString(chunk) && !reBackup.MatchString(chunk) && strings.ContainsAny(c.every, "mh"):
		r.note([]string{"incidents", "updates", "every"}, strings.Fields(c.every)[0], "", "messages: what is due is written down before it is sent", s.src())
	case reBackup.MatchString(whole) && !reReport.MatchString(chunk):
		r.backup(s, c, chunk, before)
	case reReview.MatchString(whole):
		r.review(s, c)
	}
}

const checkDrill = "drill: restored in a sandbox, checked and timed"

func exerciseID(lower string) string {
	for _, k := range [][2]string{{"tabletop", "tabletop"}, {"table-top", "tabletop"}, {"call tree", "call-tree"}, {"call-tree", "call-tree"}, {"failover", "failover"}, {"rehears", "rehearsal"}} {
		if strings.Contains(lower, k[0]) {
			return k[1]
		}
	}
	return "recovery"
}

var reviewOf = []struct {
	id string
	re *regexp.Regexp
}{
	{"access", regexp.MustCompile(`access`)},
	{"suppliers", regexp.MustCompile(`supplier|vendor|third[- ]part`)},
	{"jobs", regexp.MustCompile(`\bjobs?\b`)},
	{"coverage", regexp.MustCompile(`coverage`)},
	{"inventory", regexp.MustCompile(`register|inventory|entries`)},
	{"objectives", regexp.MustCompile(`objectives?|\brtos?\b`)},
	{"risks", regexp.MustCompile(`\brisks?\b`)},
	{"plan", regexp.MustCompile(`\bplan\b|polic|standard|handbook|document|procedure|next look|review (?:interval|cycle)|^review`)},
}

func (r *reader) review(s *sentence, c cycle) {
	for _, of := range reviewOf {
		if !of.re.MatchString(s.lower) {
			continue
		}
		if of.id == "plan" {
			r.note([]string{"plan", "review", "every"}, strings.Fields(c.every)[0], "", "review: due by its day", s.src())
		} else {
			r.note([]string{"reviews", of.id, "every"}, c.every, s.text, "review: due by its day", s.src())
		}
		return
	}
	// "They are reviewed yearly" is about what the heading names.
	for _, of := range reviewOf[:len(reviewOf)-1] {
		if of.re.MatchString(strings.ToLower(s.heading())) {
			r.note([]string{"reviews", of.id, "every"}, c.every, s.text, "review: due by its day", s.src())
			return
		}
	}
	if reReview.MatchString(strings.ToLower(s.heading())) {
		r.note([]string{"plan", "review", "every"}, strings.Fields(c.every)[0], "", "review: due by its day", s.src())
	}
}

// skip says why a sentence with a number was left alone.
func (r *reader) skip(s *sentence, why string) {
	if !s.covered {
		r.unread[s] = why
	}
}

// subject returns what a part of a sentence is about: the last that is named before
// its frequency, else the first that is named after.
func subject(before, chunk, whole string) string {
	// The last to end, and of those the longest: "log files of the database" is a log.
	best, at, length := "", -1, 0
	for _, b := range backupOf {
		for _, m := range b.re.FindAllStringIndex(before, -1) {
			if n := m[1] - m[0]; m[1] > at || m[1] == at && n > length {
				best, at, length = b.id, m[1], n
			}
		}
	}
	if best != "" {
		return best
	}
	for _, text := range []string{chunk, whole} {
		best, at = "", len(text)
		for _, b := range backupOf {
			if m := b.re.FindStringIndex(text); m != nil && m[0] < at {
				best, at = b.id, m[0]
			}
		}
		if best != "" {
			return best
		}
	}
	return ""
}

var reAtLeast = regexp.MustCompile(`(?:at least|at a minimum|minimum of|no less than)\s*(?:once )?$`)

// backup reads a schedule.
func (r *reader) backup(s *sentence, c cycle, chunk, before string) {
	of := subject(before, chunk, s.lower)
	const check = "schedule: every slot is expected beforehand, and missed when nobody did it"
	lead := strings.TrimSpace(s.lower[:min(len(s.lower), c.start)])
	switch {
	case of == "log":
		lag := c.every
		if c.continuous {
			for _, a := range s.amounts() {
				if a.start > c.start {
					lag = a.value
					break
				}
			}
			if lag == "" {
				r.skip(s, "the log is shipped continuously, and how far it may be behind is not said")
				return
			}
		}
		r.note([]string{"backups", "database", "log", "max_lag"}, strings.Fields(lag)[0], "", "log: how far each location is behind is known at every moment", s.src())
	case c.continuous:
		r.skip(s, "continuously is not a number")
	case reOffsite.MatchString(chunk) && !rePrimary.MatchString(before), strings.Contains(chunk, "second copy"):
		if of == "" || strings.Contains(s.lower, "everything") {
			of = general
		}
		r.note([]string{"backups", of, "copies", "offsite", "every"}, calendarPeriod(c.every), "", "copies: the loss of each place is computed from what lies there", s.src())
	default:
		if of == "" {
			of = general
		}
		if reAtLeast.MatchString(lead) {
			r.note([]string{"backups", of, "floor"}, calendarPeriod(c.every), "", check, s.src())
			return
		}
		r.note([]string{"backups", of, "every"}, c.every, s.text, check, s.src())
	}
}

// calendarPeriod is the length of a recurrence.
func calendarPeriod(every string) string {
	step := strings.Fields(every)[0]
	if as := amountsIn(step); len(as) == 1 {
		return as[0].value
	}
	return step
}

var (
	reThePlan = regexp.MustCompile(`\bplan\b|polic|standard`)
	reWayBack = regexp.MustCompile(`restor|recover|backup|failover`)
)

// events reads "after each incident" of a review of the plan.
func (r *reader) events(s *sentence) {
	if !reReview.MatchString(s.lower) || !reThePlan.MatchString(s.lower) {
		return
	}
	i := strings.Index(s.lower, "after")
	if i < 0 {
		return
	}
	n := 0
	for _, e := range []struct{ word, id string }{{"recovery test", "exercise"}, {"exercise", "exercise"}, {"disruption", "incident"}, {"incident", "incident"}, {"change", "change"}} {
		id := []string{"plan", "review", "after"}
		if strings.Contains(s.lower[i:], e.word) && !slices.ContainsFunc(r.draft.values, func(v Value) bool {
			return strings.HasPrefix(v.Path, "plan.review.after.") && v.Value == e.id
		}) {
			n++
			r.note(append(id, digits(n)), e.id, "", "review: due after each of these", s.src())
		}
	}
}

// tests notes a test that is named and never given a frequency.
func (r *reader) tests(s *sentence) {
	if s.row || !reTesting.MatchString(s.lower) || !reWayBack.MatchString(s.lower) {
		return
	}
	r.untimed = append(r.untimed, s)
}

var (
	reKeep    = regexp.MustCompile(`\b(?:retain(?:ed)?|retention|kept|keep|held|preserved|expire[sd]?|deleted after|stored for)\b`)
	reNotKeep = regexp.MustCompile(`evidence|records?\b|\baudit|minutes of|register|competen|informed|log-?in`)
	reMost    = regexp.MustCompile(`(?:no longer than|at most|not longer than|maximum of|up to)\s*$`)
	reLeast   = regexp.MustCompile(`(?:at least|a minimum of|minimum|no less than)\s*$`)
)

// retention reads how long backups are kept.
func (r *reader) retention(s *sentence) {
	loc := reKeep.FindStringIndex(s.lower)
	if loc == nil || s.row || reNotKeep.MatchString(s.lower) || len(s.lower) != len(s.text) {
		return
	}
	if !reBackup.MatchString(s.topic()) && subject("", s.lower, s.lower) == "" {
		return
	}
	var last int
	for _, a := range s.amounts() {
		if a.start < loc[0] && !strings.Contains(s.lower, "retention") {
			continue
		}
		// Each amount has its own subject: "dumps for 35 days, photos for 90 days".
		from := max(last, 0)
		last = a.end
		of := subject(s.lower[from:a.start], "", "")
		if of == "" {
			of = subject(s.lower[:a.start], "", "")
		}
		if of == "" {
			of = general
		}
		if of == "log" {
			of = "database"
		}
		field := []string{"backups", of, "keep"}
		switch before := s.lower[:a.start]; {
		case reLeast.MatchString(before):
			field = []string{"backups", of, "retention", "min"}
		case reMost.MatchString(before):
			field = []string{"backups", of, "retention", "max"}
		}
		r.note(field, a.value, "", "retention: counted from the receipt of each copy", s.src())
	}
}

func digits(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return digits(n/10) + digits(n%10)
}
