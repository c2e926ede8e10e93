package plan

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"

	"holdfast"
)

// An Excerpt is the line of a plan that a finding points at, safe to print.
type Excerpt struct {
	Text   string // without control characters, cut to at most MaxExcerpt runes
	Begin  int    // runes of Text before the word that is meant
	Length int    // runes of that word, at least 1
}

// MaxExcerpt is the longest line that is shown, in runes; of a longer one, the part
// around the word.
const MaxExcerpt = 110

// Excerpts finds the lines that findings point at. A file is read once, and only
// when it is asked for.
type Excerpts struct {
	lines  map[string][][]byte
	secret map[Position]bool // line beginnings that hold a secret, of any finding
}

// NewExcerpts prepares the lines of these findings.
func NewExcerpts(fs []holdfast.Finding) *Excerpts {
	x := &Excerpts{lines: map[string][][]byte{}, secret: map[Position]bool{}}
	for _, f := range fs {
		if f.Code == codeSecret {
			x.secret[Position{File: f.File, Line: f.Line}] = true
		}
	}
	return x
}

// looksSecret finds what must not be shown again on a screen or in a build's log, even
// where the text could not be read well enough to know what it is.
var looksSecret = regexp.MustCompile(`(?i)pass(word|wd|phrase)\s*[=:]\s*\S|secret[a-z_-]*\s*[=:]\s*\S|AGE-SECRET-KEY-|://[^/\s:@]*:[^/\s@]+@|-----BEGIN`)

// Of returns the line of f. It reports false if there is none to show: f has no
// place, the file cannot be read, or the line holds a secret.
func (x *Excerpts) Of(f holdfast.Finding) (Excerpt, bool) {
	if f.File == "" || f.Line < 1 || x.secret[Position{File: f.File, Line: f.Line}] {
		return Excerpt{}, false
	}
	lines, ok := x.lines[f.File]
	if !ok {
		if b, err := readFile(f.File); err == nil { // a file that went away is only not shown
			lines = bytes.Split(b, []byte("\n"))
		}
		x.lines[f.File] = lines
	}
	if f.Line > len(lines) || looksSecret.Match(lines[f.Line-1]) {
		return Excerpt{}, false
	}
	return excerpt(lines[f.Line-1], f.Column), true
}

// excerpt shows a line around column, which counts runes from 1.
func excerpt(line []byte, column int) Excerpt {
	text := []rune(strings.TrimRightFunc(string(line), unicode.IsSpace))
	for i, r := range text {
		if !unicode.IsPrint(r) {
			text[i] = ' ' // also what would move the cursor or change colours
		}
	}
	begin := min(max(column-1, 0), len(text))
	length := 0
	for begin+length < len(text) && strings.ContainsRune("-_./", text[begin+length]) || begin+length < len(text) && (unicode.IsLetter(text[begin+length]) || unicode.IsDigit(text[begin+length])) {
		length++
	}
	length = max(length, 1)
	if len(text) > MaxExcerpt {
		const dots = "…"
		from := max(0, min(begin-MaxExcerpt/3, len(text)-MaxExcerpt))
		to := min(from+MaxExcerpt, len(text))
		cut := append([]rune(nil), text[from:to]...)
		if from > 0 {
			cut[0] = []rune(dots)[0]
		}
		if to < len(text) {
			cut[len(cut)-1] = []rune(dots)[0]
		}
		text, begin = cut, begin-from
		length = max(1, min(length, len(text)-begin))
	}
	return Excerpt{Text: string(text), Begin: begin, Length: length}
}
