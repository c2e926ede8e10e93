package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
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

Exit status: 0 the goal was reached, 1 error, 3 the goal was not reached, 4 all
that a machine can prove holds, and the owner's confirmation is waited for.`,
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
	cmd.AddCommand(c.drillListCmd(), c.drillShowCmd(), c.drillConfirmCmd())
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
		if d.State != drill.StatePassed {
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

func (c *cli) evidenceCmd() *cobra.Command {
	var e api.Export
	var from, to, out string
	export := &cobra.Command{
		Use:   "export",
		Short: "Export an evidence pack that can be verified without Holdfast",
		Long: `Write a zip with the complete populations of a period (every expected slot with
its outcome), the facts, their proofs, the plan, and instructions that verify it
with common tools. The keys to verify it with are not in it: give the auditor
keys/trusted.keys on another way.

Exit status: 0 written, 1 error.`,
		Example: "  $ holdfast evidence export --from 2026-10-01 --to 2027-01-01 --framework iso27001 --out q4.zip",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			if e.From, e.To, err = period(p, from, to, time.Now()); err != nil {
				return &usageError{err}
			}
			if known := frameworks(p); e.Framework != "" && !slices.Contains(known, e.Framework) {
				return &usageError{holdfast.WithHint(fmt.Errorf("no control of framework %q is in the plan", e.Framework), "the plan's \"controls\" name %s", strings.Join(known, ", "))}
			}
			if out == "" {
				out = filepath.Join(opt.Workspace.Evidence(), "evidence-"+e.To.UTC().Format("20060102T150405Z")+".zip")
			}
			if err := absent(out); err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				pack, err := cl.Evidence(ctx, e)
				if err != nil {
					return err
				}
				if err := writeNew(out, pack); err != nil {
					return err
				}
				return c.print(map[string]any{"pack": out, "bytes": len(pack), "from": e.From, "to": e.To}, func(o io.Writer) {
					fmt.Fprintf(o, "%s, %s, from %s to %s\n", out, size(int64(len(pack))), when(e.From), when(e.To))
				})
			})
		},
	}
	f := export.Flags()
	f.StringVar(&from, "from", "", "start of the period (default: a year ago)")
	f.StringVar(&to, "to", "", "end of the period (default: now)")
	f.StringVar(&e.Framework, "framework", "", "only controls of this framework, e.g. iso27001")
	f.StringVar(&out, "out", "", "file to write; never overwritten (default: in the workspace's evidence folder)")
	return group("evidence", "Prove what happened", export, c.evidenceVerifyCmd(), c.acceptLossCmd())
}

func (c *cli) evidenceVerifyCmd() *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use:   "verify PACK",
		Short: "Verify an evidence pack, offline",
		Long: `Verify every hash, signature and proof of a pack against keys that you hold. A key
that travels inside the pack is never trusted.

Exit status: 0 all holds, 3 something does not (each named), 1 error.`,
		Example: "  $ holdfast evidence verify q4.zip --keys trusted.keys",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			if keys == "" {
				w, err := app.Find(c.dir)
				if err != nil {
					return holdfast.WithHint(err, "name the keys that you hold with --keys FILE")
				}
				keys = w.Key(app.KeyTrusted)
			}
			trusted, err := app.ReadTrusted(keys)
			if err != nil {
				return err
			}
			rep, err := evidence.Verify(a[0], trusted)
			if err != nil {
				return err
			}
			if err := c.print(rep, func(o io.Writer) { printReport(o, a[0], rep) }); err != nil {
				return err
			}
			if holdfast.AnyErrors(rep.Findings) {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "file with the public keys that you trust (default: the workspace's keys/trusted.keys)")
	return cmd
}

// printReport says what a pack is worth: first whether it is what it should be,
// then what it says about the work.
func printReport(o io.Writer, pack string, r evidence.Report) {
	verdict := "authentic: made by the holder of the evidence key, complete, and unchanged"
	if !r.Authentic() {
		verdict = "NOT authentic"
	}
	fmt.Fprintf(o, "%s: %s\n", pack, verdict)
	if r.Origin == "" { // nothing of it could be read
		printFindings(o, r.Findings, pack)
		return
	}
	fmt.Fprintf(o, "  %s, %s to %s, made %s\n", r.Company, r.From, r.To, r.Made)
	fmt.Fprintf(o, "  %d of %d facts of the log %s are in it, %d in the period; %d lie before a checkpoint that you held\n", r.Facts, r.Size, r.Origin, r.InPeriod, r.Anchored)
	for _, s := range []evidence.State{evidence.Done, evidence.Started, evidence.Expected, evidence.Failed, evidence.Missed, evidence.Missing} {
		if n := r.Slots[s]; n > 0 {
			fmt.Fprintf(o, "  expected work %s: %d\n", s, n)
		}
	}
	printFindings(o, r.Findings, pack)
}

// period reads the bounds of an evidence period.
func period(p *plan.Plan, from, to string, now time.Time) (f, t time.Time, err error) {
	f, t = now.AddDate(-1, 0, 0), now
	if from != "" {
		if f, err = holdfast.ParseTime(from, p.Location()); err != nil {
			return
		}
	}
	if to != "" {
		if t, err = holdfast.ParseTime(to, p.Location()); err != nil {
			return
		}
	}
	if !f.Before(t) {
		err = holdfast.WithHint(fmt.Errorf("the period ends before it begins: %s to %s", when(f), when(t)), "--from must be earlier than --to")
	}
	return
}

// frameworks are those of the plan's controls: "iso27001/A.8.13" is one of iso27001.
func frameworks(p *plan.Plan) []string {
	var out []string
	for id := range p.Controls {
		f, _, _ := strings.Cut(id, "/")
		out = append(out, f)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// absent refuses a file that is there.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return holdfast.WithHint(fmt.Errorf("%s is there already, and a pack is never overwritten: %w", path, fs.ErrExist), "name another file with --out")
	}
	return nil
}

// writeNew writes a file that must not be there.
func writeNew(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		// Half a pack must not be taken for one.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

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
