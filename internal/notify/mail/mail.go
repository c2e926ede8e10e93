// Package mail sends messages by SMTP.
//
// The connection is encrypted (STARTTLS or TLS from the first byte, 1.2 or newer, with a
// certificate that is checked) unless the plan says "tls: none", which is for a relay on
// this machine: a log-in over such a connection is refused before it begins.
//
// A message is plain text with the headers of RFC 5322. Its Message-ID is made of the
// message's id, so a mail system or a person sees that two copies are one message. What
// somebody else wrote, the name of a store for example, cannot end a header line.
//
// # Errors
//
// What the server says about the receiver or the text with a code of the 500s is
// permanent. What it says about us (log-in refused, encryption needed, an unwanted sender)
// is not: it ends when somebody mends the channel. A connection that is cut, also while the text is sent or before the answer
// to it, leaves it unknown whether the message was taken, and is no refusal.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"holdfast"
	"holdfast/internal/notify"
)

// Ways to protect the connection.
const (
	STARTTLS = "starttls"
	TLS      = "tls"
	None     = "none" // only to this machine
)

// within bounds one attempt: from the dial to the answer to the text. Servers that delay
// their greeting to deter spam take half a minute; RFC 5321 lets the last answer take ten,
// and nobody who waits for an alert should.
const within = 2 * time.Minute

// Config is a mail server and who writes.
type Config struct {
	Host     string
	Port     int
	TLS      string // one of the ways
	User     string // "" for no log-in
	Password string
	From     string // address, or name and address
	CAFile   string // further authorities for the server's certificate, as PEM; "" for the system's
	Within   time.Duration
}

// A Channel sends mail. It may be used concurrently; each attempt has its own connection.
type Channel struct {
	cfg  Config
	from *mail.Address
	tls  *tls.Config
}

// New checks what can be checked without the server.
func New(cfg Config) (*Channel, error) {
	from, err := mail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("sender %q: %w", cfg.From, err)
	}
	if cfg.TLS == None && !onThisHost(cfg.Host) {
		return nil, holdfast.WithHint(fmt.Errorf("mail to %s without encryption is refused: everybody on the way could read and change it", cfg.Host), "write \"tls: starttls\" (port 587) or \"tls: tls\" (port 465)")
	}
	if cfg.TLS == None && cfg.User != "" {
		return nil, holdfast.WithHint(errors.New("a log-in without encryption is refused: the password would cross in the clear"), "write \"tls: starttls\", or take \"user\" away")
	}
	c := &Channel{cfg: cfg, from: from, tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.Host}}
	if c.cfg.Within == 0 {
		c.cfg.Within = within
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, err
		}
		if c.tls.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.tls.RootCAs = x509.NewCertPool()
		}
		if !c.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", cfg.CAFile)
		}
	}
	return c, nil
}

func onThisHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, m notify.Message) (said string, err error) {
	msg, err := c.compose(m)
	if err != nil {
		return "", notify.Permanent(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Within)
	defer cancel()
	client, err := c.client(ctx)
	if err != nil {
		return "", err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return "", notify.Host(c.cfg.Host, plain(err))
	}
	err = client.Send(msg)
	// How the farewell goes is no matter: the message was taken, or it was not.
	_ = client.Close()
	if err != nil && !msg.IsDelivered() {
		return "", notify.Host(c.cfg.Host, judge(err))
	}
	return notify.Line(msg.ServerResponse(), notify.MaxSaid), nil
}

func (c *Channel) client(attempt context.Context) (*gomail.Client, error) {
	opts := []gomail.Option{
		gomail.WithPort(c.cfg.Port), gomail.WithTimeout(c.cfg.Within), gomail.WithTLSConfig(c.tls.Clone()), gomail.WithoutNoop(), gomail.WithoutRset(),
		gomail.WithDialContextFunc(func(_ context.Context, network, address string) (net.Conn, error) {
			return c.dial(attempt, network, address)
		}),
	}
	switch c.cfg.TLS {
	case TLS:
		// Our own dialer speaks TLS from the first byte, so that its errors are seen.
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case None:
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if c.cfg.User != "" {
		// The last two give the password away, and the library refuses them without encryption.
		opts = append(opts, gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin), gomail.WithUsername(c.cfg.User), gomail.WithPassword(c.cfg.Password))
	}
	return gomail.NewClient(c.cfg.Host, opts...)
}

// dial opens the connection and closes it when the attempt is over, whatever the library
// is waiting for then. ctx is the attempt's; the library's own ends with the dial.
func (c *Channel) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	if c.cfg.TLS != TLS {
		return conn, nil
	}
	t := tls.Client(conn, c.tls.Clone())
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return t, nil
}

// compose writes the message.
func (c *Channel) compose(m notify.Message) (*gomail.Msg, error) {
	to, err := mail.ParseAddress(m.To)
	if err != nil || strings.ContainsAny(to.Address, "\r\n\x00") {
		return nil, fmt.Errorf("%q is no mail address", notify.Line(m.To, notify.MaxSubject))
	}
	to.Name = notify.Line(m.Name, notify.MaxSubject)
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(c.from)
	msg.ToMailAddress(to)
	_, domain, _ := strings.Cut(c.from.Address, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetDateWithValue(m.At)
	msg.Subject(notify.Line(m.Subject, notify.MaxSubject))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday notes, please
	if m.Urgent {
		msg.SetImportance(gomail.ImportanceHigh)
	}
	msg.SetBodyString(gomail.TypeTextPlain, notify.Cut(m.Text, notify.MaxText))
	return msg, nil
}

// judge tells a refusal of this message from trouble with the channel.
func judge(err error) error {
	var refused *gomail.SendError
	if !errors.As(err, &refused) {
		return plain(err)
	}
	code := refused.ErrorCode()
	said := plain(err)
	if code < 500 || code > 599 {
		return said
	}
	switch refused.Reason {
	case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
		return notify.Permanent(said)
	}
	return said // before that, it is about who we are
}

// plain is the error in one line, with the server's own words.
func plain(err error) error {
	if t, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Errorf("the mail server said %d %s", t.Code, notify.Line(t.Msg, notify.MaxSaid))
	}
	// The library adds who was to receive it; what is recorded names people, not addresses.
	said, _, _ := strings.Cut(err.Error(), ", affected ")
	return errors.New(notify.Line(said, notify.MaxSaid))
}
