package matrix

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source/postgres"
)

// Tablespaces come back under the restored directory, and whatever a recovery does on
// the source's own host, the live folders stay as they are (PostgreSQL rules 31 and 48).
func TestTablespaces(t *testing.T) {
	each(t, thoroughly, func(t *testing.T, r row, _ bool) {
		g := newRig(t, r, []string{"-k", "--wal-segsize=1"}, quick)
		live := filepath.Join(g.box.Dir(), "live")
		folder := func(name string) string {
			t.Helper()
			dir := filepath.Join(live, name)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := g.box.Own(live); err != nil {
				t.Fatal(err)
			}
			return dir
		}
		g.sql("CREATE TABLESPACE fast LOCATION '" + folder("fast") + "'")
		g.sql("CREATE TABLESPACE empty LOCATION '" + folder("empty space") + "'")
		g.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text) TABLESPACE fast")
		g.insert(40)
		g.follow()
		m := g.base()
		if m.Labels[postgres.LabelTablespaces] == "" {
			t.Errorf("labels %v", m.Labels)
		}
		g.insert(20)
		g.sql("CREATE INDEX ON t (v) TABLESPACE empty; CHECKPOINT")
		before := g.now()
		want := g.one(content)
		// A checkpoint writes the last row down, so that the live folders rest.
		g.sql("CHECKPOINT")
		rest := fingerprint(t, live)
		got := g.restore(latest)
		if text := g.value(got, content); text != want {
			t.Errorf("%s came back, want %s", text, want)
		}
		dir := filepath.Join(g.box.Dir(), fmt.Sprintf("restore%d", g.restores))
		where := g.value(got, "SELECT coalesce(string_agg(pg_tablespace_location(oid), ','), '') FROM pg_tablespace WHERE spcname IN ('fast', 'empty')")
		for _, at := range strings.Split(where, ",") {
			if !strings.HasPrefix(at, dir+"/") {
				t.Errorf("a tablespace of the restored cluster lies at %q, outside of %q", at, dir)
			}
		}
		if err := got.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if now := fingerprint(t, live); now != rest {
			t.Errorf("the restore touched the live folders:\n%s\nwere\n%s", now, rest)
		}

		// A tablespace that the log creates would be created where the source has it.
		g.sql("CREATE TABLESPACE late LOCATION '" + folder("late") + "'")
		g.sql("CREATE TABLE late_rows TABLESPACE late AS SELECT 1 AS v")
		g.now()
		g.sql("CHECKPOINT")
		rest = fingerprint(t, live)
		req := g.request(latest)
		if r, err := g.store.Restore(t.Context(), req); !errors.Is(err, postgres.ErrTablespaceCreated) || holdfast.Hint(err) == "" {
			if err == nil {
				_ = r.Close(context.Background())
			}
			t.Errorf("a log with a new tablespace: %v", err)
		}
		if now := fingerprint(t, live); now != rest {
			t.Errorf("the refused restore touched the live folders:\n%s\nwere\n%s", now, rest)
		}
		got = g.restore(holdfast.Target{Kind: holdfast.TargetTime, Time: before.time})
		if text := g.value(got, content); text != before.content {
			t.Errorf("before the new tablespace: %s, want %s", text, before.content)
		}
		// The next base has it.
		g.base()
		g.insert(3)
		g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
		want = g.one(content)
		got = g.restore(latest)
		if text := g.value(got, content); text != want || g.value(got, "SELECT count(*) FROM late_rows") != "1" {
			t.Errorf("from the new base: %s, want %s", text, want)
		}
		if err := got.Close(t.Context()); err != nil {
			t.Error(err)
		}
		// What came back can be protected again, and come back from that.
		g.leave()
		if err := g.server.Kill(); err != nil {
			t.Fatal(err)
		}
		g.succeed(63 + 2)
	})
}

// fingerprint says what a folder holds.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(path, dir), info.Mode())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x", len(text), sha256.Sum256(text))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
