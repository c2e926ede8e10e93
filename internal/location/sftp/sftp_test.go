package sftp_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/sftp"
	"holdfast/internal/repo"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is a place in a new folder of a server.
func config(t *testing.T, server *locationtest.SFTP) sftp.Config {
	t.Helper()
	dir, err := os.MkdirTemp(server.Dir, "place-")
	must(t, err)
	return sftp.Config{Addr: server.Addr, User: server.User, Path: dir, KeyFile: server.KeyFile, KnownHosts: server.KnownHosts}
}

func open(t *testing.T, cfg sftp.Config) *sftp.Store {
	t.Helper()
	s, err := sftp.New(cfg)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func put(s repo.Store, name, body string) error {
	return s.Put(context.Background(), name, int64(len(body)), strings.NewReader(body))
}

func get(s repo.Store, name string) (string, error) {
	r, err := s.Get(context.Background(), name, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestContract(t *testing.T) {
	server := locationtest.StartSFTP(t)
	locationtest.Run(t, func(t *testing.T) repo.Store { return open(t, config(t, server)) })
}

// OpenSSH keeps the protocol's rule that a rename never replaces a file, also when
// many race for a name.
func TestContractByRename(t *testing.T) {
	server := locationtest.StartSFTP(t)
	locationtest.Run(t, func(t *testing.T) repo.Store { return open(t, sftp.WithoutLinks(config(t, server))) })
}

// Only a known server is talked to.
func TestHostKeyIsPinned(t *testing.T) {
	server := locationtest.StartSFTP(t)
	base := config(t, server)
	other := locationtest.StartSFTP(t)
	empty := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(empty, nil, 0o600))
	for _, tc := range []struct {
		name, known, fingerprint string
		ok                       bool
	}{
		{"known hosts", server.KnownHosts, "", true},
		{"fingerprint", "", server.HostKey, true},
		{"fingerprint of the other key", "", server.RSAHostKey, true},
		{"another fingerprint", "", other.HostKey, false},
		{"known hosts of others", other.KnownHosts, "", false},
		{"no known hosts", empty, "", false},
		{"known hosts are missing", empty + "-missing", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := base
			cfg.KnownHosts, cfg.HostKey = tc.known, tc.fingerprint
			_, err := get(open(t, cfg), location.Marker)
			if tc.ok && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("not let in: %v", err)
			}
			if !tc.ok && (!errors.Is(err, location.ErrDenied) || errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "") {
				t.Errorf("talked to a stranger: %v (hint %q)", err, holdfast.Hint(err))
			}
		})
	}
	cfg := base
	cfg.KnownHosts = ""
	if _, err := sftp.New(cfg); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("without a host key: %v", err)
	}
}

// Nothing is sent over what SSH had twenty years ago, and the line says what was agreed.
func TestTheLine(t *testing.T) {
	for _, weak := range []string{"Ciphers aes128-cbc", "MACs hmac-sha1\nCiphers aes128-ctr", "KexAlgorithms diffie-hellman-group14-sha1"} {
		old := config(t, locationtest.StartSFTP(t, weak))
		_, err := get(open(t, old), location.Marker)
		if !errors.Is(err, location.ErrWeak) || !strings.Contains(err.Error(), strings.Fields(weak)[1]) || !strings.Contains(err.Error(), old.Addr) || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v (hint %q)", weak, err, holdfast.Hint(err))
		}
	}
	s := open(t, config(t, locationtest.StartSFTP(t, "Ciphers aes256-gcm@openssh.com")))
	must(t, s.Make(t.Context()))
	must(t, put(s, location.Marker, "{}"))
	if l := s.Line(); l != (location.Line{Protocol: "SSH 2.0", Cipher: "aes256-gcm@openssh.com"}) {
		t.Errorf("the line is %v", l)
	}
}

func TestLogInIsRefused(t *testing.T) {
	server := locationtest.StartSFTP(t)
	stranger := locationtest.StartSFTP(t)
	cfg := config(t, server)
	cfg.KeyFile = stranger.KeyFile
	if err := put(open(t, cfg), location.Marker, "{}"); !errors.Is(err, location.ErrDenied) || !strings.Contains(holdfast.Hint(err), "authorized_keys") {
		t.Errorf("with another's key: %v (hint %q)", err, holdfast.Hint(err))
	}
	cfg.KeyFile = server.KeyFile
	must(t, os.Chmod(cfg.KeyFile, 0o644))
	if err := put(open(t, cfg), location.Marker, "{}"); !errors.Is(err, location.ErrDenied) || !strings.Contains(holdfast.Hint(err), "chmod 600") {
		t.Errorf("with a key that everybody reads: %v (hint %q)", err, holdfast.Hint(err))
	}
}

// A connection that ends between two calls is made anew.
func TestReconnect(t *testing.T) {
	server := locationtest.StartSFTP(t)
	s := open(t, config(t, server))
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "one"))
	server.Drop(t)
	if got, err := get(s, "packs/aa/1"); err != nil || got != "one" {
		t.Errorf("get: %q, %v", got, err)
	}
	server.Drop(t)
	if err := put(s, "packs/aa/2", "two"); err != nil {
		t.Errorf("put: %v", err)
	}
	server.Drop(t)
	if err := s.Delete(t.Context(), "packs/aa/2"); err != nil {
		t.Errorf("delete: %v", err)
	}
	server.Drop(t)
	n := 0
	if err := s.List(t.Context(), "", func(repo.Object) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("list: %d objects, %v", n, err)
	}
}

// A server that takes connections and does not answer ends no run: every call fails
// within its time.
func TestAFrozenServerIsUnreachable(t *testing.T) {
	server := locationtest.StartSFTP(t)
	cfg := config(t, server)
	must(t, put(open(t, cfg), location.Marker, "{}"))
	cfg.Timeout = 3 * time.Second
	warm := open(t, cfg)
	must(t, put(warm, "packs/aa/1", "one"))
	server.Stop(t)
	var all sync.WaitGroup
	for name, s := range map[string]*sftp.Store{"connected": warm, "new": open(t, cfg)} {
		calls := map[string]func() error{
			"put":    func() error { return put(s, "packs/aa/2", "two") },
			"get":    func() error { _, err := get(s, "packs/aa/1"); return err },
			"list":   func() error { return s.List(t.Context(), "", func(repo.Object) error { return nil }) },
			"delete": func() error { return s.Delete(t.Context(), "packs/aa/1") },
		}
		for verb, call := range calls {
			all.Go(func() {
				if err := call(); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s, %s: %v", name, verb, err)
				}
			})
		}
	}
	all.Wait()
}

func TestAServerThatIsAwayIsUnreachable(t *testing.T) {
	server := locationtest.StartSFTP(t)
	s := open(t, config(t, server))
	must(t, put(s, location.Marker, "{}"))
	server.Kill(t)
	if err := put(s, "packs/aa/1", "one"); !errors.Is(err, location.ErrUnreachable) || holdfast.Hint(err) == "" {
		t.Errorf("put: %v", err)
	}
	if _, err := get(s, "packs/aa/1"); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v", err)
	}
}

func TestAnotherRepositoryIsRefused(t *testing.T) {
	server := locationtest.StartSFTP(t)
	cfg := config(t, server)
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "one"))
	must(t, os.WriteFile(filepath.Join(cfg.Path, location.Marker), []byte("{\"other\": 1}"), 0o600))
	if err := s.List(t.Context(), "", func(repo.Object) error { return nil }); !errors.Is(err, location.ErrUnreachable) {
		t.Errorf("list: %v", err)
	}
	must(t, os.RemoveAll(cfg.Path))
	if _, err := get(s, "packs/aa/1"); !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get after the folder went away: %v", err)
	}
	if err := put(open(t, cfg), location.Marker, "{}"); err == nil {
		t.Error("the folder of a place that went away was made again by a put")
	}
}

// What crashed writers leave is no object, and can be cleaned.
func TestRemoveTemps(t *testing.T) {
	cfg := config(t, locationtest.StartSFTP(t))
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "one"))
	left := filepath.Join(cfg.Path, "packs", "aa", ".holdfast-tmp-0011223344556677")
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	if n, err := s.RemoveTemps(t.Context(), time.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("a young file: %d, %v", n, err)
	}
	if n, err := s.RemoveTemps(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("an old file: %d, %v", n, err)
	}
	if got, err := get(s, "packs/aa/1"); err != nil || got != "one" {
		t.Errorf("got %q, %v", got, err)
	}
}

// The server says how much room its disk has.
func TestSpace(t *testing.T) {
	server := locationtest.StartSFTP(t)
	cfg := config(t, server)
	got, err := open(t, cfg).Space(t.Context())
	must(t, err)
	total, _, err := durable.Room(cfg.Path)
	must(t, err)
	// Others write to the disk meanwhile: what is free is not compared, nor is the total to the byte.
	if diff := float64(got.Total) / float64(total); got.Free <= 0 || got.Free > got.Total || diff < 0.99 || diff > 1.01 {
		t.Errorf("%d of %d bytes are free, want about %d in all", got.Free, got.Total, total)
	}
}
