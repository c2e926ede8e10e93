package repo

import (
	"context"
	"fmt"
	"time"
)

// A TempRemover is a Store in which a writer that was killed leaves files that are no
// objects. RemoveTemps deletes those that last changed before an instant, by the place's
// own clock, and returns how many. It may be called at any time and by several at once.
type TempRemover interface {
	RemoveTemps(ctx context.Context, before time.Time) (int, error)
}

// RemoveTemps deletes what killed writers left in a place, where it has such things, and
// returns how many there were. What is younger than before may belong to a writer that
// goes on: choose it GarbageWait or more ago.
//
// A crash leaves the rest for the next call. If a file of a running writer goes all the
// same, because clocks differ by more than that, its put fails and is tried again.
func RemoveTemps(ctx context.Context, s Store, before time.Time) (int, error) {
	t, able := as[TempRemover](s)
	if !able {
		return 0, nil
	}
	n, err := t.RemoveTemps(ctx, before)
	if err != nil {
		return n, fmt.Errorf("remove what killed writers left: %w", err)
	}
	return n, nil
}

// RemoveTemps deletes what killed writers left in the repository's place.
func (r *Repository) RemoveTemps(ctx context.Context, before time.Time) (int, error) {
	return RemoveTemps(ctx, r.store, before)
}
