package render

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"holdfast"
)

// A Format is what the document is written as.
type Format string

// The formats.
const (
	FormatMarkdown Format = "markdown"
	FormatHTML     Format = "html"
	FormatPrint    Format = "print" // HTML for paper: light, numbered, with a line for the reader
)

// ParseFormat reads the name of a format; "" is Markdown.
func ParseFormat(s string) (Format, error) {
	switch Format(s) {
	case "", "md":
		return FormatMarkdown, nil
	case FormatMarkdown, FormatHTML, FormatPrint:
		return Format(s), nil
	}
	return "", holdfast.WithHint(fmt.Errorf("there is no format %q: %w", s, holdfast.ErrUsage), "the formats are markdown, html and print")
}

// markdown turns our Markdown into HTML. Raw HTML in it is dropped, and the cleaner
// drops what is left of it.
var markdown = sync.OnceValue(func() goldmark.Markdown {
	return goldmark.New(goldmark.WithExtensions(extension.Table))
})

// cleaner allows what our Markdown makes, and no address, style or script.
var cleaner = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("h3", "p", "ul", "ol", "li", "code", "em", "strong", "table", "thead", "tbody", "tr", "th", "td", "br")
	return p
})

// HTML returns the body of the section as clean HTML without its heading: headings
// in it are h3. It holds no link, no address and nothing that runs.
func (s Section) HTML() (string, error) {
	var b bytes.Buffer
	if err := markdown().Convert([]byte(s.Body), &b); err != nil {
		return "", fmt.Errorf("render %s: %w", s.ID, err)
	}
	clean := cleaner().SanitizeReader(&b).String()
	clean = strings.ReplaceAll(clean, "<th>", `<th scope="col">`)
	// A wide table scrolls by itself, also for who has only a keyboard.
	n := 0
	for strings.Contains(clean, "<table>") {
		n++
		label := "Table: " + template.HTMLEscapeString(s.Title)
		if n > 1 {
			label += fmt.Sprintf(", %d", n)
		}
		clean = strings.Replace(clean, "<table>", fmt.Sprintf(`<div class="wide" role="region" tabindex="0" aria-label="%s"><table class="words">`, label), 1)
	}
	return strings.ReplaceAll(clean, "</table>", "</table></div>"), nil
}

//go:embed page.html.tmpl
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Parse(pageText))
})

// page is what the template shows.
type page struct {
	Title, Subtitle, Stamp string
	Paper                  bool
	Public                 bool
	Sheet                  bool
	CSS                    template.CSS
	Sections               []pageSection
}

type pageSection struct {
	ID     string
	Number int
	Title  string
	Body   template.HTML
}

// HTML returns the document as one file that needs nothing else: no script, no other
// host, no font. For paper it is light whatever the screen is, and has no contents.
func (d Document) HTML(format Format) ([]byte, error) {
	v := page{Title: Plain(d.Title), Stamp: Plain(d.Stamp), Paper: format == FormatPrint, Public: d.Edition == Public, CSS: template.CSS(pageStyle)}
	for _, s := range d.Sections {
		body, err := s.HTML()
		if err != nil {
			return nil, err
		}
		v.Sections = append(v.Sections, pageSection{s.ID, s.Number, s.Title, template.HTML(body)}) // cleaned above
	}
	return v.write()
}

func (v page) write() ([]byte, error) {
	var b bytes.Buffer
	if err := pageTemplate().Execute(&b, v); err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	return b.Bytes(), nil
}

// Write returns the document in a format.
func (d Document) Write(format Format) ([]byte, error) {
	if format == FormatMarkdown {
		return []byte(d.Markdown()), nil
	}
	return d.HTML(format)
}

// Plain takes away the escapes of a title or stamp, for text that is not Markdown.
func Plain(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
