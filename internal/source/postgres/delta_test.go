package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

// A data directory that went its own way becomes what the base holds, and little is
// written. A restore that is broken off leaves a directory that says so and that no server
// opens, and the next one ends what it began.
func TestDeltaRestore(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "autovacuum", "off", "wal_keep_size", "64MB"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t AS SELECT g AS id, repeat('x', 500) AS v FROM generate_series(1, 20000) g; CREATE TABLE dropped AS SELECT 1 AS a; CREATE TABLE still AS SELECT g FROM generate_series(1, 20000) g; SELECT count(*) FROM t")
	base := st.vault.snapshot(t, st.source)
	want := contents(t, st.server, "postgres")
	// A page here and there, a table less, one more, and one cut off.
	mustQuery(t, st.server, "UPDATE t SET v = 'wrong' WHERE id % 5000 = 1; DROP TABLE dropped; CREATE TABLE extra AS SELECT g FROM generate_series(1, 9000) g; TRUNCATE still")
	dir := st.server.DataDir
	restore := func(code string) Restore {
		r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetImmediate})
		r.Dir, r.Delta, r.RemoveExtra = dir, true, code
		return r
	}
	plan := func(r Restore) *RestorePlan {
		t.Helper()
		p, err := Plan(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	state := func() map[string]string {
		t.Helper()
		all := map[string]string{}
		if err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(name)
			all[name] = string(b)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	refused := func(name, say string, p *RestorePlan) {
		t.Helper()
		before := state()
		_, err := p.Fetch(t.Context())
		if !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", name, err)
		}
		after := state()
		for f := range before {
			if after[f] != before[f] {
				t.Errorf("%s: refused, and %q was changed", name, f)
			}
		}
	}

	if _, err := plan(restore("")).Delta(t.Context()); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), "a server works in it") {
		t.Errorf("a running server: %v", err)
	}
	if err := st.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := plan(restore("")).Delta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.Same < 500 || len(d.Differ) < 2 || len(d.Missing) == 0 || len(d.Extra) == 0 || d.Code == "" {
		t.Errorf("%d the same, differ %q, missing %q, extra %q, code %q", d.Same, d.Differ, d.Missing, d.Extra, d.Code)
	}
	refused("nobody saw the list", "would be removed", plan(restore("")))
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("of the administrator"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("the list is another by now", "would be removed", plan(restore(d.Code)))
	if d, err = plan(restore("")).Delta(t.Context()); err != nil || len(d.Extra) == 0 {
		t.Fatal(d, err)
	}

	// It is broken off when some of it is written.
	ctx, cancel := context.WithCancel(t.Context())
	r := restore(d.Code)
	r.Progress = func(p holdfast.Progress) {
		if p.Done > 1<<20 {
			cancel()
		}
	}
	if _, err := plan(r).Fetch(ctx); err == nil {
		t.Fatal("it was not broken off")
	}
	note, err := os.ReadFile(filepath.Join(dir, incompleteNote))
	if err != nil || !strings.Contains(string(note), `store "db"`) {
		t.Errorf("it says %q: %v", note, err)
	}
	if err := st.server.Start(t.Context()); err == nil {
		t.Error("a server opened a directory that is not complete")
	}
	d, err = plan(restore("")).Delta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := plan(restore(d.Code))
	stats, err := p.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.Kept < base.Bytes/2 {
		t.Errorf("%d of %d bytes were there already", stats.Kept, base.Bytes)
	}
	if _, err := os.Lstat(filepath.Join(dir, incompleteNote)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a complete directory says that it is not: %v", err)
	}
	checks, err := p.CompareManifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustPass(t, checks)
	if checks, err = p.CompareWritten(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPass(t, checks)
	s, _, err := p.Replay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	}()
	if got := contents(t, s, "postgres"); got != want {
		t.Errorf("came back as\n%s\nand not as\n%s", got, want)
	}

	t.Run("another cluster", func(t *testing.T) {
		other := newCluster(t, st.box, "other", nil, quick)
		if err := other.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := restore("")
		r.Dir = other.DataDir
		if _, err := plan(r).Delta(t.Context()); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), "it is cluster") {
			t.Error(err)
		}
	})
	t.Run("no data directory", func(t *testing.T) {
		r := restore("")
		r.Dir = filepath.Join(st.box.Dir(), "empty")
		if err := os.Mkdir(r.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := plan(r).Delta(t.Context()); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), "no data directory") {
			t.Error(err)
		}
	})
}
