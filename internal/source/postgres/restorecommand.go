package postgres

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"holdfast/internal/seal"
)

// Exit statuses of the restore command. The server reads 1, and everything else up
// to 125, as "the archive ends here" and promotes at once; it stops with FATAL at 126
// and above. So 1 is said only when we know that there is nothing more to get.
const (
	restoreServed = 0
	restoreAtEnd  = 1
	restoreFailed = 255
)

// restoreCommandPrefix marks our lines in the server's log.
const restoreCommandPrefix = "holdfast restore-command: "

// shelfIndexName is the file that says what a shelf holds.
const shelfIndexName = "index.json"

// Limits of a shelf.
const (
	maxShelfIndex   = 64 << 20 // bytes of the index
	maxShelfSegment = 1 << 30  // the largest segment size that PostgreSQL can have
)

// A shelf is a folder that holds the log for one recovery: whole segment files,
// history files, and an index of what it must hold. The server takes files from it
// through the restore command.
//
// The index is written last. Without it nothing is served.
type shelf struct {
	SegmentSize int64                `json:"segment_size"`
	Files       map[string]shelfFile `json:"files"`
	Ranges      []shelfRange         `json:"ranges"`
}

// A shelfFile is what a file of the shelf must be.
type shelfFile struct {
	Size int64  `json:"size"`
	Hash string `json:"hash"` // BLAKE3, hexadecimal
}

// A shelfRange says which segments of a timeline the shelf must hold.
type shelfRange struct {
	Timeline uint32 `json:"timeline"`
	First    uint64 `json:"first"` // segment numbers, both included
	Last     uint64 `json:"last"`
}

// segmentName is the name of a log segment file.
func segmentName(tli uint32, segno uint64, segmentSize int64) string {
	perID := uint64(0x100000000) / uint64(segmentSize)
	return fmt.Sprintf("%08X%08X%08X", tli, segno/perID, segno%perID)
}

var (
	segmentPattern = regexp.MustCompile(`^[0-9A-F]{24}$`)
	historyPattern = regexp.MustCompile(`^[0-9A-F]{8}\.history$`)
)

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string, segmentSize int64) (tli uint32, segno uint64, ok bool) {
	if !segmentPattern.MatchString(name) {
		return 0, 0, false
	}
	t, err1 := strconv.ParseUint(name[:8], 16, 32)
	hi, err2 := strconv.ParseUint(name[8:16], 16, 32)
	lo, err3 := strconv.ParseUint(name[16:], 16, 32)
	perID := uint64(0x100000000) / uint64(segmentSize)
	if err := errors.Join(err1, err2, err3); err != nil || lo >= perID {
		return 0, 0, false
	}
	return uint32(t), hi*perID + lo, true
}

// RestoreCommandMain is what the server runs to get one file of the log:
//
//	holdfast restore-command SHELF NAME PATH
//
// It returns the exit status: 0 when the file is at PATH, whole and as it should
// be; 1 when the shelf knows that there is no such file: beyond the log that we
// hold, or the history of a timeline that we do not know; 255 in every other case,
// which stops the server instead of letting it promote.
func RestoreCommandMain(args []string) int {
	status, err := restoreCommand(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", restoreCommandPrefix, err)
	}
	return status
}

func restoreCommand(args []string) (status int, err error) {
	defer func() {
		// A panic exits with 2, which the server would take for the end of the log.
		if p := recover(); p != nil {
			status, err = restoreFailed, fmt.Errorf("internal error: %v", p)
		}
	}()
	if len(args) != 3 {
		return restoreFailed, fmt.Errorf("want 3 arguments SHELF NAME PATH, got %d", len(args))
	}
	dir, name, path := args[0], args[1], args[2]
	sh, err := readShelf(dir)
	if err != nil {
		return restoreFailed, err
	}
	want, ok := sh.Files[name]
	if !ok {
		return sh.absent(name)
	}
	if err := serve(filepath.Join(dir, name), path, want); err != nil {
		return restoreFailed, fmt.Errorf("log file %s: %w", name, err)
	}
	return restoreServed, nil
}

func readShelf(dir string) (*shelf, error) {
	f, err := os.Open(filepath.Join(dir, shelfIndexName))
	if err != nil {
		return nil, fmt.Errorf("folder %q is not a finished log folder: %w", dir, err)
	}
	defer f.Close()
	var sh shelf
	if err := json.NewDecoder(io.LimitReader(f, maxShelfIndex)).Decode(&sh); err != nil {
		return nil, fmt.Errorf("index of %q: %w", dir, err)
	}
	if sh.SegmentSize < 1<<20 || sh.SegmentSize > maxShelfSegment || sh.SegmentSize&(sh.SegmentSize-1) != 0 {
		return nil, fmt.Errorf("index of %q: segment size %d", dir, sh.SegmentSize)
	}
	return &sh, nil
}

// absent decides what it means that the shelf has no file of that name.
func (sh *shelf) absent(name string) (int, error) {
	if historyPattern.MatchString(name) {
		return restoreAtEnd, nil
	}
	tli, segno, ok := parseSegmentName(name, sh.SegmentSize)
	if !ok {
		return restoreFailed, fmt.Errorf("the server asked for %q, which is no log file", name)
	}
	for _, r := range sh.Ranges {
		if r.Timeline != tli {
			continue
		}
		switch {
		case segno > r.Last:
			return restoreAtEnd, nil
		case segno < r.First:
			return restoreFailed, fmt.Errorf("log file %s is older than the log of this restore", name)
		default:
			return restoreFailed, fmt.Errorf("log file %s is missing", name)
		}
	}
	// A timeline that is no part of this recovery has nothing to give.
	return restoreAtEnd, nil
}

// serve copies a file to where the server wants it. The server sees it under its
// name only when it is whole, hashed and right: it would replay a torn one.
// A crash here leaves a temporary file that the next attempt overwrites.
func serve(from, to string, want shelfFile) (err error) {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("missing")
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if want.Size > maxShelfSegment {
		return fmt.Errorf("size %d is not possible", want.Size)
	}
	tmp := to + ".holdfast"
	dst, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = dst.Close()
			_ = os.Remove(tmp)
		}
	}()
	h := seal.NewHash()
	n, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(src, want.Size+1))
	if err != nil {
		return err
	}
	if n != want.Size {
		return fmt.Errorf("has %d bytes instead of %d", n, want.Size)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want.Hash) {
		return errors.New("its content has changed")
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}
