package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Codes of what reading back finds.
const (
	CodeDamage  = "HF-V13" // an object is not what it was, or not there
	CodeForeign = "HF-V14" // something lies there that is no object of the repository
	CodeSealed  = "HF-V15" // an object is sealed to other keys than the plan of its time says
)

var (
	errForeign = errors.New("nobody sealed or signed it for this repository")
	errSealed  = errors.New("sealed to other keys than the plan says")
)

const (
	// sealSlack is how long after a change of the keys a writer may still use those
	// before: the longest run that a repository accepts.
	sealSlack = repo.MaxRun
	// anchorGroup is how much of an anchor's name makes a group: up to a thousand heads
	// of a ledger are read, and remembered, together.
	anchorGroup = len("anchors/ledger-") + 9
)

// isFinding reports whether an error is about the object, and not about the place.
func isFinding(err error) bool { return repo.IsDamage(err) || errors.Is(err, errSealed) }

// A sealing knows to which sets of keys objects were to be sealed: those of each plan
// that the vault has held.
//
// Recipients are what a writer wrote into the clear: a writer that lies about them is
// found only by who tries to open what it wrote: a drill does, with the runner's key.
type sealing struct {
	sets  map[string]time.Time // until when a set was to be used; zero: it still is
	since time.Time            // what was made before the first plan is not judged
	now   string               // in words
}

// sealing reads the plans that the vault has held. One that it did not sign, or that
// cannot be read any more, ends the judging: no set can be called wrong then.
func (m *Module) sealing(ctx context.Context) (s sealing, err error) {
	type row struct {
		source, proof string
		adopted       int64
	}
	var held []row
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		held = nil
		rows, err := tx.Query(ctx, `SELECT source, proof, adopted FROM vault_plans ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.source, &r.proof, &r.adopted); err != nil {
				return err
			}
			held = append(held, r)
		}
		return rows.Err()
	})
	if err != nil {
		return s, err
	}
	s.sets = map[string]time.Time{}
	for i, r := range held {
		sig, err := base64.StdEncoding.DecodeString(r.proof)
		if err != nil || m.cfg.Key.Public().Verify(domainPlan, []byte(r.source), sig) != nil {
			return sealing{}, nil // held says it aloud
		}
		p, err := plan.Parse(m.cfg.Plan().Dir()+"/plan.yaml", []byte(r.source))
		if err != nil {
			return sealing{}, nil
		}
		set, ok := setOf(p)
		if !ok {
			return sealing{}, nil
		}
		var until time.Time
		if i+1 < len(held) {
			until = db.Time(held[i+1].adopted)
		} else {
			s.now = set
		}
		s.sets[set] = until // a later plan has a later end
		if at := db.Time(r.adopted); s.since.IsZero() || at.Before(s.since) {
			s.since = at
		}
	}
	return s, nil
}

// setOf names the keys for which a plan encrypts, in one order.
func setOf(p *plan.Plan) (string, bool) {
	var to []string
	for _, text := range p.EncryptTo() {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			return "", false
		}
		to = append(to, r.Fingerprint())
	}
	return inOrder(to), len(to) > 0
}

func inOrder(to []string) string {
	to = slices.Clone(to)
	slices.Sort(to)
	return strings.Join(slices.Compact(to), " ")
}

// check says whether an object that was made at some time ought to be sealed to these
// keys. dated is false where only the set counts: a pack may be older than all that
// name it.
func (s sealing) check(to []string, made time.Time, dated bool) error {
	if s.now == "" || !made.IsZero() && made.Before(s.since.Add(-sealSlack)) {
		return nil
	}
	set := inOrder(to)
	until, known := s.sets[set]
	switch {
	case set == "":
		return fmt.Errorf("it is sealed to nobody that it names: %w, %s", errSealed, s.now)
	case !known:
		return fmt.Errorf("it is sealed to %s: %w, %s", set, errSealed, s.now)
	case dated && !until.IsZero() && made.After(until.Add(sealSlack)):
		return fmt.Errorf("it is sealed to %s, which ended on %s, and was made on %s: %w, %s", set, until.UTC().Format(time.DateOnly), made.UTC().Format(time.DateOnly), errSealed, s.now)
	}
	return nil
}

// others are targets for all that lies at a location and is not among targets yet:
// objects that nothing refers to, and what is no object at all. logs are the scopes whose
// log is among them.
func (m *Module) others(ctx context.Context, r *repo.Repository, s sealing, targets []*target, logs []string) (out []*target, err error) {
	have := make(map[string]bool, len(targets))
	for _, t := range targets {
		have[t.object] = true
	}
	groups := map[string]*target{}
	strays := 0
	err = r.All(ctx, func(o repo.Object) error {
		kind, rest, _ := strings.Cut(o.Name, "/")
		scope, _, _ := strings.Cut(rest, "/")
		if !slices.Contains(logs, scope) {
			scope = ""
		}
		if _, piece := repo.ParseLog(o); have[o.Name] || piece && scope != "" {
			return nil
		}
		if kind == "packs" || kind == "anchors" {
			scope = ""
		}
		look := func(ctx context.Context) (string, error) { return o.Name, m.inspect(ctx, r, s, o) }
		if kind != "anchors" {
			if strays++; strays > maxOthers {
				return nil
			}
			out = append(out, &target{object: o.Name, store: scope, size: o.Size, read: look})
			return nil
		}
		g := o.Name[:min(len(o.Name), anchorGroup)] + "*"
		t := groups[g]
		if t == nil {
			t = &target{object: g}
			groups[g] = t
			out = append(out, t)
			t.read = func(context.Context) (string, error) { return g, nil }
		}
		before := t.read
		t.size += o.Size
		t.read = func(ctx context.Context) (string, error) {
			if object, err := before(ctx); err != nil {
				return object, err
			}
			return look(ctx)
		}
		return nil
	})
	return out, err
}

// maxOthers bounds how many objects that nothing refers to are remembered of a location:
// whoever may write there must not fill the state.
const maxOthers = 100_000

// inspect reads one object that nothing refers to.
func (m *Module) inspect(ctx context.Context, r *repo.Repository, s sealing, o repo.Object) error {
	is, err := r.Inspect(ctx, o.Name, o.Size)
	switch {
	case err == nil && is.Sealed:
		return s.check(is.To, is.Made, !is.Made.IsZero())
	case err == nil, errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		return nil
	case repo.IsDamage(err) && !strings.HasPrefix(o.Name, "keys/"):
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	return err
}

// named completes a damage with its code and what to do.
func (d Damage) named() Damage {
	switch {
	case strings.Contains(d.Detail, errForeign.Error()):
		d.What, d.Code, d.Hint = "foreign", CodeForeign, "Holdfast did not write it: find out who did and who can read it there, and take it away by hand"
	case strings.Contains(d.Detail, errSealed.Error()):
		d.What, d.Code, d.Hint = "wrongly sealed", CodeSealed, "look for a writer with another plan (an agent's own), give it this one, and back up again; who holds those keys can read it"
	case strings.HasPrefix(d.Object, "keys/"):
		d.Code, d.Hint = CodeDamage, "\"holdfast key rotate --rewrap --apply\" writes the keys anew"
	default:
		d.Code, d.Hint = CodeDamage, "\"holdfast repair\" shows where it is whole"
	}
	return d
}
