package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"slices"
)

// PageSumSize is the length of a page's sum in bytes.
const PageSumSize = 16

// A PageHasher names pages by a keyed hash, for a writer's own memory: whoever
// chooses what a database writes cannot choose two pages with one name. It is GMAC,
// a universal hash (NIST SP 800-38D). With a secret key, and sums that never leave
// the machine that made them, a collision of two pages of 8 KiB has a chance of 2^-118
// at most. A hash that also withstands those who know the key is a third as fast.
type PageHasher struct {
	aead  cipher.AEAD
	nonce [12]byte // one for all: equal pages shall have equal sums
}

// NewPageHasher derives a hasher from a naming key.
func NewPageHasher(key MACKey) *PageHasher {
	k := key.ID([]byte("holdfast page map"))
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("seal: " + err.Error()) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: " + err.Error())
	}
	return &PageHasher{aead: aead}
}

// Append appends the sum of a page to dst, which grows as append lets it grow: the cipher
// would copy all of it for each page.
func (h *PageHasher) Append(dst, page []byte) []byte {
	return h.aead.Seal(slices.Grow(dst, PageSumSize), h.nonce[:], nil, page)
}
