package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/seal"
)

// timelineDay is how far back a time line goes unless it is told.
const timelineDay = 24 * time.Hour

func (c *cli) timelineCmd() *cobra.Command {
	var r app.TimelineRequest
	var from, to, key, purpose string
	cmd := &cobra.Command{
		Use:   "timeline STORE [--from TIME] [--to TIME]",
		Short: "What happened to a database's data, to find the last good moment",
		Long: `Read the log that a location holds of a PostgreSQL, and list what was dropped,
emptied or rewritten, which transactions changed many rows, and named restore
points. For the newest event that destroyed something, the instant right before
it is suggested for "restore --at". Production is not asked, no engine is
started, and nothing is written. The use of the read key is recorded.

Mark a deploy with SELECT pg_create_restore_point('deploy 42') and it stands on
the same line.

Exit status: 0 listed, 1 error, 2 usage.`,
		Example: "  $ holdfast timeline db --from 2026-11-22T09:00:00Z\n  $ holdfast timeline db --rows 1000 --location offsite",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			r.Store = a[0]
			now := time.Now()
			r.From, r.To = now.Add(-timelineDay), now
			if from != "" {
				if r.From, err = holdfast.ParseTime(from, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			if to != "" {
				if r.To, err = holdfast.ParseTime(to, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			if !r.From.Before(r.To) {
				return &usageError{holdfast.WithHint(fmt.Errorf("the time line ends before it begins: %s to %s", when(r.From), when(r.To)), "--from must be earlier than --to")}
			}
			if r.Rows < 1 {
				return &usageError{holdfast.WithHint(errors.New("--rows must be at least 1"), "name how many rows a change must touch to be listed, for example --rows 100")}
			}
			if key == "" {
				key = opt.Workspace.Key(app.KeyRunner)
			}
			id, err := app.ReadIdentity(key)
			if err != nil {
				return err
			}
			r.Identities = []seal.Identity{id}
			c.used(id, r.Store, cmp.Or(purpose, "find the last good moment of "+r.Store))
			rep, err := app.Timeline(cmd.Context(), p, opt, r)
			if err != nil {
				return err
			}
			return c.print(rep, func(o io.Writer) { printHappened(o, rep) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "start (default: a day ago)")
	f.StringVar(&to, "to", "", "end (default: now)")
	f.Int64Var(&r.Rows, "rows", 100, "list a transaction that changed so many rows of one table")
	f.StringVar(&r.Location, "location", "", "read the log of this location (default: the first within reach)")
	f.StringVar(&purpose, "purpose", os.Getenv("HOLDFAST_PURPOSE"), "what the read key is used for; it is recorded (default: $HOLDFAST_PURPOSE, else the command's own words)")
	f.StringVar(&key, "key", "", "file of the private read key (default: the workspace's keys/runner.age)")
	return cmd
}

func printHappened(o io.Writer, rep app.TimelineReport) {
	const instant = "2006-01-02 15:04:05.000000Z"
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tWHAT\tROWS\tOF\tTRANSACTION\tPOSITION")
	for _, e := range rep.Events {
		rows, xid := "", ""
		if e.Rows > 0 {
			rows = fmt.Sprint(e.Rows)
		}
		if e.Transaction > 0 {
			xid = fmt.Sprint(e.Transaction)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.At.UTC().Format(instant), e.What, rows, e.Name, xid, e.Position)
	}
	w.Flush()
	if rep.Left > 0 {
		fmt.Fprintf(o, "%d older events are not listed: choose a later --from\n", rep.Left)
	}
	fmt.Fprintf(o, "read from %q since base backup %s, up to the commit of %s\n", rep.Location, rep.Base, when(rep.ReadUntil))
	at, e, ok := rep.Timeline.Suggest()
	if !ok {
		fmt.Fprintln(o, "nothing was destroyed in this time")
		return
	}
	fmt.Fprintf(o, "%s %s at %s; the last good moment before it:\n  holdfast restore %s --location %s --to DIR --at %s\n",
		e.Name, e.What, e.At.UTC().Format(instant), rep.Store, rep.Location, at.UTC().Format(time.RFC3339Nano))
}
