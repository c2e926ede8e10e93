package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A placeState is what a writer knows of one place during a run.
type placeState struct {
	Place
	memory *Manifest        // at a blind place: the newest snapshot that we completed there, to build on
	chain  *Manifest        // the same, to chain to: also one for other recipients
	have   map[packID]int64 // packs there when the run began, and those put since; while uploaders run, mu's
	// doomed are packs that are there and may be deleted while we run: as good as gone.
	doomed map[packID]bool
	queue  chan *parcel
	done   sync.WaitGroup

	mu  sync.Mutex
	err error // why the place is given up for this run
}

// A parcel is a finished pack on its way to all places.
type parcel struct {
	pack   *openPack
	ref    PackRef
	left   atomic.Int32 // places that have not finished with it
	landed atomic.Int32 // places that hold it
	free   func()
}

func (p *placeState) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *placeState) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// survey looks at every place: what it holds, and which snapshot of the scope is
// its newest. A place that does not answer is given up.
func (w *Writer) survey(ctx context.Context) error {
	newest := "" // object name
	at := []*placeState{}
	var err error
	if w.cache, err = openCache(w.cfg.CacheDir, w.repoID, w.cfg.Scope, w.cfg.Recipients, w.cfg.Epoch); err != nil {
		return err
	}
	for _, pl := range w.cfg.Places {
		p := &placeState{Place: pl}
		w.places = append(w.places, p)
		if pl.Repo.blind {
			if name := p.recollect(w); name != "" && name >= newest {
				if name > newest {
					newest, at = name, nil
				}
				at = append(at, p)
			}
			continue
		}
		// First what is about to be deleted: a tombstone that is published later waits
		// for the end of this run.
		var names []string
		var err error
		if p.doomed, err = pl.Repo.doomed(ctx); err == nil {
			names, err = pl.Repo.snapshotNames(ctx, w.cfg.Scope)
		}
		if err == nil {
			p.have, err = pl.Repo.packSizes(ctx)
		}
		if err != nil {
			p.fail(err)
			continue
		}
		for id := range p.doomed {
			delete(p.have, id)
		}
		if n := len(names); n > 0 && names[n-1] >= newest {
			if names[n-1] > newest {
				newest, at = names[n-1], nil
			}
			at = append(at, p)
		}
	}
	if err := w.anyPlace(); err != nil {
		w.cache.close()
		return err
	}
	w.id = idAfter(w.now, newest)
	if err := w.recall(ctx, newest, at); err != nil {
		w.index.release()
		w.cache.close()
		return err
	}
	w.cache.begin(w.id)
	return nil
}

// idAfter makes an id that sorts behind the newest one where that one was made just
// now, in the same second or by a clock slightly ahead. A clock that jumped is not
// followed: ids are the writer's claim, and the chain has the order.
func idAfter(now time.Time, newest string) string {
	const tolerated = time.Minute
	last, err := time.Parse("20060102T150405Z", strings.Split(path.Base(newest), "-")[0])
	if now = now.Truncate(time.Second); err == nil && !last.Before(now) && last.Sub(now) < tolerated {
		now = last.Add(time.Second)
	}
	return newSnapshotID(now)
}

// recall finds out what earlier snapshots left to build on.
func (w *Writer) recall(ctx context.Context, newest string, at []*placeState) error {
	if err := w.findPrevious(ctx, newest, at); err != nil {
		return err
	}
	w.findParent(ctx)
	if err := w.cache.chunks(w); err != nil {
		return err
	}
	if w.parent == nil {
		return nil
	}
	for _, ref := range w.parent.Packs {
		id, err := parsePackID(ref.ID)
		if err != nil {
			return err
		}
		w.know(id, ref)
	}
	return nil
}

// anyPlace returns nil while at least one place is left.
func (w *Writer) anyPlace() error {
	var errs []error
	for _, p := range w.places {
		err := p.failed()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("place %q: %w", p.Name, err))
	}
	return fmt.Errorf("no place is left: %w", errors.Join(errs...))
}

// findPrevious sets the hash of the scope's newest manifest, to chain to it.
func (w *Writer) findPrevious(ctx context.Context, newest string, at []*placeState) error {
	if newest == "" {
		return nil
	}
	if last := w.cache.lastSnapshot(); last.ID != "" && snapshotName(w.cfg.Scope, last.ID) == newest {
		w.before = last.Hash
		return nil
	}
	var errs []error
	for _, p := range at {
		if p.chain != nil {
			w.before = p.chain.Hash()
			return nil
		}
		m, err := p.Repo.newestWhole(ctx, w.cfg.Scope)
		if err == nil {
			w.before = m.Hash()
			return nil
		}
		errs = append(errs, err)
	}
	// The chain would lose a link: loud rather than quietly a new beginning.
	return fmt.Errorf("predecessor: %w", errors.Join(errs...))
}

// maxBack is how many damaged manifests are passed over for one that can be chained to.
const maxBack = 10

// newestWhole reads the newest manifest of a scope that is whole. One that ends early, or
// is half, would give the chain a link that nothing ever fits: it is passed over, and
// whoever reads the list names it.
func (r *Repository) newestWhole(ctx context.Context, scope string) (*Manifest, error) {
	names, err := r.snapshotNames(ctx, scope)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("snapshots of %q are not listed any more: %w", scope, ErrIncompleteList)
	}
	var errs []error
	for _, name := range slices.Backward(names) {
		m, err := r.manifest(ctx, name)
		if err == nil {
			return m, nil
		}
		errs = append(errs, err)
		if !IsDamage(err) && !errors.Is(err, fs.ErrNotExist) || len(errs) == maxBack {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// findParent takes the configured parent, or the one that the cache remembers if
// a place still holds it.
func (w *Writer) findParent(ctx context.Context) {
	last := w.cache.lastSnapshot()
	if w.parent = w.cfg.Parent; w.parent == nil && last.ID != "" {
		for _, p := range w.places {
			if p.failed() != nil {
				continue
			}
			m, err := p.memory, error(nil)
			if m == nil {
				m, err = p.Repo.Manifest(ctx, w.cfg.Scope, last.ID)
			}
			if err == nil && m.Hash() == last.Hash {
				w.parent = m
				break
			}
		}
	}
	w.cache.useEntries(w.parent)
}

// know records a pack of an earlier snapshot if it is at a place now from which those
// that lack it can be given it, and returns
// its index.
func (w *Writer) know(id packID, ref PackRef) (uint32, bool) {
	if k, ok := w.byID[id]; ok {
		return k, true
	}
	live, holders, readable := 0, 0, false
	for _, p := range w.places {
		if p.failed() != nil {
			continue
		}
		live++
		if size, ok := p.have[id]; ok && size == ref.Size {
			holders++
			readable = readable || !p.Repo.blind
		}
	}
	// From a blind place nothing can be copied to one that lacks it.
	if holders == 0 || holders < live && !readable {
		return 0, false
	}
	k := uint32(len(w.known))
	w.known = append(w.known, knownPack{id: id, ref: ref, number: -1})
	w.byID[id] = k
	return k, true
}

// start lets packs go to the place, some at a time: while one waits for the disk to
// confirm its name, or for a far end to answer, the next one's bytes flow.
func (p *placeState) start(w *Writer) {
	p.queue = make(chan *parcel, dataBuffers+1)
	for range uploads {
		p.done.Go(func() {
			for c := range p.queue {
				p.put(w, c)
			}
		})
	}
}

// put brings one pack to the place unless that is given up.
func (p *placeState) put(w *Writer, c *parcel) {
	if p.failed() == nil && w.ctx.Err() == nil {
		// A crash before, in or behind this leaves a pack that no manifest names.
		if err := putObject(w.ctx, p.Repo.store, c.pack.id.object(), c.pack.buf); err != nil {
			p.fail(err)
		} else {
			p.mu.Lock()
			p.have[c.pack.id] = c.ref.Size
			p.mu.Unlock()
			c.landed.Add(1)
		}
	}
	if c.left.Add(-1) == 0 {
		w.delivered(c)
	}
}

func (p *placeState) stop() {
	if p.queue != nil {
		close(p.queue)
		p.done.Wait()
		p.queue = nil
	}
}

// upload offers a finished pack to all places.
func (w *Writer) upload(p *openPack, ref PackRef, free func()) {
	c := &parcel{pack: p, ref: ref, free: free}
	c.left.Store(int32(len(w.places)))
	for _, pl := range w.places {
		pl.queue <- c // an uploader always takes: it drops what it cannot store
	}
}

// delivered runs when the last place has finished with a pack.
func (w *Writer) delivered(c *parcel) {
	if c.landed.Load() > 0 {
		w.cache.addPack(c.ref, &c.pack.footer)
	} else if err := w.anyPlace(); err != nil {
		w.fail(err)
	}
	c.free()
}

// Finish stores what is left, and puts the manifest at every place that then holds
// every pack. It succeeds if the snapshot is complete at one place at least; the
// copies say where. The writer cannot be used afterwards.
//
// A crash anywhere before a manifest is put leaves nothing listed there.
func (w *Writer) Finish(ctx context.Context) (*Manifest, []Copy, error) {
	w.addMu.Lock()
	defer w.addMu.Unlock()
	if err := w.ready(ctx); err != nil {
		w.shut()
		return nil, w.copies(err), err
	}
	m, err := w.finish(ctx)
	if err != nil {
		err = fmt.Errorf("write snapshot of %q: %w", w.cfg.Scope, err)
		w.fail(err)
		w.shut()
		return nil, w.copies(err), err
	}
	copies := w.copies(nil)
	if err := w.anyPlace(); err != nil {
		w.shut()
		return nil, copies, fmt.Errorf("write snapshot of %q: %w", w.cfg.Scope, err)
	}
	w.cache.commit(m, !w.emit.unsorted)
	w.shut()
	return m, copies, nil
}

func (w *Writer) finish(ctx context.Context) (*Manifest, error) {
	if err := w.flush(ctx); err != nil {
		return nil, err
	}
	close(w.bundles)
	w.workers.Wait()
	w.bundles = make(chan *job) // shut closes it
	if err := w.err(); err != nil {
		return nil, err
	}
	root, err := w.finishEntries()
	if err != nil {
		return nil, err
	}
	for _, b := range []*builder{w.data, w.meta} {
		b.mu.Lock()
		b.closeCurrent()
		b.mu.Unlock()
	}
	w.packing.Wait()
	for _, p := range w.places {
		p.stop()
	}
	if err := w.err(); err != nil {
		return nil, err
	}
	m, err := w.manifest(root)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for _, p := range w.places {
		if p.failed() == nil {
			all.Go(func() {
				if err := w.complete(ctx, p, m); err != nil {
					p.fail(err)
				}
			})
		}
	}
	all.Wait()
	return m, nil
}

// manifest makes and signs the manifest.
func (w *Writer) manifest(root RootRef) (*Manifest, error) {
	m := &Manifest{
		Format: formatOne, Type: typeSnap, Repository: w.repoID, Scope: w.cfg.Scope, Kind: w.cfg.Kind, ID: w.id, Previous: w.before,
		Created: w.now, Labels: w.labels, Files: w.emit.files, Bytes: w.emit.bytes, Root: root, Signer: w.cfg.Signer.Name(),
	}
	if len(m.Labels) > maxLabels {
		return nil, fmt.Errorf("%d labels: %w", len(m.Labels), ErrLimit)
	}
	for _, k := range w.table {
		m.Packs = append(m.Packs, w.known[k].ref)
	}
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	m.raw = signed(line, domainManifest, w.cfg.Signer)
	if len(m.raw) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes: %w", len(m.raw), ErrLimit)
	}
	return parseManifest(m.raw) // what was written is what will be read
}

// complete brings packs of earlier snapshots that the place lacks, then lists the
// snapshot there.
func (w *Writer) complete(ctx context.Context, p *placeState, m *Manifest) error {
	for _, k := range w.table {
		kp := &w.known[k]
		size, ok := p.have[kp.id]
		if ok && size == kp.ref.Size {
			continue
		}
		if p.doomed[kp.id] {
			return fmt.Errorf("%q: %w", kp.id.object(), ErrDoomed)
		}
		if ok { // it is never overwritten: a repair is somebody's decision
			return &MissingError{Snapshot: m.ID, Objects: []Missing{{Name: kp.id.object(), Want: kp.ref.Size, Have: size}}}
		}
		if err := w.fetchFor(ctx, p, kp); err != nil {
			return fmt.Errorf("pack %s of an earlier snapshot: %w", kp.id, err)
		}
	}
	// The wall clock, which goes on while a machine sleeps: what we built on may have
	// become garbage and be gone.
	if took := w.cfg.Clock().Sub(w.now); took > MaxRun {
		return fmt.Errorf("begun %s ago, and %s is the most: %w", took.Round(time.Minute), MaxRun, ErrLate)
	}
	if err := putObject(ctx, p.Repo.store, m.Object(), m.raw); err != nil {
		return err
	}
	if p.Repo.blind {
		w.cache.complete(p.Name, m)
	}
	return nil
}

// fetchFor copies a pack from any other place.
func (w *Writer) fetchFor(ctx context.Context, to *placeState, kp *knownPack) error {
	var errs []error
	for _, from := range w.places {
		if from == to || from.Repo.blind || from.failed() != nil {
			continue
		}
		// Only survey and the uploaders wrote to have, and they have ended.
		if size, ok := from.have[kp.id]; !ok || size != kp.ref.Size {
			continue
		}
		err := copyPack(ctx, from.Repo, to.Repo, kp.id, kp.ref)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return &MissingError{Snapshot: w.id, Objects: []Missing{{Name: kp.id.object(), Want: kp.ref.Size, Have: -1}}}
	}
	return errors.Join(errs...)
}

// copies tells each place's fate; all is why none of them has the snapshot.
func (w *Writer) copies(all error) []Copy {
	var out []Copy
	for _, p := range w.places {
		c := Copy{Place: p.Name, Err: p.failed()}
		if c.Err == nil {
			c.Err = all
		}
		out = append(out, c)
	}
	return slices.Clip(out)
}
