package webhook

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/notify"
	"holdfast/internal/seal"
)

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var (
	now     = time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	message = notify.Message{ID: "m-1", Kind: "incident.opened", At: now.Add(-time.Hour), Subject: "INC-1 opened", Text: "a store is lost", Data: json.RawMessage(`{"incident":1}`)}
)

func receiver(t *testing.T, h http.HandlerFunc) (*httptest.Server, Config) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := seal.ParseHookSecret(secretText)
	if err != nil {
		t.Fatal(err)
	}
	return s, Config{URL: s.URL + "/hooks/SECRET-PATH", Secret: k, Private: true, CAFile: ca, Clock: func() time.Time { return now }}
}

func send(t *testing.T, cfg Config) (string, error) {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Send(t.Context(), message)
}

// The receiver verifies with the secret alone, and sees the same id at each attempt.
func TestSignedAndRepeated(t *testing.T) {
	var ids []string
	_, cfg := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		k, _ := seal.ParseHookSecret(secretText)
		if err := k.Verify(r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), b, now); err != nil {
			t.Error(err)
		}
		var body Body
		if err := json.Unmarshal(b, &body); err != nil || body.Type != "incident.opened" || !body.Time.Equal(message.At) || string(body.Data) != `{"incident":1}` || !strings.Contains(body.Text, "a store is lost") {
			t.Errorf("%v: %s", err, b)
		}
		ids = append(ids, r.Header.Get("webhook-id"))
		if len(ids) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if _, err := send(t, cfg); err == nil || notify.IsPermanent(err) {
		t.Errorf("503: %v", err)
	}
	if said, err := send(t, cfg); err != nil || !strings.HasPrefix(said, "200") {
		t.Errorf("%q, %v", said, err)
	}
	if strings.Join(ids, " ") != "m-1 m-1" {
		t.Error(ids)
	}
}

func TestAnswers(t *testing.T) {
	for status, permanent := range map[int]bool{301: true, 307: true, 400: true, 410: true, 422: true, 401: false, 403: false, 404: false, 408: false, 429: false, 500: false, 503: false} {
		followed := false
		_, cfg := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				followed = true
				return
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			fmt.Fprint(w, "why\r\nnot ", strings.Repeat("x", 1<<20))
		})
		_, err := send(t, cfg)
		if err == nil || notify.IsPermanent(err) != permanent || followed {
			t.Errorf("%d: permanent %t, followed %t: %v", status, notify.IsPermanent(err), followed, err)
			continue
		}
		if s := err.Error(); strings.Contains(s, "SECRET-PATH") || strings.ContainsAny(s, "\r\n") || len(s) > 600 || !strings.Contains(s, "why not") {
			t.Errorf("%d: %q", status, s)
		}
	}
}

// What the name leads to is looked at when it is dialled, and every spelling of a private
// address is one.
func TestPrivateAddressesOnlyWhenDeclared(t *testing.T) {
	asked := false
	s, cfg := receiver(t, func(http.ResponseWriter, *http.Request) { asked = true })
	cfg.Private = false
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[::]"} {
		cfg.URL = "https://" + host + port + "/SECRET-PATH"
		_, err := send(t, cfg)
		if err == nil || notify.IsPermanent(err) || strings.Contains(err.Error(), "SECRET-PATH") || !strings.Contains(err.Error(), "private") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if asked {
		t.Error("the receiver was asked")
	}
	for _, bad := range []string{"http://example.com/SECRET-PATH", "ftp://example.com", "https://", "://", "https://exa mple.com/SECRET-PATH"} {
		cfg.URL = bad
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "SECRET-PATH") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A receiver whose certificate nobody vouches for gets nothing.
func TestCertificateIsChecked(t *testing.T) {
	_, cfg := receiver(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	cfg.CAFile = ""
	if _, err := send(t, cfg); err == nil || notify.IsPermanent(err) || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}
