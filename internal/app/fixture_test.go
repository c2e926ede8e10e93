package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/recovery"
	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

// TestMain lets PostgreSQL call the test program for its log, as it calls ours.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "restore-command" {
		os.Exit(postgres.RestoreCommandMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// within bounds every wait for something that happens by itself.
const within = 2 * time.Minute

// A company is a workspace with a folder, two locations and, if asked for, a database.
type company struct {
	t       *testing.T
	dir     string
	w       Workspace
	binDir  string
	port    int
	account *sandbox.Account
	server  *postgres.Server // nil without a database
}

// newCompany makes the folder, the plan and the repositories; change edits the
// values of the plan.
func newCompany(t *testing.T, database bool, change func(*plan.Values)) *company {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-app-") // short: a socket's address is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	c := &company{t: t, dir: dir}
	if err := os.Chmod(dir, 0o755); err != nil { // the database's account walks through it
		t.Fatal(err)
	}
	if c.account, err = sandbox.Unprivileged(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if c.binDir, err = postgres.FindBinDir(0); err != nil {
		t.Fatalf("these tests need a PostgreSQL server on this machine: %v", err)
	}
	c.port = freePort(t)
	if database {
		c.startDatabase()
	}
	c.put("first.txt", "first\n")
	v := plan.Values{
		ID: "company", Near: c.place("near"), Offsite: c.place("offsite"), NearDomain: "a", OffsiteDomain: "b",
		DSN:    fmt.Sprintf("host=127.0.0.1 port=%d user=holdfast dbname=postgres sslmode=disable connect_timeout=5", c.port),
		BinDir: c.binDir, Uploads: c.uploads(), RecoverDB: c.dataDir(), RecoverUploads: c.uploads(), RecoverPort: c.port,
		RTO: "10m", RPO: "30s", FolderRPO: "2h", FolderEvery: "1h", MaxLag: "5s", Confirm: "1s", Unattended: true,
	}
	if change != nil {
		change(&v)
	}
	if c.w, err = Init(filepath.Join(dir, "ws"), InitOptions{Values: v}); err != nil {
		t.Fatal(err)
	}
	p := c.plan()
	for name := range p.Locations {
		if err := NewPlaces(p).Init(t.Context(), name, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (c *company) uploads() string          { return filepath.Join(c.dir, "uploads") }
func (c *company) dataDir() string          { return filepath.Join(c.dir, "pgdata") }
func (c *company) place(name string) string { return filepath.Join(c.dir, name) }

func (c *company) put(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.uploads(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *company) plan() *plan.Plan {
	c.t.Helper()
	p, err := plan.Load(c.w.Plan())
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *company) startDatabase() {
	c.t.Helper()
	ctx := c.t.Context()
	if err := postgres.Initdb(ctx, c.account, c.binDir, c.dataDir(), "--data-checksums"); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dataDir(), "pg_hba.conf"), []byte("local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	var err error
	if c.server, err = postgres.StartServer(ctx, c.account, postgres.ServerConfig{BinDir: c.binDir, DataDir: c.dataDir(), Port: c.port, Listen: "127.0.0.1"}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := c.server.Kill(); err != nil {
			c.t.Error(err)
		}
		if err := postgres.StopLeftover(context.Background(), c.dataDir()); err != nil {
			c.t.Error(err)
		}
	})
	for _, q := range []string{
		"CREATE ROLE holdfast LOGIN REPLICATION", "GRANT pg_monitor TO holdfast", "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'", "SELECT pg_reload_conf()",
		"CREATE TABLE orders (n bigint PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 100)",
	} {
		if _, err := c.server.Query(ctx, q); err != nil {
			c.t.Fatalf("%s: %v", q, err)
		}
	}
}

// open opens the product; nothing runs yet.
func (c *company) open() *App {
	c.t.Helper()
	a, err := Open(c.t.Context(), Options{Workspace: c.w, Log: slog.New(slog.NewTextHandler(testWriter{c.t}, nil))})
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// start opens and starts the product, and stops it at the end of the test.
func (c *company) start() *App {
	c.t.Helper()
	a := c.open()
	if err := a.Start(c.t.Context()); err != nil {
		c.t.Fatal(err, a.Stop())
	}
	c.t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			c.t.Error(err)
		}
	})
	return a
}

// testWriter passes a product's log on to the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// wait looks until a condition holds.
func (c *company) wait(what string, holds func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			c.t.Fatalf("waited %s for %s in vain", within, what)
		case <-look.C:
		}
	}
}

// backup makes a backup and waits until it is countersigned at each of the locations.
func (c *company) backup(a *App, store string, locations ...string) {
	c.t.Helper()
	ctx := c.t.Context()
	asked, err := a.Backup(ctx, store, "test")
	if err != nil {
		c.t.Fatal(err)
	}
	j, err := a.Jobs.Wait(ctx, asked.Job)
	if err != nil || j.State != "done" {
		c.t.Fatalf("backup of %s: %s %s %v", store, j.State, j.Error, err)
	}
	for _, l := range locations {
		c.received(a, store, l)
	}
}

// received waits until the newest snapshot of a store is countersigned at a location.
func (c *company) received(a *App, store, location string) {
	c.t.Helper()
	c.wait("the receipt of "+store+" at "+location, func() bool {
		copies, err := a.Backups.Copies(c.t.Context(), store)
		if err != nil {
			c.t.Fatal(err)
		}
		var newest time.Time
		for _, cp := range copies {
			if cp.Created.After(newest) {
				newest = cp.Created
			}
		}
		for _, cp := range copies {
			if cp.Location == location && cp.Created.Equal(newest) && !cp.Received.IsZero() {
				return true
			}
		}
		return false
	})
}

// sql runs a statement on the database at its address, whoever started it.
func (c *company) sql(q string) {
	c.t.Helper()
	out, err := c.account.Command(c.t.Context(), filepath.Join(c.binDir, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", fmt.Sprint(c.port), "-U", "postgres", "-d", "postgres", "-c", q).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v: %s", q, err, out)
	}
}

// lose takes the folder away, as a dead disk does.
func (c *company) lose() {
	c.t.Helper()
	if err := os.RemoveAll(c.uploads()); err != nil {
		c.t.Fatal(err)
	}
}

// recovered waits until the only recovery has ended, and returns it.
func (c *company) recovered(a *App) (run recovery.Run) {
	c.t.Helper()
	c.wait("the recovery to end", func() bool {
		rs, err := a.Recoveries.List(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if len(rs) > 1 {
			c.t.Fatalf("%d recoveries of one loss", len(rs))
		}
		if len(rs) == 1 {
			run = rs[0]
		}
		return run.State == recovery.StateDone || run.State == recovery.StateFailed
	})
	if run.State != recovery.StateDone {
		c.t.Fatalf("recovery %s is %s: %+v", run.ID, run.State, run.Steps)
	}
	return run
}
