package plan

import (
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/calendar"
)

// all is a plan that says everything that the language can say, once.
func all(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parsed(t testing.TB, text string) *Plan {
	t.Helper()
	p, err := Parse("plan.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%s", render(FindingsOf(err)))
	}
	return p
}

func TestEverythingCanBeSaid(t *testing.T) {
	p := parsed(t, all(t))
	for name, v := range map[string]int{
		"definitions": len(p.Definitions), "exclusions": len(p.Exclusions), "people": len(p.People), "roles": len(p.Roles), "approvals": len(p.Approvals),
		"schemes": len(p.Schemes), "hazards": len(p.Hazards), "scenarios": len(p.Scenarios), "tiers": len(p.Tiers), "severities": len(p.Severities),
		"services": len(p.Services), "stores": len(p.Stores), "suppliers": len(p.Suppliers), "facilities": len(p.Facilities), "customers": len(p.Customers),
		"obligations": len(p.Obligations), "residency": len(p.Residency), "keys": len(p.Keys), "credentials": len(p.Credentials), "locations": len(p.Locations),
		"backups": len(p.Backups), "holds": len(p.Holds), "drills": len(p.Drills), "exercises": len(p.Exercises), "runbooks": len(p.Runbooks),
		"reviews": len(p.Reviews), "metrics": len(p.Metrics), "risks": len(p.Risks), "exceptions": len(p.Exceptions), "measures": len(p.Measures),
		"statements": len(p.Statements), "documents": len(p.Documents), "frameworks": len(p.Frameworks), "controls": len(p.Controls),
	} {
		if v == 0 {
			t.Errorf("%s: nothing was read", name)
		}
	}
	for _, k := range StoreKind("").words() {
		found := false
		for _, s := range p.Stores {
			found = found || string(s.Kind) == k
		}
		if !found {
			t.Errorf("no store of kind %s", k)
		}
	}
}

func TestStagesCountFromTheirAnchors(t *testing.T) {
	p := parsed(t, all(t))
	o := p.Scenarios["total-failure"].RTO
	if d, ok := o.Duration(); !ok || d != 48*time.Hour || o.Target.Approx() != 24*time.Hour {
		t.Errorf("a staged objective is that of its first stage: %s, %t", d, ok)
	}
	ends := o.Stages.Ends()
	for id, want := range map[string]time.Duration{"interruption": 48 * time.Hour, "rollback": 72 * time.Hour, "normal": 96 * time.Hour} {
		if ends[id] != want {
			t.Errorf("%s ends after %s, want %s", id, ends[id], want)
		}
	}
}

func TestStrictestObjectiveCounts(t *testing.T) {
	p := parsed(t, all(t))
	for _, tt := range []struct{ node, scenario, rto, rpo string }{
		{"api", "", "customers.acme", "tiers.critical"},
		{"api", "total-failure", "customers.acme", "scenarios.total-failure"},
		{"web", "", "services.web", "services.web"},
	} {
		rto, rpo := p.ObjectiveIn(tt.node, tt.scenario)
		if rto.Selector != tt.rto || rpo.Selector != tt.rpo {
			t.Errorf("%s in %q: rto by %s, rpo by %s; want %s and %s", tt.node, tt.scenario, rto.Selector, rpo.Selector, tt.rto, tt.rpo)
		}
	}
	if _, rpo, _ := p.ObjectiveOf("web"); rpo.None == "" {
		t.Error("an own value that does not apply must replace the tier's")
	}
}

func TestSmallTeamHasAFallback(t *testing.T) {
	p := parsed(t, all(t))
	if a := p.Approval(ActWeaken); a.People != 2 || a.Fallback == nil || a.Fallback.Delay.IsZero() {
		t.Errorf("a small team has no way: %+v", a)
	}
	p = parsed(t, strings.Replace(all(t), "team: small", "team: ordinary", 1))
	if a := p.Approval(ActWeaken); a.People != 2 || a.Fallback != nil {
		t.Errorf("an ordinary team needs two: %+v", a)
	}
}

func TestKept(t *testing.T) {
	day := func(n int) Period { return Period{Days: n} }
	for _, tt := range []struct {
		b           Backup
		least, most Period
	}{
		{Backup{Keep: day(30)}, day(30), Period{}},
		{Backup{Retention: &Retention{Exact: day(30)}}, day(30), day(30)},
		{Backup{Keep: day(40), Retention: &Retention{Min: day(30), Max: day(90)}}, day(40), day(90)},
		{Backup{Retention: &Retention{Min: day(30)}}, day(30), Period{}},
	} {
		if least, most := tt.b.Kept(); least != tt.least || most != tt.most {
			t.Errorf("%+v: kept %s to %s", tt.b, least, most)
		}
	}
}

// What people write for a period elsewhere is understood well enough to say how it is written
// here; what cannot be told is not guessed.
func TestNearPeriods(t *testing.T) {
	for in, want := range map[string]string{
		"4 hours": "4h", "15min": "15m", "4H": "4h", "1.5h": "90m", "0.5 days": "12h", "1 hour 30 minutes": "1h30m", "2 weeks and 3 days": "2w3d",
		"PT15M": "15m", "P1D": "1d", "P1M": "1mo", "P1DT12H": "1d12h", "1.25s": "", "15": "", "1e9h": "", "P": "", "PT": "", "Prompt": "", "soon": "", "minutes": "",
		"99999999999999999999d": "", "30m 4h": "", "": "", "-4h": "",
	} {
		if got := nearPeriod(in); got != want {
			t.Errorf("nearPeriod(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzNearPeriod(f *testing.F) {
	for _, s := range []string{"4 hours", "PT15M", "1.5h", "2 weeks and 3 days", "9e99d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p := nearPeriod(s); p != "" {
			if _, err := calendar.ParsePeriod(p); err != nil {
				t.Errorf("%q is taken for %q, which is no period: %v", s, p, err)
			}
		}
	})
}
