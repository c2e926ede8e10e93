// Package backup keeps copies of every store in every location that the plan
// names, and knows at each moment what they are worth.
//
// Snapshots are durable jobs. A snapshot goes to all reachable locations at
// once; a location that missed it is caught up later from one that has it, as
// ciphertext, without a key. The log of a store that has one is followed all the
// time. What somebody else protects is asked for, and written down as their word. The vault's part, checking that a copy is complete and countersigning it
// with its own time, is a job of its own with a key of its own.
//
// # Invariants
//
//   - A snapshot is listed only after the repository finished it, and counts for
//     a location only with the vault's receipt.
//   - Every attempt is a fact in the ledger, the failed ones too.
//   - What a location is worth is computed from receipts and from the log's
//     frontier there, never from the fact that a job ended.
//   - Nothing here can read data back: the package holds recipients, not
//     identities.
//
// What it does not do: it does not restore (package source), does not judge
// objectives (package objective) and does not delete (the vault's retention).
package backup

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/foreign"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "backup", Migrations: sub}
}

// Job kinds of this package.
const (
	KindSnapshot  = "backup.snapshot"  // copy one store now
	KindCopy      = "backup.copy"      // catch one location up with one snapshot
	KindReceive   = "vault.receive"    // check one copy for completeness and countersign it
	KindReconcile = "backup.reconcile" // learn from the locations what they hold
)

// Fact types of this package.
const (
	FactSnapshot = "backup.snapshot"
	FactFailed   = "backup.failed"
	FactCopied   = "backup.copied"
	FactReceipt  = "backup.receipt"
	FactGap      = "backup.gap"
	FactLost     = "store.lost"
	FactFound    = "store.found"
)

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// A Policy is what the plan in force says about one store.
type Policy struct {
	Store     string
	Kind      string
	Locations []string // in the order of the plan
	Log       bool     // follow the store's log
	Agent     bool     // an agent on another machine makes the backups: we only find them
	// Every is how often a backup is due, and Cycle how often a location is brought up to
	// date where that is not with each backup.
	Every    time.Duration
	Cycle    map[string]time.Duration
	Probe    time.Duration
	Failures int // consecutive failed probes that mean lost
}

// Config is what the package stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Jobs   *job.Engine
	Ledger Ledger
	// Policies returns the protected stores of the plan in force.
	Policies func() []Policy
	// Source opens the adapter of a store.
	Source func(store string) (source.Store, error)
	// Place opens the repository at a location, with an error that says why
	// it is out of reach.
	Place func(ctx context.Context, location string) (*repo.Repository, error)
	// Line says how a location was last reached. Nil says nothing.
	Line func(location string) location.Line
	// May refuses new copies of a store at a location, with the reason. Nil refuses
	// nothing.
	May func(ctx context.Context, store, location string) error
	// Recipients are who can read what is written from now on, and whether one of them
	// alone is enough. One that cannot be read is an error, never left out.
	Recipients func() (to []seal.Recipient, allowOne bool, err error)
	Signer     seal.SigningKey // the source agent's
	// Writer is the key that signs the snapshots of a store: Signer's, or an agent's.
	Writer func(store string) seal.VerifyKey
	// Naming is the key that names the chunks of a store, for a backup that begins now.
	Naming   func(store string) (Naming, error)
	Vault    seal.SigningKey // the vault agent's
	CacheDir string
	// Lost and Found are called in the transaction that records the change.
	Lost  func(ctx context.Context, tx *db.Tx, l Loss) error
	Found func(ctx context.Context, tx *db.Tx, store string, at time.Time) error
	// Gap and Failed, if set, are called in the transaction that records that log is
	// missing at a location, or that an attempt of a backup failed.
	Gap    func(ctx context.Context, tx *db.Tx, store string, f source.Frontier) error
	Failed func(ctx context.Context, tx *db.Tx, store string, attempt int, why string) error
	// Foreign opens the adapter of a store that a supplier protects, and Outside makes a
	// sandbox for it, with the network. Nil: no supplier is asked.
	Foreign func(store string) (*foreign.Adapter, error)
	Outside func(ctx context.Context) (box foreign.Box, release func() error, err error)
	Clock   func() time.Time
	Log     *slog.Logger
}

// A Loss is a store that stopped answering.
type Loss struct {
	Store      string
	LastOK     time.Time // it answered then; the disruption began after
	DetectedAt time.Time
	Error      string
}

// A Module runs backups. Make it with New, then Start it.
type Module struct {
	cfg Config
	wg  sync.WaitGroup // what the rounds began

	mu      sync.Mutex // of what follows
	rounds  map[string]*round
	watches bool // whether stores are declared lost, or only their logs are followed
	stopped bool
}

// New registers the job handlers. Nothing runs until Start.
func New(cfg Config) *Module {
	m := &Module{cfg: cfg}
	cfg.Jobs.Handle(KindSnapshot, m.snapshot, job.HandlerOptions{Timeout: 24 * time.Hour, MaxAttempts: 5,
		Item: job.About(func(a storeArgs) string { return "stores." + a.Store })})
	cfg.Jobs.Handle(KindCopy, m.copy, job.HandlerOptions{Timeout: 24 * time.Hour, MaxAttempts: 1000, Backoff: copyBackoff,
		Item: job.About(func(a copyArgs) string { return "stores." + a.Store })})
	cfg.Jobs.Handle(KindReceive, m.receive, job.HandlerOptions{Timeout: time.Hour, MaxAttempts: 20})
	cfg.Jobs.Handle(KindLook, m.look, job.HandlerOptions{Timeout: 10 * time.Minute, MaxAttempts: 5})
	cfg.Jobs.Handle(KindReconcile, m.reconcile, job.HandlerOptions{Timeout: time.Hour, MaxAttempts: 3})
	return m
}

// A location that is away is asked again every half minute at first and every
// ten minutes in the end: it may be away for days.
func copyBackoff(attempt int) time.Duration {
	return min(30*time.Second*time.Duration(attempt), 10*time.Minute)
}

type storeArgs struct {
	Store  string `json:"store"`
	Reason string `json:"reason,omitempty"`
}

type copyArgs struct {
	Store    string `json:"store"`
	Snapshot string `json:"snapshot"`
	Location string `json:"location"`
}

// SnapshotJob is the job that copies store now.
func SnapshotJob(store, reason string) job.Insert {
	return job.Insert{Kind: KindSnapshot, Key: KindSnapshot + ":" + store, Args: storeArgs{store, reason}, Queue: "backup"}
}

// policy returns the policy of one store.
func (m *Module) policy(store string) (Policy, error) {
	for _, p := range m.cfg.Policies() {
		if p.Store == store {
			return p, nil
		}
	}
	return Policy{}, holdfast.WithHint(fmt.Errorf("store %q is not in the plan, or the plan does not protect it", store),
		"\"holdfast status\" lists the protected stores")
}

// places opens every location of p that is within reach. It fails only if none is.
func (m *Module) places(ctx context.Context, p Policy) (places []repo.Place, away map[string]error, err error) {
	away = map[string]error{}
	for _, name := range p.Locations {
		r, err := m.cfg.Place(ctx, name)
		if err != nil {
			away[name] = err
			continue
		}
		places = append(places, repo.Place{Name: name, Repo: r})
	}
	if len(places) == 0 {
		var all []error
		for _, name := range p.Locations {
			all = append(all, fmt.Errorf("location %q: %w", name, away[name]))
		}
		return nil, away, holdfast.WithHint(fmt.Errorf("store %q: no location is within reach: %w", p.Store, errors.Join(all...)),
			"mend one location, then \"holdfast backup %s\"", p.Store)
	}
	return places, away, nil
}

// may reports why no new copy of a store may go to a location.
func (m *Module) may(ctx context.Context, store, location string) error {
	if m.cfg.May == nil {
		return nil
	}
	return m.cfg.May(ctx, store, location)
}

// Refused records that a backup that somebody asked for is not made.
func (m *Module) Refused(ctx context.Context, store, reason string, why error) error {
	return m.cfg.DB.Tx(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		return m.fact(ctx, tx, FactFailed, store, map[string]any{"error": why.Error(), "hint": holdfast.Hint(why), "reason": reason, "started": m.cfg.Clock()})
	})
}

// allowed takes the places out to which nothing new may go, and notes them among those
// that are away.
func (m *Module) allowed(ctx context.Context, p Policy, places []repo.Place, away map[string]error) ([]repo.Place, error) {
	var refused []error
	places = slices.DeleteFunc(places, func(pl repo.Place) bool {
		err := m.may(ctx, p.Store, pl.Name)
		if err != nil {
			away[pl.Name] = err
			refused = append(refused, err)
		}
		return err != nil
	})
	if len(places) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("store %q goes nowhere: %w", p.Store, refused[0]), "%s", holdfast.Hint(refused[0]))
	}
	return places, nil
}

// SnapshotFact is the data of a FactSnapshot.
type SnapshotFact struct {
	Snapshot  string            `json:"snapshot"`
	Manifest  string            `json:"manifest"`
	Created   time.Time         `json:"created"`
	Seconds   float64           `json:"seconds"`
	Bytes     int64             `json:"bytes"`
	Stored    int64             `json:"stored"`
	Files     int64             `json:"files"`
	Locations map[string]string `json:"locations"` // location: "complete", or why not
	// Lines says how the complete copies travelled, as both ends agreed: each location
	// with the protocol and the cipher of the last answer that this job got there.
	Lines map[string]location.Line `json:"lines,omitempty"`
	// From says how the store was reached.
	From   source.Line `json:"from,omitzero"`
	Reason string      `json:"reason,omitempty"`
	Job    int64       `json:"job"`
	// Incomplete says what is missing from the copy. Such a copy is kept, and is
	// no success.
	Incomplete string `json:"incomplete,omitempty"`
	// Named is since when the key is in use that names its chunks, and Anew why all content
	// was stored anew although there are snapshots before it.
	Named string `json:"dedup_since,omitempty"`
	Anew  string `json:"anew,omitempty"`
}

// Short says what is missing from the copy.
func (f SnapshotFact) Short() string { return f.Incomplete }

// snapshot copies one store to every location within reach.
//
// A crash before the end leaves packs that no manifest names: they are not
// listed anywhere and are garbage for the vault. A crash between the manifest
// and our transaction leaves a complete snapshot that reconcile finds; the job
// runs again and makes another, which costs only what changed.
func (m *Module) snapshot(ctx context.Context, w *job.Work) error {
	var a storeArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	started := m.cfg.Clock()
	man, copies, stats, from, err := m.take(ctx, w, a)
	var incomplete string
	if errors.Is(err, source.ErrIncomplete) && man != nil {
		incomplete = err.Error()
	} else if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), job.ErrCancelled) {
			return err // we are being stopped, or lost the job: the backup did not fail, it goes on later
		}
		return m.failed(ctx, w.Job(), a, started, err)
	}
	fact := SnapshotFact{Snapshot: man.ID, Manifest: man.Hash(), Created: man.Created, Seconds: m.cfg.Clock().Sub(started).Seconds(),
		Bytes: man.Bytes, Stored: stats.BytesStored, Files: man.Files, Locations: map[string]string{}, Lines: map[string]location.Line{}, From: from, Reason: a.Reason, Job: w.Job().ID, Incomplete: incomplete, Named: man.Labels[LabelNaming], Anew: man.Labels[LabelAnew]}
	for _, c := range copies {
		fact.Locations[c.Place] = "complete"
		if c.Err != nil {
			fact.Locations[c.Place] = c.Err.Error()
		} else if l := m.line(c.Place); l.Protocol != "" {
			fact.Lines[c.Place] = l
		}
	}
	p, err := m.policy(a.Store)
	if err != nil {
		return err
	}
	return w.Done(ctx, fact, func(tx *db.Tx) error {
		if err := m.record(ctx, tx, a.Store, man, stats.BytesStored); err != nil {
			return err
		}
		for _, c := range copies {
			kind, at := KindReceive, time.Time{}
			state, detail := "complete", ""
			if c.Err != nil {
				kind, state, detail = KindCopy, stateMissing, c.Err.Error()
				at = m.cfg.Clock().Add(copyBackoff(1))
				if turn, err := m.turn(ctx, tx, p, c.Place); err != nil {
					return err
				} else if a.Reason == ReasonScheduled && turn.After(at) {
					at = turn.Add(p.Every / 2)
				}
			} else if err := m.bringUp(ctx, tx, p, c.Place); err != nil {
				return err
			}
			if err := m.setCopy(ctx, tx, copyArgs{a.Store, man.ID, c.Place}, state, detail); err != nil {
				return err
			}
			if err := m.setLine(ctx, tx, copyArgs{a.Store, man.ID, c.Place}, fact.Lines[c.Place]); err != nil {
				return err
			}
			if _, err := m.cfg.Jobs.Enqueue(ctx, tx, copyJob(kind, copyArgs{a.Store, man.ID, c.Place}, at)); err != nil {
				return err
			}
		}
		// A base that began before a gap does not mend it, and while it was being
		// made, asking for another one found this one.
		if a.Reason != reanchorAgain {
			if open, err := m.gapSince(ctx, tx, a.Store, man.Created); err != nil {
				return err
			} else if open {
				if _, err := m.cfg.Jobs.Enqueue(ctx, tx, SnapshotJob(a.Store, reanchorAgain)); err != nil {
					return err
				}
			}
		}
		return m.fact(ctx, tx, FactSnapshot, a.Store, fact)
	})
}

// Reasons of bases that mend a gap. The second is given once, so that a clock that
// jumped ahead and came back cannot make one base after the other.
const (
	reanchor      = "re-anchor after a gap in the log"
	reanchorAgain = "re-anchor after a gap in the log that opened while the last base was made"
)

// take writes the snapshot. The copies of locations out of reach are among the
// copies, each with its error. With source.ErrIncomplete there is a snapshot all
// the same.
func (m *Module) take(ctx context.Context, w *job.Work, a storeArgs) (*repo.Manifest, []repo.Copy, repo.Stats, source.Line, error) {
	store := a.Store
	p, err := m.policy(store)
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	if p.Agent {
		return nil, nil, repo.Stats{}, source.Line{}, job.Permanent(fmt.Errorf("store %q is backed up by its agent: %w", store, holdfast.ErrRefused))
	}
	src, err := m.cfg.Source(store)
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	// What would make the backup worthless is said before hours are spent on it. A
	// backup that is itself the cure is not refused for the illness.
	for _, f := range src.Check(ctx) {
		if f.Severity == holdfast.SeverityError && !source.MendedByBackup(src, f) {
			return nil, nil, repo.Stats{}, source.Line{}, holdfast.WithHint(fmt.Errorf("%s: %s", f.Code, f.Message), "%s", f.Hint)
		}
	}
	places, away, err := m.places(ctx, p)
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	if places, err = m.allowed(ctx, p, places, away); err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	if a.Reason == ReasonScheduled {
		if places, err = m.inTurn(ctx, p, places, away); err != nil {
			return nil, nil, repo.Stats{}, source.Line{}, err
		}
	}
	name, err := m.cfg.Naming(store)
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	to, allowOne, err := m.cfg.Recipients()
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	wr, err := repo.NewWriter(ctx, repo.WriterConfig{
		Places: places, Scope: store, Kind: p.Kind, Recipients: to, AllowOne: allowOne, Signer: m.cfg.Signer,
		MAC: name.Key, Epoch: name.Epoch, CacheDir: m.cfg.CacheDir, Parent: m.parent(ctx, places, store), Clock: m.cfg.Clock,
	})
	if err != nil {
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	partial := src.Snapshot(ctx, wr, telling(name.Label(wr), progressTo(ctx, w, m.cfg.Log)))
	if partial != nil && !errors.Is(partial, source.ErrIncomplete) {
		wr.Abort()
		return nil, nil, repo.Stats{}, source.Line{}, partial
	}
	man, copies, err := wr.Finish(ctx)
	if err != nil {
		wr.Abort()
		return nil, nil, repo.Stats{}, source.Line{}, err
	}
	for name, err := range away {
		copies = append(copies, repo.Copy{Place: name, Err: err})
	}
	slices.SortFunc(copies, func(a, b repo.Copy) int { return strings.Compare(a.Place, b.Place) })
	var from source.Line
	if l, ok := src.(source.Liner); ok {
		from = l.Line()
	}
	return man, copies, wr.Stats(), from, partial
}

// parent returns the newest snapshot of store that every given place holds, so
// that what it names is there to be named again; nil if there is none.
func (m *Module) parent(ctx context.Context, places []repo.Place, store string) *repo.Manifest {
	var common []string
	first := true
	for _, p := range places {
		ids, err := p.Repo.SnapshotIDs(ctx, store)
		if err != nil {
			// The writer will give this place up; the others go on without it.
			m.cfg.Log.Warn("snapshots not listed", "store", store, "location", p.Name, "err", err)
			continue
		}
		if first {
			common, first = ids, false
			continue
		}
		common = slices.DeleteFunc(common, func(id string) bool { return !slices.Contains(ids, id) })
	}
	if len(common) == 0 {
		return nil
	}
	for _, p := range places {
		if man, err := p.Repo.Manifest(ctx, store, common[len(common)-1]); err == nil && man.Verify(m.cfg.Writer(store)) == nil {
			return man
		}
	}
	return nil // none is readable and ours: verification names that, and a backup without a parent is a backup
}

// failed records that a backup did not happen and returns err for the job.
func (m *Module) failed(ctx context.Context, j job.Job, a storeArgs, started time.Time, err error) error {
	// A cancelled context must not lose the fact.
	ctx = context.WithoutCancel(ctx)
	ferr := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if ferr := m.fact(ctx, tx, FactFailed, a.Store, map[string]any{
			"error": err.Error(), "hint": holdfast.Hint(err), "reason": a.Reason, "started": started, "job": j.ID,
		}); ferr != nil || m.cfg.Failed == nil {
			return ferr
		}
		return m.cfg.Failed(ctx, tx, a.Store, j.Attempt, err.Error())
	})
	return errors.Join(holdfast.Tell(err), ferr)
}

// copy catches one location up with one snapshot.
func (m *Module) copy(ctx context.Context, w *job.Work) error {
	var a copyArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	p, err := m.policy(a.Store)
	if err != nil {
		return job.Permanent(err)
	}
	if gone, err := m.isRemoved(ctx, a); err != nil {
		return err
	} else if gone {
		return nil // the vault took it away before it was caught up
	}
	if err := m.may(ctx, a.Store, a.Location); err != nil {
		return err
	}
	to, err := m.cfg.Place(ctx, a.Location)
	if err != nil {
		return fmt.Errorf("location %q: %w", a.Location, err)
	}
	var reasons []error
	for _, name := range p.Locations {
		if name == a.Location {
			continue
		}
		if err := m.replicate(ctx, a, name, to); err != nil {
			reasons = append(reasons, fmt.Errorf("from %q: %w", name, err))
			continue
		}
		return w.Done(ctx, nil, func(tx *db.Tx) error {
			if err := m.setCopy(ctx, tx, a, "complete", ""); err != nil {
				return err
			}
			lines := map[string]location.Line{name: m.line(name), a.Location: m.line(a.Location)}
			if err := m.setLine(ctx, tx, a, lines[a.Location]); err != nil {
				return err
			}
			_, err := m.cfg.Jobs.Enqueue(ctx, tx, job.Insert{Kind: KindReceive, Key: KindReceive + ":" + a.Store + ":" + a.Snapshot + ":" + a.Location, Args: a})
			if err != nil {
				return err
			}
			return m.fact(ctx, tx, FactCopied, a.Store, map[string]any{"snapshot": a.Snapshot, "location": a.Location, "from": name, "lines": lines})
		})
	}
	return fmt.Errorf("copy %s of %q to %q: %w", a.Snapshot, a.Store, a.Location, errors.Join(reasons...))
}

func (m *Module) replicate(ctx context.Context, a copyArgs, from string, to *repo.Repository) error {
	src, err := m.cfg.Place(ctx, from)
	if err != nil {
		return err
	}
	man, err := src.Manifest(ctx, a.Store, a.Snapshot)
	if err != nil {
		return err
	}
	if err := src.Check(ctx, man); err != nil {
		return err
	}
	return to.Replicate(ctx, src, man)
}

// receive is the vault's act: it looks at what is really there and countersigns
// it with its own time. It needs no data key.
//
// A crash after the receipt is put and before the transaction: the receipt is
// write-once, so the second run finds the first one and keeps its time.
func (m *Module) receive(ctx context.Context, w *job.Work) error {
	var a copyArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	r, err := m.cfg.Place(ctx, a.Location)
	if err != nil {
		return fmt.Errorf("location %q: %w", a.Location, err)
	}
	man, err := r.Manifest(ctx, a.Store, a.Snapshot)
	if err != nil {
		return err
	}
	if err := man.Verify(m.cfg.Writer(a.Store)); err != nil {
		return job.Permanent(fmt.Errorf("snapshot %s at %q: %w", a.Snapshot, a.Location, err))
	}
	if err := r.Check(ctx, man); err != nil {
		return fmt.Errorf("snapshot %s at %q: %w", a.Snapshot, a.Location, err)
	}
	rc := repo.Receipt{Scope: a.Store, Snapshot: a.Snapshot, Manifest: man.Hash(), Place: a.Location, Received: m.cfg.Clock().UTC(), Vault: m.cfg.Vault.Name()}
	if err := r.PutReceipt(ctx, rc, m.cfg.Vault); errors.Is(err, repo.ErrConflict) {
		old, err := m.receipt(ctx, r, a)
		if err != nil {
			return err
		}
		if verr := old.Verify(m.cfg.Vault.Public()); verr != nil || old.Manifest != man.Hash() {
			// Written once, it cannot be replaced: the copy stays without a receipt.
			return job.Permanent(holdfast.WithHint(fmt.Errorf("a receipt of %s at %q is not ours, or is of other content: %w", a.Snapshot, a.Location, errors.Join(verr, repo.ErrUntrusted)),
				"find out who can write there; the next backup of %q gets a receipt of its own", a.Store))
		}
		rc = old
	} else if err != nil {
		return err
	}
	return w.Done(ctx, nil, func(tx *db.Tx) error {
		if err := m.setCopy(ctx, tx, a, "complete", ""); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE backup_copies SET received = ? WHERE store = ? AND snapshot = ? AND location = ?`,
			db.Micros(rc.Received), a.Store, a.Snapshot, a.Location); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactReceipt, a.Store, map[string]any{
			"snapshot": a.Snapshot, "location": a.Location, "manifest": rc.Manifest, "received": rc.Received, "packs": len(man.Packs), "line": m.line(a.Location),
		})
	})
}

func (m *Module) receipt(ctx context.Context, r *repo.Repository, a copyArgs) (repo.Receipt, error) {
	rs, err := r.Receipts(ctx, a.Store) // one that cannot be read does not hide the others
	for _, rc := range rs {
		if rc.Snapshot == a.Snapshot {
			return rc, nil
		}
	}
	return repo.Receipt{}, errors.Join(fmt.Errorf("receipt of %s at %q cannot be read", a.Snapshot, a.Location), err)
}

// fact appends one fact about a store.
func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, store string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "stores." + store, Actor: "holdfast", At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// progressTo passes progress on to the job, at most twice a second: the
// database is not a progress bar.
func progressTo(ctx context.Context, w *job.Work, log *slog.Logger) func(holdfast.Progress) {
	var mu sync.Mutex
	var last time.Time
	return func(p holdfast.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) < 500*time.Millisecond {
			return
		} else {
			last = now
		}
		if err := w.Progress(ctx, p); err != nil {
			log.Debug("progress not recorded", "err", err)
		}
	}
}
