package repo

import "unicode/utf8"

// scan reads a line as appendEntry writes nearly all of them, several times as fast
// as a general decoder of JSON. It reports false for everything else (escapes, base64, extended
// attributes, white space, another way to write the same, and what is wrong),
// which encoding/json then reads or refuses: what scan accepts means the same to it.
// l is empty but for room in its slices, and is to be made anew after a false.
func (l *entryLine) scan(b []byte) bool {
	s := lineScanner{b: b}
	if !s.skip('{') {
		return false
	}
	var seen keySet
	for {
		key := s.text()
		if s.bad || !s.skip(':') || !seen.first(key) {
			return false
		}
		switch string(key) {
		case "p":
			l.Path = text(s.text())
		case "t":
			l.Type = s.kind()
		case "m":
			l.Mode = uint32(s.number(1<<32 - 1))
		case "u":
			l.UID = uint32(s.number(1<<32 - 1))
		case "g":
			l.GID = uint32(s.number(1<<32 - 1))
		case "un":
			l.User = text(s.text())
		case "gn":
			l.Group = text(s.text())
		case "mt":
			l.Mod = s.numbers(l.Mod)
		case "s":
			l.Size = int64(s.number(maxNumber))
		case "l":
			l.Target = text(s.text())
		case "d":
			l.Dev = s.number(maxNumber)
		case "c":
			l.Cut = Cut(s.text())
		case "h":
			l.Hash = string(s.text())
		case "ct":
			l.Change = s.numbers(l.Change)
		case "i":
			l.Inode = s.number(maxNumber)
		case "n":
			l.Count = int(s.number(1<<31 - 1))
		case "x":
			l.X = s.extents(l.X)
		default:
			return false
		}
		switch {
		case s.bad:
			return false
		case s.skip(','):
		default:
			return s.skip('}') && len(s.b) == 0
		}
	}
}

// maxNumber has 18 digits: no sum of digits overflows on the way to it.
const maxNumber = 1e18 - 1

// A keySet holds which keys a line had: what two with the same name mean is left to
// encoding/json.
type keySet [256]bool

// first adds a key of one or two letters, and reports whether it was not there yet.
// The keys that scan knows have places of their own.
func (k *keySet) first(key []byte) bool {
	if len(key) == 0 || len(key) > 2 {
		return false
	}
	i := key[0]
	if len(key) == 2 {
		i ^= key[1] << 3
	}
	was := k[i]
	k[i] = true
	return !was
}

// A lineScanner takes values from the front of b. What does not fit makes it bad.
type lineScanner struct {
	b   []byte
	bad bool
}

func (s *lineScanner) skip(c byte) bool {
	if len(s.b) == 0 || s.b[0] != c {
		return false
	}
	s.b = s.b[1:]
	return true
}

func (s *lineScanner) want(c byte) { s.bad = !s.skip(c) || s.bad }

// text takes a string that stands for itself; it lies in the line.
func (s *lineScanner) text() []byte {
	s.want('"')
	plain := true
	for i, c := range s.b {
		switch {
		case c == '"':
			t := s.b[:i]
			s.b = s.b[i+1:]
			s.bad = s.bad || !plain && !utf8.Valid(t)
			return t
		case c == '\\' || c < 0x20:
			s.bad = true
			return nil
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	s.bad = true
	return nil
}

// kind takes a string that is nearly always one of two.
func (s *lineScanner) kind() string {
	switch t := s.text(); string(t) {
	case TypeFile:
		return TypeFile
	case TypeDir:
		return TypeDir
	default:
		return string(t)
	}
}

// number takes digits that make at most limit.
func (s *lineScanner) number(limit uint64) uint64 {
	v, i := uint64(0), 0
	for i < len(s.b) && i < 18 && s.b[i]-'0' <= 9 {
		v = v*10 + uint64(s.b[i]-'0')
		i++
	}
	// A digit more is one too many, and none begins with 0 but 0.
	s.bad = s.bad || i == 0 || v > limit || i > 1 && s.b[0] == '0'
	s.b = s.b[i:]
	return v
}

// numbers takes a pair into the room of dst.
func (s *lineScanner) numbers(dst []int64) []int64 {
	s.want('[')
	a := s.number(maxNumber)
	s.want(',')
	b := s.number(maxNumber)
	s.want(']')
	return append(dst[:0], int64(a), int64(b))
}

// extents takes at least one extent into the room of dst.
func (s *lineScanner) extents(dst [][5]int64) [][5]int64 {
	dst = dst[:0]
	s.want('[')
	for !s.bad {
		var x [5]int64
		s.want('[')
		for i := range x {
			if i > 0 {
				s.want(',')
			}
			x[i] = int64(s.number(maxNumber))
		}
		s.want(']')
		dst = append(dst, x)
		if !s.skip(',') {
			break
		}
	}
	s.want(']')
	return dst
}
