package backup

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"holdfast/internal/db"
	"holdfast/internal/job"
)

// A round is what goes on for one store under one policy: its log is followed, and it
// is watched.
type round struct {
	policy Policy
	again  chan struct{} // follow the log anew, now
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Start follows the logs, watches the stores and asks the locations what they hold.
func (m *Module) Start(ctx context.Context) error { return m.start(ctx, true) }

// Follow only follows the logs, until Stop: for a process that makes one backup and
// must not declare anything lost.
func (m *Module) Follow(ctx context.Context) error { return m.start(ctx, false) }

func (m *Module) start(ctx context.Context, watches bool) error {
	m.mu.Lock()
	m.watches, m.stopped = watches, false
	m.mu.Unlock()
	return m.Adopt(ctx, func(string) bool { return false })
}

// Stop ends what Start began and waits for it.
func (m *Module) Stop() {
	m.mu.Lock()
	m.stopped = true
	for _, r := range m.rounds {
		r.cancel()
	}
	rounds := m.rounds
	m.rounds = nil
	m.mu.Unlock()
	for _, r := range rounds {
		r.wg.Wait()
	}
	m.wg.Wait()
}

// Adopt makes what goes on fit the policies in force: it begins with a store that is
// new, ends with one that is gone, and begins anew with one that has another policy or,
// as renewed says, is opened in another way. What fits goes on undisturbed. It waits
// until what ends has ended, so that two never follow one log. One caller at a time.
//
// The locations of a store that is begun with are asked what they hold. A crash before
// that is no loss: the next start asks all of them.
func (m *Module) Adopt(ctx context.Context, renewed func(store string) bool) error {
	var begin []Policy
	m.mu.Lock()
	keep, watches := map[string]*round{}, m.watches
	for _, p := range m.cfg.Policies() {
		if r := m.rounds[p.Store]; r != nil && reflect.DeepEqual(r.policy, p) && !renewed(p.Store) {
			keep[p.Store] = r
			continue
		}
		begin = append(begin, p)
	}
	var end []*round
	for store, r := range m.rounds {
		if keep[store] == nil {
			r.cancel()
			end = append(end, r)
		}
	}
	m.rounds = keep
	m.mu.Unlock()
	for _, r := range end {
		r.wg.Wait()
	}
	if watches {
		if err := m.reconcileAll(ctx, begin); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return nil
	}
	for _, p := range begin {
		m.rounds[p.Store] = m.begin(ctx, p, watches)
	}
	return nil
}

// reconcileAll asks the locations of some stores what they hold.
func (m *Module) reconcileAll(ctx context.Context, policies []Policy) error {
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		for _, p := range policies {
			in := job.Insert{Kind: KindReconcile, Key: KindReconcile + ":" + p.Store, Args: storeArgs{Store: p.Store}}
			if _, err := m.cfg.Jobs.Enqueue(ctx, tx, in); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("start backups: %w", err)
	}
	return nil
}

func (m *Module) begin(ctx context.Context, p Policy, watches bool) *round {
	ctx, cancel := context.WithCancel(ctx)
	r := &round{policy: p, again: make(chan struct{}, 1), cancel: cancel}
	if p.Agent {
		return r // its agent does both
	}
	if p.Log {
		r.wg.Go(func() { m.follow(ctx, r) })
	}
	if watches {
		r.wg.Go(func() { m.watch(ctx, p) })
	}
	return r
}

// followAgain begins following a store's log anew at once: a store that came back is
// not kept waiting for the stream's own patience.
func (m *Module) followAgain(store string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rounds[store]
	if r == nil {
		return
	}
	select {
	case r.again <- struct{}{}:
	default: // it is asked already
	}
}
