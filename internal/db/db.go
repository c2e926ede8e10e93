// Package db is the state of a Holdfast server: one SQLite file, or one
// PostgreSQL database that several servers share.
//
// The same SQL text serves both. A caller writes '?' placeholders, portable
// statements and [Module] migrations; this package hides the rest: drivers,
// connection settings, retries, wake-ups.
//
// # Writing SQL for both
//
//   - Times are INTEGER microseconds in UTC ([Micros], [Time]); the zero time is
//     0. Booleans are INTEGER 0 or 1. JSON is TEXT. A time.Time, bool or
//     json.RawMessage given as an argument is stored that way; scan them into
//     int64 and string.
//   - In migrations, write SQLite's type names: on PostgreSQL, INTEGER becomes
//     BIGINT, BLOB becomes BYTEA and REAL becomes DOUBLE PRECISION. A generated
//     key is "id {{id}}".
//   - A '?' in a string literal, a quoted name or a comment stays as it is.
//     PostgreSQL's JSON operators that contain '?' cannot be used.
//   - Read all rows of a query before the next statement of the same
//     transaction ([Collect] does): PostgreSQL cannot interleave them.
//   - PostgreSQL must be able to infer the type of each placeholder. Where
//     nothing says it ("SELECT ?"), write CAST(? AS BIGINT) or CAST(? AS TEXT).
//   - SQL never asks the database for the time: time is an argument.
//
// # Transactions
//
// [DB.Tx] behaves as if transactions ran one after another: SQLite has one write
// connection that begins IMMEDIATE, PostgreSQL runs SERIALIZABLE. The price is
// that the function may run again after a conflict, so it must keep its effects
// inside the transaction, or in [Tx.AfterCommit]. Inside it, use only the Tx: a
// nested call of DB.Tx waits for ever on SQLite, which has one writer.
//
// When the connection is lost during a commit, nobody knows whether it took
// effect. That is [ErrUnknownOutcome], which is not a failure: read again, then
// decide.
//
// # A second process on the same state
//
// On PostgreSQL that is normal. On SQLite it is safe and slow: SQLite's own locks
// keep the file consistent, a writer waits for the other process up to
// [BusyTimeout] a few times and then returns an error that wraps [ErrBusy], and
// wake-ups ([DB.Listen]) do not reach the other process, which sees changes when
// it next looks. Refusing a second server is the caller's business: it takes a
// lock on the data directory. An SQLite file on a network file system is not
// supported.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// Dialects, as [DB.Dialect] names them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Limits.
const (
	// BusyTimeout is how long one attempt waits for another process that
	// writes to the same SQLite file.
	BusyTimeout = 5 * time.Second

	maxReaders       = 8  // read connections on SQLite
	maxConns         = 16 // connections on PostgreSQL, without the listener
	maxConflictTries = 24 // attempts of one transaction after conflicts
	maxBusyTries     = 3  // attempts of one transaction on a locked file
)

var (
	// ErrBusy marks a transaction that was given up because another process
	// holds the state, or because it met a conflict too many times in a row.
	// Nothing of it took effect.
	ErrBusy = errors.New("the state is busy")

	// ErrUnknownOutcome marks a commit whose result is not known. It may or may
	// not have taken effect.
	ErrUnknownOutcome = errors.New("the outcome of the commit is unknown")

	// ErrNewer marks state that a newer Holdfast has migrated. An older one
	// must not touch it.
	ErrNewer = errors.New("the state was written by a newer holdfast")
)

// A DB is an open state database. It may be used by any number of goroutines.
type DB struct {
	dialect string
	write   *sql.DB // SQLite: exactly one connection
	read    *sql.DB // PostgreSQL: the same as write
	notify  *notifier

	migrating sync.Mutex // goose is not made for two at a time in one process
}

// Open opens the state that dsn names: "sqlite:/path/to/file.db", which is
// created if it is not there, or "postgres://user@host/database". The caller
// closes it. An error never contains the password of dsn.
func Open(ctx context.Context, dsn string) (*DB, error) {
	switch {
	case strings.HasPrefix(dsn, "sqlite:"):
		return openSQLite(ctx, strings.TrimPrefix(dsn, "sqlite:"))
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		return openPostgres(ctx, dsn)
	}
	scheme, _, _ := strings.Cut(dsn, ":")
	return nil, holdfast.WithHint(fmt.Errorf("open state: unknown kind of database %q: %w", scheme, holdfast.ErrUsage),
		`write "sqlite:/path/to/file.db" or "postgres://user@host/database"`)
}

// Dialect says which database this is: [SQLite] or [Postgres].
func (d *DB) Dialect() string { return d.dialect }

// Close ends the listener and closes all connections. Transactions that are still
// running are rolled back. It must be called once.
func (d *DB) Close() error {
	d.notify.close()
	err := d.write.Close()
	if d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	return err
}

// Micros returns t as it is stored: microseconds since 1970 UTC, and 0 for the
// zero time. What is finer than a microsecond is cut off.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time returns the time that was stored as us, in UTC; the zero time for 0.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
