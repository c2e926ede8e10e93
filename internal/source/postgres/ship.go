package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"holdfast/internal/repo"
)

// Limits of shipping.
const (
	// maxPiece bounds a piece when a place catches up. A piece never crosses a segment.
	maxPiece = 16 << 20
	// putTimeout bounds one attempt to store a piece; a place that needs longer for
	// 16 MiB cannot keep up with a database.
	putTimeout = 5 * time.Minute
	// shipRetry and shipRetryMax pace a failing place.
	shipRetry    = 500 * time.Millisecond
	shipRetryMax = 30 * time.Second
	// maxCatches bounds the instants remembered for a place that lags.
	maxCatches = 256
)

// A logStore is all that a shipper may do to a repository: add log and see what is
// there. It cannot read the log back. *repo.Repository satisfies it.
type logStore interface {
	// Blind reports whether the place cannot be asked what is there.
	Blind() bool
	PutLog(ctx context.Context, p repo.LogPiece, data []byte, keys repo.LogKeys) error
	ListLog(ctx context.Context, scope string) ([]repo.LogInfo, []repo.NamedInfo, error)
	LogHeader(ctx context.Context, info repo.LogInfo) (repo.LogPiece, error)
	PutNamed(ctx context.Context, scope, lineage, name string, data []byte, keys repo.LogKeys) error
}

// A catch is an instant at which the primary had nothing newer than a position.
type catch struct {
	timeline uint32
	need     uint64
	at       time.Time // by our clock
	server   time.Time // by the server's, for a quiet; zero if it did not say
}

// A shipper brings the log from the spool to one place. It knows its place's
// frontier from the place itself, so it may be killed at any moment: a piece is
// either there or not, and is put again under the same name.
type shipper struct {
	name  string
	store logStore
	src   *Source
	keys  repo.LogKeys
	sp    *spool
	every time.Duration
	bytes int64
	moved func() // something changed that others look at

	hurry chan struct{}
	look  chan struct{} // asks for an audit now

	mu         sync.Mutex      // taken after the spool's, never before it
	known      bool            // cover was learned from the place
	stale      bool            // the place may hold more than cover says: ask again
	cover      coverage        // what the place surely holds
	lineages   map[string]bool // that the place holds of this store
	shipped    map[uint32]bool // timelines whose history the place has
	lastCommit time.Time
	caught     time.Time
	gone       coverage  // what the place held once, and does not show any more
	bad        *Gap      // the newest piece that does not read back; nil if none is known
	unread     []extent  // put since the last audit
	quiet      quiet     // the newest that the place could be told
	said       time.Time // instant of the newest that it was told
	lastWord   bool      // the server is gone: tell the place now what is known
	catches    []catch   // waiting for the place, oldest first
	current    gathering // pieces since the last that were gathered
	pending    []gathering
	err        string

	floorTimeline uint32 // where the newest base at the place begins, once there was a hole
	floor         uint64
}

// run ships until ctx ends. It never gives up: a place that fails is tried again,
// and the spool keeps what it misses.
func (sh *shipper) run(ctx context.Context) {
	due, stop := sh.startGatherer(ctx)
	defer stop()
	retry := shipRetry
	var last time.Time // when the newest piece was begun
	for ctx.Err() == nil {
		wake := sh.sp.wait() // taken before looking, so that no change is missed
		err := sh.learn(ctx)
		var p *piece
		if err == nil {
			p = sh.next()
		}
		if err == nil && p != nil && p.to-p.from < uint64(sh.bytes) && !p.more {
			// Not full: wait until the interval since the last piece is over, unless
			// somebody needs it now. A lone commit after a pause goes at once.
			if due := sh.every - time.Since(last); due > 0 {
				if !sh.pause(ctx, due, nil) {
					return
				}
				p = sh.next()
			}
		}
		if err == nil && p != nil {
			last = time.Now()
			err = sh.put(ctx, p)
			sh.mu.Lock()
			g, ok := sh.gatherable(sh.block(), sh.src.cfg.Clock())
			sh.mu.Unlock()
			if ok {
				due <- g // never full: it holds as many as may be pending
			}
		}
		if err == nil {
			err = sh.sayQuiet(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			sh.fail(err)
			if !sh.pause(ctx, retry, nil) {
				return
			}
			retry = min(2*retry, shipRetryMax)
			continue
		}
		sh.succeed()
		retry = shipRetry
		if p == nil && !sh.pause(ctx, -1, wake) {
			return
		}
	}
}

// pause waits for d (for ever if negative), for wake, or for hurry; false when ctx
// ended.
func (sh *shipper) pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-wake:
	case <-sh.hurry:
	}
	return true
}

// soon asks for what is there to be shipped without waiting for the interval.
func (sh *shipper) soon() {
	select {
	case sh.hurry <- struct{}{}:
	default:
	}
}

func (sh *shipper) fail(err error) {
	sh.mu.Lock()
	changed := sh.err != err.Error()
	sh.err = err.Error()
	sh.mu.Unlock()
	if changed {
		sh.src.cfg.Log.Warn("log is not shipped", "store", sh.src.cfg.Store, "place", sh.name, "err", err)
		sh.moved()
	}
}

func (sh *shipper) succeed() {
	sh.mu.Lock()
	changed := sh.err != ""
	sh.err = ""
	sh.mu.Unlock()
	if changed {
		sh.src.cfg.Log.Info("log is shipped again", "store", sh.src.cfg.Store, "place", sh.name)
		sh.moved()
	}
}

// learn reads, once, what the place already holds.
func (sh *shipper) learn(ctx context.Context) error {
	sh.mu.Lock()
	fresh := sh.known && !sh.stale
	sh.mu.Unlock()
	if fresh {
		return nil
	}
	if sh.store == nil {
		return fmt.Errorf("place %q was not open when the stream began", sh.name)
	}
	if sh.store.Blind() {
		// Nobody tells us: what was put since we began is there, and all that the spool
		// still has before that is put again. A name that is taken counts as stored.
		sh.mu.Lock()
		sh.known, sh.stale = sh.sp.lineage() != "", false
		if sh.shipped == nil {
			sh.cover, sh.lineages, sh.shipped = coverage{}, map[string]bool{}, map[uint32]bool{}
		}
		sh.mu.Unlock()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	infos, named, err := sh.store.ListLog(ctx, sh.src.cfg.Store)
	if err != nil {
		return fmt.Errorf("place %q: list its log: %w", sh.name, err)
	}
	lineage := sh.sp.lineage()
	cover, lineages := coverage{}, map[string]bool{}
	var newest repo.LogInfo
	for _, in := range infos {
		lineages[in.Lineage] = true
		if lineage == "" || in.Lineage != lineage {
			continue
		}
		cover.add(in.Timeline, in.Start, in.End)
		if in.Timeline > newest.Timeline || in.Timeline == newest.Timeline && in.End > newest.End {
			newest = in
		}
	}
	var said time.Time
	for _, n := range named {
		if q, ok := parseQuiet(n.Name); ok && n.Lineage == lineage {
			said = laterOf(said, q.at)
		}
	}
	var commit time.Time
	if newest.Timeline != 0 {
		// Only for display; a place that cannot say is not worse for it.
		if head, err := sh.store.LogHeader(ctx, newest); err == nil {
			commit = head.LastCommit
		}
	}
	sh.mu.Lock()
	sh.cover, sh.lineages, sh.shipped, sh.stale, sh.said = cover, lineages, map[uint32]bool{}, false, said
	if commit.After(sh.lastCommit) {
		sh.lastCommit = commit
	}
	if newest.Timeline != 0 && sh.current.pieces == 0 {
		ours := slices.DeleteFunc(infos, func(in repo.LogInfo) bool { return in.Lineage != lineage || in.Timeline != newest.Timeline })
		slices.SortFunc(ours, func(a, b repo.LogInfo) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End)) })
		sh.resumeRun(ours, sh.block(), sh.src.cfg.Clock())
	}
	sh.known = lineage != "" // before the first contact there is nothing to compare with
	sh.mu.Unlock()
	sh.moved()
	return nil
}

// A piece is what is shipped next.
type piece struct {
	timeline uint32
	from, to uint64
	previous string
	mark     mark
	more     bool // there is log behind it already
}

// next returns the oldest stretch of the spool that the place misses, or nil.
func (sh *shipper) next() *piece {
	segment := uint64(sh.sp.segmentSize())
	p := sh.oldestMissing(sh.sp.stretches())
	if p == nil {
		return nil
	}
	end := p.to
	p.to = min(p.to, p.from+maxPiece, p.from-p.from%segment+segment)
	var ok bool
	p.mark, ok = sh.sp.markAt(p.timeline, p.to)
	if ok && p.mark.end > p.from && p.mark.end < p.to {
		p.to = p.mark.end
	}
	p.more = p.more || p.to < end
	return p
}

// oldestMissing leaves sh.mu before the spool is asked: the spool asks what places
// cover under its own lock, so the order is always the spool's lock first.
func (sh *shipper) oldestMissing(stretches []stretch) *piece {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.known {
		return nil
	}
	for i, s := range stretches {
		m, ok := sh.cover.missing(s.timeline, s.start, s.end)
		if !ok {
			continue
		}
		p := &piece{timeline: s.timeline, from: m.from, to: m.to, more: i < len(stretches)-1}
		for _, c := range sh.cover[p.timeline] {
			if c.to == p.from {
				p.previous = FormatLSN(c.to)
			}
		}
		return p
	}
	return nil
}

// put stores p at the place.
//
// Crash or unknown outcome here: the piece is there or it is not. The next attempt,
// or the next process, either finds it in the listing or puts the same range again.
func (sh *shipper) put(ctx context.Context, p *piece) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	block := sh.block()
	data, err := sh.sp.read(p.timeline, p.from, p.to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // trimmed since; look again
	}
	if err != nil {
		return spoolError(err)
	}
	lineage := sh.sp.lineage()
	if err := sh.putHistory(ctx, lineage, p.timeline); err != nil {
		return err
	}
	if err := sh.store.PutLog(ctx, sh.logPiece(p), data, sh.keys); err != nil {
		// The outcome is unknown. What the place really has decides.
		sh.mu.Lock()
		sh.stale = true
		sh.mu.Unlock()
		return fmt.Errorf("place %q: store log %s to %s: %w", sh.name, FormatLSN(p.from), FormatLSN(p.to), err)
	}
	sh.mu.Lock()
	sh.cover.add(p.timeline, p.from, p.to)
	sh.current.note(p.timeline, p.from, p.to, block, sh.src.cfg.Clock())
	sh.gone.remove(p.timeline, p.from, p.to)
	if sh.unread = append(sh.unread, extent{p.timeline, p.from, p.to}); len(sh.unread) > maxUnread {
		sh.unread = sh.unread[1:]
	}
	if !p.mark.commit.IsZero() {
		sh.lastCommit = p.mark.commit
	}
	sh.mu.Unlock()
	sh.settle()
	sh.moved()
	return nil
}

// logPiece is what a piece says of itself.
func (sh *shipper) logPiece(p *piece) repo.LogPiece {
	lp := repo.LogPiece{
		Scope: sh.src.cfg.Store, Lineage: sh.sp.lineage(), Timeline: p.timeline, Start: p.from, End: p.to,
		LastRecord: p.mark.record, Created: sh.src.cfg.Clock(), Previous: p.previous,
	}
	if p.mark.commitEnd > p.from {
		lp.LastCommit = p.mark.commit
	}
	return lp
}

// putHistory brings a timeline's ancestry to the place before its first piece.
func (sh *shipper) putHistory(ctx context.Context, lineage string, tli uint32) error {
	h := sh.sp.ancestry(tli)
	wanted := []uint32{tli}
	for _, p := range h.Parents {
		wanted = append(wanted, p.Timeline)
	}
	for _, t := range wanted {
		sh.mu.Lock()
		has := sh.shipped[t]
		sh.mu.Unlock()
		text := sh.sp.history(t)
		if has || text == nil {
			continue // timeline 1 has none
		}
		if err := sh.store.PutNamed(ctx, sh.src.cfg.Store, lineage, historyName(t), text, sh.keys); err != nil {
			return fmt.Errorf("place %q: store history of timeline %d: %w", sh.name, t, err)
		}
		sh.mu.Lock()
		sh.shipped[t] = true
		sh.mu.Unlock()
	}
	return nil
}

// covers reports whether the place holds all of a stretch.
func (sh *shipper) covers(tli uint32, from, to uint64) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.known {
		return false
	}
	_, missing := sh.cover.missing(tli, from, to)
	return !missing
}

// position returns how far the place holds the log without a hole that the spool
// could still fill, and whether that is all the spool has.
func (sh *shipper) position(stretches []stretch) (tli uint32, lsn uint64, all bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.positionLocked(stretches)
}

func (sh *shipper) positionLocked(stretches []stretch) (tli uint32, lsn uint64, all bool) {
	if !sh.known {
		return 0, 0, false
	}
	for _, s := range stretches {
		m, missing := sh.cover.missing(s.timeline, s.start, s.end)
		if missing && m.from > s.start {
			return s.timeline, m.from, false
		}
		if missing {
			if tli == 0 {
				tli, lsn = sh.cover.before(s.timeline, s.start)
			}
			return tli, lsn, false
		}
		tli, lsn = s.timeline, s.end
	}
	if len(stretches) == 0 {
		tli = sh.cover.newest()
		lsn, _ = sh.cover.end(tli)
	}
	return tli, lsn, true
}

// sawPrimary notes an instant at which the primary had nothing newer than c.need.
func (sh *shipper) sawPrimary(c catch) {
	sh.mu.Lock()
	if len(sh.catches) == maxCatches {
		// A place that lags for long: every second instant is precise enough.
		kept := sh.catches[:0]
		for i := 1; i < maxCatches; i += 2 {
			kept = append(kept, sh.catches[i])
		}
		sh.catches = kept
	}
	sh.catches = append(sh.catches, c)
	sh.mu.Unlock()
	sh.settle()
}

// settle finds the newest instant up to which the place lacks nothing.
func (sh *shipper) settle() {
	stretches := sh.sp.stretches()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	tli, lsn, _ := sh.positionLocked(stretches)
	n := 0
	for n < len(sh.catches) {
		c := sh.catches[n]
		// A place may be past the catch's timeline only if it lacks nothing before.
		if tli < c.timeline || tli == c.timeline && lsn < c.need {
			break
		}
		sh.caught = c.at
		if c.server.After(sh.quiet.at) || c.timeline > sh.quiet.timeline {
			sh.quiet = quiet{c.timeline, c.need, c.server}
		}
		n++
	}
	sh.catches = append(sh.catches[:0], sh.catches[n:]...)
	if sh.quietDue() {
		sh.soon()
	}
}

// serverGone asks for the last word about a server that went away: what it said a
// moment ago is worth an object now, for there may be no other.
func (sh *shipper) serverGone() {
	sh.mu.Lock()
	sh.lastWord = true
	sh.mu.Unlock()
	sh.soon()
}

// frontier says where the place stands.
func (sh *shipper) frontier(stretches []stretch, h history, lineage string) Frontier {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f := Frontier{Place: sh.name, Lineage: lineage, LastCommit: sh.lastCommit, CaughtUp: sh.caught, Err: sh.err, At: sh.src.cfg.Clock()}
	f.Timeline, f.LSN, _ = sh.positionLocked(stretches)
	if sh.known {
		f.Gap = sh.gapLocked(stretches, h)
	} else if f.Err == "" {
		f.Err = "what the place holds is not known yet"
	}
	return f
}
