package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"holdfast"
)

// PeopleFile may lie beside a plan and says who its people are: name, email and phone of
// the ids that the plan declares under people. It is no part of the plan: neither its
// source nor its digest, so no ledger, vault or evidence pack ever holds what is in it,
// and whoever asks to be erased is erased by taking them out of this one file. The id
// stays, as a name for nobody.
//
// Whoever can write the file can change where people are reached: it needs no approval.
const PeopleFile = "people.private.yaml"

// A contact is what the file says of one person.
type contact struct {
	Name  string `yaml:"name"`
	Email string `yaml:"email"`
	Phone string `yaml:"phone"`
}

type contacts struct {
	People map[string]contact `yaml:"people"`
}

// introduce adds the names of the file beside the plan, if there is one. What the plan
// says itself stands: a value in both is an error, and so is a person whom the plan does
// not declare.
func (p *Plan) introduce() error {
	name := filepath.Join(p.dir, PeopleFile)
	text, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, d := readContacts(name, text)
	for _, id := range sorted(c.People) {
		path := "people." + id
		who, declared := p.People[id]
		if !declared {
			d.complainAt(codeUndeclared, path, suggest(id, sorted(p.People)), "the plan declares no person %q", id)
			continue
		}
		from := c.People[id]
		for _, f := range []struct {
			key, value string
			to         *string
		}{{"name", from.Name, &who.Name}, {"email", from.Email, &who.Email}, {"phone", from.Phone, &who.Phone}} {
			if f.value == "" {
				continue
			}
			if *f.to != "" {
				first := p.Position(path + "." + f.key)
				d.complainAt(codeDuplicate, path+"."+f.key, "keep it here, and take it out of the plan", "%q is declared twice, first at %s:%d", path+"."+f.key, first.File, first.Line)
				continue
			}
			*f.to = f.value
			p.pos[path+"."+f.key] = d.pos[path+"."+f.key]
		}
		p.People[id] = who
	}
	if len(d.findings) > 0 {
		holdfast.SortFindings(d.findings)
		return (&SyntaxError{d.findings}).hinted()
	}
	return nil
}

// readContacts reads the text of the file; what is wrong is in the decoder's findings.
func readContacts(name string, text []byte) (c contacts, d *decoder) {
	d = &decoder{file: name, pos: map[string]Position{}, continued: map[string]Position{}, expressions: map[string]expressionAt{}, dir: filepath.Dir(name)}
	if d.readable(text) {
		d.document(text, reflect.ValueOf(&c).Elem())
	}
	return c, d
}

// SamePeople reports whether two plans say the same of their people, also where the file
// beside them says it.
func SamePeople(a, b *Plan) bool { return reflect.DeepEqual(a.People, b.People) }

// An Erasure is a person taken out of the file of people.
type Erasure struct {
	Person string   `json:"person"`
	File   string   `json:"file"`
	Fields []string `json:"fields"` // what the file said of them: "email", "name", "phone"
	// Text is the file without them. Comments of other people stay; those of the person
	// go with them.
	Text []byte `json:"-"`
	// Still are the lines of the plan that say any of it: the ledger keeps the text of each
	// plan that was in force, and nothing takes it out of there.
	Still []string `json:"still,omitempty"`
}

// Erase works out the file of people beside p without one of them. It writes nothing.
func (p *Plan) Erase(id string) (Erasure, error) {
	name := filepath.Join(p.dir, PeopleFile)
	e := Erasure{Person: id, File: name}
	text, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, holdfast.WithHint(fmt.Errorf("there is no %s beside the plan: %w", PeopleFile, holdfast.ErrRefused),
			"what the plan itself says of people is in the ledger, which forgets nothing; docs/ops/people.md says how to keep names out of it")
	}
	if err != nil {
		return e, err
	}
	c, d := readContacts(name, text)
	if len(d.findings) > 0 {
		return e, (&SyntaxError{d.findings}).hinted()
	}
	who, there := c.People[id]
	if !there {
		return e, holdfast.WithHint(fmt.Errorf("%s says nothing of %q: %w", PeopleFile, id, holdfast.ErrUsage), "%s", suggest(id, sorted(c.People)))
	}
	values := map[string]string{"email": who.Email, "name": who.Name, "phone": who.Phone}
	for _, key := range sorted(values) {
		if values[key] != "" {
			e.Fields = append(e.Fields, key)
			e.Still = append(e.Still, p.lines(values[key])...)
		}
	}
	slices.Sort(e.Still)
	e.Still = slices.Compact(e.Still)
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return e, err
	}
	people := find(&doc, "people")
	for i := 0; i+1 < len(people.Content); i += 2 {
		if people.Content[i].Value == id {
			people.Content = slices.Delete(people.Content, i, i+2)
			break
		}
	}
	e.Text, err = yaml.Dump(&doc)
	return e, err
}

// lines returns where the plan's own text says a value: "plan.yaml:12".
func (p *Plan) lines(value string) (out []string) {
	parts, folder := unpack(p.source)
	if !folder {
		parts = []part{{filepath.Base(p.files[0]), p.source}}
	}
	for _, part := range parts {
		n := 0
		for line := range bytes.Lines(part.text) {
			n++
			if strings.Contains(strings.ToLower(string(line)), strings.ToLower(value)) {
				out = append(out, fmt.Sprintf("%s:%d", part.name, n))
			}
		}
	}
	return out
}
