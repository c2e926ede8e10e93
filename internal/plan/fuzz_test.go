package plan

import (
	"bytes"
	"testing"
	"time"
)

// Whatever the text, the reader ends, and either gives a plan that its own source
// gives again, or says where it does not understand.
func FuzzParse(f *testing.F) {
	f.Add([]byte(clean()))
	f.Add([]byte(all(f)))
	for _, s := range []string{"", "a", "a: b", "- a", "{", "[[[[", "? a", "&a b", "*a", "<<: {}", "---\n---\n", "\xff", "\ufeffplan: {}", "a:\r\n  b: 1\r\n",
		"plan: {id: x, review: {every: 99999999999999999999y}}", "tiers: {a: {rto: {stages: {}}}}", "tiers: {a: {rto: {stages: {b: {max: 1h, from: b}}}}}",
		"services: {a: {bia: {impact: {x: {level: 9}}}}}", "#=== file: a.yaml ===\nplan: {id: a}\n#=== file: b.yaml ===\nplan: {id: b}\n",
		"stores: {a: {kind: git, git: {url: \"https://u:p@h/x\"}}}", "scenarios: {a: {lose: [\"x:y\", \"region:\"]}}", "frameworks: {a: [b]}", "org: {name: null}",
		"a: &a [*a]\n", "? {a: b}\n: c\n", "runbooks: {r: {steps: {a: {run: [x], after: [a]}}}}\n"} {
		f.Add([]byte(s))
	}
	model := parsed(f, all(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("plan.yaml", text)
		if err != nil {
			found := FindingsOf(err)
			if len(found) == 0 || len(found) > MaxFindings {
				t.Fatalf("%d findings for %v", len(found), err)
			}
			for _, f := range found {
				if f.Code == "" || f.File == "" || f.Line < 1 || f.Column < 1 || f.Message == "" || f.Hint == "" || f.Subject == "" {
					t.Fatalf("a finding without code, place, reason or way out: %+v", f)
				}
			}
			return
		}
		again, err := Parse("plan.yaml", p.Source())
		if err != nil || again.Digest() != p.Digest() || !bytes.Equal(again.Source(), text) {
			t.Fatalf("its own source gives another plan: %v", err)
		}
		for _, f := range Check(p, checkTime) {
			if f.Code == "" || f.Line < 1 || f.Column < 1 || f.Message == "" || f.Hint == "" {
				t.Fatalf("a finding without code, place, reason or way out: %+v", f)
			}
		}
		if cs := Diff(p, again); len(cs) > 0 {
			t.Fatalf("a plan differs from itself: %v", cs)
		}
		for _, c := range append(Diff(p, model), Diff(model, p)...) {
			if c.Path == "" || c.Text == "" || c.Position.Line < 1 || c.Effect == Weaker && c.Why == "" {
				t.Fatalf("a change without place, text or reason: %+v", c)
			}
		}
		p.RecoveryOrder()
		for _, node := range p.Nodes() {
			p.ObjectiveIn(node, "corruption")
		}
	})
}

// Whatever the expression, compiling and evaluating it ends, and gives an answer, or
// an error with its place.
func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"value > 0", "value > target - duration(\"15m\")", "[1,2].all(a, [1,2].exists(b, a > b))", "value.matches('(a+)+$')", "((((((((((1))))))))))",
		"last == null || value >= last", "stores[\"db\"] == \"lost\"", "incident.expected_duration > duration(\"4h\")", "\"\\ud800\"", "9223372036854775807 + 1 > 0", "{}", "has(value.a)",
		"value > 0 &&\n  lst > 1", "'a' + 'b' == \"ab\"", "1/0 > 0", "timestamp(\"x\") > target", "a?b:c", "!!!!!!!!!!!!true", "100.0 * backups.done / backups.expected", "backups.done / 0.0", "[backups.done].map(x, x)[0]", "coverage"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := NewExpectation(text); err == nil {
			for _, v := range []any{nil, int64(0), "a", 2.5, now, true} {
				if _, detail := e.Judge(v, v, now); detail == "" {
					t.Fatalf("%q says nothing of %v", text, v)
				}
			}
		} else if err.Error() == "" {
			t.Fatalf("%q is refused without a reason", text)
		}
		if g, err := NewFormula(text); err == nil {
			_, _, _ = g.Value(map[string]float64{"backups.done": 1, "backups.expected": 2})
		} else if err.Error() == "" {
			t.Fatalf("%q is refused without a reason", text)
		}
		if c, err := NewCondition(text); err == nil {
			_, _ = c.Holds(Known{Severity: "high", Age: time.Hour, Stores: map[string]string{"db": "lost"}})
		} else if err.Error() == "" {
			t.Fatalf("%q is refused without a reason", text)
		}
	})
}
