package survive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// KindAsk is the job that asks the holders of one key.
const KindAsk = "key.ask"

// Fact types of this package. The subject is "keys." and the key's name in the plan.
const (
	FactAsked    = "key.asked"
	FactAnswered = "key.answered"
	FactRefused  = "key.answer-refused"
	// FactRewrapped is about stores: keys of older objects were given to the keys in force.
	FactRewrapped = "key.rewrapped"
)

// DefaultWithin is how long a holder has to answer if the plan does not say.
const DefaultWithin = 7 * 24 * time.Hour

// MaxChallenges is how far back facts about keys are looked for.
const MaxChallenges = 10_000

// A Key is what the plan in force says about one read key.
type Key struct {
	ID        string
	Recipient string
	Seals     bool // new backups are sealed to it
	Offline   bool
	Needed    int // shares that bring it back; 0: it is not split
	Holders   []Holder
	Every     time.Duration // longest time between two challenges; 0: no schedule
	Within    time.Duration // time to answer

	// For the register of keys.
	Stored      string        // where the private half is kept, in words
	Created     time.Time     // zero: not said
	RotateEvery time.Duration // longest time in use; 0: no limit
}

// A Holder keeps a key or a share of it. The recipient is the share's own, or the key's.
type Holder struct {
	Name      string
	Recipient string
	Share     bool
}

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Config is what the module stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Jobs   *job.Engine
	Ledger Ledger
	Facts  *ledger.Log  // where they are read
	Keys   func() []Key // of the plan in force, in order
	Clock  func() time.Time
}

// A Module asks the holders of keys and remembers their answers. It has no tables: the
// facts are all that it knows.
type Module struct{ cfg Config }

// New registers the job handler. Nothing runs by itself.
func New(cfg Config) *Module {
	m := &Module{cfg}
	cfg.Jobs.Handle(KindAsk, m.askJob, job.HandlerOptions{Timeout: time.Minute, MaxAttempts: 20})
	return m
}

// AskArgs are the arguments of KindAsk.
type AskArgs struct {
	Key string `json:"key"`
}

// A Challenge asks one holder. It is public.
type Challenge struct {
	seal.Question
	Key       string    `json:"key"`
	Holder    string    `json:"holder,omitempty"`
	Share     bool      `json:"share,omitempty"` // the share is asked for, not the whole key
	Recipient string    `json:"recipient"`
	Asked     time.Time `json:"asked"`
	Due       time.Time `json:"due"`
}

// answerFact is an answer, right or refused.
type answerFact struct {
	Challenge string    `json:"challenge"`
	Key       string    `json:"key"`
	Holder    string    `json:"holder,omitempty"`
	Recipient string    `json:"recipient"`
	By        string    `json:"by"`
	Purpose   string    `json:"purpose"`
	Asked     time.Time `json:"asked"`
	Why       string    `json:"why,omitempty"`
}

// askJob asks every holder of a key who has no open challenge.
func (m *Module) askJob(ctx context.Context, w *job.Work) error {
	var a AskArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	k, err := m.key(a.Key)
	if err != nil {
		return job.Permanent(err)
	}
	// Killed before the commit, nobody was asked; after it, all were, once.
	return w.Done(ctx, nil, func(tx *db.Tx) error {
		_, err := m.ask(ctx, tx, k, "", false)
		return err
	})
}

func (m *Module) key(id string) (Key, error) {
	ks := m.cfg.Keys()
	var ids []string
	for _, k := range ks {
		if k.ID == id {
			return k, nil
		}
		ids = append(ids, k.ID)
	}
	return Key{}, holdfast.WithHint(fmt.Errorf("key %q is not in the plan: %w", id, holdfast.ErrUsage), "the plan's keys are %s", strings.Join(ids, ", "))
}

// Ask asks the holders of a key, or one of them, at once. A holder whose challenge is
// still open gets that one again.
func (m *Module) Ask(ctx context.Context, key, holder string) (cs []Challenge, err error) {
	k, err := m.key(key)
	if err != nil {
		return nil, err
	}
	if holder != "" && !slices.ContainsFunc(k.Holders, func(h Holder) bool { return h.Name == holder }) {
		return nil, holdfast.WithHint(fmt.Errorf("%q does not hold the key %q: %w", holder, key, holdfast.ErrUsage), "the plan's keys.%s names its holders", key)
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		cs, err = m.ask(ctx, tx, k, holder, true)
		return err
	})
	return cs, err
}

func (m *Module) ask(ctx context.Context, tx *db.Tx, k Key, only string, again bool) ([]Challenge, error) {
	now := m.cfg.Clock().UTC()
	open, err := m.open(ctx, tx, k.ID, now)
	if err != nil {
		return nil, err
	}
	var out []Challenge
	for _, h := range k.Holders {
		if only != "" && h.Name != only {
			continue
		}
		if i := slices.IndexFunc(open, func(c Challenge) bool { return c.Holder == h.Name && c.Recipient == h.Recipient }); i >= 0 {
			if again {
				out = append(out, open[i])
			}
			continue
		}
		to, err := seal.ParseRecipient(h.Recipient)
		if err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("key %q, holder %q: %w", k.ID, h.Name, err), "correct keys.%s of the plan", k.ID)
		}
		q, err := seal.Ask(newID(), to)
		if err != nil {
			return nil, err
		}
		within := k.Within
		if within <= 0 {
			within = DefaultWithin
		}
		c := Challenge{q, k.ID, h.Name, h.Share, h.Recipient, now, now.Add(within)}
		if err := m.fact(ctx, tx, FactAsked, k.ID, "holdfast", c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// newID names a challenge: short enough to be read out.
func newID() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return "c" + hex.EncodeToString(b[:])
}

func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, key, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "keys." + key, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// read returns the newest facts of a kind, newest first; of one key, or of all.
func read[T any](ctx context.Context, m *Module, tx *db.Tx, kind, key string) ([]ledger.Fact, []T, error) {
	q := ledger.Query{Type: kind, Newest: true, Limit: MaxChallenges}
	if key != "" {
		q.Subject = "keys." + key
	}
	fs, err := m.cfg.Facts.FindTx(ctx, tx, q)
	if err != nil {
		return nil, nil, err
	}
	out := make([]T, len(fs))
	for i, f := range fs {
		if err := json.Unmarshal(f.Data, &out[i]); err != nil {
			return nil, nil, fmt.Errorf("fact %d, %s: %w", f.Index, f.Type, err)
		}
	}
	return fs, out, nil
}

// open returns the challenges of a key that can still be answered.
func (m *Module) open(ctx context.Context, tx *db.Tx, key string, now time.Time) ([]Challenge, error) {
	_, asked, err := read[Challenge](ctx, m, tx, FactAsked, key)
	if err != nil {
		return nil, err
	}
	_, answered, err := read[answerFact](ctx, m, tx, FactAnswered, key)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(asked, func(c Challenge) bool {
		return now.After(c.Due) || slices.ContainsFunc(answered, func(a answerFact) bool { return a.Challenge == c.ID })
	}), nil
}

// Open returns all challenges that can still be answered, newest first.
func (m *Module) Open(ctx context.Context) (cs []Challenge, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		cs, err = m.open(ctx, tx, "", m.cfg.Clock())
		return err
	})
	return cs, err
}

// errWrong is an answer that was refused; the refusal is a fact.
var errWrong = errors.New("it is not the answer")

// Answer records the answer of a holder. A wrong one, one that comes too late and one
// to a challenge that is answered are refused, and each refusal is a fact. A mistyped
// one is an error that names the group, and no fact.
func (m *Module) Answer(ctx context.Context, id, answer, by string) (c Challenge, err error) {
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		_, asked, err := read[Challenge](ctx, m, tx, FactAsked, "")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(asked, func(c Challenge) bool { return c.ID == id })
		if i < 0 {
			return holdfast.WithHint(fmt.Errorf("challenge %q was never made: %w", id, holdfast.ErrUsage), "\"holdfast key challenge list\" shows those that are open")
		}
		c = asked[i]
		right, err := c.Right(answer)
		if err != nil {
			return holdfast.WithHint(fmt.Errorf("challenge %s: %w", id, err), "type the groups as \"holdfast key challenge answer\" printed them")
		}
		_, answered, err := read[answerFact](ctx, m, tx, FactAnswered, c.Key)
		if err != nil {
			return err
		}
		f := answerFact{Challenge: id, Key: c.Key, Holder: c.Holder, Recipient: c.Recipient, By: by, Purpose: "challenge", Asked: c.Asked}
		switch {
		case slices.ContainsFunc(answered, func(a answerFact) bool { return a.Challenge == id }):
			f.Why = "it is answered already"
		case m.cfg.Clock().After(c.Due):
			f.Why = "it was due on " + c.Due.UTC().Format(time.RFC3339)
		case !right:
			f.Why = errWrong.Error()
		default:
			return m.fact(ctx, tx, FactAnswered, c.Key, by, f)
		}
		refused = holdfast.WithHint(fmt.Errorf("challenge %s of key %q: %s: %w", id, c.Key, f.Why, holdfast.ErrRefused),
			"\"holdfast key challenge ask %s\" asks again", c.Key)
		return m.fact(ctx, tx, FactRefused, c.Key, by, f)
	})
	if err == nil {
		err = refused
	}
	return c, err
}
