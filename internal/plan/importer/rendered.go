package importer

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
)

// codeApart is a change of a rendered document that its plan does not take.
const codeApart = "HF-I28"

// A Carried is a value that was changed in a rendered document and carried into its plan.
type Carried struct {
	Path string `json:"path"`
	From string `json:"from"`
	To   string `json:"to"`
	Line int    `json:"line"` // of the document
}

// rendered reads a document that "holdfast render" wrote, with its plan at the end. A
// document that nobody touched gives that plan, byte for byte. What was changed in the
// text is carried into the plan where a rule reads the value and the plan writes it in
// one place; every other changed line is an error finding, so that text and plan cannot
// part silently.
func rendered(name, text string, today time.Time) (*Proposal, bool, error) {
	body, source, ok := render.Unbind(text)
	if !ok {
		return nil, false, nil
	}
	base, err := plan.Parse(name, source)
	if err != nil {
		return nil, true, holdfast.WithHint(fmt.Errorf("import %s: the plan at its end does not load: %w", name, err), "correct it there, or take it out to have a proposal from the text alone")
	}
	was := closest(base, body)
	now, before := reading(name, body, today), reading(name, was, today)
	p := now.proposal()
	p.Rendered, p.Uncovered, p.Unread, p.Vague, p.Findings = true, []Sentence{}, []Sentence{}, []Vague{}, []holdfast.Finding{}
	p.Covered = p.Sentences // every sentence is the plan's own
	touched := changedLines(was, body)
	told := map[int]bool{}
	apart := func(line int, subject, format string, args ...any) {
		told[line] = true
		p.Findings = append(p.Findings, holdfast.Finding{Code: codeApart, Severity: holdfast.SeverityError, File: name, Line: line, Column: 1, Subject: subject,
			Message: fmt.Sprintf(format, args...), Hint: "change the plan at the end of the document, or the plan itself, and render it anew"})
	}
	for _, v := range now.draft.values {
		old, had := before.draft.get(v.path...)
		if had && old.Value == v.Value {
			continue
		}
		if !had {
			apart(v.Line, v.Path, "the text now says %s for %s, of which the plan says nothing", v.Value, v.Path)
			continue
		}
		next, ok := carry(source, v.path, v.Value)
		if ok {
			_, err := plan.Parse(name, next)
			ok = err == nil
		}
		if !ok {
			apart(v.Line, v.Path, "the text now says %s for %s, and the plan says %s", v.Value, v.Path, old.Value)
			continue
		}
		source = next
		told[v.Line] = true
		p.Carried = append(p.Carried, Carried{v.Path, old.Value, v.Value, v.Line})
	}
	for _, v := range before.draft.values {
		if _, has := now.draft.get(v.path...); !has {
			apart(1, v.Path, "the text says nothing of %s any more, and the plan says %s", v.Path, v.Value)
		}
	}
	for _, line := range touched {
		if !told[line.no] {
			apart(line.no, "text", "the text was changed, and no rule reads a value from it: %s", clip(line.text))
		}
	}
	holdfast.SortFindings(p.Findings)
	p.Plan = source
	return p, true, nil
}

// reading applies the rules to a text.
func reading(name, text string, today time.Time) *reader {
	r := &reader{doc: newDocument(name, []byte(text)), today: today, draft: newDraft(name)}
	r.read()
	return r
}

// closest renders the plan in the style in which the document was written.
func closest(p *plan.Plan, body string) string {
	best, least := "", -1
	for _, style := range render.Styles() {
		text := render.Make(p, render.Options{Style: style}).Markdown()
		if n := len(changedLines(text, body)); least < 0 || n < least {
			best, least = text, n
		}
	}
	return best
}

// changedLines returns the lines of a text that another one does not have, as often as
// they stand in it.
func changedLines(was, now string) []textLine {
	have := map[string]int{}
	for line := range strings.Lines(was) {
		have[strings.TrimSpace(line)]++
	}
	var out []textLine
	no := 0
	for line := range strings.Lines(now) {
		no++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if have[line]--; have[line] < 0 {
			out = append(out, textLine{no, line})
		}
	}
	return out
}

// carry writes a value into the source of a plan, where the plan writes it as one plain
// or quoted word on one line; everything around it stays as it is.
func carry(source []byte, path []string, value string) ([]byte, bool) {
	if strings.HasPrefix(value, `"`) || value == "none" || value == "cited" || value == "named" || value == "at once" || strings.Contains(value, "..") {
		return nil, false
	}
	var root yaml.Node
	if err := yaml.Unmarshal(source, &root); err != nil || len(root.Content) == 0 {
		return nil, false
	}
	n := root.Content[0]
	for _, key := range path {
		if n = child(n, key); n == nil {
			return nil, false
		}
	}
	if n.Kind == yaml.MappingNode && isObjective(path) {
		n = child(n, "max")
	}
	if n == nil || n.Kind != yaml.ScalarNode || n.Line == 0 {
		return nil, false
	}
	lines := strings.SplitAfter(string(source), "\n")
	line := []rune(lines[n.Line-1])
	from := n.Column - 1
	if from >= len(line) {
		return nil, false
	}
	rest := string(line[from:])
	raw := n.Value
	if q := rest[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(rest[1:], q)
		if end < 0 || strings.ContainsRune(rest[:end+2], '\\') {
			return nil, false
		}
		raw = rest[:end+2]
	}
	if !strings.HasPrefix(rest, raw) {
		return nil, false
	}
	text := scalar(value)
	if raw != n.Value { // what was quoted stays quoted: "1.0"
		text = fmt.Sprintf("%q", value)
	}
	lines[n.Line-1] = string(line[:from]) + text + rest[len(raw):]
	return []byte(strings.Join(lines, "")), true
}

// child returns a value of a mapping by its key, or of a list by its place from 1.
func child(n *yaml.Node, key string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 1 && i <= len(n.Content) {
			return n.Content[i-1]
		}
	}
	return nil
}
