package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"holdfast/internal/seal"
)

// The pipeline of a writer:
//
//	Add: read, cut, hash the file ─ bundles of about 1 MiB ─▶ workers: name chunks,
//	drop known ones, compress, seal into the open pack ─ full packs ─▶ check by
//	decoding ─▶ one uploader per place
//
// Memory is bounded by the number of bundles and pack buffers; whoever finds none
// free waits.

// A chunkKey is the first half of a chunk id. 128 bits of a keyed hash do not
// collide, and an index of a terabyte stays small.
type chunkKey [16]byte

// A location says where a chunk is stored.
type location struct {
	pack    uint32 // index in known
	segment uint32
	at      uint32
}

// A flight is a chunk that a worker is storing now; others with the same content wait for it.
type flight struct{ waiting []*use }

// A use is one chunk of one entry.
type use struct {
	owner *pending
	n     int
	off   int64  // in the file, if the chunk is one run of it
	spans []span // else
}

// A span is a run of a file inside of a chunk.
type span struct {
	off int64 // in the file
	at  int   // in the chunk
	n   int
}

// A job is a bundle of chunks that are compressed together.
type job struct {
	buf  []byte
	uses []*use
}

var jobPool = sync.Pool{New: func() any { return &job{buf: make([]byte, 0, bundleSize)} }}

func newJob() *job { return jobPool.Get().(*job) }

func (j *job) free() {
	clear(j.uses)
	j.buf, j.uses = j.buf[:0], j.uses[:0]
	jobPool.Put(j)
}

// A pending entry waits for its chunks to be stored.
type pending struct {
	e         Entry
	given     int64 // bytes that the caller gave
	remaining int   // chunks, and one until Add has seen the end; owned by emitMu
	drop      bool
}

// begin puts an entry into the list.
func (w *Writer) begin(e Entry) *pending {
	p := &pending{e: e, remaining: 1}
	w.emitMu.Lock()
	w.emit.queue = append(w.emit.queue, p)
	w.emitMu.Unlock()
	return p
}

// end says that all chunks of an entry are on their way.
func (w *Writer) end(p *pending, drop bool) {
	w.emitMu.Lock()
	p.drop = drop
	p.remaining--
	cuts := w.drain()
	waiting := len(w.emit.queue)
	w.emitMu.Unlock()
	w.mu.Lock()
	if !drop {
		w.stats.Files++
		w.stats.BytesRead += p.given
	}
	w.mu.Unlock()
	w.storeEntries(cuts)
	if waiting > maxWaiting {
		_ = w.flush(w.ctx) // a lost writer is reported by the next call
	}
}

// read cuts a file's content into chunks.
func (w *Writer) read(ctx context.Context, p *pending, content io.Reader) error {
	if w.rbuf == nil {
		w.rbuf = make([]byte, readBuffer)
	}
	w.hash.Reset()
	var err error
	if p.e.Cut == CutPages || p.e.Sparse {
		err = w.readPages(ctx, p, content)
	} else {
		err = w.readContent(ctx, p, content)
	}
	p.e.Hash, p.given = w.hash.Sum(nil), p.e.Size
	return err
}

func (w *Writer) readContent(ctx context.Context, p *pending, content io.Reader) error {
	start, end, idle := 0, 0, 0
	for eof := false; ; {
		for !eof && end-start < maxChunk {
			if end == len(w.rbuf) {
				end = copy(w.rbuf, w.rbuf[start:end])
				start = 0
			}
			n, err := content.Read(w.rbuf[end:])
			_, _ = w.hash.Write(w.rbuf[end : end+n])
			end += n
			if err == io.EOF {
				eof = true
			} else if err != nil {
				return err
			}
			if idle++; n > 0 {
				idle = 0
			} else if idle > 100 {
				return io.ErrNoProgress
			}
		}
		if start == end {
			return nil
		}
		n := w.cutter.next(w.rbuf[start:end])
		if err := w.addChunk(ctx, w.rbuf[start:start+n], &use{owner: p, n: n, off: p.e.Size}); err != nil {
			return err
		}
		start += n
		p.e.Size += int64(n)
	}
}

// readPages cuts every MiB. In a sparse file it leaves out zero pages, which then
// are holes.
func (w *Writer) readPages(ctx context.Context, p *pending, content io.Reader) error {
	for {
		block := w.rbuf[:pageChunk]
		n, err := fill(content, block)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return nil
		}
		block = block[:n]
		_, _ = w.hash.Write(block)
		u := &use{owner: p, n: n, off: p.e.Size}
		if p.e.Sparse {
			block, u.spans = squeeze(block, p.e.Size)
			u.n = len(block)
		}
		if u.n > 0 {
			if err := w.addChunk(ctx, block, u); err != nil {
				return err
			}
		}
		p.e.Size += int64(n)
		if err != nil {
			return nil
		}
	}
}

// squeeze moves the non-zero pages of a block together, in place, and says where
// each run of them belongs.
func squeeze(block []byte, off int64) ([]byte, []span) {
	var spans []span
	kept := 0
	for at := 0; at < len(block); at += pageSize {
		page := block[at:min(at+pageSize, len(block))]
		if isZero(page) {
			continue
		}
		if last := len(spans) - 1; last >= 0 && spans[last].off+int64(spans[last].n) == off+int64(at) {
			spans[last].n += len(page)
		} else {
			spans = append(spans, span{off: off + int64(at), at: kept, n: len(page)})
		}
		kept += copy(block[kept:], page)
	}
	return block[:kept], spans
}

// readOverlay gathers changed pages into chunks and returns which runs they cover.
func (w *Writer) readOverlay(ctx context.Context, p *pending, pages iter.Seq2[Page, error]) (covered []span, err error) {
	if pages == nil {
		return nil, nil
	}
	var (
		buf   = make([]byte, 0, pageChunk)
		spans []span
	)
	send := func() error {
		if len(buf) == 0 {
			return nil
		}
		err := w.addChunk(ctx, buf, &use{owner: p, n: len(buf), spans: spans})
		buf, spans = buf[:0], nil
		return err
	}
	for page, err := range pages {
		if err != nil {
			return nil, err
		}
		end := int64(0)
		if n := len(covered); n > 0 {
			end = covered[n-1].off + int64(covered[n-1].n)
		}
		if len(page.Data) == 0 || len(page.Data) > pageChunk || page.Offset < end || int64(len(page.Data)) > p.e.Size-page.Offset {
			return nil, fmt.Errorf("page at %d of %d bytes: want ascending pages of up to %d within the file", page.Offset, len(page.Data), pageChunk)
		}
		if len(buf)+len(page.Data) > pageChunk {
			if err := send(); err != nil {
				return nil, err
			}
		}
		s := span{off: page.Offset, at: len(buf), n: len(page.Data)}
		spans = appendSpan(spans, s)
		covered = appendSpan(covered, span{off: s.off, n: s.n})
		buf = append(buf, page.Data...)
		p.given += int64(len(page.Data))
	}
	return covered, send()
}

// addChunk puts a chunk into the bundle.
func (w *Writer) addChunk(ctx context.Context, data []byte, u *use) error {
	if len(w.bundle.buf) > 0 && len(w.bundle.buf)+len(data) > bundleSize {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.emitMu.Lock()
	u.owner.remaining++
	w.emitMu.Unlock()
	w.bundle.buf = append(w.bundle.buf, data...)
	w.bundle.uses = append(w.bundle.uses, u)
	if len(w.bundle.buf) >= bundleSize || len(w.bundle.uses) >= maxBundleChunks {
		return w.flush(ctx)
	}
	return w.err()
}

// flush hands the bundle to the workers.
func (w *Writer) flush(ctx context.Context) error {
	if len(w.bundle.uses) == 0 {
		return nil
	}
	select {
	case w.jobs <- w.bundle:
		w.bundle = newJob()
		return nil
	case <-ctx.Done():
		w.fail(ctx.Err()) // the bundle holds chunks of entries that count as added
		return ctx.Err()
	case <-w.ctx.Done():
		return w.err()
	}
}

// bench is what one worker reuses.
type bench struct {
	plain, packed []byte
	ids           [][32]byte
}

func (w *Writer) work() {
	b := &bench{packed: make([]byte, 0, maxChunk+maxChunk/4)}
	for j := range w.jobs {
		if w.ctx.Err() == nil {
			if err := w.process(j, b); err != nil {
				w.fail(err)
			}
		}
		j.free()
	}
}

// process names the chunks of a bundle and stores those that are new.
func (w *Writer) process(j *job, b *bench) error {
	b.ids = b.ids[:0]
	rest := j.buf
	for _, u := range j.uses {
		b.ids = append(b.ids, w.cfg.MAC.ID(rest[:u.n]))
		rest = rest[u.n:]
	}
	type found struct {
		u *use
		l location
	}
	var (
		known []found
		fresh []int // indexes in j.uses
	)
	w.mu.Lock()
	for i, u := range j.uses {
		key := chunkKey(b.ids[i][:])
		if l, ok := w.index.get(key); ok {
			known = append(known, found{u, l})
		} else if f, ok := w.flights[key]; ok {
			f.waiting = append(f.waiting, u)
		} else {
			w.flights[key] = &flight{waiting: []*use{u}}
			fresh = append(fresh, i)
			w.stats.BytesNew += int64(u.n)
		}
	}
	w.mu.Unlock()
	for _, f := range known {
		w.resolve([]*use{f.u}, f.l)
	}
	// What is compressed already is kept apart, so that it does not spoil the rest.
	var soft, hard []int
	starts := make([]int, len(j.uses)+1)
	for i, u := range j.uses {
		starts[i+1] = starts[i] + u.n
	}
	for _, i := range fresh {
		if w.cfg.Codec != Stored && incompressible(j.buf[starts[i]:starts[i+1]]) {
			hard = append(hard, i)
		} else {
			soft = append(soft, i)
		}
	}
	if err := w.store(j, starts, soft, w.cfg.Codec, b); err != nil {
		return err
	}
	return w.store(j, starts, hard, Stored, b)
}

// store puts the chunks numbered which into one segment.
func (w *Writer) store(j *job, starts, which []int, codec Codec, b *bench) error {
	if len(which) == 0 {
		return nil
	}
	plain := j.buf
	if len(which) < len(j.uses) {
		b.plain = b.plain[:0]
		for _, i := range which {
			b.plain = append(b.plain, j.buf[starts[i]:starts[i+1]]...)
		}
		plain = b.plain
	}
	chunks := make([]chunk, len(which))
	for n, i := range which {
		chunks[n] = chunk{b.ids[i], uint32(j.uses[i].n)}
	}
	stored, code := compress(b.packed, plain, codec)
	if code != codeStored {
		b.packed = stored[:0]
	}
	l, err := w.data.put(kindContent, plain, stored, code, chunks)
	if err != nil {
		return err
	}
	for _, i := range which {
		key := chunkKey(b.ids[i][:])
		w.mu.Lock()
		f := w.flights[key]
		delete(w.flights, key)
		err := w.index.put(key, l)
		w.mu.Unlock()
		if err != nil {
			return err
		}
		w.resolve(f.waiting, l)
		l.at += uint32(j.uses[i].n)
	}
	return nil
}

// resolve tells entries where a chunk of theirs lies.
func (w *Writer) resolve(uses []*use, l location) {
	w.mu.Lock()
	pack := w.number(l.pack)
	w.mu.Unlock()
	w.emitMu.Lock()
	for _, u := range uses {
		if u.spans == nil {
			u.owner.e.Extents = append(u.owner.e.Extents, Extent{u.off, int64(u.n), pack, l.segment, l.at})
		}
		for _, s := range u.spans {
			u.owner.e.Extents = append(u.owner.e.Extents, Extent{s.off, int64(s.n), pack, l.segment, l.at + uint32(s.at)})
		}
		u.owner.remaining--
	}
	cuts := w.drain()
	w.emitMu.Unlock()
	w.storeEntries(cuts)
}

// An emitter writes the list of entries in the order in which they were added.
// The writer's emitMu owns it.
type emitter struct {
	queue    []*pending
	list     []byte
	first    string // path of the first entry that begins in list
	begun    bool   // whether one does
	lines    int
	last     string
	unsorted bool
	files    int64
	bytes    int64
	segments []rootEntries
}

// A root lists the segments that hold the entries.
type root struct {
	Format  int           `json:"format"`
	Scope   string        `json:"scope"`
	Kind    string        `json:"kind"`
	ID      string        `json:"id"`
	Sorted  bool          `json:"sorted"`
	Files   int64         `json:"files"`
	Bytes   int64         `json:"bytes"`
	Entries []rootEntries `json:"entries"`
}

type rootEntries struct {
	Pack    uint32 `json:"pack"`
	Segment uint32 `json:"segment"`
	Size    int    `json:"size"`
	Lines   int    `json:"lines"`
	First   *text  `json:"first,omitempty"`
}

func (t text) MarshalJSON() ([]byte, error) { return appendText(nil, string(t)), nil }

// A cut is a piece of the entry list on its way to its segment.
type cut struct {
	slot  int
	plain []byte
}

// drain writes out the entries at the head of the queue that wait for nothing,
// and returns the pieces of the list that are full. The caller holds emitMu.
func (w *Writer) drain() []cut {
	em := &w.emit
	n := 0
	var cuts []cut
	for ; n < len(em.queue) && em.queue[n].remaining == 0; n++ {
		p := em.queue[n]
		em.queue[n] = nil
		if p.drop {
			continue
		}
		e := &p.e
		slices.SortFunc(e.Extents, func(a, b Extent) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
		e.Extents = joinExtents(e.Extents)
		if em.files > 0 && comparePaths(em.last, e.Path) >= 0 {
			em.unsorted = true
		}
		em.last = e.Path
		em.files++
		em.bytes += e.Size
		if !em.begun {
			em.first, em.begun = e.Path, true
		}
		at := len(em.list)
		em.list = appendEntry(em.list, e)
		em.lines += 1 + max(0, (len(e.Extents)-1)/extentsPerLine)
		w.cache.remember(em.list[at:])
		for len(em.list) >= bundleSize {
			cuts = append(cuts, em.cut(bundleSize))
		}
	}
	em.queue = em.queue[n:]
	return cuts
}

// cut takes the first lines off the list: at least n bytes of them, or all.
func (em *emitter) cut(n int) cut {
	end := len(em.list)
	if n < end {
		end = n - 1
		for em.list[end] != '\n' {
			end++
		}
		end++
	}
	c := cut{slot: len(em.segments), plain: slices.Clone(em.list[:end])}
	lines := 0
	for _, b := range c.plain {
		if b == '\n' {
			lines++
		}
	}
	r := rootEntries{Size: end, Lines: lines}
	if em.begun {
		first := text(em.first)
		r.First = &first
	}
	em.segments = append(em.segments, r)
	em.list = em.list[:copy(em.list, em.list[end:])]
	em.lines -= lines
	em.begun = false // what is left can only continue the last entry
	return c
}

// storeEntries puts pieces of the entry list into segments.
func (w *Writer) storeEntries(cuts []cut) {
	for _, c := range cuts {
		l, err := w.storeMeta(kindEntries, c.plain)
		if err != nil {
			w.fail(err)
			return
		}
		w.mu.Lock()
		pack := w.number(l.pack)
		w.mu.Unlock()
		w.emitMu.Lock()
		w.emit.segments[c.slot].Pack, w.emit.segments[c.slot].Segment = pack, l.segment
		w.emitMu.Unlock()
	}
}

func (w *Writer) storeMeta(kind uint8, plain []byte) (location, error) {
	if len(plain) > maxPlain {
		return location{}, fmt.Errorf("snapshot %q: a root or entry of %d bytes: %w", w.id, len(plain), ErrLimit)
	}
	stored, code := compress(nil, plain, Zstd)
	return w.meta.put(kind, plain, stored, code, []chunk{{w.cfg.MAC.ID(plain), uint32(len(plain))}})
}

// finishEntries writes the rest of the list and the root, and returns where it lies.
func (w *Writer) finishEntries() (RootRef, error) {
	w.emitMu.Lock()
	var cuts []cut
	if len(w.emit.list) > 0 {
		cuts = append(cuts, w.emit.cut(len(w.emit.list)))
	}
	left := len(w.emit.queue)
	w.emitMu.Unlock()
	w.storeEntries(cuts)
	if err := w.err(); err != nil {
		return RootRef{}, err
	}
	if left > 0 {
		panic(fmt.Sprintf("repo: %d entries wait for chunks though all workers have ended", left))
	}
	em := &w.emit
	b, err := json.Marshal(root{formatOne, w.cfg.Scope, w.cfg.Kind, w.id, !em.unsorted, em.files, em.bytes, em.segments})
	if err != nil {
		return RootRef{}, err
	}
	l, err := w.storeMeta(kindRoot, b)
	if err != nil {
		return RootRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return RootRef{w.number(l.pack), l.segment}, nil
}

// A builder fills packs, one after the other. Workers reserve room in the open
// pack and seal into it side by side.
type builder struct {
	w      *Writer
	target func() int // of the next pack
	room   int        // the longest target
	free   chan []byte
	all    [][]byte

	mu  sync.Mutex
	cur *openPack
}

type openPack struct {
	id      packID
	known   uint32
	key     seal.Key
	box     *seal.Box
	target  int
	buf     []byte
	footer  footer
	chunks  int
	sealing sync.WaitGroup
}

func newBuilder(w *Writer, target func() int, room, buffers int) *builder {
	return &builder{w: w, target: target, room: room, free: make(chan []byte, buffers)}
}

// put seals a segment into the open pack and says where it lies.
func (b *builder) put(kind uint8, plain, stored []byte, code uint8, chunks []chunk) (location, error) {
	sealed := len(stored) + seal.Overhead
	b.mu.Lock()
	p := b.cur
	if p != nil && (len(p.buf)+sealed+footerLen(len(p.footer.segs)+1, p.chunks+len(chunks)) > p.target || len(p.footer.segs) == maxSegments) {
		b.closeCurrent()
		p = nil
	}
	if p == nil {
		var err error
		if p, err = b.open(); err != nil {
			b.mu.Unlock()
			return location{}, err
		}
		b.cur = p
	}
	at, n := len(p.buf), len(p.footer.segs)
	p.buf = p.buf[:at+sealed]
	region := p.buf[at : at : at+sealed]
	p.footer.segs = append(p.footer.segs, segment{uint64(at), uint32(sealed), uint32(len(plain)), code, kind, chunks})
	p.chunks += len(chunks)
	p.sealing.Add(1)
	b.mu.Unlock()
	// The number n is used once under this key: it was reserved above.
	p.box.Seal(region, uint64(n), stored)
	p.sealing.Done()
	return location{pack: p.known, segment: uint32(n)}, nil
}

// open begins a pack with a key of its own. The caller holds mu.
func (b *builder) open() (*openPack, error) {
	buf, err := b.buffer()
	if err != nil {
		return nil, err
	}
	w := b.w
	p := &openPack{key: seal.NewKey(), footer: footer{mac: w.cfg.MAC}, target: b.target()}
	wrapped, err := seal.Wrap(p.key, w.cfg.Recipients)
	if err != nil {
		b.free <- buf
		return nil, err
	}
	p.buf = appendHeader(buf[:0], wrapped)
	p.id = idOfHeader(p.buf)
	p.box = seal.NewBox(p.key, packContext(w.repoID, p.id))
	w.mu.Lock()
	p.known = uint32(len(w.known))
	w.known = append(w.known, knownPack{id: p.id, number: -1, mine: true})
	w.byID[p.id] = p.known
	w.mu.Unlock()
	return p, nil
}

// buffer returns room for one pack; it waits until one is free.
func (b *builder) buffer() ([]byte, error) {
	select {
	case buf := <-b.free:
		return buf, nil
	default:
	}
	if len(b.all) < cap(b.free) {
		buf, err := allocate(b.room + packSlack)
		if err != nil {
			return nil, err
		}
		b.all = append(b.all, buf)
		return buf, nil
	}
	select {
	case buf := <-b.free:
		return buf, nil
	case <-b.w.ctx.Done():
		return nil, b.w.err()
	}
}

// release frees the buffers. Nothing may use them any more.
func (b *builder) release() {
	for _, buf := range b.all {
		deallocate(buf)
	}
	b.all = nil
}

// closeCurrent sends the open pack on its way. The caller holds mu.
func (b *builder) closeCurrent() {
	p := b.cur
	b.cur = nil
	if p == nil {
		return
	}
	b.w.packing.Add(1)
	go b.w.finishPack(b, p)
}

// finishPack writes footer and trailer, reads the whole pack back as any reader
// would, and hands it to the places.
func (w *Writer) finishPack(b *builder, p *openPack) {
	done := func() {
		forget(p.buf)
		b.free <- p.buf[:0]
		w.packing.Done()
	}
	p.sealing.Wait()
	if w.ctx.Err() != nil {
		done()
		return
	}
	t := trailer{footer: uint64(len(p.buf)), segments: uint32(len(p.footer.segs))}
	p.buf = p.box.Seal(p.buf, footerSegment, p.footer.append(nil))
	t.sealed = uint32(uint64(len(p.buf)) - t.footer)
	pad := padding(len(p.buf))
	clear(p.buf[len(p.buf) : len(p.buf)+pad]) // an earlier pack lay here
	p.buf = t.append(p.buf[:len(p.buf)+pad])
	if err := proofread(p, w.repoID); err != nil {
		w.fail(fmt.Errorf("pack %s does not read back, nothing of it was stored: %w", p.id, err))
		done()
		return
	}
	p.key, p.box = seal.Key{}, nil // a writer cannot read what it wrote
	w.mu.Lock()
	w.known[p.known].ref = PackRef{ID: p.id.String(), Size: int64(len(p.buf)), Hash: hexHash(p.buf)}
	w.stats.BytesStored += int64(len(p.buf))
	ref := w.known[p.known].ref
	w.mu.Unlock()
	w.upload(p, ref, done)
}

// proofread opens the pack from its bytes alone and compares every chunk with the
// id that was made from the source's bytes.
func proofread(p *openPack, repository string) error {
	f, box, err := openWhole(p.buf, repository, p.id, p.key)
	if err != nil {
		return err
	}
	if len(f.segs) != len(p.footer.segs) {
		return fmt.Errorf("%d segments of %d: %w", len(f.segs), len(p.footer.segs), ErrDamaged)
	}
	return verifyWhole(f, box, p.buf, func(_ int, err error) error { return err })
}
