package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cost is what one run of something took.
type cost struct {
	wall   float64 // seconds
	cpu    float64 // seconds, of the program and of the database server
	stored float64 // MB
	read   float64 // MB of the database's files, where it is known
	how    string  // "all" pages or those that the "log" names, and why
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
	b.load = append(b.load, number(strings.Fields(string(text))[0]))
	return nil
}

// timed runs fn and measures it. own says that the work is done by this process, so
// that its processor time counts.
func (b *bench) timed(what string, own bool, fn func() error) (cost, error) {
	if err := b.look(); err != nil {
		return cost{}, err
	}
	unix.Sync() // what came before is not paid for here
	server, err := serverCPU(b.dataDir())
	if err != nil {
		return cost{}, err
	}
	stop, err := b.startProfile(what, own)
	if err != nil {
		return cost{}, err
	}
	self, children := usage(unix.RUSAGE_SELF), usage(unix.RUSAGE_CHILDREN)
	began := time.Now()
	err = fn()
	c := cost{wall: time.Since(began).Seconds()}
	stop()
	if err != nil {
		return c, fmt.Errorf("%s: %w", what, err)
	}
	c.cpu = usage(unix.RUSAGE_CHILDREN) - children
	if own {
		c.cpu += usage(unix.RUSAGE_SELF) - self
	}
	after, err := serverCPU(b.dataDir())
	if err != nil {
		return c, err
	}
	c.cpu += after - server
	return c, nil
}

func (b *bench) startProfile(what string, own bool) (stop func(), err error) {
	if b.opt.profile == "" || !own {
		return func() {}, nil
	}
	name := filepath.Join(b.opt.profile, fmt.Sprintf("%s-%d.pprof", strings.ReplaceAll(what, " ", "-"), time.Now().UnixMilli()))
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			b.say("profile %s: %v", name, err)
		}
	}, nil
}

func usage(who int) float64 {
	var r unix.Rusage
	if err := unix.Getrusage(who, &r); err != nil {
		panic(err) // the arguments are constants
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

// serverCPU is the processor time that the server of a data directory has used: its
// own, that of its children, and that of children that have ended.
func serverCPU(dir string) (float64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	root, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("postmaster.pid: %w", err)
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	const ticks = 100 // USER_HZ of every Linux that Go runs on
	total := 0.0
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// Behind the name in brackets: state, ppid, …, utime, stime, cutime, cstime.
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "/proc/"), "/stat"))
		switch {
		case pid == root:
			total += number(f[11]) + number(f[12]) + number(f[13]) + number(f[14])
		case f[1] == strconv.Itoa(root):
			total += number(f[11]) + number(f[12])
		}
	}
	return total / ticks, nil
}

// stored is what lies below the paths, in MB.
func stored(paths ...string) (float64, error) {
	total := int64(0)
	for _, p := range paths {
		err := filepath.WalkDir(p, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			total += info.Size()
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return float64(total) / 1e6, nil
}

// command runs a program as the server's account; what it said is in the error.
func (b *bench) command(ctx context.Context, name string, args ...string) error {
	_, err := b.output(ctx, name, args...)
	return err
}

func (b *bench) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := b.account.Command(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		const tail = 2000
		text := strings.TrimSpace(out.String())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, text[max(0, len(text)-tail):])
	}
	return out.String(), nil
}

// fileSystem names what a folder lies on.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", st.Type)
}

// number reads what a program printed; what is no number is 0.
func number(s string) float64 {
	x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return 0
	}
	return x
}
