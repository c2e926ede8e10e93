package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/source/postgres"
)

// What stands between a stalled log and a stopped database is said in hours, and
// nothing is lost when the locations are back.
func TestStalledLogRows(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	edit(t, f.plan(), func(s string) string {
		i := strings.Index(s, "    log: {max_lag: ")
		j := i + strings.IndexByte(s[i:], '}')
		return s[:i] + "    log: {max_lag: 5s" + s[j:]
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	f.run(t, "backup", "db").want(t, 0)
	c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
	t.Run("PIT-12 hours until full, and all of it in order afterwards", func(t *testing.T) {
		for _, l := range []string{f.near, f.offsite} {
			if err := os.Rename(l, l+".cut"); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		row := func() {
			n++
			c.sql(t, fmt.Sprintf("INSERT INTO ledger VALUES (%d, clock_timestamp())", n))
		}
		var said string
		until(t, "an incident that says how long it may go on", func() bool {
			row()
			i, ok := f.incidentOf(t, "backup-stale", "db")
			if !ok {
				return false
			}
			said = f.run(t, "incident", "show", fmt.Sprint(i.ID), "--json").want(t, 0).out
			return strings.Contains(said, "hours")
		})
		for _, want := range []string{"spool is full in about", "max_slot_wal_keep_size"} {
			if !strings.Contains(said, want) {
				t.Errorf("the incident does not say %q: %s", want, said)
			}
		}
		for _, l := range []string{f.near, f.offsite} {
			if err := os.Rename(l+".cut", l); err != nil {
				t.Fatal(err)
			}
		}
		row()
		f.reaches(t, c.clock(t), 2)
		for _, l := range []string{"near", "offsite"} {
			got := f.back(t, "stalled-"+l, "--location", l, "--latest")
			var want []int
			for i := range n {
				want = append(want, i+1)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s brought back %v of %d rows", l, got, n)
			}
		}
	})
}

// A drill cannot reach what it rehearses for, says so by what the engine itself sees,
// and finds controls that did not come back.
func TestSandboxRows(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	const routes = `select count(*) from regexp_split_to_table(pg_read_file('/proc/self/net/route'), E'\\n') l where l ~ E'^\\S+\\t[0-9A-F]{8}\\t'`
	edit(t, f.plan(), func(s string) string {
		return strings.Replace(s, "    invariants:\n", "    invariants:\n      no-route:\n        sql: "+strconv.Quote(routes)+"\n        expect: value == 0\n        confirmed_by: technical_lead\n", 1)
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	f.run(t, "backup", "db").want(t, 0)
	drill := func(t *testing.T) (d drilled) {
		t.Helper()
		f.reaches(t, c.clock(t), 2)
		e := f.run(t, "drill", "db", "--pick", "latest", "--json")
		e.object(t, &d)
		return d
	}
	outcome := func(d drilled, name string) string {
		for _, ch := range d.Checks {
			if strings.Contains(ch.Name, name) {
				return ch.Outcome
			}
		}
		return ""
	}
	t.Run("INT-04 no route out of the sandbox, and production untouched", func(t *testing.T) {
		written := "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
		c.sql(t, "CREATE TABLE IF NOT EXISTS untouched (n int); INSERT INTO untouched VALUES (1)")
		t.Cleanup(func() {
			if _, err := c.query(context.Background(), "DROP TABLE untouched"); err != nil {
				t.Error(err)
			}
		})
		f.run(t, "backup", "db").want(t, 0)
		var before string
		until(t, "the counter", func() bool { before = c.sql(t, written); return before != "" && before != "0" })
		d := drill(t)
		if got := outcome(d, "no-route"); got != "passed" {
			t.Errorf("the engine in the sandbox sees a route: %q, %+v", got, d.Checks)
		}
		if after := c.sql(t, written); after != before {
			t.Errorf("production was written to: %s before, %s after", before, after)
		}
	})
	t.Run("INT-18 without TLS, or with a default password, the drill fails", func(t *testing.T) {
		if d := drill(t); outcome(d, "default passwords") != "passed" || outcome(d, "transport encryption") != "passed" {
			t.Fatalf("all is well, and it says %+v", d.Checks)
		}
		c.sql(t, "CREATE ROLE clerk LOGIN PASSWORD 'changeme'")
		d := drill(t)
		c.sql(t, "DROP ROLE clerk")
		if outcome(d, "default passwords") != "failed" || d.State == "passed" {
			t.Errorf("a default password: %s, %+v", d.State, d.Checks)
		}
		c.sql(t, "ALTER SYSTEM SET listen_addresses = '*'")
		f.run(t, "backup", "db").want(t, 0)
		d = drill(t)
		c.sql(t, "ALTER SYSTEM RESET listen_addresses")
		if outcome(d, "transport encryption") != "failed" || d.State == "passed" {
			t.Errorf("open to all without TLS: %s, %+v", d.State, d.Checks)
		}
	})
}

// A base backup asks the server for no more than the plan allows, and the plan cannot ask
// for less than nothing.
func TestBaseBackupIsHeldBack(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	w := forCluster(t, c)
	limit := func(n string) {
		edit(t, w.plan(), func(s string) string {
			return regexp.MustCompile(`(?m)^(      read_mb_per_second: .*\n)?(      dsn:)`).ReplaceAllString(s, "      read_mb_per_second: "+n+"\n$2")
		})
	}
	limit("-1")
	if e := w.run(t, "check").want(t, 2); !strings.Contains(e.String(), "stores.db.postgres.read_mb_per_second") {
		t.Errorf("it does not name the limit: %s", e)
	}
	limit("8")
	w.run(t, "location", "init", "--all").want(t, 0)
	serve(t, w.dir)
	done := make(chan ending, 1)
	go func() { done <- w.run(t, "backup", "db") }()
	until(t, "the base backup to be asked for", func() bool {
		return c.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%BASE_BACKUP%MAX_RATE 7812%' AND pid <> pg_backend_pid()") == "1"
	})
	(<-done).want(t, 0)
}

// A standby takes over: the log goes on under the new time line, and both sides of
// the promotion can be gone back to.
func TestPromotionRows(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	// A standby of the user's own, which the connection string names too.
	dir, err := os.MkdirTemp("", "hf-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), c.account.Own(dir)); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	run := func(name string, args ...string) {
		t.Helper()
		cmd := c.account.Command(t.Context(), filepath.Join(c.bin, name), args...)
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("pg_basebackup", "-h", "127.0.0.1", "-p", fmt.Sprint(c.port), "-U", "postgres", "-D", data, "-R", "-c", "fast", "-X", "stream")
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	standby, err := postgres.StartServer(t.Context(), c.account, postgres.ServerConfig{BinDir: c.bin, DataDir: data, Port: port, Listen: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Kill() })
	edit(t, f.plan(), func(s string) string {
		return strings.Replace(s, fmt.Sprintf("host=127.0.0.1 port=%d user=holdfast", c.port), fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d target_session_attrs=read-write user=holdfast", c.port, port), 1)
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
	f.run(t, "backup", "db").want(t, 0)
	t.Run("PIT-11 before and after the promotion of a standby", func(t *testing.T) {
		c.sql(t, "INSERT INTO ledger SELECT g, clock_timestamp() FROM generate_series(1, 3) g")
		before := c.clock(t)
		f.reaches(t, before, 2)
		until(t, "the standby to have it", func() bool {
			got, err := psql(t.Context(), c.bin, "127.0.0.1", port, "SELECT count(*) FROM ledger")
			return err == nil && got == "3"
		})
		if err := c.server.Kill(); err != nil { // the primary is gone
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.start(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
		run("pg_ctl", "-D", data, "-w", "promote")
		ask := func(q string) string {
			t.Helper()
			got, err := psql(t.Context(), c.bin, "127.0.0.1", port, q)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		ask("INSERT INTO ledger SELECT g, clock_timestamp() FROM generate_series(4, 6) g")
		after, err := time.Parse(time.RFC3339Nano, ask(`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`))
		if err != nil {
			t.Fatal(err)
		}
		f.reaches(t, after, 2)
		for _, l := range []string{"near", "offsite"} {
			if got := f.back(t, "before-"+l, "--location", l, "--at", at(before)); !slices.Equal(got, []int{1, 2, 3}) {
				t.Errorf("%s before the promotion: %v", l, got)
			}
			if got := f.back(t, "after-"+l, "--location", l, "--at", at(after)); !slices.Equal(got, []int{1, 2, 3, 4, 5, 6}) {
				t.Errorf("%s after the promotion: %v", l, got)
			}
		}
	})
}
