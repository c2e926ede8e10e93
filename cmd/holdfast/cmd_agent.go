package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
)

func (c *cli) agentCmd() *cobra.Command {
	return group("agent", "Make backups on a machine that cannot read them", c.agentInitCmd(), c.agentSourceCmd(), c.agentPinCmd())
}

func (c *cli) agentInitCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "init NAME",
		Short: "Make the two keys of a source agent and print the public one",
		Long: `Make, in the workspace or in --dir, the keys that a source agent needs: one that
signs what it makes and one that names chunks. Neither reads a backup. The public half
of the first goes into the plan, at the stores that the agent backs up, on this machine
and on the server's.

Exit status: 0 made, 1 error.`,
		Example: "  $ holdfast agent init db1 --dir /etc/holdfast\n  agent: {key: \"holdfast-verify-key/1:db1:…\"}",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			dir := c.dir
			if dir == "" {
				dir = os.Getenv("HOLDFAST_DIR")
			}
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			k, err := app.InitAgent(app.Workspace{Dir: dir}, a[0])
			if err != nil {
				return err
			}
			return c.print(map[string]string{"key": k.String(), "fingerprint": k.Fingerprint()}, func(o io.Writer) {
				fmt.Fprintf(o, "agent: {key: %q}\n", k)
			})
		},
	}
}

func (c *cli) agentSourceCmd() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "source [STORE...]",
		Short: "Back up the stores of this machine, with credentials that only write",
		Long: `Back up the stores that the plan gives to this agent, or some of them, on the plan's
schedule, and follow their logs, until interrupted. With --once, copy each now and end.

The agent reads, lists and deletes nothing in a location, and refuses to work with
credentials that could, or beside keys that do not belong here. It remembers only what
it wrote itself. What it made, the server finds in the locations, countersigns and
proves: "holdfast status" there says what is protected.

Exit status: 0 all copied, 1 error, 3 a location did not get its copy, 4 refused: a
location can be read from here, or a key lies here that must not.`,
		Example: "  $ holdfast agent source --once\n  uploads: 20261122T101530Z-1a2b3c4d put into offsite",
		RunE: func(cmd *cobra.Command, stores []string) error {
			opt, err := c.options(slog.LevelInfo)
			if err != nil {
				return err
			}
			a, err := app.OpenAgent(opt)
			if err != nil {
				return err
			}
			defer a.Close()
			own, err := a.Stores()
			if err != nil {
				return err
			}
			for _, s := range stores {
				if !slices.Contains(own, s) {
					return holdfast.WithHint(fmt.Errorf("store %q is not this agent's: %w", s, holdfast.ErrUsage), "it backs up %v", own)
				}
			}
			if len(stores) == 0 {
				stores = own
			}
			if !once {
				a.Run(cmd.Context(), stores, func(m app.Made) {
					_ = c.print(m, func(o io.Writer) { printMade(o, m) }) // who reads it went away
					if m.Err != nil {
						c.complain(fmt.Errorf("%s: %w", m.Store, m.Err))
					}
				})
				return nil
			}
			var made []app.Made
			var errs []error
			missed := false
			for _, s := range stores {
				m, err := a.Snapshot(cmd.Context(), s)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", s, err))
				}
				for _, why := range m.Places {
					missed = missed || why != "put"
				}
				made = append(made, m)
			}
			if err := c.print(map[string]any{"made": made}, func(o io.Writer) {
				for _, m := range made {
					printMade(o, m)
				}
			}); err != nil {
				return err
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if missed {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "copy each store now, and end")
	return cmd
}

func printMade(o io.Writer, m app.Made) {
	if m.Snapshot == "" {
		return
	}
	for _, name := range sortedKeys(m.Places) {
		if why := m.Places[name]; why == "put" {
			fmt.Fprintf(o, "%s: %s put into %s, %s read, %s stored\n", m.Store, m.Snapshot, name, size(m.Bytes), size(m.Stored))
		} else {
			fmt.Fprintf(o, "%s: %s not put into %s: %s\n", m.Store, m.Snapshot, name, why)
		}
	}
}
