package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/plan"
)

func (c *cli) initCmd() *cobra.Command {
	var v plan.Values
	var from string
	var postQuantum bool
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a workspace: keys, a commented plan, and what to do next",
		Long: `Make a workspace in DIR (default: here): the keys of each role in files of
their own, and a commented plan for a small company, which names their public
halves. Nothing outside DIR is touched and nothing runs yet.

With --from the plan is another one, for example one of the examples folder: its
two keys and its repository become your own, --dsn and --uploads replace its
database and folder, and everything else stays as it is written.

The second read key, keys/recovery.age, is for the day on which this machine is
gone: move it away from here.

Exit status: 0 made, 1 error (also when a plan is there already).`,
		Example: `  $ holdfast init acme --dsn "host=db1 user=holdfast dbname=app" --uploads /srv/app/uploads \
        --near /var/backups/holdfast --offsite /mnt/offsite/holdfast
  $ cd acme && holdfast check
  $ holdfast init acme --from examples/two-person-ai.yaml`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			for _, other := range []string{"id", "organisation", "timezone", "password-file", "near", "offsite"} {
				if from != "" && cmd.Flags().Changed(other) {
					return &usageError{holdfast.WithHint(fmt.Errorf("--%s is for the plan that init writes itself", other), "leave it out, and edit the plan afterwards")}
				}
			}
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
			w, err := app.Init(dir, app.InitOptions{Values: v, From: from, PostQuantum: postQuantum})
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
	f.StringVar(&from, "from", "", "a plan to start from instead of that of a small company")
	f.BoolVar(&postQuantum, "post-quantum", false, "make read keys that a quantum computer does not break (ML-KEM-768 and X25519)")
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

func (c *cli) planCmd() *cobra.Command {
	return group("plan", "What plans can say, and what changes between two of them", c.planDiffCmd(), c.planGraphCmd(), c.planItemsCmd(), c.planSchemaCmd())
}

func (c *cli) planSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Write the JSON Schema of plans, for editors",
		Long: `Write the JSON Schema (2020-12) of plan files to standard output. Editors with YAML
support complete, explain and check a plan with it as it is written: name it in the
first line of the plan,

    # yaml-language-server: $schema=./plan.schema.json

The schema knows the form of a plan. What its promises mean together, "holdfast
check" knows.`,
		Example: "  $ holdfast plan schema > plan.schema.json",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := c.stdout.Write(plan.Schema())
			return err
		},
	}
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
