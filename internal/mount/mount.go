//go:build linux

// Package mount shows a snapshot as a read-only file system, by FUSE.
//
// Nothing is restored beforehand: a read fetches the extents that it needs, opens
// them, and compares them with their chunk ids. What is damaged is an input/output
// error of the file that it costs, and nothing else.
//
// # Invariants
//
//   - Nothing can be changed through the mount, by anybody.
//   - Memory is bounded, whatever is read and however many entries a directory has:
//     the snapshot keeps some tens of decoded segments, this package maxKept entries.
//
// # What it does not do
//
// A file with several names shows one link, since nobody has counted them. A mount
// whose process was killed stays in the mount table and answers "transport endpoint
// is not connected" until somebody unmounts it: "umount DIR".
package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

const (
	device = "/dev/fuse"
	// maxKept bounds the entries that are remembered, each counted with its extents.
	maxKept       = 1 << 16
	extentsOfOne  = 8 // extents that weigh as much as an entry
	maxReadAhead  = 1 << 20
	unmountWithin = 10 * time.Second
)

// A Mount is a snapshot that is shown at a directory.
type Mount struct {
	dir    string
	server *fuse.Server
	done   chan struct{}
}

// At shows a snapshot at an empty directory. Damaged, if not nil, is told once of
// every path that cannot be read.
func At(snap *repo.Snapshot, dir string, damaged func(path string, err error)) (*Mount, error) {
	if err := usable(dir); err != nil {
		return nil, err
	}
	v := &view{snap: snap, damaged: damaged, told: map[string]bool{}, kept: map[string]repo.Entry{}}
	top, err := snap.Find(context.Background(), ".")
	if errors.Is(err, fs.ErrNotExist) { // a database's files have no top
		top, err = repo.Entry{Path: ".", Type: repo.TypeDir, Mode: 0o755, ModTime: snap.Manifest().Created}, nil
	}
	if err != nil {
		return nil, err
	}
	long := time.Hour // nothing ever changes
	server, err := fusefs.Mount(dir, &node{v: v, e: top}, &fusefs.Options{
		EntryTimeout: &long, AttrTimeout: &long, NegativeTimeout: &long,
		MountOptions: fuse.MountOptions{FsName: "holdfast:" + snap.Manifest().ID, Name: "holdfast", Options: []string{"ro", "default_permissions"},
			AllowOther: os.Geteuid() == 0, DirectMount: os.Geteuid() == 0, MaxReadAhead: maxReadAhead, DisableXAttrs: false},
	})
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("mount at %q: %w", dir, err), "mounting takes root, or the program fusermount3 (package fuse3); \"holdfast restore --path\" and \"holdfast export\" need neither")
	}
	m := &Mount{dir: dir, server: server, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		server.Wait()
	}()
	return m, nil
}

// usable refuses what cannot become a mount point.
func usable(dir string) error {
	if _, err := os.Stat(device); err != nil {
		return holdfast.WithHint(fmt.Errorf("%s is not here: this machine cannot mount by FUSE", device),
			"\"modprobe fuse\" where the kernel has it as a module; a container needs --device /dev/fuse and the capability SYS_ADMIN; \"holdfast restore --path\" and \"holdfast export\" need none of it")
	}
	des, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return holdfast.WithHint(fmt.Errorf("%q is a mount whose process was killed", dir), "umount %q, and mount again", dir)
	case errors.Is(err, fs.ErrNotExist):
		return holdfast.WithHint(err, "mkdir %q", dir)
	case err != nil:
		return err
	case len(des) > 0:
		return holdfast.WithHint(fmt.Errorf("%q is not empty: a mount would hide what is in it: %w", dir, holdfast.ErrRefused), "name an empty directory")
	}
	return nil
}

// Done is closed when the mount has ended, by Close or by "umount".
func (m *Mount) Done() <-chan struct{} { return m.done }

// Close unmounts. While somebody still works in the mount it is taken out of the
// tree, so that nobody new comes in, and served for some seconds more; then an error
// says so, and what is open there fails.
func (m *Mount) Close() error {
	select {
	case <-m.done:
		return nil
	default:
	}
	if err := m.server.Unmount(); err != nil {
		if derr := unix.Unmount(m.dir, unix.MNT_DETACH); derr != nil {
			return holdfast.WithHint(fmt.Errorf("unmount %q: %w", m.dir, errors.Join(err, derr)), "umount %q", m.dir)
		}
	}
	select {
	case <-m.done:
		return nil
	case <-time.After(unmountWithin):
		return fmt.Errorf("%q is still in use; it was taken out of the tree, and what is open there fails now", m.dir)
	}
}

// A view is what all nodes of a mount share.
type view struct {
	snap    *repo.Snapshot
	damaged func(path string, err error)

	mu     sync.Mutex
	told   map[string]bool
	kept   map[string]repo.Entry // entries seen lately
	weight int
}

func weigh(e *repo.Entry) int { return 1 + len(e.Extents)/extentsOfOne }

// keep remembers an entry that will be asked for soon. When there is no room all are
// forgotten: they are one read away.
func (v *view) keep(e repo.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.weight+weigh(&e) > maxKept {
		clear(v.kept)
		v.weight = 0
	}
	if _, ok := v.kept[e.Path]; !ok {
		v.kept[e.Path] = e
		v.weight += weigh(&e)
	}
}

// find returns an entry; a hard link is the file that it names.
func (v *view) find(ctx context.Context, p string) (repo.Entry, error) {
	v.mu.Lock()
	e, ok := v.kept[p]
	v.mu.Unlock()
	if !ok {
		var err error
		if e, err = v.snap.Find(ctx, p); err != nil {
			return e, err
		}
		v.keep(e)
	}
	if e.Type == repo.TypeHardlink && e.Target != p {
		return v.find(ctx, e.Target)
	}
	return e, nil
}

// fail is what the kernel gets for an error.
func (v *view) fail(p string, err error) syscall.Errno {
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, repo.ErrDamaged):
		return syscall.ENOENT
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	}
	v.mu.Lock()
	first := !v.told[p] && len(v.told) < maxKept
	if first {
		v.told[p] = true
	}
	v.mu.Unlock()
	if first && v.damaged != nil {
		v.damaged(p, err)
	}
	return syscall.EIO
}

// A node is one entry.
type node struct {
	fusefs.Inode
	v *view
	e repo.Entry
}

var (
	_ fusefs.NodeLookuper    = (*node)(nil)
	_ fusefs.NodeReaddirer   = (*node)(nil)
	_ fusefs.NodeGetattrer   = (*node)(nil)
	_ fusefs.NodeOpener      = (*node)(nil)
	_ fusefs.NodeReader      = (*node)(nil)
	_ fusefs.NodeReadlinker  = (*node)(nil)
	_ fusefs.NodeGetxattrer  = (*node)(nil)
	_ fusefs.NodeListxattrer = (*node)(nil)
)

// kinds has no word for a hard link: only its file knows what it is.
var kinds = map[string]uint32{repo.TypeFile: unix.S_IFREG, repo.TypeDir: unix.S_IFDIR, repo.TypeSymlink: unix.S_IFLNK,
	repo.TypeFIFO: unix.S_IFIFO, repo.TypeSocket: unix.S_IFSOCK, repo.TypeChar: unix.S_IFCHR, repo.TypeBlock: unix.S_IFBLK}

// number is the inode number of a path: stable, and the same for all names of a file.
func number(p string) uint64 {
	h := seal.Hash([]byte(p))
	n := uint64(0)
	for _, b := range h[:8] {
		n = n<<8 | uint64(b)
	}
	return n>>1 + 2 // 1 is the top
}

func (n *node) attr(out *fuse.Attr) {
	e := &n.e
	out.Ino, out.Mode, out.Size = number(e.Path), kinds[e.Type]|e.Mode, uint64(e.Size)
	if e.Type == repo.TypeSymlink {
		out.Size = uint64(len(e.Target))
	}
	if _, ok := e.Xattrs["system.posix_acl_access"]; ok {
		out.Mode &^= 0o070 // the mask stands there, which may grant more than the list does
	}
	out.Nlink = 1
	out.Uid, out.Gid, out.Rdev = uint32(e.UID), uint32(e.GID), uint32(e.Dev)
	out.Blksize = maxReadAhead
	for _, x := range e.Extents {
		out.Blocks += uint64(x.Length+511) / 512
	}
	out.SetTimes(&e.ModTime, &e.ModTime, &e.ModTime)
}

// Getattr implements fusefs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(&out.Attr)
	return 0
}

// Lookup implements fusefs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	p := path.Join(n.e.Path, name)
	e, err := n.v.find(ctx, p)
	if err != nil {
		return nil, n.v.fail(p, err)
	}
	child := &node{v: n.v, e: e}
	child.attr(&out.Attr)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: kinds[e.Type], Ino: out.Ino}), 0
}

// Readdir implements fusefs.NodeReaddirer. It reads as far as it is asked for.
func (n *node) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	// The listing outlives the request that opened it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := errors.New("closed")
	d := &listing{v: n.v, dir: n.e.Path, cancel: cancel}
	d.pull, d.stop = iter.Pull2(func(yield func(repo.Entry, error) bool) {
		err := n.v.snap.Children(ctx, n.e.Path, func(e repo.Entry) error {
			if !yield(e, nil) {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			yield(repo.Entry{}, err)
		}
	})
	d.step()
	return d, 0
}

// A listing is one reading of a directory.
type listing struct {
	v      *view
	dir    string
	cancel context.CancelFunc

	mu   sync.Mutex
	pull func() (repo.Entry, error, bool)
	stop func()
	next repo.Entry
	err  error
	more bool
}

func (d *listing) step() {
	d.next, d.err, d.more = d.pull()
	if d.more && d.err == nil {
		d.v.keep(d.next)
	}
}

// HasNext implements fusefs.DirStream.
func (d *listing) HasNext() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.more
}

// Next implements fusefs.DirStream.
func (d *listing) Next() (fuse.DirEntry, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		d.more = false
		return fuse.DirEntry{}, d.v.fail(d.dir, d.err)
	}
	e := d.next
	d.step()
	p := e.Path
	if e.Type == repo.TypeHardlink {
		p = e.Target
	}
	return fuse.DirEntry{Name: path.Base(e.Path), Mode: kinds[e.Type], Ino: number(p)}, 0
}

// Close implements fusefs.DirStream.
func (d *listing) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel()
	d.stop()
	d.more = false
}

// Open implements fusefs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fusefs.NodeReader.
func (n *node) Read(ctx context.Context, _ fusefs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	got, err := n.v.snap.OpenContext(ctx, n.e).ReadAt(dest, off)
	if err != nil && err != io.EOF {
		return nil, n.v.fail(n.e.Path, err)
	}
	return fuse.ReadResultData(dest[:got]), 0
}

// Readlink implements fusefs.NodeReadlinker.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(n.e.Target), 0 }

// Getxattr implements fusefs.NodeGetxattrer.
func (n *node) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	v, ok := n.e.Xattrs[attr]
	if !ok {
		return 0, syscall.ENODATA
	}
	return fit(dest, v)
}

// Listxattr implements fusefs.NodeListxattrer.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	var list []byte
	for k := range n.e.Xattrs {
		list = append(append(list, k...), 0)
	}
	return fit(dest, list)
}

func fit(dest, v []byte) (uint32, syscall.Errno) {
	if len(dest) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), 0
}
