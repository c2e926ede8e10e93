package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/calendar"
	"holdfast/internal/drill"
	"holdfast/internal/plan"
)

func (c *cli) drillCmd() *cobra.Command {
	var at, location, pick string
	goal := -1
	cmd := &cobra.Command{
		Use:   "drill NAME|STORE",
		Short: "Restore in a sandbox, start the engine, check, time",
		Long: `Restore the stores of the plan's drill NAME, or one STORE, into a sandbox that can
reach neither the network nor production; start the real engine; climb the ladder
of proof; measure; sign. Where and to which instant is drawn at random, and written
down before anything is restored, unless --at or --location choose.

The rung that was reached is named; a rung that was not climbed is not proven. The
owner's word is part of rung L6: "holdfast drill confirm ID".

What was measured is held against the RTO and the RPO of each store, stage by stage. A
sandbox has no detection, decision and hand over, so a time within the RTO is no proof
of it; a time beyond it is proof that it cannot be kept.

Exit status: 0 the goal was reached, 1 error, 3 the goal was not reached, or an
objective was missed, 4 all that a machine can prove holds, and the owner's confirmation is waited for.`,
		Example: "  $ holdfast drill db\n  $ holdfast drill db --at 2026-11-22T10:15:30Z --location offsite",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			reqs, err := drillRequests(p, a[0], at, location, pick, goal)
			if err != nil {
				return err
			}
			// A slip of the finger is no failed drill, which would open an incident.
			for _, r := range reqs {
				if r.Target.Kind != holdfast.TargetTime {
					continue
				}
				if _, err := app.ChooseWindow(cmd.Context(), p, opt, app.RestoreRequest{Store: r.Store, Location: location, Target: r.Target}); err != nil {
					return err
				}
			}
			return c.withServer(cmd.Context(), app.Work{Asked: true, Jobs: []string{drill.KindRun}}, func(ctx context.Context, cl *api.Client) error {
				var done []drill.Drill
				for _, r := range reqs {
					d, err := c.runDrill(ctx, cl, r)
					if err != nil {
						return err
					}
					done = append(done, d)
				}
				return c.printDrills(done)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "instant to go back to (default: drawn at random)")
	f.StringVar(&location, "location", "", "restore from this location (default: drawn at random)")
	f.StringVar(&pick, "pick", "", "random, latest or oldest (default: as the plan says)")
	f.IntVar(&goal, "rung", -1, "rung that must be reached, 0 to 6 (default: as the plan says)")
	cmd.AddCommand(c.drillListCmd(), c.drillShowCmd(), c.drillConfirmCmd(), c.drillCoverageCmd())
	return cmd
}

// drillRequests reads what is to be drilled: a drill of the plan, or a store.
func drillRequests(p *plan.Plan, name, at, location, pick string, goal int) ([]api.DrillRequest, error) {
	r := api.DrillRequest{Pick: pick, Location: location, By: operator()}
	if at != "" {
		t, err := holdfast.ParseTime(at, p.Location())
		if err != nil {
			return nil, &usageError{err}
		}
		r.Target = holdfast.Target{Kind: holdfast.TargetTime, Time: t}
	}
	if goal > int(holdfast.L6) || goal < -1 {
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("there is no rung %d that a drill of one store can reach", goal), "name one from 0 to 6")}
	}
	if _, ok := p.Locations[location]; !ok && location != "" {
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("location %q is not in the plan", location), "the plan's locations are %s", strings.Join(sortedKeys(p.Locations), ", "))}
	}
	switch pick {
	case "", "random", "latest", "oldest":
	default:
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("--pick %s is not known", pick), "name random, latest or oldest")}
	}
	if at != "" && pick != "" {
		return nil, &usageError{holdfast.WithHint(errors.New("--at and --pick both name the instant"), "leave one of them out")}
	}
	stores := []string{name}
	if d, ok := p.Drills[name]; ok {
		stores, r.Name = d.Of, name
		if r.Pick == "" && at == "" && location == "" {
			r.Pick = string(d.PickOr())
		}
	} else if _, ok := p.Stores[name]; !ok {
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("%q is neither a drill nor a store of the plan", name),
			"the drills are %s, the stores are %s", strings.Join(sortedKeys(p.Drills), ", "), strings.Join(sortedKeys(p.Stores), ", "))}
	}
	var out []api.DrillRequest
	for _, s := range stores {
		r.Store = s
		r.Goal = p.DrillRung(r.Name, s)
		if goal >= 0 {
			r.Goal = holdfast.Rung(goal)
		}
		out = append(out, r)
	}
	return out, nil
}

// operator is who sits at the terminal, for the record.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "operator"
}

func (c *cli) runDrill(ctx context.Context, cl *api.Client, r api.DrillRequest) (drill.Drill, error) {
	id, jobID, err := cl.StartDrill(ctx, r)
	if err != nil {
		return drill.Drill{}, err
	}
	if _, err := c.wait(ctx, cl, jobID, 0, "drill "+r.Store); err != nil {
		return drill.Drill{}, err
	}
	return cl.Drill(ctx, id)
}

func (c *cli) printDrills(ds []drill.Drill) error {
	var v any = ds
	if len(ds) == 1 {
		v = ds[0]
	}
	if err := c.print(v, func(o io.Writer) {
		for _, d := range ds {
			printDrill(o, d)
		}
	}); err != nil {
		return err
	}
	c.reported = true
	var waiting bool
	for _, d := range ds {
		if d.State != drill.StatePassed || d.Missed() {
			return holdfast.ErrMissed
		}
		waiting = waiting || d.Awaits()
	}
	if waiting {
		return fmt.Errorf("%w: the owner has not confirmed", holdfast.ErrRefused)
	}
	return nil
}

func printDrill(o io.Writer, d drill.Drill) {
	fmt.Fprintf(o, "drill %s of %s: %s, reached %s of %s (%s)\n", d.ID, d.Store, d.State, d.Rung, d.Goal, d.Rung.Proves())
	fmt.Fprintf(o, "  from %q, %s, chosen by %s (seed %d)\n", d.Location, d.Target, d.Pick, d.Seed)
	if d.Line.Protocol != "" {
		fmt.Fprintf(o, "  over %s\n", d.Line)
	}
	if d.Aim != nil && d.Cell != nil {
		fmt.Fprintf(o, "  drawn among %s that no drill since %s went to: %s\n", cells(len(d.Aim.Open)), day(d.Aim.From), d.Cell)
	}
	if d.Report.Reached != "" {
		fmt.Fprintf(o, "  reached %s\n", d.Report.Reached)
	}
	w := tabwriter.NewWriter(o, 2, 0, 2, ' ', 0)
	for _, ch := range d.Checks {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", ch.Rung, ch.Outcome, ch.Grade, ch.Name, ch.Detail)
	}
	w.Flush()
	if len(d.Parts) > 0 {
		fmt.Fprintf(o, "  restore in the sandbox: %s (%s); detection, decision and hand over are not in it\n", holdfast.FormatDuration(d.Parts.Sum()), d.Parts)
	}
	for _, v := range d.Verdicts {
		fmt.Fprintf(o, "  %s\n", v)
	}
	if d.Unread > 0 {
		fmt.Fprintf(o, "  %.1f %% of the stored bytes at this location were not read back\n", 100*d.Unread)
	}
	if d.Error != "" {
		message, hint := holdfast.Heard(d.Error)
		fmt.Fprintf(o, "  failed: %s\n", message)
		if hint != "" {
			fmt.Fprintf(o, "  hint: %s\n", hint)
		}
	}
	if d.Awaits() {
		fmt.Fprintf(o, "  all that a machine can prove of L6 holds; the owner confirms with \"holdfast drill confirm %s --by PERSON\"\n", d.ID)
	}
	if d.Fact >= 0 {
		fmt.Fprintf(o, "  evidence: fact %d of the ledger\n", d.Fact)
	}
}

func cells(n int) string {
	switch n {
	case 0:
		return "all, as there was nothing on offer"
	case 1:
		return "1 cell"
	}
	return fmt.Sprintf("%d cells", n)
}

func (c *cli) drillListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [STORE]", Short: "List drills, newest first", Args: args(cobra.MaximumNArgs(1)),
		Example: "  $ holdfast drill list db",
		RunE: func(cmd *cobra.Command, a []string) error {
			store := ""
			if len(a) == 1 {
				store = a[0]
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ds, err := cl.Drills(ctx, store)
				if err != nil {
					return err
				}
				return c.print(notNil(ds), func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "DRILL\tSTORE\tSTATE\tRUNG\tGOAL\tLOCATION\tTARGET")
					for _, d := range ds {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Store, d.State, d.Rung, d.Goal, d.Location, d.Target)
					}
					w.Flush()
				})
			})
		},
	}
}

func (c *cli) drillCoverageCmd() *cobra.Command {
	var span string
	cmd := &cobra.Command{
		Use:   "coverage [--period PERIOD]",
		Short: "Which locations, kinds of store and ages restore tests reached",
		Long: `Show, for a quarter, month or year, what drills restored: each location, each kind of
store, and how old the data was. A drill that picks at random goes first to what no
drill of the quarter went to; its seed and what was open are on its record.

  proved  a drill passed there            failed  drills ended there, and none passed
  empty   copies, and no drill            absent  there was no copy of that age

Exit status: 0 every cell that holds copies was reached, or the period is not over, 1
error, 3 the period is over and a cell stayed empty.`,
		Example: "  $ holdfast drill coverage\n  $ holdfast drill coverage --period 2026-Q3 --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var from, to time.Time
			if span != "" {
				_, p, err := c.workspacePlan()
				if err != nil {
					return err
				}
				if from, to, err = calendar.Named(span, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				k, err := cl.Coverage(ctx, from, to)
				if err != nil {
					return err
				}
				if err := c.print(k, func(o io.Writer) { printCoverage(o, k) }); err != nil {
					return err
				}
				return c.missed(k.Over && len(k.Empty()) > 0)
			})
		},
	}
	cmd.Flags().StringVar(&span, "period", "", "2026-Q4, 2026-11 or 2026 (default: the quarter of now)")
	return cmd
}

func printCoverage(o io.Writer, k drill.Coverage) {
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tLOCATION\tAGE\tSTATE\tPASSED\tLAST DRILL")
	for _, x := range k.Cells {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d of %d\t%s\n", x.Kind, x.Location, x.Age, x.State, x.Passed, x.Tested, orDash(x.Last))
	}
	w.Flush()
	empty := k.Empty()
	was := "are to be reached until " + day(k.To)
	if k.Over {
		was = "stayed empty"
	}
	fmt.Fprintf(o, "from %s: %d of %d cells with copies %s\n", day(k.From), len(empty), len(k.Cells)-countAbsent(k), was)
	for _, x := range empty {
		fmt.Fprintf(o, "  %s: %s\n", x.State, x.Cell)
	}
}

func countAbsent(k drill.Coverage) (n int) {
	for _, x := range k.Cells {
		if x.State == drill.CellAbsent {
			n++
		}
	}
	return n
}

func (c *cli) drillShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one drill with its checks", Args: args(cobra.ExactArgs(1)),
		Example: "  $ holdfast drill show 20261122-101530-1a2b3c",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				d, err := cl.Drill(ctx, a[0])
				if err != nil {
					return err
				}
				return c.print(d, func(o io.Writer) { printDrill(o, d) })
			})
		},
	}
}

func (c *cli) drillConfirmCmd() *cobra.Command {
	var by, note string
	cmd := &cobra.Command{
		Use: "confirm ID --by PERSON", Short: "The owner confirms what a drill showed", Args: args(cobra.ExactArgs(1)),
		Long: `Record that the owner of the store looked at what the drill brought back and
vouches for it. It is kept as attested, never as proved.

Exit status: 0 recorded, 4 refused: not the owner, or nothing to confirm.`,
		Example: "  $ holdfast drill confirm 20261122-101530-1a2b3c --by founder-b --note \"looked at the newest orders\"",
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				d, err := cl.ConfirmDrill(ctx, a[0], by, note)
				if err != nil {
					return err
				}
				return c.print(d, func(o io.Writer) { printDrill(o, d) })
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "person of the plan (required)")
	cmd.Flags().StringVar(&note, "note", "", "what was looked at")
	_ = cmd.MarkFlagRequired("by") // fails only for a flag that does not exist
	return cmd
}
