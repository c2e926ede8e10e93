package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/location/probe"
)

func (c *cli) locationCmd() *cobra.Command {
	var all bool
	initCmd := &cobra.Command{
		Use:   "init NAME | --all",
		Short: "Make the repository at a location",
		Long: `Make the repository at a location of the plan. One of the same name that is there
stays as it is; another one is refused. Nothing makes a repository by itself: a
disk that is not mounted must not look like a new location.

Exit status: 0 made or there already, 1 error.`,
		Example: "  $ holdfast location init --all",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			names := a
			if all && len(a) > 0 {
				return &usageError{holdfast.WithHint(errors.New("name a location or give --all, not both"), "the plan's locations are %s", strings.Join(sortedKeys(p.Locations), ", "))}
			}
			if all {
				names = sortedKeys(p.Locations)
			}
			if len(names) == 0 {
				return &usageError{holdfast.WithHint(errors.New("which location?"), "the plan's locations are %s; --all takes them all", strings.Join(sortedKeys(p.Locations), ", "))}
			}
			places := app.NewPlaces(p)
			for _, n := range names {
				if err := places.Init(cmd.Context(), n, time.Now()); err != nil {
					return err
				}
			}
			return c.print(map[string]any{"locations": names, "repository": p.Repository.ID}, func(o io.Writer) {
				for _, n := range names {
					fmt.Fprintf(o, "%s: repository %s\n", n, p.Repository.ID)
				}
			})
		},
	}
	initCmd.Flags().BoolVar(&all, "all", false, "every location of the plan")
	return group("location", "The places that hold backups", initCmd, c.locationListCmd(), c.locationTestCmd())
}

func (c *cli) locationTestCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "test NAME",
		Short: "Find out what a place really guarantees",
		Long: `Try a location of the plan for half a minute, and say what it guarantees and what
not: that writers who race cannot overwrite each other, that what was written is
read and listed at once and completely, that parts can be read, whether deletion is
refused, whether versions and locks are kept, how far its clock is off, how fast it
is, and how safe the line is. What Holdfast needs and does not find is "missing";
what it could use is "open". Each comes with its consequence.

It works in a new place beside the repository, with the credentials of the backups,
and never touches a repository. What it made it removes; what cannot be removed,
because it is locked or deletion is denied, it names.

Exit status: 0 all is there that is needed, 1 error, 3 something is missing.`,
		Example: "  $ holdfast location test offsite\n  $ holdfast location test offsite --json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			if isTerminal(c.stderr) && !c.json {
				fmt.Fprintf(c.stderr, "trying %s; this takes up to half a minute\n", a[0])
			}
			r, err := app.NewPlaces(p).Probe(cmd.Context(), a[0], time.Now)
			if err != nil {
				return err
			}
			if err := c.print(r, func(o io.Writer) { printProbe(o, r) }); err != nil {
				return err
			}
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if !r.Sufficient() {
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
}

func printProbe(o io.Writer, r probe.Report) {
	fmt.Fprintf(o, "%s: %s at %s, tried for %s\n\n", r.Location, r.Kind, r.Address, holdfast.FormatDuration(time.Duration(r.Seconds*float64(time.Second))))
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	lacks := 0
	for _, k := range r.Checks {
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.Outcome, k.Name, k.Detail)
		if k.Outcome == probe.Missing {
			lacks++
		}
		if k.Consequence != "" && (k.Outcome == probe.Missing || k.Outcome == probe.Open) {
			fmt.Fprintf(w, "\t\tso %s\n", k.Consequence)
		}
		if k.Hint != "" {
			fmt.Fprintf(w, "\t\thint: %s\n", k.Hint)
		}
	}
	w.Flush()
	fmt.Fprintln(o)
	for i, l := range r.Left {
		if i == 0 {
			fmt.Fprintln(o, "left behind:")
		}
		fmt.Fprintf(o, "  %s\n", l)
	}
	switch {
	case lacks == 0:
		fmt.Fprintln(o, "it has everything that Holdfast needs")
	case lacks == 1:
		fmt.Fprintln(o, "one thing that Holdfast needs is missing: do not rely on this place alone")
	default:
		fmt.Fprintf(o, "%d things that Holdfast needs are missing: do not rely on this place alone\n", lacks)
	}
}
