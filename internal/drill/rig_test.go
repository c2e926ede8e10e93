package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A box is a directory; what it cannot clean up is set by the test.
type box struct {
	dir string
	err error
}

func (b *box) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}
func (b *box) Dir() string         { return b.dir }
func (b *box) Own(string) error    { return nil }
func (b *box) Isolation() []string { return []string{"none: a test"} }
func (b *box) Close() error        { return errors.Join(os.RemoveAll(b.dir), b.err) }

// A rig is a drill module on a real folder, real repositories, a real engine and
// a real ledger.
type rig struct {
	t      *testing.T
	d      *db.DB
	us     *atomic.Int64
	log    *ledger.Log
	jobs   *job.Engine
	m      *Module
	keys   repotest.Keys
	vault  seal.SigningKey
	places map[string]*repotest.Memory
	away   map[string]error
	data   string
	store  *files.Store
	failed *[]Drill
	hooks  *hooks
}

// hooks change what the world does.
type hooks struct {
	from    string // the location that the plan names for its drill
	sub     Subject
	budget  int64
	box     error // what closing the sandbox returns
	boxes   int   // opened
	restore func(ctx context.Context, req source.Request) error
	checks  func(ctx context.Context) []holdfast.Check // instead of the engine's own
	value   func(question string) (any, error)
	refuse  error // what hearing of a failed drill returns
	windows error
}

// restorer is the folder's own, with the test's hooks.
type restorer struct {
	source.Restorer
	h *hooks
}

func (s restorer) Windows(ctx context.Context, r *repo.Repository) ([]holdfast.Window, error) {
	if s.h.windows != nil {
		return nil, s.h.windows
	}
	return s.Restorer.Windows(ctx, r)
}

func (s restorer) Restore(ctx context.Context, req source.Request) (source.Restored, error) {
	if s.h.restore != nil {
		if err := s.h.restore(ctx, req); err != nil {
			return nil, err
		}
	}
	got, err := s.Restorer.Restore(ctx, req)
	return restored{got, s.h}, err
}

type restored struct {
	source.Restored
	h *hooks
}

func (r restored) Integrity(ctx context.Context) []holdfast.Check {
	if r.h.checks != nil {
		return r.h.checks(ctx)
	}
	return r.Restored.Integrity(ctx)
}

func (r restored) Value(_ context.Context, question string) (any, error) {
	if r.h.value == nil {
		return int64(42), nil
	}
	return r.h.value(question)
}

func eachRig(t *testing.T, f func(t *testing.T, r rig)) {
	dbtest.Each(t, []db.Module{job.Module, ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) {
		f(t, newRig(t, d))
	})
}

func newRig(t *testing.T, d *db.DB) rig {
	t.Helper()
	r := rig{t: t, d: d, us: new(atomic.Int64), keys: repotest.NewKeys(t), places: map[string]*repotest.Memory{}, away: map[string]error{},
		data: t.TempDir(), failed: new([]Drill), hooks: &hooks{budget: 1 << 30}}
	r.us.Store(db.Micros(noon))
	var err error
	if r.vault, err = seal.GenerateSigningKey("test-vault"); err != nil {
		t.Fatal(err)
	}
	signer, err := seal.NoteSigner(r.vault)
	if err != nil {
		t.Fatal(err)
	}
	if r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: r.now}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"near", "offsite"} {
		r.places[l] = repotest.NewMemory()
		repotest.Init(t.Context(), t, r.places[l], "test-repository")
	}
	if r.store, err = files.Open(files.Config{Store: "db", Path: r.data}); err != nil {
		t.Fatal(err)
	}
	r.hooks.sub = Subject{Kind: "files", Owner: "ada", Locations: []string{"near"}, Restorer: restorer{r.store, r.hooks}}
	return r.start()
}

func (r rig) now() time.Time       { return db.Time(r.us.Load()) }
func (r rig) pass(d time.Duration) { r.us.Add(d.Microseconds()) }

func (r rig) place(ctx context.Context, l string) (*repo.Repository, error) {
	if err := r.away[l]; err != nil {
		return nil, err
	}
	return repo.Open(ctx, r.places[l])
}

// start makes engine and module, as a process does that begins on this state.
func (r rig) start() rig {
	r.t.Helper()
	r.jobs = job.New(r.d, job.Config{Owner: "here", Clock: r.now, Lease: time.Minute})
	r.m = New(Config{DB: r.d, Jobs: r.jobs, Ledger: r.log, Place: r.place, Clock: r.now, ReadWithin: 30 * 24 * time.Hour, ReadBudget: r.hooks.budget,
		Subject:    func(string) (Subject, error) { return r.hooks.sub, nil },
		Identities: func(context.Context, string) ([]seal.Identity, error) { return []seal.Identity{r.keys.Identity}, nil },
		Trusted:    func() []seal.VerifyKey { return []seal.VerifyKey{r.keys.Signer.Public()} },
		Vault:      func() []seal.VerifyKey { return []seal.VerifyKey{r.vault.Public()} },
		Box: func(context.Context) (Box, error) {
			r.hooks.boxes++
			dir, err := os.MkdirTemp(r.t.TempDir(), "box-")
			return &box{dir, r.hooks.box}, err
		},
		Failed: func(_ context.Context, tx *db.Tx, d Drill) error {
			if r.hooks.refuse != nil {
				return r.hooks.refuse
			}
			tx.AfterCommit(func() { *r.failed = append(*r.failed, d) })
			return nil
		},
		Declared: func(string) (Declared, error) {
			return Declared{Stores: []string{"db"}, Goal: holdfast.L3, Pick: "latest", From: r.hooks.from}, nil
		},
	})
	if err := r.jobs.TakeBack(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// write changes the folder: a file of random bytes.
func (r rig) write(name string, size int) {
	r.t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	if err := os.WriteFile(filepath.Join(r.data, name), b, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// snapshot copies the folder to the places, with receipts.
func (r rig) snapshot(places ...string) *repo.Manifest {
	r.t.Helper()
	return r.sealedTo(r.keys.Recipients(), places...)
}

// sealedTo is snapshot, for others.
func (r rig) sealedTo(recipients []seal.Recipient, places ...string) *repo.Manifest {
	r.t.Helper()
	ctx := r.t.Context()
	r.pass(time.Minute)
	var to []repo.Place
	for _, l := range places {
		p, err := r.place(ctx, l)
		if err != nil {
			r.t.Fatal(err)
		}
		to = append(to, repo.Place{Name: l, Repo: p})
	}
	w, err := repo.NewWriter(ctx, repo.WriterConfig{Places: to, Scope: "db", Kind: "files", Recipients: recipients, Signer: r.keys.Signer, MAC: r.keys.MAC,
		CacheDir: r.t.TempDir(), Clock: r.now})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.Snapshot(ctx, w, nil); err != nil {
		r.t.Fatal(err)
	}
	m, _, err := w.Finish(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.pass(time.Second)
	for _, p := range to {
		rc := repo.Receipt{Scope: "db", Snapshot: m.ID, Manifest: m.Hash(), Place: p.Name, Received: r.now(), Vault: r.vault.Name()}
		if err := p.Repo.PutReceipt(ctx, rc, r.vault); err != nil {
			r.t.Fatal(err)
		}
	}
	r.pass(time.Minute)
	return m
}

// drill plans a drill and runs it to its end.
func (r rig) drill(req Request) Drill {
	r.t.Helper()
	return r.finish(r.plan(req).ID)
}

func (r rig) plan(req Request) Drill {
	r.t.Helper()
	if req.Store == "" {
		req.Store = "db"
	}
	d, _, err := r.m.Start(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// finish runs jobs until the drill has ended.
func (r rig) finish(id string) Drill {
	r.t.Helper()
	for range 100 {
		if d := r.get(id); d.Ended() {
			return d
		}
		ran, err := r.jobs.RunOnce(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if !ran {
			r.pass(time.Minute)
		}
	}
	r.t.Fatalf("drill %s does not end: %+v", id, r.get(id))
	return Drill{}
}

func (r rig) get(id string) Drill {
	r.t.Helper()
	d, err := r.m.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r rig) facts(kind string) []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

// outcome returns how a check of a rung ended, and its words.
func outcome(d Drill, rung holdfast.Rung, name string) string {
	for _, c := range d.Checks {
		if c.Rung == rung && c.Name == name {
			return string(c.Outcome) + ": " + c.Detail
		}
	}
	return "none"
}
