package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// A TimelineRequest asks what happened to a store's data.
type TimelineRequest struct {
	Store, Location string // any location if empty
	From, To        time.Time
	Rows            int64
	Identities      []seal.Identity
}

// A TimelineReport is what one location tells.
type TimelineReport struct {
	source.Timeline
	Store    string    `json:"store"`
	Location string    `json:"location"`
	Suggest  time.Time `json:"suggest,omitzero"` // the instant before the newest destructive event
}

// Timeline reads what happened to a store from the log at a location. It needs neither
// state nor the store.
func Timeline(ctx context.Context, p *plan.Plan, opt Options, r TimelineRequest) (TimelineReport, error) {
	src, err := openRestorer(p, r.Store, opt)
	if err != nil {
		return TimelineReport{}, err
	}
	tl, ok := src.(source.Timeliner)
	if !ok {
		return TimelineReport{}, holdfast.WithHint(fmt.Errorf("store %q has no log to read: %w", r.Store, holdfast.ErrUsage), "\"holdfast points %s\" lists its snapshots", r.Store)
	}
	names := p.Backups[p.Stores[r.Store].Protect].Copies.Names()
	if r.Location != "" {
		if _, ok := p.Locations[r.Location]; !ok {
			return TimelineReport{}, fmt.Errorf("location %q is not in the plan: %w", r.Location, holdfast.ErrUsage)
		}
		names = []string{r.Location}
	}
	places := NewPlaces(p, writers(opt.Workspace, p)...)
	var errs []error
	for _, name := range names {
		repository, err := places.Open(ctx, name)
		if err == nil {
			var got source.Timeline
			if got, err = tl.Timeline(ctx, source.TimelineRequest{Repo: repository, Identities: r.Identities, From: r.From, To: r.To, Rows: r.Rows}); err == nil {
				rep := TimelineReport{Timeline: got, Store: r.Store, Location: name}
				rep.Suggest, _, _ = got.Suggest()
				return rep, nil
			}
		}
		errs = append(errs, unreadable(r.Store, name, "", err))
	}
	return TimelineReport{}, errors.Join(errs...)
}
