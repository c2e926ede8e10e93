package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/plan"
)

func (c *cli) planDiffCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "diff [OLD] NEW",
		Short: "Say in words what changes between two plans, and what becomes weaker",
		Long: `Compare two plans, each a file or a folder, by what they mean: comments and order
are no difference. With one argument the old plan is the workspace's. Nothing is
contacted and nothing is written.

What becomes weaker comes first: a looser objective, a shorter retention, a rarer
drill, another key. Weakening needs the people whom the old plan names for it, so
it ends with a status of its own, for example to stop a merge until they agree.

What the new plan deletes while others still depend on it is refused, as the server
refuses it.

Exit status: 0 nothing is weaker, 1 error, 2 a plan cannot be read, 4 something is
weaker and needs approval, or something is deleted that others depend on.`,
		Example: `  $ holdfast plan diff main/plan.yaml plan.yaml
  weaker    backups.database.keep (plan.yaml:120): is 7d, was 30d: what is older goes
  $ holdfast plan diff new-plan.yaml            # against the workspace's plan`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(_ *cobra.Command, a []string) error {
			if len(a) == 1 {
				path, err := c.planPath(nil)
				if err != nil {
					return err
				}
				a = []string{path, a[0]}
			}
			var plans [2]*plan.Plan
			for i, path := range a {
				p, err := plan.Load(path)
				if err != nil {
					return err
				}
				plans[i] = p
			}
			return c.tellDiff(plans[0], plans[1])
		},
	}
}

// planVersion identifies one of two plans.
type planVersion struct {
	File    string `json:"file"`
	ID      string `json:"id"`
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest"`
}

// planChange is a change with its place.
type planChange struct {
	plan.Change
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

func (c *cli) tellDiff(before, after *plan.Plan) error {
	changes := plan.Diff(before, after)
	count := map[plan.Effect]int{}
	listed := []planChange{}
	for _, ch := range changes {
		count[ch.Effect]++
		listed = append(listed, planChange{ch, ch.Position.File, ch.Position.Line, ch.Position.Column})
	}
	dangling := plan.Dangling(before, after)
	needs := ""
	if count[plan.Weaker] > 0 {
		needs = before.Approval(plan.ActWeaken).String()
	}
	name := func(p *plan.Plan) planVersion {
		return planVersion{p.Files()[0], p.Plan.ID, p.Plan.Version, p.Digest()}
	}
	// A version that stays the same stands for two texts.
	same := len(changes) > 0 && before.Plan.Version == after.Plan.Version && before.Plan.Version != ""
	err := c.print(map[string]any{"old": name(before), "new": name(after), "changes": listed, "weaker": count[plan.Weaker], "stronger": count[plan.Stronger],
		"changed": count[plan.Changed], "needs": needs, "same_version": same, "dangling": notNil(dangling), "effective": after.Plan.Effective.String()}, func(o io.Writer) {
		dir := here()
		for _, ch := range changes {
			why := ""
			if ch.Why != "" {
				why = ": " + ch.Why
			}
			fmt.Fprintf(o, "%-9s %s (%s:%d): %s%s\n", ch.Effect, ch.Path, relative(dir, ch.Position.File), ch.Position.Line, ch.Text, why)
		}
		if len(changes) == 0 {
			fmt.Fprintln(o, "both plans mean the same")
			return
		}
		for _, f := range dangling {
			fmt.Fprintf(o, "refused   %s (%s:%d): %s\n", f.Subject, relative(dir, f.File), f.Line, f.Message)
		}
		fmt.Fprintf(o, "%d weaker, %d stronger, %d changed\n", count[plan.Weaker], count[plan.Stronger], count[plan.Changed])
		if same {
			fmt.Fprintf(o, "both call themselves version %q: give the new one its own\n", after.Plan.Version)
		}
		if d := after.Plan.Effective; !d.IsZero() {
			fmt.Fprintf(o, "the new plan is in force from %s\n", d)
		}
		if needs != "" {
			fmt.Fprintf(o, "weakening needs approval: %s\n", needs)
		}
	})
	if err != nil {
		return err
	}
	if len(dangling) > 0 {
		c.reported = true
		return fmt.Errorf("the new plan deletes what others depend on: %s: %w", dangling[0].Message, holdfast.ErrRefused)
	}
	if needs != "" {
		c.reported = true
		return fmt.Errorf("the new plan is weaker and needs approval by %s: %w", strings.TrimSpace(needs), holdfast.ErrRefused)
	}
	return nil
}
