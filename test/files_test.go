package test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// snapshotsOf lists the snapshots of uploads that a location holds.
func (w workspace) snapshotsOf(t *testing.T, location string) (ids []string) {
	t.Helper()
	var v struct {
		Windows []struct{ Location, Snapshot string }
	}
	w.run(t, "points", "uploads", "--json").object(t, &v)
	for _, x := range v.Windows {
		if x.Location == location {
			ids = append(ids, x.Snapshot)
		}
	}
	return ids
}

func TestFiles(t *testing.T) {
	t.Parallel()
	t.Run("BKP-21 killed at any moment, every listed point restores", func(t *testing.T) {
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		r := rand.New(rand.NewPCG(21, 50))
		blob := make([]byte, 3<<20)
		killed := 0
		for n := range 50 {
			_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(blob)
			write(t, filepath.Join(w.uploads, fmt.Sprintf("blob-%d", n%8)), string(blob), 0o644)
			write(t, filepath.Join(w.uploads, "round"), fmt.Sprint(n), 0o644)
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+r.IntN(400))*time.Millisecond)
			cmd := exec.CommandContext(ctx, binary, "--dir", w.dir, "backup", "uploads") // killed by SIGKILL when ctx ends
			cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=")
			if err := cmd.Run(); err != nil && ctx.Err() != nil {
				killed++
			}
			cancel()
		}
		if killed < 10 {
			t.Errorf("only %d of 50 backups were killed", killed)
		}
		want := treeOf(t, w.uploads)
		w.run(t, "backup", "uploads").want(t, 0)
		for _, location := range []string{"near", "offsite"} {
			ids := w.snapshotsOf(t, location)
			if len(ids) == 0 {
				t.Errorf("%s lists nothing", location)
			}
			for i, id := range ids {
				to := filepath.Join(w.root, "back")
				w.run(t, "restore", "uploads", "--to", to, "--location", location, "--snapshot", id).want(t, 0)
				if i == len(ids)-1 {
					want.unchanged(t, to)
				}
				if err := os.RemoveAll(to); err != nil {
					t.Fatal(err)
				}
			}
		}
	})

	t.Run("BKP-19 a live database is consistent, or labelled", func(t *testing.T) {
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		d, err := sql.Open("sqlite", filepath.Join(w.uploads, "ledger.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.SetMaxOpenConns(1)
		for _, q := range []string{"CREATE TABLE entry (n INTEGER PRIMARY KEY, debit INTEGER, credit INTEGER, note TEXT)", "INSERT INTO entry VALUES (0, 0, 0, '')"} {
			if _, err := d.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		wrote := make(chan error, 1)
		go func() { // pairs of a debit and a credit, each pair in one transaction
			for ctx.Err() == nil {
				tx, err := d.Begin()
				for _, pair := range [][2]int{{7, 0}, {0, 7}} {
					if err == nil {
						_, err = tx.Exec("INSERT INTO entry (debit, credit, note) VALUES (?, ?, ?)", pair[0], pair[1], strings.Repeat("x", 3000))
					}
				}
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					wrote <- err
					return
				}
			}
			wrote <- nil
		}()
		// A copy of a server's files, taken while it runs.
		live := shared.get(t)
		copied := filepath.Join(w.uploads, "pgdata")
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(live.dir, "data"), copied).CombinedOutput(); err != nil {
			if _, serr := os.Stat(filepath.Join(copied, "postmaster.pid")); serr != nil { // files may vanish meanwhile
				t.Fatalf("%v: %s", err, out)
			}
		}
		for round := range 3 {
			w.run(t, "backup", "uploads").want(t, 0)
			to := filepath.Join(w.root, fmt.Sprint("back", round))
			w.run(t, "restore", "uploads", "--to", to, "--path", "ledger.db").want(t, 0)
			back, err := sql.Open("sqlite", filepath.Join(to, "ledger.db"))
			if err != nil {
				t.Fatal(err)
			}
			var debits, credits, rows int
			var verdict string
			err = errors.Join(back.QueryRow("SELECT sum(debit), sum(credit), count(*) FROM entry").Scan(&debits, &credits, &rows),
				back.QueryRow("PRAGMA integrity_check").Scan(&verdict), back.Close())
			if err != nil || debits != credits || rows%2 != 1 || verdict != "ok" {
				t.Errorf("debits %d, credits %d, %d rows, integrity %q, %v", debits, credits, rows, verdict, err)
			}
		}
		stop()
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		var v struct{ Labels map[string]string }
		w.run(t, "ls", "uploads", "--json").want(t, 0).object(t, &v)
		if v.Labels["sqlite_databases"] != "1" || v.Labels["crash_consistent"] != "1" {
			t.Errorf("labels: %v", v.Labels)
		}
		if e := w.run(t, "ls", "uploads").want(t, 0); !strings.Contains(e.out, "crash-consistent") {
			t.Errorf("nobody is told: %v", e)
		}
		// It counts for the folder, and for no database: a database whose only copy
		// is in the folder has no recovery point.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "stores:\n", "stores:\n  db:\n    kind: postgres\n    tier: critical\n    owner: technical_lead\n    postgres: {dsn: \"host=127.0.0.1 port=1 user=x dbname=x\"}\n    protect: folder\n", 1)
		})
		if e := w.run(t, "points", "db"); e.status != 3 || !strings.Contains(e.out, "no location holds a recovery point") {
			t.Errorf("the file copy counts for the database: %v", e)
		}
	})

	t.Run("look, search, part, in place, export", func(t *testing.T) {
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		write(t, filepath.Join(w.uploads, "a/b/one.txt"), "one", 0o640)
		write(t, filepath.Join(w.uploads, "a/two.txt"), "two", 0o644)
		first := treeOf(t, w.uploads)
		w.run(t, "backup", "uploads").want(t, 0)
		id := w.snapshotsOf(t, "near")[0]
		if err := errors.Join(os.RemoveAll(filepath.Join(w.uploads, "a/b")), os.WriteFile(filepath.Join(w.uploads, "a/two.txt"), []byte("two, changed"), 0o644)); err != nil {
			t.Fatal(err)
		}
		w.run(t, "backup", "uploads").want(t, 0)
		var found struct{ Versions []struct{ Path string } }
		w.run(t, "find", "uploads", "*.txt", "--json").want(t, 0).object(t, &found)
		if len(found.Versions) != 4 { // a.txt, one.txt, and two states of two.txt
			t.Errorf("found %+v", found.Versions)
		}
		archive := filepath.Join(w.root, "x.tar")
		w.run(t, "export", "uploads@"+id, "--to", archive).want(t, 0)
		out := filepath.Join(w.root, "untarred")
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.CommandContext(t.Context(), "tar", "-xpf", archive, "-C", out).CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, text)
		}
		first.unchanged(t, out)
		var r struct{ Aside string }
		w.run(t, "restore", "uploads", "--to", w.uploads, "--in-place", "--snapshot", id, "--json").want(t, 0).object(t, &r)
		if b, err := os.ReadFile(filepath.Join(r.Aside, "a/two.txt")); err != nil || !bytes.Equal(b, []byte("two, changed")) {
			t.Errorf("what was replaced is not in %q: %q, %v", r.Aside, b, err)
		}
		if err := os.RemoveAll(r.Aside); err != nil {
			t.Fatal(err)
		}
		first.unchanged(t, w.uploads)

		// The mount ends when it is asked to, and leaves nothing in the mount table.
		at := filepath.Join(w.root, "mnt")
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), binary, "--dir", w.dir, "mount", "uploads@"+id, at, "--purpose", "test")
		cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "the mount to show a.txt", func() bool { _, err := os.Stat(filepath.Join(at, "a.txt")); return err == nil })
		first.unchanged(t, at)
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, said.String())
		}
		if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), at) {
			t.Errorf("%s is still mounted, %v", at, err)
		}
	})
}
