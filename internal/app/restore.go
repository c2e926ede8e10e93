package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
)

// A RestoreRequest asks for data back in a directory.
type RestoreRequest struct {
	Store, To, Location, Snapshot string
	Target                        holdfast.Target
	Identities                    []seal.Identity
	FilesOnly                     bool
	// Delta restores over a stopped data directory of the same database; RemoveExtra is the
	// code of the list that DeltaOf gave.
	Delta       bool
	RemoveExtra string
	// AcceptLoss is how much somebody agreed to lose where the newest state is asked for and the log
	// cannot be used up to its end. Zero: they are asked.
	AcceptLoss time.Duration
	// Use records what the identities are used for. It is called once, before they open
	// anything, and not at all if nothing is going to be read.
	Use      func()
	Progress func(holdfast.Progress)
}

// A RestoreReport is what came back, and what a person does with it.
type RestoreReport struct {
	source.Report
	Location string `json:"location"`
	To       string `json:"to"`
	Next     string `json:"next,omitempty"`
	// Lapse is what did not come back although the newest state was asked for.
	Lapse *Lapse `json:"lapse,omitempty"`
}

// openRestorer opens a store to bring it back: the store itself is not needed, nor
// what one needs to reach it.
func openRestorer(p *plan.Plan, id string, opt Options) (source.Store, error) {
	opt.Offline = true
	return OpenStore(p, id, filepath.Join(opt.Workspace.spool(), id), opt)
}

// writers are the keys of this workspace that sign backups; none where only a plan
// and a read key are left, and then whoever can write to a location is believed.
func writers(w Workspace, p *plan.Plan) []seal.VerifyKey {
	out := agentKeys(p)
	for _, role := range []string{KeySource, KeyVault} {
		if k, err := readSigningKey(w.Key(role)); err == nil {
			out = append(out, k.Public())
		}
	}
	return out
}

// Windows asks every location of a store to which instants it alone can bring it
// back. It needs neither state nor key.
//
// The locations are asked at once, so one that hangs costs no more than itself.
func Windows(ctx context.Context, p *plan.Plan, store string, opt Options) (ws []holdfast.Window, away map[string]string, err error) {
	return windowsAt(ctx, p, store, opt, p.Backups[p.Stores[store].Protect].Copies.Names(), false, true)
}

// WindowsRead is Windows after the log of a database was read at every location: what is
// damaged is not offered. Of other kinds of stores it is Windows.
func WindowsRead(ctx context.Context, p *plan.Plan, store string, opt Options) (ws []holdfast.Window, away map[string]string, err error) {
	return windowsAt(ctx, p, store, opt, p.Backups[p.Stores[store].Protect].Copies.Names(), true, true)
}

func windowsAt(ctx context.Context, p *plan.Plan, store string, opt Options, names []string, read, mark bool) (ws []holdfast.Window, away map[string]string, err error) {
	src, err := openRestorer(p, store, opt)
	if err != nil {
		return nil, nil, err
	}
	if len(names) == 0 {
		return nil, nil, holdfast.WithHint(fmt.Errorf("store %q: nothing protects it", store), "give stores.%s a \"protect\" in the plan", store)
	}
	ask := src.Windows
	if db, ok := src.(*postgres.Store); ok && read {
		ask = db.WindowsRead
	}
	places := NewPlaces(p, writers(opt.Workspace, p)...)
	got, errs := make([][]holdfast.Window, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			r, err := places.Open(ctx, name)
			if err == nil {
				got[i], err = ask(ctx, r)
			}
			if err == nil && mark {
				markStrange(ctx, p, r, store, got[i])
			}
			if err != nil {
				errs[i] = fmt.Errorf("location %q: %w", name, err)
			}
		})
	}
	all.Wait()
	away = map[string]string{}
	for i, name := range names {
		if errs[i] != nil {
			away[name] = errors.Unwrap(errs[i]).Error()
			continue
		}
		for _, w := range got[i] {
			w.Location, w.Store = name, store
			ws = append(ws, w)
		}
	}
	if len(away) == len(names) {
		return nil, away, fmt.Errorf("store %q: no location is within reach: %w", store, errors.Join(errs...))
	}
	return ws, away, nil
}

// ChooseWindow says from where a request would be answered.
func ChooseWindow(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest) (holdfast.Window, error) {
	names := p.Backups[p.Stores[r.Store].Protect].Copies.Names()
	if slices.Contains(names, r.Location) {
		names = []string{r.Location} // nobody waits for a place that was not asked for
	}
	ws, away, err := windowsAt(ctx, p, r.Store, opt, names, false, false)
	if err != nil {
		return holdfast.Window{}, err
	}
	if r.Location != "" {
		if why, ok := away[r.Location]; ok {
			return holdfast.Window{}, fmt.Errorf("location %q: %s", r.Location, why)
		}
		if _, ok := p.Locations[r.Location]; !ok {
			return holdfast.Window{}, holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", r.Location, holdfast.ErrUsage),
				"the plan's locations are %s", strings.Join(slices.Sorted(maps.Keys(p.Locations)), ", "))
		}
		ws = slices.DeleteFunc(ws, func(w holdfast.Window) bool { return w.Location != r.Location })
	}
	if len(ws) == 0 {
		return holdfast.Window{}, holdfast.WithHint(fmt.Errorf("store %q has no recovery point there", r.Store), "\"holdfast points %s\" lists what each location holds", r.Store)
	}
	slices.SortStableFunc(ws, func(a, b holdfast.Window) int {
		return cmp.Or(b.To.Compare(a.To), cmp.Compare(len(a.Hole), len(b.Hole))) // of two that reach as far, the one that goes on
	})
	if r.Target.Kind == holdfast.TargetImmediate {
		return newestBase(ws, r)
	}
	if r.Target.Kind != holdfast.TargetTime {
		return ws[0], nil
	}
	var near holdfast.Window
	for _, w := range ws {
		if !r.Target.Time.Before(w.From) && !r.Target.Time.After(w.To) {
			return w, nil
		}
		if near.From.IsZero() || gap(w, r.Target.Time) < gap(near, r.Target.Time) {
			near = w
		}
	}
	return holdfast.Window{}, holdfast.WithHint(fmt.Errorf("store %q cannot be brought back to %s: that instant is in no window", r.Store, r.Target),
		"the nearest window is %s to %s, at %q; \"holdfast points %s\" lists them all",
		near.From.UTC().Format(time.RFC3339), near.To.UTC().Format(time.RFC3339), near.Location, r.Store)
}

// newestBase takes the window with the newest base backup that can be brought back alone,
// or with the one that was named.
func newestBase(ws []holdfast.Window, r RestoreRequest) (best holdfast.Window, err error) {
	for _, w := range ws {
		if w.NewestAt.After(best.NewestAt) && (r.Snapshot == "" || r.Snapshot == w.Newest) {
			best = w
		}
	}
	if best.NewestAt.IsZero() {
		return best, holdfast.WithHint(fmt.Errorf("store %q has no base backup %q that is the newest of its window", r.Store, r.Snapshot), "\"holdfast points %s\" lists what each location holds", r.Store)
	}
	return best, nil
}

// gap is how far an instant is from a window.
func gap(w holdfast.Window, t time.Time) time.Duration {
	return max(w.From.Sub(t), t.Sub(w.To), 0)
}

// Restore brings a store back into a directory that a person named.
func Restore(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest) (RestoreReport, error) {
	if !r.Delta {
		if err := emptyDir(r.To); err != nil {
			return RestoreReport{}, err
		}
	}
	w, err := ChooseWindow(ctx, p, opt, r)
	if err != nil {
		return RestoreReport{}, err
	}
	lapse := lapseOf(p, r, w, opt.now())
	if lapse != nil {
		if err := lapse.accept(&r, w); err != nil {
			return RestoreReport{}, err
		}
	}
	src, req, err := r.open(ctx, p, opt, w.Location)
	if err != nil {
		return RestoreReport{}, err
	}
	to := req.Dir
	r.Use()
	got, err := src.Restore(ctx, req)
	if err != nil {
		err = unopened(ctx, p, req.Repo, r.Store, w.Location, r.Snapshot, r.Identities, err)
		if !r.Delta {
			err = setAside(to, err)
		}
		return RestoreReport{}, err
	}
	rep := RestoreReport{Report: got.Report(), Location: w.Location, To: to, Lapse: lapse}
	if err := got.Close(ctx); err != nil {
		return rep, err
	}
	for _, c := range rep.Checks {
		if c.Outcome == holdfast.Failed {
			return rep, fmt.Errorf("%s came back into %s, but %s failed: %s", r.Store, to, c.Name, c.Detail)
		}
	}
	if r.FilesOnly {
		rep.Next = "nothing was replayed: the engine that opens it replays first"
	} else if n, ok := src.(interface{ NextStep(dir string) string }); ok {
		rep.Next = n.NextStep(to)
	}
	return rep, nil
}

// open opens the store and the location, and says what is asked of them.
func (r *RestoreRequest) open(ctx context.Context, p *plan.Plan, opt Options, location string) (source.Store, source.Request, error) {
	src, err := openRestorer(p, r.Store, opt)
	if err != nil {
		return nil, source.Request{}, err
	}
	repository, err := NewPlaces(p, writers(opt.Workspace, p)...).Open(ctx, location)
	if err != nil {
		return nil, source.Request{}, err
	}
	account, err := sandbox.Unprivileged(ctx, "")
	if err != nil {
		return nil, source.Request{}, err
	}
	to, err := filepath.Abs(r.To)
	if err != nil {
		return nil, source.Request{}, err
	}
	return src, source.Request{Repo: repository, Identities: r.Identities, Target: r.Target, Snapshot: r.Snapshot, Dir: to, Runner: account,
		Delta: r.Delta, RemoveExtra: r.RemoveExtra, FilesOnly: r.FilesOnly, Progress: r.Progress}, nil
}

// DeltaOf says what a restore over what is in a directory would change. It reads, and
// changes nothing.
func DeltaOf(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest) (*postgres.Delta, error) {
	w, err := ChooseWindow(ctx, p, opt, r)
	if err != nil {
		return nil, err
	}
	src, req, err := r.open(ctx, p, opt, w.Location)
	if err != nil {
		return nil, err
	}
	db, ok := src.(*postgres.Store)
	if !ok {
		return nil, fmt.Errorf("store %q is no PostgreSQL: %w", r.Store, holdfast.ErrUsage)
	}
	r.Use()
	d, err := db.Delta(ctx, req)
	if err != nil {
		return nil, unreadable(r.Store, w.Location, r.Snapshot, err)
	}
	return d, nil
}

// objectName finds the object that an error of the repository names first.
var objectName = regexp.MustCompile(`"((?:packs|snapshots|logs)/[^"]+)"`)

// unreadable says in one sentence why a copy did not come back.
func unreadable(store, location, snapshot string, err error) error {
	other := "another location may hold a whole copy (--location), or an older snapshot may be whole (--snapshot); \"holdfast points %s\" lists both"
	object := ""
	if m := objectName.FindStringSubmatch(err.Error()); m != nil {
		object = m[1]
	}
	if strings.HasPrefix(object, "logs/") {
		other = "\"holdfast points %s --read\" shows how far the log is whole: --at goes up to there, --location elsewhere, --base-only to the last base backup without it"
	}
	switch {
	case errors.Is(err, seal.ErrNoIdentity):
		return holdfast.WithHint(fmt.Errorf("no key that was given opens the copy of %q at %q%w", store, location, silent{err}),
			"name the file of a private half of \"encrypt_to\" in the plan: --key FILE")
	case snapshot != "" && errors.Is(err, fs.ErrNotExist):
		return holdfast.WithHint(fmt.Errorf("there is no snapshot %q of %q at %q%w", snapshot, store, location, silent{err}), "\"holdfast points %s\" lists what each location holds", store)
	case object != "" && errors.Is(err, fs.ErrNotExist):
		return holdfast.WithHint(fmt.Errorf("the copy of %q at %q is not complete: %s is missing%w", store, location, object, silent{err}), other, store)
	case errors.Is(err, repo.ErrDamaged), errors.Is(err, seal.ErrDamaged), errors.Is(err, repo.ErrSubstituted), errors.Is(err, repo.ErrKind):
		if object != "" {
			object = ": " + object + " is not what was written"
		}
		return holdfast.WithHint(fmt.Errorf("the copy of %q at %q is damaged%s%w", store, location, object, silent{err}), other, store)
	}
	hint := holdfast.Hint(err)
	switch {
	case hint != "":
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "name a directory on a disk with more space: --to DIR"
	case errors.Is(err, fs.ErrPermission):
		hint = "name a directory that you may write, or run as root: --to DIR"
	default:
		hint = fmt.Sprintf("\"holdfast points %s\" lists what each location holds; --location and --snapshot choose", store)
	}
	return holdfast.WithHint(fmt.Errorf("restore %s from %q: %w", store, location, err), "%s", hint)
}

// setAside keeps what a failed restore left under a name that nobody takes for data
// that came back, and says so.
func setAside(to string, err error) error {
	if es, rerr := os.ReadDir(to); rerr != nil || len(es) == 0 {
		_ = os.Remove(to) // an empty folder must not pass for what was asked; it may not be there
		return err
	}
	part := to + ".incomplete"
	if _, serr := os.Lstat(part); serr == nil || os.Rename(to, part) != nil { // a mount point cannot be renamed
		return holdfast.WithHint(fmt.Errorf("%w; what is in %s is not complete", err, to), "%s", holdfast.Hint(err))
	}
	return holdfast.WithHint(fmt.Errorf("%w; what could be read is in %s", err, part), "%s", holdfast.Hint(err))
}

// emptyDir refuses a directory that holds something.
func emptyDir(dir string) error {
	es, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return holdfast.WithHint(err, "name an empty or absent directory")
	}
	if len(es) > 0 {
		return holdfast.WithHint(fmt.Errorf("%s is not empty: %w", dir, holdfast.ErrRefused), "a restore never overwrites: name an empty or absent directory")
	}
	return nil
}
