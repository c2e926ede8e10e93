package plan

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"holdfast"
)

// Adopt takes the plan in a file, such as an example, for a company of its own: the id of the repository and the public keys are replaced by those of v, and where v
// names them, the connection string of its databases and the folder of its files.
// Everything else stays as it is written, comments included. A field of v that the
// plan has no single place for is an error.
func Adopt(name string, v Values) ([]byte, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	p, err := Parse(name, text)
	if err != nil {
		return nil, err
	}
	if _, folder := unpack(text); folder {
		return nil, holdfast.WithHint(fmt.Errorf("the plan %q is a folder: %w", name, holdfast.ErrUsage), "name one file")
	}
	set := map[string]string{}
	if _, ok := p.pos["repository.id"]; ok {
		set["repository.id"] = v.RepositoryID
	}
	recipients := []string{v.RecipientA, v.RecipientB}
	if n := len(p.Repository.EncryptTo); n != len(recipients) {
		return nil, holdfast.WithHint(fmt.Errorf("the plan %q writes for %d keys, and %d are made: %w", name, n, len(recipients), holdfast.ErrUsage), "name two keys under repository.encrypt_to")
	}
	for i, id := range p.Repository.EncryptTo {
		if _, ok := p.Keys[id]; !ok {
			return nil, holdfast.WithHint(fmt.Errorf("the plan %q writes for the key %q, which it does not declare: %w", name, id, holdfast.ErrUsage), "declare it under keys")
		}
		set["keys."+id+".recipient"] = recipients[i]
	}
	var databases, folders []string
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		s := p.Stores[id]
		switch {
		case s.Protect != "" && s.Postgres != nil:
			databases = append(databases, "stores."+id+".postgres.dsn")
		case s.Protect != "" && s.Files != nil:
			folders = append(folders, "stores."+id+".files.path")
		}
	}
	for _, f := range []struct {
		value, what string
		at          []string
	}{{v.DSN, "database", databases}, {v.Uploads, "folder", folders}} {
		switch {
		case f.value == "":
		case len(f.at) == 1:
			set[f.at[0]] = f.value
		default:
			return nil, holdfast.WithHint(fmt.Errorf("the plan %q protects %d stores that could be the %s: %w", name, len(f.at), f.what, holdfast.ErrUsage), "leave it out, and edit the plan")
		}
	}
	return replace(text, set)
}

// replace writes other values at the given paths. The text must be that of a plan that
// was read.
func replace(text []byte, set map[string]string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return nil, err
	}
	type edit struct {
		n     *yaml.Node
		value string
	}
	var edits []edit
	for _, path := range slices.Sorted(maps.Keys(set)) {
		n := find(&doc, path)
		if n == nil || n.Kind != yaml.ScalarNode || n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || strings.Contains(n.Value, "\n") {
			return nil, holdfast.WithHint(fmt.Errorf("%q cannot be replaced where it stands: %w", path, holdfast.ErrUsage), "write it on one line")
		}
		edits = append(edits, edit{n, set[path]})
	}
	// From the end, so that places before stay where they are.
	slices.SortFunc(edits, func(a, b edit) int {
		if a.n.Line != b.n.Line {
			return b.n.Line - a.n.Line
		}
		return b.n.Column - a.n.Column
	})
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, e := range edits {
		line := []rune(string(lines[e.n.Line-1]))
		begin := e.n.Column - 1
		end := begin + len([]rune(e.n.Value))
		if q := e.n.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle); q != 0 {
			end = closing(line, begin)
		}
		if begin < 0 || end > len(line) || end < begin {
			return nil, holdfast.WithHint(fmt.Errorf("line %d cannot be edited: %w", e.n.Line, holdfast.ErrUsage), "write the value on one line")
		}
		lines[e.n.Line-1] = []byte(string(line[:begin]) + strconv.Quote(e.value) + string(line[end:]))
	}
	return bytes.Join(lines, nil), nil
}

// closing returns the index behind the quote that ends the one at begin.
func closing(line []rune, begin int) int {
	quote := line[begin]
	for i := begin + 1; i < len(line); i++ {
		switch {
		case line[i] == '\\' && quote == '"':
			i++
		case line[i] == quote && quote == '\'' && i+1 < len(line) && line[i+1] == quote:
			i++
		case line[i] == quote:
			return i + 1
		}
	}
	return -1
}

// find returns the value at a path whose keys hold no dots.
func find(n *yaml.Node, path string) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	for key := range strings.SplitSeq(path, ".") {
		var next *yaml.Node
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = n.Content[i+1]
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}
