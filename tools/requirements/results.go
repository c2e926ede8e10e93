package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// An event is a line of "go test -json".
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
}

// An Outcome is how one test ended.
type Outcome string

// The outcomes of a test. A test that began and has no end, because its process
// was killed or ran out of time, is unfinished: that is no pass.
const (
	Passed     Outcome = "passed"
	Failed     Outcome = "failed"
	Skipped    Outcome = "skipped"
	Unfinished Outcome = "unfinished"
)

// A Test is one test or subtest that ran.
type Test struct {
	Package, Name string
	Outcome       Outcome
	Output        string // what it printed, shortened
}

// Rows returns the rows that a test names: those at the beginning of its own name
// or of the test that it is part of. "TestBackup/BKP-21_BKP-22_every_location/far"
// names two.
func (t Test) Rows() []string {
	var ids []string
	for part := range strings.SplitSeq(t.Name, "/") {
		for {
			m := leadingRow.FindStringSubmatch(part)
			if m == nil {
				break
			}
			ids = append(ids, m[1])
			part = part[len(m[0]):]
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// leadingRow is a row's name at the beginning of a test's. It takes too many digits
// too, so that a slip of the finger is an unknown row and not an ordinary name.
var leadingRow = regexp.MustCompile(`^([A-Z]{3}-\d+)[^A-Za-z0-9]*(?:and_)?`)

// Results are what the acceptance tests did.
type Results struct {
	Tests  []Test
	Broken []string // packages that failed as a whole, each with what they said
}

// maxOutput is what is kept of a test's output, from its end.
const maxOutput = 8 << 10

// ReadResults reads the output of "go test -json".
func ReadResults(r io.Reader) (*Results, error) {
	type key struct{ pkg, name string }
	tests := map[key]*Test{}
	output := map[string]string{} // of packages and builds
	broken := map[string]bool{}
	d := json.NewDecoder(r)
	for {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("this is not the output of \"go test -json\": %w", err)
		}
		if e.Test == "" {
			switch e.Action {
			case "output":
				output[e.Package] = shorten(output[e.Package] + e.Output)
			case "build-output":
				name, _, _ := strings.Cut(e.ImportPath, " ")
				output[name] = shorten(output[name] + e.Output)
			case "fail":
				broken[e.Package] = true
			case "build-fail":
				name, _, _ := strings.Cut(e.ImportPath, " ")
				broken[name] = true
			}
			continue
		}
		k := key{e.Package, e.Test}
		t := tests[k]
		if t == nil {
			t = &Test{Package: e.Package, Name: e.Test, Outcome: Unfinished}
			tests[k] = t
		}
		switch e.Action {
		case "pass":
			t.Outcome = Passed
		case "fail":
			t.Outcome = Failed
		case "skip":
			t.Outcome = Skipped
		case "output":
			t.Output = shorten(t.Output + e.Output)
		}
	}
	res := &Results{}
	for _, t := range tests {
		res.Tests = append(res.Tests, *t)
	}
	slices.SortFunc(res.Tests, func(a, b Test) int {
		if c := strings.Compare(a.Package, b.Package); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, p := range slices.Sorted(maps.Keys(broken)) {
		res.Broken = append(res.Broken, p+"\n"+output[p])
	}
	return res, nil
}

func shorten(s string) string {
	if len(s) > maxOutput {
		return s[len(s)-maxOutput:]
	}
	return s
}
