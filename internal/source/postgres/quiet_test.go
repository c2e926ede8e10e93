package postgres

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

func FuzzQuietName(f *testing.F) {
	f.Add(quiet{timeline: 1, lsn: 0x16007530, at: time.Unix(1764000000, 5000).UTC()}.name())
	f.Add("quiet-00000000-0000000000000001-0000000000000001")
	f.Add("quiet-00000001-0000000000000001-ffffffffffffffff")
	f.Add("00000002.history")
	f.Fuzz(func(t *testing.T, name string) {
		if q, ok := parseQuiet(name); ok && q.name() != name {
			t.Errorf("%q is read as %q", name, q.name())
		}
	})
}

// A database in which nothing is written has an end of its window that moves on, at
// a bounded price, and a last one when the server is lost.
func TestStreamQuiet(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "far")
	r.start()
	end := r.reaches("near", "far")
	c.sql("CHECKPOINT") // what the server writes by itself is over
	told := func(place string) (out []quiet, rp *repo.Repository) {
		for _, p := range r.stream.Places {
			if p.Name == place {
				rp = p.Repo
			}
		}
		_, named, err := rp.ListLog(t.Context(), "db")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range named {
			if q, ok := parseQuiet(n.Name); ok {
				out = append(out, q)
			}
		}
		return out, rp
	}
	idle := time.Now() // the server's clock is ours here
	for _, place := range []string{"near", "far"} {
		eventually(t, place+" is told that nothing happened", func() error {
			if qs, _ := told(place); len(qs) == 0 || !qs[len(qs)-1].at.After(idle) {
				return fmt.Errorf("it knows of %v", qs)
			}
			return nil
		})
		qs, rp := told(place)
		q := qs[len(qs)-1]
		if q.timeline != 1 || q.lsn < end {
			t.Errorf("%s: %s, but rows were written up to %s", place, q.text(), FormatLSN(end))
		}
		if err := readQuiet(t.Context(), rp, "db", r.at(place).Lineage, q, []seal.Identity{r.id}); err != nil {
			t.Errorf("%s: %v", place, err)
		}
		for i := 1; i < len(qs); i++ {
			if d := qs[i].at.Sub(qs[i-1].at); d < quietEvery {
				t.Errorf("%s: two facts within %s", place, d)
			}
		}
	}
	c.signal(syscall.SIGQUIT)
	eventually(t, "the last word about a server that is gone", func() error {
		qs, _ := told("far")
		// Both clocks are this machine's, and ours was read first.
		if last, known := qs[len(qs)-1].at, r.at("far").CaughtUp; last.Before(known.Truncate(time.Microsecond)) || r.at("").Err == "" {
			return fmt.Errorf("the last is of %s, and nothing was missing at %s", last, known)
		}
		return nil
	})
}

// A fact counts only for a log that is whole up to it, and only with its signature.
func TestQuietCounts(t *testing.T) {
	day := func(s int) time.Time { return time.Date(2026, 11, 22, 10, 0, s, 0, time.UTC) }
	var qs quiets
	for _, q := range []quiet{{1, 100, day(10)}, {1, 200, day(30)}, {2, 150, day(40)}, {1, 100, day(20)}} {
		qs = qs.add(q)
	}
	for _, tc := range []struct {
		tli   uint32
		reach uint64
		want  time.Time
		ok    bool
	}{
		{1, 100, day(20), true}, {1, 199, day(20), true}, {1, 200, day(30), true}, {1, 99, time.Time{}, false}, {2, 150, day(40), true}, {3, 900, time.Time{}, false},
	} {
		got, ok, err := qs.until(t.Context(), nil, nil, tc.tli, tc.reach, nil)
		if !got.Equal(tc.want) || ok != tc.ok || err != nil {
			t.Errorf("timeline %d up to %d: %s, %t, %v; want %s", tc.tli, tc.reach, got, ok, err, tc.want)
		}
	}
	asked := 0
	got, ok, err := qs.until(t.Context(), nil, nil, 1, 500, func(q quiet) error {
		asked++
		if q.at.Equal(day(30)) {
			return errors.New("forged")
		}
		return nil
	})
	if !got.Equal(day(20)) || !ok || err != nil || asked != 2 {
		t.Errorf("with a forged newest: %s, %t, %v after %d", got, ok, err, asked)
	}
	if s := string(qs[0].text()); !strings.Contains(s, "0/64") || !strings.Contains(s, "2026-11-22T10:00:10Z") {
		t.Errorf("people read %q", s)
	}
}
