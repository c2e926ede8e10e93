package seal

import (
	"bytes"
	"errors"
	"testing"

	"filippo.io/age"
)

// A wrapped key says in the clear what it is for; one that says something else is not ours.
func TestWrappedKeyNamesItsCipher(t *testing.T) {
	id, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key := NewKey()
	wrapped, err := Wrap(key, []Recipient{id.Recipient()})
	if err != nil || !bytes.Contains(wrapped, []byte("\n-> holdfast-cipher AES-256-GCM\n")) {
		t.Fatalf("the header is %q, %v", wrapped, err)
	}
	if got, err := Unwrap(wrapped, id); err != nil || got != key {
		t.Fatalf("it does not open: %v", err)
	}
	var other bytes.Buffer
	x, err := age.ParseX25519Recipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	w, err := age.Encrypt(&other, named{x})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(key[:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Unwrap(other.Bytes(), id); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key for another cipher: %v", err)
	}
}

// named is a writer that says it used another cipher.
type named struct{ *age.X25519Recipient }

func (n named) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	all, err := n.X25519Recipient.Wrap(fileKey)
	return append(all, &age.Stanza{Type: cipherStanza, Args: []string{"AES-128-CBC"}}), err
}
