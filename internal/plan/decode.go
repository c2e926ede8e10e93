package plan

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"holdfast"
	"holdfast/internal/calendar"
)

// Limits of one plan.
const (
	MaxFileBytes = 16 << 20 // one file
	MaxBytes     = 32 << 20 // all files of one folder
	MaxMarks     = 2 << 20  // commas, colons, dashes, brackets and lines of all files
	MaxFiles     = 1000     // files of one folder
	MaxDepth     = 32       // nesting of values
	MaxFindings  = 200      // complaints that one reading reports
	maxID        = 128      // bytes of an id
)

// decoder reads YAML nodes into the types of this package. It is strict where the
// YAML library is not: unknown keys are refused at every depth and also inside
// values of several forms, strings are taken as written, booleans are true or
// false, and reading goes on after a complaint.
type decoder struct {
	file        string
	dir         string
	pos         map[string]Position
	continued   map[string]Position // sections that go on in a later file, by file and path
	expressions map[string]expressionAt
	findings    []holdfast.Finding
	marks       int // of all files until now
}

// words is implemented by string types with a fixed vocabulary.
type words interface{ words() []string }

// full reports whether so much is wrong that reading on serves nobody.
func (d *decoder) full() bool { return len(d.findings) >= MaxFindings }

// complain notes what is wrong at a place. The last of MaxFindings says that there is more.
func (d *decoder) complain(code string, n *yaml.Node, path, hint, format string, args ...any) {
	switch {
	case d.full():
		return
	case len(d.findings) == MaxFindings-1:
		code, path, hint = codeLimit, "", "mend these first"
		format, args = "more is wrong from here on: reading ended after %d complaints", []any{MaxFindings - 1}
	}
	subject := path
	if subject == "" {
		subject = "plan"
	}
	d.findings = append(d.findings, holdfast.Finding{
		Code: code, Severity: holdfast.SeverityError, File: d.file, Line: n.Line, Column: n.Column,
		Subject: subject, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// complainAt complains at the place of a path that was read, or of its nearest parent.
func (d *decoder) complainAt(code, path, hint, format string, args ...any) {
	at := path
	pos, ok := d.pos[at]
	for !ok {
		i := lastDot(at)
		if i < 0 {
			pos = Position{d.file, 1, 1}
			break
		}
		at = at[:i]
		pos, ok = d.pos[at]
	}
	file := d.file
	d.file = pos.File
	d.complain(code, &yaml.Node{Line: pos.Line, Column: pos.Column}, path, hint, format, args...)
	d.file = file
}

// document reads the text of one file into p. A second file of a folder adds to it.
func (d *decoder) document(b []byte, v reflect.Value) {
	root := &yaml.Node{Line: 1, Column: 1}
	// The YAML library needs some 240 bytes for a value of one byte. No value is without
	// one of these marks, so their number bounds the memory.
	for _, mark := range []string{",", ":", "\n", "- ", "[", "{", "?"} {
		d.marks += bytes.Count(b, []byte(mark))
	}
	if d.marks > MaxMarks {
		d.complain(codeLimit, root, "", "see whether this is a plan; one of 10,000 services has a third of that", "the plan holds more than %d values", MaxMarks)
		return
	}
	var doc yaml.Node
	if err := yaml.Load(b, &doc); err != nil {
		d.loadError(b, err)
		return
	}
	n := &doc
	if n.Kind == yaml.DocumentNode {
		if len(n.Content) != 1 {
			d.complain(codeEmpty, root, "", "holdfast init writes a first plan", "the file holds no plan")
			return
		}
		n = n.Content[0]
	}
	if !d.plain(n, 0) {
		return
	}
	d.value(n, v, "")
}

// secondDocument returns the line of the mark that begins a second document.
func secondDocument(b []byte) int {
	content := false
	line := 0
	for text := range bytes.Lines(b) {
		line++
		t := bytes.TrimSpace(text)
		switch {
		case bytes.HasPrefix(text, []byte("---")) || bytes.HasPrefix(text, []byte("...")):
			if content {
				return line
			}
			content = len(t) > 3
		case len(t) > 0 && t[0] != '#' && t[0] != '%':
			content = true
		}
	}
	return 1
}

var yamlLine = regexp.MustCompile(`line (\d+)(?:, column (\d+))?`)

// loadError turns an error of the YAML library into a finding with its place.
func (d *decoder) loadError(b []byte, err error) {
	at := &yaml.Node{Line: 1, Column: 1}
	message := err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		if e.Mark.Line > 0 {
			at.Line, at.Column = e.Mark.Line, max(e.Mark.Column, 1)
		}
		if e.Message != "" {
			message = e.Message
		}
	} else if m := yamlLine.FindStringSubmatch(message); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		if c, err := strconv.Atoi(m[2]); err == nil {
			at.Column = c
		}
	}
	if strings.Contains(message, "document") && (strings.Contains(message, "single") || strings.Contains(message, "multiple") || strings.Contains(message, "one ") || strings.Contains(message, "more")) {
		at.Line, at.Column = secondDocument(b), 1
		d.complain(codeDocuments, at, "", "remove the line that reads \"---\", or put the second part into a file of its own in one folder", "the file holds more than one YAML document")
		return
	}
	if strings.Contains(message, "EOF") || strings.Contains(message, "no document") {
		d.complain(codeEmpty, at, "", "holdfast init writes a first plan", "the file holds no plan")
		return
	}
	hint := "check the indentation and the quotes near this line"
	switch line := lineOf(b, at.Line); {
	case strings.Contains(message, "control character"):
		// The library names no place.
		i := bytes.IndexFunc(b, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f })
		at.Line, at.Column = placeOf(b, max(i, 0))
		hint = "remove the character, which an editor hardly shows"
	case strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t"):
		hint = "indent by spaces: a tab is not allowed there"
	}
	d.complain(codeSyntax, at, "", hint, "not valid YAML: %s", strings.TrimPrefix(message, "yaml: "))
}

// lineOf returns a line of a text, counted from 1; "" if there is none.
func lineOf(b []byte, n int) string {
	for text := range bytes.Lines(b) {
		if n--; n == 0 {
			return string(text)
		}
	}
	return ""
}

// placeOf returns line and column, in characters from 1, of the byte at i.
func placeOf(b []byte, i int) (line, column int) {
	before := b[:i]
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}

// plain refuses what makes a plan say something else than what a reader sees.
func (d *decoder) plain(n *yaml.Node, depth int) bool {
	if depth > MaxDepth {
		d.complain(codeLimit, n, "", "flatten the value", "values are nested deeper than %d levels", MaxDepth)
		return false
	}
	ok := true
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		d.complain(codeAnchor, n, "", "write the value out in each place", "anchors and aliases are not allowed in a plan")
		return false
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.complain(codeAnchor, n, "", "remove the tag and, for text, use quotes", "the tag %q is not allowed in a plan", n.Tag)
		ok = false
	}
	for _, c := range n.Content {
		ok = d.plain(c, depth+1) && ok
	}
	return ok
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 &&
		(n.Value == "" || n.Value == "~" || strings.EqualFold(n.Value, "null"))
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	v := n.Value
	if len(v) > 40 {
		v = v[:37] + "..."
	}
	return strconv.Quote(v)
}

var (
	typePeriod     = reflect.TypeFor[Period]()
	typeRecurrence = reflect.TypeFor[Recurrence]()
	typeObjective  = reflect.TypeFor[Objective]()
	typeEstimate   = reflect.TypeFor[Estimate]()
	typeDate       = reflect.TypeFor[Date]()
	typeCopies     = reflect.TypeFor[Copies]()
	typeSteps      = reflect.TypeFor[Steps]()
	typeStages     = reflect.TypeFor[Stages]()
	typeWords      = reflect.TypeFor[words]()
)

// value reads n into v. path names the value in findings and positions.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.full() {
		return
	}
	if empty(n) {
		d.complain(codeEmpty, n, path, "write a value, or remove the key", "%q has no value", path)
		return
	}
	switch v.Type() {
	case typePeriod:
		d.period(n, v.Addr().Interface().(*Period), path)
		return
	case typeRecurrence:
		d.recurrence(n, v.Addr().Interface().(*Recurrence), path)
		return
	case typeObjective:
		d.objective(n, v.Addr().Interface().(*Objective), path)
		return
	case typeEstimate:
		d.estimate(n, v.Addr().Interface().(*Estimate), path)
		return
	case typeDate:
		d.date(n, v.Addr().Interface().(*Date), path)
		return
	case typeCopies:
		if n.Kind == yaml.SequenceNode {
			d.copies(n, v.Addr().Interface().(*Copies), path)
			return
		}
	case typeSteps:
		ordered(d, n, v.Addr().Interface().(*Steps), path, func(s *Step, id string) { s.ID = id })
		return
	case typeStages:
		ordered(d, n, v.Addr().Interface().(*Stages), path, func(s *Stage, id string) { s.ID = id })
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.complain(codeValue, n, path, "write one value here", "%q takes one value, not %s", path, describe(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if v.Type().Implements(typeWords) {
			known := v.Interface().(words).words()
			if !slices.Contains(known, n.Value) {
				d.complain(codeValue, n, path, suggest(n.Value, known), "%q is %s, which is not known", path, describe(n))
				return
			}
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Value != "true" && n.Value != "false" {
			d.complain(codeValue, n, path, "write true or false", "%q is %s, not true or false", path, describe(n))
			return
		}
		v.SetBool(n.Value == "true")
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if err != nil || (len(n.Value) > 1 && n.Value[0] == '0') || n.Value[0] == '+' {
			d.complain(codeValue, n, path, "write a whole number without leading zeros", "%q is %s, not a whole number", path, describe(n))
			return
		}
		v.SetInt(i)
	default:
		panic("plan: no reader for " + v.Type().String())
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.complain(codeValue, n, path, fmt.Sprintf("write [%s]", strings.Trim(describe(n), `"`)), "%q takes a list, not %s", path, describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.pos[p] = d.at(c)
		d.value(c, out.Index(i), p)
	}
	v.Set(out)
}

func (d *decoder) at(n *yaml.Node) Position { return Position{d.file, n.Line, n.Column} }

// key checks a map key and its first use. It reports false if the value must be left out.
func (d *decoder) key(k *yaml.Node, path string, known []string) bool {
	if k.Kind != yaml.ScalarNode {
		d.complain(codeValue, k, path, "use a plain word as key", "a key is %s", describe(k))
		return false
	}
	if k.Value == "<<" && k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		d.complain(codeAnchor, k, path, "write the values out in each place", "merge keys are not allowed in a plan")
		return false
	}
	full := join(path, k.Value)
	if known != nil && !slices.Contains(known, k.Value) {
		if d.full() {
			return false // before the nearest word is looked for
		}
		d.complain(codeField, k, full, suggest(k.Value, known), "unknown field %q%s", k.Value, within(path))
		return false
	}
	return true
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return fmt.Sprintf(" in %q", path)
}

// seen records the place of path, or complains that it is said twice.
func (d *decoder) seen(k *yaml.Node, full string, again bool) bool {
	if first, ok := d.pos[full]; ok {
		if again && first.File != d.file {
			// A section that continues in another file of the folder, once in each file.
			at := d.file + "\x00" + full
			if first, ok = d.continued[at]; !ok {
				d.continued[at] = d.at(k)
				return true
			}
		}
		d.complain(codeDuplicate, k, full, "keep one of the two", "%q is declared twice, first at %s:%d", full, first.File, first.Line)
		return false
	}
	d.pos[full] = d.at(k)
	return true
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	if fields.short >= 0 && n.Kind == yaml.ScalarNode {
		d.scalar(n, v.Field(fields.short), path)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.complain(codeValue, n, path, "write the fields below it, indented", "%s takes fields, not %s", name(path), describe(n))
		return
	}
	misspelt := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if !d.key(k, path, fields.known) {
			misspelt = true
			continue
		}
		f := fields.named(k.Value)
		full := join(path, k.Value)
		kind := v.Field(f.index).Kind()
		section := path == "" && (kind == reflect.Map || kind == reflect.Struct)
		if !d.seen(k, full, section) {
			continue
		}
		d.value(c, v.Field(f.index), full)
		if f.cel {
			d.expression(c, full)
		}
		if f.path && v.Field(f.index).Kind() == reflect.String {
			d.path(c, v.Field(f.index))
		}
	}
	// A folder has its required sections in any of its files: see Parse. What is
	// missing beside an unknown field is most likely that field.
	if path == "" || misspelt {
		return
	}
	d.required(n, v, path)
}

func (d *decoder) required(n *yaml.Node, v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()).list {
		if !f.required {
			continue
		}
		if _, ok := d.pos[join(path, f.key)]; !ok {
			d.complain(codeEmpty, n, path, fmt.Sprintf("add \"%s: …\"", f.key), "%s lacks %q", name(path), f.key)
		}
	}
}

func name(path string) string {
	if path == "" {
		return "the plan"
	}
	return strconv.Quote(path)
}

// expression notes where the text of an expression begins, or of each of a list.
func (d *decoder) expression(n *yaml.Node, path string) {
	if n.Kind == yaml.SequenceNode {
		for i, c := range n.Content {
			d.expression(c, fmt.Sprintf("%s[%d]", path, i))
		}
		return
	}
	at := expressionAt{Position: d.at(n), block: n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		at.Column++
	}
	d.expressions[path] = at
}

// path makes a path of the plan usable from here: paths are relative to the plan.
func (d *decoder) path(n *yaml.Node, v reflect.Value) {
	if s := v.String(); s != "" && !filepath.IsAbs(s) {
		v.SetString(filepath.Join(d.dir, s))
	}
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/()-]*$`)

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.complain(codeValue, n, path, "write names with their values below it, indented", "%s takes a map, not %s", name(path), describe(n))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if !d.key(k, path, nil) || !d.id(k, path) {
			continue
		}
		full := join(path, k.Value)
		if !d.seen(k, full, false) {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		// A copy without a policy of its own ("near: {}") is common; an empty value is not.
		d.value(c, e, full)
		v.SetMapIndex(reflect.ValueOf(k.Value), e)
	}
}

// id checks the form of a key that names something.
func (d *decoder) id(k *yaml.Node, path string) bool {
	quoted := k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	switch {
	case !quoted && slices.Contains([]string{"on", "off", "yes", "no", "y", "n", "true", "false", "null", "~"}, strings.ToLower(k.Value)):
		d.complain(codeValue, k, path, "put it in quotes, or choose another id", "the key %q%s is read as true or false by some tools", k.Value, within(path))
		return false
	case len(k.Value) > maxID:
		d.complain(codeLimit, k, path, "choose a shorter id", "an id%s is longer than %d bytes", within(path), maxID)
		return false
	case !idForm.MatchString(k.Value):
		d.complain(codeValue, k, path, "use letters, digits, dashes and underscores", "%q%s cannot be an id", k.Value, within(path))
		return false
	}
	return true
}

func (d *decoder) period(n *yaml.Node, p *Period, path string) {
	if n.Kind != yaml.ScalarNode {
		d.complain(codeValue, n, path, periodHint, "%q takes a period, not %s", path, describe(n))
		return
	}
	v, err := calendar.ParsePeriod(n.Value)
	if err != nil {
		d.complain(codeValue, n, path, meantPeriod(n.Value, periodHint), "%q is %s, which is not a period", path, describe(n))
		return
	}
	d.sane(n, v, path)
	*p = v
}

const periodHint = "write a period such as 30s, 15m, 4h, 7d, 2w, 1mo, 1q or 1y"

// shortEvery matches "1d at 03:00", which stands for "every 1d at 03:00" under a
// key that already says every. Cron text has a space after its first number.
var shortEvery = regexp.MustCompile(`^[0-9]+[a-z]`)

func (d *decoder) recurrence(n *yaml.Node, r *Recurrence, path string) {
	const hint = "write how often, such as 15m, 1d at 03:00 or 1mo, or a cron line in quotes"
	if n.Kind != yaml.ScalarNode {
		d.complain(codeValue, n, path, hint, "%q takes a recurrence, not %s", path, describe(n))
		return
	}
	text := n.Value
	if shortEvery.MatchString(text) {
		text = "every " + text
	}
	v, err := calendar.ParseRecurrence(text)
	if err != nil {
		d.complain(codeValue, n, path, meantRecurrence(n.Value, hint), "%q cannot be used: %s", path, strings.TrimSuffix(err.Error(), ": "+holdfast.ErrUsage.Error()))
		return
	}
	*r = v
}

func (d *decoder) estimate(n *yaml.Node, e *Estimate, path string) {
	if n.Kind == yaml.ScalarNode && n.Value == "measured" {
		e.Measured = true
		return
	}
	d.period(n, &e.Period, path)
}

func (d *decoder) date(n *yaml.Node, v *Date, path string) {
	day, err := ParseDate(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.complain(codeValue, n, path, "write year, month and day in quotes: \"2026-10-01\"", "%q is %s, which is not a day", path, describe(n))
		return
	}
	*v = day
}

func (d *decoder) copies(n *yaml.Node, v *Copies, path string) {
	*v = Copies{}
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode || empty(c) {
			d.complain(codeValue, c, path, "write the names of locations", "%q takes names, not %s", path, describe(c))
			continue
		}
		if d.seen(c, join(path, c.Value), false) {
			(*v)[c.Value] = Copy{}
		}
	}
}

// ordered reads a map whose order counts.
func ordered[E any, S ~[]E](d *decoder, n *yaml.Node, v *S, path string, name func(*E, string)) {
	var m map[string]E
	rv := reflect.ValueOf(&m).Elem()
	d.mapping(n, rv, path)
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		id := n.Content[i].Value
		if e, ok := m[id]; ok {
			name(&e, id)
			*v = append(*v, e)
			delete(m, id)
		}
	}
}

// field is what the tags of a struct field say.
type field struct {
	key      string
	index    int
	required bool
	path     bool
	cel      bool // an expression
	short    bool // the only field of a struct that is written as one value
}

// fields are those of one struct type, in its order.
type fields struct {
	list  []field
	known []string
	at    map[string]int
	short int // of the field that stands for the whole struct, or -1
}

func (f *fields) named(key string) field { return f.list[f.at[key]] }

var fieldCache sync.Map // from reflect.Type to *fields

func fieldsOf(t reflect.Type) *fields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(*fields)
	}
	fs := &fields{at: map[string]int{}, short: -1}
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		opts := strings.Split(t.Field(i).Tag.Get("plan"), ",")
		f := field{key: key, index: i, required: slices.Contains(opts, "required"), path: slices.Contains(opts, "path"), short: slices.Contains(opts, "short"), cel: slices.Contains(opts, "cel")}
		if f.short {
			fs.short = i
		}
		fs.at[key] = len(fs.list)
		fs.list = append(fs.list, f)
		fs.known = append(fs.known, key)
	}
	fieldCache.Store(t, fs)
	return fs
}

// suggest names the nearest known word, or all of them when none is near.
func suggest(word string, known []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	word = strings.ToLower(word)
	for _, k := range known {
		// At least as many edits as one is longer than the other: most of many ids are
		// too far away at a glance.
		if apart := len(k) - len(word); apart >= bestDistance || -apart >= bestDistance {
			continue
		}
		if dist := distance(word, strings.ToLower(k)); dist < bestDistance {
			best, bestDistance = k, dist
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "nothing of that kind is declared"
	}
	sorted := slices.Sorted(slices.Values(known))
	const most = 12
	if len(sorted) > most {
		return fmt.Sprintf("known are %s and %d more", strings.Join(sorted[:most], ", "), len(sorted)-most)
	}
	return "known are " + strings.Join(sorted, ", ")
}

// distance is the number of edits between two short words, with a swap of
// neighbours as one.
func distance(a, b string) int {
	if len(a) > maxID || len(b) > maxID {
		return maxID
	}
	var rows [3][maxID + 1]int // taken in turn, so that nothing is allocated
	prev2, prev, cur := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
