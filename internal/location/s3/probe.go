package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/probe"
)

const (
	// probePage makes listings of a few objects come in several pages.
	probePage = 7
	// probeRetain is how long an object is locked to see whether the lock holds.
	probeRetain = time.Minute
)

// Probe returns an empty place under the prefix to try things in. No listing of the
// repository shows it.
func Probe(cfg Config, id string) (probe.Place, error) {
	wanted := cfg.Retain
	cfg.Prefix = strings.Trim(cfg.Prefix, "/")
	if cfg.Prefix != "" {
		cfg.Prefix += "/"
	}
	cfg.Prefix += location.ProbePrefix + id
	cfg.Retain, cfg.page = 0, probePage
	if cfg.Timeout <= 0 || cfg.Timeout > 10*time.Second {
		cfg.Timeout = 10 * time.Second
	}
	s, err := New(cfg)
	if err != nil {
		return probe.Place{}, err
	}
	again, err := New(cfg)
	if err != nil {
		return probe.Place{}, err
	}
	return probe.Place{
		Store: s, Again: again,
		Traits: func(ctx context.Context) []probe.Check {
			return append([]probe.Check{s.lineTrait(), s.versionTrait(ctx)}, s.lockTraits(ctx, wanted)...)
		},
		Remove: func(context.Context) error { s.Close(); again.Close(); return nil },
	}, nil
}

// lineTrait says how the place is reached.
func (s *Store) lineTrait() probe.Check {
	c := probe.Check{Name: "line"}
	c.Outcome, c.Detail = probe.Holds, s.Line().String()
	if s.wire.plain {
		c.Outcome = probe.Open
		c.Consequence, c.Hint = "names, sizes and signed requests are open to who may listen on this machine", "use https; \"ca_file\" takes a certificate of your own authority"
	}
	return c
}

// versionTrait says whether an object that is deleted or covered can come back.
func (s *Store) versionTrait(ctx context.Context) probe.Check {
	c := probe.Check{Name: "versions", Consequence: "what is deleted is gone at once", Hint: "switch versioning on, or use a bucket with object lock"}
	_, version, err := s.stat(ctx, location.Marker)
	switch {
	case err != nil:
		return probe.Check{Name: c.Name, Outcome: probe.Unknown, Detail: s.explain("stat", location.Marker, err).Error()}
	case version != "" && version != "null":
		if _, err := s.first(ctx, location.Marker, version); err != nil {
			return probe.Check{Name: c.Name, Outcome: probe.Unknown, Detail: s.explain("list versions", location.Marker, err).Error()}
		}
		if s.newestOnly.Load() {
			return probe.Check{Name: c.Name, Outcome: probe.Open, Detail: "the bucket keeps old versions of objects, and these credentials may not list them",
				Consequence: "what a thief lays over an object is read instead of it, and found damaged", Hint: "give the credentials the right to list versions (s3:ListBucketVersions)"}
		}
		return probe.Check{Name: c.Name, Outcome: probe.Holds, Detail: "the bucket keeps old versions of objects, and the first is read"}
	}
	c.Outcome, c.Detail = probe.Open, "the bucket keeps no old versions"
	return c
}

// lockTraits locks an object for a moment and tries to delete it.
func (s *Store) lockTraits(ctx context.Context, wanted time.Duration) []probe.Check {
	c := probe.Check{Name: "object lock"}
	state, mode, validity, unit, err := s.client.GetObjectLockConfig(ctx, s.cfg.Bucket)
	e, _ := answer(err)
	without := err == nil && state != "Enabled" || e.Code == "ObjectLockConfigurationNotFoundError" || e.Code == "NoSuchObjectLockConfiguration"
	switch {
	case without && wanted > 0:
		c.Outcome, c.Detail = probe.Missing, "the bucket has no object lock, and the plan asks for it"
		c.Consequence, c.Hint = "no backup can be written there", "make a new bucket with object lock: it cannot be had later; or remove \"lock\" from the plan"
		return []probe.Check{c}
	case without:
		c.Outcome, c.Detail = probe.Open, "the bucket has no object lock"
		c.Consequence, c.Hint = "who has the right to delete can destroy every backup there", "make a new bucket with object lock, and write \"lock: 30d\" into the plan"
		return []probe.Check{c}
	}
	cfg := s.cfg
	cfg.Retain = probeRetain
	locking, nerr := New(cfg)
	if nerr != nil {
		return []probe.Check{{Name: c.Name, Outcome: probe.Unknown, Detail: nerr.Error()}}
	}
	defer locking.Close()
	perr := put(ctx, locking, "locked")
	if perr != nil {
		c.Outcome, c.Detail = probe.Open, perr.Error()
		if wanted > 0 {
			c.Outcome, c.Consequence, c.Hint = probe.Missing, "no backup can be written there", "give the credentials the right to lock objects (s3:PutObjectRetention)"
		}
		return []probe.Check{c}
	}
	until := s.cfg.Clock().Add(probeRetain).UTC().Format("15:04:05Z")
	switch derr := locking.Delete(ctx, "locked"); {
	case derr == nil:
		c.Outcome, c.Detail = probe.Missing, "an object that was locked in compliance mode could be deleted"
		c.Consequence, c.Hint = "the lock is a word only", "do not rely on this place's lock; ask its operator"
	case errors.Is(derr, location.ErrLocked), errors.Is(derr, location.ErrDenied):
		c.Outcome, c.Detail = probe.Holds, "an object that is locked in compliance mode cannot be deleted; one was locked until "+until
	default:
		c.Outcome, c.Detail = probe.Unknown, derr.Error()
	}
	d := probe.Check{Name: "retention", Outcome: probe.Told, Detail: "none by the bucket"}
	if err == nil && mode != nil && validity != nil && unit != nil {
		d.Detail = fmt.Sprintf("by the bucket: %d %s in %s mode", *validity, strings.ToLower(string(*unit)), strings.ToLower(string(*mode)))
		if *mode == minio.Governance {
			d.Outcome, d.Consequence = probe.Open, "who has the right to bypass it can delete before its end"
			d.Hint = "choose compliance mode, or write \"lock\" into the plan"
		}
	}
	switch {
	case wanted > 0:
		d.Detail += fmt.Sprintf("; by the plan: %s in compliance mode", holdfast.FormatDuration(wanted))
	case err != nil || mode == nil:
		d.Outcome, d.Consequence, d.Hint = probe.Open, "objects are not locked when they are written", "write \"lock: 30d\" into the plan"
	}
	return []probe.Check{c, d}
}

func put(ctx context.Context, s *Store, name string) error {
	const text = "locked for a minute by a test of this place\n"
	return s.Put(ctx, name, int64(len(text)), strings.NewReader(text))
}
