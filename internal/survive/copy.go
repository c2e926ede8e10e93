package survive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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

// Fact types of offline copies. The subject is "people." and the person.
const (
	FactCopyMade      = "offline.made"      // a copy was made for a person
	FactCopyConfirmed = "offline.confirmed" // the person opened it: the code in it came back
	FactCopyRefused   = "offline.refused"   // a code that is not the one
	FactCopyEnded     = "offline.ended"     // it came back, was destroyed, or its person may not have it any more
)

// Codes of findings about offline copies.
const (
	codeCopyStale    = "HF-K4" // a person holds a copy of another plan, or none
	codeCopyLeft     = "HF-K5" // who may not have a copy has one
	codeCopyChanged  = "HF-K6" // what is sealed is not what was signed
	codeCopyUnsigned = "HF-K7" // no key that is held signed it
)

// States of what a person holds.
const (
	CopyCurrent = "current" // of the plan in force, opened by the person in time
	CopyStale   = "stale"   // of another plan, or opened too long ago
	CopyMade    = "made"    // there is one of the plan in force, and nobody has opened it
	CopyNone    = "none"    // there is none
	CopyLeft    = "left"    // the person has left, or is not of the plan any more: it must come back
)

// A Copy is one offline copy, as the facts tell of it.
type Copy struct {
	ID        string    `json:"copy"`
	Person    string    `json:"person"`
	Plan      string    `json:"plan_digest"`
	Version   string    `json:"version"`
	Made      time.Time `json:"made"`
	MadeBy    string    `json:"made_by"`
	Sealed    string    `json:"sealed"` // digest of what is sealed in the file
	Hash      string    `json:"code_hash"`
	Confirmed time.Time `json:"confirmed,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	Why       string    `json:"why,omitempty"` // it ended
}

// An Entitled is a person who may have an offline copy: with Every, who must open a new
// one that often.
type Entitled struct {
	Person string
	Every  time.Duration // how long a copy counts after it was opened
}

// A Held is what one person holds, judged by the plan in force.
type Held struct {
	Person    string    `json:"person"`
	State     string    `json:"state"`
	Holds     *Copy     `json:"holds,omitempty"`  // the newest that the person has opened
	Waits     *Copy     `json:"waits,omitempty"`  // a newer one that nobody has opened yet
	InForce   string    `json:"in_force"`         // digest of the plan
	Version   string    `json:"version_in_force"` // of the plan
	Until     time.Time `json:"until,omitzero"`   // when the copy stops to count by time alone
	Due       time.Time `json:"due,omitzero"`     // by when the person owes a new one
	Owner     string    `json:"owner"`            // who owes it
	Why       string    `json:"why,omitempty"`
	Confirmed time.Time `json:"confirmed,omitzero"`
}

type copyEnd struct {
	Copy string `json:"copy"`
	Why  string `json:"why"`
}

type copyWord struct {
	Copy string `json:"copy"`
	Plan string `json:"plan_digest,omitempty"`
	By   string `json:"by"`
	Why  string `json:"why,omitempty"`
}

// NewCopyID names a copy after its day.
func NewCopyID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return "oc-" + now.UTC().Format("20060102") + "-" + hex.EncodeToString(b[:])
}

// CopyCodeHash is what is kept of the code of a copy: 100 random bits need no salt.
// However the person types it, with small or capital letters, blanks or dashes, it is the
// same code.
func CopyCodeHash(code string) string {
	code = strings.Map(func(c rune) rune {
		if c == '-' || c == ' ' {
			return -1
		}
		return c
	}, strings.ToLower(code))
	return seal.TokenHash("offline copy " + code)
}

// RecordCopy writes down that a copy was made. The file is written by whoever asked, after
// this: a crash in between leaves a record of a copy that nobody can confirm, and the next
// one takes its place.
func (m *Module) RecordCopy(ctx context.Context, c Copy) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		return m.copyFact(ctx, tx, FactCopyMade, c.Person, c.MadeBy, c)
	})
}

func (m *Module) copyFact(ctx context.Context, tx *db.Tx, kind, person, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: "people." + person, Actor: actor, At: m.cfg.Clock().UTC(), Data: b})
	return err
}

// copies folds the facts: every copy, the oldest first.
func (m *Module) copies(ctx context.Context, tx *db.Tx) ([]Copy, error) {
	_, out, err := read[Copy](ctx, m, tx, FactCopyMade, "")
	if err != nil {
		return nil, err
	}
	slices.Reverse(out)
	find := func(id string) *Copy {
		if i := slices.IndexFunc(out, func(c Copy) bool { return c.ID == id }); i >= 0 {
			return &out[i]
		}
		return nil
	}
	facts, words, err := read[copyWord](ctx, m, tx, FactCopyConfirmed, "")
	if err != nil {
		return nil, err
	}
	for i, w := range words { // newest first: the first word is the last
		if c := find(w.Copy); c != nil && c.Confirmed.IsZero() {
			c.Confirmed = facts[i].At
		}
	}
	facts, ends, err := read[copyEnd](ctx, m, tx, FactCopyEnded, "")
	if err != nil {
		return nil, err
	}
	for i, e := range ends {
		if c := find(e.Copy); c != nil {
			c.Ended, c.Why = facts[i].At, e.Why
		}
	}
	return out, nil
}

// Copies returns every offline copy that was ever made, the oldest first.
func (m *Module) Copies(ctx context.Context) (cs []Copy, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		cs, err = m.copies(ctx, tx)
		return err
	})
	return cs, err
}

// ConfirmCopy records that a person opened their copy: only who has, knows its code. A
// code that is not the one, another person's, and one of a copy that has ended are
// refused, which is a fact. Confirming again is right, and renews it.
func (m *Module) ConfirmCopy(ctx context.Context, id, code, by string) (c Copy, err error) {
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		cs, err := m.copies(ctx, tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(cs, func(c Copy) bool { return c.ID == id })
		if i < 0 {
			return holdfast.WithHint(fmt.Errorf("offline copy %q was never made: %w", id, holdfast.ErrUsage), "the copy names itself on its first lines; \"holdfast offline list\" lists the newest")
		}
		c = cs[i]
		w := copyWord{Copy: id, Plan: c.Plan, By: by}
		switch {
		case c.Person != by:
			w.Why = fmt.Sprintf("it is %s's, and %s cannot hold it for them", c.Person, by)
		case !c.Ended.IsZero():
			w.Why = "it ended on " + c.Ended.UTC().Format(time.DateOnly) + ": " + c.Why
		case CopyCodeHash(code) != c.Hash:
			w.Why = "that is not its code"
		default:
			c.Confirmed = m.cfg.Clock().UTC()
			return m.copyFact(ctx, tx, FactCopyConfirmed, c.Person, by, w)
		}
		refused = holdfast.WithHint(fmt.Errorf("offline copy %s: %s: %w", id, w.Why, holdfast.ErrRefused), "open the copy that you hold, and give the code of its first lines")
		return m.copyFact(ctx, tx, FactCopyRefused, c.Person, by, w)
	})
	if err == nil {
		err = refused
	}
	return c, err
}

// EndCopy records a person's word that a copy came back or was destroyed. It is attested,
// never proved.
func (m *Module) EndCopy(ctx context.Context, id, by, why string) (c Copy, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		cs, err := m.copies(ctx, tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(cs, func(c Copy) bool { return c.ID == id })
		switch {
		case i < 0:
			return holdfast.WithHint(fmt.Errorf("offline copy %q was never made: %w", id, holdfast.ErrUsage), "\"holdfast offline list\" lists them")
		case !cs[i].Ended.IsZero():
			return holdfast.WithHint(fmt.Errorf("offline copy %q ended on %s: %w", id, cs[i].Ended.UTC().Format(time.DateOnly), holdfast.ErrRefused), "there is nothing left to do about it")
		}
		c = cs[i]
		c.Ended, c.Why = m.cfg.Clock().UTC(), why
		return m.copyFact(ctx, tx, FactCopyEnded, c.Person, by, copyEnd{id, why})
	})
	return c, err
}

// CopiesHeld says what each person holds, in the order of their names. People are those
// of the plan in force; left says who has left. Of whom no copy is asked is in the list if
// they have one; whoever has left, or is not of the plan any more, if their copies did not
// end. cs are all copies.
func (m *Module) CopiesHeld(cs []Copy, people []Entitled, left func(person string) bool, digest, version string) []Held {
	byPerson := map[string][]Copy{}
	for _, c := range cs {
		if c.Ended.IsZero() {
			byPerson[c.Person] = append(byPerson[c.Person], c)
		}
	}
	now := m.cfg.Clock()
	var out []Held
	for _, e := range people {
		if !left(e.Person) && (e.Every > 0 || len(byPerson[e.Person]) > 0) {
			out = append(out, held(e, byPerson[e.Person], digest, version, now))
			delete(byPerson, e.Person)
		}
	}
	for person, cs := range byPerson {
		newest := cs[len(cs)-1]
		for i := range cs {
			if !cs[i].Confirmed.IsZero() {
				newest = cs[i]
			}
		}
		out = append(out, Held{Person: person, State: CopyLeft, Holds: &newest, InForce: digest, Version: version, Confirmed: newest.Confirmed,
			Why: fmt.Sprintf("they have left, or are not of the plan any more, and %d did not come back", len(cs))})
	}
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.Person, b.Person) })
	return out
}

// held judges one person. cs are their copies that did not end, the oldest first.
func held(e Entitled, cs []Copy, digest, version string, now time.Time) Held {
	h := Held{Person: e.Person, Owner: e.Person, State: CopyNone, InForce: digest, Version: version}
	for i := range cs {
		c := &cs[i]
		if !c.Confirmed.IsZero() && (h.Holds == nil || c.Plan == digest || !c.Confirmed.Before(h.Holds.Confirmed) && h.Holds.Plan != digest) {
			h.Holds = c
		}
	}
	if last := len(cs) - 1; last >= 0 && cs[last].Confirmed.IsZero() {
		h.Waits = &cs[last]
	}
	waits := "nobody has opened the copy that was made"
	if h.Waits != nil && h.Waits.Plan != digest {
		waits = "the copy that was made is of another plan"
	}
	switch {
	case h.Holds == nil && h.Waits == nil:
		h.Why = "no copy was made"
	case h.Holds == nil:
		h.State, h.Why = CopyMade, waits
		if h.Waits.Plan != digest {
			h.State = CopyStale
		}
	default:
		h.Confirmed = h.Holds.Confirmed
		h.State = CopyCurrent
		if e.Every > 0 {
			h.Until = h.Confirmed.Add(e.Every)
		}
		if h.Holds.Plan != digest {
			h.State, h.Why = CopyStale, fmt.Sprintf("it is of version %s, and %s is in force", or(h.Holds.Version), or(version))
		} else if !h.Until.IsZero() && now.After(h.Until) {
			h.State, h.Why = CopyStale, "it was opened last on "+h.Confirmed.UTC().Format(time.DateOnly)
		}
	}
	return h
}

func or(version string) string {
	if version == "" {
		return "one without a number"
	}
	return version
}

// CopyFindings says who holds no copy of the plan in force, and whose must come back.
func CopyFindings(hs []Held) (out []holdfast.Finding) {
	for _, h := range hs {
		f := holdfast.Finding{Code: codeCopyStale, Severity: holdfast.SeverityWarning, Subject: "people." + h.Person}
		switch h.State {
		case CopyCurrent:
			continue
		case CopyLeft:
			f.Code, f.Severity = codeCopyLeft, holdfast.SeverityError
			f.Message = fmt.Sprintf("%s has an offline copy of the plan, %s, and may not: %s", h.Person, h.Holds.ID, h.Why)
			f.Hint = fmt.Sprintf("get it back or see it destroyed, and record it: \"holdfast offline end %s --by PERSON --how TEXT\"", h.Holds.ID)
		case CopyMade:
			f.Message = fmt.Sprintf("%s has not shown that the offline copy %s opens", h.Person, h.Waits.ID)
			f.Hint = fmt.Sprintf("%s opens it and gives the code of its first lines: \"holdfast offline confirm %s CODE --by %s\"", h.Person, h.Waits.ID, h.Person)
		default:
			f.Message = fmt.Sprintf("%s holds no offline copy of the plan in force: %s", h.Person, h.Why)
			f.Hint = fmt.Sprintf("\"holdfast offline make --person %s --new-passphrase FILE\" makes one", h.Person)
		}
		if !h.Due.IsZero() {
			f.Message += fmt.Sprintf("; %s owes it by %s", h.Owner, h.Due.UTC().Format(time.DateOnly))
		}
		out = append(out, f)
	}
	return out
}
