package govern

import (
	"fmt"
	"time"

	"holdfast/internal/plan"
)

// How long people have for a copy of a plan that has changed, and for what rested on
// somebody who has left.
const (
	copyDue     = 7 * 24 * time.Hour
	handoverDue = 7 * 24 * time.Hour
)

// handovers are what still rests on people who have left: each needs somebody else
// (ACC-12).
func handovers(p *plan.Plan, left map[string][]Rests) (out []want) {
	for _, who := range sorted(left) {
		for _, r := range left[who] {
			out = append(out, want{name: "left." + who + "." + r.Path, kind: Handover, subject: r.Path, what: fmt.Sprintf("%s has left: %s", who, r.What), by: fallbackRoles(p)})
		}
	}
	return out
}

// people asks for new offline copies where the plan has changed, closes what a copy of the
// plan in force proves, and asks for somebody else where somebody has left.
func (s *settling) people() error {
	for _, w := range s.wants {
		switch w.kind {
		case Handover:
			if s.open[w.name] != nil {
				continue
			}
			if err := s.demand(w, "their access ended", handoverDue); err != nil {
				return err
			}
		case OfflineCopy:
			if err := s.copyOf(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyOf looks at one person's offline copy (PER-02). A person without a copy of the plan
// in force owes one from that plan on, and not from the end of its period.
func (s *settling) copyOf(w want) error {
	who := w.by[0]
	every := s.p.People[who].OfflineCopy
	var last Opened // of the plan in force
	var other bool
	for _, c := range s.obs.Copies[who] {
		switch {
		case c.Plan != s.p.Digest():
			other = true
		case c.At.After(last.At):
			last = c
		}
	}
	d := s.open[w.name]
	if last.Copy == "" {
		cause := "there is none of the plan in force"
		if other {
			cause = "the copy is of another plan"
		}
		return s.demand(w, fmt.Sprintf("%s, version %s, %s", cause, or(s.p.Plan.Version, "without a number"), s.p.Digest()[:min(len(s.p.Digest()), 23)]), copyDue)
	}
	// What was opened before the plan changed, and changed back, still counts.
	if d == nil || !last.At.After(d.After) && !(d.Event && s.now.Before(every.AddTo(last.At, 1, s.loc))) {
		return nil
	}
	d.DoneOn = last.At
	if err := s.end(d, Done, FactDone, "copy "+last.Copy+" opened"); err != nil {
		return err
	}
	return s.begin(w)
}
