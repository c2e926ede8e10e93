package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/plan"
)

// An itemFilter says which items of the register are asked for. Empty fields ask for all.
type itemFilter struct {
	section, kind, act, whose, contains, owner, tier string
	unprotected                                      bool
}

func (f itemFilter) wants(i plan.Item) bool {
	switch {
	case f.section != "" && f.section != i.Section,
		f.kind != "" && f.kind != i.Kind,
		f.owner != "" && f.owner != i.Owner,
		f.tier != "" && f.tier != i.Tier,
		f.contains != "" && !slices.Contains(i.Contains, plan.Marker(f.contains)),
		f.unprotected && (i.Section != "stores" || i.Protection != "none"):
		return false
	case f.act == "" && f.whose == "":
		return true
	case f.act != "":
		return i.Does(plan.DataAct(f.act), f.whose)
	}
	return f.whose == "company" && len(i.Company) > 0 || f.whose == "customer" && len(i.Customer) > 0
}

// known refuses a word that no item can have, with the nearest that one can.
func known(flag, word string, words ...string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return &usageError{holdfast.WithHint(fmt.Errorf("--%s %q is none of its words", flag, word), "known are %s", strings.Join(words, ", "))}
}

func (c *cli) planItemsCmd() *cobra.Command {
	var f itemFilter
	cmd := &cobra.Command{
		Use:   "items [PLAN]",
		Short: "List what the plan answers for: the register of services, stores and what backups rest on",
		Long: `List the register of a plan, a file or a folder: services, stores, suppliers,
facilities, locations and keys, each with its kind, owner, tier, class, what it does
with whose data, how it is protected, what its kind demands for that, and in which
wave it is recovered. Nothing is contacted.

The flags choose items; an item must fit all of them. How a register changed between
two versions of a plan, "holdfast plan diff" says.

Exit status: 0 listed, 1 error, 2 the plan cannot be read, or a flag has an unknown word.`,
		Example: `  $ holdfast plan items --act store --data customer     # who stores data of customers
  $ holdfast plan items --contains health --json
  $ holdfast plan items --unprotected`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			for _, err := range []error{
				known("act", f.act, plan.Acts()...), known("data", f.whose, "company", "customer"), known("contains", f.contains, plan.Markers()...),
				known("section", f.section, "services", "stores", "suppliers", "facilities", "locations", "keys"),
			} {
				if err != nil {
					return err
				}
			}
			p, err := c.readPlan(a)
			if err != nil {
				return err
			}
			items := slices.DeleteFunc(p.Items(), func(i plan.Item) bool { return !f.wants(i) })
			return c.print(map[string]any{"plan": p.Plan.ID, "digest": p.Digest(), "items": items}, func(o io.Writer) { tellItems(o, items) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.section, "section", "", "only services, stores, suppliers, facilities, locations or keys")
	fl.StringVar(&f.kind, "kind", "", "only this kind: postgres, git, worker, dir, …")
	fl.StringVar(&f.act, "act", "", "only what creates, receives, stores or transmits data: create, receive, store, transmit")
	fl.StringVar(&f.whose, "data", "", "only what handles data of the company or of customers: company, customer")
	fl.StringVar(&f.contains, "contains", "", "only what is marked so: personal, health, industrial-control, payment, secrets")
	fl.StringVar(&f.owner, "owner", "", "only what this role or person answers for")
	fl.StringVar(&f.tier, "tier", "", "only this tier")
	fl.BoolVar(&f.unprotected, "unprotected", false, "only stores that nothing protects and that have no reason for it")
	return cmd
}

// readPlan reads the plan that is named, or the workspace's.
func (c *cli) readPlan(a []string) (*plan.Plan, error) {
	path, err := c.planPath(a)
	if err != nil {
		return nil, err
	}
	return plan.Load(path)
}

func tellItems(o io.Writer, items []plan.Item) {
	if len(items) == 0 {
		fmt.Fprintln(o, "no item of the plan is so")
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ITEM\tKIND\tOWNER\tTIER\tCLASS\tDATA\tPROTECTION\tWAVE")
	for _, i := range items {
		wave := ""
		if i.Wave > 0 {
			wave = fmt.Sprint(i.Wave)
		}
		class := i.Class
		for _, m := range i.Contains {
			class = strings.TrimSpace(class + " " + string(m))
		}
		fmt.Fprintf(w, "%s.%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Section, i.ID, i.Kind, i.Owner, i.Tier, class, dataOf(i), i.Protection, wave)
	}
	_ = w.Flush() // o is the terminal or a buffer; print reports what it cannot write
	demands := map[string]string{}
	var kinds []string
	for _, i := range items {
		kind := i.Kind
		if kind == "" {
			kind = strings.TrimSuffix(i.Section, "s")
		}
		if i.Coverage != "" && demands[kind] == "" {
			demands[kind] = i.Coverage
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) > 0 {
		fmt.Fprintln(o, "\nWhat each kind demands:")
	}
	for _, k := range kinds {
		fmt.Fprintf(o, "  %s: %s\n", k, demands[k])
	}
}

// dataOf writes what an item does with whose data.
func dataOf(i plan.Item) string {
	var parts []string
	for _, d := range []struct {
		whose string
		acts  []plan.DataAct
	}{{"company", i.Company}, {"customer", i.Customer}} {
		if len(d.acts) > 0 {
			var acts []string
			for _, a := range d.acts {
				acts = append(acts, string(a))
			}
			parts = append(parts, d.whose+": "+strings.Join(acts, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func (c *cli) planGraphCmd() *cobra.Command {
	var dot bool
	cmd := &cobra.Command{
		Use:   "graph [PLAN]",
		Short: "List who depends on what, and how strongly",
		Long: `List every dependency that a plan declares: what services need and stores run on,
where copies go, which supplier keeps a location, who owns and holds what. Each has
a type and is hard or soft: without a hard one nothing runs. Nothing is contacted.

Exit status: 0 listed, 1 error, 2 the plan cannot be read.`,
		Example: `  $ holdfast plan graph
  $ holdfast plan graph --json
  $ holdfast plan graph --dot | dot -Tsvg > graph.svg`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			p, err := c.readPlan(a)
			if err != nil {
				return err
			}
			edges := append([]plan.Edge{}, p.Edges()...)
			return c.print(map[string]any{"plan": p.Plan.ID, "digest": p.Digest(), "edges": edges}, func(o io.Writer) {
				if dot {
					tellDot(o, edges)
					return
				}
				w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
				for _, e := range edges {
					fmt.Fprintf(w, "%s %s\t%s\t%s %s\t%s\n", e.FromKind, e.From, e.Type, e.ToKind, e.To, e.Strength)
				}
				_ = w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&dot, "dot", false, "write it for Graphviz")
	return cmd
}

// tellDot writes the graph in Graphviz's language. Names are quoted as strings of Go,
// whose escapes Graphviz reads; ids hold nothing that would need others.
func tellDot(o io.Writer, edges []plan.Edge) {
	fmt.Fprintln(o, "digraph plan {\n  rankdir=LR;")
	for _, e := range edges {
		style := "solid"
		if e.Strength != plan.Hard {
			style = "dashed"
		}
		fmt.Fprintf(o, "  %q -> %q [label=%q, style=%s];\n", e.FromKind+" "+e.From, e.ToKind+" "+e.To, e.Type, style)
	}
	fmt.Fprintln(o, "}")
}
