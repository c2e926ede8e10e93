//go:build linux

package files

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "modernc.org/sqlite"
)

// A ledger is a database whose balances sum to zero in every committed state.
func ledger(t *testing.T, path, mode string) *sql.DB {
	t.Helper()
	d, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode("+mode+")")
	must(t, err)
	t.Cleanup(func() { d.Close() })
	d.SetMaxOpenConns(1)
	_, err = d.Exec("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT)")
	must(t, err)
	for i := range 400 {
		_, err = d.Exec("INSERT INTO account VALUES (?, 0, ?)", i, strings.Repeat("n", 2000))
		must(t, err)
	}
	return d
}

// transfer moves money until ctx ends, many pages at a time.
func transfer(ctx context.Context, d *sql.DB, done *atomic.Int64) error {
	for n := 0; ctx.Err() == nil; n++ {
		tx, err := d.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return err
		}
		for i := range 20 {
			sign := 1 - 2*(i%2)
			if _, err := tx.Exec("UPDATE account SET balance = balance + ?, note = ? WHERE id = ?", sign*(n/2*2+7), fmt.Sprint(n)+strings.Repeat("m", 1990), (n*37+i*19)%400); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		done.Add(1)
	}
	return nil
}

// A database of SQLite that is written to all the time comes back whole, as of one
// committed state, in each of its modes.
func TestSQLiteInUseIsCopiedWhole(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			b := newBench(t)
			b.write("other", "x")
			d := ledger(t, b.path("app.db"), mode)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var committed atomic.Int64
			wg.Go(func() {
				if err := transfer(ctx, d, &committed); err != nil {
					t.Error(err)
				}
			})
			for round := range 4 {
				for at := committed.Load(); committed.Load() < at+3; { // it is being written to
				}
				m, report, _, err := b.snapshot(b.source(Config{TempDir: t.TempDir()}))
				must(t, err)
				// Between two transactions a database without a lasting log is a file like others.
				atRest := mode == "DELETE" && report.Databases == 0 && report.Changed == 0
				if !atRest && (report.Databases != 1 || m.Labels[LabelDatabases] != "1") || report.CrashConsistent != 0 {
					t.Errorf("round %d: %+v, labels %v", round, report, m.Labels)
				}
				back := b.restore(m)
				for _, log := range sqliteLogs {
					if _, err := os.Stat(filepath.Join(back, "app.db"+log)); err == nil && mode == "WAL" {
						t.Errorf("app.db%s came back: what it holds is in the database", log)
					}
				}
				r, err := sql.Open("sqlite", filepath.Join(back, "app.db"))
				must(t, err)
				var sum, rows int
				var verdict string
				must(t, r.QueryRow("SELECT sum(balance), count(*) FROM account").Scan(&sum, &rows))
				must(t, r.QueryRow("PRAGMA integrity_check").Scan(&verdict))
				must(t, r.Close())
				if sum != 0 || rows != 400 || verdict != "ok" {
					t.Errorf("round %d: balances sum to %d in %d rows, integrity %q", round, sum, rows, verdict)
				}
			}
			stop()
			wg.Wait()
		})
	}
}

// A transaction that begins after the directory was listed is not copied by half.
func TestSQLiteJournalThatComesLate(t *testing.T) {
	b := newBench(t)
	d := ledger(t, b.path("app.db"), "DELETE")
	src := b.source(Config{TempDir: t.TempDir()})
	var tx *sql.Tx
	src.reading = func(path string) {
		if path != "app.db" || tx != nil {
			return
		}
		var err error
		tx, err = d.BeginTx(context.Background(), nil)
		must(t, err)
		_, err = tx.Exec("UPDATE account SET balance = 1 WHERE id = 1") // the journal is there from now on
		must(t, err)
	}
	_, report, _, err := b.snapshot(src)
	must(t, err)
	if tx == nil || report.Databases != 1 {
		t.Errorf("a database in the middle of a transaction was copied as a file: %+v", report)
	}
	must(t, tx.Rollback())
}

// What cannot be copied so, and what other engines leave, is copied and labelled.
func TestOtherDatabasesAreLabelled(t *testing.T) {
	b := newBench(t)
	b.write("fake.db", sqliteMagic+strings.Repeat("no database", 100))
	b.write("fake.db-shm", "x")
	b.write("pg/PG_VERSION", "15\n")
	b.write("pg/postmaster.pid", "1\n")
	b.write("mysql/ib_logfile0", "x")
	b.write("rest.db", sqliteMagic+"x")
	b.write("rest.db-wal", "left by a process that is gone")
	m, report, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	if report.CrashConsistent != 3 || m.Labels[LabelCrash] != "3" || report.Databases != 0 {
		t.Errorf("%+v, labels %v", report, m.Labels)
	}
	var named []string
	for _, p := range report.Problems {
		named = append(named, p.Path)
	}
	if !slices.Equal(named, []string{"fake.db", "mysql", "pg"}) {
		t.Errorf("named: %q", named)
	}
	e := b.entries(m)
	for _, name := range []string{"fake.db", "fake.db-shm", "rest.db", "rest.db-wal", "pg/postmaster.pid"} {
		if _, ok := e[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if _, err := os.Stat(b.path("rest.db-shm")); err == nil {
		t.Error("the walk left something in the directory")
	}
}
