package render

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
)

// A leaf is one value of the plan with its place.
type leaf struct {
	path       string   // "tiers.critical.rto"
	pattern    string   // "tiers.*.rto"
	ids        []string // the ids on the way: "critical"
	text       string   // as the plan declares it
	vocabulary bool     // one of a few fixed words, a number or a period: it names nobody
}

func (l leaf) top() string {
	top, _, _ := strings.Cut(l.path, ".")
	return top
}

// leaves returns every value that the plan declares, in the order of the language and
// then of the ids. Values that are not declared have no leaf; an empty entry of a map
// has one, since its id says something.
func leaves(p *plan.Plan) []leaf {
	var out []leaf
	walk(reflect.ValueOf(*p), leaf{}, &out)
	return out
}

func walk(v reflect.Value, at leaf, out *[]leaf) {
	emit := func(text string, vocabulary bool) {
		at.text, at.vocabulary = text, vocabulary
		*out = append(*out, at)
	}
	t := v.Type()
	// The values of the language that are written as one word. Other types may have a
	// String too, which need not say all that is in them.
	switch x := v.Interface().(type) {
	case plan.Period, plan.Recurrence, plan.Estimate, plan.Date:
		if !v.IsZero() {
			emit(fmt.Sprint(x), true)
		}
		return
	case plan.Objective:
		if !v.IsZero() {
			emit(x.String(), false)
			walkObjective(x, at, out)
		}
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			before := len(*out)
			walk(v.Elem(), at, out)
			if len(*out) == before {
				emit("declared", true)
			}
		}
	case reflect.Struct:
		for i := range t.NumField() {
			key := t.Field(i).Tag.Get("yaml")
			if !t.Field(i).IsExported() || key == "" || key == "-" {
				continue
			}
			walk(v.Field(i), at.child(key, key, ""), out)
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			id := k.String()
			before := len(*out)
			next := at.child(id, "*", id)
			walk(v.MapIndex(k), next, out)
			if len(*out) == before {
				next.text, next.vocabulary = "declared", true
				*out = append(*out, next)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			e := v.Index(i)
			id := strconv.Itoa(i + 1)
			if e.Kind() == reflect.Struct && e.FieldByName("ID").IsValid() {
				id = e.FieldByName("ID").String()
				walk(e, at.child(id, "*", id), out)
				continue
			}
			walk(e, at.child(id, "*", ""), out)
		}
	case reflect.String:
		if v.String() != "" {
			emit(v.String(), t != reflect.TypeFor[string]()) // a named type has a fixed vocabulary
		}
	case reflect.Bool:
		if v.Bool() {
			emit("yes", true)
		}
	case reflect.Int, reflect.Int64:
		if v.Int() != 0 {
			emit(strconv.FormatInt(v.Int(), 10), true)
		}
	case reflect.Float64:
		if v.Float() != 0 {
			emit(strconv.FormatFloat(v.Float(), 'g', -1, 64), true)
		}
	default:
		emit(fmt.Sprint(v.Interface()), false)
	}
}

// walkObjective adds what an objective carries beside its number and words.
func walkObjective(o plan.Objective, at leaf, out *[]leaf) {
	for _, st := range o.Stages {
		walk(reflect.ValueOf(st), at.child("stages", "stages", "").child(st.ID, "*", st.ID), out)
	}
	if o.Terms == nil {
		return
	}
	for _, f := range []struct {
		key    string
		values []string
	}{{"approved_by", o.Terms.ApprovedBy}, {"approved_on", []string{o.Terms.ApprovedOn.String()}}, {"bound_by", []string{o.Terms.BoundBy}}, {"satisfies", o.Terms.Satisfies}, {"why", []string{o.Terms.Why}}} {
		walk(reflect.ValueOf(f.values), at.child(f.key, f.key, ""), out)
	}
}

// child is the place of a value below at.
func (l leaf) child(key, pattern, id string) leaf {
	join := func(a, b string) string {
		if a == "" {
			return b
		}
		return a + "." + b
	}
	ids := l.ids
	if id != "" {
		ids = append(slices.Clip(ids), id)
	}
	return leaf{path: join(l.path, key), pattern: join(l.pattern, pattern), ids: ids}
}

// covered reports whether a pattern stands in list, or lies below one that ends in
// ".**".
func covered(list []string, pattern string) bool {
	for _, c := range list {
		if c == pattern {
			return true
		}
		if root, ok := strings.CutSuffix(c, ".**"); ok && (pattern == root || strings.HasPrefix(pattern, root+".")) {
			return true
		}
	}
	return false
}

// declared writes every value below the given sections of the plan that no other
// section has words for, as a table of what, field and value.
func (w *writer) declared(none string, tops ...string) {
	told := toldValues()
	var rows [][]string
	for _, l := range w.leaves() {
		if !slices.Contains(tops, l.top()) || covered(told, l.pattern) {
			continue
		}
		parts := strings.SplitN(strings.TrimPrefix(l.path, l.top()+"."), ".", 2)
		if len(l.ids) == 0 || len(parts) == 1 {
			parts = []string{l.top(), strings.TrimPrefix(l.path, l.top()+".")}
		}
		field := strings.ReplaceAll(parts[1], "_", " ")
		value := w.text(w.relative(l.text))
		if i := strings.LastIndexByte(field, '.'); i > 0 && strings.HasSuffix(l.pattern, ".*") && strings.Trim(field[i+1:], "0123456789") == "" {
			field = field[:i] // one line for a list
			if n := len(rows); n > 0 && rows[n-1][0] == w.text(parts[0]) && rows[n-1][1] == w.text(field) {
				rows[n-1][2] += ", " + value
				continue
			}
		}
		rows = append(rows, []string{w.text(parts[0]), w.text(field), value})
	}
	w.table(none, []string{"What", "Field", "Declared"}, rows)
}
