package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

// Under calls fn for the entry of a path and for everything below it, in the order
// of the list. Where the list is sorted, as that of a walk is, only the part of it
// that can hold them is read. An error of fn ends the walk and is returned.
func (s *Snapshot) Under(ctx context.Context, dir string, fn func(Entry) error) error {
	if dir == "." {
		return s.Entries(ctx, fn)
	}
	return s.from(ctx, dir, func(e Entry) (string, error) {
		if e.Path == dir || strings.HasPrefix(e.Path, dir+"/") {
			return "", fn(e)
		}
		if s.root.Sorted && comparePaths(e.Path, dir) > 0 {
			return "", io.EOF
		}
		return "", nil
	})
}

// Children calls fn for what lies directly in a directory. What lies deeper is
// passed over where the list is sorted, so a directory costs about what it holds.
func (s *Snapshot) Children(ctx context.Context, dir string, fn func(Entry) error) error {
	return s.from(ctx, dir, func(e Entry) (string, error) {
		switch {
		case e.Path == ".":
			return "", nil
		case path.Dir(e.Path) == dir:
			over := ""
			if e.Type == TypeDir {
				over = e.Path + "/"
			}
			return over, fn(e)
		case dir != "." && s.root.Sorted && comparePaths(e.Path, dir) > 0 && !strings.HasPrefix(e.Path, dir+"/"):
			return "", io.EOF
		}
		return "", nil
	})
}

// Find returns the entry of a path.
func (s *Snapshot) Find(ctx context.Context, name string) (Entry, error) {
	var found Entry
	stop := errors.New("found")
	err := s.from(ctx, name, func(e Entry) (string, error) {
		switch {
		case e.Path == name:
			found = e
			return "", stop
		case s.root.Sorted && comparePaths(e.Path, name) > 0:
			return "", io.EOF
		}
		return "", nil
	})
	if err == stop {
		return found, nil
	}
	if err == nil {
		err = fmt.Errorf("snapshot %q: %q: %w", s.m.ID, name, fs.ErrNotExist)
	}
	return Entry{}, err
}

// from calls fn for the entries from the piece of the list on that holds name, or
// for all of them if the list has no order. fn may return a prefix whose paths it
// does not want: pieces that hold nothing else are not read. io.EOF of fn ends the
// walk well.
func (s *Snapshot) from(ctx context.Context, name string, fn func(Entry) (over string, err error)) error {
	fail := func(err error) error { return fmt.Errorf("snapshot %q: %w", s.m.ID, err) }
	src := &entrySegments{ctx: ctx, s: s}
	if s.root.Sorted {
		src.next = s.pieceOf(name)
	}
	r := s.reader(src)
	for {
		e, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fail(err)
		}
		over, err := fn(e)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if over == "" || !s.root.Sorted {
			continue
		}
		// The last piece that begins with what is not wanted may end with what is.
		if last := s.lastPieceIn(over); last > src.next {
			src.next, src.rest = last, nil
			r = s.reader(src)
		}
	}
}

// reader reads entries from the beginning of a piece on.
func (s *Snapshot) reader(src *entrySegments) *entryReader {
	r := newEntryReader(src, len(s.m.Packs))
	r.resume = src.next > 0
	return r
}

// pieceOf is the number of the piece in which name begins, if it is there. Pieces in
// which no entry begins continue the one before them.
func (s *Snapshot) pieceOf(name string) int {
	at := sort.Search(len(s.starts), func(i int) bool { return comparePaths(s.starts[i].first, name) > 0 })
	if at == 0 {
		return 0
	}
	return s.starts[at-1].piece
}

// lastPieceIn is the number of the last piece that begins with a path below prefix,
// or -1.
func (s *Snapshot) lastPieceIn(prefix string) int {
	dir := strings.TrimSuffix(prefix, "/")
	at := sort.Search(len(s.starts), func(i int) bool {
		first := s.starts[i].first
		return comparePaths(first, dir) > 0 && !strings.HasPrefix(first, prefix)
	})
	if at == 0 || !strings.HasPrefix(s.starts[at-1].first, prefix) {
		return -1
	}
	return s.starts[at-1].piece
}

// A start is where an entry begins in a piece of the list.
type start struct {
	first string
	piece int
}

// findStarts notes the first path of every piece. A list that claims an order and
// does not keep it is read from its beginning, as one without.
func (s *Snapshot) findStarts() {
	for i, seg := range s.root.Entries {
		if seg.First != nil {
			s.starts = append(s.starts, start{string(*seg.First), i})
		}
	}
	if !slices.IsSortedFunc(s.starts, func(a, b start) int { return comparePaths(a.first, b.first) }) {
		s.root.Sorted, s.starts = false, nil
	}
}
