package repo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"holdfast/internal/seal"
)

const (
	domainRemoval = "removal"
	typeRemoval   = "removal"

	removalPrefix = "tombstones/removed/"

	maxRemoved = 10_000  // snapshots in one removal
	maxRemoval = 8 << 20 // bytes of one removal
)

// A Removed snapshot was taken out of a place, and why. Its hashes keep the chain
// of what is left whole.
type Removed struct {
	Snapshot string `json:"snapshot"`
	Manifest string `json:"manifest"` // Manifest.Hash
	Previous string `json:"previous"` // of the manifest
	Log      string `json:"log,omitempty"`
	Why      string `json:"why"`
}

// A Removal is the vault's word that it removed snapshots of a scope from a place.
// It is put before anything is deleted: a snapshot that is gone without one was
// taken by somebody else.
type Removal struct {
	Scope     string    `json:"scope"`
	Place     string    `json:"place"`
	At        time.Time `json:"at"` // on the vault's clock
	Vault     string    `json:"vault"`
	Snapshots []Removed `json:"snapshots"`
	// Folded says what older records this one stands for; nil for none. Its snapshots come
	// on top: of them, Snapshots has those that the chain of what is left needs.
	Folded *Folded `json:"folded,omitempty"`

	Signer string `json:"signer"` // set by Remove
	id     string
	raw    []byte
}

type removalLine struct {
	Format     int    `json:"format"`
	Type       string `json:"type"`
	Repository string `json:"repository"`
	ID         string `json:"id"`
	Removal
}

// Verify returns nil if one of keys signed the removal.
func (c *Removal) Verify(keys ...seal.VerifyKey) error {
	if err := verifySigned(c.raw, domainRemoval, c.Signer, keys); err != nil {
		return fmt.Errorf("removal from %q of %s: %w", c.Scope, c.At.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// Remove takes snapshots out of the list of a place. What they alone needed becomes
// garbage, which Collect finds; nothing else is deleted here.
//
// The signed record comes first, then the manifests, oldest first. A crash in
// between leaves manifests that are still listed, and complete: the next removal
// takes them. A place that refuses to delete keeps them listed too; the error
// names the first one, and those behind it are tried all the same.
func (r *Repository) Remove(ctx context.Context, c Removal, key seal.SigningKey) (gone []string, err error) {
	if err := checkPart("scope", c.Scope); err != nil {
		return nil, err
	}
	if n := len(c.Snapshots); n == 0 || n > maxRemoved {
		return nil, fmt.Errorf("remove %d snapshots of %q: want 1 to %d: %w", n, c.Scope, maxRemoved, ErrLimit)
	}
	for _, s := range c.Snapshots {
		if err := checkSnapshotID(s.Snapshot); err != nil {
			return nil, err
		}
	}
	c.Signer, c.At = key.Name(), c.At.UTC()
	slices.SortFunc(c.Snapshots, func(a, b Removed) int { return strings.Compare(a.Snapshot, b.Snapshot) })
	id := newSnapshotID(c.At)
	line, err := json.Marshal(removalLine{formatOne, typeRemoval, r.id, id, c})
	if err != nil {
		return nil, err
	}
	if err := putObject(ctx, r.store, removalPrefix+c.Scope+"/"+id, signed(line, domainRemoval, key)); err != nil {
		return nil, fmt.Errorf("remove snapshots of %q: %w", c.Scope, err)
	}
	var errs []error
	for _, s := range c.Snapshots {
		switch derr := r.store.Delete(ctx, snapshotName(c.Scope, s.Snapshot)); {
		case derr == nil || errors.Is(derr, fs.ErrNotExist):
			gone = append(gone, s.Snapshot)
		case ctx.Err() != nil:
			return gone, ctx.Err()
		default:
			errs = append(errs, derr)
		}
	}
	if len(errs) > 0 {
		return gone, fmt.Errorf("%d of %d snapshots of %q could not be removed: %w", len(errs), len(c.Snapshots), c.Scope, errs[0])
	}
	return gone, nil
}

// Removals returns what the vault removed from a scope, oldest first. If the
// repository trusts certain keys, others' word does not count and is an error
// beside the rest.
func (r *Repository) Removals(ctx context.Context, scope string) ([]Removal, error) {
	if err := checkPart("scope", scope); err != nil {
		return nil, err
	}
	var (
		all  []Removal
		errs []error
	)
	if err := r.eachSigned(ctx, scope, "removals", removalPrefix+scope+"/", domainRemoval, func(name string, raw []byte) bool {
		c, err := parseRemoval(raw, r.id, name)
		if err == nil {
			all = append(all, c)
		}
		return err == nil
	}, func(name string) []byte {
		raw, err := readObject(ctx, r.store, name, maxRemoval)
		var c Removal
		if err == nil {
			c, err = parseRemoval(raw, r.id, name)
		}
		if err == nil && len(r.trust) > 0 {
			err = c.Verify(r.trust...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", name, err))
			return nil
		}
		all = append(all, c)
		return raw
	}); err != nil {
		return nil, fmt.Errorf("list removals: %w", err)
	}
	return all, errors.Join(errs...)
}

func parseRemoval(raw []byte, repository, name string) (Removal, error) {
	line, _, err := splitSigned(raw)
	if err != nil {
		return Removal{}, err
	}
	var l removalLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Removal{}, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	switch {
	case l.Format != formatOne:
		return Removal{}, fmt.Errorf("format %d: %w", l.Format, ErrFormat)
	case l.Type != typeRemoval:
		return Removal{}, fmt.Errorf("a %q where a removal belongs: %w", l.Type, ErrKind)
	case l.Repository != repository:
		return Removal{}, fmt.Errorf("of repository %q: %w", l.Repository, ErrForeign)
	case removalPrefix+l.Scope+"/"+l.ID != name:
		return Removal{}, fmt.Errorf("holds %q of %q: %w", l.ID, l.Scope, ErrSubstituted)
	case len(l.Snapshots) == 0 || len(l.Snapshots) > maxRemoved:
		return Removal{}, fmt.Errorf("%d snapshots: %w", len(l.Snapshots), ErrDamaged)
	}
	if l.Folded != nil {
		if err := l.Folded.check(); err != nil {
			return Removal{}, err
		}
	}
	l.id, l.raw = l.ID, raw
	return l.Removal, nil
}

// A Missed is a snapshot that ought to be listed at a place and is not.
type Missed struct {
	Scope    string
	Snapshot string // its id, where somebody knows it
	Why      string // who says that it ought to be there
}

func (m Missed) String() string {
	return fmt.Sprintf("snapshot %s of %q is not listed: %s", cmp.Or(m.Snapshot, "of unknown id"), m.Scope, m.Why)
}

// A Link is what a chain of snapshots is made of.
type Link struct {
	ID       string
	Hash     string // Manifest.Hash
	Previous string
}

// Link returns the snapshot's link in the chain of its scope.
func (m *Manifest) Link() Link { return Link{m.ID, m.Hash(), m.Previous} }

// Omitted finds snapshots of one scope that a listing left out: those that a
// listed or removed successor names, that a receipt was given for, or that the
// caller remembers, unless the vault removed them. A chain may have one loose end,
// at its oldest listed snapshot: a place that was added later has never held what
// came before. It is pure.
func Omitted(scope string, listed []Link, receipts []Receipt, removals []Removal, known []string) []Missed {
	here, hashes, ids := map[string]bool{}, map[string]bool{}, map[string]string{}
	oldest := ""
	for _, m := range listed {
		here[m.ID], hashes[m.Hash] = true, true
		if oldest == "" || m.ID < oldest {
			oldest = m.ID
		}
	}
	for _, rc := range receipts {
		ids[rc.Manifest] = rc.Snapshot
	}
	for _, c := range removals {
		for _, s := range c.Snapshots {
			hashes[s.Manifest] = true
		}
		for _, id := range c.IDs() {
			here[id] = true
		}
	}
	var out []Missed
	miss := func(id, why string) {
		if id == "" || !here[id] {
			here[id] = true
			out = append(out, Missed{scope, id, why})
		}
	}
	link := func(id, previous string) {
		if previous != "" && !hashes[previous] && id > oldest {
			hashes[previous] = true // said once
			miss(ids[previous], fmt.Sprintf("snapshot %s names it, %.12s, as its predecessor", id, previous))
		}
	}
	for _, m := range listed {
		link(m.ID, m.Previous)
	}
	for _, c := range removals {
		for _, s := range c.Snapshots {
			link(s.Snapshot, s.Previous)
		}
	}
	for _, rc := range receipts {
		miss(rc.Snapshot, "the vault countersigned it here on "+rc.Received.UTC().Format(time.RFC3339))
	}
	for _, id := range known {
		miss(id, "it was complete here")
	}
	return out
}
