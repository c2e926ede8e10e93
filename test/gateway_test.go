package test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// background runs a command until the end of the test and returns what it printed, once
// that matches.
func background(t *testing.T, ready string, args ...string) string {
	t.Helper()
	out, errout := &output{}, &output{}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=", "HOLDFAST_PURPOSE=test")
	cmd.Stdout, cmd.Stderr = out, errout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-gone
		if c := cmd.ProcessState.ExitCode(); c != 0 {
			t.Errorf("holdfast %q ended with %v: %s", args, cmd.ProcessState, errout)
		}
	})
	until(t, "holdfast "+args[len(args)-1], func() bool {
		select {
		case <-gone:
			t.Fatalf("holdfast %q ended: %s", args, errout)
		default:
		}
		return regexp.MustCompile(ready).MatchString(out.String())
	})
	return out.String()
}

// A split is a company that separates duties: a host that makes backups and can only
// write, a gateway with the disk, and a server that countersigns, drills and restores.
type split struct {
	host    workspace // of the agent
	server  workspace
	disk    string // behind the gateway
	gateway string // its address
	dir     string // of the gateway
}

func splitDuties(t *testing.T) split {
	t.Helper()
	s := split{disk: filepath.Join(place(t), "disk"), server: filesOnly(t)}
	return s.divided(t, fmt.Sprintf("{kind: dir, path: %q}", s.disk))
}

// divided puts a gateway before a location, given as in a plan, and moves the backups of
// a server's uploads to a host that can only write there.
func (s split) divided(t *testing.T, behind string) split {
	t.Helper()
	root := place(t)
	s.dir = filepath.Join(root, "gw")
	id := regexp.MustCompile(`(?m)^  id: (.*)\n  encrypt_to`).FindStringSubmatch(treeOf(t, s.server.dir)["plan.yaml"])[1]
	write(t, filepath.Join(s.dir, "plan.yaml"), fmt.Sprintf("apiVersion: holdfast/v1\nplan: {id: gw}\nrepository: {id: %s}\nlocations: {disk: %s}\n", id, behind), 0o600)
	hf(t, "--dir", s.dir, "location", "init", "disk").want(t, 0)
	hf(t, "--dir", s.dir, "gateway", "init", "--host", "127.0.0.1").want(t, 0)
	s.host = workspace{dir: filepath.Join(root, "host"), root: root, uploads: s.server.uploads}
	var key struct{ Key string }
	hf(t, "--dir", s.host.dir, "agent", "init", "db1", "--json").want(t, 0).object(t, &key)
	hf(t, "--dir", s.dir, "gateway", "enroll", "db1", "--role", "writer", "--to", filepath.Join(s.host.dir, "id.pem")).want(t, 0)
	hf(t, "--dir", s.dir, "gateway", "enroll", "vault", "--role", "vault", "--to", filepath.Join(s.server.dir, "id.pem")).want(t, 0)
	out := background(t, `https://\S+`, "--dir", s.dir, "gateway", "serve", "--location", "disk", "--listen", "127.0.0.1:0", "--budget", "50MB")
	s.gateway = regexp.MustCompile(`https://\S+`).FindString(out)
	edit(t, s.server.plan(), func(p string) string {
		p = regexp.MustCompile(`(?m)^  offsite: \{kind: dir, path: [^,]*,`).ReplaceAllString(p, fmt.Sprintf("  offsite: {kind: gateway, gateway: {address: %q, identity_file: id.pem},", s.gateway))
		p = regexp.MustCompile(`(?m)^  near: .*\n`).ReplaceAllString(p, "")
		p = strings.ReplaceAll(p, "copies: [near, offsite]", "copies: [offsite]")
		return strings.Replace(p, "  uploads:\n    kind: files\n", fmt.Sprintf("  uploads:\n    kind: files\n    agent: {key: %q}\n", key.Key), 1)
	})
	b, err := os.ReadFile(s.server.plan())
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.host.plan(), string(b), 0o600)
	return s
}

// attacker speaks to the gateway with an identity that lies in a folder.
func attacker(t *testing.T, file string) *http.Client {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var certs [][]byte
	var c tls.Certificate
	for {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil {
			break
		}
		if p.Type == "CERTIFICATE" {
			certs = append(certs, p.Bytes)
		} else if c.PrivateKey, err = x509.ParsePKCS8PrivateKey(p.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	c.Certificate = certs[:1]
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{c}, InsecureSkipVerify: true}, ForceAttemptHTTP2: false}}
}

func TestWritersOnlyWrite(t *testing.T) {
	t.Parallel()
	s := splitDuties(t)
	secret := "the quick brown invoice 4711 of a customer"
	write(t, filepath.Join(s.host.uploads, "invoice.txt"), strings.Repeat(secret, 200), 0o644)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	first := treeOf(t, s.disk)
	if len(first) < 6 {
		t.Fatalf("nothing arrived: %d", len(first))
	}
	serve(t, s.server.dir)
	proved := func(n int) {
		t.Helper()
		until(t, "receipts", func() bool {
			return len(treeOf(t, filepath.Join(s.disk, "receipts", "uploads"))) == n+1 // and the folder
		})
	}
	proved(1)

	t.Run("the server proves what the agent made", func(t *testing.T) {
		s.server.run(t, "drill", "uploads-drill").want(t, 0)
		to := filepath.Join(s.server.root, "back")
		s.server.run(t, "restore", "uploads", "--to", to).want(t, 0)
		treeOf(t, s.host.uploads).unchanged(t, to)
		s.server.run(t, "backup", "uploads").refuses(t, 4, "by its agent", "agent source")
	})
	t.Run("STO-15 the whole host in an attacker's hands", func(t *testing.T) {
		before := treeOf(t, s.disk)
		// Every file of the host, for everything that the product itself can do.
		host := workspace{dir: filepath.Join(s.host.root, "stolen")}
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", s.host.dir, host.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, args := range [][]string{
			{"points", "uploads"}, {"restore", "uploads", "--to", filepath.Join(host.dir, "x"), "--key", filepath.Join(host.dir, "keys", "source.key")},
			{"location", "init", "offsite"}, {"status"}, {"verify"}, {"prune"}, {"drill", "uploads"},
		} {
			if e := host.run(t, args...); e.status == 0 || strings.Contains(e.out, secret) {
				t.Errorf("with the host's files: %q: %v", args, e)
			}
		}
		files := treeOf(t, host.dir)
		for name, b := range files {
			if strings.Contains(b, "AGE-SECRET-KEY") || strings.Contains(b, secret) {
				t.Errorf("%s lies on the host", name)
			}
		}
		// And by hand, with its certificate.
		c := attacker(t, filepath.Join(host.dir, "id.pem"))
		ask := func(method, path string, body []byte) (int, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, s.gateway+path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Holdfast-Content-Hash", strings.Repeat("0", 64))
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res.StatusCode, string(b)
		}
		tried := 0
		for name, was := range first {
			if was == "dir" {
				continue
			}
			tried++
			for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut, http.MethodHead, http.MethodPost, http.MethodPatch} {
				body := []byte(nil)
				if method == http.MethodPut {
					body = []byte("evil")
				}
				if status, answer := ask(method, "/v1/objects/"+name+"?off=0&n=-1", body); status < 400 || len(was) > 40 && strings.Contains(answer, was[:40]) {
					t.Errorf("%s %s: %d", method, name, status)
				}
			}
		}
		if status, answer := ask(http.MethodGet, "/v1/list?prefix=", nil); status < 400 || strings.Contains(answer, "packs/") {
			t.Errorf("list: %d, %s", status, answer)
		}
		if tried < 4 {
			t.Errorf("only %d objects were tried", tried)
		}
		before.unchanged(t, s.disk)
	})
	t.Run("what is left to the attacker is bounded", func(t *testing.T) {
		// It fills no disk: the budget of the day ends first.
		write(t, filepath.Join(s.host.uploads, "flood.bin"), incompressible(t, 60<<20), 0o644)
		s.host.run(t, "agent", "source", "--once").refuses(t, 1, "budget of the day", "midnight")
		if err := os.Remove(filepath.Join(s.host.uploads, "flood.bin")); err != nil {
			t.Fatal(err)
		}
		ids := treeOf(t, filepath.Join(s.disk, "snapshots", "uploads"))
		if len(ids) != 2 {
			t.Errorf("half a snapshot is listed: %d", len(ids)-1)
		}
		// Taken back, it can nothing more.
		hf(t, "--dir", s.dir, "gateway", "revoke", "db1").want(t, 0)
		s.host.run(t, "agent", "source", "--once").refuses(t, 1, "taken back", "enroll")
		// Older backups are as they were.
		to := filepath.Join(s.server.root, "still")
		s.server.run(t, "restore", "uploads", "--to", to).want(t, 0)
		if b := treeOf(t, to)["invoice.txt"]; !strings.Contains(b, secret) {
			t.Error("the older backup is not what it was")
		}
	})
	t.Run("what does not belong on the host is refused there", func(t *testing.T) {
		b, err := os.ReadFile(filepath.Join(s.server.dir, "keys", "runner.age"))
		if err != nil {
			t.Fatal(err)
		}
		runner := filepath.Join(s.host.dir, "keys", "runner.age")
		write(t, runner, string(b), 0o600)
		s.host.run(t, "agent", "source", "--once").refuses(t, 4, "does not belong", "move it")
		if err := os.Remove(runner); err != nil {
			t.Fatal(err)
		}
		vault, err := os.ReadFile(filepath.Join(s.server.dir, "id.pem"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.host.dir, "id.pem"), string(vault), 0o600)
		s.host.run(t, "agent", "source", "--once").refuses(t, 4, "can be read", "gateway")
	})
	t.Run("the gateway says what it lets each do", func(t *testing.T) {
		s.server.run(t, "location", "test", "offsite").want(t, 0)
		var r struct{ Seconds float64 }
		s.server.run(t, "location", "test", "offsite", "--json").want(t, 0).object(t, &r)
		if r.Seconds > 30 {
			t.Errorf("it took %v seconds", r.Seconds)
		}
	})
}
