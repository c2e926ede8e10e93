package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

// A provider of managed PostgreSQL costs money, so one stands in for it: a process of its
// own, with an HTTP API on a socket, that keeps a base and the log of a real cluster and
// restores to an instant with a real server. Whoever uses it wrongly (without its token,
// for an instant that it does not have, leaving an instance that costs) makes the process
// end badly, and the test fails.

// providerIs is what the process finds in its environment.
const providerIs = "HOLDFAST_TEST_PROVIDER"

type providerConfig struct {
	Bin, Dir, Token, Password string
	Port                      int
}

// A provider is the process.
type provider struct {
	url, token string
	cmd        *exec.Cmd
	said       *output
}

// provide starts a provider for a cluster.
func provide(t *testing.T, c *cluster) *provider {
	t.Helper()
	dir := place(t)
	cfg, err := json.Marshal(providerConfig{c.bin, dir, "token-of-acme-4711", password, c.port})
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{token: "token-of-acme-4711", said: &output{}, cmd: exec.Command(os.Args[0])}
	out := &output{}
	p.cmd.Env = append(os.Environ(), providerIs+"="+string(cfg))
	p.cmd.Stdout, p.cmd.Stderr = out, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-gone
		if p.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("the provider was misused, or fell: %v\n%s", p.cmd.ProcessState, p.said)
		}
	})
	until(t, "the provider to answer", func() bool {
		select {
		case <-gone:
			t.Fatalf("the provider ended: %s", p.said)
		default:
		}
		p.url = strings.TrimSpace(out.String())
		return p.url != ""
	})
	return p
}

// freeze stops the provider's own copying, and nothing else.
func (p *provider) freeze(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// adapter is the plan's way to the provider: the program of the examples, and its token.
func (p *provider) adapter(t *testing.T, dir string) (program, token string) {
	t.Helper()
	b, err := os.ReadFile("../examples/adapters/managed-postgres")
	if err != nil {
		t.Fatal(err)
	}
	program, token = filepath.Join(dir, "managed-postgres"), filepath.Join(dir, "cloud-token")
	write(t, program, string(b), 0o755)
	write(t, token, p.token+"\n", 0o600)
	return program, token
}

// providing is the process's side.
type providing struct {
	providerConfig
	account  *sandbox.Account
	receiver *exec.Cmd

	mu        sync.Mutex
	earliest  time.Time
	latest    time.Time
	instances map[string]*instance
	made      int
	misused   []string
}

type instance struct {
	label, state, reason string
	at                   time.Time
	port                 int
	server               *postgres.Server
	dir                  string
}

// runProvider is main for the process.
func runProvider(text string) int {
	p := &providing{instances: map[string]*instance{}}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := json.Unmarshal([]byte(text), &p.providerConfig)
	if err == nil {
		err = p.begin(ctx)
	}
	if err == nil {
		err = p.serve(ctx)
	}
	if p.receiver != nil {
		_ = p.receiver.Process.Kill()
		_ = p.receiver.Wait()
	}
	for id, i := range p.instances {
		p.misuse("instance %s, for %s, was left and costs", id, i.label)
		err = errors.Join(err, p.end(i))
	}
	for _, m := range p.misused {
		fmt.Fprintln(os.Stderr, "misuse:", m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || len(p.misused) > 0 {
		return 1
	}
	return 0
}

func (p *providing) misuse(format string, args ...any) {
	p.misused = append(p.misused, fmt.Sprintf(format, args...))
}

func (p *providing) conn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=app password='%s'", p.Port, p.Password)
}

// begin follows the cluster's log and copies its files once.
func (p *providing) begin(ctx context.Context) (err error) {
	if p.account, err = sandbox.Unprivileged(ctx, ""); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(p.Dir, "log"), 0o755); err != nil {
		return err
	}
	if err := p.account.Own(p.Dir); err != nil {
		return err
	}
	p.receiver = p.account.Command(context.Background(), filepath.Join(p.Bin, "pg_receivewal"), "-d", p.conn()+" application_name=provider", "-D", filepath.Join(p.Dir, "log"), "--synchronous", "-s", "1", "-n")
	p.receiver.Stderr = os.Stderr
	if err := p.receiver.Start(); err != nil {
		return err
	}
	for p.beat(ctx); p.latest.IsZero(); p.beat(ctx) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	base := p.account.Command(ctx, filepath.Join(p.Bin, "pg_basebackup"), "-d", p.conn(), "-D", filepath.Join(p.Dir, "base"), "-X", "none", "-c", "fast")
	if out, err := base.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	p.beat(ctx)
	p.earliest = p.latest
	return nil
}

// beat makes a commit, as providers do, and moves the newest instant up to before it if
// the log with it has arrived.
func (p *providing) beat(ctx context.Context) {
	said, err := psqlAll(ctx, p.Bin, p.Port, "SELECT clock_timestamp() AT TIME ZONE 'UTC'", "SELECT pg_logical_emit_message(true, 'beat', '') IS NULL", "SELECT pg_current_wal_lsn()")
	if err != nil || len(said) != 3 {
		return
	}
	at, err := time.Parse("2006-01-02 15:04:05.999999", said[0])
	if err != nil {
		return
	}
	for range 100 {
		there, err := psqlAll(ctx, p.Bin, p.Port, fmt.Sprintf("SELECT pg_sleep(0.02) IS NULL, coalesce(bool_or(flush_lsn >= '%s'), false) FROM pg_stat_replication WHERE application_name = 'provider'", said[2]))
		if err != nil || len(there) != 1 || p.receiver.ProcessState != nil {
			return
		}
		if strings.HasSuffix(there[0], "|t") {
			p.latest = at
			return
		}
		if there[0] == "f|f" && p.frozen() {
			return
		}
	}
}

func (p *providing) frozen() bool { return p.receiver.Process.Signal(syscall.Signal(0)) != nil }

// psqlAll runs statements, each in a transaction of its own, and returns their rows.
func psqlAll(ctx context.Context, bin string, port int, statements ...string) ([]string, error) {
	args := []string{"-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "postgres", "-d", "app"}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "psql"), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := cmd.Output()
	return strings.Split(strings.TrimSpace(string(out)), "\n"), err
}

func (p *providing) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	freeze := make(chan os.Signal, 1)
	signal.Notify(freeze, syscall.SIGUSR1)
	go func() {
		for range freeze {
			p.mu.Lock()
			_ = p.receiver.Process.Kill()
			_ = p.receiver.Wait()
			p.mu.Unlock()
		}
	}()
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (int, any)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			defer p.mu.Unlock()
			status, answer := http.StatusUnauthorized, any(map[string]string{"error": "who are you?"})
			switch got := r.Header.Get("Authorization"); {
			case got == "Bearer "+p.Token:
				status, answer = f(r)
			default:
				p.misuse("%s %s with authorization %q", r.Method, r.URL.Path, got)
			}
			w.WriteHeader(status)
			if answer != nil {
				_ = json.NewEncoder(w).Encode(answer) // whoever asked is gone
			}
		})
	}
	handle("GET /v1/databases/db-1/recovery", func(r *http.Request) (int, any) {
		p.beat(r.Context())
		return 200, map[string]any{"earliest": p.earliest.UTC().Format(time.RFC3339Nano), "latest": p.latest.UTC().Format(time.RFC3339Nano), "encrypted": true, "region": "eu-north-1"}
	})
	handle("GET /v1/databases/db-1/instances", func(*http.Request) (int, any) {
		list := []map[string]string{}
		for id, i := range p.instances {
			list = append(list, map[string]string{"id": id, "label": i.label})
		}
		return 200, map[string]any{"instances": list}
	})
	handle("POST /v1/databases/db-1/instances", p.restore)
	handle("GET /v1/instances/{id}", func(r *http.Request) (int, any) {
		i := p.instances[r.PathValue("id")]
		if i == nil {
			return 404, map[string]string{"error": "no such instance"}
		}
		return 200, map[string]any{"state": i.state, "reason": i.reason, "host": "127.0.0.1", "port": i.port, "user": "postgres", "database": "app", "password": p.Password, "restored_to": i.at.UTC().Format(time.RFC3339Nano)}
	})
	handle("DELETE /v1/instances/{id}", func(r *http.Request) (int, any) {
		id := r.PathValue("id")
		i := p.instances[id]
		if i == nil {
			return 404, map[string]string{"error": "no such instance"}
		}
		delete(p.instances, id)
		if err := p.end(i); err != nil {
			return 500, map[string]string{"error": err.Error()}
		}
		return 204, nil
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.misuse("%s %s", r.Method, r.URL.Path)
		p.mu.Unlock()
		http.NotFound(w, r)
	})
	srv := &http.Server{Handler: mux}
	fmt.Printf("http://%s\n", l.Addr())
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// restore makes an instance from the base and the log, to an instant.
func (p *providing) restore(r *http.Request) (int, any) {
	var ask struct {
		Label     string    `json:"label"`
		RestoreTo time.Time `json:"restore_to"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		p.misuse("a restore that cannot be read: %v", err)
		return 400, map[string]string{"error": err.Error()}
	}
	if ask.RestoreTo.Before(p.earliest) || ask.RestoreTo.After(p.latest) {
		p.misuse("a restore to %s, outside of %s to %s", ask.RestoreTo, p.earliest, p.latest)
		return 422, map[string]string{"error": "outside of the window"}
	}
	if len(p.instances) > 0 {
		p.misuse("a second instance while %d is there", len(p.instances))
		return 409, map[string]string{"error": "one instance at a time"}
	}
	p.made++
	id := fmt.Sprintf("i-%d", p.made)
	i := &instance{label: ask.Label, state: "creating", at: ask.RestoreTo, dir: filepath.Join(p.Dir, id)}
	p.instances[id] = i
	go func() {
		err := p.recover(i)
		p.mu.Lock()
		defer p.mu.Unlock()
		if i.state = "ready"; err != nil {
			i.state, i.reason = "failed", err.Error()
		}
	}()
	return 201, map[string]string{"id": id}
}

func (p *providing) recover(i *instance) (err error) {
	ctx := context.Background()
	if out, err := p.account.Command(ctx, "/bin/cp", "-a", filepath.Join(p.Dir, "base"), i.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(i.dir, "recovery.signal"), nil, 0o600); err != nil {
		return err
	}
	if err := p.account.Own(i.dir); err != nil {
		return err
	}
	if i.port, err = freePort(); err != nil {
		return err
	}
	i.server, err = postgres.StartServer(ctx, p.account, postgres.ServerConfig{BinDir: p.Bin, DataDir: i.dir, Port: i.port, Listen: "127.0.0.1", Options: map[string]string{
		"restore_command":      "cp " + filepath.Join(p.Dir, "log") + "/%f %p || cp " + filepath.Join(p.Dir, "log") + "/%f.partial %p",
		"recovery_target_time": i.at.UTC().Format("2006-01-02 15:04:05.999999+00"), "recovery_target_action": "promote", "recovery_target_timeline": "current", "archive_mode": "off",
	}})
	if err != nil {
		return err
	}
	for range 1000 {
		said, err := psqlAll(ctx, p.Bin, i.port, "SELECT pg_sleep(0.02) IS NULL, pg_is_in_recovery()")
		if err != nil {
			return err
		}
		if len(said) == 1 && strings.HasSuffix(said[0], "|f") {
			return nil
		}
	}
	return errors.New("it goes on recovering")
}

func (p *providing) end(i *instance) error {
	var err error
	if i.server != nil {
		err = i.server.Stop(context.Background())
	}
	return errors.Join(err, os.RemoveAll(i.dir))
}
