package importer

import (
	"slices"
	"strings"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// roleWords are the roles that policies name.
const roleWords = `incident commander|incident manager|incident lead|technical lead|communications? (?:owner|lead)|policy owner|security officer|compliance officer|data protection officer|recovery manager|recovery lead|backup operator|system owner|service owner|executive management|crisis manager|primary on-call|secondary on-call`

var (
	reRoleIs   = regexp.MustCompile(`(?i)^(?:the )?(deputy )?(` + roleWords + `)(?:\s*(?::|[-–—]|\bis(?: the)?\b|\()\s*)(?:the )?([^.;]+?)\)?[.]?$`)
	reActsAs   = regexp.MustCompile(`(?i)\b(?:the )?([A-Z][\w-]*(?: [A-Z][\w-]*){0,3}) (?:acts as|serves as|is) (?:the )?(` + roleWords + `)\b`)
	reDeputyIs = regexp.MustCompile(`\b([A-Z]\p{L}+(?: [A-Z]\p{L}+){0,2}) is (?:her|his|their|the) deputy\b`)
	reCrisis   = regexp.MustCompile(`incident|burn|disaster|respon|emergency|crisis`)
	reLeads    = regexp.MustCompile(`^([A-Z]\p{L}+(?: [A-Z]\p{L}+)?) leads\b`)
)

const checkRole = "roles: a holder and a deputy, and no chain that ends in one person"

// people reads who holds a role.
func (r *reader) people(s *sentence) {
	if s.row {
		return
	}
	if m := reRoleIs.FindStringSubmatch(s.text); m != nil {
		role, holder := roleID(m[2]), m[3]
		name, deputy, _ := strings.Cut(holder, ", deputy")
		if before, after, ok := strings.Cut(name, "(deputy"); ok {
			name, deputy = before, strings.Trim(after, " :)")
		}
		who := "holder"
		if m[1] != "" {
			who = "deputy"
		}
		r.person(role, who, name, s)
		if deputy != "" {
			r.person(role, "deputy", strings.TrimLeft(deputy, " :)"), s)
		}
		return
	}
	if m := reActsAs.FindStringSubmatch(s.text); m != nil {
		r.person(roleID(m[2]), "holder", m[1], s)
	}
	if m := reLeads.FindStringSubmatch(s.text); m != nil && reCrisis.MatchString(s.topic()) {
		r.person("incident_commander", "holder", r.fullName(m[1]), s)
		r.leader = "incident_commander"
	}
	if m := reDeputyIs.FindStringSubmatch(s.text); m != nil && r.leader != "" {
		r.person(r.leader, "deputy", r.fullName(m[1]), s)
	}
}

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
	reAuthority  = regexp.MustCompile(`authorit|\bico\b|regulator|commissioner|supervisory|data protection agency`)
	reNotify     = regexp.MustCompile(`notif|report|inform|\btold\b|\btell|hears? from`)
	reCustomers  = regexp.MustCompile(`customers?|clients?|bakeries|users|tenants|controllers?`)
	reAck        = regexp.MustCompile(`acknowledg|answers|responds? to (?:an? |the )?(?:page|alert|call)`)
	reEscalate   = regexp.MustCompile(`escalat|secondary (?:is|gets)|next (?:person|level)`)
	rePostReview = regexp.MustCompile(`review|retrospective|post-?mortem`)
	reWithin     = regexp.MustCompile(`\bwithin\b|\bafter (?:another )?|no later than|\bin\b`)
)

// clocks read by when somebody is told, or answers.
func (r *reader) clocks(s *sentence) {
	as := s.amounts()
	if len(as) == 0 || s.row || !reWithin.MatchString(s.lower) || len(s.lower) != len(s.text) {
		return
	}
	first := as[0]
	const check = "clocks: begin with the incident, and what is due is shown until it was sent"
	switch {
	case reNotify.MatchString(s.lower) && reAuthority.MatchString(s.lower):
		r.note([]string{"obligations", "data-breach", "notify_within"}, first.value, "", check, s.src())
		law := "personal data breach"
		if strings.Contains(s.lower, "gdpr") {
			law = "GDPR"
		}
		if law == "GDPR" {
			r.note([]string{"obligations", "data-breach", "law"}, law, "", check, s.src())
		}
	case reEscalate.MatchString(s.lower):
		r.note([]string{"oncall", "escalate_after"}, first.value, "", "on-call: the next is called when nobody answers", s.src())
	case reAck.MatchString(s.lower) && !reBackup.MatchString(s.lower):
		r.note([]string{"oncall", "ack_within"}, first.value, "", "on-call: paged until somebody answers", s.src())
	case rePostReview.MatchString(s.lower) && strings.Contains(s.topic(), "incident"):
		r.note([]string{"incidents", "review", "due"}, first.value, "", "incidents: closing waits for the review", s.src())
	case reCustomers.MatchString(s.lower) && reNotify.MatchString(s.lower) && !marksNumber(s):
		r.note([]string{"obligations", "customer-notice", "notify_within"}, first.value, "", check, s.src())
		r.note([]string{"obligations", "customer-notice", "law"}, "promise to customers", "", check, s.src())
	}
	if reCustomers.MatchString(s.lower) && reNotify.MatchString(s.lower) {
		for _, c := range s.cycles() {
			if !c.continuous && strings.ContainsAny(strings.Fields(c.every)[0], "mh") && !strings.Contains(c.every, "mo") {
				r.note([]string{"incidents", "updates", "every"}, strings.Fields(c.every)[0], "", "messages: what is due is written down before it is sent", s.src())
			}
		}
	}
}

// marksNumber reports whether the sentence promises a recovery.
func marksNumber(s *sentence) bool {
	return slices.ContainsFunc(marksIn(s.lower), func(m mark) bool { return !m.weak })
}

var (
	reCipher = regexp.MustCompile(`(?i)\b(AES[- ]?(?:128|192|256)(?:[- ]?(?:GCM|CBC))?|ChaCha20(?:-Poly1305)?)\b`)
	reTLS    = regexp.MustCompile(`(?i)\bTLS\s*(?:version\s*|v|>=\s*|≥\s*)?(1\.[0-3])`)
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
	reStored   = regexp.MustCompile(`back(?:ed)?[- ]?up|cop(?:y|ies|ied)|replicat|mirror|stored|written|database|region|data cent|goes to|held`)
)

// places reads where copies and data lie.
func (r *reader) places(s *sentence) {
	if s.row || !reStored.MatchString(s.lower) {
		return
	}
	for _, m := range rePlace.FindAllString(s.text, -1) {
		r.note([]string{"locations", slug(m), "region"}, m, "", "locations: copies that share a region count once", s.src())
	}
}

var (
	reActivate = regexp.MustCompile(`(?i)^(?:only )?(?:the |an? |any |either )?([a-z][a-z -]{2,30}?)(?: may| can| is authori[sz]ed to| decides to)? (?:activates?|declares?|invokes?|starts?|activate|declare|invoke|start) (?:the |this |a )?(?:plan|disaster|recovery|emergency)\b`)
	reByWhom   = regexp.MustCompile(`(?i)(?:plan|disaster|recovery) (?:is|may be|can be) (?:activated|declared|invoked|started) (?:only )?by (?:the |an? )?([a-z][a-z -]{2,30}?)(?: or (?:the )?([a-z][a-z -]{2,30}?))?[.,]?$`)
)

// activation reads who may start a recovery.
func (r *reader) activation(s *sentence) {
	if s.row {
		return
	}
	const check = "activation: only these may start a recovery"
	who := []string{}
	if m := reActivate.FindStringSubmatch(s.text); m != nil {
		who = append(who, m[1])
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
		}
		if id == "" || strings.Contains(id, "nobody") || id == "no" || id == "you" || id == "we" || id == "plan" || id == "it" {
			continue
		}
		n++
		r.note([]string{"activation", "by", digits(n)}, id, "", check, s.src())
	}
}

var reVendor = regexp.MustCompile(`\b(AWS|Amazon Web Services|Azure|Microsoft 365|Google Workspace|Google Cloud|GCP|Hetzner|OVH(?:cloud)?|Scaleway|DigitalOcean|Exoscale|UpCloud|Cloudflare|Fastly|Heroku|Fly\.io|Render\.com|GitHub|GitLab|Bitbucket|Stripe|Adyen|Twilio|SendGrid|Postmark|Mailgun|Mailjet|OpenAI|Anthropic|Mistral|Slack|PagerDuty|Opsgenie|Atlassian|Okta|Auth0|Datadog|Sentry|Backblaze|Wasabi|Elastic Cloud|MongoDB Atlas|Supabase|Neon)\b`)

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
