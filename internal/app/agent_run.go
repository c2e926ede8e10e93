package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/source"
)

const (
	// followAgain is the pause before a log that cannot be followed is tried again.
	followAgain = 10 * time.Second
	// madeAgain is the longest pause before a backup that failed is tried again.
	madeAgain = 5 * time.Minute
	// maxMade bounds the note of when backups were made.
	maxMade = 1 << 20
)

// Run backs the given stores up on the plan's schedule and follows their logs, until ctx
// ends. made hears of every attempt. What was due while no agent ran, or was never made,
// is made at once; what failed, after a pause; and a gap in a log asks for a new base.
func (a *SourceAgent) Run(ctx context.Context, stores []string, made func(Made)) {
	var all sync.WaitGroup
	for _, id := range stores {
		gap := make(chan struct{}, 1)
		if a.hasLog(id) {
			a.mu.Lock()
			a.follows[id] = true
			a.mu.Unlock()
			all.Go(func() {
				a.follow(ctx, id, func() {
					select {
					case gap <- struct{}{}:
					default: // asked for already
					}
				})
			})
		}
		all.Go(func() { a.backUp(ctx, id, gap, made) })
	}
	all.Wait()
}

// backUp backs one store up whenever it is due.
func (a *SourceAgent) backUp(ctx context.Context, store string, gap <-chan struct{}, made func(Made)) {
	every := a.plan.Backups[a.plan.Stores[store].Protect].Every
	due := a.opt.Clock()
	if last := a.lastMade()[store]; !last.IsZero() && last.Before(due) { // a note of the future is of another clock
		next, ok := every.Next(last, a.plan.Location())
		if !ok {
			return
		}
		due = next
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-gap:
		case <-time.After(due.Sub(a.opt.Clock())):
		}
		began := a.opt.Clock()
		m, err := a.Snapshot(ctx, store)
		if ctx.Err() != nil {
			return
		}
		m.Err = err
		made(m)
		next, ok := every.Next(began, a.plan.Location())
		if m.Snapshot == "" {
			if again := a.opt.Clock().Add(madeAgain); !ok || next.After(again) {
				next, ok = again, true
			}
		} else if err := a.noteMade(store, began); err != nil {
			a.opt.Log.Warn("not remembered when a backup was made", "store", store, "err", err)
		}
		if !ok {
			return
		}
		due = next
	}
}

func (a *SourceAgent) madeFile() string { return filepath.Join(a.opt.Workspace.State(), "made.json") }

// lastMade is when each store was backed up at last, as far as is remembered.
func (a *SourceAgent) lastMade() map[string]time.Time {
	out := map[string]time.Time{}
	b, err := durable.ReadFile(durable.OS, a.madeFile(), maxMade)
	if err != nil || json.Unmarshal(b, &out) != nil {
		return map[string]time.Time{}
	}
	return out
}

// noteMade remembers a backup. A crash before it costs one more backup at the next start.
func (a *SourceAgent) noteMade(store string, at time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.lastMade()
	maps.DeleteFunc(all, func(id string, _ time.Time) bool { _, ok := a.plan.Stores[id]; return !ok })
	all[store] = at.UTC()
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, a.madeFile(), b, 0o600)
}

// hasLog reports whether a store has a log that the plan wants.
func (a *SourceAgent) hasLog(store string) bool {
	st := a.plan.Stores[store]
	return st.Kind == plan.KindPostgres && a.plan.Backups[st.Protect].Log != nil
}

func (a *SourceAgent) followed(store string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.follows[store]
}

// source is the adapter of a store.
func (a *SourceAgent) source(store string) (source.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if src := a.open[store]; src != nil {
		return src, nil
	}
	src, err := OpenStore(a.plan, store, filepath.Join(a.opt.Workspace.spool(), store), a.opt)
	if err == nil {
		a.open[store] = src
	}
	return src, err
}

// follow ships the log of a store until ctx ends. gap hears of each new gap.
func (a *SourceAgent) follow(ctx context.Context, store string, gap func()) {
	for ctx.Err() == nil {
		if err := a.followOnce(ctx, store, gap); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("log is not followed", "store", store, "err", err, "hint", holdfast.Hint(err))
			a.mu.Lock()
			delete(a.open, store) // its password may be another one by now
			a.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

func (a *SourceAgent) followOnce(ctx context.Context, store string, gap func()) error {
	src, err := a.source(store)
	if err != nil {
		return err
	}
	st, ok := src.(source.Streamer)
	if !ok {
		return fmt.Errorf("store %q has no log", store)
	}
	places, _, err := a.placesOf(ctx, store)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	said := map[string][2]string{} // by location: what was wrong at last
	return st.Stream(ctx, source.StreamConfig{Places: places, Recipients: a.recipients, AllowOne: a.plan.Repository.AllowOneRecipient, Signer: a.signer, Report: func(f source.Frontier) {
		mu.Lock()
		defer mu.Unlock()
		was, now := said[f.Place], [2]string{f.Err, f.Gap}
		if said[f.Place] = now; was == now || ctx.Err() != nil {
			return
		}
		if f.Err != "" || f.Gap != "" {
			a.opt.Log.Warn("log", "store", store, "location", f.Place, "err", f.Err, "gap", f.Gap)
		}
		if f.Gap != "" && f.Gap != was[1] {
			gap()
		}
	}})
}
