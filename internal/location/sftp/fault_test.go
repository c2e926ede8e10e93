package sftp_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/sftp"
	"holdfast/internal/repo"
)

// Wherever the connection breaks, a put ends with the whole object there once, and
// says so; or, where another one was first, with fs.ErrExist.
func TestPutWhereverTheConnectionBreaks(t *testing.T) {
	server := locationtest.StartSFTP(t)
	cfg := config(t, server)
	cfg.KnownHosts, cfg.HostKey = "", server.HostKey // the cutter has another address
	must(t, put(open(t, cfg), location.Marker, "{}"))
	body := strings.Repeat("sealed ", 10_000)
	n := 0
	try := func(fromClient, fromServer int64) {
		n++
		name := "packs/aa/" + string(rune('a'+n/26)) + string(rune('a'+n%26))
		cut, line := cfg, locationtest.NewLine(t, server.Addr)
		cut.Addr = line.Addr
		line.Cut(fromClient, fromServer, false)
		if err := put(open(t, cut), name, body); err != nil {
			// A break before anybody logged in is told, and nothing is there.
			if !errors.Is(err, location.ErrUnreachable) {
				t.Errorf("cut after %d and %d bytes: %v", fromClient, fromServer, err)
			}
			if _, gerr := get(open(t, cfg), name); !errors.Is(gerr, fs.ErrNotExist) {
				t.Errorf("cut after %d and %d bytes: %v, and then get says %v", fromClient, fromServer, err, gerr)
			}
			return
		}
		if got, err := get(open(t, cfg), name); err != nil || got != body {
			t.Errorf("cut after %d and %d bytes: %d of %d bytes, %v", fromClient, fromServer, len(got), len(body), err)
		}
		line.Cut(fromClient, fromServer, false)
		if err := put(open(t, cut), name, "another"); !errors.Is(err, fs.ErrExist) && !errors.Is(err, location.ErrUnreachable) {
			t.Errorf("cut after %d and %d bytes: another content: %v", fromClient, fromServer, err)
		}
	}
	for at := int64(500); at < 80_000; at = at*5/4 + 100 {
		try(at, -1)
	}
	for at := int64(1500); at < 6000; at += 250 { // the answers: the last ones are those to link and sync
		try(-1, at)
	}
}

// A full disk and a read-only one are told as what they are.
func TestFullAndReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small disk: run it as root")
	}
	server := locationtest.StartSFTP(t)
	cfg := config(t, server)
	must(t, syscall.Mount("tmpfs", cfg.Path, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, syscall.Unmount(cfg.Path, syscall.MNT_DETACH)) })
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	if err := put(s, "packs/aa/1", strings.Repeat("x", 2<<20)); !errors.Is(err, location.ErrFull) || holdfast.Hint(err) == "" {
		t.Errorf("full: %v", err)
	}
	if _, err := get(s, "packs/aa/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the disk was full: %v", err)
	}
	if found, err := filepath.Glob(filepath.Join(cfg.Path, "packs", "aa", ".*")); err != nil || len(found) > 0 {
		t.Errorf("left %q, %v", found, err)
	}
	must(t, put(s, "packs/aa/1", "small"))
	must(t, syscall.Mount("", cfg.Path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	if err := put(s, "packs/aa/2", "small"); !errors.Is(err, location.ErrReadOnly) || holdfast.Hint(err) == "" {
		t.Errorf("read-only: %v", err)
	}
}

// A client that is killed in the middle of a put leaves a file that is no object: it is
// neither listed nor called a stranger, the object can be put again, and cleaning takes
// it once it is old. All of it where the server links, and where it can only rename.
func TestPutOfAKilledClient(t *testing.T) {
	server := locationtest.StartSFTP(t)
	for _, links := range []bool{true, false} {
		cfg := config(t, server)
		cfg.KnownHosts, cfg.HostKey = "", server.HostKey // the line has another address
		if !links {
			cfg = sftp.WithoutLinks(cfg)
		}
		must(t, put(open(t, cfg), location.Marker, "{}"))
		line := locationtest.NewLine(t, server.Addr)
		killed, name, body := cfg, "packs/aa/1", strings.Repeat("sealed ", 20_000)
		killed.Addr = line.Addr
		line.Cut(60_000, -1, true) // nobody is there any more to clean up
		if err := put(open(t, killed), name, body); !errors.Is(err, location.ErrUnreachable) {
			t.Fatalf("links %t: %v, want ErrUnreachable", links, err)
		}
		s := open(t, cfg)
		left := func() []string {
			found, err := filepath.Glob(filepath.Join(cfg.Path, "packs", "aa", ".holdfast-tmp-*"))
			must(t, err)
			return found
		}
		if len(left()) == 0 {
			t.Fatalf("links %t: the kill came too early or too late: nothing was left", links)
		}
		seen := func(o repo.Object) error {
			if o.Name != location.Marker {
				t.Errorf("links %t: %q is shown", links, o.Name)
			}
			return nil
		}
		must(t, errors.Join(s.List(t.Context(), "", seen), s.Strays(t.Context(), seen)))
		must(t, put(s, name, body))
		// A writer that goes on is younger than any instant that a cleaner chooses.
		if n, err := s.RemoveTemps(t.Context(), time.Now().Add(-time.Hour)); err != nil || n != 0 {
			t.Errorf("links %t: young files: %d, %v", links, n, err)
		}
		old := time.Now().Add(-2 * repo.GarbageWait)
		for _, f := range left() {
			must(t, os.Chtimes(f, old, old))
		}
		if n, err := repo.RemoveTemps(t.Context(), s, time.Now().Add(-repo.GarbageWait)); err != nil || n == 0 || len(left()) > 0 {
			t.Errorf("links %t: old files: %d, %v, left %q", links, n, err, left())
		}
		if got, err := get(s, name); err != nil || got != body {
			t.Errorf("links %t: the object: %d bytes, %v", links, len(got), err)
		}
	}
}
