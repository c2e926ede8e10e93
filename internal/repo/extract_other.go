//go:build !linux

package repo

import (
	"errors"
	"fmt"
	"os"
)

// Other systems get content, modes, times and symbolic links.

func (x *extractor) describe(f *os.File, e *Entry) error {
	if err := f.Chmod(os.FileMode(e.Mode & 0o777)); err != nil {
		return fmt.Errorf("mode of %q: %w", e.Path, err)
	}
	if len(e.Xattrs) > 0 {
		x.refused(e.Path, "attributes", errors.ErrUnsupported)
	}
	if e.ModTime.IsZero() {
		return nil
	}
	return x.root.Chtimes(e.Path, e.ModTime, e.ModTime)
}

func (x *extractor) link(e *Entry) error {
	switch e.Type {
	case TypeHardlink:
		return x.root.Link(e.Target, e.Path)
	case TypeSymlink:
		return x.root.Symlink(e.Target, e.Path)
	}
	x.refused(e.Path, e.Type, errors.ErrUnsupported)
	return nil
}

func syncTree(*os.Root) error { return nil }

func openDirect(*os.File) *os.File { return nil }

func aligned([]byte, int64) bool { return false }
