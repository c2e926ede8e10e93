//go:build linux

package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/mount"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/source/files"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A stage is a folder and what a mount needs of its backups.
type stage struct {
	dir   string
	store *repotest.Memory
	repo  *repo.Repository
	keys  repotest.Keys
}

func newStage(t *testing.T) *stage {
	s := &stage{dir: t.TempDir(), store: repotest.NewMemory(), keys: repotest.NewKeys(t)}
	s.repo = repotest.Init(t.Context(), t, s.store, "mount-test")
	return s
}

func (s *stage) write(t *testing.T, name string, content []byte) {
	t.Helper()
	p := filepath.Join(s.dir, name)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, content, 0o644))
}

// snapshot backs the folder up.
func (s *stage) snapshot(t *testing.T) *repo.Snapshot {
	t.Helper()
	w, err := repo.NewWriter(t.Context(), repo.WriterConfig{Places: []repo.Place{{Name: "here", Repo: s.repo}}, Scope: "uploads", Kind: "files",
		Recipients: s.keys.Recipients(), Signer: s.keys.Signer, MAC: s.keys.MAC, PackSize: 1 << 20, Clock: time.Now})
	must(t, err)
	defer w.Abort()
	src, err := files.New(files.Config{Store: "uploads", Path: s.dir})
	must(t, err)
	must(t, src.Snapshot(t.Context(), w, nil))
	m, _, err := w.Finish(t.Context())
	must(t, err)
	snap, err := s.repo.Snapshot(t.Context(), m, s.keys.Identity)
	must(t, err)
	return snap
}

func at(t *testing.T, snap *repo.Snapshot, damaged func(string, error)) string {
	t.Helper()
	dir := t.TempDir()
	m, err := mount.At(snap, dir, damaged)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return dir
}

// describe is what can be seen of a tree, without content and link counts.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		rel, err := filepath.Rel(root, p)
		must(t, err)
		s := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d rdev %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			s += fmt.Sprintf(" size %d", st.Size)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := os.Readlink(p)
			must(t, err)
			s += " -> " + target
		}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(p, list)
		must(t, err)
		names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
		slices.Sort(names)
		for _, a := range names {
			v := make([]byte, 4096)
			n, err := unix.Lgetxattr(p, a, v)
			must(t, err)
			s += fmt.Sprintf(" %s=%x", a, v[:n])
		}
		out[rel] = s
		return nil
	}))
	return out
}

// What is mounted looks like what was backed up, and cannot be changed.
func TestMountShowsTheFolder(t *testing.T) {
	s := newStage(t)
	s.write(t, "plain", []byte("hello"))
	s.write(t, "a/b/c", []byte("deep"))
	s.write(t, "odd \xff\n/\xfe", []byte("odd"))
	for i := range 3000 {
		s.write(t, fmt.Sprintf("many/%04d", i), []byte{byte(i)})
	}
	must(t, os.Symlink("../plain", filepath.Join(s.dir, "a/link")))
	must(t, os.Link(filepath.Join(s.dir, "plain"), filepath.Join(s.dir, "z hard")))
	must(t, os.Link(filepath.Join(s.dir, "a/link"), filepath.Join(s.dir, "z hard link to link")))
	must(t, unix.Mkfifo(filepath.Join(s.dir, "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(s.dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Lsetxattr(filepath.Join(s.dir, "plain"), "user.comment", []byte("a\x00b"), 0))
	must(t, os.Chown(filepath.Join(s.dir, "a/b/c"), 1234, 5678))
	must(t, os.Chmod(filepath.Join(s.dir, "a/b"), 0o2770))
	want := describe(t, s.dir)
	dir := at(t, s.snapshot(t), nil)
	got := describe(t, dir)
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%q:\ngot  %s\nwant %s", p, got[p], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for name, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644),
		"create": os.WriteFile(filepath.Join(dir, "new"), nil, 0o644),
		"remove": os.Remove(filepath.Join(dir, "plain")),
		"chmod":  os.Chmod(filepath.Join(dir, "plain"), 0o600),
		"rename": os.Rename(filepath.Join(dir, "plain"), filepath.Join(dir, "moved")),
	} {
		if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOSYS) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "plain")); err != nil || string(b) != "hello" {
		t.Errorf("plain holds %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// Reads at any place give what was there, also side by side, also in holes.
func TestRandomAccess(t *testing.T) {
	s := newStage(t)
	content := make([]byte, 9<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	clear(content[3<<20 : 6<<20])
	s.write(t, "big", content)
	must(t, os.Truncate(filepath.Join(s.dir, "big"), int64(len(content))))
	dir := at(t, s.snapshot(t), nil)
	f, err := os.Open(filepath.Join(dir, "big"))
	must(t, err)
	defer f.Close()
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				off := r.Int64N(int64(len(content)))
				b := make([]byte, r.Int64N(300_000))
				n, _ := f.ReadAt(b, off)
				if want := content[off:min(off+int64(len(b)), int64(len(content)))]; !bytes.Equal(b[:n], want) {
					t.Errorf("%d bytes at %d are not what was there", len(b), off)
				}
			}
		})
	}
	wg.Wait()
}

// Damage costs the file that it hit, with an error and a name, and no other.
func TestDamageIsAnErrorOfItsFile(t *testing.T) {
	s := newStage(t)
	for i := range 6 {
		b := make([]byte, 800_000)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		s.write(t, fmt.Sprint(i), b)
	}
	snap := s.snapshot(t)
	e, err := snap.Find(t.Context(), "3")
	must(t, err)
	id := snap.Manifest().Packs[e.Extents[0].Pack].ID
	name := "packs/" + id[:2] + "/" + id
	b := bytes.Clone(s.store.Bytes(name))
	b[400_000] ^= 1
	s.store.Set(name, b)
	var mu sync.Mutex
	var told []string
	dir := at(t, snap, func(p string, _ error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, p)
	})
	bad := 0
	for i := range 6 {
		if _, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			if !errors.Is(err, unix.EIO) {
				t.Errorf("%d: %v, want an input/output error", i, err)
			}
			bad++
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if bad == 0 || bad == 6 || len(told) != bad {
		t.Errorf("%d files of 6 cannot be read, and %q were told", bad, told)
	}
}

// A mount ends while somebody works in it, and a place that is not empty is refused.
func TestMountEnds(t *testing.T) {
	s := newStage(t)
	s.write(t, "f", []byte("x"))
	snap := s.snapshot(t)
	dir := t.TempDir()
	m, err := mount.At(snap, dir, nil)
	must(t, err)
	if _, err := mount.At(snap, dir, nil); !errors.Is(err, holdfast.ErrRefused) || holdfast.Hint(err) == "" {
		t.Errorf("a directory that shows something: %v", err)
	}
	f, err := os.Open(filepath.Join(dir, "f"))
	must(t, err)
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	for { // Close takes the busy mount out of the tree first
		if _, err := os.Stat(filepath.Join(dir, "f")); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	must(t, f.Close())
	must(t, <-closed)
	<-m.Done()
	if _, err := mount.At(snap, filepath.Join(dir, "absent"), nil); !errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "" {
		t.Errorf("a directory that is not there: %v", err)
	}
}
