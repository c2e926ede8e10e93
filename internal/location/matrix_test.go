package location_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// The matrix: whatever goes wrong at whatever kind of place, a run is loud or complete,
// nothing that is listed is incomplete, nothing that was acknowledged is lost, and the next
// clean run brings everything to where an undisturbed one would have.

// envSeeds asks for more draws than a minute allows: "make soak-locations".
const envSeeds = "HOLDFAST_LOCATION_SEEDS"

func TestFaultMatrix(t *testing.T) {
	seeds := 1
	if s := os.Getenv(envSeeds); s != "" {
		var err error
		if seeds, err = strconv.Atoi(s); err != nil || seeds < 1 {
			t.Fatalf("%s=%q: want a number from 1", envSeeds, s)
		}
	}
	past := newPast(t)
	for _, make := range []func(*testing.T) kind{directories, objectStores, foreignFolders, gateways} {
		k := make(t)
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				m := &matrix{kind: k, past: past, rng: rand.New(rand.NewPCG(uint64(seed), 1)), all: seeds > 1 || k.name == "directory"}
				for _, row := range rows {
					t.Run(row.name, func(t *testing.T) { row.test(t, m) })
				}
			}
		})
	}
}

var rows = []struct {
	name string
	test func(*testing.T, *matrix)
}{
	{"nothing goes wrong", nothing},
	{"each call fails once", eachCall},
	{"the line breaks", lineBreaks},
	{"a put tears", tears},
	{"reads end early", shortReads},
	{"new objects are not seen for a while", lags},
	{"listings end early", listingsEnd},
	{"listings show wrong sizes", wrongSizes},
	{"clocks are off by a year", clocks},
	{"the disk is full at each write", fullDisk},
	{"credentials are revoked in the middle", revoked},
	{"two writers have one source", twoWriters},
	{"deletes are refused", refused},
	{"deletes lie", liedTo},
}

// began is now: places stamp objects with their own clocks.
var began = time.Now().UTC().Truncate(time.Second)

const (
	scope = "files"
	db    = "db"
)

// A past is what every place of the matrix held before anything went wrong: two snapshots
// with receipts and a piece of log.
type past struct {
	keys    repotest.Keys
	vault   seal.SigningKey
	objects *repotest.Memory
	truth   map[string]tree // by snapshot
	old     []*repo.Manifest
	log     []byte
	cache   string // of the writer that made it
}

// A tree is what a snapshot was made of.
type tree map[string][]byte

func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func newPast(t *testing.T) *past {
	t.Helper()
	ctx := t.Context()
	p := &past{keys: repotest.NewKeys(t), objects: repotest.NewMemory(), truth: map[string]tree{}, log: content(9, 3000), cache: t.TempDir()}
	var err error
	p.vault, err = seal.GenerateSigningKey("test-vault")
	must(t, err)
	r := repotest.Init(ctx, t, p.objects, "r1")
	for i := range 2 {
		now := began.Add(time.Duration(i-3) * time.Hour)
		h := &history{past: p, now: now}
		man, err := h.snapshot(ctx, r, tree{"a": content(1, 20_000), "b": content(uint64(2+i), 15_000)}, p.cache)
		must(t, err)
		p.old = append(p.old, man)
		must(t, r.PutReceipt(ctx, h.receipt(man), p.vault))
	}
	must(t, r.PutLog(ctx, piece(0, p.log), p.log, p.keys.LogKeys()))
	return p
}

func piece(start uint64, b []byte) repo.LogPiece {
	return repo.LogPiece{Scope: db, Lineage: "1", Timeline: 1, Start: start, End: start + uint64(len(b)), Created: began}
}

// matrix is one kind of place with what its rows share.
type matrix struct {
	kind
	*past
	rng *rand.Rand
	all bool // every position, not a sample
}

// positions are the calls of a run at which a fault is tried.
func (m *matrix) positions(n, few int) []int {
	if m.all || n <= few {
		few = n
	}
	p := m.rng.Perm(n)[:few]
	for i := range p {
		p[i]++
	}
	return p
}

// A history is one place with what was acknowledged there.
type history struct {
	*past
	t     *testing.T
	what  string // which fault, for messages
	spot  *spot
	now   time.Time
	cache string
	truth map[string]tree // all that was ever written, by snapshot
	acked map[string]bool // snapshots that a writer was told to be complete
	gone  map[string]bool // snapshots that the vault was told to be removed
	logs  map[uint64][]byte
	write time.Duration // the writer's clock is ahead by this
	vault time.Duration // the vault's
	calm  func()        // ends what misbehave began
}

// misbehave lets the place break its contract until converges.
func (h *history) misbehave(how func(u *repotest.Unruly)) {
	u := h.spot.unruly
	how(u)
	h.calm = func() { *u = repotest.Unruly{Store: u.Store} }
}

// fail breaks the nth call from now.
func (h *history) fail(n int, landed bool) {
	f := h.spot.faulty
	f.N, f.Landed = f.Calls()+n, landed
	h.calm = func() { f.N = 0 }
}

func (m *matrix) begin(t *testing.T, format string, args ...any) *history {
	t.Helper()
	h := &history{past: m.past, t: t, what: fmt.Sprintf(format, args...), spot: m.spot(t), now: began, cache: t.TempDir(),
		truth: map[string]tree{}, acked: map[string]bool{}, gone: map[string]bool{}, logs: map[uint64][]byte{0: m.log}}
	h.spot.copyAll(t, m.objects)
	must(t, os.CopyFS(h.cache, os.DirFS(m.cache)))
	for id, files := range m.past.truth {
		h.truth[id], h.acked[id] = files, true
	}
	return h
}

func (h *history) clock() time.Time { h.now = h.now.Add(time.Second); return h.now }

// snapshot writes one; its id is known also if it failed.
func (h *history) snapshot(ctx context.Context, r *repo.Repository, files tree, cache string) (*repo.Manifest, error) {
	var mu sync.Mutex
	w, err := repo.NewWriter(ctx, repo.WriterConfig{
		Places: []repo.Place{{Name: "there", Repo: r}}, Scope: scope, Kind: "files", Recipients: h.keys.Recipients(), Signer: h.keys.Signer, MAC: h.keys.MAC,
		PackSize: 64 << 10, Workers: 1, CacheDir: cache, Clock: func() time.Time { mu.Lock(); defer mu.Unlock(); return h.clock().Add(h.write) },
	})
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	truth := h.truth
	if truth == nil {
		truth = h.past.truth
	}
	truth[w.ID()] = files
	for _, name := range []string{"a", "b"} {
		if err := w.Add(ctx, repo.Entry{Path: name, Type: repo.TypeFile, Mode: 0o640, ModTime: began}, bytes.NewReader(files[name])); err != nil {
			return nil, err
		}
	}
	m, copies, err := w.Finish(ctx)
	if err == nil {
		err = copies[0].Err
	}
	return m, err
}

func (h *history) receipt(m *repo.Manifest) repo.Receipt {
	return repo.Receipt{Scope: m.Scope, Snapshot: m.ID, Manifest: m.Hash(), Place: "there", Received: h.clock().Add(h.vault), Vault: "test-vault"}
}

// opened is the repository at a store, which believes only its own.
func (h *history) opened(ctx context.Context, s repo.Store) (*repo.Repository, error) {
	r, err := repo.Open(ctx, s)
	if err == nil {
		r.Trust(h.keys.Signer.Public(), h.past.vault.Public())
	}
	return r, err
}

// run is a day of a place: the writer makes a snapshot and ships log, the vault receives
// it, removes the oldest and looks for garbage, then and two days later. Each part runs
// whatever the ones before it said, while the place answers.
func (h *history) run(s repo.Store, next uint64) error {
	ctx := context.WithoutCancel(h.t.Context())
	var errs []error
	gone := false // nothing answers any more: each further part would wait for that too
	part := func(name string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			gone = gone || errors.Is(err, location.ErrUnreachable)
		}
		return err == nil
	}
	r, err := h.opened(ctx, s)
	if !part("open", err) {
		return err
	}
	man, err := h.snapshot(ctx, r, tree{"a": content(1, 20_000), "b": content(next, 15_000)}, h.cache)
	if part("snapshot", err) {
		h.acked[man.ID] = true
	}
	log := content(next, 3000)
	if gone {
		return errors.Join(errs...)
	}
	if part("log", r.PutLog(ctx, piece(next*3000, log), log, h.keys.LogKeys())) {
		h.logs[next*3000] = log
	}
	ms, err := r.Manifests(ctx, scope)
	part("manifests", err)
	if gone {
		return errors.Join(errs...)
	}
	if man != nil {
		if err := r.Check(ctx, man); part("check", err) {
			part("receipt", r.PutReceipt(ctx, h.receipt(man), h.past.vault))
		}
	}
	if len(ms) > 2 && !gone {
		part("read", h.reads(ctx, r, ms[len(ms)-1]))
		c := repo.Removal{Scope: scope, Place: "there", At: h.clock().Add(h.vault), Vault: "test-vault",
			Snapshots: []repo.Removed{{Snapshot: ms[0].ID, Manifest: ms[0].Hash(), Previous: ms[0].Previous, Why: "test"}}}
		h.gone[ms[0].ID] = true // it may be, whatever is said
		_, err := r.Remove(ctx, c, h.past.vault)
		part("remove", err)
	}
	for i := 0; i < 2 && !gone; i++ {
		_, err := h.collector(r).Collect(ctx)
		part("collect", err)
		h.now = h.now.Add(repo.GarbageWait + time.Hour)
	}
	return errors.Join(errs...)
}

func (h *history) collector(r *repo.Repository) repo.Collector {
	c := repo.Collector{Place: "there", At: r, Signer: h.past.vault, Trust: []seal.VerifyKey{h.past.vault.Public()}, Now: h.clock().Add(h.vault), Known: map[string][]string{}}
	for id := range h.acked {
		if !h.gone[id] {
			c.Known[scope] = append(c.Known[scope], id)
		}
	}
	return c
}

// reads restores a snapshot: right bytes, or an error.
func (h *history) reads(ctx context.Context, r *repo.Repository, m *repo.Manifest) error {
	s, err := r.Snapshot(ctx, m, h.keys.Identity)
	if err != nil {
		return err
	}
	want, n := h.truth[m.ID], 0
	if err := s.Entries(ctx, func(e repo.Entry) error {
		n++
		b, err := io.ReadAll(s.Open(e))
		if err == nil && !bytes.Equal(b, want[e.Path]) {
			h.t.Errorf("%s: %q of %s came back as something else", h.what, e.Path, m.ID)
		}
		return err
	}); err != nil {
		return err
	}
	if n != len(want) {
		return fmt.Errorf("%d of %d files came back", n, len(want))
	}
	return nil
}

// holds looks past all faults at what lies there. damaged says that a manifest may be
// half, and must then be named.
func (h *history) holds(damaged func(error) bool) {
	h.t.Helper()
	ctx := h.t.Context()
	r, err := h.opened(ctx, h.spot.honest())
	must(h.t, err)
	ms, err := r.Manifests(ctx, scope)
	if err != nil && (damaged == nil || !damaged(err)) {
		h.t.Fatalf("%s: manifests: %v", h.what, err)
	}
	here := map[string]bool{}
	for _, m := range ms {
		here[m.ID] = true
		if err := errors.Join(r.Check(ctx, m), h.reads(ctx, r, m)); err != nil {
			h.t.Errorf("%s: %s is listed and incomplete: %v", h.what, m.ID, err)
		}
	}
	for id := range h.acked {
		if !here[id] && !h.gone[id] {
			h.t.Errorf("%s: %s was acknowledged and is lost", h.what, id)
		}
	}
	for start, want := range h.logs {
		ls, err := r.Logs(ctx, db)
		must(h.t, err)
		i := slices.IndexFunc(ls, func(l repo.LogInfo) bool { return l.Start == start })
		if i < 0 {
			h.t.Errorf("%s: log at %d was acknowledged and is lost", h.what, start)
		} else if got, _, err := r.ReadLog(ctx, ls[i], h.keys.Identity); err != nil || !bytes.Equal(got, want) {
			h.t.Errorf("%s: log at %d: %v", h.what, start, err)
		}
	}
}

// converges runs cleanly until everything is as if nothing had happened: no error, and no
// pack that nothing needs.
func (h *history) converges() {
	h.t.Helper()
	ctx := h.t.Context()
	if h.spot.line != nil {
		h.spot.line.Mend()
	}
	if h.calm != nil {
		h.calm()
	}
	h.write, h.vault = 0, 0
	h.now = h.now.Add(time.Minute)
	if err := h.run(h.spot.open(), 8); err != nil {
		h.t.Errorf("%s: the clean run: %v", h.what, err)
	}
	h.holds(nil)
	r, err := h.opened(ctx, h.spot.honest())
	must(h.t, err)
	// What the faulty run left is garbage as soon as it is old enough to be none of a
	// writer that goes on.
	for range 2 {
		_, err := h.collector(r).Collect(ctx)
		must(h.t, err)
		h.now = h.now.Add(repo.GarbageWait + time.Hour)
	}
	out, err := h.collector(r).Collect(ctx)
	must(h.t, err)
	if out.Waiting != 0 || out.Marked != 0 || out.Refused != 0 {
		h.t.Errorf("%s: garbage is left: %+v", h.what, out)
	}
	h.holds(nil)
}

// disturbed runs with what was set up, then looks, then runs cleanly. A run that says
// nothing must have done everything.
func (h *history) disturbed() error {
	h.t.Helper()
	before := len(h.acked)
	err := h.run(h.spot.open(), 4)
	if err == nil && len(h.acked) != before+1 {
		h.t.Errorf("%s: the run said nothing and did not do everything", h.what)
	}
	return err
}
