package objective

import (
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// lateLeast is by how much a copy may be late at least: work takes its time.
const lateLeast = 15 * time.Minute

// lateCopies finds the copies of a store outside this host that are older than the plan declares
// for their location: the interval of the backup, how long it takes, and the location's own
// cycle. A tenth more is not late yet. With a log, it is the newest point that counts. What
// could not be looked at is found elsewhere, as is a location that holds nothing.
func lateCopies(p *plan.Plan, s StoreOverview) []holdfast.Finding {
	b, ok := p.Backups[s.Backup]
	if !ok {
		return nil
	}
	var out []holdfast.Finding
	for _, e := range s.Exposures {
		period := b.Every.Interval() + b.Copies[e.Location].Every.Approx()
		if b.Every.Interval() == 0 || e.Domain == plan.HostDomain || e.State != LossBounded {
			continue
		}
		if e.Age.Duration() <= period+b.Takes.Approx()+max(period/10, lateLeast) {
			continue
		}
		out = append(out, holdfast.Finding{Code: "HF-O03", Severity: holdfast.SeverityError, Subject: "stores." + s.ID,
			Message: fmt.Sprintf("the copy of %q in %q is %s old, and the plan declares one every %s", s.ID, e.Location, e.Age, holdfast.FormatDuration(period)),
			Hint:    fmt.Sprintf("\"holdfast backup %s\" makes one now; if it goes to the other locations only, \"holdfast location test %s\" says why", s.ID, e.Location)})
	}
	return out
}
