package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
)

func (c *cli) offlineCmd() *cobra.Command {
	return group("offline", "The plan for the day on which nothing works, in the hands of people",
		c.offlineMakeCmd(), c.offlineListCmd(), c.offlineConfirmCmd(), c.offlineVerifyCmd(), c.offlineOpenCmd(), c.offlineEndCmd())
}

// A passphraseFrom says where a passphrase comes from: never from an argument or the
// environment, which others on the machine can read.
type passphraseFrom struct {
	file string // "-" is standard input
	make string // write a new one into this file
}

func (p *passphraseFrom) flags(cmd *cobra.Command, making bool) {
	cmd.Flags().StringVar(&p.file, "passphrase-file", "", "file that holds the passphrase, readable by its owner only; - for standard input (default: asked for on the terminal)")
	if making {
		cmd.Flags().StringVar(&p.make, "new-passphrase", "", "make a passphrase, and write it into this new file")
	}
}

// read returns the passphrase. twice asks a second time on a terminal.
func (p *passphraseFrom) read(stderr io.Writer, twice bool) (string, error) {
	switch {
	case p.file != "" && p.make != "":
		return "", &usageError{holdfast.WithHint(errors.New("--passphrase-file and --new-passphrase both give the passphrase"), "leave one of them out")}
	case p.make != "":
		text := seal.NewPassphrase()
		return text, seal.WriteKeyFile(p.make, "# passphrase of an offline copy: keep it apart from the copy\n"+text+"\n")
	case p.file == "-":
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, seal.MaxPassword+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	case p.file != "":
		return seal.ReadKeyFile(p.file)
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return "", &usageError{holdfast.WithHint(errors.New("the passphrase is missing, and nobody can be asked"), "give --passphrase-file FILE, - for standard input")}
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(stderr, what)
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(stderr)
		return string(b), err
	}
	text, err := ask("Passphrase: ")
	if err != nil || !twice {
		return text, err
	}
	again, err := ask("Once more: ")
	if err == nil && again != text {
		err = holdfast.WithHint(errors.New("the two passphrases differ"), "try again; or let one be made: --new-passphrase FILE")
	}
	return text, err
}

func (c *cli) offlineMakeCmd() *cobra.Command {
	var person, to string
	var from passphraseFrom
	cmd := &cobra.Command{
		Use:   "make --person PERSON [--to FILE]",
		Short: "Make a person's copy of the plan: one encrypted file that opens anywhere",
		Long: `Write the plan in force for PERSON into one file: whom to call, suppliers, authorities,
what comes back in which order, where the copies are, who holds keys and shares and how
they come together, the commands of a recovery, the whole policy, and the plan itself.

The file opens in any browser without a network, a server or Holdfast, with a
passphrase; it prints on plain paper; without a browser one line of openssl opens it,
which the file says itself. It is sealed here: the passphrase goes nowhere.

Its digest is printed and recorded, its statement signed. It counts as held once PERSON
has opened it and given the code on its first lines: "holdfast offline confirm".

Exit status: 0 made and recorded, 1 error, 2 usage, 4 refused.`,
		Example: "  $ holdfast offline make --person mia --new-passphrase /media/stick/passphrase\n  offline-mia-oc-20261122-5f3a9c.html: version 1.0 of the plan, for mia",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if person == "" {
				return &usageError{holdfast.WithHint(errors.New("for whom is the copy?"), "give --person with their name in the plan")}
			}
			if to != "" {
				if err := absent(to, "--to"); err != nil {
					return err
				}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				draft, err := cl.DraftOfflineCopy(ctx, person)
				if err != nil {
					return err
				}
				passphrase, err := from.read(c.stderr, true)
				if err != nil {
					return err
				}
				return c.makeOffline(ctx, cl, draft, passphrase, to)
			})
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "person of the plan for whom it is")
	cmd.Flags().StringVar(&to, "to", "", "file to write; never overwritten (default: offline-PERSON-COPY.html here)")
	from.flags(cmd, true)
	return cmd
}

func (c *cli) makeOffline(ctx context.Context, cl *api.Client, draft api.OfflineDraft, passphrase, to string) error {
	locked, err := seal.Lock([]byte(draft.Page), passphrase)
	if err != nil {
		return err
	}
	s := draft.Statement.Of(locked)
	if to == "" {
		to = fmt.Sprintf("offline-%s-%s.html", fileName(s.Person), s.Copy)
		if err := absent(to, "--to"); err != nil {
			return err
		}
	}
	signed, err := cl.RecordOfflineCopy(ctx, api.OfflineRecord{Copy: s.Copy, Person: s.Person, Digest: s.Digest, Made: s.Made, Rounds: s.Rounds, Code: s.Code, Sealed: s.Sealed, Hash: survive.CopyCodeHash(draft.Code), By: operator()})
	if err != nil {
		return err
	}
	key, err := seal.ParseVerifyKey(signed.Key)
	if err != nil {
		return err
	}
	file, err := survive.WriteCopy(signed.Statement, signed.Signature, key, locked)
	if err != nil {
		return err
	}
	if err := writeNewFor(to, file, 0o600); err != nil {
		return err
	}
	return c.print(map[string]any{"file": to, "statement": signed.Statement, "signature": signed.Signature, "key": signed.Key}, func(o io.Writer) {
		fmt.Fprintf(o, "%s: version %s of the plan, for %s\n  copy    %s\n  plan    %s\n  sealed  %s\n", to, orDash(s.Version), s.Person, s.Copy, s.Digest, s.Sealed)
		fmt.Fprintf(o, "give it to %s, and the passphrase by another way; %s opens it, and then:\n  holdfast offline confirm %s CODE --by %s\n", s.Person, s.Person, s.Copy, s.Person)
	})
}

func (c *cli) offlineListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Who holds which version of the plan, and who holds a stale one",
		Long: `List the people for whom the plan wants an offline copy (people.NAME.offline_copy), and
what each holds: current (of the plan in force, opened in time), stale, made and never
opened, or none; and by when they owe a new one. Whoever left and still has one is in
the list too.

Exit status: 0 everybody holds a current copy, 1 error, 3 somebody does not.`,
		Example: "  $ holdfast offline list\n  PERSON  STATE  HOLDS  IN FORCE  OPENED  DUE  COPY",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if _, err := cl.Reviews(ctx, false); err != nil { // what is owed is of now
					return err
				}
				l, err := cl.OfflineCopies(ctx)
				if err != nil {
					return err
				}
				if err := c.print(l, func(o io.Writer) { printOffline(o, l) }); err != nil {
					return err
				}
				return c.missed(slices.ContainsFunc(l.People, func(h survive.Held) bool { return h.State != survive.CopyCurrent }))
			})
		},
	}
}

func printOffline(o io.Writer, l api.OfflineCopies) {
	if len(l.People) == 0 {
		fmt.Fprintln(o, "the plan gives nobody an offline copy: people.NAME.offline_copy says how often it is renewed")
		return
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PERSON\tSTATE\tHOLDS\tIN FORCE\tOPENED\tDUE\tCOPY")
	for _, h := range l.People {
		holds, id := "-", "-"
		if h.Holds != nil {
			holds, id = orDash(h.Holds.Version), h.Holds.ID
		}
		if h.Waits != nil {
			id += ", " + h.Waits.ID + " not opened"
			id = strings.TrimPrefix(id, "-, ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Person, h.State, holds, orDash(h.Version), day(h.Confirmed), day(h.Due), id)
	}
	w.Flush()
	for _, f := range l.Findings {
		fmt.Fprintf(o, "%s %s: %s\n    %s\n", f.Severity, f.Code, f.Message, f.Hint)
	}
}

func (c *cli) offlineConfirmCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "confirm COPY CODE --by PERSON",
		Short: "Say that you opened your copy, with the code on its first lines",
		Long: `Record that PERSON opened the offline copy COPY. The code stands inside, so only who
has opened it knows it. A wrong code, somebody else's copy and one that has ended are
refused, and each refusal is recorded. A copy that you hold for long is confirmed again
at the plan's period; the code is the same.

Exit status: 0 recorded, 1 error, 2 there is no such copy, 4 refused.`,
		Example: "  $ holdfast offline confirm oc-20261122-5f3a9c k3fm-9qtz-abcd-efgh-2345 --by mia",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				s, err := cl.ConfirmOfflineCopy(ctx, a[0], a[1], by)
				if err != nil {
					return err
				}
				return c.print(s, func(o io.Writer) {
					fmt.Fprintf(o, "%s holds version %s of the plan: copy %s opened\n", s.Person, orDash(s.Version), s.ID)
				})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who you are in the plan")
	_ = cmd.MarkFlagRequired("by") // fails only for a flag that does not exist
	return cmd
}

func (c *cli) offlineEndCmd() *cobra.Command {
	var by, how string
	cmd := &cobra.Command{
		Use:   "end COPY --by PERSON --how TEXT",
		Short: "Record that a copy came back or was destroyed",
		Long: `Record PERSON's word that the offline copy COPY is not in its holder's hands any more,
and how that is known. It is attested, never proved: a copy can be copied. A person who
leaves owes theirs, and "holdfast review list" says so until it is recorded here.

Exit status: 0 recorded, 1 error, 2 there is no such copy, 4 refused.`,
		Example: "  $ holdfast offline end oc-20261122-5f3a9c --by jon --how \"paper shredded, stick wiped\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				s, err := cl.EndOfflineCopy(ctx, a[0], by, how)
				if err != nil {
					return err
				}
				return c.print(s, func(o io.Writer) { fmt.Fprintf(o, "%s of %s has ended: %s\n", s.ID, s.Person, s.Why) })
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who says so: a person of the plan")
	cmd.Flags().StringVar(&how, "how", "", "how it came back, or was destroyed")
	_ = cmd.MarkFlagRequired("by")
	_ = cmd.MarkFlagRequired("how")
	return cmd
}

func (c *cli) offlineVerifyCmd() *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use:   "verify FILE [--keys FILE]",
		Short: "Tell whether an offline copy is whole, and signed by keys that you hold",
		Long: `Compare what is sealed in FILE with its statement, and the statement's signature with
the keys that you hold. No passphrase, no server and no network are needed. A key that
stands in the file counts for nothing.

Exit status: 0 whole and signed, 1 error, 3 it is not.`,
		Example: "  $ holdfast offline verify offline-mia-oc-20261122-5f3a9c.html --keys trusted.keys",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			copied, err := survive.ReadCopy(a[0])
			if err != nil {
				return err
			}
			if keys == "" {
				w, err := app.Find(c.dir)
				if err != nil {
					return holdfast.WithHint(err, "name the keys that you hold with --keys FILE")
				}
				keys = w.Key(app.KeyTrusted)
			}
			trusted, err := app.ReadTrusted(keys)
			if err != nil {
				return err
			}
			found := copied.Verify(trusted.Evidence...)
			if err := c.print(map[string]any{"file": a[0], "statement": copied.Statement, "findings": notNil(found)}, func(o io.Writer) {
				if s := copied.Statement; len(found) == 0 {
					fmt.Fprintf(o, "%s: whole, and signed by a key that you hold\n  copy    %s, for %s, made %s\n  plan    %s, version %s, %s\n  sealed  %s\n", a[0], s.Copy, s.Person, when(s.Made), s.Plan, orDash(s.Version), s.Digest, s.Sealed)
				} else {
					printFindings(o, found, a[0])
				}
			}); err != nil {
				return err
			}
			return c.missed(len(found) > 0)
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "file with the public keys that you trust (default: the workspace's keys/trusted.keys)")
	return cmd
}

func (c *cli) offlineOpenCmd() *cobra.Command {
	var to string
	var from passphraseFrom
	cmd := &cobra.Command{
		Use:   "open FILE --to FILE",
		Short: "Open an offline copy without a browser",
		Long: `Open the offline copy in FILE and write the plan as a page that any browser, or a
printer, takes. No server and no workspace are needed. What it writes is not encrypted.

Exit status: 0 opened, 1 error: damaged, or another passphrase.`,
		Example: "  $ holdfast offline open offline-mia-oc-20261122-5f3a9c.html --to plan.html",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			if to == "" {
				return &usageError{holdfast.WithHint(errors.New("where shall the page be written?"), "give --to FILE")}
			}
			if err := absent(to, "--to"); err != nil {
				return err
			}
			copied, err := survive.ReadCopy(a[0])
			if err != nil {
				return err
			}
			passphrase, err := from.read(c.stderr, false)
			if err != nil {
				return err
			}
			page, err := copied.Locked.Open(passphrase)
			if err != nil {
				return holdfast.WithHint(fmt.Errorf("%s: %w", a[0], err), "look at capital letters, blanks and dashes; \"holdfast offline verify\" tells whether the file is whole")
			}
			if err := writeNewFor(to, page, 0o600); err != nil {
				return err
			}
			return c.print(map[string]string{"file": to}, func(o io.Writer) { fmt.Fprintf(o, "%s: written, not encrypted\n", to) })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write; never overwritten")
	from.flags(cmd, false)
	return cmd
}
