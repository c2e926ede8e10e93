package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The signature of a webhook is that of the Standard Webhooks specification, version 1:
// HMAC-SHA-256 over the id, the time in seconds and the body, joined by dots. Libraries
// that verify it exist for most languages, and four lines do it without one.
const hookVersion = "v1,"

// MinHookSecret is how many bytes the secret of a webhook has at least.
const MinHookSecret = 24

// A HookSecret signs what is sent to one receiver, which has the same secret.
type HookSecret struct{ key hidden[[]byte] }

// IsZero reports whether there is no secret.
func (k HookSecret) IsZero() bool { return k.key.get() == nil }

// Format prints no secret.
func (k HookSecret) Format(f fmt.State, _ rune) { redact(f, "seal.HookSecret") }

// MarshalText refuses: the secret stays in its file.
func (k HookSecret) MarshalText() ([]byte, error) { return nil, errSecret }

// ParseHookSecret reads a secret: "whsec_" and base64, or any other text of at least
// MinHookSecret bytes.
func ParseHookSecret(text string) (HookSecret, error) {
	text = strings.TrimSpace(text)
	key := []byte(text)
	if b64, ok := strings.CutPrefix(text, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(b64); err != nil {
			return HookSecret{}, fmt.Errorf("secret of a webhook: %w: what follows \"whsec_\" is not base64", ErrKey)
		}
	}
	if len(key) < MinHookSecret {
		return HookSecret{}, fmt.Errorf("secret of a webhook: %w: it needs at least %d bytes", ErrKey, MinHookSecret)
	}
	return HookSecret{hide(&key)}, nil
}

// Sign returns the signature of a body that is sent at an instant.
func (k HookSecret) Sign(id string, at time.Time, body []byte) string {
	return hookVersion + base64.StdEncoding.EncodeToString(k.sum(id, strconv.FormatInt(at.Unix(), 10), body))
}

func (k HookSecret) sum(id, at string, body []byte) []byte {
	var key []byte
	if p := k.key.get(); p != nil {
		key = *p
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%s.%s.", id, at)
	h.Write(body)
	return h.Sum(nil)
}

// HookSlack is how far the time of a signed request may be from ours: it bounds how long
// a request that somebody recorded can be sent again.
const HookSlack = 5 * time.Minute

// Verify checks a request: its headers as they came, its body, and the time of arrival.
// A header may hold several signatures, separated by blanks, while a secret is replaced.
func (k HookSecret) Verify(id, at, signatures string, body []byte, now time.Time) error {
	if k.IsZero() {
		return fmt.Errorf("signature of a webhook: %w: there is no secret", ErrKey)
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || id == "" {
		return fmt.Errorf("signature of a webhook: %w: it lacks its id or its time", ErrSignature)
	}
	if d := now.Sub(time.Unix(seconds, 0)); d > HookSlack || d < -HookSlack {
		return fmt.Errorf("signature of a webhook: %w: it was made %s from now, and %s is the most", ErrSignature, d.Round(time.Second), HookSlack)
	}
	want := k.sum(id, at, body)
	for s := range strings.FieldsSeq(signatures) {
		b64, ok := strings.CutPrefix(s, hookVersion)
		got, err := base64.StdEncoding.DecodeString(b64)
		if ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return fmt.Errorf("signature of a webhook: %w", ErrSignature)
}
