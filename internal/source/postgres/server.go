package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// Limits and waits around a server that we run.
const (
	maxSocketPath = 107             // bytes in a Unix socket address
	maxLogTail    = 1 << 20         // bytes of server log that are read for reasons
	localConnect  = 5 * time.Second // one attempt on a local socket
	readyPoll     = 20 * time.Millisecond
	killWait      = 20 * time.Second // for a server to be gone after SIGKILL
	defaultPort   = 5432
)

// A Runner makes commands that run as an account a PostgreSQL server accepts:
// never root. A sandbox is one.
type Runner interface {
	Command(ctx context.Context, name string, args ...string) *osexec.Cmd
}

// An owner can give files to the account of its commands. A Runner that is not
// one runs commands as ourselves.
type owner interface {
	Own(path string) error
}

// own gives path to the account of r's commands.
func own(r Runner, path string) error {
	if o, ok := r.(owner); ok {
		return o.Own(path)
	}
	return nil
}

// ServerConfig says how to start one server.
type ServerConfig struct {
	BinDir  string // folder of the postgres binary
	DataDir string

	// SocketDir holds the Unix socket, the log and the access rules of a private
	// server. Defaults to DataDir + ".run", or to a folder for temporary files
	// where that is too long for a socket address.
	SocketDir string

	Port    int               // defaults to 5432, which on a private socket disturbs nobody
	Options map[string]string // settings that win over every configuration file

	// Listen is the address for TCP connections. Empty makes the server private:
	// no TCP, and whoever can open the socket is let in, so that a restored
	// database can be asked without its passwords. The socket's folder is closed
	// to everyone but the server's account and root.
	Listen string

	// Users are tried in turn to connect. Defaults to "postgres".
	Users []string
}

// A Server is a PostgreSQL server that we started.
//
// Its methods may be called from several goroutines.
type Server struct {
	DataDir string

	cfg     ServerConfig
	runner  Runner
	version string // "15.18"
	logPath string
	logFrom int64 // where this start's log begins

	mu       sync.Mutex
	cmd      *osexec.Cmd
	done     chan struct{} // closed when the process has ended
	exit     error         // read after done
	user     string
	database string
}

// Initdb makes a new cluster in dir. opts are further arguments of initdb.
func Initdb(ctx context.Context, r Runner, binDir, dir string, opts ...string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := own(r, dir); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	args := append([]string{"-D", dir, "-U", "postgres", "--auth-local=peer", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C"}, opts...)
	out, err := r.Command(ctx, filepath.Join(binDir, "initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb %s: %w: %s", dir, err, lastLines(string(out), 3))
	}
	return nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// binVersion asks the binary for its version.
func binVersion(ctx context.Context, r Runner, binDir string) (text string, major, minor int, err error) {
	out, err := r.Command(ctx, filepath.Join(binDir, "postgres"), "-V").CombinedOutput()
	if err != nil {
		return "", 0, 0, fmt.Errorf("%s: %w: %s", filepath.Join(binDir, "postgres"), err, lastLines(string(out), 2))
	}
	m := versionText.FindStringSubmatch(string(out))
	if m == nil {
		return "", 0, 0, fmt.Errorf("%s says %q instead of its version", filepath.Join(binDir, "postgres"), strings.TrimSpace(string(out)))
	}
	text = m[1]
	major, _ = strconv.Atoi(m[1])
	if m[2] != "" {
		minor, _ = strconv.Atoi(m[2])
		text += "." + m[2]
	}
	return text, major, minor, nil
}

// binDirs are the places where distributions put servers; %d is the major version.
var binDirs = []string{
	"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin", "/usr/lib/postgresql%d/bin",
	"/usr/libexec/postgresql%d", "/opt/postgresql/%d/bin", "/usr/local/pgsql-%d/bin",
}

// plainDirs may hold any version.
var plainDirs = []string{"/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"}

// FindBinDir returns the folder of the installed server of a major version; 0
// means the newest.
func FindBinDir(major int) (string, error) {
	const newest, oldest = 30, 13
	for m := newest; m >= oldest; m-- {
		if major != 0 && m != major {
			continue
		}
		for _, pattern := range binDirs {
			dir := fmt.Sprintf(pattern, m)
			if executable(filepath.Join(dir, "postgres")) {
				return dir, nil
			}
		}
	}
	for _, dir := range plainDirs {
		out, err := osexec.Command(filepath.Join(dir, "postgres"), "-V").Output()
		if err != nil {
			continue
		}
		if m := versionText.FindStringSubmatch(string(out)); m != nil && (major == 0 || m[1] == strconv.Itoa(major)) {
			return dir, nil
		}
	}
	what := "PostgreSQL"
	pkg := "postgresql"
	if major != 0 {
		what = fmt.Sprintf("PostgreSQL %d", major)
		pkg = fmt.Sprintf("postgresql-%d", major)
	}
	return "", holdfast.WithHint(fmt.Errorf("no %s server is installed on this machine", what),
		"install it, for example: apt-get install %s", pkg)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// StartServer starts a server and waits until it answers. When it does not come
// up, the error says why in the server's own words. ctx bounds the start only:
// the server runs until Stop or Kill.
func StartServer(ctx context.Context, r Runner, cfg ServerConfig) (*Server, error) {
	s, err := launch(ctx, r, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.waitReady(ctx); err != nil {
		_ = s.Kill()
		return nil, err
	}
	return s, nil
}

// launch starts the process and does not wait for it to answer.
func launch(ctx context.Context, r Runner, cfg ServerConfig) (*Server, error) {
	if cfg.Port == 0 {
		cfg.Port = defaultPort
	}
	if len(cfg.Users) == 0 {
		cfg.Users = []string{"postgres"}
	}
	version, _, _, err := binVersion(ctx, r, cfg.BinDir)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := prepareSocketDir(r, &cfg); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s := &Server{DataDir: cfg.DataDir, cfg: cfg, runner: r, version: version, logPath: filepath.Join(cfg.SocketDir, "server.log")}
	if err := s.spawn(ctx); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s, nil
}

// prepareSocketDir makes the folder for socket, log and access rules.
func prepareSocketDir(r Runner, cfg *ServerConfig) error {
	name := fmt.Sprintf("/.s.PGSQL.%d", cfg.Port)
	if cfg.SocketDir == "" {
		cfg.SocketDir = cfg.DataDir + ".run"
		if len(cfg.SocketDir)+len(name) > maxSocketPath {
			dir, err := os.MkdirTemp("", "holdfast-run-")
			if err != nil {
				return err
			}
			cfg.SocketDir = dir
		}
	}
	if len(cfg.SocketDir)+len(name) > maxSocketPath {
		return holdfast.WithHint(fmt.Errorf("folder %q is too long for a socket address (%d bytes at most)", cfg.SocketDir, maxSocketPath-len(name)),
			"choose a shorter path")
	}
	if err := os.MkdirAll(cfg.SocketDir, 0o700); err != nil {
		return err
	}
	if cfg.Listen == "" {
		// Who may open the socket is decided by the folder's mode.
		if err := os.Chmod(cfg.SocketDir, 0o700); err != nil {
			return err
		}
		rules := "# written by holdfast for a private server\nlocal all all trust\nlocal replication all trust\n"
		if err := os.WriteFile(filepath.Join(cfg.SocketDir, "hba.conf"), []byte(rules), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cfg.SocketDir, "ident.conf"), nil, 0o600); err != nil {
			return err
		}
	}
	return own(r, cfg.SocketDir)
}

// args are the server's arguments. Settings are sorted so that a start is the
// same each time.
func (s *Server) args() []string {
	set := map[string]string{
		"data_directory":          s.cfg.DataDir, // a copied configuration may name production's folder
		"unix_socket_directories": s.cfg.SocketDir,
		"port":                    strconv.Itoa(s.cfg.Port),
		"listen_addresses":        s.cfg.Listen,
		"external_pid_file":       filepath.Join(s.cfg.SocketDir, "external.pid"), // not where production has its own
		"logging_collector":       "off",                                          // FATAL lines must come where we read them
		"log_destination":         "stderr",
		"log_line_prefix":         "%m [%p] ",
		"lc_messages":             "C",
	}
	if s.cfg.Listen == "" {
		set["hba_file"] = filepath.Join(s.cfg.SocketDir, "hba.conf")
		set["ident_file"] = filepath.Join(s.cfg.SocketDir, "ident.conf")
		set["ssl"] = "off" // there is no TCP, and the certificates may be elsewhere
		set["unix_socket_permissions"] = "0777"
		set["unix_socket_group"] = ""
	}
	maps.Copy(set, s.cfg.Options)
	args := []string{"-D", s.cfg.DataDir}
	// Empty settings come first: the server refuses a second recovery target, even an
	// empty one, once one is set; but an empty one keeps a file from setting it.
	keys := slices.SortedFunc(maps.Keys(set), func(a, b string) int {
		return cmp.Or(cmp.Compare(min(len(set[a]), 1), min(len(set[b]), 1)), cmp.Compare(a, b))
	})
	for _, k := range keys {
		args = append(args, "-c", k+"="+set[k])
	}
	return args
}

func (s *Server) spawn(ctx context.Context) error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own copy
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if err := own(s.runner, s.logPath); err != nil {
		return err
	}
	cmd := s.runner.Command(context.WithoutCancel(ctx), filepath.Join(s.cfg.BinDir, "postgres"), s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.logFrom, s.cmd, s.done, s.exit = info.Size(), cmd, done, nil
	s.mu.Unlock()
	go func() { // owned by Stop and Kill, which wait for done
		err := cmd.Wait()
		s.mu.Lock()
		s.exit = err
		s.mu.Unlock()
		close(done)
	}()
	return nil
}

// waitReady waits until the server takes connections, or has ended.
func (s *Server) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		ok, err := s.tryConnect(ctx)
		if ok {
			return nil
		}
		select {
		case <-s.ended():
			return s.failure("PostgreSQL did not start")
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL in %s did not answer: %w (last: %w)", s.DataDir, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// tryConnect looks whether the server lets somebody in, and remembers whom. On a
// server with its own access rules a refused password is an answer, too.
func (s *Server) tryConnect(ctx context.Context) (bool, error) {
	var last error
	for _, user := range s.cfg.Users {
		for _, database := range []string{"postgres", "template1"} {
			conn, err := s.connect(ctx, user, database)
			if err == nil {
				user = superuser(ctx, conn, user)
				_ = conn.Close(ctx)
				s.mu.Lock()
				s.user, s.database = user, database
				s.mu.Unlock()
				return true, nil
			}
			last = err
			var pe *pgconn.PgError
			if !errors.As(err, &pe) {
				return false, err // no socket yet
			}
			if pe.Code == "57P03" { // cannot_connect_now: starting up
				return false, err
			}
			if s.cfg.Listen != "" && strings.HasPrefix(pe.Code, "28") {
				return true, nil
			}
		}
	}
	return false, last
}

// superuser returns the name of the cluster's first superuser, which may have
// been renamed; its object id never changes.
func superuser(ctx context.Context, conn *pgconn.PgConn, fallback string) string {
	rows, err := queryConn(ctx, conn, "SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10")
	if err != nil || len(rows) != 1 {
		return fallback
	}
	return rows[0][0]
}

func (s *Server) connect(ctx context.Context, user, database string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(s.connString(user, database))
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = localConnect
	cfg.Fallbacks = nil
	return pgconn.ConnectConfig(ctx, cfg)
}

func (s *Server) connString(user, database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable passfile=/dev/null servicefile=/dev/null",
		quoteValue(s.cfg.SocketDir), s.cfg.Port, quoteValue(user), quoteValue(database))
}

// quoteValue writes a value for a keyword connection string.
func quoteValue(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// ConnString returns how to connect to the server over its socket.
func (s *Server) ConnString() string { return s.ConnStringTo("") }

// ConnStringTo is ConnString for another database.
func (s *Server) ConnStringTo(database string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := s.user
	if user == "" {
		user = s.cfg.Users[0]
	}
	if database == "" {
		database = s.database
	}
	if database == "" {
		database = "postgres"
	}
	return s.connString(user, database)
}

// Version returns the server's version, as in "15.18".
func (s *Server) Version() string { return s.version }

// Log returns the path of the server's log.
func (s *Server) Log() string { return s.logPath }

// Query runs one statement, or several, and returns the rows as text; NULL is "".
func (s *Server) Query(ctx context.Context, sql string) ([][]string, error) {
	return s.QueryIn(ctx, "", sql)
}

// QueryIn is Query in another database.
func (s *Server) QueryIn(ctx context.Context, database, sql string) ([][]string, error) {
	conn, err := pgconn.Connect(ctx, s.ConnStringTo(database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return queryConn(ctx, conn, sql)
}

// Value runs a statement that returns one row and one column.
func (s *Server) Value(ctx context.Context, sql string) (string, error) {
	rows, err := s.Query(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", fmt.Errorf("query %q returned %d rows, want one value", sql, len(rows))
	}
	return rows[0][0], nil
}

func queryConn(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, res := range results {
		for _, r := range res.Rows {
			row := make([]string, len(r))
			for i, v := range r {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// ended is closed when the process has ended.
func (s *Server) ended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// Ended is closed when the server's process has ended.
func (s *Server) Ended() <-chan struct{} { return s.ended() }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Signal(sig)
}

// Stop ends the server cleanly: sessions are broken off, everything is written. It
// fails when the server does not end before ctx does; the server then still runs.
func (s *Server) Stop(ctx context.Context) error {
	select {
	case <-s.ended():
		return s.stopped()
	default:
	}
	if err := s.signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-s.ended():
		return s.stopped()
	case <-ctx.Done():
		return fmt.Errorf("stop PostgreSQL: %w", context.Cause(ctx))
	}
}

// stopped tells a clean end from any other by what the log says, not by the exit
// status alone.
func (s *Server) stopped() error {
	s.mu.Lock()
	exit := s.exit
	s.mu.Unlock()
	if exit == nil && strings.Contains(s.logTail(), "database system is shut down") {
		return nil
	}
	return s.failure("PostgreSQL did not stop cleanly")
}

// Kill ends the server as a power failure would.
func (s *Server) Kill() error {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	default:
	}
	// The server's children notice that it is gone and end by themselves.
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("kill PostgreSQL: process %d does not end", cmd.Process.Pid)
	}
}

// Start starts a stopped server again, as it was configured.
func (s *Server) Start(ctx context.Context) error {
	select {
	case <-s.ended():
	default:
		return errors.New("start PostgreSQL: it is running")
	}
	if err := s.spawn(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.waitReady(ctx)
}

// Promote ends recovery and waits until the server accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	const waitSeconds = 600
	rows, err := s.Query(ctx, fmt.Sprintf("SELECT pg_catalog.pg_promote(true, %d)", waitSeconds))
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if len(rows) != 1 || rows[0][0] != "t" {
		return fmt.Errorf("promote: not done after %d seconds", waitSeconds)
	}
	in, err := s.Value(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if in != "f" {
		return errors.New("promote: the server says that it is still in recovery")
	}
	return nil
}

// logTail returns the end of the log of the latest start.
func (s *Server) logTail() string {
	f, err := os.Open(s.logPath)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	s.mu.Lock()
	from := s.logFrom
	s.mu.Unlock()
	from = max(from, info.Size()-maxLogTail)
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxLogTail))
	if err != nil {
		return ""
	}
	return string(b)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "; ")
}
