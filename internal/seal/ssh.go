package seal

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// SSHSign returns an armoured SSH signature of msg in a namespace, which
// ssh-keygen -Y verify checks without Holdfast. A namespace is one per act.
func (k SigningKey) SSHSign(namespace string, msg []byte) ([]byte, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("ssh signature: %w", ErrKey)
	}
	signer, err := ssh.NewSignerFromSigner(k.s.get().key)
	if err != nil {
		return nil, fmt.Errorf("ssh signature by %q: %w", k.s.get().name, err)
	}
	sig, err := sshsig.Sign(bytes.NewReader(msg), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("ssh signature by %q in %q: %w", k.s.get().name, namespace, err)
	}
	return sshsig.Armor(sig), nil
}

// SSHVerify returns nil if the armoured signature is the key's over msg in the
// namespace, and an error that wraps ErrSignature otherwise.
func (k VerifyKey) SSHVerify(namespace string, msg, armoured []byte) error {
	if k.name == "" {
		return fmt.Errorf("no key: %w", ErrSignature)
	}
	pub, err := k.ssh()
	if err != nil {
		return err
	}
	return verifySSH(pub, k.name, namespace, msg, armoured)
}

// AuthorizedKey returns the key as OpenSSH writes it, "ssh-ed25519 AAAA… name".
func (k VerifyKey) AuthorizedKey() string {
	pub, err := k.ssh()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " " + k.name
}

// AllowedSigner returns the line of an allowed_signers file that lets the key
// sign in the given namespaces and no others.
func (k VerifyKey) AllowedSigner(namespaces ...string) string {
	return fmt.Sprintf("%s namespaces=%q %s", k.name, strings.Join(namespaces, ","), k.AuthorizedKey())
}

// VerifySSHKey checks the signature of a person, whose public key is a line as in
// authorized_keys. Keys on hardware tokens ("sk-…") work.
func VerifySSHKey(authorized, namespace string, msg, armoured []byte) error {
	pub, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("ssh public key: %w: want one line, \"ssh-ed25519 AAAA…\"", ErrKey)
	}
	return verifySSH(pub, ssh.FingerprintSHA256(pub), namespace, msg, armoured)
}

func (k VerifyKey) ssh() (ssh.PublicKey, error) {
	pub, err := ssh.NewPublicKey(ed25519.PublicKey(k.key[:]))
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", k.name, ErrKey)
	}
	return pub, nil
}

func verifySSH(pub ssh.PublicKey, name, namespace string, msg, armoured []byte) error {
	bad := func(why string) error {
		return fmt.Errorf("key %q, namespace %q: %s: %w", name, namespace, why, ErrSignature)
	}
	if len(armoured) > MaxSSHSig {
		return bad("too long")
	}
	sig, err := sshsig.Unarmor(armoured)
	if err != nil {
		return bad("not an SSH signature")
	}
	// Two texts for one signature would let a byte change unnoticed. Only the
	// width of the lines is free: ssh-keygen breaks them elsewhere than we do.
	if !bytes.Equal(oneLine(sshsig.Armor(sig)), oneLine(armoured)) {
		return bad("not in canonical form")
	}
	if err := sshsig.Verify(bytes.NewReader(msg), sig, pub, sig.HashAlgorithm, namespace); err != nil {
		if bytes.Equal(sig.PublicKey.Marshal(), pub.Marshal()) {
			return bad("other message or namespace")
		}
		return bad("made by another key")
	}
	return nil
}

func oneLine(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), nil) }
