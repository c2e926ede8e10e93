// Package oncall calls people until one of them answers.
//
// A call is about one trouble. It goes to the first person of its ladder; who does not
// answer in time is followed by the next, and after the last the ladder begins again,
// [Rounds] times. An answer ("I see to it") ends that, and so does the end of the trouble,
// which is then told to everybody who was called. A notice is a call that asks for no
// answer: a reminder. It is told once.
//
// What happens together is told together. After a message to a person, what follows
// within a short time waits and goes into one message: two hundred failures are two mails,
// the first at once. At night only what is urgent is told.
//
// # Invariants
//
//   - A call keeps the ladder with which it was raised: a change of the plan changes
//     nothing in a call that runs.
//   - A trouble that is called for is not called for again while it lasts.
//   - That nobody answered is a state that is shown, and never an end in silence.
//   - After an outage of our own, nobody is skipped: the time of each person begins when
//     the message to them was written.
//   - Settling twice at the same instant writes nothing the second time.
//
// What it does not do: it does not carry messages (package message), and does not decide
// what is a trouble (package incident).
package oncall

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
	return db.Module{Name: "oncall", Migrations: sub}
}

// Fact types of this package. Their subject is "calls." and the name.
const (
	FactRaised     = "call.raised"
	FactTold       = "call.told"      // a person is being told
	FactEscalated  = "call.escalated" // nobody answered in time, and the next person follows
	FactAnswered   = "call.answered"
	FactOver       = "call.over"       // the trouble has ended
	FactUnanswered = "call.unanswered" // everybody was called, and nobody answered
)

// States of a call.
const (
	Open       = "open"       // people are being called
	Answered   = "answered"   // somebody sees to it
	Over       = "over"       // the trouble has ended
	Unanswered = "unanswered" // nobody is left to call, and the trouble lasts
	Told       = "told"       // a notice that went out
)

// Limits.
const (
	// Rounds is how often the whole ladder is called.
	Rounds = 3
	// MaxList bounds one List, MaxAtOnce what one look at the calls takes up.
	MaxList   = 1000
	MaxAtOnce = 10_000
	// MaxLadder is how many people one call goes to.
	MaxLadder = 20
	// UrgentGather is for how long urgent calls to one person are gathered at most.
	UrgentGather = time.Minute
)

// A Call is about one trouble.
type Call struct {
	ID       int64         `json:"id"`
	Key      string        `json:"key"`     // the same trouble has the same one
	Subject  string        `json:"subject"` // "incidents.INC-3"
	Title    string        `json:"title"`
	Detail   string        `json:"detail,omitempty"`
	Urgent   bool          `json:"urgent,omitempty"`
	Notice   bool          `json:"notice,omitempty"`
	Ladder   []string      `json:"ladder"`
	Within   time.Duration `json:"within"` // that each person has to answer
	State    string        `json:"state"`
	Step     int           `json:"step"`
	Round    int           `json:"round"`
	RaisedAt time.Time     `json:"raised_at"`
	ToldAt   time.Time     `json:"told_at,omitzero"` // the person of this step
	Told     []string      `json:"told,omitempty"`   // who was called until now
	By       string        `json:"by,omitempty"`     // who answered
	Note     string        `json:"note,omitempty"`   // what they said, or why it is over
	EndedAt  time.Time     `json:"ended_at,omitzero"`

	cause string   // of the message that told it last
	news  []string // who is still to be told that it is over
}

// Name is how people name the call.
func (c Call) Name() string { return fmt.Sprintf("CALL-%d", c.ID) }

// Now is who is being called, "" if nobody is.
func (c Call) Now() string {
	if c.State != Open || c.Step >= len(c.Ladder) {
		return ""
	}
	return c.Ladder[c.Step]
}

// Due is when the next person is called, if nobody answers; zero if nobody waits.
func (c Call) Due() time.Time {
	if c.State != Open || c.ToldAt.IsZero() || c.Notice {
		return time.Time{}
	}
	return c.ToldAt.Add(c.Within)
}

// A Draft is a message that the package wants written.
type Draft struct {
	Cause, Kind, Person string
	Urgent              bool
	Subject, Text       string
	Calls               []Call
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Config is what the package stands on. All fields but Link are required.
type Config struct {
	DB     *db.DB
	Ledger Ledger
	// Send writes a message to a person, Withdraw takes back what was not handed over.
	Send     func(ctx context.Context, tx *db.Tx, d Draft) error
	Withdraw func(ctx context.Context, tx *db.Tx, cause, person, why string) error
	// Gather is for how long after a message to a person others are gathered.
	Gather func() time.Duration
	// Quiet says until when a person is told only what is urgent; zero: not now.
	Quiet func(person string, now time.Time) time.Time
	// Link is the address of the page that answers by the secret of a link; "" where
	// people reach no page. Nil: no links.
	Link  func(secret string) string
	Clock func() time.Time
}

// A Module keeps the calls. Make it with New.
type Module struct{ cfg Config }

// New returns the module.
func New(cfg Config) *Module { return &Module{cfg} }

// ErrNotFound is a call that does not exist.
var ErrNotFound = errors.New("no such call")

// Raise calls for a trouble, in the caller's transaction. While one with the same key
// lasts, it does nothing. Nobody is told before the next [Module.Settle].
func (m *Module) Raise(ctx context.Context, tx *db.Tx, c Call) error {
	old, err := m.query(ctx, tx, "WHERE key = ? AND state IN ('open', 'answered', 'unanswered') LIMIT 1", c.Key)
	if err != nil || len(old) > 0 {
		return err
	}
	if len(c.Ladder) > MaxLadder {
		c.Ladder = c.Ladder[:MaxLadder]
	}
	c.RaisedAt, c.State = m.cfg.Clock(), Open
	if c.ID, err = m.insert(ctx, tx, c); err != nil {
		return err
	}
	if c.Notice {
		return nil // its cause is a fact already, and that it was told is one
	}
	return m.fact(ctx, tx, FactRaised, c, "holdfast")
}

// End ends the call for a trouble, if there is one.
func (m *Module) End(ctx context.Context, tx *db.Tx, key, why string) error {
	cs, err := m.query(ctx, tx, "WHERE key = ? AND state IN ('open', 'answered', 'unanswered')", key)
	if err != nil {
		return err
	}
	for _, c := range cs {
		was := c.State
		c.State, c.Note, c.EndedAt = Over, why, m.cfg.Clock()
		if !c.Notice {
			c.news = slices.Clone(c.Told)
		}
		if err := m.save(ctx, tx, c); err != nil {
			return err
		}
		if was == Open {
			if err := m.withdraw(ctx, tx, c, "the trouble is over"); err != nil {
				return err
			}
		}
		if err := m.fact(ctx, tx, FactOver, c, "holdfast"); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes back the message about a call, unless it is about others that last.
func (m *Module) withdraw(ctx context.Context, tx *db.Tx, c Call, why string) error {
	if c.cause == "" {
		return nil
	}
	others, err := m.query(ctx, tx, "WHERE cause = ? AND state = 'open' AND id <> ? LIMIT 1", c.cause, c.ID)
	if err != nil || len(others) > 0 {
		return err
	}
	return m.cfg.Withdraw(ctx, tx, c.cause, c.Ladder[min(c.Step, len(c.Ladder)-1)], why)
}

// Answer records that a person sees to it. It may be said twice; the first word stays.
func (m *Module) Answer(ctx context.Context, id int64, by, note string) (c Call, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if c, err = m.get(ctx, tx, id); err != nil || c.State == Answered {
			return err
		}
		if c.State != Open && c.State != Unanswered || c.Notice {
			return holdfast.WithHint(fmt.Errorf("%s asks for no answer: it is %s: %w", c.Name(), c.State, holdfast.ErrRefused), "\"holdfast oncall list\" lists the calls that do")
		}
		c.State, c.By, c.Note, c.EndedAt = Answered, by, note, m.cfg.Clock()
		if err := m.save(ctx, tx, c); err != nil {
			return err
		}
		if err := m.withdraw(ctx, tx, c, by+" sees to it"); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactAnswered, c, by)
	})
	return c, err
}

// Get returns one call.
func (m *Module) Get(ctx context.Context, id int64) (c Call, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		c, err = m.get(ctx, tx, id)
		return err
	})
	return c, err
}

// List returns calls, newest first; without all, only those that last.
func (m *Module) List(ctx context.Context, all bool) (out []Call, err error) {
	where := "WHERE state IN ('open', 'answered', 'unanswered') "
	if all {
		where = ""
	}
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out, err = m.query(ctx, tx, where+"ORDER BY id DESC LIMIT ?", MaxList)
		return err
	})
	return out, err
}

// A called is what the ledger says of a call.
type called struct {
	Key    string   `json:"key"`
	About  string   `json:"about"`
	Title  string   `json:"title"`
	State  string   `json:"state"`
	Urgent bool     `json:"urgent,omitempty"`
	Ladder []string `json:"ladder,omitempty"`
	Person string   `json:"person,omitempty"` // who is called now
	Round  int      `json:"round,omitempty"`
	By     string   `json:"by,omitempty"`
	Note   string   `json:"note,omitempty"`
}

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind string, c Call, actor string) error {
	b, err := json.Marshal(called{c.Key, c.Subject, c.Title, c.State, c.Urgent, c.Ladder, c.Now(), c.Round, c.By, c.Note})
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "calls." + c.Name(), Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// tell notes that a person is being told.
func (c *Call) tell(person string) {
	if !slices.Contains(c.Told, person) {
		c.Told = append(c.Told, person)
	}
}
