package objective

import (
	"testing"
	"time"

	"holdfast/internal/plan"
)

// A condition that asks for what is not known neither holds nor fails; what took place before
// a decision is as long as the incident is old; and a loop ends.
func TestWeigh(t *testing.T) {
	p := parse(t, `apiVersion: holdfast/v1
plan: {id: x}
stores: {db: {kind: files, files: {path: /srv}}, other: {kind: files, files: {path: /other}}}
activation:
  when:
    - 'stores["db"] == "lost"'
    - 'incident.expected_duration > duration("4h")'
    - 'services["api"] == "down" && stores["other"] == "unknown"'
    - 'stores.all(a, stores.all(b, stores.all(c, stores.all(d, stores.all(e, stores.all(f, stores.all(g, stores.all(h, stores.all(i, stores.all(j, stores.all(k, stores.all(l, stores.all(m, stores.all(n, stores.all(o, stores.all(q, a != "none"))))))))))))))))'
`)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	whole := Prediction{State: TimeUnknown, Total: Seconds(3*time.Hour + 5*time.Minute), Parts: []PartTime{{Name: "detect", Time: Seconds(5 * time.Minute)}, {Name: "fetch", Time: Seconds(3 * time.Hour)}}, Missing: []string{"decide"}}
	f := Facts{Now: now, Answering: []Answering{{Name: "INC-1", Severity: "SEV1", Began: now.Add(-61 * time.Minute), Services: []string{"api"}}}, States: map[string]string{"db": StateLost}}
	o := Overview{Services: []ServiceOverview{{ID: "api", Stores: []string{"db"}, Outage: whole}}}
	ask := func() (out []string) {
		for _, w := range Weigh(p, f, o) {
			switch {
			case w.Err != "":
				out = append(out, "untold")
			case w.Holds:
				out = append(out, "holds")
			default:
				out = append(out, "not")
			}
		}
		return out
	}
	is := func(what string, want ...string) {
		t.Helper()
		got := ask()
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Errorf("%s: %q, want %q", what, got, want)
				return
			}
		}
	}
	is("61 minutes and three hours", "holds", "holds", "holds", "untold")
	f.Answering[0].Began = now.Add(-time.Minute)
	is("a minute and three hours", "holds", "not", "holds", "untold")
	o.Services[0].Outage.Missing = []string{"decide", "restore-db"}
	f.States["db"] = StateOK
	is("nobody measured the restore", "not", "untold", "not", "untold")
	if found := proposals(p, Weigh(p, f, o)); len(found) != 2 || found[0].Code != codeUntold || found[0].Subject != "incidents.INC-1" {
		t.Errorf("%+v", found)
	}
	f.Answering[0].Activated = true
	if found := proposals(p, Weigh(p, f, o)); len(found) != 0 {
		t.Errorf("decided, and still asked: %+v", found)
	}
	if plan.MaxSteps > 1_000_000 {
		t.Error("a condition may run for long")
	}
}

// A condition can ask what an incident is about: a sign of an attack on the backups starts
// something else than an outage.
func TestConditionsKnowTheKindOfAnIncident(t *testing.T) {
	p, err := plan.Parse("plan.yaml", []byte("apiVersion: holdfast/v1\nplan: {id: x}\nactivation:\n  when: ['incident.kind == \"retention-veto\"']\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := Facts{Answering: []Answering{{Name: "INC-1", Kind: "availability"}, {Name: "INC-2", Kind: "retention-veto"}}}
	for i, w := range Weigh(p, f, Look(p, f)) {
		if w.Err != "" || w.Holds != (i == 1) {
			t.Errorf("%s", w)
		}
	}
}
