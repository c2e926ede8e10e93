package holdfast

import (
	"fmt"
	"strings"
	"time"
)

// A TargetKind says how a recovery target is named.
type TargetKind string

// The target kinds. There is no "until the log ends": every recovery has an
// explicit target, and latest is resolved to a position before the engine starts.
const (
	TargetLatest    TargetKind = "latest"
	TargetTime      TargetKind = "time"
	TargetLSN       TargetKind = "lsn"
	TargetXID       TargetKind = "xid"
	TargetName      TargetKind = "name"
	TargetImmediate TargetKind = "immediate"
)

// A Target is the state that a recovery must reach to have succeeded.
type Target struct {
	Kind  TargetKind `json:"kind"`
	Time  time.Time  `json:"time,omitzero"`
	Value string     `json:"value,omitempty"` // for lsn, xid and name
}

// String returns the target as people say it.
func (t Target) String() string {
	switch t.Kind {
	case TargetTime:
		return t.Time.UTC().Format("2006-01-02T15:04:05.000000Z")
	case TargetLSN, TargetXID, TargetName:
		return string(t.Kind) + " " + t.Value
	default:
		return string(t.Kind)
	}
}

// ParseTime reads an instant as the command line takes it: RFC 3339, or a local
// form without zone that is read in loc.
func ParseTime(s string, loc *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, WithHint(fmt.Errorf("time %q is not understood: %w", s, ErrUsage),
		"write an instant with its zone, for example 2026-03-01T14:05:00Z or \"2026-03-01 14:05:00+01:00\"")
}

// A Window is a stretch of instants to which one location alone can bring a
// store back. A snapshot without a log is a window of one instant.
type Window struct {
	Store    string    `json:"store"`
	Location string    `json:"location"`
	Snapshot string    `json:"snapshot"` // the first base of the window
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Lineage  string    `json:"lineage,omitempty"`
	Timeline uint32    `json:"timeline,omitempty"`
	FromLSN  string    `json:"from_lsn,omitempty"`
	ToLSN    string    `json:"to_lsn,omitempty"`
	Bases    int       `json:"bases"`
	Newest   string    `json:"newest,omitempty"`   // the last base of the window
	NewestAt time.Time `json:"newest_at,omitzero"` // where that is complete
	Hole     string    `json:"hole,omitempty"`     // why the window ends before the newest state
	Sealed   string    `json:"sealed,omitempty"`   // which of its snapshots no key of the plan opens
}

// Progress says how far a long operation is. Total is 0 while it is unknown.
type Progress struct {
	Stage string `json:"stage"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Unit  string `json:"unit"` // "bytes", "files", "steps"
}

// An Objective is what the plan promises for one node.
//
// Zero means "no promise made", never "promised instantly": a plan without an
// RTO must not make every drill fail.
type Objective struct {
	RTO time.Duration `json:"rto_ns"` // longest acceptable outage
	RPO time.Duration `json:"rpo_ns"` // oldest acceptable recovered data
}

// A Basis says where a duration comes from.
type Basis string

// The bases. Only a sum of measured parts is proven.
const (
	Measured      Basis = "measured"
	AttestedBasis Basis = "attested"
	Estimated     Basis = "estimated"
	NotApplicable Basis = "not applicable"
)

// A Part is one stretch of a recovery.
type Part struct {
	Name     string        `json:"name"` // detect, decide, provision, fetch, replay, verify, hand over
	Duration time.Duration `json:"duration_ns"`
	Basis    Basis         `json:"basis"`
}

// Parts of a recovery time, in order. Together they span disruption to usable.
type Parts []Part

// PartNames are the parts in the order in which they happen.
var PartNames = []string{"detect", "decide", "provision", "fetch", "replay", "verify", "hand over"}

// Sum adds the parts.
func (p Parts) Sum() time.Duration {
	var d time.Duration
	for _, x := range p {
		d += x.Duration
	}
	return d
}

// Proven reports whether every part was measured or does not apply, and at least one was measured.
func (p Parts) Proven() bool {
	measured := 0
	for _, x := range p {
		switch x.Basis {
		case Measured:
			measured++
		case NotApplicable:
		default:
			return false
		}
	}
	return measured > 0
}

// String lists the parts: "detect 3.1s, fetch 12s".
func (p Parts) String() string {
	var b strings.Builder
	for i, x := range p {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", x.Name, FormatDuration(x.Duration))
		if x.Basis != Measured {
			fmt.Fprintf(&b, " (%s)", x.Basis)
		}
	}
	return b.String()
}

// FormatDuration writes a duration for people: two units at most.
func FormatDuration(d time.Duration) string {
	neg := ""
	if d < 0 {
		neg, d = "-", -d
	}
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return neg + "<1ms"
	case d < time.Second:
		return fmt.Sprintf("%s%dms", neg, d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%s%.1fs", neg, d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%s%ds", neg, int(d.Round(time.Second)/time.Second))
	case d < time.Hour:
		d = d.Round(time.Second)
		return neg + two(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < 2*day:
		d = d.Round(time.Minute)
		return neg + two(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	default:
		d = d.Round(time.Hour)
		return neg + two(d/day, "d", d%day/time.Hour, "h")
	}
}

func two(a time.Duration, au string, b time.Duration, bu string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, au)
	}
	return fmt.Sprintf("%d%s %d%s", a, au, b, bu)
}
