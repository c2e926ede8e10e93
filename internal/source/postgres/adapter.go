package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/source"
)

// A Store is a cluster as the modules see it: the source.Store of kind postgres.
type Store struct {
	*Source
	cfg StoreConfig
	// within is how long a base backup waits for the log stream: streamWithin, but in tests.
	within time.Duration

	mu     sync.Mutex
	places map[string]Frontier // of the running stream
	ended  error               // why the last stream gave up; nil while one runs
}

var (
	_ source.Store    = (*Store)(nil)
	_ source.Streamer = (*Store)(nil)
	_ source.Server   = (*Store)(nil)
)

// StoreConfig is a Config with what restores and the log need.
type StoreConfig struct {
	Config
	BinDir     string // of the server's programs; found by version if empty
	Durability string // when received log counts as safe; local if empty
	NoLog      bool   // nobody asked for the log to be followed: base backups are all there is
}

// Open returns the store. It does not connect.
func Open(cfg StoreConfig) (*Store, error) {
	s, err := New(cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Store{Source: s, cfg: cfg, within: streamWithin, places: map[string]Frontier{}}, nil
}

// WithPassword adds a password to a connection string.
func WithPassword(dsn, password string) (string, error) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		c, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return "", err
		}
		if c.Password != "" {
			return "", errors.New("the connection string has a password already")
		}
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		return dsn + sep + "password=" + urlEscape(password), nil
	}
	return dsn + " password=" + quoteValue(password), nil
}

// urlEscape escapes a value for the query of a connection URL.
func urlEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Windows lists to which instants a location can bring the store back.
func (s *Store) Windows(ctx context.Context, r *repo.Repository) ([]holdfast.Window, error) {
	return s.offered(Points(ctx, r, s.cfg.Store))
}

// WindowsRead is Windows after all of the log was read, so that no damaged span is
// offered.
func (s *Store) WindowsRead(ctx context.Context, r *repo.Repository) ([]holdfast.Window, error) {
	return s.offered(PointsRead(ctx, r, s.cfg.Store))
}

func (s *Store) offered(ws []holdfast.Window, err error) ([]holdfast.Window, error) {
	var out []holdfast.Window
	for _, w := range ws {
		if s.cfg.NoLog && w.Hole == baseOnly {
			w.Hole = "" // as it was asked for
		}
		if !w.To.IsZero() { // a window without times only says why there is none
			out = append(out, w)
		}
	}
	if len(out) > 0 {
		return out, nil // what is damaged beside them is the business of verification
	}
	return nil, err
}

// MendedByBackup: a slot that was lost or is nearly full is answered by a new base.
func (s *Store) MendedByBackup(f holdfast.Finding) bool { return f.Code == CodeSlotDanger }

// streamWithin bounds how long a base backup waits for the log stream, before it
// begins and before it counts.
const (
	streamWithin = 2 * time.Minute
	streamLook   = 50 * time.Millisecond
)

// Snapshot takes a base backup that the log stream covers: it begins when the
// stream runs, and ends when a place has the log up to the backup's end. So no
// instant between the first base and the first log is uncovered, and an idle
// database needs no segment switch (PostgreSQL rule 12).
//
// Where no place takes log for streamWithin, the base is made all the same and is
// source.ErrIncomplete: it comes back to its own end, and no loss exceeds the time between
// two bases, however long the log is broken.
func (s *Store) Snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error {
	if s.cfg.NoLog {
		return s.Source.Snapshot(ctx, w, progress)
	}
	var alone error
	if s.Source.cfg.Inbox == "" { // what is archived comes by whole segments: none need be here before
		alone = s.awaitStream(ctx, "before the base backup", func(f Frontier) bool { return f.LSN > 0 && f.Err == "" })
	}
	if alone != nil && !errors.Is(alone, source.ErrIncomplete) {
		return alone
	}
	if err := s.Source.Snapshot(ctx, w, progress); err != nil {
		return err
	}
	stop, err := ParseLSN(w.Label(LabelStop))
	if err != nil {
		return fmt.Errorf("end of the base backup: %w", err)
	}
	if alone != nil {
		return alone
	}
	return s.awaitStream(ctx, "up to the end of the base backup", func(f Frontier) bool { return f.LSN >= stop })
}

// An aloneError says that a base backup was made without a log that goes on from it.
type aloneError struct{ text string }

func (e *aloneError) Error() string { return e.text }

// Is makes it an incomplete snapshot: kept, and no success.
func (e *aloneError) Is(target error) bool { return target == source.ErrIncomplete }

// awaitStream waits until the log stream is far enough at every place that takes
// log now, and that is at least one.
func (s *Store) awaitStream(ctx context.Context, what string, far func(Frontier) bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	for {
		why := "nothing follows it"
		s.mu.Lock()
		if s.ended != nil {
			defer s.mu.Unlock()
			return s.ended
		}
		reached, behind := 0, 0
		for _, f := range s.places {
			switch {
			case far(f):
				reached++
			case f.Err != "":
				why = f.Err
			default:
				behind++
			}
		}
		s.mu.Unlock()
		if reached > 0 && behind == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return holdfast.WithHint(&aloneError{fmt.Sprintf("the log of %q is not in any location %s: %s", s.cfg.Store, what, why)},
					"the base backup is there and comes back to its own end, and what is written after it is nowhere; \"holdfast status\" shows the log, and the plan's \"log\" must be set")
			}
			return ctx.Err()
		case <-time.After(streamLook):
		}
	}
}

// Stream follows the log.
func (s *Store) Stream(ctx context.Context, cfg source.StreamConfig) (err error) {
	s.mu.Lock()
	s.ended = nil
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.places)
		if ctx.Err() == nil {
			s.ended = err
		}
	}()
	return s.Source.Stream(ctx, StreamConfig{
		Places: cfg.Places, Keys: repo.LogKeys{Recipients: cfg.Recipients, AllowOne: cfg.AllowOne, Signer: cfg.Signer}, Durability: s.cfg.Durability,
		Report: func(f Frontier) {
			if f.Place != "" { // the spool is on the machine that may burn
				s.mu.Lock()
				s.places[f.Place] = f
				s.mu.Unlock()
			}
			cfg.Report(f.shared())
		},
	})
}

// shared is the frontier in the words of all sources.
func (f Frontier) shared() source.Frontier {
	out := source.Frontier{Place: f.Place, Lineage: f.Lineage, Timeline: f.Timeline, Position: f.LSN, LastCommit: f.LastCommit, CaughtUp: f.CaughtUp, At: f.At, Err: f.Err}
	if f.Gap != nil {
		out.Gap = f.Gap.String()
	}
	return out
}

// Restore brings the cluster back: files, log, replay to the target, and on
// request a server that takes over.
func (s *Store) Restore(ctx context.Context, req source.Request) (source.Restored, error) {
	p, err := Plan(ctx, s.planned(req))
	if err != nil {
		return nil, err
	}
	got := &restored{plan: p, serving: req.Serve != nil, database: s.conn.Database, slot: s.Source.cfg.Slot}
	got.report = source.Report{Snapshot: p.Base.ID, Asked: req.Target, DataUntil: p.From}
	got.check(holdfast.L1, "log is continuous", "%d pieces from the base to the target, on %s, each abutting the one before", p.Pieces, p.Lineage)
	fetched, err := p.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	got.report.Files, got.report.Bytes, got.report.Fetch = fetched.Files, fetched.Bytes+fetched.LogBytes, fetched.Total
	got.report.Kept = fetched.Kept
	began := time.Now()
	compare := p.CompareWritten
	if req.FilesOnly || req.ReadBack {
		compare = p.CompareManifest // what the disk gives back, not what it was given
	}
	compared, err := compare(ctx)
	if err != nil {
		return nil, err
	}
	got.report.Checks = append(got.report.Checks, compared...)
	got.report.Verify = time.Since(began)
	if req.FilesOnly {
		got.report.Reached = "files and log of " + p.Base.ID + "; nothing was replayed"
		return got, nil
	}
	return got, got.replay(ctx, req)
}

// planned is the restore that a request asks for.
func (s *Store) planned(req source.Request) Restore {
	return Restore{Repo: req.Repo, Scope: s.cfg.Store, Identities: req.Identities, Target: req.Target, Dir: req.Dir, Runner: req.Runner,
		Delta: req.Delta, RemoveExtra: req.RemoveExtra,
		BinDir: s.cfg.BinDir, Workers: req.Workers, Progress: req.Progress, Snapshot: req.Snapshot, Clock: s.cfg.Clock}
}

// Delta says what a restore over what is in the directory would change, and changes
// nothing.
func (s *Store) Delta(ctx context.Context, req source.Request) (*Delta, error) {
	req.Delta = true
	p, err := Plan(ctx, s.planned(req))
	if err != nil {
		return nil, err
	}
	return p.Delta(ctx)
}

// A restored is what Restore gives back.
type restored struct {
	plan     *RestorePlan
	server   *Server
	serving  bool
	slot     string
	database string // that the plan's connection string names
	report   source.Report
}

func (g *restored) check(r holdfast.Rung, name, format string, args ...any) {
	g.report.Checks = append(g.report.Checks, holdfast.Check{Rung: r, Name: name, Outcome: holdfast.Passed, Grade: holdfast.Proved, Detail: fmt.Sprintf(format, args...)})
}

func (g *restored) replay(ctx context.Context, req source.Request) error {
	srv, stats, err := g.plan.Replay(ctx)
	if err != nil {
		return err
	}
	g.server = srv
	g.report.Replay = stats.Replay + stats.FirstQuery
	g.report.Reached = "LSN " + stats.Reached
	if !stats.LastCommit.IsZero() {
		g.report.DataUntil = stats.LastCommit
		g.report.Reached += ", last commit " + stats.LastCommit.UTC().Format("2006-01-02 15:04:05.000000Z")
	}
	switch req.Target.Kind {
	case holdfast.TargetTime: // the replay stopped before the first commit after it
		g.report.Complete = req.Target.Time
	case holdfast.TargetLatest:
		g.report.Complete = g.plan.To
	}
	g.check(holdfast.L4, "engine started and target reached", "PostgreSQL %s, asked for %s, reached %s in %s", srv.Version(), req.Target, g.report.Reached, holdfast.FormatDuration(g.report.Replay))
	if err := g.plan.Clean(); err != nil {
		return errors.Join(err, srv.Kill())
	}
	if req.Serve == nil {
		return nil
	}
	return g.takeOver(ctx, req)
}

// takeOver ends the private server and starts the one that others reach.
//
// A crash in between leaves a cleanly stopped, promoted cluster. Before Ready the
// caller begins again; after it, Resume starts the server.
func (g *restored) takeOver(ctx context.Context, req source.Request) error {
	private := g.server
	g.server = nil
	// The slot comes first: the restart would let the log go that begins at the
	// fork, and what is written until the next base would be in no location.
	if _, err := private.Query(ctx, "SELECT pg_create_physical_replication_slot('"+g.slot+"', true)"); err != nil {
		return errors.Join(fmt.Errorf("replication slot on the recovered server: %w", err), private.Kill())
	}
	if err := private.Stop(ctx); err != nil {
		return errors.Join(err, private.Kill())
	}
	g.report.Address = listen(req.Serve.Listen) + ":" + strconv.Itoa(req.Serve.Port)
	if req.Serve.Ready != nil {
		if err := req.Serve.Ready(g.report); err != nil {
			return err
		}
	}
	srv, err := serveAt(ctx, req, g.plan.BinDir)
	if err != nil {
		return err
	}
	g.server = srv
	return nil
}

func serveAt(ctx context.Context, req source.Request, binDir string) (*Server, error) {
	return StartServer(ctx, req.Runner, ServerConfig{BinDir: binDir, DataDir: req.Dir, Port: req.Serve.Port, Listen: listen(req.Serve.Listen), Options: req.Serve.Options})
}

// Resume starts the server that an interrupted take-over did not start, or that has
// ended since.
func (s *Store) Resume(ctx context.Context, req source.Request) error {
	if pid, err := s.Serving(req.Dir); pid != 0 || err != nil || req.Serve == nil {
		return err
	}
	binDir := s.cfg.BinDir
	if binDir == "" {
		b, err := os.ReadFile(filepath.Join(req.Dir, "PG_VERSION"))
		if err != nil {
			return err
		}
		major, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return fmt.Errorf("PG_VERSION in %s: %w", req.Dir, err)
		}
		if binDir, err = FindBinDir(major); err != nil {
			return err
		}
	}
	_, err := serveAt(ctx, req, binDir)
	return err
}

func listen(addr string) string {
	if addr == "" {
		return "127.0.0.1"
	}
	return addr
}

func (g *restored) Report() source.Report { return g.report }

// Integrity runs the engine's own checks.
func (g *restored) Integrity(ctx context.Context) []holdfast.Check {
	if g.server == nil {
		return []holdfast.Check{{Rung: holdfast.L5, Name: "integrity", Outcome: holdfast.NotProven, Grade: holdfast.Proved, Detail: "no engine was started"}}
	}
	checks, err := Integrity(ctx, g.server)
	if err != nil {
		checks = append(checks, holdfast.Check{Rung: holdfast.L5, Name: "integrity", Outcome: holdfast.NotProven, Grade: holdfast.Proved, Detail: err.Error()})
	}
	return checks
}

// Value asks one question in SQL.
func (g *restored) Value(ctx context.Context, question string) (any, error) {
	if g.server == nil {
		return nil, errors.New("no engine was started")
	}
	return ask(ctx, g.server.ConnStringTo(g.database), question)
}

// ask asks a restored engine one question, and tells what did not come back from what
// could not be asked.
func ask(ctx context.Context, connString, question string) (any, error) {
	v, err := Invariant(ctx, connString, question)
	switch code := sqlState(err); code {
	case "3F000", "42P01", "42703", "42883": // schema, table, column, function
		err = fmt.Errorf("%w: %w", source.ErrWanting, err)
	default:
		if strings.HasPrefix(code, "XX") { // damaged pages and indexes
			err = fmt.Errorf("%w: %w", source.ErrWanting, err)
		}
	}
	return v, err
}

// Close stops a private server; one that serves goes on.
func (g *restored) Close(ctx context.Context) error {
	if g.server == nil || g.serving {
		return nil
	}
	srv := g.server
	g.server = nil
	if err := srv.Stop(ctx); err != nil {
		return errors.Join(err, srv.Kill())
	}
	return nil
}

// NextStep says what a person does with a restored directory.
func (s *Store) NextStep(dir string) string {
	return fmt.Sprintf("it is an ordinary data directory: \"pg_ctl -D %s start\" as its owner starts it", dir)
}

// StopLeftover ends a server that an interrupted restore left running in dir.
func (s *Store) StopLeftover(ctx context.Context, dir string) error { return StopLeftover(ctx, dir) }

// maxPidFile bounds what is read of a postmaster.pid.
const maxPidFile = 4 << 10

// StopLeftover ends the server that runs in dir, if there is one, whoever started it.
func StopLeftover(ctx context.Context, dir string) error {
	pid, err := serving(dir)
	if err != nil || pid == 0 {
		return err
	}
	return endProcess(ctx, pid)
}

// Serving returns the server process that works in dir; 0 if there is none.
func (s *Store) Serving(dir string) (pid int, err error) { return serving(dir) }

// serving believes postmaster.pid only if that process works in dir.
func serving(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, maxPidFile)
	n, _ := f.Read(b) // an empty file has no process
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, nil
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if errors.Is(err, os.ErrPermission) {
		// Another account's process: its name is all that we may know, and a
		// server too many is the better mistake.
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == "postgres" {
			return pid, nil
		}
		return 0, nil
	}
	if err != nil {
		return 0, nil // it is gone
	}
	if want, err := filepath.EvalSymlinks(dir); err != nil || cwd != want {
		return 0, nil // the number belongs to somebody else by now
	}
	return pid, nil
}
