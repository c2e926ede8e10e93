package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"holdfast/internal/repo"
)

// changes are kinds of load between two backups. Each runs for nextSeconds, as fast as
// the machine lets it, and changes single rows by their key.
var changes = []struct{ name, key string }{
	{"uniform", `\set aid random(1, 100000 * :scale)`},
	{"skewed", `\set aid permute(random_zipfian(1, 100000 * :scale, 1.2), 100000 * :scale)`},
}

const nextSeconds = 60

// nexts measures the base backup that follows another one: ours, which stores the pages
// that changed, against pgBackRest's increment, which stores the files or, bundled,
// the blocks where its version can.
func (b *bench) nexts(ctx context.Context) error {
	for _, change := range changes {
		if err := b.next(ctx, change.name, change.key); err != nil {
			return fmt.Errorf("%s updates: %w", change.name, err)
		}
	}
	return nil
}

func (b *bench) next(ctx context.Context, name, key string) (err error) {
	script := filepath.Join(b.dir, name+".sql")
	if err := os.WriteFile(script, []byte(key+"\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n"), 0o644); err != nil {
		return err
	}
	p, err := b.protect(ctx, "next_"+name, "one")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(context.WithoutCancel(ctx))) }()
	b.say("backups to build on, for %s updates", name)
	first, err := p.backup(ctx, "first backup", repo.Zstd)
	if err != nil {
		return err
	}
	for _, config := range []string{b.peer.plain, b.peer.bundled} {
		if _, err := b.peerBackup(ctx, "pgBackRest backup", config); err != nil {
			return err
		}
	}
	before, err := stored(filepath.Join(p.paths[0], "packs"), filepath.Join(p.paths[0], "snapshots"))
	if err != nil {
		return err
	}
	var ours, theirs, bundled []cost
	for i := range b.opt.runs {
		b.say("%s updates for %d s, run %d of %d", name, nextSeconds, i+1, b.opt.runs)
		if err := b.pgbench(ctx, "-n", "-c", "4", "-j", "1", "-T", strconv.Itoa(nextSeconds), "-f", script); err != nil {
			return err
		}
		c, err := p.backup(ctx, "next backup", repo.Zstd)
		if err != nil {
			return err
		}
		c.stored, before = c.stored-before, c.stored
		ours = append(ours, c)
		b.say("  %-20s %6.2f s, %6.2f s of processors, %5.0f MB; read %.0f MB of the database, which was asked for %s", "ours", c.wall, c.cpu, c.stored, c.read, c.how)
		for _, peer := range []struct {
			config string
			to     *[]cost
		}{{b.peer.plain, &theirs}, {b.peer.bundled, &bundled}} {
			c, err := b.peerIncrement(ctx, peer.config)
			if err != nil {
				return err
			}
			*peer.to = append(*peer.to, c)
			b.say("  %-20s %6.2f s, %6.2f s of processors, %5.0f MB", "pgBackRest", c.wall, c.cpu, c.stored)
		}
	}
	what := "next base, " + name + " updates"
	var whole []cost
	for range ours {
		whole = append(whole, first)
	}
	read := func(c cost) float64 { return c.read }
	goal := 0.0
	if name == "skewed" {
		goal = 0.04
	}
	b.table.Goal(what+", read from production", each(ours, read), "all of the database", each(whole, read), "MB", goal)
	for _, peer := range []struct {
		name string
		runs []cost
	}{{b.peer.name, theirs}, {b.peer.bundledName(), bundled}} {
		b.table.Add(what+", time", each(ours, func(c cost) float64 { return c.wall }), peer.name, each(peer.runs, func(c cost) float64 { return c.wall }), "s")
		b.table.Add(what+", processors", each(ours, func(c cost) float64 { return c.cpu }), peer.name, each(peer.runs, func(c cost) float64 { return c.cpu }), "s")
		b.table.Add(what+", stored", each(ours, func(c cost) float64 { return c.stored }), peer.name, each(peer.runs, func(c cost) float64 { return c.stored }), "MB")
	}
	return nil
}

// peerIncrement takes an increment with pgBackRest, on the newest backup.
func (b *bench) peerIncrement(ctx context.Context, config string) (cost, error) {
	c, err := b.timed("pgBackRest increment", false, func() error { return b.backrest(ctx, config, "--type=incr", "backup") })
	if err != nil {
		return c, err
	}
	label, err := newestBackup(filepath.Join(repository(config), "backup", stanza), "I")
	if err != nil {
		return c, err
	}
	c.stored, err = stored(label)
	return c, err
}
