package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A RotateRequest asks who can read what lies in the locations and, with identities, for
// the keys of older objects to be given to those who cannot.
type RotateRequest struct {
	Recipients []seal.Recipient // in force: all of them shall read everything
	AllowOne   bool
	Identities []seal.Identity // open what is there; none: only look
	Location   string          // only this one
	Now        time.Time
	Progress   func(holdfast.Progress)
}

// A Rotated says how far one location is with one store.
type Rotated struct {
	Store    string `json:"store"`
	Location string `json:"location"`
	// Newest is the newest snapshot, and Fresh whether it was sealed to all recipients when
	// it was made.
	Newest string `json:"newest,omitempty"`
	Fresh  bool   `json:"fresh"`
	repo.Rewrapped
	Err string `json:"error,omitempty"` // why the location was left as it is
}

// Rotate looks at each location of each protected store and does what was asked, one after
// the other. A location that refuses is said and keeps nobody from the others. It needs
// no state.
func Rotate(ctx context.Context, p *plan.Plan, opt Options, r RotateRequest) ([]Rotated, error) {
	if _, ok := p.Locations[r.Location]; r.Location != "" && !ok {
		return nil, holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", r.Location, holdfast.ErrUsage), "\"holdfast location list\" lists them")
	}
	var signer seal.SigningKey
	if len(r.Identities) > 0 {
		k, err := opt.Workspace.LoadKeys()
		if err != nil {
			return nil, err
		}
		signer = k.Source
	}
	places := NewPlaces(p, writers(opt.Workspace, p)...)
	var out []Rotated
	for _, store := range slices.Sorted(maps.Keys(p.Stores)) {
		for _, location := range p.Backups[p.Stores[store].Protect].Copies.Names() {
			if r.Location != "" && r.Location != location {
				continue
			}
			one := Rotated{Store: store, Location: location}
			if err := one.rotate(ctx, places, r, signer); err != nil {
				if ctx.Err() != nil {
					return out, ctx.Err()
				}
				one.Err = err.Error()
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func (o *Rotated) rotate(ctx context.Context, places *Places, r RotateRequest, signer seal.SigningKey) error {
	at, err := places.Open(ctx, o.Location)
	if err != nil {
		return err
	}
	if at.Blind() {
		return fmt.Errorf("this machine may only write there: %w", repo.ErrBlind)
	}
	ids, err := at.SnapshotIDs(ctx, o.Store)
	if err != nil {
		return err
	}
	if n := len(ids); n > 0 {
		o.Newest = ids[n-1]
		m, err := at.Manifest(ctx, o.Store, o.Newest)
		if err == nil {
			var to []string
			to, err = at.SealedTo(ctx, m)
			o.Fresh = err == nil && !slices.ContainsFunc(r.Recipients, func(rc seal.Recipient) bool { return !slices.Contains(to, rc.Fingerprint()) })
		}
		if err != nil && !repo.IsDamage(err) { // damage is counted below, and named
			return err
		}
	}
	o.Rewrapped, err = repo.Rewrap{At: at, Scope: o.Store, Recipients: r.Recipients, AllowOne: r.AllowOne, Identities: r.Identities, Signer: signer, Now: r.Now,
		Progress: func(done, total int) {
			if r.Progress != nil {
				r.Progress(holdfast.Progress{Stage: o.Store + " at " + o.Location, Done: int64(done), Total: int64(total), Unit: "objects"})
			}
		}}.Run(ctx)
	return err
}
