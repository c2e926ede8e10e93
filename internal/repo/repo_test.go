package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

var start = time.Date(2026, 11, 22, 10, 15, 30, 0, time.UTC)

// ticking returns a clock that moves a minute with every call.
func ticking() func() time.Time {
	now := start
	return func() time.Time {
		now = now.Add(time.Minute)
		return now
	}
}

// bed is one place with keys.
type bed struct {
	keys  repotest.Keys
	store *repotest.Memory
	repo  *repo.Repository
	clock func() time.Time
}

func newBed(t *testing.T) *bed {
	b := &bed{keys: repotest.NewKeys(t), store: repotest.NewMemory(), clock: ticking()}
	b.repo = repotest.Init(t.Context(), t, b.store, "r1")
	return b
}

func (b *bed) config(places ...repo.Place) repo.WriterConfig {
	if len(places) == 0 {
		places = []repo.Place{{Name: "here", Repo: b.repo}}
	}
	return repo.WriterConfig{
		Places: places, Scope: "files", Kind: "files", Recipients: b.keys.Recipients(), Signer: b.keys.Signer, MAC: b.keys.MAC,
		PackSize: 256 << 10, Clock: b.clock,
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func texty(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString([]string{"alpha ", "beta ", "gamma ", "delta\n"}[r.IntN(4)])
	}
	return b.Bytes()[:n]
}

// file is one file of a small tree.
type file struct {
	path    string
	content []byte
	sparse  bool
	cut     repo.Cut
}

func tree() []file {
	holes := make([]byte, 3<<20)
	copy(holes[1<<20:], random(7, 20_000))
	return []file{
		{path: "a/empty"},
		{path: "a/random", content: random(1, 700_000)},
		{path: "a/small", content: []byte("hello")},
		{path: "a/text", content: texty(2, 3_000_000)},
		{path: "b/holes", content: holes, sparse: true, cut: repo.CutPages},
		{path: "b/pages", content: texty(3, 2_400_000), cut: repo.CutPages},
		{path: "b/same", content: random(1, 700_000)},
	}
}

func write(ctx context.Context, cfg repo.WriterConfig, files []file) (*repo.Manifest, []repo.Copy, error) {
	w, err := repo.NewWriter(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	defer w.Abort()
	for _, f := range files {
		e := repo.Entry{Path: f.path, Type: repo.TypeFile, Mode: 0o640, ModTime: start.Add(123), Sparse: f.sparse, Cut: f.cut}
		if err := w.Add(ctx, e, bytes.NewReader(f.content)); err != nil {
			return nil, nil, err
		}
	}
	return w.Finish(ctx)
}

// restored reads a snapshot back into a map.
func restored(ctx context.Context, t *testing.T, r *repo.Repository, m *repo.Manifest, id seal.Identity) map[string][]byte {
	t.Helper()
	s, err := r.Snapshot(ctx, m, id)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	if err := s.Entries(ctx, func(e repo.Entry) error {
		if e.Type != repo.TypeFile {
			return nil
		}
		b, err := io.ReadAll(s.Open(e))
		if err == nil && len(e.Hash) > 0 {
			if h := seal.Hash(b); !bytes.Equal(h[:], e.Hash) {
				t.Errorf("%s: hash differs", e.Path)
			}
		}
		got[e.Path] = b
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func sameFiles(t *testing.T, got map[string][]byte, want []file) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for _, f := range want {
		b, ok := got[f.path]
		if !ok || !bytes.Equal(b, f.content) {
			t.Errorf("%s: %d bytes restored (%t), want %d", f.path, len(b), ok, len(f.content))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, codec := range []repo.Codec{repo.Zstd, repo.S2, repo.Stored} {
		t.Run(string(codec), func(t *testing.T) {
			b := newBed(t)
			cfg := b.config()
			cfg.Codec = codec
			m, copies, err := write(t.Context(), cfg, tree())
			if err != nil || len(copies) != 1 || copies[0].Err != nil {
				t.Fatal(copies, err)
			}
			if err := m.Verify(b.keys.Signer.Public()); err != nil {
				t.Error(err)
			}
			if err := b.repo.Check(t.Context(), m); err != nil {
				t.Error(err)
			}
			for _, id := range []seal.Identity{b.keys.Identity, b.keys.Spare} {
				sameFiles(t, restored(t.Context(), t, b.repo, m, id), tree())
			}
			s, err := b.repo.Snapshot(t.Context(), m, b.keys.Identity)
			if err != nil {
				t.Fatal(err)
			}
			if damage, err := s.Verify(t.Context(), nil); err != nil || len(damage) > 0 {
				t.Error(damage, err)
			}
			stranger, err := seal.GenerateIdentity()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.repo.Snapshot(t.Context(), m, stranger); !errors.Is(err, seal.ErrNoIdentity) {
				t.Errorf("a stranger opened the snapshot: %v", err)
			}
		})
	}
}

// One content is stored once: within a run, and in the next run by the cache.
func TestDeduplicates(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	run := func(files []file) repo.Stats {
		t.Helper()
		w, err := repo.NewWriter(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := w.Add(t.Context(), repo.Entry{Path: f.path, Type: repo.TypeFile}, bytes.NewReader(f.content)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w.Stats()
	}
	files := []file{{path: "a", content: random(1, 5_000_000)}, {path: "b", content: random(1, 5_000_000)}}
	if s := run(files); s.BytesRead != 10_000_000 || s.BytesNew != 5_000_000 {
		t.Errorf("first run: %+v", s)
	}
	if s := run(files); s.BytesNew != 0 {
		t.Errorf("second run: %+v", s)
	}
	// An insertion moves few cuts.
	files[0].content = append([]byte("inserted"), files[0].content...)
	if s := run(files); s.BytesNew == 0 || s.BytesNew > 2<<20 {
		t.Errorf("after an insertion: %+v", s)
	}
	// Packs that are gone from every place are not referred to.
	for _, n := range b.store.Names() {
		if strings.HasPrefix(n, "packs/") || strings.HasPrefix(n, "snapshots/") {
			b.store.Set(n, nil)
		}
	}
	if s := run(files); s.BytesNew < 5_000_000 {
		t.Errorf("after a loss: %+v", s)
	}
	ms, err := b.repo.Manifests(t.Context(), "files")
	if err != nil || len(ms) != 1 {
		t.Fatal(ms, err)
	}
	sameFiles(t, restored(t.Context(), t, b.repo, ms[0], b.keys.Identity), files)
}

func TestChainAndParent(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	at := time.Unix(1_700_000_000, 5)
	entry := func(p string, size int) repo.Entry {
		return repo.Entry{Path: p, Type: repo.TypeFile, Size: int64(size), ModTime: at, ChangeTime: at, Inode: 7}
	}
	w, err := repo.NewWriter(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree() {
		if ok, err := w.AddUnchanged(t.Context(), entry(f.path, len(f.content))); ok || err != nil {
			t.Fatal("unchanged since nothing", err)
		}
		if err := w.Add(t.Context(), entry(f.path, len(f.content)), bytes.NewReader(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err = repo.NewWriter(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree() {
		ok, err := w.AddUnchanged(t.Context(), entry(f.path, len(f.content)))
		if !ok || err != nil {
			t.Fatalf("%s: %t, %v", f.path, ok, err)
		}
	}
	if _, ok := w.Previous("nothing"); ok {
		t.Error("an entry that never was")
	}
	e := entry("a/small", 5)
	e.Inode = 8
	if ok, err := w.AddUnchanged(t.Context(), e); ok || err != nil {
		t.Error("another inode is unchanged", err)
	}
	second, _, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Previous != "" || second.Previous != first.Hash() {
		t.Errorf("chain: %q, %q, want %q", first.Previous, second.Previous, first.Hash())
	}
	if s := w.Stats(); s.BytesNew != 0 || s.BytesRead != 0 {
		t.Errorf("%+v", s)
	}
	sameFiles(t, restored(t.Context(), t, b.repo, second, b.keys.Identity), tree())
}

// One place that fails costs itself only, and is made whole later.
func TestPlaces(t *testing.T) {
	b := newBed(t)
	other := repotest.NewMemory()
	repotest.Init(t.Context(), t, other, "r1")
	broken := &repotest.Faulty{Store: other}
	away, err := repo.Open(t.Context(), broken)
	if err != nil {
		t.Fatal(err)
	}
	broken.N, broken.Forever = 4, true
	cfg := b.config(repo.Place{Name: "here", Repo: b.repo}, repo.Place{Name: "away", Repo: away})
	cfg.CacheDir = t.TempDir()
	m, copies, err := write(t.Context(), cfg, tree())
	if err != nil {
		t.Fatal(err)
	}
	if copies[0].Err != nil || !errors.Is(copies[1].Err, repotest.ErrInjected) {
		t.Errorf("copies: %v", copies)
	}
	broken.N = 0
	if ms, err := away.Manifests(t.Context(), ""); err != nil || len(ms) != 0 {
		t.Errorf("listed at the place that failed: %v, %v", ms, err)
	}
	if err := away.Check(t.Context(), m); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("check: %v", err)
	}
	// The next run shares all its chunks with the first; the place gets them too.
	m2, copies, err := write(t.Context(), cfg, tree())
	if err != nil || copies[0].Err != nil || copies[1].Err != nil {
		t.Fatal(copies, err)
	}
	sameFiles(t, restored(t.Context(), t, away, m2, b.keys.Identity), tree())
	if err := away.Replicate(t.Context(), b.repo, m); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, restored(t.Context(), t, away, m, b.keys.Identity), tree())
	if err := away.Replicate(t.Context(), b.repo, m); err != nil {
		t.Errorf("repeated: %v", err)
	}
}

func TestExtract(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	w, err := repo.NewWriter(ctx, b.config())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_600_000_000, 987_654_321)
	odd := "odd\xff\"\\\n name"
	for _, e := range []repo.Entry{
		{Path: ".", Type: repo.TypeDir, Mode: 0o750, ModTime: at},
		{Path: "d", Type: repo.TypeDir, Mode: 0o500, ModTime: at},
		{Path: "d/f", Type: repo.TypeFile, Mode: 0o4755, ModTime: at, Xattrs: map[string][]byte{"user.note": {0, 1, 255}}},
		{Path: "d/link", Type: repo.TypeSymlink, Target: "/etc/passwd", ModTime: at},
		{Path: "d/hard", Type: repo.TypeHardlink, Target: "d/f"},
		{Path: "d/fifo", Type: repo.TypeFIFO, Mode: 0o622, ModTime: at},
		{Path: odd, Type: repo.TypeFile, Mode: 0o600, ModTime: at},
		{Path: "sparse", Type: repo.TypeFile, Mode: 0o600, Sparse: true},
		{Path: "big", Type: repo.TypeFile, Mode: 0o600, Cut: repo.CutPages},
	} {
		var content io.Reader
		switch e.Path {
		case "d/f":
			content = strings.NewReader("content")
		case "sparse":
			content = bytes.NewReader(append(make([]byte, 64<<20), 'x'))
		case "big":
			content = bytes.NewReader(texty(5, 5<<20+8192))
		case odd:
			content = bytes.NewReader(random(3, 300_000))
		}
		if err := w.Add(ctx, e, content); err != nil {
			t.Fatal(err)
		}
	}
	m, _, err := w.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.repo.Snapshot(ctx, m, b.keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "to")
	seen := map[string]*bytes.Buffer{}
	stats, err := s.Extract(ctx, repo.ExtractConfig{Dir: dir, Owners: true, Witness: func(p string) io.Writer {
		if p == "d/f" {
			return nil
		}
		seen[p] = &bytes.Buffer{}
		return seen[p]
	}})
	if err != nil || stats.Files != 9 {
		t.Fatalf("%+v, %v", stats, err)
	}
	for name, want := range map[string][]byte{odd: random(3, 300_000), "sparse": append(make([]byte, 64<<20), 'x'), "big": texty(5, 5<<20+8192)} {
		if w := seen[name]; w == nil || !bytes.Equal(w.Bytes(), want) {
			t.Errorf("the witness of %q did not see its content", name)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d files have a witness", len(seen))
	}
	for _, l := range stats.Lost {
		t.Errorf("lost: %s", l)
	}
	for name, mode := range map[string]fs.FileMode{
		".": 0o750 | fs.ModeDir, "d": 0o500 | fs.ModeDir, "d/f": 0o755 | fs.ModeSetuid, odd: 0o600, "d/fifo": 0o622 | fs.ModeNamedPipe,
	} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != mode || !fi.ModTime().Equal(at) {
			t.Errorf("%q: %v %v, want %v %v", name, fi.Mode(), fi.ModTime(), mode, at)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "d/link")); err != nil || to != "/etc/passwd" {
		t.Error(to, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(dir, "d/f"), "user.note", value); err != nil || !bytes.Equal(value[:n], []byte{0, 1, 255}) {
		t.Error(value[:max(n, 0)], err)
	}
	a, err1 := os.Stat(filepath.Join(dir, "d/f"))
	c, err2 := os.Stat(filepath.Join(dir, "d/hard"))
	if err1 != nil || err2 != nil || !os.SameFile(a, c) {
		t.Error("hardlink", err1, err2)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "sparse"), &st); err != nil || st.Size != 64<<20+1 || st.Blocks*512 > 1<<20 {
		t.Errorf("sparse file: %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "big")); err != nil || !bytes.Equal(got, texty(5, 5<<20+8192)) {
		t.Error("big file differs", err)
	}
	if _, err := s.Extract(ctx, repo.ExtractConfig{Dir: dir}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over existing files: %v", err)
	}
	only := filepath.Join(t.TempDir(), "only")
	if _, err := s.Extract(ctx, repo.ExtractConfig{Dir: only, Rename: func(p string) (string, bool) { return "x/" + p, p == "d/f" }}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(only, "x/d/f")); err != nil || string(got) != "content" {
		t.Error(string(got), err)
	}
}

func TestExtractStaysInside(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	w, err := repo.NewWriter(ctx, b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, p := range []string{"../x", "/x", "a/../x", "a//x", "", "a\x00", "./x"} {
		if err := w.Add(ctx, repo.Entry{Path: p, Type: repo.TypeFile}, nil); !errors.Is(err, repo.ErrEscape) {
			t.Errorf("path %q: %v", p, err)
		}
	}
	if err := w.Add(ctx, repo.Entry{Path: "evil/x", Type: repo.TypeFile}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	m, _, err := w.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.repo.Snapshot(ctx, m, b.keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "evil")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Extract(ctx, repo.ExtractConfig{Dir: dir}); !errors.Is(err, repo.ErrEscape) {
		t.Errorf("through a symbolic link: %v", err)
	}
	if _, err := s.Extract(ctx, repo.ExtractConfig{Dir: t.TempDir(), Rename: func(string) (string, bool) { return "../x", true }}); !errors.Is(err, repo.ErrEscape) {
		t.Errorf("through a new name: %v", err)
	}
	if des, err := os.ReadDir(outside); err != nil || len(des) > 0 {
		t.Error("written outside", des, err)
	}
}

func TestLogs(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	data := texty(9, 100_000)
	p := repo.LogPiece{
		Scope: "db", Lineage: "7301", Timeline: 1, Start: 0x1000000, End: 0x1000000 + 100_000, LastRecord: 0x1000100, LastCommit: start, Created: start, Previous: "x",
	}
	for range 2 {
		if err := b.repo.PutLog(ctx, p, data, b.keys.LogKeys()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.repo.PutLog(ctx, p, texty(10, 100_000), b.keys.LogKeys()); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("other bytes: %v", err)
	}
	if err := b.repo.PutLog(ctx, p, data[1:], b.keys.LogKeys()); err == nil {
		t.Error("a piece that is too short was stored")
	}
	if err := b.repo.PutNamed(ctx, "db", "7301", "00000002.history", []byte("history"), b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	ls, err := b.repo.Logs(ctx, "db")
	if err != nil || len(ls) != 1 || ls[0].Start != p.Start || ls[0].End != p.End || ls[0].Timeline != 1 || ls[0].Lineage != "7301" {
		t.Fatal(ls, err)
	}
	h, err := b.repo.LogHeader(ctx, ls[0])
	if err != nil || h != p {
		t.Errorf("header %+v, want %+v, %v", h, p, err)
	}
	got, h, err := b.repo.ReadLog(ctx, ls[0], b.keys.Spare)
	if err != nil || h != p || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %+v, %v", len(got), h, err)
	}
	if got, err := b.repo.ReadNamed(ctx, "db", "7301", "00000002.history", b.keys.Identity); err != nil || string(got) != "history" {
		t.Error(string(got), err)
	}
	if names, err := b.repo.Named(ctx, "db", "7301"); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	one := b.keys.LogKeys()
	one.Recipients = one.Recipients[:1]
	if err := b.repo.PutLog(ctx, p, data, one); !errors.Is(err, repo.ErrRecipients) {
		t.Errorf("one recipient: %v", err)
	}
}

// Snapshots of one second are listed in the order in which they were made.
func TestSameSecond(t *testing.T) {
	b := newBed(t)
	b.clock = func() time.Time { return start }
	previous := ""
	for range 4 {
		m, _, err := write(t.Context(), b.config(), smallTree()[:1])
		if err != nil {
			t.Fatal(err)
		}
		if m.Previous != previous {
			t.Errorf("%s follows %q, want %q", m.ID, m.Previous, previous)
		}
		previous = m.Hash()
	}
	ms, err := b.repo.Manifests(t.Context(), "files")
	if err != nil || len(ms) != 4 || ms[3].Hash() != previous {
		t.Error(ms, err)
	}
}

// Looking at many snapshots lists the place once.
func TestCheckerListsOnce(t *testing.T) {
	b := newBed(t)
	var ms []*repo.Manifest
	for range 3 {
		m, _, err := write(t.Context(), b.config(), tree()[2:3])
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	counted := &repotest.Counted{Store: b.store}
	r, err := repo.Open(t.Context(), counted)
	if err != nil {
		t.Fatal(err)
	}
	counted.Asked()
	check, err := r.Checker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := ms[2].Packs[len(ms[2].Packs)-1].ID
	b.store.Set("packs/"+p[:2]+"/"+p, nil) // behind the listing: not looked at again
	for _, m := range ms {
		if err := check(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
	if gets, lists, _, _ := counted.Asked(); gets != 0 || lists != 1 {
		t.Errorf("%d reads and %d listings, want one listing", gets, lists)
	}
	if check, err = r.Checker(t.Context()); err != nil {
		t.Fatal(err)
	}
	var missing *repo.MissingError
	if err := check(t.Context(), ms[2]); !errors.As(err, &missing) {
		t.Errorf("a pack that is gone: %v", err)
	}
}
