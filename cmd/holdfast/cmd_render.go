package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
)

// renderOptions are the flags of the command, parsed.
type renderOptions struct {
	format  render.Format
	edition render.Edition
	style   render.Style
	sheet   string
	out     string
	bare    bool
}

func (c *cli) renderCmd() *cobra.Command {
	var format, edition, style string
	var opt renderOptions
	cmd := &cobra.Command{
		Use:   "render [PLAN]",
		Short: "Write the plan as the policy document that people read",
		Long: `Write the whole policy from a plan (default: the workspace's): purpose, scope,
roles, objectives, backup schedule and configuration, retention, encryption,
locations, restore tests, recovery, activation, reviews, controls. Nothing is
contacted, no clock is read: the same plan gives the same bytes. Every section
names the version and digest of the plan.

The formats are markdown, html (one file that needs nothing else) and print (the
same for paper). The styles change order and titles, never what is said: general,
iso (A), soc2 (B), msp (C), industrial (D), startup (E).

The public edition leaves out people, contacts, addresses, paths and technical
access. Read it before you publish it: a name that stands only in a sentence and
nowhere else in the plan cannot be recognised.

The internal edition in Markdown ends with the plan itself, so that "holdfast import"
has the plan again, equal, and carries into it what people changed in the text.
--bare leaves it out.

With --sheet ROLE it writes one page for who holds that role.

Exit status: 0 written, 1 error, 2 the plan cannot be read, or there is no such
role, format, edition or style.`,
		Example: "  $ holdfast render -o policy.md\n  $ holdfast render plan.yaml --format html --edition public -o policy.html\n  $ holdfast render --sheet incident_commander --format print -o sheet.html",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			var errs [3]error
			opt.format, errs[0] = render.ParseFormat(format)
			opt.edition, errs[1] = render.ParseEdition(edition)
			opt.style, errs[2] = render.ParseStyle(style)
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
			if opt.sheet != "" && opt.edition == render.Public {
				return &usageError{holdfast.WithHint(errors.New("a sheet names people, and has no public edition"), "leave out --edition public or --sheet")}
			}
			path, err := c.planPath(a)
			if err != nil {
				return err
			}
			return c.runRender(path, opt)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "markdown", "markdown, html or print")
	f.StringVar(&edition, "edition", "internal", "internal or public")
	f.StringVar(&style, "style", "general", "general, iso, soc2, msp, industrial or startup; or A to E")
	f.BoolVar(&opt.bare, "bare", false, "leave the plan itself out of the internal edition in Markdown")
	f.StringVar(&opt.sheet, "sheet", "", "write the one-page sheet of this role instead")
	f.StringVarP(&opt.out, "out", "o", "", "file to write (default: standard output)")
	return cmd
}

func (c *cli) runRender(path string, opt renderOptions) error {
	p, err := plan.Load(path)
	if err != nil {
		return err
	}
	var text []byte
	var title string
	bound := false
	sections := []string{}
	if opt.sheet != "" {
		s, err := render.MakeSheet(p, opt.sheet)
		if err != nil {
			return err
		}
		for _, x := range s.Sections {
			sections = append(sections, x.ID)
		}
		if text, err = s.Write(opt.format); err != nil {
			return err
		}
		title = s.Title
	} else {
		d := render.Make(p, render.Options{Edition: opt.edition, Style: opt.style})
		for _, x := range d.Sections {
			sections = append(sections, x.ID)
		}
		if text, err = d.Write(opt.format); err != nil {
			return err
		}
		title = d.Title
		if bound = opt.format == render.FormatMarkdown && opt.edition == render.Internal && !opt.bare; bound {
			text = []byte(render.Bind(string(text), p.Source()))
		}
	}
	if opt.out != "" {
		if err := writeOut(opt.out, text); err != nil {
			return err
		}
	}
	v := map[string]any{"plan": path, "digest": p.Digest(), "format": opt.format, "edition": opt.edition, "style": opt.style, "title": title, "sections": sections, "bytes": len(text), "plan_inside": bound}
	if opt.out != "" {
		v["out"] = opt.out
	} else {
		v["text"] = string(text)
	}
	return c.print(v, func(o io.Writer) {
		if opt.out == "" {
			_, _ = o.Write(text)
			return
		}
		fmt.Fprintf(o, "written to %s: %d bytes, %d sections, from %s\n", opt.out, len(text), len(sections), p.Digest())
	})
}

// writeOut writes a file at once or not at all: whoever reads it during a power cut
// finds the old text or the new one.
func writeOut(path string, text []byte) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return holdfast.WithHint(fmt.Errorf("%q is a folder", path), "name a file: %s", filepath.Join(path, "policy.md"))
	}
	return durable.WriteFile(durable.OS, path, text, 0o644)
}
