package vault

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// A rig is a vault on a real state, a real ledger and real repositories in memory.
type rig struct {
	t      *testing.T
	d      *db.DB
	us     *int64
	log    *ledger.Log
	jobs   *job.Engine
	m      *Module
	plan   *plan.Plan
	people map[string]seal.SigningKey
	keys   repotest.Keys
	vault  seal.SigningKey
	places map[string]*repotest.Memory
	away   map[string]error
	told   []string
	gone   map[string]bool       // location and snapshot
	stores map[string]repo.Store // instead of the place's own
	proven string
}

const planText = `apiVersion: holdfast/v1
plan: {id: test, owner: ana, approvers: [ana, ben, cid]}
TEAM
people:
  ana: {name: Ana, ssh: {key: "SSH-ana"}}
  ben: {name: Ben, ssh: {key: "SSH-ben"}}
  cid: {name: Cid, ssh: {key: "SSH-cid"}}
  eve: {name: Eve, ssh: {key: "SSH-eve"}}
stores:
  db: {kind: files, files: {path: /srv/db}, protect: daily}
keys:
  a: {recipient: "age1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", holders: [ana]}
repository: {id: test-repository, encrypt_to: [a], allow_one_recipient: true}
locations:
  near: {kind: dir, path: /near}
  far: {kind: dir, path: /far, domain: far}
backups:
  daily: {every: 1d, copies: [near, far], keep: 30d}
HOLDS
`

func eachRig(t *testing.T, f func(t *testing.T, r *rig)) {
	dbtest.Each(t, []db.Module{job.Module, ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) { f(t, rigOn(t, d)) })
}

// oneRig is a rig on SQLite, for tests that need many.
func oneRig(t *testing.T, edits ...string) *rig {
	t.Helper()
	d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Migrate(t.Context(), job.Module, ledger.Tables(), Tables()); err != nil {
		t.Fatal(err)
	}
	return rigOn(t, d, edits...)
}

func rigOn(t *testing.T, d *db.DB, edits ...string) *rig {
	t.Helper()
	us := db.Micros(noon)
	r := &rig{t: t, d: d, us: &us, keys: repotest.NewKeys(t), people: map[string]seal.SigningKey{}, places: map[string]*repotest.Memory{}, away: map[string]error{}, gone: map[string]bool{}}
	var err error
	for _, p := range []string{"ana", "ben", "cid", "eve", "stranger"} {
		if r.people[p], err = seal.GenerateSigningKey(p); err != nil {
			t.Fatal(err)
		}
	}
	if r.vault, err = seal.GenerateSigningKey("vault"); err != nil {
		t.Fatal(err)
	}
	signer, err := seal.NoteSigner(r.vault)
	if err != nil {
		t.Fatal(err)
	}
	if r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: r.now}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"near", "far"} {
		r.places[l] = repotest.NewMemory()
		repotest.Init(t.Context(), t, r.places[l], "test-repository")
	}
	r.declare("", "", edits...)
	r.jobs = job.New(d, job.Config{Owner: "here", Clock: r.now})
	r.m = New(Config{DB: d, Jobs: r.jobs, Ledger: r.log, Plan: func() *plan.Plan { return r.plan }, Place: r.place, Clock: r.now, Key: r.vault, Within: 30 * 24 * time.Hour, Seen: t.TempDir(),
		Logger: slog.New(slog.DiscardHandler), Trusted: func() []seal.VerifyKey { return []seal.VerifyKey{r.keys.Signer.Public(), r.vault.Public()} },
		Log:    func(*repo.Manifest) (repo.LogNeed, bool) { return repo.LogNeed{}, false },
		Proven: func(context.Context, string) (string, time.Time, error) { return r.proven, r.now(), nil },
		Copies: func(ctx context.Context, store string) (out []Copy, err error) {
			for l, s := range r.places {
				for _, n := range s.Names() {
					if id, ok := strings.CutPrefix(n, "receipts/"+store+"/"); ok && !r.gone[l+" "+id] {
						out = append(out, Copy{Snapshot: id, Location: l, Complete: true, Received: noon})
					}
				}
			}
			return out, nil
		},
		Removed: func(_ context.Context, _ *db.Tx, _, location string, ids []string) error {
			for _, id := range ids {
				r.gone[location+" "+id] = true
			}
			return nil
		},
		Damaged: func(_ context.Context, tx *db.Tx, x Damage) error {
			tx.AfterCommit(func() { r.told = append(r.told, x.What+" "+x.Location) })
			return nil
		},
		Vetoed: func(_ context.Context, tx *db.Tx, s Shelf) error {
			tx.AfterCommit(func() { r.told = append(r.told, "veto "+s.Vetoes[0].Code) })
			return nil
		},
	})
	if _, err := r.m.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) now() time.Time       { return db.Time(*r.us) }
func (r *rig) pass(d time.Duration) { *r.us += d.Microseconds() }

func (r *rig) place(ctx context.Context, l string) (*repo.Repository, error) {
	if err := r.away[l]; err != nil {
		return nil, err
	}
	var s repo.Store = r.places[l]
	if other := r.stores[l]; other != nil {
		s = other
	}
	p, err := repo.Open(ctx, s)
	if err == nil {
		p.Trust(r.keys.Signer.Public(), r.vault.Public())
	}
	return p, err
}

// declare puts another plan in force: a team, and further text; old and new texts are
// replaced in it, two by two.
func (r *rig) declare(team, holds string, edits ...string) {
	r.t.Helper()
	text := strings.ReplaceAll(strings.ReplaceAll(planText, "TEAM\n", team), "HOLDS\n", holds)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			r.t.Fatalf("the plan does not hold %q", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	for p, k := range r.people {
		text = strings.ReplaceAll(text, "SSH-"+p, k.Public().AuthorizedKey())
	}
	p, err := plan.Parse("/plan.yaml", []byte(text))
	if err != nil {
		r.t.Fatal(plan.FindingsOf(err))
	}
	r.plan = p
}

// backup makes a snapshot with n bytes at both locations, with receipts.
func (r *rig) backup(n int) *repo.Manifest {
	r.t.Helper()
	ctx := r.t.Context()
	var places []repo.Place
	for _, l := range []string{"near", "far"} {
		if p, err := r.place(ctx, l); err == nil {
			places = append(places, repo.Place{Name: l, Repo: p})
		}
	}
	w, err := repo.NewWriter(ctx, repo.WriterConfig{Places: places, Scope: "db", Kind: "files", Recipients: r.keys.Recipients(), Signer: r.keys.Signer, MAC: r.keys.MAC, Clock: r.now, Workers: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if err := w.Add(ctx, repo.Entry{Path: "f", Type: repo.TypeFile}, bytes.NewReader(b)); err != nil {
		r.t.Fatal(err)
	}
	return r.finish(w, places)
}

// again makes a snapshot that uses the content of an older one.
func (r *rig) again(parent *repo.Manifest) {
	r.t.Helper()
	ctx := r.t.Context()
	var places []repo.Place
	for _, l := range []string{"near", "far"} {
		p, err := r.place(ctx, l)
		if err != nil {
			r.t.Fatal(err)
		}
		places = append(places, repo.Place{Name: l, Repo: p})
	}
	snap, err := places[0].Repo.Snapshot(ctx, parent, r.keys.Identity)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := snap.Find(ctx, "f")
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := repo.NewWriter(ctx, repo.WriterConfig{Places: places, Scope: "db", Kind: "files", Recipients: r.keys.Recipients(), Signer: r.keys.Signer, MAC: r.keys.MAC, Clock: r.now, Workers: 1, Parent: parent})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := w.AddExtents(ctx, e, e.Extents); err != nil {
		r.t.Fatal(err)
	}
	r.finish(w, places)
}

// finish ends a snapshot and gives it its receipts.
func (r *rig) finish(w *repo.Writer, places []repo.Place) *repo.Manifest {
	r.t.Helper()
	m, _, err := w.Finish(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range places {
		if err := p.Repo.PutReceipt(r.t.Context(), repo.Receipt{Scope: "db", Snapshot: m.ID, Manifest: m.Hash(), Place: p.Name, Received: r.now(), Vault: "vault"}, r.vault); err != nil {
			r.t.Fatal(err)
		}
	}
	return m
}

// days lets days pass, each with a backup and with somebody who watches the clock.
func (r *rig) days(n int) (ms []*repo.Manifest) {
	r.t.Helper()
	for range n {
		ms = append(ms, r.backup(20_000))
		for range 2 {
			r.pass(12 * time.Hour)
			if err := r.m.Watch(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return ms
}

func (r *rig) prune(q PruneRequest) Report {
	r.t.Helper()
	rep, err := r.m.run(r.t.Context(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func (r *rig) listed(l string) int {
	r.t.Helper()
	p, err := r.place(r.t.Context(), l)
	if err != nil {
		r.t.Fatal(err)
	}
	ms, err := p.Manifests(r.t.Context(), "db")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range ms {
		if err := p.Check(r.t.Context(), m); err != nil {
			r.t.Fatal(err)
		}
	}
	return len(ms)
}

func (r *rig) facts(kind string) int {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(fs)
}

func (r *rig) sign(q Request, by, key string) (Request, error) {
	r.t.Helper()
	sig, err := r.people[key].SSHSign(Namespace, []byte(q.Text))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.m.Sign(r.t.Context(), q.ID, by, sig)
}

func (r *rig) take(q Request, a Act) error {
	return r.d.Tx(r.t.Context(), func(tx *db.Tx) error { return r.m.Take(r.t.Context(), tx, q.ID, a) })
}
