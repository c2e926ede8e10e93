package app

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/backup"
)

// A survey is what was last seen at the locations. Listing a location takes
// time, so it is done now and then and not for each look at the page; how far a
// log is since then is known from its frontier, and a receipt makes us look
// again at the store that it is for.
type survey struct {
	anew chan struct{} // another plan is in force
	mu   sync.Mutex
	seen map[string]located // by location; what is in it is replaced and never changed
}

// located is what one location answered.
type located struct {
	at       time.Time // of the last look; zero: nobody has looked
	answered time.Time // of the last look that it answered; zero: none since we started
	err      error
	room     backup.Space // when it was last looked at as a whole
	untold   string       // why its room is not known
	noted    int64        // day on which its room was written down, since 1970
	stores   map[string]surveyed
}

// surveyed is what a location was seen to hold of one store.
type surveyed struct {
	at      time.Time
	windows []holdfast.Window
	err     error
}

// surveyEvery is how often a location is asked what it holds, reachEvery how often
// whether it is there at all.
const (
	surveyEvery = time.Minute
	reachEvery  = 10 * time.Second
)

// surveyChannel tells that a location holds more than was seen.
const surveyChannel = "survey"

// firstLook bounds how long the first question waits for locations that nobody
// has looked at yet.
const firstLook = 5 * time.Second

func (s *survey) all() map[string]located {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

func (s *survey) put(name string, l located) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]located{}
	}
	s.seen[name] = l
}

// again forgets what is not true any more under another plan, and looks anew.
func (s *survey) again(moved map[string]bool, same func(store string) bool) {
	s.mu.Lock()
	for name, l := range s.seen {
		if moved[name] {
			delete(s.seen, name)
			continue
		}
		l.stores = maps.Clone(l.stores)
		maps.DeleteFunc(l.stores, func(store string, _ surveyed) bool { return !same(store) })
		s.seen[name] = l
	}
	s.mu.Unlock()
	select {
	case s.anew <- struct{}{}:
	default: // it looks anew already
	}
}

// run looks at the locations of the plan in force until ctx ends.
func (s *survey) run(ctx context.Context, a *App) {
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { s.round(round, a) })
		select {
		case <-ctx.Done():
		case <-s.anew:
		}
		end()
		wg.Wait()
	}
}

// round looks at every location of one plan until ctx ends. Each has its own goroutine:
// one that hangs must not keep us from seeing the others.
func (s *survey) round(ctx context.Context, a *App) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for name := range a.Plan().Locations {
		wg.Go(func() {
			wake, stop := a.DB.Listen(surveyChannel)
			defer stop()
			every := time.NewTicker(surveyEvery)
			defer every.Stop()
			reach := time.NewTicker(reachEvery)
			defer reach.Stop()
			a.lookAt(ctx, name, nil)
			for {
				select {
				case <-ctx.Done():
					return
				case <-every.C:
					a.lookAt(ctx, name, nil)
				case <-reach.C:
					away := a.survey.all()[name].err != nil
					if a.lookAt(ctx, name, []string{}); away && a.survey.all()[name].err == nil {
						a.lookAt(ctx, name, nil) // it is back
					}
				case <-wake:
					if err := a.lookAgain(ctx, name); err != nil && ctx.Err() == nil {
						a.opt.Log.Warn("location not surveyed", "location", name, "err", err)
					}
				}
			}
		})
	}
}

// lookAgain looks at the stores of which the location has newer receipts than our
// last look.
func (a *App) lookAgain(ctx context.Context, name string) error {
	held, err := a.Backups.Holdings(ctx)
	if err != nil {
		return err
	}
	old := a.survey.all()[name]
	stale := []string{}
	for at, h := range held {
		if at.Location == name && !old.stores[at.Store].at.After(h.Received) {
			stale = append(stale, at.Store)
		}
	}
	if len(stale) > 0 {
		a.lookAt(ctx, name, stale)
	}
	return nil
}

// lookAt asks a location what it can bring back of some stores; nil is all.
func (a *App) lookAt(ctx context.Context, name string, stores []string) {
	l := a.survey.all()[name]
	l.at = a.opt.Clock()
	l.stores = maps.Clone(l.stores)
	if l.stores == nil {
		l.stores = map[string]surveyed{}
	}
	r, err := a.Places.Open(ctx, name)
	if l.err = err; err == nil {
		l.answered = l.at
		if stores == nil {
			a.lookForRoom(ctx, name, &l)
		}
		for id, ad := range a.force.Load().stores {
			if ad.err != nil || stores != nil && !slices.Contains(stores, id) {
				continue
			}
			v := surveyed{at: a.opt.Clock()}
			if v.windows, v.err = ad.store.Windows(ctx, r); v.err != nil {
				a.opt.Log.Warn("location not surveyed", "location", name, "store", id, "err", v.err)
			}
			l.stores[id] = v
		}
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return // what we saw while stopping says nothing
	}
	a.survey.put(name, l)
}

// lookForRoom asks a location how much it can still take, and writes the first answer of a
// day down: what it becomes from day to day says when it is full.
func (a *App) lookForRoom(ctx context.Context, name string, l *located) {
	s, err := a.Places.Space(ctx, name)
	if err != nil {
		l.room, l.untold = backup.Space{}, err.Error()
		return
	}
	l.room, l.untold = backup.Space{At: l.at, Total: s.Total, Free: s.Free}, ""
	today := l.at.Unix() / int64(24*time.Hour/time.Second)
	if l.noted == today {
		return
	}
	if err := a.Backups.NoteSpace(ctx, name, l.room); err != nil {
		a.opt.Log.Warn("room of a location not written down", "location", name, "err", err)
		return
	}
	l.noted = today
}

// look returns what was seen, and looks first where nobody has looked yet.
func (a *App) look(ctx context.Context) map[string]located {
	seen := a.survey.all()
	var wg sync.WaitGroup
	for name := range a.Plan().Locations {
		if seen[name].at.IsZero() {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, firstLook)
				defer cancel()
				a.lookAt(ctx, name, nil)
			})
		}
	}
	wg.Wait()
	return a.survey.all()
}
