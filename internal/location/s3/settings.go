package s3

import (
	"context"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"

	"holdfast/internal/location"
)

// Settings asks the bucket for its encryption, its lock, its versions and its region.
// What the credentials may not ask, or the store does not know, is untold, with the reason.
func (s *Store) Settings(ctx context.Context) location.Settings {
	out := location.Unasked("not asked")
	ctx, w := watch(ctx, s.cfg.Timeout)
	defer w.stop()
	ask := func(name string, none []string, f func() (string, error)) {
		value, err := f()
		w.kick()
		e, _ := answer(err)
		switch {
		case err == nil:
			out.Tell(name, value)
		case hasCode(none, e):
			out.Tell(name, location.None)
		default:
			out.Untold[name] = s.explain("ask for "+name, "", w.cause(err)).Error()
		}
	}
	ask(location.SettingEncryption, []string{"ServerSideEncryptionConfigurationNotFoundError", "NoSuchEncryptionConfiguration"}, func() (string, error) {
		c, err := s.client.GetBucketEncryption(ctx, s.cfg.Bucket)
		if err != nil || c == nil || len(c.Rules) == 0 {
			return location.None, err
		}
		return strings.TrimSpace(c.Rules[0].Apply.SSEAlgorithm + " " + c.Rules[0].Apply.KmsMasterKeyID), nil
	})
	ask(location.SettingLock, []string{"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}, func() (string, error) {
		state, mode, validity, unit, err := s.client.GetObjectLockConfig(ctx, s.cfg.Bucket)
		switch {
		case err != nil || state != "Enabled":
			return location.None, err
		case mode == nil || validity == nil || unit == nil:
			return "object lock, no default retention", nil
		}
		return fmt.Sprintf("object lock, by default %d %s in %s mode", *validity, strings.ToLower(string(*unit)), strings.ToLower(string(*mode))), nil
	})
	ask(location.SettingVersions, nil, func() (string, error) {
		c, err := s.client.GetBucketVersioning(ctx, s.cfg.Bucket)
		if err == nil && c.Status == "" {
			c.Status = location.None
		}
		return strings.ToLower(c.Status), err
	})
	ask(location.SettingRegion, nil, func() (string, error) {
		r, err := s.client.GetBucketLocation(ctx, s.cfg.Bucket)
		return r, err
	})
	return out
}

func hasCode(codes []string, e minio.ErrorResponse) bool {
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}
