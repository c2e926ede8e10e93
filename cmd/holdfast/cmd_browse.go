package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source/files"
)

// maxListed bounds what ls and find hold and print; a limit that is met is said.
const maxListed = 1_000_000

// A listed entry is what ls and find say of one path.
type listed struct {
	Path     string    `json:"path"`
	Type     string    `json:"type"`
	Mode     string    `json:"mode"`
	Owner    string    `json:"owner"`
	Group    string    `json:"group"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Target   string    `json:"target,omitempty"`
	Hash     string    `json:"blake3,omitempty"`
}

func list(e repo.Entry) listed {
	or := func(name string, id int) string {
		if name == "" {
			return strconv.Itoa(id)
		}
		return name
	}
	return listed{Path: e.Path, Type: e.Type, Mode: modeText(e), Owner: or(e.User, e.UID), Group: or(e.Group, e.GID), Size: e.Size,
		Modified: e.ModTime.UTC(), Target: e.Target, Hash: hex.EncodeToString(e.Hash)}
}

// modeText is a mode as "ls -l" writes it.
func modeText(e repo.Entry) string {
	kinds := map[string]string{repo.TypeFile: "-", repo.TypeHardlink: "-", repo.TypeDir: "d", repo.TypeSymlink: "l", repo.TypeFIFO: "p", repo.TypeSocket: "s", repo.TypeChar: "c", repo.TypeBlock: "b"}
	b := []byte(fs.FileMode(e.Mode & 0o777).String()[1:])
	for i, bit := range []uint32{0o4000, 0o2000, 0o1000} {
		if e.Mode&bit == 0 {
			continue
		}
		c := "sst"[i]
		if at := 2 + 3*i; b[at] == '-' {
			b[at] = c - 'a' + 'A'
		} else {
			b[at] = c
		}
	}
	return kinds[e.Type] + string(b)
}

// shown is a name as a terminal may have it: what could steer one is escaped.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// A look says into which point of a store to look.
type look struct{ at, snapshot, location, key, purpose string }

func (l *look) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.location, "location", "", "look at this location (default: the one that holds the newest fitting snapshot)")
	f.StringVar(&l.purpose, "purpose", os.Getenv("HOLDFAST_PURPOSE"), "what the read key is used for; it is recorded (default: $HOLDFAST_PURPOSE, else the command's own words)")
	f.StringVar(&l.key, "key", "", "file of the private read key (default: the workspace's keys/runner.age)")
}

// point reads STORE or STORE@POINT, where POINT is a snapshot's id, an instant, or
// "latest".
func (c *cli) point(text string, l look) (app.Options, *plan.Plan, app.PointRequest, error) {
	r := app.PointRequest{Location: l.location, Snapshot: l.snapshot}
	opt, p, err := c.workspacePlan()
	if err != nil {
		return opt, p, r, err
	}
	store, at, _ := strings.Cut(text, "@")
	r.Store = store
	if at == "" {
		at = l.at
	}
	if _, err := time.Parse("20060102T150405Z", strings.SplitN(at, "-", 2)[0]); err == nil && strings.Contains(at, "Z-") {
		r.Snapshot, at = at, ""
	}
	if at != "" && at != "latest" {
		if r.At, err = holdfast.ParseTime(at, p.Location()); err != nil {
			return opt, p, r, &usageError{holdfast.WithHint(err, "a point is a snapshot's id, an instant like 2026-03-01T14:05:00Z, or \"latest\"; \"holdfast points %s\" lists them", store)}
		}
	}
	if l.key == "" {
		l.key = opt.Workspace.Key(app.KeyRunner)
	}
	id, err := app.ReadIdentity(l.key)
	if err != nil {
		return opt, p, r, err
	}
	r.Identities = []seal.Identity{id}
	r.Use = func() { c.used(id, store, l.purpose) }
	return opt, p, r, nil
}

func (c *cli) lsCmd() *cobra.Command {
	var l look
	var deep bool
	cmd := &cobra.Command{
		Use:   "ls STORE[@POINT] [PATH]",
		Short: "Look into a snapshot without restoring it",
		Long: `List what lies in PATH (default: the top) of a snapshot of STORE. POINT is a
snapshot's id, an instant, at or before which the snapshot was made, or "latest",
the default. Only the part of the list that is asked for is fetched.

Exit status: 0 listed, 1 error (also when PATH is not there), 2 usage.`,
		Example: `  $ holdfast ls uploads
  $ holdfast ls uploads@2026-11-22T10:15:00Z customers/acme
  $ holdfast ls uploads -r --json`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if l.purpose == "" {
				l.purpose = "list what " + a[0] + " holds"
			}
			opt, p, r, err := c.point(a[0], l)
			if err != nil {
				return err
			}
			pt, err := app.OpenPoint(cmd.Context(), p, opt, r)
			if err != nil {
				return err
			}
			dir := "."
			if len(a) > 1 {
				dir = path.Clean(strings.TrimLeft(a[1], "/"))
			}
			found, err := entriesAt(cmd.Context(), pt, dir, deep)
			if err != nil {
				return err
			}
			m := pt.Manifest()
			return c.print(map[string]any{"store": r.Store, "snapshot": m.ID, "created": m.Created.UTC(), "location": pt.Location, "labels": m.Labels, "entries": notNil(found)}, func(o io.Writer) {
				fmt.Fprintf(o, "%s of %s, at %q\n", m.ID, when(m.Created), pt.Location)
				if n := m.Labels[files.LabelCrash]; n != "" {
					fmt.Fprintf(o, "%s databases in it are crash-consistent only: they were copied file by file; give them a store of their own\n", n)
				}
				printListed(o, found)
			})
		},
	}
	l.flags(cmd)
	cmd.Flags().BoolVarP(&deep, "recursive", "r", false, "list what lies deeper, too")
	return cmd
}

// entriesAt lists a directory, or one entry that is none.
func entriesAt(ctx context.Context, pt *app.Point, dir string, deep bool) ([]listed, error) {
	var found []listed
	add := func(e repo.Entry) error {
		if len(found) == maxListed {
			return holdfast.WithHint(fmt.Errorf("more than %d entries", maxListed), "name a directory, or leave -r away")
		}
		found = append(found, list(e))
		return nil
	}
	if dir != "." {
		e, err := pt.Find(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, holdfast.WithHint(fmt.Errorf("%q is not in the snapshot of %s", dir, when(pt.Manifest().Created)), "\"holdfast find %s %s\" looks through all points", pt.Manifest().Scope, path.Base(dir))
		}
		if err != nil {
			return nil, err
		}
		if e.Type != repo.TypeDir {
			return []listed{list(e)}, nil
		}
	}
	if deep {
		err := pt.Under(ctx, dir, func(e repo.Entry) error {
			if e.Path == dir {
				return nil
			}
			return add(e)
		})
		return found, err
	}
	err := pt.Children(ctx, dir, add)
	return found, err
}

func printListed(o io.Writer, found []listed) {
	w := tabwriter.NewWriter(o, 0, 0, 1, ' ', 0)
	for _, e := range found {
		name := shown(e.Path)
		if e.Target != "" {
			name += " -> " + shown(e.Target)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%10d\t%s\t%s\n", e.Mode, e.Owner, e.Group, e.Size, when(e.Modified), name)
	}
	w.Flush()
}

// A version is one state of a path, and the points that hold it.
type version struct {
	listed
	Points int       `json:"points"`
	First  string    `json:"first_snapshot"`
	Last   string    `json:"last_snapshot"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

func (c *cli) findCmd() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "find STORE[@POINT] PATTERN",
		Short: "Search all points of a store for a name",
		Long: `Look for PATTERN in every snapshot of STORE, or in the one that POINT names, and
list each state of a path once, with the first and the last point that hold it.

A pattern without a slash matches a name at any depth ("*.pdf"); one with a slash
matches from the top ("/customers/*/old", "a/**/b"). A directory that matches is
listed, not what is in it.

Exit status: 0 found, 1 error, 3 nothing matches or a snapshot could not be read.`,
		Example: "  $ holdfast find uploads 'invoice-2026-*.pdf'\n  $ holdfast find uploads@latest /customers/acme",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			part, err := files.NewPart(nil, []string{a[1]})
			if err != nil {
				return &usageError{err}
			}
			if l.purpose == "" {
				l.purpose = fmt.Sprintf("look for %q in %s", a[1], a[0])
			}
			opt, p, r, err := c.point(a[0], l)
			if err != nil {
				return err
			}
			found, unread, err := find(cmd.Context(), p, opt, r, part, strings.Contains(a[0], "@"))
			if err != nil {
				return err
			}
			if err := c.print(map[string]any{"store": r.Store, "versions": notNil(found), "unread": unread}, func(o io.Writer) { printFound(o, found, unread) }); err != nil {
				return err
			}
			if len(found) == 0 || len(unread) > 0 {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	l.flags(cmd)
	return cmd
}

// find looks through points, newest first.
func find(ctx context.Context, p *plan.Plan, opt app.Options, r app.PointRequest, part files.Part, one bool) ([]*version, map[string]string, error) {
	var all []*version
	open := map[string]*version{} // by path: the state in the point looked at before
	unread := map[string]string{}
	visit := func(pt *app.Point) error {
		m := pt.Manifest()
		return pt.Entries(ctx, func(e repo.Entry) error {
			if !part.Matches(e.Path, e.Type) {
				return nil
			}
			now := list(e)
			if v := open[e.Path]; v != nil && v.listed == now {
				v.Points++
				v.First, v.From = m.ID, m.Created.UTC()
				return nil
			}
			if len(all) == maxListed {
				return holdfast.WithHint(fmt.Errorf("more than %d states of paths match", maxListed), "give a narrower pattern, or a point: %s@latest", r.Store)
			}
			v := &version{listed: now, Points: 1, First: m.ID, Last: m.ID, From: m.Created.UTC(), To: m.Created.UTC()}
			open[e.Path] = v
			all = append(all, v)
			return nil
		})
	}
	if one {
		pt, err := app.OpenPoint(ctx, p, opt, r)
		if err != nil {
			return nil, nil, err
		}
		err = visit(pt)
		return all, unread, err
	}
	err := app.Points(ctx, p, opt, r, func(pt *app.Point) error {
		err := visit(pt)
		if errors.Is(err, repo.ErrDamaged) {
			unread[pt.Manifest().ID] = err.Error()
			return nil
		}
		return err
	}, func(id string, err error) { unread[id] = err.Error() })
	return all, unread, err
}

func printFound(o io.Writer, found []*version, unread map[string]string) {
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	if len(found) > 0 {
		fmt.Fprintln(w, "PATH\tSIZE\tMODIFIED\tIN POINTS FROM\tTO\tNEWEST SNAPSHOT")
	}
	for _, v := range found {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", shown(v.Path), v.Size, when(v.Modified), when(v.From), when(v.To), v.Last)
	}
	w.Flush()
	if len(found) == 0 {
		fmt.Fprintln(o, "nothing: no point holds a path that matches")
	}
	for _, id := range sortedKeys(unread) {
		fmt.Fprintf(o, "%s could not be read: %s\n", id, unread[id])
	}
}

// used records a use of a read key. On the day on which nothing can be written here,
// data still comes back.
func (c *cli) used(id seal.Identity, store, purpose string) {
	if err := c.noteUse(id, store, purpose); err != nil {
		fmt.Fprintf(c.stderr, "holdfast: warning: %v: write it down: %s, %s\n", err, id.Recipient().Fingerprint(), purpose)
	}
}

// wanted reads --path and --match.
func wanted(p *plan.Plan, store string, paths, match []string) (files.Part, error) {
	if st, ok := p.Stores[store]; ok && st.Kind != plan.KindFiles {
		return files.Part{}, &usageError{holdfast.WithHint(fmt.Errorf("store %q is of kind %s: only a folder comes back in part", store, st.Kind), "restore it whole, and take from that what you need")}
	}
	part, err := files.NewPart(paths, match)
	if err != nil {
		return part, &usageError{err}
	}
	return part, nil
}

// restorePart brings a part of a folder back, or says what it would.
func (c *cli) restorePart(ctx context.Context, p *plan.Plan, opt app.Options, r app.RestoreRequest, part files.Part, dry bool) error {
	if dry {
		pt, err := app.OpenPoint(ctx, p, opt, app.PointRequest{Store: r.Store, Location: r.Location, Snapshot: r.Snapshot, At: r.Target.Time, Identities: r.Identities, Use: r.Use})
		if err != nil {
			return err
		}
		return c.dryPart(ctx, "restore", pt, part)
	}
	b := newBar(c.stderr, "restore "+r.Store)
	r.Progress = b.progress
	rep, err := app.RestorePart(ctx, p, opt, r, part)
	b.end()
	if err != nil {
		return err
	}
	return c.print(rep, func(o io.Writer) { printRestored(o, r, rep) })
}

// restoreInPlace makes a folder what it was, or lists what that would change.
func (c *cli) restoreInPlace(ctx context.Context, p *plan.Plan, opt app.Options, r app.RestoreRequest, cfg files.InPlace) error {
	cfg.Now = time.Now()
	b := newBar(c.stderr, "restore "+r.Store)
	r.Progress = b.progress
	pt, report, err := app.RestoreInPlace(ctx, p, opt, r, cfg)
	b.end()
	if err != nil {
		return err
	}
	m := pt.Manifest()
	return c.print(map[string]any{"snapshot": m.ID, "location": pt.Location, "dry_run": cfg.DryRun, "same": report.Same, "bytes": report.Bytes,
		"changes": notNil(report.Changes), "aside": report.Aside, "lost": notNil(report.Lost)}, func(o io.Writer) {
		did := "restored"
		if cfg.DryRun {
			did = "to restore"
			for _, ch := range report.Changes {
				fmt.Fprintf(o, "%-10s %s\n", ch.What, shown(ch.Path))
			}
		}
		fmt.Fprintf(o, "%d paths %s in %s, %s to write, from %q, snapshot %s of %s; %d paths are as they were\n", len(report.Changes), did, r.To, size(report.Bytes), pt.Location, m.ID, when(m.Created), report.Same)
		if report.Aside != "" {
			fmt.Fprintf(o, "what was there before is in %s\n", report.Aside)
		}
		for _, lost := range report.Lost {
			fmt.Fprintf(o, "not set: %s\n", lost)
		}
	})
}
