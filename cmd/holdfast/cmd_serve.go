package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"context"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/objective"
)

func (c *cli) serveCmd() *cobra.Command {
	var listen app.Listen
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: schedules, logs, drills, incidents, the web page",
		Long: `Run everything in one process, until interrupted. What an interrupted or killed
server left unfinished goes on at the next start.

The page is at the listen address. Until somebody is let in, it is open on this
machine and nowhere else; the link that is printed lets the first administrator
in, once, within an hour ("holdfast access" does the same without a browser).
From then on everybody logs in. Other addresses than loopback are served only
with a log-in and a certificate of your own.

Exit status: 0 stopped, 1 error (also when another server works on this state).`,
		Example: "  $ holdfast serve\n  holdfast: page at http://127.0.0.1:7878\n  $ holdfast serve --listen :8443 --tls-cert /etc/holdfast/tls.crt --tls-key /etc/holdfast/tls.key",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt, err := c.options(slog.LevelInfo)
			if err != nil {
				return err
			}
			listen.Socket = true
			ctx := cmd.Context()
			a, err := app.Open(ctx, opt)
			if err != nil {
				return err
			}
			s, err := a.Serve(ctx, listen)
			if err != nil {
				return errors.Join(err, a.Stop())
			}
			if err := c.print(map[string]string{"url": s.URL(), "socket": opt.Workspace.Socket()}, func(o io.Writer) { fmt.Fprintf(o, "holdfast: page at %s\n", s.URL()) }); err != nil {
				return err
			}
			c.sayFirst(ctx, a, s.URL())
			var evicted error
			select {
			case <-ctx.Done():
			case <-a.Evicted():
				evicted = holdfast.WithHint(fmt.Errorf("%w: it took it while the connection to the state was lost", db.ErrHeld), "look which one should run, and start only that")
			}
			return errors.Join(evicted, s.Stop(), a.Stop())
		},
	}
	cmd.Flags().StringVar(&listen.Address, "listen", app.DefaultAddress, "address of the web page and the API")
	cmd.Flags().StringVar(&listen.Cert, "tls-cert", "", "file of the certificate, as PEM")
	cmd.Flags().StringVar(&listen.Key, "tls-key", "", "file of its key, as PEM")
	cmd.Flags().StringSliceVar(&listen.Hosts, "host", nil, "name under which browsers reach the server, beside those of the certificate")
	return cmd
}

// sayFirst prints the link of the first administrator while nobody is known. It is the
// one secret that the server says, and it admits once.
func (c *cli) sayFirst(ctx context.Context, a *app.App, url string) {
	inv, ok, err := a.Access.First(ctx)
	if err != nil {
		fmt.Fprintf(c.stderr, "holdfast: note: no link for the first administrator: %v\n", err)
	}
	if !ok || url == "" {
		return
	}
	// Browsers allow passkeys under a name only.
	url = strings.Replace(url, "://127.0.0.1:", "://localhost:", 1)
	fmt.Fprintf(c.stderr, "holdfast: nobody is known yet, so this page is open on this machine; the first administrator enrols, once and until %s, at %s%s\n", inv.Expires.Format("15:04 MST"), url, inv.Path)
}

func (c *cli) statusCmd() *cobra.Command {
	var coverage bool
	cmd := &cobra.Command{
		Use:   "status [SERVICE]",
		Short: "Declared, proven and exposed, right now",
		Long: `Say for each service and store what the plan promises, what drills and incidents
have proven, and what would be lost if it burned down now.

With --coverage, say instead of every service and store what protects it: covered,
part covered, delegated, excepted or uncovered, with the reason and the last good point.

Exit status: 0 within objectives, 3 an objective is missed or unproven, a finding of
severity error exists, or with --coverage something is not covered as the plan says.`,
		Example: "  $ holdfast status\n  $ holdfast status api --json\n  $ holdfast status --coverage",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				o, err := cl.Overview(ctx)
				if err != nil {
					return err
				}
				if len(a) == 1 {
					if o, err = only(o, a[0]); err != nil {
						return err
					}
				}
				if coverage {
					return c.covered(o)
				}
				if err := c.print(o, func(w io.Writer) { printOverview(w, o) }); err != nil {
					return err
				}
				fine := o.Posture == holdfast.PostureProved || o.Posture == holdfast.PostureExcepted || o.Posture == holdfast.PostureDue
				return c.missed(!fine || holdfast.AnyErrors(o.Findings))
			})
		},
	}
	cmd.Flags().BoolVar(&coverage, "coverage", false, "say what protects each service and store")
	return cmd
}

// covered prints what protects each item of the inventory.
func (c *cli) covered(v objective.Overview) error {
	if err := c.print(v.Coverage, func(o io.Writer) {
		var counts []string
		for _, s := range objective.CoverageStates {
			if n := v.Coverage.Counts[s]; n > 0 {
				counts = append(counts, fmt.Sprintf("%d %s", n, s))
			}
		}
		fmt.Fprintf(o, "%d services and stores: %s\n\n", v.Coverage.Total, strings.Join(counts, ", "))
		w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ITEM\tKIND\tCOVERAGE\tLAST GOOD POINT\tWHY")
		for _, x := range v.Coverage.Items {
			state := string(x.State)
			if x.Grade != "" {
				state += ", " + string(x.Grade)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.ID, x.Kind, state, when(x.LastGood), x.Why)
		}
		w.Flush()
	}); err != nil {
		return err
	}
	return c.missed(v.Coverage.Counts[objective.Uncovered]+v.Coverage.Counts[objective.PartCovered] > 0)
}

// only keeps one service of an overview and its stores.
func only(o objective.Overview, id string) (objective.Overview, error) {
	for _, s := range o.Services {
		if s.ID != id {
			continue
		}
		o.Services, o.Posture = []objective.ServiceOverview{s}, s.Posture
		var keep []objective.StoreOverview
		for _, st := range o.Stores {
			for _, n := range s.Stores {
				if st.ID == n {
					keep = append(keep, st)
				}
			}
		}
		o.Stores, o.Coverage = keep, o.Coverage.Only(append([]string{id}, s.Stores...))
		return o, nil
	}
	var ids []string
	for _, s := range o.Services {
		ids = append(ids, s.ID)
	}
	return o, holdfast.WithHint(fmt.Errorf("service %q is not in the plan: %w", id, holdfast.ErrUsage), "the plan's services are %s", strings.Join(ids, ", "))
}

// statusWidth is how wide the lines of "status" may be.
const statusWidth = 100

func printOverview(o io.Writer, v objective.Overview) {
	fmt.Fprintln(o, v.Organisation)
	fold(o, "", v.Sentence)
	fmt.Fprintln(o)
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tPOSTURE\tWOULD LOSE\tRPO\tBACK AFTER\tRTO")
	for _, s := range v.Services {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Posture, wouldLose(s.Losses), promised(s.RPO), s.Outage.Text(), promised(s.RTO))
	}
	w.Flush()
	fmt.Fprintln(o)
	w = tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tLOCATION\tWOULD LOSE\tNEWEST POINT\tRECEIPT\tLAST DRILL")
	for _, s := range v.Stores {
		drilled := "never"
		if s.LastDrill != nil {
			drilled = fmt.Sprintf("%s %s, %s ago", s.LastDrill.Rung, s.LastDrill.Outcome, holdfast.FormatDuration(v.At.Sub(s.LastDrill.At)))
		}
		if d := s.Delegated; d != nil {
			fmt.Fprintf(w, "%s\t%s (%s)\t%s\t%s\t-\t%s\n", s.ID, d.To, d.Grade, wouldLose(s.Losses), when(d.Until), drilled)
		} else if len(s.Exposures) == 0 {
			fmt.Fprintf(w, "%s\t-\teverything\t-\t-\t%s\n", s.ID, drilled)
		}
		for i, e := range s.Exposures {
			lose := string(e.State)
			switch {
			case e.State == objective.LossBounded:
				lose = e.Age.String()
			case !e.Reachable:
				lose = "no answer"
			}
			id := s.ID
			if i > 0 {
				id, drilled = "", ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", id, e.Location, lose, when(e.Newest), when(e.Received), drilled)
		}
	}
	w.Flush()
	for _, s := range v.Services {
		for _, x := range []struct {
			name string
			st   objective.ObjectiveState
		}{{"RPO", s.RPO}, {"RTO", s.RTO}} {
			if x.st.Posture != holdfast.PostureProved && x.st.Posture != holdfast.PostureNA {
				fmt.Fprintln(o)
				fold(o, "    ", fmt.Sprintf("%s, %s %s: %s", s.ID, x.name, x.st.Posture, x.st.Why))
			}
		}
	}
	for _, f := range v.Findings {
		fmt.Fprintln(o)
		fold(o, "    ", fmt.Sprintf("%s %s: %s", f.Severity, f.Code, f.Message))
		if f.Hint != "" {
			fold(o, "    ", "    "+f.Hint)
		}
	}
}

// wouldLose is what the loss of this host costs; without a location of its own that
// is the loss of the data alone.
func wouldLose(ls []objective.Loss) string {
	out := "unknown"
	for _, l := range ls {
		if l.Scenario == objective.ScenarioSource || l.Scenario == objective.ScenarioHost {
			out = l.Text()
		}
	}
	return out
}

// promised is an objective in a table.
func promised(s objective.ObjectiveState) string {
	if s.Posture == holdfast.PostureNA {
		return "-"
	}
	return s.Declared
}

// fold writes text in lines of statusWidth; those after the first are indented.
func fold(o io.Writer, indent, text string) {
	room := text[:len(text)-len(strings.TrimLeft(text, " "))]
	line := room
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > statusWidth && strings.TrimSpace(line) != "" {
			fmt.Fprintln(o, line)
			line = indent
		}
		if strings.TrimSpace(line) != "" {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(o, line)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func (c *cli) backupCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "backup STORE",
		Short: "Copy a store now, to every location",
		Long: `Make a snapshot of STORE (for PostgreSQL a base backup) in every location within
reach, and wait until the vault has countersigned it. A location that is away is
caught up later, by the server.

Exit status: 0 complete in every location, 1 error, 3 complete, but not in every
location.`,
		Example: "  $ holdfast backup db\n  db: snapshot 20261122T101530Z-1a2b3c4d, 41.2 MiB read, 9.1 MiB stored in 3.1s; complete at far, near",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), app.Work{Asked: true, Jobs: []string{backup.KindSnapshot, backup.KindReceive}, Logs: true}, func(ctx context.Context, cl *api.Client) error {
				asked, err := cl.Backup(ctx, a[0], reason)
				if err != nil {
					return err
				}
				j, err := c.wait(ctx, cl, asked.Job, asked.After, "backup "+a[0])
				if err != nil {
					return err
				}
				var f backup.SnapshotFact
				if err := decode(j.Result, &f); err != nil {
					return err
				}
				if err := c.awaitReceipts(ctx, cl, a[0], f); err != nil {
					return err
				}
				return c.printBackup(a[0], f)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "asked for on the command line", "why, for the record")
	return cmd
}

// receiptsWithin bounds how long a command waits for the vault.
const receiptsWithin = 2 * time.Minute

// awaitReceipts waits until every complete copy of the snapshot is countersigned.
func (c *cli) awaitReceipts(ctx context.Context, cl *api.Client, store string, f backup.SnapshotFact) error {
	ctx, cancel := context.WithTimeout(ctx, receiptsWithin)
	defer cancel()
	for {
		p, err := cl.Points(ctx, store)
		if err != nil {
			return err
		}
		missing := 0
		for _, cp := range p.Copies {
			if cp.Snapshot == f.Snapshot && cp.State == "complete" && cp.Received.IsZero() {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the snapshot is written, but the vault has not countersigned it: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

func (c *cli) printBackup(store string, f backup.SnapshotFact) error {
	var complete, missing []string
	for _, l := range sortedKeys(f.Locations) {
		if f.Locations[l] == "complete" {
			complete = append(complete, l)
		} else {
			missing = append(missing, fmt.Sprintf("  %s: %s", l, f.Locations[l]))
		}
	}
	err := c.print(f, func(o io.Writer) {
		fmt.Fprintf(o, "%s: snapshot %s, %s read, %s stored in %s; complete at %s\n", store, f.Snapshot, size(f.Bytes), size(f.Stored),
			holdfast.FormatDuration(time.Duration(f.Seconds*float64(time.Second))), strings.Join(complete, ", "))
		for _, l := range complete {
			if line, ok := f.Lines[l]; ok {
				fmt.Fprintf(o, "  %s: over %s\n", l, line)
			}
		}
		for _, m := range missing {
			fmt.Fprintln(o, m)
		}
		if f.Anew != "" {
			fmt.Fprintf(o, "  all content was stored anew, once: %s\n", f.Anew)
		}
		if f.Incomplete != "" {
			fmt.Fprintf(o, "  incomplete: %s\n", f.Incomplete)
		}
	})
	if c.alone {
		fmt.Fprintln(c.stderr, "holdfast: note: no server is running; schedules, drills and the log of databases are followed only while \"holdfast serve\" runs")
	}
	if err == nil && (len(missing) > 0 || f.Incomplete != "") {
		c.reported = true
		return holdfast.ErrMissed
	}
	return err
}
