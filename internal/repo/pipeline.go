package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"

	"holdfast/internal/seal"
)

// The pipeline of a writer:
//
//	Add: read, cut ─ bundles of about 1 MiB ─▶ hash the files ─▶ workers: name chunks,
//	drop known ones, compress, decompress and compare, seal into the open pack
//	─ full packs ─▶ open again ─▶ one uploader per place
//
// Memory is bounded by the number of bundles and pack buffers; whoever finds none
// free waits. Each stage is a goroutine of its own, so that one big file that changed
// in a few places keeps more than one core at work.

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

	hashed bool // the chunks of owner, in their order, are its content: hash them
	last   bool // of owner, if hashed
}

// A span is a run of a file inside of a chunk.
type span struct {
	off int64 // in the file
	at  int   // in the chunk
	n   int
}

// A job is a bundle of chunks that are compressed together. Content is read into it and
// cut in place.
type job struct {
	buf  []byte // the chunks, from the front of room, which they never outgrow
	read int    // bytes behind buf that were read and are in no chunk yet
	uses []*use
	room []byte
}

// A job holds bundles of up to bundleSize, or one chunk and what is read behind it to
// see that it is not the last.
const jobRoom = maxChunk + 16<<10

// Jobs that may wait to be hashed, and for a worker. Reading goes on while all workers
// compress, and they find work while small files are opened.
const (
	hashAhead = 2
	workAhead = 1
)

// jobs is how many there may be: the one that is filled and its successor, those that
// wait, the one that is hashed, and one for each worker.
func (c *WriterConfig) jobs() int { return 2 + hashAhead + 1 + workAhead + c.Workers }

// newJob returns an empty job.
func (w *Writer) newJob() (*job, error) {
	select {
	case j := <-w.spare:
		return j, nil
	default:
	}
	room, err := allocate(jobRoom)
	if err != nil {
		return nil, err
	}
	return &job{buf: room[:0], room: room}, nil
}

func (w *Writer) freeJob(j *job) {
	if len(j.buf) > bundleSize { // a long chunk, which is rare
		forget(j.room[bundleSize:])
	}
	clear(j.uses)
	j.buf, j.uses = j.buf[:0], j.uses[:0]
	w.spare <- j
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
	var err error
	if p.e.Cut == CutPages || p.e.Sparse {
		err = w.readPages(ctx, p, content)
	} else {
		err = w.readContent(ctx, p, content)
	}
	p.given = p.e.Size
	return err
}

// readContent cuts where the content says. It reads into the bundle, behind the chunks
// that are there; only what is left when the next chunk does not fit any more is moved, to
// the next bundle. Behind it hashFiles hashes the chunks.
func (w *Writer) readContent(ctx context.Context, p *pending, content io.Reader) error {
	defer w.dropRead()
	var (
		s     search
		n     int
		found bool
		eof   bool
	)
	for idle := 0; ; {
		j := w.bundle
		start := len(j.buf)
		if !found {
			n, found = w.cutter.find(j.room[start:start+j.read], &s)
		}
		// One byte more than the chunk has, or the end: then the last one is known to be it.
		if !eof && (!found || n == j.read) {
			limit := bundleSize + 1
			if start == 0 && j.read >= limit { // a long chunk, which is rare
				limit = len(j.room)
			}
			if start+j.read >= limit {
				if err := w.flush(ctx); err != nil {
					return err
				}
				continue
			}
			got, err := content.Read(j.room[start+j.read : limit])
			j.read += got
			if err == io.EOF {
				eof = true
			} else if err != nil {
				return err
			}
			if idle++; got > 0 {
				idle = 0
			} else if idle > 100 {
				return io.ErrNoProgress
			}
			continue
		}
		if j.read == 0 { // an empty file
			p.e.Hash = w.sum()
			return nil
		}
		if !found {
			n = j.read
		}
		if start > 0 && start+n > bundleSize {
			if err := w.flush(ctx); err != nil {
				return err
			}
			continue
		}
		last := eof && n == j.read
		j.read -= n
		if err := w.addUse(ctx, &use{owner: p, n: n, off: p.e.Size, hashed: true, last: last}); err != nil {
			return err
		}
		p.e.Size += int64(n)
		if last {
			return nil
		}
		s, found = search{}, false
	}
}

// dropRead forgets what a file that could not be read to its end left behind the chunks.
func (w *Writer) dropRead() {
	j := w.bundle
	if len(j.buf)+j.read > bundleSize && len(j.buf) <= bundleSize {
		forget(j.room[bundleSize:])
	}
	j.read = 0
}

// readPages cuts every MiB. In a sparse file it leaves out zero pages, which then
// are holes, and which the chunks do not show: it hashes the file itself. Of a file
// whose pages are known from the last snapshot it stores those that changed; a MiB of
// which they are the greater part, as a whole.
func (w *Writer) readPages(ctx context.Context, p *pending, content io.Reader) error {
	if w.rbuf == nil {
		var err error
		if w.rbuf, err = allocate(readBuffer); err != nil {
			return err
		}
	}
	w.hash.Reset()
	defer func() { p.e.Hash = w.hash.Sum(nil) }()
	_, was := w.former(p.e.Path)
	var (
		laid  = overlay{w: w, p: p, buf: w.rbuf[2*pageChunk : 2*pageChunk : 3*pageChunk]}
		sums  pageSums
		known = w.cache != nil && !p.e.Sparse
	)
	for {
		block := w.rbuf[:pageChunk]
		n, err := fill(content, block)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			break
		}
		block = block[:n]
		_, _ = w.hash.Write(block)
		if known = known && p.e.Size < maxMapped; known {
			sums = w.appendSums(sums, block)
		}
		if was != nil {
			if err := w.readChanged(ctx, &laid, was, sums, block); err != nil {
				return err
			}
		} else {
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
		}
		p.e.Size += int64(n)
		if err != nil {
			break
		}
	}
	if err := laid.send(ctx); err != nil {
		return err
	}
	if was != nil {
		kept, err := w.adopt(subtract(was.extents, laid.covered, p.e.Size))
		if err != nil {
			return err
		}
		w.emitMu.Lock()
		p.e.Extents = append(p.e.Extents, kept...)
		w.emitMu.Unlock()
	}
	if known {
		w.cache.rememberMap(w.hash.Sum(nil), sums)
	}
	return nil
}

// readChanged lays what changed in a block over what was there before.
func (w *Writer) readChanged(ctx context.Context, laid *overlay, was *former, sums pageSums, block []byte) error {
	off := laid.p.e.Size
	first, pages := int(off/pageSize), (len(block)+pageSize-1)/pageSize
	changed := make([]bool, pages)
	n := 0
	for i := range changed {
		at := (first + i) * sumSize
		if changed[i] = at+sumSize > len(sums) || !was.same(first+i, sums[at:at+sumSize]); changed[i] {
			n++
		}
	}
	if 2*n > pages {
		return laid.add(ctx, off, block)
	}
	for i := range changed {
		if !changed[i] {
			continue
		}
		at := i * pageSize
		if err := laid.add(ctx, off+int64(at), block[at:min(at+pageSize, len(block))]); err != nil {
			return err
		}
	}
	return nil
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

// An overlay gathers runs of a file that changed into chunks.
type overlay struct {
	w       *Writer
	p       *pending
	buf     []byte
	spans   []span // where what is in buf belongs
	covered []span // all of the file that was laid over
}

// add takes the next run, of up to a chunk; they ascend.
func (o *overlay) add(ctx context.Context, off int64, data []byte) error {
	if o.buf == nil {
		o.buf = make([]byte, 0, pageChunk)
	}
	if len(o.buf)+len(data) > pageChunk {
		if err := o.send(ctx); err != nil {
			return err
		}
	}
	s := span{off: off, at: len(o.buf), n: len(data)}
	o.spans = appendSpan(o.spans, s)
	o.covered = appendSpan(o.covered, span{off: s.off, n: s.n})
	o.buf = append(o.buf, data...)
	return nil
}

// send stores what is gathered.
func (o *overlay) send(ctx context.Context) error {
	if len(o.buf) == 0 {
		return nil
	}
	err := o.w.addChunk(ctx, o.buf, &use{owner: o.p, n: len(o.buf), spans: o.spans})
	o.buf, o.spans = o.buf[:0], nil
	return err
}

// end returns where the last run ends.
func (o *overlay) end() int64 {
	if n := len(o.covered); n > 0 {
		return o.covered[n-1].off + int64(o.covered[n-1].n)
	}
	return 0
}

// readOverlay gathers changed pages into chunks and returns which runs they cover.
func (w *Writer) readOverlay(ctx context.Context, p *pending, pages iter.Seq2[Page, error]) (covered []span, err error) {
	if pages == nil {
		return nil, nil
	}
	laid := overlay{w: w, p: p}
	for page, err := range pages {
		if err != nil {
			return nil, err
		}
		if len(page.Data) == 0 || len(page.Data) > pageChunk || page.Offset < laid.end() || int64(len(page.Data)) > p.e.Size-page.Offset {
			return nil, fmt.Errorf("page at %d of %d bytes: want ascending pages of up to %d within the file", page.Offset, len(page.Data), pageChunk)
		}
		if err := laid.add(ctx, page.Offset, page.Data); err != nil {
			return nil, err
		}
		p.given += int64(len(page.Data))
	}
	return laid.covered, laid.send(ctx)
}

// addChunk puts a chunk into the bundle.
func (w *Writer) addChunk(ctx context.Context, data []byte, u *use) error {
	if len(w.bundle.buf) > 0 && len(w.bundle.buf)+len(data) > bundleSize {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	copy(w.bundle.room[len(w.bundle.buf):], data)
	return w.addUse(ctx, u)
}

// addUse makes the next u.n bytes of the bundle's room, which hold a chunk, part of it.
func (w *Writer) addUse(ctx context.Context, u *use) error {
	w.emitMu.Lock()
	u.owner.remaining++
	if u.last {
		u.owner.remaining++ // for the hash
	}
	w.emitMu.Unlock()
	j := w.bundle
	j.buf = j.room[:len(j.buf)+u.n]
	j.uses = append(j.uses, u)
	if len(j.buf) >= bundleSize || len(j.uses) >= maxBundleChunks {
		return w.flush(ctx)
	}
	return w.err()
}

// flush hands the bundle to the workers. What was read behind its chunks goes to the
// next one.
func (w *Writer) flush(ctx context.Context) error {
	full := w.bundle
	if len(full.uses) == 0 {
		return nil
	}
	next, err := w.newJob()
	if err != nil {
		w.fail(err)
		return err
	}
	next.read = copy(next.room, full.room[len(full.buf):][:full.read])
	full.read = 0
	w.bundle = next
	select {
	case w.bundles <- full:
		return nil
	case <-ctx.Done():
		w.fail(ctx.Err()) // it holds chunks of entries that count as added
		err = ctx.Err()
	case <-w.ctx.Done():
		err = w.err()
	}
	w.freeJob(full)
	return err
}

// hashFiles hashes the files whose chunks go by, in the order in which they were
// read, and hands the bundles on. An entry that was left out in the middle never
// gets a last chunk.
func (w *Writer) hashFiles() {
	defer close(w.jobs)
	var (
		h  = seal.NewHash()
		of *pending
	)
	for j := range w.bundles {
		rest := j.buf
		for _, u := range j.uses {
			data := rest[:u.n]
			rest = rest[u.n:]
			if !u.hashed || w.ctx.Err() != nil {
				continue
			}
			if u.owner != of {
				h.Reset()
				of = u.owner
			}
			_, _ = h.Write(data)
			if u.last {
				w.emitMu.Lock()
				of.e.Hash = h.Sum(nil)
				of.remaining-- // its last chunk still waits, so that nothing is to be drained
				w.emitMu.Unlock()
				of = nil
			}
		}
		w.jobs <- j // a worker always takes
	}
}

// A bench is what one worker reuses.
type bench struct {
	plain, packed, again []byte // empty, with room for a whole job
	ids                  [][32]byte
}

// work is one worker. Its room lies outside of the heap like that of the jobs: for
// megabytes that stay, the collector would let half as many of garbage gather.
func (w *Writer) work() {
	const each = jobRoom + jobRoom/4 // a compressor may look for more than it needs
	room, err := allocate(3 * each)
	if err != nil {
		w.fail(err)
	}
	defer deallocate(room)
	b := &bench{}
	if err == nil {
		b.plain, b.packed, b.again = room[:0:each], room[each:each:2*each], room[2*each:2*each]
	}
	for j := range w.jobs {
		if w.ctx.Err() == nil {
			if err := w.process(j, b); err != nil {
				w.fail(err)
			}
			if len(j.buf) > bundleSize {
				for at := bundleSize; at < len(room); at += each {
					forget(room[at : at+each-bundleSize])
				}
			}
		}
		w.freeJob(j)
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
		plain = b.plain
		for _, i := range which {
			plain = append(plain, j.buf[starts[i]:starts[i+1]]...)
		}
	}
	chunks := make([]chunk, len(which))
	for n, i := range which {
		chunks[n] = chunk{b.ids[i], uint32(j.uses[i].n)}
	}
	stored, code := compress(b.packed, plain, codec)
	if err := proofread(b.again, plain, stored, code); err != nil {
		return err
	}
	l, err := w.data.put(kindContent, len(plain), stored, code, chunks)
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

// proofread decompresses what is about to be sealed, while it is still in the
// processor's cache, and compares it with what was read. A compressor with a fault
// has cost others their backups: restic's issues 4523 and 4677.
func proofread(room, plain, stored []byte, code uint8) error {
	if code == codeStored {
		return nil
	}
	again, err := decompress(room, stored, code, len(plain))
	if err == nil && !bytes.Equal(again, plain) {
		err = ErrDamaged
	}
	if err != nil {
		return fmt.Errorf("%d bytes do not come back from the compressor, nothing of them was stored: %w", len(plain), err)
	}
	return nil
}
