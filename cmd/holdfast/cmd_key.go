package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
)

func (c *cli) keyCmd() *cobra.Command {
	return group("key", "Keys that can read backups: make, split, print, bring back, replace, and prove that they are there",
		c.keyCreateCmd(), c.keyListCmd(), c.keySplitCmd(), c.keyJoinCmd(), c.keySheetCmd(), c.keyRotateCmd(), c.keyDestroyedCmd(), c.keyChallengeCmd())
}

func (c *cli) keyCreateCmd() *cobra.Command {
	var postQuantum bool
	cmd := &cobra.Command{
		Use:   "create FILE [--post-quantum]",
		Short: "Make a read key and print its public half",
		Long: `Make a new private read key in FILE, readable by its owner only, and print the
public half for the plan's "keys". A file that is there is never overwritten.

With --post-quantum the key is ML-KEM-768 and X25519 together, which a quantum
computer of later years does not open; its public half is 1959 letters long. All keys
of "repository.encrypt_to" are of that kind or none is: one classic key beside it
would open everything.

Exit status: 0 made, 1 error.`,
		Example: "  $ holdfast key create /media/usb/holdfast-recovery.age\n  age1…\n  $ holdfast key create --post-quantum /media/usb/holdfast-recovery.age\n  age1pq1…",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			generate := seal.GenerateIdentity
			if postQuantum {
				generate = seal.GeneratePostQuantum
			}
			id, err := generate()
			if err != nil {
				return err
			}
			if err := writeKey(a[0], id); err != nil {
				return err
			}
			return c.printKey(a[0], id)
		},
	}
	cmd.Flags().BoolVar(&postQuantum, "post-quantum", false, "make a key that a quantum computer does not break (ML-KEM-768 and X25519)")
	return cmd
}

// writeKey writes a read key to a new file.
func writeKey(path string, id seal.Identity) error {
	return seal.WriteKeyFile(path, fmt.Sprintf("# holdfast read key: whoever has it can read every backup made for it\n# public half: %s\n%s\n", id.Recipient(), id.String()))
}

// printKey prints the public half of a key that was written.
func (c *cli) printKey(path string, id seal.Identity) error {
	pub := id.Recipient()
	return c.print(map[string]string{"file": path, "recipient": pub.String(), "fingerprint": pub.Fingerprint()}, func(o io.Writer) {
		fmt.Fprintln(o, pub)
		if isTerminal(os.Stdout) {
			fmt.Fprintf(c.stderr, "private half in %s; fingerprint %s\n", path, pub.Fingerprint())
		}
	})
}

func (c *cli) keySplitCmd() *cobra.Command {
	var needed, count int
	var to string
	var holders []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "split KEYFILE --to DIR --needed K --holder NAME...",
		Short: "Split a read key so that some of several people bring it back",
		Long: `Write one share of the read key in KEYFILE for each holder into DIR, as text that
can be printed and typed in by hand. Any K of the shares bring the key back; fewer
say nothing about it. KEYFILE stays as it is: delete it yourself, when "key join"
has given the same key back from the shares.

DIR must not be where the backups are. The shares are files of their owner only;
each belongs to one person, on paper or on a stick, apart from the others.

Exit status: 0 made, 1 error, 2 usage.`,
		Example: `  $ holdfast key split recovery.age --to shares --needed 2 --holder mia --holder jon --holder notary
  set 7f3a91c2: any 2 of 3 shares bring age1… back
  shares/7f3a91c2-1-mia.txt
  …`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			switch {
			case len(holders) > 0 && count != 0 && count != len(holders):
				return &usageError{holdfast.WithHint(fmt.Errorf("%d holders and --shares %d", len(holders), count), "leave --shares out: there is one share for each --holder")}
			case len(holders) > 0:
				count = len(holders)
			}
			if count < seal.MinThreshold || count > seal.MaxShares || needed < seal.MinThreshold || needed > count {
				return &usageError{holdfast.WithHint(fmt.Errorf("%d needed of %d shares", needed, count),
					"name at least two holders, at most %d, and with --needed how many of them it takes: at least 2", seal.MaxShares)}
			}
			id, err := app.ReadIdentity(a[0])
			if err != nil {
				return err
			}
			shares, err := seal.Split(id, needed, count, holders, time.Now())
			if err != nil {
				return err
			}
			if dry {
				return c.print(map[string]any{"shares": count, "needed": needed, "recipient": id.Recipient()}, func(o io.Writer) {
					fmt.Fprintf(o, "would write %d shares of %s into %s, of which any %d bring it back\n", count, named(id.Recipient()), to, needed)
				})
			}
			return c.writeShares(to, id, shares)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "folder for the shares; made if absent")
	f.IntVar(&needed, "needed", 0, "how many shares bring the key back")
	f.IntVar(&count, "shares", 0, "how many shares to make (default: one for each --holder)")
	f.StringArrayVar(&holders, "holder", nil, "who keeps a share; once for each")
	f.BoolVar(&dry, "dry-run", false, "say what would be made, and make nothing")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagRequired("needed")
	return cmd
}

// named is a recipient for the eye: whole, or its fingerprint where it fills a page.
func named(r seal.Recipient) string {
	if r.PostQuantum() {
		return "the post-quantum key " + r.Fingerprint()
	}
	return r.String()
}

// A madeShare is a share that was written, without its secret.
type madeShare struct {
	File      string `json:"file"`
	Holder    string `json:"holder,omitempty"`
	Recipient string `json:"recipient"` // for challenges; may be published
}

// shareFiles writes one file for each share into a folder. beside is called after each, to
// put something beside it; nil puts nothing.
func shareFiles(to string, shares []seal.Share, beside func(path, text string) error) (made []madeShare, err error) {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return nil, err
	}
	for _, s := range shares {
		text, err := s.Text()
		if err != nil {
			return nil, err
		}
		own, err := s.Identity()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s-%d", s.SetText(), s.Index)
		if part := fileName(s.Holder); part != "" {
			name += "-" + part
		}
		path := filepath.Join(to, name+".txt")
		if err := seal.WriteKeyFile(path, text); err != nil {
			return nil, err
		}
		if beside != nil {
			if err := beside(path, text); err != nil {
				return nil, err
			}
		}
		made = append(made, madeShare{path, s.Holder, own.Recipient().String()})
	}
	return made, nil
}

// writeShares writes one file for each share. A crash in the middle leaves some shares
// of a set that nobody was told of: they are deleted, and the key is split again.
func (c *cli) writeShares(to string, id seal.Identity, shares []seal.Share) error {
	made, err := shareFiles(to, shares, nil)
	if err != nil {
		return err
	}
	out := map[string]any{"set": shares[0].SetText(), "needed": shares[0].Threshold, "recipient": id.Recipient(), "shares": made}
	return c.print(out, func(o io.Writer) {
		fmt.Fprintf(o, "set %s: any %d of %d shares bring %s back\n", shares[0].SetText(), shares[0].Threshold, len(shares), named(id.Recipient()))
		for _, m := range made {
			fmt.Fprintln(o, m.File)
		}
		fmt.Fprintf(o, "\nFor the plan, so that holders can be asked whether they still have them:\n  shares:\n    needed: %d\n    holders:\n", shares[0].Threshold)
		for i, m := range made {
			holder := m.Holder
			if holder == "" {
				holder = fmt.Sprintf("person-%d", i+1)
			}
			fmt.Fprintf(o, "      %s: %s\n", holder, m.Recipient)
		}
	})
}

// fileName makes a part of a file's name of what a person is called.
func fileName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s), "-")
}

func (c *cli) keyJoinCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "join --to FILE SHARE...",
		Short: "Bring a read key back from its shares, or from its sheet",
		Long: `Read shares that "key split" made, or one sheet that "key sheet" made, and write
the read key into FILE, readable by its owner only. Each SHARE is a file with the
text of the share or only its groups as somebody typed them; "-" is standard input.

Too few shares, shares of different sets, the same share twice and wrong letters are
named; a group with a wrong letter by its number. What comes out is compared with
the fingerprint that the shares carry.

Exit status: 0 written, 1 error.`,
		Example: "  $ holdfast key join --to recovery.age mia.txt notary.txt\n  age1…",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			id, err := joined(a, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if err := writeKey(to, id); err != nil {
				return err
			}
			return c.printKey(to, id)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file for the key; must be absent")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func joinHint(err error) error {
	if few, ok := errors.AsType[*seal.TooFewError](err); ok {
		return holdfast.WithHint(err, "ask another holder of set %s for a share; the plan's \"keys\" name them", few.Set)
	}
	return holdfast.WithHint(err, "the label \"set\" of each share says to which split it belongs; \"share\" says which it is")
}

// readSheet reads a share or a whole key from a file.
func readSheet(path string, stdin io.Reader) (seal.Sheet, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return seal.Sheet{}, holdfast.WithHint(err, "name the files of the shares, or \"-\" to type one in")
		}
		if err != nil {
			return seal.Sheet{}, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, seal.MaxSheet+1))
	if err != nil {
		return seal.Sheet{}, fmt.Errorf("%s: %w", path, err)
	}
	s, err := seal.ParseSheet(string(b))
	if group, ok := errors.AsType[*seal.GroupError](err); ok {
		return s, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "compare group %d with the paper: five groups are a line", group.Group)
	}
	if err != nil {
		return s, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "it is the text that \"holdfast key split\" or \"holdfast key sheet\" wrote, or its groups of five letters")
	}
	return s, nil
}

func (c *cli) keySheetCmd() *cobra.Command {
	var holder string
	var html bool
	cmd := &cobra.Command{
		Use:   "sheet FILE",
		Short: "Print a read key or a share for paper, to be typed in by hand",
		Long: `Print what FILE holds, a read key or a share, as a sheet for the safe: groups of
five letters, of which the last checks the others, and what to do with them. With
--html it is a page for a printer.

The sheet is the key itself: print it, and leave no copy on the disk.

Exit status: 0 printed, 1 error.`,
		Example: "  $ holdfast key sheet recovery.age --holder mia | lp\n  $ holdfast key sheet shares/7f3a91c2-1-mia.txt --html > /dev/shm/sheet.html",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			text, err := sheetOf(a[0], holder)
			if err != nil {
				return err
			}
			if html {
				page, err := survive.SheetPage(text)
				if err != nil {
					return err
				}
				_, err = c.stdout.Write(page)
				return err
			}
			return c.print(map[string]string{"sheet": text}, func(o io.Writer) { fmt.Fprint(o, text) })
		},
	}
	cmd.Flags().StringVar(&holder, "holder", "", "who keeps the sheet")
	cmd.Flags().BoolVar(&html, "html", false, "print an HTML page")
	return cmd
}

// sheetOf returns the sheet of a key file, or of a share.
func sheetOf(path, holder string) (string, error) {
	text, err := seal.ReadKeyFile(path)
	if err != nil {
		return "", err
	}
	if id, err := seal.ParseIdentity(text); err == nil {
		return id.Sheet(holder, time.Now())
	}
	s, err := seal.ParseSheet(text)
	switch {
	case err != nil:
		return "", holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "name a file that \"holdfast key create\" or \"holdfast key split\" made")
	case !s.Key.IsZero():
		return s.Key.Sheet(holder, time.Now())
	case holder != "":
		s.Share.Holder = holder
	}
	return s.Share.Text()
}
