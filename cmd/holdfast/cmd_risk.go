package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
	"holdfast/internal/plan"
)

func (c *cli) riskCmd() *cobra.Command {
	return group("risk", "The register of risks: the plan's, and those that the system sees", c.riskListCmd(), c.riskShowCmd(), c.riskAssessCmd(), c.riskCloseCmd(), c.riskHazardsCmd())
}

func (c *cli) riskListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every risk with its owner, assessment and treatment",
		Long: `List the risks of the plan, and those that the system sees by itself: what nothing
protects, a person whose absence stops everything, a supplier about whom too little
is known, and what the impact analysis of a service says.

Exit status: 0 listed, 1 error.`,
		Example: "  $ holdfast risk list",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				rs, err := cl.Risks(ctx)
				if err != nil {
					return err
				}
				return c.print(rs, func(o io.Writer) { printRisks(o, rs) })
			})
		},
	}
}

// riskState says in a word where a risk stands.
func riskState(r govern.Risk) string {
	switch {
	case !r.Closed.IsZero():
		return "closed"
	case !r.Stands:
		return "open, cause gone"
	}
	return "open"
}

// assessed is an assessment in a table.
func assessed(r govern.Risk) string {
	if r.Likelihood == 0 || r.Impact == 0 {
		return "not assessed"
	}
	return fmt.Sprintf("%d × %d", r.Likelihood, r.Impact)
}

func printRisks(o io.Writer, rs []govern.Risk) {
	if len(rs) == 0 {
		fmt.Fprintln(o, "no risk is known, which is itself unlikely")
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RISK\tSTATE\tOWNER\tLIKELY × IMPACT\tTREATMENT\tEVENT")
	for _, r := range rs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, riskState(r), r.Owner, assessed(r), orDash(r.Treat), r.Event)
	}
	w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (c *cli) riskShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show RISK",
		Short: "One risk: where it comes from, who judged it, what ends it",
		Long: `Show one entry of the register.

Exit status: 0 shown, 1 error, 2 there is none of that name.`,
		Example: "  $ holdfast risk show coverage.stores.queue",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				rs, err := cl.Risks(ctx)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(rs, func(r govern.Risk) bool { return r.ID == a[0] })
				if i < 0 {
					return &usageError{holdfast.WithHint(fmt.Errorf("no risk %q", a[0]), "\"holdfast risk list\" lists them")}
				}
				return c.print(rs[i], func(o io.Writer) { printRisk(o, rs[i]) })
			})
		},
	}
}

func printRisk(o io.Writer, r govern.Risk) {
	fmt.Fprintf(o, "%s: %s\nstate: %s; about %s; owner %s\nassessment: %s, %s\n", r.ID, r.Event, riskState(r), r.Subject, orDash(r.Owner), assessed(r), orDash(r.Treat))
	for _, l := range []struct{ name, value string }{{"hazard", r.Hazard}, {"finding", r.Rule}, {"from", r.Link}, {"by", strings.Join(r.By, ", ")}, {"reviewed", r.Review}, {"assessed by", r.AssessedBy}, {"note", r.Note}, {"ended by", r.Proof}} {
		if l.value != "" {
			fmt.Fprintf(o, "%s: %s\n", l.name, l.value)
		}
	}
	if !r.Opened.IsZero() {
		fmt.Fprintf(o, "opened: %s\n", when(r.Opened))
	}
}

func (c *cli) riskAssessCmd() *cobra.Command {
	var x govern.Assessment
	cmd := &cobra.Command{
		Use:   "assess RISK --by PERSON --likelihood N --impact N --treat HOW",
		Short: "Judge one risk by itself",
		Long: `Record how likely a risk is and how bad, from 1 to 5, and what is done about it:
mitigate, accept, transfer or avoid. Each risk has an assessment of its own.

Exit status: 0 recorded, 1 error, 2 usage, 4 not a person of the plan.`,
		Example: "  $ holdfast risk assess coverage.stores.queue --by ana --likelihood 3 --impact 2 --treat mitigate",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if x.By == "" {
				return &usageError{holdfast.WithHint(errors.New("who judges it?"), "give --by with your name in the plan")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				r, err := cl.AssessRisk(ctx, a[0], x)
				if err != nil {
					return err
				}
				return c.print(r, func(o io.Writer) { printRisk(o, r) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&x.By, "by", "", "who judges it")
	f.IntVar(&x.Likelihood, "likelihood", 0, "from 1, hardly, to 5")
	f.IntVar(&x.Impact, "impact", 0, "from 1, hardly, to 5")
	f.StringVar(&x.Treat, "treat", "", "mitigate, accept, transfer or avoid")
	f.StringVar(&x.Note, "note", "", "why")
	return cmd
}

func (c *cli) riskCloseCmd() *cobra.Command {
	var by, note string
	cmd := &cobra.Command{
		Use:   "close RISK --by PERSON",
		Short: "End a risk that the system saw, if there is proof",
		Long: `End a risk. What nothing protected ends with a drill of it that passed after the risk
was opened, or with an approved exception; another ends when its cause is gone. Without
proof it is refused, and the refusal is recorded. A risk that the plan declares ends in
the plan.

Exit status: 0 closed, 1 error, 2 usage, 4 refused.`,
		Example: "  $ holdfast risk close coverage.stores.queue --by ana --note \"restored in drill 7\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if by == "" {
				return &usageError{holdfast.WithHint(errors.New("who closes it?"), "give --by with your name in the plan")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				r, err := cl.CloseRisk(ctx, a[0], by, note)
				if err != nil {
					return err
				}
				return c.print(r, func(o io.Writer) { printRisk(o, r) })
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who closes it")
	cmd.Flags().StringVar(&note, "note", "", "why")
	return cmd
}

// A hazard is one entry of the catalogue.
type hazard struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Under string `json:"under,omitempty"`
	Own   bool   `json:"own"` // the plan's
}

func (c *cli) riskHazardsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "hazards",
		Short: "What can happen: the catalogue, with the plan's own",
		Long: `List the hazards that every plan knows, and those that this plan adds under
"hazards", each under its parent.

Exit status: 0 listed, 1 error.`,
		Example: "  $ holdfast risk hazards",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			all := maps.Clone(plan.Hazards)
			maps.Copy(all, p.Hazards)
			hs := []hazard{}
			var under func(parent string)
			under = func(parent string) {
				for _, id := range slices.Sorted(maps.Keys(all)) {
					if h := all[id]; h.Under == parent {
						_, own := p.Hazards[id]
						hs = append(hs, hazard{id, h.Title, h.Under, own})
						if id != parent {
							under(id)
						}
					}
				}
			}
			under("")
			return c.print(hs, func(o io.Writer) {
				for _, h := range hs {
					in := ""
					if h.Under != "" {
						in = "  "
					}
					fmt.Fprintf(o, "%s%s: %s\n", in, h.ID, h.Title)
				}
			})
		},
	}
}
