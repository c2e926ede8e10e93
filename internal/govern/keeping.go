package govern

import (
	"cmp"
	"fmt"
	"time"

	"holdfast/internal/plan"
)

// How long the owner has to decide about copies that stay past their maximum, and after
// how long the question comes again while they still stay.
const (
	keepingDue   = 14 * 24 * time.Hour
	keepingAgain = 90 * 24 * time.Hour
)

// keepings are the stores of which copies stay past their maximum, because a hold forbids
// or a lock refuses their deletion. Whoever answers for the data says, again and again,
// that it must be so (STO-07).
func keepings(p *plan.Plan, kept map[string]string) (out []want) {
	for _, id := range sorted(kept) {
		s, there := p.Stores[id]
		if !there {
			continue
		}
		class, _ := p.ClassOf(id)
		by := fallbackRoles(p)
		if owner := cmp.Or(class.Owner, s.Owner); owner != "" {
			by = []string{owner}
		}
		out = append(out, want{name: "keeping.stores." + id, kind: Keeping, subject: "stores." + id, by: by, items: []string{kept[id]},
			what: fmt.Sprintf("decide about the copies of %q that stay past their maximum", id)})
	}
	return out
}

// keepings asks those who answer for the data. It ends by their word, and by itself when no
// copy is past its maximum any more.
func (s *settling) keepings() error {
	for _, w := range s.wants {
		if w.kind != Keeping || s.open[w.name] != nil {
			continue
		}
		last, ok, err := s.last(s.ctx, s.tx, w.name)
		if err != nil {
			return err
		}
		if ok && len(last.Signatures) > 0 && s.now.Before(last.Closed.Add(keepingAgain)) {
			continue // somebody has decided, not long ago
		}
		if err := s.demand(w, w.items[0], keepingDue); err != nil {
			return err
		}
	}
	return nil
}
