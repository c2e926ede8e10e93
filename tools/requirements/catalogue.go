package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Row is one requirement of the catalogue.
type Row struct {
	ID   string // "BKP-21"
	Text string // what is required
}

// Area returns the capability area of the row: "BKP".
func (r Row) Area() string { area, _, _ := strings.Cut(r.ID, "-"); return area }

// A Catalogue is the specification.
type Catalogue struct {
	Rows  []Row             // in the order of the text
	Areas map[string]string // name of each area: "BKP" is "Backup scheduling and coverage"
	Total int               // what the catalogue itself says how many rows it has
}

// Has reports whether a row is in the catalogue.
func (c *Catalogue) Has(id string) bool {
	return slices.ContainsFunc(c.Rows, func(r Row) bool { return r.ID == id })
}

var (
	rowLine   = regexp.MustCompile(`^\| ([A-Z]{3}-\d{2}) \|(.*)$`)
	areaLine  = regexp.MustCompile(`^## ([A-Z]{3})\. (.+)$`)
	totalLine = regexp.MustCompile(`^\| \*\*Total\*\* \| \*\*(\d+)\*\* \|`)
)

// maxLine bounds a line of the catalogue.
const maxLine = 64 << 10

// ReadCatalogue reads the rows of the catalogue's tables. It refuses one whose
// rows are doubled, empty, under another area's heading, or not as many as the
// catalogue says itself: a row that is lost in an edit must not go unnoticed.
func ReadCatalogue(r io.Reader) (*Catalogue, error) {
	c := &Catalogue{Areas: map[string]string{}}
	seen := map[string]int{}
	area := ""
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if m := areaLine.FindStringSubmatch(line); m != nil {
			area = m[1]
			c.Areas[area] = m[2]
			continue
		}
		if strings.HasPrefix(line, "#") {
			area = ""
		}
		if m := totalLine.FindStringSubmatch(line); m != nil {
			c.Total, _ = strconv.Atoi(m[1])
			continue
		}
		m := rowLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(m[2]), "|"), " | ")
		row := Row{ID: m[1], Text: strings.TrimSpace(cells[0])}
		switch {
		case row.Area() != area:
			return nil, fmt.Errorf("line %d: row %s stands under %q", n, row.ID, area)
		case seen[row.ID] != 0:
			return nil, fmt.Errorf("line %d: row %s is on line %d already", n, row.ID, seen[row.ID])
		case len(cells) != 4 || row.Text == "":
			return nil, fmt.Errorf("line %d: row %s has %d cells after its name, want 4: requirement, sources, figures, acceptance", n, row.ID, len(cells))
		}
		seen[row.ID] = n
		c.Rows = append(c.Rows, row)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if c.Total == 0 || c.Total != len(c.Rows) {
		return nil, fmt.Errorf("the catalogue has %d rows, and says itself that it has %d", len(c.Rows), c.Total)
	}
	return c, nil
}
