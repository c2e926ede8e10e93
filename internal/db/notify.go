package db

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgChannel is the one channel on which all wake-ups travel; the payload names ours.
const pgChannel = "holdfast"

// listenerName is how the listening connection shows in pg_stat_activity.
const listenerName = "holdfast-listen"

// Notify wakes those who listen on channel, once the transaction has committed.
// A wake-up may be lost with a connection and may come without a cause: it saves
// waiting for the next look and never replaces it. If it cannot be written, the
// transaction will not commit.
func (d *DB) Notify(ctx context.Context, tx *Tx, channel string) {
	if d.dialect == SQLite {
		tx.AfterCommit(func() { d.notify.wake(channel) })
		return
	}
	if _, err := tx.Exec(ctx, "SELECT pg_notify(?, ?)", pgChannel, channel); err != nil && tx.err == nil {
		tx.err = err
	}
}

// Listen returns a channel that receives after transactions that notified
// channel, and a function that ends this and may be called more than once.
// Wake-ups that come while one is waiting to be received are one.
func (d *DB) Listen(channel string) (<-chan struct{}, func()) { return d.notify.listen(channel) }

// A notifier hands out wake-ups. On PostgreSQL it owns one connection and the
// goroutine that waits on it, from the first listener to close.
type notifier struct {
	dsn    string // "" for SQLite
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	started   bool
	listeners map[string]map[chan struct{}]struct{}
}

func newNotifier(dsn string) *notifier {
	ctx, cancel := context.WithCancel(context.Background())
	return &notifier{dsn: dsn, ctx: ctx, cancel: cancel, listeners: map[string]map[chan struct{}]struct{}{}}
}

func (n *notifier) listen(channel string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[channel] == nil {
		n.listeners[channel] = map[chan struct{}]struct{}{}
	}
	n.listeners[channel][c] = struct{}{}
	if n.dsn != "" && !n.started && n.ctx.Err() == nil {
		n.started = true
		n.done.Go(n.run)
	}
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.listeners[channel], c)
		if len(n.listeners[channel]) == 0 {
			delete(n.listeners, channel)
		}
	}
}

func (n *notifier) wake(channel string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.listeners[channel] {
		signal(c)
	}
}

func (n *notifier) wakeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, cs := range n.listeners {
		for c := range cs {
			signal(c)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// run listens until close, and again after each loss of the connection.
func (n *notifier) run() {
	const first, last = 100 * time.Millisecond, 10 * time.Second
	pause := first
	for n.ctx.Err() == nil {
		if n.session() {
			pause = first
		}
		select {
		case <-n.ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, last)
	}
}

// session listens on one connection until that fails, and says whether it
// listened at all. The error is not reported: wake-ups are allowed to be lost,
// and whoever writes to the same server sees what is wrong with it.
func (n *notifier) session() (listened bool) {
	cfg, err := pgx.ParseConfig(n.dsn)
	if err != nil {
		return false
	}
	cfg.RuntimeParams["application_name"] = listenerName
	conn, err := pgx.ConnectConfig(n.ctx, cfg)
	if err != nil {
		return false
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(n.ctx, "LISTEN "+pgChannel); err != nil {
		return false
	}
	n.wakeAll() // for what was notified while nobody listened
	for {
		note, err := conn.WaitForNotification(n.ctx)
		if err != nil {
			return true
		}
		n.wake(note.Payload)
	}
}

func (n *notifier) close() {
	n.mu.Lock() // so that no listener starts run after the wait
	n.cancel()
	n.mu.Unlock()
	n.done.Wait()
}
