package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
)

func (c *cli) exceptionCmd() *cobra.Command {
	return group("exception", "Approved, ending waivers of findings", c.exceptionListCmd(), c.exceptionAskCmd(), c.exceptionApproveCmd())
}

func (c *cli) exceptionListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every exception: asked, approved or ended",
		Long: `List the exceptions of the plan and those that were asked for while it runs, with who
must agree and until when they last.

Exit status: 0 listed, 1 error.`,
		Example: "  $ holdfast exception list",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				es, err := cl.Exceptions(ctx)
				if err != nil {
					return err
				}
				return c.print(es, func(o io.Writer) {
					if len(es) == 0 {
						fmt.Fprintln(o, "there is no exception")
						return
					}
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "EXCEPTION\tSTATE\tFINDING\tOF\tUNTIL\tASKED BY\tWHO AGREES\tWHY")
					for _, e := range es {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.State, e.Rule, e.Of, day(e.Until), e.By, strings.Join(e.Roles, ", "), e.Why)
					}
					w.Flush()
				})
			})
		},
	}
}

func (c *cli) exceptionAskCmd() *cobra.Command {
	var e api.Waiver
	var until string
	cmd := &cobra.Command{
		Use:   "ask --rule CODE --of SUBJECT --why TEXT --until DATE --by PERSON",
		Short: "Ask for a finding to be waived for a time",
		Long: `Ask for an exception. Nothing is waived until those who must have agreed with their
keys: whom the plan's approvals exception-low to exception-critical name, else one of its
approvers other than you, and two for a high or critical risk. It ends by itself, within
a year, and what it waived is back.

It counts as one of the plan does: in check, coverage, postures, risks, for stores that go
live and for places that are not approved. HF-O04 of services.NAME.rto, or of any other
objective, waives that it is missed, overdue or not proven.

Exit status: 0 asked, 1 error, 2 usage.`,
		Example: "  $ holdfast exception ask --rule HF-L11 --of stores.queue --why \"rebuilt from db\" --risk low --until 2027-03-01 --by ana",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if until == "" || e.By == "" {
				return &usageError{holdfast.WithHint(errors.New("an exception has an end and somebody who asks"), "give --until and --by")}
			}
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			if e.Until, err = holdfast.ParseTime(until, p.Location()); err != nil {
				return &usageError{err}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				got, err := cl.AskException(ctx, e)
				if err != nil {
					return err
				}
				return c.print(got, func(o io.Writer) { printException(o, got) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Rule, "rule", "", "the code of the finding")
	f.StringVar(&e.Of, "of", "", "what it is about, such as stores.queue")
	f.StringVar(&e.Why, "why", "", "why")
	f.StringVar(&e.Risk, "risk", "medium", "what is at stake: low, medium, high or critical")
	f.StringVar(&e.Impact, "impact", "", "what it costs if it goes wrong")
	f.StringVar(&e.Compensating, "compensating", "", "what makes up for it until then")
	f.StringVar(&e.Remedy, "remedy", "", "how it ends")
	f.StringVar(&e.By, "by", "", "who asks")
	f.StringVar(&until, "until", "", "when it ends")
	return cmd
}

func printException(o io.Writer, e govern.Exception) {
	fmt.Fprintf(o, "%s: %s of %s, until %s: %s\nstate: %s; %d of %s must agree\n", e.ID, e.Rule, e.Of, day(e.Until), e.Why, e.State, e.People, strings.Join(e.Roles, ", "))
	for _, s := range e.Signatures {
		fmt.Fprintf(o, "signed: %s, %s\n", s.By, when(s.At))
	}
	if e.State == govern.ExceptionOpen {
		fmt.Fprintf(o, "next: holdfast exception approve %s --text > exception.txt\n      ssh-keygen -Y sign -n %s -f KEY exception.txt\n      holdfast exception approve %s --by YOU --signature exception.txt.sig\n", e.ID, govern.Namespace, e.ID)
	}
}

func (c *cli) exceptionApproveCmd() *cobra.Command {
	var p api.Part
	var file string
	var text bool
	cmd := &cobra.Command{
		Use:   "approve EXCEPTION --by PERSON --signature FILE",
		Short: "Agree to an exception, with your key",
		Long: `Sign for an exception. Who asked for it cannot agree to it, unless the plan says so.

  holdfast exception approve EX-0001 --text > exception.txt
  ssh-keygen -Y sign -n holdfast-duty -f ~/.ssh/id_ed25519 exception.txt
  holdfast exception approve EX-0001 --by YOU --signature exception.txt.sig

Exit status: 0 approved, 1 error, 2 usage, 4 refused, or others must agree too.`,
		Example: "  $ holdfast exception approve EX-0001 --by ben --signature exception.txt.sig",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if !text && (p.By == "" || file == "") {
				return &usageError{holdfast.WithHint(errors.New("who are you, and where is your signature?"), "give --by and --signature, or --text for what to sign")}
			}
			if file != "" {
				b, err := readSignature(file)
				if err != nil {
					return err
				}
				p.Signature = string(b)
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if text {
					t, err := cl.ExceptionText(ctx, a[0])
					if err != nil {
						return err
					}
					_, err = io.WriteString(c.stdout, t)
					return err
				}
				e, err := cl.ApproveException(ctx, a[0], p)
				if err != nil {
					return err
				}
				if err := c.print(e, func(o io.Writer) { printException(o, e) }); err != nil {
					return err
				}
				if e.State != govern.ExceptionApproved {
					c.reported = true
					return holdfast.ErrRefused
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.By, "by", "", "who you are in the plan")
	f.StringVar(&p.Note, "note", "", "what you want to add")
	f.StringVar(&file, "signature", "", "file with your signature, as ssh-keygen -Y sign makes it")
	f.BoolVar(&text, "text", false, "print the text to sign, and nothing else")
	return cmd
}
