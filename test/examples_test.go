// Package test holds what is proved from outside, on real parts.
package test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

var update = flag.Bool("update", false, "write the examples anew")

// The example is what "holdfast init" writes, so that whoever reads it in the
// repository reads the plan that he will get.
func TestExampleIsTheTemplate(t *testing.T) {
	const path = "../examples/small-company.yaml"
	want := plan.Template(plan.Values{})
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the template gives: go test ./test -run Example -update writes it anew", path)
	}
}

// What check says of the example is only that the keys must be the company's own: the
// placeholders that stand for them are no two keys.
func TestExampleKeepsItsPromises(t *testing.T) {
	p, err := plan.Load("../examples/small-company.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plan.Check(p, time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)) {
		if !strings.HasPrefix(f.Subject, "keys.") && f.Subject != "repository.encrypt_to" {
			t.Errorf("%s %s: %s: %s", f.Severity, f.Code, f.Subject, f.Message)
		}
	}
}
