package importer

import (
	"html"
	"slices"
	"strings"
	"unicode"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// A textLine is a line as the parser reads it, with the line of the policy on which it
// begins.
type textLine struct {
	no   int // from 1
	text string
}

// layout brings what people draw in other ways into the form of Markdown: HTML, tables
// that are drawn with + and -, columns that are set with spaces or tabs, and several
// fields on one line. Every line keeps the number that it has in the policy.
func layout(raw []string) []textLine {
	lines := make([]textLine, len(raw))
	for i, s := range raw {
		lines[i] = textLine{i + 1, s}
	}
	if slices.ContainsFunc(raw, reTag.MatchString) {
		lines = unmarked(lines)
	}
	return pairs(columns(grids(lines)))
}

var (
	reTag     = regexp.MustCompile(`(?i)</?(?:table|tr|td|th|p|br|li|ul|ol|div|h[1-6])\b[^<>]*>`)
	reAnyTag  = regexp.MustCompile(`(?i)<!--|-->|</?(table|thead|tbody|tfoot|caption|colgroup|col|tr|td|th|p|br|hr|li|ul|ol|dl|dt|dd|div|section|article|header|footer|main|body|html|head|title|h[1-6]|b|strong|i|em|u|a|span|code|sup|sub|small|font|script|style|img|blockquote)\b[^<>]*>`)
	reBorder  = regexp.MustCompile(`^\s*\+(?:[-=]{2,}\+)+\s*$`)
	reDashes  = regexp.MustCompile(`^\s*-{3,}(?: +-{2,})+\s*$`)
	reGap     = regexp.MustCompile(`\t+| {2,}`)
	rePartSep = regexp.MustCompile(`\s+[·•|]\s+`)
)

// unmarked takes the tags of HTML out of a text. Its tables become tables, its lists
// lists and its titles titles; everything else stands as it is.
func unmarked(lines []textLine) []textLine {
	h := &htmlReader{}
	// What hides text must end somewhere: a comment that never does hides nothing.
	closed := map[string]int{}
	for i, l := range lines {
		for _, end := range []string{"-->", "</script", "</style", "</head"} {
			if strings.Contains(strings.ToLower(l.text), end) {
				closed[end] = i
			}
		}
	}
	for i, l := range lines {
		rest := l.text
		ends := func(end string) bool {
			return closed[end] > i || strings.Contains(strings.ToLower(rest), end)
		}
		for {
			loc := reAnyTag.FindStringSubmatchIndex(rest)
			if loc == nil {
				break
			}
			h.text(rest[:loc[0]], l.no)
			tag := rest[loc[0]:loc[1]]
			switch {
			case tag == "<!--":
				if ends("-->") {
					h.hidden = "!"
				}
			case tag == "-->":
				h.hidden = ""
			default:
				name := strings.ToLower(rest[loc[2]:loc[3]])
				if hides := name == "script" || name == "style" || name == "head"; !hides || strings.HasPrefix(tag, "</") || ends("</"+name) {
					h.tag(name, strings.HasPrefix(tag, "</"), l.no)
				}
			}
			rest = rest[loc[1]:]
		}
		h.text(rest, l.no)
		h.endOfLine(l.no)
	}
	h.endTable()
	h.flush()
	return h.out
}

// An htmlReader writes lines while it reads tags. It keeps no tree, so that depth costs
// nothing.
type htmlReader struct {
	out     []textLine
	line    strings.Builder // what was read of the line that is being written
	no      int
	prefix  string // of the line: "# ", "- "
	block   bool   // inside an element, where the line breaks of the source mean nothing
	hidden  string // what hides the text until it ends: a comment, a script, a style
	inTable bool
	rows    [][]string
	nos     []int
	heads   bool // the first row has head cells only
	cell    bool
}

func (h *htmlReader) text(s string, no int) {
	if h.hidden != "" || s == "" {
		return
	}
	if h.line.Len() == 0 {
		if h.block && strings.TrimSpace(s) == "" {
			return
		}
		h.no = no
	}
	h.line.WriteString(html.UnescapeString(s))
}

// endOfLine ends a line of the source. Within an element that is a space.
func (h *htmlReader) endOfLine(no int) {
	switch {
	case h.hidden != "":
	case h.block || h.inTable:
		if h.line.Len() > 0 {
			h.line.WriteByte(' ')
		}
	default:
		if h.line.Len() == 0 {
			h.out = append(h.out, textLine{no, ""})
			return
		}
		h.flush()
	}
}

func (h *htmlReader) flush() {
	if s := h.line.String(); strings.TrimSpace(s) != "" {
		if h.block || h.prefix != "" {
			s = strings.TrimSpace(s)
		}
		h.out = append(h.out, textLine{h.no, h.prefix + s})
	}
	h.line.Reset()
	h.prefix = ""
}

// blank ends a paragraph.
func (h *htmlReader) blank(no int) {
	h.flush()
	h.out = append(h.out, textLine{no, ""})
}

func (h *htmlReader) tag(name string, end bool, no int) {
	switch name {
	case "script", "style", "head":
		if h.hidden = name; end {
			h.hidden = ""
		}
		return
	case "b", "strong":
		if !h.inTable {
			h.line.WriteString("**")
		}
		return
	}
	if h.hidden != "" {
		return
	}
	if h.inTable {
		h.tableTag(name, end, no)
		return
	}
	switch name {
	case "table":
		h.blank(no)
		if h.inTable = !end; h.inTable {
			h.rows, h.nos, h.heads, h.cell = nil, nil, false, false
		}
	case "h1", "h2", "h3", "h4", "h5", "h6":
		h.blank(no)
		if h.block = !end; h.block {
			h.prefix = strings.Repeat("#", int(name[1]-'0')) + " "
			h.no = no
		}
	case "li", "dt", "dd":
		h.flush()
		if h.block = !end; h.block && name == "li" {
			h.prefix = "- "
		}
	case "p", "blockquote":
		h.blank(no)
		h.block = !end
	case "br", "hr":
		h.flush()
	case "ul", "ol", "dl", "div", "section", "article", "header", "footer", "main", "body", "html":
		h.blank(no)
	}
}

func (h *htmlReader) tableTag(name string, end bool, no int) {
	switch name {
	case "table":
		if end {
			h.endTable()
		}
	case "tr":
		h.endCell()
		if !end && len(h.rows) < MaxValues {
			h.rows, h.nos = append(h.rows, nil), append(h.nos, no)
		}
	case "td", "th":
		h.endCell()
		if end {
			return
		}
		if len(h.rows) == 0 {
			h.rows, h.nos = [][]string{nil}, []int{no}
		}
		if len(h.rows) == 1 {
			h.heads = name == "th" && (len(h.rows[0]) == 0 || h.heads)
		}
		h.cell = true
		h.line.Reset()
	case "br", "p", "li", "div":
		h.line.WriteByte(' ')
	}
}

func (h *htmlReader) endCell() {
	if h.cell {
		i := len(h.rows) - 1
		h.rows[i] = append(h.rows[i], strings.Join(strings.Fields(h.line.String()), " "))
	}
	h.cell = false
	h.line.Reset()
}

// endTable writes the table that was read. A table without a row of heads that has two
// columns names fields in the first.
func (h *htmlReader) endTable() {
	if !h.inTable {
		return
	}
	h.endCell()
	h.inTable, h.block = false, false
	if len(h.rows) > 0 && !h.heads && len(h.rows[0]) == 2 {
		h.rows, h.nos = slices.Insert(h.rows, 0, []string{"", ""}), slices.Insert(h.nos, 0, h.nos[0])
	}
	h.out = append(h.out, tableLines(h.rows, h.nos)...)
	h.rows, h.nos = nil, nil
}

// tableLines writes a table; its first row holds the heads.
func tableLines(rows [][]string, nos []int) []textLine {
	var out []textLine
	if len(rows) == 0 {
		return nil
	}
	for i, cells := range rows {
		if len(cells) == 0 {
			continue
		}
		text := "|"
		for _, c := range cells {
			text += " " + strings.ReplaceAll(c, "|", `\|`) + " |"
		}
		out = append(out, textLine{nos[i], text})
		if i == 0 {
			out = append(out, textLine{nos[i], "|" + strings.Repeat("---|", len(cells))})
		}
	}
	return append(out, textLine{nos[len(nos)-1], ""})
}

// grids reads tables that are drawn with +---+ between rows.
func grids(lines []textLine) []textLine {
	var out []textLine
	for i := 0; i < len(lines); i++ {
		if !reBorder.MatchString(lines[i].text) {
			out = append(out, lines[i])
			continue
		}
		var groups [][]textLine // the lines between two borders
		j := i + 1
		for ; j < len(lines); j++ {
			text := strings.TrimSpace(lines[j].text)
			if reBorder.MatchString(text) {
				groups = append(groups, nil)
			} else if strings.HasPrefix(text, "|") {
				if len(groups) == 0 {
					groups = append(groups, nil)
				}
				g := len(groups) - 1
				groups[g] = append(groups[g], textLine{lines[j].no, text})
			} else {
				break
			}
			if len(groups) == 1 && len(groups[0]) == 0 {
				groups = groups[:0]
			}
		}
		if len(groups) == 0 {
			out = append(out, lines[i])
			continue
		}
		ruled := len(groups) > 3 // a border after every row: a row may have several lines
		var rows [][]string
		var nos []int
		for n, g := range groups {
			for k, l := range g {
				cs := cells(l.text)
				if k > 0 && (ruled || n == 0) {
					last := rows[len(rows)-1]
					for c := range min(len(last), len(cs)) {
						last[c] = strings.TrimSpace(last[c] + " " + cs[c])
					}
					continue
				}
				rows, nos = append(rows, cs), append(nos, l.no)
			}
		}
		out = append(out, textLine{lines[i].no, ""})
		out = append(out, tableLines(rows, nos)...)
		i = j - 1
	}
	return out
}

// columns reads tables that are set with spaces: under a line of dashes, or at least
// three lines of at least three fields that stand apart by two spaces or a tab.
func columns(lines []textLine) []textLine {
	var out []textLine
	for i := 0; i < len(lines); i++ {
		if i+2 < len(lines) && reDashes.MatchString(lines[i+1].text) && strings.TrimSpace(lines[i].text) != "" && !strings.Contains(lines[i].text, "|") {
			starts := dashStarts(lines[i+1].text)
			rows, nos := [][]string{atColumns(lines[i].text, starts)}, []int{lines[i].no}
			j := i + 2
			for ; j < len(lines) && strings.TrimSpace(lines[j].text) != "" && !reDashes.MatchString(lines[j].text); j++ {
				rows, nos = append(rows, atColumns(lines[j].text, starts)), append(nos, lines[j].no)
			}
			out = append(out, textLine{lines[i].no, ""})
			out = append(out, tableLines(rows, nos)...)
			i = j - 1
			continue
		}
		var rows [][]string
		var nos []int
		j := i
		for ; j < len(lines); j++ {
			fields := gapped(lines[j].text)
			if len(fields) < 3 || len(rows) > 0 && len(fields) != len(rows[0]) {
				break
			}
			rows, nos = append(rows, fields), append(nos, lines[j].no)
		}
		if len(rows) < 3 {
			out = append(out, lines[i])
			continue
		}
		out = append(out, textLine{lines[i].no, ""})
		out = append(out, tableLines(rows, nos)...)
		i = j - 1
	}
	return out
}

// gapped returns the fields of a line that stand apart by a tab or two spaces.
func gapped(s string) []string {
	t := strings.TrimSpace(s)
	if t == "" || strings.Contains(t, "|") || !strings.ContainsAny(t, "\t ") || len(s)-len(strings.TrimLeft(s, " ")) > 8 {
		return nil
	}
	return reGap.Split(t, -1)
}

// dashStarts returns the columns, in characters, at which the runs of dashes begin.
func dashStarts(s string) []int {
	var out []int
	before := ' '
	for i, r := range []rune(s) {
		if r == '-' && before != '-' {
			out = append(out, i)
		}
		before = r
	}
	return out
}

func atColumns(s string, starts []int) []string {
	rs := []rune(s)
	out := make([]string, len(starts))
	for i, from := range starts {
		to := len(rs)
		if i+1 < len(starts) {
			to = min(to, starts[i+1])
		}
		if i == 0 {
			from = 0
		}
		if from < to {
			out[i] = strings.TrimSpace(string(rs[from:to]))
		}
	}
	return out
}

// early is the number of lines at the head of a policy in which its control data stand.
const early = 30

// pairs puts several fields on one line ("Owner: CTO · Version: 2") on lines of their
// own.
func pairs(lines []textLine) []textLine {
	var out []textLine
	for _, l := range lines {
		parts := rePartSep.Split(strings.Trim(reQuote.ReplaceAllString(l.text, ""), " *_"), -1)
		if l.no > early || len(parts) < 2 || strings.HasPrefix(strings.TrimSpace(l.text), "|") || !slices.ContainsFunc(parts, func(p string) bool { return rePair.MatchString(upperFirst(plain(p))) }) {
			out = append(out, l)
			continue
		}
		for _, p := range parts {
			out = append(out, textLine{l.no, upperFirst(p)}, textLine{l.no, ""})
		}
	}
	return out
}

func upperFirst(s string) string {
	rs := []rune(strings.TrimSpace(s))
	if len(rs) == 0 {
		return ""
	}
	rs[0] = unicode.ToUpper(rs[0])
	return string(rs)
}
