package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/api"
)

func (c *cli) accessCmd() *cobra.Command {
	return group("access", "Who may do what, and who did what",
		c.accessListCmd(), c.accessLogCmd(), c.accessInviteCmd(), c.accessLinkCmd(), c.accessRolesCmd(), c.accessLeaveCmd(), c.accessTokenCmd(),
		c.accessEmergencyCmd(), c.accessDecideEmergencyCmd(), c.accessReviewCmd(), c.accessDecideCmd())
}

// at is an instant in a table.
func at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func words[T ~string](xs []T) string {
	var out []string
	for _, x := range xs {
		out = append(out, string(x))
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ",")
}

func (c *cli) accessListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Print the access list: people, roles, what they may, what admits them",
		Long: `Print who may do what at this instant, as the server enforces it: people with
roles, second factors, sessions and tokens; emergency access; open reviews; and what
is wrong with it. With --json it is the dated document that auditors ask for.

Exit status: 0, 3 a finding of severity error exists.`,
		Example: "  $ holdfast access list\n  $ holdfast access list --json > access-2026-11-22.json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				l, err := cl.Access(ctx)
				if err != nil {
					return err
				}
				if err := c.print(l, func(o io.Writer) { printAccess(o, l) }); err != nil {
					return err
				}
				return c.missed(holdfast.AnyErrors(l.Findings))
			})
		},
	}
}

func printAccess(o io.Writer, l access.List) {
	fmt.Fprintf(o, "access list as of %s\n\n", l.At.Format(time.RFC3339))
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PERSON\tSTATE\tROLES\tADMITTED BY\tLAST LOG-IN\tUNTIL\tMAY")
	for _, p := range l.People {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.State, words(p.Roles), words(p.Second), at(p.LastLogin), at(p.Until), words(p.Actions))
	}
	w.Flush()
	if len(l.People) == 0 {
		fmt.Fprintln(o, "nobody is known: the page is open on this machine; \"holdfast access invite NAME --role administrator\" lets the first one in")
	}
	w = tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	for _, p := range l.People {
		for _, t := range p.Tokens {
			fmt.Fprintf(w, "token %s\t%s\t%s\tmay %s\tuntil %s\n", t.ID, p.ID, t.Name, words(t.Actions), at(t.Expires))
		}
	}
	for _, g := range l.Grants {
		fmt.Fprintf(w, "emergency %d\t%s\t%s\tmay %s\tuntil %s\t%s\n", g.ID, g.Person, g.State, words(g.Actions), at(g.Until), g.Reason)
	}
	for _, r := range l.Reviews {
		if r.Decision == "" {
			fmt.Fprintf(w, "review %d\t%s\twaits until %s\n", r.ID, r.Person, at(r.Due))
		}
	}
	w.Flush()
	for _, f := range l.Findings {
		fmt.Fprintln(o)
		fold(o, "    ", fmt.Sprintf("%s %s: %s", f.Severity, f.Code, f.Message))
		fold(o, "    ", "    "+f.Hint)
	}
}

func (c *cli) accessLogCmd() *cobra.Command {
	var person string
	var limit int
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Print who logged in, looked, did, and was refused",
		Long: `Print what people and programs did, newest first. Each line is a fact of the ledger.
Looking at the same thing again within ten minutes is one line.`,
		Example: "  $ holdfast access log\n  $ holdfast access log --person anna --limit 500 --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				facts, err := cl.AccessLog(ctx, person, limit)
				if err != nil {
					return err
				}
				return c.print(facts, func(o io.Writer) {
					w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
					fmt.Fprintln(w, "FACT\tWHEN\tWHO\tWHAT\tABOUT\tRESULT")
					for _, f := range facts {
						var d struct {
							Action, Why, What string
							Result            int
						}
						_ = json.Unmarshal(f.Data, &d) // what is not there is not shown
						result := strings.TrimSpace(strings.Join([]string{d.Action, d.What, d.Why}, " "))
						if d.Result != 0 {
							result += " " + strconv.Itoa(d.Result)
						}
						fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", f.Index, when(f.At), f.Actor, strings.TrimPrefix(f.Type, "access."), f.Subject, result)
					}
					w.Flush()
				})
			})
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "only this person")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many lines, at most 1000")
	return cmd
}

// parseDay reads a day; it ends at its end.
func parseDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, &usageError{holdfast.WithHint(fmt.Errorf("%q is no day", text), "write 2027-01-31")}
	}
	return t.Add(24 * time.Hour), nil
}

func (c *cli) printLink(inv access.Invitation) error {
	return c.print(inv, func(o io.Writer) {
		fmt.Fprintf(o, "%s enrols, once and until %s, at the address of the page followed by\n  %s\n", inv.Person, inv.Expires.Format("2006-01-02 15:04 MST"), inv.Path)
	})
}

func (c *cli) accessInviteCmd() *cobra.Command {
	var roles []string
	var until, by string
	cmd := &cobra.Command{
		Use:   "invite PERSON --role ROLE",
		Short: "Let a person of the plan, or an auditor, in",
		Long: `Make somebody known and print the link with which they enrol, once, within three
days: with a passkey, or with a password and a one-time code. The roles are viewer,
operator, responder, approver, administrator and auditor; "holdfast access list"
prints what each may. From the first invitation on everybody logs in.

People stand in the plan. Only an auditor comes from outside, and until a day.

Exit status: 0, 2 no such role, 4 the person has access already, or is not in the plan.`,
		Example: "  $ holdfast access invite anna --role administrator\n  $ holdfast access invite kpmg.lee --role auditor --until 2027-01-31",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			end, err := parseDay(until)
			if err != nil {
				return err
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				inv, err := cl.Invite(ctx, api.Invite{Person: a[0], Roles: roles, Until: end, By: by})
				if err != nil {
					return err
				}
				return c.printLink(inv)
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", nil, "what they are for; may be given more than once")
	cmd.Flags().StringVar(&until, "until", "", "the last day, for an auditor")
	cmd.Flags().StringVar(&by, "by", "", "who lets them in (default: the account of this machine)")
	return cmd
}

func (c *cli) accessLinkCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:     "link PERSON",
		Short:   "Make a new link for somebody who lost what admits them",
		Long:    "Print a new link to enrol with. When it is used, older passkeys, codes and sessions end.",
		Example: "  $ holdfast access link anna",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				inv, err := cl.Link(ctx, a[0], by)
				if err != nil {
					return err
				}
				return c.printLink(inv)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who makes it (default: the account of this machine)")
	return cmd
}

func (c *cli) accessRolesCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:     "roles PERSON ROLE...",
		Short:   "Change what somebody is for",
		Long:    "Replace the roles of a person. It holds from their next request.\n\nExit status: 0, 2 no such role, 4 nobody changes their own, or the last administrator's.",
		Example: "  $ holdfast access roles bo responder approver",
		Args:    args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				l, err := cl.SetRoles(ctx, a[0], api.Change{Roles: a[1:], By: by})
				if err != nil {
					return err
				}
				return c.print(l, func(o io.Writer) { fmt.Fprintf(o, "%s: %s\n", a[0], strings.Join(a[1:], ", ")) })
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who changes them (default: the account of this machine)")
	return cmd
}

func (c *cli) accessLeaveCmd() *cobra.Command {
	var by, reason string
	cmd := &cobra.Command{
		Use:   "leave PERSON",
		Short: "End all access of somebody, and say what the plan still rests on them",
		Long: `End sessions, tokens, passkeys, codes, roles and emergency access of a person at
once, and print what the plan in force still rests on them: turns on call, roles,
keys, credentials. What they held of keys must be made anew.

Exit status: 0 nothing of the plan rests on them, 3 ended, and something does, 4 the
last administrator.`,
		Example: "  $ holdfast access leave bo --reason \"left the company\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				d, err := cl.Leave(ctx, a[0], api.Change{Reason: reason, By: by})
				if err != nil {
					return err
				}
				if err := c.print(d, func(o io.Writer) {
					fmt.Fprintf(o, "%s has left: %d sessions, %d tokens, %d passkeys, %d recovery codes and %d emergencies ended; roles %s taken\n", d.Person, d.Sessions, d.Tokens, d.Passkeys, d.Codes, d.Grants, words(d.Roles))
					for _, x := range d.Duties {
						fmt.Fprintf(o, "  still in the plan: %s\n", x)
					}
				}); err != nil {
					return err
				}
				return c.missed(len(d.Duties) > 0)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().StringVar(&by, "by", "", "who ends it (default: the account of this machine)")
	return cmd
}

func (c *cli) accessTokenCmd() *cobra.Command {
	var may []string
	var name, until, end string
	cmd := &cobra.Command{
		Use:   "token PERSON --name PROGRAM --may ACTION --until DAY",
		Short: "Make a token for a program, for which a person answers; or end one",
		Long: `Print a token for a program. It is kept nowhere and shown once. It can do what --may
names as long as its person may, until a day within a year. With --end it ends one.

Exit status: 0, 2 no such action, 4 the person may not do it, or no program may.`,
		Example: "  $ holdfast access token anna --name grafana --may view --until 2027-01-31\n  $ holdfast access token --end Zk3v9qLw2A",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			day, err := parseDay(until)
			if err != nil {
				return err
			}
			if end == "" && len(a) == 0 {
				return &usageError{holdfast.WithHint(fmt.Errorf("the token names nobody who answers for it"), "holdfast access token PERSON --name PROGRAM --may view --until 2027-01-31")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if end != "" {
					if err := cl.EndToken(ctx, end); err != nil {
						return err
					}
					return c.print(map[string]string{"ended": end}, func(o io.Writer) { fmt.Fprintf(o, "token %s has ended\n", end) })
				}
				t, err := cl.NewToken(ctx, api.NewToken{Person: a[0], Name: name, Actions: may, Until: day})
				if err != nil {
					return err
				}
				return c.print(t, func(o io.Writer) { fmt.Fprintln(o, t.Secret) })
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "which program it is for")
	cmd.Flags().StringSliceVar(&may, "may", nil, "what it may do")
	cmd.Flags().StringVar(&until, "until", "", "its last day, within a year")
	cmd.Flags().StringVar(&end, "end", "", "end the token with this id")
	return cmd
}

func (c *cli) printGrant(g access.Grant) error {
	return c.print(g, func(o io.Writer) {
		fmt.Fprintf(o, "emergency access %d of %s (%s): %s", g.ID, g.Person, words(g.Actions), g.State)
		if !g.Until.IsZero() {
			fmt.Fprintf(o, ", until %s, to be reviewed by %s", at(g.Until), at(g.ReviewDue))
		}
		fmt.Fprintln(o)
	})
}

func (c *cli) accessEmergencyCmd() *cobra.Command {
	e := access.Emergency{}
	var may []string
	cmd := &cobra.Command{
		Use:   "emergency --for PERSON --reason TEXT",
		Short: "Ask for emergency access, or break the glass",
		Long: `Ask for access for a time, with a reason; somebody else approves it ("holdfast access
decide"), it ends by itself, and somebody else looks afterwards at what was done.

With --break-glass it begins at once: nobody who could approve can be reached. It opens
an incident, lasts four hours at most, and is reviewed within three days.

Exit status: 0 it began (--break-glass), 4 it waits for an approval.`,
		Example: "  $ holdfast access emergency --for anna --reason \"forensics for INC-7\" --minutes 60\n  $ holdfast access emergency --for anna --reason \"site down, nobody answers\" --break-glass",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			actions, err := access.ParseActions(may...)
			if err != nil {
				return err
			}
			e.Actions = actions
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				g, err := cl.AskEmergency(ctx, e)
				if err != nil {
					return err
				}
				if err := c.printGrant(g); err != nil || g.State != access.GrantAsked {
					return err
				}
				c.reported = true
				return holdfast.ErrRefused
			})
		},
	}
	cmd.Flags().StringVar(&e.Person, "for", "", "whose it is")
	cmd.Flags().StringVar(&e.Reason, "reason", "", "what happened, and what has to be done")
	cmd.Flags().StringSliceVar(&may, "may", []string{"restore"}, "what it gives: restore, respond, run")
	cmd.Flags().Int64Var(&e.Minutes, "minutes", 60, "for how long")
	cmd.Flags().BoolVar(&e.Glass, "break-glass", false, "take it at once")
	return cmd
}

func (c *cli) accessDecideEmergencyCmd() *cobra.Command {
	var by, note string
	cmd := &cobra.Command{
		Use:   "decide ID approve|refuse|end|review --by PERSON",
		Short: "Approve, refuse, end or review an emergency access",
		Long: `Decide about what somebody else asked for; end what goes on; or say afterwards, with
--note, whether what was done was right. "holdfast access decide ID" alone shows
everything that was done with it.

Exit status: 0, 4 nobody decides about their own (a team that the plan declares small
may, and is reviewed).`,
		Example: "  $ holdfast access decide 3 approve --by bo\n  $ holdfast access decide 3\n  $ holdfast access decide 3 review --by bo --note \"read two rows for the authority, nothing else\"",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := strconv.ParseInt(a[0], 10, 64)
			if err != nil {
				return &usageError{holdfast.WithHint(fmt.Errorf("%q is no number of an emergency access", a[0]), "\"holdfast access list\" names them")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if len(a) == 1 {
					u, err := cl.Emergency(ctx, id)
					if err != nil {
						return err
					}
					return c.print(u, func(o io.Writer) {
						fmt.Fprintf(o, "emergency access %d of %s: %s; %s\n", u.ID, u.Person, u.State, u.Reason)
						for _, f := range u.Done {
							fmt.Fprintf(o, "  %s %s\n", when(f.At), f.Subject)
						}
					})
				}
				g, err := cl.DecideEmergency(ctx, id, api.Decision{What: a[1], By: by, Note: note})
				if err != nil {
					return err
				}
				return c.printGrant(g)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who decides")
	cmd.Flags().StringVar(&note, "note", "", "of a review: what was done, and was it right")
	return cmd
}

func (c *cli) accessReviewCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Ask now whether everybody keeps their access",
		Long: `Open an access review: somebody decides for each person, within two weeks. The server
opens one by itself twice a year, or as "reviews.access" of the plan says.`,
		Example: "  $ holdfast access review --by anna",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				items, err := cl.OpenAccessReview(ctx, by)
				if err != nil {
					return err
				}
				return c.print(items, func(o io.Writer) {
					for _, i := range items {
						fmt.Fprintf(o, "review %d: does %s (%s) keep access? until %s\n", i.ID, i.Person, words(i.Roles), at(i.Due))
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who asks (default: the account of this machine)")
	return cmd
}

func (c *cli) accessDecideCmd() *cobra.Command {
	var by, note string
	cmd := &cobra.Command{
		Use:     "keep-or-remove ID keep|remove --by PERSON",
		Short:   "Decide in an access review; what is removed ends at once",
		Long:    "Decide whether a person keeps their access. Nobody decides about their own.\n\nExit status: 0, 3 removed, and the plan still rests something on them, 4 not theirs to decide.",
		Example: "  $ holdfast access keep-or-remove 12 remove --by anna --note \"changed teams\"",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := strconv.ParseInt(a[0], 10, 64)
			if err != nil {
				return &usageError{holdfast.WithHint(fmt.Errorf("%q is no number of a review", a[0]), "\"holdfast access list\" names them")}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				d, err := cl.DecideAccess(ctx, id, api.Decision{What: a[1], By: by, Note: note})
				if err != nil {
					return err
				}
				if err := c.print(d, func(o io.Writer) {
					fmt.Fprintf(o, "review %d: %s\n", id, a[1])
					for _, x := range d.Duties {
						fmt.Fprintf(o, "  still in the plan: %s\n", x)
					}
				}); err != nil {
					return err
				}
				return c.missed(len(d.Duties) > 0)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who decides")
	cmd.Flags().StringVar(&note, "note", "", "why")
	return cmd
}
