package test

import (
	"testing"
	"time"
)

// A database in which nothing happens can be brought back to any instant up to some
// seconds ago, from each location alone.
func TestIdleDatabase(t *testing.T) {
	f := protect(t)
	f.cluster.sql(t, "INSERT INTO ledger VALUES (1, clock_timestamp())")
	instant := f.cluster.clock(t).Add(3 * time.Second) // the commit is in its piece by then
	// Nothing is committed from here on, and still the window goes on, at each place.
	f.reaches(t, instant, 2)
	f.server.stop(t)
	for _, l := range []string{"near", "offsite"} {
		if got := f.back(t, "quiet-"+l, "--at", at(instant), "--location", l); len(got) != 1 || got[0] != 1 {
			t.Errorf("%s brings back %v at an instant at which nothing happened", l, got)
		}
	}
}
