package repo

import (
	"math/rand/v2"
	"testing"

	"holdfast/internal/seal"
)

// The loop that takes eight bytes at once cuts where the plain one does: what an
// older version stored is found again.
func TestCutsAreWhereThePlainLoopCuts(t *testing.T) {
	c := newCutter(seal.MACKey{7})
	plain := func(b []byte) int {
		if len(b) <= minChunk {
			return len(b)
		}
		h, i := uint64(0), minChunk
		for ; i < min(avgChunk, len(b)); i++ {
			if h = h<<1 + c.gear[b[i]]; h>>(64-19-normalBits) == 0 {
				return i + 1
			}
		}
		for ; i < min(maxChunk, len(b)); i++ {
			if h = h<<1 + c.gear[b[i]]; h>>(64-19+normalBits) == 0 {
				return i + 1
			}
		}
		return i
	}
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 24<<20)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	clear(b[9<<20 : 12<<20]) // no cut by content
	chunks, steps := 0, map[int]bool{}
	for rest := b; len(rest) > 0; chunks++ {
		piece := rest[:min(len(rest), maxChunk, minChunk+r.IntN(maxChunk))]
		got, want := c.next(piece), plain(piece)
		if got != want {
			t.Fatalf("chunk %d of %d bytes is cut at %d, want %d", chunks, len(piece), got, want)
		}
		if got < len(piece) {
			steps[got%8] = true
		}
		rest = rest[got:]
	}
	if chunks < 20 || len(steps) < 8 {
		t.Fatalf("%d chunks, cut in steps %v of eight: the test shows nothing", chunks, steps)
	}
}

// next is the length of the first chunk of b: at least maxChunk bytes, or all that is left.
func (c *cutter) next(b []byte) int {
	if n, ok := c.find(b, &search{}); ok {
		return n
	}
	return len(b)
}

// A chunk that comes piece by piece is cut where the whole one is.
func TestCutsDoNotDependOnHowContentComes(t *testing.T) {
	c := newCutter(seal.MACKey{7})
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	clear(b[5<<20 : 9<<20])
	for rest := b; len(rest) > 0; {
		want := c.next(rest[:min(len(rest), maxChunk)])
		var s search
		n, ok := 0, false
		for have := 0; !ok && have < len(rest); {
			have = min(have+1+r.IntN(64<<10), len(rest))
			n, ok = c.find(rest[:have], &s)
		}
		if !ok {
			n = len(rest)
		}
		if n != want {
			t.Fatalf("chunk at %d is cut at %d, want %d", len(b)-len(rest), n, want)
		}
		rest = rest[n:]
	}
}

func BenchmarkCut(b *testing.B) {
	c := newCutter(seal.MACKey{7})
	buf := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(buf)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		for rest := buf; len(rest) > 0; {
			rest = rest[c.next(rest[:min(len(rest), maxChunk)]):]
		}
	}
}
