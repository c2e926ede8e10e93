package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"
	"sync"

	"holdfast/internal/seal"
)

const (
	headPeek     = 2 << 10  // enough for most headers
	tailPeek     = 64 << 10 // enough for most footers
	openPacks    = 512      // packs whose footers are kept
	openSegments = 16       // decoded segments that are kept
)

// A Snapshot reads what one manifest names. It may be used by several goroutines
// at once.
type Snapshot struct {
	repo *Repository
	m    *Manifest
	ids  []seal.Identity
	root root

	starts []start // of the pieces of the list; see findStarts

	mu       sync.Mutex
	packs    map[uint32]*packReader
	order    []uint32 // of packs, oldest first
	segments map[segmentKey]*segmentReader
	recent   []segmentKey // of segments, oldest first
	spare    [][]byte
}

type segmentKey struct{ pack, segment uint32 }

type packReader struct {
	once   sync.Once
	footer *footer
	box    *seal.Box
	err    error
	object string // the pack, or a replacement of it; owned by the snapshot's mu
}

type segmentReader struct {
	done  chan struct{}
	plain []byte
	err   error
	users int // owned by the snapshot's mu
}

// Snapshot opens the contents of m with one of ids. If the repository trusts
// certain keys, one of them must have signed m.
func (r *Repository) Snapshot(ctx context.Context, m *Manifest, ids ...seal.Identity) (*Snapshot, error) {
	if m.Repository != r.id {
		return nil, fmt.Errorf("snapshot %q: of repository %q: %w", m.ID, m.Repository, ErrForeign)
	}
	if len(r.trust) > 0 {
		if err := m.Verify(r.trust...); err != nil {
			return nil, err
		}
	}
	s := &Snapshot{repo: r, m: m, ids: ids, packs: map[uint32]*packReader{}, segments: map[segmentKey]*segmentReader{}}
	b, err := s.readSegment(ctx, m.Root.Pack, m.Root.Segment, kindRoot, true)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: root: %w", m.ID, err)
	}
	if err := json.Unmarshal(b, &s.root); err != nil {
		return nil, fmt.Errorf("snapshot %q: root: %v: %w", m.ID, err, ErrDamaged)
	}
	switch {
	case s.root.Format != formatOne:
		return nil, fmt.Errorf("snapshot %q: root: format %d: %w", m.ID, s.root.Format, ErrFormat)
	case s.root.Scope != m.Scope || s.root.Kind != m.Kind || s.root.ID != m.ID:
		return nil, fmt.Errorf("snapshot %q: root of %q of %q: %w", m.ID, s.root.ID, s.root.Scope, ErrSubstituted)
	case s.root.Files != m.Files || s.root.Bytes != m.Bytes:
		return nil, fmt.Errorf("snapshot %q: root counts %d files, manifest %d: %w", m.ID, s.root.Files, m.Files, ErrDamaged)
	}
	s.findStarts()
	return s, nil
}

// Manifest returns the snapshot's manifest.
func (s *Snapshot) Manifest() *Manifest { return s.m }

// pack returns the reader of a pack, which is opened at its first use.
func (s *Snapshot) pack(ctx context.Context, n uint32) (*packReader, error) {
	if int64(n) >= int64(len(s.m.Packs)) {
		return nil, fmt.Errorf("pack %d of %d: %w", n, len(s.m.Packs), ErrDamaged)
	}
	s.mu.Lock()
	p, ok := s.packs[n]
	if !ok {
		if len(s.order) >= openPacks {
			delete(s.packs, s.order[0])
			s.order = s.order[1:]
		}
		p = &packReader{}
		s.packs[n] = p
		s.order = append(s.order, n)
	}
	s.mu.Unlock()
	p.once.Do(func() { s.open(ctx, p, s.m.Packs[n]) })
	if p.err != nil && !isDamage(p.err) {
		s.mu.Lock() // the place may answer the next time
		if s.packs[n] == p {
			delete(s.packs, n)
			s.order = slices.DeleteFunc(s.order, func(o uint32) bool { return o == n })
		}
		s.mu.Unlock()
	}
	return p, p.err
}

// open opens a pack, or where that is damaged a replacement of it.
func (s *Snapshot) open(ctx context.Context, p *packReader, ref PackRef) {
	id, err := parsePackID(ref.ID)
	if p.err = err; err != nil {
		return
	}
	p.err = s.repo.instead(ctx, id.object(), func(name string) (err error) {
		p.footer, p.box, err = s.openPack(ctx, name, id, ref)
		s.mu.Lock()
		p.object = name
		s.mu.Unlock()
		return err
	})
}

// openPack reads header, trailer and footer of the pack that lies at object.
func (s *Snapshot) openPack(ctx context.Context, object string, id packID, ref PackRef) (*footer, *seal.Box, error) {
	fail := func(err error) (*footer, *seal.Box, error) {
		return nil, nil, fmt.Errorf("%q: %w", object, err)
	}
	head := make([]byte, min(headPeek, ref.Size))
	if err := readRange(ctx, s.repo.store, object, 0, head); err != nil {
		return nil, nil, err
	}
	if _, _, err := parseHeader(head); errors.Is(err, ErrDamaged) && ref.Size > headPeek {
		head = make([]byte, min(int64(len(packMagic)+4+seal.MaxWrapped), ref.Size))
		if err := readRange(ctx, s.repo.store, object, 0, head); err != nil {
			return nil, nil, err
		}
	}
	header, wrapped, err := checkHeader(head, id)
	if err != nil {
		return fail(err)
	}
	tail := make([]byte, min(tailPeek, ref.Size))
	if err := readRange(ctx, s.repo.store, object, ref.Size-int64(len(tail)), tail); err != nil {
		return nil, nil, err
	}
	t, err := parseTrailer(tail[len(tail)-trailerLen:], ref.Size)
	if err != nil {
		return fail(err)
	}
	if t.footer < uint64(len(header)) {
		return fail(fmt.Errorf("pack trailer: %w", ErrDamaged))
	}
	var sealed []byte
	if from := ref.Size - int64(len(tail)); int64(t.footer) >= from {
		sealed = tail[int64(t.footer)-from:][:t.sealed]
	} else {
		sealed = make([]byte, t.sealed)
		if err := readRange(ctx, s.repo.store, object, int64(t.footer), sealed); err != nil {
			return nil, nil, err
		}
	}
	var f *footer
	var box *seal.Box
	err = s.repo.unwrap(ctx, s.m.Scope, id.object(), wrapped, s.ids, func(key seal.Key) error {
		box = seal.NewBox(key, packContext(s.repo.id, id))
		plain, err := box.Open(nil, footerSegment, sealed)
		if err != nil {
			return fmt.Errorf("pack footer: %w", ErrDamaged)
		}
		f, err = parseFooter(plain, len(header), t)
		return err
	})
	if err != nil {
		return fail(err)
	}
	return f, box, nil
}

// readSegment reads, opens and decompresses one segment.
func (s *Snapshot) readSegment(ctx context.Context, pack, n uint32, kind uint8, check bool) ([]byte, error) {
	p, err := s.pack(ctx, pack)
	if err != nil {
		return nil, err
	}
	id, err := parsePackID(s.m.Packs[pack].ID)
	if err != nil {
		return nil, err
	}
	if int64(n) >= int64(len(p.footer.segs)) {
		return nil, fmt.Errorf("%q: segment %d of %d: %w", id.object(), n, len(p.footer.segs), ErrDamaged)
	}
	seg := &p.footer.segs[n]
	if seg.kind != kind {
		return nil, fmt.Errorf("%q: segment %d is of kind %d, not %d: %w", id.object(), n, seg.kind, kind, ErrKind)
	}
	s.mu.Lock()
	object := p.object
	s.mu.Unlock()
	plain, err := s.segmentAt(ctx, p, object, n, check)
	if err == nil || !isDamage(err) {
		return plain, err
	}
	others, lerr := s.repo.replacements(ctx, id.object())
	if lerr != nil {
		return nil, err // it is about the object
	}
	for _, o := range others {
		if plain, oerr := s.segmentAt(ctx, p, o, n, check); oerr == nil {
			s.mu.Lock()
			p.object = o
			s.mu.Unlock()
			return plain, nil
		}
	}
	return nil, err
}

// segmentAt reads a segment from a pack that lies at object.
func (s *Snapshot) segmentAt(ctx context.Context, p *packReader, object string, n uint32, check bool) ([]byte, error) {
	seg := &p.footer.segs[n]
	sealed := s.take(int(seg.stored))
	defer s.give(sealed)
	sealed = sealed[:seg.stored]
	if err := readRange(ctx, s.repo.store, object, int64(seg.off), sealed); err != nil {
		return nil, err
	}
	// Opening in place: nobody else holds these bytes.
	scratch := sealed
	var err error
	plain := s.take(int(seg.plain))[:0]
	if seg.code == codeStored {
		plain, _, err = p.footer.openSegment(p.box, int(n), sealed, plain, nil)
	} else {
		plain, _, err = p.footer.openSegment(p.box, int(n), sealed, plain, scratch[:0])
	}
	if err == nil && check {
		err = p.footer.checkChunks(int(n), plain)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", object, err)
	}
	return plain, nil
}

// take returns a buffer with room for n bytes; give returns it for another use.
func (s *Snapshot) take(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.spare {
		if cap(b) >= n {
			last := len(s.spare) - 1
			s.spare[i] = s.spare[last]
			s.spare = s.spare[:last]
			return b[:n]
		}
	}
	return make([]byte, n, (n+4095)&^4095)
}

func (s *Snapshot) give(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) < 8 && cap(b) <= 2*maxChunk {
		s.spare = append(s.spare, b[:0])
	}
}

// content returns a decoded content segment, shared by all who want it now. The
// caller calls release when it is done with the bytes.
func (s *Snapshot) content(ctx context.Context, pack, n uint32, check bool) (plain []byte, release func(), err error) {
	key := segmentKey{pack, n}
	s.mu.Lock()
	r, ok := s.segments[key]
	if !ok {
		r = &segmentReader{done: make(chan struct{})}
		s.segments[key] = r
		s.recent = append(s.recent, key)
	}
	r.users++
	s.mu.Unlock()
	if !ok {
		r.plain, r.err = s.readSegment(ctx, pack, n, kindContent, check)
		close(r.done)
	} else {
		select {
		case <-r.done:
		case <-ctx.Done():
			s.release(key, r)
			return nil, nil, ctx.Err()
		}
	}
	if r.err != nil {
		err := r.err
		s.mu.Lock()
		if s.segments[key] == r {
			delete(s.segments, key)
			s.recent = slices.DeleteFunc(s.recent, func(k segmentKey) bool { return k == key })
		}
		s.mu.Unlock()
		return nil, nil, err
	}
	return r.plain, func() { s.release(key, r) }, nil
}

// release ends a use, and forgets the segments that were wanted longest ago.
func (s *Snapshot) release(key segmentKey, r *segmentReader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	for i := 0; len(s.recent) > openSegments && i < len(s.recent); {
		k := s.recent[i]
		old := s.segments[k]
		if old.users > 0 {
			i++
			continue
		}
		delete(s.segments, k)
		s.recent = slices.Delete(s.recent, i, i+1)
		if len(s.spare) < 8 && cap(old.plain) <= 2*maxChunk {
			s.spare = append(s.spare, old.plain[:0])
		}
	}
}

// Entries calls fn for every entry, in the order in which they were added. An
// error of fn ends the walk and is returned.
func (s *Snapshot) Entries(ctx context.Context, fn func(Entry) error) error {
	return s.walk(ctx, fn, nil)
}

// walk calls fn for every entry that can be read, and lost for every piece of the
// list that cannot. With no lost the first damage ends it.
func (s *Snapshot) walk(ctx context.Context, fn func(Entry) error, lost func(Damage)) error {
	src := &entrySegments{ctx: ctx, s: s}
	n, whole := int64(0), true
	for {
		r := newEntryReader(src, len(s.m.Packs))
		r.resume = !whole
		e, err := r.next()
		for ; err == nil; e, err = r.next() {
			n++
			if err := fn(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		err = fmt.Errorf("snapshot %q: %w", s.m.ID, err)
		if lost == nil || !isDamage(err) || src.next == 0 {
			return err
		}
		whole = false
		src.rest = nil // segments end with lines: the next one can be read alone
		seg := s.root.Entries[src.next-1]
		d := Damage{Segment: int(seg.Segment), Err: err}
		if int64(seg.Pack) < int64(len(s.m.Packs)) {
			if id, perr := parsePackID(s.m.Packs[seg.Pack].ID); perr == nil {
				d.Pack = id.object()
			}
		}
		lost(d)
	}
	if whole && n != s.m.Files {
		return fmt.Errorf("snapshot %q: %d entries of %d: %w", s.m.ID, n, s.m.Files, ErrDamaged)
	}
	return nil
}

// entrySegments reads the entry list as one stream.
type entrySegments struct {
	ctx  context.Context
	s    *Snapshot
	next int
	rest []byte
}

func (r *entrySegments) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == len(r.s.root.Entries) {
			return 0, io.EOF
		}
		seg := r.s.root.Entries[r.next]
		r.next++
		plain, err := r.s.readSegment(r.ctx, seg.Pack, seg.Segment, kindEntries, true)
		if err != nil {
			return 0, fmt.Errorf("entries: %w", err)
		}
		if len(plain) != seg.Size {
			return 0, fmt.Errorf("entries: segment of %d bytes, not %d: %w", len(plain), seg.Size, ErrSubstituted)
		}
		r.rest = plain
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// A File reads the content of an entry: from the start as an io.Reader, anywhere as
// an io.ReaderAt. Every segment is authenticated and compared with its chunk ids.
type File struct {
	ctx context.Context
	s   *Snapshot
	e   Entry
	off int64
}

// Open returns the content of an entry.
func (s *Snapshot) Open(e Entry) *File { return s.OpenContext(context.Background(), e) }

// OpenContext is Open for reads that end with ctx.
func (s *Snapshot) OpenContext(ctx context.Context, e Entry) *File {
	return &File{ctx: ctx, s: s, e: e}
}

// Size returns the length of the content.
func (f *File) Size() int64 { return f.e.Size }

// Read implements io.Reader.
func (f *File) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, f.off)
	f.off += int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %q at %d: negative offset", f.e.Path, off)
	}
	xs := f.e.Extents
	i := sort.Search(len(xs), func(i int) bool { return xs[i].Offset+xs[i].Length > off })
	n := 0
	for n < len(b) && off < f.e.Size {
		stop := f.e.Size // of the hole
		if i < len(xs) && xs[i].Offset <= off {
			x := xs[i]
			from := int64(x.At) + off - x.Offset
			plain, release, err := f.s.content(f.ctx, x.Pack, x.Segment, true)
			if err != nil {
				return n, fmt.Errorf("read %q: %w", f.e.Path, err)
			}
			if int64(x.At)+x.Length > int64(len(plain)) {
				release()
				return n, fmt.Errorf("read %q: extent beyond its segment: %w", f.e.Path, ErrDamaged)
			}
			c := copy(b[n:], plain[from:int64(x.At)+x.Length])
			release()
			n += c
			off += int64(c)
			if off == x.Offset+x.Length {
				i++
			}
			continue
		}
		if i < len(xs) {
			stop = xs[i].Offset
		}
		c := int(min(stop-off, int64(len(b)-n)))
		clear(b[n : n+c])
		n += c
		off += int64(c)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// isDamage tells what a copy has lost from what a place or a caller could not do.
func isDamage(err error) bool {
	for _, e := range [...]error{ErrDamaged, ErrSubstituted, ErrKind, ErrForeign, ErrStray, ErrFormat, ErrLimit, ErrEscape, fs.ErrNotExist, seal.ErrDamaged, seal.ErrNoIdentity} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
