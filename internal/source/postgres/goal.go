package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres/wal"
)

// A goal is a target as the server is told it, found by walking the log that was
// fetched: the last record to replay.
//
// Times and "latest" become a record too. The server compares a target position with
// where records start, and stops behind the first one that does not start before it;
// so the start of a record that we hold is the one thing that it can always reach,
// and that nothing but that record can satisfy.
type goal struct {
	Record     wal.Record // the last to replay; zero when only the server can tell (xid, name)
	LastCommit time.Time  // of the last transaction that the goal includes; zero if the log holds none
	Records    int64
	Bytes      int64
}

// A goalSeeker follows the log record by record and remembers where to stop.
type goalSeeker struct {
	target holdfast.Target
	limit  uint64 // for positions: the last record ends at or before it; noBound for the others
	stop   uint64 // where the base is complete
	goal   goal
	found  bool
}

// ErrTablespaceCreated says that the log creates a tablespace on the way to the
// target. The server would create it where the source has it, and on the source's own
// host that is the live one: the replay would write into production.
var ErrTablespaceCreated = errors.New("the log creates a tablespace outside the data directory")

// errFound ends a walk that has seen enough.
var errFound = errors.New("found")

func newGoalSeeker(t holdfast.Target, b base) (*goalSeeker, error) {
	s := &goalSeeker{target: t, limit: noBound, stop: b.stop}
	switch t.Kind {
	case holdfast.TargetImmediate:
		s.limit = b.stop
	case holdfast.TargetLSN:
		lsn, err := ParseLSN(t.Value)
		if err != nil {
			return nil, err
		}
		s.limit = lsn
	}
	return s, nil
}

// record takes the next record. It returns errFound at the first one that the target
// excludes.
func (s *goalSeeker) record(r wal.Record) error {
	if s.target.Kind == holdfast.TargetTime && r.Kind == wal.Commit && r.Commit.After(s.target.Time) || uint64(r.End) > s.limit {
		s.found = true
		return errFound
	}
	if r.Kind == wal.Tablespace {
		return holdfast.WithHint(fmt.Errorf("%w at %s", ErrTablespaceCreated, r.Start),
			"take a new base backup, which holds the tablespace; until then, restore to a point before it was created")
	}
	s.goal.Record = r
	s.goal.Records++
	if r.Kind == wal.Commit && r.Commit.After(s.goal.LastCommit) {
		s.goal.LastCommit = r.Commit
	}
	return nil
}

// result is called when the log is over, or the target was found.
func (s *goalSeeker) result(what string) (*goal, error) {
	switch s.target.Kind {
	case holdfast.TargetXID, holdfast.TargetName:
		return &goal{Records: s.goal.Records}, nil
	}
	if uint64(s.goal.Record.End) < s.stop {
		return nil, holdfast.WithHint(fmt.Errorf("%s lies before the base backup is complete at %s", what, FormatLSN(s.stop)),
			"choose a later target, or name an older base backup")
	}
	return &s.goal, nil
}

// settings are the recovery settings that name the goal to the server.
func (g *goal) settings(t holdfast.Target) map[string]string {
	set := map[string]string{
		"recovery_target": "", "recovery_target_time": "", "recovery_target_xid": "", "recovery_target_name": "",
		"recovery_target_lsn": "", "recovery_target_inclusive": "on",
	}
	switch t.Kind {
	case holdfast.TargetXID:
		set["recovery_target_xid"] = t.Value
	case holdfast.TargetName:
		set["recovery_target_name"] = t.Value
	default:
		set["recovery_target_lsn"] = g.Record.Start.String()
	}
	return set
}

// walkLog walks the log of all legs in order, as the server will read it. next
// returns the log's bytes, in order, and io.EOF after the last. Of each record keep bytes
// of its body are given to record; read is told how much was read.
func walkLog(ctx context.Context, p *RestorePlan, keep int, record func(wal.Record) error, read func(n int), next func() ([]byte, error)) error {
	system, err := strconv.ParseUint(p.base.lineage, 10, 64)
	if err != nil {
		return fmt.Errorf("system identifier %q: %w", p.base.lineage, err)
	}
	walking := true
	w, err := wal.NewWalker(wal.Config{
		Start: wal.LSN(p.legs[0].from), SegmentSize: p.base.segmentSize, System: system,
		Timeline: func(page wal.LSN) uint32 { return p.history.at(uint64(page)) }, Keep: keep,
		Record: func(r wal.Record) error {
			if uint64(r.Start) < p.base.start {
				return nil // the server begins at the base's start
			}
			return record(r)
		},
	})
	if err != nil {
		return err
	}
	for {
		b, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		read(len(b))
		if !walking {
			continue // what follows the target is fetched, but means nothing
		}
		switch _, err := w.Write(b); {
		case errors.Is(err, errFound) || errors.Is(err, wal.ErrEnd):
			walking = false
		case err != nil:
			return fmt.Errorf("the log held here cannot be replayed: %w", err)
		}
	}
}
