package locationtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/durable"
)

// S3Version is the version of the S3 server that tests run against.
const S3Version = "v1.8.0"

const s3Module = "github.com/versity/versitygw/cmd/versitygw@" + S3Version

// startWithin bounds how long a server may take to answer; a busy machine is slow.
const startWithin = 2 * time.Minute

// An S3 is a running S3 server.
type S3 struct {
	URL, Access, Secret string
	Dir                 string // each bucket is a folder in it
	CAFile              string // with TLS: who vouches for it
	Domain              string // with WithDomain: buckets are hosts of it
	process             *os.Process
}

// AddUser makes an account without any rights.
func (s *S3) AddUser(t testing.TB, name, secret string) {
	t.Helper()
	cmd := exec.Command(s3Program(t), "admin", "--allow-insecure", "--access", s.Access, "--secret", s.Secret, "--endpoint-url", s.URL,
		"create-user", "--access", name, "--secret", secret, "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("add user: %v\n%s", err, out)
	}
}

// Kill ends the server without a farewell.
func (s *S3) Kill(t testing.TB) {
	if err := s.process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Stop freezes the server: it takes connections and does not answer. Continue ends that.
func (s *S3) Stop(t testing.TB)     { freeze(t, s.process.Pid) }
func (s *S3) Continue(t testing.TB) { signal(t, s.process, syscall.SIGCONT) }

func signal(t testing.TB, p *os.Process, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// S3Option says how a server is started.
type S3Option func(s *S3, args *[]string)

// WithTLS lets the server speak TLS, with a certificate of its own authority.
func WithTLS(t testing.TB) S3Option {
	return func(s *S3, args *[]string) {
		dir := t.TempDir()
		s.CAFile = filepath.Join(dir, "ca.pem")
		cert, key := Certificate(t, dir)
		*args = append(*args, "--cert", cert, "--key", key)
	}
}

// WithDomain makes buckets hosts of a domain.
func WithDomain(domain string) S3Option {
	return func(s *S3, args *[]string) {
		s.Domain = domain
		*args = append(*args, "--virtual-domain", domain)
	}
}

// WithDir keeps the buckets in a folder that the caller made.
func WithDir(dir string) S3Option {
	return func(s *S3, _ *[]string) { s.Dir = dir }
}

// StartS3 starts an S3 server on the loopback address, with versions of objects and
// object lock. It ends with the test.
func StartS3(t testing.TB, options ...S3Option) *S3 {
	t.Helper()
	program := s3Program(t)
	s := &S3{Access: "holdfast-test", Secret: "not-a-secret-" + rand.Text(), Dir: filepath.Join(t.TempDir(), "buckets")}
	versions, iam := filepath.Join(filepath.Dir(s.Dir), "versions"), filepath.Join(filepath.Dir(s.Dir), "iam")
	addr := freeAddress(t)
	global := []string{"--port", addr, "--iam-dir", iam, "--quiet", "--keep-alive"}
	for _, o := range options {
		o(s, &global)
	}
	for _, dir := range []string{s.Dir, versions, iam} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	scheme := "http"
	if s.CAFile != "" {
		scheme = "https"
	}
	s.URL = scheme + "://" + addr
	cmd := exec.Command(program, append(global, "posix", "--versioning-dir", versions, s.Dir)...)
	cmd.Env = []string{"ROOT_ACCESS_KEY=" + s.Access, "ROOT_SECRET_KEY=" + s.Secret, "PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}
	s.process = start(t, cmd, addr)
	return s
}

// start runs a server until the test ends, and returns when it takes connections.
func start(t testing.TB, cmd *exec.Cmd, addr string) *os.Process {
	t.Helper()
	// A file and not a pipe: what the server started may outlive it and would hold a pipe.
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	said := func() string {
		b, err := os.ReadFile(out.Name())
		return fmt.Sprint(string(b), err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		for _, pid := range descendants(cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		<-ended
	})
	deadline := time.NewTimer(startWithin)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return cmd.Process
		}
		select {
		case <-again.C:
		case <-ended:
			t.Fatalf("%s ended at once:\n%s", cmd.Path, said())
		case <-deadline.C:
			t.Fatalf("%s does not listen on %s:\n%s", cmd.Path, addr, said())
		}
	}
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// s3Program returns the server's program, and builds it if it is not there yet:
// once on a machine, whatever many tests ask.
func s3Program(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("HOLDFAST_TEST_TOOLS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "holdfast-test-tools")
	}
	dir = filepath.Join(dir, "versitygw-"+S3Version)
	program := filepath.Join(dir, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for { // another package's tests may be building it
		l, err := durable.Lock(filepath.Join(dir, "lock"))
		if err == nil {
			defer l.Unlock()
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(time.Second):
		}
		if _, err := os.Stat(program); err == nil {
			return program
		}
	}
	if _, err := os.Stat(program); err == nil {
		return program
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", s3Module)
	build.Dir = dir // apart from this module
	build.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the S3 server that this test needs is not there, and cannot be built (%v): run \"make test-tools\"\n%s", err, out)
	}
	return program
}

// Certificate writes a certificate of 127.0.0.1 and localhost and its key to dir, and
// the authority that signed it to ca.pem there.
func Certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	write("ca.pem", "CERTIFICATE", caDER)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test place"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

// An SFTP is a running OpenSSH server.
type SFTP struct {
	Addr       string
	User       string
	Dir        string // an empty folder for a place
	KeyFile    string // a key that may log in
	KnownHosts string // a file that vouches for the server
	HostKey    string // its fingerprint
	RSAHostKey string // that of its other key
	Work       string // the server's own folder
	process    *os.Process
}

// Kill ends the server and its sessions without a farewell.
func (s *SFTP) Kill(t testing.TB) {
	t.Helper()
	for _, pid := range descendants(s.process.Pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Drop ends the sessions and leaves the server.
func (s *SFTP) Drop(t testing.TB) {
	t.Helper()
	for _, pid := range descendants(s.process.Pid)[1:] {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Stop freezes the server and its sessions.
func (s *SFTP) Stop(t testing.TB) {
	t.Helper()
	for _, pid := range descendants(s.process.Pid) {
		freeze(t, pid)
	}
}

// freeze stops a process, and returns when all its threads stand still.
func freeze(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		moving := false
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, file := range threads {
			b, err := os.ReadFile(file)
			moving = moving || err == nil && !bytes.Contains(b, []byte(") T "))
		}
		if !moving {
			return
		}
		select {
		case <-look.C:
		case <-t.Context().Done():
			t.Fatalf("process %d does not stop", pid)
		}
	}
}

// descendants returns a process and everything that it started.
func descendants(pid int) []int {
	out := []int{pid}
	dirs, _ := os.ReadDir("/proc")
	for i := 0; i < len(out); i++ {
		for _, d := range dirs {
			b, err := os.ReadFile("/proc/" + d.Name() + "/stat")
			if err != nil {
				continue
			}
			// pid (name) state parent …; the name may hold anything.
			var child, parent int
			var state string
			rest := string(b[bytes.LastIndexByte(b, ')')+1:])
			if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent != out[i] {
				continue
			}
			if _, err := fmt.Sscan(d.Name(), &child); err == nil {
				out = append(out, child)
			}
		}
	}
	return out
}

// StartSFTP starts an OpenSSH server on the loopback address, with lines added to
// its configuration. It ends with the test.
func StartSFTP(t testing.TB, config ...string) *SFTP {
	t.Helper()
	sshd := tool(t, "sshd", "/usr/sbin/sshd")
	keygen := tool(t, "ssh-keygen", "/usr/bin/ssh-keygen")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	s := &SFTP{Addr: freeAddress(t), User: os.Getenv("USER"), Work: t.TempDir()}
	if os.Geteuid() == 0 {
		s.User = "root"
	}
	s.Dir = filepath.Join(s.Work, "place")
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.Command(keygen, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	host := filepath.Join(s.Work, "host")
	s.KeyFile = filepath.Join(s.Work, "login")
	run("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", host)
	run("-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f", host+"-rsa")
	run("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", s.KeyFile)
	s.HostKey = strings.Fields(run("-l", "-E", "sha256", "-f", host+".pub"))[1]
	s.RSAHostKey = strings.Fields(run("-l", "-E", "sha256", "-f", host+"-rsa.pub"))[1]
	public, err := os.ReadFile(host + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	h, port, _ := net.SplitHostPort(s.Addr)
	s.KnownHosts = filepath.Join(s.Work, "known_hosts")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.KnownHosts, fmt.Sprintf("[%s]:%s %s", h, port, public))
	login, err := os.ReadFile(s.KeyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(s.Work, "authorized_keys"), string(login))
	lines := append(config, "ListenAddress "+s.Addr, "HostKey "+host, "HostKey "+host+"-rsa", "AuthorizedKeysFile "+filepath.Join(s.Work, "authorized_keys"),
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PidFile none", "PermitRootLogin prohibit-password",
		"MaxStartups 100", "Subsystem sftp internal-sftp")
	conf := filepath.Join(s.Work, "sshd_config")
	write(conf, strings.Join(lines, "\n")+"\n")
	s.process = start(t, exec.Command(sshd, "-D", "-e", "-f", conf), s.Addr)
	return s
}

func tool(t testing.TB, name, path string) string {
	t.Helper()
	if found, err := exec.LookPath(name); err == nil && filepath.IsAbs(found) {
		return found
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s, which this test needs, is not installed: run \"make test-tools\"", name)
	}
	return path
}
