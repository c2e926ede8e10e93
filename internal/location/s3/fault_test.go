package s3_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/s3"
	"holdfast/internal/repo"
)

// A fault answers a request instead of the server, or does something to it. It
// reports whether the request is dealt with.
type fault func(w http.ResponseWriter, r *http.Request, server http.Handler) bool

// faulty puts a proxy with a fault before a server; the fault can be set later.
func faulty(t *testing.T, server *locationtest.S3) (string, *atomic.Pointer[fault]) {
	t.Helper()
	to, err := url.Parse(server.URL)
	must(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }} // the host is signed
	var now atomic.Pointer[fault]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := now.Load(); f != nil && (*f)(w, r, proxy) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, &now
}

// once turns a fault into one that happens to the first request that it is for.
func once(applies func(*http.Request) bool, f fault) *fault {
	var done atomic.Bool
	g := fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		return applies(r) && !done.Swap(true) && f(w, r, server)
	})
	return &g
}

func always(applies func(*http.Request) bool, f fault) *fault {
	g := fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		return applies(r) && f(w, r, server)
	})
	return &g
}

func putOf(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, name) }
}

func isList(r *http.Request) bool { return r.URL.Query().Get("list-type") == "2" }

func hangUp(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}

// landed lets the server do it, and loses the answer.
func landed(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
	server.ServeHTTP(httptest.NewRecorder(), r)
	hangUp(w)
	return true
}

// dropped loses the request.
func dropped(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	io.Copy(io.Discard, r.Body)
	hangUp(w)
	return true
}

// busy turns the request away.
func busy(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, "<Error><Code>SlowDown</Code><Message>slow down</Message></Error>")
	return true
}

// A put whose answer is lost has succeeded or failed, and says which.
func TestUnknownOutcomesAreFoundOut(t *testing.T) {
	server := locationtest.StartS3(t)
	for name, f := range map[string]fault{"landed": landed, "dropped": dropped, "busy": busy, "cut off in the middle": func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		io.CopyN(io.Discard, r.Body, 10)
		hangUp(w)
		return true
	}} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, server, false)
			front, now := faulty(t, server)
			cfg.Endpoint = front
			s := open(t, cfg)
			must(t, put(s, location.Marker, "{}"))
			now.Store(once(putOf("packs/aa/1"), f))
			if err := put(s, "packs/aa/1", "the content of a pack"); err != nil {
				t.Errorf("put: %v", err)
			}
			if got, err := get(s, "packs/aa/1"); err != nil || got != "the content of a pack" {
				t.Errorf("get: %q, %v", got, err)
			}
			// Another writer was first, and the answer that says so is lost.
			now.Store(once(putOf("packs/aa/1"), f))
			if err := put(s, "packs/aa/1", "another"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("put of another content: %v", err)
			}
		})
	}
}

// The first attempt is lost on its way, and arrives when nobody waits for it any
// more, just before the second: that one meets our own object.
func TestAPutThatArrivesLate(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	front, now := faulty(t, server)
	cfg.Endpoint = front
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	var late *http.Request
	f := fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if !putOf("packs/aa/1")(r) {
			return false
		}
		if late == nil {
			b, _ := io.ReadAll(r.Body)
			late = r.Clone(t.Context())
			late.Body = io.NopCloser(bytes.NewReader(b))
			hangUp(w)
			return true
		}
		server.ServeHTTP(httptest.NewRecorder(), late)
		return false
	})
	now.Store(&f)
	if err := put(s, "packs/aa/1", "ours"); err != nil {
		t.Errorf("put: %v", err)
	}
	now.Store(nil)
	if got, err := get(s, "packs/aa/1"); err != nil || got != "ours" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A place that is away for longer gives an error that is no verdict on the object.
func TestAPutThatNeverGetsThrough(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	front, fault := faulty(t, server)
	cfg.Endpoint = front
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/0", "x"))
	fault.Store(always(func(*http.Request) bool { return true }, busy))
	if err := put(s, "packs/aa/1", "x"); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrExist) || holdfast.Hint(err) == "" {
		t.Errorf("put: %v", err)
	}
	if _, err := get(s, "packs/aa/0"); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v", err)
	}
}

// A place that ignores the condition is found out before anything is lost.
func TestAPlaceThatOverwritesIsRefused(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	front, fault := faulty(t, server)
	cfg.Endpoint = front
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "first"))
	// The condition is signed, so an honest server cannot lose it: this one answers
	// as if the write had been done.
	fault.Store(always(func(r *http.Request) bool { return r.Header.Get("If-None-Match") == "*" }, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"00000000000000000000000000000000"`)
		return true
	}))
	if err := put(open(t, cfg), "packs/aa/1", "second"); !errors.Is(err, location.ErrOverwrites) || holdfast.Hint(err) == "" {
		t.Errorf("put: %v", err)
	}
	fault.Store(nil)
	if got, err := get(s, "packs/aa/1"); err != nil || got != "first" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A listing is whole, or an error.
func TestListingsThatAreNotWhole(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	front, now := faulty(t, server)
	cfg.Endpoint = front
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	for i := range 5 {
		must(t, put(s, fmt.Sprintf("packs/aa/%d", i), "x"))
	}
	count := func() (n int, err error) {
		err = s.List(t.Context(), "packs/", func(repo.Object) error { n++; return nil })
		return n, err
	}
	change := func(f func([]byte) []byte) fault {
		return func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
			got := httptest.NewRecorder()
			server.ServeHTTP(got, r)
			w.Write(f(got.Body.Bytes()))
			return true
		}
	}
	for name, f := range map[string]fault{
		"cut off":        change(func(b []byte) []byte { return b[:len(b)-100] }),
		"empty":          change(func([]byte) []byte { return nil }),
		"a login page":   change(func([]byte) []byte { return []byte("<html><body>please log in</body></html>") }),
		"without an end": change(func(b []byte) []byte { return bytes.Replace(b, []byte("<IsTruncated>false</IsTruncated>"), nil, 1) }),
		"one is lost": change(func(b []byte) []byte {
			i, j := bytes.Index(b, []byte("<Contents>")), bytes.Index(b, []byte("</Contents>"))
			return append(bytes.Clone(b[:i]), b[j+len("</Contents>"):]...)
		}),
		"not in order": change(func(b []byte) []byte {
			return bytes.Replace(bytes.Replace(bytes.Replace(b, []byte("aa/1<"), []byte("aa/x<"), 1), []byte("aa/3<"), []byte("aa/1<"), 1), []byte("aa/x<"), []byte("aa/3<"), 1)
		}),
		"more without saying where": change(func(b []byte) []byte {
			return bytes.Replace(b, []byte("<IsTruncated>false</IsTruncated>"), []byte("<IsTruncated>true</IsTruncated>"), 1)
		}),
	} {
		now.Store(always(isList, f))
		if n, err := count(); err == nil {
			t.Errorf("%s: %d of 5 objects without an error", name, n)
		}
	}
	now.Store(once(isList, busy))
	if n, err := count(); n != 5 || err != nil {
		t.Errorf("after one busy answer: %d of 5, %v", n, err)
	}
}

// What ignores a range, or breaks in the middle, is noticed.
func TestReadsThatAreNotWhole(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	front, now := faulty(t, server)
	cfg.Endpoint = front
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	whole := strings.Repeat("0123456789", 100_000)
	must(t, put(s, "packs/aa/1", whole))
	isGet := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "packs/aa/1")
	}
	now.Store(always(isGet, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		io.WriteString(w, whole)
		return true
	}))
	if r, err := s.Get(t.Context(), "packs/aa/1", 5, 10); err == nil {
		b, err := io.ReadAll(r)
		t.Errorf("a place without ranges gave %q, %v", b, err)
	}
	breaking := fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		got := httptest.NewRecorder()
		server.ServeHTTP(got, r)
		for k, v := range got.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(got.Code)
		w.Write(got.Body.Bytes()[:got.Body.Len()/2])
		w.(http.Flusher).Flush()
		hangUp(w)
		return true
	})
	now.Store(once(isGet, breaking))
	if got, err := get(s, "packs/aa/1"); err != nil || got != whole {
		t.Errorf("after one break: %d of %d bytes, %v", len(got), len(whole), err)
	}
	now.Store(always(isGet, breaking))
	if got, err := get(s, "packs/aa/1"); err == nil {
		t.Errorf("with a break each time: %d of %d bytes and no error", len(got), len(whole))
	}
}

// A place that takes requests and never answers ends no run.
func TestAFrozenPlaceIsUnreachable(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	must(t, put(open(t, cfg), location.Marker, "{}"))
	must(t, put(open(t, cfg), "packs/aa/1", "one"))
	cfg.Timeout = time.Second
	s := open(t, cfg)
	server.Stop(t)
	for verb, call := range map[string]func() error{
		"put":    func() error { return put(s, "packs/aa/2", "two") },
		"get":    func() error { _, err := get(s, "packs/aa/1"); return err },
		"list":   func() error { return s.List(t.Context(), "", func(repo.Object) error { return nil }) },
		"delete": func() error { return s.Delete(t.Context(), "packs/aa/1") },
	} {
		if err := call(); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	server.Continue(t)
	server.Kill(t)
	if err := put(s, "packs/aa/2", "two"); !errors.Is(err, location.ErrUnreachable) {
		t.Errorf("put to a place that is gone: %v", err)
	}
}

func TestAnotherRepositoryIsRefused(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "one"))
	marker := filepath.Join(server.Dir, cfg.Bucket, cfg.Prefix, location.Marker)
	must(t, os.Remove(marker))
	if err := s.List(t.Context(), "", func(repo.Object) error { return nil }); !errors.Is(err, location.ErrUnreachable) {
		t.Errorf("list without marker: %v", err)
	}
	must(t, put(open(t, cfg), location.Marker, "{\"other\": 1}"))
	if err := s.List(t.Context(), "", func(repo.Object) error { return nil }); !errors.Is(err, location.ErrUnreachable) {
		t.Errorf("list of another repository: %v", err)
	}
	gone := cfg
	gone.Bucket = "not-made"
	for name, err := range map[string]error{"put": put(open(t, gone), location.Marker, "{}"), "get": func() error { _, err := get(open(t, gone), "packs/aa/1"); return err }()} {
		if !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "" {
			t.Errorf("%s in a bucket that is not there: %v", name, err)
		}
	}
}

// Credentials are read from a file that only its owner reads, again when it was
// replaced, and are never shown.
func TestCredentials(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, false)
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	right, err := os.ReadFile(cfg.CredentialsFile)
	must(t, err)
	for _, tc := range []struct {
		name, text string
		mode       os.FileMode
		hint       string
	}{
		{"others read it", string(right), 0o644, "chmod 600"},
		{"revoked", strings.Replace(string(right), server.Access, "somebody-else", 1), 0o600, "revoked"},
		{"wrong secret", strings.Replace(string(right), server.Secret, "hunter2-hunter2", 1), 0o600, "revoked"},
		{"half", "access_key_id = " + server.Access + "\n", 0o600, "secret_access_key"},
		{"two keys", string(right) + string(right), 0o600, "of its own"},
		{"missing", "", 0, ""},
	} {
		must(t, os.Remove(cfg.CredentialsFile))
		if tc.mode != 0 {
			must(t, os.WriteFile(cfg.CredentialsFile, []byte(tc.text), tc.mode))
		}
		for verb, err := range map[string]error{"put": put(s, "packs/aa/1", "x"), "get": func() error { _, err := get(s, location.Marker); return err }()} {
			switch {
			case !errors.Is(err, location.ErrDenied) || errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s, %s: %v", tc.name, verb, err)
			case !strings.Contains(holdfast.Hint(err), tc.hint):
				t.Errorf("%s, %s: hint %q", tc.name, verb, holdfast.Hint(err))
			case strings.Contains(err.Error(), server.Secret), strings.Contains(err.Error(), "hunter2"):
				t.Errorf("%s, %s: a secret is shown: %v", tc.name, verb, err)
			}
		}
		if tc.mode == 0 {
			must(t, os.WriteFile(cfg.CredentialsFile, nil, 0o600))
		}
	}
	must(t, os.WriteFile(cfg.CredentialsFile, right, 0o600))
	if err := put(s, "packs/aa/1", "x"); err != nil {
		t.Errorf("with the right key again: %v", err)
	}
	cfg.CredentialsFile = ""
	t.Setenv(s3.EnvAccessKey, server.Access)
	t.Setenv(s3.EnvSecretKey, server.Secret)
	if got, err := get(open(t, cfg), "packs/aa/1"); err != nil || got != "x" {
		t.Errorf("with the environment's key: %q, %v", got, err)
	}
}

// The line is TLS 1.2 or newer, with a certificate that somebody known vouches for.
func TestTheLine(t *testing.T) {
	server := locationtest.StartS3(t, locationtest.WithTLS(t))
	cfg := config(t, server, false)
	must(t, put(open(t, cfg), location.Marker, "{}"))
	stranger := cfg
	stranger.CAFile = ""
	if _, err := get(open(t, stranger), location.Marker); !errors.Is(err, location.ErrUnreachable) || !strings.Contains(holdfast.Hint(err), "ca_file") {
		t.Errorf("a certificate of an unknown authority: %v (hint %q)", err, holdfast.Hint(err))
	}
	for _, file := range []string{cfg.CredentialsFile, cfg.CAFile + "-missing"} {
		stranger.CAFile = file
		if _, err := s3.New(stranger); err == nil || errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "" {
			t.Errorf("authorities from %q: %v", file, err)
		}
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	t.Cleanup(old.Close)
	stranger.Endpoint, stranger.CAFile = old.URL, ""
	refused := func(what string, err error, words ...string) {
		t.Helper()
		if !errors.Is(err, location.ErrWeak) || holdfast.Hint(err) == "" || !strings.Contains(fmt.Sprint(err), stranger.Endpoint) {
			t.Errorf("%s: %v (hint %q)", what, err, holdfast.Hint(err))
		}
		for _, w := range words {
			if !strings.Contains(fmt.Sprint(err), w) {
				t.Errorf("%s: %v does not say %q", what, err, w)
			}
		}
	}
	_, err := get(open(t, stranger), location.Marker)
	refused("a server that speaks TLS 1.1", err, "offers TLS 1.1", "TLS 1.2 is the least")
	clear := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(clear.Close)
	stranger.Endpoint = strings.Replace(clear.URL, "http:", "https:", 1)
	_, err = get(open(t, stranger), location.Marker)
	refused("a server that speaks plain http", err, "offers no TLS")
	stranger.Endpoint = clear.URL
	_, err = s3.New(stranger)
	refused("plain http on this machine that nobody declared", err)
	for _, stranger.Insecure = range []bool{false, true} {
		stranger.Endpoint = "http://s3.example.com"
		_, err = s3.New(stranger)
		refused("plain http to another machine", err)
	}
	// What a line is, is what both ends agreed on; a plan can ask for more.
	s := open(t, cfg)
	if _, err := get(s, location.Marker); err != nil || s.Line().Protocol != "TLS 1.3" || !strings.HasPrefix(s.Line().Cipher, "TLS_") {
		t.Errorf("the line is %+v, %v", s.Line(), err)
	}
	middle := httptest.NewUnstartedServer(http.NotFoundHandler())
	middle.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	middle.StartTLS()
	t.Cleanup(middle.Close)
	stranger.Endpoint, stranger.MinTLS = middle.URL, tls.VersionTLS13
	_, err = get(open(t, stranger), location.Marker)
	refused("a server that speaks TLS 1.2 where 1.3 is the least", err, "offers TLS 1.2", "TLS 1.3 is the least")
}

// A name that is said to be of this machine, and leads to another one, gets nothing.
func TestPlainStaysHere(t *testing.T) {
	cfg := s3.Config{Endpoint: "http://s3.localhost", Insecure: true, Bucket: "backups", CredentialsFile: filepath.Join(t.TempDir(), "none")}
	must(t, os.WriteFile(cfg.CredentialsFile, []byte("access_key_id = a\nsecret_access_key = b\n"), 0o600))
	sent := &elsewhere{}
	s := open(t, s3.DialOver(cfg, sent))
	if _, err := get(s, location.Marker); !errors.Is(err, location.ErrWeak) || sent.wrote.Load() {
		t.Errorf("another machine was sent something (%t): %v", sent.wrote.Load(), err)
	}
}

// elsewhere is a connection to another machine that notes whether anything is sent.
type elsewhere struct {
	net.Conn
	wrote atomic.Bool
}

func (e *elsewhere) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
func (e *elsewhere) Write(b []byte) (int, error) { e.wrote.Store(true); return len(b), nil }
func (e *elsewhere) Read([]byte) (int, error)    { return 0, io.EOF }
func (e *elsewhere) Close() error {
	return nil
}

// The bucket's name may stand in the host.
func TestHostStyle(t *testing.T) {
	server := locationtest.StartS3(t, locationtest.WithDomain("s3.localhost"))
	cfg := config(t, server, false)
	cfg.Endpoint = strings.Replace(server.URL, "127.0.0.1", "s3.localhost", 1)
	cfg.Style, cfg.Insecure = s3.StyleHost, true
	var asked atomic.Pointer[string]
	s := open(t, s3.DialTo(cfg, strings.TrimPrefix(server.URL, "http://"), func(addr string) { asked.Store(&addr) }))
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "one"))
	if got, err := get(s, "packs/aa/1"); err != nil || got != "one" {
		t.Errorf("got %q, %v", got, err)
	}
	if host := *asked.Load(); !strings.HasPrefix(host, cfg.Bucket+".s3.localhost") {
		t.Errorf("asked %q", host)
	}
	if _, err := os.Stat(filepath.Join(server.Dir, cfg.Bucket, cfg.Prefix, "packs/aa/1")); err != nil {
		t.Error(err)
	}
}
