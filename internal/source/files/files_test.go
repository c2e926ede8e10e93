//go:build linux

package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A bench is a repository with a source, and a clock that can run ahead.
type bench struct {
	t     *testing.T
	dir   string
	r     *repo.Repository
	keys  repotest.Keys
	cache string
	now   time.Time

	asUser int // whose rights the walk has
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make devices, owners and capabilities and need root")
	}
	return &bench{t: t, dir: t.TempDir(), r: repotest.Init(t.Context(), t, repotest.NewMemory(), "files-test"),
		keys: repotest.NewKeys(t), cache: t.TempDir(), now: time.Now()}
}

func (b *bench) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	must(b.t, os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	must(b.t, os.WriteFile(b.path(name), []byte(text), 0o644))
}

func (b *bench) source(cfg Config) *Source {
	b.t.Helper()
	cfg.Store, cfg.Path = "uploads", b.dir
	cfg.Clock = func() time.Time { return b.now }
	s, err := New(cfg)
	must(b.t, err)
	return s
}

// snapshot runs a snapshot an hour after the last one.
func (b *bench) snapshot(s *Source) (*repo.Manifest, Report, repo.Stats, error) {
	b.t.Helper()
	b.now = b.now.Add(time.Hour)
	ctx := b.t.Context()
	w, err := repo.NewWriter(ctx, repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: b.r}}, Scope: "uploads", Kind: "files", Recipients: b.keys.Recipients(),
		Signer: b.keys.Signer, MAC: b.keys.MAC, CacheDir: b.cache, Clock: func() time.Time { return b.now },
	})
	must(b.t, err)
	if b.asUser != 0 {
		runtime.LockOSThread() // not unlocked: the thread ends with the test
		must(b.t, unix.Setfsuid(b.asUser))
	}
	report, err := s.SnapshotReport(ctx, w, nil)
	if b.asUser != 0 {
		must(b.t, unix.Setfsuid(0))
	}
	var incomplete *IncompleteError
	if err != nil && !errors.As(err, &incomplete) {
		w.Abort()
		return nil, report, repo.Stats{}, err
	}
	m, copies, ferr := w.Finish(ctx)
	must(b.t, ferr)
	for _, c := range copies {
		must(b.t, c.Err)
	}
	return m, report, w.Stats(), err
}

func (b *bench) entries(m *repo.Manifest) map[string]repo.Entry {
	b.t.Helper()
	snap, err := b.r.Snapshot(b.t.Context(), m, b.keys.Identity)
	must(b.t, err)
	found := map[string]repo.Entry{}
	must(b.t, snap.Entries(b.t.Context(), func(e repo.Entry) error { found[e.Path] = e; return nil }))
	return found
}

func (b *bench) restore(m *repo.Manifest) string {
	b.t.Helper()
	snap, err := b.r.Snapshot(b.t.Context(), m, b.keys.Identity)
	must(b.t, err)
	dir := filepath.Join(b.t.TempDir(), "restored")
	stats, err := snap.Extract(b.t.Context(), repo.ExtractConfig{Dir: dir, Owners: true})
	must(b.t, err)
	for _, lost := range stats.Lost {
		b.t.Errorf("lost: %s", lost)
	}
	return dir
}

// describe tells everything about a tree that a restore must bring back.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	found, first := map[string]string{}, map[uint64]string{}
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		name, err := filepath.Rel(root, path)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		s := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d rdev %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			s += fmt.Sprintf(" same as %q", first[st.Ino])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			must(t, err)
			s += " -> " + target
		case unix.S_IFREG:
			s += fmt.Sprintf(" size %d", st.Size)
			if st.Size < 1<<24 {
				b, err := os.ReadFile(path)
				must(t, err)
				s += fmt.Sprintf(" content %q", b)
			} else {
				s += " data" + dataRuns(t, path)
			}
		}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(path, list)
		must(t, err)
		attrs := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
		slices.Sort(attrs)
		for _, a := range attrs {
			v := make([]byte, 8192)
			n, err := unix.Lgetxattr(path, a, v)
			must(t, err)
			s += fmt.Sprintf(" %s=%x", a, v[:n])
		}
		found[name] = s
		return nil
	}))
	return found
}

// dataRuns lists what a file with holes holds.
func dataRuns(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var s strings.Builder
	for at := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return s.String()
		}
		must(t, err)
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		must(t, err)
		b := make([]byte, end-start)
		_, err = f.ReadAt(b, start)
		must(t, err)
		// The repository's holes are whole pages of 8 KiB, so lengths may differ.
		fmt.Fprintf(&s, " %d:%q", start, bytes.TrimRight(b, "\x00"))
		at = end
	}
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range maps.Keys(want) {
		if got[name] != want[name] {
			t.Errorf("%q:\ngot  %s\nwant %s", name, got[name], want[name])
		}
	}
	for name := range maps.Keys(got) {
		if _, ok := want[name]; !ok {
			t.Errorf("%q was not there before", name)
		}
	}
}

func settime(t *testing.T, path string, sec, nsec int64) {
	t.Helper()
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// acl is a POSIX access list as the kernel keeps it.
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, 4, 12345}, {4, 4, ^uint32(0)}, {16, 6, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// everything fills the directory with all that a file system can hold, and
// describes it.
func (b *bench) everything() map[string]string {
	t := b.t
	t.Helper()
	b.write("plain", "hello")
	b.write("empty", "")
	b.write("a/b/c/deep", "deep")
	b.write("a-b", "sorts between a and a/b")
	b.write("big", strings.Repeat("0123456789abcdef", 300_000))
	for i, name := range []string{"new\nline", " space ", "-rf", `quote"'`, "\xff\xfe\x80", "tab\t", "å", "a\u030a", `back\slash`, "*?[", "…", strings.Repeat("x", 255), "..."} {
		b.write("odd/"+name, fmt.Sprint(i))
	}
	must(t, os.MkdirAll(b.path("odd/\xfe dir/\xfd"), 0o755))
	deep := strings.TrimSuffix(strings.Repeat("d/", 200), "/")
	b.write(deep+"/end", "end")

	// Links, of all kinds.
	must(t, os.Symlink("plain", b.path("link")))
	must(t, os.Symlink("/does/not/exist", b.path("dangling")))
	must(t, os.Symlink(strings.Repeat("y", 3000), b.path("long link")))
	must(t, os.Symlink("\xff", b.path("odd link")))
	must(t, os.Link(b.path("plain"), b.path("a/b/hard")))
	must(t, os.Link(b.path("plain"), b.path("zz hard")))
	must(t, os.Link(b.path("link"), b.path("a/hard link to link")))

	// Things without content.
	must(t, syscall.Mkfifo(b.path("fifo"), 0o640))
	must(t, os.Link(b.path("fifo"), b.path("fifo again")))
	must(t, unix.Mknod(b.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(b.path("loop"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 99))))
	must(t, unix.Mknod(b.path("socket"), unix.S_IFSOCK|0o600, 0))

	// Owners before modes: changing the owner clears the set-id bits.
	must(t, os.Lchown(b.path("link"), 12345, 54321))
	must(t, os.Chown(b.path("a/b"), 1, 1))
	must(t, os.Chown(b.path("a/b/c/deep"), 12345, 54321))
	for name, mode := range map[string]uint32{"a/b/c/deep": 0o6755, "a/b": 0o3775, "a": 0o1777, "empty": 0, "odd": 0o555, "a-b": 0o400} {
		must(t, unix.Chmod(b.path(name), mode))
	}

	// Attributes: the user's, capabilities, access lists, the administrator's.
	must(t, unix.Lsetxattr(b.path("plain"), "user.comment", []byte("a\x00b\xff"), 0))
	must(t, unix.Lsetxattr(b.path("plain"), "user.empty", nil, 0))
	must(t, unix.Lsetxattr(b.path("a"), "user.large", bytes.Repeat([]byte("v"), 3000), 0))
	must(t, unix.Lsetxattr(b.path("link"), "trusted.on.link", []byte("x"), 0))
	must(t, unix.Lsetxattr(b.path("fifo"), "trusted.on.fifo", []byte("x"), 0))
	must(t, unix.Lsetxattr(b.path("a/b/c/deep"), "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	must(t, unix.Lsetxattr(b.path("big"), "system.posix_acl_access", acl(), 0))
	must(t, unix.Lsetxattr(b.path("a/b"), "system.posix_acl_default", acl(), 0))

	// Holes.
	f, err := os.Create(b.path("sparse"))
	must(t, err)
	for _, at := range []int64{1 << 20, 300 << 20} {
		_, err = f.WriteAt([]byte("island"), at)
		must(t, err)
	}
	must(t, f.Truncate(400<<20))
	must(t, f.Close())

	// Times last: everything above changes them.
	settime(t, b.path("plain"), 1_600_000_000, 123_456_789)
	settime(t, b.path("link"), 1_500_000_000, 999_999_999)
	settime(t, b.path("fifo"), 1, 1)
	settime(t, b.path("empty"), -100_000_000, 5)
	settime(t, b.path("a-b"), 4_102_444_800, 0)
	settime(t, b.path("odd"), 1_400_000_000, 7)
	settime(t, b.path("a"), 1_300_000_000, 8)
	settime(t, b.dir, 1_200_000_000, 9)
	return describe(t, b.dir)
}

// Everything that a file system can hold comes back.
func TestRoundTrip(t *testing.T) {
	b := newBench(t)
	want := b.everything()
	m, report, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	restored := b.restore(m)
	compare(t, describe(t, restored), want)
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(restored, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the restored file with holes takes up %d bytes", st.Blocks*512)
	}
	if report.Entries != int64(len(want)) || report.Entries != m.Files {
		t.Errorf("%d entries reported, %d in the manifest, %d in the tree", report.Entries, m.Files, len(want))
	}
	e := b.entries(m)
	if e["."].User != "root" || e["a/b"].User != "daemon" || e["a/b"].Group != "daemon" || e["link"].User != "" || e["link"].UID != 12345 {
		t.Errorf("owners: %+v %+v", e["a/b"], e["link"])
	}
}

func TestUnchangedFilesAreNotRead(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		b.write(fmt.Sprintf("d%d/file", i%3*i), fmt.Sprintf("content %d", i))
	}
	for i := range 10 {
		b.write(fmt.Sprintf("f%d", i), strings.Repeat(fmt.Sprint(i), 10_000))
	}
	must(t, unix.Lsetxattr(b.path("f5"), "user.kept", []byte("as it is"), 0))
	s := b.source(Config{})
	_, first, _, err := b.snapshot(s)
	must(t, err)
	if first.Reused != 0 {
		t.Errorf("%d files reused by the first snapshot", first.Reused)
	}
	opened := openings(t, b.dir)
	m, second, stats, err := b.snapshot(s)
	must(t, err)
	if n := opened(); n != 0 {
		t.Errorf("%d files were opened to see that they did not change", n)
	}
	if second.Reused != first.Files || stats.BytesRead != 0 {
		t.Errorf("%d of %d files reused, %d bytes read", second.Reused, first.Files, stats.BytesRead)
	}
	compare(t, describe(t, b.restore(m)), describe(t, b.dir))

	// Each way to change a file, one at a time.
	keep := func(name string, change func(path string)) {
		var st unix.Stat_t
		must(t, unix.Lstat(b.path(name), &st))
		change(b.path(name))
		settime(t, b.path(name), st.Mtim.Sec, st.Mtim.Nsec) // somebody hides it
	}
	keep("f1", func(p string) { must(t, os.WriteFile(p, []byte(strings.Repeat("x", 10_000)), 0o644)) }) // same size, same mtime
	keep("f2", func(p string) {
		must(t, os.Rename(p, p+".old"))
		must(t, os.WriteFile(p, []byte(strings.Repeat("y", 10_000)), 0o644)) // another inode
		must(t, os.Remove(p+".old"))
	})
	b.write("f3", "shorter")
	m, third, _, err := b.snapshot(s)
	must(t, err)
	if third.Reused != first.Files-3 {
		t.Errorf("%d of %d files reused, want all but 3", third.Reused, first.Files)
	}
	compare(t, describe(t, b.restore(m)), describe(t, b.dir))

	// New rights and attributes arrive although the content is not read.
	must(t, os.Chmod(b.path("f4"), 0o600))
	must(t, unix.Lsetxattr(b.path("f5"), "user.x", []byte("1"), 0))
	m, _, _, err = b.snapshot(s)
	must(t, err)
	compare(t, describe(t, b.restore(m)), describe(t, b.dir))
}

// A file written just before it was read could change once more within the same
// tick of the clock, so it is read again by the next snapshot.
func TestFreshFilesAreReadAgain(t *testing.T) {
	b := newBench(t)
	b.write("fresh", "fresh")
	s := b.source(Config{})
	s.cfg.Clock = time.Now
	_, _, _, err := b.snapshot(s)
	must(t, err)
	s.cfg.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	_, report, _, err := b.snapshot(s)
	must(t, err)
	if report.Reused != 0 {
		t.Error("a file that was fresh when it was read was not read again")
	}
	_, report, _, err = b.snapshot(s)
	must(t, err)
	if report.Reused != 1 {
		t.Error("a file at rest was read again")
	}
}

func TestFileThatChangesWhileRead(t *testing.T) {
	for name, change := range map[string]func(path string){
		"grows": func(p string) {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString("more")
			must(t, err)
			must(t, f.Close())
		},
		"shrinks": func(p string) { must(t, os.Truncate(p, 10)) },
		"rewritten and times set back": func(p string) {
			var st unix.Stat_t
			must(t, unix.Lstat(p, &st))
			must(t, os.WriteFile(p, bytes.Repeat([]byte("z"), 50_000), 0o644))
			settime(t, p, st.Mtim.Sec, st.Mtim.Nsec)
		},
		"rewritten": func(p string) { must(t, os.WriteFile(p, bytes.Repeat([]byte("z"), 50_000), 0o644)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			original := strings.Repeat("a", 50_000)
			b.write("busy", original)
			b.write("calm", "calm")
			s := b.source(Config{})

			// Once: the second reading is whole.
			reads := 0
			s.reading = func(path string) {
				if path == "busy" {
					if reads++; reads == 1 {
						change(b.path(path))
					}
				}
			}
			m, report, _, err := b.snapshot(s)
			must(t, err)
			if reads != 2 || report.Changed != 0 || m.Labels[LabelChanged] != "" {
				t.Errorf("%d readings, %d changed, labels %v", reads, report.Changed, m.Labels)
			}
			compare(t, describe(t, b.restore(m)), describe(t, b.dir))

			// Always: it is stored, recorded, and not trusted next time.
			must(t, os.WriteFile(b.path("busy"), []byte(original), 0o644))
			reads = 0
			s.reading = func(path string) {
				if path == "busy" {
					reads++
					must(t, os.Truncate(b.path("busy"), 50_000))
					change(b.path(path))
				}
			}
			m, report, _, err = b.snapshot(s)
			must(t, err)
			if reads != readAttempts || report.Changed != 1 || m.Labels[LabelChanged] != "1" {
				t.Errorf("%d readings, %d changed, labels %v", reads, report.Changed, m.Labels)
			}
			if len(report.Problems) != 1 || report.Problems[0].Path != "busy" || !errors.Is(report.Problems[0].Err, errChanged) {
				t.Errorf("problems: %v", report.Problems)
			}
			if _, ok := b.entries(m)["busy"]; !ok {
				t.Error("it was left out")
			}
			s.reading = nil
			m, report, _, err = b.snapshot(s)
			must(t, err)
			if report.Reused != 1 { // calm
				t.Errorf("%d files reused: the torn content was taken for good", report.Reused)
			}
			compare(t, describe(t, b.restore(m)), describe(t, b.dir))
		})
	}
}

func TestFileThatVanishesOrIsReplaced(t *testing.T) {
	b := newBench(t)
	b.write("a", "a")
	b.write("b", "b")
	b.write("c/d", "d")
	s := b.source(Config{})
	s.reading = func(path string) {
		if path == "a" {
			must(t, os.Remove(b.path("b")))
			must(t, os.RemoveAll(b.path("c")))
		}
	}
	m, report, _, err := b.snapshot(s)
	must(t, err)
	if report.Vanished != 2 || m.Labels[LabelVanished] != "2" || len(b.entries(m)) != 2 {
		t.Errorf("%+v, labels %v", report, m.Labels)
	}
}

// A link put in the place of a directory while the walk goes on leads nowhere.
func TestWalkDoesNotFollowLinks(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	b.write("a", "a")
	b.write("b/c", "c")
	must(t, os.Symlink(outside, b.path("link")))
	s := b.source(Config{})
	s.reading = func(path string) {
		if path == "a" {
			must(t, os.RemoveAll(b.path("b")))
			must(t, os.Symlink(outside, b.path("b")))
		}
	}
	m, _, _, err := b.snapshot(s)
	must(t, err)
	for path := range b.entries(m) {
		if strings.Contains(path, "secret") {
			t.Errorf("%q is in the snapshot", path)
		}
	}
}

// The same between looking at a file and opening it.
func TestFileReplacedByLinkIsNotFollowed(t *testing.T) {
	b := newBench(t)
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	b.write("a", "a")
	s := b.source(Config{})
	s.reading = func(string) {
		must(t, os.Symlink(secret, b.path("new")))
		must(t, os.Rename(b.path("new"), b.path("a"))) // the open file loses its name, so it is read again
	}
	m, report, _, err := b.snapshot(s)
	b.incomplete(m, report, err, "a")
	if e, ok := b.entries(m)["a"]; ok {
		t.Errorf("stored as %+v", e)
	}
}

// incomplete checks that a snapshot missed exactly these paths, and said so.
func (b *bench) incomplete(m *repo.Manifest, report Report, err error, paths ...string) {
	b.t.Helper()
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || holdfast.Hint(err) == "" {
		b.t.Fatalf("got %v, want an incomplete snapshot with a hint", err)
	}
	var got []string
	for _, p := range report.Problems {
		got = append(got, p.Path)
	}
	if !slices.Equal(got, paths) || report.Unreadable != int64(len(paths)) || m.Labels[LabelUnreadable] != fmt.Sprint(len(paths)) {
		b.t.Errorf("%d unreadable, problems %v, labels %v", report.Unreadable, report.Problems, m.Labels)
	}
}

// Rights do not bind root, so the walk's thread reads as another user.
func TestForbiddenIsNeverSilent(t *testing.T) {
	b := newBench(t)
	must(t, os.Chmod(filepath.Dir(b.dir), 0o755))
	b.write("bad", "bad")
	b.write("good", "good")
	b.write("locked/inside", "inside")
	must(t, os.Chmod(b.path("bad"), 0o600))
	must(t, os.Chmod(b.path("locked"), 0o700))
	b.asUser = 65534
	m, report, _, err := b.snapshot(b.source(Config{}))
	b.incomplete(m, report, err, "bad", "locked")
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the cause is lost: %v", err)
	}
	if got := slices.Sorted(maps.Keys(b.entries(m))); !slices.Equal(got, []string{".", "good", "locked"}) {
		t.Errorf("entries %q", got)
	}
}

// The speed of the loopback device is a file that opens and cannot be read, as
// on a bad disk.
func TestBrokenDiskIsNeverSilent(t *testing.T) {
	const broken = "/sys/class/net/lo/speed"
	if _, err := os.ReadFile(broken); err == nil {
		t.Fatalf("%s can be read here, and the test needs a file that cannot", broken)
	}
	b := newBench(t)
	b.write("bad", "")
	b.write("good", "good")
	must(t, unix.Mount(broken, b.path("bad"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(b.path("bad"), 0)) })
	m, report, _, err := b.snapshot(b.source(Config{}))
	b.incomplete(m, report, err, "bad")
	if got := slices.Sorted(maps.Keys(b.entries(m))); !slices.Equal(got, []string{".", "good"}) {
		t.Errorf("entries %q", got)
	}
}

func TestExclude(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"a.tmp", "keep", "x/b.tmp", "x/keep", "cache/one", "x/cache/two", "node_modules/m", "x/node_modules/m", "file/node_modules", "log/1/old", "log/1/2/old", "log/new"} {
		b.write(name, name)
	}
	m, report, _, err := b.snapshot(b.source(Config{Exclude: []string{"*.tmp", "/cache", "node_modules/", "log/**/old"}}))
	must(t, err)
	got := slices.Sorted(maps.Keys(b.entries(m)))
	want := []string{".", "file", "file/node_modules", "keep", "log", "log/1", "log/1/2", "log/new", "x", "x/cache", "x/cache/two", "x/keep"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if report.Excluded != 7 {
		t.Errorf("%d excluded, want 7", report.Excluded)
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		pat, name string
		want      bool
	}{
		{"a/b", "a/b", true}, {"a/b", "x/a/b", false}, {"/a", "a", true}, {"/a", "x/a", false}, {"a/*", "a/b", true}, {"a/*", "a/b/c", false},
		{"a/**", "a/b/c", true}, {"**/c", "a/b/c", true}, {"**/c", "c", true}, {"a/**/c", "a/c", true}, {"a/**/b/**/c", "a/x/b/y/z/c", true},
		{"a/**/b/**/c", "a/x/y/z/c", false}, {"[ab].txt", "d/b.txt", true}, {"?", "x/y/z", true}, {"*", "\xff\xfe", true}, {"\xff", "\xff", true}, {"a?", "a\xff", true},
	} {
		ps, err := parsePatterns([]string{tc.pat})
		must(t, err)
		if got := excluded(ps, tc.name, false); got != tc.want {
			t.Errorf("%q on %q: %t", tc.pat, tc.name, got)
		}
	}
	for _, bad := range []string{"", "/", "a//b", "../x", "a/./b", "[", "a[b", "a/[]", "x\x00", strings.Repeat("a", 5000), `\`} {
		if _, err := New(Config{Store: "s", Path: "/tmp", Exclude: []string{bad}}); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%q: %v, want a usage error with a hint", bad, err)
		}
	}
}

// The matcher agrees with one that tries everything.
func TestMatchAgainstModel(t *testing.T) {
	var model func(pat, parts []string) bool
	model = func(pat, parts []string) bool {
		switch {
		case len(pat) == 0:
			return len(parts) == 0
		case pat[0] == "**":
			return model(pat[1:], parts) || len(parts) > 0 && model(pat, parts[1:])
		}
		return len(parts) > 0 && matchPart(pat[0], parts[0]) && model(pat[1:], parts[1:])
	}
	rapid.Check(t, func(t *rapid.T) {
		pat := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "**", "*", "?"}), 1, 7).Draw(t, "pattern")
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 1, 8).Draw(t, "path")
		if got, want := matchParts(pat, parts), model(pat, parts); got != want {
			t.Fatalf("%q on %q: %t, want %t", pat, parts, got, want)
		}
	})
}

func mount(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(path, 0o755))
	must(t, unix.Mount("holdfast-test", path, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(path, 0)) })
}

func TestMountPoints(t *testing.T) {
	b := newBench(t)
	b.write("here", "here")
	mount(t, b.path("disk"))
	b.write("disk/there", "there")
	must(t, os.MkdirAll(b.path("kernel"), 0o755))
	must(t, unix.Mount("proc", b.path("kernel"), "proc", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(b.path("kernel"), 0)) })

	m, _, _, err := b.snapshot(b.source(Config{OneFileSystem: true}))
	must(t, err)
	if got := slices.Sorted(maps.Keys(b.entries(m))); !slices.Equal(got, []string{".", "disk", "here", "kernel"}) {
		t.Errorf("one file system: %q", got)
	}
	m, _, _, err = b.snapshot(b.source(Config{}))
	must(t, err)
	if got := slices.Sorted(maps.Keys(b.entries(m))); !slices.Equal(got, []string{".", "disk", "disk/there", "here", "kernel"}) {
		t.Errorf("all: %q, want the disk and not what the kernel shows", got)
	}
}

func TestEmptiedDirectoryIsRefused(t *testing.T) {
	b := newBench(t)
	s := b.source(Config{})
	_, _, _, err := b.snapshot(s) // empty from the start is fine
	must(t, err)
	b.write("a", "a")
	_, _, _, err = b.snapshot(s)
	must(t, err)
	must(t, os.Remove(b.path("a")))
	if _, _, _, err := b.snapshot(s); !errors.Is(err, ErrEmpty) || holdfast.Hint(err) == "" {
		t.Errorf("got %v, want a refusal with a hint", err)
	}
	manifests, err := b.r.Manifests(t.Context(), "uploads")
	must(t, err)
	if len(manifests) != 2 {
		t.Errorf("%d snapshots", len(manifests))
	}
}

func TestLargeDirectoryInParts(t *testing.T) {
	b := newBench(t)
	want := []string{"."}
	for i := range 500 {
		name := fmt.Sprintf("%03x-%d", (i*7919)%4096, i)
		b.write(name, name)
		want = append(want, name)
	}
	slices.Sort(want[1:])
	for _, batch := range []int{1, 7, 250, 499, 500, 501} {
		s := b.source(Config{})
		s.batch = batch
		m, _, _, err := b.snapshot(s)
		must(t, err)
		snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
		must(t, err)
		var got []string
		must(t, snap.Entries(t.Context(), func(e repo.Entry) error { got = append(got, e.Path); return nil }))
		if !slices.Equal(got, want) {
			t.Errorf("%d at a time: %d names, want %d in order", batch, len(got), len(want))
		}
	}
}

func TestCheckAndProbe(t *testing.T) {
	b := newBench(t)
	s := b.source(Config{})
	if got := s.Check(t.Context()); len(got) != 1 || got[0].Code != "HF-FILES-2" {
		t.Errorf("empty: %+v", got)
	}
	b.write("file", "x")
	if got := s.Check(t.Context()); len(got) != 0 {
		t.Errorf("good: %+v", got)
	}
	must(t, s.Probe(t.Context()))
	for _, path := range []string{b.path("nothing"), b.path("file")} {
		s, err := New(Config{Store: "uploads", Path: path})
		must(t, err)
		if err := s.Probe(t.Context()); err == nil || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v, want an error with a hint", path, err)
		}
		if got := s.Check(t.Context()); len(got) != 1 || got[0].Severity != holdfast.SeverityError || got[0].Hint == "" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if _, err := New(Config{Store: "uploads"}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("no path: %v", err)
	}
}

func TestCancel(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		b.write(fmt.Sprint(i), "x")
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := repo.NewWriter(ctx, repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: b.r}}, Scope: "uploads", Kind: "files", Recipients: b.keys.Recipients(),
		Signer: b.keys.Signer, MAC: b.keys.MAC,
	})
	must(t, err)
	defer w.Abort()
	s := b.source(Config{})
	s.reading = func(path string) {
		if path == "5" {
			cancel()
		}
	}
	if err := s.Snapshot(ctx, w, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
