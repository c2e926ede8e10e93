package repo

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
)

// Some of what lies in a log is made superfluous by something newer, though a
// snapshot needs the stretch that it is of: an instant at which nothing was written,
// by a later one at the same position. It is garbage like any other, in two acts.

// quietPattern is the name of a fact that nothing was behind a position at an instant;
// docs/format/repository.md, section 9.
var quietPattern = regexp.MustCompile(`^quiet-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{16})$`)

// A logFact is such a fact, from its name: the piece stands for its position.
type logFact struct {
	at      LogInfo
	instant uint64
}

func parseLogFact(n NamedInfo) (logFact, bool) {
	m := quietPattern.FindStringSubmatch(n.Name)
	if m == nil {
		return logFact{}, false
	}
	tli, err1 := strconv.ParseUint(m[1], 16, 32)
	lsn, err2 := strconv.ParseUint(m[2], 16, 64)
	instant, err3 := strconv.ParseUint(m[3], 16, 64)
	if err1 != nil || err2 != nil || err3 != nil || lsn == ^uint64(0) {
		return logFact{}, false
	}
	return logFact{LogInfo{n.Scope, n.Lineage, uint32(tli), lsn, lsn + 1, n.Size, namedName(n.Scope, n.Lineage, n.Name)}, instant}, true
}

// olderFacts returns the facts that a newer one of the same position makes
// superfluous.
func olderFacts(facts []logFact) []LogInfo {
	sorted := slices.Clone(facts)
	slices.SortFunc(sorted, func(a, b logFact) int {
		return cmp.Or(cmp.Compare(a.at.Scope, b.at.Scope), cmp.Compare(a.at.Lineage, b.at.Lineage), cmp.Compare(a.at.Timeline, b.at.Timeline),
			cmp.Compare(a.at.Start, b.at.Start), cmp.Compare(a.instant, b.instant))
	})
	var out []LogInfo
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1].at, sorted[i].at
		if a.Scope == b.Scope && a.Lineage == b.Lineage && a.Timeline == b.Timeline && a.Start == b.Start {
			out = append(out, a)
		}
	}
	return out
}
