package app

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/seal"
)

func pinOfTwo(t testing.TB) Pin {
	t.Helper()
	n := Pin{Repository: "r-1", Needed: 2, Signers: map[string][]string{"ana": {"ssh-ed25519 AAAA1 ana"}, "ben": {"ssh-ed25519 AAAA2 ben", "ssh-ed25519 AAAA3 old"}}}
	for range 2 {
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		n.Recipients = append(n.Recipients, id.Recipient().String())
	}
	return n
}

func TestPinsAreRead(t *testing.T) {
	n := pinOfTwo(t)
	for _, before := range []string{"", "sha256:00"} {
		got, err := ParsePin(n.Text(before))
		if err != nil || got.Text(before) != n.Text(before) {
			t.Errorf("%q: %v", before, err)
		}
	}
	text := n.Text("")
	for name, bad := range map[string]string{
		"empty": "", "another file": "plan: x\n", "no recipient": strings.ReplaceAll(text, "recipient: ", "replaces: "), "a mistyped recipient": strings.Replace(text, "recipient: age1", "recipient: age1q", 1),
		"more needed than can sign": strings.Replace(text, "needed: 2", "needed: 3", 1), "fewer than none": strings.Replace(text, "needed: 2", "needed: -1", 1), "a signer without a key": text + "signer: eve\n", "an unknown line": text + "x: y\n",
	} {
		if _, err := ParsePin(bad); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !sharesKey(n.Signers["ben"], []string{"ssh-ed25519 AAAA3 another name"}) || sharesKey(n.Signers["ana"], n.Signers["ben"]) {
		t.Error("whose key it is was told by its comment")
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add(pinOfTwo(f).Text(""))
	f.Add(pinOfTwo(f).Text("sha256:00"))
	f.Add("holdfast recipients 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParsePin(text)
		if err != nil {
			return
		}
		again, err := ParsePin(n.Text(""))
		if err != nil || again.Text("") != n.Text("") {
			t.Errorf("%q is written otherwise: %v", text, err)
		}
	})
}
