package postgres

import (
	"fmt"
	"time"
)

// How a stall is looked at.
const (
	runwayLeast = 3 * time.Second  // before it the rate says nothing
	runwayEvery = 10 * time.Second // how often the estimate is made anew
)

// A runway says how long log can pile up while no place takes it: first in our spool,
// then, held back by our slot, on the server's own disk. Its owner is the reporter.
type runway struct {
	from uint64    // where the log stood when the stall began
	at   time.Time // when
	told time.Time
	text string
}

// look takes what is known now and returns the estimate in words; "" while there is
// no stall. room is what the spool still takes, keep is max_slot_wal_keep_size; negative
// means without a bound.
func (r *runway) look(stalled bool, end uint64, room, keep int64, now time.Time) string {
	if !stalled {
		*r = runway{}
		return ""
	}
	if r.at.IsZero() || end < r.from {
		*r = runway{from: end, at: now}
	}
	took := now.Sub(r.at)
	if took < runwayLeast || r.text != "" && now.Sub(r.told) < runwayEvery {
		return r.text
	}
	r.told = now
	grown := int64(end - r.from)
	if grown == 0 {
		r.text = "nothing is written to the database meanwhile, so nothing piles up"
		return r.text
	}
	perHour := float64(grown) / took.Hours()
	r.text = fmt.Sprintf("log piles up at %s an hour: this machine's spool is full in about %.1f hours (%s free)", megabytes(int64(perHour)), float64(max(room, 0))/perHour, megabytes(max(room, 0)))
	switch {
	case keep < 0:
		r.text += ", and then it fills the server's own disk, without a bound"
	default:
		r.text += fmt.Sprintf(", and about %.1f hours later the server gives up what it keeps for us (max_slot_wal_keep_size, %s)", float64(keep)/perHour, megabytes(keep))
	}
	return r.text
}
