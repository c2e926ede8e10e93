package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
	"holdfast/internal/objective"
)

func (c *cli) storeCmd() *cobra.Command {
	return group("store", "Which stores are live, and what the others lack", c.storeListCmd(), c.goLiveCmd(), c.inventoryCmd())
}

func (c *cli) storeListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every store: live or not, and what it lacks",
		Long: `Say of each store of the plan whether it was declared live, and whether it has what
every live store needs: an owner, a class, an objective, a schedule, a location and a
first restore that passed.

Exit status: 0 no live store lacks anything, 1 error, 3 one does.`,
		Example: "  $ holdfast store list",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ls, err := cl.Launches(ctx)
				if err != nil {
					return err
				}
				if err := c.print(ls, func(o io.Writer) {
					for _, l := range ls {
						printLaunch(o, l)
					}
				}); err != nil {
					return err
				}
				lacks := false
				for _, l := range ls {
					lacks = lacks || l.Live && len(l.Missing()) > 0
				}
				return c.missed(lacks)
			})
		},
	}
}

func printLaunch(o io.Writer, l govern.Launch) {
	switch {
	case l.Live && l.Excepted:
		fmt.Fprintf(o, "%s: live since %s by %s, excepted\n", l.Store, day(l.At), l.By)
	case l.Live:
		fmt.Fprintf(o, "%s: live since %s by %s\n", l.Store, day(l.At), l.By)
	default:
		fmt.Fprintf(o, "%s: not live\n", l.Store)
	}
	for _, e := range l.Elements {
		switch {
		case e.There:
			fmt.Fprintf(o, "  %s: %s\n", e.Name, e.Is)
		case e.Exception != "":
			fmt.Fprintf(o, "  %s: excepted: %s\n", e.Name, e.Exception)
		default:
			fmt.Fprintf(o, "  %s: missing (%s): %s\n", e.Name, e.Rule, e.Is)
		}
	}
}

func (c *cli) goLiveCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "golive STORE --by PERSON",
		Short: "Declare a store live, if it has what every live store needs",
		Long: `Declare a store live. It is refused, with each missing thing by its name, while the
store has no owner, no class, no objective, no schedule, no location or no first restore
that passed. An approved exception of the code that "holdfast store list" shows stands
in for one of them, and the store is then shown as excepted.

Exit status: 0 live, 1 error, 2 usage, 4 refused.`,
		Example: "  $ holdfast store golive db --by ana",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if by == "" {
				return &usageError{holdfast.WithHint(errors.New("who declares it live?"), "give --by with your name in the plan")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				l, err := cl.GoLive(ctx, a[0], by)
				if err != nil {
					return err
				}
				return c.print(l, func(o io.Writer) { printLaunch(o, l) })
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who declares it live")
	return cmd
}

func (c *cli) inventoryCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "inventory",
		Short: "Everything that must come back, and what brings it back",
		Long: `List the services and stores of the plan, and what Holdfast itself needs: its state,
the repository at each location, and each key. Each has an owner, an objective and
something that protects it, or nothing. What protects must be back no later than what it
protects, so its objective is the shortest of all.

Exit status: 0 everything is covered, 1 error, 3 something is not.`,
		Example: "  $ holdfast store inventory",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				is, err := cl.Inventory(ctx)
				if err != nil {
					return err
				}
				if err := c.print(is, func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "ITEM\tKIND\tSTATE\tOWNER\tOBJECTIVE\tWHY")
					for _, i := range is {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Kind, i.State, orDash(i.Owner), orDash(i.Objective), i.Why)
					}
					w.Flush()
				}); err != nil {
					return err
				}
				return c.missed(slices.ContainsFunc(is, func(i api.Item) bool {
					return i.State == string(objective.Uncovered) || i.State == string(objective.PartCovered)
				}))
			})
		},
	}
}
