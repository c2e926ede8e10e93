package db_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
)

func module(name string, files ...string) db.Module {
	m := fstest.MapFS{}
	for i, text := range files {
		m[fmt.Sprintf("%05d_test.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return db.Module{Name: name, Migrations: m}
}

var notes = module("notes", `
CREATE TABLE note (
	id {{id}},
	at INTEGER NOT NULL, -- an INTEGER? yes
	body TEXT NOT NULL DEFAULT 'INTEGER? {{id}}',
	raw BLOB,
	done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE tally (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO tally (name, n) VALUES ('a', 0), ('b', 0);`)

func modules() []db.Module { return []db.Module{notes} }

func tally(t *testing.T, d *db.DB, name string) (n int64) {
	t.Helper()
	err := d.View(t.Context(), func(tx *db.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT n FROM tally WHERE name = ?", name).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestValuesAreTheSameOnBoth(t *testing.T) {
	dbtest.Each(t, modules(), func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		at := time.Date(2026, 11, 22, 10, 15, 30, 123456000, time.UTC)
		type label string
		err := d.Tx(ctx, func(tx *db.Tx) error {
			var id1, id2 int64
			q := "INSERT INTO note (at, body, raw, done) VALUES (?, ?, ?, ?) RETURNING id"
			if err := tx.QueryRow(ctx, q, at, json.RawMessage(`{"a?":1}`), []byte{0, 255}, true).Scan(&id1); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, q, time.Time{}, label("it's"), nil, false).Scan(&id2); err != nil {
				return err
			}
			if id2 <= id1 {
				t.Errorf("ids %d, %d do not grow", id1, id2)
			}
			n, err := tx.Exec(ctx, "INSERT INTO note (at) VALUES (?)", at.Add(time.Nanosecond))
			if n != 1 {
				t.Errorf("Exec changed %d rows, want 1", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = d.View(ctx, func(tx *db.Tx) error {
			got, err = db.Collect(func(r *sql.Rows) (string, error) {
				var us, done int64
				var body string
				var raw []byte
				err := r.Scan(&us, &body, &raw, &done)
				return fmt.Sprintf("%s %s %x %d", db.Time(us).Format(time.RFC3339Nano), body, raw, done), err
			})(tx.Query(ctx, "SELECT at, body, raw, done FROM note WHERE body <> '?' AND at >= ? ORDER BY id", 0))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			`2026-11-22T10:15:30.123456Z {"a?":1} 00ff 1`,
			`0001-01-01T00:00:00Z it's  0`,
			`2026-11-22T10:15:30.123456Z INTEGER? {{id}}  0`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("rows:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A transaction moves one from tally a to tally b by reading first and writing
// then. If two could overlap, a count would be lost.
func TestTransactionsBehaveAsIfOneAfterAnother(t *testing.T) {
	dbtest.Each(t, modules(), func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		var wg sync.WaitGroup
		const workers, each = 6, 15
		for range workers {
			wg.Go(func() {
				for range each {
					err := d.Tx(ctx, func(tx *db.Tx) error {
						var a int64
						if err := tx.QueryRow(ctx, "SELECT n FROM tally WHERE name = 'a'").Scan(&a); err != nil {
							return err
						}
						_, err := tx.Exec(ctx, "UPDATE tally SET n = ? WHERE name = 'b'", -(a + 1))
						if err != nil {
							return err
						}
						_, err = tx.Exec(ctx, "UPDATE tally SET n = ? WHERE name = 'a'", a+1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if a, b := tally(t, d, "a"), tally(t, d, "b"); a != workers*each || b != -workers*each {
			t.Errorf("tallies are %d and %d, want %d and %d", a, b, workers*each, -workers*each)
		}
	})
}

func TestFailedTransactionLeavesNothing(t *testing.T) {
	dbtest.Each(t, modules(), func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		boom := errors.New("boom")
		ran := 0
		bump := func(tx *db.Tx) {
			tx.AfterCommit(func() { ran++ })
			if _, err := tx.Exec(ctx, "UPDATE tally SET n = n + 1"); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Tx(ctx, func(tx *db.Tx) error { bump(tx); return boom }); !errors.Is(err, boom) {
			t.Errorf("error is %v, want boom", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = d.Tx(ctx, func(tx *db.Tx) error { bump(tx); panic("boom") })
		}()
		if n := tally(t, d, "a"); n != 0 || ran != 0 {
			t.Errorf("after failures: tally %d, %d after-commit functions ran", n, ran)
		}
		if err := d.Tx(ctx, func(tx *db.Tx) error { bump(tx); return nil }); err != nil {
			t.Error(err)
		}
		if n := tally(t, d, "a"); n != 1 || ran != 1 {
			t.Errorf("after one commit: tally %d, %d after-commit functions ran", n, ran)
		}
	})
}

func TestViewSeesOneStateAndCannotWrite(t *testing.T) {
	dbtest.Each(t, modules(), func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		err := d.View(ctx, func(tx *db.Tx) error {
			read := func() (n int64) {
				if err := tx.QueryRow(ctx, "SELECT n FROM tally WHERE name = 'a'").Scan(&n); err != nil {
					t.Error(err)
				}
				return n
			}
			before := read()
			if err := d.Tx(ctx, func(tx *db.Tx) error { // a writer does not wait for a reader
				_, err := tx.Exec(ctx, "UPDATE tally SET n = n + 1")
				return err
			}); err != nil {
				t.Error(err)
			}
			if after := read(); after != before {
				t.Errorf("a view saw %d, then %d", before, after)
			}
			if _, err := tx.Exec(ctx, "UPDATE tally SET n = 99"); err == nil {
				t.Error("a view wrote")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if n := tally(t, d, "a"); n != 1 {
			t.Errorf("tally is %d, want 1", n)
		}
	})
}

func TestNotifyWakesAfterCommit(t *testing.T) {
	dbtest.Each(t, modules(), func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wake, stop := d.Listen("jobs")
		defer stop()
		other, stopOther := d.Listen("other")
		stopOther()
		var seen int64
		received := make(chan struct{})
		go func() {
			defer close(received)
			for seen == 0 { // the first wake-up may have no cause
				select {
				case <-wake:
					seen = tally(t, d, "a")
				case <-ctx.Done():
					return
				}
			}
		}()
		err := d.Tx(ctx, func(tx *db.Tx) error {
			d.Notify(ctx, tx, "jobs")
			d.Notify(ctx, tx, "other")
			_, err := tx.Exec(ctx, "UPDATE tally SET n = 7")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		<-received
		if seen != 7 {
			t.Error("the commit woke nobody")
		}
		select {
		case <-other:
			t.Error("woken after the listener had stopped")
		default:
		}
	})
}

func TestNewerStateIsRefused(t *testing.T) {
	for _, dialect := range []string{db.SQLite, db.Postgres} {
		t.Run(dialect, func(t *testing.T) {
			dsn := dbtest.DSN(t, dialect)
			one, two := "CREATE TABLE one (id {{id}});", "CREATE TABLE two (id {{id}});"
			d := dbtest.Open(t, dsn, module("m", one, two))
			if err := d.Migrate(t.Context(), module("m", one, two)); err != nil {
				t.Errorf("migrating again: %v", err)
			}
			err := d.Migrate(t.Context(), module("other", "CREATE TABLE three (id {{id}});"), module("m", one))
			if !errors.Is(err, db.ErrNewer) || holdfast.Hint(err) == "" {
				t.Errorf("error is %v (hint %q), want ErrNewer with a hint", err, holdfast.Hint(err))
			}
			err = d.View(t.Context(), func(tx *db.Tx) error {
				return tx.QueryRow(t.Context(), "SELECT count(*) FROM three").Scan(new(int))
			})
			if err == nil {
				t.Error("a refused migration changed another module")
			}
		})
	}
}

func TestServersMigrateOneAtATime(t *testing.T) {
	dsn := dbtest.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { dbtest.Open(t, dsn, notes) })
	}
	wg.Wait()
}

// Two processes on one SQLite file, as far as the file can tell: each DB has its
// own connections.
func TestSecondProcessOnSQLite(t *testing.T) {
	dsn := dbtest.DSN(t, db.SQLite)
	a, b := dbtest.Open(t, dsn, notes), dbtest.Open(t, dsn, notes)
	var wg sync.WaitGroup
	for _, d := range []*db.DB{a, b} {
		wg.Go(func() {
			for range 20 {
				if err := d.Tx(t.Context(), func(tx *db.Tx) error {
					var n int64
					if err := tx.QueryRow(t.Context(), "SELECT n FROM tally WHERE name = 'a'").Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), "UPDATE tally SET n = ? WHERE name = 'a'", n+1)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := tally(t, a, "a"); n != 40 {
		t.Errorf("tally is %d, want 40", n)
	}
}

func TestSQLiteSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#% name.db")
	d := dbtest.Open(t, "sqlite:"+path, notes)
	want := map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"}
	if err := d.Tx(t.Context(), func(tx *db.Tx) error {
		for name, w := range want {
			var got string
			if err := tx.QueryRow(t.Context(), "PRAGMA "+name).Scan(&got); err != nil {
				return err
			}
			if got != w {
				t.Errorf("%s is %s, want %s", name, got, w)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%q has mode %v, want 0600", suffix, info.Mode())
		}
	}
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	if err := os.WriteFile(junk, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ dsn, want string }{
		{"mysql://x", `"mysql"`},
		{"sqlite:", "needs a file"},
		{"sqlite::memory:", "needs a file"},
		{"sqlite:" + filepath.Join(dir, "no", "such.db"), "no such file"},
		{"sqlite:" + junk, "not a database"},
		{"postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=5", "127.0.0.1"},
		{"postgres://u:hunter2@:::/x", ""},
	}
	for _, tt := range tests {
		d, err := db.Open(t.Context(), tt.dsn)
		if err == nil {
			d.Close()
			t.Errorf("%s opened", tt.dsn)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || holdfast.Hint(err) == "" {
			t.Errorf("%s: error %q (hint %q), want %q and a hint", tt.dsn, err, holdfast.Hint(err), tt.want)
		}
		if strings.Contains(err.Error()+holdfast.Hint(err), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestMigrationErrorNamesTheModule(t *testing.T) {
	dbtest.Each(t, nil, func(t *testing.T, d *db.DB) {
		err := d.Migrate(t.Context(), module("broken", "CREATE TABLE one (id {{id}}); CREATE NONSENSE;"))
		if err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("error is %v, want one that names the module", err)
		}
		if err := d.Migrate(t.Context(), module("broken", "CREATE TABLE one (id {{id}});")); err != nil {
			t.Errorf("the mended migration: %v", err) // the broken one left nothing
		}
		if err := d.Migrate(t.Context(), db.Module{Name: "No; DROP", Migrations: fs.FS(fstest.MapFS{})}); err == nil {
			t.Error("a module may be called anything")
		}
	})
}

// A connection that breaks around the commit leaves the outcome open, and the
// error must not call that a failure.
func TestUnknownOutcome(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), notes)
	ctx := t.Context()
	runs, after := 0, 0
	err := d.Tx(ctx, func(tx *db.Tx) error {
		runs++
		tx.AfterCommit(func() { after++ })
		var pid int64
		if err := tx.QueryRow(ctx, "UPDATE tally SET n = n + 1 WHERE name = 'a' RETURNING pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		return d.View(ctx, func(tx *db.Tx) error {
			return tx.QueryRow(ctx, "SELECT pg_terminate_backend(CAST(? AS INT), 10000)", pid).Scan(new(bool))
		})
	})
	if !errors.Is(err, db.ErrUnknownOutcome) || runs != 1 || after != 0 {
		t.Errorf("error %v after %d runs, %d after-commit functions", err, runs, after)
	}
	if n := tally(t, d, "a"); n != 0 {
		t.Errorf("tally is %d", n)
	}
}

func TestListenerComesBack(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), notes)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wake, stop := d.Listen("jobs")
	defer stop()
	for range 3 {
		select { // a new connection wakes everybody once
		case <-wake:
		case <-ctx.Done():
			t.Fatal("no connection listens")
		}
		err := d.View(ctx, func(tx *db.Tx) error {
			var n int
			err := tx.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'holdfast-listen' AND datname = current_database()").Scan(&n)
			if err == nil && n != 1 {
				err = fmt.Errorf("%d connections listen", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
