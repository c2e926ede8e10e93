package seal

import (
	"errors"
	"strings"
)

// An age identity is 32 bytes in Bech32 (BIP 173) with a prefix of its own: a scalar of
// X25519, or the seed of a post-quantum key. Splitting one, and making one from bytes, need
// the bytes; the age library keeps them to itself.
const (
	bech32Letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	classicPrefix = "age-secret-key-"
	hybridPrefix  = "age-secret-key-pq-"
	bech32Sum     = 6 // letters of checksum
)

var errBech32 = errors.New("not the text of an age identity")

// scalar returns the 32 bytes of an identity. The text comes from the age library,
// which has checked it.
func (i Identity) scalar() (b [32]byte, err error) {
	text, prefix := strings.ToLower(i.String()), classicPrefix
	if i.PostQuantum() {
		prefix = hybridPrefix
	}
	data, ok := strings.CutPrefix(text, prefix+"1")
	if !ok || len(data) != 52+bech32Sum {
		return b, errBech32
	}
	acc, bits, n := 0, 0, 0
	for _, c := range []byte(data[:52]) {
		v := strings.IndexByte(bech32Letters, c)
		if v < 0 {
			return b, errBech32
		}
		acc, bits = acc<<5|v, bits+5
		if bits >= 8 {
			bits -= 8
			b[n] = byte(acc >> bits)
			acc &= 1<<bits - 1
			n++
		}
	}
	return b, nil
}

// identityOf makes the identity of either kind whose scalar, or seed, is b.
func identityOf(b [32]byte, postQuantum bool) (Identity, error) {
	prefix := classicPrefix
	if postQuantum {
		prefix = hybridPrefix
	}
	values := make([]byte, 0, 52+bech32Sum)
	acc, bits := 0, 0
	for _, c := range b {
		acc, bits = acc<<8|int(c), bits+8
		for bits >= 5 {
			bits -= 5
			values = append(values, byte(acc>>bits)&31)
			acc &= 1<<bits - 1
		}
	}
	values = append(values, byte(acc<<(5-bits))&31)
	var text strings.Builder
	text.WriteString(prefix + "1")
	for _, v := range append(values, bech32Checksum(prefix, values)...) {
		text.WriteByte(bech32Letters[v])
	}
	k, err := parseReadKey(strings.ToUpper(text.String()))
	if err != nil {
		return Identity{}, errBech32
	}
	return Identity{id: hide(k)}, nil
}

func bech32Checksum(prefix string, values []byte) []byte {
	var all []byte
	for _, c := range []byte(prefix) {
		all = append(all, c>>5)
	}
	all = append(all, 0)
	for _, c := range []byte(prefix) {
		all = append(all, c&31)
	}
	all = append(all, values...)
	all = append(all, make([]byte, bech32Sum)...)
	sum := uint32(1)
	for _, v := range all {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	sum ^= 1
	out := make([]byte, bech32Sum)
	for i := range out {
		out[i] = byte(sum>>(5*(bech32Sum-1-i))) & 31
	}
	return out
}
