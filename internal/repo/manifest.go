package repo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/internal/seal"
)

const (
	domainManifest = "manifest"
	domainReceipt  = "receipt"
	domainLog      = "log"
	domainMatch    = "log-content"

	maxPacks   = 1 << 22 // 128 TiB of full packs
	maxLabels  = 1000
	formatOne  = 1
	typeSnap   = "manifest"
	typeReceip = "receipt"
)

// A PackRef names a pack in a manifest, in the clear, so that whoever checks
// completeness needs no key.
type PackRef struct {
	ID   string `json:"id"`
	Size int64  `json:"size"`
	Hash string `json:"hash"` // BLAKE3 of the whole pack, hex
}

// A RootRef says where a snapshot's root lies.
type RootRef struct {
	Pack    uint32 `json:"pack"`
	Segment uint32 `json:"segment"`
}

// A Manifest is what a snapshot says of itself in the clear, signed by its writer.
type Manifest struct {
	Format     int               `json:"format"`
	Type       string            `json:"type"`
	Repository string            `json:"repository"`
	Scope      string            `json:"scope"`
	Kind       string            `json:"kind"`
	ID         string            `json:"id"`
	Previous   string            `json:"previous"` // Hash of the predecessor, or ""
	Created    time.Time         `json:"created"`  // the writer's claim
	Labels     map[string]string `json:"labels,omitempty"`
	Files      int64             `json:"files"`
	Bytes      int64             `json:"bytes"`
	Packs      []PackRef         `json:"packs"`
	Root       RootRef           `json:"root"`
	Signer     string            `json:"signer"`

	raw      []byte   // the object; nil if it was recalled
	recalled recalled // by a Seen
}

// Hash returns the hex BLAKE3 of the object as it is stored: what a successor's
// Previous and a receipt name.
func (m *Manifest) Hash() string {
	if m.Recalled() {
		return m.recalled.hash
	}
	return hexHash(m.raw)
}

// Recalled reports whether the manifest comes from a Seen: it was read and believed
// before, and not now.
func (m *Manifest) Recalled() bool { return m.recalled.key != "" }

// Object returns the name under which the manifest lies in a place.
func (m *Manifest) Object() string { return snapshotName(m.Scope, m.ID) }

// Verify returns nil if one of keys signed the manifest.
func (m *Manifest) Verify(keys ...seal.VerifyKey) error {
	if m.Recalled() {
		for _, k := range keys {
			if k.String() == m.recalled.key {
				return nil
			}
		}
		return fmt.Errorf("snapshot %q: claims signer %q: %w", m.ID, m.Signer, ErrUntrusted)
	}
	if err := verifySigned(m.raw, domainManifest, m.Signer, keys); err != nil {
		return fmt.Errorf("snapshot %q: %w", m.ID, err)
	}
	return nil
}

// signed returns line, newline, base64 signature, newline.
func signed(line []byte, domain string, key seal.SigningKey) []byte {
	out := append(slices.Clone(line), '\n')
	out = base64.StdEncoding.AppendEncode(out, key.Sign(domain, line))
	return append(out, '\n')
}

// splitSigned takes such an object apart.
func splitSigned(raw []byte) (line, sig []byte, err error) {
	line, rest, ok := bytes.Cut(raw, []byte{'\n'})
	b64, tail, ok2 := bytes.Cut(rest, []byte{'\n'})
	if !ok || !ok2 || len(tail) != 0 {
		return nil, nil, fmt.Errorf("want a line and its signature: %w", ErrDamaged)
	}
	sig, err = base64.StdEncoding.Strict().DecodeString(string(b64))
	if err != nil {
		return nil, nil, fmt.Errorf("signature: %w", ErrDamaged)
	}
	return line, sig, nil
}

func verifySigned(raw []byte, domain, signer string, keys []seal.VerifyKey) error {
	line, sig, err := splitSigned(raw)
	if err != nil {
		return err
	}
	return verifyAny(domain, line, sig, signer, keys)
}

// verifyAny tries every key: the signer's name is the object's own claim.
func verifyAny(domain string, msg, sig []byte, signer string, keys []seal.VerifyKey) error {
	for _, k := range keys {
		if k.Verify(domain, msg, sig) == nil {
			return nil
		}
	}
	return fmt.Errorf("claims signer %q: %w: %w", signer, ErrUntrusted, seal.ErrSignature)
}

// parseManifest reads a manifest object and checks all that needs no key.
func parseManifest(raw []byte) (*Manifest, error) {
	line, _, err := splitSigned(raw)
	if err != nil {
		return nil, err
	}
	m := &Manifest{raw: raw}
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	switch {
	case m.Format != formatOne:
		return nil, fmt.Errorf("manifest format %d: %w", m.Format, ErrFormat)
	case m.Type != typeSnap:
		return nil, fmt.Errorf("a %q where a manifest belongs: %w", m.Type, ErrKind)
	case len(m.Packs) == 0 || len(m.Packs) > maxPacks:
		return nil, fmt.Errorf("%d packs: %w", len(m.Packs), ErrDamaged)
	case int64(m.Root.Pack) >= int64(len(m.Packs)):
		return nil, fmt.Errorf("root in pack %d of %d: %w", m.Root.Pack, len(m.Packs), ErrDamaged)
	case checkPart("scope", m.Scope) != nil || checkSnapshotID(m.ID) != nil || checkRepositoryID(m.Repository) != nil:
		return nil, fmt.Errorf("scope %q, id %q: %w", m.Scope, m.ID, ErrDamaged)
	}
	seen := make(map[string]bool, len(m.Packs))
	for _, p := range m.Packs {
		_, err := parsePackID(p.ID)
		h, herr := hex.DecodeString(p.Hash)
		if err != nil || herr != nil || len(h) != 32 || p.Size < int64(trailerLen) || p.Size > maxPack || seen[p.ID] {
			return nil, fmt.Errorf("pack %q: %w", p.ID, ErrDamaged)
		}
		seen[p.ID] = true
	}
	return m, nil
}

// Manifest reads one manifest. Its signature is not checked here: the caller holds the keys.
func (r *Repository) Manifest(ctx context.Context, scope, id string) (*Manifest, error) {
	if err := checkPart("scope", scope); err != nil {
		return nil, err
	}
	if err := checkSnapshotID(id); err != nil {
		return nil, err
	}
	return r.manifest(ctx, snapshotName(scope, id))
}

func (r *Repository) manifest(ctx context.Context, name string) (*Manifest, error) {
	var m *Manifest
	err := r.instead(ctx, name, func(at string) (err error) {
		var other *Manifest
		if other, err = r.readManifest(ctx, at, name); err != nil {
			return err
		}
		if m == nil {
			m = other // whose signature the caller checks
		}
		if len(r.trust) > 0 {
			err = other.Verify(r.trust...)
		}
		if err == nil {
			m = other
		}
		return err
	})
	if m != nil {
		return m, nil
	}
	return nil, err
}

// readManifest reads the manifest that lies at at and belongs at name.
func (r *Repository) readManifest(ctx context.Context, at, name string) (*Manifest, error) {
	raw, err := readObject(ctx, r.store, at, maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", at, err)
	}
	if m.Repository != r.id {
		return nil, fmt.Errorf("%q: of repository %q: %w", at, m.Repository, ErrForeign)
	}
	if m.Object() != name {
		return nil, fmt.Errorf("%q holds %q: %w", at, m.Object(), ErrSubstituted)
	}
	return m, nil
}

// SnapshotIDs lists the ids of a scope's snapshots, oldest first, from their names
// alone: nothing is read. What lies under a name is told by Manifest.
func (r *Repository) SnapshotIDs(ctx context.Context, scope string) ([]string, error) {
	names, err := r.snapshotNames(ctx, scope)
	if err != nil {
		return nil, err
	}
	for i, n := range names {
		names[i] = path.Base(n)
	}
	return names, nil
}

// Manifests returns the snapshots of a scope, or of all scopes if scope is "",
// oldest first by the writer's clock. A manifest that cannot be read does not
// hide the others: they are returned with an error that names it.
func (r *Repository) Manifests(ctx context.Context, scope string) ([]*Manifest, error) {
	names, err := r.snapshotNames(ctx, scope)
	if err != nil {
		return nil, err
	}
	var (
		all  []*Manifest
		errs []error
	)
	for _, name := range names {
		m, err := r.manifest(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b *Manifest) int { return strings.Compare(a.ID, b.ID) })
	return all, errors.Join(errs...)
}

// snapshotNames lists the manifests of a scope, oldest first by the writer's clock.
func (r *Repository) snapshotNames(ctx context.Context, scope string) ([]string, error) {
	objects, err := r.snapshotObjects(ctx, scope)
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.Name
	}
	return names, err
}

// snapshotObjects lists the manifests as the place shows them.
func (r *Repository) snapshotObjects(ctx context.Context, scope string) ([]Object, error) {
	prefix := "snapshots/"
	if scope != "" {
		if err := checkPart("scope", scope); err != nil {
			return nil, err
		}
		prefix += scope + "/"
	}
	var objects []Object
	err := r.store.List(ctx, prefix, func(o Object) error {
		parts := strings.Split(o.Name, "/")
		if len(parts) == 3 && idPattern.MatchString(parts[2]) {
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return objects, nil
}

// packSizes lists every pack of the place.
func (r *Repository) packSizes(ctx context.Context) (map[packID]int64, error) {
	sizes := map[packID]int64{}
	err := r.store.List(ctx, packPrefix, func(o Object) error {
		if id, ok := packOfObject(o.Name); ok {
			sizes[id] = o.Size
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	return sizes, nil
}

// Check returns nil if every pack that m names is in the place with its size, and
// a *MissingError if not. It needs no key and reads no pack.
func (r *Repository) Check(ctx context.Context, m *Manifest) error {
	check, err := r.Checker(ctx)
	if err != nil {
		return err
	}
	return check(ctx, m)
}

// Checker is Check for many manifests: it lists the packs of the place once, now.
func (r *Repository) Checker(ctx context.Context) (func(context.Context, *Manifest) error, error) {
	have, err := r.packSizes(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, m *Manifest) error { return r.check(ctx, m, have) }, nil
}

func (r *Repository) check(ctx context.Context, m *Manifest, have map[packID]int64) error {
	err := missingFrom(m, have)
	var missing *MissingError
	if !errors.As(err, &missing) {
		return err
	}
	// What has another size may have a replacement.
	missing.Objects = slices.DeleteFunc(missing.Objects, func(o Missing) bool {
		if o.Have < 0 {
			return false
		}
		i := slices.IndexFunc(m.Packs, func(p PackRef) bool { id, err := parsePackID(p.ID); return err == nil && id.object() == o.Name })
		return i >= 0 && r.CheckPack(ctx, m.Packs[i]) == nil
	})
	if len(missing.Objects) == 0 {
		return nil
	}
	return missing
}

func missingFrom(m *Manifest, have map[packID]int64) error {
	missing := &MissingError{Snapshot: m.ID}
	for _, p := range m.Packs {
		id, err := parsePackID(p.ID)
		if err != nil {
			return err
		}
		size, ok := have[id]
		if !ok {
			size = -1
		}
		if size != p.Size {
			missing.Objects = append(missing.Objects, Missing{Name: id.object(), Want: p.Size, Have: size})
		}
	}
	if len(missing.Objects) > 0 {
		return missing
	}
	return nil
}

// Replicate makes the snapshot complete at this place: it copies the packs that
// are absent, as they are and compared with their hashes, and then the manifest.
// It needs no key and may be repeated. While a pack that it would build on is about
// to be deleted here it is ErrDoomed.
//
// A crash leaves packs that no manifest of this place names yet; the next call
// finds them there.
func (r *Repository) Replicate(ctx context.Context, from *Repository, m *Manifest) error {
	if m.Recalled() {
		return fmt.Errorf("replicate snapshot %q: its manifest was not read: %w", m.ID, ErrKind)
	}
	if r.id != from.id || m.Repository != r.id {
		return fmt.Errorf("replicate snapshot %q of %q from %q to %q: %w", m.ID, m.Repository, from.id, r.id, ErrForeign)
	}
	began := time.Now().Round(0) // the wall clock, which goes on while a machine sleeps
	doomed, err := r.doomed(ctx)
	if err != nil {
		return err
	}
	have, err := r.packSizes(ctx)
	if err != nil {
		return err
	}
	for _, p := range m.Packs {
		id, err := parsePackID(p.ID)
		if err != nil {
			return err
		}
		if doomed[id] {
			return fmt.Errorf("replicate snapshot %q: %q: %w", m.ID, id.object(), ErrDoomed)
		}
		if _, ok := have[id]; ok {
			continue
		}
		if err := copyPack(ctx, from, r, id, p); err != nil {
			return fmt.Errorf("replicate snapshot %q: %w", m.ID, err)
		}
		have[id] = p.Size
	}
	if err := missingFrom(m, have); err != nil {
		return err // a pack of another size is there already; it is never overwritten
	}
	if err := r.copyEpochs(ctx, from, m.Scope); err != nil {
		return fmt.Errorf("replicate snapshot %q: %w", m.ID, err)
	}
	if time.Since(began) > MaxRun {
		return fmt.Errorf("replicate snapshot %q: %w", m.ID, ErrLate)
	}
	if err := putObject(ctx, r.store, m.Object(), m.raw); err != nil {
		return fmt.Errorf("replicate snapshot %q: %w", m.ID, err)
	}
	return nil
}

func copyPack(ctx context.Context, from, to *Repository, id packID, p PackRef) error {
	b, err := from.wholePack(ctx, id, p)
	if err != nil {
		return err
	}
	return putObject(ctx, to.store, id.object(), b)
}

// wholePack reads a pack, or a replacement of it, that is what the manifest says.
func (r *Repository) wholePack(ctx context.Context, id packID, p PackRef) (b []byte, err error) {
	return b, r.instead(ctx, id.object(), func(name string) (err error) {
		if b, err = readObject(ctx, r.store, name, p.Size); err != nil {
			return err
		}
		if int64(len(b)) != p.Size || hexHash(b) != p.Hash {
			return fmt.Errorf("%q is not what the manifest says: %w", name, ErrDamaged)
		}
		return nil
	})
}

// A Receipt is the vault's word that a manifest was complete in a place at a time
// on the vault's own clock.
type Receipt struct {
	Scope    string    `json:"scope"`
	Snapshot string    `json:"snapshot"`
	Manifest string    `json:"manifest"` // Manifest.Hash
	Place    string    `json:"place"`
	Received time.Time `json:"received"`
	Vault    string    `json:"vault"`

	Signer string `json:"signer"` // set by PutReceipt
	raw    []byte
}

type receiptLine struct {
	Format     int    `json:"format"`
	Type       string `json:"type"`
	Repository string `json:"repository"`
	Receipt
}

// Verify returns nil if one of keys signed the receipt.
func (c *Receipt) Verify(keys ...seal.VerifyKey) error {
	if err := verifySigned(c.raw, domainReceipt, c.Signer, keys); err != nil {
		return fmt.Errorf("receipt of %q: %w", c.Snapshot, err)
	}
	return nil
}

// PutReceipt records a receipt, once. The same receipt again is no error, another
// one for the same snapshot is ErrConflict.
func (r *Repository) PutReceipt(ctx context.Context, c Receipt, key seal.SigningKey) error {
	if err := checkPart("scope", c.Scope); err != nil {
		return err
	}
	if err := checkSnapshotID(c.Snapshot); err != nil {
		return err
	}
	c.Signer, c.Received = key.Name(), c.Received.UTC()
	line, err := json.Marshal(receiptLine{formatOne, typeReceip, r.id, c})
	if err != nil {
		return err
	}
	return putObject(ctx, r.store, receiptName(c.Scope, c.Snapshot), signed(line, domainReceipt, key))
}

// Receipts returns the receipts of a scope in the order of their snapshots' ids.
// Signatures are not checked here. One that cannot be read does not hide the
// others: they are returned with an error that names it.
func (r *Repository) Receipts(ctx context.Context, scope string) ([]Receipt, error) {
	if err := checkPart("scope", scope); err != nil {
		return nil, err
	}
	var (
		all  []Receipt
		errs []error
	)
	if err := r.eachSigned(ctx, scope, "receipts", "receipts/"+scope+"/", domainReceipt, func(name string, raw []byte) bool {
		c, err := parseReceipt(raw, r.id, name)
		if err == nil {
			all = append(all, c)
		}
		return err == nil
	}, func(name string) []byte {
		c, err := r.receipt(ctx, name)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		all = append(all, c)
		return c.raw
	}); err != nil {
		return nil, fmt.Errorf("list receipts: %w", err)
	}
	return all, errors.Join(errs...)
}

// Receipt reads one receipt. Its signature is not checked here: the caller holds the keys.
func (r *Repository) Receipt(ctx context.Context, scope, snapshot string) (Receipt, error) {
	if err := errors.Join(checkPart("scope", scope), checkSnapshotID(snapshot)); err != nil {
		return Receipt{}, err
	}
	return r.receipt(ctx, receiptName(scope, snapshot))
}

func (r *Repository) receipt(ctx context.Context, name string) (Receipt, error) {
	var c *Receipt
	err := r.instead(ctx, name, func(at string) error {
		raw, err := readObject(ctx, r.store, at, maxReceipt)
		if err != nil {
			return err
		}
		got, err := parseReceipt(raw, r.id, name)
		if err != nil {
			return err
		}
		if len(r.trust) > 0 {
			err = got.Verify(r.trust...)
		}
		if c == nil || err == nil {
			c = &got // whose signature the caller checks
		}
		return err
	})
	if c == nil {
		return Receipt{}, fmt.Errorf("receipt %q: %w", name, err)
	}
	return *c, nil
}

// RepairReceipt signs a receipt again that is damaged or missing. It is the vault's to
// know when the copy arrived.
func (r *Repository) RepairReceipt(ctx context.Context, c Receipt, key seal.SigningKey) error {
	c.Signer, c.Received = key.Name(), c.Received.UTC()
	line, err := json.Marshal(receiptLine{formatOne, typeReceip, r.id, c})
	if err != nil {
		return err
	}
	name := receiptName(c.Scope, c.Snapshot)
	return r.replace(ctx, name, signed(line, domainReceipt, key), func(at string) error {
		raw, err := readObject(ctx, r.store, at, maxReceipt)
		if err != nil {
			return err
		}
		got, err := parseReceipt(raw, r.id, name)
		if err != nil {
			return err
		}
		return got.Verify(key.Public())
	})
}

func parseReceipt(raw []byte, repository, name string) (Receipt, error) {
	line, _, err := splitSigned(raw)
	if err != nil {
		return Receipt{}, err
	}
	var l receiptLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Receipt{}, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	switch {
	case l.Format != formatOne:
		return Receipt{}, fmt.Errorf("format %d: %w", l.Format, ErrFormat)
	case l.Type != typeReceip:
		return Receipt{}, fmt.Errorf("a %q where a receipt belongs: %w", l.Type, ErrKind)
	case l.Repository != repository:
		return Receipt{}, fmt.Errorf("of repository %q: %w", l.Repository, ErrForeign)
	case receiptName(l.Scope, l.Snapshot) != name:
		return Receipt{}, fmt.Errorf("holds %q: %w", receiptName(l.Scope, l.Snapshot), ErrSubstituted)
	}
	l.raw = raw
	return l.Receipt, nil
}

// readObject reads all of an object that is at most limit bytes long.
func readObject(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	rc, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %q: more than %d bytes: %w", name, limit, ErrLimit)
	}
	return b, nil
}

// readRange reads exactly n bytes of an object.
func readRange(ctx context.Context, s Store, name string, off int64, dst []byte) error {
	rc, err := s.Get(ctx, name, off, int64(len(dst)))
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, dst); err != nil {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("ends early: %w", ErrDamaged)
		}
		return fmt.Errorf("read %q: %w", name, err)
	}
	return nil
}

// putAttempts bounds how often an object is offered to a place.
const putAttempts = 2

// putObject puts b and makes sure that it is there. After an error the outcome is
// unknown, so it re-reads before it decides: what landed is a success, what is
// absent is offered once more, and other bytes under the name are ErrConflict.
func putObject(ctx context.Context, s Store, name string, b []byte) error {
	var err error
	for range putAttempts {
		if err = s.Put(ctx, name, int64(len(b)), bytes.NewReader(b)); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		there, rerr := readObject(ctx, s, name, int64(len(b)))
		switch {
		case rerr == nil && bytes.Equal(there, b):
			return nil
		case rerr == nil || errors.Is(rerr, ErrLimit):
			return fmt.Errorf("put %q: %w", name, ErrConflict)
		}
	}
	return fmt.Errorf("put %q: %w", name, err)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
