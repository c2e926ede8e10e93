package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// maxPassed bounds how many snapshots are looked at for one that a key opens.
const maxPassed = 200

// sealedToStrangers says why the newest snapshot of a location did not open, where that is
// so because it is sealed to keys that are none of the plan's, and which older one the given
// keys do open. A captured writer can put such snapshots, and can spoil nothing else with
// it; they are never passed over in silence, because what they hide may be newer than
// all that opens.
//
// It returns nil where the snapshot is sealed to keys of the plan: then another key has to
// be given.
func sealedToStrangers(ctx context.Context, p *plan.Plan, at *repo.Repository, store, location, snapshot string, ids []seal.Identity) error {
	all, err := at.SnapshotIDs(ctx, store)
	if err != nil || len(all) == 0 {
		return nil //nolint:nilerr // the caller has the error that matters
	}
	if snapshot == "" {
		snapshot = all[len(all)-1]
	}
	to := strangers(ctx, p, at, store, snapshot)
	if to == nil {
		return nil
	}
	err = fmt.Errorf("snapshot %s of %q at %q is sealed to %s, and to no key of the plan: no key that was given opens it", snapshot, store, location, strings.Join(to, " and "))
	who := "give one of these keys with --key FILE if you have it; if nobody knows them, find out who wrote it (\"holdfast verify --all\" names what is wrongly sealed); "
	for n, id := range slices.Backward(all) {
		if id >= snapshot || len(all)-n > maxPassed {
			continue
		}
		if m, merr := at.Manifest(ctx, store, id); merr == nil {
			if _, serr := at.Snapshot(ctx, m, ids...); serr == nil {
				return holdfast.WithHint(err, "%sthe newest before it that opens is %s, made %s: --snapshot %s", who, id, m.Created.UTC().Format("2006-01-02 15:04Z"), id)
			}
		}
	}
	return holdfast.WithHint(err, "%sanother location may hold one that opens (--location); \"holdfast points %s\" lists them", who, store)
}

// strangers are the fingerprints to which a snapshot is sealed, if none of them is a key of
// the plan; nil if one is, if the plan names no keys at all, or if that cannot be told.
func strangers(ctx context.Context, p *plan.Plan, at *repo.Repository, store, snapshot string) []string {
	if len(p.Keys) == 0 {
		return nil
	}
	m, err := at.Manifest(ctx, store, snapshot)
	if err != nil {
		return nil
	}
	to, err := at.SealedTo(ctx, m)
	if err != nil {
		return nil
	}
	for _, k := range p.Keys {
		if r, err := seal.ParseRecipient(k.Recipient); err == nil && slices.Contains(to, r.Fingerprint()) {
			return nil
		}
	}
	if len(to) == 0 {
		return []string{"nobody that it names"}
	}
	return to
}

// unopened is unreadable, or says that what was to be opened is sealed to strangers.
func unopened(ctx context.Context, p *plan.Plan, at *repo.Repository, store, location, snapshot string, ids []seal.Identity, err error) error {
	if errors.Is(err, seal.ErrNoIdentity) {
		if why := sealedToStrangers(ctx, p, at, store, location, snapshot, ids); why != nil {
			return why
		}
	}
	return unreadable(store, location, snapshot, err)
}

// markStrange says of the newest window of a location whether its newest snapshot is sealed
// to no key of the plan. Older ones may well be, after a rotation.
func markStrange(ctx context.Context, p *plan.Plan, at *repo.Repository, store string, ws []holdfast.Window) {
	if len(ws) == 0 {
		return
	}
	w := &ws[len(ws)-1]
	id := cmp.Or(w.Newest, w.Snapshot)
	if to := strangers(ctx, p, at, store, id); to != nil {
		w.Sealed = fmt.Sprintf("%s is sealed to %s, and to no key of the plan", id, strings.Join(to, " and "))
	}
}
