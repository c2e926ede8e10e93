package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
)

func (c *cli) kitCmd() *cobra.Command {
	return group("kit", "The recovery kit: what brings the company back without those who run it",
		c.kitPrepareCmd(), c.kitMakeCmd(), c.kitShowCmd(), c.kitOpenCmd())
}

// kitPlan is what "kit prepare" makes: who holds the shares of a new key.
type kitPlan struct {
	id          string
	to          string
	needed      int
	holders     []string
	outside     []string
	postQuantum bool
}

func (k kitPlan) all() []string { return append(slices.Clone(k.holders), k.outside...) }

func (c *cli) kitPrepareCmd() *cobra.Command {
	var k kitPlan
	var dry bool
	cmd := &cobra.Command{
		Use:   "prepare --to DIR --needed K --holder NAME... --outside NAME...",
		Short: "Make the key of the recovery kit, as shares and sheets of its holders",
		Long: `Make a new key and write one share of it for each holder into DIR: as text, and as a
page for a printer that says what the holder does with it. Any K of the shares bring
the key back; the whole key is written nowhere. What the plan must say is printed.

--holder names people of the company, --outside trustees who do not work there: a
lawyer, an auditor, the board. All of them are people of the plan. Give each their
share, on paper or on a stick, and keep none of them, nor DIR, on a machine.

Exit status: 0 made, 1 error, 2 usage.`,
		Example: `  $ holdfast kit prepare --to /media/stick --needed 2 --holder mia --outside notary --outside auditor
  set 7f3a91c2: any 2 of 3 shares open the recovery kit
  …`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := k.check(); err != nil {
				return err
			}
			if dry {
				return c.print(map[string]any{"needed": k.needed, "holders": k.all(), "outside": k.outside}, func(o io.Writer) {
					fmt.Fprintf(o, "would make a key and write %d shares of it into %s, of which any %d open the recovery kit\n", len(k.all()), k.to, k.needed)
				})
			}
			return c.prepareKit(k)
		},
	}
	f := cmd.Flags()
	f.StringVar(&k.to, "to", "", "folder for the shares; made if absent")
	f.StringVar(&k.id, "id", "kit", "name of the key in the plan")
	f.IntVar(&k.needed, "needed", 0, "how many shares open the kit")
	f.StringArrayVar(&k.holders, "holder", nil, "who of the company keeps a share; once for each")
	f.StringArrayVar(&k.outside, "outside", nil, "who outside the company keeps a share; once for each")
	f.BoolVar(&k.postQuantum, "post-quantum", false, "make a key that a quantum computer does not break")
	f.BoolVar(&dry, "dry-run", false, "say what would be made, and make nothing")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagRequired("needed")
	return cmd
}

func (k kitPlan) check() error {
	all := k.all()
	sorted := slices.Sorted(slices.Values(all))
	switch {
	case len(k.outside) == 0:
		return &usageError{holdfast.WithHint(errors.New("nobody outside the company holds a share"), "name a lawyer, an auditor or the board with --outside: what takes everybody who works here takes their shares")}
	case len(slices.Compact(sorted)) != len(all):
		return &usageError{holdfast.WithHint(errors.New("somebody is named twice"), "each holder keeps one share")}
	case k.needed < seal.MinThreshold || k.needed > len(all) || len(all) > seal.MaxShares:
		return &usageError{holdfast.WithHint(fmt.Errorf("%d needed of %d shares", k.needed, len(all)), "at least %d are needed, at most as many as there are, and at most %d are made", seal.MinThreshold, seal.MaxShares)}
	}
	return nil
}

// prepareKit makes the key and its shares. The key lives in this process only. A crash in
// the middle leaves shares of a key that no plan names: delete them, and run it again.
func (c *cli) prepareKit(k kitPlan) error {
	generate := seal.GenerateIdentity
	if k.postQuantum {
		generate = seal.GeneratePostQuantum
	}
	id, err := generate()
	if err != nil {
		return err
	}
	shares, err := seal.Split(id, k.needed, len(k.all()), k.all(), time.Now())
	if err != nil {
		return err
	}
	letter := kitLetter(k, shares[0])
	var sheets []string
	made, err := shareFiles(k.to, shares, func(path, text string) error {
		page, err := survive.SheetPage(letter + text)
		if err != nil {
			return err
		}
		sheet := strings.TrimSuffix(path, ".txt") + ".html"
		sheets = append(sheets, sheet)
		return seal.WriteKeyFile(sheet, string(page))
	})
	if err != nil {
		return err
	}
	snippet := kitSnippet(k, id.Recipient(), made)
	out := map[string]any{"set": shares[0].SetText(), "needed": k.needed, "recipient": id.Recipient(), "shares": made, "sheets": sheets, "plan": snippet}
	return c.print(out, func(o io.Writer) {
		fmt.Fprintf(o, "set %s: any %d of %d shares open the recovery kit\n", shares[0].SetText(), k.needed, len(shares))
		for i, m := range made {
			fmt.Fprintf(o, "%s\n%s\n", m.File, sheets[i])
		}
		fmt.Fprintf(o, "\nFor the plan; the holders are people of it:\n%s\nThen \"holdfast kit make\". Give each holder their share, and leave none here.\n", snippet)
	})
}

// kitLetter is what a holder reads on their sheet before the groups.
func kitLetter(k kitPlan, s seal.Share) string {
	return fmt.Sprintf("# You keep one share of the key of a recovery kit, with %s.\n# Any %d of the %d of you open it together; one of you alone opens nothing.\n# Open it when somebody of the company asks you to, or when you are told that nobody there answers.\n"+
		"# How: README.txt beside the kit. Holdfast asks you now and then to show that you still have this; nothing secret leaves you for that.\n", strings.Join(k.all(), ", "), s.Threshold, s.Count)
}

// kitSnippet is what the plan says of a kit.
func kitSnippet(k kitPlan, to seal.Recipient, made []madeShare) string {
	var b strings.Builder
	fmt.Fprintf(&b, "keys:\n  %s:\n    recipient: %s\n    offline: true\n    challenge: every 1q\n    shares:\n      needed: %d\n      holders:\n", k.id, to, k.needed)
	for _, m := range made {
		fmt.Fprintf(&b, "        %s: %s\n", m.Holder, m.Recipient)
	}
	fmt.Fprintf(&b, "recovery_kit:\n  key: %s\n  outside: [%s]\n", k.id, strings.Join(k.outside, ", "))
	if len(k.holders) > 0 {
		fmt.Fprintf(&b, "  check_in: {every: every 1mo, by: [%s]}\n", strings.Join(k.holders, ", "))
	}
	return b.String()
}

func (c *cli) kitMakeCmd() *cobra.Command {
	var to, by string
	cmd := &cobra.Command{
		Use:   "make --to DIR",
		Short: "Make the recovery kit of the plan in force, for its holders",
		Long: `Write the recovery kit into DIR: one sealed file with the plan, whom to call, where the
copies are, the digest of this program and the ledger's checkpoint; and README.txt, which
says how it is opened, with Holdfast and without. It is sealed to the key that
"recovery_kit" of the plan names. This machine cannot open it, and if it could, because
enough shares lie on it, none is made.

Give a copy to every holder. It counts until another plan is in force, or for
recovery_kit.every.

Exit status: 0 made and recorded, 1 error, 2 the plan has no kit, 4 refused.`,
		Example: "  $ holdfast kit make --to /media/stick\n  /media/stick/recovery-kit-acme-20261122T101530Z.age",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				k, err := cl.MakeKit(ctx, by)
				if err != nil {
					return err
				}
				file := filepath.Join(to, filepath.Base(k.Name))
				if err := writeNewFor(file, k.Sealed, 0o644); err != nil {
					return err
				}
				readme := strings.TrimSuffix(file, ".age") + "-README.txt"
				if err := writeNewFor(readme, []byte(k.Readme), 0o644); err != nil {
					return err
				}
				return c.print(map[string]any{"file": file, "readme": readme, "kit": k.Kit}, func(o io.Writer) {
					fmt.Fprintf(o, "%s\n%s\n%s\nany %d of %s open it; give each of them both files\n", file, readme, k.Kit.Sealed, k.Kit.Needed, strings.Join(k.Kit.Holders, ", "))
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "folder to write into; made if absent, nothing in it is overwritten")
	cmd.Flags().StringVar(&by, "by", operator(), "who makes it")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func (c *cli) kitShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Which recovery kit there is, and what is wrong with it",
		Long: `Show the newest recovery kit, who opens it with how many shares, and what is wrong: none
was made, it is of another plan or too old, or shares lie on the server.

Exit status: 0 it counts, 1 error, 2 the plan has no kit, 3 a finding of severity error.`,
		Example: "  $ holdfast kit show",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				k, err := cl.Kit(ctx)
				if err != nil {
					return err
				}
				if err := c.print(k, func(o io.Writer) {
					fmt.Fprintf(o, "key %s: any %d of %s open it; outside: %s\n", k.Key, k.Needed, strings.Join(k.Holders, ", "), strings.Join(k.Outside, ", "))
					if k.Newest != nil {
						fmt.Fprintf(o, "made %s by %s, of version %s of the plan\n%s\n", when(k.Newest.Made), k.Newest.MadeBy, orDash(k.Newest.Version), k.Newest.Sealed)
					}
					for _, f := range k.Findings {
						fmt.Fprintf(o, "%s %s: %s\n    %s\n", f.Severity, f.Code, f.Message, f.Hint)
					}
				}); err != nil {
					return err
				}
				return c.missed(holdfast.AnyErrors(k.Findings))
			})
		},
	}
}

func (c *cli) kitOpenCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "open KIT SHARE... --to DIR",
		Short: "Open a recovery kit with the shares of its holders",
		Long: `Bring the key of the recovery kit together from SHARE files and write what is in KIT
into DIR. No server, no workspace and no network are needed, and the key is written
nowhere. Each SHARE is a file that "kit prepare" made, or only its groups as somebody
typed them; "-" is standard input.

Too few shares, shares of another key, and a kit that is not whole are said, and nothing
is written. What it writes is not encrypted.

Exit status: 0 opened, 1 error.`,
		Example: "  $ holdfast kit open recovery-kit-acme-20261122T101530Z.age mia.txt notary.txt --to kit",
		Args:    args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := absent(to, "--to"); err != nil {
				return err
			}
			sealed, err := readKit(a[0])
			if err != nil {
				return err
			}
			id, err := joined(a[1:], cmd.InOrStdin())
			if err != nil {
				return err
			}
			files, err := survive.OpenKit(sealed, id)
			if errors.Is(err, seal.ErrNoIdentity) {
				return holdfast.WithHint(fmt.Errorf("%s: the shares bring the key %s back, and the kit is sealed to another: %w", a[0], id.Recipient().Fingerprint(), err),
					"look for the kit that was made for these shares, or for the shares of this one: its README names its day")
			}
			if err != nil {
				return holdfast.WithHint(fmt.Errorf("%s: %w", a[0], err), "take another holder's copy of the kit; its README says which digest it must have")
			}
			return c.writeKit(to, files)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "folder to write; must be absent")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func readKit(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, holdfast.WithHint(err, "name the file that \"holdfast kit make\" wrote; it ends with .age")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, seal.MaxSealedFile+1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// writeKit writes what was in a kit, which is whole. A crash leaves some of the files: they
// are removed, and the kit is opened again.
func (c *cli) writeKit(to string, files map[string][]byte) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	var names []string
	for _, name := range sortedKeys(files) {
		path := filepath.Join(to, name)
		if err := writeNewFor(path, files[name], 0o600); err != nil {
			return err
		}
		names = append(names, path)
	}
	return c.print(map[string]any{"files": names}, func(o io.Writer) {
		fmt.Fprintln(o, strings.Join(names, "\n"))
		fmt.Fprintf(o, "\nwritten, not encrypted: read %s first\n", filepath.Join(to, "README.txt"))
	})
}

// joined brings a key back from shares, or from one sheet with the whole key.
func joined(paths []string, stdin io.Reader) (seal.Identity, error) {
	var shares []seal.Share
	for _, path := range paths {
		s, err := readSheet(path, stdin)
		switch {
		case err != nil:
			return seal.Identity{}, err
		case !s.Key.IsZero() && len(paths) > 1:
			return seal.Identity{}, holdfast.WithHint(fmt.Errorf("%s is a whole key, not a share", path), "name it alone")
		case !s.Key.IsZero():
			return s.Key, nil
		}
		shares = append(shares, s.Share)
	}
	id, err := seal.Join(shares...)
	if err != nil {
		return id, joinHint(err)
	}
	return id, nil
}
