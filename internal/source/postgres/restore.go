package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A Restore says what to bring back, from where, to which state.
type Restore struct {
	Repo       *repo.Repository
	Scope      string
	Identities []seal.Identity

	// Target is the state to reach. There is no default: a recovery without a
	// target would take the first damage for the end.
	Target holdfast.Target

	// Dir becomes the data directory. It must not exist, or be empty, unless Delta is set. Beside it,
	// Dir.wal holds the log for the replay and Dir.run the socket and the server's log.
	Dir string

	Runner   Runner
	BinDir   string            // of the server's version; found by major version if empty
	Workers  int               // of the fetch; chosen if 0
	Port     int               // names the private socket; 5432 if 0
	Options  map[string]string // settings for the server; ours for a safe replay win
	Progress func(holdfast.Progress)
	Snapshot string // a base backup; the newest that can reach the target if empty

	// Delta restores over a stopped data directory of the same cluster: only what differs
	// is written. RemoveExtra is the Code of the Delta that somebody has seen.
	Delta       bool
	RemoveExtra string

	// Pause ends the replay at the target without promoting: the server answers
	// read-only queries and can be promoted later.
	Pause bool

	// Program is the program that has the restore command. Defaults to our own.
	Program string

	// Clock defaults to time.Now.
	Clock func() time.Time
}

// A RestorePlan is a restore that can be done: the base, the log and the way
// between them are there. Its exported fields are for people and records.
type RestorePlan struct {
	Base     *repo.Manifest
	Lineage  string
	Timeline uint32 // the timeline that the target is on
	Target   holdfast.Target
	Pieces   int
	LogBytes int64
	From, To time.Time // instants that this plan's base and log can reach
	EndLSN   uint64    // end of the log held
	BinDir   string
	Version  string // of the server that will run
	Missing  []string

	restore    Restore
	base       base
	history    history
	histories  map[uint32][]byte
	legs       []leg
	snapshot   *repo.Snapshot
	ownEntries map[string]repo.Entry // of the base's own log, by name
	outside    tablespaces
	doubtful   bool                      // whether the target lies behind the base is not known before the log is read
	goal       *goal                     // set by Fetch
	written    map[string]contentWitness // by path; set by Fetch
	kept       int64                     // bytes that Fetch found in files of which others differed
}

// Plan looks for a way to the target at one location and refuses what cannot
// succeed: a gap (*GapError), an instant outside the window (*WindowError), a wrong
// key, a server that is missing or too old, a disk that is too small.
func Plan(ctx context.Context, r Restore) (*RestorePlan, error) {
	p, err := makePlan(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("restore of %q to %s: %w", r.Scope, r.Target, err)
	}
	return p, nil
}

func makePlan(ctx context.Context, r Restore) (*RestorePlan, error) {
	if err := r.defaults(); err != nil {
		return nil, err
	}
	found, damaged := bases(ctx, r.Repo, r.Scope)
	var candidates []base
	for _, b := range slices.Backward(found) { // newest first
		if r.Snapshot == "" && b.suspect == "" || r.Snapshot == b.manifest.ID {
			candidates = append(candidates, b)
		}
	}
	if len(candidates) == 0 {
		if damaged != nil {
			return nil, damaged
		}
		if r.Snapshot != "" {
			return nil, holdfast.WithHint(fmt.Errorf("there is no base backup %q here", r.Snapshot), "\"holdfast points\" lists what this location has")
		}
		return nil, holdfast.WithHint(&WindowError{Target: r.Target.String()}, "try another location; \"holdfast points\" lists what each one has")
	}
	logs, still, err := listPieces(ctx, r.Repo, r.Scope)
	if err != nil {
		return nil, err
	}
	p, err := choose(ctx, r, candidates, logs, still)
	if err != nil {
		return nil, err
	}
	if err := p.preflight(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (r *Restore) defaults() error {
	switch r.Target.Kind {
	case holdfast.TargetLatest, holdfast.TargetImmediate:
	case holdfast.TargetTime:
		if r.Target.Time.IsZero() {
			return fmt.Errorf("the target has no time: %w", holdfast.ErrUsage)
		}
	case holdfast.TargetLSN:
		if _, err := ParseLSN(r.Target.Value); err != nil {
			return fmt.Errorf("target: %w: %w", err, holdfast.ErrUsage)
		}
	case holdfast.TargetXID, holdfast.TargetName:
		if r.Target.Value == "" {
			return fmt.Errorf("the target has no value: %w", holdfast.ErrUsage)
		}
	default:
		return holdfast.WithHint(fmt.Errorf("target kind %q is not known: %w", r.Target.Kind, holdfast.ErrUsage),
			"a recovery needs an explicit target, for example \"latest\" or a time")
	}
	if r.Runner == nil || r.Dir == "" {
		return fmt.Errorf("a restore needs a folder and a way to run the server: %w", holdfast.ErrUsage)
	}
	if r.Clock == nil {
		r.Clock = time.Now
	}
	if r.Progress == nil {
		r.Progress = func(holdfast.Progress) {}
	}
	if r.Workers <= 0 {
		r.Workers = 4
	}
	var err error
	if r.Dir, err = filepath.Abs(r.Dir); err != nil {
		return err
	}
	if r.Program == "" {
		if r.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("find our own program: %w", err)
		}
	}
	return nil
}

// choose takes the newest timeline and the newest base from which the target can be
// reached. The first refusal is the one that is reported: it is about the way that
// should have worked.
func choose(ctx context.Context, r Restore, candidates []base, logs pieces, still map[string]quiets) (*RestorePlan, error) {
	var first error
	note := func(err error) {
		if first == nil || moreTelling(err, first) {
			first = err
		}
	}
	lineage := candidates[0].lineage // an older cluster's bases need Snapshot to be named
	timelines := timelinesOf(logs[lineage], candidates)
	for _, tli := range timelines {
		h, _, err := ancestryOf(ctx, r, lineage, tli, candidates)
		if err != nil {
			note(err)
			if r.Target.Kind == holdfast.TargetLatest {
				break
			}
			continue
		}
		descends := false
		var doubtful *RestorePlan // an older base without doubt is better
		for _, b := range candidates {
			if b.lineage != lineage {
				continue
			}
			p, err := attempt(ctx, r, b, h, logs[lineage], still[lineage])
			if err == nil && !p.doubtful {
				return p, nil
			}
			if err == nil {
				if doubtful == nil {
					doubtful = p
				}
				descends = true
				continue
			}
			var ne *notDescended
			descends = descends || !errors.As(err, &ne)
			note(err)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		if doubtful != nil {
			return doubtful, nil
		}
		// Latest means the newest timeline that leads on from a base: falling back to
		// an older one would quietly lose what was written since.
		if r.Target.Kind == holdfast.TargetLatest && descends {
			break
		}
	}
	var ge *GapError
	if errors.As(first, &ge) {
		hint := "restore from another location, or take the state before the gap"
		if !ge.Before.IsZero() {
			hint = fmt.Sprintf("restore from another location, or to a point up to %s", ge.Before.UTC().Format(time.RFC3339Nano))
		}
		return nil, holdfast.WithHint(first, "%s", hint)
	}
	return nil, first
}

// ancestryOf reads the history of a timeline, where it was shipped to or from one of the
// bases that are on it.
func ancestryOf(ctx context.Context, r Restore, lineage string, tli uint32, candidates []base) (history, []byte, error) {
	h, text, err := ancestry(ctx, r.Repo, r.Scope, lineage, tli, r.Identities)
	for _, b := range candidates {
		if err == nil || ctx.Err() != nil {
			break
		}
		if b.ownLog && b.lineage == lineage && b.timeline == tli {
			if oh, otext, oerr := ownAncestry(ctx, r, b); oerr == nil {
				return oh, otext, nil
			}
		}
	}
	return h, text, err
}

// notDescended says that a timeline does not lead on from a base.
type notDescended struct{ error }

func (e *notDescended) Unwrap() error { return e.error }

// moreTelling prefers a gap or a window over a base that was no candidate anyway.
func moreTelling(err, than error) bool {
	var a, b *notDescended
	return !errors.As(err, &a) && errors.As(than, &b)
}

// timelinesOf lists the timelines of a lineage, newest first.
func timelinesOf(list map[uint32][]repo.LogInfo, candidates []base) []uint32 {
	var tlis []uint32
	for tli := range list {
		tlis = append(tlis, tli)
	}
	for _, b := range candidates {
		tlis = append(tlis, b.timeline)
	}
	slices.Sort(tlis)
	tlis = slices.Compact(tlis)
	slices.Reverse(tlis)
	return tlis
}

// attempt tries one base with one timeline.
func attempt(ctx context.Context, r Restore, b base, h history, list map[uint32][]repo.LogInfo, still quiets) (*RestorePlan, error) {
	legs, err := legsOf(b, h)
	if err != nil {
		return nil, &notDescended{err}
	}
	what := r.Target.String()
	all := withOwn(list, b)
	if err := fill(legs, all, b, what); err != nil {
		return nil, err
	}
	p := &RestorePlan{
		Base: b.manifest, Lineage: b.lineage, Timeline: h.Timeline, Target: r.Target, From: b.stopTime,
		restore: r, base: b, history: h, legs: legs, outside: tablespacesOf(b.manifest),
	}
	if err := p.reach(ctx, list, all, still, what); err != nil {
		return nil, err
	}
	for _, l := range p.legs {
		p.Pieces += len(l.pieces)
		for _, piece := range l.pieces {
			p.LogBytes += int64(piece.End - piece.Start)
		}
	}
	return p, nil
}

// reach decides whether the last leg goes far enough, and cuts off what the target
// does not need.
// shipped is what lies in the location beside the base, all has the base's own log in it.
func (p *RestorePlan) reach(ctx context.Context, shipped, all map[uint32][]repo.LogInfo, still quiets, what string) error {
	last := &p.legs[len(p.legs)-1]
	end, err := pieceHeader(ctx, p.restore.Repo, last.pieces[len(last.pieces)-1])
	if err != nil {
		return err
	}
	to, ok, err := still.until(ctx, p.restore.Repo, last.pieces, last.timeline, last.reach, func(q quiet) error {
		return readQuiet(ctx, p.restore.Repo, p.restore.Scope, p.Lineage, q, p.restore.Identities)
	})
	if err != nil {
		return err
	}
	if !ok {
		to = laterOf(end.Created, end.LastCommit)
	}
	p.EndLSN, p.To = last.reach, laterOf(to, p.From)
	next, hole := beyond(all[last.timeline], last.reach)
	gap := &GapError{Timeline: last.timeline, From: last.reach, To: next.Start, Before: p.To, What: what}
	window := &WindowError{Target: what, From: p.From, To: p.To}
	outside := func() error {
		if hole {
			return gap
		}
		return holdfast.WithHint(window, "choose an instant in that window, \"latest\", or another location")
	}
	switch t := p.restore.Target; t.Kind {
	case holdfast.TargetLatest:
		if hole {
			return gap
		}
	case holdfast.TargetImmediate:
		// fill saw to it that the log covers the base
	case holdfast.TargetLSN:
		lsn, err := ParseLSN(t.Value)
		if err != nil {
			return err
		}
		if lsn < p.base.stop {
			return holdfast.WithHint(window, "base backup %s is complete at %s only; an older one may reach the target", p.Base.ID, FormatLSN(p.base.stop))
		}
		if lsn > last.reach {
			return outside()
		}
		last.pieces, last.reach = cover(last.pieces, last.from, lsn+uint64(p.base.segmentSize))
	case holdfast.TargetTime:
		side, err := p.sideOfBase(ctx, shipped[p.base.timeline], t.Time)
		if err != nil {
			return err
		}
		p.doubtful = side == inDoubt
		if side == beforeBase || side == inDoubt && t.Time.Before(p.From) {
			return holdfast.WithHint(window, "choose an instant in that window, or a location with an older base backup")
		}
		if t.Time.After(p.To) && !hole {
			return holdfast.WithHint(window, "what is held here is known to be all up to %s; while a database is idle the stream proves it every %s, and \"latest\" restores all that is held", p.To.UTC().Format(time.RFC3339), quietEvery)
		}
		if t.Time.After(p.To) {
			return outside()
		}
		return p.cutAfter(ctx, last, t.Time)
	}
	return nil
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A reacher knows which folders its commands' account can get to.
type reacher interface {
	Reach(folder string) error
}

// preflight checks what else a recovery needs: keys, histories, the right server,
// room.
func (p *RestorePlan) preflight(ctx context.Context) error {
	r := &p.restore
	snap, err := r.Repo.Snapshot(ctx, p.Base, r.Identities...)
	if err != nil {
		return err
	}
	p.snapshot = snap
	if p.base.ownLog {
		if p.ownEntries, err = ownEntries(ctx, snap); err != nil {
			return err
		}
	}
	if err := p.readHistories(ctx); err != nil {
		return err
	}
	if r.BinDir == "" {
		if r.BinDir, err = FindBinDir(p.base.major); err != nil {
			return err
		}
	}
	if a, ok := r.Runner.(reacher); ok {
		if err := a.Reach(filepath.Dir(r.Dir)); err != nil {
			return err
		}
	}
	version, major, minor, err := binVersion(ctx, r.Runner, r.BinDir)
	if err != nil {
		return err
	}
	p.BinDir, p.Version = r.BinDir, version
	// The log's format changes even between minor versions: an older server may
	// replay a newer one's log wrongly, and without a word.
	if major != p.base.major || minor < p.base.minor {
		return holdfast.WithHint(fmt.Errorf("the server here is PostgreSQL %s, but the backup comes from %s", version, p.Base.Labels[LabelVersion]),
			"install version %d.%d or a later %d.x", p.base.major, p.base.minor, p.base.major)
	}
	return p.checkRoom()
}

// readHistories reads every history that leads to the target, and those of the
// timelines that we know beyond it: the server must not give its new timeline a
// number that is taken.
func (p *RestorePlan) readHistories(ctx context.Context) error {
	p.histories = map[uint32][]byte{}
	logs, _, err := listPieces(ctx, p.restore.Repo, p.restore.Scope)
	if err != nil {
		return err
	}
	need := map[uint32]bool{p.Timeline: true}
	for _, f := range p.history.Parents {
		need[f.Timeline] = true
	}
	for tli := range logs[p.Lineage] {
		if !need[tli] {
			need[tli] = false
		}
	}
	for tli, must := range need {
		if tli == 1 {
			continue
		}
		_, text, err := ancestryOf(ctx, p.restore, p.Lineage, tli, []base{p.base})
		if err != nil && must {
			return err
		}
		if err != nil {
			p.Missing = append(p.Missing, err.Error())
			text = fmt.Appendf(nil, "%d\t%s\tunknown\n", tli-1, FormatLSN(0))
		}
		p.histories[tli] = text
	}
	return nil
}

func (p *RestorePlan) checkRoom() error {
	dir := filepath.Dir(p.restore.Dir)
	free, err := durable.FreeBytes(dir)
	if err != nil {
		return fmt.Errorf("folder for the restore: %w", err)
	}
	// The log lies there twice: on its shelf, and some of it in the data directory.
	const reserve = 256 << 20
	need := uint64(p.Base.Bytes) + uint64(p.LogBytes) + reserve
	if p.restore.Delta {
		there, err := treeBytes(p.restore.Dir)
		if err != nil {
			return err
		}
		need -= min(there, uint64(p.Base.Bytes))
	}
	if free < need {
		return holdfast.WithHint(fmt.Errorf("%q has %d MiB free, and the restore needs %d MiB", dir, free>>20, need>>20),
			"free some space, or restore to a larger disk")
	}
	return nil
}

// treeBytes is how much the files of a folder hold.
func treeBytes(dir string) (n uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += uint64(info.Size())
		}
		return err
	})
	return n, err
}
