package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// ClientConfig says how a gateway is reached.
type ClientConfig struct {
	Address      string // https://host:port
	IdentityFile string // what "holdfast gateway enroll" wrote, readable by its owner only
}

// A Store is a location behind a gateway. It can do what the role of its certificate may.
// The certificate is read when the first connection is made.
type Store struct {
	address string
	http    *http.Client
	role    Role
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	line    atomic.Pointer[location.Line] // of the last answer
}

// dialWithin bounds the making of a connection, answerWithin the wait for an answer to a
// request that was sent.
const (
	dialWithin   = 10 * time.Second
	answerWithin = time.Minute
)

// New returns the location behind a gateway. Nothing is contacted.
func New(cfg ClientConfig) (*Store, error) {
	text, err := seal.ReadKeyFile(cfg.IdentityFile)
	if err != nil {
		return nil, location.Opaque(err)
	}
	settings, err := seal.TLSConfig([]byte(text))
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("identity %q: %w", cfg.IdentityFile, err), "name the file that \"holdfast gateway enroll\" wrote")
	}
	peer, err := seal.Certified([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("identity %q: %w", cfg.IdentityFile, err)
	}
	if err := CheckRole(Role(peer.Role)); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("identity %q: %w", cfg.IdentityFile, err), "name the file that \"holdfast gateway enroll\" wrote")
	}
	u, err := url.Parse(cfg.Address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, holdfast.WithHint(fmt.Errorf("%q is not the address of a gateway", cfg.Address), "write https://HOST:PORT")
	}
	dial := (&net.Dialer{Timeout: dialWithin}).DialContext
	return &Store{
		address: "https://" + u.Host, role: Role(peer.Role), dial: dial,
		http: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig: settings, DialContext: dial, TLSHandshakeTimeout: dialWithin,
				ExpectContinueTimeout: dialWithin, ResponseHeaderTimeout: answerWithin, MaxConnsPerHost: MaxRequests, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Role is what the gateway lets this client do.
func (s *Store) Role() Role { return s.role }

// Line is how the gateway was reached for the last answer that it gave.
func (s *Store) Line() location.Line {
	if l := s.line.Load(); l != nil {
		return *l
	}
	return location.Line{}
}

// String is the address.
func (s *Store) String() string { return s.address }

// Close ends idle connections.
func (s *Store) Close() error { s.http.CloseIdleConnections(); return nil }

// Put implements repo.Store.
func (s *Store) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := location.CheckName(name); err != nil {
		return s.explain(ctx, "put", name, err)
	}
	if size > MaxObject {
		return s.explain(ctx, "put", name, fmt.Errorf("%d bytes, at most %d: %w", size, MaxObject, location.ErrSize))
	}
	sum := seal.NewHash()
	c, err := location.Load(ctx, size, body, sum)
	if err != nil {
		return s.explain(ctx, "put", name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.address+objectPath+name, c.Reader())
	if err != nil {
		return s.explain(ctx, "put", name, err)
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	// A body that will be refused is not sent: the refusal would be lost in it.
	req.Header.Set("Expect", "100-continue")
	req.Header.Set(hashHeader, hex.EncodeToString(sum.Sum(nil)))
	res, err := s.send(req)
	if err != nil {
		return s.explain(ctx, "put", name, err)
	}
	return res.Body.Close()
}

// Get implements repo.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := location.CheckName(name); err != nil {
		return nil, s.explain(ctx, "get", name, err)
	}
	if off < 0 {
		return nil, s.explain(ctx, "get", name, fmt.Errorf("offset %d: %w", off, location.ErrSize))
	}
	q := "?off=" + strconv.FormatInt(off, 10) + "&n=" + strconv.FormatInt(n, 10)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+objectPath+name+q, nil)
	if err != nil {
		return nil, s.explain(ctx, "get", name, err)
	}
	res, err := s.send(req)
	if err != nil {
		return nil, s.explain(ctx, "get", name, err)
	}
	if res.ContentLength < 0 || n >= 0 && res.ContentLength != n {
		_ = res.Body.Close()
		return nil, s.explain(ctx, "get", name, fmt.Errorf("%d bytes came, not %d: %w", res.ContentLength, n, location.ErrSize))
	}
	return &exactBody{location.Exactly(ctx, res.Body, res.ContentLength), res.Body}, nil
}

type exactBody struct {
	io.Reader
	io.Closer
}

// Delete implements repo.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := location.CheckName(name); err != nil {
		return s.explain(ctx, "delete", name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.address+objectPath+name, nil)
	if err != nil {
		return s.explain(ctx, "delete", name, err)
	}
	res, err := s.send(req)
	if err != nil {
		return s.explain(ctx, "delete", name, err)
	}
	return res.Body.Close()
}

// errCut is a listing without its end.
var errCut = errors.New("the listing ended early")

// List implements repo.Store.
func (s *Store) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+listPath+"?prefix="+url.QueryEscape(prefix), nil)
	if err != nil {
		return s.explain(ctx, "list", prefix, err)
	}
	res, err := s.send(req)
	if err != nil {
		return s.explain(ctx, "list", prefix, err)
	}
	defer res.Body.Close()
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, maxListLine)
	last, count := "", 0
	for sc.Scan() {
		var l listed
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return s.explain(ctx, "list", prefix, fmt.Errorf("%w: %w", errCut, err))
		}
		switch {
		case l.Failed != nil:
			return s.explain(ctx, "list", prefix, errorOf(*l.Failed))
		case l.End && l.Count != count:
			return s.explain(ctx, "list", prefix, fmt.Errorf("%d of %d objects came: %w", count, l.Count, errCut))
		case l.End:
			return nil
		case location.CheckName(l.Name) != nil || l.Name <= last || !strings.HasPrefix(l.Name, prefix) || l.Size < 0:
			return s.explain(ctx, "list", prefix, fmt.Errorf("%.100q is out of place in the listing: %w", l.Name, location.ErrName))
		}
		last, count = l.Name, count+1
		o := repo.Object{Name: l.Name, Size: l.Size}
		if l.Modified != nil {
			o.Modified = *l.Modified
		}
		if err := fn(o); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return s.explain(ctx, "list", prefix, fmt.Errorf("%w: %w", errCut, err))
	}
	return s.explain(ctx, "list", prefix, errCut)
}

// send carries a request out. An answer that is no success is an error.
func (s *Store) send(req *http.Request) (*http.Response, error) {
	res, err := s.http.Do(req)
	if err != nil {
		return nil, location.Weak(req.Context(), err, req.URL.Host, tls.VersionTLS13, s.dial)
	}
	if res.TLS != nil {
		line := location.TLSLine(res.TLS)
		s.line.Store(&line)
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusCreated || res.StatusCode == http.StatusNoContent {
		return res, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxListLine))
	if err != nil {
		return nil, err
	}
	var f refusal
	if json.Unmarshal(b, &f) != nil || f.Reason == "" {
		return nil, fmt.Errorf("the gateway answered %s: %q", res.Status, bytes.TrimSpace(b))
	}
	return nil, errorOf(f)
}

// errRange, errBudget and errBusy are refusals that only a gateway gives.
var (
	errRange   = errors.New("the object ends before what was asked for")
	errBudget  = errors.New("over this writer's budget of the day")
	errBusy    = errors.New("too many requests at once")
	errRevoked = errors.New("the certificate was taken back")
	errRole    = errors.New("the role may not do that")
)

func errorOf(f refusal) error {
	kind := error(nil)
	switch f.Reason {
	case reasonRange:
		kind = errRange
	case reasonBudget:
		kind = errBudget
	case reasonBusy:
		kind = errBusy
	case reasonRevoked:
		kind = errRevoked
	case reasonDenied:
		kind = errRole
	}
	for _, k := range places {
		if k.reason == f.Reason {
			kind = k.err
		}
	}
	if kind == errRevoked {
		return kind
	}
	if kind == nil {
		return fmt.Errorf("the gateway: %s", f.Message)
	}
	return fmt.Errorf("%w: %s", kind, f.Message)
}
