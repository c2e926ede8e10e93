package test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source/postgres"
)

// killWithin bounds every wait of these tests: it is how long something that
// happens by itself may take on a slow machine.
const killWithin = 2 * time.Minute

// A killWorld is a company with a database, a folder, and a Holdfast server that
// runs as a process of its own.
type killWorld struct {
	t       *testing.T
	bin     string
	dir     string
	binDir  string
	port    int
	account *sandbox.Account
	engine  *postgres.Server // the first one; later ones belong to the product
	ws      app.Workspace
	plan    *plan.Plan
	state   string // where the state is kept; "" for the workspace's file

	server *killServer
	api    *api.Client
	began  time.Time

	stopWriter context.CancelFunc
	writer     sync.WaitGroup
	mu         sync.Mutex
	acked      []killRow
}

// A killRow is a row that the database acknowledged: it was committed at some instant
// between the two.
type killRow struct {
	n           int
	sent, acked time.Time
}

// A killServer is one life of "holdfast serve".
type killServer struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended
	log  *os.File
	page string // address of the web page
}

func newKillWorld(t *testing.T, state string) *killWorld {
	t.Helper()
	w := &killWorld{t: t, bin: binary, state: state, began: time.Now()}
	var err error
	if w.dir, err = os.MkdirTemp("", "hf-kill-"); err != nil { // short: a socket's address is in it
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if w.binDir, err = postgres.FindBinDir(0); err != nil {
		t.Fatalf("these tests need a PostgreSQL server on this machine: %v", err)
	}
	if w.account, err = sandbox.Unprivileged(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if w.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	w.startDatabase()
	w.write(filepath.Join(w.uploads(), "first.txt"), strings.Repeat("first\n", 1000))
	w.workspace()
	w.startWriter()
	return w
}

func (w *killWorld) dataDir() string { return filepath.Join(w.dir, "pgdata") }
func (w *killWorld) uploads() string { return filepath.Join(w.dir, "uploads") }
func (w *killWorld) location(name string) string {
	return filepath.Join(w.dir, name)
}

func (w *killWorld) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

const killTable = `CREATE TABLE orders (n bigint PRIMARY KEY, what text NOT NULL);
	CREATE TABLE bulk AS SELECT i, md5(i::text) || repeat('x', 200) AS t FROM generate_series(1, 60000) i`

func (w *killWorld) startDatabase() {
	w.t.Helper()
	ctx := w.t.Context()
	if err := postgres.Initdb(ctx, w.account, w.binDir, w.dataDir(), "--data-checksums"); err != nil {
		w.t.Fatal(err)
	}
	hba := filepath.Join(w.dataDir(), "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.engine, err = postgres.StartServer(ctx, w.account, postgres.ServerConfig{BinDir: w.binDir, DataDir: w.dataDir(), Port: w.port, Listen: "127.0.0.1"}); err != nil {
		w.t.Fatal(err)
	}
	w.sql("CREATE ROLE holdfast LOGIN REPLICATION; GRANT pg_monitor TO holdfast")
	w.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
	w.sql("SELECT pg_reload_conf()")
	w.sql(killTable)
}

func (w *killWorld) dsn(user string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable connect_timeout=5", w.port, user)
}

func (w *killWorld) sql(q string) [][]string {
	w.t.Helper()
	rows, err := w.query(q)
	if err != nil {
		w.t.Fatalf("%s: %v", q, err)
	}
	return rows
}

func (w *killWorld) query(q string) (rows [][]string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, w.dsn("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, q).ReadAll()
	for _, r := range results {
		for _, values := range r.Rows {
			var row []string
			for _, v := range values {
				row = append(row, string(v))
			}
			rows = append(rows, row)
		}
	}
	return rows, err
}

// workspace makes the plan and the repositories as a person does.
func (w *killWorld) workspace() {
	w.t.Helper()
	var err error
	if w.ws, err = app.Init(filepath.Join(w.dir, "ws"), app.InitOptions{Values: plan.Values{
		ID: "killed", Near: w.location("near"), Offsite: w.location("offsite"), NearDomain: "a", OffsiteDomain: "b",
		DSN: w.dsn("holdfast"), BinDir: w.binDir, Uploads: w.uploads(), RecoverDB: w.dataDir(), RecoverUploads: w.uploads(), RecoverPort: w.port,
		RTO: "10m", RPO: "30s", FolderRPO: "2h", FolderEvery: "1h", MaxLag: "5s", Confirm: "1s", Unattended: true,
		InvariantSQL: "select count(*) from orders", InvariantExpect: "value > 0",
	}}); err != nil {
		w.t.Fatal(err)
	}
	if w.plan, err = plan.Load(w.ws.Plan()); err != nil {
		w.t.Fatal(err)
	}
	w.api = api.NewClient(w.ws.Socket())
	if out, status := w.cli("location", "init", "--all"); status != 0 {
		w.t.Fatalf("location init: status %d: %s", status, out)
	}
}

func (w *killWorld) args(args ...string) []string {
	out := []string{"--dir", w.ws.Dir}
	if w.state != "" {
		out = append(out, "--state", w.state)
	}
	return append(out, args...)
}

// cli runs one command to its end.
func (w *killWorld) cli(args ...string) (out string, status int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.bin, w.args(args...)...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// serve starts the server and waits until it answers.
func (w *killWorld) serve() {
	w.t.Helper()
	s := &killServer{done: make(chan struct{})}
	var err error
	if s.log, err = os.OpenFile(filepath.Join(w.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		w.t.Fatal(err)
	}
	s.cmd = exec.Command(w.bin, w.args("serve", "--listen", "127.0.0.1:0")...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(out)
		in.Scan()
		first <- in.Text()
		for in.Scan() {
		}
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	w.server = s
	select {
	case line := <-first:
		if !strings.Contains(line, "http://") {
			<-s.done
			w.t.Fatalf("the server said %q instead of its address and ended: %v\n%s", line, s.err, w.log())
		}
		s.page = line[strings.Index(line, "http://"):]
	case <-time.After(killWithin):
		w.t.Fatalf("the server did not come up\n%s", w.log())
	}
}

// end ends one life of the server with a signal.
func (w *killWorld) endServer(sig os.Signal) error {
	w.t.Helper()
	s := w.server
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.t.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(killWithin):
		w.t.Fatalf("the server did not end after %v", sig)
	}
	s.log.Close()
	w.server = nil
	return s.err
}

// log is the end of what the servers wrote.
func (w *killWorld) log() string {
	b, _ := os.ReadFile(filepath.Join(w.dir, "serve.log"))
	if len(b) > 8000 {
		b = b[len(b)-8000:]
	}
	return string(b)
}

func (w *killWorld) end() {
	if w.server != nil {
		_ = w.server.cmd.Process.Kill()
		<-w.server.done
	}
	for _, pid := range killPostmasters(w.dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if w.stopWriter != nil {
		w.stopWriter()
		w.writer.Wait()
	}
	if w.t.Failed() {
		w.t.Logf("what is left to look at: %s\nthe servers' log ends with:\n%s", w.dir, w.log())
		return
	}
	w.wait("the database's processes to be gone", func() bool { return len(killPostmasters(w.dir)) == 0 })
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
	if err := os.RemoveAll(w.boxes()); err != nil {
		w.t.Error(err)
	}
}

// boxes is where the server makes its sandboxes.
func (w *killWorld) boxes() string {
	h := seal.Hash([]byte(w.ws.Dir))
	return filepath.Join(os.TempDir(), "holdfast-drills-"+hex.EncodeToString(h[:6]))
}

// startWriter commits numbered rows and notes what was acknowledged. It goes on for
// ever, as customers do, and tries again when the database is away.
func (w *killWorld) startWriter() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stopWriter = cancel
	w.writer.Go(func() {
		var conn *pgconn.PgConn
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				if conn != nil {
					conn.Close(context.WithoutCancel(ctx))
				}
				return
			case <-time.After(10 * time.Millisecond):
			}
			if conn == nil || conn.IsClosed() {
				c, err := pgconn.Connect(ctx, w.dsn("postgres"))
				if err != nil {
					continue
				}
				conn = c
			}
			sent := time.Now()
			qctx, stop := context.WithTimeout(ctx, 10*time.Second)
			_, err := conn.Exec(qctx, "INSERT INTO orders VALUES ("+strconv.Itoa(n)+", 'order')").ReadAll()
			stop()
			if err != nil {
				conn.Close(context.WithoutCancel(ctx))
				continue
			}
			w.mu.Lock()
			w.acked = append(w.acked, killRow{n, sent, time.Now()})
			w.mu.Unlock()
		}
	})
}

func (w *killWorld) acknowledged() []killRow {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.acked)
}

// rows are what the database holds now.
func (w *killWorld) rows() map[int]bool {
	w.t.Helper()
	there := map[int]bool{}
	for _, r := range w.sql("SELECT n FROM orders") {
		n, err := strconv.Atoi(r[0])
		if err != nil {
			w.t.Fatal(err)
		}
		there[n] = true
	}
	return there
}

// wait looks until a condition holds.
func (w *killWorld) wait(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(killWithin)
	defer deadline.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	began := time.Now()
	defer func() {
		if took := time.Since(began); took > 5*time.Second {
			w.t.Logf("%6.1fs waited %s for %s", time.Since(w.began).Seconds(), took.Round(time.Millisecond), what)
		}
	}()
	for !holds() {
		select {
		case <-deadline.C:
			w.t.Fatalf("waited %s for %s in vain", killWithin, what)
		case <-look.C:
		}
	}
}

// settled waits for the end of a job.
func (w *killWorld) settled(id int64) (j job.Job) {
	w.t.Helper()
	w.wait(fmt.Sprintf("job %d to end", id), func() bool {
		var err error
		j, err = w.api.Job(w.t.Context(), id)
		return err == nil && j.State.Finished()
	})
	return j
}

// backup asks for a backup and does not wait for it.
func (w *killWorld) backup(store string) int64 {
	w.t.Helper()
	asked, err := w.api.Backup(w.t.Context(), store, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	return asked.Job
}

// facts reads the whole ledger, past the server.
func (w *killWorld) facts() (all []ledger.Fact) {
	w.t.Helper()
	ctx := w.t.Context()
	dsn := w.state
	if dsn == "" {
		dsn = "sqlite:" + w.ws.Database()
	}
	d, err := db.Open(ctx, dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	err = d.View(ctx, func(tx *db.Tx) error {
		leaves, err := db.Collect(func(r *sql.Rows) (b []byte, err error) { return b, r.Scan(&b) })(tx.Query(ctx, "SELECT bytes FROM ledger_leaf ORDER BY idx"))
		for _, b := range leaves {
			f, err := ledger.ParseLeaf(b)
			if err != nil {
				return err
			}
			all = append(all, f)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// repository opens a location as somebody who only has the plan does.
func (w *killWorld) repository(name string) *repo.Repository {
	w.t.Helper()
	r, err := app.NewPlaces(w.plan).Open(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// killPostmasters lists the database servers whose data directory is below dir. Their
// sessions are children that look the same until they have named themselves.
func killPostmasters(dir string) (pids []int) {
	servers := map[int]int{} // to their parents
	for _, p := range killProcesses() {
		if strings.HasPrefix(p.cwd, dir+"/") && filepath.Base(p.args[0]) == "postgres" {
			servers[p.pid] = p.parent
		}
	}
	for pid, parent := range servers {
		if _, child := servers[parent]; !child {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A killProcess is what /proc says of one process.
type killProcess struct {
	pid    int
	args   []string
	cwd    string
	env    []byte
	parent int
}

// killProcesses lists the live processes.
func killProcesses() (all []killProcess) {
	es, _ := os.ReadDir("/proc")
	for _, e := range es {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		proc := filepath.Join("/proc", e.Name())
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		p := killProcess{pid: pid}
		for _, a := range bytes.Split(bytes.TrimRight(line, "\x00"), []byte{0}) {
			p.args = append(p.args, string(a))
		}
		p.cwd, _ = os.Readlink(filepath.Join(proc, "cwd"))
		p.env, _ = os.ReadFile(filepath.Join(proc, "environ"))
		stat, _ := os.ReadFile(filepath.Join(proc, "stat"))
		// After the name, which may hold anything: the state, then the parent.
		if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 1 {
			p.parent, _ = strconv.Atoi(f[1])
		}
		all = append(all, p)
	}
	return all
}

func (w *killWorld) manifests(location, scope string) []*repo.Manifest {
	w.t.Helper()
	ms, err := w.repository(location).Manifests(w.t.Context(), scope)
	if err != nil {
		w.t.Fatal(err)
	}
	return ms
}

// maxSearched is the size of a file that is surely no key file: a pack, a table.
const maxSearched = 256 << 10

// holding lists the files below dir, except large ones, that contain text.
func holding(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we looked
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() > maxSearched {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
