package plan

import (
	"embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// The types are the manual: their comments are the schema's descriptions.
//
//go:embed plan.go govern.go people.go scheme.go service.go store.go objective.go place.go class.go backup.go drill.go runbook.go incident.go supplier.go message.go kit.go
var typeSources embed.FS

// Schema returns the JSON Schema (2020-12) of a plan file, for editors. It is made
// from the types that Parse reads into, so the two cannot part; the descriptions are
// the comments of their fields. A folder's file may hold any part of a plan, so no
// section is required here.
func Schema() []byte {
	return slices.Clone(schemaOnce())
}

var schemaOnce = sync.OnceValue(func() []byte {
	docs := fieldDocs()
	s := object(reflect.TypeFor[Plan](), docs)
	delete(s, "required")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Holdfast plan"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("plan: the schema cannot be written: " + err.Error())
	}
	return append(b, '\n')
})

type schema = map[string]any

const periodPattern = `([0-9]+(y|q|mo|w|d|h|ms|m|s))+`

func schemaOf(t reflect.Type, docs map[string]string) schema {
	text := func(pattern string) schema { return schema{"type": "string", "pattern": pattern} }
	period := text("^" + periodPattern + "$")
	switch t {
	case typePeriod:
		return period
	case typeRecurrence:
		return schema{"type": "string", "minLength": 1, "examples": []string{"15m", "1d at 03:00", "1w on mon at 03:00", "1mo"}}
	case typeEstimate:
		return text("^(measured|" + periodPattern + ")$")
	case typeDate:
		return text("^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
	case typeObjective:
		return objectiveSchema(docs)
	case typeCopies:
		one := object(reflect.TypeFor[Copy](), docs)
		return schema{"oneOf": []schema{
			{"type": "array", "items": schema{"type": "string"}, "uniqueItems": true},
			{"type": "object", "additionalProperties": one},
		}}
	case typeSteps:
		step := object(reflect.TypeFor[Step](), docs)
		var kinds []schema
		for _, k := range []string{StepRestore, StepStart, StepCheck, StepHuman, StepApprove, StepRun} {
			kinds = append(kinds, schema{"required": []string{k}})
		}
		step["oneOf"] = kinds
		return schema{"type": "object", "additionalProperties": step, "propertyNames": text(idForm.String())}
	case typeStages:
		return schema{"type": "object", "minProperties": 1, "additionalProperties": object(reflect.TypeFor[Stage](), docs), "propertyNames": text(idForm.String())}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), docs)
	case reflect.Struct:
		s := object(t, docs)
		if f := fieldsOf(t); f.short >= 0 {
			return schema{"oneOf": []schema{{"type": []string{"string", "number", "boolean"}}, s}} // text is taken as written
		}
		return s
	case reflect.Map:
		values := schemaOf(t.Elem(), docs)
		if t.Elem() == reflect.TypeFor[string]() {
			values = schema{"type": []string{"string", "number", "boolean"}} // settings are taken as written
		}
		return schema{"type": "object", "additionalProperties": values, "propertyNames": text(idForm.String())}
	case reflect.Slice:
		return schema{"type": "array", "items": schemaOf(t.Elem(), docs)}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return schema{"type": "integer"}
	}
	if t.Implements(typeWords) {
		return schema{"enum": reflect.Zero(t).Interface().(words).words()}
	}
	return schema{"type": "string", "minLength": 1}
}

// objectiveSchema are the forms of an objective. Each is closed, so that an editor
// shows which words go together.
func objectiveSchema(docs map[string]string) schema {
	all := object(reflect.TypeFor[objectiveForm](), docs)["properties"].(schema)
	period := schemaOf(typePeriod, docs)
	form := func(required []string, keys ...string) schema {
		properties := schema{}
		for _, key := range append(append([]string{"approved_by", "approved_on", "bound_by", "satisfies", "why"}, required...), keys...) {
			properties[key] = all[key]
		}
		return schema{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	}
	return schema{"oneOf": []schema{
		{"type": "string", "pattern": "^(" + strings.Trim(period["pattern"].(string), "^$") + "|[A-Za-z].*)$"},
		form([]string{"max"}, "target", "stated"),
		form([]string{"stated"}, "bound"),
		form([]string{"stages"}, "stated"),
		form([]string{"none"}),
	}}
}

func object(t reflect.Type, docs map[string]string) schema {
	properties := schema{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		s := schemaOf(f.Type, docs)
		if doc := docs[t.Name()+"."+f.Name]; doc != "" {
			s["description"] = doc
		}
		properties[key] = s
		if slices.Contains(strings.Split(f.Tag.Get("plan"), ","), "required") {
			required = append(required, key)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// fieldDocs returns the comments of the fields, by "Type.Field".
func fieldDocs() map[string]string {
	docs := map[string]string{}
	read := func(n ast.Node) bool {
		t, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := t.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			text := strings.TrimSpace(f.Doc.Text())
			if text == "" {
				text = strings.TrimSpace(f.Comment.Text())
			}
			for _, name := range f.Names {
				docs[t.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
			}
		}
		return true
	}
	files, err := typeSources.ReadDir(".")
	if err != nil {
		panic("plan: its own source is not there: " + err.Error())
	}
	for _, f := range files {
		src, err := typeSources.ReadFile(f.Name())
		if err != nil {
			panic("plan: its own source is not there: " + err.Error())
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), src, parser.ParseComments)
		if err != nil {
			panic("plan: its own source does not parse: " + err.Error())
		}
		ast.Inspect(file, read)
	}
	return docs
}
