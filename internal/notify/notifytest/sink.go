// Package notifytest receives what channels send: a mail server on a real socket that can
// be told to misbehave. Tests of channels and of the whole product use it.
package notifytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A Mail is one that the server took.
type Mail struct {
	From    string
	To      []string
	User    string // who had logged in
	TLS     bool
	Raw     []byte
	Header  mail.Header
	Body    string // as it was sent, encoded
	Arrived time.Time
}

// Moments at which the server can misbehave.
const (
	Greeting = "greeting"
	Rcpt     = "rcpt"
	Data     = "data"  // after the first bytes of the text
	Taken    = "taken" // the text is whole and kept, and not yet answered
)

// ErrCut makes the server cut the connection.
var ErrCut = errors.New("cut the connection")

// Options of a mail server.
type Options struct {
	TLS      string // "starttls", "tls" or "none"
	Password string // of the user "holdfast"; "" for a server without log-in
	// Expired gives it a certificate that ended an hour ago.
	Expired bool
	Port    int // 0: any
	// Behave is asked at each moment, with the number of mails that came that far
	// before. An error is the answer: *smtp.SMTPError, or ErrCut. It may wait.
	Behave func(moment string, n int) error
}

// A Sink is a mail server that keeps what it takes.
type Sink struct {
	Host   string
	Port   int
	CAFile string // whose certificates it shows

	opt    Options
	server *smtp.Server
	ln     net.Listener
	mu     sync.Mutex
	seen   map[string]int
	got    []Mail
	gone   chan struct{}
}

// Start runs a mail server until the test ends.
func Start(t testing.TB, opt Options) *Sink {
	t.Helper()
	s := &Sink{Host: "127.0.0.1", opt: opt, seen: map[string]int{}, gone: make(chan struct{})}
	cert, ca := certificate(t, opt.Expired)
	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CAFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: opt.Port}).String())
	if err != nil {
		t.Fatal(err)
	}
	s.Port = ln.Addr().(*net.TCPAddr).Port
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if err := s.moment(c, Greeting); err != nil {
			return nil, err
		}
		return &session{sink: s, conn: c}, nil
	}))
	s.server.Domain, s.server.ErrorLog = "sink.example", log.New(io.Discard, "", 0)
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	switch opt.TLS {
	case "tls":
		ln = tls.NewListener(ln, conf)
	case "starttls":
		s.server.TLSConfig = conf
	default:
		s.server.AllowInsecureAuth = true
	}
	s.ln = ln
	go func() {
		defer close(s.gone)
		_ = s.server.Serve(ln) // it ends when it is closed
	}()
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server; it may be called twice.
func (s *Sink) Stop() {
	_ = s.server.Close()
	_ = s.ln.Close() // which the server does not know yet if it just began
	<-s.gone
}

// Mails are what the server took until now.
func (s *Sink) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.got...)
}

func (s *Sink) moment(c *smtp.Conn, what string) error {
	s.mu.Lock()
	n := s.seen[what]
	s.seen[what]++
	s.mu.Unlock()
	if s.opt.Behave == nil {
		return nil
	}
	err := s.opt.Behave(what, n)
	if errors.Is(err, ErrCut) {
		_ = c.Close()
	}
	return err
}

type session struct {
	sink *Sink
	conn *smtp.Conn
	mail Mail
}

func (s *session) AuthMechanisms() []string {
	if s.sink.opt.Password == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "holdfast" || password != s.sink.opt.Password {
			return smtp.ErrAuthFailed
		}
		s.mail.User = user
		return nil
	}), nil
}

func (s *session) Reset()        { s.mail = Mail{User: s.mail.User} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.sink.opt.Password != "" && s.mail.User == "" {
		return smtp.ErrAuthRequired
	}
	s.mail.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.sink.moment(s.conn, Rcpt); err != nil {
		return err
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	first := make([]byte, 64)
	n, err := io.ReadFull(r, first)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err := s.sink.moment(s.conn, Data); err != nil {
		return err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.Raw = append(first[:n], rest...)
	msg, err := mail.ReadMessage(bytes.NewReader(s.mail.Raw))
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "not a message: " + err.Error()}
	}
	body, err := io.ReadAll(msg.Body)
	if err != nil {
		return err
	}
	s.mail.Header, s.mail.Body, s.mail.Arrived = msg.Header, string(body), time.Now()
	_, s.mail.TLS = s.conn.TLSConnectionState()
	s.sink.mu.Lock()
	s.sink.got = append(s.sink.got, s.mail)
	s.sink.mu.Unlock()
	return s.sink.moment(s.conn, Taken)
}

// certificate makes one for this machine, signed by itself.
func certificate(t testing.TB, expired bool) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(24 * time.Hour)
	if expired {
		until = time.Now().Add(-time.Hour)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
