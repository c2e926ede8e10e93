package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/message"
)

// sending is the work of a command that hands messages over.
var sending = app.Work{Asked: true, Jobs: []string{message.Job}}

func (c *cli) messageCmd() *cobra.Command {
	var state string
	list := &cobra.Command{
		Use: "list", Short: "List messages, newest first", Args: args(cobra.NoArgs),
		Long: `List messages and whether they were handed over: waiting, handed, failed (nobody took
it, and it is not tried any more) or withdrawn (it was not needed any more).

Exit status: 0, and 3 with --state failed when there are any.`,
		Example: "  $ holdfast message list\n  $ holdfast message list --state failed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ms, err := cl.Messages(ctx, state)
				if err != nil {
					return err
				}
				if err := c.print(notNil(ms), func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "MESSAGE\tSTATE\tTO\tBY\tTRIES\tWRITTEN\tSUBJECT")
					for _, m := range ms {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", m.ID, m.State, m.Person, m.Channel, m.Tries, when(m.Created), m.Subject)
					}
					w.Flush()
				}); err != nil {
					return err
				}
				if state == message.Failed && len(ms) > 0 {
					c.reported = true
					return holdfast.ErrMissed
				}
				return nil
			})
		},
	}
	list.Flags().StringVar(&state, "state", "", "only waiting, handed, failed or withdrawn")
	show := &cobra.Command{
		Use: "show MESSAGE", Short: "Show a message and how far it is", Args: args(cobra.ExactArgs(1)), Example: "  $ holdfast message show m-9f86d081884c7d659a2feaa0",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				m, err := cl.Message(ctx, a[0])
				if err != nil {
					return err
				}
				return c.print(m, func(o io.Writer) {
					fmt.Fprintf(o, "%s %s: %s\n  to %s by %s, written %s, tried %d times\n", m.ID, m.State, m.Subject, m.Person, m.Channel, when(m.Created), m.Tries)
					if m.Said != "" {
						fmt.Fprintf(o, "  %s: %s\n", when(m.Tried), m.Said)
					}
					if m.Text != "" {
						fmt.Fprintf(o, "\n%s", m.Text)
					}
				})
			})
		},
	}
	var by string
	resend := &cobra.Command{
		Use: "resend MESSAGE --by PERSON", Short: "Send a message that has ended once more, with the same id", Args: args(cobra.ExactArgs(1)),
		Example: "  $ holdfast message resend m-9f86d081884c7d659a2feaa0 --by founder-a",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), sending, func(ctx context.Context, cl *api.Client) error {
				m, err := cl.Resend(ctx, a[0], by)
				if err != nil {
					return err
				}
				return c.print(m, func(o io.Writer) { fmt.Fprintf(o, "%s is sent again: %s\n", m.ID, m.Subject) })
			})
		},
	}
	resend.Flags().StringVar(&by, "by", "", "who asks for it (required)")
	_ = resend.MarkFlagRequired("by")
	return group("message", "What was sent to people and other systems, and whether it arrived", list, show, resend, c.messageTestCmd())
}

func (c *cli) messageTestCmd() *cobra.Command {
	var t api.Trial
	test := &cobra.Command{
		Use: "test [CHANNEL] --to PERSON", Short: "Send a message for testing now, and say what came of it", Args: args(cobra.MaximumNArgs(1)),
		Long: `Send one message by a channel of the plan in force, and wait for the answer of the other
side. Nothing is tried again and nothing is recorded.

Exit status: 0 the other side took it, 1 it did not.`,
		Example: "  $ holdfast message test mail --to founder-a",
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				t.Channel = a[0]
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				tried, err := cl.TryChannel(ctx, t)
				if err != nil {
					return err
				}
				return c.print(tried, func(o io.Writer) { fmt.Fprintf(o, "taken: %s\n", tried.Said) })
			})
		},
	}
	test.Flags().StringVar(&t.Person, "to", "", "person of the plan; a webhook needs none")
	return test
}
