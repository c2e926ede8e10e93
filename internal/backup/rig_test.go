package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// A store is a real folder whose probe and snapshots the test can disturb.
type store struct {
	*files.Store
	probe error
	shoot func(ctx context.Context, w *repo.Writer) error // before the folder is read
	check []holdfast.Finding
}

func (s *store) Probe(ctx context.Context) error { return s.probe }

func (s *store) Check(ctx context.Context) []holdfast.Finding { return s.check }

func (s *store) Snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error {
	if s.shoot != nil {
		if err := s.shoot(ctx, w); err != nil {
			return err
		}
	}
	return s.Store.Snapshot(ctx, w, progress)
}

// A rig is a backup module on a real folder, real repositories, a real engine and
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
	faulty map[string]repo.Store // instead of the place's own
	data   string
	src    *store
	policy *Policy
	heard  *[]string // what the incidents heard
	cache  string
	refuse *error // what hearing of a loss returns
}

func eachRig(t *testing.T, f func(t *testing.T, r rig)) {
	dbtest.Each(t, []db.Module{job.Module, ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) {
		r := rig{t: t, d: d, us: new(atomic.Int64), keys: repotest.NewKeys(t), places: map[string]*repotest.Memory{}, away: map[string]error{}, faulty: map[string]repo.Store{},
			data: t.TempDir(), cache: t.TempDir(), heard: new([]string), refuse: new(error),
			policy: &Policy{Store: "db", Kind: "files", Locations: []string{"near", "offsite"}, Failures: 3}}
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
		for _, l := range []string{"near", "offsite", "third"} {
			r.places[l] = repotest.NewMemory()
			repotest.Init(t.Context(), t, r.places[l], "test-repository")
		}
		folder, err := files.Open(files.Config{Store: "db", Path: r.data})
		if err != nil {
			t.Fatal(err)
		}
		r.src = &store{Store: folder}
		r.write()
		f(t, r.start())
	})
}

func (r rig) now() time.Time       { return db.Time(r.us.Load()) }
func (r rig) pass(d time.Duration) { r.us.Add(d.Microseconds()) }

func (r rig) place(ctx context.Context, l string) (*repo.Repository, error) {
	if err := r.away[l]; err != nil {
		return nil, err
	}
	if s := r.faulty[l]; s != nil {
		return repo.Open(ctx, s)
	}
	return repo.Open(ctx, r.places[l])
}

// start makes engine and module, as a process does that begins on this state.
func (r rig) start() rig {
	r.t.Helper()
	r.jobs = job.New(r.d, job.Config{Owner: "here", Clock: r.now, Lease: time.Minute})
	hear := func(tx *db.Tx, what string) error {
		tx.AfterCommit(func() { *r.heard = append(*r.heard, what) })
		return *r.refuse
	}
	r.m = New(Config{DB: r.d, Jobs: r.jobs, Ledger: r.log, Place: r.place, Clock: r.now, Signer: r.keys.Signer, Writer: func(string) seal.VerifyKey { return r.keys.Signer.Public() }, Vault: r.vault, CacheDir: r.cache, Log: slog.New(slog.DiscardHandler),
		Policies:   func() []Policy { return []Policy{*r.policy} },
		Source:     func(string) (source.Store, error) { return r.src, nil },
		Recipients: func() ([]seal.Recipient, bool, error) { return r.keys.Recipients(), false, nil },
		Naming:     func(string) (Naming, error) { return Naming{Key: r.keys.MAC}, nil },
		Lost: func(_ context.Context, tx *db.Tx, l Loss) error {
			return hear(tx, "lost "+l.Store+", last seen "+l.LastOK.Format("15:04:05")+": "+l.Error)
		},
		Found: func(_ context.Context, tx *db.Tx, store string, _ time.Time) error { return hear(tx, "found "+store) },
	})
	if err := r.jobs.TakeBack(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// write changes the folder.
func (r rig) write() {
	r.t.Helper()
	b := make([]byte, 100_000)
	rand.Read(b)
	if err := os.WriteFile(filepath.Join(r.data, "a"), b, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r rig) enqueue(in job.Insert) (id int64) {
	r.t.Helper()
	if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) (err error) {
		id, err = r.jobs.Enqueue(r.t.Context(), tx, in)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r rig) reconcile() {
	r.t.Helper()
	r.enqueue(job.Insert{Kind: KindReconcile, Key: KindReconcile + ":db", Args: storeArgs{Store: "db"}})
	r.due()
}

func (r rig) once() bool {
	r.t.Helper()
	ran, err := r.jobs.RunOnce(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return ran
}

// due runs what is due now.
func (r rig) due() {
	r.t.Helper()
	for range 100 {
		if !r.once() {
			return
		}
	}
	r.t.Fatal("the jobs do not end")
}

// backup makes a snapshot of the changed folder and runs what is due after it.
func (r rig) backup() {
	r.t.Helper()
	r.pass(time.Minute)
	r.write()
	r.enqueue(SnapshotJob("db", "test"))
	r.due()
}

func (r rig) copies() []Copy {
	r.t.Helper()
	cs, err := r.m.Copies(r.t.Context(), "db")
	if err != nil {
		r.t.Fatal(err)
	}
	return cs
}

// table says where each snapshot stands, oldest first: "near=received offsite=missing".
func (r rig) table() []string {
	r.t.Helper()
	by := map[string]string{}
	var order []string
	for _, c := range r.copies() {
		state := c.State
		if !c.Received.IsZero() {
			state = "received"
		}
		if !slices.Contains(order, c.Snapshot) {
			order = append(order, c.Snapshot)
		} else {
			by[c.Snapshot] += " "
		}
		by[c.Snapshot] += c.Location + "=" + state
	}
	var out []string
	for _, id := range order {
		out = append(out, by[id])
	}
	return out
}

func (r rig) manifests(l string) []*repo.Manifest {
	r.t.Helper()
	p, err := repo.Open(r.t.Context(), r.places[l])
	if err != nil {
		r.t.Fatal(err)
	}
	ms, err := p.Manifests(r.t.Context(), "db")
	if err != nil {
		r.t.Fatal(err)
	}
	return ms
}

func (r rig) facts(kind string) []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

func (r rig) waiting(kind string) int {
	r.t.Helper()
	js, err := r.jobs.List(r.t.Context(), job.Filter{Kind: kind, State: job.Waiting})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(js)
}

var errAway = errors.New("not mounted")
