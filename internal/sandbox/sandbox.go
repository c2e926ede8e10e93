// Package sandbox runs programs where they can do no harm: a drill boots a copy
// of production, and that copy must not reach production, the network, or
// anything that outlives the drill.
//
// # What holds
//
// With root rights, or where the kernel lets an ordinary account make
// namespaces, each command runs in its own empty network namespace, its own
// process namespace and its own System V memory namespace. With root rights it
// also runs as an unprivileged account. The kernel ends every process of a
// command when its first process ends, and ends that one when Holdfast dies.
//
// # What does not hold
//
// The file system is shared: a command reads and writes whatever its account may.
// Unix sockets in the file system stay reachable from outside, which is how
// Holdfast talks to a sandboxed server. Processor and memory are not limited.
// Where the kernel refuses a namespace the sandbox still works, and Isolation
// says what is missing: a drill records it instead of claiming it.
package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast"
)

// Limits and waits.
const (
	// maxCommands bounds how many commands one sandbox remembers.
	maxCommands = 4096

	// closeWait is how long Close waits for killed processes to be gone.
	closeWait = 10 * time.Second

	// closePoll is how often Close looks.
	closePoll = 10 * time.Millisecond

	// pipeWait is how long a killed command's output is still read.
	pipeWait = 5 * time.Second
)

// marker is the variable that names the sandbox in the environment of everything
// that runs in it.
const marker = "HOLDFAST_SANDBOX"

// ErrLeftover says that Close could not remove everything.
var ErrLeftover = errors.New("sandbox left something behind")

// Config says where and as whom a sandbox runs.
type Config struct {
	// Parent is the folder under which the scratch folder is made. The
	// unprivileged account must be able to walk through it and everything above
	// it. Defaults to the system's folder for temporary files.
	Parent string

	// Network leaves the network reachable. A drill never sets it.
	Network bool

	// User is the account to run as when we are root. Defaults to "postgres"
	// where it exists, else "nobody". Ignored without root rights.
	User string

	// Log receives what Close had to kill. Defaults to discarding it.
	Log *slog.Logger
}

// A Sandbox is one scratch folder and everything that runs in it.
//
// Its methods may be called from several goroutines. A command must have been
// started, or given up, before Close is called.
type Sandbox struct {
	dir     string
	mark    string
	account account
	spaces  uintptr // namespaces that each command gets
	holds   []string
	log     *slog.Logger

	mu      sync.Mutex
	started []*exec.Cmd
	closed  bool
}

// New makes a sandbox. It proves by running a command in it that the
// unprivileged account can work there.
func New(ctx context.Context, c Config) (*Sandbox, error) {
	acc, err := findAccount(c.User)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	parent := c.Parent
	if parent == "" {
		parent = os.TempDir()
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if err := acc.reach(parent); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "holdfast-sandbox-")
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: crypto/rand ends the program instead
	s := &Sandbox{dir: dir, mark: marker + "=" + hex.EncodeToString(id), account: acc, log: c.Log}
	// A crash before Close leaves the folder: its name says what it is, and it
	// holds nothing that is not in the repository too.
	if err := s.settle(ctx, c.Network); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("sandbox %s: %w", dir, err)
	}
	return s, nil
}

// settle gives the folder to the account and finds out what the kernel grants.
func (s *Sandbox) settle(ctx context.Context, network bool) error {
	if err := s.Own(s.dir); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return err
	}
	wanted := []struct {
		flag      uintptr
		have, not string
	}{
		{syscall.CLONE_NEWNET, "no network", "the network is reachable"},
		{syscall.CLONE_NEWPID, "own process space", "other processes are visible"},
		{syscall.CLONE_NEWIPC, "own shared memory", "shared memory is common"},
	}
	if s.account.switched {
		s.holds = append(s.holds, fmt.Sprintf("unprivileged account %q", s.account.name))
	} else {
		s.holds = append(s.holds, fmt.Sprintf("not isolated: runs as our own account %q", s.account.name))
	}
	if err := s.probe(ctx, 0); err != nil {
		return holdfast.WithHint(fmt.Errorf("account %q cannot run a command here: %w", s.account.name, err),
			"choose a folder that every account may enter, for example /var/tmp")
	}
	for _, w := range wanted {
		if network && w.flag == syscall.CLONE_NEWNET {
			s.holds = append(s.holds, "not isolated: the network is reachable, as asked")
			continue
		}
		if err := s.probe(ctx, s.spaces|w.flag); err != nil {
			s.holds = append(s.holds, fmt.Sprintf("not isolated: %s (%v)", w.not, err))
			continue
		}
		s.spaces |= w.flag
		s.holds = append(s.holds, w.have)
	}
	s.holds = append(s.holds, "ends with holdfast")
	return nil
}

// probe runs a command that does nothing, with the given namespaces.
func (s *Sandbox) probe(ctx context.Context, spaces uintptr) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "test -w .")
	s.prepare(cmd, spaces)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		if msg := strings.TrimSpace(out.String()); msg != "" {
			return fmt.Errorf("%w: %s", err, msg)
		}
		return err
	}
	return nil
}

// Dir returns the scratch folder. It belongs to the unprivileged account.
func (s *Sandbox) Dir() string { return s.dir }

// User returns the name of the account that commands run as.
func (s *Sandbox) User() string { return s.account.name }

// Isolation lists what holds in this sandbox, and, with the words "not isolated"
// in front, what does not.
func (s *Sandbox) Isolation() []string { return append([]string(nil), s.holds...) }

// Isolated reports whether commands are cut off from the network.
func (s *Sandbox) Isolated() bool { return s.spaces&syscall.CLONE_NEWNET != 0 }

// Own gives path, and everything below it, to the account that commands run as.
func (s *Sandbox) Own(path string) error { return s.account.own(path) }

// Command returns a command that runs in the sandbox: unprivileged, without a
// network, in the scratch folder, with a clean environment. When ctx ends, all its
// processes are killed.
func (s *Sandbox) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	s.prepare(cmd, s.spaces)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		cmd.Err = errors.New("sandbox is closed")
	case len(s.started) >= maxCommands:
		cmd.Err = fmt.Errorf("sandbox has run %d commands, its limit", maxCommands)
	default:
		s.started = append(s.started, cmd)
	}
	return cmd
}

func (s *Sandbox) prepare(cmd *exec.Cmd, spaces uintptr) {
	s.account.prepare(cmd, true)
	cmd.Dir = s.dir
	cmd.Env = append(cleanEnvironment(s.dir), s.mark)
	cmd.SysProcAttr.Cloneflags = spaces
	if spaces != 0 && os.Geteuid() != 0 {
		// An ordinary account gets namespaces only together with a user
		// namespace; it stays itself in there.
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
}

// Close kills what still runs, waits until it is gone, removes the folder and
// looks whether anything is left. It may be called again.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.started = nil
	s.mu.Unlock()

	for _, cmd := range started {
		// Signal answers for exactly this process, never for a later one that got
		// its number, so a finished command's group is left alone.
		if cmd.Process != nil && cmd.Process.Signal(syscall.Signal(0)) == nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Process.Kill()
		}
	}
	if left := s.sweep(); len(left) > 0 {
		return fmt.Errorf("%w: processes %v of %s do not end", ErrLeftover, left, s.dir)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("%w: %w", ErrLeftover, err)
	}
	if _, err := os.Lstat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is still there", ErrLeftover, s.dir)
	}
	return nil
}

// sweep kills processes of this sandbox until none is left, and returns those
// that did not go away in time. It finds what has left its process group, too:
// every PostgreSQL backend does.
func (s *Sandbox) sweep() []int {
	deadline := time.Now().Add(closeWait)
	for {
		left := s.processes()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		for _, pid := range left {
			s.log.Debug("sandbox: killing a process that was still there", "pid", pid, "dir", s.dir)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(closePoll)
	}
}

// processes lists the live processes that carry the marker or work in the folder.
func (s *Sandbox) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		proc := filepath.Join("/proc", e.Name())
		if stat, err := os.ReadFile(filepath.Join(proc, "stat")); err != nil || zombie(stat) {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		inside := cwd == s.dir || strings.HasPrefix(cwd, s.dir+"/")
		if !inside {
			env, err := os.ReadFile(filepath.Join(proc, "environ"))
			inside = err == nil && bytes.Contains(env, []byte(s.mark))
		}
		if inside {
			pids = append(pids, pid)
		}
	}
	return pids
}

// zombie reads the state from /proc/PID/stat: "12 (name) Z 1 …". The name may
// hold any byte, so the last parenthesis counts.
func zombie(stat []byte) bool {
	i := bytes.LastIndexByte(stat, ')')
	return i >= 0 && len(stat) > i+2 && (stat[i+2] == 'Z' || stat[i+2] == 'X')
}
