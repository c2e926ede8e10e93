//go:build linux

// Package files backs up directories with everything that a restored system needs.
//
// A snapshot holds content, owners by name and number, modes with set-id and
// sticky bits, nanosecond times, symbolic and hard links, extended attributes
// (and so access lists, capabilities and labels), holes, fifos, sockets and
// devices. Names are bytes and need not be text.
//
// # Invariants
//
//   - Nothing is skipped silently. A file that cannot be read makes the whole
//     snapshot an *IncompleteError; one that went on changing while it was read
//     is stored and counted in the snapshot's labels.
//   - A directory that is empty although its last snapshot was not is refused: it
//     is the mount point of a disk that is away.
//   - Entries come in the order of a sorted walk, and memory does not grow with
//     the size of a directory or of the tree, except for names of files with
//     several hard links.
//   - Directories are opened one inside the other without following links, so a
//     user who moves things about meanwhile cannot lead the walk out of the tree.
//   - A file counts as unchanged only if size, modification time, change time and
//     inode are those of the last snapshot, and it had been at rest when read. It is
//     then not even opened: the change time moves with each of its attributes too.
//
// # What a snapshot does not promise
//
// It is not one instant: files are read one after the other while programs write.
// Databases of SQLite are copied as of one committed state each. Any other database
// in a directory needs its own source, or a file system snapshot as the path; the
// snapshot's labels count those that were copied all the same.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/pace"
	"holdfast/internal/repo"
)

// Config says what to back up.
type Config struct {
	// Store is the store's name in the plan, used in messages.
	Store string

	// Path is the directory. If it is a symbolic link, the link is followed.
	Path string

	// Exclude leaves paths out, directories with all that is in them. A pattern
	// without a slash matches a name at any depth ("*.tmp"). One with a slash
	// matches from Path ("/cache", "var/*/old"); "**" stands for any number of
	// directories. A slash at the end means directories only. "*", "?" and "[…]"
	// work as in the shell and never match a slash.
	Exclude []string

	// OneFileSystem stops at mount points: the directory is stored, empty. Without
	// it only file systems that hold no data (proc, sysfs and the like) are stopped at.
	OneFileSystem bool

	// Pace holds the reading of content back; nil reads as fast as it can.
	Pace *pace.Pace

	// TempDir is where databases of SQLite are copied to on their way, one at a time.
	//
	// Defaults to the system's.
	TempDir string

	// Clock is time.Now if nil. It decides whether a file has been at rest.
	Clock func() time.Time
}

// Labels that a snapshot gets when their count is not zero. They are in the
// clear, so they are numbers and never names.
const (
	LabelChanged    = "files_changed"    // stored, but changed while they were read
	LabelUnreadable = "files_unreadable" // missing from the snapshot
	LabelVanished   = "files_vanished"   // removed during the walk
	LabelDatabases  = "sqlite_databases" // copied by SQLite's own means, as of one committed state
	LabelCrash      = "crash_consistent" // data directories and databases copied file by file
)

// A Source is one directory to back up. It may be used again after a Snapshot.
type Source struct {
	cfg     Config
	exclude []pattern
	batch   int               // names of a directory in memory; tests make it small
	reading func(path string) // called before a file is read; tests change the file then
}

// New checks the configuration without touching the directory.
func New(cfg Config) (*Source, error) {
	fail := func(err error) (*Source, error) { return nil, fmt.Errorf("store %q: %w", cfg.Store, err) }
	if cfg.Path == "" {
		return fail(holdfast.WithHint(fmt.Errorf("no path given: %w", holdfast.ErrUsage), `name the directory under "path"`))
	}
	abs, err := filepath.Abs(cfg.Path)
	if err != nil {
		return fail(err)
	}
	cfg.Path = abs
	ps, err := parsePatterns(cfg.Exclude)
	if err != nil {
		return fail(err)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Source{cfg: cfg, exclude: ps, batch: namesAtOnce}, nil
}

// Probe reports whether the directory is there and can be read.
func (s *Source) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := s.openRoot()
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err != nil && err != io.EOF {
		return s.explain(err)
	}
	return nil
}

func (s *Source) openRoot() (*os.File, error) {
	fd, err := unix.Open(s.cfg.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, s.explain(&fs.PathError{Op: "open", Path: s.cfg.Path, Err: err})
	}
	return os.NewFile(uintptr(fd), s.cfg.Path), nil
}

// explain says whose directory it is and what to do.
func (s *Source) explain(err error) error {
	wrapped := fmt.Errorf("store %q: %w", s.cfg.Store, err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return holdfast.WithHint(wrapped, "is the disk mounted? correct the path of %q in the plan if the directory has moved", s.cfg.Store)
	case errors.Is(err, unix.ENOTDIR):
		return holdfast.WithHint(wrapped, "give the directory that holds the file, and exclude the rest")
	case errors.Is(err, fs.ErrPermission):
		return holdfast.WithHint(wrapped, "run holdfast as a user who may read %q, or give it the capability CAP_DAC_READ_SEARCH", s.cfg.Path)
	}
	return wrapped
}

// Check looks for what would keep the directory from being backed up whole.
func (s *Source) Check(ctx context.Context) []holdfast.Finding {
	finding := func(code string, sev holdfast.FindingSeverity, msg, hint string) holdfast.Finding {
		return holdfast.Finding{Code: code, Severity: sev, Subject: "stores." + s.cfg.Store, Message: msg, Hint: hint}
	}
	if err := s.Probe(ctx); err != nil {
		return []holdfast.Finding{finding("HF-FILES-1", holdfast.SeverityError, fmt.Sprintf("%q cannot be read: %v", s.cfg.Path, err), holdfast.Hint(err))}
	}
	var found []holdfast.Finding
	if d, err := s.openRoot(); err == nil {
		if _, err := d.Readdirnames(1); err == io.EOF {
			found = append(found, finding("HF-FILES-2", holdfast.SeverityWarning, fmt.Sprintf("%q is empty", s.cfg.Path),
				"if a disk or share belongs there, mount it before the next backup"))
		}
		d.Close()
	}
	if os.Geteuid() != 0 {
		found = append(found, finding("HF-FILES-3", holdfast.SeverityNote, fmt.Sprintf("holdfast does not run as root, so it can back up only what user %d may read", os.Geteuid()),
			"a file that cannot be read is reported; grant CAP_DAC_READ_SEARCH to read all of them"))
	}
	return found
}

// A Problem is one path that is not in the snapshot as it should be.
type Problem struct {
	Path string
	Err  error
}

// maxProblems bounds how many problems are kept; all are counted.
const maxProblems = 1000

// A Report says what a snapshot did and did not get.
type Report struct {
	Entries    int64 // of all types
	Files      int64 // regular ones
	Bytes      int64 // their size
	Reused     int64 // files unchanged since the last snapshot, not read again
	Changed    int64 // stored, but changed while they were read
	Unreadable int64 // missing from the snapshot, or without all of their attributes
	Vanished   int64 // removed during the walk
	Excluded   int64 // left out by a pattern or at the edge of the file system

	Databases       int64 // of SQLite, in use, copied as of one committed state
	CrashConsistent int64 // databases copied file by file: what a power cut leaves, at best

	Problems []Problem
}

// An IncompleteError means that the snapshot holds everything except what could
// not be read. It may be finished: a snapshot with a hole that is known is better
// than none. It must not count as a success.
type IncompleteError struct {
	Store  string
	Report Report
}

func (e *IncompleteError) Error() string {
	s := fmt.Sprintf("store %q: %d paths could not be read", e.Store, e.Report.Unreadable)
	if len(e.Report.Problems) > 0 {
		p := e.Report.Problems[0]
		s += fmt.Sprintf(", the first is %q: %v", p.Path, p.Err)
	}
	return s
}

// Unwrap returns the causes.
func (e *IncompleteError) Unwrap() []error {
	errs := make([]error, len(e.Report.Problems))
	for i, p := range e.Report.Problems {
		errs[i] = p.Err
	}
	return errs
}

// ErrEmpty means that the directory is empty and its last snapshot was not.
var ErrEmpty = errors.New("directory is empty although the last snapshot was not")

// Snapshot adds the directory to w. The caller finishes or aborts w. progress may be nil.
//
// An *IncompleteError leaves w usable, any other error does not.
func (s *Source) Snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error {
	_, err := s.SnapshotReport(ctx, w, progress)
	return err
}

// SnapshotReport is Snapshot, and says what happened also when it succeeds.
func (s *Source) SnapshotReport(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) (Report, error) {
	root, err := s.openRoot()
	if err != nil {
		return Report{}, err
	}
	defer root.Close()
	k := newWalk(s, w, progress)
	if err := k.top(ctx, root); err != nil {
		return k.report, err
	}
	for label, n := range map[string]int64{LabelChanged: k.report.Changed, LabelUnreadable: k.report.Unreadable, LabelVanished: k.report.Vanished,
		LabelDatabases: k.report.Databases, LabelCrash: k.report.CrashConsistent} {
		if n > 0 {
			w.SetLabel(label, fmt.Sprint(n))
		}
	}
	if k.report.Unreadable > 0 {
		return k.report, holdfast.WithHint(&IncompleteError{Store: s.cfg.Store, Report: k.report},
			"give holdfast the right to read them, or exclude them in the plan if they need no backup")
	}
	return k.report, nil
}
