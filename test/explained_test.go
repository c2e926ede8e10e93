package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A reason says why an example has findings.
type reason struct {
	example, code, subject, why string
	written                     bool // found once what was bound for the example is taken out
}

// reasons reads testdata/explained.txt.
func reasons(t *testing.T) (out []reason) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "explained.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			t.Fatalf("explained.txt:%d: want example | code | subject | reason", i+1)
		}
		out = append(out, reason{cells[0], cells[1], cells[2], cells[3], strings.Contains(cells[3], " as written: ")})
	}
	return out
}

// ours is what the examples bound, where their sources have words only.
var ours = regexp.MustCompile(`, bound: \w+, bound_by: [\w-]+`)

// The examples have the faults of their sources and no others: each finding has its reason
// in a contradiction or an open clause, each reason finds something, and each of the 27
// contradictions is found, or said to be none.
func TestFindingsOfTheExamplesAreExplained(t *testing.T) {
	t.Parallel()
	all := reasons(t)
	met := make([]bool, len(all))
	for name := range profiles {
		text, err := os.ReadFile(filepath.Join("..", "examples", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		plan := filepath.Join(t.TempDir(), name+".yaml")
		for _, written := range []bool{false, true} {
			as := string(text)
			if written {
				as = ours.ReplaceAllString(as, "")
			}
			write(t, plan, as, 0o600)
			var v struct{ Findings []finding }
			hf(t, "check", plan, "--json").object(t, &v)
			for _, f := range v.Findings {
				explained := false
				for i, r := range all {
					if r.example == name && r.code == f.Code && strings.HasPrefix(f.Subject, r.subject) && (written || !r.written) {
						explained, met[i] = true, true
					}
				}
				if !explained && !written {
					t.Errorf("%s: no clause of the source has this fault: %+v", name, f)
				}
			}
		}
	}
	for i, r := range all {
		if !met[i] && r.code != "none" {
			t.Errorf("%s: %s of %s is not found: %s", r.example, r.code, r.subject, r.why)
		}
	}
	// The contradictions, and what docs/findings.md says of each.
	docs, err := os.ReadFile(filepath.Join("..", "docs", "findings.md"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 27; n++ {
		id := fmt.Sprintf("T%d", n)
		row := regexp.MustCompile(`(?m)^\| ` + id + ` \|.*$`).FindString(string(docs))
		var codes []string
		for _, r := range all {
			if word, _, _ := strings.Cut(r.why, ":"); word == id || word == id+" as written" {
				codes = append(codes, r.code)
			}
		}
		if len(codes) == 0 {
			t.Errorf("%s is found in no example: %s", id, row)
		} else if !slices.ContainsFunc(codes, func(c string) bool { return strings.Contains(row, c) }) {
			t.Errorf("%s is found as %v, and docs/findings.md says %q", id, codes, row)
		}
	}
}
