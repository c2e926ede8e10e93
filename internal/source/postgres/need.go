package postgres

import "holdfast/internal/repo"

// LogNeed says what log a base backup needs: from the segment in which it starts, and
// at least until it is complete. ok is false for what is no base backup, or one whose
// labels cannot be read.
func LogNeed(m *repo.Manifest) (need repo.LogNeed, ok bool) {
	b, ok, err := readBase(m)
	if err != nil || !ok {
		return repo.LogNeed{}, false
	}
	return repo.LogNeed{Lineage: b.lineage, Timeline: b.timeline, Start: SegmentStart(b.start, b.segmentSize), Until: b.stop + 1}, true
}
