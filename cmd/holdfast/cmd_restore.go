package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
	"holdfast/internal/source/files"
)

func decode(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, v)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// workspacePlan opens the plan without taking the state: commands that need no
// server work beside a running one, and when there is nothing but the files.
func (c *cli) workspacePlan() (app.Options, *plan.Plan, error) {
	opt, err := c.options(slog.LevelError)
	if err != nil {
		return opt, nil, err
	}
	p, err := plan.Load(opt.Workspace.Plan())
	return opt, p, err
}

func (c *cli) pointsCmd() *cobra.Command {
	var read bool
	cmd := &cobra.Command{
		Use:   "points STORE",
		Short: "Recovery points, windows and holes of a store, per location",
		Long: `Ask every location to which instants it alone can bring STORE back. No server and
no key are needed. What the names and lengths of objects say is believed; --read reads
the log of a database first, which takes as long as that takes, and offers no span of
which a piece is damaged.

A snapshot that is sealed to no key of the plan is named: somebody else put it there.

Exit status: 0 listed, 1 error (also when no location can be asked), 3 a location
could not be asked or holds nothing, or holds a snapshot that no key of the plan opens.`,
		Example: "  $ holdfast points db --read\n  LOCATION  FROM                  TO                    BASES  …",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			ask := app.Windows
			if read {
				ask = app.WindowsRead
			}
			ws, away, err := ask(cmd.Context(), p, a[0], opt)
			if err != nil {
				return err
			}
			if err := c.print(map[string]any{"store": a[0], "windows": notNil(ws), "away": away}, func(o io.Writer) { printWindows(o, ws, away) }); err != nil {
				return err
			}
			if len(away) > 0 || len(ws) == 0 || slices.ContainsFunc(ws, func(x holdfast.Window) bool { return x.Sealed != "" }) {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&read, "read", false, "read the log of a database, and offer nothing that is damaged")
	return cmd
}

func printWindows(o io.Writer, ws []holdfast.Window, away map[string]string) {
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LOCATION\tFROM\tTO\tBASES\tFIRST SNAPSHOT\tENDS BECAUSE")
	for _, x := range ws {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", x.Location, when(x.From), when(x.To), x.Bases, x.Snapshot, x.Hole)
	}
	w.Flush()
	if len(ws) == 0 {
		fmt.Fprintln(o, "nothing: no location holds a recovery point")
	}
	for _, x := range ws {
		if x.Sealed != "" {
			fmt.Fprintf(o, "%s: %s; \"holdfast verify --all\" names what is wrongly sealed\n", x.Location, x.Sealed)
		}
	}
	for _, l := range sortedKeys(away) {
		fmt.Fprintf(o, "%s could not be asked: %s\n", l, away[l])
	}
}

func (c *cli) restoreCmd() *cobra.Command {
	var r app.RestoreRequest
	var at, lsn, xid, name, key, purpose string
	var latest, dry, baseOnly bool
	var paths, match []string
	var inPlace, extra bool
	cmd := &cobra.Command{
		Use:   "restore STORE --to DIR [--path PATH | --match PATTERN] [--at TIME | --lsn LSN | --xid XID | --name NAME | --latest]",
		Short: "Get data back into a directory",
		Long: `Restore STORE into DIR, which must be empty or absent. Production is not touched
and no server is needed: a plan, one location and one read key are enough.

For PostgreSQL the engine is started on a private socket, replays the log to the
target, is asked whether it got there, and is stopped: DIR is then an ordinary
data directory. --files-only leaves the replay to you.

Of a folder, --path and --match bring back a part: a file, a directory with all
that is in it, or what a pattern matches. With them --at takes the newest snapshot
at or before that instant. "holdfast ls" and "holdfast find" look before.

--in-place makes a folder that holds something what it was: what differs by its
content is replaced, and what was there is put aside into .holdfast-before-TIME in
DIR. Nothing is deleted. What the snapshot does not hold stays, or with
--put-aside-extra is put aside, too. --dry-run lists every change before.

--delta restores a PostgreSQL over DIR, its own stopped data directory: files that
are what the base backup holds stay and are not fetched, of the others only pages that
differ are written, and what the base backup does not have is removed once a dry run has
listed it. A restore that is broken off leaves a directory that says so and that no
server opens; the next one goes on from there.

Without a target the newest state held at the location is restored. Where the log of
a database cannot be used up to its end, that state is older than it should be: the
restore is refused, says what would be lost at most, and is carried out when that much
is taken with --accept-loss. It then goes as far as the log is whole, or back to the last
base backup, which needs no other log. --base-only goes there in any case.

The use of the read key is recorded with --purpose, and the server makes a fact of it.

Exit status: 0 the target was reached, 1 error, 2 usage, 4 the newest state is not all
there, and nobody took the loss.`,
		Example: `  $ holdfast restore db --to /tmp/db --at 2026-11-22T10:15:30Z --purpose "incident 12"
  $ holdfast restore uploads --to /tmp/uploads --location offsite --purpose "ticket 381: photo deleted"
  $ holdfast restore uploads --to /tmp/some --path customers/acme --match '*.pdf' --purpose "ticket 382"
  $ holdfast restore uploads --to /srv/app/uploads --in-place --dry-run
  $ holdfast restore db --to /tmp/db --dry-run      # which snapshot, from where, how far, and what is lost
  $ holdfast restore db --to /tmp/db --accept-loss 12h --purpose "incident 14: all log destroyed"`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opt, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			r.Store = a[0]
			if r.Target, err = target(p, at, lsn, xid, name, latest); err != nil {
				return &usageError{err}
			}
			if baseOnly {
				r.Target = holdfast.Target{Kind: holdfast.TargetImmediate}
			}
			if st, ok := p.Stores[r.Store]; ok && st.Kind != plan.KindPostgres && (baseOnly || r.AcceptLoss != 0) {
				return &usageError{holdfast.WithHint(fmt.Errorf("store %q has no log: --base-only and --accept-loss are for databases", r.Store), "--snapshot names one of its snapshots")}
			}
			if r.To == "" && (!dry || inPlace || r.Delta) {
				return &usageError{holdfast.WithHint(errors.New("restore needs --to DIR"), "name an empty or absent directory, for example --to /tmp/restored")}
			}
			if purpose == "" && (!dry || r.Delta) { // which opens the list of files
				return &usageError{holdfast.WithHint(errors.New("restore needs --purpose TEXT"),
					"say what the read key is used for: --purpose \"incident 12\", a ticket, or a reason; it is recorded")}
			}
			if key == "" {
				key = opt.Workspace.Key(app.KeyRunner)
			}
			id, err := app.ReadIdentity(key)
			if err != nil {
				return err
			}
			r.Identities = []seal.Identity{id}
			r.Use = func() { c.used(id, r.Store, purpose) }
			if extra && !inPlace {
				return &usageError{holdfast.WithHint(errors.New("--put-aside-extra goes with --in-place"), "add --in-place; another restore goes into an empty directory")}
			}
			if inPlace {
				part, err := wanted(p, r.Store, paths, match)
				if err != nil {
					return err
				}
				return c.restoreInPlace(cmd.Context(), p, opt, r, files.InPlace{Part: part, Extra: extra, DryRun: dry})
			}
			if len(paths)+len(match) > 0 {
				part, err := wanted(p, r.Store, paths, match)
				if err != nil {
					return err
				}
				return c.restorePart(cmd.Context(), p, opt, r, part, dry)
			}
			if st, ok := p.Stores[r.Store]; ok && r.Delta && st.Kind != plan.KindPostgres {
				return &usageError{holdfast.WithHint(fmt.Errorf("store %q is no PostgreSQL: --delta is for its data directories", r.Store), "--in-place makes a folder what it was")}
			}
			if r.RemoveExtra != "" && !r.Delta {
				return &usageError{holdfast.WithHint(errors.New("--remove-extra goes with --delta"), "add --delta; another restore goes into an empty directory")}
			}
			if dry && r.Delta {
				return c.dryDelta(cmd.Context(), p, opt, r)
			}
			if dry {
				return c.dryRestore(cmd.Context(), p, opt, r)
			}
			b := newBar(c.stderr, "restore "+r.Store)
			r.Progress = b.progress
			rep, err := app.Restore(cmd.Context(), p, opt, r)
			b.end()
			if err != nil {
				return err
			}
			return c.print(rep, func(o io.Writer) { printRestored(o, r, rep) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.To, "to", "", "directory to restore into; empty or absent")
	f.StringVar(&r.Location, "location", "", "restore from this location (default: the one that holds the newest fitting state)")
	f.StringVar(&r.Snapshot, "snapshot", "", "start from this snapshot (default: the newest that can reach the target)")
	f.StringVar(&at, "at", "", "instant to go back to: 2026-03-01T14:05:00Z, or without zone in the plan's time zone")
	f.StringVar(&lsn, "lsn", "", "PostgreSQL log position to go to")
	f.StringVar(&xid, "xid", "", "PostgreSQL transaction to go to")
	f.StringVar(&name, "name", "", "named PostgreSQL restore point to go to")
	f.BoolVar(&latest, "latest", false, "newest state held at the location")
	f.BoolVar(&baseOnly, "base-only", false, "only the newest base backup of a database, without the log behind it")
	f.DurationVar(&r.AcceptLoss, "accept-loss", 0, "take the loss of this much, where the log cannot be used up to its end")
	f.StringVar(&key, "key", "", "file of the private read key (default: the workspace's keys/runner.age)")
	f.StringVar(&purpose, "purpose", os.Getenv("HOLDFAST_PURPOSE"), "what the read key is used for: an incident, a ticket, a reason (default: $HOLDFAST_PURPOSE)")
	f.BoolVar(&r.FilesOnly, "files-only", false, "do not start an engine")
	f.StringArrayVar(&paths, "path", nil, "bring back only this path of a folder, with all below it; may be repeated")
	f.StringArrayVar(&match, "match", nil, "bring back only what this pattern matches (\"*.pdf\", \"/a/**/b\", \"old/\"); may be repeated")
	f.BoolVar(&inPlace, "in-place", false, "make the folder DIR what it was: write only what differs, put aside what was there")
	f.BoolVar(&extra, "put-aside-extra", false, "with --in-place: put aside what the snapshot does not hold")
	f.BoolVar(&r.Delta, "delta", false, "restore over DIR, the stopped data directory of the same database: write only what differs")
	f.StringVar(&r.RemoveExtra, "remove-extra", "", "with --delta: remove what --delta --dry-run listed under this code")
	f.BoolVar(&dry, "dry-run", false, "say what would be restored, and restore nothing")
	cmd.MarkFlagsMutuallyExclusive("at", "lsn", "xid", "name", "latest", "base-only")
	cmd.MarkFlagsMutuallyExclusive("at", "lsn", "xid", "name", "base-only", "accept-loss")
	for _, other := range []string{"in-place", "path", "match"} {
		cmd.MarkFlagsMutuallyExclusive("delta", other)
	}
	return cmd
}

// target reads the target flags.
func target(p *plan.Plan, at, lsn, xid, name string, _ bool) (holdfast.Target, error) {
	switch {
	case at != "":
		t, err := holdfast.ParseTime(at, p.Location())
		return holdfast.Target{Kind: holdfast.TargetTime, Time: t}, err
	case lsn != "":
		return holdfast.Target{Kind: holdfast.TargetLSN, Value: lsn}, nil
	case xid != "":
		return holdfast.Target{Kind: holdfast.TargetXID, Value: xid}, nil
	case name != "":
		return holdfast.Target{Kind: holdfast.TargetName, Value: name}, nil
	}
	return holdfast.Target{Kind: holdfast.TargetLatest}, nil
}

func (c *cli) dryRestore(ctx context.Context, p *plan.Plan, opt app.Options, r app.RestoreRequest) error {
	offer, err := app.Offered(ctx, p, opt, r)
	if err != nil {
		return err
	}
	return c.print(offer, func(o io.Writer) {
		if l := offer.Lapse; l != nil {
			fmt.Fprintf(o, "would restore %s to %s from %q, base backup %s of %s\n%s\n", r.Store, when(l.Since), offer.Location, l.Base, when(l.BaseAt), l)
			if offer.Confirm != "" {
				fmt.Fprintf(o, "to take that: %s\n", offer.Confirm)
			}
			return
		}
		fmt.Fprintf(o, "would restore %s to %s from %q, which can bring it back to any instant from %s to %s\n", r.Store, r.Target, offer.Location, when(offer.From), when(offer.To))
	})
}

// dryDelta says what a restore over a data directory would change.
func (c *cli) dryDelta(ctx context.Context, p *plan.Plan, opt app.Options, r app.RestoreRequest) error {
	d, err := app.DeltaOf(ctx, p, opt, r)
	if err != nil {
		return err
	}
	return c.print(d, func(o io.Writer) {
		fmt.Fprintf(o, "%d files, %s, are as in the base backup and stay; of %d others pages are written, and %d are made, %s at most\n", d.Same, size(d.SameBytes), len(d.Differ), len(d.Missing), size(d.Bytes))
		for _, name := range d.Extra {
			fmt.Fprintf(o, "removes %s\n", name)
		}
		if d.Code != "" {
			fmt.Fprintf(o, "%d files are not in the base backup; to remove them: --remove-extra %s\n", len(d.Extra), d.Code)
		}
	})
}

func printRestored(o io.Writer, r app.RestoreRequest, rep app.RestoreReport) {
	to := r.To
	if abs, err := filepath.Abs(to); err == nil {
		to = abs
	}
	fmt.Fprintf(o, "%s restored into %s from %q, snapshot %s\n", r.Store, to, rep.Location, rep.Snapshot)
	fmt.Fprintf(o, "asked for %s, reached %s\n", rep.Asked, rep.Reached)
	if !rep.DataUntil.IsZero() {
		fmt.Fprintf(o, "newest data from %s\n", rep.DataUntil.UTC().Format("2006-01-02 15:04:05.000Z"))
	}
	fmt.Fprintf(o, "%s in %d files; fetch %s, replay %s, verify %s\n", size(rep.Bytes), rep.Files, holdfast.FormatDuration(rep.Fetch), holdfast.FormatDuration(rep.Replay), holdfast.FormatDuration(rep.Verify))
	for _, ch := range rep.Checks {
		fmt.Fprintf(o, "  %s %-10s %s: %s\n", ch.Rung, ch.Outcome, ch.Name, ch.Detail)
	}
	if rep.Lapse != nil {
		fmt.Fprintf(o, "not the newest state: %s\n", rep.Lapse)
	}
	if rep.Next != "" {
		fmt.Fprintf(o, "next: %s\n", rep.Next)
	}
}
