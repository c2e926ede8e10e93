package matrix

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres"
)

var latest = holdfast.Target{Kind: holdfast.TargetLatest}

// The whole life of a protected cluster: checked, followed, backed up, written to,
// killed at a random instant with its receiver, brought back to the latest state, to
// a time and to a position, promoted, and followed on its new timeline.
func TestStory(t *testing.T) {
	each(t, everywhere, func(t *testing.T, r row, all bool) {
		tellStory(t, r, []string{"-k"}, quick)
		if !all {
			return
		}
		off := []string{}
		if r.major >= 18 {
			off = []string{"--no-data-checksums"} // the default was turned round
		}
		segments := r.major == fullRun || r.major == newest
		name := "checksums off"
		if segments {
			name = "checksums off, 1 MiB segments"
			off = append(off, "--wal-segsize=1")
		}
		t.Run(name, func(t *testing.T) { tellStory(t, r, off, quick) })
		if segments {
			t.Run("64 MiB segments", func(t *testing.T) {
				tellStory(t, r, []string{"-k", "--wal-segsize=64"}, with("max_wal_size", "256MB", "min_wal_size", "128MB"))
			})
		}
		if r.major >= 17 {
			t.Run("summarize_wal", func(t *testing.T) { tellStory(t, r, []string{"-k"}, with("summarize_wal", "on")) })
		}
		if r.major >= 18 {
			// Without -k the checksums are on by default; each way to read and write.
			for _, method := range []string{"sync", "worker"} {
				t.Run("io_method "+method, func(t *testing.T) { tellStory(t, r, nil, with("io_method", method)) })
			}
		}
	})
}

func tellStory(t *testing.T, r row, initdb []string, options map[string]string) {
	g := newRig(t, r, initdb, options)
	for _, f := range g.store.Check(t.Context()) {
		if f.Severity == holdfast.SeverityError {
			t.Errorf("check: %s %s (%s)", f.Code, f.Message, f.Hint)
		}
	}
	if err := g.store.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	g.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
	g.insert(20)
	g.follow()
	m := g.base()
	checksums := g.one("SHOW data_checksums")
	if m.Labels[postgres.LabelChecksums] != checksums || !strings.HasPrefix(m.Labels[postgres.LabelVersion], strconv.Itoa(r.major)) {
		t.Errorf("labels %v", m.Labels)
	}
	g.insert(30)
	first := g.now()
	g.insert(30)
	second := g.now()

	shipped, acknowledged := g.killAtRandom()
	last := g.restore(latest)
	rows := g.value(last, "SELECT count(*) FROM t")
	came, err := strconv.Atoi(rows)
	if err != nil {
		t.Fatal(err)
	}
	if came < shipped || came > acknowledged+1 { // the last commit may have been on its way
		t.Errorf("%d rows came back; %d were shipped and %d acknowledged", came, shipped, acknowledged)
	}
	// No hole and no stranger among them.
	if bad := g.value(last, "SELECT count(*) FROM (SELECT id, v, row_number() OVER (ORDER BY id) AS n FROM t) x WHERE id <> n OR v <> md5(id::text)"); bad != "0" {
		t.Errorf("%s rows are wrong", bad)
	}
	for _, c := range last.Integrity(t.Context()) {
		if c.Outcome == holdfast.Failed {
			t.Errorf("%s: %s: %s", c.Name, c.Outcome, c.Detail)
		}
	}
	for _, at := range []struct {
		target holdfast.Target
		want   moment
	}{
		{holdfast.Target{Kind: holdfast.TargetTime, Time: first.time}, first},
		{holdfast.Target{Kind: holdfast.TargetLSN, Value: second.lsn}, second},
	} {
		got := g.restore(at.target)
		if text := g.value(got, content); text != at.want.content {
			t.Errorf("%s: %s came back, want %s", at.target, text, at.want.content)
		}
		if err := got.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	g.succeed(came)
	t.Logf("PostgreSQL %s, checksums %s: %d rows acknowledged, %d known to be shipped, %d came back; new timeline followed",
		g.server.Version(), checksums, acknowledged, shipped, came)
}

// killAtRandom writes until a random instant and then ends server and receiver as a
// fire would. It returns how many rows the location was known to hold and how many
// commits were acknowledged.
func (g *rig) killAtRandom() (shipped, acknowledged int) {
	g.t.Helper()
	start, err := strconv.Atoi(g.one("SELECT count(*) FROM t"))
	if err != nil {
		g.t.Fatal(err)
	}
	acknowledged = start
	type written struct {
		rows int
		lsn  uint64
	}
	var all []written
	// Some of it must have arrived, so that there is something to hold the copy to; what
	// is on its way at the end is what the fire takes.
	before, more := g.at().Position, rand.IntN(40)
	for arrived := false; !arrived || more > 0; {
		if arrived = arrived || g.at().Position > before; arrived {
			more--
		}
		g.insert(1)
		acknowledged++
		lsn, err := postgres.ParseLSN(g.one("SELECT pg_current_wal_flush_lsn()"))
		if err != nil {
			g.t.Fatal(err)
		}
		all = append(all, written{acknowledged, lsn})
	}
	shipped = start
	if err := g.server.Kill(); err != nil {
		g.t.Fatal(err)
	}
	held := g.at().Position
	g.leave()
	for _, w := range all {
		if w.lsn <= held {
			shipped = w.rows
		}
	}
	return shipped, acknowledged
}

// succeed brings the cluster back as the new production, follows it on its timeline,
// and restores from both together.
func (g *rig) succeed(rows int) {
	g.t.Helper()
	t := g.t
	req := g.request(latest)
	p, err := postgres.Plan(t.Context(), postgres.Restore{Repo: g.repo, Scope: "db", Identities: g.ids, Target: latest, Dir: req.Dir, Runner: g.box, BinDir: g.bin, Options: g.options})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, stats, err := p.Replay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	if stats.Timeline != 2 {
		t.Errorf("the recovered server is on timeline %d", stats.Timeline)
	}
	g.server, g.timeline = s, stats.Timeline
	g.open(s)
	g.follow()
	g.insert(25)
	lsn := g.one("SELECT pg_current_wal_flush_lsn()")
	g.shipped(lsn)
	if f := g.at(); f.Timeline != 2 || f.Gap != "" {
		t.Errorf("frontier %+v", f)
	}
	want := g.one(content)
	got := g.restore(latest)
	if text := g.value(got, content); text != want || g.value(got, "SELECT count(*) FROM t") != fmt.Sprint(rows+25) {
		t.Errorf("over the fork: %s came back, want %s", text, want)
	}
	if err := got.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// A base of the new timeline stands alone.
	g.base()
	g.insert(5)
	g.shipped(g.one("SELECT pg_current_wal_flush_lsn()"))
	want = g.one(content)
	got = g.restore(latest)
	if text := g.value(got, content); text != want {
		t.Errorf("from the new base: %s came back, want %s", text, want)
	}
	if err := got.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	windows, err := g.store.Windows(t.Context(), g.repo)
	if err != nil || len(windows) == 0 || windows[len(windows)-1].To.After(time.Now().Add(time.Minute)) {
		t.Errorf("windows %+v, %v", windows, err)
	}
	g.leave()
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
