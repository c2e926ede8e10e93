package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A quiet is the fact that at an instant the server had nothing behind a position. It
// makes the end of a window provable while nothing is written: whoever holds the log
// up to the position holds everything that was acknowledged by that instant.
//
// The instant is by the server's own clock, from its answer to our question: it is
// compared with commits, which carry that clock too. A transaction that took its
// commit time before the instant and reached the disk after it was not acknowledged
// by then, and is not promised.
//
// It lies beside the log as a small signed file whose name says everything, so that
// a listing is enough to show windows; a recovery believes it only when its signature
// holds. Of several with one position the newest makes the others superfluous.
type quiet struct {
	timeline uint32
	lsn      uint64
	at       time.Time
}

// quietEvery is how far the provable end of a place's log may fall behind while
// nothing is written: one small object in that time, and one more when the server
// is lost. A database in which something commits more often needs none.
const quietEvery = 10 * time.Second

// maxQuietTries bounds how many facts a recovery reads before it goes without.
const maxQuietTries = 8

var quietPattern = regexp.MustCompile(`^quiet-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{16})$`)

// name is "quiet-", the timeline, the position, and the microseconds since 1970 of
// the instant; all in hex, so that names sort as the facts follow each other.
func (q quiet) name() string {
	return fmt.Sprintf("quiet-%08x-%016x-%016x", q.timeline, q.lsn, q.at.UnixMicro())
}

// text is what the file says, for people.
func (q quiet) text() []byte {
	return fmt.Appendf(nil, "at %s, by the server's clock, nothing was behind %s on timeline %d\n", q.at.UTC().Format(time.RFC3339Nano), FormatLSN(q.lsn), q.timeline)
}

func parseQuiet(name string) (quiet, bool) {
	m := quietPattern.FindStringSubmatch(name)
	if m == nil {
		return quiet{}, false
	}
	tli, err1 := strconv.ParseUint(m[1], 16, 32)
	lsn, err2 := strconv.ParseUint(m[2], 16, 64)
	us, err3 := strconv.ParseInt(m[3], 16, 64)
	if errors.Join(err1, err2, err3) != nil || tli == 0 {
		return quiet{}, false
	}
	return quiet{timeline: uint32(tli), lsn: lsn, at: time.UnixMicro(us).UTC()}, true
}

// quiets are the facts of one lineage, oldest first.
type quiets []quiet

// add keeps the order.
func (qs quiets) add(q quiet) quiets {
	i, _ := slices.BinarySearchFunc(qs, q, func(a, b quiet) int { return a.at.Compare(b.at) })
	return slices.Insert(qs, i, q)
}

// upTo lists, newest first, the facts of a timeline that hold for a log that is
// whole up to reach.
func (qs quiets) upTo(tli uint32, reach uint64) []quiet {
	var out []quiet
	for _, q := range slices.Backward(qs) {
		if q.timeline == tli && q.lsn <= reach {
			out = append(out, q)
		}
	}
	return out
}

// until is the last instant, by the server's clock, up to which nothing is missing in
// the log that picked holds, whose last piece ends at reach on timeline tli: its last
// commit, or a later instant at which the server had nothing newer. ok is false when
// neither is known, as in what was written before there were such facts; our own
// clock must do then.
//
// read, if set, judges a fact before it counts.
func (qs quiets) until(ctx context.Context, r *repo.Repository, picked []repo.LogInfo, tli uint32, reach uint64, read func(quiet) error) (to time.Time, ok bool, err error) {
	facts := qs.upTo(tli, reach)
	if len(facts) == 0 {
		return to, false, nil
	}
	for i, l := range slices.Backward(picked) {
		if i < len(picked)-maxLookAround || !to.IsZero() {
			break
		}
		h, err := pieceHeader(ctx, r, l)
		if err != nil {
			return to, false, fmt.Errorf("log piece %q: %w", l.Name, err)
		}
		to = h.LastCommit
	}
	for i, q := range facts {
		if i == maxQuietTries || !q.at.After(to) {
			break
		}
		if read != nil && read(q) != nil {
			continue // it proves nothing; an older one may
		}
		return q.at, true, nil
	}
	return to, !to.IsZero(), nil
}

// readQuiet reads a fact with its signature.
func readQuiet(ctx context.Context, r *repo.Repository, scope, lineage string, q quiet, ids []seal.Identity) error {
	text, err := r.ReadNamed(ctx, scope, lineage, q.name(), ids...)
	if err != nil {
		return err
	}
	if string(text) != string(q.text()) {
		return fmt.Errorf("%q does not say what its name says: %w", q.name(), repo.ErrDamaged)
	}
	return nil
}

// quietDue reports whether a fact is worth an object. The caller holds mu.
func (sh *shipper) quietDue() bool {
	if !sh.known || sh.quiet.at.IsZero() {
		return false
	}
	ahead := sh.quiet.at.Sub(laterOf(sh.said, sh.lastCommit))
	return ahead >= quietEvery || sh.lastWord && ahead > 0
}

// sayQuiet tells the place that nothing was written lately, if that is due. The fact
// is put when the place holds all that it speaks of.
//
// Crash or unknown outcome here: the fact is there or it is not, and the window ends
// at it or at the one before; nothing is promised that is not held.
func (sh *shipper) sayQuiet(ctx context.Context) error {
	sh.mu.Lock()
	q, due := sh.quiet, sh.quietDue()
	sh.lastWord = false
	sh.mu.Unlock()
	if !due {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	lineage := sh.sp.lineage()
	if err := sh.putHistory(ctx, lineage, q.timeline); err != nil {
		return err
	}
	if err := sh.store.PutNamed(ctx, sh.src.cfg.Store, lineage, q.name(), q.text(), sh.keys); err != nil {
		return fmt.Errorf("place %q: say that nothing is behind %s: %w", sh.name, FormatLSN(q.lsn), err)
	}
	sh.mu.Lock()
	sh.said = q.at
	sh.mu.Unlock()
	return nil
}
