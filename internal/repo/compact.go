package repo

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"holdfast/internal/seal"
)

// What the vault writes about its own deletions must not grow for ever. A set of
// tombstones goes when it has ended, and records of removed snapshots are folded into
// one that says the same in less. docs/rfd/0009-compaction.md says why this is safe.
const (
	// FoldAfter is how old a record of removals is before it is folded. Who was away for
	// less, and a state that was restored from a copy younger than that, finds each
	// record as it was written.
	FoldAfter = 100 * 24 * time.Hour
	// minFold is how many such records make a fold worth its writing.
	minFold = 30
	// maxFolded is how many snapshots one fold names; then another is begun.
	maxFolded = 100_000
	// endKept is how long the end of a set stays when the set is gone: a place that shows
	// the deleted set again must show its end too.
	endKept = 90 * 24 * time.Hour
	// maxTidied bounds the deletions of one run.
	maxTidied = 10_000
)

// A Folded is what a removal says of the records that it stands for.
type Folded struct {
	Records   int      `json:"records"`        // how many
	Last      string   `json:"last"`           // id of the newest
	Digest    string   `json:"digest"`         // over all of them, see the specification
	Snapshots []string `json:"snapshots"`      // ids of all that they removed, sorted
	Logs      []string `json:"logs,omitempty"` // lineages whose log they needed, sorted
}

// check says whether a fold is one of the format.
func (f *Folded) check() error {
	digest, err := hex.DecodeString(f.Digest)
	if err != nil || len(digest) != 32 || f.Records < 1 || len(f.Snapshots) < 1 || len(f.Snapshots) > maxFolded+maxRemoved {
		return fmt.Errorf("a fold of %d records and %d snapshots: %w", f.Records, len(f.Snapshots), ErrDamaged)
	}
	for i, id := range f.Snapshots {
		if checkSnapshotID(id) != nil || i > 0 && id <= f.Snapshots[i-1] {
			return fmt.Errorf("a fold of snapshot %q: %w", id, ErrDamaged)
		}
	}
	return checkSnapshotID(f.Last)
}

// holds reports whether a fold stands for all of a record.
func (f *Folded) holds(c Removal) bool {
	ids, last := c.IDs(), c.id
	if c.Folded != nil {
		last = c.Folded.Last
	}
	return last <= f.Last && !slices.ContainsFunc(ids, func(id string) bool {
		_, found := slices.BinarySearch(f.Snapshots, id)
		return !found
	})
}

// IDs are all snapshots that the record says were removed, also those of the records that
// were folded into it.
func (c *Removal) IDs() []string {
	var ids []string
	for _, s := range c.Snapshots {
		ids = append(ids, s.Snapshot)
	}
	if c.Folded != nil {
		ids = append(ids, c.Folded.Snapshots...)
	}
	return ids
}

// logs are the lineages that the removed snapshots needed.
func (c *Removal) logs() []string {
	var all []string
	for _, s := range c.Snapshots {
		if s.Log != "" {
			all = append(all, s.Log)
		}
	}
	if c.Folded != nil {
		all = append(all, c.Folded.Logs...)
	}
	return all
}

// A chain is what a collector has seen of one scope, and found complete.
type chain struct {
	listed   []Link
	receipts []Receipt
	removals []Removal
	known    []string
}

// fold puts one record in the place of many old ones, and deletes those. It says what
// they said: which snapshots were removed; and of those that are neighbours of a listed
// one, or of one in a younger record, also their hashes.
//
// The new record is durable before an old one goes. A crash in between leaves both, which
// say the same; the next run deletes what the new one stands for. A place that refuses
// keeps them, and is asked again.
func (c Collector) fold(ctx context.Context, scope string, ch chain, out *Collected) error {
	var newest *Removal
	for i, r := range ch.removals {
		if r.Folded != nil && (newest == nil || r.Folded.Last > newest.Folded.Last) {
			newest = &ch.removals[i]
		}
	}
	var old, rest []Removal
	for _, r := range ch.removals {
		switch {
		case newest != nil && r.id != newest.id && newest.Folded.holds(r):
			old = append(old, r) // an earlier run did not come to delete it
		default:
			rest = append(rest, r)
		}
	}
	if len(old) > 0 {
		if len(Omitted(scope, ch.listed, ch.receipts, rest, ch.known)) > 0 {
			return nil // it says something that the fold does not: it stays
		}
		return c.drop(ctx, scope, old, out)
	}
	f, old, rest := c.folded(ch, newest)
	if f == nil || len(Omitted(scope, ch.listed, ch.receipts, append(rest, *f), ch.known)) > 0 {
		return nil
	}
	f.Scope, f.Place, f.At, f.Vault, f.Signer = scope, c.Place, c.Now.UTC(), c.Signer.Name(), c.Signer.Name()
	id := newSnapshotID(c.Now)
	line, err := json.Marshal(removalLine{formatOne, typeRemoval, c.At.id, id, *f})
	if err != nil {
		return err
	}
	if len(line) > maxRemoval/2 {
		return nil // many neighbours: what is there is no larger
	}
	if err := putObject(ctx, c.At.store, removalPrefix+scope+"/"+id, signed(line, domainRemoval, c.Signer)); err != nil {
		return fmt.Errorf("fold removals of %q: %w", scope, err)
	}
	return c.drop(ctx, scope, old, out)
}

// folded makes the record that stands for old ones; nil if it is not worth it. It is pure.
func (c Collector) folded(ch chain, newest *Removal) (f *Removal, old, rest []Removal) {
	if newest != nil && len(newest.Folded.Snapshots) >= maxFolded {
		newest = nil // it is full, and stays as it is
	}
	sum := make([]byte, 32)
	to := &Folded{}
	ids, logs, entries := map[string]bool{}, map[string]bool{}, []Removed(nil)
	for _, r := range ch.removals { // oldest first, as names are
		switch {
		case newest != nil && r.id == newest.id:
			sum, _ = hex.DecodeString(r.Folded.Digest) // it was checked when it was read
			to.Records, to.Last = to.Records+r.Folded.Records, max(to.Last, r.Folded.Last)
		case r.Folded != nil, !r.At.Before(c.Now.Add(-FoldAfter)), newest != nil && r.id <= newest.Folded.Last, len(ids) >= maxFolded:
			rest = append(rest, r)
			continue
		default:
			to.Records, to.Last = to.Records+1, max(to.Last, r.id)
		}
		old = append(old, r)
		entries = append(entries, r.Snapshots...)
		for _, id := range r.IDs() {
			ids[id] = true
		}
		for _, l := range r.logs() {
			logs[l] = true
		}
	}
	if n := len(old); n < minFold {
		return nil, nil, nil
	}
	for _, r := range old {
		if r.Folded == nil {
			sum = foldDigest(sum, r.raw)
		}
	}
	to.Digest, to.Snapshots, to.Logs = hex.EncodeToString(sum), sortedKeys(ids), sortedKeys(logs)
	listed, named := map[string]bool{}, map[string]bool{}
	for _, l := range ch.listed {
		listed[l.Hash], named[l.Previous] = true, true
	}
	for _, r := range rest {
		for _, s := range r.Snapshots {
			listed[s.Manifest], named[s.Previous] = true, true
		}
	}
	f = &Removal{Folded: to}
	kept := map[string]bool{}
	for i, e := range entries {
		last := i == len(entries)-1 && len(f.Snapshots) == 0 // a record names one at least
		if (named[e.Manifest] || listed[e.Previous] || last) && !kept[e.Manifest] {
			kept[e.Manifest] = true
			f.Snapshots = append(f.Snapshots, e)
		}
	}
	if len(f.Snapshots) > maxRemoved {
		return nil, nil, nil
	}
	for i, e := range f.Snapshots {
		if !listed[e.Previous] && !kept[e.Previous] {
			f.Snapshots[i].Previous = "" // its chain was followed up to here
		}
	}
	slices.SortFunc(f.Snapshots, func(a, b Removed) int { return strings.Compare(a.Snapshot, b.Snapshot) })
	return f, old, rest
}

// foldDigest goes on over one more record.
func foldDigest(sum, raw []byte) []byte {
	h := seal.Hash(raw)
	next := seal.Hash(append(slices.Clone(sum), h[:]...))
	return next[:]
}

// drop deletes records that another one stands for, oldest first.
func (c Collector) drop(ctx context.Context, scope string, old []Removal, out *Collected) error {
	for _, r := range old {
		if done, err := c.tidy(ctx, removalPrefix+scope+"/"+r.id, out); err != nil || !done {
			return err
		}
	}
	return nil
}

// tidy deletes an object of the vault's own. A refusal is no news: a lock ends, and the
// rest is as young.
func (c Collector) tidy(ctx context.Context, name string, out *Collected) (done bool, err error) {
	if out.Tidied >= maxTidied {
		return false, nil
	}
	switch err := c.At.store.Delete(ctx, name); {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		out.Tidied++
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	return false, nil
}

// tidySets deletes sets of tombstones that have ended, and much later their ends.
//
// The set goes before its end: were it the other way round, a crash would open it again.
func (c Collector) tidySets(ctx context.Context, out *Collected) error {
	sets, ended := []string{}, map[string]bool{}
	if err := c.At.store.List(ctx, tombstonePrefix, func(o Object) error {
		id, end := strings.CutSuffix(strings.TrimPrefix(o.Name, tombstonePrefix), tombstoneEnd)
		switch {
		case checkSnapshotID(id) != nil: // not ours
		case end:
			ended[id] = true
		default:
			sets = append(sets, id)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("list tombstones: %w", err)
	}
	for _, id := range sets {
		if !ended[id] {
			continue
		}
		delete(ended, id) // as long as the set was listed, its end stays
		if done, err := c.tidy(ctx, tombstonePrefix+id, out); err != nil || !done {
			return err
		}
	}
	before := c.Now.Add(-endKept).UTC().Format("20060102T150405Z")
	for _, id := range sortedKeys(ended) {
		if id >= before {
			break
		}
		if done, err := c.tidy(ctx, tombstonePrefix+id+tombstoneEnd, out); err != nil || !done {
			return err
		}
	}
	return nil
}
