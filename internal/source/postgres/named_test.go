package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/repo"
)

// followed is a cluster whose log is followed while bases are taken of it.
type followed struct {
	*story
	frontier chan Frontier
	stop     func()
}

func follow(t *testing.T, options map[string]string, configure ...func(*Config)) *followed {
	t.Helper()
	f := &followed{story: &story{box: newSandbox(t), vault: newVault(t)}}
	f.server = newCluster(t, f.box, "source", []string{"--wal-segsize=1"}, with(options, "max_slot_wal_keep_size", "1GB"))
	f.protect(t, configure...)
	return f
}

func (f *followed) protect(t *testing.T, configure ...func(*Config)) {
	t.Helper()
	cfg := Config{Store: "db", ConnString: f.server.ConnString(), SpoolDir: filepath.Join(t.TempDir(), "spool")}
	for _, c := range configure {
		c(&cfg)
	}
	var err error
	if f.source, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	f.begin(t)
}

// begin starts the stream, and waits until it runs.
func (f *followed) begin(t *testing.T) {
	t.Helper()
	f.frontier = make(chan Frontier, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.source.Stream(ctx, StreamConfig{
			Places: []repo.Place{{Name: "here", Repo: f.vault.repo}}, Keys: f.vault.keys, PieceEvery: 20 * time.Millisecond,
			Report: func(fr Frontier) {
				if fr.Place != "here" {
					return
				}
				select { // only the newest matters
				case <-f.frontier:
				default:
				}
				f.frontier <- fr
			},
		})
	}()
	f.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(f.stop)
	f.await(t, 1)
}

// await waits until the place has the log up to lsn.
func (f *followed) await(t *testing.T, lsn uint64) {
	t.Helper()
	for {
		select {
		case fr := <-f.frontier:
			if fr.LSN >= lsn {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("the log up to %s is not there", FormatLSN(lsn))
		}
	}
}

// next takes a base, and says how it was read.
func (f *followed) next(t *testing.T, pages, why string) *repo.Manifest {
	t.Helper()
	m := f.vault.snapshot(t, f.source)
	if m.Labels[LabelPages] != pages || !strings.Contains(m.Labels[LabelPagesWhy], why) || (why == "") != (m.Labels[LabelPagesWhy] == "") {
		t.Fatalf("read %q because %q, and not %q because %q", m.Labels[LabelPages], m.Labels[LabelPagesWhy], pages, why)
	}
	stop, err := ParseLSN(m.Labels[LabelStop])
	if err != nil {
		t.Fatal(err)
	}
	f.await(t, stop)
	return m
}

// same restores a base and holds what it says against the source.
func (f *followed) same(t *testing.T, m *repo.Manifest, databases ...string) {
	t.Helper()
	end, err := ParseLSN(mustValue(t, f.server, "SELECT pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	f.await(t, end)
	r := f.restore(f.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	r.Snapshot = m.ID
	_, s, _ := f.run(t, r)
	for _, db := range append(databases, "postgres") {
		want, got := contents(t, f.server, db), contents(t, s, db)
		if want != got {
			t.Errorf("database %q came back as\n%s\nand not as\n%s", db, got, want)
		}
		if _, err := s.QueryIn(t.Context(), db, "CREATE EXTENSION IF NOT EXISTS amcheck; SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p'"); err != nil {
			t.Errorf("indexes of %q: %v", db, err)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := f.box.Command(t.Context(), filepath.Join(binDir(t), "pg_checksums"), "--check", "-D", s.DataDir).CombinedOutput(); err != nil {
		t.Errorf("checksums of what came back: %v\n%s", err, out)
	}
}

// contents is what a database holds: each table with a hash over its rows, twice, by the
// table and by each of its indexes.
func contents(t *testing.T, s *Server, db string) string {
	t.Helper()
	tables, err := s.QueryIn(t.Context(), db, "SELECT oid::regclass::text, relpersistence FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, row := range tables {
		if row[1] == "u" {
			continue // comes back empty
		}
		for _, scan := range []string{"on", "off"} {
			rows, err := s.QueryIn(t.Context(), db, fmt.Sprintf("SET enable_seqscan = %s; SELECT count(*), md5(string_agg(x::text, ',' ORDER BY x::text)) FROM %s x", scan, row[0]))
			if err != nil {
				t.Fatalf("%s: %v", row[0], err)
			}
			fmt.Fprintf(&b, "%s %v\n", row[0], rows)
		}
	}
	return b.String()
}

// A base of what the log names is the cluster, whatever was done to it: each way in which
// files change without a record that names their blocks is one of these.
func TestNamedPages(t *testing.T) {
	f := follow(t, with(quick, "autovacuum", "off", "wal_keep_size", "64MB"))
	space := filepath.Join(f.box.Dir(), "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.box.Own(space); err != nil {
		t.Fatal(err)
	}
	do := func(sql ...string) {
		t.Helper()
		for _, q := range sql { // each on its own: some refuse a transaction
			mustQuery(t, f.server, q)
		}
	}
	rows := func(from, to int) string {
		return fmt.Sprintf("SELECT g, md5(g::text), repeat('x', g %% 100) FROM generate_series(%d, %d) g", from, to)
	}
	do("CREATE TABLESPACE far LOCATION '"+space+"'",
		"CREATE TABLE cold AS "+rows(1, 30_000),
		"CREATE TABLE hot (id int PRIMARY KEY, v text, w text)", "INSERT INTO hot "+rows(1, 20_000),
		"CREATE TABLE cut AS "+rows(1, 20_000), "CREATE TABLE emptied AS "+rows(1, 5000), "CREATE TABLE dropped AS "+rows(1, 5000),
		"CREATE TABLE moved AS "+rows(1, 5000), "CREATE TABLE rewritten AS "+rows(1, 5000), "CREATE TABLE wide (id int, v text)",
		"CREATE TABLE kinds (id int, a int[], p point, t text)", "INSERT INTO kinds SELECT g, ARRAY[g % 7, g % 11], point(g % 100, g), md5(g::text) FROM generate_series(1, 5000) g",
		"CREATE INDEX ON kinds USING gin (a)", "CREATE INDEX ON kinds USING gist (p)", "CREATE INDEX ON kinds USING hash (t)", "CREATE INDEX ON kinds USING brin (id)", "CREATE INDEX ON kinds USING spgist (t)",
		"CREATE UNLOGGED TABLE loose AS "+rows(1, 2000), "CREATE SEQUENCE numbers", "CREATE DATABASE old", "CHECKPOINT")
	first := f.next(t, "all", "")
	if got := first.Labels[LabelRead]; got == "" || first.Labels[LabelWholeAt] != "" {
		t.Errorf("the first base read %q bytes, and says %q", got, first.Labels[LabelWholeAt])
	}
	do("SELECT count(*) FROM cold", // sets hint bits
		"UPDATE hot SET v = v || 'y' WHERE id % 100 = 3",
		"DELETE FROM cut WHERE g > 5000", "VACUUM cut", "INSERT INTO cut "+rows(50_000, 58_000), // cut off, and grown again
		"TRUNCATE emptied", "INSERT INTO emptied "+rows(1, 100),
		"DROP TABLE dropped", "CREATE TABLE made AS "+rows(1, 3000),
		"ALTER TABLE moved SET TABLESPACE far", "UPDATE moved SET md5 = 'm' WHERE g % 50 = 0",
		"VACUUM FULL rewritten", "CREATE INDEX ON rewritten (g)",
		"INSERT INTO wide SELECT g, string_agg(md5((g * h)::text), '') FROM generate_series(1, 50) g, generate_series(1, 400) h GROUP BY g",
		"INSERT INTO kinds SELECT g, ARRAY[g % 7, g % 11], point(g % 100, g), md5(g::text) FROM generate_series(5001, 6000) g", "DELETE FROM kinds WHERE id % 9 = 0", "VACUUM kinds",
		"SELECT nextval('numbers') FROM generate_series(1, 100)",
		"ALTER TABLE loose SET LOGGED", "CREATE UNLOGGED TABLE loose2 AS "+rows(1, 100),
		"DROP DATABASE old", "CREATE DATABASE young", "CREATE ROLE somebody")
	if v := mustValue(t, f.server, "SHOW server_version_num"); v >= "150000" {
		do("CREATE DATABASE copied STRATEGY file_copy")
	} else {
		do("CREATE DATABASE copied")
	}
	if _, err := f.server.QueryIn(t.Context(), "young", "CREATE TABLE y AS "+rows(1, 1000)); err != nil {
		t.Fatal(err)
	}
	second := f.next(t, "log", "")
	if second.Labels[LabelWholeAt] != first.Labels[LabelStartTime] {
		t.Errorf("everything was read at %q, and the base says %q", first.Labels[LabelStartTime], second.Labels[LabelWholeAt])
	}
	whole, _ := strconv.Atoi(first.Labels[LabelRead])
	read, err := strconv.Atoi(second.Labels[LabelRead])
	if err != nil || read >= whole {
		t.Errorf("%d bytes were read, and %d of everything: %v", read, whole, err)
	}
	do("UPDATE hot SET w = 'z' WHERE id % 500 = 7", "INSERT INTO made "+rows(9000, 9100)) // goes on behind it
	f.same(t, second, "young", "copied")

	// The stream was away; what it had noted of the log is on its disk.
	f.stop()
	do("UPDATE hot SET v = 'w' WHERE id % 300 = 1")
	f.begin(t)
	third := f.next(t, "log", "")
	do("INSERT INTO hot VALUES (-1, 'last', '')")
	f.same(t, third, "young", "copied")
}

// Why everything is read, and that it is.
func TestNamedPagesFallBack(t *testing.T) {
	var late atomic.Int64
	f := follow(t, with(quick, "autovacuum", "off"), func(c *Config) {
		c.Clock = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	})
	mustQuery(t, f.server, "CREATE TABLE cold AS SELECT g, repeat('x', 500) FROM generate_series(1, 40000) g")
	mustQuery(t, f.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	mustQuery(t, f.server, "SELECT count(*) FROM cold")
	f.next(t, "all", "")
	insert(t, f.server, 20)
	f.next(t, "log", "")

	t.Run("a right is missing", func(t *testing.T) {
		mustQuery(t, f.server, "CREATE ROLE plain LOGIN REPLICATION")
		src, err := New(Config{Store: "db", ConnString: f.server.connString("plain", "postgres"), SpoolDir: f.source.cfg.SpoolDir})
		if err != nil {
			t.Fatal(err)
		}
		src.running.Store(f.source.running.Load())
		g := *f
		g.story = &story{box: f.box, vault: f.vault, server: f.server, source: src}
		g.next(t, "all", `role "plain" may not call pg_ls_dir`)
		for _, q := range GrantPages(150000, "plain") {
			mustQuery(t, f.server, q)
		}
		g.next(t, "log", "")
	})
	t.Run("what the log changed is not known", func(t *testing.T) {
		for range 3 { // whole segments
			mustQuery(t, f.server, "SELECT pg_switch_wal(), pg_logical_emit_message(false, 'x', 'x')")
		}
		var lists []string
		eventually(t, "a list is written", func() error {
			lists, _ = filepath.Glob(filepath.Join(f.source.cfg.SpoolDir, "*", "*", "*"+blockSuffix))
			if len(lists) < 2 {
				return fmt.Errorf("there are %d", len(lists))
			}
			return nil
		})
		slices.Sort(lists)
		flip(t, lists[len(lists)-1])
		f.next(t, "all", "damaged")
		f.next(t, "log", "")
	})
	t.Run("it is due", func(t *testing.T) {
		late.Store(int64(wholeEvery))
		f.next(t, "all", "every 30 days")
		f.next(t, "log", "")
	})
	t.Run("a page changed that the log does not name", func(t *testing.T) {
		mustQuery(t, f.server, "CHECKPOINT")
		name := filepath.Join(f.server.DataDir, mustValue(t, f.server, "SELECT pg_relation_filepath('cold')"))
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(b); at += pageBytes {
			page := b[at : at+pageBytes]
			page[pageBytes-1] ^= 1
			binary.LittleEndian.PutUint16(page[8:], pageChecksum(page, uint32(at/pageBytes))) // as sound as any
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m := f.next(t, "all", "the log does not name it")
		f.next(t, "log", "")
		f.same(t, m)
	})
	t.Run("another timeline", func(t *testing.T) {
		if err := f.server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		signal := filepath.Join(f.server.DataDir, "standby.signal")
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.box.Own(signal); err != nil {
			t.Fatal(err)
		}
		if err := f.server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustQuery(t, f.server, "SELECT pg_promote()")
		insert(t, f.server, 5)
		f.next(t, "all", "timeline")
		f.same(t, f.next(t, "log", ""))
	})
}

// Without page checksums the log does not say when a hint bit is set.
func TestNamedPagesNeedChecksums(t *testing.T) {
	f := &followed{story: &story{box: newSandbox(t), vault: newVault(t)}}
	f.server = newCluster(t, f.box, "source", nil, with(quick, "max_slot_wal_keep_size", "1GB"))
	if err := f.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := f.box.Command(t.Context(), filepath.Join(binDir(t), "pg_checksums"), "--disable", "-D", f.server.DataDir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := f.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.protect(t)
	f.next(t, "all", "")
	f.next(t, "all", "page checksums are off")
}
