package importer

import (
	"maps"
	"slices"
	"strings"
)

// subjects are what backups are about, with the kind of store that stands for it.
var subjects = []struct {
	id   string
	kind string
	body string // what the reader of the plan demands of that kind
	text string
}{
	{"database", "postgres", `{dsn: "host=TODO user=holdfast dbname=TODO"}`, "the policy does not say which engine, and where"},
	{"files", "files", "{path: TODO/files}", "the policy does not say where the folder is"},
	{"machines", "vm", "{name: TODO}", "the policy does not name the machines"},
	{"code", "git", `{url: "https://TODO.invalid/code.git"}`, "the policy does not say where the repositories are"},
	{"objects", "object", `{endpoint: "https://TODO.invalid", bucket: TODO}`, "the policy does not name the bucket"},
}

// general is the backup policy of what a document does not name.
const general = "general"

// complete gives a general value, such as "backups are kept for 30 days", no store of
// its own where the document names stores.
func (r *reader) complete() {
	d := r.draft
	// A role that holds an office needs the person who holds it.
	for _, role := range d.below("roles") {
		for _, who := range []string{"holder", "deputy"} {
			if v, ok := d.get("roles", role, who); ok && v.Value != "" {
				d.put([]string{"people", v.Value}, "", "", "")
				name := v.Stated
				if name == "" {
					name = v.Value
				}
				d.put([]string{"people", v.Value, "name"}, scalar(name), d.from(v), "name, e-mail and phone")
			}
		}
	}
}

// required adds what the plan's reader demands and the document does not say.
func (d *draft) required() {
	todo := func(text, what string, path ...string) { d.put(path, text, "", what) }
	id := "imported"
	if v, ok := d.get("org", "name"); ok && slug(v.Value) != "" {
		id = slug(v.Value)
	}
	d.put([]string{"plan", "id"}, scalar(id), "", "a short name of your own")
	if _, ok := d.get("plan", "version"); !ok {
		todo(`"0"`, "the document names no version", "plan", "version")
	}
	for _, role := range d.below("roles") {
		if !d.has("roles", role, "holder") {
			todo("TODO", "the document names nobody", "roles", role, "holder")
		}
	}
	for _, path := range [][]string{{"plan", "owner"}, {"plan", "approvers", "1"}, {"activation", "by", "1"}, {"activation", "by", "2"}} {
		// Who owns, approves or starts must be somebody.
		if v, ok := d.get(path...); ok && !d.has("roles", v.Value) && !d.has("people", v.Value) {
			todo("TODO", "which person holds this office?", "roles", v.Value, "holder")
		}
	}
	backups := d.below("backups")
	if d.spread([]string{"backups", general, "keep"}) != nil {
		backups = slices.DeleteFunc(backups, func(b string) bool { return b == general })
	}
	places := d.below("locations")
	for _, b := range d.below("backups") {
		if _, ok := d.get("backups", b, "copies", "offsite", "every"); ok && !slices.Contains(places, "offsite") {
			places = append(places, "offsite")
		}
	}
	if len(backups) > 0 && len(places) == 0 {
		places = []string{"near", "offsite"}
	}
	for _, l := range places {
		todo("dir", "the document does not say what kind of place it is", "locations", l, "kind")
		todo(scalar("TODO/"+l), "where", "locations", l, "path")
	}
	for _, b := range backups {
		todo("1d", "the document does not say how often; a day stands in", "backups", b, "every")
		for _, l := range places {
			if !d.has("backups", b, "copies", l, "every") {
				todo("{}", "does it hold these copies?", "backups", b, "copies", l)
			}
		}
		for _, s := range subjects {
			if s.id == b && len(d.below("stores")) == 0 {
				todo(s.kind, s.text, "stores", b, "kind")
			}
		}
	}
	for _, store := range d.ids("stores") {
		d.store(store, backups)
	}
	for _, drill := range d.below("drills") {
		if !d.has("drills", drill, "of") {
			of := d.ids("stores")
			todo("["+strings.Join(of, ", ")+"]", "which stores does it restore?", "drills", drill, "of")
		}
		todo("1q", "the document does not say how often; a quarter stands in", "drills", drill, "every")
	}
	for _, e := range d.below("exercises") {
		kind := "technical"
		for _, k := range []string{"tabletop", "call-tree", "failover"} {
			if strings.Contains(e, k) {
				kind = k
			}
		}
		todo(kind, "", "exercises", e, "kind")
	}
	for _, m := range d.below("metrics") {
		todo("1mo", "the document does not say how often; a month stands in", "metrics", m, "every")
	}
	for _, o := range d.below("obligations") {
		todo("TODO", "which law or contract demands it?", "obligations", o, "law")
	}
}

// ids are the keys below a section of the proposal.
func (d *draft) ids(section string) []string {
	for _, n := range d.root.children {
		if n.key == section {
			var out []string
			for _, c := range n.children {
				out = append(out, c.key)
			}
			return out
		}
	}
	return nil
}

// store completes a store for the plan's reader.
func (d *draft) store(id string, backups []string) {
	kind := "files"
	for _, n := range d.root.children {
		if n.key != "stores" {
			continue
		}
		for _, c := range n.children {
			for _, f := range c.children {
				if c.key == id && f.key == "kind" {
					kind = f.text
				}
			}
		}
	}
	bodies := map[string]string{"mysql": `{dsn: "user@TODO:3306/TODO"}`, "sqlite": "{path: TODO/file.db}", "exec": "{backup: [TODO], restore: [TODO]}"}
	for _, s := range subjects {
		bodies[s.kind] = s.body
	}
	if !slices.Contains(slices.Collect(maps.Keys(bodies)), kind) {
		kind = "files"
	}
	d.put([]string{"stores", id, "kind"}, kind, "", "which kind of store is it?")
	d.put([]string{"stores", id, kind}, bodies[kind], "", "how it is reached")
	if slices.Contains(backups, id) {
		d.put([]string{"stores", id, "protect"}, scalar(id), "", "")
	} else if slices.Contains(backups, general) {
		d.put([]string{"stores", id, "protect"}, general, "", "does this policy hold for it?")
	}
	if len(d.below("stores")) > 0 {
		return // the document has an inventory
	}
	d.put([]string{"stores", id, "owner"}, "TODO", "", "who answers for it?") // "check" refuses it until it is somebody
	if tiers := d.below("tiers"); len(tiers) > 0 {
		d.put([]string{"stores", id, "tier"}, "TODO", "", "one of "+strings.Join(tiers, ", "))
	}
}
