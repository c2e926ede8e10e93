package postgres

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/source/postgres/wal"
)

// A spool holds the log on local disk from the moment it arrives until every place
// has it.
//
//	cluster.json                      the one cluster it belongs to
//	<system>/<timeline>.history       ancestry, as the server gave it
//	<system>/<timeline>/<start>.wal   one log segment, raw; the last one is growing
//
// Beside them lies what the log changed (blockLog).
//
// # Crash story
//
// Nothing here says how far the log is whole: opening the spool walks it, record by
// record, and cuts the tail behind the last complete one. A torn, lost or zeroed tail
// after a power cut is therefore the same case as a process killed in mid-write. What
// is cut was never reported to the server as flushed (that follows sync), so the
// server still has it and sends it again.
type spool struct {
	fs    durable.FS
	dir   string
	limit int64
	log   *slog.Logger

	blocks *blockLog

	// Owned by the one goroutine that writes (the receiver).
	file   durable.File // the growing segment; nil until begin
	walker *wal.Walker
	dirty  bool // written and not yet synced
	broken bool // a write or sync failed: the tail is unknown until repair
	tail   mark // of the last record seen, not yet synced

	mu        sync.Mutex // guards what follows; the writer changes it under mu
	cluster   cluster
	histories map[uint32][]byte
	runs      []*logRun // in order; the last one grows
	size      int64     // bytes in segment files
	changed   chan struct{}
}

// A cluster is what cluster.json says.
type cluster struct {
	Store       string `json:"store"`
	System      string `json:"system"`
	SegmentSize int64  `json:"segment_size"`
	PageSize    int64  `json:"page_size"`
}

// A logRun is one contiguous stretch of one timeline.
type logRun struct {
	timeline   uint32
	start, end uint64 // [start, end) is verified and synced; start is a segment's start
	marks      []mark // ascending by end
}

// A mark says what the log amounts to up to a position.
type mark struct {
	end       uint64    // a position at which a piece may end
	record    uint64    // end of the last complete record at or before it; 0 if none is known
	commit    time.Time // of the last transaction that committed before it; zero if none is known
	commitEnd uint64
	fixed     bool // a segment's end
}

// markEvery is the distance of marks in the inside of a run. Every sync adds one.
const markEvery = 64 << 10

// errSpoolFull: the spool is at its limit and no place has its oldest log.
var errSpoolFull = errors.New("the spool is full")

// openSpool opens or makes the spool in dir and recovers what it holds. It needs no
// server: what was received before a crash can be shipped even if the primary is gone.
func openSpool(fsys durable.FS, dir string, limit int64, log *slog.Logger) (*spool, error) {
	sp := &spool{fs: fsys, dir: dir, limit: limit, log: log, blocks: newBlockLog(fsys), histories: map[uint32][]byte{}, changed: make(chan struct{})}
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, spoolError(err)
	}
	text, err := readFile(fsys, filepath.Join(dir, "cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return sp, nil
	}
	if err != nil {
		return nil, spoolError(err)
	}
	if err := json.Unmarshal(text, &sp.cluster); err != nil {
		return nil, spoolError(fmt.Errorf("%q: %w", filepath.Join(dir, "cluster.json"), err))
	}
	if err := sp.load(); err != nil {
		return nil, spoolError(err)
	}
	return sp, nil
}

func spoolError(err error) error {
	return holdfast.WithHint(fmt.Errorf("log spool: %w", err),
		"the spool needs a local directory that this process may write, with room for the log of a longer outage")
}

func readFile(fsys durable.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxHistory+1))
}

// bind ties the spool to the cluster that the server says it is. A foreign one is
// refused: its log would be mixed into another database's history.
//
// Crash here: cluster.json is the old one or the new one; the directory of a
// system is made before its first segment.
func (sp *spool) bind(c cluster, adopt string) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	old := sp.cluster
	if old == c {
		return nil
	}
	if old.System != "" && old.System != c.System && adopt != c.System {
		return &foreignError{Store: c.Store, Want: old.System, Got: c.System}
	}
	if old.System == c.System {
		return fmt.Errorf("cluster %s of store %q changed its segment or page size", c.System, c.Store)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(sp.fs, filepath.Join(sp.dir, c.System), 0o700); err != nil {
		return spoolError(err)
	}
	if err := durable.WriteFile(sp.fs, filepath.Join(sp.dir, "cluster.json"), append(text, '\n'), 0o600); err != nil {
		return spoolError(err)
	}
	// What was left of a replaced cluster stays on disk, untouched and unshipped.
	sp.closeFile()
	sp.cluster, sp.runs, sp.size, sp.histories = c, nil, 0, map[uint32][]byte{}
	return nil
}

// A foreignError: the server is another cluster than the one that was protected.
type foreignError struct{ Store, Want, Got string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("store %q is cluster %s, but the server that answers is cluster %s", e.Store, e.Want, e.Got)
}

// saveHistory keeps a timeline's ancestry. Two clusters that forked apart can give
// different timelines the same number; that is refused here, before their log mixes.
func (sp *spool) saveHistory(tli uint32, text []byte) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	old, ok := sp.histories[tli]
	if ok {
		if string(old) == string(text) {
			return nil
		}
		return fmt.Errorf("timeline %d of cluster %s has another history than the timeline %d that was streamed before: two servers forked apart under one number", tli, sp.cluster.System, tli)
	}
	if err := durable.WriteFile(sp.fs, filepath.Join(sp.dir, sp.cluster.System, historyName(tli)), text, 0o600); err != nil {
		return spoolError(err)
	}
	sp.histories[tli] = text
	return nil
}

func (sp *spool) timelineDir(tli uint32) string {
	return filepath.Join(sp.dir, sp.cluster.System, fmt.Sprintf("%08x", tli))
}

func (sp *spool) segmentFile(tli uint32, lsn uint64) string {
	return filepath.Join(sp.timelineDir(tli), fmt.Sprintf("%016x.wal", SegmentStart(lsn, sp.cluster.SegmentSize)))
}

// newWalker makes a walker for a run that begins at start, which also notes which blocks
// the records change.
func (sp *spool) newWalker(tli uint32, start uint64, record func(wal.Record) error) (*wal.Walker, error) {
	h, err := parseHistory(tli, sp.histories[tli])
	if err != nil {
		return nil, err
	}
	system, err := strconv.ParseUint(sp.cluster.System, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("system identifier %q: %w", sp.cluster.System, err)
	}
	return wal.NewWalker(wal.Config{
		Start: wal.LSN(start), SegmentSize: sp.cluster.SegmentSize, PageSize: sp.cluster.PageSize, System: system,
		Timeline: func(page wal.LSN) uint32 { return h.at(uint64(page)) },
		Record: func(r wal.Record) error {
			sp.blocks.note(tli, sp.cluster.SegmentSize, r)
			return record(r)
		},
		Keep: wal.KeepBlocks,
	})
}

// load reads what is on disk into runs. The caller holds mu or is alone.
func (sp *spool) load() error {
	root := filepath.Join(sp.dir, sp.cluster.System)
	entries, err := sp.fs.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sp.runs, sp.size = nil, 0
	var timelines []uint32
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".history"); ok && !durable.IsTemp(e.Name()) {
			tli, err := strconv.ParseUint(name, 16, 32)
			if err != nil {
				continue
			}
			if sp.histories[uint32(tli)], err = readFile(sp.fs, filepath.Join(root, e.Name())); err != nil {
				return err
			}
		} else if tli, err := strconv.ParseUint(e.Name(), 16, 32); err == nil && e.IsDir() {
			timelines = append(timelines, uint32(tli))
		}
	}
	slices.Sort(timelines)
	for _, tli := range timelines {
		if err := sp.loadTimeline(tli); err != nil {
			return err
		}
	}
	return nil
}

func (sp *spool) loadTimeline(tli uint32) error {
	entries, err := sp.fs.ReadDir(sp.timelineDir(tli))
	if err != nil {
		return err
	}
	var r *logRun
	var w *wal.Walker
	for _, e := range entries { // in order: names are fixed-width hex
		name, ok := strings.CutSuffix(e.Name(), ".wal")
		at, err := strconv.ParseUint(name, 16, 64)
		if !ok || err != nil {
			continue
		}
		if r == nil || uint64(w.Position()) != at {
			if r != nil {
				r.end = uint64(w.Valid())
			}
			r = &logRun{timeline: tli, start: at, end: at}
			sp.runs = append(sp.runs, r)
			grow := r
			var last mark
			sp.blocks.begin(blockKey{tli, at})
			w, err = sp.newWalker(tli, at, func(rec wal.Record) error {
				last.record, last.end = uint64(rec.End), uint64(rec.End)
				if rec.Kind == wal.Commit {
					last.commit, last.commitEnd = rec.Commit, last.end
				}
				grow.addMark(last, false)
				return nil
			})
			if err != nil {
				return err
			}
		}
		n, err := sp.walkFile(w, filepath.Join(sp.timelineDir(tli), e.Name()))
		sp.size += n
		if err != nil {
			var damage *wal.DamageError
			if !errors.As(err, &damage) && !errors.Is(err, wal.ErrEnd) {
				return err
			}
			// A torn tail, or a disk that forgot: what is behind it is fetched again
			// or becomes a gap; either way it is decided when the stream begins.
			sp.log.Warn("log spool ends early", "timeline", tli, "at", FormatLSN(uint64(w.Valid())), "reason", err)
		}
		r.end = uint64(w.Valid())
		if err := sp.blocks.complete(tli, r.end, sp.cluster.SegmentSize, sp.blockFile); err != nil {
			return err
		}
	}
	for _, r := range sp.runs {
		r.closeMarks()
	}
	return sp.findBlockLists(tli)
}

// addMark puts m in its place. Of marks that nobody can see yet, one in markEvery
// is enough.
func (r *logRun) addMark(m mark, keep bool) {
	i, found := r.findMark(m.end)
	switch n := len(r.marks); {
	case found:
		m.fixed = m.fixed || r.marks[i].fixed
		r.marks[i] = m
	case !keep && i == n && n > 1 && !r.marks[n-1].fixed && r.marks[n-1].end > r.end && m.end-r.marks[n-2].end < markEvery:
		r.marks[n-1] = m
	default:
		r.marks = slices.Insert(r.marks, i, m)
	}
}

func (r *logRun) findMark(lsn uint64) (int, bool) {
	return slices.BinarySearchFunc(r.marks, lsn, func(m mark, lsn uint64) int { return cmp.Compare(m.end, lsn) })
}

// thin drops marks that are closer than markEvery, once their segment is complete
// and few readers will still want a place to stop inside it.
func (r *logRun) thin() {
	kept := r.marks[:0]
	for i, m := range r.marks {
		if n := len(kept); m.fixed || m.end >= r.end || i == len(r.marks)-1 || n == 0 || m.end-kept[n-1].end >= markEvery {
			kept = append(kept, m)
		}
	}
	r.marks = kept
}

// closeMarks drops marks beyond the verified end.
func (r *logRun) closeMarks() {
	for n := len(r.marks); n > 0 && r.marks[n-1].end > r.end; n = len(r.marks) {
		r.marks = r.marks[:n-1]
	}
}

// room is how many bytes more the spool takes before it waits for a place.
func (sp *spool) room() int64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return max(sp.limit, 4*sp.cluster.SegmentSize) - sp.size
}

// markAt returns the last mark at or before lsn.
func (r *logRun) markAt(lsn uint64) (mark, bool) {
	i, found := r.findMark(lsn)
	if !found {
		i--
	}
	if i < 0 {
		return mark{}, false
	}
	return r.marks[i], true
}

// walkFile feeds one segment file to w and returns its size.
func (sp *spool) walkFile(w *wal.Walker, name string) (int64, error) {
	f, err := sp.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(f, sp.cluster.SegmentSize)}, make([]byte, 1<<20))
	return info.Size(), err
}

// begin makes (tli, lsn) the next byte to be written. It continues the last run, or
// starts a new one at a segment boundary. The tail that open could not verify is
// cut off first.
func (sp *spool) begin(tli uint32, lsn uint64) error {
	sp.closeFile()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.broken {
		// After a failed sync the kernel may show bytes that the disk does not have.
		// Only what was synced before counts: cut there and read again.
		if n := len(sp.runs); n > 0 {
			if err := sp.cut(sp.runs[n-1]); err != nil {
				return spoolError(err)
			}
		}
		if err := sp.load(); err != nil {
			return spoolError(err)
		}
		sp.broken = false
	}
	n := len(sp.runs)
	if n == 0 || sp.runs[n-1].timeline != tli || sp.runs[n-1].end != lsn {
		if n > 0 && sp.runs[n-1].timeline == tli && lsn < sp.runs[n-1].end {
			return fmt.Errorf("log spool: asked to begin at %s, before its end %s", FormatLSN(lsn), FormatLSN(sp.runs[n-1].end))
		}
		if lsn != SegmentStart(lsn, sp.cluster.SegmentSize) {
			return fmt.Errorf("log spool: asked to begin a run inside a segment, at %s", FormatLSN(lsn))
		}
		if err := durable.MkdirAll(sp.fs, sp.timelineDir(tli), 0o700); err != nil {
			return spoolError(err)
		}
		for _, r := range sp.runs {
			if r.timeline == tli && r.end > lsn { // about to be received again
				r.end = max(r.start, lsn)
				r.closeMarks()
			}
		}
		sp.runs = append(sp.runs, &logRun{timeline: tli, start: lsn, end: lsn})
	}
	r := sp.runs[len(sp.runs)-1]
	if err := sp.cut(r); err != nil {
		return spoolError(err)
	}
	sp.tail = mark{}
	if m, ok := r.markAt(r.end); ok {
		sp.tail = m
	}
	// Walking the last segment again gives the walker its place in the chain of records.
	from := r.start
	if r.end > r.start {
		from = max(from, SegmentStart(r.end-1, sp.cluster.SegmentSize))
	}
	sp.blocks.begin(blockKey{tli, from})
	w, err := sp.newWalker(tli, from, sp.note)
	if err != nil {
		return err
	}
	for at := from; at < r.end; at += uint64(sp.cluster.SegmentSize) {
		if _, err := sp.walkFile(w, sp.segmentFile(tli, at)); err != nil {
			return spoolError(err)
		}
	}
	w.Rewind()
	if uint64(w.Valid()) != r.end {
		return spoolError(fmt.Errorf("its log is whole up to %s, and was up to %s", w.Valid(), FormatLSN(r.end)))
	}
	sp.walker = w
	return nil
}

// note remembers the last record; the writer publishes it with the next sync.
func (sp *spool) note(rec wal.Record) error {
	sp.tail.record, sp.tail.end = uint64(rec.End), uint64(rec.End)
	if rec.Kind == wal.Commit {
		sp.tail.commit, sp.tail.commitEnd = rec.Commit, uint64(rec.End)
	}
	return nil
}

// cut removes everything of run r's timeline behind r.end.
//
// Crash here: some of it is gone, some not; opening finds the same end, as the
// rest never was verified.
func (sp *spool) cut(r *logRun) error {
	dir := sp.timelineDir(r.timeline)
	entries, err := sp.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	removed := false
	for _, e := range slices.Backward(entries) {
		name, ok := strings.CutSuffix(e.Name(), ".wal")
		at, err := strconv.ParseUint(name, 16, 64)
		if !ok || err != nil || at+uint64(sp.cluster.SegmentSize) <= r.end {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if at >= r.end {
			if err := sp.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			sp.size -= info.Size()
			removed = true
			continue
		}
		if keep := int64(r.end - at); info.Size() > keep {
			f, err := sp.fs.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			err = f.Truncate(keep)
			if err == nil {
				err = f.Sync()
			}
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			sp.size -= info.Size() - keep
		}
	}
	if removed {
		return sp.fs.SyncDir(dir)
	}
	return nil
}

// append verifies data, which begins at lsn, and writes it behind what is there. It
// is durable after sync. Data that is already there is skipped; data beyond the
// next byte is refused, for contiguity belongs to the spool and not to a connection.
//
// After wal damage nothing of data counts: repair rewinds to the last whole record.
func (sp *spool) append(lsn uint64, data []byte) error {
	next := uint64(sp.walker.Position())
	if lsn > next {
		return fmt.Errorf("the server sent log from %s, but %s comes next", FormatLSN(lsn), FormatLSN(next))
	}
	if end := lsn + uint64(len(data)); end <= next {
		return nil
	}
	data = data[next-lsn:]
	for len(data) > 0 {
		segment := sp.cluster.SegmentSize
		room := segment - int64(next)%segment
		part := data[:min(int64(len(data)), room)]
		if sp.file == nil {
			if err := sp.openFile(next); err != nil {
				return err
			}
		}
		if _, err := sp.walker.Write(part); err != nil {
			sp.broken = true
			return err
		}
		if _, err := sp.file.WriteAt(part, int64(next)%segment); err != nil {
			sp.broken = true
			return spoolError(err)
		}
		sp.mu.Lock()
		sp.size += int64(len(part))
		r := sp.runs[len(sp.runs)-1]
		m := sp.tail
		if at := next + uint64(len(part)); int64(len(part)) == room {
			m.end, m.fixed = at, true // a piece ends with its segment
			r.addMark(m, true)
		} else if m.end > r.end {
			r.addMark(m, false)
		}
		sp.mu.Unlock()
		sp.dirty = true
		next += uint64(len(part))
		data = data[len(part):]
		if int64(next)%segment == 0 {
			// Crash between the segments: the full one is durable, and the next one
			// is missing or empty. Both read as the same end.
			if err := sp.sync(); err != nil {
				return err
			}
			sp.closeFile()
			sp.mu.Lock()
			sp.runs[len(sp.runs)-1].thin()
			sp.mu.Unlock()
		}
	}
	return nil
}

// openFile opens the segment that holds lsn for writing; a new one must find room.
func (sp *spool) openFile(lsn uint64) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	tli := sp.runs[len(sp.runs)-1].timeline
	fresh := int64(lsn)%sp.cluster.SegmentSize == 0
	if fresh && sp.size+sp.cluster.SegmentSize > max(sp.limit, 4*sp.cluster.SegmentSize) {
		return errSpoolFull
	}
	f, err := sp.fs.OpenFile(sp.segmentFile(tli, lsn), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return spoolError(err)
	}
	if fresh {
		// Without this a power cut could lose the name of a file whose bytes are safe.
		if err := sp.fs.SyncDir(sp.timelineDir(tli)); err != nil {
			_ = f.Close()
			return spoolError(err)
		}
	}
	sp.file = f
	return nil
}

func (sp *spool) closeFile() {
	if sp.file != nil {
		_ = sp.file.Close() // what counts was synced; the rest is cut on the next open
		sp.file = nil
	}
}

// sync makes what was appended durable and publishes every complete record.
func (sp *spool) sync() error {
	if !sp.dirty {
		return nil
	}
	if err := sp.file.Sync(); err != nil {
		sp.broken = true
		return spoolError(err)
	}
	sp.dirty = false
	sp.mu.Lock()
	defer sp.mu.Unlock()
	r := sp.runs[len(sp.runs)-1]
	valid := uint64(sp.walker.Valid())
	if err := sp.blocks.complete(r.timeline, valid, sp.cluster.SegmentSize, sp.blockFile); err != nil {
		sp.broken = true
		return spoolError(err)
	}
	if valid > r.end {
		m := sp.tail
		if m.end < valid { // the end of filler, or of a record that began before the run
			m.end = valid
		}
		r.end = valid
		r.addMark(m, false)
		sp.wake()
	}
	return nil
}

// wake tells everyone who waits that something is new. The caller holds mu.
func (sp *spool) wake() {
	close(sp.changed)
	sp.changed = make(chan struct{})
}

// wait returns a channel that is closed when the spool has more to give.
func (sp *spool) wait() <-chan struct{} {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.changed
}

// lineage returns the cluster's system identifier, "" before the first contact.
func (sp *spool) lineage() string {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.cluster.System
}

func (sp *spool) segmentSize() int64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return max(sp.cluster.SegmentSize, 1)
}

// history returns a timeline's history file, nil if there is none.
func (sp *spool) history(tli uint32) []byte {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.histories[tli]
}

// ancestry returns what the spool knows of a timeline's parents.
func (sp *spool) ancestry(tli uint32) history {
	h, err := parseHistory(tli, sp.history(tli))
	if err != nil {
		return history{Timeline: tli} // checked when it was saved
	}
	return h
}

// written returns the end of what was received, whole record or not.
func (sp *spool) written() uint64 { return uint64(sp.walker.Position()) }

// A stretch is a copy of what a run spans, for readers.
type stretch struct {
	timeline   uint32
	start, end uint64
}

// stretches lists what the spool holds, in order.
func (sp *spool) stretches() []stretch {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	out := make([]stretch, len(sp.runs))
	for i, r := range sp.runs {
		out[i] = stretch{r.timeline, r.start, r.end}
	}
	return out
}

// head returns where the stream stands, and the mark there.
func (sp *spool) head() (s stretch, m mark, ok bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if len(sp.runs) == 0 {
		return stretch{}, mark{}, false
	}
	r := sp.runs[len(sp.runs)-1]
	m, _ = r.markAt(r.end)
	return stretch{r.timeline, r.start, r.end}, m, true
}

// markAt returns the last mark at or before lsn on a timeline.
func (sp *spool) markAt(tli uint32, lsn uint64) (mark, bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, r := range slices.Backward(sp.runs) {
		if r.timeline == tli && lsn > r.start && lsn <= r.end {
			return r.markAt(lsn)
		}
	}
	return mark{}, false
}

// read returns [from, to) of a timeline, which lies within one segment.
func (sp *spool) read(tli uint32, from, to uint64) ([]byte, error) {
	sp.mu.Lock()
	name, segment := sp.segmentFile(tli, from), sp.cluster.SegmentSize
	sp.mu.Unlock()
	f, err := sp.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, to-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, int64(from)%segment, int64(len(data))), data); err != nil {
		return nil, err
	}
	return data, nil
}

// trim removes whole segments, oldest first, for which done says that they are no
// longer needed here. The segment in which the last whole record ends always stays.
// Only the writer calls it; done may ask the spool.
//
// Crash here: a segment is gone or not; whoever needed it has it.
func (sp *spool) trim(done func(tli uint32, from, to uint64) bool) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	segment := uint64(sp.cluster.SegmentSize)
	for i := 0; i < len(sp.runs); {
		r := sp.runs[i]
		last := i == len(sp.runs)-1
		for r.start < r.end {
			to := r.start + segment
			if last && to >= r.end {
				return nil
			}
			// A shipper asks the spool while it holds its own lock, which done waits for.
			// Only the writer, which is who trims, changes the runs.
			sp.mu.Unlock()
			gone := done(r.timeline, r.start, min(to, r.end))
			sp.mu.Lock()
			if !gone {
				return nil
			}
			name := sp.segmentFile(r.timeline, r.start)
			f, err := sp.fs.Stat(name)
			if err != nil {
				return spoolError(err)
			}
			if err := sp.fs.Remove(name); err != nil {
				return spoolError(err)
			}
			sp.size -= f.Size()
			r.start = to
			k := 0
			for k < len(r.marks) && r.marks[k].end <= r.start {
				k++
			}
			// One mark before the start stays: it says what the first piece follows.
			r.marks = slices.Delete(r.marks, 0, max(0, k-1))
			sp.wake()
		}
		if last {
			return nil
		}
		sp.runs = slices.Delete(sp.runs, i, i+1)
	}
	return nil
}

// close ends the writer's use of the spool.
func (sp *spool) close() { sp.closeFile() }
