package render

import "strings"

// A Group is one part of a document of facts: what is known about one thing.
type Group struct {
	ID, Title string
	Heads     []string
	Rows      [][]string // as many cells as heads
}

// Facts makes a document of what is known, under a stamp that names the plan and the
// instant. The texts are plain; none of their characters becomes markup.
func Facts(title, stamp, preface string, groups []Group) Document {
	w := &writer{}
	d := Document{Title: w.text(title), Stamp: w.text(stamp), Preface: w.text(preface), Edition: Internal, Style: StyleGeneral}
	for _, g := range groups {
		w.b.Reset()
		rows := make([][]string, len(g.Rows))
		for i, r := range g.Rows {
			for _, c := range r {
				rows[i] = append(rows[i], w.text(strings.TrimSpace(c)))
			}
		}
		w.table("Nothing is known.", g.Heads, rows)
		d.Sections = append(d.Sections, Section{ID: g.ID, Number: len(d.Sections) + 1, Title: w.text(g.Title), Body: w.body() + "\n*" + d.Stamp + "*\n"})
	}
	return d
}
