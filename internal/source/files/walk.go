//go:build linux

package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/repo"
)

// Limits of a walk.
const (
	// maxDepth bounds the nesting of directories, each of which costs an open file.
	maxDepth = 500
	// namesAtOnce bounds how many names of one directory are in memory. A larger
	// directory is read again for each further part.
	namesAtOnce = 1 << 18
	readBatch   = 4096
	// maxLinked bounds how many files with several names wait for their others.
	// Beyond it a further name is stored as a file of its own.
	maxLinked = 1 << 20
	// progressEvery is how many entries go by between two reports.
	progressEvery = 256
	maxOwners     = 1 << 16
)

type inode struct{ dev, ino uint64 }

// linked is a file that has more names than were seen so far.
type linked struct {
	path string
	left uint64
}

// A walk is one Snapshot. It belongs to one goroutine.
type walk struct {
	s        *Source
	w        *repo.Writer
	progress func(holdfast.Progress)
	report   Report
	rootDev  uint64
	links    map[inode]linked

	databases map[string]bool // of SQLite, copied with their logs
	names     []string        // of the part of a directory that is visited, sorted; none if no database is in use there

	users  map[int]string
	groups map[int]string
	batch  int
}

func newWalk(s *Source, w *repo.Writer, progress func(holdfast.Progress)) *walk {
	return &walk{s: s, w: w, progress: progress, links: map[inode]linked{}, databases: map[string]bool{}, users: map[int]string{}, groups: map[int]string{}, batch: s.batch}
}

func (k *walk) tell() {
	if k.progress == nil {
		return
	}
	p := holdfast.Progress{Stage: "files", Done: k.report.Bytes, Unit: "bytes"}
	// The last snapshot says about how much there is; beyond that nobody knows.
	if parent := k.w.Parent(); parent != nil && parent.Bytes > p.Done {
		p.Total = parent.Bytes
	}
	k.progress(p)
}

// problem records a path that is not stored as it should be.
func (k *walk) problem(path string, err error) {
	k.report.Unreadable++
	k.keep(path, err)
}

func (k *walk) keep(path string, err error) {
	if len(k.report.Problems) < maxProblems {
		k.report.Problems = append(k.report.Problems, Problem{path, err})
	}
}

// top adds the directory itself and all that is in it.
func (k *walk) top(ctx context.Context, root *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return k.s.explain(err)
	}
	k.rootDev = st.Dev
	names, _, err := readNames(root, "", k.batch)
	if err != nil {
		return k.s.explain(err)
	}
	if parent := k.w.Parent(); len(names) == 0 && parent != nil && parent.Files > 1 {
		return holdfast.WithHint(fmt.Errorf("store %q: %q: %w (%d entries)", k.s.cfg.Store, k.s.cfg.Path, ErrEmpty, parent.Files),
			"is the disk mounted? if the directory really was emptied, put a file into it")
	}
	e := k.entry(".", &st)
	k.attributes(&e, fdAttributes(int(root.Fd())))
	if err := k.w.Add(ctx, e, nil); err != nil {
		return err
	}
	k.report.Entries++
	if err := k.dir(ctx, root, "", st.Dev, 0); err != nil {
		return err
	}
	k.tell()
	return nil
}

// dir adds what is in an open directory, in order. prefix is its path with a
// slash, or empty. An error is one that ends the snapshot.
func (k *walk) dir(ctx context.Context, d *os.File, prefix string, dev uint64, depth int) error {
	for after, more := "", true; more; {
		var names []string
		var err error
		names, more, err = readNames(d, after, k.batch)
		if err != nil {
			k.problem(strings.TrimSuffix(or(prefix, "."), "/"), fmt.Errorf("read directory: %w", err))
			return nil
		}
		beside := namesWithLogs(names)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			k.names = beside // what was visited inside may have had others
			if err := k.visit(ctx, d, name, prefix+name, dev, depth); err != nil {
				return err
			}
			if k.report.Entries%progressEvery == 0 {
				k.tell()
			}
		}
		if len(names) > 0 {
			after = names[len(names)-1]
		}
	}
	return nil
}

func or(s, t string) string {
	if s == "" {
		return t
	}
	return s
}

// readNames returns the names in a directory that sort behind after, at most
// limit of them, in order, and whether there are more.
func readNames(d *os.File, after string, limit int) (names []string, more bool, err error) {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return nil, false, err
	}
	cut := func() {
		if len(names) > limit {
			slices.Sort(names)
			names, more = names[:limit:limit], true
		}
	}
	for {
		batch, err := d.Readdirnames(readBatch)
		for _, name := range batch {
			if name > after {
				names = append(names, name)
			}
		}
		if len(names) > 2*limit {
			cut()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, false, err
		}
	}
	cut()
	slices.Sort(names)
	return names, more, nil
}

// visit adds one name of the open directory d, and what is in it.
func (k *walk) visit(ctx context.Context, d *os.File, name, path string, dev uint64, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		k.missing(path, err)
		return nil
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if excluded(k.s.exclude, path, isDir) || !isDir && k.s.cfg.OneFileSystem && st.Dev != k.rootDev {
		k.report.Excluded++
		return nil
	}
	k.noticeEngine(name, path)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return k.visitDir(ctx, d, name, path, &st, dev, depth)
	case unix.S_IFREG:
		if k.copiedWith(path) {
			return nil
		}
		if inUse(k.names, name) {
			if done, err := k.visitDatabase(ctx, d, name, path, &st); done || err != nil {
				return err
			}
		}
		return k.visitFile(ctx, d, name, path, &st)
	}
	return k.visitOther(ctx, d, name, path, &st)
}

// missing tells a path that was removed meanwhile from one that cannot be looked at.
func (k *walk) missing(path string, err error) {
	if errors.Is(err, unix.ENOENT) {
		k.report.Vanished++
		return
	}
	k.problem(path, err)
}

func (k *walk) visitDir(ctx context.Context, d *os.File, name, path string, st *unix.Stat_t, dev uint64, depth int) error {
	fd, err := openat(d, name, unix.O_DIRECTORY)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			k.report.Vanished++
			return nil
		}
		// Its place, owner and mode are kept, so that the restore has the directory.
		k.problem(path, err)
		return k.add(ctx, k.entry(path, st), st)
	}
	sub := os.NewFile(uintptr(fd), path)
	defer sub.Close()
	// What was opened counts: the name may have been given away meanwhile.
	if err := unix.Fstat(fd, st); err != nil {
		k.missing(path, err)
		return nil
	}
	e := k.entry(path, st)
	k.attributes(&e, fdAttributes(fd))
	if err := k.add(ctx, e, st); err != nil {
		return err
	}
	if st.Dev != dev && (k.s.cfg.OneFileSystem || pseudo(fd)) {
		k.report.Excluded++
		return nil
	}
	if depth >= maxDepth {
		k.problem(path, fmt.Errorf("directories are nested deeper than %d", maxDepth))
		return nil
	}
	return k.dir(ctx, sub, path+"/", st.Dev, depth+1)
}

// visitOther adds what has no content: links, fifos, sockets, devices.
func (k *walk) visitOther(ctx context.Context, d *os.File, name, path string, st *unix.Stat_t) error {
	if done, err := k.hardlink(ctx, path, st); done {
		return err
	}
	e := k.entry(path, st)
	if e.Type == repo.TypeSymlink {
		target, err := readlinkat(d, name)
		if err != nil {
			k.missing(path, err)
			return nil
		}
		e.Target = target
	}
	k.attributes(&e, pathAttributes(procPath(d, name)))
	return k.add(ctx, e, st)
}

// add adds an entry without content.
func (k *walk) add(ctx context.Context, e repo.Entry, st *unix.Stat_t) error {
	if err := k.w.Add(ctx, e, nil); err != nil {
		return k.refused(ctx, e.Path, err)
	}
	k.stored(e.Path, st)
	return nil
}

// refused sorts an error of the writer: an entry beyond the format's limits is a
// problem of that path, everything else ends the snapshot.
func (k *walk) refused(ctx context.Context, path string, err error) error {
	if ctx.Err() == nil && errors.Is(err, repo.ErrLimit) {
		k.problem(path, err)
		return nil
	}
	return err
}

// stored notes that an entry is in the snapshot under path.
func (k *walk) stored(path string, st *unix.Stat_t) {
	k.report.Entries++
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR && len(k.links) < maxLinked {
		k.links[inode{st.Dev, st.Ino}] = linked{path, uint64(st.Nlink) - 1}
	}
}

// hardlink adds a further name of a stored file, and reports whether it was one.
func (k *walk) hardlink(ctx context.Context, path string, st *unix.Stat_t) (bool, error) {
	if st.Nlink < 2 {
		return false, nil
	}
	id := inode{st.Dev, st.Ino}
	first, ok := k.links[id]
	if !ok {
		return false, nil
	}
	e := k.entry(path, st)
	e.Type, e.Target, e.Size = repo.TypeHardlink, first.path, 0
	if err := k.w.Add(ctx, e, nil); err != nil {
		return true, k.refused(ctx, path, err)
	}
	k.report.Entries++
	if first.left--; first.left == 0 {
		delete(k.links, id)
	} else {
		k.links[id] = first
	}
	return true, nil
}
