package repo

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// A cache is what a writer remembers between runs, on its own disk: where known
// chunks lie, and the entries of its last snapshot. Nothing depends on it. A
// missing, torn or foreign cache is an empty one, and what it says about a pack
// counts only while that pack is at a place.
//
// A nil cache remembers nothing. The writer's addMu owns the reading side, its
// emitMu the list of entries, mu the file of chunks.
type cache struct {
	dir  string
	lock *durable.FileLock
	last lastSnapshot

	mu     sync.Mutex
	index  *os.File
	frame  []byte
	failed error // why nothing more is remembered

	out      *os.File
	list     *s2.Writer
	outError error

	maps     *os.File
	mapError error

	prev *previousEntries
}

// lastSnapshot names the snapshot whose entries the cache holds.
type lastSnapshot struct {
	ID     string `json:"id"`
	Hash   string `json:"hash"`
	Sorted bool   `json:"sorted"`
}

const (
	cacheChunks  = "chunks-1"
	cacheEntries = "entries-2-"
	cacheBefore  = "entries-1-" // of writers that vouched for attributes which they had not read
	cacheLast    = "last"

	recipientsPrefix = "to-"      // of the folder of a cache
	blindPrefix      = "blind-1-" // of what is remembered of a blind place

	maxFrame    = 256 << 20
	frameHeader = 4 + 32
	frameFixed  = 16 + 8 + 32 + 4
	frameChunk  = 16 + 4 + 4
	maxRestarts = 16
)

// openCache opens the cache of a scope. Another writer that holds it makes this
// run one without memory, not an error: two writers of one source are slow and
// right.
//
// Each set of recipients has a cache of its own. A snapshot that built on packs of
// another set could not be read with a new key, and could still be read with one that was
// taken out: after a rotation everything is stored anew, once. So has each epoch of the key
// that names chunks.
func openCache(dir, repository, scope string, to []seal.Recipient, epoch string) (*cache, error) {
	if dir == "" {
		return nil, nil
	}
	name := recipientSet(to)
	if epoch != "" {
		name += "." + epoch
	}
	c := &cache{dir: filepath.Join(dir, repository, scope, name)}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	var err error
	if c.lock, err = durable.Lock(filepath.Join(c.dir, "lock")); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			return nil, nil
		}
		return nil, fmt.Errorf("cache: %w", err)
	}
	if b, err := os.ReadFile(filepath.Join(c.dir, cacheLast)); err == nil {
		if json.Unmarshal(b, &c.last) != nil || checkSnapshotID(c.last.ID) != nil {
			c.last = lastSnapshot{}
		}
	}
	return c, nil
}

// recipientSet names a set of recipients, in whatever order and however often it lists them.
func recipientSet(to []seal.Recipient) string {
	var names []string
	for _, r := range to {
		names = append(names, r.String())
	}
	slices.Sort(names)
	h := seal.Hash([]byte(strings.Join(slices.Compact(names), "\n")))
	return recipientsPrefix + hex.EncodeToString(h[:8])
}

func (c *cache) lastSnapshot() lastSnapshot {
	if c == nil {
		return lastSnapshot{}
	}
	return c.last
}

// chunks loads where known chunks lie, as far as their packs are at a place, and
// opens the file for more. A torn end, or packs that are gone, are written out of
// the file first, so that they never come back.
func (c *cache) chunks(w *Writer) error {
	if c == nil {
		return nil
	}
	name := filepath.Join(c.dir, cacheChunks)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if info, err := f.Stat(); err == nil {
		if err := w.index.reserve(int(info.Size() / frameChunk)); err != nil {
			return fmt.Errorf("cache: %w", errors.Join(err, f.Close()))
		}
	}
	var full error
	clean, err := loadChunks(f, func(ref PackRef, id packID, chunks []byte) bool {
		k, ok := w.know(id, ref)
		if !ok {
			return false
		}
		for ; len(chunks) > 0; chunks = chunks[frameChunk:] {
			full = errors.Join(full, w.index.put(chunkKey(chunks), location{k, binary.BigEndian.Uint32(chunks[16:]), binary.BigEndian.Uint32(chunks[20:])}))
		}
		return true
	})
	err = errors.Join(err, full)
	if err == nil && !clean {
		f, err = c.rewrite(f, name, w)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("cache: %w", err)
	}
	c.index = f
	return nil
}

// rewrite keeps only the packs that are at a place.
func (c *cache) rewrite(old *os.File, name string, w *Writer) (*os.File, error) {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return old, err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	_, err = loadChunks(old, func(ref PackRef, id packID, chunks []byte) bool {
		if _, ok := w.byID[id]; ok {
			_, _ = out.Write(appendFrame(nil, id, ref, chunks)) // Flush returns the first error
		}
		return true
	})
	err = errors.Join(err, out.Flush(), old.Close())
	if err == nil {
		err = os.Rename(temp, name)
	}
	return f, err
}

// loadChunks reads frames until the end or the first torn one. It reports whether
// it read all of them and keep wanted every one, and leaves f at its end.
func loadChunks(f *os.File, keep func(PackRef, packID, []byte) bool) (clean bool, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	clean = true
	for {
		ref, id, chunks, err := readFrame(r)
		if err == io.EOF {
			_, err = f.Seek(0, io.SeekEnd)
			return clean, err
		}
		if err != nil {
			return false, nil // torn or foreign: forgotten from here on
		}
		if !keep(ref, id, chunks) {
			clean = false
		}
	}
}

func readFrame(r io.Reader) (ref PackRef, id packID, chunks []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return ref, id, nil, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < frameFixed || n > maxFrame || (n-frameFixed)%frameChunk != 0 {
		return ref, id, nil, ErrDamaged
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return ref, id, nil, ErrDamaged
	}
	if seal.Hash(b) != [32]byte(h[4:]) {
		return ref, id, nil, ErrDamaged
	}
	id = packID(b[:16])
	ref = PackRef{ID: id.String(), Size: int64(binary.BigEndian.Uint64(b[16:])), Hash: fmt.Sprintf("%x", b[24:56])}
	return ref, id, b[frameFixed:], nil
}

func appendFrame(dst []byte, id packID, ref PackRef, chunks []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	dst = append(dst, id[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(ref.Size))
	var hash [32]byte
	_, _ = hex.Decode(hash[:], []byte(ref.Hash)) // our own hex
	dst = append(dst, hash[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(chunks)/frameChunk))
	dst = append(dst, chunks...)
	payload := dst[at+frameHeader:]
	binary.BigEndian.PutUint32(dst[at:], uint32(len(payload)))
	sum := seal.Hash(payload)
	copy(dst[at+4:], sum[:])
	return dst
}

// addPack remembers the content chunks of a pack that landed at a place. Nothing is
// fsynced: what a crash tears is forgotten.
func (c *cache) addPack(ref PackRef, f *footer) {
	if c == nil {
		return
	}
	id, err := parsePackID(ref.ID)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil || c.index == nil {
		return
	}
	var chunks []byte
	for i, s := range f.segs {
		at := uint32(0)
		for _, k := range s.chunks {
			if s.kind == kindContent {
				chunks = append(chunks, k.id[:16]...)
				chunks = binary.BigEndian.AppendUint32(chunks, uint32(i))
				chunks = binary.BigEndian.AppendUint32(chunks, at)
			}
			at += k.n
		}
	}
	if len(chunks) == 0 {
		return
	}
	c.frame = appendFrame(c.frame[:0], id, ref, chunks)
	_, c.failed = c.index.Write(c.frame)
}

// begin opens the list of this run's entries.
func (c *cache) begin(id string) {
	if c == nil {
		return
	}
	c.out, c.outError = os.OpenFile(filepath.Join(c.dir, cacheEntries+id+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if c.outError == nil {
		c.list = s2.NewWriter(c.out, s2.WriterConcurrency(1), s2.WriterBlockSize(256<<10))
	}
	c.beginMaps(id)
}

// remember adds the lines of an entry.
func (c *cache) remember(lines []byte) {
	if c == nil || c.outError != nil {
		return
	}
	_, c.outError = c.list.Write(lines)
}

// commit makes m the snapshot that the cache remembers.
//
// A crash before the last step leaves the memory of an older snapshot, or none of
// its entries: a missing file is an empty memory.
func (c *cache) commit(m *Manifest, sorted bool) {
	if c == nil || c.outError != nil {
		return
	}
	err := errors.Join(c.list.Close(), c.out.Close())
	temp := c.out.Name()
	c.out = nil
	if err == nil {
		err = os.Rename(temp, strings.TrimSuffix(temp, ".new"))
	}
	c.commitMaps()
	if err == nil {
		var b []byte
		if b, err = json.Marshal(lastSnapshot{m.ID, m.Hash(), sorted}); err == nil {
			err = durable.WriteFile(durable.OS, filepath.Join(c.dir, cacheLast), append(b, '\n'), 0o600)
		}
	}
	if err != nil {
		return // the next run remembers less and is right
	}
	c.sweep(m.ID)
	c.sweepBefore()
}

// sweepBefore empties the caches of other recipients and epochs: what a captured key names
// must not lie about, and nothing is built on it any more. What they remember of blind
// places stays, for the chain. One that is in use is left for the next time.
func (c *cache) sweepBefore() {
	for _, dir := range c.siblings() {
		lock, err := durable.Lock(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		des, _ := os.ReadDir(dir) // what cannot be listed stays
		for _, de := range des {
			if name := de.Name(); name != "lock" && !strings.HasPrefix(name, blindPrefix) {
				_ = os.Remove(filepath.Join(dir, name))
			}
		}
		_ = lock.Unlock()
	}
}

// siblings are the folders of the other caches of the scope.
func (c *cache) siblings() (out []string) {
	des, err := os.ReadDir(filepath.Dir(c.dir))
	if err != nil {
		return nil // nothing is known of them
	}
	for _, de := range des {
		if de.IsDir() && strings.HasPrefix(de.Name(), recipientsPrefix) && de.Name() != filepath.Base(c.dir) {
			out = append(out, filepath.Join(filepath.Dir(c.dir), de.Name()))
		}
	}
	return out
}

// sweep removes what is of other snapshots than keep. The lock is held: nobody else
// writes there.
func (c *cache) sweep(keep string) {
	des, err := os.ReadDir(c.dir)
	if err != nil {
		return // they only take room
	}
	for _, de := range des {
		for _, prefix := range [...]string{cacheEntries, cacheBefore, cachePages} {
			if id, ok := strings.CutPrefix(de.Name(), prefix); ok && id != keep {
				_ = os.Remove(filepath.Join(c.dir, de.Name()))
			}
		}
	}
}

func (c *cache) close() {
	if c == nil {
		return
	}
	if c.out != nil {
		_ = c.out.Close()
		_ = os.Remove(c.out.Name())
		c.out = nil
	}
	if c.maps != nil {
		_ = c.maps.Close()
		_ = os.Remove(c.maps.Name())
		c.maps = nil
	}
	if c.prev != nil {
		c.prev.close()
		c.prev.maps.close()
		c.prev = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index != nil {
		_ = c.index.Close()
		c.index = nil
	}
	if c.lock != nil {
		_ = c.lock.Unlock()
		c.lock = nil
	}
}

// useEntries makes the remembered entries answer previous if they are the parent's.
func (c *cache) useEntries(parent *Manifest) {
	if c == nil || parent == nil || c.last.ID != parent.ID || c.last.Hash != parent.Hash() {
		return
	}
	c.prev = &previousEntries{name: filepath.Join(c.dir, cacheEntries+parent.ID), sorted: c.last.Sorted, packs: len(parent.Packs),
		maps: openPageMap(filepath.Join(c.dir, cachePages+parent.ID))}
}

func (c *cache) previous(path string) (Entry, bool) {
	if c == nil || c.prev == nil {
		return Entry{}, false
	}
	return c.prev.find(path)
}

// previousEntries answers lookups in path order by reading along, so that a
// snapshot of millions of files needs no memory. Lookups in another order, or of a
// list in another order, load all of it.
type previousEntries struct {
	name   string
	sorted bool
	packs  int
	maps   *pageMap
	use    map[[2]uint32]segmentUse // of each pack's segment, once asked for

	f        *os.File
	r        *entryReader
	cur      Entry
	more     bool // cur is valid
	asked    string
	restarts int
	all      map[string]Entry
	broken   bool
}

func (p *previousEntries) find(path string) (Entry, bool) {
	if p.broken {
		return Entry{}, false
	}
	if p.all == nil && (!p.sorted || p.restarts > maxRestarts) {
		p.load()
	}
	if p.all != nil {
		e, ok := p.all[path]
		return e, ok
	}
	if p.f == nil || comparePaths(path, p.asked) < 0 {
		if !p.restart() {
			return Entry{}, false
		}
	}
	p.asked = path
	for p.more && comparePaths(p.cur.Path, path) < 0 {
		p.next()
	}
	if p.more && p.cur.Path == path {
		return p.cur, true
	}
	return Entry{}, false
}

func (p *previousEntries) restart() bool {
	p.close()
	f, err := os.Open(p.name)
	if err != nil {
		p.broken = true
		return false
	}
	p.restarts++
	p.f, p.r = f, newEntryReader(s2.NewReader(f), p.packs)
	p.next()
	return p.more
}

func (p *previousEntries) next() {
	var err error
	p.cur, err = p.r.next()
	p.more = err == nil
	p.broken = err != nil && err != io.EOF // torn: what was read before it was right
}

func (p *previousEntries) load() {
	if !p.restart() {
		return
	}
	p.all = map[string]Entry{}
	for ; p.more; p.next() {
		p.all[p.cur.Path] = p.cur
	}
}

func (p *previousEntries) close() {
	if p.f != nil {
		_ = p.f.Close()
		p.f = nil
	}
}
