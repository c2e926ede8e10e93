package vault

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// Bounds of the guard.
const (
	// maxPart is how far a writer's claim and the vault's first receipt may lie apart;
	// maxAhead how far the claim may be ahead.
	maxPart  = 48 * time.Hour
	maxAhead = time.Hour
	// watched is how long a new snapshot is looked at.
	watched = 7 * 24 * time.Hour
	// A newest copy with less than this share of the ones before it has collapsed, if
	// that is more than small bytes.
	collapsed = 0.5
	small     = 1 << 20
	compared  = 10 // snapshots before it that count
	// A run that would delete more than this share of what is there, and more than
	// few, is not the daily one.
	largeShare = 2.0 / 3
	few        = 10
	// The clock may stand still while nobody looks, but not for longer, and must then
	// have run steadily for settle.
	maxPause = 24 * time.Hour
	settle   = 24 * time.Hour
	// stopped is how many intervals may pass without a new receipt, and stoppedLeast how
	// long in any case.
	stopped      = 3
	stoppedLeast = 24 * time.Hour
)

// Codes of the guard's findings.
const (
	CodeParted    = "HF-V1" // claimed and observed times part
	CodeCollapsed = "HF-V2" // the newest copy is much smaller
	CodeMany      = "HF-V3" // too much would go at once
	CodeUnproven  = "HF-V4" // nothing was proven for too long
	CodeClock     = "HF-V5" // the clock stepped
	CodeStopped   = "HF-V6" // no new copies arrive
)

// Signs are what the guard judges beside the snapshots.
type Signs struct {
	Store    string
	Location string
	// Every is how often a snapshot is expected; ProvenWithin how old the last proof
	// may be. Zero: the plan says nothing.
	Every        time.Duration
	ProvenWithin time.Duration
	ProvenAt     time.Time // zero: never
	Steady       time.Time // since when the clock has run without a step
}

// Guard looks for signs that what is about to be deleted is what will be needed: an
// intruder who fills the window with empty copies, a clock that ran ahead, backups
// that ended. Each veto says how to get on. It is pure.
func Guard(s Signs, decided []Decision, now time.Time) []holdfast.Finding {
	going := 0
	for _, d := range decided {
		if !d.Keep {
			going++
		}
	}
	if going == 0 {
		return nil
	}
	var out []holdfast.Finding
	veto := func(code, hint, format string, args ...any) {
		out = append(out, holdfast.Finding{Code: code, Severity: holdfast.SeverityError, Subject: "stores." + s.Store,
			Message: fmt.Sprintf("nothing of %q is deleted at %q: ", s.Store, s.Location) + fmt.Sprintf(format, args...), Hint: hint})
	}
	const override = "\"holdfast prune --override\" asks two people to sign"
	byTime := slices.Clone(decided)
	slices.SortFunc(byTime, func(a, b Decision) int { return a.Received.Compare(b.Received) })
	for _, d := range slices.Backward(byTime) {
		first := d.Received
		if first.IsZero() || now.Sub(first) > watched {
			continue
		}
		if part := first.Sub(d.Created); part > maxPart || part < -maxAhead {
			veto(CodeParted, "look at the clock of the source and at what it sent; "+override,
				"snapshot %s says that it was made %s and arrived %s", d.Snapshot, utc(d.Created), utc(first))
			break
		}
	}
	if v := collapse(byTime); v != "" {
		veto(CodeCollapsed, "compare it with an older one; if the data really shrank, "+override, "%s", v)
	}
	if n := len(decided); going > few && float64(going) > largeShare*float64(n) {
		veto(CodeMany, "\"holdfast prune\" lists them; "+override, "%d of %d snapshots would go at once", going, n)
	}
	if s.ProvenWithin > 0 && (s.ProvenAt.IsZero() || now.Sub(s.ProvenAt) > s.ProvenWithin) {
		last := "no drill has ever passed"
		if !s.ProvenAt.IsZero() {
			last = fmt.Sprintf("the last drill passed %s", utc(s.ProvenAt))
		}
		veto(CodeUnproven, fmt.Sprintf("\"holdfast drill %s\"", s.Store), "%s, and the plan wants one within %s", last, holdfast.FormatDuration(s.ProvenWithin))
	}
	if newest := newestReceipt(decided); s.Every > 0 && now.Sub(newest) > max(stopped*s.Every, stoppedLeast) {
		veto(CodeStopped, fmt.Sprintf("\"holdfast backup %s\", and find out why the schedule does not", s.Store),
			"the newest copy there arrived %s, and one is expected every %s", utc(newest), holdfast.FormatDuration(s.Every))
	}
	if s.Steady.IsZero() || now.Sub(s.Steady) < settle {
		veto(CodeClock, fmt.Sprintf("see that the clock is right; deletion goes on by itself after %s without a step", holdfast.FormatDuration(settle)),
			"the clock of this machine stepped, or nobody has watched it, until %s", utc(s.Steady))
	}
	return out
}

func newestReceipt(ds []Decision) (newest time.Time) {
	for _, d := range ds {
		if d.Received.After(newest) {
			newest = d.Received
		}
	}
	return newest
}

// collapse compares the newest snapshot with the middle one of those before it.
func collapse(byTime []Decision) string {
	n := len(byTime)
	if n < 3 {
		return ""
	}
	last := byTime[n-1]
	var bytes, files []int64
	for _, d := range byTime[max(0, n-1-compared) : n-1] {
		bytes, files = append(bytes, d.Bytes), append(files, d.Files)
	}
	slices.Sort(bytes)
	slices.Sort(files)
	b, f := bytes[len(bytes)/2], files[len(files)/2]
	switch {
	case float64(last.Bytes) < collapsed*float64(b) && b-last.Bytes > small:
		return fmt.Sprintf("the newest snapshot %s has %d bytes, and those before it about %d", last.Snapshot, last.Bytes, b)
	case float64(last.Files) < collapsed*float64(f) && f-last.Files > few:
		return fmt.Sprintf("the newest snapshot %s has %d files, and those before it about %d", last.Snapshot, last.Files, f)
	}
	return ""
}

// Steady follows the clock: it returns since when it has run without a step, given
// when it was last looked at, and what it was steady since then.
func Steady(last, since, now time.Time) time.Time {
	switch {
	case last.IsZero(), since.IsZero():
		return now
	case now.Before(last.Add(-5 * time.Minute)), now.Sub(last) > maxPause:
		return now
	}
	return since
}

func utc(t time.Time) string {
	if t.IsZero() {
		return "now"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}
