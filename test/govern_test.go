package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/db"
)

// A duty is what "review list --json" prints.
type duty struct {
	ID, Name, Kind, Subject, What, Cause, Owner, State, Outcome, Proof string
	By, Items                                                          []string
	Due, Reminded, Noted                                               time.Time
	Signatures                                                         []struct{ By, Key string }
}

// on runs a command some days from now.
func (w workspace) on(t *testing.T, days int, args ...string) ending {
	t.Helper()
	if days != 0 {
		later(t, time.Duration(days)*24*time.Hour)
		defer clocks.Delete(t.Name())
	}
	return w.run(t, args...)
}

// owed is what people owe some days from now, by name.
func (w workspace) owed(t *testing.T, days int) map[string]duty {
	t.Helper()
	var ds []duty
	w.on(t, days, "review", "list", "--json").object(t, &ds)
	out := map[string]duty{}
	for _, d := range ds {
		out[d.Name] = d
	}
	return out
}

// does records a person's part of a duty, signed with their key.
func (w workspace) does(t *testing.T, days int, name, by, key string, status int) ending {
	t.Helper()
	file := filepath.Join(t.TempDir(), "review.txt")
	write(t, file, w.on(t, days, "review", "done", name, "--by", by, "--note", "looked at it", "--text").want(t, 0).out, 0o600)
	signed(t, key, file)
	return w.on(t, days, "review", "done", name, "--by", by, "--note", "looked at it", "--signature", file+".sig").want(t, status)
}

// signed signs a file as a person does, with nothing but ssh-keygen.
func signed(t *testing.T, key, file string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "holdfast-duty", "-f", key, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// excepts asks for an exception and has it approved.
func (w workspace) excepts(t *testing.T, keys map[string]string, rule, of string) {
	t.Helper()
	var e struct{ ID, State string }
	until := time.Now().AddDate(0, 6, 0).Format(time.DateOnly)
	w.run(t, "exception", "ask", "--rule", rule, "--of", of, "--why", "rebuilt from elsewhere", "--risk", "low", "--until", until, "--by", "founder-a", "--json").want(t, 0).object(t, &e)
	file := filepath.Join(t.TempDir(), "exception.txt")
	write(t, file, w.run(t, "exception", "approve", e.ID, "--text").want(t, 0).out, 0o600)
	signed(t, keys["founder-a"], file)
	if x := w.run(t, "exception", "approve", e.ID, "--by", "founder-a", "--signature", file+".sig").want(t, 4); !strings.Contains(x.errout, "somebody else must agree") {
		t.Fatalf("who asked approves: %v", x)
	}
	write(t, file+"2", w.run(t, "exception", "approve", e.ID, "--text").want(t, 0).out, 0o600)
	signed(t, keys["ana"], file+"2")
	w.run(t, "exception", "approve", e.ID, "--by", "ana", "--signature", file+"2.sig", "--json").want(t, 0).object(t, &e)
	if e.State != "approved" {
		t.Fatalf("%+v", e)
	}
}

func (d duty) caused(t *testing.T, state, words string) {
	t.Helper()
	if d.State != state || !strings.Contains(d.Cause, words) {
		t.Fatalf("want it %s because of %q: %+v", state, words, d)
	}
}

func TestDutyRows(t *testing.T) {
	t.Parallel()
	t.Run("INV-10 owners attest their items every year, or it shows", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		const name = "register.technical_lead"
		if d := w.owed(t, 0)[name]; d.State != "expected" || d.Owner != "founder-b" || !slices.Contains(d.Items, "stores.uploads: tier critical, class confidential") {
			t.Fatalf("%+v", d)
		}
		if d := w.owed(t, 340)[name]; d.State != "due" || d.Reminded.IsZero() {
			t.Fatalf("nobody was reminded: %+v", d)
		}
		if d := w.owed(t, 366)[name]; d.State != "overdue" || d.Noted.IsZero() {
			t.Fatalf("%+v", d)
		}
		w.on(t, 366, "review", "list").want(t, 3)
		if e := w.on(t, 366, "status"); e.status != 3 || !strings.Contains(e.out, "HF-G1") {
			t.Fatalf("status says nothing: %v", e)
		}
		// The word of somebody else does not count, the owner's does.
		w.does(t, 366, name, "ana", keys["ana"], 4)
		w.does(t, 366, name, "founder-b", keys["founder-b"], 0)
		if d := w.owed(t, 366)[name]; d.State != "expected" {
			t.Fatalf("%+v", d)
		}
	})
	t.Run("OBJ-05 objectives are reviewed every year", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		const name = "objectives.services.api"
		w.owed(t, 0)
		if d := w.owed(t, 364)[name]; d.State != "due" || d.Reminded.IsZero() || d.Owner != "founder-b" {
			t.Fatalf("the owner was not reminded: %+v", d)
		}
		w.owed(t, 367)[name].caused(t, "overdue", "every 1y")
		t.Run("OBJ-06 by two people, and not by one twice", func(t *testing.T) {
			w.does(t, 367, name, "founder-b", keys["founder-b"], 4)
			w.does(t, 367, name, "founder-b", keys["founder-b"], 4)
			w.does(t, 367, name, "ana", keys["founder-b"], 4) // in another's name
			if d := w.owed(t, 367)[name]; d.State != "overdue" || len(d.Signatures) != 1 {
				t.Fatalf("one person approved alone: %+v", d)
			}
			w.does(t, 367, name, "ana", keys["ana"], 0)
		})
		if d := w.owed(t, 367)[name]; d.State != "expected" || d.Due.Before(time.Now().AddDate(0, 0, 367+364)) {
			t.Fatalf("a recorded review resets it: %+v", d)
		}
		// Another value is another approval.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "rto: 4h", "rto: 3h", 1) + "\napprovals:\n  objectives: {roles: [technical_lead, incident_commander], people: 2}\n"
		})
		w.run(t, "backup", "uploads").want(t, 0) // takes the plan into force
		w.owed(t, 368)[name].caused(t, "expected", "changed from rto 4h")
		if e := w.on(t, 368, "status"); !strings.Contains(strings.Join(strings.Fields(e.out), " "), "declared, not approved: rto 3h") {
			t.Fatalf("status: %v", e)
		}
	})
	t.Run("BKP-14 coverage is reviewed by two roles at launch and every year", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		const name = "coverage.stores.uploads"
		if d := w.owed(t, 0)[name]; !strings.Contains(d.Cause, "new in the plan") || len(d.By) != 2 {
			t.Fatalf("%+v", d)
		}
		w.does(t, 0, name, "founder-b", keys["founder-b"], 4)
		if d := w.owed(t, 31)[name]; d.State != "overdue" {
			t.Fatalf("one of two signed: %+v", d)
		}
		w.does(t, 31, name, "ana", keys["ana"], 0)
		w.owed(t, 31+366)[name].caused(t, "overdue", "every 1y")
		w.does(t, 31+366, name, "founder-b", keys["founder-b"], 4)
		w.does(t, 31+366, name, "ana", keys["ana"], 0)
		t.Run("STO-17 and when retention is edited", func(t *testing.T) {
			edit(t, w.plan(), func(s string) string { return strings.ReplaceAll(s, "keep: 30d", "keep: 45d") })
			w.on(t, 400, "backup", "uploads").want(t, 0)
			d := w.owed(t, 400)[name]
			d.caused(t, "expected", "the retention of \"uploads\" changed from at least 30d")
			if until := time.Until(d.Due); until > (400+31)*24*time.Hour {
				t.Fatalf("due only in %s: %+v", until, d)
			}
		})
	})
	t.Run("INV-12 a jump in size makes a restore test and an approval due", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		write(t, filepath.Join(w.uploads, "base"), incompressible(t, 2<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		if _, there := w.owed(t, 0)["restore-test.stores.uploads"]; there {
			t.Fatal("a restore test is due without a change")
		}
		write(t, filepath.Join(w.uploads, "more"), incompressible(t, 5<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		all := w.owed(t, 0)
		for _, name := range []string{"restore-test.stores.uploads", "objectives.stores.uploads"} {
			all[name].caused(t, "expected", "the size of \"uploads\" went from 2.1 MB to 7.3 MB")
		}
		t.Run("BKP-25 and the schedule is confirmed", func(t *testing.T) {
			all["schedule.stores.uploads"].caused(t, "expected", "the size of")
		})
		t.Run("INT-03 the test is due on a day, shows overdue, and ends with a drill", func(t *testing.T) {
			d := w.owed(t, 31)["restore-test.stores.uploads"]
			d.caused(t, "overdue", "the size of")
			if e := w.on(t, 31, "review", "done", d.Name, "--by", "founder-b").want(t, 4); !strings.Contains(e.errout, "drill that passes") {
				t.Fatalf("closed by a word: %v", e)
			}
			w.run(t, "drill", "uploads").want(t, 0)
			if d, there := w.owed(t, 0)["restore-test.stores.uploads"]; there {
				t.Fatalf("a drill passed: %+v", d)
			}
		})
	})
	t.Run("INT-10 a failed drill asks for action and a look at the policy", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			return s + "\nrisks:\n  R-1: {event: \"the disk dies\", hazard: hardware, likelihood: 2, impact: 3, treat: mitigate, by: [uploads-drill], owner: technical_lead, review: 1y}\n" +
				"  R-2: {event: \"the controller dies\", hazard: hardware, likelihood: 1, impact: 4, treat: mitigate, by: [uploads-drill], owner: technical_lead, review: 1y}\n"
		})
		write(t, filepath.Join(w.uploads, "base"), incompressible(t, 1<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		w.owed(t, 0)
		flipLargest(t, filepath.Join(w.near, "packs"))
		flipLargest(t, filepath.Join(w.offsite, "packs"))
		w.run(t, "drill", "uploads-drill").want(t, 3)
		all := w.owed(t, 0)
		action := ""
		for name := range all {
			if strings.HasPrefix(name, "action.drill.") {
				action = name
			}
		}
		for _, name := range []string{action, "plan"} {
			all[name].caused(t, "expected", "did not pass")
		}
		t.Run("RSK-03 and the risk is assessed again", func(t *testing.T) {
			all["risks.R-1"].caused(t, "expected", "did not pass")
		})
		t.Run("RSK-02 each by itself", func(t *testing.T) {
			w.run(t, "risk", "assess", "R-1", "--by", "founder-b", "--likelihood", "4", "--impact", "5", "--treat", "transfer").want(t, 0)
			w.run(t, "risk", "assess", "R-1", "--by", "founder-b", "--likelihood", "9", "--impact", "5", "--treat", "transfer").want(t, 2)
			var rs []struct {
				ID, Treat, Owner, Review string
				Likelihood, Impact       int
			}
			w.run(t, "risk", "list", "--json").want(t, 0).object(t, &rs)
			got := ""
			for _, r := range rs {
				if strings.HasPrefix(r.ID, "R-") {
					got += fmt.Sprintf("%s %d %d %s %s %s; ", r.ID, r.Likelihood, r.Impact, r.Treat, r.Owner, r.Review)
				}
			}
			if got != "R-1 4 5 transfer technical_lead every 1y; R-2 1 4 mitigate technical_lead every 1y; " {
				t.Fatal(got)
			}
		})
	})
}

func TestRegisterRows(t *testing.T) {
	t.Parallel()
	t.Run("INV-11 nothing goes live that is not ready", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		full := "  cache:\n    kind: files\n    tier: critical\n    owner: technical_lead\n    class: confidential\n    files: {path: \"" + w.uploads + "\"}\n    protect: folder\n"
		store := func(without string) {
			edit(t, w.plan(), func(s string) string {
				s, _, _ = strings.Cut(s, "\n  cache:\n")
				head, tail, _ := strings.Cut(s, "\n# MORE\n")
				text := ""
				for _, l := range strings.SplitAfter(full, "\n") {
					if without == "" || !strings.HasPrefix(strings.TrimSpace(l), without+":") {
						text += l
					}
				}
				_ = tail
				return head + "\n# MORE " + without + time.Now().Format(time.RFC3339Nano) + "\n" + text
			})
		}
		// The stores come last, so that one can be added at the end.
		edit(t, w.plan(), func(s string) string {
			begin := strings.Index(s, "\nstores:\n")
			end := begin + strings.Index(s[begin:], "\nkeys:\n")
			return s[:begin] + s[end:] + "\n" + s[begin:end] + "\n"
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		for without, missing := range map[string]string{"owner": "no owner", "class": "no class", "tier": "no objective", "protect": "no schedule, no location", "": "no restore"} {
			store(without)
			e := w.run(t, "store", "golive", "cache", "--by", "ana")
			e.refuses(t, 4, "cannot go live: it has .*"+missing, ".")
			if without != "" && strings.Contains(e.errout, missing+":") {
				t.Errorf("without %s the restore is not missed: %v", without, e)
			}
		}
		t.Run("INV-04 an item without a class does not become active", func(t *testing.T) {
			store("class")
			w.run(t, "store", "golive", "cache", "--by", "ana").refuses(t, 4, "no class", "class")
		})
		store("")
		w.run(t, "backup", "cache").want(t, 0)
		w.run(t, "drill", "cache").want(t, 0)
		w.run(t, "store", "golive", "cache", "--by", "nobody").refuses(t, 4, "not a person", "people")
		if e := w.run(t, "store", "golive", "cache", "--by", "ana").want(t, 0); !strings.Contains(e.out, "live since") || strings.Contains(e.out, "excepted") {
			t.Fatalf("%v", e)
		}
		if d := w.owed(t, 0)["coverage.stores.cache"]; !strings.Contains(d.Cause, "went live") {
			t.Fatalf("%+v", d)
		}
		// An approved exception stands in, and shows.
		w.excepts(t, keys, "HF-G16", "stores.uploads")
		if e := w.run(t, "store", "golive", "uploads", "--by", "ana").want(t, 0); !strings.Contains(e.out, "by ana, excepted") || !strings.Contains(e.out, "restore: excepted: exception EX-0001") {
			t.Fatalf("%v", e)
		}
		if e := w.on(t, 200, "store", "list").want(t, 3); !strings.Contains(e.out, "restore: missing") {
			t.Fatalf("the exception ended, and nothing is missed: %v", e)
		}
	})
	t.Run("BKP-15 what nothing covers is a risk until there is proof", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "    protect: folder\n", "", 1) })
		const id = "coverage.stores.uploads"
		open := func() (state string) {
			var rs []struct {
				ID, Owner, Event string
				Closed           time.Time
			}
			w.run(t, "risk", "list", "--json").want(t, 0).object(t, &rs)
			for _, r := range rs {
				if r.ID == id {
					if r.Owner != "technical_lead" {
						t.Fatalf("%+v", r)
					}
					if r.Closed.IsZero() {
						return "open"
					}
					return "closed"
				}
			}
			return ""
		}
		if s := open(); s != "open" {
			t.Fatalf("the risk is %q", s)
		}
		w.run(t, "risk", "close", id, "--by", "ana", "--note", "fine").refuses(t, 4, "no restore of \"uploads\" has passed", "holdfast drill uploads")
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "    recover: {to: \"recovered/uploads\"}\n", "    recover: {to: \"recovered/uploads\"}\n    protect: folder\n", 1)
		})
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "risk", "close", id, "--by", "ana").refuses(t, 4, "no restore", "drill") // a backup is no restore
		w.run(t, "drill", "uploads").want(t, 0)
		if e := w.run(t, "risk", "close", id, "--by", "ana").want(t, 0); !strings.Contains(e.out, "ended by: drill ") {
			t.Fatalf("%v", e)
		}
		if s := open(); s != "closed" {
			t.Fatalf("the risk is %q", s)
		}
		t.Run("or an approved exception", func(t *testing.T) {
			w, keys := vaultWorkspace(t)
			edit(t, w.plan(), func(s string) string { return strings.Replace(s, "    protect: folder\n", "", 1) })
			w.run(t, "risk", "close", id, "--by", "ana").refuses(t, 4, "no restore", "exception ask")
			w.excepts(t, keys, "HF-L11", "stores.uploads")
			w.run(t, "risk", "close", id, "--by", "ana").want(t, 0)
		})
	})
	t.Run("RSK-04 a team of two gets its risk by itself", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(place(t), "ws")
		hf(t, "init", dir, "--from", abs(t, filepath.Join("..", "examples", "two-person-ai.yaml"))).want(t, 0)
		w := workspace{dir: dir}
		var rs []struct{ ID, Sort, Event string }
		w.run(t, "risk", "list", "--json").want(t, 0).object(t, &rs)
		sorts := map[string]int{}
		for _, r := range rs {
			sorts[r.Sort]++
		}
		for _, sort := range []string{"person", "supplier", "plan"} {
			if sorts[sort] == 0 {
				t.Errorf("no risk of sort %q: %v", sort, sorts)
			}
		}
	})
	t.Run("OBJ-04 an impact analysis is in the register and in the review", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		pack := func(status int) (p struct {
			Analyses []struct{ Service, Risk, Tolerable string }
			Tests    []struct {
				Tier          string
				Stores        int
				Percent       float64
				Untested      []string
				TestedOfStore int `json:"tested"`
			}
		}) {
			w.run(t, "review", "pack", "--json").want(t, status).object(t, &p)
			return p
		}
		if p := pack(3); len(p.Analyses) != 0 {
			t.Fatalf("%+v", p)
		}
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "  api:\n", "  api:\n    bia: {by: founder-b, on: \"2026-11-01\", impact: {1h: {level: 2}, 8h: {level: 4, text: \"orders are lost\"}}}\n", 1)
		})
		p := pack(3)
		if len(p.Analyses) != 1 || p.Analyses[0].Risk != "impact.services.api" || p.Analyses[0].Tolerable != "8h" {
			t.Fatalf("%+v", p)
		}
		if e := w.run(t, "risk", "show", "impact.services.api").want(t, 0); !strings.Contains(e.out, "orders are lost") || !strings.Contains(e.out, "from: services.api.bia") {
			t.Fatalf("%v", e)
		}
		t.Run("INT-19 the share of stores proved, and the others by name", func(t *testing.T) {
			second := filepath.Join(w.root, "second")
			write(t, filepath.Join(second, "x"), "x", 0o644)
			edit(t, w.plan(), func(s string) string {
				return strings.Replace(s, "stores:\n", "stores:\n  second: {kind: files, tier: critical, owner: technical_lead, class: confidential, files: {path: \""+second+"\"}, protect: folder}\n", 1)
			})
			w.run(t, "backup", "uploads").want(t, 0)
			w.run(t, "drill", "uploads").want(t, 0)
			p := pack(3)
			if len(p.Tests) != 1 || p.Tests[0].Percent != 50 || !slices.Equal(p.Tests[0].Untested, []string{"second"}) {
				t.Fatalf("%+v", p)
			}
			w.run(t, "backup", "second").want(t, 0)
			w.run(t, "drill", "second").want(t, 0)
			if p := pack(0); p.Tests[0].Percent != 100 || len(p.Tests[0].Untested) != 0 {
				t.Fatalf("%+v", p)
			}
			// Another quarter is another proof.
			if e := w.on(t, 100, "review", "pack"); !strings.Contains(e.out, "0 of 2 stores") {
				t.Fatalf("%v", e)
			}
		})
	})
	t.Run("BKP-18 nothing is written to a place that is not approved", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		other := filepath.Join(w.root, "other")
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "locations:\n", "locations:\n  other: {kind: dir, path: \""+other+"\", domain: other}\n", 1)
			return strings.ReplaceAll(s, "copies: [near, offsite]", "copies: [near, offsite, other]")
		})
		w.run(t, "location", "init", "other").want(t, 0)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "repository:\n", "repository:\n  approved: {locations: [near, offsite]}\n", 1)
		})
		w.run(t, "check").want(t, 3)
		before := treeOf(t, other)
		if e := w.run(t, "backup", "uploads", "--json").want(t, 3); !strings.Contains(e.out, "not approved") {
			t.Fatalf("%v", e)
		}
		before.unchanged(t, other)
		if n := len(listed(t, w.near)); n != 1 {
			t.Errorf("%d snapshots at the approved place", n)
		}
		pack := filepath.Join(w.root, "e.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		recorded := false
		for _, text := range unzip(t, pack) {
			recorded = recorded || strings.Contains(text, "nothing is written to a place that is not approved")
		}
		if !recorded {
			t.Error("the refusal is not recorded")
		}
	})
	t.Run("INV-07 what stands beside a store and the plan does not know is named", func(t *testing.T) {
		t.Parallel()
		c := shared.get(t)
		w := forCluster(t, c)
		name := fmt.Sprintf("crm_%d", time.Now().UnixNano())
		c.sql(t, "CREATE DATABASE "+name)
		t.Cleanup(func() {
			if _, err := c.query(context.Background(), "DROP DATABASE "+name); err != nil {
				t.Error(err)
			}
		})
		write(t, filepath.Join(w.root, "scans", "a.pdf"), "pdf", 0o644)
		w.run(t, "location", "init", "--all").want(t, 0)
		found := func() (subjects []string) {
			var v struct{ Findings []finding }
			w.run(t, "check", "--live", "--json").object(t, &v)
			for _, f := range v.Findings {
				if f.Code == "HF-L16" && (strings.Contains(f.Message, name) || strings.Contains(f.Message, "scans")) {
					subjects = append(subjects, f.Subject)
				}
			}
			return subjects
		}
		if got := found(); !slices.Equal(got, []string{"stores.db.databases." + name, "stores.uploads.beside.scans"}) {
			t.Fatalf("found %q", got)
		}
		// A server finds it at its first look, and it is in the register.
		s := serve(t, w.dir)
		until(t, "the status to name the database", func() bool { return strings.Contains(w.run(t, "status", "--json").out, "stores.db.databases."+name) })
		if e := w.run(t, "risk", "list").want(t, 0); !strings.Contains(e.out, "found.stores.db.databases."+name+" ") || !strings.Contains(e.out, "found.stores.uploads.beside.scans ") {
			t.Fatalf("%v", e)
		}
		if page := words(s.page(t, "/reviews")); !strings.Contains(page, "look together at what protects the store") || !strings.Contains(page, "coverage.stores.uploads") {
			t.Fatalf("the page does not say what is owed: %s", page)
		}
		s.stop(t)
		// Registered or excluded, it is found no more.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "    postgres:\n", "    postgres:\n      databases: ["+name+"]\n", 1) +
				"\nexclusions:\n  scans: {what: \"" + filepath.Join(w.root, "scans") + "\", why: \"scratch\", accepted_by: technical_lead}\n"
		})
		if got := found(); len(got) != 0 {
			t.Fatalf("found %q", got)
		}
	})
	t.Run("BKP-17 what runs is compared with the plan, and a deviation is flagged", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		w.run(t, "backup", "uploads").want(t, 0)
		serve(t, w.dir).stop(t) // writes the schedules
		deviations := func() (messages []string) {
			var v struct{ Findings []finding }
			w.run(t, "check", "--live", "--json").object(t, &v)
			for _, f := range v.Findings {
				if f.Code == "HF-L12" {
					messages = append(messages, f.Message)
				}
			}
			slices.Sort(messages)
			return messages
		}
		flagged := func(words string) {
			t.Helper()
			if got := deviations(); len(got) != 1 || !strings.Contains(got[0], words) {
				t.Fatalf("want %q alone: %q", words, got)
			}
		}
		if got := deviations(); len(got) != 0 {
			t.Fatalf("nothing was changed: %q", got)
		}
		// Access.
		key := filepath.Join(w.dir, "keys", "recovery.age")
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		flagged("recovery.age can be read by others")
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
		// The others are changed in the state.
		behind := func(query string) {
			t.Helper()
			d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(w.dir, "state", "holdfast.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.Tx(t.Context(), func(tx *db.Tx) error {
				n, err := tx.Exec(t.Context(), query)
				if err == nil && n == 0 {
					err = errors.New("nothing was changed")
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		// Interval.
		behind("UPDATE job_schedules SET every = 'every 1w' WHERE name LIKE '%uploads%' AND name NOT LIKE '%drill%'")
		flagged("runs every 1w, and the plan in force says every 1d")
		if e := w.run(t, "check", "--live"); e.status != 3 {
			t.Fatalf("%v", e)
		}
		behind("UPDATE job_schedules SET every = 'every 1d' WHERE name LIKE '%uploads%' AND name NOT LIKE '%drill%'")
		// Retention: seven days, behind its back.
		behind("UPDATE vault_plans SET source = replace(source, 'keep: 30d', 'keep: 7d')")
		flagged("not signed by the vault")
	})
	t.Run("INV-05 what protects is an item too, unprotected until something protects it", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		items := func(status int) map[string]string {
			var is []struct{ ID, Owner, Objective, State string }
			w.run(t, "store", "inventory", "--json").want(t, status).object(t, &is)
			out := map[string]string{}
			for _, i := range is {
				if i.Owner == "" || i.Objective == "" && !strings.HasPrefix(i.ID, "services.") {
					t.Errorf("without owner or objective: %+v", i)
				}
				out[i.ID] = i.State
			}
			return out
		}
		own := []string{"holdfast.state", "locations.near", "locations.offsite", "keys.key-a", "keys.key-b"}
		fresh := items(3)
		for _, id := range own {
			if fresh[id] != "uncovered" {
				t.Errorf("a fresh %s is %q", id, fresh[id])
			}
		}
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "stores:\n", "stores:\n  state: {kind: files, tier: critical, owner: technical_lead, class: confidential, files: {path: \""+filepath.Join(w.dir, "state")+"\", exclude: [\"/cache\", \"/spool\"]}, protect: folder}\n", 1)
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "backup", "state").want(t, 0)
		now := items(3) // nobody has shown that a key opens
		for _, id := range own[:3] {
			if now[id] != "covered" {
				t.Errorf("%s is %q", id, now[id])
			}
		}
	})
	t.Run("BKP-24 another frequency waits for the owner of the policy", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			return s + "\napprovals:\n  weaken-plan: {roles: [technical_lead]}\n"
		})
		s := serve(t, w.dir)
		every := func() string {
			d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(w.dir, "state", "holdfast.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			var every string
			if err := d.View(t.Context(), func(tx *db.Tx) error {
				return tx.QueryRow(t.Context(), "SELECT every FROM job_schedules WHERE name LIKE '%uploads%' AND name NOT LIKE '%drill%'").Scan(&every)
			}); err != nil {
				t.Fatal(err)
			}
			return every
		}
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 1d", "every: 3d", 1) })
		until(t, "the change to wait", func() bool { return strings.Contains(w.run(t, "status", "--json").out, "HF-V7") })
		id := w.waitingFor(t)
		w.sign(t, id, "ana", keys["ana"], "", 4) // not the owner of the policy
		if got := every(); got != "every 1d" {
			t.Fatalf("pending, and it runs %s", got)
		}
		w.sign(t, id, "founder-b", keys["founder-b"], "", 0)
		until(t, "the change to be in force", func() bool { return every() == "every 3d" })
		s.stop(t)
	})
}
