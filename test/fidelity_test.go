package test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An exhibit is all that one name of a folder shows from outside.
type exhibit struct {
	Kind, Mode  string
	UID, GID    uint32
	Size        int64
	Modified    time.Time // to the nanosecond
	Device      uint64
	Target      string // of a symbolic link
	Content     string
	Attributes  string // extended ones: access lists, capabilities and labels are among them
	SameAs      string // the first name of the same file
	HolesBefore int64  // where data begins
	Blocks      bool   // whether the file takes about as much room as it is long
}

// exhibits looks at everything below dir, and at dir itself.
func exhibits(t *testing.T, dir string) map[string]exhibit {
	t.Helper()
	out, first := map[string]exhibit{}, map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		e := exhibit{Kind: d.Type().String(), Mode: fmt.Sprintf("%o", st.Mode), UID: st.Uid, GID: st.Gid, Modified: time.Unix(st.Mtim.Unix()).UTC()}
		if e.Attributes, err = attributes(p); err != nil {
			return fmt.Errorf("attributes of %q: %w", p, err)
		}
		if !d.IsDir() && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			e.SameAs = first[st.Ino]
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			e.Target, err = os.Readlink(p)
		case unix.S_IFCHR, unix.S_IFBLK:
			e.Device = st.Rdev
		case unix.S_IFREG:
			var b []byte
			b, err = os.ReadFile(p)
			e.Content, e.Size, e.Blocks = string(b), st.Size, st.Blocks*512 >= st.Size/2
			e.HolesBefore = int64(len(b) - len(bytes.TrimLeft(b, "\x00")))
		}
		out[rel] = e
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// attributes lists names and values of extended attributes in order.
func attributes(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	names := slices.Sorted(strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00"))
	var out strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s=%x ", name, buf[:n])
	}
	return out.String(), nil
}

// peculiar fills dir with whatever a file system can hold. It needs root, as the
// tests have it.
func peculiar(t *testing.T, dir string) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("plain"), "plain\n", 0o644)
	write(t, in("empty"), "", 0o600)
	write(t, in("nobody may read"), "secret", 0)
	must("mode", os.Chmod(in("nobody may read"), 0))
	for _, name := range []string{"line\nbreak", "tab\there", "-rf", " blank ", "latin-\xe9\xff", "ünïcødé", `back\slash "quote"`, "*?[x]", strings.Repeat("n", 255)} {
		write(t, in("names/"+name), name, 0o644)
	}
	must("directory", os.Mkdir(in("empty dir"), 0o711))
	must("sticky", errAll(os.Mkdir(in("sticky"), 0o755), unix.Chmod(in("sticky"), 0o3777)))
	write(t, in("set-id"), "#!", 0o755)
	must("set-id", errAll(os.Chown(in("set-id"), 1, 2), unix.Chmod(in("set-id"), 0o6755))) // in this order: a change of owner clears the bits
	write(t, in("of nobody"), "x", 0o640)
	must("owner", os.Chown(in("of nobody"), 65534, 65534))
	write(t, in("of no name"), "x", 0o640)
	must("owner", os.Chown(in("of no name"), 1234567, 7654321))
	must("symlinks", errAll(os.Symlink("plain", in("link")), os.Symlink("/nowhere/at all", in("dangling")), os.Symlink("..", in("up")), os.Lchown(in("dangling"), 65534, 65534)))
	must("hard links", errAll(os.Link(in("plain"), in("names/same as plain")), os.Link(in("plain"), in("zz same as plain")), os.Link(in("dangling"), in("dangling too"))))
	must("fifo", unix.Mkfifo(in("fifo"), 0o620))
	must("devices", errAll(unix.Mknod(in("char"), unix.S_IFCHR|0o660, int(unix.Mkdev(1, 3))), unix.Mknod(in("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200)))))
	must("socket", unix.Mknod(in("socket"), unix.S_IFSOCK|0o755, 0))
	f, err := os.Create(in("sparse"))
	must("sparse", err)
	_, err = f.WriteAt([]byte("far behind"), 40<<20)
	must("sparse", errAll(err, f.Truncate(64<<20), f.Close()))
	write(t, in("attributes"), "x", 0o644)
	// An access list: owner rw, user 1000 r, group r, mask r, others none; acl(5), in the layout of linux/posix_acl_xattr.h.
	list := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	// The capability to bind low ports: linux/capability.h, version 2.
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	must("attributes", errAll(
		unix.Setxattr(in("attributes"), "user.text", []byte("value"), 0), unix.Setxattr(in("attributes"), "user.empty", nil, 0),
		unix.Setxattr(in("attributes"), "user.bytes", []byte{0, 1, 255}, 0), unix.Setxattr(in("attributes"), "trusted.holdfast", []byte("t"), 0),
		unix.Setxattr(in("attributes"), "system.posix_acl_access", list, 0), unix.Setxattr(in("empty dir"), "system.posix_acl_default", list, 0),
		unix.Setxattr(in("set-id"), "security.capability", capability, 0), unix.Lsetxattr(in("dangling"), "trusted.link", []byte("l"), 0)))
	// Times last: everything above changes them. Before 1970, beyond 2038, odd nanoseconds.
	stamp := func(name string, at time.Time) error {
		ts := unix.NsecToTimespec(at.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, in(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	must("times", errAll(stamp("plain", time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)), stamp("link", time.Date(2002, 1, 1, 0, 0, 0, 1, time.UTC)),
		stamp("empty", time.Date(1961, 4, 12, 6, 7, 0, 987654321, time.UTC)), stamp("fifo", time.Date(2003, 1, 1, 0, 0, 0, 999999999, time.UTC)),
		stamp("sparse", time.Date(2040, 1, 2, 3, 4, 5, 6, time.UTC)), stamp("empty dir", time.Date(2004, 5, 6, 7, 8, 9, 10, time.UTC)), stamp(".", time.Date(2005, 1, 1, 0, 0, 0, 5, time.UTC))))
}

// errAll is the first error.
func errAll(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestFidelity(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	peculiar(t, w.uploads)
	want := exhibits(t, w.uploads)
	w.run(t, "backup", "uploads").want(t, 0)
	compare := func(t *testing.T, got, want map[string]exhibit) {
		t.Helper()
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if g, ok := got[name]; !ok {
				t.Errorf("%q is missing", name)
			} else if g != want[name] {
				short := func(e exhibit) exhibit { e.Content = fmt.Sprintf("%d bytes", len(e.Content)); return e }
				t.Errorf("%q came back as\n%+v\nand was\n%+v", name, short(g), short(want[name]))
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%q came from nowhere", name)
			}
		}
	}

	t.Run("a restored folder is what it was", func(t *testing.T) {
		to := filepath.Join(w.root, "back")
		w.run(t, "restore", "uploads", "--to", to).want(t, 0)
		compare(t, exhibits(t, to), want)
	})

	t.Run("from an unchanged second backup, too", func(t *testing.T) {
		w.run(t, "backup", "uploads").want(t, 0)
		to := filepath.Join(w.root, "again")
		w.run(t, "restore", "uploads", "--to", to).want(t, 0)
		compare(t, exhibits(t, to), want)
	})

	t.Run("owners by name where names have other numbers", func(t *testing.T) {
		// Another machine: its nobody has number 4242. Only this command sees it so.
		passwd, err := os.ReadFile("/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Replace(string(passwd), "nobody:x:65534:", "nobody:x:4242:", 1)
		if other == string(passwd) {
			t.Fatal("nobody has not the number 65534 here")
		}
		write(t, filepath.Join(w.root, "passwd"), other, 0o644)
		to := filepath.Join(w.root, "elsewhere")
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `mount --bind "$1" /etc/passwd && shift && exec "$@"`, "sh", filepath.Join(w.root, "passwd"),
			binary, "--dir", w.dir, "restore", "uploads", "--to", to, "--purpose", "test")
		cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("restore: %v: %s", err, text)
		}
		there := maps.Clone(want)
		for name, e := range there {
			if e.UID == 65534 {
				e.UID = 4242
				there[name] = e
			}
		}
		compare(t, exhibits(t, to), there)
	})
}
