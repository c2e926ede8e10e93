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
	reRTO = regexp.MustCompile(`\brtos?\b|recovery time(?: objectives?)?|restart times?|restoration times?|time to restore`)
	reRPO = regexp.MustCompile(`\brpos?\b|recovery point(?: objectives?)?`)
	reMTD = regexp.MustCompile(`\b(?:mtd|mtpd|mao)s?\b|maximum (?:tolerable|acceptable) (?:downtime|outage|period of disruption)`)

	reWeakRTO = regexp.MustCompile(`\b(?:restored|recovered|recover|back|resumed?|available again|operational|down|offline|can wait|unavailable|interruption|outage|downtime|return(?:s|ed)? to service|brought back|running again|restore within)\b`)
	reWeakRPO = regexp.MustCompile(`\b(?:data loss|loss of data|los(?:e|es|ing)|lost|data may be)\b`)
	reLimit   = regexp.MustCompile(`\b(?:within|in|at most|no more than|maximum|exceed|up to|longer than|more than|less than|under|below|for|lasts|wait|be|is|amount|maximally|limited to)\b`)

	reLimitEnd  = regexp.MustCompile(`\b(?:at most|no more than|not more than|up to|a maximum of|less than|under)$`)
	reOfData    = regexp.MustCompile(`^ (?:worth )?of (?:data|entries|orders|records|transactions|work)\s*(?:[.,;]|$)`)
	reDown      = regexp.MustCompile(`^ (?:down|offline|of downtime)\b`)
	reOfWhat    = regexp.MustCompile(`^ (?:worth )?of (?:[a-z-]+ ){0,4}(?:may be |are |is |can be |be |get |gets |being )?lost$`)
	reForWhat   = regexp.MustCompile(`^for (?:the |our |all )?([a-z][a-z0-9/-]*(?: [a-z0-9/-]+){0,3}?),? (?:the|a|an|we) `)
	reThatIs    = regexp.MustCompile(`\bthat (?:the |our |its |all )?([a-z][a-z0-9-]*(?: [a-z0-9-]+){0,2}?) (?:is|are|will be|can be|must be|shall be) (?:restored|recovered|back)\b`)
	reScopeWord = regexp.MustCompile(`\b(?:functions?|others?|tiers?|class(?:es)?)$`)

	reNoObjective = regexp.MustCompile(`notif|inform|\btold\b|\btell|acknowledg|answers|\bkept\b|\bkeep|retain|retention|backed up|escalat|review|every |freshness|rolled back`)
	reWordValue   = regexp.MustCompile(`^[\s:=]*(?:is|of|are|shall be|must be|will be|–|-|at)?\s*"?“?(near[- ]zero|zero|0 (?:seconds|minutes|hours)|a few minutes|minutes|seconds|hours|immediate(?:ly)?|as soon as possible|best effort|minimal|none|n/a|not applicable|stateless)\b`)
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
	if len(marks) == 0 && r.listed(s) {
		return
	}
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
	for j, a := range amounts { // "at most 1 h down, at most 10 min of data"
		before := strings.TrimRight(s.lower[:a.start], " ")
		switch {
		case strong || !reLimitEnd.MatchString(before):
		case reOfData.MatchString(s.lower[a.end:]):
			used[j] = true
			r.promise(where, "rpo", a.objective(), s)
		case reDown.MatchString(s.lower[a.end:]):
			used[j] = true
			r.promise(where, "rto", a.objective(), s)
		}
	}
	for i, m := range marks {
		limit := len(s.lower)
		if i+1 < len(marks) {
			limit = marks[i+1].start
		}
		done := false
		if m.weak && m.metric == "rpo" {
			for j, a := range amounts { // "no more than 5 minutes of entries may be lost"
				if !used[j] && a.end < m.start && reOfWhat.MatchString(s.lower[a.end:m.end]) {
					used[j], done = true, true
					r.promise(where, m.metric, a.objective(), s)
					break
				}
			}
		}
		for j, a := range amounts {
			if done || used[j] || a.start < m.end || a.start >= limit {
				continue
			}
			between := s.lower[m.end:a.start]
			if word := s.lower[m.start:m.end]; word == "lost" {
				break // what is lost stands before it
			} else if m.weak && (!reLimit.MatchString(between) && !((m.metric == "rpo" || word == "can wait" || word == "restore within") && strings.TrimSpace(between) == "") || len(between) > 60 || strings.Contains(between, ";")) {
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

// listed reads an item of a list whose first items say what their numbers are: "Silver:
// one day for both", "Bronze: a week".
func (r *reader) listed(s *sentence) bool {
	last := r.lastPromise
	if !s.item || s.label == "" || last == nil || !last.item || last.heading() != s.heading() || reNoObjective.MatchString(s.lower) || len(r.lastWhere) < 2 {
		return false
	}
	as := s.lengths()
	if len(as) == 0 || strings.Trim(s.text[min(len(s.label), as[0].start):as[0].start], " :–-") != "" {
		return false
	}
	where, ok := r.ownSelector(s)
	if !ok || where[0] != r.lastWhere[0] {
		return false
	}
	r.promise(where, "rto", as[0].objective(), s)
	if strings.Contains(s.lower, " for both") {
		r.promise(where, "rpo", as[0].objective(), s)
	}
	r.lastPromise = s
	return true
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
	case "0 seconds", "0 minutes", "0 hours":
		return `"zero"`
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
	reScheme   = regexp.MustCompile(`\b(?:(tier|priority|level|class|severity)[ -]?(\d|one|two|three|four|[a-e])\b|(sev|p)-?(\d)\b|(critical|high|medium|low|support|billing|network|core|essential|important|standard|major|minor)[ -](tier|severity|priority|incidents?|services?|systems?|applications?|functions?))`)
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
	if s.run != "" && slug(s.run) != "" && !reScheme.MatchString(s.lower) {
		if m := reScheme.FindStringSubmatch(strings.ToLower(s.run)); m != nil && m[1] != "" {
			return []string{"tiers", slug(m[1] + "-" + m[2])}, true
		}
		if !rePolicy.MatchString(s.run) {
			return []string{"services", slug(s.run)}, true
		}
	}
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
	l, _, _ := strings.Cut(strings.ToLower(s.label), " (")
	if l != "" && (s.item || s.clause != "") && len(marksIn(l)) == 0 && slug(l) != "" && len(strings.Fields(l)) <= 5 {
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
	if m := reForWhat.FindStringSubmatch(s.lower); m != nil && !generics.MatchString(m[1]) {
		if reScopeWord.MatchString(m[1]) {
			return []string{"tiers", slug(strings.TrimPrefix(s.lower[:strings.Index(s.lower, m[1])]+m[1], "for "))}, true
		}
		r.lastService = slug(m[1])
		return []string{"services", r.lastService}, true
	}
	if m := reThatIs.FindStringSubmatch(s.lower); m != nil && !generics.MatchString(m[1]) {
		r.lastService = slug(m[1])
		return []string{"services", r.lastService}, true
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

// A backupKind is what a backup can be about, with the words for it.
type backupKind struct {
	id string
	re *regexp.Regexp
}

var backupOf = []backupKind{
	{"log", regexp.MustCompile(`transaction logs?|log files?(?: of the database)?|database logs?|bin(?:ary )?-?logs?|\bwal\b|write-ahead(?: logs?)?|log shipping|redo logs?|archive logs?|log backups?`)},
	{"machines", regexp.MustCompile(`virtual (?:machines?|servers?)|\bvms?\b|guest|whole[- ]server|(?:servers?|systems?|machines?|disk|vm) images?|\bservers are (?:imaged|captured)|hypervisor`)},
	{"objects", regexp.MustCompile(`object stor|buckets?|\bblobs?\b|\bs3\b`)},
	{"code", regexp.MustCompile(`source code|\bcode\b|repositories|\brepos?\b|\bgit\b`)},
	{"database", regexp.MustCompile(`databases?|postgres\w*|mysql|mariadb|sql server|\bdumps?\b|dumped|base ?backups?`)},
	{"files", regexp.MustCompile(`\bfiles?\b|file shares?|file servers?|uploads?|documents\b|photos|\bimages\b|\bscans\b|recordings|attachments|\bshares\b|directories|folders`)},
}

var (
	reBackup    = regexp.MustCompile(`back(?:ed|ing)?[- ]?ups?|snapshot|\bdump|copied|copies|\bcopy\b|archiv|shipped|shipping|captured|imaged|replicat|mirror|synced|synchroni[sz]ed|\bsaved\b|transferred|written to|writes (?:its|the|their)|images are|off-?site`)
	reOffsite   = regexp.MustCompile(`off-?site|second (?:copy|region|site|location)|(?:other|another) (?:region|site|building)|remote (?:copy|site)|cross-region|(?:second|third|further|another|additional|offline) (?:copy|copies|set)\b|driven to|copy of (?:all|each|every) (?:the )?backups?|leaves? the building`)
	rePrimary   = regexp.MustCompile(`backed up|\btaken\b|dumped|captured|imaged|snapshots? (?:is|are)`)
	reTesting   = regexp.MustCompile(`\btest(?:ed|s|ing)?\b|\bdrills?\b|\brehears|\btrial|\brestores\b|sample restore|technical restore|restoration\b|re-?storage|\btry the (?:tapes|backups|copies)|shall restore|must restore`)
	reExercise  = regexp.MustCompile(`tabletop|table-top|walk-?through|exercis|rehears|call[- ]tree|failover test|full (?:\w+ )?(?:recovery|dr) test|full restore of everything|fire drill|whole plan|practi[sc]es?\b|game ?day|rebuil[dt]|switch-?over|fail over|switch .{3,40} to the spare|full (?:\w+ )?recovery|(?:whole|entire|complete) \w+ (?:runs )?(?:on|from) (?:a |the )?(?:fresh|spare|new|standby)`)
	reReview    = regexp.MustCompile(`\breview|\blook\b|assess|attest|\bconfirm their|audited|\brevis|reads? this page|up to date|verified|confirmed`)
	reTells     = regexp.MustCompile(`\b(?:reports?|updates?|informs?|briefs?)\b(?: [a-z-]+){0,4} every\b`)
	reUpdates   = regexp.MustCompile(`\bupdates?\b|informed|\btold\b|\bstatus page|\bnews\b|\bhears? from`)
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

// cycle reads one frequency. chunk is the part of the sentence that belongs to it, and
// before the part of that up to it. What is done stands before its frequency more often
// than after it.
func (r *reader) cycle(s *sentence, c cycle, chunk, before string) {
	whole := s.lower
	switch {
	case reKeep.MatchString(whole) && len(s.lengths()) > 0 && !rePrimary.MatchString(whole) && !reReview.MatchString(before) && !reStoredEvery.MatchString(before):
		return // "nightly backups 60 days" says how long, not how often
	case reIncrement.MatchString(before) && !strings.Contains(before, "full"):
		r.skip(s, "an increment between full backups has no place in the plan: every snapshot stores only what is new")
		return
	case reTraining.MatchString(chunk) && !reBackup.MatchString(chunk) && !reReview.MatchString(chunk):
		r.skip(s, "training and penetration tests have no place in the plan yet")
		return
	}
	for _, part := range []string{before, chunk} {
		switch {
		case reExercise.MatchString(part) || reExercise.MatchString(whole) && reTesting.MatchString(part) && len(s.cycles()) == 1:
			r.note([]string{"exercises", exerciseID(whole), "every"}, c.every, s.text, "exercise: due by its day, recorded with who took part", s.src())
			if strings.Contains(whole, "restore") && strings.Contains(whole, "tabletop") && len(s.cycles()) == 1 {
				r.note([]string{"drills", "restore-test", "every"}, c.every, s.text, checkDrill, s.src())
			}
			return
		case reReview.MatchString(part) && !strings.Contains(part, "backed up"):
			r.review(s, c)
			return
		case reTells.MatchString(before) && shortStep(c.every): // "restores systems and reports every 30 minutes"
			r.note([]string{"incidents", "updates", "every"}, strings.Fields(c.every)[0], "", "messages: what is due is written down before it is sent", s.src())
			return
		case reTesting.MatchString(part) || strings.Contains(part, "restore") && !strings.Contains(part, "backed up"):
			r.note([]string{"drills", "restore-test", "every"}, c.every, s.text, checkDrill, s.src())
			return
		case reUpdates.MatchString(part) && !reBackup.MatchString(part) && shortStep(c.every):
			r.note([]string{"incidents", "updates", "every"}, strings.Fields(c.every)[0], "", "messages: what is due is written down before it is sent", s.src())
			return
		}
	}
	switch {
	case reBackup.MatchString(whole) && !reReport.MatchString(chunk):
		r.backup(s, c, chunk, before)
	case reReview.MatchString(whole):
		r.review(s, c)
	}
}

var (
	reStoredEvery = regexp.MustCompile(`\bruns?\b|takes place|dump\w*|cop(?:y|ied)|snapshot daily|sync|mirror`)
)

// shortStep reports whether a recurrence counts minutes or hours.
func shortStep(every string) bool {
	step := strings.Fields(every + " ")[0]
	return strings.HasSuffix(step, "m") || strings.HasSuffix(step, "h")
}

const checkDrill = "drill: restored in a sandbox, checked and timed"

func exerciseID(lower string) string {
	if strings.Contains(lower, "full") && strings.Contains(lower, "recovery") {
		return "recovery"
	}
	for _, k := range [][2]string{{"tabletop", "tabletop"}, {"table-top", "tabletop"}, {"call tree", "call-tree"}, {"call-tree", "call-tree"}, {"failover", "failover"}, {"fail over", "failover"}, {"switch-over", "failover"}, {"switchover", "failover"}, {"to the spare", "failover"}, {"rehears", "rehearsal"}, {"practis", "rehearsal"}, {"practic", "rehearsal"}} {
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
	{"inventory", regexp.MustCompile(`register|inventory|entries|catalogue|list of systems`)},
	{"objectives", regexp.MustCompile(`objectives?|\brtos?\b|\bvalues\b|target times`)},
	{"risks", regexp.MustCompile(`\brisks?\b`)},
	{"plan", regexp.MustCompile(`\bplan\b|polic|standard|handbook|document|procedure|next look|next review|review (?:interval|cycle)|^review|this page|this annex|concept|directive`)},
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
	if best == "files" && (strings.Contains(before, "bucket") || strings.Contains(before, "s3 ")) {
		return "objects"
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

// reNamed is what a sentence says is copied, by a name that no rule knows.
var reNamed = regexp.MustCompile(`^(?:the |all |our )?([A-Za-z][\w-]*(?: [\w-]+){0,2}?) (?:is|are) (?:backed up|copied|saved|dumped|snapshotted|archived|replicated|exported)\b`)

// generic words that name no store.
var reNoStore = regexp.MustCompile(`(?i)^(?:everything|all|data|backups?|copies|copy|it|they|these|this|systems?|servers?|production|these data|each|what)\b|\b(?:backups?|copies|data stores?|systems)$`)

// backup reads a schedule.
func (r *reader) backup(s *sentence, c cycle, chunk, before string) {
	of := subject(before, chunk, s.lower)
	if of == "" && s.continues || s.before != nil && reIt.MatchString(s.lower) && subject(before, "", "") == "" {
		if x := subject(s.before.lower, "", ""); x != "" {
			of = x
		}
	}
	const check = "schedule: every slot is expected beforehand, and missed when nobody did it"
	lead := strings.TrimSpace(s.lower[:min(len(s.lower), c.start)])
	if m := reNamed.FindStringSubmatch(s.text); of == "" && m != nil && !reNoStore.MatchString(m[1]) {
		of = slug(m[1])
	}
	if of == "" && s.before != nil && s.before == r.lastCopy && reIt.MatchString(s.lower) {
		of = r.lastBackup
	}
	r.lastCopy = s
	switch {
	case of == "log":
		lag := c.every
		if c.continuous {
			lag = ""
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
		r.lastBackup = "database"
		r.note([]string{"backups", "database", "log", "max_lag"}, strings.Fields(lag)[0], "", "log: how far each location is behind is known at every moment", s.src())
	case c.continuous:
		r.skip(s, "continuously is not a number")
	case reLatest.MatchString(lead):
		r.skip(s, "it speaks of a copy, and not of how often one is made")
	case reOffsite.MatchString(chunk) && !rePrimary.MatchString(before), strings.Contains(chunk, "second copy"):
		if of == "" || strings.Contains(s.lower, "everything") || reOfAll.MatchString(s.lower) {
			of = general
		}
		r.note([]string{"backups", of, "copies", "offsite", "every"}, calendarPeriod(c.every), "", "copies: the loss of each place is computed from what lies there", s.src())
	default:
		if of == "" {
			of = general
		}
		r.lastBackup = of
		if s.clause != "" {
			r.clauseOf[s.clause] = of
		}
		if reAtLeast.MatchString(lead) {
			r.note([]string{"backups", of, "floor"}, calendarPeriod(c.every), "", check, s.src())
			return
		}
		r.note([]string{"backups", of, "every"}, c.every, s.text, check, s.src())
	}
}

var (
	reLatest = regexp.MustCompile(`\b(?:last|latest|previous|most recent|newest)$`)
	reIt     = regexp.MustCompile(`^(?:it|they|this|these|that)\b`)
	reOfAll  = regexp.MustCompile(`copy of (?:all|each|every)|(?:second|third|further|another|additional|offline) (?:copy|copies|set)\b`)
)

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
	reKeep    = regexp.MustCompile(`\b(?:retain(?:ed)?|retention|kept|keep|held|preserved|expire[sd]?|deleted after|stored for|stay(?:s)? available|storage period|available for)\b`)
	reNotKeep = regexp.MustCompile(`evidence|\brecords? (?:of|are|is)\b|\baudit|minutes of|register|competen|informed|log-?in|\breports?\b`)
	reMost    = regexp.MustCompile(`(?:no longer than|at most|not longer than|maximum of|up to)\s*$`)
	reLeast   = regexp.MustCompile(`(?:at least|a minimum of|minimum|no less than)\s*$`)
	reRhythm  = regexp.MustCompile(`\b(hourly|nightly|daily|weekly|monthly) (?:backups?|copies|copy|dumps?|snapshots?|images?)`)
	reRefers  = regexp.MustCompile(`\b(?:section|clause|paragraph|§|no\.?) ?(\d{1,2}(?:\.\d{1,2}){1,3})\b`)
)

// rhythms are how often "nightly copies" are made.
var rhythms = map[string]string{"hourly": "1h", "nightly": "1d", "daily": "1d", "weekly": "1w", "monthly": "1mo"}

// retention reads how long backups are kept.
func (r *reader) retention(s *sentence) {
	loc := reKeep.FindStringIndex(s.lower)
	if loc == nil || s.row || reNotKeep.MatchString(s.lower) || len(s.lower) != len(s.text) {
		return
	}
	follows := strings.HasPrefix(s.lower, "retention") && s.before != nil && s.before == r.lastCopy // what it is about, it says not
	if !follows && !reBackup.MatchString(s.topic()) && subject("", s.lower, s.lower) == "" {
		return
	}
	var last int
	after := s.lengths() // "the storage period is 40 days for the database": what it is about follows
	behind := len(after) > 1 && reForEach.MatchString(s.lower[after[0].end:after[1].start])
	for i, a := range after {
		if reBehind.MatchString(s.lower[a.end:]) {
			continue // how far the log is behind
		}
		if a.start < loc[0] && !strings.Contains(s.lower, "retention") {
			if !reNearKeep.MatchString(s.lower[a.end:]) && !reNearKeep.MatchString(s.lower[max(0, a.start-12):a.start]) {
				continue
			}
		}
		// Each amount has its own subject: "dumps for 35 days, photos for 90 days".
		part := s.lower[max(last, 0):a.start]
		if behind {
			end := len(s.lower)
			if i+1 < len(after) {
				end = after[i+1].start
			}
			part = s.lower[a.end:end]
		}
		last = a.end
		of := r.about(part, s)
		if of == "" && !behind {
			of = r.about(s.lower[:a.start], s)
		}
		if of == "" && r.lastBackup != "" && s.before != nil && reThat.MatchString(s.lower) {
			of = r.lastBackup
		}
		if of == "" && !strings.Contains(part, "all ") && r.lastBackup != "" && s.before != nil && s.before == r.lastCopy && strings.HasPrefix(s.lower, "retention") {
			of = r.lastBackup
		}
		if of == "" {
			of = general
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

var (
	reBehind   = regexp.MustCompile(`^ (?:of )?(?:lag|behind|delay)\b`)
	reForEach  = regexp.MustCompile(`^ for (?:the )?[a-z]`)
	reNearKeep = regexp.MustCompile(`^\s*(?:of (?:that|it|them|these|each)|retention|history)|\b(?:kept|keep|retention:?|retain) $`)
	reThat     = regexp.MustCompile(`\bof (?:that|it|them|these|those)\b|^(?:it|they|these|those|that)\b`)
)

// maxNamed is how many backups of a text are compared with its words.
const maxNamed = 50

// about says which backups a part of a sentence is about: what it names, the clause that
// it refers to, or the ones that are made in the rhythm that it names.
func (r *reader) about(part string, s *sentence) string {
	if ms := reRefers.FindAllStringSubmatch(part, -1); ms != nil {
		if of := r.clauseOf[ms[len(ms)-1][1]]; of != "" {
			return of
		}
	}
	of := subject(part, "", "")
	names := r.draft.below("backups")
	if len(names) > maxNamed {
		names = nil // a generated text: nobody means one of so many by a word
	}
	if of == "" {
		for _, name := range names { // "Matter Data", by the name that it has
			if words := strings.ReplaceAll(name, "-", " "); strings.Contains(part, words) && !slices.ContainsFunc(backupOf, func(b backupKind) bool { return b.id == name }) && name != general {
				of = name
			}
		}
	}
	if v, ok := r.draft.get("backups", "machines", "every"); ok && of == "files" && strings.Contains(part, "images") && strings.Contains(strings.ToLower(v.Source), "image") {
		of = "machines"
	}
	if of == "log" {
		of = "database"
	}
	if m := reRhythm.FindStringSubmatch(part); m != nil && of == "" {
		var made []string
		for _, name := range names {
			if v, ok := r.draft.get("backups", name, "every"); ok && strings.Fields(v.Value)[0] == rhythms[m[1]] {
				made = append(made, name)
			}
		}
		if len(made) == 1 {
			of = made[0]
		}
	}
	return of
}

func digits(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return digits(n/10) + digits(n%10)
}
