package access

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUID asks the kernel who opened a socket.
func peerUID(c *net.UnixConn) (uid uint32, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if cred, cerr := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); cerr == nil {
			uid, ok = cred.Uid, true
		}
	})
	return uid, ok && err == nil
}
