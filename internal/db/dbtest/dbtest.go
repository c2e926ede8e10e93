// Package dbtest runs tests of stored state on both databases: SQLite, and a real
// PostgreSQL that it starts for the test binary and that ends with it.
//
// The server runs as an unprivileged user (PostgreSQL refuses root), listens only
// on a socket in its own temporary directory, and does not sync: it is thrown away.
// It ends and its directory disappears also when the test binary is killed.
//
// A machine without PostgreSQL fails these tests; they are never skipped.
package dbtest

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/db"
)

// Each runs f in the subtests "sqlite" and "postgres", each with a fresh database
// that has the tables of modules.
func Each(t *testing.T, modules []db.Module, f func(t *testing.T, d *db.DB)) {
	t.Helper()
	for _, dialect := range []string{db.SQLite, db.Postgres} {
		t.Run(dialect, func(t *testing.T) {
			f(t, Open(t, DSN(t, dialect), modules...))
		})
	}
}

// Open opens dsn, migrates modules, and closes it when the test ends.
func Open(t testing.TB, dsn string, modules ...db.Module) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close state: %v", err)
		}
	})
	if err := d.Migrate(t.Context(), modules...); err != nil {
		t.Fatal(err)
	}
	return d
}

// DSN returns the address of a fresh, empty database of the dialect.
func DSN(t testing.TB, dialect string) string {
	t.Helper()
	switch dialect {
	case db.SQLite:
		return "sqlite:" + filepath.Join(t.TempDir(), "state.db")
	case db.Postgres:
		return Postgres(t)
	}
	t.Fatalf("unknown dialect %q", dialect)
	return ""
}

var (
	databases atomic.Int64
	theServer = sync.OnceValues(startServer)
)

// Postgres returns the address of a fresh, empty PostgreSQL database, which is
// dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	s, err := theServer()
	if err != nil {
		t.Fatalf("the test needs a real PostgreSQL: %v", err)
	}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := s.exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return s.dsn(name)
}

type server struct{ dir string }

func (s server) dsn(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=holdfast", database, s.dir)
}

func (s server) exec(ctx context.Context, q string) error {
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, q)
	return err
}
