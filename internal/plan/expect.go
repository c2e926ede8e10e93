package plan

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"holdfast"
)

// Limits of one expectation.
const (
	MaxExpectBytes = 4096
	maxExpectCost  = 100_000 // units of the evaluator: ends what would not end
)

// An Expectation is a compiled predicate over the answer of an invariant. It knows
// three variables: value, the answer; last, the answer of the last drill that
// passed, null before the first; and target, the recovered instant.
type Expectation struct {
	text    string
	program cel.Program
}

var expectEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("value", cel.DynType),
		cel.Variable("last", cel.DynType),
		cel.Variable("target", cel.TimestampType),
		cel.CrossTypeNumericComparisons(true),
	)
})

// NewExpectation compiles a CEL expression that is true or false.
func NewExpectation(text string) (*Expectation, error) {
	program, err := compile(text, expectEnv)
	if err != nil {
		return nil, err
	}
	return &Expectation{text, program}, nil
}

// Expectation compiles what the owner expects of the answer.
func (inv Invariant) Expectation() (*Expectation, error) { return NewExpectation(inv.Expect) }

// String returns the expression.
func (e *Expectation) String() string { return e.text }

// Eval says whether an answer is as expected. An error means that the expression
// cannot be evaluated, for example because there is no last answer yet: then nothing
// is proven, and it never counts as passed.
func (e *Expectation) Eval(value, last any, target time.Time) (holds bool, err error) {
	holds, err = evaluate(e.program, map[string]any{"value": normal(value), "last": normal(last), "target": target})
	if err != nil {
		return false, fmt.Errorf("%s cannot be evaluated with value %s and last %s: %w", e.text, show(value), show(last), err)
	}
	return holds, nil
}

// Judge is Eval for a report: how the check ended, and what was seen.
func (e *Expectation) Judge(value, last any, target time.Time) (holdfast.Outcome, string) {
	holds, err := e.Eval(value, last, target)
	switch {
	case err != nil:
		return holdfast.NotProven, err.Error()
	case holds:
		return holdfast.Passed, fmt.Sprintf("%s holds with value %s", e.text, show(value))
	}
	return holdfast.Failed, fmt.Sprintf("%s does not hold: value is %s, last was %s, target %s", e.text, show(value), show(last), target.UTC().Format(time.RFC3339))
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []byte:
		return string(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// normal turns what a database driver or stored JSON gives into what CEL reads.
func normal(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint8:
		return uint64(v)
	case uint16:
		return uint64(v)
	case uint32:
		return uint64(v)
	case float32:
		return float64(v)
	case []byte:
		return string(v)
	case nil:
		return types.NullValue
	}
	return v
}

// needsDouble reports whether the expectation can be evaluated for an answer with a
// fraction, and not for a whole number, such as a count: 0.98 * value needs
// 0.98 * double(value), which takes both.
func (e *Expectation) needsDouble(now time.Time) bool {
	_, whole := e.Eval(int64(1000), int64(1000), now)
	_, fraction := e.Eval(1000.5, 1000.5, now)
	return whole != nil && fraction == nil
}

// passesOnNothing reports whether the expectation accepts the answer of an empty
// database, after a drill that saw a full one.
func (e *Expectation) passesOnNothing(now time.Time) (string, bool) {
	for _, empty := range []struct {
		name        string
		value, last any
	}{
		{"0", int64(0), int64(1000)},
		{"no value", nil, int64(1000)},
		{"no value", nil, now},
		{"0", int64(0), nil},
	} {
		if holds, err := e.Eval(empty.value, empty.last, now); err == nil && holds {
			return empty.name, true
		}
	}
	return "", false
}
