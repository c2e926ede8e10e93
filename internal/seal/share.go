package seal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of a split.
const (
	MinThreshold = 2  // one share alone must open nothing
	MaxShares    = 32 // most shares of one set
)

var (
	// ErrShare marks shares that do not belong together: of other sets, twice the
	// same, or altered.
	ErrShare = errors.New("the shares do not fit together")
)

// A Share is one part of a read key. Fewer than Threshold of a set say nothing about
// the key, not even a bit of it; any Threshold of them bring it back.
//
// Only identities are split, never the keys of packs: who gets new shares of the same
// identity re-encrypts nothing. A share is a secret.
type Share struct {
	Set       [4]byte // random, the same in all shares of one split
	Index     int     // from 1
	Threshold int
	Count     int
	Holder    string    // who keeps it; told, not proved
	Created   time.Time // told, not proved
	// PostQuantum says that the key is: see [Identity.PostQuantum].
	PostQuantum bool

	opens [6]byte // the beginning of the recipient's fingerprint
	value hidden[[32]byte]
}

// TooFewError says what is missing for a set of shares. It is an ErrShare.
type TooFewError struct {
	Set       string
	Threshold int
	Have      []int // indexes of the shares that were given
	Count     int
}

func (e *TooFewError) Error() string {
	more := "1 more"
	if n := e.Threshold - len(e.Have); n > 1 {
		more = fmt.Sprintf("%d more", n)
	}
	return fmt.Sprintf("set %s: %d of the %d shares that are needed were given (%s of %d): %s of the same set is missing",
		e.Set, len(e.Have), e.Threshold, numbers(e.Have), e.Count, more)
}

// Unwrap makes the error an ErrShare.
func (e *TooFewError) Unwrap() error { return ErrShare }

func numbers(ns []int) string {
	text := ""
	for i, n := range ns {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(n)
	}
	if len(ns) == 1 {
		return "number " + text
	}
	return "numbers " + text
}

// Split makes count shares of id, of which threshold bring it back. The holders, if
// given, are as many as the shares. It joins what it made before it returns.
func Split(id Identity, threshold, count int, holders []string, created time.Time) ([]Share, error) {
	switch {
	case id.IsZero():
		return nil, fmt.Errorf("split: %w: no identity", ErrKey)
	case threshold < MinThreshold || threshold > count || count > MaxShares:
		return nil, fmt.Errorf("split into %d shares of which %d are needed: %w: want %d to %d needed, and at most %d shares",
			count, threshold, ErrKey, MinThreshold, count, MaxShares)
	case len(holders) != 0 && len(holders) != count:
		return nil, fmt.Errorf("split: %d holders for %d shares: %w", len(holders), count, ErrKey)
	}
	secret, err := id.scalar()
	if err != nil {
		return nil, fmt.Errorf("split: %w", err)
	}
	var set [4]byte
	_, _ = rand.Read(set[:]) // never fails: it ends the program instead
	coefficients := make([][32]byte, threshold)
	coefficients[0] = secret
	for i := 1; i < threshold; i++ {
		_, _ = rand.Read(coefficients[i][:])
	}
	shares := make([]Share, count)
	for i := range shares {
		shares[i] = shareOf(coefficients, i+1)
		shares[i].Set, shares[i].Threshold, shares[i].Count = set, threshold, count
		shares[i].opens, shares[i].Created, shares[i].PostQuantum = opens(id), created, id.PostQuantum()
		if len(holders) > 0 {
			shares[i].Holder = holders[i]
		}
	}
	for i := 0; i+threshold <= count; i++ {
		if back, err := Join(shares[i : i+threshold]...); err != nil || back.String() != id.String() {
			return nil, errors.New("split: the shares do not give the key back; nothing was split")
		}
	}
	return shares, nil
}

// shareOf evaluates the polynomial at x, byte by byte.
func shareOf(coefficients [][32]byte, x int) Share {
	var y [32]byte
	for i := len(coefficients) - 1; i >= 0; i-- {
		for n := range y {
			y[n] = gfMul(y[n], byte(x)) ^ coefficients[i][n]
		}
	}
	return Share{Index: x, value: hide(&y)}
}

func opens(id Identity) (b [6]byte) {
	h := Hash([]byte(id.Recipient().text))
	copy(b[:], h[:])
	return b
}

// Join brings a key back from shares of one set. More than are needed are checked
// against the others.
//
// A *TooFewError says how many of which set are missing; other errors wrap ErrShare
// and name the shares. What comes out is compared with the fingerprint that every
// share carries: shares that fit and give another key are an error, never a key.
func Join(shares ...Share) (Identity, error) {
	if len(shares) == 0 {
		return Identity{}, fmt.Errorf("no share was given: %w", ErrShare)
	}
	first := shares[0]
	var have []int
	for _, s := range shares {
		switch {
		case s.value.get() == nil:
			return Identity{}, fmt.Errorf("an empty share: %w", ErrShare)
		case s.Set != first.Set:
			return Identity{}, fmt.Errorf("share %d is of set %s and share %d of set %s: %w", first.Index, first.SetText(), s.Index, s.SetText(), ErrShare)
		case s.Threshold != first.Threshold || s.Count != first.Count || s.PostQuantum != first.PostQuantum || s.opens != first.opens:
			return Identity{}, fmt.Errorf("shares %d and %d of set %s contradict each other: %w", first.Index, s.Index, s.SetText(), ErrShare)
		case slices.Contains(have, s.Index):
			return Identity{}, fmt.Errorf("share %d of set %s was given twice: %w", s.Index, s.SetText(), ErrShare)
		}
		have = append(have, s.Index)
	}
	if len(shares) < first.Threshold {
		slices.Sort(have)
		return Identity{}, &TooFewError{Set: first.SetText(), Threshold: first.Threshold, Have: have, Count: first.Count}
	}
	used := shares[:first.Threshold]
	for _, s := range shares[first.Threshold:] {
		if interpolate(used, byte(s.Index)) != *s.value.get() {
			return Identity{}, fmt.Errorf("set %s: one of the shares %s is not what was made: leave one out after the other: %w", first.SetText(), numbers(have), ErrShare)
		}
	}
	id, err := identityOf(interpolate(used, 0), first.PostQuantum)
	if err != nil || opens(id) != first.opens {
		return Identity{}, fmt.Errorf("set %s: the shares %s give another key than was split: at least one of them was altered: %w", first.SetText(), numbers(have), ErrShare)
	}
	return id, nil
}

// interpolate evaluates at x the polynomial that goes through the shares.
func interpolate(shares []Share, x byte) (y [32]byte) {
	for i, s := range shares {
		weight := byte(1)
		for j, o := range shares {
			if i != j {
				// (x - xj) / (xi - xj); in this field minus is plus is exclusive or.
				weight = gfMul(weight, gfMul(x^byte(o.Index), gfInverse(byte(s.Index)^byte(o.Index))))
			}
		}
		for n, v := range s.value.get() {
			y[n] ^= gfMul(v, weight)
		}
	}
	return y
}

// gfMul multiplies in GF(2⁸) with the polynomial of AES, x⁸+x⁴+x³+x+1, without a
// branch or a table that depends on the operands.
func gfMul(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// gfInverse is a²⁵⁴, the inverse of a; that of 0 is 0.
func gfInverse(a byte) byte {
	r := byte(1)
	for range 7 { // 254 = 2+4+…+128
		a = gfMul(a, a)
		r = gfMul(r, a)
	}
	return r
}

// SetText is the name of the set as people read it.
func (s Share) SetText() string { return hex.EncodeToString(s.Set[:]) }

// Identity is a read key of the share's own, derived from its content, classic for every
// share. It opens no backup; it opens a challenge that asks whether the holder still has the share, and
// its recipient can be published: it says nothing about the share.
func (s Share) Identity() (Identity, error) {
	if s.value.get() == nil {
		return Identity{}, fmt.Errorf("an empty share: %w", ErrShare)
	}
	own := MACKey(*s.value.get()).ID([]byte("holdfast key share challenge/1\x00" + s.SetText()))
	return identityOf(own, false)
}

// IsZero reports whether s is no share at all.
func (s Share) IsZero() bool { return s.value.get() == nil }

// Format prints which share it is and no secret.
func (s Share) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("seal.Share %d of set %s ", s.Index, s.SetText()))
}

// GoString prints no secret.
func (s Share) GoString() string { return fmt.Sprint(s) }

// MarshalText refuses: a share is written by Text only.
func (s Share) MarshalText() ([]byte, error) { return nil, errSecret }
