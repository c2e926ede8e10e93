//go:build linux

package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/db"
	"holdfast/internal/repo"
)

// A database in a directory is written to while the walk goes on. One of SQLite's
// that has a log beside it is copied by SQLite's own means, as of one committed
// state, and its log is left out: it is in the copy. One without a log is at rest,
// or changes while it is read, which is noticed. Other engines' directories are
// copied file by file, and the snapshot says so in a label: what comes back is what a
// power cut leaves, at best. They need a store of their own.

// sqliteMagic begins every database of SQLite: sqlite.org/fileformat.html, 1.3.
const sqliteMagic = "SQLite format 3\x00"

// openLogs are those of them that say that a database is in use.
var openLogs = [...]string{"-journal", "-shm"}

// namesWithLogs returns names if one of them is such a log, else none: most directories
// hold no database, and then nobody looks for its logs once for each file.
func namesWithLogs(names []string) []string {
	for _, name := range names {
		for _, log := range openLogs {
			if strings.HasSuffix(name, log) {
				return names
			}
		}
	}
	return nil
}

// sqliteLogs are what SQLite writes beside a database that is in use.
var sqliteLogs = []string{"-journal", "-shm", "-wal"}

// inUse reports whether the sorted names hold what SQLite keeps while a database
// called name is open. A write-ahead log without its index was left by a process that
// is gone: its files are at rest, and opening them would make a new index there.
func inUse(names []string, name string) bool {
	if len(names) == 0 {
		return false
	}
	for _, log := range openLogs {
		if _, ok := slices.BinarySearch(names, name+log); ok {
			return true
		}
	}
	return false
}

// copiedWith reports whether a path is the log of a database that was copied with
// what lies in it.
func (k *walk) copiedWith(p string) bool {
	for _, log := range sqliteLogs {
		if base, ok := strings.CutSuffix(p, log); ok && k.databases[base] {
			return true
		}
	}
	return false
}

// visitDatabase copies a database of SQLite that has a log, and reports whether it
// did. If it cannot be copied so, its files are copied as they are: then the snapshot
// is labelled.
func (k *walk) visitDatabase(ctx context.Context, d *os.File, name, p string, st *unix.Stat_t) (bool, error) {
	if st.Nlink > 1 || st.Size < int64(len(sqliteMagic)) || len(k.databases) >= maxDatabases {
		return false, nil
	}
	fd, err := openat(d, name, 0)
	if err != nil {
		return false, nil // the ordinary way says why
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	magic := make([]byte, len(sqliteMagic))
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != sqliteMagic {
		return false, nil
	}
	e := k.entry(p, st)
	k.attributes(&e, fdAttributes(fd))
	temp, err := os.MkdirTemp(k.s.cfg.TempDir, "holdfast-sqlite-")
	if err != nil {
		return false, k.asItIs(ctx, p, err)
	}
	defer os.RemoveAll(temp)
	copied := path.Join(temp, "copy")
	if err := db.CopySQLite(ctx, procPath(d, name), copied); err != nil {
		return false, k.asItIs(ctx, p, err)
	}
	in, err := os.Open(copied)
	if err != nil {
		return false, k.asItIs(ctx, p, err)
	}
	defer in.Close()
	e.Cut = repo.CutPages
	e.ChangeTime = time.Time{} // the log changes what it holds, and not its times
	if err := k.w.Add(ctx, e, k.s.cfg.Pace.Reader(ctx, in)); err != nil {
		return true, k.refused(ctx, p, err)
	}
	info, err := in.Stat()
	if err != nil {
		return true, err
	}
	st.Size = info.Size()
	k.databases[p] = true
	k.report.Databases++
	k.fileStored(p, st)
	return true, nil
}

// maxDatabases bounds how many databases of one walk are copied by SQLite.
const maxDatabases = 10_000

// asItIs notes a database whose files are copied one by one, and goes on.
func (k *walk) asItIs(ctx context.Context, p string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	k.report.CrashConsistent++
	k.keep(p, fmt.Errorf("%w: %w", errCrashConsistent, err))
	return nil
}

// errCrashConsistent marks what was copied file by file while an engine may have
// written to it.
var errCrashConsistent = errors.New("copied file by file while a database may have been writing")

// livesHere names what only a running engine, or one that was killed, leaves in its
// data directory.
var livesHere = map[string]string{
	"postmaster.pid":  "PostgreSQL",
	"ib_logfile0":     "MySQL or MariaDB",
	"#innodb_redo":    "MySQL",
	"WiredTiger.lock": "MongoDB",
	"appendonlydir":   "Redis",
}

// noticeEngine labels the data directory of an engine.
func (k *walk) noticeEngine(name, p string) {
	if engine, ok := livesHere[name]; ok {
		k.report.CrashConsistent++
		k.keep(path.Dir(p), fmt.Errorf("%w: %s; give it a store of its own in the plan", errCrashConsistent, engine))
	}
}
