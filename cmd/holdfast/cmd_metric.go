package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/govern"
	"holdfast/internal/plan"
)

func (c *cli) metricCmd() *cobra.Command {
	return group("metric", "The numbers that the plan wants reported: values, periods, who gets them", c.metricListCmd(), c.metricShowCmd())
}

func (c *cli) metricListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Each metric: its newest value, and the value so far",
		Long: `List the metrics of the plan: the value of the newest period that is over, with how much
it rests on, and the value of the open period so far. A period ends with the calendar:
"1mo" at the end of a month in the plan's time zone. The first one begins when the plan
with the metric comes into force.

A value is recorded once and never changed. It is for who is named under "to"; nothing
is sent to them yet.

Exit status: 0 each value that is due is there and meets its target, 1 error, 3 one is
late or unknown, or misses its target.`,
		Example: "  $ holdfast metric list\n  $ holdfast metric list --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ms, err := cl.Metrics(ctx, "")
				if err != nil {
					return err
				}
				if err := c.print(ms, func(o io.Writer) { printMetrics(o, ms) }); err != nil {
					return err
				}
				return c.missed(anyMissed(ms))
			})
		},
	}
}

// anyMissed reports whether the newest value of a metric that is due is not as it should be.
func anyMissed(ms []govern.Metric) bool {
	newest := map[string]govern.Metric{}
	for _, x := range ms {
		if x.State != govern.MetricOpen {
			newest[x.Name] = x
		}
	}
	for _, x := range newest {
		if x.State != govern.MetricRecorded || x.Met != nil && !*x.Met {
			return true
		}
	}
	return false
}

func printMetrics(o io.Writer, ms []govern.Metric) {
	if len(ms) == 0 {
		fmt.Fprintln(o, "the plan asks for no metric")
		return
	}
	last, open := map[string]govern.Metric{}, map[string]govern.Metric{}
	names := map[string]bool{}
	for _, x := range ms { // oldest first
		names[x.Name] = true
		if x.State == govern.MetricOpen {
			open[x.Name] = x
		} else {
			last[x.Name] = x
		}
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "METRIC\tEVERY\tLAST\tTO\tTARGET\tSO FAR\tENDS\tOWNER\tFOR")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		l, p := last[name], open[name]
		about := p
		if p.Name == "" {
			about = l
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, about.Every, metricValue(l), day(l.Until), orDash(about.Target), metricValue(p), day(p.Until), orDash(about.Owner), orDash(strings.Join(about.Recipients, ", ")))
	}
	w.Flush()
}

// metricValue is a value as people read it: "98.5 (n 60)", or why there is none.
func metricValue(x govern.Metric) string {
	switch {
	case x.Name == "":
		return "-"
	case x.State == govern.MetricLate:
		return "late"
	case x.Value == nil:
		return "unknown"
	}
	text := fmt.Sprintf("%s (n %s)", strconv.FormatFloat(math.Round(*x.Value*100)/100, 'f', -1, 64), strconv.FormatFloat(x.N, 'f', -1, 64))
	if x.Met != nil && !*x.Met {
		text += ", target missed"
	}
	return text
}

func (c *cli) metricShowCmd() *cobra.Command {
	var help strings.Builder
	for _, name := range slices.Sorted(maps.Keys(plan.Formulas)) {
		fmt.Fprintf(&help, "  %s\n      %s\n", name, plan.Formulas[name])
	}
	return &cobra.Command{
		Use:   "show METRIC",
		Short: "One metric: each period with its value and what it was computed from",
		Long: `Show every value of one metric, the newest last: the period, the formula, the counts that
it read, who is to get it. The last line is of the open period, so far.

A formula is an expression over counts, or one of these names:

` + help.String() + `
docs/ops/metrics.md lists the counts.

Exit status: 0 the newest value is as it should be, 1 error, 2 there is no such metric,
3 it is late or unknown, or misses its target.`,
		Example: "  $ holdfast metric show backup-success",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ms, err := cl.Metrics(ctx, a[0])
				if err != nil {
					return err
				}
				if err := c.print(ms, func(o io.Writer) { printMetric(o, ms) }); err != nil {
					return err
				}
				return c.missed(anyMissed(ms))
			})
		},
	}
}

func printMetric(o io.Writer, ms []govern.Metric) {
	for i, x := range ms {
		if i == 0 {
			newest := ms[len(ms)-1]
			fmt.Fprintf(o, "%s: %s, %s\nowner: %s; for: %s (recorded for them; nothing is sent)\ntarget: %s\n", x.Name, newest.Formula, newest.Every, orDash(newest.Owner), orDash(strings.Join(newest.Recipients, ", ")), orDash(newest.Target))
			if newest.Expression != newest.Formula && newest.Expression != "" {
				fmt.Fprintf(o, "computed as: %s\n", newest.Expression)
			}
		}
		fmt.Fprintf(o, "%s to %s: %s, %s\n", day(x.From), day(x.Until), metricValue(x), x.State)
		for _, name := range slices.Sorted(maps.Keys(x.Counts)) {
			fmt.Fprintf(o, "  %s %s\n", strconv.FormatFloat(x.Counts[name], 'f', -1, 64), name)
		}
		if x.Why != "" {
			fmt.Fprintf(o, "  %s\n", x.Why)
		}
		if !x.Waits.IsZero() {
			fmt.Fprintf(o, "  waits until %s for what can still be met\n", when(x.Waits))
		}
	}
}
