package main

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/mount"
)

func (c *cli) mountCmd() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "mount STORE[@POINT] DIR",
		Short: "Show a snapshot as a read-only folder",
		Long: `Show a snapshot of STORE at DIR, an empty directory, until the command is
interrupted (ctrl-C or SIGTERM) or DIR is unmounted. Nothing is restored: what is
read is fetched when it is read, from any place of a file, and compared.

It takes FUSE (/dev/fuse) and root, or the program fusermount3. A mount whose
process was killed answers "transport endpoint is not connected": "umount DIR" ends
it. The use of the read key is recorded with --purpose.

Exit status: 0 unmounted, 1 error, 2 usage, 4 DIR is not empty.`,
		Example: "  $ holdfast mount uploads@2026-11-22T10:00:00Z /mnt --purpose \"ticket 381\"\n  uploads … at /mnt; ctrl-C ends it",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if l.purpose == "" {
				return &usageError{holdfast.WithHint(errors.New("mount needs --purpose TEXT"), "say what the read key is used for: --purpose \"incident 12\", a ticket, or a reason; it is recorded")}
			}
			opt, p, r, err := c.point(a[0], l)
			if err != nil {
				return err
			}
			pt, err := app.OpenPoint(cmd.Context(), p, opt, r)
			if err != nil {
				return err
			}
			var mu sync.Mutex // reads fail side by side
			damaged := 0
			m, err := mount.At(pt.Snapshot, a[1], func(path string, err error) {
				mu.Lock()
				defer mu.Unlock()
				damaged++
				fmt.Fprintf(c.stderr, "holdfast: warning: %s cannot be read: %v\n", shown(path), err)
			})
			if err != nil {
				return err
			}
			man := pt.Manifest()
			if err := c.print(map[string]any{"mounted": a[1], "snapshot": man.ID, "created": man.Created.UTC(), "location": pt.Location}, func(o io.Writer) {
				fmt.Fprintf(o, "%s, snapshot %s of %s from %q, at %s; ctrl-C ends it\n", r.Store, man.ID, when(man.Created), pt.Location, a[1])
			}); err != nil {
				return errors.Join(err, m.Close())
			}
			select {
			case <-cmd.Context().Done():
			case <-m.Done():
			}
			if err := m.Close(); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if damaged > 0 {
				return holdfast.WithHint(fmt.Errorf("%d paths could not be read: the copy at %q is damaged", damaged, pt.Location), "another location may hold a whole copy: --location")
			}
			return nil
		},
	}
	l.flags(cmd)
	return cmd
}
