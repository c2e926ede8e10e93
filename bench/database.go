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
	cfg := postgres.ServerConfig{BinDir: b.binDir, DataDir: b.dataDir(), SocketDir: b.socketDir(), Port: port}
	// Filling is not part of what is measured, so its log goes nowhere.
	cfg.Options = map[string]string{"archive_command": "/bin/true"}
	if b.server, err = postgres.StartServer(ctx, b.account, cfg); err != nil {
		return err
	}
	for _, q := range []string{"CREATE DATABASE " + database, "CREATE ROLE " + role + " LOGIN REPLICATION", "GRANT pg_monitor TO " + role} {
		if _, err := b.server.Query(ctx, q); err != nil {
			return err
		}
	}
	if err := b.fill(ctx); err != nil {
		return err
	}
	version, err := b.server.Value(ctx, "SHOW server_version_num")
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(version)
	if err != nil {
		return err
	}
	for _, q := range postgres.GrantPages(number, role) { // as docs/ops/postgresql.md asks for
		if _, err := b.server.QueryIn(ctx, database, q); err != nil {
			return err
		}
	}
	if _, err := b.server.QueryIn(ctx, database, "CREATE TABLE acknowledged (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())"); err != nil {
		return err
	}
	if err := b.server.Stop(ctx); err != nil {
		return err
	}
	cfg.Options = nil
	b.server, err = postgres.StartServer(ctx, b.account, cfg)
	return err
}

// fill makes pgbench's tables. pgbench fills most of a row with blanks, so that
// everything compresses to a twentieth, which no company's data does. Unless those
// are asked for, the rows get text that compresses to about a quarter.
func (b *bench) fill(ctx context.Context) error {
	scale := strconv.Itoa(b.opt.scale)
	if b.opt.blank {
		return b.pgbench(ctx, "-i", "-q", "-s", scale)
	}
	if err := b.pgbench(ctx, "-i", "-q", "-I", "dt", "-s", scale); err != nil {
		return err
	}
	for _, q := range []string{
		"INSERT INTO pgbench_branches (bid, bbalance) SELECT n, 0 FROM generate_series(1, " + scale + ") n",
		"INSERT INTO pgbench_tellers (tid, bid, tbalance) SELECT n, (n - 1) / 10 + 1, 0 FROM generate_series(1, 10 * " + scale + ") n",
		"INSERT INTO pgbench_accounts (aid, bid, abalance, filler) SELECT n, (n - 1) / 100000 + 1, 0, md5(n::text) || substr(md5((n + 1)::text), 1, 8) || ' order ' || n" +
			" FROM generate_series(1, 100000 * " + scale + ") n",
	} {
		if _, err := b.server.QueryIn(ctx, database, q); err != nil {
			return err
		}
	}
	return b.pgbench(ctx, "-i", "-q", "-I", "vp", "-s", scale)
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
