package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// Facts about the clock.
const (
	factRehearsal = "clock.rehearsal" // a process works by a clock that is not the machine's
	factStepped   = "clock.stepped"   // the clock went on by more or less than the time that passed
)

// codeRehearsal is the finding about a clock that is not the machine's.
const codeRehearsal = "HF-O07"

const (
	// stepLook is how often a server compares its clock with the time that passes.
	stepLook = 100 * time.Millisecond
	// stepLeast is what counts as a step. Less is how clocks are set right in
	// ordinary life, and harms nothing.
	stepLeast = time.Minute
)

// stepped counts the steps of the clock, and wakes those who wait for a time: a machine
// that slept, or whose clock was set, looks at once at what is due by now.
type stepped struct {
	mu   sync.Mutex
	n    int
	next chan struct{} // closed at the next step; nil: nobody waits for it
}

// since returns a channel that is closed once there were more than n steps.
func (s *stepped) since(n int) (next <-chan struct{}, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	if s.n > n {
		past := make(chan struct{})
		close(past)
		return past, s.n
	}
	return s.next, s.n
}

func (s *stepped) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.next != nil {
		close(s.next)
	}
	s.next = nil
}

// pauses returns a wait for one loop. It ends after d, or with a step of the clock, also
// one while the loop was at work, and says whether to go on.
func (a *App) pauses(ctx context.Context) func(d time.Duration) bool {
	_, seen := a.stepped.since(0)
	return func(d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		next, n := a.stepped.since(seen)
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		case <-next:
			if n == seen { // it came while we waited
				n++
			}
		}
		seen = n
		return ctx.Err() == nil
	}
}

// noteRehearsal writes down that this process works by a moved clock: its facts are
// dated by it, and who reads them must know.
func (a *App) noteRehearsal(ctx context.Context) error {
	if a.opt.Rehearsal == "" {
		return nil
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		return a.fact(ctx, tx, factRehearsal, "holdfast", map[string]any{"moved": a.opt.Rehearsal, "machine": time.Now().UTC()})
	})
}

// rehearsing finds that the clock is moved.
func (a *App) rehearsing() []holdfast.Finding {
	if a.opt.Rehearsal == "" {
		return nil
	}
	return []holdfast.Finding{{Code: codeRehearsal, Severity: holdfast.SeverityWarning, Subject: "holdfast", Message: "this is a rehearsal: the clock is moved (" + a.opt.Rehearsal + "), and all that is dated here is dated by it",
		Hint: "unset HOLDFAST_CLOCK and start again; copies that a rehearsal made are dated by its clock"}}
}

// watchSteps looks whether the clock goes on as time passes. When it has stepped, that
// is a fact, and what waits for a time looks again at once.
func (a *App) watchSteps(ctx context.Context) {
	began := time.Now() // with the reading of the clock that no one can set
	off := a.opt.Clock().Sub(began)
	tick := time.NewTicker(stepLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		passed := began.Add(time.Since(began))
		now := a.opt.Clock()
		by := now.Sub(passed.Round(0)) - off
		if by.Abs() < stepLeast {
			continue
		}
		off += by
		a.opt.Log.Warn("the clock stepped", "by", by, "now", now)
		err := a.DB.Tx(ctx, func(tx *db.Tx) error {
			a.Jobs.Wake(ctx, tx)
			return a.fact(ctx, tx, factStepped, "holdfast", map[string]any{"by": by.String(), "before": now.Add(-by).UTC(), "now": now.UTC()})
		})
		if err = errors.Join(err, a.Vault.Watch(ctx)); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("a step of the clock is not noted", "err", err)
		}
		a.stepped.step()
	}
}
