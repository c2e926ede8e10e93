package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"holdfast"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew; released vectors stay as they are for ever")

func postQuantum(t testing.TB) Identity {
	t.Helper()
	id, err := GeneratePostQuantum()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func identity(t testing.TB) Identity {
	t.Helper()
	id, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func signingKey(t testing.TB, name string) SigningKey {
	t.Helper()
	k, err := GenerateSigningKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWrapOpensForEachRecipient(t *testing.T) {
	a, b, stranger := identity(t), identity(t), identity(t)
	key := NewKey()
	w, err := Wrap(key, []Recipient{a.Recipient(), b.Recipient(), a.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range [][]Identity{{a}, {b}, {stranger, b}, {{}, a}} {
		if got, err := Unwrap(w, ids...); err != nil || got != key {
			t.Errorf("Unwrap with %v: %v", ids, err)
		}
	}
	for _, ids := range [][]Identity{nil, {stranger}, {{}}} {
		_, err := Unwrap(w, ids...)
		if !errors.Is(err, ErrNoIdentity) || errors.Is(err, ErrDamaged) {
			t.Errorf("Unwrap with %v: %v, want ErrNoIdentity", ids, err)
			continue
		}
		if !strings.Contains(err.Error(), b.Recipient().Fingerprint()) {
			t.Errorf("%v: does not say who can open it", err)
		}
	}
	to, err := WrappedTo(w)
	if want := []string{a.Recipient().Fingerprint(), b.Recipient().Fingerprint()}; err != nil || !slices.Equal(to, want) {
		t.Errorf("WrappedTo = %v, %v, want %v", to, err, want)
	}
}

func TestWrapRefuses(t *testing.T) {
	if _, err := Wrap(NewKey(), nil); err == nil {
		t.Error("Wrap to nobody succeeded")
	}
	if _, err := Wrap(NewKey(), []Recipient{{}}); !errors.Is(err, ErrKey) {
		t.Errorf("Wrap to the zero recipient: %v, want ErrKey", err)
	}
	if _, err := Wrap(NewKey(), make([]Recipient, MaxRecipients+1)); err == nil {
		t.Error("Wrap to too many recipients succeeded")
	}
	var most []Recipient
	for range MaxRecipients {
		most = append(most, identity(t).Recipient())
	}
	w, err := Wrap(NewKey(), most)
	if err != nil || len(w) > MaxWrapped {
		t.Errorf("Wrap to %d recipients: %d bytes, %v", len(most), len(w), err)
	}
	if _, err := Unwrap(make([]byte, MaxWrapped+1), identity(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("Unwrap of too much: %v, want ErrDamaged", err)
	}
}

// Every byte is altered in turn, and the file cut at every length. Neither may
// give a key, and the holder of the right identity must be told that it is damage.
func TestWrapEveryByte(t *testing.T) {
	a, b := identity(t), identity(t)
	w, err := Wrap(NewKey(), []Recipient{a.Recipient(), b.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		for _, bit := range []byte{0x01, 0x20, 0x80} {
			bad := bytes.Clone(w)
			bad[i] ^= bit
			for _, id := range []Identity{a, b} {
				if _, err := Unwrap(bad, id); !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d xor %#x: %v, want ErrDamaged", i, bit, err)
				}
			}
		}
		if _, err := Unwrap(w[:i], a); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v, want ErrDamaged", i, err)
		}
	}
	if _, err := Unwrap(append(bytes.Clone(w), 0), a); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v, want ErrDamaged", err)
	}
}

func TestBoxEveryByte(t *testing.T) {
	key := NewKey()
	box := NewBox(key, []byte("pack 1"))
	plain := []byte("a page of a database")
	sealed := box.Seal([]byte("head"), 7, plain)[4:]
	if len(sealed) != len(plain)+Overhead {
		t.Errorf("sealed to %d bytes, want %d", len(sealed), len(plain)+Overhead)
	}
	if got, err := box.Open([]byte("x"), 7, sealed); err != nil || string(got) != "x"+string(plain) {
		t.Fatalf("Open = %q, %v", got, err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := box.Open(nil, 7, bad); !errors.Is(err, ErrDamaged) || len(got) != 0 {
			t.Errorf("byte %d: %q, %v, want ErrDamaged", i, got, err)
		}
		if _, err := box.Open(nil, 7, sealed[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v, want ErrDamaged", i, err)
		}
	}
	if _, err := box.Open(nil, 8, sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("other segment number: %v, want ErrDamaged", err)
	}
	if _, err := NewBox(key, []byte("pack 2")).Open(nil, 7, sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("other context: %v, want ErrDamaged", err)
	}
	if _, err := NewBox(NewKey(), []byte("pack 1")).Open(nil, 7, sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("other key: %v, want ErrDamaged", err)
	}
}

func TestSignEveryByte(t *testing.T) {
	k := signingKey(t, "vault-1")
	msg := []byte("snapshot 4f2c91 arrived")
	sig := k.Sign("receipt", msg)
	if err := k.Public().Verify("receipt", msg, sig); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, v VerifyKey, domain string, msg, sig []byte) {
		t.Helper()
		if err := v.Verify(domain, msg, sig); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", what, err)
		}
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		refused(fmt.Sprintf("signature byte %d", i), k.Public(), "receipt", msg, bad)
	}
	for i := range msg {
		bad := bytes.Clone(msg)
		bad[i] ^= 1
		refused(fmt.Sprintf("message byte %d", i), k.Public(), "receipt", bad, sig)
	}
	refused("other domain", k.Public(), "approval", msg, sig)
	refused("line moved between domain and message", k.Public(), "receipt\nsnapshot", msg, sig)
	refused("other key", signingKey(t, "vault-1").Public(), "receipt", msg, sig)
	refused("no key", VerifyKey{}, "receipt", msg, sig)
	refused("no signature", k.Public(), "receipt", msg, nil)
}

func TestNote(t *testing.T) {
	k := signingKey(t, "example.com/log")
	s, err := NoteSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NoteVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "example.com/log\n3\nAAAA\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"holdfast/1 receipt\nx\n", "SSHSIG\n"} {
		if _, err := note.Sign(&note.Note{Text: text}, s); err == nil {
			t.Errorf("note %q was signed, and could be shown as another kind of signature", text)
		}
	}
	if _, err := NoteSigner(SigningKey{}); !errors.Is(err, ErrKey) {
		t.Errorf("NoteSigner of the zero key: %v", err)
	}
}

func TestSSHEveryByte(t *testing.T) {
	k := signingKey(t, "evidence")
	msg := []byte("manifest\n")
	sig, err := k.SSHSign("holdfast-evidence", msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Public().SSHVerify("holdfast-evidence", msg, sig); err != nil {
		t.Fatal(err)
	}
	if err := VerifySSHKey(k.Public().AuthorizedKey(), "holdfast-evidence", msg, sig); err != nil {
		t.Error(err)
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if err := k.Public().SSHVerify("holdfast-evidence", msg, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d: %v, want ErrSignature", i, err)
		}
	}
	for what, err := range map[string]error{
		"namespace": k.Public().SSHVerify("other", msg, sig),
		"message":   k.Public().SSHVerify("holdfast-evidence", []byte("manifesto"), sig),
		"key":       signingKey(t, "evidence").Public().SSHVerify("holdfast-evidence", msg, sig),
		"zero key":  VerifyKey{}.SSHVerify("holdfast-evidence", msg, sig),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("other %s: %v, want ErrSignature", what, err)
		}
	}
}

// ssh-keygen and openssl must agree with us in both directions, since an auditor
// uses them instead of us.
func TestForeignTools(t *testing.T) {
	for _, tool := range []string{"ssh-keygen", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: %v", tool, err)
		}
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	k := signingKey(t, "evidence")
	msg := []byte("manifest\n")
	sig, err := k.SSHSign("holdfast-evidence", msg)
	if err != nil {
		t.Fatal(err)
	}
	allowed := write("allowed", []byte(k.Public().AllowedSigner("holdfast-evidence")+"\n"))
	verify := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "evidence", "-n", "holdfast-evidence", "-s", write("sig", sig))
	verify.Stdin = bytes.NewReader(msg)
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen -Y verify: %v\n%s", err, out)
	}

	person := filepath.Join(dir, "person")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", person).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	approval := write("approval", []byte("plan sha256:abc\n"))
	if out, err := exec.Command("ssh-keygen", "-Y", "sign", "-q", "-f", person, "-n", "holdfast-approve", approval).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v\n%s", err, out)
	}
	pub, _ := os.ReadFile(person + ".pub")
	personSig, _ := os.ReadFile(approval + ".sig")
	if err := VerifySSHKey(string(pub), "holdfast-approve", []byte("plan sha256:abc\n"), personSig); err != nil {
		t.Errorf("a signature by ssh-keygen: %v", err)
	}
	if err := VerifySSHKey(string(pub), "holdfast-approve", []byte("plan sha256:abd\n"), personSig); !errors.Is(err, ErrSignature) {
		t.Errorf("a signature by ssh-keygen over something else: %v", err)
	}

	raw := k.Sign("receipt", msg)
	out, err := exec.Command("openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", write("pub.pem", k.Public().PEM()),
		"-in", write("msg", []byte("holdfast/1 receipt\nmanifest\n")), "-sigfile", write("rawsig", raw)).CombinedOutput()
	if err != nil {
		t.Errorf("openssl pkeyutl -verify: %v\n%s", err, out)
	}
}

func TestParseRefusesAndHidesJunk(t *testing.T) {
	id, k, mac := identity(t), signingKey(t, "a"), NewMACKey()
	almost := func(s string) string { return s[:len(s)-4] + "####" }
	tests := []struct {
		what, text string
		parse      func(string) error
	}{
		{"recipient", "", func(s string) error { _, err := ParseRecipient(s); return err }},
		{"identity pasted as recipient", id.String(), func(s string) error { _, err := ParseRecipient(s); return err }},
		{"identity", almost(id.String()), func(s string) error { _, err := ParseIdentity(s); return err }},
		{"signing key", almost(k.String()), func(s string) error { _, err := ParseSigningKey(s); return err }},
		{"signing key as verify key", k.String(), func(s string) error { _, err := ParseVerifyKey(s); return err }},
		{"verify key as signing key", k.Public().String(), func(s string) error { _, err := ParseSigningKey(s); return err }},
		{"name with a colon", strings.Replace(k.String(), ":a:", ":a:b:", 1), func(s string) error { _, err := ParseSigningKey(s); return err }},
		{"mac", almost(mac.String()), func(s string) error { _, err := ParseMACKey(s); return err }},
		{"mac without prefix", strings.TrimPrefix(mac.String(), macPrefix), func(s string) error { _, err := ParseMACKey(s); return err }},
	}
	for _, tt := range tests {
		err := tt.parse(tt.text)
		if !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want ErrKey", tt.what, err)
			continue
		}
		if len(tt.text) > 20 && strings.Contains(err.Error(), tt.text[20:len(tt.text)-4]) {
			t.Errorf("%s: the error shows the key", tt.what)
		}
	}
	for _, name := range []string{"", "a b", "a:b", "a+b", "ä", "a\n", strings.Repeat("a", MaxName+1)} {
		if _, err := GenerateSigningKey(name); !errors.Is(err, ErrKey) {
			t.Errorf("name %q: %v, want ErrKey", name, err)
		}
	}
}

func TestTextRoundTrips(t *testing.T) {
	id, k, mac := identity(t), signingKey(t, "agent-1.example@eu/1"), NewMACKey()
	if got, err := ParseIdentity(" " + id.String() + "\n"); err != nil || got.String() != id.String() {
		t.Errorf("identity: %v", err)
	}
	if got, err := ParseRecipient(id.Recipient().String()); err != nil || got != id.Recipient() {
		t.Errorf("recipient: %v", err)
	}
	if got, err := ParseSigningKey(k.String()); err != nil || got.String() != k.String() || got.Name() != k.Name() {
		t.Errorf("signing key: %v", err)
	}
	if got, err := ParseVerifyKey(k.Public().String()); err != nil || got != k.Public() {
		t.Errorf("verify key: %v", err)
	}
	if got, err := ParseMACKey(mac.String()); err != nil || got != mac {
		t.Errorf("naming key: %v", err)
	}
	b, err := json.Marshal(map[string]any{"r": id.Recipient(), "v": k.Public()})
	if err != nil || !strings.Contains(string(b), "age1") || !strings.Contains(string(b), "holdfast-verify-key") {
		t.Errorf("public halves in JSON: %s, %v", b, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	id, sk, key, mac := identity(t), signingKey(t, "agent"), NewKey(), NewMACKey()
	ns, err := NoteSigner(sk)
	if err != nil {
		t.Fatal(err)
	}
	seed := sk.s.get().key.Seed()
	idText := id.String()
	var secrets []string
	for _, b := range [][]byte{key[:], mac[:], seed} {
		secrets = append(secrets, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), string(b),
			base64.StdEncoding.EncodeToString(b), strings.Trim(fmt.Sprint(b), "[]"), fmt.Sprintf("%#x", b[0])+", "+fmt.Sprintf("%#x", b[1])+", "+fmt.Sprintf("%#x", b[2]))
	}
	secrets = append(secrets, idText, idText[20:40], hex.EncodeToString([]byte(idText)))
	type holder struct {
		ID     Identity
		Sign   SigningKey
		hidden Identity
		sign   SigningKey
		box    *Box
	}
	box := NewBox(key, nil)
	values := []any{id, &id, sk, &sk, key, &key, mac, &mac, box, *box, ns, []Identity{id}, []Key{key}, map[string]MACKey{"a": mac},
		holder{id, sk, id, sk, box}, &holder{id, sk, id, sk, box}}
	look := func(what, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s shows a secret: %q", what, text)
				return
			}
		}
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			look(fmt.Sprintf("%T with %s", v, verb), fmt.Sprintf(verb, v))
		}
		b, err := json.Marshal(v)
		look(fmt.Sprintf("%T as JSON", v), fmt.Sprint(string(b), err))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		look(fmt.Sprintf("%T in a log", v), log.String())
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.key")
	k := signingKey(t, "agent")
	if err := WriteKeyFile(path, "# the agent's key\n\n"+k.String()); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if got, err := ReadKeyFile(path); err != nil || got != k.String() {
		t.Errorf("ReadKeyFile = %v", err)
	}
	err := WriteKeyFile(path, "other")
	if !errors.Is(err, fs.ErrExist) || holdfast.Hint(err) == "" {
		t.Errorf("second WriteKeyFile: %v (hint %q), want ErrExist", err, holdfast.Hint(err))
	}
	if got, _ := ReadKeyFile(path); got != k.String() {
		t.Error("the key was overwritten")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path); err == nil || !strings.Contains(holdfast.Hint(err), "chmod 600") {
			t.Errorf("mode %v: %v (hint %q), want a refusal", mode, err, holdfast.Hint(err))
		}
	}
	for name, text := range map[string]string{"empty": "# nothing\n\n", "long": strings.Repeat("a", MaxKeyFile+1)} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(p); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want ErrKey", name, err)
		}
	}
	if _, err := ReadKeyFile(dir); !errors.Is(err, ErrKey) {
		t.Errorf("a directory: %v, want ErrKey", err)
	}
	if _, err := ReadKeyFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
}
