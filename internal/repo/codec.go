package repo

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A Codec says how a writer compresses. Readers know all of them.
type Codec string

// The codecs. Compression is nearly the whole cost of a backup: S2 is about four
// times as fast as zstd and stores about two thirds more.
const (
	Zstd   Codec = "zstd" // the default, also for the empty string
	S2     Codec = "s2"
	Stored Codec = "stored"
)

// How a segment is stored, as the format numbers it.
const (
	codeStored = 0
	codeZstd   = 1
	codeS2     = 2
)

// maxPlain is the longest plain text of a segment that a reader accepts.
const maxPlain = 16 << 20

func (c Codec) check() error {
	switch c {
	case "", Zstd, S2, Stored:
		return nil
	}
	return fmt.Errorf("codec %q: want %q, %q or %q", string(c), Zstd, S2, Stored)
}

// One encoder and decoder serve the process: EncodeAll and DecodeAll may be
// called concurrently, and each keeps some megabytes per core.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

// compress returns plain in the form in which it is stored: compressed into dst
// when that is worth a decompression later, else plain itself.
func compress(dst, plain []byte, c Codec) (stored []byte, code uint8) {
	switch c {
	case Stored:
		return plain, codeStored
	case S2:
		out := s2.Encode(dst[:cap(dst)], plain)
		if len(out) < worth(len(plain)) {
			return out, codeS2
		}
	default:
		out := zstdEncoder().EncodeAll(plain, dst[:0])
		if len(out) < worth(len(plain)) {
			return out, codeZstd
		}
	}
	return plain, codeStored
}

// worth is the length below which a compressed segment saves enough.
func worth(plain int) int { return plain - plain/32 }

// decompress appends exactly want bytes to dst, or fails. It never allocates more
// than a segment may hold, whatever the bytes claim.
func decompress(dst, stored []byte, code uint8, want int) ([]byte, error) {
	if want < 1 || want > maxPlain {
		return nil, fmt.Errorf("plain length %d: %w", want, ErrDamaged)
	}
	var (
		out []byte
		err error
	)
	switch code {
	case codeStored:
		if len(stored) != want {
			return nil, fmt.Errorf("%d bytes stored of %d: %w", len(stored), want, ErrDamaged)
		}
		return append(dst, stored...), nil
	case codeZstd:
		out, err = zstdDecoder().DecodeAll(stored, dst)
	case codeS2:
		n, lerr := s2.DecodedLen(stored)
		if lerr != nil || n != want {
			return nil, fmt.Errorf("s2 length: %w", ErrDamaged)
		}
		at := len(dst)
		if cap(dst)-at < n {
			grown := make([]byte, at, at+n)
			copy(grown, dst)
			dst = grown
		}
		out, err = s2.Decode(dst[at:at+n], stored)
		if err == nil {
			out = dst[:at+n]
		}
	default:
		return nil, fmt.Errorf("codec %d: %w", code, ErrFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress: %v: %w", err, ErrDamaged)
	}
	if len(out)-len(dst) != want && code == codeZstd {
		return nil, fmt.Errorf("%d bytes decompressed of %d: %w", len(out)-len(dst), want, ErrDamaged)
	}
	return out, nil
}

// Sampling: compressing what is compressed already costs as much as anything else
// and saves nothing. Media, archives and encrypted data show nearly all byte
// values equally often; everything that zstd gains on does not.
const (
	sampleMin     = 32 << 10 // shorter chunks are just tried
	samplePieces  = 4
	samplePiece   = 4 << 10
	sampleEntropy = 7.93 // bits per byte; 16 KiB of random bytes measure 7.989
)

// incompressible looks at four pieces of b.
func incompressible(b []byte) bool {
	if len(b) < sampleMin {
		return false
	}
	var count [256]int
	step := (len(b) - samplePiece) / (samplePieces - 1)
	for p := range samplePieces {
		for _, c := range b[p*step : p*step+samplePiece] {
			count[c]++
		}
	}
	const total = samplePieces * samplePiece
	bits := 0.0
	for _, n := range count {
		if n > 0 {
			f := float64(n) / total
			bits -= f * math.Log2(f)
		}
	}
	return bits > sampleEntropy
}
