package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source/files"
)

// A Point is a snapshot at one location, open for reading.
type Point struct {
	*repo.Snapshot
	Location string
}

// A PointRequest names a snapshot: by its id, by an instant at or before which it was
// made, or as the newest one.
type PointRequest struct {
	Store      string
	Location   string // "": any of the store's
	Snapshot   string
	At         time.Time
	Identities []seal.Identity
	Use        func() // called once before the identities are used; may be nil
}

// OpenPoint opens a snapshot for looking into it. It needs neither the store nor a
// server; of several locations the one with the newest fitting snapshot is taken.
func OpenPoint(ctx context.Context, p *plan.Plan, opt Options, r PointRequest) (*Point, error) {
	places, err := openPlaces(ctx, p, opt, r.Store, r.Location)
	if err != nil {
		return nil, err
	}
	var best *repo.Manifest
	var at place
	var errs []error
	for _, pl := range places {
		m, err := pl.newest(ctx, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("location %q: %w", pl.name, err))
		} else if m != nil && (best == nil || m.Created.After(best.Created)) {
			best, at = m, pl
		}
	}
	if best == nil {
		err := fmt.Errorf("store %q has no snapshot %s", r.Store, r.what())
		if len(errs) > 0 {
			err = fmt.Errorf("%w: %w", err, errors.Join(errs...))
		}
		return nil, holdfast.WithHint(err, "\"holdfast points %s\" lists what each location holds", r.Store)
	}
	if r.Use != nil {
		r.Use()
	}
	snap, err := at.repo.Snapshot(ctx, best, r.Identities...)
	if err != nil {
		return nil, unopened(ctx, p, at.repo, r.Store, at.name, best.ID, r.Identities, err)
	}
	return &Point{snap, at.name}, nil
}

func (r PointRequest) what() string {
	switch {
	case r.Snapshot != "":
		return fmt.Sprintf("%q", r.Snapshot)
	case !r.At.IsZero():
		return "of " + r.At.UTC().Format(time.RFC3339) + " or before"
	}
	return "at any location within reach"
}

// Points calls fn for every snapshot of a store, newest first, each opened at a
// location that holds it. A snapshot that cannot be opened is given to lost.
func Points(ctx context.Context, p *plan.Plan, opt Options, r PointRequest, fn func(*Point) error, lost func(id string, err error)) error {
	places, err := openPlaces(ctx, p, opt, r.Store, r.Location)
	if err != nil {
		return err
	}
	held := map[string][]place{}
	for _, pl := range places {
		ids, err := pl.repo.SnapshotIDs(ctx, r.Store)
		if err != nil {
			lost("at "+pl.name, err)
			continue
		}
		for _, id := range ids {
			held[id] = append(held[id], pl)
		}
	}
	if r.Use != nil && len(held) > 0 {
		r.Use()
	}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(held))) {
		var errs []error
		for _, pl := range held[id] {
			m, err := pl.repo.Manifest(ctx, r.Store, id)
			if err == nil {
				var snap *repo.Snapshot
				if snap, err = pl.repo.Snapshot(ctx, m, r.Identities...); err == nil {
					errs = nil
					if err := fn(&Point{snap, pl.name}); err != nil {
						return err
					}
					break
				}
			}
			errs = append(errs, err)
		}
		if len(errs) > 0 {
			lost(id, errors.Join(errs...))
		}
	}
	return nil
}

type place struct {
	name string
	repo *repo.Repository
}

// openPlaces opens the locations of a store, those within reach.
func openPlaces(ctx context.Context, p *plan.Plan, opt Options, store, only string) ([]place, error) {
	if _, err := openRestorer(p, store, opt); err != nil { // the store is in the plan
		return nil, err
	}
	names := p.Backups[p.Stores[store].Protect].Copies.Names()
	if only != "" {
		names = []string{only}
	}
	ps := NewPlaces(p, writers(opt.Workspace, p)...)
	var out []place
	var errs []error
	for _, name := range names {
		r, err := ps.Open(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("location %q: %w", name, err))
			continue
		}
		out = append(out, place{name, r})
	}
	if len(out) == 0 {
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		return nil, holdfast.WithHint(fmt.Errorf("store %q: nothing protects it", store), "give stores.%s a \"protect\" in the plan", store)
	}
	return out, nil
}

// newest returns the newest manifest that the request means, nil if there is none.
func (pl place) newest(ctx context.Context, r PointRequest) (*repo.Manifest, error) {
	ids, err := pl.repo.SnapshotIDs(ctx, r.Store)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(ids) {
		if r.Snapshot != "" && id != r.Snapshot {
			continue
		}
		m, err := pl.repo.Manifest(ctx, r.Store, id)
		if err != nil {
			return nil, err
		}
		if r.At.IsZero() || !m.Created.After(r.At) {
			return m, nil
		}
	}
	return nil, nil
}

// RestorePart brings paths of a folder back, and nothing else.
func RestorePart(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest, part files.Part) (RestoreReport, error) {
	if err := emptyDir(r.To); err != nil {
		return RestoreReport{}, err
	}
	began := time.Now()
	pt, err := OpenPoint(ctx, p, opt, r.point())
	if err != nil {
		return RestoreReport{}, err
	}
	stats, err := files.RestorePart(ctx, pt.Snapshot, part, r.To, r.Progress)
	if err != nil {
		return RestoreReport{}, setAside(r.To, unreadable(r.Store, pt.Location, r.Snapshot, err))
	}
	return r.report(pt, stats, time.Since(began)), nil
}

// RestoreInPlace makes a folder that holds something what it was, or says what that
// would change. What is replaced is put aside, never deleted.
func RestoreInPlace(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest, cfg files.InPlace) (*Point, files.InPlaceReport, error) {
	pt, err := OpenPoint(ctx, p, opt, r.point())
	if err != nil {
		return nil, files.InPlaceReport{}, err
	}
	cfg.Dir, cfg.Progress = r.To, r.Progress
	if st := p.Stores[r.Store].Files; st != nil {
		cfg.Exclude = st.Exclude
	}
	report, err := files.RestoreInPlace(ctx, pt.Snapshot, cfg)
	if err != nil {
		return pt, report, unreadable(r.Store, pt.Location, r.Snapshot, err)
	}
	return pt, report, nil
}

func (r RestoreRequest) point() PointRequest {
	return PointRequest{Store: r.Store, Location: r.Location, Snapshot: r.Snapshot, At: r.Target.Time, Identities: r.Identities, Use: r.Use}
}

func (r RestoreRequest) report(pt *Point, stats repo.ExtractStats, took time.Duration) RestoreReport {
	m := pt.Manifest()
	rep := RestoreReport{Location: pt.Location, To: r.To}
	rep.Snapshot, rep.Asked, rep.DataUntil = m.ID, r.Target, m.Created
	rep.Reached = "snapshot of " + m.Created.UTC().Format("2006-01-02 15:04:05.000Z")
	rep.Bytes, rep.Files, rep.Fetch = stats.Bytes, stats.Files, took
	detail := fmt.Sprintf("%d entries, %d bytes, each hash compared", stats.Files, stats.Bytes)
	if len(stats.Lost) > 0 {
		detail += "; metadata that could not be set: " + stats.Lost[0]
	}
	rep.Checks = []holdfast.Check{{Rung: holdfast.L3, Name: "content equals the snapshot", Outcome: holdfast.Passed, Grade: holdfast.Proved, Detail: detail}}
	return rep
}
