package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/plan/importer"
)

// importOptions are the flags of the command.
type importOptions struct {
	out, report string
	force       bool
}

func (c *cli) importCmd() *cobra.Command {
	var opt importOptions
	cmd := &cobra.Command{
		Use:   "import POLICY",
		Short: "Propose a plan from a written policy",
		Long: `Read a policy, Markdown, HTML or plain text, and propose a plan: objectives, schedules,
retention, locations, roles with deputies, tests, reviews, clocks, suppliers,
frameworks. It works by rules and offline, and does not understand: each value
names the line that it was read from, and every sentence from which nothing was
read is listed. A person completes what is marked TODO; the proposal loads as it is.

The report says what was read, what the document contradicts itself in, which
sentences no check covers, which numbers could not be read, and which words have
no number.

A document that "holdfast render" wrote carries its plan, and gives it back; what was
changed in its text is carried into the plan, or said with its line.

Exit status: 0 proposed, 1 error, 2 the file is no text, or too large, 3 proposed,
and the document contradicts itself.`,
		Example: "  $ holdfast import policy.md -o plan.yaml --report import.md\n  $ holdfast check plan.yaml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			return c.runImport(a[0], opt, time.Now())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opt.out, "out", "o", "", "file for the proposed plan, which must not exist (default: standard output)")
	f.StringVar(&opt.report, "report", "", "file for what was read and what was not")
	f.BoolVar(&opt.force, "force", false, "replace a file that is there")
	return cmd
}

func (c *cli) runImport(path string, opt importOptions, now time.Time) error {
	text, err := readPolicy(path)
	if err != nil {
		return err
	}
	p, err := importer.Import(filepath.Base(path), text, now)
	if err != nil {
		return err
	}
	for _, out := range []string{opt.out, opt.report} {
		if _, err := os.Lstat(out); out != "" && !opt.force && !errors.Is(err, fs.ErrNotExist) {
			return holdfast.WithHint(fmt.Errorf("%q is there already", out), "name another file, or add --force to replace it")
		}
	}
	if opt.out != "" {
		if err := writeOut(opt.out, p.Plan); err != nil {
			return err
		}
	}
	if opt.report != "" {
		if err := writeOut(opt.report, p.Report()); err != nil {
			return err
		}
	}
	v := struct {
		*importer.Proposal
		Plan string `json:"plan"`
	}{p, string(p.Plan)}
	if err := c.print(v, func(o io.Writer) { printProposal(o, c.stderr, p, opt) }); err != nil {
		return err
	}
	if holdfast.AnyErrors(p.Findings) {
		c.reported = true
		return holdfast.ErrMissed
	}
	return nil
}

// readPolicy reads a policy, and no more of a larger file than shows that it is one.
func readPolicy(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, holdfast.WithHint(fmt.Errorf("there is no policy at %q: %w", path, holdfast.ErrUsage), "name a Markdown or text file")
	}
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, holdfast.WithHint(fmt.Errorf("%q is no file: %w", path, holdfast.ErrUsage), "name a Markdown or text file")
	}
	b, err := io.ReadAll(io.LimitReader(f, importer.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", path, err)
	}
	return b, nil
}

// printProposal writes the plan to standard output unless it has a file, and what was
// read beside it.
func printProposal(o, aside io.Writer, p *importer.Proposal, opt importOptions) {
	to := aside
	if opt.out == "" {
		_, _ = o.Write(p.Plan)
	} else {
		to = o
		fmt.Fprintf(o, "proposed in %s; \"holdfast check %s\" says what cannot be kept\n", opt.out, opt.out)
	}
	if p.Rendered {
		fmt.Fprintf(to, "the document was rendered from a plan, and carries it; %d values were changed in the text and are in the plan now\n", len(p.Carried))
		for _, v := range p.Carried {
			fmt.Fprintf(to, "  line %d: %s is %s, was %s\n", v.Line, v.Path, v.To, v.From)
		}
		for _, f := range p.Findings {
			fmt.Fprintf(to, "%s:%d: %s %s: %s\n    %s\n", f.File, f.Line, f.Severity, f.Code, f.Message, f.Hint)
		}
		return
	}
	fmt.Fprintf(to, "%d of %d sentences gave %d values; %d demand something that no check covers; %d numbers could not be read; %d words have no number; %d places are left to do\n",
		p.Covered, p.Sentences, len(p.Values), p.Demands(), len(p.Unread), len(p.Vague), p.Todos)
	for _, f := range p.Findings {
		fmt.Fprintf(to, "%s:%d: %s %s: %s\n    %s\n", f.File, f.Line, f.Severity, f.Code, f.Message, f.Hint)
	}
	if opt.report == "" {
		fmt.Fprintln(to, "add --report FILE for each of them with its line")
	}
}
