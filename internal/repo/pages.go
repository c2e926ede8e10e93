package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"holdfast/internal/seal"
)

// A file that is cut by pages, a database's, changes in place, here and there. Of such
// a file the writer remembers what each page was, so that the next snapshot stores the
// pages that changed and takes the others from where they lie.
//
// The map of pages is a part of the cache: without it the file is stored in whole MiB
// again, of which those that did not change are known.

const (
	cachePages = "pages-1-"

	sumSize   = seal.PageSumSize
	mapHeader = 4 + 32
	maxMapped = 16 << 30 // bytes; a file beyond is stored without a map, which would take too much memory

	// A segment is decompressed as a whole. Where less than this part of one is still
	// of use, its pages are stored again with those that changed, so that a restore
	// never decompresses more than four times of what it writes.
	thin = 4
)

// appendSums appends the sums of a block's pages.
func (w *Writer) appendSums(dst pageSums, block []byte) pageSums {
	for at := 0; at < len(block); at += pageSize {
		dst = w.pages.Append(dst, block[at:min(at+pageSize, len(block))])
	}
	return dst
}

// pageSums are the sums of a file's pages, one behind the other.
type pageSums []byte

// is reports whether page number i had this sum.
func (s pageSums) is(i int, sum []byte) bool {
	return len(s) >= (i+1)*sumSize && [sumSize]byte(s[i*sumSize:]) == [sumSize]byte(sum)
}

// A pageMap reads the maps of the last snapshot. A file's map is found by the hash of
// its content, so that a map and the extents of an entry cannot be of different files.
type pageMap struct {
	f  *os.File
	at map[[32]byte]int64
}

// openPageMap finds where the map of each file lies. What is torn is forgotten.
func openPageMap(name string) *pageMap {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	m := &pageMap{f: f, at: map[[32]byte]int64{}}
	for at := int64(0); ; {
		var h [mapHeader]byte
		if _, err := f.ReadAt(h[:], at); err != nil {
			return m
		}
		n := binary.BigEndian.Uint32(h[:])
		if n > maxMapped/pageSize {
			return m // of no file: torn from here on
		}
		m.at[[32]byte(h[4:])] = at
		at += mapHeader + int64(n)*sumSize + 32
	}
}

// of returns the map of the file with this content, or nil.
func (m *pageMap) of(content []byte) pageSums {
	if m == nil || len(content) != 32 {
		return nil
	}
	at, ok := m.at[[32]byte(content)]
	if !ok {
		return nil
	}
	var h [mapHeader]byte
	if _, err := m.f.ReadAt(h[:], at); err != nil {
		return nil
	}
	b := make([]byte, mapHeader+int(binary.BigEndian.Uint32(h[:]))*sumSize+32)
	if _, err := m.f.ReadAt(b, at); err != nil {
		return nil
	}
	body := b[:len(b)-32]
	if seal.Hash(body) != [32]byte(b[len(body):]) {
		return nil
	}
	return pageSums(body[mapHeader:])
}

func (m *pageMap) close() {
	if m != nil {
		_ = m.f.Close()
	}
}

// appendMap writes a file's map as it lies in the cache.
func appendMap(dst, content []byte, sums pageSums) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(sums)/sumSize))
	dst = append(dst, content...)
	dst = append(dst, sums...)
	sum := seal.Hash(dst[at:])
	return append(dst, sum[:]...)
}

// beginMaps opens the maps of this run.
func (c *cache) beginMaps(id string) {
	if c == nil {
		return
	}
	c.maps, c.mapError = os.OpenFile(filepath.Join(c.dir, cachePages+id+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// rememberMap adds the map of a file. Nothing is fsynced: what a crash tears is
// forgotten.
func (c *cache) rememberMap(content []byte, sums pageSums) {
	if c == nil || c.mapError != nil || len(sums) == 0 {
		return
	}
	_, c.mapError = c.maps.Write(appendMap(nil, content, sums))
}

// commitMaps makes the maps of this run those of its snapshot.
func (c *cache) commitMaps() {
	if c.maps == nil {
		return
	}
	temp := c.maps.Name()
	c.mapError = errors.Join(c.mapError, c.maps.Close())
	c.maps = nil
	if c.mapError != nil {
		_ = os.Remove(temp) // the next run remembers less and is right
		return
	}
	_ = os.Rename(temp, temp[:len(temp)-len(".new")])
}

// A former is what a paged file was in the last snapshot.
type former struct {
	extents []Extent
	sums    pageSums
	sparse  []bool // pages that lie in a segment of which little is of use
}

// former returns what the file was, or nil if that is not known page by page, or does
// not lie at a place any more. The caller holds addMu.
func (w *Writer) former(path string) (Entry, *former) {
	if w.cache == nil || w.cache.prev == nil {
		return Entry{}, nil
	}
	old, ok := w.cache.previous(path)
	if !ok || old.Type != TypeFile || old.Cut != CutPages || old.Sparse || !w.stored(old.Extents) {
		return Entry{}, nil
	}
	f := &former{extents: old.Extents, sums: w.cache.prev.maps.of(mapKey(w.parent.ID, &old))}
	if f.sums == nil {
		return Entry{}, nil
	}
	f.sparse = make([]bool, len(f.sums)/sumSize)
	for _, x := range old.Extents {
		if !w.cache.prev.wasted(x) {
			continue
		}
		for i := x.Offset / pageSize; i*pageSize < x.Offset+x.Length && i < int64(len(f.sparse)); i++ {
			f.sparse[i] = true
		}
	}
	return old, f
}

// mapKey is under what the map of a file of a snapshot is found: the hash of its content,
// or, where nobody read all of it, of the snapshot's id and its name. So the map of another
// content is never taken for it.
func mapKey(snapshot string, e *Entry) []byte {
	if len(e.Hash) > 0 {
		return e.Hash
	}
	h := seal.Hash([]byte(snapshot + "\x00" + e.Path))
	return h[:]
}

// A Past is what the writer remembers of a file that is cut by pages, from the parent
// snapshot. It is of use to that writer only.
type Past struct {
	Entry Entry
	was   *former
}

// Past returns what the writer remembers of the pages of a file. False: nothing, and
// then the file is to be read as a whole.
func (w *Writer) Past(path string) (*Past, bool) {
	w.addMu.Lock()
	defer w.addMu.Unlock()
	if w.closed {
		return nil, false
	}
	e, was := w.former(path)
	if was == nil || int64(len(was.sums)/sumSize) != (e.Size+pageSize-1)/pageSize {
		return nil, false
	}
	return &Past{Entry: e, was: was}, true
}

// Wasted reports whether page number i lies where little is of use any more. Whoever
// reads single pages reads it, too, although it did not change.
func (p *Past) Wasted(i int64) bool { return i < int64(len(p.was.sparse)) && p.was.sparse[i] }

// A PageSum tells pages apart. It is of use to the writer that made it only.
type PageSum [sumSize]byte

// Sum is that of page number i, which is within the file.
func (p *Past) Sum(i int64) PageSum { return PageSum(p.was.sums[i*sumSize:]) }

// PageSum is that of a page.
func (w *Writer) PageSum(page []byte) PageSum { return PageSum(w.pages.Append(nil, page)) }

// OverlayPast is Overlay over what the writer remembers of a file. Each page holds whole
// pages of 8 KiB. What the file was, and what is given, is what the writer remembers of
// it from now on. If no page is given and the size is what it was, the entry keeps its hash.
func (w *Writer) OverlayPast(ctx context.Context, e Entry, past *Past, pages iter.Seq2[Page, error]) error {
	count := int((e.Size + pageSize - 1) / pageSize)
	sums := make(pageSums, count*sumSize)
	copy(sums, past.was.sums)
	given, seen := false, make([]bool, max(0, count-len(past.was.sums)/sumSize))
	e.Cut, e.Hash = CutPages, past.Entry.Hash
	e.Sparse = false
	noting := func(yield func(Page, error) bool) {
		for page, err := range pages {
			if err == nil && (page.Offset%pageSize != 0 || page.Offset < 0 || page.Offset+int64(len(page.Data)) > e.Size || len(page.Data)%pageSize != 0) {
				err = fmt.Errorf("%d bytes at %d are no pages of the file", len(page.Data), page.Offset)
			}
			if err == nil {
				given = true
				for at := 0; at < len(page.Data); at += pageSize {
					i := int(page.Offset/pageSize) + at/pageSize
					copy(sums[i*sumSize:], w.pages.Append(nil, page.Data[at:at+pageSize]))
					if n := i - (count - len(seen)); n >= 0 {
						seen[n] = true
					}
				}
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
		if slices.Contains(seen, false) {
			yield(Page{}, errors.New("a page behind the end that the file had was not given"))
		}
	}
	if err := w.overlay(ctx, e, past.was.extents, noting, func() bool { return given || e.Size != past.Entry.Size }); err != nil {
		return err
	}
	if given || e.Size != past.Entry.Size {
		e.Hash = nil
	}
	w.addMu.Lock()
	defer w.addMu.Unlock()
	w.cache.rememberMap(mapKey(w.id, &e), sums)
	return nil
}

// same reports whether the page numbered i is what it was, and may stay where it lies.
func (f *former) same(i int, sum []byte) bool { return f.sums.is(i, sum) && !f.sparse[i] }

// A segmentUse says how much of a segment a snapshot uses.
type segmentUse struct {
	bytes int64
	end   int64 // behind the last byte in use
}

// stored reports whether all of these extents of the parent lie at a place. The caller
// holds addMu.
func (w *Writer) stored(parent []Extent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range parent {
		if _, ok := w.parentPack(x.Pack); !ok {
			return false
		}
	}
	return true
}

// wasted reports whether x lies in a segment of which the snapshot uses little. It is
// known of a list that was loaded as a whole, and false otherwise.
func (p *previousEntries) wasted(x Extent) bool {
	if p.all == nil {
		return false
	}
	if p.use == nil {
		p.use = map[[2]uint32]segmentUse{}
		for _, e := range p.all {
			for _, x := range e.Extents {
				u := p.use[[2]uint32{x.Pack, x.Segment}]
				p.use[[2]uint32{x.Pack, x.Segment}] = segmentUse{u.bytes + x.Length, max(u.end, int64(x.At)+x.Length)}
			}
		}
	}
	u := p.use[[2]uint32{x.Pack, x.Segment}]
	return u.bytes*thin < u.end
}
