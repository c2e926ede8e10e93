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

// A search is how far a chunk was looked through, from its first byte on.
type search struct {
	at   int    // the next byte to look at, once it is past minChunk
	hash uint64 // of what is behind it
}

// find looks for the end of the chunk that begins b. Without one it notes in s how far
// it came: the next call gets b with more behind it and goes on from there. A chunk of
// maxChunk ends in any case; the end of a file is the caller's to know.
func (c *cutter) find(b []byte, s *search) (n int, ok bool) {
	const avgBits = 19 // 512 KiB
	g, h, i := &c.gear, s.hash, max(s.at, minChunk)
	if len(b) <= i {
		return 0, false
	}
	for _, stage := range [...]struct {
		until int
		shift uint
	}{{avgChunk, 64 - avgBits - normalBits}, {maxChunk, 64 - avgBits + normalBits}} {
		end := min(stage.until, len(b))
		below := uint64(1) << stage.shift
		// The loop over every byte of every file that is read. A step waits for the one
		// before it, so that only every second one is made from there: half as long a
		// chain. The branches are never taken but once, and cost less than a minimum.
		for ; i+8 <= end; i += 8 {
			p := b[i : i+8 : i+8]
			if h<<1+g[p[0]] < below {
				return i + 1, true
			}
			if h = h<<2 + (g[p[0]]<<1 + g[p[1]]); h < below {
				return i + 2, true
			}
			if h<<1+g[p[2]] < below {
				return i + 3, true
			}
			if h = h<<2 + (g[p[2]]<<1 + g[p[3]]); h < below {
				return i + 4, true
			}
			if h<<1+g[p[4]] < below {
				return i + 5, true
			}
			if h = h<<2 + (g[p[4]]<<1 + g[p[5]]); h < below {
				return i + 6, true
			}
			if h<<1+g[p[6]] < below {
				return i + 7, true
			}
			if h = h<<2 + (g[p[6]]<<1 + g[p[7]]); h < below {
				return i + 8, true
			}
		}
		for ; i < end; i++ {
			h = h<<1 + g[b[i]]
			if h < below {
				return i + 1, true
			}
		}
	}
	s.at, s.hash = i, h
	return i, i == maxChunk
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
