// Package seal holds all the cryptography of Holdfast: who can read a copy, who
// vouches for a fact, and how an altered byte is noticed. No other package
// encrypts, signs or wraps a key, so a reader who wants to know what Holdfast
// relies on needs to read only this one.
//
// There are three kinds of keys, and nobody should hold two of them:
//
//   - An [Identity] reads. Its public half, a [Recipient], is all that a writer
//     holds: a captured production host cannot open what it wrote.
//   - A [SigningKey] vouches. Its public half, a [VerifyKey], is what an auditor
//     or the vault trusts, and it always reaches them by another way than the
//     thing that it verifies.
//   - A [MACKey] names. It turns content into chunk ids, so that a person who
//     does not hold it cannot ask whether a known file is among the copies.
//
// An identity can be split into [Share] values, of which some bring it back, and both
// can be written on paper and typed in again ([ParseSheet]).
//
// Data is sealed in a [Box] under a fresh [Key], and that key is wrapped to
// recipients in an ordinary age file, so that age and a few lines of any
// language with AES-GCM can open it without Holdfast.
//
// # Invariants
//
//   - A byte altered anywhere is [ErrDamaged] or [ErrSignature], never other data.
//   - Every signature is bound to a domain or namespace: what was signed as a
//     receipt cannot be shown as an approval.
//   - A secret is printed only by its String method, on purpose. The fmt verbs
//     and JSON never show it. (fmt cannot call methods on unexported fields: do
//     not print a struct that keeps a [Key] or [MACKey] in one.)
//   - Errors never contain a secret, not even a mistyped one.
//
// # What it does not do
//
// It does not decide who holds a key, and it does not protect against a person who
// holds the identity and the pack.
package seal

import (
	"errors"
	"fmt"
	"io"
)

// Limits on what is decoded.
const (
	MaxWrapped    = 16 << 10 // longest wrapped key, in bytes
	MaxRecipients = 64       // most recipients of one wrapped key
	// MaxPostQuantum is how many fit into a wrapped key if they are post-quantum.
	MaxPostQuantum = 10
	MaxKeyFile     = 64 << 10 // longest key file, in bytes
	MaxName        = 128      // longest name of a signing key, in bytes
	MaxSSHSig      = 16 << 10 // longest armoured SSH signature, in bytes
)

var (
	// ErrKey marks text that is not a key of the expected kind.
	ErrKey = errors.New("not a valid key")
	// ErrNoIdentity means that the wrapped key is whole as far as can be told
	// and that none of the given identities opens it.
	ErrNoIdentity = errors.New("no identity fits")
	// ErrDamaged means that sealed or wrapped bytes are not what was written.
	ErrDamaged = errors.New("damaged or altered")
	// ErrMixed means that post-quantum recipients would share a wrapping with others.
	ErrMixed = errors.New("post-quantum and classic recipients are not mixed")
	// ErrSignature means that a signature does not belong to the message, the
	// domain or the key.
	ErrSignature = errors.New("signature does not verify")
)

// errSecret stops a secret from being marshalled by accident. An error is louder
// than a placeholder: a key file that holds "redacted" would be found too late.
var errSecret = errors.New("a secret is not marshalled: call its String method on purpose")

// redact prints what a secret is, and not the secret, whatever the verb.
func redact(f fmt.State, what string) {
	_, _ = io.WriteString(f, what+"(redacted)")
}

// hidden keeps a secret where fmt cannot follow. fmt calls no methods on
// unexported fields, and a wrong verb makes it print through one pointer, but
// never through two.
type hidden[T any] struct{ p **T }

func hide[T any](secret *T) hidden[T] { return hidden[T]{&secret} }

// get returns nil for the zero value.
func (h hidden[T]) get() *T {
	if h.p == nil {
		return nil
	}
	return *h.p
}
