package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jackc/pgx/v5"

	"holdfast"
)

// A Tx is a running transaction. It belongs to the function that it was given
// to, and to one goroutine.
type Tx struct {
	db    *DB
	tx    *sql.Tx
	after []func()
	err   error // set where a statement without an error result failed; forbids the commit
}

// Tx runs fn in a write transaction and commits if it returns nil. After a
// conflict it runs again, a bounded number of times, then the error wraps
// [ErrBusy].
//
// A crash before the commit leaves nothing; a crash after it leaves everything,
// except that the functions given to [Tx.AfterCommit] did not run.
func (d *DB) Tx(ctx context.Context, fn func(*Tx) error) error {
	return d.retry(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, fn)
}

// TxReadCommitted is Tx for short statements that settle their own conflicts,
// such as a claim with SKIP LOCKED or an update that compares and swaps. On
// PostgreSQL it runs at READ COMMITTED, where each statement sees what others
// committed meanwhile. On SQLite it is Tx.
func (d *DB) TxReadCommitted(ctx context.Context, fn func(*Tx) error) error {
	return d.retry(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, fn)
}

// View runs fn on one unchanging state of the database, which cannot be written.
// It does not wait for writers, nor they for it.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error {
	opt := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	if d.dialect == SQLite {
		opt = nil // the connection is query_only, and the snapshot that of a WAL reader
	}
	tx, err := d.read.BeginTx(ctx, opt)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	return fn(&Tx{db: d, tx: tx})
}

func (d *DB) retry(ctx context.Context, opt *sql.TxOptions, fn func(*Tx) error) error {
	tries := maxConflictTries
	if d.dialect == SQLite {
		opt, tries = nil, maxBusyTries
	}
	for n := 1; ; n++ {
		err := d.once(ctx, opt, fn)
		if err == nil || !conflict(err) {
			return err
		}
		if n == tries {
			return holdfast.WithHint(fmt.Errorf("gave up after %d attempts: %w: %w", n, ErrBusy, err),
				"another process may hold the state: stop it, or try again")
		}
		// Full jitter: those who met must not meet again.
		limit := min(time.Millisecond<<min(n, 8), 250*time.Millisecond)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(rand.N(limit)):
		}
	}
}

func (d *DB) once(ctx context.Context, opt *sql.TxOptions, fn func(*Tx) error) error {
	stx, err := d.write.BeginTx(ctx, opt)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer stx.Rollback() // no effect after the commit; matters when fn panics
	tx := &Tx{db: d, tx: stx}
	if err := fn(tx); err != nil {
		return err
	}
	if tx.err != nil {
		return tx.err
	}
	if err := stx.Commit(); err != nil {
		return d.commitError(err)
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}

// commitError separates the commits that surely had no effect from those of
// which nobody knows.
func (d *DB) commitError(err error) error {
	known := errors.Is(err, sql.ErrTxDone) || // ended before it was sent
		errors.Is(err, pgx.ErrTxCommitRollback) // the server rolled back
	switch code := pgCode(err); {
	case code == "":
	case code[:2] == "08", code[:2] == "57", code[:2] == "58", code[:2] == "XX":
		// Connection, shutdown, system, internal: it may have come after the commit.
	default:
		known = true
	}
	if code := sqliteCode(err) & 0xff; code != 0 {
		known = code != sqlite3.SQLITE_IOERR
	}
	if known {
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", ErrUnknownOutcome, err)
}

// conflict reports whether the transaction had no effect and may succeed if it
// runs again.
func conflict(err error) bool {
	if errors.Is(err, ErrUnknownOutcome) {
		return false
	}
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true
	}
	code := pgCode(err)
	return code == pgSerializationFailure || code == pgDeadlock
}

// Exec runs a statement and returns how many rows it changed.
func (t *Tx) Exec(ctx context.Context, q string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, t.db.rewrite(q), stored(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query runs a statement that returns rows. The caller closes them before the
// next statement; see [Collect].
func (t *Tx) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, t.db.rewrite(q), stored(args)...)
}

// QueryRow runs a statement that returns at most one row; its Scan returns
// sql.ErrNoRows if there is none.
func (t *Tx) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, t.db.rewrite(q), stored(args)...)
}

// AfterCommit has f run once after the transaction has committed, in the order
// of the calls. It does not run if the transaction fails or the process ends
// first, so it may only do what is safe to lose, such as a wake-up.
func (t *Tx) AfterCommit(f func()) { t.after = append(t.after, f) }

// Collect reads and closes the rows of a query, one scan for each.
//
//	names, err := db.Collect(scanName)(tx.Query(ctx, "SELECT name FROM store"))
func Collect[T any](scan func(*sql.Rows) (T, error)) func(*sql.Rows, error) ([]T, error) {
	return func(rows *sql.Rows, err error) ([]T, error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var all []T
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		return all, rows.Err()
	}
}

// stored turns the argument types that the two drivers treat differently into
// those that they treat alike.
func stored(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case bool:
			if v {
				out[i] = int64(1)
			} else {
				out[i] = int64(0)
			}
		case time.Time:
			out[i] = Micros(v)
		case json.RawMessage:
			if v != nil {
				out[i] = string(v)
			}
		default:
			out[i] = a
		}
	}
	return out
}
