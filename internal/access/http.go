package access

import (
	"context"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// cookieName carries the session. Over TLS the prefix lets browsers refuse one that
// another site, or plain http, put there.
const (
	cookieName   = "holdfast"
	securePrefix = "__Host-"
)

func nameOfCookie(r *http.Request) string {
	if r.TLS != nil {
		return securePrefix + cookieName
	}
	return cookieName
}

// SetCookie gives the browser its session.
func SetCookie(w http.ResponseWriter, r *http.Request, e Entry) {
	http.SetCookie(w, &http.Cookie{Name: nameOfCookie(r), Value: e.Secret, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
}

// ClearCookie takes it back.
func ClearCookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: nameOfCookie(r), Path: "/", MaxAge: -1, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
}

// Address is where a request comes from, without the port.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

type connKey struct{}

// KeepConn keeps the connection in the context of its requests, for Identify. It is an
// http.Server's ConnContext.
func KeepConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Identify says of every request who makes it, and passes it on; what they may do is
// asked later. A request that shows a token is that token's, whatever cookie it brings.
func (m *Module) Identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := m.identify(r)
		if err != nil {
			// Nobody is let in because the state cannot be read.
			m.seen.lost(err)
			p = Principal{Why: "the state cannot be read"}
		}
		next.ServeHTTP(w, r.WithContext(With(r.Context(), p)))
	})
}

func (m *Module) identify(r *http.Request) (Principal, error) {
	ctx, stop := context.WithTimeout(r.Context(), 10*time.Second)
	defer stop()
	if c, ok := r.Context().Value(connKey{}).(*net.UnixConn); ok {
		return Local(accountOf(c)), nil
	}
	if text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return m.ByToken(ctx, strings.TrimSpace(text), Address(r))
	}
	if c, err := r.Cookie(nameOfCookie(r)); err == nil && len(c.Value) < 200 {
		return m.BySession(ctx, c.Value)
	}
	if !m.Known() && fromLoopback(r) {
		return Principal{Way: ByOpen}, nil
	}
	return Principal{}, nil
}

// fromLoopback reports whether both ends of the connection are this machine, and the
// browser knows that too: a page of somebody else whose name was turned to point here
// still sends that name.
func fromLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	peer := net.ParseIP(Address(r))
	return ok && local.IP.IsLoopback() && peer != nil && peer.IsLoopback() && loopbackName(r.Host)
}

// loopbackName reports whether a host, with or without a port, is written as this machine.
func loopbackName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// accountOf names the account of the machine at the other end of a socket.
func accountOf(c *net.UnixConn) string {
	uid, ok := peerUID(c)
	if !ok {
		return "unknown"
	}
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
