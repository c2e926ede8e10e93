package repo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/seal"
)

// A Seen remembers the signed objects of one place that its holder has read there and
// believed: manifests, receipts and removals. It spares the vault reading all of them
// again each night; what a place lists is asked for as before.
//
// It is a cache, of whoever made it and of nobody else: lost, cut or spoiled, what it
// held is read again. It holds only what a trusted key signed, and says so only to who
// trusts that key still. An object whose size or time changed in the listing is read
// again; one that was changed behind an unchanged listing is found by who reads it back,
// as every stored byte is, and until then costs nothing: what is remembered is what was
// signed.
//
// Its checks find rot and not a forger: who can write to its folder can write to all else
// that its holder goes by.
//
// A manifest of many packs costs what differs from the one before it. It may be used by
// several goroutines: of two that go over the same, one writes down what it saw.
type Seen struct {
	dir    string
	scopes map[string]bool
}

const (
	// maxSeen bounds what is remembered of one scope and kind, in bytes. What is more is
	// read each time.
	maxSeen      = 512 << 20
	maxSeenFrame = maxManifest + 1<<20
	seenMagic    = "HFSEEN1\n"
	seenCheck    = 16 // bytes of a frame's check
)

// NewSeen remembers in a folder, of these scopes only: what others lie there must not
// fill it. The folder is made when there is something to remember.
func NewSeen(dir string, scopes ...string) *Seen {
	s := &Seen{dir, map[string]bool{}}
	for _, scope := range scopes {
		if checkPart("scope", scope) == nil {
			s.scopes[scope] = true
		}
	}
	return s
}

// Recalling returns the same repository for somebody who remembers what he saw.
func (r *Repository) Recalling(s *Seen) *Repository {
	return &Repository{store: r.store, id: r.id, trust: r.trust, blind: r.blind, seen: s}
}

// A recalled manifest has no bytes of its own: it cannot be put anywhere.
type recalled struct {
	hash string // of the object
	key  string // that signed it
}

// A seenFrame is one remembered object.
type seenFrame struct {
	Name     string    `json:"n"`
	Size     int64     `json:"s"`
	Modified int64     `json:"m,omitempty"` // nanoseconds since 1970
	Key      string    `json:"k,omitempty"`
	Hash     string    `json:"h,omitempty"`
	Manifest *Manifest `json:"x,omitempty"` // without its packs
	raw      []byte    // of others than manifests, the object

	encoded []byte    // as it was read, behind a manifest with the packs
	before  []PackRef // given
}

// same reports whether a listing shows what was seen.
func (f *seenFrame) same(o Object) bool {
	return f.Size == o.Size && f.Modified == modified(o)
}

func modified(o Object) int64 {
	if o.Modified.IsZero() {
		return 0
	}
	return o.Modified.UnixNano()
}

// A seenPass goes through a listing and what is remembered side by side, both in the
// order of names, and writes down anew what to remember. A nil pass remembers nothing.
type seenPass struct {
	to      string
	old     *seenReader // nil at its end
	next    *seenFrame  // of old, not yet passed
	new     *os.File
	w       *bufio.Writer
	wrote   int64
	check   []byte
	last    string
	packs   []PackRef // of the manifest written last
	changed bool
}

// seenWriting holds the names of the files that passes of this process write. Another
// process does not use the same folder at the same time.
var seenWriting sync.Map

// pass begins one. Whatever goes wrong with the files costs requests, and nothing else.
func (s *Seen) pass(repository, scope, kind string) *seenPass {
	if s == nil || !s.scopes[scope] || os.MkdirAll(s.dir, 0o700) != nil {
		return nil
	}
	p := &seenPass{to: filepath.Join(s.dir, scope+"."+kind)}
	head := seenHead(repository, scope, kind)
	p.check = checkOf(nil, head)
	if _, taken := seenWriting.LoadOrStore(p.to, true); !taken {
		var err error
		if p.new, err = os.OpenFile(p.to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
			seenWriting.Delete(p.to)
		} else if p.w = bufio.NewWriterSize(p.new, 256<<10); true {
			_, _ = p.w.Write(head) // it is in the buffer
		}
	}
	p.wrote = int64(len(head))
	if p.old = openSeen(p.to, head); p.old == nil {
		p.changed = true
	}
	p.advance()
	return p
}

func seenHead(repository, scope, kind string) []byte {
	return []byte(seenMagic + repository + "\n" + scope + "\n" + kind + "\n")
}

func checkOf(before, b []byte) []byte {
	h := seal.NewHash()
	_, _ = h.Write(before) // a hash never fails
	_, _ = h.Write(b)
	return h.Sum(nil)[:seenCheck]
}

// advance reads the next remembered frame. What is spoiled ends what is remembered.
func (p *seenPass) advance() {
	p.next = nil
	if p.old == nil {
		return
	}
	f, err := p.old.read()
	if err != nil {
		p.changed = p.changed || err != io.EOF
		p.old.f.Close()
		p.old = nil
		return
	}
	p.next = f
}

// find returns what is remembered of an object that a listing shows. Names come in
// order; what the listing passed over is forgotten.
func (p *seenPass) find(o Object) *seenFrame {
	if p == nil {
		return nil
	}
	for p.next != nil && p.next.Name < o.Name {
		p.changed = true
		p.advance()
	}
	if p.next == nil || p.next.Name != o.Name {
		return nil
	}
	f := p.next
	p.advance()
	if !f.same(o) {
		p.changed = true
		return nil
	}
	return f
}

// learn remembers an object that was read and believed.
func (p *seenPass) learn(o Object, f seenFrame) {
	if p == nil {
		return
	}
	f.Name, f.Size, f.Modified = o.Name, o.Size, modified(o)
	p.changed = true
	p.keep(&f)
}

// keep writes a frame, while there is room and order.
func (p *seenPass) keep(f *seenFrame) {
	if p == nil || p.new == nil || f.Name <= p.last {
		return
	}
	b, err := f.encoded, error(nil)
	if b == nil || !sameSlice(f.before, p.packs) {
		b, err = f.encode(p.packs)
	}
	if err != nil || len(b) > maxSeenFrame || p.wrote+int64(len(b)) > maxSeen {
		return
	}
	check := checkOf(p.check, b)
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	for _, part := range [][]byte{head, b, check} {
		if _, err := p.w.Write(part); err != nil {
			p.drop() // a disk that is full must not stop the vault
			return
		}
		p.wrote += int64(len(part))
	}
	p.check, p.last = check, f.Name
	if f.Manifest != nil {
		p.packs = f.Manifest.Packs
	}
}

// sameSlice reports whether both are one slice: what was encoded against the one may be
// written behind the other.
func sameSlice(a, b []PackRef) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (p *seenPass) drop() {
	if p.new != nil {
		p.new.Close()
		_ = os.Remove(p.new.Name()) // if it stays, the next pass writes over it
		p.new = nil
		seenWriting.Delete(p.to)
	}
}

// end makes what was written what is remembered. Where the listing did not come to its
// end, what lies behind is remembered as it was.
//
// It is not synced: after a power cut a torn file is noticed by its checks.
func (p *seenPass) end(complete bool) {
	if p == nil {
		return
	}
	for p.next != nil {
		if complete {
			p.changed = true
			break
		}
		p.keep(p.next)
		p.advance()
	}
	if p.old != nil {
		p.old.f.Close()
	}
	if p.new != nil && p.changed && p.w.Flush() == nil && p.new.Close() == nil && os.Rename(p.new.Name(), p.to) == nil {
		p.new = nil
		seenWriting.Delete(p.to)
		return
	}
	p.drop()
}

// A seenReader reads what is remembered, in order.
type seenReader struct {
	f     *os.File
	br    *bufio.Reader
	check []byte
	packs []PackRef // of the manifest before
}

// openSeen is nil where nothing is remembered.
func openSeen(name string, head []byte) *seenReader {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	r := &seenReader{f: f, br: bufio.NewReaderSize(f, 256<<10), check: checkOf(nil, head)}
	got := make([]byte, len(head))
	if _, err := io.ReadFull(r.br, got); err != nil || string(got) != string(head) {
		f.Close()
		return nil
	}
	return r
}

var errSeen = errors.New("what was remembered is spoiled")

func (r *seenReader) read() (*seenFrame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, errSeen
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxSeenFrame {
		return nil, errSeen
	}
	b := make([]byte, n+seenCheck)
	if _, err := io.ReadFull(r.br, b); err != nil {
		return nil, errSeen
	}
	check := checkOf(r.check, b[:n])
	if string(check) != string(b[n:]) {
		return nil, errSeen
	}
	r.check = check
	f, err := decodeSeen(b[:n], r.packs)
	if err != nil {
		return nil, err
	}
	if f.encoded, f.before = b[:n], r.packs; f.Manifest != nil {
		r.packs = f.Manifest.Packs
	}
	return f, nil
}

// encode writes a frame: its length and its JSON; then the object, or, of a manifest,
// its packs as what differs from those of the manifest before.
func (f *seenFrame) encode(before []PackRef) ([]byte, error) {
	lean := *f
	if f.Manifest != nil {
		m := *f.Manifest
		m.Packs = nil
		lean.Manifest = &m
	}
	line, err := json.Marshal(lean)
	if err != nil {
		return nil, err
	}
	b := append(binary.AppendUvarint(nil, uint64(len(line))), line...)
	if f.Manifest == nil {
		return append(b, f.raw...), nil
	}
	return appendPacks(b, before, f.Manifest.Packs)
}

func decodeSeen(b []byte, before []PackRef) (*seenFrame, error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, errSeen
	}
	line, rest := b[k:k+int(n)], b[k+int(n):]
	f := &seenFrame{}
	if err := json.Unmarshal(line, f); err != nil {
		return nil, errSeen
	}
	if f.Manifest == nil {
		f.raw = rest
		return f, nil
	}
	packs, err := decodePacks(rest, before)
	if err != nil || int64(f.Manifest.Root.Pack) >= int64(len(packs)) {
		return nil, errSeen
	}
	f.Manifest.Packs, f.Manifest.recalled = packs, recalled{f.Hash, f.Key}
	return f, nil
}

// appendPacks writes runs: so many of the packs before from a number on; or, from the
// number behind the last, so many that follow in full.
func appendPacks(b []byte, before, packs []PackRef) ([]byte, error) {
	at := make(map[string]int, len(before))
	for i, p := range before {
		at[p.ID] = i
	}
	known := func(i int) (int, bool) {
		n, ok := at[packs[i].ID]
		return n, ok && before[n] == packs[i]
	}
	b = binary.AppendUvarint(b, uint64(len(packs)))
	for i := 0; i < len(packs); {
		from, ok := known(i)
		end := i + 1
		for end < len(packs) {
			n, same := known(end)
			if same != ok || ok && n != from+end-i {
				break
			}
			end++
		}
		if !ok {
			from = len(before)
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(from)), uint64(end-i))
		for ; i < end; i++ {
			if ok {
				continue
			}
			p := packs[i]
			id, err1 := hex.DecodeString(p.ID)
			hash, err2 := hex.DecodeString(p.Hash)
			if err := errors.Join(err1, err2); err != nil || len(id) != 16 || len(hash) != 32 {
				return nil, cmp.Or(err, errSeen)
			}
			b = binary.AppendUvarint(append(append(b, id...), hash...), uint64(p.Size))
		}
	}
	return b, nil
}

func decodePacks(b []byte, before []PackRef) ([]PackRef, error) {
	bad := false
	number := func() int {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > 1<<40 {
			bad, b = true, nil
			return 0
		}
		b = b[k:]
		return int(n)
	}
	count := number()
	if bad || count > maxPacks {
		return nil, errSeen
	}
	packs := make([]PackRef, 0, min(count, len(before)+len(b)/48+1))
	for len(packs) < count {
		from, n := number(), number()
		switch {
		case bad, n <= 0, n > count-len(packs), from > len(before), from < len(before) && n > len(before)-from:
			return nil, errSeen
		case from < len(before):
			packs = append(packs, before[from:from+n]...)
			continue
		}
		for range n {
			if len(b) < 48 {
				return nil, errSeen
			}
			p := PackRef{ID: hex.EncodeToString(b[:16]), Hash: hex.EncodeToString(b[16:48])}
			b = b[48:]
			if p.Size = int64(number()); bad {
				return nil, errSeen
			}
			packs = append(packs, p)
		}
	}
	if len(b) > 0 {
		return nil, errSeen
	}
	return packs, nil
}

// EachManifest calls fn for every snapshot of a scope, or of all scopes if scope is "",
// in the order of their names: with the manifest, or why it cannot be read. One at a
// time: all of them together may be larger than the memory. With a Seen, what was seen
// before comes from there. An error of fn ends it and is returned.
func (r *Repository) EachManifest(ctx context.Context, scope string, fn func(o Object, m *Manifest, err error) error) error {
	objects, err := r.snapshotObjects(ctx, scope)
	if err != nil {
		return err
	}
	for len(objects) > 0 {
		_, rest, _ := strings.Cut(objects[0].Name, "/")
		of, _, _ := strings.Cut(rest, "/")
		n := slices.IndexFunc(objects, func(o Object) bool { return !strings.HasPrefix(o.Name, "snapshots/"+of+"/") })
		if n < 0 {
			n = len(objects)
		}
		if err := r.eachOf(ctx, of, objects[:n], fn); err != nil {
			return err
		}
		objects = objects[n:]
	}
	return nil
}

// eachOf is EachManifest for the objects of one scope.
func (r *Repository) eachOf(ctx context.Context, scope string, objects []Object, fn func(o Object, m *Manifest, err error) error) (err error) {
	p := r.seen.pass(r.id, scope, "snapshots")
	defer func() { p.end(err == nil) }()
	for _, o := range objects {
		if f := p.find(o); f != nil && f.Manifest != nil && f.Manifest.Object() == o.Name && f.Manifest.Repository == r.id && f.Manifest.Verify(r.trust...) == nil {
			p.keep(f)
			if err := fn(o, f.Manifest, nil); err != nil {
				return err
			}
			continue
		}
		m, err := r.manifest(ctx, o.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			if key, ok := signerOf(m.raw, domainManifest, r.trust); ok {
				p.learn(o, seenFrame{Key: key, Hash: m.Hash(), Manifest: m})
			}
		}
		if err := fn(o, m, err); err != nil {
			return err
		}
	}
	return nil
}

// signerOf says which of keys signed an object.
func signerOf(raw []byte, domain string, keys []seal.VerifyKey) (string, bool) {
	line, sig, err := splitSigned(raw)
	if err != nil {
		return "", false
	}
	for _, k := range keys {
		if k.Verify(domain, line, sig) == nil {
			return k.String(), true
		}
	}
	return "", false
}

// eachSigned reads the small signed objects of a scope, in the order of their names. take
// gets what was seen before and says whether it belongs under the name; read gets the
// name of anything else, and returns the object if it could be read.
func (r *Repository) eachSigned(ctx context.Context, scope, kind, prefix, domain string, take func(name string, raw []byte) bool, read func(name string) (raw []byte)) (err error) {
	var objects []Object
	if err := r.store.List(ctx, prefix, func(o Object) error {
		objects = append(objects, o)
		return nil
	}); err != nil {
		return err
	}
	p := r.seen.pass(r.id, scope, kind)
	defer func() { p.end(err == nil) }()
	for _, o := range objects {
		if f := p.find(o); f != nil && f.Manifest == nil {
			if _, ok := signerOf(f.raw, domain, r.trust); ok && take(o.Name, f.raw) {
				p.keep(f)
				continue
			}
		}
		raw := read(o.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, ok := signerOf(raw, domain, r.trust); ok {
			p.learn(o, seenFrame{raw: raw})
		}
	}
	return nil
}
