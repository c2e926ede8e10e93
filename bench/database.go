package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/source/postgres"
)

const (
	database = "bench"
	role     = "holdfast" // may replicate, and no more
	port     = 5432       // names the private socket; there is no TCP
	// processes is how many everybody may use.
	processes = 2
)

func (b *bench) dataDir() string   { return filepath.Join(b.dir, "pgdata") }
func (b *bench) socketDir() string { return filepath.Join(b.dir, "run") }

// settings go into the configuration file, so that the restored servers run with
// the same ones.
func (b *bench) settings() string {
	return strings.Join([]string{
		"",
		"shared_buffers = 256MB",
		"max_wal_size = 4GB",
		"checkpoint_timeout = 30min",
		"max_slot_wal_keep_size = 8GB",
		"archive_mode = on",
		"archive_command = '" + b.peer.archiveCommand() + "'",
		"archive_timeout = " + strconv.Itoa(archiveTimeout),
		"",
	}, "\n")
}

// makeDatabase starts a throwaway server and fills it.
func (b *bench) makeDatabase(ctx context.Context) error {
	b.say("making a database of about %d MB", b.opt.scale*scaleBytes/1_000_000)
	if err := postgres.Initdb(ctx, b.account, b.binDir, b.dataDir(), "--data-checksums"); err != nil {
		return err
	}
	b.peer = newPgBackRest(b)
	conf, err := os.OpenFile(filepath.Join(b.dataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(b.settings())
	if cerr := conf.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := b.peer.configure(b); err != nil {
		return err
	}
	if b.server, err = postgres.StartServer(ctx, b.account, postgres.ServerConfig{BinDir: b.binDir, DataDir: b.dataDir(), SocketDir: b.socketDir(), Port: port}); err != nil {
		return err
	}
	for _, q := range []string{"CREATE DATABASE " + database, "CREATE ROLE " + role + " LOGIN REPLICATION", "GRANT pg_monitor TO " + role} {
		if _, err := b.server.Query(ctx, q); err != nil {
			return err
		}
	}
	// Filling is not part of what is measured, so its log is not archived twice.
	if err := b.pgbench(ctx, "-i", "-q", "-s", strconv.Itoa(b.opt.scale)); err != nil {
		return err
	}
	_, err = b.server.QueryIn(ctx, database, "CREATE TABLE acknowledged (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
	if err == nil {
		_, err = b.server.Query(ctx, "CHECKPOINT")
	}
	return err
}

// pgbench runs pgbench on the database.
func (b *bench) pgbench(ctx context.Context, args ...string) error {
	args = append([]string{"-h", b.socketDir(), "-p", strconv.Itoa(port), "-U", "postgres"}, args...)
	return b.command(ctx, filepath.Join(b.binDir, "pgbench"), append(args, database)...)
}

// dsn is how we reach the source, with no more rights than the product asks for.
func (b *bench) dsn() string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", b.socketDir(), port, role, database)
}

// The first question to a restored database, and the one that shows that it is all there.
const (
	firstQuery = "SELECT count(*) FROM pgbench_accounts"
	wholeQuery = "SELECT (SELECT sum(abalance) FROM pgbench_accounts)::text || ' ' || (SELECT count(*) FROM pgbench_history)::text"
)

// flushed is how far the log of the source is safe on its disk.
func (b *bench) flushed(ctx context.Context) (uint64, error) {
	text, err := b.server.Value(ctx, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return 0, err
	}
	return postgres.ParseLSN(text)
}
