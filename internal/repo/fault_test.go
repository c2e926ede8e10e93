package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

func smallTree() []file {
	return []file{
		{path: "a/one", content: random(1, 90_000)},
		{path: "a/two", content: texty(2, 400_000)},
		{path: "b/three", content: random(3, 250_000)},
		{path: "b/four", content: []byte("four")},
	}
}

// Every call to either of two places is broken in turn, before and after it takes
// effect, once and for the rest of the run. Whatever the point, the run is loud or
// says which place failed, no place lists a snapshot that is not complete there,
// and a clean run afterwards brings both places to the same, whole state.
func TestEveryFault(t *testing.T) {
	for _, mode := range []struct {
		name            string
		landed, forever bool
	}{{"before", false, false}, {"after", true, false}, {"for good", false, true}, {"landed and for good", true, true}} {
		t.Run(mode.name, func(t *testing.T) {
			ctx := t.Context()
			for n := 1; ; n++ {
				b := newBed(t)
				other := repotest.NewMemory()
				repotest.Init(ctx, t, other, "r1")
				faulty := &repotest.Faulty{Store: other, Landed: mode.landed, Forever: mode.forever}
				away, err := repo.Open(ctx, faulty)
				if err != nil {
					t.Fatal(err)
				}
				cfg := b.config(repo.Place{Name: "here", Repo: b.repo}, repo.Place{Name: "away", Repo: away})
				cfg.PackSize, cfg.CacheDir, cfg.Workers = 64<<10, t.TempDir(), 1
				if _, _, err := write(ctx, cfg, smallTree()[:2]); err != nil {
					t.Fatal(err)
				}
				faulty.N = faulty.Calls() + n
				_, copies, err := write(ctx, cfg, smallTree())
				if !faulty.Tripped() {
					if err != nil || copies[1].Err != nil {
						t.Fatalf("no fault and yet %v, %v", copies, err)
					}
					if n < 7 {
						t.Fatalf("only %d calls were broken", n)
					}
					return
				}
				if err != nil || copies[0].Err != nil {
					t.Fatalf("call %d: the whole place suffered: %v, %v", n, copies, err)
				}
				faulty.N = 0
				clean, err := repo.Open(ctx, other)
				if err != nil {
					t.Fatal(err)
				}
				listed, err := clean.Manifests(ctx, "files")
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range listed {
					if err := clean.Check(ctx, m); err != nil {
						t.Errorf("call %d: listed and not complete: %v", n, err)
					}
				}
				// An error may hide that the manifest landed; success may not hide that it did not.
				if copies[1].Err == nil && len(listed) != 2 {
					t.Errorf("call %d: the place says %v and lists %d", n, copies[1].Err, len(listed))
				}
				m, copies, err := write(ctx, cfg, smallTree())
				if err != nil || copies[0].Err != nil || copies[1].Err != nil {
					t.Fatalf("call %d: clean run: %v, %v", n, copies, err)
				}
				sameFiles(t, restored(ctx, t, clean, m, b.keys.Identity), smallTree())
			}
		})
	}
}

// A place that takes small objects and no packs, as a full disk may, lists nothing.
func TestPlaceWithoutRoomForPacks(t *testing.T) {
	ctx := t.Context()
	b := newBed(t)
	other := repotest.NewMemory()
	repotest.Init(ctx, t, other, "r1")
	seen := 0
	faulty := &repotest.Faulty{Store: other, Refuse: func(name string) bool {
		if strings.HasPrefix(name, "packs/") {
			seen++
		}
		return strings.HasPrefix(name, "packs/") && seen > 1 // the first one still fits
	}}
	away, err := repo.Open(ctx, faulty)
	if err != nil {
		t.Fatal(err)
	}
	cfg := b.config(repo.Place{Name: "here", Repo: b.repo}, repo.Place{Name: "away", Repo: away})
	cfg.PackSize = 64 << 10
	m, copies, err := write(ctx, cfg, smallTree())
	if err != nil || copies[0].Err != nil || !errors.Is(copies[1].Err, repotest.ErrInjected) {
		t.Fatal(copies, err)
	}
	if ms, err := away.Manifests(ctx, ""); err != nil || len(ms) > 0 {
		t.Error("listed", ms, err)
	}
	if err := away.Replicate(ctx, b.repo, m); !errors.Is(err, repotest.ErrInjected) {
		t.Errorf("replicate: %v", err)
	}
	if ms, err := away.Manifests(ctx, ""); err != nil || len(ms) > 0 {
		t.Error("listed by replicate", ms, err)
	}
	faulty.Refuse = nil
	if err := away.Replicate(ctx, b.repo, m); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, restored(ctx, t, away, m, b.keys.Identity), smallTree())
}

// With one place alone a fault that does not heal is an error of the run.
func TestEveryFaultAlone(t *testing.T) {
	ctx := t.Context()
	for n := 1; ; n++ {
		b := newBed(t)
		faulty := &repotest.Faulty{Store: b.store, Forever: true}
		r, err := repo.Open(ctx, faulty)
		if err != nil {
			t.Fatal(err)
		}
		faulty.N = faulty.Calls() + n
		cfg := b.config(repo.Place{Name: "here", Repo: r})
		cfg.PackSize = 64 << 10
		_, _, err = write(ctx, cfg, smallTree())
		if !faulty.Tripped() {
			return
		}
		if !errors.Is(err, repotest.ErrInjected) {
			t.Errorf("call %d: %v", n, err)
		}
		if ms, err := b.repo.Manifests(ctx, ""); err != nil || len(ms) > 0 {
			t.Errorf("call %d: listed %v, %v", n, ms, err)
		}
	}
}

// Reading with every call broken never returns wrong bytes.
func TestEveryReadFault(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	m, _, err := write(ctx, b.config(), smallTree())
	if err != nil {
		t.Fatal(err)
	}
	for _, landed := range []bool{false, true} {
		for n := 1; ; n++ {
			faulty := &repotest.Faulty{Store: b.store, Landed: landed}
			r, err := repo.Open(ctx, faulty)
			if err != nil {
				t.Fatal(err)
			}
			faulty.N = faulty.Calls() + n
			dir := t.TempDir()
			s, err := r.Snapshot(ctx, m, b.keys.Identity)
			if err == nil {
				_, err = s.Extract(ctx, repo.ExtractConfig{Dir: dir, NoSync: true, Workers: 1})
			}
			if !faulty.Tripped() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if !errors.Is(err, repotest.ErrInjected) {
				t.Errorf("call %d: %v", n, err)
			}
			for _, f := range smallTree() {
				got, err := os.ReadFile(filepath.Join(dir, f.path))
				if err == nil && !bytes.Equal(got, f.content) && len(got) == len(f.content) && len(got) > 0 {
					// A fault of the place ends the restore; what it had begun is removed.
					t.Errorf("call %d: %q lies there half restored", n, f.path)
				}
			}
		}
	}
}

// One bit flipped anywhere in any object is noticed, and what it did not hit still
// comes back.
func TestEveryObjectFlipped(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	cfg := b.config()
	cfg.PackSize = 128 << 10
	m, _, err := write(ctx, cfg, smallTree())
	if err != nil {
		t.Fatal(err)
	}
	data := texty(4, 5000)
	p := repo.LogPiece{Scope: "db", Lineage: "1", Timeline: 1, Start: 0, End: 5000, Created: start}
	if err := b.repo.PutLog(ctx, p, data, b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	if err := b.repo.PutReceipt(ctx, repo.Receipt{Scope: "files", Snapshot: m.ID, Manifest: m.Hash(), Place: "here", Received: start, Vault: "v"}, b.keys.Signer); err != nil {
		t.Fatal(err)
	}
	key := b.keys.Signer.Public()
	// noticed reads everything, and returns what was found wrong.
	noticed := func(st repo.Store) error {
		r, err := repo.Open(ctx, st)
		if err != nil {
			return err
		}
		r.Trust(key)
		ms, err := r.Manifests(ctx, "files")
		if err != nil {
			return err
		}
		if len(ms) != 1 {
			return fmt.Errorf("%d manifests", len(ms))
		}
		ls, err := r.Logs(ctx, "db")
		if err != nil || len(ls) != 1 {
			return fmt.Errorf("logs: %d, %w", len(ls), err)
		}
		if _, _, err := r.ReadLog(ctx, ls[0], b.keys.Identity); err != nil {
			return err
		}
		cs, err := r.Receipts(ctx, "files")
		if err != nil || len(cs) != 1 {
			return fmt.Errorf("receipts: %d, %w", len(cs), err)
		}
		if err := cs[0].Verify(key); err != nil {
			return err
		}
		s, err := r.Snapshot(ctx, ms[0], b.keys.Identity)
		if err != nil {
			return err
		}
		damage, err := s.Verify(ctx, nil)
		if err == nil && len(damage) > 0 {
			err = &repo.DamageError{Damage: damage}
		}
		return err
	}
	if err := noticed(b.store); err != nil {
		t.Fatal(err)
	}
	for _, name := range b.store.Names() {
		if name == "RECOVERY.txt" || name == "holdfast-repository" {
			continue // clear text for people and the id, which everything sealed is bound to
		}
		whole := b.store.Bytes(name)
		for _, at := range []int{0, 9, 20, 100, len(whole) / 3, len(whole) / 2, len(whole) - 70, len(whole) - 25, len(whole) - 2} {
			st := b.store.Clone()
			bad := bytes.Clone(whole)
			bad[at] ^= 0x10
			st.Set(name, bad)
			if err := noticed(st); err == nil {
				t.Errorf("%s: bit in byte %d of %d flipped, not noticed", name, at, len(whole))
			}
		}
		if !strings.HasPrefix(name, "packs/") {
			continue
		}
		// The middle of a pack is content: the other packs' files come back.
		st := b.store.Clone()
		bad := bytes.Clone(whole)
		bad[len(bad)/3] ^= 1
		st.Set(name, bad)
		r, err := repo.Open(ctx, st)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Snapshot(ctx, m, b.keys.Identity)
		if err != nil {
			continue // it was the pack of the root
		}
		dir := t.TempDir()
		stats, err := s.Extract(ctx, repo.ExtractConfig{Dir: dir, NoSync: true})
		if err == nil && len(stats.Damage) > 0 {
			t.Errorf("%s: damage and no error", name)
		}
		lost := map[string]bool{}
		for _, d := range stats.Damage {
			for _, p := range d.Paths {
				lost[p] = true
			}
		}
		for _, f := range smallTree() {
			got, rerr := os.ReadFile(filepath.Join(dir, f.path))
			if lost[f.path] {
				if !errors.Is(rerr, fs.ErrNotExist) {
					t.Errorf("%s: %s is damaged and lies there", name, f.path)
				}
			} else if (len(lost) > 0 || err == nil) && (rerr != nil || !bytes.Equal(got, f.content)) {
				t.Errorf("%s: %s is not damaged and did not come back: %v", name, f.path, rerr)
			}
		}
		if len(lost) == len(smallTree()) {
			t.Errorf("%s: one bit cost everything", name)
		}
	}
}

// What is whole and in the wrong place is told apart from what is damaged or gone.
func TestWrongObjects(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	m, _, err := write(ctx, b.config(), smallTree())
	if err != nil {
		t.Fatal(err)
	}
	m2, _, err := write(ctx, b.config(), smallTree()[:2])
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) {
		p := repo.LogPiece{Scope: "db", Lineage: "1", Timeline: 1, Start: i * 5000, End: (i + 1) * 5000, Created: start}
		if err := b.repo.PutLog(ctx, p, texty(i, 5000), b.keys.LogKeys()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.repo.PutNamed(ctx, "db", "1", "note", []byte("x"), b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	foreign := newBed(t)
	foreign.keys = b.keys
	foreign.repo = repotest.Init(ctx, t, repotest.NewMemory(), "r2")
	foreignRepo := foreign.repo
	pack := func(m *repo.Manifest, n int) string { return "packs/" + m.Packs[n].ID[:2] + "/" + m.Packs[n].ID }
	ls, err := b.repo.Logs(ctx, "db")
	if err != nil || len(ls) != 2 {
		t.Fatal(ls, err)
	}
	readAll := func(r *repo.Repository) error {
		s, err := r.Snapshot(ctx, m, b.keys.Identity)
		if err != nil {
			return err
		}
		return s.Entries(ctx, func(e repo.Entry) error {
			_, err := io.Copy(io.Discard, s.Open(e))
			return err
		})
	}
	listing := func(r *repo.Repository) error { _, err := r.Manifests(ctx, ""); return err }
	logs := func(r *repo.Repository) error { _, _, err := r.ReadLog(ctx, ls[0], b.keys.Identity); return err }
	tests := []struct {
		name string
		set  func(st *repotest.Memory)
		read func(r *repo.Repository) error
		want error
	}{
		{"pack missing", func(st *repotest.Memory) { st.Set(pack(m, 0), nil) }, readAll, fs.ErrNotExist},
		{"pack cut short", func(st *repotest.Memory) { st.Set(pack(m, 0), st.Bytes(pack(m, 0))[:5000]) }, readAll, repo.ErrDamaged},
		{"pack swapped", func(st *repotest.Memory) { st.Set(pack(m, 0), padTo(st.Bytes(pack(m2, 0)), len(st.Bytes(pack(m, 0))))) }, readAll, repo.ErrSubstituted},
		{"log piece as pack", func(st *repotest.Memory) { st.Set(pack(m, 0), padTo(st.Bytes(ls[0].Name), len(st.Bytes(pack(m, 0))))) }, readAll, repo.ErrKind},
		{"pack as log piece", func(st *repotest.Memory) { st.Set(ls[0].Name, st.Bytes(pack(m, 0))) }, logs, repo.ErrKind},
		{"named file as log piece", func(st *repotest.Memory) { st.Set(ls[0].Name, st.Bytes("logs/db/1/note")) }, logs, repo.ErrKind},
		{"log piece renamed", func(st *repotest.Memory) { st.Set(ls[0].Name, st.Bytes(ls[1].Name)) }, logs, repo.ErrSubstituted},
		{"manifest renamed", func(st *repotest.Memory) { st.Set(m.Object(), st.Bytes(m2.Object())) }, listing, repo.ErrSubstituted},
		{"manifest of another repository", func(st *repotest.Memory) {
			st.Set(m.Object(), bytes.ReplaceAll(st.Bytes(m.Object()), []byte(`"repository":"r1"`), []byte(`"repository":"r2"`)))
		}, listing, repo.ErrForeign},
		{"receipt as manifest", func(st *repotest.Memory) {
			st.Set(m.Object(), bytes.ReplaceAll(st.Bytes(m.Object()), []byte(`"type":"manifest"`), []byte(`"type":"receipt"`)))
		}, listing, repo.ErrKind},
		{"manifest of a later format", func(st *repotest.Memory) {
			st.Set(m.Object(), bytes.ReplaceAll(st.Bytes(m.Object()), []byte(`{"format":1`), []byte(`{"format":2`)))
		}, listing, repo.ErrFormat},
		{"marker missing", func(st *repotest.Memory) { st.Set("holdfast-repository", nil) }, nil, repo.ErrNotRepository},
		{"marker of a later format", func(st *repotest.Memory) { st.Set("holdfast-repository", []byte(`{"format":9}`)) }, nil, repo.ErrFormat},
	}
	for _, tt := range tests {
		st := b.store.Clone()
		tt.set(st)
		r, err := repo.Open(ctx, st)
		if err == nil && tt.read != nil {
			err = tt.read(r)
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	// A manifest that somebody rewrote is not signed any more.
	st := b.store.Clone()
	st.Set(m.Object(), bytes.Replace(st.Bytes(m.Object()), []byte(`"files":4`), []byte(`"files":3`), 1))
	r, err := repo.Open(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	r.Trust(b.keys.Signer.Public())
	forged, err := r.Manifest(ctx, "files", m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Snapshot(ctx, forged, b.keys.Identity); !errors.Is(err, repo.ErrUntrusted) || !errors.Is(err, seal.ErrSignature) {
		t.Errorf("forged manifest: %v", err)
	}
	if _, err := foreignRepo.Snapshot(ctx, m, b.keys.Identity); !errors.Is(err, repo.ErrForeign) {
		t.Errorf("snapshot of another repository: %v", err)
	}
	if err := foreignRepo.Replicate(ctx, b.repo, m); !errors.Is(err, repo.ErrForeign) {
		t.Errorf("replicate into another repository: %v", err)
	}
	// Replicate copies no damage.
	st = b.store.Clone()
	bad := st.Bytes(pack(m, 0))
	bad[len(bad)/2] ^= 1
	st.Set(pack(m, 0), bad)
	r, err = repo.Open(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	to := repotest.Init(ctx, t, repotest.NewMemory(), "r1")
	if err := to.Replicate(ctx, r, m); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("replicate damage: %v", err)
	}
	if ms, err := to.Manifests(ctx, ""); err != nil || len(ms) > 0 {
		t.Error("listed", ms, err)
	}
}

func padTo(b []byte, n int) []byte {
	if len(b) >= n {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

// A run that is given up leaves nothing listed and no goroutine stuck.
func TestAbortAndCancel(t *testing.T) {
	b := newBed(t)
	w, err := repo.NewWriter(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(t.Context(), repo.Entry{Path: "x", Type: repo.TypeFile}, bytes.NewReader(random(1, 3_000_000))); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	if _, _, err := w.Finish(t.Context()); !errors.Is(err, repo.ErrClosed) {
		t.Errorf("finish after abort: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err = repo.NewWriter(ctx, b.config())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Add(ctx, repo.Entry{Path: "x", Type: repo.TypeFile}, bytes.NewReader(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v", err)
	}
	if _, _, err := w.Finish(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("finish: %v", err)
	}
	if ms, err := b.repo.Manifests(t.Context(), ""); err != nil || len(ms) > 0 {
		t.Error("listed", ms, err)
	}
	// A file that cannot be read is left out, and the caller is told.
	w, err = repo.NewWriter(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("read error")
	if err := w.Add(t.Context(), repo.Entry{Path: "bad", Type: repo.TypeFile}, io.MultiReader(bytes.NewReader(random(1, 3_000_000)), &failing{broken})); !errors.Is(err, broken) {
		t.Errorf("unreadable file: %v", err)
	}
	if err := w.Add(t.Context(), repo.Entry{Path: "good", Type: repo.TypeFile}, strings.NewReader("good")); err != nil {
		t.Fatal(err)
	}
	m, _, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, restored(t.Context(), t, b.repo, m, b.keys.Identity), []file{{path: "good", content: []byte("good")}})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A pairing breaks the uploads of packs two at a time: the nth is held until the next one
// is on its way too, then the one, the other or both fail, before or after they took
// effect. What comes behind them goes well, unless dead says that it does not.
type pairing struct {
	repo.Store
	n              int // from 1; 0: nothing is broken
	first, second  bool
	landed, dead   bool
	mu             sync.Mutex
	packs, tripped int
	both           chan struct{}
}

func (p *pairing) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	p.mu.Lock()
	fail := p.dead && p.tripped > 0
	if strings.HasPrefix(name, "packs/") {
		p.packs++
		switch k := p.packs; {
		case p.n > 0 && k == p.n:
			p.mu.Unlock()
			select {
			case <-p.both:
			case <-ctx.Done():
				return ctx.Err()
			}
			p.mu.Lock()
			fail = p.first
		case p.n > 0 && k == p.n+1:
			close(p.both)
			fail = p.second
		}
		if fail {
			p.tripped++
		}
	}
	p.mu.Unlock()
	if fail && !p.landed {
		return repotest.ErrInjected
	}
	if err := p.Store.Put(ctx, name, size, body); err != nil || !fail {
		return err
	}
	return repotest.ErrInjected
}

// Two packs are on their way at once. Whichever of them fails, and whether the other lands,
// nothing that is listed is incomplete, and the next run builds on what landed.
func TestTwoUploadsAtOnce(t *testing.T) {
	ctx := t.Context()
	tree := smallTree()
	for i := range 3 {
		tree = append(tree, file{path: fmt.Sprintf("c/%d", i), content: random(uint64(10+i), 1<<20)})
	}
	for mode := range 1 << 4 {
		first, second, landed, dead := mode&1 != 0, mode&2 != 0, mode&4 != 0, mode&8 != 0
		if !first && !second {
			continue
		}
		total := 0
		for n := 0; n == 0 || n < total-1; n++ {
			b := newBed(t)
			faulty := &pairing{Store: b.store, first: first, second: second, landed: landed, dead: dead, both: make(chan struct{})}
			r, err := repo.Open(ctx, faulty)
			if err != nil {
				t.Fatal(err)
			}
			cfg := b.config(repo.Place{Name: "here", Repo: r})
			cfg.PackSize, cfg.CacheDir, cfg.Workers = 64<<10, t.TempDir(), 1
			if n == 0 {
				if _, _, err := write(ctx, cfg, tree); err != nil {
					t.Fatal(err)
				}
				if total = faulty.packs; total < 4 {
					t.Fatalf("only %d packs", total)
				}
				continue
			}
			faulty.n = n
			what := fmt.Sprintf("packs %d and %d, first %t, second %t, landed %t, for good %t", faulty.n, faulty.n+1, first, second, landed, dead)
			// What fails once is put again, and what landed all the same is found; what is lost
			// for good is loud.
			lost := dead && !landed
			if _, _, err := write(ctx, cfg, tree); lost && !errors.Is(err, repotest.ErrInjected) || err != nil && !errors.Is(err, repotest.ErrInjected) {
				t.Errorf("%s: %v", what, err)
			}
			ms, err := b.repo.Manifests(ctx, "")
			if err != nil || lost && len(ms) > 0 {
				t.Errorf("%s: listed %v, %v", what, ms, err)
			}
			for _, m := range ms {
				if err := b.repo.Check(ctx, m); err != nil {
					t.Errorf("%s: listed and not complete: %v", what, err)
				}
			}
			faulty.n, faulty.dead = 0, false
			m, copies, err := write(ctx, cfg, tree)
			if err != nil || copies[0].Err != nil {
				t.Fatalf("%s: the clean run: %v, %v", what, copies, err)
			}
			if err := b.repo.Check(ctx, m); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			sameFiles(t, restored(ctx, t, b.repo, m, b.keys.Identity), tree)
		}
	}
}
