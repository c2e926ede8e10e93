package repo

// appendSpan adds s, joined to the last span where they touch. Joined runs stay
// below a GiB, so that lengths fit everywhere.
func appendSpan(spans []span, s span) []span {
	if last := len(spans) - 1; last >= 0 && spans[last].off+int64(spans[last].n) == s.off && spans[last].n < 1<<30 {
		spans[last].n += s.n
		return spans
	}
	return append(spans, s)
}

// subtract returns what remains of extents outside of the covered runs and below size.
func subtract(xs []Extent, covered []span, size int64) []Extent {
	var out []Extent
	c := 0
	for _, x := range xs {
		end := min(x.Offset+x.Length, size)
		for x.Offset < end {
			for c < len(covered) && covered[c].off+int64(covered[c].n) <= x.Offset {
				c++
			}
			stop := end
			if c < len(covered) {
				stop = min(end, max(covered[c].off, x.Offset))
			}
			if n := stop - x.Offset; n > 0 {
				out = append(out, Extent{x.Offset, n, x.Pack, x.Segment, x.At})
				x.Offset += n
				x.At += uint32(n)
			}
			if x.Offset < end && c < len(covered) {
				skip := min(covered[c].off+int64(covered[c].n), end) - x.Offset
				x.Offset += skip
				x.At += uint32(skip)
			}
		}
	}
	return out
}

// joinExtents joins neighbours that lie together in one segment.
func joinExtents(xs []Extent) []Extent {
	if len(xs) == 0 {
		return xs
	}
	out := xs[:1]
	for _, x := range xs[1:] {
		l := &out[len(out)-1]
		if l.Offset+l.Length == x.Offset && l.Pack == x.Pack && l.Segment == x.Segment && int64(l.At)+l.Length == int64(x.At) {
			l.Length += x.Length
			continue
		}
		out = append(out, x)
	}
	return out
}
