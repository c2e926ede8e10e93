package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

const secretPrefix = "holdfast-secret-key/1:"

// A SecretKey keeps small secrets of the state, which the server must read again: the
// seeds of one-time codes, the keys of signed messages. It lies in a key file, so that a
// copy of the state alone opens none of them.
type SecretKey [32]byte

// NewSecretKey returns a random key.
func NewSecretKey() SecretKey { return SecretKey(NewKey()) }

// ParseSecretKey reads the text that String writes.
func ParseSecretKey(text string) (SecretKey, error) {
	text = strings.TrimSpace(text)
	b, ok := decode32(strings.TrimPrefix(text, secretPrefix))
	if !ok || !strings.HasPrefix(text, secretPrefix) {
		return SecretKey{}, fmt.Errorf("secret key: %w: want %q and 32 bytes in base64", ErrKey, secretPrefix)
	}
	return b, nil
}

// String returns the secret as text, for its key file.
func (k SecretKey) String() string { return secretPrefix + base64.StdEncoding.EncodeToString(k[:]) }

// Format prints no secret.
func (k SecretKey) Format(f fmt.State, _ rune) { redact(f, "seal.SecretKey") }

// MarshalText refuses: the key is written by String only.
func (k SecretKey) MarshalText() ([]byte, error) { return nil, errSecret }

// Seal closes a secret under the key. It opens only with the same context, so that one
// person's secret cannot be put in the place of another's. The nonce is random: a key is
// good for some thousand million secrets.
func (k SecretKey) Seal(context string, plain []byte) []byte {
	return k.aead().Seal(nil, nil, plain, []byte(context))
}

// Open returns what Seal closed, or ErrDamaged.
func (k SecretKey) Open(context string, sealed []byte) ([]byte, error) {
	plain, err := k.aead().Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return nil, fmt.Errorf("secret of %s: %w", context, ErrDamaged)
	}
	return plain, nil
}

func (k SecretKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // the key has the length of an AES-256 key by its type
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}

// The cost of one password, as RFC 9106 recommends where memory is short: about 50 ms
// of one core and 64 MiB.
const (
	passwordTime    = 3
	passwordMemory  = 64 << 10 // KiB
	passwordThreads = 1
	passwordSalt    = 16
	passwordHash    = 32
	passwordPrefix  = "$argon2id$v=19$m=65536,t=3,p=1$"
)

// MaxPassword bounds a password, in bytes: what is longer is no memory of a person's.
const MaxPassword = 1024

// HashPassword returns what is stored of a password: Argon2id with a salt of its own, in
// the usual text form. Two people with one password have different hashes. It takes
// 64 MiB; the caller bounds how many run at once.
func HashPassword(password string) string {
	var salt [passwordSalt]byte
	_, _ = rand.Read(salt[:]) // never fails: it ends the program instead
	h := argon2.IDKey([]byte(password), salt[:], passwordTime, passwordMemory, passwordThreads, passwordHash)
	return passwordPrefix + base64.RawStdEncoding.EncodeToString(salt[:]) + "$" + base64.RawStdEncoding.EncodeToString(h)
}

// CheckPassword reports whether hash, as HashPassword wrote it, is that of the password.
// It takes as long for a hash that cannot be read, so that the time says nothing.
func CheckPassword(hash, password string) bool {
	salt, want, ok := cutHash(hash)
	got := argon2.IDKey([]byte(password), salt, passwordTime, passwordMemory, passwordThreads, passwordHash)
	return subtle.ConstantTimeCompare(got, want) == 1 && ok
}

func cutHash(hash string) (salt, sum []byte, ok bool) {
	salt, sum = make([]byte, passwordSalt), make([]byte, passwordHash)
	text, found := strings.CutPrefix(hash, passwordPrefix)
	a, b, cut := strings.Cut(text, "$")
	if !found || !cut {
		return salt, sum, false
	}
	s, err := base64.RawStdEncoding.Strict().DecodeString(a)
	if err != nil || len(s) != passwordSalt {
		return salt, sum, false
	}
	h, err := base64.RawStdEncoding.Strict().DecodeString(b)
	if err != nil || len(h) != passwordHash {
		return salt, sum, false
	}
	return s, h, true
}

// Token returns 256 random bits as text that fits into an address.
func Token() string {
	k := NewKey()
	return base64.RawURLEncoding.EncodeToString(k[:])
}

// TokenHash is what is stored of a Token: it cannot be guessed, so it needs no salt.
func TokenHash(token string) string {
	h := Hash([]byte("holdfast token\x00" + token))
	return base64.RawURLEncoding.EncodeToString(h[:])
}
