package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
)

func (c *cli) peopleCmd() *cobra.Command {
	return group("people", "Take people out of the file of names beside the plan", c.peopleEraseCmd())
}

func (c *cli) peopleEraseCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "erase PERSON",
		Short: "Take a person's name, address and number out of " + plan.PeopleFile,
		Long: `Names, addresses and numbers of people may lie in ` + plan.PeopleFile + ` beside the
plan. Neither the ledger nor an evidence pack ever holds what is in that file. This
takes what it says of a person out of it. Without --yes nothing is written, and it
says what would be taken out.

The id stays in the plan, in facts and in signatures, as a name for nobody: ledger
and evidence packs verify as before. What the text of the plan itself says of a
person cannot be erased, since the ledger keeps each text that was in force; it is
refused until the plan no longer says it.

A running server takes the file within seconds. Older copies of the file, where you
made some, are yours to find.

Exit status: 0 erased, or shown, 1 error, 2 the file says nothing of that person,
4 refused: there is no such file, or the plan itself says it.`,
		Example: "  $ holdfast people erase bo\n  $ holdfast people erase bo --yes",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			path, err := c.planPath(nil)
			if err != nil {
				return err
			}
			return c.runErase(path, a[0], yes)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// runErase takes a person out of the file beside the plan at path.
func (c *cli) runErase(path, person string, yes bool) error {
	p, err := plan.Load(path)
	if err != nil {
		return err
	}
	e, err := p.Erase(person)
	if err != nil {
		return err
	}
	if len(e.Still) > 0 {
		return holdfast.WithHint(fmt.Errorf("the plan itself says what is to be erased of %q, at %s: %w", person, strings.Join(e.Still, ", "), holdfast.ErrRefused),
			"take it out of the plan first; the ledger keeps the text of each plan that was in force")
	}
	if yes {
		// A crash leaves the file as it was, or as it is to be.
		if err := durable.WriteFile(durable.OS, e.File, e.Text, 0o600); err != nil {
			return errors.Join(fmt.Errorf("erase %q: nothing is erased for certain", person), err)
		}
	}
	return c.print(struct {
		plan.Erasure
		Erased bool `json:"erased"`
	}{e, yes}, func(o io.Writer) {
		what := strings.Join(e.Fields, ", ")
		if what == "" {
			what = "the entry, which is empty"
		}
		if !yes {
			fmt.Fprintf(o, "%s: would take out of %s: %s\n--yes does it\n", person, plan.PeopleFile, what)
			return
		}
		fmt.Fprintf(o, "%s: taken out of %s: %s\n", person, plan.PeopleFile, what)
	})
}
