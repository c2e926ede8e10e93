package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"holdfast"
)

// defaultUsers are the accounts to drop to, in order of preference.
var defaultUsers = []string{"postgres", "nobody"}

// An account is whom commands run as.
type account struct {
	name     string
	uid, gid uint32
	groups   []uint32
	switched bool // we are root and drop to it; false: it is ourselves
}

// findAccount looks up the account to run as. Without root rights that is
// ourselves, whatever was asked for.
func findAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		acc := account{name: strconv.Itoa(os.Geteuid()), uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
		if u, err := user.Current(); err == nil {
			acc.name = u.Username
		}
		if groups, err := os.Getgroups(); err == nil {
			for _, g := range groups {
				acc.groups = append(acc.groups, uint32(g))
			}
		}
		return acc, nil
	}
	names := defaultUsers
	if name != "" {
		names = []string{name}
	}
	for _, n := range names {
		u, err := user.Lookup(n)
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return account{}, fmt.Errorf("account %q: %w", n, err)
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("account %q: %w", n, err)
		}
		if uid == 0 {
			return account{}, holdfast.WithHint(fmt.Errorf("account %q is root: %w", n, holdfast.ErrUsage),
				"name an unprivileged account: a database server refuses to run as root")
		}
		return account{name: n, uid: uint32(uid), gid: uint32(gid), groups: []uint32{uint32(gid)}, switched: true}, nil
	}
	return account{}, holdfast.WithHint(fmt.Errorf("none of the accounts %q exists", names),
		"create one without a password, for example: useradd --system --no-create-home holdfast")
}

// own gives path and everything below it to the account. Symbolic links are
// given, not followed.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, int(a.uid), int(a.gid))
	})
}

// ClosedError says that the unprivileged account cannot get to a folder.
type ClosedError struct {
	Path   string // where it should work
	Folder string // the folder on the way that is closed to it
	User   string
}

// Error names the folder and the account.
func (e *ClosedError) Error() string {
	if e.Path == e.Folder {
		return fmt.Sprintf("folder %q is closed to account %q", e.Path, e.User)
	}
	return fmt.Sprintf("folder %q is closed to account %q, because it may not enter %q", e.Path, e.User, e.Folder)
}

// reach reports with a *ClosedError whether the account can walk to path. It
// judges by permission bits; what an access list says, the probe finds out.
func (a account) reach(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is not a folder", path)
	}
	if !a.switched {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, p := range []string{path, real} {
		for dir := p; ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return err
			}
			if !a.mayEnter(info) {
				return holdfast.WithHint(&ClosedError{Path: path, Folder: dir, User: a.name},
					"choose a folder outside %q, or open it: chmod o+x %s", dir, dir)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

func (a account) mayEnter(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	perm := info.Mode().Perm()
	switch {
	case st.Uid == a.uid:
		return perm&0o100 != 0
	case st.Gid == a.gid || slices.Contains(a.groups, st.Gid):
		return perm&0o010 != 0
	default:
		return perm&0o001 != 0
	}
}

// prepare makes cmd run as the account in its own process group. With dies, the
// kernel kills it when we end.
func (a account) prepare(cmd *exec.Cmd, dies bool) {
	attr := &syscall.SysProcAttr{}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
	}
	if dies {
		// The kernel watches the thread that started the command. The Go runtime
		// ends a thread only when a goroutine that locked it returns, and no
		// goroutine here does.
		attr.Setpgid = true
		attr.Pdeathsig = syscall.SIGKILL
	} else {
		attr.Setsid = true
	}
	cmd.SysProcAttr = attr
	cmd.WaitDelay = pipeWait
	cmd.Cancel = func() error {
		// The group, not the process alone: a shell's children would stay.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return cmd.Process.Kill()
	}
}

// cleanEnvironment is what a command may know: nothing of ours, above all no
// password and no connection default.
func cleanEnvironment(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home, "TMPDIR=" + home, "LC_ALL=C", "TZ=UTC",
	}
}

// An Account runs commands as an unprivileged account with no further isolation:
// for a server that is meant to be reached, such as a recovered production
// database.
type Account struct {
	account account
	outlive bool
}

// Unprivileged returns the account to run as: user when we are root ("" for the
// default), else ourselves.
func Unprivileged(_ context.Context, user string) (*Account, error) {
	acc, err := findAccount(user)
	if err != nil {
		return nil, err
	}
	return &Account{account: acc}, nil
}

// Outliving returns the same account for commands that go on when Holdfast ends.
func (a *Account) Outliving() *Account { return &Account{account: a.account, outlive: true} }

// User returns the account's name.
func (a *Account) User() string { return a.account.name }

// Own gives path, and everything below it, to the account.
func (a *Account) Own(path string) error { return a.account.own(path) }

// Reach reports with a *ClosedError whether the account can get to a folder.
func (a *Account) Reach(path string) error { return a.account.reach(path) }

// Command returns a command that runs as the account, with a clean environment,
// in the root folder. Unless the account is Outliving, it dies with ctx and with us.
func (a *Account) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if a.outlive {
		ctx = context.WithoutCancel(ctx)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	a.account.prepare(cmd, !a.outlive)
	cmd.Dir = "/"
	cmd.Env = cleanEnvironment(os.TempDir())
	return cmd
}
