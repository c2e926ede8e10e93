package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
)

// KeepBlocks is the Config.Keep with which every block that a record refers to is seen:
// a record has 33 references at most, and their headers come first in its body.
const KeepBlocks = 1 << 10

// A Fork is a relation's file of one purpose, by the number in the log.
type Fork uint8

// The forks.
const (
	MainFork Fork = iota
	FreeSpaceFork
	VisibilityFork
	InitFork
	maxFork = InitFork
)

// Named limits of a BlockSet. A set at its limit says of every block that it may have
// changed.
const (
	// MaxStretches bounds a set's memory to about 128 MiB: enough for changes all over
	// a database of 8 TiB.
	MaxStretches = 1 << 17

	stretchBits = 13 // 8192 blocks, 64 MiB of a relation
	stretchSize = 1 << stretchBits
	maxFiles    = 1 << 20
)

// A BlockSet says which blocks of which relations a stretch of log may have changed. It
// errs on one side only: a block that is not in it was not changed by that log.
//
// # What the log does not say
//
// A free-space map is not logged, and the bits of a visibility map are cleared by records
// that do not name its block. Of these forks a set knows nothing; Has reports them as
// changed. Nor does it know files that are no relations.
//
// The zero value is empty and ready. It is used by one goroutine at a time.
type BlockSet struct {
	stretches map[stretch]*[stretchSize / 64]uint64
	limits    map[file]uint32    // from this block on all may have changed: made, or cut off
	databases map[[2]uint32]bool // tablespace and database that were made by copying files
	all       bool               // too much to remember
}

type file struct {
	Relation
	fork Fork
}

type stretch struct {
	file
	n uint32
}

// Add adds what r changed. r.Body must hold KeepBlocks bytes, or all. An error says that
// the record refers to blocks in a way that is not understood: the set is of no use then.
func (s *BlockSet) Add(r Record) error {
	major := majorOf(r.Magic)
	var bad error
	if _, err := parts(r, major, func(b blockRef) {
		if b.fork > maxFork {
			bad = fmt.Errorf("record at %s names a block of fork %d", r.Start, b.fork)
			return
		}
		s.add(file{b.rel, b.fork}, b.block)
	}); err != nil {
		bad = fmt.Errorf("blocks of the record at %s: %w", r.Start, err)
	}
	if bad != nil {
		return bad
	}
	switch r.Rmgr {
	case rmgrStorage:
		return s.addStorage(r, major)
	case rmgrDatabase:
		create := r.Info&0xF0 == databaseCreate || major >= 15 && r.Info&0xF0 == databaseCreateLogged
		if !create {
			return nil
		}
		m, err := mainData(r.Body, major)
		if err != nil || len(m) < 8 {
			return fmt.Errorf("record at %s makes a database and does not say which", r.Start)
		}
		if s.databases == nil {
			s.databases = map[[2]uint32]bool{}
		}
		s.databases[[2]uint32{binary.LittleEndian.Uint32(m[4:]), binary.LittleEndian.Uint32(m)}] = true
	}
	return nil
}

// addStorage adds files that were made or cut off.
func (s *BlockSet) addStorage(r Record, major int) error {
	const truncate = 0x20
	m, err := mainData(r.Body, major)
	switch op := r.Info & 0xF0; {
	case op == storageCreate && err == nil && len(m) >= 16:
		fork := binary.LittleEndian.Uint32(m[12:])
		if fork <= uint32(maxFork) {
			s.limit(file{relationAt(m), Fork(fork)}, 0)
			return nil
		}
	case op == truncate && err == nil && len(m) >= 16:
		s.limit(file{relationAt(m[4:]), MainFork}, binary.LittleEndian.Uint32(m))
		return nil
	case op != storageCreate && op != truncate:
		return nil
	}
	return fmt.Errorf("record at %s makes or cuts a file and does not say which", r.Start)
}

func (s *BlockSet) add(f file, block uint32) {
	if s.all || f.fork == FreeSpaceFork || f.fork == VisibilityFork {
		return
	}
	at := stretch{f, block >> stretchBits}
	b := s.stretches[at]
	if b == nil {
		if len(s.stretches) >= MaxStretches {
			s.Forget()
			return
		}
		if s.stretches == nil {
			s.stretches = map[stretch]*[stretchSize / 64]uint64{}
		}
		b = new([stretchSize / 64]uint64)
		s.stretches[at] = b
	}
	i := block % stretchSize
	b[i/64] |= 1 << (i % 64)
}

func (s *BlockSet) limit(f file, block uint32) {
	if s.all {
		return
	}
	if old, ok := s.limits[f]; ok && old <= block {
		return
	}
	if s.limits == nil {
		s.limits = map[file]uint32{}
	}
	if len(s.limits) >= maxFiles {
		s.Forget()
		return
	}
	s.limits[f] = block
}

// Forget makes the set one of every block.
func (s *BlockSet) Forget() { *s = BlockSet{all: true} }

// All reports whether the set was at its limit: every block may have changed.
func (s *BlockSet) All() bool { return s.all }

// Has reports whether block of a fork may have changed.
func (s *BlockSet) Has(rel Relation, fork Fork, block uint32) bool {
	if s.all || fork == FreeSpaceFork || fork == VisibilityFork || s.databases[[2]uint32{rel.Tablespace, rel.Database}] {
		return true
	}
	f := file{rel, fork}
	if from, ok := s.limits[f]; ok && block >= from {
		return true
	}
	b := s.stretches[stretch{f, block >> stretchBits}]
	i := block % stretchSize
	return b != nil && b[i/64]&(1<<(i%64)) != 0
}

// Join adds what t has.
func (s *BlockSet) Join(t *BlockSet) {
	if t.all {
		s.Forget()
	}
	if s.all {
		return
	}
	for at, from := range t.stretches {
		b := s.stretches[at]
		if b == nil {
			if len(s.stretches) >= MaxStretches {
				s.Forget()
				return
			}
			if s.stretches == nil {
				s.stretches = map[stretch]*[stretchSize / 64]uint64{}
			}
			b = new([stretchSize / 64]uint64)
			s.stretches[at] = b
		}
		for i := range b {
			b[i] |= from[i]
		}
	}
	for f, block := range t.limits {
		s.limit(f, block)
	}
	for db := range t.databases {
		if s.databases == nil {
			s.databases = map[[2]uint32]bool{}
		}
		s.databases[db] = true
	}
}

// Blocks counts the blocks that are named one by one.
func (s *BlockSet) Blocks() (n int) {
	for _, b := range s.stretches {
		for _, w := range b {
			n += bits.OnesCount64(w)
		}
	}
	return n
}

// setMagic begins the bytes of a set.
const setMagic = "HFBLOCK1"

// AppendBinary writes the set as ParseBlockSet reads it.
func (s *BlockSet) AppendBinary(b []byte) []byte {
	b = append(b, setMagic...)
	if s.all {
		return append(b, 1)
	}
	b = append(b, 0)
	appendFile := func(f file) {
		for _, n := range []uint32{f.Tablespace, f.Database, f.File, uint32(f.fork)} {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.databases)))
	for _, db := range slices.SortedFunc(maps.Keys(s.databases), func(x, y [2]uint32) int { return slices.Compare(x[:], y[:]) }) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(db[0])), uint64(db[1]))
	}
	b = binary.AppendUvarint(b, uint64(len(s.limits)))
	for _, f := range slices.SortedFunc(maps.Keys(s.limits), compareFiles) {
		appendFile(f)
		b = binary.AppendUvarint(b, uint64(s.limits[f]))
	}
	b = binary.AppendUvarint(b, uint64(len(s.stretches)))
	for _, at := range slices.SortedFunc(maps.Keys(s.stretches), func(x, y stretch) int {
		if c := compareFiles(x.file, y.file); c != 0 {
			return c
		}
		return int(x.n) - int(y.n)
	}) {
		appendFile(at.file)
		b = binary.AppendUvarint(b, uint64(at.n))
		set := s.stretches[at]
		count, last := 0, -1
		for _, w := range set {
			count += bits.OnesCount64(w)
		}
		b = binary.AppendUvarint(b, uint64(count))
		for i, w := range set {
			for ; w != 0; w &= w - 1 {
				block := i*64 + bits.TrailingZeros64(w)
				b = binary.AppendUvarint(b, uint64(block-last))
				last = block
			}
		}
	}
	return b
}

func compareFiles(x, y file) int {
	return slices.Compare([]uint32{x.Tablespace, x.Database, x.File, uint32(x.fork)}, []uint32{y.Tablespace, y.Database, y.File, uint32(y.fork)})
}

// errBadSet: the bytes are no set.
var errBadSet = errors.New("a list of changed blocks is damaged")

// ParseBlockSet reads what AppendBinary wrote.
func ParseBlockSet(b []byte) (*BlockSet, error) {
	b, ok := bytes.CutPrefix(b, []byte(setMagic))
	if !ok || len(b) == 0 || b[0] > 1 {
		return nil, errBadSet
	}
	s := &BlockSet{all: b[0] == 1}
	p := setReader{b: b[1:]}
	if s.all {
		return s, p.end()
	}
	if n := p.count(maxFiles); n > 0 {
		s.databases = map[[2]uint32]bool{}
		for ; n > 0 && !p.bad; n-- {
			s.databases[[2]uint32{p.number(), p.number()}] = true
		}
	}
	for n := p.count(maxFiles); n > 0 && !p.bad; n-- {
		f := p.file()
		s.limit(f, p.number())
	}
	for n := p.count(MaxStretches); n > 0 && !p.bad; n-- {
		f, at, last := p.file(), p.number(), -1
		if at > 1<<(32-stretchBits)-1 {
			return nil, errBadSet
		}
		for blocks := p.count(stretchSize); blocks > 0 && !p.bad; blocks-- {
			last += p.count(stretchSize)
			if last < 0 || last >= stretchSize {
				return nil, errBadSet
			}
			s.add(f, at<<stretchBits|uint32(last))
		}
	}
	return s, p.end()
}

// A setReader takes numbers off a list. After the first bad one all are zero.
type setReader struct {
	b   []byte
	bad bool
}

func (p *setReader) uint(limit uint64) uint64 {
	n, used := binary.Uvarint(p.b)
	if used <= 0 || n > limit {
		p.bad = true
		return 0
	}
	p.b = p.b[used:]
	return n
}

func (p *setReader) number() uint32      { return uint32(p.uint(1<<32 - 1)) }
func (p *setReader) count(limit int) int { return int(p.uint(uint64(limit))) }

func (p *setReader) file() file {
	return file{Relation{p.number(), p.number(), p.number()}, Fork(p.uint(uint64(maxFork)))}
}

func (p *setReader) end() error {
	if p.bad || len(p.b) > 0 {
		return errBadSet
	}
	return nil
}

// majorOf is the first major version whose log has this page magic. What is not known is
// taken for newer than all that are.
func majorOf(magic uint16) int {
	switch {
	case magic < 0xD10D:
		return 13
	case magic < 0xD110:
		return 14
	case magic < 0xD113:
		return 15
	case magic < 0xD116:
		return 16
	case magic < 0xD118:
		return 17
	}
	return 18
}
