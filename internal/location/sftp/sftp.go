// Package sftp is a location in a folder of another machine, over SSH.
//
// An object is a file under its name. It is written beside its place under a name
// that no object has, synced, and linked into it, so it appears whole or not at all
// and never replaces another. Where the server has no hard links, the file is
// renamed by the protocol's own request, which must not replace a file either;
// OpenSSH keeps that rule by linking.
//
// # Invariants
//
//   - Only a server whose host key is pinned is talked to, and only by key.
//   - What Put acknowledged was synced by the server before and after it got its
//     name, where the server can do that (fsync@openssh.com). [Store.Probe] says
//     so where it cannot.
//   - Nothing is written, read or listed while the folder has no repository marker,
//     or another one than at first, and no object is said to be missing there. The
//     marker is looked at again at least every witnessFor.
//   - A call ends: when nothing moved for Config.Timeout, its connection is closed
//     and the place counts as unreachable. Other calls have other connections.
//   - A put whose answer was lost is neither a success nor a failure: the object is
//     read back and compared.
//
// BUG: an OpenSSH server answers an error of its disk in the middle of reading a
// folder as the folder's end, so such a listing can be short. Only what deletes by
// a listing alone could be misled, and nothing does.
//
// # What an attacker who has the key can do
//
// Whatever the account can: delete and replace objects. SFTP has no lock. Snapshots
// are signed and sealed, so a replacement is noticed, and a deletion is survived by
// the other locations.
package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/repo"
)

// Config says which folder of which machine, and how to log in.
type Config struct {
	Addr string // host, or host:port
	User string
	Path string // the folder; relative to the account's home unless it begins with a slash

	// KeyFile holds the private key, readable by its owner only, without passphrase.
	KeyFile string
	// HostKey is the fingerprint of the server's key ("SHA256:…"), as ssh-keygen -l
	// shows it. KnownHosts names a file of keys in the form of OpenSSH instead. One
	// of the two must be given: a server that is not known is never talked to.
	HostKey    string
	KnownHosts string

	// Timeout ends a call in which nothing moves. Defaults to DefaultTimeout.
	Timeout time.Duration

	noLinks bool // as if the server offered no hard links; for tests
}

// Defaults and limits.
const (
	DefaultTimeout = time.Minute

	maxMarker  = 64 << 10
	maxDirs    = 100_000 // remembered folders; beyond it they are made again
	maxConns   = 4       // at a time
	freshFor   = 30 * time.Second
	witnessFor = 10 * time.Second
	chunk      = 4 << 20 // read at once
	attempts   = 3
	firstPause = 250 * time.Millisecond
	tempPrefix = ".holdfast-tmp-"
)

// A Store keeps objects in a folder of another machine. It may be used
// concurrently, also by several processes.
type Store struct {
	cfg   Config
	slots chan struct{}
	line  atomic.Pointer[location.Line] // of the newest connection

	mu     sync.Mutex
	idle   []*conn
	works  int // which host key algorithms the server was found to use
	marker []byte
	stamp  stamp
	seen   time.Time
	dirs   map[string]bool // folders that this process made
}

type stamp struct {
	size     int64
	modified time.Time
}

// Line is how the place was reached by the newest connection.
func (s *Store) Line() location.Line {
	if l := s.line.Load(); l != nil {
		return *l
	}
	return location.Line{}
}

// New returns the location in a folder of another machine. It asks nobody: a place
// may come back. Make makes the folder of a new place.
func New(cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, slots: make(chan struct{}, maxConns), dirs: map[string]bool{}}
	if s.cfg.Timeout <= 0 {
		s.cfg.Timeout = DefaultTimeout
	}
	if s.cfg.Path != "" {
		s.cfg.Path = path.Clean(s.cfg.Path)
	}
	for _, f := range []struct{ value, what, hint string }{
		{cfg.Addr, "host", "name the server"},
		{cfg.User, "user", "name the account"},
		{cfg.Path, "path", "name the folder"},
		{cfg.KeyFile, "key file", "make one by \"ssh-keygen -t ed25519 -N '' -f FILE\" and let the account accept it"},
		{cfg.HostKey + cfg.KnownHosts, "host key", "read its fingerprint on the server, by \"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\""},
	} {
		if f.value == "" {
			return nil, holdfast.WithHint(fmt.Errorf("location %q: no %s given: %w", s.String(), f.what, holdfast.ErrUsage), "%s", f.hint)
		}
	}
	return s, nil
}

// String is the address of the place.
func (s *Store) String() string {
	return fmt.Sprintf("sftp://%s@%s/%s", s.cfg.User, s.cfg.Addr, strings.TrimPrefix(s.cfg.Path, "/"))
}

func (s *Store) file(name string) string { return path.Join(s.cfg.Path, name) }

// Make makes the folder of a new place, with its parents.
func (s *Store) Make(ctx context.Context) error {
	if err := s.do(ctx, func(c *conn) error { return c.MkdirAll(s.cfg.Path) }); err != nil {
		return s.explain(ctx, "make", "", err)
	}
	return nil
}

// begin checks the name, and that the place is the one it was.
func (s *Store) begin(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if verb != "list" {
		if err := location.CheckName(name); err != nil {
			return s.explain(ctx, verb, name, err)
		}
		if name == location.Marker {
			return nil
		}
	}
	if err := s.witness(ctx, verb == "list"); err != nil {
		return s.explain(ctx, verb, name, err)
	}
	return nil
}

// witness checks the marker, at most every witnessFor unless it must be now.
func (s *Store) witness(ctx context.Context, now bool) error {
	s.mu.Lock()
	fresh := s.marker != nil && time.Since(s.seen) < witnessFor
	known := s.stamp
	s.mu.Unlock()
	if fresh && !now {
		return nil
	}
	var seen stamp
	var content []byte
	err := s.do(ctx, func(c *conn) error {
		info, err := c.Lstat(s.file(location.Marker))
		if err != nil {
			return err
		}
		if seen, content = (stamp{info.Size(), info.ModTime()}), nil; seen == known {
			return nil
		}
		f, err := c.Open(s.file(location.Marker))
		if err != nil {
			return err
		}
		defer f.Close()
		content, err = io.ReadAll(io.LimitReader(f, maxMarker+1))
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Not fs.ErrNotExist: that would read as "this object is not stored".
		return fmt.Errorf("%w: %q is missing", location.ErrUnreachable, location.Marker)
	case err != nil:
		return err
	case len(content) > maxMarker:
		return fmt.Errorf("%w: %q has more than %d bytes", location.ErrUnreachable, location.Marker, maxMarker)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if content != nil {
		if s.marker != nil && !bytes.Equal(s.marker, content) {
			return fmt.Errorf("%w: another repository is there now", location.ErrUnreachable)
		}
		s.marker, s.stamp = content, seen
		clear(s.dirs) // it may be a disk that was away
	}
	s.seen = time.Now()
	return nil
}

// Put implements repo.Store.
//
// A crash at any point leaves no object or a whole one, and perhaps a temporary
// file, which RemoveTemps deletes.
func (s *Store) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := s.begin(ctx, "put", name); err != nil {
		return err
	}
	c, err := location.Load(ctx, size, body, io.Discard)
	if err == nil {
		err = s.put(ctx, name, c)
	}
	if err != nil {
		return s.explain(ctx, "put", name, err)
	}
	return nil
}

// put sends the content until it knows what became of it.
func (s *Store) put(ctx context.Context, name string, c location.Content) error {
	var temps []string // of attempts that broke
	for i := 0; ; i++ {
		temp := path.Join(path.Dir(s.file(name)), tempPrefix+token())
		err := s.use(ctx, func(conn *conn) error {
			for _, t := range temps {
				conn.Remove(t)
			}
			return s.putOnce(conn, name, temp, c)
		})
		if !lost(err) || ctx.Err() != nil {
			return err
		}
		temps = append(temps, temp)
		// The connection broke: did the object get its name before?
		same := false
		herr := s.do(ctx, func(conn *conn) error {
			same = false
			f, err := conn.Open(s.file(name))
			if err != nil {
				return err
			}
			defer f.Close()
			if same, err = equal(f, c); err != nil || !same {
				return err
			}
			return conn.sync(f)
		})
		switch {
		case herr == nil && same:
			return nil
		case herr == nil:
			return fs.ErrExist
		case !errors.Is(herr, fs.ErrNotExist):
			return fmt.Errorf("%w; and what became of it is not known: %w", err, herr)
		}
		if i+1 == attempts {
			return err
		}
	}
}

func token() string {
	var b [8]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b[:])
}

// putOnce writes the object over one connection.
func (s *Store) putOnce(conn *conn, name, temp string, c location.Content) error {
	file := s.file(name)
	if err := s.makeDir(conn, path.Dir(file)); err != nil {
		return err
	}
	if err := conn.there(file); err != nil {
		return err
	}
	f, err := conn.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	err = func() error {
		defer f.Close()
		n, err := f.ReadFrom(c.Reader())
		switch {
		case err != nil:
			return err
		case n != c.Size:
			return fmt.Errorf("%d of %d bytes were taken: %w", n, c.Size, io.ErrShortWrite)
		}
		// A crash here leaves a temporary file. Behind it the content is durable.
		if err := conn.sync(f); err != nil {
			return err
		}
		if err := conn.name(temp, file); err != nil {
			// The protocol has one answer for all reasons. Is the name taken?
			if terr := conn.there(file); terr != nil {
				return terr
			}
			return err
		}
		// The name is durable when the file is synced again: a journal that holds
		// the file's new link holds what came before it. The protocol has no other way.
		return conn.sync(f)
	}()
	if conn.links || err != nil {
		if rerr := conn.Remove(temp); err == nil && lost(rerr) {
			return rerr // then the object is looked at again
		}
	}
	return err
}

// makeDir makes an object's folder, once per process.
func (s *Store) makeDir(conn *conn, dir string) error {
	s.mu.Lock()
	known := s.dirs[dir]
	s.mu.Unlock()
	if known {
		if _, err := conn.Lstat(dir); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// The place's own folder is never made here: it may be an unmounted disk's. It
	// is there, since the marker was seen, or is looked for by the write itself.
	if dir != s.cfg.Path {
		if err := conn.MkdirAll(dir); err != nil {
			return err
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

// equal reports whether a file has the content.
func equal(f io.Reader, c location.Content) (bool, error) {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	want := c.Reader()
	for {
		n, werr := io.ReadFull(want, b)
		m, err := io.ReadFull(f, a)
		if !bytes.Equal(a[:m], b[:n]) {
			return false, nil
		}
		end := func(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
		switch {
		case err != nil && !end(err):
			return false, err
		case end(err) && end(werr):
			return true, nil
		case werr != nil && !end(werr):
			return false, &location.BodyError{Err: werr}
		}
	}
}

// Get implements repo.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := location.CheckName(name); err != nil {
		return nil, s.explain(ctx, "get", name, err)
	}
	if off < 0 {
		return nil, s.explain(ctx, "get", name, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	r := &objectReader{s: s, ctx: ctx, name: name, off: off, left: n}
	err := r.fill()
	if errors.Is(err, fs.ErrNotExist) && name != location.Marker {
		// Is it the object that is not there, or the place?
		if werr := s.witness(ctx, true); werr != nil {
			err = werr
		}
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, s.explain(ctx, "get", name, err)
	}
	return r, nil
}

// objectReader reads a range in pieces, each over any connection, so that a reader
// that nobody reads holds none; and takes an early end for damage.
type objectReader struct {
	s    *Store
	ctx  context.Context
	name string
	off  int64 // behind what is in buf
	left int64 // behind what is in buf; negative until the first answer said
	buf  []byte
	at   int // what was read of buf
	err  error
}

// fill reads the next piece. Objects never change, so pieces fit together.
func (r *objectReader) fill() error {
	var got int
	r.err = r.s.do(r.ctx, func(c *conn) error {
		f, err := c.Open(r.s.file(r.name))
		if err != nil {
			return err
		}
		defer f.Close()
		if r.left <= 0 {
			info, err := f.Stat()
			switch {
			case err != nil:
				return err
			case !info.Mode().IsRegular():
				return fmt.Errorf("not a regular file: %w", fs.ErrInvalid)
			case r.off > info.Size():
				return fmt.Errorf("begins %d bytes behind the end: %w", r.off-info.Size(), io.ErrUnexpectedEOF)
			case r.left < 0:
				r.left = info.Size() - r.off
			}
		}
		if n := min(r.left, chunk); int64(cap(r.buf)) < n {
			r.buf = make([]byte, n)
		}
		r.buf = r.buf[:min(r.left, chunk)]
		if len(r.buf) == 0 {
			return nil
		}
		if got, err = f.ReadAt(r.buf, r.off); err == io.EOF && got == len(r.buf) {
			err = nil
		}
		if err == io.EOF {
			err = fmt.Errorf("ends %d bytes early: %w", r.left-int64(got), io.ErrUnexpectedEOF)
		}
		return err
	})
	r.buf, r.at = r.buf[:got], 0
	r.off, r.left = r.off+int64(got), r.left-int64(got)
	return r.err
}

func (r *objectReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.at == len(r.buf) {
		switch {
		case r.err != nil:
			return 0, r.s.explain(r.ctx, "get", r.name, r.err)
		case r.left == 0:
			return 0, io.EOF
		}
		r.fill()
		if len(r.buf) == 0 && r.err != nil {
			return 0, r.s.explain(r.ctx, "get", r.name, r.err)
		}
	}
	n := copy(p, r.buf[r.at:])
	r.at += n
	return n, nil
}

func (r *objectReader) Close() error {
	r.buf, r.at, r.left, r.err = nil, 0, 0, nil
	return nil
}

// List implements repo.Store. Files that cannot be objects, such as lost+found,
// hidden and temporary ones, are left out; anything else that is not a regular
// file is an error.
func (s *Store) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	if err := s.begin(ctx, "list", prefix); err != nil {
		return err
	}
	if !location.MayBegin(prefix) {
		return nil // the marker is there, so this is an answer
	}
	// The listing starts at the deepest folder that the prefix names.
	start := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
	}
	return s.walk(ctx, start, prefix, true, fn)
}

// Strays implements repo.StrayLister: it lists files that List leaves out, because no
// object can have their names. A folder with such a name is listed as one, and not
// entered. Our own temporary files and probes are left out, and so is what file systems
// keep for themselves.
func (s *Store) Strays(ctx context.Context, fn func(repo.Object) error) error {
	if err := s.begin(ctx, "list", ""); err != nil {
		return err
	}
	var look func(dir string) error
	look = func(dir string) error {
		var entries []fs.FileInfo
		err := s.do(ctx, func(c *conn) (err error) {
			entries, err = c.ReadDir(s.file(dir))
			return err
		})
		if err != nil {
			return s.explain(ctx, "list", dir, err)
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case strings.HasPrefix(e.Name(), tempPrefix), dir == "" && location.Reserved(e.Name()):
			case e.IsDir() && location.ValidPart(e.Name()):
				err = look(name)
			case e.IsDir():
				err = fn(repo.Object{Name: name + "/"})
			case !location.ValidPart(e.Name()):
				err = fn(repo.Object{Name: name, Size: e.Size(), Modified: e.ModTime()})
			}
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	return look("")
}

func (s *Store) walk(ctx context.Context, dir, prefix string, first bool, fn func(repo.Object) error) error {
	var entries []fs.FileInfo
	err := s.do(ctx, func(c *conn) (err error) {
		entries, err = c.ReadDir(s.file(dir))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && first && dir != "" {
		return nil // the marker is there, so this is an answer
	}
	if err != nil {
		return s.explain(ctx, "list", dir, err)
	}
	// Names are compared with the slash, which sorts behind '-' and '.'.
	key := func(e fs.FileInfo) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.FileInfo) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			name += "/"
		}
		switch {
		case !location.ValidPart(e.Name()) || !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name):
			continue
		case e.IsDir():
			err = s.walk(ctx, path.Clean(name), prefix, false, fn)
		case !strings.HasPrefix(name, prefix):
			continue
		case !e.Mode().IsRegular():
			err = s.explain(ctx, "list", name, fmt.Errorf("not a regular file: %w", fs.ErrInvalid))
		default:
			err = fn(repo.Object{Name: name, Size: e.Size(), Modified: e.ModTime()})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Delete implements repo.Store. A crash of the server may bring the object back.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.begin(ctx, "delete", name); err != nil {
		return err
	}
	asked := false
	err := s.do(ctx, func(c *conn) error {
		info, err := c.Lstat(s.file(name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && asked:
			return nil // an earlier attempt, whose answer was lost
		case err != nil:
			return err
		case info.IsDir(): // which the library would remove too
			return fs.ErrNotExist
		}
		asked = true
		return c.Remove(s.file(name))
	})
	if errors.Is(err, fs.ErrNotExist) && name != location.Marker {
		if werr := s.witness(ctx, true); werr != nil {
			err = werr
		}
	}
	if err != nil {
		return s.explain(ctx, "delete", name, err)
	}
	return nil
}

// RemoveTemps deletes what crashed writers left, older than the given instant by
// the server's clock, and returns how many files. Choose it a day or more before now.
func (s *Store) RemoveTemps(ctx context.Context, before time.Time) (int, error) {
	if err := s.begin(ctx, "list", ""); err != nil {
		return 0, err
	}
	total := 0
	var clean func(dir string) error
	clean = func(dir string) error {
		var entries []fs.FileInfo
		err := s.do(ctx, func(c *conn) (err error) {
			entries, err = c.ReadDir(s.file(dir))
			return err
		})
		for _, e := range entries {
			if err != nil {
				break
			}
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir() && location.ValidPart(e.Name()):
				err = clean(name)
			case e.Mode().IsRegular() && strings.HasPrefix(e.Name(), tempPrefix) && e.ModTime().Before(before):
				if err = s.do(ctx, func(c *conn) error { return c.Remove(s.file(name)) }); err == nil {
					total++
				}
			}
		}
		return err
	}
	if err := clean(""); err != nil {
		return total, s.explain(ctx, "clean", "", err)
	}
	return total, nil
}
