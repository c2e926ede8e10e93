package seal

import (
	"encoding/json"
	"os"
	"testing"
)

// vectors are what another implementation must reproduce. Byte slices are base64.
type vectors struct {
	Identity    string `json:"identity"`
	Recipient   string `json:"recipient"`
	Fingerprint string `json:"fingerprint"`
	Key         []byte `json:"key"`
	Wrapped     []byte `json:"wrapped"` // opens with identity to key
	Context     []byte `json:"context"`
	Segment     uint64 `json:"segment"`
	Plain       []byte `json:"plain"`
	Sealed      []byte `json:"sealed"` // plain under key, context and segment
	SigningKey  string `json:"signing_key"`
	VerifyKey   string `json:"verify_key"`
	PEM         string `json:"verify_key_pem"`
	Domain      string `json:"domain"`
	Signature   []byte `json:"signature"` // of plain in domain
	Namespace   string `json:"ssh_namespace"`
	SSH         string `json:"ssh_signature"` // of plain in ssh_namespace
	MACKey      string `json:"mac_key"`
	ID          []byte `json:"id"`   // of plain under mac_key
	Hash        []byte `json:"hash"` // of plain
}

func TestVectors(t *testing.T) {
	t.Run("classic", func(t *testing.T) { testVectors(t, "testdata/vectors.json", identity) })
	t.Run("post-quantum", func(t *testing.T) { testVectors(t, "testdata/vectors-post-quantum.json", postQuantum) })
}

func testVectors(t *testing.T, file string, generate func(testing.TB) Identity) {
	if *update {
		writeVectors(t, file, generate)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %q, want %q", what, got, want)
		}
	}
	id, err := ParseIdentity(v.Identity)
	if err != nil {
		t.Fatal(err)
	}
	same("recipient", id.Recipient().String(), v.Recipient)
	same("fingerprint", id.Recipient().Fingerprint(), v.Fingerprint)
	key, err := Unwrap(v.Wrapped, id)
	if err != nil {
		t.Fatal(err)
	}
	same("key", string(key[:]), string(v.Key))
	box := NewBox(key, v.Context)
	same("sealed", string(box.Seal(nil, v.Segment, v.Plain)), string(v.Sealed))
	sk, err := ParseSigningKey(v.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	same("verify key", sk.Public().String(), v.VerifyKey)
	same("PEM", string(sk.Public().PEM()), v.PEM)
	same("signature", string(sk.Sign(v.Domain, v.Plain)), string(v.Signature))
	sig, err := sk.SSHSign(v.Namespace, v.Plain)
	if err != nil {
		t.Fatal(err)
	}
	same("SSH signature", string(sig), v.SSH)
	mac, err := ParseMACKey(v.MACKey)
	if err != nil {
		t.Fatal(err)
	}
	chunk, hash := mac.ID(v.Plain), Hash(v.Plain)
	same("id", string(chunk[:]), string(v.ID))
	same("hash", string(hash[:]), string(v.Hash))
	running := NewHash()
	_, _ = running.Write(v.Plain)
	same("running hash", string(running.Sum(nil)), string(v.Hash))
}

func writeVectors(t *testing.T, file string, generate func(testing.TB) Identity) {
	id, key, sk, mac := generate(t), NewKey(), signingKey(t, "vector"), NewMACKey()
	v := vectors{
		Identity: id.String(), Recipient: id.Recipient().String(), Fingerprint: id.Recipient().Fingerprint(),
		Key: key[:], Context: []byte("holdfast test vector"), Segment: 1<<40 + 7, Plain: []byte("the quick brown fox\n"),
		SigningKey: sk.String(), VerifyKey: sk.Public().String(), PEM: string(sk.Public().PEM()), Domain: "vector",
		Namespace: "holdfast-vector", MACKey: mac.String(),
	}
	var err error
	if v.Wrapped, err = Wrap(key, []Recipient{id.Recipient(), generate(t).Recipient()}); err != nil {
		t.Fatal(err)
	}
	v.Sealed = NewBox(key, v.Context).Seal(nil, v.Segment, v.Plain)
	v.Signature = sk.Sign(v.Domain, v.Plain)
	ssh, err := sk.SSHSign(v.Namespace, v.Plain)
	if err != nil {
		t.Fatal(err)
	}
	chunk, hash := mac.ID(v.Plain), Hash(v.Plain)
	v.SSH, v.ID, v.Hash = string(ssh), chunk[:], hash[:]
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
