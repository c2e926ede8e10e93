package matrix

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location/dir"
	"holdfast/internal/repo"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
)

// quick are settings for throwaway servers: nobody misses them after a power cut.
var quick = map[string]string{
	"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB", "autovacuum": "off", "max_slot_wal_keep_size": "512MB",
	"max_prepared_transactions": "4",
}

func with(kv ...string) map[string]string {
	m := map[string]string{}
	for k, v := range quick {
		m[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

// A rig is one protected cluster of one version: a server, its store over a
// directory location, and the stream of its log.
type rig struct {
	t       *testing.T
	row     row
	bin     string
	box     *sandbox.Sandbox
	server  *postgres.Server
	store   *postgres.Store
	repo    *repo.Repository
	ids     []seal.Identity
	to      []seal.Recipient
	signer  seal.SigningKey
	mac     seal.MACKey
	spool   string
	options map[string]string // that the server runs with
	clock   func() time.Time

	timeline uint32 // of the source
	database string // that the store's connection names; "" is the usual one

	mu       sync.Mutex
	frontier source.Frontier // of the location
	cancel   context.CancelFunc
	done     chan error
	restores int
}

func newRig(t *testing.T, r row, initdb []string, options map[string]string) *rig {
	t.Helper()
	g := &rig{t: t, row: r, timeline: 1, bin: r.binaries(t), mac: seal.NewMACKey(), spool: filepath.Join(t.TempDir(), "spool"), options: options}
	box, err := sandbox.New(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil { // it fails when anything is left running
			t.Error(err)
		}
	})
	g.box = box
	for range 2 {
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		g.ids, g.to = append(g.ids, id), append(g.to, id.Recipient())
	}
	if g.signer, err = seal.GenerateSigningKey("agent"); err != nil {
		t.Fatal(err)
	}
	place, err := dir.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Init(t.Context(), place, repo.Settings{ID: "matrix", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if g.repo, err = repo.Open(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(box.Dir(), "source")
	if err := postgres.Initdb(t.Context(), box, g.bin, data, append(initdb, "--no-sync")...); err != nil {
		t.Fatal(err)
	}
	g.serve(data, options)
	g.open(g.server)
	return g
}

// serve starts the source.
func (g *rig) serve(data string, options map[string]string) {
	g.t.Helper()
	s, err := postgres.StartServer(g.t.Context(), g.box, postgres.ServerConfig{BinDir: g.bin, DataDir: data, Options: options})
	if err != nil {
		g.t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	g.server = s
	g.t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			g.t.Error(err)
		}
	})
	if !strings.HasPrefix(s.Version(), fmt.Sprintf("%d.", g.row.major)) {
		g.t.Fatalf("PostgreSQL %s runs, want version %d", s.Version(), g.row.major)
	}
}

// open makes the store of a server.
func (g *rig) open(s *postgres.Server) {
	g.t.Helper()
	var err error
	g.store, err = postgres.Open(postgres.StoreConfig{
		Config: postgres.Config{Store: "db", ConnString: s.ConnStringTo(g.database), SpoolDir: g.spool, UnboundedSlot: true, Clock: g.clock}, BinDir: g.bin,
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// follow starts the stream.
func (g *rig) follow() {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	g.mu.Lock()
	g.cancel, g.done, g.frontier = cancel, done, source.Frontier{}
	g.mu.Unlock()
	store := g.store
	go func() {
		done <- store.Stream(ctx, source.StreamConfig{
			Places: []repo.Place{{Name: "here", Repo: g.repo}}, Recipients: g.to, Signer: g.signer,
			Report: func(f source.Frontier) {
				if f.Place == "here" {
					g.mu.Lock()
					g.frontier = f
					g.mu.Unlock()
				}
			},
		})
	}()
	g.t.Cleanup(g.leave)
}

// leave stops the stream.
func (g *rig) leave() {
	g.mu.Lock()
	cancel, done := g.cancel, g.done
	g.cancel = nil
	g.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		g.t.Errorf("the stream ended with %v", err)
	}
}

func (g *rig) at() source.Frontier {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.frontier
}

// eventually waits for a condition; the bound only ends a hung test.
func (g *rig) eventually(what string, cond func() error) {
	g.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("never: %s: %v", what, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// shipped waits until the location holds the log to a position.
func (g *rig) shipped(lsn string) {
	g.t.Helper()
	want, err := postgres.ParseLSN(lsn)
	if err != nil {
		g.t.Fatal(err)
	}
	g.eventually("the location holds "+lsn, func() error {
		select {
		case err := <-g.done:
			g.done <- err
			g.t.Fatalf("the stream ended: %v", err)
		default:
		}
		// After a fork the spool may still bring what the old timeline had left, at
		// positions that the new one reaches again.
		if f := g.at(); f.Timeline < g.timeline || f.Position < want {
			return fmt.Errorf("frontier %s on timeline %d, %s", postgres.FormatLSN(f.Position), f.Timeline, f.Err)
		}
		return nil
	})
}

func (g *rig) sql(sql string) [][]string {
	g.t.Helper()
	rows, err := g.server.Query(g.t.Context(), sql)
	if err != nil {
		g.t.Fatalf("%.200s: %v", sql, err)
	}
	return rows
}

func (g *rig) one(sql string) string {
	g.t.Helper()
	rows := g.sql(sql)
	if len(rows) == 0 || len(rows[len(rows)-1]) != 1 {
		g.t.Fatalf("%.200s: %v", sql, rows)
	}
	return rows[len(rows)-1][0]
}

// base takes a base backup through the store: with the stream before and behind it.
func (g *rig) base() *repo.Manifest {
	g.t.Helper()
	w, err := repo.NewWriter(g.t.Context(), repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: g.repo}}, Scope: "db", Kind: postgres.Kind, Recipients: g.to, Signer: g.signer, MAC: g.mac,
		CacheDir: g.t.TempDir(),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	defer w.Abort()
	if err := g.store.Snapshot(g.t.Context(), w, nil); err != nil {
		g.t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	m, copies, err := w.Finish(g.t.Context())
	if err != nil || len(copies) != 1 || copies[0].Err != nil {
		g.t.Fatal(copies, err)
	}
	return m
}

// content says all that table t holds.
const content = "SELECT count(*) || ':' || coalesce(max(id), 0) || ':' || coalesce(md5(string_agg(id || '=' || v, ',' ORDER BY id)), '') FROM t"

// A moment is a state that a restore can be held against.
type moment struct {
	content string
	time    time.Time
	lsn     string
}

// now notes the state, and lets one more row be shipped behind it.
func (g *rig) now() moment {
	g.t.Helper()
	rows := g.sql("SELECT (" + content + "), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, pg_current_wal_insert_lsn()")
	us, err := strconv.ParseInt(rows[0][1], 10, 64)
	if err != nil {
		g.t.Fatal(err)
	}
	g.insert(1)
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
	return moment{rows[0][0], time.UnixMicro(us), rows[0][2]}
}

// insert commits n rows, one by one. What a row holds follows from its number.
func (g *rig) insert(n int) {
	g.t.Helper()
	g.sql(strings.Repeat("BEGIN; INSERT INTO t SELECT i, md5(i::text) FROM (SELECT coalesce(max(id), 0) + 1 AS i FROM t) x; COMMIT;\n", n))
}

// request is a restore of the store to a target.
func (g *rig) request(target holdfast.Target) source.Request {
	g.restores++
	return source.Request{
		Repo: g.repo, Identities: g.ids[:1], Target: target, Dir: filepath.Join(g.box.Dir(), fmt.Sprintf("restore%d", g.restores)), Runner: g.box,
	}
}

// restore brings the store back; everything that it says it proved must be so.
func (g *rig) restore(target holdfast.Target) source.Restored {
	g.t.Helper()
	got, err := g.store.Restore(g.t.Context(), g.request(target))
	if err != nil {
		g.t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	g.t.Cleanup(func() {
		if err := got.Close(context.Background()); err != nil {
			g.t.Error(err)
		}
	})
	rungs := map[holdfast.Rung]bool{}
	for _, c := range got.Report().Checks {
		rungs[c.Rung] = true
		if c.Outcome != holdfast.Passed {
			g.t.Errorf("%s %s: %s: %s", c.Rung, c.Name, c.Outcome, c.Detail)
		}
	}
	for _, want := range []holdfast.Rung{holdfast.L1, holdfast.L3, holdfast.L4} {
		if !rungs[want] {
			g.t.Errorf("no check of rung %s", want)
		}
	}
	return got
}

// value asks a restored server.
func (g *rig) value(r source.Restored, question string) string {
	g.t.Helper()
	v, err := r.Value(g.t.Context(), question)
	if err != nil {
		g.t.Fatalf("%.200s: %v", question, err)
	}
	return fmt.Sprint(v)
}
