package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/seal"
	"holdfast/internal/vault"
)

// work lets a process without a server run one kind of job.
func work(kind string) app.Work { return app.Work{Asked: true, Jobs: []string{kind}} }

// answerOf waits for a job and decodes what it left.
func (c *cli) answerOf(ctx context.Context, cl *api.Client, a api.Asked, what string, v any) error {
	j, err := c.wait(ctx, cl, a.Job, a.After, what)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(j.Result, v); err != nil {
		return fmt.Errorf("result of %s: %w", what, err)
	}
	return nil
}

func (c *cli) pruneCmd() *cobra.Command {
	var q vault.PruneRequest
	var at string
	var apply, dry bool
	cmd := &cobra.Command{
		Use:   "prune [--apply]",
		Short: "Delete the snapshots whose time is over",
		Long: `Say of every snapshot at every location what is kept, what goes, and why; with
--apply, delete what goes. Without it nothing is changed.

Terms come from the plan that the vault holds and count from the vault's receipts.
The newest snapshot, the last that a drill proved, what is held, and the base that
carries the log through the window never go. The guard stops a deletion where
something looks wrong, and says how to get on. What no snapshot needs any more is
deleted at least 36 hours later.

--snapshot deletes one snapshot before its time, and --override what the guard
vetoes. Both ask people of the plan to sign first ("holdfast approve").

A server does this every night. Exit status: 0 done, or nothing to do, 1 error,
3 the guard vetoed, 4 people must sign first.`,
		Example: "  $ holdfast prune\n  $ holdfast prune --at 2027-01-01\n  $ holdfast prune --apply\n  $ holdfast prune --store db --snapshot 20260301T021500Z-0a1b2c3d --by ana --reason \"case 7\"",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if apply && (dry || at != "") {
				return &usageError{holdfast.WithHint(errors.New("--apply deletes now, --at and --dry-run look"), "give one of them")}
			}
			if at != "" {
				_, p, err := c.workspacePlan()
				if err != nil {
					return err
				}
				if q.At, err = holdfast.ParseTime(at, p.Location()); err != nil {
					return &usageError{err}
				}
			}
			q.Apply = apply
			var rep vault.Report
			if err := c.withServer(cmd.Context(), work(vault.KindPrune), func(ctx context.Context, cl *api.Client) error {
				p, err := cl.Prune(ctx, q)
				if err != nil {
					return err
				}
				if rep = p.Report; p.Job != 0 {
					return c.answerOf(ctx, cl, p.Asked, "prune", &rep)
				}
				return nil
			}); err != nil {
				return err
			}
			if err := c.print(rep, func(o io.Writer) { printPruned(o, rep) }); err != nil {
				return err
			}
			c.reported = true
			return pruned(rep)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Store, "store", "", "only this store")
	f.StringVar(&q.Location, "location", "", "only at this location")
	f.StringVar(&at, "at", "", "look at another time")
	f.BoolVar(&apply, "apply", false, "delete what goes")
	f.BoolVar(&dry, "dry-run", false, "change nothing (this is the default)")
	f.StringVar(&q.Snapshot, "snapshot", "", "delete this snapshot before its time")
	f.BoolVar(&q.Override, "override", false, "delete although the guard vetoes")
	f.StringVar(&q.By, "by", "", "who asks for an early deletion")
	f.StringVar(&q.Why, "reason", "", "why")
	return cmd
}

// pruned is how a pruning ends.
func pruned(rep vault.Report) error {
	if rep.Request != nil && !rep.Applied {
		return holdfast.ErrRefused
	}
	for _, s := range rep.Shelves {
		if len(s.Vetoes) > 0 || s.Err != "" {
			return holdfast.ErrMissed
		}
	}
	if holdfast.AnyErrors(rep.Findings) {
		return holdfast.ErrMissed
	}
	return nil
}

func printPruned(o io.Writer, rep vault.Report) {
	would := "would go"
	if rep.Applied {
		would = "went"
	}
	for _, s := range rep.Shelves {
		n := s.Going()
		if rep.Applied {
			n = s.Gone
		}
		fmt.Fprintf(o, "%s at %s: %d snapshots, %d %s\n", s.Store, s.Location, len(s.Decided), n, would)
		if s.Err != "" {
			fmt.Fprintf(o, "  %s\n", s.Err)
		}
		w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
		for _, d := range s.Decided {
			verb := "goes"
			if d.Keep {
				verb = "stays"
			}
			until := ""
			if d.Keep && !d.Until.IsZero() {
				until = "until " + when(d.Until)
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", verb, d.Snapshot, d.Why, until)
		}
		w.Flush()
		for _, f := range s.Vetoes {
			printFinding(o, f)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(rep.Garbage)) {
		g := rep.Garbage[l]
		fmt.Fprintf(o, "%s: %d objects deleted (%s), %d wait", l, g.Deleted, size(g.Freed), g.Waiting)
		if !g.Due.IsZero() {
			fmt.Fprintf(o, " until %s", when(g.Due))
		}
		if g.Refused > 0 {
			fmt.Fprintf(o, ", %d refused: %s", g.Refused, g.Why)
		}
		fmt.Fprintln(o)
	}
	for _, f := range rep.Findings {
		printFinding(o, f)
	}
	if r := rep.Request; r != nil && !rep.Applied {
		fmt.Fprintf(o, "request %s waits: %s\nnext: holdfast approve %s\n", r.ID, r.Rule, r.ID)
	} else if !rep.Applied {
		fmt.Fprintln(o, "nothing was deleted; --apply does it")
	}
}

func printFinding(o io.Writer, f holdfast.Finding) {
	fmt.Fprintf(o, "  %s %s: %s\n    hint: %s\n", f.Severity, f.Code, f.Message, f.Hint)
}

func (c *cli) verifyCmd() *cobra.Command {
	var q vault.VerifyRequest
	var files bool
	cmd := &cobra.Command{
		Use:   "verify [--all] [--location NAME]",
		Short: "Read stored bytes back and name what is damaged",
		Long: `Read back what was not read for longest, and compare it with what was signed:
snapshots that are missing from a listing, packs and log that are damaged, cut or
gone (HF-V13). It also names what lies there and is no object of the repository,
such as a file that is not encrypted (HF-V14), and what is sealed to other keys than
the plan of its time says (HF-V15). A server does so every night, so that every byte is read within 30 days; what
was not is the unread share. --all reads everything now.

It needs no key that can read a backup, except with --files, which names the files
that damage costs; that use of the key is recorded.

Exit status: 0 all that was read is whole, 1 error, 3 something is damaged, foreign or
wrongly sealed, or a location could not be read.`,
		Example: "  $ holdfast verify --all\n  $ holdfast verify --location offsite --files",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var vs []vault.Verified
			if err := c.withServer(cmd.Context(), work(vault.KindVerify), func(ctx context.Context, cl *api.Client) error {
				a, err := cl.Verify(ctx, q)
				if err != nil {
					return err
				}
				if err := c.answerOf(ctx, cl, a, "verify", &vs); err != nil || !files {
					return err
				}
				for i := range vs {
					if vs[i].Damage, err = cl.Files(ctx, vs[i].Damage); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if err := c.print(vs, func(o io.Writer) { printVerified(o, vs) }); err != nil {
				return err
			}
			for _, v := range vs {
				if v.Err != "" || len(v.Damage) > 0 {
					c.reported = true
					return holdfast.ErrMissed
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&q.Location, "location", "", "only this location")
	cmd.Flags().BoolVar(&q.All, "all", false, "everything, and not only what is due")
	cmd.Flags().BoolVar(&files, "files", false, "name the files that damage costs, with the runner's key")
	return cmd
}

func printVerified(o io.Writer, vs []vault.Verified) {
	damage := false
	for _, v := range vs {
		fmt.Fprintf(o, "%s: %d objects, %s read; %s stored, %.1f %% of it not read within %.0f days\n", v.Location, v.Objects, size(v.Bytes), size(v.Reading.Bytes), 100*v.Reading.Fraction(), v.Reading.Within)
		if v.Err != "" {
			fmt.Fprintf(o, "  not all was read: %s\n", v.Err)
		}
		for _, d := range v.Damage {
			damage = damage || d.Code == vault.CodeDamage
			printDamage(o, d)
		}
	}
	if damage {
		fmt.Fprintln(o, "next: holdfast repair")
	}
}

func printDamage(o io.Writer, d vault.Damage) {
	of := ""
	if d.Store != "" {
		of = " of " + d.Store
	}
	fmt.Fprintf(o, "  %s %s%s, found %s (%s)\n    %s\n    hint: %s\n", d.What, d.Object, of, when(d.Found), d.Code, d.Detail, d.Hint)
	if len(d.Snapshots) > 0 {
		fmt.Fprintf(o, "    snapshots: %s\n", some(d.Snapshots))
	}
	if len(d.Paths) > 0 {
		fmt.Fprintf(o, "    files: %s\n", some(d.Paths))
	}
}

func some(all []string) string {
	const shown = 5
	if n := len(all) - shown; n > 0 {
		return strings.Join(all[:shown], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(all, ", ")
}

func (c *cli) repairCmd() *cobra.Command {
	var q vault.RepairRequest
	cmd := &cobra.Command{
		Use:   "repair [--apply] [--location NAME]",
		Short: "Bring damaged or missing objects back from another location",
		Long: `Look at what "holdfast verify" found damaged, and which other location has it
whole; with --apply, bring it back. Nothing is deleted and nothing overwritten: a
missing object gets its name back, and beside a damaged one lies a whole one, which
readers find.

Exit status: 0 all is whole, or can be with --apply, 1 error, 3 something is whole
nowhere.`,
		Example: "  $ holdfast repair\n  $ holdfast repair --location offsite --apply",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rs []vault.Repair
			if err := c.withServer(cmd.Context(), work(vault.KindRepair), func(ctx context.Context, cl *api.Client) error {
				a, err := cl.Repair(ctx, q)
				if err != nil {
					return err
				}
				return c.answerOf(ctx, cl, a, "repair", &rs)
			}); err != nil {
				return err
			}
			if err := c.print(rs, func(o io.Writer) { printRepairs(o, rs, q.Apply) }); err != nil {
				return err
			}
			for _, r := range rs {
				if r.From == "" || q.Apply && !r.Done {
					c.reported = true
					return holdfast.ErrMissed
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&q.Location, "location", "", "only this location")
	cmd.Flags().BoolVar(&q.Apply, "apply", false, "bring it back")
	return cmd
}

func printRepairs(o io.Writer, rs []vault.Repair, apply bool) {
	if len(rs) == 0 {
		fmt.Fprintln(o, "nothing is known to be damaged; \"holdfast verify --all\" reads everything")
	}
	for _, r := range rs {
		fmt.Fprintf(o, "%s: %s %s\n", strings.TrimPrefix(r.Store+" at "+r.Location, " at "), r.What, r.Object)
		switch {
		case r.Done:
			fmt.Fprintf(o, "  brought back from %s\n", r.From)
		case r.From != "":
			fmt.Fprintf(o, "  %s has it whole\n", r.From)
		default:
			fmt.Fprintf(o, "  %s\n", r.Why)
		}
	}
	if len(rs) > 0 && !apply {
		fmt.Fprintln(o, "nothing was changed; --apply does it")
	}
}

func (c *cli) approveCmd() *cobra.Command {
	var v api.Vote
	var file string
	var text, reject, review bool
	cmd := &cobra.Command{
		Use:   "approve [REQUEST]",
		Short: "Sign for, reject or review what needs people",
		Long: `List what waits for people, show one request, or sign for it. What deletes early or
weakens a promise needs the signatures of two people of the plan that the vault
holds; in a team that is declared small, one and a delay, with a review.

Sign the text itself, on your own machine and with your own key:

  holdfast approve REQUEST --text > request.txt
  ssh-keygen -Y sign -n holdfast-approval -f ~/.ssh/id_ed25519 request.txt
  holdfast approve REQUEST --by YOU --signature request.txt.sig

Exit status: 0 done, 1 error, 4 refused, or more signatures are needed.`,
		Example: "  $ holdfast approve\n  $ holdfast approve 3f2a… --by ana --signature request.txt.sig\n  $ holdfast approve 3f2a… --by ben --reject --note \"not before the audit\"",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var id string
			if len(a) == 1 {
				id = a[0]
			}
			voting, err := voteOf(&v, file, reject, review)
			if err == nil && id == "" && (voting || text) {
				err = holdfast.WithHint(errors.New("which request?"), "\"holdfast approve\" lists them")
			}
			if err != nil {
				return &usageError{err}
			}
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				if voting {
					return c.vote(ctx, cl, id, v)
				}
				return c.requests(ctx, cl, id, text)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&text, "text", false, "print the text to sign, and nothing else")
	f.StringVar(&v.By, "by", "", "who you are in the plan")
	f.StringVar(&file, "signature", "", "file with your signature, as ssh-keygen -Y sign makes it")
	f.BoolVar(&reject, "reject", false, "end the request")
	f.BoolVar(&review, "review", false, "say that you looked at what one person did")
	f.StringVar(&v.Note, "note", "", "why, or what you found")
	return cmd
}

// voteOf fills a vote from the flags; voting is false if nobody votes.
func voteOf(v *api.Vote, file string, reject, review bool) (voting bool, err error) {
	n := 0
	for _, x := range []struct {
		set  bool
		what string
	}{{file != "", api.VoteSign}, {reject, api.VoteReject}, {review, api.VoteReview}} {
		if x.set {
			n, v.What = n+1, x.what
		}
	}
	switch {
	case n == 0 && v.By == "":
		return false, nil
	case n != 1:
		return false, holdfast.WithHint(errors.New("sign, reject or review: one of them"), "give --signature FILE, --reject or --review")
	case v.By == "":
		return false, holdfast.WithHint(errors.New("who are you?"), "give --by with your name in the plan")
	}
	if file != "" {
		b, err := readSignature(file)
		v.Signature = string(b)
		return true, err
	}
	return true, nil
}

func (c *cli) vote(ctx context.Context, cl *api.Client, id string, v api.Vote) error {
	r, err := cl.Vote(ctx, id, v)
	if err != nil {
		return err
	}
	if err := c.print(r, func(o io.Writer) { printRequest(o, r) }); err != nil {
		return err
	}
	if r.State == vault.StateOpen {
		c.reported = true
		return holdfast.ErrRefused
	}
	return nil
}

func (c *cli) requests(ctx context.Context, cl *api.Client, id string, text bool) error {
	rs, err := cl.Requests(ctx)
	if err != nil {
		return err
	}
	if id == "" {
		return c.print(rs, func(o io.Writer) {
			if len(rs) == 0 {
				fmt.Fprintln(o, "nothing waits for people")
			}
			for _, r := range rs {
				fmt.Fprintf(o, "%s  %-8s  %s of %s, asked %s by %s, %d signatures\n", r.ID, r.State, r.Act.Kind, r.Act.Subject, when(r.At), r.Asked, len(r.Signatures))
			}
		})
	}
	i := slices.IndexFunc(rs, func(r vault.Request) bool { return r.ID == id })
	if i < 0 {
		return &usageError{holdfast.WithHint(fmt.Errorf("no request %q", id), "\"holdfast approve\" lists them")}
	}
	if text {
		_, err := io.WriteString(c.stdout, rs[i].Text)
		return err
	}
	return c.print(rs[i], func(o io.Writer) { printRequest(o, rs[i]) })
}

func printRequest(o io.Writer, r vault.Request) {
	fmt.Fprintf(o, "%s\nstate: %s; %s\n", r.Text, r.State, r.Rule)
	for _, s := range r.Signatures {
		fmt.Fprintf(o, "signed: %s, %s\n", s.By, when(s.At))
	}
	if !r.NotBefore.IsZero() && r.State == vault.StateApproved {
		fmt.Fprintf(o, "may be done from %s\n", when(r.NotBefore))
	}
	if !r.ReviewBy.IsZero() {
		fmt.Fprintf(o, "review by %s: %s\n", when(r.ReviewBy), orNone(r.Reviewed))
	}
	if r.State == vault.StateOpen {
		fmt.Fprintf(o, "sign: holdfast approve %s --text > request.txt\n      ssh-keygen -Y sign -n %s -f KEY request.txt\n      holdfast approve %s --by YOU --signature request.txt.sig\n", r.ID, vault.Namespace, r.ID)
	}
}

// readSignature reads a file that a person made. A signature is short.
func readSignature(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, holdfast.WithHint(err, "ssh-keygen -Y sign writes it beside the text, with .sig at its end")
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, seal.MaxSSHSig+1))
}

func orNone(s string) string {
	if s == "" {
		return "nobody yet"
	}
	return s
}

func (c *cli) locationListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every location: lag, completeness, what was read back, what it shares",
		Long: `For each location: is it there, what it holds of each store, how far that is behind
the newest snapshot anywhere, how much was not read back in time, and what it shares
with other locations, so that one event takes both.

Exit status: 0 all are there, complete and read back, 1 error, 3 one is not.`,
		Example: "  $ holdfast location list",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd.Context(), reading, func(ctx context.Context, cl *api.Client) error {
				ls, err := cl.Locations(ctx)
				if err != nil {
					return err
				}
				if err := c.print(ls, func(o io.Writer) { printLocations(o, ls) }); err != nil {
					return err
				}
				for _, l := range ls {
					bad := l.Err != "" || l.Reading.Damaged > 0
					for _, k := range l.Stores {
						bad = bad || k.Snapshots < k.Of || k.Lag > 0
					}
					if bad {
						c.reported = true
						return holdfast.ErrMissed
					}
				}
				return nil
			})
		},
	}
}

func printLocations(o io.Writer, ls []api.Location) {
	for _, l := range ls {
		fmt.Fprintf(o, "%s: %s at %s, failure domain %s", l.Name, l.Kind, l.Address, l.Domain)
		if !l.Locked {
			fmt.Fprint(o, ", no lock: who can write there can delete")
		}
		fmt.Fprintln(o)
		if l.Err != "" {
			fmt.Fprintf(o, "  out of reach: %s\n", l.Err)
		}
		if l.Line != "" {
			fmt.Fprintf(o, "  reached over %s\n", l.Line)
		}
		for _, k := range l.Stores {
			lag := "level with the newest"
			if k.Lag > 0 {
				lag = holdfast.FormatDuration(k.Lag) + " behind the newest"
			}
			if k.Newest.IsZero() {
				lag = "nothing yet"
			}
			fmt.Fprintf(o, "  %s: %d of %d snapshots, %s", k.Store, k.Snapshots, k.Of, lag)
			if k.Waiting > 0 {
				fmt.Fprintf(o, ", %d without a receipt", k.Waiting)
			}
			fmt.Fprintln(o)
		}
		fmt.Fprintf(o, "  read back: %.1f %% of %s not within %.0f days, %d damaged\n", 100*l.Reading.Fraction(), size(l.Reading.Bytes), l.Reading.Within, l.Reading.Damaged)
		for _, what := range slices.Sorted(maps.Keys(l.Shares)) {
			fmt.Fprintf(o, "  same %s as %s: they count once where that is lost\n", what, strings.Join(l.Shares[what], ", "))
		}
	}
}
