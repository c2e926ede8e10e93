package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/recovery"
)

func (c *cli) recoverCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List recoveries, newest first", Args: args(cobra.NoArgs), Example: "  $ holdfast recover list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				rs, err := cl.Recoveries(ctx)
				if err != nil {
					return err
				}
				return c.print(notNil(rs), func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "RECOVERY\tINCIDENT\tSTATE\tACTIVATED\tLOST")
					for _, r := range rs {
						fmt.Fprintf(w, "%s\tINC-%d\t%s\t%s\t%v\n", r.ID, r.Incident, r.State, when(r.Activated), r.Plan.Lost)
					}
					w.Flush()
				})
			})
		},
	}
	show := &cobra.Command{
		Use: "show RECOVERY", Short: "Show a recovery with its steps", Args: args(cobra.ExactArgs(1)), Example: "  $ holdfast recover show INC-3-1a2b3c4d",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				r, err := cl.Recovery(ctx, a[0])
				if err != nil {
					return err
				}
				return c.print(r, func(o io.Writer) { printRecovery(o, r) })
			})
		},
	}
	var by, note string
	activate := &cobra.Command{
		Use: "activate INCIDENT --by PERSON", Short: "A person activates the recovery of an incident", Args: args(cobra.ExactArgs(1)),
		Long: `Plan and carry out the recovery of what an incident lost. The plan's activation.by
says who may.

Exit status: 0 activated, 4 refused: this person may not.`,
		Example: "  $ holdfast recover activate 3 --by founder-a",
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := incidentID(a[0])
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				job, err := cl.Recover(ctx, id, by, note)
				if err != nil {
					return err
				}
				return c.print(map[string]int64{"job": job}, func(o io.Writer) { fmt.Fprintln(o, "activated; \"holdfast recover list\" shows how far it is") })
			})
		},
	}
	confirm := &cobra.Command{
		Use: "confirm RECOVERY STEP --by PERSON", Short: "A person says that a step is done", Args: args(cobra.ExactArgs(2)),
		Example: "  $ holdfast recover confirm INC-3-1a2b3c4d rebuild-reconnect --by founder-b",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				r, err := cl.ConfirmStep(ctx, a[0], a[1], by, note)
				if err != nil {
					return err
				}
				return c.print(r, func(o io.Writer) { printRecovery(o, r) })
			})
		},
	}
	for _, cmd := range []*cobra.Command{activate, confirm} {
		cmd.Flags().StringVar(&by, "by", "", "person of the plan (required)")
		cmd.Flags().StringVar(&note, "note", "", "for the record")
		_ = cmd.MarkFlagRequired("by")
	}
	return group("recover", "Bring back what was lost", list, show, activate, confirm)
}

func printRecovery(o io.Writer, r recovery.Run) {
	fmt.Fprintf(o, "recovery %s of INC-%d: %s; lost %v\n", r.ID, r.Incident, r.State, r.Plan.Lost)
	for _, n := range r.Plan.Notes {
		fmt.Fprintf(o, "  %s\n", n)
	}
	w := tabwriter.NewWriter(o, 2, 0, 2, ' ', 0)
	for _, s := range r.Steps {
		took := ""
		if !s.Finished.IsZero() {
			took = holdfast.FormatDuration(s.Finished.Sub(s.Started))
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", s.ID, s.State, took, s.Title, s.Detail)
	}
	w.Flush()
	for _, s := range r.Steps {
		if x := s.Outcome; x.Lost != nil {
			fmt.Fprintf(o, "  %s: the last commit seen at the source was at %s, the data came back up to %s: %s lost\n", s.ID,
				x.SourceCommit.UTC().Format("2006-01-02 15:04:05.000Z"), x.DataUntil.UTC().Format("2006-01-02 15:04:05.000Z"), holdfast.FormatDuration(*x.Lost))
		}
	}
}
