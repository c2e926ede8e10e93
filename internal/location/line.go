package location

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// A Line is how a place was reached: what both ends agreed on, and not what was asked for.
type Line struct {
	// Protocol is "TLS 1.3", "SSH 2.0", LinePlain or LineLocal; "" as long as nothing was
	// sent.
	Protocol string `json:"protocol"`
	Cipher   string `json:"cipher,omitempty"`
}

// The lines that nothing encrypts. What goes over them is sealed all the same.
const (
	LinePlain = "plain http on this machine"
	LineLocal = "none: a folder of this machine"
	LineMount = "not known: a mounted share, by " // and the file system
)

// String is the line in words.
func (l Line) String() string {
	switch {
	case l.Protocol == "":
		return "not used yet"
	case l.Cipher == "":
		return l.Protocol
	}
	return l.Protocol + ", " + l.Cipher
}

// MinTLS is the oldest version of TLS that is spoken, whatever a plan says.
const MinTLS = tls.VersionTLS12

// TLSLine is the line of a connection.
func TLSLine(s *tls.ConnectionState) Line {
	return Line{Protocol: tls.VersionName(s.Version), Cipher: tls.CipherSuiteName(s.CipherSuite)}
}

// ErrWeak is why nothing was sent over a line that is older than allowed, or plain.
var ErrWeak = errors.New("line refused")

// weakness is an ErrWeak with what the server offers.
type weakness struct{ offers, least string }

func (w *weakness) Error() string {
	return fmt.Sprintf("%v: the server offers %s, and %s is the least", ErrWeak, w.offers, w.least)
}
func (w *weakness) Unwrap() error { return ErrWeak }

// WeakHint says what to do about an ErrWeak.
const WeakHint = "nothing was sent. Let the place speak TLS 1.2 or newer: update its server, or put a proxy before it that does"

// lookWithin bounds the question what a server offers instead.
const lookWithin = 5 * time.Second

// Weak returns why a handshake ended if it was because the server speaks no version of
// TLS that is new enough, or none at all; else err as it is. Since a server that refuses
// does not say what it would take, it is asked for less: that handshake is broken off
// once the server has chosen, nothing is sent in it and nothing that it says is believed.
func Weak(ctx context.Context, err error, addr string, least uint16, dial func(ctx context.Context, network, addr string) (net.Conn, error)) error {
	w := &weakness{"no version of TLS that is new enough", tls.VersionName(max(least, MinTLS))}
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		w.offers = "no TLS"
		return w
	case !strings.Contains(err.Error(), "protocol version"), errors.Is(err, ErrWeak):
		return err // crypto/tls has no type for it: "protocol version not supported", "selected unsupported protocol version"
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	if c, derr := dial(ctx, "tcp", addr); derr == nil {
		defer c.Close()
		seen := errors.New("seen")
		// The connection carries nothing, so nobody has to vouch for it.
		_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: max(least, MinTLS) - 1, VerifyConnection: func(s tls.ConnectionState) error {
			w.offers = tls.VersionName(s.Version)
			return seen
		}}).HandshakeContext(ctx)
	}
	return w
}

// OnThisMachine reports whether the name or address of a host is the loopback's.
func OnThisMachine(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// CheckHere refuses a connection that leads to another machine, whatever its name said.
func CheckHere(c net.Conn) error {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err != nil || !a.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w: plain http would leave this machine, to %s", ErrWeak, c.RemoteAddr())
	}
	return nil
}
