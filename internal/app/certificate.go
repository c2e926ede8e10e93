package app

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"holdfast"
)

// lookAtCertificate is how often the files of the certificate are looked at.
const lookAtCertificate = time.Minute

// expiresSoon is when the log begins to say that a certificate ends.
const expiresSoon = 14 * 24 * time.Hour

// certificates serve the company's own certificate, and its successor when the files
// change: who renews it needs no restart. Files that cannot be read leave the old one
// in use, with a warning.
type certificates struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu     sync.Mutex
	held   *tls.Certificate
	made   time.Time // of the certificate's file
	looked time.Time
}

// certificates reads those that the listener needs; nil if it needs none.
func (a *App) certificates(l Listen) (*certificates, error) {
	switch {
	case l.Cert == "" && l.Key == "":
		return nil, nil
	case l.Cert == "" || l.Key == "":
		return nil, holdfast.WithHint(fmt.Errorf("a certificate needs its key, and a key its certificate: %w", holdfast.ErrUsage), "name both: --tls-cert FILE --tls-key FILE")
	case l.Address == "":
		return nil, nil
	}
	c := &certificates{cert: l.Cert, key: l.Key, log: a.opt.Log, now: a.opt.Clock}
	if err := c.read(); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("certificate: %w", err), "name files in PEM: the certificate with those that lead to its authority, and the key that belongs to it")
	}
	return c, nil
}

// read reads the files. The caller holds mu or is alone.
func (c *certificates) read() error {
	info, err := os.Stat(c.cert)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.held, c.made = &pair, info.ModTime()
	if left := pair.Leaf.NotAfter.Sub(c.now()); left < expiresSoon {
		c.log.Warn("the certificate of the server ends soon", "file", c.cert, "ends", pair.Leaf.NotAfter, "next", "renew it: the server reads the files again by itself")
	}
	return nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if d := now.Sub(c.looked); d < 0 || d > lookAtCertificate {
		c.looked = now
		if info, err := os.Stat(c.cert); err == nil && !info.ModTime().Equal(c.made) {
			if err := c.read(); err != nil {
				c.log.Warn("the new certificate cannot be used; the old one goes on", "err", err)
			}
		}
	}
	return c.held, nil
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

// names are those that the certificate vouches for.
func (c *certificates) names() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.held.Leaf.DNSNames)
}

// url is an address under which the certificate is believed.
func (c *certificates) url(addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if names := c.names(); err == nil && len(names) > 0 {
		return "https://" + net.JoinHostPort(names[0], port)
	}
	return "https://" + addr.String()
}
