// Command holdfast keeps a company recoverable and proves it.
//
// Every command takes --json, writes results to standard output and progress to
// standard error, and ends with the same exit statuses: 0 done and within
// objectives, 1 error, 2 usage, 3 done but an objective was missed or a finding
// of severity error exists, 4 refused by policy or waiting for approval.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/source/postgres"
)

// restoreCommand is how PostgreSQL calls us during a replay, and archiveCommand how it
// hands us a log file.
const (
	restoreCommand = "restore-command"
	archiveCommand = "archive-command"
)

func main() {
	// PostgreSQL calls us for every piece of log during a replay; that path
	// must not depend on anything but its arguments.
	if len(os.Args) > 1 && os.Args[1] == restoreCommand {
		os.Exit(postgres.RestoreCommandMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == archiveCommand {
		os.Exit(postgres.ArchiveCommandMain(os.Args[2:]))
	}
	collectLate()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run carries one command line out and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli{stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return holdfast.ExitDone
	}
	if !c.began {
		// Whatever keeps a command from beginning is in its line.
		hint := holdfast.Hint(err)
		if hint == "" {
			hint = fmt.Sprintf("%q shows what it takes", cmd.CommandPath()+" --help")
		}
		err = &usageError{holdfast.WithHint(err, "%s", hint)}
	}
	// What the result says itself is no failure of the command, and is not said
	// twice.
	if !c.reported {
		c.complain(err)
	}
	return status(err)
}

// status is the exit status of an error.
func status(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return holdfast.ExitUsage
	}
	return holdfast.ExitStatus(err)
}

// beginnings makes every command note that its line was understood.
func (c *cli) beginnings(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, a []string) error {
			c.began = true
			return run(cmd, a)
		}
	}
	for _, sub := range cmd.Commands() {
		c.beginnings(sub)
	}
}

// A cli is one invocation.
type cli struct {
	stdout, stderr io.Writer
	dir            string
	state          string
	server         string // elsewhere, for commands that ask a server
	json           bool
	alone          bool // no server runs
	began          bool // the command line was understood
	reported       bool // the result says itself what was missed
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Keep a company recoverable, and prove it",
		Long: `Holdfast takes a continuity policy as one plan file and makes it measured
reality: it protects data, proves by real restores that it comes back, recovers
in dependency order, answers incidents and keeps evidence of all of it.

Exit status: 0 done and within objectives · 1 error · 2 usage · 3 done, but an
objective was missed or a finding of severity error exists · 4 refused by policy
or waiting for approval.`,
		Example:           "  $ holdfast demo          # the whole story on this machine\n  $ holdfast init          # a workspace of your own\n  $ holdfast check         # what the plan promises and cannot keep",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           holdfast.Version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(cmd *cobra.Command, _ []string) { collectFor(cmd) },
	}
	root.PersistentFlags().StringVar(&c.dir, "dir", "", "workspace folder (default: the nearest parent with a plan.yaml, or $HOLDFAST_DIR)")
	root.PersistentFlags().StringVar(&c.state, "state", os.Getenv("HOLDFAST_STATE"), "where the state is kept: a PostgreSQL connection string (default: a file in the workspace)")
	root.PersistentFlags().StringVar(&c.server, "server", os.Getenv("HOLDFAST_SERVER"), "ask the server at this https address, with the token in HOLDFAST_TOKEN")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print one JSON object instead of text")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{holdfast.WithHint(err, "%q shows what it takes", cmd.CommandPath()+" --help")}
	})
	root.AddCommand(c.initCmd(), c.checkCmd(), c.planCmd(), c.renderCmd(), c.importCmd(), c.peopleCmd(), c.serveCmd(), c.demoCmd(), c.statusCmd(), c.backupCmd(), c.pointsCmd(), c.timelineCmd(), c.undoCmd(), c.restoreCmd(), c.lsCmd(), c.findCmd(), c.drillCmd(),
		c.incidentCmd(), c.recoverCmd(), c.evidenceCmd(), c.keyCmd(), c.encryptionCmd(), c.locationCmd())
	root.AddCommand(c.simulateCmd(), c.explainCmd(), c.objectivesCmd(), c.controlsCmd(), c.gatewayCmd(), c.agentCmd(), c.adapterCmd())
	root.AddCommand(c.verifyCmd(), c.pruneCmd(), c.repairCmd(), c.approveCmd())
	root.AddCommand(c.jobCmd(), c.outputsCmd(), c.trendCmd(), c.reviewCmd(), c.metricCmd(), c.riskCmd(), c.exceptionCmd(), c.storeCmd())
	root.AddCommand(c.accessCmd(), c.offlineCmd(), c.kitCmd(), c.oncallCmd(), c.messageCmd(), c.watchCmd())
	root.AddCommand(c.exportCmd(), c.mountCmd()) // reading, beside restore
	c.beginnings(root)
	return root
}

// args makes the number of arguments a usage error with a hint.
func args(want cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := want(cmd, a); err != nil {
			return &usageError{holdfast.WithHint(err, "%q shows what it takes", cmd.CommandPath()+" --help")}
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return &usageError{holdfast.WithHint(fmt.Errorf("%q needs a verb", cmd.CommandPath()), "%q lists them", cmd.CommandPath()+" --help")}
	}}
	g.AddCommand(cmds...)
	return g
}

// complain writes one error for people: the chain, then what to do.
func (c *cli) complain(err error) {
	msg := holdfast.Sentence(err)
	if c.json {
		// Scripts that asked for JSON get the error as JSON too, on standard error.
		b, jerr := json.Marshal(map[string]any{"error": msg, "hint": holdfast.Hint(err), "exit": status(err)})
		if jerr == nil {
			fmt.Fprintln(c.stderr, string(b))
			return
		}
	}
	fmt.Fprintf(c.stderr, "holdfast: error: %s\n", msg)
	if h := holdfast.Hint(err); h != "" {
		fmt.Fprintf(c.stderr, "holdfast: hint: %s\n", h)
	}
}

// print writes a result: v as JSON, or text as text writes it.
func (c *cli) print(v any, text func(w io.Writer)) error {
	if !c.json {
		text(c.stdout)
		return nil
	}
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
