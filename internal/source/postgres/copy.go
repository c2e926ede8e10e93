package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// copySlack is how much longer than its restore a supplier's copy may say that it runs:
// its clock is not ours.
const copySlack = 2 * time.Minute

// copyConnect bounds one attempt to reach it.
const copyConnect = 30 * time.Second

// A Copy is a server that a supplier started from its own backups, for a test of them.
type Copy struct {
	connString string
	about      string
}

// OpenCopy reaches a supplier's copy, which took at most elapsed to be made. It refuses the
// server that production is, one that has been running for longer than its restore took,
// and one that still only replays: an adapter that names one of these shows nothing of
// the supplier's backups. production may be empty. Nothing is written to the copy.
func OpenCopy(ctx context.Context, connString, password, production string, elapsed time.Duration) (*Copy, error) {
	cfg, err := pgconn.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("address of the copy: %w", err)
	}
	if production != "" {
		ours, err := pgconn.ParseConfig(production)
		if err != nil {
			return nil, fmt.Errorf("address of the store: %w", err)
		}
		if same(ctx, cfg, ours) {
			return nil, holdfast.WithHint(fmt.Errorf("the copy is said to be at %s port %d, and that is the store itself", cfg.Host, cfg.Port),
				"the adapter must name the server that the restore made")
		}
	}
	if password != "" {
		if connString, err = WithPassword(connString, password); err != nil {
			return nil, fmt.Errorf("address of the copy: %w", err)
		}
		cfg.Password = password
	}
	cfg.ConnectTimeout = copyConnect
	if err := guardLine(cfg); err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, plainConnectError(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := queryConn(ctx, conn, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.now() - pg_catalog.pg_postmaster_start_time())),
		pg_catalog.current_setting('server_version'), pg_catalog.pg_database_size(pg_catalog.current_database())`)
	if err != nil {
		return nil, fmt.Errorf("the copy: %w", err)
	}
	if len(rows) != 1 || len(rows[0]) != 4 {
		return nil, fmt.Errorf("the copy answers with %d rows instead of one", len(rows))
	}
	seconds, err := strconv.ParseInt(rows[0][1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the copy says that it runs for %q seconds", rows[0][1])
	}
	runs := time.Duration(seconds) * time.Second
	switch {
	case runs > elapsed+copySlack:
		return nil, holdfast.WithHint(fmt.Errorf("what answers at %s port %d has been running for %s, and the restore took %s: it was not made by it", cfg.Host, cfg.Port, holdfast.FormatDuration(runs), holdfast.FormatDuration(elapsed)),
			"the adapter must name the server that the restore made")
	case rows[0][0] != "f":
		return nil, fmt.Errorf("what answers at %s port %d still replays, and cannot be written to", cfg.Host, cfg.Port)
	}
	return &Copy{connString, fmt.Sprintf("PostgreSQL %s at %s port %d, running for %s, database of %s bytes", rows[0][2], cfg.Host, cfg.Port, holdfast.FormatDuration(runs), rows[0][3])}, nil
}

// same reports whether two addresses lead to one server. Names are looked up: a server
// has several.
func same(ctx context.Context, a, b *pgconn.Config) bool {
	if a.Port != b.Port {
		return false
	}
	if a.Host == b.Host {
		return true
	}
	var r net.Resolver
	first, err := r.LookupHost(ctx, a.Host)
	if err != nil {
		return false // then nobody can connect either
	}
	second, err := r.LookupHost(ctx, b.Host)
	if err != nil {
		return false
	}
	for _, x := range first {
		for _, y := range second {
			if x == y {
				return true
			}
		}
	}
	return false
}

// Value asks one question in SQL, in a transaction that only reads.
func (c *Copy) Value(ctx context.Context, question string) (any, error) {
	return ask(ctx, c.connString, question)
}

// About says what answers.
func (c *Copy) About() string { return c.about }
