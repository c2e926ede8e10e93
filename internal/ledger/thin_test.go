package ledger_test

import (
	"testing"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/ledger"
)

// Old checkpoints are thinned to the last of each stretch; the newest stays whatever its
// age, and the log goes on signing on what is left.
func TestThinCheckpoints(t *testing.T) {
	dbtest.Each(t, tables, func(t *testing.T, d *db.DB) {
		ctx, k, now := t.Context(), newKeys(t), noon
		l, err := ledger.Open(d, ledger.Config{Origin: origin, Signer: k.signer, Clock: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 6 { // two a day, at noon and at half past
			fill(t, d, l, n, n+1)
			now = noon.Add(time.Duration(n/2)*24*time.Hour + time.Duration(n%2)*30*time.Minute)
			checkpoint(t, l, k)
		}
		day := func(at time.Time) string { return at.UTC().Format(time.DateOnly) }
		if gone, err := l.ThinCheckpoints(ctx, noon.Add(365*24*time.Hour), day); gone != 2 || err != nil {
			t.Errorf("%d gone, %v", gone, err)
		}
		times, err := l.CheckpointTimes(ctx, noon.Add(365*24*time.Hour))
		if err != nil || len(times) != 4 || times[2].IsZero() || times[4].IsZero() || times[5].IsZero() || times[6].IsZero() {
			t.Errorf("%v, %v", times, err)
		}
		fill(t, d, l, 6, 7)
		checkpoint(t, l, k)
		if err := l.Verify(ctx); err != nil {
			t.Error(err)
		}
		if gone, err := l.ThinCheckpoints(ctx, noon, day); gone != 0 || err != nil {
			t.Errorf("younger ones went: %d, %v", gone, err)
		}
	})
}
