package repo_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

// onlyPut is a place as a writer's credentials show it: asked for anything but a put, it
// fails the test.
type onlyPut struct {
	t *testing.T
	repo.Store
}

func (o onlyPut) Get(_ context.Context, name string, _, _ int64) (io.ReadCloser, error) {
	o.t.Errorf("the writer asked for %q", name)
	return nil, errors.New("denied")
}

func (o onlyPut) List(_ context.Context, prefix string, _ func(repo.Object) error) error {
	o.t.Errorf("the writer listed %q", prefix)
	return errors.New("denied")
}

func (o onlyPut) Delete(_ context.Context, name string) error {
	o.t.Errorf("the writer deleted %q", name)
	return errors.New("denied")
}

func blind(t *testing.T, s repo.Store) *repo.Repository {
	t.Helper()
	r, err := repo.Blind(onlyPut{t, s}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A writer that can only put builds on what it remembers, and what it lists is whole.
func TestBlindWriter(t *testing.T) {
	ctx := t.Context()
	b := newBed(t)
	cfg := b.config(repo.Place{Name: "there", Repo: blind(t, b.store)})
	cfg.PackSize, cfg.CacheDir = 64<<10, t.TempDir()
	first, copies, err := write(ctx, cfg, smallTree())
	if err != nil || copies[0].Err != nil {
		t.Fatal(err, copies)
	}
	objects := len(b.store.Names())
	tree := append(smallTree(), file{path: "c", content: random(9, 1000)})
	second, _, err := write(ctx, cfg, tree)
	if err != nil {
		t.Fatal(err)
	}
	if more := len(b.store.Names()) - objects; more > 3 {
		t.Errorf("the second snapshot put %d objects: nothing was remembered", more)
	}
	if second.Previous != first.Hash() {
		t.Error("the second snapshot is not chained to the first")
	}
	same := func(m *repo.Manifest, want []file) {
		t.Helper()
		got := restored(ctx, t, b.repo, m, b.keys.Identity)
		for _, f := range want {
			if string(got[f.path]) != string(f.content) {
				t.Errorf("%s: %q came back otherwise", m.ID, f.path)
			}
		}
	}
	for m, want := range map[*repo.Manifest][]file{first: smallTree(), second: tree} {
		if err := b.repo.Check(ctx, m); err != nil {
			t.Error(err)
		}
		same(m, want)
	}
	// Without memory, or with somebody else's, everything is put again, and is whole.
	cfg.CacheDir = t.TempDir()
	third, _, err := write(ctx, cfg, tree)
	if err != nil {
		t.Fatal(err)
	}
	same(third, tree)
	// Beside a place that can be read, each has its own memory.
	other := repotest.NewMemory()
	open := repotest.Init(ctx, t, other, "r1")
	cfg.Places = append(cfg.Places, repo.Place{Name: "open", Repo: open})
	fourth, copies, err := write(ctx, cfg, tree)
	if err != nil || copies[0].Err != nil || copies[1].Err != nil {
		t.Fatal(err, copies)
	}
	for _, r := range []*repo.Repository{b.repo, open} {
		if err := r.Check(ctx, fourth); err != nil {
			t.Error(err)
		}
	}
}

// Every put is broken in turn, before and after it takes effect. What is listed is
// complete, and the next run is.
func TestBlindWriterAtEveryFault(t *testing.T) {
	for _, mode := range []struct {
		name            string
		landed, forever bool
	}{{"before", false, false}, {"after", true, false}, {"for good", false, true}, {"landed and for good", true, true}} {
		t.Run(mode.name, func(t *testing.T) {
			ctx := t.Context()
			for n := 1; ; n++ {
				b := newBed(t)
				faulty := &repotest.Faulty{Store: b.store, Landed: mode.landed, Forever: mode.forever}
				cfg := b.config(repo.Place{Name: "there", Repo: blind(t, faulty)})
				cfg.PackSize, cfg.CacheDir, cfg.Workers = 64<<10, t.TempDir(), 1
				if _, _, err := write(ctx, cfg, smallTree()[:2]); err != nil {
					t.Fatal(err)
				}
				faulty.N = faulty.Calls() + n
				_, _, err := write(ctx, cfg, smallTree())
				if !faulty.Tripped() {
					if err != nil {
						t.Fatal(err)
					}
					if n < 4 {
						t.Fatalf("only %d calls were broken", n)
					}
					return
				}
				if mode.forever && err == nil {
					t.Errorf("call %d: the fault was hidden", n)
				}
				faulty.N = 0
				whole := func() []*repo.Manifest {
					ms, err := b.repo.Manifests(ctx, "files")
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range ms {
						if err := b.repo.Check(ctx, m); err != nil {
							t.Errorf("call %d: listed and not complete: %v", n, err)
						}
					}
					return ms
				}
				whole()
				if _, _, err := write(ctx, cfg, smallTree()); err != nil {
					t.Errorf("call %d: the clean run: %v", n, err)
				}
				ms := whole()
				got := restored(ctx, t, b.repo, ms[len(ms)-1], b.keys.Identity)
				for _, f := range smallTree() {
					if string(got[f.path]) != string(f.content) {
						t.Errorf("call %d: %q came back otherwise", n, f.path)
					}
				}
			}
		})
	}
}
