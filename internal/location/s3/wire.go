package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"holdfast/internal/location"
)

// errStalled is the cause of a request that was given up because nothing moved.
var errStalled = errors.New("no answer")

// A watcher ends a request in which nothing moves.
type watcher struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// watch returns a context that ends when the watcher was not kicked for limit.
func watch(ctx context.Context, limit time.Duration) (context.Context, *watcher) {
	w := &watcher{limit: limit}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(limit, func() { w.cancel(fmt.Errorf("%w within %s", errStalled, limit)) })
	return w.ctx, w
}

func (w *watcher) kick()  { w.timer.Reset(w.limit) }
func (w *watcher) pause() { w.timer.Stop() }

func (w *watcher) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// cause returns err, or why the watcher ended the request that it comes from.
func (w *watcher) cause(err error) error {
	if err == nil {
		return nil
	}
	if why := context.Cause(w.ctx); errors.Is(why, errStalled) {
		return why
	}
	return err
}

// watched kicks as its bytes are sent. It hides that they can be read again: the
// client must not repeat a put by itself.
type watched struct {
	r io.Reader
	w *watcher
}

func (b *watched) Read(p []byte) (int, error) {
	b.w.kick()
	return b.r.Read(p)
}

// maxPage is the largest answer to a listing request that is read.
const maxPage = 16 << 20

// wire carries requests, refuses listings that do not prove to be whole, and keeps
// what the answers say about the place.
type wire struct {
	*http.Transport
	clock func() time.Time
	plain bool                          // http is declared
	line  atomic.Pointer[location.Line] // of the last answer
	drift atomic.Pointer[time.Duration]
}

func newWire(cfg Config) (*wire, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: min(dialTimeout, cfg.Timeout), KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleFor, TLSHandshakeTimeout: min(dialTimeout, cfg.Timeout),
		DisableCompression: true, // an object is taken as it is stored
		TLSClientConfig:    &tls.Config{MinVersion: max(cfg.MinTLS, location.MinTLS)},
	}
	if cfg.dial != nil {
		t.DialContext = cfg.dial
	}
	_, secure, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	if dial := t.DialContext; !secure {
		t.Proxy = nil // a proxy is another machine
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			if err := location.CheckHere(c); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		}
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, &caError{location.Opaque(err)}
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &caError{fmt.Errorf("%q holds no certificate", cfg.CAFile)}
		}
	}
	return &wire{Transport: t, clock: cfg.Clock, plain: !secure}, nil
}

// caError is a file of authorities that cannot be used.
type caError struct{ err error }

func (e *caError) Error() string { return "certificate authorities: " + e.err.Error() }
func (e *caError) Unwrap() error { return e.err }

// used is the line of the last answer.
func (w *wire) used() location.Line {
	if l := w.line.Load(); l != nil {
		return *l
	}
	return location.Line{}
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !w.plain {
		return nil, fmt.Errorf("%w: plain http to %s", location.ErrWeak, req.URL.Host)
	}
	sent := w.clock()
	resp, err := w.Transport.RoundTrip(req)
	if err != nil {
		addr := req.URL.Host
		if req.URL.Port() == "" {
			addr = net.JoinHostPort(req.URL.Hostname(), "443")
		}
		return nil, location.Weak(req.Context(), err, addr, w.TLSClientConfig.MinVersion, w.DialContext)
	}
	line := location.Line{Protocol: location.LinePlain}
	if resp.TLS != nil {
		line = location.TLSLine(resp.TLS)
	}
	w.line.Store(&line)
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The answer was made some time between; the header has whole seconds.
		d := at.Add(time.Second / 2).Sub(sent.Add(w.clock().Sub(sent) / 2))
		w.drift.Store(&d)
	}
	if req.Method == http.MethodGet && resp.StatusCode == http.StatusOK && req.URL.Query().Get("list-type") == "2" {
		if err := wholePage(resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// wholePage reads a page of a listing and refuses one that may lack something: an
// answer of somebody else, cut off, or without saying whether more follows.
func wholePage(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("listing ended early: %w", err)
	}
	if len(b) > maxPage {
		return fmt.Errorf("a page of a listing has more than %d bytes", maxPage)
	}
	var page struct {
		XMLName     xml.Name
		IsTruncated *bool
		KeyCount    *int
		Contents    []struct{ Key *string }
		Error       string `xml:"Code"`
	}
	if err := xml.Unmarshal(b, &page); err != nil {
		return fmt.Errorf("listing is not whole: %w", err)
	}
	switch {
	case page.XMLName.Local != "ListBucketResult":
		return fmt.Errorf("the answer to a listing is a %q", page.XMLName.Local)
	case page.IsTruncated == nil:
		return errors.New("the listing does not say whether it is whole")
	case page.KeyCount != nil && *page.KeyCount != len(page.Contents):
		return fmt.Errorf("the listing says %d objects and names %d", *page.KeyCount, len(page.Contents))
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}
