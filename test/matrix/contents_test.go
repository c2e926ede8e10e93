package matrix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// What databases hold beside plain tables comes back, or is known not to: large
// objects, unlogged tables, transactions that were open or prepared, thousands of
// relations, names beyond ASCII, settings and access rules.
func TestContents(t *testing.T) {
	each(t, thoroughly, func(t *testing.T, r row, _ bool) {
		g := newRig(t, r, []string{"-k"}, quick)
		holdContents(t, g)
	})
}

const relations = 1500

func holdContents(t *testing.T, g *rig) {
	g.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
	g.sql("SELECT lo_from_bytea(4711, decode(repeat('00ff41', 100000), 'hex'))")
	g.sql("CREATE UNLOGGED TABLE fleeting (v text); INSERT INTO fleeting SELECT 'x' FROM generate_series(1, 100)")
	g.sql(fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('CREATE TABLE many_%%s (v int)', i); END LOOP; END $$", relations))
	g.sql(`CREATE TABLE "Prüfung – 試験" ("größe" text); INSERT INTO "Prüfung – 試験" VALUES ('Æther')`)
	g.sql(`CREATE DATABASE "Bücher & 本"`)
	g.sql("ALTER SYSTEM SET work_mem = '7MB'")
	rules := filepath.Join(g.server.DataDir, "pg_hba.conf")
	appendLine(t, rules, "hostssl matrix_only matrix_role 192.0.2.0/24 scram-sha-256")
	g.sql("SELECT pg_reload_conf()")
	g.sql("CREATE TABLE prepared (v text); CREATE TABLE held (v text)")

	ctx := t.Context()
	long := g.session(t)
	long("BEGIN; INSERT INTO held VALUES ('never committed')")
	g.sql("BEGIN; INSERT INTO prepared VALUES ('before the base'); PREPARE TRANSACTION 'before'")
	g.follow()
	g.base()
	g.sql("BEGIN; INSERT INTO prepared VALUES ('after the base'); PREPARE TRANSACTION 'after'")
	g.sql("SELECT lo_put(4711, 10, 'written later')")
	g.sql(`INSERT INTO "Prüfung – 試験" VALUES ('später')`)
	if _, err := g.server.QueryIn(ctx, "Bücher & 本", `CREATE TABLE "Käse" AS SELECT 'Gouda'::text AS "ñame"`); err != nil {
		t.Fatal(err)
	}
	g.sql("DROP TABLE many_1; TRUNCATE many_2")
	g.sql("VACUUM")
	long("INSERT INTO held VALUES ('still not')")
	at := g.now()
	g.sql("COMMIT PREPARED 'before'")
	g.sql("ROLLBACK PREPARED 'after'")
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))

	questions := []struct{ ask, at, last string }{
		{"SELECT md5(lo_get(4711))", g.one("SELECT md5(lo_get(4711))"), g.one("SELECT md5(lo_get(4711))")},
		{"SELECT count(*) FROM fleeting", "0", "0"},
		{"SELECT count(*) FROM pg_class WHERE relname LIKE 'many\\_%'", fmt.Sprint(relations - 1), fmt.Sprint(relations - 1)},
		{`SELECT string_agg("größe", ',' ORDER BY "größe" COLLATE "C") FROM "Prüfung – 試験"`, "später,Æther", "später,Æther"},
		{"SELECT count(*) FROM held", "0", "0"},
		{"SELECT coalesce(string_agg(gid, ',' ORDER BY gid), '') FROM pg_prepared_xacts", "after,before", ""},
		{"SELECT coalesce(string_agg(v, ',' ORDER BY v), '') FROM prepared", "", "before the base"},
		{"SELECT count(*) FROM pg_database WHERE datname = 'Bücher & 本'", "1", "1"},
		{"SHOW work_mem", "7MB", "7MB"},
	}
	middle := g.restore(holdfast.Target{Kind: holdfast.TargetTime, Time: at.time})
	end := g.restore(latest)
	for _, q := range questions {
		if got := g.value(middle, q.ask); got != q.at {
			t.Errorf("at the instant: %s: %q, want %q", q.ask, got, q.at)
		}
		if got := g.value(end, q.ask); got != q.last {
			t.Errorf("at the end: %s: %q, want %q", q.ask, got, q.last)
		}
	}
	back, err := os.ReadFile(filepath.Join(g.box.Dir(), fmt.Sprintf("restore%d", g.restores), "pg_hba.conf"))
	if err != nil || !strings.Contains(string(back), "matrix_only") {
		t.Errorf("the access rules did not come back: %v", err)
	}
	// The plan may name any database: the owner's questions go there.
	g.database = "Bücher & 本"
	g.open(g.server)
	if got := g.value(g.restore(latest), `SELECT "ñame" FROM "Käse"`); got != "Gouda" {
		t.Errorf("the other database: %q", got)
	}
	for _, f := range g.store.Check(ctx) {
		if f.Severity == holdfast.SeverityError {
			t.Errorf("check: %s %s", f.Code, f.Message)
		}
	}
}

func appendLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A database in which nothing happens is backed up and brought back: no segment
// switch is needed, and no row must be written first (PostgreSQL rule 12).
func TestIdle(t *testing.T) {
	each(t, thoroughly, func(t *testing.T, r row, _ bool) {
		g := newRig(t, r, []string{"-k"}, quick)
		g.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
		g.insert(3)
		want := g.one(content)
		g.follow()
		g.base()
		g.base()
		for _, target := range []holdfast.Target{latest, {Kind: holdfast.TargetImmediate}} {
			if got := g.value(g.restore(target), content); got != want {
				t.Errorf("%s: %s came back, want %s", target, got, want)
			}
		}
	})
}

// A slot that the server gave up on is taken anew, what was lost is a gap that is
// named, and a new base closes it.
func TestSlotLost(t *testing.T) {
	each(t, thoroughly, func(t *testing.T, r row, _ bool) {
		t.Run("by size", func(t *testing.T) {
			loseSlot(t, r, with("max_slot_wal_keep_size", "2MB", "wal_keep_size", "0", "max_wal_size", "4MB", "min_wal_size", "2MB"), func(g *rig) {
				g.eventually("the server gives up the slot", func() error {
					g.sql("INSERT INTO t SELECT (SELECT max(id) FROM t) + i, repeat(md5(i::text), 30) FROM generate_series(1, 3000) i; SELECT pg_switch_wal(); CHECKPOINT")
					if state := g.one("SELECT coalesce(wal_status, 'none') FROM pg_replication_slots"); state != "lost" {
						return fmt.Errorf("it is %s", state)
					}
					return nil
				})
			})
		})
		if r.major >= 18 {
			t.Run("by idle time", func(t *testing.T) {
				loseSlot(t, r, with("idle_replication_slot_timeout", "1s"), func(g *rig) {
					g.eventually("the server gives up the slot", func() error {
						g.sql("INSERT INTO t SELECT (SELECT max(id) FROM t) + 1, 'x'; CHECKPOINT")
						if why := g.one("SELECT coalesce(invalidation_reason, 'none') FROM pg_replication_slots"); why != "idle_timeout" {
							return fmt.Errorf("it is %s", why)
						}
						return nil
					})
				})
			})
		}
	})
}

func loseSlot(t *testing.T, r row, options map[string]string, lose func(*rig)) {
	g := newRig(t, r, []string{"--wal-segsize=1"}, options)
	g.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
	g.insert(5)
	g.follow()
	g.base()
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
	g.leave()
	lose(g)
	g.follow()
	g.insert(5)
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
	g.base()
	g.insert(5)
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
	want := g.one(content)
	if got := g.value(g.restore(latest), content); got != want {
		t.Errorf("%s came back, want %s", got, want)
	}
}

// session opens a session of its own on the source, which stays open.
func (g *rig) session(t *testing.T) func(sql string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), g.server.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}
