package dir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/durable/durabletest"
	"holdfast/internal/location"
	"holdfast/internal/location/dir"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/repo"
)

func open(t *testing.T, path string) *dir.Store {
	t.Helper()
	s, err := dir.New(path)
	if err != nil {
		t.Fatal(err)
	}
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

func count(t *testing.T, s repo.Store) (n int) {
	t.Helper()
	if err := s.List(t.Context(), "", func(repo.Object) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	locationtest.Run(t, func(t *testing.T) repo.Store { return open(t, t.TempDir()) })
}

func TestContractInMemory(t *testing.T) {
	locationtest.Run(t, func(t *testing.T) repo.Store { return dir.NewOn(durabletest.New()) })
}

const packName = "packs/ab/ab00"

var pack = strings.Repeat("sealed ", 500)

func prepare(t *testing.T) func(*durabletest.FS) {
	return func(f *durabletest.FS) { must(t, put(dir.NewOn(f), location.Marker, "{}")) }
}

func TestPutSurvivesEveryCrash(t *testing.T) {
	durabletest.EveryCrash(t, prepare(t),
		func(f *durabletest.FS) error { return put(dir.NewOn(f), packName, pack) },
		func(t *testing.T, f *durabletest.FS, acknowledged bool) {
			s := dir.NewOn(f)
			got, err := get(s, packName)
			switch {
			case errors.Is(err, fs.ErrNotExist) && !acknowledged:
				got = ""
			case err != nil || got != pack:
				t.Errorf("acknowledged %t: %d bytes, %v", acknowledged, len(got), err)
			}
			if n := count(t, s); got == "" && n != 1 || got != "" && n != 2 {
				t.Errorf("%d objects listed", n)
			}
			// The machine comes back and the writer tries again.
			if err := put(s, packName, pack); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("retry: %v", err)
			}
			f.Crash(0)
			if got, err := get(s, packName); err != nil || got != pack {
				t.Errorf("after the retry: %d bytes, %v", len(got), err)
			}
			if _, err := s.RemoveTemps(t.Context(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
				t.Error(err)
			}
			entries, err := f.ReadDir("/packs/ab")
			if err != nil || len(entries) != 1 {
				t.Errorf("%d files left after cleaning, %v", len(entries), err)
			}
		})
}

func TestPutReportsEveryFault(t *testing.T) {
	hidden := 0
	durabletest.EveryFault(t, prepare(t),
		func(f *durabletest.FS) error { return put(dir.NewOn(f), packName, pack) },
		func(t *testing.T, f *durabletest.FS, err error) {
			s := dir.NewOn(f)
			if err == nil { // the look before writing and the temporary file's removal change nothing
				hidden++
				if got, err := get(s, packName); err != nil || got != pack {
					t.Errorf("acknowledged: %d bytes, %v", len(got), err)
				}
			}
			if got, err := get(s, packName); err == nil && got != pack || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := put(s, packName, pack); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("retry: %v", err)
			}
			f.Crash(0)
			if got, err := get(s, packName); err != nil || got != pack {
				t.Errorf("after the retry: %d bytes, %v", len(got), err)
			}
		})
	if hidden > 6 {
		t.Errorf("%d faults were hidden", hidden)
	}
}

// A listing that meets an error is never a short success.
func TestListReportsEveryFault(t *testing.T) {
	durabletest.EveryFault(t,
		func(f *durabletest.FS) {
			prepare(t)(f)
			for i := range 5 {
				must(t, put(dir.NewOn(f), fmt.Sprintf("packs/%02d/x", i), pack))
			}
		},
		func(f *durabletest.FS) error {
			return dir.NewOn(f).List(t.Context(), "packs/", func(repo.Object) error { return nil })
		},
		func(t *testing.T, f *durabletest.FS, err error) {
			if err == nil {
				t.Error("fault was hidden")
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("an error reads as absence: %v", err)
			}
		})
}

func TestVanishedPlaceIsUnreachable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	must(t, dir.Make(path))
	s := open(t, path)
	must(t, put(s, location.Marker, "{repository 1}"))
	must(t, put(s, packName, pack))

	check := func(what string) {
		t.Helper()
		_, gerr := s.Get(t.Context(), packName, 0, -1)
		for verb, err := range map[string]error{
			"put": put(s, "packs/cd/1", "x"), "get": gerr, "delete": s.Delete(t.Context(), packName),
			"list": s.List(t.Context(), "", func(repo.Object) error { return nil }),
		} {
			if !errors.Is(err, location.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) || holdfast.Hint(err) == "" {
				t.Errorf("%s: %s: %v, want unreachable with a hint, not fs.ErrNotExist", what, verb, err)
			}
		}
	}
	must(t, os.Rename(path, path+".away"))
	check("moved away")
	must(t, os.Mkdir(path, 0o700))
	check("empty mount point")
	must(t, os.WriteFile(filepath.Join(path, location.Marker), []byte("{repository 2}"), 0o600))
	check("another repository")
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
		t.Errorf("something was written into the wrong place: %v, %v", entries, err)
	}
	must(t, os.RemoveAll(path))
	must(t, os.Rename(path+".away", path))
	must(t, put(s, "packs/cd/1", "x")) // it came back
	if got, err := get(s, packName); err != nil || got != pack {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestNoLinkLeadsOut(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	path := t.TempDir()
	s := open(t, path)
	must(t, put(s, location.Marker, "{}"))
	must(t, os.Symlink(outside, filepath.Join(path, "packs")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(path, "logs")))
	if err := put(s, "packs/x", "x"); err == nil {
		t.Error("wrote through a link")
	}
	if got, err := get(s, "packs/secret"); err == nil {
		t.Errorf("read %q through a link", got)
	}
	if got, err := get(s, "logs"); err == nil {
		t.Errorf("read %q through a link", got)
	}
	if err := s.Delete(t.Context(), "packs/secret"); err == nil {
		t.Error("deleted through a link")
	}
	if err := s.List(t.Context(), "", func(repo.Object) error { return nil }); err == nil {
		t.Error("a link in place of objects was left out of the listing without a word")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestForeignFilesAreNotObjects(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	must(t, put(s, location.Marker, "{}"))
	must(t, os.Mkdir(filepath.Join(path, "lost+found"), 0))
	must(t, os.Mkdir(filepath.Join(path, ".snapshot"), 0))
	must(t, os.WriteFile(filepath.Join(path, ".DS_Store"), nil, 0o600))
	if n := count(t, s); n != 1 {
		t.Errorf("%d objects", n)
	}
	must(t, syscall.Mkfifo(filepath.Join(path, "fifo"), 0o600))
	if _, err := get(s, "fifo"); err == nil { // and it does not wait for a writer
		t.Error("read a fifo")
	}
}

func TestTruncatedObject(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, packName, pack))
	r, err := s.Get(t.Context(), packName, 0, int64(len(pack)))
	must(t, err)
	defer r.Close()
	must(t, os.Truncate(filepath.Join(path, packName), 100))
	if b, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
}

// A real file system of one megabyte.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root")
	}
	path := t.TempDir()
	must(t, syscall.Mount("holdfast-test", path, "tmpfs", 0, options))
	t.Cleanup(func() {
		if err := syscall.Unmount(path, 0); err != nil {
			t.Errorf("the location keeps the disk busy: %v", err)
		}
	})
	return path
}

func TestFullDisk(t *testing.T) {
	for name, options := range map[string]string{"bytes": "size=1m", "names": "size=1m,nr_inodes=6"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, smallDisk(t, options))
			must(t, put(s, location.Marker, "{}"))
			must(t, put(s, "packs/aa/kept", "kept"))
			var err error
			stored := 0
			for ; err == nil && stored < 100; stored++ {
				err = s.Put(t.Context(), fmt.Sprintf("packs/aa/%d", stored), 100_000, bytes.NewReader(make([]byte, 100_000)))
			}
			stored--
			if !errors.Is(err, location.ErrFull) || !errors.Is(err, syscall.ENOSPC) || holdfast.Hint(err) == "" {
				t.Fatalf("got %v, want full with a hint", err)
			}
			if n := count(t, s); n != stored+2 {
				t.Errorf("%d objects listed, want %d", n, stored+2)
			}
			if got, err := get(s, "packs/aa/kept"); err != nil || got != "kept" {
				t.Errorf("%q, %v", got, err)
			}
			entries, err := os.ReadDir(filepath.Join(s.Path(), "packs", "aa"))
			if err != nil || len(entries) != stored+1 {
				t.Errorf("%d files, want %d: a refused object takes up space; %v", len(entries), stored+1, err)
			}
			if stored > 0 { // space that is freed is used
				must(t, s.Delete(t.Context(), "packs/aa/0"))
				must(t, put(s, "packs/aa/again", "x"))
			}
		})
	}
}

func TestReadOnlyDisk(t *testing.T) {
	path := smallDisk(t, "size=1m")
	s := open(t, path)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, packName, pack))
	must(t, syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	if err := put(s, "packs/ab/2", "x"); !errors.Is(err, location.ErrReadOnly) || holdfast.Hint(err) == "" {
		t.Errorf("got %v, want read-only with a hint", err)
	}
	if got, err := get(s, packName); err != nil || got != pack {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Rights do not bind root, so another user tries.
func TestDenied(t *testing.T) {
	if os.Getenv("DIR_TEST_DENIED") != "" {
		s := open(t, os.Getenv("DIR_TEST_DENIED"))
		if err := put(s, "packs/ab/2", "x"); !errors.Is(err, location.ErrDenied) || holdfast.Hint(err) == "" {
			t.Errorf("got %v, want denied with a hint", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test becomes another user and needs root")
	}
	parent, err := os.MkdirTemp("", "holdfast-dir-test") // t.TempDir is closed to others
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	must(t, os.Chmod(parent, 0o755))
	exe, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(parent, "test"), exe, 0o755))
	path := filepath.Join(parent, "disk")
	must(t, os.Mkdir(path, 0o755))
	s := open(t, path)
	must(t, put(s, location.Marker, "{}"))
	must(t, os.Chmod(filepath.Join(path, location.Marker), 0o644))
	cmd := exec.Command(filepath.Join(parent, "test"), "-test.run=^TestDenied$")
	cmd.Env = []string{"DIR_TEST_DENIED=" + path}
	cmd.Dir = parent
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestErrorsOfTheSourceAreNotOfTheLocation(t *testing.T) {
	s := open(t, t.TempDir())
	must(t, put(s, location.Marker, "{}"))
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO, fs.ErrPermission, fs.ErrExist} {
		err := s.Put(t.Context(), packName, 1, errReader{cause})
		if errors.Is(err, cause) == (cause == fs.ErrExist) || errors.Is(err, location.ErrFull) || errors.Is(err, location.ErrUnreachable) || errors.Is(err, location.ErrDenied) {
			t.Errorf("%v", err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestRootRefusesToLeave(t *testing.T) {
	r, err := durable.OpenRoot(t.TempDir())
	must(t, err)
	defer r.Close()
	if _, err := r.OpenFile("../x", os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		t.Error("left the directory")
	}
	must(t, durable.WriteFile(r, "a", []byte("a"), 0o600))
	must(t, durable.WriteFile(r, "b", []byte("b"), 0o600))
	if err := r.RenameNew("a", "b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	must(t, r.RenameNew("a", "c"))
}
