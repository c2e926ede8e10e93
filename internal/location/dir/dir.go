//go:build linux

// Package dir is a location in a directory: a disk, a mounted share, a second machine's export.
//
// An object is a file under its name. It is written beside its place, synced and
// linked into it, so it appears whole or not at all and never replaces another.
//
// # Invariants
//
//   - What Put acknowledged is there after a crash, whole; so is what it refused
//     as fs.ErrExist.
//   - Nothing is written, read or listed while the directory has no repository
//     marker, or another one than at first: then it is ErrUnreachable. Only the
//     marker itself can be put and got. A backup never lands in the empty
//     directory under a disk that is not mounted, and that directory is never
//     taken for an empty repository.
//   - No name and no symbolic link leads out of the directory.
//   - The directory is held open only during a call, so it can be unmounted.
//
// # What an attacker who can write to the directory can do
//
// Delete and replace objects: this location has no lock. Snapshots are signed and
// sealed, so a replacement is noticed, and a deletion is survived by the other
// locations.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/location"
	"holdfast/internal/repo"
)

// A Store keeps objects in a directory. It may be used concurrently, also by
// several processes.
type Store struct {
	path string
	open func() (durable.FS, io.Closer, error)

	mu      sync.Mutex
	marker  string          // the marker's content, once seen
	markerT stamp           // its file, when its content was last compared
	dirs    map[string]bool // directories that this process made durable
}

// A stamp tells cheaply that a file is still the one that was looked at.
type stamp struct {
	size     int64
	modified time.Time
	dev, ino uint64
}

const (
	maxMarker = 64 << 10
	maxDirs   = 100_000 // remembered directories; beyond it they are synced again

	filePerm fs.FileMode = 0o600
	dirPerm  fs.FileMode = 0o700
)

// New returns the location in a directory, which need not be there yet: an
// unmounted disk may come back. Use Make first for a new place.
func New(dir string) (*Store, error) {
	if dir == "" {
		return nil, holdfast.WithHint(fmt.Errorf("location: no directory given: %w", holdfast.ErrUsage), "give the path of a directory")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("location %q: %w", dir, err)
	}
	return &Store{path: abs, dirs: map[string]bool{}, open: func() (durable.FS, io.Closer, error) {
		root, err := durable.OpenRoot(abs)
		if err != nil {
			return nil, nil, err
		}
		return root, root, nil
	}}, nil
}

// Make makes the directory of a new location with its parents.
func Make(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("location %q: %w", dir, err)
	}
	if err := durable.MkdirAll(durable.OS, abs, dirPerm); err != nil {
		return (&Store{path: abs}).explain("make", "", err)
	}
	return nil
}

// NewOn is New on another file system, whose root is the location. Tests crash it.
func NewOn(fsys durable.FS) *Store {
	return &Store{path: "/", dirs: map[string]bool{}, open: func() (durable.FS, io.Closer, error) {
		return fsys, io.NopCloser(nil), nil
	}}
}

// Path returns the directory.
func (s *Store) Path() string { return s.path }

// begin opens the directory for one call and checks that it is the place it was.
func (s *Store) begin(ctx context.Context, verb, name string) (durable.FS, io.Closer, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	fsys, closer, err := s.open()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			err = fmt.Errorf("%w: no such directory", location.ErrUnreachable)
			if name == location.Marker { // a place without a directory holds no repository
				err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
			}
		}
		return nil, nil, s.explain(verb, name, err)
	}
	if name != location.Marker || verb == "list" {
		if err := s.witness(fsys); err != nil {
			closer.Close()
			return nil, nil, s.explain(verb, name, err)
		}
	}
	return fsys, closer, nil
}

// witness checks the marker: one stat, and a read when the file is not the one
// looked at last.
func (s *Store) witness(fsys durable.FS) error {
	info, err := fsys.Stat(location.Marker)
	if errors.Is(err, fs.ErrNotExist) {
		// Not fs.ErrNotExist: that would read as "this object is not stored".
		return fmt.Errorf("%w: %q is missing", location.ErrUnreachable, location.Marker)
	}
	if err != nil {
		return err
	}
	now := stampOf(info)
	s.mu.Lock()
	same := now == s.markerT
	s.mu.Unlock()
	if same {
		return nil
	}
	b, err := durable.ReadFile(fsys, location.Marker, maxMarker)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marker != "" && s.marker != string(b) {
		return fmt.Errorf("%w: another repository is there now", location.ErrUnreachable)
	}
	s.marker, s.markerT = string(b), now
	clear(s.dirs) // it may be a disk that was away
	return nil
}

func stampOf(info fs.FileInfo) stamp {
	st := stamp{size: info.Size(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		st.dev, st.ino = uint64(sys.Dev), sys.Ino
	}
	return st
}

// Put implements repo.Store.
//
// A crash at any point leaves no object or a whole one, and perhaps a temporary
// file, which RemoveTemps deletes.
func (s *Store) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := location.CheckName(name); err != nil {
		return s.explain("put", name, err)
	}
	fsys, closer, err := s.begin(ctx, "put", name)
	if err != nil {
		return err
	}
	defer closer.Close()
	dir := filepath.Dir(name)
	if err := s.makeDir(fsys, dir); err != nil {
		return s.explain("put", name, err)
	}
	// Looking first saves writing a pack that is there. The answer must hold after
	// a crash although the writer who put it may not have synced the name yet.
	if _, err := fsys.Stat(name); err == nil {
		if err := fsys.SyncDir(dir); err != nil {
			return s.explain("put", name, err)
		}
		return s.explain("put", name, fs.ErrExist)
	}
	if err := durable.Create(fsys, name, location.Exactly(ctx, body, size), filePerm); err != nil {
		return s.explain("put", name, err)
	}
	return nil
}

// makeDir makes an object's directory durable, once per process.
func (s *Store) makeDir(fsys durable.FS, dir string) error {
	if dir == "." {
		return nil
	}
	s.mu.Lock()
	known := s.dirs[dir]
	s.mu.Unlock()
	if known {
		if _, err := fsys.Stat(dir); err == nil {
			return nil
		}
	}
	// Every level is synced into its parent, not only what is missing: another
	// process may have made it and not synced it yet.
	for i, c := range dir + "/" {
		if c == '/' {
			if err := durable.MkdirAll(fsys, dir[:i], dirPerm); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirs) >= maxDirs {
		clear(s.dirs)
	}
	s.dirs[dir] = true
	return nil
}

// Get implements repo.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := location.CheckName(name); err != nil {
		return nil, s.explain("get", name, err)
	}
	if off < 0 {
		return nil, s.explain("get", name, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	fsys, closer, err := s.begin(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	defer closer.Close() // the object stays open
	f, err := fsys.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, s.explain("get", name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file: %w", fs.ErrInvalid)
	}
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, s.explain("get", name, err)
	}
	if n < 0 {
		n = max(info.Size()-off, 0)
		if off > info.Size() {
			n = 1 // beyond the end: the reader says so
		}
	}
	return &objectReader{ctx: ctx, f: f, left: n, explain: func(err error) error { return s.explain("get", name, err) }}, nil
}

// objectReader reads a range and takes an early end for damage.
type objectReader struct {
	ctx     context.Context
	f       durable.File
	left    int64
	explain func(error) error
}

func (r *objectReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.f.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		return n, r.explain(fmt.Errorf("ends %d bytes early: %w", r.left, io.ErrUnexpectedEOF))
	}
	if err != nil && err != io.EOF {
		return n, r.explain(err)
	}
	return n, nil
}

func (r *objectReader) Close() error { return r.f.Close() }

// List implements repo.Store. Files that cannot be objects, such as lost+found,
// hidden and temporary ones, are left out; anything else that is not a regular
// file is an error.
func (s *Store) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	fsys, closer, err := s.begin(ctx, "list", prefix)
	if err != nil {
		return err
	}
	defer closer.Close()
	// The listing starts at the deepest directory that the prefix names.
	start := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
		if location.CheckName(start) != nil {
			return nil // no object can have such a name
		}
		if _, err := fsys.Stat(start); errors.Is(err, fs.ErrNotExist) {
			return nil // the marker is there, so this is an answer
		} else if err != nil {
			return s.explain("list", start, err)
		}
	}
	return s.walk(ctx, fsys, start, prefix, fn)
}

func (s *Store) walk(ctx context.Context, fsys durable.FS, dir, prefix string, fn func(repo.Object) error) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return s.explain("list", dir, err)
	}
	// Names are compared with the slash, which sorts behind '-' and '.'.
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, key(e))
		if e.IsDir() {
			name += "/"
		}
		if !location.ValidPart(e.Name()) || !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name) {
			continue
		}
		if e.IsDir() {
			if err := s.walk(ctx, fsys, path.Clean(name), prefix, fn); err != nil {
				return err
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("not a regular file: %w", fs.ErrInvalid)
		}
		if err != nil {
			return s.explain("list", name, err)
		}
		if err := fn(repo.Object{Name: name, Size: info.Size(), Modified: info.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}

// Strays implements repo.StrayLister: it lists files that List leaves out, because no
// object can have their names, and what is not a regular file. A folder with such a name
// is listed as one, and not entered. Our own temporary files and probes are left out, and
// so is what file systems keep for themselves.
func (s *Store) Strays(ctx context.Context, fn func(repo.Object) error) error {
	fsys, closer, err := s.begin(ctx, "list", "")
	if err != nil {
		return err
	}
	defer closer.Close()
	var look func(dir string) error
	look = func(dir string) error {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			return s.explain("list", dir, err)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := path.Join(dir, e.Name())
			switch {
			case durable.IsTemp(e.Name()), dir == "." && location.Reserved(e.Name()):
			case e.IsDir() && location.ValidPart(e.Name()):
				err = look(name)
			case e.IsDir():
				err = fn(repo.Object{Name: name + "/"})
			case !location.ValidPart(e.Name()):
				err = fn(repo.Object{Name: name})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return look(".")
}

// Delete implements repo.Store. A crash may bring the object back.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := location.CheckName(name); err != nil {
		return s.explain("delete", name, err)
	}
	fsys, closer, err := s.begin(ctx, "delete", name)
	if err != nil {
		return err
	}
	defer closer.Close()
	// A directory is no object, though Remove would take an empty one.
	if info, err := fsys.Stat(name); err == nil && info.IsDir() {
		return s.explain("delete", name, fs.ErrNotExist)
	}
	if err := fsys.Remove(name); err != nil {
		return s.explain("delete", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return s.explain("delete", name, err)
	}
	return nil
}

// RemoveTemps deletes what crashed writers left, older than the given instant,
// and returns how many files. Choose it a day or more before now.
func (s *Store) RemoveTemps(ctx context.Context, before time.Time) (int, error) {
	fsys, closer, err := s.begin(ctx, "clean", "")
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	total := 0
	var clean func(dir string) error
	clean = func(dir string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := durable.RemoveTemps(fsys, dir, before)
		total += n
		if err != nil {
			return s.explain("clean", dir, err)
		}
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			return s.explain("clean", dir, err)
		}
		for _, e := range entries {
			if e.IsDir() && location.ValidPart(e.Name()) {
				if err := clean(path.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return total, clean(".")
}

// explain says which object of which place, sorts the reason into the kinds that
// people act on differently, and adds what to do.
func (s *Store) explain(verb, name string, err error) error {
	what := fmt.Sprintf("location %q: %s", s.path, verb)
	if name != "" {
		what += fmt.Sprintf(" %q", name)
	}
	var body *location.BodyError
	if errors.As(err, &body) {
		return fmt.Errorf("%s: %w", what, body)
	}
	// The inner errors repeat the name, with the temporary one; their cause is enough.
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	cause := err
	switch {
	case errors.As(err, &pathErr):
		cause = pathErr.Err
	case errors.As(err, &linkErr):
		cause = linkErr.Err
	}
	kind := func(k error) error { return fmt.Errorf("%s: %w: %w", what, k, cause) }
	switch {
	case errors.Is(err, location.ErrUnreachable):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "is the disk or share mounted at %q? if this is a new place, initialise it first", s.path)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", what, fs.ErrExist)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return holdfast.WithHint(kind(location.ErrFull), "free or add space at %q, or shorten what is kept there", s.path)
	case errors.Is(err, syscall.EROFS):
		return holdfast.WithHint(kind(location.ErrReadOnly), "remount %q for writing; a disk with errors is often remounted read-only, so look at the kernel log", s.path)
	case errors.Is(err, fs.ErrPermission):
		return holdfast.WithHint(kind(location.ErrDenied), "give the user that runs holdfast the right to read and write %q", s.path)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ETIMEDOUT):
		return holdfast.WithHint(kind(location.ErrUnreachable), "the disk or share at %q does not answer; look at the kernel log", s.path)
	}
	return fmt.Errorf("%s: %w", what, cause)
}
