package repo_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
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

// rewrapping returns a rewrapping of what the bed holds to fresh keys.
func (b *bed) rewrapping(t *testing.T, scope string) (repo.Rewrap, []seal.Identity) {
	t.Helper()
	w := repo.Rewrap{At: b.repo, Scope: scope, Identities: []seal.Identity{b.keys.Identity}, Signer: b.keys.Signer, Now: start}
	var fresh []seal.Identity
	for range 2 {
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		fresh, w.Recipients = append(fresh, id), append(w.Recipients, id.Recipient())
	}
	return w, fresh
}

// stocked is a place with two snapshots and a piece of log of one scope.
func stocked(t *testing.T) (*bed, []*repo.Manifest) {
	t.Helper()
	b := newBed(t)
	var ms []*repo.Manifest
	for range 2 {
		m, _, err := write(t.Context(), b.config(), smallTree())
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	p := repo.LogPiece{Scope: "files", Lineage: "1", Timeline: 1, Start: 0, End: 5, LastRecord: 5, Created: start}
	if err := b.repo.PutLog(t.Context(), p, []byte("piece"), b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	if err := b.repo.PutNamed(t.Context(), "files", "1", "00000002.history", []byte("named"), b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	return b, ms
}

// reads checks that an identity alone reads all of a stocked place.
func (b *bed) reads(t *testing.T, r *repo.Repository, ms []*repo.Manifest, id seal.Identity) {
	t.Helper()
	ctx := t.Context()
	for _, m := range ms {
		sameFiles(t, restored(ctx, t, r, m, id), smallTree())
	}
	ls, err := r.Logs(ctx, "files")
	if err != nil || len(ls) != 1 {
		t.Fatal(ls, err)
	}
	if data, _, err := r.ReadLog(ctx, ls[0], id); err != nil || string(data) != "piece" {
		t.Errorf("log: %q, %v", data, err)
	}
	if data, err := r.ReadNamed(ctx, "files", "1", "00000002.history", id); err != nil || string(data) != "named" {
		t.Errorf("named file: %q, %v", data, err)
	}
}

// Keys that were given make what lies there readable for new keys alone, generation upon
// generation, and take nothing from the old ones. Nothing that was there is changed.
func TestRewrapGivesAndTakesNothing(t *testing.T) {
	ctx := t.Context()
	b, ms := stocked(t)
	before := b.store.Names()
	ids := []seal.Identity{b.keys.Identity}
	for i := range 3 {
		w, fresh := b.rewrapping(t, "files")
		w.Identities = ids[len(ids)-1:] // only that of the generation before
		dry := w
		dry.Identities = nil
		count, err := dry.Run(ctx)
		if err != nil || count.Left() != count.Objects || count.Objects == 0 || count.Epochs != 0 {
			t.Fatalf("looking: %+v, %v", count, err)
		}
		if _, err := b.repo.Snapshot(ctx, ms[0], fresh[0]); !errors.Is(err, seal.ErrNoIdentity) {
			t.Fatalf("read before anything was given: %v", err)
		}
		got, err := w.Run(ctx)
		if err != nil || got.Given != count.Objects || got.Left() != 0 || got.Epochs != 1 {
			t.Fatalf("generation %d: %+v, %v", i, got, err)
		}
		if again, err := w.Run(ctx); err != nil || again.Readable != count.Objects || again.Epochs != 0 {
			t.Errorf("again: %+v, %v", again, err)
		}
		ids = append(ids, fresh[i%2])
	}
	b.repo.Trust(b.keys.Signer.Public())
	for _, id := range ids {
		b.reads(t, b.repo, ms, id)
	}
	for _, name := range before {
		if !slices.Contains(b.store.Names(), name) {
			t.Errorf("%s is gone", name)
		}
	}
	// What is copied elsewhere brings its keys.
	to := repotest.Init(ctx, t, repotest.NewMemory(), "r1")
	if err := to.Replicate(ctx, b.repo, ms[0]); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, restored(ctx, t, to, ms[0], ids[3]), smallTree())
}

// Whatever call fails, before or after it took effect, it is said, everything stays
// readable, and the next run ends with every key given.
func TestRewrapAtEveryFault(t *testing.T) {
	ctx := t.Context()
	for _, landed := range []bool{false, true} {
		for n := 1; ; n++ {
			b, ms := stocked(t)
			w, fresh := b.rewrapping(t, "files")
			st := &repotest.Faulty{Store: b.store}
			r, err := repo.Open(ctx, st)
			if err != nil {
				t.Fatal(err)
			}
			st.N, st.Landed = st.Calls()+n, landed
			w.At = r
			got, err := w.Run(ctx)
			if !st.Tripped() {
				break // n is past the last call
			}
			if err == nil && got.Left() > 0 {
				t.Fatalf("call %d, landed %t: the fault is hidden: %+v", n, landed, got)
			}
			w.At = b.repo
			if got, err := w.Run(ctx); err != nil || got.Left() != 0 || got.Stuck > 0 {
				t.Fatalf("call %d, landed %t: the next run: %+v, %v", n, landed, got, err)
			}
			b.reads(t, b.repo, ms, fresh[1])
			b.reads(t, b.repo, ms, b.keys.Identity)
		}
	}
}

// Damage costs what it holds, is named, and keeps nobody from the rest; a wrong key finds
// everything stuck; one recipient is refused.
func TestRewrapRefuses(t *testing.T) {
	ctx := t.Context()
	b, ms := stocked(t)
	w, fresh := b.rewrapping(t, "files")
	one := w
	one.Recipients = w.Recipients[:1]
	if _, err := one.Run(ctx); !errors.Is(err, repo.ErrRecipients) {
		t.Errorf("one recipient: %v", err)
	}
	wrong := w
	wrong.Identities = fresh
	if got, err := wrong.Run(ctx); err != nil || got.Stuck != got.Objects || got.Epochs != 0 || !strings.Contains(got.Why[0], "no identity") {
		t.Errorf("with keys that open nothing: %+v, %v", got, err)
	}
	last := ms[1].Packs[len(ms[1].Packs)-1].ID
	bad := "packs/" + last[:2] + "/" + last
	b.flip(bad, 30)
	got, err := w.Run(ctx)
	if err != nil || got.Stuck != 1 || got.Left() != 1 || !strings.Contains(got.Why[0], bad) {
		t.Errorf("with a damaged pack: %+v, %v", got, err)
	}
	sameFiles(t, restored(ctx, t, b.repo, ms[0], fresh[0]), smallTree())
}

// An epoch that nobody trusted signed, one that is damaged, and one that gives a wrong key
// cost nothing, also if they are newer.
func TestEpochsThatLie(t *testing.T) {
	ctx := t.Context()
	b, ms := stocked(t)
	w, fresh := b.rewrapping(t, "files")
	stranger := repotest.NewKeys(t)
	forged := w
	forged.Signer = stranger.Signer
	b.repo.Trust(b.keys.Signer.Public())
	if got, err := forged.Run(ctx); err != nil || got.Epochs != 1 {
		t.Fatal(got, err)
	}
	if _, err := b.repo.Snapshot(ctx, ms[0], fresh[0]); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("a stranger's epoch was believed: %v", err)
	}
	names, err := b.repo.Epochs(ctx, "files")
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if _, err := b.repo.Inspect(ctx, names[0], 0); !errors.Is(err, repo.ErrUntrusted) {
		t.Errorf("a stranger's epoch is looked at, and found right: %v", err)
	}
	if got, err := w.Run(ctx); err != nil || got.Given != got.Objects {
		t.Fatalf("a stranger's epoch counts: %+v, %v", got, err)
	}
	b.reads(t, b.repo, ms, fresh[0])
	// A damaged one is as good as none, and is made again.
	names, err = b.repo.Epochs(ctx, "files")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b.flip(name, 200)
	}
	r, err := repo.Open(ctx, b.store)
	if err != nil {
		t.Fatal(err)
	}
	r.Trust(b.keys.Signer.Public())
	if _, err := r.Snapshot(ctx, ms[0], fresh[0]); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("damaged epochs open: %v", err)
	}
	w.At = r
	if got, err := w.Run(ctx); err != nil || got.Given != got.Objects {
		t.Fatalf("a damaged epoch counts: %+v, %v", got, err)
	}
	b.reads(t, r, ms, fresh[1])
}

// flip changes one bit of an object.
func (b *bed) flip(name string, at int) {
	got := slices.Clone(b.store.Bytes(name))
	got[at] ^= 1
	b.store.Set(name, got)
}

// After a change of the key that names chunks everything is stored anew, once: nothing new
// rests on a chunk that the old key names, and nothing of what the old key named stays in
// the cache. Old snapshots stay readable and the chain holds, also at a place that can only
// be written to. Whatever put fails on the way, the next run ends it.
func TestEpochIsStoredAnewOnce(t *testing.T) {
	for _, blindly := range []bool{false, true} {
		for n := 0; ; n++ {
			ctx := t.Context()
			b := newBed(t)
			faulty := &repotest.Faulty{Store: b.store, Landed: n%2 == 0}
			place := repo.Place{Name: "there", Repo: b.repo}
			if blindly {
				place.Repo = blind(t, faulty)
			} else {
				var err error
				if place.Repo, err = repo.Open(ctx, faulty); err != nil {
					t.Fatal(err)
				}
			}
			cfg := b.config(place)
			cfg.CacheDir, cfg.Workers, cfg.PackSize = t.TempDir(), 1, 64<<10
			first, _, err := write(ctx, cfg, smallTree())
			if err != nil {
				t.Fatal(err)
			}
			cfg.MAC, cfg.Epoch = seal.NewMACKey(), "e2"
			if n > 0 {
				faulty.N = faulty.Calls() + n
			}
			second, _, err := write(ctx, cfg, smallTree())
			if err != nil && !faulty.Tripped() {
				t.Fatal(err)
			}
			faulty.N = 0
			if err != nil {
				if second, _, err = write(ctx, cfg, smallTree()); err != nil {
					t.Fatalf("blind %t, call %d: the clean run: %v", blindly, n, err)
				}
			}
			for _, p := range second.Packs {
				if slices.Contains(first.Packs, p) {
					t.Errorf("blind %t, call %d: the new epoch rests on pack %s of the old one", blindly, n, p.ID)
				}
			}
			ms, err := b.repo.Manifests(ctx, "files")
			if err != nil {
				t.Fatal(err)
			}
			before := ""
			for _, m := range ms {
				if m.Previous != before {
					t.Errorf("blind %t, call %d: %s is chained to %q, not to %q", blindly, n, m.ID, m.Previous, before)
				}
				before = m.Hash()
				if err := b.repo.Check(ctx, m); err != nil {
					t.Error(err)
				}
				sameFiles(t, restored(ctx, t, b.repo, m, b.keys.Identity), smallTree())
			}
			left, err := filepath.Glob(filepath.Join(cfg.CacheDir, "r1", "files", "to-*", "*-1*"))
			if err != nil || slices.ContainsFunc(left, func(f string) bool { return strings.Contains(f, "chunks") && !strings.Contains(f, ".e2") }) {
				t.Errorf("blind %t, call %d: what the old key named lies in the cache: %q, %v", blindly, n, left, err)
			}
			w, err := repo.NewWriter(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if w.Anew() {
				t.Errorf("blind %t, call %d: a second time anew", blindly, n)
			}
			w.Abort()
			if n > 0 && !faulty.Tripped() {
				if n < 4 {
					t.Errorf("only %d calls were broken", n)
				}
				break
			}
		}
	}
}
