package main

import (
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/demo"
)

func (c *cli) demoCmd() *cobra.Command {
	var opt demo.Options
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The whole story on this machine, in about a minute and a half",
		Long: `Play the whole story on a real PostgreSQL that this command starts (never as
root): protect it and a folder, destroy both and one location, let the product
notice and recover by itself, drill to an instant of the past, export evidence and
verify it. Every number is measured in this run. Nothing outside the demo's own
directory is touched.

Exit status: 0 every objective met, 1 error, 3 an objective was missed.`,
		Example: "  $ holdfast demo\n  $ holdfast demo --keep        # leave it running and look at the page\n  $ holdfast demo --json | jq .rto_seconds",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Tell = c.stdout
			if c.json {
				opt.Tell = c.stderr
			}
			if verbose {
				opt.Log = slog.New(slog.NewTextHandler(c.stderr, nil))
			}
			res, err := demo.Run(cmd.Context(), opt)
			if err != nil && !errors.Is(err, holdfast.ErrMissed) {
				return err
			}
			if c.json {
				if perr := c.print(res, func(io.Writer) {}); perr != nil {
					return perr
				}
			}
			c.reported = true
			return err
		},
	}
	cmd.Flags().StringVar(&opt.Dir, "dir", "", "work in this empty directory and leave it (default: a temporary one)")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show the server's log on standard error")
	cmd.Flags().BoolVar(&opt.Keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	cmd.Flags().StringVar(&opt.Break, "break", "", "break a part and see the story fail: flip (a byte in every pack) or log (the log stream)")
	return cmd
}
