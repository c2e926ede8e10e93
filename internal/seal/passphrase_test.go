package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const goodPassphrase = "correct horse battery staple"

// What is locked opens with the same passphrase only, and not after any change.
func TestLocked(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 1000} {
		plain := bytes.Repeat([]byte("x"), n)
		l, err := lock(plain, goodPassphrase, [lockSalt]byte{byte(n)}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Open(goodPassphrase); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %q, %v", n, got, err)
		}
		if _, err := l.Open(goodPassphrase + "r"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: another passphrase: %v", n, err)
		}
		for i := range l.Body {
			bad := l
			bad.Body = bytes.Clone(l.Body)
			bad.Body[i] ^= 1
			if _, err := bad.Open(goodPassphrase); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d bytes: byte %d changed: %v", n, i, err)
			}
			if n > 17 {
				break
			}
		}
		short := l
		short.Body = l.Body[:len(l.Body)-1]
		if _, err := short.Open(goodPassphrase); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: cut off: %v", n, err)
		}
	}
}

// The bytes are for ever: a file of today opens in ten years.
func TestLockedVector(t *testing.T) {
	l, err := lock([]byte("hold fast\n"), goodPassphrase, [lockSalt]byte{1, 2, 3, 4, 5, 6, 7, 8}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	const body, code = "53616c7465645f5f01020304050607088fe35558b625ba5af08090db23c55323", "9f099d4e2e5ba03a16cb867c2e1a3d780a3c53212750496fae4170d2e80d7b97"
	if got := hex.EncodeToString(l.Body); got != body {
		t.Errorf("body %s, want %s", got, body)
	}
	if got := hex.EncodeToString(l.Code[:]); got != code {
		t.Errorf("code %s, want %s", got, code)
	}
}

// openssl opens it with one command, and we open what openssl wrote as far as its bytes go.
func TestLockedOpensWithOpenSSL(t *testing.T) {
	l, err := Lock([]byte("the plan\n"), goodPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, l.Body, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-md", "sha256", "-in", file, "-pass", "stdin")
	cmd.Stdin = strings.NewReader(goodPassphrase + "\n")
	if out, err := cmd.Output(); err != nil || string(out) != "the plan\n" {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestPassphrases(t *testing.T) {
	for _, bad := range []string{"", "short", "fourteen chars", " begins with a blank", "ends with a blank ", "smörgåsbord for all", "a tab\tin the middle", strings.Repeat("a", MaxPassword+1)} {
		if err := CheckPassphrase(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Lock(nil, bad); err == nil {
			t.Errorf("%q locks", bad)
		}
	}
	seen := map[string]bool{}
	for range 100 {
		p := NewPassphrase()
		if err := CheckPassphrase(p); err != nil || len(p) != 24 || seen[p] {
			t.Fatalf("%q: %v", p, err)
		}
		seen[p] = true
	}
	if len(passphraseLetters) != 32 {
		t.Errorf("%d letters are not five bits each", len(passphraseLetters))
	}
}

func FuzzLocked(f *testing.F) {
	l, err := lock([]byte("hold fast"), goodPassphrase, [lockSalt]byte{}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(1, l.Body, l.Code[:])
	f.Add(0, []byte("Salted__"), []byte{})
	f.Add(MaxLockRounds+1, l.Body, l.Code[:])
	f.Fuzz(func(t *testing.T, rounds int, body, code []byte) {
		if rounds > 10 && rounds <= MaxLockRounds {
			rounds = 10
		}
		x := Locked{Rounds: rounds, Body: body}
		copy(x.Code[:], code)
		if got, err := x.Open(goodPassphrase); err == nil && string(got) != "hold fast" {
			t.Errorf("%q opens", got)
		}
	})
}
