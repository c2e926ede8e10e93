package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"holdfast"
)

// Limits of what a passphrase opens.
const (
	// LockRounds is how often a passphrase is hashed, as OWASP recommends for
	// PBKDF2-HMAC-SHA256: about half a second of one core for each try.
	LockRounds = 600_000
	// MaxLockRounds bounds the work that a foreign file can ask for.
	MaxLockRounds = 10_000_000
	// MinPassphrase is how short a passphrase may be, in characters: NIST SP 800-63B
	// asks for 15 where nothing else guards.
	MinPassphrase = 15
	// MaxLocked bounds what is locked, in bytes.
	MaxLocked = 16 << 20
)

const (
	lockMagic  = "Salted__" // of "openssl enc"
	lockSalt   = 8
	lockDomain = "holdfast locked 1"
)

// A Locked is a text that a passphrase opens.
//
// Body is what "openssl enc -aes-256-cbc -pbkdf2 -iter Rounds -md sha256" writes, so that
// it opens with a tool that is on every server, and with WebCrypto in every browser.
// openssl does not notice changes; Code does: it is HMAC-SHA256 over Body, under a key
// that only the passphrase gives. Who opens it here or in the page checks Code first.
type Locked struct {
	Rounds int
	Body   []byte
	Code   [sha256.Size]byte
}

// CheckPassphrase refuses what is too short, or cannot be typed on every keyboard.
func CheckPassphrase(p string) error {
	for _, c := range []byte(p) {
		if c < ' ' || c > '~' {
			return holdfast.WithHint(fmt.Errorf("passphrase: %w: it has a character that not every keyboard has", ErrKey), "use letters without accents, digits, blanks and signs")
		}
	}
	switch {
	case strings.TrimSpace(p) != p:
		return holdfast.WithHint(fmt.Errorf("passphrase: %w: it begins or ends with a blank", ErrKey), "a blank at the end is not seen on paper: leave it out")
	case len(p) < MinPassphrase:
		return holdfast.WithHint(fmt.Errorf("passphrase: %w: it has %d characters, and needs %d", ErrKey, len(p), MinPassphrase), "take five words that you did not choose yourself, or let one be made")
	case len(p) > MaxPassword:
		return fmt.Errorf("passphrase: %w: it has more than %d characters", ErrKey, MaxPassword)
	}
	return nil
}

// passphraseLetters are letters and digits that nobody confuses when they read or hear
// them: 32, so that each is five bits.
const passphraseLetters = "abcdefghjkmnpqrstuvwxyz234567890"

// NewPassphrase returns a passphrase of 100 random bits: five groups of four.
func NewPassphrase() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	var out strings.Builder
	for i, c := range b {
		if i > 0 && i%4 == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(passphraseLetters[c%32])
	}
	return out.String()
}

// Lock closes a text with a passphrase.
func Lock(plain []byte, passphrase string) (Locked, error) {
	if err := CheckPassphrase(passphrase); err != nil {
		return Locked{}, err
	}
	if len(plain) > MaxLocked {
		return Locked{}, fmt.Errorf("a text of %d bytes cannot be locked: at most %d", len(plain), MaxLocked)
	}
	var salt [lockSalt]byte
	_, _ = rand.Read(salt[:]) // never fails
	return lock(plain, passphrase, salt, LockRounds)
}

func lock(plain []byte, passphrase string, salt [lockSalt]byte, rounds int) (Locked, error) {
	key, iv, code, err := lockKeys(passphrase, salt[:], rounds)
	if err != nil {
		return Locked{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return Locked{}, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize // PKCS #7
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	l := Locked{Rounds: rounds, Body: append(append([]byte(lockMagic), salt[:]...), padded...)}
	l.Code = [sha256.Size]byte(authenticate(code, l.Body))
	return l, nil
}

// Open returns the text. ErrDamaged: the passphrase is another one, or somebody changed
// the body; nothing of it was looked at then.
func (l Locked) Open(passphrase string) ([]byte, error) {
	n := len(l.Body) - len(lockMagic) - lockSalt
	switch {
	case l.Rounds < 1 || l.Rounds > MaxLockRounds:
		return nil, fmt.Errorf("locked text: %w: %d rounds, at most %d", ErrKey, l.Rounds, MaxLockRounds)
	case n < aes.BlockSize || n%aes.BlockSize != 0 || n > MaxLocked+aes.BlockSize || !bytes.HasPrefix(l.Body, []byte(lockMagic)):
		return nil, fmt.Errorf("locked text: %w: %d bytes are no body", ErrDamaged, len(l.Body))
	case len(passphrase) > MaxPassword:
		return nil, fmt.Errorf("passphrase: %w: longer than %d bytes", ErrKey, MaxPassword)
	}
	key, iv, code, err := lockKeys(passphrase, l.Body[len(lockMagic):len(lockMagic)+lockSalt], l.Rounds)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(authenticate(code, l.Body), l.Code[:]) {
		return nil, fmt.Errorf("locked text: %w: this passphrase does not open it", ErrDamaged)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(l.Body[len(lockMagic)+lockSalt:])
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, out)
	pad := int(out[len(out)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, fmt.Errorf("locked text: %w: its end is no padding", ErrDamaged)
	}
	return out[:len(out)-pad], nil
}

// lockKeys derives what openssl derives, and the key of the code from that.
func lockKeys(passphrase string, salt []byte, rounds int) (key, iv, code []byte, err error) {
	b, err := pbkdf2.Key(sha256.New, passphrase, salt, rounds, 32+aes.BlockSize)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("passphrase: %w", err)
	}
	key, iv = b[:32], b[32:]
	return key, iv, authenticate(key, []byte(lockDomain)), nil
}

func authenticate(key, what []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(what)
	return h.Sum(nil)
}
