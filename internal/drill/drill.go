// Package drill proves that backups restore.
//
// A drill chooses a location and an instant, restores one store there into a
// sandbox, starts the real engine, asks it questions and measures how long that
// took. It climbs the ladder of proof (holdfast.Rung) and names the rung that it
// reached. Package ledger keeps the result.
//
// # What a drill does not prove
//
// A sandbox is not production: what a drill measures runs from the decision to
// the verified copy. Detection, decision and hand over are not in it, and it is
// never called a recovery time without them.
//
// # Invariants
//
//   - A drill only reads the repository, and cannot reach production.
//   - What is drilled is chosen and written down before anything is restored, so
//     that a drill that went badly cannot be drawn again until it goes well.
//   - A drill that did not finish is recorded as failed, never omitted.
//   - A rung without a passed check stops the climb: it is not proven.
//   - A drill leaves nothing behind; that is itself a check.
package drill

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "drill", Migrations: sub}
}

// KindRun is the job that carries one drill out; KindScheduled the one that a
// schedule starts, which plans a drill of each of its stores.
const (
	KindRun       = "drill.run"
	KindScheduled = "drill.scheduled"
)

// States of a drill.
const (
	StatePlanned = "planned"
	StateRunning = "running"
	StatePassed  = "passed"
	StateShort   = "short" // nothing failed, but something below the goal could not be proven
	StateFailed  = "failed"
)

// Ended reports whether the drill is over, well or badly.
func (d Drill) Ended() bool {
	return d.State == StatePassed || d.State == StateShort || d.State == StateFailed
}

// A Drill is one rehearsal of one store, planned or done.
type Drill struct {
	ID         string           `json:"id"`
	Name       string           `json:"name,omitempty"`
	Store      string           `json:"store"`
	Kind       string           `json:"kind"`
	State      string           `json:"state"`
	Reason     string           `json:"reason"`
	By         string           `json:"by"`
	Goal       holdfast.Rung    `json:"goal"`
	Pick       string           `json:"pick"` // random, latest, oldest, chosen
	Seed       uint64           `json:"seed,string"`
	Aim        *Aim             `json:"aim,omitempty"`  // of a random draw
	Cell       *Cell            `json:"cell,omitempty"` // location, kind and age; nil where the instant is not known before
	Location   string           `json:"location"`
	Line       location.Line    `json:"line"` // how the location was reached, as both ends agreed
	Target     holdfast.Target  `json:"target"`
	Planned    time.Time        `json:"planned"`
	Started    time.Time        `json:"started,omitzero"`
	Finished   time.Time        `json:"finished,omitzero"`
	Rung       holdfast.Rung    `json:"rung"`
	Checks     []holdfast.Check `json:"checks"`
	Report     source.Report    `json:"report"`
	Parts      holdfast.Parts   `json:"parts"`
	Verdicts   []Verdict        `json:"verdicts,omitempty"` // against the promises of the plan that was in force
	Unread     float64          `json:"unread_fraction"`    // of the store's bytes at the location, not read back within ReadWithin
	ReadWithin time.Duration    `json:"read_within_ns"`
	Isolation  []string         `json:"isolation"`
	Answers    map[string]any   `json:"answers,omitempty"` // of the invariants
	Error      string           `json:"error,omitempty"`
	Attempt    int              `json:"attempt"`
	Slot       int64            `json:"slot_job,omitempty"` // the scheduled job that asked for it
	Fact       int64            `json:"fact"`
}

// Awaits reports whether the machine's part of rung L6 holds and only the
// owner's word is missing.
func (d Drill) Awaits() bool {
	for _, c := range d.Checks {
		if c.Rung == holdfast.L6 && c.Name != ownerConfirms && c.Outcome != holdfast.Passed {
			return false
		}
	}
	return !d.failedCheck() && d.Error == "" && d.Goal == holdfast.L6 && d.Rung == holdfast.L5 && d.has(holdfast.L6, ownerConfirms, holdfast.NotProven)
}

func (d Drill) failedCheck() bool {
	for _, c := range d.Checks {
		if c.Outcome == holdfast.Failed {
			return true
		}
	}
	return false
}

func (d Drill) has(r holdfast.Rung, name string, o holdfast.Outcome) bool {
	for _, c := range d.Checks {
		if c.Rung == r && c.Name == name && c.Outcome == o {
			return true
		}
	}
	return false
}

const ownerConfirms = "owner confirms"

// A Box is where a drill happens.
type Box interface {
	source.Runner
	Dir() string
	Isolation() []string
	Own(path string) error
	Close() error
}

// An Invariant is a question to the restored store and what its answer must be.
type Invariant struct {
	Name     string
	Question string
	// Holds judges the answer. An error means that it could not be judged,
	// which is not proven, and not passed.
	Holds func(value any, target time.Time) (bool, error)
}

// A Subject is a store as a drill sees it.
type Subject struct {
	Kind       string
	Owner      string
	Locations  []string
	Restorer   source.Restorer
	Invariants []Invariant
	Promise    holdfast.Objective
	// Foreign is how a supplier restores it; nil where we protect it ourselves.
	Foreign *Foreign
	// FreshFor is how old the newest receipt at a location may be: older fails L0. Nil or
	// 0: no promise.
	FreshFor func(location string) time.Duration
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Config is what the package stands on.
type Config struct {
	DB      *db.DB
	Jobs    *job.Engine
	Ledger  Ledger
	Subject func(store string) (Subject, error)
	Place   func(ctx context.Context, location string) (*repo.Repository, error)
	// Line says how a location was last reached. Nil says nothing.
	Line func(location string) location.Line
	// Identities opens the runner's read keys; every use is recorded with the purpose.
	Identities func(ctx context.Context, purpose string) ([]seal.Identity, error)
	Trusted    func() []seal.VerifyKey // who may sign manifests
	Vault      func() []seal.VerifyKey // who may sign receipts; nil: Trusted
	Box        func(ctx context.Context) (Box, error)
	// Outside makes the sandbox of an adapter: with the network. Nil: no supplier is tried.
	Outside func(ctx context.Context) (Box, error)
	// Failed is called in the transaction that records a failed drill, Passed in
	// the one that records a passed one. Passed may be nil.
	Failed func(ctx context.Context, tx *db.Tx, d Drill) error
	Passed func(ctx context.Context, tx *db.Tx, d Drill) error
	// Names returns the stores, goal and pick of a drill of the plan in force.
	Declared func(name string) (Declared, error)
	// Period is the one in which an instant lies, without its end: in each, random draws
	// go to what was not drilled yet. nil: every draw is over all that is on offer.
	Period     func(at time.Time) (from, to time.Time)
	ReadWithin time.Duration // rung L2: every byte is read back within this time
	ReadBudget int64         // bytes that one drill reads back for L2 at most; the newest unread snapshot it reads whatever its size
	Clock      func() time.Time
}

// Declared is a drill of the plan.
type Declared struct {
	Stores []string
	Goal   holdfast.Rung
	Pick   string
	From   string // the only location that it may restore from; empty is any
}

// A Module runs drills.
type Module struct{ cfg Config }

// drillAttempts bounds how often a drill is begun: again after the process that
// ran it died or was stopped. A drill that merely fails is not repeated. The drill
// counts for itself, because the job engine does not count what was interrupted.
//
// jobAttempts is how often the outcome may fail to be written before the drill is
// left to Settle.
const (
	drillAttempts = 3
	jobAttempts   = 20
)

// New registers the job handlers.
func New(cfg Config) *Module {
	m := &Module{cfg}
	if cfg.Vault == nil {
		m.cfg.Vault = cfg.Trusted
	}
	cfg.Jobs.Handle(KindRun, m.run, job.HandlerOptions{Timeout: 24 * time.Hour, MaxAttempts: jobAttempts, Item: job.About(func(a runArgs) string { return "stores." + a.Store })})
	cfg.Jobs.Handle(KindScheduled, m.scheduled, job.HandlerOptions{Timeout: 48 * time.Hour, MaxAttempts: drillAttempts})
	return m
}

// A Request asks for a drill. Empty fields are drawn at random, or as Pick says.
type Request struct {
	Name     string
	Store    string
	By       string
	Reason   string
	Goal     holdfast.Rung
	Pick     string
	Location string
	Target   holdfast.Target
}

type runArgs struct {
	ID    string `json:"id"`
	Store string `json:"store"`
}

// Ran is the result of a KindRun: the job is done when the drill has ended, well or badly.
type Ran struct {
	Drill    string        `json:"drill"`
	State    string        `json:"state"`
	Location string        `json:"location"`
	Rung     holdfast.Rung `json:"rung"`
	Bytes    int64         `json:"bytes"`
	Snapshot string        `json:"snapshot"`
	Error    string        `json:"error,omitempty"`
}

// Short says why the drill did not pass.
func (r Ran) Short() string { return r.Error }

// ScheduledArgs are the arguments of KindScheduled.
type ScheduledArgs struct {
	Drill string `json:"drill"`
}

func (m *Module) scheduled(ctx context.Context, w *job.Work) error {
	var a ScheduledArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	d, err := m.cfg.Declared(a.Drill)
	if err != nil {
		return job.Permanent(err)
	}
	if err := m.Settle(ctx); err != nil {
		return err
	}
	ids, err := m.slotDrills(ctx, w, a.Drill, d)
	if err != nil {
		return err
	}
	// The slot is done when its drills are, not when they were planned.
	var failed []string
	for _, id := range ids {
		got, err := m.await(ctx, id)
		if err != nil {
			return err
		}
		if got.State == StateFailed {
			failed = append(failed, fmt.Sprintf("drill %s of %s failed", id, got.Store))
		}
	}
	if len(failed) > 0 {
		return job.Permanent(errors.New(strings.Join(failed, "; ")))
	}
	return nil
}

// slotDrills plans the drills of a slot, once: after a crash it finds them.
//
// A store of which nothing can be drilled, because no location is within reach or
// none holds a backup, does not keep the others from being drilled. When asking
// again did not help, its drill is on record as failed.
func (m *Module) slotDrills(ctx context.Context, w *job.Work, name string, d Declared) ([]string, error) {
	ids, err := m.ofSlot(ctx, name, w.Job().ID)
	if err != nil || len(ids) > 0 {
		return ids, err
	}
	var picked []Drill
	for _, s := range d.Stores {
		req := Request{Name: name, Store: s, By: "schedule", Reason: "scheduled by the plan", Goal: d.Goal, Pick: d.Pick}
		p, err := m.choose(ctx, req, picked...)
		if err != nil {
			if w.Job().Attempt < w.Job().MaxAttempts {
				return nil, err
			}
			p = m.blank(req, Subject{})
			p.State, p.Error, p.Finished = StateFailed, bounded(holdfast.Tell(err).Error()), p.Planned
		}
		p.Slot = w.Job().ID
		picked = append(picked, p)
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		ids = nil
		for _, p := range picked {
			ids = append(ids, p.ID)
			if _, err := m.plan(ctx, tx, p); err != nil {
				return err
			}
			if p.State == StateFailed {
				if err := m.end(ctx, tx, p); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return ids, err
}

// ofSlot lists the drills that a scheduled job has planned.
func (m *Module) ofSlot(ctx context.Context, name string, slot int64) (ids []string, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ds, err := m.query(ctx, tx, `WHERE name = ? ORDER BY planned DESC, id DESC LIMIT ?`, name, MaxDrills)
		for _, d := range ds {
			if d.Slot == slot {
				ids = append(ids, d.ID)
			}
		}
		return err
	})
	return ids, err
}

// awaitEvery is how often a slot looks whether its drills have ended.
const awaitEvery = time.Second

func (m *Module) await(ctx context.Context, id string) (Drill, error) {
	for {
		d, err := m.Get(ctx, id)
		if err != nil || d.Ended() {
			return d, err
		}
		if err := m.settle(ctx, d); err != nil {
			return d, err
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(awaitEvery):
		}
	}
}

// Settle records the drills that nobody carries out any more, because their jobs
// were cancelled or given up, as failed. Call it when the server starts; drills
// that are asked for and scheduled call it too.
func (m *Module) Settle(ctx context.Context) error {
	var open []Drill
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) (err error) {
		open, err = m.query(ctx, tx, `WHERE state IN (?, ?) ORDER BY planned LIMIT ?`, StatePlanned, StateRunning, MaxDrills)
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range open {
		if err := m.settle(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// settle ends d as failed if its job has ended without it. A drill and its job
// end in one transaction, so a job that has ended leaves no drill that may.
func (m *Module) settle(ctx context.Context, d Drill) error {
	js, err := m.cfg.Jobs.List(ctx, job.Filter{Kind: KindRun, Key: KindRun + ":" + d.ID, Limit: 1})
	if err != nil || len(js) > 0 && !js[0].State.Finished() {
		return err
	}
	why := "gone"
	if len(js) > 0 {
		why = fmt.Sprintf("%s: %s", js[0].State, js[0].Error)
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		d, err := m.get(ctx, tx, d.ID)
		if err != nil || d.Ended() {
			return err
		}
		d.State, d.Finished = StateFailed, m.cfg.Clock().UTC()
		d.Error = bounded("nobody carries it out any more: its job is " + why)
		return m.end(ctx, tx, d)
	})
}

// end writes down how a drill ended. d says whether it passed.
func (m *Module) end(ctx context.Context, tx *db.Tx, d Drill) (err error) {
	if d.Fact, err = m.fact(ctx, tx, "drill."+d.State, "holdfast", d); err != nil {
		return err
	}
	switch {
	case d.State == StateFailed:
		err = m.cfg.Failed(ctx, tx, d)
	case d.State == StatePassed && m.cfg.Passed != nil:
		err = m.cfg.Passed(ctx, tx, d)
	}
	if err != nil {
		return err
	}
	return m.save(ctx, tx, d)
}

// Start chooses what is drilled, writes it down and enqueues it.
func (m *Module) Start(ctx context.Context, req Request) (d Drill, jobID int64, err error) {
	if err := m.Settle(ctx); err != nil {
		return d, 0, err
	}
	if d, err = m.choose(ctx, req); err != nil {
		return d, 0, err
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		jobID, err = m.plan(ctx, tx, d)
		return err
	})
	return d, jobID, err
}

// choose draws location and instant from a recorded seed. The draw is over the
// locations within reach; one that is out of reach is the business of another
// alarm, and the drill says where it went.
//
// A random draw goes to a cell of location, kind and age that no drill of the period went
// to yet, as long as there is one on offer. beside are drills that are being chosen with
// it, and not written down yet.
func (m *Module) choose(ctx context.Context, req Request, beside ...Drill) (Drill, error) {
	if req.Goal < holdfast.L0 || req.Goal > holdfast.L8 {
		return Drill{}, holdfast.WithHint(fmt.Errorf("a drill cannot climb to rung %d: %w", int(req.Goal), holdfast.ErrUsage), "the rungs are 0 to 8")
	}
	sub, err := m.cfg.Subject(req.Store)
	if err != nil {
		return Drill{}, err
	}
	d := m.blank(req, sub)
	if req.Location == "" && req.Name != "" { // within what the plan allows, the draw is as random as ever
		declared, err := m.cfg.Declared(req.Name)
		if err != nil {
			return Drill{}, err
		}
		req.Location = declared.From
	}
	offers, err := m.offers(ctx, sub, req)
	if err != nil {
		return Drill{}, err
	}
	r := mathrand.New(mathrand.NewPCG(d.Seed, 0))
	if sub.Foreign != nil {
		d.Goal = min(d.Goal, holdfast.L0) // what a supplier keeps cannot be looked into
		d = draw(d, offers, r)
		d.Cell = nil // the cells are of our own locations
		return d, nil
	}
	if d.Pick == "random" && m.cfg.Period != nil {
		d.Aim = &Aim{}
		d.Aim.From, d.Aim.To = m.cfg.Period(d.Planned)
		ds, err := m.InPeriod(ctx, d.Aim.From, d.Aim.To)
		if err != nil {
			return Drill{}, err
		}
		offers, d.Aim.Open = aim(d.Kind, offers, reached(append(ds, beside...)), d.Planned, r)
	}
	return draw(d, offers, r), nil
}

// reached are the cells to which drills went, or are on their way.
func reached(ds []Drill) map[Cell]bool {
	out := map[Cell]bool{}
	for _, d := range ds {
		if d.Cell != nil && d.Goal >= holdfast.L3 {
			out[*d.Cell] = true
		}
	}
	return out
}

// blank is a drill of which nothing is drawn yet.
func (m *Module) blank(req Request, sub Subject) Drill {
	now := m.cfg.Clock().UTC()
	d := Drill{ID: newID(now), Name: req.Name, Store: req.Store, Kind: sub.Kind, State: StatePlanned, Reason: req.Reason, By: req.By, Goal: req.Goal,
		Pick: req.Pick, Seed: newSeed(), Target: req.Target, Location: req.Location, Planned: now, Rung: holdfast.RungNone, ReadWithin: m.cfg.ReadWithin, Fact: -1}
	if d.Pick == "" {
		d.Pick = "random"
	}
	if d.Target.Kind != "" || d.Location != "" && d.Pick == "random" {
		d.Pick = "chosen" // a person's choice is no sample
	}
	return d
}

// draw fills in what the request left open.
func draw(d Drill, offers []holdfast.Window, r *mathrand.Rand) Drill {
	var w holdfast.Window
	switch d.Pick {
	case "latest":
		for _, o := range offers {
			if w.To.IsZero() || o.To.After(w.To) {
				w = o
			}
		}
		d.Target = holdfast.Target{Kind: holdfast.TargetLatest}
	case "oldest":
		for _, o := range offers {
			if w.To.IsZero() || o.From.Before(w.From) {
				w = o
			}
		}
		d.Target = holdfast.Target{Kind: holdfast.TargetTime, Time: w.From}
	default:
		if d.Target.Kind == holdfast.TargetTime {
			var fit []holdfast.Window
			for _, o := range offers {
				if !d.Target.Time.Before(o.From) && !d.Target.Time.After(o.To) {
					fit = append(fit, o)
				}
			}
			if len(fit) > 0 { // else the restore refuses with the reason
				offers = fit
			}
		}
		w = offers[r.IntN(len(offers))]
		if d.Target.Kind == "" {
			d.Target = holdfast.Target{Kind: holdfast.TargetTime, Time: w.From}
			if span := w.To.Sub(w.From); span > 0 {
				// Engines know microseconds; before the window's beginning there is nothing.
				d.Target.Time = w.From.Add(time.Duration(r.Int64N(int64(span) + 1))).Truncate(time.Microsecond)
				if d.Target.Time.Before(w.From) {
					d.Target.Time = w.From
				}
			}
		}
	}
	d.Location = w.Location
	d.Cell = d.cell(w)
	return d
}

// offers lists the windows from which a drill may be drawn.
func (m *Module) offers(ctx context.Context, sub Subject, req Request) ([]holdfast.Window, error) {
	if sub.Foreign != nil {
		return m.foreignOffers(ctx, sub, req)
	}
	var out []holdfast.Window
	var away []error
	for _, l := range sub.Locations {
		if req.Location != "" && req.Location != l {
			continue
		}
		r, err := m.cfg.Place(ctx, l)
		if err != nil {
			away = append(away, fmt.Errorf("location %q: %w", l, err))
			continue
		}
		ws, err := sub.Restorer.Windows(ctx, r)
		if err != nil {
			away = append(away, fmt.Errorf("location %q: %w", l, err)) // the others do not suffer for it
			continue
		}
		for _, w := range ws {
			w.Location = l
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		err := fmt.Errorf("store %q has nothing to drill", req.Store)
		if len(away) > 0 {
			err = fmt.Errorf("%w: %w", err, errors.Join(away...))
		}
		return nil, holdfast.WithHint(err, "\"holdfast backup %s\" makes a first backup", req.Store)
	}
	return out, nil
}

// plan writes a drill down before anything of it happens.
func (m *Module) plan(ctx context.Context, tx *db.Tx, d Drill) (int64, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO drill_drills (id, name, store, state, planned, started, finished, rung, result, fact) VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?, -1)`,
		d.ID, d.Name, d.Store, d.State, db.Micros(d.Planned), int64(d.Rung), string(b)); err != nil {
		return 0, err
	}
	if _, err := m.fact(ctx, tx, "drill.planned", "holdfast", d); err != nil {
		return 0, err
	}
	if d.Ended() {
		return 0, nil
	}
	return m.cfg.Jobs.Enqueue(ctx, tx, job.Insert{Kind: KindRun, Key: KindRun + ":" + d.ID, Args: runArgs{d.ID, d.Store}, Queue: "drill"})
}

// Confirm records that the owner of the store looked at a drill and confirms it.
// It is an attestation, not a measurement, and graded so.
func (m *Module) Confirm(ctx context.Context, tx *db.Tx, id, person, note string) (Drill, error) {
	d, err := m.get(ctx, tx, id)
	if err != nil {
		return d, err
	}
	sub, err := m.cfg.Subject(d.Store)
	if err != nil {
		return d, err
	}
	if sub.Owner != "" && person != sub.Owner {
		return d, holdfast.WithHint(fmt.Errorf("drill %s: %q is not the owner of %q: %w", id, person, d.Store, holdfast.ErrRefused), "the plan says that %q owns it", sub.Owner)
	}
	if !d.Awaits() {
		return d, fmt.Errorf("drill %s reached %s and awaits no confirmation: %w", id, d.Rung, holdfast.ErrRefused)
	}
	for i, c := range d.Checks {
		if c.Rung == holdfast.L6 && c.Name == ownerConfirms {
			d.Checks[i].Outcome, d.Checks[i].Detail = holdfast.Passed, bounded(person+": "+note)
		}
	}
	d.Rung = min(d.Goal, holdfast.HighestRung(d.Checks))
	if _, err := m.fact(ctx, tx, "drill.confirmed", person, d); err != nil {
		return d, err
	}
	return d, m.save(ctx, tx, d)
}

// fact appends what is known of a drill.
func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, actor string, d Drill) (int64, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return 0, err
	}
	return m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "stores." + d.Store, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
}

// maxDetail bounds one text of a drill, in bytes: what is found must not grow so
// large that it cannot be recorded.
const maxDetail = 4 << 10

func bounded(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	return strings.ToValidUTF8(s[:maxDetail], "") + " …"
}

func newSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return binary.BigEndian.Uint64(b[:])
}

func newID(now time.Time) string {
	var b [3]byte
	rand.Read(b[:])
	return now.Format("20060102-150405-") + hex.EncodeToString(b[:])
}
