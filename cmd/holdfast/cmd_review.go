package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
)

func (c *cli) reviewCmd() *cobra.Command {
	return group("review", "What people owe: reviews, attestations, approvals, proof after changes", c.reviewListCmd(), c.reviewShowCmd(), c.reviewDoneCmd(), c.reviewPackCmd())
}

func (c *cli) reviewListCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list [--all]",
		Short: "What is due, by whom, and what is overdue",
		Long: `List what people owe, overdue first: the reviews, exercises and attestations of the
plan, the approval of each objective, the look at what protects each store, the
assessment of risks, and what is due because something happened: a store changed its
version or its schema or tripled in size, its retention changed, a drill failed, an
incident was opened.

It is written down before its time, so what nobody did is in the list. --all shows
also what was done, missed or withdrawn.

Exit status: 0 nothing is overdue, 1 error, 3 something is overdue.`,
		Example: "  $ holdfast review list\n  $ holdfast review list --all --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ds, err := cl.Reviews(ctx, all)
				if err != nil {
					return err
				}
				if err := c.print(ds, func(o io.Writer) { printDuties(o, ds) }); err != nil {
					return err
				}
				return c.missed(slices.ContainsFunc(ds, func(d govern.Duty) bool { return d.State == govern.Overdue }))
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what was done, missed or withdrawn")
	return cmd
}

func printDuties(o io.Writer, ds []govern.Duty) {
	if len(ds) == 0 {
		fmt.Fprintln(o, "nobody owes anything")
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tDUE\tREVIEW\tWHO\tWHAT")
	for _, d := range ds {
		who := strings.Join(d.By, ", ")
		switch {
		case d.ByDrill():
			who = "a drill"
		case d.EndsWith() != "":
			who = d.Owner
		case len(d.Signatures) > 0 && d.Outcome == "":
			who += fmt.Sprintf(" (%d signed)", len(d.Signatures))
		}
		id := d.Name
		if d.Outcome != "" {
			id = d.ID
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.State, day(d.Due), id, who, d.What)
	}
	w.Flush()
}

// day is a date as people read it, in UTC.
func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

func (c *cli) reviewShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show REVIEW",
		Short: "One of them: what is looked at, why, who signed, and what to do",
		Long: `Show one duty, by the name that "holdfast review list" prints, or by its id for one
that is over.

Exit status: 0 it is not overdue, 1 error, 2 there is none of that name, 3 it is
overdue.`,
		Example: "  $ holdfast review show coverage.stores.db",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ds, err := cl.Reviews(ctx, true)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(ds, func(d govern.Duty) bool { return d.ID == a[0] || d.Name == a[0] && d.Outcome == "" })
				if i < 0 {
					return &usageError{holdfast.WithHint(fmt.Errorf("no review %q is open", a[0]), "\"holdfast review list --all\" lists them, with the ids of those that are over")}
				}
				if err := c.print(ds[i], func(o io.Writer) { printDuty(o, ds[i]) }); err != nil {
					return err
				}
				return c.missed(ds[i].State == govern.Overdue)
			})
		},
	}
}

func printDuty(o io.Writer, d govern.Duty) {
	fmt.Fprintf(o, "%s: %s\nstate: %s; due %s\ncause: %s\n", d.ID, d.What, d.State, day(d.Due), d.Cause)
	if !d.Since.IsZero() {
		fmt.Fprintf(o, "missed since %s\n", day(d.Since))
	}
	for _, i := range d.Items {
		fmt.Fprintf(o, "  %s\n", i)
	}
	if with := d.EndsWith(); with != "" {
		fmt.Fprintf(o, "ends with: %s\n", with)
	} else {
		fmt.Fprintf(o, "ends with: the word of %s (%d different people)\n", strings.Join(d.By, ", "), max(d.People, len(d.By)))
	}
	for _, s := range d.Signatures {
		how := "signed"
		if s.Key == "" {
			how = "said, without a key"
		}
		fmt.Fprintf(o, "%s: %s, %s %s\n", how, s.By, when(s.At), s.Note)
	}
	switch {
	case d.Outcome != "":
		fmt.Fprintf(o, "%s %s: %s\n", d.Outcome, day(d.Closed), d.Proof)
	case d.Kind == govern.OfflineCopy:
		fmt.Fprintf(o, "next: holdfast offline make --person %s --new-passphrase FILE\n      holdfast offline confirm COPY CODE --by %s\n", d.Owner, d.Owner)
	case d.EndsWith() == "":
		fmt.Fprintf(o, "next: holdfast review done %s --by YOU --note \"what you found\" --text > review.txt\n      ssh-keygen -Y sign -n %s -f KEY review.txt\n      holdfast review done %s --by YOU --note \"what you found\" --signature review.txt.sig\n", d.Name, govern.Namespace, d.Name)
	}
}

func (c *cli) reviewDoneCmd() *cobra.Command {
	var p api.Part
	var file, on string
	var text bool
	cmd := &cobra.Command{
		Use:   "done REVIEW --by PERSON [--signature FILE]",
		Short: "Do your part: look, say what you found, and sign",
		Long: `Record that you did your part of a duty. It is done when everybody whom it names did
theirs: two roles are two people. A person with a key in the plan signs the text;
the word of one without is recorded as unsigned, and does not count for an approval.

Sign on your own machine and with your own key, with the same --by, --note and --on:

  holdfast review done REVIEW --by YOU --note "no change" --text > review.txt
  ssh-keygen -Y sign -n holdfast-duty -f ~/.ssh/id_ed25519 review.txt
  holdfast review done REVIEW --by YOU --note "no change" --signature review.txt.sig

What was done earlier and is recorded late says so with --on, and counts on that day.

Exit status: 0 it is done, 1 error, 2 usage, 4 refused, or others must sign too.`,
		Example: "  $ holdfast review done reviews.alerts --by ana --note \"no change\"\n  $ holdfast review done coverage.stores.db --by ben --signature review.txt.sig",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if p.By == "" {
				return &usageError{holdfast.WithHint(errors.New("who are you?"), "give --by with your name in the plan")}
			}
			if text && file != "" {
				return &usageError{holdfast.WithHint(errors.New("--text prints what to sign, --signature gives it signed"), "give one of them")}
			}
			if on != "" {
				_, pl, err := c.workspacePlan()
				if err != nil {
					return err
				}
				if p.On, err = holdfast.ParseTime(on, pl.Location()); err != nil {
					return &usageError{err}
				}
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
					t, err := cl.ReviewText(ctx, a[0], p)
					if err != nil {
						return err
					}
					_, err = io.WriteString(c.stdout, t)
					return err
				}
				d, err := cl.ReviewDone(ctx, a[0], p)
				if err != nil {
					return err
				}
				if err := c.print(d, func(o io.Writer) { printDuty(o, d) }); err != nil {
					return err
				}
				accounted := d.Outcome == govern.Missed && d.Watch && len(d.Signatures) > 0
				if d.Outcome != govern.Done && !accounted {
					c.reported = true
					return holdfast.ErrRefused
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.By, "by", "", "who you are in the plan")
	f.StringVar(&p.Note, "note", "", "what you found; \"no change\" is something, too")
	f.StringVar(&on, "on", "", "when it was done, if that was before now")
	f.StringVar(&file, "signature", "", "file with your signature, as ssh-keygen -Y sign makes it")
	f.BoolVar(&text, "text", false, "print the text to sign, and nothing else")
	return cmd
}

func (c *cli) reviewPackCmd() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "pack [--since DATE]",
		Short: "What a review by management looks at, gathered by nobody's hand",
		Long: `Gather what management reviews: how many stores of each tier a drill has proved since
a day, with those that none has by name; what is overdue, due or was missed; the impact
analyses with their risks; the register; the exceptions.

Without --since it is for the quarter so far.

Exit status: 0 gathered, and nothing is overdue or untested, 1 error, 3 something is.`,
		Example: "  $ holdfast review pack\n  $ holdfast review pack --since 2026-07-01 --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			clock, err := c.clock()
			if err != nil {
				return err
			}
			now := clock().In(p.Location())
			from := time.Date(now.Year(), 1+3*((now.Month()-1)/3), 1, 0, 0, 0, 0, p.Location())
			if since != "" {
				if from, err = holdfast.ParseTime(since, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				k, err := cl.ReviewPack(ctx, from)
				if err != nil {
					return err
				}
				if err := c.print(k, func(o io.Writer) { printPack(o, k, p.Location()) }); err != nil {
					return err
				}
				bad := slices.ContainsFunc(k.Duties, func(d govern.Duty) bool { return d.State == govern.Overdue }) ||
					slices.ContainsFunc(k.Tests, func(t govern.Tested) bool { return len(t.Untested) > 0 })
				return c.missed(bad)
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "from when on (default: the quarter so far)")
	return cmd
}

func printPack(o io.Writer, k govern.Pack, zone *time.Location) {
	fmt.Fprintf(o, "Review from %s to %s, plan %s\n\nTests\n", k.From.In(zone).Format(time.DateOnly), k.To.In(zone).Format(time.DateOnly), k.Plan)
	for _, t := range k.Tests {
		fmt.Fprintf(o, "  tier %s: %d of %d stores proved by a drill, %.0f %%", orDash(t.Tier), t.Tested, t.Stores, t.Percent)
		if len(t.Untested) > 0 {
			fmt.Fprintf(o, "; not: %s", strings.Join(t.Untested, ", "))
		}
		fmt.Fprintln(o)
	}
	fmt.Fprintln(o, "\nOwed")
	printDuties(o, k.Duties)
	fmt.Fprintln(o, "\nImpact analyses")
	for _, a := range k.Analyses {
		fmt.Fprintf(o, "  %s: %s, by %s on %s, risk %s\n", a.Service, a.Why, orDash(a.By), orDash(a.On), orDash(a.Risk))
	}
	fmt.Fprintln(o, "\nRisks")
	printRisks(o, k.Risks)
	fmt.Fprintln(o, "\nExceptions")
	for _, e := range k.Exceptions {
		fmt.Fprintf(o, "  %s (%s): %s of %s until %s: %s\n", e.ID, e.State, e.Rule, e.Of, day(e.Until), e.Why)
	}
}
