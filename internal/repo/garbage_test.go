package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// vaultBed is a bed with a vault.
type vaultBed struct {
	*bed
	vault seal.SigningKey
	now   time.Time
}

func newVaultBed(t *testing.T) *vaultBed {
	v := &vaultBed{bed: newBed(t), now: start}
	var err error
	if v.vault, err = seal.GenerateSigningKey("test-vault"); err != nil {
		t.Fatal(err)
	}
	v.clock = func() time.Time { v.now = v.now.Add(time.Second); return v.now }
	return v
}

func (v *vaultBed) at(t fatal, s repo.Store) *repo.Repository {
	t.Helper()
	r, err := repo.Open(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (v *vaultBed) collector(r *repo.Repository) repo.Collector {
	return repo.Collector{Place: "here", At: r, Signer: v.vault, Trust: []seal.VerifyKey{v.vault.Public()}, Now: v.clock()}
}

func (v *vaultBed) remove(ctx context.Context, r *repo.Repository, ms ...*repo.Manifest) ([]string, error) {
	c := repo.Removal{Scope: ms[0].Scope, Place: "here", At: v.clock(), Vault: "test-vault"}
	for _, m := range ms {
		c.Snapshots = append(c.Snapshots, repo.Removed{Snapshot: m.ID, Manifest: m.Hash(), Previous: m.Previous, Why: "test"})
	}
	return r.Remove(ctx, c, v.vault)
}

type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// whole fails the test unless every listed snapshot is complete and restores.
func (v *vaultBed) whole(t fatal, r *repo.Repository, truth map[string]map[string][]byte) []*repo.Manifest {
	t.Helper()
	ctx := context.Background()
	ms, err := r.Manifests(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if err := r.Check(ctx, m); err != nil {
			t.Fatalf("listed and not complete: %v", err)
		}
		s, err := r.Snapshot(ctx, m, v.keys.Identity)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Entries(ctx, func(e repo.Entry) error {
			var b bytes.Buffer
			if _, err := b.ReadFrom(s.Open(e)); err != nil {
				return err
			}
			if !bytes.Equal(b.Bytes(), truth[m.ID][e.Path]) {
				return fmt.Errorf("%s of %s came back as something else", e.Path, m.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return ms
}

// Whatever writers, copiers, removals, two collectors, refusals, lying lists, faults
// and the passing of time do in any order, a listed snapshot restores.
func TestGarbageNeverCostsAListedSnapshot(t *testing.T) {
	keys := repotest.NewKeys(t)
	vault, err := seal.GenerateSigningKey("test-vault")
	if err != nil {
		t.Fatal(err)
	}
	deleted := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		v := &vaultBed{bed: &bed{keys: keys, store: repotest.NewMemory()}, vault: vault, now: start}
		v.clock = func() time.Time { v.now = v.now.Add(time.Second); return v.now }
		other := repotest.NewMemory()
		lies := &repotest.Unruly{Store: v.store}
		faults := &repotest.Faulty{Store: lies}
		repotest.Init(ctx, t, v.store, "r1")
		repotest.Init(ctx, t, other, "r1")
		near, far := v.at(rt, faults), v.at(rt, other)
		truth := map[string]map[string][]byte{}
		var known []string // what the vault remembers to be complete here
		type open struct {
			w    *repo.Writer
			data map[string][]byte
		}
		var running []open
		defer func() {
			for _, o := range running {
				o.w.Abort()
			}
		}()
		cache := t.TempDir()
		begin := func() {
			cfg := v.config(repo.Place{Name: "here", Repo: near}, repo.Place{Name: "far", Repo: far})
			if rapid.Bool().Draw(rt, "alone") {
				cfg.Places = cfg.Places[:1]
			}
			cfg.PackSize, cfg.Workers = 32<<10, 1
			if len(running) == 0 {
				cfg.CacheDir = cache
			}
			w, err := repo.NewWriter(ctx, cfg)
			if err != nil {
				return // a fault, said
			}
			data := map[string][]byte{}
			for i := range 4 {
				p := fmt.Sprintf("f%d", i)
				data[p] = random(uint64(rapid.IntRange(1, 6).Draw(rt, "content")), 40_000)
				if err := w.Add(ctx, repo.Entry{Path: p, Type: repo.TypeFile}, bytes.NewReader(data[p])); err != nil {
					w.Abort()
					return
				}
			}
			running = append(running, open{w, data})
		}
		finish := func() {
			if len(running) == 0 {
				return
			}
			o := running[0]
			running = running[1:]
			m, copies, err := o.w.Finish(ctx)
			o.w.Abort()
			truth[o.w.ID()] = o.data
			if err != nil {
				return
			}
			for _, c := range copies {
				if c.Place == "here" && c.Err == nil {
					known = append(known, m.ID)
				}
			}
		}
		collect := func(r *repo.Repository, others ...*repo.Repository) {
			c := v.collector(r)
			c.Others, c.Known = others, map[string][]string{"files": known}
			if r == far {
				c.Known = nil
			}
			out, err := c.Collect(ctx)
			deleted += out.Deleted
			if err != nil && !errors.Is(err, repotest.ErrInjected) && !errors.Is(err, repo.ErrIncompleteList) {
				rt.Fatalf("collect: %v", err)
			}
		}
		acts := []string{"begin", "begin", "finish", "finish", "remove", "remove", "collect", "collect", "collect", "collect far", "pass", "pass", "pass", "copy", "refuse", "hide", "fault", "honest", "honest", "honest"}
		for range rapid.IntRange(5, 60).Draw(rt, "acts") {
			switch rapid.SampledFrom(acts).Draw(rt, "act") {
			case "begin":
				begin()
			case "finish":
				finish()
			case "remove":
				ms, err := near.Manifests(ctx, "files")
				if err != nil || len(ms) == 0 {
					break
				}
				m := rapid.SampledFrom(ms).Draw(rt, "which")
				if gone, err := v.remove(ctx, near, m); err == nil {
					known = slices.DeleteFunc(known, func(id string) bool { return slices.Contains(gone, id) })
				}
			case "collect":
				if rapid.Bool().Draw(rt, "all places") {
					collect(near, far)
				} else {
					collect(near)
				}
			case "collect far":
				collect(far)
			case "pass":
				v.now = v.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(rt, "hours")) * time.Hour)
			case "copy":
				from, to := near, far
				if rapid.Bool().Draw(rt, "back") {
					from, to = far, near
				}
				if ms, err := from.Manifests(ctx, "files"); err == nil && len(ms) > 0 {
					m := rapid.SampledFrom(ms).Draw(rt, "which")
					if err := to.Replicate(ctx, from, m); err == nil && to == near && !slices.Contains(known, m.ID) {
						known = append(known, m.ID)
					}
				}
			case "refuse":
				lies.Keeps = func(string) bool { return true }
			case "hide":
				n := rapid.IntRange(0, 3).Draw(rt, "hidden")
				lies.Hides = func(name string) bool {
					return strings.HasPrefix(name, "snapshots/") && int(name[len(name)-1])%4 == n
				}
			case "fault":
				faults.N, faults.Landed = faults.Calls()+rapid.IntRange(1, 12).Draw(rt, "call"), rapid.Bool().Draw(rt, "landed")
			case "honest":
				lies.Keeps, lies.Hides, faults.N = nil, nil, 0
			}
			v.whole(rt, v.at(rt, v.store), truth)
			v.whole(rt, far, truth)
		}
		// Whatever happened: in the end the place is honest, and what nothing needs goes.
		lies.Keeps, lies.Hides, faults.N = nil, nil, 0
		for range 3 {
			v.now = v.now.Add(repo.GarbageWait + time.Hour)
			collect(near, far)
			v.whole(rt, v.at(rt, v.store), truth)
			v.whole(rt, far, truth)
		}
	})
	if deleted == 0 {
		t.Error("nothing was ever deleted: the test proves nothing")
	}
}

// A clock that steps a year ahead makes no set due: a writer that runs meanwhile, and had
// not read the tombstones, builds on what they name.
func TestNoGarbageIsDueByAStepOfTheClock(t *testing.T) {
	ctx := t.Context()
	v := newVaultBed(t)
	cfg := v.config()
	cfg.PackSize, cfg.CacheDir = 64<<10, t.TempDir()
	m, _, err := write(ctx, cfg, smallTree())
	if err != nil {
		t.Fatal(err)
	}
	writers := v.now // the source's machine has a clock of its own
	cfg.Clock = func() time.Time { writers = writers.Add(time.Second); return writers }
	w, err := repo.NewWriter(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := v.remove(ctx, v.repo, m); err != nil {
		t.Fatal(err)
	}
	if out, err := v.collector(v.repo).Collect(ctx); err != nil || out.Marked == 0 {
		t.Fatal(out, err)
	}
	v.now = v.now.AddDate(1, 0, 0)
	c := v.collector(v.repo)
	c.Steady = v.now
	if out, err := c.Collect(ctx); err != nil || out.Deleted != 0 || !out.Due.After(v.now.Add(repo.GarbageWait-time.Hour)) {
		t.Errorf("after the step: %+v, %v", out, err)
	}
	for _, f := range smallTree() {
		if err := w.Add(ctx, repo.Entry{Path: f.path, Type: repo.TypeFile, Mode: 0o640}, bytes.NewReader(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	next, copies, err := w.Finish(ctx)
	if err != nil || copies[0].Err != nil {
		t.Fatal(err, copies)
	}
	if err := v.repo.Check(ctx, next); err != nil {
		t.Errorf("listed and not complete: %v", err)
	}
	// When it has run steadily for long enough, what is garbage still goes, and no more.
	v.now = v.now.Add(repo.GarbageWait + time.Hour)
	c.Now = v.clock()
	if _, err := c.Collect(ctx); err != nil {
		t.Error(err)
	}
	if err := v.repo.Check(ctx, next); err != nil {
		t.Error(err)
	}
}

// garbageAt is a place with two snapshots, of which the first was removed, so that
// it holds some garbage and some packs that both use.
func garbageAt(t *testing.T) (*vaultBed, map[string]map[string][]byte) {
	t.Helper()
	ctx := t.Context()
	v := newVaultBed(t)
	cfg := v.config()
	cfg.PackSize, cfg.CacheDir, cfg.Workers = 64<<10, t.TempDir(), 1
	truth := map[string]map[string][]byte{}
	var ms []*repo.Manifest
	for _, files := range [][]file{smallTree(), smallTree()[1:3]} {
		m, _, err := write(ctx, cfg, files)
		if err != nil {
			t.Fatal(err)
		}
		ms, truth[m.ID] = append(ms, m), map[string][]byte{}
		for _, f := range files {
			truth[m.ID][f.path] = f.content
		}
	}
	if _, err := v.remove(ctx, v.repo, ms[0]); err != nil {
		t.Fatal(err)
	}
	return v, truth
}

func packsOf(s *repotest.Memory) (n int) {
	for _, name := range s.Names() {
		if strings.HasPrefix(name, "packs/") {
			n++
		}
	}
	return n
}

// Every call of both acts is broken in turn. What is listed stays whole, the run is
// loud, and clean runs afterwards leave what one undisturbed run leaves.
func TestCollectAtEveryFault(t *testing.T) {
	ctx := t.Context()
	v, truth := garbageAt(t)
	before := packsOf(v.store)
	two := func(r *repo.Repository) (err error) {
		for range 2 {
			if _, err = v.collector(r).Collect(ctx); err != nil {
				return err
			}
			v.now = v.now.Add(repo.GarbageWait)
		}
		return nil
	}
	clean := v.store.Clone()
	if err := two(v.at(t, clean)); err != nil {
		t.Fatal(err)
	}
	want := packsOf(clean)
	if want >= before || want == 0 {
		t.Fatalf("%d packs of %d are left: the place held no garbage, or nothing else", want, before)
	}
	for _, mode := range []struct {
		name            string
		landed, forever bool
	}{{"before", false, false}, {"after", true, false}, {"for good", false, true}} {
		t.Run(mode.name, func(t *testing.T) {
			for n := 1; ; n++ {
				s := v.store.Clone()
				faulty := &repotest.Faulty{Store: s, Landed: mode.landed, Forever: mode.forever}
				r := v.at(t, faulty)
				faulty.N = faulty.Calls() + n
				err := two(r)
				if !faulty.Tripped() {
					if n < 10 {
						t.Fatalf("only %d calls were broken", n)
					}
					return
				}
				v.whole(t, v.at(t, s), truth)
				faulty.N = 0
				for range 3 {
					if err := two(v.at(t, s)); err != nil {
						t.Fatalf("call %d: clean run: %v (the broken one: %v)", n, err, err)
					}
				}
				if got := packsOf(s); got != want {
					t.Errorf("call %d: %d packs are left, want %d (the broken run: %v)", n, got, want, err)
				}
				v.whole(t, v.at(t, s), truth)
			}
		})
	}
}

// A place that refuses to delete keeps what it has, says so, and gives it up when it
// may: nothing else suffers meanwhile.
func TestDeletesRefused(t *testing.T) {
	ctx := t.Context()
	v, truth := garbageAt(t)
	before := packsOf(v.store)
	lies := &repotest.Unruly{Store: v.store, Keeps: func(n string) bool { return strings.HasPrefix(n, "packs/") }}
	r := v.at(t, lies)
	for i := range 4 {
		out, err := v.collector(r).Collect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if out.Deleted != 0 || packsOf(v.store) != before || i > 0 && (out.Refused == 0 || !strings.Contains(out.Why, repotest.ErrKept.Error())) {
			t.Fatalf("round %d: %+v", i, out)
		}
		v.whole(t, r, truth)
		v.now = v.now.Add(repo.GarbageWait)
	}
	lies.Keeps = nil
	if out, err := v.collector(r).Collect(ctx); err != nil || out.Deleted == 0 || out.Refused != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	v.whole(t, r, truth)
}

// A set of tombstones that somebody else signed makes nothing due before its time, and a
// manifest that cannot be read stops the collector.
func TestCollectorBelievesItsOwn(t *testing.T) {
	ctx := t.Context()
	v, _ := garbageAt(t)
	r := v.at(t, v.store)
	stranger, err := seal.GenerateSigningKey("vault")
	if err != nil {
		t.Fatal(err)
	}
	forged := v.collector(r)
	forged.Signer, forged.Trust, forged.Now = stranger, []seal.VerifyKey{stranger.Public()}, v.now.Add(-2*repo.GarbageWait)
	if out, err := forged.Collect(ctx); err != nil || out.Marked == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := v.collector(r).Collect(ctx); err != nil || out.Deleted != 0 || out.Marked == 0 {
		t.Errorf("by a stranger's tombstones: %+v, %v", out, err)
	}
	v.now = v.now.Add(2 * repo.GarbageWait)
	for _, name := range v.store.Names() {
		if strings.HasPrefix(name, "snapshots/") {
			v.store.Set(name, v.store.Bytes(name)[:100])
			break
		}
	}
	if out, err := v.collector(v.at(t, v.store)).Collect(ctx); err == nil || out.Deleted+out.Marked != 0 {
		t.Errorf("a manifest was cut, and %+v, %v", out, err)
	}
}

// A listing that leaves a snapshot out never costs that snapshot its packs: a
// receipt, a successor or the vault's memory names it.
func TestListingsThatLie(t *testing.T) {
	ctx := t.Context()
	for _, tt := range []struct {
		name    string
		hides   int // which of three snapshots
		receipt bool
		known   bool
	}{{"the oldest, with a receipt", 0, true, false}, {"the middle", 1, false, false}, {"the newest, remembered", 2, false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVaultBed(t)
			cfg := v.config()
			truth := map[string]map[string][]byte{}
			var ids []string
			for i := range 3 {
				m, _, err := write(ctx, cfg, []file{{path: "f", content: random(uint64(i+1), 300_000)}})
				if err != nil {
					t.Fatal(err)
				}
				ids, truth[m.ID] = append(ids, m.ID), map[string][]byte{"f": random(uint64(i+1), 300_000)}
				if tt.receipt {
					if err := v.repo.PutReceipt(ctx, repo.Receipt{Scope: "files", Snapshot: m.ID, Manifest: m.Hash(), Place: "here", Received: v.now}, v.vault); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := v.at(t, &repotest.Unruly{Store: v.store, Hides: func(n string) bool { return strings.HasPrefix(n, "snapshots/") && strings.HasSuffix(n, ids[tt.hides]) }})
			for range 3 {
				c := v.collector(r)
				if tt.known {
					c.Known = map[string][]string{"files": ids}
				}
				out, err := c.Collect(ctx)
				if !errors.Is(err, repo.ErrIncompleteList) || out != (repo.Collected{}) {
					t.Fatalf("%+v, %v", out, err)
				}
				v.now = v.now.Add(repo.GarbageWait)
			}
			v.whole(t, v.at(t, v.store), truth)
		})
	}
}

// A writer that was stopped for longer than a run may take lists nothing, and what it
// was going to build on is gone without harm.
func TestWriterSuspendedPastItsLease(t *testing.T) {
	ctx := t.Context()
	v, truth := garbageAt(t)
	cfg := v.config()
	cfg.PackSize = 64 << 10
	w, err := repo.NewWriter(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Add(ctx, repo.Entry{Path: "x", Type: repo.TypeFile}, bytes.NewReader(random(9, 100_000))); err != nil {
		t.Fatal(err)
	}
	v.now = v.now.Add(repo.MaxRun + time.Minute)
	if _, _, err := w.Finish(ctx); !errors.Is(err, repo.ErrLate) {
		t.Fatalf("finished: %v", err)
	}
	if ms := v.whole(t, v.repo, truth); len(ms) != 1 {
		t.Errorf("%d snapshots are listed", len(ms))
	}
}

// Log is kept from the oldest kept base on, and everything of what no base is known
// of yet.
func TestLogThatIsNeeded(t *testing.T) {
	ctx := t.Context()
	v := newVaultBed(t)
	put := func(lineage string, timeline uint32, from, to uint64) {
		t.Helper()
		if err := v.repo.PutLog(ctx, repo.LogPiece{Scope: "files", Lineage: lineage, Timeline: timeline, Start: from, End: to, LastRecord: to, Created: v.now}, make([]byte, to-from), v.keys.LogKeys()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []struct {
		lineage  string
		timeline uint32
		from, to uint64
	}{{"a", 1, 0, 10}, {"a", 1, 10, 20}, {"a", 1, 20, 30}, {"a", 2, 15, 25}, {"b", 1, 0, 10}, {"old", 1, 0, 10}} {
		put(p.lineage, p.timeline, p.from, p.to)
	}
	m, _, err := write(ctx, v.config(), smallTree()[:1])
	if err != nil {
		t.Fatal(err)
	}
	gone, _, err := write(ctx, v.config(), smallTree()[1:2])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.repo.Remove(ctx, repo.Removal{Scope: "files", At: v.now, Snapshots: []repo.Removed{{Snapshot: gone.ID, Manifest: gone.Hash(), Previous: gone.Previous, Log: "old"}}}, v.vault); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := v.collector(v.repo)
		c.Log = func(got *repo.Manifest) (repo.LogNeed, bool) {
			return repo.LogNeed{Lineage: "a", Timeline: 1, Start: 12}, got.ID == m.ID
		}
		if _, err := c.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		v.now = v.now.Add(repo.GarbageWait)
	}
	logs, err := v.repo.Logs(ctx, "files")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range logs {
		got = append(got, fmt.Sprintf("%s/%d %d-%d", l.Lineage, l.Timeline, l.Start, l.End))
	}
	if want := []string{"a/1 10-20", "a/1 20-30", "a/2 15-25", "b/1 0-10"}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

// A writer that began before its packs were published as garbage ends before they
// are deleted; one that began afterwards builds on nothing that is published; and
// nothing is copied onto what is about to go.
func TestWhoBuildsOnGarbage(t *testing.T) {
	ctx := t.Context()
	content := []file{{path: "f", content: random(5, 300_000)}}
	begin := func(t *testing.T) (*vaultBed, *repo.Manifest, repo.WriterConfig) {
		v := newVaultBed(t)
		cfg := v.config()
		cfg.CacheDir, cfg.Workers = t.TempDir(), 1
		m, _, err := write(ctx, cfg, content)
		if err != nil {
			t.Fatal(err)
		}
		return v, m, cfg
	}
	collect := func(t *testing.T, v *vaultBed) repo.Collected {
		t.Helper()
		out, err := v.collector(v.repo).Collect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	finish := func(t *testing.T, v *vaultBed, w *repo.Writer) repo.Stats {
		t.Helper()
		if err := w.Add(ctx, repo.Entry{Path: "f", Type: repo.TypeFile}, bytes.NewReader(content[0].content)); err != nil {
			t.Fatal(err)
		}
		m, _, err := w.Finish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		v.whole(t, v.repo, map[string]map[string][]byte{m.ID: {"f": content[0].content}})
		return w.Stats()
	}
	t.Run("begun before", func(t *testing.T) {
		v, m, cfg := begin(t)
		w, err := repo.NewWriter(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := v.remove(ctx, v.repo, m); err != nil {
			t.Fatal(err)
		}
		if out := collect(t, v); out.Marked == 0 {
			t.Fatalf("nothing became garbage: %+v", out)
		}
		v.now = v.now.Add(repo.MaxRun - time.Hour)
		collect(t, v)
		if st := finish(t, v, w); st.BytesNew != 0 {
			t.Fatalf("it did not build on what was there: %+v", st)
		}
		v.now = v.now.Add(repo.GarbageWait)
		if out := collect(t, v); out.Spared == 0 || out.Deleted > 1 { // the old root goes
			t.Errorf("%+v", out)
		}
		v.whole(t, v.repo, map[string]map[string][]byte{w.ID(): {"f": content[0].content}})
	})
	t.Run("begun after", func(t *testing.T) {
		v, m, cfg := begin(t)
		if _, err := v.remove(ctx, v.repo, m); err != nil {
			t.Fatal(err)
		}
		collect(t, v)
		v.now = v.now.Add(repo.GarbageWait - time.Hour)
		w, err := repo.NewWriter(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		v.now = v.now.Add(2 * time.Hour)
		if out := collect(t, v); out.Deleted == 0 {
			t.Fatalf("nothing was deleted: %+v", out)
		}
		if st := finish(t, v, w); st.BytesNew == 0 {
			t.Error("it built on what was published as garbage")
		}
	})
	t.Run("copied onto it", func(t *testing.T) {
		v, m, _ := begin(t)
		far := repotest.NewMemory()
		repotest.Init(ctx, t, far, "r1")
		other := v.at(t, far)
		if err := other.Replicate(ctx, v.repo, m); err != nil {
			t.Fatal(err)
		}
		if _, err := v.remove(ctx, v.repo, m); err != nil {
			t.Fatal(err)
		}
		collect(t, v)
		if err := v.repo.Replicate(ctx, other, m); !errors.Is(err, repo.ErrDoomed) {
			t.Fatalf("copied onto what is about to go: %v", err)
		}
		v.now = v.now.Add(repo.GarbageWait)
		collect(t, v)
		if err := v.repo.Replicate(ctx, other, m); err != nil {
			t.Fatal(err)
		}
		v.whole(t, v.repo, map[string]map[string][]byte{m.ID: {"f": content[0].content}})
	})
}
