package repo

import (
	"bytes"
	"errors"
	"testing"

	"holdfast/internal/seal"
)

// What a compressor with a fault makes of a segment is never sealed.
func TestProofreadFindsWhatACompressorSpoils(t *testing.T) {
	plain := bytes.Repeat([]byte("what is stored must come back\n"), 4000)
	for _, codec := range []Codec{Zstd, S2, Stored} {
		stored, code := compress(nil, plain, codec)
		if err := proofread(nil, plain, stored, code); err != nil {
			t.Errorf("%s: a whole segment: %v", codec, err)
		}
		if code == codeStored {
			continue // these are the source's bytes themselves
		}
		other := bytes.Clone(plain)
		other[len(other)/2] ^= 1
		wrong, _ := compress(nil, other, codec)
		for name, spoiled := range map[string][]byte{
			"another content": wrong, "cut short": stored[:len(stored)-1], "empty": nil, "longer": append(bytes.Clone(stored), stored...),
		} {
			if err := proofread(nil, plain, spoiled, code); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %v", codec, name, err)
			}
		}
	}
}

// A pack that a fault of ours, of a cipher or of memory has spoiled between sealing and
// upload does not leave the process, whichever byte it is.
func TestReopenFindsEveryFlippedByte(t *testing.T) {
	const repository = "r1"
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := seal.Wrap(seal.Key{7}, []seal.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	p := &openPack{key: seal.Key{7}, buf: appendHeader(make([]byte, 0, 64<<10), wrapped), footer: footer{mac: seal.MACKey{1}}}
	header := len(p.buf)
	p.id = idOfHeader(p.buf)
	p.box = seal.NewBox(p.key, packContext(repository, p.id))
	for n, text := range []string{"one", "two and more"} {
		at := len(p.buf)
		p.buf = p.box.Seal(p.buf, uint64(n), []byte(text))
		p.footer.segs = append(p.footer.segs, segment{uint64(at), uint32(len(p.buf) - at), uint32(len(text)), codeStored, kindContent,
			[]chunk{{p.footer.mac.ID([]byte(text)), uint32(len(text))}}})
	}
	p.close()
	if err := reopen(p, repository); err != nil {
		t.Fatalf("a whole pack: %v", err)
	}
	for i := range p.buf {
		if i >= header && i < len(p.buf)-trailerLen && p.buf[i] == 0 && i%37 != 0 {
			continue // most of the padding: it is compared as one
		}
		p.buf[i] ^= 0x40
		if err := reopen(p, repository); err == nil {
			t.Errorf("byte %d of %d was flipped, and the pack opens", i, len(p.buf))
		}
		p.buf[i] ^= 0x40
	}
	p.footer.segs[1].plain++
	if err := reopen(p, repository); !errors.Is(err, ErrDamaged) {
		t.Errorf("another table of contents than was written: %v", err)
	}
}
