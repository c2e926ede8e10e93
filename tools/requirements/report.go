package main

import (
	"fmt"
	"io"
	"strings"
)

// A State is what is known of one row.
type State string

// The states of a row. What no test names is untested, never proved.
const (
	Proved   State = "proved"
	Failing  State = "failing"
	Untested State = "untested"
)

// A RowReport is one row with the tests that name it.
type RowReport struct {
	Row
	State State
	Tests []Test
}

// A Report judges every row of the catalogue.
type Report struct {
	Areas   map[string]string
	Rows    []RowReport
	Unknown []string // tests that name rows which are not in the catalogue
}

// Judge says for each row whether it is proved. It is if at least one test that
// names it passed, and none that names it failed, was skipped or did not end.
func Judge(c *Catalogue, res *Results) *Report {
	by := map[string][]Test{}
	rep := &Report{Areas: c.Areas}
	for _, t := range res.Tests {
		for _, id := range t.Rows() {
			if !c.Has(id) {
				rep.Unknown = append(rep.Unknown, fmt.Sprintf("%s %s names %s", t.Package, t.Name, id))
				continue
			}
			by[id] = append(by[id], t)
		}
	}
	for _, row := range c.Rows {
		r := RowReport{Row: row, State: Untested, Tests: by[row.ID]}
		for _, t := range r.Tests {
			if t.Outcome != Passed {
				r.State = Failing
				break
			}
			r.State = Proved
		}
		rep.Rows = append(rep.Rows, r)
	}
	return rep
}

// Count returns how many rows are in a state.
func (r *Report) Count(s State) (n int) {
	for _, row := range r.Rows {
		if row.State == s {
			n++
		}
	}
	return n
}

// Summary is the line that a build reads.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d proved, %d failing, %d untested of %d", r.Count(Proved), r.Count(Failing), r.Count(Untested), len(r.Rows))
}

// areas lists the areas in the order of the catalogue.
func (r *Report) areas() (names []string) {
	for _, row := range r.Rows {
		if len(names) == 0 || names[len(names)-1] != row.Area() {
			names = append(names, row.Area())
		}
	}
	return names
}

func (r *Report) in(area string, s State) (rows []RowReport) {
	for _, row := range r.Rows {
		if row.Area() == area && row.State == s {
			rows = append(rows, row)
		}
	}
	return rows
}

// Text prints what is proved and what fails, row by row, and what is untested by
// area.
func (r *Report) Text(w io.Writer) {
	for _, area := range r.areas() {
		fmt.Fprintf(w, "%s. %s\n", area, r.Areas[area])
		for _, s := range []State{Proved, Failing} {
			for _, row := range r.in(area, s) {
				fmt.Fprintf(w, "  %s %-8s %s\n", row.ID, row.State, row.Text)
				for _, t := range row.Tests {
					if s == Proved && part(t, row.Tests) {
						continue
					}
					fmt.Fprintf(w, "           %s: %s %s\n", t.Outcome, t.Package, t.Name)
				}
			}
		}
		if un := r.in(area, Untested); len(un) > 0 {
			var ids []string
			for _, row := range un {
				ids = append(ids, strings.TrimPrefix(row.ID, area+"-"))
			}
			fmt.Fprintf(w, "  untested: %s\n", strings.Join(ids, " "))
		}
	}
}

// part reports whether t is a subtest of another one of tests.
func part(t Test, tests []Test) bool {
	for _, o := range tests {
		if o.Package == t.Package && strings.HasPrefix(t.Name, o.Name+"/") {
			return true
		}
	}
	return false
}

// Markdown prints the page that is kept in the repository. It has no dates: the
// same results give the same bytes.
func (r *Report) Markdown(w io.Writer) {
	fmt.Fprintf(w, "# What is proved\n\nWritten by `make requirements ARGS=-write`. A row of the [catalogue](catalogue.md) is proved if a black-box test that names it passed,\nand none that names it failed or was skipped. What no test names is untested.\n\n**%s**\n\n", r.Summary())
	fmt.Fprintf(w, "| area | proved | failing | untested |\n|---|---|---|---|\n")
	for _, area := range r.areas() {
		fmt.Fprintf(w, "| %s. %s | %d | %d | %d |\n", area, r.Areas[area], len(r.in(area, Proved)), len(r.in(area, Failing)), len(r.in(area, Untested)))
	}
	for _, s := range []State{Proved, Failing} {
		if r.Count(s) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n## %s\n\n| row | requirement | tests |\n|---|---|---|\n", strings.ToUpper(string(s[:1]))+string(s[1:]))
		for _, row := range r.Rows {
			if row.State != s {
				continue
			}
			var tests []string
			for _, t := range row.Tests {
				if !part(t, row.Tests) {
					tests = append(tests, "`"+t.Name+"`")
				}
			}
			fmt.Fprintf(w, "| %s | %s | %s |\n", row.ID, row.Text, strings.Join(tests, ", "))
		}
	}
}
