package repo

import (
	"encoding/binary"
	"unsafe"
)

// An index says where known chunks lie: 28 bytes each, outside of the garbage
// collector's heap, so that a terabyte of chunks takes 80 MB and not twice that.
//
// It is an open table with linear probing. Keys are keyed hashes: spread evenly, and
// not to be chosen by whoever writes the files. Nothing is ever removed.
type index struct {
	slots []slot
	room  []byte // behind slots
	n     int
}

type slot struct {
	key chunkKey
	at  location // pack is one more than the number; 0 is a free slot
}

const (
	slotLen       = int(unsafe.Sizeof(slot{}))
	indexFirst    = 1 << 12
	indexFullPart = 4 // one slot in so many stays free
)

func (x *index) len() int { return x.n }

// reserve makes room for n chunks in all.
func (x *index) reserve(n int) error {
	want := n + n/(indexFullPart-1) + indexFirst
	if want <= len(x.slots) {
		return nil
	}
	room, err := allocate(want * slotLen)
	if err != nil {
		return err
	}
	old := *x
	x.room, x.slots = room, unsafe.Slice((*slot)(unsafe.Pointer(unsafe.SliceData(room))), want)
	for i := range old.slots {
		if s := &old.slots[i]; s.at.pack != 0 {
			*x.find(&s.key) = *s
		}
	}
	old.release()
	return nil
}

// find returns the slot of a key, or the free one where it belongs.
func (x *index) find(key *chunkKey) *slot {
	// The high half of a product spreads the hash over any number of slots.
	i := int(uint64(binary.BigEndian.Uint32(key[:])) * uint64(len(x.slots)) >> 32)
	for {
		s := &x.slots[i]
		if s.at.pack == 0 || s.key == *key {
			return s
		}
		if i++; i == len(x.slots) {
			i = 0
		}
	}
}

// get says where a chunk lies.
func (x *index) get(key chunkKey) (location, bool) {
	if x.n == 0 {
		return location{}, false
	}
	l := x.find(&key).at
	l.pack--
	return l, l.pack != ^uint32(0)
}

// put notes where a chunk lies; the last word counts.
func (x *index) put(key chunkKey, l location) error {
	if x.n+x.n/(indexFullPart-1) >= len(x.slots)-1 {
		if err := x.reserve(x.n + x.n/2 + 1); err != nil {
			return err
		}
	}
	s := x.find(&key)
	if s.at.pack == 0 {
		s.key = key
		x.n++
	}
	l.pack++
	s.at = l
	return nil
}

// release frees the table. Nothing may use it any more.
func (x *index) release() {
	if x.room != nil {
		deallocate(x.room)
	}
	*x = index{}
}
