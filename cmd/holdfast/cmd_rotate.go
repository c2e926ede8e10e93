package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/backup"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// rotateOptions are the flags of the command.
type rotateOptions struct {
	replace  []string
	rewrap   bool
	keys     []string
	location string
	purpose  string
	apply    bool
	dedup    bool
	stores   []string
}

func (c *cli) keyRotateCmd() *cobra.Command {
	var opt rotateOptions
	cmd := &cobra.Command{
		Use:   "rotate [--replace KEY=RECIPIENT] [--rewrap --key FILE] [--apply]",
		Short: "Move backups to the keys that the plan names now",
		Long: `Show for each store and location whether the keys in force can read what lies there.
Nothing is changed without --apply. With it, each store whose newest snapshot was sealed
to other keys is backed up, and with --rewrap the keys of older packs and pieces of log
are given to the keys in force too. For that FILE must be a private key that opens them
as they are; older objects are not changed, and nobody loses what they could read.

--replace writes the public half RECIPIENT, which "key create" printed where the new key
is kept, into the plan in place of KEY's; several keys are replaced in one run, as all
of them must be to go from classic keys to post-quantum ones. A plan in which people can sign then waits for
their signatures, and backups go on for the keys before; run this again when it is in
force. The old private key is needed until a run with --rewrap leaves nothing.

It may be stopped anywhere and run again. A location that refuses is named, and the
others go on.

--dedup is about the key that names chunks, on this machine: a server's, or an agent's.
Whoever has it and sees a location's objects can find out whether content that he knows
is among them, and no more. With --apply each store gets a new one; its next backup
stores all content anew, once, and older snapshots stay as readable as they were.
repository.dedup_epoch does so by itself. It needs no server.

Exit status: 0 done or shown, 1 error, 2 usage, 3 something could not be moved,
4 a change of keys waits for signatures.`,
		Example: `  $ holdfast key rotate --replace key-b=age1… --apply
  $ holdfast key rotate
  STORE    LOCATION  NEWEST FOR THESE KEYS  OBJECTS  READABLE  LEFT
  uploads  near      no                     12       0         12
  $ holdfast key rotate --rewrap --key old.age --apply --purpose "ticket 381"
  $ holdfast key rotate --dedup --store uploads --apply
  uploads: named by a new key; its next backup stores all content anew, once`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(opt.stores) > 0 && !opt.dedup {
				return &usageError{holdfast.WithHint(errors.New("--store is for --dedup"), "add --dedup")}
			}
			if opt.dedup {
				if len(opt.replace) > 0 || opt.rewrap || len(opt.keys) > 0 || opt.location != "" {
					return &usageError{holdfast.WithHint(errors.New("--dedup stands alone: it changes no key that reads backups"), "run it without the other flags")}
				}
				return c.renameChunks(opt)
			}
			if len(opt.keys) > 0 && !opt.rewrap {
				return &usageError{holdfast.WithHint(errors.New("--key is for --rewrap"), "add --rewrap")}
			}
			if len(opt.replace) > 0 {
				if opt.rewrap {
					return &usageError{holdfast.WithHint(errors.New("--replace and --rewrap are two steps"), "replace first; rewrap when the new plan is in force")}
				}
				return c.replaceKeys(opt)
			}
			return c.rotate(cmd.Context(), opt)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opt.replace, "replace", nil, "write another public half for a key of the plan: KEY=age1…; may be repeated")
	f.BoolVar(&opt.rewrap, "rewrap", false, "give the keys of older objects to the keys in force")
	f.StringArrayVar(&opt.keys, "key", nil, "private key that opens older objects; may be repeated (default: the workspace's keys/runner.age)")
	f.StringVar(&opt.location, "location", "", "only at this location")
	f.StringVar(&opt.purpose, "purpose", os.Getenv("HOLDFAST_PURPOSE"), "what the read key is used for, for --rewrap (default: $HOLDFAST_PURPOSE)")
	f.BoolVar(&opt.dedup, "dedup", false, "change the key that names chunks, and no key that reads backups")
	f.StringArrayVar(&opt.stores, "store", nil, "with --dedup: only of this store; may be repeated (default: every protected store)")
	f.BoolVar(&opt.apply, "apply", false, "do it")
	return cmd
}

// A naming is what --dedup prints of one store.
type naming struct {
	Store string    `json:"store"`
	Since time.Time `json:"since"` // when the key came into use; with --apply, the new one
}

// renameChunks begins a new epoch of the keys that name chunks. It needs neither state nor
// server: a backup reads the key when it begins.
func (c *cli) renameChunks(o rotateOptions) error {
	opt, p, err := c.workspacePlan()
	if err != nil {
		return err
	}
	stores := slices.Compact(slices.Sorted(slices.Values(o.stores)))
	for _, id := range stores {
		if p.Stores[id].Protect == "" {
			return &usageError{holdfast.WithHint(fmt.Errorf("store %q is not in the plan, or nothing protects it", id), "\"holdfast store list\" lists the stores")}
		}
	}
	if len(stores) == 0 {
		stores = slices.DeleteFunc(sortedKeys(p.Stores), func(id string) bool { return p.Stores[id].Protect == "" })
	}
	in := app.Namings
	if o.apply {
		in = func(w app.Workspace, stores []string) (map[string]backup.Naming, error) {
			return app.RenameChunks(w, stores, opt.Clock())
		}
	}
	ns, err := in(opt.Workspace, stores)
	if err != nil {
		return err
	}
	out := []naming{}
	for _, id := range stores {
		out = append(out, naming{Store: id, Since: ns[id].Since})
	}
	return c.print(map[string]any{"stores": out, "applied": o.apply}, func(w io.Writer) {
		for _, n := range out {
			if o.apply {
				fmt.Fprintf(w, "%s: named by a new key; its next backup stores all content anew, once\n", n.Store)
				continue
			}
			fmt.Fprintf(w, "%s: named by one key since %s\n", n.Store, when(n.Since))
		}
		if !o.apply {
			fmt.Fprintln(w, "\nNothing was changed. With --apply the next backup of each stores all content anew, once.")
		}
	})
}

// A replacedKey is a recipient that took the place of another.
type replacedKey struct {
	Key    string         `json:"key"`
	Before string         `json:"before"`
	After  seal.Recipient `json:"after"`
}

// replaceKeys writes other recipients into the plan. The file is replaced whole: a crash
// leaves the one or the other.
func (c *cli) replaceKeys(opt rotateOptions) error {
	var asked []replacedKey
	for _, arg := range opt.replace {
		id, text, ok := strings.Cut(arg, "=")
		next, err := seal.ParseRecipient(text)
		if !ok || err != nil {
			return &usageError{holdfast.WithHint(fmt.Errorf("--replace wants KEY=RECIPIENT"), "\"holdfast key create FILE\", where the new key is kept, prints its recipient; it begins with age1")}
		}
		asked = append(asked, replacedKey{Key: id, After: next})
	}
	o, p, err := c.workspacePlan()
	if err != nil {
		return err
	}
	path := o.Workspace.Plan()
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	after := string(before)
	for i, r := range asked {
		if err := replaceable(p, r); err != nil {
			return err
		}
		was := p.Keys[r.Key].Recipient
		if n := strings.Count(after, was); n != 1 {
			return holdfast.WithHint(fmt.Errorf("the recipient of %q stands %d times in %s", r.Key, n, path), "write the new one into the plan by hand")
		}
		after = strings.Replace(after, was, r.After.String(), 1)
		asked[i].Before = was
	}
	changed, err := plan.Parse(path, []byte(after))
	if err != nil {
		return err
	}
	if err := app.CheckRecipients(changed); errors.Is(err, seal.ErrMixed) {
		return &usageError{err}
	}
	changes := plan.Diff(p, changed)
	if opt.apply {
		if err := writeOut(path, []byte(after)); err != nil {
			return err
		}
	}
	return c.print(map[string]any{"replaced": asked, "written": opt.apply, "changes": changes}, func(w io.Writer) {
		verb := "would write"
		if opt.apply {
			verb = "wrote"
		}
		for _, r := range asked {
			fmt.Fprintf(w, "%s %s into %s:\n", verb, named(r.After), path)
		}
		for _, ch := range changes {
			fmt.Fprintf(w, "  %s\n", ch)
		}
		if opt.apply {
			fmt.Fprintln(w, "\nRestart the server, sign what \"holdfast approve\" lists, then run \"holdfast key rotate --apply\".\nKeep the old private key until \"holdfast key rotate --rewrap\" leaves nothing.")
		}
	})
}

// replaceable reports why a key of the plan cannot have a recipient.
func replaceable(p *plan.Plan, r replacedKey) error {
	if _, ok := p.Keys[r.Key]; !ok {
		return &usageError{holdfast.WithHint(fmt.Errorf("key %q is not in the plan", r.Key), "the plan's keys are %s", strings.Join(sortedKeys(p.Keys), ", "))}
	}
	for other, was := range p.Keys {
		if was.Recipient == r.After.String() {
			return &usageError{holdfast.WithHint(fmt.Errorf("key %q has that recipient already", other), "make a new key with \"holdfast key create\"")}
		}
	}
	return nil
}

// A rotation is what the command prints.
type rotation struct {
	Recipients []string           `json:"recipients"` // fingerprints of the keys in force
	Waiting    []holdfast.Finding `json:"waiting"`    // why the written plan is not in force
	BackedUp   []string           `json:"backed_up"`
	Places     []app.Rotated      `json:"places"`
	Applied    bool               `json:"applied"`
}

func (c *cli) rotate(ctx context.Context, o rotateOptions) error {
	opt, p, err := c.workspacePlan()
	if err != nil {
		return err
	}
	var out rotation
	var refused error
	work := app.Work{Asked: true, Jobs: []string{backup.KindSnapshot, backup.KindReceive}, Logs: true}
	if !o.apply {
		work = reading
	}
	err = c.withServer(ctx, work, func(ctx context.Context, cl *api.Client) error {
		r, err := c.inForce(ctx, cl, p, o, &out)
		if err != nil {
			return err
		}
		r.Now = opt.Clock()
		if refused = out.refusal(p, r); refused != nil && o.apply {
			return nil // nothing is given to keys that wait, nor sealed anew for those that go
		}
		if o.apply {
			if err := c.backUpStale(ctx, cl, p, opt, r, &out); err != nil {
				return err
			}
			if o.rewrap {
				if r.Identities, err = c.oldKeys(opt, o); err != nil {
					return err
				}
			}
		}
		b := newBar(c.stderr, "keys")
		r.Progress = b.progress
		out.Places, err = app.Rotate(ctx, p, opt, r)
		b.end()
		if err != nil || !o.apply || !o.rewrap {
			return err
		}
		return cl.Rewrapped(ctx, api.Rewrap{Recipients: out.Recipients, Purpose: o.purpose, By: account(), Places: rewraps(out.Places)})
	})
	if err != nil {
		return err
	}
	if o.apply && refused != nil {
		return refused
	}
	out.Applied = o.apply
	if err := c.print(out, func(w io.Writer) { out.write(w, o) }); err != nil {
		return err
	}
	if slices.ContainsFunc(out.Places, func(x app.Rotated) bool { return x.Err != "" || o.apply && (x.Stuck > 0 || o.rewrap && x.Left() > 0) }) {
		c.reported = true
		return holdfast.ErrMissed
	}
	return nil
}

// inForce asks which keys are in force: not those of a plan that waits for signatures.
func (c *cli) inForce(ctx context.Context, cl *api.Client, p *plan.Plan, o rotateOptions, out *rotation) (app.RotateRequest, error) {
	r := app.RotateRequest{Location: o.location, AllowOne: p.Repository.AllowOneRecipient}
	ks, err := cl.Keys(ctx)
	if err != nil {
		return r, err
	}
	for _, s := range ks.Holders {
		to, err := seal.ParseRecipient(s.Recipient)
		if err != nil || !s.Seals || slices.Contains(r.Recipients, to) {
			continue
		}
		r.Recipients, out.Recipients = append(r.Recipients, to), append(out.Recipients, to.Fingerprint())
	}
	v, err := cl.Overview(ctx)
	for _, f := range v.Findings {
		if f.Subject == "plan" || f.Subject == "plan.effective" {
			out.Waiting = append(out.Waiting, f)
		}
	}
	return r, err
}

// refusal says why nothing is done: the plan as it is written has other keys than those
// in force.
func (o rotation) refusal(p *plan.Plan, r app.RotateRequest) error {
	written := p.EncryptTo()
	if len(written) == len(r.Recipients) && !slices.ContainsFunc(r.Recipients, func(to seal.Recipient) bool { return !slices.Contains(written, to.String()) }) {
		return nil
	}
	hint := "restart the server so that it reads the plan; \"holdfast approve\" lists what waits for signatures"
	for _, f := range o.Waiting {
		if f.Hint != "" {
			hint = f.Hint
		}
	}
	return holdfast.WithHint(fmt.Errorf("the keys of the plan as it is written are not in force: %w", holdfast.ErrRefused), "%s", hint)
}

// backUpStale backs up each store of which some location has no snapshot for the keys in
// force.
func (c *cli) backUpStale(ctx context.Context, cl *api.Client, p *plan.Plan, opt app.Options, r app.RotateRequest, out *rotation) error {
	look := r
	look.Identities = nil
	places, err := app.Rotate(ctx, p, opt, look)
	if err != nil {
		return err
	}
	for _, x := range places {
		if x.Err != "" || x.Fresh || slices.Contains(out.BackedUp, x.Store) || p.Stores[x.Store].Agent != nil {
			continue
		}
		asked, err := cl.Backup(ctx, x.Store, "the keys were changed")
		if err != nil {
			return err
		}
		if _, err := c.wait(ctx, cl, asked.Job, asked.After, "backup "+x.Store); err != nil {
			return err
		}
		out.BackedUp = append(out.BackedUp, x.Store)
	}
	return nil
}

// oldKeys opens the private keys that read older objects, and records what for.
func (c *cli) oldKeys(opt app.Options, o rotateOptions) (ids []seal.Identity, err error) {
	if o.purpose == "" {
		return nil, &usageError{holdfast.WithHint(errors.New("a read key needs --purpose"), "write an incident, a ticket or a reason; it is recorded")}
	}
	files := o.keys
	if len(files) == 0 {
		files = []string{opt.Workspace.Key(app.KeyRunner)}
	}
	for _, file := range files {
		id, err := app.ReadIdentity(file)
		if err != nil {
			return nil, err
		}
		if err := c.noteUse(id, "", "rewrap: "+o.purpose); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// rewraps is what was done, for the record.
func rewraps(places []app.Rotated) (out []api.RewrapPlace) {
	for _, x := range places {
		out = append(out, api.RewrapPlace{Store: x.Store, Location: x.Location, Objects: x.Objects, Readable: x.Readable, Given: x.Given, Stuck: x.Stuck, Error: x.Err})
	}
	return out
}

func (out rotation) write(o io.Writer, opt rotateOptions) {
	fmt.Fprintf(o, "keys in force: %s\n", strings.Join(out.Recipients, ", "))
	for _, f := range out.Waiting {
		fmt.Fprintf(o, "%s: %s\n    %s\n", f.Severity, f.Message, f.Hint)
	}
	for _, s := range out.BackedUp {
		fmt.Fprintf(o, "%s: backed up for them\n", s)
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tLOCATION\tNEWEST FOR THESE KEYS\tOBJECTS\tREADABLE\tLEFT")
	left := 0
	for _, x := range out.Places {
		newest := "no"
		switch {
		case x.Err != "":
			fmt.Fprintf(w, "%s\t%s\trefused: %s\t\t\t\n", x.Store, x.Location, x.Err)
			continue
		case x.Newest == "":
			newest = "none there"
		case x.Fresh:
			newest = "yes"
		}
		left += x.Left()
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\n", x.Store, x.Location, newest, x.Objects, x.Readable+x.Given, x.Left())
	}
	w.Flush()
	for _, x := range out.Places {
		for _, why := range x.Why {
			fmt.Fprintf(o, "%s at %s: %s\n", x.Store, x.Location, why)
		}
	}
	switch {
	case left > 0 && !opt.apply:
		fmt.Fprintln(o, "\nNothing was changed. \"holdfast key rotate --apply\" backs up for the keys in force; with --rewrap --key FILE they read older backups too.")
	case left > 0 && !opt.rewrap:
		fmt.Fprintln(o, "\nThe rest is read by the keys of its time: keep those, or run it with --rewrap --key FILE.")
	}
}
