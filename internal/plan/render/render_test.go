package render

import (
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// canaries fills every value of a type with something that can be found again. Words
// of it stand in the plan nowhere else.
type canaries struct {
	n       int
	planted map[string]string // canary to pattern
}

func (c *canaries) word(pattern string) string {
	c.n++
	w := fmt.Sprintf("Zq%03dkanari", c.n)
	c.planted[w] = pattern
	return w
}

func (c *canaries) fill(v reflect.Value, pattern string) {
	join := func(key string) string {
		if pattern == "" {
			return key
		}
		return pattern + "." + key
	}
	switch v.Interface().(type) {
	case plan.Objective:
		o := plan.Objective{Max: plan.Period{Days: 3}, Stated: c.word(pattern), Stages: plan.Stages{{ID: "back", Max: plan.Period{Days: 3}, Text: c.word(pattern + ".stages.*.text")}},
			Terms: &plan.Terms{ApprovedBy: []string{c.word(pattern + ".approved_by.*")}, BoundBy: c.word(pattern + ".bound_by"), Satisfies: []string{c.word(pattern + ".satisfies.*")}, Why: c.word(pattern + ".why")}}
		v.Set(reflect.ValueOf(o))
		return
	case plan.Period:
		v.Set(reflect.ValueOf(plan.Period{Days: 3}))
		return
	case plan.Recurrence, plan.Estimate, plan.Date:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		c.fill(v.Elem(), pattern)
	case reflect.Struct:
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("yaml")
			if v.Type().Field(i).IsExported() && key != "" && key != "-" {
				c.fill(v.Field(i), join(key))
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		id := c.word(join("*") + "#id")
		c.fill(e, join("*"))
		v.SetMapIndex(reflect.ValueOf(id), e)
	case reflect.Slice:
		e := reflect.New(v.Type().Elem()).Elem()
		if id := v.Type().Elem(); id.Kind() == reflect.Struct {
			if f := e.FieldByName("ID"); f.IsValid() {
				f.SetString(c.word(join("*") + "#id"))
			}
		}
		c.fill(e, join("*"))
		v.Set(reflect.Append(reflect.MakeSlice(v.Type(), 0, 1), e))
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() {
			v.SetString(c.word(pattern))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	}
}

// planted is a plan whose every text is a canary, with its references joined.
func planted() (*plan.Plan, map[string]string) {
	c := &canaries{planted: map[string]string{}}
	p := &plan.Plan{}
	c.fill(reflect.ValueOf(p).Elem(), "")
	// What no plan that was read can hold: another language, a step that does several
	// things.
	delete(c.planted, p.APIVersion)
	p.APIVersion = plan.APIVersion
	for id, r := range p.Runbooks {
		s := r.Steps[0]
		r.Steps = plan.Steps{{ID: s.ID, Restore: s.Restore, Text: s.Text, After: s.After}, {ID: "b", Start: s.Start}, {ID: "c", Check: s.Check},
			{ID: "d", Human: s.Human}, {ID: "e", Approve: s.Approve}, {ID: "f", Run: s.Run, Uses: s.Uses}}
		p.Runbooks[id] = r
	}
	for _, s := range p.Services {
		for _, m := range []map[string]plan.Impact{s.BIA.Impact, s.BIA.LossImpact} {
			id := first(m) // a period, in a plan that was read
			m["4h"] = m[id]
			delete(m, id)
			delete(c.planted, id)
		}
	}
	return p, c.planted
}

func first[T any](m map[string]T) string {
	for k := range m {
		return k
	}
	return ""
}

// joined makes the references of a planted plan point at what is there.
func joined(p *plan.Plan) *plan.Plan {
	person := first(p.People)
	for id, r := range p.Roles {
		r.Holder, r.Deputy = person, person
		p.Roles[id] = r
	}
	p.Plan.Owner = person
	for id, s := range p.Services {
		s.Tier, s.Owner, s.Runbook = first(p.Tiers), person, first(p.Runbooks)
		s.Needs = map[string]plan.Need{first(p.Stores): plan.Hard}
		p.Services[id] = s
	}
	for id, s := range p.Stores {
		s.Tier, s.Owner, s.Protect = first(p.Tiers), person, first(p.Backups)
		p.Stores[id] = s
	}
	p.Repository.EncryptTo = []string{first(p.Keys)}
	return p
}

func outputs(t *testing.T, p *plan.Plan, opt Options) map[Format]string {
	t.Helper()
	out := map[Format]string{}
	for _, f := range []Format{FormatMarkdown, FormatHTML, FormatPrint} {
		b, err := Make(p, opt).Write(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(b)
	}
	return out
}

// Nothing that the plan declares is missing from the internal edition, whatever
// fields the language has or gets.
func TestInternalSaysEverything(t *testing.T) {
	p, words := planted()
	for _, style := range Styles() {
		for f, text := range outputs(t, p, Options{Style: style}) {
			for w, pattern := range words {
				if !strings.Contains(text, w) {
					t.Errorf("%s, %s: the value of %s is not said", style, f, pattern)
				}
			}
		}
	}
}

// references are ids deeper in the plan, which name something that is public itself.
var references = []string{"org.certified.*", "services.*.needs.*", "tiers.*.scenarios.*"}

// Nothing is told to the public but what was decided to be public.
func TestPublicLeaksNothing(t *testing.T) {
	for _, build := range []func(*plan.Plan) *plan.Plan{joined, func(p *plan.Plan) *plan.Plan { return p }} {
		p, words := planted()
		p = build(p)
		told := 0
		for _, style := range Styles() {
			for f, text := range outputs(t, p, Options{Edition: Public, Style: style}) {
				for w, pattern := range words {
					top, _, _ := strings.Cut(pattern, ".")
					place, id := strings.CutSuffix(pattern, "#id")
					allowed := slices.Contains(publicValues, pattern) ||
						id && (strings.Count(place, ".") == 1 && slices.Contains(publicIds, top) || slices.Contains(references, place))
					if strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
						told++
						if !allowed {
							t.Errorf("%s, %s: the value of %s is told to the public", style, f, pattern)
						}
					}
				}
			}
		}
		if told == 0 {
			t.Error("the public edition says nothing at all: this test would see no leak")
		}
	}
}

// Names, numbers and places are found also in sentences that are public.
func TestPublicSentences(t *testing.T) {
	p, err := plan.Load("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for f, text := range outputs(t, p, Options{Edition: Public}) {
		text = html.UnescapeString(text)
		for _, leak := range []string{"Karin", "Kanari", "karin", "@example.com", "+46", "174 06 05", "/srv/", "/mnt/", "db1.internal", "hunter", "192.0.2", "https://", "age1", "Bo Ek", "backup.example.com", "tofu", "key-a", "acct-7"} {
			if strings.Contains(text, leak) {
				t.Errorf("%s: the public edition contains %q", f, leak)
			}
		}
		for _, want := range []string{"4 hours", "15 minutes", "every day at 02:00", "critical", "eu-north"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the public edition lacks %q", f, want)
			}
		}
	}
}

var tags = regexp.MustCompile(`<(/?)([a-zA-Z0-9]+)([^>]*)>`)

// shown returns the text that a browser shows of clean HTML.
func shown(s string) string {
	return html.UnescapeString(tags.ReplaceAllString(s, ""))
}

// Whatever a value holds, the reader sees the value and nothing happens.
func FuzzValue(f *testing.F) {
	for _, s := range []string{
		"plain", "a|b", "`code` ``two``", "<script>alert(1)</script>", "[link](javascript:alert(1))", "![x](http://evil.example/x.png)", "# head", "- item", "1. one", "1) one", "> quote",
		"***", "---", "~~~", "a_b _c_ __d__", `back\slash\`, "line\nbreak\r\n| row |", "&lt;b&gt; &amp; &#35;", "http://evil.example www.evil.example a@b.example", "\u202egnp.exe", "\x00\x1b[31m", "\xff\xfe", "=== x", "+ plus",
		"<!-- c -->", "<http://evil.example>", "$x$", "[1]: http://evil.example", "    indented", "\t| tab", "](x)", "\\|", "`|`", "*", "trailing \\",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 2000 {
			return
		}
		w := &writer{plan: &plan.Plan{}}
		want := plainLine(s)
		for name, write := range map[string]func(){
			"paragraph": func() { w.para("%s", w.text(s)) },
			"item":      func() { w.list([]string{w.text(s)}) },
			"cell":      func() { w.table("", []string{"Head"}, [][]string{{w.text(s)}}) },
			"code cell": func() { w.table("", []string{"Head"}, [][]string{{w.code(s)}}) },
		} {
			w.b.Reset()
			write()
			got, err := Section{Body: w.body()}.HTML()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range tags.FindAllStringSubmatch(got, -1) {
				if !slices.Contains([]string{"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code", "div"}, m[2]) {
					t.Fatalf("%s: %q becomes the element %s: %s", name, s, m[0], got)
				}
			}
			text := strings.Join(strings.Fields(shown(got)), " ")
			text = strings.TrimSpace(strings.TrimPrefix(text, "Head"))
			if text != want {
				t.Fatalf("%s: %q is shown as %q, want %q\n%s", name, s, text, want, got)
			}
		}
	})
}

// Every style says the same, in another order; every section names the plan.
func TestStyles(t *testing.T) {
	p, err := plan.Load("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Make(p, Options{})
	if len(want.Sections) != len(sections) {
		t.Errorf("%d of %d sections are written", len(want.Sections), len(sections))
	}
	for _, style := range Styles() {
		d := Make(p, Options{Style: style})
		if len(d.Sections) != len(want.Sections) {
			t.Errorf("%s has %d sections, want %d", style, len(d.Sections), len(want.Sections))
		}
		for _, s := range d.Sections {
			w, ok := want.Section(s.ID)
			if !ok || s.Body != w.Body {
				t.Errorf("%s says something else in %s", style, s.ID)
			}
			if !strings.HasSuffix(s.Body, "*"+d.Stamp+"*\n") || !strings.Contains(d.Stamp, p.Digest()[:20]) || !strings.Contains(d.Stamp, p.Plan.Version) {
				t.Errorf("%s: the section %s does not name the plan: %q", style, s.ID, d.Stamp)
			}
		}
		if d.Markdown() != Make(p, Options{Style: style}).Markdown() {
			t.Errorf("%s is not the same twice", style)
		}
	}
	for letter, style := range letters {
		if got, err := ParseStyle(strings.ToUpper(letter)); err != nil || got != style {
			t.Errorf("style %s is %s, %v", letter, got, err)
		}
	}
}

// The same plan in another folder gives the same document but for its digest, which
// is of the text and so the same too.
func TestPlaceDoesNotMatter(t *testing.T) {
	b, err := os.ReadFile("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	for _, dir := range []string{"/a/b", "/somewhere/else"} {
		p, err := plan.Parse(filepath.Join(dir, "plan.yaml"), b)
		if err != nil {
			t.Fatal(err)
		}
		texts[Make(p, Options{}).Markdown()] = true
	}
	if len(texts) != 1 {
		t.Error("the document depends on where the plan lies")
	}
}

func TestGolden(t *testing.T) {
	p, err := plan.Load("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := MakeSheet(p, "technical_lead")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"internal": Make(p, Options{}).Markdown(),
		"public":   Make(p, Options{Edition: Public, Style: StyleStartup}).Markdown(),
		"sheet":    sheet.Markdown(),
	} {
		path := filepath.Join("testdata", name+".golden.md")
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s differs; go test -update shows how:\n%s", path, text)
		}
	}
}

// The page is one file: it names no other host, runs nothing, and every heading and
// anchor is there once.
func TestPageStandsAlone(t *testing.T) {
	p, _ := planted()
	for _, f := range []Format{FormatHTML, FormatPrint} {
		standsAlone(t, string(f), outputs(t, p, Options{})[f])
	}
}

func standsAlone(t *testing.T, f, text string) {
	t.Helper()
	for _, not := range []string{"<script", "src=", "<link", "@import", "url(", "<img", "<iframe", "onclick", "http-equiv=\"refresh"} {
		if strings.Contains(text, not) {
			t.Errorf("%s contains %s", f, not)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("%s: the id %s is there twice", f, m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "#") || !ids[m[1][1:]] {
			t.Errorf("%s links to %s", f, m[1])
		}
	}
}

// A sheet stays one page, however large the plan is.
func TestSheetIsOnePage(t *testing.T) {
	p, err := plan.Load("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("Do this very carefully. ", 40)
	steps := plan.Steps{}
	for i := range 60 {
		id := fmt.Sprintf("n%02d", i)
		p.Services[id] = plan.Service{Tier: "critical"}
		p.Locations[id] = plan.Location{Kind: plan.KindDir, Path: "/" + strings.Repeat("long/", 60)}
		p.Roles[id] = plan.Role{Holder: "karin"}
		steps = append(steps, plan.Step{ID: id, Human: "technical_lead", Text: long})
	}
	p.Runbooks["huge"] = plan.Runbook{Steps: steps}
	s, err := MakeSheet(p, "technical_lead")
	if err != nil {
		t.Fatal(err)
	}
	text := s.Markdown()
	if lines := strings.Count(text, "\n"); lines > 75 {
		t.Errorf("the sheet has %d lines", lines)
	}
	// A4 in 9.5 points takes about 95 characters and 70 lines of tables.
	if len(text) > 9000 {
		t.Errorf("the sheet has %d characters", len(text))
	}
	if !strings.Contains(text, "in the document") {
		t.Error("what was left out is not counted")
	}
	if _, err := MakeSheet(p, "nobody"); err == nil {
		t.Error("a role that is not declared has a sheet")
	}
}
