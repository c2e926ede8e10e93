// Package durable writes files that survive a power cut.
//
// A file system promises little: a write is on the disk only after Sync, a new
// or renamed name only after the directory that holds it was synced, and an
// error from Sync means that the bytes may be gone although a second Sync
// succeeds. This package keeps those rules in one place, behind an interface
// that package durabletest can crash and break on purpose.
//
// # Invariants
//
//   - WriteFile leaves the old content or the new, never a mixture and never
//     an empty file.
//   - Create leaves nothing or the whole file, and of several concurrent calls
//     exactly one succeeds.
//   - What either function acknowledged (nil error) is there after a crash, and
//     so is what Create refused with fs.ErrExist.
//   - An error means an unknown outcome: the new file may be there. Read again
//     before deciding.
//
// # What it does not do
//
// It does not protect against a disk that lies about flushing, and it does not
// clean up: a crash can leave temporary files, which IsTemp recognises and
// RemoveTemps deletes.
package durable

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// FS is what Holdfast needs of a file system. OS is the real one and
// durabletest.FS a crashable one. All methods may be called concurrently.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName atomically. It is durable after SyncDir of both directories.
	Rename(oldName, newName string) error
	// Link adds a second name; fs.ErrExist when newName is taken. Durable after SyncDir.
	Link(oldName, newName string) error
	// Remove deletes a file or an empty directory. Durable after SyncDir.
	Remove(name string) error
	// MkdirAll is os.MkdirAll: not durable. Use the function MkdirAll of this package.
	MkdirAll(name string, perm fs.FileMode) error
	// ReadDir lists a whole directory by name, or fails.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat follows symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file. Its bytes are durable after Sync; its name is durable
// after SyncDir of the directory that holds it.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// tempPrefix starts the name of every file that is still being written.
const tempPrefix = ".holdfast-tmp-"

// IsTemp reports whether name (a path or its last element) is a file that
// WriteFile or Create was still writing. Listings leave such names out.
func IsTemp(name string) bool {
	return strings.HasPrefix(filepath.Base(name), tempPrefix)
}

// tempName returns a fresh temporary name in the directory of name. It lies in
// the same directory because a rename or link across file systems is refused.
func tempName(name string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return filepath.Join(filepath.Dir(name), tempPrefix+hex.EncodeToString(b[:]))
}

// WriteFile replaces the content of name. The caller makes the directory.
//
// Crash before the rename: the old content, and a temporary file to clean up.
// Crash between rename and directory sync: the old content or the new, whole.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	temp, err := writeTemp(fsys, name, bytes.NewReader(data), perm)
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if err := fsys.Rename(temp, name); err != nil {
		_ = fsys.Remove(temp) // best effort: RemoveTemps finds it otherwise
		return fmt.Errorf("write %q: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// Create writes all of r to name unless the name is taken: then it returns an
// error that is fs.ErrExist and leaves the file there alone.
//
// The name appears by a hard link, which the kernel refuses when the name is
// taken, so of several writers one wins. File systems without hard links (FAT,
// some network shares) get a rename that refuses to replace.
//
// Crash before the link: nothing, and a temporary file to clean up. Crash
// between link and directory sync: nothing or the whole file.
func Create(fsys FS, name string, r io.Reader, perm fs.FileMode) error {
	temp, err := writeTemp(fsys, name, r, perm)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	linkErr := fsys.Link(temp, name)
	if noLinks(linkErr) {
		if rn, ok := fsys.(Renamer); ok {
			linkErr = rn.RenameNew(temp, name)
		}
	}
	// The temporary name goes whatever the outcome; if this fails, RemoveTemps
	// finds it later, and the file itself has its own name already.
	_ = fsys.Remove(temp)
	if linkErr != nil && !errors.Is(linkErr, fs.ErrExist) {
		return fmt.Errorf("create %q: %w", name, linkErr)
	}
	// The directory is synced on ErrExist too: the caller takes "it is there" as
	// good as "I wrote it", and the writer who won may die before its own sync.
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	if linkErr != nil {
		return fmt.Errorf("create %q: %w", name, fs.ErrExist)
	}
	return nil
}

// A Renamer can rename without replacing. OS can, where the kernel does.
type Renamer interface {
	RenameNew(oldName, newName string) error
}

// noLinks recognises the answers of file systems that know no hard links.
func noLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

// writeTemp writes r to a fresh temporary file beside name and syncs it.
func writeTemp(fsys FS, name string, r io.Reader, perm fs.FileMode) (string, error) {
	temp := tempName(name)
	f, err := fsys.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		// After a failed Sync the kernel may have dropped the bytes and marked
		// them clean, so it is never retried on the same file.
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = fsys.Remove(temp)
		return "", err
	}
	return temp, nil
}

// MkdirAll makes a directory with its parents and makes their names durable. A
// directory that is there already is synced into its parent all the same: its
// maker may not have come to that yet.
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	missing := []string{name}
	for dir := filepath.Dir(name); dir != missing[len(missing)-1]; dir = filepath.Dir(dir) {
		if _, err := fsys.Stat(dir); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make directory %q: %w", name, err)
		}
		missing = append(missing, dir)
	}
	if err := fsys.MkdirAll(name, perm); err != nil {
		return fmt.Errorf("make directory %q: %w", name, err)
	}
	// Topmost first, so that a crash leaves a shorter path, not a detached one.
	for i := len(missing) - 1; i >= 0; i-- {
		if err := fsys.SyncDir(filepath.Dir(missing[i])); err != nil {
			return fmt.Errorf("make directory %q: %w", name, err)
		}
	}
	return nil
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %q: larger than the limit of %d bytes", name, limit)
	}
	return b, nil
}

// RemoveTemps deletes temporary files in dir last changed before the given
// instant, and returns how many. Choose it well before now: a young one may
// belong to a writer that is alive.
func RemoveTemps(fsys FS, dir string, before time.Time) (int, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !IsTemp(e.Name()) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // its writer finished
		}
		if err != nil {
			return n, err
		}
		if !info.Mode().IsRegular() || !info.ModTime().Before(before) {
			continue
		}
		if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n++
	}
	return n, nil
}
