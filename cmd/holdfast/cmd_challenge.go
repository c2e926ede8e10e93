package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
)

func (c *cli) keyListCmd() *cobra.Command {
	var register bool
	cmd := &cobra.Command{
		Use:   "list [KEY] [--register]",
		Short: "Who holds which key or share, and has shown that it opens",
		Long: `List the keys of the plan, or one of them, with the people who keep them or a share of them,
and for each when they last answered a challenge. A key that nobody has shown to
open is "unknown", which is not a proof.

With --register it tells the life of every key that a plan in force has named: made,
custodians, where it is kept, in use since, rotation due, retired, destroyed.

Exit status: 0 listed, 3 somebody did not answer in time, or a rotation is overdue.`,
		Example: "  $ holdfast key list\n  KEY       HOLDER  KEEPS         STATE   SHOWN             DUE",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				k, err := cl.Keys(ctx)
				if err != nil {
					return err
				}
				if len(a) == 1 {
					if k, err = onlyKey(k, a[0]); err != nil {
						return err
					}
				}
				if err := c.print(k, func(o io.Writer) { printKeys(o, k, register) }); err != nil {
					return err
				}
				if holdfast.AnyErrors(k.Findings) {
					c.reported = true
					return holdfast.ErrMissed
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&register, "register", false, "tell the life of every key")
	return cmd
}

func (c *cli) keyDestroyedCmd() *cobra.Command {
	var by, how string
	cmd := &cobra.Command{
		Use:   "destroyed KEY --by PERSON --how TEXT",
		Short: "Record that the private half of a retired key is no more",
		Long: `Record PERSON's word that the private half of KEY was destroyed, and how. KEY is its
name in the plan, or a fingerprint as "key list --register" shows it. A key for which
backups are made is refused. It is attested, never proved; and it is for ever: run
"key rotate" first, to see that nothing needs the key any more.

Exit status: 0 recorded, 2 usage, 4 refused.`,
		Example: "  $ holdfast key destroyed hf:0123456789abcdef --by mia --how \"paper shredded, stick wiped\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				l, err := cl.DestroyedKey(ctx, a[0], by, how)
				if err != nil {
					return err
				}
				return c.print(l, func(o io.Writer) {
					fmt.Fprintf(o, "%s, %s: destroyed, as %s says: %s\n", l.Key, l.Fingerprint, l.DestroyedBy, l.How)
				})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who says so: a person of the plan")
	cmd.Flags().StringVar(&how, "how", "", "how it was destroyed")
	_ = cmd.MarkFlagRequired("by")
	_ = cmd.MarkFlagRequired("how")
	return cmd
}

func onlyKey(k api.Keys, id string) (out api.Keys, err error) {
	var ids []string
	for _, s := range k.Holders {
		if s.Key == id {
			out.Holders = append(out.Holders, s)
		}
		if len(ids) == 0 || ids[len(ids)-1] != s.Key {
			ids = append(ids, s.Key)
		}
	}
	for _, l := range k.Register {
		if l.Key == id {
			out.Register = append(out.Register, l)
		}
	}
	for _, f := range k.Findings {
		if f.Subject == "keys."+id {
			out.Findings = append(out.Findings, f)
		}
	}
	if len(out.Holders) == 0 {
		return out, holdfast.WithHint(fmt.Errorf("key %q is not in the plan: %w", id, holdfast.ErrUsage), "the plan's keys are %s", strings.Join(ids, ", "))
	}
	return out, nil
}

func printKeys(o io.Writer, k api.Keys, register bool) {
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	if register {
		k.Holders = nil
		fmt.Fprintln(w, "KEY\tFINGERPRINT\tSTATE\tCUSTODIANS\tKEPT\tIN USE\tROTATION DUE\tRETIRED\tDESTROYED")
		for _, l := range k.Register {
			due := when(l.RotationDue)
			if l.Overdue {
				due += " (overdue)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Key, l.Fingerprint, l.State, orNone(strings.Join(l.Custodians, ", ")), orNone(l.Stored), when(l.InUse), due, when(l.Retired), when(l.Destroyed))
		}
	} else {
		fmt.Fprintln(w, "KEY\tHOLDER\tKEEPS\tSTATE\tSHOWN\tDUE")
	}
	for _, s := range k.Holders {
		keeps := "the key"
		if s.Share {
			keeps = fmt.Sprintf("a share, %d needed", s.Needed)
		}
		if s.Offline {
			keeps += ", offline"
		}
		if !s.Seals {
			keeps += " (old backups only)"
		}
		holder := s.Holder
		if holder == "" {
			holder = "nobody named"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Key, holder, keeps, s.Posture, when(s.Proved), when(s.Due))
	}
	w.Flush()
	for _, f := range k.Findings {
		fmt.Fprintf(o, "%s %s: %s\n    %s\n", f.Severity, f.Code, f.Message, f.Hint)
	}
}

func (c *cli) keyChallengeCmd() *cobra.Command {
	return group("challenge", "Ask the holders of keys to show that what they keep still opens",
		c.challengeAskCmd(), c.challengeListCmd(), c.challengeAnswerCmd(), c.challengeAcceptCmd())
}

func (c *cli) challengeAskCmd() *cobra.Command {
	var holder, to string
	cmd := &cobra.Command{
		Use:   "ask KEY [--holder NAME] [--to DIR]",
		Short: "Challenge the holders of a key now",
		Long: `Seal a random number to KEY, or to the share that a holder keeps, for each of its
holders or one of them. Who opens it knows the answer; nobody else does, not even
this server. The plan's "challenge" of a key asks on a schedule; this asks now. An
open challenge is given again.

With --to each challenge is written into a file of DIR, to be sent to its holder. It
is no secret.

Exit status: 0 asked, 1 error, 2 usage.`,
		Example: "  $ holdfast key challenge ask recovery --to /tmp/ask\n  /tmp/ask/c1f00ba5e9-mia.txt   mia, by 2026-11-29 12:00Z",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				cs, err := cl.AskForKey(ctx, a[0], holder)
				if err != nil {
					return err
				}
				return c.handOut(cs, to)
			})
		},
	}
	cmd.Flags().StringVar(&holder, "holder", "", "only this holder")
	cmd.Flags().StringVar(&to, "to", "", "folder for one file per challenge; made if absent")
	return cmd
}

func (c *cli) challengeListCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "list [--to DIR]",
		Short:   "Challenges that are not answered yet",
		Long:    "List the challenges that can still be answered. With --to each is written into a\nfile of DIR, to be sent to its holder.\n\nExit status: 0 listed, 1 error.",
		Example: "  $ holdfast key challenge list --to /tmp/ask",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				cs, err := cl.Challenges(ctx)
				if err != nil {
					return err
				}
				return c.handOut(cs, to)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "folder for one file per challenge; made if absent")
	return cmd
}

// handOut prints challenges, and writes them into files if there is a folder for them.
func (c *cli) handOut(cs []survive.Challenge, to string) error {
	files := map[string]string{}
	if to != "" {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, ch := range cs {
			path := filepath.Join(to, strings.TrimRight(ch.ID+"-"+fileName(ch.Holder), "-")+".txt")
			if err := os.WriteFile(path, []byte(ch.Text()), 0o644); err != nil {
				return err
			}
			files[ch.ID] = path
		}
	}
	return c.print(map[string]any{"challenges": notNil(cs), "files": files}, func(o io.Writer) {
		w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CHALLENGE\tKEY\tHOLDER\tDUE\tFILE")
		for _, ch := range cs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", ch.ID, ch.Key, ch.Holder, when(ch.Due), files[ch.ID])
		}
		w.Flush()
	})
}

func (c *cli) challengeAnswerCmd() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "answer FILE --key FILE",
		Short: "Answer a challenge with a key or a share, on any machine",
		Long: `Open the challenge in FILE with the key or the share in --key, and print the answer:
six groups of letters, to be sent back or read out over the telephone. It says
nothing about the key. No workspace and no server are needed: the holder does this
where the key is.

Exit status: 0 answered, 1 error (also when the key does not open it).`,
		Example: "  $ holdfast key challenge answer c1f00ba5e9-mia.txt --key /media/usb/7f3a91c2-1-mia.txt\n  c1f00ba5e9: 3QJ7K …",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			b, err := os.ReadFile(a[0])
			if err != nil {
				return holdfast.WithHint(err, "name the file that \"holdfast key challenge ask --to DIR\" wrote")
			}
			ch, err := survive.ParseChallenge(string(b))
			if err != nil {
				return holdfast.WithHint(fmt.Errorf("%s: %w", a[0], err), "name the file that \"holdfast key challenge ask --to DIR\" wrote")
			}
			id, err := c.keyOrShare(key)
			if err != nil {
				return err
			}
			answer, err := seal.Answer(ch.ID, ch.Sealed, id)
			if errors.Is(err, seal.ErrNoIdentity) {
				return holdfast.WithHint(fmt.Errorf("%s does not open challenge %s, which is for %s of key %q: %w", key, ch.ID, ch.Holder, ch.Key, err),
					"name the file of the key, or of the share, that the challenge is for: --key FILE")
			}
			if err != nil {
				return holdfast.WithHint(fmt.Errorf("challenge %s: %w", ch.ID, err), "ask for the challenge again: \"holdfast key challenge list --to DIR\"")
			}
			answer = strings.Join(strings.Fields(answer), " ")
			return c.print(map[string]string{"challenge": ch.ID, "answer": answer}, func(o io.Writer) {
				fmt.Fprintf(o, "%s: %s\n", ch.ID, answer)
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "file of the key, or of the share")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

// keyOrShare reads what answers a challenge: a key, a share of one, or the sheet of
// either. Inside a workspace the use is recorded first.
func (c *cli) keyOrShare(path string) (seal.Identity, error) {
	text, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return seal.Identity{}, holdfast.WithHint(err, "name the file of the key, or of the share: --key FILE")
	}
	if err != nil {
		return seal.Identity{}, err
	}
	id, err := seal.ParseIdentity(text)
	if err != nil {
		s, serr := seal.ParseSheet(text)
		switch {
		case serr != nil:
			return id, holdfast.WithHint(fmt.Errorf("%s: neither a key nor a share: %w", path, serr), "name the file of the key, or of the share: --key FILE")
		case !s.Key.IsZero():
			id = s.Key
		default:
			return s.Share.Identity() // opens no backup: not a use of the key
		}
	}
	return id, c.noteUse(id, "", "challenge")
}

// noteUse records the use of a read key in the workspace, where there is one: a holder
// answers challenges, and restores, on a machine that knows of none.
func (c *cli) noteUse(id seal.Identity, store, purpose string) error {
	opt, err := c.options(slog.LevelError)
	if err != nil {
		return nil
	}
	u := app.KeyUse{At: time.Now().UTC().Truncate(time.Microsecond), Fingerprint: id.Recipient().Fingerprint(), Purpose: purpose, By: account()}
	if store != "" {
		u.Subject = "stores." + store
	}
	return app.NoteKeyUse(opt.Workspace, u)
}

// account is who works on this machine, as the machine calls them.
func account() string {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

func (c *cli) challengeAcceptCmd() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "accept CHALLENGE GROUP... --by PERSON",
		Short: "Record the answer of a holder",
		Long: `Compare an answer with the challenge. A right one proves that the holder's key or
share opened today; it is a fact in the ledger. A wrong one, a late one and a second one are
refused, which is a fact too. A mistyped letter is named by its group and recorded
nowhere.

Exit status: 0 right, 1 error, 4 refused.`,
		Example: "  $ holdfast key challenge accept c1f00ba5e9 3QJ7K … --by mia\n  mia has shown that a share of recovery opens",
		Args:    args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ch, err := cl.AnswerForKey(ctx, strings.TrimSuffix(a[0], ":"), strings.Join(a[1:], " "), by)
				if err != nil {
					return err
				}
				return c.print(ch, func(o io.Writer) {
					what := ch.Key
					if ch.Share {
						what = "a share of " + ch.Key
					}
					fmt.Fprintf(o, "%s has shown that %s opens\n", ch.Holder, what)
				})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who brings the answer: a person of the plan")
	_ = cmd.MarkFlagRequired("by")
	return cmd
}
