package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/source/foreign"
)

func (c *cli) adapterCmd() *cobra.Command {
	return group("adapter", "Programs that know what somebody else protects", c.adapterTestCmd())
}

func (c *cli) adapterTestCmd() *cobra.Command {
	var store, kind string
	var secrets []string
	var restore bool
	cmd := &cobra.Command{
		Use:   "test [flags] PROGRAM [ARGUMENT...] | --store STORE",
		Short: "Check a foreign adapter against the contract",
		Long: `Call an adapter as docs/format/adapter.md says, and as it must not be called: with a
verb and a protocol that it does not know, a request that was cut off, none at all, and
without its secrets. Say what it does otherwise than the contract, and what follows.

It runs as in production: unprivileged, in a scratch folder, with a clean environment,
bounded time and output, and with the network. Nothing is restored unless --restore is
given; what that costs, the adapter names itself ("effects").

With --store the adapter and its secrets are those of the plan.

Exit status: 0 it keeps the contract, 1 error, 3 it breaks it.`,
		Example: "  $ holdfast adapter test --secret token=keys/cloud-token ./ask-cloud --instance prod\n  $ holdfast adapter test --store orders --restore --json",
		RunE: func(cmd *cobra.Command, a []string) error {
			ad, err := c.adapterNamed(store, kind, secrets, a)
			if err != nil {
				return err
			}
			parent, err := os.MkdirTemp("", "holdfast-adapter-")
			if err == nil {
				err = os.Chmod(parent, 0o755)
			}
			if err != nil {
				return err
			}
			defer os.RemoveAll(parent)
			e, err := foreign.Examiner{Restore: restore, Box: func(ctx context.Context) (foreign.Box, func() error, error) {
				box, err := app.Outside(ctx, parent)
				if err != nil {
					return nil, nil, err
				}
				return box, box.Close, nil
			}}.Examine(cmd.Context(), ad)
			if err != nil {
				return err
			}
			if err := c.print(e, func(o io.Writer) { printExamination(o, e) }); err != nil {
				return err
			}
			return c.missed(!e.Kept())
		},
	}
	f := cmd.Flags()
	f.StringVar(&store, "store", "", "the adapter of this store of the plan")
	f.StringVar(&kind, "kind", "postgres", "kind of store that the adapter is told")
	f.StringArrayVar(&secrets, "secret", nil, "NAME=FILE: what the adapter may know; several times")
	f.BoolVar(&restore, "restore", false, "also restore the newest point, which may cost, and clean up")
	f.SetInterspersed(false) // what follows the program is its own
	return cmd
}

// adapterNamed is the adapter that the command line, or the plan, names.
func (c *cli) adapterNamed(store, kind string, secrets, argv []string) (*foreign.Adapter, error) {
	switch {
	case store != "" && len(argv)+len(secrets) > 0:
		return nil, &usageError{holdfast.WithHint(errors.New("--store names the program already"), "leave the program and --secret out")}
	case store != "":
		_, p, err := c.workspacePlan()
		if err != nil {
			return nil, err
		}
		if _, ok := p.Stores[store]; !ok {
			return nil, &usageError{holdfast.WithHint(fmt.Errorf("store %q is not in the plan", store), "the plan's stores are %s", strings.Join(sortedKeys(p.Stores), ", "))}
		}
		return app.Adapter(p, store, time.Now)
	case len(argv) == 0:
		return nil, &usageError{holdfast.WithHint(errors.New("which program?"), "name it, or give --store")}
	}
	a := &foreign.Adapter{Argv: argv, Store: "test", Kind: kind, Secrets: map[string]string{}, Clock: time.Now}
	if strings.Contains(argv[0], "/") {
		path, err := filepath.Abs(argv[0])
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return nil, holdfast.WithHint(err, "name the program by its path")
		}
		a.Argv[0] = path
	}
	for _, s := range secrets {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			return nil, &usageError{holdfast.WithHint(fmt.Errorf("--secret %s names no file", name), "write --secret NAME=FILE")}
		}
		text, err := app.ReadSecret(path)
		if err != nil {
			return nil, err
		}
		a.Secrets[name] = text
	}
	return a, nil
}

func printExamination(o io.Writer, e *foreign.Examination) {
	fmt.Fprintf(o, "%s against %s\n\n", e.Program, e.Protocol)
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	broken := 0
	for _, t := range e.Trials {
		fmt.Fprintf(w, "%s\t%s\t%s\n", t.Outcome, t.Name, t.Detail)
		if t.So != "" {
			broken++
			fmt.Fprintf(w, "\t\tso %s\n", t.So)
		}
	}
	w.Flush()
	fmt.Fprintln(o)
	if e.About != nil {
		for _, x := range e.About.Effects {
			fmt.Fprintf(o, "a restore: %s\n", x)
		}
	}
	switch broken {
	case 0:
		fmt.Fprintln(o, "it keeps the contract, as far as it was tried")
	case 1:
		fmt.Fprintln(o, "it breaks the contract in one point: what it says is not to be relied on")
	default:
		fmt.Fprintf(o, "it breaks the contract in %d points: what it says is not to be relied on\n", broken)
	}
}
