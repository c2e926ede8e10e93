package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// A Recipient is the public half of an identity: it can seal and cannot open.
// Recipients are comparable.
type Recipient struct {
	text string // canonical; empty in the zero value, which is no recipient
}

// The beginnings of what is written for a key, after which its bytes follow.
const (
	hybridRecipientPrefix = "age1pq1"
	hybridIdentityPrefix  = "AGE-SECRET-KEY-PQ-1"
)

// ParseRecipient reads an age recipient: X25519, "age1…", or post-quantum
// (ML-KEM-768 with X25519), "age1pq1…".
func ParseRecipient(text string) (Recipient, error) {
	to, err := ageRecipient(strings.TrimSpace(text))
	if err != nil {
		// A person may have pasted the secret half here, so the text is not echoed.
		return Recipient{}, fmt.Errorf("recipient: %w: want an age recipient, \"age1…\"", ErrKey)
	}
	return Recipient{text: to.String()}, nil
}

// A recipient of the age library that can be written down.
type recipient interface {
	age.Recipient
	fmt.Stringer
}

func ageRecipient(text string) (recipient, error) {
	if strings.HasPrefix(strings.ToLower(text), hybridRecipientPrefix) {
		return age.ParseHybridRecipient(text)
	}
	return age.ParseX25519Recipient(text)
}

// String returns the "age1…" text.
func (r Recipient) String() string { return r.text }

// PostQuantum reports whether what is sealed to r alone stays closed to a quantum computer.
func (r Recipient) PostQuantum() bool { return strings.HasPrefix(r.text, hybridRecipientPrefix) }

// Fingerprint returns a short name for the recipient, "hf:" and 16 hex digits.
func (r Recipient) Fingerprint() string {
	h := Hash([]byte(r.text))
	return "hf:" + hex.EncodeToString(h[:8])
}

// MarshalText returns the "age1…" text.
func (r Recipient) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText reads the "age1…" text.
func (r *Recipient) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRecipient(string(b))
	return err
}

// An Identity opens what was sealed to its recipient. It is a secret.
type Identity struct {
	id hidden[readKey]
}

// A readKey is one of the two kinds of identity; the other is nil.
type readKey struct {
	classic *age.X25519Identity
	hybrid  *age.HybridIdentity
}

func (k *readKey) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if k.hybrid != nil {
		return k.hybrid.Unwrap(stanzas)
	}
	return k.classic.Unwrap(stanzas)
}

func (k *readKey) String() string {
	if k.hybrid != nil {
		return k.hybrid.String()
	}
	return k.classic.String()
}

// GenerateIdentity returns a new random identity.
func GenerateIdentity() (Identity, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return Identity{}, fmt.Errorf("generate identity: %w", err)
	}
	return Identity{id: hide(&readKey{classic: id})}, nil
}

// GeneratePostQuantum returns a new random identity whose recipient is post-quantum.
func GeneratePostQuantum() (Identity, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return Identity{}, fmt.Errorf("generate identity: %w", err)
	}
	return Identity{id: hide(&readKey{hybrid: id})}, nil
}

// ParseIdentity reads an age identity, "AGE-SECRET-KEY-1…" or "AGE-SECRET-KEY-PQ-1…".
func ParseIdentity(text string) (Identity, error) {
	k, err := parseReadKey(strings.TrimSpace(text))
	if err != nil {
		// The cause may quote the text, and the text may be nearly a secret.
		return Identity{}, fmt.Errorf("identity: %w: want an age identity, \"AGE-SECRET-KEY-1…\" or \"AGE-SECRET-KEY-PQ-1…\"", ErrKey)
	}
	return Identity{id: hide(k)}, nil
}

func parseReadKey(text string) (k *readKey, err error) {
	k = &readKey{}
	if strings.HasPrefix(strings.ToUpper(text), hybridIdentityPrefix) {
		k.hybrid, err = age.ParseHybridIdentity(text)
	} else {
		k.classic, err = age.ParseX25519Identity(text)
	}
	return k, err
}

// String returns the secret as text, for its key file. No fmt verb calls it.
func (i Identity) String() string {
	if i.IsZero() {
		return ""
	}
	return i.id.get().String()
}

// Recipient returns the public half.
func (i Identity) Recipient() Recipient {
	if i.IsZero() {
		return Recipient{}
	}
	if k := i.id.get(); k.hybrid != nil {
		return Recipient{text: k.hybrid.Recipient().String()}
	}
	return Recipient{text: i.id.get().classic.Recipient().String()}
}

// PostQuantum reports whether the identity's recipient is post-quantum.
func (i Identity) PostQuantum() bool { return !i.IsZero() && i.id.get().hybrid != nil }

// Format prints the recipient's fingerprint and no secret.
func (i Identity) Format(f fmt.State, _ rune) {
	if i.IsZero() {
		redact(f, "seal.Identity")
		return
	}
	redact(f, "seal.Identity "+i.Recipient().Fingerprint()+" ")
}

// IsZero reports whether i is no identity at all.
func (i Identity) IsZero() bool { return i.id.get() == nil }

// GoString prints no secret.
func (i Identity) GoString() string { return fmt.Sprint(i) }

// MarshalText refuses: the identity is written by String only.
func (i Identity) MarshalText() ([]byte, error) { return nil, errSecret }

// Strength says which machines may one day open what was sealed, if they have only what lies
// in the location.
type Strength string

// The strengths. Where a writer that is not ours mixed stanzas, the weakest decides.
const (
	Classic     Strength = "X25519"
	PostQuantum Strength = "ML-KEM-768 and X25519"
)

// CheckRecipients reports whether Wrap can seal one key to all of them: not to none, to no
// more than fit, and not to recipients of both kinds, since whoever breaks the weaker stanza
// has the key, and the others would be post-quantum in name only ([ErrMixed]).
func CheckRecipients(to []Recipient) error {
	if len(to) == 0 {
		return fmt.Errorf("no recipient: nobody could open it")
	}
	hybrid := 0
	for _, r := range to {
		if r.PostQuantum() {
			hybrid++
		}
	}
	switch limit := MaxRecipients; {
	case hybrid > 0 && hybrid < len(to):
		return fmt.Errorf("%d of %d recipients are post-quantum: %w", hybrid, len(to), ErrMixed)
	case hybrid > 0 && len(to) > MaxPostQuantum:
		return fmt.Errorf("%d post-quantum recipients, at most %d", len(to), MaxPostQuantum)
	case len(to) > limit:
		return fmt.Errorf("%d recipients, at most %d", len(to), limit)
	}
	return nil
}

// Wrap seals key to every recipient in one age file. Each of them opens it alone.
// Recipients of both kinds in one file are refused: see [CheckRecipients].
//
// Besides age's own stanzas the header carries one that names the cipher under which the
// key is used ([Cipher]), and one that lists the fingerprints and a checksum. With it Unwrap can tell a damaged file from one that was meant
// for somebody else, and anybody can see, without a key, who can open a copy.
func Wrap(key Key, to []Recipient) ([]byte, error) {
	if err := CheckRecipients(to); err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	var g group
	seen := map[Recipient]bool{}
	for _, r := range to {
		if seen[r] {
			continue
		}
		seen[r] = true
		x, err := ageRecipient(r.text)
		if err != nil {
			return nil, fmt.Errorf("wrap key: recipient %q: %w", r.text, ErrKey)
		}
		g.recipients = append(g.recipients, x)
		g.fingerprints = append(g.fingerprints, r.Fingerprint())
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, &g)
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	if _, err := w.Write(key[:]); err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	if out.Len() > MaxWrapped {
		return nil, fmt.Errorf("wrap key: %d bytes, at most %d", out.Len(), MaxWrapped)
	}
	return out.Bytes(), nil
}

// Unwrap opens a wrapped key with the first identity that fits. The error wraps
// ErrNoIdentity if none does, and ErrDamaged if the bytes are not what Wrap wrote.
func Unwrap(wrapped []byte, ids ...Identity) (Key, error) {
	if len(wrapped) > MaxWrapped {
		return Key{}, fmt.Errorf("wrapped key: %d bytes, at most %d: %w", len(wrapped), MaxWrapped, ErrDamaged)
	}
	o := &opener{ids: ids}
	r, err := age.Decrypt(bytes.NewReader(wrapped), o)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return Key{}, o.noIdentity()
	}
	if err != nil {
		return Key{}, fmt.Errorf("wrapped key: %w", ErrDamaged)
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(len(Key{}))+1))
	if err != nil || len(plain) != len(Key{}) {
		return Key{}, fmt.Errorf("wrapped key: %w", ErrDamaged)
	}
	return Key(plain), nil
}

// WrappedStrength says how strong the wrapping of a key is: that of its weakest stanza. It
// needs no identity, so the answer is only as good as whoever wrote the file.
func WrappedStrength(wrapped []byte) (Strength, error) {
	o, err := readHeader(wrapped)
	if err != nil {
		return "", err
	}
	return o.strength, nil
}

// WrappedTo lists the fingerprints of the recipients that a wrapped key names.
// It needs no identity, so the answer is only as good as whoever wrote the file.
func WrappedTo(wrapped []byte) ([]string, error) {
	o, err := readHeader(wrapped)
	if err != nil {
		return nil, err
	}
	return o.to, nil
}

// readHeader reads what a wrapped key says without an identity.
func readHeader(wrapped []byte) (*opener, error) {
	if len(wrapped) > MaxWrapped {
		return nil, fmt.Errorf("wrapped key: %d bytes, at most %d: %w", len(wrapped), MaxWrapped, ErrDamaged)
	}
	o := &opener{}
	_, err := age.Decrypt(bytes.NewReader(wrapped), o)
	if noMatch := (*age.NoIdentityMatchError)(nil); !errors.As(err, &noMatch) {
		return nil, fmt.Errorf("wrapped key: %w", ErrDamaged)
	}
	return o, nil
}

// groupStanza is the type of the stanza that lists the recipients. Other readers
// of age files pass over it, as the format asks them to.
const groupStanza = "holdfast-recipients"

// hybridStanza is the type of age's stanzas for post-quantum recipients.
const hybridStanza = "mlkem768x25519"

// cipherStanza is the type of the stanza that names what the key is for. Keys that were
// wrapped before it was written lack it, and were for the same cipher.
const cipherStanza = "holdfast-cipher"

// Cipher is what everything in a repository is sealed with.
const Cipher = "AES-256-GCM"

// group wraps a file key to several recipients and says to whom.
type group struct {
	recipients   []recipient
	fingerprints []string
}

// Wrap implements age.Recipient.
func (g *group) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	var all []*age.Stanza
	for _, r := range g.recipients {
		s, err := r.Wrap(fileKey)
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	all = append(all, &age.Stanza{Type: cipherStanza, Args: []string{Cipher}})
	sum := stanzaSum(all, g.fingerprints)
	return append(all, &age.Stanza{Type: groupStanza, Args: g.fingerprints, Body: sum[:]}), nil
}

// stanzaSum is a checksum, not a proof: age's header MAC is the proof, but only
// somebody who can open the file can check that one.
func stanzaSum(stanzas []*age.Stanza, fingerprints []string) [32]byte {
	h := NewHash()
	for _, s := range stanzas {
		fmt.Fprintf(h, "%s %s %x\n", s.Type, strings.Join(s.Args, " "), s.Body)
	}
	fmt.Fprintf(h, "%s %s\n", groupStanza, strings.Join(fingerprints, " "))
	return [32]byte(h.Sum(nil))
}

// opener tries identities on a header and remembers whom the header names.
type opener struct {
	ids      []Identity
	to       []string
	strength Strength // of the weakest stanza that wraps
}

// Unwrap implements age.Identity.
func (o *opener) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == cipherStanza && (len(s.Args) != 1 || s.Args[0] != Cipher) {
			return nil, ErrDamaged // nothing of ours is sealed with another
		}
	}
	for _, id := range o.ids {
		if id.IsZero() {
			continue
		}
		fileKey, err := id.id.get().Unwrap(stanzas)
		if err == nil {
			return fileKey, nil
		}
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return nil, err
		}
	}
	o.strength = PostQuantum
	for n, s := range stanzas {
		if s.Type != groupStanza {
			if s.Type != cipherStanza && s.Type != hybridStanza {
				o.strength = Classic
			}
			continue
		}
		if sum := stanzaSum(stanzas[:n], s.Args); n != len(stanzas)-1 || !bytes.Equal(sum[:], s.Body) {
			return nil, ErrDamaged
		}
		o.to = s.Args
	}
	if o.to == nil {
		return nil, ErrDamaged // Wrap never leaves the list out
	}
	return nil, age.ErrIncorrectIdentity
}

func (o *opener) noIdentity() error {
	have := make([]string, 0, len(o.ids))
	for _, id := range o.ids {
		have = append(have, id.Recipient().Fingerprint())
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return fmt.Errorf("wrapped key: sealed to %s, offered %s: %w",
		strings.Join(o.to, ", "), strings.Join(have, ", "), ErrNoIdentity)
}
