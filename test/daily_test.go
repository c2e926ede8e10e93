package test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Ten days of a company: a copy of everything each day, and each day without one is seen.
func TestDailyRows(t *testing.T) {
	t.Parallel()
	t.Run("BKP-01 one good copy of everything each day, and a day without one is seen within it", func(t *testing.T) {
		const (
			days    = 10
			refused = 4 // the database lets nobody copy it
			off     = 7 // no server runs
		)
		c := shared.get(t)
		f := firm{workspace: forCluster(t, c), cluster: c}
		edit(t, f.plan(), dailyPlan)
		c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
		midnight := time.Now().UTC().Truncate(24 * time.Hour)
		day := func(n int) time.Time { return midnight.AddDate(0, 0, n) }
		clock := calendar(t, day(0).Add(12*time.Hour))
		f.run(t, "location", "init", "--all").want(t, 0)
		f.server = serve(t, f.dir)
		made := map[string][]string{} // the snapshot of each day
		ends := [days + 1]string{}    // where the log of the database was when it was copied
		for n := 1; n <= days; n++ {
			c.commit(t, "ledger", n)
			write(t, filepath.Join(f.uploads, fmt.Sprintf("%d.txt", n)), fmt.Sprint(n), 0o644)
			switch n {
			case refused:
				c.sql(t, "ALTER ROLE holdfast NOREPLICATION")
				f.disconnect(t)
			case off:
				f.server.stop(t)
			}
			clock.set(t, day(n).Add(5*time.Hour))
			for _, store := range []string{"db", "uploads"} {
				if n == off || n == refused && store == "db" {
					continue
				}
				for _, l := range []string{"near", "offsite"} {
					f.received(t, l, store, len(made[store])+1)
				}
				made[store] = f.receipts(t, "offsite", store)
			}
			ends[n] = c.sql(t, "SELECT pg_current_wal_lsn()")
			switch n {
			case refused:
				until(t, "an incident of the day on which nobody may copy the database", func() bool {
					clock.set(t, clock.now().Add(2*time.Minute)) // the next attempt
					_, ok := f.incidentOf(t, "backup-failed", "db")
					return ok
				})
				if clock.now().After(day(n + 1)) {
					t.Errorf("the day was over: %s", clock.now())
				}
				c.sql(t, "ALTER ROLE holdfast REPLICATION")
				until(t, "the backup of that day, late", func() bool { return f.run(t, "backup", "db").status == 0 })
				f.received(t, "offsite", "db", n)
				made["db"] = f.receipts(t, "offsite", "db")
			case off:
				clock.set(t, day(n).Add(23*time.Hour))
				if e := f.run(t, "status"); e.status != 3 || !contains(e.out, `HF-O03: the copy of "db"`) || !contains(e.out, `HF-O03: the copy of "uploads"`) {
					t.Errorf("nobody copied anything for a day, without a server, and status is silent: %v", e)
				}
				clock.set(t, day(n+1).Add(4*time.Hour+50*time.Minute))
				f.server = serve(t, f.dir)
				for _, store := range []string{"db", "uploads"} {
					f.received(t, "offsite", store, len(made[store])+1)
					until(t, "an incident that names the day that was skipped", func() bool {
						return f.tells(t, store, "Backup of "+store+" did not happen")
					})
				}
			}
		}
		pack := f.pack(t)
		for _, store := range []string{"db", "uploads"} {
			states := map[time.Time]slotSeen{}
			for _, sl := range slotsOf(t, pack, "stores."+store) {
				states[sl.due.Truncate(24*time.Hour)] = sl
			}
			for n := 1; n <= days; n++ {
				want := "done"
				switch {
				case n == off:
					want = "missed"
				case n == refused && store == "db":
					want = "done|failed" // whether the last attempt of the job, or a person's
				}
				if got := states[day(n)]; !contains(got.state, "^("+want+")$") || n != off && got.finished.Sub(day(n)) > 24*time.Hour {
					t.Errorf("%s, day %d: %+v, want %s", store, n, got, want)
				}
			}
		}
		n := 1 + rand.IntN(refused-1)
		t.Logf("day %d comes back", n)
		var want []int
		for i := range n {
			want = append(want, i+1)
		}
		if got := f.back(t, "day", "--location", "offsite", "--snapshot", filepath.Base(made["db"][n-1]), "--lsn", ends[n]); !slices.Equal(got, want) {
			t.Errorf("day %d of the database is %v", n, got)
		}
	})
}

// disconnect ends every stream of the cluster's log.
func (f firm) disconnect(t *testing.T) {
	t.Helper()
	f.cluster.sql(t, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication")
}
