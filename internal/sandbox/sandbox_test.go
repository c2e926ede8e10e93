package sandbox

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast"
)

// openDir returns a folder that an unprivileged account can get to: the testing
// package makes its own with mode 0700 above it.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, c Config) *Sandbox {
	t.Helper()
	s, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func holds(s *Sandbox, what string) bool { return slices.Contains(s.Isolation(), what) }

func TestIsolation(t *testing.T) {
	s := open(t, Config{})
	t.Log(s.Isolation())

	t.Run("account", func(t *testing.T) {
		uid := output(t, s.Command(t.Context(), "id", "-u"))
		if os.Geteuid() == 0 && (uid == "0" || !holds(s, `unprivileged account "`+s.User()+`"`)) {
			t.Errorf("runs as uid %s; claims %q", uid, s.Isolation())
		}
		if os.Geteuid() != 0 && holds(s, `unprivileged account "`+s.User()+`"`) {
			t.Errorf("claims an account change without root rights: %q", s.Isolation())
		}
	})
	t.Run("network", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		dial := "exec 3<>/dev/tcp/127.0.0.1/" + strconv.Itoa(port)
		reached := s.Command(t.Context(), "bash", "-c", dial).Run() == nil
		if reached == holds(s, "no network") {
			t.Errorf("reached a listener outside: %t, but claims %q", reached, s.Isolation())
		}
		if os.Geteuid() == 0 && !s.Isolated() {
			t.Errorf("root did not get an empty network: %q", s.Isolation())
		}
		// The listener is there: without the sandbox the same command succeeds.
		if err := exec.CommandContext(t.Context(), "bash", "-c", dial).Run(); err != nil {
			t.Errorf("the listener cannot be reached from outside the sandbox either: %v", err)
		}
	})
	t.Run("environment", func(t *testing.T) {
		t.Setenv("PGPASSWORD", "secret")
		env := output(t, s.Command(t.Context(), "env"))
		if strings.Contains(env, "secret") {
			t.Errorf("our environment leaks:\n%s", env)
		}
		for _, want := range []string{"LC_ALL=C", "TZ=UTC", "HOME=" + s.Dir()} {
			if !slices.Contains(strings.Split(env, "\n"), want) {
				t.Errorf("environment lacks %s:\n%s", want, env)
			}
		}
	})
	t.Run("folder", func(t *testing.T) {
		info, err := os.Stat(s.Dir())
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v, want 0700", info.Mode())
		}
		output(t, s.Command(t.Context(), "sh", "-c", "echo hello > written"))
		if _, err := os.Stat(filepath.Join(s.Dir(), "written")); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkWhenAsked(t *testing.T) {
	s := open(t, Config{Network: true})
	if s.Isolated() || holds(s, "no network") {
		t.Errorf("claims to be cut off: %q", s.Isolation())
	}
}

func TestClosedParent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("without root rights there is no other account to shut out")
		return
	}
	closed := filepath.Join(openDir(t), "closed")
	parent := filepath.Join(closed, "workspace")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := New(t.Context(), Config{Parent: parent})
	var ce *ClosedError
	if !errors.As(err, &ce) || ce.Folder != closed {
		t.Fatalf("got %v, want the closed folder %q named", err, closed)
	}
	if hint := holdfast.Hint(err); !strings.Contains(hint, "chmod o+x "+closed) {
		t.Errorf("hint %q does not say what to do", hint)
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnknownAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("without root rights the account is ours, whatever is asked")
		return
	}
	if _, err := New(t.Context(), Config{User: "holdfast-nobody-here"}); holdfast.Hint(err) == "" {
		t.Errorf("got %v, want an error with a hint", err)
	}
	if _, err := New(t.Context(), Config{User: "root"}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("root as the unprivileged account: got %v", err)
	}
}

// A process that leaves its group and its parent must not survive Close.
func TestCloseKillsEscapees(t *testing.T) {
	for _, spaces := range []bool{true, false} {
		t.Run("spaces="+strconv.FormatBool(spaces), func(t *testing.T) {
			s, err := New(t.Context(), Config{})
			if err != nil {
				t.Fatal(err)
			}
			if !spaces {
				s.spaces = 0 // as on a kernel that grants none
			}
			cmd := s.Command(context.Background(), "sh", "-c", "setsid sh -c 'echo ready; exec sleep 1000' & wait")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if len(s.processes()) < 2 {
				t.Fatalf("the sandbox sees %v, want a shell and its escaped child", s.processes())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left := s.processes(); len(left) != 0 {
				t.Errorf("still alive: %v", left)
			}
			if _, err := os.Stat(s.Dir()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is still there: %v", err)
			}
			_ = cmd.Wait()
			if err := s.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
			if err := s.Command(t.Context(), "true").Run(); err == nil {
				t.Error("a closed sandbox ran a command")
			}
		})
	}
}

// Cancelling kills the command's children with it.
func TestCancel(t *testing.T) {
	s := open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cmd := s.Command(ctx, "sh", "-c", "sleep 1000 & echo ready; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well although it was cancelled")
	}
}

// When the process that started a sandboxed command dies, the command dies.
func TestDiesWithParent(t *testing.T) {
	if os.Getenv("SANDBOX_TEST_PARENT") != "" {
		s, err := New(context.Background(), Config{Parent: os.Getenv("SANDBOX_TEST_PARENT")})
		if err != nil {
			t.Fatal(err)
		}
		cmd := s.Command(context.Background(), "sh", "-c", "echo ready; exec sleep 1000")
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := openDir(t)
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiesWithParent$")
	parent.Env = append(os.Environ(), "SANDBOX_TEST_PARENT="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The pipe ends only when the last process that holds it is gone.
	if rest, err := r.ReadString('\n'); err == nil {
		t.Errorf("unexpected output %q", rest)
	}
	_ = parent.Wait()
}

func TestUnprivileged(t *testing.T) {
	a, err := Unprivileged(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if uid := output(t, a.Command(t.Context(), "id", "-u")); uid == "0" {
		t.Error("runs as root")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := a.Outliving().Command(ctx, "sh", "-c", "echo up; read line; echo $line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, _ := r.ReadString('\n'); line != "up\n" {
		t.Fatalf("got %q", line)
	}
	cancel() // an outliving command does not care
	if _, err := in.Write([]byte("still here\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "still here\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
