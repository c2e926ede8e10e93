package postgres

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"holdfast/internal/repo"
)

// Gathering: what came in many small pieces is put once more as a large one.
//
// A piece a second keeps the loss at a second and makes 86,400 objects a day. So when a
// block of 16 MiB is over, or after an hour, the log of that time is put once more, from the
// spool, as one piece under the name of its whole range. Readers take the longest
// piece that begins where they are, so from then on the small ones are superfluous, and
// the vault deletes them in its own time (repo.Collector). The agent deletes nothing.
//
// Nothing depends on it: a gathered piece that does not come leaves the small ones,
// which cost more and hold the same. A crash leaves it whole or absent, and the next
// life of the agent goes on where the listing says.
const (
	// gatherEvery is after what time the pieces of a slow database are gathered. The
	// vault accepts a gathered piece only so long after the small ones
	// (repo.GatherWithin): a captured host can spoil no older log with it.
	gatherEvery = time.Hour
	// gatherLeast is how many pieces are worth another one.
	gatherLeast = 32
	// gatherMean is the mean size of pieces that are gathered, in bytes of log. A busy
	// database makes large pieces anyway, and is not asked to send its log twice.
	gatherMean = 256 << 10
)

// block is what a gathered piece lies in: a segment, or 16 MiB of a larger one.
func (sh *shipper) block() uint64 { return min(uint64(sh.sp.segmentSize()), maxPiece) }

// A gathering is a run of pieces without a hole that a place holds, within one block.
type gathering struct {
	timeline uint32
	from, to uint64
	pieces   int
	since    time.Time // when the first was put
}

// note adds a piece to the run, or begins a new one with it.
func (g *gathering) note(tli uint32, from, to, block uint64, now time.Time) {
	if g.pieces == 0 || g.timeline != tli || g.to != from || g.from/block != from/block {
		*g = gathering{timeline: tli, from: from, since: now}
	}
	g.to = to
	g.pieces++
}

// due reports whether the run is to be gathered now.
func (g *gathering) due(block uint64, now time.Time) bool {
	return g.pieces >= gatherLeast && (g.to-g.from)/uint64(g.pieces) < gatherMean &&
		(g.to%block == 0 || now.Sub(g.since) >= gatherEvery)
}

// gatherable takes the run if it is due; the caller holds mu.
func (sh *shipper) gatherable(block uint64, now time.Time) (g gathering, ok bool) {
	if !sh.current.due(block, now) || len(sh.pending) == maxPending {
		return g, false
	}
	g, sh.current = sh.current, gathering{}
	sh.pending = append(sh.pending, g)
	return g, true
}

// resumeRun finds, in what the place holds, the run that an earlier life of this agent
// began. list is sorted by start, the longest first; the caller holds mu.
func (sh *shipper) resumeRun(list []repo.LogInfo, block uint64, now time.Time) {
	sh.current = gathering{}
	var reach uint64
	for _, l := range list {
		if l.End <= reach {
			continue // within a longer one
		}
		if reach = l.End; l.End-l.Start >= gatherMean {
			sh.current = gathering{}
			continue
		}
		sh.current.note(l.Timeline, l.Start, l.End, block, now)
	}
}

// keeps reports whether a stretch of the spool is still wanted for gathering.
func (sh *shipper) keeps(tli uint32, from, to uint64) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, g := range append(sh.pending[:len(sh.pending):len(sh.pending)], sh.current) {
		if g.pieces >= gatherLeast && g.timeline == tli && g.from < to && from < g.to {
			return true
		}
	}
	return false
}

// gatherer puts gathered pieces beside the shipper, so that a large one delays no
// commit.
func (sh *shipper) gatherer(ctx context.Context, due <-chan gathering) {
	for g := range due {
		if ctx.Err() == nil {
			if err := sh.gather(ctx, g); err != nil && ctx.Err() == nil {
				// The small pieces hold the same, and stay.
				sh.src.cfg.Log.Warn("pieces of log are not gathered", "store", sh.src.cfg.Store, "place", sh.name, "from", FormatLSN(g.from), "to", FormatLSN(g.to), "err", err)
			}
		}
		sh.mu.Lock()
		sh.pending = sh.pending[1:]
		sh.mu.Unlock()
		sh.moved() // the spool may let go
	}
}

// gather puts one run as one piece.
//
// Crash or unknown outcome here: it is there or it is not, and the small pieces are.
func (sh *shipper) gather(ctx context.Context, g gathering) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	data, err := sh.sp.read(g.timeline, g.from, g.to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the spool was full and let go of it
	}
	if err != nil {
		return spoolError(err)
	}
	p := &piece{timeline: g.timeline, from: g.from, to: g.to, previous: FormatLSN(g.from)}
	p.mark, _ = sh.sp.markAt(p.timeline, p.to)
	if err := sh.store.PutLog(ctx, sh.logPiece(p), data, sh.keys); err != nil {
		return err
	}
	sh.mu.Lock()
	if sh.unread = append(sh.unread, extent{p.timeline, p.from, p.to}); len(sh.unread) > maxUnread {
		sh.unread = sh.unread[1:]
	}
	sh.mu.Unlock()
	return nil
}

// startGatherer runs a gatherer until stop is called, which waits for it.
func (sh *shipper) startGatherer(ctx context.Context) (due chan gathering, stop func()) {
	due = make(chan gathering, maxPending)
	var wg sync.WaitGroup
	wg.Go(func() { sh.gatherer(ctx, due) })
	return due, func() { close(due); wg.Wait() }
}

// maxPending bounds the runs that wait for a slow place; beyond it the small pieces
// stay as they are.
const maxPending = 16
