package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// An Effect says what a change does to what the plan protects and promises.
type Effect string

// The effects. What cannot be compared and guards something counts as weaker: only a
// person can tell.
const (
	Weaker   Effect = "weaker"
	Stronger Effect = "stronger"
	Changed  Effect = "changed" // neither
)

// A Change is one difference between two plans.
type Change struct {
	Path   string `json:"path"` // "backups.database.keep"
	Effect Effect `json:"effect"`
	// Text says in words what is different, and Why what that does; Why is empty for
	// what is merely changed.
	Text string `json:"text"`
	Why  string `json:"why,omitempty"`
	// Old and New are the values as the plans declare them; empty where there is none.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// Position is where it stands in the new plan or, if it is gone, in the old one.
	Position Position `json:"-"`
}

// String returns the change in one line.
func (c Change) String() string {
	s := fmt.Sprintf("%s: %s", c.Path, c.Text)
	if c.Why != "" {
		s += ": " + c.Why
	}
	return s
}

// Diff says in words what changes from the old plan to the new one: what is weaker
// first, then what is stronger, then the rest, each in the order of paths. Two plans
// that mean the same have no difference, whatever their comments and order.
func Diff(old, new *Plan) []Change {
	d := &differ{old: old, new: new, rules: weakenings()}
	d.structs(nil, reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem())
	slices.SortStableFunc(d.changes, func(a, b Change) int {
		order := []Effect{Weaker, Stronger, Changed}
		return cmp.Or(cmp.Compare(slices.Index(order, a.Effect), slices.Index(order, b.Effect)), cmp.Compare(a.Path, b.Path))
	})
	return d.changes
}

// Signing reports whether the change is about who may sign and how many must.
func (c Change) Signing() bool {
	section, _, _ := cut(c.Path)
	return slices.Contains([]string{"people", "roles", "approvals"}, section) || c.Path == "plan.approvers" || c.Path == "org.team"
}

// Encryption reports whether the change is about who can read the backups, or about what
// guards them on their way to a location.
func (c Change) Encryption() bool {
	switch section, rest, _ := cut(c.Path); section {
	case "keys":
		return true
	case "repository":
		return slices.ContainsFunc([]string{"encrypt_to", "allow_one_recipient", "tls_min"}, func(f string) bool { return strings.HasPrefix(rest, f) })
	case "locations":
		return slices.ContainsFunc([]string{".insecure", ".ca_file", ".host_key", ".known_hosts"}, func(f string) bool { return strings.HasSuffix(c.Path, f) })
	}
	return false
}

// Weakens returns the changes that weaken something.
func Weakens(changes []Change) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Effect != Weaker })
}

type differ struct {
	old, new *Plan
	rules    []diffRule
	changes  []Change

	was, is *Backup // that are compared although their names differ; else nil
}

// backups returns a backup before and after.
func (d *differ) backups(id string) (was, is Backup) {
	if d.was != nil {
		return *d.was, *d.is
	}
	return d.old.Backups[id], d.new.Backups[id]
}

// A pair is one value before and after. One of them may be nothing.
type pair struct {
	at       []string // the parts of its path: ids may hold dots
	old, new any
	d        *differ
}

func (p pair) added() bool   { return p.old == nil }
func (p pair) removed() bool { return p.new == nil }

// report adds one change, judged by the first rule that fits its path.
func (d *differ) report(at []string, old, new any) {
	p, path := pair{at, old, new, d}, strings.Join(at, ".")
	c := Change{Path: path, Effect: Changed, Old: written(old), New: written(new), Position: d.new.Position(path)}
	if p.removed() {
		c.Position = d.old.Position(path)
	}
	switch {
	case p.added():
		c.Text = "is new"
	case p.removed():
		c.Text = "is gone"
	}
	if c.Old == "" && c.New == "" && c.Text == "" {
		c.Text = "is another"
	} else if c.Old != "" || c.New != "" {
		switch {
		case p.added():
			c.Text = fmt.Sprintf("is new: %s", c.New)
		case p.removed():
			c.Text = fmt.Sprintf("is gone, was %s", c.Old)
		default:
			c.Text = fmt.Sprintf("is %s, was %s", c.New, c.Old)
		}
	}
	if r, ok := d.ruleFor(at); ok {
		c.Effect, c.Why = r.judge(p)
		if c.Effect == Changed {
			c.Why = ""
		} else if c.Why == "" && c.Effect == Weaker {
			c.Why = r.why
		}
	}
	d.changes = append(d.changes, c)
}

// relative returns a path of the plan as it is written there.
func (p *Plan) relative(path string) string {
	if rel, err := filepath.Rel(p.dir, path); err == nil && path != "" && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}

func below(at []string, key string) []string { return append(slices.Clip(slices.Clone(at)), key) }

// written returns a leaf as the plan declares it, and nothing for a whole section.
func written(v any) string {
	if v == nil {
		return ""
	}
	switch v := v.(type) {
	case string:
		if v == "" {
			return "nothing"
		}
		return v
	case bool, int:
		return fmt.Sprint(v)
	case Period:
		if v.IsZero() {
			return "nothing"
		}
		return v.String()
	case Objective:
		return v.String()
	case Recurrence:
		if v.IsZero() {
			return "nothing"
		}
		return v.String()
	case Date:
		if v.IsZero() {
			return "nothing"
		}
		return v.String()
	case Estimate:
		if v.IsZero() {
			return "nothing"
		}
		return v.String()
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.String:
		return written(rv.String())
	case reflect.Slice:
		if rv.Type().Elem().Kind() == reflect.String {
			if rv.Len() == 0 {
				return "nothing"
			}
			var all []string
			for i := range rv.Len() {
				all = append(all, rv.Index(i).String())
			}
			return strings.Join(all, ", ")
		}
	}
	return ""
}

// structs compares two structs field by field.
func (d *differ) structs(at []string, a, b reflect.Value) {
	for _, f := range fieldsOf(a.Type()).list {
		x, y := a.Field(f.index), b.Field(f.index)
		if f.path && x.String() != y.String() { // two folders may hold one plan
			x, y = reflect.ValueOf(d.old.relative(x.String())), reflect.ValueOf(d.new.relative(y.String()))
		}
		d.values(below(at, f.key), x, y)
	}
}

func (d *differ) values(at []string, a, b reflect.Value) {
	switch a.Type() {
	case typePeriod, typeRecurrence, typeEstimate, typeDate:
		if written(a.Interface()) != written(b.Interface()) {
			d.report(at, a.Interface(), b.Interface())
		}
		return
	case typeObjective:
		d.objectives(at, a.Interface().(Objective), b.Interface().(Objective))
		return
	case typeSteps:
		d.steps(at, a.Interface().(Steps), b.Interface().(Steps))
		return
	}
	switch a.Kind() {
	case reflect.Pointer:
		switch {
		case a.IsNil() && b.IsNil():
		case a.IsNil():
			d.report(at, nil, b.Elem().Interface())
		case b.IsNil():
			d.report(at, a.Elem().Interface(), nil)
		default:
			d.values(at, a.Elem(), b.Elem())
		}
	case reflect.Struct:
		d.structs(at, a, b)
	case reflect.Map:
		d.maps(at, a, b)
	case reflect.Slice:
		if !reflect.DeepEqual(a.Interface(), b.Interface()) && a.Len()+b.Len() > 0 {
			d.report(at, a.Interface(), b.Interface())
		}
	default:
		if !a.Equal(b) {
			d.report(at, a.Interface(), b.Interface())
		}
	}
}

func (d *differ) maps(at []string, a, b reflect.Value) {
	keys := map[string]bool{}
	for _, m := range []reflect.Value{a, b} {
		for _, k := range m.MapKeys() {
			keys[k.String()] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		at := below(at, k)
		key := reflect.ValueOf(k)
		x, y := a.MapIndex(key), b.MapIndex(key)
		switch {
		case !x.IsValid():
			d.report(at, nil, y.Interface())
		case !y.IsValid():
			d.report(at, x.Interface(), nil)
		default:
			d.values(at, x, y)
		}
	}
}

func (d *differ) objectives(at []string, a, b Objective) {
	if a.String() != b.String() || !slices.Equal(a.Stages, b.Stages) {
		d.report(at, a, b)
		return
	}
	if a.Terms == nil && b.Terms == nil {
		return
	}
	var x, y Terms
	if a.Terms != nil {
		x = *a.Terms
	}
	if b.Terms != nil {
		y = *b.Terms
	}
	for _, f := range []struct {
		key      string
		old, new any
	}{{"approved_by", x.ApprovedBy, y.ApprovedBy}, {"approved_on", x.ApprovedOn, y.ApprovedOn}, {"bound_by", x.BoundBy, y.BoundBy},
		{"satisfies", x.Satisfies, y.Satisfies}, {"why", x.Why, y.Why}} {
		if written(f.old) != written(f.new) {
			d.report(below(at, f.key), f.old, f.new)
		}
	}
}

// steps compares the steps of a runbook by their ids, and their order as one value.
func (d *differ) steps(at []string, a, b Steps) {
	x, y := map[string]Step{}, map[string]Step{}
	var before, after []string
	for _, s := range a {
		x[s.ID] = s
		before = append(before, s.ID)
	}
	for _, s := range b {
		y[s.ID] = s
		after = append(after, s.ID)
	}
	d.maps(at, reflect.ValueOf(x), reflect.ValueOf(y))
	kept := func(ids []string, other map[string]Step) []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, ok := other[id]; return !ok })
	}
	if was, is := kept(before, y), kept(after, x); !slices.Equal(was, is) {
		d.report(at, was, is)
	}
}
