package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/govern"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// The forms in which findings are printed.
const (
	formText  = "text"
	formJSON  = "json"
	formSARIF = "sarif"
)

func (c *cli) checkCmd() *cobra.Command {
	var (
		live, sarif, planOnly bool
		form, reason          string
	)
	cmd := &cobra.Command{
		Use:   "check [PLAN]",
		Short: "Say which promises of a plan cannot be kept",
		Long: `Read and check a plan: a file or a folder (default: the workspace's). No store and no
location is contacted, and nothing is written. Every finding has a code, a place, a severity
and a way out; --explain says what a code means.

In a workspace with a state, what people approved since ("holdfast exception") counts as
the exceptions of the plan do; a plan as argument, or --plan-only, leaves the state out.

With --live the workspace's stores and locations are asked as well whether they can
be protected and written as the plan says. Nothing is changed there.

--json prints {plan, summary, findings}; each finding has code, severity (error,
warning or note), file, line, column, subject, message and hint. --sarif prints
SARIF 2.1.0, which code review shows beside the lines.

Exit status: 0 no finding of severity error, 2 the plan cannot be read, 3 a
finding of severity error exists.`,
		Example: "  $ holdfast check plan.yaml\n  plan.yaml:41:5: error HF-L2: backups.folder: …\n  $ holdfast check --live                   # also ask the stores and locations\n" +
			"  $ holdfast check plan --sarif > plan.sarif\n  $ holdfast check --explain HF-L2",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch {
			case c.json && (sarif || cmd.Flags().Changed("format") && form != formJSON):
				return &usageError{holdfast.WithHint(errors.New("--json and another form"), "choose one form")}
			case sarif && cmd.Flags().Changed("format") && form != formSARIF:
				return &usageError{holdfast.WithHint(errors.New("--sarif and another form"), "choose one form")}
			case form != formText && form != formJSON && form != formSARIF:
				return &usageError{holdfast.WithHint(fmt.Errorf("%q is no form of findings", form), "write --format text, json or sarif")}
			case sarif:
				form = formSARIF
			}
			c.json = c.json || form == formJSON
			if cmd.Flags().Changed("explain") {
				return c.explainRule(reason)
			}
			if live && len(a) == 1 {
				return &usageError{holdfast.WithHint(errors.New("--live asks what the workspace's own plan names"), "leave the plan out: \"holdfast check --live\"")}
			}
			path, observed, err := c.asked(a, planOnly)
			if err != nil {
				return err
			}
			p, unread := plan.Load(path)
			var fs []holdfast.Finding
			if unread != nil {
				if fs = plan.FindingsOf(unread); len(fs) == 0 {
					return unread
				}
			} else {
				clock, err := c.clock()
				if err != nil {
					return err
				}
				now := clock()
				var approved plan.Waivers
				if observed || c.server != "" {
					approved = c.approved(cmd.Context())
				}
				fs = append(plan.Check(p, now, approved...), plan.Attached(p, now, approved...)...)
				holdfast.SortFindings(fs)
			}
			if unread == nil && live {
				opt, err := c.options(slog.LevelError)
				if err != nil {
					return err
				}
				fs = append(fs, app.Ask(cmd.Context(), p, opt)...)
				if _, err := os.Stat(opt.Workspace.Database()); err == nil || c.state != "" {
					if err := c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
						runs, err := cl.Enforced(ctx)
						fs = append(fs, runs...)
						return err
					}); err != nil {
						return err
					}
				}
				holdfast.SortFindings(fs)
			}
			var end error
			switch {
			case unread != nil:
				end = &usageError{unread}
			case holdfast.AnyErrors(fs):
				end = holdfast.ErrMissed
			}
			if form == formSARIF {
				err = writeSARIF(c.stdout, fs, status(end), here())
			} else {
				out := map[string]any{"plan": path, "summary": summary(fs), "findings": notNil(fs)}
				if unread == nil {
					out["strength"] = strengths(p)
				}
				err = c.print(out, func(o io.Writer) {
					printFindings(o, fs, path)
					if unread == nil {
						printStrength(o, p)
					}
				})
			}
			if err != nil {
				return err
			}
			c.reported = true
			return end
		},
	}
	f := cmd.Flags()
	f.BoolVar(&planOnly, "plan-only", false, "leave the state out: check the plan alone")
	f.BoolVar(&live, "live", false, "also ask the stores and locations")
	f.StringVar(&form, "format", formText, "how findings are printed: text, json or sarif")
	f.BoolVar(&sarif, "sarif", false, "print SARIF 2.1.0 for code review")
	f.StringVar(&reason, "explain", "", "say what a code means, why it matters and what ends it, such as HF-L2")
	return cmd
}

// strengths says what the backups of each store are sealed with, by the plan alone: one
// classic key is enough to lower it.
func strengths(p *plan.Plan) map[string]seal.Strength {
	out := map[string]seal.Strength{}
	for id := range p.Stores {
		if len(p.Repository.EncryptTo) > 0 && p.Stores[id].Protect != "" {
			out[id] = app.StrengthOf(p)
		}
	}
	return out
}

func printStrength(o io.Writer, p *plan.Plan) {
	stores := sortedKeys(strengths(p))
	switch classic := p.ClassicKeys(); {
	case len(stores) == 0:
	case len(classic) == 0:
		fmt.Fprintf(o, "sealed with %s, post-quantum: %s\n", seal.PostQuantum, strings.Join(stores, ", "))
	default:
		fmt.Fprintf(o, "sealed with %s, not post-quantum, since %s is a classic key: %s\n", seal.Classic, classic[0], strings.Join(stores, ", "))
	}
}

// askLimit bounds how long a check waits for the state: a plan is checked also where the
// state is away.
const askLimit = 10 * time.Second

// approved are the exceptions that were approved since. Without an answer none is known, and
// it is said: then a finding that is excepted stands as an error, never the other way round.
func (c *cli) approved(ctx context.Context) plan.Waivers {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var all []govern.Exception
	err := c.withServer(ctx, reading, func(ctx context.Context, cl *api.Client) (err error) {
		all, err = cl.Exceptions(ctx)
		return err
	})
	if err != nil {
		fmt.Fprintf(c.stderr, "holdfast: note: exceptions that were approved since are not known: %v\n", err)
		return nil
	}
	return govern.Approved(all)
}

// planPath is the plan that a command line names, or the workspace's.
func (c *cli) planPath(a []string) (string, error) {
	if len(a) == 1 {
		return a[0], nil
	}
	w, err := app.Find(c.dir)
	if err != nil {
		return "", err
	}
	return w.Plan(), nil
}

func (c *cli) explainRule(code string) error {
	r, ok := plan.RuleOf(code)
	if !ok {
		return &usageError{holdfast.WithHint(fmt.Errorf("%q is no code of \"holdfast check\"", code), "%s", plan.NearestRule(code))}
	}
	return c.print(r, func(o io.Writer) {
		fmt.Fprintf(o, "%s: %s\n\n%s\n\nWay out: %s\n", r.Code, r.Meaning, r.Why, r.Out)
	})
}

// here is the folder that paths are shown relative to, or "".
func here() string {
	wd, err := os.Getwd()
	if err != nil {
		return "" // paths are then shown in full
	}
	return wd
}

// relative shortens a path that lies below dir.
func relative(dir, path string) string {
	if dir == "" {
		return path
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if rel, err := filepath.Rel(dir, path); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return rel
	}
	return path
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// summary counts the findings of each severity.
func summary(fs []holdfast.Finding) map[holdfast.FindingSeverity]int {
	n := map[holdfast.FindingSeverity]int{holdfast.SeverityError: 0, holdfast.SeverityWarning: 0, holdfast.SeverityNote: 0}
	for _, f := range fs {
		n[f.Severity]++
	}
	return n
}

// The colours of severities on a terminal.
var severityColour = map[holdfast.FindingSeverity]string{
	holdfast.SeverityError: "\x1b[1;31m", holdfast.SeverityWarning: "\x1b[1;33m", holdfast.SeverityNote: "\x1b[1;36m",
}

const (
	dim   = "\x1b[2m"
	plain = "\x1b[0m"
)

// colours reports whether o is a terminal whose owner wants colours (no-color.org).
func colours(o io.Writer) bool {
	return isTerminal(o) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// printFindings shows each finding with its line and the word that is meant.
func printFindings(o io.Writer, fs []holdfast.Finding, path string) {
	dir := here()
	paint := func(_, s string) string { return s }
	if colours(o) {
		paint = func(colour, s string) string { return colour + s + plain }
	}
	lines := plan.NewExcerpts(fs)
	for _, f := range fs {
		place := ""
		if f.File != "" {
			place = fmt.Sprintf("%s:%d:%d: ", relative(dir, f.File), f.Line, f.Column)
		}
		fmt.Fprintf(o, "%s%s %s: %s: %s\n", place, paint(severityColour[f.Severity], string(f.Severity)), f.Code, f.Subject, f.Message)
		if e, ok := lines.Of(f); ok {
			number := fmt.Sprintf("%6d | ", f.Line)
			fmt.Fprintf(o, "%s%s\n", paint(dim, number), e.Text)
			fmt.Fprintf(o, "%s%s%s\n", paint(dim, strings.Repeat(" ", len(number)-2)+"| "), strings.Repeat(" ", e.Begin), paint(severityColour[f.Severity], strings.Repeat("^", e.Length)))
		}
		if f.Hint != "" {
			fmt.Fprintf(o, "    %s\n", f.Hint)
		}
	}
	if len(fs) == 0 {
		fmt.Fprintf(o, "%s: nothing found: every promise can be kept as far as the plan itself tells\n", path)
		return
	}
	n := summary(fs)
	fmt.Fprintf(o, "\n%s, %s, %s\n", count(n[holdfast.SeverityError], "error"), count(n[holdfast.SeverityWarning], "warning"), count(n[holdfast.SeverityNote], "note"))
	if _, ok := plan.RuleOf(fs[0].Code); ok {
		fmt.Fprintf(o, "\"holdfast check --explain %s\" says what a code means\n", fs[0].Code)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
