//go:build linux

package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/source"
)

// A Store is a directory as the modules see it: the source.Store of kind files.
type Store struct {
	*Source

	mu      sync.Mutex
	created map[string]time.Time // of the snapshots that were read by id: a manifest never changes
}

// maxKnown bounds how many snapshots' times are remembered.
const maxKnown = 100_000

var _ source.Store = (*Store)(nil)

// Open returns the store. It does not touch the directory.
func Open(cfg Config) (*Store, error) {
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return &Store{Source: s, created: map[string]time.Time{}}, nil
}

// Is makes an IncompleteError the kind of error that the modules know.
func (e *IncompleteError) Is(target error) bool { return target == source.ErrIncomplete }

// Windows lists the instants of the snapshots: each is a window of its own.
func (s *Store) Windows(ctx context.Context, r *repo.Repository) ([]holdfast.Window, error) {
	ids, err := r.SnapshotIDs(ctx, s.cfg.Store)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.created) > maxKnown {
		clear(s.created)
	}
	var out []holdfast.Window
	for _, id := range ids {
		at, ok := s.created[id]
		if !ok {
			m, err := r.Manifest(ctx, s.cfg.Store, id)
			if err != nil {
				continue // a damaged manifest is no recovery point; verification names it
			}
			at = m.Created
			s.created[id] = at
		}
		out = append(out, holdfast.Window{Store: s.cfg.Store, Snapshot: id, From: at, To: at, Bases: 1})
	}
	return out, nil
}

// Restore brings the directory back as it was in one snapshot.
func (s *Store) Restore(ctx context.Context, req source.Request) (source.Restored, error) {
	if err := s.checkTarget(req.Target); err != nil {
		return nil, err
	}
	if err := checkEmpty(req.Dir); err != nil {
		return nil, fmt.Errorf("restore of %q: %w", s.cfg.Store, err)
	}
	man, err := s.pick(ctx, req)
	if err != nil {
		return nil, err
	}
	snap, err := req.Repo.Snapshot(ctx, man, req.Identities...)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	stats, err := snap.Extract(ctx, repo.ExtractConfig{Dir: req.Dir, Workers: req.Workers, Owners: os.Geteuid() == 0, Progress: func(n int64) {
		if req.Progress != nil {
			req.Progress(holdfast.Progress{Stage: "files", Done: n, Total: man.Bytes, Unit: "bytes"})
		}
	}})
	if err != nil {
		return nil, err
	}
	g := &restored{snap: snap, dir: req.Dir, report: source.Report{Snapshot: man.ID, Asked: req.Target, Reached: "snapshot of " + man.Created.UTC().Format("2006-01-02 15:04:05.000Z"),
		DataUntil: man.Created, Bytes: stats.Bytes, Files: stats.Files, Fetch: time.Since(began)}}
	g.check(holdfast.L1, "snapshot is whole", holdfast.Passed, fmt.Sprintf("manifest, entry list and every extent of %s", man.ID))
	switch {
	case len(stats.Damage) > 0:
		g.check(holdfast.L3, "content equals the snapshot", holdfast.Failed, fmt.Sprintf("%d places are damaged, the first: %s", len(stats.Damage), stats.Damage[0]))
		return g, nil
	case len(stats.Lost) > 0:
		g.check(holdfast.L3, "content equals the snapshot", holdfast.Passed, fmt.Sprintf("%d entries, each hash compared; metadata that could not be set: %s", stats.Files, stats.Lost[0]))
	default:
		g.check(holdfast.L3, "content equals the snapshot", holdfast.Passed, fmt.Sprintf("%d entries, %d bytes, each hash compared", stats.Files, stats.Bytes))
	}
	g.check(holdfast.L4, "target reached", holdfast.Passed, fmt.Sprintf("asked for %s, reached the %s; a directory has no engine to start", req.Target, g.report.Reached))
	return g, nil
}

// checkTarget refuses what a directory cannot be restored to. There is no default.
func (s *Store) checkTarget(target holdfast.Target) error {
	switch target.Kind {
	case holdfast.TargetLatest, holdfast.TargetImmediate:
		return nil
	case holdfast.TargetTime:
		if target.Time.IsZero() {
			return fmt.Errorf("store %q: the target has no time: %w", s.cfg.Store, holdfast.ErrUsage)
		}
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("store %q: a directory cannot be restored to %q: %w", s.cfg.Store, target, holdfast.ErrUsage),
		"name an instant with --at, or --latest")
}

// checkEmpty refuses a directory in which somebody has something.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return holdfast.WithHint(fmt.Errorf("folder %q is not empty: %w", dir, fs.ErrExist), "restore into a new folder")
	}
	return nil
}

// pick finds the newest snapshot at or before the target.
func (s *Store) pick(ctx context.Context, req source.Request) (*repo.Manifest, error) {
	if req.Snapshot != "" {
		m, err := req.Repo.Manifest(ctx, s.cfg.Store, req.Snapshot)
		if err == nil && req.Target.Kind == holdfast.TargetTime && m.Created.After(req.Target.Time) {
			return nil, holdfast.WithHint(fmt.Errorf("store %q: snapshot %s is of %s, after %s", s.cfg.Store, m.ID, m.Created.UTC().Format(time.RFC3339), req.Target),
				"name an older snapshot, or none")
		}
		return m, err
	}
	ms, damage := req.Repo.Manifests(ctx, s.cfg.Store)
	for _, m := range slices.Backward(ms) {
		if req.Target.Kind != holdfast.TargetTime || !m.Created.After(req.Target.Time) {
			return m, nil
		}
	}
	err := fmt.Errorf("store %q: no snapshot is as old as %s", s.cfg.Store, req.Target)
	if damage != nil {
		err = fmt.Errorf("%w, of those that can be read: %w", err, damage)
	}
	if len(ms) > 0 {
		err = fmt.Errorf("%w; the oldest is of %s", err, ms[0].Created.UTC().Format(time.RFC3339))
	}
	return nil, holdfast.WithHint(err, "\"holdfast points %s\" lists them", s.cfg.Store)
}

type restored struct {
	snap   *repo.Snapshot
	dir    string
	report source.Report
}

func (g *restored) check(r holdfast.Rung, name string, o holdfast.Outcome, detail string) {
	g.report.Checks = append(g.report.Checks, holdfast.Check{Rung: r, Name: name, Outcome: o, Grade: holdfast.Proved, Detail: detail})
}

func (g *restored) Report() source.Report { return g.report }

// Integrity looks at what guards the files: owners and modes as they were.
func (g *restored) Integrity(ctx context.Context) []holdfast.Check {
	c := holdfast.Check{Rung: holdfast.L5, Name: "owners and modes", Outcome: holdfast.Passed, Grade: holdfast.Proved}
	n, bad := 0, ""
	err := g.snap.Entries(ctx, func(e repo.Entry) error {
		if bad != "" || e.Type == "hardlink" {
			return nil
		}
		info, err := os.Lstat(filepath.Join(g.dir, filepath.FromSlash(e.Path)))
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		n++
		if e.Type != "symlink" && info.Mode().Perm() != fs.FileMode(e.Mode).Perm() {
			bad = fmt.Sprintf("%q has mode %s, had %s", e.Path, info.Mode().Perm(), fs.FileMode(e.Mode).Perm())
		} else if ok && os.Geteuid() == 0 && (int(st.Uid) != e.UID || int(st.Gid) != e.GID) {
			bad = fmt.Sprintf("%q belongs to %d:%d, belonged to %d:%d", e.Path, st.Uid, st.Gid, e.UID, e.GID)
		}
		return nil
	})
	switch {
	case err != nil:
		c.Outcome, c.Detail = holdfast.NotProven, err.Error()
	case bad != "":
		c.Outcome, c.Detail = holdfast.Failed, bad
	default:
		c.Detail = fmt.Sprintf("%d entries as they were", n)
	}
	return []holdfast.Check{c}
}

// Value refuses: a directory answers no questions.
func (g *restored) Value(context.Context, string) (any, error) {
	return nil, errors.New("a directory answers no questions in SQL")
}

// Close does nothing: no engine runs.
func (g *restored) Close(context.Context) error { return nil }
