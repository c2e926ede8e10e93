package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast/internal/source/postgres"
)

// Everything that makes a cluster comes back onto a machine that has PostgreSQL and no
// cluster: what pg_dumpall says of the two is the same.
func TestBarePostgresRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	c := f.cluster
	space := filepath.Join(c.dir, "space")
	if err := errors.Join(os.Mkdir(space, 0o700), c.account.Own(space)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, q := range []string{"DROP DATABASE shop", "DROP TABLESPACE fast", "DROP ROLE clerk", "DROP ROLE staff", "ALTER SYSTEM RESET work_mem"} {
			if _, err := c.query(context.Background(), q); err != nil {
				t.Error(err)
			}
		}
	})
	for _, q := range []string{
		"CREATE ROLE staff NOLOGIN", "CREATE ROLE clerk LOGIN PASSWORD 'another long random password' CONNECTION LIMIT 7 IN ROLE staff",
		"ALTER ROLE clerk SET search_path = shop, public", "COMMENT ON ROLE staff IS 'people of the shop'", "ALTER SYSTEM SET work_mem = '7MB'",
		"CREATE TABLESPACE fast OWNER staff LOCATION '" + space + "'",
		"CREATE DATABASE shop OWNER clerk", "ALTER DATABASE shop SET statement_timeout = '90s'",
		"CREATE EXTENSION pg_trgm", "CREATE EXTENSION hstore",
		"CREATE TABLE parts (n int PRIMARY KEY, what text NOT NULL, more hstore) TABLESPACE fast", "CREATE INDEX parts_what ON parts USING gin (what gin_trgm_ops) TABLESPACE fast",
		"INSERT INTO parts SELECT i, md5(i::text), hstore('k', i::text) FROM generate_series(1, 2000) i",
		"CREATE VIEW few AS SELECT * FROM parts WHERE n < 10", "GRANT SELECT ON few TO staff", "CREATE SEQUENCE tickets START 17", "SELECT nextval('tickets')",
		"CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'",
	} {
		c.sql(t, q)
	}
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP VIEW few; DROP TABLE parts; DROP SEQUENCE tickets; DROP FUNCTION twice; DROP EXTENSION pg_trgm, hstore"); err != nil {
			t.Error(err)
		}
	})
	dump := func(conn string) string {
		t.Helper()
		cmd := c.account.Command(t.Context(), filepath.Join(c.bin, "pg_dumpall"), "-d", conn)
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err, said.String())
		}
		var lines []string
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, `\restrict `) && !strings.HasPrefix(line, `\unrestrict `) { // random words
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	t.Run("BKP-04 roles, extensions, tablespaces, settings and rows on a bare PostgreSQL", func(t *testing.T) {
		f.run(t, "backup", "db").want(t, 0) // the tablespace is younger than the first base
		f.cluster.commit(t, "ledger", 1)
		f.reaches(t, c.commit(t, "ledger", 2), 2)
		source := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", c.port)
		want := dump(source)
		f.server.stop(t)
		if err := os.RemoveAll(f.near); err != nil {
			t.Fatal(err)
		}
		// Of the company only the plan, one location and the second key are left.
		bare := workspace{root: f.root, dir: filepath.Join(place(t), "bare")}
		b, err := os.ReadFile(f.plan())
		if err != nil {
			t.Fatal(err)
		}
		write(t, bare.plan(), string(b), 0o600)
		to := filepath.Join(f.root, "bare-data")
		bare.run(t, "restore", "db", "--to", to, "--location", "offsite", "--latest", "--key", filepath.Join(f.dir, "keys", "recovery.age")).want(t, 0)
		if err := c.account.Reach(to); err != nil {
			t.Fatal(err)
		}
		s, err := postgres.StartServer(t.Context(), c.account, postgres.ServerConfig{BinDir: c.bin, DataDir: to, Options: map[string]string{"archive_mode": "off"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		at, err := pgconn.ParseConfig(s.ConnString())
		if err != nil {
			t.Fatal(err)
		}
		got := dump(fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", at.Host, at.Port))
		// A tablespace lies where the restore put it; nothing may point at the live one.
		if strings.Contains(got, space) {
			t.Error("the restored cluster uses the source's tablespace")
		}
		location := regexp.MustCompile(`LOCATION '[^']*'`)
		if a, b := location.ReplaceAllString(want, "LOCATION"), location.ReplaceAllString(got, "LOCATION"); a != b {
			t.Errorf("what came back differs:\n%s", diff(a, b))
		}
		for _, must := range []string{"CREATE ROLE clerk", "SCRAM-SHA-256$", "CREATE TABLESPACE fast", "CREATE EXTENSION IF NOT EXISTS pg_trgm", "setval('public.tickets', 17"} {
			if !strings.Contains(got, must) {
				t.Errorf("the comparison is about less than it says: no %q", must)
			}
		}
		settings := "SELECT name || '=' || setting FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf' ORDER BY 1"
		rows, err := s.Query(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		var restored []string
		for _, r := range rows {
			restored = append(restored, r[0])
		}
		if have := strings.Fields(c.sql(t, settings)); !slices.Equal(have, restored) || !slices.Contains(restored, "work_mem=7MB") {
			t.Errorf("settings %q, want %q", restored, have)
		}
	})
}

// diff shows the lines that one of two texts has and the other has not.
func diff(a, b string) string {
	has := func(text string) map[string]bool {
		m := map[string]bool{}
		for line := range strings.Lines(text) {
			m[line] = true
		}
		return m
	}
	var out strings.Builder
	in, then := has(a), has(b)
	for line := range strings.Lines(a) {
		if !then[line] {
			out.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(b) {
		if !in[line] {
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}
