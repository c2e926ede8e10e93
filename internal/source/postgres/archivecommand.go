package postgres

import (
	"bytes"
	"encoding/binary"
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

	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// Exit statuses of the archive command. The server keeps the log and tries again after
// any of them up to 125; above that it restarts its archiver for nothing.
const (
	archiveTaken  = 0
	archiveFailed = 1
)

// archiveCommandPrefix marks our lines in the server's log.
const archiveCommandPrefix = "holdfast archive-command: "

// An inbox is a folder into which the server's archive command puts whole log files, and
// from which the stream takes them into its spool.
//
//	inbox.json        whose log it takes; made by the stream, asked for by the command
//	<file>            as the server named it, whole and synced
//	taken/<file>      hash of a file that the stream has taken
//
// # Crash story
//
// A file appears under its name when all of it is on disk, and the command says "done" only
// after that. The stream removes it when the log in it is synced in the spool, up to the end
// of the file, and its hash in taken/. Killed anywhere in between, the file is taken again,
// of which the spool skips what it has.
const (
	inboxAbout = "inbox.json"
	inboxTaken = "taken"

	maxInboxFile = maxShelfSegment
	// maxInbox bounds what waits in an inbox, in bytes: beyond it the command refuses, and
	// the log stays on the server.
	maxInbox = 8 << 30
	// maxTaken is of how many files the hashes are remembered, the newest by name.
	maxTaken = 4096
)

// inboxOf is what inbox.json says.
type inboxOf struct {
	Store  string `json:"store"`
	System string `json:"system,omitempty"` // "" until the first file was taken
}

var (
	backupPattern  = regexp.MustCompile(`^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$`)
	partialPattern = regexp.MustCompile(`^[0-9A-F]{24}\.partial$`)
)

// ArchiveCommandMain is what the server runs for each log file that is complete:
//
//	archive_command = 'holdfast archive-command INBOX %p'
//
// It returns the exit status: 0 when the file is in the inbox and durable there, also if it
// was before with the same content; 1 in every other case, and the server keeps the file
// and tries again. Other content under a name that was taken is refused: two servers
// archive to one place, or one was set back.
func ArchiveCommandMain(args []string) int {
	if err := archiveCommand(durable.OS, args); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", archiveCommandPrefix, err)
		return archiveFailed
	}
	return archiveTaken
}

func archiveCommand(fsys durable.FS, args []string) (err error) {
	defer func() {
		if p := recover(); p != nil { // a panic exits with 2, which says less
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	if len(args) != 2 {
		return fmt.Errorf("want 2 arguments INBOX PATH, got %d: archive_command = 'holdfast archive-command INBOX %%p'", len(args))
	}
	dir, path := args[0], args[1]
	name := filepath.Base(path)
	kind, known := archivedKind(name)
	if !known {
		return fmt.Errorf("%q is no log file", name)
	}
	of, err := readInbox(fsys, dir)
	if err != nil {
		return fmt.Errorf("nobody takes log from %q: the holdfast that follows the store makes it when it starts: %w", dir, err)
	}
	content, err := readWhole(fsys, path, maxInboxFile)
	if err != nil {
		return err
	}
	sum := seal.Hash(content)
	hash := hex.EncodeToString(sum[:])
	system := ""
	if kind == archivedSegment || kind == archivedPartial {
		h, err := readSegmentHeader(name, content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if system = h.System; of.System != "" && of.System != system {
			return fmt.Errorf("%s is of cluster %s, and the log of store %q is of cluster %s: two servers archive to one place", name, system, of.Store, of.System)
		}
	}
	if taken, err := readWhole(fsys, filepath.Join(dir, inboxTaken, name), 1<<10); err == nil {
		if strings.TrimSpace(string(taken)) != hash {
			return otherContent(name, system, of)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	waits, err := inboxBytes(fsys, dir)
	if err != nil {
		return err
	}
	if waits+int64(len(content)) > maxInbox {
		return fmt.Errorf("%q holds %d bytes that nobody takes: see why the holdfast that follows %q does not", dir, waits, of.Store)
	}
	err = durable.Create(fsys, filepath.Join(dir, name), bytes.NewReader(content), 0o640)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, err := readWhole(fsys, filepath.Join(dir, name), maxInboxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is being taken just now: it is asked again", name)
	}
	if err == nil && !bytes.Equal(there, content) {
		err = otherContent(name, system, of)
	}
	return err
}

func otherContent(name, system string, of inboxOf) error {
	return fmt.Errorf("%s was archived before with other content (this one is of cluster %q, the log of store %q of %q): it is refused; does another server archive to the same place, or was this one set back to an earlier state?",
		name, system, of.Store, of.System)
}

// kinds of what a server archives.
const (
	archivedSegment = "segment"
	archivedPartial = "partial"
	archivedHistory = "history"
	archivedBackup  = "backup"
)

func archivedKind(name string) (kind string, ok bool) {
	switch {
	case segmentPattern.MatchString(name):
		return archivedSegment, true
	case partialPattern.MatchString(name):
		return archivedPartial, true
	case historyPattern.MatchString(name):
		return archivedHistory, true
	case backupPattern.MatchString(name):
		return archivedBackup, true
	}
	return "", false
}

// A segmentHeader is what the first page of a segment says of it.
type segmentHeader struct {
	System                string
	Timeline              uint32
	Start                 uint64
	SegmentSize, PageSize int64
}

// readSegmentHeader reads and checks the header of a whole segment file against its name.
func readSegmentHeader(name string, b []byte) (h segmentHeader, err error) {
	const long = 40 // XLogLongPageHeaderData
	if len(b) < long {
		return h, fmt.Errorf("it has %d bytes and is no log segment", len(b))
	}
	le := binary.LittleEndian
	h = segmentHeader{System: strconv.FormatUint(le.Uint64(b[24:]), 10), Start: le.Uint64(b[8:]), SegmentSize: int64(le.Uint32(b[32:])), PageSize: int64(le.Uint32(b[36:]))}
	if le.Uint16(b)>>8 != 0xD1 || h.SegmentSize < 1<<20 || h.SegmentSize > maxShelfSegment || h.SegmentSize&(h.SegmentSize-1) != 0 {
		return h, errors.New("it does not begin as a log segment does")
	}
	tli, segno, ok := parseSegmentName(strings.TrimSuffix(name, ".partial"), h.SegmentSize)
	switch h.Timeline = tli; {
	case !ok || segno*uint64(h.SegmentSize) != h.Start:
		return h, fmt.Errorf("its content belongs to %s, not under this name", FormatLSN(h.Start))
	case int64(len(b)) != h.SegmentSize:
		return h, fmt.Errorf("it has %d bytes, and a segment has %d", len(b), h.SegmentSize)
	}
	return h, nil
}

func readInbox(fsys durable.FS, dir string) (of inboxOf, err error) {
	b, err := readWhole(fsys, filepath.Join(dir, inboxAbout), 64<<10)
	if err == nil {
		err = json.Unmarshal(b, &of)
	}
	return of, err
}

// readWhole reads a file of at most limit bytes.
func readWhole(fsys durable.FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%q has more than %d bytes", path, limit)
	}
	return b, err
}

// inboxBytes is how much waits in an inbox.
func inboxBytes(fsys durable.FS, dir string) (n int64, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
	}
	return n, nil
}
