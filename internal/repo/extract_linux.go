package repo

import (
	"fmt"
	"os"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const aclPrefix = "system.posix_acl_"

// describe gives an open file or directory its metadata. The order matters: a new
// owner clears set-id bits and capabilities, a mode overwrites an ACL's mask, and
// nothing may come after the times.
func (x *extractor) describe(f *os.File, e *Entry) error {
	fd := int(f.Fd())
	mode := e.Mode
	if x.cfg.Owners {
		uid, gid := x.owner(e)
		if err := unix.Fchown(fd, uid, gid); err != nil {
			x.refused(e.Path, "owner", err)
			mode &^= unix.S_ISUID | unix.S_ISGID // never a set-id file for somebody else
		}
	} else {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	set := func(acl bool) {
		for _, k := range sortedKeys(e.Xattrs) {
			if strings.HasPrefix(k, aclPrefix) == acl {
				if err := unix.Fsetxattr(fd, k, e.Xattrs[k], 0); err != nil {
					x.refused(e.Path, "attribute "+k, err)
				}
			}
		}
	}
	set(false)
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("mode of %q: %w", e.Path, err)
	}
	set(true)
	if e.ModTime.IsZero() {
		return nil
	}
	ts, err := unix.TimeToTimespec(e.ModTime)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), []unix.Timespec{ts, ts}, 0)
	}
	if err != nil {
		x.refused(e.Path, "time", err)
	}
	return nil
}

// link makes what is neither file nor directory. It works below an open directory
// and follows no link, so that it cannot be led elsewhere.
func (x *extractor) link(e *Entry) error {
	if e.Type == TypeHardlink {
		return x.root.Link(e.Target, e.Path)
	}
	dir, err := x.root.Open(path.Dir(e.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, base := int(dir.Fd()), path.Base(e.Path)
	if e.Type == TypeSymlink {
		err = unix.Symlinkat(e.Target, fd, base)
	} else {
		err = unix.Mknodat(fd, base, nodeType[e.Type]|e.Mode&0o777, int(e.Dev))
		if err == unix.EPERM {
			x.refused(e.Path, e.Type, err)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("make %s %q: %w", e.Type, e.Path, err)
	}
	if x.cfg.Owners {
		uid, gid := x.owner(e)
		if err := unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			x.refused(e.Path, "owner", err)
		}
	}
	if e.Type != TypeSymlink {
		if err := unix.Fchmodat(fd, base, e.Mode&0o777, 0); err != nil {
			x.refused(e.Path, "mode", err)
		}
	}
	for _, k := range sortedKeys(e.Xattrs) {
		if err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", fd, base), k, e.Xattrs[k], 0); err != nil {
			x.refused(e.Path, "attribute "+k, err)
		}
	}
	if !e.ModTime.IsZero() {
		ts, err := unix.TimeToTimespec(e.ModTime)
		if err == nil {
			err = unix.UtimesNanoAt(fd, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			x.refused(e.Path, "time", err)
		}
	}
	return nil
}

var nodeType = map[string]uint32{TypeFIFO: unix.S_IFIFO, TypeSocket: unix.S_IFSOCK, TypeChar: unix.S_IFCHR, TypeBlock: unix.S_IFBLK}

// syncTree makes everything that was restored durable.
func syncTree(rt *os.Root) error {
	d, err := rt.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %q: %w", rt.Name(), err)
	}
	return nil
}

// openDirect opens f once more, past the page cache: for big files that nobody
// reads soon, filling the cache is most of the cost. Nil if the file system has
// no such way.
func openDirect(f *os.File) *os.File {
	d, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	return d
}

func aligned(b []byte, off int64) bool {
	return off%directAlign == 0 && len(b)%directAlign == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%directAlign == 0
}
