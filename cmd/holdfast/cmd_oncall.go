package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/oncall"
)

func (c *cli) oncallCmd() *cobra.Command {
	var all bool
	list := &cobra.Command{
		Use: "list", Short: "List who is called for what, newest first", Args: args(cobra.NoArgs), Example: "  $ holdfast oncall list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				cs, err := cl.Calls(ctx, all)
				if err != nil {
					return err
				}
				return c.print(notNil(cs), func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "CALL\tSTATE\tWHO\tSINCE\tTITLE")
					for _, x := range cs {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.Name(), x.State, whoIsCalled(x), when(x.RaisedAt), x.Title)
					}
					w.Flush()
				})
			})
		},
	}
	list.Flags().BoolVar(&all, "all", false, "also what is over, and reminders")
	show := &cobra.Command{
		Use: "show CALL", Short: "Show a call and how far it is", Args: args(cobra.ExactArgs(1)), Example: "  $ holdfast oncall show CALL-3",
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := callID(a[0])
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				x, err := cl.Call(ctx, id)
				if err != nil {
					return err
				}
				return c.print(x, func(o io.Writer) { writeCall(o, x) })
			})
		},
	}
	return group("oncall", "Who is called when something fails, and who sees to it", list, show, c.ackCmd())
}

func (c *cli) ackCmd() *cobra.Command {
	var by, note string
	var every bool
	ack := &cobra.Command{
		Use: "ack [CALL...] --by PERSON", Short: "Say that you see to it, so that nobody else is called",
		Long: `Say that you see to a call. Nobody else is called for it, and an incident that
nobody had looked at is acknowledged. The trouble goes on until it is mended; who was
called is told then.

Exit status: 0 recorded, 4 refused: the call is over, or asks for no answer.`,
		Example: "  $ holdfast oncall ack CALL-3 --by founder-a --note \"restarting it\"\n  $ holdfast oncall ack --all --by founder-a",
		Args:    args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error {
			if every == (len(a) > 0) {
				return &usageError{holdfast.WithHint(errors.New("name the calls, or say --all"), "\"holdfast oncall list\" lists them")}
			}
			var ids []int64
			for _, s := range a {
				id, err := callID(s)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if every {
					open, err := cl.Calls(ctx, false)
					if err != nil {
						return err
					}
					for _, x := range open {
						if x.State != oncall.Answered && !x.Notice {
							ids = append(ids, x.ID)
						}
					}
				}
				var done []oncall.Call
				for _, id := range ids {
					x, err := cl.AnswerCall(ctx, id, by, note)
					if err != nil {
						return err
					}
					done = append(done, x)
				}
				return c.print(notNil(done), func(o io.Writer) {
					for _, x := range done {
						fmt.Fprintf(o, "%s: %s sees to it: %s\n", x.Name(), x.By, x.Title)
					}
				})
			})
		},
	}
	ack.Flags().StringVar(&by, "by", "", "person of the plan (required)")
	ack.Flags().StringVar(&note, "note", "", "what you are doing")
	ack.Flags().BoolVar(&every, "all", false, "every call that nobody has answered")
	_ = ack.MarkFlagRequired("by")
	return ack
}

func whoIsCalled(x oncall.Call) string {
	switch x.State {
	case oncall.Open:
		return x.Now()
	case oncall.Answered:
		return x.By
	}
	return strings.Join(x.Told, ", ")
}

func writeCall(o io.Writer, x oncall.Call) {
	fmt.Fprintf(o, "%s %s: %s\n  about %s, since %s\n  %s\n", x.Name(), x.State, x.Title, x.Subject, when(x.RaisedAt), x.Detail)
	fmt.Fprintf(o, "  called in this order, %s each: %s\n", x.Within, strings.Join(x.Ladder, ", "))
	if len(x.Told) > 0 {
		fmt.Fprintf(o, "  called until now: %s\n", strings.Join(x.Told, ", "))
	}
	if due := x.Due(); !due.IsZero() {
		fmt.Fprintf(o, "  the next one at %s, if %s does not answer\n", when(due), x.Now())
	}
	if x.By != "" {
		fmt.Fprintf(o, "  %s sees to it since %s: %s\n", x.By, when(x.EndedAt), x.Note)
	} else if x.Note != "" {
		fmt.Fprintf(o, "  over since %s: %s\n", when(x.EndedAt), x.Note)
	}
}

func callID(s string) (int64, error) {
	id, err := strconv.ParseInt(strings.TrimPrefix(strings.ToUpper(s), "CALL-"), 10, 64)
	if err != nil {
		return 0, &usageError{holdfast.WithHint(fmt.Errorf("%q is not a call", s), "write its number, for example 3 or CALL-3")}
	}
	return id, nil
}
