package repo

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Types of entries.
const (
	TypeFile     = "file"
	TypeDir      = "dir"
	TypeSymlink  = "symlink"
	TypeHardlink = "hardlink"
	TypeFIFO     = "fifo"
	TypeSocket   = "socket"
	TypeChar     = "char"
	TypeBlock    = "block"
)

// Limits of an entry.
const (
	maxPath        = 16 << 10
	maxLine        = 4 << 20
	maxXattrs      = 1 << 20 // bytes of all names and values
	extentsPerLine = 4096
	maxExtents     = 1 << 26 // of one file: 64 TiB in whole MiB, 512 GiB in single pages
)

// An Extent is a run of a file that lies in a segment. Runs that no extent covers
// are holes and read as zeros.
type Extent struct {
	Offset  int64  // in the file
	Length  int64  //
	Pack    uint32 // number in the snapshot's pack table
	Segment uint32 // in the pack
	At      uint32 // offset in the segment's plain text
}

// An Entry is one file, directory or other thing of a snapshot.
type Entry struct {
	Path       string // relative, slash-separated; "." is the top directory
	Type       string
	Mode       uint32 // st_mode & 07777: permissions, set-id and sticky bits
	UID, GID   int
	User       string
	Group      string
	ModTime    time.Time
	Size       int64
	Target     string // of a symlink as it stands; of a hardlink the path of an earlier entry
	Dev        uint64 // of a char or block device
	Xattrs     map[string][]byte
	Sparse     bool // runs of zero pages become holes
	Cut        Cut
	Hash       []byte    // BLAKE3 of the whole content; nil if the writer did not read all of it
	ChangeTime time.Time // advice for the next run of a writer
	Inode      uint64    // advice for the next run of a writer
	Extents    []Extent
}

// check refuses what could not be written, or must not be believed when read.
func (e *Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch e.Type {
	case TypeFile:
	case TypeHardlink:
		if err := checkPath(e.Target); err != nil {
			return fmt.Errorf("hardlink %q: target: %w", e.Path, err)
		}
		fallthrough
	case TypeSymlink:
		if e.Target == "" || len(e.Target) > maxPath || strings.IndexByte(e.Target, 0) >= 0 {
			return fmt.Errorf("%s %q: target of %d bytes: %w", e.Type, e.Path, len(e.Target), ErrLimit)
		}
		fallthrough
	case TypeDir, TypeFIFO, TypeSocket, TypeChar, TypeBlock:
		if len(e.Extents) > 0 {
			return fmt.Errorf("%s %q has content: %w", e.Type, e.Path, ErrKind)
		}
	default:
		return fmt.Errorf("entry %q: type %q: %w", e.Path, e.Type, ErrFormat)
	}
	if e.Mode > 0o7777 || e.Size < 0 || len(e.User)+len(e.Group) > maxPath {
		return fmt.Errorf("entry %q: mode %o, size %d: %w", e.Path, e.Mode, e.Size, ErrLimit)
	}
	n := 0
	for k, v := range e.Xattrs {
		n += len(k) + len(v)
	}
	if n > maxXattrs {
		return fmt.Errorf("entry %q: %d bytes of extended attributes: %w", e.Path, n, ErrLimit)
	}
	return nil
}

// checkExtents refuses extents that overlap, lie outside of the file, or name a
// pack beyond the table.
func (e *Entry) checkExtents(packs int) error {
	at := int64(0)
	for _, x := range e.Extents {
		if x.Offset < at || x.Length <= 0 || x.Length > maxPlain || x.Length > e.Size-x.Offset ||
			int64(x.Pack) >= int64(packs) || x.Segment >= maxSegments || int64(x.At)+x.Length > maxPlain {
			return fmt.Errorf("entry %q: extent at %d: %w", e.Path, x.Offset, ErrDamaged)
		}
		at = x.Offset + x.Length
	}
	return nil
}

// checkPath refuses every path that could lead out of a directory.
func checkPath(p string) error {
	if p == "." {
		return nil
	}
	if p == "" || len(p) > maxPath || strings.IndexByte(p, 0) >= 0 {
		return fmt.Errorf("path %q: %w", p, ErrEscape)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("path %q: %w", p, ErrEscape)
		}
	}
	return nil
}

// comparePaths orders paths part by part, so that a directory comes just before
// what is in it: the order of a sorted walk.
func comparePaths(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." {
		return -1
	}
	if b == "." {
		return 1
	}
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			case a[i] < b[i]:
				return -1
			default:
				return 1
			}
		}
	}
	if len(a) < len(b) {
		return -1
	}
	return 1
}

// appendEntry writes e as one line and, where it has many extents, more lines.
func appendEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, `{"p":`...)
	dst = appendText(dst, e.Path)
	dst = append(dst, `,"t":"`...)
	dst = append(dst, e.Type...)
	dst = append(dst, '"')
	dst = appendNumber(dst, "m", uint64(e.Mode))
	dst = appendNumber(dst, "u", uint64(uint32(e.UID)))
	dst = appendNumber(dst, "g", uint64(uint32(e.GID)))
	if e.User != "" {
		dst = appendText(append(dst, `,"un":`...), e.User)
	}
	if e.Group != "" {
		dst = appendText(append(dst, `,"gn":`...), e.Group)
	}
	dst = appendTime(dst, "mt", e.ModTime)
	dst = appendNumber(dst, "s", uint64(e.Size))
	if e.Target != "" {
		dst = appendText(append(dst, `,"l":`...), e.Target)
	}
	dst = appendNumber(dst, "d", e.Dev)
	if len(e.Xattrs) > 0 {
		dst = append(dst, `,"xa":[`...)
		for i, k := range sortedKeys(e.Xattrs) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(append(dst, '['), k)
			dst = append(dst, ',', '"')
			dst = base64.StdEncoding.AppendEncode(dst, e.Xattrs[k])
			dst = append(dst, '"', ']')
		}
		dst = append(dst, ']')
	}
	if e.Sparse {
		dst = append(dst, `,"sp":true`...)
	}
	if e.Cut == CutPages {
		dst = append(dst, `,"c":"pages"`...)
	}
	if len(e.Hash) > 0 {
		dst = append(dst, `,"h":"`...)
		dst = hex.AppendEncode(dst, e.Hash)
		dst = append(dst, '"')
	}
	dst = appendTime(dst, "ct", e.ChangeTime)
	dst = appendNumber(dst, "i", e.Inode)
	dst = appendNumber(dst, "n", uint64(len(e.Extents)))
	xs := e.Extents
	for first := true; first || len(xs) > 0; first = false {
		n := min(len(xs), extentsPerLine)
		switch {
		case !first:
			dst = append(dst, `{"more":`...)
		case n > 0:
			dst = append(dst, `,"x":`...)
		}
		if n > 0 {
			dst = appendExtents(dst, xs[:n])
		}
		dst = append(dst, '}', '\n')
		xs = xs[n:]
	}
	return dst
}

func appendExtents(dst []byte, xs []Extent) []byte {
	dst = append(dst, '[')
	for i, x := range xs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '[')
		dst = strconv.AppendInt(dst, x.Offset, 10)
		dst = append(dst, ',')
		dst = strconv.AppendInt(dst, x.Length, 10)
		for _, v := range [...]uint32{x.Pack, x.Segment, x.At} {
			dst = append(dst, ',')
			dst = strconv.AppendUint(dst, uint64(v), 10)
		}
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

func appendNumber(dst []byte, key string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = append(append(append(dst, ',', '"'), key...), '"', ':')
	return strconv.AppendUint(dst, v, 10)
}

func appendTime(dst []byte, key string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	dst = append(append(append(dst, ',', '"'), key...), '"', ':', '[')
	dst = strconv.AppendInt(dst, t.Unix(), 10)
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, int64(t.Nanosecond()), 10)
	return append(dst, ']')
}

// appendText writes a JSON string, or the base64 of bytes that are not UTF-8:
// names on disk are bytes, and all of them come back.
func appendText(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		dst = append(dst, `{"b":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, []byte(s))
		return append(dst, '"', '}')
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// A text reads what appendText wrote.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var w struct {
			B []byte `json:"b"`
		}
		if err := json.Unmarshal(b, &w); err != nil {
			return err
		}
		*t = text(w.B)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

type entryLine struct {
	Path   text           `json:"p"`
	Type   string         `json:"t"`
	Mode   uint32         `json:"m"`
	UID    uint32         `json:"u"`
	GID    uint32         `json:"g"`
	User   text           `json:"un"`
	Group  text           `json:"gn"`
	Mod    []int64        `json:"mt"`
	Size   int64          `json:"s"`
	Target text           `json:"l"`
	Dev    uint64         `json:"d"`
	Xattrs [][2]xattrPart `json:"xa"`
	Sparse bool           `json:"sp"`
	Cut    Cut            `json:"c"`
	Hash   string         `json:"h"`
	Change []int64        `json:"ct"`
	Inode  uint64         `json:"i"`
	Count  int            `json:"n"`
	X      [][5]int64     `json:"x"`
	More   [][5]int64     `json:"more"`
}

type xattrPart = text

// An entryReader reads entries from a stream of lines.
type entryReader struct {
	r     *bufio.Reader
	packs int
	line  []byte
	read  int       // lines
	cur   entryLine // the last one, until the next is read

	resume bool // lines at the start may continue an entry that was lost
}

func newEntryReader(r io.Reader, packs int) *entryReader {
	return &entryReader{r: bufio.NewReaderSize(r, 64<<10), packs: packs}
}

// next returns the next entry, or io.EOF at the end.
func (r *entryReader) next() (Entry, error) {
	l, err := r.readLine()
	for err == nil && r.resume && l.More != nil {
		l, err = r.readLine()
	}
	r.resume = false
	if err != nil {
		return Entry{}, err
	}
	if l.More != nil {
		return Entry{}, fmt.Errorf("entries: line %d continues no entry: %w", r.read, ErrDamaged)
	}
	e := Entry{
		Path: string(l.Path), Type: l.Type, Mode: l.Mode, UID: int(l.UID), GID: int(l.GID), User: string(l.User), Group: string(l.Group),
		Size: l.Size, Target: string(l.Target), Dev: l.Dev, Sparse: l.Sparse, Cut: l.Cut, Inode: l.Inode,
	}
	if e.Cut == "" {
		e.Cut = CutContent
	}
	if e.ModTime, err = parseStamp(l.Mod); err == nil {
		e.ChangeTime, err = parseStamp(l.Change)
	}
	if err == nil && l.Hash != "" {
		e.Hash, err = hex.DecodeString(l.Hash)
		if err == nil && len(e.Hash) != 32 {
			err = ErrDamaged
		}
	}
	for _, x := range l.Xattrs {
		v, derr := base64.StdEncoding.DecodeString(string(x[1]))
		if derr != nil {
			err = derr
			break
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[string(x[0])] = v
	}
	if err != nil {
		return Entry{}, fmt.Errorf("entry %q: %v: %w", e.Path, err, ErrDamaged)
	}
	if l.Count < 0 || l.Count > maxExtents {
		return Entry{}, fmt.Errorf("entry %q: %d extents: %w", e.Path, l.Count, ErrLimit)
	}
	xs, count := l.X, l.Count
	for {
		if len(xs) > count-len(e.Extents) {
			return Entry{}, fmt.Errorf("entry %q: more extents than it says: %w", e.Path, ErrDamaged)
		}
		e.Extents = slices.Grow(e.Extents, len(xs))
		for _, x := range xs {
			if x[0] < 0 || x[1] < 0 || x[2] < 0 || x[2] > 1<<32-1 || x[3] < 0 || x[3] > 1<<32-1 || x[4] < 0 || x[4] > 1<<32-1 {
				return Entry{}, fmt.Errorf("entry %q: extent: %w", e.Path, ErrDamaged)
			}
			e.Extents = append(e.Extents, Extent{x[0], x[1], uint32(x[2]), uint32(x[3]), uint32(x[4])})
		}
		if len(e.Extents) == count {
			break
		}
		m, err := r.readLine()
		if err == io.EOF || err == nil && len(m.More) == 0 {
			err = fmt.Errorf("entry %q: fewer extents than it says: %w", e.Path, ErrDamaged)
		}
		if err != nil {
			return Entry{}, err
		}
		xs = m.More
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	return e, e.checkExtents(r.packs)
}

// readLine returns the next line; it is overwritten by the one after it.
func (r *entryReader) readLine() (*entryLine, error) {
	r.line = r.line[:0]
	for {
		part, err := r.r.ReadSlice('\n')
		r.line = append(r.line, part...)
		if len(r.line) > maxLine {
			return nil, fmt.Errorf("entries: line %d: %w", r.read+1, ErrLimit)
		}
		if err == nil {
			break
		}
		if err == io.EOF && len(r.line) > 0 {
			return nil, fmt.Errorf("entries: line %d is cut short: %w", r.read+1, ErrDamaged)
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
	}
	r.read++
	l, text := &r.cur, bytes.TrimSuffix(r.line, []byte("\n"))
	*l = entryLine{Mod: l.Mod[:0], Change: l.Change[:0], X: l.X[:0]}
	if l.scan(text) {
		return l, nil
	}
	*l = entryLine{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("entries: line %d: %v: %w", r.read, err, ErrDamaged)
	}
	return l, nil
}

func parseStamp(v []int64) (time.Time, error) {
	if len(v) == 0 {
		return time.Time{}, nil
	}
	if len(v) != 2 || v[1] < 0 || v[1] >= 1e9 {
		return time.Time{}, fmt.Errorf("time %v", v)
	}
	return time.Unix(v[0], v[1]), nil
}
