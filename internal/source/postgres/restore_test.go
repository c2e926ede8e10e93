package postgres

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location/dir"
	"holdfast/internal/repo"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source/postgres/wal"
)

// A vault is one location with the keys of a test.
type vault struct {
	path   string
	repo   *repo.Repository
	ids    []seal.Identity
	keys   repo.LogKeys
	mac    seal.MACKey
	caches string
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{path: t.TempDir(), caches: t.TempDir(), mac: seal.NewMACKey()}
	for range 2 {
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		v.ids = append(v.ids, id)
		v.keys.Recipients = append(v.keys.Recipients, id.Recipient())
	}
	var err error
	if v.keys.Signer, err = seal.GenerateSigningKey("agent"); err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(v.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Init(t.Context(), store, repo.Settings{ID: "test", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if v.repo, err = repo.Open(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	return v
}

// copy returns a second location with the same objects.
func (v *vault) copy(t *testing.T) *vault {
	t.Helper()
	c := *v
	c.path = t.TempDir()
	if err := os.CopyFS(c.path, os.DirFS(v.path)); err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(c.path)
	if err != nil {
		t.Fatal(err)
	}
	if c.repo, err = repo.Open(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	return &c
}

func (v *vault) writer(t *testing.T) *repo.Writer {
	t.Helper()
	w, err := repo.NewWriter(t.Context(), repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: v.repo}}, Scope: "db", Kind: Kind, Recipients: v.keys.Recipients,
		Signer: v.keys.Signer, MAC: v.mac, CacheDir: v.caches,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// snapshot takes a base backup.
func (v *vault) snapshot(t *testing.T, src *Source) *repo.Manifest {
	t.Helper()
	w := v.writer(t)
	defer w.Abort()
	var last holdfast.Progress
	if err := src.Snapshot(t.Context(), w, func(p holdfast.Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Total == 0 || last.Done > last.Total {
		t.Errorf("the last progress was %+v", last)
	}
	m, copies, err := w.Finish(t.Context())
	if err != nil || len(copies) != 1 || copies[0].Err != nil {
		t.Fatal(copies, err)
	}
	return m
}

// ship stores the log of s from one position to another in pieces of odd sizes, as a
// stream would have: a piece never goes beyond what was whole.
func (v *vault) ship(t *testing.T, s *Server, tli uint32, from, to uint64, segment int64, created time.Time) {
	t.Helper()
	lineage := mustValue(t, s, "SELECT system_identifier FROM pg_control_system()")
	const size = 300_001
	piece := repo.LogPiece{Scope: "db", Lineage: lineage, Timeline: tli, Start: from, Created: created}
	w, err := wal.NewWalker(wal.Config{Start: wal.LSN(from), SegmentSize: segment, Record: func(r wal.Record) error {
		piece.LastRecord = uint64(r.End)
		if r.Kind == wal.Commit {
			piece.LastCommit = r.Commit
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for piece.Start < to {
		piece.End = min(piece.Start+size, to)
		data := readWAL(t, s.DataDir, tli, piece.Start, piece.End, segment)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := v.repo.PutLog(t.Context(), piece, data, v.keys); err != nil {
			t.Fatal(err)
		}
		piece.Start, piece.LastCommit = piece.End, time.Time{}
	}
}

func readWAL(t *testing.T, dataDir string, tli uint32, from, to uint64, segment int64) []byte {
	t.Helper()
	var out []byte
	for pos := from; pos < to; {
		segno := pos / uint64(segment)
		end := min(to, (segno+1)*uint64(segment))
		f, err := os.Open(filepath.Join(dataDir, "pg_wal", segmentName(tli, segno, segment)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(f, int64(pos%uint64(segment)), int64(end-pos)))
		if err := errors.Join(err, f.Close()); err != nil || len(b) != int(end-pos) {
			t.Fatal(len(b), err)
		}
		out = append(out, b...)
		pos = end
	}
	return out
}

// A moment is a state of the source that a restore can be held against.
type moment struct {
	rows string
	time time.Time
	lsn  string
	xid  string
}

func momentOf(t *testing.T, s *Server) moment {
	t.Helper()
	rows := mustQuery(t, s, "SELECT (SELECT count(*) FROM t), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, pg_current_wal_flush_lsn()")
	us, err := strconv.ParseInt(rows[0][1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return moment{rows: rows[0][0], time: time.UnixMicro(us), lsn: rows[0][2]}
}

// insert commits n rows, one by one, and returns the last transaction's id.
func insert(t *testing.T, s *Server, n int) string {
	t.Helper()
	var sql strings.Builder
	for range n {
		sql.WriteString("BEGIN; INSERT INTO t (v) VALUES (repeat('x', 1000)); COMMIT;\n")
	}
	mustQuery(t, s, sql.String())
	return mustValue(t, s, "SELECT max(xmin::text::bigint) FROM t")
}

const segment1M = 1 << 20

// A protected cluster with a base and log after it.
type story struct {
	box     *sandbox.Sandbox
	server  *Server
	source  *Source
	vault   *vault
	base    *repo.Manifest
	first   moment // right after the base
	middle  moment
	last    moment
	named   moment
	shipped time.Time
}

func tellStory(t *testing.T) *story {
	t.Helper()
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"},
		with(quick, "wal_keep_size", "512MB", "max_wal_senders", "10", "max_replication_slots", "10", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), UnboundedSlot: true}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE INDEX ON t (v)")
	insert(t, st.server, 300)
	// A base of a standby brings its role along; the restored server must not keep it.
	role := filepath.Join(st.server.DataDir, "standby.signal")
	if err := os.WriteFile(role, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := st.box.Own(role); err != nil {
		t.Fatal(err)
	}
	st.base = st.vault.snapshot(t, st.source)
	if err := os.Remove(role); err != nil {
		t.Fatal(err)
	}
	st.first = momentOf(t, st.server)
	insert(t, st.server, 700)
	st.middle = momentOf(t, st.server)
	insert(t, st.server, 100)
	mustQuery(t, st.server, "SELECT pg_create_restore_point('before release')")
	st.named = momentOf(t, st.server)
	st.named.xid = insert(t, st.server, 1)
	insert(t, st.server, 399)
	st.last = momentOf(t, st.server)
	from, err := ParseLSN(st.base.Labels[LabelStart])
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseLSN(st.last.lsn)
	if err != nil {
		t.Fatal(err)
	}
	st.shipped = time.Now()
	st.vault.ship(t, st.server, 1, SegmentStart(from, segment1M), to, segment1M, st.shipped)
	return st
}

var restores int

func (st *story) restore(v *vault, target holdfast.Target) Restore {
	restores++
	return Restore{
		Repo: v.repo, Scope: "db", Identities: v.ids[:1], Target: target, Dir: filepath.Join(st.box.Dir(), fmt.Sprintf("restore%d", restores)),
		Runner: st.box, Options: quick,
	}
}

// run does everything that a drill does up to the replay.
func (st *story) run(t *testing.T, r Restore) (*RestorePlan, *Server, ReplayStats) {
	t.Helper()
	p, err := Plan(t.Context(), r)
	if err != nil {
		t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	if _, err := p.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	checks, err := p.CompareManifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustPass(t, checks)
	s, stats, err := p.Replay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p, s, stats
}

func mustPass(t *testing.T, checks []holdfast.Check) {
	t.Helper()
	for _, c := range checks {
		if c.Outcome != holdfast.Passed {
			t.Errorf("%s %s: %s: %s", c.Rung, c.Name, c.Outcome, c.Detail)
		}
	}
}

func TestRestore(t *testing.T) {
	st := tellStory(t)
	t.Run("latest", st.testLatest)
	t.Run("targets", st.testTargets)
	t.Run("outside", st.testOutside)
	t.Run("pause", st.testPause)
	t.Run("gap", st.testGap)
	t.Run("damage", st.testDamage)
	t.Run("keys", st.testKeys)
	t.Run("points", st.testPoints)
	t.Run("signal files", st.testSignals)
	t.Run("compare", st.testCompare)
	t.Run("preflight", st.testPreflight)
}

func (st *story) testLatest(t *testing.T) {
	var stages []string
	r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	r.Progress = func(p holdfast.Progress) {
		if n := len(stages); n == 0 || stages[n-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
		if p.Done > p.Total {
			t.Errorf("progress %+v", p)
		}
	}
	p, s, stats := st.run(t, r)
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.last.rows {
		t.Errorf("%s rows came back of %s", got, st.last.rows)
	}
	if _, err := os.Lstat(filepath.Join(r.Dir, "standby.signal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the source's role came back: %v", err)
	}
	// A server that says that it replayed less has not reached the target.
	short := stats
	if err := p.confirm(t.Context(), s, uint64(p.goal.Record.End)-1, &short); err == nil {
		t.Error("a replay that ended below the target counts as one that reached it")
	}
	if !stats.Promoted || stats.Timeline != 2 || stats.LastCommit.IsZero() || stats.LastCommit.After(st.last.time) || stats.Reached < stats.Goal {
		t.Errorf("stats %+v", stats)
	}
	if strings.Join(stages, " ") != "fetch replay" {
		t.Errorf("stages %q", stages)
	}
	for setting, want := range map[string]string{"archive_mode": "off", "listen_addresses": "", "primary_conninfo": ""} {
		if got := mustValue(t, s, "SHOW "+setting); got != want {
			t.Errorf("%s = %q", setting, got)
		}
	}
	checks, err := Integrity(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	mustPass(t, checks)
	for _, c := range checks {
		t.Logf("%s: %s (%s)", c.Name, c.Detail, c.Duration)
	}
	v, err := Invariant(t.Context(), s.ConnString(), "SELECT max(id) - count(*) FROM t")
	if err != nil || v != int64(0) {
		t.Errorf("invariant: %v, %v", v, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func (st *story) testTargets(t *testing.T) {
	tests := []struct {
		name   string
		target holdfast.Target
		rows   string
	}{
		{"time", holdfast.Target{Kind: holdfast.TargetTime, Time: st.middle.time}, st.middle.rows},
		{"position", holdfast.Target{Kind: holdfast.TargetLSN, Value: st.middle.lsn}, st.middle.rows},
		{"time after the last commit", holdfast.Target{Kind: holdfast.TargetTime, Time: st.shipped}, st.last.rows},
		{"immediate", holdfast.Target{Kind: holdfast.TargetImmediate}, st.first.rows},
		{"name", holdfast.Target{Kind: holdfast.TargetName, Value: "before release"}, st.named.rows},
		{"transaction", holdfast.Target{Kind: holdfast.TargetXID, Value: st.named.xid}, add(t, st.named.rows, 1)},
		{"last position", holdfast.Target{Kind: holdfast.TargetLSN, Value: st.last.lsn}, st.last.rows},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, s, stats := st.run(t, st.restore(st.vault, tt.target))
			if got := mustValue(t, s, "SELECT count(*) FROM t"); got != tt.rows {
				t.Errorf("%s rows came back, want %s; stats %+v", got, tt.rows, stats)
			}
			if tt.target.Kind == holdfast.TargetTime && stats.LastCommit.After(tt.target.Time) {
				t.Errorf("the last commit is %s, after the target", stats.LastCommit)
			}
		})
	}
}

func add(t *testing.T, n string, d int) string {
	t.Helper()
	v, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(v + d)
}

func (st *story) testOutside(t *testing.T) {
	start, err := time.Parse(time.RFC3339Nano, st.base.Labels[LabelStartTime])
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []holdfast.Target{
		{Kind: holdfast.TargetTime, Time: start},
		{Kind: holdfast.TargetTime, Time: st.shipped.Add(time.Second)},
		{Kind: holdfast.TargetLSN, Value: "F/0"},
		{Kind: holdfast.TargetLSN, Value: st.base.Labels[LabelStart]},
	} {
		_, err := Plan(t.Context(), st.restore(st.vault, target))
		var we *WindowError
		if !errors.As(err, &we) || holdfast.Hint(err) == "" {
			t.Errorf("%s: got %v, want a *WindowError with a hint", target, err)
		}
	}
	// Only the server can find a name. When the log ends before, that is no success.
	p, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetName, Value: "no such point"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.Replay(t.Context())
	if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "the log ends before the target") {
		t.Errorf("got %v", err)
	}
	for _, target := range []holdfast.Target{{}, {Kind: holdfast.TargetTime}, {Kind: holdfast.TargetLSN, Value: "x"}, {Kind: holdfast.TargetName}} {
		if _, err := Plan(t.Context(), st.restore(st.vault, target)); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("target %+v: got %v", target, err)
		}
	}
}

func (st *story) testPause(t *testing.T) {
	r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLSN, Value: st.middle.lsn})
	r.Pause = true
	_, s, stats := st.run(t, r)
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.middle.rows || stats.Promoted {
		t.Errorf("%s rows, want %s; stats %+v", got, st.middle.rows, stats)
	}
	if _, err := s.Query(t.Context(), "INSERT INTO t (v) VALUES ('x')"); err == nil {
		t.Error("a paused server took a write")
	}
	if err := s.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, s, "INSERT INTO t (v) VALUES ('x')")
}

// pieces lists the files of the log pieces, in order.
func (v *vault) pieces(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Join(v.path, "logs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), "-") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

func (st *story) testGap(t *testing.T) {
	v := st.vault.copy(t)
	files := v.pieces(t)
	if len(files) < 5 {
		t.Fatalf("only %d pieces", len(files))
	}
	if err := os.Remove(files[len(files)-2]); err != nil {
		t.Fatal(err)
	}
	for _, target := range []holdfast.Target{
		{Kind: holdfast.TargetLatest},
		{Kind: holdfast.TargetLSN, Value: st.last.lsn},
	} {
		_, err := Plan(t.Context(), st.restore(v, target))
		var ge *GapError
		if !errors.As(err, &ge) || ge.To <= ge.From || holdfast.Hint(err) == "" {
			t.Errorf("%s: got %v, want a *GapError with a hint", target, err)
		}
	}
	_, s, _ := st.run(t, st.restore(v, holdfast.Target{Kind: holdfast.TargetImmediate}))
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.first.rows {
		t.Errorf("before the gap: %s rows, want %s", got, st.first.rows)
	}

	// With the log around its end gone, too, the base still comes back.
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Plan(t.Context(), st.restore(v, holdfast.Target{Kind: holdfast.TargetImmediate})); err != nil {
		t.Error(err)
	}
	windows, err := Points(t.Context(), v.repo, "db")
	if err != nil || len(windows) != 1 || windows[0].From.IsZero() || !strings.Contains(windows[0].Hole, "is missing") {
		t.Errorf("points %+v, %v", windows, err)
	}
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (st *story) testDamage(t *testing.T) {
	t.Run("log", func(t *testing.T) {
		v := st.vault.copy(t)
		files := v.pieces(t)
		flip(t, files[len(files)/2])
		p, err := Plan(t.Context(), st.restore(v, holdfast.Target{Kind: holdfast.TargetLatest}))
		if err == nil {
			_, err = p.Fetch(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), filepath.Base(files[len(files)/2])) {
			t.Errorf("a flipped byte in the log: %v", err)
		}
	})
	t.Run("files", func(t *testing.T) {
		v := st.vault.copy(t)
		packs, err := filepath.Glob(filepath.Join(v.path, "packs", "*", "*"))
		if err != nil || len(packs) == 0 {
			t.Fatal(packs, err)
		}
		flip(t, packs[0])
		p, err := Plan(t.Context(), st.restore(v, holdfast.Target{Kind: holdfast.TargetLatest}))
		if err == nil {
			_, err = p.Fetch(t.Context())
		}
		if err == nil {
			t.Error("a flipped byte in a pack went unnoticed")
		}
	})
	// What was fetched may be damaged before the server reads it.
	t.Run("shelf", func(t *testing.T) {
		p, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		segments, err := filepath.Glob(filepath.Join(p.shelfDir(), "0000*"))
		if err != nil || len(segments) < 2 {
			t.Fatal(segments, err)
		}
		flip(t, segments[1])
		_, _, err = p.Replay(t.Context())
		if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "its content has changed") {
			t.Errorf("got %v", err)
		}
	})
}

func (st *story) testKeys(t *testing.T) {
	stranger, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	r.Identities = []seal.Identity{stranger}
	if _, err := Plan(t.Context(), r); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("a stranger's key: %v", err)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused restore left a folder")
	}
	r = st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetImmediate})
	r.Identities = st.vault.ids[1:] // either recipient will do
	_, s, _ := st.run(t, r)
	mustQuery(t, s, "SELECT 1")
}

func (st *story) testPoints(t *testing.T) {
	windows, err := Points(t.Context(), st.vault.repo, "db")
	if err != nil || len(windows) != 1 {
		t.Fatal(windows, err)
	}
	w := windows[0]
	if w.Snapshot != st.base.ID || w.Bases != 1 || w.Hole != "" || w.Timeline != 1 || w.FromLSN != st.base.Labels[LabelStop] || w.ToLSN == "" {
		t.Errorf("window %+v", w)
	}
	if w.From.After(st.middle.time) || w.To.Before(st.last.time) {
		t.Errorf("window from %s to %s; the log ends at %s", w.From, w.To, st.last.time)
	}
	// Both ends of a window can be planned for.
	for _, at := range []time.Time{w.From, w.To} {
		if _, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetTime, Time: at})); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	v := st.vault.copy(t)
	files := v.pieces(t)
	if err := os.Remove(files[len(files)-2]); err != nil {
		t.Fatal(err)
	}
	windows, err = Points(t.Context(), v.repo, "db")
	if err != nil || len(windows) != 1 || !strings.Contains(windows[0].Hole, "is missing") || windows[0].ToLSN >= w.ToLSN {
		t.Errorf("with a gap: %+v, %v", windows, err)
	}
}

// A folder that a fetch left half-done must not open as a twin of production.
func (st *story) testSignals(t *testing.T) {
	p, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = StartServer(t.Context(), st.box, ServerConfig{BinDir: p.BinDir, DataDir: p.restore.Dir, Options: quick})
	if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "unfinished restore") {
		t.Errorf("a server on an unfinished restore: %v", err)
	}
	if _, err := p.Fetch(t.Context()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second fetch into the same folder: %v", err)
	}

	// With the folder out of the way the next attempt takes the old shelf away.
	if err := os.RemoveAll(p.restore.Dir); err != nil {
		t.Fatal(err)
	}
	again := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	again.Dir = p.restore.Dir
	_, s, _ := st.run(t, again)
	mustQuery(t, s, "SELECT 1")
	strange := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
	if err := os.MkdirAll(filepath.Join(strange.Dir+".wal", "holiday pictures"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err = Plan(t.Context(), strange)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a fetch beside somebody's folder: %v", err)
	}
}

func (st *story) testCompare(t *testing.T) {
	p, err := Plan(t.Context(), st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	written, err := p.CompareWritten(t.Context())
	if err != nil || len(written) != 1 {
		t.Fatal(written, err)
	}
	mustPass(t, written)
	// What was written is not what the server listed, and is not there as it should be.
	p.written["global/pg_control"].(*hashWitness).sum.Write([]byte{0})
	p.written["PG_VERSION"].(*hashWitness).size++
	if err := os.Truncate(filepath.Join(p.restore.Dir, "pg_hba.conf"), 1); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.restore.Dir, "pg_ident.conf")); err != nil {
		t.Fatal(err)
	}
	if written, err = p.CompareWritten(t.Context()); err != nil || len(written) != 1 {
		t.Fatal(written, err)
	}
	for _, want := range []string{"global/pg_control", "PG_VERSION", "pg_hba.conf", "pg_ident.conf", "4 of"} {
		if written[0].Outcome != holdfast.Failed || !strings.Contains(written[0].Detail, want) {
			t.Errorf("%s does not name %q: %s", written[0].Outcome, want, written[0].Detail)
		}
	}
	relations, err := filepath.Glob(filepath.Join(p.restore.Dir, "base", "*", "*"))
	if err != nil || len(relations) < 10 {
		t.Fatal(len(relations), err)
	}
	var biggest string
	var size int64
	for _, f := range relations {
		if info, err := os.Stat(f); err == nil && info.Size() > size {
			biggest, size = f, info.Size()
		}
	}
	flip(t, biggest)
	if err := os.WriteFile(filepath.Join(p.restore.Dir, "planted"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.restore.Dir, "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	checks, err := p.CompareManifest(t.Context())
	if err != nil || len(checks) != 1 {
		t.Fatal(checks, err)
	}
	name, _ := filepath.Rel(p.restore.Dir, biggest)
	for _, want := range []string{name, "planted", "PG_VERSION", "5 of"} {
		if checks[0].Outcome != holdfast.Failed || !strings.Contains(checks[0].Detail, want) {
			t.Errorf("%s does not name %q: %s", checks[0].Outcome, want, checks[0].Detail)
		}
	}
}

func (st *story) testPreflight(t *testing.T) {
	label := func(k, v string) *RestorePlan {
		m := *st.base
		m.Labels = maps.Clone(m.Labels)
		m.Labels[k] = v
		b, ok, err := readBase(&m)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		r := st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest})
		if err := r.defaults(); err != nil {
			t.Fatal(err)
		}
		return &RestorePlan{Base: st.base, Lineage: b.lineage, Timeline: 1, base: b, history: history{Timeline: 1}, restore: r}
	}
	p := label(LabelVersion, "12.4")
	if err := p.preflight(t.Context()); err == nil || !strings.Contains(holdfast.Hint(err), "postgresql-12") {
		t.Errorf("a missing major version: %v", err)
	}
	p = label(LabelVersion, fmt.Sprintf("%d.99", parseVersion(st.base.Labels[LabelVersion])/10000))
	if err := p.preflight(t.Context()); err == nil || !strings.Contains(err.Error(), "comes from") {
		t.Errorf("an older minor version: %v", err)
	}
	if acc, err := sandbox.Unprivileged(t.Context(), ""); err != nil {
		t.Fatal(err)
	} else if os.Geteuid() == 0 {
		p = label(LabelRole, "x")
		p.restore.Runner, p.restore.Dir = acc, filepath.Join(t.TempDir(), "data") // closed to everybody else
		var ce *sandbox.ClosedError
		if err := p.preflight(t.Context()); !errors.As(err, &ce) {
			t.Errorf("a folder that the server's account cannot enter: %v", err)
		}
	}
	p = label(LabelRole, "x")
	m := *p.Base
	m.Bytes = 1 << 60
	p.Base = &m
	if err := p.checkRoom(); err == nil || !strings.Contains(err.Error(), "MiB free") {
		t.Errorf("a small disk: %v", err)
	}
}

// A database in which nothing happens can be backed up and brought back.
func TestRestoreIdle(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "autovacuum", "off"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString()}); err != nil {
		t.Fatal(err)
	}
	st.base = st.vault.snapshot(t, st.source)
	from, err := ParseLSN(st.base.Labels[LabelStart])
	if err != nil {
		t.Fatal(err)
	}
	stop, err := ParseLSN(st.base.Labels[LabelStop])
	if err != nil {
		t.Fatal(err)
	}
	st.vault.ship(t, st.server, 1, SegmentStart(from, segment1M), stop, segment1M, time.Now())
	_, s, stats := st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
	mustQuery(t, s, "CREATE TABLE works ()")
	if !stats.LastCommit.IsZero() {
		t.Logf("last commit %s", stats.LastCommit)
	}
}
