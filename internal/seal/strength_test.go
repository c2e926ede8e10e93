package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

// One classic recipient would lower a wrapping to classic strength, and age's own check is
// not asked, since Wrap writes all stanzas of a file itself.
func TestStrengthsAreNotMixed(t *testing.T) {
	key := NewKey()
	var classic, hybrid []Recipient
	for range 3 {
		classic, hybrid = append(classic, identity(t).Recipient()), append(hybrid, postQuantum(t).Recipient())
	}
	for _, c := range []struct {
		name string
		to   []Recipient
		want Strength
	}{
		{"classic", classic, Classic},
		{"post-quantum", hybrid, PostQuantum},
		{"one is classic", append(classic[:1:1], hybrid...), ""},
		{"one is post-quantum", append(classic[:3:3], hybrid[0]), ""},
	} {
		wrapped, err := Wrap(key, c.to)
		if c.want == "" {
			if !errors.Is(err, ErrMixed) {
				t.Errorf("%s: %v, want ErrMixed", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got, err := WrappedStrength(wrapped); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		to, err := WrappedTo(wrapped)
		for i, r := range c.to {
			if err != nil || to[i] != r.Fingerprint() || r.PostQuantum() != (c.want == PostQuantum) {
				t.Errorf("%s: recipient %d: %v, %v", c.name, i, to, err)
			}
		}
	}
}

// As many post-quantum recipients as are allowed fit, one more is refused before it does not.
func TestMostPostQuantumRecipientsFit(t *testing.T) {
	var ids []Identity
	var to []Recipient
	for range MaxPostQuantum {
		ids = append(ids, postQuantum(t))
		to = append(to, ids[len(ids)-1].Recipient())
	}
	key := NewKey()
	wrapped, err := Wrap(key, to)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if got, err := Unwrap(wrapped, id); err != nil || got != key {
			t.Errorf("identity %d: %v", i, err)
		}
		// Plain age opens it, too.
		parsed, err := age.ParseHybridIdentity(id.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := age.Decrypt(bytes.NewReader(wrapped), parsed); err != nil {
			t.Errorf("age with identity %d: %v", i, err)
		}
	}
	if _, err := Unwrap(wrapped, postQuantum(t), identity(t)); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := Wrap(key, append(to, postQuantum(t).Recipient())); err == nil || errors.Is(err, ErrMixed) {
		t.Errorf("one more: %v", err)
	}
	for i := range wrapped {
		if i%97 != 0 {
			continue
		}
		bad := bytes.Clone(wrapped)
		bad[i] ^= 4
		if got, err := Unwrap(bad, ids[3]); err == nil && got != key {
			t.Errorf("byte %d: another key", i)
		}
	}
}

func TestPostQuantumKeysAreRead(t *testing.T) {
	id := postQuantum(t)
	back, err := ParseIdentity(" " + id.String() + "\n")
	if err != nil || back.Recipient() != id.Recipient() || !back.PostQuantum() {
		t.Errorf("the identity: %v", err)
	}
	r, err := ParseRecipient(id.Recipient().String())
	if err != nil || r != id.Recipient() {
		t.Errorf("the recipient: %v", err)
	}
	for _, bad := range []string{id.Recipient().String()[:900], strings.Replace(id.Recipient().String(), "age1pq1", "age1", 1), id.String()} {
		if _, err := ParseRecipient(bad); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), bad[20:40]) {
			t.Errorf("%.20s…: %v", bad, err)
		}
	}
	if _, err := ParseIdentity(strings.Replace(id.String(), "-PQ-", "-", 1)); !errors.Is(err, ErrKey) {
		t.Errorf("a post-quantum seed as a classic scalar: %v", err)
	}
	_, classic := split(t, 2, 3)
	shares, err := Split(id, 2, 3, nil, day)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(shares[0], classic[1]); !errors.Is(err, ErrShare) {
		t.Errorf("shares of two kinds of keys: %v", err)
	}
	q, err := Ask("c1", id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Answer("c1", q.Sealed, id)
	if right, err2 := q.Right(answer); err != nil || err2 != nil || !right {
		t.Errorf("a challenge: %v, %v", err, err2)
	}
}
