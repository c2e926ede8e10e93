//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked means that another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("locked by another process")

// A LockedError says who holds a lock. It is ErrLocked.
type LockedError struct {
	Path string
	PID  int // 0 when the holder has not written it yet
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%q is in use by another process", e.Path)
	}
	return fmt.Sprintf("%q is in use by process %d", e.Path, e.PID)
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// A FileLock is a lock that dies with its process: the kernel holds it, so there
// is no stale lock to break after a crash.
type FileLock struct{ f *os.File }

// maxLockText bounds what Lock reads of a lock file.
const maxLockText = 64

// Lock takes the lock at path, making the file if needed, or returns a
// *LockedError at once. The file stays after Unlock: removing it would let two
// processes lock two files of one name.
func Lock(path string) (*FileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			text, _ := io.ReadAll(io.LimitReader(f, maxLockText)) // the pid is a courtesy
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return nil, &LockedError{Path: path, PID: pid}
		}
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	// The pid is written for people; nothing depends on it, so it is not synced.
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return &FileLock{f: f}, nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err
		}
	}
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Unlock releases the lock. A second call does nothing.
//
// It says so to the kernel: closing alone would leave the lock to children that were just
// forked, until they run their own program.
func (l *FileLock) Unlock() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return errors.Join(f.Truncate(0), flock(f, syscall.LOCK_UN), f.Close())
}
