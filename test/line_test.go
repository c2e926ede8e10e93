package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/location/locationtest"
)

// A listener takes connections and keeps every byte that comes over them. With settings
// it speaks TLS; what comes inside is kept too.
type listener struct {
	addr      string
	raw, told output
}

// heard is a connection whose bytes are noted as they come.
type heard struct {
	net.Conn
	by *output
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	_, _ = h.by.Write(p[:n]) // into memory
	return n, err
}

func listen(t *testing.T, settings *tls.Config) *listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{addr: ln.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() { ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if settings == nil {
					fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					_, _ = io.Copy(&l.raw, c)
					return
				}
				_, _ = io.Copy(&l.told, tls.Server(heard{c, &l.raw}, settings))
			})
		}
	})
	return l
}

// placeAt makes the second location of a workspace another one.
func (w workspace) placeAt(t *testing.T, place string) {
	t.Helper()
	edit(t, w.plan(), func(s string) string {
		return regexp.MustCompile(`(?m)^  offsite: .*$`).ReplaceAllLiteralString(s, "  offsite: "+place)
	})
}

// notOver checks that nothing goes over a line that is not good enough: the place is not
// made, a backup goes elsewhere and says why, and what came over the line tells nothing.
func (w workspace) notOver(t *testing.T, what, offers, hint string, l *listener) {
	t.Helper()
	w.run(t, "location", "init", "offsite").refuses(t, 1, "line refused.*"+offers, hint)
	w.run(t, "location", "init", "near").want(t, 0)
	var made struct {
		Locations map[string]string
		Lines     map[string]struct{ Protocol string }
	}
	w.run(t, "backup", "uploads", "--json").want(t, 3).object(t, &made)
	if why := made.Locations["offsite"]; made.Locations["near"] != "complete" || !contains(why, "line refused.*"+offers) || made.Lines["offsite"].Protocol != "" {
		t.Errorf("%s: the backup's record: %+v", what, made)
	}
	if l == nil {
		return
	}
	for _, secret := range []string{"holdfast-repository", "PUT /", "GET /", "Authorization", "AKIA-TEST"} {
		if strings.Contains(l.raw.String()+l.told.String(), secret) {
			t.Errorf("%s: %q was sent over the line", what, secret)
		}
	}
	if l.raw.String() == "" || l.told.String() != "" {
		t.Errorf("%s: %d bytes came, and %d of them inside of TLS", what, len(l.raw.String()), len(l.told.String()))
	}
}

func TestLineRows(t *testing.T) {
	t.Parallel()
	t.Run("ENC-02 nothing goes below TLS 1.2, and each job records what was negotiated", func(t *testing.T) {
		dir := place(t)
		cert, key := locationtest.Certificate(t, dir)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		secret := filepath.Join(dir, "bucket")
		write(t, secret, "access_key_id = AKIA-TEST\nsecret_access_key = nothing\n", 0o600)
		bucket := func(endpoint, more string) string {
			return fmt.Sprintf("{kind: s3, domain: b, s3: {endpoint: %q, bucket: backups, credentials_file: %q%s}}", endpoint, secret, more)
		}
		trusted := fmt.Sprintf(", ca_file: %q", filepath.Join(dir, "ca.pem"))
		old := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		middle := &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12}

		w := filesOnly(t)
		l := listen(t, old)
		w.placeAt(t, bucket("https://"+l.addr, trusted))
		w.notOver(t, "TLS 1.1", "offers TLS 1.1, and TLS 1.2 is the least", "TLS 1.2 or newer", l)
		if e := w.run(t, "location", "test", "offsite"); e.status != 3 || !strings.Contains(e.out, "offers TLS 1.1") {
			t.Errorf("a test of the place: %v", e)
		}
		w = filesOnly(t)
		l = listen(t, nil)
		w.placeAt(t, bucket("https://"+l.addr, ""))
		w.notOver(t, "plain text behind https", "offers no TLS", "TLS 1.2 or newer", l)
		w = filesOnly(t)
		l = listen(t, middle)
		w.placeAt(t, bucket("https://"+l.addr, trusted))
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "repository:\n", "repository:\n  tls_min: \"1.3\"\n", 1)
		})
		w.notOver(t, "TLS 1.2 where the plan says 1.3", "offers TLS 1.2, and TLS 1.3 is the least", "", l)

		// Plain http is refused by the plan, before anything could listen.
		for _, p := range []string{bucket("http://192.0.2.7:9000", ""), bucket("http://192.0.2.7:9000", ", insecure: true"), bucket("http://127.0.0.1:9", "")} {
			w = filesOnly(t)
			w.placeAt(t, p)
			if e := w.run(t, "check"); e.status == 0 || !strings.Contains(e.out+e.errout, "plain http") {
				t.Errorf("%s: %v", p, e)
			}
			if e := w.run(t, "backup", "uploads"); e.status == 0 || !strings.Contains(e.errout, "plain http") {
				t.Errorf("%s: %v", p, e)
			}
		}

		// A gateway, and a machine with ciphers of old.
		w = filesOnly(t)
		w.run(t, "gateway", "init", "--host", "127.0.0.1").want(t, 0)
		id := filepath.Join(w.dir, "id.pem")
		w.run(t, "gateway", "enroll", "db1", "--role", "vault", "--to", id).want(t, 0)
		l = listen(t, old)
		w.placeAt(t, fmt.Sprintf("{kind: gateway, domain: g, gateway: {address: %q, identity_file: %q}}", "https://"+l.addr, id))
		w.notOver(t, "an old server for a gateway", "offers TLS 1.1, and TLS 1.3 is the least", "gateway", l)
		machine := func(w workspace, s *locationtest.SFTP) string {
			login := filepath.Join(w.dir, "login")
			b, err := os.ReadFile(s.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			write(t, login, string(b), 0o600)
			return fmt.Sprintf("{kind: sftp, domain: m, sftp: {host: %q, user: %q, path: %q, key_file: %q, host_key: %q}}", s.Addr, s.User, filepath.Join(s.Dir, "b"), login, s.HostKey)
		}
		w = filesOnly(t)
		w.placeAt(t, machine(w, locationtest.StartSFTP(t, "Ciphers aes128-cbc")))
		w.notOver(t, "SSH with a cipher of old", "the server offers aes128-cbc", "sshd_config", nil)

		// Where the line is good enough, every job says what it was.
		server := locationtest.StartS3(t, locationtest.WithTLS(t))
		write(t, secret, "access_key_id = "+server.Access+"\nsecret_access_key = "+server.Secret+"\n", 0o600)
		w = filesOnly(t)
		w.placeAt(t, bucket(server.URL, fmt.Sprintf(", ca_file: %q", server.CAFile)))
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "locations:\n", "locations:\n  machine: "+machine(w, locationtest.StartSFTP(t, "Ciphers aes256-gcm@openssh.com"))+"\n", 1)
			return strings.Replace(strings.ReplaceAll(s, "copies: [near, offsite]", "copies: [near, offsite, machine]"), "every: 5m", "every: 1d", 1)
		})
		w.run(t, "location", "init", "offsite").want(t, 0)
		w.run(t, "location", "init", "near").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 3) // one place is not there yet
		w.run(t, "location", "init", "machine").want(t, 0)
		serve(t, w.dir)
		var made struct {
			Snapshot string
			Lines    map[string]struct{ Protocol, Cipher string }
		}
		w.run(t, "backup", "uploads", "--json").want(t, 0).object(t, &made)
		if o, m := made.Lines["offsite"], made.Lines["machine"]; o.Protocol != "TLS 1.3" || !strings.HasPrefix(o.Cipher, "TLS_") || m.Protocol != "SSH 2.0" || m.Cipher != "aes256-gcm@openssh.com" {
			t.Errorf("the backup's lines are %+v", made.Lines)
		}
		until(t, "the copy that was missing to be caught up", func() bool {
			out := w.run(t, "location", "list").out
			return strings.Count(out, "2 of 2 snapshots") == 3 && !strings.Contains(out, "without a receipt")
		})
		var drilled struct{ Line struct{ Protocol string } }
		w.run(t, "drill", "uploads", "--location", "offsite", "--json").object(t, &drilled)
		if drilled.Line.Protocol != "TLS 1.3" {
			t.Errorf("the drill's line is %+v", drilled.Line)
		}
		if fs := w.factsOf(t, "backup.copied"); len(fs) == 0 || !contains(fs[0], `"machine":\{"protocol":"SSH 2.0","cipher":"aes256-gcm@openssh.com"\}`) {
			t.Errorf("what was caught up: %q", fs)
		}
		if fs := w.factsOf(t, "backup.snapshot"); len(fs) < 2 || !contains(fs[1], `"offsite":\{"protocol":"TLS 1.3","cipher":"TLS_`) {
			t.Errorf("the backups: %q", fs)
		}
		if rows := w.pack(t)["populations/backups.csv"]; strings.Count(rows, "TLS 1.3, TLS_") < 2 || strings.Count(rows, "SSH 2.0, aes256-gcm@openssh.com") < 2 {
			t.Errorf("the population of backups: %s", rows)
		}
		if e := w.run(t, "location", "list"); !contains(e.out, "TLS 1.3") || !contains(e.out, "SSH 2.0") {
			t.Errorf("the list of locations says nothing of the lines: %v", e)
		}
		// Plain http on this machine is for who declares it, and warned of.
		plain := locationtest.StartS3(t)
		w = filesOnly(t)
		w.placeAt(t, bucket(plain.URL, ", insecure: true"))
		if e := w.run(t, "check"); !contains(e.out, "HF-L34") || !contains(e.out, "plain http on this machine") {
			t.Errorf("check does not warn: %v", e)
		}
	})
}
