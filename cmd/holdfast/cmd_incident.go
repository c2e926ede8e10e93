package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
)

func (c *cli) incidentCmd() *cobra.Command {
	var open bool
	list := &cobra.Command{
		Use: "list", Short: "List incidents, newest first", Args: args(cobra.NoArgs), Example: "  $ holdfast incident list --open",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				is, err := cl.Incidents(ctx, open)
				if err != nil {
					return err
				}
				return c.print(notNil(is), func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "INCIDENT\tSEVERITY\tPHASE\tDETECTED\tTITLE")
					for _, i := range is {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Name(), i.Severity, i.Phase, when(i.DetectedAt), i.Title)
					}
					w.Flush()
				})
			})
		},
	}
	list.Flags().BoolVar(&open, "open", false, "only those that have not ended")
	show := &cobra.Command{
		Use: "show ID", Short: "Show an incident with its log", Args: args(cobra.ExactArgs(1)), Example: "  $ holdfast incident show 3",
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := incidentID(a[0])
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				l, err := cl.Incident(ctx, id)
				if err != nil {
					return err
				}
				return c.print(l, func(o io.Writer) {
					fmt.Fprintf(o, "%s %s: %s\n  phase %s, commander %s, services %s\n", l.Incident.Name(), l.Incident.Severity, l.Incident.Title, l.Incident.Phase,
						l.Incident.Commander, strings.Join(l.Incident.Services, ", "))
					for _, e := range l.Events {
						fmt.Fprintf(o, "  %s  %s: %s\n", when(e.At), e.Actor, e.Text)
					}
				})
			})
		},
	}
	var by, outcome string
	cl := &cobra.Command{
		Use: "close ID --by PERSON --outcome TEXT", Short: "End an incident with its review", Args: args(cobra.ExactArgs(1)),
		Long: `End an incident. Its stores must be back and backed up again, and the review must
say what was learned and who does what.

Exit status: 0 closed, 4 refused: a guard does not hold yet.`,
		Example: "  $ holdfast incident close 3 --by founder-a --outcome \"disk failure; founder-b adds a SMART alarm by Friday\"",
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := incidentID(a[0])
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, api *api.Client) error {
				inc, err := api.CloseIncident(ctx, id, by, outcome)
				if err != nil {
					return err
				}
				return c.print(inc, func(o io.Writer) { fmt.Fprintf(o, "%s closed\n", inc.Name()) })
			})
		},
	}
	cl.Flags().StringVar(&by, "by", "", "person of the plan (required)")
	cl.Flags().StringVar(&outcome, "outcome", "", "what was learned and who does what (required)")
	_ = cl.MarkFlagRequired("by")
	_ = cl.MarkFlagRequired("outcome")
	return group("incident", "What happened and how it is answered", list, show, cl)
}

func incidentID(s string) (int64, error) {
	id, err := strconv.ParseInt(strings.TrimPrefix(strings.ToUpper(s), "INC-"), 10, 64)
	if err != nil {
		return 0, &usageError{holdfast.WithHint(fmt.Errorf("%q is not an incident", s), "write its number, for example 3 or INC-3")}
	}
	return id, nil
}
