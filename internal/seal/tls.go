package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Certificates are for the connections between our own parts. One authority belongs to
// one gateway, and vouches for nothing else; nobody else's certificate is believed.
//
// A certificate says who somebody is (common name) and what they may do (organisational
// unit). Both ends speak TLS 1.3 only.
const (
	authorityYears = 20
	clockSlack     = time.Hour // a certificate holds from a little before it was made
)

// NewAuthority makes the authority of a gateway and returns certificate and key as PEM.
// The key is a secret.
func NewAuthority(name string, now time.Time) ([]byte, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-clockSlack), NotAfter: now.AddDate(authorityYears, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
	if err != nil {
		return nil, fmt.Errorf("authority %q: %w", name, err)
	}
	return bundle(der, key, nil)
}

// A Subject is whom a certificate is for.
type Subject struct {
	Name  string   // who
	Role  string   // what they may do; empty for a server
	Hosts []string // names and addresses of a server; empty for a client
	Days  int      // how long it holds
}

// Certify makes a certificate for a new key, signed by the authority, and returns
// certificate, key and the authority's certificate as PEM: all that one side of a
// connection needs. It is a secret.
func Certify(authority []byte, s Subject, now time.Time) ([]byte, error) {
	caCert, caKey, _, err := parseBundle(authority)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: s.Name}, NotBefore: now.Add(-clockSlack), NotAfter: now.AddDate(0, 0, s.Days),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if s.Role != "" {
		c.Subject.OrganizationalUnit = []string{s.Role}
	}
	for _, h := range s.Hosts {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, caCert, public, caKey)
	if err != nil {
		return nil, fmt.Errorf("certificate of %q: %w", s.Name, err)
	}
	return bundle(der, key, caCert.Raw)
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func bundle(cert []byte, key ed25519.PrivateKey, authority []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	if authority != nil {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})...)
	}
	return out, nil
}

// parseBundle reads what bundle wrote: a certificate, its key, and the authority's
// certificate, which an authority itself lacks.
func parseBundle(text []byte) (cert *x509.Certificate, key ed25519.PrivateKey, authority *x509.Certificate, err error) {
	if len(text) > MaxKeyFile {
		return nil, nil, nil, fmt.Errorf("%w: longer than %d bytes", ErrKey, MaxKeyFile)
	}
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch b.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("%w: not a certificate", ErrKey)
			}
			if cert == nil {
				cert = c
			} else {
				authority = c
			}
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
			ed, ok := k.(ed25519.PrivateKey)
			if err != nil || !ok {
				return nil, nil, nil, fmt.Errorf("%w: not a private key of ours", ErrKey)
			}
			key = ed
		}
	}
	if cert == nil || key == nil || !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey) {
		return nil, nil, nil, fmt.Errorf("%w: want a certificate and its key in PEM", ErrKey)
	}
	return cert, key, authority, nil
}

// TLSConfig returns the settings of one side of a connection between our own parts, from
// what Certify made. A server asks every client for a certificate of the same authority.
func TLSConfig(text []byte) (*tls.Config, error) {
	cert, key, authority, err := parseBundle(text)
	if err == nil && authority == nil {
		err = fmt.Errorf("%w: the authority's certificate is missing", ErrKey)
	}
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		SessionTicketsDisabled: true, // each connection shows its certificate, so that a revoked one is noticed
	}, nil
}

// A Peer is who is at the other end of a connection.
type Peer struct {
	Name, Role, Serial string
	Until              time.Time
}

// PeerOf returns who a verified connection is with; ok is false if it is with nobody.
func PeerOf(state *tls.ConnectionState) (p Peer, ok bool) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return p, false
	}
	return peer(state.PeerCertificates[0]), true
}

// Certified returns whom a certificate that Certify made is for.
func Certified(text []byte) (Peer, error) {
	cert, _, _, err := parseBundle(text)
	if err != nil {
		return Peer{}, err
	}
	return peer(cert), nil
}

func peer(c *x509.Certificate) Peer {
	p := Peer{Name: c.Subject.CommonName, Serial: c.SerialNumber.Text(16), Until: c.NotAfter}
	if len(c.Subject.OrganizationalUnit) == 1 {
		p.Role = c.Subject.OrganizationalUnit[0]
	}
	return p
}
