package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/source/postgres/wal"
)

// realLog is log that a real server wrote: small segments, so that records cross
// pages and segments, with a switch in the middle.
type realLog struct {
	start   uint64
	segment int64
	data    []byte
	end     uint64 // as the server sees it
	commits int
	from    time.Time
	to      time.Time
}

func makeRealLog(t *testing.T) *realLog {
	t.Helper()
	c := newTestCluster(t, "--wal-segsize=1")
	c.configure("wal_level=replica", "max_wal_size=1GB", "min_wal_size=10MB", "checkpoint_timeout=1h")
	c.start()
	l := &realLog{segment: 1 << 20}
	l.start = SegmentStart(c.lsn("SELECT pg_current_wal_insert_lsn()"), l.segment)
	l.from = time.Now()
	c.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
	for range 20 {
		c.sql("INSERT INTO t SELECT g, repeat('x', 400) FROM generate_series((SELECT count(*) FROM t), (SELECT count(*) FROM t) + 299) g")
	}
	c.sql("SELECT pg_switch_wal()")
	// One record far longer than a segment.
	c.sql("SELECT pg_logical_emit_message(false, 'big', repeat('0123456789abcdef', 200000))")
	for range 10 {
		c.sql("UPDATE t SET v = v || 'y' WHERE id % 10 = 3")
	}
	c.sql("BEGIN; INSERT INTO t VALUES (-1, 'never'); ROLLBACK")
	l.to = time.Now()
	l.end = c.lsn("SELECT pg_current_wal_flush_lsn()")
	l.commits = 1 + 20 + 10
	c.signal(syscall.SIGQUIT) // no shutdown checkpoint: the log ends where the server said
	names, _ := filepath.Glob(filepath.Join(c.dir, "pg_wal", "0000*"))
	slices.Sort(names)
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		at := binary.LittleEndian.Uint64(b[8:])
		if len(b) == int(l.segment) && at >= l.start && at < l.end {
			l.data = append(l.data, b...)
		}
	}
	if uint64(len(l.data)) < l.end-l.start {
		t.Fatalf("%d bytes of log from %s, and the server says it ends at %s", len(l.data), FormatLSN(l.start), FormatLSN(l.end))
	}
	l.data = l.data[:l.end-l.start]
	return l
}

func (l *realLog) walk(t *testing.T, data []byte, portions func() int) (*wal.Walker, []wal.Record, error) {
	t.Helper()
	var records []wal.Record
	w, err := wal.NewWalker(wal.Config{Start: wal.LSN(l.start), SegmentSize: l.segment,
		Timeline: func(wal.LSN) uint32 { return 1 },
		Record:   func(r wal.Record) error { records = append(records, r); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), portions())
		if _, err := w.Write(data[:n]); err != nil {
			return w, records, err
		}
		data = data[n:]
	}
	return w, records, nil
}

func TestWalkRealLog(t *testing.T) {
	l := makeRealLog(t)
	whole := func() int { return len(l.data) }
	w, records, err := l.walk(t, l.data, whole)
	if err != nil {
		t.Fatalf("walk: %v (valid to %s of %s)", err, w.Valid(), FormatLSN(l.end))
	}
	if uint64(w.Valid()) != l.end {
		t.Errorf("valid to %s, the server says %s", w.Valid(), FormatLSN(l.end))
	}
	commits, switches, longest := 0, 0, uint32(0)
	for _, r := range records {
		longest = max(longest, r.Length)
		switch r.Kind {
		case wal.Commit:
			if r.Commit.After(l.from) && r.Commit.Before(l.to) {
				commits++
			}
		case wal.Switch:
			switches++
		}
	}
	if commits != l.commits || switches != 1 || longest < 3<<20 {
		t.Errorf("%d commits, %d switches, longest record %d; want %d, 1 and more than 3 MiB", commits, switches, longest, l.commits)
	}

	t.Run("any portions", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for _, most := range []int{1, 7, 24, 5000, 100000} {
			w2, again, err := l.walk(t, l.data, func() int { return 1 + rng.IntN(most) })
			if err != nil || w2.Valid() != w.Valid() || !slices.EqualFunc(again, records, sameRecord) {
				t.Fatalf("portions up to %d: %v, valid to %s, %d records of %d", most, err, w2.Valid(), len(again), len(records))
			}
		}
	})

	t.Run("stop anywhere, rewind, go on", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			cut := rng.IntN(len(l.data))
			w2, _, err := l.walk(t, l.data[:cut], whole)
			if err != nil {
				t.Fatal(err)
			}
			if uint64(w2.Valid()) > l.start+uint64(cut) {
				t.Fatalf("cut at %d: valid to %s, beyond the bytes", cut, w2.Valid())
			}
			w2.Rewind()
			if w2.Position() != w2.Valid() {
				t.Fatalf("rewound to %s, valid %s", w2.Position(), w2.Valid())
			}
			if _, err := w2.Write(l.data[uint64(w2.Position())-l.start:]); err != nil || w2.Valid() != w.Valid() || !sameRecord(w2.Last(), w.Last()) {
				t.Fatalf("cut at %d: going on: %v, valid to %s", cut, err, w2.Valid())
			}
		}
	})

	t.Run("a walk can begin at every record", func(t *testing.T) {
		for i, r := range records[:len(records)-1] {
			if r.Kind == wal.Switch || i%(len(records)/40) != 0 {
				continue
			}
			w2, err := wal.NewWalker(wal.Config{Start: r.End, AtRecord: true, SegmentSize: l.segment})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w2.Write(l.data[uint64(r.End)-l.start:]); err != nil || w2.Valid() != w.Valid() {
				t.Fatalf("from %s: %v, valid to %s", r.End, err, w2.Valid())
			}
		}
	})

	t.Run("a flipped byte is found", func(t *testing.T) {
		// Filler after a switch, alignment bytes and the reserved bytes of headers mean
		// nothing to anybody; every other byte must count.
		meaningless := func(at uint64) bool {
			inPage := at % 8192
			if inPage >= 20 && inPage < 24 || at%uint64(l.segment) >= 20 && at%uint64(l.segment) < 24 {
				return true // alignment of the page header
			}
			for i, r := range records {
				if r.Kind == wal.Switch && at >= uint64(r.End) && (i+1 == len(records) || at < uint64(records[i+1].Start)) && at/uint64(l.segment) == uint64(r.Start)/uint64(l.segment) {
					return true
				}
				if at < uint64(r.End) && at+8 > uint64(r.End) {
					return true // perhaps alignment
				}
			}
			return at < uint64(records[0].Start) && inPage >= 24 // a record from before
		}
		rng := rand.New(rand.NewPCG(5, 6))
		tried := 0
		for tried < 150 {
			i := rng.IntN(len(l.data))
			if meaningless(l.start + uint64(i)) {
				continue
			}
			tried++
			bad := bytes.Clone(l.data)
			bad[i] ^= 1 << rng.IntN(8)
			w2, _, err := l.walk(t, bad, whole)
			var damage *wal.DamageError
			if err == nil && uint64(w2.Valid()) == l.end {
				t.Fatalf("a flipped bit at %s was not found", FormatLSN(l.start+uint64(i)))
			}
			if err != nil && !errors.As(err, &damage) && !errors.Is(err, wal.ErrEnd) {
				t.Fatalf("a flipped bit at %s: %v", FormatLSN(l.start+uint64(i)), err)
			}
			if uint64(w2.Valid()) > l.start+uint64(i) && err != nil {
				t.Fatalf("a flipped bit at %s, but valid to %s", FormatLSN(l.start+uint64(i)), w2.Valid())
			}
		}
	})

	t.Run("a lost page is found", func(t *testing.T) {
		bad := slices.Delete(bytes.Clone(l.data), 5*8192, 6*8192)
		if _, _, err := l.walk(t, bad, whole); err == nil || !strings.Contains(err.Error(), "address") {
			t.Errorf("err = %v", err)
		}
	})

	t.Run("a server's unused tail is an end", func(t *testing.T) {
		w2, _, err := l.walk(t, append(bytes.Clone(l.data), make([]byte, 4096)...), func() int { return 1 << 30 })
		if !errors.Is(err, wal.ErrEnd) || w2.Valid() != w.Valid() {
			t.Errorf("err = %v, valid to %s", err, w2.Valid())
		}
	})

	t.Run("another timeline or cluster is refused", func(t *testing.T) {
		for _, cfg := range []wal.Config{
			{Start: wal.LSN(l.start), SegmentSize: l.segment, Timeline: func(wal.LSN) uint32 { return 2 }},
			{Start: wal.LSN(l.start), SegmentSize: l.segment, System: 1},
			{Start: wal.LSN(l.start), SegmentSize: l.segment * 2},
			{Start: wal.LSN(l.start + 8192), SegmentSize: l.segment},
		} {
			w2, err := wal.NewWalker(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var damage *wal.DamageError
			if _, err := w2.Write(l.data); !errors.As(err, &damage) {
				t.Errorf("%+v: err = %v", cfg, err)
			}
		}
	})
}

func FuzzWalker(f *testing.F) {
	f.Add([]byte{0x10, 0xD1, 2, 0}, uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, portion uint8) {
		w, err := wal.NewWalker(wal.Config{SegmentSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for len(data) > 0 {
			n := min(len(data), int(portion)+1)
			if _, err := w.Write(data[:n]); err != nil {
				break
			}
			data = data[n:]
		}
		if w.Valid() > w.Position() {
			t.Errorf("valid to %s, but only %s was seen", w.Valid(), w.Position())
		}
	})
}

func TestHistory(t *testing.T) {
	h, err := parseHistory(5, []byte("1\t0/3000060\tno recovery target specified\n\n# c\n2\t0/5000000\tx\n4\t0/7000028\tbefore 2026-01-01\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lsn  uint64
		want uint32
	}{{0, 1}, {0x300005F, 1}, {0x3000060, 2}, {0x5000000, 4}, {0x7000028, 5}} {
		if got := h.at(tt.lsn); got != tt.want {
			t.Errorf("at %X: timeline %d, want %d", tt.lsn, got, tt.want)
		}
	}
	for _, bad := range []string{"", "x\t0/1\n", "1\t01\n", "2\t0/5\ty\n1\t0/6\tz\n", "1\t0/5\ty\n2\t0/4\tz\n", "7\t0/4\tz\n", "1\n"} {
		if _, err := parseHistory(5, []byte(bad)); err == nil {
			t.Errorf("history %q was accepted", bad)
		}
	}
}

func TestResolveStart(t *testing.T) {
	const seg = 1 << 20
	h := history{Timeline: 4, Parents: []fork{{1, 3*seg + 100}, {3, 5*seg + 200}}}
	tests := []struct {
		name string
		held map[uint32]uint64
		want start
	}{
		{"nothing held", nil, start{4, 9 * seg, true}},
		{"our timeline", map[uint32]uint64{4: 7 * seg}, start{4, 7 * seg, false}},
		{"inside a parent", map[uint32]uint64{1: 2*seg + 5}, start{1, 2*seg + 5, false}},
		{"parent complete: not our number plus one", map[uint32]uint64{1: 3*seg + 100}, start{3, 3 * seg, false}},
		{"beyond the fork", map[uint32]uint64{3: 8 * seg}, start{4, 5 * seg, false}},
		{"newest common ancestor decides", map[uint32]uint64{1: 9 * seg, 2: 9 * seg}, start{3, 3 * seg, false}},
		{"only a side branch", map[uint32]uint64{2: 9 * seg}, start{4, 9 * seg, true}},
	}
	for _, tt := range tests {
		got, err := resolveStart(h, tt.held, 9*seg+77, seg)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := resolveStart(h, map[uint32]uint64{5: 1}, 0, seg); err == nil {
		t.Error("an old primary was accepted")
	}
}

// sameRecord compares all but the body, which is valid during the callback only.
func sameRecord(a, b wal.Record) bool {
	a.Body, b.Body = nil, nil
	return reflect.DeepEqual(a, b)
}
