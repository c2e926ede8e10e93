package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/sandbox"
)

// The test binary is the restore command of its own tests.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "restore-command" {
		os.Exit(RestoreCommandMain(os.Args[2:]))
	}
}

// quick are settings for throwaway servers: nobody misses them after a power cut.
var quick = map[string]string{"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB"}

func with(base map[string]string, kv ...string) map[string]string {
	m := map[string]string{}
	for k, v := range base {
		m[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

func binDir(t *testing.T) string {
	t.Helper()
	dir, err := FindBinDir(0)
	if err != nil {
		t.Fatalf("these tests need a PostgreSQL server: %v (%s)", err, holdfast.Hint(err))
	}
	return dir
}

func newSandbox(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.New(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return box
}

// newCluster makes and starts a server in the sandbox.
func newCluster(t *testing.T, box *sandbox.Sandbox, name string, initdb []string, options map[string]string) *Server {
	t.Helper()
	dir := filepath.Join(box.Dir(), name)
	if err := Initdb(t.Context(), box, binDir(t), dir, append(initdb, "--no-sync", "-k")...); err != nil {
		t.Fatal(err)
	}
	s, err := StartServer(t.Context(), box, ServerConfig{BinDir: binDir(t), DataDir: dir, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustQuery(t *testing.T, s *Server, sql string) [][]string {
	t.Helper()
	rows, err := s.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func mustValue(t *testing.T, s *Server, sql string) string {
	t.Helper()
	v, err := s.Value(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := osexec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestServer(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "data", nil, quick)
	if !strings.Contains(s.Version(), ".") || !strings.HasPrefix(mustValue(t, s, "SHOW server_version"), s.Version()) {
		t.Errorf("version %q", s.Version())
	}
	mustQuery(t, s, "CREATE TABLE t (v int); INSERT INTO t VALUES (1)")

	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Query(t.Context(), "SELECT 1"); err == nil {
		t.Error("a stopped server answered")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustValue(t, s, "SELECT v FROM t"); got != "1" {
		t.Errorf("after the restart: %q", got)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err == nil {
		t.Error("Stop of a killed server claims a clean end")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustValue(t, s, "SELECT v FROM t"); got != "1" {
		t.Errorf("after the crash: %q", got)
	}
	if got := mustValue(t, s, "SHOW listen_addresses"); got != "" {
		t.Errorf("a private server listens on %q", got)
	}
}

// A server that cannot start says why, in its own words.
func TestServerFailure(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "data", nil, quick)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, wantErr, wantHint string
		options                 map[string]string
	}{
		{"unknown setting", "unrecognized configuration parameter", "log", map[string]string{"no_such_setting": "1"}},
		{"library", "not installed here", "extensions", map[string]string{"shared_preload_libraries": "no_such_library"}},
		{"bad value", "outside the valid range", "", map[string]string{"max_connections": "-3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := StartServer(t.Context(), box, ServerConfig{BinDir: binDir(t), DataDir: s.DataDir, Options: tt.options})
			if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("got %v, want %q in it", err, tt.wantErr)
			}
			if hint := holdfast.Hint(err); !strings.Contains(hint, tt.wantHint) {
				t.Errorf("hint %q", hint)
			}
		})
	}
	t.Run("start is bounded by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if _, err := StartServer(ctx, box, ServerConfig{BinDir: binDir(t), DataDir: s.DataDir, Options: quick}); err == nil {
			t.Error("started although its context had ended")
		}
	})
}

// A server for production outlives the process that starts it, keeps its access
// rules and listens.
func TestServerListens(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "data", nil, quick)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	acc, err := sandbox.Unprivileged(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	port := openPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	up, err := StartServer(ctx, acc.Outliving(), ServerConfig{BinDir: binDir(t), DataDir: s.DataDir,
		SocketDir: filepath.Join(box.Dir(), "run"), Port: port, Listen: "127.0.0.1", Options: quick})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := up.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	cancel() // the start is over: the server must not care
	src, err := New(Config{Store: "db", ConnString: fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=wrong sslmode=disable", port)})
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("production rules do not ask for a password: %v", err)
	}
	select {
	case <-up.Ended():
		t.Error("the server ended with the context of its start")
	default:
	}
}

// Every way in which a restore command can end, on the installed version: which of
// them promote the server in silence, and which stop it.
func TestRestoreCommandOutcomes(t *testing.T) {
	box := newSandbox(t)
	base, archive, segments := archivedCluster(t, box)
	missing := segments[1]

	tests := []struct {
		outcome  string // shell, run instead of serving the second segment
		promotes bool   // without a target
	}{
		{"exit 0", true}, {"exit 1", true}, {"exit 74", true}, {"exit 125", true},
		{"exit 126", false}, {"exit 127", false}, {"exit 128", false}, {"exit 130", false}, {"exit 143", false}, {"exit 255", false},
		{"kill -KILL $$", false}, {"kill -ABRT $$", false}, {"kill -TERM $$", false},
	}
	for i, tt := range tests {
		for _, target := range []bool{false, true} {
			if target && !tt.promotes {
				continue // it stops without a target already
			}
			t.Run(fmt.Sprintf("%s target=%t", tt.outcome, target), func(t *testing.T) {
				dir := filepath.Join(box.Dir(), fmt.Sprintf("try%d%t", i, target))
				mustRun(t, "cp", "-a", base, dir)
				command := fmt.Sprintf("if [ %%f = %s ]; then %s; else cp %s/%%f %%p; fi", missing, tt.outcome, archive)
				options := with(quick, "restore_command", command, "hot_standby", "off", "archive_mode", "off")
				if target {
					options["recovery_target_lsn"] = "1/0"
				}
				s, err := StartServer(t.Context(), box, ServerConfig{BinDir: binDir(t), DataDir: dir, Options: options})
				if err == nil {
					defer func() {
						if err := s.Kill(); err != nil {
							t.Error(err)
						}
					}()
				}
				want := tt.promotes && !target
				if got := err == nil; got != want {
					t.Errorf("promoted in silence: %t, want %t (%v)", got, want, err)
				}
				if err != nil && !errors.Is(err, ErrEnded) {
					t.Errorf("unexpected failure: %v", err)
				}
				if err == nil && mustValue(t, s, "SELECT count(*) FROM t") != "1" {
					t.Error("the promoted server is not the one that lost its log")
				}
			})
		}
	}
}

// archivedCluster makes a cold copy of a cluster with a recovery signal, and the
// log written after it: three segments, with a row in each.
func archivedCluster(t *testing.T, box *sandbox.Sandbox) (base, archive string, segments []string) {
	t.Helper()
	s := newCluster(t, box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "64MB", "max_wal_size", "64MB", "min_wal_size", "2MB"))
	mustQuery(t, s, "CREATE TABLE t (v int); CHECKPOINT; SELECT pg_switch_wal(); INSERT INTO t VALUES (0)")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	base = filepath.Join(box.Dir(), "base")
	mustRun(t, "cp", "-a", s.DataDir, base)
	mustRun(t, "sh", "-c", "rm -f "+base+"/pg_wal/0*; touch "+base+"/recovery.signal; chown --reference="+base+" "+base+"/recovery.signal")
	first := controlValue(t, box, base, "Latest checkpoint's REDO WAL file")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	segments = append(segments, first)
	for i := range 3 {
		// A switch of an empty segment does nothing, and at its first byte the
		// name is still the one before.
		mustQuery(t, s, "CREATE TABLE filler AS SELECT 1; DROP TABLE filler")
		mustQuery(t, s, "SELECT pg_switch_wal()")
		mustQuery(t, s, fmt.Sprintf("INSERT INTO t VALUES (%d)", i+1))
		segments = append(segments, mustValue(t, s, "SELECT pg_walfile_name(pg_current_wal_lsn())"))
	}
	mustQuery(t, s, "SELECT pg_switch_wal()")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return base, filepath.Join(s.DataDir, "pg_wal"), segments
}

func controlValue(t *testing.T, r Runner, dir, key string) string {
	t.Helper()
	control, err := controlData(t.Context(), r, binDir(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	if control[key] == "" {
		t.Fatalf("pg_controldata does not say %q", key)
	}
	return control[key]
}

// openPort returns a port that nothing listens on now.
func openPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
