package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/s3"
	"holdfast/internal/repo"
)

var buckets atomic.Int64

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is a place in a new bucket of a server.
func config(t *testing.T, server *locationtest.S3, lock bool) s3.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n"), 0o600))
	cfg := s3.Config{Endpoint: server.URL, Bucket: fmt.Sprintf("bucket-%d", buckets.Add(1)), Prefix: "backups/holdfast", CredentialsFile: file, CAFile: server.CAFile, Insecure: server.CAFile == ""}
	must(t, s3.MakeBucket(t.Context(), cfg, lock))
	return cfg
}

func open(t *testing.T, cfg s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.New(cfg)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func put(s repo.Store, name, body string) error {
	return s.Put(context.Background(), name, int64(len(body)), strings.NewReader(body))
}

func get(s repo.Store, name string) (string, error) {
	r, err := s.Get(context.Background(), name, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestContract(t *testing.T) {
	server := locationtest.StartS3(t)
	locationtest.Run(t, func(t *testing.T) repo.Store { return open(t, config(t, server, false)) })
}

func TestContractWithVersionsAndTLS(t *testing.T) {
	server := locationtest.StartS3(t, locationtest.WithTLS(t))
	locationtest.Run(t, func(t *testing.T) repo.Store {
		cfg := config(t, server, true)
		cfg.Prefix = ""
		return open(t, cfg)
	})
}

// A lock is made longer and never shorter, and holds that long.
func TestLocksAreExtended(t *testing.T) {
	cfg := config(t, locationtest.StartS3(t), true)
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	for _, name := range []string{"packs/aa/1", "packs/aa/2"} {
		must(t, put(s, name, "kept"))
	}
	now := time.Now()
	must(t, s.Extend(t.Context(), "packs/aa/1", now.Add(48*time.Hour)))
	must(t, s.Extend(t.Context(), "packs/aa/1", now.Add(time.Hour))) // the longer one stays
	if err := s.Delete(t.Context(), "packs/aa/1"); !errors.Is(err, location.ErrLocked) {
		t.Errorf("delete of a locked object: %v", err)
	}
	until, err := s.LockedUntil(t.Context(), "packs/aa/1")
	if err != nil || until.Sub(now) < 47*time.Hour {
		t.Errorf("locked until %s, %v", until, err)
	}
	must(t, s.Delete(t.Context(), "packs/aa/2"))
	if err := s.Extend(t.Context(), "packs/aa/2", now.Add(time.Hour)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock of nothing: %v", err)
	}
}

func TestLockedObjectsCannotBeDeleted(t *testing.T) {
	cfg := config(t, locationtest.StartS3(t), true)
	cfg.Retain = time.Hour
	s := open(t, cfg)
	must(t, put(s, location.Marker, "{}"))
	must(t, put(s, "packs/aa/1", "kept"))
	if err := s.Delete(t.Context(), "packs/aa/1"); !errors.Is(err, location.ErrLocked) {
		t.Errorf("delete of a locked object: %v", err)
	}
	if got, err := get(s, "packs/aa/1"); err != nil || got != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := put(s, "packs/aa/1", "other"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put over it: %v", err)
	}
}
