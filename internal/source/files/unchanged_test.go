//go:build linux

package files

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/repo"
)

// openings returns a function that counts how often a file directly in dir was opened
// since.
func openings(t *testing.T, dir string) func() int {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_OPEN)
	must(t, err)
	return func() (n int) {
		b := make([]byte, 64<<10)
		for {
			got, err := unix.Read(fd, b)
			if err == unix.EAGAIN {
				return n
			}
			must(t, err)
			for e := b[:got]; len(e) > 0; {
				mask, name := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[12:])
				if mask&unix.IN_ISDIR == 0 {
					n++
				}
				e = e[unix.SizeofInotifyEvent+int(name):]
			}
		}
	}
}

// Attributes that could not be read are not vouched for: the next snapshot looks again,
// and says so again, instead of calling the file unchanged.
func TestAttributesThatCannotBeReadAreNoMemory(t *testing.T) {
	broken := func(string, []byte) (int, error) { return 0, unix.EIO }
	for name, r := range map[string]attributeReader{
		"list": {list: func([]byte) (int, error) { return 0, unix.EIO }, get: broken},
		"one":  {list: func(b []byte) (int, error) { return copy(b, "user.a\x00"), nil }, get: broken},
	} {
		k := newWalk(&Source{}, nil, nil)
		e := repo.Entry{Path: "a", ChangeTime: time.Unix(1, 0)}
		k.attributes(&e, r)
		if k.report.Unreadable != 1 || !e.ChangeTime.IsZero() {
			t.Errorf("%s: %d problems, and the entry vouches for %v", name, k.report.Unreadable, e.ChangeTime)
		}
	}
}
