//go:build linux

package files

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/repo"
)

func (b *bench) inPlace(snap *repo.Snapshot, cfg InPlace) InPlaceReport {
	b.t.Helper()
	cfg.Dir, cfg.Now = b.dir, b.now
	b.now = b.now.Add(time.Minute)
	report, err := RestoreInPlace(b.t.Context(), snap, cfg)
	must(b.t, err)
	return report
}

func changed(r InPlaceReport) []string {
	var out []string
	for _, c := range r.Changes {
		out = append(out, c.What+" "+c.Path)
	}
	slices.Sort(out)
	return out
}

// without is a description without what restores put aside.
func without(tree map[string]string) map[string]string {
	for p := range tree {
		if strings.HasPrefix(p, asidePrefix) {
			delete(tree, p)
		}
	}
	return tree
}

// Only what differs is written, what was there is put aside, and nothing else is
// touched; the second call finds nothing to do.
func TestInPlaceWritesWhatDiffers(t *testing.T) {
	b := newBench(t)
	want := b.everything()
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
	must(t, err)
	if r := b.inPlace(snap, InPlace{Extra: true}); len(r.Changes) > 0 || r.Same != int64(len(want)) {
		t.Fatalf("nothing was changed, and it says %q", changed(r))
	}
	// The same size and the same time: only the content says it.
	var st unix.Stat_t
	must(t, unix.Lstat(b.path("big"), &st))
	f, err := os.OpenFile(b.path("big"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("X"), 2_000_000)
	must(t, errors.Join(err, f.Close()))
	settime(t, b.path("big"), st.Mtim.Sec, st.Mtim.Nsec)
	must(t, os.RemoveAll(b.path("a/b/c")))
	must(t, os.Remove(b.path("link")))
	must(t, os.Symlink("elsewhere", b.path("link")))
	must(t, os.Remove(b.path("zz hard")))
	must(t, os.WriteFile(b.path("zz hard"), []byte("hello"), 0o644)) // a file of its own now
	must(t, os.Chmod(b.path("a-b"), 0o666))
	must(t, unix.Lsetxattr(b.path("a-b"), "user.added", []byte("x"), 0))
	must(t, os.Remove(b.path("odd/...")))
	must(t, os.Mkdir(b.path("odd/..."), 0o755)) // a directory where a file was
	b.write("odd/.../new", "kept")
	b.write("a/extra", "extra")
	b.write("cache/x", "excluded")
	b.write("a/b/x.tmp", "excluded")
	before := describe(t, b.dir)

	dry := b.inPlace(snap, InPlace{DryRun: true, Extra: true, Exclude: []string{"*.tmp", "/cache"}})
	compare(t, describe(t, b.dir), before)
	for _, c := range []string{"content big", "missing a/b/c", "missing a/b/c/deep", "content link", "content zz hard", "attributes a-b", "type odd/...", "extra a/extra"} {
		if !slices.Contains(changed(dry), c) {
			t.Errorf("%q is not announced: %q", c, changed(dry))
		}
	}
	for _, c := range changed(dry) {
		if strings.Contains(c, "cache") || strings.Contains(c, "tmp") || strings.HasSuffix(c, " plain") || strings.HasSuffix(c, " sparse") {
			t.Errorf("%q is announced", c)
		}
	}
	r := b.inPlace(snap, InPlace{Extra: true, Exclude: []string{"*.tmp", "/cache"}})
	if !slices.Equal(changed(r), changed(dry)) {
		t.Errorf("changed %q, announced %q", changed(r), changed(dry))
	}
	for name, text := range map[string]string{"a/extra": "extra", "odd/.../new": "kept"} {
		if got, err := os.ReadFile(filepath.Join(r.Aside, name)); err != nil || string(got) != text {
			t.Errorf("%s was not put aside: %q, %v", name, got, err)
		}
	}
	if old, err := os.ReadFile(filepath.Join(r.Aside, "big")); err != nil || old[2_000_000] != 'X' {
		t.Errorf("the old big file was not put aside: %v", err)
	}
	must(t, os.RemoveAll(b.path("cache")))
	must(t, os.Remove(b.path("a/b/x.tmp")))
	again := b.inPlace(snap, InPlace{Extra: true})
	for _, c := range changed(again) {
		if c != "attributes ." && c != "attributes a/b" { // the removals above changed their times
			t.Errorf("the second call changed %q", c)
		}
	}
	compare(t, without(describe(t, b.dir)), want)
}

// A part in place leaves the rest, and comes back also where its way is gone.
func TestInPlaceOfAPart(t *testing.T) {
	b := newBench(t)
	b.write("a/b/one", "one")
	b.write("a/b/two", "two")
	b.write("c/three", "three")
	must(t, os.Chmod(b.path("a"), 0o711))
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
	must(t, err)
	must(t, os.RemoveAll(b.path("a")))
	b.write("c/three", "changed")
	b.write("a-file", "mine")
	part, err := NewPart([]string{"a/b/one"}, nil)
	must(t, err)
	r := b.inPlace(snap, InPlace{Part: part, Extra: true})
	if !slices.Equal(changed(r), []string{"missing a/b/one"}) || r.Aside != "" {
		t.Errorf("%q, aside %q", changed(r), r.Aside)
	}
	for name, want := range map[string]string{"a/b/one": "one", "c/three": "changed", "a-file": "mine"} {
		if got, err := os.ReadFile(b.path(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(b.path("a")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("a: %v, %v", info, err)
	}
}

// Whatever was done to a directory, it comes back; a link in the way leads nowhere.
func TestInPlaceFromAnyState(t *testing.T) {
	b := newBench(t)
	for i := range 30 {
		b.write(fmt.Sprintf("d%d/f%d", i%5, i), strings.Repeat(fmt.Sprint(i), 1000*i+1))
	}
	must(t, os.Link(b.path("d0/f0"), b.path("d1/hard")))
	want := describe(t, b.dir)
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
	must(t, err)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "f1"), []byte("outside"), 0o644))
	r := rand.New(rand.NewPCG(3, 1))
	for round := range 12 {
		for range 8 {
			name := fmt.Sprintf("d%d/f%d", r.IntN(5), r.IntN(30))
			info, err := os.Lstat(b.path(filepath.Dir(name)))
			isDir := err == nil && info.IsDir()
			switch r.IntN(6) {
			case 0:
				if isDir {
					must(t, os.RemoveAll(b.path(name)))
				}
			case 1:
				must(t, os.RemoveAll(b.path(filepath.Dir(name))))
			case 2:
				must(t, os.RemoveAll(b.path(filepath.Dir(name))))
				must(t, os.Symlink(outside, b.path(filepath.Dir(name))))
			case 3:
				must(t, os.RemoveAll(b.path(filepath.Dir(name))))
				b.write(filepath.Dir(name), "a file")
			case 4:
				if isDir {
					must(t, os.RemoveAll(b.path(name)))
					b.write(name, "other")
				}
			case 5:
				if isDir {
					must(t, os.RemoveAll(b.path(name)))
					b.write(name+"/deep", "directory")
				}
			}
		}
		b.inPlace(snap, InPlace{Extra: true})
		compare(t, without(describe(t, b.dir)), want)
		if got, err := os.ReadFile(filepath.Join(outside, "f1")); err != nil || string(got) != "outside" {
			t.Fatalf("round %d: outside holds %q, %v", round, got, err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
