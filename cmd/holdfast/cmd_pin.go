package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/seal"
)

func (c *cli) agentPinCmd() *cobra.Command {
	var text, apply bool
	var signed []string
	cmd := &cobra.Command{
		Use:   "pin [--text | --apply --signature PERSON=FILE...]",
		Short: "Show or replace the recipients that an agent may seal to",
		Long: `Show which recipients are pinned on this machine, and what the plan asks for. An agent
seals to those that are pinned and to nobody else: they are taken from the plan at its
first start, and a plan with others is refused from then on.

Others take their place when the people who must agree, by the plan at the time of the
pin, have signed for exactly them. --text prints what they sign, each with
"ssh-keygen -Y sign -n holdfast-recipients -f KEY FILE"; --apply with one --signature
for each replaces the pin. Compare the fingerprints with those that the holders of the
keys have: "holdfast key list" on the server, or the key's sheet.

Exit status: 0 they are the same, or replaced, 1 error, 3 they differ, 4 refused.`,
		Example: `  $ holdfast agent pin
  $ holdfast agent pin --text > pin.txt
  $ holdfast agent pin --apply --signature ana=pin.txt.sig --signature ben=ben.sig`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			opt, err := c.options(slog.LevelError)
			if err != nil {
				return err
			}
			s, err := app.PinState(opt.Workspace)
			if errors.Is(err, fs.ErrNotExist) {
				return holdfast.WithHint(errors.New("nothing is pinned here yet"), "the first \"holdfast agent source\" pins the recipients of the plan")
			}
			if err != nil {
				return err
			}
			switch {
			case text:
				_, err := io.WriteString(c.stdout, s.Text)
				return err
			case apply:
				signatures, err := readSignatures(signed)
				if err != nil {
					return err
				}
				if err := app.Repin(opt.Workspace, signatures); err != nil {
					return err
				}
				return c.print(map[string]any{"pinned": s.Want, "difference": s.Difference}, func(o io.Writer) {
					fmt.Fprintf(o, "pinned: %s\n", strings.Join(s.Want, ", "))
				})
			}
			if err := c.print(s, func(o io.Writer) {
				fmt.Fprintf(o, "pinned: %s\n", strings.Join(s.Pinned, ", "))
				if s.Difference != "" {
					fmt.Fprintf(o, "the plan asks for: %s\n%s\n%d must sign of: %s\n", strings.Join(s.Want, ", "), s.Difference, s.Needed, orDash(strings.Join(s.Signers, ", ")))
				}
			}); err != nil {
				return err
			}
			return c.missed(s.Difference != "")
		},
	}
	f := cmd.Flags()
	f.BoolVar(&text, "text", false, "print what people sign")
	f.BoolVar(&apply, "apply", false, "replace the pin")
	f.StringArrayVar(&signed, "signature", nil, "a person's signature over the text: PERSON=FILE; once for each")
	return cmd
}

// readSignatures reads PERSON=FILE for each.
func readSignatures(signed []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, arg := range signed {
		who, file, ok := strings.Cut(arg, "=")
		if !ok || who == "" || file == "" {
			return nil, &usageError{holdfast.WithHint(errors.New("--signature wants PERSON=FILE"), "FILE is what ssh-keygen wrote beside the text; it ends with .sig")}
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, seal.MaxSSHSig+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out[who] = b
	}
	return out, nil
}
