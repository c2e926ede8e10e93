package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast"
)

// ErrHeld means that another process has taken the state for itself.
var ErrHeld = errors.New("another server works on this state")

// Of a hold.
const (
	// holdKey is the key of the advisory lock: "holdfast" in ASCII.
	holdKey = 0x686f6c6466617374
	// holdPatience is how long Hold waits for the session of a process that has
	// just died to be noticed by the server.
	holdPatience = 5 * time.Second
	holdLook     = 200 * time.Millisecond
	// holdBeat is how often the session is looked at, and how long that may take.
	holdBeat  = 5 * time.Second
	holdReply = 10 * time.Second
	maxHolder = 63 // bytes of a name that PostgreSQL keeps
)

// A Hold keeps other processes from taking the same state, until it is released or
// its process ends. It is a lock of a session: the kernel closes the connection of a
// process that dies, and the server then lets the lock go, so there is none to break
// after a crash.
type Hold struct {
	dsn, who string
	lost     chan struct{}
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// Hold takes the state for one process, named who for people, or returns an error
// that wraps [ErrHeld] and names the other. On SQLite it does nothing: there the
// caller's lock on the data directory does it.
func (d *DB) Hold(ctx context.Context, who string) (*Hold, error) {
	h := &Hold{dsn: d.notify.dsn, who: who, lost: make(chan struct{}), stop: func() {}}
	if d.dialect == SQLite {
		return h, nil
	}
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	var held error
	for {
		conn, err := h.take(ctx)
		if errors.Is(err, ErrHeld) {
			held = err // better known than that the time for asking again is over
		}
		if err == nil {
			run, stop := context.WithCancel(context.Background())
			h.stop = stop
			h.done.Go(func() { h.keep(run, conn) })
			return h, nil
		}
		select {
		case <-ctx.Done():
			return nil, cmp.Or(held, err)
		case <-time.After(holdLook):
		}
	}
}

// Lost is closed when another process has taken the state, which can only happen
// after the connection was lost. What this one still does must end.
func (h *Hold) Lost() <-chan struct{} { return h.lost }

// Release lets others take the state. A second call does nothing.
func (h *Hold) Release() {
	h.stop()
	h.done.Wait()
}

// take opens a session and locks.
func (h *Hold) take(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(h.dsn)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["application_name"] = clip("holdfast: "+h.who, maxHolder)
	// The session of a machine that vanished must end soon, not in two hours.
	cfg.RuntimeParams["tcp_keepalives_idle"] = "10"
	cfg.RuntimeParams["tcp_keepalives_interval"] = "5"
	cfg.RuntimeParams["tcp_keepalives_count"] = "3"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("hold the state: %w", err)
	}
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(holdKey)).Scan(&got); err != nil {
		return nil, errors.Join(fmt.Errorf("hold the state: %w", err), conn.Close(context.WithoutCancel(ctx)))
	}
	if got {
		return conn, nil
	}
	err = holdfast.WithHint(fmt.Errorf("%w: %s", ErrHeld, holder(ctx, conn)),
		"stop it first, or give this workspace a database of its own: one server works on one state")
	return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// holder says who has the lock.
func holder(ctx context.Context, conn *pgx.Conn) string {
	var name, from string
	err := conn.QueryRow(ctx, `SELECT a.application_name, coalesce(host(a.client_addr), 'a local socket')
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND l.classid::bigint = $1 AND l.objid::bigint = $2`, int64(holdKey)>>32, int64(holdKey)&0xffffffff).Scan(&name, &from)
	if err != nil {
		return "it ended just now, or its name is not for us to see"
	}
	return fmt.Sprintf("%q, connected from %s", strings.TrimPrefix(name, "holdfast: "), from)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// keep looks at the session and takes the lock again when the session is lost: the
// server was restarted, for example. While nobody can reach the server, nobody else
// can take the state either.
func (h *Hold) keep(ctx context.Context, conn *pgx.Conn) {
	for {
		for err := error(nil); err == nil; {
			select {
			case <-ctx.Done():
				_ = conn.Close(context.Background()) // the end of the session releases
				return
			case <-time.After(holdBeat):
			}
			beat, cancel := context.WithTimeout(ctx, holdReply)
			err = conn.Ping(beat)
			cancel()
		}
		_ = conn.Close(ctx)
		for conn = nil; conn == nil; {
			try, cancel := context.WithTimeout(ctx, holdReply)
			again, err := h.take(try)
			cancel()
			switch {
			case err == nil:
				conn = again
				continue
			case ctx.Err() != nil:
				return
			case errors.Is(err, ErrHeld):
				close(h.lost)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(holdLook):
			}
		}
	}
}
