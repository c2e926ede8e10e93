package seal

import (
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
)

// Hash returns the BLAKE3-256 hash of data.
func Hash(data []byte) [32]byte { return blake3.Sum256(data) }

// NewHash returns a running BLAKE3-256 hash.
func NewHash() hash.Hash { return blake3.New() }

const macPrefix = "holdfast-mac-key/1:"

// A MACKey turns content into ids. It is scoped to one source, so that a captured
// host can ask only about its own data.
type MACKey [32]byte

// NewMACKey returns a random key.
func NewMACKey() MACKey { return MACKey(NewKey()) }

// ParseMACKey reads the text that String writes.
func ParseMACKey(text string) (MACKey, error) {
	text = strings.TrimSpace(text)
	b, ok := decode32(strings.TrimPrefix(text, macPrefix))
	if !ok || !strings.HasPrefix(text, macPrefix) {
		return MACKey{}, fmt.Errorf("naming key: %w: want %q and 32 bytes in base64", ErrKey, macPrefix)
	}
	return b, nil
}

// String returns the secret as text, for its key file.
func (k MACKey) String() string {
	return macPrefix + base64.StdEncoding.EncodeToString(k[:])
}

// Format prints no secret.
func (k MACKey) Format(f fmt.State, _ rune) { redact(f, "seal.MACKey") }

// MarshalText refuses: the key is written by String only.
func (k MACKey) MarshalText() ([]byte, error) { return nil, errSecret }

// ID returns the keyed BLAKE3-256 hash of data.
func (k MACKey) ID(data []byte) [32]byte {
	h, ok := keyed.Get().(*keyedHash)
	if !ok || h.key != k {
		h = newKeyed(k)
	} else {
		h.Reset()
	}
	_, _ = h.Write(data)
	var id [32]byte
	h.Sum(id[:0])
	keyed.Put(h)
	return id
}

// A keyedHash is a running hash with the key that it was made with. Its state is
// kilobytes, and there is an id for every chunk.
type keyedHash struct {
	*blake3.Hasher
	key MACKey
}

// keyed holds hashes of any key: a process has few, and one that does not fit is
// only made anew.
var keyed sync.Pool

func newKeyed(k MACKey) *keyedHash {
	h, err := blake3.NewKeyed(k[:])
	if err != nil {
		panic(err) // the key has the right length by its type
	}
	return &keyedHash{h, k}
}

// decode32 reads exactly 32 bytes of strict, padded base64.
func decode32(s string) ([32]byte, bool) {
	if len(s) != base64.StdEncoding.EncodedLen(32) || strings.ContainsAny(s, "\r\n") {
		return [32]byte{}, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 32 {
		return [32]byte{}, false
	}
	return [32]byte(b), true
}
