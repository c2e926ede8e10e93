package postgres

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"

	"holdfast/internal/source/postgres/wal"
)

// A relation is cut into files of a gigabyte, and each of them into pages. Servers that
// were built with other sizes are read as a whole.
const (
	pageBytes    = 8192
	segmentPages = 1 << 17
)

// A pageFile is a file of a relation: which fork, and which part of it.
type pageFile struct {
	relation wal.Relation
	fork     wal.Fork
	segment  uint32
}

// first is the number of the file's first block in its fork.
func (f pageFile) first() uint32 { return f.segment * segmentPages }

// pageFileOf reads the name of a file in a data directory. False: its pages are not those
// of a relation that outlives its session.
func pageFileOf(name string) (f pageFile, ok bool) {
	if !relationFile.MatchString(name) {
		return f, false
	}
	dir, base := path.Split(name)
	part, segment, _ := strings.Cut(base, ".")
	part, fork, _ := strings.Cut(part, "_")
	switch fork {
	case "":
	case "fsm":
		f.fork = wal.FreeSpaceFork
	case "vm":
		f.fork = wal.VisibilityFork
	case "init":
		f.fork = wal.InitFork
	default: // t3_16384
		return f, false
	}
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		ok = ok && err == nil
		return uint32(n)
	}
	ok = true
	f.relation.File = number(part)
	if segment != "" {
		f.segment = number(segment)
		ok = ok && f.segment < 1<<32/segmentPages
	}
	const (
		globalSpace  = 1664
		defaultSpace = 1663
	)
	folders := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	switch folders[0] {
	case "global":
		f.relation.Tablespace = globalSpace
	case "base":
		f.relation.Tablespace, f.relation.Database = defaultSpace, number(folders[1])
	default:
		f.relation.Tablespace, f.relation.Database = number(folders[1]), number(folders[3])
	}
	return f, ok
}

// pageLSN is the position of the log that changed a page last.
func pageLSN(page []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(page))<<32 | uint64(binary.LittleEndian.Uint32(page[4:]))
}

// isNew reports whether a page was never used: it has no checksum.
func isNew(page []byte) bool { return binary.LittleEndian.Uint16(page[14:]) == 0 }

// soundPage reports whether a page has the checksum that belongs to its content and its
// place. As the server does it, a page that the log from before on brings back is not looked
// at: it may have been caught in mid-write.
func soundPage(page []byte, block uint32, before uint64) bool {
	return isNew(page) || pageLSN(page) >= before || binary.LittleEndian.Uint16(page[8:]) == pageChecksum(page, block)
}

// pageChecksum is PostgreSQL's own: 32 FNV-1a hashes side by side, with the number of the
// block mixed in, so that a page in the wrong place is found as well. The rule is that of
// storage/checksum_impl.h, the same since version 9.3.
func pageChecksum(page []byte, block uint32) uint16 {
	const prime = 16777619
	sums := checksumSeeds
	for row := 0; row < pageBytes; row += 4 * len(sums) {
		words := page[row : row+4*len(sums) : row+4*len(sums)]
		for i := range sums {
			v := binary.LittleEndian.Uint32(words[4*i : 4*i+4])
			if row == 0 && i == 2 {
				v &= 0xFFFF0000 // the checksum itself counts as zero
			}
			t := sums[i] ^ v
			sums[i] = t*prime ^ t>>17
		}
	}
	all := block
	for i := range sums {
		for range 2 {
			sums[i] = sums[i]*prime ^ sums[i]>>17
		}
		all ^= sums[i]
	}
	return uint16(all%65535 + 1)
}

var checksumSeeds = [32]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// A pageWitness holds the pages of a restored file against their checksums, in order.
type pageWitness struct {
	next   uint32 // block
	before uint64 // the base's start
	part   []byte // of a page
	size   int64
	wrong  string // the first bad page
}

func (w *pageWitness) Write(b []byte) (int, error) {
	n := len(b)
	w.size += int64(n)
	if len(w.part) > 0 {
		k := min(len(b), pageBytes-len(w.part))
		w.part = append(w.part, b[:k]...)
		b = b[k:]
		if len(w.part) == pageBytes {
			w.page(w.part)
			w.part = w.part[:0]
		}
	}
	for ; len(b) >= pageBytes; b = b[pageBytes:] {
		w.page(b[:pageBytes])
	}
	w.part = append(w.part, b...)
	return n, nil
}

func (w *pageWitness) page(p []byte) {
	if w.wrong == "" && !soundPage(p, w.next, w.before) {
		w.wrong = fmt.Sprintf("page %d has a wrong checksum", w.next)
	}
	w.next++
}

func (w *pageWitness) seen() int64 { return w.size }

func (w *pageWitness) verdict() string {
	if len(w.part) > 0 {
		return "ends within a page"
	}
	return w.wrong
}
