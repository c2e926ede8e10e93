//go:build linux

package dir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/location"
)

// maxLayers bounds how many devices lie under a file system: a volume on a crypt on a disk.
const maxLayers = 8

// Settings says whether the file system lies on a device that dm-crypt encrypts. A
// directory has no lock, no versions and no region.
func (s *Store) Settings(context.Context) location.Settings {
	out := location.Unasked("a directory has none")
	out.Tell(location.SettingLock, location.None)
	out.Tell(location.SettingVersions, location.None)
	var st syscall.Stat_t
	if err := syscall.Stat(s.path, &st); err != nil {
		out.Untold[location.SettingEncryption] = s.explain("look at", "", err).Error()
		return out
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	if _, err := os.Stat(device); err != nil {
		out.Untold[location.SettingEncryption] = "the file system does not say on which device it lies"
		return out
	}
	value := location.None
	if crypted(device, maxLayers) {
		value = "dm-crypt"
	}
	out.Tell(location.SettingEncryption, value)
	return out
}

// crypted reports whether a device, or one below it, is a crypt of the device mapper.
func crypted(device string, layers int) bool {
	if b, err := os.ReadFile(filepath.Join(device, "dm", "uuid")); err == nil && strings.HasPrefix(string(b), "CRYPT-") {
		return true
	}
	below, err := filepath.Glob(filepath.Join(device, "slaves", "*"))
	if err != nil || layers == 0 {
		return false
	}
	for _, d := range below {
		if crypted(d, layers-1) {
			return true
		}
	}
	return false
}
