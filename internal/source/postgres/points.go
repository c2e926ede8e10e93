package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/repo"
)

// Points says what one location can bring back: the windows of instants, oldest
// first, and why each one ends where another begins after it. It needs no key: it
// reads manifests, names of log pieces and their headers.
//
// Without a key it cannot read which timeline forked off where. It takes the
// pieces' word: a timeline's first piece begins in the segment of its fork. Plan,
// which has the key, is the judge.
//
// A window ends at the last commit, or later where a quiet says that nothing was
// written since; so an idle database can be brought back to any instant up to some
// seconds ago. An instant behind the end is refused, and "latest" is offered.
//
// A base backup whose log behind it is lost is a window of one instant: its own end. One
// that cannot be restored, because it holds no log of its own and that to its end is
// missing, or because its pages were found damaged, opens no window. When nothing can be restored, one
// Window with zero times says why. Damaged manifests come as an error beside the
// windows.
func Points(ctx context.Context, r *repo.Repository, scope string) ([]holdfast.Window, error) {
	return points(ctx, r, scope, false)
}

// PointsRead is Points after every piece of log was read: a piece that is damaged, or
// signed by somebody else, counts as missing. It needs no key, and takes as long as
// reading the log.
func PointsRead(ctx context.Context, r *repo.Repository, scope string) ([]holdfast.Window, error) {
	return points(ctx, r, scope, true)
}

// readers is how many pieces are read at once.
const readers = 8

// wholeOnly takes pieces that do not read back out of a list.
func wholeOnly(ctx context.Context, r *repo.Repository, all pieces) error {
	for _, lineage := range all {
		for tli, list := range lineage {
			bad := make([]bool, len(list))
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(readers)
			for i, l := range list {
				g.Go(func() error {
					err := r.CheckLog(ctx, l)
					if bad[i] = repo.IsDamage(err) || errors.Is(err, fs.ErrNotExist); bad[i] {
						return nil
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			var whole []repo.LogInfo
			for i, l := range list {
				if !bad[i] {
					whole = append(whole, l)
				}
			}
			lineage[tli] = whole
		}
	}
	return nil
}

func points(ctx context.Context, r *repo.Repository, scope string, read bool) ([]holdfast.Window, error) {
	found, damaged := bases(ctx, r, scope)
	logs, still, err := listPieces(ctx, r, scope)
	if err == nil && read {
		err = wholeOnly(ctx, r, logs)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("points of %q: %w", scope, err), damaged)
	}
	var (
		windows  []holdfast.Window
		open     []*continuation // by lineage, where windows go on
		unusable string
	)
	for _, b := range found {
		if b.suspect != "" {
			unusable = fmt.Sprintf("base backup %s is suspect: %s", b.manifest.ID, b.suspect)
			continue
		}
		st, why := reachOf(b, logs[b.lineage])
		if why != "" {
			unusable = why
			continue
		}
		// A base inside a stretch that an older one already reaches adds to it.
		if i := slices.IndexFunc(open, func(o *continuation) bool { return o.same(st) }); i >= 0 {
			w := &windows[open[i].window]
			w.Bases, w.Newest, w.NewestAt = w.Bases+1, b.manifest.ID, b.stopTime.UTC()
			continue
		}
		w, err := st.describe(ctx, r, scope, still[b.lineage])
		if err != nil {
			damaged = errors.Join(damaged, err)
			continue
		}
		st.window = len(windows)
		open = append(open, st)
		windows = append(windows, w)
	}
	for i := range windows[:max(0, len(windows)-1)] {
		if windows[i].Hole == "" {
			windows[i].Hole = "another cluster's history begins"
		}
	}
	if len(windows) == 0 && unusable != "" {
		windows = append(windows, holdfast.Window{Store: scope, Hole: unusable})
	}
	if damaged != nil {
		damaged = fmt.Errorf("points of %q: %w", scope, damaged)
	}
	return windows, damaged
}

// baseOnly says that a window is a base backup without the log that goes on from it.
const baseOnly = "the log behind the base backup is not held here: only the base backup itself comes back"

// A continuation is how far the log goes on from a base.
type continuation struct {
	base     base
	timeline uint32
	tail     []repo.LogInfo // of the newest timeline, in order
	end      repo.LogInfo   // the last piece
	hole     string
	window   int
}

func (s *continuation) same(o *continuation) bool {
	return s.base.lineage == o.base.lineage && s.timeline == o.timeline && s.end == o.end
}

// reachOf follows the log from a base, over forks as far as names tell.
func reachOf(b base, list map[uint32][]repo.LogInfo) (*continuation, string) {
	shipped := list[b.timeline]
	list = withOwn(list, b)
	picked, reach := cover(list[b.timeline], SegmentStart(b.start, b.segmentSize), noBound)
	if reach < b.stop || len(picked) == 0 {
		return nil, fmt.Sprintf("base backup %s cannot be restored: the log from %s to %s is not held here", b.manifest.ID, FormatLSN(b.start), FormatLSN(b.stop))
	}
	st := &continuation{base: b, timeline: b.timeline, tail: picked, end: picked[len(picked)-1]}
	tlis := timelinesOf(list, nil)
	slices.Sort(tlis)
	for _, tli := range tlis {
		children := list[tli]
		if tli <= st.timeline || len(children) == 0 || children[0].Start > reach {
			continue
		}
		more, to := cover(children, children[0].Start, noBound)
		if len(more) == 0 {
			continue
		}
		st.timeline, st.tail, st.end, reach = tli, more, more[len(more)-1], to
	}
	if isOwn(st.end) && !slices.ContainsFunc(shipped, func(l repo.LogInfo) bool { return l.End == b.stop }) {
		st.hole = baseOnly
	}
	if next, ok := beyond(list[st.timeline], reach); ok {
		st.hole = fmt.Sprintf("log from %s to %s on timeline %d is missing", FormatLSN(reach), FormatLSN(next.Start), st.timeline)
	}
	return st, ""
}

func (s *continuation) describe(ctx context.Context, r *repo.Repository, scope string, still quiets) (holdfast.Window, error) {
	h, err := pieceHeader(ctx, r, s.end)
	if err != nil {
		return holdfast.Window{}, fmt.Errorf("log piece %q: %w", s.end.Name, err)
	}
	to, ok, err := still.until(ctx, r, s.tail, s.timeline, s.end.End, nil)
	if err != nil {
		return holdfast.Window{}, err
	}
	if !ok {
		to = laterOf(h.Created, h.LastCommit)
	}
	if to.Before(s.base.stopTime) {
		to = s.base.stopTime // cut before the base said that it was complete
	}
	return holdfast.Window{
		Store: scope, Snapshot: s.base.manifest.ID, From: s.base.stopTime.UTC(), To: to.UTC().Truncate(time.Microsecond),
		Lineage: s.base.lineage, Timeline: s.timeline, FromLSN: FormatLSN(s.base.stop), ToLSN: FormatLSN(h.LastRecord),
		Bases: 1, Newest: s.base.manifest.ID, NewestAt: s.base.stopTime.UTC(), Hole: s.hole,
	}, nil
}
