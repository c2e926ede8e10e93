package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/internal/durable/durabletest"
	"holdfast/internal/source/postgres/wal"
)

const (
	madeSegment = 16 << 10
	madeStart   = 4 * madeSegment
	madeSystem  = "4711"
)

// A logMaker writes log as PostgreSQL does, small enough to be crashed at every byte.
// The real thing is walked in TestWalkRealLog.
type logMaker struct {
	b       []byte
	prev    uint64
	commits []uint64 // ends of commit records
}

func (m *logMaker) pos() uint64 { return madeStart + uint64(len(m.b)) }

// page begins a page, with rest bytes of a record to continue.
func (m *logMaker) page(rest int, flags uint16) {
	at := m.pos()
	h := make([]byte, 24, 40)
	le := binary.LittleEndian
	le.PutUint16(h, 0xD110)
	if rest > 0 {
		flags |= 1
	}
	le.PutUint32(h[4:], 1)
	le.PutUint64(h[8:], at)
	le.PutUint32(h[16:], uint32(rest))
	if at%madeSegment == 0 {
		flags |= 2
		h = le.AppendUint64(h, 4711)
		h = le.AppendUint32(h, madeSegment)
		h = le.AppendUint32(h, 8192)
	}
	le.PutUint16(h[2:], flags)
	m.b = append(m.b, h...)
}

// record writes a record; kind 1 is a commit, 2 a switch. Only the first most bytes
// are written, as if the server had crashed.
func (m *logMaker) record(body, kind, most int) {
	le := binary.LittleEndian
	if m.pos()%8192 == 0 {
		m.page(0, 0)
	}
	start := m.pos()
	b := make([]byte, 24)
	switch kind {
	case 1:
		b = append(b, 255, 8)
		b = le.AppendUint64(b, uint64(start)) // a time that names its place
		b[17] = 1
	case 2:
		b[16] = 0x40
	default:
		b = append(b, bytes.Repeat([]byte{byte(body)}, body)...)
		b[17] = 10
	}
	le.PutUint32(b, uint32(len(b)))
	le.PutUint64(b[8:], m.prev)
	crc := crc32.Update(crc32.Checksum(b[24:], crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), b[:20])
	le.PutUint32(b[20:], crc)
	for i := 0; i < min(len(b), most); i++ {
		if m.pos()%8192 == 0 {
			m.page(len(b)-i, 0)
		}
		m.b = append(m.b, b[i])
	}
	if most < len(b) {
		return
	}
	m.prev = start
	for m.pos()%8 != 0 {
		m.b = append(m.b, 0)
	}
	if kind == 1 {
		m.commits = append(m.commits, m.pos())
	}
	if kind == 2 {
		for m.pos()%madeSegment != 0 {
			m.b = append(m.b, 0)
		}
	}
}

func madeLog(seed uint64, records int) *logMaker {
	m := &logMaker{}
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range records {
		switch {
		case i%3 == 0:
			m.record(0, 1, 1<<30)
		case i == records/2:
			m.record(0, 2, 1<<30)
		case i%17 == 5:
			m.record(9000+rng.IntN(30000), 0, 1<<30)
		default:
			m.record(rng.IntN(3000), 0, 1<<30)
		}
	}
	m.record(0, 1, 1<<30)
	return m
}

func TestWalkGivenUpRecord(t *testing.T) {
	m := &logMaker{}
	m.record(100, 0, 1<<30)
	keep := m.pos()
	m.record(20000, 0, 8192-int(m.pos()%8192)+8192-24) // the server crashed at the end of the second page
	if m.pos()%8192 != 0 {
		t.Fatal("the maker is wrong")
	}
	m.page(0, 8) // and gave the record up
	m.record(50, 0, 1<<30)
	m.record(0, 1, 1<<30)
	w, err := wal.NewWalker(wal.Config{Start: madeStart, SegmentSize: madeSegment})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(m.b[:keep-madeStart+9000]); err != nil || uint64(w.Valid()) != keep {
		t.Fatalf("%v, valid to %s", err, w.Valid())
	}
	if _, err := w.Write(m.b[keep-madeStart+9000:]); err != nil || uint64(w.Valid()) != m.pos() {
		t.Fatalf("%v, valid to %s of %s", err, w.Valid(), FormatLSN(m.pos()))
	}
}

func openMade(fs *durabletest.FS, limit int64) (*spool, error) {
	sp, err := openSpool(fs, "/spool", limit, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := sp.bind(cluster{Store: "db", System: madeSystem, SegmentSize: madeSegment, PageSize: 8192}, ""); err != nil {
		return nil, err
	}
	return sp, nil
}

// feed gives the spool the log from where it stands, in portions, like a session.
func feed(sp *spool, m *logMaker, upTo uint64, portion int, told *uint64) error {
	at := uint64(madeStart)
	if s, _, ok := sp.head(); ok {
		at = s.end
	}
	if err := sp.begin(1, at); err != nil {
		return err
	}
	for at < upTo {
		to := min(at+uint64(portion), upTo)
		if err := sp.append(at, m.b[at-madeStart:to-madeStart]); err != nil {
			return err
		}
		if err := sp.sync(); err != nil {
			return err
		}
		s, _, _ := sp.head()
		*told = s.end
		at = to
	}
	sp.close()
	return nil
}

// verifySpool reads everything the spool offers and compares it with the log.
func verifySpool(t *testing.T, sp *spool, m *logMaker) (end uint64) {
	t.Helper()
	for _, s := range sp.stretches() {
		for at := s.start; at < s.end; {
			to := min(s.end, at-at%madeSegment+madeSegment)
			data, err := sp.read(s.timeline, at, to)
			if err != nil || !bytes.Equal(data, m.b[at-madeStart:to-madeStart]) {
				t.Fatalf("the spool's log from %s differs: %v", FormatLSN(at), err)
			}
			mk, ok := sp.markAt(1, to)
			if ok && mk.end > to {
				t.Errorf("mark at %s ends at %s", FormatLSN(to), FormatLSN(mk.end))
			}
			at = to
		}
		end = s.end
		mk, _ := sp.markAt(1, end)
		var commit uint64
		for _, c := range m.commits {
			if c <= end {
				commit = c
			}
		}
		if commit > s.start && mk.commitEnd != commit {
			t.Errorf("the last commit before %s is at %s, not %s", FormatLSN(end), FormatLSN(commit), FormatLSN(mk.commitEnd))
		}
	}
	return end
}

// Every operation of a session, a restart and a trim is broken in turn, and the power
// is cut there. Whatever was told to the server as flushed must be there, nothing
// that is there may differ from the log, and the next session must complete it.
func TestSpoolAtEveryCrash(t *testing.T) {
	m := madeLog(1, 40)
	all := m.pos()
	for _, portion := range []int{1 << 20, 7777} {
		var told uint64
		act := func(fs *durabletest.FS) error {
			told = 0
			sp, err := openMade(fs, 1<<30)
			if err != nil {
				return err
			}
			if err := feed(sp, m, madeStart+(all-madeStart)/2, portion, &told); err != nil {
				return err
			}
			if err := sp.trim(func(_ uint32, _, to uint64) bool {
				_ = sp.segmentSize() // a shipper may hold the lock that done waits for, and ask this
				return to <= madeStart+madeSegment
			}); err != nil {
				return err
			}
			if sp, err = openMade(fs, 1<<30); err != nil { // killed and started again
				return err
			}
			return feed(sp, m, all, portion, &told)
		}
		after := func(t *testing.T, fs *durabletest.FS) {
			sp, err := openMade(fs, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if end := verifySpool(t, sp, m); end < told {
				t.Fatalf("the server was told %s, the spool ends at %s", FormatLSN(told), FormatLSN(end))
			}
			if err := feed(sp, m, all, portion, &told); err != nil {
				t.Fatal(err)
			}
			if end := verifySpool(t, sp, m); end != all {
				t.Fatalf("after going on the spool ends at %s, not %s", FormatLSN(end), FormatLSN(all))
			}
		}
		t.Run(fmt.Sprintf("portions of %d", portion), func(t *testing.T) {
			durabletest.EveryCrash(t, func(*durabletest.FS) {}, act, func(t *testing.T, fs *durabletest.FS, _ bool) { after(t, fs) })
			durabletest.EveryFault(t, func(*durabletest.FS) {}, act, func(t *testing.T, fs *durabletest.FS, _ error) {
				fs.Crash(0)
				after(t, fs)
			})
		})
	}
}

// A failed write is mended within the process: the session begins again.
func TestSpoolMendsItself(t *testing.T) {
	m := madeLog(2, 30)
	for n := 1; n < 200; n++ {
		fs := durabletest.New()
		sp, err := openMade(fs, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		var told uint64
		fs.FailAt(n, durabletest.When(n%3))
		err = feed(sp, m, m.pos(), 5000, &told)
		if !fs.Tripped() {
			break
		}
		if err == nil {
			_ = sp.sync() // may be what trips; going on must work either way
		}
		if err := feed(sp, m, m.pos(), 5000, &told); err != nil {
			t.Fatalf("operation %d: going on: %v", n, err)
		}
		if end := verifySpool(t, sp, m); end != m.pos() {
			t.Fatalf("operation %d: ends at %s", n, FormatLSN(end))
		}
	}
}

func TestSpoolRefuses(t *testing.T) {
	m := madeLog(3, 30)
	sp, err := openMade(durabletest.New(), 4*madeSegment)
	if err != nil {
		t.Fatal(err)
	}
	var told uint64
	if err := feed(sp, m, madeStart+10000, 3000, &told); err != nil {
		t.Fatal(err)
	}
	if err := sp.begin(1, told); err != nil {
		t.Fatal(err)
	}
	if err := sp.append(told+8, m.b[told+8-madeStart:][:100]); err == nil {
		t.Error("a hole was accepted")
	}
	if err := sp.append(madeStart, m.b[:told-madeStart]); err != nil || sp.written() != told {
		t.Errorf("log that is there already: %v, at %s", err, FormatLSN(sp.written()))
	}
	bad := bytes.Clone(m.b[told-madeStart:])
	bad = bad[:min(len(bad), 50000)]
	bad[500] ^= 1
	var damage *wal.DamageError
	if err := errors.Join(sp.append(told, bad), sp.sync()); !errors.As(err, &damage) {
		t.Errorf("damaged log: %v", err)
	}
	if s, _, _ := sp.head(); s.end != told {
		t.Errorf("the end moved to %s", FormatLSN(s.end))
	}
	if err := feed(sp, m, m.pos(), 3000, &told); !errors.Is(err, errSpoolFull) {
		t.Errorf("beyond the limit: %v", err)
	}
	verifySpool(t, sp, m)
	if err := sp.trim(func(uint32, uint64, uint64) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := feed(sp, m, min(m.pos(), told+madeSegment), 3000, &told); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := sp.bind(cluster{Store: "db", System: "9", SegmentSize: madeSegment, PageSize: 8192}, ""); err == nil {
		t.Error("a foreign cluster was accepted")
	}
	if err := sp.saveHistory(2, []byte("1\t0/1\tx\n")); err != nil {
		t.Fatal(err)
	}
	if err := sp.saveHistory(2, []byte("1\t0/2\tx\n")); err == nil {
		t.Error("two timelines under one number were accepted")
	}
}

func TestCoverage(t *testing.T) {
	c := coverage{}
	c.add(1, 100, 200)
	c.add(1, 300, 400)
	c.add(1, 200, 250)
	if m, ok := c.missing(1, 150, 350); !ok || m != (span{250, 300}) {
		t.Errorf("missing %v %t", m, ok)
	}
	if _, ok := c.missing(1, 100, 250); ok {
		t.Error("missing in what is covered")
	}
	if m, ok := c.missing(1, 0, 500); !ok || m != (span{0, 100}) {
		t.Errorf("missing %v %t", m, ok)
	}
	if g := c.gap(nil, history{Timeline: 1}); g == nil || g.From != 250 || g.To != 300 {
		t.Errorf("gap %v", g)
	}
	if g := c.gap([]stretch{{1, 240, 310}}, history{Timeline: 1}); g != nil {
		t.Errorf("a gap that the spool fills: %v", g)
	}
	c = coverage{}
	c.add(1, 0, 900)
	c.add(2, 1024, 2000)
	h := history{Timeline: 2, Parents: []fork{{1, 1030}}}
	if g := c.gap(nil, h); g == nil || g.Timeline != 1 || g.From != 900 || g.To != 1024 {
		t.Errorf("gap before a fork: %v", g)
	}
	c.add(1, 900, 1030)
	if g := c.gap(nil, h); g != nil {
		t.Errorf("no gap: %v", g)
	}
	if g := (coverage{}).gap([]stretch{{1, 5, 6}}, h); g != nil {
		t.Errorf("a new place misses what was never promised: %v", g)
	}
	f := Frontier{CaughtUp: time.Unix(100, 0), LastCommit: time.Unix(90, 0)}
	if d, ok := f.Exposure(time.Unix(130, 0)); !ok || d != 30*time.Second {
		t.Errorf("exposure %s %t", d, ok)
	}
}
