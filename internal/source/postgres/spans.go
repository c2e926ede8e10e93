package postgres

import (
	"cmp"
	"slices"
)

// A span is a half-open stretch of log positions.
type span struct{ from, to uint64 }

// A coverage says which stretches of each timeline one place holds. It is learned
// from the names of its objects, so nothing has to be remembered elsewhere.
type coverage map[uint32][]span // per timeline: ascending, disjoint, not touching

func (c coverage) add(tli uint32, from, to uint64) {
	if from >= to {
		return
	}
	spans := append(c[tli], span{from, to})
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	merged := spans[:1]
	for _, s := range spans[1:] {
		if last := &merged[len(merged)-1]; s.from <= last.to {
			last.to = max(last.to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	c[tli] = merged
}

// remove takes [from, to) of a timeline out.
func (c coverage) remove(tli uint32, from, to uint64) {
	var left []span
	for _, s := range c[tli] {
		if before := (span{s.from, min(s.to, from)}); before.from < before.to {
			left = append(left, before)
		}
		if after := (span{max(s.from, to), s.to}); after.from < after.to {
			left = append(left, after)
		}
	}
	if c[tli] = left; len(left) == 0 {
		delete(c, tli)
	}
}

// clone returns a copy of its own.
func (c coverage) clone() coverage {
	out := coverage{}
	for tli, spans := range c {
		out[tli] = slices.Clone(spans)
	}
	return out
}

// without returns what c covers and other does not.
func (c coverage) without(other coverage) coverage {
	out := c.clone()
	for tli, spans := range other {
		for _, s := range spans {
			out.remove(tli, s.from, s.to)
		}
	}
	return out
}

// missing returns the first stretch within [from, to) that is not covered.
func (c coverage) missing(tli uint32, from, to uint64) (span, bool) {
	for _, s := range c[tli] {
		if s.to <= from {
			continue
		}
		if s.from > from {
			to = min(to, s.from)
			break
		}
		from = s.to
	}
	return span{from, to}, from < to
}

// end returns the end of the newest stretch of a timeline.
func (c coverage) end(tli uint32) (uint64, bool) {
	if n := len(c[tli]); n > 0 {
		return c[tli][n-1].to, true
	}
	return 0, false
}

// before returns the newest position that is covered, not beyond lsn on timeline
// tli: on it, else on an older one.
func (c coverage) before(tli uint32, lsn uint64) (uint32, uint64) {
	for _, s := range slices.Backward(c[tli]) {
		if s.from < lsn {
			return tli, min(s.to, lsn)
		}
	}
	older := uint32(0)
	for t := range c {
		if t < tli {
			older = max(older, t)
		}
	}
	end, _ := c.end(older)
	return older, end
}

// newest returns the newest timeline of which anything is covered.
func (c coverage) newest() uint32 {
	n := uint32(0)
	for tli := range c {
		n = max(n, tli)
	}
	return n
}

// gap returns the newest hole in c, given what can still be delivered and the
// ancestry of the newest timeline. Log before the first piece was never promised.
func (c coverage) gap(spool []stretch, h history) *Gap {
	all := c.clone()
	if len(all) == 0 {
		return nil
	}
	for _, s := range spool {
		all.add(s.timeline, s.start, s.end)
	}
	var found *Gap
	note := func(tli uint32, from, to uint64) {
		if from < to && (found == nil || tli > found.Timeline || tli == found.Timeline && from > found.From) {
			found = &Gap{Timeline: tli, From: from, To: to}
		}
	}
	for tli, spans := range all {
		for i := 1; i < len(spans); i++ {
			note(tli, spans[i-1].to, spans[i].from)
		}
	}
	// Between a timeline and its parent: the parent must reach to where the
	// child's own pieces begin.
	for _, p := range h.Parents {
		child, at, ok := h.next(p.Timeline)
		if !ok || len(all[child]) == 0 || len(all[p.Timeline]) == 0 {
			continue
		}
		if end, _ := all.end(p.Timeline); end < at {
			note(p.Timeline, end, min(at, all[child][0].from))
		}
	}
	return found
}
