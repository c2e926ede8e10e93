package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast"
	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

// A world is the small company around the product: its database, folder, services
// and users.
type world struct {
	dir      string
	binDir   string
	account  *sandbox.Account
	port     int
	password string
	server   *postgres.Server
	services *http.Server
	listener net.Listener
	stopped  int // a process of the database that stands still on request
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	rows  []stamped // acknowledged by the database
	files []stamped // synced to the folder
}

// stamped is something that was acknowledged, and when.
type stamped struct {
	n  int
	at time.Time
}

// The database's users: one that owns the data, one that may only replicate.
const (
	dbName  = "acme"
	appUser = "acme"
	repUser = "holdfast"
)

func newWorld(ctx context.Context, dir string) (*world, error) {
	w := &world{dir: dir}
	var err error
	if w.binDir, err = postgres.FindBinDir(0); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("the demo needs a PostgreSQL server on this machine: %w", err), "apt-get install postgresql, or \"make demo\", which does")
	}
	if w.account, err = sandbox.Unprivileged(ctx, ""); err != nil {
		return nil, err
	}
	if w.port, err = freePort(); err != nil {
		return nil, err
	}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails: the runtime ends the program instead
	w.password = hex.EncodeToString(secret[:])
	return w, os.WriteFile(w.passwordFile(), []byte(w.password+"\n"), 0o600)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (w *world) dataDir() string      { return filepath.Join(w.dir, "pgdata") }
func (w *world) uploads() string      { return filepath.Join(w.dir, "uploads") }
func (w *world) passwordFile() string { return filepath.Join(w.dir, "db-password") }
func (w *world) url(path string) string {
	return "http://" + w.listener.Addr().String() + path
}

// dsn is the connection string of the plan: no password in it.
func (w *world) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s", w.port, repUser, dbName)
}

func (w *world) version() string { return w.server.Version() }

// start makes the database and sets everybody to work.
func (w *world) start(ctx context.Context) error {
	if err := w.account.Reach(w.dir); err != nil {
		return err
	}
	if err := postgres.Initdb(ctx, w.account, w.binDir, w.dataDir(), "--data-checksums"); err != nil {
		return err
	}
	if err := w.roles(ctx); err != nil {
		return err
	}
	var err error
	if w.server, err = postgres.StartServer(ctx, w.account, postgres.ServerConfig{BinDir: w.binDir, DataDir: w.dataDir(), Port: w.port, Listen: "127.0.0.1"}); err != nil {
		return err
	}
	if err := os.MkdirAll(w.uploads(), 0o755); err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	w.wg.Go(func() { w.write(work) })
	w.wg.Go(func() { w.upload(work) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/healthz", w.apiHealth)
	mux.HandleFunc("GET /web/healthz", w.webHealth)
	w.services = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	w.wg.Go(func() { _ = w.services.Serve(w.listener) }) // ends with stop
	return nil
}

// roles sets the database up behind a private socket, before anybody else can
// reach it.
func (w *world) roles(ctx context.Context) error {
	srv, err := postgres.StartServer(ctx, w.account, postgres.ServerConfig{BinDir: w.binDir, DataDir: w.dataDir(), Port: w.port})
	if err != nil {
		return err
	}
	for _, q := range []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", appUser, w.password),
		fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD '%s'", repUser, w.password),
		fmt.Sprintf("GRANT pg_monitor TO %s", repUser),
		"ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'", // kept log must not fill a disk
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", dbName, appUser),
	} {
		if _, err := srv.Query(ctx, q); err != nil {
			return errors.Join(err, srv.Stop(ctx))
		}
	}
	if _, err := srv.QueryIn(ctx, dbName, "CREATE TABLE orders (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), what text NOT NULL)"); err != nil {
		return errors.Join(err, srv.Stop(ctx))
	}
	if _, err := srv.QueryIn(ctx, dbName, "ALTER TABLE orders OWNER TO "+appUser); err != nil {
		return errors.Join(err, srv.Stop(ctx))
	}
	return srv.Stop(ctx)
}

func (w *world) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s password=%s sslmode=disable", w.port, appUser, dbName, w.password))
}

// writeEvery is the pace of the company's customers.
const (
	writeEvery  = 20 * time.Millisecond
	uploadEvery = 200 * time.Millisecond
)

// write commits numbered rows, one at a time, and notes those that the database
// acknowledged. When it is gone it tries again, as an application does.
func (w *world) write(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for n := 1; pause(ctx, writeEvery); {
		if conn == nil || conn.IsClosed() {
			c, err := w.connect(ctx)
			if err != nil {
				continue
			}
			conn = c
		}
		// After a reconnection the last number may have been committed without
		// the acknowledgement having reached us, so numbers are never used twice.
		qctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := conn.Exec(qctx, "INSERT INTO orders (n, what) VALUES ($1, $2)", n, "order "+strconv.Itoa(n))
		cancel()
		if err == nil {
			w.mu.Lock()
			w.rows = append(w.rows, stamped{n, time.Now()})
			w.mu.Unlock()
		} else {
			conn.Close(context.WithoutCancel(ctx))
		}
		n++
	}
}

// upload writes numbered files and notes those that are on disk.
func (w *world) upload(ctx context.Context) {
	for n := 1; pause(ctx, uploadEvery); n++ {
		if err := writeSynced(filepath.Join(w.uploads(), fmt.Sprintf("upload-%06d.txt", n)), strings.Repeat(fmt.Sprintf("upload %d\n", n), 100)); err != nil {
			continue
		}
		w.mu.Lock()
		w.files = append(w.files, stamped{n, time.Now()})
		w.mu.Unlock()
	}
}

// writeSynced writes a file into a folder that is there; it makes no folder.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, werr := f.WriteString(text)
	return errors.Join(werr, f.Sync(), f.Close())
}

// pause waits; false means that it is over.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// acknowledged returns what the company believes to be safe.
func (w *world) acknowledged() (rows, files []stamped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.rows), slices.Clone(w.files)
}

// apiHealth is the api's own view of itself: it needs the database and the folder.
func (w *world) apiHealth(rw http.ResponseWriter, r *http.Request) {
	conn, err := w.connect(r.Context())
	if err == nil {
		defer conn.Close(r.Context())
		var n int
		if err = conn.QueryRow(r.Context(), "SELECT count(*) FROM orders").Scan(&n); err == nil && n == 0 {
			err = errors.New("no orders")
		}
	}
	if es, derr := os.ReadDir(w.uploads()); err == nil && (derr != nil || len(es) == 0) {
		err = errors.Join(errors.New("no uploads"), derr)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(rw, "ok")
}

// webHealth is the web's view: it needs the api.
func (w *world) webHealth(rw http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, w.url("/api/healthz"), nil)
	if err == nil {
		var res *http.Response
		if res, err = http.DefaultClient.Do(req); err == nil {
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("the api answers %d", res.StatusCode)
			}
		}
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(rw, "ok")
}

// destroy takes the near location away, removes the folder, kills the database and
// removes its files. It returns the instant at which it began.
func (w *world) destroy(near string) (time.Time, error) {
	at := time.Now()
	// Renamed first: the company goes on writing into the folder until it is gone.
	gone := w.uploads() + ".gone"
	if err := errors.Join(os.Rename(near, near+".unplugged"), os.Rename(w.uploads(), gone), os.RemoveAll(gone)); err != nil {
		return at, err
	}
	if err := w.kill(); err != nil {
		return at, err
	}
	gone = w.dataDir() + ".gone" // its children may write for a moment longer
	return at, errors.Join(os.Rename(w.dataDir(), gone), removeAll(gone))
}

// removeAll removes a directory that others may still write into for a moment.
func removeAll(dir string) (err error) {
	for range 100 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// kill ends the first database as the loss of its machine would: also a process of
// it that stands still on request.
func (w *world) kill() error {
	if w.server == nil {
		return nil
	}
	err := w.server.Kill()
	w.server = nil
	if w.stopped != 0 {
		err = errors.Join(err, syscall.Kill(w.stopped, syscall.SIGKILL))
		w.stopped = 0
	}
	return err
}

// count compares what was acknowledged before the disaster with what is there now.
func (w *world) count(ctx context.Context, killed time.Time, res *Result) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	there := map[int]bool{}
	rows, err := conn.Query(ctx, "SELECT n FROM orders")
	if err != nil {
		return err
	}
	ns, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	for _, n := range ns {
		there[n] = true
	}
	acked, files := w.acknowledged()
	lost := missing(acked, killed, func(n int) bool { return there[n] })
	res.RowsAcknowledged = before(acked, killed)
	res.RowsLost = len(lost)
	res.RowsRecovered = res.RowsAcknowledged - len(lost)
	res.RPO = span(lost, killed)
	lost = missing(files, killed, func(n int) bool {
		_, err := os.Stat(filepath.Join(w.uploads(), fmt.Sprintf("upload-%06d.txt", n)))
		return err == nil
	})
	res.FilesAcknowledged, res.FilesLost, res.FilesRPO = before(files, killed), len(lost), span(lost, killed)
	return nil
}

func before(all []stamped, t time.Time) (n int) {
	for _, s := range all {
		if s.at.Before(t) {
			n++
		}
	}
	return n
}

func missing(all []stamped, t time.Time, there func(int) bool) (lost []stamped) {
	for _, s := range all {
		if s.at.Before(t) && !there(s.n) {
			lost = append(lost, s)
		}
	}
	return lost
}

// span is how far before the disaster the loss begins: 0 if nothing was lost.
func span(lost []stamped, killed time.Time) float64 {
	var d time.Duration
	for _, s := range lost {
		d = max(d, killed.Sub(s.at))
	}
	return d.Seconds()
}

// wait looks until a condition holds, for as long as it may take.
func (w *world) wait(ctx context.Context, what string, within time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !holds() {
		if !pause(ctx, lookEvery) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waited %s for %s in vain", holdfast.FormatDuration(within), what)
			}
			return ctx.Err()
		}
	}
	return nil
}

// stop ends the company: users, services, and the database, whoever started it.
func (w *world) stop(ctx context.Context) error {
	if w.cancel != nil {
		w.cancel()
	}
	if w.services != nil {
		_ = w.services.Close()
	}
	w.wg.Wait()
	var errs []error
	errs = append(errs, w.kill())
	errs = append(errs, postgres.StopLeftover(ctx, w.dataDir()))
	return errors.Join(errs...)
}
