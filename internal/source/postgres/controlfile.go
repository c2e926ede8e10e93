package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
)

// A controlFile is what a recovery must know of global/pg_control.
//
// We read it ourselves: pg_controldata is not part of every server package, and its
// words change with the version. A layout that we do not know, or bytes that its
// checksum does not confirm, are left to the tool.
type controlFile struct {
	System    uint64
	State     uint32
	Limits    map[string]int32 // settings that a replay must not undercut
	Checksums uint32           // version of the page checksums; 0: none
}

// errControlLayout says that only this version's own tool can read the file.
var errControlLayout = errors.New("the control file has a layout that Holdfast does not know")

// Where things lie in the control file, in bytes; the same on every 64-bit machine.
// Its own CRC, which lies last and so covers everything before it, tells when that
// is not so.
const (
	controlRead      = 512 // of 8192: the server writes no more, to be atomic
	controlVersion13 = 1300
	controlVersion17 = 1700
	controlVersion18 = 1800

	controlAtState     = 16
	controlAtLimits    = 180
	controlAtFloat     = 208
	controlAtChecksums = 252
	controlFloat       = 1234567.0 // the server's own test of the format
)

// controlLimits are the five limits, in their order in the file.
var controlLimits = []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"}

func readControlFile(dataDir string) (*controlFile, error) {
	f, err := os.Open(filepath.Join(dataDir, "global", "pg_control"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, controlRead)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	return parseControlFile(b)
}

func parseControlFile(b []byte) (*controlFile, error) {
	if len(b) < controlRead {
		return nil, errControlLayout
	}
	le := binary.LittleEndian
	var crcAt int
	switch le.Uint32(b[8:]) {
	case controlVersion13, controlVersion17: // 13 to 16, and 17
		crcAt = 288
	case controlVersion18:
		crcAt = 292
	default:
		return nil, errControlLayout
	}
	if crc32.Checksum(b[:crcAt], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[crcAt:]) ||
		math.Float64frombits(le.Uint64(b[controlAtFloat:])) != controlFloat {
		return nil, errControlLayout
	}
	c := &controlFile{System: le.Uint64(b), State: le.Uint32(b[controlAtState:]), Limits: map[string]int32{}, Checksums: le.Uint32(b[controlAtChecksums:])}
	for i, name := range controlLimits {
		n := int32(le.Uint32(b[controlAtLimits+4*i:]))
		if n < 0 {
			return nil, errControlLayout
		}
		c.Limits[name] = n
	}
	return c, nil
}
