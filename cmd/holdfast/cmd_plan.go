package main

import (
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
	"holdfast/internal/app"
	"holdfast/internal/plan"
)

func (c *cli) initCmd() *cobra.Command {
	var v plan.Values
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a workspace: keys, a commented plan, and what to do next",
		Long: `Make a workspace in DIR (default: here): the keys of each role in files of
their own, and a commented plan for a small company, which names their public
halves. Nothing outside DIR is touched and nothing runs yet.

The second read key, keys/recovery.age, is for the day on which this machine is
gone: move it away from here.

Exit status: 0 made, 1 error (also when a plan is there already).`,
		Example: `  $ holdfast init acme --dsn "host=db1 user=holdfast dbname=app" --uploads /srv/app/uploads \
        --near /var/backups/holdfast --offsite /mnt/offsite/holdfast
  $ cd acme && holdfast check`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			dir := "."
			if len(a) == 1 {
				dir = a[0]
			}
			if v.ID == "" {
				abs, err := filepath.Abs(dir)
				if err != nil {
					return err
				}
				v.ID = planID(filepath.Base(abs))
			}
			w, err := app.Init(dir, app.InitOptions{Values: v})
			if err != nil {
				return err
			}
			return c.print(map[string]string{"dir": w.Dir, "plan": w.Plan(), "recovery_key": w.Key(app.KeyRecovery)}, func(o io.Writer) {
				fmt.Fprintf(o, `workspace made in %s

Next:
  1. read and edit %s
  2. move %s away from this machine
  3. holdfast --dir %s check                 # what the plan promises and cannot keep
  4. holdfast --dir %s location init --all   # make the repositories
  5. holdfast --dir %s serve                 # protect from now on; page at http://127.0.0.1:7878
  6. holdfast --dir %s drill db              # prove it
`, w.Dir, w.Plan(), w.Key(app.KeyRecovery), dir, dir, dir, dir)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.ID, "id", "", "short name of the plan (default: the folder's name)")
	f.StringVar(&v.Organisation, "organisation", "", "name of the company")
	f.StringVar(&v.Timezone, "timezone", "", "IANA time zone of the plan, e.g. Europe/Stockholm")
	f.StringVar(&v.DSN, "dsn", "", "PostgreSQL connection string of a user with REPLICATION, without a password")
	f.StringVar(&v.PasswordFile, "password-file", "", "file that holds the password alone")
	f.StringVar(&v.Uploads, "uploads", "", "folder to protect")
	f.StringVar(&v.Near, "near", "", "folder of the near location")
	f.StringVar(&v.Offsite, "offsite", "", "folder of the other location, on a disk that does not fail together with this machine")
	return cmd
}

// planID makes an id of a folder's name.
func planID(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	if s = strings.Trim(s, "-"); s == "" || s[0] < 'a' {
		return "plan" + s
	}
	return s
}

func (c *cli) checkCmd() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "check [PLAN]",
		Short: "Say which promises of a plan cannot be kept",
		Long: `Read and check a plan: a file or a folder (default: the workspace's). Nothing is
contacted and nothing is written. Every finding has a code, a place, a severity
and a way out.

With --live the workspace's stores and locations are asked as well whether they can
be protected and written as the plan says. Nothing is changed there.

Exit status: 0 no finding of severity error, 2 the plan cannot be read, 3 a
finding of severity error exists.`,
		Example: "  $ holdfast check plan.yaml\n  plan.yaml:41:5: error HF-L2: backups.folder: …\n  $ holdfast check --live       # also ask the stores and locations",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var path string
			if live && len(a) == 1 {
				return &usageError{holdfast.WithHint(errors.New("--live asks what the workspace's own plan names"), "leave the plan out: \"holdfast check --live\"")}
			}
			if len(a) == 1 {
				path = a[0]
			} else {
				w, err := app.Find(c.dir)
				if err != nil {
					return err
				}
				path = w.Plan()
			}
			p, err := plan.Load(path)
			var fs []holdfast.Finding
			if err != nil {
				if fs = plan.FindingsOf(err); len(fs) == 0 {
					return err
				}
			} else {
				fs = plan.Check(p, time.Now())
			}
			if err == nil && live {
				opt, err := c.options(slog.LevelError)
				if err != nil {
					return err
				}
				fs = append(fs, app.Ask(cmd.Context(), p, opt)...)
				holdfast.SortFindings(fs)
			}
			perr := c.print(map[string]any{"plan": path, "findings": notNil(fs)}, func(o io.Writer) { printFindings(o, fs, path) })
			switch {
			case perr != nil:
				return perr
			case err != nil:
				c.reported = true
				return &usageError{err}
			case holdfast.AnyErrors(fs):
				c.reported = true
				return holdfast.ErrMissed
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "also ask the stores and locations")
	return cmd
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func printFindings(o io.Writer, fs []holdfast.Finding, path string) {
	n := map[holdfast.FindingSeverity]int{}
	for _, f := range fs {
		n[f.Severity]++
		place := ""
		if f.File != "" {
			place = f.File
			if wd, err := os.Getwd(); err == nil {
				if rel, err := filepath.Rel(wd, f.File); err == nil && !strings.HasPrefix(rel, "..") {
					place = rel
				}
			}
			place = fmt.Sprintf("%s:%d:%d: ", place, f.Line, f.Column)
		}
		fmt.Fprintf(o, "%s%s %s: %s: %s\n", place, f.Severity, f.Code, f.Subject, f.Message)
		if f.Hint != "" {
			fmt.Fprintf(o, "    %s\n", f.Hint)
		}
	}
	if len(fs) == 0 {
		fmt.Fprintf(o, "%s: nothing found: every promise can be kept as far as the plan itself tells\n", path)
		return
	}
	fmt.Fprintf(o, "%d errors, %d warnings, %d notes\n", n[holdfast.SeverityError], n[holdfast.SeverityWarning], n[holdfast.SeverityNote])
}
