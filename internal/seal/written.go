package seal

import (
	"fmt"
	"strings"
)

// Secrets that lie on paper are typed in by a tired person. They are written in the
// 32 letters of Crockford's alphabet, which has no I, L, O and U and reads small
// letters and the look-alikes as what was meant, in groups of five: four letters of
// content and one that checks them.
//
// The check letter is a sum over GF(32), weighted by the place in the group and with
// the number of the group in it. So every single wrong letter, every two neighbours
// exchanged and every two groups exchanged are noticed, and the group is named. docs/format/keys.md
// is the specification.
const (
	writtenLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	groupLetters   = 4 // of content, in each group
	groupsPerLine  = 5
	maxGroups      = 32 // so that a group's number is one letter
)

// writeGroups writes b, whose length is a multiple of five bytes, as lines of groups.
func writeGroups(b []byte) string {
	var letters []byte
	acc, bits := 0, 0
	for _, c := range b {
		acc, bits = acc<<8|int(c), bits+8
		for bits >= 5 {
			bits -= 5
			letters = append(letters, byte(acc>>bits)&31)
			acc &= 1<<bits - 1
		}
	}
	var out strings.Builder
	for g := 0; len(letters) >= groupLetters; g++ {
		switch {
		case g == 0:
		case g%groupsPerLine == 0:
			out.WriteByte('\n')
		default:
			out.WriteByte(' ')
		}
		group := letters[:groupLetters]
		for _, v := range group {
			out.WriteByte(writtenLetters[v])
		}
		out.WriteByte(writtenLetters[groupCheck(g, group)])
		letters = letters[groupLetters:]
	}
	return out.String()
}

// A GroupError names the group of a written secret that cannot be right. It shows
// nothing of the secret.
type GroupError struct {
	Group int // from 1, in reading order
	Why   string
}

func (e *GroupError) Error() string { return fmt.Sprintf("group %d: %s", e.Group, e.Why) }

// Unwrap makes the error an ErrKey.
func (e *GroupError) Unwrap() error { return ErrKey }

// readGroups reads groups that white space or hyphens part.
func readGroups(text string) ([]byte, error) {
	groups := strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == '-' || r == '\u00a0' })
	if len(groups) == 0 || len(groups) > maxGroups {
		return nil, fmt.Errorf("%d groups: %w: want 1 to %d groups of five letters", len(groups), ErrKey, maxGroups)
	}
	var out []byte
	acc, bits := 0, 0
	for g, group := range groups {
		values := make([]byte, 0, groupLetters+1)
		for _, c := range group {
			v := writtenValue(c)
			if v < 0 {
				return nil, &GroupError{g + 1, "a character that no written key has"}
			}
			if values = append(values, byte(v)); len(values) > groupLetters+1 {
				break
			}
		}
		if len(values) != groupLetters+1 {
			return nil, &GroupError{g + 1, "want five letters"}
		}
		if groupCheck(g, values[:groupLetters]) != values[groupLetters] {
			return nil, &GroupError{g + 1, "a letter is wrong, or a group before it is missing or in another place"}
		}
		for _, v := range values[:groupLetters] {
			acc, bits = acc<<5|int(v), bits+5
			if bits >= 8 {
				bits -= 8
				out = append(out, byte(acc>>bits))
				acc &= 1<<bits - 1
			}
		}
	}
	if acc != 0 {
		return nil, fmt.Errorf("%d groups: %w: some are missing at the end", len(groups), ErrKey)
	}
	return out, nil
}

// writtenValue is the value of a letter, -1 for none.
func writtenValue(c rune) int {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	switch c {
	case 'O':
		c = '0'
	case 'I', 'L':
		c = '1'
	}
	return strings.IndexRune(writtenLetters, c)
}

// groupCheck is the check letter of group g: g + 2·a + 4·b + 8·c + 16·d over GF(32)
// with the polynomial x⁵+x²+1.
func groupCheck(g int, group []byte) byte {
	sum := byte(g) & 31
	for i, v := range group {
		for range i + 1 {
			v <<= 1
			v ^= 0x25 & -(v >> 5)
		}
		sum ^= v
	}
	return sum
}
