package repo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// ErrBlind means that this process may only write at the place: it cannot say what is
// there.
var ErrBlind = errors.New("this process only writes there")

// Blind returns the repository with the given id at a place where this process can put
// and nothing else: not read, not list, not delete. The id comes from the plan, for the
// marker cannot be read.
//
// A [Writer] builds on what it put there itself, as far as its cache remembers it: the
// packs of its own newest snapshot, and no others. Those are never garbage while that
// snapshot is the newest of its source; whoever prunes keeps it. Without a cache
// everything is put again. Whether what was put is complete and readable, only somebody
// else can tell: the vault, with credentials of its own.
//
// A name that is taken counts as stored. Packs and snapshots have random names, and a
// piece of log has its position as name: who finds it taken put it himself before an
// answer was lost, or a crash. An attacker who holds the same credentials can take a name
// first, and so make the honest writer believe that something is stored; the vault finds
// that out, as it finds out everything else that such an attacker can spoil.
func Blind(s Store, id string) (*Repository, error) {
	if err := checkRepositoryID(id); err != nil {
		return nil, err
	}
	return &Repository{store: blindStore{s}, id: id, blind: true}, nil
}

// Blind reports whether this process can only write at the place.
func (r *Repository) Blind() bool { return r.blind }

// blindStore asks a place for nothing but to store.
type blindStore struct{ s Store }

func (b blindStore) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	err := b.s.Put(ctx, name, size, body)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (b blindStore) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, ErrBlind
}

func (b blindStore) List(context.Context, string, func(Object) error) error { return ErrBlind }

func (b blindStore) Delete(context.Context, string) error { return ErrBlind }

// blindName is the file that remembers the newest snapshot that a writer completed at a
// blind place.
func (c *cache) blindName(place string) string { return filepath.Join(c.dir, blindFile(place)) }

func blindFile(place string) string {
	h := seal.Hash([]byte(place))
	return fmt.Sprintf("%s%x", blindPrefix, h[:8])
}

// completed returns the newest snapshot that this writer completed at a blind place, nil
// if it remembers none.
func (c *cache) completed(place string, signer seal.VerifyKey) *Manifest {
	if c == nil {
		return nil
	}
	return rememberedAt(c.blindName(place), signer)
}

// completedBefore is the newest one that was completed for other recipients, or in another
// epoch of the key that names chunks. The chain goes on from it; nothing is built on it.
func (c *cache) completedBefore(place string, signer seal.VerifyKey) (newest *Manifest) {
	if c == nil {
		return nil
	}
	for _, dir := range c.siblings() {
		if m := rememberedAt(filepath.Join(dir, blindFile(place)), signer); m != nil && (newest == nil || m.ID > newest.ID) {
			newest = m
		}
	}
	return newest
}

func rememberedAt(name string, signer seal.VerifyKey) *Manifest {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(bufio.NewReader(f), maxManifest+1))
	if err != nil {
		return nil
	}
	m, err := parseManifest(raw)
	if err != nil || m.Verify(signer) != nil {
		return nil // torn or not ours: everything is put again
	}
	return m
}

// complete remembers a snapshot at a blind place. It comes after the manifest was put: a
// crash before it means that the next run builds on an older snapshot, whose packs are
// there too.
func (c *cache) complete(place string, m *Manifest) {
	if c == nil {
		return
	}
	if err := durable.WriteFile(durable.OS, c.blindName(place), bytes.Clone(m.raw), 0o600); err != nil {
		_ = os.Remove(c.blindName(place)) // what is not remembered is put again
	}
}

// recollect sets what a blind place holds, as far as the cache remembers, and returns the
// name of its newest snapshot.
func (p *placeState) recollect(w *Writer) string {
	p.have = map[packID]int64{}
	ours := func(m *Manifest) bool { return m != nil && m.Scope == w.cfg.Scope && m.Repository == w.repoID }
	if p.memory = w.cache.completed(p.Name, w.cfg.Signer.Public()); !ours(p.memory) {
		p.memory = nil
		if p.chain = w.cache.completedBefore(p.Name, w.cfg.Signer.Public()); !ours(p.chain) {
			p.chain = nil
			return ""
		}
		return p.chain.Object()
	}
	p.chain = p.memory
	for _, ref := range p.memory.Packs {
		if id, err := parsePackID(ref.ID); err == nil {
			p.have[id] = ref.Size
		}
	}
	return p.memory.Object()
}
