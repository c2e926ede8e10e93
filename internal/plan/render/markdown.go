package render

import (
	"fmt"
	"strings"
	"unicode"

	"holdfast/internal/plan"
)

// writer writes the Markdown of one section. Values of the plan pass through text
// or code; everything else in its output is ours.
type writer struct {
	plan    *plan.Plan
	public  bool
	secrets *secrets // what the public edition must not say
	b       strings.Builder
	all     []leaf // of the plan, found once
}

// leaves returns every value of the plan.
func (w *writer) leaves() []leaf {
	if w.all == nil {
		w.all = leaves(w.plan)
	}
	return w.all
}

// body returns what was written, with one line break at its end.
func (w *writer) body() string { return strings.TrimRight(w.b.String(), "\n") + "\n" }

// para writes a paragraph. Its arguments are finished Markdown.
func (w *writer) para(format string, args ...any) {
	fmt.Fprintf(&w.b, format+"\n\n", args...)
}

// head writes a heading within the section.
func (w *writer) head(format string, args ...any) {
	fmt.Fprintf(&w.b, "### "+format+"\n\n", args...)
}

// list writes one line for each item; nothing for none.
func (w *writer) list(items []string) {
	for _, s := range items {
		fmt.Fprintf(&w.b, "- %s\n", s)
	}
	if len(items) > 0 {
		w.b.WriteString("\n")
	}
}

// table writes a table, or says none when there is no row. A column that is empty in
// every row is left out.
func (w *writer) table(none string, heads []string, rows [][]string) {
	if len(rows) == 0 {
		w.para("%s", none)
		return
	}
	used := make([]bool, len(heads))
	used[0] = true
	for _, r := range rows {
		for i, c := range r {
			used[i] = used[i] || c != ""
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			if used[i] {
				fmt.Fprintf(&w.b, "| %s ", c)
			}
		}
		w.b.WriteString("|\n")
	}
	line(heads)
	for i := range heads {
		if used[i] {
			w.b.WriteString("|---")
		}
	}
	w.b.WriteString("|\n")
	for _, r := range rows {
		line(r)
	}
	w.b.WriteString("\n")
}

// text makes a value of the plan into Markdown that shows it and does nothing else.
func (w *writer) text(s string) string {
	s = w.allowed(plainLine(s))
	return escape(s)
}

// texts joins values.
func (w *writer) texts(ss []string) string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = w.text(s)
	}
	return strings.Join(out, ", ")
}

// quoted shows the policy's own words as such.
func (w *writer) quoted(s string) string { return "“" + w.text(s) + "”" }

// code shows a value as it would be typed. It is for paths, commands and digests.
func (w *writer) code(s string) string {
	s = w.allowed(plainLine(s))
	if s == "" {
		return ""
	}
	if s == Withheld {
		return escape(s)
	}
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	pad := ""
	if s[0] == '`' || s[len(s)-1] == '`' || s[0] == ' ' || s[len(s)-1] == ' ' {
		pad = " "
	}
	// In a table a bar would end the cell even inside code; the backslash before it is
	// taken away again by the reader of tables. Outside of tables no value is code.
	return fence + pad + strings.ReplaceAll(s, "|", `\|`) + pad + fence
}

// plainLine makes one line of s without characters that act on a terminal, a page or
// the direction of the text around them.
func plainLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r):
			return '\uFFFD'
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// escape puts a backslash before every character that Markdown could act on where a
// value can stand: within a line, at the beginning of one, or in a table.
func escape(s string) string {
	var b strings.Builder
	rs := []rune(s)
	word := func(i int) bool {
		return i >= 0 && i < len(rs) && (unicode.IsLetter(rs[i]) || unicode.IsDigit(rs[i]))
	}
	for i, r := range rs {
		switch r {
		case '\\', '`', '*', '[', ']', '<', '|', '~', '$', '@':
			b.WriteByte('\\')
		case '&':
			if i+1 < len(rs) && (rs[i+1] == '#' || word(i+1)) {
				b.WriteByte('\\')
			}
		case '_':
			if !word(i-1) || !word(i+1) {
				b.WriteByte('\\')
			}
		case ':':
			// Some readers make links of bare addresses.
			if i+2 < len(rs) && rs[i+1] == '/' && rs[i+2] == '/' {
				b.WriteByte('\\')
			}
		case '#', '+', '-', '=', '>':
			if i == 0 {
				b.WriteByte('\\')
			}
		case '.', ')':
			switch {
			case i > 0 && (i+1 == len(rs) || rs[i+1] == ' ') && strings.Trim(string(rs[:i]), "0123456789") == "":
				b.WriteByte('\\') // "1." begins a list
			case r == '.' && i >= 3 && strings.EqualFold(string(rs[i-3:i]), "www"):
				b.WriteByte('\\')
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}
