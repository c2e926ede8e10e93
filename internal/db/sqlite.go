package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"holdfast"
)

// openSQLite opens the file with one write connection and a pool of readers.
//
// One writer makes the queue of writers ours, in order and with the caller's
// context, instead of a storm of SQLITE_BUSY; IMMEDIATE takes the write lock at
// the start, because a read transaction that turns into a write cannot wait.
func openSQLite(ctx context.Context, path string) (*DB, error) {
	if path == "" || path == ":memory:" {
		return nil, holdfast.WithHint(fmt.Errorf("open state: an SQLite state needs a file: %w", holdfast.ErrUsage),
			`write "sqlite:/path/to/file.db"`)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("open state: %w", err),
			"the directory must exist and be writable for the user that runs holdfast")
	}
	writer, err := sqlite.NewConnector(sqliteDSN(path, "immediate", "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, sqliteOpenError(path, err)
	}
	// query_only instead of a read-only file: after a crash the first reader
	// may have to recover the write-ahead log.
	reader, err := sqlite.NewConnector(sqliteDSN(path, "deferred", "query_only(1)"))
	if err != nil {
		return nil, sqliteOpenError(path, err)
	}
	write := sql.OpenDB(writer)
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		write.Close()
		return nil, sqliteOpenError(path, err)
	}
	read := sql.OpenDB(reader)
	read.SetMaxOpenConns(maxReaders)
	read.SetMaxIdleConns(maxReaders)
	if err := read.PingContext(ctx); err != nil {
		write.Close()
		read.Close()
		return nil, sqliteOpenError(path, err)
	}
	return &DB{dialect: SQLite, write: write, read: read, notify: newNotifier("")}, nil
}

// createPrivate makes the file readable for its owner only, before SQLite makes
// it readable for everybody; the log files take over its mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	// A crash before this line may lose the empty file, which nobody misses; a
	// crash after the first commit must not lose the name of the file.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func sqliteDSN(path, txlock string, pragmas ...string) string {
	q := url.Values{"_txlock": {txlock}}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", BusyTimeout.Milliseconds()))
	q.Add("_pragma", "foreign_keys(1)")
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()
}

func sqliteOpenError(path string, err error) error {
	err = fmt.Errorf("open state %q: %w", path, err)
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return holdfast.WithHint(err, "the file is not an SQLite database, or it is damaged: move it away with its -wal and -shm files and restore a copy")
	case sqlite3.SQLITE_BUSY:
		return holdfast.WithHint(errors.Join(err, ErrBusy), "another process holds the state: stop it, or give this one its own directory")
	}
	return holdfast.WithHint(err, "the file and its directory must be writable for the user that runs holdfast, and the disk must not be full")
}

// sqliteCode returns the extended result code of an SQLite error, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
