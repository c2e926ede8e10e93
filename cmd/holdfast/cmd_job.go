package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
)

func (c *cli) jobCmd() *cobra.Command {
	return group("job", "The records of work: every attempt of every backup, drill and deletion, however it ended", c.jobListCmd(), c.jobCancelCmd())
}

func (c *cli) jobListCmd() *cobra.Command {
	var q api.RunQuery
	var from, until, ended, longer string
	list := &cobra.Command{
		Use:   "list",
		Short: "List records of work, the newest first",
		Long: `List the record of each attempt: what it was about, what it did, when it began and
ended, bytes, result, the digest of what was made, locations, the version of the software
and the error. A record is begun with the attempt: one whose process ended without a word
stands here as crashed.

Results: running, succeeded, incomplete (a copy that lacks something), failed, cancelled,
crashed, stopped (the server was stopped, and goes on at its next start).

Each flag asks for records with that; several flags, for records with all of them. Records
are kept for two years.

Exit status: 0, and 3 with --result failed, incomplete or crashed when there are any.`,
		Example: "  $ holdfast job list --item uploads\n  $ holdfast job list --result failed --from 2026-11-01 --json\n  $ holdfast job list --location offsite --error \"no space\"",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, x := range []struct {
				text string
				at   *time.Time
			}{{from, &q.From}, {until, &q.Until}, {ended, &q.Ended}} {
				if *x.at, err = instant(x.text); err != nil {
					return err
				}
			}
			if longer != "" {
				d, err := time.ParseDuration(longer)
				if err != nil || d < 0 {
					return &usageError{holdfast.WithHint(fmt.Errorf("%q is no duration", longer), "write --longer 10m")}
				}
				q.Seconds = d.Seconds()
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				rs, err := cl.Runs(ctx, q)
				if err != nil {
					return err
				}
				if err := c.print(notNil(rs), func(o io.Writer) { printRuns(o, rs) }); err != nil {
					return err
				}
				bad := q.Result == api.RunFailed || q.Result == api.RunIncomplete || q.Result == api.RunCrashed
				if bad && len(rs) > 0 {
					c.reported = true
					return holdfast.ErrMissed
				}
				return nil
			})
		},
	}
	f := list.Flags()
	f.StringVar(&q.Item, "item", "", "a store, or stores.NAME, locations.NAME, recoveries.NAME")
	f.StringVar(&q.Kind, "kind", "", "what was done: backup, backup.copy, drill, vault.verify, ...")
	f.StringVar(&q.Result, "result", "", "how it ended")
	f.StringVar(&q.Location, "location", "", "a location that took part")
	f.StringVar(&q.Digest, "digest", "", "the digest of what was made or its beginning, or the snapshot")
	f.StringVar(&q.Program, "program", "", "the version of the software")
	f.StringVar(&q.Error, "error", "", "words of the error")
	f.Int64Var(&q.Job, "job", 0, "one job: all its attempts")
	f.StringVar(&from, "from", "", "began on this day or at this instant, or later")
	f.StringVar(&until, "until", "", "began before it")
	f.StringVar(&ended, "ended", "", "ended then or later")
	f.Int64Var(&q.Bytes, "bytes", 0, "read at least so many bytes")
	f.StringVar(&longer, "longer", "", "took at least so long: 10m")
	f.IntVar(&q.Limit, "limit", 0, "at most so many (default 1000)")
	return list
}

// instant reads a day or an instant; "" is the zero time.
func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &usageError{holdfast.WithHint(fmt.Errorf("%q is neither a day nor an instant", text), "write 2026-11-01 or 2026-11-01T12:00:00Z")}
}

func printRuns(o io.Writer, rs []api.Run) {
	if len(rs) == 0 {
		fmt.Fprintln(o, "there is no such record")
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tITEM\tKIND\tBEGAN\tTOOK\tRESULT\tBYTES\tDIGEST\tLOCATIONS\tVERSION")
	for _, r := range rs {
		took := "-"
		if !r.Ended.IsZero() {
			took = holdfast.FormatDuration(time.Duration(r.Seconds * float64(time.Second)))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Item, r.Kind, when(r.Began), took, r.Result, strconv.FormatInt(r.Bytes, 10), orDash(shortDigest(r.Digest)),
			orDash(strings.Join(slices.Sorted(maps.Keys(r.Locations)), ",")), r.Program)
	}
	w.Flush()
	for _, r := range rs {
		if r.Error != "" {
			fmt.Fprintf(o, "%s: %s\n", r.ID, r.Error)
		}
	}
}

// shortDigest is enough of a digest to find it again.
func shortDigest(d string) string { return d[:min(len(d), 19)] }

func (c *cli) jobCancelCmd() *cobra.Command {
	var by string
	cancel := &cobra.Command{
		Use:   "cancel JOB --by PERSON",
		Short: "End a piece of work that waits or runs",
		Long: `End a job: one that waits at once, one that runs as soon as its worker hears of it. What
it has copied so far stays as garbage for the vault, and no snapshot names it. The record
of the attempt says that it was cancelled, and the ledger by whom. A step of a recovery is
not cancelled so.

Exit status: 0 it was cancelled, or will be at once, 4 it has ended already, or is a step of a recovery.`,
		Example: "  $ holdfast job list --result running\n  $ holdfast job cancel 412 --by founder-a",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			text, _, _ := strings.Cut(a[0], ".")
			id, err := strconv.ParseInt(text, 10, 64)
			if err != nil || id <= 0 {
				return &usageError{holdfast.WithHint(fmt.Errorf("%q is not a job", a[0]), "\"holdfast job list\" lists them: the number before the dot")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				j, err := cl.CancelJob(ctx, id, by)
				if err != nil {
					return err
				}
				return c.print(j, func(o io.Writer) { fmt.Fprintf(o, "job %d (%s) is being cancelled\n", j.ID, j.Kind) })
			})
		},
	}
	cancel.Flags().StringVar(&by, "by", "", "who wants it ended (required)")
	_ = cancel.MarkFlagRequired("by")
	return cancel
}
