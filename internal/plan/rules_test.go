package plan

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every code that the package can report is a rule, every rule is explained in the
// documentation in the same words, and every rule has a case that finds it.
func TestRules(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "findings.md"))
	if err != nil {
		t.Fatal(err)
	}
	cases := ""
	golden, err := filepath.Glob(filepath.Join("testdata", "check", "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range golden {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cases += string(b)
	}
	if len(cases) == 0 {
		t.Fatal("no golden case was found")
	}
	src, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, m := range regexp.MustCompile(`= "(HF-[A-Z]+[0-9]+)"`).FindAllSubmatch(src, -1) {
		code := string(m[1])
		if slices.Contains(codes, code) {
			t.Errorf("%s stands for two things", code)
		}
		codes = append(codes, code)
		if _, ok := RuleOf(code); !ok {
			t.Errorf("%s is no rule", code)
		}
	}
	if len(codes) < 30 || len(codes) != len(rules) {
		t.Errorf("%d codes and %d rules", len(codes), len(rules))
	}
	sentence := regexp.MustCompile(`^\S.*[^.]$`)
	for _, r := range Rules() {
		if !strings.Contains(string(docs), "| "+r.Code+" | "+r.Meaning+" |\n") {
			t.Errorf("docs/findings.md does not say: | %s | %s |", r.Code, r.Meaning)
		}
		if !sentence.MatchString(r.Meaning) || !strings.HasSuffix(r.Why, ".") || !strings.HasSuffix(r.Out, ".") {
			t.Errorf("%s: a meaning has no full stop, why and out have one", r.Code)
		}
		if r.Code != codeLimit && !strings.Contains(cases, " "+r.Code+" ") {
			t.Errorf("no case under testdata/check finds %s", r.Code)
		}
	}
	for _, word := range []string{"hf-l2", "L2", "HF-L2"} {
		if r, ok := RuleOf(word); !ok || r.Code != codeSchedule {
			t.Errorf("%q names %+v", word, r)
		}
	}
	if _, ok := RuleOf("HF-L999"); ok || NearestRule("HF-Y11") == "" {
		t.Error("a code that does not exist has a rule, or no suggestion")
	}
}
