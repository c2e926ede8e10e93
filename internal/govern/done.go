package govern

import (
	"context"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// A Word is one person's part of a duty.
type Word struct {
	By        string    `json:"by"`
	Note      string    `json:"note,omitempty"` // what was found; also "no change" is something
	On        time.Time `json:"on,omitzero"`    // when it was done; zero: now
	Signature []byte    `json:"signature,omitempty"`
}

// backdate is how far back a duty may say that it was done: what was done in June may be
// recorded in July, and counts in June.
const backdate = 92 * 24 * time.Hour

// Text returns what a person signs for a duty.
func (m *Module) Text(ctx context.Context, id string, w Word) (string, error) {
	d, err := m.Get(ctx, id)
	if err != nil {
		return "", err
	}
	return d.Text(m.cfg.Plan().Repository.ID, w.By, w.Note, w.On), nil
}

// Done records one person's part of a duty, and closes it when all that it needs are
// there. Whatever is wrong with it is refused with the reason, and is a fact.
func (m *Module) Done(ctx context.Context, id string, w Word) (d Duty, err error) {
	var refused error
	var unmended error // asked before the transaction: the state is read by others, too
	if found, err := m.Get(ctx, id); err == nil && found.Kind == Failure {
		if err := m.Settle(ctx); err != nil { // what failed meanwhile belongs to it
			return d, err
		}
		if found, err = m.Get(ctx, id); err != nil {
			return d, err
		}
		unmended = m.mended(ctx, found, w.Note)
	}
	now := m.cfg.Clock().UTC().Truncate(time.Microsecond)
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		if d, err = m.find(ctx, tx, id); err != nil {
			return err
		}
		key, on, why := m.counts(d, w, now)
		if why == nil {
			why = unmended
		}
		if why != nil {
			refused = why
			return m.fact(ctx, tx, FactRefused, d.Subject, oneLine(w.By), map[string]any{"duty": d.ID, "error": holdfast.Sentence(why)})
		}
		d.Signatures = append(d.Signatures, Signature{By: w.By, At: now, On: on, Note: oneLine(w.Note), Key: key, Signature: string(w.Signature)})
		if err := m.fact(ctx, tx, FactSigned, d.Subject, w.By, map[string]any{"duty": d.ID, "key": key, "note": oneLine(w.Note), "on": on, "signature": string(w.Signature)}); err != nil {
			return err
		}
		who := signers(d.Signatures)
		if d.Outcome == "" && enough(m.cfg.Plan(), d.By, d.People, who) {
			d.Outcome, d.Closed, d.Proof = Done, now, "signed by "+list(who)
			for _, s := range d.Signatures {
				if s.On.After(d.DoneOn) {
					d.DoneOn = s.On
				}
			}
			if err := m.fact(ctx, tx, FactDone, d.Subject, w.By, map[string]any{"duty": d.ID, "by": who, "on": d.DoneOn, "due": d.Due, "items": d.Items}); err != nil {
				return err
			}
		}
		return m.save(ctx, tx, d)
	})
	if err == nil {
		err = refused
	}
	if err == nil && d.Outcome == Done {
		err = m.Settle(ctx) // the next one is written at once
	}
	d.State = d.StateAt(now)
	return d, err
}

// counts says why a person's word does not count; nil with the key that it is by and when
// it was done.
func (m *Module) counts(d Duty, w Word, now time.Time) (key string, on time.Time, why error) {
	p := m.cfg.Plan()
	if d.Outcome == Missed && d.Watch && len(d.Signatures) == 0 {
		key, why = m.account(d, w, now)
		return key, now, why
	}
	if d.Outcome != "" {
		return "", on, refuse("\"holdfast review list\" shows what is open", "%s is %s already", d.ID, d.Outcome)
	}
	if with := d.EndsWith(); with != "" {
		return "", on, refuse("\"holdfast review show "+d.Name+"\" says what to do; the list closes it by itself", "%s is closed by %s, not by a word", d.ID, with)
	}
	if on = w.On; on.IsZero() {
		on = now
	}
	switch {
	case on.After(now):
		return "", on, refuse("record it when it was done", "%s is in the future", on.Format(time.RFC3339))
	case now.Sub(on) > backdate:
		return "", on, refuse("do it again, and record that", "%s is longer ago than can be recorded (%s)", on.Format(time.DateOnly), holdfast.FormatDuration(backdate))
	case d.Event && on.Before(d.After):
		return "", on, refuse("look at it as it is now", "that was before %s, when it was asked for: %s", d.After.Format(time.RFC3339), d.Cause)
	}
	if !slices.ContainsFunc(d.By, func(r string) bool { return holds(p, r, w.By) }) {
		return "", on, refuse("who may: "+list(d.By), "%q is none of those who must: %s", w.By, list(d.By))
	}
	key, why = verify(p, w.By, d.Text(p.Repository.ID, w.By, w.Note, w.On), w.Signature, d.Keyed, d.Signatures)
	return key, on, why
}

// LastReviewed says when each duty whose name begins so was done last, by the rest of its
// name.
func (m *Module) LastReviewed(ctx context.Context, prefix string) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	for _, w := range wanted(m.cfg.Plan()) {
		id, ok := strings.CutPrefix(w.name, prefix)
		if !ok {
			continue
		}
		err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
			d, done, err := m.last(ctx, tx, w.name)
			if done {
				out[id] = d.DoneOn
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
