// Package wal walks PostgreSQL's write-ahead log, byte by byte as it arrives, and
// proves that it is whole: page headers, the chain of records, each record's CRC.
//
// A Walker takes contiguous bytes in portions of any size and reports every complete
// record. It holds no log itself, only what it needs of the record in progress, so a
// record of a gigabyte costs no memory.
//
// # What a walk proves
//
// That the bytes are the log of one cluster and timeline, that no record is missing
// between the first and the last, and that no record was altered by accident. It does
// not prove who wrote them: the CRC is no signature.
//
// # What it does not do
//
// It does not decode what records do, beyond what a backup must know: commits and
// their times, segment switches, shutdowns, new tablespaces, forks of a timeline. Decode
// reads a little more, for people who look for the moment of a mistake, and a BlockSet
// which blocks were changed, for the next backup. It reads the
// little-endian log of PostgreSQL 13 and later.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Named limits.
const (
	// MaxRecord bounds a record's declared length. PostgreSQL itself refuses to
	// write one beyond 1020 MiB.
	MaxRecord = 1 << 30

	shortHeader  = 24 // page header
	longHeader   = 40 // first page of a segment
	recordHeader = 24
	keepBody     = 64 // bytes of a record's body that are looked at
	alignment    = 8
)

// Page header flags.
const (
	firstIsContinuation = 0x0001
	isLongHeader        = 0x0002
	firstIsOverwrite    = 0x0008
	allFlags            = 0x000F
)

// Resource managers and record kinds that matter here (stable since PostgreSQL 9.5).
const (
	rmgrXLog       = 0
	rmgrXact       = 1
	rmgrTablespace = 5

	xlogShutdownCheckpoint = 0x00
	xlogSwitch             = 0x40

	tablespaceCreate = 0x00

	xactMask           = 0x70
	xactCommit         = 0x00
	xactCommitPrepared = 0x30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An LSN is a position in the log: the number of a byte.
type LSN uint64

// String writes the position as PostgreSQL does: "1/A0000028".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ErrEnd means that the log ends where a record should begin: zeros, as in the
// unused rest of a segment file. It is damage in a stream and ordinary in a file.
var ErrEnd = errors.New("the log ends here")

// A DamageError says what is wrong, and where.
type DamageError struct {
	At     LSN // the record or page that is damaged
	Reason string
}

func (e *DamageError) Error() string { return fmt.Sprintf("log damaged at %s: %s", e.At, e.Reason) }

// A Kind is what a record means to a backup.
type Kind uint8

// The kinds.
const (
	Other      Kind = iota
	Commit          // a transaction committed at Record.Commit
	Switch          // the rest of the segment is unused
	Shutdown        // the checkpoint of an orderly shutdown
	Tablespace      // a folder outside the data directory became part of the cluster
)

// A Record is one complete record whose CRC held.
type Record struct {
	Start  LSN // of its header: what recovery_target_lsn is compared with
	End    LSN // where the next record may begin
	Xid    uint32
	Rmgr   uint8
	Info   uint8
	Length uint32
	Magic  uint16 // of the log's pages: names the version of its format
	Kind   Kind
	Commit time.Time // for Kind Commit

	// Body is what follows the header, at most Config.Keep bytes of it. It is valid
	// until the callback returns.
	Body []byte
}

// A Config says where a walk begins and what it must find.
type Config struct {
	// Start is the first byte: the beginning of a page, or with AtRecord the end of a
	// complete record.
	Start    LSN
	AtRecord bool

	// SegmentSize is the server's wal_segment_size. Required: a power of two.
	SegmentSize int64

	// PageSize is the server's wal_block_size. Defaults to 8192.
	PageSize int64

	// Timeline returns the timeline that wrote the page at an address. A nil func
	// accepts any.
	Timeline func(page LSN) uint32

	// System is the system identifier that segment headers must carry; 0 accepts any.
	System uint64

	// Keep is how many bytes of each record's body are kept for Record. Defaults to 64,
	// which is enough for what the walker itself looks at.
	Keep int

	// Record, if set, is called for every complete record, in order. Its error ends
	// the walk and is returned.
	Record func(Record) error
}

// A Walker walks one contiguous stretch of log. It is used by one goroutine.
type Walker struct {
	cfg   Config
	pos   LSN // the next byte
	err   error
	magic uint16

	last  Record // newest complete record; Start and End 0 before the first
	valid LSN    // everything before it is whole

	head    []byte // page header being gathered
	inBody  bool   // false: the next bytes of this page are its header
	discard bool   // after a switch: the rest of the segment means nothing
	skip    int64  // bytes of an older record that this walk did not see the head of
	rec     []byte // header and first body bytes of the record in progress
	start   LSN    // of the record in progress
	total   int64  // its length; 0 while unknown
	got     int64  // bytes of it so far
	crc     uint32
	pad     int64  // alignment bytes before the next record
	done    Record // complete but for its alignment bytes; Start 0 after an older record
}

// NewWalker begins a walk.
func NewWalker(cfg Config) (*Walker, error) {
	if cfg.PageSize == 0 {
		cfg.PageSize = 8192
	}
	cfg.Keep = max(cfg.Keep, keepBody)
	if cfg.SegmentSize < cfg.PageSize || cfg.SegmentSize&(cfg.SegmentSize-1) != 0 ||
		cfg.PageSize < 1024 || cfg.PageSize&(cfg.PageSize-1) != 0 {
		return nil, fmt.Errorf("segment size %d with page size %d is impossible", cfg.SegmentSize, cfg.PageSize)
	}
	w := &Walker{cfg: cfg, pos: cfg.Start, valid: cfg.Start}
	inPage := int64(cfg.Start) % cfg.PageSize
	if inPage != 0 && (!cfg.AtRecord || inPage%alignment != 0) {
		return nil, fmt.Errorf("a walk cannot begin at %s: neither a page nor a record begins there", cfg.Start)
	}
	w.inBody = inPage != 0
	if !cfg.AtRecord {
		w.skip = -1 // the first page header says how much of an older record it continues
	}
	return w, nil
}

// Position returns the next byte that Write expects.
func (w *Walker) Position() LSN { return w.pos }

// Valid returns the end of the last complete record, or where the walk began.
// Everything from the beginning up to it is whole.
func (w *Walker) Valid() LSN { return w.valid }

// Last returns the newest complete record. Its End is 0 before the first.
func (w *Walker) Last() Record { return w.last }

// Rewind takes the walk back to Valid, forgetting the record in progress and any
// damage: the next Write brings the bytes from there again.
func (w *Walker) Rewind() {
	w.pos, w.err = w.valid, nil
	w.head, w.rec, w.total, w.got, w.pad, w.discard = w.head[:0], w.rec[:0], 0, 0, 0, false
	w.inBody = int64(w.pos)%w.cfg.PageSize != 0
	w.skip = 0
	if w.last.Kind == Switch && int64(w.pos)%w.cfg.SegmentSize != 0 {
		w.discard = true
	}
	if w.valid == w.cfg.Start && !w.cfg.AtRecord {
		w.skip = -1
		w.inBody = false
	}
}

// Write walks p, which begins at Position. After an error the walk is over until
// Rewind; Valid still holds.
func (w *Walker) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n := len(p)
	for len(p) > 0 {
		used, err := w.step(p)
		w.pos += LSN(used)
		p = p[used:]
		if err != nil {
			w.err = err
			return n - len(p), err
		}
	}
	return n, nil
}

// step consumes some of p: a part of a page header, of a record, or of filler. It
// never crosses a page.
func (w *Walker) step(p []byte) (int, error) {
	if w.discard {
		return w.stepDiscard(p), nil
	}
	if !w.inBody {
		return w.stepHeader(p)
	}
	room := w.cfg.PageSize - int64(w.pos)%w.cfg.PageSize
	if int64(len(p)) > room {
		p = p[:room]
	}
	used, err := w.stepBody(p)
	if int64(used) == room {
		w.inBody = false
	}
	return used, err
}

// stepDiscard skips to the end of the segment after a switch record.
func (w *Walker) stepDiscard(p []byte) int {
	room := w.cfg.SegmentSize - int64(w.pos)%w.cfg.SegmentSize
	if int64(len(p)) < room {
		return len(p)
	}
	w.discard, w.inBody = false, false
	w.valid = w.pos + LSN(room)
	return int(room)
}

func (w *Walker) stepHeader(p []byte) (int, error) {
	want := shortHeader
	page := w.pos - LSN(len(w.head))
	if int64(page)%w.cfg.SegmentSize == 0 {
		want = longHeader
	}
	n := min(len(p), want-len(w.head))
	w.head = append(w.head, p[:n]...)
	if len(w.head) < want {
		return n, nil
	}
	err := w.pageHeader(page, w.head)
	w.head = w.head[:0]
	w.inBody = true
	return n, err
}

// pageHeader checks a page header and sets what the page begins with.
func (w *Walker) pageHeader(page LSN, h []byte) error {
	damage := func(format string, args ...any) error {
		return &DamageError{At: page, Reason: "page header: " + fmt.Sprintf(format, args...)}
	}
	le := binary.LittleEndian
	magic, info, tli := le.Uint16(h), le.Uint16(h[2:]), le.Uint32(h[4:])
	addr, rest := LSN(le.Uint64(h[8:])), int64(le.Uint32(h[16:]))
	if magic == 0 && info == 0 && addr == 0 && w.got == 0 {
		return ErrEnd
	}
	if magic>>8 != 0xD1 || w.magic != 0 && magic != w.magic {
		return damage("magic number %04X", magic)
	}
	if info&^allFlags != 0 {
		return damage("flags %04X", info)
	}
	if addr != page {
		return damage("it belongs to address %s", addr)
	}
	if long := int64(page)%w.cfg.SegmentSize == 0; long != (info&isLongHeader != 0) {
		return damage("segment header flag is %t", !long)
	}
	if w.cfg.Timeline != nil {
		if want := w.cfg.Timeline(page); tli != want {
			return damage("timeline %d, not %d", tli, want)
		}
	}
	if info&isLongHeader != 0 {
		if sys := le.Uint64(h[24:]); w.cfg.System != 0 && sys != w.cfg.System {
			return damage("system identifier %d, not %d", sys, w.cfg.System)
		}
		if seg := int64(le.Uint32(h[32:])); seg != w.cfg.SegmentSize {
			return damage("segment size %d, not %d", seg, w.cfg.SegmentSize)
		}
		if blk := int64(le.Uint32(h[36:])); blk != w.cfg.PageSize {
			return damage("page size %d, not %d", blk, w.cfg.PageSize)
		}
	}
	w.magic = magic
	continues := info&firstIsContinuation != 0
	switch {
	case w.skip != 0: // an older record that we have not seen from its head, or the first page
		if w.skip > 0 && (!continues || rest != w.skip) && info&firstIsOverwrite == 0 {
			return damage("%d bytes of a record remain, not %d", rest, w.skip)
		}
		w.skip = 0
		if continues {
			w.skip = rest
		} else {
			w.valid = page // a record begins on this page
		}
	case w.got > 0:
		if info&firstIsOverwrite != 0 {
			// The server crashed before this record was complete and, on restart,
			// gave it up. What we hold of it is dead; recovery skips it as well.
			w.dropRecord()
			break
		}
		if !continues || w.total > 0 && rest != w.total-w.got {
			return damage("a record is not continued")
		}
	case continues:
		return damage("it continues a record that does not exist")
	}
	return nil
}

func (w *Walker) dropRecord() {
	w.rec, w.total, w.got, w.crc = w.rec[:0], 0, 0, 0
}

// stepBody consumes bytes of one page after its header.
func (w *Walker) stepBody(p []byte) (int, error) {
	switch {
	case w.skip > 0:
		n := min(int64(len(p)), w.skip)
		if w.skip -= n; w.skip > 0 {
			return int(n), nil
		}
		end := w.pos + LSN(n)
		w.pad = padding(end)
		w.done = Record{End: end + LSN(w.pad)}
		if w.pad > 0 {
			return int(n), nil
		}
		return int(n), w.report()
	case w.pad > 0:
		n := min(int64(len(p)), w.pad)
		if w.pad -= n; w.pad > 0 {
			return int(n), nil
		}
		return int(n), w.report()
	case w.got < recordHeader:
		return w.stepRecordHeader(p)
	}
	n := min(int64(len(p)), w.total-w.got)
	if room := recordHeader + w.cfg.Keep - len(w.rec); room > 0 {
		w.rec = append(w.rec, p[:min(int(n), room)]...)
	}
	w.crc = crc32.Update(w.crc, castagnoli, p[:n])
	w.got += n
	if w.got == w.total {
		return int(n), w.complete(w.pos + LSN(n))
	}
	return int(n), nil
}

func (w *Walker) stepRecordHeader(p []byte) (int, error) {
	if w.got == 0 {
		w.start, w.rec = w.pos, w.rec[:0]
	}
	n := min(len(p), int(recordHeader-w.got))
	w.rec = append(w.rec, p[:n]...)
	w.got += int64(n)
	if w.total == 0 && w.got >= 4 {
		total := int64(binary.LittleEndian.Uint32(w.rec))
		if total == 0 {
			w.dropRecord()
			return 0, ErrEnd
		}
		if total < recordHeader || total > MaxRecord {
			return n, &DamageError{At: w.start, Reason: fmt.Sprintf("record length %d", total)}
		}
		w.total = total
	}
	if w.got < recordHeader {
		return n, nil
	}
	if prev := LSN(binary.LittleEndian.Uint64(w.rec[8:])); w.last.End != 0 && prev != w.last.Start {
		return n, &DamageError{At: w.start, Reason: fmt.Sprintf("it follows a record at %s, not the one at %s", prev, w.last.Start)}
	}
	w.crc = 0
	if w.total == recordHeader { // a record without a body
		return n, w.complete(w.pos + LSN(n))
	}
	return n, nil
}

// complete checks the finished record that ends at end and reports it.
func (w *Walker) complete(end LSN) error {
	le := binary.LittleEndian
	crc := crc32.Update(w.crc, castagnoli, w.rec[:20])
	if want := le.Uint32(w.rec[20:]); crc != want {
		return &DamageError{At: w.start, Reason: fmt.Sprintf("record CRC is %08X, not %08X", crc, want)}
	}
	w.pad = padding(end)
	r := Record{
		Start: w.start, End: end + LSN(w.pad), Xid: le.Uint32(w.rec[4:]),
		Info: w.rec[16], Rmgr: w.rec[17], Length: uint32(w.total), Magic: w.magic, Body: w.rec[recordHeader:],
	}
	switch {
	case r.Rmgr == rmgrXact && (r.Info&xactMask == xactCommit || r.Info&xactMask == xactCommitPrepared):
		t, err := commitTime(w.rec[recordHeader:])
		if err != nil {
			return &DamageError{At: w.start, Reason: err.Error()}
		}
		r.Kind, r.Commit = Commit, t
	case r.Rmgr == rmgrXLog && r.Info&0xF0 == xlogSwitch:
		r.Kind = Switch
	case r.Rmgr == rmgrXLog && r.Info&0xF0 == xlogShutdownCheckpoint:
		r.Kind = Shutdown
	case r.Rmgr == rmgrTablespace && r.Info&0xF0 == tablespaceCreate && !inPlace(w.rec[recordHeader:]):
		r.Kind = Tablespace
	}
	w.dropRecord()
	w.done = r
	if w.pad > 0 {
		return nil // it counts once its alignment bytes are here, too
	}
	return w.report()
}

// report makes the finished record the last one.
func (w *Walker) report() error {
	r := w.done
	w.valid = r.End
	if r.Start == 0 {
		return nil // the tail of a record whose head this walk did not see
	}
	w.last = r
	w.last.Body = nil // it is about to be overwritten
	if r.Kind == Switch && int64(r.End)%w.cfg.SegmentSize != 0 {
		// The record is whole; the filler up to the segment's end follows.
		w.discard = true
	}
	if w.cfg.Record != nil {
		return w.cfg.Record(r)
	}
	return nil
}

// padding returns the bytes from at to the next aligned position.
func padding(at LSN) int64 { return int64(-at) & (alignment - 1) }

// pgEpoch is where PostgreSQL counts its microseconds from.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// commitTime finds the time in the body of a commit record: after the headers of
// its parts, the main part begins with it.
func commitTime(body []byte) (time.Time, error) {
	bad := errors.New("a commit record without a time")
	for i := 0; i < len(body); {
		switch body[i] {
		case 253: // replication origin
			i += 3
		case 252: // top-level transaction
			i += 5
		case 255, 254: // main part, with a length of one byte or four
			i += 2
			if body[i-2] == 254 {
				i += 3
			}
			if i+8 > len(body) {
				return time.Time{}, bad
			}
			us := int64(binary.LittleEndian.Uint64(body[i:]))
			return pgEpoch.Add(time.Duration(us/1e6) * time.Second).Add(time.Duration(us%1e6) * time.Microsecond), nil
		default: // commit records refer to no blocks
			return time.Time{}, bad
		}
	}
	return time.Time{}, bad
}

// inPlace reports whether a record that creates a tablespace names no folder: the
// tablespace then lies within the data directory. Whatever is not understood names one.
func inPlace(body []byte) bool {
	for i := 0; i < len(body); {
		switch body[i] {
		case 253: // replication origin
			i += 3
		case 252: // top-level transaction
			i += 5
		case 255: // main part: the tablespace's number, and its folder up to a zero
			return i+6 < len(body) && body[i+6] == 0
		default:
			return false
		}
	}
	return false
}
