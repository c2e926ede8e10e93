package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A delegation is what "status --json" says of a store that a supplier protects.
type delegation struct {
	To, Grade, Why, Error string
	Probed                bool
	Seen, Until, Tested   time.Time
	Points                int
}

type delegatedStore struct {
	ID        string
	Posture   string
	RPO, RTO  struct{ Posture, Grade, Why string }
	Delegated *delegation
}

// orders is the store of these tests, as the status shows it.
func orders(t *testing.T, w workspace) delegatedStore {
	t.Helper()
	var o struct{ Stores []delegatedStore }
	w.run(t, "status", "--json").object(t, &o)
	for _, s := range o.Stores {
		if s.ID == "orders" {
			return s
		}
	}
	t.Fatal("the status does not know the store")
	return delegatedStore{}
}

// coveredAs is what "status --coverage" says of an item: its state and its grade.
func coveredAs(t *testing.T, w workspace, id string) string {
	t.Helper()
	var c struct {
		Items []struct{ ID, Kind, State, Grade string }
	}
	w.run(t, "status", "--coverage", "--json").object(t, &c)
	for _, x := range c.Items {
		if x.ID == id && x.Kind == "store" {
			return x.State + " " + x.Grade
		}
	}
	return ""
}

// A managed database is its provider's to protect. What the provider says is claimed, how
// fresh its copies are is asked, and that they come back is tried.
func TestDelegated(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	c.sql(t, "DROP TABLE IF EXISTS orders; CREATE TABLE orders (id int, at timestamptz DEFAULT clock_timestamp()); INSERT INTO orders SELECT generate_series(1, 42)")
	p := provide(t, c)
	w := filesOnly(t)
	program, token := p.adapter(t, w.root)
	declare := func(more string) {
		edit(t, w.plan(), func(s string) string {
			if i := strings.Index(s, "  orders:\n"); i >= 0 {
				s = s[:i] + s[strings.Index(s, "  uploads:\n    kind: files"):]
			} else {
				s = strings.Replace(s, "# What can go wrong", "suppliers:\n  cloud: {name: The Cloud Ltd, provides: databases, rto: 1h}\n\n# What can go wrong", 1)
				s = strings.Replace(s, "needs: {uploads: hard}", "needs: {uploads: hard, orders: hard}", 1)
			}
			return strings.Replace(s, "  uploads:\n    kind: files", fmt.Sprintf(`  orders:
    kind: postgres
    tier: critical
    owner: technical_lead
    class: confidential
    postgres: {dsn: %q}
    on: cloud
    invariants:
      all-there: {sql: "select count(*) from orders", expect: "value == 42"}
    delegated: {to: cloud, rpo: 10m, rto: 1h, says: recovery to any instant%s}
  uploads:
    kind: files`, c.dsn(), more), 1)
		})
	}
	declare("")

	t.Run("BKP-20 delegated is claimed until a restore of our own proves it", func(t *testing.T) {
		s := orders(t, w)
		if d := s.Delegated; d == nil || d.To != "cloud" || d.Grade != "claimed" || d.Probed || !d.Until.IsZero() || s.RPO.Posture != "claimed" {
			t.Fatalf("nobody asks the provider: %+v %+v", s, s.Delegated)
		}
		if got := coveredAs(t, w, "orders"); got != "delegated claimed" {
			t.Errorf("the coverage says %q", got)
		}
		if e := w.run(t, "status"); !contains(e.out, `orders +cloud \(claimed\) +unknown`) {
			t.Errorf("the status does not show who is responsible: %v", e)
		}
		w.run(t, "drill", "orders").refuses(t, 2, "names no adapter", "delegated.adapter")

		if e := hf(t, "adapter", "test", "--secret", "token="+token, "--restore", program, p.url, "db-1").want(t, 0); !strings.Contains(e.out, "keeps the contract") || strings.Contains(e.out, p.token) {
			t.Errorf("the adapter of the examples: %v", e)
		}

		declare(fmt.Sprintf(`, adapter: [%q, %q, db-1], secrets: {token: %q}, probe_every: 5m, test_every: 1q, newest: "select max(at) from orders"`, program, p.url, token))
		serve(t, w.dir)
		until(t, "the provider to be asked", func() bool { return orders(t, w).Delegated.Points == 1 })
		s = orders(t, w)
		if d := s.Delegated; !d.Probed || d.Grade != "claimed" || time.Since(d.Until) > time.Minute || d.Error != "" || s.RPO.Posture != "claimed" || !strings.Contains(d.Why, "as it says") {
			t.Errorf("after the provider was asked: %+v %+v", s, d)
		}
		if got := coveredAs(t, w, "orders"); got != "delegated claimed" {
			t.Errorf("freshness alone is no proof, and the coverage says %q", got)
		}

		var d struct {
			State, Location, Error string
			Checks                 []struct{ Name, Outcome, Detail string }
			Answers                map[string]any
			Report                 struct{ Reached string }
		}
		w.run(t, "drill", "orders", "--pick", "latest", "--json").want(t, 0).object(t, &d)
		seen := map[string]string{}
		for _, x := range d.Checks {
			seen[x.Name] = x.Outcome
		}
		for _, name := range []string{"the engine answers", "the instant was reached", "all-there", "nothing is left at the supplier"} {
			if seen[name] != "passed" {
				t.Errorf("%s: %q in %+v", name, seen[name], d)
			}
		}
		if d.State != "passed" || d.Location != "cloud" || fmt.Sprint(d.Answers["all-there"]) != "42" || strings.Contains(d.Report.Reached, fmt.Sprint("port ", c.port)) {
			t.Errorf("the restore by the provider: %+v", d)
		}
		s = orders(t, w)
		if s.Delegated.Grade != "proved" || s.Delegated.Tested.IsZero() || s.RPO.Posture != "proved" || s.RPO.Grade != "proved" {
			t.Errorf("after a restore of our own: %+v %+v", s, s.Delegated)
		}
		if got := coveredAs(t, w, "orders"); got != "delegated proved" {
			t.Errorf("after a restore of our own the coverage says %q", got)
		}
	})

	t.Run("MON-12 the freshness of a managed database is watched", func(t *testing.T) {
		var is []struct{ Title, Kind string }
		w.run(t, "incident", "list", "--json").want(t, 0).object(t, &is)
		if len(is) != 0 {
			t.Fatalf("an incident while all is well: %+v", is)
		}
		// The provider's copying stops; its API, and the database, go on answering.
		p.freeze(t)
		until(t, "the provider to say so", func() bool {
			a, b := newestPoint(t, program, p.url, token), newestPoint(t, program, p.url, token)
			return a == b
		})
		later(t, 20*time.Minute)
		serve(t, w.dir)
		until(t, "an incident", func() bool {
			w.run(t, "incident", "list", "--json").want(t, 0).object(t, &is)
			is = slices.DeleteFunc(is, func(x struct{ Title, Kind string }) bool { return !strings.Contains(x.Title, "orders") }) // the folder's backups were late, too
			return len(is) > 0
		})
		if len(is) != 1 || is[0].Kind != "backup-stale" || !strings.Contains(is[0].Title, "orders at cloud hold nothing new") {
			t.Errorf("incidents: %+v", is)
		}
		s := orders(t, w)
		if s.RPO.Posture != "failed" || !contains(s.RPO.Why, `newest copy is 2\dm.* old, and 15m is allowed`) || s.Delegated.Error == "" {
			t.Errorf("the provider's copies are old: %+v %+v", s, s.Delegated)
		}
		// Every look is a slot that was expected, and a fact.
		pack := filepath.Join(w.root, "pack.zip")
		w.run(t, "evidence", "export", "--period", time.Now().UTC().Format("2006"), "--out", pack)
		table, err := exec.Command("unzip", "-p", pack, "slots.csv").Output()
		if err != nil || !contains(string(table), `stores\.orders\.delegated\.probe_every,.*done`) {
			t.Errorf("the pack says of the looks: %v\n%.500s", err, table)
		}
	})
}

// newestPoint is what the provider says now.
func newestPoint(t *testing.T, program, url, token string) string {
	t.Helper()
	var e struct{ Points []struct{ Until string } }
	hf(t, "adapter", "test", "--json", "--secret", "token="+token, program, url, "db-1").want(t, 0).object(t, &e)
	if len(e.Points) != 1 {
		t.Fatalf("points: %+v", e)
	}
	return e.Points[0].Until
}
