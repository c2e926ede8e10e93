package seal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecretKey(t *testing.T) {
	k := NewSecretKey()
	sealed := k.Seal("people.anna", []byte("seed"))
	if got, err := k.Open("people.anna", sealed); err != nil || string(got) != "seed" {
		t.Fatalf("Open: %q, %v", got, err)
	}
	if _, err := k.Open("people.bo", sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("a secret opens for somebody else: %v", err)
	}
	for i := range sealed {
		bad := append([]byte(nil), sealed...)
		bad[i] ^= 1
		if _, err := k.Open("people.anna", bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	}
	if again, err := ParseSecretKey(k.String()); err != nil || again != k {
		t.Errorf("ParseSecretKey: %v", err)
	}
	if s := fmt.Sprintf("%v %s %x", k, k, k); strings.Contains(s, strings.TrimPrefix(k.String(), secretPrefix)) || !strings.Contains(s, "redacted") {
		t.Errorf("printed: %s", s)
	}
}

func TestPasswords(t *testing.T) {
	a, b := HashPassword("correct horse"), HashPassword("correct horse")
	if a == b {
		t.Error("two people with one password have one hash")
	}
	if !CheckPassword(a, "correct horse") || !CheckPassword(b, "correct horse") || CheckPassword(a, "correct hors") {
		t.Error("passwords are told apart wrongly")
	}
	for _, bad := range []string{"", "correct horse", passwordPrefix, a[:len(a)-1], strings.Replace(a, "m=65536", "m=1", 1)} {
		if CheckPassword(bad, "correct horse") {
			t.Errorf("%q admits", bad)
		}
	}
}
