package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
)

func (c *cli) storeCmd() *cobra.Command {
	return group("store", "Which stores are live, and what the others lack", c.storeListCmd(), c.goLiveCmd())
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
