package repo

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/seal"
)

// The decoders below read what a stranger may have written. They never panic,
// never allocate beyond their limits, and what they accept they can write again.

func FuzzPack(f *testing.F) {
	id := packID{1}
	key := seal.Key{2}
	box := seal.NewBox(key, packContext("r", id))
	foot := footer{mac: seal.MACKey{3}, segs: []segment{{off: 112, stored: 21, plain: 5, code: codeStored, kind: kindContent, chunks: []chunk{{n: 5}}}}}
	plain := foot.append(nil)
	f.Add(plain, uint32(112), uint32(1))
	f.Add(appendHeader(nil, bytes.Repeat([]byte{1}, 100)), uint32(0), uint32(1))
	f.Add([]byte{}, uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, start, segments uint32) {
		if _, _, err := checkHeader(b, id); err == nil {
			t.Error("a header with a chosen id")
		}
		_, _, _ = parseHeader(b)
		if len(b) >= trailerLen {
			if tr, err := parseTrailer(b[len(b)-trailerLen:], int64(len(b))); err == nil && tr.footer+uint64(tr.sealed) > uint64(len(b)) {
				t.Error("footer beyond the pack")
			}
		}
		if _, _, err := openWhole(b, "r", id, key); err == nil {
			t.Error("opened")
		}
		ft, err := parseFooter(b, int(start), trailer{footer: uint64(start) + 21, segments: segments})
		if err == nil {
			if !bytes.Equal(ft.append(nil), b) {
				t.Error("a footer that does not round-trip")
			}
			_, _, _ = ft.openSegment(box, 0, make([]byte, 21), nil, nil)
		}
	})
}

// What a cache holds of manifests is decoded from a disk that may rot.
func FuzzSeen(f *testing.F) {
	before := []PackRef{{ID: strings.Repeat("a1", 16), Size: 5000, Hash: strings.Repeat("b2", 32)}, {ID: strings.Repeat("c3", 16), Size: 1 << 27, Hash: strings.Repeat("d4", 32)}}
	fresh := PackRef{ID: strings.Repeat("e5", 16), Size: 4096, Hash: strings.Repeat("f6", 32)}
	for _, packs := range [][]PackRef{before, {before[1], fresh, before[0]}, {fresh}} {
		b, err := (&seenFrame{Name: "snapshots/s/i", Size: 9, Key: "k", Hash: "h", Manifest: &Manifest{Scope: "s", Packs: packs}}).encode(before)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := (&seenFrame{Name: "receipts/s/i", raw: []byte("line\nsignature\n")}).encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeSeen(b, before)
		if err != nil {
			return
		}
		again, err := got.encode(before)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeSeen(again, before); err != nil || !reflect.DeepEqual(same, got) {
			t.Errorf("%v: %+v, want %+v", err, same, got)
		}
	})
}

func FuzzManifest(f *testing.F) {
	key, err := seal.GenerateSigningKey("k")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed([]byte(`{"format":1,"type":"manifest","repository":"r","scope":"s","id":"20260301T120000Z-00000000","packs":[{"id":"00000000000000000000000000000000","size":4096,"hash":"`+
		hexHash(nil)+`"}],"root":{"pack":0,"segment":0}}`), domainManifest, key))
	f.Add([]byte("{}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if m.Hash() != hexHash(b) || len(m.Packs) == 0 {
			t.Error("accepted")
		}
		_ = m.Verify(key.Public())
		_, _ = parseReceipt(b, "r", "receipts/s/x")
	})
}

func FuzzEntries(f *testing.F) {
	e := Entry{
		Path: "a/\xff\"b", Type: TypeFile, Mode: 0o644, UID: 1, GID: 2, User: "u", Group: "g", ModTime: time.Unix(1, 2), Size: 1 << 20, Sparse: true, Cut: CutPages,
		Xattrs: map[string][]byte{"user.a": {1}}, Hash: make([]byte, 32), ChangeTime: time.Unix(3, 4), Inode: 5, Extents: []Extent{{0, 100, 0, 1, 2}, {200, 5, 1, 2, 3}},
	}
	f.Add(appendEntry(nil, &e))
	f.Add([]byte(`{"p":"x","t":"file","n":1}` + "\n" + `{"more":[[0,1,0,0,0]]}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newEntryReader(bytes.NewReader(b), 2)
		for {
			e, err := r.next()
			if err != nil {
				return
			}
			if checkPath(e.Path) != nil || e.checkExtents(2) != nil {
				t.Fatalf("accepted %+v", e)
			}
			again, err := newEntryReader(bytes.NewReader(appendEntry(nil, &e)), 2).next()
			if e.Cut != CutPages {
				e.Cut = CutContent
			}
			if err != nil || !reflect.DeepEqual(again, e) {
				t.Fatalf("%+v read back as %+v, %v", e, again, err)
			}
		}
	})
}

// What the quick way of reading a line accepts means the same to encoding/json.
func FuzzLine(f *testing.F) {
	e := Entry{
		Path: "dir/ä file", Type: TypeFile, Mode: 0o644, UID: 1<<32 - 2, GID: 2, User: "u", Group: "g", ModTime: time.Unix(1, 2), Size: 1 << 40, Sparse: false,
		Hash: make([]byte, 32), ChangeTime: time.Unix(3, 4), Inode: 5, Dev: 6, Cut: CutPages, Extents: []Extent{{0, 100, 0, 1, 2}, {200, 5, 1, 2, 3}},
	}
	ordinary := bytes.TrimSuffix(appendEntry(nil, &e), []byte("\n"))
	if l := new(entryLine); !l.scan(ordinary) {
		f.Fatalf("%s is read the slow way", ordinary)
	}
	f.Add(ordinary)
	for _, line := range []string{`{"p":"x","t":"dir"}`, `{"p":"a\u0041","t":"file"}`, "{\"p\":\"\xff\"}", `{"s":1,"s":2}`, `{"P":"x"}`, `{"s":01}`, `{"s":9223372036854775807}`, `{"m":4294967296}`,
		`{"mt":[1,2,3]}`, `{"mt":[-1,2]}`, `{"x":[]}`, `{"x":[[1,2,3,4,5],[6,7,8,9,10]],"n":2}`, `{"x":[[1,2,3,4]]}`, `{"un":"a","gn":"b","nu":"c"}`, `{} `, `{"i":1}}`, `{"i":1,}`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		quick, slow := new(entryLine), new(entryLine)
		if !quick.scan(b) {
			return
		}
		if err := json.Unmarshal(b, slow); err != nil || !reflect.DeepEqual(quick, slow) {
			t.Fatalf("%q is read as %+v, and by encoding/json as %+v, %v", b, quick, slow, err)
		}
	})
}

func FuzzLog(f *testing.F) {
	sk, err := seal.GenerateSigningKey("k")
	if err != nil {
		f.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		f.Fatal(err)
	}
	p := LogPiece{Scope: "s", Lineage: "l", Timeline: 1, Start: 0, End: 5, Created: time.Unix(0, 0).UTC()}
	h := logHeader{Format: 1, Type: typePiece, Repository: "r", Scope: "s", Lineage: "l", Timeline: 1, Start: hex16(0), End: hex16(5), LastRecord: hex16(0), Plain: 5}
	b, err := sealLog("r", logName(p), h, []byte("hello"), LogKeys{Recipients: []seal.Recipient{id.Recipient()}, Signer: sk})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, got []byte) {
		parts, err := splitLog(got, "r", logName(p), []seal.VerifyKey{sk.Public()})
		var key seal.Key
		if err == nil {
			key, err = seal.Unwrap(parts.wrapped, id)
		}
		var data []byte
		if err == nil {
			data, err = parts.open("r", logName(p), key)
		}
		if err == nil && (!bytes.Equal(got, b) || string(data) != "hello") {
			t.Error("accepted what was not signed")
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []Codec{Zstd, S2, Stored} {
		out, code := compress(nil, bytes.Repeat([]byte("holdfast "), 1000), c)
		f.Add(out, code, 9000)
	}
	f.Fuzz(func(t *testing.T, b []byte, code uint8, want int) {
		out, err := decompress(nil, b, code, want)
		if err == nil && (len(out) != want || want > maxPlain) {
			t.Errorf("%d bytes, want %d", len(out), want)
		}
	})
}

func TestEntryOrderAndLongLists(t *testing.T) {
	ordered := []string{".", "a", "a/b", "a/b/c", "a/b.txt", "a.txt", "a0", "b"}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := comparePaths(a, b); got != want {
				t.Errorf("%q, %q: %d, want %d", a, b, got, want)
			}
		}
	}
	e := Entry{Path: "x", Type: TypeFile, Size: 1 << 40, Cut: CutContent}
	for i := range int64(10_000) {
		e.Extents = append(e.Extents, Extent{i * 100, 50, 0, uint32(i), 0})
	}
	b := appendEntry(nil, &e)
	if n := bytes.Count(b, []byte{'\n'}); n != 3 {
		t.Errorf("%d lines", n)
	}
	got, err := newEntryReader(bytes.NewReader(b), 1).next()
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("10000 extents: %d, %v", len(got.Extents), err)
	}
	// The list is cut at line ends, so one entry may continue in the next segment.
	em := emitter{list: b, begun: true, first: "x"}
	c := em.cut(bundleSize / 8)
	if c.plain[len(c.plain)-1] != '\n' || len(c.plain)+len(em.list) != len(b) || em.begun {
		t.Errorf("cut at %d of %d", len(c.plain), len(b))
	}
}

func TestSampling(t *testing.T) {
	text := bytes.Repeat([]byte("some text that compresses. "), 10_000)
	if incompressible(text) {
		t.Error("text")
	}
	noise := make([]byte, 200_000)
	h := seal.Hash(nil)
	for i := 0; i < len(noise); i += 32 {
		h = seal.Hash(h[:])
		copy(noise[i:], h[:])
	}
	if !incompressible(noise) {
		t.Error("noise")
	}
}

// FuzzTombstones reads both kinds of tombstones.
func FuzzTombstones(f *testing.F) {
	key, err := seal.GenerateSigningKey("k")
	if err != nil {
		f.Fatal(err)
	}
	const id = "20260301T120000Z-00000000"
	f.Add(signed([]byte(`{"format":1,"type":"tombstones","repository":"r","id":"`+id+`","objects":[{"name":"packs/00/00","size":1}]}`), domainTombstones, key))
	f.Add(signed([]byte(`{"format":1,"type":"removal","repository":"r","id":"`+id+`","scope":"s","snapshots":[{"snapshot":"x"}]}`), domainRemoval, key))
	f.Add([]byte("{}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if set, err := parseTombstones(b, "r", tombstonePrefix+id); err == nil && (set.ID != id || len(set.Objects) > maxTombstones) {
			t.Error("a set of another name, or beyond the limit")
		}
		if r, err := parseRemoval(b, "r", removalPrefix+"s/"+id); err == nil && (r.Scope != "s" || len(r.Snapshots) == 0) {
			t.Error("a removal of another name, or of nothing")
		}
		if of, ok := repairedName(string(b)); ok && len(of) >= len(b) {
			t.Error("a name that grew")
		}
	})
}

func FuzzEpoch(f *testing.F) {
	sk, err := seal.GenerateSigningKey("k")
	if err != nil {
		f.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		f.Fatal(err)
	}
	pack := packID{1, 2}.object()
	keys := map[string]seal.Key{pack: seal.NewKey(), "logs/s/l/name": seal.NewKey()}
	e, err := makeEpoch("r", "s", time.Unix(0, 0), keys, []seal.Recipient{id.Recipient()}, sk)
	if err != nil {
		f.Fatal(err)
	}
	name := epochName(e.Scope, e.ID)
	f.Add(e.raw)
	f.Add(e.raw[:40])
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parseEpoch(raw, "r", name)
		if err != nil {
			return
		}
		opened, err := got.open([]seal.Identity{id})
		if _, werr := got.recipients(); err != nil || werr != nil {
			return
		}
		if verifySigned(raw, domainKeys, got.Signer, []seal.VerifyKey{sk.Public()}) == nil && (len(opened) != 2 || opened[pack] != keys[pack]) {
			t.Error("accepted what was not signed")
		}
	})
}
