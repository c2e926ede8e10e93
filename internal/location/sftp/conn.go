package sftp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	client "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast/internal/location"
	"holdfast/internal/seal"
)

var (
	errStalled = errors.New("no answer")
	errHostKey = errors.New("the server is not the one that is known")
	errKey     = errors.New("the key file cannot be used")
	errLost    = errors.New("the connection broke")
)

// A conn is one connection, used by one call at a time.
type conn struct {
	*client.Client
	ssh   *ssh.Client
	wire  *wire
	used  time.Time
	links bool // hard links are offered
	syncs bool // so is fsync
}

// wire closes itself when no byte moved for a while. Closing is the one thing that
// ends a call whatever the server does.
type wire struct {
	net.Conn
	limit time.Duration

	mu      sync.Mutex
	timer   *time.Timer // runs only during a call
	active  bool
	stalled bool
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.moved(n)
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.moved(n)
	return n, err
}

func (w *wire) moved(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > 0 && w.active {
		w.timer.Reset(w.limit)
	}
}

func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = true
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, w.stall)
		return
	}
	w.timer.Reset(w.limit)
}

func (w *wire) stall() {
	w.mu.Lock()
	active := w.active
	w.stalled = w.stalled || active
	w.mu.Unlock()
	if active {
		w.Close()
	}
}

func (w *wire) end() (stalled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = false
	w.timer.Stop()
	return w.stalled
}

// denied reports that the server did not let us in.
func denied(err error) bool { return strings.Contains(err.Error(), "unable to authenticate") }

// lost reports that the connection broke, so that the outcome is not known.
func lost(err error) bool { return errors.Is(err, errLost) }

// use calls f with a connection, and returns its error: errLost if the connection
// broke, also because nothing moved or ctx ended.
func (s *Store) use(ctx context.Context, f func(*conn) error) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	c, err := s.take(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errHostKey), errors.Is(err, errKey), errors.Is(err, errStalled), denied(err):
		return err
	case errors.Is(err, location.ErrWeak):
		return err
	default:
		// It broke before anything was asked. Its end is not that of an object.
		return fmt.Errorf("%w: %w", errLost, location.Opaque(err))
	}
	c.wire.begin()
	stop := context.AfterFunc(ctx, func() { c.wire.Close() })
	err = f(c)
	stalled, cancelled := c.wire.end(), !stop()
	switch {
	case stalled || cancelled || err != nil && !answered(err):
		c.drop()
		switch {
		case err == nil: // it ended in the moment in which it was given up
		case ctx.Err() != nil:
			err = fmt.Errorf("%w: %w", errLost, ctx.Err())
		case stalled:
			err = fmt.Errorf("%w: %w within %s", errLost, errStalled, s.cfg.Timeout)
		default:
			err = fmt.Errorf("%w: %w", errLost, err)
		}
	default:
		s.give(c)
	}
	return err
}

// do is use for what may be done again: it goes on over another connection when
// one broke.
func (s *Store) do(ctx context.Context, f func(*conn) error) error {
	for i := 0; ; i++ {
		err := s.use(ctx, f)
		switch {
		case !lost(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case i+1 == attempts || errors.Is(err, errStalled):
			return err
		}
		t := time.NewTimer(firstPause << i)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// answered reports that err is what the server said, or ours, and that the
// connection is as good as before.
func answered(err error) bool {
	var status *client.StatusError
	return errors.As(err, &status) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist) ||
		errors.Is(err, fs.ErrInvalid) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrShortWrite)
}

// take returns an idle connection that was used just now, or a new one.
func (s *Store) take(ctx context.Context) (*conn, error) {
	s.mu.Lock()
	var old []*conn
	var c *conn
	for n := len(s.idle); n > 0 && c == nil; n = len(s.idle) {
		last := s.idle[n-1]
		s.idle = s.idle[:n-1]
		if time.Since(last.used) < freshFor {
			c = last
		} else {
			old = append(old, last) // a firewall may have forgotten it
		}
	}
	s.mu.Unlock()
	for _, o := range old {
		o.drop()
	}
	if c != nil {
		return c, nil
	}
	return s.dial(ctx)
}

func (s *Store) give(c *conn) {
	c.used = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, c)
}

// Close lets go of idle connections. The Store can still be used.
func (s *Store) Close() {
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	for _, c := range idle {
		c.drop()
	}
}

// drop ends a connection without waiting for the server, and waits for what reads it.
func (c *conn) drop() {
	c.wire.Close()
	c.Client.Close()
	c.ssh.Close()
	c.ssh.Wait()
}

// algorithms are tried in turn until the server shows the key that is pinned: it may
// have several.
var algorithms = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// floor is the least that both ends must offer: SSH 2 with ciphers that authenticate or
// count, and neither CBC, RC4 nor SHA-1.
func floor() ssh.Config {
	a := ssh.SupportedAlgorithms() // without what the library calls insecure
	return ssh.Config{Ciphers: a.Ciphers, KeyExchanges: a.KeyExchanges, MACs: slices.DeleteFunc(a.MACs, func(m string) bool { return m == ssh.HMACSHA1 })}
}

// weak returns err, or that the server offers nothing that is good enough.
func weak(err error) error {
	var none *ssh.AlgorithmNegotiationError
	if !errors.As(err, &none) || none.What == "host key" {
		return err
	}
	return fmt.Errorf("%w: as %s the server offers %s, and %s is the least", location.ErrWeak, none.What, strings.Join(none.RequestedAlgorithms, ", "), none.SupportedAlgorithms[len(none.SupportedAlgorithms)-1])
}

// dial makes a connection to the pinned server.
func (s *Store) dial(ctx context.Context) (*conn, error) {
	signer, err := s.signer()
	if err != nil {
		return nil, err
	}
	if s.cfg.HostKey == "" {
		check, algos, err := s.known()
		if err != nil {
			return nil, err
		}
		return s.connect(ctx, signer, check, algos)
	}
	s.mu.Lock()
	first := s.works
	s.mu.Unlock()
	var shown string // the key that the server had instead
	check := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if fp := ssh.FingerprintSHA256(key); fp != s.cfg.HostKey {
			shown = fp
			return fmt.Errorf("%w: it has %s, and %s is pinned", errHostKey, fp, s.cfg.HostKey)
		}
		return nil
	}
	var wrong error
	for i := range algorithms {
		n := (first + i) % len(algorithms)
		shown = ""
		c, err := s.connect(ctx, signer, check, algorithms[n])
		var none *ssh.AlgorithmNegotiationError
		switch {
		case err == nil:
			s.mu.Lock()
			s.works = n
			s.mu.Unlock()
			return c, nil
		case shown != "" || errors.As(err, &none):
			if wrong == nil || shown != "" && !errors.Is(wrong, errHostKey) {
				wrong = err
			}
		default:
			return nil, err
		}
	}
	if !errors.Is(wrong, errHostKey) {
		wrong = fmt.Errorf("%w: %w", errHostKey, wrong)
	}
	return nil, wrong
}

// known reads the keys of the server from the file of known hosts.
func (s *Store) known() (ssh.HostKeyCallback, []string, error) {
	check, err := knownhosts.New(s.cfg.KnownHosts)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errHostKey, location.Opaque(err))
	}
	// Any key makes the file say which ones it expects.
	some, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewPublicKey(&some.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	var expected *knownhosts.KeyError
	if err := check(s.addr(), &net.TCPAddr{IP: net.IPv4zero}, key); !errors.As(err, &expected) || len(expected.Want) == 0 {
		return nil, nil, fmt.Errorf("%w: %q does not name %s", errHostKey, s.cfg.KnownHosts, s.addr())
	}
	var algos []string
	for _, k := range expected.Want {
		kind := []string{k.Key.Type()}
		if kind[0] == ssh.KeyAlgoRSA {
			kind = algorithms[2] // the same key, with hashes that still count
		}
		for _, a := range kind {
			if !slices.Contains(algos, a) {
				algos = append(algos, a)
			}
		}
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		if err := check(host, remote, key); err != nil {
			return fmt.Errorf("%w: it has %s, which %q does not allow", errHostKey, ssh.FingerprintSHA256(key), s.cfg.KnownHosts)
		}
		return nil
	}, algos, nil
}

func (s *Store) signer() (ssh.Signer, error) {
	pem, err := seal.ReadKeyFile(s.cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, location.Opaque(err))
	}
	signer, err := ssh.ParsePrivateKey([]byte(pem + "\n"))
	var closed *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &closed):
		return nil, fmt.Errorf("%w: %q needs a passphrase", errKey, s.cfg.KeyFile)
	case err != nil:
		return nil, fmt.Errorf("%w: %q is not a private key of SSH", errKey, s.cfg.KeyFile)
	}
	return signer, nil
}

func (s *Store) addr() string {
	if _, _, err := net.SplitHostPort(s.cfg.Addr); err == nil {
		return s.cfg.Addr
	}
	return net.JoinHostPort(s.cfg.Addr, "22")
}

// connect makes one connection and logs in. All of it ends within the timeout.
func (s *Store) connect(ctx context.Context, signer ssh.Signer, check ssh.HostKeyCallback, algos []string) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	tcp, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(dctx, "tcp", s.addr())
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: tcp, limit: s.cfg.Timeout}
	w.begin()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	c, err := func() (*conn, error) {
		sc, channels, requests, err := ssh.NewClientConn(w, s.addr(), &ssh.ClientConfig{
			Config: floor(), User: s.cfg.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: check, HostKeyAlgorithms: algos,
		})
		if err != nil {
			return nil, weak(err)
		}
		line := location.Line{Protocol: "SSH 2.0"} // the library speaks no other
		if n, ok := sc.(ssh.AlgorithmsConnMetadata); ok {
			line.Cipher = n.Algorithms().Write.Cipher
		}
		s.line.Store(&line)
		sshc := ssh.NewClient(sc, channels, requests)
		// Writes of one object overlap: an error leaves a temporary file, whatever is in it.
		sc2, err := client.NewClient(sshc, client.UseConcurrentWrites(true), client.UseConcurrentReads(true))
		if err != nil {
			sshc.Close()
			return nil, err
		}
		c := &conn{Client: sc2, ssh: sshc, wire: w}
		_, c.links = sc2.HasExtension("hardlink@openssh.com")
		c.links = c.links && !s.cfg.noLinks
		_, c.syncs = sc2.HasExtension("fsync@openssh.com")
		return c, nil
	}()
	stalled, cancelled := w.end(), !stop()
	switch {
	case err == nil && !stalled && !cancelled:
		return c, nil
	case err == nil:
		c.drop()
	}
	w.Close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case stalled:
		return nil, fmt.Errorf("%w within %s", errStalled, s.cfg.Timeout)
	}
	return nil, err
}

// sync makes a file durable where the server offers that.
func (c *conn) sync(f *client.File) error {
	if !c.syncs {
		return nil
	}
	return f.Sync()
}

// there returns fs.ErrExist if a file is there, durably: who wrote it may have had
// its answer only after we saw it.
func (c *conn) there(file string) error {
	_, err := c.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if c.syncs {
		// The server opens for writing what it shall sync, and changes nothing.
		if f, err := c.OpenFile(file, os.O_RDONLY); err == nil {
			err = f.Sync()
			f.Close()
			if err != nil {
				return err
			}
		}
	}
	return fs.ErrExist
}

// name gives a finished temporary file its name, if the name is free.
func (c *conn) name(temp, file string) error {
	if c.links {
		return c.Link(temp, file)
	}
	return c.Rename(temp, file) // never PosixRename, which replaces
}
