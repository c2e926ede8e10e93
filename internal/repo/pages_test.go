package repo_test

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/repo"
)

const page = 8 << 10

// writePaged makes a snapshot of files of pages. They come in no order, as a database
// sends them.
func writePaged(ctx context.Context, cfg repo.WriterConfig, files map[string][]byte) (*repo.Manifest, repo.Stats, error) {
	w, err := repo.NewWriter(ctx, cfg)
	if err != nil {
		return nil, repo.Stats{}, err
	}
	defer w.Abort()
	for _, path := range []string{"b", "a", "c"} {
		content, ok := files[path]
		if !ok {
			continue
		}
		e := repo.Entry{Path: path, Type: repo.TypeFile, Mode: 0o600, ModTime: start, Cut: repo.CutPages}
		if err := w.Add(ctx, e, bytes.NewReader(content)); err != nil {
			return nil, repo.Stats{}, err
		}
	}
	m, _, err := w.Finish(ctx)
	return m, w.Stats(), err
}

// The second snapshot of a file of pages stores the pages that changed.
func TestOnlyChangedPagesAreStored(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	files := map[string][]byte{"a": random(1, 4<<20), "b": random(2, 3<<20+page/2)}
	ctx := t.Context()
	if _, _, err := writePaged(ctx, cfg, files); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func()
		pages  int64 // stored anew
	}{
		{"nothing", func() {}, 0},
		{"three pages", func() { a := files["a"]; a[5]++; a[2<<20]++; a[4<<20-1]++ }, 3 * page},
		{"the last, short page", func() { files["b"][3<<20]++ }, page / 2},
		{"grown by a page and a bit", func() {
			files["b"] = append(files["b"], random(3, page)...)
		}, page + page/2},
		{"cut off", func() { files["a"] = files["a"][:3<<20+page] }, 0},
		{"the greater part of a MiB", func() { changePages(files["a"][:1<<20], 65) }, 1 << 20},
		{"not the greater part of it", func() { changePages(files["a"][1<<20:2<<20], 64) }, 64 * page},
		{"two pages that trade places", func() { a := files["a"]; copy(a, append(bytes.Clone(a[page:2*page]), a[:page]...)) }, 2 * page},
		{"a page of another file", func() { copy(files["a"][7*page:8*page], files["b"]) }, page},
		{"a new file beside the others", func() { files["c"] = random(9, page) }, page},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.change()
			m, stats, err := writePaged(ctx, cfg, files)
			if err != nil {
				t.Fatal(err)
			}
			if stats.BytesNew != tc.pages {
				t.Errorf("%d bytes were stored, want %d", stats.BytesNew, tc.pages)
			}
			samePaged(ctx, t, b, m, files)
		})
	}
}

// changePages changes the first n pages.
func changePages(b []byte, n int) {
	for i := range n {
		b[i*page]++
	}
}

// samePaged compares the content and its hashes, and that everything is verified.
func samePaged(ctx context.Context, t *testing.T, b *bed, m *repo.Manifest, files map[string][]byte) {
	t.Helper()
	s := sameContent(ctx, t, b, m, files)
	if err := s.Entries(ctx, func(e repo.Entry) error {
		if len(e.Hash) != 32 {
			t.Errorf("%s has no hash, though all of it was read", e.Path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// sameContent is samePaged for files of which only pages were read.
func sameContent(ctx context.Context, t *testing.T, b *bed, m *repo.Manifest, files map[string][]byte) *repo.Snapshot {
	t.Helper()
	got := restored(ctx, t, b.repo, m, b.keys.Spare)
	if len(got) != len(files) {
		t.Errorf("%d files, want %d", len(got), len(files))
	}
	for path, want := range files {
		if !bytes.Equal(got[path], want) {
			t.Errorf("%s came back different", path)
		}
	}
	s, err := b.repo.Snapshot(ctx, m, b.keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if damage, err := s.Verify(ctx, nil); err != nil || len(damage) > 0 {
		t.Error(damage, err)
	}
	return s
}

// However often pages change, here and there, a restore does not decompress more than
// four times of what it writes.
func TestPagesAreGatheredAgain(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	files := map[string][]byte{"a": random(1, 4<<20), "b": random(2, 4<<20)}
	r := rand.New(rand.NewPCG(1, 2))
	ctx := t.Context()
	most := 0.0
	for range 25 {
		m, _, err := writePaged(ctx, cfg, files)
		if err != nil {
			t.Fatal(err)
		}
		s, err := b.repo.Snapshot(ctx, m, b.keys.Identity)
		if err != nil {
			t.Fatal(err)
		}
		ends := map[[2]uint32]int64{}
		if err := s.Entries(ctx, func(e repo.Entry) error {
			for _, x := range e.Extents {
				k := [2]uint32{x.Pack, x.Segment}
				ends[k] = max(ends[k], int64(x.At)+x.Length)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		read := int64(0)
		for _, n := range ends {
			read += n
		}
		most = max(most, float64(read)/(8<<20))
		for _, content := range files {
			for at := 0; at < len(content); at += page {
				if r.IntN(4) == 0 {
					content[at]++
				}
			}
		}
	}
	if most > 4 || most < 2 {
		t.Errorf("a restore decompresses %.1f times of what it writes, want two to four: the rule did nothing, or too much", most)
	}
}

// A map that is torn, altered, or of another time costs room and is never believed.
func TestForeignPageMap(t *testing.T) {
	ctx := t.Context()
	for name, spoil := range map[string]func(at int, before, b []byte) []byte{
		"torn":                               func(at int, _, b []byte) []byte { return b[:at] },
		"a number of pages that no file has": func(_ int, _, b []byte) []byte { b[0], b[1] = 0xff, 0xff; return b },
		"flipped":                            func(at int, _, b []byte) []byte { b[at] ^= 1; return b },
		"older":                              func(_ int, before, _ []byte) []byte { return before },
		"sums of another file": func(_ int, _, b []byte) []byte {
			n := len(b) / 2 // two files of one length
			copy(b[36:n-32], bytes.Clone(b[n+36:len(b)-32]))
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 12 {
				b := newBed(t)
				cfg := b.config()
				cfg.CacheDir = t.TempDir()
				files := map[string][]byte{"a": random(1, 6*page), "b": random(2, 6*page)}
				if _, _, err := writePaged(ctx, cfg, files); err != nil {
					t.Fatal(err)
				}
				before, err := os.ReadFile(pageMapOf(t, cfg.CacheDir))
				if err != nil {
					t.Fatal(err)
				}
				files["a"][3*page]++
				if _, _, err := writePaged(ctx, cfg, files); err != nil {
					t.Fatal(err)
				}
				name := pageMapOf(t, cfg.CacheDir)
				now, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, spoil(r.IntN(len(now)), before, now), 0o600); err != nil {
					t.Fatal(err)
				}
				files["a"], files["b"] = files["b"], files["a"]
				m, _, err := writePaged(ctx, cfg, files)
				if err != nil {
					t.Fatal(err)
				}
				samePaged(ctx, t, b, m, files)
			}
		})
	}
}

// pageMapOf finds the one map in a cache.
func pageMapOf(t *testing.T, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(name), "pages-1-") {
			found = append(found, name)
		}
		return err
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("maps in the cache: %q, %v", found, err)
	}
	return found[0]
}

// A snapshot whose packs are gone is not built upon, whatever the map says.
func TestPagesOfPacksThatAreGone(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	files := map[string][]byte{"a": random(1, 2<<20), "b": random(2, 2<<20)}
	ctx := t.Context()
	first, _, err := writePaged(ctx, cfg, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range first.Packs[:2] {
		if err := b.store.Delete(ctx, "packs/"+p.ID[:2]+"/"+p.ID); err != nil {
			t.Fatal(err)
		}
	}
	files["a"][0]++
	m, _, err := writePaged(ctx, cfg, files)
	if err != nil {
		t.Fatal(err)
	}
	samePaged(ctx, t, b, m, files)
}

// Whoever knows which pages changed gives only those. The file is what it became, also for
// a later snapshot that reads all of it, and for one that builds on that knowledge again.
func TestOverlayPast(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	ctx := t.Context()
	content := random(1, 100*page)
	if _, _, err := writePaged(ctx, cfg, map[string][]byte{"a": content, "b": random(2, 20*page), "c": random(3, 3*page/2)}); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"a": content}
	// over writes a snapshot of "a" alone from the pages that are given.
	over := func(pages ...int64) (*repo.Manifest, repo.Stats, error) {
		w, err := repo.NewWriter(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		past, ok := w.Past("a")
		if !ok {
			t.Fatal("nothing is known of it")
		}
		if past.Sum(30) != w.PageSum(files["a"][30*page:31*page]) || past.Sum(30) == w.PageSum(files["a"][31*page:32*page]) {
			t.Error("a page is not told from another")
		}
		e := repo.Entry{Path: "a", Type: repo.TypeFile, Mode: 0o600, ModTime: start, Size: int64(len(files["a"]))}
		err = w.OverlayPast(ctx, e, past, func(yield func(repo.Page, error) bool) {
			for _, i := range pages {
				data := make([]byte, page)
				if i >= 0 && (i+1)*page <= int64(len(files["a"])) {
					copy(data, files["a"][i*page:])
				}
				if !yield(repo.Page{Offset: i * page, Data: data}, nil) {
					return
				}
			}
		})
		if err != nil {
			return nil, repo.Stats{}, err
		}
		m, _, err := w.Finish(ctx)
		return m, w.Stats(), err
	}
	change := func(pages ...int) {
		for _, i := range pages {
			files["a"][i*page+17]++
		}
	}
	for _, tt := range []struct {
		name   string
		change func()
		pages  []int64
		stored int64
	}{
		{"nothing", func() {}, nil, 0},
		{"some pages", func() { change(0, 50, 99) }, []int64{0, 7, 50, 99}, 4 * page},
		{"grown", func() { files["a"] = append(files["a"], random(4, 3*page)...) }, []int64{100, 101, 102}, 3 * page},
		{"cut off", func() { files["a"] = files["a"][:60*page]; change(2) }, []int64{2}, page},
		{"nothing again", func() {}, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change()
			m, stats, err := over(tt.pages...)
			if err != nil {
				t.Fatal(err)
			}
			sameContent(ctx, t, b, m, files)
			if stats.BytesRead != tt.stored {
				t.Errorf("%d bytes were given, and %d read", tt.stored, stats.BytesRead)
			}
		})
	}
	for _, tt := range []struct {
		name  string
		pages []int64
	}{{"before the file", []int64{-1}}, {"behind the file", []int64{60}}, {"not in order", []int64{5, 3}}} {
		if _, _, err := over(tt.pages...); err == nil {
			t.Errorf("a page %s was taken", tt.name)
		}
	}
	files["a"] = append(files["a"], random(5, 2*page)...)
	if _, _, err := over(60); err == nil {
		t.Error("a file grew by pages that nobody gave")
	}
	if _, _, err := over(60, 61); err != nil {
		t.Fatal(err)
	}
	change(11)
	m, stats, err := writePaged(ctx, cfg, files) // by whoever reads all
	if err != nil {
		t.Fatal(err)
	}
	samePaged(ctx, t, b, m, files)
	if stats.BytesNew != page {
		t.Errorf("%d bytes were stored for a page", stats.BytesNew)
	}
}
