//go:build linux

package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readAttempts bounds how often a file that changes while it is read is read
	// again. The last reading is stored, and counted as changed.
	readAttempts = 3

	// restBefore is how long a file must have been at rest when it is read, or the
	// next snapshot reads it again: a write within the same tick of the file
	// system's clock leaves the same times. FAT ticks in two seconds.
	restBefore = 2 * time.Second
)

// errChanged ends a reading of a file that is not the one that was begun.
var errChanged = errors.New("changed while it was read")

// A readError is an error of the source's disk, and never one of the repository.
type readError struct{ err error }

func (e *readError) Error() string { return "read: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// visitFile adds a regular file: its content from the last snapshot if it did not
// change, or read again.
func (k *walk) visitFile(ctx context.Context, d *os.File, name, path string, st *unix.Stat_t) error {
	if done, err := k.hardlink(ctx, path, st); done {
		return err
	}
	if done, err := k.unchanged(ctx, path, st); done {
		return err
	}
	for attempt := 1; ; attempt++ {
		again, err := k.readFile(ctx, d, name, path, attempt == readAttempts)
		if err != nil || !again {
			return err
		}
		if done, err := k.visitDatabase(ctx, d, name, path, st); done || err != nil {
			return err // a database whose log comes and goes
		}
	}
}

// unchanged adds a file without opening it, with the content and the attributes that
// it had in the last snapshot, if its times say that neither changed since. It
// reports whether it did, or failed to.
func (k *walk) unchanged(ctx context.Context, path string, st *unix.Stat_t) (bool, error) {
	if k.w.Parent() == nil || !k.atRest(k.s.cfg.Clock(), st) {
		return false, nil
	}
	done, err := k.w.AddUnchanged(ctx, k.entry(path, st))
	if err != nil {
		return true, k.refused(ctx, path, err)
	}
	if done {
		k.report.Reused++
		k.fileStored(path, st)
	}
	return done, nil
}

// readFile adds a file once, and reports whether it changed and was left out, so
// that the caller tries again. On the last attempt it is stored all the same.
func (k *walk) readFile(ctx context.Context, d *os.File, name, path string, last bool) (again bool, err error) {
	began := k.s.cfg.Clock()
	fd, err := openat(d, name, 0)
	if err != nil {
		k.missing(path, err)
		return false, nil
	}
	defer unix.Close(fd) // only read from: there is nothing to lose
	// What was opened counts, whatever the name meant before.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		k.missing(path, err)
		return false, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		if last {
			k.problem(path, fmt.Errorf("was replaced by something else: %w", errChanged))
		}
		return !last, nil
	}
	e := k.entry(path, &st)
	k.attributes(&e, fdAttributes(fd))
	if !k.atRest(began, &st) {
		e.ChangeTime = time.Time{} // it cannot vouch for this content next time
	}
	if k.s.reading != nil {
		k.s.reading(path)
	}
	e.Sparse = sparse(fd, &st)
	c := &content{fd: fd, dir: d, name: name, before: st, left: st.Size, last: last}
	err = k.w.Add(ctx, e, k.s.cfg.Pace.Reader(ctx, c))
	var rerr *readError
	switch {
	case errors.Is(err, errChanged) && !last:
		return true, nil
	case errors.As(err, &rerr):
		k.problem(path, rerr)
		return false, nil
	case err != nil:
		return false, k.refused(ctx, path, err)
	}
	if c.changed {
		k.report.Changed++
		k.keep(path, errChanged)
	}
	k.fileStored(path, &st)
	return false, nil
}

func (k *walk) fileStored(path string, st *unix.Stat_t) {
	k.stored(path, st)
	k.report.Files++
	k.report.Bytes += st.Size
}

// atRest reports whether the file's times lie well before now, so that a later
// change must show in them.
func (k *walk) atRest(now time.Time, st *unix.Stat_t) bool {
	return time.Unix(st.Ctim.Unix()).Before(now.Add(-restBefore))
}

// sparse reports whether a file has holes.
func sparse(fd int, st *unix.Stat_t) bool {
	if st.Blocks*512 >= st.Size {
		return false
	}
	// Few blocks may also mean compression; the file system knows its holes.
	hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	_, serr := unix.Seek(fd, 0, io.SeekStart)
	return err == nil && serr == nil && hole < st.Size
}

// content reads a file as long as it was at the beginning, so that one which
// grows faster than it is read comes to an end. At that end it looks whether the
// file is still the same. It reads the descriptor itself: an os.File would be offered
// to the poller and looked at by the collector, twice the calls for a small file.
type content struct {
	fd      int
	dir     *os.File // where the file lies
	name    string   // in dir
	before  unix.Stat_t
	left    int64
	begun   bool // the first bytes were looked at
	last    bool // store it although it changed
	changed bool
}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.end()
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := unix.Read(c.fd, p)
	for err == unix.EINTR {
		n, err = unix.Read(c.fd, p)
	}
	if err != nil {
		return 0, &readError{err}
	}
	c.left -= int64(n)
	if n == 0 && len(p) > 0 { // shorter than it was
		return 0, c.end()
	}
	if !c.begun && !c.last {
		if c.begun = true; c.midway(p[:n]) {
			return 0, errChanged
		}
	}
	return n, nil
}

// midway reports whether the file, which begins with b, is a database of SQLite in the
// middle of a transaction: its journal came after the directory was listed, and without
// it half of the transaction may be in the file. A journal that comes later still, or is
// gone by now, is no matter: what its transaction writes is a change while the file is read.
func (c *content) midway(b []byte) bool {
	if len(b) < len(sqliteMagic) && c.before.Size >= int64(len(sqliteMagic)) { // a short read
		b = make([]byte, len(sqliteMagic))
		if n, err := unix.Pread(c.fd, b, 0); err != nil || n < len(b) {
			return false
		}
	}
	if !bytes.HasPrefix(b, []byte(sqliteMagic)) {
		return false
	}
	var st unix.Stat_t
	return unix.Fstatat(int(c.dir.Fd()), c.name+"-journal", &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// end returns io.EOF, or errChanged.
func (c *content) end() error {
	var now unix.Stat_t
	if err := unix.Fstat(c.fd, &now); err != nil {
		return &readError{err}
	}
	b := &c.before
	// The change time moves with content, rights, owner and names. Whatever it was,
	// the entry would describe neither the old file nor the new.
	if now.Size != b.Size || now.Mtim != b.Mtim || now.Ctim != b.Ctim || c.left > 0 {
		c.changed = true
		if !c.last {
			return errChanged
		}
	}
	return io.EOF
}
