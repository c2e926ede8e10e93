package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/bench/table"
	"holdfast/internal/repo"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
)

// backups measures full backups.
func (b *bench) backups(ctx context.Context) error {
	var zstd, fast, plain, theirs, bundled []cost
	ours := func(codec repo.Codec) func() (cost, error) {
		return func() (c cost, err error) {
			p, err := b.protect(ctx, "ours_"+string(codec), "one")
			if err != nil {
				return c, err
			}
			defer func() { err = errors.Join(err, p.stop(context.WithoutCancel(ctx))) }()
			return p.backup(ctx, "backup "+string(codec), codec)
		}
	}
	for i := range b.opt.runs {
		b.say("full backups, run %d of %d", i+1, b.opt.runs)
		for _, m := range []struct {
			name string
			to   *[]cost
			run  func() (cost, error)
		}{
			{"ours zstd", &zstd, ours(repo.Zstd)},
			{"pgBackRest", &theirs, func() (cost, error) { return b.peerBackup(ctx, "pgBackRest backup", b.peer.plain) }},
			{"pg_basebackup", &plain, func() (cost, error) { return b.plainCopy(ctx) }},
			{"ours s2", &fast, ours(repo.S2)},
			{"pgBackRest bundled", &bundled, func() (cost, error) { return b.peerBackup(ctx, "pgBackRest bundled backup", b.peer.bundled) }},
		} {
			c, err := m.run()
			if err != nil {
				return err
			}
			b.say("  %-20s %6.2f s, %6.2f s of processors, %5.0f MB", m.name, c.wall, c.cpu, c.stored)
			*m.to = append(*m.to, c)
		}
	}
	const (
		setting  = " (zst 3, aes-256-cbc, 2 processes)"
		copyName = "pg_basebackup (plain, -X none, not encrypted)"
	)
	full, bundle := b.peer.name+setting, b.peer.bundledName()+setting
	wall := func(c cost) float64 { return c.wall }
	cpu := func(c cost) float64 { return c.cpu }
	bytes := func(c cost) float64 { return c.stored }
	b.table.Add("full backup, time", each(zstd, wall), full, each(theirs, wall), "s")
	b.table.Add("full backup, time", each(zstd, wall), bundle, each(bundled, wall), "s")
	b.table.Add("full backup, time", each(zstd, wall), copyName, each(plain, wall), "s")
	b.table.Add("full backup, processors", each(zstd, cpu), full, each(theirs, cpu), "s")
	b.table.Add("full backup, processors", each(zstd, cpu), copyName, each(plain, cpu), "s")
	b.table.Add("full backup, stored", each(zstd, bytes), full, each(theirs, bytes), "MB")
	b.table.Add("full backup, stored", each(zstd, bytes), bundle, each(bundled, bytes), "MB")
	b.table.Add("full backup s2, time", each(fast, wall), full, each(theirs, wall), "s")
	b.table.Add("full backup s2, time", each(fast, wall), copyName, each(plain, wall), "s")
	b.table.Add("full backup s2, stored", each(fast, bytes), full, each(theirs, bytes), "MB")
	return nil
}

func each[T any](xs []T, f func(T) float64) []float64 {
	var out []float64
	for _, x := range xs {
		out = append(out, f(x))
	}
	return out
}

// What changes between the backups and the restores, so that there is log to replay.
const (
	changeSeconds = 15
	changeRate    = 200 // transactions a second
)

// restores measures from the decision to restore until the first answer.
func (b *bench) restores(ctx context.Context) (err error) {
	p, err := b.protect(ctx, "restore", "one")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(context.WithoutCancel(ctx))) }()
	b.say("backups to restore from, and %d seconds of changes", changeSeconds)
	if _, err := b.peerBackup(ctx, "pgBackRest backup", b.peer.plain); err != nil {
		return err
	}
	if _, err := p.backup(ctx, "backup", repo.Zstd); err != nil {
		return err
	}
	before, err := b.flushed(ctx)
	if err != nil {
		return err
	}
	if err := b.pgbench(ctx, "-n", "-c", "2", "-j", "1", "-T", strconv.Itoa(changeSeconds), "-R", strconv.Itoa(changeRate)); err != nil {
		return err
	}
	end, err := b.flushed(ctx)
	if err != nil {
		return err
	}
	if err := b.archiveAll(ctx); err != nil {
		return err
	}
	if err := p.wait(ctx, "the log to be at its location", func(f source.Frontier) bool { return f.Position >= end }); err != nil {
		return err
	}
	rows, err := b.server.QueryIn(ctx, database, wholeQuery)
	if err != nil {
		return err
	}
	want := rows[0][0]
	var ours, theirs []restoreCost
	for i := range b.opt.runs {
		b.say("restores, run %d of %d", i+1, b.opt.runs)
		c, err := p.restore(ctx, want)
		if err != nil {
			return err
		}
		b.say("  %-20s %6.2f s, %6.2f s of processors: fetch %.2f, compare %.2f, replay %.2f", "ours", c.wall, c.cpu, c.fetch, c.verify, c.replay)
		ours = append(ours, c)
		if c, err = b.peerRestore(ctx, want); err != nil {
			return err
		}
		b.say("  %-20s %6.2f s, %6.2f s of processors: restore %.2f, replay %.2f", "pgBackRest", c.wall, c.cpu, c.fetch, c.replay)
		theirs = append(theirs, c)
	}
	b.table.Notes = append(b.table.Notes, fmt.Sprintf("restores replay %.0f MB of log to its end, promote, and answer %q; sums and row counts were compared with the source", float64(end-before)/1e6, firstQuery))
	b.table.Add("restore to first query", each(ours, func(c restoreCost) float64 { return c.wall }), b.peer.name, each(theirs, func(c restoreCost) float64 { return c.wall }), "s")
	b.table.Add("restore to first query, processors", each(ours, func(c restoreCost) float64 { return c.cpu }), b.peer.name, each(theirs, func(c restoreCost) float64 { return c.cpu }), "s")
	b.table.Add("  of it files, log and comparing", each(ours, func(c restoreCost) float64 { return c.fetch + c.verify }), b.peer.name, each(theirs, func(c restoreCost) float64 { return c.fetch }), "s")
	b.table.Add("  of it start and replay", each(ours, func(c restoreCost) float64 { return c.replay }), b.peer.name, each(theirs, func(c restoreCost) float64 { return c.replay }), "s")
	return nil
}

// archiveAll switches to a new segment and waits until the old one is archived.
func (b *bench) archiveAll(ctx context.Context) error {
	text, err := b.server.Value(ctx, "SELECT pg_switch_wal()")
	if err != nil {
		return err
	}
	end, err := postgres.ParseLSN(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if held, err := b.peer.archivedTo(); err == nil && held >= end {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the log up to %s is not archived: %w", text, err)
		}
	}
}

// How data at risk is measured.
const (
	riskSeconds = 40
	riskSample  = 100 * time.Millisecond
	riskCommit  = 10 * time.Millisecond
	modestRate  = 50 // transactions a second
)

// An acknowledged commit: when the client knew of it, and a position behind it.
type acknowledged struct {
	at  time.Time
	lsn uint64
}

// risk measures what would be lost if the machine vanished now.
func (b *bench) risk(ctx context.Context) (err error) {
	p, err := b.protect(ctx, "risk", "near", "far")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(context.WithoutCancel(ctx))) }()
	if err := b.archiveAll(ctx); err != nil {
		return err
	}
	// Both begin with nothing at risk: the rest of the segment that was switched
	// away from is log, too.
	end, err := b.flushed(ctx)
	if err != nil {
		return err
	}
	settled := time.Now()
	if err := p.wait(ctx, "the log to be at both locations", func(f source.Frontier) bool { return f.Position >= end && f.CaughtUp.After(settled) }); err != nil {
		return err
	}
	for _, load := range []struct {
		name string
		args []string
	}{
		{fmt.Sprintf("pgbench at %d tx/s", modestRate), []string{"-R", strconv.Itoa(modestRate)}},
		{"pgbench at full speed", nil},
	} {
		b.say("data at risk in the second location, %s, %d seconds", load.name, riskSeconds)
		if err := b.riskUnder(ctx, p, load.name, load.args); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) riskUnder(ctx context.Context, p *protection, name string, args []string) error {
	if err := b.look(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		acks     []acknowledged
		loadErr  error
		writeErr error
	)
	before, err := b.flushed(ctx)
	if err != nil {
		return err
	}
	ready, done := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		defer close(done)
		loadErr = b.pgbench(ctx, append([]string{"-n", "-c", "4", "-j", "1", "-T", strconv.Itoa(riskSeconds)}, args...)...)
	})
	wg.Go(func() {
		writeErr = b.commit(ctx, func(a acknowledged) {
			mu.Lock()
			defer mu.Unlock()
			if acks = append(acks, a); len(acks) == 1 {
				close(ready)
			}
		})
		cancel() // without a client there is nothing to sample
	})
	snapshot := func() []acknowledged {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clip(acks)
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
	samples, err := b.sampleRisk(ctx, p, snapshot, done)
	log, lerr := b.flushed(context.WithoutCancel(ctx))
	cancel()
	wg.Wait()
	if err := errors.Join(err, lerr, loadErr, writeErr); err != nil {
		return err
	}
	rate := float64(log-before) / riskSeconds / 1e6
	b.table.Notes = append(b.table.Notes, fmt.Sprintf("at risk in the second location, %s: age of the oldest acknowledged commit that is not there, and log not there; %.2f MB/s of log, %d commits noted by a client, %d samples", name, rate, len(snapshot()), len(samples)))
	peer := fmt.Sprintf("%s archive_command, archive_timeout %d s", b.peer.name, archiveTimeout)
	var reported []string
	for _, m := range []struct {
		what string
		of   func([]float64) float64
	}{{"median", table.Median}, {"p99", func(xs []float64) float64 { return table.Percentile(xs, 0.99) }}, {"max", func(xs []float64) float64 { return slices.Max(xs) }}} {
		one := func(f func(riskNow) float64) []float64 { return []float64{m.of(each(samples, f))} }
		b.table.Add("at risk, "+name+", commits, "+m.what, one(func(r riskNow) float64 { return r.ours }), peer, one(func(r riskNow) float64 { return r.theirs }), "s")
		b.table.Add("at risk, "+name+", log, "+m.what, one(func(r riskNow) float64 { return r.oursBytes }), peer, one(func(r riskNow) float64 { return r.theirBytes }), "MB")
		said := one(func(r riskNow) float64 { return r.said })[0]
		reported = append(reported, fmt.Sprintf("%s %.2f s", m.what, said))
	}
	b.table.Notes = append(b.table.Notes, "  exposure as Holdfast itself reports it: "+strings.Join(reported, ", "))
	return nil
}

// commit commits numbered rows, one after the other, until ctx ends.
func (b *bench) commit(ctx context.Context, acknowledge func(acknowledged)) error {
	conn, err := pgx.Connect(ctx, b.server.ConnStringTo(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int64
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM acknowledged").Scan(&n); err != nil {
		return err
	}
	for pause(ctx, riskCommit) == nil {
		n++
		if _, err := conn.Exec(ctx, "INSERT INTO acknowledged (n) VALUES ($1)", n); err != nil {
			return ended(ctx, err)
		}
		at := time.Now()
		// The commit lies before what is flushed now. Others may have flushed more
		// meanwhile, so the truth is a little better than what is measured.
		var text string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
			return ended(ctx, err)
		}
		lsn, err := postgres.ParseLSN(text)
		if err != nil {
			return err
		}
		acknowledge(acknowledged{at, lsn})
	}
	return nil
}

// ended forgives an error that only says that the measure is over.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// riskNow is one look at what would be lost.
type riskNow struct {
	ours, theirs          float64 // seconds since the oldest acknowledged commit that is not there
	oursBytes, theirBytes float64 // MB of log that is not there
	said                  float64 // what our own report says, in seconds
}

func (b *bench) sampleRisk(ctx context.Context, p *protection, acks func() []acknowledged, done <-chan struct{}) ([]riskNow, error) {
	const far = 1 // the second place
	var samples []riskNow
	tick := time.NewTicker(riskSample)
	defer tick.Stop()
	for {
		select {
		case <-done:
			if len(samples) == 0 {
				return nil, errors.New("nothing was sampled")
			}
			return samples, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		held, err := p.heldTo(far)
		if err != nil {
			return nil, err
		}
		archived, err := b.peer.archivedTo()
		if err != nil {
			return nil, err
		}
		all := acks() // those since the look at the places count as lost
		now := time.Now()
		var s riskNow
		s.ours, s.oursBytes = lost(all, held, now)
		s.theirs, s.theirBytes = lost(all, archived, now)
		f := p.frontier(p.places[far].Name)
		if f.Err != "" || f.Gap != "" {
			return nil, fmt.Errorf("the stream to the second location: %s%s", f.Err, f.Gap)
		}
		fresh := f.CaughtUp
		if f.LastCommit.After(fresh) {
			fresh = f.LastCommit
		}
		s.said = max(0, now.Sub(fresh).Seconds())
		samples = append(samples, s)
	}
}

// lost says how long ago the first commit was acknowledged that does not lie before
// held, and how much log is missing up to the last one.
func lost(acks []acknowledged, held uint64, now time.Time) (seconds, mb float64) {
	i, _ := slices.BinarySearchFunc(acks, held, func(a acknowledged, h uint64) int {
		if a.lsn <= h {
			return -1
		}
		return 1
	})
	if i == len(acks) {
		return 0, 0
	}
	return now.Sub(acks[i].at).Seconds(), float64(acks[len(acks)-1].lsn-held) / 1e6
}
