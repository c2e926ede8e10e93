package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

const simulateHelp = `Say what would happen if something were lost: what survives, what comes back in
which order and when, how much data is lost, which objectives are missed, who is
needed, and what a person must decide. The plan that is shown is the one that a real
recovery would follow. Nothing is changed.

In a workspace with a state, observed copies and measured times count. With PLAN, or
with --plan-only, the plan alone answers: copies are as old as its schedules allow, and
restores take what its runbooks estimate.

What can be lost: host, site, domain, region, provider, account, location, supplier,
facility, person, credential, key, service, store, each with a name as in region:eu-1,
and control-plane. The machine of the stores is host:this-host.

Exit status: 0 every objective would be met, 3 one would be missed, or something would
have no way back. With --all, single losses count.`

// simulating are the options of "simulate".
type simulating struct {
	lose     []string
	scenario string
	at       string
	all      bool
	planOnly bool
	runs     int
	seed     uint64
	top      int
}

func (c *cli) simulateCmd() *cobra.Command {
	var o simulating
	cmd := &cobra.Command{
		Use:   "simulate [PLAN]",
		Short: "What would happen if something were lost",
		Long:  simulateHelp,
		Example: `  $ holdfast simulate --lose host:this-host
  $ holdfast simulate plan.yaml --lose region:eu-1 --lose person:anna
  $ holdfast simulate --all          # every single loss and every pair, worst first`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return c.simulate(cmd.Context(), o, a) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.lose, "lose", nil, "what is lost, as KIND:NAME; may be repeated")
	f.StringVar(&o.scenario, "scenario", "", "a scenario of the plan: what it loses, and the objectives that hold then")
	f.StringVar(&o.at, "at", "", "the instant of the loss (default: now)")
	f.BoolVar(&o.all, "all", false, "every single loss and every pair, worst first")
	f.BoolVar(&o.planOnly, "plan-only", false, "leave the state out: answer from the plan alone")
	f.IntVar(&o.runs, "runs", 1000, "how often chance is played with measured times; 0: never")
	f.Uint64Var(&o.seed, "seed", 1, "of the chance: the same seed gives the same answer")
	f.IntVar(&o.top, "top", 20, "with --all: how many losses are printed; 0: all")
	return cmd
}

func (c *cli) simulate(ctx context.Context, o simulating, a []string) error {
	switch {
	case o.all && (len(o.lose) > 0 || o.scenario != ""):
		return &usageError{holdfast.WithHint(fmt.Errorf("--all looks at every loss"), "leave --lose and --scenario out")}
	case !o.all && len(o.lose) == 0 && o.scenario == "":
		return &usageError{holdfast.WithHint(fmt.Errorf("nothing is lost, so there is nothing to simulate"), "name what is lost, for example --lose host:this-host, or look at everything with --all")}
	case o.runs < 0 || o.runs > objective.MaxRuns || o.top < 0:
		return &usageError{holdfast.WithHint(fmt.Errorf("--runs is from 0 to %d, and --top not negative", objective.MaxRuns), "\"holdfast simulate --help\" shows what it takes")}
	}
	path, observed, err := c.asked(a, o.planOnly)
	if err != nil {
		return err
	}
	if observed {
		return c.withServer(ctx, reading, func(ctx context.Context, cl *api.Client) error {
			at, err := instantOf(o.at, time.UTC)
			if err != nil {
				return err
			}
			if o.all {
				e, err := cl.Enumerate(ctx, at)
				if err != nil {
					return err
				}
				return c.enumerated(e, o.top)
			}
			s, err := cl.Simulate(ctx, api.Simulation{Lose: o.lose, Scenario: o.scenario, At: at, Runs: o.runs, Seed: o.seed})
			if err != nil {
				return err
			}
			return c.simulated(s)
		})
	}
	p, err := plan.Load(path)
	if err != nil {
		return err
	}
	at, err := instantOf(o.at, p.Location())
	if err != nil {
		return err
	}
	f := objective.Facts{Now: time.Now()}
	if !at.IsZero() {
		f.Now = at
	}
	if o.all {
		e, err := objective.Enumerate(p, f, false)
		if err != nil {
			return err
		}
		return c.enumerated(e, o.top)
	}
	q, err := objective.QuestionOf(p, o.lose, o.scenario)
	if err != nil {
		return err
	}
	q.Runs, q.Seed = o.runs, o.seed
	s, err := objective.Simulate(p, f, q)
	if err != nil {
		return err
	}
	return c.simulated(s)
}

// asked says which plan a question is about, and whether there is a state that knows more.
func (c *cli) asked(a []string, planOnly bool) (path string, observed bool, err error) {
	if len(a) == 1 {
		return a[0], false, nil
	}
	w, err := app.Find(c.dir)
	if err != nil {
		return "", false, err
	}
	return w.Plan(), !planOnly && (c.state != "" || begun(w)), nil
}

// begun reports whether a workspace has a state.
func begun(w app.Workspace) bool {
	_, err := os.Stat(w.Database())
	return err == nil
}

// instantOf reads an instant of the command line; "" is none.
func instantOf(s string, loc *time.Location) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := holdfast.ParseTime(s, loc)
	if err != nil {
		return t, &usageError{err}
	}
	return t, nil
}

func (c *cli) simulated(s objective.Simulation) error {
	if err := c.print(s, func(o io.Writer) { printSimulation(o, s) }); err != nil {
		return err
	}
	return c.missed(s.Missed)
}

func (c *cli) enumerated(e objective.Enumeration, top int) error {
	if err := c.print(e, func(o io.Writer) { printEnumeration(o, e, top) }); err != nil {
		return err
	}
	return c.missed(e.Missed)
}

// missed ends a command whose result says itself that an objective was missed.
func (c *cli) missed(missed bool) error {
	if !missed {
		return nil
	}
	c.reported = true
	return holdfast.ErrMissed
}

// barWidth is how many columns the time line has.
const barWidth = 40

func printSimulation(o io.Writer, s objective.Simulation) {
	fold(o, "", s.Sentence)
	if s.Scenario != "" {
		fmt.Fprintf(o, "The objectives are those of scenario %q.\n", s.Scenario)
	}
	fmt.Fprintln(o)
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tBACK AFTER\tRTO\tVERDICT\tLOSES\tRPO\tVERDICT")
	for _, v := range s.Services {
		fateRow(w, v)
	}
	w.Flush()
	for _, v := range s.Services {
		for _, st := range v.Stages {
			fmt.Fprintf(o, "  %s, stage %s\n", v.ID, st.Text())
		}
		if v.Harmed {
			fold(o, "    ", fmt.Sprintf("  %s is away for longer than its maximum tolerable downtime, %s: the company is harmed for good", v.ID, v.MTD))
		}
		if v.Cost > 0 {
			fmt.Fprintf(o, "  %s: impact %d, cost about %d\n", v.ID, v.Harm, v.Cost)
		}
	}
	fmt.Fprintln(o)
	w = tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tBACK AFTER\tRTO\tVERDICT\tLOSES\tRPO\tVERDICT\tCOPIES LEFT")
	for _, v := range s.Stores {
		var copies []string
		for _, x := range v.Copies {
			copies = append(copies, fmt.Sprintf("%s (%s old)", x.Location, x.Age))
		}
		if v.Bare != "" {
			copies = []string{"no way back: " + v.Bare}
		}
		if v.Unprotected {
			copies = []string{"none, lost or not"}
		} else if len(copies) == 0 {
			copies = []string{"none"}
		}
		fate(w, v.Fate)
		fmt.Fprintf(w, "\t%s\n", strings.Join(copies, ", "))
	}
	w.Flush()
	printTimeline(o, s)
	if len(s.People) > 0 {
		fmt.Fprintln(o, "\nWho is needed:")
	}
	for _, h := range s.People {
		fold(o, "    ", fmt.Sprintf("  - %s for %s: %s", h.Person, h.Busy, strings.Join(h.Steps, ", ")))
	}
	if len(s.Choices) > 0 {
		fmt.Fprintln(o, "\nA person decides:")
		for _, x := range s.Choices {
			text := "  - " + x.What
			if x.Chosen != "" {
				text += fmt.Sprintf(" (this plan takes %q)", x.Chosen)
			}
			fold(o, "    ", text)
		}
	}
	printChance(o, s)
	fmt.Fprintln(o, "\nThis rests on:")
	for _, a := range s.Assumptions {
		fold(o, "    ", "  - "+a)
	}
	for _, f := range s.Fallen {
		fold(o, "    ", fmt.Sprintf("  - %s: %s", strings.TrimSpace(f.Kind+" "+f.ID), f.Why))
	}
}

func fateRow(w io.Writer, v objective.Fate) {
	fate(w, v)
	fmt.Fprintln(w)
}

func fate(w io.Writer, v objective.Fate) {
	loses := "nothing"
	if v.State != objective.FateRuns && (v.Loss.State != objective.LossBounded || v.Loss.Location != "") {
		loses = v.Loss.Text()
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s", v.ID, v.Text(), short(v.RTO), verdict(v.InTime), loses, short(v.RPO), verdict(v.Loss.Verdict))
}

func short(p objective.Promise) string {
	if p.Limit == 0 {
		return "-"
	}
	if p.Target > 0 && p.Target != p.Limit {
		return p.Target.String() + " to " + p.Limit.String()
	}
	return p.Limit.String()
}

func verdict(v objective.Verdict) string {
	switch v {
	case objective.NoVerdict:
		return "-"
	case objective.Over:
		return "MISSED"
	}
	return string(v)
}

// printTimeline draws one line for each step: '#' where people work, '=' elsewhere; a star
// marks what decides how long it takes.
func printTimeline(o io.Writer, s objective.Simulation) {
	if len(s.Timeline) == 0 {
		return
	}
	critical := map[string]bool{}
	for _, id := range s.Critical {
		critical[id] = true
	}
	width := 0
	for _, b := range s.Timeline {
		width = max(width, len(b.ID))
	}
	fmt.Fprintf(o, "\n%-*s   0s%*s\n", width, "TIME LINE", barWidth-1, s.Total)
	for _, b := range s.Timeline {
		mark := " "
		if critical[b.ID] {
			mark = "*"
		}
		if b.Blocked != "" {
			fmt.Fprintf(o, "%-*s %s |%-*s| never: %s\n", width, b.ID, mark, barWidth, "", b.Blocked)
			continue
		}
		from, to := column(b.Begin, s.Total), column(b.End, s.Total)
		if to == from && from < barWidth {
			to++
		}
		if from == barWidth {
			from--
		}
		fill := "="
		if len(b.By) > 0 || b.Kind == "human" || b.Kind == "decide" {
			fill = "#"
		}
		line := strings.Repeat(" ", from) + strings.Repeat(fill, to-from)
		who := ""
		if len(b.By) > 0 {
			who = ", " + strings.Join(b.By, " and ")
		}
		basis := ""
		if b.NoTime {
			basis = ", no number: longer than this"
		} else if b.Basis != "" && b.Basis != holdfast.Measured && b.End > b.Begin {
			basis = ", " + string(b.Basis)
		}
		fmt.Fprintf(o, "%-*s %s |%-*s| %s to %s%s%s\n", width, b.ID, mark, barWidth, line, b.Begin, b.End, who, basis)
	}
}

// column is where an instant stands in the time line.
func column(t, total objective.Seconds) int {
	if total <= 0 {
		return 0
	}
	return min(barWidth, max(0, int(float64(t)/float64(total)*barWidth+0.5)))
}

func printChance(o io.Writer, s objective.Simulation) {
	c := s.Chance
	if c == nil {
		return
	}
	fmt.Fprintln(o)
	fold(o, "    ", "Chance: "+c.Why)
	if c.Samples == 0 {
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	row := func(x objective.Spread, name string) {
		if x.P50 == nil {
			fmt.Fprintf(w, "  %s\tlongest %s\n", name, x.Longest)
			return
		}
		within := ""
		if x.Within != nil {
			within = fmt.Sprintf("within the RTO in %.1f %%", *x.Within*100)
		}
		fmt.Fprintf(w, "  %s\tp50 %s\tp90 %s\tp95 %s\tlongest %s\t%s\n", name, *x.P50, *x.P90, *x.P95, x.Longest, within)
	}
	for _, x := range c.Services {
		row(x, x.ID)
	}
	row(c.Total, "all")
	w.Flush()
}

func printEnumeration(o io.Writer, e objective.Enumeration, top int) {
	fold(o, "", e.Sentence)
	fmt.Fprintf(o, "%d single losses and %d pairs, worst first; a pair is shown if it is worse than each half.\n\n", e.Singles, e.Pairs)
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LOST\tSTOPS\tBACK AFTER\tMISSES\tFOR GOOD")
	shown, left := 0, 0
	for _, x := range e.Cases {
		if len(x.Lost) > 1 && !x.Adds {
			continue
		}
		if top > 0 && shown == top {
			left++
			continue
		}
		shown++
		never := few(append(append([]string{}, x.Never...), x.Bare...))
		back := objective.Prediction{State: x.State, Total: x.Total}.Text()
		if x.Total == 0 {
			back = "-"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", strings.Join(x.Lost, " + "), x.Stopped, back, few(x.Missed), never)
	}
	w.Flush()
	if left > 0 {
		fmt.Fprintf(o, "and %d more: --top 0 shows all\n", left)
	}
	for _, c := range e.Circles {
		fmt.Fprintln(o)
		fold(o, "    ", fmt.Sprintf("Recovery circle: %s need each other; none of them can be recovered first", strings.Join(c, " and ")))
	}
	fmt.Fprintln(o, "\nSingle points of failure:")
	if len(e.Points) == 0 {
		fmt.Fprintln(o, "  none found")
	}
	for _, x := range e.Points {
		var what []string
		if len(x.Stops) > 0 {
			what = append(what, "stops "+few(x.Stops))
		}
		if len(x.Never) > 0 {
			what = append(what, "leaves no way back for "+few(x.Never))
		}
		text := "  - " + x.Lost + " " + strings.Join(what, " and ")
		if x.Closed {
			text += "; borne: " + x.Rationale
		}
		fold(o, "    ", text)
	}
	for _, a := range e.Assumptions {
		fmt.Fprintln(o)
		fold(o, "    ", "This rests on: "+a)
	}
}

// few names the first of some ids.
func few(ids []string) string {
	const most = 4
	switch {
	case len(ids) == 0:
		return "-"
	case len(ids) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
	}
	return strings.Join(ids, ", ")
}
