package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

// The tests in this package know the product as its users do: they build the one
// binary, run it as processes, and look at what it prints, how it ends and what
// it leaves on disk. Servers that stand around it are real.

var binary string // the product, built once

func TestMain(m *testing.M) {
	if cfg := os.Getenv(providerIs); cfg != "" {
		os.Exit(runProvider(cfg)) // the process that stands for a paid service
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	// Everybody must be able to walk through it: databases run unprivileged.
	dir, err := os.MkdirTemp("", "hf-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	defer shared.stop()
	return m.Run()
}

// An ending is how a command ended.
type ending struct {
	status      int
	out, errout string
	took        time.Duration
}

func (e ending) String() string {
	return fmt.Sprintf("exit status %d after %s\nstdout: %s\nstderr: %s", e.status, e.took.Round(time.Millisecond), e.out, e.errout)
}

// commandLimit ends a command that hangs, so that the test can say so.
const commandLimit = 3 * time.Minute

// clocks says by how much the clock of a test's commands is moved, or which one they
// follow, by the test's name.
var clocks sync.Map

// later moves the clock of the commands and servers that this test starts from here on.
func later(t *testing.T, d time.Duration) {
	t.Helper()
	name := t.Name()
	if _, moved := clocks.Swap(name, d); !moved {
		t.Cleanup(func() { clocks.Delete(name) })
	}
}

// environment is what the product finds in a test: no workspace but the one it is
// told, a purpose, and the clock of the test or of the test that it is a part of.
func environment(t *testing.T) []string {
	env := append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=", "HOLDFAST_PURPOSE=test")
	for name := t.Name(); name != ""; name = name[:max(0, strings.LastIndexByte(name, '/'))] {
		switch moved, _ := clocks.Load(name); moved := moved.(type) {
		case time.Duration:
			return append(env, "HOLDFAST_CLOCK="+moved.String())
		case *calendarClock:
			return append(env, "HOLDFAST_CLOCK=@"+moved.file, "HOLDFAST_REHEARSAL=yes")
		}
	}
	return env
}

// hf runs the product.
func hf(t *testing.T, args ...string) ending {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = environment(t)
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	began := time.Now()
	err := cmd.Run()
	e := ending{cmd.ProcessState.ExitCode(), out.String(), errout.String(), time.Since(began)}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatalf("holdfast %q: %v", args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("holdfast %q hangs: %v", args, e)
	}
	return e
}

// want fails the test unless the command ended so.
func (e ending) want(t *testing.T, status int) ending {
	t.Helper()
	if e.status != status {
		t.Fatalf("want exit status %d: %v", status, e)
	}
	return e
}

// object reads the one JSON object that --json prints.
func (e ending) object(t *testing.T, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(e.out))
	if err := d.Decode(v); err != nil {
		t.Fatalf("no JSON object: %v: %v", err, e)
	}
	if d.More() {
		t.Fatalf("more than one JSON object: %v", e)
	}
}

// refuses checks that a command refuses well: the status, one clear sentence with
// the given words, a next step with the given words, and soon.
func (e ending) refuses(t *testing.T, status int, sentence, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(e.errout), "\n")
	if e.status != status || len(lines) != 2 || !strings.HasPrefix(lines[0], "holdfast: error: ") || !strings.HasPrefix(lines[1], "holdfast: hint: ") {
		t.Fatalf("want exit status %d with one line that says what happened and one that says what to do: %v", status, e)
	}
	if !regexp.MustCompile(sentence).MatchString(lines[0]) {
		t.Errorf("the sentence does not say %q: %s", sentence, lines[0])
	}
	if !regexp.MustCompile(hint).MatchString(lines[1]) {
		t.Errorf("the hint does not say %q: %s", hint, lines[1])
	}
	const longest = 300
	if len(lines[0]) > longest {
		t.Errorf("that is no sentence but a chain (%d bytes): %s", len(lines[0]), lines[0])
	}
	for _, kind := range []error{holdfast.ErrUsage, holdfast.ErrRefused, holdfast.ErrMissed} {
		if strings.HasSuffix(lines[0], kind.Error()) {
			t.Errorf("the sentence ends with a word for programs: %s", lines[0])
		}
	}
}

// A tree is what a folder holds: the content of each path.
type tree map[string]string

func treeOf(t *testing.T, dir string) tree {
	t.Helper()
	out := tree{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == dir {
			return fs.SkipAll
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[rel] = "dir"
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[rel] = string(b)
		default:
			out[rel] = d.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged fails the test if the folder is not what it was.
func (old tree) unchanged(t *testing.T, dir string) {
	t.Helper()
	now := treeOf(t, dir)
	for p, b := range now {
		if o, ok := old[p]; !ok {
			t.Errorf("%s: %s is new", dir, p)
		} else if o != b {
			t.Errorf("%s: %s changed", dir, p)
		}
	}
	for p := range old {
		if _, ok := now[p]; !ok {
			t.Errorf("%s: %s is gone", dir, p)
		}
	}
}

// until waits for a condition. It fails after a time in which it must have come.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// place makes a folder that other accounts can walk through and that is short
// enough for sockets.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// edit changes a file.
func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := change(string(b))
	if text == string(b) {
		t.Fatalf("%s is as it was: the test changes nothing", path)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A serving is "holdfast serve" as a process.
type serving struct {
	cmd  *exec.Cmd
	out  *output
	err  *output
	gone chan struct{} // closed when the process has ended
	url  string
	once sync.Once
}

// output collects what a process writes, line by line.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// serve starts the server of a workspace and waits until it answers. It is
// stopped at the end of the test.
func serve(t *testing.T, dir string) *serving {
	t.Helper()
	s := &serving{out: &output{}, err: &output{}, gone: make(chan struct{})}
	s.cmd = exec.Command(binary, "--dir", dir, "serve", "--listen", "127.0.0.1:0")
	s.cmd.Env = environment(t)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.err
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in ProcessState
		close(s.gone)
	}()
	t.Cleanup(func() { s.stop(t) })
	until(t, "the server to answer", func() bool {
		select {
		case <-s.gone:
			t.Fatalf("the server ended: %s", s.err)
		default:
		}
		_, url, ok := strings.Cut(s.out.String(), "page at ")
		s.url = strings.TrimSpace(url)
		return ok
	})
	return s
}

// stop ends the server as a person does; it must end with status 0.
func (s *serving) stop(t *testing.T) {
	t.Helper()
	s.once.Do(func() {
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-s.gone
		if c := s.cmd.ProcessState.ExitCode(); c != 0 {
			t.Errorf("the server ended with %v: %s", s.cmd.ProcessState, s.err)
		}
	})
}

// A cluster is a PostgreSQL server of the user's own.
type cluster struct {
	dir     string
	account *sandbox.Account
	bin     string
	port    int
	server  *postgres.Server
}

const password = "a long random password"

// shared are the clusters that most tests use, each lent to one test at a time.
var shared clusters

type clusters struct {
	mu        sync.Mutex
	idle, all []*cluster
}

// get lends a cluster until the test ends; it may hold what earlier tests wrote.
func (s *clusters) get(t *testing.T) *cluster {
	t.Helper()
	c, err := s.take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.idle = append(s.idle, c)
	})
	return c
}

func (s *clusters) take() (*cluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return c, nil
	}
	c, err := newCluster(context.Background())
	if err == nil {
		s.all = append(s.all, c)
	}
	return c, err
}

func (s *clusters) stop() {
	for _, c := range s.all {
		if err := c.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "a shared cluster:", err)
		}
	}
}

// newCluster makes a server that answers on the network, with the database "app",
// and with the role that the README tells to make.
func newCluster(ctx context.Context) (*cluster, error) {
	dir, err := os.MkdirTemp("", "hf-pg-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	err = func() error {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		if c.bin, err = postgres.FindBinDir(0); err != nil {
			return fmt.Errorf("these tests need a PostgreSQL server on this machine (apt-get install postgresql): %w", err)
		}
		if c.account, err = sandbox.Unprivileged(ctx, ""); err != nil {
			return err
		}
		if err := postgres.Initdb(ctx, c.account, c.bin, filepath.Join(dir, "data"), "--data-checksums"); err != nil {
			return err
		}
		if c.port, err = freePort(); err != nil {
			return err
		}
		// The superuser connects with a password as well: a test is not the account
		// of the server.
		private, err := postgres.StartServer(ctx, c.account, postgres.ServerConfig{BinDir: c.bin, DataDir: filepath.Join(dir, "data"), Port: c.port})
		if err != nil {
			return err
		}
		for _, q := range []string{
			"ALTER ROLE postgres PASSWORD '" + password + "'",
			"CREATE DATABASE app",
		} {
			if _, err := private.Query(ctx, q); err != nil {
				return errors.Join(err, private.Stop(ctx))
			}
		}
		if err := private.Stop(ctx); err != nil {
			return err
		}
		return c.start(ctx, nil)
	}()
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	// From here on, what a person does who follows the README.
	for _, q := range readmeSQL {
		if _, err := c.query(ctx, q); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

// nextPort is where the search for a port goes on. It stays below the range from
// which the kernel draws, so that no connection of a test beside takes a server's
// port before that listens; processes begin at different places.
var nextPort atomic.Int32

func init() { nextPort.Store(int32(12000 + os.Getpid()%18000)) }

// freePort returns a port that nobody in this process was given before, and that is
// free now.
func freePort() (int, error) {
	const tries = 1000
	var last error
	for range tries {
		port := int(nextPort.Add(1))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, last
}

// readmeSQL is step 2 of the README.
var readmeSQL = []string{
	"CREATE ROLE holdfast LOGIN REPLICATION PASSWORD '" + password + "'",
	"GRANT pg_monitor TO holdfast",
	"ALTER SYSTEM SET max_slot_wal_keep_size = '8GB'",
	"SELECT pg_reload_conf()",
	"GRANT SELECT ON pg_hba_file_rules TO holdfast",
	"GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO holdfast",
}

func (c *cluster) start(ctx context.Context, options map[string]string) (err error) {
	c.server, err = postgres.StartServer(ctx, c.account, postgres.ServerConfig{BinDir: c.bin, DataDir: filepath.Join(c.dir, "data"), Port: c.port, Listen: "127.0.0.1", Options: options})
	return err
}

func (c *cluster) stop() error {
	var err error
	if c.server != nil {
		err = c.server.Stop(context.Background())
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// dsn is the connection string that a plan names: without a password.
func (c *cluster) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=holdfast dbname=app", c.port)
}

// query asks the database "app" as its superuser.
func (c *cluster) query(ctx context.Context, sql string) (string, error) {
	return psql(ctx, c.bin, "127.0.0.1", c.port, sql)
}

// psql asks with the real client, one line for each row.
func psql(ctx context.Context, bin, host string, port int, sql string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", fmt.Sprint(port), "-U", "postgres", "-d", "app", "-c", sql)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", sql, err, ee.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (c *cluster) sql(t *testing.T, q string) string {
	t.Helper()
	rows, err := c.query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A workspace is one that "holdfast init" made, with its locations.
type workspace struct {
	dir     string // of the workspace
	root    string // around it: uploads, near, offsite
	uploads string
	near    string
	offsite string
}

func (w workspace) plan() string { return filepath.Join(w.dir, "plan.yaml") }

// run carries out a command in the workspace.
func (w workspace) run(t *testing.T, args ...string) ending {
	t.Helper()
	return hf(t, append([]string{"--dir", w.dir}, args...)...)
}

// initAt makes a workspace for a database.
func initAt(t *testing.T, root, dsn string, options ...string) workspace {
	t.Helper()
	w := workspace{root: root, dir: filepath.Join(root, "acme"), uploads: filepath.Join(root, "uploads"), near: filepath.Join(root, "near"), offsite: filepath.Join(root, "offsite")}
	write(t, filepath.Join(w.uploads, "a.txt"), "hello\n", 0o644)
	secret := filepath.Join(root, "db-password")
	write(t, secret, password+"\n", 0o600)
	hf(t, append([]string{"init", w.dir, "--organisation", "Acme", "--timezone", "Europe/Stockholm", "--dsn", dsn, "--password-file", secret,
		"--uploads", w.uploads, "--near", w.near, "--offsite", w.offsite}, options...)...).want(t, 0)
	return w
}

// forCluster makes a workspace for a cluster with a slot of its own, which is
// dropped at the end: several workspaces share one server.
func forCluster(t *testing.T, c *cluster) workspace {
	t.Helper()
	w := initAt(t, place(t), c.dsn())
	slot := c.slot(t, w)
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, "      dsn:", "      slot: "+slot+"\n      dsn:", 1) })
	return w
}

// slot names a replication slot for a workspace, and drops it at the end.
func (c *cluster) slot(t *testing.T, w workspace) string {
	t.Helper()
	slot := "hf_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(filepath.Base(w.root)))
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '"+slot+"' AND NOT active"); err != nil {
			t.Log("slot not dropped:", err)
		}
	})
	return slot
}

// filesOnly makes a workspace that protects a folder and no database.
func filesOnly(t *testing.T, options ...string) workspace {
	t.Helper()
	w := initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app", options...)
	edit(t, w.plan(), withoutDatabase)
	return w
}

// withoutDatabase takes the database out of the plan that init writes.
func withoutDatabase(s string) string {
	for _, cut := range []struct{ re, with string }{
		{`\{db: hard, uploads: hard\}`, `{uploads: hard}`},
		{`(?ms)^  db:\n.*?^  uploads:`, `  uploads:`},
		{`(?ms)^  database:\n.*?^  folder:`, `  folder:`},
		{`(?m)^  db-drill:.*\n`, ``},
		{`(?m)^      (restore-db|check-db):.*\n`, ``},
		{`\[check-db, restore-uploads\]`, `[restore-uploads]`},
		{`\[db-drill, uploads-drill\]`, `[uploads-drill]`},
	} {
		s = regexp.MustCompile(cut.re).ReplaceAllString(s, cut.with)
	}
	return s
}

func contains(text, re string) bool { return regexp.MustCompile(re).MatchString(text) }
