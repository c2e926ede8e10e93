package repo

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"holdfast/internal/seal"
)

// A Place is one location's copy of the repository.
type Place struct {
	Name string
	Repo *Repository
}

// WriterConfig says what a writer writes, where to, and for whom.
type WriterConfig struct {
	// Places get the snapshot independently. They hold the same repository id.
	Places []Place

	Scope string // whose snapshots these are: one source
	Kind  string // what the content is, e.g. "files"

	// Recipients can read the snapshot. At least two, so that a lost key does not
	// lose the copies, unless AllowOne is set.
	Recipients []seal.Recipient
	AllowOne   bool

	Signer seal.SigningKey
	MAC    seal.MACKey // scoped to the source: names chunks and places cuts

	// Epoch names the time in which MAC is used. What the cache remembers of another
	// epoch is not built on: after a change of the key everything is stored anew, once,
	// and nothing new rests on chunks that the old key names. Empty: the first.
	Epoch string

	// CacheDir holds what the writer remembers between runs: which chunks are
	// stored, and the entries of its last snapshot. It may be lost at any time,
	// which costs time and space and nothing else. Empty: nothing is remembered.
	CacheDir string

	// Parent is the snapshot whose extents AddExtents and Overlay refer to. Nil
	// means the last one that the cache remembers, if it is still at a place.
	Parent *Manifest

	Codec    Codec            // zstd unless said otherwise
	Workers  int              // compressing goroutines; as many as cores if 0
	PackSize int              // 0: 4 MiB, and 32 MiB behind the first thousand packs of a store
	Clock    func() time.Time // time.Now if nil
}

const (
	// A small store is written in little memory, a big one in few objects.
	packSmall       = 4 << 20
	packTarget      = 32 << 20
	packsSmall      = 1000
	metaTarget      = 8 << 20
	packSlack       = 24 << 20 // a segment, its footer and padding beyond the target
	bundleSize      = 1 << 20  // how much plain text is compressed in one piece
	maxBundleChunks = 4096
	maxWaiting      = 8192 // entries that wait for a chunk before the bundle is sent off
	maxPlaces       = 32
	uploads         = 2 // packs on their way to one place at once
	dataBuffers     = uploads + 1
	readBuffer      = 3 * pageChunk
)

// Stats count what a writer did.
type Stats struct {
	Files       int64 // entries added
	BytesRead   int64 // plain bytes given to the writer
	BytesNew    int64 // plain bytes that no earlier chunk held
	BytesStored int64 // bytes of new packs, for one place
}

// A Copy is how a snapshot ended at one place.
type Copy struct {
	Place string
	Err   error // nil: complete there
}

// A Writer makes one snapshot. Add, AddExtents and Overlay may be called from
// several goroutines and take turns; entries are listed in the order of the calls.
//
// Compressing, sealing, checking and uploading go on in the background. The first
// error that concerns all places ends the writer and is returned by every later
// call; an error of one place ends that place only.
type Writer struct {
	cfg    WriterConfig
	id     string
	now    time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	repoID string
	places []*placeState
	parent *Manifest
	before string // hash of the scope's newest manifest
	cache  *cache
	cutter *cutter
	pages  *seal.PageHasher

	addMu  sync.Mutex // the reading side: everything down to labels
	bundle *job
	rbuf   []byte // of readPages
	hash   hash.Hash
	closed bool
	labels map[string]string

	spare   chan *job // that nobody uses now
	bundles chan *job // to hashFiles
	jobs    chan *job // from there to the workers
	workers sync.WaitGroup

	mu      sync.Mutex // chunks and packs
	index   index
	flights map[chunkKey]*flight
	known   []knownPack
	byID    map[packID]uint32 // index in known
	table   []uint32          // the manifest's pack table: indexes in known
	stats   Stats

	emitMu sync.Mutex // the list of entries
	emit   emitter

	data, meta *builder
	packing    sync.WaitGroup // packs between builder and upload
}

// A knownPack is a pack that the snapshot may refer to.
type knownPack struct {
	id     packID
	ref    PackRef
	number int32 // in the manifest's table; -1 until something refers to it
	mine   bool  // written in this run
}

// NewWriter begins a snapshot. It looks at every place; one that does not answer
// is given up for this run, and it is an error only if none is left.
func NewWriter(ctx context.Context, cfg WriterConfig) (*Writer, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("write snapshot of %q: %w", cfg.Scope, err)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	target, room := func() int { return cfg.PackSize }, cfg.PackSize
	w := &Writer{
		cfg: cfg, now: cfg.Clock().UTC(), repoID: cfg.Places[0].Repo.id, cutter: newCutter(cfg.MAC), hash: seal.NewHash(), pages: seal.NewPageHasher(cfg.MAC), labels: map[string]string{},
		spare: make(chan *job, cfg.jobs()), bundles: make(chan *job, hashAhead), jobs: make(chan *job, workAhead), flights: map[chunkKey]*flight{}, byID: map[packID]uint32{},
	}
	err := w.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("write snapshot of %q: %w", cfg.Scope, err)
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if w.bundle, err = w.newJob(); err != nil {
		w.index.release()
		w.cache.close()
		return nil, fmt.Errorf("write snapshot of %q: %w", cfg.Scope, err)
	}
	if room <= 0 {
		target, room = w.packTarget, packTarget
	}
	w.data = newBuilder(w, target, room, dataBuffers)
	meta := min(room, metaTarget)
	w.meta = newBuilder(w, func() int { return meta }, meta, 1)
	for _, p := range w.places {
		p.start(w)
	}
	w.workers.Go(w.hashFiles)
	for range cfg.Workers {
		w.workers.Go(w.work)
	}
	return w, nil
}

// packTarget is how long the next pack shall be.
func (w *Writer) packTarget() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) <= packsSmall {
		return packSmall
	}
	return packTarget
}

func (c *WriterConfig) check() error {
	if err := checkPart("scope", c.Scope); err != nil {
		return err
	}
	if c.Epoch != "" {
		if err := checkPart("epoch", c.Epoch); err != nil {
			return err
		}
	}
	if err := c.Codec.check(); err != nil {
		return err
	}
	if len(c.Places) == 0 || len(c.Places) > maxPlaces {
		return fmt.Errorf("%d places: want 1 to %d", len(c.Places), maxPlaces)
	}
	for _, p := range c.Places {
		if p.Repo.id != c.Places[0].Repo.id {
			return fmt.Errorf("place %q holds repository %q, place %q holds %q: %w", p.Name, p.Repo.id, c.Places[0].Name, c.Places[0].Repo.id, ErrForeign)
		}
	}
	if c.PackSize > maxPack/2 {
		return fmt.Errorf("packs of %d bytes: %w", c.PackSize, ErrLimit)
	}
	return checkRecipients(c.Recipients, c.AllowOne)
}

func checkRecipients(to []seal.Recipient, allowOne bool) error {
	distinct := map[seal.Recipient]bool{}
	for _, r := range to {
		distinct[r] = true
	}
	if len(distinct) >= 2 || len(distinct) == 1 && allowOne {
		return seal.CheckRecipients(slices.Collect(maps.Keys(distinct)))
	}
	return fmt.Errorf("%d distinct recipients: %w", len(distinct), ErrRecipients)
}

// ID returns the id under which the snapshot will be listed.
func (w *Writer) ID() string { return w.id }

// Parent returns the snapshot that AddExtents, Overlay and Previous refer to, or nil.
func (w *Writer) Parent() *Manifest { return w.parent }

// Anew reports whether the scope has snapshots and nothing of them is built on: the
// recipients or the epoch of the key that names chunks are others than before, or what the
// writer remembers was lost.
func (w *Writer) Anew() bool { return w.before != "" && w.cache.lastSnapshot().ID == "" }

// Stats returns what the writer did so far.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// SetLabel records a fact about the snapshot, in the clear.
func (w *Writer) SetLabel(k, v string) {
	w.addMu.Lock()
	defer w.addMu.Unlock()
	w.labels[k] = v
}

// Label returns a label that was set.
func (w *Writer) Label(k string) string {
	w.addMu.Lock()
	defer w.addMu.Unlock()
	return w.labels[k]
}

// fail ends the writer: whatever waits stops waiting.
func (w *Writer) fail(err error) { w.cancel(err) }

// err is why the writer cannot go on.
func (w *Writer) err() error {
	if w.ctx.Err() == nil {
		return nil
	}
	return context.Cause(w.ctx)
}

func (w *Writer) ready(ctx context.Context) error {
	if w.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.err()
}

// Add adds an entry. The content of a file is read to its end here; its size and
// hash are set from what was read. content is nil for everything else.
//
// If reading fails the entry is left out and the error returned; the writer stays
// usable. Whether a snapshot without that file is worth finishing is the caller's
// decision, and so is what to do with a file that changed: a reader that notices
// returns an error at the end.
func (w *Writer) Add(ctx context.Context, e Entry, content io.Reader) error {
	if err := e.check(); err != nil {
		return err
	}
	w.addMu.Lock()
	defer w.addMu.Unlock()
	if err := w.ready(ctx); err != nil {
		return err
	}
	e.Extents, e.Hash = nil, nil
	if e.Cut == "" {
		e.Cut = CutContent
	}
	p := w.begin(e)
	var err error
	if e.Type == TypeFile {
		p.e.Size = 0
		if content != nil {
			err = w.read(ctx, p, content)
		} else {
			p.e.Hash = w.sum()
		}
	}
	w.end(p, err != nil)
	if err != nil {
		return fmt.Errorf("add %q: %w", e.Path, err)
	}
	return nil
}

func (w *Writer) sum() []byte {
	w.hash.Reset()
	return w.hash.Sum(nil)
}

// AddExtents adds a file whose content is that of the parent snapshot: no byte is
// read. e.Hash is kept; give the parent entry's.
func (w *Writer) AddExtents(ctx context.Context, e Entry, parent []Extent) error {
	return w.Overlay(ctx, e, parent, nil)
}

// A Page is a run of a file that changed since the parent snapshot.
type Page struct {
	Offset int64
	Data   []byte // valid until the next one is asked for; at most 1 MiB
}

// Overlay adds a file as the parent's extents with changed pages laid over them.
// What lies behind e.Size is cut off. If pages yields an error the entry is left
// out and the error returned. With pages e.Hash is dropped, since nobody read the
// whole file.
func (w *Writer) Overlay(ctx context.Context, e Entry, parent []Extent, pages iter.Seq2[Page, error]) error {
	return w.overlay(ctx, e, parent, pages, func() bool { return pages != nil })
}

// overlay is Overlay. changed is asked once all pages were given: whether the file is
// another than the parent's.
func (w *Writer) overlay(ctx context.Context, e Entry, parent []Extent, pages iter.Seq2[Page, error], changed func() bool) error {
	if e.Type != TypeFile {
		return fmt.Errorf("add %q: extents of a %s: %w", e.Path, e.Type, ErrKind)
	}
	e.Extents = nil
	if err := e.check(); err != nil {
		return err
	}
	w.addMu.Lock()
	defer w.addMu.Unlock()
	if err := w.ready(ctx); err != nil {
		return err
	}
	base, err := w.adopt(parent)
	if err != nil {
		return fmt.Errorf("add %q: %w", e.Path, err)
	}
	if e.Cut == "" {
		e.Cut = CutPages
	}
	p := w.begin(e)
	covered, err := w.readOverlay(ctx, p, pages)
	w.emitMu.Lock()
	if changed() {
		p.e.Hash = nil
	}
	p.e.Extents = append(p.e.Extents, subtract(base, covered, e.Size)...)
	w.emitMu.Unlock()
	w.end(p, err != nil)
	if err != nil {
		return fmt.Errorf("add %q: %w", e.Path, err)
	}
	return nil
}

// AddUnchanged adds e with the content and the extended attributes that its path had
// in the last snapshot, if size, modification time, change time and inode are the same, and reports
// whether it did. If not, the caller reads the file and calls Add.
func (w *Writer) AddUnchanged(ctx context.Context, e Entry) (bool, error) {
	old, ok := w.Previous(e.Path)
	if !ok || e.Type != TypeFile || old.Type != TypeFile || old.Size != e.Size || !old.ModTime.Equal(e.ModTime) ||
		!old.ChangeTime.Equal(e.ChangeTime) || old.Inode != e.Inode || e.ChangeTime.IsZero() {
		return false, nil
	}
	e.Hash, e.Cut, e.Sparse, e.Xattrs = old.Hash, old.Cut, old.Sparse, old.Xattrs
	err := w.AddExtents(ctx, e, old.Extents)
	if errors.Is(err, ErrParentGone) {
		return false, nil
	}
	return err == nil, err
}

// Previous returns the entry that path had in the parent snapshot, from the local
// cache. Asking in the order of a sorted walk is cheap; other orders are answered
// as long as the parent was written in no order either.
func (w *Writer) Previous(path string) (Entry, bool) {
	w.addMu.Lock()
	defer w.addMu.Unlock()
	if w.cache == nil || w.closed {
		return Entry{}, false
	}
	return w.cache.previous(path)
}

// adopt turns extents of the parent into extents of this snapshot.
func (w *Writer) adopt(parent []Extent) ([]Extent, error) {
	if len(parent) == 0 {
		return nil, nil
	}
	if w.parent == nil {
		return nil, fmt.Errorf("no parent snapshot: %w", ErrParentGone)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Extent, len(parent))
	for i, x := range parent {
		if int64(x.Pack) >= int64(len(w.parent.Packs)) {
			return nil, fmt.Errorf("extent in pack %d of %d: %w", x.Pack, len(w.parent.Packs), ErrDamaged)
		}
		k, ok := w.parentPack(x.Pack)
		if !ok {
			return nil, fmt.Errorf("pack %s: %w", w.parent.Packs[x.Pack].ID, ErrParentGone)
		}
		out[i] = x
		out[i].Pack = w.number(k)
	}
	return out, nil
}

// parentPack returns which known pack the parent's pack n is, if it lies at a place.
// The caller holds mu.
func (w *Writer) parentPack(n uint32) (uint32, bool) {
	if w.parent == nil || int64(n) >= int64(len(w.parent.Packs)) {
		return 0, false
	}
	id, err := parsePackID(w.parent.Packs[n].ID)
	if err != nil {
		return 0, false
	}
	k, ok := w.byID[id]
	return k, ok
}

// number returns a known pack's number in the manifest's table. The caller holds mu.
func (w *Writer) number(k uint32) uint32 {
	p := &w.known[k]
	if p.number < 0 {
		p.number = int32(len(w.table))
		w.table = append(w.table, k)
	}
	return uint32(p.number)
}

// Abort gives the snapshot up. Packs that were uploaded stay; a later run of the
// same source finds their chunks. It may be called at any time, also after Finish.
func (w *Writer) Abort() {
	w.cancel(errors.New("aborted"))
	w.addMu.Lock()
	defer w.addMu.Unlock()
	w.shut()
}

// shut ends all goroutines and frees what they held. The caller holds addMu.
func (w *Writer) shut() {
	if w.closed {
		return
	}
	w.closed = true
	w.cancel(ErrClosed)
	close(w.bundles)
	w.workers.Wait()
	w.packing.Wait()
	for _, p := range w.places {
		p.stop()
	}
	w.freeJob(w.bundle)
	close(w.spare)
	for j := range w.spare {
		deallocate(j.room)
	}
	deallocate(w.rbuf)
	w.data.release()
	w.meta.release()
	w.index.release()
	w.cache.close()
}
