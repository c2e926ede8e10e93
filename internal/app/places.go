package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/dir"
	"holdfast/internal/location/gateway"
	"holdfast/internal/location/probe"
	"holdfast/internal/location/s3"
	"holdfast/internal/location/sftp"
	flow "holdfast/internal/pace"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Places opens the repositories at the locations of a plan.
type Places struct {
	mu    sync.Mutex // of everything below
	plan  *plan.Plan
	trust []seal.VerifyKey // who may have written what is read; none: anybody
	open  map[string]*repo.Repository
	store map[string]repo.Store // with their connections

	// waived reports whether an exception in force lets something be written to a place that
	// is not approved. Set before the first use; without a state, the plan alone says so.
	waived func(ctx context.Context, location string) (bool, error)
}

// NewPlaces returns the places of a plan. With trusted keys, nothing that others
// signed is read.
func NewPlaces(p *plan.Plan, trust ...seal.VerifyKey) *Places {
	ps := &Places{plan: p, trust: trust, open: map[string]*repo.Repository{}, store: map[string]repo.Store{}}
	ps.waived = func(_ context.Context, location string) (bool, error) {
		p, _ := ps.by()
		return p.PlaceWaived(location, time.Now()), nil
	}
	return ps
}

// adopt makes the locations those of another plan. What is opened and stays as it was is
// kept, with its connections and what was learned of its packs.
func (ps *Places) adopt(p *plan.Plan, trust ...seal.VerifyKey) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for name := range moved(ps.plan, p) {
		delete(ps.store, name) // who uses it still holds it; it is closed with the process
		delete(ps.open, name)
	}
	for name := range ps.store {
		if p.Unapproved(name) != ps.plan.Unapproved(name) {
			delete(ps.store, name)
			delete(ps.open, name)
		}
	}
	if p.Repository.TLSFloor() != ps.plan.Repository.TLSFloor() {
		clear(ps.store) // their connections may be older than that
		clear(ps.open)
	}
	if p.Repository.ID != ps.plan.Repository.ID || !slices.Equal(trust, ps.trust) {
		clear(ps.open)
	}
	ps.plan, ps.trust = p, trust
}

// by returns the plan and who is trusted.
func (ps *Places) by() (*plan.Plan, []seal.VerifyKey) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.plan, ps.trust
}

// location returns a location of the plan.
func (ps *Places) location(name string) (plan.Location, error) {
	p, _ := ps.by()
	l, ok := p.Locations[name]
	if !ok {
		return l, holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", name, holdfast.ErrUsage), "the plan's locations are %s", strings.Join(slices.Sorted(maps.Keys(p.Locations)), ", "))
	}
	return l, nil
}

// where is the address of a location.
func (ps *Places) where(name string) string {
	p, _ := ps.by()
	l := p.Locations[name]
	if l.Kind == plan.KindDir {
		return p.Resolve(l.Path)
	}
	return l.Address()
}

// Store returns the bare location, whether or not a repository is there.
func (ps *Places) Store(name string) (repo.Store, error) {
	l, err := ps.location(name)
	if err != nil {
		return nil, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if s := ps.store[name]; s != nil {
		return s, nil
	}
	var s repo.Store
	switch l.Kind {
	case plan.KindDir:
		s, err = dir.New(ps.plan.Resolve(l.Path))
	case plan.KindS3:
		s, err = s3.New(s3Config(ps.plan, l))
	case plan.KindSFTP:
		s, err = sftp.New(sftpConfig(l))
	case plan.KindGateway:
		s, err = gateway.New(gatewayConfig(l))
	default:
		err = fmt.Errorf("location %q: kind %q is not supported by this version", name, l.Kind)
	}
	if err != nil {
		return nil, err
	}
	if p := flow.PerSecond(int64(l.WriteMBPerSecond) * 1_000_000); p != nil {
		s = paced{s, p}
	}
	if why := ps.plan.Unapproved(name); why != "" {
		s = unapproved{s, why, func(ctx context.Context) (bool, error) { return ps.waived(ctx, name) }}
	}
	ps.store[name] = s
	return s, nil
}

// An unapproved store is read, so that what lies there can come back, and takes nothing
// without an exception. That is asked at each write: exceptions come and end.
type unapproved struct {
	repo.Store
	why    string
	waived func(context.Context) (bool, error)
}

// Unwrap says what is below, for what else it is able to do.
func (s unapproved) Unwrap() repo.Store { return s.Store }

func (s unapproved) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if waived, err := s.waived(ctx); err != nil {
		return fmt.Errorf("whether an exception lets it be written there: %w", err)
	} else if waived {
		return s.Store.Put(ctx, name, size, body)
	}
	return holdfast.WithHint(fmt.Errorf("nothing is written to a place that is not approved: %s: %w", s.why, holdfast.ErrRefused),
		"use an approved place, or have this one approved under repository.approved")
}

// A paced store takes no more than its line shall carry.
type paced struct {
	repo.Store
	pace *flow.Pace
}

// Unwrap says what is below, for what else it is able to do: lock its objects, say.
func (s paced) Unwrap() repo.Store { return s.Store }

func (s paced) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	return s.Store.Put(ctx, name, size, s.pace.Reader(ctx, body))
}

func s3Config(p *plan.Plan, l plan.Location) s3.Config {
	c := l.S3
	floor := uint16(tls.VersionTLS12)
	if p.Repository.TLSFloor() == "1.3" {
		floor = tls.VersionTLS13
	}
	return s3.Config{
		Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix, Style: s3.Style(c.Style),
		CredentialsFile: c.CredentialsFile, CAFile: c.CAFile, Insecure: c.Insecure, Retain: c.Lock.Approx(), WriteOnly: c.WriteOnly, MinTLS: floor,
	}
}

func sftpConfig(l plan.Location) sftp.Config {
	c := l.SFTP
	return sftp.Config{Addr: c.Host, User: c.User, Path: c.Path, KeyFile: c.KeyFile, HostKey: c.HostKey, KnownHosts: c.KnownHosts}
}

func gatewayConfig(l plan.Location) gateway.ClientConfig {
	return gateway.ClientConfig{Address: l.Gateway.Address, IdentityFile: l.Gateway.IdentityFile}
}

// Open returns the repository at a location. It asks the location each time: a
// repository that was there a minute ago may be unplugged now.
func (ps *Places) Open(ctx context.Context, name string) (*repo.Repository, error) {
	s, err := ps.Store(name)
	if err != nil {
		return nil, err
	}
	p, trust := ps.by()
	l := p.Locations[name]
	if g, ok := s.(*gateway.Store); ok && g.Role() == gateway.Writer || l.S3 != nil && l.S3.WriteOnly {
		return repo.Blind(s, p.Repository.ID)
	}
	r, err := repo.Open(ctx, s)
	if l.Kind == plan.KindDir && errors.Is(err, location.ErrUnreachable) {
		return nil, holdfast.WithHint(fmt.Errorf("%s: %w", p.Resolve(l.Path), location.ErrUnreachable),
			"mount the disk; if the location is new, \"holdfast location init %s\"", name)
	}
	if errors.Is(err, repo.ErrNotRepository) {
		hint := "if the disk is not mounted, mount it; if the location is new, \"holdfast location init %s\""
		if l.Kind != plan.KindDir {
			hint = "are the place and its prefix or path right? if the location is new, \"holdfast location init %s\""
		}
		return nil, holdfast.WithHint(fmt.Errorf("%s: no repository is there%w", ps.where(name), silent{err}), hint, name)
	}
	if err != nil {
		return nil, err
	}
	if want := p.Repository.ID; want != "" && r.ID() != want {
		return nil, holdfast.WithHint(fmt.Errorf("another repository is there: %q, and the plan says %q", r.ID(), want),
			"check the location's path in the plan; backups are never mixed")
	}
	r.Trust(trust...)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if old := ps.open[name]; old != nil {
		return old, nil // keeps what it has learned of packs
	}
	if ps.plan == p { // else it was opened by a plan that is not in force any more
		ps.open[name] = r
	}
	return r, nil
}

// Line is how a location was last reached by this process; zero if it was not.
func (ps *Places) Line(name string) location.Line {
	ps.mu.Lock()
	s := ps.store[name]
	ps.mu.Unlock()
	if l, ok := unwrapped[interface{ Line() location.Line }](s); ok {
		return l.Line()
	}
	return location.Line{}
}

// Space is how much room a location has, where it says so: a directory and most SFTP
// servers do, an object store and a gateway do not.
func (ps *Places) Space(ctx context.Context, name string) (location.Space, error) {
	s, err := ps.Store(name)
	if err != nil {
		return location.Space{}, err
	}
	if u, ok := s.(unapproved); ok {
		s = u.Store
	}
	if p, ok := s.(paced); ok {
		s = p.Store
	}
	switch s := s.(type) {
	case *dir.Store:
		return s.Space(ctx)
	case *sftp.Store:
		return s.Space(ctx)
	}
	return location.Space{}, location.ErrUntold
}

// Init makes a repository at a location. One of the same name that is there
// stays as it is.
func (ps *Places) Init(ctx context.Context, name string, now time.Time) error {
	s, err := ps.Store(name)
	if err != nil {
		return err
	}
	p, _ := ps.by()
	switch l := p.Locations[name]; l.Kind {
	case plan.KindDir:
		err = dir.Make(p.Resolve(l.Path))
	case plan.KindS3:
		// With a lock in the plan the bucket is made with object lock: it cannot be
		// had later. A bucket that is there stays as it is.
		err = s3.MakeBucket(ctx, s3Config(p, l), l.S3.Lock != (plan.Period{}))
	case plan.KindSFTP:
		err = s.(*sftp.Store).Make(ctx)
	}
	if err != nil {
		return fmt.Errorf("location %q: %w", name, err)
	}
	err = repo.Init(ctx, s, repo.Settings{ID: p.Repository.ID, Created: now.UTC(), Recipients: p.EncryptTo()})
	if errors.Is(err, repo.ErrInitialised) {
		return holdfast.WithHint(fmt.Errorf("location %q: another repository is at %s%w", name, ps.where(name), silent{err}),
			"give the location a path of its own in the plan; backups are never mixed")
	}
	if err != nil {
		return fmt.Errorf("location %q: %w", name, err)
	}
	return nil
}

// Probe finds out what the place of a location really guarantees, beside its
// repository and whether or not one is there.
func (ps *Places) Probe(ctx context.Context, name string, clock func() time.Time) (probe.Report, error) {
	l, err := ps.location(name)
	if err != nil {
		return probe.Report{}, err
	}
	p, _ := ps.by()
	var place probe.Place
	id := newRepositoryID()[:16]
	switch l.Kind {
	case plan.KindDir:
		place, err = dir.Probe(p.Resolve(l.Path), id)
	case plan.KindS3:
		place, err = s3.Probe(s3Config(p, l), id)
	case plan.KindSFTP:
		place, err = sftp.Probe(ctx, sftpConfig(l), id)
	case plan.KindGateway:
		g, err := gateway.New(gatewayConfig(l))
		if err != nil {
			return probe.Report{}, fmt.Errorf("location %q: %w", name, err)
		}
		defer g.Close()
		r := g.Probe(ctx, clock)
		r.Location, r.Address, r.Kind = name, ps.where(name), string(l.Kind)
		return r, nil
	default:
		err = fmt.Errorf("kind %q is not supported by this version", l.Kind)
	}
	if err != nil {
		return probe.Report{}, fmt.Errorf("location %q: %w", name, err)
	}
	r := probe.Run(ctx, place, clock)
	r.Checks = append(r.Checks, settingChecks(p, name, ps.Settings(ctx, name), clock())...)
	r.Location, r.Address, r.Kind = name, ps.where(name), string(l.Kind)
	return r, nil
}

func newRepositoryID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b[:])
}
