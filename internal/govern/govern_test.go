package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

const firm = `apiVersion: holdfast/v1
plan: {id: firm, version: "1", owner: lead, approvers: [ana, ben], review: {every: 1y, after: [change, incident]}}
org: {name: Firm}
people:
  ana: {ssh: {own: "ANA"}}
  ben: {ssh: {own: "BEN"}}
  cid: {}
roles:
  lead: {holder: ana, deputy: ben}
  compliance-officer: {holder: ben}
tiers: {critical: {rto: 4h, rpo: 1d}}
stores:
  db: {kind: files, tier: critical, owner: lead, class: confidential, contains: [personal], files: {path: /srv/db}, protect: daily}
keys: {a: {recipient: "age1x", holders: [ana]}}
repository: {id: firm-1, encrypt_to: [a], allow_one_recipient: true}
locations: {near: {kind: dir, path: /backups}}
backups: {daily: {every: 1d, copies: [near], keep: 30d}}
drills: {db-drill: {of: [db], every: 1mo}}
reviews:
  alerts: {of: alerts, every: 1w, by: [cid], grace: 1d}
risks:
  R-1: {event: "the disk dies", likelihood: 2, impact: 3, treat: mitigate, by: [db-drill], owner: cid, review: 1y}
`

// A rig is a module with its world: a plan, a clock and what is observed.
type rig struct {
	t      *testing.T
	m      *Module
	d      *db.DB
	log    *ledger.Log
	now    time.Time
	plan   *plan.Plan
	obs    Observed
	people map[string]seal.SigningKey
}

func newRig(t *testing.T, d *db.DB) *rig {
	t.Helper()
	r := &rig{t: t, d: d, now: noon, people: map[string]seal.SigningKey{}}
	for _, p := range []string{"ana", "ben", "eve"} {
		k, err := seal.GenerateSigningKey(p)
		if err != nil {
			t.Fatal(err)
		}
		r.people[p] = k
	}
	r.declare()
	signer, err := seal.NoteSigner(r.people["eve"])
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return r.now }
	if r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: clock}); err != nil {
		t.Fatal(err)
	}
	r.m = New(Config{DB: d, Ledger: r.log, Plan: func() *plan.Plan { return r.plan }, Observe: func(context.Context) (Observed, error) { return r.obs, nil }, Clock: clock})
	return r
}

// declare puts the plan in force, with pairs of edits.
func (r *rig) declare(edits ...string) {
	r.t.Helper()
	text := strings.NewReplacer("ANA", r.people["ana"].Public().AuthorizedKey(), "BEN", r.people["ben"].Public().AuthorizedKey()).Replace(firm)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			r.t.Fatalf("the plan has no %q", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	p, err := plan.Parse("plan.yaml", []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	r.plan = p
}

func (r *rig) list() map[string]Duty {
	r.t.Helper()
	ds, err := r.m.List(r.t.Context(), false)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]Duty{}
	for _, d := range ds {
		out[d.Name] = d
	}
	return out
}

func (r *rig) state(name, want string) Duty {
	r.t.Helper()
	d, ok := r.list()[name]
	if !ok || d.State != want {
		r.t.Fatalf("%s at %s is %q, want %q: %+v", name, r.now.Format(time.DateOnly), d.State, want, d)
	}
	return d
}

// word signs for a duty as a person does; "" for who has no key.
func (r *rig) word(name, by, key, note string) (Duty, error) {
	r.t.Helper()
	w := Word{By: by, Note: note}
	if key != "" {
		text, err := r.m.Text(r.t.Context(), name, w)
		if err != nil {
			r.t.Fatal(err)
		}
		if w.Signature, err = r.people[key].SSHSign(Namespace, []byte(text)); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.m.Done(r.t.Context(), name, w)
}

func (r *rig) refused(name, by, key, words string) {
	r.t.Helper()
	if _, err := r.word(name, by, key, ""); err == nil || !strings.Contains(err.Error(), words) {
		r.t.Fatalf("%s by %s: want a refusal with %q: %v", name, by, words, err)
	}
}

func (r *rig) facts(kind string) (out []ledger.Fact) {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

func each(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	dbtest.Each(t, []db.Module{ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) { f(t, newRig(t, d)) })
}

const day = 24 * time.Hour

func TestTimeAloneMakesOverdue(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.state("register.lead", Expected)
		r.now = noon.AddDate(1, 0, -29)
		r.state("register.lead", Due)
		if n := len(slices.DeleteFunc(r.facts(FactReminded), func(f ledger.Fact) bool { return f.Subject != "register.lead" })); n != 1 {
			t.Fatalf("reminded %d times", n)
		}
		r.now = noon.AddDate(1, 0, 0)
		d := r.state("register.lead", Overdue)
		if d.Owner != "ana" || !slices.Contains(d.Items, "stores.db: tier critical, class confidential, personal") {
			t.Fatalf("%+v", d)
		}
		// It does not turn green by getting old.
		r.now = noon.AddDate(3, 1, 0)
		if d := r.state("register.lead", Overdue); !d.Since.Equal(noon.AddDate(1, 0, 0)) {
			t.Fatalf("%+v", d)
		}
		missed := 0
		for _, f := range r.facts(FactMissed) {
			if f.Subject == "register.lead" {
				missed++
			}
		}
		if missed != 2 {
			t.Fatalf("%d years missed, want 2", missed)
		}
		if _, err := r.word("register.lead", "ana", "ana", "all there"); err != nil {
			t.Fatal(err)
		}
		if d := r.state("register.lead", Expected); !d.Due.Equal(r.now.AddDate(1, 0, 0)) {
			t.Fatalf("the next is due %s", d.Due)
		}
	})
}

func TestSettlingAgainWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, at := range []time.Time{noon, noon.AddDate(0, 0, 8), noon.AddDate(1, 1, 0)} {
			r.now = at
			r.list()
			before, err := r.log.Size(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.list()
			if after, err := r.log.Size(t.Context()); err != nil || after != before {
				t.Fatalf("at %s: %d facts, then %d: %v", at, before, after, err)
			}
		}
	})
}

func TestWeeklySlotsEachHaveAnOutcome(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.list()
		r.now = noon.Add(7*day + time.Hour)
		r.state("reviews.alerts", Due) // the grace of a day
		if _, err := r.word("reviews.alerts", "cid", "", "nothing new"); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(36 * day)
		r.state("reviews.alerts", Overdue)
		all, err := r.m.Open(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, d := range all {
			if d.Name == "reviews.alerts" {
				count[d.State]++
			}
		}
		if want := map[string]int{Done: 1, Missed: 4, Overdue: 1}; fmt.Sprint(count) != fmt.Sprint(want) {
			t.Fatalf("%v, want %v", count, want)
		}
	})
}

func TestTwoPeopleAreTwoPeople(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		const name = "objectives.stores.db"
		r.list()
		r.refused(name, "cid", "", "none of those who must")
		r.refused(name, "ana", "", "signs with it")
		r.refused(name, "ana", "eve", "by no key of")
		r.refused(name, "nobody", "", "none of those")
		d, err := r.word(name, "ana", "ana", "")
		if err != nil || d.Outcome != "" {
			t.Fatalf("one person approved alone: %v %+v", err, d)
		}
		r.refused(name, "ana", "ana", "has signed already")
		r.refused(name, "ben", "ana", "by no key of")
		if d, err = r.word(name, "ben", "ben", ""); err != nil || d.Outcome != Done || d.Proof != "signed by ana, ben" {
			t.Fatalf("%v %+v", err, d)
		}
		if n := len(r.facts(FactRefused)); n != 6 {
			t.Errorf("%d refusals are facts, want 6", n)
		}
	})
}

func TestChangesMakeDue(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.obs.Stores = map[string]Seen{"db": {Version: "15", Schema: "a", Bytes: 10 << 20}}
		r.list()
		r.now = r.now.Add(day)
		r.obs.Stores = map[string]Seen{"db": {Version: "15", Schema: "a", Bytes: 29 << 20}}
		if _, there := r.list()["restore-test.stores.db"]; there {
			t.Fatal("less than threefold is a jump")
		}
		// Slow growth is seen against where it began.
		r.obs.Stores = map[string]Seen{"db": {Version: "15", Schema: "a", Bytes: 31 << 20}}
		d := r.state("restore-test.stores.db", Expected)
		if !strings.Contains(d.Cause, "size") || !d.Due.Equal(r.now.Add(eventDue)) {
			t.Fatalf("%+v", d)
		}
		if d := r.state("objectives.stores.db", Expected); !strings.Contains(d.Cause, "size") || !d.Due.Equal(r.now.Add(eventDue)) {
			t.Fatalf("%+v", d)
		}
		r.refused("restore-test.stores.db", "ana", "ana", "a drill that passes")
		// A drill of before proves nothing, one of later does.
		r.obs.Drills = []Drilled{{ID: "old", Store: "db", At: r.now.Add(-time.Hour), Passed: true}}
		r.list()
		r.now = r.now.Add(31 * day)
		r.state("restore-test.stores.db", Overdue)
		r.obs.Drills = append(r.obs.Drills, Drilled{ID: "new", Store: "db", At: r.now, Passed: true})
		if _, there := r.list()["restore-test.stores.db"]; there {
			t.Fatal("a drill passed, and the test is still due")
		}
		r.obs.Stores = map[string]Seen{"db": {Version: "16", Schema: "a", Bytes: 31 << 20}}
		r.now = r.now.Add(day)
		if d := r.state("restore-test.stores.db", Expected); !strings.Contains(d.Cause, "version of \"db\" changed from 15 to 16") {
			t.Fatalf("%+v", d)
		}
		// What cannot be looked at changes nothing.
		r.obs.Stores = nil
		before := len(r.facts(FactEvent))
		r.list()
		if n := len(r.facts(FactEvent)); n != before {
			t.Fatalf("%d events after a look at nothing", n-before)
		}
	})
}

func TestRetentionChangeMakesACoverageReview(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.list()
		if _, err := r.word("coverage.stores.db", "ana", "ana", ""); err != nil {
			t.Fatal(err)
		}
		if d, err := r.word("coverage.stores.db", "ben", "ben", ""); err != nil || d.Outcome != Done {
			t.Fatalf("%v %+v", err, d)
		}
		r.now = r.now.Add(100 * day)
		r.declare("keep: 30d", "keep: 60d")
		d := r.state("coverage.stores.db", Expected)
		if !strings.Contains(d.Cause, "retention") || !d.Due.Equal(r.now.Add(eventDue)) || !slices.Equal(d.By, []string{"lead", "compliance-officer"}) {
			t.Fatalf("%+v", d)
		}
		r.now = r.now.Add(31 * day)
		r.state("coverage.stores.db", Overdue)
		if _, err := r.word("coverage.stores.db", "ben", "ben", ""); err != nil {
			t.Fatal(err)
		}
		r.state("coverage.stores.db", Overdue) // one of two
	})
}

func TestNewObjectivesAreNotApproved(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.list()
		if _, err := r.word("objectives.stores.db", "ana", "ana", ""); err != nil {
			t.Fatal(err)
		}
		r.declare("rto: 4h", "rto: 8h")
		d := r.list()["objectives.stores.db"]
		if len(d.Signatures) != 0 || !strings.Contains(d.Cause, "changed from rto 4h") || !slices.Contains(d.Items, "rto 8h (tiers.critical)") {
			t.Fatalf("the signature for another value counts: %+v", d)
		}
	})
}

func TestFailuresTeach(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.list()
		r.obs.Drills = []Drilled{{ID: "d1", Name: "db-drill", Store: "db", At: r.now, Why: "the engine did not start"}}
		all := r.list()
		for _, name := range []string{"action.drill.d1", "plan", "risks.R-1"} {
			if d := all[name]; !strings.Contains(d.Cause, "drill d1 of db did not pass") || !strings.Contains(d.Cause, "the engine did not start") || !d.Due.Equal(noon.Add(eventDue)) {
				t.Errorf("%s: %+v", name, d)
			}
		}
		if _, err := r.word("risks.R-1", "cid", "", "likelihood 3 now"); err != nil {
			t.Fatal(err)
		}
		r.obs.Incidents = []Incident{{Name: "INC-1", Kind: "availability", At: r.now, Stores: []string{"db"}, Activated: true}}
		if d := r.list()["risks.R-1"]; !strings.Contains(d.Cause, "INC-1 (availability) opened") || !strings.Contains(d.Cause, "activated") {
			t.Errorf("%+v", d)
		}
		// Each is answered once.
		if _, err := r.word("risks.R-1", "cid", "", "as before"); err != nil {
			t.Fatal(err)
		}
		if d := r.list()["risks.R-1"]; d.Event {
			t.Errorf("asked again for the same: %+v", d)
		}
	})
}

func TestWhatThePlanDropsIsWithdrawnAndRemembered(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.list()
		r.now = noon.Add(10 * day)
		r.state("reviews.alerts", Overdue)
		r.declare("  alerts: {of: alerts, every: 1w, by: [cid], grace: 1d}\n", "  other: {of: others, every: 1y, by: [cid]}\n")
		if _, there := r.list()["reviews.alerts"]; there {
			t.Fatal("it is still asked for")
		}
		if fs := r.facts(FactWithdrawn); len(fs) != 1 || fs[0].Subject != "reviews.alerts" {
			t.Fatalf("%+v", fs)
		}
		if fs := r.facts(FactOverdue); len(fs) == 0 {
			t.Fatal("that it was overdue is forgotten")
		}
	})
}

func TestDoneOnItsDayCountsThere(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.declare("every: 1w, by: [cid], grace: 1d", "every: 1y, by: [cid], last_done: \"2025-12-01\"")
		r.now = time.Date(2027, time.January, 8, 9, 0, 0, 0, time.UTC)
		r.state("reviews.alerts", Overdue)
		june := time.Date(2026, time.November, 30, 9, 0, 0, 0, time.UTC)
		d, err := r.m.Done(t.Context(), "reviews.alerts", Word{By: "cid", On: june, Note: "done then, recorded late"})
		if err != nil || !d.DoneOn.Equal(june) || !d.Closed.Equal(r.now) {
			t.Fatalf("%v %+v", err, d)
		}
		if d := r.state("reviews.alerts", Expected); !d.Due.Equal(june.AddDate(1, 0, 0)) {
			t.Fatalf("the next is due %s", d.Due)
		}
		for _, on := range []time.Time{r.now.Add(time.Hour), r.now.Add(-backdate - day)} {
			if _, err := r.m.Done(t.Context(), "reviews.alerts", Word{By: "cid", On: on}); err == nil {
				t.Errorf("done on %s was taken", on)
			}
		}
	})
}
