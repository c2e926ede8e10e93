package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// A Relation names the file of a table or index: tablespace, database and file
// number, as pg_relation_filenode gives it.
type Relation struct{ Tablespace, Database, File uint32 }

// An Op is what a record did to data, as far as somebody who looks for a mistake
// wants to know.
type Op uint8

// The operations.
const (
	OpNone         Op = iota
	OpInsert          // Change.Rows rows into Change.Relation
	OpUpdate          // one row
	OpDelete          // one row
	OpCreateFile      // Change.Relation got a file: a new table, or one written anew
	OpWrite           // a page of Change.Relation was logged as a whole
	OpLock            // an exclusive lock on the table with the number Change.Relation.File
	OpDropDatabase    // the files of database Change.Relation.Database
	OpRestorePoint    // a named point, Change.Name at Change.At
	OpCommit          // Change.Children joined; Change.Dropped are gone from here on
	OpAbort
)

// A Change is what one record did.
type Change struct {
	Op       Op
	Relation Relation
	Rows     int
	Name     string
	At       time.Time
	Top      uint32     // of a prepared transaction that is committed or aborted: its number; else 0
	Children []uint32   // subtransactions
	Dropped  []Relation // files that the commit removed
	Cut      bool       // the record is longer than what was kept, so the lists may be short
}

// Resource managers and operations that a Change is about. The numbers are part of
// the log's format and hold for 13 to 18, except where a version is named.
const (
	rmgrStorage  = 2
	rmgrDatabase = 4
	rmgrStandby  = 8
	rmgrHeap2    = 9
	rmgrHeap     = 10

	opMask = 0x70

	xlogRestorePoint = 0x70
	xlogPageImage    = 0xB0

	storageCreate = 0x10

	databaseCreate       = 0x00 // by copying files
	databaseCreateLogged = 0x10 // from 15 on

	databaseDrop13 = 0x10 // up to 14
	databaseDrop15 = 0x20

	standbyLock = 0x00

	heap2MultiInsert = 0x50
	heapInsert       = 0x00
	heapDelete       = 0x10
	heapUpdate       = 0x20
	heapHotUpdate    = 0x40

	xactAbort         = 0x20
	xactAbortPrepared = 0x40
	xactHasInfo       = 0x80

	hasDatabase  = 1 << 0
	hasChildren  = 1 << 1
	hasRelations = 1 << 2
	hasInvals    = 1 << 3
	hasTwoPhase  = 1 << 4
	hasDropped   = 1 << 8

	maxList = 1 << 20 // entries of one list that are believed
)

var errShortBody = errors.New("the record's body is cut short")

// Decode says what r did. major is the server's major version. A record that is none
// of the kinds above, or of whose body too little was kept, is OpNone.
func Decode(r Record, major int) Change {
	op := r.Info & opMask
	switch r.Rmgr {
	case rmgrHeap:
		switch op {
		case heapInsert, heapDelete, heapUpdate, heapHotUpdate:
			rel, ok := firstRelation(r, major)
			if !ok {
				return Change{}
			}
			kind := map[uint8]Op{heapInsert: OpInsert, heapDelete: OpDelete, heapUpdate: OpUpdate, heapHotUpdate: OpUpdate}[op]
			return Change{Op: kind, Relation: rel, Rows: 1}
		}
	case rmgrHeap2:
		if op == heap2MultiInsert {
			if rel, ok := firstRelation(r, major); ok {
				return Change{Op: OpInsert, Relation: rel, Rows: multiInsert(r, major)}
			}
		}
	case rmgrXLog:
		switch r.Info & 0xF0 {
		case xlogPageImage:
			if rel, ok := firstRelation(r, major); ok {
				return Change{Op: OpWrite, Relation: rel}
			}
		case xlogRestorePoint:
			if m, err := mainData(r.Body, major); err == nil && len(m) >= 8 {
				name, _, _ := bytes.Cut(m[8:], []byte{0})
				return Change{Op: OpRestorePoint, Name: string(name), At: pgTime(m)}
			}
		}
	case rmgrStorage:
		if m, err := mainData(r.Body, major); err == nil && op == storageCreate && len(m) >= 16 {
			if fork := binary.LittleEndian.Uint32(m[12:]); fork == 0 {
				return Change{Op: OpCreateFile, Relation: relationAt(m)}
			}
		}
	case rmgrStandby:
		if m, err := mainData(r.Body, major); err == nil && op == standbyLock && len(m) >= 16 {
			// A count, then transaction, database and table of each lock; one as a rule.
			le := binary.LittleEndian
			return Change{Op: OpLock, Relation: Relation{Database: le.Uint32(m[8:]), File: le.Uint32(m[12:])}, Top: le.Uint32(m[4:])}
		}
	case rmgrDatabase:
		drop := uint8(databaseDrop13)
		if major >= 15 {
			drop = databaseDrop15
		}
		if m, err := mainData(r.Body, major); err == nil && op == drop && len(m) >= 4 {
			return Change{Op: OpDropDatabase, Relation: Relation{Database: binary.LittleEndian.Uint32(m)}}
		}
	case rmgrXact:
		return transactionEnd(r, major)
	}
	return Change{}
}

func relationAt(b []byte) Relation {
	le := binary.LittleEndian
	return Relation{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])}
}

// A blockRef is the header of one block that a record refers to.
type blockRef struct {
	rel   Relation
	fork  Fork
	block uint32
}

// parts reads the headers of a record's body: the blocks, and the length of the main
// part, which comes last and may be absent. The headers end where what is left of the
// record is as long as the data that they announce.
func parts(r Record, major int, block func(blockRef)) (main int, err error) {
	le := binary.LittleEndian
	b, left := r.Body, int(r.Length)-recordHeader
	var last Relation
	var short bool
	take := func(n int) []byte {
		left -= n
		if n > len(b) {
			short = true
			return make([]byte, n)
		}
		head := b[:n]
		b = b[n:]
		return head
	}
	announced := 0
	for left > announced && !short {
		switch id := take(1)[0]; {
		case id == 255:
			main = int(take(1)[0])
			announced += main
			continue
		case id == 254:
			main = int(le.Uint32(take(4)))
			announced += main
			continue
		case id == 253:
			take(2)
			continue
		case id == 252:
			take(4)
			continue
		case id > 32:
			return main, errShortBody
		}
		head := take(3)
		flags, data := head[0], int(le.Uint16(head[1:]))
		if flags&0x10 != 0 { // a page image
			image := take(5)
			info := image[4]
			compressed := info&0x02 != 0
			if major >= 15 {
				compressed = info&0x1C != 0
			}
			data += int(le.Uint16(image))
			if compressed && info&0x01 != 0 {
				take(2)
			}
		}
		if flags&0x80 == 0 { // not the relation of the block before
			last = relationAt(take(12))
		}
		n := le.Uint32(take(4))
		if short {
			break
		}
		announced += data
		block(blockRef{last, Fork(flags & 0x0F), n})
	}
	if short || left != announced {
		return main, errShortBody
	}
	return main, nil
}

// firstRelation is the relation of a record's first block.
func firstRelation(r Record, major int) (rel Relation, ok bool) {
	_, _ = parts(r, major, func(b blockRef) { // what is cut off lies behind the first block
		if !ok {
			rel, ok = b.rel, true
		}
	})
	return rel, ok
}

// mainData is the main part of a record without block data.
func mainData(b []byte, major int) ([]byte, error) {
	for i := 0; i < len(b); {
		switch b[i] {
		case 253:
			i += 3
		case 252:
			i += 5
		case 255:
			return b[min(i+2, len(b)):], nil
		case 254:
			return b[min(i+5, len(b)):], nil
		default:
			return nil, errShortBody
		}
	}
	return nil, errShortBody
}

// multiInsert is the number of rows: the second field of the main part, which comes
// behind the data of the blocks.
func multiInsert(r Record, major int) int {
	const least = 1
	main := int(-1)
	if n, err := parts(r, major, func(blockRef) {}); err == nil {
		main = n
	}
	if at := int(r.Length) - recordHeader - main; main >= 4 && at > 0 && at+4 <= len(r.Body) {
		return max(least, int(binary.LittleEndian.Uint16(r.Body[at+2:])))
	}
	return least
}

// transactionEnd decodes commits and aborts.
func transactionEnd(r Record, major int) Change {
	c := Change{}
	switch r.Info & xactMask {
	case xactCommit, xactCommitPrepared:
		c.Op = OpCommit
	case xactAbort, xactAbortPrepared:
		c.Op = OpAbort
	default:
		return c
	}
	m, err := mainData(r.Body, major)
	if err != nil || len(m) < 8 {
		return Change{}
	}
	c.At = pgTime(m)
	m = m[8:]
	if r.Info&xactHasInfo == 0 {
		return c
	}
	le := binary.LittleEndian
	take := func(n int) []byte {
		if n > len(m) {
			c.Cut = true
			n = len(m)
		}
		b := m[:n]
		m = m[n:]
		return b
	}
	count := func() int {
		b := take(4)
		if len(b) < 4 {
			return 0
		}
		return int(min(le.Uint32(b), maxList))
	}
	b := take(4)
	if len(b) < 4 {
		return c
	}
	info := le.Uint32(b)
	if info&hasDatabase != 0 {
		take(8)
	}
	if info&hasChildren != 0 {
		for b := take(4 * count()); len(b) >= 4; b = b[4:] {
			c.Children = append(c.Children, le.Uint32(b))
		}
	}
	if info&hasRelations != 0 {
		for b := take(12 * count()); len(b) >= 12; b = b[12:] {
			c.Dropped = append(c.Dropped, relationAt(b))
		}
	}
	if info&hasDropped != 0 {
		size := 12
		if major >= 18 {
			size = 16 // kind, database, and an object number of 64 bits
		}
		take(size * count())
	}
	if info&hasInvals != 0 {
		take(16 * count())
	}
	if info&hasTwoPhase != 0 {
		if b := take(4); len(b) == 4 {
			c.Top = le.Uint32(b)
		}
	}
	return c
}

// pgTime reads microseconds since 2000.
func pgTime(b []byte) time.Time {
	us := int64(binary.LittleEndian.Uint64(b))
	return pgEpoch.Add(time.Duration(us/1e6) * time.Second).Add(time.Duration(us%1e6) * time.Microsecond)
}
