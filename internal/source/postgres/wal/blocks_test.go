package wal

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// A record as the server writes it: headers of blocks, then the header of the main part,
// then what they announce.
type madeRecord struct {
	heads, data []byte
	main        []byte
}

func (m *madeRecord) block(id byte, rel *Relation, fork Fork, block uint32, data int) {
	flags := byte(fork)
	if rel == nil {
		flags |= 0x80
	}
	m.heads = binary.LittleEndian.AppendUint16(append(m.heads, id, flags), uint16(data))
	if rel != nil {
		for _, n := range []uint32{rel.Tablespace, rel.Database, rel.File} {
			m.heads = binary.LittleEndian.AppendUint32(m.heads, n)
		}
	}
	m.heads = binary.LittleEndian.AppendUint32(m.heads, block)
	m.data = append(m.data, bytes.Repeat([]byte{0xFE}, data)...)
}

func (m *madeRecord) record(rmgr, info uint8) Record {
	b := m.heads
	if len(m.main) > 0 {
		b = append(b, 255, byte(len(m.main)))
	}
	b = append(append(b, m.data...), m.main...)
	return Record{Rmgr: rmgr, Info: info, Magic: 0xD110, Length: uint32(recordHeader + len(b)), Body: b[:min(len(b), KeepBlocks)]}
}

func numbers(ns ...uint32) (b []byte) {
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

func TestBlockSet(t *testing.T) {
	table, index := Relation{1663, 5, 16384}, Relation{1663, 5, 16390}
	update := madeRecord{main: make([]byte, 14)}
	update.block(0, &table, MainFork, 7, 5000)
	update.block(1, nil, MainFork, 100_000, 0)
	update.block(2, &index, MainFork, 3, 40)
	image := madeRecord{} // of nothing but a block: no main part follows
	image.block(0, &index, MainFork, 9, 8192)
	visible := madeRecord{main: make([]byte, 8)}
	visible.block(0, &table, VisibilityFork, 2, 0)
	var s BlockSet
	for _, r := range []Record{
		update.record(rmgrHeap, heapUpdate), image.record(rmgrXLog, xlogPageImage), visible.record(rmgrHeap2, 0x40),
		(&madeRecord{main: numbers(40, 1663, 5, 16400, 7)}).record(rmgrStorage, 0x20),         // cut off
		(&madeRecord{main: numbers(1663, 5, 16410, 0)}).record(rmgrStorage, storageCreate),    // made
		(&madeRecord{main: numbers(77, 1663, 1, 1663)}).record(rmgrDatabase, databaseCreate),  // by copying files
		(&madeRecord{main: numbers(78, 1663)}).record(rmgrDatabase, databaseCreateLogged),     // by its log
		(&madeRecord{main: numbers(1, 79, 1663)}).record(rmgrDatabase, databaseDrop15),        // changes nothing that is left
		{Rmgr: rmgrXLog, Info: xlogSwitch, Magic: 0xD110, Length: recordHeader, Body: nil},    // no body at all
		(&madeRecord{main: make([]byte, 80)}).record(rmgrXLog, xlogShutdownCheckpoint),        // no blocks
		(&madeRecord{main: append(numbers(0, 0), 'a', 0)}).record(rmgrXLog, xlogRestorePoint), // no blocks
	} {
		if err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, s *BlockSet) {
		for _, tt := range []struct {
			rel   Relation
			fork  Fork
			block uint32
			want  bool
		}{
			{table, MainFork, 7, true}, {table, MainFork, 100_000, true}, {table, MainFork, 8, false}, {table, MainFork, 100_000 - 8192, false},
			{index, MainFork, 3, true}, {index, MainFork, 9, true}, {index, MainFork, 0, false}, {table, InitFork, 7, false},
			{table, VisibilityFork, 50, true}, {table, FreeSpaceFork, 50, true}, // nobody knows
			{Relation{1663, 5, 16400}, MainFork, 39, false}, {Relation{1663, 5, 16400}, MainFork, 40, true}, {Relation{1663, 5, 16400}, MainFork, 1 << 31, true},
			{Relation{1663, 5, 16410}, MainFork, 0, true}, {Relation{1663, 77, 1}, MainFork, 5, true}, {Relation{1663, 78, 1}, MainFork, 5, true},
			{Relation{1663, 79, 1}, MainFork, 5, false}, {Relation{1664, 77, 1}, MainFork, 5, false},
		} {
			if got := s.Has(tt.rel, tt.fork, tt.block); got != tt.want {
				t.Errorf("%s: %v fork %d block %d: %t", name, tt.rel, tt.fork, tt.block, got)
			}
		}
	}
	check("added", &s)
	read, err := ParseBlockSet(s.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	check("read", read)
	var joined BlockSet
	joined.Join(read)
	joined.Join(&BlockSet{})
	check("joined", &joined)
	if joined.Blocks() != 4 || joined.All() {
		t.Errorf("%d blocks, all: %t", joined.Blocks(), joined.All())
	}
	joined.Join(&BlockSet{all: true})
	if !joined.All() || !joined.Has(Relation{1, 2, 3}, MainFork, 4) {
		t.Error("a set that is full says that something did not change")
	}
}

// What is not understood is an error, never a record that changed nothing.
func TestBlockSetRefuses(t *testing.T) {
	good := madeRecord{main: make([]byte, 14)}
	good.block(0, &Relation{1663, 5, 16384}, MainFork, 7, 100)
	r := good.record(rmgrHeap, heapUpdate)
	for cut := range 20 {
		short := r
		short.Body = r.Body[:cut]
		var s BlockSet
		if err := s.Add(short); err == nil {
			t.Errorf("%d bytes of a body were enough", cut)
		}
	}
	for name, r := range map[string]Record{
		"another length": func() Record { r := r; r.Length++; return r }(),
		"unknown fork": func() Record {
			m := madeRecord{}
			m.block(0, &Relation{1, 2, 3}, 9, 4, 0)
			return m.record(rmgrHeap, 0)
		}(),
		"a file without a name":     (&madeRecord{main: numbers(1)}).record(rmgrStorage, storageCreate),
		"a cut without a name":      (&madeRecord{main: numbers(1)}).record(rmgrStorage, 0x20),
		"a database without a name": (&madeRecord{main: numbers(1)}).record(rmgrDatabase, databaseCreate),
		"an id that does not exist": {Length: recordHeader + 2, Body: []byte{77, 0}, Magic: 0xD110},
	} {
		var s BlockSet
		if err := s.Add(r); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzBlockSet(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s BlockSet
	for range 300 {
		s.add(file{Relation{1663, rng.Uint32N(3), rng.Uint32N(5)}, MainFork}, rng.Uint32N(40_000))
	}
	s.limit(file{Relation{1663, 1, 9}, InitFork}, 17)
	s.databases = map[[2]uint32]bool{{1663, 4}: true}
	f.Add(s.AppendBinary(nil))
	f.Add((&BlockSet{all: true}).AppendBinary(nil))
	f.Add((&BlockSet{}).AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseBlockSet(b)
		if err != nil {
			return
		}
		again, err := ParseBlockSet(s.AppendBinary(nil))
		if err != nil || !bytes.Equal(again.AppendBinary(nil), s.AppendBinary(nil)) || again.Blocks() != s.Blocks() {
			t.Fatalf("a set does not come back: %v", err)
		}
	})
}

// A record of any bytes is refused or taken, and never believed beyond its length.
func FuzzAddBlocks(f *testing.F) {
	good := madeRecord{main: numbers(40, 1663, 5, 16400, 7)}
	good.block(0, &Relation{1663, 5, 16384}, MainFork, 7, 100)
	f.Add(good.record(rmgrStorage, 0x20).Body, uint8(rmgrStorage), uint8(0x20), uint16(0xD110))
	f.Fuzz(func(t *testing.T, body []byte, rmgr, info uint8, magic uint16) {
		var s BlockSet
		_ = s.Add(Record{Rmgr: rmgr, Info: info, Magic: magic, Length: uint32(recordHeader + len(body)), Body: body[:min(len(body), KeepBlocks)]})
	})
}
