package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

func (c *cli) explainCmd() *cobra.Command {
	var from string
	var planOnly bool
	cmd := &cobra.Command{
		Use:   "explain SELECTOR | CODE [SUBJECT]",
		Short: "Why a value, a verdict or an order is what it is",
		Long: `Say why something is as it is, down to the facts that were observed and the lines
of the plan.

Selectors: services.NAME and stores.NAME, or one thing of it: .rto, .rpo and .order of
both, .bia of a service (its impact analysis, with the derived tier and objectives),
.exposure of a store. A finding is named by its code and its subject.

controls.NAME, statements.NAME and drills.NAME list the dated evidence: from a clause
to results and back, with what a machine proved, a person attested and somebody
claimed counted apart.

objectives.SELECTOR is one that the plan declares, as "holdfast objectives" lists it, with
all services and stores for which it counts. activation is what starts a recovery: each
condition of the plan, what it knows, and what it says of the incidents that are open.

In a workspace with a state, what was observed is explained; with --plan FILE or
--plan-only, the plan alone.

Exit status: 0 explained, 2 there is no such thing.`,
		Example: `  $ holdfast explain services.api.rto
  $ holdfast explain stores.db.rpo --json
  $ holdfast explain controls.iso27001/A.8.13
  $ holdfast explain objectives.tiers.critical.rto
  $ holdfast explain activation
  $ holdfast explain HF-L2 stores.db --plan plan.yaml`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			selector := strings.Join(a, " ")
			var files []string
			if from != "" {
				files = []string{from}
			}
			path, observed, err := c.asked(files, planOnly)
			if err != nil {
				return err
			}
			if observed {
				return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
					e, err := cl.Explain(ctx, selector)
					if err != nil {
						return err
					}
					return c.print(e, func(o io.Writer) { printExplanation(o, e) })
				})
			}
			p, err := plan.Load(path)
			if err != nil {
				return err
			}
			e, err := objective.Explain(p, objective.Facts{Now: time.Now()}, false, selector)
			if err != nil {
				return err
			}
			return c.print(e, func(o io.Writer) { printExplanation(o, e) })
		},
	}
	cmd.Flags().StringVar(&from, "plan", "", "a plan to explain alone, instead of the workspace's")
	cmd.Flags().BoolVar(&planOnly, "plan-only", false, "leave the state out: explain the plan alone")
	return cmd
}

func printExplanation(o io.Writer, e objective.Explanation) {
	head := e.Of
	if e.Answer != "" {
		head += ": " + e.Answer
	}
	if e.Posture != "" {
		head += " (" + e.Posture + ")"
	}
	fold(o, "", head)
	for _, r := range e.Reasons {
		room := strings.Repeat("  ", r.Depth+1)
		text := room + "- " + r.Text
		switch {
		case r.Plan != "":
			text += fmt.Sprintf(" [%s]", filepath.Base(r.Plan))
		case r.Fact != "":
			text += fmt.Sprintf(" [%s]", r.Fact)
		}
		fold(o, room+"  ", text)
	}
}
