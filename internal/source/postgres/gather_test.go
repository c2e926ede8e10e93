package postgres

import (
	"fmt"
	"testing"
	"time"

	"holdfast/internal/repo"
)

// supersede lists the pieces of a place that lie within a longer one, as the vault
// sees them.
func supersede(t *testing.T, rp *repo.Repository) (short, long []repo.LogInfo) {
	t.Helper()
	infos, err := rp.Logs(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range infos {
		n := 0
		for _, b := range infos {
			if b != a && b.Timeline == a.Timeline && b.Start >= a.Start && b.End <= a.End {
				n++
			}
			if b != a && b.Timeline == a.Timeline && b.Start <= a.Start && b.End >= a.End {
				short = append(short, a)
				break
			}
		}
		if n >= gatherLeast {
			long = append(long, a)
		}
	}
	return short, long
}

// A database that commits all the time is gathered block by block: killed at any
// moment, with the short pieces gone, and at a place that takes no long ones, every
// acknowledged commit is there and nothing is called a gap.
func TestGather(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "small")
	r.stream.PieceEvery = time.Millisecond
	r.stores["small"].short = true
	near := r.stream.Places[0].Repo
	r.start()
	r.reaches("near", "small")
	c.sql("CREATE TABLE load (id serial PRIMARY KEY, v text)")
	const many = 200 // commits, about a block of log
	acknowledged := 0
	for seed := range uint64(3) {
		_, before := supersede(t, near)
		eventually(t, "another block was gathered", func() error {
			c.sql(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
				INSERT INTO load (v) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 160) g GROUP BY g %% 4;
				COMMIT; PERFORM pg_sleep(0.002); -- so that a piece does not hold them all
				END LOOP; END $$`, many))
			acknowledged += many
			if _, now := supersede(t, near); len(now) <= len(before) {
				return fmt.Errorf("%d so far", len(now))
			}
			return nil
		})
		r.crash(seed)
		r.start()
	}
	end := r.reaches("near", "small")
	if got := r.check("near", 1, end); got < acknowledged {
		t.Errorf("%d commits are there of %d", got, acknowledged)
	}
	if got := r.check("small", 1, end); got < acknowledged {
		t.Errorf("the place that takes no long pieces has %d commits of %d", got, acknowledged)
	}
	if _, long := supersede(t, r.stream.Places[1].Repo); len(long) > 0 {
		t.Errorf("it took %d", len(long))
	}
	// The vault takes the short ones away while the stream runs.
	short, long := supersede(t, near)
	if len(long) < 3 || len(short) < 3*gatherLeast {
		t.Fatalf("%d long and %d short pieces", len(long), len(short))
	}
	m := r.stores["near"]
	m.mu.Lock()
	for _, l := range short {
		delete(m.objects, l.Name)
	}
	m.mu.Unlock()
	if got := r.check("near", 1, end); got < acknowledged {
		t.Errorf("without the short pieces %d commits are there of %d", got, acknowledged)
	}
	_ = r.stop()
	r.start() // it learns what is there now
	end = r.reaches("near")
	if f := r.at("near"); f.Gap != nil {
		t.Errorf("a gap: %+v", f.Gap)
	}
	r.check("near", 1, end)
}

// Only what is worth it is gathered, and never across the bounds of a block.
func TestGatheringIsDue(t *testing.T) {
	const block = 1 << 20
	at := time.Unix(1_800_000_000, 0)
	fill := func(from, size uint64, n int) (g gathering) {
		for i := range uint64(n) {
			g.note(1, from+i*size, from+(i+1)*size, block, at)
		}
		return g
	}
	for _, tt := range []struct {
		name string
		g    gathering
		now  time.Time
		want bool
	}{
		{"the block is over", fill(0, block/64, 64), at, true},
		{"it is not", fill(0, block/64, 63), at, false},
		{"an hour has passed", fill(0, block/64, 40), at.Add(gatherEvery), true},
		{"too few", fill(0, 100, gatherLeast-1), at.Add(gatherEvery), false},
		{"another block began", fill(block-100*10, 100, 20), at.Add(gatherEvery), false},
		{"nothing", gathering{}, at, false},
	} {
		if got := tt.g.due(block, tt.now); got != tt.want {
			t.Errorf("%s: due %t", tt.name, got)
		}
	}
	g := fill(0, 100, 50)
	g.note(1, 9000, 9100, block, at) // behind a hole
	if g.pieces != 1 || g.from != 9000 {
		t.Errorf("a run goes on over a hole: %+v", g)
	}
	g = fill(0, 100, 50)
	if g.note(2, 5000, 5100, block, at); g.pieces != 1 {
		t.Errorf("a run goes on over a change of timelines: %+v", g)
	}
	big := gathering{timeline: 1, to: 64 << 20, pieces: 64, since: at}
	if big.due(64<<20, at.Add(gatherEvery)) {
		t.Error("large pieces are gathered")
	}
	if got := auditAfter(0); got != auditEvery {
		t.Errorf("a small place is looked at every %s", got)
	}
	if got := auditAfter(60_000); got != 3*time.Minute {
		t.Errorf("60,000 objects: %s", got)
	}
	if got := auditAfter(10_000_000); got != auditLatest {
		t.Errorf("millions: %s", got)
	}
}

// What an earlier life put is gathered by the next one.
func TestGatheringResumes(t *testing.T) {
	sh := &shipper{}
	var list []repo.LogInfo
	add := func(from, to uint64) { list = append(list, repo.LogInfo{Timeline: 1, Start: from, End: to}) }
	add(0, 300<<10) // a long one
	for i := range uint64(10) {
		add(i<<10, (i+1)<<10) // in it
	}
	for i := range uint64(40) {
		add(300<<10+i*100, 300<<10+(i+1)*100)
	}
	sh.resumeRun(list, 1<<20, time.Unix(0, 0))
	if g := sh.current; g.from != 300<<10 || g.to != 300<<10+4000 || g.pieces != 40 {
		t.Errorf("the run is %+v", g)
	}
	if !sh.keeps(1, 0, 1<<20) || sh.keeps(2, 0, 1<<20) || sh.keeps(1, 1<<20, 2<<20) {
		t.Error("the spool keeps something else than what is to be gathered")
	}
}
