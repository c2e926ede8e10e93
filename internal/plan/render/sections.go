package render

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/plan"
)

// A section writes one part of the document.
type section struct {
	title    string // in the general style
	internal bool   // left out of the public edition
	tells    []string
	write    func(w *writer)
}

// sections, by the ids that styles name. tells are the values of the plan, as
// patterns of paths, that the section has words for; the rest goes to the annex.
var sections map[string]section

func init() {
	// By init, because the annex asks what all others tell.
	sections = map[string]section{
		"control": {title: "Document control", write: (*writer).control,
			tells: []string{"apiVersion", "plan.id", "plan.version", "plan.owner", "plan.approvers.*", "plan.label", "plan.controls.*", "org.name", "org.timezone"}},
		"purpose":     {title: "Purpose", write: (*writer).purpose},
		"scope":       {title: "Scope", write: (*writer).scope, tells: []string{"scenarios.*.detection_delay", "scenarios.*.lose.*", "scenarios.*"}},
		"definitions": {title: "Definitions", write: (*writer).definitions},
		"roles": {title: "Roles and responsibilities", write: (*writer).roles,
			tells: []string{"roles.*.holder", "roles.*.deputy", "roles.*.may.*", "people.*.name", "people.*.email", "people.*.phone", "people.*"}},
		"objectives": {title: "Recovery objectives", write: (*writer).objectives,
			tells: []string{"tiers.*.rto", "tiers.*.rpo", "tiers.*.mtd", "tiers.*", "tiers.*.scenarios.*.rto", "tiers.*.scenarios.*.rpo", "tiers.*.scenarios.*.mtd", "severities.*.rto", "severities.*.rpo", "severities.*.text", "scenarios.*.rto", "scenarios.*.rpo"}},
		"impact":    {title: "Business impact", write: (*writer).impact, tells: []string{"services.*.bia.impact.**", "services.*.bia.loss_impact.**", "services.*.bia.by", "services.*.bia.on", "services.*.bia.tolerable"}},
		"inventory": {title: "Services, stores and dependencies", write: (*writer).inventory, tells: []string{"services.*.tier", "services.*.owner", "services.*.needs.*", "services.*.runbook", "services.*", "stores.*.kind", "stores.*.tier", "stores.*.owner", "stores.*.class", "stores.*.protect"}},
		"backup": {title: "Backup schedule and configuration", write: (*writer).backup,
			tells: []string{"backups.*.every", "backups.*.log.max_lag", "backups.*.copies.*", "backups.*.copies.*.every", "backups.*.keep", "backups.*.takes"}},
		"retention": {title: "Retention", write: (*writer).retention,
			tells: []string{"classes.*.keep_min", "classes.*.keep_max", "classes.*.standard_retention", "repository.standard_retention", "backups.*.retention.why"}},
		"encryption":    {title: "Encryption and keys", write: (*writer).encryption, tells: []string{"keys.*.recipient", "keys.*.holders.*", "keys.*.offline", "repository.id", "repository.encrypt_to.*", "repository.allow_one_recipient", "repository.dedup_epoch"}},
		"locations":     {title: "Locations", write: (*writer).locations, tells: []string{"locations.*.kind", "locations.*.path", "locations.*.provider", "locations.*.account", "locations.*.region", "locations.*.domain", "locations.*.jurisdiction", "locations.*.s3.lock"}},
		"tests":         {title: "Restore tests and exercises", write: (*writer).tests, tells: []string{"drills.*.of.*", "drills.*.every", "drills.*.pick", "drills.*.rung", "drills.*.fresh_for", "exercises.*.kind", "exercises.*.every", "exercises.*.after.*", "exercises.*.scenarios.*", "exercises.*.covers.*"}},
		"recovery":      {title: "Recovery order and procedures", write: (*writer).recovery, tells: []string{"runbooks.*.detect", "runbooks.*.steps.**", "stores.*.recover.to"}},
		"activation":    {title: "Activation", write: (*writer).activation, tells: []string{"activation.automatic.*", "activation.by.*", "activation.confirm_after"}},
		"incidents":     {title: "Incidents", write: (*writer).incidents},
		"communication": {title: "Communication", write: (*writer).communication, tells: []string{"incidents.updates.every", "obligations.*.law", "obligations.*.notify_within", "obligations.*.clock", "obligations.*.authority"}},
		"suppliers":     {title: "Suppliers", write: (*writer).suppliers, tells: []string{"suppliers.*.name", "suppliers.*.provides", "suppliers.*.criticality", "suppliers.*.rto", "suppliers.*.rpo", "suppliers.*.contingency", "suppliers.*"}},
		"facilities":    {title: "Facilities", write: (*writer).facilities},
		"customers":     {title: "Customers and contracts", write: (*writer).customers, internal: true},
		"people":        {title: "People, training and on-call", write: (*writer).people, tells: []string{"oncall.primary.*", "oncall.secondary.*", "oncall.ack_within"}, internal: true},
		"risks":         {title: "Risks", write: (*writer).risks, tells: []string{"risks.*.event", "risks.*.likelihood", "risks.*.impact", "risks.*.treat", "risks.*.by.*", "risks.*.owner"}, internal: true},
		"exceptions": {title: "Exceptions", write: (*writer).exceptions, internal: true,
			tells: []string{"exceptions.*.rule", "exceptions.*.of", "exceptions.*.why", "exceptions.*.by", "exceptions.*.approved_by.*", "exceptions.*.from", "exceptions.*.until"}},
		"reviews":    {title: "Reviews", write: (*writer).reviews, tells: []string{"plan.review.every", "plan.review.after.*", "reviews.*.of", "reviews.*.every", "reviews.*.after.*", "reviews.*.by.*", "metrics.*.every", "metrics.*.owner", "metrics.*.target", "metrics.*.to.*"}},
		"frameworks": {title: "Frameworks and controls", write: (*writer).frameworks, tells: []string{"controls.*.*", "controls.*"}},
		"history":    {title: "Change history and signatures", write: (*writer).history},
		"measures":   {title: "Other measures", write: (*writer).measures, internal: true},
		"references": {title: "Statements and references", write: (*writer).references, internal: true},
		"annex":      {title: "Annex: everything else that the plan declares", write: (*writer).annex, internal: true},
	}
}

// listed are the parts of the plan that a section lists as what, field and value,
// beside what it has words for.
var listed = map[string][]string{
	"control":       {"plan", "org"},
	"scope":         {"exclusions", "scenarios"},
	"definitions":   {"definitions"},
	"roles":         {"roles", "people", "approvals"},
	"objectives":    {"tiers", "severities", "schemes"},
	"inventory":     {"services", "stores"},
	"backup":        {"backups"},
	"retention":     {"holds", "classes"},
	"encryption":    {"keys", "credentials", "repository"},
	"locations":     {"locations", "residency"},
	"tests":         {"drills", "exercises"},
	"recovery":      {"runbooks"},
	"activation":    {"activation"},
	"incidents":     {"incidents"},
	"communication": {"obligations", "messages"},
	"suppliers":     {"suppliers"},
	"facilities":    {"facilities"},
	"customers":     {"customers", "exit"},
	"people":        {"oncall"},
	"risks":         {"risks", "hazards"},
	"exceptions":    {"exceptions"},
	"reviews":       {"reviews", "metrics"},
	"measures":      {"measures"},
	"references":    {"statements", "documents"},
	"frameworks":    {"frameworks", "controls"},
}

// rest lists what the section has no sentence for.
func (w *writer) rest(id, none string) {
	if w.public {
		return
	}
	var tops []string
	for _, top := range listed[id] {
		if listedBy(top) == id {
			tops = append(tops, top)
		}
	}
	n := w.b.Len()
	if none == "" && slices.ContainsFunc(w.leaves(), func(l leaf) bool { return slices.Contains(tops, l.top()) && !covered(toldValues(), l.pattern) }) {
		w.head("Further")
	}
	w.declared(none, tops...)
	if none == "" && strings.TrimSpace(w.b.String()[n:]) == "" {
		s := w.b.String()[:n]
		w.b.Reset()
		w.b.WriteString(s)
	}
}

// listedBy returns the first section, in the general order, that lists a part.
func listedBy(top string) string {
	for _, id := range generalOrder {
		if slices.Contains(listed[id], top) {
			return id
		}
	}
	return ""
}

// toldValues are the patterns that some section has words for.
var toldValues = sync.OnceValue(func() []string {
	var all []string
	for _, s := range sections {
		all = append(all, s.tells...)
	}
	slices.Sort(all)
	return all
})

func (w *writer) annex() {
	var tops []string
	for _, l := range w.leaves() {
		if listedBy(l.top()) == "" && !slices.Contains(tops, l.top()) {
			tops = append(tops, l.top())
		}
	}
	w.para("What the sections above have no words for, as the plan declares it.")
	w.declared("Nothing: the sections above tell everything.", tops...)
}

func (w *writer) control() {
	p := w.plan
	rows := [][]string{
		{"Organisation", w.or(w.text(p.Org.Name))},
		{"Plan", w.text(p.Plan.ID)},
		{"Version", w.or(w.text(p.Plan.Version))},
		{"Digest", w.digest()},
		{"Owner", w.or(w.who(p.Plan.Owner))},
		{"Approvers", w.or(w.whos(p.Plan.Approvers))},
		{"Reviewed", w.or(w.cadence())},
	}
	if !w.public { // which has a label of its own: it is for everybody
		cites := p.Plan.Controls
		if len(cites) == 0 {
			cites = slices.Sorted(maps.Keys(p.Controls))
		}
		rows = append(rows, []string{"Confidentiality", w.or(w.text(p.Plan.Label))}, []string{"Control references", w.or(w.texts(cites))})
	}
	rows = append(rows, [][]string{
		{"Time zone", w.zone()},
		{"Language", plan.APIVersion},
	}...)
	w.table("", []string{"Item", "Value"}, rows)
	w.para("The digest names the exact text of the plan. Two documents with one digest say the same.")
	w.rest("control", "")
}

// cadence is how often the document is reviewed, or "".
func (w *writer) cadence() string {
	if w.plan.Plan.Review.Every.IsZero() {
		return ""
	}
	return every(period(w.plan.Plan.Review.Every))
}

// digest is the whole digest. It holds no value of the plan, so it is always told.
func (w *writer) digest() string { return "`" + w.plan.Digest() + "`" }

// or stands in for a value that is not declared.
func (w *writer) or(s string) string {
	if s == "" {
		return "not declared"
	}
	return s
}

// who names a role or a person. People have a name and an id; the public edition
// says only that it is a person.
func (w *writer) who(id string) string {
	if id == "" {
		return ""
	}
	if _, ok := w.plan.Roles[id]; ok {
		return w.text(id)
	}
	if w.public {
		return "a named person"
	}
	if person, ok := w.plan.People[id]; ok && person.Name != "" && person.Name != id {
		return w.text(person.Name) + " (" + w.text(id) + ")"
	}
	return w.text(id)
}

// whos names several, each once.
func (w *writer) whos(ids []string) string {
	var out []string
	for _, id := range ids {
		if s := w.who(id); !slices.Contains(out, s) || !w.public {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func (w *writer) purpose() {
	p := w.plan
	name := "The organisation"
	if p.Org.Name != "" {
		name = w.text(p.Org.Name)
	}
	w.para("%s keeps the services and data that are named here recoverable, and proves it. This policy says what is promised, how data is copied, how recovery is rehearsed, who acts when something is lost, and how each promise is checked.", name)
	w.para("A promise counts as kept only when a restore has shown it. What nobody has measured is unknown, never green.")
}

func (w *writer) scope() {
	p := w.plan
	w.para("This policy covers %s and %s.", plural(len(p.Services), "service"), plural(len(p.Stores), "store"))
	if len(p.Services) > 0 {
		w.para("Services: %s.", w.texts(slices.Sorted(maps.Keys(p.Services))))
	}
	if len(p.Stores) > 0 {
		w.para("Stores: %s.", w.texts(slices.Sorted(maps.Keys(p.Stores))))
	}
	w.head("Scenarios")
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Scenarios)) {
		s := p.Scenarios[id]
		lost := w.texts(s.Lose)
		if w.public {
			lost = ""
		}
		rows = append(rows, []string{w.text(id), period(s.DetectionDelay), lost})
	}
	w.table("The plan names no scenario: the objectives hold for the loss of one store.", []string{"Scenario", "Noticed after at most", "Lost"}, rows)
	w.rest("scope", "")
}

func (w *writer) definitions() {
	w.list([]string{
		"**RTO**, recovery time objective: the longest acceptable outage, from the disruption until the service is usable again.",
		"**RPO**, recovery point objective: the oldest acceptable age of recovered data.",
		"**MTD**, maximum tolerable downtime: the outage after which the company is harmed for good.",
		"**Store**: where data lives. **Service**: what users depend on.",
		"**Location**: one place that holds backups. Two locations that fail together count once.",
		"**Recovery point**: an instant to which a store can be brought back from one location alone.",
		"**Receipt**: the countersignature of a copy with the time of its arrival. Retention counts from it.",
		"**Drill**: a restore into a sandbox with checks and a stopwatch. It reaches a **rung** from L0 to L8; a rung that was not climbed is not proven.",
		"**Proved**, **attested** and **claimed**: measured by a machine, vouched for by a person, said by a supplier. They are never merged.",
	})
	w.rest("definitions", "")
}

func (w *writer) roles() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Roles)) {
		r := p.Roles[id]
		deputy := w.who(r.Deputy)
		if deputy == "" {
			deputy = "nobody"
		}
		rows = append(rows, []string{w.text(id), w.or(w.who(r.Holder)), deputy, w.texts(r.May)})
	}
	w.table("The plan declares no role: nobody is named who may decide.", []string{"Role", "Holder", "Deputy", "May"}, rows)
	if w.public {
		return
	}
	defer w.rest("roles", "")
	w.head("People")
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.People)) {
		x := p.People[id]
		rows = append(rows, []string{w.text(id), w.text(x.Name), w.text(x.Email), w.text(x.Phone)})
	}
	w.table("The plan names no person.", []string{"Person", "Name", "E-mail", "Phone"}, rows)
}

func (w *writer) objectives() {
	p := w.plan
	w.para("Labels name a level within one scheme. They carry no order, and labels of two schemes are never compared.")
	var rows, wider [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Tiers)) {
		t := p.Tiers[id]
		rows = append(rows, []string{w.text(id), w.objective(t.RTO), w.objective(t.RPO), periodOr(t.MTD, "not declared")})
		for _, sc := range slices.Sorted(maps.Keys(t.Scenarios)) {
			s := t.Scenarios[sc]
			wider = append(wider, []string{w.text(id), w.text(sc), w.objective(s.RTO), w.objective(s.RPO), periodOr(s.MTD, "not declared")})
		}
	}
	w.head("Scheme: tiers")
	w.table("The plan declares no tier, and so no objective.", []string{"Tier", "RTO", "RPO", "MTD"}, rows)
	if len(wider) > 0 {
		w.head("For a wider loss")
		w.para("In these scenarios the following replaces the objectives of the tier.")
		w.table("", []string{"Tier", "Scenario", "RTO", "RPO", "MTD"}, wider)
	}
	w.severities()
	w.rest("objectives", "")
	w.head("In force for each service and store")
	rows = nil
	for _, id := range p.Nodes() {
		kind := "store"
		if _, ok := p.Services[id]; ok {
			kind = "service"
		}
		rto, rpo, why := p.ObjectiveOf(id)
		if w.public {
			why = ""
		}
		rows = append(rows, []string{w.text(id), kind, w.objective(rto), w.objective(rpo), w.text(stripPlace(why))})
	}
	w.table("No service and no store is declared.", []string{"Name", "Is a", "RTO in force", "RPO in force", "From"}, rows)
}

// severities are the scheme of incidents, and the objectives by what was lost.
func (w *writer) severities() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Severities)) {
		s := p.Severities[id]
		rows = append(rows, []string{w.text(id), w.objective(s.RTO), w.objective(s.RPO), w.text(s.Text)})
	}
	if len(rows) > 0 {
		w.head("Scheme: severities")
		w.table("", []string{"Severity", "RTO", "RPO", "Such as"}, rows)
	}
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Scenarios)) {
		if s := p.Scenarios[id]; !s.RTO.IsZero() || !s.RPO.IsZero() {
			rows = append(rows, []string{w.text(id), w.objective(s.RTO), w.objective(s.RPO)})
		}
	}
	if len(rows) > 0 {
		w.head("By scenario, for everything")
		w.table("", []string{"Scenario", "RTO", "RPO"}, rows)
	}
}

// stripPlace takes file and line from the end of an explanation: the document must
// not depend on where the plan lies.
func stripPlace(why string) string {
	if i := strings.LastIndex(why, ", "); i > 0 && strings.Contains(why[i:], ":") {
		return why[:i]
	}
	return why
}

func (w *writer) inventory() {
	p := w.plan
	w.head("Services")
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[id]
		var needs []string
		for _, n := range slices.Sorted(maps.Keys(s.Needs)) {
			needs = append(needs, w.text(n)+" ("+w.text(string(s.Needs[n]))+")")
		}
		runbook := w.text(s.Runbook)
		if w.public {
			runbook = ""
		}
		rows = append(rows, []string{w.text(id), w.or(w.text(s.Tier)), w.or(w.who(s.Owner)), strings.Join(needs, ", "), runbook})
	}
	w.table("The plan declares no service.", []string{"Service", "Tier", "Owner", "Depends on", "Runbook"}, rows)
	w.para("A service cannot run without what it depends on hard; without a soft dependency it is poorer.")
	w.head("Stores")
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		s := p.Stores[id]
		protect := w.text(s.Protect)
		switch {
		case protect != "":
		case s.NotProtected != "":
			protect = "none, by intent"
		case s.Delegated != nil:
			protect = "by a supplier (claimed)"
		default:
			protect = "no backup declared"
		}
		if protect != "" && s.Protect != "" && !s.Kind.Protected() {
			protect += " (this version cannot back up this kind)"
		}
		rows = append(rows, []string{w.text(id), w.text(string(s.Kind)), w.or(w.text(s.Tier)), w.or(w.who(s.Owner)), w.or(w.text(s.Class)), protect})
	}
	w.table("The plan declares no store.", []string{"Store", "Kind", "Tier", "Owner", "Classification", "Backup policy"}, rows)
	w.rest("inventory", "")
}

func (w *writer) backup() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Backups)) {
		b := p.Backups[id]
		log := "none"
		if b.Log != nil {
			log = "at most " + period(b.Log.MaxLag) + " behind"
		}
		rows = append(rows, []string{w.text(id), w.recurrence(b.Every), log, w.copies(b), periodOr(b.Takes, "not declared"), periodOr(b.Keep, "not declared")})
	}
	w.table("The plan declares no backup.", []string{"Backup policy", "Snapshot", "Transaction log", "Copies", "Takes", "Kept for"}, rows)
	w.head("For each store")
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		s := p.Stores[id]
		b, ok := p.Backups[s.Protect]
		if !ok {
			rows = append(rows, []string{w.text(id), "no backup declared", "", "", ""})
			continue
		}
		log := "none"
		if b.Log != nil {
			log = "at most " + period(b.Log.MaxLag) + " behind"
		}
		rows = append(rows, []string{w.text(id), w.text(s.Protect), w.recurrence(b.Every), log, w.copies(b)})
	}
	w.table("The plan declares no store.", []string{"Store", "By policy", "Snapshot", "Transaction log", "Copies"}, rows)
	w.para("Schedules are read in the time zone %s. A slot that nobody did is recorded as missed.", w.zone())
	w.rest("backup", "")
}

// zone is the time zone in which schedules are read.
func (w *writer) zone() string {
	if tz := w.plan.Org.Timezone; tz != "" {
		return w.text(tz)
	}
	return "UTC"
}

func (w *writer) copies(b plan.Backup) string {
	if w.public {
		return plural(len(b.Copies), "location")
	}
	var out []string
	for _, id := range b.Copies.Names() {
		c := w.text(id)
		if e := b.Copies[id].Every; !e.IsZero() {
			c += " (every " + period(e) + ")"
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return "nowhere"
	}
	return strings.Join(out, ", ")
}
