// Package locationtest is the suite that every kind of location passes.
//
// It holds a location to the contract of repo.Store: objects appear whole or not
// at all, are never replaced, are read exactly or with an error, and are listed
// completely and in order. A location that passes can be trusted by the repository
// format; one that passes except for a case must not be released.
package locationtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"holdfast/internal/location"
	"holdfast/internal/repo"
)

const writers = 16

// Run holds a location to its contract. open returns a new, empty place each
// time; the suite makes it a repository by putting the marker.
func Run(t *testing.T, open func(t *testing.T) repo.Store) {
	for name, test := range map[string]func(*testing.T, repo.Store){
		"marker first":          markerFirst,
		"put and get":           putAndGet,
		"put if absent":         putIfAbsent,
		"concurrent puts":       concurrentPuts,
		"atomic":                atomic,
		"wrong size":            wrongSize,
		"ranges":                ranges,
		"short reads":           shortReads,
		"missing":               missing,
		"delete":                deleteObject,
		"listing":               listing,
		"listing ends early":    listingEnds,
		"listing while written": listingWhileWritten,
		"names":                 names,
		"cancelled":             cancelled,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if name != "marker first" {
				put(t, s, location.Marker, []byte("{}\n"))
			}
			test(t, s)
		})
	}
}

func put(t *testing.T, s repo.Store, name string, b []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s repo.Store, name string, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := s.Get(t.Context(), name, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func list(t *testing.T, s repo.Store, prefix string) []string {
	t.Helper()
	var names []string
	if err := s.List(t.Context(), prefix, func(o repo.Object) error {
		names = append(names, o.Name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func pattern(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// A place without its marker refuses everything but the marker, and never says
// that an object is not there: it cannot know.
func markerFirst(t *testing.T, s repo.Store) {
	ctx := t.Context()
	if _, err := s.Get(ctx, location.Marker, 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get marker of an empty place: %v, want fs.ErrNotExist", err)
	}
	if err := s.Put(ctx, "packs/aa/1", 1, strings.NewReader("x")); err == nil {
		t.Error("an object was put into a place without marker")
	}
	if _, err := s.Get(ctx, "packs/aa/1", 0, -1); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v, want an error that is not fs.ErrNotExist", err)
	}
	if err := s.Delete(ctx, "packs/aa/1"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete: %v, want an error that is not fs.ErrNotExist", err)
	}
	if err := s.List(ctx, "", func(repo.Object) error { return nil }); err == nil {
		t.Error("a place without marker was listed as empty")
	}
	put(t, s, location.Marker, []byte("{}\n"))
	put(t, s, "packs/aa/1", []byte("x"))
}

func putAndGet(t *testing.T, s repo.Store) {
	for i, n := range []int{0, 1, 511, 4096, 65537, 5 << 20} {
		name, want := fmt.Sprintf("packs/%02d/object", i), pattern(n)
		// One byte at a time, and the end with the last byte: readers may do that.
		if err := s.Put(t.Context(), name, int64(n), iotest.DataErrReader(bytes.NewReader(want))); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, s, name, 0, -1); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
	if err := s.Put(t.Context(), "small", 3, iotest.OneByteReader(strings.NewReader("abc"))); err != nil {
		t.Error(err)
	}
}

func putIfAbsent(t *testing.T, s repo.Store) {
	put(t, s, "logs/a", []byte("first"))
	for _, body := range []string{"other", "first", "longer than the first", ""} {
		if err := s.Put(t.Context(), "logs/a", int64(len(body)), strings.NewReader(body)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("second put of %q: %v, want fs.ErrExist", body, err)
		}
	}
	if got, err := get(t, s, "logs/a", 0, -1); err != nil || string(got) != "first" {
		t.Errorf("object was changed to %q, %v", got, err)
	}
}

func concurrentPuts(t *testing.T, s repo.Store) {
	for round := range 5 {
		name := fmt.Sprintf("packs/aa/round-%d", round)
		bodies := make([][]byte, writers)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			bodies[i] = bytes.Repeat([]byte{byte('A' + i)}, 20_000+i)
			wg.Go(func() { errs[i] = s.Put(t.Context(), name, int64(len(bodies[i])), bytes.NewReader(bodies[i])) })
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("writers %d and %d both won", winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("writer %d: %v, want fs.ErrExist", i, err)
			}
		}
		if winner < 0 {
			t.Fatal("no writer won")
		}
		if got, err := get(t, s, name, 0, -1); err != nil || !bytes.Equal(got, bodies[winner]) {
			t.Errorf("writer %d won, and %d bytes of another are there, %v", winner, len(got), err)
		}
	}
	if got := list(t, s, "packs/"); len(got) != 5 {
		t.Errorf("losers left something: %q", got)
	}
}

// While a body is being read, nothing is visible.
func atomic(t *testing.T, s repo.Store) {
	look := func() {
		if got := list(t, s, "packs/"); len(got) != 0 {
			t.Errorf("half an object is listed: %q", got)
		}
		if _, err := get(t, s, "packs/aa/half", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("half an object is readable: %v", err)
		}
	}
	body := io.MultiReader(bytes.NewReader(pattern(100_000)), &hook{f: look}, strings.NewReader("end"))
	if err := s.Put(t.Context(), "packs/aa/half", 100_003, body); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "packs/"); len(got) != 1 {
		t.Errorf("listed: %q", got)
	}
}

// hook is an empty reader that calls f first.
type hook struct{ f func() }

func (h *hook) Read([]byte) (int, error) { h.f(); return 0, io.EOF }

func wrongSize(t *testing.T, s repo.Store) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		size int64
		body io.Reader
	}{
		{"short", 10, strings.NewReader("nine byte")},
		{"empty", 1, strings.NewReader("")},
		{"long", 10, strings.NewReader("eleven byte")},
		{"long by far", 1, bytes.NewReader(pattern(1 << 20))},
		{"not empty", 0, strings.NewReader("x")},
		{"negative", -1, strings.NewReader("")},
		{"broken", 10, io.MultiReader(strings.NewReader("nine byte"), iotest.ErrReader(boom))},
	} {
		err := s.Put(t.Context(), "packs/aa/1", tc.size, tc.body)
		if err == nil {
			t.Fatalf("%s: accepted", tc.name)
		}
		if tc.name == "broken" && !errors.Is(err, boom) {
			t.Errorf("the reader's error was lost: %v", err)
		}
		if got := list(t, s, "packs/"); len(got) != 0 {
			t.Fatalf("%s: left %q", tc.name, got)
		}
		if _, err := get(t, s, "packs/aa/1", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", tc.name, err)
		}
	}
	put(t, s, "packs/aa/1", []byte("right")) // the name was not used up
}

func ranges(t *testing.T, s repo.Store) {
	want := pattern(10_000)
	put(t, s, "packs/aa/1", want)
	for _, r := range [][2]int64{{0, 0}, {0, 1}, {0, 10_000}, {1, 9_999}, {9_999, 1}, {5_000, 100}, {10_000, 0}, {0, -1}, {9_000, -1}, {10_000, -1}} {
		end := r[0] + r[1]
		if r[1] < 0 {
			end = 10_000
		}
		if got, err := get(t, s, "packs/aa/1", r[0], r[1]); err != nil || !bytes.Equal(got, want[r[0]:end]) {
			t.Errorf("%d bytes at %d: got %d, %v", r[1], r[0], len(got), err)
		}
	}
}

// What is not there is an error, at once or of the reader, never a short success.
func shortReads(t *testing.T, s repo.Store) {
	put(t, s, "packs/aa/1", pattern(100))
	for _, r := range [][2]int64{{0, 101}, {50, 51}, {100, 1}, {101, 1}, {1 << 40, 1}, {101, -1}, {-1, 1}, {-1, -1}} {
		got, err := get(t, s, "packs/aa/1", r[0], r[1])
		if err == nil {
			t.Errorf("%d bytes at %d of 100: read %d without an error", r[1], r[0], len(got))
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d bytes at %d of 100: the object is said to be missing", r[1], r[0])
		}
	}
}

func missing(t *testing.T, s repo.Store) {
	put(t, s, "packs/aa/1", []byte("x"))
	for _, name := range []string{"packs/aa/2", "packs/bb/1", "other", "packs", "packs/aa", "packs/aa/1/x"} {
		if b, err := get(t, s, name, 0, -1); err == nil {
			t.Errorf("get %q: read %d bytes", name, len(b))
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("delete %q: succeeded", name)
		}
	}
	if _, err := get(t, s, "packs/aa/2", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v, want fs.ErrNotExist", err)
	}
	if err := s.Delete(t.Context(), "packs/aa/2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete: %v, want fs.ErrNotExist", err)
	}
	if got := list(t, s, "nothing/here/"); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
	if got := list(t, s, "packs/"); len(got) != 1 {
		t.Errorf("listed %q", got)
	}
}

func deleteObject(t *testing.T, s repo.Store) {
	put(t, s, "packs/aa/1", []byte("one"))
	put(t, s, "packs/aa/2", []byte("two"))
	if err := s.Delete(t.Context(), "packs/aa/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, s, "packs/aa/1", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v", err)
	}
	if err := s.Delete(t.Context(), "packs/aa/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second delete: %v", err)
	}
	if got := list(t, s, "packs/"); !slices.Equal(got, []string{"packs/aa/2"}) {
		t.Errorf("listed %q", got)
	}
	put(t, s, "packs/aa/1", []byte("again"))
	if got, err := get(t, s, "packs/aa/1", 0, -1); err != nil || string(got) != "again" {
		t.Errorf("got %q, %v", got, err)
	}
}

func listing(t *testing.T, s repo.Store) {
	// Slashes sort behind '-' and '.', before digits and letters.
	objects := map[string]int64{location.Marker: 3}
	for i, name := range []string{"a", "a-", "a-b", "a.b", "a.b-c/d", "a0", "a_b", "aa", "A", "b/a", "b/a-b", "b/a.b", "b-c/x", "b.c/x", "b/0/x",
		"b/0-1/x", "b/0.1/x", "b/00/x", "b/c/d/e/f", "packs/00/1", "packs/0a/1", "packs/ff/1", "snapshots/db/20260101T000000Z-00000000", "RECOVERY.txt", "z"} {
		objects[name] = int64(i)
		put(t, s, name, pattern(i))
	}
	for i := range 300 {
		name := fmt.Sprintf("many/%02x/%d", i%7, i)
		objects[name] = 1
		put(t, s, name, []byte("x"))
	}
	for _, prefix := range []string{"", "a", "a-", "a.", "b", "b/", "b/0", "b/0/", "b/0-", "b-c/", "packs/", "packs/0", "packs/00/1", "many/0", "many/03/1", "snapshots/db/2026", "zz", "b/c/d", "holdfast", "../", "/", "b//", "./", ".h"} {
		var want []string
		for name := range objects {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		var got []string
		if err := s.List(t.Context(), prefix, func(o repo.Object) error {
			got = append(got, o.Name)
			if o.Size != objects[o.Name] {
				t.Errorf("%q has size %d, want %d", o.Name, o.Size, objects[o.Name])
			}
			if o.Modified.IsZero() {
				t.Errorf("%q has no time", o.Name)
			}
			return nil
		}); err != nil {
			t.Errorf("prefix %q: %v", prefix, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("prefix %q:\ngot  %q\nwant %q", prefix, got, want)
		}
	}
}

func listingEnds(t *testing.T, s repo.Store) {
	for i := range 10 {
		put(t, s, fmt.Sprintf("packs/0%d/1", i), nil)
	}
	boom := errors.New("boom")
	n := 0
	err := s.List(t.Context(), "packs/", func(repo.Object) error {
		if n++; n == 3 {
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) || n != 3 {
		t.Errorf("%d calls, %v, want 3 and the error of the third", n, err)
	}
	// The callback may use the location.
	if err := s.List(t.Context(), "packs/", func(o repo.Object) error { return s.Delete(t.Context(), o.Name) }); err != nil {
		t.Error(err)
	}
	if got := list(t, s, "packs/"); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

// Objects that are there throughout are in every listing, and whatever is listed
// is whole.
func listingWhileWritten(t *testing.T, s repo.Store) {
	var fixed []string
	for i := range 50 {
		name := fmt.Sprintf("packs/%02x/fixed", i)
		fixed = append(fixed, name)
		put(t, s, name, pattern(10))
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		for i := 0; ctx.Err() == nil && i < 2000; i++ {
			name := fmt.Sprintf("packs/%02x/new-%d", i%50, i)
			if err := s.Put(t.Context(), name, 10, bytes.NewReader(pattern(10))); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		var got []string
		if err := s.List(t.Context(), "packs/", func(o repo.Object) error {
			if o.Size != 10 {
				t.Errorf("%q is listed with %d bytes of 10", o.Name, o.Size)
			}
			if strings.HasSuffix(o.Name, "/fixed") {
				got = append(got, o.Name)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, fixed) {
			t.Errorf("%d of 50 fixed objects listed", len(got))
		}
	}
	stop()
	wg.Wait()
}

func names(t *testing.T, s repo.Store) {
	for _, name := range []string{"", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "./a", "a/.", "a//b", "a/", "/a", ".hidden", "a/.hidden", "a b", "a\x00b", "a\nb", "å",
		"a\\b", "a:b", "a*", "~", "a\xff", "-rf", "a/-b", strings.Repeat("a", 300), strings.Repeat("a/", 300) + "a", ".holdfast-tmp-0011223344556677"} {
		if err := s.Put(t.Context(), name, 1, strings.NewReader("x")); err == nil {
			t.Errorf("put %q was accepted", name)
		}
		if _, err := s.Get(t.Context(), name, 0, -1); err == nil {
			t.Errorf("get %q was accepted", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("delete %q was accepted", name)
		}
	}
	if got := list(t, s, ""); len(got) != 1 {
		t.Errorf("a refused name left %q", got)
	}
}

func cancelled(t *testing.T, s repo.Store) {
	put(t, s, "packs/aa/1", pattern(1000))
	ctx, cancel := context.WithCancel(t.Context())
	// In the middle of a body.
	err := s.Put(ctx, "packs/aa/2", 2000, io.MultiReader(bytes.NewReader(pattern(1000)), &hook{f: cancel}, bytes.NewReader(pattern(1000))))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if got := list(t, s, "packs/"); len(got) != 1 {
		t.Errorf("a cancelled put left %q", got)
	}
	if err := s.List(ctx, "", func(repo.Object) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	if _, err := s.Get(ctx, "packs/aa/1", 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if err := s.Delete(ctx, "packs/aa/1"); !errors.Is(err, context.Canceled) {
		t.Errorf("delete: %v", err)
	}
}
