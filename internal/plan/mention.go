package plan

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"holdfast"
)

// A mention is a name that a condition uses: a field of the incident, or the id of a
// store or service. The evaluator would only notice a wrong one on the bad day.
type mention struct {
	of, name     string // "incident", "stores" or "services", and what of it
	line, column int    // of the expression, from 1
}

// incidentFields are what a condition can ask of an incident: see [Condition.Holds].
var incidentFields = []string{"age", "expected_duration", "kind", "severity"}

// mentions returns the names that a condition uses, in the order of the text. An
// expression that does not compile has none.
func mentions(text string) []mention {
	env, err := conditionEnv()
	if err != nil || len(text) > MaxExpectBytes {
		return nil
	}
	compiled, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil
	}
	tree := compiled.NativeRep()
	var out []mention
	add := func(e ast.Expr, of, name string) {
		at := tree.SourceInfo().GetStartLocation(e.ID())
		out = append(out, mention{of, name, max(at.Line(), 1), max(at.Column(), 0) + 1})
	}
	ident := func(e ast.Expr) string {
		if e.Kind() == ast.IdentKind {
			return e.AsIdent()
		}
		return ""
	}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if of := ident(e.AsSelect().Operand()); of == "incident" || of == "stores" || of == "services" {
				add(e.AsSelect().Operand(), of, e.AsSelect().FieldName())
			}
		case ast.CallKind:
			args := e.AsCall().Args()
			if e.AsCall().FunctionName() != operators.Index || len(args) != 2 || args[1].Kind() != ast.LiteralKind {
				return
			}
			name, ok := args[1].AsLiteral().(types.String)
			if of := ident(args[0]); ok && (of == "incident" || of == "stores" || of == "services") {
				add(args[1], of, string(name))
			}
		}
	}))
	slices.SortStableFunc(out, func(a, b mention) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	return out
}

// sizes are how large the evaluator takes the variables of the plan for: the answer of
// an invariant is a value or a short text, and few plans have more stores.
type sizes struct{}

const assumedSize = 1000

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if len(n.Path()) == 0 {
		return nil // a literal: its size is known
	}
	return &cost.SizeEstimate{Min: 0, Max: assumedSize}
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// steps is how many steps the evaluator may need for an expression at most. An
// expression that does not compile needs none.
func steps(text string, environment func() (*cel.Env, error)) uint64 {
	env, err := environment()
	if err != nil || len(text) > MaxExpectBytes {
		return 0
	}
	compiled, issues := env.Compile(text)
	if issues.Err() != nil {
		return 0
	}
	estimate, err := env.EstimateCost(compiled, sizes{})
	if err != nil {
		return 0
	}
	return estimate.Max
}

// endless warns of an expression that may be given up before it has an answer.
func (l *linter) endless(path, text string, environment func() (*cel.Env, error)) {
	if n := steps(text, environment); n > maxExpectCost {
		pos, _ := l.p.ExpressionAt(path, &ExpressionError{1, 1, ""})
		l.findings = append(l.findings, holdfast.Finding{Code: codeZero, Severity: holdfast.SeverityWarning, File: pos.File, Line: pos.Line, Column: pos.Column, Subject: path,
			Message: fmt.Sprintf("the expression may need %d steps, and is given up after %d: then nothing is known", n, maxExpectCost),
			Hint:    "ask for less, or let the database count: the answer of a query is one value"})
	}
}

// mentioned reports names in a condition that nothing has.
func (l *linter) mentioned(path, text string) {
	for _, m := range mentions(text) {
		known, what := incidentFields, "an incident has no field"
		switch m.of {
		case "stores":
			known, what = l.stores, "no store is called"
		case "services":
			known, what = l.services, "no service is called"
		}
		if slices.Contains(known, m.name) {
			continue
		}
		pos, _ := l.p.ExpressionAt(path, &ExpressionError{m.line, m.column, ""})
		l.findings = append(l.findings, holdfast.Finding{Code: codeUndeclared, Severity: holdfast.SeverityError, File: pos.File, Line: pos.Line, Column: pos.Column, Subject: path,
			Message: fmt.Sprintf("%s %q: the condition would never be known", what, m.name), Hint: suggest(m.name, known)})
	}
}
