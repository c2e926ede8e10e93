package plan

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Formulas are the numbers that Holdfast computes, by the name that a metric may give
// instead of an expression. Each is an expression over [Counts] like any other.
var Formulas = map[string]string{
	"backup-success":   "100.0 * backups.done / backups.expected",
	"restore-success":  "100.0 * drills.done / drills.expected",
	"backup-incidents": "incidents.backup",
	"exceptions":       "exceptions.listed",
	"coverage":         "100.0 * stores.copied / stores.all",
	"oldest-proof":     "stores.oldest_proof_days",
}

// Counts are what a formula may name, each with what it counts in the period of the
// metric. All are numbers with a point: write 100.0 and not 100 beside them.
var Counts = map[string]string{
	"backups.expected":         "backups that the plan expected",
	"backups.done":             "of these, whole and in time",
	"backups.failed":           "of these, failed or incomplete",
	"backups.missed":           "of these, never begun or too late, whoever was down",
	"backups.open":             "of these, not ended when the next period ended",
	"drills.expected":          "drills that the plan expected",
	"drills.done":              "of these, passed and in time",
	"drills.failed":            "of these, not passed",
	"drills.missed":            "of these, never begun or too late",
	"drills.open":              "of these, not ended when the next period ended",
	"incidents.opened":         "incidents that were detected",
	"incidents.backup":         "of these, about backups: a backup failed or was not made, a log has a gap or lags",
	"incidents.closed":         "incidents that were closed",
	"exceptions.listed":        "exceptions of the register that were open or in force at some time of the period",
	"exceptions.approved":      "of these, in force at its end",
	"exceptions.open":          "of these, not approved at its end",
	"exceptions.ended":         "of these, ended within it",
	"stores.all":               "stores of the plan in force, without those that are not protected on purpose",
	"stores.copied":            "of these, with a whole copy made before the end",
	"stores.drilled":           "of these, with a drill within the period that passed",
	"stores.oldest_proof_days": "the age in days, at the end, of the oldest of the newest passed drills of these; unknown while one has none",
}

// A Formula is a compiled expression over counts that gives a number.
type Formula struct {
	expression string
	program    cel.Program
	names      []string
}

var formulaEnv = sync.OnceValues(func() (*cel.Env, error) {
	var of []cel.EnvOption
	for _, name := range sorted(Counts) {
		of = append(of, cel.Variable(name, cel.DoubleType))
	}
	return cel.NewEnv(append(of, cel.CrossTypeNumericComparisons(true))...)
})

// NewFormula compiles a CEL expression over [Counts], or the name of one of [Formulas].
func NewFormula(text string) (*Formula, error) {
	expression := text
	if named, ok := Formulas[text]; ok {
		expression = named
	}
	if expression == "" {
		return nil, errors.New("there is no formula")
	}
	program, ast, err := compileTo(expression, formulaEnv, "a number", cel.DoubleType, cel.IntType)
	if err != nil {
		return nil, err
	}
	f := &Formula{expression: expression, program: program}
	for _, ref := range ast.NativeRep().ReferenceMap() {
		if _, known := Counts[ref.Name]; known && !slices.Contains(f.names, ref.Name) {
			f.names = append(f.names, ref.Name)
		}
	}
	slices.Sort(f.names)
	return f, nil
}

// String returns the expression, also of a formula that was named.
func (f *Formula) String() string { return f.expression }

// Names are the counts that it reads, sorted.
func (f *Formula) Names() []string { return f.names }

// Value computes the number from counts, in which n is the largest one that it reads: how
// much it rests on. A count that is not there, and a division by nothing, give an error:
// then the number is unknown, and never 0 or 100 %.
func (f *Formula) Value(counts map[string]float64) (value, n float64, err error) {
	defer func() {
		if r := recover(); r != nil { // the company's text must not end anything
			value, err = 0, fmt.Errorf("the evaluator gave up: %v", r)
		}
	}()
	in := map[string]any{}
	for _, name := range f.names {
		c, ok := counts[name]
		if !ok {
			return 0, 0, fmt.Errorf("%s is not known", name)
		}
		in[name], n = c, max(n, c)
	}
	out, _, err := f.program.Eval(in)
	if err != nil {
		return 0, n, err
	}
	switch v := out.(type) {
	case types.Double:
		value = float64(v)
	case types.Int:
		value = float64(v)
	default:
		return 0, n, fmt.Errorf("it gives %v, not a number", out.Value())
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, n, errors.New("there is nothing to divide by: nothing was expected in the period")
	}
	return value, n, nil
}

// A Goal is the target of a metric: ">= 99%", "< 3", or "0" for exactly that.
type Goal struct {
	Op    string // >=, <=, >, < or =
	Value float64
}

// ParseGoal reads a target. A percent sign is for people: the value is compared as it is,
// and the numbers of [Formulas] that are shares count from 0 to 100.
func ParseGoal(text string) (Goal, error) {
	rest, g := strings.TrimSpace(text), Goal{Op: "="}
	for _, op := range []string{">=", "<=", ">", "<", "="} {
		if after, ok := strings.CutPrefix(rest, op); ok {
			g.Op, rest = op, after
			break
		}
	}
	rest = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "%"))
	v, err := strconv.ParseFloat(rest, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return Goal{}, fmt.Errorf("%q is no target", text)
	}
	g.Value = v
	return g, nil
}

// Met reports whether a value is as the target wants it.
func (g Goal) Met(v float64) bool {
	switch g.Op {
	case ">=":
		return v >= g.Value
	case "<=":
		return v <= g.Value
	case ">":
		return v > g.Value
	case "<":
		return v < g.Value
	}
	return v == g.Value
}

// figures looks at the formula and the target of each metric.
func (l *linter) figures() {
	for _, id := range sorted(l.p.Metrics) {
		m, path := l.p.Metrics[id], "metrics."+id
		if _, err := NewFormula(m.Formula); err != nil && m.Formula != "" {
			l.expression(path+".formula", fmt.Sprintf("name one of %s, or write numbers with a point, such as %q; docs/ops/metrics.md lists what can be counted",
				strings.Join(slices.Sorted(maps.Keys(Formulas)), ", "), Formulas["backup-success"]), "the formula", err)
		}
		if _, err := ParseGoal(m.Target); err != nil && m.Target != "" {
			l.warn(codeVague, path+".target", "write a comparison with one number, such as \">= 99%\"", "nobody can tell whether the metric %q meets its target %q", id, m.Target)
		}
	}
}
