//go:build linux

package files

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/repo"
)

// Limits of an entry's metadata.
const (
	maxXattrList = 64 << 10 // the kernel's own limits
	maxXattr     = 64 << 10
	maxTarget    = 16 << 10
)

// entry describes what was looked at, without links, attributes and content.
func (k *walk) entry(path string, st *unix.Stat_t) repo.Entry {
	e := repo.Entry{
		Path: path, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		User: name(k.users, int(st.Uid), userName), Group: name(k.groups, int(st.Gid), groupName),
		ModTime: time.Unix(st.Mtim.Unix()), ChangeTime: time.Unix(st.Ctim.Unix()), Inode: st.Ino,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = repo.TypeFile, st.Size
	case unix.S_IFDIR:
		e.Type = repo.TypeDir
	case unix.S_IFLNK:
		e.Type = repo.TypeSymlink
	case unix.S_IFIFO:
		e.Type = repo.TypeFIFO
	case unix.S_IFSOCK:
		e.Type = repo.TypeSocket
	case unix.S_IFCHR:
		e.Type, e.Dev = repo.TypeChar, st.Rdev
	case unix.S_IFBLK:
		e.Type, e.Dev = repo.TypeBlock, st.Rdev
	}
	return e
}

// name looks an owner up once. An owner without a name has none in the snapshot.
func name(cache map[int]string, id int, look func(string) string) string {
	s, ok := cache[id]
	if !ok {
		s = look(strconv.Itoa(id))
		if len(cache) < maxOwners {
			cache[id] = s
		}
	}
	return s
}

func userName(id string) string {
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return ""
}

func groupName(id string) string {
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return ""
}

// procPath names a file inside an open directory for calls that take only paths.
func procPath(d *os.File, name string) string {
	p := "/proc/self/fd/" + strconv.Itoa(int(d.Fd()))
	if name != "" {
		p += "/" + name
	}
	return p
}

// openat opens a name inside a directory without following a link, without
// waiting for a fifo's other end, and without changing the access time if allowed.
func openat(d *os.File, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(int(d.Fd()), name, flags|unix.O_NOATIME, 0)
		if err == unix.EPERM { // only the owner may leave the access time alone
			fd, err = unix.Openat(int(d.Fd()), name, flags, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readlinkat(d *os.File, name string) (string, error) {
	for size := 256; size <= maxTarget; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(int(d.Fd()), name, b)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
	return "", fmt.Errorf("target is longer than %d bytes", maxTarget)
}

// An attributeReader reads the extended attributes of one file.
type attributeReader struct {
	list func([]byte) (int, error)
	get  func(string, []byte) (int, error)
}

func fdAttributes(fd int) attributeReader {
	return attributeReader{
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(attr string, b []byte) (int, error) { return unix.Fgetxattr(fd, attr, b) },
	}
}

// pathAttributes is for what cannot be opened: links, fifos, devices.
func pathAttributes(path string) attributeReader {
	return attributeReader{
		func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(attr string, b []byte) (int, error) { return unix.Lgetxattr(path, attr, b) },
	}
}

// attributes adds the extended attributes. Those that cannot be read are a
// problem of the path; the entry is stored without them, and the next snapshot looks
// again.
func (k *walk) attributes(e *repo.Entry, r attributeReader) {
	list, err := grow(maxXattrList, r.list)
	if err != nil {
		if !errors.Is(err, unix.ENOTSUP) {
			e.ChangeTime = time.Time{}
			k.problem(e.Path, fmt.Errorf("list extended attributes: %w", err))
		}
		return
	}
	for attr := range strings.SplitSeq(string(list), "\x00") {
		if attr == "" {
			continue
		}
		v, err := grow(maxXattr, func(b []byte) (int, error) { return r.get(attr, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			e.ChangeTime = time.Time{}
			k.problem(e.Path, fmt.Errorf("read extended attribute %q: %w", attr, err))
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[attr] = v
	}
}

// grow calls f with larger buffers until what it returns fits.
func grow(limit int, f func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		size = min(size, limit)
		b := make([]byte, size)
		n, err := f(b)
		if errors.Is(err, unix.ERANGE) && size < limit {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// Magic numbers of file systems that hold no data, from statfs(2).
var pseudoTypes = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
	unix.DEVPTS_SUPER_MAGIC: true, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.SECURITYFS_MAGIC: true,
	unix.BPF_FS_MAGIC: true, unix.BINFMTFS_MAGIC: true, unix.SELINUX_MAGIC: true, unix.PSTOREFS_MAGIC: true,
	unix.EFIVARFS_MAGIC: true, unix.NSFS_MAGIC: true, unix.AUTOFS_SUPER_MAGIC: true,
}

func pseudo(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && pseudoTypes[int64(st.Type)]
}
