package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
	"holdfast/internal/source"
)

// The line from the database carries everything that is backed up, before it is sealed.
// So it is TLS 1.2 or newer, or does not leave this machine: what the server does not
// offer is refused before a password is sent, whatever the connection string says. Whose
// certificate is believed is the connection string's (sslmode); without a check of it
// somebody between can pose as the server, which is found and not refused.

// minTLS is the oldest version of TLS that is spoken with a server.
const minTLS = tls.VersionTLS12

// Lines that do not leave this machine.
const (
	lineSocket   = "none: a socket of this machine"
	lineLoopback = "none: plain TCP within this machine"
)

// Whether the server's certificate was checked.
const (
	certificateChecked   = "checked"
	certificateUnchecked = "not checked"
)

// ErrLine is why nothing was asked of a server.
var ErrLine = errors.New("the line to the server is refused")

const lineHint = "let the server speak TLS 1.2 or newer (ssl = on, ssl_min_protocol_version), and write sslmode=verify-full with sslrootcert; a plain line is for sockets and 127.0.0.1 only"

// guardLine takes the ways out of a connection's settings that would be plain and leave
// this machine. Nil is returned if one is left.
func guardLine(cfg *pgconn.Config) error {
	ways := []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}
	var left []*pgconn.FallbackConfig
	for _, w := range append(ways, cfg.Fallbacks...) {
		if w.TLSConfig == nil && !withinMachine(w.Host) {
			continue
		}
		if w.TLSConfig != nil {
			w.TLSConfig = w.TLSConfig.Clone()
			w.TLSConfig.MinVersion = max(w.TLSConfig.MinVersion, minTLS)
		}
		left = append(left, w)
	}
	if len(left) == 0 {
		return holdfast.WithHint(fmt.Errorf("%w: it would be plain, and %s is another machine", ErrLine, cfg.Host), lineHint)
	}
	cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = left[0].Host, left[0].Port, left[0].TLSConfig, left[1:]
	return nil
}

// withinMachine reports whether a host of a connection string is this machine: the folder
// of a socket, or the loopback.
func withinMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || err == nil && ip.IsLoopback()
}

// dial opens a connection and looks at its line, before anything is asked.
func (s *Source) dial(ctx context.Context, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	if s.noLine != nil {
		return nil, s.noLine
	}
	pg, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		// What the server itself says came over a line, perhaps the second that was tried.
		var said *pgconn.PgError
		if text := err.Error(); !errors.As(err, &said) && (strings.Contains(text, "refused TLS") || strings.Contains(text, "protocol version")) {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %w", ErrLine, plainConnectError(err)), lineHint)
		}
		return nil, plainConnectError(err)
	}
	l, err := lineOf(pg.Conn(), s.checked)
	if err != nil {
		return nil, errors.Join(err, pg.Close(ctx))
	}
	s.line.Store(&l)
	return pg, nil
}

// checks reports whether settings of TLS check the server's certificate. The library
// does it itself where the name counts too (verify-full), and by a function where it
// does not (verify-ca).
func checks(c *tls.Config) bool {
	return c != nil && (!c.InsecureSkipVerify || c.VerifyPeerCertificate != nil || c.VerifyConnection != nil)
}

// lineOf judges the line of an open connection.
func lineOf(c net.Conn, checked bool) (source.Line, error) {
	if t, ok := c.(*tls.Conn); ok {
		st := t.ConnectionState()
		l := source.Line{Protocol: tls.VersionName(st.Version), Cipher: tls.CipherSuiteName(st.CipherSuite), Certificate: certificateUnchecked}
		if checked {
			l.Certificate = certificateChecked
		}
		if st.Version < minTLS {
			return l, holdfast.WithHint(fmt.Errorf("%w: it is %s", ErrLine, l.Protocol), lineHint)
		}
		return l, nil
	}
	if c.RemoteAddr().Network() == "unix" {
		return source.Line{Protocol: lineSocket}, nil
	}
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err != nil || !a.Addr().Unmap().IsLoopback() {
		return source.Line{}, holdfast.WithHint(fmt.Errorf("%w: it is plain, and %s is another machine", ErrLine, c.RemoteAddr()), lineHint)
	}
	return source.Line{Protocol: lineLoopback}, nil
}

// Line is how the server was last reached, as both ends agreed; the zero Line if it was
// not since the start.
func (s *Source) Line() source.Line {
	if l := s.line.Load(); l != nil {
		return *l
	}
	return source.Line{}
}

// checkLine finds a line over which somebody else could pose as the server.
func (s *Source) checkLine() []holdfast.Finding {
	if l := s.Line(); l.Certificate == certificateUnchecked {
		return []holdfast.Finding{s.finding(CodeCertificate, holdfast.SeverityWarning, "write sslmode=verify-full and sslrootcert=FILE into the connection string; sslmode=require encrypts, and believes whoever answers",
			"the line to the server is %s, and nobody checks its certificate: whoever sits between can pose as the server", l.Protocol)}
	}
	return nil
}
