package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A testCluster is a real PostgreSQL on a port of its own.
type testCluster struct {
	t    *testing.T
	dir  string // data directory
	bin  string
	port int
	cred *syscall.Credential
	cmd  *exec.Cmd
	out  *bytes.Buffer
	done chan struct{}
}

// testBin finds the newest PostgreSQL here. Its absence fails the test: what is not
// run is not proven.
func testBin(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	p, err := exec.LookPath("postgres")
	if err != nil {
		t.Fatal("these tests need a PostgreSQL server: apt-get install postgresql")
	}
	return filepath.Dir(p)
}

func newTestCluster(t *testing.T, initdb ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, bin: testBin(t)}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal("as root these tests need the user \"postgres\":", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	top, err := os.MkdirTemp("/tmp", "hfpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	if c.cred != nil {
		if err := os.Chown(top, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	c.dir = filepath.Join(top, "d")
	if initdb != nil && initdb[0] == "none" {
		return c
	}
	args := append([]string{"-D", c.dir, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", c.passwordFile(top), "--no-sync", "-E", "UTF8", "--no-locale"}, initdb...)
	c.run("initdb", args...)
	c.configure("listen_addresses='127.0.0.1'", "unix_socket_directories='"+top+"'", "fsync=off", "max_slot_wal_keep_size='1GB'",
		"wal_keep_size=0", "autovacuum=off", "logging_collector=off")
	c.appendTo("pg_hba.conf", "host replication all 127.0.0.1/32 scram-sha-256")
	return c
}

func (c *testCluster) passwordFile(top string) string {
	name := filepath.Join(top, "pw")
	if err := os.WriteFile(name, []byte("secret\n"), 0o644); err != nil {
		c.t.Fatal(err)
	}
	return name
}

func (c *testCluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = filepath.Dir(c.dir)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "PGPASSWORD=secret"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (c *testCluster) run(name string, args ...string) {
	c.t.Helper()
	if out, err := c.command(name, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (c *testCluster) appendTo(file string, lines ...string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if c.cred != nil {
		_ = f.Chown(int(c.cred.Uid), int(c.cred.Gid))
	}
	fmt.Fprintln(f, strings.Join(lines, "\n"))
}

func (c *testCluster) configure(lines ...string) { c.appendTo("postgresql.conf", lines...) }

func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs the server until stop, kill or the test's end.
func (c *testCluster) start() {
	c.t.Helper()
	if c.port == 0 {
		c.port = unusedPort(c.t)
	}
	c.out = &bytes.Buffer{}
	c.cmd = c.command("postgres", "-D", c.dir, "-p", strconv.Itoa(c.port))
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	c.done = done
	cmd := c.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	c.t.Cleanup(func() { c.signal(syscall.SIGQUIT) })
	eventually(c.t, "the server answers", func() error {
		select {
		case <-done:
			c.t.Fatalf("the server ended:\n%s", c.out)
		default:
		}
		_, err := c.try("SELECT 1")
		return err
	})
}

// signal sends sig and waits for the server's end.
func (c *testCluster) signal(sig syscall.Signal) {
	select {
	case <-c.done:
		return
	default:
	}
	children := childrenOf(c.t, c.cmd.Process.Pid)
	_ = c.cmd.Process.Signal(sig)
	if sig == syscall.SIGKILL {
		// A backend that waits for a lock of one that was killed does not notice that the
		// server is gone. It would keep the server's output, and its shared memory, for ever.
		for _, pid := range children {
			_ = syscall.Kill(pid, sig)
		}
	}
	select {
	case <-c.done:
	case <-time.After(60 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
		c.t.Errorf("the server did not end after %s:\n%s", sig, c.out)
	}
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(t *testing.T, pid int) (out []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name stands in parentheses and may hold any; state and parent come behind it.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if parent, err := strconv.Atoi(fields[1]); err == nil && parent == pid {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, child)
		}
	}
	return out
}

func (c *testCluster) connString(user, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", user, password, c.port)
}

func (c *testCluster) try(sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pg, err := pgconn.Connect(ctx, c.connString("postgres", "secret"))
	if err != nil {
		return nil, err
	}
	defer pg.Close(ctx)
	return simpleQuery(ctx, pg, sql)
}

func (c *testCluster) sql(sql string) [][]string {
	c.t.Helper()
	rows, err := c.try(sql)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", sql, err, c.out)
	}
	return rows
}

// one returns the single value of a query.
func (c *testCluster) one(sql string) string {
	c.t.Helper()
	rows := c.sql(sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		c.t.Fatalf("%s: %v", sql, rows)
	}
	return rows[0][0]
}

func (c *testCluster) lsn(sql string) uint64 {
	c.t.Helper()
	lsn, err := ParseLSN(c.one(sql))
	if err != nil {
		c.t.Fatal(err)
	}
	return lsn
}

// eventually waits for a condition; the bound only ends a hung test.
func eventually(t *testing.T, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s: %v", what, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
