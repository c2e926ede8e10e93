package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/source/postgres"
)

// A drilled is what "drill --json" prints.
type drilled struct {
	ID       string
	State    string
	Location string
	Rung     int
	Checks   []struct{ Name, Outcome, Grade, Detail string }
	Parts    []struct {
		Name     string
		Duration int64 `json:"duration_ns"`
		Basis    string
	}
}

// A restoration is what "restore --json" prints.
type restoration struct {
	Location, Snapshot, To, Next, Reached string
	DataUntil                             time.Time `json:"data_until"`
	Bytes, Files                          int64
}

// rowsOf starts the real server on a restored folder and asks it.
func rowsOf(t *testing.T, c *cluster, dir, question string) string {
	t.Helper()
	if err := c.account.Reach(dir); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.StartServer(t.Context(), c.account, postgres.ServerConfig{BinDir: c.bin, DataDir: dir, Options: map[string]string{"archive_mode": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	rows, err := s.QueryIn(t.Context(), "app", question)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, strings.Join(r, "|"))
	}
	return strings.Join(out, "\n")
}

// commit commits one row and returns an instant after it: that of the server.
func (c *cluster) commit(t *testing.T, table string, n int) time.Time {
	t.Helper()
	c.sql(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, clock_timestamp())", table, n))
	return c.clock(t)
}

// clock returns the database's time.
func (c *cluster) clock(t *testing.T) time.Time {
	t.Helper()
	micros, err := strconv.ParseInt(c.sql(t, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMicro(micros)
}

// reaches waits until every location could bring the database back to an instant.
func (w workspace) reaches(t *testing.T, at time.Time, locations int) {
	t.Helper()
	until(t, "the log to reach "+at.Format(time.RFC3339Nano), func() bool {
		var p struct {
			Windows []struct {
				Location string
				From, To time.Time
			}
		}
		w.run(t, "points", "db", "--json").object(t, &p)
		n := 0
		for _, x := range p.Windows {
			if !x.To.Before(at) {
				n++
			}
		}
		return n == locations
	})
}

// A stranger follows the README on a PostgreSQL and a folder of his own.
func TestOwnSystem(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	w := forCluster(t, c)
	c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP TABLE ledger"); err != nil {
			t.Error(err)
		}
	})

	// Steps 4 to 6: read the plan, check it, take the second key away, start.
	w.run(t, "check").want(t, 0)
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, `select count(*) from information_schema.tables where table_schema = 'public'`, `select count(*) from ledger`, 1)
	})
	w.run(t, "check").want(t, 0)
	recovery := filepath.Join(w.root, "usb-stick", "recovery.age")
	if err := os.Mkdir(filepath.Dir(recovery), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(w.dir, "keys", "recovery.age"), recovery); err != nil {
		t.Fatal(err)
	}
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "check", "--live").want(t, 0)
	server := serve(t, w.dir)

	// Step 7: protect and look.
	c.commit(t, "ledger", 1)
	w.run(t, "backup", "db").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	between := c.commit(t, "ledger", 2)
	c.sql(t, "SELECT pg_sleep(0.01)") // the server's clock goes on, so that the instant lies between two commits
	end := c.commit(t, "ledger", 3)
	w.reaches(t, end.Add(-10*time.Millisecond), 2)
	w.run(t, "status").want(t, 3) // nothing is proven yet, and it says so

	// Step 9: back to an instant between two commits.
	t.Run("restore to an instant", func(t *testing.T) {
		to := filepath.Join(w.root, "at")
		var got restoration
		w.run(t, "restore", "db", "--to", to, "--at", between.UTC().Format(time.RFC3339Nano), "--json").want(t, 0).object(t, &got)
		if got.DataUntil.After(between) || got.DataUntil.Before(between.Add(-time.Minute)) || got.Reached == "" || got.To != to {
			t.Errorf("restored %+v, want data of just before %s", got, between)
		}
		if rows := rowsOf(t, c, to, "SELECT n FROM ledger ORDER BY n"); rows != "1\n2" {
			t.Errorf("at that instant rows 1 and 2 were committed; the restored server has %q", rows)
		}
	})

	// Step 8: prove it, and vouch for it.
	t.Run("drill", func(t *testing.T) {
		var d drilled
		w.run(t, "drill", "db", "--json").want(t, 4).object(t, &d) // the owner's word is missing
		if d.Rung != 5 || d.State != "passed" || len(d.Parts) == 0 {
			t.Fatalf("the drill reached %+v", d)
		}
		w.run(t, "drill", "confirm", d.ID, "--by", "founder-a").refuses(t, 4, `founder-a`, `.`)
		w.run(t, "drill", "confirm", d.ID, "--by", "founder-b", "--note", "three rows, as it should be", "--json").want(t, 0).object(t, &d)
		if d.Rung != 6 {
			t.Errorf("after the owner's word the drill stands at L%d", d.Rung)
		}
		var shown drilled
		w.run(t, "drill", "show", d.ID, "--json").want(t, 0).object(t, &shown)
		attested := 0
		for _, ch := range shown.Checks {
			if ch.Grade == "attested" {
				attested++
			}
		}
		if attested != 1 || shown.Rung != 6 {
			t.Errorf("%d attested checks, want the owner's alone: %+v", attested, shown)
		}
		w.run(t, "drill", "uploads-drill").want(t, 0)
	})

	// Step 10: evidence, verified with keys that travelled another way.
	t.Run("evidence", func(t *testing.T) {
		pack, keys := filepath.Join(w.root, "q4.zip"), filepath.Join(w.root, "trusted.keys")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		b, err := os.ReadFile(filepath.Join(w.dir, "keys", "trusted.keys"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, keys, string(b), 0o644)
		hf(t, "evidence", "verify", pack, "--keys", keys).want(t, 0)
		zip, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{len(zip) / 4, len(zip) / 2, 3 * len(zip) / 4} {
			forged := []byte(string(zip))
			forged[at] ^= 1
			bad := filepath.Join(w.root, "forged.zip")
			write(t, bad, string(forged), 0o644)
			e := hf(t, "evidence", "verify", bad, "--keys", keys).want(t, 3)
			if !strings.Contains(e.out, "NOT authentic") || !strings.Contains(e.out, "error HF-E") {
				t.Errorf("it is not said what is wrong: %v", e)
			}
		}
	})

	// The bad day: no server, no first location, the second key from the stick.
	t.Run("restore without server, first key and first location", func(t *testing.T) {
		server.stop(t)
		if err := os.RemoveAll(w.near); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{filepath.Join(w.dir, "state"), filepath.Join(w.dir, "keys")} {
			if err := os.RemoveAll(gone); err != nil {
				t.Fatal(err)
			}
		}
		to := filepath.Join(w.root, "latest")
		var got restoration
		w.run(t, "restore", "db", "--to", to, "--key", recovery, "--json").want(t, 0).object(t, &got)
		if got.Location != "offsite" {
			t.Errorf("restored from %q", got.Location)
		}
		if rows := rowsOf(t, c, to, "SELECT n FROM ledger ORDER BY n"); rows != "1\n2\n3" {
			t.Errorf("the restored server has %q", rows)
		}
		files := filepath.Join(w.root, "files")
		w.run(t, "restore", "uploads", "--to", files, "--key", recovery).want(t, 0)
		treeOf(t, w.uploads).unchanged(t, files)
	})
}
