package survive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// Facts of the register of keys.
const (
	FactRegistered = "key.registered" // what the plan in force says of a key, where it says something new
	FactDestroyed  = "key.destroyed"  // a person says that the private half is no more
)

// codeRotation is the finding that a key was to be replaced by now.
const codeRotation = "HF-K3"

// An Entry is what one plan says of a key.
type Entry struct {
	Key         string        `json:"key"`
	Recipient   string        `json:"recipient"`
	Fingerprint string        `json:"fingerprint"`
	Custodians  []string      `json:"custodians,omitempty"`
	Needed      int           `json:"needed,omitempty"` // shares that bring it back
	Stored      string        `json:"stored,omitempty"`
	Offline     bool          `json:"offline,omitempty"`
	Created     time.Time     `json:"created,omitzero"` // as the plan says
	RotateEvery time.Duration `json:"rotate_every_ns,omitempty"`
	Seals       bool          `json:"seals"`          // backups are made for it
	Gone        bool          `json:"gone,omitempty"` // it is not in the plan any more
}

// registered is the content of a fact.
type registered struct {
	Entry
	Events []string `json:"events"` // what is new: "created", "custodians", "storage", "in use", "retired", …
}

type destroyed struct {
	Key         string `json:"key"`
	Recipient   string `json:"recipient"`
	Fingerprint string `json:"fingerprint"`
	How         string `json:"how"`
}

// A Life is what the facts tell of one key pair, from the first plan that named it.
type Life struct {
	Entry
	State       string    `json:"state"` // registered, in use, retired, destroyed
	Registered  time.Time `json:"registered"`
	InUse       time.Time `json:"in_use,omitzero"`
	RotationDue time.Time `json:"rotation_due,omitzero"`
	Overdue     bool      `json:"overdue,omitempty"`
	Retired     time.Time `json:"retired,omitzero"`
	Destroyed   time.Time `json:"destroyed,omitzero"`
	// DestroyedBy is who says so, and How in which way: attested, never proved.
	DestroyedBy string `json:"destroyed_by,omitempty"`
	How         string `json:"how,omitempty"`
}

func entryOf(k Key) Entry {
	e := Entry{Key: k.ID, Recipient: k.Recipient, Needed: k.Needed, Stored: k.Stored, Offline: k.Offline, Created: k.Created, RotateEvery: k.RotateEvery, Seals: k.Seals}
	if to, err := seal.ParseRecipient(k.Recipient); err == nil {
		e.Fingerprint = to.Fingerprint()
	}
	for _, h := range k.Holders {
		if h.Name != "" && !slices.Contains(e.Custodians, h.Name) {
			e.Custodians = append(e.Custodians, h.Name)
		}
	}
	return e
}

// events says what is new in an entry.
func events(old Entry, known bool, now Entry) (out []string) {
	add := func(is bool, what string) {
		if is {
			out = append(out, what)
		}
	}
	add(!known || old.Recipient != now.Recipient, "created")
	add(known && old.Recipient != now.Recipient, "replaces "+old.Fingerprint)
	add(now.Seals && (!old.Seals || old.Recipient != now.Recipient), "in use")
	add(old.Seals && !now.Seals || !old.Gone && now.Gone, "retired")
	add(!slices.Equal(old.Custodians, now.Custodians) || old.Needed != now.Needed, "custodians")
	add(old.Stored != now.Stored || old.Offline != now.Offline, "storage")
	add(old.RotateEvery != now.RotateEvery || !old.Created.Equal(now.Created), "rotation")
	return out
}

// Register records what is new about the keys of the plan in force, in the caller's
// transaction. What is not new is recorded once.
func (m *Module) Register(ctx context.Context, tx *db.Tx) error {
	_, all, err := read[registered](ctx, m, tx, FactRegistered, "")
	if err != nil {
		return err
	}
	last := map[string]Entry{}
	for _, r := range slices.Backward(all) {
		last[r.Key] = r.Entry
	}
	var now []Entry
	for _, k := range m.cfg.Keys() {
		now = append(now, entryOf(k))
	}
	for id, e := range last {
		if !e.Gone && !slices.ContainsFunc(now, func(n Entry) bool { return n.Key == id }) {
			e.Gone, e.Seals = true, false
			now = append(now, e)
		}
	}
	slices.SortFunc(now, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	for _, e := range now {
		old, known := last[e.Key]
		if what := events(old, known, e); len(what) > 0 {
			if err := m.fact(ctx, tx, FactRegistered, e.Key, "holdfast", registered{e, what}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Lives tells the register: every key pair that a plan in force has named, by the name of
// the key and its first day.
func (m *Module) Lives(ctx context.Context) (out []Life, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		facts, all, err := read[registered](ctx, m, tx, FactRegistered, "")
		if err != nil {
			return err
		}
		ends, gone, err := read[destroyed](ctx, m, tx, FactDestroyed, "")
		if err != nil {
			return err
		}
		out = lives(facts, all)
		for i, d := range gone {
			for n := range out {
				if out[n].Recipient == d.Recipient {
					out[n].Destroyed, out[n].DestroyedBy, out[n].How = ends[i].At, ends[i].Actor, d.How
				}
			}
		}
		return nil
	})
	now := m.cfg.Clock()
	for i := range out {
		out[i].judge(now)
	}
	return out, err
}

// lives folds facts, newest first, into lives.
func lives(facts []ledger.Fact, all []registered) (out []Life) {
	at := func(e Entry) int {
		return slices.IndexFunc(out, func(l Life) bool { return l.Key == e.Key && l.Recipient == e.Recipient })
	}
	for i, r := range slices.Backward(all) {
		when := facts[i].At
		for n := range out { // another pair of that name is not used any more
			if l := &out[n]; l.Key == r.Key && l.Recipient != r.Recipient && l.Retired.IsZero() {
				l.Retired, l.Seals = when, false
			}
		}
		n := at(r.Entry)
		if n < 0 {
			out = append(out, Life{Registered: when})
			n = len(out) - 1
		}
		l := &out[n]
		l.Entry = r.Entry
		switch {
		case r.Seals:
			l.Retired = time.Time{}
			if l.InUse.IsZero() {
				l.InUse = when
			}
		case (r.Gone || !l.InUse.IsZero()) && l.Retired.IsZero():
			l.Retired = when
		}
	}
	slices.SortStableFunc(out, func(a, b Life) int {
		if a.Key != b.Key {
			return strings.Compare(a.Key, b.Key)
		}
		return a.Registered.Compare(b.Registered)
	})
	return out
}

// judge says where a key is in its life. A rotation counts from the day on which the plan
// says that the key was made, or else from its first use.
func (l *Life) judge(now time.Time) {
	switch {
	case !l.Destroyed.IsZero():
		l.State = "destroyed"
	case !l.Retired.IsZero():
		l.State = "retired"
	case !l.InUse.IsZero():
		l.State = "in use"
		if l.RotateEvery > 0 {
			from := l.InUse
			if !l.Created.IsZero() {
				from = l.Created
			}
			l.RotationDue = from.Add(l.RotateEvery)
			l.Overdue = now.After(l.RotationDue)
		}
	default:
		l.State = "registered"
	}
}

// RotationFindings says which keys were to be replaced by now.
func RotationFindings(ls []Life) (out []holdfast.Finding) {
	for _, l := range ls {
		if l.Overdue {
			out = append(out, holdfast.Finding{Code: codeRotation, Severity: holdfast.SeverityError, Subject: "keys." + l.Key,
				Message: fmt.Sprintf("the key %s, %s, was to be replaced by %s", l.Key, l.Fingerprint, l.RotationDue.UTC().Format(time.DateOnly)),
				Hint:    fmt.Sprintf("make a new one where it is kept (\"holdfast key create\"), then \"holdfast key rotate --replace %s=RECIPIENT\": docs/ops/keys.md", l.Key)})
		}
	}
	return out
}

// Destroy records that a person says that the private half of a key is no more. key is its
// name, of which the newest pair that is retired is meant, or a fingerprint. A key for which
// backups are made is refused.
func (m *Module) Destroy(ctx context.Context, key, by, how string) (Life, error) {
	ls, err := m.Lives(ctx)
	if err != nil {
		return Life{}, err
	}
	var found *Life
	for i := range ls {
		l := &ls[i]
		if l.Fingerprint == key || l.Key == key && (found == nil || l.State == "retired") {
			found = l
		}
	}
	switch {
	case found == nil:
		return Life{}, holdfast.WithHint(fmt.Errorf("no plan in force has named the key %q: %w", key, holdfast.ErrUsage), "\"holdfast key list --register\" lists all keys and their fingerprints")
	case found.State == "destroyed":
		return *found, holdfast.WithHint(fmt.Errorf("the key %s, %s, is recorded as destroyed already: %w", found.Key, found.Fingerprint, holdfast.ErrRefused), "\"holdfast key list --register\" says by whom")
	case found.Seals:
		return *found, holdfast.WithHint(fmt.Errorf("backups are made for the key %s, %s: %w", found.Key, found.Fingerprint, holdfast.ErrRefused), "replace it first: \"holdfast key rotate --replace %s=RECIPIENT\"", found.Key)
	}
	b, err := json.Marshal(destroyed{found.Key, found.Recipient, found.Fingerprint, how})
	if err != nil {
		return *found, err
	}
	found.Destroyed, found.DestroyedBy, found.How = m.cfg.Clock().UTC(), by, how
	found.judge(found.Destroyed)
	return *found, m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		_, err := m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: FactDestroyed, Subject: "keys." + found.Key, Actor: by, At: found.Destroyed, Data: b})
		return err
	})
}
