package db

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
)

// CopySQLite copies a database of somebody else's to a new file, as of one committed
// state, while its owner writes to it: by SQLite's own backup interface, with what
// lies in the write-ahead log. The database is opened read-only and nothing is
// written to it. In rollback mode its owner cannot commit while this goes on; in WAL
// mode nobody waits.
//
// A database that nobody has open and that has a log cannot be opened read-only; that
// is an error, and its files are at rest.
func CopySQLite(ctx context.Context, from, to string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("copy SQLite database %q: %w", filepath.Base(from), err) }
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: from}).EscapedPath(),
		RawQuery: url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", BusyTimeout.Milliseconds())}}.Encode()}
	connector, err := sqlite.NewConnector(u.String())
	if err != nil {
		return fail(err)
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	b, err := conn.(interface {
		NewBackup(dst string) (*sqlite.Backup, error)
	}).NewBackup(to)
	if err != nil {
		return fail(err)
	}
	// All pages in one step: the copy is of one state, and is never begun again.
	const allPages = -1
	if _, err := b.Step(allPages); err != nil {
		_ = b.Finish()
		return fail(err)
	}
	if err := b.Finish(); err != nil {
		return fail(err)
	}
	return ctx.Err()
}
