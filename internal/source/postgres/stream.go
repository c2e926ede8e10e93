package postgres

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/repo"
)

// The durability policies: when log counts as flushed, and the server may forget it.
const (
	DurableLocal       = "local"        // in the local spool
	DurableOneLocation = "one-location" // at one place, whichever is first
	DurableQuorum      = "quorum"       // at more than half of the places
)

// A StreamConfig says where the log goes.
type StreamConfig struct {
	// Places receive the log, each on its own. At least one. A place whose Repo is nil
	// could not be opened: it is reported as failing, and the spool keeps the log
	// for it until a later Stream finds it open.
	Places []repo.Place

	// Keys seal and sign the pieces.
	Keys repo.LogKeys

	// Durability is what the server is told is flushed, and so what a synchronous
	// commit waits for.
	//
	// Defaults to DurableLocal.
	Durability string

	// PieceEvery is the longest time that log waits to be shipped, and PieceBytes
	// the size at which it does not wait.
	//
	// Default to one second and 1 MiB.
	PieceEvery time.Duration
	PieceBytes int64

	// Report, if set, is told every frontier about once a second and soon after each
	// change. It is called by one goroutine at a time and must not block for long.
	Report func(Frontier)
}

// Bounds and paces of a stream.
const (
	pingEvery    = 250 * time.Millisecond // the server is asked where it stands
	deadAfter    = 30 * time.Second       // without an answer the connection is given up
	tickEvery    = 100 * time.Millisecond
	reportEvery  = time.Second
	retryFirst   = 250 * time.Millisecond
	retryMax     = 15 * time.Second
	batchBytes   = 1 << 20 // received before it is synced at the latest
	inFlight     = 64      // messages between reader and writer, up to 128 KiB each
	learnTimeout = 10 * time.Second

	// shutdownGrace is how long an orderly shutdown of the primary may wait for a place
	// under a policy stricter than local. After it we hang up: the log is in the spool,
	// nothing is acknowledged that is not so, and the primary can go down.
	shutdownGrace = 5 * time.Second
)

// errRefused marks what does not get better by trying again.
var errRefused = errors.New("the stream is refused")

// errStopped is reported when the stream was told to end.
var errStopped = errors.New("the stream was stopped")

// A stream is one run of Source.Stream.
type stream struct {
	src      *Source
	cfg      StreamConfig
	sp       *spool
	shippers []*shipper
	notify   chan struct{} // for the reporter: a frontier changed
	moved    chan struct{} // for the receiver: a place may have advanced

	wg sync.WaitGroup // everything that run started

	// Owned by the receiver.
	lostTimeline uint32 // the server said that it no longer has this position
	lostLSN      uint64

	mu      sync.Mutex
	err     string // why nothing is received now
	caught  time.Time
	catches []catch // for the local spool, at most one or two
	keep    int64   // max_slot_wal_keep_size, in bytes; negative: no bound
	runway  runway
}

// Stream follows the log until ctx ends, and returns ctx's error then; or until
// something is wrong that only a person can mend: a foreign cluster, a slot that
// could fill the server's disk, a spool in use. Everything else (an unreachable server,
// a failing place, a failover) is reported and tried again.
func (s *Source) Stream(ctx context.Context, cfg StreamConfig) error {
	if err := cfg.fill(); err != nil {
		return fmt.Errorf("stream of store %q: %w", s.cfg.Store, err)
	}
	if s.cfg.SpoolDir == "" {
		return fmt.Errorf("stream of store %q: no spool directory", s.cfg.Store)
	}
	if s.cfg.FS == durable.OS {
		if err := durable.MkdirAll(durable.OS, s.cfg.SpoolDir, 0o700); err != nil {
			return spoolError(err)
		}
		lock, err := durable.Lock(filepath.Join(s.cfg.SpoolDir, "lock"))
		if err != nil {
			return fmt.Errorf("stream of store %q: %w", s.cfg.Store, err)
		}
		defer lock.Unlock()
	}
	sp, err := openSpool(s.cfg.FS, s.cfg.SpoolDir, s.cfg.SpoolLimit, s.cfg.Log)
	if err != nil {
		return fmt.Errorf("stream of store %q: %w", s.cfg.Store, err)
	}
	defer sp.close()
	st := &stream{src: s, cfg: cfg, sp: sp, notify: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
	for _, p := range cfg.Places {
		sh := &shipper{
			name: p.Name, src: s, keys: cfg.Keys, sp: sp, every: cfg.PieceEvery, bytes: cfg.PieceBytes,
			moved: st.changed, hurry: make(chan struct{}, 1), look: make(chan struct{}, 1), cover: coverage{}, gone: coverage{},
		}
		if p.Repo != nil {
			sh.store = p.Repo
		}
		st.shippers = append(st.shippers, sh)
	}
	s.running.Store(st)
	defer s.running.Store(nil)
	return st.run(ctx)
}

// spooled says how far the spool of the running stream is.
func (s *Source) spooled() Frontier {
	if st := s.running.Load(); st != nil {
		return st.frontiers()[0]
	}
	return Frontier{}
}

// shipNow asks the running stream to ship what it has, without waiting for the
// interval between pieces.
func (s *Source) shipNow() {
	if st := s.running.Load(); st != nil {
		for _, sh := range st.shippers {
			sh.soon()
		}
	}
}

func (cfg *StreamConfig) fill() error {
	if len(cfg.Places) == 0 {
		return errors.New("no place to ship to")
	}
	switch cfg.Durability {
	case "":
		cfg.Durability = DurableLocal
	case DurableLocal, DurableOneLocation, DurableQuorum:
	default:
		return fmt.Errorf("durability %q is not one of %q, %q, %q", cfg.Durability, DurableLocal, DurableOneLocation, DurableQuorum)
	}
	if cfg.PieceEvery <= 0 {
		cfg.PieceEvery = time.Second
	}
	if cfg.PieceBytes <= 0 {
		cfg.PieceBytes = 1 << 20
	}
	return nil
}

func (st *stream) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	for _, sh := range st.shippers {
		st.wg.Go(func() { sh.run(ctx) })
		// A place that this process may only write to is audited by whoever may read it.
		if place, ok := sh.store.(logAuditor); ok && !place.Blind() {
			st.wg.Go(func() { sh.audit(ctx, place) })
		}
	}
	st.wg.Go(func() { st.reportLoop(ctx) })
	receive := st.receiveLoop
	if dir := st.src.cfg.Inbox; dir != "" {
		receive = func(ctx context.Context) error { return st.archiveLoop(ctx, dir) }
	}
	err := receive(ctx)
	cancel()
	st.wg.Wait()
	if parent.Err() != nil {
		st.setErr(errStopped)
		st.report()
		return parent.Err()
	}
	st.setErr(err)
	st.report()
	return fmt.Errorf("stream of store %q: %w", st.src.cfg.Store, err)
}

// changed tells reporter and receiver that a place moved.
func (st *stream) changed() {
	for _, c := range []chan struct{}{st.notify, st.moved} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (st *stream) setErr(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.err = ""
	if err != nil {
		st.err = err.Error()
	}
}

// receiveLoop connects again and again, until ctx ends or the error is final.
func (st *stream) receiveLoop(ctx context.Context) error {
	retry := retryFirst
	for {
		streamed, err := st.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		st.setErr(err)
		st.changed()
		if streamed {
			for _, sh := range st.shippers {
				sh.serverGone()
			}
		}
		if errors.Is(err, errRefused) {
			return err
		}
		st.src.cfg.Log.Warn("log stream interrupted", "store", st.src.cfg.Store, "err", err)
		if streamed {
			retry = retryFirst
		}
		t := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		retry = min(2*retry, retryMax)
	}
}

// session is one connection: it finds where to go on and streams until something
// ends it. streamed says that log arrived.
func (st *stream) session(ctx context.Context) (streamed bool, err error) {
	c, err := st.src.connect(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	if v := c.version(); v < 130000 {
		return false, fmt.Errorf("%w: server version %s is older than 13", errRefused, c.pg.ParameterStatus("server_version"))
	}
	sys, err := c.identify(ctx)
	if err != nil {
		return false, err
	}
	if err := st.bind(ctx, c, sys); err != nil {
		return false, err
	}
	h, err := st.fetchHistory(ctx, c, sys.Timeline)
	if err != nil {
		return false, err
	}
	restart, err := st.ensureSlot(ctx, c, sys)
	if err != nil {
		return false, err
	}
	at, err := st.findStart(ctx, c, h, sys, restart)
	if err != nil {
		return false, err
	}
	for hops := 0; hops < maxAncestry; hops++ {
		if err := st.sp.begin(at.Timeline, at.LSN); err != nil {
			return streamed, err
		}
		st.src.cfg.Log.Info("log stream begins", "store", st.src.cfg.Store, "timeline", at.Timeline, "at", FormatLSN(at.LSN))
		err := c.startReplication(ctx, st.src.cfg.Slot, at.LSN, at.Timeline)
		var ended *timelineEnd
		if err == nil {
			var some bool
			some, err = st.pump(ctx, c)
			streamed = streamed || some
		}
		if !errors.As(err, &ended) {
			if invalidated(err) {
				// Drop it: the next attempt takes a new one, and what is gone shows as a gap.
				st.src.cfg.Log.Error("replication slot was invalidated by the server", "store", st.src.cfg.Store, "slot", st.src.cfg.Slot, "err", err)
				err = errors.Join(err, st.dropOwnSlot(ctx))
			}
			if removed(err) {
				st.lostTimeline, st.lostLSN = at.Timeline, st.sp.written()
			}
			return streamed, err
		}
		// The timeline is complete: the primary was replaced. Its successor need not be
		// the next number, so the server's word counts.
		if _, err := st.fetchHistory(ctx, c, ended.Next); err != nil {
			return streamed, err
		}
		at = start{Timeline: ended.Next, LSN: SegmentStart(ended.Start, st.sp.segmentSize())}
	}
	return streamed, errors.New("more timelines than any cluster has")
}

// removed recognises the server's word that it no longer has the log we need.
func removed(err error) bool {
	return sqlState(err) == stateUndefinedFile && strings.Contains(err.Error(), "removed")
}

// invalidated recognises the server's word that it gave up our slot for another reason
// than its disk: version 18 does so for a slot that nobody used for
// idle_replication_slot_timeout, and leaves its position as it was.
func invalidated(err error) bool {
	return sqlState(err) == statePrerequisite && strings.Contains(err.Error(), "can no longer access replication slot")
}

// dropOwnSlot needs a connection of its own: the one that was refused is in an error.
func (st *stream) dropOwnSlot(ctx context.Context) error {
	c, err := st.src.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return c.dropSlot(ctx, st.src.cfg.Slot)
}

// bind checks that this is our cluster and that its slot cannot fill its disk.
func (st *stream) bind(ctx context.Context, c *replConn, sys system) error {
	segment, err := c.showBytes(ctx, "wal_segment_size")
	if err != nil {
		return err
	}
	page, err := c.showBytes(ctx, "wal_block_size")
	if err != nil {
		return err
	}
	keep, err := c.showBytes(ctx, "max_slot_wal_keep_size")
	if err != nil {
		return err
	}
	if keep < 0 && !st.src.cfg.UnboundedSlot {
		return holdfast.WithHint(fmt.Errorf("%w: max_slot_wal_keep_size is -1, so a replication slot may fill the server's disk and stop the database", errRefused),
			"%s", unboundedHint)
	}
	st.mu.Lock()
	st.keep = keep
	st.mu.Unlock()
	if st.sp.lineage() == "" {
		if err := st.checkLineages(ctx, sys.ID); err != nil {
			return err
		}
	}
	err = st.sp.bind(cluster{Store: st.src.cfg.Store, System: sys.ID, SegmentSize: segment, PageSize: page}, st.src.cfg.AdoptSystem)
	var foreign *foreignError
	if errors.As(err, &foreign) {
		return refuseForeign(foreign)
	}
	return err
}

func refuseForeign(err *foreignError) error {
	return holdfast.WithHint(fmt.Errorf("%w: %w", errRefused, err),
		"check the connection string; if the cluster was replaced on purpose (an upgrade, a new initdb), declare its system identifier %s", err.Got)
}

// checkLineages is for an empty spool: what the places hold of this store must be
// of the same cluster, if they hold anything.
func (st *stream) checkLineages(ctx context.Context, id string) error {
	st.learnAll(ctx)
	for _, sh := range st.shippers {
		sh.mu.Lock()
		lineages := sh.lineages
		sh.mu.Unlock()
		if len(lineages) == 0 || lineages[id] || st.src.cfg.AdoptSystem == id {
			continue
		}
		for other := range lineages {
			return refuseForeign(&foreignError{Store: st.src.cfg.Store, Want: other, Got: id})
		}
	}
	return nil
}

// learnAll gives every place a bounded time to say what it holds. One that cannot is
// asked again by its shipper; one that hangs holds nobody up.
func (st *stream) learnAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	asked := make(chan struct{}, len(st.shippers))
	for _, sh := range st.shippers {
		st.wg.Go(func() {
			if err := sh.learn(ctx); err != nil && ctx.Err() == nil {
				sh.fail(err)
			}
			asked <- struct{}{}
		})
	}
	for range st.shippers {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
	}
}

// fetchHistory reads the ancestry of a timeline and keeps it, with its ancestors'.
func (st *stream) fetchHistory(ctx context.Context, c *replConn, tli uint32) (history, error) {
	text, err := c.timelineHistory(ctx, tli)
	if err != nil {
		return history{}, err
	}
	h, err := parseHistory(tli, text)
	if err != nil {
		return history{}, err
	}
	if text == nil {
		return h, nil
	}
	if err := st.sp.saveHistory(tli, text); err != nil {
		return history{}, fmt.Errorf("%w: %w", errRefused, err)
	}
	for _, p := range h.Parents {
		if p.Timeline == 1 || st.sp.history(p.Timeline) != nil {
			continue
		}
		text, err := c.timelineHistory(ctx, p.Timeline)
		if sqlState(err) == stateUndefinedFile {
			continue // the newest file has all of the ancestry; this one is for tidiness
		}
		if err != nil {
			return history{}, err
		}
		if err := st.sp.saveHistory(p.Timeline, text); err != nil {
			return history{}, fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	return h, nil
}

// ensureSlot makes our slot if it is not there and returns where it holds the log.
// The slot comes before anything else, so that nothing is lost in between.
func (st *stream) ensureSlot(ctx context.Context, c *replConn, sys system) (uint64, error) {
	name := st.src.cfg.Slot
	sl, err := c.readSlot(ctx, name)
	if err != nil {
		return 0, err
	}
	if sl.Exists && sl.Kind != "physical" {
		return 0, holdfast.WithHint(fmt.Errorf("%w: replication slot %q exists and is %s", errRefused, name, sl.Kind),
			"name another slot for this store")
	}
	if sl.Exists && sl.Restart == 0 {
		// The server invalidated it, to save its disk. It holds nothing any more; what
		// is gone shows as a gap.
		st.src.cfg.Log.Error("replication slot was invalidated by the server", "store", st.src.cfg.Store, "slot", name)
		if err := c.dropSlot(ctx, name); err != nil {
			return 0, err
		}
		sl.Exists = false
	}
	if !sl.Exists {
		if err := c.createSlot(ctx, name); err != nil {
			return 0, err
		}
		if sl, err = c.readSlot(ctx, name); err != nil {
			return 0, err
		}
	}
	if sl.Restart != 0 {
		return sl.Restart, nil
	}
	// Before 15 a replication connection cannot ask; an ordinary one can, if allowed.
	rows, err := st.src.query(ctx, fmt.Sprintf("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '%s'", name))
	if err == nil && len(rows) == 1 && rows[0][0] != "" {
		return ParseLSN(rows[0][0])
	}
	return sys.Flush, nil
}

// findStart decides where to go on; see resolveStart.
func (st *stream) findStart(ctx context.Context, c *replConn, h history, sys system, restart uint64) (start, error) {
	st.learnAll(ctx)
	held := map[uint32]uint64{}
	for _, s := range st.sp.stretches() {
		held[s.timeline] = s.end
	}
	spooled := uint32(0)
	for tli := range held {
		spooled = max(spooled, tli)
	}
	// Timelines that only places hold: after a lost spool the place that has least
	// decides, so that none is left with a hole.
	for _, sh := range st.shippers {
		sh.mu.Lock()
		for tli := range sh.cover {
			end, _ := sh.cover.end(tli)
			if old, ok := held[tli]; tli > spooled && (!ok || end < old) {
				held[tli] = end
			}
		}
		sh.mu.Unlock()
	}
	at, err := resolveStart(h, held, restart, st.sp.segmentSize())
	if err != nil {
		return start{}, err
	}
	if at.Timeline == st.lostTimeline && at.LSN <= st.lostLSN {
		// The server no longer has what comes next. The way on is where the slot holds
		// the log; what lies between is a gap, and a new base closes it.
		next := SegmentStart(restart, st.sp.segmentSize())
		if next <= at.LSN {
			// The slot was set to a place that is gone as well: take a new one.
			if err := c.dropSlot(ctx, st.src.cfg.Slot); err != nil {
				return start{}, err
			}
			if restart, err = st.ensureSlot(ctx, c, sys); err != nil {
				return start{}, err
			}
			next = max(SegmentStart(restart, st.sp.segmentSize()), SegmentStart(at.LSN, st.sp.segmentSize())+uint64(st.sp.segmentSize()))
			if next > sys.Flush {
				return start{}, fmt.Errorf("the server no longer has the log from %s on, and none after it yet", FormatLSN(at.LSN))
			}
		}
		st.src.cfg.Log.Error("log is lost", "store", st.src.cfg.Store, "timeline", at.Timeline, "from", FormatLSN(at.LSN), "to", FormatLSN(next))
		at = start{Timeline: h.Timeline, LSN: next, Fresh: true}
	}
	if s, _, ok := st.sp.head(); !ok || s.timeline != at.Timeline || s.end != at.LSN {
		at.LSN = SegmentStart(at.LSN, st.sp.segmentSize())
	}
	return at, nil
}

// policyFlush returns what the declared policy lets us call flushed on the current
// timeline: 0 is "nothing yet".
func (st *stream) policyFlush() uint64 {
	head, _, ok := st.sp.head()
	if !ok {
		return 0
	}
	if st.cfg.Durability == DurableLocal {
		return head.end
	}
	stretches := st.sp.stretches()
	at := make([]uint64, len(st.shippers))
	for i, sh := range st.shippers {
		if tli, lsn, _ := sh.position(stretches); tli == head.timeline && lsn > head.start {
			at[i] = min(lsn, head.end)
		}
	}
	slices.Sort(at)
	slices.Reverse(at)
	if st.cfg.Durability == DurableOneLocation {
		return at[0]
	}
	return at[len(at)/2] // of 1: the first; of 2: the second; of 3: the second
}

// trim lets go of what every place has, and has gathered; if the spool is full, of what
// any place has.
func (st *stream) trim(full bool) error {
	return st.sp.trim(func(tli uint32, from, to uint64) bool {
		n := 0
		for _, sh := range st.shippers {
			if sh.covers(tli, from, to) && (full || !sh.keeps(tli, from, to)) {
				n++
			}
		}
		return n == len(st.shippers) || full && n > 0
	})
}

// sawPrimary tells everyone that at an instant the primary had nothing newer.
func (st *stream) sawPrimary(c catch) {
	st.mu.Lock()
	st.catches = append(st.catches, c)
	st.mu.Unlock()
	st.settleLocal()
	for _, sh := range st.shippers {
		sh.sawPrimary(c)
	}
}

func (st *stream) settleLocal() {
	head, _, ok := st.sp.head()
	st.mu.Lock()
	defer st.mu.Unlock()
	n := 0
	for ok && n < len(st.catches) && (head.timeline > st.catches[n].timeline || head.end >= st.catches[n].need) {
		st.caught = st.catches[n].at
		n++
	}
	st.catches = st.catches[n:]
	if len(st.catches) > maxCatches {
		st.catches = st.catches[1:]
	}
}

// reportLoop calls Report once a second and when something changed.
func (st *stream) reportLoop(ctx context.Context) {
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		st.report()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-st.notify:
		}
	}
}

func (st *stream) report() {
	if st.cfg.Report == nil {
		return
	}
	for _, f := range st.frontiers() {
		st.cfg.Report(f)
	}
}

// frontiers says where the spool and every place stand.
func (st *stream) frontiers() []Frontier {
	head, m, _ := st.sp.head()
	lineage := st.sp.lineage()
	h := st.sp.ancestry(head.timeline)
	stretches := st.sp.stretches()
	st.mu.Lock()
	out := []Frontier{{
		Lineage: lineage, Timeline: head.timeline, LSN: head.end, LastCommit: m.commit,
		CaughtUp: st.caught, Err: st.err, At: st.src.cfg.Clock(),
	}}
	st.mu.Unlock()
	stalled := len(st.shippers) > 0
	for _, sh := range st.shippers {
		f := sh.frontier(stretches, h, lineage)
		stalled = stalled && f.Err != ""
		out = append(out, f)
	}
	room := st.sp.room()
	st.mu.Lock()
	defer st.mu.Unlock()
	if text := st.runway.look(stalled, head.end, room, st.keep, st.src.cfg.Clock()); text != "" {
		for i := range out[1:] {
			out[i+1].Err += "; " + text
		}
	}
	return out
}

const unboundedHint = "set a bound, for example: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); or acknowledge the unbounded slot in the plan"
