package plan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// The schema and the reader agree on what is a plan: what one refuses by its form,
// the other refuses too.
func TestSchemaAgreesWithReader(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("plan.json", doc); err != nil {
		t.Fatal(err)
	}
	sch, err := c.Compile("plan.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, old, new string
		ok             bool
	}{
		{"the template", "", "", true},
		{"range", "rto: 4h,", "rto: {target: 4h, max: 8h},", true},
		{"words", "rto: 4h,", "rto: near zero,", true},
		{"bound words", "rto: 4h,", `rto: {stated: "soon", bound: 4h},`, true},
		{"copies as a map", "copies: [near, offsite]", "copies: {near: {}, offsite: {every: 12h}}", true},
		{"bucket", offsite, bucket("s3.example.com", "style: path, lock: 30d, insecure: false"), true},
		{"machine", offsite, machine("backup.example.com", "known_hosts: known_hosts"), true},
		{"bucket with a secret", offsite, bucket("s3.example.com", "secret_access_key: x"), false},
		{"bucket without endpoint", offsite, "{kind: s3, s3: {bucket: example-backups}}", false},
		{"machine without key", offsite, "{kind: sftp, sftp: {host: a, user: b, path: c, known_hosts: d}}", false},
		{"style", offsite, bucket("s3.example.com", "style: dns"), false},
		{"typo", "max_lag: 1m", "max_lga: 1m", false},
		{"typo in a union", "rto: 4h,", "rto: {targt: 2h, max: 4h},", false},
		{"empty rto", "rto: 4h,", "rto: ,", false},
		{"range without limit", "rto: 4h,", "rto: {target: 4h},", false},
		{"bad period", "max_lag: 1m", "max_lag: 13am", false},
		{"bad kind", "kind: files", "kind: file", false},
		{"bad need", "{api: hard}", "{api: strong}", false},
		{"two acts", "restore-db: {restore: db,", "restore-db: {restore: db, check: db,", false},
		{"word for bool", "offline: true", "offline: maybe", false},
		{"word for list", "encrypt_to: [key-a, key-b]", "encrypt_to: key-a", false},
		{"lacks required", "kind: files\n    tier", "tier", false},
	} {
		text := clean()
		if !strings.Contains(text, tt.old) {
			t.Fatalf("%s: the plan does not contain %q", tt.name, tt.old)
		}
		text = strings.Replace(text, tt.old, tt.new, 1)
		_, err := Parse("plan.yaml", []byte(text))
		if (err == nil) != tt.ok {
			t.Errorf("%s: the reader says %v", tt.name, err)
		}
		var v any
		if err := yaml.Load([]byte(text), &v); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := sch.Validate(inst); (err == nil) != tt.ok {
			t.Errorf("%s: the schema says %v", tt.name, err)
		}
	}
	var v any
	if err := yaml.Load([]byte(all(t)), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := sch.Validate(inst); err != nil {
		t.Errorf("the schema refuses what the reader takes: %v", err)
	}
	if !bytes.Contains(Schema(), []byte("longest time from a commit until it is durable")) {
		t.Error("the schema does not describe the fields")
	}
}

// An editor shows what every field means, wherever it stands.
func TestSchemaDescribesEveryField(t *testing.T) {
	var doc any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	fields := 0
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case []any:
			for _, n := range node {
				walk(path, n)
			}
		case map[string]any:
			properties := map[string]any{}
			// A field may be called "properties" too: then it is a schema and not a set of them.
			if node["type"] == "object" && node["properties"] != nil {
				properties = node["properties"].(map[string]any)
			}
			for name, field := range properties {
				fields++
				if field.(map[string]any)["description"] == nil {
					t.Errorf("%s.%s has no description", path, name)
				}
				walk(path+"."+name, field)
			}
			for key, n := range node {
				if key != "properties" {
					walk(path, n)
				}
			}
		}
	}
	walk("plan", doc)
	if fields < 1000 {
		t.Errorf("only %d fields were looked at", fields)
	}
}
