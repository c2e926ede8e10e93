//go:build unix

package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// startLimit bounds the start of the server on a busy machine.
const startLimit = 2 * time.Minute

// keeper runs the server and outlives the test binary by a moment. Its standard
// input is a pipe of which only the test binary holds the other end, so however
// that ends, the keeper reads the end of the file, stops the server and removes
// the directory.
const keeper = `
"$1/initdb" -D "$2/data" -U holdfast -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1 || exit 1
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 -c shared_buffers=16MB \
	-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c log_min_messages=fatal </dev/null >>"$2/log" 2>&1 &
cat >/dev/null
kill -QUIT $!
wait $!
rm -rf "$2"
`

func startServer() (server, error) {
	bin, err := binDir()
	if err != nil {
		return server{}, err
	}
	// Not t.TempDir: the server outlives the test that starts it. Not a deep
	// directory either: the path of a socket has about 100 bytes.
	dir, err := os.MkdirTemp("/tmp", "holdfast-dbtest-")
	if err != nil {
		return server{}, err
	}
	cmd := exec.Command("/bin/sh", "-c", keeper, "keeper", bin, dir)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	// A session of its own: an interrupt at the terminal is for the test binary.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Getuid() == 0 {
		uid, gid, err := unprivileged()
		if err != nil {
			return server{}, errors.Join(err, os.Remove(dir))
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return server{}, errors.Join(err, os.Remove(dir))
		}
	}
	// Kept open until the process ends. (Go's descriptors are not inherited by
	// other children.)
	if _, err := cmd.StdinPipe(); err != nil {
		return server{}, errors.Join(err, os.Remove(dir))
	}
	if err := cmd.Start(); err != nil {
		return server{}, errors.Join(err, os.Remove(dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return server{dir}, server{dir}.wait(ended)
}

// wait returns when the server answers.
func (s server) wait(ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return errors.Join(fmt.Errorf("it did not start: %s", log), os.RemoveAll(s.dir))
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unprivileged returns the user that the server runs as when we are root.
func unprivileged() (uid, gid uint32, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("running as root, and there is no user \"postgres\" or \"nobody\" to run it as: %w", err)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(id), uint32(group), err
}

// binDir finds the newest installed server.
func binDir() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, d := range dirs {
			if _, err := os.Stat(filepath.Join(d, "initdb")); err == nil {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return "", errors.New(`"initdb" is neither in PATH nor in the usual places; on Debian: apt-get install postgresql`)
	}
	slices.Sort(found) // all supported majors have two digits
	return found[len(found)-1], nil
}
