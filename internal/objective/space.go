package objective

import (
	"fmt"
	"time"

	"holdfast"
)

// A Space is how much a location can still take, and until when that is enough.
type Space struct {
	Total int64 `json:"total_bytes,omitempty"`
	Free  int64 `json:"free_bytes,omitempty"`
	// PerDay is how fast it fills, in bytes; 0: it does not, or nobody knows yet. Basis says
	// from what that is known.
	PerDay int64     `json:"bytes_per_day,omitempty"`
	Basis  string    `json:"basis,omitempty"`
	Full   time.Time `json:"full_on,omitzero"` // at this rate; zero: it does not fill, or nobody knows yet
	Why    string    `json:"why,omitempty"`    // why the room is not known
	trend  bool      // seen for a day at least
}

// When a location that fills is a finding.
const (
	spaceAlert  = 0.85 // of its room is used: a warning
	spaceAlarm  = 0.95 // an error
	fullSoon    = 30 * 24 * time.Hour
	fullAtOnce  = 7 * 24 * time.Hour
	trendWindow = 28 * 24 * time.Hour // how far back the trend looks
	trendLeast  = 24 * time.Hour      // a shorter look is no trend: a first backup is large
	farthest    = 100 * 365           // days; what fills later than this does not fill
)

// foresee says when a location is full, if it goes on filling as it did. The trend is what
// its free room lost, whoever took it, since the earliest look of the last four weeks at
// which it was as large as now; what was deleted meanwhile is so taken into account. Before
// there is a day of it, what snapshots added in the last day stands for it.
func foresee(l LocationFact, now time.Time) Space {
	if l.Room.Total <= 0 {
		return Space{Why: l.Untold}
	}
	s := Space{Total: l.Room.Total, Free: l.Room.Free, PerDay: l.Added, Basis: "what backups added in the last day"}
	for _, r := range l.Rooms {
		age := l.Room.At.Sub(r.At)
		if r.Total != s.Total || age > trendWindow || age < trendLeast {
			continue
		}
		s.trend, s.Basis = true, "what became of it in "+holdfast.FormatDuration(age)
		s.PerDay = int64(float64(r.Free-s.Free) / age.Hours() * 24)
		break
	}
	if s.PerDay <= 0 {
		s.PerDay, s.Basis = 0, ""
		return s
	}
	if days := float64(s.Free) / float64(s.PerDay); days < farthest {
		s.Full = now.Add(time.Duration(days * 24 * float64(time.Hour))).UTC().Truncate(time.Second)
	}
	return s
}

// finding is what a location that fills asks for.
func (s Space) finding(location string, now time.Time) (holdfast.Finding, bool) {
	if s.Total <= 0 {
		return holdfast.Finding{}, false
	}
	used := 1 - float64(s.Free)/float64(s.Total)
	left := s.Full.Sub(now)
	foreseen := s.trend && !s.Full.IsZero()
	if used < spaceAlert && !(foreseen && left <= fullSoon) {
		return holdfast.Finding{}, false
	}
	f := holdfast.Finding{Code: "HF-O02", Severity: holdfast.SeverityWarning, Subject: "locations." + location,
		Message: fmt.Sprintf("location %q is %.0f %% full (%.1f of %.1f GB are free)", location, used*100, float64(s.Free)/1e9, float64(s.Total)/1e9),
		Hint:    "give it more room, or keep less there (\"holdfast prune\" shows what may go): when it is full, backups to it fail"}
	switch {
	case s.Full.IsZero() && s.PerDay == 0:
		f.Message += "; it does not fill further now, so no day can be given"
	case s.Full.IsZero():
		f.Message += "; at the present rate it lasts"
	default:
		f.Message += fmt.Sprintf("; it will be full on %s, by %s (%.3f GB a day)", s.Full.Format(time.DateOnly), s.Basis, float64(s.PerDay)/1e9)
	}
	if used >= spaceAlarm || foreseen && left <= fullAtOnce {
		f.Severity = holdfast.SeverityError
	}
	return f, true
}
