package postgres

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/durable"
	"holdfast/internal/seal"
	"holdfast/internal/source/postgres/wal"
)

// A blockLog remembers which blocks the log changed, for the next base backup, longer
// than the spool has the log itself.
//
//	<system>/<timeline>/<start>.blocks   the records that begin in one log segment
//
// # Crash story
//
// A segment's list is durable before the spool says that the log goes beyond that
// segment, and only what the spool said may be trimmed. So a segment is on disk, and is
// walked again when the spool is opened, or its list is. A torn list has a wrong hash and
// counts as missing: the next base reads everything, and says so.
type blockLog struct {
	fs durable.FS

	mu      sync.Mutex
	open    map[blockKey]*wal.BlockSet // of segments that are not complete
	written []blockKey                 // in order of time; only a bound on their number
}

// A blockKey names a segment by where it begins.
type blockKey struct {
	timeline uint32
	start    uint64
}

const (
	blockSuffix = ".blocks"

	// maxBlockLists bounds how many segments are remembered: 256 GiB of log in segments
	// of 16 MiB. Beyond that the oldest is forgotten.
	maxBlockLists = 1 << 14
	maxBlockList  = 64 << 20 // bytes of one list that are read back
)

func newBlockLog(fsys durable.FS) *blockLog {
	return &blockLog{fs: fsys, open: map[blockKey]*wal.BlockSet{}}
}

// begin forgets what was gathered of a segment: its records are about to be walked from
// its beginning.
func (l *blockLog) begin(k blockKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := range l.open {
		if old.timeline == k.timeline && old.start >= k.start {
			delete(l.open, old)
		}
	}
	l.open[k] = &wal.BlockSet{}
}

// note takes one record.
func (l *blockLog) note(timeline uint32, segment int64, r wal.Record) {
	k := blockKey{timeline, SegmentStart(uint64(r.Start), segment)}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[k]
	if s == nil {
		s = &wal.BlockSet{}
		l.open[k] = s
	}
	if err := s.Add(r); err != nil {
		// A kind of record that we do not know: nothing can be said about this segment.
		s.Forget()
	}
}

// complete writes the lists of the segments that end at or before valid.
//
// Crash here: a list is there whole, or not at all.
func (l *blockLog) complete(timeline uint32, valid uint64, segment int64, name func(blockKey) string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, s := range l.open {
		if k.timeline != timeline || k.start+uint64(segment) > valid {
			continue
		}
		if _, err := l.fs.Stat(name(k)); err == nil {
			delete(l.open, k) // walked again, with the same result
			continue
		}
		b := s.AppendBinary(nil)
		sum := seal.Hash(b)
		if err := durable.WriteFile(l.fs, name(k), append(b, sum[:]...), 0o600); err != nil {
			return err
		}
		delete(l.open, k)
		l.written = append(l.written, k)
	}
	for len(l.written) > maxBlockLists {
		if err := l.fs.Remove(name(l.written[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		l.written = l.written[1:]
	}
	return nil
}

// blockFile is where a segment's list lies.
func (sp *spool) blockFile(k blockKey) string {
	return strings.TrimSuffix(sp.segmentFile(k.timeline, k.start), ".wal") + blockSuffix
}

// findBlockLists remembers which lists there are. The caller holds mu.
func (sp *spool) findBlockLists(timeline uint32) error {
	entries, err := sp.fs.ReadDir(sp.timelineDir(timeline))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), blockSuffix)
		if at, err := strconv.ParseUint(name, 16, 64); ok && err == nil {
			if k := (blockKey{timeline, at}); !slices.Contains(sp.blocks.written, k) {
				sp.blocks.written = append(sp.blocks.written, k)
			}
		}
	}
	return nil
}

// A noBlocksError says why it is not known what the log changed.
type noBlocksError struct{ why string }

func (e *noBlocksError) Error() string { return e.why }

// changedBlocks returns what the records from one position to another changed, and perhaps
// more. The log between them must have been walked.
func (sp *spool) changedBlocks(timeline uint32, from, to uint64) (*wal.BlockSet, error) {
	sp.mu.Lock()
	segment := sp.cluster.SegmentSize
	n := len(sp.runs)
	here := n > 0 && sp.runs[n-1].timeline == timeline && sp.runs[n-1].end >= to && sp.runs[n-1].start <= SegmentStart(to, segment)
	sp.mu.Unlock()
	if !here {
		return nil, &noBlocksError{fmt.Sprintf("the log up to %s was not received", FormatLSN(to))}
	}
	all := &wal.BlockSet{}
	for at := SegmentStart(from, segment); at <= to; at += uint64(segment) {
		k := blockKey{timeline, at}
		if at+uint64(segment) > to { // what is gathered of any other may be of a run that broke off
			sp.blocks.mu.Lock()
			s, ok := sp.blocks.open[k]
			if ok {
				all.Join(s)
			}
			sp.blocks.mu.Unlock()
			if ok {
				continue
			}
		}
		s, err := sp.readBlocks(k)
		if errors.Is(err, fs.ErrNotExist) {
			if at == to {
				continue // nothing of that segment was written yet
			}
			return nil, &noBlocksError{fmt.Sprintf("what the log changed in the segment at %s was not noted", FormatLSN(at))}
		}
		if err != nil {
			return nil, &noBlocksError{fmt.Sprintf("what the log changed in the segment at %s: %v", FormatLSN(at), err)}
		}
		all.Join(s)
	}
	if all.All() {
		return nil, &noBlocksError{"the log changed more than is kept in mind, or in a way that is not known"}
	}
	return all, nil
}

func (sp *spool) readBlocks(k blockKey) (*wal.BlockSet, error) {
	f, err := sp.fs.OpenFile(sp.blockFile(k), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBlockList))
	if err != nil {
		return nil, err
	}
	if len(b) < 32 {
		return nil, errors.New("it is torn")
	}
	b, sum := b[:len(b)-32], b[len(b)-32:]
	if seal.Hash(b) != [32]byte(sum) {
		return nil, errors.New("it is damaged")
	}
	return wal.ParseBlockSet(b)
}

// dropBlocks forgets what the log changed before a position. A base that begins there is
// what the next one builds on.
func (sp *spool) dropBlocks(timeline uint32, before uint64) error {
	sp.mu.Lock()
	segment := sp.cluster.SegmentSize
	sp.mu.Unlock()
	l := sp.blocks
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.written[:0]
	var err error
	for _, k := range l.written {
		if k.timeline == timeline && k.start+uint64(segment) <= before {
			if rerr := sp.fs.Remove(sp.blockFile(k)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
			continue
		}
		kept = append(kept, k)
	}
	l.written = kept
	return err
}
