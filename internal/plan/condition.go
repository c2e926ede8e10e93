package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// An ExpressionError says what is wrong with an expression and where in its text.
type ExpressionError struct {
	Line, Column int // of the expression, from 1
	Message      string
}

// Error returns the place and the message.
func (e *ExpressionError) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// compile turns text into a program that is true or false and ends.
func compile(text string, environment func() (*cel.Env, error)) (cel.Program, error) {
	program, _, err := compileTo(text, environment, "true or false", cel.BoolType)
	return program, err
}

// compileTo turns text into a program that gives one of some types, or what is known only
// when it runs, and that ends.
func compileTo(text string, environment func() (*cel.Env, error), words string, gives ...*cel.Type) (cel.Program, *cel.Ast, error) {
	if len(text) > MaxExpectBytes {
		return nil, nil, fmt.Errorf("the expression is longer than %d bytes", MaxExpectBytes)
	}
	env, err := environment()
	if err != nil {
		return nil, nil, fmt.Errorf("prepare expressions: %w", err)
	}
	ast, issues := env.Compile(text)
	if all := issues.Errors(); len(all) > 0 {
		first := all[0]
		return nil, nil, &ExpressionError{max(first.Location.Line(), 1), first.Location.Column() + 1, trimmed(first.Message)}
	}
	if t := ast.OutputType(); !t.IsExactType(cel.DynType) && !slices.ContainsFunc(gives, t.IsExactType) {
		return nil, nil, fmt.Errorf("the expression gives %s, not %s", t, words)
	}
	program, err := env.Program(ast, cel.CostLimit(maxExpectCost), cel.EvalOptions(cel.OptOptimize))
	return program, ast, err
}

// Known is what is known of an incident when somebody asks whether to start a
// recovery.
type Known struct {
	Severity         string
	Kind             string            // what the incident is about: "availability", "backup-damage"
	Age              time.Duration     // since it began
	ExpectedDuration time.Duration     // by the newest estimate; 0 if there is none
	Stores           map[string]string // "ok", "lost" or "unknown", by id
	Services         map[string]string // "ok", "down" or "unknown", by id
}

// MaxSteps is how many steps of the evaluator a condition may take. What needs more cannot
// be told.
const MaxSteps = maxExpectCost

// A Condition is a compiled predicate over an incident, such as
//
//	incident.expected_duration > duration("4h") || stores["db"] == "lost"
//
// It knows incident (with severity, kind, age and expected_duration, which is there only
// once somebody has estimated it), stores and services, each from id to its state.
type Condition struct {
	text    string
	program cel.Program
}

var conditionEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("incident", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("stores", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("services", cel.MapType(cel.StringType, cel.StringType)),
		cel.CrossTypeNumericComparisons(true),
	)
})

// NewCondition compiles a CEL expression that is true or false.
func NewCondition(text string) (*Condition, error) {
	program, err := compile(text, conditionEnv)
	if err != nil {
		return nil, err
	}
	return &Condition{text, program}, nil
}

// String returns the expression.
func (c *Condition) String() string { return c.text }

// Holds says whether the condition is true of what is known. An error means that it
// cannot be told, for example because nobody has estimated the duration yet: that is
// neither true nor false, and somebody should be asked.
func (c *Condition) Holds(k Known) (bool, error) {
	incident := map[string]any{"severity": k.Severity, "kind": k.Kind, "age": k.Age}
	if k.ExpectedDuration > 0 {
		incident["expected_duration"] = k.ExpectedDuration
	}
	states := func(m map[string]string) map[string]string {
		if m == nil {
			return map[string]string{}
		}
		return m
	}
	out, err := evaluate(c.program, map[string]any{"incident": incident, "stores": states(k.Stores), "services": states(k.Services)})
	if err != nil {
		return false, fmt.Errorf("%s cannot be told: %w", c.text, err)
	}
	return out, nil
}

// evaluate runs the company's text: its panics must not end anything.
func evaluate(program cel.Program, in map[string]any) (holds bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			holds, err = false, fmt.Errorf("the evaluator gave up: %v", r)
		}
	}()
	out, _, err := program.Eval(in)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("it gives %v, not true or false", out.Value())
	}
	return bool(b), nil
}

// ExpressionAt returns the place in the plan of an error in the expression at path, and
// the error without its place in the expression. An error that has no place stands
// where the expression does.
func (p *Plan) ExpressionAt(path string, err error) (Position, string) {
	pos := p.Position(path)
	e, ok := errors.AsType[*ExpressionError](err)
	if !ok {
		return pos, err.Error()
	}
	begin, known := p.expressions[path]
	if !known {
		return pos, err.Error()
	}
	pos = begin.Position
	pos.Line += e.Line - 1
	switch {
	case begin.block: // the text begins on the next line; its indentation is gone
		pos.Line++
		pos.Column = 1
	case e.Line == 1:
		pos.Column += e.Column - 1
	}
	return pos, e.Message
}

// expressionAt is where the text of an expression begins.
type expressionAt struct {
	Position
	block bool // a block of several lines
}

// trimmed returns the message of the evaluator without what only its authors read.
func trimmed(message string) string {
	first, _, _ := strings.Cut(message, " expecting {")
	return first
}
