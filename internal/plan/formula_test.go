package plan

import (
	"strings"
	"testing"
	"time"
)

func TestFormula(t *testing.T) {
	counts := map[string]float64{"backups.expected": 60, "backups.done": 57, "backups.missed": 3, "drills.expected": 0, "drills.done": 0, "incidents.opened": 0}
	tests := []struct {
		text     string
		value, n float64
		bad      string
	}{
		{"backup-success", 95, 60, ""},
		{"100.0 * backups.missed / backups.expected", 5, 60, ""},
		{"incidents.opened", 0, 0, ""}, // none is a number
		{"1 + 2", 3, 0, ""},
		{"backups.missed > 2.0 ? 1.0 : 0.0", 1, 3, ""},
		{"restore-success", 0, 0, "nothing was expected"}, // of none, a share is no number
		{"incidents.closed", 0, 0, "incidents.closed is not known"},
		{"backups.expcted", 0, 0, "undeclared"},
		{"100 * backups.done", 0, 0, "no matching overload"},
		{"backups.done > 1.0", 0, 0, "not a number"},
		{"", 0, 0, "no formula"},
	}
	for _, tt := range tests {
		f, err := NewFormula(tt.text)
		var v, n float64
		if err == nil {
			v, n, err = f.Value(counts)
		}
		if tt.bad == "" && (err != nil || v != tt.value || n != tt.n) || tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("%q gives %v of %v, %v; want %+v", tt.text, v, n, err, tt)
		}
	}
	for name := range Formulas {
		if _, err := NewFormula(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoal(t *testing.T) {
	for _, tt := range []struct {
		text string
		met  []float64
		not  []float64
	}{{">= 99%", []float64{99, 100}, []float64{98.9}}, {"100%", []float64{100}, []float64{99}}, {"<3", []float64{2}, []float64{3}}, {" <= 3 ", []float64{3}, []float64{4}}, {"> 0", []float64{1}, []float64{0}}, {"= 0", []float64{0}, []float64{1}}} {
		g, err := ParseGoal(tt.text)
		if err != nil {
			t.Error(err)
		}
		for _, v := range tt.met {
			if !g.Met(v) {
				t.Errorf("%v does not meet %q", v, tt.text)
			}
		}
		for _, v := range tt.not {
			if g.Met(v) {
				t.Errorf("%v meets %q", v, tt.text)
			}
		}
	}
	for _, bad := range []string{"", "many", ">= ", "NaN", "> Inf", "99% or so"} {
		if g, err := ParseGoal(bad); err == nil {
			t.Errorf("%q is %+v", bad, g)
		}
	}
}

func TestMetricsAreChecked(t *testing.T) {
	p, err := Parse("plan.yaml", []byte("apiVersion: holdfast/v1\nplan: {id: x}\nmetrics:\n  good: {every: 1mo, formula: backup-success, target: \">= 99%\"}\n"+
		"  typo: {every: 1mo, formula: \"100.0 * backups.don\", target: \"soon\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, f := range Check(p, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)) {
		if strings.HasPrefix(f.Subject, "metrics.") && !strings.Contains(f.Message, "lacks its") {
			said += f.Code + " " + f.Subject + ": " + f.Message + "\n"
		}
	}
	if strings.Contains(said, "good") || !strings.Contains(said, "HF-L24 metrics.typo.formula: the formula cannot be understood") || !strings.Contains(said, "metrics.typo.target") {
		t.Error(said)
	}
}
