package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/source/postgres/wal"
)

// A base backup's own log.
//
// The files of a base are copied while they change, and only the log from its start to
// its stop makes one state of them. The stream ships that log too, but a base that
// leans on the stream is lost with it. So each base holds its own: read over a
// connection of its own while the files are copied, walked record by record, and put
// into the base's snapshot, under the base's retention. Whatever becomes of the shipped
// log, a base can be brought back to its own end, from each location alone.
//
// It costs the log of the time that the copy takes once more, on the network and,
// compressed, in each location.
const (
	logPrefix = "log/"

	// ownPiece is where the own log is cut, in bytes of log: small enough to be held in
	// memory while the writer is busy with a large file.
	ownPiece = 4 << 20

	// ownTell is how often the server hears from us, and is asked for a sign of life.
	ownTell = time.Second
)

// own lists the pieces of a base's own log as if they lay beside the shipped ones. They
// have no name. Nothing for a base that was made before bases held theirs.
func (b base) own() []repo.LogInfo {
	if !b.ownLog {
		return nil
	}
	var out []repo.LogInfo
	for from := SegmentStart(b.start, b.segmentSize); from < b.stop; {
		to := min(from-from%ownPiece+ownPiece, b.stop)
		out = append(out, repo.LogInfo{Scope: b.manifest.Scope, Lineage: b.lineage, Timeline: b.timeline, Start: from, End: to})
		from = to
	}
	return out
}

// isOwn reports whether a piece is one of a base's own.
func isOwn(l repo.LogInfo) bool { return l.Name == "" }

// withOwn lays a base's own log among the shipped pieces. Of what it covers the shipped
// ones are left out: it was read when the base was made, and is listed only whole.
func withOwn(shipped map[uint32][]repo.LogInfo, b base) map[uint32][]repo.LogInfo {
	list := b.own()
	if len(list) == 0 {
		return shipped
	}
	from := list[0].Start
	var before []repo.LogInfo
	for _, l := range shipped[b.timeline] {
		switch {
		case l.Start < from:
			before = append(before, l)
		case l.End > b.stop:
			list = append(list, l)
		}
	}
	sortPieces(list)
	out := map[uint32][]repo.LogInfo{}
	for tli, l := range shipped {
		out[tli] = l
	}
	out[b.timeline] = append(before, list...)
	return out
}

// pieceHeader is what a piece says of itself. Of a base's own it is what follows from
// its labels: no commit is known.
func pieceHeader(ctx context.Context, r *repo.Repository, l repo.LogInfo) (repo.LogPiece, error) {
	if isOwn(l) {
		return repo.LogPiece{Scope: l.Scope, Lineage: l.Lineage, Timeline: l.Timeline, Start: l.Start, End: l.End, LastRecord: l.End}, nil
	}
	return r.LogHeader(ctx, l)
}

func ownName(tli uint32, start uint64) string {
	return fmt.Sprintf("%s%08x/%016x", logPrefix, tli, start)
}

func ownHistoryName(tli uint32) string { return logPrefix + historyName(tli) }

// An ownLog reads the log of one base backup while that is made.
type ownLog struct {
	src     *Source
	conn    *replConn
	slot    string // temporary; "" if the server has none to spare
	segment int64

	// Set by begin, before its goroutines.
	w        *repo.Writer
	timeline uint32
	walker   *wal.Walker
	ctx      context.Context
	cancel   context.CancelCauseFunc
	wg       sync.WaitGroup
	in       chan walData
	stop     chan uint64   // told once: where the base is complete
	asked    chan struct{} // the server waits for an answer
	done     chan error    // the keeper's result

	// Owned by the keeper.
	buf []byte
	at  uint64 // where buf begins

	kept    atomic.Uint64 // everything before it was given to the writer
	waiting atomic.Int64  // since when the reader waits for the server, Unix nanoseconds; 0: it does not
}

// openOwnLog connects, and sees to it that the server keeps the log from its last
// checkpoint on. The slot is temporary: it ends with the connection, so nothing that
// happens here leaves the server with a slot that nobody advances. A server that has no
// slot to spare is read without one.
func (s *Source) openOwnLog(ctx context.Context) (*ownLog, error) {
	cfg := s.replication()
	// Another name than the stream's: no commit may wait for this connection.
	name := s.cfg.Slot[:min(len(s.cfg.Slot), maxSlotName-len("_base_01234567"))] + "_base_" + randomHex(4)
	cfg.RuntimeParams["application_name"] = name
	conn, err := s.connectReplication(ctx, cfg)
	if err != nil {
		if sqlState(err) == stateTooManyConns {
			err = holdfast.WithHint(err, "a base backup needs two connections beside the stream's: ALTER SYSTEM SET max_wal_senders = 10; then restart the server")
		}
		return nil, err
	}
	o := &ownLog{src: s, conn: conn, slot: name}
	_, err = simpleQuery(ctx, conn.pg, fmt.Sprintf("CREATE_REPLICATION_SLOT %q TEMPORARY PHYSICAL RESERVE_WAL", name))
	if sqlState(err) == stateSlotLimit {
		o.slot = ""
		s.cfg.Log.Warn("no replication slot is left for the log of a base backup; if the server removes log during the copy, the backup fails", "store", s.cfg.Store)
	} else if err != nil {
		conn.close()
		return nil, fmt.Errorf("temporary replication slot: %w", err)
	}
	return o, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// begin reads the log from the segment in which the base starts. failed is told why it
// ends early.
func (o *ownLog) begin(ctx context.Context, b *baseBackup, failed func(error)) error {
	o.w, o.timeline, o.segment = b.w, b.timeline, b.segment
	from := SegmentStart(b.start, b.segment)
	text, err := o.conn.timelineHistory(ctx, b.timeline)
	if err != nil {
		return err
	}
	h, err := parseHistory(b.timeline, text)
	if err != nil {
		return err
	}
	if text != nil {
		if err := b.addMeta(ctx, ownHistoryName(b.timeline), text); err != nil {
			return err
		}
	}
	if o.walker, err = wal.NewWalker(wal.Config{
		Start: wal.LSN(from), SegmentSize: b.segment, System: b.system,
		Timeline: func(page wal.LSN) uint32 { return h.at(uint64(page)) },
	}); err != nil {
		return err
	}
	if err := o.conn.startReplication(ctx, o.slot, from, b.timeline); err != nil {
		return err
	}
	o.at = from
	o.kept.Store(from)
	o.ctx, o.cancel = context.WithCancelCause(ctx)
	o.in, o.stop, o.asked, o.done = make(chan walData, 4), make(chan uint64, 1), make(chan struct{}, 1), make(chan error, 1)
	o.wg.Go(func() {
		if err := o.read(); err != nil {
			o.cancel(err)
		}
	})
	o.wg.Go(func() {
		if err := o.tell(); err != nil {
			o.cancel(err)
		}
	})
	o.wg.Go(func() {
		err := o.keep()
		if err != nil {
			failed(err)
		}
		o.done <- err
	})
	return nil
}

// finish waits until everything up to stop is with the writer.
func (o *ownLog) finish(stop uint64) error {
	o.stop <- stop
	return <-o.done
}

// close ends the connection and everything that begin started, and waits for it.
func (o *ownLog) close() {
	if o.cancel != nil {
		o.cancel(errors.New("the base backup ended"))
		o.wg.Wait()
	}
	o.conn.close()
}

// read takes what the server sends. While the writer is busy it stands still, and the
// server keeps the log in the slot.
func (o *ownLog) read() error {
	for {
		o.waiting.Store(time.Now().UnixNano())
		msg, err := o.conn.receive(o.ctx)
		o.waiting.Store(0)
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case walData:
			select {
			case o.in <- msg:
			case <-o.ctx.Done():
				return nil
			}
		case keepalive:
			if msg.Reply {
				select {
				case o.asked <- struct{}{}:
				default:
				}
			}
		case copyDone:
			return errors.New("the server was promoted during the backup")
		}
	}
}

// tell gives the server its signs of life, and gives up one that gives none.
//
// What is acknowledged is never more than the stream acknowledges by the declared policy,
// so that a server whose synchronous_standby_names match everybody takes no commit
// for safe that only this connection has seen. Without a stream it is nothing.
func (o *ownLog) tell() error {
	tick := time.NewTicker(ownTell)
	defer tick.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return nil
		case <-tick.C:
		case <-o.asked:
		}
		if since := o.waiting.Load(); since != 0 && time.Since(time.Unix(0, since)) > deadAfter {
			return errors.New("the server has not answered for " + deadAfter.String())
		}
		safe := uint64(0)
		if st := o.src.running.Load(); st != nil {
			safe = min(st.policyFlush(), o.kept.Load())
		}
		if err := o.conn.send(status{Written: safe, Flushed: safe, Applied: safe, Reply: true}, o.src.cfg.Clock()); err != nil && o.ctx.Err() == nil {
			return err
		}
	}
}

// keep checks the log and gives it to the writer, until the base's stop.
func (o *ownLog) keep() error {
	stop, known := uint64(0), false
	for {
		if pos := o.at + uint64(len(o.buf)); known && pos >= stop {
			if stop <= o.at {
				return nil
			}
			return o.add(stop - o.at)
		}
		select {
		case <-o.ctx.Done():
			return context.Cause(o.ctx)
		case stop = <-o.stop:
			known = true
		case d := <-o.in:
			if err := o.take(d); err != nil {
				return err
			}
		}
	}
}

// take checks what has arrived, and gives whole pieces to the writer.
func (o *ownLog) take(d walData) error {
	if pos := o.at + uint64(len(o.buf)); d.Start != pos {
		return fmt.Errorf("the server sends log from %s on instead of %s", FormatLSN(d.Start), FormatLSN(pos))
	}
	if _, err := o.walker.Write(d.Data); err != nil {
		return fmt.Errorf("the server's log: %w", err)
	}
	o.buf = append(o.buf, d.Data...)
	for {
		n := ownPiece - o.at%ownPiece
		if uint64(len(o.buf)) < n {
			return nil
		}
		if err := o.add(n); err != nil {
			return err
		}
	}
}

// add gives the first n bytes to the writer.
//
// A crash here leaves packs that no manifest names, like one anywhere in a base backup.
func (o *ownLog) add(n uint64) error {
	e := repo.Entry{Path: ownName(o.timeline, o.at), Type: repo.TypeFile, Mode: 0o600, Size: int64(n), ModTime: o.src.cfg.Clock(), Cut: repo.CutContent}
	if err := o.w.Add(o.ctx, e, bytes.NewReader(o.buf[:n])); err != nil {
		return err
	}
	o.at += n
	o.buf = append(o.buf[:0], o.buf[n:]...)
	o.kept.Store(o.at)
	return nil
}

// ownEntries finds the own log in a base's snapshot, by name.
func ownEntries(ctx context.Context, snap *repo.Snapshot) (map[string]repo.Entry, error) {
	out := map[string]repo.Entry{}
	err := snap.Entries(ctx, func(e repo.Entry) error {
		if strings.HasPrefix(e.Path, logPrefix) {
			out[e.Path] = e
		}
		return nil
	})
	return out, err
}

// readOwn reads a piece of the base's own log.
func (p *RestorePlan) readOwn(ctx context.Context, info repo.LogInfo, from, until uint64) ([]byte, error) {
	name := ownName(info.Timeline, info.Start)
	e, ok := p.ownEntries[name]
	// The last piece may have been cut behind the stop.
	if want := int64(info.End - info.Start); !ok || e.Size < want || e.Size > ownPiece {
		return nil, fmt.Errorf("base backup %s does not hold its own log from %s to %s: %w", p.Base.ID, FormatLSN(info.Start), FormatLSN(info.End), repo.ErrDamaged)
	}
	b := make([]byte, e.Size)
	if _, err := io.ReadFull(p.snapshot.OpenContext(ctx, e), b); err != nil {
		return nil, fmt.Errorf("read %q of base backup %s: %w", name, p.Base.ID, err)
	}
	return b[from-info.Start : until-info.Start], nil
}

// ownAncestry reads the history of a base's timeline from the base itself.
func ownAncestry(ctx context.Context, r Restore, b base) (history, []byte, error) {
	snap, err := r.Repo.Snapshot(ctx, b.manifest, r.Identities...)
	if err != nil {
		return history{}, nil, err
	}
	text, err := readEntry(ctx, snap, ownHistoryName(b.timeline), maxHistory)
	if err != nil {
		return history{}, nil, err
	}
	h, err := parseHistory(b.timeline, text)
	return h, text, err
}
