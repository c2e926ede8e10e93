package importer

import (
	"fmt"
	"strings"
)

// Report says for people what was read, from where, and what was not.
func (p *Proposal) Report() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# What was read from %s\n\n", inline(p.Name))
	fmt.Fprintf(&b, "%d of %d sentences gave %d values. %d gave none, %d of them demand something. %d places are left to do.\n",
		p.Covered, p.Sentences, len(p.Values), len(p.Uncovered), count(p.Uncovered), p.Todos)
	b.WriteString("\nRules read it, without understanding. Look at every value.\n\n## Values\n\n")
	if len(p.Values) == 0 {
		b.WriteString("None: no rule knows the form of this text.\n")
	} else {
		b.WriteString("| Line | In the plan | Value | Read from | Checked by |\n|---|---|---|---|---|\n")
		for _, v := range p.Values {
			fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", v.Line, inline(v.Path), inline(v.Value), inline(v.Source), inline(v.Check))
		}
	}
	b.WriteString("\n## Contradictions within the document\n\n")
	for _, f := range p.Findings {
		fmt.Fprintf(&b, "- line %d, %s %s: %s. %s\n", f.Line, f.Severity, f.Code, inline(f.Message), inline(f.Hint))
	}
	none(&b, len(p.Findings), "None was found.")
	b.WriteString("\n## Sentences that no check covers\n\nEach needs a check, an attestation or a task before the policy can be called kept.\n\n")
	for _, s := range p.Uncovered {
		kind := ""
		if s.Normative {
			kind = " (demands something)"
		}
		fmt.Fprintf(&b, "- line %d%s: %s\n", s.Line, kind, inline(s.Text))
	}
	none(&b, len(p.Uncovered), "None.")
	b.WriteString("\n## Numbers that could not be read\n\nA length of time or a frequency stands in these, and no rule knows what for.\n\n")
	for _, s := range p.Unread {
		fmt.Fprintf(&b, "- line %d: %s: %s\n", s.Line, inline(s.Text), inline(s.Why))
	}
	none(&b, len(p.Unread), "None.")
	b.WriteString("\n## Words without a number\n\nBind each to a number, or say that it is meant so.\n\n")
	for _, v := range p.Vague {
		fmt.Fprintf(&b, "- line %d, “%s”: %s\n", v.Line, inline(v.Word), inline(v.Text))
	}
	none(&b, len(p.Vague), "None.")
	return []byte(b.String())
}

func none(b *strings.Builder, n int, text string) {
	if n == 0 {
		b.WriteString(text + "\n")
	}
}

func count(ss []Sentence) int {
	n := 0
	for _, s := range ss {
		if s.Normative {
			n++
		}
	}
	return n
}

// inline makes text of the document harmless in ours.
func inline(s string) string {
	var b strings.Builder
	for _, r := range comment(s) {
		if strings.ContainsRune("\\`*_[]<>|~#&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Demands is how many of the sentences without a value demand something.
func (p *Proposal) Demands() int { return count(p.Uncovered) }
