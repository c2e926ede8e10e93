package location_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/location/dir"
	"holdfast/internal/location/gateway"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/s3"
	"holdfast/internal/location/sftp"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// A spot is one new, empty place of a kind, with all that can go wrong at it.
type spot struct {
	open   func() repo.Store  // a client that goes through line, faulty and unruly
	honest func() repo.Store  // one that goes past them
	line   *locationtest.Line // nil where there is no socket
	faulty *repotest.Faulty   // nearest to the place that the kind allows
	unruly *repotest.Unruly   // below it
	revoke func(revoked bool) // takes the client's right to write away, and gives it back
}

// A kind of place. Its spots share a server and a small disk.
type kind struct {
	name string
	disk string
	spot func(t *testing.T) *spot
}

// diskSize is small enough to be filled in a moment.
const diskSize = 48 << 20

// disk is a file system of its own that is gone with the test.
func disk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts small disks: run it as root")
	}
	at := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(at, 0o700))
	must(t, syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)))
	t.Cleanup(func() { must(t, syscall.Unmount(at, syscall.MNT_DETACH)) })
	return at
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wrapped puts a spot's faults on a store.
func (s *spot) wrapped(st repo.Store) repo.Store {
	s.unruly.Store = st
	return s.faulty
}

func newSpot() *spot {
	u := &repotest.Unruly{}
	return &spot{unruly: u, faulty: &repotest.Faulty{Store: u}}
}

func folder(t *testing.T, disk string) string {
	t.Helper()
	at, err := os.MkdirTemp(disk, "place-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(at)) })
	return at
}

// A directory has no socket: its faults sit on its store. Its right to write is that of
// the mount.
func directories(t *testing.T) kind {
	d := disk(t)
	return kind{"directory", d, func(t *testing.T) *spot {
		at, s := folder(t, d), newSpot()
		plain := func() repo.Store {
			st, err := dir.New(at)
			must(t, err)
			return st
		}
		s.open, s.honest = func() repo.Store { return s.wrapped(plain()) }, plain
		s.revoke = func(revoked bool) {
			flags := uintptr(syscall.MS_REMOUNT)
			if revoked {
				flags |= syscall.MS_RDONLY
			}
			must(t, syscall.Mount("", d, "", flags, fmt.Sprintf("size=%d", diskSize)))
		}
		return s
	}}
}

// An object store is versitygw, behind a line. Its credentials are taken away by putting
// others, which the server does not know, into their file.
func objectStores(t *testing.T) kind {
	d := disk(t)
	server := locationtest.StartS3(t, locationtest.WithDir(filepath.Join(d, "buckets")))
	at, err := url.Parse(server.URL)
	must(t, err)
	n := 0
	return kind{"S3", d, func(t *testing.T) *spot {
		n++
		s := newSpot()
		s.line = locationtest.NewLine(t, at.Host)
		credentials := func(secret string) string {
			return fmt.Sprintf("access_key_id = %s\nsecret_access_key = %s\n", server.Access, secret)
		}
		file := func() string { return filepath.Join(t.TempDir(), "credentials") }
		cfg := s3.Config{Endpoint: server.URL, Insecure: true, Bucket: fmt.Sprintf("bucket-%d", n), CredentialsFile: file()}
		must(t, os.WriteFile(cfg.CredentialsFile, []byte(credentials(server.Secret)), 0o600))
		must(t, s3.MakeBucket(t.Context(), cfg, false))
		t.Cleanup(func() { must(t, os.RemoveAll(filepath.Join(server.Dir, cfg.Bucket))) })
		client := func(cfg s3.Config) repo.Store {
			st, err := s3.New(cfg)
			must(t, err)
			t.Cleanup(st.Close)
			return st
		}
		faced := cfg
		faced.Endpoint, faced.CredentialsFile = "http://"+s.line.Addr, file()
		must(t, os.WriteFile(faced.CredentialsFile, []byte(credentials(server.Secret)), 0o600))
		s.open, s.honest = func() repo.Store { return s.wrapped(client(faced)) }, func() repo.Store { return client(cfg) }
		s.revoke = func(revoked bool) {
			secret := server.Secret
			if revoked {
				secret = "revoked"
			}
			// A new file each time: it is read again when it is another one.
			next := faced.CredentialsFile + ".next"
			must(t, os.WriteFile(next, []byte(credentials(secret)), 0o600))
			must(t, os.Rename(next, faced.CredentialsFile))
		}
		return s
	}}
}

// A folder of another machine is behind OpenSSH and a line. Its log-in is taken away as
// an administrator does it: out of authorized_keys, and the sessions ended.
func foreignFolders(t *testing.T) kind {
	server := locationtest.StartSFTP(t)
	d := disk(t)
	return kind{"SFTP", d, func(t *testing.T) *spot {
		at, s := folder(t, d), newSpot()
		s.line = locationtest.NewLine(t, server.Addr)
		client := func() repo.Store {
			st, err := sftp.New(sftp.Config{Addr: s.line.Addr, User: server.User, KeyFile: server.KeyFile, HostKey: server.HostKey, Path: at})
			must(t, err)
			t.Cleanup(st.Close)
			return st
		}
		s.open = func() repo.Store { return s.wrapped(client()) }
		s.honest = func() repo.Store { // the same folder, without the log-in
			st, err := dir.New(at)
			must(t, err)
			return st
		}
		s.revoke = func(revoked bool) {
			keys := filepath.Join(server.Work, "authorized_keys")
			if revoked {
				must(t, os.Rename(keys, keys+".revoked"))
				s.line.Cut(0, -1, false) // as kill ends a session
				return
			}
			must(t, os.Rename(keys+".revoked", keys))
		}
		return s
	}}
}

// A gateway guards a directory. What goes wrong at the directory goes wrong behind it,
// and travels over its protocol.
func gateways(t *testing.T) kind {
	d := disk(t)
	ca, err := seal.NewAuthority("test", time.Now())
	must(t, err)
	identity, err := seal.Certify(ca, seal.Subject{Name: "gateway", Hosts: []string{"127.0.0.1"}, Days: 1}, time.Now())
	must(t, err)
	vault, err := seal.Certify(ca, seal.Subject{Name: "vault", Role: string(gateway.Vault), Days: 1}, time.Now())
	must(t, err)
	file := filepath.Join(t.TempDir(), "vault.pem")
	must(t, seal.WriteKeyFile(file, string(vault)))
	return kind{"gateway", d, func(t *testing.T) *spot {
		at, s := folder(t, d), newSpot()
		place, err := dir.New(at)
		must(t, err)
		var revoked atomic.Bool
		serve := func(cfg gateway.Config) string {
			cfg.Deletes, cfg.Log, cfg.Clock = true, slog.New(slog.DiscardHandler), time.Now
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- gateway.Serve(ctx, ln, identity, cfg) }()
			t.Cleanup(func() {
				cancel()
				must(t, <-ended)
			})
			return ln.Addr().String()
		}
		s.line = locationtest.NewLine(t, serve(gateway.Config{Place: s.wrapped(place), Revoked: func(string) (bool, error) { return revoked.Load(), nil }}))
		s.open = func() repo.Store {
			st, err := gateway.New(gateway.ClientConfig{Address: "https://" + s.line.Addr, IdentityFile: file})
			must(t, err)
			t.Cleanup(func() { must(t, st.Close()) })
			return st
		}
		s.honest = func() repo.Store { return place }
		s.revoke = func(yes bool) { revoked.Store(yes) }
		return s
	}}
}

// fill leaves so many bytes free on a kind's disk, and returns what gives the rest back.
func (k kind) fill(t *testing.T, leave int64) (free func()) {
	t.Helper()
	ballast, err := os.CreateTemp(k.disk, ".ballast-")
	must(t, err)
	defer ballast.Close()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(k.disk, &st))
	if take := int64(st.Bavail)*st.Bsize - leave; take > 0 {
		must(t, syscall.Fallocate(int(ballast.Fd()), 0, 0, take))
	}
	return func() { must(t, os.Remove(ballast.Name())) }
}

// copyAll fills a spot with the objects of a store.
func (s *spot) copyAll(t *testing.T, from *repotest.Memory) {
	t.Helper()
	st := s.honest()
	names := from.Names()
	// The marker first: without it a place takes nothing.
	for _, marker := range []bool{true, false} {
		for _, name := range names {
			if (name == "holdfast-repository") == marker {
				b := from.Bytes(name)
				if err := st.Put(t.Context(), name, int64(len(b)), bytes.NewReader(b)); err != nil && !errors.Is(err, os.ErrExist) {
					t.Fatal(err)
				}
			}
		}
	}
}
