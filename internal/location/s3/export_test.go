package s3

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// DialTo lets a Store connect to one address, whatever the name.
func DialTo(cfg Config, to string, asked func(addr string)) Config {
	cfg.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		asked(addr)
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	return cfg
}

// DialOver lets a Store use one connection, whatever the name.
func DialOver(cfg Config, c net.Conn) Config {
	cfg.dial = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	return cfg
}

// SetPolicy gives a bucket its policy.
func SetPolicy(ctx context.Context, cfg Config, policy string) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.client.SetBucketPolicy(ctx, cfg.Bucket, policy)
}

// Hide asks to cover an object by a delete marker, as a thief would.
func Hide(ctx context.Context, s *Store, name string) error {
	return s.client.RemoveObject(ctx, s.cfg.Bucket, s.key(name), minio.RemoveObjectOptions{})
}

// Cover puts over an object without our condition, as a thief would.
func Cover(ctx context.Context, s *Store, name, body string) error {
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, s.key(name), strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{SendContentMd5: true})
	return err
}

// LockedUntil asks until when an object is locked.
func (s *Store) LockedUntil(ctx context.Context, name string) (time.Time, error) {
	_, until, err := s.lockedUntil(ctx, name)
	return until, err
}
