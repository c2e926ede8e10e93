package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/minio/minio-go/v7"

	"holdfast/internal/location"
	"holdfast/internal/repo"
)

// List implements repo.Store. Keys of the bucket that cannot be objects are left
// out.
func (s *Store) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	if err := s.begin(ctx, "list", prefix); err != nil {
		return err
	}
	if !location.MayBegin(prefix) {
		return nil // the marker is there, so this is an answer
	}
	return s.listing(ctx, prefix, func(name string) bool { return location.CheckName(name) == nil }, fn)
}

// Strays implements repo.StrayLister: it lists keys below the prefix that List leaves out,
// because no object can have such a name. A running test of the place is left out too.
func (s *Store) Strays(ctx context.Context, fn func(repo.Object) error) error {
	if err := s.begin(ctx, "list", ""); err != nil {
		return err
	}
	return s.listing(ctx, "", func(name string) bool {
		return name != "" && location.CheckName(name) != nil && !strings.HasPrefix(name, location.ProbePrefix)
	}, fn)
}

// listing lists the objects with a prefix whose names are wanted, to the end.
func (s *Store) listing(ctx context.Context, prefix string, wanted func(name string) bool, fn func(repo.Object) error) error {
	after := "" // the key listed last
	for i := 0; ; {
		n, err := s.list(ctx, prefix, &after, wanted, fn)
		var own *callerError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &own):
			return own.err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if n > 0 {
			i = 0 // it got further
		}
		// A listing goes on behind the key where it broke.
		if i++; i >= attempts || refused(err) {
			return s.explain("list", prefix, err)
		}
		if err := pause(ctx, i-1); err != nil {
			return err
		}
	}
}

// callerError is an error of the function that a listing is given.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }

// list lists what is behind a key, to the end.
func (s *Store) list(ctx context.Context, prefix string, after *string, wanted func(name string) bool, fn func(repo.Object) error) (n int, err error) {
	outer := ctx
	ctx, w := watch(ctx, s.cfg.Timeout)
	defer w.stop()
	owner := false
	base := s.key("")
	for o := range s.client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{
		Prefix: s.key(prefix), Recursive: true, MaxKeys: s.cfg.page, StartAfter: *after, FetchOwner: &owner,
	}) {
		w.pause()
		switch {
		case o.Err != nil:
			return n, w.cause(o.Err)
		case o.Key <= *after:
			return n, fmt.Errorf("%q is listed behind %q, so the listing may lack objects: %w", o.Key, *after, fs.ErrInvalid)
		}
		*after = o.Key
		n++
		name, ok := strings.CutPrefix(o.Key, base)
		if ok && strings.HasPrefix(name, prefix) && wanted(name) {
			if err := fn(repo.Object{Name: name, Size: o.Size, Modified: o.LastModified}); err != nil {
				return n, &callerError{err}
			}
			if err := outer.Err(); err != nil {
				return n, err
			}
		}
		w.kick()
	}
	// The iterator also ends, in silence, when its context does.
	if err := ctx.Err(); err != nil {
		return n, w.cause(err)
	}
	return n, nil
}
