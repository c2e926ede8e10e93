package postgres

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
)

// promote: the cluster goes on as its own standby, and is promoted.
func (st *story) promote(t *testing.T) {
	t.Helper()
	if err := st.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	signal := filepath.Join(st.server.DataDir, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := st.box.Own(signal); err != nil {
		t.Fatal(err)
	}
	if err := st.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.server.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A base of timeline 1 leads to timeline 2 after a failover, over the fork.
func TestRestoreAcrossFailover(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "512MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString()}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	insert(t, st.server, 50)
	st.base = st.vault.snapshot(t, st.source)
	insert(t, st.server, 1500)
	st.middle = momentOf(t, st.server)

	st.promote(t)
	text, err := os.ReadFile(filepath.Join(st.server.DataDir, "pg_wal", "00000002.history"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHistory(2, text)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, st.server, 1500)
	st.last = momentOf(t, st.server)

	from, _ := ParseLSN(st.base.Labels[LabelStart])
	fork := h.Parents[0].Switch
	to, err := ParseLSN(st.last.lsn)
	if err != nil {
		t.Fatal(err)
	}
	lineage := st.base.Labels[LabelSystem]
	st.vault.ship(t, st.server, 1, SegmentStart(from, segment1M), fork, segment1M, time.Now())
	second := SegmentStart(fork, segment1M)
	st.vault.ship(t, st.server, 2, second, to, segment1M, time.Now())

	latest := holdfast.Target{Kind: holdfast.TargetLatest}
	if _, err := Plan(t.Context(), st.restore(st.vault, latest)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "history of timeline 2") {
		t.Errorf("without the history: %v", err)
	}
	if err := st.vault.repo.PutNamed(t.Context(), "db", lineage, historyName(2), text, st.vault.keys); err != nil {
		t.Fatal(err)
	}
	t.Run("latest", func(t *testing.T) {
		p, s, stats := st.run(t, st.restore(st.vault, latest))
		if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.last.rows || p.Timeline != 2 || stats.Timeline != 3 {
			t.Errorf("%s rows, want %s; on timeline %d, then %d", got, st.last.rows, p.Timeline, stats.Timeline)
		}
	})
	t.Run("before the fork", func(t *testing.T) {
		_, s, stats := st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetTime, Time: st.middle.time}))
		if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.middle.rows || stats.Timeline != 3 {
			t.Errorf("%s rows, want %s; on timeline %d: 2 is taken", got, st.middle.rows, stats.Timeline)
		}
	})
	t.Run("points", func(t *testing.T) {
		windows, err := Points(t.Context(), st.vault.repo, "db")
		if err != nil || len(windows) != 1 || windows[0].Timeline != 2 || windows[0].Hole != "" {
			t.Errorf("%+v, %v", windows, err)
		}
	})
	t.Run("hole before the fork", func(t *testing.T) {
		v := st.vault.copy(t)
		if err := os.Remove(v.pieces(t)[2]); err != nil {
			t.Fatal(err)
		}
		var ge *GapError
		if _, err := Plan(t.Context(), st.restore(v, latest)); !errors.As(err, &ge) || ge.Timeline != 1 {
			t.Errorf("got %v", err)
		}
	})
}

// Limits that the source raises after the base neither stop nor freeze a recovery.
func TestRestoreRaisedLimits(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "512MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString()}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	st.base = st.vault.snapshot(t, st.source)
	if err := st.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.server.cfg.Options = with(st.server.cfg.Options, "max_connections", "150", "max_worker_processes", "20")
	if err := st.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, st.server, 20)
	st.last = momentOf(t, st.server)
	from, _ := ParseLSN(st.base.Labels[LabelStart])
	to, _ := ParseLSN(st.last.lsn)
	st.vault.ship(t, st.server, 1, SegmentStart(from, segment1M), to, segment1M, time.Now())
	for _, pause := range []bool{false, true} {
		r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
		r.Pause = pause
		_, s, stats := st.run(t, r)
		if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.last.rows {
			t.Errorf("pause %t: %s rows, want %s", pause, got, st.last.rows)
		}
		if want := map[bool]int{true: 1}[pause]; stats.Restarts != want {
			t.Errorf("pause %t: %d restarts, want %d", pause, stats.Restarts, want)
		}
	}
}

// A cluster whose configuration lies elsewhere, as distributions like it, comes back
// with its settings.
func TestRestoreForeignConfig(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	s := newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, quick)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(st.box.Dir(), "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
		if err := os.Rename(filepath.Join(s.DataDir, name), filepath.Join(etc, name)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(etc, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("work_mem = '7MB'\nsearch_path = '\"$user\", public, o''brien'\nmax_connections = 77\n"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), st.box.Own(etc)); err != nil {
		t.Fatal(err)
	}
	s.cfg.Options = with(quick, "config_file", filepath.Join(etc, "postgresql.conf"), "hba_file", filepath.Join(s.cfg.SocketDir, "hba.conf"))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.server = s
	if st.source, err = New(Config{Store: "db", ConnString: s.ConnString()}); err != nil {
		t.Fatal(err)
	}
	st.base = st.vault.snapshot(t, st.source)
	from, _ := ParseLSN(st.base.Labels[LabelStart])
	stop, _ := ParseLSN(st.base.Labels[LabelStop])
	st.vault.ship(t, s, 1, SegmentStart(from, segment1M), stop, segment1M, time.Now())
	_, up, _ := st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
	for name, want := range map[string]string{"work_mem": "7MB", "max_connections": "77", "search_path": `"$user", public, o'brien`} {
		if got := mustValue(t, up, "SHOW "+name); got != want {
			t.Errorf("%s came back as %q, want %q", name, got, want)
		}
	}
	if rules, err := os.ReadFile(filepath.Join(up.DataDir, "pg_hba.conf")); err != nil || !strings.Contains(string(rules), "local all all") {
		t.Errorf("access rules %q, %v", rules, err)
	}
	// A server on the restored rules accepts them.
	if err := up.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	up.cfg.Options = with(quick, "hba_file", filepath.Join(up.DataDir, "pg_hba.conf"), "ident_file", filepath.Join(up.DataDir, "pg_ident.conf"))
	if err := up.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The server's word on damaged pages keeps the copy, and keeps it from being chosen.
func TestSuspectBase(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString()}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	insert(t, st.server, 100)
	file := mustValue(t, st.server, "SELECT pg_relation_filepath('t')")
	if err := st.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(st.server.DataDir, file))
	if err := st.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.base = st.vault.snapshot(t, st.source)
	if !strings.Contains(st.base.Labels[LabelSuspect], "checksum") {
		t.Fatalf("labels %v", st.base.Labels)
	}
	from, _ := ParseLSN(st.base.Labels[LabelStart])
	stop, _ := ParseLSN(st.base.Labels[LabelStop])
	st.vault.ship(t, st.server, 1, SegmentStart(from, segment1M), stop, segment1M, time.Now())
	var we *WindowError
	if _, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})); !errors.As(err, &we) {
		t.Errorf("a suspect base was chosen: %v", err)
	}
	windows, err := Points(t.Context(), st.vault.repo, "db")
	if err != nil || len(windows) != 1 || !windows[0].From.IsZero() || !strings.Contains(windows[0].Hole, "suspect") {
		t.Errorf("points %+v, %v", windows, err)
	}
	// Named, it can be restored, and its damage is seen.
	r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	r.Snapshot = st.base.ID
	_, s, _ := st.run(t, r)
	checks, err := Integrity(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, c := range checks {
		if c.Outcome == holdfast.Failed {
			failed++
			t.Logf("%s: %s", c.Name, c.Detail)
		}
	}
	if failed < 2 {
		t.Errorf("the damage was seen by %d checks: %+v", failed, checks)
	}
}
