package seal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// NoteSigner returns k as a signer of notes, the format of log checkpoints. A note
// is signed as it stands, without a domain, so the signer refuses a text that a
// signature of another kind could be taken for.
func NoteSigner(k SigningKey) (note.Signer, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("note signer: %w", ErrKey)
	}
	vkey, err := note.NewEd25519VerifierKey(k.s.get().name, k.s.get().key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("note signer %q: %w", k.s.get().name, err)
	}
	hash := strings.Split(vkey, "+")[1]
	const algEd25519 = 1
	seed := append([]byte{algEd25519}, k.s.get().key.Seed()...)
	s, err := note.NewSigner("PRIVATE+KEY+" + k.s.get().name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(seed))
	if err != nil {
		return nil, fmt.Errorf("note signer %q: %w", k.s.get().name, err)
	}
	return &noteSigner{s}, nil
}

// NoteVerifier returns k as a verifier of notes.
func NoteVerifier(k VerifyKey) (note.Verifier, error) {
	if k.name == "" {
		return nil, fmt.Errorf("note verifier: %w", ErrKey)
	}
	vkey, err := note.NewEd25519VerifierKey(k.name, k.key[:])
	if err != nil {
		return nil, fmt.Errorf("note verifier %q: %w", k.name, err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("note verifier %q: %w", k.name, err)
	}
	return v, nil
}

type noteSigner struct{ note.Signer }

// Format prints no secret.
func (s *noteSigner) Format(f fmt.State, _ rune) { redact(f, "seal.NoteSigner "+s.Name()+" ") }

// Sign implements note.Signer.
func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	if bytes.HasPrefix(msg, []byte(signedPrefix)) || bytes.HasPrefix(msg, []byte("SSHSIG")) {
		return nil, errors.New("the text of a note may not look like another kind of signed message")
	}
	return s.Signer.Sign(msg)
}
