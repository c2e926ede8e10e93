package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast"
)

// What is written for code review keeps the rules of SARIF 2.1.0, whatever was found.
func TestSARIF(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("testdata", "sarif.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rules))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	sch, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text string) error {
		inst, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return sch.Validate(inst)
	}
	all := []holdfast.Finding{
		{Code: "HF-L2", Severity: holdfast.SeverityError, File: "/work place/plan.yaml", Line: 4, Column: 2, Subject: "stores.db", Message: "too slow", Hint: "be faster"},
		{Code: "HF-L2", Severity: holdfast.SeverityWarning, File: "/work place/ä:b.yaml", Line: 9, Column: 1, Subject: "stores.db", Message: "too slow again"},
		{Code: "HF-A1", Severity: holdfast.SeverityNote, Subject: "stores.db", Message: "no place in a file", Hint: "none"},
	}
	var texts []string
	for name, fs := range map[string][]holdfast.Finding{"none": nil, "all": all} {
		var b bytes.Buffer
		if err := writeSARIF(&b, fs, holdfast.ExitMissed, "/work place"); err != nil {
			t.Fatal(err)
		}
		if err := valid(b.String()); err != nil {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
		if name == "all" {
			texts = append(texts, b.String())
		}
	}
	for _, want := range []string{`"uri": "plan.yaml"`, `"uri": "./%C3%A4:b.yaml"`, `"ruleIndex": 1`, `"level": "warning"`} {
		if !strings.Contains(texts[0], want) {
			t.Errorf("%s is missing:\n%s", want, texts[0])
		}
	}
	if valid(strings.Replace(texts[0], `"level": "note"`, `"level": "info"`, 1)) == nil || valid(strings.Replace(texts[0], `"startLine": 4`, `"startLine": 0`, 1)) == nil {
		t.Error("the rules let through what SARIF forbids")
	}
	// Fingerprints stay when lines above are added, and differ from each other.
	moved := append([]holdfast.Finding(nil), all...)
	moved[0].Line, moved[0].Message = 40, "too slow by other numbers"
	prints := func(fs []holdfast.Finding) (out []string) {
		var b bytes.Buffer
		if err := writeSARIF(&b, fs, 0, ""); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if strings.Contains(line, fingerprintName) {
				out = append(out, strings.TrimSpace(line))
			}
		}
		return out
	}
	was, is := prints(all), prints(moved)
	if len(was) != 3 || was[0] != is[0] || was[0] == was[1] || was[1] == was[2] {
		t.Errorf("fingerprints %v, then %v", was, is)
	}
}
