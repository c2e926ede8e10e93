package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/objective"
)

// clausePostures are all that a clause can have, worst first.
var clausePostures = []holdfast.Posture{holdfast.PostureFailed, holdfast.PostureOverdue, holdfast.PostureUnknown, holdfast.PostureDue,
	holdfast.PostureClaimed, holdfast.PostureExcepted, holdfast.PostureProved, holdfast.PostureNA}

// A matrix is the clauses of frameworks with how they stand.
type matrix struct {
	// Counts are how many clauses of each framework have each posture; grades are never added up.
	Counts   map[string]map[holdfast.Posture]int `json:"counts"`
	Controls []objective.ControlState            `json:"controls"`
}

func (c *cli) controlsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "controls [FRAMEWORK[/CLAUSE]]",
		Short: "Each clause of each framework: proved, due, overdue, failed, excepted, claimed, not applicable or unknown",
		Long: `Say for each clause of the plan's frameworks how it stands now, and on what: the clauses
that "controls" maps, those of each framework's table, and the company's own. The weakest
thing that stands for a clause decides. What a machine proved, a person attested and
somebody claimed is counted apart.

A framework whose data nobody holds ("when") does not apply, nor does a clause with a
reason under "none" of its framework. An exception of HF-L50 for controls.FRAMEWORK/CLAUSE
makes what is missed excepted until its day. "holdfast explain controls.FRAMEWORK/CLAUSE"
lists the dated evidence.

Exit status: 0 nothing is missed, 2 there is no such framework or clause, 3 a clause is
failed, overdue or unknown.`,
		Example: "  $ holdfast controls\n  $ holdfast controls iso27001\n  $ holdfast controls soc2/A1.3 --json",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				all, err := cl.Controls(ctx)
				if err != nil {
					return err
				}
				if len(a) == 1 {
					if all, err = about(all, a[0]); err != nil {
						return err
					}
				}
				m := matrix{Counts: map[string]map[holdfast.Posture]int{}, Controls: notNil(all)}
				missed := false
				for _, x := range all {
					if m.Counts[x.Framework] == nil {
						m.Counts[x.Framework] = map[holdfast.Posture]int{}
						for _, p := range clausePostures {
							m.Counts[x.Framework][p] = 0
						}
					}
					m.Counts[x.Framework][x.Posture]++
					missed = missed || x.Posture == holdfast.PostureFailed || x.Posture == holdfast.PostureOverdue || x.Posture == holdfast.PostureUnknown
				}
				if err := c.print(m, func(o io.Writer) { printControls(o, m) }); err != nil {
					return err
				}
				return c.missed(missed)
			})
		},
	}
}

// about keeps the clauses of one framework, or one clause.
func about(all []objective.ControlState, what string) ([]objective.ControlState, error) {
	out := slices.DeleteFunc(slices.Clone(all), func(x objective.ControlState) bool { return x.ID != what && x.Framework != what })
	if len(out) > 0 {
		return out, nil
	}
	frameworks := map[string]bool{}
	for _, x := range all {
		frameworks[x.Framework] = true
	}
	hint := "the plan maps none: add frameworks and controls"
	if len(frameworks) > 0 {
		hint = "its frameworks are " + strings.Join(slices.Sorted(maps.Keys(frameworks)), ", ") + "; \"holdfast controls\" lists their clauses"
	}
	return nil, &usageError{holdfast.WithHint(fmt.Errorf("the plan in force has no framework or clause %q", what), "%s", hint)}
}

func printControls(o io.Writer, m matrix) {
	if len(m.Controls) == 0 {
		fmt.Fprintln(o, "the plan maps no control, and no framework has a table of clauses")
		return
	}
	for _, framework := range slices.Sorted(maps.Keys(m.Counts)) {
		var counts []string
		for _, p := range clausePostures {
			if n := m.Counts[framework][p]; n > 0 {
				counts = append(counts, fmt.Sprintf("%d %s", n, p))
			}
		}
		name := framework
		if name == "" {
			name = "of no framework"
		}
		fmt.Fprintf(o, "%s: %s\n", name, strings.Join(counts, ", "))
		for _, x := range m.Controls {
			if x.Framework != framework {
				continue
			}
			head := x.Clause
			if x.Name != "" {
				head += " (" + x.Name + ")"
			}
			fold(o, "      ", fmt.Sprintf("  %s: %s: %s", head, x.Posture, x.Why))
		}
	}
}
