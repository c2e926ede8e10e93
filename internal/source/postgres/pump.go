package postgres

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/source/postgres/wal"
)

// A pump is the streaming part of one session.
type pump struct {
	st *stream
	c  *replConn

	held     *walData  // arrived while the spool was full
	heard    time.Time // when the newest message arrived (for the watchdog)
	shutdown time.Time // when the shutdown checkpoint arrived; zero if it did not
	streamed bool

	// The question where the primary stands. At most one is open.
	asked     bool
	askedAt   time.Time // by the source's clock
	before    time.Time // when the question before it was asked
	answerAt  time.Time // when the newest answer was sent, by the server's clock
	sentAt    time.Time // when the newest question was sent, for pacing
	serverEnd uint64    // the greatest end of log that the server has told of
	told      uint64    // the flush position that the server knows
}

type received struct {
	msg any
	err error
}

// pump moves log from the connection to the spool, and answers the server, until
// the timeline ends (*timelineEnd) or anything else happens.
//
// One goroutine reads the connection; this one writes to spool and connection.
func (st *stream) pump(ctx context.Context, c *replConn) (bool, error) {
	readCtx, cancel := context.WithCancel(ctx)
	in := make(chan received, inFlight)
	go func() {
		defer close(in)
		for {
			msg, err := c.receive(readCtx)
			select {
			case in <- received{msg, err}:
			case <-readCtx.Done():
				return
			}
			if _, done := msg.(copyDone); done || err != nil {
				return
			}
		}
	}()
	p := &pump{st: st, c: c, heard: time.Now()}
	err := p.loop(ctx, in)
	if errors.Is(err, errTimelineDone) {
		for range in { // the reader has nothing more to say, and lets go of the connection
		}
		cancel()
		var ended *timelineEnd
		if ended, err = c.endOfTimeline(ctx); err == nil {
			return p.streamed, ended
		}
		return p.streamed, err
	}
	cancel()
	for range in {
	}
	return p.streamed, err
}

var errTimelineDone = errors.New("the timeline is complete")

func (p *pump) loop(ctx context.Context, in <-chan received) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	if err := p.ask(); err != nil {
		return err
	}
	for {
		from := in
		if p.held != nil {
			from = nil // the spool is full: the server keeps the rest
		}
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-from:
			if !ok {
				return errStreamEnded
			}
			err = p.batch(m, in)
		case <-p.st.moved:
			err = p.advance()
		case <-tick.C:
			err = p.onTick()
		}
		if err != nil {
			// What arrived whole is kept, whatever ended the stream.
			if serr := p.st.sp.sync(); serr != nil && !errors.Is(err, errTimelineDone) {
				return errors.Join(err, serr)
			} else if serr != nil {
				return serr
			}
			p.st.settleLocal()
			return err
		}
	}
}

// batch takes what has arrived, makes it durable with one sync, and says so.
func (p *pump) batch(m received, in <-chan received) error {
	bytes, reply := 0, false
	var ended error
	for {
		n, r, err := p.take(m)
		bytes, reply = bytes+n, reply || r
		if err != nil {
			ended = err
			break
		}
		if bytes >= batchBytes || p.held != nil {
			break
		}
		var more bool
		select {
		case m, more = <-in:
		default:
		}
		if !more {
			break
		}
	}
	if ended != nil {
		return ended
	}
	if err := p.st.sp.sync(); err != nil {
		return err
	}
	p.st.settleLocal()
	if reply {
		// The primary waits for us, perhaps to shut down: the places get what they
		// miss now, and the answer goes out at once and is true.
		for _, sh := range p.st.shippers {
			sh.soon()
		}
	}
	if bytes > 0 || reply {
		return p.tell(false)
	}
	return nil
}

// take handles one message.
func (p *pump) take(m received) (bytes int, reply bool, err error) {
	if m.err != nil {
		return 0, false, m.err
	}
	p.heard = time.Now()
	switch msg := m.msg.(type) {
	case walData:
		p.serverEnd = max(p.serverEnd, msg.ServerEnd)
		if !p.streamed {
			p.streamed = true
			p.st.setErr(nil)
		}
		return len(msg.Data), false, p.keep(&msg)
	case keepalive:
		if !p.streamed {
			p.streamed = true // connected and idle is healthy, too
			p.st.setErr(nil)
		}
		p.serverEnd = max(p.serverEnd, msg.Sent)
		if !msg.Reply && p.asked {
			p.answered(msg.At)
		}
		return 0, msg.Reply, nil
	case copyDone:
		return 0, false, errTimelineDone
	}
	return 0, false, nil
}

// keep appends to the spool. A full spool is no error: the data waits, nothing more
// is read, and the log stays on the server, within the slot's bound.
func (p *pump) keep(d *walData) error {
	err := p.st.sp.append(d.Start, d.Data)
	if errors.Is(err, errSpoolFull) {
		if terr := p.st.trim(true); terr != nil {
			return terr
		}
		err = p.st.sp.append(d.Start, d.Data)
	}
	if errors.Is(err, errSpoolFull) {
		if p.held == nil {
			p.st.setErr(errSpoolFull)
			p.st.changed()
			p.st.src.cfg.Log.Error("log spool is full and no place takes its oldest log; the log stays on the server",
				"store", p.st.src.cfg.Store, "limit_bytes", p.st.src.cfg.SpoolLimit)
		}
		p.held = d
		return nil
	}
	if err != nil {
		return err
	}
	if p.held != nil {
		p.held = nil
		p.st.setErr(nil)
	}
	if p.st.sp.walker.Last().Kind == wal.Shutdown {
		if p.shutdown.IsZero() {
			p.shutdown = time.Now()
		}
	} else {
		p.shutdown = time.Time{}
	}
	return nil
}

// ask asks the server where it stands.
func (p *pump) ask() error {
	p.before, p.askedAt = p.askedAt, p.st.src.cfg.Clock()
	p.asked, p.sentAt = true, time.Now()
	return p.tell(true)
}

// answered draws the conclusion from an answer.
//
// A keepalive alone does not say that the primary has nothing newer: it tells what was
// sent before it, and the server may not have looked at its log in between. But
// between two answers, a quarter of a second apart, it looked, and announced the end it saw
// with the log that it sent. So at the instant of the question before this one, the
// primary had nothing beyond the greatest end announced until now; nor had it, by its
// own clock, when it sent the answer before this one.
func (p *pump) answered(server time.Time) {
	p.asked = false
	said := p.answerAt
	p.answerAt = server
	if p.before.IsZero() || said.IsZero() {
		return
	}
	head, _, ok := p.st.sp.head()
	if !ok {
		return
	}
	need := p.serverEnd
	if p.st.sp.written() >= need {
		need = uint64(p.st.sp.walker.Valid()) // a record cut short at the end carries no commit
	}
	p.st.sawPrimary(catch{timeline: head.timeline, need: need, at: p.before, server: said})
}

// tell sends our positions.
func (p *pump) tell(ask bool) error {
	p.told = max(p.told, p.st.policyFlush())
	return p.c.send(status{Written: p.st.sp.written(), Flushed: p.told, Applied: p.told, Reply: ask}, p.st.src.cfg.Clock())
}

// advance reacts to a place that moved.
func (p *pump) advance() error {
	if err := p.st.trim(false); err != nil {
		return err
	}
	if p.held != nil {
		if err := p.keep(p.held); err != nil {
			return err
		}
	}
	if p.st.policyFlush() > p.told {
		return p.tell(false)
	}
	return nil
}

func (p *pump) onTick() error {
	now := time.Now()
	if p.held == nil && now.Sub(p.heard) > deadAfter {
		return errors.New("the server has not answered for " + deadAfter.String())
	}
	if !p.shutdown.IsZero() && now.Sub(p.shutdown) > shutdownGrace && p.st.policyFlush() < uint64(p.st.sp.walker.Valid()) {
		return errors.New("the server shuts down and no place confirms its last log; it is in the spool, and the server is not held up")
	}
	if p.asked && p.held == nil || now.Sub(p.sentAt) < pingEvery {
		return nil
	}
	if p.held != nil {
		p.sentAt = now
		return p.tell(false) // a sign of life
	}
	return p.ask()
}
