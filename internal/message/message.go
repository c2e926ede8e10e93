// Package message gets a message to a person, or to a receiver of events, and knows
// whether it arrived.
//
// Whoever causes a message writes it in the transaction of its cause ([Module.Send]). A
// job hands it to its channel, again and again until the other side has taken it, says
// that it never will, or [Patience] is over. Each attempt is a fact.
//
// # Promises
//
//   - A committed message is handed over at least once, or is shown as failed. Nothing
//     makes it vanish: not a crash between the two, not a mail server that is away.
//   - It has one id at all attempts, made of its cause and its receiver. The same cause
//     written twice is one message, and a receiver can tell a repetition by the id.
//   - A channel that refuses for good is followed at once by the next one of that person;
//     for an urgent message, a channel that only fails for now is, too.
//   - What is not needed any more and was not handed over is withdrawn, with the reason.
//
// # What it does not promise
//
// That somebody reads it: package oncall asks for an answer and calls the next person.
// And not once only: a crash after the other side took a message, and before that was
// written down, sends it again.
//
// Messages hold names and what is wrong, never a password; the ledger holds neither text
// nor address of a message.
package message

import (
	"context"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/notify"
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
	return db.Module{Name: "message", Migrations: sub}
}

// Fact types of this package. Their subject is "messages." and the id.
const (
	FactQueued    = "message.queued"
	FactAttempt   = "message.attempt" // one that failed for now, or whose end is unknown
	FactHanded    = "message.handed"  // the other side took it
	FactFailed    = "message.failed"  // it will not be tried again
	FactWithdrawn = "message.withdrawn"
	FactResent    = "message.resent" // a person asked for it to be sent again
)

// Prefix is what all of them begin with.
const Prefix = "message."

// States of a message. The last three are final, until a person sends it again.
const (
	Waiting   = "waiting"
	Handed    = "handed"
	Failed    = "failed"
	Withdrawn = "withdrawn"
)

// Limits.
const (
	// Patience is how long a message is tried: over a weekend with a public holiday.
	Patience = 4 * 24 * time.Hour
	// MaxList bounds one List.
	MaxList = 1000
	// slowest is the longest wait between two attempts.
	slowest = 15 * time.Minute
	// attemptWithin bounds one attempt, above what each channel allows itself.
	attemptWithin = 3 * time.Minute
)

// Job is the kind of the job that makes an attempt.
const Job = "message.send"

// A Message is one message on one channel.
type Message struct {
	ID        string          `json:"id"`
	Cause     string          `json:"cause"`
	Kind      string          `json:"kind"`
	Person    string          `json:"person,omitempty"`
	Channel   string          `json:"channel"`
	Otherwise []string        `json:"otherwise,omitempty"` // channels that are left
	Urgent    bool            `json:"urgent,omitempty"`
	Subject   string          `json:"subject"`
	Text      string          `json:"text,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	State     string          `json:"state"`
	Tries     int             `json:"tries"`
	Said      string          `json:"said,omitempty"` // by the other side, or the error, at the last attempt
	Created   time.Time       `json:"created"`
	Until     time.Time       `json:"until"` // nobody goes on trying after this
	Tried     time.Time       `json:"tried,omitzero"`
	Settled   time.Time       `json:"settled,omitzero"`
}

// A Draft is a message to be sent.
type Draft struct {
	// Cause names why, so that the same cause to the same receiver is one message.
	Cause    string
	Kind     string
	Person   string   // "" if the channel is the receiver
	Channels []string // the first is tried first
	Urgent   bool
	Subject  string
	Text     string
	Data     any // for machines, as JSON
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Config is what the package stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Jobs   *job.Engine
	Ledger Ledger
	// Channel opens a channel of the plan in force. An error is one of the channel, and
	// the message waits until it is mended.
	Channel func(name string) (Channel, error)
	// Receiver says by which address a channel reaches a person, and how the person is
	// called.
	Receiver func(person, channel string) (address, name string, err error)
	Clock    func() time.Time
}

// A Channel makes one attempt: see package notify. It may be called concurrently.
type Channel interface {
	Send(ctx context.Context, m notify.Message) (said string, err error)
}

// A Module keeps the messages. Make it with New.
type Module struct{ cfg Config }

// New returns the module and takes the jobs of its kind.
func New(cfg Config) *Module {
	m := &Module{cfg}
	// The module itself ends a message, by its age: a number of attempts says nothing
	// while the server is away.
	cfg.Jobs.Handle(Job, m.attempt, job.HandlerOptions{Timeout: attemptWithin, MaxAttempts: 1 << 20, Backoff: backoff})
	return m
}

// backoff waits 10 s, 20 s, 40 s … A greylist lets through what comes again after one to
// five minutes, and whoever is called should not wait much longer.
func backoff(attempt int) time.Duration {
	d := 10 * time.Second
	for i := 1; i < attempt && d < slowest; i++ {
		d *= 2
	}
	return min(d, slowest)
}

// ErrNotFound is a message that does not exist.
var ErrNotFound = errors.New("no such message")

// id names a message on a channel.
func id(cause, person, channel string) string {
	h := seal.Hash([]byte("holdfast message\x00" + cause + "\x00" + person + "\x00" + channel))
	return "m-" + hex.EncodeToString(h[:12])
}

// Send writes a message in the caller's transaction, on the first of its channels, and
// returns its id. A message that is there already is left as it is.
//
// Before the commit nobody sees it; a crash there leaves neither the message nor its
// cause.
func (m *Module) Send(ctx context.Context, tx *db.Tx, d Draft) (string, error) {
	if d.Cause == "" || d.Kind == "" {
		return "", fmt.Errorf("a message without its cause and its kind: %w", holdfast.ErrUsage)
	}
	if len(d.Channels) == 0 {
		return "", holdfast.WithHint(fmt.Errorf("a message has no channel: %w", holdfast.ErrUsage), "declare one under \"messages\" of the plan")
	}
	data, err := json.Marshal(d.Data)
	if err != nil {
		return "", err
	}
	if d.Data == nil {
		data = nil
	}
	if len(data) > notify.MaxData {
		data = nil // the text still says it
	}
	now := m.cfg.Clock()
	x := Message{ID: id(d.Cause, d.Person, d.Channels[0]), Cause: d.Cause, Kind: d.Kind, Person: d.Person, Channel: d.Channels[0], Otherwise: d.Channels[1:], Urgent: d.Urgent,
		Subject: notify.Line(d.Subject, notify.MaxSubject), Text: notify.Cut(d.Text, notify.MaxText), Data: data, State: Waiting, Created: now, Until: now.Add(Patience)}
	return x.ID, m.enqueue(ctx, tx, x)
}

// enqueue writes the message, its job and its fact, unless it is there.
func (m *Module) enqueue(ctx context.Context, tx *db.Tx, x Message) error {
	added, err := m.insert(ctx, tx, x)
	if err != nil || !added {
		return err
	}
	if err := m.schedule(ctx, tx, x); err != nil {
		return err
	}
	return m.fact(ctx, tx, FactQueued, x, "holdfast", "")
}

func (m *Module) schedule(ctx context.Context, tx *db.Tx, x Message) error {
	in := job.Insert{Kind: Job, Key: x.ID, Args: args{x.ID}, Queue: Job}
	if x.Urgent {
		in.Priority = 1
	}
	_, err := m.cfg.Jobs.Enqueue(ctx, tx, in)
	return err
}

// A told is what the ledger says of a message.
type told struct {
	Cause   string `json:"cause"`
	Kind    string `json:"kind"`
	Person  string `json:"person,omitempty"`
	Channel string `json:"channel"`
	Urgent  bool   `json:"urgent,omitempty"`
	Try     int    `json:"try,omitempty"`
	Said    string `json:"said,omitempty"`
}

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind string, x Message, actor, said string) error {
	b, err := json.Marshal(told{x.Cause, x.Kind, x.Person, x.Channel, x.Urgent, x.Tries, said})
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "messages." + x.ID, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// Withdraw takes back what was not handed over of a message and of those that followed it
// on other channels. An attempt that runs at this moment may still hand it over; then it
// was handed.
func (m *Module) Withdraw(ctx context.Context, tx *db.Tx, cause, person, why string) error {
	xs, err := m.query(ctx, tx, "WHERE cause = ? AND person = ? AND state = 'waiting'", cause, person)
	if err != nil {
		return err
	}
	for _, x := range xs {
		if err := m.end(ctx, tx, &x, Withdrawn, FactWithdrawn, why); err != nil {
			return err
		}
	}
	return nil
}

// Resend sends a message that has ended once more, with the same id: what a receiver
// lost, or what failed before its channel was mended.
func (m *Module) Resend(ctx context.Context, id, by string) (x Message, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if x, err = m.get(ctx, tx, id); err != nil {
			return err
		}
		if x.State == Waiting {
			return holdfast.WithHint(fmt.Errorf("%s waits to be sent anyway: %w", id, holdfast.ErrRefused), "\"holdfast message show %s\" says how far it is", id)
		}
		x.State, x.Until, x.Settled, x.Otherwise = Waiting, m.cfg.Clock().Add(Patience), time.Time{}, nil
		if err := m.save(ctx, tx, x); err != nil {
			return err
		}
		if err := m.schedule(ctx, tx, x); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactResent, x, by, "")
	})
	return x, err
}

// Get returns one message.
func (m *Module) Get(ctx context.Context, id string) (x Message, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		x, err = m.get(ctx, tx, id)
		return err
	})
	return x, err
}

// List returns messages, newest first, without their text; of one state, or of all for "".
func (m *Module) List(ctx context.Context, state string) (out []Message, err error) {
	switch state {
	case "", Waiting, Handed, Failed, Withdrawn:
	default:
		return nil, holdfast.WithHint(fmt.Errorf("a message is never %q: %w", state, holdfast.ErrUsage), "the states are waiting, handed, failed, withdrawn")
	}
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out, err = m.query(ctx, tx, "WHERE state = ? OR ? = '' ORDER BY created_at DESC, id LIMIT ?", state, state, MaxList)
		return err
	})
	for i := range out {
		out[i].Text, out[i].Data = "", nil
	}
	return out, err
}

// Prune deletes messages that ended before an instant, with their text, and returns how
// many. The ledger keeps what became of them.
func (m *Module) Prune(ctx context.Context, before time.Time) (n int64, err error) {
	err = m.cfg.DB.TxReadCommitted(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM message_messages WHERE state <> 'waiting' AND settled_at < ?", before)
		return err
	})
	return n, err
}

// A Count is how messages stand.
type Count struct {
	Waiting int       // and not handed over yet
	Oldest  time.Time // of those; zero if there are none
	Urgent  time.Time // the oldest of those that are urgent and reached nobody on another channel
	Failed  int       // since the given instant, where no other channel took the same for that person
	Lost    int       // of those, urgent ones
}

// Counts says how messages stand, with those that failed since an instant.
func (m *Module) Counts(ctx context.Context, since time.Time) (c Count, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		var oldest, urgent int64
		if err := tx.QueryRow(ctx, "SELECT COUNT(*), COALESCE(MIN(created_at), 0) FROM message_messages WHERE state = 'waiting'").Scan(&c.Waiting, &oldest); err != nil {
			return err
		}
		// One that another channel took has reached its person.
		if err := tx.QueryRow(ctx, "SELECT COALESCE(MIN(created_at), 0) FROM message_messages m WHERE state = 'waiting' AND urgent = 1 "+
			"AND NOT EXISTS (SELECT 1 FROM message_messages o WHERE o.cause = m.cause AND o.person = m.person AND o.state = 'handed')").Scan(&urgent); err != nil {
			return err
		}
		c.Oldest, c.Urgent = db.Time(oldest), db.Time(urgent)
		return tx.QueryRow(ctx, "SELECT COUNT(*), COALESCE(SUM(urgent), 0) FROM message_messages m WHERE state = 'failed' AND settled_at >= ? "+
			"AND NOT EXISTS (SELECT 1 FROM message_messages o WHERE o.cause = m.cause AND o.person = m.person AND o.state = 'handed')", since).Scan(&c.Failed, &c.Lost)
	})
	return c, err
}
