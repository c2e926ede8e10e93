package render

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
)

func (w *writer) retention() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Backups)) {
		b := p.Backups[id]
		least, most := b.Kept()
		row := []string{w.text(id), periodOr(b.Keep, "not declared"), period(least), period(most)}
		if b.Retention == nil {
			row[2], row[3] = "", ""
		}
		rows = append(rows, row)
	}
	w.table("The plan declares no backup, and so no retention.", []string{"Backup policy", "Kept for", "At least", "At most"}, rows)
	if !w.public {
		w.standards()
	}
	w.para("Retention counts from the receipt of a copy, never from the clock of whoever wrote it.")
	w.rest("retention", "")
}

// standards tells what the policy asks of every retention: the bounds of classes, the
// standard, and why a backup differs from it.
func (w *writer) standards() {
	p := w.plan
	if len(p.Classes) > 0 {
		var bounds [][]string
		for _, id := range slices.Sorted(maps.Keys(p.Classes)) {
			c := p.Classes[id]
			bounds = append(bounds, []string{w.text(id), period(c.KeepMin), period(c.KeepMax), period(c.StandardRetention)})
		}
		w.table("", []string{"Class of data", "At least", "At most", "Standard"}, bounds)
		w.para("The bounds of a class hold for every copy of its data, also for those made before, whichever backup policy made them.")
	}
	if d := p.Repository.StandardRetention; !d.IsZero() {
		w.para("The standard is %s. A backup policy that keeps for less or longer says why.", d)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Backups)) {
		if r := p.Backups[id].Retention; r != nil && r.Why != "" {
			w.para("%s keeps otherwise because: %s.", w.text(id), w.text(strings.TrimSuffix(r.Why, ".")))
		}
	}
}

func (w *writer) encryption() {
	p := w.plan
	w.para("Every backup is compressed and sealed with AES-256-GCM before it leaves the source, under a fresh key that is wrapped to the recipients below. The source cannot read what it wrote. Places over a network are reached over TLS 1.2 or newer, or SSH.")
	named := ""
	if !w.public && len(p.Repository.EncryptTo) > 0 {
		named = ": " + w.texts(p.Repository.EncryptTo)
	}
	w.para("%s can read every backup%s.", plural(len(p.Repository.EncryptTo), "key"), named)
	if len(p.Repository.EncryptTo) == 1 {
		w.para("**There is one key: its loss is the loss of every backup.**")
	}
	if w.public {
		return
	}
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Keys)) {
		k := p.Keys[id]
		where := "on a computer"
		if k.Offline {
			where = "on no computer"
		}
		reads := "nothing new"
		if slices.Contains(p.Repository.EncryptTo, id) {
			reads = "every backup"
		}
		rows = append(rows, []string{w.text(id), w.or(w.whos(k.Holders)), where, reads, w.code(k.Recipient)})
	}
	w.table("The plan names no key.", []string{"Key", "Holders", "Private half", "Reads", "Public half"}, rows)
	if e := p.Repository.DedupEpoch; !e.IsZero() {
		w.para("The key that names the chunks of a store is used for %s; then everything is stored anew under another one.", e)
	}
	if id := p.Repository.ID; id != "" {
		w.para("Repository: %s.", w.text(id))
	}
	if p.Repository.AllowOneRecipient {
		w.para("The plan allows a single key.")
	}
	w.rest("encryption", "")
}

func (w *writer) locations() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Locations)) {
		l := p.Locations[id]
		lock := "none by Holdfast"
		if l.S3 != nil && !l.S3.Lock.IsZero() {
			lock = period(l.S3.Lock)
		}
		row := []string{w.text(id), w.text(string(l.Kind)), w.text(l.Region), w.text(l.Jurisdiction), lock}
		if !w.public {
			where := l.Path
			if where == "" {
				where = l.Address()
			}
			row = append(row, w.text(l.Provider), w.text(l.Account), w.text(l.DomainOr()), w.code(w.relative(where)))
		} else {
			row = append(row, "", "", "", "")
			row[0] = fmt.Sprintf("Location %d", len(rows)+1)
		}
		rows = append(rows, row)
	}
	w.table("The plan declares no location: nothing can be copied anywhere.", []string{"Location", "Kind", "Region", "Jurisdiction", "Locked for", "Provider", "Account", "Fails together with", "Where"}, rows)
	w.para("Each location is complete alone: data comes back from it with all others gone.")
	w.rest("locations", "")
}

func (w *writer) tests() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Drills)) {
		d := p.Drills[id]
		var goals []string
		for _, of := range d.Of {
			r := p.DrillRung(id, of)
			if g := fmt.Sprintf("%s: %s", r, r.Proves()); !slices.Contains(goals, g) {
				goals = append(goals, g)
			}
		}
		rows = append(rows, []string{w.text(id), w.texts(d.Of), w.recurrence(d.Every), w.text(string(d.PickOr())), strings.Join(goals, "; "), periodOr(d.FreshFor, "35 days")})
	}
	w.table("The plan declares no drill: no restore is ever proven.", []string{"Drill", "Restores", "Frequency", "Recovery point", "Goal", "Proof lasts"}, rows)
	var never []string
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		if len(p.DrillsOf(id)) == 0 {
			never = append(never, id)
		}
	}
	if len(never) > 0 {
		w.para("Never restored by any drill: %s.", w.texts(never))
	}
	w.para("A drill restores into a sandbox without a network, starts the real engine, asks the owner's questions and takes the time. An unfinished drill is recorded as failed.")
	w.exercises()
	w.rest("tests", "")
}

func (w *writer) recovery() {
	p := w.plan
	w.head("Order")
	order, err := p.RecoveryOrder()
	if err != nil {
		w.para("There is no order: %s.", w.text(holdfast.Sentence(err)))
	}
	w.para("What is in a later wave needs something in an earlier one.")
	var rows [][]string
	for i, wave := range order {
		rows = append(rows, []string{fmt.Sprint(i + 1), w.texts(wave)})
	}
	w.table("Nothing is declared that could be recovered.", []string{"Wave", "Recovered"}, rows)
	if w.public {
		w.para("Procedures for each service are kept in the internal edition.")
		return
	}
	for _, id := range slices.Sorted(maps.Keys(p.Runbooks)) {
		r := p.Runbooks[id]
		var of []string
		for _, s := range slices.Sorted(maps.Keys(p.Services)) {
			if p.Services[s].Runbook == id {
				of = append(of, s)
			}
		}
		w.head("Runbook: %s", w.text(id))
		w.para("For %s. Noticed within %s.", w.orNo(w.texts(of)), periodOr(r.Detect, "a time that is not declared"))
		rows = nil
		for _, st := range r.Steps {
			rows = append(rows, []string{w.text(st.ID), w.act(st), w.text(st.Text), w.texts(st.After), w.estimate(st.Est)})
		}
		w.table("The runbook has no step.", []string{"Step", "Does", "In words", "After", "Takes"}, rows)
	}
	if len(p.Runbooks) == 0 {
		w.para("The plan declares no runbook.")
	}
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		if to := p.Stores[id].Recover; to != nil {
			rows = append(rows, []string{w.text(id), w.code(w.relative(to.To))})
		}
	}
	w.head("Where data is recovered to")
	w.table("The plan does not say where a store is recovered to.", []string{"Store", "Recovered to"}, rows)
	w.rest("recovery", "")
}

// relative shows a path as the plan has it: relative to the plan where it lies below.
func (w *writer) relative(path string) string {
	if rest, ok := strings.CutPrefix(path, w.plan.Dir()+"/"); ok && w.plan.Dir() != "/" {
		return rest
	}
	return path
}

func (w *writer) orNo(s string) string {
	if s == "" {
		return "no service"
	}
	return s
}

// act says what a step does, and with which credentials.
func (w *writer) act(st plan.Step) string {
	does := w.does(st)
	if len(st.Uses) > 0 {
		does += " with " + w.texts(st.Uses)
	}
	return does
}

func (w *writer) does(st plan.Step) string {
	kind, of := st.Kind()
	switch kind {
	case plan.StepRestore, plan.StepStart, plan.StepCheck:
		return kind + " " + w.text(of)
	case plan.StepHuman:
		return w.who(of) + " acts"
	case plan.StepApprove:
		return w.whos(st.Approve) + " approve"
	case plan.StepRun:
		return "run " + w.code(strings.Join(st.Run, " "))
	}
	return "nothing"
}

func (w *writer) activation() {
	a := w.plan.Activation
	switch {
	case len(a.Automatic) > 0 && a.ConfirmAfter.IsZero():
		w.para("A recovery starts by itself, at once, on: %s.", w.events(a.Automatic))
	case len(a.Automatic) > 0:
		w.para("A recovery starts by itself on: %s, once it has lasted for %s.", w.events(a.Automatic), period(a.ConfirmAfter))
	default:
		w.para("No recovery starts by itself.")
	}
	if len(a.By) > 0 {
		w.para("A recovery may be started by: %s.", w.whos(a.By))
	} else {
		w.para("The plan names nobody who may start a recovery.")
	}
	w.rest("activation", "")
}

func (w *writer) events(es []plan.Event) string {
	var out []string
	for _, e := range es {
		out = append(out, w.text(string(e)))
	}
	return strings.Join(out, ", ")
}

func (w *writer) incidents() {
	p := w.plan
	w.para("Every incident goes through five phases, in this order. Each has a guard that must hold before the next begins.")
	if in := p.Incidents; in != nil && len(in.Phases) > 0 {
		w.para("Here they are called: %s.", w.texts(in.Phases))
	}
	w.list([]string{
		"**Detection**: a signal opens an incident or joins an open one.",
		"**Assessment**: scope and severity are decided and recorded.",
		"**Containment**: the loss is kept from growing.",
		"**Recovery**: what was lost is brought back, checked, and protected again.",
		"**Review**: causes and owned actions are written down. Only a person closes an incident.",
	})
	w.rest("incidents", "")
}

func (w *writer) facilities() {
	if w.public {
		w.para("What a facility guarantees is attested or claimed by its operator, and is kept apart from what is proved.")
		return
	}
	w.rest("facilities", "The plan declares no facility of its own.")
}

func (w *writer) customers() {
	w.rest("customers", "The plan declares no terms that differ for a customer.")
}
func (w *writer) people()     { w.onCall() }
func (w *writer) measures()   { w.rest("measures", "The plan declares no other measure.") }
func (w *writer) references() { w.rest("references", "The plan cites nothing and binds no sentence.") }

func (w *writer) exceptions() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Exceptions)) {
		e := p.Exceptions[id]
		approved := w.whos(e.ApprovedBy)
		if approved == "" {
			approved = "nobody: not in force"
		}
		rows = append(rows, []string{w.text(id), w.text(e.Rule), w.text(e.Of), w.text(e.Why), w.who(e.By), approved, e.From.String(), e.Until.String()})
	}
	w.table("There is no exception.", []string{"Exception", "Finding", "Of", "Why", "Asked by", "Approved by", "From", "Until"}, rows)
	w.rest("exceptions", "")
}

func (w *writer) reviews() {
	r := w.plan.Plan.Review
	switch {
	case r.Every.IsZero():
		w.para("The plan declares no regular review.")
	default:
		w.para("The plan is reviewed %s.", every(period(r.Every)))
	}
	if len(r.After) > 0 {
		w.para("It is reviewed also after each: %s.", w.texts(r.After))
	}
	w.duties()
	w.rest("reviews", "")
}

func (w *writer) frameworks() {
	p := w.plan
	w.para("A mapping says what would prove a control. It is no certificate.")
	w.certificates()
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Controls)) {
		by := w.texts(p.Controls[id])
		if by == "" {
			by = "nothing"
		}
		framework, control, ok := strings.Cut(id, "/")
		if !ok {
			framework, control = "", id
		}
		rows = append(rows, []string{w.text(control), w.text(framework), by})
	}
	w.table("The plan maps no control.", []string{"Control", "Framework", "Proved by"}, rows)
	w.rest("frameworks", "")
}

// certificates says for each framework whether there is a certificate. Only a record
// that names its document makes one; words such as "certified" do not.
func (w *writer) certificates() {
	p := w.plan
	ids := slices.Collect(maps.Keys(p.Frameworks))
	for id := range p.Org.Certified {
		if _, ok := p.Frameworks[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var rows [][]string
	for _, id := range ids {
		f := p.Frameworks[id]
		rows = append(rows, []string{w.text(id), w.text(f.Edition), w.certificate(id, f.Status)})
	}
	if len(rows) > 0 {
		w.table("", []string{"Framework", "Edition", "Certificate"}, rows)
	}
}

func (w *writer) certificate(id, status string) string {
	c, ok := w.plan.Org.Certified[id]
	switch {
	case ok && c.None != "":
		return "none: " + w.text(c.None)
	case ok && c.Document != "":
		held := "held"
		if !c.Until.IsZero() {
			held += " until " + c.Until.String()
		}
		if w.public {
			return held
		}
		return held + ", shown by " + w.text(c.Document)
	case ok, reCertified.MatchString(status):
		return "none on record: what the plan says about it names no document"
	case status != "":
		return "none: " + w.text(status)
	}
	return "none on record"
}

// reCertified finds a claim that only a record may make.
var reCertified = regexp.MustCompile(`(?i)certified|certificate|accredit`)

func (w *writer) history() {
	w.para("This is version %s of the plan %s. Its earlier versions and their differences are kept with the plan, and each version in force is a fact in the ledger.", w.or(w.text(w.plan.Plan.Version)), w.text(w.plan.Plan.ID))
	w.rest("history", "")
	if w.public {
		return
	}
	w.head("Signatures")
	var rows [][]string
	for _, id := range w.plan.Plan.Approvers {
		rows = append(rows, []string{w.who(id), "____________________", "____________________"})
	}
	w.table("The plan names no approver.", []string{"Approver", "Date", "Signature"}, rows)
}
