// Package durabletest is a file system in memory that crashes and breaks on purpose.
//
// It keeps two states: what a running process sees, and what the disk would
// hold after a power cut. Bytes reach the disk with File.Sync, names with
// FS.SyncDir of their directory; nothing else is promised. Crash throws the
// running state away. With a seed it lets some of what was not synced survive,
// in any order and torn at sector boundaries, as disks do.
//
// FailAt breaks one operation, before or after its effect; StopAt kills the
// process there. EveryFault and EveryCrash go through all of them.
//
// The model is stricter than common file systems: syncing a file does not make
// its name durable, and syncing one directory says nothing about another. Code
// that passes here does not lean on one file system's kindness.
package durabletest

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/durable"
)

// Errors that the file system injects.
var (
	ErrInjected = errors.New("injected fault")
	ErrStopped  = errors.New("process stopped by the test")
	ErrCrashed  = errors.New("file was open when the machine crashed")
)

// When says where an operation breaks.
type When int

// Before breaks an operation with no effect; After lets it take effect and
// reports an error all the same: the unknown outcome. Torn, for a write, does
// half of it; for any other operation it is Before.
const (
	Before When = iota
	After
	Torn
)

func (w When) String() string { return [...]string{"before", "after", "torn"}[w] }

const sectorSize = 512

// FS is a crashable file system. The zero value is not usable; call New.
type FS struct {
	mu      sync.Mutex
	root    *inode
	pending []*change // not yet durable, oldest first
	ops     int       // operations so far
	failAt  int       // 0: never
	when    When
	err     error
	stop    bool // fail for ever from failAt on
	stopped bool
	tripped bool
	gen     int // number of crashes: handles of an older generation are dead
	now     time.Time
}

type inode struct {
	mode    fs.FileMode
	mtime   time.Time
	data    []byte            // what the process sees
	disk    []byte            // what was synced
	dirty   []write           // data = disk with these applied, unless a Sync failed
	names   map[string]*inode // directories: what the process sees
	durable map[string]*inode // directories: what was synced
}

// A write is one unsynced write, or a truncation when trunc is set.
type write struct {
	off   int64
	data  []byte
	trunc bool
}

// A change sets one name in one directory. Changes with the same group belong
// to one rename within a directory and reach the disk together.
type change struct {
	dir   *inode
	name  string
	to    *inode // nil: removed
	group int
	needs *change // may not be durable without this one: the other side of a rename
}

// New returns an empty file system.
func New() *FS {
	return &FS{root: newDir(0o755), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func newDir(perm fs.FileMode) *inode {
	return &inode{mode: fs.ModeDir | perm, names: map[string]*inode{}, durable: map[string]*inode{}}
}

// FailAt makes the nth operation from now (1 is the next) fail with ErrInjected.
func (f *FS) FailAt(n int, when When) { f.arm(n, when, ErrInjected, false) }

// FailAtWith is FailAt with an error of the caller's choice, such as syscall.ENOSPC.
func (f *FS) FailAtWith(n int, when When, err error) { f.arm(n, when, err, false) }

// StopAt makes the nth operation from now and all later ones fail with
// ErrStopped: the process died there. Crash brings the file system back.
func (f *FS) StopAt(n int, when When) { f.arm(n, when, ErrStopped, true) }

func (f *FS) arm(n int, when When, err error, stop bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.when, f.err, f.stop, f.tripped = f.ops+n, when, err, stop, false
}

// Tripped reports whether the armed fault happened.
func (f *FS) Tripped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tripped
}

// Ops returns the number of operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Crash cuts the power and starts the machine again. With seed 0 everything
// that was not synced is gone; any other seed keeps some of it, torn. Open
// files are dead and armed faults are cleared.
func (f *FS) Crash(seed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := func() bool { return false }
	rng := rand.New(rand.NewPCG(seed, seed))
	if seed != 0 {
		keep = func() bool { return rng.IntN(2) == 0 }
	}
	groups, kept := map[int]bool{}, map[*change]bool{}
	for _, c := range f.pending {
		k, seen := groups[c.group]
		if !seen || c.group == 0 {
			k = keep()
			groups[c.group] = k
		}
		if k && (c.needs == nil || kept[c.needs]) {
			kept[c] = true
			c.dir.setDurable(c.name, c.to)
		}
	}
	f.pending = nil
	f.root.crash(rng, keep, map[*inode]bool{})
	f.gen++
	f.failAt, f.stopped = 0, false
}

// crash makes the durable state the visible one.
func (n *inode) crash(rng *rand.Rand, keep func() bool, seen map[*inode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.mode.IsDir() {
		n.names = map[string]*inode{}
		// Sorted, so that a seed always gives the same crash.
		for _, name := range sortedNames(n.durable) {
			n.names[name] = n.durable[name]
			n.durable[name].crash(rng, keep, seen)
		}
		return
	}
	for _, w := range n.dirty {
		if keep() {
			if !w.trunc && keep() { // torn at a sector
				w.data = w.data[:rng.IntN(len(w.data)/sectorSize+1)*sectorSize]
			}
			n.disk = apply(n.disk, w)
		}
	}
	n.dirty = nil
	n.data = slices.Clone(n.disk)
}

func apply(b []byte, w write) []byte {
	if w.trunc {
		if int64(len(b)) > w.off {
			return b[:w.off]
		}
		return append(b, make([]byte, w.off-int64(len(b)))...)
	}
	if len(w.data) == 0 {
		return b
	}
	if end := w.off + int64(len(w.data)); int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[w.off:], w.data)
	return b
}

func (n *inode) setDurable(name string, to *inode) {
	if to == nil {
		delete(n.durable, name)
	} else {
		n.durable[name] = to
	}
}

// do counts one operation and runs act with the armed fault around it. act must
// check everything before it changes anything. Called with f.mu held.
func (f *FS) do(act func() error) error {
	_, err := f.doTorn(act, nil)
	return err
}

func (f *FS) doTorn(act, torn func() error) (tore bool, err error) {
	f.ops++
	f.now = f.now.Add(time.Millisecond)
	if f.stopped {
		return false, ErrStopped
	}
	if f.ops != f.failAt {
		return false, act()
	}
	f.tripped, f.stopped = true, f.stop
	switch {
	case f.when == After:
		if err := act(); err != nil && err != io.EOF {
			return false, err
		}
	case f.when == Torn && torn != nil:
		_ = torn() // the injected error is the one that counts
		return true, f.err
	}
	return false, f.err
}

func clean(name string) []string {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil
	}
	return strings.Split(name[1:], "/")
}

func (f *FS) lookup(name string) (*inode, error) {
	n := f.root
	for _, part := range clean(name) {
		if !n.mode.IsDir() {
			return nil, errNotDir
		}
		child := n.names[part]
		if child == nil {
			return nil, fs.ErrNotExist
		}
		n = child
	}
	return n, nil
}

var errNotDir = errors.New("not a directory")

// parent returns the directory that holds name, and its last element.
func (f *FS) parent(name string) (*inode, string, error) {
	parts := clean(name)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	dir, err := f.lookup(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !dir.mode.IsDir() {
		return nil, "", errNotDir
	}
	return dir, parts[len(parts)-1], nil
}

// set changes a name now and notes that the disk does not know yet.
func (f *FS) set(dir *inode, name string, to *inode, group int, needs *change) *change {
	if to == nil {
		delete(dir.names, name)
	} else {
		dir.names[name] = to
	}
	c := &change{dir: dir, name: name, to: to, group: group, needs: needs}
	f.pending = append(f.pending, c)
	return c
}

func pathErr(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// OpenFile implements durable.FS.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n *inode
	err := f.do(func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		n = dir.names[base]
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case n == nil:
			n = &inode{mode: perm.Perm(), mtime: f.now}
			f.set(dir, base, n, 0, nil)
		case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case n.mode.IsDir():
			return errors.New("is a directory")
		case flag&os.O_TRUNC != 0:
			n.write(write{trunc: true}, f.now)
		}
		return nil
	})
	if err != nil {
		return nil, pathErr("open", name, err)
	}
	return &file{fs: f, n: n, name: name, flag: flag, gen: f.gen}, nil
}

// Rename implements durable.FS.
func (f *FS) Rename(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pathErr("rename", newName, f.do(func() error {
		from, a, err := f.parent(oldName)
		if err != nil {
			return err
		}
		to, b, err := f.parent(newName)
		if err != nil {
			return err
		}
		n := from.names[a]
		if n == nil {
			return fs.ErrNotExist
		}
		if old := to.names[b]; old != nil && old.mode.IsDir() {
			return fs.ErrExist
		}
		if from == to && a == b {
			return nil
		}
		group := 0
		if from == to {
			group = f.ops // both names change together
		}
		// Between directories the new name may be there before the old one has
		// gone, never the other way round: that would lose the file.
		set := f.set(to, b, n, group, nil)
		f.set(from, a, nil, group, set)
		return nil
	}))
}

// Link implements durable.FS.
func (f *FS) Link(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pathErr("link", newName, f.do(func() error {
		n, err := f.lookup(oldName)
		if err != nil {
			return err
		}
		dir, base, err := f.parent(newName)
		if err != nil {
			return err
		}
		if dir.names[base] != nil {
			return fs.ErrExist
		}
		f.set(dir, base, n, 0, nil)
		return nil
	}))
}

// Remove implements durable.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pathErr("remove", name, f.do(func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		n := dir.names[base]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case n.mode.IsDir() && len(n.names) > 0:
			return errors.New("directory not empty")
		}
		f.set(dir, base, nil, 0, nil)
		return nil
	}))
}

// MkdirAll implements durable.FS.
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pathErr("mkdir", name, f.do(func() error {
		n := f.root
		for _, part := range clean(name) {
			child := n.names[part]
			if child == nil {
				child = newDir(perm.Perm())
				child.mtime = f.now
				f.set(n, part, child, 0, nil)
			}
			if !child.mode.IsDir() {
				return errNotDir
			}
			n = child
		}
		return nil
	}))
}

// ReadDir implements durable.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []fs.DirEntry
	err := f.do(func() error {
		n, err := f.lookup(name)
		if err != nil {
			return err
		}
		if !n.mode.IsDir() {
			return errNotDir
		}
		for _, name := range sortedNames(n.names) {
			entries = append(entries, fs.FileInfoToDirEntry(n.names[name].info(name)))
		}
		return nil
	})
	if err != nil {
		return nil, pathErr("readdir", name, err)
	}
	return entries, nil
}

// Stat implements durable.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var info fs.FileInfo
	err := f.do(func() error {
		n, err := f.lookup(name)
		if err != nil {
			return err
		}
		info = n.info(path.Base(name))
		return nil
	})
	if err != nil {
		return nil, pathErr("stat", name, err)
	}
	return info, nil
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pathErr("sync", name, f.do(func() error {
		dir, err := f.lookup(name)
		if err != nil {
			return err
		}
		if !dir.mode.IsDir() {
			return errNotDir
		}
		// A removal that waits for its rename's other side takes that side along.
		along := map[*change]bool{}
		for _, c := range f.pending {
			if c.dir == dir && c.needs != nil {
				along[c.needs] = true
			}
		}
		f.pending = slices.DeleteFunc(f.pending, func(c *change) bool {
			if c.dir != dir && !along[c] {
				return false
			}
			c.dir.setDurable(c.name, c.to)
			return true
		})
		for _, c := range f.pending {
			if c.needs != nil && c.needs.dir == dir {
				c.needs = nil // satisfied
			}
		}
		return nil
	}))
}

func sortedNames(m map[string]*inode) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}
