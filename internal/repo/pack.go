package repo

import (
	"encoding/binary"
	"fmt"
	"sync"

	"holdfast/internal/seal"
)

// Layout of a pack; docs/format/repository.md, section 4.
const (
	packMagic     = "HFPACK1\n"
	packEnd       = "HFPACKE\n"
	trailerLen    = 8 + 4 + 4 + len(packEnd)
	footerSegment = 1<<32 - 1

	maxPack     = 128 << 20
	maxSegments = 65535
	maxFooter   = 16 << 20
	maxPadding  = 65535

	kindContent = 1
	kindEntries = 2
	kindRoot    = 3
)

// A chunk is one run of plain text with its keyed id.
type chunk struct {
	id [32]byte
	n  uint32
}

// A segment is what was compressed and sealed in one piece.
type segment struct {
	off    uint64
	stored uint32
	plain  uint32
	code   uint8
	kind   uint8
	chunks []chunk
}

// A footer lists the segments of a pack. With it a pack describes itself: no
// index anywhere else is needed to read it.
type footer struct {
	mac  seal.MACKey
	segs []segment
}

func packContext(repository string, id packID) []byte {
	return []byte("holdfast/1 pack\n" + repository + "\n" + id.String())
}

func appendHeader(dst, wrapped []byte) []byte {
	dst = append(dst, packMagic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(wrapped)))
	return append(dst, wrapped...)
}

// parseHeader returns the header at the start of b and the wrapped key in it.
func parseHeader(b []byte) (header, wrapped []byte, err error) {
	const fixed = len(packMagic) + 4
	if len(b) < fixed {
		return nil, nil, fmt.Errorf("pack header: %d bytes: %w", len(b), ErrDamaged)
	}
	if string(b[:len(packMagic)]) != packMagic {
		if string(b[:len(logMagic)]) == logMagic {
			return nil, nil, fmt.Errorf("a log piece where a pack belongs: %w", ErrKind)
		}
		return nil, nil, fmt.Errorf("pack header: magic: %w", ErrDamaged)
	}
	n := binary.BigEndian.Uint32(b[len(packMagic):])
	if n == 0 || n > seal.MaxWrapped || int(n) > len(b)-fixed {
		return nil, nil, fmt.Errorf("pack header: wrapped key of %d bytes: %w", n, ErrDamaged)
	}
	return b[:fixed+int(n)], b[fixed : fixed+int(n)], nil
}

func idOfHeader(header []byte) packID {
	h := seal.Hash(header)
	return packID(h[:16])
}

// checkHeader ties a header to the id under which it was fetched.
func checkHeader(b []byte, id packID) (header, wrapped []byte, err error) {
	header, wrapped, err = parseHeader(b)
	if err != nil {
		return nil, nil, err
	}
	if idOfHeader(header) == id {
		return header, wrapped, nil
	}
	// A wrapped key carries its own checksum: if that holds, somebody put another
	// whole pack here; if not, the medium changed a byte.
	if _, werr := seal.WrappedTo(wrapped); werr != nil {
		return nil, nil, fmt.Errorf("pack header: %w", ErrDamaged)
	}
	return nil, nil, fmt.Errorf("pack header belongs to pack %s: %w", idOfHeader(header), ErrSubstituted)
}

type trailer struct {
	footer   uint64
	sealed   uint32
	segments uint32
}

func (t trailer) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, t.footer)
	dst = binary.BigEndian.AppendUint32(dst, t.sealed)
	dst = binary.BigEndian.AppendUint32(dst, t.segments)
	return append(dst, packEnd...)
}

// parseTrailer reads the last bytes of a pack of the given size.
func parseTrailer(b []byte, size int64) (t trailer, err error) {
	if len(b) != trailerLen || string(b[trailerLen-len(packEnd):]) != packEnd {
		return t, fmt.Errorf("pack trailer: %w", ErrDamaged)
	}
	t.footer = binary.BigEndian.Uint64(b)
	t.sealed = binary.BigEndian.Uint32(b[8:])
	t.segments = binary.BigEndian.Uint32(b[12:])
	room := uint64(size) - uint64(trailerLen)
	if size > maxPack || t.sealed < seal.Overhead || t.sealed > maxFooter+seal.Overhead || t.segments == 0 || t.segments > maxSegments ||
		t.footer > room || room-t.footer < uint64(t.sealed) || room-t.footer-uint64(t.sealed) > maxPadding {
		return t, fmt.Errorf("pack trailer: %w", ErrDamaged)
	}
	return t, nil
}

// padding is how many zero bytes follow a footer that ends at n.
func padding(n int) int {
	unit := 4 << 10
	if n >= 1<<20 {
		unit = 64 << 10
	}
	return (unit - (n+trailerLen)%unit) % unit
}

func (f *footer) append(dst []byte) []byte {
	dst = append(dst, 1)
	dst = append(dst, f.mac[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.segs)))
	for _, s := range f.segs {
		dst = binary.BigEndian.AppendUint64(dst, s.off)
		dst = binary.BigEndian.AppendUint32(dst, s.stored)
		dst = binary.BigEndian.AppendUint32(dst, s.plain)
		dst = append(dst, s.code, s.kind)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.chunks)))
		for _, c := range s.chunks {
			dst = append(dst, c.id[:]...)
			dst = binary.BigEndian.AppendUint32(dst, c.n)
		}
	}
	return dst
}

// footerLen is the length of append's result, known before it is made.
func footerLen(segments, chunks int) int {
	return 1 + len(seal.MACKey{}) + 4 + segments*segmentLen + chunks*chunkLen
}

const (
	segmentLen = 8 + 4 + 4 + 1 + 1 + 4
	chunkLen   = 32 + 4
)

// parseFooter reads a footer and checks all that it claims about the pack: start
// is where the segments begin, t what the trailer says.
func parseFooter(b []byte, start int, t trailer) (*footer, error) {
	bad := func(what string) (*footer, error) {
		return nil, fmt.Errorf("pack footer: %s: %w", what, ErrDamaged)
	}
	const fixed = 1 + 32 + 4
	if len(b) < fixed || len(b) > maxFooter {
		return bad("length")
	}
	if b[0] != 1 {
		return nil, fmt.Errorf("pack footer version %d: %w", b[0], ErrFormat)
	}
	f := &footer{mac: seal.MACKey(b[1:33])}
	n := binary.BigEndian.Uint32(b[33:])
	b = b[fixed:]
	if n != t.segments || uint64(n)*segmentLen > uint64(len(b)) {
		return bad("number of segments")
	}
	f.segs = make([]segment, n)
	at := uint64(start)
	for i := range f.segs {
		s := &f.segs[i]
		if len(b) < segmentLen {
			return bad("cut short")
		}
		s.off = binary.BigEndian.Uint64(b)
		s.stored = binary.BigEndian.Uint32(b[8:])
		s.plain = binary.BigEndian.Uint32(b[12:])
		s.code, s.kind = b[16], b[17]
		chunks := binary.BigEndian.Uint32(b[18:])
		b = b[segmentLen:]
		if s.off != at || s.stored < seal.Overhead || s.plain == 0 || s.plain > maxPlain ||
			s.kind < kindContent || s.kind > kindRoot || s.code > codeS2 {
			return bad("segment")
		}
		at += uint64(s.stored)
		if chunks == 0 || uint64(chunks)*chunkLen > uint64(len(b)) {
			return bad("number of chunks")
		}
		s.chunks = make([]chunk, chunks)
		sum := uint64(0)
		for j := range s.chunks {
			s.chunks[j] = chunk{id: [32]byte(b), n: binary.BigEndian.Uint32(b[32:])}
			if s.chunks[j].n == 0 {
				return bad("chunk length")
			}
			sum += uint64(s.chunks[j].n)
			b = b[chunkLen:]
		}
		if sum != uint64(s.plain) {
			return bad("chunk lengths")
		}
	}
	if len(b) != 0 || at != t.footer {
		return bad("end")
	}
	return f, nil
}

// openSegment opens and decompresses segment i from its sealed bytes and appends
// the plain text to dst. scratch is reused and returned.
func (f *footer) openSegment(box *seal.Box, i int, sealed, dst, scratch []byte) (plain, _ []byte, err error) {
	s := &f.segs[i]
	if s.code == codeStored {
		if s.stored != s.plain+seal.Overhead {
			return nil, scratch, fmt.Errorf("segment %d: stored length: %w", i, ErrDamaged)
		}
		if plain, err = box.Open(dst, uint64(i), sealed); err != nil {
			return nil, scratch, fmt.Errorf("segment %d: %w", i, ErrDamaged)
		}
		return plain, scratch, nil
	}
	scratch, err = box.Open(scratch[:0], uint64(i), sealed)
	if err != nil {
		return nil, scratch, fmt.Errorf("segment %d: %w", i, ErrDamaged)
	}
	plain, err = decompress(dst, scratch, s.code, int(s.plain))
	if err != nil {
		return nil, scratch, fmt.Errorf("segment %d: %w", i, err)
	}
	return plain, scratch, nil
}

// checkChunks compares the plain text of segment i with its chunk ids.
func (f *footer) checkChunks(i int, plain []byte) error {
	for _, c := range f.segs[i].chunks {
		if f.mac.ID(plain[:c.n]) != c.id {
			return fmt.Errorf("segment %d: content is not what its id says: %w", i, ErrDamaged)
		}
		plain = plain[c.n:]
	}
	return nil
}

// openWhole reads a pack that is in memory as any reader would: header, trailer,
// footer, padding. The segments are still sealed.
func openWhole(b []byte, repository string, id packID, key seal.Key) (*footer, *seal.Box, error) {
	header, _, err := checkHeader(b, id)
	if err != nil {
		return nil, nil, err
	}
	if len(b) < len(header)+trailerLen {
		return nil, nil, fmt.Errorf("pack of %d bytes: %w", len(b), ErrDamaged)
	}
	t, err := parseTrailer(b[len(b)-trailerLen:], int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	end := t.footer + uint64(t.sealed)
	if t.footer < uint64(len(header)) || !isZero(b[end:len(b)-trailerLen]) {
		return nil, nil, fmt.Errorf("pack padding: %w", ErrDamaged)
	}
	box := seal.NewBox(key, packContext(repository, id))
	plain, err := box.Open(nil, footerSegment, b[t.footer:end])
	if err != nil {
		return nil, nil, fmt.Errorf("pack footer: %w", ErrDamaged)
	}
	f, err := parseFooter(plain, len(header), t)
	if err != nil {
		return nil, nil, err
	}
	return f, box, nil
}

// room is what one verification after the other reuses: a segment as it was packed,
// and its plain text. Each grows to what is needed: a writer opens segments and
// unpacks none.
type room struct{ plain, scratch []byte }

var rooms = sync.Pool{New: func() any { return new(room) }}

// verifyWhole opens every segment of a pack in memory, decompresses it and
// compares it with its chunk ids. each is called for every segment, with nil for
// a whole one.
func verifyWhole(f *footer, box *seal.Box, b []byte, each func(i int, err error) error) error {
	room := rooms.Get().(*room)
	defer rooms.Put(room)
	for i, s := range f.segs {
		out, sc, err := f.openSegment(box, i, b[s.off:s.off+uint64(s.stored)], room.plain[:0], room.scratch)
		room.scratch = sc
		if err == nil {
			room.plain = out
			err = f.checkChunks(i, out)
		}
		if err := each(i, err); err != nil {
			return err
		}
	}
	return nil
}
