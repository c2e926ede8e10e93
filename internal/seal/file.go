package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// MaxSealedFile bounds the content of a sealed file, in bytes.
const MaxSealedFile = 64 << 20

// SealFile seals content to the recipients as one ordinary age file, which "age -d" opens as
// well. Recipients of both kinds are refused: see [CheckRecipients].
func SealFile(content []byte, to ...Recipient) ([]byte, error) {
	if len(content) > MaxSealedFile {
		return nil, fmt.Errorf("seal file: %d bytes, at most %d", len(content), MaxSealedFile)
	}
	if err := CheckRecipients(to); err != nil {
		return nil, fmt.Errorf("seal file: %w", err)
	}
	var all []age.Recipient
	for _, r := range to {
		x, err := ageRecipient(r.text)
		if err != nil {
			return nil, fmt.Errorf("seal file: recipient %q: %w", r.text, ErrKey)
		}
		all = append(all, x)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, all...)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal file: %w", err)
	}
	return out.Bytes(), nil
}

// OpenFile opens what SealFile, or age, sealed. Nothing of a damaged file is returned. The
// error wraps ErrNoIdentity if no identity fits, and ErrDamaged if the file is not what was
// sealed.
func OpenFile(sealed []byte, ids ...Identity) ([]byte, error) {
	o := &openers{ids}
	r, err := age.Decrypt(bytes.NewReader(sealed), o)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, fmt.Errorf("sealed file: %w", ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("sealed file: %w", ErrDamaged)
	}
	content, err := io.ReadAll(io.LimitReader(r, MaxSealedFile+1))
	if err != nil || len(content) > MaxSealedFile {
		return nil, fmt.Errorf("sealed file: %w", ErrDamaged)
	}
	return content, nil
}

// openers tries identities one after the other.
type openers struct{ ids []Identity }

// Unwrap implements age.Identity.
func (o *openers) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, id := range o.ids {
		if id.IsZero() {
			continue
		}
		if key, err := id.id.get().Unwrap(stanzas); !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}
