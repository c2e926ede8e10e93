//go:build linux

package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// InPlace says how a directory that holds something becomes what it was.
type InPlace struct {
	Dir  string // must be there
	Part Part

	// Extra also puts aside what is in the directory and not in the snapshot, but for
	// what Exclude leaves out of backups. Without it such files stay.
	Extra   bool
	Exclude []string

	DryRun   bool
	Now      time.Time // names the folder of what was put aside
	Progress func(holdfast.Progress)
}

// What differs between a directory and a snapshot.
const (
	ChangeNew        = "missing"    // it is in the snapshot only
	ChangeContent    = "content"    // content, target or device
	ChangeType       = "type"       // a file where a directory was, and the like
	ChangeAttributes = "attributes" // mode, owner, time, attributes
	ChangeExtra      = "extra"      // it is in the directory only
)

// A Change is one path that differs.
type Change struct {
	Path  string `json:"path"`
	What  string `json:"what"`
	Bytes int64  `json:"bytes,omitempty"` // to write
}

// An InPlaceReport says what was different, and where the old state lies.
type InPlaceReport struct {
	Same    int64    `json:"same"` // entries that were as in the snapshot
	Bytes   int64    `json:"bytes"`
	Changes []Change `json:"changes"`
	Aside   string   `json:"aside,omitempty"` // folder with what was replaced; "" if nothing was
	Lost    []string `json:"lost,omitempty"`  // metadata that could not be set
}

const (
	asidePrefix  = ".holdfast-before-"
	stagePrefix  = ".holdfast-new-"
	maxChanges   = 1_000_000
	asideFormat  = "20060102T150405Z"
	hashReadSize = 1 << 20
)

// RestoreInPlace makes a directory what it was in a snapshot, and writes only what
// differs: content is compared by its hash, whatever size and times say. What is
// replaced is put aside, into a folder ".holdfast-before-TIME" in the directory, and
// nothing is ever deleted.
//
// New content is complete in ".holdfast-new-TIME" before the first path is touched,
// and each file is replaced in one step: after a crash a path is what it was or what
// it shall be, the same call goes on from there, and a staging folder may be left,
// which the next call removes.
func RestoreInPlace(ctx context.Context, snap *repo.Snapshot, cfg InPlace) (InPlaceReport, error) {
	kept, err := parsePatterns(cfg.Exclude)
	if err != nil {
		return InPlaceReport{}, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return InPlaceReport{}, err
	}
	defer root.Close()
	if _, err := selects(ctx, snap, cfg.Part); err != nil { // what was asked for is there
		return InPlaceReport{}, err
	}
	p := &inPlace{cfg: cfg, snap: snap, root: root, owners: os.Geteuid() == 0, dirs: map[string]repo.Entry{}, what: map[string]string{},
		fresh: map[string]bool{}, links: map[string]repo.Entry{}, made: map[string]bool{}, kept: kept, buf: make([]byte, hashReadSize), walk: newWalk(&Source{}, nil, nil)}
	if err := snap.Entries(ctx, func(e repo.Entry) error { return p.look(ctx, e) }); err != nil {
		return p.report, err
	}
	if err := p.leave(""); err != nil {
		return p.report, err
	}
	if cfg.DryRun || len(p.report.Changes) == 0 {
		return p.report, nil
	}
	return p.report, p.apply(ctx)
}

type inPlace struct {
	cfg    InPlace
	snap   *repo.Snapshot
	root   *os.Root
	owners bool
	report InPlaceReport
	buf    []byte
	walk   *walk

	dirs  map[string]repo.Entry // of the snapshot
	what  map[string]string     // of the changes, by path
	files []repo.Entry          // files and links whose attributes alone differ
	links map[string]repo.Entry // hard links to make
	made  map[string]bool       // directories made on the way to a part
	kept  []pattern             // what backups leave out is no extra
	fresh map[string]bool       // directories that are not there as such: all in them is missing
	stack []frame               // directories on the way to the entry that is looked at
}

// A frame is a directory whose names are being seen.
type frame struct {
	dir   string
	names map[string]bool
}

// note records a change.
func (p *inPlace) note(e *repo.Entry, what string) error {
	if len(p.report.Changes) == maxChanges {
		return holdfast.WithHint(fmt.Errorf("more than %d paths differ", maxChanges), "restore into an empty directory, or name a --path")
	}
	c := Change{Path: e.Path, What: what}
	if e.Type == repo.TypeFile && what != ChangeAttributes && what != ChangeExtra {
		c.Bytes = e.Size
		p.report.Bytes += e.Size
	}
	p.report.Changes = append(p.report.Changes, c)
	p.what[e.Path] = what
	return nil
}

// look compares one entry with what is there.
func (p *inPlace) look(ctx context.Context, e repo.Entry) error {
	if err := p.leave(e.Path); err != nil {
		return err
	}
	if n := len(p.stack); n > 0 && e.Path != "." {
		p.stack[n-1].names[path.Base(e.Path)] = true
	}
	if e.Type == repo.TypeDir {
		p.dirs[e.Path] = e
		p.stack = append(p.stack, frame{e.Path, map[string]bool{}})
	}
	if !p.cfg.Part.Holds(e.Path, e.Type) {
		return nil
	}
	if e.Type == repo.TypeHardlink && !p.cfg.Part.Holds(e.Target, repo.TypeFile) {
		return holdfast.WithHint(fmt.Errorf("%q is a hard link to %q, which is not asked for", e.Path, e.Target), "add --path %q, or restore into an empty directory", e.Target)
	}
	what, err := p.differs(ctx, &e)
	if err != nil {
		return err
	}
	if what == "" {
		p.report.Same++
		return nil
	}
	if e.Type == repo.TypeDir && (what == ChangeNew || what == ChangeType) {
		p.fresh[e.Path] = true
	}
	switch {
	case e.Type == repo.TypeHardlink:
		p.links[e.Path] = e
	case what == ChangeAttributes && e.Type != repo.TypeDir:
		p.files = append(p.files, e)
	}
	return p.note(&e, what)
}

// leave ends the directories that next does not lie in.
func (p *inPlace) leave(next string) error {
	for n := len(p.stack); n > 0; n = len(p.stack) {
		f := p.stack[n-1]
		if next != "" && (f.dir == "." || strings.HasPrefix(next, f.dir+"/")) {
			return nil
		}
		p.stack = p.stack[:n-1]
		if !p.cfg.Extra || p.fresh[f.dir] || !p.cfg.Part.Holds(f.dir, repo.TypeDir) {
			continue
		}
		d, err := p.root.Open(f.dir)
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		if err = errors.Join(err, d.Close()); err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			at := path.Join(f.dir, name)
			if f.names[name] || ours(f.dir, name) || excluded(p.kept, at, true) || excluded(p.kept, at, false) {
				continue
			}
			if err := p.note(&repo.Entry{Path: at}, ChangeExtra); err != nil {
				return err
			}
		}
	}
	return nil
}

// ours reports whether a name is what an earlier restore put there.
func ours(dir, name string) bool {
	return dir == "." && (strings.HasPrefix(name, asidePrefix) || strings.HasPrefix(name, stagePrefix))
}

// differs says how an entry differs from what is there; "" if it does not.
func (p *inPlace) differs(ctx context.Context, e *repo.Entry) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if p.fresh[path.Dir(e.Path)] && e.Path != "." {
		if e.Type == repo.TypeDir {
			p.fresh[e.Path] = true
		}
		return ChangeNew, nil
	}
	info, err := p.root.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return ChangeNew, nil
	}
	if err != nil {
		return "", err
	}
	st := (*unix.Stat_t)(nil)
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		st = &unix.Stat_t{Mode: sys.Mode, Uid: sys.Uid, Gid: sys.Gid, Mtim: unix.Timespec(sys.Mtim), Ctim: unix.Timespec(sys.Ctim), Size: sys.Size, Rdev: sys.Rdev, Ino: sys.Ino}
	}
	got := p.walk.entry(e.Path, st)
	if e.Type == repo.TypeHardlink {
		target, err := p.root.Lstat(e.Target)
		if p.what[e.Target] != "" && p.what[e.Target] != ChangeAttributes || err != nil || !os.SameFile(info, target) {
			return ChangeContent, nil
		}
		return "", nil
	}
	if got.Type != e.Type {
		return ChangeType, nil
	}
	switch e.Type {
	case repo.TypeSymlink:
		got.Target, err = p.root.Readlink(e.Path)
		if err != nil || got.Target != e.Target {
			return ChangeContent, err
		}
	case repo.TypeChar, repo.TypeBlock:
		if got.Dev != e.Dev {
			return ChangeContent, nil
		}
	case repo.TypeFile:
		if same, err := p.sameContent(ctx, e, &got); !same || err != nil {
			return ChangeContent, err
		}
	case repo.TypeDir:
		if d, err := p.root.Open(e.Path); err == nil {
			p.walk.attributes(&got, fdAttributes(int(d.Fd())))
			_ = d.Close() // it was only read
		}
	}
	meta := got.Mode != e.Mode || !got.ModTime.Equal(e.ModTime) || p.owners && (got.UID != e.UID || got.GID != e.GID)
	if e.Type == repo.TypeFile || e.Type == repo.TypeDir {
		if meta = meta || !sameAttributes(&got, e); meta {
			return ChangeAttributes, nil
		}
		return "", nil
	}
	if e.Type == repo.TypeSymlink {
		meta = !got.ModTime.Equal(e.ModTime) || p.owners && (got.UID != e.UID || got.GID != e.GID)
	}
	if meta {
		return ChangeContent, nil // it is made anew
	}
	return "", nil
}

func sameAttributes(a, b *repo.Entry) bool {
	if len(a.Xattrs) != len(b.Xattrs) {
		return false
	}
	for k, v := range a.Xattrs {
		if w, ok := b.Xattrs[k]; !ok || !bytes.Equal(v, w) {
			return false
		}
	}
	return true
}

// sameContent compares a file with the entry's hash, or where there is none with the
// content itself. It reads the file's attributes on the way.
func (p *inPlace) sameContent(ctx context.Context, e, got *repo.Entry) (bool, error) {
	if got.Size != e.Size {
		return false, nil
	}
	f, err := p.root.OpenFile(e.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	p.walk.attributes(got, fdAttributes(int(f.Fd())))
	hash := seal.NewHash()
	want := e.Hash
	if len(want) == 0 {
		h := seal.NewHash()
		if _, err := io.CopyBuffer(h, p.snap.OpenContext(ctx, *e), p.buf); err != nil {
			return false, err
		}
		want = h.Sum(nil)
	}
	n, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, p.buf)
	return n == e.Size && bytes.Equal(hash.Sum(nil), want), err
}

// apply makes the changes.
func (p *inPlace) apply(ctx context.Context) error {
	stamp := p.cfg.Now.UTC().Format(asideFormat)
	stage, aside := stagePrefix+stamp, asidePrefix+stamp
	if err := p.clearStages(); err != nil {
		return err
	}
	total := p.report.Bytes
	stats, err := p.snap.Extract(ctx, repo.ExtractConfig{Dir: path.Join(p.cfg.Dir, stage), Owners: p.owners, Rename: p.staged, Progress: func(n int64) {
		if p.cfg.Progress != nil {
			p.cfg.Progress(holdfast.Progress{Stage: "files", Done: n, Total: total, Unit: "bytes"})
		}
	}})
	p.report.Lost = stats.Lost
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("%w; nothing in %s was touched", err, p.cfg.Dir), "%s", holdfast.Hint(err))
	}
	touched := map[string]bool{}
	for _, c := range p.report.Changes {
		if err := p.change(c, stage, aside); err != nil {
			return fmt.Errorf("%q: %w; what was replaced until here is in %s", c.Path, err, path.Join(p.cfg.Dir, aside))
		}
		for dir := path.Dir(c.Path); !touched[dir]; dir = path.Dir(dir) {
			touched[dir] = true
			if !p.made[dir] {
				break
			}
		}
		if _, ok := p.dirs[c.Path]; ok {
			touched[c.Path] = true
		}
	}
	for i := range p.files {
		if err := p.describe(&p.files[i]); err != nil {
			return err
		}
	}
	if err := p.root.RemoveAll(stage); err != nil {
		return err
	}
	// From the inside out: everything that happens in a directory changes its times.
	var dirs []string
	for dir := range touched {
		if _, ok := p.dirs[dir]; ok {
			dirs = append(dirs, dir)
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return len(b) - len(a) })
	for _, dir := range dirs {
		e := p.dirs[dir]
		if err := p.describe(&e); err != nil {
			return err
		}
	}
	d, err := p.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// staged says what is extracted: all that is made anew, but for directories and for
// links to files that stay.
func (p *inPlace) staged(name string) (string, bool) {
	what := p.what[name]
	if _, dir := p.dirs[name]; dir || what == "" || what == ChangeAttributes || what == ChangeExtra {
		return "", false
	}
	_, link := p.links[name]
	return name, !link
}

// clearStages removes what calls that were killed left of their staging.
func (p *inPlace) clearStages() error {
	d, err := p.root.Open(".")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, stagePrefix) {
			if err := p.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// change makes one change.
func (p *inPlace) change(c Change, stage, aside string) error {
	_, isDir := p.dirs[c.Path]
	switch {
	case c.What == ChangeAttributes:
		return nil // at the end
	case c.What == ChangeExtra:
		return p.putAside(c.Path, aside)
	case isDir:
		if c.What == ChangeType {
			if err := p.putAside(c.Path, aside); err != nil {
				return err
			}
		}
		if err := p.wayTo(path.Dir(c.Path)); err != nil {
			return err
		}
		return p.root.Mkdir(c.Path, 0o700)
	}
	if err := p.wayTo(path.Dir(c.Path)); err != nil {
		return err
	}
	if c.What == ChangeType {
		if err := p.putAside(c.Path, aside); err != nil { // a directory cannot be replaced in one step
			return err
		}
	} else if c.What == ChangeContent {
		// The old file gets a second name, and the new one takes the first.
		to := path.Join(aside, c.Path)
		if err := p.prepare(to); err != nil {
			return err
		}
		if err := p.root.Link(c.Path, to); err != nil {
			return err
		}
	}
	if e, ok := p.links[c.Path]; ok {
		temp := path.Join(stage, ".link")
		if err := errors.Join(p.root.MkdirAll(stage, 0o700), p.root.Link(e.Target, temp)); err != nil {
			return err
		}
		return p.root.Rename(temp, c.Path)
	}
	return p.root.Rename(path.Join(stage, c.Path), c.Path)
}

// wayTo makes the directories on the way to a part that is asked for alone.
func (p *inPlace) wayTo(dir string) error {
	if _, err := p.root.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.wayTo(path.Dir(dir)); err != nil {
		return err
	}
	p.made[dir] = true
	return p.root.Mkdir(dir, 0o700)
}

func (p *inPlace) putAside(name, aside string) error {
	to := path.Join(aside, name)
	if err := p.prepare(to); err != nil {
		return err
	}
	return p.root.Rename(name, to)
}

// prepare makes the folder into which a path is put aside.
func (p *inPlace) prepare(to string) error {
	p.report.Aside = path.Join(p.cfg.Dir, strings.SplitN(to, "/", 2)[0])
	return p.root.MkdirAll(path.Dir(to), 0o700)
}

// describe gives a file or directory that is there the attributes of its entry.
func (p *inPlace) describe(e *repo.Entry) error {
	f, err := p.root.OpenFile(e.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	got := repo.Entry{Path: e.Path}
	p.walk.attributes(&got, fdAttributes(int(f.Fd())))
	for k := range got.Xattrs {
		if _, ok := e.Xattrs[k]; !ok {
			if err := unix.Fremovexattr(int(f.Fd()), k); err != nil && !errors.Is(err, unix.ENODATA) {
				p.report.Lost = append(p.report.Lost, fmt.Sprintf("%q: attribute %s stays: %v", e.Path, k, err))
			}
		}
	}
	lost, err := repo.Describe(f, e, p.owners)
	p.report.Lost = append(p.report.Lost, lost...)
	return err
}
