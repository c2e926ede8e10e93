package render

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
)

// A Sheet is what the holder of one role needs on the bad day, on one page of paper.
type Sheet struct {
	Title    string
	Stamp    string
	Subtitle string
	Sections []Section
}

// Limits of a sheet, so that it stays one page. What does not fit is counted, and
// stands in the document.
const (
	sheetSteps = 10
	sheetRows  = 6
	sheetTasks = 5
	sheetText  = 140 // characters of one cell
)

// MakeSheet writes the sheet of a role. A role that the plan does not declare is a
// usage error.
func MakeSheet(p *plan.Plan, role string) (Sheet, error) {
	r, ok := p.Roles[role]
	if !ok {
		known := "the plan declares no role"
		if len(p.Roles) > 0 {
			known = "the roles are " + strings.Join(slices.Sorted(maps.Keys(p.Roles)), ", ")
		}
		return Sheet{}, holdfast.WithHint(fmt.Errorf("there is no role %q: %w", role, holdfast.ErrUsage), "%s", known)
	}
	w := &writer{plan: p}
	deputy := "nobody"
	if r.Deputy != "" {
		deputy = w.who(r.Deputy)
	}
	s := Sheet{
		Title:    "Sheet: " + w.text(role),
		Stamp:    w.stamp(),
		Subtitle: "Held by " + w.or(w.who(r.Holder)) + "; deputy: " + deputy,
	}
	add := func(id, title string, write func()) {
		w.b.Reset()
		write()
		if w.b.Len() > 0 {
			s.Sections = append(s.Sections, Section{ID: id, Number: len(s.Sections) + 1, Title: title, Body: w.body()})
		}
	}
	add("first", "The first five actions", func() { w.firstActions(role, r) })
	add("call", "Whom to reach", func() { w.contacts(role) })
	add("steps", "Your steps", func() { w.ownSteps(role, r) })
	add("promises", "What is promised", w.promises)
	add("places", "Where the backups are", w.places)
	return s, nil
}

func (w *writer) firstActions(role string, r plan.Role) {
	p := w.plan
	var out []string
	may := func(what string) bool { return slices.Contains(r.May, what) }
	out = append(out, "Note the time. Say aloud that you act as "+w.text(role)+". If you cannot, hand over to "+w.orNobody(w.who(r.Deputy))+".")
	out = append(out, "Look at what is lost: "+w.code("holdfast status")+", or the overview page.")
	if may("activate-plan") || slices.Contains(p.Activation.By, role) {
		out = append(out, "Decide whether to recover. You may start it: "+w.code("holdfast recover activate INCIDENT --by YOU")+".")
	} else {
		out = append(out, "You may not start a recovery. Reach "+w.orNobody(w.whos(p.Activation.By))+".")
	}
	out = append(out, "Follow the recovery and do the steps that are yours: "+w.code("holdfast recover show ID")+".")
	if may("close-incident") {
		out = append(out, "Tell those who wait, at each change. Close the incident only after the review.")
	} else {
		out = append(out, "Say when your steps are done. Ask before you do anything that is not written here.")
	}
	for i, s := range out[:min(len(out), sheetTasks)] {
		fmt.Fprintf(&w.b, "%d. %s\n", i+1, s)
	}
	w.b.WriteString("\n")
}

func (w *writer) orNobody(s string) string {
	if s == "" {
		return "nobody: the plan names none"
	}
	return s
}

// contacts lists the holders of the other roles first by what they may do.
func (w *writer) contacts(role string) {
	p := w.plan
	var rows [][]string
	left := 0
	for _, id := range slices.Sorted(maps.Keys(p.Roles)) {
		if id == role {
			continue
		}
		if len(rows) == sheetRows {
			left++
			continue
		}
		x := p.People[p.Roles[id].Holder]
		how := strings.Join(slices.DeleteFunc([]string{w.text(x.Phone), w.text(x.Email)}, func(s string) bool { return s == "" }), ", ")
		if how == "" {
			how = "no number in the plan"
		}
		rows = append(rows, []string{w.text(id), w.short(w.or(w.who(p.Roles[id].Holder))), w.short(how), w.short(w.who(p.Roles[id].Deputy))})
	}
	w.table("No other role is declared.", []string{"Role", "Holder", "Reach", "Deputy"}, rows)
	w.more(left, "role")
}

func (w *writer) more(n int, what string) {
	if n > 0 {
		w.para("And %s more in the document.", plural(n, what))
	}
}

// short keeps a cell of the sheet to one or two lines.
func (w *writer) short(s string) string {
	rs := []rune(s)
	if len(rs) <= sheetText {
		return s
	}
	return strings.TrimRight(string(rs[:sheetText-1]), `\ `) + "…"
}

func (w *writer) ownSteps(role string, r plan.Role) {
	p := w.plan
	var rows [][]string
	left := 0
	for _, id := range slices.Sorted(maps.Keys(p.Runbooks)) {
		for _, st := range p.Runbooks[id].Steps {
			if st.Human != role && !slices.Contains(st.Approve, role) && st.Human != r.Holder {
				continue
			}
			if len(rows) == sheetSteps {
				left++
				continue
			}
			what := st.Text
			if what == "" {
				what = "approve"
			}
			rows = append(rows, []string{w.text(id), w.text(st.ID), w.short(w.text(what)), w.short(w.texts(st.After)), w.estimate(st.Est)})
		}
	}
	w.table("No step of a runbook waits for this role.", []string{"Runbook", "Step", "Do", "After", "Takes"}, rows)
	w.more(left, "step")
}

func (w *writer) promises() {
	p := w.plan
	var rows [][]string
	left := 0
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		if len(rows) == sheetRows {
			left++
			continue
		}
		rto, rpo, _ := p.ObjectiveOf(id)
		rows = append(rows, []string{w.text(id), w.short(w.objective(rto)), w.short(w.objective(rpo))})
	}
	w.table("No service is declared.", []string{"Service", "Back within", "Losing at most"}, rows)
	w.more(left, "service")
}

func (w *writer) places() {
	p := w.plan
	var rows [][]string
	left := 0
	for _, id := range slices.Sorted(maps.Keys(p.Locations)) {
		if len(rows) == sheetRows {
			left++
			continue
		}
		l := p.Locations[id]
		where := l.Path
		if where == "" {
			where = l.Address()
		}
		rows = append(rows, []string{w.text(id), w.code(w.short(w.relative(where))), w.text(l.DomainOr())})
	}
	w.table("No location is declared.", []string{"Location", "Where", "Fails together with"}, rows)
	w.more(left, "location")
	var holders []string
	for _, id := range p.Repository.EncryptTo {
		holders = append(holders, w.text(id)+": "+w.orNobody(w.whos(p.Keys[id].Holders)))
	}
	if len(holders) > 0 {
		w.para("One key and one location bring everything back. Keys: %s.", w.short(strings.Join(holders, "; ")))
	}
}

// Markdown returns the sheet as Markdown.
func (s Sheet) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", s.Title, s.Subtitle)
	for _, x := range s.Sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s", x.Title, x.Body)
	}
	fmt.Fprintf(&b, "\n*%s*\n", s.Stamp)
	return b.String()
}

// Write returns the sheet in a format.
func (s Sheet) Write(format Format) ([]byte, error) {
	if format == FormatMarkdown {
		return []byte(s.Markdown()), nil
	}
	v := page{Title: Plain(s.Title), Subtitle: Plain(s.Subtitle), Stamp: Plain(s.Stamp), Paper: format == FormatPrint, Sheet: true, CSS: template.CSS(pageStyle)}
	for _, x := range s.Sections {
		body, err := x.HTML()
		if err != nil {
			return nil, err
		}
		v.Sections = append(v.Sections, pageSection{ID: x.ID, Title: x.Title, Body: template.HTML(body)}) // cleaned above
	}
	return v.write()
}
