// Package incident answers what happens: it turns signals into incidents and
// leads each one through five phases to its end.
//
// Detection, assessment, containment, recovery and review follow each other;
// every step forward has a guard that the machine checks, and the log of events
// is append-only. The same event is a fact in the ledger, written in the same
// transaction.
//
// # Invariants
//
//   - A signal that is still firing belongs to at most one open incident, and
//     never opens a second one. One that ended and comes back does not join an
//     incident that is in review: that one was over.
//   - The times of an incident are ordered: occurred, detected, acknowledged,
//     assessed, contained, recovered, closed.
//   - An incident about a store cannot leave recovery before the store is back
//     and its backups run again: a recovered system without a backup is the next
//     incident.
//
// What it does not do: it does not page (package oncall), does not publish
// (package statuspage) and does not carry recoveries out (package recovery).
package incident

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "incident", Migrations: sub}
}

// A Phase is a stage of an incident.
type Phase string

// The phases, and the end.
const (
	Detection   Phase = "detection"
	Assessment  Phase = "assessment"
	Containment Phase = "containment"
	Recovery    Phase = "recovery"
	Review      Phase = "review"
	Closed      Phase = "closed"
)

// Phases in their order.
var Phases = []Phase{Detection, Assessment, Containment, Recovery, Review, Closed}

// A Severity says how loudly people are called. SEV1 is the worst.
type Severity string

// The severities of the default scheme.
const (
	SEV1 Severity = "SEV1"
	SEV2 Severity = "SEV2"
	SEV3 Severity = "SEV3"
	SEV4 Severity = "SEV4"
)

// An Incident is what people and machines answer together.
type Incident struct {
	ID             int64     `json:"id"`
	Title          string    `json:"title"`
	Kind           string    `json:"kind"`
	Services       []string  `json:"services"`
	Stores         []string  `json:"stores"`
	Severity       Severity  `json:"severity"`
	Phase          Phase     `json:"phase"`
	Commander      string    `json:"commander"`
	DeclaredBy     string    `json:"declared_by"`
	OccurredAt     time.Time `json:"occurred_at"`
	DetectedAt     time.Time `json:"detected_at"`
	AcknowledgedAt time.Time `json:"acknowledged_at,omitzero"`
	AssessedAt     time.Time `json:"assessed_at,omitzero"`
	ContainedAt    time.Time `json:"contained_at,omitzero"`
	RecoveredAt    time.Time `json:"recovered_at,omitzero"`
	ClosedAt       time.Time `json:"closed_at,omitzero"`
	Activation     string    `json:"activation,omitempty"`
	Recovery       string    `json:"recovery,omitempty"`
	Outcome        string    `json:"outcome,omitempty"`
}

// Name is how people call the incident.
func (i Incident) Name() string { return fmt.Sprintf("INC-%d", i.ID) }

// Open reports whether the incident has not ended.
func (i Incident) Open() bool { return i.Phase != Closed }

// An Event is one line of an incident's log. A correction is a new event.
type Event struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"`
	Type    string          `json:"type"` // opened, signal, phase, role, note, plan, recovery
	Text    string          `json:"text"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// A Signal is something that was noticed.
type Signal struct {
	Source string // probe, backup, drill, human, …
	Dedup  string // the same thing noticed again has the same key
	Store  string // "" if it is about no store
	Title  string // what an incident that it opens is called
	Kind   string // of that incident: availability, recovery-drill, backup, …
	// Severity is that of an incident that it opens, where it is about no store; "": as
	// Impact says.
	Severity Severity
	Began    time.Time // earliest instant at which it can have begun
	At       time.Time
	Detail   string
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Impact says, from the plan in force, what a store means.
type Impact struct {
	Services  []string // that depend on it, hard edges
	Severity  Severity
	Commander string
}

// Config is what the package stands on.
type Config struct {
	DB     *db.DB
	Ledger Ledger
	// Impact judges the loss of a store by the plan in force.
	Impact func(store string) Impact
	// Usable says whether a store is back and protected again since the given
	// instant; if not, why not. It guards the end of recovery.
	Usable func(ctx context.Context, store string, since time.Time) (ok bool, why string, err error)
	// Opened is called in the transaction that opens an incident.
	Opened func(ctx context.Context, tx *db.Tx, i Incident) error
	Clock  func() time.Time
}

// A Module keeps the incidents.
type Module struct{ cfg Config }

// New returns the module.
func New(cfg Config) *Module { return &Module{cfg} }

// ErrGuard is a step that the state of the incident does not allow yet.
var ErrGuard = fmt.Errorf("%w", holdfast.ErrRefused)

// Signal takes a signal in. It joins the open incident that covers it, or opens
// one. The caller's transaction carries both.
func (m *Module) Signal(ctx context.Context, tx *db.Tx, s Signal) (Incident, error) {
	if s.Dedup == "" {
		return Incident{}, fmt.Errorf("a signal of %q has no key that tells it from others: %w", s.Source, holdfast.ErrUsage)
	}
	if s.At.IsZero() {
		s.At = m.cfg.Clock()
	}
	old, firing, err := m.signal(ctx, tx, s.Dedup)
	if err != nil {
		return Incident{}, err
	}
	inc, err := m.cover(ctx, tx, old, firing, s)
	if err != nil {
		return Incident{}, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO incident_signals (dedup, source, store, first_seen, last_seen, count, state, incident) VALUES (?, ?, ?, ?, ?, 1, 'open', ?)
		ON CONFLICT (dedup) DO UPDATE SET last_seen = excluded.last_seen, count = incident_signals.count + 1, state = 'open', incident = excluded.incident`,
		s.Dedup, s.Source, s.Store, db.Micros(s.At), db.Micros(s.At), inc.ID); err != nil {
		return Incident{}, err
	}
	return inc, nil
}

// told is a signal in one line, for people.
func (s Signal) told() string {
	if s.Detail == "" {
		return s.Title
	}
	return s.Title + ": " + s.Detail
}

// cover finds or opens the incident that a signal belongs to. old is the incident
// that it last belonged to, and firing whether it had not ended since.
func (m *Module) cover(ctx context.Context, tx *db.Tx, old int64, firing bool, s Signal) (Incident, error) {
	if old != 0 {
		inc, err := m.get(ctx, tx, old)
		switch {
		case err != nil:
			return inc, err
		case inc.Open() && firing && inc.Phase != Review:
			return inc, nil // the same thing, still being answered
		case inc.Open() && (firing || inc.Phase != Review):
			// The log said that it was over. The reason may be another one than before.
			again := s
			again.Title += " again"
			return inc, m.event(ctx, tx, inc, s.At, "holdfast", "signal", again.told(), s)
		}
	}
	impact := m.cfg.Impact(s.Store)
	open, err := m.list(ctx, tx, true)
	if err != nil {
		return Incident{}, err
	}
	for _, inc := range open {
		if inc.Phase == Review || apart(inc.Kind, s.Kind) || !overlap(inc, s.Store, impact.Services) {
			continue
		}
		if s.Store != "" && !slices.Contains(inc.Stores, s.Store) {
			inc.Stores = append(inc.Stores, s.Store)
		}
		for _, svc := range impact.Services {
			if !slices.Contains(inc.Services, svc) {
				inc.Services = append(inc.Services, svc)
			}
		}
		if impact.Severity != "" && impact.Severity < inc.Severity {
			inc.Severity = impact.Severity // SEV1 sorts before SEV2: worse wins
		}
		if !s.Began.IsZero() && s.Began.Before(inc.OccurredAt) {
			inc.OccurredAt = s.Began // a later instant would flatter the recovery time
		}
		if err := m.save(ctx, tx, inc); err != nil {
			return Incident{}, err
		}
		return inc, m.event(ctx, tx, inc, s.At, "holdfast", "signal", s.told(), s)
	}
	inc := Incident{
		Title: s.Title, Kind: s.Kind, Services: impact.Services, Severity: impact.Severity, Phase: Detection,
		Commander: impact.Commander, DeclaredBy: "holdfast (" + s.Source + ")", OccurredAt: s.Began, DetectedAt: s.At,
	}
	if s.Store != "" {
		inc.Stores = []string{s.Store}
	} else if s.Severity != "" {
		inc.Severity = s.Severity
	}
	if inc.OccurredAt.IsZero() || inc.OccurredAt.After(inc.DetectedAt) {
		inc.OccurredAt = inc.DetectedAt
	}
	if inc.ID, err = m.insert(ctx, tx, inc); err != nil {
		return Incident{}, err
	}
	if err := m.event(ctx, tx, inc, s.At, "holdfast", "opened", s.told(), inc); err != nil {
		return Incident{}, err
	}
	if err := m.cfg.Opened(ctx, tx, inc); err != nil {
		return Incident{}, err
	}
	return m.get(ctx, tx, inc.ID) // Opened may have moved it
}

// Kinds of incidents about copies. Each is answered in its own way, and not with what
// is done about the store itself, so they never join another kind.
const (
	KindBackupFailed = "backup-failed"   // a run failed
	KindBackupMissed = "backup-missed"   // a run that was due did not happen
	KindBackupStale  = "backup-stale"    // what runs brings nothing newer
	KindLogGap       = "log-gap"         // log is missing or damaged at a location
	KindDemoted      = "not-synchronous" // commits are acknowledged before their log is here, and the plan says otherwise
	KindKeyOverdue   = "key-overdue"     // a holder did not show in time that a key still opens
)

func apart(a, b string) bool {
	own := func(kind string) bool {
		return kind == KindBackupFailed || kind == KindBackupMissed || kind == KindBackupStale || kind == KindLogGap || kind == KindDemoted || kind == KindKeyOverdue
	}
	return a != b && (own(a) || own(b))
}

func overlap(inc Incident, store string, services []string) bool {
	if store != "" && slices.Contains(inc.Stores, store) {
		return true
	}
	return slices.ContainsFunc(services, func(s string) bool { return slices.Contains(inc.Services, s) })
}

// Clear marks a signal as no longer firing. It never ends an incident by itself:
// people and the guards do.
func (m *Module) Clear(ctx context.Context, tx *db.Tx, dedup, text string, at time.Time) error {
	id, firing, err := m.signal(ctx, tx, dedup)
	if err != nil || !firing {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE incident_signals SET state = 'cleared', last_seen = ? WHERE dedup = ?`, db.Micros(at), dedup); err != nil {
		return err
	}
	inc, err := m.get(ctx, tx, id)
	if err != nil || !inc.Open() {
		return err
	}
	return m.event(ctx, tx, inc, at, "holdfast", "signal", text, nil)
}

// A Move asks for a step to another phase.
type Move struct {
	To         Phase
	Actor      string
	Reason     string
	Activation string // who activated the plan and why; required to enter containment
	Recovery   string // the recovery that is carried out; required to enter recovery
	Outcome    string // what was learned and what will be done; required to close
	// Early says why the incident ends without the phases between: a false alarm,
	// or a duplicate of another. Only with To Closed, before recovery, and only
	// when nothing of the incident fires any more.
	Early string
}

// Advance moves an incident to another phase. Going forward over several phases
// meets every guard on the way, and moves over all or none. An ErrGuard says what
// is missing; then nothing was written.
func (m *Module) Advance(ctx context.Context, tx *db.Tx, id int64, mv Move) (Incident, error) {
	inc, err := m.get(ctx, tx, id)
	if err != nil {
		return Incident{}, err
	}
	from, to := slices.Index(Phases, inc.Phase), slices.Index(Phases, mv.To)
	switch {
	case to < 0:
		return inc, holdfast.WithHint(fmt.Errorf("phase %q does not exist: %w", mv.To, holdfast.ErrUsage), "the phases are %s", joinPhases())
	case !inc.Open():
		return inc, fmt.Errorf("%s is closed: %w", inc.Name(), ErrGuard)
	case to == from:
		return inc, nil
	case to < from && !(mv.To == Assessment && (inc.Phase == Containment || inc.Phase == Recovery)):
		return inc, fmt.Errorf("%s cannot go back from %s to %s: %w", inc.Name(), inc.Phase, mv.To, ErrGuard)
	case to < from:
		// What was reached is not reached any more; the log keeps when it was.
		inc.Phase, inc.AssessedAt, inc.ContainedAt = mv.To, time.Time{}, time.Time{}
		return inc, m.moved(ctx, tx, inc, mv)
	case mv.Early != "":
		return m.endEarly(ctx, tx, inc, mv)
	}
	passed := []Incident{inc}
	for _, next := range Phases[from+1 : to+1] {
		if err := m.enter(ctx, &inc, next, mv); err != nil {
			return passed[0], err
		}
		passed = append(passed, inc)
	}
	for _, inc := range passed[1:] {
		if err := m.moved(ctx, tx, inc, mv); err != nil {
			return passed[0], err
		}
	}
	return inc, nil
}

// endEarly closes an incident that was none.
func (m *Module) endEarly(ctx context.Context, tx *db.Tx, inc Incident, mv Move) (Incident, error) {
	if mv.To != Closed || inc.Phase == Recovery || inc.Phase == Review {
		return inc, fmt.Errorf("%s cannot end early from %s to %s: %w", inc.Name(), inc.Phase, mv.To, ErrGuard)
	}
	firing, err := m.firing(ctx, tx, inc.ID)
	if err != nil {
		return inc, err
	}
	if len(firing) > 0 {
		return inc, holdfast.WithHint(fmt.Errorf("%s is no false alarm while %q fires: %w", inc.Name(), firing[0], ErrGuard),
			"when it has ended, or lead the incident through its phases")
	}
	inc.Phase, inc.Outcome, inc.ClosedAt = Closed, mv.Early, m.ordered(inc)
	mv.Reason = "ended early: " + mv.Early
	return inc, m.moved(ctx, tx, inc, mv)
}

// ordered is now, or the newest time of the incident if the clock was set back
// behind it.
func (m *Module) ordered(inc Incident) time.Time {
	now := m.cfg.Clock().UTC().Truncate(time.Microsecond) // as it is stored
	for _, t := range []time.Time{inc.DetectedAt, inc.AcknowledgedAt, inc.AssessedAt, inc.ContainedAt, inc.RecoveredAt} {
		if now.Before(t) {
			now = t
		}
	}
	return now
}

// enter checks the guard of a phase and sets its time. Times stay ordered even
// if the clock was set back meanwhile.
func (m *Module) enter(ctx context.Context, inc *Incident, next Phase, mv Move) error {
	now := m.ordered(*inc)
	switch next {
	case Assessment:
		inc.AcknowledgedAt = now
	case Containment:
		for _, s := range slices.Concat(inc.Stores, []string{""}) {
			// The plan may have named one since the incident was opened.
			if inc.Commander == "" {
				inc.Commander = m.cfg.Impact(s).Commander
			}
		}
		if inc.Commander == "" {
			return holdfast.WithHint(fmt.Errorf("%s has no commander: %w", inc.Name(), ErrGuard), "give the plan's role incident_commander a holder")
		}
		if mv.Activation == "" && inc.Activation == "" {
			return fmt.Errorf("%s: whether the plan is activated has not been decided: %w", inc.Name(), ErrGuard)
		}
		if mv.Activation != "" {
			inc.Activation = mv.Activation
		}
		inc.AssessedAt = now
	case Recovery:
		if mv.Recovery == "" {
			return fmt.Errorf("%s: no recovery approach has been chosen: %w", inc.Name(), ErrGuard)
		}
		inc.Recovery, inc.ContainedAt = mv.Recovery, now
	case Review:
		for _, s := range inc.Stores {
			ok, why, err := m.cfg.Usable(ctx, s, inc.ContainedAt)
			if err != nil {
				return err
			}
			if !ok {
				return holdfast.WithHint(fmt.Errorf("%s cannot leave recovery: store %q: %s: %w", inc.Name(), s, why, ErrGuard),
					"\"holdfast backup %s\" takes a backup now", s)
			}
		}
		inc.RecoveredAt = now
	case Closed:
		if strings.TrimSpace(mv.Outcome) == "" {
			return holdfast.WithHint(fmt.Errorf("%s has no review: %w", inc.Name(), ErrGuard), "say what was learned and who does what until when, or that nothing changes and why")
		}
		inc.Outcome, inc.ClosedAt = mv.Outcome, now
	}
	inc.Phase = next
	return nil
}

func (m *Module) moved(ctx context.Context, tx *db.Tx, inc Incident, mv Move) error {
	if err := m.save(ctx, tx, inc); err != nil {
		return err
	}
	text := "phase " + string(inc.Phase)
	if mv.Reason != "" {
		text += ": " + mv.Reason
	}
	return m.event(ctx, tx, inc, m.cfg.Clock(), mv.Actor, "phase", text, map[string]any{"phase": inc.Phase, "activation": inc.Activation, "recovery": inc.Recovery, "outcome": inc.Outcome})
}

// Note adds a line to the log.
func (m *Module) Note(ctx context.Context, tx *db.Tx, id int64, actor, typ, text string, payload any) error {
	inc, err := m.get(ctx, tx, id)
	if err != nil {
		return err
	}
	return m.event(ctx, tx, inc, m.cfg.Clock(), actor, typ, text, payload)
}

// event appends to the incident's log and to the ledger.
func (m *Module) event(ctx context.Context, tx *db.Tx, inc Incident, at time.Time, actor, typ, text string, payload any) error {
	b, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO incident_events (incident, seq, at, actor, type, text, payload)
		SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ?, ?, ? FROM incident_events WHERE incident = ?`,
		inc.ID, db.Micros(at), db.Text(actor), db.Text(typ), db.Text(text), string(b), inc.ID); err != nil {
		return err
	}
	data, err := json.Marshal(map[string]any{"incident": inc.ID, "phase": inc.Phase, "severity": inc.Severity, "text": db.Text(text), "payload": json.RawMessage(b)})
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: "incident." + typ, Subject: "incidents." + inc.Name(), Actor: actor, At: at.UTC(), Data: data})
	return err
}

// Get returns one incident.
func (m *Module) Get(ctx context.Context, id int64) (inc Incident, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		inc, err = m.get(ctx, tx, id)
		return err
	})
	return inc, err
}

// Look returns an incident and the keys of its signals that have not ended, in the
// caller's transaction.
func (m *Module) Look(ctx context.Context, tx *db.Tx, id int64) (inc Incident, firing []string, err error) {
	if inc, err = m.get(ctx, tx, id); err == nil {
		firing, err = m.firing(ctx, tx, id)
	}
	return inc, firing, err
}

// List returns incidents, newest first; with open, only those that have not ended.
func (m *Module) List(ctx context.Context, open bool) (out []Incident, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out, err = m.list(ctx, tx, open)
		return err
	})
	return out, err
}

// ErrNotFound is an incident that does not exist.
var ErrNotFound = errors.New("no such incident")

func joinPhases() string {
	s := make([]string, len(Phases))
	for i, p := range Phases {
		s[i] = string(p)
	}
	return strings.Join(s, ", ")
}
