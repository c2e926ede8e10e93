package repo

import (
	"encoding/json"
	"fmt"
	"slices"
)

// An emitter writes the list of entries in the order in which they were added.
// The writer's emitMu owns it.
type emitter struct {
	queue    []*pending
	list     []byte
	first    string // path of the first entry that begins in list
	begun    bool   // whether one does
	lines    int
	last     string
	unsorted bool
	files    int64
	bytes    int64
	segments []rootEntries
}

// A root lists the segments that hold the entries.
type root struct {
	Format  int           `json:"format"`
	Scope   string        `json:"scope"`
	Kind    string        `json:"kind"`
	ID      string        `json:"id"`
	Sorted  bool          `json:"sorted"`
	Files   int64         `json:"files"`
	Bytes   int64         `json:"bytes"`
	Entries []rootEntries `json:"entries"`
}

type rootEntries struct {
	Pack    uint32 `json:"pack"`
	Segment uint32 `json:"segment"`
	Size    int    `json:"size"`
	Lines   int    `json:"lines"`
	First   *text  `json:"first,omitempty"`
}

func (t text) MarshalJSON() ([]byte, error) { return appendText(nil, string(t)), nil }

// A cut is a piece of the entry list on its way to its segment.
type cut struct {
	slot  int
	plain []byte
}

// drain writes out the entries at the head of the queue that wait for nothing,
// and returns the pieces of the list that are full. The caller holds emitMu.
func (w *Writer) drain() []cut {
	em := &w.emit
	n := 0
	var cuts []cut
	for ; n < len(em.queue) && em.queue[n].remaining == 0; n++ {
		p := em.queue[n]
		em.queue[n] = nil
		if p.drop {
			continue
		}
		e := &p.e
		slices.SortFunc(e.Extents, func(a, b Extent) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
		e.Extents = joinExtents(e.Extents)
		if em.files > 0 && comparePaths(em.last, e.Path) >= 0 {
			em.unsorted = true
		}
		em.last = e.Path
		em.files++
		em.bytes += e.Size
		if !em.begun {
			em.first, em.begun = e.Path, true
		}
		at := len(em.list)
		em.list = appendEntry(em.list, e)
		em.lines += 1 + max(0, (len(e.Extents)-1)/extentsPerLine)
		w.cache.remember(em.list[at:])
		for len(em.list) >= bundleSize {
			cuts = append(cuts, em.cut(bundleSize))
		}
	}
	em.queue = em.queue[n:]
	return cuts
}

// cut takes the first lines off the list: at least n bytes of them, or all.
func (em *emitter) cut(n int) cut {
	end := len(em.list)
	if n < end {
		end = n - 1
		for em.list[end] != '\n' {
			end++
		}
		end++
	}
	c := cut{slot: len(em.segments), plain: slices.Clone(em.list[:end])}
	lines := 0
	for _, b := range c.plain {
		if b == '\n' {
			lines++
		}
	}
	r := rootEntries{Size: end, Lines: lines}
	if em.begun {
		first := text(em.first)
		r.First = &first
	}
	em.segments = append(em.segments, r)
	em.list = em.list[:copy(em.list, em.list[end:])]
	em.lines -= lines
	em.begun = false // what is left can only continue the last entry
	return c
}

// storeEntries puts pieces of the entry list into segments.
func (w *Writer) storeEntries(cuts []cut) {
	for _, c := range cuts {
		l, err := w.storeMeta(kindEntries, c.plain)
		if err != nil {
			w.fail(err)
			return
		}
		w.mu.Lock()
		pack := w.number(l.pack)
		w.mu.Unlock()
		w.emitMu.Lock()
		w.emit.segments[c.slot].Pack, w.emit.segments[c.slot].Segment = pack, l.segment
		w.emitMu.Unlock()
	}
}

func (w *Writer) storeMeta(kind uint8, plain []byte) (location, error) {
	if len(plain) > maxPlain {
		return location{}, fmt.Errorf("snapshot %q: a root or entry of %d bytes: %w", w.id, len(plain), ErrLimit)
	}
	stored, code := compress(nil, plain, Zstd)
	if err := proofread(nil, plain, stored, code); err != nil {
		return location{}, err
	}
	return w.meta.put(kind, len(plain), stored, code, []chunk{{w.cfg.MAC.ID(plain), uint32(len(plain))}})
}

// finishEntries writes the rest of the list and the root, and returns where it lies.
func (w *Writer) finishEntries() (RootRef, error) {
	w.emitMu.Lock()
	var cuts []cut
	if len(w.emit.list) > 0 {
		cuts = append(cuts, w.emit.cut(len(w.emit.list)))
	}
	left := len(w.emit.queue)
	w.emitMu.Unlock()
	w.storeEntries(cuts)
	if err := w.err(); err != nil {
		return RootRef{}, err
	}
	if left > 0 {
		panic(fmt.Sprintf("repo: %d entries wait for chunks though all workers have ended", left))
	}
	em := &w.emit
	b, err := json.Marshal(root{formatOne, w.cfg.Scope, w.cfg.Kind, w.id, !em.unsorted, em.files, em.bytes, em.segments})
	if err != nil {
		return RootRef{}, err
	}
	l, err := w.storeMeta(kindRoot, b)
	if err != nil {
		return RootRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return RootRef{w.number(l.pack), l.segment}, nil
}
