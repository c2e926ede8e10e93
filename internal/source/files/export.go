//go:build linux

package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Exported says what an export wrote.
type Exported struct {
	Entries int64    `json:"entries"`
	Bytes   int64    `json:"bytes"`  // of content; holes count
	Sparse  int64    `json:"sparse"` // files with holes
	Left    []string `json:"left_out,omitempty"`
}

// maxLeft bounds how many entries that a tar cannot hold are named.
const maxLeft = 1000

// Export writes a part of a snapshot as a plain tar archive: POSIX.1-2001 (pax) with
// times to the nanosecond, names of any bytes, extended attributes and access lists
// as GNU tar and bsdtar read them, and holes in GNU's sparse format 1.0. It is read
// without Holdfast: tar --xattrs --xattrs-include='*' --acls -xpf FILE.
//
// Content is compared with its hash on the way. What tar has no word for, sockets,
// is left out and named. An error leaves an archive without its end.
func Export(ctx context.Context, snap *repo.Snapshot, part Part, to io.Writer, progress func(holdfast.Progress)) (Exported, error) {
	sel, err := selects(ctx, snap, part)
	if err != nil {
		return Exported{}, err
	}
	x := &exporter{w: to, snap: snap, sel: sel, progress: progress, buf: make([]byte, 1<<20)}
	err = snap.Entries(ctx, func(e repo.Entry) error {
		name, ok := sel.rename(e.Path)
		if !ok {
			return nil
		}
		e.Path = name
		if e.Type == repo.TypeHardlink {
			e.Target, _ = sel.rename(e.Target)
		}
		return x.add(ctx, &e)
	})
	if err == nil {
		_, err = to.Write(make([]byte, 2*tarBlock))
	}
	return x.done, err
}

const tarBlock = 512

var tarTypes = map[string]byte{repo.TypeFile: '0', repo.TypeHardlink: '1', repo.TypeSymlink: '2', repo.TypeChar: '3', repo.TypeBlock: '4', repo.TypeDir: '5', repo.TypeFIFO: '6'}

type exporter struct {
	w        io.Writer
	snap     *repo.Snapshot
	sel      *selection
	progress func(holdfast.Progress)
	done     Exported
	buf      []byte
}

// add writes one entry.
func (x *exporter) add(ctx context.Context, e *repo.Entry) error {
	kind, ok := tarTypes[e.Type]
	if !ok {
		if len(x.done.Left) < maxLeft {
			x.done.Left = append(x.done.Left, e.Path+": "+e.Type)
		}
		return nil
	}
	h := tarHeader{kind: kind, e: e, name: "./" + e.Path, records: map[string]string{}}
	if e.Path == "." {
		h.name = "./"
	} else if e.Type == repo.TypeDir {
		h.name += "/"
	}
	if e.Type == repo.TypeHardlink {
		h.link = "./" + e.Target
	} else {
		h.link = e.Target
	}
	var runs []run
	var sparseMap []byte
	if e.Type == repo.TypeFile {
		h.size = e.Size
		runs = []run{{0, e.Size}}
		if data := stretches(e); e.Sparse && len(data) < maxRuns && covered(data) < e.Size {
			x.done.Sparse++
			runs = data
			sparseMap = h.sparse(data)
		}
	}
	if err := x.attributes(&h, e); err != nil {
		return err
	}
	if _, err := x.w.Write(h.bytes()); err != nil {
		return err
	}
	x.done.Entries++
	if e.Type != repo.TypeFile {
		return nil
	}
	if _, err := x.w.Write(sparseMap); err != nil {
		return err
	}
	if err := x.content(ctx, e, runs); err != nil {
		return err
	}
	_, err := x.w.Write(make([]byte, pad(h.size)))
	return err
}

// content writes runs of a file and compares the whole of it with its hash.
func (x *exporter) content(ctx context.Context, e *repo.Entry, runs []run) error {
	in := x.snap.OpenContext(ctx, *e)
	hash := seal.NewHash()
	for off := int64(0); off < e.Size; {
		n := min(int64(len(x.buf)), e.Size-off)
		b := x.buf[:n]
		if _, err := in.ReadAt(b, off); err != nil && err != io.EOF {
			return err
		}
		_, _ = hash.Write(b)
		for len(runs) > 0 && runs[0].off < off+n {
			from, to := max(runs[0].off, off), min(runs[0].off+runs[0].n, off+n)
			if _, err := x.w.Write(b[from-off : to-off]); err != nil {
				return err
			}
			if runs[0].off+runs[0].n > off+n {
				break
			}
			runs = runs[1:]
		}
		off += n
		x.done.Bytes += n
		if x.progress != nil {
			x.progress(holdfast.Progress{Stage: "files", Done: x.done.Bytes, Total: x.sel.bytes, Unit: "bytes"})
		}
	}
	if len(e.Hash) > 0 && !bytes.Equal(hash.Sum(nil), e.Hash) {
		return fmt.Errorf("%q: content is not what was read: %w", e.Path, repo.ErrDamaged)
	}
	return nil
}

// attributes adds extended attributes as pax records, access lists in words, too.
func (x *exporter) attributes(h *tarHeader, e *repo.Entry) error {
	size := 0
	for k, v := range e.Xattrs {
		key := strings.NewReplacer("%", "%25", "=", "%3D").Replace(k) // as GNU tar writes it
		h.records["SCHILY.xattr."+key] = string(v)
		size += len(key) + len(v)
		if kind, ok := strings.CutPrefix(k, "system.posix_acl_"); ok {
			text, err := aclText(v)
			if err != nil {
				return fmt.Errorf("%q: %s: %w", e.Path, k, err)
			}
			h.records["SCHILY.acl."+kind] = text
		}
	}
	return nil
}

// A run is a stretch of a file.
type run struct{ off, n int64 }

// maxRuns bounds the map of a sparse file; one with more holes is written whole.
const maxRuns = 1 << 20

// stretches are the stretches of a file that are no holes.
func stretches(e *repo.Entry) []run {
	var out []run
	for _, x := range e.Extents {
		if last := len(out) - 1; last >= 0 && out[last].off+out[last].n == x.Offset {
			out[last].n += x.Length
			continue
		}
		out = append(out, run{x.Offset, x.Length})
	}
	return out
}

func covered(runs []run) (n int64) {
	for _, r := range runs {
		n += r.n
	}
	return n
}

func pad(n int64) int64 { return (tarBlock - n%tarBlock) % tarBlock }

type tarHeader struct {
	kind       byte
	e          *repo.Entry
	name, link string
	size       int64 // of what follows
	records    map[string]string
}

// sparse makes the header that of a file with holes, and returns the map that goes
// before the data: GNU's format 1.0. A file that ends in a hole has an empty run there.
func (h *tarHeader) sparse(data []run) []byte {
	if n := len(data); n == 0 || data[n-1].off+data[n-1].n < h.size {
		data = append(slices.Clip(data), run{h.size, 0})
	}
	m := fmt.Appendf(nil, "%d\n", len(data))
	for _, r := range data {
		m = fmt.Appendf(m, "%d\n%d\n", r.off, r.n)
	}
	m = append(m, make([]byte, pad(int64(len(m))))...)
	h.records["GNU.sparse.major"], h.records["GNU.sparse.minor"] = "1", "0"
	h.records["GNU.sparse.name"] = h.name
	h.records["GNU.sparse.realsize"] = strconv.FormatInt(h.size, 10)
	h.name = path.Dir(h.name) + "/GNUSparseFile.0/" + path.Base(h.name)
	h.size = int64(len(m)) + covered(data)
	return m
}

// bytes is the header: a pax record block and a ustar block.
func (h *tarHeader) bytes() []byte {
	e, r := h.e, h.records
	r["path"] = h.name
	if h.link != "" {
		r["linkpath"] = h.link
	}
	if !e.ModTime.IsZero() {
		r["mtime"] = paxTime(e.ModTime)
	}
	if e.User != "" {
		r["uname"] = e.User
	}
	if e.Group != "" {
		r["gname"] = e.Group
	}
	r["uid"], r["gid"] = strconv.Itoa(e.UID), strconv.Itoa(e.GID)
	r["size"] = strconv.FormatInt(h.size, 10)
	var text []byte
	for _, k := range slices.Sorted(maps.Keys(r)) {
		text = appendRecord(text, k, r[k])
	}
	out := h.block("PaxHeaders/"+path.Base(h.name), 'x', int64(len(text)), "")
	out = append(out, text...)
	out = append(out, make([]byte, pad(int64(len(text))))...)
	return append(out, h.block(h.name, h.kind, h.size, h.link)...)
}

// block is one ustar block. What does not fit stands in the records.
func (h *tarHeader) block(name string, kind byte, size int64, link string) []byte {
	b := make([]byte, tarBlock)
	text := func(at, n int, s string) { copy(b[at:at+n], s) }
	number := func(at, n int, v int64) {
		if s := fmt.Sprintf("%0*o", n-1, v); v >= 0 && len(s) < n {
			text(at, n, s)
		} else {
			text(at, n, strings.Repeat("0", n-1))
		}
	}
	e := h.e
	text(0, 100, name)
	number(100, 8, int64(e.Mode))
	number(108, 8, int64(e.UID))
	number(116, 8, int64(e.GID))
	number(124, 12, size)
	number(136, 12, max(e.ModTime.Unix(), 0))
	text(148, 8, "        ")
	b[156] = kind
	text(157, 100, link)
	text(257, 8, "ustar\x0000")
	text(265, 31, e.User)
	text(297, 31, e.Group)
	number(329, 8, int64(unix.Major(e.Dev)))
	number(337, 8, int64(unix.Minor(e.Dev)))
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// appendRecord writes "LENGTH KEY=VALUE\n", where LENGTH counts itself.
func appendRecord(dst []byte, k, v string) []byte {
	n := len(k) + len(v) + 3
	for size := n + len(strconv.Itoa(n)); ; size++ {
		if len(strconv.Itoa(size))+n == size {
			return fmt.Appendf(dst, "%d %s=%s\n", size, k, v)
		}
	}
}

// paxTime is seconds since 1970 as a decimal fraction, also before it.
func paxTime(t time.Time) string {
	sec, nano := t.Unix(), int64(t.Nanosecond())
	if sec < 0 && nano > 0 {
		return fmt.Sprintf("-%d.%09d", -sec-1, 1_000_000_000-nano)
	}
	return fmt.Sprintf("%d.%09d", sec, nano)
}

// aclText is an access list as setfacl takes it, from the kernel's attribute:
// linux/posix_acl_xattr.h.
func aclText(b []byte) (string, error) {
	const version, entry = 2, 8
	if len(b) < 4 || (len(b)-4)%entry != 0 || binary.LittleEndian.Uint32(b) != version {
		return "", errors.New("not an access list of version 2")
	}
	var out []string
	for b = b[4:]; len(b) > 0; b = b[entry:] {
		perm, id := binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		who, ok := map[uint16]string{0x01: "user::", 0x02: fmt.Sprintf("user:%d:", id), 0x04: "group::", 0x08: fmt.Sprintf("group:%d:", id), 0x10: "mask::", 0x20: "other::"}[binary.LittleEndian.Uint16(b)]
		if !ok {
			return "", fmt.Errorf("an entry of kind %#x", binary.LittleEndian.Uint16(b))
		}
		rwx := []byte("---")
		for i, c := range []byte("rwx") {
			if perm&(4>>i) != 0 {
				rwx[i] = c
			}
		}
		out = append(out, who+string(rwx))
	}
	return strings.Join(out, ","), nil
}
