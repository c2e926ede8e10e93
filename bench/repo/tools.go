package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/plan"
)

// A tool backs a folder up. Every function runs the tool's program and returns what
// it cost.
type tool struct {
	name, version string
	// begin makes a new, empty repository for data.
	begin   func(ctx context.Context, data string) error
	backup  func(ctx context.Context, data string) (cost, error)
	restore func(ctx context.Context, data, to string) (cost, error) // the newest backup, into the new folder to
	verify  func(ctx context.Context) (cost, error)                  // reads all bytes
	repo    func() string                                            // where it lies
}

// A cost is what one run of something took.
type cost struct {
	wall   float64 // seconds, with a sync
	cpu    float64 // seconds, user and system
	peak   float64 // MB of resident memory
	stored float64 // MB
}

// noiseWork is what is hashed to see how busy the machine is with other things.
const noiseWork = 256 << 20

// look notes how busy the machine is.
func (b *bench) look() error {
	block := make([]byte, 1<<20)
	h := sha256.New()
	began := time.Now()
	for range noiseWork / len(block) {
		h.Write(block)
	}
	b.noise = append(b.noise, time.Since(began).Seconds())
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	load, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	b.load = append(b.load, load)
	return err
}

// program runs a program and measures it.
func (b *bench) program(ctx context.Context, dir string, env []string, name string, args ...string) (cost, error) {
	unix.Sync() // what came before is not paid for here
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	unix.Sync()
	c := cost{wall: time.Since(began).Seconds()}
	if err != nil {
		const tail = 2000
		text := strings.TrimSpace(out.String())
		return c, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, text[max(0, len(text)-tail):])
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	c.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	c.peak = float64(u.Maxrss) * 1024 / 1e6
	return c, nil
}

// setUp finds the programs.
func (b *bench) setUp(ctx context.Context) error {
	ours, err := filepath.Abs("bin/holdfast")
	if err != nil {
		return err
	}
	where := os.Getenv("HOLDFAST_TEST_TOOLS") // of the Makefile
	if where == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		where = filepath.Join(cache, "holdfast-test-tools")
	}
	restic := filepath.Join(where, "restic-v0.18.0", "restic")
	for i, t := range []struct {
		program string
		make    func(program string) tool
	}{{ours, b.ours}, {restic, b.restic}, {"borg", b.borg}} {
		made := t.make(t.program)
		arg := "version"
		if i != 1 {
			arg = "--version"
		}
		out, err := exec.CommandContext(ctx, t.program, arg).Output()
		if err != nil {
			return fmt.Errorf("%s %s: %w", t.program, arg, err)
		}
		f := strings.Fields(strings.Replace(string(out), " version", "", 1))
		made.version = strings.Join(f[:min(2, len(f))], " ")
		b.tools = append(b.tools, made)
	}
	return nil
}

// fresh is a new folder for a repository; what an earlier run left is removed.
func (b *bench) fresh(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

const benchPlan = `apiVersion: holdfast/v1
plan: {id: "bench"}
stores:
  data:
    kind: files
    files: {path: %q}
    protect: folder
keys:
  key-a: {recipient: %q}
  key-b: {recipient: %q}
repository: {id: %q, encrypt_to: [key-a, key-b]}
locations:
  near: {kind: dir, path: %q}
backups:
  folder: {every: 1d, copies: [near], keep: 30d}
`

func (b *bench) ours(program string) tool {
	dir, ws := filepath.Join(b.dir, "ours"), filepath.Join(b.dir, "ours", "workspace")
	call := func(ctx context.Context, args ...string) (cost, error) {
		return b.program(ctx, b.dir, []string{"HOLDFAST_PURPOSE=bench"}, program, append([]string{"--dir", ws}, args...)...)
	}
	return tool{
		name: "holdfast",
		begin: func(ctx context.Context, data string) error {
			if _, err := b.fresh("ours"); err != nil {
				return err
			}
			w, err := app.Init(ws, app.InitOptions{})
			if err != nil {
				return err
			}
			p, err := plan.Load(w.Plan())
			if err != nil {
				return err
			}
			text := fmt.Sprintf(benchPlan, data, p.Keys["key-a"].Recipient, p.Keys["key-b"].Recipient, p.Repository.ID, filepath.Join(dir, "near"))
			if err := os.WriteFile(w.Plan(), []byte(text), 0o644); err != nil {
				return err
			}
			_, err = call(ctx, "location", "init", "--all")
			return err
		},
		backup: func(ctx context.Context, _ string) (cost, error) { return call(ctx, "backup", "data") },
		restore: func(ctx context.Context, _, to string) (cost, error) {
			return call(ctx, "restore", "data", "--to", to)
		},
		repo: func() string { return filepath.Join(dir, "near") },
	}
}

func (b *bench) restic(program string) tool {
	repo := filepath.Join(b.dir, "restic", "repo")
	env := []string{"RESTIC_REPOSITORY=" + repo, "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + filepath.Join(b.dir, "restic", "cache"), "GOFLAGS="}
	return tool{
		name: "restic",
		begin: func(ctx context.Context, _ string) error {
			if _, err := b.fresh("restic"); err != nil {
				return err
			}
			_, err := b.program(ctx, b.dir, env, program, "init")
			return err
		},
		backup: func(ctx context.Context, data string) (cost, error) {
			return b.program(ctx, data, env, program, "backup", "--quiet", ".")
		},
		restore: func(ctx context.Context, _, to string) (cost, error) {
			return b.program(ctx, b.dir, env, program, "restore", "--quiet", "latest", "--target", to)
		},
		verify: func(ctx context.Context) (cost, error) {
			return b.program(ctx, b.dir, env, program, "check", "--quiet", "--read-data")
		},
		repo: func() string { return repo },
	}
}

func (b *bench) borg(program string) tool {
	dir := filepath.Join(b.dir, "borg")
	repo := filepath.Join(dir, "repo")
	env := []string{"BORG_REPO=" + repo, "BORG_PASSPHRASE=bench", "BORG_BASE_DIR=" + dir, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes"}
	n := 0
	return tool{
		name: "borg",
		begin: func(ctx context.Context, _ string) error {
			if _, err := b.fresh("borg"); err != nil {
				return err
			}
			_, err := b.program(ctx, b.dir, env, program, "init", "--encryption", "repokey-blake2")
			return err
		},
		backup: func(ctx context.Context, data string) (cost, error) {
			n++
			return b.program(ctx, data, env, program, "create", "--compression", "auto,zstd,1", "::"+strconv.Itoa(n), ".")
		},
		restore: func(ctx context.Context, _, to string) (cost, error) {
			if err := os.Mkdir(to, 0o755); err != nil {
				return cost{}, err
			}
			return b.program(ctx, to, env, program, "extract", "::"+strconv.Itoa(n))
		},
		verify: func(ctx context.Context) (cost, error) {
			return b.program(ctx, b.dir, env, program, "check", "--verify-data")
		},
		repo: func() string { return repo },
	}
}
