// Package vault keeps what was promised, and is the only part that deletes.
//
// It decides what is kept, from its own receipts; looks for signs that a deletion
// would be a mistake; collects what nothing needs; reads every stored byte again and
// again, and mends what is damaged from another location; and asks people to sign
// before anything is deleted early or a promise is weakened.
//
// # Invariants
//
//   - Retention counts from receipts, never from a writer's clock.
//   - The newest copy, the last that a drill proved, and the base that carries the log
//     through the window are never deleted.
//   - The vault works by the plan that it holds. A plan that keeps less, or changes who
//     may sign, is held only after it was signed for by the rules of the one before.
//   - Signatures are checked again at the moment of the act, over the text of that act.
//   - Whatever is deleted, vetoed, refused, found damaged or mended is a fact.
//   - It needs no key that can read a backup.
//
// What it does not do: it does not make copies or receipts (package backup), prove
// that a copy can be used (package drill), or protect from who owns its own process:
// docs/THREATS.md says what that means while one process holds all the roles.
package vault

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "vault", Migrations: sub}
}

// Job kinds of this package.
const (
	KindPrune  = "vault.prune"  // delete what may go
	KindVerify = "vault.verify" // read back what is due
)

// Fact types of this package.
const (
	FactPlan      = "vault.plan"      // the vault holds a plan from now on
	FactRemoved   = "vault.removed"   // snapshots were taken out of a location
	FactCollected = "vault.collected" // garbage was published or deleted
	FactVeto      = "vault.veto"      // the guard stopped a deletion
	FactVerified  = "vault.verified"  // a run of reading back ended
	FactDamage    = "vault.damage"    // an object is damaged or missing
	FactRepaired  = "vault.repaired"
	FactAsked     = "approval.asked"
	FactSigned    = "approval.signed"
	FactRefused   = "approval.refused" // a signature, or an act without enough of them
	FactUsed      = "approval.used"
	FactRejected  = "approval.rejected"
	FactReviewed  = "approval.reviewed"
)

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// A Copy is one snapshot at one location as the state remembers it.
type Copy struct {
	Snapshot string
	Location string
	Complete bool
	Created  time.Time
	Received time.Time
}

// Config is what the package stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Jobs   *job.Engine
	Ledger Ledger
	Plan   func() *plan.Plan // in force; the vault may hold an older one
	// Proposed is the plan as it is written, if that is not the one in force.
	//
	// Defaults to Plan.
	Proposed func() *plan.Plan
	// Kept reports whether anything was ever countersigned. Until then the plan of people
	// who have no keys yet is a draft: nothing can be lost by changing it. nil: it was.
	Kept  func(ctx context.Context, tx *db.Tx) (bool, error)
	Place func(ctx context.Context, location string) (*repo.Repository, error)
	// Copies is what the state remembers of a store: a listing that lacks one of
	// them is not believed.
	Copies func(ctx context.Context, store string) ([]Copy, error)
	// Removed is told what is gone, in the transaction that records it.
	Removed func(ctx context.Context, tx *db.Tx, store, location string, snapshots []string) error
	// Damaged is told what reading back found, in the transaction that records it.
	Damaged func(ctx context.Context, tx *db.Tx, d Damage) error
	// Vetoed is told that the guard stopped a deletion, in the transaction that records
	// it.
	Vetoed func(ctx context.Context, tx *db.Tx, s Shelf) error
	// Overdue is told, after each run over all stores and locations, which copies stay past
	// their maximum, in the transaction that records the run. nil: nobody asks.
	Overdue func(ctx context.Context, tx *db.Tx, kept []holdfast.Finding) error
	// Proven returns the snapshot of a store that the newest passed drill restored.
	Proven func(ctx context.Context, store string) (snapshot string, at time.Time, err error)
	// Anchors deletes heads of the ledger for which later ones stand, if they are older than
	// an instant, and says how many. nil: they stay.
	Anchors func(ctx context.Context, at *repo.Repository, before time.Time) (int, error)
	// Log says what log a snapshot needs to be whole; ok is false if none.
	Log     func(m *repo.Manifest) (need repo.LogNeed, ok bool)
	Key     seal.SigningKey         // the vault's
	Trusted func() []seal.VerifyKey // who may sign manifests and log
	Within  time.Duration           // every byte is read back within this time
	// Seen is a folder in which the vault remembers what it has read and believed of each
	// location: a cache of its own. Empty: everything is read again each time.
	Seen  string
	Clock func() time.Time
	// Apart says that Clock is not the one by which locations date what they hold. Then the
	// age of an object means nothing, what a writer is just putting looks old, and no
	// garbage is collected.
	Apart  bool
	Logger *slog.Logger
}

// A Module is the vault. Make it with New.
type Module struct{ cfg Config }

// New registers the job handlers, unless there is no engine for them: then the module
// can hold plans and take signatures, and nothing else.
func New(cfg Config) *Module {
	m := &Module{cfg}
	if cfg.Jobs == nil {
		return m
	}
	cfg.Jobs.Handle(KindPrune, m.prune, job.HandlerOptions{Timeout: 12 * time.Hour, MaxAttempts: 3, Item: job.About(func(r PruneRequest) string { return about(r.Store, r.Location) })})
	cfg.Jobs.Handle(KindRepair, m.repair, job.HandlerOptions{Timeout: 20 * time.Hour, MaxAttempts: 3, Item: job.About(func(q RepairRequest) string { return about("", q.Location) })})
	cfg.Jobs.Handle(KindVerify, m.verify, job.HandlerOptions{Timeout: 20 * time.Hour, MaxAttempts: 3, Item: job.About(func(q VerifyRequest) string { return about("", q.Location) })})
	return m
}

// about says in the words of the plan what a job is about.
func about(store, location string) string {
	switch {
	case store != "":
		return "stores." + store
	case location != "":
		return "locations." + location
	}
	return "locations"
}

// place opens a location, with what is remembered of it.
func (m *Module) place(ctx context.Context, name string) (*repo.Repository, error) {
	r, err := m.cfg.Place(ctx, name)
	if err != nil || m.cfg.Seen == "" {
		return r, err
	}
	stores := slices.Collect(maps.Keys(m.cfg.Plan().Stores))
	return r.Recalling(repo.NewSeen(filepath.Join(m.cfg.Seen, name), stores...)), nil
}

// Watch notes that the clock was looked at, once a minute by a server. A vault that
// nobody watches does not know whether the clock stepped.
func (m *Module) Watch(ctx context.Context) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		_, err := m.watch(ctx, tx)
		return err
	})
}

// watch returns since when the clock has run steadily.
func (m *Module) watch(ctx context.Context, tx *db.Tx) (time.Time, error) {
	seen, since, err := m.watched(ctx, tx)
	if err != nil {
		return time.Time{}, err
	}
	now := m.cfg.Clock()
	since = Steady(seen, since, now)
	_, err = tx.Exec(ctx, `INSERT INTO vault_clock (one, seen, steady) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET seen = excluded.seen, steady = excluded.steady`,
		db.Micros(now), db.Micros(since))
	return since, err
}

// watched is what the last look noted.
func (m *Module) watched(ctx context.Context, tx *db.Tx) (seen, since time.Time, err error) {
	rows, err := tx.Query(ctx, `SELECT seen, steady FROM vault_clock WHERE one = 1`)
	if err != nil {
		return seen, since, err
	}
	defer rows.Close()
	if rows.Next() {
		var s, t int64
		if err := rows.Scan(&s, &t); err != nil {
			return seen, since, err
		}
		seen, since = db.Time(s), db.Time(t)
	}
	return seen, since, rows.Err()
}

// key makes the same request one job, and another request another one: two that run
// at once do no harm.
func key(kind string, request any) string {
	b, err := json.Marshal(request)
	if err != nil {
		panic(err) // plain fields
	}
	h := seal.Hash(b)
	return fmt.Sprintf("%s:%x", kind, h[:8])
}

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, subject, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: subject, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// record appends one fact in a transaction of its own, also when ctx has ended: what
// was refused or stopped is a fact.
func (m *Module) record(ctx context.Context, kind, subject, actor string, data any) error {
	ctx = context.WithoutCancel(ctx)
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error { return m.fact(ctx, tx, kind, subject, actor, data) })
}

func storeNamed(p *plan.Plan, store string) (plan.Backup, error) {
	s, ok := p.Stores[store]
	b, protected := p.Backups[s.Protect]
	if !ok || !protected {
		return b, holdfast.WithHint(fmt.Errorf("store %q is not in the plan, or nothing protects it: %w", store, holdfast.ErrUsage), "\"holdfast status\" lists the protected stores")
	}
	return b, nil
}
