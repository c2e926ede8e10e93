//go:build linux

package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Root is a directory of the machine as an FS. Names are relative to it, and the
// kernel refuses what would lead out of it: "..", absolute names, symbolic links
// to elsewhere. It holds the directory open, so what is mounted over or unmounted
// from its path meanwhile does not change what it sees.
type Root struct{ root *os.Root }

// OpenRoot opens a directory as an FS. The caller closes it; while it is open
// its file system cannot be unmounted.
func OpenRoot(dir string) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Root{r}, nil
}

// Close releases the directory. Open files stay usable.
func (r *Root) Close() error { return r.root.Close() }

// OpenFile implements FS.
func (r *Root) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := r.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements FS.
func (r *Root) Rename(oldName, newName string) error { return r.root.Rename(oldName, newName) }

// Link implements FS.
func (r *Root) Link(oldName, newName string) error { return r.root.Link(oldName, newName) }

// Remove implements FS.
func (r *Root) Remove(name string) error { return r.root.Remove(name) }

// MkdirAll implements FS.
func (r *Root) MkdirAll(name string, perm fs.FileMode) error { return r.root.MkdirAll(name, perm) }

// Stat implements FS.
func (r *Root) Stat(name string) (fs.FileInfo, error) { return r.root.Stat(name) }

// ReadDir implements FS.
func (r *Root) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := r.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// SyncDir implements FS.
func (r *Root) SyncDir(name string) error {
	d, err := r.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

// RenameNew renames within one directory unless newName is taken.
func (r *Root) RenameNew(oldName, newName string) error {
	if filepath.Dir(oldName) != filepath.Dir(newName) {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: syscall.EXDEV}
	}
	d, err := r.root.Open(filepath.Dir(newName))
	if err != nil {
		return err
	}
	defer d.Close()
	fd := int(d.Fd())
	err = unix.Renameat2(fd, filepath.Base(oldName), fd, filepath.Base(newName), unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}
