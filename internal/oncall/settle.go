package oncall

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/db"
)

// Settle does what time causes: it tells who is to be told, and calls the next person
// where nobody answered. Any number of processes may call it, one after another.
//
// Everything is one transaction, with the messages: a crash leaves all of it or nothing,
// and the next look does the same.
func (m *Module) Settle(ctx context.Context) error {
	var due bool
	if err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		cs, err := m.due(ctx, tx, 1)
		due = len(cs) > 0
		return err
	}); err != nil || !due {
		return err
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		cs, err := m.due(ctx, tx, MaxAtOnce)
		if err != nil {
			return err
		}
		now := m.cfg.Clock()
		waiting := map[string][]*Call{} // by who is to be told
		for i := range cs {
			c := &cs[i]
			if c.State == Open {
				if err := m.escalate(ctx, tx, c, now); err != nil {
					return err
				}
			}
			switch {
			case len(c.news) > 0:
				for _, p := range c.news {
					waiting[p] = append(waiting[p], c)
				}
			case c.State == Open && c.Notice:
				for _, p := range c.Ladder {
					if !slices.Contains(c.Told, p) {
						waiting[p] = append(waiting[p], c)
					}
				}
			case c.State == Open && c.ToldAt.IsZero():
				waiting[c.Now()] = append(waiting[c.Now()], c)
			}
		}
		for _, person := range slices.Sorted(maps.Keys(waiting)) {
			if err := m.tell(ctx, tx, person, waiting[person], now); err != nil {
				return err
			}
		}
		return nil
	})
}

// due are the calls that time may have something to do with, urgent ones first.
func (m *Module) due(ctx context.Context, tx *db.Tx, limit int) ([]Call, error) {
	return m.query(ctx, tx, "WHERE state = 'open' AND (told_at = 0 OR told_at + within <= ?) OR news <> '[]' ORDER BY urgent DESC, id LIMIT ?", m.cfg.Clock(), limit)
}

// isNews reports whether people are still to be told that it is over.
func (c Call) isNews() bool { return len(c.news) > 0 }

// escalate goes on to the next person if the one before did not answer in time.
func (m *Module) escalate(ctx context.Context, tx *db.Tx, c *Call, now time.Time) error {
	late := !c.Due().IsZero() && !now.Before(c.Due())
	if len(c.Ladder) > 0 && !late {
		return nil
	}
	if c.Step++; c.Step >= len(c.Ladder) {
		c.Step, c.Round = 0, c.Round+1
	}
	c.ToldAt = time.Time{}
	if c.Round >= Rounds || len(c.Ladder) == 0 {
		c.State, c.EndedAt = Unanswered, now
		if err := m.save(ctx, tx, *c); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactUnanswered, *c, "holdfast")
	}
	if err := m.save(ctx, tx, *c); err != nil {
		return err
	}
	return m.fact(ctx, tx, FactEscalated, *c, "holdfast")
}

// tell writes one message to a person about all that waits for them, unless it is night
// or they were told something just now.
func (m *Module) tell(ctx context.Context, tx *db.Tx, person string, cs []*Call, now time.Time) error {
	urgent := slices.ContainsFunc(cs, func(c *Call) bool { return c.Urgent && !c.isNews() })
	gather := m.cfg.Gather()
	if urgent {
		gather = min(gather, UrgentGather)
	}
	last, err := m.last(ctx, tx, person)
	if err != nil {
		return err
	}
	// A last that lies ahead is that of a clock which has come back.
	if now.Sub(last) < gather && !last.After(now) || !urgent && !m.cfg.Quiet(person, now).IsZero() {
		return nil
	}
	d := Draft{Cause: fmt.Sprintf("calls %s %d", person, now.UnixMicro()), Kind: "call", Person: person, Urgent: urgent}
	for _, c := range cs {
		d.Calls = append(d.Calls, *c)
	}
	link, err := m.newLink(ctx, tx, person, d.Calls, now)
	if err != nil {
		return err
	}
	d.Subject, d.Text = words(person, d.Calls)
	d.Text += linked(link)
	if err := m.cfg.Send(ctx, tx, d); err != nil {
		return err
	}
	for _, c := range cs {
		switch {
		case c.isNews():
			// Everybody else has a message of their own, now or when their night is over.
			c.news = slices.DeleteFunc(c.news, func(p string) bool { return p == person })
		case c.Notice:
			c.tell(person)
			if c.cause = d.Cause; len(c.Told) == len(c.Ladder) {
				c.State, c.ToldAt, c.EndedAt = Told, now, now
			}
		default:
			c.tell(person)
			c.ToldAt, c.cause = now, d.Cause
			if err := m.fact(ctx, tx, FactTold, *c, "holdfast"); err != nil {
				return err
			}
		}
		if err := m.save(ctx, tx, *c); err != nil {
			return err
		}
	}
	return m.wrote(ctx, tx, person, now)
}

// listed is how many calls one message describes; the others it counts.
const listed = 20

// words are the subject and the text of a message.
func words(person string, cs []Call) (subject, text string) {
	slices.SortStableFunc(cs, func(a, b Call) int {
		rank := func(c Call) int {
			switch {
			case c.isNews():
				return 2
			case c.Urgent:
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	first := cs[0]
	subject = first.Title
	switch {
	case first.isNews():
		subject = "over: " + subject
	case first.Urgent:
		subject = "URGENT: " + subject
	}
	if n := len(cs) - 1; n > 0 {
		subject += fmt.Sprintf(" (and %d more)", n)
	}
	var b strings.Builder
	ask := 0
	for i, c := range cs {
		if !c.Notice && !c.isNews() {
			ask++
		}
		if i >= listed {
			continue
		}
		switch {
		case c.isNews():
			fmt.Fprintf(&b, "%s is over: %s\n  %s\n", c.Name(), c.Title, c.Note)
		case c.Notice:
			fmt.Fprintf(&b, "%s\n  %s\n", c.Title, c.Detail)
		default:
			fmt.Fprintf(&b, "%s: %s\n  since %s, %s\n  %s\n", c.Name(), c.Title, c.RaisedAt.UTC().Format(time.RFC3339), c.Subject, c.Detail)
			if c.Round > 0 || c.Step > 0 {
				fmt.Fprintf(&b, "  called before and no answer: %s\n", strings.Join(c.Told, ", "))
			}
		}
		b.WriteByte('\n')
	}
	if n := len(cs) - listed; n > 0 {
		fmt.Fprintf(&b, "… and %d more: \"holdfast oncall list\" lists them.\n\n", n)
	}
	if ask > 0 {
		names := make([]string, 0, listed)
		for _, c := range cs[:min(len(cs), listed)] {
			if !c.Notice && !c.isNews() {
				names = append(names, c.Name())
			}
		}
		fmt.Fprintf(&b, "If you see to it, say so, or the next person is called in %s:\n\n    holdfast oncall ack %s --by %s\n", first.Within, strings.Join(names, " "), person)
		if ask > len(names) {
			fmt.Fprintf(&b, "    holdfast oncall ack --all --by %s      # all of them\n", person)
		}
	}
	return subject, b.String()
}
