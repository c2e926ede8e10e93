package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
)

func (c *cli) outputsCmd() *cobra.Command {
	var dir, by string
	cmd := &cobra.Command{
		Use:   "outputs",
		Short: "The documents that a policy asks for: when each was generated, and generate them",
		Long: `List the documents that policies ask for: configuration and schedules, job records,
encryption configuration, access lists, restore test reports, objectives, and the policy
itself; each with when it was generated last, by whom, and the digest of what came out.

With --out all of them are generated now from the running system and written into a
folder, and the ledger keeps that they were, with their digests. Files that are there are
not overwritten.

Exit status: 0 each was generated, 1 error, 3 one never was, 4 a file is there already.`,
		Example: "  $ holdfast outputs\n  $ holdfast outputs --out audit-2026 --by founder-a",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (dir == "") != (by == "") {
				return &usageError{holdfast.WithHint(fmt.Errorf("--out and --by belong together"), "write holdfast outputs --out DIR --by PERSON")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) (err error) {
				os, err := cl.Outputs(ctx)
				if err != nil {
					return err
				}
				if dir != "" {
					if os, err = generateOutputs(ctx, cl, os, dir, by); err != nil {
						return err
					}
				}
				missing := false
				for i := range os {
					os[i].Content = nil
					missing = missing || os[i].Generated.IsZero()
				}
				if err := c.print(os, func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "OUTPUT\tGENERATED\tBY\tDIGEST\tWHAT")
					for _, x := range os {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.Name, when(x.Generated), orDash(x.By), orDash(shortDigest(x.Digest)), x.What)
					}
					w.Flush()
				}); err != nil {
					return err
				}
				return c.missed(missing)
			})
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "generate all into this folder")
	cmd.Flags().StringVar(&by, "by", "", "who asks for it")
	return cmd
}

// generateOutputs writes every document into a folder. Before anything is generated it
// looks whether one would be overwritten.
func generateOutputs(ctx context.Context, cl *api.Client, known []api.Output, dir, by string) ([]api.Output, error) {
	for _, x := range known {
		if _, err := os.Lstat(filepath.Join(dir, x.File)); err == nil {
			return nil, holdfast.WithHint(fmt.Errorf("%s is there already: %w", filepath.Join(dir, x.File), holdfast.ErrRefused), "name a new folder with --out")
		}
	}
	made, err := cl.GenerateOutputs(ctx, by)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, x := range made {
		if err := os.WriteFile(filepath.Join(dir, x.File), x.Content, 0o600); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func (c *cli) trendCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "trend [ITEM]",
		Short: "What drills and incidents measured of each RTO and RPO over time, against the promise",
		Long: `List what was measured of each objective, oldest first: drills and incidents apart, each
with the limit of the plan that was in force then, its verdict, and the trend (worse,
better or steady, from three measurements on).

Exit status: 0, 3 the newest measurement of one is over its limit.`,
		Example: "  $ holdfast trend\n  $ holdfast trend stores.db --json",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			item := ""
			if len(a) == 1 {
				item = a[0]
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ss, err := cl.Series(ctx, item)
				if err != nil {
					return err
				}
				if item != "" && len(ss) == 0 {
					return &usageError{holdfast.WithHint(fmt.Errorf("%q is no service or store with an objective", item), "\"holdfast trend\" lists them")}
				}
				over := false
				for _, s := range ss {
					over = over || len(s.Points) > 0 && s.Points[len(s.Points)-1].Verdict == "over"
				}
				if err := c.print(notNil(ss), func(o io.Writer) {
					for _, s := range ss {
						fmt.Fprintf(o, "%s %s: %s\n", s.Item, s.Metric, s.Declared)
						for _, p := range s.Points {
							fmt.Fprintf(o, "  %s  %s of %s, %s (%s)\n", when(p.At), p.Value, p.Limit, p.Verdict, p.Source)
						}
						for _, kind := range []string{"drill", "incident"} {
							if t := s.Trends[kind]; t != "" {
								fmt.Fprintf(o, "  trend by %s: %s\n", kind, t)
							}
						}
						if len(s.Points) == 0 {
							fmt.Fprintln(o, "  never measured")
						}
					}
				}); err != nil {
					return err
				}
				return c.missed(over)
			})
		},
	}
}
