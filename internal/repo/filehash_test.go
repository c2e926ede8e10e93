package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Files are hashed behind the reader, chunk by chunk. Wherever a file's end lies
// between chunks and bundles, and whatever was left out in the middle before it, the
// hash is that of the file.
func TestHashOfEveryFile(t *testing.T) {
	const most = 2 << 20 // the longest chunk; zeros are cut nowhere else
	b := newBed(t)
	w, err := repo.NewWriter(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	want := map[string][32]byte{}
	add := func(name string, content []byte, r io.Reader) {
		t.Helper()
		want[name] = seal.Hash(content)
		if err := w.Add(t.Context(), repo.Entry{Path: name, Type: repo.TypeFile}, r); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	for i, size := range []int{0, 1, 5000, most - 1, most, most + 1, 2 * most, 2*most + 1, 5 * most} {
		for j, content := range [][]byte{make([]byte, size), random(uint64(i+1), size)} {
			name := fmt.Sprintf("%02d-%d", i, j)
			add(name, content, bytes.NewReader(content))
			// The same in another file, whose chunks are all known; its end comes with its last bytes.
			add(name+"-same", content, iotest.DataErrReader(bytes.NewReader(content)))
			// And one that ends in the middle of a chunk.
			err := w.Add(t.Context(), repo.Entry{Path: name + "-torn", Type: repo.TypeFile}, io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) {
				t.Fatalf("a torn file was added: %v", err)
			}
		}
	}
	m, _, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.repo.Snapshot(t.Context(), m, b.keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = s.Entries(context.Background(), func(e repo.Entry) error {
		h := want[e.Path]
		if !bytes.Equal(e.Hash, h[:]) {
			t.Errorf("%s, %d bytes: hash %x, want %x", e.Path, e.Size, e.Hash, h)
		}
		seen++
		return nil
	})
	if err != nil || seen != len(want) {
		t.Errorf("%d entries of %d: %v", seen, len(want), err)
	}
}
