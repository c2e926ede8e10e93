package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"holdfast/internal/repo"
)

// Limits of an audit.
const (
	// auditEvery is how often a place is asked whether it still shows the log that it
	// was given, and whether what it was given since the last time is what was sent.
	// A loss is noticed within it, and mended or reported: far below any RPO.
	auditEvery = 30 * time.Second
	// auditLatest is the longest time between two looks at a place that holds very many
	// objects: each look lists them all, a thousand with each request, and a request
	// costs. There is one request in auditPace on average, until that time is reached.
	auditLatest = 5 * time.Minute
	auditPace   = 3 * time.Second
	// auditBytes bounds what one audit reads back; the rest is for the next one.
	auditBytes = 64 << 20
	// maxUnread bounds the pieces that wait to be read back. Beyond it the oldest are
	// left to the vault's rolling verification.
	maxUnread = 10_000
)

// A logAuditor reads a place that a shipper only writes to. *repo.Repository is one.
type logAuditor interface {
	logStore
	CheckLog(ctx context.Context, l repo.LogInfo) error
	Manifests(ctx context.Context, scope string) ([]*repo.Manifest, error)
}

// extent names a piece of log.
type extent struct {
	timeline uint32
	from, to uint64
}

// audit looks at the place every auditEvery until ctx ends. It runs beside the
// shipper, so that a slow listing delays no commit.
func (sh *shipper) audit(ctx context.Context, place logAuditor) {
	t := time.NewTimer(auditEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-sh.look:
		}
		seen, err := sh.auditOnce(ctx, place)
		if err != nil && ctx.Err() == nil {
			sh.src.cfg.Log.Warn("log not audited", "store", sh.src.cfg.Store, "place", sh.name, "err", err)
		}
		t.Reset(auditAfter(seen))
	}
}

// auditAfter is when to look again at a place that showed so many objects.
func auditAfter(objects int) time.Duration {
	const perRequest = 1000
	return min(max(auditEvery, time.Duration(objects/perRequest)*auditPace), auditLatest)
}

// auditOnce compares what the place shows with what it was given. Log that is gone
// and still in the spool is shipped again; what is not becomes a gap, and so does a
// piece that does not read back as it was signed.
//
// It returns how many objects it saw. It needs no data key. Where reading is not allowed, the vault's rolling
// verification does that part, and only the listing is looked at here.
func (sh *shipper) auditOnce(ctx context.Context, place logAuditor) (seen int, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	sh.mu.Lock()
	known, held := sh.known, sh.cover.clone() // before the listing: what is put during it is not missed
	sh.mu.Unlock()
	if !known {
		return 0, nil
	}
	infos, named, err := place.ListLog(ctx, sh.src.cfg.Store)
	if err != nil {
		return 0, fmt.Errorf("list the log: %w", err)
	}
	seen = len(infos) + len(named)
	lineage := sh.sp.lineage()
	shown := coverage{}
	byExtent := map[extent]repo.LogInfo{}
	for _, in := range infos {
		if in.Lineage == lineage {
			shown.add(in.Timeline, in.Start, in.End)
			byExtent[extent{in.Timeline, in.Start, in.End}] = in
		}
	}
	lost := held.without(shown)
	// The newest base comes first: the vault removes log that no base needs, and that
	// is no loss.
	if err := sh.setFloor(ctx, place, len(lost) > 0); err != nil {
		return seen, err
	}
	sh.mu.Lock()
	for tli, spans := range lost {
		for _, s := range spans {
			sh.cover.remove(tli, s.from, s.to)
			sh.gone.add(tli, s.from, s.to)
		}
	}
	sh.mu.Unlock()
	if len(lost) > 0 {
		sh.src.cfg.Log.Error("log that was held is gone", "store", sh.src.cfg.Store, "place", sh.name, "spans", fmt.Sprint(lost))
		sh.soon() // the spool may have it still
	}
	sh.moved()
	return seen, sh.readBack(ctx, place, byExtent)
}

// readBack checks pieces that were put lately.
func (sh *shipper) readBack(ctx context.Context, place logAuditor, shown map[extent]repo.LogInfo) error {
	sh.mu.Lock()
	unread := sh.unread
	sh.unread = nil
	sh.mu.Unlock()
	var read int64
	for i, x := range unread {
		in, ok := shown[x]
		if !ok {
			continue // gone, or put since the listing: the listing's business
		}
		if read += in.Size; read > auditBytes && i > 0 {
			sh.mu.Lock()
			sh.unread = append(unread[i:], sh.unread...)
			sh.mu.Unlock()
			return nil
		}
		err := place.CheckLog(ctx, in)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
		case repo.IsDamage(err):
			g := &Gap{Timeline: x.timeline, From: x.from, To: x.to, Cause: "what the place holds is not what was sent: " + err.Error(), At: sh.src.cfg.Clock()}
			sh.src.cfg.Log.Error("log is damaged", "store", sh.src.cfg.Store, "place", sh.name, "gap", g)
			sh.mu.Lock()
			sh.bad = g
			sh.mu.Unlock()
			sh.moved()
		default:
			return fmt.Errorf("read log back: %w", err)
		}
	}
	return nil
}

// setFloor finds where the newest base begins, if there is a hole or will be: what lies
// before it is mended, or was removed because nothing needs it.
func (sh *shipper) setFloor(ctx context.Context, place logAuditor, hole bool) error {
	stretches := sh.sp.stretches()
	sh.mu.Lock()
	hole = hole || sh.bad != nil || sh.cover.gap(stretches, history{}) != nil
	sh.mu.Unlock()
	if !hole {
		return nil
	}
	manifests, err := place.Manifests(ctx, sh.src.cfg.Store)
	if err != nil {
		return err
	}
	var newest base
	for _, m := range manifests { // oldest first
		if b, ok, err := readBase(m); err == nil && ok && b.suspect == "" && b.lineage == sh.sp.lineage() {
			newest = b
		}
	}
	sh.mu.Lock()
	sh.floorTimeline, sh.floor = newest.timeline, newest.start
	sh.mu.Unlock()
	return nil
}

// mended reports whether a base lies behind the hole. The caller holds mu.
func (sh *shipper) mended(g *Gap) bool {
	return g.Timeline < sh.floorTimeline || g.Timeline == sh.floorTimeline && g.To <= sh.floor
}

// gapLocked is the newest hole in what the place can give back, nil if there is none.
// The caller holds mu.
func (sh *shipper) gapLocked(stretches []stretch, h history) *Gap {
	g := sh.cover.gap(stretches, h)
	if g != nil {
		g.Cause = "the server no longer had it when the stream came back, or the spool was full"
		if _, missing := sh.gone.missing(g.Timeline, g.From, g.To); !missing {
			g.Cause = "it was held there, and is gone"
		}
		g.At = sh.src.cfg.Clock()
	}
	if g == nil || sh.bad != nil && sh.bad.From > g.From && sh.bad.Timeline >= g.Timeline {
		g = sh.bad
	}
	if g == nil || sh.mended(g) {
		return nil
	}
	return g
}
