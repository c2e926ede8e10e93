package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/plan/render"
)

func (c *cli) encryptionCmd() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "encryption",
		Short: "Write the encryption configuration document",
		Long: `Write how the backups are encrypted: the cipher, the keys with their fingerprints,
who keeps them and when they last showed that they open, the oldest TLS that is
spoken, and for each location what the plan declares of it, what the place says of
itself when it is asked now, and over which line the newest backup travelled. Each
line names who says so: the format, the plan, the place, both ends of a connection,
or the ledger. A value that a place cannot tell is said to be not known.

The formats are markdown, html (one file) and print. --json prints the lines. An
evidence pack holds the same as the population "encryption".

Exit status: 0 written, 1 error.`,
		Example: "  $ holdfast encryption -o encryption.md\n  $ holdfast encryption --format html -o encryption.html\n  $ holdfast encryption --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := render.ParseFormat(format)
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				e, err := cl.Encryption(ctx)
				if err != nil {
					return err
				}
				text, err := encryptionDocument(e).Write(f)
				if err != nil {
					return err
				}
				if out != "" {
					if err := writeOut(out, text); err != nil {
						return err
					}
				}
				return c.print(e, func(o io.Writer) {
					if out == "" {
						_, _ = o.Write(text) // as every print
						return
					}
					fmt.Fprintf(o, "wrote %s: %d settings\n", out, len(e.Lines))
				})
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "markdown", "markdown, html or print")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	return cmd
}

// encryptionDocument groups the lines by what they are about.
func encryptionDocument(e api.Encryption) render.Document {
	version := "without a version"
	if e.Version != "" {
		version = "version " + e.Version
	}
	var groups []render.Group
	for _, l := range e.Lines {
		if n := len(groups); n == 0 || groups[n-1].ID != l.Subject {
			groups = append(groups, render.Group{ID: l.Subject, Title: strings.ToUpper(l.Subject[:1]) + strings.Replace(l.Subject[1:], ".", ": ", 1), Heads: []string{"Setting", "Value", "Basis", "Since"}})
		}
		g, since := &groups[len(groups)-1], ""
		if !l.Since.IsZero() {
			since = l.Since.UTC().Format(time.DateOnly)
		}
		g.Rows = append(g.Rows, []string{l.What, l.Value, l.Basis, since})
	}
	return render.Facts("Encryption configuration", fmt.Sprintf("Plan %s, %s, %s", e.Plan, version, e.Digest),
		fmt.Sprintf("Made at %s from the plan in force, the records and the answers of the locations.", e.At.UTC().Format(time.RFC3339)), groups)
}
