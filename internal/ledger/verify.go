package ledger

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The ways in which a log can be other than it was. A [DamageError] says where.
var (
	ErrTruncated = errors.New("the log is shorter than a checkpoint of it") // its end is missing, or it was restored from a backup
	ErrFork      = errors.New("the log has another history than a checkpoint of it")
	ErrRemoved   = errors.New("a fact was removed")
	ErrChanged   = errors.New("a fact was changed")
	ErrReordered = errors.New("facts are out of order")
	ErrRefused   = errors.New("the log refuses new facts")
	ErrNote      = errors.New("not a checkpoint of this log by this key")
)

// A DamageError says what is wrong and at which index. Index is -1 where it
// cannot be told.
type DamageError struct {
	Kind   error
	Index  int64
	Detail string
}

func (e *DamageError) Error() string {
	s := e.Kind.Error()
	if e.Index >= 0 {
		s = fmt.Sprintf("fact %d: %s", e.Index, s)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the kind.
func (e *DamageError) Unwrap() error { return e.Kind }

// A Tree is what a checkpoint says: a log, its size and its root hash.
type Tree struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// String returns the text of a checkpoint: three lines.
func (t Tree) String() string {
	return fmt.Sprintf("%s\n%d\n%s\n", t.Origin, t.Size, base64.StdEncoding.EncodeToString(t.Root[:]))
}

// ParseTree reads the text of a checkpoint. It accepts only what String writes.
func ParseTree(text string) (Tree, error) {
	bad := func() (Tree, error) {
		return Tree{}, fmt.Errorf("%w: want three lines: origin, size and base64 root", ErrNote)
	}
	lines := strings.Split(text, "\n")
	if len(text) > MaxNote || len(lines) != 4 || checkOrigin(lines[0]) != nil {
		return bad()
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return bad()
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return bad()
	}
	t := Tree{lines[0], size, tlog.Hash(root)}
	if t.String() != text {
		return bad()
	}
	return t, nil
}

// OpenCheckpoint checks the signature of a checkpoint and returns what it says.
func OpenCheckpoint(signed []byte, origin string, v note.Verifier) (Tree, error) {
	if len(signed) > MaxNote {
		return Tree{}, fmt.Errorf("%w: longer than %d bytes", ErrNote, MaxNote)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Tree{}, fmt.Errorf("%w: %w", ErrNote, err)
	}
	t, err := ParseTree(n.Text)
	if err != nil {
		return Tree{}, err
	}
	if t.Origin != origin {
		return Tree{}, fmt.Errorf("%w: it is of %q, not of %q", ErrNote, t.Origin, origin)
	}
	return t, nil
}

func checkOrigin(s string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	if s == "" || len(s) > MaxOrigin || !utf8.ValidString(s) || strings.ContainsFunc(s, bad) {
		return fmt.Errorf("ledger: origin %q: want 1 to %d characters without spaces or \"+\"", s, MaxOrigin)
	}
	return nil
}

// RootOf computes the root over leaf hashes.
func RootOf(hashes []tlog.Hash) tlog.Hash {
	var r rootBuilder
	for _, h := range hashes {
		r.add(h)
	}
	return r.root()
}

// A rootBuilder computes a root in one pass. It keeps one hash per complete
// subtree: those of the sizes that the bits of n name, largest first.
type rootBuilder struct {
	n     int64
	stack []tlog.Hash
}

func (r *rootBuilder) add(h tlog.Hash) {
	for bit := r.n; bit&1 == 1; bit >>= 1 {
		h = tlog.NodeHash(r.stack[len(r.stack)-1], h)
		r.stack = r.stack[:len(r.stack)-1]
	}
	r.stack = append(r.stack, h)
	r.n++
}

func (r *rootBuilder) root() tlog.Hash {
	if r.n == 0 {
		h, _ := tlog.TreeHash(0, nil) // the hash of nothing
		return h
	}
	h := r.stack[len(r.stack)-1]
	for i := len(r.stack) - 2; i >= 0; i-- {
		h = tlog.NodeHash(r.stack[i], h)
	}
	return h
}

// CheckConsistency reports whether the newer tree contains all of the older one.
func CheckConsistency(older, newer Tree, proof tlog.TreeProof) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: %q and %q are two logs", ErrNote, older.Origin, newer.Origin)
	case older.Size > newer.Size:
		return &DamageError{ErrTruncated, newer.Size, fmt.Sprintf("a checkpoint has %d facts, the log %d", older.Size, newer.Size)}
	case older.Size == 0:
		return nil
	case older.Size == newer.Size:
		// The proof would be empty; the roots must be the same.
		if older.Root != newer.Root {
			return &DamageError{ErrFork, -1, fmt.Sprintf("two roots at size %d", newer.Size)}
		}
		return nil
	}
	if err := tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return &DamageError{ErrFork, -1, fmt.Sprintf("no proof leads from %d to %d facts", older.Size, newer.Size)}
	}
	return nil
}

// VerifyRange checks that leaves are the facts of the tree from index from,
// inclusive, to to, exclusive: none left out, added, changed or moved. The hashes
// are those of all leaves of the tree; they need no trust, since they must give
// its root. It returns every damage that it finds, the lowest index first.
func VerifyRange(tree Tree, hashes []tlog.Hash, from, to int64, leaves [][]byte) []*DamageError {
	if from < 0 || from > to || to > tree.Size {
		return []*DamageError{{ErrTruncated, tree.Size, fmt.Sprintf("facts %d to %d are not in a tree of %d", from, to, tree.Size)}}
	}
	if int64(len(hashes)) == tree.Size && RootOf(hashes) == tree.Root {
		return matchLeaves(hashes, from, to, leaves)
	}
	// Whoever changed the hashes too is caught by the root, and what the leaves
	// say of themselves tells what he may have done.
	damage := []*DamageError{{ErrChanged, -1, fmt.Sprintf("%d leaf hashes do not give the signed root over %d", len(hashes), tree.Size)}}
	return append(damage, claimed(from, to, leaves)...)
}

// claimed finds damage by the indexes that the leaves bear.
func claimed(from, to int64, leaves [][]byte) []*DamageError {
	var damage []*DamageError
	next := from
	for i, b := range leaves {
		f, err := ParseLeaf(b)
		switch {
		case err != nil:
			damage = append(damage, &DamageError{ErrChanged, next, fmt.Sprintf("line %d is no fact", i+1)})
			next++
			continue
		case f.Index < next:
			damage = append(damage, &DamageError{ErrReordered, f.Index, fmt.Sprintf("it comes after fact %d", next-1)})
			continue
		}
		for ; next < min(f.Index, to); next++ {
			damage = append(damage, &DamageError{ErrRemoved, next, ""})
		}
		next = f.Index + 1
	}
	if next < to {
		damage = append(damage, &DamageError{ErrTruncated, next, fmt.Sprintf("the range reaches to %d", to)})
	}
	return damage
}

// matchLeaves compares leaves with hashes that are known to be right. A hash
// tells not only that a leaf is wrong but also where it belongs, so what was
// removed, moved and changed can be told apart.
func matchLeaves(hashes []tlog.Hash, from, to int64, leaves [][]byte) []*DamageError {
	home := make(map[tlog.Hash]int64, len(hashes))
	for i, h := range hashes {
		home[h] = int64(i)
	}
	var damage []*DamageError
	there := map[int64]bool{}
	last := from - 1
	var strangers []int // positions of leaves that the tree does not know
	for i, b := range leaves {
		at, known := home[tlog.RecordHash(b)]
		if !known {
			strangers = append(strangers, i)
			continue
		}
		switch {
		case at < from || at >= to:
			damage = append(damage, &DamageError{ErrReordered, at, "it does not belong to the range"})
			continue
		case there[at]:
			damage = append(damage, &DamageError{ErrReordered, at, "it is there twice"})
		case at < last:
			damage = append(damage, &DamageError{ErrReordered, at, fmt.Sprintf("it comes after fact %d", last)})
		}
		there[at] = true
		last = max(last, at)
	}
	for _, i := range strangers {
		index := from + int64(i)
		if f, err := ParseLeaf(leaves[i]); err == nil {
			index = f.Index
		}
		detail := "its bytes do not give its hash in the tree"
		if index < from || index >= to || there[index] {
			detail = "the tree has no such fact"
		} else {
			there[index] = true
		}
		damage = append(damage, &DamageError{ErrChanged, index, detail})
	}
	end := to // of what is there
	for end > from && !there[end-1] {
		end--
	}
	for i := from; i < end; i++ {
		if !there[i] {
			damage = append(damage, &DamageError{ErrRemoved, i, ""})
		}
	}
	if end < to {
		damage = append(damage, &DamageError{ErrTruncated, end, fmt.Sprintf("the range reaches to %d", to)})
	}
	sortDamage(damage)
	return damage
}

// SplitLeaves cuts NDJSON into leaves: one per line, each line ended.
func SplitLeaves(ndjson []byte) ([][]byte, error) {
	if len(ndjson) == 0 {
		return nil, nil
	}
	if ndjson[len(ndjson)-1] != '\n' {
		return nil, &DamageError{ErrTruncated, -1, "the last line is not complete"}
	}
	lines := bytes.Split(ndjson[:len(ndjson)-1], []byte("\n"))
	for i, line := range lines {
		if len(line) > MaxLeaf {
			return nil, &DamageError{ErrChanged, -1, fmt.Sprintf("line %d is longer than %d bytes", i+1, MaxLeaf)}
		}
	}
	return lines, nil
}
