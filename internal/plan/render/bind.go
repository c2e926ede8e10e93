package render

import (
	"fmt"
	"strings"
)

const (
	boundTitle = "## The plan itself"
	boundText  = "This is the plan from which the text above was made, as it is written. \"holdfast import\" takes it from here, and carries into it what was changed in the text above, or says what it could not."
	// unended marks a plan whose last line has no end, so that it comes back as it was.
	unended = " without an end of line"
)

// Bind puts the source of a plan at the end of its rendered document, so that the
// document is enough to have the plan again, byte for byte. It is for the internal
// edition as Markdown: what the plan says about people and access stands in it.
func Bind(document string, source []byte) string {
	text, info := string(source), "yaml"
	if !strings.HasSuffix(text, "\n") {
		text, info = text+"\n", info+unended
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fmt.Sprintf("%s\n%s\n\n%s\n\n%s%s\n%s%s\n", document, boundTitle, boundText, fence, info, text, fence)
}

// Unbind takes a document and the source that Bind has put at its end apart. ok is false
// for a document without one.
func Unbind(text string) (document string, source []byte, ok bool) {
	at := strings.LastIndex(text, "\n"+boundTitle+"\n")
	if at < 0 {
		return text, nil, false
	}
	rest := text[at:]
	open := strings.Index(rest, "\n```")
	if open < 0 {
		return text, nil, false
	}
	fence, body, found := strings.Cut(rest[open+1:], "\n")
	ticks := strings.TrimRight(fence[:len(fence)-len(strings.TrimLeft(fence, "`"))], " ")
	end := strings.LastIndex("\n"+body, "\n"+ticks+"\n")
	if !found || end < 0 {
		return text, nil, false
	}
	body = body[:end]
	if strings.HasSuffix(fence, unended) {
		body = strings.TrimSuffix(body, "\n")
	}
	return text[:at], []byte(body), true
}
