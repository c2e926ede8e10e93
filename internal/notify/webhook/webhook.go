// Package webhook posts messages as JSON to an address, signed.
//
// The request is that of the Standard Webhooks specification: the headers webhook-id,
// webhook-timestamp and webhook-signature, and a body with type, timestamp and data. The
// id is the same at every attempt and when somebody sends the message again on purpose;
// the timestamp and the signature are of the attempt. See docs/ops/messages.md for how a
// receiver verifies it.
//
// # What it does not do
//
// It follows no redirect: who may change an answer on the way could lead the message
// elsewhere. It uses no proxy. It connects to no address of a private network, of this
// machine or of its neighbours, whatever the name resolves to at that moment, unless the
// plan says that the receiver is one: a plan is written by people who may not reach
// everything that the server reaches.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/notify"
	"holdfast/internal/seal"
)

// within bounds one attempt, from the name to the end of the answer.
const within = 20 * time.Second

// Config is a receiver.
type Config struct {
	URL     string
	Secret  seal.HookSecret // zero: unsigned, as some chat services want it
	Private bool            // it is in a private network, and may speak without TLS
	CAFile  string          // further authorities for its certificate, as PEM
	Clock   func() time.Time
}

// A Channel posts. It may be used concurrently.
type Channel struct {
	cfg    Config
	host   string
	client *http.Client
}

// New checks what can be checked without the receiver.
func New(cfg Config) (*Channel, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the address of the webhook is no web address") // which may be a secret
	}
	if u.Scheme == "http" && !cfg.Private {
		return nil, holdfast.WithHint(fmt.Errorf("a webhook to %s without TLS is refused: everybody on the way could read it", u.Hostname()), "write https, or \"private: true\" for a receiver in your own network")
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", cfg.CAFile)
		}
	}
	dialer := &net.Dialer{Timeout: within}
	if !cfg.Private {
		dialer.Control = publicOnly
	}
	return &Channel{cfg: cfg, host: u.Hostname(), client: &http.Client{
		Timeout:       within,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
	}}, nil
}

// publicOnly looks at the address that is really dialled: a name may resolve to another
// one each time.
func publicOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := ap.Addr().Unmap(); !ip.IsGlobalUnicast() || ip.IsPrivate() || shared.Contains(ip) {
		return errPrivate
	}
	return nil
}

// shared is the space between a provider and its customers, RFC 6598.
var shared = netip.MustParsePrefix("100.64.0.0/10")

var errPrivate = errors.New("the name leads to a private address, which is refused unless the channel says \"private: true\"")

// Body is what is posted.
type Body struct {
	Type string          `json:"type"`
	Time time.Time       `json:"timestamp"` // of the cause
	Text string          `json:"text"`      // for people; chat services show it
	Data json.RawMessage `json:"data,omitempty"`
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, m notify.Message) (said string, err error) {
	text := notify.Line(m.Subject, notify.MaxSubject)
	if m.Text != "" {
		text += "\n\n" + notify.Cut(m.Text, notify.MaxText)
	}
	body, err := json.Marshal(Body{Type: m.Kind, Time: m.At.UTC(), Text: text, Data: m.Data})
	if err != nil {
		return "", notify.Permanent(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return "", notify.Permanent(errors.New("the address of the webhook is no web address"))
	}
	now := c.cfg.Clock()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "holdfast/"+holdfast.Version)
	req.Header.Set("webhook-id", m.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	if !c.cfg.Secret.IsZero() {
		req.Header.Set("webhook-signature", c.cfg.Secret.Sign(m.ID, now, body))
	}
	res, err := c.client.Do(req)
	if err != nil {
		// It would show the whole address.
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return "", notify.Host(c.host, err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 4*notify.MaxSaid)) // the status has said it
	said = strings.TrimSpace(res.Status + " " + notify.Line(string(answer), notify.MaxSaid))
	if res.StatusCode/100 == 2 {
		return said, nil
	}
	err = notify.Host(c.host, errors.New(said))
	switch s := res.StatusCode; {
	case s/100 == 3:
		return "", notify.Permanent(fmt.Errorf("%w (redirects are not followed: write the final address)", err))
	case s == http.StatusBadRequest, s == http.StatusMethodNotAllowed, s == http.StatusGone, s == http.StatusRequestEntityTooLarge,
		s == http.StatusUnsupportedMediaType, s == http.StatusUnprocessableEntity:
		return "", notify.Permanent(err)
	}
	return "", err // among them 401, 403 and 404: somebody will mend the receiver
}
