package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// ReplayStats says what a replay reached, and when.
type ReplayStats struct {
	Target      holdfast.Target
	Goal        string    // position that had to be reached; "" for xid and name
	Reached     string    // position that the server says it replayed
	LastCommit  time.Time // of the last transaction that was replayed; zero if the log held none
	Timeline    uint32    // that the server is on now
	Promoted    bool
	Replay      time.Duration // from the start of the server until the target was reached
	FirstQuery  time.Duration // from then until the first answer
	Restarts    int           // starts that were needed beyond the first
	LogRestored int           // segments that the server took
}

// maxRestarts bounds how often a replay is started again with larger limits.
const maxRestarts = 3

// replaySettings are what makes a replay safe. They win over the files that came
// with the data and over the caller's options.
func (p *RestorePlan) replaySettings() map[string]string {
	r := &p.restore
	set := map[string]string{
		// Nothing leaves: no archive, no upstream, no commands of the source.
		"archive_mode": "off", "archive_command": "", "primary_conninfo": "", "primary_slot_name": "",
		"recovery_end_command": "", "archive_cleanup_command": "", "synchronous_standby_names": "",
		"restore_command":          shellQuote(r.Program) + " restore-command " + shellQuote(p.shelfDir()) + " %f %p",
		"recovery_target_timeline": strconv.FormatUint(uint64(p.Timeline), 10),
		"recovery_target_action":   "promote",
		// Without hot standby a replay cannot be stopped by limits that the source
		// raised on the way; the server answers after the promotion.
		"hot_standby":                "off",
		"huge_pages":                 "try",
		"dynamic_shared_memory_type": "mmap", // leaves nothing outside the folder
	}
	if p.base.major >= 14 {
		set["recovery_init_sync_method"] = "syncfs"
	}
	if r.Pause {
		set["recovery_target_action"], set["hot_standby"] = "pause", "on"
	}
	maps.Copy(set, p.goal.settings(r.Target))
	return set
}

// shellQuote writes s for the shell that runs the restore command, where the server
// itself reads percent signs.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "'", `'\''`), "%", "%%") + "'"
}

// Replay starts the server on what Fetch brought and waits until the target was
// reached: by the position that the server says it replayed, never by an exit
// status, and never by "paused". Everything else is an error, and the server is
// stopped.
func (p *RestorePlan) Replay(ctx context.Context) (*Server, ReplayStats, error) {
	stats := ReplayStats{Target: p.restore.Target}
	s, err := p.replay(ctx, &stats)
	if err != nil {
		return nil, stats, fmt.Errorf("replay %q to %s: %w", p.restore.Scope, p.restore.Target, err)
	}
	return s, stats, nil
}

func (p *RestorePlan) replay(ctx context.Context, stats *ReplayStats) (*Server, error) {
	if p.goal == nil {
		return nil, errors.New("nothing was fetched")
	}
	r := &p.restore
	began := r.Clock()
	limits, err := p.limits(ctx)
	if err != nil {
		return nil, err
	}
	for {
		s, err := p.startReplay(ctx, limits)
		if err != nil {
			return nil, err
		}
		reached, err := p.await(ctx, s)
		if err == nil {
			stats.Replay = r.Clock().Sub(began)
			if err = p.confirm(ctx, s, reached, stats); err == nil {
				return s, nil
			}
		}
		_ = s.Kill() // its state is of no use: what counts is why
		if !errors.Is(err, errLimits) || stats.Restarts == maxRestarts {
			return nil, err
		}
		// The source raised its limits on the way. The control file has them by now.
		stats.Restarts++
		if limits, err = p.limits(ctx); err != nil {
			return nil, err
		}
	}
}

// errLimits says that a replay stands still because the source ran with larger
// limits than this server.
var errLimits = errors.New("the replay stands still below the target: the source ran with larger limits than this server")

// limits are the settings that must not be smaller here than on the source, from
// the control file.
func (p *RestorePlan) limits(ctx context.Context) (map[string]string, error) {
	if c, err := readControlFile(p.restore.Dir); err == nil {
		set := map[string]string{}
		for name, n := range c.Limits {
			set[name] = strconv.Itoa(int(n))
		}
		return set, nil
	} else if !errors.Is(err, errControlLayout) {
		return nil, err
	}
	control, err := controlData(ctx, p.restore.Runner, p.BinDir, p.restore.Dir)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	for _, name := range []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_xacts", "max_locks_per_xact"} {
		v := control[name+" setting"]
		if _, err := strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("pg_controldata does not say %q", name+" setting")
		}
		set[strings.NewReplacer("prepared_xacts", "prepared_transactions", "per_xact", "per_transaction").Replace(name)] = v
	}
	return set, nil
}

func (p *RestorePlan) startReplay(ctx context.Context, limits map[string]string) (*Server, error) {
	r := &p.restore
	options := maps.Clone(limits)
	for k, v := range r.Options {
		if n, err := strconv.Atoi(v); err == nil && limits[k] != "" {
			if floor, _ := strconv.Atoi(limits[k]); n < floor {
				continue
			}
		}
		options[k] = v
	}
	maps.Copy(options, p.replaySettings())
	users := []string{"postgres"}
	if role := p.Base.Labels[LabelRole]; role != "" && role != "postgres" {
		users = append(users, role)
	}
	return launch(ctx, r.Runner, ServerConfig{BinDir: p.BinDir, DataDir: r.Dir, Port: r.Port, Options: options, Users: users})
}

// await waits until the server answers and has reached the goal, has ended, or
// stands still. It returns the position that the server has replayed.
func (p *RestorePlan) await(ctx context.Context, s *Server) (uint64, error) {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	var reported int64 = -1
	for {
		if ok, _ := s.tryConnect(ctx); ok {
			lsn, done, err := p.position(ctx, s)
			if err != nil || done {
				return lsn, err
			}
		}
		if n := s.restored(); n != reported {
			reported = n
			total := (p.LogBytes + p.base.segmentSize - 1) / p.base.segmentSize
			p.restore.Progress(holdfast.Progress{Stage: "replay", Done: min(n, total), Total: total, Unit: "segments"})
		}
		select {
		case <-s.ended():
			return 0, s.failure("the server gave up")
		case <-ctx.Done():
			return 0, fmt.Errorf("the server did not reach the target: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// restored counts the log files that the server took so far.
func (s *Server) restored() int64 {
	return int64(strings.Count(s.logTail(), "\" from archive\n"))
}

// position asks the server how far it is.
func (p *RestorePlan) position(ctx context.Context, s *Server) (lsn uint64, done bool, err error) {
	rows, err := s.Query(ctx, `SELECT pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_is_in_recovery()`)
	if err != nil || len(rows) != 1 {
		return 0, false, nil // it may just be going down; Ended tells
	}
	if rows[0][0] != "" {
		if lsn, err = ParseLSN(rows[0][0]); err != nil {
			return 0, false, err
		}
	}
	inRecovery := rows[0][1] == "t"
	if !p.restore.Pause {
		return lsn, !inRecovery, nil // promoted; confirm compares the position
	}
	if !inRecovery {
		return lsn, false, errors.New("the server promoted although it was told to pause")
	}
	paused, err := s.Query(ctx, "SELECT pg_catalog.pg_is_wal_replay_paused()")
	if err != nil || len(paused) != 1 || paused[0][0] != "t" {
		return lsn, false, nil
	}
	if p.goal.Record.End != 0 && lsn >= uint64(p.goal.Record.End) {
		return lsn, true, nil
	}
	if strings.Contains(s.logTail(), "insufficient parameter settings") {
		return lsn, false, errLimits
	}
	// A transaction or a name was reached when the server says so; only it can tell.
	if p.goal.Record.End == 0 && strings.Contains(s.logTail(), "recovery stopping ") {
		return lsn, true, nil
	}
	return lsn, false, nil
}

// confirm holds the server's position against the goal.
func (p *RestorePlan) confirm(ctx context.Context, s *Server, reached uint64, stats *ReplayStats) error {
	began := p.restore.Clock()
	if _, err := s.Value(ctx, "SELECT count(*) FROM pg_catalog.pg_class"); err != nil {
		return fmt.Errorf("the server does not answer a query: %w", err)
	}
	stats.FirstQuery = p.restore.Clock().Sub(began)
	stats.Reached, stats.LogRestored, stats.Promoted = FormatLSN(reached), int(s.restored()), !p.restore.Pause
	if end := uint64(p.goal.Record.End); end != 0 {
		stats.Goal = FormatLSN(end)
		if reached < end {
			return fmt.Errorf("the server ended its recovery at %s and not at %s", FormatLSN(reached), FormatLSN(end))
		}
		stats.LastCommit = p.goal.LastCommit
	} else {
		if !strings.Contains(s.logTail(), "recovery stopping ") {
			return errors.New("the server does not say that it reached the target")
		}
		last, err := s.Value(ctx, "SELECT (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint")
		if us, perr := strconv.ParseInt(last, 10, 64); err == nil && perr == nil {
			stats.LastCommit = time.UnixMicro(us).UTC()
		}
	}
	tli, err := s.Value(ctx, `SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()`)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(tli, 10, 32)
	if err != nil {
		return fmt.Errorf("timeline %q: %w", tli, err)
	}
	stats.Timeline = uint32(n)
	if stats.Promoted && stats.Timeline <= p.Timeline {
		return fmt.Errorf("the server is on timeline %d: it did not leave the source's timeline %d", stats.Timeline, p.Timeline)
	}
	return nil
}
