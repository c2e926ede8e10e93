package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/durable/durabletest"
)

var (
	oldText = bytes.Repeat([]byte("old "), 1000)
	newText = bytes.Repeat([]byte("new! "), 1300)
)

func read(t *testing.T, fsys durable.FS, name string) []byte {
	t.Helper()
	b, err := durable.ReadFile(fsys, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prepare(t *testing.T) func(*durabletest.FS) {
	return func(f *durabletest.FS) {
		must(t, durable.MkdirAll(f, "/d/e", 0o700))
		must(t, durable.WriteFile(f, "/d/e/state", oldText, 0o600))
	}
}

func TestWriteFileSurvivesEveryCrash(t *testing.T) {
	durabletest.EveryCrash(t, prepare(t),
		func(f *durabletest.FS) error { return durable.WriteFile(f, "/d/e/state", newText, 0o600) },
		func(t *testing.T, f *durabletest.FS, acknowledged bool) {
			got := read(t, f, "/d/e/state")
			isNew := bytes.Equal(got, newText)
			if !isNew && (acknowledged || !bytes.Equal(got, oldText)) {
				t.Errorf("acknowledged %t, found %d bytes", acknowledged, len(got))
			}
		})
}

func TestWriteFileReportsEveryFault(t *testing.T) {
	durabletest.EveryFault(t, prepare(t),
		func(f *durabletest.FS) error { return durable.WriteFile(f, "/d/e/state", newText, 0o600) },
		func(t *testing.T, f *durabletest.FS, err error) {
			if err == nil {
				t.Error("fault was hidden")
			}
			if got := read(t, f, "/d/e/state"); !bytes.Equal(got, oldText) && !bytes.Equal(got, newText) {
				t.Errorf("found %d bytes, neither old nor new", len(got))
			}
			must(t, durable.WriteFile(f, "/d/e/state", newText, 0o600))
			f.Crash(0)
			if !bytes.Equal(read(t, f, "/d/e/state"), newText) {
				t.Error("the retry did not converge")
			}
		})
}

func TestCreateSurvivesEveryCrash(t *testing.T) {
	durabletest.EveryCrash(t, prepare(t),
		func(f *durabletest.FS) error {
			return durable.Create(f, "/d/e/object", bytes.NewReader(newText), 0o600)
		},
		func(t *testing.T, f *durabletest.FS, acknowledged bool) {
			got := read(t, f, "/d/e/object")
			if acknowledged && got == nil || got != nil && !bytes.Equal(got, newText) {
				t.Errorf("acknowledged %t, found %d bytes", acknowledged, len(got))
			}
			if !bytes.Equal(read(t, f, "/d/e/state"), oldText) {
				t.Error("another file changed")
			}
		})
}

func TestCreateReportsEveryFault(t *testing.T) {
	removeTemp := 0
	durabletest.EveryFault(t, prepare(t),
		func(f *durabletest.FS) error {
			return durable.Create(f, "/d/e/object", bytes.NewReader(newText), 0o600)
		},
		func(t *testing.T, f *durabletest.FS, err error) {
			if err == nil {
				removeTemp++ // only the temporary file's removal may fail unnoticed
			}
			if got := read(t, f, "/d/e/object"); got != nil && !bytes.Equal(got, newText) {
				t.Errorf("found %d bytes of half an object", len(got))
			}
			err = durable.Create(f, "/d/e/object", bytes.NewReader(newText), 0o600)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("retry: %v", err)
			}
			// Whatever the retry said, success or "it is there", now holds.
			f.Crash(0)
			if !bytes.Equal(read(t, f, "/d/e/object"), newText) {
				t.Error("the retry did not converge")
			}
		})
	if removeTemp > 3 {
		t.Errorf("%d faults were hidden, want at most the removal of the temporary file, 3 ways", removeTemp)
	}
}

func TestMkdirAllSurvivesEveryCrash(t *testing.T) {
	durabletest.EveryCrash(t, func(*durabletest.FS) {},
		func(f *durabletest.FS) error { return durable.MkdirAll(f, "/a/b/c", 0o700) },
		func(t *testing.T, f *durabletest.FS, acknowledged bool) {
			if _, err := f.Stat("/a/b/c"); acknowledged && err != nil {
				t.Error(err)
			}
		})
}

// The test file system itself must lose what was not synced, or the tests above prove nothing.
func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	for name, tc := range map[string]struct {
		act  func(*durabletest.FS)
		want string
	}{
		"name not synced": {func(f *durabletest.FS) {
			h, err := f.OpenFile("/x", os.O_CREATE|os.O_WRONLY, 0o600)
			must(t, err)
			_, err = h.Write([]byte("bytes"))
			must(t, err)
			must(t, h.Sync())
		}, ""},
		"bytes not synced": {func(f *durabletest.FS) {
			h, err := f.OpenFile("/d/e/state", os.O_WRONLY|os.O_TRUNC, 0o600)
			must(t, err)
			_, err = h.Write([]byte("bytes"))
			must(t, err)
		}, string(oldText)},
		"rename not synced": {func(f *durabletest.FS) {
			must(t, f.Rename("/d/e/state", "/d/e/x"))
		}, string(oldText)},
		"second sync after a failed one": {func(f *durabletest.FS) {
			h, err := f.OpenFile("/d/e/state", os.O_WRONLY|os.O_APPEND, 0o600)
			must(t, err)
			_, err = h.Write([]byte("bytes"))
			must(t, err)
			f.FailAt(1, durabletest.Before)
			if h.Sync() == nil {
				t.Error("sync did not fail")
			}
			must(t, h.Sync())
		}, string(oldText)},
	} {
		t.Run(name, func(t *testing.T) {
			f := durabletest.New()
			prepare(t)(f)
			tc.act(f)
			f.Crash(0)
			if got := string(read(t, f, "/d/e/state")); tc.want != "" && got != tc.want {
				t.Errorf("state has %d bytes, want %d", len(got), len(tc.want))
			}
			if got := read(t, f, "/x"); got != nil {
				t.Errorf("unsynced name survived with %q", got)
			}
		})
	}
}

func TestRenameBetweenDirectoriesNeverLosesTheFile(t *testing.T) {
	for seed := range uint64(64) {
		f := durabletest.New()
		prepare(t)(f)
		must(t, durable.MkdirAll(f, "/other", 0o700))
		must(t, f.Rename("/d/e/state", "/other/state"))
		if seed%2 == 1 {
			must(t, f.SyncDir("/d/e"))
		}
		f.Crash(seed)
		a, b := read(t, f, "/d/e/state"), read(t, f, "/other/state")
		if a == nil && b == nil {
			t.Fatalf("seed %d: file lost", seed)
		}
	}
}

func TestTornWritesHappen(t *testing.T) {
	sizes := map[int]bool{}
	for seed := range uint64(200) {
		f := durabletest.New()
		must(t, durable.WriteFile(f, "/wal", nil, 0o600))
		h, err := f.OpenFile("/wal", os.O_WRONLY, 0o600)
		must(t, err)
		_, err = h.Write(make([]byte, 4096))
		must(t, err)
		f.Crash(seed)
		sizes[len(read(t, f, "/wal"))] = true
		if _, err := h.Write(nil); !errors.Is(err, durabletest.ErrCrashed) {
			t.Errorf("handle survived the crash: %v", err)
		}
	}
	if !sizes[0] || !sizes[4096] || len(sizes) < 4 {
		t.Errorf("sizes after a crash: %v, want nothing, all and parts", sizes)
	}
}

func TestCreateOnRealDisk(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "object")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := durable.Create(durable.OS, name, strings.NewReader(fmt.Sprint("writer ", i)), 0o600)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers won, want 1", won.Load())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files left, want 1", len(entries))
	}
	boom := errors.New("boom")
	if err := durable.Create(durable.OS, filepath.Join(dir, "x"), io.MultiReader(strings.NewReader("a"), errReader{boom}), 0o600); !errors.Is(err, boom) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a broken body left %d files, want 1", len(entries))
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// noLinkFS is a real file system that knows no hard links.
type noLinkFS struct {
	durable.FS
	durable.Renamer
}

func (noLinkFS) Link(string, string) error { return syscall.EPERM }

func TestCreateWithoutHardLinks(t *testing.T) {
	fsys := noLinkFS{durable.OS, durable.OS.(durable.Renamer)}
	name := filepath.Join(t.TempDir(), "object")
	must(t, durable.Create(fsys, name, strings.NewReader("first"), 0o600))
	if err := durable.Create(fsys, name, strings.NewReader("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if got := string(read(t, durable.OS, name)); got != "first" {
		t.Errorf("found %q", got)
	}
	if entries, _ := os.ReadDir(filepath.Dir(name)); len(entries) != 1 {
		t.Errorf("%d files left, want 1", len(entries))
	}
}

func TestRemoveTemps(t *testing.T) {
	f := durabletest.New()
	must(t, durable.MkdirAll(f, "/d", 0o700))
	must(t, durable.WriteFile(f, "/d/keep", []byte("x"), 0o600))
	f.StopAt(4, durabletest.After) // open, write, sync, link: the temporary file stays
	if durable.Create(f, "/d/object", strings.NewReader("x"), 0o600) == nil {
		t.Fatal("create did not stop")
	}
	f.Crash(7)
	must(t, durable.WriteFile(f, "/d/keep", []byte("x"), 0o600))
	before := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	if n, err := durable.RemoveTemps(f, "/d", time.Time{}); err != nil || n != 0 {
		t.Errorf("%d young files were removed, %v", n, err)
	}
	if n, err := durable.RemoveTemps(f, "/d", before); err != nil || n != 1 {
		t.Errorf("%d old files were removed, %v", n, err)
	}
	entries, err := f.ReadDir("/d")
	must(t, err)
	for _, e := range entries {
		if durable.IsTemp(e.Name()) {
			t.Errorf("%q is left", e.Name())
		}
	}
	if read(t, f, "/d/keep") == nil {
		t.Error("a finished file was removed")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := durable.Lock(path)
	must(t, err)
	_, err = durable.Lock(path)
	var locked *durable.LockedError
	if !errors.Is(err, durable.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("got %v, want locked by %d", err, os.Getpid())
	}
	must(t, l.Unlock())
	must(t, l.Unlock())
	l, err = durable.Lock(path)
	must(t, err)
	must(t, l.Unlock())
}

func TestReadFileLimit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, []byte("12345"), 0o600))
	if _, err := durable.ReadFile(durable.OS, name, 4); err == nil {
		t.Error("a file above the limit was read")
	}
	if b, err := durable.ReadFile(durable.OS, name, 5); err != nil || len(b) != 5 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestFreeBytes(t *testing.T) {
	if n, err := durable.FreeBytes(t.TempDir()); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := durable.FreeBytes("/does/not/exist"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A child that was forked while the lock was held has a copy of its file until it runs its
// own program. That keeps nobody from the lock after Unlock.
func TestUnlockBesideACopyOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// Every copy of the descriptor, as fork makes them.
	var copies []int
	for fd := range 256 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil && st.Ino == info.Sys().(*syscall.Stat_t).Ino && st.Dev == info.Sys().(*syscall.Stat_t).Dev {
			dup, err := syscall.Dup(fd)
			if err != nil {
				t.Fatal(err)
			}
			copies = append(copies, dup)
			break
		}
	}
	if len(copies) == 0 {
		t.Fatal("the lock holds no file")
	}
	defer syscall.Close(copies[0])
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}
