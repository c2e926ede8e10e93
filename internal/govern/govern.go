// Package govern keeps what people owe: reviews, attestations, approvals, the
// treatment of risks, and the proof that is due after a change.
//
// A duty is written down before its time, from the plan's recurrences and from what
// happened: a store changed its version or tripled in size, its retention changed, a
// drill failed, an incident was opened. From then on it ends in one of three ways. It
// is done, by proof: the signatures of as many different people as it names, or a
// drill that passed afterwards. It is missed: the next one came due before. Or it is
// withdrawn: the plan does not ask for it any more. Each is a fact.
//
// It also keeps the register of risks, with those that the system itself sees; the
// exceptions that people ask for while the system runs; and which stores were declared
// live, which is refused while something is missing that every live store needs. And it
// computes the metrics of the plan at the end of each of their periods, and records them.
//
// # Invariants
//
//   - Nothing is done by being silent: a duty that nobody does turns due, then overdue,
//     by the clock alone.
//   - No verdict is stored. What is due, overdue or approved is computed from what was
//     written, and from the time and the plan of whoever asks.
//   - One person never counts twice, whatever roles they hold and under whatever name
//     their key signs.
//   - What approves (an objective, an exception) needs a key of the plan. What reports
//     (a review, an attestation) is taken on the word of a person who has no key there,
//     and the record says that it is unsigned.
//   - Settling twice at the same instant writes nothing the second time.
//
// What it does not do: it does not judge objectives (package objective), carry drills
// out (package drill) or send messages: that somebody is reminded is a fact, and package
// app has those facts told (package oncall).
package govern

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "govern", Migrations: sub}
}

// Fact types of this package.
const (
	FactExpected  = "duty.expected" // a duty was written down, ahead of its time
	FactChanged   = "duty.changed"  // an open duty is due earlier, or for one more reason
	FactReminded  = "duty.reminded" // its time is near: who owes it is asked
	FactOverdue   = "duty.overdue"  // its time and its grace are over
	FactSigned    = "duty.signed"   // one person did their part
	FactRefused   = "duty.refused"  // a word that does not count
	FactDone      = "duty.done"
	FactMissed    = "duty.missed"
	FactAllClear  = "duty.all-clear" // the machine itself saw that nothing of the period failed
	FactWithdrawn = "duty.withdrawn" // the plan does not ask for it any more
	FactEvent     = "change.seen"    // something changed that makes duties due
)

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Seen is what was observed of a store. A zero field was not looked at, or is nothing
// that this kind of store has.
type Seen struct {
	Version string // of the engine, as far as a change of it needs a new proof: "15"
	Schema  string // digest of the structure of the data
	Bytes   int64
}

// A Drilled is a drill that has ended.
type Drilled struct {
	ID     string
	Name   string // in the plan; "" for one that somebody asked for
	Store  string
	At     time.Time // when it ended
	Passed bool
	Why    string // it did not pass
}

// An Incident is one that was opened.
type Incident struct {
	Name      string
	Kind      string
	At        time.Time
	Stores    []string
	Services  []string
	Activated bool // a recovery was activated
}

// An Opened is an offline copy that its person has shown to open.
type Opened struct {
	Copy string
	Plan string // digest of the plan in it
	At   time.Time
}

// A Rests is one thing of the plan that rests on a person.
type Rests struct {
	Path string // "keys.recovery", "oncall.primary"
	What string
}

// Observed is what the running system knows at one look.
type Observed struct {
	Stores    map[string]Seen
	Drills    []Drilled              // in any order
	Incidents []Incident             // in any order
	Gaps      map[string]string      // services and stores that nothing protects whole, with why
	Findings  []holdfast.Finding     // of the plan in force, as the linter sees it now
	Copies    map[string][]Opened    // offline copies that their person has opened and still has, by person
	Left      map[string][]Rests     // what still rests on people who have left, by person
	Kept      map[string]string      // copies that stay past their maximum, in words, by store
	Failed    []FailedRun            // attempts of backups that were no good, of the last weeks, oldest first
	Good      map[string]time.Time   // when the newest good backup of a store ended
	Logins    map[string][]time.Time // of administrators with a second factor of their own, by person
}

// Config is what the package stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Ledger Ledger
	// Plan is the plan in force.
	Plan func() *plan.Plan
	// Observe looks at the running system. What it cannot look at is left out: an
	// absent observation changes nothing.
	Observe func(ctx context.Context) (Observed, error)
	// Results says what came of the work of a period.
	Results func(ctx context.Context, from, until time.Time) (Results, error)
	// Count counts what metrics are made of, in a period without its end.
	Count func(ctx context.Context, from, until time.Time) (Counted, error)
	Clock func() time.Time
}

// A Module keeps the duties. Make it with New.
type Module struct{ cfg Config }

// New returns the module.
func New(cfg Config) *Module { return &Module{cfg} }

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, subject, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: subject, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}
