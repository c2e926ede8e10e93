package app

import (
	"context"
	"fmt"
	"slices"

	"holdfast"
	"holdfast/internal/govern"
)

// mayHold refuses new copies of a store at a location outside what the plan approves and
// allows, unless an exception is in force: one of the plan, or one that was asked for and
// approved since.
func (a *App) mayHold(ctx context.Context, store, location string) error {
	now := a.opt.Clock()
	out := a.Plan().Refusals(store, location, now)
	if len(out) == 0 {
		return nil
	}
	all, err := a.Duties.Exceptions(ctx)
	if err != nil {
		return err
	}
	return refusal(slices.DeleteFunc(out, func(f holdfast.Finding) bool {
		return slices.ContainsFunc(all, func(e govern.Exception) bool {
			return e.Rule == f.Code && e.Of == f.Subject && e.StateAt(now) == govern.ExceptionApproved
		})
	}))
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
