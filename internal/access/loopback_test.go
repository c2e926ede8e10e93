package access

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// While nobody is known, who comes over the loopback address may do everything, and a
// page of somebody else, whose name points at this machine, may do nothing.
func TestOpenToThisMachineOnly(t *testing.T) {
	m := New(Config{Clock: time.Now})
	s := httptest.NewServer(m.Identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, string(From(r.Context()).Way))
	})))
	defer s.Close()
	for host, want := range map[string]Way{
		"127.0.0.1": ByOpen, "127.0.0.1:8080": ByOpen, "localhost:8080": ByOpen, "LOCALHOST": ByOpen, "[::1]:8080": ByOpen,
		"evil.example": Nobody, "evil.example:8080": Nobody, "localhost.evil.example": Nobody, "127.0.0.1.evil.example": Nobody, "10.0.0.1": Nobody, "0.0.0.0": Nobody,
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || Way(got) != want {
			t.Errorf("%s: %q, %v, want %q", host, got, err, want)
		}
	}
	// Another machine that names this one is another machine.
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	r.RemoteAddr = "10.0.0.7:4000"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}))
	if fromLoopback(r) {
		t.Error("another machine counts as this one")
	}
}
