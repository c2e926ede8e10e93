// Package repotest holds stores for tests of package repo and of what stands on
// it: one in memory, one in a directory, and one that breaks.
//
// They keep the contract of repo.Store and are not for production: the directory
// store syncs nothing.
package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Memory is a store in memory. Its zero value is not ready: use NewMemory.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}} }

// Put implements repo.Store.
func (m *Memory) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(body, size+1))
	if err != nil {
		return err
	}
	if int64(len(b)) != size {
		return fmt.Errorf("put %q: %d bytes announced, %d given", name, size, len(b))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
	}
	m.objects[name] = b
	return nil
}

// Get implements repo.Store.
func (m *Memory) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	b, ok := m.objects[name]
	m.mu.Unlock()
	if !ok {
		return nil, &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	}
	rest := b[min(max(off, 0), int64(len(b))):]
	if n < 0 {
		return io.NopCloser(bytes.NewReader(rest)), nil
	}
	if int64(len(rest)) < n {
		return io.NopCloser(io.MultiReader(bytes.NewReader(rest), short{})), nil
	}
	return io.NopCloser(bytes.NewReader(rest[:n])), nil
}

// short is the end of an object that ends early.
type short struct{}

func (short) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// List implements repo.Store.
func (m *Memory) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(m.objects))
	sizes := make(map[string]int64, len(names))
	for _, n := range names {
		sizes[n] = int64(len(m.objects[n]))
	}
	m.mu.Unlock()
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			if err := fn(repo.Object{Name: n, Size: sizes[n]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete implements repo.Store.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; !ok {
		return &fs.PathError{Op: "delete", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.objects, name)
	return nil
}

// Names returns the names of all objects, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// Bytes returns a copy of an object, or nil.
func (m *Memory) Bytes(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.objects[name])
}

// Set does what no store may do: it replaces an object, or removes it if b is nil.
func (m *Memory) Set(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b == nil {
		delete(m.objects, name)
		return
	}
	m.objects[name] = slices.Clone(b)
}

// Clone returns an independent store with the same objects.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{objects: maps.Clone(m.objects)} // objects are replaced, never altered
}

// Dir is a store in a directory, for tests that need objects on disk.
type Dir string

// Put implements repo.Store.
func (d Dir) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	to := filepath.Join(string(d), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".put-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	n, err := io.Copy(f, io.LimitReader(body, size+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("put %q: %d bytes announced, %d given", name, size, n)
	}
	return os.Link(f.Name(), to)
}

// Get implements repo.Store.
func (d Dir) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	if n < 0 {
		_, err := f.Seek(off, io.SeekStart)
		return f, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.NewSectionReader(f, off, n), &shortOf{f, off + n}), f}, nil
}

// shortOf fails at the end of a range if the file ends before it.
type shortOf struct {
	f   *os.File
	end int64
}

func (s *shortOf) Read([]byte) (int, error) {
	fi, err := s.f.Stat()
	if err != nil {
		return 0, err
	}
	if fi.Size() < s.end {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, io.EOF
}

// List implements repo.Store.
func (d Dir) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	var all []repo.Object
	err := filepath.WalkDir(string(d), func(path string, de fs.DirEntry, err error) error {
		if err != nil || de.IsDir() {
			return err
		}
		rel, err := filepath.Rel(string(d), path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(de.Name(), ".put-") {
			return nil
		}
		fi, err := de.Info()
		if err != nil {
			return err
		}
		all = append(all, repo.Object{Name: name, Size: fi.Size(), Modified: fi.ModTime()})
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b repo.Object) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range all {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements repo.Store.
func (d Dir) Delete(_ context.Context, name string) error {
	return os.Remove(filepath.Join(string(d), filepath.FromSlash(name)))
}

// ErrInjected is what a broken call returns.
var ErrInjected = errors.New("injected fault")

// Faulty breaks calls of a store: the Nth one, counted from 1, once. If Landed is
// set the call takes effect before it fails; a Get then fails in the middle of the
// content and a List after its first object. If Forever is set, all later calls
// fail too, and nothing of them takes effect.
type Faulty struct {
	repo.Store
	N       int
	Landed  bool
	Forever bool

	// Refuse breaks every Put of a name for which it is true.
	Refuse func(name string) bool

	mu      sync.Mutex
	calls   int
	tripped bool
}

// Tripped reports whether a call was broken.
func (f *Faulty) Tripped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tripped
}

// Calls returns how many calls were made.
func (f *Faulty) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// trip says whether this call fails, and whether it takes effect first.
func (f *Faulty) trip() (fails, lands bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	first := f.calls == f.N
	fails = first || f.Forever && f.N > 0 && f.calls > f.N
	f.tripped = f.tripped || fails
	return fails, fails && first && f.Landed
}

// Put implements repo.Store.
func (f *Faulty) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	fails, lands := f.trip()
	if fails && !lands {
		return fmt.Errorf("put %q: %w", name, ErrInjected)
	}
	if f.Refuse != nil && f.Refuse(name) {
		return fmt.Errorf("put %q: %w", name, ErrInjected)
	}
	err := f.Store.Put(ctx, name, size, body)
	if fails {
		return fmt.Errorf("put %q: %w", name, ErrInjected)
	}
	return err
}

// Get implements repo.Store.
func (f *Faulty) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	fails, lands := f.trip()
	if fails && !lands {
		return nil, fmt.Errorf("get %q: %w", name, ErrInjected)
	}
	rc, err := f.Store.Get(ctx, name, off, n)
	if err != nil || !fails {
		return rc, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, 10), broken{}), rc}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, ErrInjected }

// List implements repo.Store.
func (f *Faulty) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	fails, lands := f.trip()
	if fails && !lands {
		return fmt.Errorf("list %q: %w", prefix, ErrInjected)
	}
	n := 0
	return f.Store.List(ctx, prefix, func(o repo.Object) error {
		if n++; fails && n > 1 {
			return ErrInjected
		}
		return fn(o)
	})
}

// Delete implements repo.Store.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	fails, lands := f.trip()
	if fails && !lands {
		return fmt.Errorf("delete %q: %w", name, ErrInjected)
	}
	err := f.Store.Delete(ctx, name)
	if fails {
		return fmt.Errorf("delete %q: %w", name, ErrInjected)
	}
	return err
}

// Keys are fresh keys for one test.
type Keys struct {
	Identity, Spare seal.Identity
	Signer          seal.SigningKey
	MAC             seal.MACKey
}

// A failer is the part of testing.TB that is needed here.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// NewKeys returns fresh keys.
func NewKeys(t failer) Keys {
	t.Helper()
	a, err1 := seal.GenerateIdentity()
	b, err2 := seal.GenerateIdentity()
	s, err3 := seal.GenerateSigningKey("test-agent")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return Keys{a, b, s, seal.NewMACKey()}
}

// Recipients returns both identities' recipients.
func (k Keys) Recipients() []seal.Recipient {
	return []seal.Recipient{k.Identity.Recipient(), k.Spare.Recipient()}
}

// LogKeys returns what writing a log takes.
func (k Keys) LogKeys() repo.LogKeys {
	return repo.LogKeys{Recipients: k.Recipients(), Signer: k.Signer}
}

// Init makes s a repository with the given id and opens it.
func Init(ctx context.Context, t failer, s repo.Store, id string) *repo.Repository {
	t.Helper()
	if err := repo.Init(ctx, s, repo.Settings{ID: id, Created: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
