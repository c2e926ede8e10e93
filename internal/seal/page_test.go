package seal

import (
	"bytes"
	"testing"
)

// A sum depends on every bit of a page, its length, and the key, and on nothing else.
func TestPageSums(t *testing.T) {
	a, b := NewPageHasher(MACKey{1}), NewPageHasher(MACKey{2})
	page := bytes.Repeat([]byte{7}, 8192)
	sum := a.Append([]byte("x"), page)
	if len(sum) != 1+PageSumSize || sum[0] != 'x' {
		t.Fatalf("appended %d bytes", len(sum))
	}
	seen := map[string]bool{string(sum[1:]): true}
	if !seen[string(NewPageHasher(MACKey{1}).Append(nil, bytes.Clone(page)))] {
		t.Error("the same page and key have another sum")
	}
	other := func(what string, sum []byte) {
		if seen[string(sum)] {
			t.Errorf("%s has a sum that was there", what)
		}
		seen[string(sum)] = true
	}
	other("another key", b.Append(nil, page))
	other("a shorter page", a.Append(nil, page[:8191]))
	other("no page", a.Append(nil, nil))
	for bit := range 8192 * 8 {
		page[bit/8] ^= 1 << (bit % 8)
		other("another bit", a.Append(nil, page))
		page[bit/8] ^= 1 << (bit % 8)
	}
}

// The sums of a big file are appended one by one: what is there is not copied for each.
func TestPageSumsGrow(t *testing.T) {
	const pages = 1 << 16
	h, page := NewPageHasher(MACKey{1}), make([]byte, 64)
	moved, dst := 0, []byte(nil)
	for range pages {
		before := cap(dst)
		if dst = h.Append(dst, page); cap(dst) != before {
			moved++
		}
	}
	if len(dst) != pages*PageSumSize || moved > 200 {
		t.Errorf("%d bytes, moved %d times", len(dst), moved)
	}
}
