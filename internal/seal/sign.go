package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
)

const (
	signingPrefix = "holdfast-signing-key/1:"
	verifyPrefix  = "holdfast-verify-key/1:"
	signedPrefix  = "holdfast/1 "
)

// A SigningKey vouches for what it signs. It is a secret, and its name travels
// with its public half.
type SigningKey struct {
	s hidden[signingSecret]
}

type signingSecret struct {
	name string
	key  ed25519.PrivateKey
}

// GenerateSigningKey returns a new random key. A name has letters, digits and
// "._/@-", so that it fits into every format that carries it.
func GenerateSigningKey(name string) (SigningKey, error) {
	if err := checkName(name); err != nil {
		return SigningKey{}, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("generate signing key %q: %w", name, err)
	}
	return SigningKey{hide(&signingSecret{name, key})}, nil
}

// ParseSigningKey reads the text that String writes.
func ParseSigningKey(text string) (SigningKey, error) {
	name, seed, err := parseNamed(strings.TrimSpace(text), signingPrefix, "signing key")
	if err != nil {
		return SigningKey{}, err
	}
	return SigningKey{hide(&signingSecret{name, ed25519.NewKeyFromSeed(seed[:])})}, nil
}

// String returns the secret as text, for its key file. No fmt verb calls it.
func (k SigningKey) String() string {
	if k.IsZero() {
		return ""
	}
	return signingPrefix + k.s.get().name + ":" + base64.StdEncoding.EncodeToString(k.s.get().key.Seed())
}

// Format prints the name and no secret.
func (k SigningKey) Format(f fmt.State, _ rune) {
	redact(f, strings.TrimRight("seal.SigningKey "+k.Name(), " ")+" ")
}

// GoString prints no secret.
func (k SigningKey) GoString() string { return fmt.Sprint(k) }

// MarshalText refuses: the key is written by String only.
func (k SigningKey) MarshalText() ([]byte, error) { return nil, errSecret }

// IsZero reports whether k is no key at all.
func (k SigningKey) IsZero() bool { return k.s.get() == nil }

// Name returns the name of the key, "" for the zero value.
func (k SigningKey) Name() string {
	if k.IsZero() {
		return ""
	}
	return k.s.get().name
}

// Public returns the public half.
func (k SigningKey) Public() VerifyKey {
	if k.IsZero() {
		return VerifyKey{}
	}
	return VerifyKey{name: k.s.get().name, key: [32]byte(k.s.get().key.Public().(ed25519.PublicKey))}
}

// Sign returns the Ed25519 signature over "holdfast/1 ", the domain, a newline
// and the message. A domain is a constant of the calling package, without a
// newline. Signing with the zero key is a mistake of the caller and panics.
func (k SigningKey) Sign(domain string, msg []byte) []byte {
	if k.IsZero() {
		panic("seal: sign with the zero key")
	}
	if !validDomain(domain) {
		panic("seal: sign in domain " + fmt.Sprintf("%q", domain))
	}
	return ed25519.Sign(k.s.get().key, signedBytes(domain, msg))
}

// A VerifyKey is the public half of a signing key. Verify keys are comparable.
type VerifyKey struct {
	name string // empty in the zero value, which verifies nothing
	key  [32]byte
}

// ParseVerifyKey reads the text that String writes.
func ParseVerifyKey(text string) (VerifyKey, error) {
	name, key, err := parseNamed(strings.TrimSpace(text), verifyPrefix, "verify key")
	if err != nil {
		return VerifyKey{}, err
	}
	return VerifyKey{name, key}, nil
}

// String returns the key as text.
func (k VerifyKey) String() string {
	if k.name == "" {
		return ""
	}
	return verifyPrefix + k.name + ":" + base64.StdEncoding.EncodeToString(k.key[:])
}

// Name returns the name of the key, "" for the zero value.
func (k VerifyKey) Name() string { return k.name }

// IsZero reports whether k is no key at all.
func (k VerifyKey) IsZero() bool { return k.name == "" }

// MarshalText returns the text of the key.
func (k VerifyKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the text of a key.
func (k *VerifyKey) UnmarshalText(b []byte) (err error) {
	*k, err = ParseVerifyKey(string(b))
	return err
}

// Fingerprint returns a short name for the key itself, whatever it is called.
func (k VerifyKey) Fingerprint() string {
	h := Hash(k.key[:])
	return fmt.Sprintf("hf:%x", h[:8])
}

// Verify returns nil if sig is the key's signature over msg in domain, and an
// error that wraps ErrSignature otherwise.
func (k VerifyKey) Verify(domain string, msg, sig []byte) error {
	if k.name == "" {
		return fmt.Errorf("no key: %w", ErrSignature)
	}
	if !validDomain(domain) || len(sig) != ed25519.SignatureSize ||
		!ed25519.Verify(k.key[:], signedBytes(domain, msg), sig) {
		return fmt.Errorf("key %q, domain %q: %w", k.name, domain, ErrSignature)
	}
	return nil
}

// PEM returns the key as SubjectPublicKeyInfo, for openssl pkeyutl -pubin.
func (k VerifyKey) PEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(k.key[:]))
	if err != nil {
		panic(err) // an Ed25519 key can always be marshalled
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func signedBytes(domain string, msg []byte) []byte {
	b := make([]byte, 0, len(signedPrefix)+len(domain)+1+len(msg))
	b = append(b, signedPrefix...)
	b = append(b, domain...)
	b = append(b, '\n')
	return append(b, msg...)
}

func validDomain(d string) bool { return d != "" && !strings.ContainsAny(d, "\r\n") }

// checkName keeps names to what notes, SSH principals, file names and our own
// colon-separated text can all carry.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("key name: %w: want 1 to %d characters", ErrKey, MaxName)
	}
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._/@-", c) >= 0 {
			continue
		}
		return fmt.Errorf("key name: %w: only letters, digits and \"._/@-\" are allowed", ErrKey)
	}
	return nil
}

// parseNamed reads prefix, name, colon and 32 bytes. It never echoes the text.
func parseNamed(text, prefix, what string) (string, [32]byte, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	name, b64, cut := strings.Cut(rest, ":")
	key, whole := decode32(b64)
	if !ok || !cut || !whole || checkName(name) != nil {
		return "", [32]byte{}, fmt.Errorf("%s: %w: want \"%s<name>:<base64>\"", what, ErrKey, prefix)
	}
	return name, key, nil
}
