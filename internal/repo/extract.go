package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"holdfast/internal/seal"
)

// ExtractConfig says how a snapshot is restored.
type ExtractConfig struct {
	Dir     string // made if absent; files that are there already are not replaced but reported, unless Over is set
	Workers int    // as many as cores, and two more for waiting, if 0
	Owners  bool   // give files to their owners, by name where the name exists here; takes privileges

	// Rename returns where an entry goes, or false to leave it out. Nil: its path.
	Rename func(path string) (string, bool)

	// Progress gets the number of content bytes written so far. Calls do not overlap.
	Progress func(bytes int64)

	// Witness, if set, returns who else shall see the content of a file, in order
	// and with zeros for holes, as it is written: a hash of the caller's, say. Nil
	// leaves a file out. It is asked once for each file, under the path that the file
	// gets; what it returns is used by one goroutine at a time and must not fail.
	Witness func(path string) io.Writer

	// Over writes into the files that are there, and only what differs. A file with other
	// names, or of which the snapshot has holes, is made anew. What stands in the way of a
	// file and is none is reported. A restore that was interrupted is repeated.
	Over bool

	// NoSync leaves the last writes to the kernel. For drills: a restore that must
	// survive a power cut syncs the file system before it reports success.
	NoSync bool
}

// ExtractStats say what a restore did.
type ExtractStats struct {
	Files  int64    // entries restored, of all types
	Bytes  int64    // content written
	Kept   int64    // of it, content that was there already (Over)
	Lost   []string // metadata that the target could not take, e.g. attributes; the first 1000
	Damage []Damage // what could not be restored whole, with the paths
}

const (
	maxLost     = 1000
	directFrom  = 1 << 20 // files from this size on are written past the page cache
	directAlign = 4096
	zeroRun     = 1 << 20
	partsAhead  = 8 // of one file, between the first that is not hashed and the last that is begun
)

// Extract restores the snapshot's files under cfg.Dir. Content is compared with the
// entries' hashes; a file that cannot be restored whole is removed, everything else
// is restored, and the error is a *DamageError. Nothing is written outside of Dir,
// whatever the entries or symbolic links under Dir say.
//
// Permissions and times are set at the end, so a restore that was interrupted is
// repeated into an empty directory.
func (s *Snapshot) Extract(ctx context.Context, cfg ExtractConfig) (ExtractStats, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return ExtractStats{}, fmt.Errorf("extract: %w", err)
	}
	rt, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return ExtractStats{}, fmt.Errorf("extract: %w", err)
	}
	defer rt.Close()
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0) + 2
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := &extractor{s: s, cfg: cfg, root: rt, ctx: ctx, cancel: cancel, made: map[string]bool{".": true}, users: map[string]int{}, groups: map[string]int{}}
	parts := make(chan part, cfg.Workers)
	var wg sync.WaitGroup
	for range cfg.Workers {
		wg.Go(func() {
			for p := range parts {
				x.write(p)
			}
		})
	}
	err = s.walk(ctx, func(e Entry) error { return x.plan(e, parts) }, x.lost)
	close(parts)
	wg.Wait()
	if x.last != nil {
		x.last.done()
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil {
		err = x.finish()
	}
	if err == nil && !cfg.NoSync {
		err = syncTree(rt)
	}
	switch {
	case err != nil:
		return x.stats, fmt.Errorf("extract snapshot %q: %w", s.m.ID, err)
	case len(x.stats.Damage) > 0:
		return x.stats, fmt.Errorf("extract snapshot %q: %w", s.m.ID, &DamageError{x.stats.Damage})
	}
	return x.stats, nil
}

type extractor struct {
	s      *Snapshot
	cfg    ExtractConfig
	root   *os.Root
	ctx    context.Context
	cancel context.CancelCauseFunc

	made  map[string]bool // directories that exist; owned by the walk
	dirs  []Entry         // metadata to be set at the end, in order of the walk
	links []Entry         // everything that is neither file nor directory

	mu            sync.Mutex
	stats         ExtractStats
	users, groups map[string]int
	last          *folder // into which the last file went
}

// A folder is an open directory of the target. The files of a directory come one
// after the other, so that all of them share the way to it.
type folder struct {
	dir   string
	root  *os.Root
	users atomic.Int32 // among them the extractor, while it is the last one
}

func (d *folder) done() {
	if d.users.Add(-1) == 0 {
		_ = d.root.Close() // nothing was written through it but directory entries
	}
}

// folder opens a directory that exists, or takes the one that is open. The caller
// calls done.
func (x *extractor) folder(dir string) (*folder, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last == nil || x.last.dir != dir {
		rt, err := x.root.OpenRoot(path.Clean(dir))
		if err != nil {
			return nil, err
		}
		if x.last != nil {
			x.last.done()
		}
		x.last = &folder{dir: dir, root: rt}
		x.last.users.Add(1)
	}
	x.last.users.Add(1)
	return x.last, nil
}

// A part is a run of extents of one file in one segment, or a file without content.
type part struct {
	f       *outFile
	n       int
	extents []Extent
}

// An outFile is a file that is being restored. Parts are written by whoever has
// them, side by side; the hash takes them in order.
type outFile struct {
	e     Entry
	parts int

	mu     sync.Mutex
	f      *os.File
	direct *os.File // the same file, opened past the page cache; may be nil
	over   bool     // it held something
	err    error
	bad    segmentKey
	hash   hash.Hash
	others io.Writer // the caller's witness; may be nil
	hashed int64
	next   int             // part whose bytes the hash takes next
	moved  sync.Cond       // next did
	ready  map[int]written // parts that are written and not hashed
}

// A written is a part's content, held until the hash has taken it.
type written struct {
	extents []Extent
	plain   []byte
	release func()
}

// plan makes room for an entry and hands its content to the workers.
func (x *extractor) plan(e Entry, parts chan<- part) error {
	var keep bool
	if x.cfg.Rename != nil {
		to, ok := x.cfg.Rename(e.Path)
		if !ok {
			return nil
		}
		if err := checkPath(to); err != nil {
			return err
		}
		if e.Type == TypeHardlink {
			if e.Target, keep = x.cfg.Rename(e.Target); !keep {
				return fmt.Errorf("%q is a hardlink to a file that is left out", e.Path)
			}
		}
		e.Path = to
	}
	if e.Type == TypeDir {
		x.dirs = append(x.dirs, e)
		return x.mkdir(e.Path)
	}
	if err := x.mkdir(path.Dir(e.Path)); err != nil {
		return err
	}
	if e.Type != TypeFile {
		e.Extents = nil
		x.links = append(x.links, e)
		return nil
	}
	f := &outFile{e: e, ready: map[int]written{}}
	f.moved.L = &f.mu
	if len(e.Hash) > 0 {
		f.hash = hashes.Get().(hash.Hash)
		f.hash.Reset()
	}
	if x.cfg.Witness != nil {
		f.others = x.cfg.Witness(e.Path)
	}
	var runs [][]Extent
	xs := e.Extents
	for i := 0; i < len(xs); {
		j := i + 1
		for j < len(xs) && xs[j].Pack == xs[i].Pack && xs[j].Segment == xs[i].Segment {
			j++
		}
		runs = append(runs, xs[i:j])
		i = j
	}
	if len(runs) == 0 {
		runs = [][]Extent{nil}
	}
	f.parts = len(runs)
	for n, run := range runs {
		select {
		case parts <- part{f, n, run}:
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
	}
	return nil
}

func (x *extractor) mkdir(dir string) error {
	if x.made[dir] {
		return nil
	}
	if err := x.root.MkdirAll(dir, 0o700); err != nil {
		return escape(err)
	}
	x.made[dir] = true
	return nil
}

// write restores one part.
func (x *extractor) write(p part) {
	f := p.f
	if x.ctx.Err() != nil {
		x.complete(p, written{}, context.Cause(x.ctx))
		return
	}
	if err := x.open(f); err != nil {
		x.cancel(err)
		x.complete(p, written{}, err)
		return
	}
	w := written{extents: p.extents}
	if len(p.extents) > 0 {
		x0 := p.extents[0]
		f.await(p.n)
		plain, release, err := x.s.content(x.ctx, x0.Pack, x0.Segment, f.hash == nil)
		if err != nil {
			x.complete(p, written{}, err)
			return
		}
		w.plain, w.release = plain, release
		for _, e := range p.extents {
			if int64(e.At)+e.Length > int64(len(plain)) {
				x.complete(p, w, fmt.Errorf("extent at %d beyond its segment: %w", e.Offset, ErrDamaged))
				return
			}
			kept, err := f.writeAt(plain[e.At:int64(e.At)+e.Length], e.Offset)
			if err != nil {
				err = fmt.Errorf("write %q: %w", f.e.Path, err)
				x.cancel(err) // the target cannot take more: not the copy's fault
				x.complete(p, w, err)
				return
			}
			x.wrote(e.Length, kept)
		}
	}
	x.complete(p, w, nil)
}

func (x *extractor) wrote(n, kept int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stats.Bytes += n
	x.stats.Kept += kept
	if x.cfg.Progress != nil {
		x.cfg.Progress(x.stats.Bytes)
	}
}

// open creates the file at its first part.
func (x *extractor) open(f *outFile) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil || f.err != nil {
		return nil
	}
	dir, base := path.Split(f.e.Path)
	d, err := x.folder(dir)
	if err != nil {
		return escape(err)
	}
	defer d.done()
	if x.cfg.Over {
		if f.f, err = x.openOver(d.root, base, &f.e); err != nil {
			return escape(err)
		}
		f.over = f.f != nil
	}
	if f.f == nil {
		f.f, err = d.root.OpenFile(base, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return escape(err)
	}
	if f.e.Size == 0 && !f.over {
		return nil
	}
	if err := f.f.Truncate(f.e.Size); err != nil {
		return fmt.Errorf("write %q: %w", f.e.Path, err)
	}
	if f.e.Size >= directFrom && !f.over {
		f.direct = openDirect(f.f)
	}
	return nil
}

// await waits until part n is among the next few that the hash takes. What is written
// waits in memory for its turn, and one worker that the disk holds up would let the
// others fill it. The worker that has the next part itself never waits.
func (f *outFile) await(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n >= f.next+partsAhead {
		f.moved.Wait()
	}
}

func (f *outFile) writeAt(b []byte, off int64) (kept int64, err error) {
	if f.over {
		return f.writeOver(b, off)
	}
	if f.direct != nil && aligned(b, off) {
		if _, err := f.direct.WriteAt(b, off); err == nil {
			return 0, nil
		}
		// The file system promised and does not keep it: the ordinary way is right too.
	}
	_, err = f.f.WriteAt(b, off)
	return 0, err
}

// complete settles a part: its bytes wait for their turn in the hash, and the last
// part finishes the file.
func (x *extractor) complete(p part, w written, err error) {
	f := p.f
	f.mu.Lock()
	if err != nil && f.err == nil {
		f.err = err
		if len(p.extents) > 0 {
			f.bad = segmentKey{p.extents[0].Pack, p.extents[0].Segment}
		}
	}
	f.ready[p.n] = w
	for {
		w, ok := f.ready[f.next]
		if !ok {
			break
		}
		delete(f.ready, f.next)
		f.next++
		f.moved.Broadcast()
		if f.err == nil {
			for _, e := range w.extents {
				f.zeros(e.Offset)
				f.show(w.plain[e.At : int64(e.At)+e.Length])
			}
		}
		if w.release != nil {
			w.release()
		}
	}
	last := f.next == f.parts
	f.mu.Unlock()
	if last {
		x.close(f)
	}
}

// A running hash has kilobytes of state, and there may be millions of files.
var hashes = sync.Pool{New: func() any { return seal.NewHash() }}

var zeros [zeroRun]byte // takes no memory until a file has a hole

// show gives the next bytes of the file to the hash and to the witness.
func (f *outFile) show(b []byte) {
	if f.hash != nil {
		_, _ = f.hash.Write(b)
	}
	if f.others != nil {
		_, _ = f.others.Write(b)
	}
	f.hashed += int64(len(b))
}

// zeros brings them over a hole.
func (f *outFile) zeros(to int64) {
	if f.hash == nil && f.others == nil {
		return
	}
	for f.hashed < to {
		f.show(zeros[:min(to-f.hashed, zeroRun)])
	}
}

// close finishes a file whose parts are all written. Nobody else uses it any more.
func (x *extractor) close(f *outFile) {
	if f.err == nil {
		f.zeros(f.e.Size)
		if f.hash != nil && !bytes.Equal(f.hash.Sum(nil), f.e.Hash) {
			f.err = fmt.Errorf("%q: restored content is not what was read: %w", f.e.Path, ErrDamaged)
		}
	}
	if f.hash != nil {
		hashes.Put(f.hash)
	}
	if f.direct != nil {
		_ = f.direct.Close() // a second descriptor of f.f
	}
	if f.f == nil {
		if f.err != nil {
			x.damaged(f)
		}
		return
	}
	if f.err == nil {
		f.err = x.describe(f.f, &f.e)
	}
	if err := f.f.Close(); f.err == nil && err != nil {
		f.err = fmt.Errorf("write %q: %w", f.e.Path, err)
	}
	if f.err != nil {
		// Half a file must not look like a file.
		_ = x.root.Remove(f.e.Path)
		x.damaged(f)
		return
	}
	x.mu.Lock()
	x.stats.Files++
	x.mu.Unlock()
}

// damaged records what a file lost, or ends the restore if the copy is not at fault.
func (x *extractor) damaged(f *outFile) {
	if !isDamage(f.err) {
		x.cancel(f.err)
		return
	}
	d := Damage{Segment: -1, Paths: []string{f.e.Path}, Err: f.err}
	if len(f.e.Extents) > 0 {
		if id, err := parsePackID(x.s.m.Packs[f.bad.pack].ID); err == nil {
			d.Pack, d.Segment = id.object(), int(f.bad.segment)
		}
	}
	x.lost(d)
}

func (x *extractor) lost(d Damage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range x.stats.Damage {
		old := &x.stats.Damage[i]
		if old.Pack == d.Pack && old.Segment == d.Segment {
			if len(old.Paths) < maxDamagedPaths {
				old.Paths = append(old.Paths, d.Paths...)
			}
			return
		}
	}
	x.stats.Damage = append(x.stats.Damage, d)
}

// refused records metadata that the target did not take.
func (x *extractor) refused(p, what string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.stats.Lost) < maxLost {
		x.stats.Lost = append(x.stats.Lost, fmt.Sprintf("%q: %s: %v", p, what, err))
	}
}

// finish makes links and special files, and then describes directories from the
// inside out, because everything written into one changes its times.
func (x *extractor) finish() error {
	for i := range x.links {
		e := &x.links[i]
		if err := x.link(e); err != nil {
			if e.Type == TypeHardlink && errors.Is(err, fs.ErrNotExist) {
				x.lost(Damage{Segment: -1, Paths: []string{e.Path}, Err: fmt.Errorf("hardlink to %q, which is not there: %w", e.Target, ErrDamaged)})
				continue
			}
			return escape(err)
		}
		x.stats.Files++
	}
	for i := len(x.dirs) - 1; i >= 0; i-- {
		e := &x.dirs[i]
		d, err := x.root.Open(e.Path)
		if err != nil {
			return escape(err)
		}
		err = errors.Join(x.describe(d, e), d.Close())
		if err != nil {
			return err
		}
		x.stats.Files++
	}
	return nil
}

// owner returns whom to give an entry to.
func (x *extractor) owner(e *Entry) (uid, gid int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	lookup := func(known map[string]int, name string, id int, find func(string) (string, error)) int {
		if name == "" {
			return id
		}
		if n, ok := known[name]; ok {
			if n < 0 {
				return id
			}
			return n
		}
		known[name] = -1
		if text, err := find(name); err == nil {
			if n, err := strconv.Atoi(text); err == nil {
				known[name] = n
				return n
			}
		}
		return id
	}
	uid = lookup(x.users, e.User, e.UID, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	gid = lookup(x.groups, e.Group, e.GID, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return uid, gid
}

// escape names the refusal to leave the directory, which os.Root words its own way.
func escape(err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	root := err
	for next := errors.Unwrap(root); next != nil; next = errors.Unwrap(root) {
		root = next
	}
	if root.Error() == "path escapes from parent" { // package os exports no value for it
		return fmt.Errorf("%w: %w", ErrEscape, err)
	}
	return err
}

// Describe gives an open file or directory the metadata of an entry, as a restore
// does, and returns what the target did not take.
func Describe(f *os.File, e *Entry, owners bool) (lost []string, err error) {
	x := &extractor{cfg: ExtractConfig{Owners: owners}, users: map[string]int{}, groups: map[string]int{}}
	err = x.describe(f, e)
	return x.stats.Lost, err
}
