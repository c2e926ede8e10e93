package postgres

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A fork is one line of a timeline's ancestry: the parent timeline ended at Switch.
type fork struct {
	Timeline uint32
	Switch   uint64
}

// A history is the ancestry of one timeline, oldest first, without itself.
type history struct {
	Timeline uint32
	Parents  []fork
}

// parseHistory reads a timeline history file: lines of parent, switch position and
// a reason in free words.
func parseHistory(tli uint32, text []byte) (history, error) {
	h := history{Timeline: tli}
	if len(text) > maxHistory {
		return h, fmt.Errorf("history of timeline %d is longer than %d bytes", tli, maxHistory)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxHistory)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || len(h.Parents) == maxAncestry {
			return h, fmt.Errorf("history of timeline %d: line %q is not understood", tli, line)
		}
		parent, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return h, fmt.Errorf("history of timeline %d: line %q is not understood", tli, line)
		}
		at, err := ParseLSN(fields[1])
		if err != nil {
			return h, fmt.Errorf("history of timeline %d: %w", tli, err)
		}
		if n := len(h.Parents); n > 0 && (uint32(parent) <= h.Parents[n-1].Timeline || at < h.Parents[n-1].Switch) || uint32(parent) >= tli {
			return h, fmt.Errorf("history of timeline %d: line %q is out of order", tli, line)
		}
		h.Parents = append(h.Parents, fork{uint32(parent), at})
	}
	if err := lines.Err(); err != nil {
		return h, fmt.Errorf("history of timeline %d: %w", tli, err)
	}
	if tli > 1 && len(h.Parents) == 0 {
		return h, fmt.Errorf("history of timeline %d names no parent", tli)
	}
	return h, nil
}

// at returns the timeline that wrote the page at lsn, as seen from h's timeline. A
// page that was begun before a fork keeps the parent's number in its header.
func (h history) at(lsn uint64) uint32 {
	for _, p := range h.Parents {
		if lsn < p.Switch {
			return p.Timeline
		}
	}
	return h.Timeline
}

// next returns the child of ancestor tli on the way to h's timeline, and where it
// forks off.
func (h history) next(tli uint32) (child uint32, at uint64, ok bool) {
	for i, p := range h.Parents {
		if p.Timeline != tli {
			continue
		}
		if i+1 < len(h.Parents) {
			return h.Parents[i+1].Timeline, p.Switch, true
		}
		return h.Timeline, p.Switch, true
	}
	return 0, 0, false
}

// historyName is the name under which a timeline's history file is kept.
func historyName(tli uint32) string { return fmt.Sprintf("%08x.history", tli) }

// A start is where streaming goes on.
type start struct {
	Timeline uint32
	LSN      uint64
	// Fresh: nothing that we hold leads here; the log begins anew.
	Fresh bool
}

// resolveStart decides where to go on, given the server's ancestry and the end of
// what we hold on each timeline.
//
// It starts at our own frontier on our own timeline and never where the server
// happens to stand: what lies between would be a hole that nobody asked for
// (PostgreSQL rule 4). The newest timeline of the server's ancestry that we hold
// decides; if we hold all of it up to the fork, its child begins at the start of
// the segment in which it forks off.
func resolveStart(h history, held map[uint32]uint64, fresh uint64, segmentSize int64) (start, error) {
	newest := uint32(0)
	for tli := range held {
		newest = max(newest, tli)
	}
	if newest > h.Timeline {
		return start{}, fmt.Errorf("the server is on timeline %d, but timeline %d was already streamed from this cluster: this is an old primary, or one that was set back", h.Timeline, newest)
	}
	if end, ok := held[h.Timeline]; ok {
		return start{Timeline: h.Timeline, LSN: end}, nil
	}
	for i := len(h.Parents) - 1; i >= 0; i-- {
		p := h.Parents[i]
		end, ok := held[p.Timeline]
		if !ok {
			continue
		}
		if end < p.Switch {
			return start{Timeline: p.Timeline, LSN: end}, nil
		}
		child, at, _ := h.next(p.Timeline)
		return start{Timeline: child, LSN: SegmentStart(at, segmentSize)}, nil
	}
	return start{Timeline: h.Timeline, LSN: SegmentStart(fresh, segmentSize), Fresh: true}, nil
}
