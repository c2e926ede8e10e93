package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/source/files"
)

func (c *cli) exportCmd() *cobra.Command {
	var l look
	var to string
	var paths, match []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "export STORE[@POINT] --to FILE",
		Short: "Write a snapshot as a plain tar archive",
		Long: `Write a snapshot of STORE, or a part of it, as a tar archive that any machine reads
without Holdfast: owners, modes, times to the nanosecond, hard links, devices,
extended attributes, access lists and holes stay. FILE must not be there; "-" is
standard output. Every file is compared with its hash on the way.

    tar --xattrs --xattrs-include='*' --acls -xpf FILE

brings it back. Sockets are left out: tar has no word for them. The use of the read
key is recorded with --purpose.

Exit status: 0 written, 1 error, 2 usage, 4 FILE is there already.`,
		Example: `  $ holdfast export uploads --to uploads.tar --purpose "handed to the court"
  $ holdfast export uploads@2026-11-22T10:00:00Z --path customers/acme --to - --purpose "ticket 12" | zstd > acme.tar.zst
  $ holdfast export uploads --dry-run`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if to == "" && !dry {
				return &usageError{holdfast.WithHint(errors.New("export needs --to FILE"), "name a new file, or \"-\" for standard output")}
			}
			if l.purpose == "" && !dry {
				return &usageError{holdfast.WithHint(errors.New("export needs --purpose TEXT"), "say what the read key is used for: --purpose \"incident 12\", a ticket, or a reason; it is recorded")}
			}
			if dry && l.purpose == "" {
				l.purpose = "see what an export of " + a[0] + " would hold"
			}
			part, err := files.NewPart(paths, match)
			if err != nil {
				return &usageError{err}
			}
			if _, err := os.Lstat(to); err == nil && to != "-" && !dry {
				return holdfast.WithHint(fmt.Errorf("%s is there already: %w", to, holdfast.ErrRefused), "an export never overwrites: name a new file")
			}
			opt, p, r, err := c.point(a[0], l)
			if err != nil {
				return err
			}
			pt, err := app.OpenPoint(cmd.Context(), p, opt, r)
			if err != nil {
				return err
			}
			if dry {
				return c.dryPart(cmd.Context(), "export", pt, part)
			}
			b := newBar(c.stderr, "export "+r.Store)
			done, err := exportTo(cmd.Context(), to, c.stdout, pt, part, b.progress)
			b.end()
			if err != nil {
				return fmt.Errorf("export %s: %w", a[0], err)
			}
			if to == "-" {
				return nil // standard output is the archive
			}
			m := pt.Manifest()
			return c.print(map[string]any{"file": to, "snapshot": m.ID, "location": pt.Location, "exported": done}, func(o io.Writer) {
				fmt.Fprintf(o, "%s written from %q, snapshot %s of %s: %d entries, %s\n", to, pt.Location, m.ID, when(m.Created), done.Entries, size(done.Bytes))
				if len(done.Left) > 0 {
					fmt.Fprintf(o, "left out, since tar has no word for them: %s\n", strings.Join(done.Left, ", "))
				}
			})
		},
	}
	l.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "new file to write, or - for standard output")
	f.StringArrayVar(&paths, "path", nil, "export only this path, with all below it; may be repeated")
	f.StringArrayVar(&match, "match", nil, "export only what this pattern matches; may be repeated")
	f.BoolVar(&dry, "dry-run", false, "say what would be written, and write nothing")
	return cmd
}

// exportTo writes the archive under a temporary name, so that FILE is whole or not
// there. A crash leaves FILE.incomplete.
func exportTo(ctx context.Context, to string, stdout io.Writer, pt *app.Point, part files.Part, progress func(holdfast.Progress)) (files.Exported, error) {
	write := func(w io.Writer) (files.Exported, error) {
		buffered := bufio.NewWriterSize(w, 1<<20)
		done, err := files.Export(ctx, pt.Snapshot, part, buffered, progress)
		return done, errors.Join(err, buffered.Flush())
	}
	if to == "-" {
		return write(stdout)
	}
	temp := to + ".incomplete"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return files.Exported{}, holdfast.WithHint(fmt.Errorf("%s is there: an export that was broken off, or one that is running", temp), "remove it, or name another file")
	}
	if err != nil {
		return files.Exported{}, err
	}
	done, err := write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(temp, to) // never over what came meanwhile
	}
	return done, errors.Join(err, os.Remove(temp))
}

// dryPart says what a part of a point holds.
func (c *cli) dryPart(ctx context.Context, verb string, pt *app.Point, part files.Part) error {
	n, bytes, err := files.Measure(ctx, pt.Snapshot, part)
	if err != nil {
		return err
	}
	m := pt.Manifest()
	return c.print(map[string]any{"snapshot": m.ID, "location": pt.Location, "entries": n, "bytes": bytes}, func(o io.Writer) {
		fmt.Fprintf(o, "would %s %d entries, %s, from %q, snapshot %s of %s\n", verb, n, size(bytes), pt.Location, m.ID, when(m.Created))
	})
}
