package objective

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/plan"
)

func ask(t interface {
	Helper()
	Fatalf(string, ...any)
}, p *plan.Plan, f Facts, observed bool, lose ...string) Simulation {
	t.Helper()
	q, err := QuestionOf(p, lose, "")
	if err != nil {
		t.Fatalf("%v", err)
	}
	q.Observed = observed
	s, err := Simulate(p, f, q)
	if err != nil {
		t.Fatalf("lose %v: %v", lose, err)
	}
	return s
}

func service(t *testing.T, s Simulation, id string) Fate {
	t.Helper()
	for _, v := range s.Services {
		if v.ID == id {
			return v
		}
	}
	t.Fatalf("no service %q", id)
	return Fate{}
}

func store(t *testing.T, s Simulation, id string) StoreFate {
	t.Helper()
	for _, v := range s.Stores {
		if v.ID == id {
			return v
		}
	}
	t.Fatalf("no store %q", id)
	return StoreFate{}
}

func TestSimulateTheHost(t *testing.T) {
	p := template(t)
	s := ask(t, p, healthy(), true, "host:this-host")
	if want := "If host:this-host were lost: 2 of 2 services would stop; the last that can come back would be back after about 5m 36s; 3m of data would be lost."; s.Sentence != want {
		t.Errorf("%s\nwant:\n%s", s.Sentence, want)
	}
	db := store(t, s, "db")
	if len(db.Copies) != 1 || db.Copies[0].Location != "offsite" || db.Loss.Age.Duration() != 2*time.Second || db.Loss.Verdict != Within || db.State != FateBack {
		t.Errorf("%+v", db)
	}
	if s.Missed || !slices.ContainsFunc(s.Assumptions, func(a string) bool { return strings.Contains(a, "Holdfast itself") }) {
		t.Errorf("%v %v", s.Missed, s.Assumptions)
	}
	// Both restores read from offsite for a minute each, and share it.
	bar := func(id string) Bar {
		return s.Timeline[slices.IndexFunc(s.Timeline, func(b Bar) bool { return b.ID == id })]
	}
	begin := bar("restore-db").Begin
	if d := (bar("restore-uploads").End - begin).Duration() - (2*time.Minute + 2*time.Second); d < 0 || d > time.Second {
		t.Errorf("uploads alone takes 1m 2s, with db beside it %s", bar("restore-uploads").End-begin)
	}
	b, err := json.Marshal(s)
	if err != nil || strings.Contains(string(b), ":null") {
		t.Errorf("%v: %s", err, b)
	}

	// Offsite is gone too: nothing comes back, and everything is missed.
	s = ask(t, p, healthy(), true, "host:this-host", "offsite")
	if v := service(t, s, "api"); v.State != FateNever || v.InTime != Over || v.Loss.Verdict != Over || !s.Missed {
		t.Errorf("%+v", v)
	}
	// Both keys: the copies are there, and nobody can read them.
	s = ask(t, p, healthy(), true, "key:key-a", "person:founder-b")
	if v := store(t, s, "db"); v.State != FateRuns || !strings.Contains(v.Bare, "key-b (nobody who holds it is left: founder-b)") || !s.Missed {
		t.Errorf("%+v", v)
	}
	if s := ask(t, p, healthy(), true, "location:near"); s.Missed || s.Total != 0 || len(store(t, s, "db").Copies) != 1 {
		t.Errorf("%s", s.Sentence)
	}
	// Nobody has looked at offsite: it does not count as there.
	f := healthy()
	f.Locations = f.Locations[:1]
	if s = ask(t, p, f, true, "host:this-host"); service(t, s, "api").State != FateNever {
		t.Errorf("%+v", service(t, s, "api"))
	}
	if before := healthy(); !reflect.DeepEqual(before, healthy()) {
		t.Error("the facts were changed")
	}
}

// An RTO of 24 to 48 hours: three recoveries, three verdicts.
func TestThreeVerdicts(t *testing.T) {
	for hours, want := range map[int]Verdict{20: Within, 30: InsideLimit, 50: Over} {
		p := parse(t, fmt.Sprintf(`apiVersion: holdfast/v1
plan: {id: x}
activation: {automatic: [store-lost]}
tiers: {net: {rto: {target: 24h, max: 48h}}}
services: {net: {tier: net, needs: {config: hard}, runbook: r}}
stores: {config: {kind: files, files: {path: /x}, protect: b}}
locations: {far: {kind: dir, path: /far, domain: far}}
backups: {b: {every: 1h, copies: [far]}}
runbooks: {r: {detect: 1m, steps: {restore: {restore: config, est: %dh}}}}
`, hours))
		s := ask(t, p, Facts{Now: noon}, false, "store:config")
		if v := service(t, s, "net"); v.InTime != want || s.Missed != (want == Over) {
			t.Errorf("%dh: %s: %+v", hours, v.InTime, v)
		}
	}
}

// With people enough and a location for each store, a simulation takes what the prediction of
// each service says: they are two ways to the same number.
func TestSimulationAgainstPrediction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		text := w.text.String()
		var proofs []Proof
		var lose []string
		locations, backups := "locations:\n", "backups:\n"
		for _, s := range w.stores {
			text = strings.Replace(text, "path: /x/"+s+"}}", "path: /x/"+s+"}, protect: b-"+s+"}", 1)
			locations += fmt.Sprintf("  l-%s: {kind: dir, path: /l/%s, domain: l-%s}\n", s, s, s)
			backups += fmt.Sprintf("  b-%s: {every: 1h, copies: [l-%s]}\n", s, s)
			proofs = append(proofs, restoreProof(s, rapid.IntRange(0, 60).Draw(t, "restore")))
			lose = append(lose, "store:"+s)
		}
		for _, id := range w.services {
			lose = append(lose, "service:"+id)
		}
		p := parse(t, text+locations+backups)
		s := ask(t, p, Facts{Now: noon, Proofs: proofs}, false, lose...)
		for _, v := range s.Services {
			want := PredictService(p, v.ID, proofs, noon)
			if v.State != FateBack || v.Outage != want.Total {
				t.Fatalf("%s: simulated %s after %s, predicted %s\n%s", v.ID, v.State, v.Outage, want.Total, text)
			}
			if (v.Known == TimeUnknown) != (want.State == TimeUnknown) {
				t.Fatalf("%s: simulated %s, predicted %s: %v, %v", v.ID, v.Known, want.State, v.Missing, want.Missing)
			}
		}
	})
}

// Losing more never brings anything back, never makes a copy newer, and never leaves more.
func TestLosingMoreIsNeverBetter(t *testing.T) {
	p := parse(t, company)
	var all []string
	for _, l := range p.Losable() {
		all = append(all, l.String())
	}
	for id := range p.Stores {
		all = append(all, "store:"+id)
	}
	slices.Sort(all)
	rank := map[FateState]int{FateRuns: 0, FateBack: 1, FateNever: 2}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "some")
		more := append(slices.Clone(some), rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "more")...)
		a, b := ask(t, p, Facts{Now: noon}, false, some...), ask(t, p, Facts{Now: noon}, false, more...)
		fates := map[string]Fate{}
		for _, v := range a.Services {
			fates[v.ID] = v
		}
		for _, v := range b.Services {
			if rank[v.State] < rank[fates[v.ID].State] {
				t.Fatalf("%v: %s %s; with %v it %s", some, v.ID, fates[v.ID].State, more, v.State)
			}
		}
		for i, v := range b.Stores {
			u := a.Stores[i]
			if rank[v.State] < rank[u.State] || len(v.Copies) > len(u.Copies) || u.State != FateRuns && worseLoss(u.Loss, v.Loss) {
				t.Fatalf("%v: %+v; with %v: %+v", some, u, more, v)
			}
		}
		if again := ask(t, p, Facts{Now: noon}, false, more...); !reflect.DeepEqual(again, b) {
			t.Fatal("another answer the second time")
		}
	})
}

// company is a plan with one of everything that can be lost.
const company = `apiVersion: holdfast/v1
plan: {id: x}
people: {anna: {}, ben: {}, cleo: {}}
roles: {lead: {holder: anna, deputy: ben}, ops: {holder: ben, deputy: cleo}}
activation: {automatic: [store-lost], confirm_after: 1m}
tiers:
  high: {rto: {target: 1h, max: 2h}, rpo: 15m}
  low: {rto: 1d, rpo: 1d}
suppliers:
  hosting: {regions: [eu-1], contingency: move}
  mail: {rto: 4h}
  sms: {}
facilities: {hall: {region: eu-1, supplier: hosting}}
services:
  web: {tier: high, owner: lead, needs: {api: hard, cdn: soft}}
  api: {tier: high, owner: lead, needs: {db: hard, files: hard}, any_of: {messages: {of: [mail, sms]}}, runbook: rebuild}
  wiki: {tier: low, owner: ops, needs: {pages: hard, login: hard}}
  login: {tier: low, owner: ops, needs: {wiki: hard}}
  cdn: {tier: low, owner: ops, needs: {hosting: hard}, redundancy: {how: two sites}}
stores:
  db: {kind: files, tier: high, files: {path: /db}, protect: often, on: hall}
  files: {kind: files, tier: high, files: {path: /files}, protect: often, region: eu-1}
  pages: {kind: files, tier: low, files: {path: /pages}, protect: daily}
keys:
  a: {recipient: "age1qqqq", holders: [anna]}
  b: {recipient: "age1rrrr", holders: [ben, cleo]}
repository: {encrypt_to: [a, b]}
credentials: {dns: {holders: [anna, ben]}}
locations:
  near: {kind: dir, path: /near, region: eu-1, supplier: hosting}
  far: {kind: dir, path: /far, domain: far, region: eu-2, provider: cloud, account: backup}
backups:
  often: {every: 5m, copies: [near, far]}
  daily: {every: 1d, copies: [near]}
runbooks:
  rebuild:
    detect: 5m
    steps:
      declare: {human: lead, est: 10m}
      dns: {human: lead, est: 5m, after: [declare], uses: [dns]}
      restore-db: {restore: db, est: 20m, after: [declare]}
      restore-files: {restore: files, est: 30m, after: [declare]}
      connect: {human: ops, est: 15m, after: [restore-db, restore-files, dns]}
      verify: {check: api, est: 5m, after: [connect]}
      go-live: {approve: [lead, ops], est: 10m, after: [verify]}
  move: {steps: {order: {human: ops, est: 2h}}}
`

func TestFates(t *testing.T) {
	p := parse(t, company)
	now := Facts{Now: noon}
	for _, tt := range []struct {
		lose  []string
		check func(s Simulation) string
	}{
		{[]string{"region:eu-1"}, func(s Simulation) string {
			api := service(t, s, "api")
			// The region takes the hosting supplier, the hall, db and files, near and this host with pages.
			// 5m to notice, 1m to decide, 10m declare, two restores from far that share, 15m, 5m, 10m.
			return all(api.State == FateBack, api.Outage.Duration() >= 96*time.Minute, service(t, s, "cdn").Outage.Duration() >= 2*time.Hour,
				store(t, s, "pages").State == FateNever, service(t, s, "wiki").State == FateNever, s.Missed)
		}},
		{[]string{"facility:hall"}, func(s Simulation) string {
			return all(store(t, s, "db").State == FateBack, store(t, s, "files").State == FateRuns, service(t, s, "web").Outage == service(t, s, "api").Outage)
		}},
		{[]string{"supplier:mail"}, func(s Simulation) string {
			return all(service(t, s, "api").State == FateRuns, s.Total == 0)
		}},
		{[]string{"supplier:mail", "supplier:sms"}, func(s Simulation) string {
			v := service(t, s, "api")
			return all(v.State == FateNever, strings.Contains(v.Why, `supplier "sms" is gone`), v.InTime == Over)
		}},
		{[]string{"store:db", "person:ben", "person:cleo"}, func(s Simulation) string {
			v := service(t, s, "api")
			return all(v.State == FateNever, strings.Contains(v.Why, `nobody is left for "ops": ben and cleo lost`), store(t, s, "db").State == FateBack)
		}},
		{[]string{"store:db", "credential:dns"}, func(s Simulation) string {
			return all(strings.Contains(service(t, s, "api").Why, `nobody has "dns"`))
		}},
		{[]string{"store:pages"}, func(s Simulation) string {
			v := service(t, s, "login")
			return all(v.State == FateNever, strings.Contains(v.Why, "login and wiki need each other"), service(t, s, "api").State == FateRuns)
		}},
		{[]string{"account:backup"}, func(s Simulation) string {
			return all(s.Total == 0, len(store(t, s, "db").Copies) == 1, !s.Missed)
		}},
		{[]string{"provider:cloud", "host:this-host"}, func(s Simulation) string {
			return all(store(t, s, "pages").State == FateNever, store(t, s, "db").Bare != "", s.Missed)
		}},
		{[]string{"service:api"}, func(s Simulation) string {
			return all(service(t, s, "api").Outage.Duration() == 51*time.Minute, service(t, s, "web").State == FateBack)
		}},
	} {
		s := ask(t, p, now, false, tt.lose...)
		if why := tt.check(s); why != "" {
			t.Errorf("lose %v: condition %s fails: %s\n%+v", tt.lose, why, s.Sentence, s.Services)
		}
	}
	for _, bad := range []string{"region:mars", "regoin:eu-1", "person:", "nowhere", ":"} {
		if _, err := QuestionOf(p, []string{bad}, ""); err == nil || holdfast.Hint(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := QuestionOf(p, nil, "flood"); err == nil {
		t.Error("an unknown scenario")
	}
}

func TestChance(t *testing.T) {
	p, f := template(t), healthy()
	run := func(f Facts, seed uint64) *Chance {
		q, err := QuestionOf(p, []string{"host:this-host"}, "")
		if err != nil {
			t.Fatal(err)
		}
		q.Observed, q.Runs, q.Seed = true, 500, seed
		s, err := Simulate(p, f, q)
		if err != nil {
			t.Fatal(err)
		}
		if c := s.Chance; c.Total.Longest > s.Total+Seconds(time.Hour) {
			t.Errorf("%+v", c)
		}
		return s.Chance
	}
	few := run(f, 1)
	if few.Samples != 1 || few.Total.P50 != nil || !strings.Contains(few.Why, "only 1 measurements") {
		t.Errorf("one drill gives no percentile: %+v", few)
	}
	for i := range 40 {
		x := f.Proofs[i%2]
		x.ID, x.Parts = fmt.Sprint(100+i), slices.Clone(x.Parts)
		x.Parts[1].Duration = time.Duration(1+i/2) * time.Minute
		f.Proofs = append(f.Proofs, x)
	}
	a, b, c := run(f, 1), run(f, 1), run(f, 2)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, c) {
		t.Error("a seed gives its own answer, and the same each time")
	}
	if a.Samples != 21 || *a.Total.P50 > *a.Total.P90 || *a.Total.P90 > *a.Total.P95 || *a.Total.P95 > a.Total.Longest || *a.Total.P50 == a.Total.Longest {
		t.Errorf("%+v", a)
	}
	// Nobody restores faster than the fastest or slower than the slowest pair of drills.
	s := ask(t, p, f, true, "host:this-host")
	if a.Total.Longest > s.Total {
		t.Errorf("the plan takes the worst measured times and needs %s; chance has %s", s.Total, a.Total.Longest)
	}
}

func TestEnumerate(t *testing.T) {
	p := parse(t, company)
	e, err := Enumerate(p, Facts{Now: noon}, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Things); e.Singles != n || e.Pairs != n*(n-1)/2 || len(e.Cases) != e.Singles+e.Pairs {
		t.Errorf("%d things, %d singles, %d pairs, %d cases", n, e.Singles, e.Pairs, len(e.Cases))
	}
	for i, c := range e.Cases {
		if i > 0 && worseCase(e.Cases[i-1], c) > 0 {
			t.Errorf("case %d is worse than the one before it: %+v", i, c)
		}
		s := ask(t, p, Facts{Now: noon}, false, c.Lost...)
		if s.Sentence != c.Sentence {
			t.Errorf("%s, asked alone: %s", c.Sentence, s.Sentence)
		}
	}
	if len(e.Circles) != 1 || strings.Join(e.Circles[0], " ") != "login wiki" {
		t.Errorf("circles %v", e.Circles)
	}
	points := map[string]Point{}
	for _, x := range e.Points {
		points[x.Lost] = x
	}
	if x := points["store:db"]; strings.Join(x.Stops, " ") != "api web" || x.Closed {
		t.Errorf("%+v", e.Points)
	}
	if _, ok := points["service:cdn"]; ok {
		t.Error("a service that is doubled is a single point of failure")
	}
	closed := parse(t, strings.Replace(company, "people: {anna", `exceptions:
  e1: {rule: HF-L54, of: stores.db, why: "two databases cost more than a day of outage", by: ben, approved_by: [anna], until: "2027-01-01"}
people: {anna`, 1))
	if e, err = Enumerate(closed, Facts{Now: noon}, false); err != nil {
		t.Fatal(err)
	}
	for _, x := range e.Points {
		if x.Lost == "store:db" && (!x.Closed || !strings.Contains(x.Rationale, "cost more")) {
			t.Errorf("%+v", x)
		}
	}
}

// 200 services and 30 losable things, all pairs.
func BenchmarkEnumerate200(b *testing.B) {
	p, f := large(b, 200)
	text := string(p.Source())
	text = strings.Replace(text, "\npeople:\n", "\npeople:\n"+repeat(24, func(i int) string { return fmt.Sprintf("  p%d: {name: P}\n", i) }), 1)
	p = parse(b, text)
	if n := len(p.Losable()); n < 30 {
		b.Fatalf("%d things", n)
	}
	for b.Loop() {
		if _, err := Enumerate(p, f, true); err != nil {
			b.Fatal(err)
		}
	}
}

// Facts of another instant: nothing that came later is known in the past, and in the future work
// goes on, while proofs age.
func TestFactsOfAnotherInstant(t *testing.T) {
	p, f := template(t), healthy()
	past := f.MovedTo(ago(2*24*time.Hour + time.Hour))
	if len(past.Proofs) != 1 || past.Proofs[0].ID != "1" {
		t.Errorf("%+v", past.Proofs)
	}
	s := ask(t, p, past, true, "host:this-host")
	db, uploads := store(t, s, "db"), store(t, s, "uploads")
	if db.Loss.Age.Duration() != 0 || db.State != FateBack || uploads.State != FateNever {
		t.Errorf("two days ago the log reached to the instant and no snapshot of uploads was there: %+v, %+v", db.Loss, uploads.Why)
	}
	if !s.At.Equal(past.Now) {
		t.Errorf("it is about %s", s.At)
	}
	future := f.MovedTo(noon.Add(365 * 24 * time.Hour))
	s = ask(t, p, future, true, "host:this-host")
	if db := store(t, s, "db"); db.Loss.Age.Duration() != 2*time.Second || db.Known != TimeEstimated {
		t.Errorf("in a year copies are as old as now, and the drill is too old to count: %+v", db.Fate)
	}
	if !reflect.DeepEqual(f, healthy()) {
		t.Error("the facts were changed")
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.IntRange(-10*24*60, 10*24*60).Draw(t, "minutes")) * time.Minute
		m := f.MovedTo(noon.Add(d))
		for _, c := range m.Copies {
			for _, w := range c.Windows {
				if w.To.After(m.Now) || w.From.After(w.To) {
					t.Fatalf("moved by %s: %+v", d, w)
				}
			}
			if c.Frontier != nil && c.Frontier.CaughtUp.After(m.Now) {
				t.Fatalf("moved by %s: %+v", d, c.Frontier)
			}
		}
	})
}
