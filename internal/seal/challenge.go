package seal

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
)

// answerBytes is the length of an answer: 120 bits, six groups that can be read out
// over a telephone.
const answerBytes = 15

// A Question asks whether somebody can still open what is sealed to a recipient. It is
// public.
type Question struct {
	ID     string `json:"id"`
	Sealed string `json:"sealed"` // an age file in base64: a random key, which nobody else keeps
	Expect string `json:"expect"` // hash of the answer, in base64
}

// Ask makes a question for one recipient. The id is the caller's and names the question
// for ever: an answer holds for it alone.
func Ask(id string, to Recipient) (Question, error) {
	nonce := NewKey()
	wrapped, err := Wrap(nonce, []Recipient{to})
	if err != nil {
		return Question{}, fmt.Errorf("challenge: %w", err)
	}
	answer := answerOf(id, nonce)
	sum := Hash(answer)
	return Question{ID: id, Sealed: base64.StdEncoding.EncodeToString(wrapped), Expect: base64.StdEncoding.EncodeToString(sum[:])}, nil
}

// Answer opens a question. The error wraps ErrNoIdentity if the identity is not the one
// that was asked for, and ErrDamaged if the question is not what was asked.
func Answer(id, sealed string, with Identity) (string, error) {
	sealed = strings.Join(strings.Fields(sealed), "")
	if len(sealed) > base64.StdEncoding.EncodedLen(MaxWrapped) {
		return "", fmt.Errorf("challenge of %d letters: %w", len(sealed), ErrDamaged)
	}
	wrapped, err := base64.StdEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("challenge: %w", ErrDamaged)
	}
	nonce, err := Unwrap(wrapped, with)
	if err != nil {
		return "", fmt.Errorf("challenge: %w", err)
	}
	return writeGroups(answerOf(id, nonce)), nil
}

// Right reports whether answer is the answer to q. An answer that was mistyped is an
// error that names the group.
func (q Question) Right(answer string) (bool, error) {
	b, err := readGroups(answer)
	if err != nil {
		return false, fmt.Errorf("answer: %w", err)
	}
	if len(b) != answerBytes {
		return false, fmt.Errorf("answer: %w: want %d groups of five letters", ErrKey, answerBytes*8/5/groupLetters)
	}
	want, ok := decode32(q.Expect)
	sum := Hash(b)
	return ok && subtle.ConstantTimeCompare(sum[:], want[:]) == 1, nil
}

func answerOf(id string, nonce Key) []byte {
	h := Hash(append([]byte("holdfast key challenge/1\x00"+id+"\x00"), nonce[:]...))
	return h[:answerBytes]
}
