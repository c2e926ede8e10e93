package importer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
)

// A document that nobody touched gives its plan again, byte for byte, in every style;
// also a plan without an end of line, with a fence in it, and the text of a folder.
func TestRenderedComesBack(t *testing.T) {
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%v, %v", files, err)
	}
	sources := map[string][]byte{"no end": []byte("apiVersion: holdfast/v1\nplan: {id: x}"),
		"fence":  []byte("apiVersion: holdfast/v1\n# ```yaml\n# ````\nplan: {id: x}\n# ## The plan itself\n"),
		"folder": []byte("#=== file: a.yaml ===\napiVersion: holdfast/v1\nplan: {id: x}\n#=== file: b.yaml ===\ntiers: {a: {rto: 4h}}\n")}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources[filepath.Base(f)] = b
	}
	for name, source := range sources {
		p, err := plan.Parse("plan.yaml", source)
		if err != nil {
			t.Fatal(err)
		}
		for _, style := range render.Styles() {
			got, err := Import("policy.md", []byte(render.Bind(render.Make(p, render.Options{Style: style}).Markdown(), source)), today)
			if err != nil {
				t.Fatalf("%s %s: %v", name, style, err)
			}
			if !got.Rendered || !bytes.Equal(got.Plan, source) || len(got.Findings)+len(got.Carried) > 0 {
				t.Errorf("%s %s: comes back otherwise, with %+v and %+v", name, style, got.Findings, got.Carried)
			}
		}
	}
}

// What is changed in the text is in the plan afterwards, with all around it as it was,
// or it is an error that names its line.
func TestRenderedIsChanged(t *testing.T) {
	source, err := os.ReadFile("../../../examples/small-company.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Parse("plan.yaml", source)
	if err != nil {
		t.Fatal(err)
	}
	text := render.Bind(render.Make(p, render.Options{}).Markdown(), source)
	for _, tt := range []struct {
		name, old, new string
		plan, changed  string // a text of the plan, and what it is afterwards; "" for none
		finding        string
	}{
		{"an objective", "| critical | 4 hours |", "| critical | 2 hours |", "critical: {rto: 4h,", "critical: {rto: 2h,", ""},
		{"a sentence of its own", "\n## 2. ", "\nEverybody must be kind.\n\n## 2. ", "", "", "Everybody must be kind"},
		{"a row that goes", "| support |", "| helpful |", "", "", "tiers.helpful"},
	} {
		if strings.Count(text, tt.old) == 0 {
			t.Errorf("%s: the document does not hold %q", tt.name, tt.old)
			continue
		}
		got, err := Import("policy.md", []byte(strings.Replace(text, tt.old, tt.new, 1)), today)
		if err != nil {
			t.Fatal(err)
		}
		want := string(source)
		if tt.plan != "" {
			if !strings.Contains(want, tt.plan) {
				t.Fatalf("the plan does not hold %q", tt.plan)
			}
			want = strings.Replace(want, tt.plan, tt.changed, 1)
		}
		if string(got.Plan) != want {
			t.Errorf("%s: the plan is\n%s", tt.name, got.Plan)
		}
		said := ""
		for _, f := range got.Findings {
			said += f.Message + "\n"
			if f.Code != codeApart || f.Line == 0 || f.Severity != holdfast.SeverityError {
				t.Errorf("%s: %+v", tt.name, f)
			}
		}
		if tt.finding == "" && said != "" || !strings.Contains(said, tt.finding) {
			t.Errorf("%s: says %q", tt.name, said)
		}
	}
	if _, err := Import("policy.md", []byte(strings.Replace(text, "apiVersion: holdfast/v1", "apiVersion: holdfast/v9", 1)), today); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("a plan that does not load is taken: %v", err)
	}
}
