package seal

import (
	"errors"
	"testing"
)

func FuzzParse(f *testing.F) {
	id, k, mac := identity(f), signingKey(f, "fuzz"), NewMACKey()
	for _, s := range []string{id.String(), id.Recipient().String(), k.String(), k.Public().String(), mac.String(), "", "age1", "holdfast-signing-key/1::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRecipient(s); err == nil {
			if again, err := ParseRecipient(r.String()); err != nil || again != r {
				t.Errorf("recipient %q does not survive its text", s)
			}
		} else if !errors.Is(err, ErrKey) {
			t.Errorf("recipient: %v is no ErrKey", err)
		}
		if v, err := ParseIdentity(s); err == nil && v.Recipient() == (Recipient{}) {
			t.Error("an identity without recipient")
		}
		if v, err := ParseSigningKey(s); err == nil {
			if again, err := ParseSigningKey(v.String()); err != nil || again.String() != v.String() {
				t.Error("a signing key does not survive its text")
			}
		}
		if v, err := ParseVerifyKey(s); err == nil {
			if again, err := ParseVerifyKey(v.String()); err != nil || again != v {
				t.Error("a verify key does not survive its text")
			}
		}
		if v, err := ParseMACKey(s); err == nil {
			if again, err := ParseMACKey(v.String()); err != nil || again != v {
				t.Error("a naming key does not survive its text")
			}
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	id := identity(f)
	w, err := Wrap(NewKey(), []Recipient{id.Recipient()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(w)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 \n\n--- \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Unwrap(b, id); err == nil && string(b) != string(w) {
			t.Error("opened what nobody wrote")
		} else if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoIdentity) {
			t.Errorf("untyped error: %v", err)
		}
		_, _ = WrappedTo(b)
	})
}

func FuzzSSHVerify(f *testing.F) {
	k := signingKey(f, "fuzz")
	sig, err := k.SSHSign("ns", []byte("m"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := k.Public().SSHVerify("ns", []byte("n"), b); !errors.Is(err, ErrSignature) {
			t.Errorf("a signature over another message: %v", err)
		}
	})
}
