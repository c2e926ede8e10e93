package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/seal"
)

// How long things may take. A writer gives up a run that is older than MaxRun; what
// a set of tombstones names is deleted no sooner than GarbageWait after it was
// published, so every writer that had not read it has listed its snapshot by then
// or never will. The rest is for clocks that differ and listings that lag.
const (
	MaxRun      = 24 * time.Hour
	GarbageWait = 36 * time.Hour
)

const (
	domainTombstones = "tombstones"
	typeTombstones   = "tombstones"

	tombstonePrefix = "tombstones/garbage/"
	tombstoneEnd    = ".end"

	maxTombstones   = 100_000 // objects in one set; the rest waits for the next
	maxTombstoneSet = 32 << 20
	maxOpenSets     = 1000
)

// ErrDoomed means that an object is there, is named by a tombstone, and may be
// gone in a moment: nothing new may rest on it. Try again when the set has ended.
var ErrDoomed = errors.New("about to be deleted")

// ErrIncompleteList means that a place does not show all that it must hold, so that
// nothing may be deleted there.
var ErrIncompleteList = errors.New("the listing is not complete")

// ErrLate means that a run took longer than MaxRun: what it built on may be gone.
var ErrLate = errors.New("the run took too long")

// A LogNeed is the log that a snapshot needs: that of its timeline from Start on,
// and that of all later timelines of the lineage; or, with an Until, only that of its
// own timeline up to there.
type LogNeed struct {
	Lineage  string
	Timeline uint32
	Start    uint64
	Until    uint64 // 0: no end
}

// Needs reports whether a piece of the same lineage is part of it.
func (n LogNeed) Needs(l LogInfo) bool {
	if n.Until > 0 && (l.Timeline != n.Timeline || l.Start >= n.Until) {
		return false
	}
	return l.Timeline > n.Timeline || l.Timeline == n.Timeline && l.End > n.Start
}

// A Collector finds and deletes what no listed snapshot of a place needs: whole
// packs and whole pieces of log. It needs no data key.
//
// It deletes in two acts. The first marks from every manifest and publishes the
// rest as a signed set of tombstones. The second, at least Wait later, marks
// again, deletes what is garbage still, and ends the set. A writer builds on
// nothing that a tombstone names. So it may run twice at once, stop anywhere, and
// be refused: what is left is found the next time.
type Collector struct {
	Place string      // name for people
	At    *Repository // where it collects
	// Others are further places of the repository within reach. What a snapshot
	// needs there is not garbage here: it may be on its way.
	Others []*Repository
	// Known are snapshots that were complete here, by scope. A listing without one
	// of them, unless it was removed, stops the collector.
	Known map[string][]string
	// Log says what log a snapshot needs; ok is false if none.
	Log    func(*Manifest) (need LogNeed, ok bool)
	Signer seal.SigningKey
	Trust  []seal.VerifyKey // whose tombstones are ours
	Now    time.Time
	Wait   time.Duration // GarbageWait if 0
	// Steady is since when the clock that gives Now has run without a step. A set waits
	// from there, if it was published before: a clock that jumps ahead must not make due
	// what a running writer still builds on. Zero: for ever.
	Steady time.Time
}

// Collected is what one run did.
type Collected struct {
	Marked  int   `json:"marked"` // objects that were published as garbage now
	Bytes   int64 `json:"bytes"`  // of them
	Deleted int   `json:"deleted"`
	Freed   int64 `json:"freed"`   // bytes of what was deleted
	Spared  int   `json:"spared"`  // published earlier and needed again
	Refused int   `json:"refused"` // the place does not delete them, now or ever
	Waiting int   `json:"waiting"` // published and not yet due
	// Due is when the oldest waiting set may be deleted.
	Due time.Time `json:"due,omitzero"`
	// Temps are files that killed writers left, and that the vault removed.
	Temps int `json:"temps,omitempty"`
	// Tidied are objects of the vault's own that say nothing any more: sets of tombstones
	// that have ended, records that were folded, anchors for which a later one stands.
	Tidied int `json:"tidied,omitempty"`
	// Why is the place's first reason to refuse.
	Why string `json:"why,omitempty"`
}

// A tombstone names one object that is garbage.
type tombstone struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type tombstoneSet struct {
	Format     int         `json:"format"`
	Type       string      `json:"type"`
	Repository string      `json:"repository"`
	ID         string      `json:"id"`
	At         time.Time   `json:"at"` // on the vault's clock
	Objects    []tombstone `json:"objects"`
	Signer     string      `json:"signer"`

	raw []byte
}

// Collect runs both acts: it deletes what is due, and publishes what is new.
func (c Collector) Collect(ctx context.Context) (Collected, error) {
	out, err := c.collect(ctx)
	if err != nil {
		return out, fmt.Errorf("collect garbage at %q: %w", c.Place, err)
	}
	return out, nil
}

func (c Collector) collect(ctx context.Context) (out Collected, err error) {
	if c.Wait <= 0 {
		c.Wait = GarbageWait
	}
	garbage, needs, err := c.mark(ctx)
	if err != nil {
		return out, err
	}
	open, err := c.At.openSets(ctx, c.Trust)
	if err != nil {
		return out, err
	}
	published := map[string]bool{}
	var over []*tombstoneSet
	for _, set := range open {
		due := set.At.Add(c.Wait)
		if c.Steady.After(set.At) {
			due = c.Steady.Add(c.Wait)
		}
		if c.Now.Before(due) {
			for _, o := range set.Objects {
				published[o.Name] = true
			}
			out.Waiting += len(set.Objects)
			if out.Due.IsZero() || due.Before(out.Due) {
				out.Due = due
			}
			continue
		}
		// A set that was published after our mark cannot be due, so this mark is the
		// second one for every set that is.
		if err := c.sweep(ctx, set, garbage, &out); err != nil {
			return out, err
		}
		over = append(over, set)
	}
	// What was refused is in the new set before the old one ends: there is no instant
	// at which a writer could build on what another collector deletes yet.
	if err := c.publish(ctx, garbage, published, &out); err != nil {
		return out, err
	}
	for _, set := range over {
		if err := c.end(ctx, set); err != nil {
			return out, err
		}
	}
	for _, scope := range sortedKeys(needs.chains) {
		if err := c.fold(ctx, scope, needs.chains[scope], &out); err != nil {
			return out, err
		}
	}
	return out, c.tidySets(ctx, &out)
}

// sweep deletes what a due set names and is garbage still.
//
// A crash leaves the set open, and the next run finishes it with a mark of its own.
func (c Collector) sweep(ctx context.Context, set *tombstoneSet, garbage map[string]int64, out *Collected) error {
	for _, o := range set.Objects {
		if _, still := garbage[o.Name]; !still {
			out.Spared++ // needed again, or gone already
			continue
		}
		switch err := c.At.store.Delete(ctx, o.Name); {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			out.Deleted++
			out.Freed += garbage[o.Name]
			delete(garbage, o.Name)
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			out.Refused++
			if out.Why == "" {
				out.Why = err.Error()
			}
		}
	}
	return nil
}

// end says that a set is over.
func (c Collector) end(ctx context.Context, set *tombstoneSet) error {
	b, err := json.Marshal(map[string]any{"format": formatOne, "type": typeTombstones + "-end", "repository": c.At.id, "id": set.ID, "at": c.Now.UTC()})
	if err != nil {
		return err
	}
	err = putObject(ctx, c.At.store, tombstonePrefix+set.ID+tombstoneEnd, signed(b, domainTombstones, c.Signer))
	if errors.Is(err, ErrConflict) {
		return nil // another collector ended it, at another instant
	}
	return err
}

// publish writes the new garbage down as a set.
func (c Collector) publish(ctx context.Context, garbage map[string]int64, published map[string]bool, out *Collected) error {
	set := tombstoneSet{Format: formatOne, Type: typeTombstones, Repository: c.At.id, ID: newSnapshotID(c.Now), At: c.Now.UTC(), Signer: c.Signer.Name()}
	for _, name := range slices.Sorted(maps.Keys(garbage)) {
		if published[name] || len(set.Objects) >= maxTombstones {
			continue
		}
		set.Objects = append(set.Objects, tombstone{name, garbage[name]})
		out.Bytes += garbage[name]
	}
	if out.Marked = len(set.Objects); out.Marked == 0 {
		return nil
	}
	line, err := json.Marshal(set)
	if err != nil {
		return err
	}
	if err := putObject(ctx, c.At.store, tombstonePrefix+set.ID, signed(line, domainTombstones, c.Signer)); err != nil {
		return err
	}
	if due := c.Now.Add(c.Wait); out.Due.IsZero() || due.Before(out.Due) {
		out.Due = due
	}
	out.Waiting += out.Marked
	return nil
}

// mark returns the names and sizes of what nothing needs.
//
// The objects are listed before the manifests are: a pack that appears afterwards is
// not looked at, and one whose manifest appears in between is seen to be needed.
func (c Collector) mark(ctx context.Context) (map[string]int64, rooted, error) {
	packs := map[packID]int64{}
	since := c.Now.Add(-MaxRun)
	if err := c.At.store.List(ctx, packPrefix, func(o Object) error {
		// What the place says is young belongs to a run that goes on, and would become
		// a tombstone only to be spared. A place that lies makes us delete later, and
		// never sooner.
		if id, ok := packOfObject(o.Name); ok && !o.Modified.After(since) {
			packs[id] = o.Size
		}
		return nil
	}); err != nil {
		return nil, rooted{}, fmt.Errorf("list packs: %w", err)
	}
	var logs []LogInfo
	var facts []logFact
	came := map[string]time.Time{}
	if err := c.At.store.List(ctx, "logs/", func(o Object) error {
		if l, ok := parseLogName(o); ok {
			logs = append(logs, l)
			came[l.Name] = o.Modified
		} else if n, ok := parseNamed(o); ok {
			if f, ok := parseLogFact(n); ok {
				facts = append(facts, f)
				logs = append(logs, f.at)
			}
		}
		return nil
	}); err != nil {
		return nil, rooted{}, fmt.Errorf("list logs: %w", err)
	}
	needs, err := c.roots(ctx)
	if err != nil {
		return nil, rooted{}, err
	}
	garbage := map[string]int64{}
	for id, size := range packs {
		if name := id.object(); !needs.packs[id] {
			garbage[name] = size
		}
	}
	for _, l := range logs {
		if !needs.log(l) {
			garbage[l.Name] = l.Size
		}
	}
	for _, l := range c.gathered(ctx, slices.DeleteFunc(slices.Clone(logs), func(l LogInfo) bool { return came[l.Name].IsZero() || garbage[l.Name] > 0 }), came) {
		garbage[l.Name] = l.Size
	}
	for name, size := range needs.spent {
		garbage[name] = size
	}
	for _, l := range olderFacts(facts) {
		garbage[l.Name] = l.Size
	}
	if err := c.superseded(ctx, garbage); err != nil {
		return nil, rooted{}, err
	}
	return garbage, needs, nil
}

// superseded adds replacements of objects that are garbage or gone.
func (c Collector) superseded(ctx context.Context, garbage map[string]int64) error {
	return c.At.store.List(ctx, repairPrefix, func(o Object) error {
		if of, ok := repairedName(o.Name); ok {
			if _, gone := garbage[of]; gone {
				garbage[o.Name] = o.Size
			}
		}
		return nil
	})
}

// rooted is what the listed snapshots need.
type rooted struct {
	packs map[packID]bool
	logs  map[string][]LogNeed // by scope
	gone  map[string]bool      // scope and lineage: every snapshot that needed it was removed
	spent map[string]int64     // receipts of snapshots that were removed, with their sizes

	chains map[string]chain // by scope
}

// log reports whether a piece is needed. What belongs to a lineage of which nothing
// is known, because its first snapshot is not there yet, is.
func (r rooted) log(l LogInfo) bool {
	known := false
	for _, n := range r.logs[l.Scope] {
		if n.Lineage == l.Lineage {
			if n.Needs(l) {
				return true
			}
			known = true
		}
	}
	return !known && !r.gone[l.Scope+"/"+l.Lineage]
}

// roots reads every manifest. It fails unless it has seen them all: what cannot be
// read may need anything.
func (c Collector) roots(ctx context.Context) (rooted, error) {
	out := rooted{packs: map[packID]bool{}, logs: map[string][]LogNeed{}, gone: map[string]bool{}, spent: map[string]int64{}, chains: map[string]chain{}}
	scopes := map[string][]Link{}
	if err := c.At.EachManifest(ctx, "", func(_ Object, m *Manifest, err error) error {
		if err != nil {
			return fmt.Errorf("a snapshot that cannot be read may need anything: %w", err)
		}
		scopes[m.Scope] = append(scopes[m.Scope], m.Link())
		return c.need(&out, m)
	}); err != nil {
		return out, err
	}
	for scope := range c.Known {
		if _, ok := scopes[scope]; !ok {
			scopes[scope] = nil
		}
	}
	received := map[string][]string{} // the names alone say which snapshots were here
	sizes := map[string]int64{}
	if err := c.At.store.List(ctx, "receipts/", func(o Object) error {
		if parts := strings.Split(o.Name, "/"); len(parts) == 3 {
			if _, ok := scopes[parts[1]]; !ok {
				scopes[parts[1]] = nil
			}
			received[parts[1]] = append(received[parts[1]], parts[2])
			sizes[o.Name] = o.Size
		}
		return nil
	}); err != nil {
		return out, fmt.Errorf("list receipts: %w", err)
	}
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		receipts, err := c.At.Receipts(ctx, scope)
		if err != nil && !IsDamage(err) {
			return out, err
		}
		removals, err := c.At.Removals(ctx, scope)
		if err != nil {
			return out, err
		}
		ch := chain{scopes[scope], receipts, removals, slices.Concat(received[scope], c.Known[scope])}
		if missed := Omitted(scope, ch.listed, receipts, removals, ch.known); len(missed) > 0 {
			return out, fmt.Errorf("%s (%d in all): %w", missed[0], len(missed), ErrIncompleteList)
		}
		out.chains[scope] = ch
		here := map[string]bool{}
		for _, l := range ch.listed {
			here[l.ID] = true
		}
		for _, r := range removals {
			for _, l := range r.logs() {
				out.gone[scope+"/"+l] = true
			}
			// A receipt says that a snapshot came. The removal says that it went.
			for _, id := range r.IDs() {
				if size, ok := sizes[receiptName(scope, id)]; ok && !here[id] {
					out.spent[receiptName(scope, id)] = size
				}
			}
		}
	}
	for _, o := range c.Others {
		// One that does not answer, or cannot be read, needs itself only: Replicate
		// builds on nothing that is doomed here.
		if err := o.EachManifest(ctx, "", func(_ Object, m *Manifest, err error) error {
			if err != nil {
				return nil
			}
			return c.need(&out, m)
		}); err != nil && ctx.Err() != nil {
			return out, err
		}
	}
	for scope, needs := range out.logs {
		for _, n := range needs {
			delete(out.gone, scope+"/"+n.Lineage)
		}
	}
	return out, nil
}

// need notes what a snapshot needs.
func (c Collector) need(out *rooted, m *Manifest) error {
	for _, p := range m.Packs {
		id, err := parsePackID(p.ID)
		if err != nil {
			return err
		}
		out.packs[id] = true
	}
	if c.Log != nil {
		if n, ok := c.Log(m); ok {
			out.logs[m.Scope] = append(out.logs[m.Scope], n)
		}
	}
	return nil
}

// openSets reads the sets of tombstones that have not ended. With keys, only those
// that one of them signed count: anybody else's would make writers write more, and
// nothing worse.
func (r *Repository) openSets(ctx context.Context, trust []seal.VerifyKey) ([]*tombstoneSet, error) {
	var names []string
	ended := map[string]bool{}
	if err := r.store.List(ctx, tombstonePrefix, func(o Object) error {
		if id, ok := strings.CutSuffix(o.Name, tombstoneEnd); ok {
			ended[id] = true
		} else {
			names = append(names, o.Name)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list tombstones: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return ended[n] })
	if len(names) > maxOpenSets {
		return nil, fmt.Errorf("%d open sets of tombstones: %w", len(names), ErrLimit)
	}
	var out []*tombstoneSet
	for _, name := range names {
		raw, err := readObject(ctx, r.store, name, maxTombstoneSet)
		if err != nil {
			return nil, err
		}
		set, err := parseTombstones(raw, r.id, name)
		if err == nil && len(trust) > 0 {
			err = verifySigned(set.raw, domainTombstones, set.Signer, trust)
		}
		if err == nil {
			out = append(out, set)
		} else if !isDamage(err) && !errors.Is(err, ErrUntrusted) {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		// What is not a set of ours deletes nothing.
	}
	return out, nil
}

func parseTombstones(raw []byte, repository, name string) (*tombstoneSet, error) {
	line, _, err := splitSigned(raw)
	if err != nil {
		return nil, err
	}
	set := &tombstoneSet{raw: raw}
	if err := json.Unmarshal(line, set); err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	switch {
	case set.Format != formatOne:
		return nil, fmt.Errorf("format %d: %w", set.Format, ErrFormat)
	case set.Type != typeTombstones:
		return nil, fmt.Errorf("a %q where tombstones belong: %w", set.Type, ErrKind)
	case set.Repository != repository:
		return nil, fmt.Errorf("of repository %q: %w", set.Repository, ErrForeign)
	case tombstonePrefix+set.ID != name:
		return nil, fmt.Errorf("holds %q: %w", set.ID, ErrSubstituted)
	case len(set.Objects) > maxTombstones:
		return nil, fmt.Errorf("%d objects: %w", len(set.Objects), ErrLimit)
	}
	return set, nil
}

// doomed returns the packs that open tombstones name. A writer reads it before it
// lists what is there.
func (r *Repository) doomed(ctx context.Context) (map[packID]bool, error) {
	sets, err := r.openSets(ctx, r.trust)
	if err != nil {
		return nil, err
	}
	out := map[packID]bool{}
	for _, set := range sets {
		for _, o := range set.Objects {
			if id, ok := packOfObject(o.Name); ok {
				out[id] = true
			}
		}
	}
	return out, nil
}
