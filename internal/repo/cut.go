package repo

import (
	"encoding/binary"
	"io"

	"holdfast/internal/seal"
)

// A Cut says how a file is divided into chunks.
type Cut string

// The cuts. Which one a writer used changes what later snapshots can share with
// this one, and nothing for a reader.
const (
	CutContent Cut = "content" // where the content says, so that an insertion moves few cuts; the default
	CutPages   Cut = "pages"   // every MiB, for files of pages that change in place
)

// Chunk sizes. Reading, hashing and sealing do not care; compression likes big
// chunks, deduplication small ones.
const (
	minChunk   = 128 << 10
	avgChunk   = 512 << 10
	maxChunk   = 2 << 20
	pageChunk  = 1 << 20
	pageSize   = 8 << 10 // PostgreSQL's page, the unit of holes and increments
	normalBits = 2       // how much harder (easier) a cut is before (behind) the average size
)

// A cutter finds cuts by content: a gear hash rolls over the bytes, and where its
// top bits are zero a chunk ends. The table is made from the scope's key, so that
// chunk sizes do not tell a stranger which known file was stored.
type cutter struct{ gear [256]uint64 }

func newCutter(key seal.MACKey) *cutter {
	c := &cutter{}
	for i := range c.gear {
		id := key.ID(append([]byte("holdfast gear "), byte(i)))
		c.gear[i] = binary.BigEndian.Uint64(id[:])
	}
	return c
}

// next returns the length of the first chunk of b. The caller gives at least
// maxChunk bytes, or all that is left.
func (c *cutter) next(b []byte) int {
	if len(b) <= minChunk {
		return len(b)
	}
	const avgBits = 19 // 512 KiB
	h, i := uint64(0), minChunk
	for _, stage := range [...]struct {
		until int
		shift uint
	}{{avgChunk, 64 - avgBits - normalBits}, {maxChunk, 64 - avgBits + normalBits}} {
		end := min(stage.until, len(b))
		below := uint64(1) << stage.shift
		// The loop over every byte of every file that is read: eight at a time, with
		// one look at all of them, since a cut is rare.
		for ; i+8 <= end; i += 8 {
			p := b[i : i+8 : i+8]
			h0 := h<<1 + c.gear[p[0]]
			h1 := h0<<1 + c.gear[p[1]]
			h2 := h1<<1 + c.gear[p[2]]
			h3 := h2<<1 + c.gear[p[3]]
			h4 := h3<<1 + c.gear[p[4]]
			h5 := h4<<1 + c.gear[p[5]]
			h6 := h5<<1 + c.gear[p[6]]
			h7 := h6<<1 + c.gear[p[7]]
			if min(h0, h1, h2, h3, h4, h5, h6, h7) < below {
				for j, at := range [...]uint64{h0, h1, h2, h3, h4, h5, h6, h7} {
					if at < below {
						return i + j + 1
					}
				}
			}
			h = h7
		}
		for ; i < end; i++ {
			h = h<<1 + c.gear[b[i]]
			if h < below {
				return i + 1
			}
		}
	}
	return i
}

// isZero reports whether all of b is zero.
func isZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// fill reads until b is full or the content ends, which is io.EOF and nothing else:
// a reader that says io.ErrUnexpectedEOF was broken off. io.ReadFull cannot tell
// the two apart.
func fill(r io.Reader, b []byte) (n int, err error) {
	for idle := 0; n < len(b) && err == nil; {
		var got int
		got, err = r.Read(b[n:])
		n += got
		if idle++; got > 0 {
			idle = 0
		} else if idle > 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	if n == len(b) && err == io.EOF {
		err = nil // the next call says it
	}
	return n, err
}
