package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/source"
)

// withoutLogs is a copy of a location in which the whole log was destroyed: pieces,
// histories, and what says that nothing was written.
func (v *vault) withoutLogs(t *testing.T) *vault {
	t.Helper()
	c := v.copy(t)
	if err := os.RemoveAll(filepath.Join(c.path, "logs")); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever becomes of the log, a base comes back to its own end: with the log that was
// written while its files were copied, and with no byte behind it.
func TestBaseHoldsItsLog(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	// The server keeps no log beyond what a slot holds, and a checkpoint takes the rest.
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "0", "max_wal_size", "32MB", "autovacuum", "off"))
	var err error
	// The copy takes some seconds: the writer below gets its turn.
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true, MaxRate: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	insert(t, st.server, 100)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := st.server.Query(t.Context(), "INSERT INTO t (v) SELECT repeat('x', 1000) FROM generate_series(1, 2000)"); err != nil {
				written <- err
				return
			}
			if _, err := st.server.Query(t.Context(), "CHECKPOINT"); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	base := st.vault.snapshot(t, st.source)
	cancel()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if got := mustValue(t, st.server, "SELECT count(*) FROM pg_replication_slots"); got != "0" {
		t.Errorf("%s slots are left", got)
	}
	b, ok, err := readBase(base)
	if err != nil || !ok || !b.ownLog {
		t.Fatal(base.Labels, err)
	}
	if n := len(b.own()); n < 2 || b.own()[n-1].End != b.stop {
		t.Fatalf("%d pieces of own log from %s to %s: the test is to see more than one", n, FormatLSN(b.start), FormatLSN(b.stop))
	}
	windows, err := Points(t.Context(), st.vault.repo, "db")
	if err != nil || len(windows) != 1 || windows[0].Hole != baseOnly || !windows[0].From.Equal(b.stopTime) || !windows[0].To.Equal(b.stopTime.Truncate(time.Microsecond)) {
		t.Errorf("points %+v, %v", windows, err)
	}
	for _, target := range []holdfast.TargetKind{holdfast.TargetLatest, holdfast.TargetImmediate} {
		_, s, stats := st.run(t, st.restore(st.vault, holdfast.Target{Kind: target}))
		if lsn, err := ParseLSN(stats.Reached); err != nil || lsn < b.stop {
			t.Errorf("%s: reached %s, and the base ends at %s", target, stats.Reached, FormatLSN(b.stop))
		}
		// Whole transactions, in order, and the copy's own are among them.
		if got := mustValue(t, s, "SELECT count(*) > 100 AND (count(*) - 100) % 2000 = 0 AND count(*) = count(DISTINCT id) FROM t"); got != "t" {
			t.Errorf("%s: %s rows came back", target, mustValue(t, s, "SELECT count(*) FROM t"))
		}
	}
	behind := holdfast.Target{Kind: holdfast.TargetTime, Time: b.stopTime.Add(time.Hour)}
	var we *WindowError
	if _, err := Plan(t.Context(), st.restore(st.vault, behind)); !errors.As(err, &we) {
		t.Errorf("an instant behind the base: %v", err)
	}
}

// A base that was made before bases held their log is judged by the shipped log alone.
func TestBaseWithoutItsLog(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true}); err != nil {
		t.Fatal(err)
	}
	w := st.vault.writer(t)
	defer w.Abort()
	if err := st.source.Snapshot(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	w.SetLabel(LabelOwnLog, "")
	if _, _, err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ge *GapError
	if _, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetImmediate})); !errors.As(err, &ge) {
		t.Errorf("got %v, want a *GapError", err)
	}
	windows, err := Points(t.Context(), st.vault.repo, "db")
	if err != nil || len(windows) != 1 || !windows[0].From.IsZero() || !strings.Contains(windows[0].Hole, "cannot be restored") {
		t.Errorf("points %+v, %v", windows, err)
	}
}

// Of a later timeline the base holds the history, too.
func TestBaseOfLaterTimelineAlone(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	st.promote(t)
	insert(t, st.server, 10)
	st.base = st.vault.snapshot(t, st.source)
	p, s, stats := st.run(t, st.restore(st.vault.withoutLogs(t), holdfast.Target{Kind: holdfast.TargetLatest}))
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != "10" || p.Timeline != 2 || stats.Timeline != 3 {
		t.Errorf("%s rows on timeline %d, then %d", got, p.Timeline, stats.Timeline)
	}
}

// The base is not made when its log cannot be: no lost connection, and no server
// without room, ends in a base that only looks whole.
func TestBaseWhoseLogFails(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off", "max_wal_senders", "2", "max_replication_slots", "1"))
	src, err := New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true, MaxRate: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	attempt := func() error {
		w := st.vault.writer(t)
		defer w.Abort()
		return src.Snapshot(t.Context(), w, nil)
	}
	t.Run("its connection is lost", func(t *testing.T) {
		ended := make(chan error, 1)
		go func() { ended <- attempt() }()
		eventually(t, "the log is read", func() error {
			got, err := st.server.Value(t.Context(), "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_replication WHERE application_name LIKE '%\\_base\\_%' AND state = 'streaming'")
			if err == nil && got != "t" {
				err = errors.New("nobody reads it")
			}
			return err
		})
		if err := <-ended; err == nil {
			t.Error("the base ended well")
		}
		eventually(t, "slot and senders are gone", func() error {
			got, err := st.server.Value(t.Context(), "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')")
			if err == nil && got != "0" {
				err = fmt.Errorf("%s are there", got)
			}
			return err
		})
	})
	t.Run("the server has no slot to spare", func(t *testing.T) {
		mustQuery(t, st.server, "SELECT pg_create_physical_replication_slot('taken')")
		src.cfg.MaxRate = 0
		base := st.vault.snapshot(t, src)
		if b, _, err := readBase(base); err != nil || !b.ownLog {
			t.Errorf("labels %v, %v", base.Labels, err)
		}
	})
	t.Run("the server has no sender to spare", func(t *testing.T) {
		c, err := src.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if err := attempt(); sqlState(err) != stateTooManyConns {
			t.Errorf("got %v", err)
		}
	})
}

// Without a stream the base is made, kept and no success; where nobody asked for the log,
// it is all that was asked for.
func TestBaseWithoutStream(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off"))
	for _, noLog := range []bool{false, true} {
		s, err := Open(StoreConfig{Config: Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true}, NoLog: noLog})
		if err != nil {
			t.Fatal(err)
		}
		s.within = time.Millisecond
		v := newVault(t)
		w := v.writer(t)
		defer w.Abort()
		if err := s.Snapshot(t.Context(), w, nil); noLog != (err == nil) || err != nil && (!errors.Is(err, source.ErrIncomplete) || holdfast.Hint(err) == "") {
			t.Errorf("no log asked for %t: %v", noLog, err)
		}
		if _, _, err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		ws, err := s.Windows(t.Context(), v.repo)
		if err != nil || len(ws) != 1 || (ws[0].Hole == "") != noLog {
			t.Errorf("no log asked for %t: %+v, %v", noLog, ws, err)
		}
	}
}

func TestWithOwn(t *testing.T) {
	b := base{manifest: &repo.Manifest{Scope: "db"}, lineage: "1", timeline: 1, segmentSize: 1 << 20, start: 5<<20 + 40, stop: 9<<20 + 7, ownLog: true}
	var got []string
	for _, l := range withOwn(map[uint32][]repo.LogInfo{1: {
		{Name: "before", Start: 4 << 20, End: 5 << 20}, {Name: "inside", Start: 5 << 20, End: 6 << 20}, {Name: "across", Start: 9 << 20, End: 10 << 20}, {Name: "behind", Start: 10 << 20, End: 11 << 20},
	}}, b)[1] {
		got = append(got, fmt.Sprintf("%s %x-%x", l.Name, l.Start, l.End))
	}
	want := []string{"before 400000-500000", " 500000-800000", " 800000-900007", "across 900000-a00000", "behind a00000-b00000"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.ownLog = false
	if b.own() != nil {
		t.Error("a base without its own log lists some")
	}
}
