package sftp_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
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
