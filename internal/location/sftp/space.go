package sftp

import (
	"context"
	"fmt"

	client "github.com/pkg/sftp"

	"holdfast/internal/location"
)

// Space is the room of the file system on which the folder lies, as the server says it
// (statvfs@openssh.com). A server without that extension does not say: ErrUntold.
func (s *Store) Space(ctx context.Context) (location.Space, error) {
	var vfs *client.StatVFS
	if err := s.do(ctx, func(c *conn) (err error) {
		if _, ok := c.HasExtension("statvfs@openssh.com"); !ok {
			return nil
		}
		vfs, err = c.StatVFS(s.cfg.Path)
		return err
	}); err != nil {
		return location.Space{}, s.explain(ctx, "look at", "", err)
	}
	if vfs == nil {
		return location.Space{}, fmt.Errorf("%s: %w", s, location.ErrUntold)
	}
	return location.Space{Total: int64((vfs.Blocks - vfs.Bfree + vfs.Bavail) * vfs.Frsize), Free: int64(vfs.Bavail * vfs.Frsize)}, nil
}
