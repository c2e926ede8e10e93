package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/dir"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Places opens the repositories at the locations of a plan.
type Places struct {
	plan  *plan.Plan
	trust []seal.VerifyKey // who may have written what is read; none: anybody
	mu    sync.Mutex
	open  map[string]*repo.Repository
}

// NewPlaces returns the places of a plan. With trusted keys, nothing that others
// signed is read.
func NewPlaces(p *plan.Plan, trust ...seal.VerifyKey) *Places {
	return &Places{plan: p, trust: trust, open: map[string]*repo.Repository{}}
}

// store returns the bare location, whether or not a repository is there.
func (ps *Places) store(name string) (repo.Store, error) {
	l, ok := ps.plan.Locations[name]
	if !ok {
		return nil, holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", name, holdfast.ErrUsage), "the plan's locations are %s", strings.Join(slices.Sorted(maps.Keys(ps.plan.Locations)), ", "))
	}
	switch l.Kind {
	case plan.KindDir:
		return dir.New(ps.plan.Resolve(l.Path))
	default:
		return nil, fmt.Errorf("location %q: kind %q is not supported by this version", name, l.Kind)
	}
}

// Open returns the repository at a location. It asks the location each time: a
// repository that was there a minute ago may be unplugged now.
func (ps *Places) Open(ctx context.Context, name string) (*repo.Repository, error) {
	s, err := ps.store(name)
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, s)
	if errors.Is(err, location.ErrUnreachable) {
		return nil, holdfast.WithHint(fmt.Errorf("%s: %w", ps.plan.Resolve(ps.plan.Locations[name].Path), location.ErrUnreachable),
			"mount the disk; if the location is new, \"holdfast location init %s\"", name)
	}
	if errors.Is(err, repo.ErrNotRepository) {
		return nil, holdfast.WithHint(fmt.Errorf("%s: no repository is there%w", ps.plan.Resolve(ps.plan.Locations[name].Path), silent{err}),
			"if the disk is not mounted, mount it; if the location is new, \"holdfast location init %s\"", name)
	}
	if err != nil {
		return nil, err
	}
	if want := ps.plan.Repository.ID; want != "" && r.ID() != want {
		return nil, holdfast.WithHint(fmt.Errorf("another repository is there: %q, and the plan says %q", r.ID(), want),
			"check the location's path in the plan; backups are never mixed")
	}
	r.Trust(ps.trust...)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if old := ps.open[name]; old != nil {
		return old, nil // keeps what it has learned of packs
	}
	ps.open[name] = r
	return r, nil
}

// Init makes a repository at a location. One of the same name that is there
// stays as it is.
func (ps *Places) Init(ctx context.Context, name string, now time.Time) error {
	if l := ps.plan.Locations[name]; l.Kind == plan.KindDir {
		if err := dir.Make(ps.plan.Resolve(l.Path)); err != nil {
			return fmt.Errorf("location %q: %w", name, err)
		}
	}
	s, err := ps.store(name)
	if err != nil {
		return err
	}
	err = repo.Init(ctx, s, repo.Settings{ID: ps.plan.Repository.ID, Created: now.UTC(), Recipients: ps.plan.EncryptTo()})
	if errors.Is(err, repo.ErrInitialised) {
		return holdfast.WithHint(fmt.Errorf("location %q: another repository is at %s%w", name, ps.plan.Resolve(ps.plan.Locations[name].Path), silent{err}),
			"give the location a path of its own in the plan; backups are never mixed")
	}
	if err != nil {
		return fmt.Errorf("location %q: %w", name, err)
	}
	return nil
}

func newRepositoryID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b[:])
}
