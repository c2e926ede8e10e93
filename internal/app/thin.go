package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	sumdb "golang.org/x/mod/sumdb/note"

	"holdfast/internal/ledger"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// How many anchors of the ledger stay at a location: every one for two days, then one for
// an hour, a day, a month. A later checkpoint holds all that an earlier one held, so an
// anchor that goes takes nothing but the minute at which its facts were there already.
const (
	anchorsAll    = 48 * time.Hour
	anchorsHourly = 35 * 24 * time.Hour
	anchorsDaily  = 400 * 24 * time.Hour
	// maxThinned bounds what one night deletes at a location. Each is read before.
	maxThinned = 5000
)

// stretch names the time for which one anchor stays; empty: each stays.
func stretch(at, now time.Time) string {
	at = at.UTC()
	switch age := now.Sub(at); {
	case age <= anchorsAll:
		return ""
	case age <= anchorsHourly:
		return at.Format("2006-01-02T15")
	case age <= anchorsDaily:
		return at.Format("2006-01-02")
	}
	return at.Format("2006-01")
}

// thinCheckpoints deletes stored checkpoints whose anchors have been thinned at every
// location that lets them go: a minute is worth a row for a month.
func (a *App) thinCheckpoints(ctx context.Context) error {
	now := a.opt.Clock()
	_, err := a.Ledger.ThinCheckpoints(ctx, now.Add(-anchorsHourly), func(at time.Time) string { return stretch(at, now) })
	return err
}

// signedAt is when the checkpoint of an anchor was signed. One that the state keeps no more
// was signed no later than the next that it keeps.
func signedAt(times map[int64]time.Time, kept []int64, size int64) (time.Time, bool) {
	i, _ := slices.BinarySearch(kept, size)
	if i == len(kept) {
		return time.Time{}, false
	}
	return times[kept[i]], true
}

// thinAnchors deletes the anchors of a location for which a later one stands, if they are
// older than before: a lock may still hold the younger ones.
func (a *App) thinAnchors(ctx context.Context, r *repo.Repository, before time.Time) (int, error) {
	v, err := seal.NoteVerifier(a.Keys.Log.Public())
	if err != nil {
		return 0, err
	}
	return thin(ctx, a.Ledger, v, r, a.opt.Clock(), before)
}

// thin deletes an anchor only if it and the one that stands for it are there, are ours and
// say what the ledger says. One that says something else is proof of another history, and
// stays. A crash leaves the rest for the next night; so does a place that refuses.
func thin(ctx context.Context, l *ledger.Log, v sumdb.Verifier, r *repo.Repository, now, before time.Time) (gone int, err error) {
	names, err := r.Anchors(ctx)
	if err != nil {
		return 0, err
	}
	if latest := now.Add(-anchorsAll); before.After(latest) {
		before = latest
	}
	times, err := l.CheckpointTimes(ctx, before)
	if err != nil {
		return 0, err
	}
	kept := slices.Sorted(maps.Keys(times))
	by := map[string][]int64{} // sizes
	for _, n := range names {
		size := anchorSize(n)
		// Only what bears the plain name: others are of a history whose loss was accepted.
		if at, ok := signedAt(times, kept, size); ok && n == fmt.Sprintf("%s%012d", anchorPrefix, size) {
			if s := stretch(at, now); s != "" {
				by[s] = append(by[s], size)
			}
		}
	}
	ours := func(size int64) (bool, error) {
		signed, err := r.ReadAnchor(ctx, fmt.Sprintf("%s%012d", anchorPrefix, size))
		if err != nil {
			return false, err
		}
		said, err := ledger.OpenCheckpoint(signed, l.Origin(), v)
		if err != nil {
			return false, nil // somebody else's, or of a key before
		}
		is, err := l.Tree(ctx, size)
		return is == said, err
	}
	for _, sizes := range by {
		slices.Sort(sizes)
		last := len(sizes) - 1
		if last == 0 {
			continue
		}
		if ok, err := ours(sizes[last]); err != nil || !ok {
			if err != nil {
				return gone, err
			}
			continue
		}
		for _, size := range sizes[:last] {
			if gone >= maxThinned {
				return gone, nil
			}
			ok, err := ours(size)
			if err == nil && ok {
				err = r.RemoveAnchor(ctx, fmt.Sprintf("%s%012d", anchorPrefix, size))
			}
			if err != nil {
				return gone, err
			}
			if ok {
				gone++
			}
		}
	}
	return gone, nil
}
