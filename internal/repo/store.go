// Package repo keeps snapshots and transaction logs as sealed, write-once objects
// in a place that it does not trust.
//
// A repository is a set of objects in one location. Nothing in it is ever changed:
// there is no lock, no marker, no rename and no mutable index. A writer holds only
// public recipients, so it can add and cannot read back what it wrote; a reader
// holds an age identity; whoever checks completeness or copies a snapshot to
// another place needs no key at all. docs/format/repository.md is the
// specification; this package is one implementation of it.
//
// # Invariants
//
//   - A snapshot manifest is put at a place only after every pack that it names is
//     durable there. What is listed is complete.
//   - Every pack is opened, decompressed and compared with its source before it
//     leaves the process.
//   - Each location is complete on its own; one that fails never fails the others.
//   - Nothing decides by an object's name, size or modification time alone: bytes
//     authenticate under a key bound to the repository, the kind and the object.
//   - The writer's index of what is stored is a disposable local cache.
//
// # What it does not do
//
// It does not decide what is kept: that is the vault's work. Only Repository.Remove
// and Collector delete, by the rules of the specification's section 12, and RemoveAnchor
// and RemoveTemps what is no part of any snapshot.
// It knows nothing of databases: a log piece is bytes between two positions.
package repo

import (
	"context"
	"io"
	"time"
)

// An Object is one stored object as a listing shows it.
type Object struct {
	Name string
	Size int64

	// Modified is the storage's claim, shown to people. No decision rests on it.
	Modified time.Time
}

// A Locker is a Store that can lock its objects against deletion by anybody. Extend
// locks one at least until the given instant; a longer lock stays.
type Locker interface {
	Extend(ctx context.Context, name string, until time.Time) error
}

// A Store is what a location must be able to do. Names are slash-separated paths
// of ASCII letters, digits, '.', '_' and '-'; two names never differ by case only.
// All methods may be called concurrently.
type Store interface {
	// Put stores body, which has exactly size bytes, under name if nothing is there
	// yet: atomically, and durably before it returns. It returns an error that is
	// fs.ErrExist if the name is taken, whether or not by the same bytes, and any
	// other error if body is shorter or longer than size; then nothing is visible.
	// After another error the object may or may not be there: the caller re-reads.
	Put(ctx context.Context, name string, size int64, body io.Reader) error

	// Get reads n bytes of name from off, or to the end if n < 0. A missing object
	// is fs.ErrNotExist; an object that ends early is an error of the reader, never
	// a short success.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)

	// List calls fn for every object whose name begins with prefix, in lexical
	// order of names. A listing that cannot be completed is an error, never a
	// short success. An error of fn ends the listing and is returned.
	List(ctx context.Context, prefix string, fn func(Object) error) error

	// Delete removes name. A missing object is fs.ErrNotExist.
	Delete(ctx context.Context, name string) error
}
