package vault

import (
	"cmp"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// CodeOverdue is the finding that copies are past their maximum and cannot go.
const CodeOverdue = "HF-V16"

// overdue names the copies on one shelf that must be gone and stay, because a hold
// forbids or a lock refuses their deletion, and who answers for that. A hold beats the
// maximum, so this is a warning and stops nothing. The newest copy, the proven one and
// the base of a log stay past it by rule and for a while; their decisions say so.
func overdue(p *plan.Plan, t Terms, s Shelf, now time.Time) []holdfast.Finding {
	var held, locked int
	var free time.Time // when the last of the locks ends
	var lock plan.Period
	if s3 := p.Locations[s.Location].S3; s3 != nil {
		lock = s3.Lock
	}
	for _, d := range s.Decided {
		switch {
		case !d.Over:
		case len(t.Holds) > 0:
			held++
		case !d.Keep && !lock.IsZero():
			if until := lock.AddTo(d.Received, 1, t.Zone); until.After(now) {
				locked++
				if until.After(free) {
					free = until
				}
			}
		}
	}
	store := p.Stores[s.Store]
	class, _ := p.ClassOf(s.Store)
	owner := cmp.Or(class.Owner, store.Owner, p.Plan.Owner, "the owner of the plan")
	found := func(n int, why, hint string) []holdfast.Finding {
		return []holdfast.Finding{{Code: CodeOverdue, Severity: holdfast.SeverityWarning, Subject: "stores." + s.Store,
			Message: fmt.Sprintf("past the maximum of %[4]s%[5]s stay copies of %[2]q at %[3]q (%[1]d): %[6]s; owner: %[7]s", n, s.Store, s.Location, t.Max, t.MaxBy, why, owner), Hint: hint}}
	}
	switch {
	case held > 0:
		return found(held, "held: "+t.Holds[0], fmt.Sprintf("%s asks whether the hold is still needed; once it is out of the plan and signed for, they go", owner))
	case locked > 0:
		return found(locked, "the last lock of the place ends at "+day(free, t.Zone), fmt.Sprintf("nobody can delete them sooner; %s shortens locations.%s.s3.lock for what is written from now on", owner, s.Location))
	}
	return nil
}
