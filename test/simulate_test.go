package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// simulated is what "simulate --json" says.
type simulated struct {
	Missed   bool
	Observed bool
	Services []fate
	Stores   []struct {
		fate
		Copies []struct{ Location string }
		Bare   string
	}
	Timeline []struct {
		ID, Kind string
		By       []string
	}
}

type fate struct {
	ID, State, Why string
	Outage         float64 `json:"outage_seconds"`
	InTime         string  `json:"rto_verdict"`
	Loss           struct {
		State, Verdict string
		Location       string    `json:"from_location"`
		Age            float64   `json:"loss_seconds"`
		Newest         time.Time `json:"newest_point"`
	}
	Stages []struct{ ID, Verdict string }
}

// measured is an objective as "status --json" shows it.
type measured struct {
	Values []struct {
		From, Source string
		N            int
		Latest       float64 `json:"latest_seconds"`
		Worst        float64 `json:"worst_seconds"`
		Age          float64 `json:"age_seconds"`
	}
	History []struct {
		Source, Verdict string
		Limit           float64 `json:"limit_seconds"`
		Digest          string  `json:"plan_digest"`
	}
}

func TestSimulationOfAPlan(t *testing.T) {
	t.Parallel()
	t.Run("OBJ-11 target and limit give three verdicts", func(t *testing.T) {
		path := filepath.Join(place(t), "plan.yaml")
		for hours, want := range map[int]string{20: "within", 30: "inside limit", 50: "over"} {
			write(t, path, fmt.Sprintf(`apiVersion: holdfast/v1
plan: {id: network}
activation: {automatic: [store-lost]}
tiers: {network: {rto: {target: 24h, max: 48h}}}
services: {network: {tier: network, needs: {config: hard}, runbook: rebuild}}
stores: {config: {kind: files, files: {path: /srv/config}, protect: copies}}
locations: {far: {kind: dir, path: /mnt/far, domain: far}}
backups: {copies: {every: 1h, copies: [far]}}
runbooks: {rebuild: {detect: 1m, steps: {restore: {restore: config, est: %dh}}}}
`, hours), 0o644)
			status := 0
			if want == "over" {
				status = 3
			}
			var s simulated
			hf(t, "simulate", path, "--lose", "store:config", "--json").want(t, status).object(t, &s)
			if len(s.Services) != 1 || s.Services[0].InTime != want || s.Services[0].Outage < float64(hours)*3600 {
				t.Errorf("%d hours: %+v", hours, s.Services)
			}
		}
	})
	// Every single loss and every pair of a plan with 200 services and 30 things.
	t.Run("all pairs of a large company", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("apiVersion: holdfast/v1\nplan: {id: large}\ntiers: {t: {rto: 4h, rpo: 1h}}\npeople:\n")
		for i := range 24 {
			fmt.Fprintf(&b, "  p%d: {name: P}\n", i)
		}
		b.WriteString("roles: {lead: {holder: p0, deputy: p1}, ops: {holder: p2, deputy: p3}}\nlocations:\n")
		for i := range 5 {
			fmt.Fprintf(&b, "  l%d: {kind: dir, path: /l%d, domain: d%d}\n", i, i, i)
		}
		b.WriteString("backups: {b: {every: 30m, copies: [l0, l1]}}\nservices:\n")
		for i := range 200 {
			fmt.Fprintf(&b, "  v%d: {tier: t, owner: lead, needs: {s%d: hard%s}, runbook: r%d}\n", i, i, map[bool]string{true: fmt.Sprintf(", v%d: hard", i/20)}[i > 0 && i != i/20], i)
		}
		b.WriteString("stores:\n")
		for i := range 200 {
			fmt.Fprintf(&b, "  s%d: {kind: files, tier: t, files: {path: /s%d}, protect: b}\n", i, i)
		}
		b.WriteString("runbooks:\n")
		for i := range 200 {
			fmt.Fprintf(&b, "  r%d: {detect: 1m, steps: {restore: {restore: s%d, est: 1m}, go: {human: lead, text: go, after: [restore], est: 1m}}}\n", i, i)
		}
		path := filepath.Join(place(t), "plan.yaml")
		write(t, path, b.String(), 0o644)
		var all struct {
			Things []string
			Pairs  int
			Cases  []struct {
				Lost, Never, Bare []string
				Stopped           int
			}
		}
		hf(t, "simulate", path, "--all", "--json").want(t, 3).object(t, &all)
		if n := len(all.Things); n < 30 || all.Pairs != n*(n-1)/2 || len(all.Cases) != n+all.Pairs {
			t.Errorf("%d things, %d pairs, %d cases", len(all.Things), all.Pairs, len(all.Cases))
		}
		// Both locations gone is worst: nothing stops, and nothing has a way back any more.
		if worst := all.Cases[0]; strings.Join(worst.Lost, " ") != "location:l0 location:l1" || len(worst.Bare) != 200 {
			t.Errorf("the worst case: %v, %d stores without a way back", worst.Lost, len(worst.Bare))
		}
	})
}

func TestObjectivesOverTime(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, `recover: {to: "recovered/uploads"}`, `recover: {to: "`+w.uploads+`"}`, 1)
		s = strings.Replace(s, "confirm_after: 30s", "confirm_after: 1s", 1)
		return strings.Replace(s, "\nstores:\n", `
suppliers: {forge: {provides: "our code"}}
stores:
  bare: {kind: files, tier: support, owner: technical_lead, class: internal, files: {path: "`+w.uploads+`/none"}}
  code: {kind: git, tier: support, owner: technical_lead, class: internal, git: {url: "https://git.example.com/a.git"}, delegated: {to: forge}}
  cache: {kind: files, tier: support, owner: technical_lead, class: internal, files: {path: "`+w.uploads+`/cache"}, not_protected: "rebuilt from the uploads"}
`, 1)
	})
	w.run(t, "location", "init", "--all").want(t, 0)
	server := serve(t, w.dir)
	w.run(t, "backup", "uploads").want(t, 0)

	t.Run("BKP-13 coverage of every item, and the counts add up", func(t *testing.T) {
		type item struct {
			ID, State, Why string
			LastGood       time.Time `json:"last_good"`
		}
		var c struct {
			Total  int
			Counts map[string]int
			Items  []item
		}
		w.run(t, "status", "--coverage", "--json").want(t, 3).object(t, &c)
		got := map[string]item{}
		sum := 0
		for _, n := range c.Counts {
			sum += n
		}
		for _, x := range c.Items {
			if x.Why == "" {
				t.Errorf("no reason: %+v", x)
			}
			got[x.ID] = x
		}
		want := map[string]string{"uploads": "covered", "api": "covered", "web": "covered", "bare": "uncovered", "code": "delegated", "cache": "excepted"}
		if c.Total != len(want) || sum != len(want) || len(got) != len(want) {
			t.Errorf("%d items, %d in the counts, %d listed, %d in the plan", c.Total, sum, len(got), len(want))
		}
		for id, state := range want {
			if got[id].State != state {
				t.Errorf("%s: %+v, want %s", id, got[id], state)
			}
		}
		if age := time.Since(got["uploads"].LastGood); age < 0 || age > 10*time.Minute {
			t.Errorf("the last good point of uploads is %s", got["uploads"].LastGood)
		}
		if err := os.Rename(w.offsite, w.offsite+".away"); err != nil {
			t.Fatal(err)
		}
		until(t, "the loss of offsite to be seen", func() bool {
			w.run(t, "status", "--coverage", "--json").want(t, 3).object(t, &c)
			return slices.ContainsFunc(c.Items, func(x item) bool { return x.ID == "uploads" && x.State == "part covered" })
		})
		if err := os.Rename(w.offsite+".away", w.offsite); err != nil {
			t.Fatal(err)
		}
		until(t, "offsite to be back", func() bool {
			w.run(t, "status", "--coverage", "--json").want(t, 3).object(t, &c)
			return slices.ContainsFunc(c.Items, func(x item) bool { return x.ID == "uploads" && x.State == "covered" })
		})
	})

	for range 3 {
		w.run(t, "drill", "uploads").want(t, 0)
	}
	// What is foreseen is what happens: the same store comes from the same place, in the same order,
	// done by the same people, and what was written after the last backup is gone.
	var foreseen simulated
	t.Run("the prediction of a loss equals what happens", func(t *testing.T) {
		write(t, filepath.Join(w.uploads, "late.txt"), "written after the backup\n", 0o644)
		w.run(t, "simulate", "--lose", "store:uploads", "--lose", "location:near", "--json").want(t, 0).object(t, &foreseen)
		if !foreseen.Observed || len(foreseen.Services) != 2 {
			t.Fatalf("%+v", foreseen)
		}
		var store fate
		for _, s := range foreseen.Stores {
			if s.ID == "uploads" {
				store = s.fate
			}
		}
		if store.State != "back" || store.Loss.Location != "offsite" || store.Loss.State != "bounded" {
			t.Fatalf("%+v", store)
		}
		for _, dir := range []string{w.near, w.uploads} {
			if err := os.Rename(dir, dir+".lost"); err != nil {
				t.Fatal(err)
			}
		}
		var runs []struct {
			ID    string
			Steps []struct {
				ID, Kind, State string
				By              []string
				Outcome         struct {
					Location  string
					DataUntil time.Time `json:"data_until"`
				}
			}
		}
		until(t, "the recovery to restore the folder", func() bool {
			w.run(t, "recover", "list", "--json").want(t, 0).object(t, &runs)
			return len(runs) > 0 && slices.ContainsFunc(runs[0].Steps, func(s struct {
				ID, Kind, State string
				By              []string
				Outcome         struct {
					Location  string
					DataUntil time.Time `json:"data_until"`
				}
			}) bool {
				return s.Kind == "restore" && s.State == "done"
			})
		})
		var happened, planned []string
		for _, s := range runs[0].Steps {
			if s.Kind != "protect" {
				happened = append(happened, s.ID+" by "+strings.Join(s.By, ","))
			}
			if s.Kind == "restore" && (s.Outcome.Location != store.Loss.Location || s.Outcome.DataUntil.Sub(store.Loss.Newest).Abs() > time.Second) {
				t.Errorf("it came from %s with data until %s; foreseen were %s and %s", s.Outcome.Location, s.Outcome.DataUntil, store.Loss.Location, store.Loss.Newest)
			}
		}
		for _, s := range foreseen.Timeline {
			if s.Kind != "detect" && s.Kind != "decide" {
				planned = append(planned, s.ID+" by "+strings.Join(s.By, ","))
			}
		}
		slices.Sort(happened)
		slices.Sort(planned)
		if !slices.Equal(happened, planned) {
			t.Errorf("foreseen: %v\nhappened: %v", planned, happened)
		}
		if b, err := os.ReadFile(filepath.Join(w.uploads, "a.txt")); err != nil || string(b) != "hello\n" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := os.Stat(filepath.Join(w.uploads, "late.txt")); err == nil {
			t.Error("what was written after the last backup is there")
		}
		if err := os.Rename(w.near+".lost", w.near); err != nil {
			t.Fatal(err)
		}
	})

	objective := func(t *testing.T) measured {
		t.Helper()
		var v struct {
			Stores []struct {
				ID  string
				RTO measured
			}
		}
		w.run(t, "status", "--json").want(t, 3).object(t, &v)
		for _, s := range v.Stores {
			if s.ID == "uploads" {
				return s.RTO
			}
		}
		t.Fatal("no store uploads")
		return measured{}
	}
	var before measured
	t.Run("OBJ-12 declared, drilled and seen stand beside each other", func(t *testing.T) {
		before = objective(t)
		var kinds []string
		for _, v := range before.Values {
			kinds = append(kinds, fmt.Sprintf("%s %d", v.From, v.N))
			switch v.From {
			case "drill", "incident":
				if v.Latest <= 0 || v.Worst < v.Latest || !strings.HasPrefix(v.Source, v.From+" ") {
					t.Errorf("%+v", v)
				}
			case "declared":
				if v.Latest != 4*3600 {
					t.Errorf("%+v", v)
				}
			}
		}
		if len(kinds) != 4 || kinds[0] != "declared 1" || !strings.HasPrefix(kinds[1], "composed ") || kinds[2] != "drill 3" || kinds[3] != "incident 1" {
			t.Errorf("%v", kinds)
		}
		out := w.run(t, "explain", "stores.uploads.rto").want(t, 0).out
		for _, want := range []string{`tiers.critical says 4h, and that counts`, "drill: 3 measured", "incident: 1 measured", "INC-1", "plan.yaml:"} {
			if !strings.Contains(out, want) {
				t.Errorf("explain does not say %q:\n%s", want, out)
			}
		}
	})
	t.Run("OBJ-16 the past is judged by the value that was in force", func(t *testing.T) {
		server.stop(t)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "critical: {rto: 4h,", "critical: {rto: 1s,", 1) })
		server = serve(t, w.dir)
		after := objective(t)
		if len(after.History) != len(before.History) || len(after.History) != 4 {
			t.Fatalf("%+v", after.History)
		}
		for i, x := range after.History {
			if x != before.History[i] || x.Limit != 4*3600 || x.Verdict != "within" {
				t.Errorf("%+v, before the change %+v", x, before.History[i])
			}
		}
		w.run(t, "drill", "uploads").want(t, 0)
		now := objective(t)
		if x := now.History[0]; x.Limit != 1 || x.Digest == before.History[0].Digest || now.History[1] != after.History[0] {
			t.Errorf("%+v", now.History)
		}
	})
}

// The loss of a store is computed at every moment, for each scenario, from what is left.
func TestExposureNow(t *testing.T) {
	t.Parallel()
	f := protect(t, func(s string) string {
		s = strings.Replace(s, "automatic: [store-lost]", "automatic: []", 1) // the database is not lost here
		return strings.Replace(s, "rpo: 15m", "rpo: 15s", 1)
	})
	type loss struct {
		Scenario, State, Verdict string
		Location                 string    `json:"from_location"`
		Age                      float64   `json:"loss_seconds"`
		Newest                   time.Time `json:"newest_point"`
	}
	look := func() map[string]loss {
		var v struct {
			Stores []struct {
				ID     string
				Losses []loss
			}
		}
		f.run(t, "status", "--json").object(t, &v)
		out := map[string]loss{}
		for _, s := range v.Stores {
			for _, l := range s.Losses {
				if s.ID == "db" {
					out[l.Scenario] = l
				}
			}
		}
		return out
	}
	t.Run("OBJ-09 what would be lost now, scenario by scenario", func(t *testing.T) {
		f.reaches(t, time.Now(), 2)
		until(t, "the loss to be inside the objective", func() bool { return look()["source"].Verdict == "within" })
		f.cluster.sql(t, "ALTER ROLE holdfast NOREPLICATION")
		t.Cleanup(func() {
			if _, err := f.cluster.query(context.Background(), "ALTER ROLE holdfast REPLICATION"); err != nil {
				t.Error(err)
			}
		})
		f.cluster.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE usename = 'holdfast'")
		// From here on nothing is shipped: the newest point stands still, the loss grows with every
		// second, and the verdict changes where the objective ends and nowhere else.
		var before loss
		until(t, "the objective to be breached", func() bool {
			now := look()["source"]
			if (now.Verdict == "over") != (now.Age > 15) || now.State != "bounded" {
				t.Fatalf("a loss of %gs of 15s is %s: %+v", now.Age, now.Verdict, now)
			}
			if now.Newest.Equal(before.Newest) && now.Age <= before.Age {
				t.Fatalf("the loss did not grow: %+v, then %+v", before, now)
			}
			before = now
			return now.Verdict == "over"
		})
		f.run(t, "status").want(t, 3)
		f.cluster.sql(t, "ALTER ROLE holdfast REPLICATION")
		until(t, "the log to be shipped again", func() bool { return look()["source"].Verdict == "within" })

		// Without offsite, the loss of this host costs everything that near holds beside it.
		if err := os.Rename(f.offsite, f.offsite+".away"); err != nil {
			t.Fatal(err)
		}
		var now map[string]loss
		until(t, "the loss of offsite to be seen", func() bool { now = look(); return now["host"].State != "bounded" })
		if now["source"].State != "bounded" || now["source"].Location != "near" || now["host"].Verdict == "within" {
			t.Errorf("the loss of the source: %+v, of the host: %+v", now["source"], now["host"])
		}
	})
}
