package postgres

import (
	"context"
	"time"

	"holdfast/internal/repo"
)

// Two clocks meet in a recovery to an instant. The database's is in the commit
// records, and is the one that counts. Ours is in the labels of a base and in the
// headers of log pieces ("created"), and may be wrong by any amount. So ours only
// says where to look, and the commits in the headers decide.

// timeSlack is how much log is fetched beyond a target time, by our clock, before the
// commits are looked at.
const timeSlack = 2 * time.Minute

// maxLookAround bounds how many headers are read on each side of a base's end. Pieces
// without a commit tell nothing.
const maxLookAround = 16

// A side says where an instant lies from the end of a base backup.
type side int

const (
	inDoubt    side = iota // the piece that holds the base's end has a commit behind the instant
	beforeBase             // the base may hold what was committed behind the instant
	behindBase             // the base holds nothing of the kind
)

// sideOfBase decides, by the database's clock, whether the plan's base holds anything
// that was committed behind t. Commits follow each other in time, so the last one
// before the base's end, or any after it, is enough. Where none is near, our clock
// must do.
func (p *RestorePlan) sideOfBase(ctx context.Context, pieces []repo.LogInfo, t time.Time) (side, error) {
	stop := p.base.stop
	first := len(pieces) // the first piece that ends behind stop
	for i, l := range pieces {
		if l.End > stop {
			first = i
			break
		}
	}
	known := false // the last commit before the piece with the base's end is not behind t
	for i := first - 1; i >= max(0, first-maxLookAround) && !known; i-- {
		h, err := pieceHeader(ctx, p.restore.Repo, pieces[i])
		if err != nil {
			return inDoubt, err
		}
		if h.LastCommit.After(t) {
			return beforeBase, nil
		}
		known = !h.LastCommit.IsZero()
	}
	for i := first; i < min(len(pieces), first+maxLookAround) && !known; i++ {
		h, err := pieceHeader(ctx, p.restore.Repo, pieces[i])
		if err != nil {
			return inDoubt, err
		}
		if h.LastCommit.After(t) && pieces[i].Start < stop {
			return inDoubt, nil
		}
		if h.LastCommit.After(t) {
			break
		}
		known = !h.LastCommit.IsZero()
	}
	if first < len(pieces) && known {
		// What lies between the two may still be in the piece that holds the base's end.
		h, err := pieceHeader(ctx, p.restore.Repo, pieces[first])
		if err != nil {
			return inDoubt, err
		}
		if pieces[first].Start < stop && h.LastCommit.After(t) {
			return inDoubt, nil
		}
	}
	if !known && t.Before(p.From) {
		return beforeBase, nil
	}
	return behindBase, nil
}

// cutAfter drops pieces that the instant does not need. Pieces of a timeline are cut
// in the order of their positions, so a binary search by our clock reads few headers;
// then the end moves on until a commit behind the instant is held, or the log ends.
func (p *RestorePlan) cutAfter(ctx context.Context, l *leg, t time.Time) error {
	header := func(i int) (repo.LogPiece, error) { return pieceHeader(ctx, p.restore.Repo, l.pieces[i]) }
	lo, hi := 0, len(l.pieces)-1
	for lo < hi {
		mid := (lo + hi) / 2
		h, err := header(mid)
		if err != nil {
			return err
		}
		if h.Created.After(t.Add(timeSlack)) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	for step := 1; lo < len(l.pieces)-1; step *= 2 {
		h, err := header(lo)
		if err != nil {
			return err
		}
		if h.LastCommit.After(t) {
			break
		}
		lo = min(lo+step, len(l.pieces)-1)
	}
	l.pieces = l.pieces[:lo+1]
	l.reach = l.pieces[lo].End
	return nil
}
