package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Each test here proves rows of docs/requirements/catalogue.md by the acceptance
// that stands there, and is named by them.

// A finding is one of "check --json".
type finding struct {
	Code, Severity, Subject, Message, Hint string
	File                                   string
	Line, Column                           int
}

// findings checks a plan.
func (w workspace) findings(t *testing.T) (out []finding) {
	t.Helper()
	var v struct{ Findings []finding }
	w.run(t, "check", "--json").object(t, &v)
	return v.Findings
}

// one returns the finding with a code, or fails.
func one(t *testing.T, fs []finding, code string) finding {
	t.Helper()
	var got []finding
	for _, f := range fs {
		if f.Code == code {
			got = append(got, f)
		}
	}
	if len(got) != 1 {
		t.Fatalf("%d findings %s, want one: %+v", len(got), code, fs)
	}
	return got[0]
}

func TestPlanRows(t *testing.T) {
	t.Parallel()
	plain := func(t *testing.T) workspace {
		t.Helper()
		return initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app")
	}
	change := func(t *testing.T, w workspace, old, new string) {
		t.Helper()
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, old, new, 1) })
	}
	t.Run("OBJ-08 a schedule that cannot meet the RPO", func(t *testing.T) {
		w := plain(t)
		change(t, w, "    log: {max_lag: 1m}        # the transaction log in between, continuously\n", "")
		f := one(t, w.findings(t), "HF-L2")
		for _, want := range []string{"24h", "15m", "db"} {
			if f.Severity != "error" || !strings.Contains(f.Message+f.Subject, want) {
				t.Errorf("the arithmetic does not name %q: %+v", want, f)
			}
		}
		w.run(t, "check").want(t, 3)
		change(t, w, "    every: 1d at 04:30        # a base backup\n", "    every: 1d at 04:30\n    log: {max_lag: 1m}\n")
		if fs := w.findings(t); len(fs) != 0 {
			t.Errorf("with log archiving it can be met, and there are findings: %+v", fs)
		}
		w.run(t, "check").want(t, 0)
		// Each addend counts by itself, and is named: the interval, the backup's duration, the lag
		// of the log, and the upload to the location that is left.
		for _, tt := range []struct{ old, new, severity, sum string }{
			{"    log: {max_lag: 1m}\n", "    log: {max_lag: 16m}\n", "error", "16m log lag"},
			{"    every: 5m\n    copies: [near, offsite]", "    every: 5m\n    takes: 11m\n    copies: [near, offsite]", "error", "5m between snapshots + 11m for the snapshot = 16m"},
			{"    every: 5m\n    copies: [near, offsite]", "    every: 5m\n    copies: {near: {}, offsite: {every: 11m}}", "warning", "5m between snapshots + 11m between copies to offsite = 16m"},
			{"    every: 5m\n    copies: [near, offsite]", "    every: 5m\n    copies: {near: {every: 11m}, offsite: {every: 11m}}", "error", "= 16m"},
			{"    every: 5m\n    copies: [near, offsite]", "    every: 5m\n    takes: 4m\n    copies: {near: {every: 5m}, offsite: {every: 5m}}", "", ""},
		} {
			change(t, w, tt.old, tt.new)
			fs := w.findings(t)
			if tt.severity == "" {
				if got := about(fs, "HF-L2", ""); len(got) > 0 {
					t.Errorf("%s: 14m of 15m fit: %+v", tt.new, got)
				}
			} else if f := one(t, fs, "HF-L2"); f.Severity != tt.severity || !strings.Contains(f.Message, tt.sum) || !strings.Contains(f.Message, "RPO is 15m") {
				t.Errorf("%s: %s with %q is wanted: %+v", tt.new, tt.severity, tt.sum, f)
			}
			change(t, w, tt.new, tt.old)
		}
	})
	t.Run("OBJ-13 a service tighter than what it cannot run without", func(t *testing.T) {
		w := plain(t)
		change(t, w, "  support: {rto: 1d,", "  network: {rto: {target: 24h, max: 48h}, rpo: {none: \"no data\"}, mtd: 1w}\n  support: {rto: 1d,")
		change(t, w, "  critical: {rto: 4h,", "  critical: {rto: 2h,")
		change(t, w, "services:\n", "services:\n  uplink:\n    tier: network\n    owner: technical_lead\n    runbook: rebuild\n")
		change(t, w, "needs: {db: hard, uploads: hard}", "needs: {db: hard, uploads: hard, uplink: hard}")
		f := one(t, w.findings(t), "HF-L4")
		if !strings.Contains(f.Subject+f.Message, "api") || !strings.Contains(f.Message, "uplink") || !strings.Contains(f.Message, "2h") {
			t.Errorf("the finding does not name both with their numbers: %+v", f)
		}
		change(t, w, "uplink: hard}", "uplink: soft}")
		for _, f := range w.findings(t) {
			if f.Code == "HF-L4" {
				t.Errorf("a soft dependency does not: %+v", f)
			}
		}
	})
}

// A firm is a database and a folder under protection by a running server.
type firm struct {
	workspace
	cluster *cluster
	server  *serving
}

// protect makes a firm whose table "ledger" is empty, with the first plan as edits make it.
func protect(t *testing.T, edits ...func(string) string) firm {
	t.Helper()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	for _, change := range edits {
		edit(t, f.plan(), change)
	}
	c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP TABLE ledger"); err != nil {
			t.Error(err)
		}
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	f.run(t, "backup", "db").want(t, 0)
	f.run(t, "backup", "uploads").want(t, 0)
	return f
}

// back restores the database and returns the row numbers of its ledger.
func (f firm) back(t *testing.T, name string, args ...string) []int {
	t.Helper()
	to := filepath.Join(f.root, name)
	f.run(t, append([]string{"restore", "db", "--to", to}, args...)...).want(t, 0)
	out := rowsOf(t, f.cluster, to, "SELECT n FROM ledger ORDER BY n")
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	var ns []int
	for _, s := range strings.Fields(out) {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		ns = append(ns, n)
	}
	return ns
}

// An acknowledgement says that a row was committed before an instant, and that its
// commit was asked for after another.
type acknowledgement struct {
	n             int
	asked, before time.Time
}

// write commits numbered rows, one each few milliseconds, until stop is called.
func (f firm) write(t *testing.T) (stop func() []acknowledgement) {
	t.Helper()
	s, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=app password='%s' sslmode=disable", f.cluster.port, password))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var out []acknowledgement
	wg.Go(func() {
		defer s.Close(context.Background())
		for n := 1; ctx.Err() == nil; n++ {
			asked := time.Now()
			if _, err := s.Exec(context.Background(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, clock_timestamp())", n)).ReadAll(); err != nil {
				t.Error(err)
				return
			}
			out = append(out, acknowledgement{n, asked, time.Now()})
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() []acknowledgement {
		cancel()
		wg.Wait()
		return out
	}
}

// points asks what each location holds of the database.
func (f firm) points(t *testing.T) map[string][]window {
	t.Helper()
	var v struct{ Windows []window }
	f.run(t, "points", "db", "--json").object(t, &v)
	out := map[string][]window{}
	for _, w := range v.Windows {
		out[w.Location] = append(out[w.Location], w)
	}
	return out
}

type window struct {
	Location string
	From, To time.Time
	Hole     string
}

func at(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func TestPointInTimeRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	before := f.cluster.clock(t)
	f.cluster.commit(t, "ledger", 1_000_000)
	t.Run("PIT-01 one commit on an idle database", func(t *testing.T) {
		// Nothing else is committed, and no segment of the log is filled.
		began := time.Now()
		f.reaches(t, before, 2)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %s until the commit could be restored", took)
		}
		for _, l := range []string{"near", "offsite"} {
			if got := f.back(t, "idle-"+l, "--latest", "--location", l); len(got) != 1 || got[0] != 1_000_000 {
				t.Errorf("%s brings back %v", l, got)
			}
		}
	})
	f.cluster.sql(t, "DELETE FROM ledger")
	begin := time.Now()
	stop := f.write(t)
	until(t, "a thousand rows", func() bool { return f.cluster.sql(t, "SELECT count(*) >= 300 FROM ledger") == "t" })
	all := stop()
	end := time.Now()
	f.cluster.sql(t, "CREATE TABLE later ()") // the log goes on after the last instant
	t.Cleanup(func() {
		if _, err := f.cluster.query(context.Background(), "DROP TABLE later"); err != nil {
			t.Error(err)
		}
	})
	f.reaches(t, end, 2)

	t.Run("PIT-02 random instants", func(t *testing.T) {
		const instants = 20
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		for i := range instants {
			instant := begin.Add(time.Duration(r.Int64N(int64(end.Sub(begin)))))
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				got := map[int]bool{}
				for _, n := range f.back(t, fmt.Sprintf("at-%d", i), "--at", at(instant)) {
					got[n] = true
				}
				for _, a := range all {
					switch {
					case a.before.Before(instant) && !got[a.n]:
						t.Errorf("%s: row %d was committed by then, %s before, and is not there", at(instant), a.n, instant.Sub(a.before))
					case a.asked.After(instant) && got[a.n]:
						t.Errorf("%s: row %d was committed later, by %s, and is there", at(instant), a.n, a.asked.Sub(instant))
					}
				}
			})
		}
	})
	t.Run("PIT-03 the ends of the windows, and a hole", func(t *testing.T) {
		for l, ws := range f.points(t) {
			if len(ws) != 1 || ws[0].Hole != "" {
				t.Fatalf("%s has windows %+v, want one without a hole", l, ws)
			}
			f.back(t, "from-"+l, "--at", at(ws[0].From), "--location", l)
			f.back(t, "to-"+l, "--at", at(ws[0].To), "--location", l)
			f.run(t, "restore", "db", "--to", filepath.Join(f.root, "early"), "--location", l, "--at", at(ws[0].From.Add(-time.Second))).refuses(t, 1, `cannot be brought back`, `nearest window`)
			f.run(t, "restore", "db", "--to", filepath.Join(f.root, "late"), "--location", l, "--at", at(ws[0].To.Add(time.Hour))).refuses(t, 1, `cannot be brought back`, `nearest window`)
		}
		f.server.stop(t)
		old := f.points(t)
		pieces := logPieces(t, f.near)
		if len(pieces) < 3 {
			t.Fatalf("%d pieces of log are too few", len(pieces))
		}
		if err := os.Remove(pieces[len(pieces)/2]); err != nil {
			t.Fatal(err)
		}
		now := f.points(t)
		if len(now["near"]) == 0 || !now["near"][0].To.Before(old["near"][0].To) || now["near"][0].Hole == "" {
			t.Errorf("a piece of log is gone at near, and its windows are %+v, before %+v", now["near"], old["near"])
		}
		if fmt.Sprint(now["offsite"]) != fmt.Sprint(old["offsite"]) {
			t.Errorf("offsite has all, and its windows are %+v, before %+v", now["offsite"], old["offsite"])
		}
		f.back(t, "hole-end", "--at", at(now["near"][0].To), "--location", "near")
		f.run(t, "restore", "db", "--to", filepath.Join(f.root, "in-hole"), "--location", "near", "--at", at(old["near"][0].To)).refuses(t, 1, `cannot be brought back`, `nearest window`)
		if e := f.run(t, "points", "db"); !strings.Contains(e.out, now["near"][0].Hole) {
			t.Errorf("the hole is not shown: %v", e)
		}
	})
}

// logPieces lists the pieces of log at a location, in order.
func logPieces(t *testing.T, location string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(location, "logs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && contains(d.Name(), `^[0-9a-fA-F]{16}-[0-9a-fA-F]{16}$`) {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSecondLocationRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	t.Run("STO-13 each location in turn, the other one cut off", func(t *testing.T) {
		f.server.stop(t)
		for gone, left := range map[string]string{f.near: "offsite", f.offsite: "near"} {
			if err := os.Rename(gone, gone+".away"); err != nil {
				t.Fatal(err)
			}
			var d drilled
			f.run(t, "drill", "db", "--location", left, "--json").want(t, 4).object(t, &d)
			if d.Location != left || d.Rung != 5 || d.State != "passed" {
				t.Errorf("with only %s within reach the drill of db ended %s at L%d, from %q", left, d.State, d.Rung, d.Location)
			}
			f.run(t, "drill", "uploads-drill").want(t, 0)
			if err := os.Rename(gone+".away", gone); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("PIT-07 the lag of the second location, and what its recovery loses", func(t *testing.T) {
		server := serve(t, f.dir)
		f.cluster.sql(t, "TRUNCATE ledger")
		stop := f.write(t)
		until(t, "some rows", func() bool { return f.cluster.sql(t, "SELECT count(*) >= 100 FROM ledger") == "t" })
		some := time.Now() // what is reported must reach further than this, so that there are rows to lose
		type exposure struct {
			Location string
			Loss     float64 `json:"loss_seconds"`
			State    string
		}
		var seen struct {
			At     time.Time
			Stores []struct {
				ID        string
				Exposures []exposure
			}
		}
		lag := func() (time.Duration, bool) {
			f.run(t, "status", "--json").object(t, &seen)
			for _, s := range seen.Stores {
				for _, x := range s.Exposures {
					if s.ID == "db" && x.Location == "offsite" && x.State == "bounded" {
						loss := time.Duration(x.Loss * float64(time.Second))
						return loss, seen.At.Add(-loss).After(some)
					}
				}
			}
			return 0, false
		}
		var reported time.Duration
		until(t, "the lag of offsite", func() (ok bool) { reported, ok = lag(); return ok })
		if err := server.cmd.Process.Kill(); err != nil { // nothing is shipped after the report
			t.Fatal(err)
		}
		<-server.gone
		server.once.Do(func() {})
		all := stop()
		if err := os.RemoveAll(f.near); err != nil {
			t.Fatal(err)
		}
		got := map[int]bool{}
		for _, n := range f.back(t, "second", "--latest") {
			got[n] = true
		}
		for _, a := range all {
			if a.before.Before(seen.At.Add(-reported)) && !got[a.n] {
				t.Errorf("row %d was acknowledged %s before the report of a lag of %s, and is lost", a.n, seen.At.Sub(a.before), reported)
			}
		}
		if len(got) == 0 {
			t.Error("nothing came back")
		}
	})
}

func TestIntegrityRows(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	for _, q := range []string{"CREATE TABLE entries (n int PRIMARY KEY, amount int NOT NULL)", "CREATE TABLE customers (n int)", "INSERT INTO customers VALUES (1)", "INSERT INTO entries VALUES (1, 5), (2, -5)"} {
		c.sql(t, q)
	}
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP TABLE entries, customers"); err != nil {
			t.Error(err)
		}
	})
	edit(t, f.plan(), func(s string) string {
		return strings.Replace(s, "      data-is-there:\n", "      balanced:\n        sql: \"select coalesce(sum(amount), 1) from entries\"\n        expect: \"value == 0\"\n        confirmed_by: technical_lead\n"+
			"      customers:\n        sql: \"select count(*) from customers\"\n        expect: \"value > 0\"\n        confirmed_by: technical_lead\n      data-is-there:\n", 1)
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	f.run(t, "backup", "db").want(t, 0)
	f.run(t, "backup", "uploads").want(t, 0)
	var whole struct {
		Posture  string
		Services []struct{ ID, Posture string }
		Stores   []struct{ ID, Posture string }
	}
	t.Run("INT-20 an objective without a drill is not proved", func(t *testing.T) {
		f.run(t, "status", "--json").want(t, 3).object(t, &whole)
		if len(whole.Services) != 2 || len(whole.Stores) != 2 || whole.Posture == "proved" {
			t.Errorf("%+v", whole)
		}
		for _, s := range append(whole.Services, whole.Stores...) {
			if s.Posture == "proved" {
				t.Errorf("%s is proved, and nothing was drilled", s.ID)
			}
		}
	})
	drill := func(t *testing.T, status int) (d drilled) {
		t.Helper()
		f.reaches(t, time.Now(), 2)
		f.run(t, "drill", "db", "--pick", "latest", "--json").want(t, status).object(t, &d)
		return d
	}
	fails := func(t *testing.T, check string) drilled {
		t.Helper()
		d := drill(t, 3)
		if d.State == "passed" || d.Rung > 5 {
			t.Errorf("the drill ended %s at L%d", d.State, d.Rung)
		}
		named := false
		for _, ch := range d.Checks {
			named = named || ch.Outcome == "failed" && ch.Name == check
		}
		if !named {
			t.Errorf("it is not %q that failed: %+v", check, d.Checks[max(0, len(d.Checks)-4):])
		}
		return d
	}
	var bad drilled
	t.Run("INT-06 content, not just completion", func(t *testing.T) {
		if d := drill(t, 4); d.State != "passed" || d.Rung != 5 {
			t.Fatalf("the sound database: %+v", d)
		}
		c.sql(t, "DELETE FROM entries WHERE n = 2")
		bad = fails(t, "balanced")
		c.sql(t, "INSERT INTO entries VALUES (2, -5)")
		c.sql(t, "DROP TABLE customers")
		fails(t, "customers") // it starts, and lacks a table
		c.sql(t, "CREATE TABLE customers (n int)")
		c.sql(t, "INSERT INTO customers VALUES (1)")
	})
	t.Run("INT-17 a failed drill is an incident", func(t *testing.T) {
		var is []struct {
			ID              int64
			Title, Severity string
			Stores          []string
		}
		f.run(t, "incident", "list", "--json").want(t, 0).object(t, &is)
		if len(is) == 0 || !strings.Contains(is[len(is)-1].Title, "Drill of db failed") || is[len(is)-1].Severity != "SEV1" {
			t.Fatalf("no incident of the tier's severity: %+v", is)
		}
		if e := f.run(t, "incident", "show", fmt.Sprint(is[len(is)-1].ID), "--json").want(t, 0); !strings.Contains(e.out, bad.ID) {
			t.Errorf("the incident does not name the drill %s: %s", bad.ID, e.out)
		}
	})
	t.Run("INT-09 a failed test stays visible", func(t *testing.T) {
		good := drill(t, 4)
		for _, method := range []string{http.MethodDelete, http.MethodPut, http.MethodPatch} {
			req, err := http.NewRequestWithContext(t.Context(), method, f.server.url+"/api/v1/drills/"+bad.ID, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode < 400 {
				t.Errorf("%s of a drill is answered with %s", method, res.Status)
			}
		}
		var ds []drilled
		f.run(t, "drill", "list", "db", "--json").want(t, 0).object(t, &ds)
		states := map[string]string{}
		for _, d := range ds {
			states[d.ID] = d.State
		}
		if states[bad.ID] != bad.State || states[good.ID] != "passed" {
			t.Errorf("after a later success the list says %v", states)
		}
		pack := filepath.Join(f.root, "pack.zip")
		f.run(t, "evidence", "export", "--out", pack).want(t, 0)
		drills := unzip(t, pack)["populations/drills.csv"]
		if !strings.Contains(drills, bad.ID) || !strings.Contains(drills, good.ID) {
			t.Errorf("the pack does not have both: %s", drills)
		}
	})
}

func unzip(t *testing.T, pack string) tree {
	t.Helper()
	dir := t.TempDir()
	unzipTo(t, pack, dir)
	return treeOf(t, dir)
}

func unzipTo(t *testing.T, pack, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-m", "zipfile", "-e", pack, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v: %s", err, out)
	}
}

func TestSealedRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	const plaintext = "the quick brown invoice 4711 of a customer"
	f.cluster.sql(t, "CREATE TABLE secrets (what text)")
	t.Cleanup(func() {
		if _, err := f.cluster.query(context.Background(), "DROP TABLE secrets"); err != nil {
			t.Error(err)
		}
	})
	f.cluster.sql(t, "INSERT INTO secrets VALUES ('"+plaintext+"')")
	write(t, filepath.Join(f.uploads, "data.bin"), incompressible(t, 300<<10), 0o644)
	f.run(t, "backup", "db").want(t, 0)
	f.run(t, "backup", "uploads").want(t, 0)
	var outputs bytes.Buffer
	keep := func(e ending) ending {
		outputs.WriteString(e.out + e.errout)
		return e
	}
	canaries := map[string]string{"the database's password": password, "the same in a URL": strings.ReplaceAll(password, " ", "%20")}
	for _, role := range []string{"source.key", "dedup.key", "vault.key", "log.key", "evidence.key", "runner.age", "recovery.age"} {
		b, err := os.ReadFile(filepath.Join(f.dir, "keys", role))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if !strings.HasPrefix(line, "#") {
				parts := strings.Split(line, ":")
				canaries[role] = parts[len(parts)-1]
			}
		}
	}
	t.Run("ENC-11 secrets in no output", func(t *testing.T) {
		keep(f.run(t, "status"))
		keep(f.run(t, "status", "--json"))
		keep(f.run(t, "points", "db", "--json"))
		keep(f.run(t, "check", "--live", "--json"))
		keep(f.run(t, "drill", "db", "--json"))
		keep(f.run(t, "drill", "list", "--json"))
		keep(f.run(t, "incident", "list", "--json"))
		keep(f.run(t, "restore", "db", "--to", filepath.Join(f.root, "x"), "--json"))
		keep(f.run(t, "backup", "db", "--json"))
		for _, page := range []string{"/", "/api/v1/overview", "/api/v1/drills", "/openapi.json", "/nowhere"} {
			res, err := http.Get(f.server.url + page)
			if err != nil {
				t.Fatal(err)
			}
			_, err = outputs.ReadFrom(res.Body)
			if err := errors.Join(err, res.Body.Close()); err != nil {
				t.Fatal(err)
			}
		}
		pack := filepath.Join(f.root, "pack.zip")
		keep(f.run(t, "evidence", "export", "--out", pack).want(t, 0))
		for name, b := range unzip(t, pack) {
			outputs.WriteString(name + "\n" + b)
		}
		f.server.stop(t)
		// Errors too: a server that is not there, a password that is refused, keys that
		// are none.
		stranger := forCluster(t, f.cluster)
		edit(t, stranger.plan(), func(s string) string { return strings.Replace(s, "user=holdfast", "user=nobody", 1) })
		stranger.run(t, "location", "init", "--all").want(t, 0)
		keep(stranger.run(t, "backup", "db").want(t, 1))
		keep(stranger.run(t, "check", "--live").want(t, 3))
		edit(t, stranger.plan(), func(s string) string {
			return strings.Replace(s, "user=nobody", "user=holdfast sslmode=verify-full", 1)
		})
		keep(stranger.run(t, "backup", "db").want(t, 1))
		broken := filepath.Join(f.root, "broken.age")
		write(t, broken, canaries["runner.age"]+"X\n", 0o600)
		keep(f.run(t, "restore", "uploads", "--to", filepath.Join(f.root, "y"), "--key", broken).want(t, 1))
		outputs.WriteString(f.server.out.String() + f.server.err.String())
		for what, secret := range canaries {
			if len(secret) < 16 {
				t.Fatalf("%s is too short to be found: %q", what, secret)
			}
			if strings.Contains(outputs.String(), secret) {
				t.Errorf("%s is in the output", what)
			}
		}
	})
	t.Run("ENC-08 no key lies with the data", func(t *testing.T) {
		for _, location := range []string{f.near, f.offsite} {
			for name, b := range treeOf(t, location) {
				for what, secret := range canaries {
					if strings.Contains(b, secret) {
						t.Errorf("%s is in %s", what, name)
					}
				}
				// What is sealed must not be readable either.
				if strings.Contains(b, plaintext) {
					t.Errorf("%s holds the plain text of the database", name)
				}
			}
		}
		// The repository, the plan and the program alone give nothing back.
		keys := filepath.Join(f.dir, "keys")
		if err := os.Rename(keys, keys+".away"); err != nil {
			t.Fatal(err)
		}
		for _, store := range []string{"db", "uploads"} {
			to := filepath.Join(f.root, "keyless-"+store)
			f.run(t, "restore", store, "--to", to).refuses(t, 1, `runner\.age is missing`, `bring it back`)
			if left := treeOf(t, to); len(left) > 0 {
				t.Errorf("without a key %d files came back", len(left))
			}
		}
		if err := os.Rename(keys+".away", keys); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("ENC-07 an altered byte", func(t *testing.T) {
		stopped := 0
		err := filepath.WalkDir(filepath.Join(f.near, "packs"), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if len(b) > 4<<20 {
				return nil // of the database; its turn comes with the drill's tests
			}
			object, err := filepath.Rel(f.near, p)
			if err != nil {
				return err
			}
			const places = 6
			for i := range places {
				forged := bytes.Clone(b)
				forged[(2*i+1)*len(b)/(2*places)] ^= 1
				if err := os.WriteFile(p, forged, 0o600); err != nil {
					return err
				}
				to := filepath.Join(f.root, "flipped")
				e := f.run(t, "restore", "uploads", "--to", to, "--location", "near")
				switch e.status {
				case 0: // the byte is in no part that this restore needs
					treeOf(t, f.uploads).unchanged(t, to)
				default:
					stopped++
					e.refuses(t, 1, "is damaged: "+object, `another location`)
					if _, err := os.Lstat(to); err == nil {
						t.Errorf("a part stands at %s as if it were all", to)
					}
				}
				if err := errors.Join(os.RemoveAll(to), os.RemoveAll(to+".incomplete")); err != nil {
					return err
				}
			}
			return os.WriteFile(p, b, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
		if stopped < 5 {
			t.Errorf("only %d altered bytes stopped the restore", stopped)
		}
		f.restores(t, "near") // all is as it was
	})
	t.Run("EXT-09 readable without the product", func(t *testing.T) {
		var manifest string
		err := filepath.WalkDir(filepath.Join(f.near, "snapshots", "uploads"), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				manifest = d.Name() // the last is the newest
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(f.root, "decoded")
		cmd := exec.CommandContext(t.Context(), "python3", "../tools/decode/decode.py", "--identity", filepath.Join(f.dir, "keys", "recovery.age"), f.near, "restore", "uploads/"+manifest, to)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("decode.py: %v: %s", err, out)
		}
		treeOf(t, f.uploads).unchanged(t, to)
	})
	t.Run("EVD-06 a pack that verifies offline, with other tools", func(t *testing.T) {
		pack := filepath.Join(f.root, "iso.zip")
		f.run(t, "evidence", "export", "--framework", "iso27001", "--from", "2020-01-01", "--out", pack).want(t, 0)
		dir := filepath.Join(f.root, "auditor", "pack")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		unzipTo(t, pack, dir)
		if b := treeOf(t, dir)["controls.csv"]; !strings.Contains(b, "iso27001") || strings.Contains(b, "soc2") {
			t.Errorf("controls of the framework asked for: %s", b)
		}
		// The keys come on another way than the pack.
		if err := os.CopyFS(filepath.Join(f.root, "auditor", "trusted"), os.DirFS(filepath.Join(f.dir, "keys", "trusted"))); err != nil {
			t.Fatal(err)
		}
		guide, err := os.ReadFile(filepath.Join(dir, "VERIFY.txt"))
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		verify := func() error {
			for _, line := range strings.Split(string(guide), "\n") {
				command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if !ok {
					continue
				}
				steps++
				cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(command, " ../trusted/held-checkpoint*", ""))
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w: %s", command, err, out)
				}
			}
			return nil
		}
		if err := verify(); err != nil || steps < 4 {
			t.Fatalf("%d steps: %v", steps, err)
		}
		edit(t, filepath.Join(dir, "log.ndjson"), func(s string) string { return strings.Replace(s, "uploads", "uploadz", 1) })
		if err := verify(); err == nil {
			t.Error("a changed fact is not noticed")
		}
	})
}
