//go:build linux

package dir

import (
	"strings"
	"syscall"

	"holdfast/internal/location"
	"holdfast/internal/location/probe"
)

// mounts are the file systems behind which another machine may stand, by their magic
// numbers (statfs(2)). How they carry bytes there is theirs to say, not ours.
var mounts = map[int64]string{
	0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb", 0x517b: "smb", 0x65735546: "fuse", 0xc36400: "ceph", 0x01021997: "9p", 0x5346414f: "afs",
}

// Line says that nothing of ours carries bytes to the directory, or that somebody else
// may: a mounted share.
func (s *Store) Line() location.Line {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.path, &st); err != nil {
		return location.Line{}
	}
	if kind := mounts[int64(st.Type)&0xffffffff]; kind != "" {
		return location.Line{Protocol: location.LineMount + kind}
	}
	return location.Line{Protocol: location.LineLocal}
}

func (s *Store) lineTrait() probe.Check {
	c := probe.Check{Name: "line", Outcome: probe.Holds, Detail: s.Line().String()}
	if strings.HasPrefix(c.Detail, location.LineMount) {
		c.Outcome, c.Consequence, c.Hint = probe.Unknown, "names and sizes may be open to who listens", "mount it with encryption (NFS: xprtsec=tls; SMB: seal), or use sftp or a gateway"
	}
	return c
}
