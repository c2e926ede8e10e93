package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/location/locationtest"
)

// What a connection string leaves open is decided before anybody is asked.
func TestGuardLine(t *testing.T) {
	for dsn, want := range map[string]string{
		"host=127.0.0.1":                              "tls plain",
		"host=127.0.0.1 sslmode=disable":              "plain",
		"host=localhost sslmode=disable":              "plain",
		"host=/run/postgresql":                        "plain",
		"host=::1 sslmode=disable":                    "plain",
		"host=db.example.com":                         "tls",
		"host=db.example.com sslmode=allow":           "tls",
		"host=db.example.com sslmode=require":         "tls",
		"host=db.example.com sslmode=verify-full":     "tls",
		"host=db.example.com sslmode=disable":         "refused",
		"host=203.0.113.7 sslmode=disable":            "refused",
		"host=localhost.example.com sslmode=disable":  "refused",
		"host=db1,127.0.0.1 sslmode=disable":          "plain",
		"postgres://db1:1,db2:2/app?sslmode=prefer":   "tls tls",
		"host=db1,db2 port=5432,5432 sslmode=disable": "refused",
		"postgres://me@db1/app?sslmode=disable":       "refused",
	} {
		s, err := New(Config{Store: "db", ConnString: dsn})
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		got := "refused"
		if s.noLine == nil {
			kinds := []string{"plain"}
			if s.conn.TLSConfig != nil {
				kinds[0] = "tls"
			}
			for _, f := range s.conn.Fallbacks {
				kind := "plain"
				if f.TLSConfig != nil {
					kind = "tls"
				}
				kinds = append(kinds, kind)
			}
			got = strings.Join(kinds, " ")
		} else if !errors.Is(s.noLine, ErrLine) || holdfast.Hint(s.noLine) == "" {
			t.Errorf("%s: %v", dsn, s.noLine)
		}
		if got != want {
			t.Errorf("%s leads over %q, want %q", dsn, got, want)
		}
	}
	s, err := New(Config{Store: "db", ConnString: "host=203.0.113.7 sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	if fs := s.Check(t.Context()); len(fs) != 1 || fs[0].Code != CodeLine || fs[0].Severity != holdfast.SeverityError {
		t.Errorf("a plain line to another machine is found as %+v", fs)
	}
}

// The line is what both ends agreed on, and who checks no certificate hears of it.
func TestLine(t *testing.T) {
	c := newTestCluster(t)
	dir := t.TempDir()
	cert, key := locationtest.Certificate(t, dir)
	for name, file := range map[string]string{"server.crt": cert, "server.key": key} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c.appendTo(name, string(b))
	}
	c.configure("ssl=on", "ssl_cert_file='server.crt'", "ssl_key_file='server.key'")
	c.start()
	open := func(more string) *Source {
		t.Helper()
		s, err := New(Config{Store: "db", ConnString: fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres password=secret %s", c.port, more)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	found := func(s *Source, code string) (out *holdfast.Finding) {
		for _, f := range s.Check(t.Context()) {
			if f.Code == code {
				out = &f
			}
		}
		return out
	}
	ca := "sslrootcert=" + filepath.Join(dir, "ca.pem")
	for _, tt := range []struct{ more, line string }{
		{"sslmode=verify-full " + ca, "TLS 1.3, TLS_AES_256_GCM_SHA384, certificate checked"},
		{"sslmode=verify-ca " + ca, "TLS 1.3, TLS_AES_256_GCM_SHA384, certificate checked"},
		{"sslmode=require", "TLS 1.3, TLS_AES_256_GCM_SHA384, certificate not checked"},
		{"sslmode=disable", "none: plain TCP within this machine"},
	} {
		s := open(tt.more)
		f := found(s, CodeCertificate)
		if got := s.Line().String(); got != tt.line {
			t.Errorf("%s: the line is %q, want %q", tt.more, got, tt.line)
		}
		if unchecked := strings.Contains(tt.line, "not checked"); unchecked != (f != nil) || f != nil && f.Severity != holdfast.SeverityWarning {
			t.Errorf("%s: found %+v", tt.more, f)
		}
	}
	c.configure("ssl_min_protocol_version='TLSv1'", "ssl_max_protocol_version='TLSv1.1'")
	c.sql("SELECT pg_reload_conf()")
	eventually(t, "the server speaks an old TLS only", func() error {
		s := open("sslmode=require")
		if f := found(s, CodeLine); f == nil || f.Severity != holdfast.SeverityError || s.Line().Protocol != "" {
			return fmt.Errorf("found %+v, over %s", s.Check(t.Context()), s.Line())
		}
		return nil
	})
}
