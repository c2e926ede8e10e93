package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/plan"
)

// maxMissed bounds how many times of one duty are written down as missed in one look,
// after a long time in which nobody looked.
const maxMissed = 1000

// eventDue is how long people have after something happened.
const eventDue = 30 * 24 * time.Hour

// A settling is one look at everything, in one transaction.
type settling struct {
	*Module
	ctx    context.Context
	tx     *db.Tx
	now    time.Time
	p      *plan.Plan
	loc    *time.Location
	obs    Observed
	wants  []want
	byName map[string]want
	open   map[string]*Duty // by name
	seen   map[string]string
	first  bool // nobody looked before

	results map[string]Results // of looks whose time has come, by duty
}

// Settle brings the duties up to now: writes what is expected ahead, turns events into
// duties, closes what has its proof, and notes what was missed, and whom to remind.
//
// A crash before the commit leaves everything as it was, and the next look does the
// same; after it, the next look finds nothing to do.
func (m *Module) Settle(ctx context.Context) error {
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return fmt.Errorf("look at what people owe: %w", err)
	}
	byName := map[string]want{}
	for _, w := range wanted(m.cfg.Plan()) {
		byName[w.name] = w
	}
	was, err := m.Open(ctx, false)
	if err != nil {
		return err
	}
	results, err := m.look(ctx, byName, was, m.cfg.Clock())
	if err != nil {
		return err
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p := m.cfg.Plan()
		s := &settling{Module: m, ctx: ctx, tx: tx, now: m.cfg.Clock().UTC().Truncate(time.Microsecond), p: p, loc: p.Location(), obs: obs,
			wants: wanted(p), byName: map[string]want{}, open: map[string]*Duty{}, results: results}
		s.wants = append(s.wants, handovers(p, obs.Left)...)
		s.wants = append(s.wants, keepings(p, obs.Kept)...)
		for _, w := range s.wants {
			s.byName[w.name] = w
		}
		ds, err := m.unfinished(ctx, tx)
		if err != nil {
			return err
		}
		for i := range ds {
			s.open[ds[i].Name] = &ds[i]
		}
		if s.seen, err = m.remembered(ctx, tx); err != nil {
			return err
		}
		s.first = s.seen["plan"] == ""
		for _, step := range []func() error{s.withdraw, s.recur, s.looks, s.changes, s.launched, s.failures, s.repairs, s.people, s.logins, s.keepings, s.proofs, s.remind, s.risks} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// write stores a new duty and says so.
func (s *settling) write(w want, cause string, after, due time.Time, since time.Time) error {
	id, err := s.newID(s.ctx, s.tx, w.name, due)
	if err != nil {
		return err
	}
	d := &Duty{ID: id, Name: w.name, Kind: w.kind, Subject: w.subject, What: w.what, Cause: cause, Owner: person(s.p, w.by), By: w.by, People: max(w.people, 1), Keyed: w.keyed,
		Items: w.items, Every: w.every, Watch: w.looks, After: after.UTC(), Written: s.now, Due: due.UTC(), Late: w.grace.AddTo(due, 1, s.loc).UTC(), Since: since, Plan: s.p.Digest(), Signatures: []Signature{}}
	s.open[w.name] = d
	if err := s.save(s.ctx, s.tx, *d); err != nil {
		return err
	}
	return s.fact(s.ctx, s.tx, FactExpected, d.Subject, "holdfast", map[string]any{"duty": d.ID, "kind": d.Kind, "what": d.What, "cause": cause, "owner": d.Owner, "by": d.By, "people": d.People, "due": d.Due, "late": d.Late})
}

// end gives a duty its outcome.
func (s *settling) end(d *Duty, outcome, kind, proof string) error {
	d.Outcome, d.Closed, d.Proof = outcome, s.now, proof
	delete(s.open, d.Name)
	if err := s.save(s.ctx, s.tx, *d); err != nil {
		return err
	}
	return s.fact(s.ctx, s.tx, kind, d.Subject, "holdfast", map[string]any{"duty": d.ID, "due": d.Due, "proof": proof})
}

// withdraw ends what the plan in force does not ask for any more.
func (s *settling) withdraw() error {
	for _, name := range sorted(s.open) {
		d := s.open[name]
		_, asked := s.byName[name]
		if asked || d.Every == "" && d.Kind != Objective && d.Kind != Handover && d.Kind != Keeping && s.declared(d.Subject) {
			continue
		}
		if d.Kind == Keeping {
			d.DoneOn = s.now
			if err := s.end(d, Done, FactDone, "no copy of it is past its maximum any more"); err != nil {
				return err
			}
			continue
		}
		if d.Kind == Handover {
			d.DoneOn = s.now
			if err := s.end(d, Done, FactDone, "it rests on nobody who has left any more; plan in force: "+s.p.Digest()); err != nil {
				return err
			}
			continue
		}
		if err := s.end(d, Withdrawn, FactWithdrawn, "the plan in force does not ask for it: "+s.p.Digest()); err != nil {
			return err
		}
	}
	return nil
}

// declared reports whether the subject of a duty is still in the plan.
func (s *settling) declared(subject string) bool {
	section, id, ok := strings.Cut(subject, ".")
	if !ok {
		return true
	}
	switch section {
	case "stores":
		_, ok = s.p.Stores[id]
	case "services":
		_, ok = s.p.Services[id]
	case "risks":
		_, ok = s.p.Risks[id]
	}
	return ok
}

// recur writes the next time of everything that comes again, and what was missed.
func (s *settling) recur() error {
	for _, w := range s.wants {
		if w.every == "" && w.day.IsZero() {
			continue // only after events
		}
		d := s.open[w.name]
		if d == nil {
			if err := s.begin(w); err != nil {
				return err
			}
			d = s.open[w.name]
		} else if err := s.follow(d, w); err != nil {
			return err
		}
		if d == nil || w.every == "" {
			continue
		}
		for range maxMissed {
			due, ok := next(w.every, d.Due, s.loc)
			if !ok || due.After(s.now) {
				break
			}
			since := d.Since
			if since.IsZero() && !w.looks { // each look that was missed stands for itself
				since = d.Due
			}
			after := d.Due
			if err := s.end(d, Missed, FactMissed, ""); err != nil {
				return err
			}
			if err := s.write(w, missedCause(w, since), after, due, since); err != nil {
				return err
			}
			d = s.open[w.name]
		}
	}
	return nil
}

func missedCause(w want, since time.Time) string {
	if since.IsZero() {
		return w.every + "; the one before was missed"
	}
	return fmt.Sprintf("%s; missed since %s", w.every, since.Format(time.DateOnly))
}

// begin writes the next time of what has none open: counted from when it was done last,
// as recorded here or as the plan says, else from now.
func (s *settling) begin(w want) error {
	if w.every == "" {
		if _, done := s.seen["once."+w.name+"."+w.day.String()]; done {
			return nil
		}
		if err := s.remember(s.ctx, s.tx, "once."+w.name+"."+w.day.String(), "written"); err != nil {
			return err
		}
		return s.write(w, "the plan names the day", s.now, w.day.Begin(s.loc), time.Time{})
	}
	from, cause := s.now, w.every+", from when it was first asked for"
	last, ok, err := s.last(s.ctx, s.tx, w.name)
	switch {
	case err != nil:
		return err
	case ok:
		from, cause = last.DoneOn, fmt.Sprintf("%s, last done %s", w.every, last.DoneOn.Format(time.DateOnly))
	case !w.last.IsZero():
		from, cause = w.last.Begin(s.loc), fmt.Sprintf("%s, last done %s as the plan says", w.every, w.last)
	}
	due, ok := next(w.every, from, s.loc)
	if !ok {
		return nil // a recurrence that never comes
	}
	return s.write(w, cause, from, due, time.Time{})
}

// follow brings an open duty to what the plan says now. What is due already stays: the
// plan of its time asked for it.
func (s *settling) follow(d *Duty, w want) error {
	changed := false
	if d.Every != w.every && s.now.Before(d.Due) && w.every != "" {
		if due, ok := next(w.every, d.After, s.loc); ok {
			d.Every, d.Due, d.Late, changed = w.every, due.UTC(), w.grace.AddTo(due, 1, s.loc).UTC(), true
		}
	}
	if w.looks {
		w.items = d.Items // what there is to see is filled in when its time has come
	}
	if len(d.Signatures) == 0 && (!slices.Equal(d.Items, w.items) || !slices.Equal(d.By, w.by) || d.What != w.what || d.People != max(w.people, 1)) {
		d.Items, d.By, d.What, d.People, d.Owner, changed = w.items, w.by, w.what, max(w.people, 1), person(s.p, w.by), true
	}
	if !changed {
		return nil
	}
	if err := s.save(s.ctx, s.tx, *d); err != nil {
		return err
	}
	return s.fact(s.ctx, s.tx, FactChanged, d.Subject, "holdfast", map[string]any{"duty": d.ID, "due": d.Due, "every": d.Every, "by": d.By, "items": d.Items})
}

// demand makes something due because of an event. What is open already is due no later
// than that, for one more reason, and signatures of before it do not count for it.
func (s *settling) demand(w want, cause string, within time.Duration) error {
	due := s.now.Add(within)
	d := s.open[w.name]
	if d == nil {
		if err := s.write(w, cause, s.now, due, time.Time{}); err != nil {
			return err
		}
		s.open[w.name].Event = true
		return s.save(s.ctx, s.tx, *s.open[w.name])
	}
	if strings.Contains(d.Cause, cause) {
		return nil
	}
	d.Cause = oneLine(cause + "; " + d.Cause)
	d.After, d.Event, d.Signatures = s.now, true, []Signature{}
	d.Items, d.By, d.People = w.items, w.by, max(w.people, 1)
	if due.Before(d.Due) {
		d.Due, d.Late, d.Reminded = due, w.grace.AddTo(due, 1, s.loc).UTC(), time.Time{}
	}
	if err := s.save(s.ctx, s.tx, *d); err != nil {
		return err
	}
	return s.fact(s.ctx, s.tx, FactChanged, d.Subject, "holdfast", map[string]any{"duty": d.ID, "due": d.Due, "cause": d.Cause})
}

// proofs closes what a drill proves.
func (s *settling) proofs() error {
	for _, name := range sorted(s.open) {
		d := s.open[name]
		if !d.ByDrill() {
			continue
		}
		for _, x := range s.obs.Drills {
			if !x.Passed || "stores."+x.Store != d.Subject || !x.At.After(d.After) {
				continue
			}
			d.DoneOn = x.At
			if err := s.end(d, Done, FactDone, "drill "+x.ID+" passed"); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// remind notes, once each, that the time of a duty is near and that it is over.
func (s *settling) remind() error {
	for _, name := range sorted(s.open) {
		d := s.open[name]
		state := d.StateAt(s.now)
		for _, n := range []struct {
			when bool
			at   *time.Time
			kind string
		}{{state == Due || state == Overdue, &d.Reminded, FactReminded}, {state == Overdue, &d.Noted, FactOverdue}} {
			if !n.when || !n.at.IsZero() {
				continue
			}
			*n.at = s.now
			if err := s.save(s.ctx, s.tx, *d); err != nil {
				return err
			}
			if err := s.fact(s.ctx, s.tx, n.kind, d.Subject, "holdfast", map[string]any{"duty": d.ID, "what": d.What, "owner": d.Owner, "by": d.By, "due": d.Due, "cause": d.Cause}); err != nil {
				return err
			}
		}
	}
	return nil
}
