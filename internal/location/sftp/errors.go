package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"

	client "github.com/pkg/sftp"

	"holdfast"
	"holdfast/internal/location"
)

// explain says which object of which place, sorts the reason into the kinds that
// people act on differently, and adds what to do.
func (s *Store) explain(ctx context.Context, verb, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	what := fmt.Sprintf("location %q: %s", s.String(), verb)
	if name != "" {
		what += fmt.Sprintf(" %q", name)
	}
	kind := func(k error, hint string, args ...any) error {
		return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, k, err), hint, args...)
	}
	var body *location.BodyError
	var status *client.StatusError
	var op *net.OpError
	switch {
	case errors.As(err, &body), errors.Is(err, location.ErrSize), errors.Is(err, location.ErrName):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, location.ErrWeak):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "nothing was sent. Let the server offer AES-GCM, AES-CTR or ChaCha20 with SHA-2: update OpenSSH there, or look at Ciphers, MACs and KexAlgorithms of its sshd_config")
	case errors.Is(err, location.ErrUnreachable):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "is the disk mounted on the server, and the path right? if this is a new place, initialise it first")
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", what, fs.ErrExist)
	case errors.Is(err, errHostKey):
		return kind(location.ErrDenied, "if the server was set up anew, read its key on the server itself and correct the plan; else somebody may stand between: do not go on before you know why")
	case errors.Is(err, errKey):
		if hint := holdfast.Hint(err); hint != "" {
			return kind(location.ErrDenied, "%s", hint)
		}
		return kind(location.ErrDenied, "make a key without passphrase for this purpose alone: ssh-keygen -t ed25519 -N '' -f FILE")
	case denied(err):
		return kind(location.ErrDenied, "let the account %q accept the public half of %q: add it to its authorized_keys", s.cfg.User, s.cfg.KeyFile)
	case errors.Is(err, errStalled):
		return kind(location.ErrUnreachable, "the server took the connection and did not answer; try again, then look at its load and disks")
	case errors.Is(err, fs.ErrNotExist):
		if verb == "put" || verb == "make" {
			return kind(location.ErrUnreachable, "is the disk mounted on the server, and the path right? if this is a new place, initialise it first")
		}
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return kind(location.ErrDenied, "give the account %q the right to read and write %q", s.cfg.User, s.cfg.Path)
	case errors.Is(err, errLost), errors.As(err, &op):
		return kind(location.ErrUnreachable, "can this machine reach %s? look at the network and at the server's log", s.addr())
	case errors.As(err, &status):
		return s.failure(ctx, what, verb, name, err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, fs.ErrInvalid), errors.Is(err, io.ErrShortWrite):
		return fmt.Errorf("%s: %w", what, err)
	}
	return kind(location.ErrUnreachable, "can this machine reach %s? look at the network and at the server's log", s.addr())
}

// failure finds out what a server means that says "failure" for a full disk, a
// read-only one and everything else.
func (s *Store) failure(ctx context.Context, what, verb, name string, err error) error {
	if verb != "put" && verb != "make" {
		return fmt.Errorf("%s: %w", what, err)
	}
	const readOnly = 1 // of statvfs@openssh.com
	var vfs *client.StatVFS
	if s.do(ctx, func(c *conn) (err error) { vfs, err = c.StatVFS(path.Clean(s.cfg.Path)); return err }) == nil {
		switch {
		case vfs.Flag&readOnly != 0:
			return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, location.ErrReadOnly, err), "remount it for writing; a disk with errors is often remounted read-only, so look at the server's kernel log")
		case vfs.Bavail*vfs.Frsize < fullBelow || vfs.Files > 0 && vfs.Favail == 0:
			return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, location.ErrFull, err), "free or add space on the server, or shorten what is kept there")
		}
	}
	return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "the server gives no reason; a quota that is used up looks like this: look at its log")
}

// fullBelow is the free space below which a refused write is taken for a full disk:
// a pack does not fit any more.
const fullBelow = 64 << 20
