package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// openOver opens a file that is there to be written over; nil if there is none, or if it
// was taken away because its content may not stay: other names share it, or the snapshot
// has holes in it, which would keep what they held.
//
// Crash here and behind: the file holds some of both. Whoever restores over files marks the
// directory before, and restores again.
func (x *extractor) openOver(dir *os.Root, base string, e *Entry) (*os.File, error) {
	info, err := dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is in the way and is no file: %w", e.Path, fs.ErrExist)
	}
	whole := int64(0)
	for _, x := range e.Extents {
		whole += x.Length
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if shared := !ok || st.Nlink > 1; shared || whole != e.Size {
		return nil, dir.Remove(base)
	}
	return dir.OpenFile(base, os.O_RDWR, 0)
}

// writeOver writes the pages of b that the file does not hold already, and returns how
// many bytes it holds.
func (f *outFile) writeOver(b []byte, off int64) (kept int64, err error) {
	old := make([]byte, len(b))
	if _, err := f.f.ReadAt(old, off); err != nil && err != io.EOF {
		return 0, err
	}
	same := func(at int) bool { end := min(at+pageSize, len(b)); return bytes.Equal(old[at:end], b[at:end]) }
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && same(end) == same(at) {
			end = min(end+pageSize, len(b))
		}
		if same(at) {
			kept += int64(end - at)
		} else if _, err := f.f.WriteAt(b[at:end], off+int64(at)); err != nil {
			return kept, err
		}
		at = end
	}
	return kept, nil
}
