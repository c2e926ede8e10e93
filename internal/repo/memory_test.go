package repo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/seal"
)

// vast is a place with a marker and the packs of a terabyte, as far as a writer
// looks at them before it reads a file: their names and sizes.
type vast struct {
	marker []byte
	packs  []string
	size   int64
}

func (v *vast) Put(_ context.Context, _ string, _ int64, body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}
func (v *vast) Delete(context.Context, string) error { return nil }

func (v *vast) Get(_ context.Context, name string, off, _ int64) (io.ReadCloser, error) {
	if name != markerName {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(v.marker[off:])), nil
}

func (v *vast) List(_ context.Context, prefix string, fn func(Object) error) error {
	for _, name := range v.packs {
		if strings.HasPrefix(name, prefix) {
			if err := fn(Object{Name: name, Size: v.size}); err != nil {
				return err
			}
		}
	}
	return nil
}

// The table does what a map does, also where keys collide and the table grows.
func TestIndexDoesWhatAMapDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var x index
	defer x.release()
	want := map[chunkKey]location{}
	for i := range 20_000 {
		var key chunkKey
		binary.BigEndian.PutUint32(key[:], r.Uint32()<<r.IntN(14)) // many begin alike
		key[15] = byte(r.IntN(4))
		if got, ok := x.get(key); ok != (want[key] != location{}) || got != want[key] && ok {
			t.Fatalf("step %d: key %x: %v, %t, want %v", i, key, got, ok, want[key])
		}
		l := location{uint32(i), r.Uint32(), 1 + r.Uint32N(100)}
		if err := x.put(key, l); err != nil {
			t.Fatal(err)
		}
		want[key] = l
	}
	for key, l := range want {
		if got, ok := x.get(key); !ok || got != l {
			t.Fatalf("key %x: %v, %t, want %v", key, got, ok, l)
		}
	}
	if x.len() != len(want) {
		t.Errorf("%d chunks, want %d", x.len(), len(want))
	}
}

// A writer that knows a terabyte of chunks stays below 256 MB, with its buffers, while
// it writes: by its own account, and by the kernel's.
func TestIndexOfATerabyteFitsIntoMemory(t *testing.T) {
	const (
		packs  = 16 << 10
		chunks = 128 // in a pack of 32 MiB, compressed to a half
		limit  = 130 << 20
	)
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // as the program sets it
	v := &vast{marker: fmt.Appendf(nil, `{"format":1,"repository":"r1","created":"2026-11-22T10:15:30Z","recipients":[]}`+"\n"), size: 32 << 20}
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	to := []seal.Recipient{id.Recipient()}
	dir := filepath.Join(t.TempDir(), "r1", "files", recipientSet(to))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, cacheChunks))
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(f)
	for p := range packs {
		var id packID
		binary.BigEndian.PutUint64(id[:], uint64(p)*0x9E3779B97F4A7C15)
		v.packs = append(v.packs, id.object())
		var body []byte
		for c := range chunks {
			h := seal.Hash(binary.BigEndian.AppendUint64(nil, uint64(p*chunks+c)))
			body = append(body, h[:16]...)
			body = binary.BigEndian.AppendUint64(body, uint64(c))
		}
		if _, err := out.Write(appendFrame(nil, id, PackRef{ID: id.String(), Size: v.size, Hash: strings.Repeat("00", 32)}, body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(v.packs)
	r, err := Open(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.GenerateSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&before)
	w, err := NewWriter(t.Context(), WriterConfig{Places: []Place{{"here", r}}, Scope: "files", Kind: "files", Recipients: to, AllowOne: true,
		Signer: key, MAC: seal.MACKey{1}, CacheDir: filepath.Dir(filepath.Dir(filepath.Dir(dir))), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	runtime.ReadMemStats(&after)
	if n := w.index.len(); n != packs*chunks {
		t.Fatalf("the writer knows %d chunks of %d", n, packs*chunks)
	}
	got := after.Sys - after.HeapReleased - (before.Sys - before.HeapReleased) + uint64(len(w.index.room))
	t.Logf("%d chunks of 512 KiB in %d MiB", packs*chunks, got>>20)
	if got > limit {
		t.Errorf("the index of a terabyte takes %d MiB, want at most %d", got>>20, limit>>20)
	}
	resetPeak(t)
	r2 := rand.NewChaCha8([32]byte{1})
	text := bytes.Repeat([]byte("as much as fills some packs, of which half compresses\n"), 100_000)
	for i := range 40 {
		content := io.MultiReader(io.LimitReader(r2, 5<<20), bytes.NewReader(text), io.LimitReader(r2, 1<<10))
		if err := w.Add(t.Context(), Entry{Path: fmt.Sprintf("%03d", i), Type: TypeFile}, content); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	const whole = 256_000_000
	got = peak(t)
	t.Logf("peak of the process while it wrote 200 MB more: %d MB", got/1_000_000)
	if got > whole {
		t.Errorf("a process that backs up a terabyte takes %d MB, want at most %d", got/1_000_000, whole/1_000_000)
	}
}

// resetPeak makes the kernel forget how much memory the process once took: proc(5), clear_refs.
func resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// peak is the most resident memory of the process since then, in bytes.
func peak(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var kib uint64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatalf("VmHWM: %v", err)
	}
	return kib << 10
}
