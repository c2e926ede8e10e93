package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/seal"
	"holdfast/internal/source/postgres/undo"
	"holdfast/internal/vault"
)

func (c *cli) undoCmd() *cobra.Command {
	return group("undo", "Take back a mistake in a database, and keep what was written since", c.undoLookCmd(), c.undoWriteCmd())
}

func (c *cli) undoLookCmd() *cobra.Command {
	var r app.UndoRequest
	var at, until, key string
	var show int
	cmd := &cobra.Command{
		Use:   "look STORE [--at TIME [--until TIME]] [--out DIR]",
		Short: "Find the rows that a mistake took or changed, and write them into a folder",
		Long: `Restore the database of STORE in a sandbox as it was right before a mistake and
right after it, and compare both with production, by table and key. Without --at it
is the newest event of "holdfast timeline" that destroyed something; with --at it is
the first one after that instant; --until says when it had happened.

What the mistake deleted or changed is found; what others wrote before or since is
not touched. A row of which the mistake changed one column and somebody else another
keeps the other one. What both changed is a conflict, which is listed and left alone.
A table that was dropped comes back whole.

Production is only read, in one snapshot, with server-side cursors; the use of the
read key is recorded. With --out the rows are written as SQL, as CSV and for
"holdfast undo write". The role of the plan's connection string often may only
replicate: --connect names one that may read the tables. A password belongs into
~/.pgpass or $PGPASSWORD.

Exit status: 0 compared, 1 error, 2 usage, 3 compared, but a table could not be.`,
		Example: "  $ holdfast undo look db --connect 'host=db1 user=ana dbname=billing' --out undo-1\n  $ holdfast undo look db --at 2026-11-22T10:04:40Z --table public.orders --where \"region = 'eu'\" --show 20",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			r.Store = a[0]
			if at != "" {
				if r.At, err = holdfast.ParseTime(at, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			if until != "" {
				if r.Until, err = holdfast.ParseTime(until, p.Location()); err != nil {
					return &usageError{err}
				}
				if at == "" {
					return &usageError{holdfast.WithHint(errors.New("--until needs --at"), "name the last good instant too: --at TIME")}
				}
			}
			if r.Rows < 1 || show < 0 {
				return &usageError{holdfast.WithHint(errors.New("--rows must be at least 1, and --show not negative"), "for example --rows 10 --show 20")}
			}
			if key == "" {
				key = opt.Workspace.Key(app.KeyRunner)
			}
			id, err := app.ReadIdentity(key)
			if err != nil {
				return err
			}
			r.Identities = []seal.Identity{id}
			if r.Purpose == "" {
				r.Purpose = "take back a mistake in " + r.Store
			}
			r.Use = func() { c.used(id, r.Store, r.Purpose) }
			shown := map[string][]undo.Row{}
			left := show
			if show > 0 {
				r.Row = func(t *undo.Table, row *undo.Row) error {
					if left > 0 {
						left--
						shown[t.Name] = append(shown[t.Name], *row)
					}
					return nil
				}
			}
			b := newBar(c.stderr, "undo "+r.Store)
			r.Progress = b.progress
			e, err := app.Undo(cmd.Context(), p, opt, r)
			b.end()
			if err != nil {
				return err
			}
			out := looked{Extract: e, Dir: e.Dir, Digest: e.Digest, Total: e.Total(), Shown: shown}
			if err := c.print(out, func(o io.Writer) { printLooked(o, out) }); err != nil {
				return err
			}
			if len(e.Skipped) > 0 {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "the last good instant (default: right before the newest destructive event of a day)")
	f.StringVar(&until, "until", "", "when the mistake had happened (default: right behind the first destructive event after --at)")
	f.BoolVar(&r.Everything, "everything", false, "take every difference since --at for the mistake: nothing later is told from it")
	f.Int64Var(&r.Rows, "rows", 100, "a transaction that changed so many rows of one table counts as an event")
	f.StringArrayVar(&r.Tables, "table", nil, "compare only this table; may be repeated (default: all)")
	f.StringVar(&r.Where, "where", "", "only rows of the one table that were so before the mistake: an SQL condition")
	f.StringVar(&r.Out, "out", "", "write what was found into this empty or absent directory")
	f.StringVar(&r.Connect, "connect", os.Getenv("HOLDFAST_CONNECT"), "how to reach production (default: $HOLDFAST_CONNECT, else the plan's connection string)")
	f.IntVar(&show, "show", 0, "print so many of the rows")
	f.StringVar(&r.Location, "location", "", "restore from this location")
	f.StringVar(&r.Purpose, "purpose", os.Getenv("HOLDFAST_PURPOSE"), "what the read key is used for; it is recorded (default: $HOLDFAST_PURPOSE, else the command's own words)")
	f.StringVar(&key, "key", "", "file of the private read key (default: the workspace's keys/runner.age)")
	cmd.MarkFlagsMutuallyExclusive("until", "everything")
	return cmd
}

// looked is what "undo look" prints.
type looked struct {
	*undo.Extract
	Dir    string                `json:"dir,omitempty"`
	Digest string                `json:"sha256,omitempty"`
	Total  undo.Counts           `json:"total"`
	Shown  map[string][]undo.Row `json:"shown,omitempty"`
}

func printLooked(o io.Writer, e looked) {
	fmt.Fprintf(o, "the mistake: %s\nbefore: %s\nafter:  %s\n", e.Because, e.Before, e.After)
	if len(e.Tables) == 0 {
		fmt.Fprintf(o, "%d tables compared: nothing of it is left to take back\n", e.Compared)
	} else {
		w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TABLE\tDELETED\tCHANGED\tCONFLICTS\tADDED\tWRITTEN LATER\t")
		for _, t := range e.Tables {
			gone := ""
			if t.Gone {
				gone = "the table is gone"
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", t.Name, t.Deleted, t.Changed, t.Conflict, t.Added, t.Later, gone)
		}
		w.Flush()
	}
	for _, t := range e.Tables {
		for _, n := range t.Notes {
			fmt.Fprintf(o, "  %s: %s\n", t.Name, n)
		}
		for _, r := range e.Shown[t.Name] {
			fmt.Fprintf(o, "  %s %s %s\n", r.Kind, t.Name, shownRow(t, r))
		}
	}
	for _, s := range e.Skipped {
		fmt.Fprintf(o, "not compared: %s\n", s)
	}
	switch {
	case e.Dir != "" && len(e.Tables) > 0:
		fmt.Fprintf(o, "extract: %s, SHA-256 %s\nnext: holdfast undo write %s\n", e.Dir, e.Digest, e.Dir)
	case len(e.Tables) > 0:
		fmt.Fprintln(o, "nothing was written; --out DIR writes the rows into a folder")
	}
}

// shownRow is one row in a line: what goes back, and what is there.
func shownRow(t undo.Table, r undo.Row) string {
	value := func(vs []*string, i int) string {
		if vs == nil {
			return "-"
		}
		if vs[i] == nil {
			return "null"
		}
		const longest = 60
		s := strings.ToValidUTF8((*vs[i])[:min(len(*vs[i]), longest)], "")
		if len(s) < len(*vs[i]) {
			s += "…"
		}
		return fmt.Sprintf("%q", s)
	}
	var out []string
	for i, c := range t.Columns {
		switch {
		case r.Op == undo.Update && slices.Contains(r.Set, i):
			out = append(out, c.Name+": "+value(r.Now, i)+" back to "+value(r.Before, i))
		case r.Op == undo.Update && c.Key:
			out = append(out, c.Name+"="+value(r.Now, i))
		case r.Op == undo.Insert:
			out = append(out, c.Name+"="+value(r.Before, i))
		case r.Op == undo.Delete:
			out = append(out, c.Name+"="+value(r.Now, i))
		}
	}
	if r.Why != "" {
		out = append(out, "("+r.Why+")")
	}
	return strings.Join(out, ", ")
}

func (c *cli) undoWriteCmd() *cobra.Command {
	var choice undo.Choice
	var connect, by string
	var kinds []string
	var apply bool
	cmd := &cobra.Command{
		Use:   "write DIR [--apply] [--by YOU]",
		Short: "Write rows of an extract back to production, after approval",
		Long: `Say what writing an extract of "holdfast undo look" back would do. With --by it is
asked for, and people sign it as they sign a deletion ("holdfast approve"); the plan's
approvals.write-back says who, else two of its approvers, in a small team one and a
delay. With --apply and enough signatures it is done: in one transaction, all or
nothing, parents before children. A row goes back only if nobody wrote it since it
was compared; those that somebody did are left and named. What was written is read
back before the transaction ends. Without --apply nothing is changed.

Triggers fire as on any write. What people signed is the SHA-256 of the extract and
the choice made here; another choice is another request.

Exit status: 0 said or done, 1 error, 2 usage, 3 done, but rows were left, 4 refused
or waiting for signatures.`,
		Example: "  $ holdfast undo write undo-1\n  $ holdfast undo write undo-1 --table public.orders --by ana\n  $ holdfast undo write undo-1 --table public.orders --by ana --apply --connect 'host=db1 user=ana dbname=billing'",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			for _, k := range kinds {
				if !slices.Contains([]undo.Kind{undo.Deleted, undo.Changed, undo.Added}, undo.Kind(k)) {
					return &usageError{holdfast.WithHint(fmt.Errorf("there is no kind of row %q", k), "deleted, changed or added; conflicts are chosen with --overwrite")}
				}
				choice.Kinds = append(choice.Kinds, undo.Kind(k))
			}
			if apply && by == "" {
				return &usageError{holdfast.WithHint(errors.New("who writes?"), "give --by with your name in the plan")}
			}
			e, err := undo.Read(a[0])
			if err != nil {
				return err
			}
			does, err := e.Does(choice)
			if err != nil {
				return err
			}
			rep := wrote{Store: e.Store, Extract: e.Digest, Does: does}
			if by == "" {
				return c.print(rep, func(o io.Writer) { printWrote(o, rep, a[0]) })
			}
			err = c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				return c.writeBack(ctx, cl, e, choice, connect, by, apply, &rep)
			})
			if err != nil {
				return err
			}
			if err := c.print(rep, func(o io.Writer) { printWrote(o, rep, a[0]) }); err != nil {
				return err
			}
			c.reported = true
			if !rep.Done {
				return holdfast.ErrRefused
			}
			for _, w := range rep.Written {
				if w.Left > 0 {
					return holdfast.ErrMissed
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&apply, "apply", false, "write, if enough people have signed")
	f.StringVar(&by, "by", "", "who asks: a person of the plan")
	f.StringArrayVar(&choice.Tables, "table", nil, "only this table; may be repeated")
	f.StringSliceVar(&kinds, "kind", nil, "rows to write: deleted, changed, added (these are deleted); default deleted,changed")
	f.BoolVar(&choice.Overwrite, "overwrite", false, "write conflicts too: what others wrote since is lost")
	f.StringVar(&connect, "connect", os.Getenv("HOLDFAST_CONNECT"), "how to reach production as a role that may write (default: $HOLDFAST_CONNECT, else the plan's connection string)")
	return cmd
}

// wrote is what "undo write" prints.
type wrote struct {
	Store   string         `json:"store"`
	Extract string         `json:"extract"` // SHA-256
	Does    []string       `json:"does"`
	Request string         `json:"request,omitempty"`
	Rule    string         `json:"rule,omitempty"`
	State   string         `json:"state,omitempty"`
	Done    bool           `json:"done"`
	Written []undo.Written `json:"written,omitempty"`
}

// writeBack asks for the approval and, with it, writes.
func (c *cli) writeBack(ctx context.Context, cl *api.Client, e *undo.Extract, choice undo.Choice, connect, by string, apply bool, rep *wrote) error {
	ask := api.WriteBack{Store: e.Store, Does: rep.Does, By: by}
	a, err := cl.WriteBack(ctx, ask)
	if err != nil {
		return err
	}
	rep.Request, rep.Rule, rep.State = a.Request.ID, a.Request.Rule, a.Request.State
	opt, p, err := c.workspacePlan()
	if err != nil || !apply || rep.State != vault.StateApproved || opt.Clock().Before(a.Request.NotBefore) {
		return err
	}
	dsn, err := app.ProductionDSN(p, e.Store, connect)
	if err != nil {
		return err
	}
	begun := false
	written, err := undo.Write(ctx, e, dsn, choice, func() error {
		ask.Begin = true
		a, err := cl.WriteBack(ctx, ask)
		if begun = a.Begun; err == nil && !begun {
			err = fmt.Errorf("request %s is not approved any more: %w", rep.Request, holdfast.ErrRefused)
		}
		return err
	})
	if !begun {
		return err
	}
	ended := api.WroteBack{Store: e.Store, Request: rep.Request, Extract: e.Digest, Written: written}
	if err != nil {
		ended.Err = holdfast.Sentence(err)
	}
	if ferr := cl.WroteBack(context.WithoutCancel(ctx), ended); ferr != nil {
		fmt.Fprintf(c.stderr, "holdfast: warning: how it ended is not recorded: %v\n", ferr)
	}
	rep.Written, rep.Done, rep.State = written, err == nil, vault.StateUsed
	return err
}

func printWrote(o io.Writer, r wrote, dir string) {
	if r.Done {
		for _, w := range r.Written {
			fmt.Fprintf(o, "%s: %d inserted, %d changed back, %d deleted\n", w.Table, w.Inserted, w.Updated, w.Deleted)
			if w.Left > 0 {
				fmt.Fprintf(o, "  %d were written by somebody meanwhile and were left: %s\n", w.Left, some(w.Examples))
			}
		}
		return
	}
	for _, d := range r.Does {
		fmt.Fprintln(o, d)
	}
	switch {
	case r.Request == "":
		fmt.Fprintf(o, "nothing was written\nnext: holdfast undo write %s --by YOU\n", dir)
	case r.State == vault.StateApproved:
		fmt.Fprintf(o, "request %s is approved; \"holdfast approve %s\" shows from when\nnext: holdfast undo write %s --by YOU --apply\n", r.Request, r.Request, dir)
	default:
		fmt.Fprintf(o, "nothing was written: request %s waits: %s\nnext: holdfast approve %s\n", r.Request, r.Rule, r.Request)
	}
}
