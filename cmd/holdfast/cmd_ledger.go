package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"holdfast/internal/app"
)

func (c *cli) acceptLossCmd() *cobra.Command {
	var by, reason string
	cmd := &cobra.Command{
		Use:   "accept-loss --by PERSON --reason TEXT",
		Short: "A person says that facts are lost for good",
		Long: `When the state was lost or restored from an older copy, the anchors in the
locations know more facts than the ledger holds, and nothing starts: what would be
written next would be a second history. Put the newest state back if there is one.
If there is none, this records who accepted the loss, and why, and lets the ledger
go on. Auditors who hold a newer checkpoint will see the loss, for ever.

The server must not be running.

Exit status: 0 accepted, or nothing is missing, 1 error, 4 refused: not a person of
the plan.`,
		Example: "  $ holdfast evidence accept-loss --by founder-a --reason \"the server's disk died; the newest copy was a day old\"",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt, err := c.options(slog.LevelError)
			if err != nil {
				return err
			}
			opt.Work = app.Work{Asked: true}
			a, err := app.Open(cmd.Context(), opt)
			if err != nil {
				return err
			}
			n, err := a.AcceptLoss(cmd.Context(), by, reason)
			if err = errors.Join(err, a.Stop()); err != nil {
				return err
			}
			return c.print(map[string]int{"accepted": n}, func(o io.Writer) {
				if n == 0 {
					fmt.Fprintln(o, "nothing is missing: the ledger holds all that the locations within reach know of")
					return
				}
				fmt.Fprintln(o, "recorded; \"holdfast serve\" goes on from what is there")
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "person of the plan (required)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	for _, f := range []string{"by", "reason"} {
		_ = cmd.MarkFlagRequired(f) // fails only for a flag that does not exist
	}
	return cmd
}
