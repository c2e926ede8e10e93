package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/calendar"
	"holdfast/internal/evidence"
	"holdfast/internal/plan"
)

func (c *cli) evidenceCmd() *cobra.Command {
	var e api.Export
	var span, from, to, out string
	export := &cobra.Command{
		Use:   "export",
		Short: "Export an evidence pack that can be verified without Holdfast",
		Long: `Write a zip with the complete populations of a period (every expected slot with
its outcome), the facts, their proofs, the plan, and instructions that verify it
with common tools. The keys to verify it with are not in it: give the auditor
keys/trusted.keys on another way.

Exit status: 0 written, 1 error.`,
		Example: "  $ holdfast evidence export --period 2026-Q4 --framework iso27001 --out q4.zip",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			if e.From, e.To, err = period(p, span, from, to, opt.Clock()); err != nil {
				return &usageError{err}
			}
			if known := frameworks(p); e.Framework != "" && !slices.Contains(known, e.Framework) {
				return &usageError{holdfast.WithHint(fmt.Errorf("no control of framework %q is in the plan", e.Framework), "the plan's \"controls\" name %s", strings.Join(known, ", "))}
			}
			if out == "" {
				out = filepath.Join(opt.Workspace.Evidence(), "evidence-"+e.To.UTC().Format("20060102T150405Z")+".zip")
			}
			if err := absent(out, "--out"); err != nil {
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
	f.StringVar(&span, "period", "", "a month (2026-11), a quarter (2026-Q4) or a year (2026) of the plan's time zone, instead of --from and --to")
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
func period(p *plan.Plan, span, from, to string, now time.Time) (f, t time.Time, err error) {
	if span != "" {
		if from != "" || to != "" {
			err = holdfast.WithHint(errors.New("--period says when the period begins and ends, and so do --from and --to"), "give one or the other")
			return
		}
		return calendar.Named(span, p.Location())
	}
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
func absent(path, flag string) error {
	if _, err := os.Lstat(path); err == nil {
		return holdfast.WithHint(fmt.Errorf("%s is there already, and is never overwritten: %w", path, fs.ErrExist), "name another file with %s", flag)
	}
	return nil
}

// writeNew writes a file that must not be there.
func writeNew(path string, b []byte) error { return writeNewFor(path, b, 0o644) }

func writeNewFor(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		// Half a file must not be taken for one.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
