package mail

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"holdfast/internal/notify"
	"holdfast/internal/notify/notifytest"
)

const password = "a long random password"

var message = notify.Message{ID: "m-1", Kind: "call", At: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), To: "ann@example.com", Name: "Ann Åström",
	Subject: "Backup of db failed", Text: "It failed.\n.\nA line with a dot alone is no end.\n", Urgent: true}

func channel(t *testing.T, s *notifytest.Sink, change func(*Config)) *Channel {
	t.Helper()
	cfg := Config{Host: s.Host, Port: s.Port, TLS: STARTTLS, From: "Holdfast <holdfast@example.com>", CAFile: s.CAFile}
	change(&cfg)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryWayOfProtection(t *testing.T) {
	for _, way := range []string{STARTTLS, TLS, None} {
		t.Run(way, func(t *testing.T) {
			opt := notifytest.Options{TLS: way, Password: password}
			if way == None {
				opt.Password = ""
			}
			s := notifytest.Start(t, opt)
			c := channel(t, s, func(cfg *Config) {
				cfg.TLS = way
				if opt.Password != "" {
					cfg.User, cfg.Password = "holdfast", password
				}
			})
			said, err := c.Send(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			got := s.Mails()
			if len(got) != 1 || got[0].TLS != (way != None) || got[0].From != "holdfast@example.com" || strings.Join(got[0].To, " ") != "ann@example.com" {
				t.Fatalf("%q: %+v", said, got)
			}
			h := got[0].Header
			subject, _ := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
			to, err := mail.ParseAddress(h.Get("To"))
			if err != nil || to.Name != message.Name || subject != message.Subject || h.Get("Message-ID") != "<m-1@example.com>" || h.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("%v %v", err, h)
			}
			if at, err := h.Date(); err != nil || !at.Equal(message.At) {
				t.Errorf("dated %v, %v", at, err)
			}
			if typ, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || typ != "text/plain" {
				t.Errorf("%s %v", typ, err)
			}
			if !strings.Contains(strings.ReplaceAll(got[0].Body, "\r", ""), "failed.\n.\nA line") {
				t.Errorf("body %q", got[0].Body)
			}
		})
	}
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	for name, cfg := range map[string]Config{
		"a log-in in the clear":            {Host: "localhost", TLS: None, User: "u", Password: password, From: "a@example.com"},
		"no encryption to another machine": {Host: "mail.example.com", TLS: None, From: "a@example.com"},
		"no sender":                        {Host: "localhost", TLS: TLS},
		"a sender of two lines":            {Host: "localhost", TLS: TLS, From: "a@example.com\r\nBcc: b@example.com"},
	} {
		if c, err := New(cfg); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	// A server that offers no encryption gets neither password nor message.
	s := notifytest.Start(t, notifytest.Options{TLS: None, Password: password})
	_, err := channel(t, s, func(c *Config) { c.User, c.Password = "holdfast", password }).Send(t.Context(), message)
	if err == nil || notify.IsPermanent(err) || strings.Contains(err.Error(), password) || len(s.Mails()) != 0 {
		t.Errorf("%v, %d mails", err, len(s.Mails()))
	}
}

func TestHowAnAttemptEnds(t *testing.T) {
	answer := func(moment string, err error) func(string, int) error {
		return func(m string, _ int) error {
			if m == moment {
				return err
			}
			return nil
		}
	}
	say := func(code int, text string) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 7, 1}, Message: text}
	}
	for name, tt := range map[string]struct {
		opt       notifytest.Options
		password  string
		permanent bool
		says      string
		kept      int
	}{
		"greylisted":                 {notifytest.Options{Behave: answer(notifytest.Rcpt, say(451, "greylisted, come again"))}, "", false, "greylisted", 0},
		"unknown person":             {notifytest.Options{Behave: answer(notifytest.Rcpt, say(550, "no such user"))}, "", true, "no such user", 0},
		"refused text":               {notifytest.Options{Behave: answer(notifytest.Taken, say(554, "looks like spam"))}, "", true, "spam", 1},
		"full":                       {notifytest.Options{Behave: answer(notifytest.Taken, say(452, "disk full"))}, "", false, "disk full", 1},
		"cut at the greeting":        {notifytest.Options{Behave: answer(notifytest.Greeting, notifytest.ErrCut)}, "", false, "", 0},
		"cut in the text":            {notifytest.Options{Behave: answer(notifytest.Data, notifytest.ErrCut)}, "", false, "", 0},
		"cut before the answer":      {notifytest.Options{Behave: answer(notifytest.Taken, notifytest.ErrCut)}, "", false, "", 1},
		"expired certificate":        {notifytest.Options{Expired: true}, "", false, "certificate", 0},
		"wrong password":             {notifytest.Options{Password: password}, "wrong but also long", false, "535", 0},
		"a log-in is asked for":      {notifytest.Options{Password: password}, "", false, "", 0},
		"the server knows no log-in": {notifytest.Options{}, "a password of ours", false, "AUTH", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, way := range []string{STARTTLS, TLS} {
				opt := tt.opt
				opt.TLS = way
				s := notifytest.Start(t, opt)
				_, err := channel(t, s, func(c *Config) {
					if c.TLS = way; tt.password != "" {
						c.User, c.Password = "holdfast", tt.password
					}
				}).Send(t.Context(), message)
				switch {
				case err == nil:
					t.Fatalf("%s: no error", way)
				case notify.IsPermanent(err) != tt.permanent || !strings.Contains(err.Error(), tt.says):
					t.Errorf("%s: permanent %t: %v", way, notify.IsPermanent(err), err)
				case tt.password != "" && strings.Contains(err.Error(), tt.password) || strings.Contains(err.Error(), message.To):
					t.Errorf("%s: the error tells too much: %v", way, err)
				}
				if n := len(s.Mails()); n != tt.kept {
					t.Errorf("%s: the server kept %d", way, n)
				}
			}
		})
	}
}

// A server that never answers ends the attempt when its time is over, and when the
// caller gives up.
func TestASilentServer(t *testing.T) {
	hang := make(chan struct{})
	s := notifytest.Start(t, notifytest.Options{TLS: STARTTLS, Behave: func(m string, _ int) error {
		if m == notifytest.Rcpt {
			<-hang
		}
		return nil
	}})
	defer close(hang)
	if _, err := channel(t, s, func(c *Config) { c.Within = 300 * time.Millisecond }).Send(t.Context(), message); err == nil || notify.IsPermanent(err) {
		t.Errorf("own limit: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := channel(t, s, func(*Config) {}).Send(ctx, message); err == nil || notify.IsPermanent(err) {
		t.Errorf("the caller's: %v", err)
	}
	s.Stop()
	if _, err := channel(t, s, func(*Config) {}).Send(t.Context(), message); err == nil || notify.IsPermanent(err) {
		t.Errorf("nobody listens: %v", err)
	}
}

// Whatever the parts of a message hold, it has the headers that we write and no other.
func FuzzHeaders(f *testing.F) {
	f.Add("a\r\nBcc: x@example.com", "Ann\r\n\r\nbody", "ann@example.com")
	f.Add("=?utf-8?q?=0d=0aBcc:_x?=", "\x00", "\"a\r\n\"@example.com")
	f.Add("line\u2028two\u0085three", "\"", "Ann <ann@example.com>\r\nX: y")
	f.Add(strings.Repeat("å", 300), strings.Repeat("\\", 300), "ann@exämple.com")
	c, err := New(Config{Host: "localhost", TLS: TLS, From: "holdfast@example.com"})
	if err != nil {
		f.Fatal(err)
	}
	want := map[string]bool{"Date": true, "Mime-Version": true, "Message-Id": true, "Subject": true, "From": true, "To": true, "Auto-Submitted": true,
		"Content-Type": true, "Content-Transfer-Encoding": true, "Importance": true, "Priority": true, "X-Priority": true, "X-Msmail-Priority": true}
	f.Fuzz(func(t *testing.T, subject, name, to string) {
		m := message
		m.Subject, m.Name, m.To, m.Text = subject, name, to, "the text"
		msg, err := c.compose(m)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if _, err := msg.WriteTo(&b); err != nil {
			return
		}
		got, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatalf("no message: %v", err)
		}
		for k, v := range got.Header {
			if !want[k] || len(v) != 1 {
				t.Errorf("header %s: %q", k, v)
			}
		}
		if rcpt, err := msg.GetRecipients(); err != nil || len(rcpt) != 1 || strings.ContainsAny(rcpt[0], "\r\n") {
			t.Errorf("to %q: %v", rcpt, err)
		}
	})
}

func TestPermanentIsSeenThroughWrapping(t *testing.T) {
	err := notify.Host("h", notify.Permanent(errors.New("no")))
	if !notify.IsPermanent(err) || notify.IsPermanent(errors.Unwrap(errors.New("x"))) || notify.Permanent(nil) != nil {
		t.Error(err)
	}
}
