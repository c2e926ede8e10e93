//go:build !linux

package access

import "net"

// peerUID is not known here: the socket's mode is what keeps others out.
func peerUID(*net.UnixConn) (uint32, bool) { return 0, false }
