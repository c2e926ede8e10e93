package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A base is a base backup as its labels describe it.
type base struct {
	manifest    *repo.Manifest
	lineage     string
	timeline    uint32
	start, stop uint64
	stopTime    time.Time
	major       int
	minor       int
	segmentSize int64
	suspect     string
	ownLog      bool // it holds the log from the segment of its start to its stop
}

// readBase reads the labels of a snapshot; ok is false for snapshots of other kinds.
func readBase(m *repo.Manifest) (base, bool, error) {
	if m.Kind != Kind || m.Labels[LabelStop] == "" {
		return base{}, false, nil
	}
	b := base{manifest: m, lineage: m.Labels[LabelSystem], suspect: m.Labels[LabelSuspect]}
	var errs [6]error
	b.start, errs[0] = ParseLSN(m.Labels[LabelStart])
	own := b.start
	b.stop, errs[1] = ParseLSN(m.Labels[LabelStop])
	tli, err := strconv.ParseUint(m.Labels[LabelTimeline], 10, 32)
	b.timeline, errs[2] = uint32(tli), err
	b.stopTime, errs[3] = time.Parse(time.RFC3339Nano, m.Labels[LabelStopTime])
	b.segmentSize, errs[4] = strconv.ParseInt(m.Labels[LabelSegmentSize], 10, 64)
	if at := m.Labels[LabelOwnLog]; at != "" {
		b.ownLog = true
		own, errs[5] = ParseLSN(at)
	}
	v := parseVersion(m.Labels[LabelVersion])
	b.major, b.minor = v/10000, v%10000
	if err := errors.Join(errs[:]...); err != nil {
		return base{}, false, fmt.Errorf("base backup %s: labels: %w", m.ID, err)
	}
	if b.segmentSize < 1<<20 || b.segmentSize > 1<<30 || b.segmentSize&(b.segmentSize-1) != 0 ||
		b.stop < b.start || b.lineage == "" || b.timeline == 0 || b.major == 0 ||
		b.ownLog && own != SegmentStart(b.start, b.segmentSize) {
		return base{}, false, fmt.Errorf("base backup %s: labels: impossible values", m.ID)
	}
	return b, true, nil
}

// bases returns the base backups of a scope, oldest first. Damaged manifests do not
// hide the others; they come as an error beside them.
func bases(ctx context.Context, r *repo.Repository, scope string) ([]base, error) {
	manifests, err := r.Manifests(ctx, scope)
	var all []base
	errs := []error{err}
	for _, m := range manifests {
		b, ok, err := readBase(m)
		errs = append(errs, err)
		if ok {
			all = append(all, b)
		}
	}
	return all, errors.Join(errs...)
}

// pieces are the log pieces of one store by lineage and timeline, each sorted by
// their start.
type pieces map[string]map[uint32][]repo.LogInfo

// listPieces lists the log, and what is known of when nothing was written.
func listPieces(ctx context.Context, r *repo.Repository, scope string) (pieces, map[string]quiets, error) {
	logs, named, err := r.ListLog(ctx, scope)
	if err != nil {
		return nil, nil, err
	}
	still := map[string]quiets{}
	for _, n := range named {
		if q, ok := parseQuiet(n.Name); ok {
			still[n.Lineage] = append(still[n.Lineage], q)
		}
	}
	for _, qs := range still {
		slices.SortFunc(qs, func(a, b quiet) int { return a.at.Compare(b.at) })
	}
	all := pieces{}
	for _, l := range logs {
		if all[l.Lineage] == nil {
			all[l.Lineage] = map[uint32][]repo.LogInfo{}
		}
		all[l.Lineage][l.Timeline] = append(all[l.Lineage][l.Timeline], l)
	}
	for _, lineage := range all {
		for _, list := range lineage {
			sortPieces(list)
		}
	}
	return all, still, nil
}

func sortPieces(list []repo.LogInfo) {
	slices.SortFunc(list, func(a, b repo.LogInfo) int {
		// The longer of two that begin together comes first: it makes the other superfluous.
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End))
	})
}

// cover picks pieces that together hold the log from from on without a hole, as far
// as it goes but not beyond what reaches until. It returns where they end.
func cover(list []repo.LogInfo, from, until uint64) (picked []repo.LogInfo, reach uint64) {
	reach = from
	i := 0
	for reach < until {
		best := -1
		for ; i < len(list) && list[i].Start <= reach; i++ {
			if list[i].End > reach && (best < 0 || list[i].End > list[best].End) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		picked = append(picked, list[best])
		reach = list[best].End
	}
	return picked, reach
}

// beyond returns the first piece that begins after reach, if there is one: proof of
// a hole.
func beyond(list []repo.LogInfo, reach uint64) (repo.LogInfo, bool) {
	i, _ := slices.BinarySearchFunc(list, reach+1, func(l repo.LogInfo, pos uint64) int { return cmp.Compare(l.Start, pos) })
	if i < len(list) {
		return list[i], true
	}
	return repo.LogInfo{}, false
}

// A leg is the stretch of one timeline that a recovery replays.
type leg struct {
	timeline uint32
	from     uint64 // start of a segment
	fork     uint64 // where the timeline forked off, in that segment; 0 for the base's own
	until    uint64 // start of the segment in which the next leg's timeline forks off; for the last leg, no bound
	pieces   []repo.LogInfo
	reach    uint64
}

const noBound = ^uint64(0)

// legsOf lists the legs from a base to the timeline of h, without pieces.
func legsOf(b base, h history) ([]leg, error) {
	legs := []leg{{timeline: b.timeline, from: SegmentStart(b.start, b.segmentSize), until: noBound}}
	for range maxAncestry {
		last := &legs[len(legs)-1]
		if last.timeline == h.Timeline {
			return legs, nil
		}
		child, at, ok := h.next(last.timeline)
		if !ok {
			return nil, fmt.Errorf("timeline %d does not descend from timeline %d of base backup %s", h.Timeline, b.timeline, b.manifest.ID)
		}
		if last.timeline == b.timeline && at < b.stop {
			return nil, fmt.Errorf("timeline %d forks off at %s, before base backup %s is complete", child, FormatLSN(at), b.manifest.ID)
		}
		last.until = SegmentStart(at, b.segmentSize)
		legs = append(legs, leg{timeline: child, from: last.until, fork: at, until: noBound})
	}
	return nil, fmt.Errorf("timeline %d has more than %d ancestors", h.Timeline, maxAncestry)
}

// A GapError says that log is missing between a base backup and a target.
type GapError struct {
	Timeline uint32
	From, To uint64    // To is 0 when nothing is held after From
	Before   time.Time // the last instant before the gap that can be reached; zero if unknown
	What     string    // what cannot be reached
}

// Error names the hole.
func (e *GapError) Error() string {
	if e.To == 0 {
		return fmt.Sprintf("log after %s on timeline %d is missing here, so %s cannot be reached", FormatLSN(e.From), e.Timeline, e.What)
	}
	return fmt.Sprintf("log from %s to %s on timeline %d is missing here, so %s cannot be reached", FormatLSN(e.From), FormatLSN(e.To), e.Timeline, e.What)
}

// A WindowError says that a target lies outside what a location can reach.
type WindowError struct {
	Target   string
	From, To time.Time // the window; zero if there is none
}

// Error names the window.
func (e *WindowError) Error() string {
	if e.From.IsZero() {
		return fmt.Sprintf("%s cannot be reached: nothing here can be restored", e.Target)
	}
	return fmt.Sprintf("%s cannot be reached: this location reaches from %s to %s", e.Target,
		e.From.UTC().Format(time.RFC3339Nano), e.To.UTC().Format(time.RFC3339Nano))
}

// fill finds pieces for each leg. It fails with a *GapError when an inner leg, or
// the log up to the base's stop position, has a hole; the last leg goes as far as it
// can.
func fill(legs []leg, list map[uint32][]repo.LogInfo, b base, what string) error {
	for i := range legs {
		l := &legs[i]
		l.pieces, l.reach = cover(list[l.timeline], l.from, l.until)
		need := l.until
		if i == len(legs)-1 {
			need = max(l.from+1, l.fork, b.stop)
		}
		if l.reach < need {
			e := &GapError{Timeline: l.timeline, From: l.reach, What: what}
			if next, ok := beyond(list[l.timeline], l.reach); ok {
				e.To = next.Start
			}
			return e
		}
	}
	return nil
}

// ancestry reads the history of a timeline.
func ancestry(ctx context.Context, r *repo.Repository, scope, lineage string, tli uint32, ids []seal.Identity) (history, []byte, error) {
	if tli == 1 {
		return history{Timeline: 1}, nil, nil
	}
	text, err := r.ReadNamed(ctx, scope, lineage, historyName(tli), ids...)
	if errors.Is(err, fs.ErrNotExist) {
		return history{}, nil, fmt.Errorf("the history of timeline %d is not held here: %w", tli, err)
	}
	if err != nil {
		return history{}, nil, err
	}
	h, err := parseHistory(tli, text)
	return h, text, err
}
