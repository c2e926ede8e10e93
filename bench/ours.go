package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/location/dir"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
)

// A protection is the source under Holdfast: locations, keys, and the running
// stream.
type protection struct {
	b      *bench
	dir    string
	store  *postgres.Store
	slot   string
	places []repo.Place
	paths  []string
	ids    []seal.Identity
	to     []seal.Recipient
	signer seal.SigningKey
	mac    seal.MACKey
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	latest map[string]source.Frontier
}

// protect makes new locations and starts the stream. Every protection begins
// empty, so that each backup is a full one.
func (b *bench) protect(ctx context.Context, name string, places ...string) (*protection, error) {
	p := &protection{b: b, dir: filepath.Join(b.dir, name), slot: "bench_" + name, mac: seal.NewMACKey(), latest: map[string]source.Frontier{}}
	var err error
	if p.signer, err = seal.GenerateSigningKey("bench"); err != nil {
		return nil, err
	}
	id := seal.NewMACKey() // 16 random bytes of it
	for range 2 {
		key, err := seal.GenerateIdentity()
		if err != nil {
			return nil, err
		}
		p.ids, p.to = append(p.ids, key), append(p.to, key.Recipient())
	}
	set := repo.Settings{ID: hex.EncodeToString(id[:16]), Created: time.Now().UTC()}
	for _, to := range p.to {
		set.Recipients = append(set.Recipients, to.String())
	}
	for _, place := range places {
		path := filepath.Join(p.dir, place)
		if err := dir.Make(path); err != nil {
			return nil, err
		}
		s, err := dir.New(path)
		if err != nil {
			return nil, err
		}
		if err := repo.Init(ctx, s, set); err != nil {
			return nil, err
		}
		r, err := repo.Open(ctx, s)
		if err != nil {
			return nil, err
		}
		p.places, p.paths = append(p.places, repo.Place{Name: place, Repo: r}), append(p.paths, path)
	}
	spool := filepath.Join(p.dir, "spool")
	if err := os.Mkdir(spool, 0o700); err != nil {
		return nil, err
	}
	p.store, err = postgres.Open(postgres.StoreConfig{Config: postgres.Config{Store: stanza, ConnString: b.dsn(), Slot: p.slot, SpoolDir: spool}, BinDir: b.binDir})
	if err != nil {
		return nil, err
	}
	p.follow(ctx)
	return p, p.wait(ctx, "the stream to begin", func(f source.Frontier) bool { return f.Position > 0 && f.Err == "" })
}

// follow starts the stream; stop ends it.
func (p *protection) follow(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.done = make(chan error, 1)
	go func() {
		p.done <- p.store.Stream(ctx, source.StreamConfig{Places: p.places, Recipients: p.to, Signer: p.signer, Report: func(f source.Frontier) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.latest[f.Place] = f
		}})
	}()
}

func (p *protection) frontier(place string) source.Frontier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latest[place]
}

// wait waits until every place is as far as asked.
func (p *protection) wait(ctx context.Context, what string, far func(source.Frontier) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		all := true
		for _, place := range p.places {
			all = all && far(p.frontier(place.Name))
		}
		if all {
			return nil
		}
		select {
		case err := <-p.done:
			p.done <- err
			return errors.Join(fmt.Errorf("waited for %s, and the stream ended: %w", what, err), p.stop(ctx))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited for %s in vain: %w", what, ctx.Err()), p.stop(context.WithoutCancel(ctx)))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the stream, gives its slot back and removes the locations.
func (p *protection) stop(ctx context.Context) error {
	p.cancel()
	err := <-p.done
	p.done <- err
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	// The server may need a moment to see that the receiver is gone.
	const tries = 200
	var derr error
	for range tries {
		if _, derr = p.b.server.Query(ctx, "SELECT pg_drop_replication_slot('"+p.slot+"')"); derr == nil {
			break
		}
		if perr := pause(ctx, 50*time.Millisecond); perr != nil {
			break
		}
	}
	return errors.Join(err, derr, os.RemoveAll(p.dir))
}

// backup takes a base backup as the product does, and returns how long that took.
func (p *protection) backup(ctx context.Context, what string, codec repo.Codec) (cost, error) {
	var m *repo.Manifest
	c, err := p.b.timed(what, true, func() error {
		w, err := repo.NewWriter(ctx, repo.WriterConfig{Places: p.places, Scope: stanza, Kind: postgres.Kind, Recipients: p.to, Signer: p.signer,
			MAC: p.mac, CacheDir: filepath.Join(p.dir, "cache"), Codec: codec, Workers: processes})
		if err != nil {
			return err
		}
		if err := p.store.Snapshot(ctx, w, nil); err != nil {
			w.Abort()
			return err
		}
		var copies []repo.Copy
		m, copies, err = w.Finish(ctx)
		if err != nil {
			return err
		}
		for _, c := range copies {
			err = errors.Join(err, c.Err)
		}
		return err
	})
	if err != nil {
		return c, err
	}
	if n, err := strconv.ParseFloat(m.Labels[postgres.LabelRead], 64); err == nil {
		c.read = n / 1e6
	}
	c.how = m.Labels[postgres.LabelPages] + " " + m.Labels[postgres.LabelPagesWhy]
	c.stored, err = stored(filepath.Join(p.paths[0], "packs"), filepath.Join(p.paths[0], "snapshots"))
	return c, err
}

// restoreCost is what a restore took, in parts.
type restoreCost struct {
	cost
	fetch, verify, replay float64
}

// andServer adds the processor time of the restored server so far.
func (c *restoreCost) andServer(dir string) error {
	s, err := serverCPU(dir)
	c.cpu += s
	return err
}

// restore brings the database back from the first place, and asks it.
func (p *protection) restore(ctx context.Context, want string) (parts restoreCost, err error) {
	to := filepath.Join(p.b.dir, "ours")
	defer func() {
		err = errors.Join(err, os.RemoveAll(to), os.RemoveAll(to+".run"), os.RemoveAll(to+".wal"))
	}()
	var got source.Restored
	parts.cost, err = p.b.timed("restore", true, func() error {
		got, err = p.store.Restore(ctx, source.Request{Repo: p.places[0].Repo, Identities: p.ids[:1], Target: holdfast.Target{Kind: holdfast.TargetLatest}, Dir: to, Runner: p.b.account})
		if err != nil {
			return err
		}
		_, err = got.Value(ctx, firstQuery)
		return err
	})
	if got == nil {
		return parts, err
	}
	r := got.Report()
	parts.fetch, parts.verify, parts.replay = r.Fetch.Seconds(), r.Verify.Seconds(), r.Replay.Seconds()
	for _, c := range r.Checks {
		if c.Outcome != holdfast.Passed {
			err = errors.Join(err, fmt.Errorf("check %q: %s: %s", c.Name, c.Outcome, c.Detail))
		}
	}
	if err == nil {
		err = parts.andServer(to)
	}
	if err == nil {
		err = same(want, func() (string, error) {
			v, err := got.Value(ctx, wholeQuery)
			return fmt.Sprint(v), err
		})
	}
	return parts, errors.Join(err, got.Close(context.WithoutCancel(ctx)))
}

// same fails when a restored database is not the one that was lost.
func same(want string, ask func() (string, error)) error {
	got, err := ask()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the restored database says %q, and the source %q", got, want)
	}
	return nil
}

// heldTo is the position up to which the log lies at a place: by what is there, not
// by what anybody says.
func (p *protection) heldTo(place int) (uint64, error) {
	timelines, err := filepath.Glob(filepath.Join(p.paths[place], "logs", stanza, "*", "00000001"))
	if err != nil || len(timelines) != 1 {
		return 0, errors.Join(err, fmt.Errorf("%d logs at place %q", len(timelines), p.places[place].Name))
	}
	entries, err := os.ReadDir(timelines[0])
	if err != nil {
		return 0, err
	}
	held := uint64(0)
	for _, e := range entries { // in order of their beginnings
		var from, to uint64
		if _, err := fmt.Sscanf(e.Name(), "%16x-%16x", &from, &to); err != nil || strings.HasPrefix(e.Name(), ".") {
			continue // a file that is being written
		}
		if held != 0 && from > held {
			break // what lies behind a hole is not held
		}
		held = max(held, to)
	}
	return held, nil
}
