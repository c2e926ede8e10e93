package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
)

// A Key is a fresh symmetric key, made for one pack or one log piece and
// forgotten by its writer when that is sealed.
type Key [32]byte

// NewKey returns a random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails: it ends the program instead
	return k
}

// Format prints no secret.
func (k Key) Format(f fmt.State, _ rune) { redact(f, "seal.Key") }

// MarshalText refuses: a key travels wrapped.
func (k Key) MarshalText() ([]byte, error) { return nil, errSecret }

// Overhead is by how much a sealed segment is longer than its plain text.
const Overhead = 16

// A Box seals numbered segments with AES-256-GCM. The context, which says what
// the segments belong to, is bound to each of them: a segment moved to another
// pack, or to another place in its own, does not open.
//
// A Box may be used by several goroutines at once.
type Box struct {
	aead    cipher.AEAD
	context []byte
}

// NewBox returns a box for key. The context is copied.
func NewBox(key Key, context []byte) *Box {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the length of an AES-256 key by its type
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return &Box{aead: aead, context: slices.Clone(context)}
}

// Format prints no secret.
func (b *Box) Format(f fmt.State, _ rune) { redact(f, "seal.Box") }

// Seal appends the sealed segment to dst, which must not overlap plain.
//
// The segment number is the nonce. The caller seals each number at most once
// under one key: twice would show both plain texts to a reader of the two and
// let him forge others. A fresh key per pack and a counter within it is how.
func (b *Box) Seal(dst []byte, segment uint64, plain []byte) []byte {
	nonce := segmentNonce(segment)
	return b.aead.Seal(dst, nonce[:], plain, b.context)
}

// Open appends the plain text of a sealed segment to dst. It returns ErrDamaged,
// and dst unchanged, when key, context, number or any byte differs.
func (b *Box) Open(dst []byte, segment uint64, sealed []byte) ([]byte, error) {
	nonce := segmentNonce(segment)
	plain, err := b.aead.Open(dst, nonce[:], sealed, b.context)
	if err != nil {
		return dst, fmt.Errorf("segment %d: %w", segment, ErrDamaged)
	}
	return plain, nil
}

// segmentNonce is the segment number as a 96-bit big-endian integer.
func segmentNonce(segment uint64) [12]byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[4:], segment)
	return n
}
