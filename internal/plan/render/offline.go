package render

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// An Offline is what an offline copy says beside the plan. What is not known is left
// empty, and the copy says so.
type Offline struct {
	ID     string // of the copy
	Person string // for whom it is
	Code   string // with which the person says that the copy opens; "" in a recovery kit
	Made   time.Time
	// Program names the program that made the copy, and its digest.
	Program string
	// Verified says when somebody last looked at a supplier and its contacts.
	Verified map[string]time.Time
	// Proven says of each store what a restore has shown.
	Proven map[string]string
	// Repository is the text that lies in every place with backups.
	Repository string
}

//go:embed offline.html.tmpl
var offlineText string

var offlineTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("offline").Parse(offlineText))
})

type offlinePage struct {
	Title, Stamp, Digest, Person, ID, Code, Made string
	CSS                                          template.CSS
	Sections                                     []pageSection
	Repository, Source                           string
}

// MakeOffline writes the plan for one person, for the day on which nothing works: one
// page that needs nothing else, in the order in which somebody at three in the morning
// asks. After that comes the whole policy, and at the end the plan itself, from which a
// recovery starts.
func MakeOffline(p *plan.Plan, o Offline) ([]byte, error) {
	w := &writer{plan: p}
	var all []Section
	add := func(id, title string, write func()) {
		w.b.Reset()
		write()
		all = append(all, Section{ID: id, Title: title, Body: w.body()})
	}
	add("first", "Read this first", func() { w.offlineFirst(o) })
	add("call", "Whom to call", w.offlinePeople)
	add("outside", "Suppliers and emergency contacts", func() { w.offlineContacts(o) })
	add("order", "In which order things come back", func() { w.offlineOrder(o) })
	add("where", "Where the copies are", w.offlinePlaces)
	add("keys-together", "The keys, and how they come together", w.offlineKeys)
	add("back", "Getting everything back", func() { w.offlineBack(o) })
	for _, s := range Make(p, Options{}).Sections {
		all = append(all, Section{ID: "policy-" + s.ID, Title: s.Title, Body: s.Body})
	}
	v := offlinePage{Title: "Offline copy of the continuity plan" + prefixed(" of ", plainLine(p.Org.Name)), Stamp: Plain(w.stamp()), Digest: p.Digest(), Person: w.orText(Plain(w.who(o.Person)), "the holders of the recovery kit"),
		ID: o.ID, Code: o.Code, Made: o.Made.UTC().Format("2006-01-02 15:04 UTC"), Repository: o.Repository, Source: string(p.Source())}
	// Only letters that mean nothing in CSS: an id of ours, and hexadecimal digits.
	v.CSS = template.CSS(pageStyle + fmt.Sprintf("\n@page { @bottom-left { content: \"%s, %s\"; } }\n", o.ID, shortDigest(p.Digest())))
	for i, s := range all {
		body, err := s.HTML()
		if err != nil {
			return nil, err
		}
		v.Sections = append(v.Sections, pageSection{s.ID, i + 1, s.Title, template.HTML(body)}) // cleaned above
	}
	var b bytes.Buffer
	if err := offlineTemplate().Execute(&b, v); err != nil {
		return nil, fmt.Errorf("offline copy: %w", err)
	}
	return b.Bytes(), nil
}

func (w *writer) numbered(steps []string) {
	for i, s := range steps {
		fmt.Fprintf(&w.b, "%d. %s\n", i+1, s)
	}
	w.b.WriteString("\n")
}

func (w *writer) offlineFirst(o Offline) {
	p := w.plan
	w.para("This is everything that you need to bring %s back when nothing works: no network, no server, no Holdfast, nobody who explains it. It is for %s, and holds no password and no key. Keep it where you will find it, and let nobody read it who need not.",
		w.orText(w.text(p.Org.Name), "the company"), w.orText(w.who(o.Person), "the holders of the recovery kit"))
	w.numbered([]string{
		"**Write down the time.** What happened, and since when, is asked for later, by customers and by law.",
		"**Call somebody.** Section 2 has the numbers. Who may decide to recover: " + w.orNobody(w.deciders()) + ".",
		"**Change nothing yet.** What is left, disks, machines, copies, may be all that there is. Nobody deletes, formats or repairs it.",
		"**If Holdfast answers,** " + w.code("holdfast status") + " says what is lost, and " + w.code("holdfast recover") + " brings it back. You do not need this copy then.",
		"**If it does not,** take one place with copies (section 5), bring a key together (section 6), and go through section 7, in the order of section 4.",
		"**Tell those who must be told.** Section 3 has the authorities with their clocks.",
	})
	if p.Activation.Stated != "" {
		w.para("The policy says about starting a recovery: %s", w.quoted(p.Activation.Stated))
	}
	if o.Code == "" {
		w.para("This is part of the recovery kit of %s, made from version %s of the plan. Whoever reads it has brought a key together to do so.", o.Made.UTC().Format(time.DateOnly), w.orText(w.text(p.Plan.Version), "without a number"))
		return
	}
	w.para("Is this copy still right? It was made on %s from version %s of the plan. The digest at the top names that version exactly; a newer copy has another one. Once you have opened this copy, say so, so that it counts as yours: give the code at the top on the page \"Offline copies\" of Holdfast, or with %s.",
		o.Made.UTC().Format(time.DateOnly), w.orText(w.text(p.Plan.Version), "without a number"), w.code("holdfast offline confirm "+o.ID+" CODE --by "+o.Person))
}

func (w *writer) orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// deciders are the people who may start a recovery, in the order of the plan.
func (w *writer) deciders() string {
	p := w.plan
	var out []string
	for _, by := range p.Activation.By {
		for _, deputy := range []bool{false, true} {
			if who := p.Person(by, deputy); who != "" && !slices.Contains(out, w.who(who)) {
				out = append(out, w.who(who))
			}
		}
	}
	return strings.Join(out, ", ")
}

// reach is how a person is reached.
func (w *writer) reach(id string) string {
	x := w.plan.People[id]
	return w.orText(strings.Join(slices.DeleteFunc([]string{w.text(x.Phone), w.text(x.Email)}, func(s string) bool { return s == "" }), ", "), "**no number in the plan**")
}

func (w *writer) offlinePeople() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.People)) {
		var does []string
		for _, r := range slices.Sorted(maps.Keys(p.Roles)) {
			switch id {
			case p.Roles[r].Holder:
				does = append(does, w.text(r))
			case p.Roles[r].Deputy:
				does = append(does, w.text(r)+" (deputy)")
			}
		}
		x := p.People[id]
		rows = append(rows, []string{w.text(id), w.text(x.Name), w.text(x.Phone), w.text(x.Email), strings.Join(does, ", "), w.texts(x.Can)})
	}
	w.table("The plan names no person.", []string{"Person", "Name", "Phone", "E-mail", "Is", "Can do alone"}, rows)
	for _, row := range rows {
		if row[2] == "" && row[3] == "" {
			w.para("**The plan has no number and no address of %s.** Write it here by hand: ______________________", row[0])
		}
	}
	if oc := p.OnCall; oc != nil {
		w.para("First called: %s. If nobody answers within %s: %s. Then: %s.", w.orNobody(w.whos(oc.Primary)), periodOr(oc.AckWithin, "a time that is not declared"), w.orNobody(w.whos(oc.Secondary)), w.orNobody(w.whos(oc.EscalateTo)))
	}
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Credentials)) {
		c := p.Credentials[id]
		offline := "needs the internet"
		if c.Offline {
			offline = "works without the internet"
		}
		var holders []string
		for _, h := range c.Holders {
			holders = append(holders, w.who(h)+": "+w.reach(h))
		}
		rows = append(rows, []string{w.text(id), w.text(c.For), w.orNobody(strings.Join(holders, "; ")), offline})
	}
	if len(rows) > 0 {
		w.head("Who holds what opens doors")
		w.table("", []string{"Credential", "Opens", "Held by", "Offline"}, rows)
	}
}

// pairs writes "name: value" of each contact.
func (w *writer) pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, w.text(k)+": "+w.text(m[k]))
	}
	return strings.Join(out, "; ")
}

func (w *writer) offlineContacts(o Offline) {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Suppliers)) {
		s := p.Suppliers[id]
		verified := "never"
		if at := o.Verified[id]; !at.IsZero() {
			verified = at.UTC().Format(time.DateOnly)
		}
		rows = append(rows, []string{w.orText(w.text(s.Name), w.text(id)), w.text(s.Provides), w.orText(w.pairs(s.Contacts), "**no contact in the plan**"), w.guarantee(s.RTO), w.orText(w.text(s.Contingency), "none"), w.texts(s.Alternatives), w.text(s.Contract), verified})
	}
	w.table("The plan declares no supplier.", []string{"Supplier", "Provides", "Emergency contacts", "Says it is back within (claimed)", "Runbook when it fails", "Instead of it", "Contract", "Looked at last"}, rows)
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Obligations)) {
		x := p.Obligations[id]
		if x.NotifyWithin.IsZero() && x.Authority == "" {
			continue
		}
		rows = append(rows, []string{w.orText(w.text(x.Authority), "**no authority in the plan**"), w.text(x.Law), periodOr(x.NotifyWithin, "no time declared"), w.text(x.Clock)})
	}
	w.head("Authorities, and their clocks")
	w.table("The plan declares no authority that must be told.", []string{"Authority", "Law", "Told within", "Counted from"}, rows)
	rows = nil
	for _, id := range slices.Sorted(maps.Keys(p.Customers)) {
		x := p.Customers[id]
		if len(x.Contacts) > 0 || !x.NotifyWithin.IsZero() {
			rows = append(rows, []string{w.orText(w.text(x.Name), w.text(id)), w.pairs(x.Contacts), period(x.NotifyWithin)})
		}
	}
	if len(rows) > 0 {
		w.head("Customers who must be told")
		w.table("", []string{"Customer", "Contacts", "Told within"}, rows)
	}
	if len(p.Org.Contacts) > 0 {
		w.head("How others reach us")
		w.para("%s", w.pairs(p.Org.Contacts))
	}
}

func (w *writer) offlineOrder(o Offline) {
	p := w.plan
	order, err := p.RecoveryOrder()
	if err != nil {
		w.para("There is no order: %s.", w.text(err.Error()))
	}
	var rows [][]string
	for i, wave := range order {
		for _, id := range wave {
			is := "service"
			proven, from := "", ""
			if s, ok := p.Stores[id]; ok {
				is = "store, " + string(s.Kind)
				proven = w.orText(w.text(o.Proven[id]), "no restore has shown anything yet")
				from = w.texts(p.Backups[s.Protect].Copies.Names())
			}
			rto, rpo, _ := p.ObjectiveOf(id)
			rows = append(rows, []string{fmt.Sprint(i + 1), w.text(id), is, w.objective(rto), w.objective(rpo), from, proven})
		}
	}
	w.para("What is in a later wave needs something in an earlier one. Within a wave, begin with what must be back first.")
	w.table("Nothing is declared that could be recovered.", []string{"Wave", "What", "Is a", "Back within", "Losing at most", "Copies at", "When this copy was made"}, rows)
	w.para("The steps of each runbook stand in the policy below, under the recovery.")
}

func (w *writer) offlinePlaces() {
	p := w.plan
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Locations)) {
		l := p.Locations[id]
		where := l.Path
		if where == "" {
			where = l.Address()
		}
		supplier := l.Supplier
		if s, ok := p.Suppliers[supplier]; ok && s.Name != "" {
			supplier = s.Name
		}
		rows = append(rows, []string{w.text(id), w.text(string(l.Kind)), w.code(where), w.text(l.Provider), w.text(supplier), w.text(l.Account), w.text(l.Region), w.text(l.Credential), w.text(l.DomainOr()), w.who(l.Owner)})
	}
	w.table("The plan declares no location: there is no copy anywhere.", []string{"Location", "Kind", "Where", "Provider", "Supplier", "Account", "Region", "Opened by", "Fails together with", "Owner"}, rows)
	w.para("Each location is complete alone: data comes back from it with all others gone. A path is a path of the machine that ran Holdfast; the disk or share behind it is what you look for.")
}

func (w *writer) offlineKeys() {
	p := w.plan
	w.para("Everything is encrypted. **One** of these keys opens everything that was made for it; nobody can help who has none.")
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(p.Keys)) {
		k := p.Keys[id]
		opens := "older backups only"
		if slices.Contains(p.Repository.EncryptTo, id) {
			opens = "every backup"
		}
		kept := w.text(k.Stored)
		if k.Offline {
			kept = strings.TrimPrefix(kept+", on no computer", ", ")
		}
		rows = append(rows, []string{w.text(id), opens, w.orNobody(w.whos(k.Holders)), w.orText(kept, "not said"), w.code(k.Recipient)})
	}
	w.table("The plan names no key.", []string{"Key", "Opens", "Whole key with", "Kept", "Public half"}, rows)
	for _, id := range slices.Sorted(maps.Keys(p.Keys)) {
		s := p.Keys[id].Shares
		if s == nil {
			continue
		}
		w.head("Shares of %s", w.text(id))
		w.para("Any **%d** of these %d shares bring the key back; fewer say nothing about it.", s.Needed, len(s.Holders))
		rows = nil
		for _, h := range slices.Sorted(maps.Keys(s.Holders)) {
			rows = append(rows, []string{w.who(h), w.reach(h), w.code(s.Holders[h])})
		}
		w.table("", []string{"Holder", "Reach", "Public half of the share"}, rows)
	}
	w.head("Bringing a key together")
	w.numbered([]string{
		"Meet on one machine that you trust and that has no network. A share is a file on a stick, or a sheet of paper with groups of letters.",
		"Paper: type the groups into a file, one file for each share. Small letters will do, and so will the letter O for the digit. A wrong group is named by its number.",
		"With Holdfast: " + w.code("holdfast key join --to /dev/shm/back.age SHARE-1 SHARE-2") + ". Without it: " + w.code("python3 join.py SHARE-1 SHARE-2") + " (tools/decode of the Holdfast source).",
		"A whole key is one line that begins with " + w.code("AGE-SECRET-KEY-1") + ". Put it into a file that only you can read.",
		"When all is back, make new keys: these have been on a machine.",
	})
}

func (w *writer) offlineBack(o Offline) {
	p := w.plan
	w.para("You need: one machine with Linux and room for the data, one location of section 5, one key of section 6, and this text. Nothing below writes to the location.")
	program := w.orText(w.text(o.Program), "any version: the format is documented and does not change")
	steps := []string{
		"Install Holdfast and the database programs of the version that was lost. This copy was made by " + program + "; compare the digest of the program that you get with " + w.code("sha256sum holdfast") + ".",
		"Make a folder, save the plan from the end of this page into it as " + w.code("plan.yaml") + ", and set the path of the location that you have to where it is now. Take every " + w.code("password_file") + " out.",
		w.code("holdfast points STORE") + " says to which instants a store comes back. It needs no key.",
	}
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		if p.Stores[id].Protect != "" {
			steps = append(steps, "Store "+w.text(id)+": "+w.code("holdfast restore "+id+" --to /srv/recovered/"+id+" --key /dev/shm/back.age --purpose \"everything is lost\""))
		}
	}
	steps = append(steps,
		"If the loss was a mistake or an attack, go back to before it: add "+w.code("--at 2026-11-22T10:15:30Z")+".",
		"Start the services in the order of section 4. Then protect them again, before anything else: a recovered system without a backup is the next loss.")
	w.numbered(steps)
	if p.Repository.ID != "" {
		w.para("The repository is %s. Delegated to others, and not in these backups: %s.", w.code(p.Repository.ID), w.orText(w.delegated(), "nothing"))
	}
}

// delegated are the stores that somebody else brings back, with who.
func (w *writer) delegated() string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(w.plan.Stores)) {
		if d := w.plan.Stores[id].Delegated; d != nil {
			to := d.To
			if x, ok := w.plan.Suppliers[to]; ok && x.Name != "" {
				to = x.Name
			}
			out = append(out, w.text(id)+" (by "+w.text(to)+")")
		}
	}
	return strings.Join(out, ", ")
}
