// Package location holds what all kinds of places for backups share: the names of
// objects and the reasons why a place does not do what it was asked.
//
// A location is a repo.Store. Its kinds live in the packages below this one, and
// locationtest is the suite that each of them passes.
package location

import (
	"errors"
	"fmt"
	"strings"

	"holdfast"
)

// Marker is the object that makes a place a repository. A place without it is
// not written to: it may be the empty directory under a disk that is not mounted.
const Marker = "holdfast-repository"

// Why a location refused. Each is wrapped with the place, the object and a hint.
var (
	ErrUnreachable = errors.New("location is not there")
	ErrFull        = errors.New("location is full")
	ErrReadOnly    = errors.New("location is read-only")
	ErrDenied      = errors.New("location denied access")
	ErrLocked      = errors.New("object is locked") // by a retention that nobody can lift before its end
	ErrOverwrites  = errors.New("location overwrites objects")
	ErrName        = errors.New("not the name of an object")
	ErrSize        = errors.New("content has another size than announced")
)

// Limits of names.
const (
	MaxName  = 512
	maxParts = 8
)

// CheckName refuses what is not the name of an object: parts of letters, digits,
// '.', '_' and '-', joined by slashes, none beginning with a dot or a hyphen. So no name
// can lead out of a location, hide in it, or be read as an option.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || strings.Count(name, "/") >= maxParts {
		return fmt.Errorf("%q: %w", clip(name), ErrName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if !ValidPart(part) {
			return fmt.Errorf("%q: %w", name, ErrName)
		}
	}
	return nil
}

// ValidPart reports whether s can be one part of a name.
func ValidPart(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' || len(s) > 255 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// ProbePrefix begins the names of the folders in which a test of a place tries things.
const ProbePrefix = ".holdfast-probe-"

// Reserved reports whether a name at the top of a place is no object and yet nothing that
// somebody left there: a running test of the place, or what a file system keeps for itself.
func Reserved(name string) bool {
	switch name {
	case "lost+found", ".snapshot", ".zfs":
		return true
	}
	return strings.HasPrefix(name, ProbePrefix)
}

func clip(s string) string {
	if len(s) > MaxName {
		return s[:MaxName] + "…"
	}
	return s
}

// Opaque keeps the words and the hint of an error and hides what it is: a key file
// that does not exist must not read as an object that does not exist.
func Opaque(err error) error {
	if err == nil {
		return nil
	}
	plain := errors.New(err.Error())
	if hint := holdfast.Hint(err); hint != "" {
		return holdfast.WithHint(plain, "%s", hint)
	}
	return plain
}
