package importer

import (
	"slices"
	"strings"
	"unicode"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// A document is a policy, taken apart.
type document struct {
	name      string
	lines     []textLine
	sentences []*sentence
	rows      []row
	headings  []heading
	overflow  bool
}

// A heading is a title with its level, from 1.
type heading struct {
	line  int
	level int
	text  string
}

// A sentence is one statement of the text, or one item of a list.
type sentence struct {
	line      int
	text      string
	lower     string
	under     []string // the headings above it, outermost first
	label     string   // what stands before the colon of an item: "Critical (online)"
	run       string   // the title that its paragraph begins with
	clause    string   // the number of its clause: "3.1"
	item      bool
	covered   bool
	before    *sentence // the one before it in the same paragraph
	continues bool      // the sentence before ended with a semicolon
	row       bool      // a line of a table
	derived   bool      // computed from what stands elsewhere in the document
	times     *times
	meta      bool // part of the document's own control data, read already
}

// times are the lengths of time and the frequencies in a sentence, found once.
type times struct {
	amounts []amount
	cycles  []cycle
}

func (s *sentence) read() *times {
	if s.times == nil {
		s.times = &times{amountsIn(s.text), cyclesIn(s.text)}
	}
	return s.times
}

func (s *sentence) amounts() []amount { return s.read().amounts }
func (s *sentence) cycles() []cycle   { return s.read().cycles }

// lengths are the amounts that are no part of a frequency.
func (s *sentence) lengths() []amount {
	return slices.DeleteFunc(slices.Clone(s.amounts()), func(a amount) bool {
		return slices.ContainsFunc(s.cycles(), func(c cycle) bool { return a.start < c.end && c.start < a.end })
	})
}

// heading returns the innermost heading above the sentence.
func (s *sentence) heading() string {
	if len(s.under) == 0 {
		return ""
	}
	return s.under[len(s.under)-1]
}

// topic is what the sentence and its headings talk about, in lower case.
func (s *sentence) topic() string {
	return strings.ToLower(strings.Join(s.under, " / ")) + " / " + s.lower
}

// A row is one line of a table, with the heads of its columns.
type row struct {
	line     int
	heads    []string
	cells    []string
	under    []string
	first    bool // of its table
	sentence *sentence
}

// cell returns the text under the first head that matches.
func (t row) cell(re *regexp.Regexp) (string, bool) {
	for i, h := range t.heads {
		if i < len(t.cells) && re.MatchString(strings.ToLower(h)) {
			return t.cells[i], true
		}
	}
	return "", false
}

var (
	rePair      = regexp.MustCompile(`^[A-Z][A-Za-z/]+(?: [A-Za-z/]+){0,4}(?::| [-–—]) \S`)
	reATX       = regexp.MustCompile(`^ {0,3}(#{1,6})\s+(.*?)\s*#*$`)
	reUnderline = regexp.MustCompile(`^ {0,3}(=+|-{3,})\s*$`)
	reItem      = regexp.MustCompile(`^\s*(?:[-*+•‣–]|\(?[0-9]{1,3}[.)]|\(?[a-z][.)])\s+(.*)$`)
	reShort4    = regexp.MustCompile(`^[A-Z][A-Za-z]+(?: [A-Za-z]+){0,3}$`)
	rePromised  = regexp.MustCompile(`^([A-Z][^:.]{1,40}): *(?:RTO|RPO)\b`)
	reRule      = regexp.MustCompile(`^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$`)
	reFence     = regexp.MustCompile("^\\s*(```|~~~)")
	reQuote     = regexp.MustCompile(`^(?:\s*>)+\s?`)
	reClause    = regexp.MustCompile(`^\d{1,2}(?:\.\d{1,2}){1,3}\.?\s+`)
	reField     = regexp.MustCompile(`(?i)^(?:field|attribute|property|document control)$`)
	reEntry     = regexp.MustCompile(`(?i)^(?:entry|value|content|details?)$`)
	reRunIn     = regexp.MustCompile(`^\*\*([^*]{2,60}?)[.:]?\*\*[.:]?\s+(\S.*)$`)
	reNumber    = regexp.MustCompile(`^\(?\d+(?:\.\d+)*[.)]?\s+`)
)

func newDocument(name string, text []byte) *document {
	d := &document{name: name, lines: layout(strings.Split(strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\r", "\n"), "\n"))}
	d.parse()
	return d
}

// parse reads line by line. It knows no nesting, so that depth costs nothing.
func (d *document) parse() {
	var para []string
	start, item, clause := 0, false, ""
	var under []heading
	flush := func() {
		if len(para) > 0 {
			d.paragraph(para, start, item, clause, under)
		}
		para, item, clause = nil, false, ""
	}
	title := func(line, level int, text string) {
		for len(under) > 0 && under[len(under)-1].level >= level {
			under = under[:len(under)-1]
		}
		h := heading{line, level, plain(reNumber.ReplaceAllString(text, ""))}
		under = append(under[:len(under):len(under)], h)
		d.headings = append(d.headings, h)
	}
	fenced, pair := false, false
	for i := 0; i < len(d.lines) && !d.overflow; i++ {
		no := d.lines[i].no
		line := strings.TrimRight(reQuote.ReplaceAllString(d.lines[i].text, ""), " \t")
		next := ""
		if i+1 < len(d.lines) {
			next = strings.TrimRight(d.lines[i+1].text, " \t")
		}
		trimmed := strings.TrimSpace(line)
		switch {
		case reFence.MatchString(line):
			flush()
			fenced = !fenced
		case fenced:
		case trimmed == "":
			flush()
			pair = false
		case reATX.MatchString(line):
			flush()
			m := reATX.FindStringSubmatch(line)
			title(no, len(m[1]), m[2])
		case strings.Contains(line, "|") && reRule.MatchString(next) && strings.Contains(next, "-"):
			flush()
			i = d.table(i, names(under))
		case len(para) == 0 && reUnderline.MatchString(next) && !reItem.MatchString(line):
			flush()
			level := 2
			if strings.HasPrefix(strings.TrimSpace(next), "=") {
				level = 1
			}
			title(no, level, trimmed)
			i++
		case len(para) == 0 && reShort4.MatchString(trimmed) && next != "" && unicode.IsUpper([]rune(next)[0]) && (i == 0 || strings.TrimSpace(d.lines[i-1].text) == "") && len(next) > 40:
			title(no, 2, trimmed)
		case len(para) == 0 && next == "" && shouted(trimmed, i):
			flush()
			level := 2
			if len(d.headings) == 0 {
				level = 1
			}
			title(no, level, trimmed)
		case len(para) == 0 && i == 0 && shouted(trimmed, i):
			title(no, 1, trimmed)
		case rePair.MatchString(plain(trimmed)):
			flush()
			para, start, pair = []string{trimmed}, no, true
			if m := reItem.FindStringSubmatch(line); m != nil {
				para, item = []string{m[1]}, true
			}
		case pair && unicode.IsUpper([]rune(trimmed)[0]):
			flush() // lines of control data stand each for itself
			para, start = []string{trimmed}, no
		case reItem.MatchString(line):
			flush()
			para, start, item = []string{reItem.FindStringSubmatch(line)[1]}, no, true
		case reClause.MatchString(trimmed): // "2.1 The web shop …"
			flush()
			m := reClause.FindString(trimmed)
			para, start, clause = []string{trimmed[len(m):]}, no, strings.TrimRight(m, ". \t")
		default:
			if len(para) == 0 {
				start = no
			}
			para = append(para, trimmed)
		}
	}
	flush()
}

// shouted reports whether a line of plain text is a title: capitals throughout, alone
// on its line.
func shouted(s string, line int) bool {
	letters := 0
	for _, r := range s {
		if unicode.IsLower(r) {
			return false
		}
		if unicode.IsUpper(r) {
			letters++
		}
	}
	return letters >= 4 && len(s) < 100 && !strings.HasSuffix(s, ".") && (line == 0 || letters*2 > len(strings.Trim(s, "0123456789. ")))
}

func names(hs []heading) []string {
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.text
	}
	return out
}

// table reads the table that begins at line i and returns its last line.
func (d *document) table(i int, under []string) int {
	heads := cells(d.lines[i].text)
	first := true
	fields := len(heads) == 2 && (heads[0]+heads[1] == "" || reField.MatchString(heads[0]) && reEntry.MatchString(heads[1]))
	j := i + 2
	for ; j < len(d.lines) && strings.Contains(d.lines[j].text, "|") && strings.TrimSpace(d.lines[j].text) != ""; j++ {
		no := d.lines[j].no
		r := row{line: no, heads: heads, cells: cells(d.lines[j].text), under: under, first: first}
		if fields && len(r.cells) == 2 { // two columns of control data are lines of it
			if x := d.add(strings.TrimSuffix(r.cells[0], ":")+": "+r.cells[1], no, true, under); x == nil {
				return j
			}
			continue
		}
		text := strings.Join(r.cells, " | ")
		r.sentence = d.add(text, no, false, under)
		if r.sentence != nil {
			r.sentence.row = true
		}
		if r.sentence == nil {
			return j
		}
		d.rows = append(d.rows, r)
		first = false
	}
	return j - 1
}

// cells splits a line of a table. A bar after a backslash belongs to the text.
func cells(line string) []string {
	line = strings.TrimSpace(line)
	line = strings.TrimPrefix(line, "|")
	var out []string
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line) && line[i+1] == '|':
			b.WriteString(`\|`)
			i++
		case line[i] == '|':
			out = append(out, plain(b.String()))
			b.Reset()
		default:
			b.WriteByte(line[i])
		}
	}
	if strings.TrimSpace(b.String()) != "" {
		out = append(out, plain(b.String()))
	}
	return out
}

var reLink = regexp.MustCompile(`!?\[([^\]\n]*)\]\([^)\n]*\)`)

// plain takes the marks of Markdown away.
func plain(s string) string {
	s = reLink.ReplaceAllString(s, "$1")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\\`*_{}[]<>()#+-.!|~&$@:=^\"'", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		case c == '`' && strings.IndexByte(s[i+1:], '`') > 0:
			n := strings.IndexByte(s[i+1:], '`') // code is taken as it stands
			b.WriteString(s[i+1 : i+1+n])
			i += n + 1
		case c == '`' || c == '*':
		case c == '_' && (i == 0 || i+1 == len(s) || !isWord(s[i-1]) || !isWord(s[i+1])):
		default:
			b.WriteByte(c)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// paragraph splits text into sentences and notes the line on which each begins.
func (d *document) paragraph(lines []string, start int, item bool, clause string, under []heading) {
	run := ""
	if m := reRunIn.FindStringSubmatch(lines[0]); m != nil && (strings.Contains(lines[0], m[1]+".**") || strings.Contains(lines[0], m[1]+"**.")) {
		run = plain(m[1]) // "**E-mail.** The …": a title of this paragraph alone
		lines[0] = m[2]
	}
	var b strings.Builder
	var begins []int // offset of each line
	for _, l := range lines {
		begins = append(begins, b.Len())
		b.WriteString(plain(l))
		b.WriteByte(' ')
	}
	text := b.String()
	lineAt := func(off int) int {
		n := 0
		for n+1 < len(begins) && begins[n+1] <= off {
			n++
		}
		return start + n
	}
	label := ""
	from := 0
	for _, end := range ends(text) {
		s := strings.TrimSpace(text[from:end])
		if s != "" {
			lead := from + len(text[from:end]) - len(strings.TrimLeft(text[from:end], " "))
			x := d.add(s, lineAt(lead), item, names(under))
			if x == nil {
				return
			}
			if head, _, ok := labelled(s, item); ok && len(head) < 60 && label == "" && from == 0 {
				label = head
			}
			x.label, x.run, x.clause = label, run, clause
			if m := rePromised.FindStringSubmatch(s); m != nil {
				x.label, x.item = strings.TrimPrefix(strings.TrimPrefix(m[1], "The "), "Our "), true
			}
			if len(d.sentences) > 1 && from > 0 {
				x.before = d.sentences[len(d.sentences)-2]
			}
			x.continues = from > 0 && text[from-1] == ';'
		}
		from = end
	}
}

// labelled cuts what an item of a list is about from what it says: "Silver: one day",
// "api – RTO 1h".
func labelled(s string, item bool) (label, rest string, ok bool) {
	if label, rest, ok = strings.Cut(s, ":"); ok || !item {
		return label, rest, ok
	}
	for _, dash := range []string{" – ", " — ", " - "} {
		if label, rest, ok = strings.Cut(s, dash); ok {
			return label, rest, len(strings.Fields(label)) <= 4
		}
	}
	return s, "", false
}

// add notes a sentence. It returns nil when there are too many.
func (d *document) add(text string, line int, item bool, under []string) *sentence {
	if len(d.sentences) == MaxSentences {
		d.overflow = true
		return nil
	}
	s := &sentence{line: line, text: text, lower: strings.ToLower(text), under: under, item: item}
	d.sentences = append(d.sentences, s)
	return s
}

// short words after which a full stop ends no sentence.
var abbreviations = map[string]bool{"e.g": true, "i.e": true, "etc": true, "no": true, "approx": true, "max": true, "min": true, "dr": true, "mr": true, "ms": true, "mrs": true, "rev": true, "vs": true, "resp": true, "inc": true, "ltd": true, "cf": true, "p": true, "a.m": true, "p.m": true, "co": true, "b.v": true, "n.v": true, "s.a": true, "st": true, "prof": true, "art": true, "ca": true, "incl": true, "sec": true, "tel": true, "z.b": true}

var reUnitEnd = regexp.MustCompile(`\d ?(?:min|sec|h|hrs?|d)$`)

// ends returns the offsets at which sentences end.
func ends(s string) []int {
	var out []int
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '.' && c != '!' && c != '?' && c != ';' {
			continue
		}
		if i+1 < len(s) && s[i+1] != ' ' {
			continue // 1.2, eu.example
		}
		if c == '.' {
			if reUnitEnd.MatchString(s[max(0, i-12):i]) && i+2 < len(s) && unicode.IsUpper(rune(s[i+2])) {
				out = append(out, i+1) // "every 5 min. Retention: …"
				continue
			}
			word := s[strings.LastIndexByte(s[:i], ' ')+1 : i]
			low := strings.ToLower(strings.Trim(word, "(\""))
			rest := strings.TrimLeft(s[i+1:], " ")
			if abbreviations[low] && rest != "" && !(low == "etc" && unicode.IsUpper(rune(rest[0]))) {
				continue
			}
		}
		out = append(out, i+1)
	}
	if len(out) == 0 || out[len(out)-1] < len(s) {
		out = append(out, len(s))
	}
	return out
}
