package repo_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"holdfast/internal/repo"
)

// A torn is content that breaks off: the bytes, then an error.
type torn struct {
	r   io.Reader
	err error
}

func (c torn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF {
		err = c.err
	}
	return n, err
}

// Readers of archives and networks say io.ErrUnexpectedEOF when the content breaks
// off. That is never the end of the file: it would be stored short, and look whole.
func TestContentBreaksOff(t *testing.T) {
	b := newBed(t)
	w, err := repo.NewWriter(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, cut := range []repo.Cut{repo.CutContent, repo.CutPages} {
		for _, sparse := range []bool{false, true} {
			for _, size := range []int{0, 1, 8192, 1 << 20, 1<<20 + 8192} {
				e := repo.Entry{Path: "torn", Type: repo.TypeFile, Mode: 0o600, Cut: cut, Sparse: sparse}
				err := w.Add(t.Context(), e, torn{bytes.NewReader(random(1, size)), io.ErrUnexpectedEOF})
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, sparse %t, %d bytes: got %v", cut, sparse, size, err)
				}
			}
		}
	}
	if s := w.Stats(); s.Files != 0 {
		t.Errorf("%d files count as stored", s.Files)
	}
}
