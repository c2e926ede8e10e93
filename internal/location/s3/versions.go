package s3

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// An object is written once, so of several versions of one the first is the object. The
// others were laid over it by somebody whose credentials put without our condition. Where
// the bucket keeps versions, and the credentials may list them (s3:ListBucketVersions), the
// first one is read, whatever lies on it: who can only put can destroy nothing.

const (
	maxCovers = 10_000  // versions of one name that are looked through for the first
	maxFirsts = 100_000 // remembered; beyond it they are asked for again
)

// first returns the version of an object that was written first, given the newest. Without
// versions, or without the right to list them, that is the newest.
func (s *Store) first(ctx context.Context, name, newest string) (string, error) {
	if newest == "" || newest == "null" || s.newestOnly.Load() {
		return newest, nil
	}
	s.mu.Lock()
	version, ok := s.firsts[name]
	s.mu.Unlock()
	if ok {
		return version, nil
	}
	n := 0
	key := s.key(name)
	outer := ctx
	ctx, w := watch(ctx, s.cfg.Timeout)
	defer w.stop()
	for o := range s.client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: key, Recursive: true, WithVersions: true}) {
		if e, ok := answer(o.Err); ok && (e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusNotImplemented) {
			s.newestOnly.Store(true)
			return newest, nil
		}
		if o.Err != nil {
			return "", w.cause(o.Err)
		}
		w.kick()
		if o.Key != key {
			break // behind it: a longer name
		}
		if n++; n > maxCovers {
			return "", fmt.Errorf("more than %d versions lie over %q: %w", maxCovers, name, fs.ErrInvalid)
		}
		if !o.IsDeleteMarker {
			version = o.VersionID // the newest comes first
		}
	}
	if outer.Err() != nil {
		return "", outer.Err()
	}
	if err := ctx.Err(); err != nil {
		return "", w.cause(err) // the listing ended with it, in silence
	}
	if version == "" {
		return newest, nil // gone meanwhile: the next request says so
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firsts == nil || len(s.firsts) >= maxFirsts {
		s.firsts = map[string]string{}
	}
	s.firsts[name] = version
	return version, nil
}

// forget is for what was deleted: a later object of its name is another first one.
func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.firsts, name)
}

// statFirst asks for the first version of an object.
func (s *Store) statFirst(ctx context.Context, name string) (minio.ObjectInfo, error) {
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(name), minio.StatObjectOptions{})
	if err != nil {
		return info, err
	}
	version, err := s.first(ctx, name, info.VersionID)
	if err != nil || version == info.VersionID {
		return info, err
	}
	return s.client.StatObject(ctx, s.cfg.Bucket, s.key(name), minio.StatObjectOptions{VersionID: version})
}

// connectFirst is connect for the first version. What the newest one answers says which
// that is; also if it answers that it has no such range.
func (r *objectReader) connectFirst(err error, newest string) (again bool, _ error) {
	if r.version != "" {
		if absent(err) {
			r.s.forget(r.name) // another process deleted it
		}
		return false, err
	}
	e, ok := answer(err)
	if err != nil && (!ok || e.StatusCode != http.StatusRequestedRangeNotSatisfiable) {
		return false, err
	}
	if err != nil {
		newest = "unknown"
	}
	version, verr := r.s.first(r.ctx, r.name, newest)
	if verr != nil {
		return false, verr
	}
	r.version = version
	if version == newest || version == "" {
		r.version = ""
		return false, err
	}
	return true, nil
}
