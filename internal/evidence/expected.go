package evidence

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/calendar"
	"holdfast/internal/plan"
)

// A slotKey names a slot: two lists of slots are compared by it.
type slotKey struct {
	schedule string
	due      int64 // microseconds, as they are stored
}

func keyOf(s Slot) slotKey { return slotKey{s.Schedule, s.Due.UnixMicro()} }

// expectedSlots derives every slot that the plans expected in [from, to), each plan
// for the time in which it was in force. It needs nothing but the plans, so a
// scheduler that was dead, and wrote nothing down, cannot hide what it left out.
func expectedSlots(plans []Plan, from, to time.Time) ([]Slot, error) {
	var slots []Slot
	for i, v := range plans {
		p, err := plan.Parse(filePlan, v.Text)
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", v.Digest, err)
		}
		start, end := v.From, to
		if i+1 < len(plans) && plans[i+1].From.Before(to) {
			end = plans[i+1].From
		}
		if start.Before(from) {
			start = from
		}
		if !start.Before(end) {
			continue
		}
		for name, every := range schedules(p) {
			r, err := calendar.ParseRecurrence(every)
			if err != nil {
				return nil, fmt.Errorf("plan %s: %s: %w", v.Digest, name, err)
			}
			for _, due := range r.Slots(start, end, p.Location(), MaxSlots+1) {
				slots = append(slots, Slot{Schedule: name, Due: due.UTC(), State: Missing, Fact: -1})
			}
			if len(slots) > MaxSlots {
				return nil, fmt.Errorf("more than %d slots are expected: make packs for shorter periods", MaxSlots)
			}
		}
	}
	sortSlots(slots)
	return slots, nil
}

// SlotsOf returns every slot that the plans expected in [from, to), with what was
// reported of it by now: the list that a pack of that period holds.
func SlotsOf(plans []Plan, reported []Slot, from, to, now time.Time) ([]Slot, error) {
	expected, err := expectedSlots(plans, from, to)
	if err != nil {
		return nil, err
	}
	return settle(reported, expected, from, to, now), nil
}

// schedules are the parts of a plan that recur, by their place in it: each store
// that a backup protects, since one backup may protect several, each drill, and what a
// supplier is asked and tried.
func schedules(p *plan.Plan) map[string]string {
	all := map[string]string{}
	for id, store := range p.Stores {
		if b, ok := p.Backups[store.Protect]; ok {
			all["stores."+id] = b.Every.String()
		}
		if every, ok := store.Delegated.Probes(); ok {
			all["stores."+id+".delegated.probe_every"] = every.String()
		}
		if every, ok := store.Delegated.Tests(); ok {
			all["stores."+id+".delegated.test_every"] = every.String()
		}
	}
	for id, d := range p.Drills {
		all["drills."+id] = d.Every.String()
	}
	return all
}

func sortSlots(s []Slot) {
	slices.SortStableFunc(s, func(a, b Slot) int {
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return strings.Compare(a.Schedule, b.Schedule)
	})
}

// settle joins the reported slots of the period with the expected ones. What was
// expected and never reported is Missing; what was reported as still to do after
// its deadline is Missed.
func settle(reported, expected []Slot, from, to, made time.Time) []Slot {
	var all []Slot
	known := map[slotKey]bool{}
	for _, s := range reported {
		if s.Due.Before(from) || !s.Due.Before(to) {
			continue
		}
		s.Due, s.Deadline, s.Finished = utc(s.Due), utc(s.Deadline), utc(s.Finished)
		if !s.Deadline.IsZero() && s.Deadline.Before(made) && (s.State == Expected || s.State == Started) {
			s.State = Missed
		}
		known[keyOf(s)] = true
		all = append(all, s)
	}
	for _, s := range expected {
		if known[keyOf(s)] {
			continue
		}
		if s.Due.After(made) {
			s.State = Expected // a period that has not ended yet
		} else {
			s.Note = "the plan expected it and nothing was written down"
		}
		all = append(all, s)
	}
	sortSlots(all)
	return all
}

// utc is t as it stands in a pack.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
