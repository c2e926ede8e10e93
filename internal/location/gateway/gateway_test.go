package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/dir"
	"holdfast/internal/location/gateway"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A rig is a gateway on a real port in front of a real directory.
type rig struct {
	t       *testing.T
	ca      []byte
	addr    string
	place   repo.Store
	revoked atomic.Value // serial
	now     atomic.Int64
	files   string
}

func newRig(t *testing.T, change func(*gateway.Config)) *rig {
	t.Helper()
	path := t.TempDir()
	d, err := dir.New(path)
	must(t, err)
	r := &rig{t: t, place: d, files: t.TempDir()}
	r.revoked.Store("")
	r.now.Store(noon.Unix())
	r.ca, err = seal.NewAuthority("test", time.Now())
	must(t, err)
	identity, err := seal.Certify(r.ca, seal.Subject{Name: "gateway", Hosts: []string{"127.0.0.1"}, Days: 1}, time.Now())
	must(t, err)
	cfg := gateway.Config{Place: d, Deletes: true, Log: slog.New(slog.DiscardHandler),
		Revoked: func(serial string) (bool, error) { return serial == r.revoked.Load(), nil }, Clock: func() time.Time { return time.Unix(r.now.Load(), 0) }}
	if change != nil {
		change(&cfg)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(ctx, ln, identity, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// identity enrols a client and returns its file.
func (r *rig) identity(name string, role gateway.Role, ca []byte) string {
	r.t.Helper()
	text, err := seal.Certify(ca, seal.Subject{Name: name, Role: string(role), Days: 1}, time.Now())
	must(r.t, err)
	path := filepath.Join(r.files, fmt.Sprintf("%s-%d.pem", name, time.Now().UnixNano()))
	must(r.t, seal.WriteKeyFile(path, string(text)))
	return path
}

func (r *rig) as(name string, role gateway.Role) *gateway.Store {
	r.t.Helper()
	s, err := gateway.New(gateway.ClientConfig{Address: "https://" + r.addr, IdentityFile: r.identity(name, role, r.ca)})
	must(r.t, err)
	r.t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(s repo.Store, name, body string) error {
	return s.Put(context.Background(), name, int64(len(body)), strings.NewReader(body))
}

func get(s repo.Store, name string) (string, error) {
	b, err := s.Get(context.Background(), name, 0, -1)
	if err != nil {
		return "", err
	}
	defer b.Close()
	text, err := io.ReadAll(b)
	return string(text), err
}

const (
	aPack     = "packs/0a/0a112233445566778899aabbccddeeff"
	aSnapshot = "snapshots/db/20260301T140500Z-0a1b2c3d"
	aLog      = "logs/db/lineage/00000001/0000000000000000-0000000000000100"
)

func TestConformance(t *testing.T) {
	locationtest.Run(t, func(t *testing.T) repo.Store { return newRig(t, nil).as("vault", gateway.Vault) })
}

// The whole table of rights, cell by cell. A writer who owns its certificate reads,
// lists, overwrites and deletes nothing.
func TestRoles(t *testing.T) {
	r := newRig(t, nil)
	must(t, put(r.place, location.Marker, "{}\n"))
	must(t, put(r.place, aPack, "old"))
	acts := map[string]func(s repo.Store) error{
		"put":           func(s repo.Store) error { return put(s, aSnapshot, "new") },
		"put a receipt": func(s repo.Store) error { return put(s, "receipts/db/20260301T140500Z-0a1b2c3d", "new") },
		"overwrite":     func(s repo.Store) error { return put(s, aPack, "evil") },
		"get":           func(s repo.Store) error { _, err := get(s, aPack); return err },
		"list":          func(s repo.Store) error { return s.List(t.Context(), "", func(repo.Object) error { return nil }) },
		"delete":        func(s repo.Store) error { return s.Delete(t.Context(), aLog) },
	}
	may := map[gateway.Role]string{
		gateway.Writer: "put",
		gateway.Reader: "get, list",
		gateway.Vault:  "put, put a receipt, get, list, delete",
	}
	for role, allowed := range may {
		for name, act := range acts {
			for _, object := range []string{aSnapshot, "receipts/db/20260301T140500Z-0a1b2c3d"} {
				_ = r.place.Delete(t.Context(), object)
			}
			if err := put(r.place, aLog, "log"); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			err := act(r.as("who", role))
			switch ok := slices.Contains(strings.Split(allowed, ", "), name); {
			case name == "overwrite":
				if err == nil {
					t.Errorf("%s: an object was overwritten", role)
				}
			case ok != (err == nil):
				t.Errorf("%s, %s: %v", role, name, err)
			case err != nil && !errors.Is(err, location.ErrDenied) && !errors.Is(err, location.ErrName):
				t.Errorf("%s, %s: %v, want ErrDenied", role, name, err)
			}
			if got, err := get(r.place, aPack); err != nil || got != "old" {
				t.Fatalf("%s, %s: the old object is %q, %v", role, name, got, err)
			}
		}
	}
	closed := newRig(t, func(c *gateway.Config) { c.Deletes = false })
	must(t, put(closed.place, location.Marker, "{}\n"))
	must(t, put(closed.place, aPack, "old"))
	if err := closed.as("vault", gateway.Vault).Delete(t.Context(), aPack); !errors.Is(err, location.ErrDenied) {
		t.Errorf("a gateway without deletions deleted: %v", err)
	}
}

// What a writer puts is new, and a pack, a snapshot or a piece of log.
func TestWriterPuts(t *testing.T) {
	r := newRig(t, nil)
	must(t, put(r.place, location.Marker, "{}\n"))
	w := r.as("db1", gateway.Writer)
	must(t, put(w, aPack, "bytes"))
	for _, body := range []string{"bytes", "bytez", "more bytes", ""} {
		if err := put(w, aPack, body); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%q over it: %v", body, err)
		}
	}
	for _, name := range []string{location.Marker, "RECOVERY.txt", "receipts/db/x", "packs/aa/" + strings.Repeat("0", 31), "../x", "packs/0a/../../x", "snapshots/db/x", "tombstones/1", "packs/0A/0A112233445566778899AABBCCDDEEFF"} {
		if err := put(w, name, "x"); !errors.Is(err, location.ErrName) {
			t.Errorf("%q: %v, want ErrName", name, err)
		}
	}
	if err := w.Put(t.Context(), aSnapshot, gateway.MaxObject+1, strings.NewReader("")); !errors.Is(err, location.ErrSize) {
		t.Errorf("too large: %v", err)
	}
}

func TestBudget(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spent.json")
	const limit = 100 << 10
	open := func() *rig {
		b, err := gateway.NewBudget(file, limit)
		must(t, err)
		return newRig(t, func(c *gateway.Config) { c.Budget = b })
	}
	r := open()
	must(t, put(r.place, location.Marker, "{}\n"))
	pack := func(i int) string { return fmt.Sprintf("packs/0a/0a%030x", i) }
	w := r.as("db1", gateway.Writer)
	big := strings.Repeat("x", 60<<10)
	must(t, put(w, pack(1), big))
	err := put(w, pack(2), big)
	if !errors.Is(err, location.ErrFull) || !strings.Contains(err.Error(), "budget") || holdfast.Hint(err) == "" {
		t.Errorf("over the budget: %v", err)
	}
	if _, err := get(r.place, pack(2)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was stored all the same")
	}
	// Another writer has its own; the vault has none; a restart gives nothing back, nor
	// does a second certificate of the same name.
	must(t, put(r.as("db2", gateway.Writer), pack(3), big))
	for i := range 3 {
		must(t, put(r.as("vault", gateway.Vault), pack(10+i), big))
	}
	again := open()
	must(t, put(again.place, location.Marker, "{}\n"))
	if err := put(again.as("db1", gateway.Writer), pack(4), big); !errors.Is(err, location.ErrFull) {
		t.Errorf("after a restart: %v", err)
	}
	// Many small objects are counted by what they cost.
	n := 0
	for ; n < 100 && put(again.as("db3", gateway.Writer), pack(100+n), "") == nil; n++ {
	}
	if n != limit/(4<<10) {
		t.Errorf("%d empty objects were taken", n)
	}
	// Yesterday's clock gives nobody a second budget, tomorrow's does.
	again.now.Store(noon.AddDate(-1, 0, 0).Unix())
	if err := put(again.as("db1", gateway.Writer), pack(5), big); !errors.Is(err, location.ErrFull) {
		t.Errorf("a year earlier: %v", err)
	}
	again.now.Store(noon.AddDate(0, 0, 1).Unix())
	must(t, put(again.as("db1", gateway.Writer), pack(6), big))
}

func TestStrangers(t *testing.T) {
	r := newRig(t, nil)
	must(t, put(r.place, location.Marker, "{}\n"))
	must(t, put(r.place, aPack, "old"))
	other, err := seal.NewAuthority("test", time.Now())
	must(t, err)
	// Of another authority, in either direction.
	s, err := gateway.New(gateway.ClientConfig{Address: "https://" + r.addr, IdentityFile: r.identity("x", gateway.Vault, other)})
	must(t, err)
	if _, err := get(s, aPack); !errors.Is(err, location.ErrDenied) || holdfast.Hint(err) == "" {
		t.Errorf("of another authority: %v", err)
	}
	// Without a certificate, and with old TLS.
	for name, c := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true},
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
	} {
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		if res, err := hc.Get("https://" + r.addr + "/v1/objects/" + aPack + "?off=0&n=-1"); err == nil {
			res.Body.Close()
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
	}
	// What listens there is no gateway of ours, and older.
	middle := httptest.NewUnstartedServer(http.NotFoundHandler())
	middle.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	middle.StartTLS()
	t.Cleanup(middle.Close)
	s, err = gateway.New(gateway.ClientConfig{Address: middle.URL, IdentityFile: r.identity("x", gateway.Vault, r.ca)})
	must(t, err)
	if _, err := get(s, aPack); !errors.Is(err, location.ErrWeak) || !strings.Contains(err.Error(), "offers TLS 1.2") || !strings.Contains(err.Error(), middle.URL) || holdfast.Hint(err) == "" {
		t.Errorf("a server that speaks TLS 1.2: %v (hint %q)", err, holdfast.Hint(err))
	}
	// Without a role that is one.
	text, err := seal.Certify(r.ca, seal.Subject{Name: "x", Role: "root", Days: 1}, time.Now())
	must(t, err)
	path := filepath.Join(t.TempDir(), "x.pem")
	must(t, seal.WriteKeyFile(path, string(text)))
	if _, err := gateway.New(gateway.ClientConfig{Address: "https://" + r.addr, IdentityFile: path}); err == nil {
		t.Error("the role root was taken")
	}
	// Taken back while it is in use.
	file := r.identity("y", gateway.Vault, r.ca)
	s, err = gateway.New(gateway.ClientConfig{Address: "https://" + r.addr, IdentityFile: file})
	must(t, err)
	if _, err := get(s, aPack); err != nil {
		t.Fatal(err)
	}
	pem, err := seal.ReadKeyFile(file)
	must(t, err)
	who, err := seal.Certified([]byte(pem))
	must(t, err)
	r.revoked.Store(who.Serial)
	if _, err := get(s, aPack); !errors.Is(err, location.ErrDenied) || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("revoked: %v", err)
	}
	// Ended.
	old, err := seal.Certify(r.ca, seal.Subject{Name: "z", Role: string(gateway.Reader), Days: 1}, time.Now().AddDate(-1, 0, 0))
	must(t, err)
	path = filepath.Join(t.TempDir(), "z.pem")
	must(t, seal.WriteKeyFile(path, string(old)))
	s, err = gateway.New(gateway.ClientConfig{Address: "https://" + r.addr, IdentityFile: path})
	must(t, err)
	if _, err := get(s, aPack); !errors.Is(err, location.ErrDenied) {
		t.Errorf("a certificate that ended: %v", err)
	}
	// A writer's log-in, with its file, on an address that somebody else took over.
	ln, err := tls.Listen("tcp", "127.0.0.1:0", serverOf(t, other))
	must(t, err)
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); c.Close() }()
		}
	}()
	s, err = gateway.New(gateway.ClientConfig{Address: "https://" + ln.Addr().String(), IdentityFile: r.identity("w", gateway.Writer, r.ca)})
	must(t, err)
	if err := put(s, aSnapshot, "x"); !errors.Is(err, location.ErrDenied) || !strings.Contains(holdfast.Hint(err), "not the gateway") {
		t.Errorf("another server: %v (%s)", err, holdfast.Hint(err))
	}
}

func serverOf(t *testing.T, ca []byte) *tls.Config {
	t.Helper()
	text, err := seal.Certify(ca, seal.Subject{Name: "g", Hosts: []string{"127.0.0.1"}, Days: 1}, time.Now())
	must(t, err)
	c, err := seal.TLSConfig(text)
	must(t, err)
	return c
}

// raw sends bytes over TLS as a writer and returns what comes back until the end.
func (r *rig) raw(role gateway.Role, text string) *tls.Conn {
	r.t.Helper()
	pem, err := seal.ReadKeyFile(r.identity("raw", role, r.ca))
	must(r.t, err)
	c, err := seal.TLSConfig([]byte(pem))
	must(r.t, err)
	c.ServerName = "127.0.0.1"
	conn, err := tls.Dial("tcp", r.addr, c)
	must(r.t, err)
	_, err = io.WriteString(conn, text)
	must(r.t, err)
	return conn
}

// A request that breaks off in the middle, at whatever byte, leaves nothing; and one
// client that holds many open keeps no other out.
func TestHalfRequests(t *testing.T) {
	r := newRig(t, nil)
	must(t, put(r.place, location.Marker, "{}\n"))
	sum := seal.Hash([]byte("whole body"))
	text := fmt.Sprintf("PUT /v1/objects/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nHoldfast-Content-Hash: %x\r\n\r\nwhole body", aPack, sum)
	for n := 0; n < len(text); n += 7 {
		r.raw(gateway.Writer, text[:n]).Close()
	}
	if _, err := get(r.place, aPack); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("half a request stored something: %v", err)
	}
	var held []*tls.Conn
	for range gateway.MaxRequests + 5 {
		held = append(held, r.raw(gateway.Writer, text[:len(text)-3]))
	}
	must(t, put(r.as("other", gateway.Writer), aSnapshot, "x"))
	for _, c := range held {
		c.Close()
	}
	// Announced otherwise than it is.
	for name, head := range map[string]string{
		"wrong hash":    fmt.Sprintf("Content-Length: 10\r\nHoldfast-Content-Hash: %064x\r\n", 1),
		"no hash":       "Content-Length: 10\r\n",
		"no length":     fmt.Sprintf("Transfer-Encoding: chunked\r\nHoldfast-Content-Hash: %x\r\n", sum),
		"a huge length": fmt.Sprintf("Content-Length: 99999999999\r\nHoldfast-Content-Hash: %x\r\n", sum),
	} {
		c := r.raw(gateway.Writer, "PUT /v1/objects/"+aPack+" HTTP/1.1\r\nHost: x\r\n"+head+"\r\nwhole body")
		b := make([]byte, 12)
		if _, err := io.ReadFull(c, b); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 4")) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		c.Close()
	}
	if _, err := get(r.place, aPack); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was stored: %v", err)
	}
	must(t, put(r.as("other", gateway.Writer), aPack, "whole body"))
}

// What a killed machine left half-written behind the gateway goes once it is old; what is
// young may be a put that goes on.
func TestGatewayTidies(t *testing.T) {
	var at string
	r := newRig(t, func(cfg *gateway.Config) {
		at = t.TempDir()
		d, err := dir.New(at)
		must(t, err)
		must(t, put(d, location.Marker, "{}"))
		must(t, os.MkdirAll(filepath.Join(at, "packs", "aa"), 0o700))
		old := noon.Add(-repo.GarbageWait - time.Hour)
		for name, changed := range map[string]time.Time{"1": old, "2": noon.Add(-time.Hour)} {
			file := filepath.Join(at, "packs", "aa", ".holdfast-tmp-"+name)
			must(t, os.WriteFile(file, []byte("half"), 0o600))
			must(t, os.Chtimes(file, changed, changed))
		}
		cfg.Place = d
	})
	for deadline := time.Now().Add(time.Minute); ; { // until the gateway came to it
		_, err := os.Stat(filepath.Join(at, "packs", "aa", ".holdfast-tmp-"+"1"))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if must(t, err); time.Now().After(deadline) {
			t.Fatal("an old half-written file stays")
		}
		runtime.Gosched()
	}
	if _, err := os.Stat(filepath.Join(at, "packs", "aa", ".holdfast-tmp-"+"2")); err != nil {
		t.Error("a young one is gone: ", err)
	}
	if _, err := get(r.as("vault", gateway.Vault), location.Marker); err != nil {
		t.Error(err)
	}
}
