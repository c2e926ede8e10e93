package objective

import (
	"slices"
	"time"

	"holdfast"
)

// MovedTo returns the facts as they were at another instant, or would be. What was measured or
// captured later is not known yet. In the future copies are as old as they are now: work is
// assumed to go on.
func (f Facts) MovedTo(at time.Time) Facts {
	out := f
	out.Now = at
	later := at.Sub(f.Now)
	move := func(t time.Time) time.Time {
		switch {
		case t.IsZero():
		case later > 0:
			return t.Add(later)
		case t.After(at):
			return at
		}
		return t
	}
	out.Locations = slices.Clone(f.Locations)
	for i := range out.Locations {
		l := &out.Locations[i]
		l.Seen, l.Answered = move(l.Seen), move(l.Answered)
	}
	out.Copies = slices.Clone(f.Copies)
	for i := range out.Copies {
		c := &out.Copies[i]
		var windows []holdfast.Window
		for _, w := range c.Windows {
			if later <= 0 && w.From.After(at) {
				continue
			}
			w.From, w.To = move(w.From), move(w.To)
			windows = append(windows, w)
		}
		c.Windows, c.Received, c.Verified = windows, move(c.Received), move(c.Verified)
		if c.Frontier != nil {
			fr := *c.Frontier
			fr.CaughtUp, fr.LastCommit, fr.At = move(fr.CaughtUp), move(fr.LastCommit), move(fr.At)
			c.Frontier = &fr
		}
	}
	out.Proofs = slices.DeleteFunc(slices.Clone(f.Proofs), func(x Proof) bool { return x.At.After(at) })
	return out
}
