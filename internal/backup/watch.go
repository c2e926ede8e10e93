package backup

import (
	"context"
	"errors"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/repo"
	"holdfast/internal/source"
)

// probeTimeout bounds one look at a store: one that hangs is one that does not answer.
const probeTimeout = 5 * time.Second

// defaultProbe is how often a store is looked at whose policy does not say.
const defaultProbe = 10 * time.Second

// watch looks at a store at the plan's interval and says when it is lost.
func (m *Module) watch(ctx context.Context, p Policy) {
	if p.Probe <= 0 {
		p.Probe = defaultProbe
	}
	tick := time.NewTicker(p.Probe)
	defer tick.Stop()
	for {
		if err := m.Look(ctx, p); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("probe not recorded", "store", p.Store, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Look probes a store once and records what it saw. The store is lost after the
// policy's number of failures in a row, and found again by the first success.
func (m *Module) Look(ctx context.Context, p Policy) error {
	perr := m.probeOnce(ctx, p.Store)
	if ctx.Err() != nil {
		return nil // we are stopping: that says nothing about the store
	}
	now := m.cfg.Clock()
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		old, _, err := probe(ctx, tx, p.Store)
		if err != nil {
			return err
		}
		cur := Probe{OK: perr == nil, At: now, LastOK: old.LastOK, Lost: old.Lost}
		switch {
		case perr == nil:
			cur.LastOK, cur.Lost = now, false
			if old.Lost {
				if err := m.found(ctx, tx, p.Store, now); err != nil {
					return err
				}
			}
		default:
			cur.Error, cur.Failures = perr.Error(), old.Failures+1
			// A store that never answered is a mistake in the plan, not a disaster.
			if !old.Lost && cur.Failures >= p.Failures && !cur.LastOK.IsZero() {
				cur.Lost = true
				if err := m.lost(ctx, tx, Loss{Store: p.Store, LastOK: cur.LastOK, DetectedAt: now, Error: cur.Error}); err != nil {
					return err
				}
			}
		}
		return m.setProbe(ctx, tx, p.Store, cur)
	})
}

func (m *Module) probeOnce(ctx context.Context, store string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	src, err := m.cfg.Source(store)
	if err != nil {
		return err
	}
	return src.Probe(ctx)
}

func (m *Module) lost(ctx context.Context, tx *db.Tx, l Loss) error {
	if err := m.fact(ctx, tx, FactLost, l.Store, map[string]any{"last_ok": l.LastOK, "detected_at": l.DetectedAt, "error": l.Error}); err != nil {
		return err
	}
	return m.cfg.Lost(ctx, tx, l)
}

func (m *Module) found(ctx context.Context, tx *db.Tx, store string, at time.Time) error {
	if err := m.fact(ctx, tx, FactFound, store, map[string]any{"at": at}); err != nil {
		return err
	}
	tx.AfterCommit(func() { m.followAgain(store) })
	return m.cfg.Found(ctx, tx, store, at)
}

// refollow is how long to wait before a log is followed again after its
// adapter gave up, and before locations that were away are asked again.
const refollow = 5 * time.Second

// follow keeps the log of a store flowing to every location within reach.
func (m *Module) follow(ctx context.Context, r *round) {
	p := r.policy
	for {
		err := m.followOnce(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, errAnew) {
			m.cfg.Log.Warn("log is not followed", "store", p.Store, "err", err, "hint", holdfast.Hint(err))
			m.reportAll(ctx, p, err)
		}
		if errors.Is(err, errAnew) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-r.again:
		case <-time.After(refollow):
		}
	}
}

// errAnew ends one round of following because a location or the store came back.
var errAnew = errors.New("the log is followed anew")

func (m *Module) followOnce(ctx context.Context, round *round) error {
	p := round.policy
	src, err := m.cfg.Source(p.Store)
	if err != nil {
		return err
	}
	st, ok := src.(source.Streamer)
	if !ok {
		return errors.New("this kind of store has no log to follow")
	}
	// A location that is away stands in the list without a repository: the spool
	// keeps what it misses.
	var places []repo.Place
	away := map[string]error{}
	for _, name := range p.Locations {
		r, err := m.writable(ctx, p.Store, name)
		if err != nil {
			r, away[name] = nil, err
		}
		places = append(places, repo.Place{Name: name, Repo: r})
	}
	to, allowOne, err := m.cfg.Recipients()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for name, err := range away {
		m.report(ctx, p.Store, source.Frontier{Place: name, At: m.cfg.Clock(), Err: err.Error()})
	}
	m.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-round.again:
			cancel(errAnew)
		}
	})
	if len(away) > 0 {
		m.wg.Go(func() { m.awaitPlaces(ctx, cancel, p.Store, away) })
	}
	err = st.Stream(ctx, source.StreamConfig{
		Places: places, Recipients: to, AllowOne: allowOne, Signer: m.cfg.Signer,
		Report: func(f source.Frontier) { m.report(ctx, p.Store, f) },
	})
	if cause := context.Cause(ctx); errors.Is(cause, errAnew) {
		return cause
	}
	return err
}

// awaitPlaces ends the round when a location that was away is within reach.
func (m *Module) awaitPlaces(ctx context.Context, cancel context.CancelCauseFunc, store string, away map[string]error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(refollow):
		}
		for name := range away {
			if _, err := m.writable(ctx, store, name); err == nil {
				cancel(errAnew)
				return
			}
		}
	}
}

func (m *Module) reportAll(ctx context.Context, p Policy, err error) {
	for _, name := range p.Locations {
		m.report(ctx, p.Store, source.Frontier{Place: name, At: m.cfg.Clock(), Err: err.Error()})
	}
}

// report records a frontier. A new gap is a fact and asks for a new base at once.
func (m *Module) report(ctx context.Context, store string, f source.Frontier) {
	if f.Place == "" {
		f.Gap = "" // the spool is on the machine that may burn: what it lacks is no hole in any copy
	}
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		newGap, err := m.setFrontier(ctx, tx, store, f)
		if err != nil || !newGap {
			return err
		}
		if _, err := m.cfg.Jobs.Enqueue(ctx, tx, SnapshotJob(store, reanchor)); err != nil {
			return err
		}
		if err := m.fact(ctx, tx, FactGap, store, f); err != nil || m.cfg.Gap == nil {
			return err
		}
		return m.cfg.Gap(ctx, tx, store, f)
	})
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Error("frontier not recorded", "store", store, "location", f.Place, "err", err)
	}
}

// writable opens a location to which new copies of a store may go.
func (m *Module) writable(ctx context.Context, store, location string) (*repo.Repository, error) {
	if err := m.may(ctx, store, location); err != nil {
		return nil, err
	}
	return m.cfg.Place(ctx, location)
}
