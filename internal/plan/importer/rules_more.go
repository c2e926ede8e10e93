package importer

import (
	"slices"
	"strings"
	"unicode"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// roleWords are the roles that policies name.
const roleWords = `(?:(?:major|deputy) )?(?:(?:incident|crisis|emergency|recovery|disaster recovery|technical|communications?|(?:business |service )?continuity|data protection|(?:information )?security|compliance|backup|policy|system|service|infrastructure) (?:commander|manager|lead|leader|officer|co-?ordinator|owner|operator))|executive management|primary on-call|secondary on-call`

const (
	titles   = `(?:(?:Dr|Mr|Ms|Mrs|Prof)\.? )*`
	nameText = titles + `\p{Lu}[\p{L}'’-]+(?: (?:(?:van|von|de|der|den|la|di|da) )*\p{Lu}[\p{L}'’-]+){1,2}`
	standIn  = `(?i:deputy|substitute|replacement|stand-?in|alternate)`
)

var (
	reRoleIs   = regexp.MustCompile(`(?i)^(?:the )?(deputy )?(` + roleWords + `|ic)(?:\s*(?::|[-–—]|\bis(?: the)?\b|\()\s*)(?:the )?([^.;]+?(?:(?:Dr|Mr|Ms|Mrs|Prof)\.[^.;]+?)*)\)?[.;]?$`)
	reRoleComm = regexp.MustCompile(`^(?i:the )?((?i:` + roleWords + `)), (` + nameText + `), `)
	reActsAs   = regexp.MustCompile(`(?i)\b(?:the )?([A-Z][\w-]*(?: [A-Z][\w-]*){0,3}) (?:acts as|serves as|is) (?:the )?(` + roleWords + `)\b`)
	reDeputyIs = regexp.MustCompile(`\b(\p{Lu}\p{L}+(?: \p{Lu}\p{L}+){0,2}) is (?:her|his|their|the) deputy\b`)
	reHerOwn   = regexp.MustCompile(`^(?i:her|his|their|the|its) ` + standIn + ` is (?:the )?(` + nameText + `)`)
	reAbsent   = regexp.MustCompile(`(?i)^(?:in|during) (?:her|his|their) absence,? (?:the )?(.{3,40}?) (?:acts|takes over|does|stands in|deputises)\b`)
	reAway     = regexp.MustCompile(`\b(?:[Ii]f|[Ww]hen) (?:she|he) (?:is|cannot|can't)\b[^,]{0,40}, (` + nameText + `|\p{Lu}\p{L}+) (?:does|do|takes over|steps in|leads)\b`)
	reOfficeOf = regexp.MustCompile(`^(?:the )?[A-Za-z -]{2,40} \((` + nameText + `)\)$`)
	reCrisis   = regexp.MustCompile(`incident|burn|disaster|respon|emergency|crisis|outage|who does what|down`)
	reLeads    = regexp.MustCompile(`^(\p{Lu}\p{L}+(?: (?:(?:van|von|de|der) )*\p{Lu}\p{L}+)?) (?:leads|runs the show|is in charge|takes command)\b`)
)

const checkRole = "roles: a holder and a deputy, and no chain that ends in one person"

// people reads who holds a role. "Her deputy is …" is about the role that the sentence
// before named.
func (r *reader) people(s *sentence) {
	if s.row {
		return
	}
	lead := func(role string) {
		if role != "" {
			r.leader, r.leaderIn = role, s
		}
	}
	if m := reRoleIs.FindStringSubmatch(s.text); m != nil && !(s.line <= early && reOwner.MatchString(s.text)) {
		role, holder := roleID(m[2]), m[3]
		if role == "ic" {
			role = "incident_commander"
		}
		name, deputy := holder, ""
		if at := reAnd.FindStringIndex(holder); at != nil {
			name, deputy = holder[:at[0]], strings.Trim(holder[at[1]:], " :)")
		}
		who := "holder"
		if m[1] != "" {
			who = "deputy"
		}
		if of := reOfficeOf.FindStringSubmatch(strings.TrimSpace(name)); of != nil {
			name = of[1]
		}
		if r.person(role, who, name, s) {
			lead(role)
		}
		if deputy != "" {
			r.person(role, "deputy", deputy, s)
		}
		return
	}
	if m := reRoleComm.FindStringSubmatch(s.text); m != nil {
		if r.person(roleID(m[1]), "holder", m[2], s) {
			lead(roleID(m[1]))
		}
	}
	if m := reActsAs.FindStringSubmatch(s.text); m != nil {
		if r.person(roleID(m[2]), "holder", m[1], s) {
			lead(roleID(m[2]))
		}
	}
	if m := reLeads.FindStringSubmatch(s.text); m != nil && reCrisis.MatchString(s.topic()) {
		r.person("incident_commander", "holder", r.fullName(m[1]), s)
		lead("incident_commander")
	}
	if m := reDeputyIs.FindStringSubmatch(s.text); m != nil && r.leader != "" {
		r.person(r.leader, "deputy", r.fullName(m[1]), s)
	}
	if r.leader == "" || s.before == nil || s.before != r.leaderIn {
		return
	}
	for _, re := range []*regexp.Regexp{reHerOwn, reAbsent, reAway} {
		if m := re.FindStringSubmatch(s.text); m != nil {
			r.person(r.leader, "deputy", r.fullName(m[1]), s)
			return
		}
	}
}

// reAnd is what stands between a holder and the deputy.
var reAnd = regexp.MustCompile(`(?i)(?:, ?| ?\()(?:deputy|substitute|replacement|alternate|stand-in)\b:?`)

// fullName completes a first name by a full one that the document used before.
func (r *reader) fullName(s string) string {
	if strings.Contains(s, " ") {
		return s
	}
	re := regexp.MustCompile(`\b` + regexp.QuoteMeta(s) + ` ([A-Z]\p{Ll}+)\b`)
	for _, x := range r.doc.sentences {
		if m := re.FindString(x.text); m != "" {
			return m
		}
	}
	return s
}

func (r *reader) person(role, who, name string, s *sentence) bool {
	id, shown := personID(name)
	if role == "" || id == "" {
		return false
	}
	return r.note([]string{"roles", role, who}, id, shown, checkRole, s.src())
}

var (
	reAuthority  = regexp.MustCompile(`authorit|\bico\b|regulators?\b|commission(?:er)?\b|supervisory|data protection agency|autoriteit|\bcnil\b|\bdpa\b`)
	reNotify     = regexp.MustCompile(`notif|reported|reports? (?:to|it)|(?:shall|must|to|we) report\b|report to|inform|\btold\b|\btell|hears?\b|\bhear from|get an e-?mail|e-?mailed|post on|post to|status page|banner|read about`)
	reCustomers  = regexp.MustCompile(`customers?|clients?|bakeries|users|tenants|controllers?|visitors|shippers|parents|merchants|patients|physicians|residents|citizens|members|subscribers|guests|passengers|partners|the institution|status page|banner`)
	reAck        = regexp.MustCompile(`\backs?\b|acknowledg|\banswer(?:s|ed)?\b|picks? up|reacts?\b|responds? (?:to|within)`)
	reEscalate   = regexp.MustCompile(`escalat|secondary (?:is|gets)|pages? the|\bpaged\b|next (?:person|level)|(?:nobody|no one) (?:picks up|answers)|\bno (?:ack|answer)|rings at|call goes to`)
	rePostReview = regexp.MustCompile(`\breview|retrospective|post-?mortem|debrief|root cause|final report|lessons`)
	reIncident   = regexp.MustCompile(`incident|crisis|outage|emergenc|post-?mortem|root cause|pager|on-call`)
	reWithin     = regexp.MustCompile(`\bwithin\b|\bafter (?:another )?|no later than|not later than|\bin\b|at the latest`)
	reBreach     = regexp.MustCompile(`breach|personal data|personal information|data protection|leak|exposed|got out|gdpr|\bdata (?:violation|loss|incident)`)
)

// clocks read by when somebody is told, or answers. Each length of time has the words
// before it, from the one before on, and those after it up to the next.
func (r *reader) clocks(s *sentence) {
	as := s.lengths()
	if len(s.lower) != len(s.text) || s.row {
		return
	}
	for i, a := range as {
		from, to := 0, len(s.lower)
		if i > 0 {
			from = as[i-1].end
		}
		if i+1 < len(as) {
			to = as[i+1].start
		}
		r.clock(s, a, s.lower[from:a.start], s.lower[a.end:to])
	}
	if reCustomers.MatchString(s.lower) && reNotify.MatchString(s.lower) {
		for _, c := range s.cycles() {
			if !c.continuous && shortStep(c.every) {
				r.note([]string{"incidents", "updates", "every"}, strings.Fields(c.every)[0], "", "messages: what is due is written down before it is sent", s.src())
			}
		}
	}
}

func (r *reader) clock(s *sentence, a amount, before, after string) {
	const check = "clocks: begin with the incident, and what is due is shown until it was sent"
	all := before + after
	within := reWithin.MatchString(s.lower)
	switch {
	case within && reNotify.MatchString(s.lower) && reAuthority.MatchString(s.lower) || within && reAuthority.MatchString(before) && reBreach.MatchString(s.lower):
		id, law := "data-breach", ""
		switch {
		case strings.Contains(s.lower, "gdpr"):
			law = "GDPR"
		case strings.Contains(s.lower, "nis2") || strings.Contains(s.lower, "nis 2"):
			id, law = "nis2", "NIS2"
		}
		r.note([]string{"obligations", id, "notify_within"}, a.value, "", check, s.src())
		r.note([]string{"obligations", id, "law"}, law, "", check, s.src())
	case reEscalate.MatchString(all) && !(reAck.MatchString(before) && !reEscalate.MatchString(before)):
		r.note([]string{"oncall", "escalate_after"}, a.value, "", "on-call: the next is called when nobody answers", s.src())
	case within && reAck.MatchString(before) && !reBackup.MatchString(before):
		r.note([]string{"oncall", "ack_within"}, a.value, "", "on-call: paged until somebody answers", s.src())
	case within && rePostReview.MatchString(all) && reIncident.MatchString(s.topic()):
		r.note([]string{"incidents", "review", "due"}, a.value, "", "incidents: closing waits for the review", s.src())
	case within && reCustomers.MatchString(all) && reNotify.MatchString(all) && !marksNumber(s) && !reTesting.MatchString(s.lower):
		r.note([]string{"obligations", "customer-notice", "notify_within"}, a.value, "", check, s.src())
		r.note([]string{"obligations", "customer-notice", "law"}, "promise to customers", "", check, s.src())
	}
}

// marksNumber reports whether the sentence promises a recovery.
func marksNumber(s *sentence) bool {
	return slices.ContainsFunc(marksIn(s.lower), func(m mark) bool { return !m.weak })
}

var (
	reCipher = regexp.MustCompile(`(?i)\b(AES[- ]?(?:128|192|256)(?:[- ]?(?:GCM|CBC))?|ChaCha20(?:-Poly1305)?)\b`)
	reTLS    = regexp.MustCompile(`(?i)\bTLS\s*(?:version\s*|v|>=\s*|≥\s*)?(1\.[23])`)
	reMFA    = regexp.MustCompile(`(?i)\b(?:MFA|multi-?factor|two-factor|2FA|second factor)\b`)
)

// encryption reads ciphers and protocols.
func (r *reader) encryption(s *sentence) {
	if m := reCipher.FindString(s.text); m != "" && !strings.HasPrefix(s.text, "Every backup is compressed and sealed") {
		r.note([]string{"repository", "stated"}, m, "", "encryption: every pack is sealed with AES-256-GCM; other ciphers stand as words", s.src())
	}
	if m := reTLS.FindStringSubmatch(s.text); m != nil && !strings.HasPrefix(s.text, "Every backup is compressed") {
		r.note([]string{"repository", "tls_min"}, m[1], "", "locations: an older protocol is refused", s.src())
	}
	if reMFA.MatchString(s.text) {
		r.note([]string{"measures", "mfa", "stated"}, clip(s.text), "", "attestation by a person", s.src())
	}
}

var (
	placeNames = `Germany|Ireland|France|Sweden|Finland|Norway|Denmark|Netherlands|Belgium|Poland|Spain|Italy|Austria|Switzerland|United Kingdom|Iceland|Frankfurt|Dublin|Paris|Stockholm|Helsinki|Oslo|Copenhagen|Amsterdam|Brussels|Warsaw|Madrid|Milan|Vienna|Zurich|London|Leeds|Bristol|Manchester|Edinburgh|Berlin|Munich|Falkenstein|Nuremberg|Gothenburg|Virginia|Oregon|Ohio|Toronto|Montreal|Singapore|Tokyo|Sydney`
	rePlace    = regexp.MustCompile(`\b(` + placeNames + `)\b`)
	reStored   = regexp.MustCompile(`back(?:ed)?[- ]?up|cop(?:y|ies|ied)|replicat|mirror|stored|written|database|region|data cent|goes to|held|driven to|mirror|\bpulled\b|synced|\bsent\b|carried`)
)

// places reads where copies and data lie: the places that it knows by name, and what
// stands after "in" or before "data centre".
func (r *reader) places(s *sentence) {
	if s.row || !reStored.MatchString(s.lower) {
		return
	}
	const check = "locations: copies that share a region count once"
	for _, m := range rePlace.FindAllString(s.text, -1) {
		r.note([]string{"locations", slug(m), "region"}, m, "", check, s.src())
	}
	for _, re := range []*regexp.Regexp{reInPlace, rePlaceOf, reAndPlace} {
		for _, m := range re.FindAllStringSubmatchIndex(s.text, -1) {
			name := s.text[m[2]:m[3]]
			rest := strings.TrimLeft(s.text[m[3]:], " ")
			if reNoPlace.MatchString(name) || reVendor.MatchString(name) || rest != "" && unicode.IsUpper([]rune(rest)[0]) && re == reInPlace || strings.HasPrefix(s.text[m[3]:], "-") || strings.HasPrefix(s.text[m[3]:], "'") {
				continue
			}
			r.note([]string{"locations", slug(name), "region"}, name, "", check, s.src())
		}
	}
}

var (
	reInPlace  = regexp.MustCompile(`\b(?:in|to|at|into|(?:centre|center|site|hall|region)) (?:the )?(\p{Lu}\p{Ll}{3,})\b`)
	reAndPlace = regexp.MustCompile(`\b(?:in|to|at) \p{Lu}\p{Ll}{3,} and (\p{Lu}\p{Ll}{3,})\b`)
	rePlaceOf  = regexp.MustCompile(`\b(\p{Lu}\p{Ll}{3,}) (?:data ?cent(?:re|er)|site|region|computing cent)\b`)
	reNoPlace  = regexp.MustCompile(`^(?:January|February|March|April|June|July|August|September|October|November|December|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Section|Annex|Article|Clause|Appendix|Chapter|Table|Tier|Class|Level|Data|Matter|Backups?|Cop(?:y|ies)|Database|Postgres|Redis|Kubernetes|Terraform|Kafka|Elasticsearch|Oracle|Windows|Linux|English|European?|Primary|Secondary|Production|Staging|Recovery|Disaster|Service|Provider|Agreement|Policy|Management|This|These|That|Each|Every|Main|Second|Other|Another|Remote|Standby|Spare|Central|Local|Online|Offline)$`)
)

const (
	starts  = `(?:activat(?:es?|ion of|ed?)|declares?|declared|invokes?|invocation of|starts?|triggers?)`
	started = `(?:(?:emergency |recovery |continuity |disaster |business |this |the |a |an )*(?:plan|policy|concept|directive|disaster|recovery|emergency|crisis|handbook))\b`
)

var (
	reActivate = regexp.MustCompile(`(?i)^(?:only )?(?:the |an? |any |either )?([a-z][a-z -]{1,40}?)(?: alone)?(?: may| can| shall| is authori[sz]ed to| decides? (?:to|about|on)(?: the)?| has the authority to)? ` + starts + ` ` + started)
	reDecides  = regexp.MustCompile(`(?i)(?:^|, )(?:only )?(?:the |an? |any |either )?([a-z][a-z -]{1,40}?) decides? (?:whether|if|when) (?:we (?:move|switch|fail over) to|(?:a |the )?(?:disaster|emergency|crisis|plan|recovery plan) (?:is|has to be))`)
	reByWhom   = regexp.MustCompile(`(?i)(?:plan|policy|concept|directive|disaster|emergency|crisis|recovery) (?:is|may be|can be|shall be|must be) (?:activated|declared|invoked|started|triggered) (?:only )?by (?:the |an? )?([a-z][a-z -]{2,40}?)(?: or (?:the )?([a-z][a-z -]{2,40}?))?[.,]?$`)
)

// activation reads who may start a recovery.
func (r *reader) activation(s *sentence) {
	if s.row {
		return
	}
	const check = "activation: only these may start a recovery"
	who := []string{}
	if m := reActivate.FindStringSubmatch(s.text); m != nil {
		who = orList(m[1])
	} else if m := reDecides.FindStringSubmatch(s.text); m != nil {
		who = orList(m[1])
	} else if m := reByWhom.FindStringSubmatch(s.text); m != nil {
		who = append(who, m[1], m[2])
	} else if rest, ok := strings.CutPrefix(s.text, "A recovery may be started by: "); ok {
		who = strings.Split(strings.TrimSuffix(rest, "."), ", ")
	}
	n := 0
	for _, w := range who {
		id := slug(w)
		if strings.Contains(w, "_") {
			id = w
		} else if reOffice.MatchString(w) && !strings.Contains(w, "-") {
			id = roleID(w) // as "roles" writes it
		}
		if id == "" || strings.Contains(id, "nobody") || id == "no" || id == "you" || id == "we" || id == "plan" || id == "it" || reNotWho.MatchString(id) {
			continue
		}
		n++
		r.note([]string{"activation", "by", digits(n)}, id, "", check, s.src())
	}
}

// reNotWho is a subject that starts something and holds no office.
var reNotWho = regexp.MustCompile(`^(?:(?:if|when|once|after|whoever|this|that|they|everybody|anyone|it|there|which|who)\b|(?:event|incident|system)$)`)

// orList takes "the CTO or the incident commander" apart.
func orList(s string) []string {
	var out []string
	for _, w := range strings.Split(s, " or ") {
		out = append(out, strings.TrimPrefix(strings.TrimSpace(w), "the "))
	}
	return out
}

// reSupplies is a company that the text calls a supplier, or in whose hands it puts data.
var reSupplies = regexp.MustCompile(`\b(?:hosting company|company|provider|supplier|vendor|processor|archived with|hosted (?:by|with|at)|operated by|contract with) (?:the company )?(\p{Lu}[\p{L}\p{N}&-]+(?: (?:\p{Lu}[\p{L}\p{N}&/.-]*|A/S))?)`)

var reVendor = regexp.MustCompile(`\b(AWS|Amazon Web Services|Microsoft Azure|Azure|Arkivum|Iron Mountain|Vercel|Netlify|Linode|Vultr|IONOS|Infomaniak|T-Systems|Zendesk|Statuspage|Veeam Cloud|Microsoft 365|Google Workspace|Google Cloud|GCP|Hetzner|OVH(?:cloud)?|Scaleway|DigitalOcean|Exoscale|UpCloud|Cloudflare|Fastly|Heroku|Fly\.io|Render\.com|GitHub|GitLab|Bitbucket|Stripe|Adyen|Twilio|SendGrid|Postmark|Mailgun|Mailjet|OpenAI|Anthropic|Mistral|Slack|PagerDuty|Opsgenie|Atlassian|Okta|Auth0|Datadog|Sentry|Backblaze|Wasabi|Elastic Cloud|MongoDB Atlas|Supabase|Neon)\b`)

// suppliers reads the companies that something depends on. It knows some by name.
func (r *reader) suppliers(s *sentence) {
	if s.row {
		return
	}
	for _, m := range reVendor.FindAllString(s.text, -1) {
		src := s.src()
		src.text = m
		r.note([]string{"suppliers", slug(m)}, "named", "", "suppliers: their guarantee against what depends on them", src)
	}
	for _, m := range reSupplies.FindAllStringSubmatch(s.text, -1) {
		if reVendor.MatchString(m[1]) || reNoPlace.MatchString(strings.Fields(m[1])[0]) || strings.HasPrefix(s.lower, "company:") {
			continue
		}
		src := s.src()
		src.text = m[1]
		r.note([]string{"suppliers", slug(m[1])}, "named", "", "suppliers: their guarantee against what depends on them", src)
	}
}

var reMail = regexp.MustCompile(`[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)`)

// contacts reads addresses of the company.
func (r *reader) contacts(s *sentence) {
	if s.row || !strings.Contains(s.lower, "contact") && !strings.Contains(s.lower, "e-mail") {
		return
	}
	if m := reMail.FindString(s.text); m != "" {
		r.note([]string{"org", "contacts", "email"}, m, "", "contacts: proved by an answered test message", s.src())
	}
}

// A standard is a framework with the form of its clauses.
type standard struct {
	id      string
	name    *regexp.Regexp
	edition *regexp.Regexp
	prefix  string
	clause  *regexp.Regexp
}

var standards = []standard{
	{"iso27001", regexp.MustCompile(`\bISO(?:/IEC)? ?27001\b`), regexp.MustCompile(`\bISO(?:/IEC)? ?27001:(\d{4})`), "", regexp.MustCompile(`\bA\.\d{1,2}\.\d{1,2}(?:\.\d{1,2})?\b`)},
	{"soc2", regexp.MustCompile(`\bSOC ?2\b`), nil, "", regexp.MustCompile(`\b(?:CC\d\.(?:\d{1,2}|x)|A1\.[1-3]|PI1\.\d|C1\.\d)`)},
	{"nist80053", regexp.MustCompile(`\bNIST(?: SP)? ?800-53\b`), regexp.MustCompile(`800-53,? [Rr]ev(?:ision)?\.? ?(\d)`), "rev", regexp.MustCompile(`\b(?:CP|SC|IR|AU|AC|CM|SI|RA|PL|PE|SA)-\d{1,2}(?:\(\d+\))?`)},
	{"iec62443", regexp.MustCompile(`\bIEC ?62443\b`), nil, "", regexp.MustCompile(`\bSR ?\d\.\d{1,2}\b`)},
	{"hipaa", regexp.MustCompile(`\bHIPAA\b`), nil, "", regexp.MustCompile(`\b164\.308\(a\)\(7\)(?:\(i{1,3}\)(?:\([A-E]\))?)?`)},
	{"gdpr", regexp.MustCompile(`\bGDPR\b`), nil, "", nil},
	{"nis2", regexp.MustCompile(`\bNIS ?2\b`), nil, "", nil},
	{"dora", regexp.MustCompile(`\bDORA\b`), nil, "", nil},
}

// frameworks reads the standards and clauses that the document cites.
func (r *reader) frameworks() {
	for _, st := range standards {
		var first *sentence
		edition := ""
		var at *sentence
		for _, s := range r.doc.sentences {
			if s.meta && !s.row || s.derived {
				continue
			}
			if first == nil && (st.name.MatchString(s.text) || st.clause != nil && st.clause.MatchString(s.text)) {
				first = s
			}
			if st.edition != nil && edition == "" {
				if m := st.edition.FindStringSubmatch(s.text); m != nil {
					edition, at = st.prefix+m[1], s
				}
			}
		}
		if first == nil || !r.named(st) {
			continue
		}
		if st.id != "gdpr" {
			value := "cited"
			if edition != "" {
				value, first = edition, at
			}
			r.note([]string{"frameworks", st.id}, value, "", "controls: each needs a proof that is mapped to it", first.src())
		}
		if st.clause == nil {
			continue
		}
		for _, s := range r.doc.sentences {
			for _, c := range st.clause.FindAllString(s.text, -1) {
				if strings.HasSuffix(c, ".x") || st.id == "nist80053" && !aligned(st, s) || s.derived {
					continue
				}
				r.note([]string{"controls", st.id + "/" + strings.ReplaceAll(c, " ", "-")}, "cited", "", "control: needs a proof", s.src())
			}
		}
	}
}

// named reports whether the document names the standard itself.
func (r *reader) named(st standard) bool {
	for _, s := range r.doc.sentences {
		if st.name.MatchString(s.text) || s.row && strings.Contains(s.lower, st.id) {
			return true
		}
	}
	return false
}

// aligned reports whether a sentence belongs to the table or sentence that names its
// standard; short codes such as SC-12 alone may be anything.
func aligned(st standard, s *sentence) bool {
	return st.name.MatchString(s.text) || s.row && strings.Contains(s.lower, st.id)
}
