package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var (
	// ErrNotRepository means that a place holds no repository marker: it is empty,
	// not mounted, or something else.
	ErrNotRepository = errors.New("not a holdfast repository")
	// ErrInitialised means that a place already holds another repository.
	ErrInitialised = errors.New("already holds another repository")
	// ErrFormat means that an object was written in a format that this version
	// does not read.
	ErrFormat = errors.New("format not supported")
	// ErrDamaged means that bytes are not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrSubstituted means that an object is whole and is not the one that its
	// name, or whoever refers to it, says.
	ErrSubstituted = errors.New("another object lies in its place")
	// ErrKind means that an object or a segment is of another kind than the way to
	// it says: a pack where a log piece belongs, content where a root belongs.
	ErrKind = errors.New("of another kind than expected")
	// ErrForeign means that an object belongs to another repository.
	ErrForeign = errors.New("belongs to another repository")
	// ErrUntrusted means that no trusted key signed an object.
	ErrUntrusted = errors.New("not signed by a trusted key")
	// ErrConflict means that an object that is written once is there with other
	// content.
	ErrConflict = errors.New("already there with other content")
	// ErrRecipients means that fewer than two independent recipients were given.
	ErrRecipients = errors.New("fewer than two recipients")
	// ErrParentGone means that extents of an earlier snapshot cannot be used,
	// because a pack of it is at no place any more. Read the file instead.
	ErrParentGone = errors.New("a pack of the parent snapshot is gone")
	// ErrLimit means that something is larger than the format allows.
	ErrLimit = errors.New("beyond the limit of the format")
	// ErrEscape means that an entry would be written outside of its directory.
	ErrEscape = errors.New("leads outside of the directory")
	// ErrClosed means that a writer was used after Finish or Abort.
	ErrClosed = errors.New("writer is finished")
)

// A Missing object is named by a manifest and is not in the place as it should be.
type Missing struct {
	Name string
	Want int64 // size in the manifest
	Have int64 // size in the place; -1 if the object is not there
}

// A MissingError lists the objects that a snapshot needs and that are absent or
// have another size. It is fs.ErrNotExist if at least one is absent.
type MissingError struct {
	Snapshot string
	Objects  []Missing
}

func (e *MissingError) Error() string {
	const shown = 3
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %q: %d objects missing or of wrong size: ", e.Snapshot, len(e.Objects))
	for i, o := range e.Objects {
		switch {
		case i == shown:
			fmt.Fprintf(&b, " and %d more", len(e.Objects)-shown)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		if o.Have < 0 {
			fmt.Fprintf(&b, "%q is missing", o.Name)
		} else {
			fmt.Fprintf(&b, "%q has %d bytes of %d", o.Name, o.Have, o.Want)
		}
	}
	return b.String()
}

// Is makes a MissingError an fs.ErrNotExist, or ErrDamaged when sizes differ.
func (e *MissingError) Is(target error) bool {
	for _, o := range e.Objects {
		if o.Have < 0 && target == fs.ErrNotExist || o.Have >= 0 && target == ErrDamaged {
			return true
		}
	}
	return false
}

// Damage is one place in a snapshot that cannot be read back, and what it costs.
type Damage struct {
	Pack    string // object name
	Segment int    // -1: the pack as a whole
	Paths   []string
	Err     error
}

func (d Damage) String() string {
	s := fmt.Sprintf("%q", d.Pack)
	if d.Segment >= 0 {
		s += fmt.Sprintf(" segment %d", d.Segment)
	}
	return fmt.Sprintf("%s: %v (%d files)", s, d.Err, len(d.Paths))
}

// A DamageError says which files could not be restored whole. All others were.
type DamageError struct{ Damage []Damage }

func (e *DamageError) Error() string {
	if len(e.Damage) == 0 {
		return "damaged"
	}
	s := e.Damage[0].String()
	if n := len(e.Damage) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// Unwrap returns the causes.
func (e *DamageError) Unwrap() []error {
	errs := make([]error, 0, len(e.Damage))
	for _, d := range e.Damage {
		errs = append(errs, d.Err)
	}
	return errs
}
