package app

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/govern"
	"holdfast/internal/plan"
)

// mayHold refuses new copies of a store at a location outside what the plan approves and
// allows, unless an exception is in force: one of the plan, or one that was asked for and
// approved since.
func (a *App) mayHold(ctx context.Context, store, location string) error {
	now := a.opt.Clock()
	if len(a.Plan().Refusals(store, location, now)) == 0 {
		return nil
	}
	approved, err := a.approved(ctx)
	if err != nil {
		return err
	}
	return refusal(a.Plan().Refusals(store, location, now, approved...))
}

// approved are the exceptions that people signed while the system ran. They count wherever
// those of the plan do.
func (a *App) approved(ctx context.Context) (plan.Waivers, error) {
	all, err := a.Duties.Exceptions(ctx)
	return govern.Approved(all), err
}

// placeWaived reports whether an exception in force lets something be written to a place that
// is not approved. Which store may go there is asked before.
func (a *App) placeWaived(ctx context.Context, location string) (bool, error) {
	approved, err := a.approved(ctx)
	return a.Plan().PlaceWaived(location, a.opt.Clock(), approved...), err
}

// goesNowhere refuses a backup of which no location may get a copy.
func (a *App) goesNowhere(ctx context.Context, store string) error {
	var first error
	for _, l := range a.Plan().Backups[a.Plan().Stores[store].Protect].Copies.Names() {
		err := a.mayHold(ctx, store, l)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// refusal is the first of the reasons for which nothing may be done.
func refusal(out []holdfast.Finding) error {
	if len(out) == 0 {
		return nil
	}
	f := out[0]
	return holdfast.WithHint(fmt.Errorf("%s (%s): %w", f.Message, f.Code, holdfast.ErrRefused), "%s", f.Hint)
}
