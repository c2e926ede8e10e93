package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// anchorEvery is how often the head of the ledger is put out of our own reach.
const anchorEvery = time.Minute

// anchorWithin bounds how long a start waits for one location's anchors. One that
// takes longer is asked again while the server runs.
const anchorWithin = 20 * time.Second

// maxForeign is how many anchors that are not ours are passed over at a location:
// whoever can write there must not be able to keep us reading for ever.
const maxForeign = 1000

const anchorPrefix = "ledger-"

// anchor puts signed checkpoints of the ledger into every location.
func (a *App) anchor(ctx context.Context) {
	pause := a.pauses(ctx)
	for {
		if !pause(anchorEvery) {
			return
		}
		if err := a.Anchor(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("ledger not anchored everywhere", "err", err, "hint", holdfast.Hint(err))
		}
	}
}

// Anchor puts a checkpoint of the ledger into every location within reach. A
// location that was away until now is first asked for what it knows of the ledger.
func (a *App) Anchor(ctx context.Context) error {
	signed, err := a.Ledger.Checkpoint(ctx)
	if err != nil {
		return err
	}
	v, err := seal.NoteVerifier(a.Keys.Log.Public())
	if err != nil {
		return err
	}
	tree, err := ledger.OpenCheckpoint(signed, a.Ledger.Origin(), v)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		if err := a.anchorAt(ctx, name, tree, signed); err != nil {
			errs = append(errs, fmt.Errorf("location %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (a *App) anchorAt(ctx context.Context, name string, tree ledger.Tree, signed []byte) error {
	r, err := a.Places.Open(ctx, name)
	if err != nil {
		return err
	}
	if err := a.extendsAt(ctx, name, r); err != nil {
		return err
	}
	anchor := fmt.Sprintf("%s%012d", anchorPrefix, tree.Size)
	err = r.PutAnchor(ctx, anchor, signed)
	if errors.Is(err, fs.ErrExist) {
		// Of another history of this ledger, whose loss a person has accepted.
		err = r.PutAnchor(ctx, anchor+"-"+hex.EncodeToString(tree.Root[:4]), signed)
	}
	return err
}

// extendsAnchors compares the ledger with the newest anchor of every location within
// reach. It comes before the first fact of a process: what a state restored from an
// older copy would write next would be a second history.
func (a *App) extendsAnchors(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, anchorWithin)
			defer cancel()
			r, err := a.Places.Open(ctx, name)
			if err != nil {
				return err
			}
			return a.extendsAt(ctx, name, r)
		}()
		switch {
		case outdated(err):
			return fmt.Errorf("location %q: %w", name, err)
		case err != nil:
			// It is asked when it is back, before the next anchor goes there.
			a.opt.Log.Warn("the ledger was not compared with a location's anchors", "location", name, "err", err)
		}
	}
	if err := a.Ledger.Refused(ctx); err != nil {
		return a.refusal(err)
	}
	return nil
}

func outdated(err error) bool {
	return errors.Is(err, ledger.ErrTruncated) || errors.Is(err, ledger.ErrFork)
}

// extendsAt compares the ledger with the newest anchor of one location, once.
func (a *App) extendsAt(ctx context.Context, name string, r *repo.Repository) error {
	if _, done := a.compared.Load(name); done {
		return nil
	}
	newest, err := a.newestAnchor(ctx, r)
	if err != nil {
		return err
	}
	if newest != nil {
		v, err := seal.NoteVerifier(a.Keys.Log.Public())
		if err != nil {
			return err
		}
		if err := a.Ledger.Extends(ctx, newest, v); outdated(err) {
			return a.refusal(err)
		} else if err != nil {
			return err
		}
	}
	a.compared.Store(name, true)
	return nil
}

func (a *App) refusal(err error) error {
	return holdfast.WithHint(fmt.Errorf("the state is older than what it signed before, or another one: %w", err),
		"put the newest state back; if it is lost for good, a person says so with \"holdfast evidence accept-loss --by PERSON --reason TEXT\"")
}

// newestAnchor returns the newest anchor of our ledger at a location; nil if there
// is none. What others put there under such a name is passed over.
func (a *App) newestAnchor(ctx context.Context, r *repo.Repository) ([]byte, error) {
	names, err := r.Anchors(ctx)
	if err != nil {
		return nil, err
	}
	v, err := seal.NoteVerifier(a.Keys.Log.Public())
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return anchorSize(n) < 0 })
	slices.SortFunc(names, func(x, y string) int {
		if d := anchorSize(y) - anchorSize(x); d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(x, y)
	})
	for i, n := range names {
		if i == maxForeign {
			return nil, fmt.Errorf("the newest %d anchors there are not ours", maxForeign)
		}
		signed, err := r.ReadAnchor(ctx, n)
		if err != nil {
			return nil, err
		}
		if _, err := ledger.OpenCheckpoint(signed, a.Ledger.Origin(), v); err != nil {
			a.opt.Log.Warn("an anchor is not ours", "anchor", n, "err", err)
			continue
		}
		return signed, nil
	}
	return nil, nil
}

// anchorSize is the size of the ledger that an anchor's name tells; -1 if it is none.
func anchorSize(name string) int64 {
	digits, ok := strings.CutPrefix(name, anchorPrefix)
	if !ok {
		return -1
	}
	digits, _, _ = strings.Cut(digits, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// AcceptLoss records that facts which the ledger once held, as anchors in the
// locations say, are lost for good, and lets it go on. It returns how many anchors
// it accepted the loss of; none if nothing is missing.
func (a *App) AcceptLoss(ctx context.Context, by, reason string) (n int, err error) {
	if err := a.person(by); err != nil {
		return 0, err
	}
	v, err := seal.NoteVerifier(a.Keys.Log.Public())
	if err != nil {
		return 0, err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		r, err := a.Places.Open(ctx, name)
		if err != nil {
			a.opt.Log.Warn("location not asked for anchors", "location", name, "err", err)
			continue
		}
		newest, err := a.newestAnchor(ctx, r)
		if err != nil {
			return n, fmt.Errorf("location %q: %w", name, err)
		}
		if newest == nil {
			continue
		}
		if err := a.Ledger.Extends(ctx, newest, v); err == nil {
			continue
		} else if !outdated(err) {
			return n, fmt.Errorf("location %q: %w", name, err)
		}
		if err := a.DB.Tx(ctx, func(tx *db.Tx) error {
			_, err := a.Ledger.AcceptLoss(ctx, tx, newest, v, by, reason)
			return err
		}); err != nil {
			return n, fmt.Errorf("location %q: %w", name, err)
		}
		n++
	}
	return n, nil
}
