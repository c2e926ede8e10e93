package postgres

import (
	"testing"
	"time"

	"holdfast"
)

// The clock of the agent may be wrong by any amount: an instant is an instant of the
// database's clock, and the base is chosen by its commits.
func TestSkewedClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"behind": -10 * time.Minute, "ahead": 10 * time.Minute, "right": 0} {
		t.Run(name, func(t *testing.T) {
			st := &story{box: newSandbox(t), vault: newVault(t)}
			st.server = newCluster(t, st.box, "source", []string{"--wal-segsize=1"}, with(quick, "wal_keep_size", "512MB", "autovacuum", "off"))
			clock := func() time.Time { return time.Now().Add(skew) }
			var err error
			if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), Clock: clock}); err != nil {
				t.Fatal(err)
			}
			mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
			insert(t, st.server, 10)
			position := func() uint64 {
				lsn, err := ParseLSN(mustValue(t, st.server, "SELECT pg_current_wal_flush_lsn()"))
				if err != nil {
					t.Fatal(err)
				}
				return lsn
			}
			base := st.vault.snapshot(t, st.source)
			start, err := ParseLSN(base.Labels[LabelStart])
			if err != nil {
				t.Fatal(err)
			}
			from := SegmentStart(start, segment1M)
			ship := func() {
				to := position()
				st.vault.ship(t, st.server, 1, from, to, segment1M, clock())
				from = to - to%8192
			}
			var moments []moment
			write := func() {
				insert(t, st.server, 20)
				ship() // as a stream does, about every second
				moments = append(moments, momentOf(t, st.server))
				insert(t, st.server, 20)
				ship()
			}
			write()
			mustQuery(t, st.server, "SELECT pg_switch_wal()")
			mustQuery(t, st.server, "CHECKPOINT")
			insert(t, st.server, 5)
			ship()
			at := momentOf(t, st.server) // between the bases, shortly before the second
			moments = append(moments, at)
			insert(t, st.server, 5)
			ship()
			second := st.vault.snapshot(t, st.source)
			write()
			mustQuery(t, st.server, "SELECT pg_switch_wal()")
			insert(t, st.server, 1)
			ship()
			for i, m := range moments {
				p, s, _ := st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetTime, Time: m.time}))
				if got := mustValue(t, s, "SELECT count(*) FROM t"); got != m.rows {
					t.Errorf("moment %d: %s rows came back from base %s (the second is %s), want %s", i, got, p.Base.ID, second.ID, m.rows)
				}
				if err := s.Kill(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
