package s3

import (
	"context"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/internal/repo"
)

// Extend implements repo.Locker: the object is locked in compliance mode until then,
// or for as long as it is locked already. The bucket needs object lock.
func (s *Store) Extend(ctx context.Context, name string, until time.Time) error {
	if err := s.begin(ctx, "lock", name); err != nil {
		return err
	}
	err := s.retry(ctx, func(ctx context.Context) error {
		version, have, err := s.lockedUntil(ctx, name)
		if err != nil || !have.Before(until.Truncate(time.Second)) {
			return err // a longer lock cannot be shortened, and need not
		}
		mode, date := minio.Compliance, until.UTC().Truncate(time.Second)
		return s.client.PutObjectRetention(ctx, s.cfg.Bucket, s.key(name), minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &date, VersionID: version})
	})
	if err != nil {
		return s.explain("lock", name, err)
	}
	return nil
}

// lockedUntil asks for the lock of an object, the first version; zero if there is none.
// It reads the headers: servers spell the document of the lock in several ways.
func (s *Store) lockedUntil(ctx context.Context, name string) (version string, until time.Time, err error) {
	info, err := s.statFirst(ctx, name)
	if err != nil {
		return "", until, err
	}
	until, perr := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if perr != nil {
		until = time.Time{}
	}
	return info.VersionID, until, nil
}

var _ repo.Locker = (*Store)(nil)
