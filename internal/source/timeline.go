package source

import (
	"context"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A Timeliner is a Restorer that can say what happened to its data and when, from
// what one location holds, for people who look for the last good moment.
type Timeliner interface {
	Timeline(ctx context.Context, req TimelineRequest) (Timeline, error)
}

// A TimelineRequest asks what happened between two instants.
type TimelineRequest struct {
	Repo       *repo.Repository
	Identities []seal.Identity
	From, To   time.Time
	Rows       int64 // a transaction that changes so many rows of one table is named
}

// A Timeline is what was found, in the order of the log.
type Timeline struct {
	Base      string    `json:"base"` // the snapshot whose log was read, and which gave the names
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	ReadUntil time.Time `json:"read_until,omitzero"` // the last commit that was read
	Events    []Event   `json:"events"`
	Left      int       `json:"left_out,omitempty"` // older events that are not listed
}

// Suggest is the instant before the newest destructive event; ok is false if there
// was none.
func (t Timeline) Suggest() (at time.Time, because Event, ok bool) {
	for _, e := range t.Events {
		if e.What.Destructive() && !e.At.Before(because.At) {
			at, because, ok = e.Before, e, true
		}
	}
	return at, because, ok
}

// An EventKind says what happened.
type EventKind string

// The kinds.
const (
	EventDrop         EventKind = "dropped"
	EventDropDatabase EventKind = "database dropped"
	EventTruncate     EventKind = "emptied"
	EventRewrite      EventKind = "rewritten"
	EventDelete       EventKind = "deleted"
	EventUpdate       EventKind = "updated"
	EventInsert       EventKind = "inserted"
	EventMark         EventKind = "mark"
)

// Destructive reports whether data was lost by it, if it was a mistake.
func (k EventKind) Destructive() bool {
	switch k {
	case EventDrop, EventDropDatabase, EventTruncate, EventDelete, EventUpdate:
		return true
	}
	return false
}

// An Event is one thing that happened.
type Event struct {
	At          time.Time `json:"at"` // by the store's clock
	What        EventKind `json:"what"`
	Name        string    `json:"name"` // of the tables, or of the mark
	Rows        int64     `json:"rows,omitempty"`
	Transaction uint32    `json:"transaction,omitempty"`
	Position    string    `json:"position"`
	End         string    `json:"end,omitempty"`   // of the log that did it: a restore to there includes it
	Before      time.Time `json:"before,omitzero"` // the last good instant, if it was a mistake
}
