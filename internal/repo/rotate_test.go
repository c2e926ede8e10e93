package repo_test

import (
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// After a rotation a new key alone reads the new snapshots, although their content was
// stored before, and the old ones stay readable with the old keys.
func TestRotatedRecipientsReadWhatIsNew(t *testing.T) {
	ctx := t.Context()
	b := newBed(t)
	cfg := b.config()
	cfg.CacheDir = t.TempDir()
	first, _, err := write(ctx, cfg, smallTree())
	if err != nil {
		t.Fatal(err)
	}
	var fresh [2]seal.Identity
	cfg.Recipients = nil
	for i := range fresh {
		if fresh[i], err = seal.GenerateIdentity(); err != nil {
			t.Fatal(err)
		}
		cfg.Recipients = append(cfg.Recipients, fresh[i].Recipient())
	}
	cfg.Parent = first
	second, _, err := write(ctx, cfg, smallTree())
	if err != nil {
		t.Fatal(err)
	}
	for m, id := range map[*repo.Manifest]seal.Identity{first: b.keys.Identity, second: fresh[1]} {
		sameFiles(t, restored(ctx, t, b.repo, m, id), smallTree())
	}
	if second.Previous != first.Hash() {
		t.Error("a rotation broke the chain")
	}
	// The order in which recipients are written is no rotation.
	objects := len(b.store.Names())
	cfg.Parent, cfg.Recipients[0], cfg.Recipients[1] = second, cfg.Recipients[1], cfg.Recipients[0]
	if _, _, err := write(ctx, cfg, smallTree()); err != nil {
		t.Fatal(err)
	}
	if more := len(b.store.Names()) - objects; more > 2 {
		t.Errorf("%d objects were put anew for the same recipients", more)
	}
}
