package repo

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// GatherWithin is how long after a piece of log a longer one that holds all of it may
// come to take its place, by the times at which the place says that they came. Only
// the agent of a store can say what its log holds, and an agent can be captured: what
// is older than this, it cannot have replaced any more.
const GatherWithin = 3 * time.Hour

// maxGatheredRead bounds what one run reads to check longer pieces, in bytes; the rest
// is for the next run.
const maxGatheredRead = 4 << 30

// gathered lists the pieces that a longer one makes superfluous: one that holds the
// whole range, came no earlier and no later than GatherWithin, and is whole and signed
// as far as can be told without a data key. Readers take the longer one as soon as it
// is there.
//
// It is asked again before anything is deleted, so a longer piece that was damaged
// in between saves the short ones.
func (c Collector) gathered(ctx context.Context, logs []LogInfo, came map[string]time.Time) (out []LogInfo) {
	type history struct {
		scope, lineage string
		timeline       uint32
	}
	by := map[history][]LogInfo{}
	for _, l := range logs {
		h := history{l.Scope, l.Lineage, l.Timeline}
		by[h] = append(by[h], l)
	}
	if len(c.At.trust) == 0 {
		return nil // nobody's signature tells an agent's piece from a stranger's
	}
	var read int64
	for _, list := range by {
		slices.SortFunc(list, func(a, b LogInfo) int {
			return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End))
		})
		for i := 0; i < len(list); i++ {
			long, first := list[i], i
			var within []LogInfo
			for i+1 < len(list) && list[i+1].End <= long.End {
				i++
				if d := came[long.Name].Sub(came[list[i].Name]); d >= 0 && d <= GatherWithin {
					within = append(within, list[i])
				}
			}
			if len(within) == 0 {
				continue
			}
			if read += long.Size; read > maxGatheredRead {
				return out
			}
			if err := c.At.CheckLog(ctx, long); err != nil {
				if ctx.Err() != nil {
					return nil // an answer that is not complete is none
				}
				i = first // what lies in it may make something else superfluous
				continue
			}
			out = append(out, within...)
		}
	}
	return out
}
