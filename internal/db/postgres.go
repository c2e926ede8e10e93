package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"holdfast"
)

// openPostgres opens a pool. A pooler between us and the server must work per
// session: LISTEN and advisory locks live in the session.
func openPostgres(ctx context.Context, dsn string) (*DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("open state: %w", err), `write "postgres://user@host:5432/database"`)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "holdfast"
	}
	// A server that stopped in the middle of a transaction (a frozen machine)
	// must not hold its locks against the others for ever.
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"

	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns / 2)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, holdfast.WithHint(fmt.Errorf("open state: %w", err), "the database must run, be reachable from here, and accept this user and password")
	}
	return &DB{dialect: Postgres, write: pool, read: pool, notify: newNotifier(dsn)}, nil
}

// SQLSTATEs after which a transaction had no effect and may run again.
const (
	pgSerializationFailure = "40001"
	pgDeadlock             = "40P01"
)

func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
