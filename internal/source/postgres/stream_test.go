package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/durable/durabletest"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source/postgres/wal"
)

// A memStore is a location in memory that can be told to fail.
type memStore struct {
	mu      sync.Mutex
	objects map[string][]byte
	down    error
	puts    int
	lands   bool // while down, a put lands all the same: the outcome is unknown
	short   bool // a piece of log that holds others is refused
}

func (m *memStore) Put(_ context.Context, name string, size int64, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil && !m.lands {
		return m.down
	}
	if m.short && m.holds(name) {
		return errors.New("this place takes no gathered pieces")
	}
	if int64(len(b)) != size {
		return fmt.Errorf("%d bytes, not %d", len(b), size)
	}
	if _, ok := m.objects[name]; ok {
		return fs.ErrExist
	}
	m.objects[name] = b
	m.puts++
	return m.down
}

// holds reports whether the piece of that name would hold another one. The caller holds
// mu.
func (m *memStore) holds(name string) bool {
	long, ok := repo.ParseLog(repo.Object{Name: name})
	for n := range m.objects {
		if l, is := repo.ParseLog(repo.Object{Name: n}); ok && is && n != name && l.Timeline == long.Timeline && l.Start >= long.Start && l.End <= long.End {
			return true
		}
	}
	return false
}

func (m *memStore) Get(_ context.Context, name string, off, n int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	b, ok := m.objects[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	b = b[min(off, int64(len(b))):]
	if n >= 0 && n < int64(len(b)) {
		b = b[:n]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memStore) List(_ context.Context, prefix string, fn func(repo.Object) error) error {
	m.mu.Lock()
	if m.down != nil {
		defer m.mu.Unlock()
		return m.down
	}
	var all []repo.Object
	for name, b := range m.objects {
		if strings.HasPrefix(name, prefix) {
			all = append(all, repo.Object{Name: name, Size: int64(len(b))})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b repo.Object) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range all {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

func (m *memStore) Delete(_ context.Context, name string) error { return errors.New("no deletes here") }

func (m *memStore) fail(err error, lands bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down, m.lands = err, lands
}

// A streamRig is a cluster, places and a stream that can be stopped and killed.
type streamRig struct {
	t      *testing.T
	c      *testCluster
	cfg    Config
	stream StreamConfig
	spool  *durabletest.FS
	stores map[string]*memStore
	id     seal.Identity

	src    *Source
	mu     sync.Mutex
	latest map[string]Frontier
	cancel context.CancelFunc
	done   chan error
}

func newStreamRig(t *testing.T, c *testCluster, places ...string) *streamRig {
	t.Helper()
	r := &streamRig{t: t, c: c, spool: durabletest.New(), stores: map[string]*memStore{}, latest: map[string]Frontier{}}
	var to []seal.Recipient
	for range 2 {
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		r.id, to = id, append(to, id.Recipient())
	}
	signer, err := seal.GenerateSigningKey("agent")
	if err != nil {
		t.Fatal(err)
	}
	r.stream.Keys = repo.LogKeys{Recipients: to, Signer: signer}
	r.stream.PieceEvery = 200 * time.Millisecond
	for _, name := range places {
		m := &memStore{objects: map[string][]byte{}}
		r.stores[name] = m
		if err := repo.Init(t.Context(), m, repo.Settings{ID: "00112233445566778899aabbccddeeff", Created: time.Now(), Recipients: []string{to[0].String(), to[1].String()}}); err != nil {
			t.Fatal(err)
		}
		rp, err := repo.Open(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		r.stream.Places = append(r.stream.Places, repo.Place{Name: name, Repo: rp})
	}
	r.cfg = Config{Store: "db", ConnString: c.connString("repl", "secret"), SpoolDir: "/spool", FS: r.spool}
	r.stream.Report = func(f Frontier) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.latest[f.Place] = f
	}
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *streamRig) start() {
	r.t.Helper()
	src, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.src = src
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	clear(r.latest)
	r.mu.Unlock()
	r.cancel, r.done = cancel, make(chan error, 1)
	go func() { r.done <- src.Stream(ctx, r.stream) }()
}

func (r *streamRig) stop() error {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	r.cancel = nil
	select {
	case err := <-r.done:
		return err
	case <-time.After(60 * time.Second):
		r.t.Fatal("the stream does not end")
		return nil
	}
}

// crash stops the stream as a power cut would: what was not synced is lost or torn.
func (r *streamRig) crash(seed uint64) {
	_ = r.stop()
	r.spool.Crash(seed)
}

func (r *streamRig) at(place string) Frontier {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest[place]
}

// reaches waits until every named place holds the log up to the primary's end now.
func (r *streamRig) reaches(places ...string) uint64 {
	r.t.Helper()
	r.c.sql("CREATE TABLE IF NOT EXISTS tick (n int); INSERT INTO tick VALUES (1)")
	end := r.c.lsn("SELECT pg_current_wal_flush_lsn()")
	for _, p := range places {
		eventually(r.t, fmt.Sprintf("place %q reaches %s", p, FormatLSN(end)), func() error {
			if f := r.at(p); f.LSN < end || f.Timeline != r.timeline() {
				return fmt.Errorf("it is at %s on %d: %s", FormatLSN(f.LSN), f.Timeline, f.Err)
			}
			return nil
		})
	}
	return end
}

func (r *streamRig) timeline() uint32 {
	switch r.c.one("SELECT timeline_id FROM pg_control_checkpoint()") {
	case "1":
		return 1
	case "2":
		return 2
	}
	r.t.Fatal("which timeline?")
	return 0
}

// check reads what a recovery would read of a place and walks it: pieces abut, or a
// longer one takes the place of shorter ones, no byte is missing and every record is
// whole. It returns the commits that are there.
func (r *streamRig) check(place string, tli uint32, upTo uint64) (commits int) {
	r.t.Helper()
	ctx := r.t.Context()
	var rp *repo.Repository
	for _, p := range r.stream.Places {
		if p.Name == place {
			rp = p.Repo
		}
	}
	infos, err := rp.Logs(ctx, "db")
	if err != nil {
		r.t.Fatal(err)
	}
	var w *wal.Walker
	next, last := uint64(0), uint64(0)
	infos = slices.DeleteFunc(infos, func(l repo.LogInfo) bool { return l.Timeline != tli })
	slices.SortFunc(infos, func(a, b repo.LogInfo) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End)) })
	if len(infos) > 0 {
		infos, _ = cover(infos, infos[0].Start, noBound)
	}
	for _, in := range infos {
		if w == nil {
			w, err = wal.NewWalker(wal.Config{Start: wal.LSN(in.Start), SegmentSize: 1 << 20, Record: func(rec wal.Record) error {
				if rec.Kind == wal.Commit {
					commits++
				}
				return nil
			}})
			if err != nil {
				r.t.Fatal(err)
			}
		}
		data, head, err := rp.ReadLog(ctx, in, r.id)
		if err != nil {
			r.t.Fatal(err)
		}
		if in.Start < next {
			data = data[next-in.Start:] // a longer piece that begins within the one before
		}
		if _, err := w.Write(data); err != nil {
			r.t.Fatalf("place %q, piece %s: %v", place, FormatLSN(in.Start), err)
		}
		next, last = in.End, head.LastRecord
	}
	if next < upTo {
		r.t.Fatalf("place %q holds timeline %d up to %s, not %s", place, tli, FormatLSN(next), FormatLSN(upTo))
	}
	if last != uint64(w.Last().End) || uint64(w.Valid()) != next {
		r.t.Errorf("place %q: the last piece says its last record ends at %s, the walk says %s, valid %s of %s", place, FormatLSN(last), w.Last().End, w.Valid(), FormatLSN(next))
	}
	return commits
}

func streamCluster(t *testing.T) *testCluster {
	c := newTestCluster(t, "--wal-segsize=1")
	c.configure("max_wal_size=64MB", "min_wal_size=2MB")
	c.start()
	c.sql("CREATE ROLE repl LOGIN REPLICATION PASSWORD 'secret'")
	return c
}

// writeLoad commits rows until stopped and returns how many were acknowledged.
func writeLoad(t *testing.T, c *testCluster) (stop func() int) {
	t.Helper()
	c.sql("CREATE TABLE IF NOT EXISTS load (id serial PRIMARY KEY, v text)")
	ctx, cancel := context.WithCancel(context.Background())
	n, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := c.try("INSERT INTO load (v) SELECT repeat(md5(random()::text), 40) FROM generate_series(1, 20)"); err == nil {
				n++
			}
		}
	}()
	return func() int { cancel(); <-done; return n }
}

func TestStream(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "far")
	r.start()
	stop := writeLoad(t, c)
	r.reaches("", "near", "far")

	t.Run("killed and started again, nothing is lost", func(t *testing.T) {
		for seed := range uint64(4) {
			r.crash(seed)
			r.start()
			r.reaches("near")
		}
	})
	t.Run("one place fails and comes back", func(t *testing.T) {
		r.stores["far"].fail(errors.New("the cable is cut"), false)
		eventually(t, "the failure is reported", func() error {
			if f := r.at("far"); !strings.Contains(f.Err, "the cable is cut") || f.LSN == 0 {
				return fmt.Errorf("%+v", f)
			}
			return nil
		})
		caught := r.at("far").CaughtUp
		r.reaches("near")
		eventually(t, "the near place is not held up", func() error {
			if f := r.at("near"); f.Err != "" || !f.CaughtUp.After(caught) {
				return fmt.Errorf("%+v", f)
			}
			return nil
		})
		if f := r.at("far"); f.CaughtUp.After(caught) {
			t.Errorf("the failing place counts as caught up at %s", f.CaughtUp)
		}
		// Killed while it was away: the spool still has what it misses.
		r.crash(99)
		r.start()
		r.reaches("near")
		r.stores["far"].fail(errors.New("an answer is lost"), true)
		r.reaches("near")
		r.stores["far"].fail(nil, false)
		r.reaches("near", "far")
		if f := r.at("far"); f.Err != "" || f.Gap != nil {
			t.Errorf("%+v", f)
		}
	})
	acknowledged := stop()
	end := r.reaches("", "near", "far")
	for _, p := range []string{"near", "far"} {
		if got := r.check(p, 1, end); got < acknowledged {
			t.Errorf("place %q holds %d commits; %d were acknowledged", p, got, acknowledged)
		}
	}

	t.Run("idle is not exposed, stopped is", func(t *testing.T) {
		for _, p := range []string{"", "near", "far"} {
			before := time.Now()
			eventually(t, "an idle place is caught up with now", func() error {
				f := r.at(p)
				if !f.CaughtUp.After(before) {
					return fmt.Errorf("%q: caught up at %s", p, f.CaughtUp)
				}
				return nil
			})
		}
		c.signal(syscall.SIGQUIT)
		eventually(t, "the lost primary is reported", func() error {
			if f := r.at(""); f.Err == "" {
				return errors.New("no error")
			}
			return nil
		})
		f := r.at("near")
		exposed, ok := f.Exposure(f.CaughtUp.Add(time.Hour))
		if !ok || exposed != time.Hour {
			t.Errorf("exposure %s", exposed)
		}
		c.start()
		r.reaches("near", "far")
	})
	t.Run("spool is let go of", func(t *testing.T) {
		eventually(t, "no more than two segments stay", func() error {
			entries, err := r.spool.ReadDir("/spool/" + r.at("").Lineage + "/00000001")
			segments := 0
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".wal") {
					segments++
				}
			}
			if err == nil && segments > 2 {
				err = fmt.Errorf("%d segments", segments)
			}
			return err
		})
	})
	t.Run("fast shutdown ends while we stream", func(t *testing.T) {
		c.signal(syscall.SIGINT)
		if !strings.Contains(c.out.String(), "database system is shut down") {
			t.Errorf("log:\n%s", c.out)
		}
		r.stop()
		r.cfg.FS, r.stream.Durability = r.spool, DurableQuorum
		c.start()
		r.start()
		r.reaches("near", "far")
		r.stores["far"].fail(errors.New("gone"), false)
		r.stores["near"].fail(errors.New("gone"), false)
		c.sql("INSERT INTO load (v) VALUES ('x')")
		flushed := c.lsn("SELECT flush_lsn FROM pg_stat_replication")
		if end := c.lsn("SELECT pg_current_wal_flush_lsn()"); flushed >= end {
			t.Errorf("flush %s is told, but no place has %s", FormatLSN(flushed), FormatLSN(end))
		}
		c.signal(syscall.SIGINT) // no place confirms, and the server is not held up
	})
}

func logPieceForTest(scope, lineage string) repo.LogPiece {
	return repo.LogPiece{Scope: scope, Lineage: lineage, Timeline: 1, Start: 1 << 20, End: 1<<20 + 100, LastRecord: 1<<20 + 100, Created: time.Now()}
}

// TestStreamFailover follows a promoted standby, with the old primary gone.
func TestStreamFailover(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "far")
	r.start()
	r.reaches("near", "far")
	standby := newTestCluster(t, "none")
	standby.run("pg_basebackup", "-D", standby.dir, "-d", c.connString("postgres", "secret"), "-X", "stream", "-R", "--no-sync", "-c", "fast")
	standby.port = 0
	standby.start()
	stop := writeLoad(t, c)
	r.reaches("near", "far")
	acknowledged := stop()
	end := r.reaches("near", "far")
	eventually(t, "the standby has all", func() error {
		if got := standby.lsn("SELECT pg_last_wal_replay_lsn()"); got < end {
			return errors.New(FormatLSN(got))
		}
		return nil
	})
	// The stream was away during the failover, so it resolves the fork by itself.
	r.stop()
	c.signal(syscall.SIGQUIT)
	standby.sql("SELECT pg_promote()")
	if got := standby.one("SELECT pg_is_in_recovery()"); got != "f" {
		t.Fatal("not promoted")
	}
	standby.sql("CHECKPOINT")
	r.c, r.cfg.ConnString = standby, standby.connString("repl", "secret")
	r.start()
	standby.sql("INSERT INTO load (v) VALUES ('after the failover')")
	after := r.reaches("near", "far")
	for _, p := range []string{"near", "far"} {
		if got := r.check(p, 1, end); got < acknowledged {
			t.Errorf("place %q: %d commits of %d on timeline 1", p, got, acknowledged)
		}
		r.check(p, 2, after)
		if f := r.at(p); f.Timeline != 2 || f.Gap != nil {
			t.Errorf("%+v", f)
		}
		rp := r.stream.Places[0].Repo
		text, err := rp.ReadNamed(t.Context(), "db", r.at(p).Lineage, "00000002.history", r.id)
		if err != nil || !strings.HasPrefix(string(text), "1\t") {
			t.Errorf("history: %q, %v", text, err)
		}
	}

	// The old primary comes back by mistake: it is not followed.
	r.stop()
	c.start()
	r.c, r.cfg.ConnString = c, c.connString("postgres", "secret")
	r.start()
	eventually(t, "the old primary is refused", func() error {
		if f := r.at(""); !strings.Contains(f.Err, "old primary") {
			return errors.New(f.Err)
		}
		return nil
	})
}

// TestStreamSwitchLive keeps streaming while the server it streams from, a standby,
// is promoted: the old timeline ends under our hands.
func TestStreamSwitchLive(t *testing.T) {
	c := streamCluster(t)
	standby := newTestCluster(t, "none")
	standby.run("pg_basebackup", "-D", standby.dir, "-d", c.connString("postgres", "secret"), "-X", "stream", "-R", "--no-sync", "-c", "fast")
	standby.start()
	r := newStreamRig(t, standby, "near")
	r.start()
	stop := writeLoad(t, c)
	eventually(t, "the log arrives through the standby", func() error {
		if f := r.at("near"); f.LSN == 0 || f.LastCommit.IsZero() {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	acknowledged := stop()
	end := c.lsn("SELECT pg_current_wal_flush_lsn()")
	eventually(t, "all of it", func() error {
		if f := r.at("near"); f.LSN < end {
			return fmt.Errorf("%s of %s: %s", FormatLSN(f.LSN), FormatLSN(end), f.Err)
		}
		return nil
	})
	c.signal(syscall.SIGQUIT)
	standby.sql("SELECT pg_promote()")
	standby.sql("CHECKPOINT")
	after := r.reaches("near")
	if got := r.check("near", 1, end); got < acknowledged {
		t.Errorf("%d commits of %d", got, acknowledged)
	}
	r.check("near", 2, after)
	if f := r.at("near"); f.Gap != nil {
		t.Errorf("gap: %v", f.Gap)
	}
}

// TestStreamSpoolFull lets the spool run full while no place takes anything: the log
// stays on the server, nothing is lost, and it goes on when a place is back. A place
// that stays away while another takes everything gets a gap.
func TestStreamSpoolFull(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "far")
	r.cfg.SpoolLimit = 4 << 20
	r.start()
	r.reaches("near", "far")
	for _, m := range r.stores {
		m.fail(errors.New("away"), false)
	}
	c.sql("CREATE TABLE big AS SELECT g, repeat('x', 1000) FROM generate_series(1, 8000) g")
	eventually(t, "the full spool is reported", func() error {
		if f := r.at(""); !strings.Contains(f.Err, errSpoolFull.Error()) {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	if f := r.at("near"); f.Gap != nil {
		t.Errorf("log that nobody holds was dropped: %v", f.Gap)
	}
	r.stores["near"].fail(nil, false)
	end := r.reaches("", "near")
	r.check("near", 1, end)
	eventually(t, "the absent place has a gap", func() error {
		if f := r.at("far"); f.Gap == nil {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	r.stores["far"].fail(nil, false)
	r.reaches("near", "far")
	if f := r.at("near"); f.Gap != nil {
		t.Errorf("the other place: %v", f.Gap)
	}
}

// TestStreamGap loses the slot's log while the stream is away.
// Whoever waits for the log at a place, such as a base backup at its end, need not
// wait for the interval between pieces.
func TestStreamShipsNow(t *testing.T) {
	c := streamCluster(t)
	c.sql("ALTER SYSTEM SET wal_sender_timeout = 0") // a server that asks hurries the shippers, too
	c.sql("SELECT pg_reload_conf()")
	r := newStreamRig(t, c, "near")
	r.stream.PieceEvery = 24 * time.Hour
	r.start()
	eventually(t, "the first piece is shipped", func() error {
		if r.at("near").LSN == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	end := r.reaches("")
	eventually(t, "the next one is shipped when it is asked for", func() error {
		if f := r.src.spooled(); f.LSN < end {
			return fmt.Errorf("the spool says %s of %s", FormatLSN(f.LSN), FormatLSN(end))
		}
		r.src.shipNow()
		if f := r.at("near"); f.LSN < end {
			return fmt.Errorf("the place is at %s of %s", FormatLSN(f.LSN), FormatLSN(end))
		}
		return nil
	})
	if err := r.stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if f := r.src.spooled(); f.LSN != 0 {
		t.Errorf("without a stream the spool is at %s", FormatLSN(f.LSN))
	}
	r.src.shipNow() // nobody is there to hear it
}

func TestStreamGap(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near")
	r.start()
	r.reaches("near")
	r.stop()
	held := r.at("near").LSN
	c.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'")
	c.sql("ALTER SYSTEM SET max_wal_size = '2MB'")
	c.sql("SELECT pg_reload_conf()")
	c.sql("CREATE TABLE big AS SELECT g, repeat('x', 1000) FROM generate_series(1, 8000) g")
	eventually(t, "the slot is lost", func() error {
		c.sql("SELECT pg_switch_wal()")
		c.sql("CHECKPOINT")
		if got := c.one("SELECT wal_status FROM pg_replication_slots"); got != "lost" {
			return errors.New(got)
		}
		return nil
	})
	if f, ok := findings(t, r.cfg)[CodeSlotDanger]; !ok || !strings.Contains(f.Message, "invalidated") {
		t.Errorf("check: %+v", f)
	}
	r.start()
	r.reaches("near")
	f := r.at("near")
	if f.Gap == nil || f.Gap.From != held || f.Gap.To <= held || f.Gap.Timeline != 1 {
		t.Errorf("held %s, gap %+v", FormatLSN(held), f.Gap)
	}
	if got := c.one("SELECT wal_status FROM pg_replication_slots"); got != "reserved" {
		t.Errorf("slot is %s", got)
	}
	// The gap is not forgotten with the process.
	r.crash(1)
	r.start()
	r.reaches("near")
	if f := r.at("near"); f.Gap == nil || f.Gap.From != held {
		t.Errorf("after a restart: %+v", f.Gap)
	}
}
