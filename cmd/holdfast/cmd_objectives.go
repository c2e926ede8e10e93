package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

// maxPlans bounds how many plans are read at once.
const maxPlans = 100

// A declaredBy is the objectives of one plan.
type declaredBy struct {
	Plan         string               `json:"plan"`
	Organisation string               `json:"organisation"`
	Objectives   []objective.Declared `json:"objectives"`
}

func (c *cli) objectivesCmd() *cobra.Command {
	var planOnly bool
	cmd := &cobra.Command{
		Use:   "objectives [PLAN…]",
		Short: "Every RTO and RPO, as the plan declares it, and how it stands",
		Long: `List every RTO and RPO of a plan: of tiers, severities, scenarios, services, stores,
customers and obligations, each in the plan's own words, with the number that counts,
the line, and where the time of an RTO begins. Words without a number are shown as
what they are: nobody can test them. Scales keep the company's own order, and are
never compared with each other.

In a workspace with a state, each says how it stands for what it counts for. With
plans as arguments, or with --plan-only, the plans alone; several are several
companies, listed one after the other.

Exit status: 0 listed, 2 a plan cannot be read.`,
		Example: `  $ holdfast objectives
  $ holdfast objectives examples/*.yaml
  $ holdfast objectives --json`,
		Args: args(cobra.MaximumNArgs(maxPlans)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 0 {
				path, observed, err := c.asked(nil, planOnly)
				if err != nil {
					return err
				}
				if observed {
					return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
						ps, err := cl.Objectives(ctx)
						if err != nil {
							return err
						}
						return c.tellObjectives([]declaredBy{{Plan: path, Objectives: ps}})
					})
				}
				a = []string{path}
			}
			var all []declaredBy
			for _, path := range a {
				p, err := plan.Load(path)
				if err != nil {
					return err
				}
				all = append(all, declaredBy{path, p.Org.Name, objective.Promises(p, nil)})
			}
			return c.tellObjectives(all)
		},
	}
	cmd.Flags().BoolVar(&planOnly, "plan-only", false, "leave the state out: list what the plan declares")
	return cmd
}

func (c *cli) tellObjectives(all []declaredBy) error {
	return c.print(map[string]any{"plans": all}, func(o io.Writer) {
		for i, d := range all {
			if i > 0 {
				fmt.Fprintln(o)
			}
			if d.Organisation != "" || len(all) > 1 {
				fmt.Fprintf(o, "%s (%s)\n", d.Organisation, filepath.Base(d.Plan))
			}
			head := ""
			for _, x := range d.Objectives {
				now := x.Kind
				if x.Scheme != "" {
					now += fmt.Sprintf(" (scale %s)", x.Scheme)
				}
				if now != head {
					head = now
					fmt.Fprintf(o, "%s\n", head)
				}
				printPromise(o, x)
			}
			if len(d.Objectives) == 0 {
				fmt.Fprintln(o, "the plan promises nothing")
			}
		}
	})
}

func printPromise(o io.Writer, x objective.Declared) {
	label := x.Label
	if x.Scenario != "" && x.Kind != "scenario" {
		label += " in " + x.Scenario
	}
	text := fmt.Sprintf("  %s, %s: %s [%s:%d]", label, strings.ToUpper(x.Metric), x.Text(), filepath.Base(x.File), x.Line)
	if x.Clock != "" && x.Clock != string(plan.ClockDisruption) && len(x.Stages) == 0 {
		text += ", counted from " + x.Clock
	}
	fold(o, "      ", text)
	for _, h := range x.Holds {
		if h.Posture == "" {
			continue
		}
		fold(o, "        ", fmt.Sprintf("      %s: %s: %s", h.ID, h.Posture, h.Why))
	}
}
