package plan

import (
	"math"
	"testing"
	"time"

	"holdfast"
)

func TestExpectation(t *testing.T) {
	target := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		expr        string
		value, last any
		want        holdfast.Outcome
	}{
		{"value > 0", int64(3), nil, holdfast.Passed},
		{"value > 0", 3, nil, holdfast.Passed},
		{"value > 0", int64(0), nil, holdfast.Failed},
		{"value > 0", 2.5, nil, holdfast.Passed},
		{"value > 0", nil, nil, holdfast.NotProven},
		{"value > 0", "abc", nil, holdfast.NotProven},
		{"value > 0", []byte("abc"), nil, holdfast.NotProven},
		{"double(value) >= 0.98 * double(last)", int64(98), int64(100), holdfast.Passed},
		{"double(value) >= 0.98 * double(last)", int64(97), int64(100), holdfast.Failed},
		{"double(value) >= 0.98 * double(last)", int64(97), nil, holdfast.NotProven},
		{"0.98 * value > 1.0", int64(97), nil, holdfast.NotProven}, // a double never meets an int by itself
		{"last == null || value >= last", int64(97), nil, holdfast.Passed},
		{"last == null || value >= last", int64(97), 98.0, holdfast.Failed}, // stored as JSON, last is a float
		{`value > target - duration("15m")`, target.Add(-14 * time.Minute), nil, holdfast.Passed},
		{`value > target - duration("15m")`, target.Add(-16 * time.Minute), nil, holdfast.Failed},
		{"value", int64(1), nil, holdfast.NotProven},
		{"value", true, nil, holdfast.Passed},
		{"value == last", math.NaN(), math.NaN(), holdfast.Failed},
	} {
		e, err := NewExpectation(tt.expr)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		got, detail := e.Judge(tt.value, tt.last, target)
		if got != tt.want || detail == "" {
			t.Errorf("%s with value %v, last %v: %s (%s), want %s", tt.expr, tt.value, tt.last, got, detail, tt.want)
		}
	}
	for _, bad := range []string{"value >", "nothing > 1", "1 + 1", "", `"yes"`,
		`value > target - duration("1d")`, // CEL knows no days
	} {
		if _, err := NewExpectation(bad); err == nil {
			t.Errorf("%q compiled", bad)
		}
	}
}

// An expression that would run for very long ends as not proven.
func TestExpectationEnds(t *testing.T) {
	l := "[0,1,2,3,4,5,6,7,8,9]"
	e, err := NewExpectation(l + ".all(a, " + l + ".all(b, " + l + ".all(c, " + l + ".all(d, " + l + ".all(f, " + l + ".all(g, " + l + ".all(h, a+b+c+d+f+g+h >= 0)))))))")
	if err != nil {
		t.Fatal(err)
	}
	if got, detail := e.Judge(nil, nil, time.Time{}); got != holdfast.NotProven {
		t.Errorf("%s: %s", got, detail)
	}
}
