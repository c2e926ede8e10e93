package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestSealedFiles(t *testing.T) {
	content := []byte(strings.Repeat("whom to call, and what comes back in which order\n", 4000)) // several of age's chunks
	for _, generate := range []func(testing.TB) Identity{identity, postQuantum} {
		id := generate(t)
		sealed, err := SealFile(content, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenFile(sealed, generate(t), id); err != nil || !bytes.Equal(got, content) {
			t.Errorf("opened: %v", err)
		}
		if _, err := OpenFile(sealed, generate(t), identity(t)); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("strangers: %v", err)
		}
		for _, n := range []int{len(sealed) - 1, len(sealed) / 2, 10, 0} {
			if got, err := OpenFile(sealed[:n], id); !errors.Is(err, ErrDamaged) || got != nil {
				t.Errorf("cut to %d bytes: %d bytes, %v", n, len(got), err)
			}
		}
		for at := 0; at < len(sealed); at += 997 {
			bad := bytes.Clone(sealed)
			bad[at] ^= 1
			if got, err := OpenFile(bad, id); err == nil || got != nil {
				t.Errorf("byte %d: %d bytes, %v", at, len(got), err)
			}
		}
	}
	if _, err := SealFile(content, identity(t).Recipient(), postQuantum(t).Recipient()); !errors.Is(err, ErrMixed) {
		t.Errorf("mixed: %v", err)
	}
}

// What is found under the name of a kit is opened as it is, or refused: it never makes the
// program fall, and never gives anything that was not sealed.
func FuzzOpenFile(f *testing.F) {
	id := identity(f)
	sealed, err := SealFile([]byte("content"), id.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := OpenFile(b, id)
		switch {
		case err == nil && !bytes.Equal(got, []byte("content")):
			t.Errorf("%q was never sealed", got)
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoIdentity):
			t.Error(err)
		}
	})
}

var _ age.Identity = (*openers)(nil)
