package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// RenameNew renames unless newName is taken.
func (osFS) RenameNew(oldName, newName string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, oldName, unix.AT_FDCWD, newName, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}
