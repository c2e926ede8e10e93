package repo

import (
	"bytes"
	"fmt"
	"sync"

	"holdfast/internal/seal"
)

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
func (b *builder) put(kind uint8, plain int, stored []byte, code uint8, chunks []chunk) (location, error) {
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
	p.footer.segs = append(p.footer.segs, segment{uint64(at), uint32(sealed), uint32(plain), code, kind, chunks})
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

// finishPack writes footer and trailer, opens the whole pack as any reader would,
// and hands it to the places.
func (w *Writer) finishPack(b *builder, p *openPack) {
	done := func() {
		if len(p.buf) > packSmall {
			forget(p.buf[packSmall:cap(p.buf)])
		}
		b.free <- p.buf[:0]
		w.packing.Done()
	}
	p.sealing.Wait()
	if w.ctx.Err() != nil {
		done()
		return
	}
	p.close()
	if err := reopen(p, w.repoID); err != nil {
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

// close writes footer, padding and trailer behind the segments. The buffer has room.
func (p *openPack) close() {
	t := trailer{footer: uint64(len(p.buf)), segments: uint32(len(p.footer.segs))}
	p.buf = p.box.Seal(p.buf, footerSegment, p.footer.append(nil))
	t.sealed = uint32(uint64(len(p.buf)) - t.footer)
	pad := padding(len(p.buf))
	clear(p.buf[len(p.buf) : len(p.buf)+pad]) // an earlier pack lay here
	p.buf = t.append(p.buf[:len(p.buf)+pad])
}

// reopen opens the finished pack from its bytes alone as any reader would, with every
// segment in it. What each of them holds was compared before it was sealed.
func reopen(p *openPack, repository string) error {
	f, box, err := openWhole(p.buf, repository, p.id, p.key)
	if err != nil {
		return err
	}
	if !bytes.Equal(f.append(nil), p.footer.append(nil)) {
		return fmt.Errorf("another table of contents: %w", ErrDamaged)
	}
	room := rooms.Get().(*room)
	defer rooms.Put(room)
	for i, s := range f.segs {
		room.scratch, err = box.Open(room.scratch[:0], uint64(i), p.buf[s.off:s.off+uint64(s.stored)])
		if err != nil {
			return fmt.Errorf("segment %d: %w", i, err)
		}
	}
	return nil
}
