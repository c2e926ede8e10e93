package importer

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// A draft is the plan that is being proposed: values by path, each with its source.
type draft struct {
	name   string
	values []Value
	at     map[string]int      // path to its value
	listed map[string][]string // what stands in each section, in the order of the text
	clash  []clash
	root   *node
}

// A clash is a second, different value for one path.
type clash struct {
	first Value
	again Value
}

// A node is a value of the draft, or what holds others.
type node struct {
	key      string
	text     string // of a leaf, as YAML
	comment  string
	todo     string
	children []*node
}

func newDraft(name string) *draft {
	return &draft{name: name, at: map[string]int{}, listed: map[string][]string{}, root: &node{}}
}

// set notes a value, and reports whether it is the first for its path. A second value
// is kept as a clash, unless it says the same.
func (d *draft) set(path []string, value, stated, check string, src source) bool {
	if value == "" || len(d.values) >= MaxValues {
		return false
	}
	full, key := strings.Join(path, "."), strings.Join(path, "\x00")
	v := Value{path: slices.Clone(path), Path: full, Value: value, Line: src.line, Source: clip(src.text), Stated: clip(stated), Check: check}
	if i, ok := d.at[key]; ok {
		if d.values[i].Value != value {
			d.clash = append(d.clash, clash{d.values[i], v})
		}
		return false
	}
	d.append(v)
	return true
}

// append keeps a value whose path is new.
func (d *draft) append(v Value) {
	d.at[strings.Join(v.path, "\x00")] = len(d.values)
	d.values = append(d.values, v)
	if len(v.path) < 2 {
		return
	}
	// A name for the whole of what stands below it, which is no path of a value.
	section, group := v.path[0], strings.Join(v.path[:2], "\x00")+"\x00"
	if _, ok := d.at[group]; !ok {
		d.at[group] = len(d.values) - 1
		d.listed[section] = append(d.listed[section], v.path[1])
	}
}

// replace notes a value that is better known than an earlier one.
func (d *draft) replace(path []string, value string, src source) {
	if i, ok := d.at[strings.Join(path, "\x00")]; ok {
		d.values[i].Value, d.values[i].Line, d.values[i].Source = value, src.line, clip(src.text)
		return
	}
	d.set(path, value, "", checkControl, src)
}

func (d *draft) get(path ...string) (Value, bool) {
	i, ok := d.at[strings.Join(path, "\x00")]
	if !ok {
		return Value{}, false
	}
	return d.values[i], true
}

// below returns the ids of a section, in the order of the text.
func (d *draft) below(section string) []string {
	return slices.Clone(d.listed[section])
}

// drop takes out the values that a complaint of the plan's reader is about: those at or
// below the path that it names, or on the line of the plan where it stands.
func (d *draft) drop(subject string, line int, text []byte) []Value {
	lines := strings.Split(string(text), "\n")
	source := ""
	if line > 0 && line <= len(lines) {
		source = lines[line-1]
	}
	var out []Value
	keep := d.values[:0:0]
	for _, v := range d.values {
		if v.Path == subject || strings.HasPrefix(v.Path, subject+".") || strings.HasPrefix(subject, v.Path+".") || source != "" && strings.Contains(source, d.from(v)) {
			out = append(out, v)
		} else {
			keep = append(keep, v)
		}
	}
	d.values, d.at, d.listed, d.root = nil, map[string]int{}, map[string][]string{}, &node{}
	for _, v := range keep {
		d.append(v)
	}
	return out
}

// conflicts are the values that the document gives twice, differently.
func (d *draft) conflicts(file string) []holdfast.Finding {
	var out []holdfast.Finding
	for _, c := range d.clash {
		out = append(out, holdfast.Finding{Code: codeTwice, Severity: holdfast.SeverityWarning, File: file, Line: c.again.Line, Column: 1, Subject: c.first.Path,
			Message: fmt.Sprintf("%s is %s on line %d and %s on line %d", c.first.Path, c.first.Value, c.first.Line, c.again.Value, c.again.Line),
			Hint:    "the proposal takes the first; decide which holds, and say it once"})
	}
	return out
}

const maxQuote = 160 // characters of the policy that a comment or a value repeats

func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	rs := []rune(s)
	if len(rs) <= maxQuote {
		return s
	}
	return strings.TrimSpace(string(rs[:maxQuote-1])) + "…"
}

var reNoID = regexp.MustCompile(`[^a-z0-9]+`)

// latin writes letters with marks as ids hold them.
var latin = strings.NewReplacer("ä", "a", "ö", "o", "ü", "u", "ß", "ss", "å", "a", "æ", "ae", "ø", "o", "é", "e", "è", "e", "ê", "e", "ë", "e", "á", "a", "à", "a", "â", "a", "ã", "a", "í", "i", "ì", "i", "î", "i", "ï", "i", "ó", "o", "ò", "o", "ô", "o", "õ", "o", "ú", "u", "ù", "u", "û", "u",
	"ñ", "n", "ç", "c", "ć", "c", "č", "c", "š", "s", "ś", "s", "ž", "z", "ź", "z", "ż", "z", "ł", "l", "ń", "n", "ę", "e", "ą", "a", "ř", "r", "ě", "e", "ý", "y", "ğ", "g", "ş", "s", "ı", "i")

// slug makes an id of words; "" when nothing is left of them.
func slug(s string) string {
	s = strings.Trim(reNoID.ReplaceAllString(latin.Replace(strings.ToLower(s)), "-"), "-")
	if len(s) > 60 {
		s = strings.Trim(s[:60], "-")
	}
	return s
}

// roleID makes the id of a role, as the plan writes them.
func roleID(s string) string { return strings.ReplaceAll(slug(s), "-", "_") }

var rePlain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$|^\d+[a-z]+( (on|at) [a-z0-9:,]+)*$`)

// reserved reports whether some readers of YAML take a word for a value of its own.
func reserved(s string) bool {
	return slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s))
}

// scalar writes a text as YAML.
func scalar(s string) string {
	if rePlain.MatchString(s) && !reserved(s) {
		return s
	}
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	// JSON escapes are YAML escapes; those for HTML only hurt the eye.
	r := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
	return r.Replace(string(b))
}

// promise writes an objective as YAML, with the policy's words where they say more
// than the number.
func promise(value, stated string) string {
	words := ""
	if stated != "" {
		words = ", stated: " + scalar(stated)
	}
	switch {
	case strings.HasPrefix(value, `"`):
		return "{stated: " + scalar(strings.Trim(value, `"`)) + "}"
	case value == "none":
		if stated == "" {
			stated = "not applicable"
		}
		return "{none: " + scalar(stated) + "}"
	}
	if lo, hi, ok := strings.Cut(value, ".."); ok {
		return "{target: " + lo + ", max: " + hi + words + "}"
	}
	if words == "" {
		return value
	}
	return "{max: " + value + words + "}"
}

// isObjective reports whether a path takes an objective.
func isObjective(path []string) bool {
	last := path[len(path)-1]
	return last == "rto" || last == "rpo" || last == "update_every" || last == "due" && path[0] == "incidents" || last == "every" && path[0] == "incidents"
}

// put places a node below the root.
func (d *draft) put(path []string, text, comment, todo string) {
	n := d.root
	for _, key := range path {
		i := slices.IndexFunc(n.children, func(c *node) bool { return c.key == key })
		if i < 0 {
			n.children = append(n.children, &node{key: key})
			i = len(n.children) - 1
		}
		n = n.children[i]
	}
	if n.text == "" && len(n.children) == 0 {
		n.text, n.comment, n.todo = text, comment, todo
	}
}

func (d *draft) has(path ...string) bool {
	n := d.root
	for _, key := range path {
		i := slices.IndexFunc(n.children, func(c *node) bool { return c.key == key })
		if i < 0 {
			return false
		}
		n = n.children[i]
	}
	return true
}

// yaml writes the proposal.
func (d *draft) yaml(p *Proposal) []byte {
	d.put([]string{"apiVersion"}, plan.APIVersion, "", "")
	for _, v := range d.values {
		path := v.path
		text := scalar(v.Value)
		switch {
		case path[0] == "controls":
			text = "[]"
		case isObjective(path):
			text = promise(v.Value, v.Stated)
		case v.Value == "cited" || v.Value == "named" || v.Value == "at once":
			text = "{}"
		case path[0] == "plan" && path[len(path)-1] == "version" || path[0] == "frameworks":
			text = strconv.Quote(v.Value)
		}
		if path[0] == "frameworks" && len(path) == 2 {
			if v.Value != "cited" {
				d.put(append(slices.Clone(path), "edition"), strconv.Quote(v.Value), d.from(v), "")
				continue
			}
			d.put(append(slices.Clone(path), "status"), "cited", d.from(v), "")
			continue
		}
		if path[0] == "suppliers" && len(path) == 2 {
			d.put(append(slices.Clone(path), "name"), scalar(v.Source), d.from(v), "")
			continue
		}
		if targets := d.spread(path); targets != nil {
			for _, b := range targets { // what holds for all backups stands with each
				if !d.valued(append([]string{"backups", b}, path[2:]...)) {
					d.put(append([]string{"backups", b}, path[2:]...), text, d.from(v), "")
				}
			}
			continue
		}
		d.put(path, text, d.from(v), "")
		if len(path) == 3 && path[2] == "every" && v.Stated != "" && slices.Contains([]string{"backups", "drills", "exercises", "reviews"}, path[0]) {
			d.put([]string{path[0], path[1], "stated"}, scalar(v.Stated), "", "")
		}
	}
	d.required()
	order := planOrder()
	slices.SortStableFunc(d.root.children, func(a, b *node) int { return slices.Index(order, a.key) - slices.Index(order, b.key) })
	var b strings.Builder
	fmt.Fprintf(&b, "# Proposed from %s by \"holdfast import\". It is a skeleton: look at every line.\n", comment(d.name))
	fmt.Fprintf(&b, "# %d of %d sentences gave a value. What is marked TODO the document does not say.\n", p.Covered, p.Sentences)
	b.WriteString("# \"holdfast check\" says which of these promises cannot be kept.\n")
	for _, n := range d.root.children {
		if n.key != "apiVersion" {
			b.WriteString("\n")
		}
		n.write(&b, 0)
	}
	if n := len(p.Uncovered); n > 0 {
		fmt.Fprintf(&b, "\n# TODO: %d sentences gave no value. Each needs a check, an attestation or a task:\n", n)
		for _, s := range p.Uncovered {
			if s.Normative {
				fmt.Fprintf(&b, "#   line %d: %s\n", s.Line, comment(s.Text))
			}
		}
	}
	return []byte(b.String())
}

// spread returns the backups to which a value of all backups belongs: the ones that the
// document names, unless it also has a schedule for what it does not name.
func (d *draft) spread(path []string) []string {
	if len(path) < 3 || path[0] != "backups" || path[1] != general || d.valued([]string{"backups", general, "every"}) || d.valued([]string{"backups", general, "floor"}) {
		return nil
	}
	var out []string
	for _, b := range d.below("backups") {
		if b != general {
			out = append(out, b)
		}
	}
	return out
}

// valued reports whether the document itself gives the value.
func (d *draft) valued(path []string) bool {
	_, ok := d.get(path...)
	return ok
}

func (d *draft) from(v Value) string { return fmt.Sprintf("line %d: %s", v.Line, comment(v.Source)) }

// comment makes one line of a text that cannot end its comment.
func comment(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			return ' '
		}
		return r
	}, s)
	return clip(s)
}

// planOrder is the order of the plan's own sections.
func planOrder() []string {
	t := reflect.TypeFor[plan.Plan]()
	var out []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			out = append(out, key)
		}
	}
	return out
}

var reKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

func (n *node) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("  ", depth)
	key := n.key
	if !reKey.MatchString(key) || reserved(key) {
		key = strconv.Quote(key)
	}
	tail := ""
	if n.comment != "" {
		tail = "  # " + n.comment
	}
	if n.todo != "" {
		tail += "  # TODO: " + n.todo
	}
	if len(n.children) == 0 {
		text := n.text
		if text == "" {
			text = "{}"
		}
		fmt.Fprintf(b, "%s%s: %s%s\n", indent, key, text, tail)
		return
	}
	fmt.Fprintf(b, "%s%s:%s\n", indent, key, tail)
	if list := n.children[0].key == "1"; list {
		for _, c := range n.children {
			fmt.Fprintf(b, "%s  - %s  # %s\n", indent, c.text, c.comment)
		}
		return
	}
	for _, c := range n.children {
		c.write(b, depth+1)
	}
}
