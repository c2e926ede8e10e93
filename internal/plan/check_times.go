package plan

import (
	"fmt"

	"holdfast"
)

// clocks notes schedules that name a time of day that the clock skips once a year.
func (l *linter) clocks() {
	loc := l.p.Location()
	look := func(path string, r Recurrence) {
		if wall, slot, moved := r.Moved(l.now, l.now.AddDate(1, 0, 0), loc); moved {
			l.report(codeGap, holdfast.SeverityNote, path, "choose a time before 01:00 or after 03:59, or leave it so",
				"on %s no clock in %s shows %s: that run happens at %s", wall.Format("2006-01-02"), loc, wall.Format("15:04"), slot.Format("15:04"))
		}
	}
	p := l.p
	for id, b := range p.Backups {
		look("backups."+id+".every", b.Every)
	}
	for id, s := range p.Stores {
		if d := s.Delegated; d != nil {
			look("stores."+id+".delegated.probe_every", d.ProbeEvery)
			look("stores."+id+".delegated.test_every", d.TestEvery)
		}
	}
	for id, d := range p.Drills {
		look("drills."+id+".every", d.Every)
	}
	for id, e := range p.Exercises {
		look("exercises."+id+".every", e.Every)
	}
	for id, r := range p.Reviews {
		look("reviews."+id+".every", r.Every)
	}
	for id, m := range p.Metrics {
		look("metrics."+id+".every", m.Every)
	}
	for id, s := range p.Services {
		if s.BIA == nil {
			continue
		}
		for name, peak := range s.BIA.Peaks {
			look(fmt.Sprintf("services.%s.bia.peaks.%s.when", id, name), peak.When)
		}
	}
}
